//! The rings that the kernel and an AF_XDP socket share: one side writes entries, the other reads them, in order.
//!
//! Each side has an index that it alone advances, counts entries modulo 2^32, and looks at the other side's index only when the entries
//! that it knows of are used up.

use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel wants to be called before it goes on (`XDP_RING_NEED_WAKEUP`).
const NEED_WAKEUP: u32 = 1;

/// An entry of the receive and transmit rings (`struct xdp_desc`): where a frame is in the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) options: u32,
}

/// What an entry can be: plain integers of which the kernel may write any value.
pub(super) trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for Descriptor {}

/// A ring's memory, with where its parts are.
struct Ring<T> {
    base: NonNull<u8>,
    bytes: usize,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// The number of entries is a power of two: this cuts an index to it.
    mask: u32,
}

// SAFETY: the mapping is this value's own; nothing about it belongs to a thread.
unsafe impl<T: Entry> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// Maps a ring of `count` entries, a power of two, that `file` has at `page_offset`.
    fn map(
        file: BorrowedFd<'_>,
        page_offset: libc::off_t,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> io::Result<Self> {
        let [producer, consumer, flags, entries] =
            [offsets.producer, offsets.consumer, offsets.flags, offsets.desc].map(|offset| offset as usize);
        let bytes = entries + count as usize * size_of::<T>();
        let last_word = producer.max(consumer).max(flags) + 4;
        let is_aligned = [producer, consumer, flags].iter().all(|offset| offset.is_multiple_of(4));
        if !count.is_power_of_two() || last_word > bytes || !is_aligned || !entries.is_multiple_of(8) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: a new shared mapping at an address of the kernel's choice affects no existing memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                page_offset,
            )
        };
        let Some(base) = NonNull::new(base.cast::<u8>()).filter(|_| base != libc::MAP_FAILED) else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: all four lie within the mapping, as was checked above.
        let (producer, consumer, flags, entries) = unsafe {
            (
                base.add(producer).cast(),
                base.add(consumer).cast(),
                base.add(flags).cast(),
                base.add(entries).cast(),
            )
        };
        Ok(Self { base, bytes, producer, consumer, flags, entries, mask: count - 1 })
    }

    fn count(&self) -> u32 {
        self.mask + 1
    }

    #[inline(always)]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: in the mapping and aligned; both sides access the word atomically.
        unsafe { self.producer.as_ref() }
    }

    #[inline(always)]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.consumer.as_ref() }
    }

    #[inline(always)]
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.flags.as_ref() }
    }

    #[inline(always)]
    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: what the mask leaves is below the number of entries, all of which are in the mapping.
        unsafe { self.entries.add((index & self.mask) as usize) }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A ring that the kernel reads: fill, transmit.
pub(super) struct Producer<T: Entry> {
    ring: Ring<T>,
    /// The entry that is written next. Those from the shared index up to here are written but not handed over.
    next: u32,
    /// The entry that was the kernel's when last looked: the one that `next` must not pass.
    limit: u32,
}

