//! The Internet checksum (RFC 1071) and its update by difference (RFC 1624).
//!
//! A sum is kept in the machine's own byte order, which the ones' complement sum does not care about (RFC
//! 1071, 2 (B)), and turned round once at the end.

use crate::addr::Addr;

/// What one less in the first byte of a field adds to a checksum over it, as the field's own replacement does: `!old + new`.
pub const ONE_LESS: u64 = 0xfffe;

/// A ones' complement sum that is still being added to, of 64 bits: a carry out of the top is added in at the bottom, which
/// changes nothing modulo `0xffff` (RFC 1071, 2 (A)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds a word in the machine's own byte order.
    #[inline(always)]
    const fn add(self, word: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(word);
        Self(sum + carry as u64)
    }

    /// Adds eight bytes, the first one lowest.
    #[inline(always)]
    pub const fn add_word(self, word: u64) -> Self {
        self.add(u64::from_ne_bytes(word.to_le_bytes()))
    }

    /// Adds bytes. A slice of odd length counts as if a zero byte followed it, so only the last one may be
    /// odd.
    #[inline(always)]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        // Four sums side by side, which compilers keep in vectors.
        let mut sums = [0; 4];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum += halves(u64::from_ne_bytes(*word));
            }
        }
        let mut sum = self.add(sums.iter().sum());
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            sum = sum.add(u64::from_ne_bytes(*word));
        }
        match (rest.len(), bytes.last_chunk::<8>()) {
            (0, _) => sum,
            // The end of the word that ends here: what is before it was added.
            (len, Some(last)) => {
                let rest = u64::from_le_bytes(*last) >> (64 - 8 * len);
                sum.add(u64::from_ne_bytes(rest.to_le_bytes()))
            }
            (_, None) => {
                let (pairs, last) = rest.as_chunks::<2>();
                let pairs = pairs.iter().fold(sum, |sum, pair| sum.add(u16::from_ne_bytes(*pair).into()));
                last.iter().fold(pairs, |sum, last| sum.add(u16::from_ne_bytes([*last, 0]).into()))
            }
        }
    }

    /// Adds a 16-bit field, given in host order.
    #[inline]
    pub const fn add_u16(self, value: u16) -> Self {
        self.add(value.to_be() as u64)
    }

    /// Adds a 32-bit field, given in host order.
    #[inline]
    pub const fn add_u32(self, value: u32) -> Self {
        self.add(value.to_be() as u64)
    }

    /// Adds an address. The prefix of a mapped IPv4 address adds `0xffff`, which is zero in ones' complement,
    /// so that both families are added alike.
    #[inline]
    pub fn add_addr(self, addr: &Addr) -> Self {
        let bits = u128::from_ne_bytes(*addr.octets());
        self.add(bits as u64).add((bits >> 64) as u64)
    }

    /// The sum as 16 bits in host order, carries added in. 0 only when nothing but zeros was added.
    #[inline]
    pub const fn fold(self) -> u16 {
        u16::from_be(self.folded())
    }

    /// The same in the machine's own byte order.
    #[inline(always)]
    pub const fn folded(self) -> u16 {
        // The upper half of a number plus itself with both halves exchanged is their sum, the carry added in.
        let sum = (self.0.wrapping_add(self.0.rotate_right(32)) >> 32) as u32;
        (sum.wrapping_add(sum.rotate_right(16)) >> 16) as u16
    }

    /// The checksum field's value for what was added, in host order.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// A checksum field's new bytes, `self` being the sum of what was replaced, each bit turned round, and of what is in its place (RFC
    /// 1624, equation 3): as [`ChecksumDelta::apply`].
    #[inline(always)]
    pub const fn update(self, field: [u8; 2]) -> [u8; 2] {
        let old = !u16::from_ne_bytes(field);
        // Adding 0xffff, a zero, keeps the sum from being the zero that no computation over a header gives.
        (!self.add(old as u64 + 0xffff).folded()).to_ne_bytes()
    }

    /// What was added contains its own checksum, and that is right.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }
}

/// Both 32-bit halves of a word, added: 64-bit accumulators of such values cannot overflow within a frame.
#[inline]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// The sum of a transport's pseudo header (RFC 9293 3.1, RFC 768, RFC 8200 8.1); `len` is that of the
/// transport header and its payload in bytes.
#[inline]
pub fn pseudo_header(src: &Addr, dst: &Addr, protocol: u8, len: usize) -> Sum {
    Sum::new().add_addr(src).add_addr(dst).add_u16(u16::from(protocol)).add_u32(len as u32)
}

/// The difference that replaced fields make to a checksum over them (RFC 1624, equation 3).
///
/// The result is what a computation over the whole new data gives. Where the old checksum is `0xffff`, a form
/// that a computation never gives (RFC 1624, 4), the new one is put right too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumDelta(u64);

