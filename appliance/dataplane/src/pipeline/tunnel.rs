//! Packets in tunnels: from their arrival, with the outer headers on, to the stages, and from these to their departure.
//!
//! A tunnel is a port on top of the one that carries it, and most stages know no difference. What is different is here: such a packet
//! leaves by the twin of the tunnel that it came by, whatever its destination is; it is passed on as it was, one hop as ever; it is never
//! for the appliance itself; and what tells where a flow's packets may come from is the tunnel, not a route.

use super::admit::opening_as;
use super::burst::{Leaving, Slot};
use super::fast::Lane;
use super::known::payload;
use super::prove::Proving;
use super::{Departure, Mark, Observer, Origin, Passage, Pipeline, Step, Transmit, drop_for};
use crate::addr::{Addr, Family, Mac, MacWord};
use crate::emit::encap::{LEN_V4, Label, encapsulate};
use crate::emit::rewrite::cut;
use crate::emit::split::split;
use crate::emit::{mss, service};
use crate::flow::{FlowId, Side};
use crate::policy::Decision;
use crate::time::Time;
use crate::tunnel::geneve::Envelope;
use crate::tunnel::{self, Arrival, Found, NO_PAIR, Tunnels, ecn, entropy};
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::plain::{self, Station};
use crate::wire::{self, ETHERNET_HEADER_LEN, FlowKey, IPV6_HEADER_LEN, Parsed, ethertype};
use arrayvec::ArrayVec;
use core::ops::ControlFlow;
use core::slice;
use nva_config::{Access, Trust};
use pmd_shim::{BURST, Burst, ChecksumStatus, Frame, RxOffload};

/// Parsed forms of the frames of a burst that are not plain, in their order.
pub(super) type Others = ArrayVec<Result<Parsed, DropReason>, BURST>;

/// What the passes before the last one found out about a burst in which tunnels are.
struct Arrivals {
    slots: [Slot; BURST],
    /// By which port or tunnel each came.
    ports: [PortId; BURST],
    others: Others,
}

impl<F: Frame> Pipeline<F> {
    /// Takes a burst from a port that carries tunnels through the path.
    ///
    /// Nearly all packets are of flows that are known, which say by which tunnel they are expected: whether that is the one is asked
    /// before any search for it.
    #[inline(never)]
    pub(super) fn process_tunnelled<T: Transmit<F>, O: Observer>(
        &mut self,
        now: Time,
        port: PortId,
        burst: &mut Burst<F>,
        tx: &mut T,
        observer: &mut O,
    ) {
        let station = &Station::new(self.facts(port).mac);
        let mut pairs = [NO_PAIR; BURST];
        self.look_at_outer(port, station, burst, &mut pairs);
        let mut slots = [Slot::OTHER; BURST];
        // Of what came by the port itself no flow is known yet.
        if pairs != [NO_PAIR; BURST] {
            self.look_at_inner(burst, &pairs, &mut slots);
            self.prefetch_records(&mut slots[..burst.len()]);
        }
        let lane = self.lane(port, now);
        let ahead = self.fast_ahead_tunnelled(burst, &slots, &pairs, &lane);
        self.report(&slots, &ahead, observer);
        let mut leaving = Leaving::new(port);
        if ahead.count == burst.len() {
            return leaving.finish(burst, &ahead, &mut self.counters, tx);
        }
        let mut arrivals = Arrivals { slots, ports: [port; BURST], others: ArrayVec::new() };
        self.receive_tunnelled(port, burst, ahead.count, &pairs, &mut arrivals);
        leaving.add_ahead(&mut burst.drain(..ahead.count), &ahead, &mut self.counters, tx);
        let Arrivals { slots, ports, others } = &arrivals;
        let mark = Mark { port, origin: Origin::Received };
        let places = (slots, ports, ahead.count);
        self.decide_tunnelled(now, mark, burst, places, &mut others.iter(), (leaving, lane), tx, observer);
    }

