//! A token bucket.

use crate::time::Time;

/// Lets through so many events a second, and so many at once. As a virtual schedule (the generic cell rate algorithm, ITU-T
/// I.371): each event takes its share of time, and none may be further ahead of the clock than the burst.
#[derive(Clone, Copy, Debug)]
pub struct Limiter {
    /// Nanoseconds that an event takes; `None`: nothing passes.
    share: Option<u64>,
    /// How far the schedule may be ahead when another event comes, in nanoseconds.
    ahead: u64,
    /// When everything let through so far would have been through at the steady rate.
    schedule: Time,
}

impl Limiter {
    /// A full bucket of `burst` at `now`, filled with `rate` tokens a second. Nothing passes where either is 0.
    #[must_use]
    pub fn new(rate: u32, burst: u32, now: Time) -> Self {
        let share = 1_000_000_000u64.checked_div(u64::from(rate)).filter(|_| burst > 0);
        let ahead = share.unwrap_or(0) * u64::from(burst.saturating_sub(1));
        Self { share, ahead, schedule: now }
    }

    /// Whether one more would pass at `now`.
    #[inline]
    pub fn is_ready(&self, now: Time) -> bool {
        let mut later = *self;
        later.allow(now)
    }

    /// Whether one more may pass at `now`; takes its token if so.
    #[inline]
    pub fn allow(&mut self, now: Time) -> bool {
        let Some(share) = self.share else { return false };
        let start = self.schedule.max(now);
        if start.0 - now.0 > self.ahead {
            return false;
        }
        self.schedule = Time(start.0.saturating_add(share));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    /// A bucket as told to children: tokens drip in, never more than it holds.
    struct Bucket {
        rate: u64,
        burst: u64,
        /// Tokens times a second in nanoseconds.
        filled: u128,
        last: u64,
    }

    impl Bucket {
        fn allow(&mut self, now: u64) -> bool {
            self.filled += u128::from(now - self.last) * u128::from(self.rate);
            self.filled = self.filled.min(u128::from(self.burst * SECOND));
            self.last = now;
            let may = self.filled >= u128::from(SECOND);
            if may {
                self.filled -= u128::from(SECOND);
            }
            may
        }
    }

    proptest! {
        #[test]
        fn is_a_token_bucket(
            // Rates that divide a second, so that both count alike.
            rate in prop::sample::select(vec![1u32, 2, 8, 100, 1000, 1_000_000]),
            burst in 1u32..20,
            start in 0u64..1 << 60,
            gaps in prop::collection::vec((0u64..3, 0u64..SECOND), 0..200),
        ) {
            let mut limiter = Limiter::new(rate, burst, Time(start));
            let full = u128::from(burst) * u128::from(SECOND);
            let mut bucket = Bucket { rate: rate.into(), burst: burst.into(), filled: full, last: start };
            let mut now = start;
            for (scale, gap) in gaps {
                now += scale * gap / u64::from(rate);
                prop_assert_eq!(limiter.allow(Time(now)), bucket.allow(now));
            }
        }
    }

    #[test]
    fn nothing_passes_a_limit_of_nothing() {
        assert!(!Limiter::new(0, 5, Time(0)).allow(Time(u64::MAX)));
        assert!(!Limiter::new(5, 0, Time(0)).allow(Time(u64::MAX)));
    }

    #[test]
    fn the_end_of_time_is_no_trouble() {
        let mut limiter = Limiter::new(1, 1, Time(u64::MAX));
        assert!(limiter.allow(Time(u64::MAX)));
        assert!(limiter.allow(Time(u64::MAX)));
        assert!(Limiter::new(u32::MAX, u32::MAX, Time(0)).allow(Time(0)));
    }
}
