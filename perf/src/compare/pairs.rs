//! Two contenders in turn, A B B A, so that a drift of the machine meets both alike; pairs that were disturbed do not count.

use super::interrupt::Interrupt;
use super::plan::spoken;
use super::quiet::{Canary, Disturbance};
use super::report;
use super::stats::{Estimate, median};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What one shot showed.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// One figure for each of the comparison's.
    pub(crate) figures: Vec<f64>,
    /// What disturbed it.
    pub(crate) disturbances: Vec<Disturbance>,
}

/// What is common to all comparisons.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Pairs that are to count.
    pub(crate) pairs: usize,
    /// Fixes every random choice.
    pub(crate) seed: u64,
    /// The operator's wish to stop.
    pub(crate) interrupt: Interrupt,
    /// Tells whether the machine stayed the same.
    pub(crate) canary: Canary,
    /// How long it may still wait for a calmer machine, all in all.
    pub(crate) patience: Duration,
    /// When the comparison began that is being taken.
    pub(crate) begun: Instant,
    /// How long it takes as a rule.
    pub(crate) expected: Duration,
    /// No pair is begun after this.
    pub(crate) until: Instant,
}

/// The canary is asked so often whether the machine is calm.
const ASK_EVERY: Duration = Duration::from_millis(500);

impl Bench {
    /// Shows on a terminal what is being done.
    pub(crate) fn progress(&self, what: &str) {
        let (gone, all) = (spoken(self.begun.elapsed()), spoken(self.expected));
        report::progress(&format!("[{gone} of about {all}] {what}"));
    }

    /// Waits until the worker's core is free, as long as there is patience left; whether it is. It is judged before a pair is taken, by
    /// nothing that a pair shows.
    fn wait_for_calm(&mut self, what: &str) -> Result<bool, String> {
        loop {
            self.interrupt.check()?;
            if self.canary.is_undisturbed()? {
                return Ok(true);
            }
            if self.patience.is_zero() {
                return Ok(false);
            }
            self.progress(&format!("{what}: waits for a calmer machine, {} at most", spoken(self.patience)));
            let wait = ASK_EVERY.min(self.patience);
            self.interrupt.sleep(wait)?;
            self.patience -= wait;
        }
    }
}

/// How a pair's two figures become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Relation {
    /// Ours by the peer's.
    Ratio,
    /// Ours less the peer's.
    Difference,
    /// Ours alone; the peer's stands beside it.
    Ours,
}

impl Relation {
    fn of(self, ours: f64, peer: f64) -> f64 {
        match self {
            Self::Ratio => ours / peer,
            Self::Difference => ours - peer,
            Self::Ours => ours,
        }
    }
}

/// What a comparison showed for one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Compared {
    /// Median of ours.
    pub(crate) ours: f64,
    /// Median of the peer's.
    pub(crate) peer: f64,
    /// The pairs' relation.
    pub(crate) relation: Estimate,
}

/// A pair as it was taken.
#[derive(Clone, Debug)]
struct Pair {
    /// The figures of both sides, ours first.
    sides: [Vec<f64>; 2],
    /// Why it does not count.
    disturbances: Vec<Disturbance>,
}

/// A pair's figures of one kind, for whoever wants to see them all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Taken {
    ours: f64,
    peer: f64,
    /// Empty where it counts.
    void_because: Vec<String>,
}

/// All pairs of a comparison.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs {
    all: Vec<Pair>,
}

impl Pairs {
    /// Takes pairs until enough count, twice as many were tried, or the comparison's time is over. Each begins when the machine is calm.
    ///
    /// # Errors
    /// What a shot fails with, and the operator's wish to stop.
    pub(crate) fn take(
        bench: &mut Bench,
        what: &str,
        ours: &mut dyn FnMut() -> Result<Shot, String>,
        peer: &mut dyn FnMut() -> Result<Shot, String>,
    ) -> Result<Self, String> {
        let mut pairs = Self::default();
        for attempt in 0..2 * bench.pairs {
            let (good, void) = pairs.counts();
            if good == bench.pairs || Instant::now() >= bench.until {
                break;
            }
            bench.progress(&format!("{what}: pair {} of {}, {void} void", good + 1, bench.pairs));
            bench.wait_for_calm(what)?;
            let is_first = attempt % 2 == 0;
            let before = bench.canary.sing();
            let first = if is_first { ours()? } else { peer()? };
            bench.interrupt.check()?;
            let middle = bench.canary.sing();
            let second = if is_first { peer()? } else { ours()? };
            let after = bench.canary.sing();
            let changes = before.between(middle).disturbances(middle.between(after));
            let (ours, peer) = if is_first { (first, second) } else { (second, first) };
            pairs.add(ours, peer, &changes);
        }
        report::progress("");
        Ok(pairs)
    }

    /// Puts a pair to the others, void where anything disturbed it.
    pub(crate) fn add(&mut self, ours: Shot, peer: Shot, changes: &[Disturbance]) {
        let disturbances = [&ours.disturbances[..], &peer.disturbances, changes].concat();
        self.all.push(Pair { sides: [ours.figures, peer.figures], disturbances });
    }

