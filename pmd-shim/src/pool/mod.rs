//! The one frame family of every driver but DPDK: chunks of one piece of memory, owned by whoever holds the handle.
//!
//! A [`Pool`] decides where a frame's bytes live and when a chunk is free again. It never grows, never blocks the
//! thread that owns it, and never gives memory back to the kernel while a frame is alive.
//!
//! ```text
//! chunk (2048, 4096 or 16384 bytes, aligned to its size)
//! +--------+---------+----------------+-------------------------------+
//! | colour | header  | headroom (128) | data room                     |
//! | n * 64 | 64      |                |                               |
//! +--------+---------+----------------+-------------------------------+
//!          ^ PoolFrame
//! ```
//!
//! Chunks are a power of two long and aligned to it, as an AF_XDP UMEM wants them. Were every header at a chunk's first byte,
//! the headers (and the packets' first lines) of a whole burst would compete for two sets of the first-level cache; what
//! room is left over in a chunk is therefore spent on shifting neighbours against each other by a line, the *colour*.
//!
//! AF_XDP sockets are given chunks as they are: the colour and the header lie in the room that the kernel leaves untouched at a
//! chunk's start, and frames that it writes start behind 256 bytes more.
//!
//! Who frees where: the thread that [adopted](Pool::adopt) the pool takes from and gives to a list of its own without any
//! synchronisation. Every other thread gives back through a queue of indices, out of which the owner takes some from time to time,
//! and takes through a mutex.

mod chunk;
mod frame;
mod lists;
#[cfg(feature = "af_xdp")]
mod loan;
mod region;
#[cfg(test)]
mod tests;

pub use chunk::HEADROOM;
pub use frame::PoolFrame;
#[cfg(feature = "af_xdp")]
pub(crate) use loan::{Loan, Umem};

use crate::{FramePool, FrameSource};
use chunk::{FIXED_ROOM, Geometry};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
use lists::Shared;
use std::io;

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// How many frames there are, all together: at least 1, at most [`Pool::FRAMES_MAX`].
    pub frames: usize,
    /// The longest frame that must fit, in bytes: the link's MTU, the Ethernet header and what the path adds behind.
    pub data_room: usize,
}

/// Why a pool could not be made.
#[derive(Debug)]
pub enum PoolError {
    /// The number of frames is 0 or larger than [`Pool::FRAMES_MAX`].
    Frames(usize),
    /// No chunk is large enough for frames of this many bytes; the largest is [`Pool::DATA_ROOM_MAX`].
    DataRoom(usize),
    /// The kernel did not give the memory.
    Memory {
        /// How many bytes were asked for.
        bytes: usize,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(frames) => {
                write!(f, "a pool has 1 to {} frames, {frames} were asked for", Pool::FRAMES_MAX)
            }
            Self::DataRoom(bytes) => {
                write!(f, "a frame has at most {} bytes, {bytes} were asked for", Pool::DATA_ROOM_MAX)
            }
            Self::Memory { bytes, error } => {
                write!(
                    f,
                    "mmap of {bytes} bytes for packet buffers failed: {error}; give the machine more memory or the pool fewer frames"
                )
            }
        }
    }
}

impl core::error::Error for PoolError {}

/// The pool already belongs to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyOwned;

impl fmt::Display for AlreadyOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool already belongs to a thread")
    }
}

impl core::error::Error for AlreadyOwned {}

/// A handle to a pool of frames; clones are handles to the same pool.
///
/// The memory lives until the last handle and the last frame are gone, in whichever order.
pub struct Pool {
    shared: NonNull<Shared>,
}

// SAFETY: a handle reaches only `Shared`, which synchronises by itself: atomics, a mutex, and one list that only the owner
// thread (or, without an owner, the holder of the mutex) touches.
unsafe impl Send for Pool {}
// SAFETY: as above; `&Pool` allows nothing more than `Pool` does.
unsafe impl Sync for Pool {}

