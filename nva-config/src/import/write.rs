//! The sections as text: the same drafts always give the same text.

use std::fmt::{Display, Write};

use super::draft::{Balancer, Endpoint, Flow, Group, Listener, Network, Pool, Route, Rule};
use super::journal::Journal;
use crate::model::{AdminState, BalancingProtocol, PortRange, Prefix};

/// Characters of a comment.
const COMMENT_MAX: usize = 200;

/// The path of what stands in a line of the text, with names in place of indices, such as `security_groups.web-nsg.rules.allow-https`.
pub(super) fn path_at(lines: &[&str], place: usize) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut names: Vec<&str> = Vec::new();
    let mut within = usize::MAX;
    for line in lines.iter().take(place + 1).rev().filter(|line| !line.trim_start().starts_with('#')) {
        if depth(line) < within && !line.is_empty() {
            within = depth(line);
            names.push(name_of(line));
        }
    }
    names.reverse();
    names.join(".")
}

/// What a line is about: the name, address or prefix of an element of a list, or the key.
fn name_of(line: &str) -> &str {
    let line = line.trim_start();
    let Some(element) = line.strip_prefix("- ") else {
        return line.split_once(':').map_or(line, |(key, _)| key).trim_matches('"');
    };
    let first = element.trim_start_matches('{').split_once(": ").map_or(element, |(_, value)| value);
    match first.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => first.split([',', '}']).next().unwrap_or_default(),
    }
}

/// A text as YAML: plain where every reader takes it for a text, else between double quotes.
pub(super) fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/'))
        && !matches!(text, "null" | "Null" | "NULL");
    if plain { text.to_owned() } else { quoted(text) }
}

/// A text between double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            _ if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `[a, b]`.
pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| scalar(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// One line behind `#`, whatever the text holds.
pub(super) fn comment(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c })
        .collect();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut line: String = words.join(" ");
    if line.chars().count() > COMMENT_MAX {
        line = line.chars().take(COMMENT_MAX).chain(['…']).collect();
    }
    format!("# {line}")
}

/// `virtual_network` and `service_tags`.
pub(super) fn network(text: &mut String, network: &Network) {
    let Network { address_space, route_prefixes, subnets, interfaces, tags } = network;
    let prefixes = [address_space, route_prefixes];
    if !(prefixes.iter().all(|list| list.is_empty()) && subnets.is_empty() && interfaces.is_empty()) {
        text.push_str("\nvirtual_network:\n");
    }
    if !address_space.is_empty() {
        let _ = writeln!(text, "  address_space: {}", list(address_space));
    }
    if !route_prefixes.is_empty() {
        let _ = writeln!(text, "  route_prefixes: {}", list(route_prefixes));
    }
    let group = |name: &Option<String>| {
        name.as_ref().map(|name| format!(", security_group: {}", scalar(name))).unwrap_or_default()
    };
    if !subnets.is_empty() {
        text.push_str("  subnets:\n");
    }
    for subnet in subnets {
        let (name, prefixes) = (scalar(&subnet.name), list(&subnet.prefixes));
        let _ = writeln!(text, "    - {{name: {name}, prefixes: {prefixes}{}}}", group(&subnet.group));
    }
    if !interfaces.is_empty() {
        text.push_str("  interfaces:\n");
    }
    for interface in interfaces {
        let address = scalar(&interface.address.to_string());
        let members = if interface.member_of.is_empty() {
            String::new()
        } else {
            format!(", application_security_groups: {}", list(&interface.member_of))
        };
        let _ = writeln!(text, "    - {{address: {address}{}{members}}}", group(&interface.group));
    }
    if !tags.is_empty() {
        text.push_str("\nservice_tags:\n  inline:\n");
    }
    for (name, prefixes) in tags {
        let _ = writeln!(text, "    {}: {}", scalar(name), list(prefixes));
    }
}

