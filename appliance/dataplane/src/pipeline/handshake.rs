//! Handshakes with backends on behalf of clients that proved themselves: their SYN, their SYN-ACK, and their timers.

use super::prove::{syn_window, tcp_options};
use super::{Departure, Mark, Origin, Passage, Pipeline, Transmit};
use crate::addr::{Family, Mac};
use crate::emit::segment::{self, Options, Segment};
use crate::flow::{FlowId, Side};
use crate::synproxy::{Due, HalfOpen, Lacks, Profile, Scale, Splice, SynOptions, Terms};
use crate::time::Time;
use crate::verdict::Verdict;
use crate::wire::{Tcp, TcpFlags, Transport};
use pmd_shim::Frame;

const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// Timers run in one call.
const BUDGET: usize = 64;

/// The largest segment of a host that names none (RFC 9293, 3.7.1).
const fn least_mss(family: Family) -> u16 {
    match family {
        Family::V4 => 536,
        Family::V6 => 1220,
    }
}

/// Whether an ICMP error says that its sender will not have the connection: that there is no such protocol or port, or that it is
/// forbidden (RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1; RFC 4443, 3.1). That a host or a network is not reached may pass.
const fn refuses(family: Family, kind: u8, code: u8) -> bool {
    match family {
        Family::V4 => kind == 3 && matches!(code, 2 | 3 | 9 | 10 | 13),
        Family::V6 => kind == 1 && matches!(code, 1 | 4 | 5 | 6),
    }
}

impl<F: Frame> Pipeline<F> {
    /// Sends the first SYN of a flow whose client proved itself; what the client sent is held until the backend answers.
    #[cold]
    pub(super) fn begin_handshake<T: Transmit<F>>(&mut self, id: FlowId, now: Time, tx: &mut T) -> Verdict {
        self.counters.syn.half_open = self.proxy.half_opens.len() as u64;
        self.send_syn(id, now, tx);
        Verdict::Hold
    }

    /// Sends the client's SYN to the backend, with the options that the client had, as far as the cookie could tell.
    fn send_syn<T: Transmit<F>>(&mut self, id: FlowId, now: Time, tx: &mut T) {
        let flow = self.flows.flow(id);
        let Some(half_open) = self.proxy.half_opens.get(self.flows.splice(id).mss) else { return };
        let scale = half_open.scales.map(|(own, _)| own);
        let clamps = self.snapshot.tunnels.open(half_open.port).is_some_and(|tunnel| tunnel.clamps_mss);
        let most = if clamps { self.mss_max(half_open.port, flow.family()) } else { u16::MAX };
        let link = half_open.link;
        let ecn = if half_open.ecn { ECE | CWR } else { 0 };
        let syn = Segment {
            key: flow.translated_key(),
            seq: flow.tcp.first_seq(),
            ack: 0,
            flags: TcpFlags::SYN | ecn,
            window: syn_window(half_open.window, scale),
            options: Options {
                mss: Some(half_open.mss.min(most)),
                window_scale: scale,
                sack_permitted: half_open.sack,
                timestamps: half_open.timestamps.then_some((half_open.client_timestamp, 0)),
            },
        };
        self.send_for(id, Side::Initiator, &syn, link, now, tx);
    }

    /// Sends a segment on behalf of a side; in a tunnel between these stations, elsewhere the link's addresses come last.
    fn send_for<T: Transmit<F>>(
        &mut self,
        id: FlowId,
        side: Side,
        segment: &Segment,
        (from, to): (Mac, Mac),
        now: Time,
        tx: &mut T,
    ) {
        let flow = self.flows.flow(id);
        let known = flow.way(side).map(Departure::from_way);
        let known = known.filter(|departure| self.neighbors.is_current(departure.neighbor));
        let (tunnel, destination) = (flow.tunnel(side), self.final_destination(flow, side));
        let found = known.or_else(|| match tunnel {
            Some(tunnel) => self.way_into(tunnel, now),
            None => self.way_to(destination, now),
        });
        let Some(departure) = found else { return };
        let Some(mut frame) = tx.allocate() else { return };
        if segment::write(&mut frame, segment, from, to).is_ok() {
            frame.set_mark(Mark { port: departure.port, origin: Origin::Handshake }.to_bits());
            self.counters.originated += 1;
            self.send(frame, departure, now, tx);
        }
    }

