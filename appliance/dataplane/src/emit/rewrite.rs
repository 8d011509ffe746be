//! Changes packets in place: addresses, ports, time to live, link addresses, with checksums by difference.
//!
//! All of it is for a [`Packet`] that [`parse`](crate::wire::parse) gave for these very bytes; what lies
//! outside of them is left alone.

use super::checksum::ChecksumDelta;
use crate::addr::{Addr, Family, Mac, MacWord};
use crate::wire::{self, IcmpClass, Packet, Quoted, Transport, protocol};
use pmd_shim::Frame;

/// What is put in the place of a packet's endpoints; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// The new source.
    pub src: Option<Endpoint>,
    /// The new destination.
    pub dst: Option<Endpoint>,
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, of the packet's own family: one of the other family changes nothing.
    pub addr: Addr,
    /// The port; `None` leaves it. The port of an ICMP echo is its identifier, and belongs to who asks: a
    /// request's source and a reply's destination.
    pub port: Option<u16>,
}

/// Where the fields are that a translation changes, in a packet or in a quote of one.
#[derive(Clone, Copy, Debug)]
struct Place {
    family: Family,
    l3: usize,
    l4: usize,
    /// Nothing is changed from here on.
    end: usize,
    fields: Fields,
}

/// Offsets of a transport's fields from its header, where it has them.
#[derive(Clone, Copy, Debug)]
struct Fields {
    src_port: Option<usize>,
    dst_port: Option<usize>,
    checksum: Option<usize>,
    /// The checksum covers the addresses.
    pseudo_header: bool,
    /// A checksum of 0 means that there is none.
    optional: bool,
}

impl Fields {
    const NONE: Self =
        Self { src_port: None, dst_port: None, checksum: None, pseudo_header: false, optional: false };
    const TCP: Self = Self {
        src_port: Some(0),
        dst_port: Some(2),
        checksum: Some(16),
        pseudo_header: true,
        optional: false,
    };
    const UDP: Self =
        Self { src_port: Some(0), dst_port: Some(2), checksum: Some(6), pseudo_header: true, optional: true };

    const fn icmp(class: IcmpClass, family: Family) -> Self {
        let (src_port, dst_port) = match class {
            IcmpClass::EchoRequest => (Some(4), None),
            IcmpClass::EchoReply => (None, Some(4)),
            _ => (None, None),
        };
        let pseudo_header = matches!(family, Family::V6);
        Self { src_port, dst_port, checksum: Some(2), pseudo_header, optional: false }
    }

    const fn of_packet(packet: &Packet) -> Self {
        match packet.transport {
            Transport::Tcp(_) => Self::TCP,
            Transport::Udp => Self::UDP,
            Transport::Icmp(icmp) => Self::icmp(icmp.class, packet.family),
            Transport::Other | Transport::LaterFragment => Self::NONE,
        }
    }

    const fn of_quote(quoted: &Quoted) -> Self {
        match (quoted.key.protocol, quoted.icmp) {
            (protocol::TCP, _) => Self::TCP,
            (protocol::UDP, _) => Self::UDP,
            (_, Some(class)) => Self::icmp(class, quoted.family),
            _ => Self::NONE,
        }
    }
}

/// Translates a packet: addresses, ports where it has them, and every checksum that covers either. Of a later
/// fragment only the IP header; the transport checksum, in the first fragment, is changed for all.
#[inline]
pub fn translate(bytes: &mut [u8], packet: &Packet, translation: &Translation) {
    let place = Place {
        family: packet.family,
        l3: packet.l3.into(),
        l4: packet.l4.into(),
        end: packet.end.into(),
        fields: Fields::of_packet(packet),
    };
    replace(bytes, place, translation);
}

/// Translates the packet quoted in an ICMP error, `quoted` being what [`quoted`](crate::wire::quoted) gave
/// for the payload of
/// `packet`. The quote's own checksums follow where they are whole in it, and so does the error's.
///
/// `inner` is in the quote's direction, against that of the error.
pub fn translate_quoted(bytes: &mut [u8], packet: &Packet, quoted: &Quoted, inner: &Translation) {
    let l3 = usize::from(packet.payload);
    let place = Place {
        family: quoted.family,
        l3,
        l4: l3 + usize::from(quoted.l4),
        end: usize::from(packet.end).min(l3 + usize::from(quoted.len)),
        fields: Fields::of_quote(quoted),
    };
    let delta = replace(bytes, place, inner);
    if let (Transport::Icmp(icmp), None) = (packet.transport, packet.fragment) {
        let outer = Fields::icmp(icmp.class, packet.family);
        update_checksum(bytes, usize::from(packet.l4), packet.end.into(), outer, delta);
    }
}

/// Takes one from the time to live or hop limit, which is at least 1.
#[inline]
pub fn decrement_ttl(bytes: &mut [u8], packet: &Packet) {
    let l3 = usize::from(packet.l3);
    match packet.family {
        Family::V4 => {
            let Some(old) = read_u16(bytes, l3 + 8) else { return };
            let new = old.saturating_sub(0x0100);
            write(bytes, l3 + 8, new.to_be_bytes());
            update_ipv4_checksum(bytes, l3, ChecksumDelta::new().replace_u16(old, new));
        }
        Family::V6 => {
            if let Some(hop_limit) = bytes.get_mut(l3 + 7) {
                *hop_limit = hop_limit.saturating_sub(1);
            }
        }
    }
}

