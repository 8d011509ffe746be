//! `load_balancers` as written.

use std::net::IpAddr;
use std::time::Duration;

use super::fields::{List, Opt, fields, placed};
use super::scalar::{address, boolean, count, duration, name, port, text, word};
use crate::model::{
    AdminState, BalancingProtocol, Distribution, NoHealthyBackends, ProbeProtocol, SynProxyMode,
};
use crate::report::{At, Place, Report, quote};
use crate::tree::Node;

/// What an idle timeout is when not given, as in the cloud.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60);
/// The cloud takes up to 120 minutes.
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(120 * 60);
/// SNAT ports of one frontend.
pub(crate) const SNAT_PORTS: u64 = 64_000;

/// One of `load_balancers`.
pub(crate) struct LoadBalancer {
    pub(crate) name: Opt<String>,
    pub(crate) frontends: List<Frontend>,
    pub(crate) pools: List<Pool>,
    pub(crate) probes: List<Probe>,
    pub(crate) rules: List<Rule>,
    pub(crate) inbound_nat: List<Nat>,
    pub(crate) outbound: List<Outbound>,
}

/// One of `frontends`.
pub(crate) struct Frontend {
    pub(crate) name: Opt<String>,
    pub(crate) address: Opt<IpAddr>,
}

/// One of `pools`.
pub(crate) struct Pool {
    pub(crate) name: Opt<String>,
    pub(crate) drain_period: Opt<Duration>,
    pub(crate) no_healthy_backends: Opt<NoHealthyBackends>,
    pub(crate) backends: List<Backend>,
}

/// One of `backends`.
pub(crate) struct Backend {
    pub(crate) name: Opt<String>,
    pub(crate) address: Opt<IpAddr>,
    pub(crate) weight: Opt<u16>,
    pub(crate) admin_state: Opt<AdminState>,
}

/// One of `probes`.
pub(crate) struct Probe {
    pub(crate) name: Opt<String>,
    pub(crate) protocol: Opt<ProbeProtocol>,
    pub(crate) port: Opt<u16>,
    pub(crate) path: Opt<String>,
    pub(crate) interval: Opt<Duration>,
    pub(crate) threshold: Opt<u32>,
}

/// What balancing and NAT rules have in common.
pub(crate) struct Listener {
    pub(crate) at: Place,
    pub(crate) name: Opt<String>,
    pub(crate) frontend: Opt<String>,
    pub(crate) protocol: Opt<BalancingProtocol>,
    /// 0 with `all`.
    pub(crate) port: Opt<u16>,
    /// 0 with `all`.
    pub(crate) backend_port: Opt<u16>,
    pub(crate) idle_timeout: Opt<Duration>,
    pub(crate) tcp_reset: Opt<bool>,
    pub(crate) floating_ip: Opt<bool>,
}

/// One of `rules`.
pub(crate) struct Rule {
    pub(crate) listener: Listener,
    pub(crate) pool: Opt<String>,
    pub(crate) probe: Opt<String>,
    pub(crate) distribution: Opt<Distribution>,
    pub(crate) syn_proxy: Opt<SynProxyMode>,
}

/// One of `inbound_nat`.
pub(crate) struct Nat {
    pub(crate) listener: Listener,
    pub(crate) backend: Opt<String>,
    pub(crate) syn_proxy: Opt<SynProxyMode>,
}

/// One of `outbound`.
pub(crate) struct Outbound {
    pub(crate) name: Opt<String>,
    pub(crate) frontends: List<At<String>>,
    pub(crate) pool: Opt<String>,
    pub(crate) protocol: Opt<BalancingProtocol>,
    pub(crate) ports_per_backend: Opt<u16>,
    pub(crate) idle_timeout: Opt<Duration>,
    pub(crate) tcp_reset: Opt<bool>,
}

pub(super) fn load_balancer(node: &Node, report: &mut Report<'_>) -> Option<LoadBalancer> {
    let mut fields = fields(node, report)?;
    let balancer = LoadBalancer {
        name: fields.required("name", report, name),
        frontends: fields.list("frontends", report, frontend),
        pools: fields.list("pools", report, pool),
        probes: fields.list("probes", report, probe),
        rules: fields.list("rules", report, rule),
        inbound_nat: fields.list("inbound_nat", report, nat),
        outbound: fields.list("outbound", report, outbound),
    };
    fields.finish(report);
    Some(balancer)
}

fn frontend(node: &Node, report: &mut Report<'_>) -> Option<Frontend> {
    let mut fields = fields(node, report)?;
    let frontend = Frontend {
        name: fields.required("name", report, name),
        address: fields.required("address", report, address),
    };
    fields.finish(report);
    Some(frontend)
}

fn pool(node: &Node, report: &mut Report<'_>) -> Option<Pool> {
    let mut fields = fields(node, report)?;
    let drain = Duration::ZERO..=Duration::from_secs(24 * 3600);
    let pool = Pool {
        name: fields.required("name", report, name),
        drain_period: fields.or("drain_period", Duration::from_secs(30), report, duration(drain)),
        no_healthy_backends: fields.or("no_healthy_backends", NoHealthyBackends::Down, report, word),
        backends: fields.list("backends", report, backend),
    };
    fields.finish(report);
    Some(pool)
}

