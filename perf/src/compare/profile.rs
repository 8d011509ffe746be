//! What is told of a contender under load, whatever carries the frames.

use super::goal::Goal;
use super::pairs::{Pairs, Shot};
use super::quiet::Disturbance;
use super::report::{Figure, Row};

/// Loads under which delays are taken, as shares of the lower of both loss-free rates.
pub(crate) const SHARES: [f64; 3] = [0.1, 0.5, 0.9];
/// The delays that are told at each of them.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
const NAMES: [&str; 3] = ["p50", "p99", "p99.9"];

impl Shot {
    /// Of so many figures, for a contender that loses more than this at every rate.
    pub(crate) fn without_rate(figures: usize, loss_max: f64) -> Self {
        Self { figures: vec![f64::NAN; figures], disturbances: vec![Disturbance::Lossy(loss_max)] }
    }
}

/// The lines of pairs whose shots have each of the quantiles, in microseconds, at each of the loads; the goal is for the 99th percentile.
pub(crate) fn delay_rows(
    pairs: &Pairs,
    seed: u64,
    goal: Option<Goal>,
    figure: &dyn Fn(String, &'static str, Option<Goal>) -> Figure,
) -> Vec<Row> {
    let loads = SHARES.into_iter().flat_map(|share| NAMES.map(|name| (share, name)));
    let row = |(index, (share, name)): (usize, (f64, &str))| {
        let what = format!("delay {name} at {:.0} % of loss-free", share * 100.0);
        figure(what, "us", goal.filter(|_| name == "p99")).row(pairs, index, seed)
    };
    loads.enumerate().map(row).collect()
}
