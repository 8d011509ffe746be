//! Chunks that are lent to the kernel, by their place in the pool's memory.

use super::chunk::HEADER;
use super::{Pool, PoolFrame};
use crate::prefetch::prefetch;
use core::fmt;
use core::mem;

/// A pool's memory as an AF_XDP socket is told of it: aligned chunks, with the pool's own line in the room at their start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Umem {
    /// Address of the first chunk, aligned to a page.
    pub(crate) start: u64,
    /// Bytes of all chunks.
    pub(crate) bytes: u64,
    /// Bytes of a chunk: 2048 or 4096.
    pub(crate) chunk: u32,
    /// Bytes at a chunk's start that are to be left alone.
    pub(crate) headroom: u32,
    /// The longest frame that fits in a chunk.
    pub(crate) frame_max: u32,
}

/// The chunks of a pool that one ring of the kernel's has: each lent once, and taken back or freed once.
///
/// Dropping it frees none of them, as the kernel may still write to them: whoever knows that it does not calls [`Loan::end`].
pub(crate) struct Loan {
    pool: Pool,
    /// A bit for each chunk of the pool: it is lent.
    lent: Box<[u64]>,
    count: usize,
}

impl Loan {
    /// Nothing lent yet.
    pub(crate) fn new(pool: Pool) -> Self {
        let lent = vec![0; pool.capacity().div_ceil(64)].into();
        Self { pool, lent, count: 0 }
    }

    /// How the pool's memory is described to the kernel.
    pub(crate) fn umem(pool: &Pool) -> Umem {
        let geometry = pool.shared().geometry();
        Umem {
            start: pool.shared().base().addr().get() as u64,
            bytes: (pool.capacity() * geometry.chunk) as u64,
            chunk: geometry.umem_chunk() as u32,
            headroom: geometry.umem_headroom() as u32,
            frame_max: geometry.umem_room() as u32,
        }
    }

    /// The pool whose chunks are lent.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How many chunks are lent.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Lends up to `wanted` free chunks and hands out where they start; returns how many.
    #[inline]
    pub(crate) fn lend_free(&mut self, wanted: usize, mut each: impl FnMut(u64)) -> usize {
        let Self { pool, lent, count } = self;
        let chunk = pool.shared().geometry().chunk as u64;
        let taken = pool.shared().take_many(wanted, |index| {
            mark(lent, index);
            each(u64::from(index) * chunk);
        });
        *count += taken;
        taken
    }

    /// Lends a frame: where it starts, and its length.
    ///
    /// # Errors
    /// The frame, when it is of another pool or lies partly outside of what the kernel was told of.
    #[inline]
    pub(crate) fn lend(&mut self, frame: PoolFrame) -> Result<(u64, u32), PoolFrame> {
        let geometry = self.pool.shared().geometry();
        if frame.home() != self.pool.shared {
            return Err(frame);
        }
        let (index, data, len) = frame.place();
        let start = geometry.colour(index as usize) + data;
        if start + len > geometry.umem_chunk() {
            return Err(frame);
        }
        let address = index as usize * geometry.chunk + start;
        // From here on the chunk belongs to the loan.
        mem::forget(frame);
        mark(&mut self.lent, index);
        self.count += 1;
        Ok((address as u64, len as u32))
    }

    /// Asks the processor for the lines of the frame at `address` that [`take_back`](Self::take_back) and its reader need.
    #[inline]
    pub(crate) fn prefetch(&self, address: u64) {
        let shared = self.pool.shared();
        let geometry = shared.geometry();
        let address = address as usize;
        let (index, _) = geometry.split(address);
        let base = shared.base().as_ptr().cast_const();
        prefetch(base.wrapping_add(geometry.header_offset(index)));
        prefetch(base.wrapping_add(address));
    }

    /// The frame of `len` bytes that the kernel wrote at `address`; `None` if no chunk that holds it was lent.
    #[inline]
    pub(crate) fn take_back(&mut self, address: u64, len: u32) -> Option<PoolFrame> {
        let shared = self.pool.shared();
        let geometry = shared.geometry();
        let (address, len) = (usize::try_from(address).ok()?, len as usize);
        let (index, start) = geometry.split(address);
        let data = start.checked_sub(geometry.colour(index)).filter(|&data| data >= HEADER)?;
        if start + len > geometry.umem_chunk() || !unmark(&mut self.lent, index) {
            return None;
        }
        self.count -= 1;
        // SAFETY: the chunk was lent, so it is in no list and has no handle, and its mark, gone now, made sure that this is the only
        // handle made from it. `data` and `len` are within the chunk, as was just checked. The kernel gives up a chunk by returning it.
        Some(unsafe { PoolFrame::written(shared.header(index), data, len) })
    }

    /// Frees the chunks that hold `addresses`, which the kernel is done with; returns how many of them had not been lent.
    #[inline]
    pub(crate) fn free(&mut self, addresses: impl Iterator<Item = u64>) -> usize {
        let Self { pool, lent, count } = self;
        let geometry = pool.shared().geometry();
        let mut strange = 0;
        let ours = addresses.filter_map(|address| {
            let (index, _) = geometry.split(usize::try_from(address).ok()?);
            if unmark(lent, index) {
                *count -= 1;
                Some(index as u32)
            } else {
                strange += 1;
                None
            }
        });
        // SAFETY: their marks, gone now, say that the loan held the chunks; the loan's handle keeps the pool alive.
        unsafe { pool.shared().give_many(ours) };
        strange
    }

