//! A flow's record: two cache lines that every packet of the flow reads, and a small part beside them that packets do not need.

use core::num::NonZeroU32;

use super::hash::{FlowHash, Secret};
use super::tcp::TcpState;
use super::timeout::Class;
use crate::addr::{Addr, Family};
use crate::emit::forward::Edits;
use crate::guard::is_watched;
use crate::synproxy::Splice;
use crate::time::Time;
use crate::tunnel::entropy;
use crate::verdict::{BackendId, PortId, RuleId};
use crate::wire::plain::{KeyV4, KeyV6};
use crate::wire::{FlowKey, protocol};

/// Who sent a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The sender of the flow's first packet.
    Initiator,
    /// The other end.
    Responder,
}

impl Side {
    /// The other side.
    #[inline]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    /// As an index.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Names a flow of one table, until the flow is removed. The epoch tells a removed flow from the next one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub(super) index: u32,
    pub(super) epoch: u16,
}

#[cfg(test)]
impl FlowId {
    /// One that names a flow only by chance.
    pub(crate) fn of_test(index: u32) -> Self {
        Self { index, epoch: 0 }
    }
}

/// How the packets that one side sends leave the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Through this port.
    pub port: PortId,
    /// To this neighbour, whose meaning is the caller's.
    pub neighbor: NonZeroU32,
}

/// What a flow is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// The key of the first packet, as received.
    pub key: FlowKey,
    /// The destination after translation; without translation, `key.dst`.
    pub translated: Addr,
    /// The destination port after translation; without translation, `key.dst_port`.
    pub translated_port: u16,
    /// The connection's state, when the protocol is TCP.
    pub tcp: Option<TcpState>,
    /// The rule that allows it.
    pub rule: Option<RuleId>,
    /// The backend it was balanced to.
    pub backend: Option<BackendId>,
    /// The configuration under which it was decided.
    pub generation: u32,
    /// The idle timeout of an established TCP connection, when it has one of its own. Rounded up to whole seconds, at most 65 535.
    pub idle_timeout_ms: Option<u32>,
    /// Both ends get a RST when the idle timeout ends an established connection.
    pub tcp_reset: bool,
}

impl NewFlow {
    /// The key of the first packet as it leaves.
    #[inline]
    pub(crate) fn translated_key(&self) -> FlowKey {
        FlowKey { dst: self.translated, dst_port: self.translated_port, ..self.key }
    }

    /// The key of the responder's packets.
    #[inline]
    pub(crate) fn answer(&self) -> FlowKey {
        FlowKey {
            src: self.translated,
            dst: self.key.src,
            src_port: self.translated_port,
            dst_port: self.key.src_port,
            protocol: self.key.protocol,
        }
    }
}

/// Indices into a flow's addresses and ports.
pub(super) const TARGET: usize = 1;
pub(super) const TRANSLATED: usize = 2;

/// Source and destination of what `side` sends, as received.
#[inline(always)]
pub(super) fn ends(side: Side) -> (usize, usize) {
    let side = side.index() & 1;
    (TRANSLATED * side, TARGET - side)
}

/// The flow lives.
pub(super) const LIVE: u8 = 1;
/// It is of IPv6.
pub(super) const V6: u8 = 2;
/// The target is translated.
const TRANSLATES: u8 = 4;
/// The backend gets the packets as they were, and answers past the appliance.
const DIRECT: u8 = 8;
/// Initiator and responder count from other sequence numbers.
const SPLICED: u8 = 16;
/// Its datagrams are between ports that the [amplification filters](crate::guard) look at.
const WATCHED: u8 = 32;

/// Where [`Flow::identity`] of IPv4 has what, by side from there on.
pub(super) const KINDS: usize = 2;
pub(super) const DIFFERENCES: usize = 4;
/// In a word of differences: from this bit on, the source port of outer headers as it stands there.
pub(super) const ENTROPY: u32 = 32;
/// In a word of ports and protocol: the flow lives.
pub(super) const ALIVE: u64 = 1 << 40;

/// No port: `way_ports` of a side without a way.
const NOWHERE: u16 = u16::MAX;

/// No rule, no backend.
const NOBODY: u32 = u32::MAX;

