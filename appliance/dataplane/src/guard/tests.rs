//! Every drop has a twin that passes and differs in one thing.

use super::*;
use crate::addr::Family;
use crate::wire::{Cast, FlowKey, Transport, protocol};
use nva_config::{Driver, Frontend, InterfaceAddress, LoadBalancer, Port};

const UNTRUSTED: PortId = PortId(0);
const TRUSTED: PortId = PortId(1);

fn address(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| Prefix::parse(text).unwrap()).collect()
}

fn port(name: &str, trust: Trust, addresses: &[(&str, &str)]) -> Port {
    let owned = |(address, prefix): &(&str, &str)| InterfaceAddress {
        address: address.parse().unwrap(),
        prefix: Prefix::parse(prefix).unwrap(),
    };
    Port {
        name: name.into(),
        driver: Driver::AfPacket,
        device: name.into(),
        mtu: 1500,
        addresses: addresses.iter().map(owned).collect(),
        trust,
        host_services: None,
        vxlan: None,
    }
}

fn config() -> Config {
    let ports = vec![
        port(
            "untrusted",
            Trust::Untrusted,
            &[("203.0.113.1", "203.0.113.0/24"), ("2001:db8:113::1", "2001:db8:113::/64")],
        ),
        port("trusted", Trust::Trusted, &[("10.2.0.1", "10.2.0.0/24"), ("172.16.0.1", "172.16.0.0/31")]),
    ];
    let mut config = Config { ports, ..Config::default() };
    config.virtual_network.address_space = prefixes(&["10.0.0.0/8", "fd00::/8"]);
    config.load_balancers = vec![LoadBalancer {
        name: "public".into(),
        frontends: vec![Frontend { name: "vip".into(), address: "203.0.113.10".parse().unwrap() }],
        pools: vec![],
        probes: vec![],
        rules: vec![],
        inbound_nat: vec![],
        outbound: vec![],
    }];
    config.protection.allowlist = prefixes(&["198.18.7.0/24"]);
    config.protection.blocklist = prefixes(&["198.18.0.0/15", "2001:db8:bad::/48"]);
    config
}

fn udp(from: (&str, u16), to: (&str, u16)) -> Packet {
    let key = FlowKey {
        src: address(from.0),
        dst: address(to.0),
        src_port: from.1,
        dst_port: to.1,
        protocol: protocol::UDP,
    };
    Packet {
        key,
        family: if key.src.as_v4().is_some() { Family::V4 } else { Family::V6 },
        cast: Cast::Unicast,
        ttl: 64,
        dont_fragment: true,
        l3: 14,
        l4: 34,
        payload: 42,
        payload_end: 50,
        end: 50,
        fragment: None,
        transport: Transport::Udp,
    }
}

/// The lab's routes: the virtual network behind the trusted port, everything else behind the untrusted one.
fn route(source: Addr) -> Option<NextHop> {
    let inside =
        PrefixSet::from_prefixes(&prefixes(&["10.0.0.0/8", "fd00::/8", "172.16.0.0/31"])).contains(source);
    let nowhere = PrefixSet::from_prefixes(&prefixes(&["198.51.100.0/24"])).contains(source);
    (!nowhere).then_some(NextHop { port: if inside { TRUSTED } else { UNTRUSTED }, gateway: None })
}

fn check_in(config: &Config, port: PortId, packet: &Packet, payload: &[u8]) -> Result<(), DropReason> {
    let trust = config.ports[port.index()].trust;
    Guard::build(config).check(packet, payload, port, trust, route(packet.key.src))
}

fn from_outside(source: &str, destination: &str) -> Result<(), DropReason> {
    check_in(&config(), UNTRUSTED, &udp((source, 1000), (destination, 2000)), &[])
}

fn from_inside(source: &str, destination: &str) -> Result<(), DropReason> {
    check_in(&config(), TRUSTED, &udp((source, 1000), (destination, 2000)), &[])
}

const SPOOFED: Result<(), DropReason> = Err(DropReason::Spoofed);
const NO_ROUTE: Result<(), DropReason> = Err(DropReason::NoRoute);

