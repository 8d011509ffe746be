//! The rate of a flood, in the units of its program.

/// Fractions of a nanosecond in which the program counts: at 5 million a second an interval is right to 0.02 %.
pub(super) const FRACTION_BITS: i32 = 8;
/// So many frames that are late are caught up with, half of what a veth queues; further ones are left out.
const CATCH_UP: f64 = 128.0;
/// Not further behind than this, in nanoseconds, however slow.
const LAG_MAX_NS: f64 = 5e6;

/// A rate as the program takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Fractions of a nanosecond from one frame to the next; 0 sends none.
    pub(super) interval: u64,
    /// How far behind it may be.
    pub(super) lag_max: u64,
}

impl Pace {
    /// Sends nothing.
    pub(super) const PAUSE: Self = Self { interval: 0, lag_max: 0 };
    /// As fast as it can.
    pub(super) const FULL: Self = Self { interval: 1, lag_max: u64::MAX };

    /// So many frames a second.
    pub(super) fn per_second(rate: f64) -> Self {
        let unit = f64::from(1u32 << FRACTION_BITS);
        let interval = (1e9 * unit / rate.max(1e-3)).round().max(1.0);
        Self { interval: interval as u64, lag_max: (interval * CATCH_UP).min(LAG_MAX_NS * unit) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_exact_enough() {
        assert_eq!(Pace::per_second(1e6), Pace { interval: 256_000, lag_max: 128 * 256_000 });
        let fast = Pace::per_second(5e6);
        assert_eq!(fast.interval, 51_200);
        assert_eq!(Pace::per_second(10.0).lag_max, 5_000_000 * 256);
        assert!(Pace::per_second(0.0).interval > 0);
    }
}