/// The part of a flow that its packets read and write: the identity in the first cache line, what changes in the second.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Flow {
    /// What its packets are known by, in words as they stand in a packet. Over IPv6 the addresses of the initiator, of the target,
    /// and of what the target is translated to, two words each. Over IPv4, by sending side: source and destination; ports, protocol and
    /// a mark while the flow lives; what translation adds to checksums, and the source port that outer headers have in a tunnel.
    pub(super) identity: [u64; 6],
    /// Of the same three ends, as they stand in a packet, the first byte lower.
    pub(super) ports: [u16; 3],
    pub(super) protocol: u8,
    /// What never changes of the flow, and whether it lives.
    pub(super) traits: u8,
    rule: u32,
    backend: u32,

    pub(super) tallies: [HotTally; 2],
    /// Neighbour by sending side; 0: no way yet.
    pub(super) neighbors: [u32; 2],
    /// Connection state; meaningless unless the protocol is TCP.
    pub tcp: TcpState,
    /// The configuration under which the caller last decided the flow or its ways, or the first that was like it to open flows.
    pub generation: u32,
    /// The tick at which the flow ends, modulo 2^32.
    pub(super) deadline: u32,
    /// Port by sending side, where there is a neighbour.
    pub(super) way_ports: [u16; 2],
    /// 0: the timeout of the class.
    pub(super) idle_timeout_s: u16,
    pub(super) epoch: u16,
}

const _: () = assert!(size_of::<Flow>() == 128 && align_of::<Flow>() == 64);
const _: () = assert!(core::mem::offset_of!(Flow, tallies) == 64);

impl Flow {
    /// A record that no flow lives in.
    pub(super) const VACANT: Self = Self {
        identity: [0; 6],
        ports: [0; 3],
        protocol: 0,
        traits: 0,
        rule: 0,
        backend: 0,
        tallies: [HotTally(0); 2],
        neighbors: [0; 2],
        tcp: TcpState::NONE,
        generation: 0,
        deadline: 0,
        way_ports: [NOWHERE; 2],
        idle_timeout_s: 0,
        epoch: 0,
    };

    // Inlined, so that it is written where it is to be.
    #[inline(always)]
    pub(super) fn new(new: &NewFlow, epoch: u16) -> Self {
        let is_translated = new.translated != new.key.dst || new.translated_port != new.key.dst_port;
        let is_direct = new.backend.is_some() && new.translated == new.key.dst;
        let is_watched =
            [new.key.src_port, new.key.dst_port, new.translated_port].into_iter().any(is_watched);
        let trait_if = |holds: bool, bit: u8| if holds { bit } else { 0 };
        let keys_v4 = KeyV4::of(&new.key).zip(KeyV4::of(&new.answer()));
        Self {
            identity: keys_v4.map_or_else(|| identity_v6(new), identity_v4),
            ports: [new.key.src_port, new.key.dst_port, new.translated_port].map(u16::swap_bytes),
            protocol: new.key.protocol,
            traits: LIVE
                | trait_if(keys_v4.is_none(), V6)
                | trait_if(is_translated, TRANSLATES)
                | trait_if(is_direct, DIRECT)
                | trait_if(is_watched, WATCHED),
            rule: new.rule.map_or(NOBODY, |RuleId(id)| id),
            backend: new.backend.map_or(NOBODY, |BackendId(id)| id),
            tcp: new.tcp.unwrap_or(TcpState::NONE),
            generation: new.generation,
            idle_timeout_s: new
                .idle_timeout_ms
                .map_or(0, |ms| u16::try_from(ms.div_ceil(1_000)).unwrap_or(u16::MAX)),
            epoch,
            ..Self::VACANT
        }
    }

    /// The key of the packets that `side` sends, as the appliance receives them.
    #[inline]
    pub fn key(&self, side: Side) -> FlowKey {
        if self.traits & V6 == 0 {
            self.key_v4(side).flow_key()
        } else {
            let (src, dst) = ends(side);
            self.key_between(src, dst)
        }
    }

    /// The hash of that key.
    #[inline(always)]
    pub(super) fn hash(&self, side: Side, secret: &Secret) -> FlowHash {
        if self.traits & V6 == 0 { secret.hash_v4(&self.key_v4(side)) } else { secret.hash(&self.key(side)) }
    }

    /// The key of the initiator's packets as they leave: after translation.
    #[inline]
    pub fn translated_key(&self) -> FlowKey {
        self.key(Side::Responder).reversed()
    }

    fn key_between(&self, src: usize, dst: usize) -> FlowKey {
        FlowKey {
            src: self.address(src),
            dst: self.address(dst),
            src_port: self.ports[src].swap_bytes(),
            dst_port: self.ports[dst].swap_bytes(),
            protocol: self.protocol,
        }
    }

    /// Of a flow over IPv6: the address of an end.
    fn address(&self, end: usize) -> Addr {
        let [low, high] = self.words(end);
        Addr::v6((u128::from(low) | u128::from(high) << 64).to_le_bytes())
    }

    /// Whether this is the key of the packets that `side` sends, of a flow that lives.
    #[inline]
    pub(super) fn has_key(&self, side: Side, key: &FlowKey) -> bool {
        match KeyV4::of(key) {
            Some(key) => self.is_of_v4(side, &key),
            None => self.is_of_v6(side, &KeyV6::of(key)),
        }
    }

