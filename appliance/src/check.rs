//! `nva check`: reads and validates, and says what there is. It touches no device and needs no privilege.

use crate::cli::CheckArgs;
use crate::files::{self, Depth};
use crate::output::{Align, Failure, Style, Table, conclude, print, print_json};
use crate::unbuilt::{Purpose, locate, unbuilt};
use nva_config::{Config, GroupIndex, Problem, SecurityGroup};
use nva_dataplane::names::Names;
use nva_dataplane::policy::{Cause, HiddenRule, Policy, hidden_rules};
use serde::Serialize;
use std::fmt::Write;
use std::process::ExitCode;

/// Runs the command.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    conclude(try_check(args))
}

fn try_check(args: &CheckArgs) -> Result<(), Failure> {
    let depth = if args.skip_files { Depth::Alone } else { Depth::WithFiles };
    let config = match files::load(&args.config.files, depth) {
        Ok(config) => config,
        Err(problems) => {
            if args.json {
                let problems = problems.iter().map(Note::from).collect();
                print_json(&Refused { ok: false, problems })?;
            }
            return Err(Failure::configuration(&problems));
        }
    };
    let too_large = oversized(&config, &Policy::build(&config, &mut Names::default()).bytes());
    if !too_large.is_empty() {
        if args.json {
            let problems = too_large.iter().map(Note::from).collect();
            print_json(&Refused { ok: false, problems })?;
        }
        return Err(Failure::configuration(&too_large));
    }
    let summary = Summary::of(&config);
    if args.json { print_json(&summary) } else { print(&summary.text(Style::stdout())) }
}

/// The groups whose rules take more memory, compiled, than `dataplane.policy_memory` allows; `bytes` has what each takes.
pub(crate) fn oversized(config: &Config, bytes: &[usize]) -> Vec<Problem> {
    let limit_mib = config.dataplane.policy_memory_mib;
    let too_large = |(place, (group, bytes)): (usize, (&SecurityGroup, &usize))| {
        let taken_mib = bytes.div_ceil(1 << 20);
        let message = format!(
            "the rules of security group {} take {taken_mib}M of memory, compiled, and dataplane.policy_memory allows {limit_mib}M; \
             allow more, or give it fewer rules, prefixes or ports",
            group.name
        );
        let location = locate(config, &format!("security_groups[{place}]"));
        (taken_mib > limit_mib as usize).then_some(Problem { location, message })
    };
    config.security_groups.iter().zip(bytes).enumerate().filter_map(too_large).collect()
}

/// What `--json` shows of a bad configuration.
#[derive(Serialize)]
struct Refused {
    ok: bool,
    problems: Vec<Note>,
}

/// What there is in a good configuration.
#[derive(Serialize)]
struct Summary {
    ok: bool,
    name: String,
    ports: Vec<PortLine>,
    routes: usize,
    static_neighbors: usize,
    subnets: usize,
    interfaces: usize,
    service_tags: usize,
    security_groups: Vec<GroupLine>,
    load_balancers: Vec<BalancerLine>,
    tunnels: Vec<TunnelLine>,
    /// Legal, but hardly meant.
    warnings: Vec<Note>,
    /// What the configuration asks for and this version does not do: each would stop `nva run`.
    not_built: Vec<Note>,
}

#[derive(Serialize)]
struct PortLine {
    name: String,
    driver: &'static str,
    device: String,
    mtu: u16,
    trust: &'static str,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct GroupLine {
    name: String,
    rules: usize,
    subnets: usize,
    interfaces: usize,
}

#[derive(Serialize)]
struct BalancerLine {
    name: String,
    frontends: usize,
    rules: usize,
    inbound_nat: usize,
    outbound: usize,
    pools: usize,
    backends: usize,
}

/// A tunnel of a gateway.
#[derive(Serialize)]
struct TunnelLine {
    name: String,
    trust: &'static str,
    encapsulation: &'static str,
    vni: u32,
    udp_port: u16,
    address: String,
    peers: Vec<String>,
}

