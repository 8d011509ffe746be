//! The table against a slow model of single neighbours, and its bounds under more neighbours than it holds.

use super::*;
use crate::testing::VecFrame;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, VecDeque};

const PORT: PortId = PortId(3);
const MAC_A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const MAC_B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

fn address(last: u8) -> Addr {
    Addr::v4([10, 0, 0, last])
}

fn frame(mark: u32) -> VecFrame {
    let mut frame = VecFrame::new(&[]);
    frame.set_mark(mark);
    frame
}

fn table(entries: usize, waiting: usize, waiting_each: usize) -> Neighbors<VecFrame> {
    Neighbors::new(NeighborLimits { entries, waiting, waiting_each }, [7; 16])
}

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// What came out of the table, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Asked(u128, Option<[u8; 6]>),
    Expired(u128, u32),
    Resolved(NonZeroU32),
}

fn advance(table: &mut Neighbors<VecFrame>, now: Time) -> Vec<Seen> {
    let mut budget = usize::MAX;
    let mut seen = Vec::new();
    while let Some(action) = table.advance(now, &mut budget) {
        seen.push(match action {
            NeighborAction::Solicit { address, known_mac, .. } => {
                Seen::Asked(address.bits(), known_mac.map(|m| m.0))
            }
            NeighborAction::Expired { address, frame, .. } => Seen::Expired(address.bits(), frame.mark()),
            NeighborAction::Resolved(id) => Seen::Resolved(id.to_bits()),
        });
    }
    seen
}

const REPLY: Learning = Learning::Advertisement { solicited: true, overrides: true };
const ASKED_EVERYBODY: Option<[u8; 6]> = None;

#[test]
fn asks_three_times_then_gives_frames_back_and_remembers_the_failure() {
    let mut table = table(8, 8, 8);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    table.hold(id, frame(1), at(0)).unwrap();
    for ms in [0, 1000, 2000] {
        assert_eq!(table.next_timer(), Some(at(ms)));
        assert_eq!(advance(&mut table, at(ms)), [Seen::Asked(address(1).bits(), ASKED_EVERYBODY)]);
        assert_eq!(advance(&mut table, at(ms + 999)), []);
        assert!(!table.is_failed(id, at(ms)));
    }
    assert_eq!(advance(&mut table, at(3000)), [Seen::Expired(address(1).bits(), 1)]);
    assert!(table.is_failed(id, at(5999)));
    assert!(!table.is_failed(id, at(6000)));
    assert!(table.hold(id, frame(2), at(5999)).is_err());
    assert_eq!(table.find_or_create(PORT, address(1), at(5999)), Some(id));
    assert_eq!(advance(&mut table, at(5999)), []);
    assert_eq!(advance(&mut table, at(6000)), []);
    assert!(table.is_empty() && table.next_timer().is_none());
    assert!(!table.is_current(id));
}

#[test]
fn a_failure_that_is_over_is_asked_about_anew_before_the_timer_runs() {
    let mut table = table(8, 8, 8);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    for ms in [0, 1000, 2000, 3000] {
        advance(&mut table, at(ms));
    }
    assert!(table.is_failed(id, at(3000)));
    table.hold(id, frame(1), at(6000)).unwrap();
    assert_eq!(advance(&mut table, at(6000)), [Seen::Asked(address(1).bits(), ASKED_EVERYBODY)]);
}

#[test]
fn frames_not_yet_given_back_wait_on_when_the_neighbour_is_asked_for_again() {
    let mut table = table(8, 8, 8);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    for mark in 1..=2 {
        table.hold(id, frame(mark), at(0)).unwrap();
    }
    for ms in [0, 1000, 2000] {
        advance(&mut table, at(ms));
    }
    // One step to fail, one for the first frame.
    let mut budget = 2;
    let expired = table.advance(at(3000), &mut budget);
    assert!(matches!(expired, Some(NeighborAction::Expired { frame, .. }) if frame.mark() == 1));
    assert!(table.advance(at(3000), &mut budget).is_none());
    table.hold(id, frame(3), at(6000)).unwrap();
    assert_eq!(advance(&mut table, at(6000)), [Seen::Asked(address(1).bits(), ASKED_EVERYBODY)]);
    table.learn(PORT, address(1), Some(MAC_A), REPLY, at(6001)).unwrap();
    let marks: Vec<u32> = core::iter::from_fn(|| table.pop_waiting(id)).map(|frame| frame.mark()).collect();
    assert_eq!(marks, [2, 3]);
}

