use super::oracle::{self, LinearRules};
use super::*;
use crate::wire::protocol;
use nva_config::{
    Endpoint, GroupIndex, Interface, PortRange, Prefix, RuleProtocol, SecurityGroup, SecurityRule,
    ServiceTag, Subnet, SynProxyMode,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::net::IpAddr;

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn address(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn ports(first: u16, last: u16) -> Vec<PortRange> {
    vec![PortRange { first, last }]
}

fn rule(name: &str, priority: u16, direction: Direction, access: Access) -> SecurityRule {
    SecurityRule {
        name: name.to_owned(),
        priority,
        direction,
        access,
        protocol: RuleProtocol::Any,
        source: vec![Endpoint::Any],
        source_ports: ports(0, u16::MAX),
        destination: vec![Endpoint::Any],
        destination_ports: ports(0, u16::MAX),
    }
}

fn group(name: &str, rules: Vec<SecurityRule>) -> SecurityGroup {
    SecurityGroup { name: name.to_owned(), flush_connections: false, rules }
}

/// The network of the documentation: web behind two groups, db behind none, and a tag.
fn config() -> Config {
    let mut config = Config::default();
    config.virtual_network.address_space = vec![prefix("10.0.0.0/8"), prefix("fd00::/8")];
    let web = Subnet {
        name: "web".into(),
        prefixes: vec![prefix("10.2.0.0/24"), prefix("fd00:2::/64")],
        security_group: Some(GroupIndex(0)),
        syn_proxy: SynProxyMode::Off,
    };
    let db = Subnet {
        name: "db".into(),
        prefixes: vec![prefix("10.3.0.0/24")],
        security_group: None,
        syn_proxy: SynProxyMode::Off,
    };
    config.virtual_network.subnets = vec![web, db];
    config.virtual_network.interfaces = vec![
        Interface {
            address: "10.2.0.4".parse().unwrap(),
            security_group: Some(GroupIndex(1)),
            application_security_groups: vec![0],
        },
        Interface {
            address: "10.2.0.5".parse().unwrap(),
            security_group: None,
            application_security_groups: vec![0],
        },
    ];
    config.virtual_network.application_security_groups = vec!["asg-web".into()];
    config.service_tags =
        vec![ServiceTag { name: "Monitoring".into(), prefixes: vec![prefix("198.51.100.0/24")] }];
    let inbound = SecurityRule {
        protocol: RuleProtocol::Tcp,
        source: vec![Endpoint::Internet],
        destination: vec![Endpoint::ApplicationSecurityGroup(0)],
        destination_ports: vec![PortRange { first: 8443, last: 8443 }, PortRange { first: 9000, last: 9100 }],
        ..rule("allow-https", 100, Direction::Inbound, Access::Allow)
    };
    let dns = SecurityRule {
        protocol: RuleProtocol::Udp,
        destination_ports: ports(53, 53),
        ..rule("allow-dns-out", 100, Direction::Outbound, Access::Allow)
    };
    let nic = SecurityRule {
        protocol: RuleProtocol::Tcp,
        destination_ports: ports(8443, 8443),
        ..rule("allow-web", 200, Direction::Inbound, Access::Allow)
    };
    config.security_groups = vec![group("web-nsg", vec![inbound, dns]), group("nic-nsg", vec![nic])];
    config
}

fn key(protocol: u8, from: (&str, u16), to: (&str, u16)) -> FlowKey {
    FlowKey { src: address(from.0), dst: address(to.0), src_port: from.1, dst_port: to.1, protocol }
}

const DIRECT: Context = Context { load_balanced: false };
const BALANCED: Context = Context { load_balanced: true };

/// What a configuration says of a packet: access and the rule's name.
fn verdict(config: &Config, key: &FlowKey, context: Context) -> (Access, String) {
    let mut names = Names::default();
    let decision = Policy::build(config, &mut names).decide(key, context);
    (decision.access, decision.rule.map(|id| names.rule_name(id).to_owned()).unwrap_or_default())
}

#[track_caller]
fn expect(config: &Config, key: &FlowKey, access: Access, rule: &str) {
    assert_eq!(verdict(config, key, DIRECT), (access, rule.to_owned()), "{key:?}");
}

#[test]
fn each_level_must_allow_and_the_last_one_is_named() {
    let config = config();
    let client = ("192.0.2.1", 40_000);
    let to = |host, port| key(protocol::TCP, client, (host, port));
    expect(&config, &to("10.2.0.4", 8443), Access::Allow, "nic-nsg/allow-web");
    expect(&config, &to("10.2.0.5", 8443), Access::Allow, "web-nsg/allow-https");
    // The subnet lets port 9000 through, the interface does not; without an interface group it passes.
    expect(&config, &to("10.2.0.4", 9000), Access::Deny, "nic-nsg/DenyAllInBound");
    expect(&config, &to("10.2.0.5", 9000), Access::Allow, "web-nsg/allow-https");
    expect(&config, &to("10.2.0.5", 9101), Access::Deny, "web-nsg/DenyAllInBound");
    expect(&config, &to("10.2.0.6", 8443), Access::Deny, "web-nsg/DenyAllInBound");
    expect(&config, &to("10.3.0.4", 22), Access::Allow, "");
    let udp = FlowKey { protocol: protocol::UDP, ..to("10.2.0.5", 8443) };
    expect(&config, &udp, Access::Deny, "web-nsg/DenyAllInBound");
}

#[test]
fn from_a_subnet_the_outbound_levels_come_first() {
    let mut config = config();
    let from = |host, to| key(protocol::UDP, (host, 5000), (to, 53));
    expect(&config, &from("10.2.0.6", "10.3.0.4"), Access::Allow, "web-nsg/allow-dns-out");
    expect(&config, &from("10.2.0.4", "8.8.8.8"), Access::Allow, "web-nsg/allow-dns-out");
    // Inside one subnet both directions of its group are asked.
    expect(&config, &from("10.2.0.6", "10.2.0.7"), Access::Allow, "web-nsg/AllowVnetInBound");
    config.security_groups[1].rules.push(rule("no-way-out", 300, Direction::Outbound, Access::Deny));
    expect(&config, &from("10.2.0.4", "8.8.8.8"), Access::Deny, "nic-nsg/no-way-out");
    expect(&config, &from("10.2.0.5", "8.8.8.8"), Access::Allow, "web-nsg/allow-dns-out");
}

#[test]
fn the_lowest_priority_number_decides_wherever_it_stands() {
    let mut config = config();
    let packet = key(protocol::TCP, ("192.0.2.1", 40_000), ("10.2.0.5", 8443));
    let deny = rule("deny-late", 101, Direction::Inbound, Access::Deny);
    config.security_groups[0].rules.insert(0, deny.clone());
    expect(&config, &packet, Access::Allow, "web-nsg/allow-https");
    config.security_groups[0].rules.push(SecurityRule { name: "deny-early".into(), priority: 99, ..deny });
    expect(&config, &packet, Access::Deny, "web-nsg/deny-early");
}

#[test]
fn default_rules_of_both_directions() {
    let config = config();
    let cases = [
        ("10.9.0.1", "10.2.0.6", Access::Allow, "web-nsg/AllowVnetInBound"),
        ("168.63.129.16", "10.2.0.6", Access::Allow, "web-nsg/AllowVnetInBound"),
        ("192.0.2.1", "10.2.0.6", Access::Deny, "web-nsg/DenyAllInBound"),
        ("10.2.0.6", "10.9.0.1", Access::Allow, "web-nsg/AllowVnetOutBound"),
        ("10.2.0.6", "8.8.8.8", Access::Allow, "web-nsg/AllowInternetOutBound"),
        ("fd00:2::6", "2001:db8::1", Access::Allow, "web-nsg/AllowInternetOutBound"),
        ("2001:db8::1", "fd00:2::6", Access::Deny, "web-nsg/DenyAllInBound"),
    ];
    for (from, to, access, rule) in cases {
        expect(&config, &key(protocol::TCP, (from, 1000), (to, 1000)), access, rule);
    }
    // The platform's own address is let in also where the destination is outside the virtual network.
    let mut outside = config;
    outside.virtual_network.address_space.clear();
    let probe = key(protocol::TCP, ("168.63.129.16", 1000), ("10.2.0.6", 1000));
    expect(&outside, &probe, Access::Allow, "web-nsg/AllowAzureLoadBalancerInBound");
    expect(
        &outside,
        &FlowKey { src: address("168.63.129.17"), ..probe },
        Access::Deny,
        "web-nsg/DenyAllInBound",
    );
    // From a subnet outside the address space into it, no default rule but the last one leads.
    outside.virtual_network.address_space = vec![prefix("10.9.0.0/16")];
    let out = key(protocol::TCP, ("10.2.0.6", 1000), ("10.9.0.1", 1000));
    expect(&outside, &out, Access::Deny, "web-nsg/DenyAllOutBound");
}

#[test]
fn a_load_balancer_is_closed_from_outside_without_a_group() {
    let config = config();
    let outside = key(protocol::TCP, ("192.0.2.1", 40_000), ("10.3.0.4", 80));
    let inside = FlowKey { src: address("10.9.0.1"), ..outside };
    let open = FlowKey { dst: address("10.2.0.5"), dst_port: 8443, ..outside };
    assert_eq!(verdict(&config, &outside, BALANCED), (Access::Deny, String::new()));
    assert_eq!(verdict(&config, &outside, DIRECT), (Access::Allow, String::new()));
    assert_eq!(verdict(&config, &inside, BALANCED), (Access::Allow, String::new()));
    assert_eq!(verdict(&config, &open, BALANCED), (Access::Allow, "web-nsg/allow-https".to_owned()));
}

#[test]
fn with_a_floating_ip_the_backends_groups_are_asked() {
    let mut config = config();
    let packet = key(protocol::TCP, ("192.0.2.1", 40_000), ("203.0.113.10", 8443));
    let location = address("10.2.0.5");
    let decide = |config: &Config| {
        let policy = Policy::build(config, &mut Names::default());
        let decision = policy.decide_at(&packet, BALANCED, location);
        let trace = policy.trace_at(&packet, BALANCED, location);
        (decision.access, decision.rule.is_some(), trace.len())
    };
    // The rule names the backend, the packet still goes to the frontend.
    assert_eq!(decide(&config), (Access::Deny, true, 3));
    config.security_groups[0].rules[0].destination = vec![Endpoint::Prefix(prefix("203.0.113.10"))];
    assert_eq!(decide(&config), (Access::Allow, true, 4));
}

#[test]
fn icmp_is_each_familys_own_and_ports_are_not_compared() {
    let mut config = config();
    config.security_groups[0].rules.push(SecurityRule {
        protocol: RuleProtocol::Icmp,
        destination_ports: ports(7, 7),
        ..rule("ping", 110, Direction::Inbound, Access::Allow)
    });
    let v4 = key(protocol::ICMP, ("192.0.2.1", 77), ("10.2.0.6", 77));
    let v6 = key(protocol::ICMPV6, ("2001:db8::1", 77), ("fd00:2::6", 77));
    expect(&config, &v4, Access::Allow, "web-nsg/ping");
    expect(&config, &v6, Access::Allow, "web-nsg/ping");
    expect(&config, &FlowKey { protocol: protocol::ICMPV6, ..v4 }, Access::Deny, "web-nsg/DenyAllInBound");
    expect(&config, &FlowKey { protocol: protocol::ICMP, ..v6 }, Access::Deny, "web-nsg/DenyAllInBound");
}

#[test]
fn any_is_every_protocol_and_esp_and_ah_are_themselves() {
    let mut config = config();
    let packet = |protocol| key(protocol, ("192.0.2.1", 0), ("10.2.0.6", 0));
    for (rule_protocol, number) in [(RuleProtocol::Esp, 50), (RuleProtocol::Ah, 51)] {
        config.security_groups[0].rules[0] =
            SecurityRule { protocol: rule_protocol, ..rule("vpn", 100, Direction::Inbound, Access::Allow) };
        expect(&config, &packet(number), Access::Allow, "web-nsg/vpn");
        expect(&config, &packet(101 - number), Access::Deny, "web-nsg/DenyAllInBound");
    }
    config.security_groups[0].rules[0] = rule("all", 100, Direction::Inbound, Access::Allow);
    for number in [1, 6, 17, 47, 50, 51, 58, 132, 255] {
        expect(&config, &packet(number), Access::Allow, "web-nsg/all");
    }
}

#[test]
fn a_prefix_matches_its_own_family_only() {
    let mut config = config();
    let v4 = key(protocol::TCP, ("192.0.2.1", 1), ("10.2.0.6", 1));
    let v6 = key(protocol::TCP, ("2001:db8::1", 1), ("fd00:2::6", 1));
    let cases = [
        (Endpoint::Prefix(prefix("0.0.0.0/0")), [Access::Allow, Access::Deny]),
        (Endpoint::Prefix(prefix("::/0")), [Access::Deny, Access::Allow]),
        (Endpoint::Any, [Access::Allow, Access::Allow]),
    ];
    for (endpoint, expected) in cases {
        config.security_groups[0].rules[0] = SecurityRule {
            source: vec![endpoint.clone()],
            destination: vec![endpoint],
            ..rule("r", 100, Direction::Inbound, Access::Allow)
        };
        assert_eq!([&v4, &v6].map(|key| verdict(&config, key, DIRECT).0), expected);
    }
}

#[test]
fn each_group_that_flushes_judges_again_for_itself() {
    let mut config = config();
    let web = key(protocol::TCP, ("192.0.2.1", 40_000), ("10.2.0.4", 8443));
    // Whether the groups of the subnet and of the interface flush, and whether they still allow.
    let mut again = |flush: [bool; 2], allow: [bool; 2]| {
        for place in [0, 1] {
            config.security_groups[place].flush_connections = flush[place];
            let access = if allow[place] { Access::Allow } else { Access::Deny };
            config.security_groups[place].rules[0].access = access;
        }
        let mut names = Names::default();
        let decision = Policy::build(&config, &mut names).decide_again(&web, web.dst);
        decision.map(|d| {
            (d.access, d.rule.map(|id| names.rule_parts(id).unwrap().1.to_owned()).unwrap_or_default())
        })
    };
    let said = |access, rule: &str| Some((access, rule.to_owned()));
    for allow in [[true, true], [false, false], [true, false]] {
        assert_eq!(again([false, false], allow), None);
    }
    // The subnet's group alone: what the interface's says does not count, and its rule stays the flow's.
    assert_eq!(again([true, false], [true, false]), said(Access::Allow, ""));
    assert_eq!(again([true, false], [false, true]), said(Access::Deny, "allow-https"));
    // The interface's group alone, behind one that would deny.
    assert_eq!(again([false, true], [false, true]), said(Access::Allow, "allow-web"));
    assert_eq!(again([false, true], [false, false]), said(Access::Deny, "allow-web"));
    assert_eq!(again([true, true], [true, true]), said(Access::Allow, "allow-web"));
    assert_eq!(again([true, true], [true, false]), said(Access::Deny, "allow-web"));
}

#[test]
fn a_trace_names_every_level_and_what_nearly_matched() {
    let config = config();
    let policy = Policy::build(&config, &mut Names::default());
    let trace = policy.trace(&key(protocol::TCP, ("192.0.2.1", 40_000), ("10.2.0.4", 9000)), DIRECT);
    let levels: Vec<Level> = trace.iter().map(|t| t.level).collect();
    assert_eq!(levels, Level::ALL);
    assert_eq!((&trace[0].judgement, &trace[1].judgement), (&None, &None));
    let Some(subnet) = &trace[2].judgement else { panic!("{trace:?}") };
    assert_eq!((&*subnet.group, &*subnet.rule, subnet.priority), ("web-nsg", "allow-https", 100));
    let Some(interface) = &trace[3].judgement else { panic!("{trace:?}") };
    assert_eq!((&*interface.rule, interface.access), ("DenyAllInBound", Access::Deny));
    let near: Vec<_> = interface.near_misses.iter().map(|n| (&*n.rule, n.failed)).collect();
    let expected = [
        ("allow-web", RuleField::DestinationPorts),
        ("AllowVnetInBound", RuleField::Source),
        ("AllowAzureLoadBalancerInBound", RuleField::Source),
    ];
    assert_eq!(near, expected);
    let closed = policy.trace(&key(protocol::TCP, ("192.0.2.1", 1), ("10.3.0.4", 1)), BALANCED);
    assert_eq!(closed.iter().map(|t| t.closed_by_default).collect::<Vec<_>>(), [false, false, false, true]);
    assert!(trace.iter().all(|t| !t.closed_by_default));
}

#[test]
fn groups_guard_the_platform_by_its_own_tags_alone() {
    let mut config = config();
    let all = rule("deny-all", 100, Direction::Outbound, Access::Deny);
    config.security_groups[0].rules = vec![all.clone()];
    config.security_groups[1].rules = vec![SecurityRule { access: Access::Allow, ..all.clone() }];
    let to = |address| key(protocol::UDP, ("10.2.0.4", 40_000), (address, 53));
    for platform in ["168.63.129.16", "169.254.169.254"] {
        // The interface's group allows, and so it is named; the subnet's denies in vain.
        expect(&config, &to(platform), Access::Allow, "nic-nsg/deny-all");
        let from_second = FlowKey { src: address("10.2.0.5"), ..to(platform) };
        expect(&config, &from_second, Access::Allow, "");
        let policy = Policy::build(&config, &mut Names::default());
        let trace = policy.trace(&from_second, DIRECT);
        let said: Vec<_> = trace.iter().map(|t| (t.judgement.is_some(), t.to_platform)).collect();
        assert_eq!(said, [(false, false), (false, true), (false, false), (false, false)]);
    }
    expect(&config, &to("168.63.129.17"), Access::Deny, "web-nsg/deny-all");
    // What comes from the platform is judged like everything else.
    config.security_groups[0].rules = vec![rule("no-probes", 100, Direction::Inbound, Access::Deny)];
    let probe = key(protocol::TCP, ("168.63.129.16", 50_000), ("10.2.0.5", 80));
    expect(&config, &probe, Access::Deny, "web-nsg/no-probes");
    // A tag of the service's own counts, behind whatever else there is.
    let name = |name: &str, address| ServiceTag { name: name.into(), prefixes: vec![prefix(address)] };
    config.service_tags.push(name("azureplatformdns", "168.63.129.16"));
    let dns = SecurityRule {
        destination: vec![Endpoint::ServiceTag(1)],
        destination_ports: ports(53, 53),
        ..rule("no-dns", 300, Direction::Outbound, Access::Deny)
    };
    config.security_groups[0].rules = vec![SecurityRule { access: Access::Allow, ..all }, dns];
    expect(&config, &to("168.63.129.16"), Access::Deny, "web-nsg/no-dns");
    expect(&config, &to("169.254.169.254"), Access::Allow, "web-nsg/deny-all");
    let other = FlowKey { dst_port: 54, ..to("168.63.129.16") };
    expect(&config, &other, Access::Allow, "web-nsg/deny-all");
}

#[test]
fn route_prefixes_are_in_the_tag_and_nowhere_else() {
    let mut config = config();
    let mut web = |prefixes: &[&str]| {
        config.virtual_network.route_prefixes = prefixes.iter().map(|text| prefix(text)).collect();
        let from = key(protocol::TCP, ("192.0.2.1", 1), ("10.2.0.6", 1));
        let closed = key(protocol::TCP, ("192.0.2.1", 1), ("10.3.0.4", 1));
        let out = key(protocol::TCP, ("10.2.0.6", 1), ("192.0.2.1", 1));
        [
            verdict(&config, &from, DIRECT).1,
            verdict(&config, &closed, BALANCED).0.to_string(),
            verdict(&config, &out, DIRECT).1,
        ]
    };
    assert_eq!(web(&[]), ["web-nsg/DenyAllInBound", "deny", "web-nsg/AllowInternetOutBound"]);
    assert_eq!(web(&["192.0.2.0/24"]), ["web-nsg/AllowVnetInBound", "deny", "web-nsg/AllowVnetOutBound"]);
    assert_eq!(web(&["0.0.0.0/0"]), ["web-nsg/AllowVnetInBound", "deny", "web-nsg/AllowVnetOutBound"]);
}

// ---- against the oracle ------------------------------------------------------------------------------------------

const PREFIXES: [&str; 10] = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.2.0.0/24",
    "10.2.0.4/32",
    "10.2.0.0/31",
    "fd00::/8",
    "fd00:2::4/128",
    "192.0.2.0/28",
    "128.0.0.0/1",
];
const ADDRESSES: [&str; 17] = [
    "10.2.0.4",
    "10.2.0.5",
    "10.2.0.0",
    "10.2.0.255",
    "10.3.0.4",
    "10.255.255.255",
    "11.0.0.0",
    "192.0.2.1",
    "192.0.2.16",
    "168.63.129.16",
    "169.254.169.254",
    "127.255.255.255",
    "198.51.100.7",
    "fd00:2::4",
    "fd00:2::5",
    "2001:db8::1",
    "fe00::",
];
const PORTS: [u16; 7] = [0, 1, 22, 53, 8443, 9000, 65_535];

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        3 => Just(Endpoint::Any),
        5 => prop::sample::select(&PREFIXES[..]).prop_map(|p| Endpoint::Prefix(prefix(p))),
        1 => Just(Endpoint::VirtualNetwork),
        1 => Just(Endpoint::AzureLoadBalancer),
        1 => Just(Endpoint::Internet),
        1 => Just(Endpoint::ServiceTag(0)),
        1 => Just(Endpoint::ServiceTag(1)),
        1 => Just(Endpoint::ApplicationSecurityGroup(0)),
    ]
}

