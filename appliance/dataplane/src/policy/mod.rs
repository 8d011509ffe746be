//! Stage 7, decide: whether security groups let a new flow pass.
//!
//! Judges the packet after destination translation and before source translation, in the cloud's order: from a subnet the interface's group,
//! then the subnet's, outbound; to a subnet the subnet's group, then the interface's, inbound. Each level that has a group must
//! allow; the first deny ends. Never looks at earlier packets (replies of an allowed flow never come here), and never changes one.
//!
//! Groups do not guard what is sent to the platform's addresses, 168.63.129.16 and 169.254.169.254: outbound rules deny it by tags of these
//! services (`AzurePlatformDNS` and its like) alone. What comes from there, probes, is judged like everything else.
//!
//! What the cloud leaves open, decided here: `any` is every IP protocol. Ports are compared for TCP and UDP only: a rule that
//! names ports matches a packet of a protocol without ports whatever they are, if it names that protocol or `any`.

pub mod classifier;
mod compiled;
mod endpoints;
mod expansion;
mod hidden;
mod placement;
mod trace;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use classifier::Classify;
pub use compiled::default_rules;
pub use expansion::{Expansions, rules_in_order};
pub use hidden::{Cause, HiddenRule, hidden_rules};
pub(crate) use placement::Place;
pub use trace::{Judgement, LevelTrace, NearMiss, RuleField};

use crate::addr::{Addr, Family};
use crate::names::Names;
use crate::prefix_set::PrefixSet;
use crate::verdict::RuleId;
use crate::wire::{FlowKey, protocol};
use classifier::Pattern;
use compiled::Group;
use endpoints::Endpoints;
use hashbrown::HashMap;
use nva_config::{Access, Config, Direction, GroupIndex, SecurityGroup};
use placement::Placement;
use std::sync::Arc;

/// All security groups of a configuration, and where they apply.
#[derive(Clone, Debug)]
pub struct Policy {
    /// By [`nva_config::GroupIndex`].
    groups: Vec<Group>,
    placement: Placement,
    address_space: PrefixSet,
    compares_source_ports: bool,
}

/// What the groups need to know of a packet beside its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The destination was a frontend: it was translated to a backend's, or with a floating IP is delivered to one as it is.
    pub load_balanced: bool,
}

/// What the groups say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the packet passes.
    pub access: Access,
    /// The rule that denies; else the last level's rule that allows; `None` where no group was asked.
    pub rule: Option<RuleId>,
}

/// The four levels, in the order in which a packet meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// The source interface's group.
    InterfaceOutbound,
    /// The source subnet's group.
    SubnetOutbound,
    /// The destination subnet's group.
    SubnetInbound,
    /// The destination interface's group.
    InterfaceInbound,
}

/// Whose word decides whether a packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judge {
    /// Nobody's: it passes.
    Nobody,
    /// One group's, by its rules for this direction.
    Group(GroupIndex, Direction),
    /// There is more to it.
    Several,
}

impl Judge {
    /// For a packet between two places.
    #[inline]
    pub(crate) fn between(from: Place, to: Place, context: Context) -> Self {
        match (from.interface.xor(from.subnet), to.interface.xor(to.subnet)) {
            _ if from.interface.is_some() && from.subnet.is_some() => Self::Several,
            _ if to.interface.is_some() && to.subnet.is_some() => Self::Several,
            (None, Some(group)) => Self::Group(group, Direction::Inbound),
            // A load balancer leads nowhere unless a group at the backend lets it.
            _ if context.load_balanced => Self::Several,
            (Some(group), None) => Self::Group(group, Direction::Outbound),
            (None, None) => Self::Nobody,
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

impl Level {
    /// All levels in their order.
    pub const ALL: [Self; 4] =
        [Self::InterfaceOutbound, Self::SubnetOutbound, Self::SubnetInbound, Self::InterfaceInbound];

    /// Which of a group's rules count.
    pub const fn direction(self) -> Direction {
        match self {
            Self::InterfaceOutbound | Self::SubnetOutbound => Direction::Outbound,
            Self::SubnetInbound | Self::InterfaceInbound => Direction::Inbound,
        }
    }

    /// `interface_group` or `subnet_group`, as explanations call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InterfaceOutbound | Self::InterfaceInbound => "interface_group",
            Self::SubnetOutbound | Self::SubnetInbound => "subnet_group",
        }
    }
}

impl Policy {
    /// Compiles the groups, default rules included, and gives every rule its number.
    pub fn build(config: &Config, names: &mut Names) -> Self {
        Self::build_after(None, config, names)
    }

    /// The same, with the compiled form of what has not changed since another configuration. A rule that has changed is put beside tables that are
    /// there, where it is one of few: what decides is the same as if all were built anew.
    pub fn build_after(before: Option<&Self>, config: &Config, names: &mut Names) -> Self {
        let mut endpoints = Endpoints::new(config);
        let group = |group: &SecurityGroup| {
            let before = before.and_then(|before| before.groups.iter().find(|old| old.name() == group.name));
            Group::build(group, &mut endpoints, names, before)
        };
        let groups: Vec<Group> = config.security_groups.iter().map(group).collect();
        let mut patterns = groups.iter().flat_map(Group::patterns);
        let compares_source_ports = patterns.any(compares_source_ports);
        drop(patterns);
        Self {
            compares_source_ports,
            groups,
            placement: Placement::build(&config.virtual_network),
            address_space: PrefixSet::from_prefixes(&config.virtual_network.address_space),
        }
    }

