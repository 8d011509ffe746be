//! One set, measured: ours and its peer in turn, A B B A, by CPU time of this thread.

use crate::compare::Interrupt;
use crate::compare::stats::{Estimate, median};
use crate::measure::thread_cpu_ns;
use nva_dataplane::policy::classifier::{Classifier, Classify};
use nva_dataplane::wire::FlowKey;
use serde::Serialize;

/// Headers that are looked up together.
pub(crate) const BURST: usize = 32;
/// Headers of the hot loop, at most.
pub(crate) const HOT: usize = 10_000;
/// A shot has so many look-ups at least.
const SHOT: usize = 1_000_000;

/// What a look-up costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    /// Ours, in ns.
    pub(crate) nva_ns: f64,
    /// Against the peer.
    pub(crate) rte_acl: Option<Against>,
}

/// The peer, and how often it is slower.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Against {
    /// The peer's, in ns.
    pub(crate) ns: f64,
    /// The peer's time by ours, pair by pair: above 1, ours has the higher rate.
    pub(crate) rate: Estimate,
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// Pairs of shots.
    pub(crate) pairs: usize,
    /// Fixes the samples of the intervals.
    pub(crate) seed: u64,
    pub(crate) interrupt: &'a Interrupt,
}

/// Runs `work`; what it gave, and the CPU time that it took, in ns.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = thread_cpu_ns();
    let outcome = work();
    (outcome, (thread_cpu_ns() - start) as f64)
}

/// Looks all up in bursts.
pub(crate) fn look_up(classifier: &Classifier, keys: &[FlowKey]) {
    let mut places = [None; BURST];
    for burst in keys.chunks(BURST) {
        classifier.classify_burst(burst, &mut places);
        std::hint::black_box(&places);
    }
}

/// Measures the headers, again and again where they are few, beside the peer if there is one.
pub(crate) fn cost(
    plan: Plan<'_>,
    count: usize,
    mut ours: impl FnMut(),
    mut peer: Option<impl FnMut()>,
) -> Result<Cost, String> {
    let passes = SHOT.div_ceil(count.max(1));
    let total = (passes * count) as f64;
    let (mut own, mut others, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    ours();
    if let Some(peer) = &mut peer {
        peer();
    }
    for pair in 0..plan.pairs {
        plan.interrupt.check()?;
        let shot = |work: &mut dyn FnMut()| timed(|| (0..passes).for_each(|_| work())).1 / total;
        let Some(peer) = &mut peer else {
            own.push(shot(&mut ours));
            continue;
        };
        let (own_ns, peer_ns) = if pair % 2 == 0 {
            let own_ns = shot(&mut ours);
            (own_ns, shot(peer))
        } else {
            let peer_ns = shot(peer);
            (shot(&mut ours), peer_ns)
        };
        own.push(own_ns);
        others.push(peer_ns);
        ratios.push(peer_ns / own_ns);
    }
    let rte_acl =
        median(&others).zip(Estimate::of(&ratios, plan.seed)).map(|(ns, rate)| Against { ns, rate });
    Ok(Cost { nva_ns: median(&own).unwrap_or(f64::NAN), rte_acl })
}
