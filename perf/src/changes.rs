//! What rules that change cost the packets: a thousand configurations a second are taken up, each with another rule changed.
//!
//! The configurations are compiled before, one from the other as a reload does, so that what they share and what stands beside the tables
//! is as it would be. Taking one up and what follows from it for the packets is measured; compiling is another thread's.

use crate::compare::stats::{Estimate, median};
use crate::measure::thread_cpu_ns;
use crate::rig::{Rig, Scenario};
use nva_dataplane::snapshot::Snapshot;
use std::iter::Cycle;
use std::slice;
use std::sync::Arc;

/// Different configurations, taken up one after the other and again.
const EDITIONS: usize = 64;
/// From one to the next, in ns.
const EVERY_NS: u64 = 1_000_000;
/// Steps of the path between two looks at the clock.
const STEPS: usize = 8;

/// Measures the scenarios that have rules.
pub(crate) fn run(scenarios: &[&Scenario], rounds: usize, packets: usize, seed: u64) -> Result<(), String> {
    println!(
        "ns of worker CPU time a packet, medians of {rounds} pairs of {packets} packets, seed {seed}; a rule changes every millisecond, or none does"
    );
    println!(
        "{:<16} {:>9} {:>6} {:>8} {:>8} {:>22}",
        "scenario", "flows", "rules", "still", "changing", "rate lost, %  90 %"
    );
    for scenario in scenarios.iter().filter(|scenario| scenario.rules != 0) {
        let mut rig = Rig::new(scenario, seed)?;
        let editions = Rig::editions(scenario, EDITIONS)?;
        let (first, changed) = editions.split_first().ok_or("there is no configuration")?;
        let mut changed = changed.iter().cycle();
        let mut shot = |changed: Option<Changed<'_, '_>>| {
            rig.take_up(first);
            time(&mut rig, packets, changed)
        };
        shot(None);
        let (mut still, mut changing, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let (without, with) = if round % 2 == 0 {
                let without = shot(None);
                (without, shot(Some(&mut changed)))
            } else {
                let with = shot(Some(&mut changed));
                (shot(None), with)
            };
            still.push(without);
            changing.push(with);
            lost.push(100.0 * (1.0 - without / with));
        }
        rig.check(scenario)?;
        let figures = median(&still).zip(median(&changing)).zip(Estimate::of(&lost, seed));
        let ((still, changing), lost) = figures.ok_or("there was no round")?;
        println!(
            "{:<16} {:>9} {:>6} {still:>8.1} {changing:>8.1} {:>8.1}  {:.1}..{:.1}",
            scenario.name, scenario.flows, scenario.rules, lost.median, lost.low, lost.high
        );
    }
    Ok(())
}

/// Configurations to be taken up one after the other.
type Changed<'a, 'b> = &'a mut Cycle<slice::Iter<'b, Arc<Snapshot>>>;

/// Takes packets through the path, and configurations up where there are any; ns of CPU time a packet.
fn time(rig: &mut Rig, packets: usize, mut changed: Option<Changed<'_, '_>>) -> f64 {
    let start = thread_cpu_ns();
    let (mut done, mut next) = (0, start);
    while done < packets {
        let now = thread_cpu_ns();
        if now >= next {
            next += EVERY_NS;
            if let Some(edition) = changed.as_mut().and_then(|changed| changed.next()) {
                rig.take_up(edition);
            }
        }
        done += (0..STEPS).map(|_| rig.step()).sum::<usize>();
    }
    (thread_cpu_ns() - start) as f64 / done.max(1) as f64
}
