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
use pmd_shim::RxOffload;

/// Offset of the IP header.
pub const L3: usize = ETHERNET_HEADER_LEN;
/// Offset of the transport header behind an IPv4 header.
pub const L4_OVER_V4: usize = L3 + IPV4_HEADER_LEN;
/// Offset of the transport header behind an IPv6 header.
pub const L4_OVER_V6: usize = L3 + IPV6_HEADER_LEN;
/// The shortest frames that are looked at. A datagram over IPv4 has as much as a TCP header where a frame is not shorter than
/// Ethernet's.
const LEAST_V4: usize = L4_OVER_V4 + TCP_HEADER_LEN;
const LEAST_V6: usize = L4_OVER_V6 + UDP_HEADER_LEN;

const DONT_FRAGMENT: u8 = 0x40;

/// Segments of more bytes behind the transport's fixed header are summed in blocks.
const SHORT: usize = 64;

/// A port's Ethernet address, as the first eight bytes of a frame are held against it.
#[derive(Clone, Copy, Debug)]
pub struct Station(u64);

impl Station {
    /// The destination, and the group bit of the source.
    const LOOKED_AT: u64 = 0x0001_ffff_ffff_ffff;

    /// The station with this address.
    pub const fn new(Mac([a, b, c, d, e, f]): Mac) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
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

/// A plain frame that was checked: all lengths and checksums are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// What it is.
    pub kind: Kind,
    /// Offset of the transport's payload.
    pub payload: u8,
    /// End of the IP packet; what follows is Ethernet padding.
    pub end: u16,
}

/// What a flow over IPv4 is known by, in words as they stand in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl KeyV6 {
    /// The same key in words, an IPv4 address as its mapped form.
    #[inline]
    pub fn of(key: &FlowKey) -> Self {
        let [src, dst] = [key.src, key.dst].map(|address| u128::from_le_bytes(*address.octets()));
        let addresses = [src as u64, (src >> 64) as u64, dst as u64, (dst >> 64) as u64];
        Self { addresses, ports: ports(key), protocol: key.protocol }
    }
}

#[inline]
fn ports(key: &FlowKey) -> u32 {
    u32::from(key.src_port.swap_bytes()) | u32::from(key.dst_port.swap_bytes()) << 16
}

/// Parses a plain frame, as [`parse`](super::parse) would. `None` for any other, and for one that is to be dropped.
#[cfg(any(test, feature = "testing"))]
pub fn plain(bytes: &[u8], offload: RxOffload, station: Mac) -> Option<Packet> {
    let (station, verify) = (Station::new(station), offload.checksum == pmd_shim::ChecksumStatus::Unverified);
    if !is_plain_so_far(offload) {
        return None;
    }
    let found = v4(bytes, station, verify).map(|(plain, _)| plain);
    found.or_else(|| v6(bytes, station, verify).map(|(plain, _)| plain))?.packet(bytes)
}

/// Whether the driver saw nothing that is not plain.
#[inline(always)]
pub fn is_plain_so_far(offload: RxOffload) -> bool {
    offload.vlan.is_none() & !offload.truncated
}

