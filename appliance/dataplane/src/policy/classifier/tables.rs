//! The compiled rules, and how a burst is looked up in them.
//!
//! 1. Each address becomes its class (`address.rs`), protocol and ports become a service class (`service.rs`).
//! 2. In each matrix (`cells.rs`), source and destination class lead to a stack.
//! 3. Stack and service class lead to the rule that decides (`stack.rs`). The best over all matrices wins.
//!
//! Every packet makes the same steps whatever the rules, and all packets of a burst make a step together, so that their waits for
//! memory overlap and there is nothing for the branch predictor to miss.

use super::address::{AddressIndex, CLASS, LEVELS};
use super::cells::{Budget, Lines, Part, Sides};
use super::intervals::Intervals;
use super::memory::at;
use super::pattern::{Pattern, PortScope};
use super::plan;
use super::service::{ServiceIndex, Services};
use super::stack::{Rows, StackBuilder, Stacks};
use crate::addr::Family;
use crate::prefix_set::PrefixSet;
use crate::wire::FlowKey;
use hashbrown::HashMap;
use pmd_shim::hugepages;
use std::sync::Arc;

/// Rules as tables.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) source: AddressIndex,
    pub(super) destination: AddressIndex,
    pub(super) services: ServiceIndex,
    /// For each class of the source one after the other, where its row begins in each of the parts. Nothing where there is one part: the
    /// addresses' tables lead to row and column at once.
    pub(super) rows: Vec<u32>,
    /// For each class of the destination, its column in each of the parts.
    pub(super) columns: Vec<u32>,
    pub(super) parts: Vec<Part>,
    pub(super) stacks: Stacks,
}

/// Packets after their first steps.
pub(super) struct Begun<const N: usize> {
    /// Source and destination: the address's lower bits.
    pub(super) lows: [[u32; N]; 2],
    /// Source and destination: the entry in the root of the address's tables.
    pub(super) entries: [[u32; N]; 2],
    /// The places of their service classes.
    pub(super) services: [u32; N],
}

/// What a classifier may take to be built: a fixed part, and so much for each rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of matrices and stacks.
    pub(super) bytes: (usize, usize),
    /// Steps of work, of some ten nanoseconds each.
    pub(super) work: (usize, usize),
    /// In how many sets the classes of a field are, all taken together.
    pub(super) memberships: (usize, usize),
    /// Bytes of a single matrix, where the rules can be divided over more.
    pub(super) single_bytes: (usize, usize),
    /// Steps of work for a single matrix.
    pub(super) single_work: (usize, usize),
}

impl Limits {
    /// Ten thousand rules take at most 27 MB, a hundred thousand 200 MB.
    pub(super) const DEFAULT: Self = Self {
        bytes: (8 << 20, 1_900),
        work: (10_000_000, 1_000),
        memberships: (4_000_000, 200),
        single_bytes: (4 << 20, 400),
        single_work: (4_000_000, 0),
    };
}

impl Tables {
    /// Compiles rules, which are in the order of their priority. `None`: they have no form that is small enough.
    pub(super) fn build(patterns: &[&Pattern], scope: PortScope, limits: Limits) -> Option<Self> {
        let scaled = |(fixed, each): (usize, usize)| fixed + each * patterns.len();
        let (service_index, services) =
            ServiceIndex::build(patterns, scope, scaled(limits.bytes) / 16, scaled(limits.memberships))?;
        let (sources, source_of) = distinct_sets(patterns.iter().map(|pattern| &pattern.source));
        let (destinations, destination_of) =
            distinct_sets(patterns.iter().map(|pattern| &pattern.destination));
        let most = scaled(limits.memberships);
        let source = Intervals::cut(sources.iter().map(|set| set.ranges()), u128::MAX, most)?;
        let destination = Intervals::cut(destinations.iter().map(|set| set.ranges()), u128::MAX, most)?;
        let sides = Sides {
            source: &source,
            source_sets: sources.len(),
            source_of: &source_of,
            destination: &destination,
            destination_sets: destinations.len(),
            destination_of: &destination_of,
        };
        let one = vec![(0..patterns.len() as u32).collect()];
        let single = Budget { bytes: scaled(limits.single_bytes), work: scaled(limits.single_work) };
        let divided = || {
            let attempt = |share| {
                let budget = Budget { bytes: scaled(limits.bytes), work: scaled(limits.work) };
                matrices(&plan::divide(patterns.len(), &sides, share), &sides, &services, budget)
            };
            plan::SHARES.into_iter().find_map(attempt)
        };
        let (parts, lines, stacks) = matrices(&one, &sides, &services, single).or_else(divided)?;
        let (rows, columns): (Vec<_>, Vec<_>) =
            lines.into_iter().map(|lines| (lines.rows, lines.columns)).unzip();
        let (source_values, rows) = interleaved(source.len(), rows);
        let (destination_values, columns) = interleaved(destination.len(), columns);
        let mut tables = Self {
            source: AddressIndex::build(&source, &source_values),
            destination: AddressIndex::build(&destination, &destination_values),
            services: service_index,
            rows,
            columns,
            parts,
            stacks,
        };
        tables.back();
        Some(tables)
    }

    /// Asks for huge pages: a look-up reads a dozen places anywhere in tables that span tens of megabytes, and would wait as long for each
    /// place's page as for what is there.
    fn back(&mut self) {
        let Self { source, destination, rows, columns, parts, stacks, .. } = self;
        let mut tables = vec![rows, columns, &mut stacks.lists, &mut source.nodes, &mut destination.nodes];
        tables.extend(parts.iter_mut().flat_map(|part| [&mut part.blocks, &mut part.heads, &mut part.cells]));
        for table in tables {
            hugepages::back(table);
        }
        match &mut stacks.rows {
            Rows::Bytes(rows) => hugepages::back(rows),
            Rows::Words(rows) => hugepages::back(rows),
        };
    }

