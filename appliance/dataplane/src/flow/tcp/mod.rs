//! The TCP tracker: whether a segment fits its connection, seen from the middle.
//!
//! Follows RFC 9293 for the states, RFC 7323 for window scaling, RFC 5961 for what to believe of RST, SYN and acknowledgements, and
//! van Rooij's *Real stateful TCP packet filtering* for the bounds that someone in the middle can keep. Both ends retransmit, reorder and
//! lose what has passed here, so every bound errs on the side of an honest end; where an end would answer a doubtful segment with a challenge,
//! the segment passes and the state stays.
//!
//! # What is kept of each side
//! * `end`: one past the highest sequence number it sent, SYN and FIN counted;
//! * `ack`: the highest acknowledgement it sent;
//! * `offered`: how far beyond `ack` it lets the other side send, in units of its window scale; the sum never goes back;
//! * its window scale, and the largest window that it ever offered, rounded up to a power of two.
//!
//! Before the handshake, the fields of a side that has not spoken yet lend their place; see [`open`](TcpState::open).

mod details;
mod handshake;
mod window;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use super::record::Side;
use super::timeout::Class;
use crate::verdict::DropReason;
use crate::wire::{Tcp, TcpFlags};
use details::{Details, Phase};

/// What a segment that fits did to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpEvent {
    /// It goes on.
    Continue,
    /// The handshake is complete.
    Established,
    /// It is over: reset, or both FINs are acknowledged.
    Closed,
    /// It was over, and this SYN begins another one: the caller removes the flow and decides anew. The state is unchanged.
    Reopen,
}

/// A connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TcpState {
    end: [u32; 2],
    ack: [u32; 2],
    offered: [u16; 2],
    details: Details,
}

const _: () = assert!(size_of::<TcpState>() == 24);

const I: usize = Side::Initiator as usize;
const R: usize = Side::Responder as usize;

const INVALID: DropReason = DropReason::InvalidState;

impl TcpState {
    /// No connection.
    pub const NONE: Self = Self { end: [0; 2], ack: [0; 2], offered: [0; 2], details: Details::NONE };

    /// A connection of which one side only is seen (direct server return): it lives as an established one does, and no segment can
    /// be held against it.
    pub fn one_sided() -> Self {
        let mut state = Self::NONE;
        state.details.set_phase(Phase::Established);
        state
    }

    /// What the flow's timeout depends on.
    #[inline]
    pub fn class(&self) -> Class {
        match self.details.phase() {
            Phase::None | Phase::SynSent | Phase::Handshake => Class::TcpHalfOpen,
            Phase::Established => Class::TcpEstablished,
            Phase::TimeWait | Phase::Reset => Class::TcpClosing,
        }
    }

    /// The handshake was completed, and the connection is not over.
    pub fn is_established(&self) -> bool {
        self.details.phase() == Phase::Established
    }

    /// Whether this segment of `side` begins another connection over one that is over (RFC 9293, 3.6.1; RFC 6191): the caller
    /// removes the flow and decides anew. Whether an end still in TIME-WAIT takes the new one is for that end to say.
    #[inline]
    pub fn reopens(&self, _side: Side, tcp: &Tcp) -> bool {
        tcp.flags.is_initial_syn() && matches!(self.details.phase(), Phase::TimeWait | Phase::Reset)
    }

    /// Holds a segment that `side` sent against the state, which moves on when it fits.
    ///
    /// # Errors
    /// [`DropReason::InvalidState`]: no honest end sends this now. The state is unchanged.
    #[inline(always)]
    pub fn segment(&mut self, side: Side, tcp: &Tcp, payload_len: usize) -> Result<TcpEvent, DropReason> {
        let len = payload_len as u32;
        const CONTROL: u8 = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ACK;
        if tcp.flags.0 & CONTROL == TcpFlags::ACK && self.details.is_plainly_established() {
            let fits = self.follow(side, tcp.seq, tcp.ack, tcp.window, len);
            return if fits { Ok(TcpEvent::Continue) } else { Err(INVALID) };
        }
        self.turn(side, tcp, len)
    }

    /// As [`segment`](Self::segment), for one in the midst of a connection that has neither SYN nor FIN nor RST, by its numbers. `false`:
    /// it is for that function, and the state is unchanged.
    #[inline(always)]
    pub fn follow(&mut self, side: Side, seq: u32, ack: u32, window: u16, payload_len: u32) -> bool {
        let (s, end) = (side.index(), seq.wrapping_add(payload_len));
        if !self.details.is_plainly_established() || !self.fits(s, seq, end, ack) {
            return false;
        }
        self.send(s, end);
        self.offer(s, ack, window);
        true
    }

    /// Takes over what [`unusual`](Self::unusual) makes of a segment, or nothing of it.
    #[inline(never)]
    fn turn(&mut self, side: Side, tcp: &Tcp, len: u32) -> Result<TcpEvent, DropReason> {
        let mut next = *self;
        let event = next.unusual(side, tcp, len)?;
        *self = next;
        Ok(event)
    }