/// A sentence with its place.
#[derive(Serialize)]
struct Note {
    file: String,
    line: usize,
    column: usize,
    message: String,
}

impl From<&Problem> for Note {
    fn from(problem: &Problem) -> Self {
        let place = &problem.location;
        Self {
            file: place.file.display().to_string(),
            line: place.line,
            column: place.column,
            message: problem.message.clone(),
        }
    }
}

/// What is legal and hardly meant: what reading the configuration noticed, and rules that never decide.
fn warnings(config: &Config) -> Vec<Problem> {
    let mut warnings = config.warnings.clone();
    for hidden in hidden_rules(config) {
        let HiddenRule { group: GroupIndex(group), rule, why } = hidden;
        let path = format!("security_groups[{group}].rules[{rule}]");
        let remove = "remove it, or give it a lower priority number";
        let why = match why {
            Cause::Rule(by) => format!("the rule {by} before it matches all that it matches; {remove}"),
            Cause::Several => {
                format!("rules before it match all that it matches, or no packet can match it; {remove}")
            }
            Cause::Families => {
                "all its sources are of one IP version and all its destinations of the other; \
                                give it both ends of one version"
                    .into()
            }
            Cause::Platform => "what goes to the platform's own services is denied by their tags alone; \
                                write AzurePlatformDNS or AzurePlatformIMDS as its destination"
                .into(),
        };
        let name = config.security_groups.get(group).and_then(|group| group.rules.get(rule));
        let name = name.map_or("", |rule| &rule.name);
        let message = format!("the rule {name} never decides: {why}");
        warnings.push(Problem { location: locate(config, &path), message });
    }
    warnings.sort();
    warnings
}

impl Summary {
    fn of(config: &Config) -> Self {
        Self {
            ok: true,
            name: config.name.clone(),
            ports: config.ports.iter().map(PortLine::of).collect(),
            routes: config.routes.len(),
            static_neighbors: config.neighbors.len(),
            subnets: config.virtual_network.subnets.len(),
            interfaces: config.virtual_network.interfaces.len(),
            service_tags: config.service_tags.len(),
            security_groups: (0..config.security_groups.len())
                .map(|group| GroupLine::of(config, group))
                .collect(),
            load_balancers: config.load_balancers.iter().map(BalancerLine::of).collect(),
            tunnels: config.gateways.iter().flat_map(TunnelLine::all_of).collect(),
            warnings: warnings(config).iter().map(Note::from).collect(),
            not_built: unbuilt(config, Purpose::Run).iter().map(Note::from).collect(),
        }
    }

