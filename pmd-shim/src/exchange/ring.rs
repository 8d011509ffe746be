//! A bounded queue from one thread to one other.
//!
//! What is pushed is seen by the other side when it is published, many at a time: then the cache lines of the queue change hands once for
//! many elements, and neither side waits for the other.

use crate::line::Line;
use crate::prefetch::{prefetch, prefetch_to_write};
use arrayvec::ArrayVec;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// How many elements ahead of the one that is written or read a place's cache line is asked for.
const AHEAD: usize = 8;

/// Elements from `head` to `tail` are initialised and the consumer's; all other places are the producer's. Both count on for ever and wrap.
struct Ring<T> {
    /// A power of two of them.
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Written by the producer.
    tail: Line<AtomicUsize>,
    /// Written by the consumer.
    head: Line<AtomicUsize>,
}

// SAFETY: a place belongs to one side at a time, and changes hands by a release and an acquire of `tail` or `head`; what is in it is sent
// from one thread to the other.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    #[inline]
    fn place(&self, index: usize) -> *mut MaybeUninit<T> {
        self.places[index & (self.places.len() - 1)].get()
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (*self.head.0.get_mut(), *self.tail.0.get_mut());
        while head != tail {
            // SAFETY: both sides are gone (each holds the ring), and what is between `head` and `tail` is initialised.
            unsafe { (*self.place(head)).assume_init_drop() };
            head = head.wrapping_add(1);
        }
    }
}

/// The end that elements are pushed to.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// Where the next element goes.
    tail: usize,
    /// Up to where the consumer sees them.
    published: usize,
    /// Up to where the consumer was known to have taken them.
    head: usize,
}

/// The end that elements are taken from.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    /// Up to where elements were known to be published.
    tail: usize,
}

/// A queue with room for `room` elements, rounded up to a power of two.
pub fn ring<T>(room: usize) -> (Producer<T>, Consumer<T>) {
    let place = |_| UnsafeCell::new(MaybeUninit::uninit());
    let places = (0..room.max(1).next_power_of_two()).map(place).collect();
    let ring = Arc::new(Ring { places, tail: Line::default(), head: Line::default() });
    (
        Producer { ring: Arc::clone(&ring), tail: 0, published: 0, head: 0 },
        Consumer { ring, head: 0, tail: 0 },
    )
}

impl<T> Producer<T> {
    /// Appends an element, which the consumer sees when it is [published](Self::publish).
    ///
    /// # Errors
    /// The element, when the queue is full.
    #[inline]
    pub fn push(&mut self, element: T) -> Result<(), T> {
        let room = self.ring.places.len();
        if self.tail.wrapping_sub(self.head) == room {
            // Acquire: the consumer has moved out of the places before it gave them back.
            self.head = self.ring.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head) == room {
                return Err(element);
            }
        }
        // The consumer has just read it.
        prefetch_to_write(self.ring.place(self.tail.wrapping_add(AHEAD)).cast::<u8>());
        // SAFETY: fewer than `room` elements are between `head` and `tail`, so this place is the producer's, and there is one producer.
        unsafe { (*self.ring.place(self.tail)).write(element) };
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Lets the consumer see all that was pushed. Whether there was something.
    #[inline]
    pub fn publish(&mut self) -> bool {
        let any = self.published != self.tail;
        if any {
            // Release: what was written to the places is seen by whoever sees the new tail.
            self.ring.tail.0.store(self.tail, Ordering::Release);
            self.published = self.tail;
        }
        any
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        // So that the ring knows what is in it.
        self.publish();
    }
}

impl<T> Consumer<T> {
    /// Appends what was published to `burst`, as far as it has room; how many.
    #[inline]
    pub fn take<const N: usize>(&mut self, burst: &mut ArrayVec<T, N>) -> usize {
        if self.head == self.tail {
            // Acquire: pairs with the release in `publish`.
            self.tail = self.ring.tail.0.load(Ordering::Acquire);
        }
        let count = self.tail.wrapping_sub(self.head).min(burst.remaining_capacity());
        if count == 0 {
            return 0;
        }
        for index in 0..count {
            prefetch(self.ring.place(self.head.wrapping_add(index + AHEAD)).cast::<u8>());
            // SAFETY: the place is between `head` and `tail`, so initialised and the consumer's, of which there is one; `head` moves past it
            // below, so that nobody reads it again.
            burst.push(unsafe { (*self.ring.place(self.head.wrapping_add(index))).assume_init_read() });
        }
        self.head = self.head.wrapping_add(count);
        // Release: the producer may write to these places, out of which everything was moved.
        self.ring.head.0.store(self.head, Ordering::Release);
        count
    }

    /// Takes the oldest element.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let mut one = ArrayVec::<T, 1>::new();
        self.take(&mut one);
        one.pop()
    }

    /// Nothing is published that was not taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail && self.head == self.ring.tail.0.load(Ordering::Acquire)
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn elements_are_seen_when_they_are_published_and_come_in_order() {
        let (mut to, mut from) = ring(5);
        let mut burst = ArrayVec::<usize, 3>::new();
        let mut next = 0;
        for round in 0..100 {
            let mut pushed = Vec::new();
            while to.push(next).is_ok() {
                pushed.push(next);
                next += 1;
            }
            assert_eq!(pushed.len(), 8, "round {round}");
            assert!(from.is_empty() && from.take(&mut burst) == 0, "round {round}: not published yet");
            assert!(to.publish() && !to.publish());
            let mut taken = Vec::new();
            while !from.is_empty() {
                assert!(from.take(&mut burst) > 0);
                taken.extend(burst.drain(..));
            }
            assert_eq!(taken, pushed);
        }
    }

    #[test]
    fn what_is_left_is_dropped_once() {
        struct Counted<'a>(&'a AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let dropped = AtomicUsize::new(0);
        let (mut to, mut from) = ring(16);
        for published in [6, 3] {
            for _ in 0..published {
                assert!(to.push(Counted(&dropped)).is_ok());
            }
            if published == 6 {
                to.publish();
            }
        }
        drop(from.pop());
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        drop(from);
        drop(to);
        assert_eq!(dropped.load(Ordering::Relaxed), 9);
    }

    #[test]
    fn nothing_is_lost_between_two_threads() {
        const ELEMENTS: usize = 200_000;
        let (mut to, mut from) = ring(64);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..ELEMENTS {
                    let mut element = Box::new(number);
                    while let Err(refused) = to.push(element) {
                        element = refused;
                        to.publish();
                        std::thread::yield_now();
                    }
                    if number % 7 == 0 {
                        to.publish();
                    }
                }
            });
            let mut burst = ArrayVec::<Box<usize>, 32>::new();
            let mut next = 0;
            while next < ELEMENTS {
                if from.take(&mut burst) == 0 {
                    std::thread::yield_now();
                }
                for element in burst.drain(..) {
                    assert_eq!(*element, next);
                    next += 1;
                }
            }
        });
    }
}
