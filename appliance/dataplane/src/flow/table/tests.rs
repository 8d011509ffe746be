//! The flow table against a map, at its limits, and under attack.

use core::time::Duration;
use std::collections::{HashMap, HashSet};

use nva_config::FlowTimeouts;
use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::flow::{Class, Tally, TcpState};
use crate::wire::{TcpFlags, protocol};

const SECOND: u64 = 1_000_000_000;

fn timeouts() -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts::from(&FlowTimeouts {
        tcp: seconds(240),
        tcp_half_open: seconds(10),
        tcp_closing: seconds(15),
        udp: seconds(60),
        icmp: seconds(20),
        other: seconds(30),
    })
}

fn table(capacity: usize) -> FlowTable {
    FlowTable::new(capacity, [7; 16], timeouts(), Time(0))
}

fn addr(n: u32) -> Addr {
    Addr::v4(n.to_be_bytes())
}

fn key(src: u32, src_port: u16, dst: u32, dst_port: u16) -> FlowKey {
    FlowKey { src: addr(src), dst: addr(dst), src_port, dst_port, protocol: protocol::UDP }
}

fn plain(key: FlowKey) -> NewFlow {
    NewFlow {
        key,
        translated: key.dst,
        translated_port: key.dst_port,
        tcp: None,
        rule: None,
        backend: None,
        generation: 1,
        idle_timeout_ms: None,
        tcp_reset: false,
    }
}

fn translated(key: FlowKey, to: u32, port: u16) -> NewFlow {
    NewFlow { translated: addr(to), translated_port: port, ..plain(key) }
}

fn tcp(seq: u32, ack: u32, flags: u8) -> Tcp {
    Tcp { seq, ack, flags: TcpFlags(flags), window: 60_000, window_scale: None }
}

impl FlowTable {
    fn lookup(&self, key: &FlowKey) -> Option<(FlowId, Side)> {
        let hash = self.hash(key);
        self.prefetch_index(hash);
        let found = self.find(key, self.guessed_hash(key));
        assert_eq!(found, self.find(key, hash), "with a guess and without one");
        found
    }

    /// After the steps before a search.
    fn guessed_hash(&self, key: &FlowKey) -> FlowHash {
        let mut hash = self.hash(key);
        if self.prefetch_record(&mut hash) {
            self.prefetch_elsewhere(&mut hash);
        }
        hash
    }

    fn ids(&self) -> Vec<FlowId> {
        let (mut ids, mut cursor) = (Vec::new(), Some(0));
        while let Some(at) = cursor {
            let (flows, next) = self.slice(at, 7);
            ids.extend(flows.map(|(id, _)| id));
            cursor = next;
        }
        ids
    }
}

#[test]
fn both_directions_lead_to_the_flow() {
    let mut table = table(10);
    let first = key(1, 1_000, 2, 80);
    let id = table.insert(translated(first, 3, 8_080), Time(0)).expect("inserts");
    assert_eq!(table.lookup(&first), Some((id, Side::Initiator)));
    assert_eq!(table.lookup(&key(3, 8_080, 1, 1_000)), Some((id, Side::Responder)));
    for stranger in [
        first.reversed(),
        FlowKey { protocol: protocol::TCP, ..first },
        FlowKey { src_port: 1_001, ..first },
        FlowKey { dst_port: 81, ..first },
        FlowKey { src: addr(4), ..first },
        FlowKey { dst: addr(3), ..first },
    ] {
        assert_eq!(table.lookup(&stranger), None, "{stranger:?}");
    }
    let flow = table.flow(id);
    assert_eq!(flow.key(Side::Initiator), first);
    assert_eq!(flow.translated_key(), key(1, 1_000, 3, 8_080));
    assert!(flow.is_translated());
    assert_eq!((flow.destination(Side::Initiator), flow.destination(Side::Responder)), (addr(3), addr(1)));
}

#[test]
fn guesses_are_made_also_where_the_table_is_full() {
    let mut table = table(4_096);
    let keys: Vec<FlowKey> = (0..4_096).map(|port| key(1, 1_000 + port, 2, 80)).collect();
    let ids: Vec<FlowId> =
        keys.iter().map(|key| table.insert(plain(*key), Time(0)).expect("inserts")).collect();
    let (mut elsewhere, mut right) = (0, 0);
    for (key, id) in keys.iter().zip(&ids) {
        elsewhere += usize::from(table.prefetch_record(&mut table.hash(key)));
        let hash = table.guessed_hash(key);
        assert!(!hash.was_lacked(), "{key:?}");
        let flow = table.guess(hash).expect("a guess is made");
        right += usize::from(flow.has_key(Side::Initiator, key));
        assert_eq!(table.find(key, hash), Some((*id, Side::Initiator)));
    }
    assert!(elsewhere > 40, "{elsewhere} are in their second bucket");
    assert!(right > 4_080, "only tags that are alike mislead: {right}");
}

