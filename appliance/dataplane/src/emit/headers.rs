//! The headers of packets that the appliance writes by itself.

use super::checksum::Sum;
use crate::addr::{Addr, Mac};
use pmd_shim::Frame;

/// A packet could not be written: the frame's buffer is too small, an address is of the wrong family, or the frame does
/// not hold what is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten;

/// The time to live and hop limit of what the appliance sends beyond the link (RFC 1700's default).
pub(super) const TTL: u8 = 64;

/// Length of the Ethernet header in bytes.
pub(super) const ETHERNET_LEN: usize = 14;
/// Length of the IPv4 header without options in bytes.
pub(super) const IPV4_LEN: usize = 20;
/// Length of the IPv6 header in bytes.
pub(super) const IPV6_LEN: usize = 40;

/// Writes parts one behind the other; what does not fit is left out.
pub(super) fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut whole = [0; N];
    for (to, from) in whole.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    whole
}

/// Makes the frame this packet.
pub(super) fn put<F: Frame, const N: usize>(frame: &mut F, packet: &[u8; N]) -> Result<(), NotWritten> {
    frame.set_len(N).map_err(|_| NotWritten)?;
    frame.bytes_mut().copy_from_slice(packet);
    Ok(())
}

/// An Ethernet header.
pub(super) fn ethernet(dst: Mac, src: Mac, ethertype: u16) -> [u8; ETHERNET_LEN] {
    concat(&[&dst.0, &src.0, &ethertype.to_be_bytes()])
}

/// An IPv4 header for a payload of so many bytes. The packet is atomic (RFC 6864): never fragmented, identification 0. Its precedence
/// is that of network control, as RFC 1812, 4.3.2.5 wants it for ICMP errors.
pub(super) fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload_len: u16) -> [u8; IPV4_LEN] {
    const PRECEDENCE_INTERNETWORK_CONTROL: u8 = 0xc0;
    ipv4_of(PRECEDENCE_INTERNETWORK_CONTROL, src, dst, protocol, payload_len)
}

/// The same without precedence, as hosts send segments.
#[inline(always)]
pub(super) fn ipv4_plain(src: [u8; 4], dst: [u8; 4], protocol: u8, payload_len: u16) -> [u8; IPV4_LEN] {
    ipv4_of(0, src, dst, protocol, payload_len)
}

#[inline(always)]
fn ipv4_of(service: u8, src: [u8; 4], dst: [u8; 4], protocol: u8, payload_len: u16) -> [u8; IPV4_LEN] {
    const DONT_FRAGMENT: u8 = 0x40;
    let [high, low] = (IPV4_LEN as u16 + payload_len).to_be_bytes();
    let ([a, b, c, d], [e, f, g, h]) = (src, dst);
    let mut header =
        [0x45, service, high, low, 0, 0, DONT_FRAGMENT, 0, TTL, protocol, 0, 0, a, b, c, d, e, f, g, h];
    let checksum = Sum::new().add_bytes(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// An IPv6 header for a payload of so many bytes.
pub(super) fn ipv6(src: &Addr, dst: &Addr, next: u8, hop_limit: u8, payload_len: u16) -> [u8; IPV6_LEN] {
    concat(&[&[0x60, 0, 0, 0], &payload_len.to_be_bytes(), &[next, hop_limit], src.octets(), dst.octets()])
}
