//! The frames that nearly all are: a whole TCP or UDP packet sent to this station, over IPv4 without options or over IPv6 without
//! extension headers.
//!
//! Reads each word once, at an offset that is known beforehand, and notes so little that the rest of the path reads the headers again
//! where it needs them. Only accepts: any other frame, whatever is wrong with it, is for the general functions, which tell why they
//! refuse it. What is accepted here they would have given too.

use super::tcp::{TIMESTAMP_AND_PADDING, TIMESTAMP_AND_PADDING_LEN};
use super::{Cast, ETHERNET_HEADER_LEN, FlowKey, IPV4_HEADER_LEN, IPV6_HEADER_LEN, Packet};
use super::{TCP_HEADER_LEN, Tcp, TcpFlags, Transport, UDP_HEADER_LEN, ethertype, protocol};
use crate::addr::{Addr, Family, Mac};
use crate::emit::checksum::Sum;
use crate::intrinsics::are_equal_where;
#[cfg(test)]
use pmd_shim::RxOffload;

/// Offset of the IP header.
pub const L3: usize = ETHERNET_HEADER_LEN;
/// Offset of the transport header behind an IPv4 header.
pub const L4_OVER_V4: usize = L3 + IPV4_HEADER_LEN;
/// Offset of the transport header behind an IPv6 header.
pub const L4_OVER_V6: usize = L3 + IPV6_HEADER_LEN;
/// What is read of every packet's transport header and payload: two words. A datagram of fewer than eight bytes is not plain.
const LEAST: usize = 16;

/// The shortest plain frame.
pub const SHORTEST: usize = L4_OVER_V4 + LEAST;

const DONT_FRAGMENT: u8 = 0x40;

/// Packets with more behind these words are summed in blocks.
const SHORT: usize = 64;

/// What the first bytes of a frame are to be, in the bits that are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    expected: [u8; PATTERN_LEN],
    looked_at: [u8; PATTERN_LEN],
}

/// As far as the middle of an IPv4 header's addresses.
const PATTERN_LEN: usize = 32;

impl Pattern {
    /// An IPv4 header without options, of no fragment, behind an Ethernet header.
    const fn v4() -> Self {
        let [high, low] = ethertype::IPV4.to_be_bytes();
        Self { expected: [0; PATTERN_LEN], looked_at: [0; PATTERN_LEN] }
            .with(L3 - 2, high, u8::MAX)
            .with(L3 - 1, low, u8::MAX)
            .with(L3, 0x45, u8::MAX)
            .with(L3 + 6, 0, !DONT_FRAGMENT)
            .with(L3 + 7, 0, u8::MAX)
    }

    /// The same, and these bits of the byte at `at`, which is within it, as in `expected`.
    pub(crate) const fn with(mut self, at: usize, expected: u8, looked_at: u8) -> Self {
        self.expected[at] = expected;
        self.looked_at[at] = looked_at;
        self
    }

    /// A frame begins like this.
    #[inline(always)]
    pub(crate) fn is_of<const N: usize>(&self, head: &[u8; N]) -> bool {
        head.first_chunk().is_some_and(|head| are_equal_where(head, &self.expected, &self.looked_at))
    }
}

/// A port's Ethernet address, as the first bytes of a frame are held against it.
#[derive(Clone, Copy, Debug)]
pub struct Station {
    address: u64,
    looked_at: u64,
    /// The same, and what plain headers over IPv4 begin with.
    v4: Pattern,
}

impl Station {
    /// Every one: a frame is for it unless it is for a group.
    pub const ANY: Self = Self::of(0, 0x0001_0000_0000_0001);

    /// The station with this address.
    pub const fn new(Mac([a, b, c, d, e, f]): Mac) -> Self {
        // The destination, and the group bit of the source.
        Self::of(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), 0x0001_ffff_ffff_ffff)
    }

    const fn of(address: u64, looked_at: u64) -> Self {
        let (mut v4, mut at) = (Pattern::v4(), 0);
        while at < 8 {
            v4 = v4.with(at, address.to_le_bytes()[at], looked_at.to_le_bytes()[at]);
            at += 1;
        }
        Self { address, looked_at, v4 }
    }

    /// 0 where a frame is for this station, and from one.
    #[inline(always)]
    pub(crate) fn differs<const N: usize>(&self, head: &[u8; N]) -> u64 {
        (word(head, 0) ^ self.address) & self.looked_at
    }

    /// How frames for this station begin, from one, that are over IPv4 without options, and no fragments.
    pub(crate) const fn v4(&self) -> Pattern {
        self.v4
    }
}

