//! Ethernet II (IEEE 802.3, 3.1.1).
//!
//! ```text
//!  0                   1                   2                   3
//! +---------------------------------------------------------------+
//! |                      destination address                      |
//! |                               +-------------------------------+
//! |                               |                               |
//! +-------------------------------+                               |
//! |                        source address                         |
//! +-------------------------------+-------------------------------+
//! |           ethertype           |
//! +-------------------------------+
//! ```

use super::{Cast, chunk};
use crate::addr::Mac;
use crate::verdict::DropReason;
use pmd_shim::RxOffload;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 14;

/// Ethertypes (IEEE) that the path knows by name. The tags of 802.1Q and 802.1ad are none: a tagged frame is
/// refused like any other ethertype.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// What follows the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Ipv4,
    Ipv6,
    Arp,
}

/// An Ethernet header of a frame that this station is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ethernet {
    pub(super) cast: Cast,
    pub(super) source: Mac,
    pub(super) content: Content,
}

/// Reads the header. A tag that the device stripped counts as if it were still there.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], offload: RxOffload, station: Mac) -> Result<Ethernet, DropReason> {
    let header: &[u8; HEADER_LEN] = chunk(bytes, 0).ok_or(DropReason::Malformed)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
    let (destination, source) = (Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5]));
    let cast = if destination == station {
        Cast::Unicast
    } else if destination == Mac::BROADCAST {
        Cast::Broadcast
    } else if destination.is_group() {
        Cast::Multicast
    } else {
        return Err(DropReason::NotForUs);
    };
    if source.is_group() {
        return Err(DropReason::Malformed);
    }
    if offload.vlan.is_some() {
        return Err(DropReason::Unsupported);
    }
    let content = match u16::from_be_bytes([t0, t1]) {
        ethertype::IPV4 => Content::Ipv4,
        ethertype::IPV6 => Content::Ipv6,
        ethertype::ARP => Content::Arp,
        _ => return Err(DropReason::Unsupported),
    };
    if offload.truncated {
        return Err(DropReason::Malformed);
    }
    Ok(Ethernet { cast, source, content })
}
