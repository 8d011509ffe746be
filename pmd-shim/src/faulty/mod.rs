//! A bad link in front of any queue: drops, duplicates, reorders, corrupts and refuses frames, by a seed and counted.
//!
//! [`Faulty`] decides what happens to each frame from its seed and the frames' order alone, so a failing run can be run
//! again. It loses nothing that it does not count: in either direction, what went in is
//! `out + held + dropped - duplicated`, once refused frames are left to the caller.

mod random;
#[cfg(test)]
mod tests;

pub use random::Random;

use crate::idle::WaitHandles;
use crate::{BURST, Burst, ChecksumStatus, Frame, FrameSource, QueueCounters, RxQueue, TxQueue};
use core::fmt;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// How often each fault happens, in thousandths of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultOptions {
    /// What the sequence of faults is derived from.
    pub seed: u64,
    /// Frames that are lost.
    pub drop_per_mille: u16,
    /// Frames that are followed by a copy.
    pub duplicate_per_mille: u16,
    /// Frames that are held back behind later ones.
    pub reorder_per_mille: u16,
    /// How many frames can be held back at a time; with 0 none is.
    pub reorder_frames_max: usize,
    /// For how many bursts a frame is held back at most; at least 1.
    pub reorder_bursts_max: u32,
    /// Frames in which one bit is turned over.
    pub corrupt_per_mille: u16,
    /// Bursts of which the queue takes only a front part (transmit queues only).
    pub refuse_per_mille: u16,
}

/// How often each fault has happened, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    /// Frames lost.
    pub dropped: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Copies that were due but for which there was no buffer.
    pub not_duplicated: u64,
    /// Frames held back.
    pub reordered: u64,
    /// Frames with a bit turned over.
    pub corrupted: u64,
    /// Frames refused on sending: by a fault, or because the link was full while the wrapped queue took none.
    pub refused: u64,
}

struct Held<F> {
    frame: F,
    bursts_left: u32,
}

/// What stands between the wrapped queue and its user: frames go in, frames come out, not necessarily the same.
struct Link<S: FrameSource> {
    options: FaultOptions,
    random: Random,
    source: S,
    /// Frames that wait for later ones to overtake them.
    held: VecDeque<Held<S::Frame>>,
    /// Frames that have crossed the link. Bounded, as frames enter only while there are fewer than a burst.
    crossed: VecDeque<S::Frame>,
    counters: FaultCounters,
}

impl<S: FrameSource> Link<S> {
    fn new(options: FaultOptions, source: S) -> Self {
        Self {
            options,
            random: Random::new(options.seed),
            source,
            held: VecDeque::with_capacity(options.reorder_frames_max),
            crossed: VecDeque::with_capacity(2 * BURST + options.reorder_frames_max),
            counters: FaultCounters::default(),
        }
    }

    /// How many more frames may enter now.
    fn room(&self) -> usize {
        BURST.saturating_sub(self.crossed.len())
    }

    /// Puts a frame on the link.
    fn pass(&mut self, mut frame: S::Frame) {
        if self.random.happens(self.options.drop_per_mille) {
            self.counters.dropped += 1;
            return;
        }
        // The copy is made before the original is damaged: two copies fail independently on a real link too.
        let mut copy = None;
        if self.random.happens(self.options.duplicate_per_mille) {
            copy = self.copy(&frame);
            match copy {
                Some(_) => self.counters.duplicated += 1,
                None => self.counters.not_duplicated += 1,
            }
        }
        if self.random.happens(self.options.corrupt_per_mille) {
            self.corrupt(&mut frame);
        }
        let holds = self.random.happens(self.options.reorder_per_mille);
        if holds && self.held.len() < self.options.reorder_frames_max {
            self.counters.reordered += 1;
            let bursts_left = 1 + self.random.below(u64::from(self.options.reorder_bursts_max.max(1))) as u32;
            self.held.push_back(Held { frame, bursts_left });
        } else {
            self.crossed.push_back(frame);
        }
        self.crossed.extend(copy);
    }

    fn copy(&mut self, frame: &S::Frame) -> Option<S::Frame> {
        let mut copy = self.source.allocate()?;
        copy.set_len(frame.bytes().len()).ok()?;
        copy.bytes_mut().copy_from_slice(frame.bytes());
        copy.set_offload(frame.offload());
        copy.set_mark(frame.mark());
        Some(copy)
    }