/// What a plain frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP over IPv4.
    TcpV4,
    /// UDP over IPv4.
    UdpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over IPv6.
    UdpV6,
}

/// A plain frame that was checked: its lengths and checksums are right. What its TCP header says, of options and flags, was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// What it is.
    pub kind: Kind,
    /// End of the IP packet; what follows is Ethernet padding.
    pub end: u16,
}

/// What a flow over IPv4 is known by, in words as they stand in the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyV4 {
    /// Source and destination.
    pub addresses: u64,
    /// Source and destination port.
    pub ports: u32,
    /// The IP protocol.
    pub protocol: u8,
}

/// The same over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyV6 {
    /// Source and destination, each as two words.
    pub addresses: [u64; 4],
    /// Source and destination port.
    pub ports: u32,
    /// The next header.
    pub protocol: u8,
}

impl KeyV4 {
    /// The same key in words; `None` where an address is not of IPv4.
    #[inline]
    pub fn of(key: &FlowKey) -> Option<Self> {
        let ([a, b, c, d], [e, f, g, h]) = (key.src.as_v4()?, key.dst.as_v4()?);
        let addresses = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Some(Self { addresses, ports: ports(key), protocol: key.protocol })
    }
}

impl KeyV4 {
    /// Ports and protocol in one word, of which the upper bits are 0.
    #[inline(always)]
    pub fn rest(&self) -> u64 {
        rest(self.ports, self.protocol)
    }

    /// The key of an answer.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        let (addresses, ports) = (self.addresses.rotate_left(32), self.ports.rotate_left(16));
        Self { addresses, ports, protocol: self.protocol }
    }

    /// The same key with addresses.
    #[inline]
    pub fn flow_key(&self) -> FlowKey {
        let [a, b, c, d, e, f, g, h] = self.addresses.to_le_bytes();
        let (src_port, dst_port) = split_ports(self.ports);
        let (src, dst) = (Addr::v4([a, b, c, d]), Addr::v4([e, f, g, h]));
        FlowKey { src, dst, src_port, dst_port, protocol: self.protocol }
    }
}

impl KeyV6 {
    /// Ports and protocol in one word, of which the upper bits are 0.
    #[inline(always)]
    pub fn rest(&self) -> u64 {
        rest(self.ports, self.protocol)
    }

    /// The same key with addresses.
    #[inline]
    pub fn flow_key(&self) -> FlowKey {
        let [a, b, c, d] = self.addresses.map(u128::from);
        let [src, dst] = [a | b << 64, c | d << 64].map(|bits| Addr::v6(bits.to_le_bytes()));
        let (src_port, dst_port) = split_ports(self.ports);
        FlowKey { src, dst, src_port, dst_port, protocol: self.protocol }
    }

    /// The same key in words, an IPv4 address as its mapped form.
    #[inline]
    pub fn of(key: &FlowKey) -> Self {
        let [src, dst] = [key.src, key.dst].map(|address| u128::from_le_bytes(*address.octets()));
        let addresses = [src as u64, (src >> 64) as u64, dst as u64, (dst >> 64) as u64];
        Self { addresses, ports: ports(key), protocol: key.protocol }
    }
}

#[inline(always)]
fn rest(ports: u32, protocol: u8) -> u64 {
    u64::from(ports) | u64::from(protocol) << 32
}

fn split_ports(ports: u32) -> (u16, u16) {
    ((ports as u16).swap_bytes(), ((ports >> 16) as u16).swap_bytes())
}

#[inline]
fn ports(key: &FlowKey) -> u32 {
    u32::from(key.src_port.swap_bytes()) | u32::from(key.dst_port.swap_bytes()) << 16
}