/// Writes the Ethernet addresses.
#[inline]
pub fn set_link(bytes: &mut [u8], source: Mac, destination: Mac) {
    write(bytes, 0, destination.0);
    write(bytes, 6, source.0);
}

/// The same in headers of a known length, by two stores.
#[inline(always)]
pub fn set_link_words<const N: usize>(head: &mut [u8; N], source: MacWord, destination: MacWord) {
    let (first, rest) = MacWord::link(destination, source);
    head[..8].copy_from_slice(&first);
    head[8..12].copy_from_slice(&rest);
}

/// Cuts off what follows the IP packet: Ethernet padding.
#[inline]
pub fn trim(frame: &mut impl Frame, packet: &Packet) {
    let end = usize::from(packet.end);
    if frame.bytes().len() > end {
        cut(frame, end);
    }
}

/// Makes a frame shorter.
#[inline]
pub fn cut(frame: &mut impl Frame, len: usize) {
    let shrunk = frame.set_len(len);
    debug_assert!(shrunk.is_ok(), "a frame can always be made shorter");
}

/// Replaces the fields at a place; gives the difference that all of it, checksums included, makes to a sum
/// over the packet.
#[inline]
fn replace(bytes: &mut [u8], place: Place, translation: &Translation) -> ChecksumDelta {
    let Place { family, l3, l4, end, fields } = place;
    let (src_at, dst_at) = match family {
        Family::V4 => (l3 + 12, l3 + 16),
        Family::V6 => (l3 + 8, l3 + 24),
    };
    let mut addresses = ChecksumDelta::new();
    let mut ports = ChecksumDelta::new();
    for (endpoint, addr_at, port_at) in
        [(translation.src, src_at, fields.src_port), (translation.dst, dst_at, fields.dst_port)]
    {
        let Some(Endpoint { addr, port }) = endpoint else { continue };
        addresses = replace_addr(bytes, family, addr_at, addr, addresses);
        if let (Some(port), Some(at)) = (port, port_at) {
            ports = replace_u16(bytes, l4 + at, end, port, ports);
        }
    }
    let mut whole = addresses.and(ports);
    if family == Family::V4 {
        whole = whole.and(update_ipv4_checksum(bytes, l3, addresses));
    }
    let covered = if fields.pseudo_header { addresses.and(ports) } else { ports };
    whole.and(update_checksum(bytes, l4, end, fields, covered))
}

/// Replaces an address by one of the same family.
#[inline]
fn replace_addr(
    bytes: &mut [u8],
    family: Family,
    at: usize,
    new: Addr,
    delta: ChecksumDelta,
) -> ChecksumDelta {
    let replaced = match (family, new.as_v4()) {
        (Family::V4, Some(octets)) => exchange(bytes, at, octets)
            .map(|old| delta.replace_u32(u32::from_be_bytes(old), u32::from_be_bytes(octets))),
        (Family::V6, None) => {
            exchange(bytes, at, *new.octets()).map(|old| delta.replace_addr(Addr::v6(old), new))
        }
        _ => None,
    };
    replaced.unwrap_or(delta)
}

/// Replaces a field that ends not behind `end`.
#[inline]
fn replace_u16(bytes: &mut [u8], at: usize, end: usize, new: u16, delta: ChecksumDelta) -> ChecksumDelta {
    if at + 2 > end {
        return delta;
    }
    let old = exchange(bytes, at, new.to_be_bytes()).map(u16::from_be_bytes);
    old.map_or(delta, |old| delta.replace_u16(old, new))
}

/// Brings an IPv4 header checksum up to date; gives the difference that its own change makes.
#[inline]
fn update_ipv4_checksum(bytes: &mut [u8], l3: usize, delta: ChecksumDelta) -> ChecksumDelta {
    let Some(old) = read_u16(bytes, l3 + 10) else { return ChecksumDelta::new() };
    let new = delta.apply(old);
    write(bytes, l3 + 10, new.to_be_bytes());
    ChecksumDelta::new().replace_u16(old, new)
}

/// Brings a transport checksum up to date, if there is one; gives the difference that its own change makes.
#[inline]
fn update_checksum(
    bytes: &mut [u8],
    l4: usize,
    end: usize,
    fields: Fields,
    delta: ChecksumDelta,
) -> ChecksumDelta {
    let at = match fields.checksum {
        Some(offset) if l4 + offset + 2 <= end => l4 + offset,
        _ => return ChecksumDelta::new(),
    };
    let Some(old) = read_u16(bytes, at) else { return ChecksumDelta::new() };
    let new = if fields.optional { delta.apply_udp(old) } else { delta.apply(old) };
    write(bytes, at, new.to_be_bytes());
    ChecksumDelta::new().replace_u16(old, new)
}

#[inline]
pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    wire::chunk(bytes, at).map(|field| u16::from_be_bytes(*field))
}

/// Writes `N` bytes at an offset, if they are there.
#[inline]
pub(super) fn write<const N: usize>(bytes: &mut [u8], at: usize, new: [u8; N]) {
    exchange(bytes, at, new);
}

/// The same, giving what was there before.
#[inline]
pub(super) fn exchange<const N: usize>(bytes: &mut [u8], at: usize, new: [u8; N]) -> Option<[u8; N]> {
    let field = bytes.get_mut(at..)?.first_chunk_mut()?;
    Some(core::mem::replace(field, new))
}

#[cfg(test)]
mod tests;
