//! What a comparison is held to.

use super::stats::Estimate;
use serde::Serialize;

/// A bound for a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
}

/// How a figure stands to its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// The whole interval is on the good side.
    Met,
    /// The whole interval is on the bad side.
    Missed,
    /// The goal is within the interval.
    Open,
}

impl Goal {
    /// How an estimate stands to it.
    pub(crate) fn standing(self, estimate: &Estimate) -> Standing {
        match (self.is_met(estimate.low), self.is_met(estimate.high)) {
            (true, true) => Standing::Met,
            (false, false) => Standing::Missed,
            _ => Standing::Open,
        }
    }

    /// Whether a figure meets it.
    pub(crate) fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(bound) => figure <= bound,
            Self::AtLeast(bound) => figure >= bound,
        }
    }

    /// As in a table.
    pub(crate) fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::AtLeast(bound) => format!(">= {bound}"),
        }
    }
}

impl Standing {
    /// As in a table.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Open => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_interval_meets_or_misses() {
        let estimate = Estimate { low: 0.9, median: 1.0, high: 1.1 };
        for (goal, standing) in [
            (Goal::AtMost(1.1), Standing::Met),
            (Goal::AtMost(1.0), Standing::Open),
            (Goal::AtMost(0.8), Standing::Missed),
            (Goal::AtLeast(0.9), Standing::Met),
            (Goal::AtLeast(1.0), Standing::Open),
            (Goal::AtLeast(1.2), Standing::Missed),
        ] {
            assert_eq!(goal.standing(&estimate), standing, "{goal:?}");
        }
    }
}
