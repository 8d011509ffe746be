//! Tables of numbers: how they are read, and how they are filled without keeping the same numbers twice.

use core::hash::BuildHasher;
use hashbrown::{DefaultHashBuilder, HashTable};

/// An element; 0 behind the end, where no number that was put into the tables leads.
#[inline(always)]
pub(super) fn at(table: &[u32], place: u32) -> u32 {
    table.get(place as usize).copied().unwrap_or(0)
}

/// Which pieces of a list are known, by where they begin: nothing of them is kept here.
#[derive(Default)]
pub(super) struct Pieces {
    starts: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Pieces {
    /// Where in `list` these numbers stand, which are put there unless they already are. `piece` gives the whole piece that begins at a
    /// place, and is asked for none but those that were put there by this.
    #[inline]
    pub(super) fn once(
        &mut self,
        list: &mut Vec<u32>,
        numbers: &[u32],
        piece: impl Fn(&[u32], u32) -> &[u32],
        put: impl FnOnce(&mut Vec<u32>, &[u32]),
    ) -> u32 {
        let hash = self.hasher.hash_one(numbers);
        if let Some(start) = self.starts.find(hash, |start| piece(list, *start) == numbers) {
            return *start;
        }
        let start = list.len() as u32;
        put(list, numbers);
        self.starts.insert_unique(hash, start, |start| self.hasher.hash_one(piece(list, *start)));
        start
    }

    /// The same for pieces that are all as long as `numbers`.
    #[inline]
    pub(super) fn once_alike(&mut self, list: &mut Vec<u32>, numbers: &[u32]) -> u32 {
        let len = numbers.len();
        self.once(
            list,
            numbers,
            |list, start| list.get(start as usize..).and_then(|rest| rest.get(..len)).unwrap_or_default(),
            |list, numbers| list.extend_from_slice(numbers),
        )
    }
}
