//! The wheel against a sorted list of deadlines.

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

const FLOWS: u32 = 24;

/// Flows taken out at once: not as many as there can be in a list.
const TOGETHER: usize = 3;

/// Takes out what is over at tick `now`, within the budget; what lives on is put in anew.
fn sweep(wheel: &mut Wheel, now: u64, budget: &mut usize, deadline: impl Fn(u32) -> u32) -> Vec<u32> {
    let mut over = Vec::new();
    loop {
        let (mut taken, told) = (ArrayVec::<u32, TOGETHER>::new(), RefCell::new(Vec::new()));
        wheel.take(now, budget, &mut taken, |flow| told.borrow_mut().push(flow));
        assert_eq!(*told.borrow(), *taken);
        if taken.is_empty() {
            return over;
        }
        for flow in taken {
            match wheel.is_over(deadline(flow)) {
                true => over.push(flow),
                false => wheel.insert(flow, deadline(flow)),
            }
        }
    }
}

/// A wheel, and beside it the deadlines as ticks that do not wrap.
struct Pair {
    wheel: Wheel,
    deadlines: Vec<u32>,
    oracle: BTreeMap<u32, u64>,
    now: u64,
}

impl Pair {
    fn new(start: u64) -> Self {
        let wheel = Wheel::new(FLOWS as usize, start);
        Self { wheel, deadlines: vec![0; FLOWS as usize], oracle: BTreeMap::new(), now: start }
    }

    /// A tick that was swept already is over: what is due then is due in the next one.
    fn tick_after(&self, delay: u32) -> u64 {
        (self.now + u64::from(delay)).max(self.wheel.position)
    }

    fn insert(&mut self, flow: u32, delay: u32) {
        let deadline = self.tick_after(delay);
        self.deadlines[flow as usize] = deadline as u32;
        if self.oracle.insert(flow, deadline).is_some() {
            // Later than before: the wheel is not told. Earlier: it is.
            self.wheel.remove(flow);
        }
        self.wheel.insert(flow, deadline as u32);
    }

    fn postpone(&mut self, flow: u32, delay: u32) {
        let deadline = self.tick_after(delay);
        if let Some(before) = self.oracle.get_mut(&flow).filter(|before| **before <= deadline) {
            *before = deadline;
            self.deadlines[flow as usize] = deadline as u32;
        }
    }

    fn remove(&mut self, flow: u32) {
        self.oracle.remove(&flow);
        self.wheel.remove(flow);
    }

    /// Goes forward, in calls of at most `budget`; checks that exactly the due flows come out, the ticks in order.
    fn advance(&mut self, by: u64, budget: usize) -> usize {
        self.now += by;
        let mut out = Vec::new();
        for _ in 0..10_000 {
            let mut left = budget;
            out.extend(sweep(&mut self.wheel, self.now, &mut left, |flow| self.deadlines[flow as usize]));
            if self.wheel.position > self.now {
                break;
            }
            assert_eq!(left, 0, "stopped before the budget was used");
        }
        assert_eq!(self.wheel.position, self.now + 1, "bounded number of calls");
        let ticks: Vec<u64> = out.iter().map(|flow| self.oracle[flow]).collect();
        assert!(ticks.is_sorted(), "{ticks:?}");
        let mut expected: Vec<u32> =
            self.oracle.iter().filter(|(_, tick)| **tick <= self.now).map(|(flow, _)| *flow).collect();
        self.oracle.retain(|_, tick| *tick > self.now);
        let count = out.len();
        out.sort_unstable();
        expected.sort_unstable();
        assert_eq!(out, expected);
        let bound = self.wheel.next_event();
        match self.oracle.values().min() {
            Some(first) => assert!(bound.is_some_and(|bound| bound > self.now && bound <= *first)),
            None => assert_eq!(bound, None),
        }
        count
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, u32),
    Postpone(u32, u32),
    Remove(u32),
    Advance(u64, usize),
}

