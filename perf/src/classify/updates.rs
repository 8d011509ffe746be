//! Rules that change while headers are looked up: how soon a change is in force, and what a thousand of them a second cost.

use super::bench::{BURST, Plan, timed};
use crate::compare::stats::{Estimate, median};
use nva_dataplane::policy::classifier::classbench::Random;
use nva_dataplane::policy::classifier::{Classifier, Classify, Edit, Linear, Pattern, Revision};
use nva_dataplane::wire::FlowKey;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Changes that are made one after the other.
const CHANGES: usize = 2_000;
/// From one change to the next, where they come steadily.
const EVERY: Duration = Duration::from_millis(1);
/// Rules are built anew once so many have changed.
const REBUILD_AT: usize = 32;
/// Look-ups of a shot last so long.
const SHOT: Duration = Duration::from_millis(300);
/// Headers whose answers are verified after the changes.
const VERIFIED: usize = 500;

/// What changes cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Updates {
    /// CPU time from the wish to change a rule to the change being there for all to take up, in µs: half of the changes took less.
    pub(crate) p50_us: f64,
    /// All but one in a hundred took less.
    pub(crate) p99_us: f64,
    /// A look-up while nothing changes, in ns.
    pub(crate) still_ns: f64,
    /// A look-up while a rule changes every millisecond, in ns.
    pub(crate) changing_ns: f64,
    /// How many times as long it takes then, pair by pair.
    pub(crate) changing_by_still: Estimate,
    /// Changes that had to wait until the rules were built anew.
    pub(crate) waited: u64,
    /// Changes meanwhile.
    pub(crate) changes: u64,
}

/// Where revisions are published. The reader takes the newest up between two bursts, and leaves the one before it to be freed by the writer.
struct Slot {
    generation: AtomicU64,
    revisions: Mutex<Revisions>,
}

#[derive(Default)]
struct Revisions {
    newest: Option<Arc<Revision>>,
    spent: Vec<Arc<Revision>>,
}

impl Slot {
    fn new() -> Self {
        Self { generation: AtomicU64::new(0), revisions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Revisions> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a revision there for the reader; those that nobody has any more are given back.
    fn publish(&self, revision: &Arc<Revision>) -> Vec<Arc<Revision>> {
        let mut revisions = self.lock();
        revisions.newest = Some(Arc::clone(revision));
        self.generation.fetch_add(1, Ordering::Release);
        std::mem::take(&mut revisions.spent)
    }

    /// Takes the newest in place of the reader's, if there is a newer one.
    fn take_up(&self, seen: &mut u64, current: &mut Arc<Revision>) {
        let generation = self.generation.load(Ordering::Acquire);
        if *seen != generation {
            *seen = generation;
            let mut revisions = self.lock();
            if let Some(newest) = revisions.newest.take() {
                revisions.spent.push(std::mem::replace(current, newest));
            }
        }
    }
}

/// A set whose rules change: a rule's ports become those of another rule, in its place.
struct Changing {
    /// The rules as they were in the beginning.
    original: Arc<Classifier>,
    current: Arc<Revision>,
    /// By rule, the number that it has now.
    numbers: Vec<u32>,
    /// What changed since the rules that are being built anew were taken: rules and what they match now.
    since: Vec<(usize, Pattern)>,
    rebuilding: Option<Receiver<Classifier>>,
    random: Random,
}

impl Changing {
    fn new(original: &Arc<Classifier>, seed: u64) -> Self {
        Self {
            original: Arc::clone(original),
            current: Arc::new(Revision::from(Arc::clone(original))),
            numbers: (0..original.patterns().len() as u32).collect(),
            since: Vec::new(),
            rebuilding: None,
            random: Random(seed),
        }
    }

    /// The next change.
    fn draw(&mut self) -> (usize, Pattern) {
        let rules = self.original.patterns();
        let [rule, other] = [(); 2].map(|()| self.random.below(rules.len() as u64) as usize);
        let ports = rules[other].destination_ports.clone();
        (rule, Pattern { destination_ports: ports, ..rules[rule].clone() })
    }

    /// Makes a change; whether there was room for it.
    fn change(&mut self, rule: usize, pattern: Pattern) -> bool {
        let number = self.numbers[rule];
        let add = Edit::Add { pattern, before: Some(number) };
        let Some(next) = self.current.revised(&[add, Edit::Remove { number }]) else { return false };
        self.numbers[rule] = next.newest_number();
        self.current = Arc::new(next);
        true
    }

    /// Begins to build the rules anew, on a thread of its own.
    fn rebuild(&mut self) {
        let (send, receive) = channel();
        let revision = Arc::clone(&self.current);
        // The receiver is gone when the measurement has ended.
        thread::spawn(move || drop(send.send(revision.rebuilt())));
        self.rebuilding = Some(receive);
        self.since.clear();
    }

    /// Takes over rules that were built anew, with what changed meanwhile.
    fn take_over(&mut self, fresh: Classifier) {
        self.rebuilding = None;
        // A rule that changes stays in its place, so that its number is its place again.
        self.numbers = (0..fresh.patterns().len() as u32).collect();
        self.current = Arc::new(Revision::from(Arc::new(fresh)));
        for (rule, pattern) in std::mem::take(&mut self.since) {
            self.change(rule, pattern);
        }
    }

    /// One change among many, with the building anew that they make necessary; whether it had to wait for that.
    fn step(&mut self) -> bool {
        match self.rebuilding.as_ref().map(Receiver::try_recv) {
            Some(Ok(fresh)) => self.take_over(fresh),
            Some(Err(TryRecvError::Disconnected)) => self.rebuilding = None,
            _ => {}
        }
        if self.rebuilding.is_none() && self.current.changes() >= REBUILD_AT {
            self.rebuild();
        }
        let (rule, pattern) = self.draw();
        let mut waited = false;
        while !self.change(rule, pattern.clone()) {
            waited = true;
            match self.rebuilding.take().map(|fresh| fresh.recv()) {
                Some(Ok(fresh)) => self.take_over(fresh),
                _ => self.rebuild(),
            }
        }
        if self.rebuilding.is_some() {
            self.since.push((rule, pattern));
        }
        waited
    }
}

/// Measures changes of a set's rules.
///
/// # Errors
/// An answer that is not the linear search's over the changed rules.
pub(crate) fn measure(
    plan: Plan<'_>,
    classifier: &Arc<Classifier>,
    keys: &[FlowKey],
) -> Result<Updates, String> {
    let (p50_us, p99_us) = one_by_one(plan, classifier, keys)?;
    let slot = Slot::new();
    let (runs, ends) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&slot, Changing::new(classifier, plan.seed), &runs, &ends));
        let read = read(plan, &slot, classifier, keys, &runs);
        ends.store(true, Ordering::Relaxed);
        let (changes, waited) = writer.join().map_err(|_| "the thread that changes rules panicked")?;
        let (still, changing, ratios) = read?;
        let figures = median(&still).zip(median(&changing)).zip(Estimate::of(&ratios, plan.seed));
        let ((still_ns, changing_ns), changing_by_still) = figures.ok_or("no pair was measured")?;
        Ok(Updates { p50_us, p99_us, still_ns, changing_ns, changing_by_still, waited, changes })
    })
}

