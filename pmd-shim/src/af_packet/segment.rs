//! Cutting a segmentation that the kernel left whole into the frames that a wire would carry.
//!
//! A pure function over slices: it finds the headers once, then writes any segment on its own. A tunnel's inner segmentation
//! is not cut up; [`Segmentation::new`] refuses it.

use super::checksum::Sum;
use super::vnet::Gso;
use core::ops::Range;

const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
const IPV6: usize = 40;
const UDP: usize = 8;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// A frame too long for the wire and where its parts are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segmentation {
    /// Where the IP header starts.
    ip: usize,
    is_ipv6: bool,
    /// Where the transport header starts.
    transport: usize,
    is_tcp: bool,
    /// Where the payload starts and where it ends.
    payload: usize,
    end: usize,
    /// Payload of each segment but the last.
    size: usize,
}

impl Segmentation {
    /// Finds the headers of a frame whose payload is to be cut into `size` bytes each. `transport` is where the transport header
    /// starts, if the kernel said so. `None` if the frame is not what `gso` says it is.
    pub(super) fn new(frame: &[u8], gso: Gso, size: usize, transport: Option<usize>) -> Option<Self> {
        let (ip, ether_type) = network_header(frame)?;
        let header = frame.get(ip..)?;
        let (is_ipv6, protocol, default_transport) = match (ether_type, header.first()? >> 4) {
            (0x0800, 4) => {
                let len = usize::from(header.first()? & 0xf) * 4;
                (false, *header.get(9)?, ip + len.max(20))
            }
            (0x86dd, 6) => (true, *header.get(6)?, ip + IPV6),
            _ => return None,
        };
        let transport = transport.unwrap_or(default_transport);
        let wanted = if gso == Gso::Tcp { PROTOCOL_TCP } else { PROTOCOL_UDP };
        // Extension headers stand between an IPv6 header and its transport. Anything else in between is a tunnel, and a routing header
        // hides the address that the checksum covers.
        let direct = transport == default_transport && protocol == wanted;
        let extended = is_ipv6 && transport > default_transport && !matches!(protocol, 4 | 17 | 41 | 43 | 47);
        if !(direct || extended) || size == 0 {
            return None;
        }
        let header_len = match gso {
            Gso::Tcp => usize::from(frame.get(transport + 12)? >> 4) * 4,
            Gso::Udp => UDP,
            Gso::None | Gso::Unknown => return None,
        };
        if gso == Gso::Tcp && header_len < 20 {
            return None;
        }
        let payload = transport + header_len;
        let is_tcp = gso == Gso::Tcp;
        (payload <= frame.len()).then_some(Self {
            ip,
            is_ipv6,
            transport,
            is_tcp,
            payload,
            end: frame.len(),
            size,
        })
    }

    /// How many segments there are; at least 1.
    pub(super) fn count(&self) -> usize {
        (self.end - self.payload).div_ceil(self.size).max(1)
    }

    /// The part of the payload that segment `index` carries.
    fn part(&self, index: usize) -> Range<usize> {
        let start = (self.payload + index * self.size).min(self.end);
        start..(start + self.size).min(self.end)
    }

    /// How long segment `index` is, with all headers, in bytes.
    pub(super) fn len(&self, index: usize) -> usize {
        self.payload + self.part(index).len()
    }

    /// Writes segment `index` of `frame`, the frame that was given to [`new`](Self::new), into `out`, which is
    /// [`len`](Self::len) long. Returns false, with `out` unspecified, if it is not, or a length does not fit its field.
    pub(super) fn write(&self, frame: &[u8], index: usize, out: &mut [u8]) -> bool {
        self.try_write(frame, index, out).is_some()
    }

    fn try_write(&self, frame: &[u8], index: usize, out: &mut [u8]) -> Option<()> {
        let part = self.part(index);
        if out.len() != self.payload + part.len() {
            return None;
        }
        let (headers, data) = out.split_at_mut_checked(self.payload)?;
        headers.copy_from_slice(frame.get(..self.payload)?);
        data.copy_from_slice(frame.get(part)?);
        let network_len = u16::try_from(out.len() - self.ip).ok()?;
        if self.is_ipv6 {
            put(out, self.ip + 4, (network_len - IPV6 as u16).to_be_bytes())?;
        } else {
            self.write_ipv4(out, index, network_len)?;
        }
        self.write_transport(out, index)
    }

    /// Total length, identification (counting up, RFC 6864) and header checksum.
    fn write_ipv4(&self, out: &mut [u8], index: usize, network_len: u16) -> Option<()> {
        put(out, self.ip + 2, network_len.to_be_bytes())?;
        let id = u16::from_be_bytes(take(out, self.ip + 4)?).wrapping_add(index as u16);
        put(out, self.ip + 4, id.to_be_bytes())?;
        put(out, self.ip + 10, [0, 0])?;
        let checksum = Sum::default().add(out.get(self.ip..self.transport)?).finish();
        put(out, self.ip + 10, checksum)
    }

    fn write_transport(&self, out: &mut [u8], index: usize) -> Option<()> {
        let transport_len = out.len() - self.transport;
        let checksum_field = if self.is_tcp {
            let at = self.transport;
            let sequence = u32::from_be_bytes(take(out, at + 4)?).wrapping_add((index * self.size) as u32);
            put(out, at + 4, sequence.to_be_bytes())?;
            let [mut flags] = take(out, at + 13)?;
            if index + 1 < self.count() {
                flags &= !(FIN | PSH);
            }
            if index > 0 {
                // Congestion window reduced is said once (RFC 3168, section 6.1.2).
                flags &= !CWR;
            }
            put(out, at + 13, [flags])?;
            at + 16
        } else {
            put(out, self.transport + 4, u16::try_from(transport_len).ok()?.to_be_bytes())?;
            self.transport + 6
        };
        put(out, checksum_field, [0, 0])?;
        let addresses = if self.is_ipv6 { self.ip + 8..self.ip + 40 } else { self.ip + 12..self.ip + 20 };
        let protocol = if self.is_tcp { PROTOCOL_TCP } else { PROTOCOL_UDP };
        let checksum = Sum::default()
            .add(out.get(addresses)?)
            .add_u32(transport_len as u32)
            .add_u32(u32::from(protocol))
            .add(out.get(self.transport..)?)
            .finish_transport();
        put(out, checksum_field, checksum)
    }
}

/// Where the network header starts, behind at most two VLAN tags, and its EtherType.
fn network_header(frame: &[u8]) -> Option<(usize, u16)> {
    let mut at = ETHERNET;
    for _ in 0..=2 {
        let ether_type = u16::from_be_bytes(take(frame, at - 2)?);
        if !matches!(ether_type, 0x8100 | 0x88a8) {
            return Some((at, ether_type));
        }
        at += VLAN_TAG;
    }
    None
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
