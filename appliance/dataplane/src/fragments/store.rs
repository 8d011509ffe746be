//! Room that is taken once: frames that wait, in chains.

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// Frames in chains, first in first out, in a fixed number of places.
#[derive(Debug)]
pub(super) struct Store<F> {
    places: Vec<Place<F>>,
    free: Chain,
    len: usize,
}

#[derive(Debug)]
struct Place<F> {
    frame: Option<F>,
    next: u32,
}

/// A chain of places in one [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    head: u32,
    tail: u32,
}

impl Chain {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(super) fn is_empty(self) -> bool {
        self.head == NONE
    }
}

impl<F> Store<F> {
    pub(super) fn new(capacity: usize) -> Self {
        let mut store = Self { places: Vec::with_capacity(capacity), free: Chain::EMPTY, len: 0 };
        for place in (0..NONE).take(capacity) {
            store.places.push(Place { frame: None, next: NONE });
            let free = store.free;
            store.free = store.linked(free, place);
        }
        store
    }

    /// Whether another frame fits.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// How many frames wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a frame at the end of a chain; gives it back where there is no room.
    pub(super) fn push(&mut self, chain: &mut Chain, frame: F) -> Result<(), F> {
        let place = self.free.head;
        let Some(free) = self.places.get_mut(place as usize) else { return Err(frame) };
        free.frame = Some(frame);
        self.free.head = core::mem::replace(&mut free.next, NONE);
        if self.free.head == NONE {
            self.free = Chain::EMPTY;
        }
        *chain = self.linked(*chain, place);
        self.len += 1;
        Ok(())
    }

    /// Takes the frame at the front of a chain.
    pub(super) fn pop(&mut self, chain: &mut Chain) -> Option<F> {
        let place = chain.head;
        let taken = self.places.get_mut(place as usize)?;
        let frame = taken.frame.take();
        chain.head = core::mem::replace(&mut taken.next, NONE);
        if chain.head == NONE {
            *chain = Chain::EMPTY;
        }
        self.free = self.linked(self.free, place);
        self.len -= 1;
        frame
    }

    /// Puts all of `from` behind `to`.
    pub(super) fn append(&mut self, to: &mut Chain, from: Chain) {
        if !from.is_empty() {
            *to = Chain { tail: from.tail, ..self.linked(*to, from.head) };
        }
    }

    /// `chain` with `place` behind its end.
    fn linked(&mut self, chain: Chain, place: u32) -> Chain {
        match self.places.get_mut(chain.tail as usize) {
            Some(tail) => {
                tail.next = place;
                Chain { head: chain.head, tail: place }
            }
            None => Chain { head: place, tail: place },
        }
    }
}
