//! Which chunks are free: the owner's list, what other threads gave back, and a reserve behind a mutex.

#[cfg(feature = "af_xdp")]
mod bulk;
mod returned;

use super::chunk::{FIXED_ROOM, Geometry, Header};
use super::region::Region;
use super::{AlreadyOwned, PoolError};
use crate::RxOffload;
use crate::line::Line;
use crate::prefetch::prefetch_to_write;
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use returned::Returned;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// No thread owns the pool.
const NOBODY: u64 = 0;
/// How many chunks the owner leaves to other threads when it adopts the pool: this share, at most [`RESERVE_MAX`].
const RESERVE_SHARE: usize = 16;
const RESERVE_MAX: usize = 64;
/// How often the owner looks at what other threads gave back, in chunks, and how many of those it then takes over: often enough that the same
/// few chunks go round, which caches hold.
const LOOK_EVERY: usize = 64;
/// How far ahead the owner asks for the chunks that it will give out.
const AHEAD: usize = 8;

/// A number of this thread's own, never 0 and never given out again, so that a dead thread's is never mistaken for a living one's.
#[inline]
fn thread_number() -> u64 {
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(NOBODY) };
    }
    #[cold]
    fn first_use() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(NOBODY);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    }
    NUMBER.with(|number| {
        if number.get() == NOBODY {
            number.set(first_use());
        }
        number.get()
    })
}

/// A stack of free chunks with room for all of them. It does not synchronise: see [`Free::push`].
struct Free {
    chunks: Box<[Cell<NonNull<Header>>]>,
    /// How many are on it. Written by plain stores; atomic so that any thread may read it.
    count: AtomicUsize,
}

impl Free {
    fn new(capacity: usize) -> Self {
        Self { chunks: vec![Cell::new(NonNull::dangling()); capacity].into(), count: AtomicUsize::new(0) }
    }

    #[inline]
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Puts a chunk on top.
    ///
    /// # Safety
    /// No other thread calls `push` or `pop` meanwhile, and what another thread did before is visible to this one.
    #[inline]
    unsafe fn push(&self, chunk: NonNull<Header>) {
        let count = self.count();
        debug_assert!(count < self.chunks.len(), "a chunk was freed twice");
        if let Some(place) = self.chunks.get(count) {
            place.set(chunk);
            self.count.store(count + 1, Ordering::Relaxed);
        }
    }

    /// Takes the top chunk.
    ///
    /// # Safety
    /// As for [`Free::push`].
    #[inline]
    unsafe fn pop(&self) -> Option<NonNull<Header>> {
        let left = self.count().checked_sub(1)?;
        let chunk = self.chunks.get(left)?.get();
        self.count.store(left, Ordering::Relaxed);
        if let Some(next) = left.checked_sub(AHEAD).and_then(|at| self.chunks.get(at)) {
            let header: *const u8 = next.get().as_ptr().cast();
            prefetch_to_write(header);
            // Where a new frame begins, which is soon written, too.
            prefetch_to_write(header.wrapping_add(FIXED_ROOM));
        }
        Some(chunk)
    }
}

/// What all handles and all frames of a pool point to.
pub(super) struct Shared {
    region: Region,
    geometry: Geometry,
    capacity: usize,
    /// The [`thread_number`] of the owner. Changed under `reserve` only, to or from the changing thread's own number: a
    /// thread that reads its own number here is the owner, and no other thread can make it cease to be.
    owner: AtomicU64,
    /// Handles, the owner's guard among them.
    pub(super) handles: AtomicUsize,
    /// Chunks given back by other threads than the owner.
    returned: Returned,
    /// Free chunks of the owner; while there is none, of whoever holds `reserve`.
    local: Line<Free>,
    /// Free chunks for other threads than the owner.
    reserve: Mutex<Free>,
}

