//! Two workers against one, and what it costs that a frame comes to the wrong one: two pinned threads over memory ports.

use super::Cores;
use super::crew::{Crew, Order, Work};
use super::goal::Goal;
use super::pairs::{Bench, Pairs, Relation, Shot};
use super::quiet::Disturbance;
use super::report::{Figure, Row};
use std::time::Duration;

/// Of one shot, after as much to warm up as [`super::crew`] gives itself.
const SHOT: Duration = Duration::from_millis(400);
/// A shot in which a worker found nothing to do in more of its turns than this measured waiting, not work.
const IDLE_MAX: f64 = 0.02;

/// Packets that two workers get done in a second of their CPU time each, against one worker that is alone.
pub(crate) fn workers(bench: &mut Bench, cores: Cores) -> Result<Vec<Row>, String> {
    let figure = Figure {
        comparison: "workers",
        what: "two workers against one, 1k flows each".into(),
        unit: "Mpps/CPU",
        relation: Relation::Ratio,
        goal: Some(Goal::AtLeast(1.8)),
    };
    let crew = Crew::hire([cores.worker, cores.generator], bench.seed)?;
    let pairs = Pairs::take(
        bench,
        "workers",
        &mut || {
            let work = crew.work([Order::Own, Order::Own], SHOT)?;
            let capacity = work.iter().map(|worker| 1e3 / worker.ns_a_packet()).sum();
            Ok(Shot { figures: vec![capacity], disturbances: disturbances(&work) })
        },
        &mut || {
            let work = crew.work([Order::Own, Order::Rest], SHOT)?;
            Ok(Shot { figures: vec![1e3 / work[0].ns_a_packet()], disturbances: disturbances(&work[..1]) })
        },
    )?;
    crew.check()?;
    Ok(vec![figure.row(&pairs, 0, bench.seed)])
}

/// Nanoseconds of CPU time, of both workers together, that a frame costs more when it has to be handed over.
pub(crate) fn handover(bench: &mut Bench, cores: Cores) -> Result<Vec<Row>, String> {
    let figure = Figure {
        comparison: "handover",
        what: "each frame handed over against none".into(),
        unit: "ns",
        relation: Relation::Difference,
        goal: Some(Goal::AtMost(30.0)),
    };
    let crew = Crew::hire([cores.worker, cores.generator], bench.seed)?;
    let shot = |order| {
        let work = crew.work([order; 2], SHOT)?;
        let ran: u64 = work.iter().map(|worker| worker.cpu_ns).sum();
        let packets: u64 = work.iter().map(|worker| worker.packets).sum();
        Ok(Shot { figures: vec![ran as f64 / packets.max(1) as f64], disturbances: disturbances(&work) })
    };
    let pairs = Pairs::take(bench, "handover", &mut || shot(Order::Others), &mut || shot(Order::Own))?;
    crew.check()?;
    Ok(vec![figure.row(&pairs, 0, bench.seed)])
}

fn disturbances(work: &[Work]) -> Vec<Disturbance> {
    let idle = work.iter().map(Work::idle_share).fold(0.0, f64::max);
    let mut found: Vec<Disturbance> = work.iter().flat_map(|worker| worker.interval.disturbances()).collect();
    found.extend((idle > IDLE_MAX).then_some(Disturbance::Idle(idle)));
    found
}