    /// Last pass for frames of which is known by which tunnel of the port in `from` they came, or that they came by the port itself. Plain
    /// ones that came by a tunnel are [wrapped](wrap).
    pub(super) fn carry_out_tunnelled<T: Transmit<F>>(
        &mut self,
        now: Time,
        from: Mark,
        burst: &mut Burst<F>,
        (slots, ports): (&[Slot; BURST], &[PortId; BURST]),
        others: &mut slice::Iter<'_, Result<Parsed, DropReason>>,
        tx: &mut T,
    ) {
        let (leaving, lane) = (Leaving::new(from.port), self.lane(from.port, now));
        self.decide_tunnelled(now, from, burst, (slots, ports, 0), others, (leaving, lane), tx, &mut ());
    }

    /// Decides each frame of a burst, whose first one has the slot and port of this number.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the burst as the passes before left it")]
    fn decide_tunnelled<T: Transmit<F>, O: Observer>(
        &mut self,
        now: Time,
        Mark { port: carrier, origin }: Mark,
        burst: &mut Burst<F>,
        (slots, ports, first): (&[Slot; BURST], &[PortId; BURST], usize),
        others: &mut slice::Iter<'_, Result<Parsed, DropReason>>,
        (mut leaving, mut lane): (Leaving<F>, Lane),
        tx: &mut T,
        observer: &mut O,
    ) {
        let places = slots.iter().zip(ports).enumerate().skip(first);
        for (mut frame, (index, (slot, &port))) in burst.drain(..).zip(places) {
            let exit = if port.is_tunnel() {
                leaving.turn_to(carrier, &mut self.counters, tx);
                let exit = self.fast_tunnelled(&mut frame, slot, port, &lane);
                if exit.is_none() && slot.plain.is_some() {
                    unwrap(&mut frame);
                }
                exit
            } else {
                lane.turn_to_port(port, self.facts(port).trust);
                leaving.turn_to(port, &mut self.counters, tx);
                self.fast_outside(&mut frame, slot, &lane)
            };
            if let Some(port) = exit {
                leaving.add(port, frame, &mut self.counters, tx);
                observer.decided(index, &self.outcome(slot, port));
                continue;
            }
            let mark = Mark { port, origin };
            let outcome = match self.at_once_elsewhere(&frame, slot, mark) {
                Some(to) => self.pass_on(frame, slot, mark, to, tx),
                None => {
                    // What came before leaves before.
                    leaving.go(&mut self.counters, tx);
                    self.through(frame, slot, others, mark, now, tx)
                }
            };
            if let Some(outcome) = outcome {
                observer.decided(index, &outcome);
            }
        }
        leaving.settle(&mut self.counters, tx);
    }

    /// The fast lane of what came by a port itself: a function of its own, apart from that of what came by its tunnels.
    #[inline(never)]
    fn fast_outside(&mut self, frame: &mut F, slot: &Slot, lane: &Lane) -> Option<PortId> {
        self.fast(frame, slot, lane)
    }

    /// First pass: between the outer ends of which pair frames came whose outer headers are plain.
    #[inline(never)]
    fn look_at_outer(&self, port: PortId, station: &Station, burst: &Burst<F>, pairs: &mut [u16; BURST]) {
        let Some(mut finder) = self.snapshot.tunnels.finder(port, station) else { return };
        if self.is_without_fast_lane() {
            return;
        }
        for (frame, pair) in burst.iter().zip(pairs) {
            let RxOffload { vlan, truncated, .. } = frame.offload();
            if vlan.is_none() && !truncated {
                *pair = finder.pair(frame.bytes());
            }
        }
    }

    /// Second pass: what is in them, where that is plain too, and asks for the flow buckets. The outer headers are left where they are, for those
    /// that leave in their place.
    #[inline(never)]
    fn look_at_inner(&self, burst: &Burst<F>, pairs: &[u16; BURST], slots: &mut [Slot; BURST]) {
        let tunnels = &self.snapshot.tunnels;
        let last_octets = tunnels.may_be_ours();
        for (frame, (pair, slot)) in burst.iter().zip(pairs.iter().zip(slots)) {
            let bytes = frame.bytes();
            if *pair == NO_PAIR || bytes.len() < LEN_V4 + plain::SHORTEST {
                continue;
            }
            let inner = &bytes[LEN_V4..];
            if !last_octets.has(inner) || !tunnels.is_ours(inner) {
                self.receive_plain(inner, &Station::ANY, true, slot);
            }
        }
    }

