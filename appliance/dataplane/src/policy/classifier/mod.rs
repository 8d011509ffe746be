//! Which rule decides: the first of an ordered list whose protocol, source, destination and ports all match.
//!
//! Rules are compiled once, off the data path, into immutable tables that answer in the same few dozen reads whatever the packet and
//! however many rules there are (`tables.rs`). A handful of rules is searched from the first to the last, which is faster; so are
//! rules whose tables would be too large. Nothing here knows what a rule does when it decides.
//!
//! *Invariant:* the answer is always the linear search's.

mod address;
mod cells;
#[cfg(any(test, feature = "testing"))]
pub mod classbench;
mod intervals;
mod memory;
mod pattern;
mod plan;
mod reach;
mod revision;
#[cfg(test)]
mod revision_tests;
mod screen;
mod service;
mod shadow;
mod stack;
mod tables;
#[cfg(test)]
mod tests;
mod wide;

pub use pattern::{Pattern, PortScope, Ports, Protocols};
pub use revision::{Edit, Revision};
pub use shadow::{Shadowed, shadowed};

use crate::intrinsics::Avx512;
use crate::wire::FlowKey;
use reach::Reach;
use tables::{Limits, Tables};
use wide::Search;

/// Finds the first rule that matches, as its place among the rules.
pub trait Classify {
    /// The place of the first rule that matches the packet.
    fn classify(&self, key: &FlowKey) -> Option<usize>;

    /// The same for each of a burst. Packets behind the shorter of both slices are left out.
    fn classify_burst(&self, keys: &[FlowKey], places: &mut [Option<u32>]) {
        for (key, place) in keys.iter().zip(places) {
            *place = self.classify(key).map(|place| place as u32);
        }
    }
}

/// Packets that are looked up together.
const BURST: usize = 32;
/// Up to so many packets are not looked up with AVX-512: it makes the steps of a whole burst however many there are.
const WIDE: usize = 8;
/// So many are looked up together then.
const SOME: usize = 4;
/// Up to so many rules the linear search is faster.
const FEW: usize = 24;

/// An ordered list of rules, the first that matches decides.
#[derive(Debug)]
pub struct Classifier {
    patterns: Vec<Pattern>,
    /// By rule.
    reach: Box<[Reach]>,
    scope: PortScope,
    tables: Option<Tables>,
    /// Bursts are looked up with AVX-512.
    cpu: Option<Avx512>,
}

/// The plain search, from the first rule to the last.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    patterns: &'a [Pattern],
    scope: PortScope,
}

impl Classifier {
    /// Compiles rules, the one that decides first in front. Takes time: never on the data path.
    pub fn build(patterns: Vec<Pattern>, scope: PortScope) -> Self {
        let tables = (patterns.len() > FEW)
            .then(|| Tables::build(&patterns.iter().collect::<Vec<_>>(), scope, Limits::DEFAULT))
            .flatten();
        Self::new(patterns, scope, tables)
    }

    fn new(patterns: Vec<Pattern>, scope: PortScope, tables: Option<Tables>) -> Self {
        let reach = patterns.iter().map(|pattern| Reach::of(pattern, scope)).collect();
        Self { patterns, reach, scope, tables, cpu: Avx512::detect() }
    }

    /// The rules.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Of which packets ports are compared.
    pub fn scope(&self) -> PortScope {
        self.scope
    }

    /// The same rules without tables.
    pub fn linear(&self) -> Linear<'_> {
        Linear { patterns: &self.patterns, scope: self.scope }
    }

    /// Whether the rules are searched linearly: they are few, or their tables would be too large.
    pub fn is_linear(&self) -> bool {
        self.tables.is_none()
    }

    /// What the tables take, in bytes, beside the rules themselves.
    pub fn table_bytes(&self) -> usize {
        self.tables.as_ref().map_or(0, Tables::bytes) + size_of_val(&*self.reach)
    }
}

impl Classify for Classifier {
    #[inline]
    fn classify(&self, key: &FlowKey) -> Option<usize> {
        let Some(tables) = &self.tables else { return self.linear().classify(key) };
        let mut found = [0];
        tables.find(core::slice::from_ref(key), &mut found);
        place(found[0]).map(|place| place as usize)
    }

    fn classify_burst(&self, keys: &[FlowKey], places: &mut [Option<u32>]) {
        let Some(tables) = &self.tables else { return self.linear().classify_burst(keys, places) };
        for (keys, places) in keys.chunks(BURST).zip(places.chunks_mut(BURST)) {
            let mut found = [0; BURST];
            match self.cpu {
                // A few are faster one by one.
                Some(cpu) if keys.len() > WIDE => cpu.run(Search { tables, keys, found: &mut found }),
                _ if keys.len() > WIDE => tables.find(keys, &mut found),
                _ => {
                    for (keys, found) in keys.chunks(SOME).zip(found.as_chunks_mut::<SOME>().0) {
                        tables.find(keys, found);
                    }
                }
            }
            places.iter_mut().zip(found).for_each(|(slot, found)| *slot = place(found));
        }
    }
}

impl<'a> Linear<'a> {
    /// A search of these rules, the one that decides first in front.
    pub fn new(patterns: &'a [Pattern], scope: PortScope) -> Self {
        Self { patterns, scope }
    }
}

impl Classify for Linear<'_> {
    #[inline]
    fn classify(&self, key: &FlowKey) -> Option<usize> {
        self.patterns.iter().position(|pattern| pattern.matches(key, self.scope))
    }
}

#[inline(always)]
fn place(found: u32) -> Option<u32> {
    (found != stack::NONE).then_some(found)
}