    /// What finding each group's rules takes, in bytes, by [`nva_config::GroupIndex`].
    pub fn bytes(&self) -> Vec<usize> {
        self.groups.iter().map(Group::bytes).collect()
    }

    /// The ranges of addresses, both ends included, that decisions tell sources apart by.
    pub fn source_ranges(&self) -> Vec<(u128, u128)> {
        // Rules that name the same share one set.
        let sets: HashMap<*const PrefixSet, &Arc<PrefixSet>> =
            self.patterns().map(|pattern| (Arc::as_ptr(&pattern.source), &pattern.source)).collect();
        let rules = sets.into_values().flat_map(|set| set.ranges());
        rules.chain(self.placement.ranges()).chain(self.address_space.ranges()).collect()
    }

    /// Whether any rule compares the source ports of TCP segments.
    pub fn compares_source_ports(&self) -> bool {
        self.compares_source_ports
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.groups.iter().flat_map(Group::patterns)
    }

    /// The ranges of addresses, both ends included, of subnets and interfaces that have groups.
    pub(crate) fn placement_ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        self.placement.ranges()
    }

    /// The groups that judge traffic of an address.
    pub(crate) fn place(&self, address: Addr) -> Place {
        self.placement.find(address)
    }

    /// As [`decide_at`](Self::decide_at), for packets that the one group judges that [`Judge::between`] named, none of which is to the
    /// platform. Packets behind the shorter of both slices are left out.
    pub(crate) fn decide_all(
        &self,
        group: GroupIndex,
        direction: Direction,
        keys: &[FlowKey],
        decisions: &mut [Decision],
    ) {
        match self.groups.get(group.0) {
            Some(group) => group.decide_all(direction, keys, decisions),
            None => decisions.fill(Decision { access: Access::Allow, rule: None }),
        }
    }

    /// Judges a packet whose destination stands where its address says: every packet but one with a floating IP.
    pub fn decide(&self, key: &FlowKey, context: Context) -> Decision {
        self.decide_at(key, context, key.dst)
    }

    /// Judges a packet that is delivered at `location`: rules see the packet's own destination, but it is the location's subnet and
    /// interface whose groups are asked. With a floating IP the location is the backend.
    pub fn decide_at(&self, key: &FlowKey, context: Context, location: Addr) -> Decision {
        let mut decision = Decision { access: Access::Allow, rule: None };
        let levels = self.levels(key.src, location);
        for (level, group) in Level::ALL.into_iter().zip(levels) {
            let Some(group) = group else { continue };
            let (access, rule) = group.decide(level.direction(), key);
            decision = Decision { access, rule: rule.or(decision.rule) };
            if access == Access::Deny {
                return decision;
            }
        }
        if self.is_closed(key, context, &levels) {
            return Decision { access: Access::Deny, rule: None };
        }
        decision
    }

    /// Judges an established flow by the groups that say `flush_connections`, each for itself: rules of a group that does not say so never
    /// end what has begun. `None`: there is no such group. An allowed flow's `rule` is `None` where it stays as it is, since the
    /// last level is none of these groups.
    pub fn decide_again(&self, key: &FlowKey, location: Addr) -> Option<Decision> {
        let mut again = None;
        for (level, group) in Level::ALL.into_iter().zip(self.levels(key.src, location)) {
            let Some(group) = group else { continue };
            if group.flush() {
                let (access, rule) = group.decide(level.direction(), key);
                again = Some(Decision { access, rule });
                if access == Access::Deny {
                    return again;
                }
            } else if let Some(decision) = &mut again {
                decision.rule = None;
            }
        }
        again
    }

    /// Shows the other rules by which an allowed packet passed: those of the levels before the one that `last`, its
    /// [rule](Decision::rule), is of.
    pub(crate) fn passed_by(
        &self,
        key: &FlowKey,
        location: Addr,
        last: Option<RuleId>,
        visit: &mut impl FnMut(RuleId),
    ) {
        let levels = self.levels(key.src, location);
        let mut before = levels.iter().flatten().count().saturating_sub(1);
        for (level, group) in Level::ALL.into_iter().zip(levels) {
            let Some(group) = group else { continue };
            if before == 0 {
                return;
            }
            before -= 1;
            // Of what is sent to the platform the last level may have no say, and the last rule be of one before.
            if let (_, Some(rule)) = group.decide(level.direction(), key)
                && Some(rule) != last
            {
                visit(rule);
            }
        }
    }

    /// The group of each level that has one.
    fn levels(&self, source: Addr, destination: Addr) -> [Option<&Group>; 4] {
        let (from, to) = (self.placement.find(source), self.placement.find(destination));
        [from.interface, from.subnet, to.subnet, to.interface]
            .map(|group| group.and_then(|index| self.groups.get(index.0)))
    }

    /// Closed by default: from outside the virtual network, a load balancer leads nowhere unless a group at the backend lets it.
    fn is_closed(&self, key: &FlowKey, context: Context, levels: &[Option<&Group>; 4]) -> bool {
        let [_, _, subnet, interface] = levels;
        context.load_balanced
            && subnet.is_none()
            && interface.is_none()
            && !self.address_space.contains(key.src)
    }
}

/// Whether a rule compares the source ports of TCP segments.
fn compares_source_ports(pattern: &Pattern) -> bool {
    let is_tcp = [Family::V4, Family::V6].map(|family| pattern.protocol.contains(protocol::TCP, family));
    is_tcp.contains(&true) && !pattern.source_ports.ranges().eq([(0, u16::MAX)])
}
