//! What is told of a contender under load, whatever carries the frames.

use super::goal::Goal;
use super::pairs::{Bench, Pairs, Shot};
use super::quiet::Disturbance;
use super::report::{Figure, Row};

/// Loads under which delays are taken, as shares of the lower of both loss-free rates.
const SHARES: [f64; 3] = [0.1, 0.5, 0.9];
/// The delays that are told at each of them.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
const NAMES: [&str; 3] = ["p50", "p99", "p99.9"];

impl Shot {
    /// Of so many figures, for a contender that loses more than this at every rate.
    pub(crate) fn without_rate(figures: usize, loss_max: f64) -> Self {
        Self { figures: vec![f64::NAN; figures], disturbances: vec![Disturbance::Lossy(loss_max)] }
    }
}

/// Takes delays at each of the loads, in pairs of their own, so that what disturbs one load leaves the others as they are. A shot has each of the
/// quantiles, in microseconds; the goal is for the 99th percentile.
pub(crate) fn delays(
    bench: &mut Bench,
    what: &str,
    goal: Option<Goal>,
    figure: &dyn Fn(String, &'static str, Option<Goal>) -> Figure,
    ours: &mut dyn FnMut(f64) -> Result<Shot, String>,
    peer: &mut dyn FnMut(f64) -> Result<Shot, String>,
) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for share in SHARES {
        let load = format!("{what}, delays at {:.0} %", share * 100.0);
        let pairs = Pairs::take(bench, &load, &mut || ours(share), &mut || peer(share))?;
        rows.extend(NAMES.into_iter().enumerate().map(|(index, name)| {
            let what = format!("delay {name} at {:.0} % of loss-free", share * 100.0);
            figure(what, "us", goal.filter(|_| name == "p99")).row(&pairs, index, bench.seed)
        }));
    }
    Ok(rows)
}
