//! What a list of figures says: its median, and between which bounds the median of more of them would probably lie.

use crate::traffic::Random;
use serde::Serialize;

/// Samples drawn for an interval.
const RESAMPLES: usize = 2_000;
/// The share of them that lies within.
const CONFIDENCE: f64 = 0.90;

/// A median with the bounds of its 90 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    /// Lower bound.
    pub(crate) low: f64,
    /// Half the figures are larger.
    pub(crate) median: f64,
    /// Upper bound.
    pub(crate) high: f64,
}

impl Estimate {
    /// The estimate from these figures; `None` when there is none. The seed fixes which samples are drawn.
    pub(crate) fn of(figures: &[f64], seed: u64) -> Option<Self> {
        let middle = median(figures)?;
        let mut random = Random(seed);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let sample: Vec<f64> =
                    (0..figures.len()).map(|_| figures[random.below(figures.len())]).collect();
                median(&sample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let outside = (1.0 - CONFIDENCE) / 2.0;
        Some(Self {
            low: quantile(&medians, outside)?,
            median: middle,
            high: quantile(&medians, 1.0 - outside)?,
        })
    }
}

/// The middle figure, or the mean of the two in the middle.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(half.checked_sub(1)?).map(|lower| f64::midpoint(*lower, upper))
}

/// The figure below which this share of the sorted list lies.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((share * last as f64).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn equal_figures_leave_no_doubt() {
        let estimate = Estimate::of(&[1.5; 8], 1);
        assert_eq!(estimate, Some(Estimate { low: 1.5, median: 1.5, high: 1.5 }));
        assert_eq!(Estimate::of(&[], 1), None);
    }

    #[test]
    fn the_interval_holds_the_median_of_nine_in_ten_samples() {
        // Figures spread evenly over 0..1, whose median is 0.5.
        let mut random = Random(5);
        let trials = 400;
        let held = (0..trials)
            .filter(|trial| {
                let figures: Vec<f64> = (0..15).map(|_| random.below(1_000_000) as f64 / 1e6).collect();
                Estimate::of(&figures, *trial).is_some_and(|e| e.low <= 0.5 && 0.5 <= e.high)
            })
            .count();
        assert!((340..=392).contains(&held), "{held} of {trials}");
    }

    #[test]
    fn one_wild_figure_moves_neither_median_nor_bounds_to_itself() {
        let estimate = Estimate::of(&[1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.0, 50.0], 3).unwrap();
        assert!(estimate.low >= 0.98 && estimate.high < 1.1, "{estimate:?}");
    }
}