#[test]
fn a_reply_releases_what_waited_in_order() {
    let mut table = table(8, 8, 3);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    for mark in 1..=3 {
        table.hold(id, frame(mark), at(0)).unwrap();
    }
    assert_eq!(table.hold(id, frame(4), at(0)).unwrap_err().mark(), 4);
    assert_eq!(table.mac(id), None);
    assert!(table.pop_waiting(id).is_none());
    advance(&mut table, at(0));
    assert_eq!(table.learn(PORT, address(1), Some(MAC_A), REPLY, at(1)), Some(id));
    assert_eq!((table.mac(id), table.port(id)), (Some(MAC_A), Some(PORT)));
    let marks: Vec<u32> = core::iter::from_fn(|| table.pop_waiting(id)).map(|frame| frame.mark()).collect();
    assert_eq!(marks, [1, 2, 3]);
    assert!(table.hold(id, frame(5), at(2)).is_err());
}

#[test]
fn a_neighbour_in_use_is_probed_and_one_that_is_not_is_forgotten() {
    let mut table = table(8, 8, 8);
    for last in [1, 2] {
        table.find_or_create(PORT, address(last), at(0)).unwrap();
    }
    advance(&mut table, at(0));
    let ids = [1, 2].map(|last| table.learn(PORT, address(last), Some(MAC_A), REPLY, at(0)).unwrap());
    assert_eq!(table.mac(ids[0]), Some(MAC_A));
    assert_eq!(advance(&mut table, at(29_999)), []);
    let probe = [Seen::Asked(address(1).bits(), Some(MAC_A.0))];
    assert_eq!(advance(&mut table, at(30_000)), probe);
    assert_eq!(table.learn(PORT, address(1), Some(MAC_A), REPLY, at(30_001)), Some(ids[0]));
    assert_eq!(advance(&mut table, at(31_000)), []);
    assert!(table.is_current(ids[1]));
    advance(&mut table, at(60_000));
    assert!(table.is_current(ids[0]) && !table.is_current(ids[1]));
}

#[test]
fn a_probe_without_an_answer_becomes_a_question_to_everybody() {
    let mut table = table(8, 8, 8);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    advance(&mut table, at(0));
    table.learn(PORT, address(1), Some(MAC_A), REPLY, at(0));
    let probe = [Seen::Asked(address(1).bits(), Some(MAC_A.0))];
    for ms in [30_000, 31_000, 32_000] {
        assert_eq!(table.mac(id), Some(MAC_A));
        assert_eq!(advance(&mut table, at(ms)), probe);
    }
    assert_eq!(advance(&mut table, at(33_000)), [Seen::Asked(address(1).bits(), ASKED_EVERYBODY)]);
    assert_eq!(table.mac(id), None);
    table.hold(id, frame(1), at(33_001)).unwrap();
}

#[test]
fn only_a_request_that_may_makes_an_entry() {
    let mut table = table(8, 8, 8);
    let may_not = Learning::Request { may_create: false };
    for how in [may_not, REPLY, Learning::Advertisement { solicited: false, overrides: true }] {
        assert_eq!(table.learn(PORT, address(1), Some(MAC_A), how, at(0)), None);
        assert!(table.is_empty());
    }
    let may = Learning::Request { may_create: true };
    assert_eq!(table.learn(PORT, address(1), None, may, at(0)), None);
    assert!(table.is_empty());
    let id = table.learn(PORT, address(1), Some(MAC_A), may, at(0)).unwrap();
    assert_eq!(table.mac(id), Some(MAC_A));
    assert_eq!(table.learn(PortId(4), address(1), Some(MAC_B), may_not, at(0)), None);
    assert_eq!(table.learn(PORT, address(1), Some(MAC_B), may_not, at(0)), Some(id));
    assert_eq!(table.mac(id), Some(MAC_B));
    // Heard, never confirmed: probed soon when in use.
    assert_eq!(advance(&mut table, at(5000)), [Seen::Asked(address(1).bits(), Some(MAC_B.0))]);
}

