//! Which metrics there are: the reports of `nva show`, under names that are a promise. Units are the base units, bytes and seconds.

use super::families::Families;
use crate::run::answer;
use crate::run::control::Control;
use crate::run::protocol::{Backend, HostTraffic, Port, Rule, Stats, SynProxy, Traffic, Tunnel, Worker};
use nva_config::{AdminState, Config, LoadBalancer, NoHealthyBackends};

/// The page of this moment.
pub(super) fn page(control: &Control) -> String {
    let mut families = Families::default();
    let mut moment = control.moment();
    let stats = answer::stats(&mut moment);
    instance(&mut families, &stats);
    ports(&mut families, &stats.ports);
    hosts(&mut families, &stats.ports);
    tunnels(&mut families, &stats.tunnels);
    workers(&mut families, &stats.workers);
    syn_proxy(&mut families, &answer::protection(&moment).syn_proxy);
    backends(&mut families, &answer::backends(&mut moment).backends);
    frontends(&mut families, &moment.config);
    rules(&mut families, &answer::rules(&mut moment).rules);
    families.text()
}

fn instance(families: &mut Families, stats: &Stats) {
    let labels = [("name", stats.name.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
    families.gauge("nva_info", "Always 1: which appliance this is.").add(&labels, 1.0);
    families.gauge("nva_uptime_seconds", "Time since the start.").add(&[], stats.uptime_seconds);
    families
        .gauge(
            "nva_configuration_generation",
            "Configurations published since the start, the first one included.",
        )
        .add(&[], stats.generation.into());
    families.gauge("nva_flows", "Open flows.").count(&[], stats.flows);
    families.gauge("nva_flow_capacity", "The most flows that can be open.").count(&[], stats.flow_capacity);
    families.counter("nva_flows_created_total", "Flow records made.").count(&[], stats.flows_created);
    families
        .counter("nva_flows_expired_total", "Flow records that an idle timeout ended.")
        .count(&[], stats.flows_expired);
    families
        .counter(
            "nva_originated_packets_total",
            "Packets that the appliance or the kernel's sockets sent by themselves.",
        )
        .count(&[], stats.originated);
}

/// A counter of each `T`: its name, what it counts, and where to find it.
type Of<T> = (&'static str, &'static str, fn(&T) -> u64);

/// For each port, received is the sum of forwarded, replied, consumed, held and dropped.
const OF_PORTS: [Of<Traffic>; 12] = [
    ("nva_rx_packets_total", "Packets received.", |traffic| traffic.received),
    ("nva_rx_bytes_total", "Bytes received.", |traffic| traffic.rx_bytes),
    ("nva_rx_missed_packets_total", "Packets lost because the receive ring was full.", |traffic| {
        traffic.rx_missed
    }),
    (
        "nva_rx_no_buffer_packets_total",
        "Packets lost because no frame was free to receive into.",
        |traffic| traffic.rx_no_buffer,
    ),
    ("nva_rx_errors_total", "Failures that the device reported while receiving.", |traffic| {
        traffic.rx_errors
    }),
    ("nva_forwarded_packets_total", "Received packets that left through some port.", |traffic| {
        traffic.forwarded
    }),
    ("nva_replied_packets_total", "Received packets that the appliance answered.", |traffic| traffic.replied),
    ("nva_consumed_packets_total", "Received packets taken in with nothing sent for them.", |traffic| {
        traffic.consumed
    }),
    ("nva_tx_packets_total", "Packets sent out of the port.", |traffic| traffic.transmitted),
    ("nva_tx_bytes_total", "Bytes sent.", |traffic| traffic.tx_bytes),
    ("nva_tx_refused_packets_total", "Packets that a full transmit queue refused.", |traffic| {
        traffic.tx_refused
    }),
    ("nva_tx_errors_total", "Failures that the device reported while sending.", |traffic| traffic.tx_errors),
];

fn ports(families: &mut Families, ports: &[Port]) {
    for (name, help, count) in OF_PORTS {
        let mut samples = families.counter(name, help);
        ports.iter().for_each(|port| samples.count(&[("port", &port.port)], count(&port.traffic)));
    }
    let mut up =
        families.gauge("nva_port_up", "1: frames can pass the link of the port's device; 0: none can.");
    for port in ports {
        port.link_up.iter().for_each(|is_up| up.count(&[("port", &port.port)], (*is_up).into()));
    }
    drop(up);
    let mut held = families.gauge("nva_held_packets", "Received packets that wait.");
    ports.iter().for_each(|port| held.count(&[("port", &port.port)], port.traffic.held));
    drop(held);
    let mut dropped = families.counter("nva_dropped_packets_total", "Received packets dropped, by reason.");
    for port in ports {
        for (reason, count) in port.traffic.dropped.iter() {
            dropped.count(&[("port", &port.port), ("reason", reason.name())], count);
        }
    }
}

fn hosts(families: &mut Families, ports: &[Port]) {
    let of_hosts: [Of<HostTraffic>; 5] = [
        ("nva_host_to_kernel_packets_total", "Packets given to the kernel's sockets.", |host| host.to_kernel),
        (
            "nva_host_to_kernel_full_packets_total",
            "Packets for the kernel dropped since too many waited.",
            |host| host.to_kernel_full,
        ),
        ("nva_host_from_kernel_packets_total", "Packets of the kernel's sockets passed on.", |host| {
            host.from_kernel
        }),
        (
            "nva_host_from_kernel_full_packets_total",
            "Packets of the kernel dropped since no buffer was free.",
            |host| host.from_kernel_full,
        ),
        ("nva_host_refused_packets_total", "Packets of the kernel that must not or cannot leave.", |host| {
            host.refused
        }),
    ];
    for (name, help, count) in of_hosts {
        let mut samples = families.counter(name, help);
        for port in ports {
            port.host.iter().for_each(|host| samples.count(&[("port", &port.port)], count(host)));
        }
    }
}

fn tunnels(families: &mut Families, tunnels: &[Tunnel]) {
    let of_tunnels: [Of<Tunnel>; 3] = [
        ("nva_tunnel_rx_packets_total", "Packets that came in by the tunnel.", |tunnel| tunnel.received),
        ("nva_tunnel_dropped_packets_total", "Packets of the tunnel that were dropped.", |tunnel| {
            tunnel.dropped
        }),
        ("nva_tunnel_tx_packets_total", "Packets that left by the tunnel.", |tunnel| tunnel.transmitted),
    ];
    for (name, help, count) in of_tunnels {
        let mut samples = families.counter(name, help);
        for tunnel in tunnels {
            let peer = tunnel.peer.to_string();
            let labels = [("tunnel", tunnel.tunnel.as_str()), ("trust", &tunnel.trust), ("peer", &peer)];
            samples.count(&labels, count(tunnel));
        }
    }
}

fn workers(families: &mut Families, workers: &[Worker]) {
    let names: Vec<_> =
        workers.iter().map(|worker| (worker.worker.to_string(), worker.core.to_string())).collect();
    let named = || workers.iter().zip(&names);
    let mut flows = families.gauge("nva_worker_flows", "Open flows that the worker owns.");
    named().for_each(|(of, (worker, core))| flows.count(&[("worker", worker), ("core", core)], of.flows));
    drop(flows);
    let mut stalled = families
        .gauge("nva_worker_stalled_seconds", "For how long the worker has not turned; 0 when it does.");
    named().for_each(|(of, (worker, core))| {
        stalled.add(&[("worker", worker), ("core", core)], of.stalled_seconds.unwrap_or(0.0));
    });
}

fn syn_proxy(families: &mut Families, syn: &SynProxy) {
    let counters = [
        ("nva_syn_cookies_sent_total", "SYNs answered with a cookie.", syn.cookies_sent),
        ("nva_syn_cookies_valid_total", "Acknowledgements that proved a cookie.", syn.cookies_valid),
        (
            "nva_syn_cookies_invalid_total",
            "Acknowledgements that should have proved a cookie and did not.",
            syn.cookies_invalid,
        ),
        ("nva_syn_spliced_connections_total", "Connections spliced: the backend agreed.", syn.spliced),
        ("nva_syn_refused_connections_total", "Proved clients whose backend refused.", syn.refused),
        (
            "nva_syn_unanswered_connections_total",
            "Proved clients whose backend did not answer.",
            syn.unanswered,
        ),
        ("nva_syn_resets_total", "Resets for segments of connections that were not known.", syn.resets),
    ];
    for (name, help, count) in counters {
        families.counter(name, help).count(&[], count);
    }
    families
        .gauge("nva_syn_half_open", "Handshakes of the SYN proxy on their way.")
        .count(&[], syn.half_open);
}

fn backends(families: &mut Families, backends: &[Backend]) {
    fn labels(of: &Backend) -> [(&'static str, &str); 3] {
        [("load_balancer", &of.load_balancer), ("pool", &of.pool), ("backend", &of.backend)]
    }
    let mut healthy = families.gauge("nva_backend_healthy", "1: it may get new flows; 0: it is set down.");
    backends.iter().for_each(|of| healthy.count(&labels(of), of.eligible.into()));
    drop(healthy);
    let mut created = families.counter("nva_backend_flows_created_total", "New flows given to the backend.");
    backends.iter().for_each(|of| created.count(&labels(of), of.flows_created));
}

fn frontends(families: &mut Families, config: &Config) {
    let mut available = families
        .gauge("nva_frontend_available", "1: a new flow to one of its rules finds a backend; 0: none does.");
    for balancer in &config.load_balancers {
        for (place, frontend) in balancer.frontends.iter().enumerate() {
            let labels = [("load_balancer", balancer.name.as_str()), ("frontend", &frontend.name)];
            available.count(&labels, is_available(balancer, place).into());
        }
    }
}

/// Whether some rule or inbound NAT entry of a frontend leads to a backend. Inbound NAT does not ask whether its backend is up.
fn is_available(balancer: &LoadBalancer, frontend: usize) -> bool {
    let takes_flows = |pool: &nva_config::Pool| {
        let is_up = |backend: &nva_config::Backend| backend.admin_state != AdminState::Down;
        !pool.backends.is_empty() && pool.no_healthy_backends == NoHealthyBackends::Up
            || pool.backends.iter().any(is_up)
    };
    let mut rules = balancer.rules.iter().filter(|rule| rule.frontend.0 == frontend);
    rules.any(|rule| balancer.pools.get(rule.pool.0).is_some_and(takes_flows))
        || balancer.inbound_nat.iter().any(|entry| entry.frontend.0 == frontend)
}

fn rules(families: &mut Families, rules: &[Rule]) {
    let mut hits = families.counter("nva_rule_hits_total", "New flows that the security rule decided.");
    rules.iter().for_each(|rule| hits.count(&[("group", &rule.group), ("rule", &rule.rule)], rule.hits));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_available_while_one_of_its_rules_finds_a_backend() {
        let available = |state: &str, no_healthy: &str, uses: &str| {
            let text = format!(
                "version: 1\nports: [{{name: a, driver: af_packet, device: eth1, addresses: [192.0.2.1/24]}}]\nload_balancers:\n  \
                 - name: lb\n    frontends: [{{name: f, address: 192.0.2.10}}]\n    pools: [{{name: p, no_healthy_backends: \
                 {no_healthy}, backends: [{{name: b, address: 192.0.2.20, admin_state: {state}}}]}}]\n    {uses}\n"
            );
            let source = nva_config::Source { path: "test.yaml".into(), text: text.into() };
            let config = nva_config::load(&[source], None).expect("a good configuration");
            is_available(&config.load_balancers[0], 0)
        };
        let rule = "rules: [{name: r, frontend: f, protocol: tcp, port: 80, pool: p}]";
        let entry = "inbound_nat: [{name: n, frontend: f, protocol: tcp, port: 80, backend: b}]";
        assert!(available("none", "down", rule));
        assert!(!available("down", "down", rule));
        assert!(available("down", "up", rule));
        assert!(available("down", "down", entry));
        assert!(!available("none", "down", "rules: []"));
    }
}