impl Pool {
    /// The largest number of frames in one pool.
    pub const FRAMES_MAX: usize = 1 << 24;
    /// The longest frame of any pool, in bytes.
    pub const DATA_ROOM_MAX: usize = chunk::SIZES[chunk::SIZES.len() - 1] - FIXED_ROOM;

    /// Maps the memory, touches every page of it and makes all frames free.
    ///
    /// # Errors
    /// [`PoolError`] when the options are out of range or the memory cannot be had.
    pub fn new(options: PoolOptions) -> Result<Self, PoolError> {
        if options.frames == 0 || options.frames > Self::FRAMES_MAX {
            return Err(PoolError::Frames(options.frames));
        }
        let geometry =
            Geometry::for_data_room(options.data_room).ok_or(PoolError::DataRoom(options.data_room))?;
        let shared = Shared::new(options.frames, geometry)?;
        Ok(Self { shared })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: `Shared` is freed only after the last handle has been dropped, and this is one.
        unsafe { self.shared.as_ref() }
    }

    /// Makes the calling thread the owner: from here on its allocations and frees cost no synchronisation.
    ///
    /// # Errors
    /// [`AlreadyOwned`] when a thread, this one included, has adopted the pool and not yet dropped its guard.
    pub fn adopt(&self) -> Result<Owner, AlreadyOwned> {
        self.shared().adopt()?;
        Ok(Owner { pool: self.clone(), _thread: PhantomData })
    }

    /// A new, empty frame with [`HEADROOM`] bytes of room in front; `None` when all are in use.
    #[inline]
    pub fn frame(&self) -> Option<PoolFrame> {
        let header = self.shared().take()?;
        // SAFETY: `take` gave out a free chunk of a live pool, which nobody else holds.
        Some(unsafe { PoolFrame::from_chunk(header) })
    }

    /// A new frame that holds a copy of `bytes`; `None` when all are in use or `bytes` is longer than the data room.
    #[inline]
    pub fn copy_from(&self, bytes: &[u8]) -> Option<PoolFrame> {
        let mut frame = self.frame()?;
        frame.extend_from_slice(bytes).ok()?;
        Some(frame)
    }

    /// How many frames there are, free or not.
    pub fn capacity(&self) -> usize {
        self.shared().capacity()
    }

    /// How many frames somebody holds; exact when nothing is allocated or freed meanwhile.
    pub fn in_use(&self) -> usize {
        self.shared().in_use()
    }

    /// The longest frame that fits without using the headroom, in bytes; at least what was asked for.
    pub fn data_room(&self) -> usize {
        self.shared().geometry().data_room()
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        // Relaxed as in `Arc`: a new handle is made from an existing one, which keeps the count above 0.
        self.shared().handles.fetch_add(1, Ordering::Relaxed);
        Self { shared: self.shared }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.shared().handles.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: this was the last handle, so there is no owner either (its guard holds a handle), and nobody but frames
            // reaches the pool from here on.
            unsafe { Shared::close(self.shared) }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("capacity", &self.capacity()).field("in_use", &self.in_use()).finish()
    }
}

impl FrameSource for Pool {
    type Frame = PoolFrame;

    #[inline]
    fn allocate(&mut self) -> Option<PoolFrame> {
        self.frame()
    }
}

impl FramePool for Pool {
    type Owner = Owner;

    fn adopt(&self) -> Result<Owner, Box<dyn core::error::Error + Send + Sync>> {
        Ok(Self::adopt(self)?)
    }

    fn capacity(&self) -> usize {
        Self::capacity(self)
    }
}

impl FrameSource for &Pool {
    type Frame = PoolFrame;

    #[inline]
    fn allocate(&mut self) -> Option<PoolFrame> {
        self.frame()
    }
}

/// The calling thread owns a pool as long as this lives. It stays on its thread.
#[derive(Debug)]
pub struct Owner {
    pool: Pool,
    _thread: PhantomData<*const ()>,
}

impl Owner {
    /// The pool that is owned.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.pool.shared().release();
    }
}