/// Changes one after the other; half of them, and all but a hundredth, were there for a reader after so many µs of CPU time.
fn one_by_one(plan: Plan<'_>, classifier: &Arc<Classifier>, keys: &[FlowKey]) -> Result<(f64, f64), String> {
    let slot = Slot::new();
    let mut changing = Changing::new(classifier, plan.seed);
    let mut times = Vec::with_capacity(CHANGES);
    while times.len() < CHANGES {
        let (rule, pattern) = changing.draw();
        let before = Arc::clone(&changing.current);
        let (done, ns) =
            timed(|| changing.change(rule, pattern) && slot.publish(&changing.current).is_empty());
        drop(before);
        if done {
            times.push(ns / 1e3);
        } else {
            verify(&changing.current, keys)?;
            changing = Changing::new(classifier, plan.seed + times.len() as u64);
        }
    }
    verify(&changing.current, keys)?;
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

fn verify(revision: &Revision, keys: &[FlowKey]) -> Result<(), String> {
    let (numbers, patterns): (Vec<u32>, Vec<Pattern>) =
        revision.rules().map(|(number, pattern)| (number, pattern.clone())).unzip();
    let linear = Linear::new(&patterns, revision.base().scope());
    let keys = &keys[..keys.len().min(VERIFIED)];
    let mut places = vec![None; keys.len()];
    revision.classify_burst(keys, &mut places);
    for (key, place) in keys.iter().zip(places) {
        let expected = linear.classify(key).map(|place| numbers[place]);
        if place != expected {
            return Err(format!(
                "after changes, to {key:?} the linear search says rule {expected:?}, the revision says {place:?}"
            ));
        }
    }
    Ok(())
}

/// Changes a rule every millisecond while `runs`; how many, and how many of them had to wait.
fn write(slot: &Slot, mut changing: Changing, runs: &AtomicBool, ends: &AtomicBool) -> (u64, u64) {
    let (mut changes, mut waited) = (0, 0);
    let mut next = Instant::now();
    while !ends.load(Ordering::Relaxed) {
        if runs.load(Ordering::Relaxed) {
            waited += u64::from(changing.step());
            changes += 1;
            drop(slot.publish(&changing.current));
        }
        next = Instant::now().max(next + EVERY);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    (changes, waited)
}

/// By pair: ns a look-up while nothing changes, while rules change, and the latter by the former.
type Shots = (Vec<f64>, Vec<f64>, Vec<f64>);

fn read(
    plan: Plan<'_>,
    slot: &Slot,
    classifier: &Arc<Classifier>,
    keys: &[FlowKey],
    runs: &AtomicBool,
) -> Result<Shots, String> {
    let plain = Arc::new(Revision::from(Arc::clone(classifier)));
    let (mut seen, mut current) = (0, Arc::clone(&plain));
    let nothing = Slot::new();
    let mut shot = |changes: bool| {
        let (mut none, mut same) = (0, Arc::clone(&plain));
        let (slot, seen, current) =
            if changes { (slot, &mut seen, &mut current) } else { (&nothing, &mut none, &mut same) };
        runs.store(changes, Ordering::Relaxed);
        let ns = look_up(slot, seen, current, keys);
        runs.store(false, Ordering::Relaxed);
        ns
    };
    shot(true);
    let (mut still, mut changing, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..plan.pairs.min(6) {
        plan.interrupt.check()?;
        let (without, with) = if pair % 2 == 0 {
            let without = shot(false);
            (without, shot(true))
        } else {
            let with = shot(true);
            (shot(false), with)
        };
        still.push(without);
        changing.push(with);
        ratios.push(with / without);
    }
    Ok((still, changing, ratios))
}

/// Looks up until the shot is over; ns of CPU time a look-up.
fn look_up(slot: &Slot, seen: &mut u64, current: &mut Arc<Revision>, keys: &[FlowKey]) -> f64 {
    let end = Instant::now() + SHOT;
    let mut count = 0;
    let mut places = [None; BURST];
    let ((), ns) = timed(|| {
        while Instant::now() < end {
            for burst in keys.chunks(BURST) {
                slot.take_up(seen, current);
                current.classify_burst(burst, &mut places);
                std::hint::black_box(&places);
            }
            count += keys.len();
        }
    });
    ns / count.max(1) as f64
}
