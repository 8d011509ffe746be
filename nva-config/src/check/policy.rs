//! Security groups: names, priorities, ports, and what their rules point to.

use std::collections::HashMap;

use super::Once;
use super::names::Names;
use super::tags::Tags;
use super::virtual_network::Members;
use crate::model::{Direction, Endpoint, PortRange, RuleProtocol, SecurityGroup, SecurityRule};
use crate::raw::{self, List, Raw};
use crate::report::{At, Place, Report, quote};

/// The cloud takes so many rules in one group.
const CLOUD_RULES_MAX: usize = 1000;

/// The names of all groups.
pub(super) fn group_names<'r>(raw: &'r Raw, report: &mut Report<'_>) -> Names<'r> {
    let groups = &raw.security_groups;
    Names::collect("security group", groups.items.iter().map(|g| &g.name), groups.complete, report)
}

/// All groups, in the order of the file.
pub(super) fn check(
    raw: &Raw,
    members: &Members,
    tags: &mut Tags<'_>,
    report: &mut Report<'_>,
) -> Vec<SecurityGroup> {
    let mut groups = Vec::new();
    for group in &raw.security_groups.items {
        Names::collect("rule", group.rules.items.iter().map(|r| &r.name), group.rules.complete, report);
        check_priorities(&group.rules, report);
        warn_default_names(&group.rules, report);
        if group.rules.items.len() > CLOUD_RULES_MAX {
            let count = group.rules.items.len();
            report.warn(
                group.at,
                format!("the group has {count} rules; the cloud takes at most {CLOUD_RULES_MAX} in a group"),
            );
        }
        let rules = group.rules.items.iter().filter_map(|r| rule(r, members, tags, report)).collect();
        if let (Some(name), Some(flush)) = (&group.name, &group.flush_connections) {
            groups.push(SecurityGroup { name: name.value.clone(), flush_connections: flush.value, rules });
        }
    }
    groups
}

/// The cloud's own rules, which every group has.
const DEFAULT_RULES: [&str; 6] = [
    "AllowVnetInBound",
    "AllowAzureLoadBalancerInBound",
    "DenyAllInBound",
    "AllowVnetOutBound",
    "AllowInternetOutBound",
    "DenyAllOutBound",
];

/// A rule that is called like a default rule cannot be told from it in verdicts and counters.
fn warn_default_names(rules: &List<raw::SecurityRule>, report: &mut Report<'_>) {
    for name in rules.items.iter().filter_map(|rule| rule.name.as_ref()) {
        if DEFAULT_RULES.iter().any(|default| default.eq_ignore_ascii_case(&name.value)) {
            let message = format!(
                "a default rule of every group is called {} too, so that verdicts and hits do not tell them apart; choose another name",
                quote(&name.value)
            );
            report.warn(name.at, message);
        }
    }
}

/// Each priority once in each direction.
fn check_priorities(rules: &List<raw::SecurityRule>, report: &mut Report<'_>) {
    let mut seen: Once<(Direction, u16)> = Once::new();
    let mut names: HashMap<(Direction, u16), String> = HashMap::new();
    for rule in &rules.items {
        let (Some(direction), Some(priority)) = (rule.direction, rule.priority) else { continue };
        let key = (direction.value, priority.value);
        let name = rule.name.as_ref().map(|name| format!(" of the rule {}", quote(&name.value)));
        seen.note(&At { value: key, at: priority.at }, report, |first| {
            let holder = names.get(&key).map_or("", String::as_str);
            format!("the priority {} is that{holder} at {first}; give each {} rule its own", key.1, key.0)
        });
        names.entry(key).or_insert_with(|| name.unwrap_or_default());
    }
}

fn rule(
    raw: &raw::SecurityRule,
    members: &Members,
    tags: &mut Tags<'_>,
    report: &mut Report<'_>,
) -> Option<SecurityRule> {
    let source = endpoints(&raw.source, members, tags, report);
    let source_ports = ports(&raw.source_ports, report);
    let destination = endpoints(&raw.destination, members, tags, report);
    let destination_ports = ports(&raw.destination_ports, report);
    if let Some(protocol) = &raw.protocol {
        warn_portless(protocol, [&raw.source_ports, &raw.destination_ports], report);
    }
    Some(SecurityRule {
        name: raw.name.as_ref()?.value.clone(),
        priority: raw.priority?.value,
        direction: raw.direction?.value,
        access: raw.access?.value,
        protocol: raw.protocol?.value,
        source,
        source_ports,
        destination,
        destination_ports,
    })
}

/// Ports mean nothing to a protocol that has none.
fn warn_portless(protocol: &At<RuleProtocol>, lists: [&List<At<PortRange>>; 2], report: &mut Report<'_>) {
    if !matches!(protocol.value, RuleProtocol::Icmp | RuleProtocol::Esp | RuleProtocol::Ah) {
        return;
    }
    for list in lists {
        if list.items.iter().any(|range| range.value != PortRange::ALL) {
            report.warn(list.at, format!("{} has no ports; write [\"*\"]", protocol.value));
        }
    }
}

fn endpoints(
    raw: &List<At<raw::Endpoint>>,
    members: &Members,
    tags: &mut Tags<'_>,
    report: &mut Report<'_>,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for entry in &raw.items {
        let endpoint = match &entry.value {
            raw::Endpoint::Any => Some(Endpoint::Any),
            raw::Endpoint::Prefix(prefix) => Some(Endpoint::Prefix(*prefix)),
            raw::Endpoint::Tag(name) => tags.find(name, entry.at, report),
            raw::Endpoint::ApplicationSecurityGroup(name) => {
                members.find(name, entry.at, report).map(Endpoint::ApplicationSecurityGroup)
            }
        };
        endpoints.extend(endpoint);
    }
    endpoints
}

/// The ranges, in the order of the file; none may overlap another.
fn ports(raw: &List<At<PortRange>>, report: &mut Report<'_>) -> Vec<PortRange> {
    let mut sorted: Vec<(PortRange, Place)> = raw.items.iter().map(|range| (range.value, range.at)).collect();
    sorted.sort();
    let mut outer: Option<(PortRange, Place)> = None;
    for (range, at) in sorted {
        if let Some((wide, place)) = outer
            && range.first <= wide.last
        {
            let (earlier, later) = if place < at { (wide, (range, at)) } else { (range, (wide, place)) };
            report.problem(
                later.1,
                format!("the ports {} overlap {earlier} in the same list; list each port once", later.0),
            );
            if range.last <= wide.last {
                continue;
            }
        }
        outer = Some((range, at));
    }
    raw.items.iter().map(|range| range.value).collect()
}