/// RFC 4861, 7.2.5 and appendix C, line by line.
#[test]
fn advertisements_count_as_their_flags_say() {
    let advertisement = |solicited, overrides| Learning::Advertisement { solicited, overrides };
    let confirmed = || {
        let mut table = table(8, 8, 8);
        let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
        advance(&mut table, at(0));
        table.learn(PORT, address(1), Some(MAC_A), REPLY, at(0));
        (table, id)
    };
    for (mac, solicited, overrides, counts, after, state) in [
        (Some(MAC_B), false, false, false, MAC_A, State::Heard),
        (Some(MAC_B), true, false, false, MAC_A, State::Heard),
        (Some(MAC_B), false, true, true, MAC_B, State::Heard),
        // Solicited, says who nobody solicited.
        (Some(MAC_B), true, true, true, MAC_B, State::Heard),
        (Some(MAC_A), false, false, true, MAC_A, State::Confirmed),
        (Some(MAC_A), true, true, true, MAC_A, State::Confirmed),
        (None, true, true, true, MAC_A, State::Confirmed),
        (None, false, false, true, MAC_A, State::Confirmed),
    ] {
        let (mut table, id) = confirmed();
        let learned = table.learn(PORT, address(1), mac, advertisement(solicited, overrides), at(10));
        let case = format!("{mac:?} {solicited} {overrides}");
        assert_eq!(learned.is_some(), counts, "{case}");
        assert_eq!(table.mac(id), Some(after), "{case}");
        assert_eq!(table.timers.state(id.index()), state, "{case}");
    }
    // Asked for, without an answer yet: the first address is taken whatever the flags, and no address is none.
    for (mac, solicited, state) in [
        (None, true, State::Asking),
        (Some(MAC_B), false, State::Heard),
        (Some(MAC_B), true, State::Confirmed),
    ] {
        let mut table = table(8, 8, 8);
        let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
        advance(&mut table, at(0));
        table.learn(PORT, address(1), mac, advertisement(solicited, false), at(1));
        assert_eq!((table.mac(id), table.timers.state(id.index())), (mac, state));
    }
}

#[test]
fn static_neighbours_are_not_overridden_nor_forgotten() {
    let mut table = table(8, 8, 8);
    table.set_static(&[(PORT, address(1), MAC_A)]);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    for how in [REPLY, Learning::Request { may_create: true }] {
        assert_eq!(table.learn(PORT, address(1), Some(MAC_B), how, at(0)), None);
    }
    assert_eq!(advance(&mut table, at(1_000_000)), []);
    assert_eq!(table.mac(id), Some(MAC_A));
    table.set_static(&[(PORT, address(2), MAC_B), (PORT, address(1), MAC_B)]);
    assert_eq!(table.mac(id), Some(MAC_B));
    table.set_static(&[(PORT, address(2), MAC_B)]);
    assert_eq!((table.mac(id), table.len()), (None, 1));
}

#[test]
fn what_waits_for_a_neighbour_that_becomes_static_is_released() {
    let mut table = table(8, 8, 8);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    table.hold(id, frame(1), at(0)).unwrap();
    advance(&mut table, at(0));
    table.set_static(&[(PORT, address(1), MAC_A)]);
    table.set_static(&[(PORT, address(1), MAC_A)]);
    assert_eq!(advance(&mut table, at(1)), [Seen::Resolved(id.to_bits())]);
    assert_eq!(table.pop_waiting(id).map(|frame| frame.mark()), Some(1));
    assert_eq!(advance(&mut table, at(1_000_000)), []);
}