    fn text(&self, style: Style) -> String {
        let mut text = format!("{}  {}\n", style.good("ok"), self.name);
        if self.ports.is_empty() {
            text.push_str("\nno ports: forwards nothing\n");
        }
        section(&mut text, style, "ports", &self.port_table());
        let counts = [
            (self.routes, "route", "routes"),
            (self.static_neighbors, "static neighbor", "static neighbors"),
            (self.subnets, "subnet", "subnets"),
            (self.interfaces, "interface", "interfaces"),
            (self.service_tags, "service tag", "service tags"),
        ];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }))
            .collect();
        if !counts.is_empty() {
            let _ = writeln!(text, "\n{}", counts.join(", "));
        }
        section(&mut text, style, "security groups", &self.group_table());
        section(&mut text, style, "load balancers", &self.balancer_table());
        section(&mut text, style, "tunnels", &self.tunnel_table());
        notes(&mut text, style, "legal, but is it meant?", &self.warnings);
        notes(&mut text, style, "not built in this version; `nva run` refuses it", &self.not_built);
        text
    }

    fn port_table(&self) -> Table {
        let mut table = Table::new(&[
            ("name", Align::Left),
            ("driver", Align::Left),
            ("device", Align::Left),
            ("mtu", Align::Right),
            ("trust", Align::Left),
            ("addresses", Align::Left),
        ]);
        for port in &self.ports {
            let (mtu, addresses) = (port.mtu.to_string(), port.addresses.join(" "));
            table.row([&port.name, port.driver, &port.device, &mtu, port.trust, &addresses]);
        }
        table
    }

    fn group_table(&self) -> Table {
        let mut table = Table::new(&[
            ("name", Align::Left),
            ("rules", Align::Right),
            ("subnets", Align::Right),
            ("interfaces", Align::Right),
        ]);
        for group in &self.security_groups {
            let counts = [group.rules, group.subnets, group.interfaces].map(|count| count.to_string());
            table.row(std::iter::once(group.name.clone()).chain(counts));
        }
        table
    }

    fn tunnel_table(&self) -> Table {
        let mut table = Table::new(&[
            ("name", Align::Left),
            ("trust", Align::Left),
            ("encapsulation", Align::Left),
            ("vni", Align::Right),
            ("udp port", Align::Right),
            ("address", Align::Left),
            ("peers", Align::Left),
        ]);
        for tunnel in &self.tunnels {
            let (vni, udp_port) = (tunnel.vni.to_string(), tunnel.udp_port.to_string());
            let (address, peers) = (&tunnel.address, tunnel.peers.join(" "));
            table.row([&tunnel.name, tunnel.trust, tunnel.encapsulation, &vni, &udp_port, address, &peers]);
        }
        table
    }

    fn balancer_table(&self) -> Table {
        let mut table = Table::new(&[
            ("name", Align::Left),
            ("frontends", Align::Right),
            ("rules", Align::Right),
            ("inbound nat", Align::Right),
            ("outbound", Align::Right),
            ("pools", Align::Right),
            ("backends", Align::Right),
        ]);
        for lb in &self.load_balancers {
            let counts = [lb.frontends, lb.rules, lb.inbound_nat, lb.outbound, lb.pools, lb.backends];
            table.row(std::iter::once(lb.name.clone()).chain(counts.map(|count| count.to_string())));
        }
        table
    }
}

impl TunnelLine {
    fn all_of(gateway: &nva_config::Gateway) -> impl Iterator<Item = Self> {
        gateway.tunnels.iter().map(|tunnel| Self {
            name: tunnel.name.clone(),
            trust: tunnel.trust.as_str(),
            encapsulation: gateway.encapsulation.as_str(),
            vni: tunnel.vni,
            udp_port: tunnel.udp_port,
            address: tunnel.address.to_string(),
            peers: gateway.peers.iter().map(ToString::to_string).collect(),
        })
    }
}

impl PortLine {
    fn of(port: &nva_config::Port) -> Self {
        let addresses = port.addresses.iter().map(|own| format!("{}/{}", own.address, own.prefix.len()));
        Self {
            name: port.name.clone(),
            driver: port.driver.as_str(),
            device: port.device.clone(),
            mtu: port.mtu,
            trust: port.trust.as_str(),
            addresses: addresses.collect(),
        }
    }
}

impl GroupLine {
    fn of(config: &Config, index: usize) -> Self {
        let here = Some(GroupIndex(index));
        let network = &config.virtual_network;
        let group = config.security_groups.get(index);
        Self {
            name: group.map(|group| group.name.clone()).unwrap_or_default(),
            rules: group.map_or(0, |group| group.rules.len()),
            subnets: network.subnets.iter().filter(|subnet| subnet.security_group == here).count(),
            interfaces: network
                .interfaces
                .iter()
                .filter(|interface| interface.security_group == here)
                .count(),
        }
    }
}

impl BalancerLine {
    fn of(balancer: &nva_config::LoadBalancer) -> Self {
        Self {
            name: balancer.name.clone(),
            frontends: balancer.frontends.len(),
            rules: balancer.rules.len(),
            inbound_nat: balancer.inbound_nat.len(),
            outbound: balancer.outbound.len(),
            pools: balancer.pools.len(),
            backends: balancer.pools.iter().map(|pool| pool.backends.len()).sum(),
        }
    }
}

