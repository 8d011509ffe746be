//! ICMPv6 (RFC 4443), and what neighbour discovery (RFC 4861) asks its receivers to check.
//!
//! The header is that of [`icmp`](super::icmp), except that some messages end after four bytes.

use super::chunk;
use super::icmp::{HEADER_LEN, Icmp, IcmpClass};
use super::segment::{Carried, Segment};
use crate::verdict::DropReason;

/// Message types (IANA) that the path knows by name.
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request: the first type that is no error.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query (RFC 2710, RFC 3810).
    pub const LISTENER_QUERY: u8 = 130;
    /// Multicast listener done (RFC 2710); report is between the two.
    pub const LISTENER_DONE: u8 = 132;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation (RFC 4861).
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861).
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect (RFC 4861).
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report, version 2 (RFC 3810).
    pub const LISTENER_REPORT_V2: u8 = 143;
    /// Multicast router advertisement (RFC 4286).
    pub const MULTICAST_ROUTER_ADVERTISEMENT: u8 = 151;
    /// Multicast router termination (RFC 4286); solicitation is between the two.
    pub const MULTICAST_ROUTER_TERMINATION: u8 = 153;
}

/// The hop limit of a packet that no router has forwarded (RFC 4861, 7.1).
const FROM_THE_LINK: u8 = 255;
const OPTION_SOURCE_LINK_ADDRESS: u8 = 1;
/// The solicited flag in a neighbour advertisement's fifth byte.
const SOLICITED: u8 = 0x40;
/// `ff02::1:ff00:0/104`, the groups that neighbours are asked for in (RFC 4291, 2.7.1).
const SOLICITED_NODE_PREFIX: [u8; 13] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];

/// What the path makes of an ICMPv6 type and code. All types below 128 are errors, known or not (RFC 4443,
/// 2.1); an echo has code 0.
#[inline]
pub(super) const fn classify(kind: u8, code: u8) -> IcmpClass {
    match (kind, code) {
        (..kind::ECHO_REQUEST, _) => IcmpClass::Error,
        (kind::ECHO_REQUEST, 0) => IcmpClass::EchoRequest,
        (kind::ECHO_REPLY, 0) => IcmpClass::EchoReply,
        (kind::NEIGHBOR_SOLICITATION, _) => IcmpClass::NeighborSolicitation,
        (kind::NEIGHBOR_ADVERTISEMENT, _) => IcmpClass::NeighborAdvertisement,
        (
            kind::LISTENER_QUERY..=kind::LISTENER_DONE
            | kind::ROUTER_SOLICITATION
            | kind::ROUTER_ADVERTISEMENT
            | kind::REDIRECT
            | kind::LISTENER_REPORT_V2
            | kind::MULTICAST_ROUTER_ADVERTISEMENT..=kind::MULTICAST_ROUTER_TERMINATION,
            _,
        ) => IcmpClass::LinkLocal,
        _ => IcmpClass::Other,
    }
}

/// The fixed part of a neighbour discovery message in bytes; options follow.
const fn discovery_len(kind: u8) -> Option<usize> {
    match kind {
        kind::ROUTER_SOLICITATION => Some(8),
        kind::ROUTER_ADVERTISEMENT => Some(16),
        kind::NEIGHBOR_SOLICITATION | kind::NEIGHBOR_ADVERTISEMENT => Some(24),
        kind::REDIRECT => Some(40),
        _ => None,
    }
}

/// Reads a message. Neighbour discovery that did not come from the link, or is not what RFC 4861 says, is
/// malformed.
pub(super) fn parse(segment: Segment<'_>) -> Result<(Icmp, Carried), DropReason> {
    let &[kind, code, _, _] = segment.header()?;
    let class = classify(kind, code);
    let rest: &[u8; 4] = match chunk(segment.bytes, 4) {
        Some(rest) => rest,
        // A message whose format the path does not rely on may be shorter.
        None if matches!(class, IcmpClass::Other | IcmpClass::LinkLocal) && !segment.is_fragment => &[0; 4],
        None => return Err(segment.short()),
    };
    segment.verify_with_pseudo_header(segment.bytes)?;
    if let Some(len) = discovery_len(kind) {
        check_discovery(segment, class, code, len)?;
    }
    let id = if class.is_echo() { u16::from_be_bytes([rest[0], rest[1]]) } else { 0 };
    let end = segment.bytes.len();
    let carried = Carried { src_port: id, dst_port: id, header_len: HEADER_LEN.min(end), payload_end: end };
    Ok((Icmp { kind, code, class }, carried))
}

/// The validation that RFC 4861 6.1 and 7.1 and RFC 6980 require, with options behind `len` bytes.
#[cold]
fn check_discovery(segment: Segment<'_>, class: IcmpClass, code: u8, len: usize) -> Result<(), DropReason> {
    let (message, options) = segment.bytes.split_at_checked(len).ok_or(DropReason::Malformed)?;
    let (src, dst) = segment.v6_addresses().ok_or(DropReason::Malformed)?;
    let from_link = segment.ttl == FROM_THE_LINK && code == 0 && !segment.fragment_header;
    let has_source_link_address = walk_options(options)?;
    let from_nobody = *src == [0; 16];
    let to_group = dst[0] == 0xff;
    let about_group = chunk::<16>(message, 8).is_some_and(|target| target[0] == 0xff);
    let sound = match class {
        IcmpClass::NeighborSolicitation => {
            let to_solicited_node = dst.starts_with(&SOLICITED_NODE_PREFIX);
            let probe = !has_source_link_address && to_solicited_node;
            !about_group && (!from_nobody || probe)
        }
        IcmpClass::NeighborAdvertisement => {
            let solicited = message.get(4).is_some_and(|flags| flags & SOLICITED != 0);
            !(about_group || to_group && solicited)
        }
        _ => true,
    };
    if from_link && sound { Ok(()) } else { Err(DropReason::Malformed) }
}

/// Walks discovery options, whose lengths count units of eight bytes; says whether a source link-layer
/// address is among them.
fn walk_options(mut options: &[u8]) -> Result<bool, DropReason> {
    let mut found = false;
    loop {
        match *options {
            [] => return Ok(found),
            [kind, len, ..] if len != 0 => {
                options = options.get(8 * usize::from(len)..).ok_or(DropReason::Malformed)?;
                found |= kind == OPTION_SOURCE_LINK_ADDRESS;
            }
            _ => return Err(DropReason::Malformed),
        }
    }
}
