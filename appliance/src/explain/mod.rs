//! `nva explain`: one packet through the configuration, step by step, without sending anything; or the rules that guard an address.

mod effective;
mod json;

use crate::cli::{Endpoint, ExplainArgs, PacketArgs, Protocol};
use crate::files::{self, Depth};
use crate::output::{Align, Failure, Style, Table, conclude, print, print_json};
use nva_config::{Access, Config, Port};
use nva_dataplane::addr::{Addr, Mac};
use nva_dataplane::explain::Explanation;
use nva_dataplane::names::Names;
use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};
use nva_dataplane::wire::{FlowKey, protocol};
use std::fmt::Write;
use std::process::ExitCode;

/// Runs the command.
pub(crate) fn explain(args: &ExplainArgs) -> ExitCode {
    conclude(try_explain(args))
}

fn try_explain(args: &ExplainArgs) -> Result<(), Failure> {
    let key = args.packet.as_ref().map(|packet| flow_key(packet.proto, packet.from, packet.to)).transpose();
    let key = key.map_err(Failure::usage)?;
    let config =
        files::load(&args.config.files, Depth::PacketPath).map_err(|all| Failure::configuration(&all))?;
    if let Some(address) = args.effective {
        let rules = effective::Effective::of(&config, address);
        return if args.json { print_json(&rules) } else { print(&rules.text(Style::stdout())) };
    }
    let (Some(packet), Some(key)) = (&args.packet, key) else {
        return Err(Failure::usage("give a packet, or an address with --effective"));
    };
    let snapshot = compile(&config);
    let port = snapshot.port(&packet.port).ok_or_else(|| {
        let message = files::no_such_port_or_tunnel(&config, &packet.port);
        Failure::usage(format!("--port {}: {message}", packet.port))
    })?;
    let explanation = nva_dataplane::explain::explain(&config, &snapshot, port, &key);
    if args.json {
        print_json(&json::Json::from(&explanation))
    } else {
        let way_in = if port.is_tunnel() { "tunnel" } else { "port" };
        print(&text(&explanation, &in_one_line(packet, way_in), Style::stdout()))
    }
}

/// Every backend healthy, every device as its port is configured: the question is about rules.
fn compile(config: &Config) -> Snapshot {
    let link = |port: &Port| Link { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: port.mtu };
    let links: Vec<Link> = config.ports.iter().map(link).collect();
    let options =
        BuildOptions { links: &links, down: &|_, _| false, names: &mut Names::default(), generation: 1 };
    Snapshot::build(config, options)
}

/// The packet that the command line describes.
fn flow_key(proto: Protocol, from: Endpoint, to: Endpoint) -> Result<FlowKey, String> {
    if from.address.is_ipv4() != to.address.is_ipv4() {
        return Err(format!(
            "--from {from} --to {to}: one is IPv4 and the other IPv6; give two of one family"
        ));
    }
    let number = match proto {
        Protocol::Icmp if from.address.is_ipv4() => protocol::ICMP,
        Protocol::Icmp => protocol::ICMPV6,
        Protocol::Number(number) => number,
    };
    let has_ports = matches!(number, protocol::TCP | protocol::UDP);
    for (option, endpoint) in [("--from", from), ("--to", to)] {
        match endpoint.port {
            None if has_ports => {
                return Err(format!(
                    "{option} {endpoint}: tcp and udp need a port; write {}",
                    with_port(endpoint)
                ));
            }
            Some(_) if !has_ports => {
                return Err(format!(
                    "{option} {endpoint}: only tcp and udp have ports; write {}",
                    endpoint.address
                ));
            }
            _ => {}
        }
    }
    Ok(FlowKey {
        src: Addr::from(from.address),
        dst: Addr::from(to.address),
        src_port: from.port.unwrap_or(0),
        dst_port: to.port.unwrap_or(0),
        protocol: number,
    })
}

fn with_port(endpoint: Endpoint) -> String {
    if endpoint.address.is_ipv4() { format!("{endpoint}:PORT") } else { format!("[{endpoint}]:PORT") }
}