/// `security_groups`.
pub(super) fn groups(text: &mut String, groups: &[Group], journal: &Journal) {
    if !groups.is_empty() {
        text.push_str("\nsecurity_groups:\n");
    }
    for group in groups {
        let _ = writeln!(text, "  {}", comment(&format!("from {}", journal.file(group.file).display())));
        let _ = writeln!(text, "  - name: {}", scalar(&group.name));
        if group.flush_connections {
            text.push_str("    flush_connections: true\n");
        }
        text.push_str(if group.rules.is_empty() { "    rules: []\n" } else { "    rules:\n" });
        for rule in &group.rules {
            if let Some(description) = &rule.description {
                let _ = writeln!(text, "      {}", comment(description));
            }
            let _ = writeln!(text, "      - {{{}}}", fields(rule));
        }
    }
}

fn fields(rule: &Rule) -> String {
    format!(
        "name: {}, priority: {}, direction: {}, access: {}, protocol: {}, source: {}, source_ports: {}, destination: {}, destination_ports: {}",
        scalar(&rule.name),
        rule.priority,
        rule.direction,
        rule.access,
        rule.protocol,
        endpoints(&rule.source),
        ports(&rule.source_ports),
        endpoints(&rule.destination),
        ports(&rule.destination_ports),
    )
}

fn endpoints(endpoints: &[Endpoint]) -> String {
    list(endpoints.iter().map(|endpoint| match endpoint {
        Endpoint::Any => "*".to_owned(),
        Endpoint::BuiltIn(name) => (*name).to_owned(),
        Endpoint::Tag(name) => name.clone(),
        Endpoint::MemberGroup(name) => format!("asg:{name}"),
        Endpoint::Prefix(prefix) => short(prefix),
    }))
}

/// A single address without its length.
fn short(prefix: &Prefix) -> String {
    if *prefix == Prefix::host(prefix.address()) { prefix.address().to_string() } else { prefix.to_string() }
}

fn ports(ranges: &[PortRange]) -> String {
    list(ranges)
}

/// `load_balancers`.
pub(super) fn balancers(text: &mut String, balancers: &[Balancer], journal: &Journal) {
    if !balancers.is_empty() {
        text.push_str("\nload_balancers:\n");
    }
    for balancer in balancers {
        let _ = writeln!(text, "  {}", comment(&format!("from {}", journal.file(balancer.file).display())));
        let _ = writeln!(text, "  - name: {}", scalar(&balancer.name));
        let frontend = |(name, address): &(String, std::net::IpAddr)| {
            format!("name: {}, address: {}", scalar(name), scalar(&address.to_string()))
        };
        section(text, "frontends", balancer.frontends.iter().map(frontend));
        pools(text, &balancer.pools);
        section(
            text,
            "probes",
            balancer.probes.iter().map(|probe| {
                let path =
                    probe.path.as_ref().map(|path| format!(", path: {}", quoted(path))).unwrap_or_default();
                format!(
                    "name: {}, protocol: {}, port: {}{path}, interval: {}s, threshold: {}",
                    scalar(&probe.name),
                    probe.protocol,
                    probe.port,
                    probe.interval_s,
                    probe.threshold
                )
            }),
        );
        section(
            text,
            "rules",
            balancer.rules.iter().map(|rule| {
                let probe = rule
                    .probe
                    .as_ref()
                    .map(|probe| format!(", probe: {}", scalar(probe)))
                    .unwrap_or_default();
                let pool = format!("pool: {}", scalar(&rule.pool));
                format!("{}{probe}, distribution: {}", listener(&rule.listener, &pool), rule.distribution)
            }),
        );
        section(
            text,
            "inbound_nat",
            balancer
                .inbound_nat
                .iter()
                .map(|nat| listener(&nat.listener, &format!("backend: {}", scalar(&nat.backend)))),
        );
        section(
            text,
            "outbound",
            balancer.outbound.iter().map(|rule| {
                format!(
                    "name: {}, frontends: {}, pool: {}, protocol: {}, ports_per_backend: {}, {}",
                    scalar(&rule.flow.name),
                    list(&rule.frontends),
                    scalar(&rule.pool),
                    rule.flow.protocol,
                    rule.ports_per_backend,
                    times(&rule.flow)
                )
            }),
        );
    }
}

/// A list of mappings, one a line; nothing for an empty one.
fn section(text: &mut String, key: &str, lines: impl Iterator<Item = String>) {
    for (index, line) in lines.enumerate() {
        if index == 0 {
            let _ = writeln!(text, "    {key}:");
        }
        let _ = writeln!(text, "      - {{{line}}}");
    }
}

