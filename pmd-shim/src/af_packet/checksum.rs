//! The Internet checksum (RFC 1071).

/// A sum of 16-bit words in ones' complement, not yet folded. Words are in memory order, so that sums need no byte swaps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes that start at an even place of what is summed; an odd last byte counts as if a zero followed.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        // Sums of 32-bit words never overflow 64 bits for less than 16 GiB, and compile to vector additions.
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = self.0;
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds a number of 32 bits, as it would stand in a header.
    pub(super) fn add_u32(self, value: u32) -> Self {
        self.add(&value.to_be_bytes())
    }

    /// The checksum, in memory order.
    pub(super) fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_ne_bytes()
    }

    /// The same with 0 given as its equal 0xffff, which UDP needs and TCP does not mind.
    pub(super) fn finish_transport(self) -> [u8; 2] {
        match self.finish() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }
}

/// Finishes a checksum that its sender left to the device: the field holds the pseudo header's sum, and everything from
/// `start` on is covered. Returns false, with the frame unchanged, if the positions lie outside of it.
pub(super) fn complete(frame: &mut [u8], start: usize, field_offset: usize) -> bool {
    let Some(covered) = frame.get_mut(start..) else { return false };
    let checksum = Sum::default().add(covered).finish_transport();
    match covered.get_mut(field_offset..field_offset + 2) {
        Some(field) => {
            field.copy_from_slice(&checksum);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Word by word, as the standard describes it.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        match !(sum as u16) {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    proptest! {
        #[test]
        fn equals_the_sum_word_by_word(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
            let cut = (cut & !1).min(bytes.len() & !1);
            let got = Sum::default().add(&bytes[..cut]).add(&bytes[cut..]).finish_transport();
            prop_assert_eq!(u16::from_be_bytes(got), slow(&bytes));
        }

        #[test]
        fn completes_or_leaves_alone(mut frame in prop::collection::vec(any::<u8>(), 0..100), start in 0usize..120, offset in 0usize..40) {
            let before = frame.clone();
            if complete(&mut frame, start, offset) {
                prop_assert_eq!(&frame[start + offset..start + offset + 2], &slow(&before[start..]).to_be_bytes()[..]);
                frame[start + offset..start + offset + 2].copy_from_slice(&before[start + offset..start + offset + 2]);
            } else {
                prop_assert!(start + offset + 2 > before.len());
            }
            prop_assert_eq!(frame, before);
        }
    }

    #[test]
    fn zero_is_written_otherwise_only_in_transport_headers() {
        let sum = Sum::default().add(&[0xff, 0xff]);
        assert_eq!(sum.finish(), [0, 0]);
        assert_eq!(sum.finish_transport(), [0xff, 0xff]);
    }
}
