//! Packets of flows that are two connections: what they meet on their way, and what is changed in them.

use super::prove::tcp_options;
use super::{Departure, End, Passage, Pipeline, Step, decided, drop_for};
use crate::emit::icmp_error::IcmpError;
use crate::emit::segment::{self, Options, Segment};
use crate::emit::splice::Edits;
use crate::flow::{FlowId, Side, TcpEvent};
use crate::synproxy::{Splice, SynOptions, Terms, headers_len};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{Packet, TCP_HEADER_LEN, Tcp, TcpFlags, Transport};
use core::ops::ControlFlow;
use pmd_shim::Frame;

/// What a client may be ahead of its first sequence number while the backend has not answered, in bytes: its window was closed.
const AHEAD_MAX: u32 = 1 << 16;

/// The least MTU that an ICMP error names (RFC 791, RFC 8200).
const MTU_MIN: [u16; 2] = [68, 1280];

impl<F: Frame> Pipeline<F> {
    /// What becomes of a packet of a spliced flow before it is held against the connection's state. `None`: it goes on; `Some`: as
    /// [`known`](Self::known) says.
    pub(super) fn meet_splice(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        id: FlowId,
        side: Side,
    ) -> Step<Option<Option<Departure>>> {
        let Transport::Tcp(tcp) = p.packet.transport else { return ControlFlow::Continue(None) };
        let splice = *self.flows.splice(id);
        if splice.terms.is_half_open() {
            return match side {
                Side::Initiator => self.client_early(frame, p, id, &tcp).map_continue(Some),
                Side::Responder => self.backend_answers(frame, p, id, &tcp).map_continue(Some),
            };
        }
        if side == Side::Initiator {
            if tcp.flags.is_initial_syn() {
                return self.challenge(frame, p, id, &splice);
            }
            self.fits_segment(frame, p, &splice)?;
        }
        ControlFlow::Continue(None)
    }

    /// The client speaks while the backend has not answered.
    fn client_early(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        id: FlowId,
        tcp: &Tcp,
    ) -> Step<Option<Departure>> {
        let isn = self.flows.flow(id).tcp.first_seq();
        if tcp.flags.is_initial_syn() {
            // It may begin anew. Nobody knows yet, so that it has to prove that too.
            let options = SynOptions::read(tcp_options(frame, p));
            return self.ask(frame, p, &options, p.backend);
        }
        if tcp.flags.any(TcpFlags::RST) {
            return self.client_gives_up(frame, p, id, tcp);
        }
        if !tcp.flags.any(TcpFlags::ACK) || tcp.flags.any(TcpFlags::SYN) {
            return drop_for(DropReason::InvalidState);
        }
        let is_of_this =
            tcp.ack == self.flows.splice(id).seq.wrapping_add(1) && tcp.seq.wrapping_sub(isn) <= AHEAD_MAX;
        if is_of_this {
            return self.hold_client(p, id);
        }
        if self.proof(frame, p, tcp).is_some() {
            self.forget_handshake(id);
            self.flows.remove(id);
            return ControlFlow::Continue(None);
        }
        drop_for(DropReason::InvalidState)
    }

    /// What the client sends has to wait; it will send it again.
    fn hold_client<T>(&mut self, p: &Passage<'_>, id: FlowId) -> Step<T> {
        let place = self.flows.splice(id).mss;
        let half_open = self.proxy.half_opens.get_mut(place);
        match half_open.filter(|half_open| half_open.port == p.port && half_open.held < u8::MAX) {
            Some(half_open) => {
                half_open.held += 1;
                ControlFlow::Break(End::Waits)
            }
            None => decided(Verdict::Consume),
        }
    }

    /// The client resets the connection: the backend is told so, who has a SYN of it.
    fn client_gives_up(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        id: FlowId,
        tcp: &Tcp,
    ) -> Step<Option<Departure>> {
        let departure = self.way_out(frame, p, id, Side::Initiator)?;
        if let Err(reason) = self.flows.segment(id, Side::Initiator, tcp, 0) {
            return drop_for(reason);
        }
        self.forget_handshake(id);
        // Without an acknowledgement, as nobody here knows the backend's number; so that nothing can be translated that comes after it.
        let key = self.flows.flow(id).translated_key();
        self.flows.remove(id);
        let reset = Segment {
            key,
            seq: tcp.seq,
            ack: 0,
            flags: TcpFlags::RST,
            window: 0,
            options: Options::default(),
        };
        let (from, to) = self.link_of(frame, p.port);
        match segment::write(frame, &reset, from, to) {
            Ok(()) => ControlFlow::Continue(Some(departure)),
            Err(_) => drop_for(DropReason::Malformed),
        }
    }

    /// The backend speaks for the first time.
    fn backend_answers(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        id: FlowId,
        tcp: &Tcp,
    ) -> Step<Option<Departure>> {
        let is_syn = tcp.flags.any(TcpFlags::SYN);
        if is_syn && !tcp.flags.any(TcpFlags::ACK) {
            // Two that open at once would be two clients: there is none to answer for it.
            return drop_for(DropReason::InvalidState);
        }
        let departure = self.way_out(frame, p, id, Side::Responder)?;
        let event = match self.flows.segment(id, Side::Responder, tcp, p.packet.payload_len()) {
            Ok(event) => event,
            Err(reason) => return drop_for(reason),
        };
        if is_syn {
            return ControlFlow::Break(End::Answered(id, departure));
        }
        if event != TcpEvent::Closed {
            return self.clear_backend(frame, p, tcp);
        }
        self.counters.syn.refused += 1;
        self.forget_handshake(id);
        let splice = self.flows.splice_mut(id);
        // Of a connection that came to nothing: it is good again, should the reset be lost.
        self.proxy.spent.forget(splice.seq);
        // The client expects the number behind our own SYN's.
        *splice = Splice {
            seq: splice.seq.wrapping_add(1).wrapping_sub(tcp.seq),
            timestamp: 0,
            mss: 0,
            terms: Terms::default(),
        };
        self.carry(frame, p, id, Side::Responder);
        ControlFlow::Continue(Some(departure))
    }