#[test]
fn a_guess_that_came_true_no_more_is_none() {
    let mut table = table(1);
    let (first, second) = (key(1, 1_000, 2, 80), key(1, 1_001, 2, 80));
    let guess = |table: &FlowTable, key: &FlowKey| {
        let mut hash = table.hash(key);
        table.prefetch_record(&mut hash);
        hash
    };
    let id = table.insert(plain(first), Time(0)).expect("inserts");
    let guessed = guess(&table, &first);
    assert_ne!(guessed, table.hash(&first), "a guess is made");
    assert_eq!(table.find(&first, guessed), Some((id, Side::Initiator)));
    // The record is vacant, and still has the key.
    assert!(table.remove(id));
    assert_eq!(table.find(&first, guessed), None);
    // It is another flow's, then again one with this key, which is a flow of its own.
    let other = table.insert(plain(second), Time(0)).expect("inserts");
    assert_eq!(table.find(&first, guessed), None);
    assert!(table.remove(other));
    let again = table.insert(plain(first.reversed()), Time(0)).expect("inserts");
    assert_eq!(table.find(&first, guessed), Some((again, Side::Responder)));
    assert_ne!(id, again);
}

#[test]
fn a_key_belongs_to_one_flow() {
    let mut table = table(10);
    let first = key(1, 1_000, 2, 80);
    table.insert(translated(first, 3, 80), Time(0)).expect("inserts");
    // The same packet, one whose answer would look like the first flow's, and one that is that answer.
    for taken in [plain(first), translated(key(1, 1_000, 9, 80), 3, 80), plain(key(3, 80, 1, 1_000))] {
        assert_eq!(table.insert(taken, Time(0)), Err(InsertError::Taken));
    }
    // Its own answer.
    assert_eq!(table.insert(plain(key(5, 53, 5, 53)), Time(0)), Err(InsertError::Taken));
    assert_eq!((table.len(), table.refused()), (1, 0));
    table.insert(plain(key(1, 1_001, 3, 80)), Time(0)).expect("another port is another flow");
}

#[test]
fn a_full_table_refuses_and_keeps_what_it_has() {
    let mut table = table(100);
    let keys: Vec<_> = (0..100).map(|n| key(n, 1, 2_000, 2)).collect();
    for key in &keys {
        table.insert(plain(*key), Time(0)).expect("below capacity");
    }
    assert_eq!(table.insert(plain(key(5_000, 1, 2_000, 2)), Time(0)), Err(InsertError::Full));
    assert_eq!((table.len(), table.refused()), (100, 1));
    assert!(keys.iter().all(|key| table.lookup(key).is_some() && table.lookup(&key.reversed()).is_some()));
    let (id, _) = table.lookup(&keys[50]).expect("there");
    assert!(table.remove(id));
    table.insert(plain(key(5_000, 1, 2_000, 2)), Time(0)).expect("there is room again");
}

#[test]
fn an_identifier_dies_with_its_flow() {
    let mut table = table(1);
    let id = table.insert(plain(key(1, 1, 2, 2)), Time(0)).expect("inserts");
    assert!(table.is_live(id) && table.remove(id) && !table.is_live(id));
    let next = table.insert(plain(key(1, 1, 2, 2)), Time(0)).expect("inserts");
    assert!(!table.is_live(id) && table.is_live(next) && id != next);
    assert!(!table.remove(id), "the old name does not remove the new flow");
    assert_eq!(table.len(), 1);
}

/// Fills a table to its capacity and finds every flow again, by both keys.
fn fills(capacity: usize, keys: impl Iterator<Item = FlowKey>) {
    let mut table = table(capacity);
    let keys: Vec<_> = keys.take(capacity).collect();
    for key in &keys {
        table.insert(translated(*key, 0xc0a8_0001, 8_080), Time(0)).expect("below capacity");
    }
    assert_eq!((table.len(), table.refused()), (capacity, 0));
    for key in keys {
        let (id, side) = table.lookup(&key).expect("the initiator's key");
        assert_eq!(side, Side::Initiator);
        let answer = table.flow(id).key(Side::Responder);
        assert_eq!(table.lookup(&answer), Some((id, Side::Responder)));
    }
}

