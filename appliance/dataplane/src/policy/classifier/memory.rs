//! Reading tables of numbers.

/// An element; 0 behind the end, where no number that was put into the tables leads.
#[inline(always)]
pub(super) fn at(table: &[u32], place: u32) -> u32 {
    table.get(place as usize).copied().unwrap_or(0)
}
