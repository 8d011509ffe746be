//! Which of some rules a packet may match, by its protocol, its destination port, and the first two bytes of each address: six words
//! are read and put together for each sheet of 64 rules, whatever the rules are. A sheet is small enough for the processor's first cache.

use super::pattern::Pattern;
use crate::addr::{Addr, Family};
use crate::prefix_set::PrefixSet;
use crate::wire::{FlowKey, protocol};
use std::sync::Arc;

/// First and last IPv4 address, as [`Addr::bits`].
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// A bit for each rule of a sheet.
type Bits = u64;

/// Rules of a sheet.
const SHEET: usize = Bits::BITS as usize;

/// Protocols that are told apart, in each family; the others are one.
const PROTOCOLS: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::ICMP];
/// Pages of ports: of 16 up to 1023, of 1024 behind.
const PAGES: usize = 64 + 63;
/// Pages of IPv6 addresses.
const V6: usize = 32;

/// Rules by their place, on as many sheets as they need.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen(Vec<Arc<Sheet>>);

/// For each value, which rules a packet that has it may match.
#[derive(Clone, Debug)]
struct Sheet {
    /// By protocol, those of IPv6 behind those of IPv4.
    protocol: [Bits; 2 * (PROTOCOLS.len() + 1)],
    source: Side,
    destination: Side,
    /// By page.
    destination_port: [Bits; PAGES],
    /// Those that are still there.
    live: Bits,
}

/// Source or destination.
#[derive(Clone, Debug)]
struct Side {
    /// By the first byte of an IPv4 address; behind these by the first five bits of an IPv6 address.
    first: [Bits; 256 + V6],
    /// By the second byte of an IPv4 address; behind these for all of IPv6.
    second: [Bits; 257],
}

/// Where a packet's values stand on every sheet.
#[derive(Clone, Copy, Debug)]
struct Places {
    protocol: usize,
    /// `None`: ports are not compared.
    port: Option<usize>,
    source: [usize; 2],
    destination: [usize; 2],
}

impl Screen {
    /// Puts a rule at the next place, which is behind those of all rules before it.
    pub(super) fn add(&mut self, place: usize, pattern: &Pattern) {
        if place / SHEET >= self.0.len() {
            self.0.push(Arc::default());
        }
        if let Some(sheet) = self.0.get_mut(place / SHEET) {
            Arc::make_mut(sheet).add(1 << (place % SHEET), pattern);
        }
    }

    /// Takes a rule away; its place stays empty.
    pub(super) fn clear(&mut self, place: usize) {
        if let Some(sheet) = self.0.get_mut(place / SHEET) {
            Arc::make_mut(sheet).live &= !(1 << (place % SHEET));
        }
    }

    /// Whether there is a rule at a place.
    pub(super) fn has(&self, place: usize) -> bool {
        self.0.get(place / SHEET).is_some_and(|sheet| sheet.live >> (place % SHEET) & 1 != 0)
    }

    /// Calls `each` with the place of every rule that a packet may match, in ascending order.
    #[inline]
    pub(super) fn pass(&self, key: &FlowKey, compares_ports: bool, mut each: impl FnMut(usize)) {
        if self.0.is_empty() {
            return;
        }
        let places = Places {
            protocol: protocol_place(key.protocol, key.src.family()),
            port: compares_ports.then(|| page(key.dst_port)),
            source: address_places(key.src),
            destination: address_places(key.dst),
        };
        for (number, sheet) in self.0.iter().enumerate() {
            let mut left = sheet.pass(&places);
            while left != 0 {
                each(number * SHEET + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Sheet>()
    }
}

impl Default for Sheet {
    /// No rule.
    fn default() -> Self {
        let side = Side { first: [0; 256 + V6], second: [0; 257] };
        Self {
            protocol: [0; 2 * (PROTOCOLS.len() + 1)],
            source: side.clone(),
            destination: side,
            destination_port: [0; PAGES],
            live: 0,
        }
    }
}

impl Sheet {
    /// Puts a rule there, which has this bit.
    fn add(&mut self, bit: Bits, pattern: &Pattern) {
        for family in [Family::V4, Family::V6] {
            for number in 0..=u8::MAX {
                if pattern.protocol.contains(number, family) {
                    self.protocol[protocol_place(number, family)] |= bit;
                }
            }
        }
        self.source.add(bit, &pattern.source);
        self.destination.add(bit, &pattern.destination);
        for (first, last) in pattern.destination_ports.ranges() {
            let pages = &mut self.destination_port[page(first)..=page(last)];
            pages.iter_mut().for_each(|bits| *bits |= bit);
        }
        self.live |= bit;
    }

    /// The rules that a packet may match.
    #[inline]
    fn pass(&self, places: &Places) -> Bits {
        let value = |bits: &[Bits], place: usize| bits.get(place).copied().unwrap_or(0);
        let port = places.port.map_or(self.live, |page| value(&self.destination_port, page));
        let side = |side: &Side, [first, second]: [usize; 2]| {
            value(&side.first, first) & value(&side.second, second)
        };
        self.live
            & port
            & value(&self.protocol, places.protocol)
            & side(&self.source, places.source)
            & side(&self.destination, places.destination)
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

/// Where an address stands among a side's first and second bytes.
#[inline]
fn address_places(address: Addr) -> [usize; 2] {
    match address.as_v4() {
        Some([first, second, ..]) => [first.into(), second.into()],
        None => [256 + usize::from(address.octets()[0] >> 3), 256],
    }
}

impl Side {
    fn add(&mut self, bit: Bits, set: &PrefixSet) {
        for (first, last) in set.ranges() {
            let (from, to) = (first.max(MAPPED.0), last.min(MAPPED.1));
            if from <= to {
                let byte = |bits: u128, shift: u32| (bits >> shift & 0xff) as usize;
                let firsts = byte(from, 24)..=byte(to, 24);
                // From one first byte into the next, every second byte may be.
                let seconds =
                    if firsts.start() == firsts.end() { byte(from, 16)..=byte(to, 16) } else { 0..=255 };
                self.first[firsts].iter_mut().for_each(|bits| *bits |= bit);
                self.second[seconds].iter_mut().for_each(|bits| *bits |= bit);
            }
            if first < MAPPED.0 || last > MAPPED.1 {
                let page = |bits: u128| 256 + (bits >> 123) as usize;
                self.first[page(first)..=page(last)].iter_mut().for_each(|bits| *bits |= bit);
                self.second[256] |= bit;
            }
        }
    }
}