    /// A flow lives in the record.
    #[inline(always)]
    pub(super) fn is_live(&self) -> bool {
        self.traits & LIVE != 0
    }

    pub(super) fn end(&mut self) {
        self.traits &= !LIVE;
        if self.traits & V6 == 0 {
            self.identity[KINDS] &= !ALIVE;
            self.identity[KINDS + 1] &= !ALIVE;
        }
    }

    /// Whether packets need to be translated.
    #[inline]
    pub fn is_translated(&self) -> bool {
        self.traits & TRANSLATES != 0
    }

    /// The backend gets the packets as they were, and answers past the appliance (direct server return): there is one side only to
    /// hold a connection's state against.
    #[inline]
    pub fn returns_directly(&self) -> bool {
        self.traits & DIRECT != 0
    }

    /// Datagrams of the flow may have to be held against the amplification filters: one of its ports is
    /// [watched](crate::guard::is_watched).
    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        self.traits & WATCHED != 0
    }

    /// Its connection is two that were [spliced](crate::synproxy::Splice).
    #[inline(always)]
    pub fn is_spliced(&self) -> bool {
        self.traits & SPLICED != 0
    }

    /// Notes that its connection is two.
    pub fn set_spliced(&mut self) {
        self.traits |= SPLICED;
    }

    /// Its segments are more than its ports and addresses can say: [`returns_directly`](Self::returns_directly) or
    /// [`is_spliced`](Self::is_spliced).
    #[inline(always)]
    pub fn is_special(&self) -> bool {
        self.traits & (DIRECT | SPLICED) != 0
    }

    /// Where the packets that `side` sends go in the end.
    #[inline]
    pub fn destination(&self, side: Side) -> Addr {
        self.key(side.other()).src
    }

    /// The transport (IANA protocol number).
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The address family of both ends.
    #[inline]
    pub fn family(&self) -> Family {
        if self.traits & V6 == 0 { Family::V4 } else { Family::V6 }
    }

    /// The rule that allowed the flow.
    #[inline]
    pub fn rule(&self) -> Option<RuleId> {
        (self.rule != NOBODY).then_some(RuleId(self.rule))
    }

    /// Notes that another rule allows the flow now.
    #[inline]
    pub fn set_rule(&mut self, rule: Option<RuleId>) {
        self.rule = rule.map_or(NOBODY, |RuleId(id)| id);
    }

    /// The backend that the flow was balanced to.
    #[inline]
    pub fn backend(&self) -> Option<BackendId> {
        (self.backend != NOBODY).then_some(BackendId(self.backend))
    }

    /// How the packets that `side` sends leave; `None` until [`set_way`](Self::set_way).
    #[inline]
    pub fn way(&self, side: Side) -> Option<Way> {
        let neighbor = NonZeroU32::new(self.neighbors[side.index()])?;
        Some(Way { port: PortId(self.way_ports[side.index()]), neighbor })
    }

    /// Remembers how the packets that `side` sends leave, or that it is to be found out.
    #[inline]
    pub fn set_way(&mut self, side: Side, way: Option<Way>) {
        let (port, neighbor) = way.map_or((NOWHERE, 0), |way| (way.port.0, way.neighbor.get()));
        (self.way_ports[side.index()], self.neighbors[side.index()]) = (port, neighbor);
    }

    /// Forgets how packets leave, but not by which tunnels: these tell the sides apart.
    pub fn forget_ways(&mut self) {
        self.neighbors = [0; 2];
        for port in &mut self.way_ports {
            if !PortId(*port).is_tunnel() {
                *port = NOWHERE;
            }
        }
    }

    /// The tunnel by which the packets that `side` sends leave, whether the way through it is known or not.
    #[inline]
    pub fn tunnel(&self, side: Side) -> Option<PortId> {
        Some(PortId(self.way_ports[side.index()])).filter(|port| port.is_tunnel())
    }

    /// What the flow's timeout depends on now.
    #[inline]
    pub fn class(&self) -> Class {
        match self.protocol {
            protocol::TCP => self.tcp.class(),
            protocol::UDP => Class::Udp,
            protocol::ICMP | protocol::ICMPV6 => Class::Icmp,
            _ => Class::Other,
        }
    }

    /// Its own idle timeout in seconds, when it has one and is in the state to which that applies.
    #[inline]
    pub(super) fn own_timeout_s(&self, class: Class) -> Option<u16> {
        (class == Class::TcpEstablished && self.idle_timeout_s != 0).then_some(self.idle_timeout_s)
    }
}

