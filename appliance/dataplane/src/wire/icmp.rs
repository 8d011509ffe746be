//! ICMP (RFC 792).
//!
//! ```text
//!  0                   1                   2                   3
//! +---------------+---------------+-------------------------------+
//! |     type      |     code      |           checksum            |
//! +---------------+---------------+-------------------------------+
//! |  echo: identifier, sequence number; errors: MTU or unused     |
//! +---------------------------------------------------------------+
//! |        echo: data; errors: the packet that caused them        |
//! ```

use super::segment::{Carried, Segment};
use crate::verdict::DropReason;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// Message types (IANA) that the path knows by name.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench, deprecated (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Router advertisement (RFC 1256).
    pub const ROUTER_ADVERTISEMENT: u8 = 9;
    /// Router solicitation (RFC 1256).
    pub const ROUTER_SOLICITATION: u8 = 10;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// An ICMP or ICMPv6 header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The type field.
    pub kind: u8,
    /// The code field.
    pub code: u8,
    /// What the path makes of type and code.
    pub class: IcmpClass,
}

/// What the path makes of an ICMP message, alike for both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpClass {
    /// Echo request.
    EchoRequest,
    /// Echo reply.
    EchoReply,
    /// An error about another packet, which it quotes from offset `payload` on.
    Error,
    /// Asks for a neighbour's link-layer address (RFC 4861), to be handled on the link and never forwarded.
    /// All that RFC 4861, 7.1 asks for is verified: hop limit 255, lengths, addresses.
    NeighborSolicitation,
    /// Answers, see [`NeighborSolicitation`](Self::NeighborSolicitation).
    NeighborAdvertisement,
    /// Redirects, router discovery, multicast listener reports: of the link, never forwarded.
    LinkLocal,
    /// Any other query or message.
    Other,
}

impl IcmpClass {
    /// The message has an echo identifier.
    #[inline]
    pub const fn is_echo(self) -> bool {
        matches!(self, Self::EchoRequest | Self::EchoReply)
    }
}

/// What the path makes of an ICMP type and code. An echo has code 0.
#[inline]
pub(super) const fn classify(kind: u8, code: u8) -> IcmpClass {
    match (kind, code) {
        (kind::ECHO_REQUEST, 0) => IcmpClass::EchoRequest,
        (kind::ECHO_REPLY, 0) => IcmpClass::EchoReply,
        (kind::UNREACHABLE | kind::SOURCE_QUENCH | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM, _) => {
            IcmpClass::Error
        }
        (kind::REDIRECT | kind::ROUTER_ADVERTISEMENT | kind::ROUTER_SOLICITATION, _) => IcmpClass::LinkLocal,
        _ => IcmpClass::Other,
    }
}

/// Reads a message. Source quench is refused: only attackers still send it (RFC 6633, 4).
pub(super) fn parse(segment: Segment<'_>) -> Result<(Icmp, Carried), DropReason> {
    let &[kind, code, _, _, i0, i1, _, _] = segment.header::<HEADER_LEN>()?;
    segment.verify()?;
    if kind == kind::SOURCE_QUENCH {
        return Err(DropReason::Unsupported);
    }
    let class = classify(kind, code);
    let id = if class.is_echo() { u16::from_be_bytes([i0, i1]) } else { 0 };
    let carried =
        Carried { src_port: id, dst_port: id, header_len: HEADER_LEN, payload_end: segment.bytes.len() };
    Ok((Icmp { kind, code, class }, carried))
}
