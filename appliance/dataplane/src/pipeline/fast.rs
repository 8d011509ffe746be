//! The fast lane: plain packets of flows of which everything is known.
//!
//! Nothing is decided here. A packet that [`wire::plain`](crate::wire::plain) took, whose flow was decided under this configuration, that
//! came in where it is expected, goes to a neighbour that is known, fits the link, lives on, and changes nothing but its flow's
//! numbers, is brought up to its departure in one go. All of that is looked at before anything is changed, so that every other packet
//! goes through the stages as if it had never been here.

use super::burst::{Ahead, Slot};
use super::tunnel::wrap;
use super::{Mark, Origin, Outcome, Pipeline};
use crate::addr::MacWord;
use crate::emit::encap::{Difference, LEN_V4, Label, encapsulate};
use crate::emit::{forward, rewrite};
use crate::flow::{Deadlines, Flow, FlowTable, Side, Way};
use crate::route::{Hop, NeighborId, Neighbors};
use crate::snapshot::{Snapshot, port_id};
use crate::time::Time;
use crate::tunnel::{Sign, Tunnels, entropy, gate};
use crate::verdict::{PortId, Verdict};
use crate::wire::plain::{self, KeyV4, KeyV6, Kind, L3, L4_OVER_V4, L4_OVER_V6, Plain};
use crate::wire::{TCP_HEADER_LEN, UDP_HEADER_LEN, protocol};
use nva_config::Trust;
use pmd_shim::{BURST, Frame};

/// What is read of a frame before it is looked at any more: as far as its transport header.
const TCP_V4: usize = L4_OVER_V4 + TCP_HEADER_LEN;
/// As much as a TCP header is there too.
const UDP_V4: usize = TCP_V4;
const TCP_V6: usize = L4_OVER_V6 + TCP_HEADER_LEN;
const UDP_V6: usize = L4_OVER_V6 + UDP_HEADER_LEN;

/// What all packets of a burst have in common.
pub(super) struct Lane {
    port: PortId,
    mark: u32,
    generation: u32,
    deadlines: Deadlines,
    /// Datagrams that came by a port itself are held against the amplification filters.
    is_filtered: bool,
    /// Longer packets may not fit a way that routers have called narrow; and in tunnels longer frames, as
    /// [`Gate::frame_max`](crate::tunnel::Gate).
    room: u16,
    frame_max: u16,
}

impl Lane {
    /// Where packets come in.
    #[inline(always)]
    pub(super) fn port(&self) -> PortId {
        self.port
    }

    /// What leaves is marked with this.
    #[inline(always)]
    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    /// Until when flows live whose packets these are.
    #[inline(always)]
    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Where packets come in, and the configuration under which their flows were decided: what a [`seat`] is for.
    #[inline(always)]
    pub(super) fn expected(&self) -> (PortId, u32) {
        (self.port, self.generation)
    }

    /// Packets come from the untrusted side.
    #[inline(always)]
    pub(super) fn is_untrusted(&self) -> bool {
        self.is_filtered
    }

    /// The side that packets come from.
    #[inline(always)]
    pub(super) fn trust(&self) -> Trust {
        if self.is_filtered { Trust::Untrusted } else { Trust::Trusted }
    }

    /// Longer packets may not fit a way that routers have called narrow.
    #[inline(always)]
    pub(super) fn room(&self) -> u16 {
        self.room
    }

    /// For a packet of the same burst that came by another port, which leads to this side.
    #[inline(always)]
    pub(super) fn turn_to_port(&mut self, port: PortId, trust: Trust) {
        self.port = port;
        self.mark = forwarded(port);
        self.is_filtered = trust == Trust::Untrusted;
    }
}

/// The mark of a frame that came in by a port and is forwarded.
#[inline(always)]
fn forwarded(port: PortId) -> u32 {
    Mark { port, origin: Origin::Forwarded }.to_bits()
}

/// What the fast lane needs of a port that packets leave by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    mac: MacWord,
    mtu: u16,
}

