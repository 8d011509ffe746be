//! Stage 8, for packets without a flow: a SYN gets a cookie, an acknowledgement shows one.

use super::{End, Passage, Pipeline, Step, decided, drop_for};
use crate::addr::{Family, Mac};
use crate::emit::segment::{self, Options, Segment};
use crate::flow::{FlowId, TcpState};
use crate::synproxy::{
    Demand, HalfOpen, More, Proof, Question, Splice, SynOptions, Terms, Watched, headers_len,
};
use crate::verdict::{BackendId, DropReason, PortId, Verdict};
use crate::wire::{Cast, FlowKey, TCP_HEADER_LEN, Tcp, TcpFlags, Transport};
use core::ops::ControlFlow;
use nva_config::{SynProxyMode, Trust};
use pmd_shim::Frame;

/// ECN-Echo and Congestion Window Reduced (RFC 3168, 6.1).
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// What is left to do for a packet without a flow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proving {
    /// Nothing: it is of no connection that is to be proved.
    Exempt,
    /// It is a SYN that is answered with a cookie, once it is allowed.
    Ask(SynOptions),
    /// It proved itself.
    Proved(Proof),
}

impl<F: Frame> Pipeline<F> {
    /// How many SYNs may come from untrusted sources, each and all together.
    pub(super) fn limit_syns(&mut self, p: &Passage<'_>) -> Step<()> {
        let source = p.packet.key.src;
        let is_limited = matches!(p.packet.transport, Transport::Tcp(tcp) if tcp.flags.is_initial_syn())
            && self.snapshot.syn_flood.is_some()
            && self.facts(p.port).trust == Trust::Untrusted
            && !self.snapshot.guard.is_allowlisted(source);
        if is_limited && !self.proxy.floods.allow(source, p.now) {
            return drop_for(DropReason::SynRate);
        }
        ControlFlow::Continue(())
    }

    /// When the connection that a packet would open has to be proved.
    #[inline]
    fn demand(&self, p: &Passage<'_>) -> Demand {
        let destination = p.packet.key.dst;
        let none = Demand { mode: SynProxyMode::Off, watched: Watched::Frontend(destination) };
        if p.port.is_tunnel() {
            return self.snapshot.tunnels.demand(p.port).unwrap_or(none);
        }
        let of_service = self.snapshot.balancer.syn_proxy(&p.packet.key);
        if of_service != SynProxyMode::Off || self.facts(p.port).trust == Trust::Trusted {
            return Demand { mode: of_service, ..none };
        }
        match self.snapshot.demands.of_subnet(destination) {
            Some(demand) if !self.snapshot.balancer.is_frontend(destination) => demand,
            _ => none,
        }
    }

    /// What a packet without a flow has to prove. Cheap for what proves nothing: that is what floods consist of.
    pub(super) fn proving(&mut self, frame: &mut F, p: &Passage<'_>) -> Step<Proving> {
        let Transport::Tcp(tcp) = p.packet.transport else { return ControlFlow::Continue(Proving::Exempt) };
        let is_syn = tcp.flags.is_initial_syn();
        let Demand { mode, watched } = self.demand(p);
        let has_to = match mode {
            SynProxyMode::Off => false,
            SynProxyMode::Always => true,
            SynProxyMode::Auto if is_syn => self.proxy.floods.see(watched, p.now),
            SynProxyMode::Auto => self.proxy.floods.may_show(watched, p.now),
        };
        let is_late = tcp.flags.any(TcpFlags::ACK) && !tcp.flags.any(TcpFlags::SYN | TcpFlags::RST);
        if !has_to {
            if is_late && (mode != SynProxyMode::Off || self.is_from_server(p)) {
                return self.disown(frame, p, &tcp, DropReason::InvalidState);
            }
            return ControlFlow::Continue(Proving::Exempt);
        }
        if is_syn {
            let options = SynOptions::read(tcp_options(frame, p));
            // Who signs its segments cannot be spoken for (RFC 5925).
            let is_exempt = options.is_signed;
            return ControlFlow::Continue(if is_exempt { Proving::Exempt } else { Proving::Ask(options) });
        }
        if !is_late {
            return ControlFlow::Continue(Proving::Exempt);
        }
        match self.proof(frame, p, &tcp) {
            Some(proof) => ControlFlow::Continue(Proving::Proved(proof)),
            None => {
                self.counters.syn.cookies_invalid += 1;
                self.disown(frame, p, &tcp, DropReason::InvalidCookie)
            }
        }
    }

