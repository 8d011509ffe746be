//! IPv4 (RFC 791).
//!
//! ```text
//!  0                   1                   2                   3
//! +-------+-------+---------------+-------------------------------+
//! |version|  IHL  |    DS field   |         total length          |
//! +-------+-------+---------------+-----+-------------------------+
//! |        identification         |0|D|M|     fragment offset     |
//! +---------------+---------------+-----+-------------------------+
//! | time to live  |   protocol    |        header checksum        |
//! +---------------+---------------+-------------------------------+
//! |                        source address                         |
//! +---------------------------------------------------------------+
//! |                      destination address                      |
//! +---------------------------------------------------------------+
//! ```

use super::network::Network;
use super::{FragmentInfo, chunk};
use crate::addr::{Addr, Family};
use crate::emit::checksum::Sum;
use crate::verdict::DropReason;

/// Length of a header without options in bytes.
pub const HEADER_LEN: usize = 20;

const RESERVED: u16 = 0x8000;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;

/// Reads the header at `l3` of a packet that ends in `bytes`. What follows its total length is padding,
/// whatever its size.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], l3: usize) -> Result<Network, DropReason> {
    let header: &[u8; HEADER_LEN] = chunk(bytes, l3).ok_or(DropReason::Malformed)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let (l4, end) = (l3 + header_len, l3 + total);
    if header[0] >> 4 != 4 || header_len < HEADER_LEN || total < header_len || end > bytes.len() {
        return Err(DropReason::Malformed);
    }
    let options = bytes.get(l3 + HEADER_LEN..l4).ok_or(DropReason::Malformed)?;
    let sum = Sum::new().add_bytes(header);
    let sum = if options.is_empty() { sum } else { sum.add_bytes(options) };
    if !sum.is_valid() {
        return Err(DropReason::BadChecksum);
    }
    if !options.is_empty() {
        check_options(options)?;
    }
    let flags = u16::from_be_bytes([header[6], header[7]]);
    if flags & RESERVED != 0 {
        return Err(DropReason::Malformed);
    }
    let network = read(header, l3, header_len, end);
    if let Some(fragment) = network.fragment {
        fragment.check(network.protocol, header_len)?;
    }
    Ok(network)
}

/// Reads the header of a packet quoted in an ICMP error, from the first byte on. The quote may be cut
/// anywhere behind the header, its checksum is of no use, and what it says of its length only counts where
/// that is less than what is there.
pub(super) fn quoted(bytes: &[u8]) -> Option<Network> {
    let header: &[u8; HEADER_LEN] = chunk(bytes, 0)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let end = total.min(bytes.len());
    let whole = header[0] >> 4 == 4 && header_len >= HEADER_LEN && header_len <= end;
    whole.then(|| read(header, 0, header_len, end))
}

/// The fields of a header of this length; the packet ends at `end`, which is not before the header's.
#[inline(always)]
fn read(header: &[u8; HEADER_LEN], l3: usize, header_len: usize, end: usize) -> Network {
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let fragmented = flags & (MORE_FRAGMENTS | OFFSET) != 0;
    let l4 = l3 + header_len;
    Network {
        src: Addr::v4([header[12], header[13], header[14], header[15]]),
        dst: Addr::v4([header[16], header[17], header[18], header[19]]),
        family: Family::V4,
        protocol: header[9],
        ttl: header[8],
        dont_fragment: flags & DONT_FRAGMENT != 0,
        l3,
        l4,
        end,
        fragment: fragmented.then(|| FragmentInfo {
            id: u32::from(u16::from_be_bytes([header[4], header[5]])),
            offset: (flags & OFFSET) << 3,
            len: (end - l4) as u16,
            more: flags & MORE_FRAGMENTS != 0,
        }),
        fragment_header: fragmented,
    }
}

/// Lets the options pass that do nothing. All others are refused: source routes and record route serve
/// attackers more than anybody (RFC 7126), and none is worth a slow path.
#[cold]
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    loop {
        match *options {
            [] | [OPTION_END, ..] => return Ok(()),
            [OPTION_NOP, ref rest @ ..] => options = rest,
            [_, len, ..] if (2..=options.len()).contains(&usize::from(len)) => {
                return Err(DropReason::Unsupported);
            }
            _ => return Err(DropReason::Malformed),
        }
    }
}
