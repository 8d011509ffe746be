//! What the transports have in common: the bytes that an IP packet carries, and whether its checksum can be
//! verified.

use super::chunk;
use super::network::Network;
use crate::addr::Family;
use crate::emit::checksum::Sum;
use crate::verdict::DropReason;

/// The bytes from the transport header to the end of the IP packet: of a whole packet, or of a first
/// fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) bytes: &'a [u8],
    /// Source and destination address, as they stand in the IP header.
    addresses: &'a [u8],
    pub(super) protocol: u8,
    pub(super) family: Family,
    pub(super) ttl: u8,
    pub(super) is_fragment: bool,
    /// See [`Network::fragment_header`].
    pub(super) fragment_header: bool,
    /// The checksum is to be verified. That of a fragment covers bytes that are elsewhere and cannot be.
    verify: bool,
}

impl<'a> Segment<'a> {
    /// What the packet in this frame carries.
    #[inline(always)]
    pub(super) fn new(frame: &'a [u8], network: &Network, verify: bool) -> Option<Self> {
        let addresses = match network.family {
            Family::V4 => network.l3 + 12..network.l3 + 20,
            Family::V6 => network.l3 + 8..network.l3 + 40,
        };
        Some(Self {
            bytes: frame.get(network.l4..network.end)?,
            addresses: frame.get(addresses)?,
            protocol: network.protocol,
            family: network.family,
            ttl: network.ttl,
            is_fragment: network.fragment.is_some(),
            fragment_header: network.fragment_header,
            verify: verify && network.fragment.is_none(),
        })
    }

    /// Why a segment is refused that ends before its header does. A first fragment that is too small hides
    /// the rest of the header from filters (RFC 1858, RFC 3128).
    #[inline]
    pub(super) fn short(&self) -> DropReason {
        if self.is_fragment { DropReason::Fragment } else { DropReason::Malformed }
    }

    /// The first bytes of the header.
    #[inline]
    pub(super) fn header<const N: usize>(&self) -> Result<&'a [u8; N], DropReason> {
        chunk(self.bytes, 0).ok_or_else(|| self.short())
    }

    /// Source and destination of an IPv6 packet.
    #[inline]
    pub(super) fn v6_addresses(&self) -> Option<(&'a [u8; 16], &'a [u8; 16])> {
        Some((chunk(self.addresses, 0)?, chunk(self.addresses, 16)?))
    }

    /// Verifies a checksum that covers the pseudo header (RFC 9293 3.1, RFC 768, RFC 8200 8.1) and these
    /// bytes of the segment.
    #[inline(always)]
    pub(super) fn verify_with_pseudo_header(&self, bytes: &[u8]) -> Result<(), DropReason> {
        if !self.verify {
            return Ok(());
        }
        let sum = Sum::new()
            .add_bytes(self.addresses)
            .add_u16(u16::from(self.protocol))
            .add_u32(bytes.len() as u32)
            .add_bytes(bytes);
        if sum.is_valid() { Ok(()) } else { Err(DropReason::BadChecksum) }
    }

    /// Verifies a checksum that covers the segment alone.
    #[inline]
    pub(super) fn verify(&self) -> Result<(), DropReason> {
        let valid = !self.verify || Sum::new().add_bytes(self.bytes).is_valid();
        if valid { Ok(()) } else { Err(DropReason::BadChecksum) }
    }
}

/// What a transport header says: ports for the flow key, and where its payload is within the segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) header_len: usize,
    pub(super) payload_end: usize,
}
