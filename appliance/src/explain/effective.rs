//! `nva explain --effective`: the rules that guard one address, at both levels and in both directions, tags expanded.
//!
//! The JSON has the shape in which the cloud gives the effective rules of an interface, so that tools which read that read this, and
//! `nva import azure --nsg` takes it back. Where that shape cannot say what is meant (`*` is 0.0.0.0/0 there, one tag stands alone in its
//! field), it says it in prefixes, or as `*`.

use crate::output::{Align, Style, Table};
use nva_config::{
    Access, Config, Direction, Endpoint, PortRange, Prefix, RuleProtocol, SecurityGroup, SecurityRule,
};
use nva_dataplane::policy::{Expansions, rules_in_order};
use serde::Serialize;
use std::fmt::Write;
use std::net::IpAddr;

/// The cloud's own rules begin here.
const DEFAULT_PRIORITY_MIN: u16 = 65_000;
/// Prefixes on one line of the expansions.
const PREFIXES_A_LINE: usize = 6;

/// The effective rules of an address.
#[derive(Debug, Serialize)]
pub(super) struct Effective {
    value: Vec<GroupRules>,
    #[serde(skip)]
    address: String,
    #[serde(skip)]
    stands: String,
    #[serde(skip)]
    levels: Vec<Level>,
    #[serde(skip)]
    expansions: Vec<(String, Vec<Prefix>)>,
}

/// A group as the cloud shows it, with where it is attached.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupRules {
    association: Association,
    network_security_group: Id,
    effective_security_rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Association {
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_interface: Option<Id>,
}

#[derive(Debug, Serialize)]
struct Id {
    id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: String,
    protocol: &'static str,
    source_port_range: Option<String>,
    source_port_ranges: Vec<String>,
    destination_port_range: Option<String>,
    destination_port_ranges: Vec<String>,
    source_address_prefix: Option<String>,
    source_address_prefixes: Vec<String>,
    destination_address_prefix: Option<String>,
    destination_address_prefixes: Vec<String>,
    expanded_source_address_prefix: Option<Vec<String>>,
    expanded_destination_address_prefix: Option<Vec<String>>,
    access: &'static str,
    priority: u16,
    direction: &'static str,
}

/// A group at one level, for people.
#[derive(Debug)]
struct Level {
    stage: &'static str,
    group: String,
    inbound: Vec<Row>,
    outbound: Vec<Row>,
}

/// Priority, rule, access, protocol, source, its ports, destination, its ports.
type Row = [String; 8];

impl Effective {
    /// The rules that guard `address`: those of its subnet's group, then those of its interface's.
    pub(super) fn of(config: &Config, address: IpAddr) -> Self {
        let network = &config.virtual_network;
        let subnet = network
            .subnets
            .iter()
            .find(|subnet| subnet.prefixes.iter().any(|prefix| prefix.contains(address)));
        let interface = network.interfaces.iter().find(|interface| interface.address == address);
        let mut effective = Self {
            value: Vec::new(),
            address: address.to_string(),
            stands: match (subnet, interface) {
                (Some(subnet), Some(_)) => {
                    format!("in subnet {}, an interface of the configuration", subnet.name)
                }
                (Some(subnet), None) => format!("in subnet {}", subnet.name),
                (None, Some(_)) => "an interface of the configuration, in none of its subnets".into(),
                (None, None) => "in no subnet of the configuration, and none of its interfaces".into(),
            },
            levels: Vec::new(),
            expansions: Vec::new(),
        };
        let mut expansions = Expansions::new(config);
        let of_subnet = subnet.and_then(|subnet| Some((subnet.security_group?, subnet.name.clone())));
        let of_interface =
            interface.and_then(|interface| Some((interface.security_group?, address.to_string())));
        for (stage, attached) in [("subnet_group", of_subnet), ("interface_group", of_interface)] {
            let Some((index, place)) = attached else { continue };
            let Some(group) = config.security_groups.get(index.0) else { continue };
            let place = Some(Id { id: place });
            let association = if stage == "subnet_group" {
                Association { subnet: place, network_interface: None }
            } else {
                Association { subnet: None, network_interface: place }
            };
            effective.add(stage, association, group, &mut expansions);
        }
        effective
    }

