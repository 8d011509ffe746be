//! What the crate's multiplicative hashes are made of.

use crate::addr::Addr;

/// Both halves of a 128-bit product, laid over each other: every bit of the input reaches every bit of the result.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// An address as two words.
#[inline]
pub(crate) fn halves(address: Addr) -> (u64, u64) {
    let bits = address.bits();
    ((bits >> 64) as u64, bits as u64)
}
