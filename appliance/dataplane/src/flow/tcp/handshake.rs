//! The beginning of a connection, and SYNs where none are expected.

use super::details::{NO_SCALE, Phase};
use super::{I, INVALID, R, TcpEvent, TcpState, after, before, segment_end};
use crate::flow::record::Side;
use crate::verdict::DropReason;
use crate::wire::{Tcp, TcpFlags};

impl TcpState {
    /// The state after a connection's first segment.
    ///
    /// Until the responder's SYN, `ack` of the initiator is its own initial sequence number, and `end` of the responder the
    /// acknowledgement of a challenge.
    ///
    /// # Errors
    /// [`DropReason::InvalidState`] unless it is a SYN without ACK, RST or FIN.
    pub fn open(first: &Tcp, payload_len: usize) -> Result<Self, DropReason> {
        if !first.flags.is_initial_syn() {
            return Err(INVALID);
        }
        let mut state = Self::NONE;
        state.details.set_phase(Phase::SynSent);
        state.ack[I] = first.seq;
        state.end[I] = first.seq;
        state.take_syn(first, payload_len as u32);
        Ok(state)
    }

    /// Takes over the initiator's SYN, or its repetition, which may carry fewer options and no data.
    fn take_syn(&mut self, syn: &Tcp, len: u32) {
        let end = segment_end(syn, len);
        if after(end, self.end[I]) {
            self.end[I] = end;
        }
        self.offered[I] = syn.window;
        self.details.set_scale(Side::Initiator, syn.window_scale.unwrap_or(NO_SCALE));
        self.details.begin_window(Side::Initiator);
    }

    /// The initiator speaks, and the responder has not answered.
    pub(super) fn initiator_repeats(&mut self, tcp: &Tcp, len: u32) -> Result<TcpEvent, DropReason> {
        if tcp.flags.is_initial_syn() {
            if tcp.seq == self.ack[I] {
                self.take_syn(tcp, len);
            } else {
                // It gave up and tries again; the last attempt counts.
                *self = Self::open(tcp, len as usize)?;
            }
            return Ok(TcpEvent::Continue);
        }
        if !tcp.flags.any(TcpFlags::RST) {
            return Err(INVALID);
        }
        if self.details.challenged(Side::Responder) && tcp.seq == self.end[R] {
            // Its answer to a challenge: it clears the responder's old connection, and the SYN will come again.
            return Ok(TcpEvent::Continue);
        }
        if tcp.seq != self.end[I] {
            return Err(INVALID);
        }
        self.details.set_phase(Phase::Reset);
        Ok(TcpEvent::Closed)
    }

    /// The first answer of the responder.
    pub(super) fn responder_answers(&mut self, tcp: &Tcp, len: u32) -> Result<TcpEvent, DropReason> {
        let flags = tcp.flags;
        // The SYN is acknowledged, and no more than was sent.
        let acceptable =
            flags.any(TcpFlags::ACK) && after(tcp.ack, self.ack[I]) && !after(tcp.ack, self.end[I]);
        if flags.any(TcpFlags::RST) {
            // Refused (RFC 9293, 3.10.7.3: only with an acceptable acknowledgement).
            if !acceptable {
                return Err(INVALID);
            }
            self.details.set_phase(Phase::Reset);
            return Ok(TcpEvent::Closed);
        }
        if !flags.any(TcpFlags::SYN) {
            // It still has an older connection and challenges the SYN (RFC 5961, 4.2).
            if !flags.any(TcpFlags::ACK) || flags.any(TcpFlags::FIN) || len != 0 {
                return Err(INVALID);
            }
            self.end[R] = tcp.ack;
            self.details.forget_challenge(Side::Responder);
            self.details.challenge(Side::Responder);
            return Ok(TcpEvent::Continue);
        }
        if flags.any(TcpFlags::ACK) {
            if !acceptable {
                return Err(INVALID);
            }
            self.take_answer(tcp, len, tcp.ack);
            self.details.set_acked(Side::Responder);
        } else {
            // Both opened at once (RFC 9293, 3.5): each acknowledges the other's SYN next.
            self.take_answer(tcp, len, self.ack[I].wrapping_add(1));
        }
        Ok(TcpEvent::Continue)
    }

