//! What wakes a thread that sleeps.

use crate::line::Line;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// What wakes a thread that sleeps in the kernel until others have something for it: a byte, written at most once for each sleep. While the
/// thread is awake, telling it costs no system call.
#[derive(Debug)]
pub struct Bell {
    /// The thread sleeps, or is about to look at its queues for the last time before.
    asleep: Line<AtomicBool>,
    /// Neither end blocks.
    heard: UnixStream,
    rung: UnixStream,
}

impl Bell {
    /// The bell of a thread that is awake.
    ///
    /// # Errors
    /// What the kernel says when there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (heard, rung) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        Ok(Self { asleep: Line::default(), heard, rung })
    }

    /// The thread: what becomes readable when it is rung.
    pub fn wait_handle(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }

    /// The thread: is about to sleep. `false`: it had better not, as its queues are not `quiet`.
    pub fn lie_down(&self, quiet: impl FnOnce() -> bool) -> bool {
        self.asleep.0.store(true, Ordering::Relaxed);
        // Either this sees what another thread pushed, or that one sees that this sleeps.
        fence(Ordering::SeqCst);
        let quiet = quiet();
        if !quiet {
            self.asleep.0.store(false, Ordering::Relaxed);
        }
        quiet
    }

    /// The thread: is awake again.
    pub fn get_up(&self) {
        self.asleep.0.store(false, Ordering::Relaxed);
        // Without a byte there is nothing to be taken; one that comes late ends the next sleep early.
        let _ = (&self.heard).read(&mut [0; 64]);
    }

    /// Another thread, behind what it pushed: wakes this one if it sleeps.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.0.load(Ordering::Relaxed) && self.asleep.0.swap(false, Ordering::Relaxed) {
            // Only a bell with bytes in it can be full.
            let _ = (&self.rung).write(&[1]);
        }
    }
}