    /// By which ports and tunnels those frames came that are not on their way yet, and what is in them.
    #[inline(never)]
    fn receive_tunnelled(
        &self,
        port: PortId,
        burst: &mut Burst<F>,
        first: usize,
        pairs: &[u16; BURST],
        arrivals: &mut Arrivals,
    ) {
        let Arrivals { slots, ports, others } = arrivals;
        let places = slots.iter_mut().zip(ports).zip(pairs).skip(first);
        for (frame, ((slot, at), &pair)) in burst.iter_mut().skip(first).zip(places) {
            let tunnels = &self.snapshot.tunnels;
            let by = if pair == NO_PAIR { None } else { tunnels.of_pair(pair, frame.bytes()) };
            let arrival = match by {
                Some(tunnel) => {
                    *at = tunnel;
                    if slot.plain.is_some() {
                        continue;
                    }
                    Some(Arrival::plain(tunnel, frame.bytes()))
                }
                None => {
                    // What is in a frame of no tunnel counts for nothing.
                    *slot = Slot::OTHER;
                    self.receive_other(port, frame, at, slot, others)
                }
            };
            if let Some(arrival) = arrival {
                *at = arrival.port;
                self.take_out(frame, &arrival, slot, others);
            }
        }
        for slot in slots.iter_mut().take(burst.len()).skip(first) {
            if slot.hash.is_unasked() && self.flows.prefetch_record(&mut slot.hash) {
                self.flows.prefetch_elsewhere(&mut slot.hash);
            }
        }
    }

    /// A frame whose outer headers are not plain; `None`: it is in no tunnel, or in one that it may not be in.
    #[inline(never)]
    fn receive_other(
        &self,
        port: PortId,
        frame: &mut F,
        at: &mut PortId,
        slot: &mut Slot,
        others: &mut Others,
    ) -> Option<Arrival> {
        let mac = self.facts(port).mac;
        let station = &Station::new(mac);
        let RxOffload { checksum, vlan, truncated } = frame.offload();
        let verify = checksum == ChecksumStatus::Unverified;
        let is_whole = vlan.is_none() && !truncated;
        let found = match is_whole {
            true => self.snapshot.tunnels.find(port, frame.bytes(), station, verify),
            false => Found::Outside,
        };
        match found {
            Found::Inside(arrival) if !arrival.port.is_tunnel() => {
                *at = arrival.port;
                self.take_out_of_segment(frame, &arrival, slot, others);
            }
            Found::Inside(arrival) => return Some(arrival),
            Found::Enveloped { .. } => self.take_out_enveloped(frame, found, at, slot, others),
            Found::Refused(reason) => others.push(Err(reason)),
            Found::Outside => {
                if !is_whole || !self.receive_plain(frame.bytes(), station, verify, slot) {
                    self.receive_outside(frame, at, mac, slot, others);
                }
            }
        }
        None
    }

    /// A frame that is in no tunnel, where it is plain: as in any burst.
    #[inline(always)]
    fn receive_plain(&self, bytes: &[u8], station: &Station, verify: bool, slot: &mut Slot) -> bool {
        if self.is_without_fast_lane() {
            return false;
        }
        let (plain, hash) = if let Some((plain, key)) = plain::v4(bytes, station, verify) {
            (plain, self.flows.hash_v4(&key))
        } else if let Some((plain, key)) = plain::v6(bytes, station, verify) {
            (plain, self.flows.hash_v6(&key))
        } else {
            return false;
        };
        *slot = Slot { hash, plain: Some(plain) };
        self.flows.prefetch_index(hash);
        true
    }

    /// A frame that is in no tunnel, or in one whose outer headers have more to them than is usual.
    #[inline(never)]
    fn receive_outside(
        &self,
        frame: &mut F,
        at: &mut PortId,
        mac: Mac,
        slot: &mut Slot,
        others: &mut Others,
    ) {
        let parsed = wire::parse(frame.bytes(), frame.offload(), mac);
        let found = match &parsed {
            Ok(Parsed::Ip(packet)) => self.snapshot.tunnels.find_parsed(*at, frame.bytes(), packet),
            _ => Found::Outside,
        };
        match found {
            Found::Inside(arrival) if !arrival.port.is_tunnel() => {
                *at = arrival.port;
                self.take_out_of_segment(frame, &arrival, slot, others);
            }
            Found::Inside(arrival) => {
                *at = arrival.port;
                self.take_out(frame, &arrival, slot, others);
            }
            Found::Enveloped { .. } => self.take_out_enveloped(frame, found, at, slot, others),
            Found::Refused(reason) => others.push(Err(reason)),
            Found::Outside => {
                if let Ok(Parsed::Ip(packet)) = &parsed {
                    slot.hash = self.flows.hash(&packet.key);
                    self.flows.prefetch_index(slot.hash);
                }
                others.push(parsed);
            }
        }
    }

