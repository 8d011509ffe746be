//! What time it is, for cookies that several appliances take from each other.
//!
//! The workers' clock counts from the start, and stands still while the machine is suspended; Unix time may be set anew. How far the two
//! are apart is looked at again and again.

use super::control::Control;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A difference below this is that of two looks at two clocks.
const TOLERANCE_MS: u64 = 20;
/// What takes longer than this was interrupted, and says nothing.
const GLANCE: Duration = Duration::from_millis(5);
/// So often it is tried at the start.
const TRIES: usize = 5;

/// Unix time at the zero of the workers' clock.
#[derive(Debug)]
pub(super) struct Clock {
    epoch: Instant,
    unix_ms: u64,
}

impl Clock {
    /// Looks for the first time, and tells the workers.
    pub(super) fn start(control: &Control) -> Self {
        let mut clock = Self { epoch: control.epoch, unix_ms: 0 };
        if (0..TRIES).all(|_| !clock.keep_up(control)) {
            // Better off by some milliseconds than not set.
            let (_, now, after) = clock.glance();
            clock.compare(after, now, after);
            control.set_unix_time(clock.unix_ms);
        }
        clock
    }

    /// Looks again; tells the workers where the clocks went apart. Whether they did.
    pub(super) fn keep_up(&mut self, control: &Control) -> bool {
        let (before, now, after) = self.glance();
        let differs = self.compare(before, now, after);
        if differs {
            control.set_unix_time(self.unix_ms);
        }
        differs
    }

    /// Unix time, and the workers' before and after.
    fn glance(&self) -> (Duration, Duration, Duration) {
        let before = self.epoch.elapsed();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (before, now, self.epoch.elapsed())
    }

    /// Whether Unix time at zero is another now.
    fn compare(&mut self, before: Duration, now: Duration, after: Duration) -> bool {
        let unix_ms = u64::try_from(now.saturating_sub(after).as_millis()).unwrap_or(0);
        let differs =
            after.saturating_sub(before) <= GLANCE && unix_ms.abs_diff(self.unix_ms) >= TOLERANCE_MS;
        if differs {
            self.unix_ms = unix_ms;
        }
        differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_or_stood_still_is_noticed() {
        let at = Duration::from_millis;
        let mut clock = Clock { epoch: Instant::now(), unix_ms: 0 };
        assert!(clock.compare(at(5_000), at(1_700_000_005_000), at(5_000)));
        assert_eq!(clock.unix_ms, 1_700_000_000_000);
        // A little apart is nothing, nor is what was interrupted.
        assert!(!clock.compare(at(6_000), at(1_700_000_006_019), at(6_001)));
        assert!(!clock.compare(at(7_000), at(1_700_000_009_000), at(7_006)));
        // The machine slept for an hour, and then the clock was put back by two.
        assert!(clock.compare(at(8_000), at(1_700_003_608_000), at(8_000)));
        assert_eq!(clock.unix_ms, 1_700_003_600_000);
        assert!(clock.compare(at(9_000), at(1_699_996_409_000), at(9_000)));
        assert_eq!(clock.unix_ms, 1_699_996_400_000);
        assert!(!clock.compare(at(10_000), at(1_699_996_410_000), at(10_000)));
    }
}
