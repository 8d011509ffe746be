//! Frames that wait for a next hop: one bounded store, a queue in it for each neighbour.

use pmd_shim::Frame;

const END: u16 = u16::MAX;

/// Room for a fixed number of frames over all queues; allocated once.
#[derive(Debug)]
pub(super) struct WaitingFrames<F> {
    places: Box<[Place<F>]>,
    /// The first free place.
    free: u16,
}

#[derive(Debug)]
struct Place<F> {
    frame: Option<F>,
    /// The place behind this one in its queue, or in the list of free places.
    next: u16,
}

/// A queue of places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    first: u16,
    last: u16,
    len: u16,
}

impl Queue {
    pub(super) const EMPTY: Self = Self { first: END, last: END, len: 0 };

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<F: Frame> WaitingFrames<F> {
    /// Room for `capacity` frames, at most 65,535.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.min(usize::from(END));
        let next = |place: usize| if place + 1 < capacity { (place + 1) as u16 } else { END };
        let places = (0..capacity).map(|place| Place { frame: None, next: next(place) }).collect();
        Self { places, free: if capacity == 0 { END } else { 0 } }
    }

    /// Puts a frame at the end of a queue, or gives it back when there is no room.
    pub(super) fn push(&mut self, queue: &mut Queue, frame: F) -> Result<(), F> {
        let place = self.free;
        let Some(taken) = self.places.get_mut(usize::from(place)) else {
            return Err(frame);
        };
        self.free = taken.next;
        *taken = Place { frame: Some(frame), next: END };
        match self.places.get_mut(usize::from(queue.last)) {
            Some(last) => last.next = place,
            None => queue.first = place,
        }
        queue.last = place;
        queue.len += 1;
        Ok(())
    }

    /// Takes the first frame of a queue that was not [taken](Self::take) before.
    pub(super) fn pop(&mut self, queue: &mut Queue) -> Option<F> {
        loop {
            let place = queue.first;
            let first = self.places.get_mut(usize::from(place))?;
            let frame = first.frame.take();
            queue.first = first.next;
            queue.len -= 1;
            if queue.is_empty() {
                queue.last = END;
            }
            first.next = self.free;
            self.free = place;
            if frame.is_some() {
                return frame;
            }
        }
    }

    /// How many places there are.
    pub(super) fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Takes the frame at a place, if it is one of these. The place stays in its queue until its turn comes.
    pub(super) fn take(&mut self, place: usize, is_one: impl Fn(&F) -> bool) -> Option<F> {
        self.places.get_mut(place)?.frame.take_if(|frame| is_one(frame))
    }
}
