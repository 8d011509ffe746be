//! Which of some hundred rules a packet may match, by its protocol, its destination port, and the first two bytes of each address:
//! six lines of memory are read and put together, whatever the rules are.

use super::pattern::Pattern;
use crate::addr::{Addr, Family};
use crate::prefix_set::PrefixSet;
use crate::wire::{FlowKey, protocol};

/// Rules of a screen.
pub(super) const RULES: usize = 512;
/// First and last IPv4 address, as [`Addr::bits`].
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// A bit for each rule: a line of the processor's caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct Bits([u64; RULES / 64]);

impl Bits {
    pub(super) fn set(&mut self, rule: usize) {
        if let Some(word) = self.0.get_mut(rule / 64) {
            *word |= 1 << (rule % 64);
        }
    }

    pub(super) fn clear(&mut self, rule: usize) {
        if let Some(word) = self.0.get_mut(rule / 64) {
            *word &= !(1 << (rule % 64));
        }
    }

    pub(super) fn has(&self, rule: usize) -> bool {
        self.0.get(rule / 64).is_some_and(|word| word >> (rule % 64) & 1 != 0)
    }

    /// Calls `each` with every rule, in ascending order.
    #[inline]
    pub(super) fn each(&self, mut each: impl FnMut(usize)) {
        for (place, word) in self.0.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                each(place * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }
}

/// Protocols that are told apart, in each family; the others are one.
const PROTOCOLS: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::ICMP];
/// Pages of ports: of 16 up to 1023, of 1024 behind.
const PAGES: usize = 64 + 63;
/// Pages of IPv6 addresses.
const V6: usize = 32;

/// For each value, which rules a packet that has it may match.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// By protocol, those of IPv6 behind those of IPv4.
    protocol: [Bits; 2 * (PROTOCOLS.len() + 1)],
    source: Side,
    destination: Side,
    /// By page.
    destination_port: [Bits; PAGES],
    /// Those that are still there.
    pub(super) live: Bits,
}

/// Source or destination.
#[derive(Clone, Debug)]
struct Side {
    /// By the first byte of an IPv4 address; behind these by the first five bits of an IPv6 address.
    first: [Bits; 256 + V6],
    /// By the second byte of an IPv4 address; behind these for all of IPv6.
    second: [Bits; 257],
}

impl Default for Screen {
    /// No rule.
    fn default() -> Self {
        let none = Bits::default();
        let side = Side { first: [none; 256 + V6], second: [none; 257] };
        Self {
            protocol: [none; 2 * (PROTOCOLS.len() + 1)],
            source: side.clone(),
            destination: side,
            destination_port: [none; PAGES],
            live: none,
        }
    }
}

impl Screen {
    /// Puts a rule at a place that had none.
    pub(super) fn add(&mut self, rule: usize, pattern: &Pattern) {
        for family in [Family::V4, Family::V6] {
            for number in 0..=u8::MAX {
                if pattern.protocol.contains(number, family) {
                    self.protocol[protocol_place(number, family)].set(rule);
                }
            }
        }
        self.source.add(rule, &pattern.source);
        self.destination.add(rule, &pattern.destination);
        for (first, last) in pattern.destination_ports.ranges() {
            let pages = &mut self.destination_port[page(first)..=page(last)];
            pages.iter_mut().for_each(|bits| bits.set(rule));
        }
        self.live.set(rule);
    }

    /// The rules that a packet may match.
    #[inline]
    pub(super) fn pass(&self, key: &FlowKey, compares_ports: bool) -> Bits {
        let port = if compares_ports { &self.destination_port[page(key.dst_port)] } else { &self.live };
        let protocol = &self.protocol[protocol_place(key.protocol, key.src.family())];
        let ([a, b], [c, d]) = (self.source.find(key.src), self.destination.find(key.dst));
        Bits(core::array::from_fn(|word| {
            protocol.0[word]
                & port.0[word]
                & a.0[word]
                & b.0[word]
                & c.0[word]
                & d.0[word]
                & self.live.0[word]
        }))
    }
}

#[inline]
fn protocol_place(number: u8, family: Family) -> usize {
    let place = PROTOCOLS.iter().position(|known| *known == number).unwrap_or(PROTOCOLS.len());
    if family == Family::V6 { PROTOCOLS.len() + 1 + place } else { place }
}

#[inline]
fn page(port: u16) -> usize {
    let (fine, coarse) = (usize::from(port >> 4), usize::from(port >> 10));
    if coarse == 0 { fine } else { 63 + coarse }
}

impl Side {
    fn add(&mut self, rule: usize, set: &PrefixSet) {
        for (first, last) in set.ranges() {
            let (from, to) = (first.max(MAPPED.0), last.min(MAPPED.1));
            if from <= to {
                let byte = |bits: u128, shift: u32| (bits >> shift & 0xff) as usize;
                let firsts = byte(from, 24)..=byte(to, 24);
                // From one first byte into the next, every second byte may be.
                let seconds =
                    if firsts.start() == firsts.end() { byte(from, 16)..=byte(to, 16) } else { 0..=255 };
                self.first[firsts].iter_mut().for_each(|bits| bits.set(rule));
                self.second[seconds].iter_mut().for_each(|bits| bits.set(rule));
            }
            if first < MAPPED.0 || last > MAPPED.1 {
                let page = |bits: u128| 256 + (bits >> 123) as usize;
                self.first[page(first)..=page(last)].iter_mut().for_each(|bits| bits.set(rule));
                self.second[256].set(rule);
            }
        }
    }

    #[inline]
    fn find(&self, address: Addr) -> [&Bits; 2] {
        match address.as_v4() {
            Some([first, second, ..]) => [&self.first[usize::from(first)], &self.second[usize::from(second)]],
            None => [&self.first[256 + usize::from(address.octets()[0] >> 3)], &self.second[256]],
        }
    }
}
