//! A transmit queue that counts frames and frees them.

use crate::{Burst, Frame, QueueCounters, TxQueue};
use core::marker::PhantomData;

/// Counts what is sent to it and frees it; takes a limited number of frames of each burst.
#[derive(Debug)]
pub struct SinkTx<F> {
    room: usize,
    counters: QueueCounters,
    _frames: PhantomData<fn(F)>,
}

impl<F: Frame> SinkTx<F> {
    /// Takes at most `room` frames of each burst and refuses the rest; `usize::MAX` takes all.
    pub fn new(room: usize) -> Self {
        Self { room, counters: QueueCounters::default(), _frames: PhantomData }
    }
}

impl<F: Frame> TxQueue for SinkTx<F> {
    type Frame = F;

    fn send(&mut self, burst: &mut Burst<F>) -> usize {
        let count = burst.len().min(self.room);
        self.counters.missed += (burst.len() - count) as u64;
        for frame in burst.drain(..count) {
            self.counters.packets += 1;
            self.counters.bytes += frame.bytes().len() as u64;
        }
        count
    }

    fn counters(&mut self) -> QueueCounters {
        self.counters
    }
}
