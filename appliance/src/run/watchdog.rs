//! Notices a worker that has stopped turning, and says so: once when it is noticed, every minute while it lasts, once when it goes on.
//!
//! Time is handed in. A process that was itself stopped (`SIGSTOP`, a suspended machine) shows as a late look, which is told apart.

use std::fmt;
use std::time::{Duration, Instant};

/// How long a worker may stand still.
pub(crate) const STALL_AFTER: Duration = Duration::from_secs(1);
/// How often a stall that lasts is said again.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A worker has not turned for so long.
    Stalled(usize, Duration),
    /// A worker turns again after so long.
    GoesOn(usize, Duration),
    /// Nobody looked for so long: the whole process stood still.
    Stopped(Duration),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled(worker, time) => write!(
                f,
                "worker {worker} has not turned for {:.1} s: its packets wait; is its core taken by another program?",
                time.as_secs_f64()
            ),
            Self::GoesOn(worker, time) => {
                write!(f, "worker {worker} goes on after {:.1} s", time.as_secs_f64())
            }
            Self::Stopped(time) => {
                write!(
                    f,
                    "the appliance stood still for {:.1} s (stopped, or the machine was suspended); it goes on",
                    time.as_secs_f64()
                )
            }
        }
    }
}

/// Watches the workers' heartbeats.
#[derive(Debug)]
pub(crate) struct Watchdog {
    workers: Vec<Watched>,
    looked: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    heartbeat: u64,
    moved: Instant,
    said: Option<Instant>,
}

impl Watchdog {
    /// Begins to watch.
    pub(crate) fn new(workers: usize, now: Instant) -> Self {
        Self { workers: vec![Watched { heartbeat: 0, moved: now, said: None }; workers], looked: now }
    }

    /// Takes a look; to be called several times in [`STALL_AFTER`].
    pub(crate) fn look(&mut self, now: Instant, heartbeats: impl IntoIterator<Item = u64>) -> Vec<Notice> {
        let mut notices = Vec::new();
        let absent = now.saturating_duration_since(self.looked);
        self.looked = now;
        if absent > STALL_AFTER {
            notices.push(Notice::Stopped(absent));
            // The workers stood still as well, through no fault of theirs.
            self.workers
                .iter_mut()
                .filter(|worker| worker.said.is_none())
                .for_each(|worker| worker.moved = now);
        }
        for (index, (worker, heartbeat)) in self.workers.iter_mut().zip(heartbeats).enumerate() {
            let still = now.saturating_duration_since(worker.moved);
            if heartbeat != worker.heartbeat {
                if worker.said.take().is_some() {
                    notices.push(Notice::GoesOn(index, still));
                }
                *worker = Watched { heartbeat, moved: now, said: None };
            } else if still > STALL_AFTER
                && worker.said.is_none_or(|said| now.saturating_duration_since(said) >= REPEAT_AFTER)
            {
                worker.said = Some(now);
                notices.push(Notice::Stalled(index, still));
            }
        }
        notices
    }

    /// For how long a worker has stood still, if that is long enough to matter.
    pub(crate) fn stalled(&self, worker: usize, now: Instant) -> Option<Duration> {
        let still = now.saturating_duration_since(self.workers.get(worker)?.moved);
        (still > STALL_AFTER).then_some(still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(250);

    #[test]
    fn a_stall_is_said_once_then_every_minute_and_when_it_ends() {
        let start = Instant::now();
        let mut dog = Watchdog::new(2, start);
        let mut said = Vec::new();
        for step in 1..=4 * 62_u32 {
            said.extend(dog.look(start + STEP * step, [u64::from(step), 0]));
        }
        let wanted = [
            Notice::Stalled(1, Duration::from_millis(1250)),
            Notice::Stalled(1, Duration::from_millis(61_250)),
        ];
        assert_eq!(said, wanted);
        assert_eq!(dog.stalled(0, start + STEP * 248), None);
        assert_eq!(dog.stalled(1, start + STEP * 248), Some(STEP * 248));
        assert_eq!(dog.look(start + STEP * 249, [249, 1]), [Notice::GoesOn(1, STEP * 249)]);
        assert_eq!(dog.look(start + STEP * 250, [250, 2]), []);
    }

    #[test]
    fn a_worker_that_turns_is_never_mentioned() {
        let start = Instant::now();
        let mut dog = Watchdog::new(1, start);
        for step in 1..=1000_u32 {
            assert_eq!(dog.look(start + STEP * step, [u64::from(step / 4)]), []);
        }
    }

    #[test]
    fn a_stopped_process_is_told_apart_from_a_stalled_worker() {
        let start = Instant::now();
        let mut dog = Watchdog::new(1, start);
        assert_eq!(dog.look(start + STEP, [1]), []);
        let back = start + Duration::from_secs(3);
        assert_eq!(dog.look(back, [1]), [Notice::Stopped(back - (start + STEP))]);
        assert_eq!(dog.look(back + STEP, [1]), []);
        assert_eq!(dog.look(back + STEP * 5, [1]), [Notice::Stalled(0, STEP * 5)]);
    }
}
