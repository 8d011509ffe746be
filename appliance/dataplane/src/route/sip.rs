//! SipHash-1-3: a keyed hash, so that nobody on a link can choose addresses that collide.

/// The hash of three words under a key (Aumasson and Bernstein, "SipHash: a fast short-input PRF").
pub(super) fn sip13(key: [u64; 2], words: [u64; 3]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    // The last word carries the message's length in its top byte.
    for word in words.into_iter().chain([24 << 56]) {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

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
    use super::sip13;
    use proptest::prelude::*;
    use std::hash::Hasher;

    proptest! {
        /// The standard library's default hasher is SipHash-1-3 with a key of zeros.
        #[test]
        fn agrees_with_the_standard_library(words: [u64; 3]) {
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
