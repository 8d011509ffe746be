//! Reading the packets of a receive block: the kernel's layout, nothing of its meaning.

use super::vnet::{VNET_HEADER_LEN, VnetHeader};

/// Where a block's status word is, and what it counts (`struct tpacket_block_desc`).
pub(super) const STATUS: usize = 8;
const PACKETS: usize = 12;
const FIRST_PACKET: usize = 16;

/// Bytes of a packet's header that are used (`struct tpacket3_hdr`).
const HEADER: usize = 38;

/// How many packets a block has and where the first is.
pub(super) fn contents(block: &[u8]) -> Option<(u32, usize)> {
    let packets = u32_at(block, PACKETS)?;
    let first = u32_at(block, FIRST_PACKET)? as usize;
    Some((packets, first))
}

/// A packet in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// What was kept of it, from the Ethernet header on.
    pub(super) bytes: &'a [u8],
    /// It was longer than that.
    pub(super) truncated: bool,
    pub(super) vnet: VnetHeader,
    /// Flags `TP_STATUS_*`.
    pub(super) status: u32,
    pub(super) vlan_tci: u16,
    pub(super) vlan_tpid: u16,
    /// Where the next packet of the block is.
    pub(super) next: usize,
}

impl<'a> Packet<'a> {
    /// The packet at `offset`; `None` if it does not lie in the block.
    #[inline]
    pub(super) fn at(block: &'a [u8], offset: usize) -> Option<Self> {
        let header: &[u8; HEADER] = block.get(offset..)?.first_chunk()?;
        let kept = u32_at(header, 12)? as usize;
        let mac = offset + usize::from(u16_at(header, 24)?);
        let bytes = block.get(mac..mac.checked_add(kept)?)?;
        let vnet = block.get(mac.checked_sub(VNET_HEADER_LEN)?..)?.first_chunk()?;
        Some(Self {
            bytes,
            truncated: u32_at(header, 16)? as usize > kept,
            vnet: VnetHeader::parse(vnet),
            status: u32_at(header, 20)?,
            vlan_tci: u32_at(header, 32)? as u16,
            vlan_tpid: u16_at(header, 36)?,
            next: offset + u32_at(header, 0)? as usize,
        })
    }
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(
            STATUS,
            offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status)
        );
        assert_eq!(
            PACKETS,
            offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, num_pkts)
        );
        let first = offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt);
        assert_eq!(FIRST_PACKET, offset_of!(libc::tpacket_block_desc, hdr) + first);
        let header = [
            offset_of!(libc::tpacket3_hdr, tp_next_offset),
            offset_of!(libc::tpacket3_hdr, tp_snaplen),
            offset_of!(libc::tpacket3_hdr, tp_len),
            offset_of!(libc::tpacket3_hdr, tp_status),
            offset_of!(libc::tpacket3_hdr, tp_mac),
            offset_of!(libc::tpacket3_hdr, hv1) + offset_of!(libc::tpacket_hdr_variant1, tp_vlan_tci),
            offset_of!(libc::tpacket3_hdr, hv1) + offset_of!(libc::tpacket_hdr_variant1, tp_vlan_tpid),
        ];
        assert_eq!(header, [0, 12, 16, 20, 24, 32, 36]);
    }

    #[test]
    fn a_packet_outside_of_its_block_is_not_read() {
        let mut block = vec![0u8; 200];
        block[60..64].copy_from_slice(&100u32.to_ne_bytes());
        block[72..74].copy_from_slice(&52u16.to_ne_bytes());
        assert_eq!(Packet::at(&block, 48).unwrap().bytes.len(), 100);
        block[60..64].copy_from_slice(&101u32.to_ne_bytes());
        assert!(Packet::at(&block, 48).is_none());
        for offset in [163, 200, 1000] {
            assert!(Packet::at(&block, offset).is_none());
        }
    }
}