    /// Frees all chunks.
    ///
    /// # Safety
    /// The kernel neither reads nor writes any of them from here on.
    pub(crate) unsafe fn end(mut self) {
        let lent = mem::take(&mut self.lent);
        let bits = lent.iter().enumerate().flat_map(|(word, &bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| (word * 64 + bit) as u32)
        });
        // SAFETY: each mark stands for a chunk that the loan holds; the loan's handle keeps the pool alive.
        unsafe { self.pool.shared().give_many(bits) };
    }
}

/// Marks a chunk as lent, which it was not.
#[inline]
fn mark(lent: &mut [u64], index: u32) {
    if let Some(word) = lent.get_mut(index as usize / 64) {
        debug_assert!(*word >> (index % 64) & 1 == 0, "a chunk is lent twice");
        *word |= 1 << (index % 64);
    }
}

/// Takes a chunk's mark away; returns whether it had one.
#[inline]
fn unmark(lent: &mut [u64], index: usize) -> bool {
    let Some(word) = lent.get_mut(index / 64) else { return false };
    let bit = 1 << (index % 64);
    let was_lent = *word & bit != 0;
    *word &= !bit;
    was_lent
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("pool", &self.pool).field("count", &self.count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frame, PoolOptions};
    use proptest::prelude::*;

    fn pool(frames: usize, data_room: usize) -> Pool {
        Pool::new(PoolOptions { frames, data_room }).unwrap()
    }

    #[test]
    fn the_header_is_in_front_of_what_the_kernel_writes() {
        for data_room in [60, 1500, 1518, 1728, 1729, 3776, 3777, 9018] {
            let pool = pool(64, data_room);
            let umem = Loan::umem(&pool);
            let mut loan = Loan::new(pool.clone());
            let mut starts = Vec::new();
            assert_eq!(loan.lend_free(100, |start| starts.push(start)), 64);
            for (number, start) in starts.into_iter().enumerate() {
                // As the kernel does: behind the room that it leaves, to the end of its chunk.
                let at = start + u64::from(umem.headroom) + 256;
                let len = umem.chunk - umem.headroom - 256;
                assert_eq!(len, umem.frame_max);
                let mut frame = loan.take_back(at, len).unwrap();
                assert_eq!(frame.bytes().as_ptr().addr() as u64, umem.start + at);
                frame.bytes_mut().fill(number as u8);
                frame.push_front(crate::HEADROOM).unwrap();
                frame.bytes_mut().fill(number as u8);
                assert_eq!(frame.home(), pool.shared);
            }
            assert_eq!(pool.in_use(), 0);
            assert!(data_room > 3776 || umem.frame_max as usize >= data_room, "{data_room}");
        }
    }

    #[test]
    fn what_was_not_lent_is_not_taken_back() {
        let pool = pool(8, 1518);
        let umem = Loan::umem(&pool);
        let mut loan = Loan::new(pool.clone());
        let mut start = 0;
        loan.lend_free(1, |address| start = address);
        let at = start + u64::from(umem.headroom) + 256;
        assert!(loan.take_back(start, 10).is_none(), "the header's own line");
        assert!(loan.take_back(at, umem.frame_max + 1).is_none(), "beyond the chunk");
        assert!(loan.take_back(at + 2048, 10).is_none(), "another chunk");
        assert!(loan.take_back(u64::MAX, 10).is_none());
        assert!(loan.take_back(umem.bytes + at, 10).is_none());
        drop(loan.take_back(at, 10).unwrap());
        assert!(loan.take_back(at, 10).is_none(), "twice");
        assert_eq!(loan.free([at, u64::MAX].into_iter()), 2);
        assert_eq!((loan.count(), pool.in_use()), (0, 0));
    }

    #[test]
    fn only_frames_that_the_kernel_reaches_are_lent() {
        let (home, other) = (pool(8, 9018), pool(8, 9018));
        let mut loan = Loan::new(home.clone());
        let foreign = other.copy_from(&[1; 100]).unwrap();
        assert!(loan.lend(foreign).is_err());
        assert!(loan.lend(home.copy_from(&[1; 5000]).unwrap()).is_err(), "longer than a page");
        let (address, len) = loan.lend(home.copy_from(&[1; 1000]).unwrap()).unwrap();
        assert_eq!((len, loan.count(), home.in_use()), (1000, 1, 1));
        assert_eq!(loan.free([address].into_iter()), 0);
        assert_eq!((loan.count(), home.in_use(), other.in_use()), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn every_chunk_is_in_one_place(steps in proptest::collection::vec((0..4u8, 0..16usize), 0..200)) {
            let pool = pool(32, 600);
            let _owner = pool.adopt().unwrap();
            let umem = Loan::umem(&pool);
            let mut loan = Loan::new(pool.clone());
            let (mut lent, mut held) = (Vec::new(), Vec::new());
            for (step, choice) in steps {
                match step {
                    0 => { loan.lend_free(choice, |start| lent.push(start + u64::from(umem.headroom) + 256)); }
                    1 if !lent.is_empty() => {
                        let at = lent.swap_remove(choice % lent.len());
                        held.push(loan.take_back(at, 60).unwrap());
                    }
                    2 if !held.is_empty() => {
                        let (at, _) = loan.lend(held.swap_remove(choice % held.len())).unwrap();
                        lent.push(at);
                    }
                    3 if !lent.is_empty() => {
                        let at = lent.swap_remove(choice % lent.len());
                        prop_assert_eq!(loan.free([at].into_iter()), 0);
                    }
                    _ => held.truncate(choice),
                }
                prop_assert_eq!(loan.count(), lent.len());
                prop_assert_eq!(pool.in_use(), lent.len() + held.len());
            }
            held.clear();
            // SAFETY: no kernel has the chunks.
            unsafe { loan.end() };
            prop_assert_eq!(pool.in_use(), 0);
        }
    }
}
