//! The outer headers of a packet in a tunnel: Ethernet, IP, UDP, VXLAN (RFC 7348, 5).
//!
//! ```text
//! before            |                 inner Ethernet, IP, …
//! after  Ethernet, IP, UDP, VXLAN  |  inner Ethernet, IP, …
//! ```

use super::checksum::Sum;
use super::headers::{IPV4_LEN, IPV6_LEN, NotWritten, TTL};
use crate::addr::{Addr, Family, Mac, MacWord};
use crate::tunnel::{ecn, vxlan};
use crate::wire::plain::word;
use crate::wire::{ETHERNET_HEADER_LEN, UDP_HEADER_LEN, ethertype, protocol};
use arrayvec::ArrayVec;
use pmd_shim::Frame;

/// What stands in front of the inner frame, over IPv4 and over IPv6.
pub const LEN_V4: usize = ETHERNET_HEADER_LEN + IPV4_LEN + UDP_HEADER_LEN + vxlan::HEADER_LEN;
/// The same over IPv6.
pub const LEN_V6: usize = ETHERNET_HEADER_LEN + IPV6_LEN + UDP_HEADER_LEN + vxlan::HEADER_LEN;

/// The outer ends of a tunnel, of one family, with what their headers always say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    src: Addr,
    dst: Addr,
    family: Family,
    /// Over IPv4: all headers, with what changes left 0.
    template: [u8; LEN_V4],
    /// Over IPv4: the sum of the IP header in it.
    constant: u16,
    /// Datagrams have a checksum: always over IPv6, unless both ends agreed otherwise (RFC 6935); never over IPv4.
    is_summed: bool,
}

/// What all outer headers of a way begin with, over IPv4 as one block, with what is different in each left 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Front {
    head: [u8; LEN_V4],
    /// The sum of the IP header in it, in host order.
    constant: u16,
    /// The bits of the service field that are the inner packet's, and what the others are.
    service: [u8; 2],
    /// Over IPv6 there is no such block.
    pub is_v4: bool,
}

/// What is different in each packet's [`Front`], in words as they stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The Ethernet address of the next hop.
    pub next_hop: MacWord,
    /// Source and destination port.
    pub ports: u32,
    /// The second half of the VXLAN header.
    pub network: u32,
    /// The inner packet's service field.
    pub service: u8,
}

impl Front {
    /// For a way from a port with this Ethernet address. `dscp`: as in [`Path`](crate::tunnel::Path).
    pub fn new(outer: &Outer, station: MacWord, dscp: Option<u8>) -> Self {
        let mut head = outer.template;
        super::rewrite::set_link_words(&mut head, station, Mac::default().into());
        put(&mut head, LEN_V4 - vxlan::HEADER_LEN, vxlan::header(0));
        let service = dscp.map_or([u8::MAX, 0], |dscp| [ecn::FIELD, dscp << 2]);
        let constant = u16::from_be(outer.constant);
        Self { head, constant, service, is_v4: outer.family == Family::V4 }
    }

    /// Writes the headers over the first bytes of a frame whose IP packet has `total` bytes with them.
    #[inline(always)]
    pub fn write(&self, head: &mut [u8; LEN_V4], difference: &Difference, total: u16) {
        const IP: usize = ETHERNET_HEADER_LEN;
        const UDP: usize = IP + IPV4_LEN;
        let [kept, set] = self.service;
        let service = difference.service & kept | set;
        let sum = u32::from(self.constant) + u32::from(total) + u32::from(service);
        // Both halves added, the carry too.
        let checksum = !(sum.wrapping_add(sum.rotate_right(16)) >> 16) as u16;
        *head = self.head;
        // The destination is 0 in it.
        put(head, 0, (word(&self.head, 0) | difference.next_hop.word()).to_le_bytes());
        put(head, IP + 1, [service]);
        put(head, IP + 2, total.to_be_bytes());
        put(head, IP + 10, checksum.to_be_bytes());
        put(head, UDP, difference.ports.to_le_bytes());
        put(head, UDP + 4, total.wrapping_sub(IPV4_LEN as u16).to_be_bytes());
        put(head, UDP + UDP_HEADER_LEN + 4, difference.network.to_le_bytes());
    }
}

/// What is different in each packet's outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The network.
    pub vni: u32,
    /// The UDP port that the other end listens on.
    pub udp_port: u16,
    /// The UDP port that tells flows apart.
    pub source_port: u16,
    /// Differentiated services codepoint and ECN field.
    pub service: u8,
}