#[test]
fn fills_to_capacity_with_sequential_keys() {
    fills(100_000, (0u32..).map(|n| key(0x0a00_0000 + n / 60_000, (n % 60_000) as u16, 0xcb00_7101, 443)));
    fills(100_000, (0u32..).map(|n| key(0x0a00_0000 + n, 40_000, 0xcb00_7101, 443)));
}

#[test]
fn fills_to_capacity_with_random_keys() {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut seen = HashSet::new();
    fills(
        200_000,
        core::iter::repeat_with(move || key(random(), random() as u16, 0xcb00_7101, 443))
            .filter(move |key| seen.insert(*key)),
    );
}

#[test]
fn fills_to_capacity_however_small() {
    for capacity in 1..200 {
        for seed in 0..20 {
            let mut table = FlowTable::new(capacity, [seed; 16], timeouts(), Time(0));
            for n in 0..capacity as u32 {
                table.insert(plain(key(n, 5, 1 << 20, 6)), Time(0)).expect("below capacity");
            }
        }
    }
}

#[test]
fn stays_within_its_memory() {
    for capacity in [1_000, 10_000, 100_000, 1_000_000] {
        let table = table(capacity);
        assert!(table.bytes_per_flow() <= 200, "{capacity}: {}", table.bytes_per_flow());
        assert_eq!((table.capacity(), table.len()), (capacity, 0));
    }
}

#[test]
fn chosen_ports_do_not_collide() {
    // Ports that share a bucket under a secret that the attacker knows are spread like any others under ours.
    let known = FlowTable::new(20_000, [1; 16], timeouts(), Time(0));
    let bucket = |table: &FlowTable, key: &FlowKey| table.hash(key).bits >> 52;
    let mut chosen = Vec::new();
    for n in 0..40_000_000u32 {
        let key = key(0x0a00_0000 | n >> 16, n as u16, 0xcb00_7101, 443);
        if bucket(&known, &key) == 7 {
            chosen.push(key);
        }
        if chosen.len() == 4_096 {
            break;
        }
    }
    assert_eq!(chosen.len(), 4_096);
    let ours = FlowTable::new(20_000, [2; 16], timeouts(), Time(0));
    let mut load = HashMap::new();
    for key in &chosen {
        *load.entry(bucket(&ours, key)).or_insert(0) += 1;
    }
    // One a bucket on average: 12 would come once in 2^28 buckets.
    assert!(load.values().all(|n| *n < 12), "{:?}", load.values().max());
    let mut victim = FlowTable::new(4_096, [3; 16], timeouts(), Time(0));
    for key in chosen {
        victim.insert(plain(key), Time(0)).expect("below capacity");
    }
}

#[test]
fn ends_flows_by_their_class() {
    let mut table = table(10);
    let of = |n, protocol| plain(FlowKey { protocol, ..key(n, 1, 2, 3) });
    let syn = TcpState::open(&tcp(100, 0, TcpFlags::SYN), 0).ok();
    table.insert(NewFlow { tcp: syn, ..of(10, protocol::TCP) }, Time(0)).expect("inserts");
    table.insert(of(20, protocol::ICMP), Time(0)).expect("inserts");
    table.insert(of(21, protocol::ICMPV6), Time(0)).expect("inserts");
    table.insert(of(30, protocol::ESP), Time(0)).expect("inserts");
    table.insert(of(60, protocol::UDP), Time(0)).expect("inserts");
    let mut ended = Vec::new();
    while let Some(at) = table.next_expiry() {
        table.expire(at, &mut 100, |view| ended.push((at.0 / SECOND, view.flow.key(Side::Initiator).src)));
    }
    assert_eq!(ended.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [10, 20, 20, 30, 60]);
    assert!(table.is_empty());
}

#[test]
fn never_ends_a_flow_early_and_at_most_a_tick_late() {
    let mut table = table(10);
    for start in [0, 1, 5_000_000, 9_999_999, 10_000_000, 123_456_789] {
        table.insert(plain(key(1, 1, 2, 2)), Time(start)).expect("inserts");
        let due = start + 60 * SECOND;
        assert_eq!(table.expire(Time(due - 1), &mut 10, |_| {}), 0);
        assert_eq!(table.expire(Time(due + 9_999_999), &mut 10, |_| {}), 1);
        table = self::table(10);
    }
    table.insert(plain(key(1, 1, 2, 2)), Time(0)).expect("inserts");
    assert_eq!(table.expire(Time(60 * SECOND), &mut 10, |_| {}), 1, "a whole second is exact");
}