/// Parses a plain frame, as [`parse`](super::parse) would. `None` for any other, and for one that is to be dropped.
#[cfg(test)]
pub fn plain(bytes: &[u8], offload: RxOffload, station: Mac) -> Option<Packet> {
    let (station, verify) =
        (&Station::new(station), offload.checksum == pmd_shim::ChecksumStatus::Unverified);
    if offload.vlan.is_some() || offload.truncated {
        return None;
    }
    let found = v4(bytes, station, verify).map(|(plain, _)| plain);
    found.or_else(|| v6(bytes, station, verify).map(|(plain, _)| plain))?.packet(bytes)
}

/// Looks at a frame that may be plain and over IPv4.
#[inline(always)]
pub fn v4(bytes: &[u8], station: &Station, verify: bool) -> Option<(Plain, KeyV4)> {
    let head: &[u8; SHORTEST] = bytes.first_chunk()?;
    let addresses = word(head, L3 + 12);
    if !station.v4.is_of(head) || !header_sum_v4(head).is_valid() {
        return None;
    }
    let total = u16::from_be_bytes([head[L3 + 2], head[L3 + 3]]);
    // The largest frames that the length field allows end behind what offsets can say.
    let end = total.checked_add(L3 as u16)?;
    let packet = bytes.get(..usize::from(end))?;
    let rest = packet.get(head.len()..)?;
    let sum = Sum::new().add_word(addresses);
    let protocol = head[L3 + 9];
    let kind = if protocol == protocol::TCP { Kind::TcpV4 } else { Kind::UdpV4 };
    let segment = transport(head, L4_OVER_V4, protocol, packet.len() - L4_OVER_V4)?;
    if verify && segment.is_summed && !is_sum_right(sum, segment, packet, rest) {
        return None;
    }
    Some((Plain { kind, end }, KeyV4 { addresses, ports: half_word(head, L4_OVER_V4), protocol }))
}

/// The sum of an IPv4 header without options.
#[inline(always)]
pub(crate) fn header_sum_v4<const N: usize>(head: &[u8; N]) -> Sum {
    let [rest, addresses] = [word(head, L3 + 4), word(head, L3 + 12)];
    Sum::new().add_word(addresses).add_word(rest).add_word(half_word(head, L3).into())
}

/// Looks at a frame that may be plain and over IPv6.
#[inline(always)]
pub fn v6(bytes: &[u8], station: &Station, verify: bool) -> Option<(Plain, KeyV6)> {
    // As over IPv4, but for the service field, which here begins in the byte of the version.
    const KIND: u64 = 0x0060_dd86 << 32;
    const KIND_LOOKED_AT: u64 = 0x00f0_ffff << 32;
    let head: &[u8; L4_OVER_V6 + LEAST] = bytes.first_chunk()?;
    let addresses = [22, 30, 38, 46].map(|at| word(head, at));
    let differs = station.differs(head) | (word(head, 8) ^ KIND) & KIND_LOOKED_AT;
    // The mapped IPv4 addresses are among those that begin with a word of zeros.
    if differs != 0 || addresses[0] == 0 || addresses[2] == 0 {
        return None;
    }
    let len = u16::from_be_bytes([head[L3 + 4], head[L3 + 5]]);
    let end = len.checked_add(L4_OVER_V6 as u16)?;
    let packet = bytes.get(..usize::from(end))?;
    let rest = packet.get(head.len()..)?;
    let protocol = head[L3 + 6];
    let kind = if protocol == protocol::TCP { Kind::TcpV6 } else { Kind::UdpV6 };
    let segment = transport(head, L4_OVER_V6, protocol, len.into())?;
    let sum = addresses.into_iter().fold(Sum::new(), Sum::add_word);
    // Over IPv6, no datagram is without a checksum (RFC 8200, 8.1).
    if !segment.is_summed || verify && !is_sum_right(sum, segment, packet, rest) {
        return None;
    }
    Some((Plain { kind, end }, KeyV6 { addresses, ports: half_word(head, L4_OVER_V6), protocol }))
}

/// What a transport checksum begins with.
#[derive(Clone, Copy)]
struct Segment {
    /// The first words behind the IP header.
    words: [u64; 2],
    /// Length and protocol, of the pseudo header.
    pseudo: u64,
    is_summed: bool,
}

