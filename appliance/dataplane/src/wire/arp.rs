//! ARP for Ethernet and IPv4 (RFC 826).
//!
//! ```text
//!  0                   1                   2                   3
//! +-------------------------------+-------------------------------+
//! |       hardware type (1)       |     protocol type (0x0800)    |
//! +---------------+---------------+-------------------------------+
//! | hw length (6) | pr length (4) |           operation           |
//! +---------------+---------------+-------------------------------+
//! |                    sender hardware address                    |
//! |                               +-------------------------------+
//! |                               |    sender protocol address    |
//! +-------------------------------+-------------------------------+
//! |                               |    target hardware address    |
//! +-------------------------------+                               |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                    target protocol address                    |
//! +---------------------------------------------------------------+
//! ```

use super::ethernet::{Ethernet, HEADER_LEN, ethertype};
use super::{Cast, chunk};
use crate::addr::{Addr, Mac};
use crate::verdict::DropReason;

/// An ARP packet for Ethernet and IPv4 (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: ArpOperation,
    /// Who speaks. Always the frame's own source.
    pub sender_mac: Mac,
    /// Who speaks; may be 0.0.0.0 in a probe (RFC 5227).
    pub sender: Addr,
    /// Who is asked for, or who asked.
    pub target: Addr,
    /// How the link layer addressed the frame.
    pub cast: Cast,
}

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Asks.
    Request,
    /// Answers.
    Reply,
}

/// Length of the packet in bytes.
const LEN: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, and their address lengths.
const ETHERNET_IPV4: [u8; 6] = [0, 1, (ethertype::IPV4 >> 8) as u8, ethertype::IPV4 as u8, 6, 4];

/// Reads the packet. Other hardware, protocols and operations (RARP, InARP) are unsupported; a sender that is
/// not the frame's source is malformed, since nobody can honestly speak for another station's hardware
/// address.
pub(super) fn parse(bytes: &[u8], ethernet: Ethernet) -> Result<Arp, DropReason> {
    let packet: &[u8; LEN] = chunk(bytes, HEADER_LEN).ok_or(DropReason::Malformed)?;
    let (sizes, rest) = packet.split_first_chunk::<6>().ok_or(DropReason::Malformed)?;
    if *sizes != ETHERNET_IPV4 {
        return Err(DropReason::Unsupported);
    }
    let &[o0, o1, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = rest else {
        return Err(DropReason::Malformed);
    };
    let operation = match u16::from_be_bytes([o0, o1]) {
        1 => ArpOperation::Request,
        2 => ArpOperation::Reply,
        _ => return Err(DropReason::Unsupported),
    };
    let sender_mac = Mac([m0, m1, m2, m3, m4, m5]);
    if sender_mac != ethernet.source {
        return Err(DropReason::Malformed);
    }
    Ok(Arp {
        operation,
        sender_mac,
        sender: Addr::v4([s0, s1, s2, s3]),
        target: Addr::v4([t0, t1, t2, t3]),
        cast: ethernet.cast,
    })
}
