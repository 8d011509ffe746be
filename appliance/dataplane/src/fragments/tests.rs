use super::*;
use crate::testing::VecFrame;
use crate::time::Time;
use crate::wire::{FragmentInfo, protocol};
use pmd_shim::Frame;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Table = FragmentTable<VecFrame, u32>;

const DROP: Later<u32> = Later::Drop(DropReason::Fragment);
const START: Time = Time::from_millis(1_000_000);

fn table(datagrams: usize, held_frames: usize) -> Table {
    FragmentTable::new(Limits { datagrams, held_frames, ..Limits::default() }, [7; 16])
}

fn key(id: u32) -> FragmentKey {
    let (src, dst) = (Addr::v4([192, 0, 2, 1]), Addr::v4([10, 2, 0, 4]));
    FragmentKey { src, dst, id, protocol: protocol::UDP, port: PortId(0) }
}

fn key_v6(id: u32) -> FragmentKey {
    FragmentKey { src: Addr::v6([0x20; 16]), dst: Addr::v6([0xfd; 16]), ..key(id) }
}

fn piece(offset: u16, len: u16, more: bool) -> FragmentInfo {
    FragmentInfo { id: 0, offset, len, more }
}

fn frame(mark: u32) -> VecFrame {
    let mut frame = VecFrame::new(&[0; 60]);
    frame.set_mark(mark);
    frame
}

fn after(seconds: u64) -> Time {
    START + Duration::from_secs(seconds)
}

/// Everything that is to be dropped at this time.
fn expired(table: &mut Table, now: Time) -> Vec<u32> {
    core::iter::from_fn(|| table.advance(now, &mut 1_000_000)).map(|frame| frame.mark()).collect()
}

fn waiting(table: &mut Table, key: FragmentKey) -> Vec<u32> {
    core::iter::from_fn(|| table.pop_waiting(key)).map(|frame| frame.mark()).collect()
}

#[test]
fn later_fragments_follow_the_first_in_any_order() {
    let mut table = table(4, 4);
    assert_eq!(table.first(key(1), &piece(0, 800, true), Ok(77), START), Ok(()));
    assert_eq!(table.later(key(1), &piece(1600, 1, false), START), Later::Follow(77));
    assert_eq!(table.later(key(1), &piece(800, 800, true), START), Later::Follow(77));

    for (mark, place) in [(1, piece(1600, 1, false)), (2, piece(800, 800, true))] {
        assert_eq!(table.later(key(2), &place, START), Later::Hold);
        table.hold(key(2), frame(mark)).unwrap();
    }
    assert_eq!(waiting(&mut table, key(2)), [0; 0]);
    assert_eq!(table.first(key(2), &piece(0, 800, true), Ok(78), START), Ok(()));
    assert_eq!(waiting(&mut table, key(2)), [1, 2]);
    // What waited is taken through the path again.
    assert_eq!(table.later(key(2), &piece(800, 800, true), START), Later::Follow(78));
    assert_eq!(table.held_len(), 0);
}

#[test]
fn later_fragments_follow_a_drop_too() {
    let mut table = table(4, 4);
    let denied = DropReason::DeniedByRule;
    assert_eq!(table.first(key(1), &piece(0, 800, true), Err(denied), START), Err(denied));
    assert_eq!(table.later(key(1), &piece(800, 8, false), START), Later::Drop(denied));
    assert_eq!(table.first(key(2), &piece(0, 800, true), Ok(5), START), Ok(()));
    assert_eq!(table.later(key(2), &piece(800, 8, true), START), Later::Follow(5));
    table.reject(key(2), denied);
    assert_eq!(table.later(key(2), &piece(808, 8, true), START), Later::Drop(denied));
    assert_eq!(table.first(key(2), &piece(0, 800, true), Ok(5), START), Err(denied));
}

