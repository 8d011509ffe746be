//! The outer headers: whether a frame is in a tunnel, in which, and where the inner frame is.

use super::gate::{NO_PAIR, Sign};
use super::{End, LastOctets, Tunnels, ecn, geneve, vxlan};
use crate::addr::{Addr, Family, Mac};
use crate::emit::checksum::Sum;
use crate::verdict::{DropReason, PortId};
use crate::wire::plain::{L3, L4_OVER_V4, L4_OVER_V6, Pattern, Station, header_sum_v4};
use crate::wire::plain::{half_word, quarter_word, word};
use crate::wire::{Cast, ETHERNET_HEADER_LEN, IPV4_HEADER_LEN, Packet, Transport, UDP_HEADER_LEN, protocol};
use core::ops::Range;

/// What is read of every frame: as far as the end of the VXLAN header.
const HEAD_V4: usize = L4_OVER_V4 + UDP_HEADER_LEN + vxlan::HEADER_LEN;
const HEAD_V6: usize = L4_OVER_V6 + UDP_HEADER_LEN + vxlan::HEADER_LEN;

/// In the word from the total length on: fragment offset and flags, but for the one that says not to fragment.
const FRAGMENTED: u64 = 0xffbf << 32;

/// What a frame is to the tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// None of theirs.
    Outside,
    /// In a tunnel.
    Inside(Arrival),
    /// In a Geneve tunnel, by one of its directions. The inner packet has no Ethernet header.
    Enveloped {
        /// Where the packet begins and ends.
        arrival: Arrival,
        /// Where the Geneve header begins.
        header: u16,
        /// The inner packet's family, as that header says.
        family: Family,
    },
    /// For a tunnel, and dropped.
    Refused(DropReason),
}

/// A packet in a tunnel, that may be there as far as the outer headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The tunnel.
    pub port: PortId,
    /// Where the inner frame begins.
    pub start: u16,
    /// Where it ends.
    pub end: u16,
    /// The outer service field.
    pub service: u8,
}

/// An outer datagram to one of the tunnels' addresses and UDP ports.
#[derive(Clone, Copy)]
struct Datagram<'a> {
    src: Addr,
    udp_port: u16,
    /// The UDP payload, and where it begins.
    payload: &'a [u8],
    at: usize,
    service: u8,
    /// It has no checksum, over IPv6.
    is_unsummed: bool,
}

/// Who sends to which of a port's addresses, over IPv4: a hash table of few entries. *Invariant:* at least half of them are vacant, so that
/// every search ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    pairs: Box<[Pair]>,
    /// 64 less the logarithm of their number.
    shift: u32,
}

/// Both outer ends of a tunnel.
#[derive(Clone, Copy, Debug)]
struct Pair {
    /// Source and destination as they stand in a packet; 0 where it is vacant.
    addresses: u64,
    /// Its number among those of all ports.
    number: u16,
}

/// Looks at the frames of a burst one after the other, and finds those whose outer headers are plain.
#[derive(Clone, Copy, Debug)]
pub struct Finder<'a> {
    pairs: &'a Pairs,
    /// How plain outer headers begin.
    front: Pattern,
    /// What was found last.
    last: Pair,
}

impl Pairs {
    /// With the next `numbers`; what is left when there are no more is for the general functions.
    pub(super) fn build(ends: &[End], numbers: &mut Range<u16>) -> Self {
        let all = ends.iter().flat_map(|end| end.peers.iter().map(move |peer| addresses(*peer, end.address)));
        let all: Vec<Pair> =
            all.flatten().zip(numbers).map(|(addresses, number)| Pair { addresses, number }).collect();
        let size = (2 * all.len()).next_power_of_two().max(2);
        let mut pairs =
            Self { pairs: vec![Pair::VACANT; size].into(), shift: u64::BITS - size.trailing_zeros() };
        for pair in all {
            let mut at = pairs.first(pair.addresses);
            while pairs.pairs[at].addresses != 0 {
                at = (at + 1) & (size - 1);
            }
            pairs.pairs[at] = pair;
        }
        pairs
    }

