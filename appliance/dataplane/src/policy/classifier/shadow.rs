//! Rules that can never decide, since earlier ones take every packet that they match: what a check of a configuration warns of.

use super::pattern::{Pattern, PortScope, Ports, Protocols};
use super::tables::{Limits, Tables};
use crate::prefix_set::PrefixSet;
use core::iter::once;

/// A rule that never decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// Its place.
    pub place: usize,
    /// The first rule that alone matches all that it matches; `None`: several together do, or it matches nothing.
    pub by: Option<usize>,
}

/// The rules that never decide, in ascending order. Each one named is one. Where the rules fit into one matrix, those hidden by
/// several rules together are found too; else they may be missed.
pub fn shadowed(patterns: &[Pattern], scope: PortScope) -> Vec<Shadowed> {
    let borrowed: Vec<&Pattern> = patterns.iter().collect();
    // Worth more work and memory than a classifier, since it is for this once.
    let limits =
        Limits { single_bytes: Limits::DEFAULT.bytes, single_work: Limits::DEFAULT.work, ..Limits::DEFAULT };
    let first_cover = |place: usize| {
        patterns.iter().take(place).position(|earlier| covers(earlier, &patterns[place], scope))
    };
    match Tables::build(&borrowed, scope, limits) {
        Some(tables) => {
            let mut decides = vec![false; patterns.len()];
            for rule in tables.stacks.rules() {
                if let Some(decides) = decides.get_mut(rule as usize) {
                    *decides = true;
                }
            }
            let never = (0..patterns.len()).filter(|place| !decides[*place]);
            never.map(|place| Shadowed { place, by: first_cover(place) }).collect()
        }
        None => {
            let hidden = |place| first_cover(place).map(|by| Shadowed { place, by: Some(by) });
            (0..patterns.len()).filter_map(hidden).collect()
        }
    }
}

/// Whether every packet that `inner` matches is matched by `outer` too, each part on its own.
pub(super) fn covers(outer: &Pattern, inner: &Pattern, scope: PortScope) -> bool {
    let protocol = outer.protocol == Protocols::Any || outer.protocol == inner.protocol;
    // Ports of protocols that have none are not compared.
    let ports = match inner.protocol {
        Protocols::One(one) => scope.compares(one),
        Protocols::Any | Protocols::PerFamily { .. } => true,
    };
    protocol
        && (!ports
            || (ports_cover(&outer.destination_ports, &inner.destination_ports)
                && ports_cover(&outer.source_ports, &inner.source_ports)))
        && addresses_cover(&outer.source, &inner.source)
        && addresses_cover(&outer.destination, &inner.destination)
}

fn ports_cover(outer: &Ports, inner: &Ports) -> bool {
    inner.ranges().all(|(first, last)| outer.ranges().any(|(a, b)| a <= first && last <= b))
}

fn addresses_cover(outer: &PrefixSet, inner: &PrefixSet) -> bool {
    core::ptr::eq(outer, inner) || PrefixSet::union(once(outer).chain(once(inner))) == *outer
}
