//! A security group as arrays: for each direction its rules in the order of their priority, default rules last.

use super::endpoints::Endpoints;
use super::trace::RuleField;
use crate::addr::Family;
use crate::names::Names;
use crate::prefix_set::PrefixSet;
use crate::verdict::RuleId;
use crate::wire::{FlowKey, protocol};
use nva_config::{Access, Direction, Endpoint, PortRange, RuleProtocol, SecurityGroup, SecurityRule};
use std::sync::Arc;

/// Finds the first rule that matches, as a place in the rules sorted by priority.
pub trait Classify {
    /// The place of the first rule that matches the packet.
    fn classify(&self, key: &FlowKey) -> Option<usize>;
}

/// A compiled security group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    name: String,
    flush: bool,
    inbound: Rules,
    outbound: Rules,
}

/// The rules of one direction, sorted by priority.
#[derive(Clone, Debug)]
pub(super) struct Rules(Vec<Rule>);

/// A compiled rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) name: String,
    pub(super) priority: u16,
    pub(super) access: Access,
    protocol: RuleProtocol,
    source: Arc<PrefixSet>,
    source_ports: Ports,
    destination: Arc<PrefixSet>,
    destination_ports: Ports,
}

/// Sorted, disjoint port ranges.
#[derive(Clone, Debug)]
struct Ports(Box<[PortRange]>);

impl Group {
    pub(super) fn build(group: &SecurityGroup, endpoints: &mut Endpoints<'_>, names: &mut Names) -> Self {
        let mut direction = |direction| {
            let own = group.rules.iter().filter(|rule| rule.direction == direction);
            let mut rules: Vec<Rule> = own
                .chain(&default_rules(direction))
                .map(|rule| Rule::build(rule, names.rule(&group.name, &rule.name), endpoints))
                .collect();
            rules.sort_by_key(|rule| rule.priority);
            Rules(rules)
        };
        Self {
            inbound: direction(Direction::Inbound),
            outbound: direction(Direction::Outbound),
            name: group.name.clone(),
            flush: group.flush_connections,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether established flows are judged again when the rules change.
    pub(super) fn flush(&self) -> bool {
        self.flush
    }

    pub(super) fn rules(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// The first matching rule decides. The last default rule matches everything, so there always is one.
    pub(super) fn decide(&self, direction: Direction, key: &FlowKey) -> (Access, Option<RuleId>) {
        let rules = self.rules(direction);
        let deciding = rules.classify(key).and_then(|place| rules.0.get(place));
        deciding.map_or((Access::Deny, None), |rule| (rule.access, Some(rule.id)))
    }
}

impl Rules {
    pub(super) fn as_slice(&self) -> &[Rule] {
        &self.0
    }
}

impl Classify for Rules {
    fn classify(&self, key: &FlowKey) -> Option<usize> {
        self.0.iter().position(|rule| rule.matches(key))
    }
}

impl Rule {
    fn build(rule: &SecurityRule, id: RuleId, endpoints: &mut Endpoints<'_>) -> Self {
        Self {
            id,
            name: rule.name.clone(),
            priority: rule.priority,
            access: rule.access,
            protocol: rule.protocol,
            source: endpoints.resolve(&rule.source),
            source_ports: Ports::new(&rule.source_ports),
            destination: endpoints.resolve(&rule.destination),
            destination_ports: Ports::new(&rule.destination_ports),
        }
    }

    #[inline]
    fn matches(&self, key: &FlowKey) -> bool {
        let ports = !has_ports(key.protocol)
            || (self.destination_ports.contains(key.dst_port) && self.source_ports.contains(key.src_port));
        ports
            && matches_protocol(self.protocol, key)
            && self.source.contains(key.src)
            && self.destination.contains(key.dst)
    }

    /// The fields that keep the rule from matching.
    pub(super) fn failing(&self, key: &FlowKey) -> impl Iterator<Item = RuleField> {
        let ports = has_ports(key.protocol);
        [
            (RuleField::Protocol, matches_protocol(self.protocol, key)),
            (RuleField::Source, self.source.contains(key.src)),
            (RuleField::SourcePorts, !ports || self.source_ports.contains(key.src_port)),
            (RuleField::Destination, self.destination.contains(key.dst)),
            (RuleField::DestinationPorts, !ports || self.destination_ports.contains(key.dst_port)),
        ]
        .into_iter()
        .filter_map(|(field, matches)| (!matches).then_some(field))
    }
}

impl Ports {
    fn new(ranges: &[PortRange]) -> Self {
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        Self(ranges.into())
    }

    #[inline]
    fn contains(&self, port: u16) -> bool {
        let behind = self.0.partition_point(|range| range.first <= port);
        behind.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|range| port <= range.last)
    }
}

/// Ports mean something for these protocols only.
#[inline]
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
}

#[inline]
fn matches_protocol(rule: RuleProtocol, key: &FlowKey) -> bool {
    match rule {
        RuleProtocol::Any => true,
        RuleProtocol::Tcp => key.protocol == protocol::TCP,
        RuleProtocol::Udp => key.protocol == protocol::UDP,
        RuleProtocol::Esp => key.protocol == protocol::ESP,
        RuleProtocol::Ah => key.protocol == protocol::AH,
        // Each version's own: the other's number is an unknown protocol there.
        RuleProtocol::Icmp => match key.src.family() {
            Family::V4 => key.protocol == protocol::ICMP,
            Family::V6 => key.protocol == protocol::ICMPV6,
        },
    }
}

/// The cloud's default rules, which no group can take away, only override.
pub fn default_rules(direction: Direction) -> [SecurityRule; 3] {
    use Access::{Allow, Deny};
    use Endpoint::{Any, AzureLoadBalancer, Internet, VirtualNetwork};
    let rule = |name: &str, priority, access, source, destination| SecurityRule {
        name: name.to_owned(),
        priority,
        direction,
        access,
        protocol: RuleProtocol::Any,
        source: vec![source],
        source_ports: vec![PortRange { first: 0, last: u16::MAX }],
        destination: vec![destination],
        destination_ports: vec![PortRange { first: 0, last: u16::MAX }],
    };
    match direction {
        Direction::Inbound => [
            rule("AllowVnetInBound", 65_000, Allow, VirtualNetwork, VirtualNetwork),
            rule("AllowAzureLoadBalancerInBound", 65_001, Allow, AzureLoadBalancer, Any),
            rule("DenyAllInBound", 65_500, Deny, Any, Any),
        ],
        Direction::Outbound => [
            rule("AllowVnetOutBound", 65_000, Allow, VirtualNetwork, VirtualNetwork),
            rule("AllowInternetOutBound", 65_001, Allow, Any, Internet),
            rule("DenyAllOutBound", 65_500, Deny, Any, Any),
        ],
    }
}