/// The packet in one line; `way_in` is what it comes in on.
fn in_one_line(packet: &PacketArgs, way_in: &str) -> String {
    let PacketArgs { port, proto, from, to } = packet;
    format!("{proto} {from} -> {to}, in on {way_in} {port}")
}

/// The answer first, then the way to it.
fn text(explanation: &Explanation, packet: &str, style: Style) -> String {
    let mut text = match explanation.access {
        Access::Allow => style.good(Access::Allow).to_string(),
        Access::Deny => style.bad(Access::Deny).to_string(),
    };
    if let Some(reason) = explanation.reason {
        let _ = write!(text, "  ({reason})");
    }
    if let Some(rule) = &explanation.rule {
        let _ = write!(text, "  by {}", style.bold(rule));
    }
    if let Some(backend) = &explanation.backend {
        let _ = write!(text, "  to backend {}", style.bold(backend));
    }
    let _ = writeln!(text, "\n{}\n", style.dim(packet));
    let mut table = Table::new(&[("stage", Align::Left), ("access", Align::Left), ("detail", Align::Left)]);
    for step in &explanation.steps {
        let mut lines = step.lines.iter().map(String::as_str);
        let access = step.access.map(Access::as_str).unwrap_or_default();
        table.row([step.stage, access, lines.next().unwrap_or_default()]);
        lines.for_each(|line| table.row(["", "", line]));
    }
    text.push_str(&table.render(style, 0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::explain::Step;
    use nva_dataplane::verdict::DropReason;

    fn endpoint(address: &str, port: Option<u16>) -> Endpoint {
        Endpoint { address: address.parse().expect("an address"), port }
    }

    #[test]
    fn a_key_has_the_ports_and_the_protocol_of_its_family() {
        let key =
            flow_key(Protocol::Number(6), endpoint("192.0.2.1", Some(1)), endpoint("10.0.0.1", Some(2)));
        let wanted = FlowKey {
            src: Addr::v4([192, 0, 2, 1]),
            dst: Addr::v4([10, 0, 0, 1]),
            src_port: 1,
            dst_port: 2,
            protocol: 6,
        };
        assert_eq!(key, Ok(wanted));
        let icmp =
            |a, b| flow_key(Protocol::Icmp, endpoint(a, None), endpoint(b, None)).map(|key| key.protocol);
        assert_eq!(icmp("192.0.2.1", "10.0.0.1"), Ok(protocol::ICMP));
        assert_eq!(icmp("2001:db8::1", "fd00::1"), Ok(protocol::ICMPV6));
    }

    #[test]
    fn the_answer_comes_first_and_each_thought_has_its_line() {
        let step = |stage, lines: &[&str], access| {
            let lines = lines.iter().map(ToString::to_string).collect();
            Step { stage, lines, access, ..Step::default() }
        };
        let explanation = Explanation {
            access: Access::Deny,
            reason: Some(DropReason::DeniedByRule),
            rule: Some("g/DenyAllInBound".into()),
            backend: None,
            steps: vec![
                step("route", &["on the link"], None),
                step("subnet_group", &["denies", "a", "b"], Some(Access::Deny)),
            ],
        };
        let wanted = "deny  (denied_by_rule)  by g/DenyAllInBound\npacket\n\nstage         access  detail\n\
                      route                 on the link\nsubnet_group  deny    denies\n                      a\n                      b\n";
        assert_eq!(text(&explanation, "packet", Style::PLAIN), wanted);
    }

    #[test]
    fn packets_that_cannot_be_are_refused() {
        let (v4, v6) = (endpoint("192.0.2.1", Some(1)), endpoint("2001:db8::1", Some(1)));
        let (bare4, bare6) = (endpoint("192.0.2.1", None), endpoint("2001:db8::1", None));
        for (proto, from, to, says) in [
            (Protocol::Number(6), v4, v6, "one family"),
            (Protocol::Number(17), v4, bare4, "192.0.2.1:PORT"),
            (Protocol::Number(6), bare6, v6, "[2001:db8::1]:PORT"),
            (Protocol::Icmp, v4, bare4, "write 192.0.2.1"),
            (Protocol::Number(50), bare4, v4, "only tcp and udp have ports"),
        ] {
            let refused = flow_key(proto, from, to).err().unwrap_or_default();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