/// Looks at a frame that may be plain and over IPv4.
#[inline(always)]
pub fn v4(bytes: &[u8], Station(station): Station, verify: bool) -> Option<(Plain, KeyV4)> {
    // Behind the source's second byte: four more, the ethertype, version and length, the service field.
    const KIND: u64 = 0x0045_0008 << 32;
    const KIND_LOOKED_AT: u64 = 0x00ff_ffff << 32;
    const FRAGMENTED: u64 = (0xff00 | !DONT_FRAGMENT as u64 & 0xff) << 32;
    let head: &[u8; LEAST_V4] = bytes.first_chunk()?;
    let second = word(head, 8);
    // Total length, identification, fragment offset, time to live, protocol.
    let third = word(head, 16);
    if (word(head, 0) ^ station) & Station::LOOKED_AT | (second ^ KIND) & KIND_LOOKED_AT | third & FRAGMENTED
        != 0
    {
        return None;
    }
    let key = KeyV4 {
        addresses: word(head, L3 + 12),
        ports: half_word(head, L4_OVER_V4),
        protocol: (third >> 56) as u8,
    };
    let addresses = Sum::new().add_word(key.addresses);
    let header =
        addresses.add_word(third).add_word(second >> 48).add_word(u64::from(quarter_word(head, L3 + 10)));
    if !header.is_valid() {
        return None;
    }
    let end = L3 + usize::from((third as u16).swap_bytes());
    let packet = bytes.get(..end)?;
    let (kind, payload, sum) = match key.protocol {
        protocol::TCP => {
            let rest = packet.get(LEAST_V4..)?;
            let header_len = tcp(head, L4_OVER_V4, key.ports, rest)?;
            let sum = tcp_sum(addresses, head, L4_OVER_V4);
            (Kind::TcpV4, header_len, verify.then(|| add_rest(sum, packet, rest)))
        }
        protocol::UDP => {
            let rest = packet.get(L4_OVER_V4 + UDP_HEADER_LEN..)?;
            let sum = udp(head, L4_OVER_V4, rest)?;
            let summed = quarter_word(head, L4_OVER_V4 + 6) != 0;
            let sum = (verify && summed).then(|| add_rest(addresses.add_word(sum), packet, rest));
            (Kind::UdpV4, UDP_HEADER_LEN, sum)
        }
        _ => return None,
    };
    let len = end - L4_OVER_V4;
    if let Some(sum) = sum
        && !sum.add_u16(u16::from(key.protocol)).add_u16(len as u16).is_valid()
    {
        return None;
    }
    // The largest frame that the length field allows ends behind what offsets can say.
    let end = u16::try_from(end).ok()?;
    Some((Plain { kind, payload: (L4_OVER_V4 + payload) as u8, end }, key))
}

/// Looks at a frame that may be plain and over IPv6.
#[inline(always)]
pub fn v6(bytes: &[u8], Station(station): Station, verify: bool) -> Option<(Plain, KeyV6)> {
    // As over IPv4, but for the service field, which here begins in the byte of the version.
    const KIND: u64 = 0x0060_dd86 << 32;
    const KIND_LOOKED_AT: u64 = 0x00f0_ffff << 32;
    let head: &[u8; LEAST_V6] = bytes.first_chunk()?;
    let second = word(head, 8);
    if (word(head, 0) ^ station) & Station::LOOKED_AT | (second ^ KIND) & KIND_LOOKED_AT != 0 {
        return None;
    }
    let addresses = [22, 30, 38, 46].map(|at| word(head, at));
    // The mapped IPv4 addresses are among these.
    if addresses[0] == 0 || addresses[2] == 0 {
        return None;
    }
    let key = KeyV6 { addresses, ports: half_word(head, L4_OVER_V6), protocol: head[L3 + 6] };
    let len = usize::from(u16::from_be_bytes([head[L3 + 4], head[L3 + 5]]));
    let end = L4_OVER_V6 + len;
    let packet = bytes.get(..end)?;
    let sum = addresses.into_iter().fold(Sum::new(), Sum::add_word);
    let (kind, payload, sum) = match key.protocol {
        protocol::TCP => {
            let head: &[u8; L4_OVER_V6 + TCP_HEADER_LEN] = bytes.first_chunk()?;
            let rest = packet.get(head.len()..)?;
            let header_len = tcp(head, L4_OVER_V6, key.ports, rest)?;
            (Kind::TcpV6, header_len, verify.then(|| add_rest(tcp_sum(sum, head, L4_OVER_V6), packet, rest)))
        }
        protocol::UDP => {
            let rest = packet.get(LEAST_V6..)?;
            let header = udp(head, L4_OVER_V6, rest)?;
            if quarter_word(head, L4_OVER_V6 + 6) == 0 {
                return None;
            }
            (Kind::UdpV6, UDP_HEADER_LEN, verify.then(|| add_rest(sum.add_word(header), packet, rest)))
        }
        _ => return None,
    };
    if let Some(sum) = sum
        && !sum.add_u16(u16::from(key.protocol)).add_u16(len as u16).is_valid()
    {
        return None;
    }
    let end = u16::try_from(end).ok()?;
    Some((Plain { kind, payload: (L4_OVER_V6 + payload) as u8, end }, key))
}