impl Outer {
    /// From one end to the other, which is of the same family.
    pub fn new(src: Addr, dst: Addr, is_summed: bool) -> Self {
        let family = src.family();
        let mut template = [0; LEN_V4];
        put(&mut template, ETHERNET_HEADER_LEN - 2, ethertype::IPV4.to_be_bytes());
        // An atomic packet (RFC 6864): never fragmented, identification 0.
        const DONT_FRAGMENT: u8 = 0x40;
        let ([.., s0, s1, s2, s3], [.., d0, d1, d2, d3]) = (*src.octets(), *dst.octets());
        let fixed = [0x45, 0, 0, 0, 0, 0, DONT_FRAGMENT, 0, TTL, protocol::UDP, 0, 0];
        put(&mut template, ETHERNET_HEADER_LEN, fixed);
        put(&mut template, ETHERNET_HEADER_LEN + fixed.len(), [s0, s1, s2, s3, d0, d1, d2, d3]);
        let constant = Sum::new().add_bytes(&template[ETHERNET_HEADER_LEN..][..IPV4_LEN]).folded();
        Self { src, dst, family, template, constant, is_summed: is_summed && family == Family::V6 }
    }

    /// How many bytes stand in front of the inner frame; by as many the outer IP packet is longer than the inner one, since both frames
    /// have an Ethernet header.
    #[inline(always)]
    pub const fn overhead(&self) -> usize {
        match self.family {
            Family::V4 => LEN_V4,
            Family::V6 => LEN_V6,
        }
    }

    /// These are its ends.
    pub(crate) fn is_between(&self, src: Addr, dst: Addr) -> bool {
        self.src == src && self.dst == dst
    }

    /// The length of the outer IP header in bytes.
    #[inline(always)]
    pub(super) const fn ip_len(&self) -> usize {
        match self.family {
            Family::V4 => IPV4_LEN,
            Family::V6 => IPV6_LEN,
        }
    }

    /// Writes the headers in front of a datagram's payload, Ethernet, IP and UDP, without its checksum.
    pub(super) fn write<const N: usize>(
        &self,
        head: &mut ArrayVec<u8, N>,
        label: &Label,
        datagram_len: u16,
        link: (MacWord, MacWord),
    ) -> Result<(), NotWritten> {
        let mut link_and_ip = [0; ETHERNET_HEADER_LEN + IPV6_LEN];
        match self.family {
            Family::V4 => {
                let total = datagram_len.checked_add(IPV4_LEN as u16).ok_or(NotWritten)?;
                write_v4(&mut link_and_ip, self, label, total, link);
            }
            Family::V6 => write_v6(&mut link_and_ip, self, label, datagram_len, link),
        }
        let link_and_ip = link_and_ip.get(..ETHERNET_HEADER_LEN + self.ip_len()).ok_or(NotWritten)?;
        for part in [link_and_ip, &udp(label, datagram_len)] {
            head.try_extend_from_slice(part).map_err(|_| NotWritten)?;
        }
        Ok(())
    }

    /// Writes the checksum of the datagram in a frame, where it has one.
    #[inline(always)]
    pub(super) fn sum(&self, bytes: &mut [u8], datagram_len: u16) {
        if self.is_summed {
            sum_datagram(bytes, self, datagram_len);
        }
    }

    /// The appliance's own end.
    pub const fn source(&self) -> Addr {
        self.src
    }

    /// The other end.
    pub const fn destination(&self) -> Addr {
        self.dst
    }
}

