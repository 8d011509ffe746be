//! Connections that an appliance before this one had spliced, and that nobody knows any more: what one end says can no longer be told to
//! the other. The sender of such a segment is reset, as one that does not exist would do it (RFC 9293, 3.10.7.1), so that nobody waits.
//!
//! Segments without a connection are forged more often than orphaned, and whoever answers each of them is a reflector. So there are resets
//! only as long after a start as such connections may last, and few a second.

use crate::host::Limiter;
use crate::time::Time;

/// When a segment that no connection is known for is answered with a reset.
#[derive(Clone, Copy, Debug)]
pub struct Orphans {
    until: Time,
    limiter: Limiter,
}

impl Orphans {
    /// There was no appliance before this one: nobody is reset.
    pub fn none() -> Self {
        Self::until(Time(0), Limiter::new(0, 0, Time(0)))
    }

    /// There may be some until then; so many are reset.
    pub fn until(until: Time, limiter: Limiter) -> Self {
        Self { until, limiter }
    }

    /// Whether one more would be reset at `now`.
    #[inline]
    pub fn is_ready(&self, now: Time) -> bool {
        now < self.until && self.limiter.is_ready(now)
    }

    /// Whether one more may be reset at `now`; counts it if so.
    #[inline]
    pub fn allow(&mut self, now: Time) -> bool {
        now < self.until && self.limiter.allow(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_not_for_ever() {
        let at = Time::from_millis;
        let mut orphans = Orphans::until(at(60_000), Limiter::new(1000, 2, at(0)));
        let reset = |orphans: &mut Orphans, now| {
            let is_ready = orphans.is_ready(now);
            assert_eq!(orphans.allow(now), is_ready);
            is_ready
        };
        assert_eq!([0, 0, 0, 1, 1].map(|ms| reset(&mut orphans, at(ms))), [true, true, false, true, false]);
        assert!(reset(&mut orphans, at(59_999)) && !reset(&mut orphans, at(60_000)));
        assert!(!reset(&mut Orphans::none(), at(0)));
    }
}