    /// Cuts the outer headers off, and parses the inner frame. A plain one is [wrapped](wrap) again.
    #[inline(never)]
    fn take_out(&self, frame: &mut F, arrival: &Arrival, slot: &mut Slot, others: &mut Others) {
        // All of it is in the frame.
        let cut = frame.set_len(arrival.end.into()).is_ok() && frame.pop_front(arrival.start.into()).is_ok();
        debug_assert!(cut, "the inner frame is within the frame");
        frame.set_offload(RxOffload::default());
        let inner = frame.bytes();
        let ecn = if self.is_without_fast_lane() || self.snapshot.tunnels.is_ours(inner) {
            self.take_out_other(inner, arrival, slot, others)
        } else if let Some((plain, key)) = plain::v4(inner, &Station::ANY, true) {
            slot.hash = self.flows.hash_v4(&key);
            slot.plain = Some(plain);
            combine(inner, Family::V4, arrival.service)
        } else if let Some((plain, key)) = plain::v6(inner, &Station::ANY, true) {
            slot.hash = self.flows.hash_v6(&key);
            slot.plain = Some(plain);
            combine(inner, Family::V6, arrival.service)
        } else {
            self.take_out_other(inner, arrival, slot, others)
        };
        match ecn {
            Ok(change) => {
                self.flows.prefetch_index(slot.hash);
                if let Some((family, ecn)) = change {
                    service::set_ecn(frame.bytes_mut(), ETHERNET_HEADER_LEN, family, ecn);
                }
                if slot.plain.is_some() {
                    // At least as much was cut off.
                    let is_wrapped = wrap(frame);
                    debug_assert!(is_wrapped, "there is room for outer headers where some were");
                }
            }
            Err(Some(reason)) => {
                *slot = Slot::OTHER;
                others.push(Err(reason));
            }
            // Its reason is among the others.
            Err(None) => {}
        }
    }

    /// The same for an inner frame that is not plain.
    #[inline(never)]
    fn take_out_other(
        &self,
        inner: &[u8],
        arrival: &Arrival,
        slot: &mut Slot,
        others: &mut Others,
    ) -> Result<Change, Option<DropReason>> {
        if self.snapshot.tunnels.is_ours(inner) {
            return Err(Some(DropReason::Spoofed));
        }
        let parsed = wire::parse(inner, RxOffload::default(), tunnel::station(inner)).map_err(Some)?;
        let Parsed::Ip(packet) = &parsed else { return Err(Some(DropReason::Unsupported)) };
        if super::is_neighbor_discovery(packet) {
            return Err(Some(DropReason::NotForUs));
        }
        let change = combine(inner, packet.family, arrival.service)?;
        slot.hash = self.flows.hash(&packet.key);
        others.push(Ok(parsed));
        Ok(change)
    }

    /// The station at which a frame is taken in again: every one where it came by a tunnel.
    pub(super) fn station(&self, frame: &F, port: PortId) -> Mac {
        if port.is_tunnel() { tunnel::station(frame.bytes()) } else { self.facts(port).mac }
    }