#[test]
fn asking_for_nobody_takes_half_the_table_and_displaces_no_known_neighbour() {
    let mut table = table(8, 8, 8);
    let may = Learning::Request { may_create: true };
    for last in 0..4 {
        table.learn(PORT, address(last), Some(MAC_A), may, at(0)).unwrap();
    }
    let made = (10..200).filter(|&last| table.find_or_create(PORT, address(last), at(0)).is_some()).count();
    assert_eq!((made, table.len()), (4, 8));
    let mut budget = 3;
    while table.advance(at(0), &mut budget).is_some() {}
    assert_eq!(budget, 0);
    for ms in [0, 1000, 2000, 3000] {
        advance(&mut table, at(ms));
    }
    // Those that failed make room for the next question.
    assert!(table.find_or_create(PORT, address(200), at(3000)).is_some());
    assert!((0..4).all(|last| table.find(PORT, address(last)).is_some()));
}

#[test]
fn the_longest_unused_neighbour_makes_room() {
    let mut table = table(4, 8, 8);
    let may = Learning::Request { may_create: true };
    let ids: Vec<_> =
        (0..4).map(|last| table.learn(PORT, address(last), Some(MAC_A), may, at(0)).unwrap()).collect();
    assert!(table.mac(ids[0]).is_some());
    table.learn(PORT, address(9), Some(MAC_A), may, at(1)).unwrap();
    let left: Vec<bool> = ids.iter().map(|&id| table.is_current(id)).collect();
    assert_eq!(left, [true, false, true, true]);
}

#[test]
fn an_identifier_can_be_kept_as_a_number() {
    let mut table = table(8, 8, 8);
    let id = table.find_or_create(PORT, address(1), at(0)).unwrap();
    assert_eq!(NeighborId::from_bits(id.to_bits()), id);
    // Whatever bits a record holds, they name nobody or an entry.
    assert_eq!(table.mac(NeighborId::from_bits(NonZeroU32::MAX)), None);
    assert_eq!(table.port(NeighborId::from_bits(NonZeroU32::MIN)), None);
}

/// One neighbour, in the words of the RFC and without any table.
#[derive(Debug)]
struct Model {
    state: State,
    deadline: u64,
    mac: Option<Mac>,
    questions: u8,
    used: bool,
    frames: VecDeque<u32>,
}

impl Model {
    fn new(now: u64) -> Self {
        Self {
            state: State::Due,
            deadline: now,
            mac: None,
            questions: 0,
            used: false,
            frames: VecDeque::new(),
        }
    }

    fn enter(&mut self, state: State, now: u64, ms: u64) {
        self.state = state;
        self.deadline = now + ms;
    }

    fn ask(&mut self, now: u64) {
        self.questions = 0;
        self.enter(State::Due, now, 0);
    }

    /// Everything that is due; `false` when the neighbour is forgotten.
    fn advance(&mut self, address: Addr, now: u64, seen: &mut Vec<Seen>) -> bool {
        while self.deadline <= now {
            let used = core::mem::take(&mut self.used);
            match self.state {
                State::Due | State::Asking | State::Probing if self.questions < 3 => {
                    self.questions += 1;
                    seen.push(Seen::Asked(address.bits(), self.mac.map(|mac| mac.0)));
                    let state = if self.mac.is_some() { State::Probing } else { State::Asking };
                    self.enter(state, now, 1000);
                }
                State::Due | State::Asking | State::Probing => match self.mac.take() {
                    Some(_) => self.ask(now),
                    None => {
                        self.enter(State::Failed, now, 3000);
                        seen.extend(self.frames.drain(..).map(|mark| Seen::Expired(address.bits(), mark)));
                    }
                },
                State::Heard | State::Confirmed | State::Idle if used => self.ask(now),
                State::Heard | State::Confirmed => self.enter(State::Idle, now, 30_000),
                _ => return false,
            }
        }
        true
    }

