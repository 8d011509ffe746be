//! Pools of DPDK's packet buffers, which live as long as any of their frames.
//!
//! Who frees where: a thread that has [adopted](MbufPool::adopt) a pool has a place in the per-core cache of every pool, from which it
//! takes and to which it gives without synchronisation. Every other thread goes to the pool's ring, which is lock-free.
//!
//! *Invariant:* a pool is freed only when nobody has a handle to it, none of its buffers is in use, and no thread has a place in the
//! caches, so that nobody can be in the middle of giving one back. Until then it waits among the [`Retired`].

use super::ffi::{self, rte_mempool};
use super::{Eal, EalError, Mbuf, error, log};
use crate::{FramePool, FrameSource, PoolOptions, hugepages};
use core::cell::Cell;
use core::ffi::c_void;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes in front of a new frame: what DPDK was built with.
pub const HEADROOM: usize = ffi::RTE_PKTMBUF_HEADROOM as usize;
/// Drivers count a buffer's room in units of this (and round down), and expect two of them at least.
const ROOM_UNIT: usize = 1024;
const ROOM_LEAST: usize = 2048;
/// The buffer's room and the headroom are 16 bits together.
const ROOM_MAX: usize = (u16::MAX as usize - HEADROOM) / ROOM_UNIT * ROOM_UNIT;
/// Buffers in the cache of one thread; the most that it is ever asked for is a burst.
const CACHE: u32 = 256;

/// A handle to a pool of packet buffers; clones are handles to the same pool.
///
/// The memory lives until the last handle and the last frame are gone, in whichever order.
#[derive(Clone)]
pub struct MbufPool {
    inner: Arc<Inner>,
}

struct Inner {
    raw: NonNull<rte_mempool>,
    frames: usize,
    data_room: usize,
}

// SAFETY: DPDK's pools may be used by any number of threads at once: the ring behind them is for many producers and consumers.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl MbufPool {
    /// The largest number of frames in one pool.
    pub const FRAMES_MAX: usize = 1 << 24;
    /// The longest frame of any pool, in bytes.
    pub const DATA_ROOM_MAX: usize = ROOM_MAX;

    /// Takes memory of the environment for the buffers.
    ///
    /// # Errors
    /// [`EalError`] when the options are out of range or the memory cannot be had.
    pub fn new(_eal: Eal, options: PoolOptions) -> Result<Self, EalError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let PoolOptions { frames, data_room } = options;
        if frames == 0 || frames > Self::FRAMES_MAX {
            let max = Self::FRAMES_MAX;
            return Err(EalError::check(
                format!("a pool has 1 to {max} frames, {frames} were asked for"),
                "ask for fewer",
            ));
        }
        if data_room > Self::DATA_ROOM_MAX {
            let max = Self::DATA_ROOM_MAX;
            return Err(EalError::check(
                format!("a frame has at most {max} bytes, {data_room} were asked for"),
                "configure a smaller MTU",
            ));
        }
        let data_room = data_room.next_multiple_of(ROOM_UNIT).max(ROOM_LEAST);
        let name = CString::new(format!("frames-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let name = name.unwrap_or_default();
        // A cache may hold half as much again as its size, all of which must be there.
        let cache = if frames >= 4 * CACHE as usize { CACHE } else { 0 };
        let raw = log::keeping(|| {
            // SAFETY: the environment runs (there is a token of it), and the name outlives the call.
            let raw =
                unsafe { ffi::shim_pool(name.as_ptr(), frames as u32, cache, (HEADROOM + data_room) as u16) };
            NonNull::new(raw).ok_or_else(|| {
                let mib = (frames * (size_of::<ffi::rte_mbuf>() + HEADROOM + data_room)).div_ceil(1 << 20);
                EalError::call(
                    "rte_mempool_populate_default",
                    error::last(),
                    format!(
                        "its {frames} frames take {mib} MiB; give DPDK more memory (dataplane.dpdk.memory) or run fewer workers"
                    ),
                )
            })
        })?;
        // SAFETY: a live pool, and a function that touches nothing.
        unsafe { ffi::shim_pool_memory(raw.as_ptr(), Some(back)) };
        Ok(Self { inner: Arc::new(Inner { raw, frames, data_room }) })
    }

    pub(super) fn raw(&self) -> *mut rte_mempool {
        self.inner.raw.as_ptr()
    }

    /// Gives the calling thread a place in the caches: from here on it takes and frees frames, of any pool, without synchronisation.
    ///
    /// # Errors
    /// [`EalError`] when DPDK has no place left: it has 128 for a process.
    pub fn adopt(&self) -> Result<MbufOwner, EalError> {
        take_place()?;
        Ok(MbufOwner { pool: self.clone(), _thread: PhantomData })
    }

    /// A new, empty frame with [`HEADROOM`] bytes of room in front; `None` when all are in use.
    #[inline]
    pub fn frame(&self) -> Option<Mbuf> {
        // SAFETY: the pool is live, as this is a handle to it.
        let raw = NonNull::new(unsafe { ffi::shim_alloc(self.raw()) })?;
        // SAFETY: just allocated and reset.
        Some(unsafe { Mbuf::from_new(raw) })
    }

    /// A new frame that holds a copy of `bytes`; `None` when all are in use or `bytes` is longer than the data room.
    #[inline]
    pub fn copy_from(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut frame = self.frame()?;
        frame.extend_from_slice(bytes).ok()?;
        Some(frame)
    }

    /// How many frames there are, free or not.
    pub fn capacity(&self) -> usize {
        self.inner.frames
    }

    /// How many frames somebody holds, queues of devices included; exact when nothing is allocated or freed meanwhile.
    pub fn in_use(&self) -> usize {
        // SAFETY: the pool is live, as this is a handle to it.
        unsafe { ffi::rte_mempool_in_use_count(self.raw()) as usize }
    }

    /// The longest frame that fits without using the headroom, in bytes; at least what was asked for.
    pub fn data_room(&self) -> usize {
        self.inner.data_room
    }
}

