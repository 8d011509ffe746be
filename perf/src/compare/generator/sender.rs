//! The sending end, open loop: a frame is due at its time whatever became of those before it, and carries that time.

use super::stamp::Stamp;
use crate::compare::traffic::{FRAME_LEN, packets};
use pmd_shim::dpdk::{DpdkTx, Mbuf, MbufPool};
use pmd_shim::{BURST, Burst, Frame, TxQueue};

/// So many frames that are late are caught up with, half of a ring; further ones are left out.
const CATCH_UP: u64 = 512;

/// Sends stamped packets of all flows in turn.
pub(super) struct Sender {
    queue: DpdkTx,
    pool: MbufPool,
    packets: Vec<[u8; FRAME_LEN]>,
    next: usize,
    /// Frames that the ring had no room for: they are stamped anew and sent as later ones.
    waiting: Burst<Mbuf>,
    pace: Pace,
    /// The next frame's number, over all trials.
    pub(super) number: u64,
    pub(super) refused: u64,
}

/// Which frames are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    interval_ns: f64,
    /// Frames that were due so far, sent or left out.
    due: u64,
    pub(super) left_out: u64,
}

impl Pace {
    pub(super) fn new(rate: f64) -> Self {
        Self { interval_ns: 1e9 / rate, due: 0, left_out: 0 }
    }

    /// How many frames are to be sent now, at most a burst, and the first one's number in the trial.
    fn take(&mut self, now_ns: u64) -> (u64, u64) {
        let due = (now_ns as f64 / self.interval_ns) as u64 + 1;
        let mut late = due.saturating_sub(self.due);
        if late > CATCH_UP {
            self.left_out += late - CATCH_UP;
            self.due += late - CATCH_UP;
            late = CATCH_UP;
        }
        let first = self.due;
        let count = late.min(BURST as u64);
        self.due += count;
        (count, first)
    }

    /// The ring is full: whatever else is due by now would be refused as well. How many frames that are.
    fn forgo(&mut self, now_ns: u64) -> u64 {
        let late = ((now_ns as f64 / self.interval_ns) as u64 + 1).saturating_sub(self.due);
        self.due += late;
        late
    }

    fn time_ns(&self, frame: u64) -> u64 {
        (frame as f64 * self.interval_ns) as u64
    }
}

impl Sender {
    pub(super) fn new(queue: DpdkTx, pool: MbufPool) -> Self {
        let packets = packets().into_iter().map(|packet| {
            let mut frame = [0; FRAME_LEN];
            frame[..packet.len()].copy_from_slice(&packet);
            frame
        });
        Self {
            queue,
            pool,
            packets: packets.collect(),
            next: 0,
            waiting: Burst::new(),
            pace: Pace::new(1.0),
            number: 1,
            refused: 0,
        }
    }

    /// Begins to send at a rate, time being counted from now.
    pub(super) fn begin(&mut self, rate: f64) {
        self.pace = Pace::new(rate);
        self.refused = 0;
    }

    /// Counts what is refused and left out from here on; the number of the frame that comes next.
    pub(super) fn measure(&mut self) -> u64 {
        self.pace.left_out = 0;
        self.refused = 0;
        self.number
    }

    pub(super) fn left_out(&self) -> u64 {
        self.pace.left_out
    }

    /// The next packet, in a frame that came back, or in a new one.
    fn frame(&mut self, used: &mut Vec<Mbuf>) -> Option<Mbuf> {
        let packet = &self.packets[self.next];
        self.next = if self.next + 1 < self.packets.len() { self.next + 1 } else { 0 };
        if let Some(mut frame) = used.pop()
            && let Some(place) = frame.bytes_mut().first_chunk_mut::<FRAME_LEN>()
        {
            *place = *packet;
            return Some(frame);
        }
        self.pool.copy_from(packet)
    }

    /// Sends what is due, in frames that are used up as far as there are any; how many frames that was.
    pub(super) fn send(&mut self, now_ns: u64, used: &mut Vec<Mbuf>) -> u64 {
        let (count, first) = self.pace.take(now_ns);
        if count == 0 {
            return 0;
        }
        while (self.waiting.len() as u64) < count {
            let Some(frame) = self.frame(used) else { break };
            if self.waiting.try_push(frame).is_err() {
                break;
            }
        }
        // More wait than are due: those are for the next time.
        let spare = self.waiting.len() - self.waiting.len().min(count as usize);
        let mut rest: Burst<Mbuf> = Burst::new();
        rest.extend(self.waiting.drain(self.waiting.len() - spare..));
        for (frame, index) in self.waiting.iter_mut().zip(0..) {
            let due_ns = self.pace.time_ns(first + index);
            Stamp { number: self.number + index, due_ns }.write(frame.bytes_mut());
        }
        let sent = self.queue.send(&mut self.waiting) as u64;
        let more = if sent < count { self.pace.forgo(now_ns) } else { 0 };
        self.refused += count - sent + more;
        self.number += count + more;
        self.waiting.extend(rest);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_at_their_times() {
        let mut pace = Pace::new(1e6);
        assert_eq!(pace.take(0), (1, 0));
        assert_eq!(pace.take(999), (0, 1));
        assert_eq!(pace.take(1_000), (1, 1));
        // Held up for 100 us: caught up with, a burst at a time.
        assert_eq!(pace.take(101_000), (64, 2));
        assert_eq!(pace.take(101_000), (36, 66));
        assert_eq!(pace.time_ns(66), 66_000);
        assert_eq!(pace.left_out, 0);
    }

    #[test]
    fn what_is_too_late_is_left_out_and_said() {
        let mut pace = Pace::new(1e6);
        assert_eq!(pace.take(10_000_000), (64, 10_001 - 512));
        assert_eq!(pace.left_out, 10_001 - 512);
        // A full ring refuses the others too, late or not.
        assert_eq!(pace.forgo(10_000_000), 512 - 64);
        assert_eq!(pace.take(10_000_000), (0, 10_001));
        assert_eq!(pace.left_out, 10_001 - 512);
    }
}
