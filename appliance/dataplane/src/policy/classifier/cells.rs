//! A part of the rules as a matrix of source by destination classes. Each cell names a stack. Rows of the matrix are cut into
//! chunks of up to 32 cells, equal chunks are kept once: most of a row is like the rows beside it. In large matrices the list of a
//! row's chunks is cut into blocks of 32 and these are kept once too.

use super::intervals::Intervals;
use super::memory::Pieces;
use super::service::Services;
use super::stack::StackBuilder;
use hashbrown::HashMap;

/// Destination classes in a chunk, at most, as a power of two.
const CHUNK_BITS: u32 = 5;
/// Chunks in a block, as a power of two.
const BLOCK_BITS: u32 = 5;
/// A matrix with more chunks than this, had each row its own, has blocks.
const MOST_CHUNKS: usize = 1 << 20;

/// A matrix.
#[derive(Debug)]
pub(super) struct Part {
    /// How many of a column's bits choose the cell in its chunk.
    pub(super) chunk_bits: u32,
    /// How many more choose the chunk in its block.
    pub(super) block_bits: u32,
    /// In a large matrix, for each distinct row, where its blocks begin in `heads`.
    pub(super) blocks: Vec<u32>,
    /// For each distinct row or block, where its chunks begin in `cells`.
    pub(super) heads: Vec<u32>,
    /// Stacks.
    pub(super) cells: Vec<u32>,
}

/// Where classes lead in a matrix.
pub(super) struct Lines {
    /// By class of the source: where its row begins, in `blocks` if there are any, else in `heads`.
    pub(super) rows: Vec<u32>,
    /// By class of the destination: its column.
    pub(super) columns: Vec<u32>,
}

/// The rules as the builder sees them: by rule, which of the distinct address sets it names.
pub(super) struct Sides<'a> {
    pub(super) source: &'a Intervals,
    pub(super) source_sets: usize,
    pub(super) source_of: &'a [u32],
    pub(super) destination: &'a Intervals,
    pub(super) destination_sets: usize,
    pub(super) destination_of: &'a [u32],
}

/// What remains to be spent on a classifier.
pub(super) struct Budget {
    /// Bytes that the tables may take.
    pub(super) bytes: usize,
    /// Steps of work.
    pub(super) work: usize,
}

impl Part {
    /// The matrix of these rules, which are in the order of their priority. `None` if it would exceed the budget.
    pub(super) fn build(
        rules: &[u32],
        sides: &Sides<'_>,
        services: &Services,
        stacks: &mut StackBuilder<'_>,
        budget: &mut Budget,
    ) -> Option<(Self, Lines)> {
        let source = Axis::build(sides.source, sides.source_sets, rules, sides.source_of);
        let destination = Axis::build(sides.destination, sides.destination_sets, rules, sides.destination_of);
        let mut by_source = vec![Vec::new(); sides.source_sets];
        for rule in rules {
            by_source[sides.source_of[*rule as usize] as usize].push(*rule);
        }
        let mut weaver = Weaver::new(sides, services, source.members.len(), destination, stacks);
        let mut rows = Vec::with_capacity(source.members.len());
        for sets in &source.members {
            let mut row: Vec<u32> = sets.iter().flat_map(|set| &by_source[*set as usize]).copied().collect();
            row.sort_unstable();
            let mut work = 0;
            rows.push(weaver.row(&row, stacks, &mut work));
            budget.work = budget.work.checked_sub(work)?;
            if weaver.part.bytes() + stacks.bytes() > budget.bytes {
                return None;
            }
        }
        let Weaver { part, columns, .. } = weaver;
        let rows = source.local.iter().map(|class| rows[*class as usize]).collect();
        let lines = Lines { rows, columns };
        budget.bytes =
            budget.bytes.checked_sub(part.bytes() + 4 * (lines.rows.len() + lines.columns.len()))?;
        Some((part, lines))
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.blocks.len() + self.heads.len() + self.cells.len())
    }
}

/// Makes a matrix row by row.
struct Weaver<'a> {
    part: Part,
    /// By class of the destination: its column.
    columns: Vec<u32>,
    sides: &'a Sides<'a>,
    /// By destination set: the chunks of which it covers any cell, ascending, and which.
    coverage: Vec<Vec<(u32, u32)>>,
    refiner: Refiner<'a>,
    /// For each chunk, the rules of the row in work that cover any of its cells, behind the chunk's number.
    touching: Vec<Vec<u32>>,
    /// The chunks that any covers.
    touched: Vec<u32>,
    /// Where the row's chunks begin, the row in work; chunks without a rule all begin at 0.
    heads: Vec<u32>,
    /// Where the row's blocks begin, the row in work; those without a rule all begin at 0. Nothing where there are no blocks.
    blocks: Vec<u32>,
    /// What touched chunks of which the cells are known: how long it is, where the cells begin, and then itself.
    chunks: Vec<u32>,
    known_chunks: Pieces,
    known_cells: Pieces,
    known_blocks: Pieces,
    known_rows: Pieces,
}