/// A segment, or a datagram that fills its packet, of `len` bytes from the end of the IP header on. `None`: it is neither.
#[inline(always)]
fn transport<const N: usize>(head: &[u8; N], l4: usize, protocol: u8, len: usize) -> Option<Segment> {
    let words = [word(head, l4), word(head, l4 + 8)];
    let (to, length, checksum) = ((words[0] >> 16) as u16, (words[0] >> 32) as u16, (words[0] >> 48) as u16);
    let is_summed = match protocol {
        protocol::TCP => true,
        protocol::UDP if to != 0 && usize::from(length.swap_bytes()) == len => checksum != 0,
        _ => return None,
    };
    let pseudo = u64::from((len as u16).swap_bytes()) + (u64::from(protocol) << 8);
    Some(Segment { words, pseudo, is_summed })
}

/// Whether the transport's checksum is right, which covers the addresses that `sum` is of, the segment, and what follows its first words in
/// the packet.
#[inline(always)]
fn is_sum_right(sum: Sum, segment: Segment, packet: &[u8], rest: &[u8]) -> bool {
    let sum = sum.add_word(segment.words[0]).add_word(segment.words[1]).add_word(segment.pseudo);
    if rest.len() > SHORT {
        return is_long_sum_right(sum, rest);
    }
    let (words, tail) = rest.as_chunks::<8>();
    let sum = match words {
        [] => sum,
        // The smallest frames, and what acknowledgements carry.
        [word] => sum.add_word(u64::from_le_bytes(*word)),
        words => words.iter().fold(sum, |sum, word| sum.add_word(u64::from_le_bytes(*word))),
    };
    // The end of the word that ends the packet: what is before it was added. Shifted in two steps, as there may be no end.
    let last = packet.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
    sum.add_word(last >> 8 >> (56 - 8 * tail.len())).is_valid()
}

#[inline(never)]
fn is_long_sum_right(sum: Sum, rest: &[u8]) -> bool {
    sum.add_bytes(rest).is_valid()
}

/// Eight bytes at an offset within the headers, the first one lowest.
#[inline(always)]
pub(crate) fn word<const N: usize>(head: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(octets(head, at))
}

/// Four bytes, the first one lowest.
#[inline(always)]
pub(crate) fn half_word<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(octets(head, at))
}

/// Two bytes, the first one lowest.
#[inline(always)]
pub(crate) fn quarter_word<const N: usize>(head: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes(octets(head, at))
}

/// Bytes at an offset that is known when this is compiled: one load.
#[inline(always)]
fn octets<const LEN: usize, const N: usize>(head: &[u8; N], at: usize) -> [u8; LEN] {
    let mut octets = [0; LEN];
    octets.copy_from_slice(&head[at..at + LEN]);
    octets
}

/// Where the payload of a TCP segment begins, from its header's start: of one without options, or with those of nearly all segments,
/// that is an acknowledgement and has neither SYN nor FIN nor RST. `rest` is what follows the header's fixed part.
#[inline(always)]
pub fn acknowledgement<const N: usize>(
    head: &[u8; N],
    l4: usize,
    rest: impl FnOnce() -> Option<[u8; 4]>,
) -> Option<usize> {
    const CONTROL: u16 = (TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ACK) as u16;
    const LOOKED_AT: u16 = CONTROL << 8 | 0xf0;
    const PLAIN: u16 = (TcpFlags::ACK as u16) << 8 | (TCP_HEADER_LEN as u16 / 4) << 4;
    const TIMESTAMPED_LEN: usize = TCP_HEADER_LEN + TIMESTAMP_AND_PADDING_LEN;
    const TIMESTAMPED: u16 = (TcpFlags::ACK as u16) << 8 | (TIMESTAMPED_LEN as u16 / 4) << 4;
    match quarter_word(head, l4 + 12) & LOOKED_AT {
        PLAIN => Some(TCP_HEADER_LEN),
        TIMESTAMPED if rest()? == TIMESTAMP_AND_PADDING => Some(TIMESTAMPED_LEN),
        _ => None,
    }
}

impl Plain {
    /// Source and destination of these bytes, which are those that were looked at.
    #[inline]
    pub fn addresses(self, bytes: &[u8]) -> Option<[Addr; 2]> {
        match self.kind {
            Kind::TcpV4 | Kind::UdpV4 => {
                let octets: &[u8; 8] = super::chunk(bytes, L3 + 12)?;
                let &[a, b, c, d, e, f, g, h] = octets;
                Some([Addr::v4([a, b, c, d]), Addr::v4([e, f, g, h])])
            }
            Kind::TcpV6 | Kind::UdpV6 => {
                let [src, dst] = [L3 + 8, L3 + 24].map(|at| super::chunk(bytes, at));
                Some([Addr::v6(*src?), Addr::v6(*dst?)])
            }
        }
    }

