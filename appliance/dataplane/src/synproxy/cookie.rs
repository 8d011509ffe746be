//! SYN cookies (RFC 4987, 3.6): all that an answered SYN leaves behind is what its client sends back.
//!
//! ```text
//! sequence number   |31 ............................ 4|3 ... 1| 0 |
//!                   |      keyed hash, 28 bits        | class |tick|
//!
//! timestamp         |31 ............ 14|13 . 10|9 ... 6| 5 | 4  |3 ... 0|
//!                   | clock and hash   | part  |promise|ECN|SACK| scale |
//! ```
//!
//! The hash is SipHash-2-4 of both ends and the client's initial sequence number, under a key that is derived anew for each tick of 60
//! seconds from one secret. The key of the tick before is still good, and the lowest bit says which of the two was used, so that one
//! hash decides. `class` is that of the client's [segment size](super::mss).
//!
//! What the client's other options were stands in the timestamp, and is lost where the client sends none (as with every SYN cookie):
//! `scale` its window scale (15: none), whether it has SACK and ECN, `promise` the window scale that it was told of the backend (15:
//! none), and `part` more of the segment size. The clock ticks every 16 s, and the hash has a part in it, so that the clock is hidden and
//! a timestamp that was not ours is known.
//!
//! # What a guess is worth
//! An acknowledgement is taken if the cookie is right for the sequence number before its own or, as a probe of a closed window repeats
//! that number, for its own; each for 2 ticks. Without a timestamp only 4 of the classes are used, so that of 2^32 guesses 16 are right:
//! 2^-28. With one, 28 are, but only with 8 of 2^18 timestamps.

use super::mss::Class;
use super::options::SynOptions;
use crate::addr::Family;
use crate::siphash::{Key, sip24};
use crate::time::Time;
use crate::wire::FlowKey;
use crate::wire::plain::{KeyV4, KeyV6};

/// How long a key is used for new cookies, in milliseconds; for as long again its cookies are good.
pub const TICK_MS: u64 = 60_000;

/// The clock of timestamps ticks with this bit of the milliseconds, 16.384 s.
const CLOCK_SHIFT: u32 = 14;
/// A timestamp is good for so many ticks of its clock: as long as a cookie.
const CLOCK_TICKS: u32 = ((2 * TICK_MS) >> CLOCK_SHIFT) as u32;
/// The bits of a timestamp that are no clock.
const LOW: u32 = (1 << CLOCK_SHIFT) - 1;

const HASHED: u32 = 0xffff_fff0;
/// `scale` and `promise` without the option.
const NO_SCALE: u32 = 15;

/// What is asked of a cookie: which connection it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Of what the client sends, as received.
    pub key: FlowKey,
    /// The client's initial sequence number.
    pub isn: u32,
}

/// What is remembered of a SYN and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The largest segment that the client takes, or a little less.
    pub mss: u16,
    /// What the timestamp remembers; `None`: the client sends none.
    pub more: Option<More>,
}

/// What is remembered of a client that sends timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More {
    /// The client's window scale.
    pub scale: Option<u8>,
    /// The window scale that it was promised of the backend; `None` where it has none itself.
    pub promised: Option<u8>,
    /// It was told that selective acknowledgements are understood, as it asked for.
    pub sack: bool,
    /// It was told that congestion is notified, as it asked for.
    pub ecn: bool,
}

/// A cookie: what the SYN-ACK carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its sequence number.
    pub seq: u32,
    /// Its timestamp; meaningless where the client sends none.
    pub timestamp: u32,
}

/// A client that proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Its initial sequence number.
    pub isn: u32,
    /// Our own: the cookie.
    pub cookie: u32,
    /// Our timestamp that it echoed, and its own.
    pub timestamps: Option<(u32, u32)>,
    /// What the cookie remembered.
    pub memory: Memory,
    /// Of the hash, other bits than a cookie shows: names this cookie among all.
    pub name: u32,
}