    /// Everything but an acknowledgement in the midst of a connection.
    fn unusual(&mut self, side: Side, tcp: &Tcp, len: u32) -> Result<TcpEvent, DropReason> {
        let flags = tcp.flags;
        let syn = flags.any(TcpFlags::SYN);
        if syn && flags.any(TcpFlags::FIN | TcpFlags::RST) {
            return Err(INVALID);
        }
        match self.details.phase() {
            Phase::None => Err(INVALID),
            Phase::SynSent if side == Side::Initiator => self.initiator_repeats(tcp, len),
            Phase::SynSent => self.responder_answers(tcp, len),
            Phase::TimeWait | Phase::Reset if flags.is_initial_syn() => Ok(TcpEvent::Reopen),
            _ if flags.any(TcpFlags::RST) => self.reset(side, tcp.seq),
            _ if flags.is_initial_syn() => self.unexpected_syn(side, tcp, len),
            _ if !flags.any(TcpFlags::ACK) => Err(INVALID),
            _ if syn => self.syn_ack(side, tcp, len),
            _ => self.acknowledged(side, tcp, len),
        }
    }

    /// A segment with an acknowledgement and without SYN or RST.
    fn acknowledged(&mut self, side: Side, tcp: &Tcp, len: u32) -> Result<TcpEvent, DropReason> {
        self.check_window(side, tcp, len)?;
        let end = segment_end(tcp, len);
        match self.details.phase() {
            // The other's SYN must be acknowledged, nothing before it.
            Phase::Handshake if before(tcp.ack, self.ack[side.index()]) => return Err(INVALID),
            // Both ends have all that the other one sends.
            Phase::TimeWait if after(end, self.end[side.index()]) => return Err(INVALID),
            _ => {}
        }
        if after(end, self.end[side.index()]) {
            // More data than up to what was taken for a FIN: that one was forged, or this is.
            self.details.set_fin(side, false);
        }
        self.advance(side, tcp, len);
        self.details.forget_challenge(side.other());
        if tcp.flags.any(TcpFlags::FIN) && end == self.end[side.index()] {
            self.details.set_fin(side, true);
        }
        self.details.set_acked(side);
        Ok(self.settle_phase())
    }

    /// Moves on to the phase that the flags ask for.
    fn settle_phase(&mut self) -> TcpEvent {
        let mut event = TcpEvent::Continue;
        if self.details.phase() == Phase::Handshake && self.details.both_acked() {
            self.details.set_phase(Phase::Established);
            event = TcpEvent::Established;
        }
        if self.details.phase() == Phase::Established
            && self.details.both_fins()
            && self.ack[I] == self.end[R]
            && self.ack[R] == self.end[I]
        {
            self.details.set_phase(Phase::TimeWait);
            event = TcpEvent::Closed;
        }
        event
    }

    /// A RST after the first answer (RFC 5961, 3.2): only one that the receiver certainly believes ends the connection; one that
    /// it answers with a challenge passes.
    fn reset(&mut self, side: Side, seq: u32) -> Result<TcpEvent, DropReason> {
        let receiver = side.other();
        let expected = self.ack[receiver.index()];
        let exact = seq == expected || seq == self.end[side.index()];
        // One more, as its probe of a closed window may come later.
        let in_window = !before(seq, expected) && !after(seq, self.edge(receiver.index()).wrapping_add(1));
        // An end that closed answers what still comes with a RST, whose number follows that segment's acknowledgement.
        let closing = self.details.any_fin() || self.class() == Class::TcpClosing;
        let stale = closing && !before(seq, self.floor(side.index())) && before(seq, expected);
        if !exact && !in_window && !stale {
            return Err(INVALID);
        }
        if (exact || in_window && closing) && self.class() != Class::TcpClosing {
            self.details.set_phase(Phase::Reset);
            return Ok(TcpEvent::Closed);
        }
        Ok(TcpEvent::Continue)
    }

    /// Whether `side` may have sent, and may still wait for an answer to, a segment with this sequence number: what an ICMP error
    /// quotes (RFC 5927, 4.1).
    pub fn quoted_in_window(&self, side: Side, seq: u32) -> bool {
        match (self.details.phase(), side) {
            (Phase::None, _) | (Phase::SynSent, Side::Responder) => false,
            (Phase::SynSent, Side::Initiator) => !before(seq, self.ack[I]) && !after(seq, self.end[I]),
            _ => !before(seq, self.floor(side.index())) && !after(seq, self.end[side.index()]),
        }
    }

    /// The initial sequence number of the initiator, who has not been answered yet.
    pub fn first_seq(&self) -> u32 {
        self.ack[I]
    }

    /// Sequence and acknowledgement number of a RST with ACK that `side` believes, as from the other side: exactly what it expects next.
    /// Only of an established connection.
    pub fn reset_toward(&self, side: Side) -> (u32, u32) {
        (self.ack[side.index()], self.end[side.index()])
    }

    /// What the other side would say to `side` once more: sequence number, acknowledgement number, window in units of its scale. Nothing is
    /// acknowledged by it that the other side did not acknowledge. Only of an established connection.
    pub fn last_word_toward(&self, side: Side) -> (u32, u32, u16) {
        let other = side.other().index();
        (self.ack[side.index()], self.ack[other], self.offered[other])
    }
}

/// One past the last sequence number of a segment.
#[inline]
fn segment_end(tcp: &Tcp, len: u32) -> u32 {
    let flags = tcp.flags;
    tcp.seq
        .wrapping_add(len)
        .wrapping_add(u32::from(flags.any(TcpFlags::SYN)) + u32::from(flags.any(TcpFlags::FIN)))
}

/// `a` comes before `b` in sequence space (RFC 9293, 3.4).
#[inline]
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// `a` comes after `b` in sequence space.
#[inline]
fn after(a: u32, b: u32) -> bool {
    before(b, a)
}