impl Exit {
    pub(super) fn all(snapshot: &Snapshot) -> Box<[Self]> {
        let ports = snapshot.ports.iter().enumerate();
        ports
            .map(|(index, port)| {
                // Into a segment nothing fits here: the stages put it there.
                let is_segment = snapshot.tunnels.segment(port_id(index)).is_some();
                Self { mac: port.mac.into(), mtu: if is_segment { 0 } else { port.mtu } }
            })
            .collect()
    }

    /// The longest IP packet that leaves by the port.
    #[inline(always)]
    pub(super) fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The port's address.
    #[inline(always)]
    pub(super) fn mac(&self) -> MacWord {
        self.mac
    }
}

impl<F: Frame> Pipeline<F> {
    pub(super) fn lane(&self, port: PortId, now: Time) -> Lane {
        let room = self.snapshot.tunnels.least_room(now);
        Lane {
            port,
            mark: forwarded(port),
            generation: self.snapshot.decided,
            deadlines: self.flows.deadlines(now),
            is_filtered: self.facts(port).trust == Trust::Untrusted,
            room,
            frame_max: gate::frame_max(room),
        }
    }

    /// What was decided about a packet that left by the fast lane.
    #[inline(always)]
    pub(super) fn outcome(&self, slot: &Slot, port: PortId) -> Outcome {
        let flow = self.flows.guess(slot.hash);
        Outcome {
            verdict: Verdict::Forward(port),
            rule: flow.and_then(Flow::rule),
            backend: flow.and_then(Flow::backend),
        }
    }

    /// Brings packets up to their departure, as far as those of a burst are for this lane one after the other. A function of its own, that has
    /// the registers to itself.
    #[inline(never)]
    pub(super) fn fast_ahead(&mut self, burst: &mut [F], slots: &[Slot; BURST], lane: &Lane) -> Ahead {
        let (mut count, mut exits) = (0, [lane.port; BURST]);
        for ((frame, slot), exit) in burst.iter_mut().zip(slots).zip(&mut exits) {
            let Some(port) = self.fast(frame, slot, lane) else { break };
            *exit = port;
            count += 1;
        }
        Ahead { count, exits }
    }

    /// The same for packets that came by tunnels, each between the outer ends of a pair.
    #[inline(never)]
    pub(super) fn fast_ahead_tunnelled(
        &mut self,
        burst: &mut [F],
        slots: &[Slot; BURST],
        pairs: &[u16; BURST],
        lane: &Lane,
    ) -> Ahead {
        let (mut count, mut exits) = (0, [lane.port; BURST]);
        let places = slots.iter().zip(pairs).zip(&mut exits);
        for (frame, ((slot, &pair), exit)) in burst.iter_mut().zip(places) {
            let Some(carrier) = self.fast_tunnelled(frame, slot, Between { pair }, lane) else { break };
            *exit = carrier;
            count += 1;
        }
        Ahead { count, exits }
    }

    /// Brings a packet up to its departure, by the port that is returned. `None`: it is for the stages, and nothing was changed.
    #[inline(always)]
    pub(super) fn fast(&mut self, frame: &mut F, slot: &Slot, lane: &Lane) -> Option<PortId> {
        let plain = slot.plain.as_ref()?;
        match plain.kind {
            Kind::TcpV4 => self.ride::<false, true, TCP_V4>(frame, slot, plain, lane),
            Kind::UdpV4 => self.ride::<false, false, UDP_V4>(frame, slot, plain, lane),
            Kind::TcpV6 => self.ride::<true, true, TCP_V6>(frame, slot, plain, lane),
            Kind::UdpV6 => self.ride::<true, false, UDP_V6>(frame, slot, plain, lane),
        }
    }