    /// The first steps of up to `N` packets, which each makes for itself.
    #[inline(always)]
    pub(super) fn begin<const N: usize>(&self, keys: &[FlowKey]) -> Begun<N> {
        let mut begun = Begun { lows: [[0; N]; 2], entries: [[0; N]; 2], services: [0; N] };
        for (lane, key) in keys.iter().enumerate().take(N) {
            let family = if let (Some(source), Some(destination)) = (key.src.as_v4(), key.dst.as_v4()) {
                let (source, destination) = (u32::from_be_bytes(source), u32::from_be_bytes(destination));
                (begun.lows[0][lane], begun.lows[1][lane]) = (source, destination);
                begun.entries[0][lane] = self.source.begin(source);
                begun.entries[1][lane] = self.destination.begin(destination);
                Family::V4
            } else {
                begun.entries[0][lane] = self.source.find(key.src);
                begun.entries[1][lane] = self.destination.find(key.dst);
                key.src.family()
            };
            begun.services[lane] = self.services.place(key, family);
        }
        begun
    }

    /// Finds the first matching rule of each packet, at most `N` of them; `NONE` where there is none.
    #[inline(always)]
    pub(super) fn find<const N: usize>(&self, keys: &[FlowKey], found: &mut [u32; N]) {
        let Begun { lows, entries: [mut sources, mut destinations], mut services } = self.begin::<N>(keys);
        for service in &mut services {
            *service = at(&self.services.planes, *service);
        }
        for level in LEVELS {
            for lane in 0..N {
                sources[lane] = self.source.descend(sources[lane], lows[0][lane], level);
                destinations[lane] = self.destination.descend(destinations[lane], lows[1][lane], level);
            }
        }
        *found = [super::stack::NONE; N];
        for (part, number) in self.parts.iter().zip(0u32..) {
            let (mut columns, mut places) =
                (destinations.map(|class| class & !CLASS), sources.map(|class| class & !CLASS));
            if !self.rows.is_empty() {
                for lane in 0..N {
                    columns[lane] = at(&self.columns, columns[lane] + number);
                    places[lane] = at(&self.rows, places[lane] + number);
                }
            }
            if part.blocks.is_empty() {
                for lane in 0..N {
                    places[lane] = at(&part.heads, places[lane] + (columns[lane] >> part.chunk_bits));
                }
            } else {
                for lane in 0..N {
                    let chunk = columns[lane] >> part.chunk_bits;
                    let block = at(&part.blocks, places[lane] + (chunk >> part.block_bits));
                    places[lane] = at(&part.heads, block + (chunk & ((1 << part.block_bits) - 1)));
                }
            }
            for lane in 0..N {
                let cell = columns[lane] & ((1 << part.chunk_bits) - 1);
                places[lane] = at(&part.cells, places[lane] + cell);
            }
            for lane in 0..N {
                places[lane] = self.stacks.decide(places[lane], services[lane]);
            }
            for lane in 0..N {
                found[lane] = found[lane].min(at(&self.stacks.lists, places[lane]));
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(Part::bytes).sum();
        parts
            + size_of_val(&*self.rows)
            + size_of_val(&*self.columns)
            + self.source.bytes()
            + self.destination.bytes()
            + self.services.bytes()
            + self.stacks.bytes()
    }
}

fn matrices(
    division: &[Vec<u32>],
    sides: &Sides<'_>,
    services: &Services,
    mut budget: Budget,
) -> Option<(Vec<Part>, Vec<Lines>, Stacks)> {
    let mut stacks = StackBuilder::new(services);
    let parts = division
        .iter()
        .map(|rules| Part::build(rules, sides, services, &mut stacks, &mut budget))
        .collect::<Option<Vec<_>>>()?;
    let (parts, lines) = parts.into_iter().unzip();
    Some((parts, lines, stacks.finish()))
}

/// The values for classes to lead to, and what stands there: for each class its values in all parts, side by side, since they are read for
/// the same packet. With one part the values are its own and nothing stands anywhere.
fn interleaved(classes: usize, mut by_part: Vec<Vec<u32>>) -> (Vec<u32>, Vec<u32>) {
    if let [one] = by_part.as_mut_slice() {
        return (core::mem::take(one), Vec::new());
    }
    // A power of two, so that a class's values are in one line of the processor's caches.
    let stride = by_part.len().next_power_of_two();
    let mut list = vec![0; classes * stride];
    for (class, slots) in list.chunks_mut(stride).enumerate() {
        slots.iter_mut().zip(&by_part).for_each(|(slot, part)| *slot = part[class]);
    }
    ((0..classes).map(|class| (class * stride) as u32).collect(), list)
}

/// The distinct sets, and for each rule the place of its own among them. Sets that are shared are compared once.
fn distinct_sets<'a>(sets: impl Iterator<Item = &'a Arc<PrefixSet>>) -> (Vec<&'a PrefixSet>, Vec<u32>) {
    let mut shared: HashMap<*const PrefixSet, u32> = HashMap::new();
    let mut known: HashMap<&PrefixSet, u32> = HashMap::new();
    let mut list: Vec<&PrefixSet> = Vec::new();
    let places = sets
        .map(|set| {
            *shared.entry(Arc::as_ptr(set)).or_insert_with(|| {
                *known.entry(set).or_insert_with(|| {
                    list.push(set);
                    list.len() as u32 - 1
                })
            })
        })
        .collect();
    (list, places)
}
