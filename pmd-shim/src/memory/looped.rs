//! A receive queue that never runs dry: a table of packets, copied into new frames again and again.

use crate::prefetch::prefetch;
use crate::{Burst, Frame, FrameSource, QueueCounters, RxOffload, RxQueue};
use std::sync::Arc;

/// How many packets ahead of the one that is copied the next ones are asked for.
const AHEAD: usize = 8;

/// A table of packets, one behind the other in memory.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    bytes: Vec<u8>,
    /// Where each packet ends; it begins where the one before ends.
    ends: Vec<usize>,
}

impl Templates {
    /// A table of these packets, in this order.
    pub fn new<P: AsRef<[u8]>>(packets: impl IntoIterator<Item = P>) -> Self {
        let mut table = Self::default();
        for packet in packets {
            table.bytes.extend_from_slice(packet.as_ref());
            table.ends.push(table.bytes.len());
        }
        table
    }

    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There is no packet.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Packet `index`, counted from 0.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start..end)
    }
}

/// Receives the packets of a table in order, over and over, as many as the burst has room for.
#[derive(Debug)]
pub struct LoopRx<S> {
    source: S,
    templates: Arc<Templates>,
    next: usize,
    per_burst: usize,
    offload: RxOffload,
    counters: QueueCounters,
}

impl<S: FrameSource> LoopRx<S> {
    /// Copies `templates`, beginning with packet `first`, into frames of `source`: at most `per_burst` a receive, each with
    /// the driver's findings `offload`.
    pub fn new(
        source: S,
        templates: Arc<Templates>,
        first: usize,
        per_burst: usize,
        offload: RxOffload,
    ) -> Self {
        let next = if first < templates.len() { first } else { 0 };
        Self { source, templates, next, per_burst, offload, counters: QueueCounters::default() }
    }

    /// The next packet of the table in a new frame; `None`, counted, when there is no buffer or none that is large enough.
    fn copy_next(&mut self) -> Option<S::Frame> {
        let template = self.templates.get(self.next)?;
        if let Some(ahead) = self.templates.get(self.next + AHEAD) {
            prefetch(ahead.as_ptr());
        }
        let Some(mut frame) = self.source.allocate() else {
            self.counters.no_buffer += 1;
            return None;
        };
        self.next = if self.next + 1 < self.templates.len() { self.next + 1 } else { 0 };
        if frame.set_len(template.len()).is_err() {
            self.counters.errors += 1;
            return None;
        }
        frame.bytes_mut().copy_from_slice(template);
        frame.set_offload(self.offload);
        self.counters.packets += 1;
        self.counters.bytes += template.len() as u64;
        Some(frame)
    }
}

impl<S: FrameSource> RxQueue for LoopRx<S> {
    type Frame = S::Frame;

    fn receive(&mut self, burst: &mut Burst<S::Frame>) -> usize {
        let room = burst.remaining_capacity().min(self.per_burst);
        for received in 0..room {
            let Some(frame) = self.copy_next() else { return received };
            burst.push(frame);
        }
        room
    }

    fn counters(&mut self) -> QueueCounters {
        self.counters
    }
}