impl ChecksumDelta {
    /// No difference.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// A 16-bit field was replaced; it is at an even offset.
    #[inline]
    pub const fn replace_u16(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old).to_be() as u64 + new.to_be() as u64)
    }

    /// A 32-bit field was replaced; it is at an even offset.
    #[inline]
    pub const fn replace_u32(self, old: u32, new: u32) -> Self {
        Self(self.0 + (!old).to_be() as u64 + new.to_be() as u64)
    }

    /// An address was replaced by one of the same family.
    #[inline]
    pub fn replace_addr(self, old: Addr, new: Addr) -> Self {
        let (old, new) = (!u128::from_ne_bytes(*old.octets()), u128::from_ne_bytes(*new.octets()));
        Self(
            self.0
                + halves(old as u64)
                + halves((old >> 64) as u64)
                + halves(new as u64)
                + halves((new >> 64) as u64),
        )
    }

    /// Both differences together.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum after the replacements; both in host order.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        // Adding 0xffff, a zero, keeps the sum from being the zero that no computation over a header gives.
        Sum(self.0 + (!checksum).to_be() as u64 + 0xffff).checksum()
    }

    /// The UDP checksum after the replacements: 0 means that there is none and stays, a computed 0 is sent as
    /// `0xffff` (RFC 768).
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        match checksum {
            0 => 0,
            old => match self.apply(old) {
                0 => 0xffff,
                new => new,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 word by word, in the obvious way.
    fn slow_sum(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        assert_eq!(Sum::new().add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_gives_zero() {
        assert_eq!(ChecksumDelta::new().replace_u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn the_other_zero_is_put_right() {
        assert_eq!(ChecksumDelta::new().replace_u16(0xffff, 0).apply(0xffff), 0);
        assert_eq!(ChecksumDelta::new().replace_u16(0x1234, 0x1235).apply(0xffff), 0xfffe);
    }

    #[test]
    fn udp_keeps_its_two_zeros_apart() {
        let delta = ChecksumDelta::new().replace_u16(0x5555, 0x3285);
        assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
        assert_eq!(delta.apply_udp(0), 0);
    }

    proptest! {
        #[test]
        fn sum_equals_the_slow_one(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::new().add_bytes(&bytes).fold(), slow_sum(&bytes));
        }

        #[test]
        fn parts_of_even_length_sum_to_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..100) {
            let at = (2 * at).min(bytes.len());
            let (a, b) = bytes.split_at(at);
            prop_assert_eq!(Sum::new().add_bytes(a).add_bytes(b).fold(), slow_sum(&bytes));
        }

        #[test]
        fn pseudo_header_equals_the_slow_one(src: [u8; 16], dst: [u8; 16], protocol in 1u8.., len in 0usize..65_536) {
            let v6 = [&src[..], &dst, &(len as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat();
            prop_assert_eq!(pseudo_header(&Addr::v6(src), &Addr::v6(dst), protocol, len).fold(), slow_sum(&v6));
            let (src, dst) = ([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]]);
            let v4 = [&src[..], &dst, &[0, protocol], &(len as u16).to_be_bytes()].concat();
            prop_assert_eq!(pseudo_header(&Addr::v4(src), &Addr::v4(dst), protocol, len).fold(), slow_sum(&v4));
        }

        #[test]
        fn delta_equals_recomputation(
            mut bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 40..80),
            addr in prop::array::uniform16(prop_oneof![Just(0u8), Just(0xff), any::<u8>()]),
            word: u32,
            half in prop_oneof![Just(0u16), Just(0xffff), any::<u16>()],
        ) {
            bytes[0] = 1;
            let before = !slow_sum(&bytes);
            let old_addr = Addr::v6(*bytes[8..].first_chunk().unwrap());
            let old_word = u32::from_be_bytes(*bytes[24..].first_chunk().unwrap());
            let old_half = u16::from_be_bytes(*bytes[28..].first_chunk().unwrap());
            bytes[8..24].copy_from_slice(&addr);
            bytes[24..28].copy_from_slice(&word.to_be_bytes());
            bytes[28..30].copy_from_slice(&half.to_be_bytes());
            let delta = ChecksumDelta::new()
                .replace_addr(old_addr, Addr::v6(addr))
                .and(ChecksumDelta::new().replace_u32(old_word, word).replace_u16(old_half, half));
            prop_assert_eq!(delta.apply(before), !slow_sum(&bytes));
        }

        #[test]
        fn delta_of_mapped_addresses_is_that_of_four_bytes(old: [u8; 4], new: [u8; 4], rest in 1u16..) {
            let before = !slow_sum(&[&old[..], &rest.to_be_bytes()].concat());
            let after = !slow_sum(&[&new[..], &rest.to_be_bytes()].concat());
            prop_assert_eq!(ChecksumDelta::new().replace_addr(Addr::v4(old), Addr::v4(new)).apply(before), after);
        }
    }
}
