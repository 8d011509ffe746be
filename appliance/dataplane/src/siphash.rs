//! SipHash with a key of 128 bits (Aumasson and Bernstein, "SipHash: a fast short-input PRF"), of messages of whole words: nobody who
//! does not know the key can choose words that collide.

/// A key.
pub(crate) type Key = [u64; 2];

/// SipHash-1-3 of `words`, the first byte of each lowest: for tables.
#[inline(always)]
pub(crate) fn sip13<const N: usize>(key: Key, words: [u64; N]) -> u64 {
    sip::<1, 3, N>(key, words)
}

/// SipHash-2-4 of `words`, the first byte of each lowest: for what others see.
#[inline(always)]
pub(crate) fn sip24<const N: usize>(key: Key, words: [u64; N]) -> u64 {
    sip::<2, 4, N>(key, words)
}

/// With `C` rounds a word and `D` at the end.
#[inline(always)]
fn sip<const C: usize, const D: usize, const N: usize>(key: Key, words: [u64; N]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    // The last word carries the message's length in its top byte.
    for word in words.into_iter().chain([(8 * N as u64) << 56]) {
        v[3] ^= word;
        for _ in 0..C {
            round(&mut v);
        }
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..D {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::Hasher;

    /// The standard library's own, deprecated but there.
    #[expect(deprecated, reason = "the only SipHash-2-4 within reach, written by others")]
    fn theirs(key: Key, words: &[u64]) -> u64 {
        let mut hasher = std::hash::SipHasher::new_with_keys(key[0], key[1]);
        words.iter().for_each(|word| hasher.write(&word.to_le_bytes()));
        hasher.finish()
    }

    #[test]
    fn the_published_vectors() {
        // Of the authors' reference: key 00 01 .. 0f, message 00 01 .. of 0, 8 and 16 bytes.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(sip24(key, []), 0x726f_db47_dd0e_0e31);
        assert_eq!(sip24(key, [key[0]]), 0x93f5_f579_9a93_2462);
        assert_eq!(sip24(key, key), 0x3f2a_cc7f_57c2_9bdb);
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(key: Key, words: [u64; 5]) {
            prop_assert_eq!(sip24(key, words), theirs(key, &words));
            prop_assert_eq!(sip24(key, [words[0], words[1]]), theirs(key, &words[..2]));
        }

        /// The standard library's default hasher is SipHash-1-3 with a key of zeros.
        #[test]
        fn one_and_three_rounds_agree_with_the_standard_library(words: [u64; 3]) {
            let mut theirs = std::collections::hash_map::DefaultHasher::new();
            for word in words {
                theirs.write(&word.to_le_bytes());
            }
            prop_assert_eq!(sip13([0, 0], words), theirs.finish());
        }

        #[test]
        fn the_key_counts(words: [u64; 3], key in 1u64..) {
            prop_assert_ne!(sip13([key, 0], words), sip13([0, 0], words));
            prop_assert_ne!(sip13([0, key], words), sip13([0, 0], words));
        }
    }
}