    /// The same for a packet that came by a tunnel, up to its departure by the twin. The frame is [wrapped](super::tunnel::wrap).
    #[inline(always)]
    pub(super) fn fast_tunnelled(
        &mut self,
        frame: &mut F,
        slot: &Slot,
        came: impl Came,
        lane: &Lane,
    ) -> Option<PortId> {
        let plain = slot.plain.as_ref()?;
        match plain.kind {
            Kind::TcpV4 => self.cross::<false, true, TCP_V4>(frame, slot, plain, came, lane),
            Kind::UdpV4 => self.cross::<false, false, UDP_V4>(frame, slot, plain, came, lane),
            Kind::TcpV6 => self.cross_v6::<true, TCP_V6>(frame, slot, plain, came, lane),
            Kind::UdpV6 => self.cross_v6::<false, UDP_V6>(frame, slot, plain, came, lane),
        }
    }

    #[inline(never)]
    fn cross_v6<const TCP: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        slot: &Slot,
        plain: &Plain,
        came: impl Came,
        lane: &Lane,
    ) -> Option<PortId> {
        self.cross::<true, TCP, N>(frame, slot, plain, came, lane)
    }

    #[inline(always)]
    fn cross<const V6: bool, const TCP: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        slot: &Slot,
        plain: &Plain,
        came: impl Came,
        lane: &Lane,
    ) -> Option<PortId> {
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let (outer, inner): (&mut [u8; LEN_V4], _) = bytes.split_first_chunk_mut()?;
        let (head, rest): (&[u8; N], _) = inner.split_first_chunk()?;
        let (flow, side) = guessed::<V6, TCP, N>(&mut self.flows, head, slot)?;
        let port = flow.expected_port(side);
        if !came.is_by(&self.snapshot.tunnels, port, outer) {
            return None;
        }
        let Seat { flow, side, way, hop } = Seat::of(flow, side, &self.neighbors, (port, lane.generation))?;
        let (gate, front) = self.snapshot.tunnels.gate(way.port)?;
        if len > usize::from(gate.frame_max)
            || len > usize::from(lane.frame_max)
            || TCP && flow.is_special()
            || !may_follow::<V6, TCP, N>(flow, side, head, rest, plain)
        {
            return None;
        }
        if !TCP && flow.is_watched() && self.snapshot.tunnels.known(port)?.trust == Trust::Untrusted {
            return None;
        }
        let (source_port, service) = outer_fields::<V6, TCP, N>(head, flow);
        if front.is_v4 {
            let difference = Difference {
                next_hop: hop.take(),
                ports: u32::from(source_port) | gate.udp_port,
                network: gate.network,
                service,
            };
            front.write(outer, &difference, (len - L3) as u16);
        } else {
            rewrap(frame, &self.snapshot.tunnels, way.port, (source_port, service), hop.take())?;
        }
        // From here on it is certain.
        #[cfg(test)]
        {
            self.rides[2 * usize::from(plain.kind as u8)] += 1;
        }
        let ip_len = usize::from(plain.end) - L3;
        let rare = flow.count::<TCP>(side, ip_len, &lane.deadlines);
        if rare.is_any() {
            self.flows.catch_up(slot.hash, rare, ip_len);
        }
        // Both ways of a flow are those of twins.
        debug_assert_eq!(self.snapshot.tunnels.twin(port), way.port);
        self.tolls.cross(port);
        frame.set_mark(forwarded(port));
        Some(gate.carrier)
    }

    #[inline(always)]
    fn ride<const V6: bool, const TCP: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        slot: &Slot,
        plain: &Plain,
        lane: &Lane,
    ) -> Option<PortId> {
        let bytes = frame.bytes_mut();
        let is_padded = bytes.len() > usize::from(plain.end);
        let (head, rest): (&mut [u8; N], _) = bytes.split_first_chunk_mut()?;
        let Seat { flow, side, way, hop } =
            seat::<F, V6, TCP, N>(&mut self.flows, &self.neighbors, head, slot, lane.expected())?;
        if TCP && flow.is_special() {
            return self.ride_spliced::<V6, N>(frame, slot, plain, lane);
        }
        let exit = self.exits.get(way.port.index())?;
        let ip_len = usize::from(plain.end) - L3;
        if ip_hops::<V6, N>(head) <= 1 || ip_len > usize::from(exit.mtu) {
            return None;
        }
        if !may_follow::<V6, TCP, N>(flow, side, head, rest, plain) {
            return None;
        }
        if !TCP && lane.is_filtered && flow.is_watched() {
            return None;
        }
        // From here on it is certain.
        #[cfg(test)]
        {
            self.rides[2 * usize::from(plain.kind as u8) + usize::from(flow.is_translated())] += 1;
        }
        edit::<V6, TCP, N>(head, flow, side);
        rewrite::set_link_words(head, exit.mac, hop.take());
        let rare = flow.count::<TCP>(side, ip_len, &lane.deadlines);
        if rare.is_any() {
            self.flows.catch_up(slot.hash, rare, ip_len);
        }
        if is_padded {
            rewrite::cut(frame, plain.end.into());
        }
        frame.set_mark(lane.mark);
        Some(way.port)
    }
}

