//! The contract file loads as it stands, and means what its comments say.

use std::time::Duration;

use nva_config::*;

fn load_one(text: &str) -> Result<Config, Vec<String>> {
    let source = Source { path: "nva.yaml".into(), text: text.into() };
    load(&[source], None).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn contract() -> Config {
    load_one(include_str!("contract.yaml")).unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn ports_and_routes() {
    let config = contract();
    assert_eq!(config.name, "nva-1");
    assert_eq!(config.dataplane.workers, Workers::Cores(vec![1]));
    assert_eq!(config.dataplane.flow_capacity, 1_000_000);
    assert_eq!(config.dataplane.flow_idle_timeout, FlowTimeouts::default());
    let [untrusted, trusted] = config.ports.as_slice() else { panic!("{:?}", config.ports) };
    assert_eq!((untrusted.name.as_str(), untrusted.device.as_str()), ("untrusted", "eth1"));
    assert_eq!(
        (untrusted.driver, untrusted.mtu, untrusted.trust),
        (Driver::AfPacket, 1500, Trust::Untrusted)
    );
    assert_eq!(untrusted.addresses[0].address.to_string(), "203.0.113.1");
    assert_eq!(untrusted.addresses[0].prefix, prefix("203.0.113.0/24"));
    assert_eq!(untrusted.addresses[1].prefix, prefix("2001:db8:113::/64"));
    assert_eq!(trusted.trust, Trust::Trusted);
    let routes: Vec<_> =
        config.routes.iter().map(|r| (r.to.to_string(), r.via.to_string(), r.port)).collect();
    let expected = [("0.0.0.0/0", "203.0.113.254", 0), ("10.3.0.0/24", "10.2.0.254", 1)];
    assert_eq!(routes, expected.map(|(to, via, port)| (to.to_owned(), via.to_owned(), PortIndex(port))));
    let neighbors: Vec<_> = config.neighbors.iter().map(|n| (n.mac.to_string(), n.port.0)).collect();
    let expected = [("02:00:00:00:71:fe", 0), ("02:00:00:00:02:04", 1), ("02:00:00:00:02:05", 1)];
    assert_eq!(neighbors, expected.map(|(mac, port)| (mac.to_owned(), port)));
}

#[test]
fn policy() {
    let config = contract();
    let network = &config.virtual_network;
    assert_eq!(network.address_space, [prefix("10.0.0.0/8"), prefix("fd00::/8")]);
    assert_eq!(network.subnets[0].security_group, Some(GroupIndex(0)));
    assert_eq!(network.subnets[1].security_group, None);
    assert_eq!(network.application_security_groups, ["asg-web"]);
    assert_eq!(network.interfaces[0].security_group, Some(GroupIndex(1)));
    assert_eq!(network.interfaces[1].application_security_groups, [0]);
    assert_eq!(config.service_tags.len(), 1);
    assert_eq!(config.service_tags[0].prefixes, [prefix("198.51.100.0/24")]);
    let [web, nic] = config.security_groups.as_slice() else { panic!("{:?}", config.security_groups) };
    assert_eq!((web.name.as_str(), web.flush_connections, web.rules.len()), ("web-nsg", false, 2));
    assert_eq!((nic.name.as_str(), nic.rules.len()), ("nic-nsg", 1));
    let rule = &web.rules[0];
    assert_eq!((rule.name.as_str(), rule.priority, rule.direction), ("allow-https", 100, Direction::Inbound));
    assert_eq!((rule.access, rule.protocol), (Access::Allow, RuleProtocol::Tcp));
    assert_eq!(rule.source, [Endpoint::Internet]);
    assert_eq!(rule.source_ports, [PortRange::ALL]);
    assert_eq!(rule.destination, [Endpoint::ApplicationSecurityGroup(0)]);
    assert_eq!(
        rule.destination_ports,
        [PortRange { first: 8443, last: 8443 }, PortRange { first: 9000, last: 9100 }]
    );
    assert_eq!(web.rules[1].source, [Endpoint::Any]);
}

#[test]
fn load_balancing() {
    let config = contract();
    let [public] = config.load_balancers.as_slice() else { panic!("{:?}", config.load_balancers) };
    assert_eq!(public.frontends[1].address.to_string(), "2001:db8:113::10");
    let pool = &public.pools[0];
    assert_eq!(
        (pool.drain_period, pool.no_healthy_backends),
        (Duration::from_secs(30), NoHealthyBackends::Down)
    );
    assert_eq!((pool.backends[1].name.as_str(), pool.backends[1].weight), ("web-2", 1));
    assert_eq!(pool.backends[1].admin_state, AdminState::None);
    let probe = &public.probes[0];
    assert_eq!((probe.protocol, probe.port, probe.path.as_str()), (ProbeProtocol::Http, 8080, "/healthz"));
    assert_eq!((probe.interval, probe.threshold), (Duration::from_secs(5), 2));
    let rule = &public.rules[0];
    assert_eq!((rule.frontend, rule.pool, rule.probe), (FrontendIndex(0), PoolIndex(0), Some(ProbeIndex(0))));
    assert_eq!((rule.port, rule.backend_port, rule.protocol), (443, 8443, BalancingProtocol::Tcp));
    assert_eq!(
        (rule.idle_timeout, rule.tcp_reset, rule.floating_ip),
        (Duration::from_secs(240), true, false)
    );
    assert_eq!((rule.distribution, rule.syn_proxy), (Distribution::FiveTuple, SynProxyMode::Auto));
    let nat = &public.inbound_nat[0];
    assert_eq!((nat.port, nat.backend, nat.backend_port), (50001, (PoolIndex(0), 0), 22));
    let egress = &public.outbound[0];
    assert_eq!((egress.ports_per_backend, egress.protocol), (1024, BalancingProtocol::All));
    assert_eq!((egress.frontends.as_slice(), egress.pool), ([FrontendIndex(0)].as_slice(), PoolIndex(0)));
}

#[test]
fn gateway_protection_and_records() {
    let config = contract();
    let gateway = &config.gateways[0];
    let ends: Vec<_> = gateway.tunnels.iter().map(|t| (t.port, t.address.to_string())).collect();
    assert_eq!(ends, [(PortIndex(1), "10.2.0.1".to_owned()), (PortIndex(1), "10.2.0.1".to_owned())]);
    assert_eq!((gateway.encapsulation, gateway.mtu, gateway.dscp), (Encapsulation::Vxlan, None, None));
    assert!(!gateway.zero_checksum_ipv6 && !gateway.clamp_mss && gateway.frontends.is_empty());
    let tunnels: Vec<_> = gateway.tunnels.iter().map(|t| (t.trust, t.vni, t.udp_port)).collect();
    assert_eq!(tunnels, [(Trust::Trusted, 800, 10800), (Trust::Untrusted, 801, 10801)]);
    let protection = &config.protection;
    assert_eq!(protection.blocklist, [prefix("198.18.0.0/15")]);
    assert_eq!(protection.syn_flood.unwrap().proxy_threshold, 10_000);
    assert_eq!(protection.connections, Some(ConnectionLimits { per_source: 100, new_per_source_rate: 20 }));
    assert_eq!(protection.amplification.dns_responses_per_destination, Some(1000));
    assert_eq!(protection.icmp_rate, Some(1000));
    let management = config.management.as_ref().unwrap();
    assert_eq!(management.listen.unwrap().to_string(), "127.0.0.1:9443");
    assert_eq!(management.tls.as_ref().unwrap().client_ca.to_str(), Some("clients.pem"));
    assert_eq!(management.roles[1].role, RoleKind::Reader);
    assert_eq!(config.logs.audit.as_ref().unwrap().to_str(), Some("audit.jsonl"));
    assert_eq!(config.warnings, []);
}

#[test]
fn every_key_and_element_has_its_place() {
    let config = contract();
    let place = |path: &str| config.places.get(path).map(|at| (at.line, at.column));
    assert_eq!(place("version"), Some((4, 1)));
    assert_eq!(place("ports[0]"), Some((13, 5)));
    assert_eq!(place("ports[0].driver"), Some((14, 5)));
    assert_eq!(place("ports[0].addresses[1]"), Some((17, 33)));
    assert_eq!(place("service_tags.inline.Monitoring"), Some((47, 12)));
    assert_eq!(place("nothing"), None);
    let text: Vec<&str> = include_str!("contract.yaml").lines().collect();
    assert!(config.places.iter().count() > 100);
    for (path, at) in config.places.iter() {
        assert_eq!(config.places.get(&path).as_ref(), Some(&at), "{path}");
        let line = text[at.line - 1];
        let here = &line[line.char_indices().nth(at.column - 1).unwrap().0..];
        let key = path.rsplit('.').next().unwrap();
        assert!(key.ends_with(']') || here.starts_with(key), "{path} at {at}: {here}");
    }
    for section in
        ["gateway", "load_balancers[0].rules[0].syn_proxy", "protection.syn_flood", "management", "logs.flow"]
    {
        assert!(place(section).is_some(), "{section}");
    }
}

#[test]
fn absent_keys_have_their_defaults() {
    let text = "\
version: 1
ports: [{name: a, device: eth1, addresses: [10.0.0.1/24]}]
load_balancers:
  - name: public
    frontends: [{name: vip, address: 10.0.1.1}]
    pools: [{name: web, backends: [{name: web-1, address: 10.0.0.4}]}]
    probes: [{name: ready, protocol: http, port: 80}]
    rules: [{name: web, frontend: vip, protocol: tcp, port: 80, pool: web}, {name: dns, frontend: vip, protocol: udp, port: 53, pool: web}]
    inbound_nat: [{name: ssh, frontend: vip, protocol: tcp, port: 22, backend: web-1}]
    outbound: [{name: out, frontends: [vip], pool: web}]
";
    let config = load_one(text).unwrap();
    assert_eq!(config.name, "nva-1");
    assert_eq!(config.ports[0].driver, Driver::AfPacket);
    assert_eq!((config.ports[0].mtu, config.ports[0].trust), (1500, Trust::Untrusted));
    assert_eq!(config.protection.anti_spoofing, AntiSpoofing::Strict);
    assert!(
        config.protection.amplification.block_ntp_monlist && config.protection.amplification.block_memcached
    );
    assert_eq!((config.protection.syn_flood, config.protection.icmp_rate), (None, None));
    assert!(config.gateways.is_empty() && config.management.is_none() && config.logs.flow.is_none());
    let balancer = &config.load_balancers[0];
    assert_eq!(balancer.pools[0].drain_period, Duration::from_secs(30));
    assert_eq!((balancer.probes[0].path.as_str(), balancer.probes[0].threshold), ("/", 2));
    assert_eq!(
        (balancer.rules[0].backend_port, balancer.rules[0].tcp_reset, balancer.rules[0].probe),
        (80, false, None)
    );
    assert_eq!(
        (balancer.inbound_nat[0].backend_port, balancer.inbound_nat[0].idle_timeout.as_secs()),
        (22, 240)
    );
    assert_eq!(
        (balancer.outbound[0].protocol, balancer.outbound[0].ports_per_backend),
        (BalancingProtocol::All, 0)
    );
}

#[test]
fn an_empty_file_forwards_nothing() {
    for text in ["", "\n# nothing yet\n", "---\n", "version: 1\n", "\u{feff}version: 1\nports:\n"] {
        let config = load_one(text).unwrap_or_else(|p| panic!("{text:?}: {p:?}"));
        assert!(config.ports.is_empty());
        // Good as it is: whoever shows the configuration says that it forwards nothing.
        assert!(config.warnings.is_empty());
    }
    assert!(load(&[], None).unwrap().ports.is_empty());
}

#[test]
fn line_breaks_do_not_matter() {
    let crlf = include_str!("contract.yaml").replace('\n', "\r\n");
    assert_eq!(load_one(&crlf).unwrap().places, contract().places);
}
