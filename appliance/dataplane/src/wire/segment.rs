//! What the transports have in common: the bytes that an IP packet carries, and whether its checksum can be verified.

use super::chunk;
use super::network::Network;
use crate::emit::checksum::{Sum, pseudo_header};
use crate::verdict::DropReason;

/// The bytes from the transport header to the end of the IP packet: of a whole packet, or of a first fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) network: &'a Network,
    /// The checksum is to be verified. That of a fragment covers bytes that are elsewhere and cannot be.
    verify: bool,
}

impl<'a> Segment<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], network: &'a Network, verify: bool) -> Self {
        Self { bytes, network, verify: verify && network.fragment.is_none() }
    }

    /// Why a segment is refused that ends before its header does. A first fragment that is too small hides the rest of the
    /// header from filters (RFC 1858, RFC 3128).
    #[inline]
    pub(super) fn short(&self) -> DropReason {
        if self.is_fragment() { DropReason::Fragment } else { DropReason::Malformed }
    }

    #[inline]
    pub(super) fn is_fragment(&self) -> bool {
        self.network.fragment.is_some()
    }

    /// The first bytes of the header.
    #[inline]
    pub(super) fn header<const N: usize>(&self) -> Result<&'a [u8; N], DropReason> {
        chunk(self.bytes, 0).ok_or_else(|| self.short())
    }

    /// Verifies a checksum that covers the pseudo header and these bytes of the segment.
    #[inline]
    pub(super) fn verify_with_pseudo_header(&self, bytes: &[u8]) -> Result<(), DropReason> {
        if !self.verify {
            return Ok(());
        }
        let Network { src, dst, protocol, .. } = self.network;
        let sum = pseudo_header(src, dst, *protocol, bytes.len()).add_bytes(bytes);
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