    /// The backend agreed: it gets its acknowledgement, the client its window, and from now on all is translated.
    #[cold]
    pub(super) fn end_handshake<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        p: &Passage<'_>,
        id: FlowId,
        departure: Departure,
        tx: &mut T,
    ) -> Verdict {
        let Transport::Tcp(syn_ack) = p.packet.transport else { return Verdict::Consume };
        let Some(half_open) = self.forget_handshake(id) else { return Verdict::Consume };
        let options = SynOptions::read(tcp_options(&frame, p));
        self.splice(p, id, &half_open, &syn_ack, &options);
        self.acknowledge(p, id, &half_open, &syn_ack, &options, tx);
        self.counters.syn.spliced += 1;

        let flow = self.flows.flow(id);
        let splice = self.flows.splice(id);
        let echoed = options.timestamps.filter(|_| half_open.timestamps);
        let opening = Segment {
            key: flow.key(Side::Initiator).reversed(),
            seq: splice.to_client(syn_ack.seq).wrapping_add(1),
            ack: syn_ack.ack,
            flags: TcpFlags::ACK,
            window: splice.terms.first_to_client(syn_ack.window),
            options: Options {
                timestamps: echoed
                    .map(|(value, _)| (value.wrapping_add(splice.timestamp), half_open.client_timestamp)),
                ..Options::default()
            },
        };
        let (from, to) = self.link_of(&frame, p.port);
        if segment::write(&mut frame, &opening, from, to).is_err() {
            return Verdict::Consume;
        }
        self.flows.account(id, Side::Responder, p.packet.ip_len(), p.now);
        self.send(frame, departure, p.now, tx)
    }

    /// Makes one of two connections.
    fn splice(
        &mut self,
        p: &Passage<'_>,
        id: FlowId,
        half_open: &HalfOpen,
        syn_ack: &Tcp,
        options: &SynOptions,
    ) {
        let notifies = syn_ack.flags.any(ECE);
        let lacks = Lacks {
            timestamps: half_open.timestamps && options.timestamps.is_none(),
            sack: half_open.sack && !options.sack_permitted,
            ecn: half_open.ecn && !notifies,
        };
        let backend_scale = options.window_scale.filter(|_| half_open.scales.is_some());
        let terms = Terms::new(half_open.scales, backend_scale, lacks);
        let splice = self.flows.splice_mut(id);
        let theirs = options.timestamps.map_or(0, |(value, _)| value);
        let mss = options.mss.unwrap_or(least_mss(p.packet.family));
        *splice = Splice {
            seq: splice.seq.wrapping_sub(syn_ack.seq),
            timestamp: splice.timestamp.wrapping_sub(theirs),
            mss,
            terms,
        };
        let learnt = Profile {
            mss,
            window_scale: half_open.scales.map(|_| options.window_scale.map_or(Scale::None, Scale::Of)),
            sack: half_open.sack.then_some(options.sack_permitted),
            timestamps: half_open.timestamps.then_some(options.timestamps.is_some()),
            ecn: half_open.ecn.then_some(notifies),
        };
        let flow = self.flows.flow(id);
        match flow.backend() {
            None => self.proxy.profiles.learn_at(flow.destination(Side::Initiator), learnt),
            backend => {
                self.proxy.profiles.learn(backend, learnt);
                self.counters.show_profile(backend, self.proxy.profiles.of(backend).to_bits());
            }
        }
    }

    /// Acknowledges the backend's SYN-ACK as the client, who was never told of it, would.
    fn acknowledge<T: Transmit<F>>(
        &mut self,
        p: &Passage<'_>,
        id: FlowId,
        half_open: &HalfOpen,
        syn_ack: &Tcp,
        options: &SynOptions,
        tx: &mut T,
    ) {
        let window = self.flows.splice(id).terms.to_backend(half_open.window);
        let ack = Tcp {
            seq: syn_ack.ack,
            ack: syn_ack.seq.wrapping_add(1),
            flags: TcpFlags(TcpFlags::ACK),
            window,
            window_scale: None,
        };
        // The state has just taken the SYN-ACK that this acknowledges.
        let taken = self.flows.segment(id, Side::Initiator, &ack, 0);
        debug_assert!(taken.is_ok(), "an acknowledgement of the SYN-ACK fits");
        let echoed = options.timestamps.filter(|_| half_open.timestamps);
        let segment = Segment {
            key: self.flows.flow(id).translated_key(),
            seq: ack.seq,
            ack: ack.ack,
            flags: TcpFlags::ACK,
            window,
            options: Options {
                timestamps: echoed.map(|(value, _)| (half_open.client_timestamp, value)),
                ..Options::default()
            },
        };
        self.send_for(id, Side::Initiator, &segment, half_open.link, p.now, tx);
    }

    /// A handshake is over, one way or the other: what was held for it is taken in.
    pub(super) fn forget_handshake(&mut self, id: FlowId) -> Option<HalfOpen> {
        let place = self.flows.splice(id).mss;
        self.release_handshake(place)
    }

    fn release_handshake(&mut self, place: u16) -> Option<HalfOpen> {
        let half_open = self.proxy.half_opens.remove(place)?;
        self.counters.syn.half_open = self.proxy.half_opens.len() as u64;
        for _ in 0..half_open.held {
            self.recount(half_open.port, Verdict::Hold, Verdict::Consume);
        }
        Some(half_open)
    }

    /// Sends SYNs again, and gives up.
    pub(super) fn half_open_timers<T: Transmit<F>>(&mut self, now: Time, tx: &mut T) {
        for _ in 0..BUDGET {
            let Some(due) = self.proxy.half_opens.due(now) else { return };
            let (Due::Again(place) | Due::Over(place)) = due;
            let Some(id) = self.proxy.half_opens.get(place).map(|half_open| half_open.flow) else { continue };
            if !self.flows.is_live(id) {
                self.release_handshake(place);
            } else if let Due::Over(_) = due {
                self.give_up(id, now, tx);
            } else {
                self.flows.keep(id, now);
                self.send_syn(id, now, tx);
            }
        }
    }

    /// The reset of a client who thinks that it is connected, while the backend has not answered.
    fn failure(&self, id: FlowId) -> Segment {
        let flow = self.flows.flow(id);
        Segment {
            key: flow.key(Side::Initiator).reversed(),
            seq: self.flows.splice(id).seq.wrapping_add(1),
            ack: flow.tcp.first_seq().wrapping_add(1),
            flags: TcpFlags::RST | TcpFlags::ACK,
            window: 0,
            options: Options::default(),
        }
    }

    /// A connection that came to nothing. Its cookie is good again: should the reset be lost, then what the client sends next is not
    /// without an answer.
    fn end_in_vain(&mut self, id: FlowId) {
        let cookie = self.flows.splice(id).seq;
        self.proxy.spent.forget(cookie);
        self.forget_handshake(id);
        self.flows.remove(id);
    }

    /// Makes of an ICMP error that the backend cannot be had the client's reset. Who opens a connection by itself gives up on such an error
    /// too (RFC 5461, 4.1); but this client has no SYN on its way any more, and would not heed it. `false`: it is no such error.
    pub(super) fn refused_by_error(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        id: FlowId,
        side: Side,
    ) -> bool {
        let Transport::Icmp(icmp) = p.packet.transport else { return false };
        let is_of_handshake = side == Side::Responder
            && self.flows.flow(id).is_spliced()
            && self.flows.splice(id).terms.is_half_open();
        if !is_of_handshake || !refuses(p.packet.family, icmp.kind, icmp.code) {
            return false;
        }
        let (from, to) = self.link_of(frame, p.port);
        if segment::write(frame, &self.failure(id), from, to).is_err() {
            return false;
        }
        self.counters.syn.refused += 1;
        self.end_in_vain(id);
        true
    }

    /// Nobody answered: the client, who thinks that it is connected, is reset.
    fn give_up<T: Transmit<F>>(&mut self, id: FlowId, now: Time, tx: &mut T) {
        let reset = self.failure(id);
        self.counters.syn.unanswered += 1;
        let place = self.flows.splice(id).mss;
        let (from, to) = self.proxy.half_opens.get(place).map_or_else(Default::default, |it| it.link);
        self.send_for(id, Side::Responder, &reset, (to, from), now, tx);
        self.end_in_vain(id);
    }
}
