//! A field's values in classes: two values are in one class if the same sets hold them.

use hashbrown::HashMap;

/// The classes of a field as intervals, in ascending order, that together hold every value.
pub(super) struct Intervals {
    /// The lowest value of each; the first is 0.
    pub(super) starts: Vec<u128>,
    /// The class of each.
    pub(super) class: Vec<u32>,
    /// By class: which sets hold its values, in ascending order.
    pub(super) members: Vec<Vec<u32>>,
}

impl Intervals {
    /// Cuts the values from 0 to `highest` where any set begins or ends. Each set is given as ranges that do not overlap. `None`: the
    /// classes are in more than `most` sets, all taken together.
    pub(super) fn cut<R: Iterator<Item = (u128, u128)>>(
        sets: impl Iterator<Item = R>,
        highest: u128,
        mut most: usize,
    ) -> Option<Self> {
        let mut borders: Vec<(u128, bool, u32)> = Vec::new();
        for (set, ranges) in (0u32..).zip(sets) {
            for (first, last) in ranges {
                borders.push((first, true, set));
                // A set that reaches the end is never left.
                borders.extend(last.checked_add(1).map(|behind| (behind, false, set)));
            }
        }
        borders.sort_unstable();
        let mut cut = Self { starts: Vec::new(), class: Vec::new(), members: Vec::new() };
        let mut classes: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut inside: Vec<u32> = Vec::new();
        let mut start = 0;
        let mut borders = borders.into_iter().peekable();
        loop {
            while let Some((_, enters, set)) = borders.next_if(|border| border.0 == start) {
                match inside.binary_search(&set) {
                    Err(place) if enters => inside.insert(place, set),
                    Ok(place) if !enters => {
                        inside.remove(place);
                    }
                    _ => {}
                }
            }
            if !classes.contains_key(&inside) {
                most = most.checked_sub(inside.len())?;
            }
            let class = *classes.entry_ref(&inside).or_insert_with(|| {
                cut.members.push(inside.clone());
                cut.members.len() as u32 - 1
            });
            if cut.class.last() != Some(&class) {
                cut.starts.push(start);
                cut.class.push(class);
            }
            match borders.peek() {
                Some(border) if border.0 <= highest => start = border.0,
                _ => return Some(cut),
            }
        }
    }

    /// How many classes there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The place of the interval that holds a value.
    pub(super) fn find(&self, value: u128) -> usize {
        self.starts.partition_point(|start| *start <= value).saturating_sub(1)
    }
}