    /// Pairs that count, and those that do not.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let good = self.all.iter().filter(|pair| pair.disturbances.is_empty()).count();
        (good, self.all.len() - good)
    }

    /// Why pairs are void: the largest disturbance of each kind, as one sentence; empty when none is.
    pub(crate) fn reasons(&self) -> String {
        let mut largest: Vec<Disturbance> = Vec::new();
        for reason in self.all.iter().flat_map(|pair| &pair.disturbances) {
            let kind = std::mem::discriminant(reason);
            match largest.iter_mut().find(|known| std::mem::discriminant(*known) == kind) {
                Some(known) if known.share().abs() < reason.share().abs() => *known = *reason,
                Some(_) => {}
                None => largest.push(*reason),
            }
        }
        let list: Vec<String> = largest.iter().map(ToString::to_string).collect();
        list.join(", ")
    }

    /// Every pair's figure `index`, also of void ones.
    pub(crate) fn taken(&self, index: usize) -> Vec<Taken> {
        let taken = |pair: &Pair| {
            let [ours, peer] = [0, 1].map(|side| pair.sides[side].get(index).copied());
            let void_because = pair.disturbances.iter().map(ToString::to_string).collect();
            Some(Taken { ours: ours?, peer: peer?, void_because })
        };
        self.all.iter().filter_map(taken).collect()
    }

    /// What the pairs say of figure `index`; `None` when there is no result: more than half of the pairs are void.
    pub(crate) fn compare(&self, index: usize, relation: Relation, seed: u64) -> Option<Compared> {
        let (good, void) = self.counts();
        if good < void {
            return None;
        }
        let good = || self.all.iter().filter(|pair| pair.disturbances.is_empty());
        let column = |side: usize| -> Option<Vec<f64>> {
            good().map(|pair| pair.sides[side].get(index).copied()).collect()
        };
        let (ours, peer) = (column(0)?, column(1)?);
        let relations: Vec<f64> = ours.iter().zip(&peer).map(|(o, p)| relation.of(*o, *p)).collect();
        Some(Compared {
            ours: median(&ours)?,
            peer: median(&peer)?,
            relation: Estimate::of(&relations, seed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(pairs: usize) -> Bench {
        Bench {
            pairs,
            seed: 1,
            interrupt: Interrupt::default(),
            canary: Canary::new(1),
            patience: Duration::ZERO,
            begun: Instant::now(),
            expected: Duration::ZERO,
            until: Instant::now() + Duration::from_secs(60),
        }
    }

    fn shot(figure: f64, disturbances: &[Disturbance]) -> Shot {
        Shot { figures: vec![figure], disturbances: disturbances.to_vec() }
    }

    #[test]
    fn contenders_alternate() {
        let order = std::cell::RefCell::new(String::new());
        let say = |name: char| {
            order.borrow_mut().push(name);
            Ok(shot(1.0, &[Disturbance::Waited(0.5)]))
        };
        let pairs = Pairs::take(&mut bench(2), "test", &mut || say('A'), &mut || say('B'));
        assert_eq!(pairs.unwrap().counts(), (0, 4));
        assert_eq!(*order.borrow(), "ABBAABBA");
    }

    #[test]
    fn no_pair_begins_when_the_time_is_over() {
        let mut bench = bench(2);
        bench.until = Instant::now();
        let mut none = || -> Result<Shot, String> { unreachable!("there is no time") };
        let pairs = Pairs::take(&mut bench, "test", &mut none, &mut || unreachable!("there is no time"));
        assert_eq!(pairs.unwrap().counts(), (0, 0));
    }

    #[test]
    fn relations_are_of_pairs() {
        let mut pairs = Pairs::default();
        // The machine halves its speed in the middle: ratios do not notice.
        for scale in [1.0, 1.0, 2.0, 2.0] {
            pairs.add(shot(3.0 * scale, &[]), shot(2.0 * scale, &[]), &[]);
        }
        let ratio = pairs.compare(0, Relation::Ratio, 1).unwrap();
        assert_eq!((ratio.ours, ratio.peer), (4.5, 3.0));
        assert_eq!(ratio.relation, Estimate { low: 1.5, median: 1.5, high: 1.5 });
        let difference = pairs.compare(0, Relation::Difference, 1).unwrap();
        assert!((difference.relation.median - 1.5).abs() < 1e-9);
        assert_eq!(pairs.compare(1, Relation::Ratio, 1), None, "there is no such figure");
    }

    #[test]
    fn void_pairs_do_not_count_and_too_many_leave_no_result() {
        let mut pairs = Pairs::default();
        pairs.add(shot(1.0, &[]), shot(1.0, &[]), &[]);
        pairs.add(shot(9.0, &[Disturbance::Stolen(0.2)]), shot(1.0, &[]), &[]);
        assert_eq!(pairs.compare(0, Relation::Ratio, 1).unwrap().relation.median, 1.0);
        pairs.add(shot(9.0, &[]), shot(1.0, &[]), &[Disturbance::Stolen(0.3)]);
        assert_eq!(pairs.counts(), (1, 2));
        assert_eq!(pairs.compare(0, Relation::Ratio, 1), None);
        assert_eq!(pairs.reasons(), "stolen by the hypervisor 30.0 %");
    }
}