impl<'a> Weaver<'a> {
    fn new(
        sides: &'a Sides<'a>,
        services: &'a Services,
        rows: usize,
        destination: Axis,
        stacks: &mut StackBuilder<'_>,
    ) -> Self {
        let columns = destination.members.len();
        let chunk_bits = columns.next_power_of_two().trailing_zeros().min(CHUNK_BITS);
        let chunks = columns.div_ceil(1 << chunk_bits);
        let has_blocks = rows.saturating_mul(chunks) > MOST_CHUNKS;
        let slots = if has_blocks { chunks.next_multiple_of(1 << BLOCK_BITS) } else { chunks };
        let blocks = if has_blocks { slots >> BLOCK_BITS } else { 0 };
        let coverage = destination.coverage(chunk_bits);
        let part = Part {
            chunk_bits,
            block_bits: BLOCK_BITS,
            blocks: Vec::new(),
            heads: vec![0; if has_blocks { 1 << BLOCK_BITS } else { 0 }],
            cells: vec![stacks.intern(&[]); 1 << chunk_bits],
        };
        Self {
            part,
            columns: destination.local,
            sides,
            coverage,
            refiner: Refiner { services, groups: Vec::new(), spare: Vec::new(), cells: Vec::new() },
            touching: (0..chunks).map(|chunk| vec![chunk as u32]).collect(),
            touched: Vec::new(),
            heads: vec![0; slots],
            blocks: vec![0; blocks],
            chunks: Vec::new(),
            known_chunks: Pieces::default(),
            known_cells: Pieces::default(),
            known_blocks: Pieces::default(),
            known_rows: Pieces::default(),
        }
    }

    /// Where the row begins in which these rules, sorted by priority, decide.
    fn row(&mut self, rules: &[u32], stacks: &mut StackBuilder<'_>, work: &mut usize) -> u32 {
        for rule in rules {
            let covered = &self.coverage[self.sides.destination_of[*rule as usize] as usize];
            *work += 1 + covered.len();
            for (chunk, _) in covered {
                let touching = &mut self.touching[*chunk as usize];
                if touching.len() == 1 {
                    self.touched.push(*chunk);
                }
                touching.push(*rule);
            }
        }
        for place in 0..self.touched.len() {
            let chunk = self.touched[place] as usize;
            self.heads[chunk] = self.chunk(chunk, stacks, work);
            self.touching[chunk].truncate(1);
        }
        *work += self.heads.len() / 32;
        let row = if self.blocks.is_empty() {
            self.known_rows.once_alike(&mut self.part.heads, &self.heads)
        } else {
            for chunk in &self.touched {
                let start = &mut self.blocks[*chunk as usize >> BLOCK_BITS];
                if *start == 0 {
                    let first = *chunk as usize & !((1 << BLOCK_BITS) - 1);
                    let block = &self.heads[first..first + (1 << BLOCK_BITS)];
                    *start = self.known_blocks.once_alike(&mut self.part.heads, block);
                }
            }
            self.known_rows.once_alike(&mut self.part.blocks, &self.blocks)
        };
        self.blocks.fill(0);
        self.touched.drain(..).for_each(|chunk| self.heads[chunk as usize] = 0);
        row
    }

    /// Where the chunk's cells begin.
    fn chunk(&mut self, chunk: usize, stacks: &mut StackBuilder<'_>, work: &mut usize) -> u32 {
        let touching = &self.touching[chunk];
        let before = self.chunks.len();
        let known = self.known_chunks.once(&mut self.chunks, touching, touched, |chunks, touching| {
            chunks.extend([touching.len() as u32, 0]);
            chunks.extend_from_slice(touching);
        });
        if self.chunks.len() == before {
            return self.chunks[known as usize + 1];
        }
        let covered = touching[1..].iter().map(|rule| {
            let covered = &self.coverage[self.sides.destination_of[*rule as usize] as usize];
            (*rule, covered.as_slice())
        });
        let cells = self.refiner.cells(covered, touching[0], self.part.chunk_bits, stacks, work);
        let start = self.known_cells.once_alike(&mut self.part.cells, cells);
        self.chunks[known as usize + 1] = start;
        start
    }
}

/// What touched a chunk that is known.
fn touched(chunks: &[u32], at: u32) -> &[u32] {
    let Some([len, _, rest @ ..]) = chunks.get(at as usize..) else { return &[] };
    rest.get(..*len as usize).unwrap_or_default()
}