/// Delays of every magnitude up to the longest.
fn delay() -> impl Strategy<Value = u32> {
    (0u32..=30, any::<u32>()).prop_map(|(bits, random)| random % (1 << bits) + u32::from(bits == 30))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..FLOWS, delay()).prop_map(|(flow, delay)| Step::Insert(flow, delay)),
        3 => (0..FLOWS, delay()).prop_map(|(flow, delay)| Step::Postpone(flow, delay)),
        1 => (0..FLOWS).prop_map(Step::Remove),
        4 => (delay(), 1usize..8).prop_map(|(by, budget)| Step::Advance(u64::from(by), budget)),
    ]
}

/// Positions right before every kind of carry, the wrap of 32 bits among them.
fn start() -> impl Strategy<Value = u64> {
    (prop_oneof![Just(8u32), Just(16), Just(24), Just(32), Just(33)], 1u64..4, 0u64..300)
        .prop_map(|(bits, times, less)| (times << bits).saturating_sub(less))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pops_what_is_due_and_nothing_else(start in start(), steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new(start);
        for step in steps {
            match step {
                Step::Insert(flow, delay) => pair.insert(flow, delay),
                Step::Postpone(flow, delay) => pair.postpone(flow, delay),
                Step::Remove(flow) => pair.remove(flow),
                Step::Advance(by, budget) => { pair.advance(by, budget); }
            }
        }
        pair.advance(1 << 31, 3);
        prop_assert!(pair.oracle.is_empty());
    }
}

#[test]
fn every_delay_is_kept_to_the_tick_across_the_wrap() {
    for start in [(1 << 32) - 300, (1 << 32) - 70_000, (3 << 32) - (1 << 24) - 5] {
        for delay in [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 1 << 24, (1 << 24) + 1, 1 << 30] {
            let mut pair = Pair::new(start);
            pair.insert(0, delay);
            if delay > 0 {
                assert_eq!(pair.advance(u64::from(delay) - 1, 1), 0, "{start} {delay}");
                assert_eq!(pair.advance(1, 1), 1, "{start} {delay}");
            } else {
                assert_eq!(pair.advance(0, 1), 1);
            }
        }
    }
}

#[test]
fn a_jump_of_years_over_nothing_is_one_step() {
    let mut wheel = Wheel::new(1, 5);
    let mut budget = 0;
    assert_eq!(sweep(&mut wheel, 1 << 40, &mut budget, |_| 0), [0; 0]);
    assert_eq!(wheel.position, (1 << 40) + 1);
    assert_eq!(wheel.next_event(), None);
}

#[test]
fn a_deadline_in_the_past_is_due_at_once() {
    let mut pair = Pair::new(1_000);
    assert_eq!(pair.advance(10, 1), 0);
    pair.deadlines[3] = 500;
    pair.wheel.insert(3, 500);
    let mut budget = 1;
    assert_eq!(sweep(&mut pair.wheel, 1_011, &mut budget, |_| 1_011), [3]);
}

#[test]
fn the_budget_counts_flows_that_live_on() {
    let mut pair = Pair::new(0);
    for flow in 0..10 {
        pair.insert(flow, 5);
        pair.postpone(flow, 100);
    }
    pair.now = 5;
    let mut budget = 4;
    assert_eq!(sweep(&mut pair.wheel, 5, &mut budget, |flow| pair.deadlines[flow as usize]), [0; 0]);
    assert_eq!((budget, pair.wheel.position), (0, 5));
    let mut budget = 7;
    assert_eq!(sweep(&mut pair.wheel, 5, &mut budget, |flow| pair.deadlines[flow as usize]), [0; 0]);
    assert_eq!((budget, pair.wheel.position), (1, 6));
}

#[test]
fn removing_twice_is_harmless() {
    let mut pair = Pair::new(0);
    for flow in 0..3 {
        pair.insert(flow, 9);
    }
    pair.remove(1);
    pair.remove(1);
    assert_eq!(pair.advance(9, 5), 2);
}
