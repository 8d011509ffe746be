//! A bounded queue of frames between a test and a port.

use crate::{Burst, Frame, QueueCounters, RxQueue, TxQueue};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

struct State<F> {
    frames: VecDeque<F>,
    room: usize,
}

/// A first-in, first-out queue of frames; clones are the same queue. The end of a memory port that a test holds.
pub struct MemoryQueue<F> {
    state: Arc<Mutex<State<F>>>,
}

impl<F: Frame> MemoryQueue<F> {
    /// An empty queue with room for this many frames.
    pub fn new(room: usize) -> Self {
        Self { state: Arc::new(Mutex::new(State { frames: VecDeque::new(), room })) }
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        // Each use leaves the queue whole, so a panic of another holder does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// Gives the frame back when the queue is full.
    pub fn push(&self, frame: F) -> Result<(), F> {
        let mut state = self.lock();
        if state.frames.len() >= state.room {
            return Err(frame);
        }
        state.frames.push_back(frame);
        Ok(())
    }

    /// Takes the oldest frame.
    pub fn pop(&self) -> Option<F> {
        self.lock().frames.pop_front()
    }

    /// Takes all frames, the oldest first.
    pub fn take_all(&self) -> Vec<F> {
        self.lock().frames.drain(..).collect()
    }

    /// How many frames are in the queue.
    pub fn len(&self) -> usize {
        self.lock().frames.len()
    }

    /// There is no frame in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes how many frames the queue has room for; what is there already stays.
    pub fn set_room(&self, room: usize) {
        self.lock().room = room;
    }
}

impl<F> Clone for MemoryQueue<F> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<F> fmt::Debug for MemoryQueue<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue").finish_non_exhaustive()
    }
}

/// Receives what was pushed to a [`MemoryQueue`].
#[derive(Debug)]
pub struct MemoryRx<F> {
    queue: MemoryQueue<F>,
    counters: QueueCounters,
}

impl<F: Frame> MemoryRx<F> {
    /// Receives from `queue`.
    pub fn new(queue: MemoryQueue<F>) -> Self {
        Self { queue, counters: QueueCounters::default() }
    }
}

impl<F: Frame> RxQueue for MemoryRx<F> {
    type Frame = F;

    fn receive(&mut self, burst: &mut Burst<F>) -> usize {
        let mut state = self.queue.lock();
        let count = state.frames.len().min(burst.remaining_capacity());
        for frame in state.frames.drain(..count) {
            self.counters.packets += 1;
            self.counters.bytes += frame.bytes().len() as u64;
            burst.push(frame);
        }
        count
    }

    fn counters(&mut self) -> QueueCounters {
        self.counters
    }
}

/// Sends to a [`MemoryQueue`], as long as it has room.
#[derive(Debug)]
pub struct MemoryTx<F> {
    queue: MemoryQueue<F>,
    counters: QueueCounters,
}

impl<F: Frame> MemoryTx<F> {
    /// Sends to `queue`.
    pub fn new(queue: MemoryQueue<F>) -> Self {
        Self { queue, counters: QueueCounters::default() }
    }
}

impl<F: Frame> TxQueue for MemoryTx<F> {
    type Frame = F;

    fn send(&mut self, burst: &mut Burst<F>) -> usize {
        let mut state = self.queue.lock();
        let count = burst.len().min(state.room.saturating_sub(state.frames.len()));
        self.counters.missed += (burst.len() - count) as u64;
        for frame in burst.drain(..count) {
            self.counters.packets += 1;
            self.counters.bytes += frame.bytes().len() as u64;
            state.frames.push_back(frame);
        }
        count
    }

    fn counters(&mut self) -> QueueCounters {
        self.counters
    }
}
