//! Chunks that were given back by other threads than the owner: a queue of their indices, so that nobody has to look at the chunks
//! themselves, whose cache lines are elsewhere.
//!
//! Any thread gives, one chunk or many, in two steps: it claims places, then it writes to them. One thread at a time takes, and stops at a place that is
//! claimed and not written yet. There is a place for every chunk, and a chunk is in the queue at most once: so a place is claimed anew
//! only after its chunk was taken out and came back, behind which the claims' order puts the clearing of the place.
//!
//! A closed queue only counts: whoever brings back the last chunk is told, and frees the pool.

use crate::line::Line;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

/// In a count of places claimed: the queue is closed.
const CLOSED: u64 = 1 << 63;

/// The queue.
pub(super) struct Returned {
    /// A chunk's index plus 1, or 0 where none is written. A power of two of them, as many as chunks at least.
    places: Box<[AtomicU32]>,
    /// Places claimed so far, and [`CLOSED`].
    claimed: Line<AtomicU64>,
    taker: Line<Taker>,
    /// Once closed: chunks still to come back, as far as both sides have counted.
    missing: AtomicI64,
}

#[derive(Default)]
struct Taker {
    /// Chunks taken so far. Written while `is_busy` only.
    taken: AtomicU64,
    is_busy: AtomicBool,
}

impl Returned {
    pub(super) fn new(capacity: usize) -> Self {
        let places = (0..capacity.next_power_of_two()).map(|_| AtomicU32::new(0)).collect();
        Self { places, claimed: Line::default(), taker: Line::default(), missing: AtomicI64::new(0) }
    }

    #[inline]
    fn place(&self, number: u64) -> &AtomicU32 {
        &self.places[number as usize & (self.places.len() - 1)]
    }

    /// How many chunks are in it.
    #[inline]
    pub(super) fn count(&self) -> usize {
        let taken = self.taker.0.taken.load(Ordering::Relaxed);
        (self.claimed.0.load(Ordering::Relaxed) & !CLOSED).saturating_sub(taken) as usize
    }

    /// Adds chunks, for which it claims their places all at once. `true`: the queue is closed and these were the last ones, so that nobody but
    /// the caller can reach the pool any more. Else the pool is not to be touched from here on: chunks that are not added yet have kept it.
    #[inline]
    pub(super) fn give(&self, indices: impl ExactSizeIterator<Item = u32>) -> bool {
        let count = indices.len() as u64;
        // Acquire and release: what holders of any chunk did comes before what is done by those who claim places later.
        let first = self.claimed.0.fetch_add(count, Ordering::AcqRel);
        if first & CLOSED == 0 {
            for (number, index) in (first..first + count).zip(indices) {
                // Release: whoever takes the chunk sees nothing of its old holder's.
                self.place(number).store(index + 1, Ordering::Release);
            }
            return false;
        }
        let count = count as i64;
        self.missing.fetch_sub(count, Ordering::AcqRel) == count
    }

    /// Takes up to `wanted` chunks, the ones first that came first. None when another thread is just taking some.
    pub(super) fn take(&self, wanted: usize, mut each: impl FnMut(u32)) {
        let Taker { taken, is_busy } = &self.taker.0;
        if is_busy.swap(true, Ordering::Acquire) {
            return;
        }
        let mut next = taken.load(Ordering::Relaxed);
        let end = next + (self.count() as u64).min(wanted as u64);
        while next != end {
            let place = self.place(next);
            // Acquire: pairs with the release in `give`.
            let Some(index) = place.load(Ordering::Acquire).checked_sub(1) else { break };
            place.store(0, Ordering::Relaxed);
            next += 1;
            each(index);
        }
        taken.store(next, Ordering::Relaxed);
        is_busy.store(false, Ordering::Release);
    }

    /// Nobody takes any more. `here`: the chunks that are free elsewhere. `true`: no other one is out, so that nobody but the caller can reach the
    /// pool any more.
    ///
    /// Waits for threads that have claimed a place and not written to it yet.
    pub(super) fn close(&self, capacity: usize, here: usize) -> bool {
        let claimed = self.claimed.0.fetch_or(CLOSED, Ordering::AcqRel);
        let taken = self.taker.0.taken.load(Ordering::Relaxed);
        for number in taken..claimed {
            while self.place(number).load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
        }
        let out = (capacity - here) as i64 - (claimed - taken) as i64;
        self.missing.fetch_add(out, Ordering::AcqRel) + out == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn taken(returned: &Returned, wanted: usize) -> Vec<u32> {
        let mut all = Vec::new();
        returned.take(wanted, |index| all.push(index));
        all
    }

    #[test]
    fn chunks_come_out_once_in_the_order_in_which_they_came() {
        let returned = Returned::new(5);
        for round in 0..20 {
            let order = [3, 0, 4, 1, 2].map(|index| (index + round) % 5);
            let (one_by_one, together) = order.split_at(round as usize % 5);
            assert!(one_by_one.iter().all(|index| !returned.give([*index].into_iter())));
            assert!(!returned.give(together.iter().copied()));
            assert_eq!(returned.count(), 5);
            assert_eq!(taken(&returned, 2), order[..2]);
            assert_eq!(taken(&returned, 9), order[2..]);
            assert_eq!((taken(&returned, 9), returned.count()), (vec![], 0));
        }
    }

    #[test]
    fn exactly_one_is_told_to_free_a_closed_pool() {
        const CHUNKS: u32 = 64;
        for round in 0..500 {
            let returned = Returned::new(CHUNKS as usize);
            let told = AtomicUsize::new(0);
            let tell = |is_last: bool| {
                told.fetch_add(usize::from(is_last), Ordering::Relaxed);
            };
            // Some are free elsewhere, some are taken before it is closed, and are free then.
            let here = round % 7;
            std::thread::scope(|scope| {
                let [first, rest] = [here..20, 20..CHUNKS];
                scope.spawn(|| first.for_each(|index| tell(returned.give([index].into_iter()))));
                scope.spawn(|| {
                    let rest: Vec<u32> = rest.collect();
                    rest.chunks(5).for_each(|some| tell(returned.give(some.iter().copied())));
                });
                let free = here as usize + taken(&returned, 10).len();
                tell(returned.close(CHUNKS as usize, free));
            });
            assert_eq!(told.into_inner(), 1, "round {round}");
        }
    }
}
