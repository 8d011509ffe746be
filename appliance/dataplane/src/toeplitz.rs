//! The hash by which network cards choose a receive queue (Toeplitz; Microsoft, "RSS hashing types" and "Verifying the RSS hash
//! calculation" in the Windows driver documentation): what a card computes of an address, the path can compute too.
//!
//! Every set bit of the input, counted from the first byte's most significant one, contributes the 32 bits of the key that begin at the
//! same place. Here four bits of input are looked up at a time.

use crate::addr::Addr;
use core::fmt;

/// Bytes of the key.
pub const KEY_BYTES: usize = 40;
/// The longest input: two IPv6 addresses and two ports.
const INPUT_MAX: usize = KEY_BYTES - size_of::<u32>();

/// The hash of one key.
#[derive(Clone, PartialEq, Eq)]
pub struct Toeplitz {
    /// What each value of each half byte contributes.
    halves: Box<[[u32; 16]]>,
}

impl Toeplitz {
    /// The hash of this key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let halves = (0..2 * INPUT_MAX).map(|half| {
            let value = |value: usize| {
                let set = (0..4).filter(|bit| value & 8 >> bit != 0);
                set.fold(0, |hash, bit| hash ^ window(key, 4 * half + bit))
            };
            core::array::from_fn(value)
        });
        Self { halves: halves.collect() }
    }

    /// The same for the rest of the process: made once at start, and shared by all workers.
    pub fn forever(key: &[u8; KEY_BYTES]) -> &'static Self {
        Box::leak(Box::new(Self::new(key)))
    }

    /// The hash of some bytes, of the first 36 of them if there are more.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u32 {
        let (pairs, _) = self.halves.as_chunks::<2>();
        bytes.iter().zip(pairs).fold(0, |hash, (byte, [high, low])| {
            hash ^ high[usize::from(byte >> 4)] ^ low[usize::from(byte & 15)]
        })
    }

    /// The hash of an address alone: four bytes of IPv4 or sixteen of IPv6.
    #[inline]
    pub fn hash_address(&self, address: Addr) -> u32 {
        match address.as_v4() {
            Some(octets) => self.hash(&octets),
            None => self.hash(address.octets()),
        }
    }
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret.
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}

/// The 32 bits of the key from a bit on.
fn window(key: &[u8; KEY_BYTES], bit: usize) -> u32 {
    let at = |byte: usize| u64::from(key.get(byte).copied().unwrap_or(0));
    let first = bit / 8;
    let five = (0..5).fold(0, |bits, byte| bits << 8 | at(first + byte));
    (five >> (8 - bit % 8)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    /// Microsoft's key, and what it makes of pairs of addresses (source, then destination, no ports).
    const KEY: [u8; KEY_BYTES] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    const VECTORS: [(&str, &str, u32); 8] = [
        ("66.9.149.187", "161.142.100.80", 0x323e_8fc2),
        ("199.92.111.2", "65.69.140.83", 0xd718_262a),
        ("24.19.198.95", "12.22.207.184", 0xd2d0_a5de),
        ("38.27.205.30", "209.142.163.6", 0x8298_9176),
        ("153.39.163.191", "202.188.127.2", 0x5d18_09c5),
        ("3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 0x2cc1_8cd5),
        ("3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 0x0f0c_461c),
        ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", "fe80::200:f8ff:fe21:67cf", 0x4b61_e985),
    ];

    fn octets(address: &str) -> Vec<u8> {
        match address.parse().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }

    /// Bit by bit, as the definition says.
    fn by_definition(key: &[u8; KEY_BYTES], bytes: &[u8]) -> u32 {
        let bits = |bytes: &[u8]| -> Vec<u32> {
            bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1))).collect()
        };
        let (key, input) = (bits(key), bits(bytes));
        let hash = |start: usize| key[start..start + 32].iter().fold(0, |word, bit| word << 1 | bit);
        input.iter().enumerate().filter(|(_, bit)| **bit == 1).fold(0, |sum, (start, _)| sum ^ hash(start))
    }

    #[test]
    fn computes_what_microsoft_publishes() {
        let toeplitz = Toeplitz::new(&KEY);
        for (source, destination, expected) in VECTORS {
            let input = [octets(source), octets(destination)].concat();
            assert_eq!(toeplitz.hash(&input), expected, "{source} {destination}");
            assert_eq!(by_definition(&KEY, &input), expected, "{source} {destination}");
        }
    }

    proptest! {
        #[test]
        fn is_what_the_definition_says(key in any::<[u8; KEY_BYTES]>(), bytes in prop::collection::vec(any::<u8>(), 0..=36)) {
            prop_assert_eq!(Toeplitz::new(&key).hash(&bytes), by_definition(&key, &bytes));
        }

        #[test]
        fn an_address_is_hashed_as_it_is_on_the_wire(key in any::<[u8; KEY_BYTES]>(), address in any::<IpAddr>()) {
            let bytes = octets(&address.to_string());
            // A mapped address is an IPv4 address here.
            prop_assume!(bytes.len() == 4 || !bytes.starts_with(&[0; 10]));
            let toeplitz = Toeplitz::new(&key);
            prop_assert_eq!(toeplitz.hash_address(address.into()), by_definition(&key, &bytes));
        }
    }
}
