//! The reports behind the control socket, made from what the workers show.

use super::control::{Control, Moment};
use super::mailbox::{FlowPage, FlowQuestion, Mailbox};
use super::protocol::{
    Amount, Asking, Backend, Backends, End, FLOWS_MAX, Flow, Flows, HostTraffic, Port, Protection, Response,
    Rule, Rules, Stats, SynProxy, TcpOptions, Traffic, Tunnel, Worker,
};
use crossbeam::channel::bounded;
use nva_config::{AdminState, Config, Direction, SynProxyMode, Trust};
use nva_dataplane::addr::Addr;
use nva_dataplane::counters::{Counters, RuleHits, TunnelCounters};
use nva_dataplane::flow::{Class, Tally};
use nva_dataplane::names::{Names, TunnelName};
use nva_dataplane::pipeline::FlowSummary;
use nva_dataplane::policy::rules_in_order;
use nva_dataplane::synproxy::{Profile, Scale, Watched};
use nva_dataplane::time::Time;
use nva_dataplane::tunnel::configured;
use nva_dataplane::verdict::PortId;
use nva_dataplane::wire::protocol;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many flow records a worker looks at between two bursts: some tens of microseconds.
const PAGE: usize = 2048;
/// The cloud's own rules begin here.
const DEFAULT_PRIORITY_MIN: u16 = 65_000;
/// How long a worker may take to do so.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counters of ports and workers.
pub(super) fn stats(moment: &mut Moment<'_>) -> Stats {
    let tunnels = tunnels(&moment.config, Arc::make_mut(&mut moment.names), &moment.sum.tunnels);
    let Moment { machine, config, sum, .. } = &*moment;
    let ports: Vec<Port> = config
        .ports
        .iter()
        .enumerate()
        .map(|(index, port)| {
            let counters = sum.counters.ports.get(index).cloned().unwrap_or_default();
            let rx = sum.rx.get(index).copied().unwrap_or_default();
            let tx = sum.tx.get(index).copied().unwrap_or_default();
            let traffic = Traffic::new(&counters, &rx, &tx);
            Port {
                port: port.name.clone(),
                device: port.device.clone(),
                driver: machine.drivers.get(index).cloned().unwrap_or_default(),
                link_up: moment.links_up.get(index).copied().flatten(),
                traffic,
                host: super::host::name_of(port).map(|interface| HostTraffic::new(interface, &counters.host)),
            }
        })
        .collect();
    let mut total = Traffic::default();
    ports.iter().for_each(|port| total.add(&port.traffic));
    let worker = |(worker, core): (usize, &usize)| Worker {
        worker,
        core: *core,
        flows: moment.readings.get(worker).and_then(Option::as_ref).map_or(0, |reading| reading.flows),
        stalled_seconds: moment.stalled.get(worker).copied().flatten().map(|time| time.as_secs_f64()),
    };
    Stats {
        name: config.name.clone(),
        pid: std::process::id(),
        generation: moment.generation,
        uptime_seconds: moment.uptime.as_secs_f64(),
        flows: sum.flows,
        flow_capacity: u64::try_from(config.dataplane.flow_capacity).unwrap_or(u64::MAX),
        flows_created: sum.counters.flows_created,
        flows_expired: sum.counters.flows_expired,
        originated: sum.counters.originated,
        tunnels,
        total,
        workers: machine.cores.iter().enumerate().map(worker).collect(),
        ports,
    }
}

/// The configuration's tunnels, with what was counted for each.
fn tunnels(config: &Config, names: &mut Names, counted: &[TunnelCounters]) -> Vec<Tunnel> {
    let of = |(id, name): (PortId, TunnelName)| {
        let counters = counted.get(id.tunnel_index()).copied().unwrap_or_default();
        Tunnel {
            trust: name.trust().as_str().into(),
            tunnel: name.name,
            vni: name.vni,
            udp_port: name.udp_port,
            address: name.address.into(),
            peer: name.peer.into(),
            received: counters.received,
            dropped: counters.dropped,
            transmitted: counters.transmitted,
        }
    };
    configured(config, names).into_iter().map(of).collect()
}

