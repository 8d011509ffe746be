//! The service field of IPv4 and the traffic class of IPv6 (RFC 2474, RFC 3168): six bits of codepoint, two of congestion notification.

use super::checksum::ChecksumDelta;
use crate::addr::Family;
use crate::wire::chunk;

/// The bits of congestion notification, lowest in the field.
const ECN: u8 = 0b11;

/// The field of the packet at `l3`.
#[inline(always)]
pub fn read(bytes: &[u8], l3: usize, family: Family) -> u8 {
    let first = chunk(bytes, l3).map_or(0, |first| u16::from_be_bytes(*first));
    match family {
        Family::V4 => first as u8,
        Family::V6 => (first >> 4) as u8,
    }
}

/// Replaces the two bits of congestion notification.
pub fn set_ecn(bytes: &mut [u8], l3: usize, family: Family, ecn: u8) {
    let ecn = u16::from(ecn & ECN);
    let Some(header) = bytes.get_mut(l3..).and_then(|header| header.first_chunk_mut::<12>()) else { return };
    let [a, b, .., c, d] = header;
    let old = u16::from_be_bytes([*a, *b]);
    let new = match family {
        Family::V4 => old & !u16::from(ECN) | ecn,
        Family::V6 => old & !(u16::from(ECN) << 4) | ecn << 4,
    };
    [*a, *b] = new.to_be_bytes();
    if family == Family::V4 {
        let checksum = ChecksumDelta::new().replace_u16(old, new).apply(u16::from_be_bytes([*c, *d]));
        [*c, *d] = checksum.to_be_bytes();
    }
}