    #[inline(always)]
    fn first(&self, addresses: u64) -> usize {
        (addresses.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (self.shift & 63)) as usize
    }

    /// The number of who sends to which address.
    pub(super) fn number(&self, from: Addr, to: Addr) -> Option<u16> {
        Some(self.find(addresses(from, to)?)?.number)
    }

    #[inline(always)]
    fn find(&self, addresses: u64) -> Option<&Pair> {
        let mut at = self.first(addresses);
        loop {
            let pair = self.pairs.get(at)?;
            if pair.addresses == addresses {
                return Some(pair);
            }
            if pair.addresses == 0 {
                return None;
            }
            at = (at + 1) & (self.pairs.len() - 1);
        }
    }
}

impl Arrival {
    /// By `port`, of a frame of which was [found](Finder::find) that its outer headers are plain.
    pub fn plain(port: PortId, bytes: &[u8]) -> Self {
        let (start, end) = (HEAD_V4 as u16, u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        Self { port, start, end, service: bytes.get(L3 + 1).copied().unwrap_or_default() }
    }
}

impl Pair {
    /// Who says that nobody sends to nobody is at no gate.
    const VACANT: Self = Self { addresses: 0, number: NO_PAIR };
}

/// Source and destination as they stand in a packet. `None`: they are not of IPv4.
fn addresses(from: Addr, to: Addr) -> Option<u64> {
    let ([a, b, c, d], [e, f, g, h]) = (from.as_v4()?, to.as_v4()?);
    Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

impl Finder<'_> {
    /// Looks at a frame: whether its outer headers are what nearly all packets in tunnels have, over IPv4 without options and fragments,
    /// without a UDP checksum, from a peer, without marks of congestion on the way, and with nothing behind them. Gives between which ends
    /// it came; by which tunnel, if by any, [`Tunnels::of_pair`] tells. [`NO_PAIR`]: what is not that, or not right, is to
    /// be [looked at](Tunnels::find) again: what is said here would be said there too, of the whole frame.
    #[inline(always)]
    pub fn pair(&mut self, bytes: &[u8]) -> u16 {
        self.find_pair(bytes).unwrap_or(NO_PAIR)
    }

    #[inline(always)]
    fn find_pair(&mut self, bytes: &[u8]) -> Option<u16> {
        let head = bytes.first_chunk::<HEAD_V4>()?;
        if !self.front.is_of(head) || !header_sum_v4(head).is_valid() {
            return None;
        }
        let total = u16::try_from(bytes.len()).ok()? - L3 as u16;
        if quarter_word(head, L3 + 2) != total.swap_bytes() {
            return None;
        }
        // The datagram's length, no checksum, and that there is a network.
        let datagram = u64::from((total - IPV4_HEADER_LEN as u16).swap_bytes());
        let network = u64::from(vxlan::FLAG_I) << 32;
        if (word(head, L4_OVER_V4 + 4) ^ (datagram | network)) & (u64::from(u32::MAX) | network) != 0 {
            return None;
        }
        let addresses = word(head, L3 + 12);
        // Those that come together are often from one peer.
        if self.last.addresses != addresses {
            self.last = *self.pairs.find(addresses)?;
        }
        Some(self.last.number)
    }
}

impl Tunnels {
    /// To look at frames that come in by a port at which tunnels end, and which is `station` there. `None`: there is no such port.
    #[inline]
    pub fn finder(&self, port: PortId, station: &Station) -> Option<Finder<'_>> {
        let pairs = &self.ends(port)?.pairs;
        // Without the lower bit of the congestion field, the inner field stays what it is.
        let front = station.v4().with(L3 + 1, 0, ecn::ECT_1).with(L3 + 9, protocol::UDP, u8::MAX);
        Some(Finder { pairs, front, last: Pair::VACANT })
    }

    /// The tunnel that a frame came by of which was [found](Finder::pair) between which ends it came. `None`: there is none of its network
    /// that has its UDP port.
    #[inline(always)]
    pub fn of_pair(&self, pair: u16, bytes: &[u8]) -> Option<PortId> {
        self.gates.find(&Sign::read(pair, bytes.first_chunk()?))
    }

