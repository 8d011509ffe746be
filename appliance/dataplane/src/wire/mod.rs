//! Stage 1, parse: from bytes to offsets and a key, by reference into the frame.
//!
//! Decides whether a frame is what it claims to be: every length, header checksum and (unless the driver
//! vouches for it) transport checksum is verified here, so that no later stage reads a byte that was not
//! checked. Never changes a byte, never looks at configuration beyond the port's own Ethernet address.

mod arp;
mod ethernet;
mod fragment;
pub mod icmp;
pub mod icmpv6;
mod ipv4;
mod ipv6;
mod network;
mod packet;
pub mod plain;
mod quoted;
mod segment;
mod tcp;
mod udp;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;

pub use arp::{Arp, ArpOperation};
pub use ethernet::{HEADER_LEN as ETHERNET_HEADER_LEN, ethertype};
pub use fragment::FragmentInfo;
pub use icmp::{HEADER_LEN as ICMP_HEADER_LEN, Icmp, IcmpClass};
pub use ipv4::HEADER_LEN as IPV4_HEADER_LEN;
pub use ipv6::{HEADER_LEN as IPV6_HEADER_LEN, MAX_EXTENSION_BYTES, MAX_EXTENSION_HEADERS};
pub use packet::{Cast, FlowKey, Packet, Transport};
pub use quoted::{Quoted, quoted};
pub use tcp::{HEADER_LEN as TCP_HEADER_LEN, Tcp, TcpFlags, are_well_formed};
pub(crate) use tcp::{TIMESTAMP_AND_PADDING, TIMESTAMP_AND_PADDING_LEN};
pub use udp::HEADER_LEN as UDP_HEADER_LEN;

use crate::addr::{Family, Mac};
use crate::verdict::DropReason;
use ethernet::Content;
use network::Network;
use pmd_shim::{ChecksumStatus, RxOffload};
use segment::{Carried, Segment};

/// IP protocol numbers (IANA) that the path knows by name.
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 routing header (RFC 8200).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200).
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload (RFC 4303).
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AH: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows (RFC 8200).
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options (RFC 8200).
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// A parsed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Address resolution (RFC 826).
    Arp(Arp),
    /// An IP packet.
    Ip(Packet),
}

/// Parses a frame that arrived at `station`, the port's own Ethernet address, with what the driver found out
/// about it.
///
/// # Errors
/// Why the frame is to be dropped: `NotForUs`, `Malformed`, `BadChecksum`, `Unsupported`, `Fragment`, or
/// `Spoofed` for a mapped IPv4 address in an IPv6 header.
#[inline(never)]
pub fn parse(bytes: &[u8], offload: RxOffload, station: Mac) -> Result<Parsed, DropReason> {
    let ethernet = ethernet::parse(bytes, offload, station)?;
    let verify = offload.checksum == ChecksumStatus::Unverified;
    match ethernet.content {
        Content::Ipv4 => {
            let network = ipv4::parse(bytes, ETHERNET_HEADER_LEN)?;
            transport(bytes, network, ethernet.cast, verify)
        }
        Content::Ipv6 => {
            let network = ipv6::parse(bytes, ETHERNET_HEADER_LEN)?;
            if ipv6::is_extension(network.protocol) {
                return extended(bytes, ethernet.cast, verify);
            }
            transport(bytes, network, ethernet.cast, verify)
        }
        Content::Arp => arp::parse(bytes, ethernet).map(Parsed::Arp),
    }
}

/// An IPv6 packet with extension headers: apart, and read from its start again, so that the others' fields
/// stay in registers.
#[cold]
#[inline(never)]
fn extended(bytes: &[u8], cast: Cast, verify: bool) -> Result<Parsed, DropReason> {
    let network = ipv6::parse_extended(bytes, ETHERNET_HEADER_LEN)?;
    transport(bytes, network, cast, verify)
}

/// Reads the transport header and puts the packet together. Made part of each caller, which knows the family.
#[inline(always)]
fn transport(bytes: &[u8], network: Network, cast: Cast, verify: bool) -> Result<Parsed, DropReason> {
    let segment = Segment::new(bytes, &network, verify).ok_or(DropReason::Malformed)?;
    let len = segment.bytes.len();
    let nothing = Carried { src_port: 0, dst_port: 0, header_len: len, payload_end: len };
    let (transport, carried) = match (network.protocol, network.family) {
        _ if network.is_later_fragment() => (Transport::LaterFragment, nothing),
        (protocol::TCP, _) => {
            let (tcp, carried) = tcp::parse(segment)?;
            (Transport::Tcp(tcp), carried)
        }
        (protocol::UDP, _) => (Transport::Udp, udp::parse(segment)?),
        (protocol::ICMP, Family::V4) => {
            let (icmp, carried) = icmp::parse(segment)?;
            (Transport::Icmp(icmp), carried)
        }
        (protocol::ICMPV6, Family::V6) => {
            let (icmp, carried) = icmpv6::parse(segment)?;
            (Transport::Icmp(icmp), carried)
        }
        _ => (Transport::Other, nothing),
    };
    // The other offsets are not beyond it.
    let end = u16::try_from(network.end).map_err(|_| DropReason::Unsupported)?;
    let Network { src, dst, protocol, l3, l4, .. } = network;
    Ok(Parsed::Ip(Packet {
        key: FlowKey { src, dst, src_port: carried.src_port, dst_port: carried.dst_port, protocol },
        family: network.family,
        cast,
        ttl: network.ttl,
        dont_fragment: network.dont_fragment,
        l3: l3 as u16,
        l4: l4 as u16,
        payload: (l4 + carried.header_len) as u16,
        payload_end: (l4 + carried.payload_end) as u16,
        end,
        fragment: network.fragment,
        transport,
    }))
}

/// `N` bytes at an offset.
#[inline]
pub(crate) fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}