#[test]
fn impossible_sources_at_both_ends_of_their_ranges() {
    let mut config = config();
    // The reverse path must not be what finds them.
    config.protection.anti_spoofing = AntiSpoofing::Off;
    let cases = [
        ("0.255.255.255", SPOOFED),
        ("1.0.0.0", Ok(())),
        ("126.255.255.255", Ok(())),
        ("127.0.0.0", SPOOFED),
        ("127.255.255.255", SPOOFED),
        ("128.0.0.0", Ok(())),
        ("223.255.255.255", Ok(())),
        ("224.0.0.0", SPOOFED),
        ("239.255.255.255", SPOOFED),
        ("240.0.0.0", SPOOFED),
        ("255.255.255.255", SPOOFED),
        ("0.0.0.0", SPOOFED),
        ("169.253.255.255", Ok(())),
        ("169.254.0.0", NO_ROUTE),
        ("169.255.0.0", Ok(())),
    ];
    for (source, expected) in cases {
        let packet = udp((source, 1000), ("192.0.2.1", 2000));
        assert_eq!(check_in(&config, UNTRUSTED, &packet, &[]), expected, "{source}");
        assert_eq!(check_in(&config, TRUSTED, &packet, &[]), expected, "{source}");
    }
    let cases = [
        ("::", SPOOFED),
        ("::1", SPOOFED),
        ("::2", Ok(())),
        ("2001:db8::1", Ok(())),
        ("fe7f::1", Ok(())),
        ("fe80::1", NO_ROUTE),
        ("febf::1", NO_ROUTE),
        ("fec0::1", Ok(())),
        ("ff00::", SPOOFED),
        ("ff02::1", SPOOFED),
    ];
    for (source, expected) in cases {
        let packet = udp((source, 1000), ("2001:db8:9::1", 2000));
        assert_eq!(check_in(&config, UNTRUSTED, &packet, &[]), expected, "{source}");
    }
}

#[test]
fn destinations_that_are_never_forwarded_to() {
    let destinations = [
        ("0.0.0.0", NO_ROUTE),
        ("1.0.0.0", Ok(())),
        ("127.0.0.1", NO_ROUTE),
        ("224.0.0.1", NO_ROUTE),
        ("240.0.0.1", NO_ROUTE),
        ("255.255.255.255", NO_ROUTE),
        ("169.254.169.254", NO_ROUTE),
        ("10.2.0.255", NO_ROUTE),
        ("10.2.0.254", Ok(())),
        ("10.2.1.255", Ok(())),
        // A link of two addresses has no broadcast.
        ("172.16.0.1", Ok(())),
    ];
    for (destination, expected) in destinations {
        assert_eq!(from_outside("192.0.2.1", destination), expected, "{destination}");
    }
    for (destination, expected) in [
        ("::", NO_ROUTE),
        ("::1", NO_ROUTE),
        ("fe80::1", NO_ROUTE),
        ("ff05::2", NO_ROUTE),
        ("fd00::1", Ok(())),
    ] {
        assert_eq!(from_outside("2001:db8::1", destination), expected, "{destination}");
    }
}

#[test]
fn land_packets_whatever_their_ports() {
    let land = |port| check_in(&config(), UNTRUSTED, &udp(("192.0.2.1", 1000), ("192.0.2.1", port)), &[]);
    assert_eq!([land(1000), land(2000)], [SPOOFED; 2]);
    assert_eq!(from_outside("192.0.2.1", "192.0.2.2"), Ok(()));
}

#[test]
fn own_addresses_and_frontends_come_from_nowhere() {
    let mut config = config();
    config.protection.anti_spoofing = AntiSpoofing::Off;
    config.virtual_network.address_space.clear();
    for (source, expected) in [
        ("203.0.113.1", SPOOFED),
        ("203.0.113.10", SPOOFED),
        ("10.2.0.1", SPOOFED),
        ("172.16.0.1", SPOOFED),
        ("203.0.113.2", Ok(())),
        ("203.0.113.11", Ok(())),
        ("10.2.0.2", Ok(())),
    ] {
        let packet = udp((source, 1000), ("192.0.2.1", 2000));
        assert_eq!(check_in(&config, UNTRUSTED, &packet, &[]), expected, "{source}");
        assert_eq!(check_in(&config, TRUSTED, &packet, &[]), expected, "{source}");
    }
}

