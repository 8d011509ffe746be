use super::*;
use crate::addr::Addr;
use crate::names::Names;
use crate::verdict::BackendId;
use crate::wire::{FlowKey, protocol};
use core::time::Duration;
use nva_config::{
    AdminState, Backend, BalancingProtocol, BalancingRule, Config, Distribution, Frontend, FrontendIndex,
    InboundNat, LoadBalancer, NoHealthyBackends, Pool, PoolIndex, SynProxyMode,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

fn address(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn backend(name: &str, address: &str) -> Backend {
    Backend { name: name.into(), address: address.parse().unwrap(), weight: 1, admin_state: AdminState::None }
}

fn rule(name: &str, protocol: BalancingProtocol, port: u16, backend_port: u16) -> BalancingRule {
    BalancingRule {
        name: name.into(),
        frontend: FrontendIndex(0),
        protocol,
        port,
        pool: PoolIndex(0),
        backend_port,
        probe: None,
        distribution: Distribution::FiveTuple,
        idle_timeout: Duration::from_secs(240),
        tcp_reset: true,
        floating_ip: false,
        syn_proxy: SynProxyMode::Off,
    }
}

/// One frontend of each family, three backends of IPv4 and one of IPv6, HTTPS and a way to the second machine's SSH.
fn config() -> Config {
    let backends = vec![
        backend("web-1", "10.2.0.4"),
        backend("web-2", "10.2.0.5"),
        backend("web-3", "10.2.0.6"),
        backend("web-6", "fd00:2::4"),
    ];
    let ssh = InboundNat {
        name: "ssh-2".into(),
        frontend: FrontendIndex(0),
        protocol: BalancingProtocol::Tcp,
        port: 50_001,
        backend: (PoolIndex(0), 1),
        backend_port: 22,
        idle_timeout: Duration::from_secs(60),
        tcp_reset: false,
        floating_ip: false,
        syn_proxy: SynProxyMode::Off,
    };
    let https = rule("https", BalancingProtocol::Tcp, 443, 8443);
    let load_balancers = vec![LoadBalancer {
        name: "public".into(),
        frontends: vec![
            Frontend { name: "vip".into(), address: "203.0.113.10".parse().unwrap() },
            Frontend { name: "vip6".into(), address: "2001:db8:113::10".parse().unwrap() },
        ],
        pools: vec![Pool {
            name: "web".into(),
            drain_period: Duration::from_secs(30),
            no_healthy_backends: NoHealthyBackends::Down,
            backends,
        }],
        probes: vec![],
        rules: vec![
            https.clone(),
            BalancingRule { frontend: FrontendIndex(1), name: "https6".into(), ..https },
        ],
        inbound_nat: vec![ssh],
        outbound: vec![],
    }];
    Config { load_balancers, ..Config::default() }
}

#[test]
fn tables_are_built_anew_only_where_other_backends_take_new_flows() {
    let (old, mut names) = (config(), Names::default());
    let first = Balancer::build_after(None, &old, &|_, _| false, &mut names);
    let mut after = |new: &Config, down: &dyn Fn(&str, &str) -> bool| {
        Balancer::build_after(Some((&first, &*old.load_balancers)), new, down, &mut names)
    };
    assert!(Arc::ptr_eq(&first, &after(&old, &|_, _| false)));
    let sick = after(&old, &|_, backend| backend == "web-2");
    assert!(!Arc::ptr_eq(&first, &sick));
    assert_eq!(sick.shares().iter().filter(|share| share.eligible).count(), 3);
    let mut heavier = config();
    heavier.load_balancers[0].pools[0].backends[0].weight = 2;
    assert!(!Arc::ptr_eq(&first, &after(&heavier, &|_, _| false)));
}

fn build(config: &Config, down: &[&str]) -> (Balancer, Names) {
    let mut names = Names::default();
    let is_down = |load_balancer: &str, backend: &str| load_balancer == "public" && down.contains(&backend);
    (Balancer::build(config, &is_down, &mut names), names)
}

fn key(src_port: u16, dst: &str, dst_port: u16) -> FlowKey {
    let src = if dst.contains(':') { "2001:db8::7" } else { "192.0.2.7" };
    FlowKey { src: address(src), dst: address(dst), src_port, dst_port, protocol: protocol::TCP }
}

/// The backends that many flows to a frontend's port are spread over.
fn reached(config: &Config, down: &[&str], dst: &str, port: u16) -> BTreeSet<String> {
    let (balancer, names) = build(config, down);
    let flows = (1000..1400).map(|src_port| balancer.select(&key(src_port, dst, port)));
    flows
        .map(|selection| match selection {
            Selection::Backend(target) => names.backend_name(target.backend).to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const VIP: &str = "203.0.113.10";
const VIP6: &str = "2001:db8:113::10";

#[test]
fn only_frontends_with_a_rule_lead_somewhere() {
    let (balancer, _) = build(&config(), &[]);
    assert!(balancer.is_frontend(address(VIP)) && balancer.is_frontend(address(VIP6)));
    assert!(!balancer.is_frontend(address("203.0.113.11")));
    assert_eq!(balancer.select(&key(1, "203.0.113.11", 443)), Selection::NotAFrontend);
    assert_eq!(balancer.select(&key(1, VIP, 444)), Selection::NoRule);
    let udp = FlowKey { protocol: protocol::UDP, ..key(1, VIP, 443) };
    assert_eq!(balancer.select(&udp), Selection::NoRule);
    assert!(matches!(balancer.select(&key(1, VIP, 443)), Selection::Backend(_)));
}

#[test]
fn a_target_says_all_that_the_rule_says() {
    let mut config = config();
    config.load_balancers[0].pools[0].backends.truncate(1);
    config.load_balancers[0].inbound_nat.clear();
    let (balancer, names) = build(&config, &[]);
    let Selection::Backend(target) = balancer.select(&key(1, VIP, 443)) else { panic!("no backend") };
    let expected = Target {
        backend: BackendId(0),
        address: address("10.2.0.4"),
        port: Some(8443),
        floating_ip: false,
        idle_timeout_ms: 240_000,
        tcp_reset: true,
        service: ServiceId(0),
    };
    assert_eq!(target, expected);
    assert_eq!(names.backend_name(target.backend), "web-1");
    let service = balancer.service(target.service).unwrap();
    assert_eq!((&*service.load_balancer, &*service.name, &*service.frontend), ("public", "https", "vip"));
    config.load_balancers[0].rules[0].floating_ip = true;
    let (balancer, _) = build(&config, &[]);
    let floating = Selection::Backend(Target { floating_ip: true, ..expected });
    assert_eq!(balancer.select(&key(1, VIP, 443)), floating);
}

#[test]
fn flows_spread_over_the_backends_of_their_family() {
    assert_eq!(reached(&config(), &[], VIP, 443), set(&["web-1", "web-2", "web-3"]));
    assert_eq!(reached(&config(), &[], VIP6, 443), set(&["web-6"]));
}

#[test]
fn probes_and_the_operator_decide_who_takes_new_flows() {
    let mut config = config();
    assert_eq!(reached(&config, &["web-2"], VIP, 443), set(&["web-1", "web-3"]));
    config.load_balancers[0].pools[0].backends[1].admin_state = AdminState::Up;
    assert_eq!(reached(&config, &["web-2"], VIP, 443), set(&["web-1", "web-2", "web-3"]));
    config.load_balancers[0].pools[0].backends[0].admin_state = AdminState::Down;
    assert_eq!(reached(&config, &["web-2"], VIP, 443), set(&["web-2", "web-3"]));
    let (balancer, mut names) = build(&config, &["web-2"]);
    let eligible = |name| balancer.is_eligible(names.clone().backend("public", "web", name));
    assert_eq!(["web-1", "web-2", "web-3"].map(eligible), [false, true, true]);
    assert!(!balancer.is_eligible(names.backend("public", "web", "gone")));
}

#[test]
fn a_pool_without_healthy_backends_refuses_or_tries_all() {
    let all = ["web-1", "web-2", "web-3", "web-6"];
    let mut config = config();
    assert_eq!(reached(&config, &all, VIP, 443), set(&["NoHealthyBackend"]));
    config.load_balancers[0].pools[0].no_healthy_backends = NoHealthyBackends::Up;
    assert_eq!(reached(&config, &all, VIP, 443), set(&["web-1", "web-2", "web-3"]));
    // The operator's word stands.
    config.load_balancers[0].pools[0].backends[2].admin_state = AdminState::Down;
    assert_eq!(reached(&config, &all, VIP, 443), set(&["web-1", "web-2"]));
    for backend in &mut config.load_balancers[0].pools[0].backends {
        backend.admin_state = AdminState::Down;
    }
    assert_eq!(reached(&config, &[], VIP, 443), set(&["NoHealthyBackend"]));
}

#[test]
fn inbound_nat_leads_to_one_machine_sick_or_not() {
    let mut config = config();
    assert_eq!(reached(&config, &["web-2"], VIP, 50_001), set(&["web-2"]));
    let (balancer, _) = build(&config, &[]);
    let Selection::Backend(target) = balancer.select(&key(1, VIP, 50_001)) else { panic!("no backend") };
    assert_eq!((target.port, target.idle_timeout_ms, target.tcp_reset), (Some(22), 60_000, false));
    assert_eq!(
        balancer.service(target.service).map(|s| &s.kind),
        Some(&ServiceKind::InboundNat("web-2".into()))
    );
    config.load_balancers[0].pools[0].backends[1].admin_state = AdminState::Down;
    assert_eq!(reached(&config, &[], VIP, 50_001), set(&["NoHealthyBackend"]));
}

#[test]
fn ha_ports_take_what_no_other_rule_takes() {
    let mut config = config();
    config.load_balancers[0].rules.push(rule("ha", BalancingProtocol::All, 0, 0));
    let (balancer, _) = build(&config, &[]);
    let service = |key: &FlowKey| match balancer.select(key) {
        Selection::Backend(target) => {
            Some((balancer.service(target.service).map(|s| s.name.as_str()).unwrap(), target.port))
        }
        _ => None,
    };
    let udp = FlowKey { protocol: protocol::UDP, ..key(1, VIP, 443) };
    assert_eq!(service(&key(1, VIP, 443)), Some(("https", Some(8443))));
    assert_eq!(service(&key(1, VIP, 50_001)), Some(("ssh-2", Some(22))));
    assert_eq!(service(&key(1, VIP, 444)), Some(("ha", None)));
    assert_eq!(service(&udp), Some(("ha", None)));
    // TCP and UDP only.
    assert_eq!(service(&FlowKey { protocol: protocol::ICMP, ..udp }), None);
    assert_eq!(service(&FlowKey { protocol: protocol::ESP, ..udp }), None);
}

#[test]
fn affinity_holds_over_ports_and_rules_of_a_pool() {
    let mut config = config();
    config.load_balancers[0].rules[0].distribution = Distribution::SourceIp;
    config.load_balancers[0].rules.push(BalancingRule {
        distribution: Distribution::SourceIp,
        ..rule("media", BalancingProtocol::Udp, 5000, 5000)
    });
    assert_eq!(reached(&config, &[], VIP, 443).len(), 1);
    let (balancer, _) = build(&config, &[]);
    let chosen = |key: &FlowKey| match balancer.select(key) {
        Selection::Backend(target) => target.backend,
        other => panic!("{other:?}"),
    };
    let clients = (0..200u8).map(|n| FlowKey { src: Addr::v4([192, 0, 2, n]), ..key(1, VIP, 443) });
    let mut backends = BTreeSet::new();
    for web in clients {
        let media = FlowKey { protocol: protocol::UDP, dst_port: 5000, src_port: 9, ..web };
        assert_eq!(chosen(&web), chosen(&media));
        backends.insert(chosen(&web));
    }
    assert_eq!(backends.len(), 3);
}

#[test]
fn two_appliances_agree_whatever_the_order_in_their_files() {
    let config = config();
    let mut other = config.clone();
    other.load_balancers[0].pools[0].backends.rotate_left(1);
    other.load_balancers[0].inbound_nat.clear();
    let (one, _) = build(&config, &[]);
    let (two, _) = build(&other, &[]);
    for src_port in 0..2000 {
        let addresses = [&one, &two].map(|balancer| match balancer.select(&key(src_port, VIP, 443)) {
            Selection::Backend(target) => target.address,
            other => panic!("{other:?}"),
        });
        assert_eq!(addresses[0], addresses[1]);
    }
}

#[test]
fn shares_tell_weights_and_health() {
    let mut config = config();
    config.load_balancers[0].pools[0].backends[0].weight = 3;
    let (balancer, _) = build(&config, &["web-3"]);
    let shares = balancer.shares();
    let rounded: Vec<(&str, bool, f64)> =
        shares.iter().map(|s| (&*s.backend, s.eligible, (s.fraction() * 100.0).round())).collect();
    let expected =
        [("web-1", true, 75.0), ("web-2", true, 25.0), ("web-3", false, 0.0), ("web-6", true, 100.0)];
    assert_eq!(rounded, expected);
    assert_eq!(balancer.services().len(), 3);
}