    /// Whether datagrams to this address and UDP port that come in by `port` are looked at as outer packets of tunnels and segments.
    pub fn take(&self, port: PortId, address: Addr, udp_port: u16) -> bool {
        let ends = self.ends(port).map_or(&[][..], |ends| &ends.all);
        end_of(ends, address, udp_port).is_some()
    }

    /// Looks at a frame that came in by a port which carries tunnels and is `station` there: one with plain outer headers, whose lengths
    /// and checksums are right, without options and extension headers. Any other is outside, until the general parser has said
    /// [more](Self::find_parsed) of it. `verify`: nobody looked at the outer checksum yet.
    #[inline(never)]
    pub fn find(&self, port: PortId, bytes: &[u8], station: &Station, verify: bool) -> Found {
        let Some(ends) = self.ends.get(port.index()) else { return Found::Outside };
        match bytes.get(ETHERNET_HEADER_LEN) {
            Some(0x45) => self.find_v4(&ends.all, bytes, station, verify),
            Some(0x60..=0x6f) => self.find_v6(&ends.all, bytes, station, verify),
            _ => Found::Outside,
        }
    }

    #[inline(always)]
    fn find_v4(&self, ends: &[End], bytes: &[u8], station: &Station, verify: bool) -> Found {
        const ETHERTYPE: u64 = 0x0008 << 32;
        let Some(head) = bytes.first_chunk::<HEAD_V4>() else { return Found::Outside };
        let third = word(head, 16);
        // Neither fragment offset nor flags but one, and UDP.
        let differs = station.differs(head)
            | (word(head, 8) ^ ETHERTYPE) & 0xffff << 32
            | third & FRAGMENTED
            | (third >> 56 ^ u64::from(protocol::UDP));
        let [.., d0, d1, d2, d3] = word(head, L3 + 12).to_le_bytes();
        let dst = Addr::v4([d0, d1, d2, d3]);
        let udp_port = quarter_word(head, L4_OVER_V4 + 2).swap_bytes();
        let Some(end) = end_of(ends, dst, udp_port).filter(|_| differs == 0) else { return Found::Outside };
        let addresses = word(head, L3 + 12);
        let words = (word(head, 8) >> 48) + u64::from(quarter_word(head, L3 + 10));
        let sum = Sum::new().add_word(addresses);
        if !sum.add_word(third).add_word(words).is_valid() {
            return Found::Outside;
        }
        let total = usize::from((third as u16).swap_bytes());
        let len = usize::from(quarter_word(head, L4_OVER_V4 + 4).swap_bytes());
        let Some(datagram) = bytes.get(L4_OVER_V4..L3 + total).filter(|datagram| datagram.len() == len)
        else {
            // Too short, or with something behind the datagram.
            return Found::Outside;
        };
        let checksum = quarter_word(head, L4_OVER_V4 + 6);
        if checksum != 0 && verify && !is_right(sum, datagram) {
            return Found::Outside;
        }
        let [s0, s1, s2, s3, ..] = addresses.to_le_bytes();
        self.check(
            end,
            Datagram {
                src: Addr::v4([s0, s1, s2, s3]),
                udp_port,
                payload: datagram.get(UDP_HEADER_LEN..).unwrap_or_default(),
                at: L4_OVER_V4 + UDP_HEADER_LEN,
                service: head[L3 + 1],
                is_unsummed: false,
            },
        )
    }