    fn learn(&mut self, mac: Option<Mac>, how: Learning, now: u64) -> bool {
        match (how, mac) {
            (Learning::Request { .. }, Some(mac)) if self.mac != Some(mac) => {
                self.mac = Some(mac);
                self.enter(State::Heard, now, 5000);
            }
            (Learning::Request { .. }, _) => {}
            (Learning::Advertisement { overrides: false, .. }, Some(mac))
                if self.mac.is_some_and(|known| known != mac) =>
            {
                if self.state == State::Confirmed {
                    self.enter(State::Heard, now, 5000);
                }
                return false;
            }
            (Learning::Advertisement { solicited, .. }, _) => {
                let differs = mac.is_some_and(|mac| self.mac != Some(mac));
                self.mac = mac.or(self.mac);
                if self.mac.is_some() && solicited && matches!(self.state, State::Asking | State::Probing) {
                    self.enter(State::Confirmed, now, 30_000);
                } else if differs {
                    self.enter(State::Heard, now, 5000);
                }
            }
        }
        self.mac.is_some()
    }
}

#[derive(Clone, Debug)]
enum Event {
    Send(u8),
    Learn(u8, Option<Mac>, Learning),
    Pass(u64),
}

fn event(addresses: u8) -> impl Strategy<Value = Event> {
    let learning = prop_oneof![
        any::<bool>().prop_map(|may_create| Learning::Request { may_create }),
        any::<(bool, bool)>()
            .prop_map(|(solicited, overrides)| Learning::Advertisement { solicited, overrides }),
        Just(REPLY),
    ];
    let mac = prop_oneof![2 => Just(Some(MAC_A)), 1 => Just(Some(MAC_B)), 1 => Just(None)];
    prop_oneof![
        3 => (0..addresses).prop_map(Event::Send),
        2 => (0..addresses, mac, learning).prop_map(|(address, mac, how)| Event::Learn(address, mac, how)),
        2 => prop_oneof![Just(0u64), 1u64..1500, 1u64..40_000].prop_map(Event::Pass),
    ]
}

/// What the packet path does with a packet for a neighbour: sends it, has it wait, or drops it.
fn send(
    table: &mut Neighbors<VecFrame>,
    last: u8,
    mark: u32,
    now: Time,
) -> Option<(NeighborId, Option<Mac>, bool)> {
    let id = table.find_or_create(PORT, address(last), now)?;
    let mac = table.mac(id);
    let held = mac.is_none() && table.hold(id, frame(mark), now).is_ok();
    Some((id, mac, held))
}

