//! A firewall of many rules between two networks, and the first packets of flows that it allows.
//!
//! Its rules are a filter set of the ClassBench kind, all of which allow. Addresses of filter sets are from anywhere: an even first byte is
//! inside, an odd one outside, and packets go inwards.

use crate::rig::load;
use crate::traffic::{ROUTER, STATION};
use etherparse::PacketBuilder;
use nva_config::{Access, Config, Direction, Endpoint, PortRange, Prefix, RuleProtocol, SecurityRule};
use nva_dataplane::addr::Addr;
use nva_dataplane::policy::classifier::classbench::{self, Random, Style};
use nva_dataplane::policy::classifier::{Classifier, Classify, Pattern, PortScope, Ports, Protocols};
use nva_dataplane::prefix_set::PrefixSet;
use nva_dataplane::wire::{FlowKey, protocol};
use std::collections::HashSet;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

/// A frame without the frame check sequence: the smallest.
const FRAME_LEN: usize = 60;
/// First bytes of addresses that are nobody's, or that the appliance's links have, or that mean no host.
const NOT_USED: [u8; 10] = [0, 10, 100, 127, 169, 172, 192, 198, 203, 223];
/// Of so many headers that are drawn, one is a flow's at least.
const TRIES: usize = 4096;
/// How long a flow lives after its packet, in milliseconds.
pub(crate) const LIFETIME_MS: u64 = 10_000;
/// Their priorities begin here, one after the other.
const FIRST_PRIORITY: usize = 100;
/// Default rules stand behind this.
const LAST_PRIORITY: usize = 60_000;

/// Rules, and flows that they allow.
pub(crate) struct Firewall {
    /// In their order.
    rules: Vec<Pattern>,
    /// Different ones.
    flows: Vec<FlowKey>,
}

impl Firewall {
    /// From a filter set: those of its rules whose protocol a security rule can name, and so many flows that they allow, drawn from them.
    ///
    /// # Errors
    /// When there are more rules than priorities, or hardly a flow can be found that they allow.
    pub(crate) fn new(set: Vec<Pattern>, flows: usize, seed: u64) -> Result<Self, String> {
        let rules: Vec<Pattern> =
            set.into_iter().filter(|rule| rule_protocol(rule.protocol).is_some()).collect();
        if rules.len() > LAST_PRIORITY - FIRST_PRIORITY {
            return Err(format!(
                "{} rules are more than the {LAST_PRIORITY} that a group can number",
                rules.len()
            ));
        }
        let classifier = Classifier::build(rules.clone(), PortScope::TcpAndUdp);
        let (mut random, mut known, mut list) = (Random(seed), HashSet::new(), Vec::with_capacity(flows));
        let mut tries = 0;
        while list.len() < flows {
            tries += 1;
            if tries > TRIES * (list.len() + 1) {
                return Err(format!("only {} flows were found that the rules allow", list.len()));
            }
            let key = classbench::header(&rules, &mut random);
            if is_wanted(&key) && classifier.classify(&key).is_some() && known.insert(key) {
                list.push(key);
            }
        }
        Ok(Self { rules, flows: list })
    }

    /// The same with the rules of a ClassBench file, or with so many of the generator.
    ///
    /// # Errors
    /// Each bad line of the file, and as there.
    pub(crate) fn load(file: Option<&Path>, rules: usize, flows: usize, seed: u64) -> Result<Self, String> {
        let set = match file {
            Some(file) => crate::classify::rules_of(file)?,
            None => classbench::generate(Style::Firewall, rules, 1),
        };
        Self::new(set, flows, seed)
    }

    /// How many rules there are.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The configuration of these rules for two ports.
    ///
    /// # Errors
    /// What is wrong with it, which nothing is.
    pub(crate) fn config(&self, driver: &str, devices: [&str; 2]) -> Result<Config, String> {
        let [outside, inside] = devices;
        let networks: Vec<String> =
            (0..=255).filter(|first| is_inside(*first)).map(|first| format!("{first}.0.0.0/8")).collect();
        let mut text = format!(
            "version: 1\nname: perf\n\
             dataplane: {{flow_idle_timeout: {{udp: {LIFETIME_MS}ms, tcp_half_open: {LIFETIME_MS}ms}}}}\nports:\n\
             - {{name: outside, driver: {driver}, device: \"{outside}\", trust: untrusted, addresses: [203.0.113.1/24]}}\n\
             - {{name: inside, driver: {driver}, device: \"{inside}\", trust: trusted, addresses: [10.2.0.1/24]}}\n\
             routes:\n- {{to: 0.0.0.0/0, via: 203.0.113.254}}\n"
        );
        for network in &networks {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "- {{to: {network}, via: 10.2.0.4}}");
        }
        let networks = networks.join(", ");
        let _ = write!(
            text,
            "neighbors:\n- {{address: 203.0.113.254, mac: \"02:00:00:00:71:fe\"}}\n- {{address: 10.2.0.4, mac: \"02:00:00:00:02:04\"}}\n\
             virtual_network:\n  address_space: [10.0.0.0/8, {networks}]\n  subnets:\n\
             \x20 - {{name: inside, prefixes: [{networks}], security_group: firewall}}\n\
             security_groups:\n- name: firewall\n"
        );
        let mut config = load(&text)?;
        // More than a file may number.
        config.security_groups[0].rules =
            self.rules.iter().zip(0..).filter_map(|(rule, place)| security_rule(rule, place)).collect();
        Ok(config)
    }

    /// The first packet of each flow: a SYN or a datagram.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Vec<u8>> {
        self.flows.iter().map(frame)
    }

    /// The same rules for DPDK's `l3fwd`, as routes to its port 0.
    pub(crate) fn l3fwd(&self) -> String {
        let mut text = String::new();
        for rule in &self.rules {
            let [source, destination] = [&rule.source, &rule.destination].map(|set| prefix(set));
            let [from, to] = [&rule.source_ports, &rule.destination_ports].map(ports);
            let (Some(source), Some(destination)) = (source, destination) else { continue };
            let (number, mask) = match rule.protocol {
                Protocols::One(number) => (number, 0xff),
                _ => (0, 0),
            };
            let _ = writeln!(
                text,
                "R{source} {destination} {} : {} {} : {} {number:#04x}/{mask:#04x} 0",
                from.first, from.last, to.first, to.last
            );
        }
        text
    }
}