    /// Takes over the responder's SYN, which settles the window scales: both sides must have the option (RFC 7323, 2.2).
    fn take_answer(&mut self, syn: &Tcp, len: u32, ack: u32) {
        let offer = self.details.scale(I);
        let (initiator, responder) = match syn.window_scale {
            Some(scale) if offer != NO_SCALE => (offer, scale),
            _ => (0, 0),
        };
        self.details.set_scale(Side::Initiator, initiator);
        self.details.set_scale(Side::Responder, responder);
        self.ack = [syn.seq.wrapping_add(1), ack];
        self.end[R] = segment_end(syn, len);
        // SYNs' windows are not scaled.
        self.offered = [self.offered[I].div_ceil(1 << initiator), syn.window.div_ceil(1 << responder)];
        self.details.begin_window(Side::Responder);
        self.details.forget_challenge(Side::Initiator);
        self.details.forget_challenge(Side::Responder);
        self.details.set_phase(Phase::Handshake);
    }

    /// A SYN without ACK after the responder's first answer.
    pub(super) fn unexpected_syn(&mut self, side: Side, tcp: &Tcp, len: u32) -> Result<TcpEvent, DropReason> {
        let acknowledged = self.ack[side.other().index()];
        let repeated = self.details.phase() == Phase::Handshake
            && (tcp.seq.wrapping_add(1) == acknowledged || segment_end(tcp, len) == self.end[side.index()]);
        if repeated {
            return Ok(TcpEvent::Continue);
        }
        // The other side answers with a challenge (RFC 5961, 4.2), or has lost the connection and accepts.
        if !self.details.challenge(side) {
            return Err(INVALID);
        }
        if side == Side::Initiator {
            self.details.set_pending_scale(tcp.window_scale);
        }
        Ok(TcpEvent::Continue)
    }

    /// A SYN with ACK after the responder's first answer.
    pub(super) fn syn_ack(&mut self, side: Side, tcp: &Tcp, len: u32) -> Result<TcpEvent, DropReason> {
        let s = side.index();
        let end = segment_end(tcp, len);
        let of_this_connection = !after(end, self.end[s]) && self.check_window(side, tcp, len).is_ok();
        match self.details.phase() {
            Phase::Handshake if of_this_connection && !before(tcp.ack, self.ack[s]) => {
                self.advance(side, tcp, len);
                self.details.forget_challenge(side.other());
                self.details.set_acked(side);
                Ok(self.settle_phase())
            }
            // The responder keeps no state before the handshake is complete and begins with another number: the last one counts.
            Phase::Handshake
                if side == Side::Responder
                    && !self.details.acked(Side::Initiator)
                    && (tcp.ack == self.ack[R] || tcp.ack == self.end[I]) =>
            {
                self.offered[I] =
                    u16::try_from(u32::from(self.offered[I]) << self.details.scale(I)).unwrap_or(u16::MAX);
                self.take_answer(tcp, len, tcp.ack);
                self.details.set_acked(Side::Responder);
                Ok(TcpEvent::Continue)
            }
            Phase::Handshake => Err(INVALID),
            _ if of_this_connection => Ok(TcpEvent::Continue),
            // The responder lost the connection, and takes the SYN that was to be challenged for a new one.
            Phase::Established if side == Side::Responder && self.details.challenged(Side::Initiator) => {
                self.begin_anew(tcp, len);
                Ok(TcpEvent::Continue)
            }
            _ => Err(INVALID),
        }
    }

    /// A new connection in place of one that the responder lost, from its answer on. The window of the initiator's SYN is not known and
    /// taken for the largest.
    fn begin_anew(&mut self, answer: &Tcp, len: u32) {
        let scale = self.details.pending_scale();
        *self = Self::NONE;
        self.end[I] = answer.ack;
        self.offered[I] = u16::MAX;
        self.details.set_scale(Side::Initiator, scale);
        self.details.begin_window(Side::Initiator);
        self.take_answer(answer, len, answer.ack);
        self.details.set_acked(Side::Responder);
    }
}