fn any_ports() -> impl Strategy<Value = Vec<PortRange>> {
    let some = prop::sample::subsequence(&PORTS[..], 1..5).prop_map(|bounds| {
        let pair = |pair: &[u16]| PortRange { first: pair[0], last: pair[pair.len() - 1] };
        bounds.chunks(2).map(pair).rev().collect::<Vec<_>>()
    });
    prop_oneof![Just(ports(0, u16::MAX)), some]
}

fn any_protocol() -> impl Strategy<Value = RuleProtocol> {
    use RuleProtocol::{Ah, Any, Esp, Icmp, Tcp, Udp};
    prop::sample::select(vec![Tcp, Tcp, Udp, Icmp, Esp, Ah, Any, Any])
}

fn any_group(name: &'static str) -> impl Strategy<Value = SecurityGroup> {
    let endpoints = || prop::collection::vec(any_endpoint(), 1..4);
    let rule = || (any::<[bool; 2]>(), any_protocol(), endpoints(), any_ports(), endpoints(), any_ports());
    // Some groups are large enough for tables in each direction.
    let few_or_many =
        prop_oneof![3 => prop::collection::vec(rule(), 0..12), 1 => prop::collection::vec(rule(), 60..70)];
    let rules = few_or_many.prop_map(|parts| {
        let numbered = parts.into_iter().zip(100u16..);
        numbered
            .map(|(([inbound, allow], protocol, source, source_ports, destination, destination_ports), n)| {
                SecurityRule {
                    name: format!("r{n}"),
                    // Not in the order of the list, and unique.
                    priority: 100 + (n * 37) % 101,
                    direction: if inbound { Direction::Inbound } else { Direction::Outbound },
                    access: if allow { Access::Allow } else { Access::Deny },
                    protocol,
                    source,
                    source_ports,
                    destination,
                    destination_ports,
                }
            })
            .collect()
    });
    (rules, any::<bool>()).prop_map(move |(rules, flush_connections)| SecurityGroup {
        name: name.to_owned(),
        flush_connections,
        rules,
    })
}

