//! The slow, obvious evaluation, straight from the checked configuration: what the compiled groups are held to.

use super::classifier::Classify;
use super::compiled::default_rules;
use super::{Context, Decision};
use crate::addr::Addr;
use crate::names::Names;
use crate::verdict::RuleId;
use crate::wire::FlowKey;
use nva_config::{
    Access, Config, Direction, Endpoint, PortRange, Prefix, RuleProtocol, SecurityGroup, SecurityRule,
};
use std::net::IpAddr;

/// A group's rules of one direction as they stand in the configuration.
pub(super) struct LinearRules<'a> {
    config: &'a Config,
    pub(super) rules: Vec<SecurityRule>,
}

impl<'a> LinearRules<'a> {
    pub(super) fn new(config: &'a Config, group: &SecurityGroup, direction: Direction) -> Self {
        let mut rules: Vec<SecurityRule> = group
            .rules
            .iter()
            .filter(|r| r.direction == direction)
            .cloned()
            .chain(default_rules(direction))
            .collect();
        rules.sort_by_key(|rule| rule.priority);
        Self { config, rules }
    }
}

impl Classify for LinearRules<'_> {
    fn classify(&self, key: &FlowKey) -> Option<usize> {
        self.rules.iter().position(|rule| matches(self.config, rule, key))
    }
}

fn matches(config: &Config, rule: &SecurityRule, key: &FlowKey) -> bool {
    let v6 = IpAddr::from(key.src).is_ipv6();
    let protocol = match rule.protocol {
        RuleProtocol::Any => true,
        RuleProtocol::Tcp => key.protocol == 6,
        RuleProtocol::Udp => key.protocol == 17,
        RuleProtocol::Icmp => key.protocol == if v6 { 58 } else { 1 },
        RuleProtocol::Esp => key.protocol == 50,
        RuleProtocol::Ah => key.protocol == 51,
    };
    let in_ports = |ranges: &[PortRange], port| ranges.iter().any(|r| r.first <= port && port <= r.last);
    let ports = (key.protocol != 6 && key.protocol != 17)
        || (in_ports(&rule.source_ports, key.src_port) && in_ports(&rule.destination_ports, key.dst_port));
    let side = |endpoints: &[Endpoint], address| endpoints.iter().any(|e| names(config, e, address));
    protocol && ports && side(&rule.source, key.src) && side(&rule.destination, key.dst)
}

fn names(config: &Config, endpoint: &Endpoint, address: Addr) -> bool {
    let network = &config.virtual_network;
    let platform = IpAddr::from(address).to_string() == "168.63.129.16";
    let prefixes = [&network.address_space, &network.route_prefixes];
    let inside = platform || prefixes.into_iter().flatten().any(|p| in_prefix(p, address));
    match endpoint {
        Endpoint::Any => true,
        Endpoint::Prefix(prefix) => in_prefix(prefix, address),
        Endpoint::VirtualNetwork => inside,
        Endpoint::AzureLoadBalancer => platform,
        Endpoint::Internet => !inside,
        Endpoint::ServiceTag(tag) => config.service_tags[*tag].prefixes.iter().any(|p| in_prefix(p, address)),
        Endpoint::ApplicationSecurityGroup(group) => network
            .interfaces
            .iter()
            .any(|i| Addr::from(i.address) == address && i.application_security_groups.contains(group)),
    }
}

/// Compares bit strings of the address's own family.
fn in_prefix(prefix: &Prefix, address: Addr) -> bool {
    fn bits(octets: &[u8]) -> String {
        octets.iter().map(|o| format!("{o:08b}")).collect()
    }
    let len = usize::from(prefix.len());
    match (prefix.address(), IpAddr::from(address)) {
        (IpAddr::V4(p), IpAddr::V4(a)) => bits(&p.octets())[..len] == bits(&a.octets())[..len],
        (IpAddr::V6(p), IpAddr::V6(a)) => bits(&p.octets())[..len] == bits(&a.octets())[..len],
        _ => false,
    }
}

/// What the groups must say of a packet that is delivered at `location`.
pub(super) fn decide(
    config: &Config,
    names: &mut Names,
    key: &FlowKey,
    context: Context,
    location: Addr,
) -> Decision {
    let network = &config.virtual_network;
    let interface = |a: Addr| {
        network.interfaces.iter().find(|i| Addr::from(i.address) == a).and_then(|i| i.security_group)
    };
    let subnet = |a: Addr| {
        network
            .subnets
            .iter()
            .find(|s| s.prefixes.iter().any(|p| in_prefix(p, a)))
            .and_then(|s| s.security_group)
    };
    let levels = [
        (interface(key.src), Direction::Outbound),
        (subnet(key.src), Direction::Outbound),
        (subnet(location), Direction::Inbound),
        (interface(location), Direction::Inbound),
    ];
    let mut rule: Option<RuleId> = None;
    for (group, direction) in levels {
        let Some(group) = group.map(|index| &config.security_groups[index.0]) else { continue };
        let rules = LinearRules::new(config, group, direction);
        let mut deciding = &rules.rules[rules.classify(key).unwrap()];
        let to = IpAddr::from(key.dst).to_string();
        if direction == Direction::Outbound && (to == "168.63.129.16" || to == "169.254.169.254") {
            // Only rules that name the platform's tags deny.
            let is_tag = |e: &Endpoint| matches!(e, Endpoint::ServiceTag(tag) if config.service_tags[*tag].name.starts_with("AzurePlatform"));
            let own =
                rules.rules.iter().find(|r| r.destination.iter().any(is_tag) && matches(config, r, key));
            match own {
                Some(own) => deciding = own,
                None if deciding.access == Access::Deny => continue,
                None => {}
            }
        }
        rule = Some(names.rule(&group.name, &deciding.name));
        if deciding.access == Access::Deny {
            return Decision { access: Access::Deny, rule };
        }
    }
    let outside = !network.address_space.iter().any(|p| in_prefix(p, key.src));
    if context.load_balanced && outside && levels[2].0.is_none() && levels[3].0.is_none() {
        return Decision { access: Access::Deny, rule: None };
    }
    Decision { access: Access::Allow, rule }
}
