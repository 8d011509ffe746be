//! The packet that an ICMP error quotes (RFC 792, RFC 4443 2.4): enough of it to find the flow that it
//! belongs to.

use super::network::Network;
use super::{FlowKey, IcmpClass, chunk, icmp, icmpv6, ipv4, ipv6, protocol};
use crate::addr::Family;

/// A packet quoted in an ICMP error, cut anywhere behind the first eight bytes of its transport header.
/// Offsets count from the quote's first byte, which is that of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The quoted packet's own key: its source is who the error is sent to.
    pub key: FlowKey,
    /// The family of the IP header.
    pub family: Family,
    /// Offset of the transport header.
    pub l4: u16,
    /// How much of the packet there is, in bytes from the IP header on. What the error carries behind it (RFC
    /// 4884) is not counted.
    pub len: u16,
    /// The sequence number, if it is a TCP segment.
    pub tcp_seq: Option<u32>,
    /// The class of the message, if it is ICMP or ICMPv6: never an error.
    pub icmp: Option<IcmpClass>,
}

/// The transport bytes that every quote has (RFC 792).
const TRANSPORT_MIN: usize = 8;

/// Reads the packet quoted in an ICMP error of this family, leniently: the quote is cut, and its checksums
/// are not verified.
///
/// `None` when it says nothing of a flow: too short, no IP header, extension headers beyond the parser's
/// limits, a later fragment, or itself an ICMP error or redirect.
pub fn quoted(bytes: &[u8], family: Family) -> Option<Quoted> {
    let network = match family {
        Family::V4 => ipv4::quoted(bytes)?,
        Family::V6 => ipv6::quoted(bytes)?,
    };
    let Network { src, dst, protocol, l4, end, .. } = network;
    if network.is_later_fragment() || end < l4 + TRANSPORT_MIN {
        return None;
    }
    let &[b0, b1, b2, b3, b4, b5, b6, b7] = chunk::<TRANSPORT_MIN>(bytes, l4)?;
    let icmp = match (protocol, family) {
        (protocol::ICMP, Family::V4) => Some(icmp::classify(b0, b1)),
        (protocol::ICMPV6, Family::V6) => Some(icmpv6::classify(b0, b1)),
        _ => None,
    };
    let (src_port, dst_port) = match (protocol, icmp) {
        (protocol::TCP | protocol::UDP, _) => (u16::from_be_bytes([b0, b1]), u16::from_be_bytes([b2, b3])),
        (_, Some(IcmpClass::EchoRequest | IcmpClass::EchoReply)) => {
            let id = u16::from_be_bytes([b4, b5]);
            (id, id)
        }
        (_, None | Some(IcmpClass::Other)) => (0, 0),
        _ => return None,
    };
    Some(Quoted {
        key: FlowKey { src, dst, src_port, dst_port, protocol },
        family,
        l4: u16::try_from(l4).ok()?,
        len: u16::try_from(end).ok()?,
        tcp_seq: (protocol == protocol::TCP).then_some(u32::from_be_bytes([b4, b5, b6, b7])),
        icmp,
    })
}