    /// The stages of a new flow in a tunnel, in their order.
    pub(super) fn admit_tunnelled(&mut self, frame: &mut F, p: &mut Passage<'_>) -> Step<Departure> {
        self.guard_tunnel(frame, p)?;
        self.limit_syns(p)?;
        let proving = self.proving(frame, p)?;
        let tcp = opening_as(p, &proving)?;
        let decision = self.judge_tunnelled(&p.packet.key);
        p.rule = decision.rule;
        if let (Access::Allow, Proving::Ask(syn)) = (decision.access, &proving) {
            return self.ask(frame, p, syn, None);
        }
        self.counters.hit_rule(decision.rule, p.now);
        if decision.access == Access::Deny {
            return drop_for(DropReason::DeniedByRule);
        }
        let Self { counters, snapshot, .. } = self;
        let (key, visit) = (&p.packet.key, &mut |rule| counters.hit_rule(Some(rule), p.now));
        snapshot.tunnels.frontends.passed_by(&snapshot.policy, key, decision.rule, visit);
        let departure = self.way_through(p)?;
        self.fits(frame, p, departure)?;
        if self.neighbors.is_failed(departure.neighbor, p.now) {
            return drop_for(DropReason::UnresolvedNeighbor);
        }
        if let Proving::Proved(proof) = &proving {
            self.redeem(p, proof)?;
        }
        let id = self.open(p, &p.packet.key, None, tcp, departure)?;
        if let Proving::Proved(proof) = &proving {
            return self.accept_proof(frame, p, id, proof);
        }
        self.carry(frame, p, id, Side::Initiator);
        ControlFlow::Continue(departure)
    }

    /// Stage 4, in a tunnel.
    pub(super) fn guard_tunnel(&self, frame: &F, p: &Passage<'_>) -> Step<()> {
        let (trust, frontends) = (self.facts(p.port).trust, &self.snapshot.tunnels.frontends);
        let are_trusted = |source| frontends.are_trusted(source);
        match self.snapshot.guard.check_tunnelled(p.packet, payload(frame, p), trust, are_trusted) {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => drop_for(reason),
        }
    }

    /// Stage 7, in a tunnel: what security groups say of a flow with this key.
    pub(super) fn judge_tunnelled(&self, key: &FlowKey) -> Decision {
        self.snapshot.tunnels.frontends.judge(&self.snapshot.policy, key)
    }

    /// Whether a packet of a flow came by the tunnel that this side's packets come by. `expected`: by which the other side's leave.
    pub(super) fn check_side(&self, p: &Passage<'_>, expected: Option<PortId>) -> Step<()> {
        let is_right = match expected {
            Some(expected) => {
                let tunnels = &self.snapshot.tunnels;
                p.port == expected && tunnels.open(p.port).is_some() || tunnels.continues(expected, p.port)
            }
            None => !p.port.is_tunnel(),
        };
        if is_right { ControlFlow::Continue(()) } else { drop_for(DropReason::TunnelTrust) }
    }

    /// The way out of a packet that came by a tunnel.
    pub(super) fn way_through(&mut self, p: &Passage<'_>) -> Step<Departure> {
        let Some(out) = self.snapshot.tunnels.way_out(p.port, p.packet.key.dst) else {
            return drop_for(DropReason::TunnelUnknownVni);
        };
        match self.way_into(out, p.now) {
            Some(departure) => ControlFlow::Continue(departure),
            None => drop_for(DropReason::NoRoute),
        }
    }

    /// The way into a tunnel; `None` where it is closed, or nothing leads to its peer.
    pub(super) fn way_into(&mut self, port: PortId, now: Time) -> Option<Departure> {
        let tunnel = self.snapshot.tunnels.open(port)?;
        let next_hop = self.snapshot.tunnels.path(tunnel)?.next_hop?;
        let neighbor = self.neighbors.find_or_create(tunnel.carrier, next_hop, now)?;
        Some(Departure { port, neighbor })
    }

    /// Keeps a flow to the peer that its last packet came from.
    pub(super) fn pin(&mut self, p: &Passage<'_>, id: FlowId, side: Side, departure: Departure) {
        let flow = self.flows.flow(id);
        let back = flow.way(side.other());
        if flow.way(side) == Some(departure.to_way()) && back.is_some_and(|way| way.port == p.port) {
            return;
        }
        let back = self.way_into(p.port, p.now);
        let flow = self.flows.flow_mut(id);
        flow.set_way(side, Some(departure.to_way()));
        flow.set_way(side.other(), back.map(Departure::to_way));
    }

    /// What a packet has done to it between two tunnels: it stays as it is, but for what a SYN announces, where that is asked for.
    #[inline(never)]
    pub(super) fn pass_through(&self, frame: &mut F, p: &Passage<'_>) {
        let tunnels = &self.snapshot.tunnels;
        let Some(tunnel) = tunnels.open(p.port).filter(|tunnel| tunnel.clamps_mss) else { return };
        let mtu = self.room_for(frame, p.port).min(self.room_for(frame, tunnel.twin));
        mss::clamp(frame.bytes_mut(), p.packet, mtu);
    }

