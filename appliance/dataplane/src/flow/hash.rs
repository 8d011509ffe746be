//! The keyed hash of flow keys.
//!
//! The sender chooses addresses and ports, so the hash must not be predictable: it is NH, the universal hash of UMAC (RFC 4418, 5.2),
//! over the key's five words, with secret words derived from the seed, then folded to 64 bits by two secret multiplications. Two chosen keys
//! have equal NH sums with a probability of at most 2^-64 over the choice of the secret.

use crate::wire::FlowKey;

/// A flow key's hash under the secret of one [`FlowTable`](super::FlowTable); of no use to another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowHash(pub(super) u64);

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

    #[inline]
    pub(super) fn hash(&self, key: &FlowKey) -> FlowHash {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.0;
        let (src, dst) = (key.src.bits(), key.dst.bits());
        let rest =
            u64::from(key.src_port) << 48 | u64::from(key.dst_port) << 32 | u64::from(key.protocol) << 8;
        let sum = product((src >> 64) as u64, s0, src as u64, s1)
            .wrapping_add(product((dst >> 64) as u64, s2, dst as u64, s3))
            .wrapping_add(product(rest, s4, 0, s5));
        FlowHash(fold(fold(sum as u64 ^ s6, (sum >> 64) as u64 ^ s7), s4 | 1))
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