/// A packet's flow, and the way that is known for it.
pub(super) struct Seat<'a> {
    pub(super) flow: &'a mut Flow,
    pub(super) side: Side,
    pub(super) way: Way,
    pub(super) hop: Hop<'a>,
}

impl<'a> Seat<'a> {
    /// What a side of a flow has, if the flow was decided under this configuration, expects the side's packets by this port, and leads to a
    /// neighbour that is known.
    #[inline(always)]
    fn of<F: Frame>(
        flow: &'a mut Flow,
        side: Side,
        neighbors: &'a Neighbors<F>,
        (port, generation): (PortId, u32),
    ) -> Option<Self> {
        let way = flow.settled_way(side, port, generation)?;
        let hop = neighbors.hop(NeighborId::from_bits(way.neighbor))?;
        Some(Seat { flow, side, way, hop })
    }
}

/// The guessed flow, if it is the packet's, and who sent this.
#[inline(always)]
fn guessed<'a, const V6: bool, const TCP: bool, const N: usize>(
    flows: &'a mut FlowTable,
    head: &[u8; N],
    slot: &Slot,
) -> Option<(&'a mut Flow, Side)> {
    flows.guessed(slot.hash).filter(|(flow, side)| is_of::<V6, TCP, N>(flow, *side, head))
}

/// The guessed flow, if it is the packet's, as [`Seat::of`] gives it.
#[inline(always)]
pub(super) fn seat<'a, F: Frame, const V6: bool, const TCP: bool, const N: usize>(
    flows: &'a mut FlowTable,
    neighbors: &'a Neighbors<F>,
    head: &[u8; N],
    slot: &Slot,
    expected: (PortId, u32),
) -> Option<Seat<'a>> {
    let (flow, side) = guessed::<V6, TCP, N>(flows, head, slot)?;
    Seat::of(flow, side, neighbors, expected)
}

/// By what it is told whether a packet came by the tunnel that its flow expects it by.
pub(super) trait Came: Copy {
    /// It came by this port. `outer` is what stands in front of the packet.
    fn is_by(self, tunnels: &Tunnels, port: PortId, outer: &[u8; LEN_V4]) -> bool;
}

/// The tunnel is known.
impl Came for PortId {
    #[inline(always)]
    fn is_by(self, _: &Tunnels, port: PortId, _: &[u8; LEN_V4]) -> bool {
        port == self
    }
}

/// Its outer headers, which are plain, and between the ends of this pair.
#[derive(Clone, Copy)]
struct Between {
    pair: u16,
}

impl Came for Between {
    #[inline(always)]
    fn is_by(self, tunnels: &Tunnels, port: PortId, outer: &[u8; LEN_V4]) -> bool {
        tunnels.admits(port, &Sign::read(self.pair, outer))
    }
}