    fn add(
        &mut self,
        stage: &'static str,
        association: Association,
        group: &SecurityGroup,
        expansions: &mut Expansions<'_>,
    ) {
        let mut rules = Vec::new();
        let [inbound, outbound] = [Direction::Inbound, Direction::Outbound].map(|direction| {
            let sorted = rules_in_order(group, direction);
            rules.extend(sorted.iter().map(|rule| Rule::of(rule, expansions)));
            sorted.iter().map(|rule| self.row(rule, expansions)).collect()
        });
        self.levels.push(Level { stage, group: group.name.clone(), inbound, outbound });
        let network_security_group = Id { id: group.name.clone() };
        self.value.push(GroupRules { association, network_security_group, effective_security_rules: rules });
    }

    /// The rule as a row; what it names is kept to be expanded below the tables.
    fn row(&mut self, rule: &SecurityRule, expansions: &mut Expansions<'_>) -> Row {
        for endpoint in rule.source.iter().chain(&rule.destination) {
            let name = expansions.spelled(endpoint);
            if self.expansions.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if let Some(prefixes) = expansions.expanded(endpoint) {
                self.expansions.push((name, prefixes));
            }
        }
        let side = |side: &[Endpoint]| {
            side.iter().map(|endpoint| expansions.spelled(endpoint)).collect::<Vec<_>>().join(" ")
        };
        let ports = |ports: &[PortRange]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        [
            rule.priority.to_string(),
            rule.name.clone(),
            rule.access.as_str().into(),
            rule.protocol.as_str().into(),
            side(&rule.source),
            ports(&rule.source_ports),
            side(&rule.destination),
            ports(&rule.destination_ports),
        ]
    }

    /// For people: per direction, the levels in the order in which they are asked.
    pub(super) fn text(&self, style: Style) -> String {
        let mut text = format!("{}  {}\n", style.bold(&self.address), self.stands);
        if self.levels.is_empty() {
            text.push_str(
                "\nno group at either level: everything passes, save from outside through a load balancer\n",
            );
            return text;
        }
        let outbound: Vec<&Level> = self.levels.iter().rev().collect();
        let inbound: Vec<&Level> = self.levels.iter().collect();
        for (direction, levels) in [(Direction::Inbound, inbound), (Direction::Outbound, outbound)] {
            for level in levels {
                let rows = match direction {
                    Direction::Inbound => &level.inbound,
                    Direction::Outbound => &level.outbound,
                };
                let _ = write!(
                    text,
                    "\n{direction}, {} {}\n{}",
                    level.stage,
                    style.bold(&level.group),
                    table(rows).render(style, 2)
                );
            }
        }
        if !self.expansions.is_empty() {
            let mut table = Table::new(&[("name", Align::Left), ("stands for", Align::Left)]);
            for (name, prefixes) in &self.expansions {
                let mut name = name.as_str();
                for line in prefixes.chunks(PREFIXES_A_LINE) {
                    let line: Vec<String> = line.iter().map(ToString::to_string).collect();
                    table.row([std::mem::take(&mut name), &line.join(" ")]);
                }
                if !name.is_empty() {
                    table.row([name, "nothing"]);
                }
            }
            let _ = write!(text, "\n{}", table.render(style, 0));
        }
        text
    }
}

fn table(rows: &[Row]) -> Table {
    let left = |title| (title, Align::Left);
    let mut table = Table::new(&[
        ("priority", Align::Right),
        left("rule"),
        left("access"),
        left("protocol"),
        left("source"),
        left("source ports"),
        left("destination"),
        left("destination ports"),
    ]);
    rows.iter().for_each(|row| table.row(row));
    table
}

