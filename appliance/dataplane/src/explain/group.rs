//! What one level of security groups says of a packet, in words and in parts.

use super::Step;
use crate::addr::Addr;
use crate::policy::{Expansions, Judgement, LevelTrace, NearMiss, RuleField, rules_in_order};
use crate::wire::{FlowKey, protocol};
use nva_config::{Access, Config, Direction, Endpoint, PortRange, Prefix, RuleProtocol, SecurityRule};

const CLOSED_BY_DEFAULT: &str = "closed by default; a flow from outside the virtual network to a frontend needs a security group, \
                                 on the backend's subnet or interface, that allows it";
/// Rules that nearly matched, and prefixes of a tag, which people are shown; programs get all.
const MISSES_SHOWN: usize = 8;
const PREFIXES_SHOWN: usize = 4;

/// What a rule matches, as the configuration spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `protocol`.
    pub protocol: RuleProtocol,
    /// `source`.
    pub source: Vec<String>,
    /// `source_ports`.
    pub source_ports: Vec<PortRange>,
    /// `destination`.
    pub destination: Vec<String>,
    /// `destination_ports`.
    pub destination_ports: Vec<PortRange>,
}

/// A rule that would have decided, but for one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Its name, priority and access, and the field.
    pub rule: NearMiss,
    /// What the field lists.
    pub wants: Vec<String>,
    /// What the packet has there.
    pub has: String,
}

/// Tells a level.
pub(super) fn level(
    trace: &LevelTrace,
    key: &FlowKey,
    location: Addr,
    config: &Config,
    expansions: &mut Expansions<'_>,
) -> Step {
    let direction = trace.level.direction();
    let whose = match direction {
        Direction::Outbound => key.src,
        Direction::Inbound => location,
    };
    let step = Step {
        stage: trace.level.name(),
        direction: Some(direction),
        address: Some(whose),
        ..Step::default()
    };
    let about = |what: &str| format!("{direction}, {whose}: {what}");
    let Some(judgement) = &trace.judgement else {
        let (what, access) = if trace.closed_by_default {
            (CLOSED_BY_DEFAULT.to_owned(), Some(Access::Deny))
        } else if trace.to_platform {
            (format!("groups do not guard the platform's services at {}", key.dst), Some(Access::Allow))
        } else {
            ("no group at this level".to_owned(), None)
        };
        return Step { lines: vec![about(&what)], access, ..step };
    };
    let mut teller = Teller { key, expansions, expanded: Vec::new() };
    let rules = config.security_groups.iter().find(|group| group.name == judgement.group);
    let rules = rules.map(|group| rules_in_order(group, direction)).unwrap_or_default();
    let find =
        |name: &str, priority| rules.iter().find(|rule| rule.name == name && rule.priority == priority);
    let deciding = find(&judgement.rule, judgement.priority);
    let mut lines = vec![about(&verdict(judgement))];
    lines.extend(deciding.map(|rule| teller.matching(rule)));
    let mut near_misses = Vec::with_capacity(judgement.near_misses.len());
    for (place, miss) in judgement.near_misses.iter().enumerate() {
        let Some(rule) = find(&miss.rule, miss.priority) else { continue };
        let (missed, line) = teller.missed(miss, rule);
        if place < MISSES_SHOWN {
            lines.push(line);
        }
        near_misses.push(missed);
    }
    if near_misses.len() > MISSES_SHOWN {
        lines.push(format!("{} more rules fail in one field", near_misses.len() - MISSES_SHOWN));
    }
    Step {
        lines,
        group: Some(judgement.group.clone()),
        rule: Some(judgement.rule.clone()),
        priority: Some(judgement.priority),
        access: Some(judgement.access),
        matches: deciding.map(|rule| teller.terms(rule)),
        near_misses,
        expanded: teller.expanded,
        ..step
    }
}

fn verdict(judgement: &Judgement) -> String {
    let does = match judgement.access {
        Access::Allow => "allows",
        Access::Deny => "denies",
    };
    format!("{} rule {} (priority {}) {does}", judgement.group, judgement.rule, judgement.priority)
}

/// Spells rules out, and keeps what tags and application security groups stood for on the way.
struct Teller<'a, 'c> {
    key: &'a FlowKey,
    expansions: &'a mut Expansions<'c>,
    expanded: Vec<(String, Vec<Prefix>)>,
}