fn identity_v4((sent, answered): (KeyV4, KeyV4)) -> [u64; 6] {
    // What leaves is the other side's packet turned round.
    let difference = |from: &KeyV4, to: &KeyV4| {
        let edits = Edits::between(from, to);
        u64::from(edits.header) | u64::from(edits.transport) << 16
    };
    let left = answered.reversed();
    let [there, back] = match left == sent {
        // The same of any key.
        true => [difference(&KeyV4::default(), &KeyV4::default()); 2],
        false => [difference(&sent, &left), difference(&answered, &sent.reversed())],
    };
    // The same for both sides.
    let entropy = u64::from(entropy::of_v4(&sent).swap_bytes()) << ENTROPY;
    [
        sent.addresses,
        answered.addresses,
        sent.rest() | ALIVE,
        answered.rest() | ALIVE,
        there | entropy,
        back | entropy,
    ]
}

fn identity_v6(new: &NewFlow) -> [u64; 6] {
    let words = |key: &FlowKey| KeyV6::of(key).addresses;
    let ([a, b, c, d], [e, f, ..]) = (words(&new.key), words(&new.answer()));
    [a, b, c, d, e, f]
}

/// What passed in one direction: 36 low bits of the bytes, above them 28 low bits of the packets. Carries go to [`Cold`].
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub(super) struct HotTally(u64);

const BYTE_BITS: u32 = 36;
const BYTE_MASK: u64 = (1 << BYTE_BITS) - 1;
const PACKET_BITS: u32 = 64 - BYTE_BITS;
const PACKET_MASK: u64 = (1 << PACKET_BITS) - 1;

impl HotTally {
    /// Counts one packet. The carries out of both fields, 0 or 1 each as `bytes` is below 2^36: packets, bytes.
    #[inline]
    pub(super) fn add(&mut self, bytes: u32) -> (bool, bool) {
        let bytes = (self.0 & BYTE_MASK) + u64::from(bytes);
        let packets = (self.0 >> BYTE_BITS) + 1;
        self.0 = packets << BYTE_BITS | bytes & BYTE_MASK;
        (packets > PACKET_MASK, bytes > BYTE_MASK)
    }

    /// As [`add`](Self::add), where there is no carry. `None`: there is one.
    #[inline(always)]
    pub(super) fn plus(self, bytes: u32) -> Option<Self> {
        let (sum, is_over) = self.0.overflowing_add(1 << BYTE_BITS | u64::from(bytes));
        // The packet alone turns the bit round; a carry out of the bytes turns it back.
        let is_carried = (self.0 ^ sum) >> BYTE_BITS & 1 == 0;
        (!is_over & !is_carried).then_some(Self(sum))
    }
}

/// The part of a flow that packets do not need.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Cold {
    pub(super) created: Time,
    packet_carries: [u16; 2],
    byte_carries: [u16; 2],
    /// Of a vacant record: the next one.
    pub(super) next_vacant: u32,
    tcp_reset: bool,
}

const _: () = assert!(size_of::<Cold>() <= 24);

impl Cold {
    pub(super) const VACANT: Self = Self {
        created: Time(0),
        packet_carries: [0; 2],
        byte_carries: [0; 2],
        next_vacant: 0,
        tcp_reset: false,
    };

    pub(super) fn new(new: &NewFlow, now: Time) -> Self {
        Self { created: now, tcp_reset: new.tcp_reset, ..Self::VACANT }
    }

    /// Takes the carries of [`HotTally::add`].
    #[cold]
    pub(super) fn carry(&mut self, side: Side, packets: bool, bytes: bool) {
        let (p, b) = (&mut self.packet_carries[side.index()], &mut self.byte_carries[side.index()]);
        *p = p.saturating_add(u16::from(packets));
        *b = b.saturating_add(u16::from(bytes));
    }
}

/// What passed in one direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets, exact up to 2^44.
    pub packets: u64,
    /// Bytes of IP packets, exact up to 2^52.
    pub bytes: u64,
}

/// A whole flow, to be read.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'a> {
    /// The part that packets use.
    pub flow: &'a Flow,
    pub(super) cold: &'a Cold,
    /// Of a spliced flow: what stands between its two connections.
    pub splice: &'a Splice,
}

impl FlowView<'_> {
    /// When the flow began.
    pub fn created(&self) -> Time {
        self.cold.created
    }

    /// Both ends are to get a RST when the idle timeout ends the established connection.
    pub fn tcp_reset(&self) -> bool {
        self.cold.tcp_reset
    }

    /// What `side` sent.
    pub fn tally(&self, side: Side) -> Tally {
        let HotTally(low) = self.flow.tallies[side.index()];
        Tally {
            packets: u64::from(self.cold.packet_carries[side.index()]) << PACKET_BITS | low >> BYTE_BITS,
            bytes: u64::from(self.cold.byte_carries[side.index()]) << BYTE_BITS | low & BYTE_MASK,
        }
    }
}