impl Rule {
    fn of(rule: &SecurityRule, expansions: &mut Expansions<'_>) -> Self {
        let list =
            if rule.priority >= DEFAULT_PRIORITY_MIN { "defaultSecurityRules" } else { "securityRules" };
        let ports = |ports: &[PortRange]| -> Vec<String> {
            ports.iter().map(|range| format!("{}-{}", range.first, range.last)).collect()
        };
        let (source_ports, destination_ports) = (ports(&rule.source_ports), ports(&rule.destination_ports));
        let (source, expanded_source) = side(&rule.source, rule.access, expansions);
        let (destination, expanded_destination) = side(&rule.destination, rule.access, expansions);
        Self {
            name: format!("{list}/{}", rule.name),
            protocol: match rule.protocol {
                RuleProtocol::Tcp => "Tcp",
                RuleProtocol::Udp => "Udp",
                RuleProtocol::Icmp => "Icmp",
                RuleProtocol::Esp => "Esp",
                RuleProtocol::Ah => "Ah",
                RuleProtocol::Any => "All",
            },
            source_port_range: only(&source_ports),
            source_port_ranges: source_ports,
            destination_port_range: only(&destination_ports),
            destination_port_ranges: destination_ports,
            source_address_prefix: only(&source),
            source_address_prefixes: source,
            destination_address_prefix: only(&destination),
            destination_address_prefixes: destination,
            expanded_source_address_prefix: expanded_source,
            expanded_destination_address_prefix: expanded_destination,
            access: match rule.access {
                Access::Allow => "Allow",
                Access::Deny => "Deny",
            },
            priority: rule.priority,
            direction: match rule.direction {
                Direction::Inbound => "Inbound",
                Direction::Outbound => "Outbound",
            },
        }
    }
}

/// The singular key repeats a list's only entry.
fn only(list: &[String]) -> Option<String> {
    match list {
        [only] => Some(only.clone()),
        _ => None,
    }
}

/// One side's entries, and what its tag stands for. A tag stands alone in its field in the cloud; beside other entries, and in place
/// of application security groups, the addresses themselves are listed.
fn side(
    side: &[Endpoint],
    access: Access,
    expansions: &mut Expansions<'_>,
) -> (Vec<String>, Option<Vec<String>>) {
    let texts = |prefixes: &[Prefix]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    match side {
        _ if side.contains(&Endpoint::Any) => (vec!["*".into()], None),
        _ if side.iter().all(|endpoint| matches!(endpoint, Endpoint::Prefix(_))) => {
            let prefix = |endpoint: &Endpoint| match endpoint {
                Endpoint::Prefix(prefix) => Some(*prefix),
                _ => None,
            };
            (texts(&as_listed(side.iter().filter_map(prefix).collect(), access)), None)
        }
        [members @ Endpoint::ApplicationSecurityGroup(_)] => {
            (texts(&expansions.expanded(members).unwrap_or_default()), None)
        }
        [tag] => {
            let expanded = expansions.expanded(tag).unwrap_or_default();
            (vec![expansions.spelled(tag)], Some(texts(&expanded)))
        }
        _ => (texts(&as_listed(expansions.together(side), access)), None),
    }
}

/// 0.0.0.0/0 would be read back as `*` in a rule that denies: its halves say that IPv4 alone is meant.
fn as_listed(prefixes: Vec<Prefix>, access: Access) -> Vec<Prefix> {
    if access == Access::Allow || !prefixes.contains(&Prefix::ANY_V4) {
        return prefixes;
    }
    let halves = [[0, 0, 0, 0], [128, 0, 0, 0]].map(|first| Prefix::new(IpAddr::from(first), 1));
    let others = prefixes.into_iter().filter(|prefix| *prefix != Prefix::ANY_V4);
    halves.into_iter().flatten().chain(others).collect()
}
