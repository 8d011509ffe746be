//! How time is measured: CPU time of the worker's thread, in rounds that alternate with the floor, so that a noisy machine
//! disturbs both alike.

use crate::rig::Rig;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Nanoseconds a packet, over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Least.
    pub(crate) min: f64,
    /// Half the rounds took longer.
    pub(crate) median: f64,
    /// Most.
    pub(crate) max: f64,
}

/// What a scenario cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// Everything: frames made, path, frames freed.
    pub(crate) total_ns: Spread,
    /// Frames made and freed, without the path.
    pub(crate) floor_ns: Spread,
    /// The path alone: median of the rounds' differences.
    pub(crate) path_ns: f64,
    /// Packets measured.
    pub(crate) packets: u64,
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Runs `step` until `packets` went through; nanoseconds of CPU time a packet.
fn time(packets: usize, mut step: impl FnMut() -> usize) -> f64 {
    let start = thread_cpu_ns();
    let mut done = 0;
    while done < packets {
        let count = step();
        if count == 0 {
            break;
        }
        done += count;
    }
    (thread_cpu_ns() - start) as f64 / done.max(1) as f64
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    Spread { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
}

/// Measures a scenario in `rounds` pairs of path and floor of `packets` each, after one round that warms caches up.
pub(crate) fn cost(rig: &mut Rig, rounds: usize, packets: usize) -> Cost {
    time(packets, || rig.step());
    let (mut totals, mut floors, mut paths) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // A B, then B A: a drift of the machine cancels out.
        let (total, floor) = if round % 2 == 0 {
            let total = time(packets, || rig.step());
            (total, time(packets, || rig.floor()))
        } else {
            let floor = time(packets, || rig.floor());
            (time(packets, || rig.step()), floor)
        };
        totals.push(total);
        floors.push(floor);
        paths.push(total - floor);
    }
    Cost {
        total_ns: spread(totals),
        floor_ns: spread(floors),
        path_ns: spread(paths).median,
        packets: (rounds * packets) as u64,
    }
}