/// The keys of this tick and of the one before.
#[derive(Clone, Debug)]
pub struct Cookies {
    secret: Key,
    /// Unix time at [`Time`] 0, in milliseconds.
    epoch_ms: u64,
    /// By the lowest bit of the tick.
    keys: [Key; 2],
    tick: u64,
    /// When the next tick begins.
    until: Time,
    /// Of the clock that timestamps show.
    clock: u32,
}

impl Cookies {
    /// Cookies of a secret. Several workers, and several appliances, take each other's if secret and time are the same.
    pub fn new(secret: [u8; 16], epoch_ms: u64, now: Time) -> Self {
        let (low, high) = secret.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let mut cookies = Self {
            secret: [word(low), word(high)],
            epoch_ms,
            keys: [[0; 2]; 2],
            tick: 0,
            until: Time(0),
            clock: 0,
        };
        cookies.turn(now);
        cookies
    }

    /// The same secret by another clock.
    #[must_use]
    pub fn with_clock(&self, epoch_ms: u64, now: Time) -> Self {
        let mut cookies = Self { epoch_ms, ..self.clone() };
        cookies.turn(now);
        cookies
    }

    /// Brings the keys up to the time. Call it before a burst.
    #[inline]
    pub fn keep_up(&mut self, now: Time) {
        if now >= self.until {
            self.turn(now);
        }
    }

    #[cold]
    fn turn(&mut self, now: Time) {
        let ms = self.epoch_ms.wrapping_add(now.millis());
        self.tick = ms / TICK_MS;
        self.clock = (ms >> CLOCK_SHIFT) as u32;
        for tick in [self.tick, self.tick.wrapping_sub(1)] {
            self.keys[(tick & 1) as usize] = [0, 1].map(|half| sip24(self.secret, [tick, half]));
        }
        let clock_ends = ((ms >> CLOCK_SHIFT) + 1) << CLOCK_SHIFT;
        let ends = clock_ends.min((self.tick + 1).wrapping_mul(TICK_MS));
        self.until = Time::from_millis(now.millis().saturating_add(ends.wrapping_sub(ms)));
    }

    /// The cookie for a SYN that carried these options.
    #[inline(always)]
    pub fn bake(&self, question: &Question, family: Family, mss: Option<u16>, more: Option<More>) -> Cookie {
        self.bake_of(self.hash(question, self.parity()), family, mss, more)
    }

    /// Which of the keys new cookies are made with.
    #[inline(always)]
    pub(super) fn parity(&self) -> u32 {
        self.tick as u32 & 1
    }

    /// The key that a cookie with this lowest bit was made with.
    #[inline(always)]
    pub(super) fn key(&self, parity: u32) -> Key {
        self.keys[(parity & 1) as usize]
    }

    /// The same, of the question's [hash](super::Batch::hash).
    #[inline(always)]
    pub fn bake_of(&self, hash: u64, family: Family, mss: Option<u16>, more: Option<More>) -> Cookie {
        let (class, part) = match mss {
            Some(mss) => Class::of(mss, family),
            None => (Class::LEAST, 0),
        };
        let class = if more.is_some() { class } else { class.rough() };
        let low = u32::from(class.bits()) << 1 | self.parity();
        let timestamp = match more {
            Some(more) => self.stamp(hash) | more.bits() | u32::from(part) << 10,
            None => 0,
        };
        Cookie { seq: hash as u32 & HASHED | low, timestamp }
    }

