//! How many SYN-ACKs an address gets that never answers: whoever forges a victim's address is not to have it flooded by us.
//!
//! A leaking bucket for each address, in a table of a fixed size. An address that has no place of its own passes, and wears the place's
//! owner down, so that what many forged addresses do to the table keeps nobody out; an address that is flooded keeps its place
//! because it comes so often. An acknowledgement that proves its cookie empties its sender's bucket: it is no victim.

use crate::addr::{Addr, Family};
use crate::hash::fold;
use crate::intrinsics::prefetch;
use crate::time::Time;
use core::hint::select_unpredictable;

/// Answers at once to an address that has proved nothing.
const BURST: u16 = 512;
/// Answers a second from then on.
const RATE: u64 = 256;
/// Time in which one leaks.
const TICK_NS: u64 = 1_000_000_000 / RATE;
const _: () = assert!(TICK_NS * RATE == 1_000_000_000);
const PLACES: usize = 1 << 13;

/// The buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reflection {
    places: Box<[Bucket]>,
    secret: [u64; 2],
}

/// Where an address's bucket is, and whose it then is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    index: u32,
    owner: u32,
}

/// A bucket: whose it is, how full, and when that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    owner: u32,
    level: u16,
    /// In 1/256 of a second, modulo 2^16.
    at: u16,
}

impl Place {
    /// Of no address in particular.
    pub const NONE: Self = Self { index: 0, owner: 0 };
}

impl Reflection {
    /// Empty buckets. The secret keeps senders from choosing addresses that share a place.
    pub fn new(secret: [u8; 16]) -> Self {
        let secret = u128::from_le_bytes(secret);
        Self {
            places: vec![Bucket::default(); PLACES].into_boxed_slice(),
            secret: [secret as u64 | 1, (secret >> 64) as u64 ^ 0x9e37_79b9_7f4a_7c15],
        }
    }

    /// Whether one more answer may go to an address; counts it if so.
    #[inline]
    pub fn allow(&mut self, to: Addr, now: Time) -> bool {
        self.allow_at(self.place(to), now)
    }

    /// Asks for the bucket at a place.
    #[inline(always)]
    pub fn prefetch(&self, place: Place) {
        prefetch(&self.places, place.index as usize);
    }

    /// As [`allow`](Self::allow), for the address whose place this is.
    #[inline(always)]
    pub fn allow_at(&mut self, Place { index, owner }: Place, now: Time) -> bool {
        let at = tick(now);
        let bucket = &mut self.places[index as usize % PLACES];
        // What leaks goes by the bucket's own clock, which comes round every four minutes: later than any bucket needs to be empty.
        let leaked = at.wrapping_sub(bucket.at);
        bucket.level = bucket.level.saturating_sub(leaked);
        bucket.at = at;
        let is_own = bucket.owner == owner;
        if is_own & (bucket.level >= BURST) {
            return false;
        }
        // Forged addresses go either way, as if by chance.
        let is_taken = is_own | (bucket.level == 0);
        bucket.owner = select_unpredictable(is_taken, owner, bucket.owner);
        bucket.level = bucket.level.wrapping_add(select_unpredictable(is_taken, 1, u16::MAX));
        true
    }

    /// An address proved that it is there.
    #[inline]
    pub fn proved(&mut self, from: Addr) {
        let Place { index, owner } = self.place(from);
        let bucket = &mut self.places[index as usize % PLACES];
        if bucket.owner == owner {
            bucket.level = 0;
        }
    }

    /// The place of an address.
    #[inline(always)]
    pub fn place(&self, address: Addr) -> Place {
        let bits = address.bits();
        // A network of IPv6 is as good a victim as its hosts.
        let low = if address.family() == Family::V4 { bits as u64 } else { 0 };
        let hash = fold(low ^ self.secret[0], (bits >> 64) as u64 ^ self.secret[1]);
        let hash = fold(hash, self.secret[0] ^ 0xa076_1d64_78bd_642f);
        Place { index: (hash as usize % PLACES) as u32, owner: (hash >> 32) as u32 }
    }
}

/// The time of buckets.
#[inline(always)]
fn tick(now: Time) -> u16 {
    (now.0 / TICK_NS) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn client(n: u32) -> Addr {
        Addr::v4((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn a_victim_gets_a_burst_and_then_the_rate() {
        let mut reflection = Reflection::new([3; 16]);
        let start = Time::from_millis(5_000);
        let mut sent = 0;
        // 100 000 a second for four seconds.
        for n in 0..400_000u64 {
            let now = start + Duration::from_micros(10 * n);
            sent += u64::from(reflection.allow(client(1), now));
        }
        let most = u64::from(BURST) + 4 * RATE;
        assert!((most - 8..=most + 1).contains(&sent), "{sent}");
    }

    #[test]
    fn who_proves_itself_is_no_victim() {
        let mut reflection = Reflection::new([3; 16]);
        let now = Time::from_millis(5_000);
        for _ in 0..100_000 {
            assert!(reflection.allow(client(1), now));
            reflection.proved(client(1));
        }
    }

    #[test]
    fn forged_addresses_keep_nobody_out() {
        let mut reflection = Reflection::new([3; 16]);
        let now = Time::from_millis(5_000);
        assert!((0..5_000_000).all(|n| reflection.allow(client(n), now)));
        // And a victim among them is still limited.
        let mut sent = 0;
        for n in 0..1_000_000u32 {
            reflection.allow(client(100_000 + n), now);
            sent += u32::from(reflection.allow(client(1), now));
        }
        assert!(sent < 20_000, "{sent}");
    }

    #[test]
    fn hosts_of_a_network_of_ipv6_are_one() {
        let mut reflection = Reflection::new([3; 16]);
        let host = |n: u128| Addr::from_bits(0x2001_0db8 << 96 | n);
        let sent = (0..2000).filter(|n| reflection.allow(host(*n), Time(0))).count();
        assert_eq!(sent, usize::from(BURST));
    }
}