    fn corrupt(&mut self, frame: &mut S::Frame) {
        let bit = self.random.below(frame.bytes().len() as u64 * 8);
        if let Some(byte) = frame.bytes_mut().get_mut((bit / 8) as usize) {
            *byte ^= 1 << (bit % 8);
            self.counters.corrupted += 1;
            // Nobody vouches for a checksum any more.
            let mut offload = frame.offload();
            offload.checksum = ChecksumStatus::Unverified;
            frame.set_offload(offload);
        }
    }

    /// Lets out what has been held back for long enough. Called once a burst, after the burst's frames.
    fn let_out(&mut self) {
        for held in &mut self.held {
            held.bursts_left = held.bursts_left.saturating_sub(1);
        }
        while let Some(at) = self.held.iter().position(|held| held.bursts_left == 0)
            && let Some(held) = self.held.remove(at)
        {
            self.crossed.push_back(held.frame);
        }
    }
}

/// A queue behind a bad link.
///
/// Frames that are held back move on with later calls, empty bursts included: keep calling until [`held`](Self::held) is 0.
pub struct Faulty<Q, S: FrameSource> {
    queue: Q,
    link: Link<S>,
    /// A burst for the wrapped queue: what it gave, or what it has not taken yet.
    between: Burst<S::Frame>,
}

impl<Q, S: FrameSource> Faulty<Q, S> {
    /// Puts a bad link in front of `queue`; copies are made in frames of `source`.
    pub fn new(queue: Q, source: S, options: FaultOptions) -> Self {
        Self { queue, link: Link::new(options, source), between: Burst::new() }
    }

    /// How often each fault has happened.
    pub fn faults(&self) -> FaultCounters {
        self.link.counters
    }

    /// How many frames are on the link: received from the wrapped queue but not yet delivered, or taken but not yet sent.
    pub fn held(&self) -> usize {
        self.link.held.len() + self.link.crossed.len() + self.between.len()
    }

    /// The wrapped queue.
    pub fn inner(&mut self) -> &mut Q {
        &mut self.queue
    }
}

impl<Q, S: FrameSource> fmt::Debug for Faulty<Q, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("options", &self.link.options)
            .field("faults", &self.link.counters)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl<Q: RxQueue, S: FrameSource<Frame = Q::Frame>> RxQueue for Faulty<Q, S> {
    type Frame = Q::Frame;

    fn receive(&mut self, burst: &mut Burst<Q::Frame>) -> usize {
        if self.link.crossed.is_empty() {
            self.queue.receive(&mut self.between);
            for frame in self.between.drain(..) {
                self.link.pass(frame);
            }
            self.link.let_out();
        }
        let count = self.link.crossed.len().min(burst.remaining_capacity());
        burst.extend(self.link.crossed.drain(..count));
        count
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        // What is held back comes out by being polled for, not by anything that arrives.
        if self.held() > 0 { None } else { self.queue.wait_handle() }
    }

    fn wait_handles<'a>(&'a self, handles: &mut WaitHandles<'a>) -> bool {
        self.held() == 0 && self.queue.wait_handles(handles)
    }

    fn counters(&mut self) -> QueueCounters {
        self.queue.counters()
    }
}

impl<Q: TxQueue, S: FrameSource<Frame = Q::Frame>> TxQueue for Faulty<Q, S> {
    type Frame = Q::Frame;

    fn send(&mut self, burst: &mut Burst<Q::Frame>) -> usize {
        let offered = burst.len();
        let mut room = offered.min(self.link.room());
        if self.link.random.happens(self.link.options.refuse_per_mille) {
            room = self.link.random.below(room as u64 + 1) as usize;
        }
        self.link.counters.refused += (offered - room) as u64;
        for frame in burst.drain(..room) {
            self.link.pass(frame);
        }
        self.link.let_out();
        // Twice: a burst of duplicated frames is two bursts long.
        for _ in 0..2 {
            let count = self.link.crossed.len().min(self.between.remaining_capacity());
            self.between.extend(self.link.crossed.drain(..count));
            if !self.between.is_empty() {
                self.queue.send(&mut self.between);
            }
        }
        room
    }

    fn counters(&mut self) -> QueueCounters {
        // What the wrapped queue refuses is not refused to the user: it stays on the link.
        QueueCounters { missed: self.link.counters.refused, ..self.queue.counters() }
    }
}
