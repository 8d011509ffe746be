//! Many chunks at once, by their index: without a look at the chunks themselves.

use super::super::chunk::Header;
use super::{Free, Shared, thread_number};
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

impl Free {
    /// Takes up to `wanted` chunks from the top; returns how many.
    ///
    /// # Safety
    /// As for [`Free::push`].
    #[inline]
    unsafe fn pop_many(&self, wanted: usize, each: impl FnMut(NonNull<Header>)) -> usize {
        let count = self.count();
        let left = count.saturating_sub(wanted);
        let Some(chunks) = self.chunks.get(left..count) else { return 0 };
        chunks.iter().rev().map(Cell::get).for_each(each);
        self.count.store(left, Ordering::Relaxed);
        count - left
    }
}

impl Shared {
    /// First byte of the chunks' memory.
    pub(in crate::pool) fn base(&self) -> NonNull<u8> {
        self.region.base()
    }

    /// Which chunk this header of the pool's is of.
    #[inline]
    fn index_of(&self, header: NonNull<Header>) -> u32 {
        // Not by the header itself: whoever asks has no other need of its cache line.
        self.geometry.split(header.addr().get() - self.base().addr().get()).0 as u32
    }

    /// Takes up to `wanted` free chunks and hands out their indices; returns how many. They are the caller's from there on.
    #[inline]
    pub(in crate::pool) fn take_many(&self, wanted: usize, mut each: impl FnMut(u32)) -> usize {
        let mut taken = 0;
        if self.owner.load(Ordering::Relaxed) == thread_number() {
            self.look_for_returned();
            // SAFETY: this thread is the owner.
            taken = unsafe { self.local.0.pop_many(wanted, |header| each(self.index_of(header))) };
        }
        while taken < wanted
            && let Some(header) = self.take()
        {
            each(self.index_of(header));
            taken += 1;
        }
        taken
    }

    /// Makes chunks free again.
    ///
    /// # Safety
    /// The caller holds all of them, holds none of them afterwards, and keeps the pool alive meanwhile.
    #[inline]
    pub(in crate::pool) unsafe fn give_many(&self, indices: impl Iterator<Item = u32>) {
        let is_owner = self.owner.load(Ordering::Relaxed) == thread_number();
        for index in indices {
            let header = self.header(index as usize);
            if is_owner {
                // SAFETY: this thread is the owner.
                unsafe { self.local.0.push(header) };
            } else {
                // SAFETY: the caller's promise is handed on.
                unsafe { Self::give(header) };
            }
        }
    }
}
