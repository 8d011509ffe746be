//! The seam between a worker and a driver: receive queues, transmit queues, and where new frames come from.

use crate::idle::WaitHandles;
use crate::{Burst, Frame};
use std::error::Error;
use std::os::fd::BorrowedFd;

/// What a queue counted by itself, outside the verdicts of the data plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Frames that went through the queue.
    pub packets: u64,
    /// Bytes of these frames, without the frame check sequence.
    pub bytes: u64,
    /// Received: lost before the queue because its ring was full. Sent: refused because the ring was full.
    pub missed: u64,
    /// Received: lost because no buffer was free. Sent: lost because no buffer was free to copy them to.
    pub no_buffer: u64,
    /// Failures that the device or the kernel reported.
    pub errors: u64,
}

/// A queue to receive from, owned by one worker.
pub trait RxQueue {
    /// The frames that it gives out.
    type Frame: Frame;

    /// Appends what has arrived to `burst`, at most as many frames as it has room for; returns how many. Never blocks. The frames' first
    /// bytes are in the processor's caches, or were asked for.
    fn receive(&mut self, burst: &mut Burst<Self::Frame>) -> usize;

    /// What to wait for (readable) when there has been nothing to do for long; `None` where waiting makes no sense, or where there is more
    /// than one thing to wait for.
    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Adds to `handles` all that has to be waited for, one of which becomes readable when a frame comes. Returns false where waiting makes
    /// no sense, or when `handles` has no room for them.
    fn wait_handles<'a>(&'a self, handles: &mut WaitHandles<'a>) -> bool {
        self.wait_handle().is_some_and(|handle| handles.try_push(handle).is_ok())
    }

    /// What the queue counted.
    fn counters(&mut self) -> QueueCounters;
}

/// A queue to send to, owned by one worker.
pub trait TxQueue {
    /// The frames that it takes.
    type Frame: Frame;

    /// Takes frames from the front of `burst`, in order, and sends them; returns how many. What the queue has no room for
    /// stays in `burst`: the caller counts it and drops it. Never blocks, never spins.
    fn send(&mut self, burst: &mut Burst<Self::Frame>) -> usize;

    /// What the queue counted.
    fn counters(&mut self) -> QueueCounters;
}

/// Where new, empty frames come from.
pub trait FrameSource {
    /// The frames that it gives out.
    type Frame: Frame;

    /// A new, empty frame; `None` when all are in use.
    fn allocate(&mut self) -> Option<Self::Frame>;
}

/// A worker's frames: made at start-up, handed to the thread that will use them.
pub trait FramePool: FrameSource + Clone + Send + 'static {
    /// The calling thread is the pool's own as long as this lives.
    type Owner;

    /// Makes the calling thread the owner, for which taking and freeing frames costs no synchronisation.
    ///
    /// # Errors
    /// Why it cannot be: another thread is, or the driver does not know what to do with one more thread.
    fn adopt(&self) -> Result<Self::Owner, Box<dyn Error + Send + Sync>>;

    /// How many frames there are, free or not.
    fn capacity(&self) -> usize;
}
