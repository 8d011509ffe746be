//! Rules added and taken away without building the tables anew: a change is in force within microseconds, however many rules there are.
//!
//! The tables stay as they are and are shared by all revisions. A rule that was added stands in a list of its own: a packet is
//! compared with those that its protocol, port and the first bytes of its addresses leave over (`screen.rs`). Where the tables answer with a rule that
//! was taken away, the rules behind it that meet it anywhere, up to one that matches all that it matched, are searched: its *heirs*. Both make lookups slower with every change, so that a
//! revision takes no more than [`Revision::CHANGES`]; then, or before, its rules are built anew ([`Revision::rebuilt`]).
//!
//! A rule has a *number* that it keeps over all revisions of one building: its place among the rules that were built, and behind
//! these by the order of being added. *Invariant:* the answer is the linear search's over [`Revision::rules`].

use super::pattern::{Pattern, PortScope};
use super::reach::{Reach, Spot};
use super::screen::Screen;
use super::shadow::covers;
use super::{Classifier, Classify};
use crate::wire::FlowKey;
use std::sync::Arc;

/// Rules that were built, with what changed since.
#[derive(Clone, Debug)]
pub struct Revision {
    base: Arc<Classifier>,
    /// Bits of the built rules that were taken away.
    gone: Box<[u64]>,
    /// Those rules, in ascending order, each with its heirs.
    heirs: Vec<(u32, Arc<[Heir]>)>,
    /// By the order of being added.
    added: Vec<Added>,
    /// Which packets each of them may match.
    screen: Screen,
}

/// A rule that was added.
#[derive(Clone, Debug)]
struct Added {
    pattern: Arc<Pattern>,
    reach: Reach,
    /// The built rule before which it stands; their number where it stands behind all.
    before: u32,
    /// How many others that were added stand before it.
    rank: u32,
}

/// A built rule, and about what it matches.
#[derive(Clone, Copy, Debug)]
struct Heir {
    place: u32,
    reach: Reach,
}

/// A change.
#[derive(Clone, Debug)]
pub enum Edit {
    /// A rule more.
    Add {
        /// What it matches.
        pattern: Pattern,
        /// The number of the rule directly before which it is to stand; `None`: behind all.
        before: Option<u32>,
    },
    /// A rule less.
    Remove {
        /// Its number.
        number: u32,
    },
}

/// No built rule.
const NONE: u32 = u32::MAX;

impl From<Arc<Classifier>> for Revision {
    fn from(base: Arc<Classifier>) -> Self {
        Self {
            gone: vec![0; base.patterns.len().div_ceil(64)].into(),
            base,
            heirs: Vec::new(),
            added: Vec::new(),
            screen: Screen::default(),
        }
    }
}

impl Revision {
    /// So many rules can be added, and as many of those that were built can be taken away.
    pub const CHANGES: usize = 512;

    /// These rules after some changes, made one after the other. `None`: a change names a rule that is not there, or there are too many.
    pub fn revised(&self, edits: &[Edit]) -> Option<Self> {
        let mut next = self.clone();
        for edit in edits {
            match edit {
                Edit::Add { pattern, before } => next.add(pattern.clone(), *before)?,
                Edit::Remove { number } => next.remove(*number)?,
            }
        }
        Some(next)
    }

    /// What is not changed since it was built.
    pub fn base(&self) -> &Arc<Classifier> {
        &self.base
    }

    /// The number of the rule that was added last, or of the last that was built.
    pub fn newest_number(&self) -> u32 {
        ((self.base.patterns.len() + self.added.len()) as u32).saturating_sub(1)
    }

    /// How many changes there were since it was built.
    pub fn changes(&self) -> usize {
        self.added.len() + self.heirs.len()
    }

    /// What the tables and the changes take, in bytes, beside the rules themselves.
    pub fn bytes(&self) -> usize {
        let heirs: usize = self.heirs.iter().map(|(_, heirs)| size_of_val(&**heirs)).sum();
        self.base.table_bytes() + heirs + size_of_val(&*self.gone) + self.screen.bytes()
    }

    /// The rules with their numbers, the one that decides first in front.
    pub fn rules(&self) -> impl Iterator<Item = (u32, &Pattern)> {
        let mut order: Vec<usize> = (0..self.added.len()).filter(|place| self.screen.has(*place)).collect();
        order.sort_unstable_by_key(|place| self.added[*place].rank);
        let mut order = order.into_iter().peekable();
        let built = self.base.patterns.len();
        let mut place = 0;
        core::iter::from_fn(move || {
            loop {
                if let Some(added) = order.next_if(|added| self.added[*added].before as usize <= place) {
                    return Some(((built + added) as u32, &*self.added[added].pattern));
                }
                let pattern = self.base.patterns.get(place)?;
                place += 1;
                if !self.is_gone(place as u32 - 1) {
                    return Some((place as u32 - 1, pattern));
                }
            }
        })
    }

    /// The same rules in tables of their own, whose numbers are their places here. Takes time: never on the data path.
    pub fn rebuilt(&self) -> Classifier {
        Classifier::build(self.rules().map(|(_, pattern)| pattern.clone()).collect(), self.scope())
    }

    fn scope(&self) -> PortScope {
        self.base.scope
    }