/// One side's classes with only a part's rules in mind: classes that only other rules tell apart are one here.
struct Axis {
    /// By class of all rules: the class here.
    local: Vec<u32>,
    /// By class here: the sets that hold it.
    members: Vec<Vec<u32>>,
    sets: usize,
}

impl Axis {
    fn build(intervals: &Intervals, sets: usize, rules: &[u32], set_of: &[u32]) -> Self {
        let mut used = vec![false; sets];
        rules.iter().for_each(|rule| used[set_of[*rule as usize] as usize] = true);
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut members = Vec::new();
        let local = intervals
            .members
            .iter()
            .map(|all| {
                let here: Vec<u32> = all.iter().copied().filter(|set| used[*set as usize]).collect();
                *known.entry(here).or_insert_with_key(|here| {
                    members.push(here.clone());
                    members.len() as u32 - 1
                })
            })
            .collect();
        Self { local, members, sets }
    }

    /// By set: the chunks that it covers any cell of, ascending, and which.
    fn coverage(&self, chunk_bits: u32) -> Vec<Vec<(u32, u32)>> {
        let mut coverage: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.sets];
        for (class, sets) in (0u32..).zip(&self.members) {
            let (chunk, bit) = (class >> chunk_bits, 1 << (class & ((1 << chunk_bits) - 1)));
            for set in sets {
                let chunks = &mut coverage[*set as usize];
                match chunks.last_mut() {
                    Some((last, mask)) if *last == chunk => *mask |= bit,
                    _ => chunks.push((chunk, bit)),
                }
            }
        }
        coverage
    }
}

/// Finds the stacks of a chunk's cells: begins with all cells in one group and splits a group where a rule covers a part of it.
struct Refiner<'a> {
    services: &'a Services,
    groups: Vec<Group>,
    /// Groups of chunks before, whose memory is used again.
    spare: Vec<Group>,
    cells: Vec<u32>,
}

/// Cells of a chunk that have met the same rules so far.
#[derive(Default)]
struct Group {
    cells: u32,
    rules: Vec<u32>,
    /// The service classes that these rules decide already. A rule that has none beside them decides nothing here.
    decided: Vec<u64>,
}

impl Refiner<'_> {
    /// The stacks of the cells of a chunk, from the rules that cover any of it and by rule the chunks that it covers.
    fn cells<'r>(
        &mut self,
        rules: impl Iterator<Item = (u32, &'r [(u32, u32)])>,
        chunk: u32,
        chunk_bits: u32,
        stacks: &mut StackBuilder<'_>,
        work: &mut usize,
    ) -> &[u32] {
        let all = u32::MAX >> (32 - (1u32 << chunk_bits));
        self.spare.append(&mut self.groups);
        let mut first = self.spare.pop().unwrap_or_default();
        first.cells = all;
        first.rules.clear();
        first.decided.clear();
        first.decided.resize(self.services.words, 0);
        self.groups.push(first);
        for (rule, covered) in rules {
            let place = covered.partition_point(|(other, _)| *other < chunk);
            let Some((_, cells)) = covered.get(place) else { continue };
            *work += 1 + self.groups.len() * (1 + self.services.words / 8);
            self.cover(rule, *cells);
        }
        let Self { groups, cells, .. } = self;
        cells.clear();
        cells.resize(1 << chunk_bits, 0);
        for group in groups {
            let stack = stacks.intern(&group.rules);
            *work += group.rules.len();
            for (cell, slot) in cells.iter_mut().enumerate() {
                if group.cells >> cell & 1 != 0 {
                    *slot = stack;
                }
            }
        }
        cells
    }

    /// Puts a rule below those that the cells have.
    fn cover(&mut self, rule: u32, cells: u32) {
        let classes = &self.services.classes[self.services.of_rule[rule as usize] as usize];
        for place in 0..self.groups.len() {
            let group = &mut self.groups[place];
            let (inside, outside) = (group.cells & cells, group.cells & !cells);
            if inside == 0 || classes.iter().zip(&group.decided).all(|(class, decided)| class & !decided == 0)
            {
                continue;
            }
            let rest = (outside != 0).then(|| {
                let mut rest = self.spare.pop().unwrap_or_default();
                rest.cells = outside;
                rest.rules.clone_from(&group.rules);
                rest.decided.clone_from(&group.decided);
                rest
            });
            group.cells = inside;
            group.rules.push(rule);
            group.decided.iter_mut().zip(classes).for_each(|(decided, class)| *decided |= class);
            self.groups.extend(rest);
        }
    }
}