/// Security rules with their hits, in the order in which they are tried.
pub(super) fn rules(moment: &mut Moment<'_>) -> Rules {
    let hits = &moment.sum.counters.rule_hits;
    Rules { rules: list_rules(&moment.config, Arc::make_mut(&mut moment.names), hits, moment.now) }
}

fn list_rules(config: &Config, names: &mut Names, hits: &[RuleHits], now: Time) -> Vec<Rule> {
    let mut list = Vec::new();
    for group in &config.security_groups {
        for direction in [Direction::Inbound, Direction::Outbound] {
            list.extend(rules_in_order(group, direction).into_iter().map(|rule| {
                let id = names.rule(&group.name, &rule.name);
                let RuleHits { count, last } = hits.get(id.0 as usize).copied().unwrap_or_default();
                Rule {
                    group: group.name.clone(),
                    direction: direction.as_str().into(),
                    priority: rule.priority.into(),
                    access: rule.access.as_str().into(),
                    default: rule.priority >= DEFAULT_PRIORITY_MIN,
                    hits: count,
                    last_hit_seconds: (count > 0).then(|| now.since(last).as_secs_f64()),
                    rule: rule.name,
                }
            }));
        }
    }
    list
}

/// Backends, in the order of the configuration.
pub(super) fn backends(moment: &mut Moment<'_>) -> Backends {
    Backends {
        backends: list_backends(&moment.config, Arc::make_mut(&mut moment.names), &moment.sum.counters),
    }
}

/// What protects.
pub(super) fn protection(moment: &Moment<'_>) -> Protection {
    let Moment { config, names, sum, .. } = moment;
    Protection {
        syn_proxy: SynProxy::new(&sum.counters.syn),
        asking: asking(config, Names::clone(names), &sum.flooded),
    }
}

/// Everything whose clients prove themselves, or do while it is flooded, in the order of the configuration.
fn asking(config: &Config, mut names: Names, flooded: &[Watched]) -> Vec<Asking> {
    let subnets = config.virtual_network.subnets.iter().map(|subnet| {
        (format!("subnet {}", subnet.name), subnet.syn_proxy, Some(Watched::of_subnet(subnet)))
    });
    let services = config.load_balancers.iter().flat_map(|balancer| {
        let rules = balancer.rules.iter().map(|rule| ("rule", &rule.name, rule.syn_proxy, rule.frontend));
        let entries = balancer.inbound_nat.iter();
        let entries = entries.map(|nat| ("inbound NAT", &nat.name, nat.syn_proxy, nat.frontend));
        rules.chain(entries).map(|(kind, name, mode, frontend)| {
            let frontend = balancer.frontends.get(frontend.0);
            let watched = frontend.map(|frontend| Watched::Frontend(frontend.address.into()));
            (format!("{kind} {}/{name}", balancer.name), mode, watched)
        })
    });
    let tunnels = configured(config, &mut names);
    let gateways = config.gateways.iter().filter_map(|gateway| {
        let outer = gateway.tunnels.iter().find(|tunnel| tunnel.trust == Trust::Untrusted)?;
        let first = tunnels.iter().find(|(_, name)| name.name == outer.name);
        let watched = first.map(|(number, _)| Watched::Gateway(*number));
        Some((format!("tunnel {}", outer.name), gateway.syn_proxy, watched))
    });
    let all = subnets.chain(services).chain(gateways);
    let threshold = config.protection.syn_flood.map_or(0, |limits| limits.proxy_threshold);
    let may_ask = |mode| mode == SynProxyMode::Always || mode == SynProxyMode::Auto && threshold != 0;
    let asks_now = |mode, watched: Option<Watched>| {
        mode == SynProxyMode::Always || watched.is_some_and(|watched| flooded.contains(&watched))
    };
    all.filter(|(_, mode, _)| may_ask(*mode))
        .map(|(of, mode, watched)| Asking {
            of,
            mode: mode.as_str().to_owned(),
            now: asks_now(mode, watched),
        })
        .collect()
}