    /// The whole of what parsing gives for these bytes, which are those that were looked at. `None`: the TCP header has more to it than
    /// is read here.
    #[inline]
    pub fn packet(self, bytes: &[u8]) -> Option<Packet> {
        let (family, l4, transport) = match self.kind {
            Kind::TcpV4 => (Family::V4, L4_OVER_V4, protocol::TCP),
            Kind::UdpV4 => (Family::V4, L4_OVER_V4, protocol::UDP),
            Kind::TcpV6 => (Family::V6, L4_OVER_V6, protocol::TCP),
            Kind::UdpV6 => (Family::V6, L4_OVER_V6, protocol::UDP),
        };
        let (src, dst, ttl, dont_fragment) = match family {
            Family::V4 => {
                let header: &[u8; IPV4_HEADER_LEN] = super::chunk(bytes, L3)?;
                let &[.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
                let (src, dst) = (Addr::v4([s0, s1, s2, s3]), Addr::v4([d0, d1, d2, d3]));
                (src, dst, header[8], header[6] & DONT_FRAGMENT != 0)
            }
            Family::V6 => {
                let hop_limit = *bytes.get(L3 + 7)?;
                let [src, dst] = [L3 + 8, L3 + 24].map(|at| super::chunk(bytes, at));
                (Addr::v6(*src?), Addr::v6(*dst?), hop_limit, true)
            }
        };
        let ports: &[u8; 4] = super::chunk(bytes, l4)?;
        let segment = bytes.get(l4..self.end.into())?;
        let (transport, header_len) = match transport {
            protocol::TCP => tcp(segment).map(|(tcp, len)| (Transport::Tcp(tcp), len))?,
            _ => (Transport::Udp, UDP_HEADER_LEN),
        };
        Some(Packet {
            key: FlowKey {
                src,
                dst,
                src_port: u16::from_be_bytes([ports[0], ports[1]]),
                dst_port: u16::from_be_bytes([ports[2], ports[3]]),
                protocol: if let Transport::Udp = transport { protocol::UDP } else { protocol::TCP },
            },
            family,
            cast: Cast::Unicast,
            ttl,
            dont_fragment,
            l3: L3 as u16,
            l4: l4 as u16,
            payload: (l4 + header_len) as u16,
            payload_end: self.end,
            end: self.end,
            fragment: None,
            transport,
        })
    }
}

/// The fields and the length of a TCP header without options, or with those of nearly all segments.
fn tcp(segment: &[u8]) -> Option<(Tcp, usize)> {
    let (header, rest) = segment.split_first_chunk::<TCP_HEADER_LEN>()?;
    let header_len = usize::from(header[12] >> 4) * 4;
    let is_known = match header_len.checked_sub(TCP_HEADER_LEN)? {
        0 => true,
        TIMESTAMP_AND_PADDING_LEN => {
            rest.len() >= TIMESTAMP_AND_PADDING_LEN && rest.starts_with(&TIMESTAMP_AND_PADDING)
        }
        _ => false,
    };
    let [s0, s1, d0, d1, ..] = *header;
    let are_ports = [s0, s1] != [0; 2] && [d0, d1] != [0; 2];
    (is_known && are_ports && !TcpFlags(header[13]).impossible()).then(|| (tcp_fields(header), header_len))
}

/// A TCP header's fields. A window scale is only read on a SYN, and one without options has none.
#[inline]
fn tcp_fields(header: &[u8; TCP_HEADER_LEN]) -> Tcp {
    let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, _, flags, w0, w1, ..] = *header;
    Tcp {
        seq: u32::from_be_bytes([s0, s1, s2, s3]),
        ack: u32::from_be_bytes([a0, a1, a2, a3]),
        flags: TcpFlags(flags),
        window: u16::from_be_bytes([w0, w1]),
        window_scale: None,
    }
}

/// The ethertypes in the words above.
const _: () = assert!(ethertype::IPV4.swap_bytes() == 0x0008 && ethertype::IPV6.swap_bytes() == 0xdd86);