/// Asks the kernel for huge pages under a piece of a pool's memory, for an environment without any of its own.
unsafe extern "C" fn back(start: *mut c_void, len: usize) {
    hugepages::back_range(start.cast(), len);
}

impl fmt::Debug for MbufPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MbufPool")
            .field("capacity", &self.capacity())
            .field("in_use", &self.in_use())
            .finish()
    }
}

impl FrameSource for MbufPool {
    type Frame = Mbuf;

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.frame()
    }
}

impl FramePool for MbufPool {
    type Owner = MbufOwner;

    fn adopt(&self) -> Result<MbufOwner, Box<dyn core::error::Error + Send + Sync>> {
        Ok(Self::adopt(self)?)
    }

    fn capacity(&self) -> usize {
        Self::capacity(self)
    }
}

impl FrameSource for &MbufPool {
    type Frame = Mbuf;

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.frame()
    }
}

/// The calling thread has a place in the caches as long as this lives. It stays on its thread.
#[derive(Debug)]
pub struct MbufOwner {
    pool: MbufPool,
    _thread: PhantomData<*const ()>,
}

impl MbufOwner {
    /// The pool that was adopted.
    pub fn pool(&self) -> &MbufPool {
        &self.pool
    }
}

impl Drop for MbufOwner {
    fn drop(&mut self) {
        leave_place();
    }
}

thread_local! {
    /// How many guards of this thread share its place.
    static GUARDS: Cell<u32> = const { Cell::new(0) };
}

fn take_place() -> Result<(), EalError> {
    let guards = GUARDS.get();
    if guards == 0 {
        let mut retired = Retired::lock();
        // SAFETY: takes nothing; it changes what DPDK knows of the calling thread.
        if unsafe { ffi::rte_thread_register() } < 0 {
            return Err(EalError::call(
                "rte_thread_register",
                error::last(),
                "DPDK has 128 places for threads in a process; run fewer workers",
            ));
        }
        retired.places += 1;
    }
    GUARDS.set(guards + 1);
    Ok(())
}

fn leave_place() {
    let guards = GUARDS.get().saturating_sub(1);
    GUARDS.set(guards);
    if guards == 0 {
        let mut retired = Retired::lock();
        // SAFETY: the thread was registered when its first guard was made, and this was the last.
        unsafe { ffi::rte_thread_unregister() };
        retired.places = retired.places.saturating_sub(1);
        retired.sweep();
    }
}

/// Pools without a handle, and how many threads have a place in the caches.
struct Retired {
    pools: Vec<NonNull<rte_mempool>>,
    places: usize,
}

// SAFETY: the pools in the list are nobody else's.
unsafe impl Send for Retired {}

impl Retired {
    fn lock() -> MutexGuard<'static, Self> {
        static RETIRED: Mutex<Retired> = Mutex::new(Retired { pools: Vec::new(), places: 0 });
        // The list is whole at every point where a panic could be.
        RETIRED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what nobody can reach any more.
    fn sweep(&mut self) {
        if self.places > 0 {
            return;
        }
        self.pools.retain(|pool| {
            // SAFETY: pools in the list are live, as only this function frees them.
            let is_in_use = unsafe { ffi::rte_mempool_in_use_count(pool.as_ptr()) } > 0;
            if !is_in_use {
                // SAFETY: no handle is left (the pool is in the list), so nobody allocates; no buffer is in use, so nobody will
                // free one; and without a place in the caches, a thread that freed one has made the count so in its last step.
                unsafe { ffi::rte_mempool_free(pool.as_ptr()) };
            }
            is_in_use
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut retired = Retired::lock();
        retired.pools.push(self.raw);
        retired.sweep();
    }
}