    #[inline]
    fn is_gone(&self, built: u32) -> bool {
        self.gone.get(built as usize / 64).is_some_and(|bits| bits >> (built % 64) & 1 != 0)
    }

    /// The place of a number among the rules that were added.
    fn place(&self, number: u32) -> Option<usize> {
        (number as usize).checked_sub(self.base.patterns.len())
    }

    fn is_there(&self, number: u32) -> bool {
        self.place(number).map_or_else(|| !self.is_gone(number), |place| self.screen.has(place))
    }

    fn add(&mut self, pattern: Pattern, before: Option<u32>) -> Option<()> {
        let new = self.added.len();
        if new == Self::CHANGES || before.is_some_and(|before| !self.is_there(before)) {
            return None;
        }
        let built = self.base.patterns.len() as u32;
        let neighbour = before.and_then(|before| self.place(before)).and_then(|place| self.added.get(place));
        // Directly before its neighbour, or behind all that were added before the same built rule.
        let (before, rank) = match neighbour {
            Some(neighbour) => (neighbour.before, neighbour.rank),
            None => {
                let before = before.unwrap_or(built);
                (before, self.added.iter().filter(|added| added.before <= before).count() as u32)
            }
        };
        for other in self.added.iter_mut().filter(|other| other.rank >= rank) {
            other.rank += 1;
        }
        self.screen.add(new, &pattern);
        let reach = Reach::of(&pattern, self.scope());
        self.added.push(Added { pattern: Arc::new(pattern), reach, before, rank });
        Some(())
    }

    fn remove(&mut self, number: u32) -> Option<()> {
        if !self.is_there(number) {
            return None;
        }
        if let Some(place) = self.place(number) {
            self.screen.clear(place);
            return Some(());
        }
        if self.heirs.len() == Self::CHANGES {
            return None;
        }
        let heirs = self.heirs_of(number)?;
        let at = self.heirs.partition_point(|(other, _)| *other < number);
        self.heirs.insert(at, (number, heirs));
        *self.gone.get_mut(number as usize / 64)? |= 1 << (number % 64);
        Some(())
    }

    /// The heirs of a built rule.
    fn heirs_of(&self, place: u32) -> Option<Arc<[Heir]>> {
        let Classifier { patterns, reach, scope, .. } = &*self.base;
        let (own, pattern) = (reach.get(place as usize)?, patterns.get(place as usize)?);
        let mut heirs = Vec::new();
        for (place, (reach, other)) in (0..).zip(reach.iter().zip(patterns)).skip(place as usize + 1) {
            if own.meets(reach) {
                heirs.push(Heir { place, reach: *reach });
                if reach.surrounds(own) && covers(other, pattern, *scope) {
                    break;
                }
            }
        }
        Some(heirs.into())
    }

    /// The number of the rule that decides, where the tables have said `built`.
    #[inline]
    fn decide(&self, key: &FlowKey, built: Option<u32>) -> Option<u32> {
        let spot = Spot::new(key, self.scope());
        let limit = built.unwrap_or(NONE);
        let before = |limit| self.find_added(key, &spot, limit);
        // An added rule that stands before a built one that was taken away stands before its heirs.
        if let Some(added) = before(limit) {
            return Some(added);
        }
        match built {
            Some(place) if self.is_gone(place) => {
                let heir = self.heir(key, &spot, place);
                before(heir.unwrap_or(NONE)).or(heir)
            }
            place => place,
        }
    }

    /// The built rule that decides in the stead of one that was taken away.
    fn heir(&self, key: &FlowKey, spot: &Spot, mut gone: u32) -> Option<u32> {
        loop {
            let at = self.heirs.binary_search_by_key(&gone, |(place, _)| *place).ok()?;
            let (_, heirs) = self.heirs.get(at)?;
            let matches = |place: u32| {
                let pattern = self.base.patterns.get(place as usize);
                pattern.is_some_and(|pattern| pattern.matches(key, self.scope()))
            };
            let heir = heirs.iter().find(|heir| heir.reach.holds(spot) && matches(heir.place))?.place;
            if !self.is_gone(heir) {
                return Some(heir);
            }
            // It is behind the one before: this ends.
            gone = heir;
        }
    }

    /// The first of the rules that were added that stands before a built one and matches.
    #[inline]
    fn find_added(&self, key: &FlowKey, spot: &Spot, built: u32) -> Option<u32> {
        let (mut best, mut found) = (u32::MAX, None);
        self.screen.pass(key, spot.has_ports, |place| {
            if let Some(added) = self.added.get(place)
                && added.before <= built
                && added.rank < best
                && added.reach.holds(spot)
                && added.pattern.matches(key, self.scope())
            {
                (best, found) = (added.rank, Some((self.base.patterns.len() + place) as u32));
            }
        });
        found
    }
}

impl Classify for Revision {
    #[inline]
    fn classify(&self, key: &FlowKey) -> Option<usize> {
        let built = self.base.classify(key);
        if self.changes() == 0 {
            return built;
        }
        self.decide(key, built.map(|place| place as u32)).map(|number| number as usize)
    }

    fn classify_burst(&self, keys: &[FlowKey], places: &mut [Option<u32>]) {
        self.base.classify_burst(keys, places);
        if self.changes() != 0 {
            for (key, place) in keys.iter().zip(places) {
                *place = self.decide(key, *place);
            }
        }
    }
}
