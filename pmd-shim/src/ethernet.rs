//! How long a frame is in relation to the network packet in it.

/// Ethernet header without a tag.
pub(crate) const HEADER: usize = 14;
/// Ethernet header with a VLAN tag.
pub(crate) const HEADER_MAX: usize = 18;

/// How long the frame's link header is, its VLAN tag included (IEEE 802.1Q, 802.1ad).
#[inline]
pub(crate) fn header_len(frame: &[u8]) -> usize {
    let is_tagged = matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
    if is_tagged { HEADER_MAX } else { HEADER }
}

/// Whether a frame is one that a link of this MTU carries.
#[inline]
pub(crate) fn fits(frame: &[u8], mtu: usize) -> bool {
    let header = header_len(frame);
    (header..=header + mtu).contains(&frame.len())
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn only_frames_of_the_link_are_sent() {
        let mut frame = vec![0; 1519];
        assert!(!fits(&frame[..13], 1500));
        assert!(fits(&frame[..14], 1500));
        assert!(fits(&frame[..1514], 1500));
        assert!(!fits(&frame[..1515], 1500));
        frame[12] = 0x81;
        assert!(fits(&frame[..1518], 1500));
        assert!(!fits(&frame[..1519], 1500));
    }
}