fn backend(node: &Node, report: &mut Report<'_>) -> Option<Backend> {
    let mut fields = fields(node, report)?;
    let backend = Backend {
        name: fields.required("name", report, name),
        address: fields.required("address", report, address),
        weight: fields.or("weight", 1, report, count(1..=1000)),
        admin_state: fields.or("admin_state", AdminState::None, report, word),
    };
    fields.finish(report);
    Some(backend)
}

fn probe(node: &Node, report: &mut Report<'_>) -> Option<Probe> {
    let mut fields = fields(node, report)?;
    let interval = Duration::from_millis(100)..=Duration::from_secs(3600);
    let probe = Probe {
        name: fields.required("name", report, name),
        protocol: fields.required("protocol", report, word),
        port: fields.required("port", report, port),
        path: fields.or("path", "/".to_owned(), report, probe_path),
        interval: fields.or("interval", Duration::from_secs(5), report, duration(interval)),
        threshold: fields.or("threshold", 2, report, count(1..=1000)),
    };
    if let (Some(protocol), Some(path), true) = (&probe.protocol, &probe.path, fields.has("path"))
        && protocol.value == ProbeProtocol::Tcp
    {
        report.problem(path.at, "a tcp probe asks for no path; remove it, or write `protocol: http`");
    }
    fields.finish(report);
    Some(probe)
}

/// The path of a request line: from `/` on, visible ASCII.
fn probe_path(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let path = text(node, report)?;
    if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) {
        return Some(path);
    }
    report.problem(node.at, format!("{} is no path; it starts with `/` and has no space", quote(&path)));
    None
}

/// The keys that `rules` and `inbound_nat` share.
fn listener(node: &Node, fields: &mut super::fields::Fields<'_>, report: &mut Report<'_>) -> Listener {
    let label = fields.required("name", report, name);
    let frontend = fields.required("frontend", report, name);
    let protocol: Opt<BalancingProtocol> = fields.required("protocol", report, word);
    let all = protocol.is_some_and(|p| p.value == BalancingProtocol::All);
    let port =
        if all { fields.or("port", 0, report, no_port) } else { fields.required("port", report, port) };
    let backend_port = match (all, fields.has("backend_port")) {
        (true, _) => fields.or("backend_port", 0, report, no_port),
        (false, true) => fields.optional("backend_port", report, super::scalar::port),
        (false, false) => {
            fields.optional("backend_port", report, super::scalar::port);
            port
        }
    };
    let idle = Duration::from_secs(1)..=IDLE_TIMEOUT_MAX;
    Listener {
        at: node.at,
        name: label,
        frontend,
        protocol,
        port,
        backend_port,
        idle_timeout: fields.or("idle_timeout", IDLE_TIMEOUT, report, duration(idle)),
        tcp_reset: fields.or("tcp_reset", false, report, boolean),
        floating_ip: fields.or("floating_ip", false, report, boolean),
    }
}

/// The port of a rule for every port.
fn no_port(node: &Node, report: &mut Report<'_>) -> Option<u16> {
    let port: u16 = count(0..=65535)(node, report)?;
    if port != 0 {
        let message = format!(
            "`protocol: all` is for every port, not for {port}; remove the port, or write tcp or udp"
        );
        report.problem(node.at, message);
        return None;
    }
    Some(port)
}

fn rule(node: &Node, report: &mut Report<'_>) -> Option<Rule> {
    let mut fields = fields(node, report)?;
    let rule = Rule {
        listener: listener(node, &mut fields, report),
        pool: fields.required("pool", report, name),
        probe: fields.optional("probe", report, name),
        distribution: fields.or("distribution", Distribution::FiveTuple, report, word),
        syn_proxy: fields.or("syn_proxy", SynProxyMode::Auto, report, word),
    };
    fields.finish(report);
    Some(rule)
}

fn nat(node: &Node, report: &mut Report<'_>) -> Option<Nat> {
    let mut fields = fields(node, report)?;
    let nat = Nat {
        listener: listener(node, &mut fields, report),
        backend: fields.required("backend", report, name),
        syn_proxy: fields.or("syn_proxy", SynProxyMode::Off, report, word),
    };
    fields.finish(report);
    Some(nat)
}

fn outbound(node: &Node, report: &mut Report<'_>) -> Option<Outbound> {
    let mut fields = fields(node, report)?;
    let idle = Duration::from_secs(1)..=IDLE_TIMEOUT_MAX;
    let rule = Outbound {
        name: fields.required("name", report, name),
        frontends: fields.filled_list("frontends", report, placed(name)),
        pool: fields.required("pool", report, name),
        protocol: fields.or("protocol", BalancingProtocol::All, report, word),
        ports_per_backend: fields.or("ports_per_backend", 0, report, count(0..=SNAT_PORTS)),
        idle_timeout: fields.or("idle_timeout", IDLE_TIMEOUT, report, duration(idle)),
        tcp_reset: fields.or("tcp_reset", false, report, boolean),
    };
    if let Some(ports) = rule.ports_per_backend
        && !ports.value.is_multiple_of(8)
    {
        let (below, above) = (ports.value / 8 * 8, ports.value / 8 * 8 + 8);
        report.problem(ports.at, format!("{} is no multiple of 8; write {below} or {above}", ports.value));
    }
    fields.finish(report);
    Some(rule)
}
