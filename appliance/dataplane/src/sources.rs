//! The addresses that a configuration tells apart: ranges that no list, route or rule divides. What is true of an address is
//! true of its whole range, so that it is found out once, when the configuration is compiled, or once when a packet comes.

use crate::addr::{Addr, Family};
use crate::guard::Standing;
use crate::intrinsics::prefetch;

/// First and last address of `::ffff:0:0/96`, where [`Addr`] keeps IPv4.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);
/// Blocks of IPv4 addresses, by their upper bits: so few that their table stays in the caches of a core.
const BLOCKS: usize = 1 << 14;
/// Bits of an address within its block.
const BLOCK_BITS: u32 = 32 - BLOCKS.ilog2();

/// The ranges of both families, and what is known of each. Filled while a configuration is compiled, then only read.
#[derive(Clone, Debug)]
pub struct Ranges<T> {
    /// The range that a block's first address is in, for each block; behind them the last range.
    blocks: Box<[u32]>,
    /// Where each range begins.
    v4: Box<[u32]>,
    /// The same of IPv6; these come behind those of IPv4.
    v6: Box<[u128]>,
    known: Box<[T]>,
}

/// What the guard knows of sources.
pub type Sources = Ranges<Standing>;

/// A range, by its place in this generation of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SourceId(pub u32);

impl<T> Ranges<T> {
    /// From the ranges, both ends included, that anything looks at, and from what there is to know of an address.
    pub fn build(
        ranges: impl IntoIterator<Item = (u128, u128)>,
        mut known_of: impl FnMut(Addr) -> T,
    ) -> Self {
        let bounds = ranges.into_iter().flat_map(|(first, last)| [Some(first), last.checked_add(1)]);
        let ends = [Some(0), Some(MAPPED.0), MAPPED.1.checked_add(1)];
        let mut starts: Vec<u128> = bounds.chain(ends).flatten().collect();
        starts.sort_unstable();
        starts.dedup();
        let (v4, v6): (Vec<u128>, Vec<u128>) =
            starts.into_iter().partition(|start| (MAPPED.0..=MAPPED.1).contains(start));
        let known = v4.iter().chain(&v6).map(|start| known_of(Addr::from_bits(*start))).collect();
        let v4: Box<[u32]> = v4.into_iter().map(|start| start as u32).collect();
        let of_block = |block: usize| {
            v4.partition_point(|start| *start as usize <= block << BLOCK_BITS).saturating_sub(1)
        };
        let blocks = (0..=BLOCKS).map(|block| of_block(block) as u32).collect();
        Self { blocks, v6: v6.into(), known, v4 }
    }

    /// Asks for what [`of_v4`](Self::of_v4) reads first.
    #[inline(always)]
    pub(crate) fn prefetch_v4(&self, address: u32) {
        prefetch(&self.blocks, (address >> BLOCK_BITS) as usize);
    }

    /// The range of an address over IPv4, as a number.
    #[inline(always)]
    pub fn of_v4(&self, address: u32) -> SourceId {
        let block = (address >> BLOCK_BITS) as usize;
        let (first, last) = (self.blocks[block] as usize, self.blocks[block + 1] as usize);
        if first == last {
            return SourceId(first as u32);
        }
        self.among(first, last, address)
    }

    #[inline(never)]
    fn among(&self, first: usize, last: usize, address: u32) -> SourceId {
        let others = self.v4.get(first + 1..=last).unwrap_or_default();
        SourceId((first + others.partition_point(|start| *start <= address)) as u32)
    }

    /// The range of an address over IPv6.
    #[inline]
    pub fn of_v6(&self, address: Addr) -> SourceId {
        let bits = address.bits();
        let behind = self.v6.partition_point(|start| *start <= bits);
        SourceId((self.v4.len() + behind.saturating_sub(1)) as u32)
    }

    /// The range of any address.
    pub fn of(&self, address: Addr) -> SourceId {
        match address.family() {
            Family::V4 => self.of_v4(address.bits() as u32),
            Family::V6 => self.of_v6(address),
        }
    }

    /// What is known of the addresses of a range.
    #[inline(always)]
    pub fn known(&self, SourceId(id): SourceId) -> &T {
        &self.known[id as usize]
    }
}

impl Sources {
    /// What the guard knows of the addresses of a range.
    #[inline(always)]
    pub fn standing(&self, id: SourceId) -> Standing {
        *self.known(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guard;
    use nva_config::Config;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Addresses near each other, and near the ends of both families.
    fn address() -> impl Strategy<Value = Addr> {
        let octet = prop_oneof![Just(0u8), Just(1), Just(0x0a), Just(0xff), any::<u8>()];
        let high = prop_oneof![
            Just([0u8; 12]),
            Just([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            Just([0xff; 12]),
            Just([0x20; 12])
        ];
        (high, proptest::array::uniform4(octet)).prop_map(|(high, low)| {
            let mut octets = [0; 16];
            octets[..12].copy_from_slice(&high);
            octets[12..].copy_from_slice(&low);
            Addr::v6(octets)
        })
    }

    proptest! {
        #[test]
        fn tells_apart_what_is_in_different_ranges(bounds in vec((address(), address()), 0..12), asked in vec(address(), 2..40)) {
            let ranges: Vec<(u128, u128)> =
                bounds.iter().map(|(a, b)| (a.bits().min(b.bits()), a.bits().max(b.bits()))).collect();
            let guard = Guard::build(&Config::default());
            let sources = Sources::build(ranges.iter().copied(), |source| guard.standing(source, None));
            let places = |address: &Addr| -> Vec<bool> {
                ranges.iter().map(|range| (range.0..=range.1).contains(&address.bits())).collect()
            };
            let ends = bounds.iter().flat_map(|(a, b)| [*a, *b]);
            let asked: Vec<Addr> = asked.into_iter().chain(ends).collect();
            for one in &asked {
                for other in &asked {
                    if sources.of(*one) == sources.of(*other) {
                        prop_assert_eq!(places(one), places(other), "{} and {}", one, other);
                        prop_assert_eq!(one.family(), other.family());
                    }
                }
            }
        }
    }
}