#[test]
fn packets_keep_a_flow_and_closing_shortens_its_life() {
    let mut table = table(10);
    let first = FlowKey { protocol: protocol::TCP, ..key(1, 1, 2, 2) };
    let tcp_state = TcpState::open(&tcp(100, 0, TcpFlags::SYN), 0).ok();
    let id = table
        .insert(NewFlow { tcp: tcp_state, idle_timeout_ms: Some(300_500), ..plain(first) }, Time(0))
        .expect("inserts");
    let at = |seconds| Time(seconds * SECOND);
    assert_eq!(table.expires(id), at(10));
    let pass = |table: &mut FlowTable, side, segment: Tcp, now| {
        table.segment(id, side, &segment, 0).expect("fits");
        table.account(id, side, 40, at(now));
        table.expires(id)
    };
    use Side::{Initiator, Responder};
    assert_eq!(pass(&mut table, Responder, tcp(500, 101, TcpFlags::SYN | TcpFlags::ACK), 1), at(11));
    assert_eq!(pass(&mut table, Initiator, tcp(101, 501, TcpFlags::ACK), 2), at(2 + 301));
    assert_eq!(table.flow(id).class(), Class::TcpEstablished);
    assert_eq!(table.expire(at(200), &mut 10, |_| {}), 0);
    assert_eq!(pass(&mut table, Responder, tcp(501, 101, TcpFlags::RST), 200), at(215));
    assert_eq!(table.expire(Time(at(215).0 - 1), &mut 10, |_| {}), 0);
    let mut seen = None;
    assert_eq!(
        table.expire(at(215), &mut 10, |view| seen = Some((view.tally(Initiator), view.tally(Responder)))),
        1
    );
    assert_eq!(seen, Some((Tally { packets: 1, bytes: 40 }, Tally { packets: 2, bytes: 80 })));
    assert_eq!(table.lookup(&first), None);
}

#[test]
fn new_timeouts_hold_from_the_next_packet() {
    let mut table = table(10);
    let id = table.insert(plain(key(1, 1, 2, 2)), Time(0)).expect("inserts");
    let second = Duration::from_secs(1);
    let all = FlowTimeouts {
        tcp: second,
        tcp_half_open: second,
        tcp_closing: second,
        udp: second,
        icmp: second,
        other: second,
    };
    table.set_timeouts(Timeouts::from(&all));
    assert_eq!(table.expires(id), Time(60 * SECOND));
    table.account(id, Side::Initiator, 40, Time(SECOND));
    assert_eq!(table.expires(id), Time(2 * SECOND));
    assert_eq!(table.expire(Time(2 * SECOND), &mut 1, |_| {}), 1);
}

#[test]
fn expiry_keeps_to_its_budget() {
    let mut table = table(1_000);
    for n in 0..1_000 {
        table.insert(plain(key(n, 1, 2_000, 2)), Time(0)).expect("inserts");
    }
    let mut calls = 0;
    while !table.is_empty() {
        assert!(table.expire(Time(61 * SECOND), &mut 32, |_| {}) <= 32);
        calls += 1;
        assert!(calls < 200);
    }
    assert!(calls >= 1_000 / 32);
}

#[test]
fn counts_beyond_the_hot_fields() {
    let mut table = table(1);
    let id = table.insert(plain(key(1, 1, 2, 2)), Time(0)).expect("inserts");
    // Over 2^36 bytes.
    for _ in 0..1_100_000 {
        table.account(id, Side::Initiator, 65_535, Time(0));
    }
    table.account(id, Side::Responder, 20, Time(0));
    let view = table.view(id);
    assert_eq!(view.tally(Side::Initiator), Tally { packets: 1_100_000, bytes: 1_100_000 * 65_535 });
    assert_eq!(view.tally(Side::Responder), Tally { packets: 1, bytes: 20 });
}

#[test]
fn slices_see_every_flow_once() {
    let mut table = table(50);
    let ids: Vec<_> =
        (0..40).map(|n| table.insert(plain(key(n, 1, 99, 2)), Time(0)).expect("inserts")).collect();
    for id in ids.iter().step_by(3) {
        table.remove(*id);
    }
    let seen: Vec<_> = table.ids();
    let expected: Vec<_> = ids.iter().copied().filter(|id| table.is_live(*id)).collect();
    assert_eq!(seen, expected);
    assert_eq!(table.slice(usize::MAX, usize::MAX).0.count(), 0);
}

/// What the table should be: a map with both keys, a list of flows.
#[derive(Default)]
struct Oracle {
    keys: HashMap<FlowKey, (usize, Side)>,
    flows: HashMap<usize, (FlowId, [FlowKey; 2], u64)>,
    next: usize,
}

