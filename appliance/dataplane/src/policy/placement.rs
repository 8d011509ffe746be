//! Where an address stands: the groups of its interface and of its subnet.

use crate::addr::Addr;
use crate::prefix_set::prefix_ranges;
use hashbrown::HashMap;
use nva_config::{GroupIndex, VirtualNetwork};

/// Subnets and interfaces that have a group.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    /// Sorted, disjoint: the checked configuration has no overlapping subnets.
    subnets: Vec<SubnetRange>,
    interfaces: HashMap<Addr, GroupIndex>,
}

#[derive(Clone, Copy, Debug)]
struct SubnetRange {
    first: u128,
    last: u128,
    group: GroupIndex,
}

/// The groups that judge traffic of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) subnet: Option<GroupIndex>,
    pub(crate) interface: Option<GroupIndex>,
}

impl Placement {
    pub(super) fn build(network: &VirtualNetwork) -> Self {
        let mut subnets: Vec<SubnetRange> = network
            .subnets
            .iter()
            .filter_map(|subnet| Some((subnet.security_group?, &subnet.prefixes)))
            .flat_map(|(group, prefixes)| {
                prefixes.iter().flat_map(prefix_ranges).map(move |(first, last)| SubnetRange {
                    first,
                    last,
                    group,
                })
            })
            .collect();
        subnets.sort_unstable_by_key(|subnet| subnet.first);
        let interfaces = network
            .interfaces
            .iter()
            .filter_map(|interface| Some((interface.address.into(), interface.security_group?)))
            .collect();
        Self { subnets, interfaces }
    }

    /// The ranges of addresses, both ends included, of each subnet and interface.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        let subnets = self.subnets.iter().map(|subnet| (subnet.first, subnet.last));
        subnets.chain(self.interfaces.keys().map(|address| (address.bits(), address.bits())))
    }

    #[inline]
    pub(super) fn find(&self, address: Addr) -> Place {
        let bits = address.bits();
        let behind = self.subnets.partition_point(|subnet| subnet.first <= bits);
        let subnet =
            behind.checked_sub(1).and_then(|i| self.subnets.get(i)).filter(|subnet| bits <= subnet.last);
        Place { subnet: subnet.map(|subnet| subnet.group), interface: self.interfaces.get(&address).copied() }
    }
}