#[test]
fn datagrams_that_differ_in_one_field_are_different() {
    let base = key(1);
    let mut table = table(8, 8);
    table.first(base, &piece(0, 800, true), Ok(1), START).unwrap();
    let others = [
        FragmentKey { src: Addr::v4([192, 0, 2, 2]), ..base },
        FragmentKey { dst: Addr::v4([192, 0, 2, 2]), ..base },
        FragmentKey { id: 2, ..base },
        FragmentKey { protocol: protocol::TCP, ..base },
        FragmentKey { port: PortId(1), ..base },
    ];
    for other in others {
        assert_eq!(table.later(other, &piece(800, 8, false), START), Later::Hold, "{other:?}");
    }
    assert_eq!(table.later(base, &piece(800, 8, false), START), Later::Follow(1));
    // Fragments of an IPv6 datagram may differ in what follows their header.
    table.first(key_v6(1), &piece(0, 800, true), Ok(2), START).unwrap();
    let routed = FragmentKey { protocol: 60, ..key_v6(1) };
    assert_eq!(table.later(routed, &piece(800, 8, false), START), Later::Follow(2));
}

#[test]
fn overlaps_condemn_and_exact_duplicates_pass() {
    let second = piece(800, 800, true);
    let cases = [
        (second, true),
        (piece(792, 8, true), false),
        (piece(800, 792, true), false),
        (piece(808, 800, true), false),
        (piece(1592, 16, true), false),
        (piece(792, 816, true), false),
        (piece(800, 800, false), false),
        (piece(1608, 0, true), false),
        // Behind the end, and an end behind the end.
        (piece(2408, 8, true), false),
        (piece(2408, 8, false), false),
        (piece(2400, 8, true), false),
        // In the hole before the end.
        (piece(1600, 8, true), true),
    ];
    for (place, fits) in cases {
        let mut table = table(4, 4);
        table.first(key(1), &piece(0, 800, true), Ok(1), START).unwrap();
        assert_eq!(table.later(key(1), &second, START), Later::Follow(1));
        assert_eq!(table.later(key(1), &piece(2000, 400, false), START), Later::Follow(1));
        let expected = if fits { Later::Follow(1) } else { DROP };
        assert_eq!(table.later(key(1), &place, START), expected, "{place:?}");
        // Condemned for good, and only this one.
        assert_eq!(table.later(key(1), &second, START), expected, "{place:?}");
        assert_eq!(table.later(key(1), &piece(1608, 8, true), START), expected, "{place:?}");
        assert_eq!(table.first(key(2), &piece(0, 800, true), Ok(2), START), Ok(()));
    }
}

#[test]
fn a_last_fragment_before_the_end_of_another_condemns() {
    let mut table = table(4, 4);
    table.first(key(1), &piece(0, 800, true), Ok(1), START).unwrap();
    assert_eq!(table.later(key(1), &piece(1600, 800, true), START), Later::Follow(1));
    assert_eq!(table.later(key(1), &piece(800, 8, false), START), DROP);
    table.first(key(2), &piece(0, 800, true), Ok(1), START).unwrap();
    assert_eq!(table.later(key(2), &piece(1600, 800, true), START), Later::Follow(1));
    assert_eq!(table.later(key(2), &piece(2400, 8, false), START), Later::Follow(1));
}

#[test]
fn a_second_first_fragment_must_say_the_same() {
    let first = piece(0, 800, true);
    for (again, plan, expected) in [
        (first, Ok(1), Ok(())),
        (first, Ok(2), Err(DropReason::Fragment)),
        (first, Err(DropReason::DeniedByRule), Err(DropReason::Fragment)),
        (piece(0, 792, true), Ok(1), Err(DropReason::Fragment)),
        (piece(0, 808, true), Ok(1), Err(DropReason::Fragment)),
    ] {
        let mut table = table(4, 4);
        table.first(key(1), &first, Ok(1), START).unwrap();
        assert_eq!(table.first(key(1), &again, plan, START), expected, "{again:?} {plan:?}");
        let follows = if expected.is_ok() { Later::Follow(1) } else { DROP };
        assert_eq!(table.later(key(1), &piece(800, 8, false), START), follows, "{again:?} {plan:?}");
    }
}

