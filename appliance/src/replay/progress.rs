//! How far a long replay is, on a terminal only.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks at the clock.
const FRAMES_BETWEEN_LOOKS: u64 = 4096;
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);

/// A line on standard error that is overwritten, and gone at the end. Where standard error is no terminal: nothing.
pub(super) struct Progress {
    total: u64,
    last: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// `total` frames are to be replayed.
    pub(super) fn new(total: u64) -> Self {
        Self { total, last: io::stderr().is_terminal().then(Instant::now), shown: false }
    }

    /// `done` frames are.
    pub(super) fn at(&mut self, done: u64) {
        if !done.is_multiple_of(FRAMES_BETWEEN_LOOKS) {
            return;
        }
        let Some(last) = &mut self.last else { return };
        let now = Instant::now();
        if now.duration_since(*last) >= UPDATE_INTERVAL {
            *last = now;
            self.shown = true;
            let percent = done.saturating_mul(100) / self.total.max(1);
            let _ = write!(io::stderr().lock(), "\rreplaying: {done} of {} frames ({percent} %)", self.total);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
