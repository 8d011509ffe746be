//! Short shots without a search: what goes through under full load, and what a packet costs near that.

use super::pairs::{Bench, Pairs, Shot};
use super::road::{Load, Road};
use std::time::Duration;

/// A window of a shot.
const WINDOW: Duration = Duration::from_millis(500);
/// The load under which CPU time is taken, of what goes through at most: a worker that waits polls.
pub(crate) const NEAR_FULL: f64 = 0.9;

/// What goes through under full load, in thousands a second, and thousands of packets for a second of CPU time near that.
fn shot(road: &Road) -> Result<Shot, String> {
    road.drive(|drive| {
        let full = drive.window(Load::Full, WINDOW)?;
        if full.arrived == 0 {
            return Err(format!("{}: nothing goes through under full load", road.contender().name()));
        }
        let near = drive.window(Load::Rate(NEAR_FULL * full.kpps() * 1e3), WINDOW)?;
        let figures = vec![full.kpps(), 1e6 / near.ns_a_packet()];
        let disturbances = [full.disturbances(), near.disturbances()].concat();
        Ok(Shot { figures, disturbances })
    })
}

/// Pairs of such shots.
pub(crate) fn pairs(bench: &mut Bench, what: &str, ours: &Road, peer: &Road) -> Result<Pairs, String> {
    Pairs::take(bench, what, &mut || shot(ours), &mut || shot(peer))
}