fn pools(text: &mut String, pools: &[Pool]) {
    if !pools.is_empty() {
        text.push_str("    pools:\n");
    }
    for pool in pools {
        let _ = writeln!(text, "      - name: {}", scalar(&pool.name));
        let _ = writeln!(text, "        drain_period: {}s", pool.drain_period_s);
        if pool.up_when_down {
            text.push_str("        no_healthy_backends: up\n");
        }
        text.push_str(if pool.backends.is_empty() {
            "        backends: []\n"
        } else {
            "        backends:\n"
        });
        for backend in &pool.backends {
            let state = match backend.admin_state {
                AdminState::None => String::new(),
                state => format!(", admin_state: {state}"),
            };
            let address = scalar(&backend.address.to_string());
            let _ =
                writeln!(text, "          - {{name: {}, address: {address}{state}}}", scalar(&backend.name));
        }
    }
}

/// The keys of a rule; `target` is where it sends to.
fn listener(listener: &Listener, target: &str) -> String {
    let Listener { flow, frontend, port, backend_port, floating_ip } = listener;
    let (name, frontend) = (scalar(&flow.name), scalar(frontend));
    let ports =
        if flow.protocol == BalancingProtocol::All { String::new() } else { format!(", port: {port}") };
    let backend_ports = if flow.protocol == BalancingProtocol::All {
        String::new()
    } else {
        format!(", backend_port: {backend_port}")
    };
    format!(
        "name: {name}, frontend: {frontend}, protocol: {}{ports}, {target}{backend_ports}, {}, floating_ip: {floating_ip}",
        flow.protocol,
        times(flow)
    )
}

fn times(flow: &Flow) -> String {
    format!("idle_timeout: {}m, tcp_reset: {}", flow.idle_timeout_min, flow.tcp_reset)
}

/// `routes`.
pub(super) fn routes(text: &mut String, routes: &[Route]) {
    if !routes.is_empty() {
        text.push_str("\nroutes:\n");
    }
    for route in routes {
        let (to, via) = (scalar(&route.to.to_string()), scalar(&route.via.to_string()));
        let name = if route.name.is_empty() { String::new() } else { format!("  {}", comment(&route.name)) };
        let _ = writeln!(text, "  - {{to: {to}, via: {via}}}{name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_yaml_would_misread_are_quoted() {
        assert_eq!(scalar("web-nsg"), "web-nsg");
        assert_eq!(scalar("10.0.0.0/8"), "10.0.0.0/8");
        assert_eq!(scalar("fd00::/8"), "\"fd00::/8\"");
        assert_eq!(scalar("*"), "\"*\"");
        assert_eq!(scalar("null"), "\"null\"");
        assert_eq!(scalar("a\"\n"), "\"a\\\"\\U0000000a\"");
        assert_eq!(scalar(""), "\"\"");
    }

    #[test]
    fn comments_stay_on_their_line() {
        assert_eq!(comment("a\nrules: []\r\u{2028}b"), "# a rules: [] b");
        assert_eq!(comment(&"x".repeat(500)).chars().count(), 2 + COMMENT_MAX + 1);
    }
    #[test]
    fn a_line_is_found_by_the_names_around_it() {
        let text = "version: 1\n\nsecurity_groups:\n  # from a.json\n  - name: g\n    rules:\n      # note\n      - {name: one, priority: 100}\n      \
                    - {name: two, priority: 100}\n\nload_balancers:\n  - name: lb\n    pools:\n      - name: web\n        backends:\n          \
                    - {name: b, address: \"fd00::5\"}\n    rules:\n      - {name: r, frontend: f}\n";
        let lines: Vec<&str> = text.lines().collect();
        let found =
            |line: &str| path_at(&lines, lines.iter().position(|one| one.contains(line)).expect(line));
        assert_eq!(found("two"), "security_groups.g.rules.two");
        assert_eq!(found("name: b,"), "load_balancers.lb.pools.web.backends.b");
        assert_eq!(found("name: r,"), "load_balancers.lb.rules.r");
        assert_eq!(found("name: g"), "security_groups.g");
        assert_eq!(path_at(&["  - {address: \"fd00::5\", security_group: g}"], 0), "fd00::5");
        assert_eq!(path_at(&[], 7), "");
    }
}
