//! The operator's wish to stop, looked at wherever something is waited for.

use signal_hook::consts::signal::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it is looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Set by SIGINT and SIGTERM; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches the signals from here on.
    pub(crate) fn catch() -> Result<Self, String> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(|error| format!("sigaction: {error}"))?;
        }
        Ok(Self(flag))
    }

    /// Fails when the operator wants to stop.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
    }

    /// Sleeps, unless the operator wants to stop.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    /// Waits until `is_so` holds; whether it did within `time`.
    pub(crate) fn wait_until(&self, time: Duration, mut is_so: impl FnMut() -> bool) -> Result<bool, String> {
        let end = Instant::now() + time;
        while !is_so() {
            if Instant::now() >= end {
                return Ok(false);
            }
            self.sleep(Duration::from_millis(5))?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_stop_ends_every_wait() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.sleep(Duration::from_millis(1)), Ok(()));
        assert_eq!(interrupt.wait_until(Duration::from_millis(10), || false), Ok(false));
        interrupt.0.store(true, Ordering::Relaxed);
        assert!(interrupt.sleep(Duration::from_secs(3600)).is_err());
        assert!(interrupt.wait_until(Duration::from_secs(3600), || false).is_err());
    }
}
