//! UDP (RFC 768).
//!
//! ```text
//!  0                   1                   2                   3
//! +-------------------------------+-------------------------------+
//! |          source port          |       destination port        |
//! +-------------------------------+-------------------------------+
//! |            length             |           checksum            |
//! +-------------------------------+-------------------------------+
//! ```

use super::segment::{Carried, Segment};
use crate::addr::Family;
use crate::verdict::DropReason;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// Reads the header. A length below that of the IP payload is legal: what is between belongs to no datagram,
/// or to UDP options (RFC 9868), and is carried along unread. Source port 0 says that no answer is wanted
/// (RFC 768); destination port 0 is nobody's.
#[inline(always)]
pub(super) fn parse(segment: Segment<'_>) -> Result<Carried, DropReason> {
    let &[s0, s1, d0, d1, l0, l1, c0, c1] = segment.header::<HEADER_LEN>()?;
    let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let payload_end = if segment.is_fragment { segment.bytes.len() } else { length };
    let datagram = segment.bytes.get(..payload_end).ok_or(DropReason::Malformed)?;
    if length < HEADER_LEN {
        return Err(DropReason::Malformed);
    }
    match (u16::from_be_bytes([c0, c1]), segment.family) {
        (0, Family::V4) => {}
        // No checksum, which IPv6 has not allowed outside of agreed tunnels (RFC 8200, 8.1).
        (0, Family::V6) => return Err(DropReason::BadChecksum),
        _ => segment.verify_with_pseudo_header(datagram)?,
    }
    if dst_port == 0 {
        return Err(DropReason::Malformed);
    }
    Ok(Carried { src_port, dst_port, header_len: HEADER_LEN, payload_end })
}