#[test]
fn virtual_network_sources_never_enter_from_outside() {
    for mode in [AntiSpoofing::Off, AntiSpoofing::Loose, AntiSpoofing::Strict] {
        let mut config = config();
        config.protection.anti_spoofing = mode;
        for (source, destination) in [("10.9.0.1", "10.2.0.4"), ("fd00:9::1", "fd00:2::4")] {
            let packet = udp((source, 1000), (destination, 2000));
            assert_eq!(check_in(&config, UNTRUSTED, &packet, &[]), SPOOFED, "{mode:?}");
            assert_eq!(check_in(&config, TRUSTED, &packet, &[]), Ok(()), "{mode:?}");
        }
    }
}

#[test]
fn the_reverse_path_check_in_its_three_modes() {
    // Routed through the other port; routed nowhere; routed through this port.
    let sources = ["192.0.2.1", "198.51.100.1", "172.16.0.0"];
    let modes = [
        (AntiSpoofing::Strict, [SPOOFED, SPOOFED, Ok(())]),
        (AntiSpoofing::Loose, [Ok(()), SPOOFED, Ok(())]),
        (AntiSpoofing::Off, [Ok(()), Ok(()), Ok(())]),
    ];
    for (mode, expected) in modes {
        let mut config = config();
        config.protection.anti_spoofing = mode;
        let check = |source| check_in(&config, TRUSTED, &udp((source, 1000), ("10.3.0.4", 2000)), &[]);
        assert_eq!(sources.map(check), expected, "{mode:?}");
    }
}

#[test]
fn nobody_but_the_platform_sends_from_its_address() {
    let mut config = config();
    for mode in [AntiSpoofing::Off, AntiSpoofing::Loose, AntiSpoofing::Strict] {
        config.protection.anti_spoofing = mode;
        let probe = udp(("168.63.129.16", 1000), ("10.2.0.4", 2000));
        assert_eq!(
            check_in(&config, UNTRUSTED, &probe, &[]),
            Ok(()),
            "{mode:?}: where the route to it leads"
        );
        assert_eq!(check_in(&config, TRUSTED, &probe, &[]), SPOOFED, "{mode:?}");
        // A load balancer on this side probes the appliance itself.
        let own = udp(("168.63.129.16", 1000), ("10.2.0.1", 2000));
        let expected = if mode == AntiSpoofing::Strict { SPOOFED } else { Ok(()) };
        assert_eq!(check_in(&config, TRUSTED, &own, &[]), expected, "{mode:?}");
        let other = udp(("168.63.129.17", 1000), ("10.2.0.4", 2000));
        let expected = if mode == AntiSpoofing::Strict { SPOOFED } else { Ok(()) };
        assert_eq!(check_in(&config, TRUSTED, &other, &[]), expected, "{mode:?}");
    }
}

#[test]
fn the_allowlist_skips_the_blocklist_and_nothing_else() {
    let blocked = Err(DropReason::Blocklisted);
    assert_eq!(from_outside("198.18.0.1", "10.2.0.4"), blocked);
    assert_eq!(from_outside("198.19.255.255", "10.2.0.4"), blocked);
    assert_eq!(from_outside("198.20.0.0", "10.2.0.4"), Ok(()));
    assert_eq!(from_outside("2001:db8:bad::1", "fd00:2::4"), blocked);
    assert_eq!(from_outside("2001:db8:bae::1", "fd00:2::4"), Ok(()));
    assert_eq!(from_outside("198.18.7.1", "10.2.0.4"), Ok(()));
    // Allowed, but not from there.
    assert_eq!(from_inside("198.18.7.1", "10.2.0.4"), SPOOFED);
    // The blocklist comes before the reverse path.
    assert_eq!(from_inside("198.18.0.1", "10.2.0.4"), blocked);
}

