//! What IPv4 and IPv6 fragments have in common.

use super::protocol;
use crate::verdict::DropReason;

/// A fragment's place in its datagram (RFC 791, RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// The datagram's identification.
    pub id: u32,
    /// Offset of the fragment's data in the datagram, in bytes. 0 is a first fragment.
    pub offset: u16,
    /// Length of the fragment's data in bytes.
    pub len: u16,
    /// More fragments follow.
    pub more: bool,
}

/// The longest TCP header (RFC 9293, 3.1: a data offset of 15 words). No later TCP fragment may start within
/// it, so that none can overlay what was decided on. Only a path with an MTU below 84 bytes makes such
/// fragments, and none is left; an attack needs them (RFC 1858 4, RFC 3128).
const TCP_HEADER_MAX: u16 = 60;

/// The largest length that an IP header can state.
const DATAGRAM_MAX: usize = 65_535;

impl FragmentInfo {
    /// Refuses what no honest fragmentation makes. `header_len` is what comes before the fragment's data in
    /// the length field of the whole datagram: the IPv4 header, or IPv6 extension headers that every fragment
    /// repeats.
    pub(super) fn check(self, protocol: u8, header_len: usize) -> Result<(), DropReason> {
        if self.more && !self.len.is_multiple_of(8) {
            return Err(DropReason::Malformed);
        }
        let empty = self.len == 0;
        let too_far = header_len + usize::from(self.offset) + usize::from(self.len) > DATAGRAM_MAX;
        let overlays_tcp = protocol == protocol::TCP && self.offset != 0 && self.offset < TCP_HEADER_MAX;
        if empty || too_far || overlays_tcp { Err(DropReason::Fragment) } else { Ok(()) }
    }
}