impl Shared {
    /// Maps the memory and puts all chunks on the local list, the first one on top. The result has one handle and is freed
    /// by [`Shared::close`] or by the last frame after it.
    pub(super) fn new(capacity: usize, geometry: Geometry) -> Result<NonNull<Self>, PoolError> {
        let bytes = capacity * geometry.chunk;
        let region = Region::new(bytes).map_err(|error| PoolError::Memory { bytes, error })?;
        let shared = NonNull::from(Box::leak(Box::new(Self {
            region,
            geometry,
            capacity,
            owner: AtomicU64::new(NOBODY),
            handles: AtomicUsize::new(1),
            returned: Returned::new(capacity),
            local: Line(Free::new(capacity)),
            reserve: Mutex::new(Free::new(capacity)),
        })));
        // SAFETY: just made, and nobody else has the pointer yet, so this is the only access.
        let pool = unsafe { shared.as_ref() };
        for index in (0..capacity).rev() {
            let header = pool.header(index);
            // SAFETY: `index` < capacity, so the header lies in the region, aligned to a line; the region is writable memory that
            // nobody else uses yet, and so is the local list.
            unsafe {
                header.write(Header {
                    shared,
                    index: index as u32,
                    data: 0,
                    len: 0,
                    end: (geometry.chunk - geometry.colour(index)) as u32,
                    mark: 0,
                    offload: RxOffload::default(),
                });
                pool.local.0.push(header);
            }
        }
        Ok(shared)
    }

