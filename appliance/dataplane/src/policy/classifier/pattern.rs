//! What a rule compares, and the plain comparison that everything faster is held to.

use crate::addr::Family;
use crate::prefix_set::PrefixSet;
use crate::wire::{FlowKey, protocol};
use nva_config::PortRange;
use std::sync::Arc;

/// The packets that a rule matches: all five parts must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Which protocols.
    pub protocol: Protocols,
    /// Source addresses. Rules that name the same should share one set.
    pub source: Arc<PrefixSet>,
    /// Source ports.
    pub source_ports: Ports,
    /// Destination addresses.
    pub destination: Arc<PrefixSet>,
    /// Destination ports.
    pub destination_ports: Ports,
}

/// IP protocols that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// Every one.
    Any,
    /// This one (an IANA protocol number), in both families.
    One(u8),
    /// One in IPv4 and another in IPv6: the other family's number is an unknown protocol there.
    PerFamily {
        /// In IPv4.
        v4: u8,
        /// In IPv6.
        v6: u8,
    },
}

/// Of which packets ports are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortScope {
    /// TCP and UDP: a rule that names ports matches packets of other protocols whatever they are.
    TcpAndUdp,
    /// All, as filter sets of the ClassBench kind mean it.
    AllProtocols,
}

/// Sorted port ranges that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ports(Box<[(u16, u16)]>);

impl Pattern {
    /// Whether a packet with this key matches.
    #[inline]
    pub fn matches(&self, key: &FlowKey, scope: PortScope) -> bool {
        let ports = !scope.compares(key.protocol)
            || (self.destination_ports.contains(key.dst_port) && self.source_ports.contains(key.src_port));
        ports
            && self.protocol.contains(key.protocol, key.src.family())
            && self.source.contains(key.src)
            && self.destination.contains(key.dst)
    }
}

impl Protocols {
    /// Whether a packet of this protocol and family is meant.
    #[inline]
    pub fn contains(self, protocol: u8, family: Family) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == protocol,
            Self::PerFamily { v4, v6 } => protocol == if family == Family::V4 { v4 } else { v6 },
        }
    }
}

impl PortScope {
    /// Whether ports are compared in packets of this protocol.
    #[inline]
    pub fn compares(self, protocol: u8) -> bool {
        self == Self::AllProtocols || matches!(protocol, protocol::TCP | protocol::UDP)
    }
}

impl Ports {
    /// The ports that are in any of the ranges.
    pub fn new(ranges: &[PortRange]) -> Self {
        let mut ranges: Vec<(u16, u16)> = ranges.iter().map(|range| (range.first, range.last)).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    /// Whether the port is one of them.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        let behind = self.0.partition_point(|range| range.0 <= port);
        behind.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|range| port <= range.1)
    }

    /// The ranges, both ends included, in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.0.iter().copied()
    }
}