fn section(text: &mut String, style: Style, title: &str, table: &Table) {
    if !table.is_empty() {
        let _ = write!(text, "\n{title}\n{}", table.render(style, 2));
    }
}

fn notes(text: &mut String, style: Style, title: &str, notes: &[Note]) {
    if notes.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", style.warn(title));
    for Note { file, line, column, message } in notes {
        let _ = writeln!(text, "  {file}:{line}:{column}: {message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_config::Source;

    fn summary(text: &str) -> Summary {
        let source = Source { path: "test.yaml".into(), text: text.into() };
        Summary::of(&nva_config::load(&[source], None).expect("a good configuration"))
    }

    #[test]
    fn an_empty_configuration_forwards_nothing_and_says_so() {
        let text = summary("version: 1\n").text(Style::PLAIN);
        assert!(text.starts_with("ok  nva-1\n\nno ports: forwards nothing\n"), "{text}");
    }

    #[test]
    fn the_summary_names_what_there_is() {
        let text = summary(
            "version: 1\nname: edge\nports:\n  - {name: a, driver: af_packet, device: eth1, mtu: 1400, \
             addresses: [192.0.2.1/24], trust: untrusted}\nroutes:\n  - {to: 0.0.0.0/0, via: 192.0.2.254}\n",
        )
        .text(Style::PLAIN);
        let wanted = "ok  edge\n\nports\n  name  driver     device   mtu  trust      addresses\n  \
                      a     af_packet  eth1    1400  untrusted  192.0.2.1/24\n\n1 route\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn the_summary_names_the_tunnels() {
        let text = summary(
            "version: 1\nports: [{name: a, device: eth1, addresses: [10.2.0.1/24], trust: trusted}]\ngateway:\n  port: a\n  address: 10.2.0.1\n  \
             peers: [10.2.0.200, 10.2.0.201]\n  tunnels: [{name: in, trust: trusted, vni: 800, udp_port: 10800}, {name: out, trust: untrusted, vni: 801, udp_port: 10801}]\n",
        )
        .text(Style::PLAIN);
        let wanted = "\ntunnels\n  name  trust      encapsulation  vni  udp port  address   peers\n  \
                      in    trusted    vxlan          800     10800  10.2.0.1  10.2.0.200 10.2.0.201\n  \
                      out   untrusted  vxlan          801     10801  10.2.0.1  10.2.0.200 10.2.0.201\n";
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn a_group_that_takes_too_much_memory_is_refused_with_the_figure_and_its_place() {
        let text = "version: 1\ndataplane: {policy_memory: 2M}\nsecurity_groups:\n  - name: small\n    rules: []\n  - name: large\n    rules: []\n";
        let source = Source { path: "test.yaml".into(), text: text.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        assert_eq!(oversized(&config, &[2 << 20, 2 << 20]), []);
        let problems = oversized(&config, &[100, (2 << 20) + 1]);
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "test.yaml:6:5: the rules of security group large take 3M of memory, compiled, and dataplane.policy_memory allows 2M; \
              allow more, or give it fewer rules, prefixes or ports"
            ]
        );
        let built = Policy::build(&config, &mut Names::default()).bytes();
        assert!(built.len() == 2 && built.iter().all(|bytes| (1..1 << 20).contains(bytes)), "{built:?}");
    }

    #[test]
    fn groups_are_counted_where_they_are_attached() {
        let summary = summary(
            "version: 1\nvirtual_network:\n  address_space: [10.0.0.0/8]\n  subnets:\n    \
             - {name: w, prefixes: [10.1.0.0/24], security_group: g}\n    - {name: d, prefixes: [10.2.0.0/24]}\n\
             security_groups:\n  - name: g\n    rules:\n      - {name: r, priority: 100, direction: inbound, \
             access: allow, protocol: tcp, source: [\"*\"], source_ports: [\"*\"], destination: [\"*\"], \
             destination_ports: [80]}\n",
        );
        let group = &summary.security_groups[0];
        assert_eq!((group.name.as_str(), group.rules, group.subnets, group.interfaces), ("g", 1, 1, 0));
    }
}