    #[inline(always)]
    fn find_v6(&self, ends: &[End], bytes: &[u8], station: &Station, verify: bool) -> Found {
        const ETHERTYPE: u64 = 0xdd86 << 32;
        let Some(head) = bytes.first_chunk::<HEAD_V6>() else { return Found::Outside };
        let differs = station.differs(head)
            | (word(head, 8) ^ ETHERTYPE) & 0xffff << 32
            | u64::from(head[L3 + 6] ^ protocol::UDP);
        let [s0, s1, d0, d1] = [8, 16, 24, 32].map(|at| word(head, L3 + at));
        let address =
            |low: u64, high: u64| Addr::v6((u128::from(low) | u128::from(high) << 64).to_le_bytes());
        let udp_port = quarter_word(head, L4_OVER_V6 + 2).swap_bytes();
        let end = end_of(ends, address(d0, d1), udp_port).filter(|_| differs == 0);
        let Some(end) = end else { return Found::Outside };
        let total = usize::from(quarter_word(head, L3 + 4).swap_bytes());
        let len = usize::from(quarter_word(head, L4_OVER_V6 + 4).swap_bytes());
        let datagram = bytes.get(L4_OVER_V6..L4_OVER_V6 + total).filter(|datagram| datagram.len() == len);
        let Some(datagram) = datagram else { return Found::Outside };
        let checksum = quarter_word(head, L4_OVER_V6 + 6);
        let addresses = [s0, s1, d0, d1].into_iter().fold(Sum::new(), Sum::add_word);
        if checksum != 0 && verify && !is_right(addresses, datagram) {
            return Found::Outside;
        }
        self.check(
            end,
            Datagram {
                src: address(s0, s1),
                udp_port,
                payload: datagram.get(UDP_HEADER_LEN..).unwrap_or_default(),
                at: L4_OVER_V6 + UDP_HEADER_LEN,
                service: (half_word(head, L3).swap_bytes() >> 20) as u8,
                is_unsummed: checksum == 0,
            },
        )
    }

    /// Looks at a frame of which the general parser told what it is: with options or extension headers, or something behind the
    /// datagram. Its checksums are right.
    #[cold]
    pub fn find_parsed(&self, port: PortId, bytes: &[u8], packet: &Packet) -> Found {
        let ends = self.ends.get(port.index()).map_or(&[][..], |ends| &ends.all);
        let is_datagram = packet.transport == Transport::Udp && packet.fragment.is_none();
        if !is_datagram || packet.cast != Cast::Unicast {
            return Found::Outside;
        }
        let Some(end) = end_of(ends, packet.key.dst, packet.key.dst_port) else { return Found::Outside };
        let at = usize::from(packet.payload);
        let service = crate::emit::service::read(bytes, packet.l3.into(), packet.family);
        let payload = bytes.get(at..packet.payload_end.into()).unwrap_or_default();
        let datagram = Datagram {
            src: packet.key.src,
            udp_port: packet.key.dst_port,
            payload,
            at,
            service,
            is_unsummed: false,
        };
        self.check(end, datagram)
    }

    /// Who sent it, to which network, by which port: in this order, as nothing that a stranger says counts.
    #[inline(always)]
    fn check(&self, end: &End, datagram: Datagram<'_>) -> Found {
        let Datagram { src, udp_port, payload, at, service, is_unsummed } = datagram;
        if end.geneve.contains(&udp_port) {
            return self.check_geneve(end, &datagram);
        }
        let Some((header, inner)) = payload.split_first_chunk() else {
            return Found::Refused(if end.peers.contains(&src) {
                DropReason::Malformed
            } else {
                DropReason::TunnelBadPeer
            });
        };
        let network = vxlan::vni(*header).and_then(|vni| self.vnis.find(end.number, vni));
        let Some(network) = network else { return self.refuse_unknown(end, src, *header) };
        let Some(&(_, port)) = network.peers.iter().find(|(peer, _)| *peer == src) else {
            return Found::Refused(DropReason::TunnelBadPeer);
        };
        if network.udp_port != udp_port {
            return Found::Refused(DropReason::TunnelWrongPort);
        }
        if is_unsummed && !self.open(port).is_some_and(|tunnel| tunnel.takes_unsummed) {
            return Found::Refused(DropReason::BadChecksum);
        }
        let start = at + vxlan::HEADER_LEN;
        match u16::try_from(start + inner.len()) {
            Ok(end) => Found::Inside(Arrival { port, start: start as u16, end, service }),
            Err(_) => Found::Refused(DropReason::Unsupported),
        }
    }