    /// Sends a frame into a tunnel, or keeps it until the address of the next hop to the peer is known.
    pub(super) fn send_tunnelled<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        departure: Departure,
        origin: Origin,
        now: Time,
        tx: &mut T,
    ) -> Verdict {
        let mtu = usize::from(self.room_for(&frame, departure.port));
        let envelope = match self.open_envelope(&mut frame, departure.port) {
            Ok(envelope) => envelope,
            Err(reason) => return Verdict::Drop(reason),
        };
        if frame.bytes().len() > mtu + ETHERNET_HEADER_LEN {
            // What is behind a packet has not to fit.
            cut_padding(&mut frame);
        }
        let mut rest = ArrayVec::new();
        if frame.bytes().len() > mtu + ETHERNET_HEADER_LEN
            && split(&mut frame, mtu as u16, || tx.allocate(), &mut rest).is_err()
        {
            return Verdict::Drop(DropReason::TooBig);
        }
        let received = Mark::from_bits(frame.mark()).port;
        let verdict = self.send_whole(frame, departure, origin, envelope.as_ref(), now, tx);
        for mut piece in rest {
            // The verdict is counted for the first piece; the others are no received frames.
            piece.set_mark(Mark { port: received, origin: Origin::Own }.to_bits());
            self.send_whole(piece, departure, Origin::Own, envelope.as_ref(), now, tx);
        }
        verdict
    }

    fn send_whole<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        Departure { port, neighbor }: Departure,
        origin: Origin,
        envelope: Option<&Envelope>,
        now: Time,
        tx: &mut T,
    ) -> Verdict {
        let mac = self.neighbors.mac(neighbor);
        let next_hop = mac.unwrap_or_default().into();
        let carrier = match envelope {
            Some(envelope) => self.put_in_envelope(&mut frame, port, envelope, next_hop),
            None => self.put_in(&mut frame, port, next_hop),
        };
        let Some(carrier) = carrier else { return Verdict::Drop(DropReason::TooBig) };
        if mac.is_some() {
            let _left = self.transmit(carrier, frame, origin, tx);
            return if origin == Origin::Replied { Verdict::Reply(None) } else { Verdict::Forward(carrier) };
        }
        let mark = Mark::from_bits(frame.mark());
        let kept_as = if mark.origin.is_own() { mark.origin } else { origin };
        frame.set_mark(Mark { port: mark.port, origin: kept_as }.to_bits());
        match self.neighbors.hold(neighbor, frame, now) {
            Ok(()) => {
                self.neighbor_timers(now, tx);
                Verdict::Hold
            }
            Err(refused) => {
                self.take_back(refused.bytes());
                Verdict::Drop(DropReason::UnresolvedNeighbor)
            }
        }
    }

    /// A frame that begins with outer headers, if it does, was counted at its tunnel, and does not leave.
    #[cold]
    pub(super) fn take_back(&mut self, bytes: &[u8]) {
        if let Some(tunnel) = self.snapshot.tunnels.left_by(bytes) {
            self.tolls.take_back(tunnel);
        }
    }

    /// Tunnels or segments are others than before: what waits with its outer headers on may be on its way to another side, or to nobody.
    #[cold]
    pub(super) fn lose_enveloped(&mut self, before: &Tunnels) {
        let is_enveloped = |frame: &F| {
            let Mark { port, origin } = Mark::from_bits(frame.mark());
            port.is_tunnel() || matches!(origin, Origin::Forwarded | Origin::Replied | Origin::Handshake)
        };
        for place in 0..self.neighbors.places() {
            let Some(frame) = self.neighbors.take_waiting(place, is_enveloped) else { continue };
            if let Some(tunnel) = before.left_by(frame.bytes()) {
                self.tolls.take_back(tunnel);
            }
            let Mark { port, origin } = Mark::from_bits(frame.mark());
            if !origin.is_own() {
                self.recount(port, Verdict::Hold, Verdict::Drop(DropReason::UnresolvedNeighbor));
            }
        }
    }

    /// Puts the outer headers of a tunnel in front of a frame; gives the port that carries it. `None`: there is no room, or the tunnel is
    /// closed.
    fn put_in(&mut self, frame: &mut F, port: PortId, next_hop: MacWord) -> Option<PortId> {
        let (tunnel, path) = self.snapshot.tunnels.way(port)?;
        let inner = frame.bytes();
        let family = family_of(inner);
        let label = Label {
            vni: tunnel.vni,
            udp_port: tunnel.udp_port,
            source_port: entropy::of_frame(inner),
            service: path.service(service::read(inner, ETHERNET_HEADER_LEN, family)),
        };
        encapsulate(frame, &path.outer, &label, (next_hop, path.station)).ok()?;
        let carrier = tunnel.carrier;
        if let Some(counters) = self.tolls.of(port) {
            counters.transmitted = counters.transmitted.wrapping_add(1);
        }
        Some(carrier)
    }

    /// Sends the appliance's answer to a packet back by the tunnel that this came by.
    pub(super) fn reply_tunnelled<T: Transmit<F>>(
        &mut self,
        frame: F,
        p: &Passage<'_>,
        verdict: Verdict,
        tx: &mut T,
    ) -> Verdict {
        let Some(back) = self.way_into(p.port, p.now) else {
            return Verdict::Drop(DropReason::UnresolvedNeighbor);
        };
        match self.send_tunnelled(frame, back, Origin::Replied, p.now, tx) {
            Verdict::Reply(_) => verdict,
            other => other,
        }
    }

    /// Which of a packet's two ends is on the untrusted side: its flow is at that one's worker.
    pub(super) fn outer_end(&self, port: PortId, [from, to]: [Addr; 2]) -> Addr {
        if self.snapshot.tunnels.is_geneve(port) {
            return self.outer_end_enveloped([from, to]);
        }
        match self.facts(port).trust {
            Trust::Untrusted => from,
            Trust::Trusted => to,
        }
    }
}

