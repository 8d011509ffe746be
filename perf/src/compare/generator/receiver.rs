//! The receiving end: knows its frames by their stamps, and counts how old they are.

use super::histogram::Histogram;
use super::stamp::Stamp;
use crate::compare::traffic::{FRAME_LEN, Kind, check};
use pmd_shim::dpdk::{DpdkRx, Mbuf};
use pmd_shim::{BURST, Burst, Frame, RxQueue};
use std::time::Instant;

/// So many bursts are taken before something is sent again.
const BURSTS: usize = 4;
/// The first frames of all are looked at, and then each of so many.
const FIRST: u64 = 2_000;
const EACH: u64 = 1024;
/// Not more frames are kept than a ring may hold back.
const USED_MAX: usize = 1024;

/// What came back since a frame that was sent.
pub(super) struct Receiver {
    queue: DpdkRx,
    kind: Kind,
    seen: u64,
    /// What is older is not counted.
    first: u64,
    newest: u64,
    pub(super) arrived: u64,
    pub(super) disordered: u64,
    pub(super) delays: Histogram,
    pub(super) wrong: Option<String>,
    /// Frames that came back, to be sent again.
    pub(super) used: Vec<Mbuf>,
}

impl Receiver {
    pub(super) fn new(queue: DpdkRx, kind: Kind) -> Self {
        Self {
            queue,
            kind,
            seen: 0,
            first: 0,
            newest: 0,
            arrived: 0,
            disordered: 0,
            delays: Histogram::new(),
            wrong: None,
            used: Vec::with_capacity(USED_MAX + BURST),
        }
    }

    /// Counts frames from this number on, and none so far.
    pub(super) fn begin(&mut self, first: u64) {
        self.first = first;
        (self.arrived, self.disordered, self.wrong) = (0, 0, None);
        self.delays.clear();
    }

    /// Takes what is there; how many frames that was.
    pub(super) fn receive(&mut self, begin: Instant) -> usize {
        let mut taken = 0;
        for _ in 0..BURSTS {
            let mut burst = Burst::new();
            let count = self.queue.receive(&mut burst);
            if count == 0 {
                break;
            }
            taken += count;
            let now = begin.elapsed().as_nanos() as u64;
            burst.iter().for_each(Frame::prefetch);
            burst.iter().for_each(|frame| self.count(frame, now));
            self.used.extend(burst.drain(..).filter(|frame| frame.bytes().len() == FRAME_LEN));
            self.used.truncate(USED_MAX);
            if count < BURST {
                break;
            }
        }
        taken
    }

    fn count(&mut self, frame: &Mbuf, now: u64) {
        // What the contender says of itself is none of ours.
        let Some(stamp) = Stamp::of(frame.bytes()) else { return };
        self.seen += 1;
        if (self.seen <= FIRST || self.seen.is_multiple_of(EACH)) && self.wrong.is_none() {
            self.wrong = check(frame.bytes(), self.kind).err();
        }
        if stamp.number < self.first {
            return;
        }
        self.arrived += 1;
        self.disordered += u64::from(stamp.number < self.newest);
        self.newest = self.newest.max(stamp.number);
        self.delays.add(now.saturating_sub(stamp.due_ns));
    }
}