fn tcp_options(bits: u64) -> Option<TcpOptions> {
    let Profile { mss, window_scale, sack, timestamps, ecn } = Profile::from_bits(bits);
    let window_scale = window_scale.map(|scale| match scale {
        Scale::None => -1,
        Scale::Of(shift) => i8::try_from(shift).unwrap_or(i8::MAX),
    });
    (bits != 0).then_some(TcpOptions { mss, window_scale, sack, timestamps, ecn })
}

fn list_backends(config: &Config, names: &mut Names, counters: &Counters) -> Vec<Backend> {
    let mut list = Vec::new();
    for balancer in &config.load_balancers {
        for pool in &balancer.pools {
            list.extend(pool.backends.iter().map(|backend| {
                let number = names.backend(&balancer.name, &pool.name, &backend.name).0 as usize;
                let of_it = |list: &[u64]| list.get(number).copied().unwrap_or(0);
                Backend {
                    load_balancer: balancer.name.clone(),
                    pool: pool.name.clone(),
                    backend: backend.name.clone(),
                    address: backend.address,
                    weight: backend.weight,
                    admin_state: backend.admin_state.as_str().into(),
                    eligible: backend.admin_state != AdminState::Down,
                    flows_created: of_it(&counters.backend_flows),
                    tcp_options: tcp_options(of_it(&counters.backend_profiles)),
                }
            }));
        }
    }
    list
}

/// Open flows, worker by worker, until `limit` are found.
pub(super) fn flows(control: &Control, limit: usize, address: Option<IpAddr>) -> Response<Flows> {
    let limit = limit.min(FLOWS_MAX);
    let Moment { config, names, now, sum, .. } = control.moment();
    let mut report = Flows { open: sum.flows, more: false, flows: Vec::new() };
    for (worker, mailbox) in control.mailboxes.iter().enumerate() {
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let Some(page) = ask(mailbox, from) else {
                return Response::Error(format!(
                    "worker {worker} does not answer; `nva show stats` says whether it stands still"
                ));
            };
            for summary in page.flows {
                let flow = flow(&summary, &config, &names, now);
                if address.is_some_and(|wanted| !flow.has(wanted)) {
                    continue;
                }
                if report.flows.len() >= limit {
                    report.more = true;
                    return Response::Ok(report);
                }
                report.flows.push(flow);
            }
            cursor = page.next;
        }
    }
    Response::Ok(report)
}

fn flow(summary: &FlowSummary, config: &Config, names: &Names, now: Time) -> Flow {
    let end = |(address, port): (Addr, u16)| End { address: address.into(), port };
    let amount = |tally: Tally| Amount { packets: tally.packets, bytes: tally.bytes };
    let port = |id: PortId| match id.is_tunnel() {
        true => names.tunnels().get(id.tunnel_index()).map(|tunnel| tunnel.name.clone()),
        false => config.ports.get(id.index()).map(|port| port.name.clone()),
    };
    let state = match summary.class {
        Class::TcpHalfOpen => "half_open",
        Class::TcpEstablished => "established",
        Class::TcpClosing => "closing",
        Class::Udp | Class::Icmp | Class::Other => "open",
    };
    let protocol = match summary.protocol {
        protocol::TCP => "tcp".into(),
        protocol::UDP => "udp".into(),
        protocol::ICMP | protocol::ICMPV6 => "icmp".into(),
        number => number.to_string(),
    };
    Flow {
        protocol,
        from: end(summary.initiator),
        to: end(summary.target),
        translated: end(summary.translated),
        state: state.into(),
        from_port: summary.initiator_port.and_then(port),
        to_port: summary.target_port.and_then(port),
        backend: summary.backend.map(|id| names.backend_name(id).to_owned()),
        rule: summary.rule.map(|id| names.rule_name(id).to_owned()),
        sent: amount(summary.sent),
        answered: amount(summary.answered),
        age_seconds: now.since(summary.created).as_secs_f64(),
        expires_seconds: summary.expires.since(now).as_secs_f64(),
    }
}