#[test]
fn what_waits_is_given_back_when_its_datagram_is_condemned() {
    let mut table = table(4, 4);
    for (mark, offset) in [(1, 800), (2, 1600)] {
        assert_eq!(table.later(key(1), &piece(offset, 800, true), START), Later::Hold);
        table.hold(key(1), frame(mark)).unwrap();
    }
    // The first reaches into what waits.
    assert_eq!(table.first(key(1), &piece(0, 808, true), Ok(1), START), Err(DropReason::Fragment));
    assert_eq!(table.next_timer(), Some(Time::default()));
    assert_eq!(waiting(&mut table, key(1)), [0; 0]);
    assert_eq!(expired(&mut table, START), [1, 2]);
    assert_eq!((table.held_len(), table.len()), (0, 1));
}

#[test]
fn one_fragment_too_many_and_duplicates_do_not_count() {
    let count = FRAGMENTS_MAX as u16;
    let mut table = table(4, 4);
    table.first(key(1), &piece(0, 8, true), Ok(1), START).unwrap();
    for n in 1..count {
        for _ in 0..3 {
            assert_eq!(table.later(key(1), &piece(8 * n, 8, true), START), Later::Follow(1));
        }
    }
    assert_eq!(table.later(key(1), &piece(8 * count, 8, false), START), DROP);
    assert_eq!(table.later(key(1), &piece(8, 8, true), START), DROP);
}

#[test]
fn duplicates_do_not_fill_the_room_for_others() {
    let mut table = table(4, 100);
    let mut held = 0;
    for n in 0..1000 {
        match table.later(key(1), &piece(800, 8, false), START) {
            Later::Hold => {
                table.hold(key(1), frame(n)).unwrap();
                held += 1;
            }
            other => assert_eq!(other, DROP),
        }
    }
    assert_eq!(held, FRAGMENTS_MAX);
    assert_eq!(table.first(key(1), &piece(0, 800, true), Ok(1), START), Ok(()));
    assert_eq!(waiting(&mut table, key(1)).len(), FRAGMENTS_MAX);
}

#[test]
fn a_datagram_is_forgotten_after_its_time() {
    for (key, seconds) in [(key(1), 30), (key_v6(1), 60)] {
        let mut table = table(4, 4);
        assert_eq!(table.later(key, &piece(800, 8, true), START), Later::Hold);
        table.hold(key, frame(9)).unwrap();
        assert_eq!(table.next_timer(), Some(after(seconds)));
        assert_eq!(expired(&mut table, after(seconds - 1)), [0; 0]);
        assert_eq!(table.len(), 1);
        assert_eq!(expired(&mut table, after(seconds)), [9]);
        assert_eq!((table.len(), table.held_len(), table.next_timer()), (0, 0, None));
    }
}

