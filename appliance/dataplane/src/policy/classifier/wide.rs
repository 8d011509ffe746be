//! The lookup of a burst with AVX-512: the same steps as in `tables.rs`, for sixteen packets at a time.

use super::address::{AddressIndex, CLASS, LEVELS};
use super::cells::Part;
use super::stack::{NONE, Rows};
use super::tables::{Begun, Tables};
use crate::intrinsics::{Avx512, Lanes, Wide};
use crate::wire::FlowKey;

/// Packets that are looked up together.
const BURST: usize = 2 * 16;

/// A burst to be looked up.
pub(super) struct Search<'a> {
    pub(super) tables: &'a Tables,
    pub(super) keys: &'a [FlowKey],
    /// Where the places of the deciding rules go, [`NONE`] for none.
    pub(super) found: &'a mut [u32; BURST],
}

/// Both halves of a burst.
type Halves = [Lanes; 2];

impl Wide for Search<'_> {
    #[inline(always)]
    fn run(self, cpu: Avx512) {
        let Begun { lows, entries, services } = self.tables.begin::<BURST>(self.keys);
        let planes = &self.tables.services.planes;
        let [first, second] = load(cpu, &services);
        let services = [cpu.gather(planes, first), cpu.gather(planes, second)];
        let sources = descend(cpu, &self.tables.source, load(cpu, &lows[0]), load(cpu, &entries[0]));
        let destinations =
            descend(cpu, &self.tables.destination, load(cpu, &lows[1]), load(cpu, &entries[1]));
        let mut found = [cpu.splat(NONE); 2];
        for (part, number) in self.tables.parts.iter().zip(0u32..) {
            let (mut rows, mut columns) = (sources, destinations);
            if !self.tables.rows.is_empty() {
                for half in 0..2 {
                    let number = cpu.splat(number);
                    columns[half] = cpu.gather(&self.tables.columns, cpu.add(columns[half], number));
                    rows[half] = cpu.gather(&self.tables.rows, cpu.add(rows[half], number));
                }
            }
            let stacks = stacks(cpu, part, rows, columns);
            decide(cpu, self.tables, stacks, services, &mut found);
        }
        if let ([first, second], []) = self.found.as_chunks_mut::<16>() {
            (*first, *second) = (cpu.store(found[0]), cpu.store(found[1]));
        }
    }
}

// Arrays are taken apart by hand: what goes through a closure is not surely inlined, and then runs without AVX-512.

#[inline(always)]
fn load(cpu: Avx512, numbers: &[u32; BURST]) -> Halves {
    let ([first, second], []) = numbers.as_chunks::<16>() else { return [cpu.splat(0); 2] };
    [cpu.load(first), cpu.load(second)]
}

/// Address classes from the entries of the root.
#[inline(always)]
fn descend(cpu: Avx512, index: &AddressIndex, lows: Halves, mut entries: Halves) -> Halves {
    for (shift, bits) in LEVELS {
        for half in 0..2 {
            let part = cpu.and(cpu.shift_right(lows[half], shift), cpu.splat((1 << bits) - 1));
            entries[half] = cpu.gather_unless_negative(&index.nodes, entries[half], part);
        }
    }
    let class = cpu.splat(!CLASS);
    [cpu.and(entries[0], class), cpu.and(entries[1], class)]
}

/// The stacks where rows and columns meet.
#[inline(always)]
fn stacks(cpu: Avx512, part: &Part, mut places: Halves, columns: Halves) -> Halves {
    for half in 0..2 {
        let chunk = cpu.shift_right(columns[half], part.chunk_bits);
        if part.blocks.is_empty() {
            places[half] = cpu.add(places[half], chunk);
        } else {
            let block = cpu.add(places[half], cpu.shift_right(chunk, part.block_bits));
            let within = cpu.and(chunk, cpu.splat((1 << part.block_bits) - 1));
            places[half] = cpu.add(cpu.gather(&part.blocks, block), within);
        }
    }
    for place in &mut places {
        *place = cpu.gather(&part.heads, *place);
    }
    for half in 0..2 {
        let cell = cpu.and(columns[half], cpu.splat((1 << part.chunk_bits) - 1));
        places[half] = cpu.gather(&part.cells, cpu.add(places[half], cell));
    }
    places
}

/// The rules that decide, where they are better than those found before.
#[inline(always)]
fn decide(cpu: Avx512, tables: &Tables, stacks: Halves, services: Halves, found: &mut Halves) {
    let lists = &tables.stacks.lists;
    let mut places = stacks;
    for half in 0..2 {
        places[half] = cpu.add(cpu.gather(lists, stacks[half]), services[half]);
    }
    match &tables.stacks.rows {
        Rows::Bytes(rows) => {
            for place in &mut places {
                *place = cpu.gather_bytes(rows, *place);
            }
        }
        Rows::Words(rows) => {
            for place in &mut places {
                *place = cpu.gather_halves(rows, *place);
            }
        }
    }
    for half in 0..2 {
        let rule = cpu.add(cpu.add(stacks[half], cpu.splat(1)), places[half]);
        found[half] = cpu.min(found[half], cpu.gather(lists, rule));
    }
}
