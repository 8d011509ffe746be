//! TCP segments and ICMP errors as the check reads them: byte by byte, with every checksum.

use crate::packet::checksum;
use std::net::IpAddr;

/// A TCP segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ports: (u16, u16),
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) data: Vec<u8>,
}

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The number of four bytes at a place.
pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Header length, protocol and the two addresses' bytes of an IP packet without extensions.
fn ip(packet: &[u8]) -> (usize, u8, &[u8]) {
    match packet[0] >> 4 {
        4 => (20, packet[9], &packet[12..20]),
        _ => (40, packet[6], &packet[8..40]),
    }
}

/// Who sent an IP packet, and to whom.
pub(super) fn ends(packet: &[u8]) -> (IpAddr, IpAddr) {
    let (_, _, addresses) = ip(packet);
    let (src, dst) = addresses.split_at(addresses.len() / 2);
    let address = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("16 bytes")),
    };
    (address(src), address(dst))
}

/// How long an IP packet says that it is.
fn len(packet: &[u8]) -> usize {
    match packet[0] >> 4 {
        4 => usize::from(word(packet, 2)),
        _ => 40 + usize::from(word(packet, 4)),
    }
}

/// The IP packet of a frame.
pub(super) fn packet(frame: &[u8]) -> &[u8] {
    let packet = &frame[14..];
    &packet[..len(packet)]
}

/// What the transport's checksum comes to with everything that it covers: 0 where it is right.
fn transport_sum(packet: &[u8]) -> u16 {
    let (len, protocol, addresses) = ip(packet);
    let segment = &packet[len..];
    let rest = [&(segment.len() as u32).to_be_bytes()[..], &[0, 0, 0, protocol]].concat();
    match protocol {
        1 => checksum(&[segment]),
        _ => checksum(&[addresses, &rest, segment]),
    }
}

/// Every checksum of a packet is right, those of what an error quotes included as far as it is there.
///
/// # Panics
/// When one is wrong.
pub(super) fn check_sums(packet: &[u8]) {
    let (header, protocol, _) = ip(packet);
    if packet[0] >> 4 == 4 {
        assert_eq!(checksum(&[&packet[..20]]), 0, "header checksum");
    }
    assert_eq!(transport_sum(packet), 0, "checksum of the transport");
    if matches!(protocol, 1 | 58) {
        let quoted = &packet[header + 8..];
        if quoted[0] >> 4 == 4 {
            assert_eq!(checksum(&[&quoted[..20]]), 0, "header checksum of what is quoted");
        }
        if quoted.len() >= len(quoted) {
            assert_eq!(transport_sum(&quoted[..len(quoted)]), 0, "checksum of what is quoted");
        }
    }
}

/// The segment in a packet; `None` where it is none.
pub(super) fn segment(packet: &[u8]) -> Option<Segment> {
    let (header, protocol, _) = ip(packet);
    if protocol != 6 {
        return None;
    }
    let (src, dst) = ends(packet);
    let tcp = &packet[header..];
    let (options, data) = tcp[20..].split_at(usize::from(tcp[12] >> 4) * 4 - 20);
    Some(Segment {
        src,
        dst,
        ports: (word(tcp, 0), word(tcp, 2)),
        seq: number(tcp, 4),
        ack: number(tcp, 8),
        flags: tcp[13],
        window: word(tcp, 14),
        options: options.to_vec(),
        data: data.to_vec(),
    })
}

/// The sequence number that an ICMP error quotes.
pub(super) fn quoted_seq(packet: &[u8]) -> u32 {
    let quoted = &packet[ip(packet).0 + 8..];
    number(quoted, ip(quoted).0 + 4)
}

impl Segment {
    /// Whether all of these control bits are set.
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// It opens a connection.
    pub(super) fn is_first(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// Sequence numbers that it takes.
    pub(super) fn len(&self) -> u32 {
        self.data.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// Offset, kind and length of each option, up to what cannot be read.
    pub(super) fn walk(&self) -> Vec<(usize, u8, usize)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(&kind) = self.options.get(at) {
            match kind {
                0 => break,
                1 => at += 1,
                _ => {
                    let len = self.options.get(at + 1).map_or(0, |len| usize::from(*len));
                    if len < 2 || at + len > self.options.len() {
                        break;
                    }
                    found.push((at, kind, len));
                    at += len;
                }
            }
        }
        found
    }

    /// The content of the last option of this kind and length.
    pub(super) fn option(&self, kind: u8, len: usize) -> Option<&[u8]> {
        let found = self.walk().into_iter().rfind(|option| (option.1, option.2) == (kind, len));
        found.map(|(at, ..)| &self.options[at + 2..at + len])
    }

    /// Value and echo of the timestamps.
    pub(super) fn timestamps(&self) -> Option<(u32, u32)> {
        self.option(8, 10).map(|bytes| (number(bytes, 0), number(bytes, 4)))
    }

    /// The largest segment that its sender takes.
    pub(super) fn mss(&self) -> Option<u16> {
        self.option(2, 4).map(|bytes| word(bytes, 0))
    }

    /// It has no options but these.
    pub(super) fn only(&self, kinds: &[u8]) -> bool {
        self.walk().iter().all(|(_, kind, _)| kinds.contains(kind))
    }
}