#[test]
fn ntp_keeps_time_and_does_nothing_else() {
    let check =
        |config: &Config, port, packet: &Packet, mode: u8| check_in(config, port, packet, &[0x18 | mode]);
    let request = udp(("192.0.2.1", 40_000), ("10.2.0.4", 123));
    let answer = udp(("192.0.2.1", 123), ("10.2.0.4", 40_000));
    let other = udp(("192.0.2.1", 124), ("10.2.0.4", 122));
    let amplification = Err(DropReason::Amplification);
    for mode in 0..8 {
        let expected = if mode >= 6 { amplification } else { Ok(()) };
        assert_eq!(check(&config(), UNTRUSTED, &request, mode), expected, "mode {mode}");
        assert_eq!(check(&config(), UNTRUSTED, &answer, mode), expected, "mode {mode}");
        assert_eq!(check(&config(), UNTRUSTED, &other, mode), Ok(()), "mode {mode}");
    }
    assert_eq!(check_in(&config(), UNTRUSTED, &request, &[]), Ok(()));
    let inside = udp(("10.3.0.1", 123), ("10.2.0.4", 123));
    assert_eq!(check(&config(), TRUSTED, &inside, 7), Ok(()));
    let tcp = Packet {
        key: FlowKey { protocol: protocol::TCP, ..request.key },
        transport: Transport::Other,
        ..request
    };
    assert_eq!(check(&config(), UNTRUSTED, &tcp, 7), Ok(()));
    let mut off = config();
    off.protection.amplification.block_ntp_monlist = false;
    assert_eq!(check(&off, UNTRUSTED, &request, 7), Ok(()));
}

#[test]
fn memcached_is_not_heard_from_outside() {
    let check = |config: &Config, port, from, to| check_in(config, port, &udp(from, to), b"stats");
    let amplification = Err(DropReason::Amplification);
    assert_eq!(check(&config(), UNTRUSTED, ("192.0.2.1", 11_211), ("10.2.0.4", 4000)), amplification);
    assert_eq!(check(&config(), UNTRUSTED, ("192.0.2.1", 4000), ("10.2.0.4", 11_211)), amplification);
    assert_eq!(check(&config(), UNTRUSTED, ("192.0.2.1", 11_210), ("10.2.0.4", 11_212)), Ok(()));
    assert_eq!(check(&config(), TRUSTED, ("10.3.0.1", 11_211), ("10.2.0.4", 4000)), Ok(()));
    let mut off = config();
    off.protection.amplification.block_memcached = false;
    assert_eq!(check(&off, UNTRUSTED, ("192.0.2.1", 11_211), ("10.2.0.4", 4000)), Ok(()));
}

/// What is known of a source beforehand refuses what the whole check refuses, in whichever port it comes and however ports are checked.
#[test]
fn a_standing_says_what_the_check_says() {
    let sources = [
        "0.0.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "169.254.1.1",
        "168.63.129.16",
        "203.0.113.1",
        "203.0.113.10",
        "203.0.113.255",
        "203.0.113.9",
        "10.2.0.1",
        "10.2.0.255",
        "10.200.0.1",
        "172.16.0.0",
        "198.18.0.1",
        "198.18.7.1",
        "198.51.100.1",
        "8.8.8.8",
    ];
    for mode in [AntiSpoofing::Strict, AntiSpoofing::Loose, AntiSpoofing::Off] {
        let mut config = config();
        config.protection.anti_spoofing = mode;
        let guard = Guard::build(&config);
        let frontend = address("203.0.113.10");
        assert!(
            guard.takes(frontend)
                && !guard.takes(address("203.0.113.255"))
                && !guard.takes(address("8.8.8.8"))
        );
        for (source, port) in sources.iter().flat_map(|source| [(source, UNTRUSTED), (source, TRUSTED)]) {
            let trust = config.ports[port.index()].trust;
            let packet = udp((source, 1000), ("203.0.113.10", 443));
            let route = route(packet.key.src);
            let standing = guard.standing(packet.key.src, route);
            let expected = guard.check(&packet, &[], port, trust, route);
            assert_eq!(
                guard.check_standing(standing, port, trust),
                expected,
                "{source} by {port:?}, {mode:?}"
            );
        }
    }
}
