//! The keyed hash of flow keys.
//!
//! The sender chooses addresses and ports, so the hash must not be predictable: it is NH, the universal hash of UMAC (RFC 4418, 5.2),
//! over the key's words, two for IPv4 and five for IPv6, with secret words derived from the seed, then folded to 64 bits by a secret multiplication. Two chosen keys
//! have equal NH sums with a probability of at most 2^-64 over the choice of the secret.

use crate::wire::FlowKey;
use crate::wire::plain::{KeyV4, KeyV6};

/// A flow key's hash under the secret of one [`FlowTable`](super::FlowTable), and of all that have the same seed.
// Packed, as each packet of a burst has one, and takes it along to another worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct FlowHash {
    pub(super) bits: u64,
    /// The reference that probably is the key's. Only ever a guess: whatever it says, the record that it leads to is looked at.
    pub(super) guess: u32,
}

impl FlowHash {
    /// Of no key.
    pub(crate) const NONE: Self = Self { bits: 0, guess: NO_GUESS };

    /// The hash itself.
    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        self.bits
    }

    /// No record was found that may be the key's.
    #[inline(always)]
    pub(crate) fn is_without_guess(self) -> bool {
        self.guess >= LACKED
    }

    /// As its buckets were read, there was surely none.
    #[inline(always)]
    pub(crate) fn was_lacked(self) -> bool {
        self.guess == LACKED
    }

    /// Nobody looked for a record yet, or for all that is known there may be one.
    #[inline(always)]
    pub(crate) fn is_unasked(self) -> bool {
        self.guess == NO_GUESS
    }

    /// It may be of the same key as another.
    #[inline(always)]
    pub(super) fn is_like(self, other: Self) -> bool {
        self.bits == other.bits
    }

    /// The same for another table.
    #[inline]
    pub(crate) fn elsewhere(self) -> Self {
        Self { guess: NO_GUESS, ..self }
    }
}

/// Leads to no record.
pub(super) const NO_GUESS: u32 = u32::MAX;
/// Neither does this: there was no such reference.
pub(super) const LACKED: u32 = u32::MAX - 1;

/// The secret words.
#[derive(Clone)]
pub(super) struct Secret([u64; 8]);

impl Secret {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        let seed = u128::from_le_bytes(seed);
        let (low, high) = (seed as u64, (seed >> 64) as u64);
        let mut state = low;
        Self(core::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            scramble(scramble(state) ^ high)
        }))
    }

    pub(super) fn hash(&self, key: &FlowKey) -> FlowHash {
        match KeyV4::of(key) {
            Some(key) => self.hash_v4(&key),
            None => self.hash_v6(&KeyV6::of(key)),
        }
    }

    #[inline(always)]
    pub(super) fn hash_v4(&self, key: &KeyV4) -> FlowHash {
        let [s0, s1, ..] = self.0;
        self.finish(product(key.addresses, s0, key.rest(), s1))
    }

    #[inline(always)]
    pub(super) fn hash_v6(&self, key: &KeyV6) -> FlowHash {
        let [s0, s1, s2, s3, s4, s5, ..] = self.0;
        let [a, b, c, d] = key.addresses;
        let sum = product(a, s0, b, s1).wrapping_add(product(c, s2, d, s3)).wrapping_add(product(
            key.rest(),
            s4,
            0,
            s5,
        ));
        self.finish(sum)
    }

    #[inline(always)]
    fn finish(&self, sum: u128) -> FlowHash {
        let [.., s6, s7] = self.0;
        let bits = fold(sum as u64 ^ s6, (sum >> 64) as u64 ^ s7);
        FlowHash { bits, guess: NO_GUESS }
    }
}

/// One term of NH: two words, each masked by addition, multiplied.
#[inline(always)]
fn product(a: u64, mask_a: u64, b: u64, mask_b: u64) -> u128 {
    u128::from(a.wrapping_add(mask_a)) * u128::from(b.wrapping_add(mask_b))
}

/// Both halves of the product, combined.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A bijection in which every output bit depends on every input bit (the finaliser of SplitMix64).
fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;

    fn keys() -> impl Iterator<Item = FlowKey> {
        // What hashes badly if anything does: few bits differ, and always the same ones.
        (0u32..1 << 16).map(|n| FlowKey {
            src: Addr::v4([10, 0, 0, (n >> 10) as u8]),
            dst: Addr::v4([203, 0, 113, 1]),
            src_port: (n & 0x3ff) as u16,
            dst_port: 443,
            protocol: 6,
        })
    }

    /// Pearson's statistic over 256 cells for one byte of the hash, whose mean is 255 and deviation 22.6.
    fn chi_square(shift: u32, secret: &Secret) -> f64 {
        let mut cells = [0u32; 256];
        for key in keys() {
            cells[(secret.hash(&key).bits >> shift) as usize & 0xff] += 1;
        }
        let expected = f64::from(1u32 << 16) / 256.0;
        cells.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn every_byte_is_uniform() {
        for seed in 0..16u8 {
            let secret = Secret::new([seed.wrapping_mul(37); 16]);
            for shift in (0..64).step_by(8) {
                let statistic = chi_square(shift, &secret);
                assert!((140.0..400.0).contains(&statistic), "seed {seed}, shift {shift}: {statistic}");
            }
        }
    }

    #[test]
    fn every_bit_of_the_key_changes_half_of_the_hash() {
        const SEEDS: u32 = 256;
        let base = FlowKey {
            src: Addr::from_bits(0x2001_0db8 << 96 | 1),
            dst: Addr::from_bits(0x2001_0db8 << 96 | 2),
            src_port: 50_000,
            dst_port: 443,
            protocol: 6,
        };
        let flips = (0..128)
            .map(|bit| FlowKey { src: Addr::from_bits(base.src.bits() ^ 1 << bit), ..base })
            .chain((0..128).map(|bit| FlowKey { dst: Addr::from_bits(base.dst.bits() ^ 1 << bit), ..base }))
            .chain((0..16).map(|bit| FlowKey { src_port: base.src_port ^ 1 << bit, ..base }))
            .chain((0..16).map(|bit| FlowKey { dst_port: base.dst_port ^ 1 << bit, ..base }))
            .chain((0..8).map(|bit| FlowKey { protocol: base.protocol ^ 1 << bit, ..base }));
        for flipped in flips {
            let mut changed = [0u32; 64];
            for seed in 0..SEEDS {
                let secret =
                    Secret::new(core::array::from_fn(|i| (seed as u8).wrapping_mul(2 * i as u8 + 1)));
                let difference = secret.hash(&base).bits ^ secret.hash(&flipped).bits;
                changed.iter_mut().enumerate().for_each(|(bit, n)| *n += (difference >> bit & 1) as u32);
            }
            // 128 of 256 on average, with a deviation of 8: six of them over 19 000 counts.
            assert!(changed.iter().all(|n| (80..176).contains(n)), "{flipped:?}: {changed:?}");
        }
    }

    #[test]
    fn the_seed_decides_and_directions_differ() {
        let [one, other] = [[1; 16], [2; 16]].map(Secret::new);
        let mut high = [1; 16];
        high[15] = 0;
        let high = Secret::new(high);
        for key in keys().take(1_000) {
            assert_ne!(one.hash(&key), other.hash(&key));
            assert_ne!(one.hash(&key), high.hash(&key));
            assert_ne!(one.hash(&key), one.hash(&key.reversed()));
            assert_eq!(one.hash(&key), Secret::new([1; 16]).hash(&key));
        }
    }
}