impl<T: Entry> Producer<T> {
    /// Maps the ring, which is empty or holds what was put there before.
    pub(super) fn map(
        file: BorrowedFd<'_>,
        page_offset: libc::off_t,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> io::Result<Self> {
        let ring = Ring::map(file, page_offset, offsets, count)?;
        let next = ring.producer().load(Ordering::Relaxed);
        let limit = ring.consumer().load(Ordering::Acquire).wrapping_add(count);
        Ok(Self { ring, next, limit })
    }

    /// How many entries can be written; looks at the kernel's index only if it knows of fewer than `wanted`.
    #[inline]
    pub(super) fn room(&mut self, wanted: u32) -> u32 {
        if self.limit.wrapping_sub(self.next) < wanted {
            // Acquire: the kernel has read an entry before it is written anew.
            self.limit = self.ring.consumer().load(Ordering::Acquire).wrapping_add(self.ring.count());
        }
        // More than the ring holds would be a kernel that does not keep its side.
        self.limit.wrapping_sub(self.next).min(self.ring.count())
    }

    /// Writes the next entry, for which there must be [`room`](Self::room).
    #[inline]
    pub(super) fn push(&mut self, entry: T) {
        debug_assert_ne!(self.limit, self.next, "the ring is full");
        // SAFETY: in the mapping; ours, as it is behind what was handed over and, by the caller's promise, the kernel has read it. Were
        // it not, the entry there would be another one, and nothing worse.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Hands over all that was written.
    #[inline]
    pub(super) fn submit(&mut self) {
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// How many entries the kernel has not read yet.
    #[inline]
    pub(super) fn pending(&self) -> u32 {
        self.next.wrapping_sub(self.ring.consumer().load(Ordering::Acquire))
    }

    /// The kernel does nothing about this ring until it is called.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// A ring that the kernel writes: receive, completion.
pub(super) struct Consumer<T: Entry> {
    ring: Ring<T>,
    /// The entry that is read next.
    next: u32,
    /// The first entry that was not there when last looked.
    limit: u32,
}

impl<T: Entry> Consumer<T> {
    /// Maps the ring.
    pub(super) fn map(
        file: BorrowedFd<'_>,
        page_offset: libc::off_t,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> io::Result<Self> {
        let ring = Ring::map(file, page_offset, offsets, count)?;
        let next = ring.consumer().load(Ordering::Relaxed);
        Ok(Self { ring, next, limit: next })
    }

    /// How many entries there are to read; looks at the kernel's index only if it knows of none.
    #[inline]
    pub(super) fn available(&mut self) -> u32 {
        if self.limit == self.next {
            // Acquire: the entries, and the frames that they stand for, are written before the index.
            self.limit = self.ring.producer().load(Ordering::Acquire);
        }
        self.limit.wrapping_sub(self.next).min(self.ring.count())
    }

    /// The entry `ahead` places behind the next one, if it is known to be there.
    #[inline]
    pub(super) fn peek(&self, ahead: u32) -> Option<T> {
        let is_there = ahead < self.limit.wrapping_sub(self.next);
        // SAFETY: in the mapping; the kernel has written it and does not touch it before it is given back. Any bytes are a value.
        is_there.then(|| unsafe { self.ring.entry(self.next.wrapping_add(ahead)).read() })
    }

    /// Reads the next entry, if one is known to be there.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let entry = self.peek(0)?;
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives back all that was read.
    #[inline]
    pub(super) fn release(&mut self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}

impl<T: Entry> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("next", &self.next).field("pending", &self.pending()).finish()
    }
}

impl<T: Entry> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("next", &self.next).field("known", &self.limit).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::fs::File;
    use std::os::fd::{AsFd, FromRawFd};
    use std::os::unix::fs::FileExt;

    const OFFSETS: libc::xdp_ring_offset =
        libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };

    /// Both sides of a ring in a file in memory, with both indices at `start`.
    fn both_sides<T: Entry>(count: u32, start: u32) -> (Producer<T>, Consumer<T>, File) {
        // SAFETY: a zero-terminated name, and a new descriptor that nobody else owns.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC)) };
        file.set_len(192 + u64::from(count) * size_of::<T>() as u64).unwrap();
        for offset in [OFFSETS.producer, OFFSETS.consumer] {
            file.write_at(&start.to_ne_bytes(), offset).unwrap();
        }
        let producer = Producer::map(file.as_fd(), 0, &OFFSETS, count).unwrap();
        let consumer = Consumer::map(file.as_fd(), 0, &OFFSETS, count).unwrap();
        (producer, consumer, file)
    }

    proptest! {
        #[test]
        fn entries_come_out_once_and_in_order(
            log in 0..6u32,
            start in prop_oneof![Just(0), u32::MAX - 100..=u32::MAX, any::<u32>()],
            steps in proptest::collection::vec((any::<bool>(), 0..80u32), 1..100),
        ) {
            let count = 1 << log;
            let (mut producer, mut consumer, _file) = both_sides::<u64>(count, start);
            let mut model = VecDeque::new();
            let mut number = 0u64;
            for (is_writing, wanted) in steps {
                if is_writing {
                    let room = producer.room(wanted);
                    prop_assert!(room <= count - model.len() as u32);
                    prop_assert!(room >= wanted.min(count - model.len() as u32));
                    for _ in 0..wanted.min(room) {
                        producer.push(number);
                        model.push_back(number);
                        number += 1;
                    }
                    let known = consumer.limit.wrapping_sub(consumer.next);
                    prop_assert!(known > 0 || consumer.available() as usize + wanted.min(room) as usize == model.len());
                    producer.submit();
                } else {
                    let available = consumer.available();
                    prop_assert!(available as usize <= model.len());
                    prop_assert_eq!(available == 0, model.is_empty());
                    prop_assert_eq!(consumer.peek(available), None);
                    for ahead in 0..wanted.min(available) {
                        prop_assert_eq!(consumer.peek(wanted.min(available) - 1 - ahead).is_some(), true);
                        prop_assert_eq!(consumer.pop(), model.pop_front());
                    }
                    consumer.release();
                }
                prop_assert_eq!(producer.pending() as usize, model.len());
            }
        }
    }

    #[test]
    fn a_flag_of_the_kernels_is_seen() {
        let (producer, _consumer, file) = both_sides::<Descriptor>(4, 0);
        assert!(!producer.needs_wakeup());
        file.write_at(&1u32.to_ne_bytes(), OFFSETS.flags).unwrap();
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn a_layout_that_cannot_be_is_refused() {
        let (.., file) = both_sides::<u64>(4, 0);
        let map = |offsets, count| Ring::<u64>::map(file.as_fd(), 0, &offsets, count).err();
        assert!(map(OFFSETS, 3).is_some());
        assert!(map(libc::xdp_ring_offset { producer: 2, ..OFFSETS }, 4).is_some());
        assert!(map(libc::xdp_ring_offset { flags: 4096, ..OFFSETS }, 4).is_some());
        assert!(map(libc::xdp_ring_offset { desc: 193, ..OFFSETS }, 4).is_some());
    }

    #[test]
    fn the_entry_is_the_kernels() {
        assert_eq!((size_of::<Descriptor>(), align_of::<Descriptor>()), (16, 8));
    }
}
