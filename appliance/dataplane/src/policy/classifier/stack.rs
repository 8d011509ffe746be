//! Stacks: the rules that can decide a packet of a given source and destination class, best first. Which one does, depends on the
//! packet's service alone, so that stacks whose rules name the same services in the same order share a row: by service class, the
//! place of the deciding rule in the stack.

use super::memory::{Pieces, at};
use super::service::{Services, ones};
use hashbrown::HashMap;

/// In a list: no rule.
pub(super) const NONE: u32 = u32::MAX;

/// All stacks of a classifier.
#[derive(Debug)]
pub(super) struct Stacks {
    pub(super) rows: Rows,
    /// For each stack where its row begins, then its rules, then [`NONE`]: the place that rows name when no rule decides. A stack's number is where it
    /// begins here.
    pub(super) lists: Vec<u32>,
}

/// Rows in the smallest width that holds their places.
#[derive(Debug)]
pub(super) enum Rows {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

impl Rows {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(rows) => rows.len(),
            Self::Words(rows) => 2 * rows.len(),
        }
    }
}

impl Stacks {
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes() + size_of_val(&*self.lists)
    }

    /// The rules of all stacks: each of them decides for some packet.
    pub(super) fn rules(&self) -> impl Iterator<Item = u32> + '_ {
        self.lists.split(|number| *number == NONE).flat_map(|stack| stack.iter().skip(1).copied())
    }

    /// Where in `lists` the rule stands that decides for a packet of this service class.
    #[inline(always)]
    pub(super) fn decide(&self, stack: u32, service: u32) -> u32 {
        let place = (at(&self.lists, stack) + service) as usize;
        let above = match &self.rows {
            Rows::Bytes(rows) => rows.get(place).map_or(0, |above| u32::from(*above)),
            Rows::Words(rows) => rows.get(place).map_or(0, |above| u32::from(*above)),
        };
        stack + 1 + above
    }
}

/// Collects stacks; equal ones are kept once.
pub(super) struct StackBuilder<'a> {
    services: &'a Services,
    known: Pieces,
    rows: HashMap<Vec<u32>, u32>,
    lists: Vec<u32>,
    /// Rows in their order, as the services of a stack.
    row_list: Vec<Vec<u32>>,
    longest: usize,
}

impl<'a> StackBuilder<'a> {
    pub(super) fn new(services: &'a Services) -> Self {
        Self {
            services,
            known: Pieces::default(),
            rows: HashMap::new(),
            lists: Vec::new(),
            row_list: Vec::new(),
            longest: 0,
        }
    }

    /// The number of the stack of these rules.
    pub(super) fn intern(&mut self, rules: &[u32]) -> u32 {
        let before = self.lists.len();
        // The row is written when it is known.
        let stack = self.known.once(&mut self.lists, rules, rules_at, |lists, rules| {
            lists.push(0);
            lists.extend_from_slice(rules);
            lists.push(NONE);
        });
        if self.lists.len() == before {
            return stack;
        }
        let services: Vec<u32> = rules.iter().map(|rule| self.services.of_rule[*rule as usize]).collect();
        let row = *self.rows.entry(services).or_insert_with_key(|services| {
            self.row_list.push(services.clone());
            (self.row_list.len() as u32 - 1) * self.services.count as u32
        });
        self.lists[stack as usize] = row;
        self.longest = self.longest.max(rules.len());
        stack
    }

    /// What the stacks will take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let row = self.services.count * if self.longest < 256 { 1 } else { 2 };
        4 * self.lists.len() + self.row_list.len() * row
    }

    pub(super) fn finish(self) -> Stacks {
        let rows = if self.longest < 256 {
            let mut rows = Vec::with_capacity(self.row_list.len() * self.services.count + 4);
            self.row_list
                .iter()
                .for_each(|row| add_places(row, self.services, &mut rows, |place| place as u8));
            rows.extend([0; 4]);
            Rows::Bytes(rows)
        } else {
            let mut rows = Vec::with_capacity(self.row_list.len() * self.services.count + 2);
            self.row_list
                .iter()
                .for_each(|row| add_places(row, self.services, &mut rows, |place| place as u16));
            rows.extend([0; 2]);
            Rows::Words(rows)
        };
        Stacks { rows, lists: self.lists }
    }
}

/// The rules of the stack that begins here.
fn rules_at(lists: &[u32], stack: u32) -> &[u32] {
    let rest = lists.get(stack as usize + 1..).unwrap_or_default();
    let end = rest.iter().position(|rule| *rule == NONE).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

/// Adds, by service class, which of the services is the first that has it; behind the last if none.
fn add_places<T: Copy>(row: &[u32], services: &Services, rows: &mut Vec<T>, narrow: impl Fn(usize) -> T) {
    let from = rows.len();
    rows.resize(from + services.count, narrow(row.len()));
    let places = &mut rows[from..];
    for (place, service) in row.iter().enumerate().rev() {
        for class in ones(&services.classes[*service as usize]) {
            places[class] = narrow(place);
        }
    }
}