    /// Whether an acknowledgement proves that its sender has a cookie of ours: `key` as received, its own numbers, its options, and
    /// whether it is empty.
    #[inline(always)]
    pub fn check(
        &self,
        key: &FlowKey,
        family: Family,
        (seq, ack): (u32, u32),
        options: &SynOptions,
        is_empty: bool,
    ) -> Option<Proof> {
        let cookie = ack.wrapping_sub(1);
        let class = Class::from_bits((cookie >> 1) as u8 & 7)?;
        if options.timestamps.is_none() && class != class.rough() {
            return None;
        }
        let isn = seq.wrapping_sub(1);
        let parity = cookie & 1;
        let try_isn = |isn| {
            let hash = self.hash(&Question { key: *key, isn }, parity);
            is_shown(hash, cookie).then_some((isn, hash))
        };
        let found = try_isn(isn).or_else(|| if is_empty { try_isn(seq) } else { None });
        let (isn, hash) = found?;
        let (memory, timestamps) = match options.timestamps {
            None => (Memory { mss: class.size(0, family), more: None }, None),
            Some((theirs, ours)) => {
                let age = self.stamp_age(hash, ours);
                if age > CLOCK_TICKS {
                    return None;
                }
                let mss = class.size((ours >> 10 & 15) as u16, family);
                (Memory { mss, more: Some(More::from_bits(ours)) }, Some((ours, theirs)))
            }
        };
        Some(Proof { isn, cookie, timestamps, memory, name: (hash >> 32) as u32 })
    }

    /// The upper bits of a timestamp made now.
    #[inline(always)]
    fn stamp(&self, hash: u64) -> u32 {
        ((hash >> 32) as u32).wrapping_add(self.clock << CLOCK_SHIFT) & !LOW
    }

    /// How many ticks of its clock ago a timestamp was made; a large number where it was not.
    #[inline(always)]
    fn stamp_age(&self, hash: u64, timestamp: u32) -> u32 {
        (self.stamp(hash) >> CLOCK_SHIFT).wrapping_sub(timestamp >> CLOCK_SHIFT) & (u32::MAX >> CLOCK_SHIFT)
    }

    #[inline(always)]
    pub(super) fn hash(&self, question: &Question, parity: u32) -> u64 {
        let Question { key, isn } = question;
        let secret = self.key(parity);
        match KeyV4::of(key) {
            Some(key) => sip24(secret, words_v4(&key, *isn)),
            None => sip24(secret, words_v6(&KeyV6::of(key), *isn)),
        }
    }
}

/// Whether a cookie has the bits of this hash that cookies have.
#[inline(always)]
pub fn is_shown(hash: u64, cookie: u32) -> bool {
    (hash as u32 ^ cookie) & HASHED == 0
}

/// What is hashed of a question, over IPv4.
#[inline(always)]
pub(super) fn words_v4(key: &KeyV4, isn: u32) -> [u64; 2] {
    [key.addresses, last_word(key.ports, isn)]
}

/// The same over IPv6.
#[inline(always)]
pub(super) fn words_v6(key: &KeyV6, isn: u32) -> [u64; 5] {
    let [a, b, c, d] = key.addresses;
    [a, b, c, d, last_word(key.ports, isn)]
}

/// The ports as numbers, and the client's initial sequence number.
#[inline(always)]
fn last_word(ports: u32, isn: u32) -> u64 {
    u64::from(ports.swap_bytes().rotate_left(16)) | u64::from(isn) << 32
}

#[inline(always)]
fn scale_bits(scale: Option<u8>) -> u32 {
    match scale {
        Some(scale) => u32::from(scale).min(NO_SCALE - 1),
        None => NO_SCALE,
    }
}

impl More {
    #[inline(always)]
    fn bits(self) -> u32 {
        let (scale, promised) = (scale_bits(self.scale), scale_bits(self.promised));
        scale | u32::from(self.sack) << 4 | u32::from(self.ecn) << 5 | promised << 6
    }

    fn from_bits(bits: u32) -> Self {
        let scale = |bits: u32| (bits & 15 != NO_SCALE).then_some((bits & 15) as u8);
        let promised = scale(bits >> 6);
        Self {
            // One without the other is nothing that was ever sent.
            scale: scale(bits).filter(|_| promised.is_some()),
            promised: promised.filter(|_| scale(bits).is_some()),
            sack: bits >> 4 & 1 != 0,
            ecn: bits >> 5 & 1 != 0,
        }
    }
}

#[cfg(test)]
mod tests;
