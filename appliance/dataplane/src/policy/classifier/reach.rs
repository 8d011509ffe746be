//! About which packets a rule matches, in a few numbers: whether two rules can match the same one is told by a few comparisons.

use super::pattern::{Pattern, PortScope, Protocols};
use crate::prefix_set::PrefixSet;
use crate::wire::FlowKey;

/// The least box around a rule. *Invariant:* what the rule matches is inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    source: (u32, u32),
    destination: (u32, u32),
    source_ports: (u16, u16),
    destination_ports: (u16, u16),
    protocol: Protocols,
    /// Every packet that matches has its ports compared.
    has_ports: bool,
    /// No packet matches.
    is_empty: bool,
}

impl Reach {
    pub(super) fn of(pattern: &Pattern, scope: PortScope) -> Self {
        let around = |ranges: Vec<(u16, u16)>| Some((ranges.first()?.0, ranges.last()?.1));
        let ports = [&pattern.source_ports, &pattern.destination_ports].map(|p| around(p.ranges().collect()));
        let [source, destination] = [&pattern.source, &pattern.destination].map(|set| addresses(set));
        Self {
            source: source.unwrap_or_default(),
            destination: destination.unwrap_or_default(),
            source_ports: ports[0].unwrap_or((0, u16::MAX)),
            destination_ports: ports[1].unwrap_or((0, u16::MAX)),
            protocol: pattern.protocol,
            has_ports: match pattern.protocol {
                Protocols::One(one) => scope.compares(one),
                Protocols::Any | Protocols::PerFamily { .. } => scope == PortScope::AllProtocols,
            },
            is_empty: source.is_none() || destination.is_none(),
        }
    }

    /// Whether the packet may match; if not, it does not.
    #[inline]
    pub(super) fn holds(&self, spot: &Spot) -> bool {
        let ports = !spot.has_ports
            || (holds(self.destination_ports, spot.destination_port)
                && holds(self.source_ports, spot.source_port));
        let protocol = match self.protocol {
            Protocols::One(one) => one == spot.protocol,
            Protocols::Any | Protocols::PerFamily { .. } => true,
        };
        holds(self.destination, spot.destination) && holds(self.source, spot.source) && ports && protocol
    }

    /// Whether its addresses are around all of another's.
    pub(super) fn surrounds(&self, other: &Self) -> bool {
        let around = |a: (u32, u32), b: (u32, u32)| a.0 <= b.0 && b.1 <= a.1;
        around(self.source, other.source) && around(self.destination, other.destination)
    }

    /// Whether some packet may match both; if not, none does.
    #[inline]
    pub(super) fn meets(&self, other: &Self) -> bool {
        // Most rules are elsewhere.
        if !overlap(self.source, other.source) || !overlap(self.destination, other.destination) {
            return false;
        }
        // A packet whose ports are compared by one rule is compared by both.
        let ports = !(self.has_ports || other.has_ports)
            || (overlap(self.destination_ports, other.destination_ports)
                && overlap(self.source_ports, other.source_ports));
        let protocol = match (self.protocol, other.protocol) {
            (Protocols::One(one), Protocols::One(another)) => one == another,
            _ => true,
        };
        ports && protocol && !self.is_empty && !other.is_empty
    }
}

/// A packet as boxes are compared with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    /// Its ports are compared.
    pub(super) has_ports: bool,
}

impl Spot {
    #[inline]
    pub(super) fn new(key: &FlowKey, scope: PortScope) -> Self {
        Self {
            source: shortened(key.src.bits()),
            destination: shortened(key.dst.bits()),
            source_port: key.src_port,
            destination_port: key.dst_port,
            protocol: key.protocol,
            has_ports: scope.compares(key.protocol),
        }
    }
}

#[inline]
fn holds<T: PartialOrd>((first, last): (T, T), value: T) -> bool {
    first <= value && value <= last
}

#[inline]
fn overlap<T: PartialOrd>(a: (T, T), b: (T, T)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// From the lowest address to the highest, in 32 bits.
fn addresses(set: &PrefixSet) -> Option<(u32, u32)> {
    let (first, last) = (set.ranges().next()?.0, set.ranges().last()?.1);
    Some((shortened(first), shortened(last)))
}

/// An address in 32 bits, so that none that is higher gets less: IPv4 as it is, and IPv6 at both ends.
#[inline]
fn shortened(bits: u128) -> u32 {
    const MAPPED: u128 = 0xffff_0000_0000;
    let Some(above) = bits.checked_sub(MAPPED) else { return 0 };
    u32::try_from(above).unwrap_or(u32::MAX)
}
