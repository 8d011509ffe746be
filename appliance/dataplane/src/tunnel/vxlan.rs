//! The VXLAN header (RFC 7348, 5).
//!
//! ```text
//!  0                   1                   2                   3
//! +---------------+-----------------------------------------------+
//! |R R R R I R R R|                   reserved                    |
//! +---------------+-------------------------------+---------------+
//! |          network identifier (VNI)             |   reserved    |
//! +-----------------------------------------------+---------------+
//! ```

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// The UDP port that IANA gave to VXLAN.
pub const WELL_KNOWN_PORT: u16 = 4789;

/// The header names a network.
pub const FLAG_I: u8 = 0x08;

/// The network identifier; `None` where the I flag is not set. All reserved bits are ignored.
#[inline(always)]
pub const fn vni(header: [u8; HEADER_LEN]) -> Option<u32> {
    let [flags, _, _, _, a, b, c, _] = header;
    if flags & FLAG_I == 0 {
        return None;
    }
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The bits of the network in the second half of a header, its first byte lowest.
pub const NETWORK: u32 = 0x00ff_ffff;

/// The header of a network, its reserved bits zero.
#[inline(always)]
pub const fn header(vni: u32) -> [u8; HEADER_LEN] {
    (FLAG_I as u64 | ((vni << 8).swap_bytes() as u64) << 32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_its_network() {
        for network in [0, 1, 800, 0xff_ffff] {
            assert_eq!(vni(header(network)), Some(network));
        }
        assert_eq!(header(0x01_0203), [8, 0, 0, 0, 1, 2, 3, 0]);
    }

    #[test]
    fn only_the_flag_counts() {
        assert_eq!(vni([0xff, 0xff, 0xff, 0xff, 0, 3, 0x20, 0xff]), Some(800));
        assert_eq!(vni([0xf7, 0, 0, 0, 0, 3, 0x20, 0]), None);
    }
}
