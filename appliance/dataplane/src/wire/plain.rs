//! The frames that nearly all are: a whole TCP or UDP packet over IPv4 without options, sent to this station.
//!
//! Reads each field once, at an offset that is known beforehand. Only accepts: any other frame, whatever is wrong with it, is for the
//! general functions, which tell why they refuse it. What is accepted here they would have given too.

use super::tcp::{TIMESTAMP_AND_PADDING, TIMESTAMP_AND_PADDING_LEN};
use super::{Cast, ETHERNET_HEADER_LEN, FlowKey, IPV4_HEADER_LEN, Packet, TCP_HEADER_LEN, Tcp, TcpFlags};
use super::{Transport, UDP_HEADER_LEN, ethertype, protocol};
use crate::addr::{Addr, Family, Mac};
use crate::emit::checksum::Sum;
use pmd_shim::{ChecksumStatus, RxOffload};

const L3: usize = ETHERNET_HEADER_LEN;
const ADDRESSES: usize = L3 + 12;
const ADDRESSES_LEN: usize = 8;
const L4: usize = L3 + IPV4_HEADER_LEN;
/// All headers of a TCP segment without options. A datagram has at least as much in a frame that is not shorter than Ethernet's.
const HEADERS: usize = L4 + TCP_HEADER_LEN;

const DONT_FRAGMENT: u16 = 0x4000;

/// The headers' bytes, at offsets in the frame.
struct Headers<'a>(&'a [u8; HEADERS]);

impl Headers<'_> {
    #[inline(always)]
    fn octets<const N: usize, const AT: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= HEADERS) };
        core::array::from_fn(|n| self.0[AT + n])
    }

    #[inline(always)]
    fn u16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes(self.octets::<2, AT>())
    }

    #[inline(always)]
    fn u32<const AT: usize>(&self) -> u32 {
        u32::from_be_bytes(self.octets::<4, AT>())
    }

    /// The Ethernet and IP headers are of the plain kind, and right. Lengths are not looked at.
    #[inline(always)]
    fn are_plain(&self, station: Mac) -> bool {
        const KIND: u32 = (ethertype::IPV4 as u32) << 16 | 0x4500;
        const DIFFERENTIATED_SERVICES: u32 = 0xff;
        let header: &[u8; IPV4_HEADER_LEN] = &self.octets::<IPV4_HEADER_LEN, L3>();
        self.octets::<6, 0>() == station.0
            && !Mac(self.octets::<6, 6>()).is_group()
            && self.u32::<{ L3 - 2 }>() & !DIFFERENTIATED_SERVICES == KIND
            && self.u16::<{ L3 + 6 }>() & !DONT_FRAGMENT == 0
            && Sum::new().add_bytes(header).is_valid()
    }
}

/// What the transport header says.
struct Carried {
    transport: Transport,
    header_len: usize,
}

/// Parses a frame of the plain kind, as [`parse`](super::parse) would. `None` for any other, and for one that is to be dropped.
#[inline(always)]
pub fn plain(bytes: &[u8], offload: RxOffload, station: Mac) -> Option<Packet> {
    let headers = Headers(bytes.first_chunk()?);
    if offload.vlan.is_some() || offload.truncated || !headers.are_plain(station) {
        return None;
    }
    let end = L3 + usize::from(headers.u16::<{ L3 + 2 }>());
    // Both addresses stand directly before the segment: all that the checksum covers, but for two numbers.
    let covered = bytes.get(ADDRESSES..end)?;
    let len = covered.len().checked_sub(ADDRESSES_LEN)?;
    let protocol = headers.0[L3 + 9];
    let (carried, summed) = match protocol {
        protocol::TCP => (tcp(&headers, bytes, len)?, true),
        protocol::UDP => (udp(&headers, len)?, headers.u16::<{ L4 + 6 }>() != 0),
        _ => return None,
    };
    if summed && offload.checksum == ChecksumStatus::Unverified {
        let sum = Sum::new().add_u16(u16::from(protocol)).add_u16(len as u16).add_bytes(covered);
        if !sum.is_valid() {
            return None;
        }
    }
    // The largest frame that the length field allows ends behind what offsets can say.
    let end = u16::try_from(end).ok()?;
    Some(Packet {
        key: FlowKey {
            src: Addr::v4(headers.octets::<4, ADDRESSES>()),
            dst: Addr::v4(headers.octets::<4, { ADDRESSES + 4 }>()),
            src_port: headers.u16::<L4>(),
            dst_port: headers.u16::<{ L4 + 2 }>(),
            protocol,
        },
        family: Family::V4,
        cast: Cast::Unicast,
        ttl: headers.0[L3 + 8],
        dont_fragment: headers.u16::<{ L3 + 6 }>() & DONT_FRAGMENT != 0,
        l3: L3 as u16,
        l4: L4 as u16,
        payload: (L4 + carried.header_len) as u16,
        payload_end: end,
        end,
        fragment: None,
        transport: carried.transport,
    })
}

/// A segment of `len` bytes without options, or with those of nearly all segments.
#[inline(always)]
fn tcp(headers: &Headers<'_>, bytes: &[u8], len: usize) -> Option<Carried> {
    const TIMESTAMPED_LEN: usize = TCP_HEADER_LEN + TIMESTAMP_AND_PADDING_LEN;
    let header_len = usize::from(headers.0[L4 + 12] >> 4) * 4;
    let known = match header_len {
        TCP_HEADER_LEN => true,
        TIMESTAMPED_LEN => bytes.get(HEADERS..)?.starts_with(&TIMESTAMP_AND_PADDING),
        _ => false,
    };
    let flags = TcpFlags(headers.0[L4 + 13]);
    let ports = headers.u16::<L4>() != 0 && headers.u16::<{ L4 + 2 }>() != 0;
    if !known || header_len > len || !ports || flags.impossible() {
        return None;
    }
    let tcp = Tcp {
        seq: headers.u32::<{ L4 + 4 }>(),
        ack: headers.u32::<{ L4 + 8 }>(),
        flags,
        window: headers.u16::<{ L4 + 14 }>(),
        window_scale: None,
    };
    Some(Carried { transport: Transport::Tcp(tcp), header_len })
}

/// A datagram that fills its packet of `len` bytes.
#[inline(always)]
fn udp(headers: &Headers<'_>, len: usize) -> Option<Carried> {
    let length = usize::from(headers.u16::<{ L4 + 4 }>());
    let whole = length == len && length >= UDP_HEADER_LEN && headers.u16::<{ L4 + 2 }>() != 0;
    whole.then_some(Carried { transport: Transport::Udp, header_len: UDP_HEADER_LEN })
}