    /// The header of chunk `index`, which must be below the capacity.
    #[inline]
    pub(super) fn header(&self, index: usize) -> NonNull<Header> {
        debug_assert!(index < self.capacity);
        // SAFETY: the region has `capacity` chunks, and a header lies within its chunk, at a multiple of a line.
        unsafe { self.region.base().add(self.geometry.header_offset(index)).cast() }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// How many chunks are in no list.
    pub(super) fn in_use(&self) -> usize {
        let reserve = self.lock_reserve();
        self.capacity.saturating_sub(reserve.count() + self.returned.count() + self.local.0.count())
    }

    fn lock_reserve(&self) -> MutexGuard<'_, Free> {
        // Nothing that happens under the lock leaves a list half changed, so a panic elsewhere does not matter.
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the calling thread the owner.
    pub(super) fn adopt(&self) -> Result<(), AlreadyOwned> {
        let reserve = self.lock_reserve();
        if self.owner.load(Ordering::Relaxed) != NOBODY {
            return Err(AlreadyOwned);
        }
        let share = (self.capacity / RESERVE_SHARE).min(RESERVE_MAX);
        while reserve.count() < share {
            // SAFETY: there is no owner and this thread holds the lock, so both lists are its own.
            unsafe {
                let Some(chunk) = self.local.0.pop() else { break };
                reserve.push(chunk);
            }
        }
        self.owner.store(thread_number(), Ordering::Relaxed);
        Ok(())
    }

    /// The calling thread, which is the owner, ceases to be it. What it had free is there for every thread under the lock.
    pub(super) fn release(&self) {
        let _reserve = self.lock_reserve();
        debug_assert_eq!(self.owner.load(Ordering::Relaxed), thread_number());
        self.owner.store(NOBODY, Ordering::Relaxed);
    }

    /// Takes a free chunk.
    #[inline]
    pub(super) fn take(&self) -> Option<NonNull<Header>> {
        if self.owner.load(Ordering::Relaxed) != thread_number() {
            return self.take_unowned();
        }
        // SAFETY: this thread is the owner.
        let Some(chunk) = (unsafe { self.local.0.pop() }) else { return self.take_from_others() };
        if self.local.0.count().is_multiple_of(LOOK_EVERY) {
            self.look_for_returned();
        }
        Some(chunk)
    }

    /// The owner: takes over some of what other threads gave back.
    #[inline]
    fn look_for_returned(&self) {
        if self.returned.count() > 0 {
            // SAFETY: this thread is the owner.
            unsafe { self.move_returned_to(&self.local.0, LOOK_EVERY) };
        }
    }

    /// The owner's list is empty: take over what other threads gave back, else what was reserved for them.
    #[cold]
    fn take_from_others(&self) -> Option<NonNull<Header>> {
        let local = &self.local.0;
        // SAFETY: only `take` calls this, on the owner thread; the reserve is locked.
        unsafe {
            self.move_returned_to(local, LOOK_EVERY);
            if local.count() == 0
                && let Ok(reserve) = self.reserve.try_lock()
            {
                while let Some(chunk) = reserve.pop() {
                    local.push(chunk);
                }
            }
            local.pop()
        }
    }

    /// Takes a free chunk on a thread that is not the owner.
    #[cold]
    fn take_unowned(&self) -> Option<NonNull<Header>> {
        let reserve = self.lock_reserve();
        // SAFETY: this thread holds the lock, and the local list is its own too when there is no owner.
        unsafe {
            let unowned = self.owner.load(Ordering::Relaxed) == NOBODY;
            if unowned && let Some(chunk) = self.local.0.pop() {
                return Some(chunk);
            }
            reserve.pop().or_else(|| {
                self.move_returned_to(&reserve, LOOK_EVERY);
                reserve.pop()
            })
        }
    }

    /// Takes up to `wanted` chunks over into `list` that other threads gave back.
    ///
    /// # Safety
    /// As for [`Free::push`].
    unsafe fn move_returned_to(&self, list: &Free, wanted: usize) {
        self.returned.take(wanted, |index| {
            // SAFETY: the queue gave the chunk to this thread alone; the list is as the caller promises.
            unsafe { list.push(self.header(index as usize)) };
        });
    }

    /// Makes a chunk free again.
    ///
    /// # Safety
    /// The caller holds the chunk, and holds it no longer afterwards. The pool is not closed, or not all of its chunks are back.
    #[inline]
    pub(super) unsafe fn give(header: NonNull<Header>) {
        // SAFETY: the caller holds the chunk; the pool exists as long as one of its chunks is not back.
        let pool = unsafe { (*header.as_ptr()).shared };
        // SAFETY: as above.
        if unsafe { &pool.as_ref().owner }.load(Ordering::Relaxed) == thread_number() {
            // SAFETY: this thread is the owner.
            unsafe { pool.as_ref().local.0.push(header) };
        } else {
            // SAFETY: the caller's promise is handed on.
            unsafe { Self::give_back(pool, &[header]) };
        }
    }

    /// Gives chunks back to another thread's pool; frees the pool if those were the last ones of a closed one.
    ///
    /// # Safety
    /// As for [`Shared::give`], of each of them; `pool` is theirs.
    unsafe fn give_back(pool: NonNull<Self>, headers: &[NonNull<Header>]) {
        // SAFETY: the caller holds a chunk until the queue has it.
        let indices = headers.iter().map(|header| unsafe { (*header.as_ptr()).index });
        // SAFETY: a chunk that the queue has not got keeps the pool alive, and the queue touches nothing of the pool after the last one.
        let is_last = unsafe { pool.as_ref().returned.give(indices) };
        if is_last {
            // SAFETY: the last handle is gone and all chunks are back; exactly one caller is told so.
            drop(unsafe { Box::from_raw(pool.as_ptr()) });
        }
    }

    /// Makes chunks free again, those of one pool that follow each other at once.
    ///
    /// # Safety
    /// As for [`Shared::give`], of each of them.
    #[inline]
    pub(super) unsafe fn give_all(headers: &[NonNull<Header>]) {
        let mut rest = headers;
        while let Some(first) = rest.first() {
            // SAFETY: the caller holds the chunks of `rest`.
            let home = |header: &NonNull<Header>| unsafe { (*header.as_ptr()).shared };
            let pool = home(first);
            let count = rest.iter().position(|header| home(header) != pool).unwrap_or(rest.len());
            let (these, others) = rest.split_at(count);
            rest = others;
            // SAFETY: the pool exists as long as one of its chunks is not back.
            let shared = unsafe { pool.as_ref() };
            if shared.owner.load(Ordering::Relaxed) == thread_number() {
                // SAFETY: this thread is the owner.
                these.iter().for_each(|header| unsafe { shared.local.0.push(*header) });
            } else {
                // SAFETY: the caller's promise is handed on.
                unsafe { Self::give_back(pool, these) };
            }
        }
    }

    /// The last handle is gone: frees the pool, or leaves that to the last frame.
    ///
    /// From here on there is no owner, so all frames come back by the queue, which counts them.
    ///
    /// # Safety
    /// Called once, when no handle is left.
    pub(super) unsafe fn close(pool: NonNull<Self>) {
        // SAFETY: not yet freed, as only a closed pool is. There is no owner (its guard would hold a handle), and no handle to
        // allocate with, so the lists can be read, and nobody takes out of the queue; frames are only given to it.
        let is_last = unsafe {
            let shared = pool.as_ref();
            let here = shared.local.0.count() + shared.lock_reserve().count();
            shared.returned.close(shared.capacity, here)
        };
        if is_last {
            // SAFETY: no handle and no frame is left; exactly one caller is told so.
            drop(unsafe { Box::from_raw(pool.as_ptr()) });
        }
    }
}
