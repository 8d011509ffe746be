//! Reading the packet of a receive slot: the kernel's layout, nothing of its meaning.

use super::vnet::{VNET_HEADER_LEN, VnetHeader};

/// Where a slot's status word is (`struct tpacket2_hdr`).
pub(super) const STATUS: usize = 0;
/// Where the kernel puts the frame at the latest, behind its own header, an address and the header of [`super::vnet`].
pub(super) const FRAME_MAX: usize = (libc::TPACKET2_HDRLEN + 16).next_multiple_of(16) + VNET_HEADER_LEN;

/// Bytes of a slot's header that are used.
const HEADER: usize = 28;

/// A packet in a slot.
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
}

impl<'a> Packet<'a> {
    /// The packet of a slot; `None` if it does not lie in the slot.
    #[inline]
    pub(super) fn read(slot: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER] = slot.first_chunk()?;
        let kept = u32_at(header, 8)? as usize;
        let mac = usize::from(u16_at(header, 12)?);
        let bytes = slot.get(mac..mac.checked_add(kept)?)?;
        let vnet = slot.get(mac.checked_sub(VNET_HEADER_LEN)?..)?.first_chunk()?;
        Some(Self {
            bytes,
            truncated: u32_at(header, 4)? as usize > kept,
            vnet: VnetHeader::parse(vnet),
            status: u32_at(header, STATUS)?,
            vlan_tci: u16_at(header, 24)?,
            vlan_tpid: u16_at(header, 26)?,
        })
    }

    /// The same packet with all its bytes, of which the slot had only the first.
    pub(super) fn with_bytes(self, bytes: &'a [u8], truncated: bool) -> Self {
        Self { bytes, truncated, ..self }
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
        let header = [
            offset_of!(libc::tpacket2_hdr, tp_status),
            offset_of!(libc::tpacket2_hdr, tp_len),
            offset_of!(libc::tpacket2_hdr, tp_snaplen),
            offset_of!(libc::tpacket2_hdr, tp_mac),
            offset_of!(libc::tpacket2_hdr, tp_vlan_tci),
            offset_of!(libc::tpacket2_hdr, tp_vlan_tpid),
        ];
        assert_eq!(header, [STATUS, 4, 8, 12, 24, 26]);
    }

    #[test]
    fn a_packet_outside_of_its_slot_is_not_read() {
        let mut slot = vec![0u8; 200];
        let mut packet = |mac: u16, kept: u32| {
            slot[8..12].copy_from_slice(&kept.to_ne_bytes());
            slot[12..14].copy_from_slice(&mac.to_ne_bytes());
            Packet::read(&slot).map(|packet| packet.bytes.len())
        };
        assert_eq!(packet(100, 100), Some(100));
        for (mac, kept) in [(100, 101), (9, 10), (201, 0), (200, u32::MAX), (u16::MAX, 1)] {
            assert_eq!(packet(mac, kept), None);
        }
        assert!(Packet::read(&[0; HEADER - 1]).is_none());
    }
}