fn is_inside(first: u8) -> bool {
    first.is_multiple_of(2) && first < 224 && !NOT_USED.contains(&first)
}

fn is_outside(first: u8) -> bool {
    !first.is_multiple_of(2) && first < 224 && !NOT_USED.contains(&first)
}

/// Whether packets of this flow go inwards, and are none that anything but rules looks at.
fn is_wanted(key: &FlowKey) -> bool {
    let (Some([source, ..]), Some([destination, ..])) = (key.src.as_v4(), key.dst.as_v4()) else {
        return false;
    };
    let is_amplifier = |port| port == 123 || port == 11_211;
    matches!(key.protocol, protocol::TCP | protocol::UDP)
        && is_outside(source)
        && is_inside(destination)
        && key.src_port != 0
        && key.dst_port != 0
        && !(key.protocol == protocol::UDP && (is_amplifier(key.src_port) || is_amplifier(key.dst_port)))
}

fn frame(key: &FlowKey) -> Vec<u8> {
    let address = |address: Addr| address.as_v4().unwrap_or_default();
    let builder = PacketBuilder::ethernet2(ROUTER, STATION).ipv4(address(key.src), address(key.dst), 64);
    let mut frame = Vec::with_capacity(FRAME_LEN);
    // Writing to a vector cannot fail, and the payload is short.
    let written = match key.protocol {
        protocol::TCP => {
            builder.tcp(key.src_port, key.dst_port, 1_000_000, 64_000).syn().write(&mut frame, &[])
        }
        _ => builder.udp(key.src_port, key.dst_port).write(&mut frame, &[0; 18]),
    };
    if let Err(error) = written {
        unreachable!("a vector takes every frame: {error}");
    }
    frame.resize(FRAME_LEN, 0);
    frame
}

fn security_rule(pattern: &Pattern, place: usize) -> Option<SecurityRule> {
    Some(SecurityRule {
        name: format!("r{place}"),
        priority: u16::try_from(FIRST_PRIORITY + place).ok()?,
        direction: Direction::Inbound,
        access: Access::Allow,
        protocol: rule_protocol(pattern.protocol)?,
        source: vec![Endpoint::Prefix(prefix(&pattern.source)?)],
        source_ports: vec![ports(&pattern.source_ports)],
        destination: vec![Endpoint::Prefix(prefix(&pattern.destination)?)],
        destination_ports: vec![ports(&pattern.destination_ports)],
    })
}

fn rule_protocol(protocols: Protocols) -> Option<RuleProtocol> {
    match protocols {
        Protocols::Any => Some(RuleProtocol::Any),
        Protocols::One(protocol::TCP) => Some(RuleProtocol::Tcp),
        Protocols::One(protocol::UDP) => Some(RuleProtocol::Udp),
        Protocols::One(protocol::ICMP) => Some(RuleProtocol::Icmp),
        Protocols::One(protocol::ESP) => Some(RuleProtocol::Esp),
        Protocols::One(protocol::AH) => Some(RuleProtocol::Ah),
        _ => None,
    }
}

/// The one prefix that a filter set's rule names on a side.
fn prefix(set: &PrefixSet) -> Option<Prefix> {
    let (first, last) = set.ranges().next()?;
    let size = (last - first).checked_add(1)?;
    let len = 32_u32.checked_sub(size.trailing_zeros())?;
    Prefix::containing(Ipv4Addr::from(first as u32).into(), len as u8).ok()
}

fn ports(ports: &Ports) -> PortRange {
    let (first, last) = ports.ranges().next().unwrap_or((0, u16::MAX));
    PortRange { first, last }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::policy::classifier::classbench::generate;

    #[test]
    fn every_rule_is_in_the_configuration_and_in_the_peers() {
        let firewall = Firewall::new(generate(Style::Firewall, 500, 1), 100, 1).unwrap();
        assert_eq!(firewall.len(), 500);
        let config = firewall.config("af_packet", ["p0", "p1"]).unwrap();
        assert_eq!(config.security_groups[0].rules.len(), 500);
        assert_eq!(
            config.security_groups[0].rules[499].source[0],
            Endpoint::Prefix(Prefix::parse("0.0.0.0/0").unwrap())
        );
        let text = firewall.l3fwd();
        assert_eq!(text.lines().count(), 500);
        assert!(text.ends_with("R0.0.0.0/0 0.0.0.0/0 0 : 65535 0 : 65535 0x00/0x00 0\n"), "{text}");
    }

    #[test]
    fn flows_go_inwards_and_differ() {
        let firewall = Firewall::new(generate(Style::Firewall, 500, 1), 1000, 1).unwrap();
        let frames: Vec<_> = firewall.frames().collect();
        assert!(frames.iter().all(|frame| frame.len() == FRAME_LEN));
        assert!(frames.iter().all(|frame| frame[26] % 2 == 1 && frame[30] % 2 == 0));
        let keys: HashSet<_> = frames.iter().map(|frame| (frame[23], frame[26..38].to_vec())).collect();
        assert_eq!(keys.len(), 1000);
    }
}