fn any_config() -> impl Strategy<Value = Config> {
    let attached = || prop::option::weighted(0.7, (0usize..2).prop_map(GroupIndex));
    (any_group("a"), any_group("b"), attached(), attached(), attached(), attached(), any::<bool>()).prop_map(
        |(a, b, web, db, nic, other, space)| {
            let mut config = config();
            config.security_groups = vec![a, b];
            let platform = ["168.63.129.16/32", "169.254.169.254/32"].map(prefix).to_vec();
            config.service_tags.push(ServiceTag { name: "AzurePlatformDNS".into(), prefixes: platform });
            config.virtual_network.route_prefixes = vec![prefix("192.0.2.0/28")];
            config.virtual_network.subnets[0].security_group = web;
            config.virtual_network.subnets[1].security_group = db;
            config.virtual_network.interfaces[0].security_group = nic;
            config.virtual_network.interfaces[1].security_group = other;
            if !space {
                config.virtual_network.address_space = vec![prefix("10.2.0.0/24"), prefix("::/0")];
            }
            config
        },
    )
}

fn any_key() -> impl Strategy<Value = FlowKey> {
    let end = || (prop::sample::select(&ADDRESSES[..]), prop::sample::select(&PORTS[..]));
    let protocol = prop::sample::select(vec![6u8, 6, 6, 17, 17, 1, 58, 50, 51, 47]);
    (protocol, end(), end()).prop_map(|(protocol, from, to)| key(protocol, from, to))
}