impl Oracle {
    fn remove(&mut self, number: usize) {
        if let Some((_, keys, _)) = self.flows.remove(&number) {
            self.keys.retain(|key, _| !keys.contains(key));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(NewFlow),
    Find(FlowKey),
    Touch(FlowKey),
    Remove(FlowKey),
    Wait(u64),
}

/// Keys from so few values that they collide all the time.
fn few_keys() -> impl Strategy<Value = FlowKey> {
    (0u32..4, 0u16..3, 0u32..4, 0u16..3, prop_oneof![Just(protocol::UDP), Just(protocol::ESP)]).prop_map(
        |(src, src_port, dst, dst_port, protocol)| FlowKey { protocol, ..key(src, src_port, dst, dst_port) },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (few_keys(), 0u32..4, 0u16..3).prop_map(|(key, to, port)| Step::Insert(translated(key, to, port))),
        3 => few_keys().prop_map(|key| Step::Insert(plain(key))),
        3 => few_keys().prop_map(Step::Find),
        2 => few_keys().prop_map(Step::Touch),
        1 => few_keys().prop_map(Step::Remove),
        2 => (0u64..20_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn behaves_like_a_map(
        capacity in 1usize..40,
        seed in any::<[u8; 16]>(),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut table = FlowTable::new(capacity, seed, timeouts(), Time(0));
        let mut oracle = Oracle::default();
        let mut now_ms = 0;
        for step in steps {
            let now = Time::from_millis(now_ms);
            match step {
                Step::Insert(new) => {
                    let keys = [new.key, new.answer()];
                    let taken = keys[0] == keys[1] || keys.iter().any(|key| oracle.keys.contains_key(key));
                    let expected = if taken {
                        Err(InsertError::Taken)
                    } else if oracle.flows.len() == capacity {
                        Err(InsertError::Full)
                    } else {
                        Ok(())
                    };
                    let inserted = table.insert(new, now);
                    prop_assert_eq!(inserted.map(|_| ()), expected);
                    if let Ok(id) = inserted {
                        let seconds = if new.key.protocol == protocol::UDP { 60 } else { 30 };
                        oracle.flows.insert(oracle.next, (id, keys, now_ms.next_multiple_of(10) + seconds * 1_000));
                        oracle.keys.insert(keys[0], (oracle.next, Side::Initiator));
                        oracle.keys.insert(keys[1], (oracle.next, Side::Responder));
                        oracle.next += 1;
                    }
                }
                Step::Find(key) => {
                    let expected = oracle.keys.get(&key).map(|(number, side)| (oracle.flows[number].0, *side));
                    prop_assert_eq!(table.lookup(&key), expected);
                }
                Step::Touch(key) => {
                    if let Some((id, side)) = table.lookup(&key) {
                        table.account(id, side, 100, now);
                        let number = oracle.keys[&key].0;
                        let seconds = if key.protocol == protocol::UDP { 60 } else { 30 };
                        oracle.flows.get_mut(&number).expect("known").2 = now_ms.next_multiple_of(10) + seconds * 1_000;
                    }
                }
                Step::Remove(key) => {
                    if let Some((id, _)) = table.lookup(&key) {
                        prop_assert!(table.remove(id));
                        oracle.remove(oracle.keys[&key].0);
                    }
                }
                Step::Wait(ms) => {
                    now_ms += ms;
                    let mut ended = Vec::new();
                    table.expire(Time::from_millis(now_ms), &mut { usize::MAX }, |view| ended.push(view.flow.key(Side::Initiator)));
                    let mut due: Vec<_> = oracle.flows.iter()
                        .filter(|(_, (_, _, deadline))| *deadline <= now_ms)
                        .map(|(number, (_, keys, _))| (*number, keys[0]))
                        .collect();
                    due.sort_by_key(|(_, key)| (key.src, key.src_port, key.dst, key.dst_port, key.protocol));
                    ended.sort_by_key(|key| (key.src, key.src_port, key.dst, key.dst_port, key.protocol));
                    prop_assert_eq!(&ended, &due.iter().map(|(_, key)| *key).collect::<Vec<_>>());
                    for (number, _) in due {
                        oracle.remove(number);
                    }
                }
            }
            prop_assert_eq!(table.len(), oracle.flows.len());
        }
        for (number, (id, keys, _)) in &oracle.flows {
            prop_assert_eq!(table.lookup(&keys[0]), Some((*id, Side::Initiator)));
            prop_assert_eq!(table.lookup(&keys[1]), Some((*id, Side::Responder)), "flow {}", number);
        }
        prop_assert_eq!(table.ids().len(), oracle.flows.len());
    }
}