    /// Whether a packet comes from where connections are answered that may have had to be proved.
    fn is_from_server(&self, p: &Passage<'_>) -> bool {
        let (tunnels, demands) = (&self.snapshot.tunnels, &self.snapshot.demands);
        if p.port.is_tunnel() {
            return tunnels.open(p.port).is_some_and(|tunnel| tunnels.demand(tunnel.twin).is_some());
        }
        let FlowKey { src, src_port, .. } = p.packet.key;
        demands.has_backend(src, src_port)
            || self.facts(p.port).trust == Trust::Trusted && demands.of_subnet(src).is_some()
    }

    /// A segment of a connection that nobody here knows: where it may have been spliced before this appliance began, its sender is
    /// [reset](crate::synproxy::Orphans).
    fn disown<T>(&mut self, frame: &mut F, p: &Passage<'_>, tcp: &Tcp, reason: DropReason) -> Step<T> {
        if !self.orphans.allow(p.now) || !self.proxy.reflection.allow(p.packet.key.src, p.now) {
            return drop_for(reason);
        }
        let reset = Segment::reset_for(&p.packet.key, tcp);
        if !self.write_answer(frame, p, &reset) {
            return drop_for(reason);
        }
        self.counters.syn.resets += 1;
        decided(Verdict::Reply(Some(reason)))
    }

    /// Turns the frame into an answer to the station that it came from; `false`: there is none.
    pub(super) fn write_answer(&self, frame: &mut F, p: &Passage<'_>, answer: &Segment) -> bool {
        let (sender, station) = self.link_of(frame, p.port);
        let is_answerable = !sender.is_group() && !station.is_group() && p.packet.fragment.is_none();
        is_answerable && segment::write(frame, answer, station, sender).is_ok()
    }

    /// The cookie that an acknowledgement shows.
    pub(super) fn proof(&self, frame: &F, p: &Passage<'_>, tcp: &Tcp) -> Option<Proof> {
        let options = SynOptions::read(tcp_options(frame, p));
        let is_empty = p.packet.payload_len() == 0;
        let cookies = &self.proxy.cookies;
        cookies.check(&p.packet.key, p.packet.family, (tcp.seq, tcp.ack), &options, is_empty)
    }

    /// Turns a SYN into the SYN-ACK that asks for a proof. Its window is closed, so that nothing comes before the backend agreed.
    pub(super) fn ask<T>(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        syn: &SynOptions,
        backend: Option<BackendId>,
    ) -> Step<T> {
        let Transport::Tcp(tcp) = p.packet.transport else { return drop_for(DropReason::InvalidState) };
        if p.packet.fragment.is_some() {
            return drop_for(DropReason::Fragment);
        }
        let (asker, station) = self.link_of(frame, p.port);
        if asker.is_group() || p.packet.cast != Cast::Unicast {
            return drop_for(DropReason::NotForUs);
        }
        if !self.proxy.reflection.allow(p.packet.key.src, p.now) {
            return drop_for(DropReason::SynRate);
        }
        let profile = match backend {
            Some(_) => self.proxy.profiles.of(backend),
            None => self.proxy.profiles.at(p.packet.key.dst),
        };
        let offer = profile.offer(self.mss_max(p.port, p.packet.family));
        let theirs = syn.timestamps.filter(|_| offer.timestamps);
        let scales = syn.window_scale.zip(offer.window_scale);
        let more = theirs.map(|_| More {
            scale: scales.map(|(own, _)| own),
            promised: scales.map(|(_, promised)| promised),
            sack: syn.sack_permitted && offer.sack,
            ecn: tcp.flags.0 & (ECE | CWR) == ECE | CWR && offer.ecn,
        });
        let question = Question { key: p.packet.key, isn: tcp.seq };
        let cookie = self.proxy.cookies.bake(&question, p.packet.family, syn.mss, more);
        let ece = if more.is_some_and(|more| more.ecn) { ECE } else { 0 };
        let answer = Segment {
            key: p.packet.key.reversed(),
            seq: cookie.seq,
            ack: tcp.seq.wrapping_add(1),
            flags: TcpFlags::SYN | TcpFlags::ACK | ece,
            window: 0,
            options: Options {
                mss: Some(offer.mss),
                window_scale: more.and_then(|more| more.promised),
                sack_permitted: more.is_some_and(|more| more.sack),
                timestamps: theirs.map(|(theirs, _)| (cookie.timestamp, theirs)),
            },
        };
        if segment::write(frame, &answer, station, asker).is_err() {
            return drop_for(DropReason::Malformed);
        }
        self.counters.syn.cookies_sent += 1;
        decided(Verdict::Reply(None))
    }