    /// The same for a UDP port of Geneve's; and, last, what the header says.
    #[inline(never)]
    fn check_geneve(&self, end: &End, datagram: &Datagram<'_>) -> Found {
        let &Datagram { src, udp_port, payload, at, service, is_unsummed } = datagram;
        let known = || {
            if !end.peers.contains(&src) {
                return Err(DropReason::TunnelBadPeer);
            }
            let vni = geneve::vni(*payload.first_chunk().ok_or(DropReason::Malformed)?);
            let network = self.vnis.find(end.number, vni).ok_or(DropReason::TunnelUnknownVni)?;
            let peer = network.peers.iter().find(|(peer, _)| *peer == src);
            let &(_, port) = peer.ok_or(DropReason::TunnelBadPeer)?;
            if network.udp_port != udp_port {
                return Err(DropReason::TunnelWrongPort);
            }
            if is_unsummed && !self.open(port).is_some_and(|tunnel| tunnel.takes_unsummed) {
                return Err(DropReason::BadChecksum);
            }
            let header = geneve::parse(payload)?;
            let end = u16::try_from(at + payload.len()).map_err(|_| DropReason::Unsupported)?;
            let start = (at + header.len) as u16;
            Ok((Arrival { port, start, end, service }, header.family))
        };
        match known() {
            Ok((arrival, family)) => Found::Enveloped { arrival, header: at as u16, family },
            Err(reason) => Found::Refused(reason),
        }
    }

    #[cold]
    fn refuse_unknown(&self, end: &End, src: Addr, header: [u8; vxlan::HEADER_LEN]) -> Found {
        Found::Refused(if !end.peers.contains(&src) {
            DropReason::TunnelBadPeer
        } else if vxlan::vni(header).is_none() {
            DropReason::Malformed
        } else {
            DropReason::TunnelUnknownVni
        })
    }

    /// Whether an inner frame says that one of our own ports sent it: it went round in a circle.
    #[inline(always)]
    pub fn is_ours(&self, inner: &[u8]) -> bool {
        self.may_be_ours().has(inner) && source(inner).is_some_and(|source| self.is_station(source))
    }

    /// What tells of most frames at once that none of our own ports sent them.
    #[inline(always)]
    pub fn may_be_ours(&self) -> LastOctets {
        self.last_octets
    }

    #[inline(never)]
    fn is_station(&self, source: u64) -> bool {
        self.stations.contains(&source)
    }
}

impl LastOctets {
    pub(super) fn of(stations: &[u64]) -> Self {
        Self(stations.iter().fold(0, |bits, station| bits | 1 << (station >> 40 & 63)))
    }

    /// Whether an inner frame may be from a station of these.
    #[inline(always)]
    pub fn has(self, inner: &[u8]) -> bool {
        source(inner).is_some_and(|source| self.0 >> (source >> 40 & 63) & 1 != 0)
    }
}

/// The Ethernet address of an inner frame's sender, as those of the stations are kept.
#[inline(always)]
fn source(inner: &[u8]) -> Option<u64> {
    let word = inner.get(4..).and_then(|bytes| bytes.first_chunk())?;
    Some(u64::from_le_bytes(*word) >> 16)
}

/// The address that a datagram is for, where tunnels at it have its UDP port.
#[inline(always)]
fn end_of(ends: &[End], dst: Addr, udp_port: u16) -> Option<&End> {
    let end = ends.iter().find(|end| end.address == dst)?;
    (end.udp_ports[usize::from(udp_port >> 6)] >> (udp_port & 63) & 1 == 1).then_some(end)
}

/// Whether a datagram's checksum is right; `sum` is that of the addresses.
#[inline(never)]
fn is_right(sum: Sum, datagram: &[u8]) -> bool {
    sum.add_u16(u16::from(protocol::UDP)).add_u32(datagram.len() as u32).add_bytes(datagram).is_valid()
}

/// The station that an inner frame is for: what came in by a tunnel is taken whoever it is addressed to, unless that is a group.
#[inline(always)]
pub fn station(inner: &[u8]) -> Mac {
    match inner.first_chunk().copied().map(Mac) {
        Some(destination) if !destination.is_group() => destination,
        _ => Mac::default(),
    }
}