/// Puts the outer headers in front of a frame; `link` are the next hop's and the port's own Ethernet address.
///
/// # Errors
/// [`NotWritten`] when there is no room in front, or the packet would be longer than IP can say; the frame is unchanged.
#[inline(always)]
pub fn encapsulate<F: Frame>(
    frame: &mut F,
    outer: &Outer,
    label: &Label,
    link: (MacWord, MacWord),
) -> Result<(), NotWritten> {
    let inner_len = frame.bytes().len();
    let datagram_len = inner_len + UDP_HEADER_LEN + vxlan::HEADER_LEN;
    let datagram_len = u16::try_from(datagram_len).map_err(|_| NotWritten)?;
    match outer.family {
        Family::V4 => {
            let total = datagram_len.checked_add(IPV4_LEN as u16).ok_or(NotWritten)?;
            frame.push_front(LEN_V4).map_err(|_| NotWritten)?;
            if let Some(head) = frame.bytes_mut().first_chunk_mut::<LEN_V4>() {
                write_v4(head, outer, label, total, link);
                write_udp(head, ETHERNET_HEADER_LEN + IPV4_LEN, label, datagram_len);
            }
        }
        Family::V6 => {
            frame.push_front(LEN_V6).map_err(|_| NotWritten)?;
            if let Some(head) = frame.bytes_mut().first_chunk_mut::<LEN_V6>() {
                write_v6(head, outer, label, datagram_len, link);
                write_udp(head, ETHERNET_HEADER_LEN + IPV6_LEN, label, datagram_len);
            }
            outer.sum(frame.bytes_mut(), datagram_len);
        }
    }
    Ok(())
}

#[inline(always)]
fn write_v4<const N: usize>(
    head: &mut [u8; N],
    outer: &Outer,
    label: &Label,
    total: u16,
    link: (MacWord, MacWord),
) {
    const IP: usize = ETHERNET_HEADER_LEN;
    head[..LEN_V4].copy_from_slice(&outer.template);
    let changing = u64::from(u16::from_ne_bytes([0, label.service])) + u64::from(total.to_be());
    let checksum = !Sum::new().add_word(u64::from(outer.constant) + changing).folded();
    super::rewrite::set_link_words(head, link.1, link.0);
    put(head, IP + 1, [label.service]);
    put(head, IP + 2, total.to_be_bytes());
    put(head, IP + 10, checksum.to_ne_bytes());
}

#[inline(always)]
fn write_v6<const N: usize>(
    head: &mut [u8; N],
    outer: &Outer,
    label: &Label,
    len: u16,
    link: (MacWord, MacWord),
) {
    write_link(head, link, ethertype::IPV6);
    let ip = &mut head[ETHERNET_HEADER_LEN..];
    // The flow label tells flows apart too (RFC 6438): it is the source port's, and never 0.
    let first = 6 << 28 | u32::from(label.service) << 20 | u32::from(label.source_port);
    ip[..4].copy_from_slice(&first.to_be_bytes());
    ip[4..6].copy_from_slice(&len.to_be_bytes());
    ip[6..8].copy_from_slice(&[protocol::UDP, TTL]);
    ip[8..24].copy_from_slice(outer.src.octets());
    ip[24..40].copy_from_slice(outer.dst.octets());
}

#[inline(always)]
fn write_link<const N: usize>(head: &mut [u8; N], (to, from): (MacWord, MacWord), kind: u16) {
    super::rewrite::set_link_words(head, from, to);
    head[ETHERNET_HEADER_LEN - 2..ETHERNET_HEADER_LEN].copy_from_slice(&kind.to_be_bytes());
}

/// The UDP and VXLAN headers, without a checksum (RFC 7348, 5: SHOULD be zero).
#[inline(always)]
fn write_udp<const N: usize>(head: &mut [u8; N], at: usize, label: &Label, len: u16) {
    put(head, at, udp(label, len));
    put(head, at + UDP_HEADER_LEN, vxlan::header(label.vni));
}

#[inline(always)]
fn put<const N: usize, const LEN: usize>(head: &mut [u8; N], at: usize, bytes: [u8; LEN]) {
    head[at..at + LEN].copy_from_slice(&bytes);
}

#[inline(always)]
fn udp(label: &Label, len: u16) -> [u8; UDP_HEADER_LEN] {
    let [from, to, len] = [label.source_port, label.udp_port, len].map(|field| u64::from(field.swap_bytes()));
    (from | to << 16 | len << 32).to_le_bytes()
}

/// Writes the checksum of the datagram over IPv6, which is not 0 (RFC 8200, 8.1).
#[inline(never)]
fn sum_datagram(bytes: &mut [u8], outer: &Outer, len: u16) {
    const UDP: usize = ETHERNET_HEADER_LEN + IPV6_LEN;
    let Some(datagram) = bytes.get_mut(UDP..) else { return };
    let sum = super::checksum::pseudo_header(&outer.src, &outer.dst, protocol::UDP, len.into());
    let checksum = match sum.add_bytes(datagram).checksum() {
        0 => 0xffff,
        sum => sum,
    };
    if let Some(field) = datagram.get_mut(6..8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}