    /// The backend has an older connection of the same ends and challenges the SYN: it is reset, as the client would do (RFC 9293,
    /// 3.10.7.3), and the SYN comes again.
    fn clear_backend<T>(&mut self, frame: &mut F, p: &Passage<'_>, tcp: &Tcp) -> Step<T> {
        self.answer_with(frame, p, &Segment::reset_for(&p.packet.key, tcp))
    }

    /// A SYN in the midst of a connection: who really has lost it answers the challenge with a reset, and comes again (RFC 5961, 4.2). Who
    /// has not, as the SYN was late or forged, hears only what the backend said before: what is on its way to it is not acknowledged.
    fn challenge<T>(&mut self, frame: &mut F, p: &Passage<'_>, id: FlowId, splice: &Splice) -> Step<T> {
        if !self.proxy.reflection.allow(p.packet.key.src, p.now) {
            return drop_for(DropReason::SynRate);
        }
        let (seq, ack, window) = self.flows.flow(id).tcp.last_word_toward(Side::Initiator);
        let challenge = Segment {
            key: p.packet.key.reversed(),
            seq: splice.to_client(seq),
            ack,
            flags: TcpFlags::ACK,
            window: splice.terms.to_client(window),
            options: Options::default(),
        };
        self.answer_with(frame, p, &challenge)
    }

    /// Turns the frame into an answer to the station that it came from.
    fn answer_with<T>(&self, frame: &mut F, p: &Passage<'_>, answer: &Segment) -> Step<T> {
        match self.write_answer(frame, p, answer) {
            true => decided(Verdict::Reply(None)),
            false => drop_for(DropReason::InvalidState),
        }
    }

    /// The backend may take smaller segments than the client was told before anybody knew. A segment that is too large is answered as by
    /// a link that is too narrow.
    fn fits_segment(&mut self, frame: &mut F, p: &Passage<'_>, splice: &Splice) -> Step<()> {
        let segment_len = p.packet.payload_end - p.packet.l4;
        let is_larger = segment_len > splice.mss.saturating_add(TCP_HEADER_LEN as u16);
        let mtu = splice.mss.saturating_add(headers_len(p.packet.family));
        if splice.mss == 0 || !is_larger || !p.packet.dont_fragment || mtu < MTU_MIN[p.packet.family as usize]
        {
            return ControlFlow::Continue(());
        }
        self.answer_with_error(frame, p, IcmpError::FragmentationNeeded { mtu }, DropReason::TooBig)
    }

    /// A segment in the backend's numbers and units.
    pub(super) fn as_the_backend_counts(&self, id: FlowId, side: Side, tcp: &Tcp) -> Tcp {
        let splice = self.flows.splice(id);
        match side {
            Side::Responder => *tcp,
            Side::Initiator => {
                Tcp { ack: splice.to_backend(tcp.ack), window: splice.terms.to_backend(tcp.window), ..*tcp }
            }
        }
    }

    /// What is changed in a segment that `side` sent.
    pub(super) fn splice_edits(&self, id: FlowId, side: Side, packet: &Packet) -> Edits {
        let Transport::Tcp(tcp) = packet.transport else { return Edits::default() };
        let edits = edits(self.flows.splice(id), side, tcp.window);
        // The windows of SYNs are not scaled.
        Edits { window: edits.window.filter(|_| !tcp.flags.any(TcpFlags::SYN)), ..edits }
    }

    /// What is added to the sequence and to the acknowledgement number that an ICMP error quotes, which goes the way of `side`'s
    /// packets: it quotes what the other side sent, as it left.
    pub(super) fn quoted_moves(&self, id: FlowId, side: Side) -> (u32, u32) {
        let splice = self.flows.splice(id);
        if !self.flows.flow(id).is_spliced() || splice.terms.is_half_open() {
            return (0, 0);
        }
        match side {
            Side::Initiator => (splice.seq.wrapping_neg(), 0),
            Side::Responder => (0, splice.seq),
        }
    }
}

/// What is changed in a segment that `side` sent and that names this window; it is no SYN.
#[inline(always)]
pub(super) fn edits(splice: &Splice, side: Side, window: u16) -> Edits {
    match side {
        Side::Responder => Edits {
            seq: splice.seq,
            timestamp: splice.timestamp,
            window: Some(splice.terms.to_client(window)),
            ..Edits::default()
        },
        Side::Initiator => {
            let lacks = splice.terms.lacks();
            Edits {
                ack: splice.seq.wrapping_neg(),
                sack: splice.seq.wrapping_neg(),
                echo: splice.timestamp.wrapping_neg(),
                window: Some(splice.terms.to_backend(window)),
                without_timestamps: lacks.timestamps,
                without_sack: lacks.sack,
                without_ecn: lacks.ecn,
                ..Edits::default()
            }
        }
    }
}