    /// The largest segment that fits all links, and the tunnels of its connection where it is in these.
    pub(super) fn mss_max(&self, port: PortId, family: Family) -> u16 {
        let of_links = self.proxy.mss_max(family);
        let Some(tunnel) = self.snapshot.tunnels.open(port) else { return of_links };
        let mtu = tunnel.mtu.min(self.facts(tunnel.twin).mtu);
        of_links.min(mtu.saturating_sub(headers_len(family)))
    }

    /// Between which stations a frame is: from, to. To what comes by a port it is the port's own.
    pub(super) fn link_of(&self, frame: &F, port: PortId) -> (Mac, Mac) {
        let sender = frame.bytes().get(6..12).and_then(|mac| mac.first_chunk()).copied();
        (Mac(sender.unwrap_or_default()), self.station(frame, port))
    }

    /// Takes a new flow's proof: from here on its handshake with the backend is on its way.
    pub(super) fn accept_proof<T>(
        &mut self,
        frame: &F,
        p: &Passage<'_>,
        id: FlowId,
        proof: &Proof,
    ) -> Step<T> {
        let window = if let Transport::Tcp(tcp) = p.packet.transport { tcp.window } else { 0 };
        let Proof { cookie, timestamps, memory, name, .. } = *proof;
        let half_open = HalfOpen {
            flow: id,
            client_timestamp: timestamps.map_or(0, |(_, theirs)| theirs),
            window,
            mss: memory.mss,
            scales: memory.more.and_then(|more| more.scale.zip(more.promised)),
            timestamps: timestamps.is_some(),
            sack: memory.more.is_some_and(|more| more.sack),
            ecn: memory.more.is_some_and(|more| more.ecn),
            port: p.port,
            link: self.link_of(frame, p.port),
            held: 1,
        };
        let Some(place) = self.proxy.half_opens.insert(half_open, p.now) else {
            self.flows.remove(id);
            return drop_for(DropReason::FlowTableFull);
        };
        // Not before there is room: who is told nothing shows the same cookie again.
        self.proxy.spent.spend(cookie, name);
        self.counters.syn.cookies_valid += 1;
        let timestamp = timestamps.map_or(0, |(ours, _)| ours);
        *self.flows.splice_mut(id) = Splice { seq: cookie, timestamp, mss: place, terms: Terms::HALF_OPEN };
        self.flows.flow_mut(id).set_spliced();
        ControlFlow::Break(End::Proved(id))
    }

    /// A proof is good for one connection, for which there has to be room. What it proves about its sender counts in any case.
    pub(super) fn redeem(&mut self, p: &Passage<'_>, proof: &Proof) -> Step<()> {
        self.proxy.reflection.proved(p.packet.key.src);
        if p.packet.fragment.is_some() || self.proxy.spent.has(proof.cookie, proof.name) {
            self.counters.syn.cookies_invalid += 1;
            return drop_for(DropReason::InvalidCookie);
        }
        if self.proxy.half_opens.is_full() {
            return drop_for(DropReason::FlowTableFull);
        }
        ControlFlow::Continue(())
    }
}

/// The state of a connection whose SYN was proved, and is sent on behalf of the client. `window` is that of the acknowledgement.
pub(super) fn proved_state(proof: &Proof, window: u16) -> Result<TcpState, DropReason> {
    let scale = proof.memory.more.and_then(|more| more.scale);
    let syn = Tcp {
        seq: proof.isn,
        ack: 0,
        flags: TcpFlags(TcpFlags::SYN),
        window: syn_window(window, scale),
        window_scale: scale,
    };
    TcpState::open(&syn, 0)
}

/// A window in the units of a SYN, which no scale applies to (RFC 7323, 2.2).
pub(super) fn syn_window(window: u16, scale: Option<u8>) -> u16 {
    let bytes = u32::from(window) << scale.unwrap_or(0).min(14);
    bytes.min(u32::from(u16::MAX)) as u16
}

/// The options of a TCP header.
pub(super) fn tcp_options<'a, F: Frame>(frame: &'a F, p: &Passage<'_>) -> &'a [u8] {
    let from = usize::from(p.packet.l4) + TCP_HEADER_LEN;
    frame.bytes().get(from..usize::from(p.packet.payload)).unwrap_or_default()
}
