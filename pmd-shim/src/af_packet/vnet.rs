//! What the kernel says of a frame that is not finished: checksum and segmentation (`struct virtio_net_hdr`).

/// Bytes of the header in front of each frame.
pub(super) const VNET_HEADER_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_ECN: u8 = 0x80;

/// How a frame is to be cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gso {
    /// Not at all.
    None,
    /// TCP, over IPv4 or IPv6.
    Tcp,
    /// UDP datagrams of equal size, one behind the other.
    Udp,
    /// In a way that is not known here.
    Unknown,
}

/// The header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VnetHeader {
    /// The transport checksum is unfinished: it starts here, and its field is that far behind (bytes).
    pub(super) partial_checksum: Option<(usize, usize)>,
    /// The transport checksum was verified.
    pub(super) checksum_valid: bool,
    pub(super) gso: Gso,
    /// Payload of a segment, in bytes.
    pub(super) gso_size: usize,
}

impl VnetHeader {
    /// Reads the ten bytes, which are in this machine's byte order.
    pub(super) fn parse(bytes: &[u8; VNET_HEADER_LEN]) -> Self {
        let [flags, gso_type, _, _, size0, size1, start0, start1, offset0, offset1] = *bytes;
        let number = |low, high| usize::from(u16::from_ne_bytes([low, high]));
        let gso = match gso_type & !GSO_ECN {
            0 => Gso::None,
            1 | 4 => Gso::Tcp,
            5 => Gso::Udp,
            _ => Gso::Unknown,
        };
        Self {
            partial_checksum: (flags & NEEDS_CHECKSUM != 0)
                .then(|| (number(start0, start1), number(offset0, offset1))),
            checksum_valid: flags & DATA_VALID != 0,
            gso,
            gso_size: number(size0, size1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_field() {
        let mut bytes = [0; VNET_HEADER_LEN];
        bytes[0] = 1;
        bytes[1] = 0x84;
        bytes[4..6].copy_from_slice(&1440u16.to_ne_bytes());
        bytes[6..8].copy_from_slice(&54u16.to_ne_bytes());
        bytes[8..10].copy_from_slice(&16u16.to_ne_bytes());
        let want = VnetHeader {
            partial_checksum: Some((54, 16)),
            checksum_valid: false,
            gso: Gso::Tcp,
            gso_size: 1440,
        };
        assert_eq!(VnetHeader::parse(&bytes), want);
        let plain = VnetHeader::parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((plain.partial_checksum, plain.checksum_valid, plain.gso), (None, true, Gso::None));
    }
}