#[test]
fn compiled_groups_decide_like_the_oracle() {
    let mut hits = std::collections::BTreeMap::<&str, u32>::new();
    let strategy = (any_config(), prop::collection::vec((any_key(), any::<bool>(), any::<bool>()), 64));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    let seen = std::cell::RefCell::new(&mut hits);
    runner
        .run(&strategy, |(config, keys)| {
            let mut names = Names::default();
            let policy = Policy::build(&config, &mut names);
            for (key, load_balanced, floating) in keys {
                let context = Context { load_balanced };
                let location = if floating { address("10.2.0.4") } else { key.dst };
                let decision = policy.decide_at(&key, context, location);
                let expected = oracle::decide(&config, &mut names, &key, context, location);
                prop_assert_eq!(decision, expected, "{:?}", key);
                let last = policy.trace_at(&key, context, location).pop().unwrap();
                let traced = match last.judgement {
                    _ if last.closed_by_default => Some(Access::Deny),
                    judgement => judgement.map(|j| j.access),
                };
                prop_assert!(traced.is_none_or(|access| access == decision.access));
                let rule = decision.rule.map(|id| names.rule_parts(id).unwrap().1.starts_with('r'));
                let kind = match (decision.access, rule) {
                    (Access::Allow, Some(true)) => "allowed by a rule",
                    (Access::Allow, Some(false)) => "allowed by a default rule",
                    (Access::Allow, None) => "no group",
                    (Access::Deny, Some(true)) => "denied by a rule",
                    (Access::Deny, Some(false)) => "denied by a default rule",
                    (Access::Deny, None) => "closed by default",
                };
                *seen.borrow_mut().entry(kind).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(hits.len(), 6, "{hits:?}");
    assert!(hits.values().all(|count| *count >= 200), "the generator has gone inert: {hits:?}");
}

#[test]
fn compiled_rules_classify_like_linear_ones() {
    let (matched, defaulted) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let strategy = (any_config(), prop::collection::vec(any_key(), 64));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(&strategy, |(config, keys)| {
            let policy = Policy::build(&config, &mut Names::default());
            for (group, compiled) in config.security_groups.iter().zip(&policy.groups) {
                for direction in [Direction::Inbound, Direction::Outbound] {
                    let linear = LinearRules::new(&config, group, direction);
                    for key in &keys {
                        let place = compiled.rules(direction).classify(key);
                        prop_assert_eq!(place, linear.classify(key));
                        let own = place.is_some_and(|p| linear.rules[p].priority < 65_000);
                        let counter = if own { &matched } else { &defaulted };
                        counter.set(counter.get() + 1);
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(matched.get() >= 5000 && defaulted.get() >= 5000, "inert: {matched:?} {defaulted:?}");
}

/// What is done to a rule of a group, both modulo their number.
#[derive(Clone, Debug)]
enum Change {
    Remove,
    Turn,
    Ports(Vec<PortRange>),
    Source(Endpoint),
    Add(u16, Endpoint),
}

fn any_change() -> impl Strategy<Value = (usize, usize, Change)> {
    let change = prop_oneof![
        Just(Change::Remove),
        Just(Change::Turn),
        any_ports().prop_map(Change::Ports),
        any_endpoint().prop_map(Change::Source),
        (201u16..4000, any_endpoint()).prop_map(|(priority, source)| Change::Add(priority, source)),
        (1u16..100, any_endpoint()).prop_map(|(priority, source)| Change::Add(priority, source)),
    ];
    (0usize..2, 0usize..100, change)
}

fn make(config: &mut Config, (group, rule, change): (usize, usize, Change)) {
    let rules = &mut config.security_groups[group].rules;
    if rules.is_empty() {
        return;
    }
    let place = rule % rules.len();
    match change {
        Change::Remove => {
            rules.remove(place);
        }
        Change::Turn => {
            let access = rules[place].access;
            rules[place].access = if access == Access::Allow { Access::Deny } else { Access::Allow };
        }
        Change::Ports(ports) => rules[place].destination_ports = ports,
        Change::Source(source) => rules[place].source = vec![source],
        Change::Add(priority, source) => {
            if rules.iter().all(|rule| rule.priority != priority) {
                let name = format!("r{priority}");
                rules.push(SecurityRule { name, priority, source: vec![source], ..rules[place].clone() });
            }
        }
    }
}

#[test]
fn what_is_taken_over_decides_like_what_is_built_anew() {
    let (changed, shared) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let steps = prop::collection::vec(prop::collection::vec(any_change(), 0..6), 1..6);
    let strategy = (any_config(), steps, prop::collection::vec((any_key(), any::<bool>()), 48));
    TestRunner::new(ProptestConfig::with_cases(200))
        .run(&strategy, |(mut config, steps, keys)| {
            let mut names = Names::default();
            let mut policy = Policy::build(&config, &mut names);
            for changes in steps {
                let before =
                    config.security_groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>();
                changes.into_iter().for_each(|change| make(&mut config, change));
                let next = Policy::build_after(Some(&policy), &config, &mut names);
                let anew = Policy::build(&config, &mut names);
                for (key, load_balanced) in &keys {
                    let context = Context { load_balanced: *load_balanced };
                    prop_assert_eq!(next.decide(key, context), anew.decide(key, context), "{:?}", key);
                    prop_assert_eq!(next.trace(key, context), anew.trace(key, context), "{:?}", key);
                }
                for (place, group) in next.groups.iter().enumerate() {
                    for direction in [Direction::Inbound, Direction::Outbound] {
                        let (new, old) = (group.rules(direction), policy.groups[place].rules(direction));
                        let is_shared = new.shares_tables(old);
                        let is_same = before[place] == format!("{:?}", config.security_groups[place]);
                        prop_assert!(is_shared || !is_same, "an unchanged group is compiled anew");
                        shared.set(shared.get() + u32::from(is_shared));
                        changed.set(changed.get() + u32::from(new.changes() > old.changes()));
                    }
                }
                policy = next;
            }
            Ok(())
        })
        .unwrap();
    assert!(shared.get() > 500 && changed.get() > 100, "inert: {shared:?} {changed:?}");
}
