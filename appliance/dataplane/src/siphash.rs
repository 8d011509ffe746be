//! SipHash with a key of 128 bits (Aumasson and Bernstein, "SipHash: a fast short-input PRF"), of messages of whole words: nobody who
//! does not know the key can choose words that collide.

/// A key.
pub(crate) type Key = [u64; 2];

/// What the key's words are laid over ("somepseudorandomlygeneratedbytes").
const START: [u64; 4] =
    [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];

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

/// SipHash-2-4 of `L` messages side by side, each under a key of its own: the lanes of word or key `i` are at `i`. Compilers keep them
/// in vectors.
#[inline(always)]
pub(crate) fn sip24_lanes<const N: usize, const L: usize>(
    key: &[[u64; L]; 2],
    words: &[[u64; L]; N],
) -> [u64; L] {
    let begin = |n: usize| lanes(|i| key[n % 2][i] ^ START[n]);
    let mut v: [[u64; L]; 4] = [begin(0), begin(1), begin(2), begin(3)];
    for word in words {
        lanes_compress(&mut v, word);
    }
    lanes_compress(&mut v, &[(8 * N as u64) << 56; L]);
    v[2] = lanes(|i| v[2][i] ^ 0xff);
    for _ in 0..4 {
        lanes_round(&mut v);
    }
    lanes(|i| v[0][i] ^ v[1][i] ^ v[2][i] ^ v[3][i])
}

#[inline(always)]
fn lanes<const L: usize>(lane: impl Fn(usize) -> u64) -> [u64; L] {
    let mut all = [0; L];
    for (i, one) in all.iter_mut().enumerate() {
        *one = lane(i);
    }
    all
}

#[inline(always)]
fn lanes_compress<const L: usize>(v: &mut [[u64; L]; 4], word: &[u64; L]) {
    v[3] = lanes(|i| v[3][i] ^ word[i]);
    lanes_round(v);
    lanes_round(v);
    v[0] = lanes(|i| v[0][i] ^ word[i]);
}

/// As [`round`], each step for all lanes before the next.
#[inline(always)]
fn lanes_round<const L: usize>(v: &mut [[u64; L]; 4]) {
    v[0] = lanes(|i| v[0][i].wrapping_add(v[1][i]));
    v[2] = lanes(|i| v[2][i].wrapping_add(v[3][i]));
    v[1] = lanes(|i| v[1][i].rotate_left(13) ^ v[0][i]);
    v[3] = lanes(|i| v[3][i].rotate_left(16) ^ v[2][i]);
    v[0] = lanes(|i| v[0][i].rotate_left(32));
    v[2] = lanes(|i| v[2][i].wrapping_add(v[1][i]));
    v[0] = lanes(|i| v[0][i].wrapping_add(v[3][i]));
    v[1] = lanes(|i| v[1][i].rotate_left(17) ^ v[2][i]);
    v[3] = lanes(|i| v[3][i].rotate_left(21) ^ v[0][i]);
    v[2] = lanes(|i| v[2][i].rotate_left(32));
}

/// With `C` rounds a word and `D` at the end.
#[inline(always)]
fn sip<const C: usize, const D: usize, const N: usize>(key: Key, words: [u64; N]) -> u64 {
    let mut v = [key[0] ^ START[0], key[1] ^ START[1], key[0] ^ START[2], key[1] ^ START[3]];
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

        #[test]
        fn side_by_side_as_one_by_one(key: [[u64; 8]; 2], words: [[u64; 8]; 5]) {
            let long = sip24_lanes(&key, &words);
            let short = sip24_lanes(&key, &[words[0], words[1]]);
            for lane in 0..8 {
                let key = key.map(|lanes| lanes[lane]);
                prop_assert_eq!(long[lane], sip24(key, words.map(|lanes| lanes[lane])));
                prop_assert_eq!(short[lane], sip24(key, [words[0][lane], words[1][lane]]));
            }
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
