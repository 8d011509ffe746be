//! The bounds of a connection's sequence and acknowledgement numbers.

use super::{INVALID, TcpState, after, before, segment_end};
use crate::flow::record::Side;
use crate::verdict::DropReason;
use crate::wire::{Tcp, TcpFlags};

impl TcpState {
    /// The sequence number up to which `side` lets the other one send.
    #[inline(always)]
    pub(super) fn edge(&self, side: Side) -> u32 {
        let s = side.index();
        self.ack[s].wrapping_add(u32::from(self.offered[s]) << self.details.scale(side))
    }

    /// How far behind the other side's `end` an acknowledgement of `side`, or a retransmission to it, may be: two windows (the
    /// bound of RFC 5961, 5.2, from the point of view of the middle, which does not know what arrived), at least 131 072 and at most 2^30.
    #[inline(always)]
    fn reach(&self, side: Side) -> u32 {
        2 << self.details.window_log(side)
    }

    /// The lowest sequence number that `side` may still send.
    #[inline(always)]
    pub(super) fn floor(&self, side: Side) -> u32 {
        self.end[side.index()].wrapping_sub(self.reach(side.other()))
    }

    /// Whether the sequence number is one that the other side lets `side` send or retransmit, and the acknowledgement one for data
    /// that the other side sent. A segment may begin right at the edge, which is how a closed window is probed with one byte; an empty
    /// one after that byte, or after all that was sent.
    #[inline(always)]
    pub(super) fn check_window(&self, side: Side, tcp: &Tcp, len: u32) -> Result<(), DropReason> {
        let other = side.other();
        let acknowledgeable = self.end[other.index()];
        let end = segment_end(tcp, len);
        let empty = end == tcp.seq;
        let beyond = after(tcp.seq, self.edge(other).wrapping_add(u32::from(empty)))
            & !(empty & (tcp.seq == self.end[side.index()]));
        let refused = beyond
            | before(end, self.floor(side))
            | after(tcp.ack, acknowledgeable)
            | before(tcp.ack, acknowledgeable.wrapping_sub(self.reach(side)));
        if refused { Err(INVALID) } else { Ok(()) }
    }

    /// Takes over a segment that fits: what was sent, what is acknowledged, what is offered.
    #[inline(always)]
    pub(super) fn advance(&mut self, side: Side, tcp: &Tcp, len: u32) {
        let s = side.index();
        let end = segment_end(tcp, len);
        if after(end, self.end[s]) {
            self.end[s] = end;
        }
        let scale = self.details.scale(side);
        // A SYN's own window is never scaled (RFC 7323, 2.2).
        let window =
            if tcp.flags.any(TcpFlags::SYN) { u32::from(tcp.window) } else { u32::from(tcp.window) << scale };
        let edge = later(self.edge(side), tcp.ack.wrapping_add(window));
        self.ack[s] = later(self.ack[s], tcp.ack);
        // Rounded up to a unit of the scale; never beyond the largest window, as `ack` only goes forward.
        let units = edge.wrapping_sub(self.ack[s]).wrapping_add((1 << scale) - 1) >> scale;
        self.offered[s] = units.min(u32::from(u16::MAX)) as u16;
        self.details.note_window(side, window);
    }
}

/// The later one of two sequence numbers.
#[inline(always)]
fn later(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}
