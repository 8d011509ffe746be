//! IPv6 (RFC 8200) and its extension headers.
//!
//! ```text
//!  0                   1                   2                   3
//! +-------+---------------+---------------------------------------+
//! |version| traffic class |              flow label               |
//! +-------+---------------+-------+---------------+---------------+
//! |        payload length         |  next header  |   hop limit   |
//! +-------------------------------+---------------+---------------+
//! |                        source address                         |
//! |                          (16 bytes)                           |
//! +---------------------------------------------------------------+
//! |                      destination address                      |
//! |                          (16 bytes)                           |
//! +---------------------------------------------------------------+
//! ```

use super::network::Network;
use super::{FragmentInfo, chunk, protocol};
use crate::addr::{Addr, Family};
use crate::verdict::DropReason;

/// Length of the fixed header in bytes.
pub const HEADER_LEN: usize = 40;
/// The most extension headers that a packet may have. Honest ones have up to three.
pub const MAX_EXTENSION_HEADERS: usize = 8;
/// The most bytes that all of a packet's extension headers may take together.
pub const MAX_EXTENSION_BYTES: usize = 512;

/// Routing header type 0, deprecated (RFC 5095).
const ROUTING_TYPE_0: u8 = 0;
const FRAGMENT_HEADER_LEN: usize = 8;
const OPTION_PAD1: u8 = 0;
/// What to do with an unknown option: 0 is to skip it (RFC 8200, 4.2).
const OPTION_ACTION: u8 = 0xc0;

/// Reads the header at `l3` of a packet that ends in `bytes`, without its extension headers. What follows its
/// payload length is padding.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], l3: usize) -> Result<Network, DropReason> {
    let header: &[u8; HEADER_LEN] = chunk(bytes, l3).ok_or(DropReason::Malformed)?;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let end = l3 + HEADER_LEN + payload_len;
    if header[0] >> 4 != 6 || end > bytes.len() {
        return Err(DropReason::Malformed);
    }
    let network = read(header, l3, end);
    if network.src.as_v4().is_some() || network.dst.as_v4().is_some() {
        return Err(DropReason::Spoofed);
    }
    Ok(network)
}

/// The same with extension headers, of which there are some.
pub(super) fn parse_extended(bytes: &[u8], l3: usize) -> Result<Network, DropReason> {
    let network = parse(bytes, l3)?;
    if network.l4 == network.end && network.protocol == protocol::HOP_BY_HOP {
        // A jumbogram (RFC 2675).
        return Err(DropReason::Unsupported);
    }
    walk(bytes, network, true)
}

/// Reads the header of a packet quoted in an ICMP error, from the first byte on, and its extension headers.
/// The quote may be cut anywhere behind them.
pub(super) fn quoted(bytes: &[u8]) -> Option<Network> {
    let header: &[u8; HEADER_LEN] = chunk(bytes, 0)?;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 {
        return None;
    }
    let network = read(header, 0, bytes.len().min(HEADER_LEN + payload_len));
    if network.src.as_v4().is_some() || network.dst.as_v4().is_some() {
        return None;
    }
    walk(bytes, network, false).ok()
}

/// The fields of the fixed header; the packet ends at `end`, which is not before the header's.
#[inline(always)]
fn read(header: &[u8; HEADER_LEN], l3: usize, end: usize) -> Network {
    let [_, _, _, _, _, _, _, _, addresses @ ..] = header;
    let (src, dst) = split_addresses(addresses);
    Network {
        src: Addr::v6(src),
        dst: Addr::v6(dst),
        family: Family::V6,
        protocol: header[6],
        ttl: header[7],
        dont_fragment: true,
        l3,
        l4: l3 + HEADER_LEN,
        end,
        fragment: None,
        fragment_header: false,
    }
}

/// Source and destination.
#[inline(always)]
fn split_addresses(both: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src.copy_from_slice(&both[..16]);
    dst.copy_from_slice(&both[16..]);
    (src, dst)
}

/// Headers that the path walks over. The authentication header is a transport to it, like encrypted payload.
#[inline]
pub(super) const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION_OPTIONS
    )
}

/// Walks over extension headers up to the transport, or up to the data of a later fragment. Only a `whole`
/// fragment, one that is not cut short by being quoted, has a length to check.
fn walk(bytes: &[u8], mut network: Network, whole: bool) -> Result<Network, DropReason> {
    let first = network.l4;
    // A first fragment that does not hold the whole chain hides its transport from every filter (RFC 7112).
    let mut short = DropReason::Malformed;
    let mut count = 0;
    while is_extension(network.protocol) && !network.is_later_fragment() {
        count += 1;
        if count > MAX_EXTENSION_HEADERS {
            return Err(DropReason::Unsupported);
        }
        let rest = bytes.get(network.l4..network.end).ok_or(short)?;
        let &[next_header, ref header @ ..] = rest.first_chunk::<8>().ok_or(short)?;
        let kind = network.protocol;
        let len =
            if kind == protocol::FRAGMENT { FRAGMENT_HEADER_LEN } else { 8 + 8 * usize::from(header[0]) };
        if network.l4 + len - first > MAX_EXTENSION_BYTES {
            return Err(DropReason::Unsupported);
        }
        let content = rest.get(2..len).ok_or(short)?;
        match kind {
            // Only directly behind the fixed header (RFC 8200, 4.1).
            protocol::HOP_BY_HOP if count > 1 => return Err(DropReason::Malformed),
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => check_options(content)?,
            protocol::ROUTING => {
                let (routing_type, segments_left) = (header[1], header[2]);
                if routing_type == ROUTING_TYPE_0 || segments_left != 0 {
                    return Err(DropReason::Unsupported);
                }
            }
            // A fragment header within a fragment.
            _ if network.fragment_header => return Err(DropReason::Fragment),
            _ => {
                network.fragment_header = true;
                network.fragment = read_fragment(header, network.end - network.l4 - len);
                if let Some(fragment) = network.fragment {
                    if whole {
                        fragment.check(next_header, network.l4 - first)?;
                    }
                    short = DropReason::Fragment;
                }
            }
        }
        network.l4 += len;
        network.protocol = next_header;
    }
    Ok(network)
}

/// The fragment header behind its next-header byte, followed by `len` bytes. `None` for an atomic fragment,
/// which is whole and has nothing to do with fragments of the same identification (RFC 6946).
fn read_fragment(header: &[u8; 7], len: usize) -> Option<FragmentInfo> {
    let [_, o0, o1, id @ ..] = *header;
    let field = u16::from_be_bytes([o0, o1]);
    let (offset, more) = (field & 0xfff8, field & 1 != 0);
    (offset != 0 || more).then(|| FragmentInfo { id: u32::from_be_bytes(id), offset, len: len as u16, more })
}

/// Walks the options of a hop-by-hop or destination options header. An option that nodes which do not know it
/// must refuse is refused here; this covers the jumbo payload and the home address.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    loop {
        match *options {
            [] => return Ok(()),
            [OPTION_PAD1, ref rest @ ..] => options = rest,
            [kind, len, ref rest @ ..] => {
                options = rest.get(usize::from(len)..).ok_or(DropReason::Malformed)?;
                if kind & OPTION_ACTION != 0 {
                    return Err(DropReason::Unsupported);
                }
            }
            [_] => return Err(DropReason::Malformed),
        }
    }
}
