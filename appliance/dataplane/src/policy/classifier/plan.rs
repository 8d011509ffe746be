//! How to divide rules over matrices so that all of them stay small.
//!
//! One matrix is the fastest, but rules of any source and few destinations cross with those of few sources and any destination: the
//! cells where they meet are as many as the product of both. So where one matrix is too large, rules with a wide source make one,
//! those with a wide destination another, and the rest a third, in which nearly all cells are empty. A lookup asks each matrix and
//! takes the best rule.

use super::cells::Sides;

/// Ways to divide, the best first: a side is wide that holds at least one in so many of all classes. Measured over ClassBench's
/// twelve seeds: between a half and a thirty-second there is little difference.
pub(super) const SHARES: [usize; 3] = [8, 2, 64];

/// The rules of each matrix, in the order of their priority; none is empty.
pub(super) fn divide(rules: usize, sides: &Sides<'_>, share: usize) -> Vec<Vec<u32>> {
    let wide_source = wide(&sides.source.members, sides.source_sets, share);
    let wide_destination = wide(&sides.destination.members, sides.destination_sets, share);
    let mut parts = vec![Vec::new(); 3];
    for rule in 0..rules {
        let part = match (
            wide_source[sides.source_of[rule] as usize],
            wide_destination[sides.destination_of[rule] as usize],
        ) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        parts[part].push(rule as u32);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// By set: whether it holds at least one in `share` classes.
fn wide(members: &[Vec<u32>], sets: usize, share: usize) -> Vec<bool> {
    let mut widths = vec![0; sets];
    members.iter().flatten().for_each(|set| widths[*set as usize] += 1);
    widths.into_iter().map(|width: usize| width.saturating_mul(share) >= members.len()).collect()
}