impl Teller<'_, '_> {
    /// What the deciding rule matches, without what it leaves open.
    fn matching(&mut self, rule: &SecurityRule) -> String {
        let mut parts = Vec::new();
        if rule.protocol != RuleProtocol::Any {
            parts.push(format!("protocol {}", rule.protocol));
        }
        let has_ports = matches!(self.key.protocol, protocol::TCP | protocol::UDP);
        for (field, side, ports_field, ports) in [
            (RuleField::Source, &rule.source, RuleField::SourcePorts, &rule.source_ports),
            (RuleField::Destination, &rule.destination, RuleField::DestinationPorts, &rule.destination_ports),
        ] {
            if !side.contains(&Endpoint::Any) {
                parts.push(format!("{field} {}", self.side(side)));
            }
            if has_ports && !ports.contains(&PortRange::ALL) {
                parts.push(format!("{ports_field} {}", joined(ports)));
            }
        }
        let listed = [&rule.source_ports, &rule.destination_ports]
            .iter()
            .any(|ports| !ports.contains(&PortRange::ALL));
        let no_ports = if listed && !has_ports {
            format!("; its ports are not compared, as {} has none", protocol_name(self.key.protocol))
        } else {
            String::new()
        };
        match parts.join(", ").as_str() {
            "" => format!("it matches everything{no_ports}"),
            parts => format!("it matches {parts}{no_ports}"),
        }
    }

    fn missed(&mut self, miss: &NearMiss, rule: &SecurityRule) -> (Missed, String) {
        let would = match miss.access {
            Access::Allow => "allow",
            Access::Deny => "deny",
        };
        let key = self.key;
        let ports = |ports: &[PortRange]| (ports.iter().map(ToString::to_string).collect(), joined(ports));
        let ((wants, shown), has) = match miss.failed {
            RuleField::Protocol => {
                ((vec![rule.protocol.to_string()], rule.protocol.to_string()), protocol_name(key.protocol))
            }
            RuleField::Source => ((self.spelled(&rule.source), self.side(&rule.source)), key.src.to_string()),
            RuleField::Destination => {
                ((self.spelled(&rule.destination), self.side(&rule.destination)), key.dst.to_string())
            }
            RuleField::SourcePorts => (ports(&rule.source_ports), key.src_port.to_string()),
            RuleField::DestinationPorts => (ports(&rule.destination_ports), key.dst_port.to_string()),
        };
        let line = format!(
            "{} (priority {}) would {would} but for its {}: {shown}, not {has}",
            miss.rule, miss.priority, miss.failed
        );
        (Missed { rule: miss.clone(), wants, has }, line)
    }

    fn terms(&self, rule: &SecurityRule) -> Terms {
        Terms {
            protocol: rule.protocol,
            source: self.spelled(&rule.source),
            source_ports: rule.source_ports.clone(),
            destination: self.spelled(&rule.destination),
            destination_ports: rule.destination_ports.clone(),
        }
    }

    fn spelled(&self, side: &[Endpoint]) -> Vec<String> {
        side.iter().map(|endpoint| self.expansions.spelled(endpoint)).collect()
    }

    /// The entries of one side in words, tags and application security groups expanded.
    fn side(&mut self, side: &[Endpoint]) -> String {
        let words: Vec<String> = side.iter().map(|endpoint| self.entry(endpoint)).collect();
        words.join(" or ")
    }

    fn entry(&mut self, endpoint: &Endpoint) -> String {
        let name = self.expansions.spelled(endpoint);
        let Some(prefixes) = self.expansions.expanded(endpoint) else { return name };
        let shown = match endpoint {
            // Its own prefixes tell nobody anything.
            Endpoint::Internet => {
                let network = self.expansions.expanded(&Endpoint::VirtualNetwork).unwrap_or_default();
                format!("{name} (all but {})", some_of(&network))
            }
            _ => format!("{name} ({})", some_of(&prefixes)),
        };
        if !self.expanded.iter().any(|(known, _)| *known == name) {
            self.expanded.push((name, prefixes));
        }
        shown
    }
}

fn some_of(prefixes: &[Prefix]) -> String {
    let shown: Vec<String> = prefixes.iter().take(PREFIXES_SHOWN).map(ToString::to_string).collect();
    match prefixes.len().saturating_sub(PREFIXES_SHOWN) {
        0 if shown.is_empty() => "nothing".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn joined(ports: &[PortRange]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".into(),
        protocol::UDP => "udp".into(),
        protocol::ICMP | protocol::ICMPV6 => "icmp".into(),
        protocol::ESP => "esp".into(),
        protocol::AH => "ah".into(),
        number => format!("protocol {number}"),
    }
}