/// A slice of a worker's flow table; `None` when it does not answer.
fn ask(mailbox: &Mailbox, cursor: usize) -> Option<FlowPage> {
    let (send, receive) = bounded(1);
    let deadline = Instant::now() + PATIENCE;
    let mut question = FlowQuestion { cursor, page: Vec::with_capacity(PAGE), answer: send };
    while let Err(refused) = mailbox.ask(question) {
        if Instant::now() >= deadline {
            return None;
        }
        question = refused;
        std::thread::sleep(Duration::from_millis(1));
    }
    receive.recv_deadline(deadline).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_config::Source;
    use nva_dataplane::addr::Mac;
    use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};

    const CONFIG: &str = "version: 1\n\
        ports: [{name: p, device: e0, trust: trusted, addresses: [10.2.0.1/24]}]\n\
        virtual_network: {address_space: [10.0.0.0/8], subnets: [{name: web, prefixes: [10.2.0.0/24], syn_proxy: auto}]}\n\
        load_balancers:\n- name: lb\n  frontends: [{name: a, address: 203.0.113.10}, {name: b, address: 203.0.113.11}]\n  \
        pools: [{name: pool, backends: [{name: one, address: 10.2.0.4}]}]\n  rules:\n  \
        - {name: ra, frontend: a, protocol: tcp, port: 80, pool: pool, backend_port: 80}\n  \
        - {name: rb, frontend: b, protocol: tcp, port: 80, pool: pool, backend_port: 80}\n  \
        - {name: rc, frontend: b, protocol: tcp, port: 81, pool: pool, backend_port: 81, syn_proxy: always}\n\
        gateway: {port: p, address: 10.2.0.1, peers: [10.2.0.200, 10.2.0.201], syn_proxy: auto, \
        tunnels: [{name: in, trust: trusted, vni: 800, udp_port: 10800}, {name: out, trust: untrusted, vni: 801, udp_port: 10801}]}\n\
        protection: {syn_flood: {proxy_threshold: 100}}\n";

    #[test]
    fn what_is_flooded_asks_now_and_what_always_asks() {
        let source = Source { path: "test.yaml".into(), text: CONFIG.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        let mut names = Names::default();
        let links = [Link { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500 }];
        let options = BuildOptions { links: &links, down: &|_, _| false, names: &mut names, generation: 1 };
        let snapshot = Snapshot::build(&config, options);
        let now = |flooded: &[Watched]| -> Vec<String> {
            let all = asking(&config, names.clone(), flooded).into_iter();
            all.filter(|asking| asking.now).map(|asking| asking.of).collect()
        };
        assert_eq!(asking(&config, names.clone(), &[]).len(), 5);
        assert_eq!(now(&[]), ["rule lb/rc"]);
        let all: Vec<Watched> = snapshot.watched().collect();
        assert_eq!(now(&all), ["subnet web", "rule lb/ra", "rule lb/rb", "rule lb/rc", "tunnel out"]);
        // Each is named for what is watched in its place, and for nothing else.
        let named: Vec<Vec<String>> = all.iter().map(|watched| now(&[*watched])).collect();
        let wanted = |of: &str| vec![of.to_owned(), "rule lb/rc".to_owned()];
        for of in ["subnet web", "rule lb/ra", "rule lb/rb"] {
            assert!(named.contains(&wanted(of)), "{named:?}");
        }
        assert!(named.contains(&vec!["rule lb/rc".to_owned(), "tunnel out".to_owned()]), "{named:?}");
    }
}