proptest! {
    #[test]
    fn behaves_like_single_neighbours_while_there_is_room(events in vec(event(4), 0..200)) {
        let mut table = table(16, 1000, 3);
        let mut models: BTreeMap<u8, Model> = BTreeMap::new();
        let mut now = 0;
        for (mark, event) in (1..).zip(events) {
            match event {
                Event::Send(last) => {
                    let model = models.entry(last).or_insert_with(|| Model::new(now));
                    let (id, mac, held) = send(&mut table, last, mark, at(now)).unwrap();
                    prop_assert_eq!(mac, model.mac);
                    model.used |= mac.is_some();
                    prop_assert_eq!(table.is_failed(id, at(now)), model.state == State::Failed);
                    let expected = mac.is_none() && model.state != State::Failed && model.frames.len() < 3;
                    prop_assert_eq!(held, expected);
                    if held {
                        model.frames.push_back(mark);
                    }
                }
                Event::Learn(last, mac, how) => {
                    let may_create = matches!(how, Learning::Request { may_create: true }) && mac.is_some();
                    if may_create {
                        models.entry(last).or_insert_with(|| Model::new(now));
                    }
                    let counted = models.get_mut(&last).is_some_and(|model| model.learn(mac, how, now));
                    // A request without an address says nothing.
                    let counted = counted && (mac.is_some() || !matches!(how, Learning::Request { .. }));
                    let learned = table.learn(PORT, address(last), mac, how, at(now));
                    prop_assert_eq!(learned.is_some(), counted);
                    if let Some(id) = learned {
                        let marks: Vec<u32> = core::iter::from_fn(|| table.pop_waiting(id)).map(|f| f.mark()).collect();
                        prop_assert_eq!(marks, models.get_mut(&last).unwrap().frames.drain(..).collect::<Vec<_>>());
                    }
                }
                Event::Pass(ms) => now += ms,
            }
            let mut seen = advance(&mut table, at(now));
            let mut expected = Vec::new();
            models.retain(|&last, model| model.advance(address(last), now, &mut expected));
            seen.sort();
            expected.sort();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(table.len(), models.len());
            prop_assert_eq!(table.next_timer(), models.values().map(|model| at(model.deadline)).min());
        }
    }

    /// More neighbours than fit: bounds hold, each frame comes out once, and an identifier never names another neighbour.
    #[test]
    fn stays_within_its_bounds(
        events in vec((event(40), any::<Index>(), 0usize..6), 0..400),
        statics in vec((0u8..40, any::<bool>()), 0..6),
    ) {
        let mut table = table(8, 5, 3);
        let statics: Vec<_> =
            statics.iter().map(|&(last, b)| (PORT, address(last), if b { MAC_B } else { MAC_A })).collect();
        let mut now = 0;
        let mut waiting: Vec<u32> = Vec::new();
        let mut given_out: BTreeMap<NonZeroU32, u8> = BTreeMap::new();
        for (mark, (event, when, budget)) in (1..).zip(events) {
            match event {
                Event::Send(last) => {
                    if let Some((id, _, held)) = send(&mut table, last, mark, at(now)) {
                        prop_assert_eq!(*given_out.entry(id.to_bits()).or_insert(last), last);
                        waiting.extend(held.then_some(mark));
                    }
                }
                Event::Learn(last, mac, how) => {
                    if let Some(id) = table.learn(PORT, address(last), mac, how, at(now)) {
                        prop_assert_eq!(*given_out.entry(id.to_bits()).or_insert(last), last);
                        while let Some(frame) = table.pop_waiting(id) {
                            waiting.retain(|&mark| mark != frame.mark());
                        }
                    }
                }
                Event::Pass(ms) => now += ms,
            }
            if when.index(20) == 0 {
                table.set_static(&statics[..when.index(statics.len() + 1)]);
            }
            let mut budget = budget;
            while let Some(action) = table.advance(at(now), &mut budget) {
                match action {
                    NeighborAction::Expired { frame, .. } => {
                        let before = waiting.len();
                        waiting.retain(|&mark| mark != frame.mark());
                        prop_assert_eq!(waiting.len(), before - 1);
                    }
                    NeighborAction::Resolved(id) => {
                        while let Some(frame) = table.pop_waiting(id) {
                            waiting.retain(|&mark| mark != frame.mark());
                        }
                    }
                    NeighborAction::Solicit { .. } => {}
                }
            }
            prop_assert!(table.len() <= 8 && waiting.len() <= 5);
            let queued: usize = table.entries.iter().map(|entry| entry.waiting.len()).sum();
            prop_assert_eq!(queued, waiting.len());
            let in_use = (0..8).filter(|&entry| table.timers.state(entry) != State::Free);
            let (known, unknown): (Vec<u16>, Vec<u16>) =
                in_use.partition(|&entry| table.faces[usize::from(entry)].mac().is_some());
            prop_assert_eq!(known.len() + unknown.len(), table.len());
            prop_assert_eq!(unknown.len(), table.unresolved);
            for entry in known.iter().chain(&unknown) {
                let Entry { port, address, .. } = table.entries[usize::from(*entry)];
                prop_assert_eq!(table.find(port, address), Some(*entry));
            }
        }
        prop_assert!(table.index.capacity() < 64);
    }
}