/// Makes room for outer headers over IPv4 in front of a plain frame that came by a tunnel, as the fast lane writes them; what stands there
/// says nothing. `false`: there is none, and the frame is unchanged.
pub(super) fn wrap<F: Frame>(frame: &mut F) -> bool {
    frame.push_front(LEN_V4).is_ok()
}

/// Cuts that room off again, for the stages.
#[cold]
#[inline(never)]
fn unwrap<F: Frame>(frame: &mut F) {
    let cut = frame.pop_front(LEN_V4);
    debug_assert!(cut.is_ok(), "the frame was wrapped");
    frame.set_offload(RxOffload::default());
}

/// Cuts off what is behind the packet in an inner frame.
#[cold]
fn cut_padding<F: Frame>(frame: &mut F) {
    let bytes = frame.bytes();
    let read = |at: usize| wire::chunk(bytes, ETHERNET_HEADER_LEN + at).copied().map(u16::from_be_bytes);
    let end = match family_of(bytes) {
        Family::V4 => read(2).map(usize::from),
        Family::V6 => read(4).map(|payload_len| IPV6_HEADER_LEN + usize::from(payload_len)),
    };
    if let Some(end) = end.map(|len| ETHERNET_HEADER_LEN + len).filter(|end| *end < bytes.len()) {
        cut(frame, end);
    }
}

/// The family of the packet in an inner frame, which is no other.
pub(super) fn family_of(inner: &[u8]) -> Family {
    match wire::chunk(inner, ETHERNET_HEADER_LEN - 2).copied().map(u16::from_be_bytes) {
        Some(ethertype::IPV6) => Family::V6,
        _ => Family::V4,
    }
}

/// What the inner packet's congestion field becomes, where it changes.
pub(super) type Change = Option<(Family, u8)>;

/// Combines the outer field with the inner packet's.
#[inline(always)]
pub(super) fn combine(inner: &[u8], family: Family, outer: u8) -> Result<Change, Option<DropReason>> {
    if !ecn::is_marked(outer) {
        return Ok(None);
    }
    let field = service::read(inner, ETHERNET_HEADER_LEN, family) & ecn::FIELD;
    match ecn::decapsulated(outer, field) {
        Some(now) => Ok((now != field).then_some((family, now))),
        None => Err(Some(DropReason::Malformed)),
    }
}
