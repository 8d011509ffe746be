//! The bounds of a connection's sequence and acknowledgement numbers.

use super::{INVALID, TcpState, after, before, segment_end};
use crate::flow::record::Side;
use crate::verdict::DropReason;
use crate::wire::{Tcp, TcpFlags};

/// Sides are numbers here, as fields are indexed by them: nothing is to be decided about them for each packet.
impl TcpState {
    /// The sequence number up to which side `s` lets the other one send.
    #[inline(always)]
    pub(super) fn edge(&self, s: usize) -> u32 {
        self.ack[s].wrapping_add(u32::from(self.offered[s]) << self.details.scale(s))
    }

    /// How far behind the other side's `end` an acknowledgement of side `s`, or a retransmission to it, may be: two windows (the
    /// bound of RFC 5961, 5.2, from the point of view of the middle, which does not know what arrived), at least 131 072 and at most 2^30.
    #[inline(always)]
    fn reach(&self, s: usize) -> u32 {
        2 << self.details.window_log(s)
    }

    /// The lowest sequence number that side `s` may still send.
    #[inline(always)]
    pub(super) fn floor(&self, s: usize) -> u32 {
        self.end[s].wrapping_sub(self.reach(s ^ 1))
    }

    /// Whether the sequence number is one that the other side lets `side` send or retransmit, and the acknowledgement one for data
    /// that the other side sent. A segment may begin right at the edge, which is how a closed window is probed with one byte; an empty
    /// one after that byte, or after all that was sent.
    #[inline(always)]
    pub(super) fn check_window(&self, side: Side, tcp: &Tcp, len: u32) -> Result<(), DropReason> {
        let fits = self.fits(side.index(), tcp.seq, segment_end(tcp, len), tcp.ack);
        if fits { Ok(()) } else { Err(INVALID) }
    }

    /// The same of numbers by themselves: those of a segment from `seq` to `end`.
    #[inline(always)]
    pub(super) fn fits(&self, s: usize, seq: u32, end: u32, ack: u32) -> bool {
        let is_empty = end == seq;
        if after(seq, self.edge(s ^ 1).wrapping_add(u32::from(is_empty))) && !(is_empty && seq == self.end[s])
        {
            return false;
        }
        if before(end, self.floor(s)) {
            return false;
        }
        // An acknowledgement of what was not sent is, so to say, farther behind than any reach, which is at most 2^30.
        self.end[s ^ 1].wrapping_sub(ack) <= self.reach(s)
    }

    /// Takes over a segment that fits: what was sent, what is acknowledged, what is offered.
    #[inline(always)]
    pub(super) fn advance(&mut self, side: Side, tcp: &Tcp, len: u32) {
        let s = side.index();
        self.send(s, segment_end(tcp, len));
        if tcp.flags.any(TcpFlags::SYN) {
            // A SYN's own window is never scaled (RFC 7323, 2.2).
            self.keep_edge(s, tcp.ack, tcp.window.into());
        } else {
            self.offer(s, tcp.ack, tcp.window);
        }
    }

    /// Notes how far side `s` sent.
    #[inline(always)]
    pub(super) fn send(&mut self, s: usize, end: u32) {
        if after(end, self.end[s]) {
            self.end[s] = end;
        }
    }

    /// Notes what side `s` acknowledges, and the window as a segment that is no SYN says it.
    #[inline(always)]
    pub(super) fn offer(&mut self, s: usize, ack: u32, units: u16) {
        let window = u32::from(units) << self.details.scale(s);
        let edge = ack.wrapping_add(window);
        if before(ack, self.ack[s]) | before(edge, self.edge(s)) || self.details.is_larger(s, window) {
            self.keep_edge(s, ack, window);
        } else {
            self.ack[s] = ack;
            self.offered[s] = units;
        }
    }

    /// The same with a window in bytes that may be larger than all before, where the acknowledgement or the edge may be behind what
    /// they were: these never go back.
    #[inline(never)]
    fn keep_edge(&mut self, s: usize, ack: u32, window: u32) {
        let scale = self.details.scale(s);
        let edge = later(self.edge(s), ack.wrapping_add(window));
        self.ack[s] = later(self.ack[s], ack);
        // Rounded up to a unit of the scale; never beyond the largest window, as `ack` only goes forward.
        let units = edge.wrapping_sub(self.ack[s]).wrapping_add((1 << scale) - 1) >> scale;
        self.offered[s] = units.min(u32::from(u16::MAX)) as u16;
        self.details.note_window(s, window);
    }
}

/// The later one of two sequence numbers.
#[inline(always)]
fn later(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}