/// The length of a TCP header without options, or with those of nearly all segments; `rest` is what follows the fixed header.
#[inline(always)]
fn tcp<const N: usize>(head: &[u8; N], at: usize, ports: u32, rest: &[u8]) -> Option<usize> {
    const TIMESTAMPED_LEN: usize = TCP_HEADER_LEN + TIMESTAMP_AND_PADDING_LEN;
    const CONTROL: u8 = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ACK;
    let header_len = usize::from(head[at + 12] >> 4) * 4;
    let known = header_len == TCP_HEADER_LEN
        || header_len == TIMESTAMPED_LEN
            && rest.len() >= TIMESTAMP_AND_PADDING_LEN
            && rest.starts_with(&TIMESTAMP_AND_PADDING);
    let flags = TcpFlags(head[at + 13]);
    let impossible = flags.0 & CONTROL != TcpFlags::ACK && flags.impossible();
    let nobodys = ports & 0xffff == 0 || ports >> 16 == 0;
    (known && !impossible && !nobodys).then_some(header_len)
}

#[inline(always)]
fn tcp_sum<const N: usize>(sum: Sum, head: &[u8; N], at: usize) -> Sum {
    sum.add_word(word(head, at)).add_word(word(head, at + 8)).add_word(half_word(head, at + 16).into())
}

/// The header of a datagram that fills its packet, as a word; `rest` is what follows it.
#[inline(always)]
fn udp<const N: usize>(head: &[u8; N], at: usize, rest: &[u8]) -> Option<u64> {
    let length = usize::from(u16::from_be_bytes([head[at + 4], head[at + 5]]));
    let whole = length == rest.len() + UDP_HEADER_LEN && quarter_word(head, at + 2) != 0;
    whole.then(|| word(head, at))
}

/// Adds what follows a transport's fixed header; it ends the packet.
#[inline(always)]
fn add_rest(sum: Sum, packet: &[u8], rest: &[u8]) -> Sum {
    if rest.len() > SHORT {
        return add_long(sum, rest);
    }
    let (words, tail) = rest.as_chunks::<8>();
    let sum = words.iter().fold(sum, |sum, word| sum.add_word(u64::from_le_bytes(*word)));
    // The end of the word that ends the packet: what is before it was added. Shifted in two steps, as there may be no end.
    let last = packet.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
    sum.add_word(last >> 8 >> (56 - 8 * tail.len()))
}

#[inline(never)]
fn add_long(sum: Sum, rest: &[u8]) -> Sum {
    sum.add_bytes(rest)
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

impl Plain {
    /// The whole of what parsing gives for these bytes, which are those that were looked at.
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
        Some(Packet {
            key: FlowKey {
                src,
                dst,
                src_port: u16::from_be_bytes([ports[0], ports[1]]),
                dst_port: u16::from_be_bytes([ports[2], ports[3]]),
                protocol: transport,
            },
            family,
            cast: Cast::Unicast,
            ttl,
            dont_fragment,
            l3: L3 as u16,
            l4: l4 as u16,
            payload: self.payload.into(),
            payload_end: self.end,
            end: self.end,
            fragment: None,
            transport: match transport {
                protocol::TCP => Transport::Tcp(tcp_fields(super::chunk(bytes, l4)?)),
                _ => Transport::Udp,
            },
        })
    }
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