/// Whether a segment of a flow that is not special fits the state of its connection, which moves on when it does. A datagram fits always.
#[inline(always)]
fn may_follow<const V6: bool, const TCP: bool, const N: usize>(
    flow: &mut Flow,
    side: Side,
    head: &[u8; N],
    rest: &[u8],
    plain: &Plain,
) -> bool {
    if !TCP {
        return true;
    }
    let l4 = l4::<V6>();
    let options = || rest.first_chunk().copied();
    let Some(header_len) = plain::acknowledgement(head, l4, options) else { return false };
    let Some(payload_len) = u32::from(plain.end).checked_sub((l4 + header_len) as u32) else { return false };
    let seq = plain::half_word(head, l4 + 4).swap_bytes();
    let ack = plain::half_word(head, l4 + 8).swap_bytes();
    let window = plain::quarter_word(head, l4 + 14).swap_bytes();
    flow.tcp.follow(side, seq, ack, window, payload_len)
}

/// The source port of the headers that go around a packet, as it stands there, and the packet's service field.
#[inline(always)]
fn outer_fields<const V6: bool, const TCP: bool, const N: usize>(head: &[u8; N], flow: &Flow) -> (u16, u8) {
    if V6 {
        let protocol = if TCP { protocol::TCP } else { protocol::UDP };
        let addresses = [8, 16, 24, 32].map(|at| plain::word(head, L3 + at));
        let service = (plain::half_word(head, L3).swap_bytes() >> 20) as u8;
        (entropy::of_v6(addresses, ports::<V6, N>(head), protocol).swap_bytes(), service)
    } else {
        (flow.entropy_v4(), head[L3 + 1])
    }
}

/// Puts outer headers that are not over IPv4 in front of a wrapped frame. `None`: there is no room, and nothing was changed.
#[inline(never)]
fn rewrap<F: Frame>(
    frame: &mut F,
    tunnels: &Tunnels,
    port: PortId,
    (source_port, service): (u16, u8),
    next_hop: MacWord,
) -> Option<()> {
    let (tunnel, path) = tunnels.way(port)?;
    let source_port = source_port.swap_bytes();
    let label =
        Label { vni: tunnel.vni, udp_port: tunnel.udp_port, source_port, service: path.service(service) };
    frame.pop_front(LEN_V4).ok()?;
    if encapsulate(frame, &path.outer, &label, (next_hop, path.station)).is_err() {
        wrap(frame);
        return None;
    }
    Some(())
}

/// The packet is of this flow, and its sender is on this side.
#[inline(always)]
fn is_of<const V6: bool, const TCP: bool, const N: usize>(flow: &Flow, side: Side, head: &[u8; N]) -> bool {
    let protocol = if TCP { protocol::TCP } else { protocol::UDP };
    let ports = ports::<V6, N>(head);
    if V6 {
        let addresses = [8, 16, 24, 32].map(|at| plain::word(head, L3 + at));
        flow.is_of_v6(side, &KeyV6 { addresses, ports, protocol })
    } else {
        flow.is_of_v4(side, &KeyV4 { addresses: plain::word(head, L3 + 12), ports, protocol })
    }
}

pub(super) const fn l4<const V6: bool>() -> usize {
    if V6 { L4_OVER_V6 } else { L4_OVER_V4 }
}

#[inline(always)]
fn ports<const V6: bool, const N: usize>(head: &[u8; N]) -> u32 {
    plain::half_word(head, l4::<V6>())
}

/// Time to live, or hop limit.
#[inline(always)]
pub(super) fn ip_hops<const V6: bool, const N: usize>(head: &[u8; N]) -> u8 {
    head[if V6 { L3 + 7 } else { L3 + 8 }]
}

/// Gives a packet the ends that it leaves with, and one hop less.
#[inline(always)]
pub(super) fn edit<const V6: bool, const TCP: bool, const N: usize>(
    head: &mut [u8; N],
    flow: &Flow,
    side: Side,
) {
    match (V6, flow.is_translated()) {
        (false, false) => forward::hop_v4(head),
        (false, true) => forward::translate_v4::<TCP, N>(head, &flow.edits_v4(side)),
        (true, false) => forward::hop_v6(head),
        (true, true) => forward::translate_v6::<TCP, N>(head, &flow.leaving_v6(side)),
    }
}
