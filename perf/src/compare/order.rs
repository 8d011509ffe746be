//! What the generator of [`super::memif`] is asked, and what it answers: one line of JSON each.

use super::quiet::Disturbance;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A generator that left out more than this share of what it was to send was held up itself.
const LEFT_OUT_MAX: f64 = 0.03;

/// Frames at one rate for a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Frames a second.
    pub(crate) rate: f64,
    /// How long to send before anything is measured.
    pub(crate) warm_up: Duration,
    /// How long to send what is measured.
    pub(crate) time: Duration,
}

/// What became of the frames that were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Frames that were due and that the generator could send, whether the ring had room for them or not.
    pub(crate) offered: u64,
    /// Those among them that the ring had no room for.
    pub(crate) refused: u64,
    /// Those that came back.
    pub(crate) arrived: u64,
    /// Frames that were due and that the generator, being held up, did not send.
    pub(crate) left_out: u64,
    /// Frames that came back before one that was sent earlier.
    pub(crate) disordered: u64,
    /// How long they were sent for.
    pub(crate) seconds: f64,
    /// The delays in nanoseconds that half, 99 % and 99.9 % of the frames did not exceed, from when they were due; none without frames.
    pub(crate) delays_ns: Option<[f64; 3]>,
    /// What is wrong with a frame that came back.
    pub(crate) wrong: Option<String>,
}

impl Outcome {
    /// Share of the frames offered that did not come back.
    pub(crate) fn lost(&self) -> f64 {
        1.0 - self.arrived as f64 / self.offered.max(1) as f64
    }

    /// Frames a second that came back.
    pub(crate) fn rate(&self) -> f64 {
        self.arrived as f64 / self.seconds
    }

    /// That the generator itself was held up, where it was.
    pub(crate) fn disturbance(&self) -> Option<Disturbance> {
        let due = self.offered + self.left_out;
        let short = self.left_out as f64 / due.max(1) as f64;
        (short > LEFT_OUT_MAX).then_some(Disturbance::Offered(short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_offered_can_be_lost() {
        let outcome =
            Outcome { offered: 1000, arrived: 990, left_out: 20, seconds: 0.5, ..Outcome::default() };
        assert!((outcome.lost() - 0.01).abs() < 1e-9);
        assert_eq!(outcome.rate(), 1980.0);
        assert_eq!(outcome.disturbance(), None);
        let short = Outcome { left_out: 1000, ..outcome };
        assert_eq!(short.disturbance(), Some(Disturbance::Offered(0.5)));
    }
}