#[test]
fn time_counts_also_when_nobody_swept() {
    let mut table = table(4, 4);
    table.first(key(1), &piece(0, 800, true), Ok(1), START).unwrap();
    assert_eq!(table.later(key(1), &piece(800, 8, true), after(29)), Later::Follow(1));
    assert_eq!(table.later(key(1), &piece(808, 8, true), after(30)), Later::Hold);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_full_table_refuses_unless_a_datagram_is_complete() {
    let mut table = table(2, 4);
    for id in [1, 2] {
        table.first(key(id), &piece(0, 800, true), Ok(id), START).unwrap();
    }
    assert_eq!(table.first(key(3), &piece(0, 800, true), Ok(3), START), Err(DropReason::Fragment));
    let denied = DropReason::DeniedByRule;
    assert_eq!(table.first(key(3), &piece(0, 800, true), Err(denied), START), Err(denied));
    assert_eq!(table.later(key(3), &piece(800, 8, false), START), DROP);
    assert_eq!(table.later(key(2), &piece(800, 8, false), START), Later::Follow(2));
    assert_eq!(table.later(key(2), &piece(800, 8, false), START), Later::Follow(2));
    assert_eq!(table.first(key(3), &piece(0, 800, true), Ok(3), START), Ok(()));
    assert_eq!(table.later(key(1), &piece(800, 8, true), START), Later::Follow(1));
    assert_eq!(table.len(), 2);
}

#[test]
fn full_room_for_frames_condemns_the_datagram_that_lost_one() {
    let mut table = table(4, 1);
    assert_eq!(table.later(key(1), &piece(800, 8, true), START), Later::Hold);
    table.hold(key(1), frame(1)).unwrap();
    assert_eq!(table.later(key(2), &piece(800, 8, true), START), DROP);
    assert_eq!(table.len(), 1);
    assert_eq!(table.later(key(1), &piece(808, 8, true), START), DROP);
    assert_eq!(table.first(key(1), &piece(0, 800, true), Ok(1), START), Err(DropReason::Fragment));
    assert_eq!(expired(&mut table, START), [1]);
    assert_eq!(table.hold(key(7), frame(3)).map_err(|frame| frame.mark()), Err(3));
}

#[test]
fn a_million_datagrams_take_no_more_room() {
    let mut table = table(64, 16);
    let (mut refused, mut given_back) = (0, 0);
    for id in 0..1_000_000 {
        let now = START + Duration::from_millis(u64::from(id));
        let mut budget = 4;
        while table.advance(now, &mut budget).is_some() {
            given_back += 1;
        }
        let outcome = match id % 3 {
            0 => table.later(key(id), &piece(800, 8, true), now),
            _ => match table.first(key(id), &piece(0, 800, true), Ok(id), now) {
                Ok(()) => Later::Follow(id),
                Err(reason) => Later::Drop(reason),
            },
        };
        match outcome {
            Later::Hold => table.hold(key(id), frame(id)).unwrap(),
            Later::Drop(_) => refused += 1,
            Later::Follow(_) => {}
        }
        assert!(table.len() <= 64 && table.held_len() <= 16);
    }
    assert!(refused > 900_000 && given_back > 100, "{refused} refused, {given_back} given back");
    expired(&mut table, START + Duration::from_secs(2000));
    assert_eq!((table.len(), table.held_len(), table.next_timer()), (0, 0, None));
}

// ---- against a model ------------------------------------------------------------------------------------------------

/// A datagram as a list, for unlimited room and no time.
#[derive(Default)]
struct Model {
    seen: Vec<FragmentInfo>,
    plan: Option<Result<u32, DropReason>>,
    condemned: bool,
    waiting: Vec<u32>,
}

impl Model {
    /// Whether the fragment fits, from the definition: every byte once, none behind the end, duplicates aside.
    fn place(&mut self, info: &FragmentInfo) -> bool {
        if !self.seen.contains(info) {
            self.seen.push(*info);
            let bytes = |f: &FragmentInfo| u32::from(f.offset)..u32::from(f.offset) + u32::from(f.len);
            let mut all: Vec<u32> = self.seen.iter().flat_map(bytes).collect();
            let total = all.len();
            all.sort_unstable();
            all.dedup();
            let ends: Vec<u32> = self.seen.iter().filter(|f| !f.more).map(|f| bytes(f).end).collect();
            let end = all.last().map_or(0, |last| last + 1);
            let open_end = self.seen.iter().any(|f| f.more && ends.contains(&bytes(f).end));
            self.condemned |= all.len() != total
                || ends.len() > 1
                || ends.iter().any(|e| *e < end)
                || open_end
                || self.seen.len() > FRAGMENTS_MAX;
        }
        !self.condemned
    }
}

/// What finally became of each frame, by its mark.
type Fates = BTreeMap<u32, Result<u32, DropReason>>;

/// Takes fragments through a table as the pipeline does.
fn drive(table: &mut Table, arrivals: &[(FragmentKey, FragmentInfo, Result<u32, DropReason>)]) -> Fates {
    let mut fates = Fates::new();
    for ((key, info, plan), mark) in arrivals.iter().zip(0..) {
        if info.offset == 0 {
            let fate = table.first(*key, info, *plan, START);
            fates.insert(mark, fate.and(*plan));
            let fate = fates[&mark];
            fates.extend(waiting(table, *key).into_iter().map(|mark| (mark, fate)));
        } else {
            match table.later(*key, info, START) {
                Later::Follow(plan) => drop(fates.insert(mark, Ok(plan))),
                Later::Drop(reason) => drop(fates.insert(mark, Err(reason))),
                Later::Hold => table.hold(*key, frame(mark)).unwrap(),
            }
        }
        fates.extend(expired(table, START).into_iter().map(|mark| (mark, Err(DropReason::Fragment))));
    }
    fates
}

/// The same by the model.
fn model(arrivals: &[(FragmentKey, FragmentInfo, Result<u32, DropReason>)]) -> Fates {
    let mut fates = Fates::new();
    let mut models = BTreeMap::<u32, Model>::new();
    for ((key, info, plan), mark) in arrivals.iter().zip(0..) {
        let datagram = models.entry(key.id).or_default();
        let lost = Err(DropReason::Fragment);
        let first = info.offset == 0;
        let fits = datagram.place(info);
        let same = !first || matches!(datagram.plan, None | Some(Err(_))) || datagram.plan == Some(*plan);
        if !fits || !same {
            datagram.condemned = true;
            fates.insert(mark, lost);
            fates.extend(datagram.waiting.drain(..).map(|mark| (mark, lost)));
        } else if first {
            let fate = *datagram.plan.get_or_insert(*plan);
            fates.insert(mark, fate);
            fates.extend(datagram.waiting.drain(..).map(|mark| (mark, fate)));
        } else if let Some(fate) = datagram.plan {
            fates.insert(mark, fate);
        } else {
            datagram.waiting.push(mark);
        }
    }
    fates
}

fn any_plan() -> impl Strategy<Value = Result<u32, DropReason>> {
    prop_oneof![3 => (0u32..2).prop_map(Ok), 1 => Just(Err(DropReason::DeniedByRule))]
}

/// A datagram cut into pieces at multiples of eight.
fn any_cut() -> impl Strategy<Value = Vec<FragmentInfo>> {
    (prop::collection::btree_set(1u16..400, 1..20), 1u16..1000).prop_map(|(cuts, tail)| {
        let cuts: Vec<u16> = core::iter::once(0).chain(cuts.into_iter().map(|cut| cut * 8)).collect();
        let pieces = cuts.windows(2).map(|pair| piece(pair[0], pair[1] - pair[0], true));
        pieces.chain([piece(cuts[cuts.len() - 1], tail, false)]).collect()
    })
}

proptest! {
    /// Fragments that fit together share one fate, in any order, duplicated or not, among those of other datagrams.
    #[test]
    fn whole_datagrams_share_one_fate(
        arrivals in prop::collection::vec((any_cut(), any_plan(), any::<bool>()), 1..6)
            .prop_map(|datagrams| {
                let arrivals = datagrams.into_iter().zip(0u32..).flat_map(|((pieces, plan, twice), id)| {
                    pieces.into_iter().flat_map(move |piece| {
                        core::iter::repeat_n((key(id), piece, plan), 1 + usize::from(twice))
                    })
                });
                arrivals.collect::<Vec<_>>()
            })
            .prop_shuffle()
    ) {
        let mut table = table(16, 1024);
        let fates = drive(&mut table, &arrivals);
        prop_assert_eq!(fates.len(), arrivals.len());
        for ((_, _, plan), mark) in arrivals.iter().zip(0..) {
            prop_assert_eq!(fates[&mark], *plan);
        }
    }

    /// Fragments from anywhere, most of which do not fit together, are judged as by the model.
    #[test]
    fn any_fragments_are_judged_like_the_model(
        arrivals in prop::collection::vec(
            (0u32..3, 0u16..8, 1u16..4, any_plan(), prop::bool::weighted(0.8)).prop_map(|(id, at, len, plan, more)| {
                (key(id), piece(at * 8, len * 8, more), plan)
            }),
            1..24,
        )
    ) {
        prop_assert_eq!(drive(&mut table(16, 1024), &arrivals), model(&arrivals));
    }
}
