//! Load balancing: to a backend and back, who gets what, and what is refused.

use crate::ends::{BOTH, Ends, V4, V6, at, group, rule};
use nva_tests::packet::{Packet, echo, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::network;
use nva_tests::script::{Expect, Script, drops, forwards};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ALLOW: &str = "web-nsg/allow";

/// A load balancer with a frontend of each family and these pools and rules.
fn balancer(pools: &str, rest: &str) -> String {
    format!(
        "load_balancers:\n  - name: public\n    frontends:\n      - {{name: vip, address: 203.0.113.10}}\n      \
         - {{name: vip6, address: \"2001:db8:113::10\"}}\n    pools:\n{pools}{rest}"
    )
}

const ONE_EACH: &str = "      - {name: four, backends: [{name: web-1, address: 10.2.0.4}]}\n      \
                        - {name: six, backends: [{name: web-6, address: \"fd00:2::4\"}]}\n";
const TWO_EACH: &str = "      - {name: four, backends: [{name: web-1, address: 10.2.0.4}, {name: web-2, address: 10.2.0.5}]}\n      \
                        - {name: six, backends: [{name: web-6, address: \"fd00:2::4\"}, {name: web-7, address: \"fd00:2::5\"}]}\n";

/// The same rule for both frontends.
fn service(protocol: &str, port: u16, backend_port: u16, more: &str) -> String {
    let one = |name: &str, frontend: &str, pool: &str| {
        format!(
            "      - {{name: {name}-{protocol}-{port}, frontend: {frontend}, protocol: {protocol}, port: {port}, pool: {pool}, \
             backend_port: {backend_port}, syn_proxy: off{more}}}\n"
        )
    };
    format!("{}{}", one("four", "vip", "four"), one("six", "vip6", "six"))
}

fn allow_all() -> String {
    group(&[rule("allow", 100, "inbound", "allow", "any", r#"["*"]"#)])
}

fn web() -> String {
    let rules = format!("    rules:\n{}{}", service("tcp", 443, 8443, ""), service("udp", 53, 5353, ""));
    network(&format!("{}{}", allow_all(), balancer(ONE_EACH, &rules)))
}

fn backend(ends: Ends) -> &'static str {
    ends.either("web-1", "web-6")
}

fn in_to(packet: &Packet, server: &str, ends: Ends) -> Expect {
    forwards(Trusted, &packet.clone().to(server).hop()).rule(ALLOW).backend(backend(ends))
}

fn out_from(packet: &Packet, frontend: &str, ends: Ends) -> Expect {
    forwards(Untrusted, &packet.clone().from(frontend).hop()).rule(ALLOW).backend(backend(ends))
}

#[test]
fn a_connection_there_and_back() {
    for ends in BOTH {
        let (client, vip, server) = (ends.client(40_000), at(ends.frontend, 443), ends.server(8443));
        let mut script = Script::new("TCP", &web());
        let goes = |script: &mut Script, packet: Packet| {
            script.send(Untrusted, &packet, in_to(&packet, &server, ends));
        };
        let comes = |script: &mut Script, packet: Packet| {
            script.send(Trusted, &packet, out_from(&packet, &vip, ends));
        };
        let options = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
        goes(&mut script, tcp(&client, &vip).syn(1000).tcp_options(&options));
        comes(&mut script, tcp(&server, &client).ack(5000, 1001).syn(5000).tcp_options(&options));
        goes(&mut script, tcp(&client, &vip).ack(1001, 5001));
        goes(
            &mut script,
            tcp(&client, &vip).ack(1001, 5001).data(b"a request of odd length").traffic_class(0x2e),
        );
        comes(&mut script, tcp(&server, &client).ack(5001, 1024).data(&[0xff; 1400]).id(9));
        goes(&mut script, tcp(&client, &vip).ack(1024, 6401).fin());
        comes(&mut script, tcp(&server, &client).ack(6401, 1025).fin());
        goes(&mut script, tcp(&client, &vip).ack(1025, 6402));
        script.run();
    }
}

#[test]
fn datagrams_there_and_back() {
    for ends in BOTH {
        let (client, vip, server) = (ends.client(7), at(ends.frontend, 53), ends.server(5353));
        let mut script = Script::new("UDP", &web());
        for data in [&b""[..], b"x", b"question", &[0; 100], &[0xff; 101]] {
            let ask = udp(&client, &vip).data(data);
            script.send(Untrusted, &ask, in_to(&ask, &server, ends));
            let answer = udp(&server, &client).data(data);
            script.send(Trusted, &answer, out_from(&answer, &vip, ends));
        }
        if ends.v4 {
            let ask = udp(&client, &vip).without_checksum();
            script.send(Untrusted, &ask, in_to(&ask, &server, ends));
        }
        script.run();
    }
}

#[test]
fn checksums_that_come_out_as_zero() {
    // A checksum of 0 is sent as 0xffff (RFC 768); the data is chosen so that the translated datagram's is just that.
    for ends in BOTH {
        let (client, vip, server) = (ends.client(7), at(ends.frontend, 53), ends.server(5353));
        let translated = |word: u16| udp(&client, &server).data(&word.to_be_bytes());
        let word = (0..=u16::MAX).find(|&word| translated(word).segment_bytes()[6..8] == [0xff; 2]);
        let word = word.expect("one word makes it so");
        let mut script = Script::new("zero is written as all ones", &web());
        let ask = udp(&client, &vip).data(&word.to_be_bytes());
        script.send(Untrusted, &ask, in_to(&ask, &server, ends));
        script.run();
    }
}

#[test]
fn fragments_follow_their_first_to_its_backend() {
    for ends in BOTH {
        let (client, vip, server) = (ends.client(7), at(ends.frontend, 53), ends.server(5353));
        let whole = udp(&client, &vip).data(&[b'f'; 60]);
        let (came, sent) = (whole.fragments(&[24, 24]), whole.clone().to(&server).hop().fragments(&[24, 24]));
        let expect = |place: usize| forwards(Trusted, &sent[place]).rule(ALLOW).backend(backend(ends));
        let mut script = Script::new("translated fragments", &web());
        script.send(Untrusted, &came[2], nva_tests::script::holds().forwarded_later());
        script.send(Untrusted, &came[0], expect(0).and(Trusted, &sent[2]));
        script.send(Untrusted, &came[1], expect(1));
        script.run();
    }
}

#[test]
fn what_nothing_listens_to() {
    for ends in BOTH {
        let mut script = Script::new("L-14, L-15: refused without a rule", &web());
        let vip = |port| at(ends.frontend, port);
        script.send(Untrusted, &tcp(&ends.client(7), &vip(444)).syn(1), drops("denied_by_rule"));
        script.send(Untrusted, &udp(&ends.client(7), &vip(443)), drops("denied_by_rule"));
        script.send(Untrusted, &echo(ends.client, ends.frontend, 7), drops("denied_by_rule"));
        let syn = tcp(&ends.client(7), &vip(443)).syn(1);
        script.send(Untrusted, &syn, in_to(&syn, &ends.server(8443), ends));
        script.run();
    }
}

#[test]
fn a_backend_that_is_down() {
    let rules = format!("    rules:\n{}", service("tcp", 443, 8443, ""));
    let config = network(&format!("{}{}", allow_all(), balancer(TWO_EACH, &rules)));
    for ends in BOTH {
        let [first, second] = ends.either(["web-1", "web-2"], ["web-6", "web-7"]);
        for (down, up, address) in [(first, second, ends.second), (second, first, ends.server)] {
            let mut script = Script::new("all go to the other one", &config);
            script.down(down);
            for port in 1..20 {
                let syn = tcp(&ends.client(port), &at(ends.frontend, 443)).syn(1);
                let sent = syn.clone().to(&at(address, 8443)).hop();
                script.send(Untrusted, &syn, forwards(Trusted, &sent).rule(ALLOW).backend(up));
            }
            script.run();
        }
        let mut script = Script::new("no_healthy_backends: down is the default", &config);
        script.down(first).down(second);
        let syn = tcp(&ends.client(7), &at(ends.frontend, 443)).syn(1);
        script.send(Untrusted, &syn, drops("no_healthy_backend"));
        script.run();
    }
}

#[test]
fn no_healthy_backends_up_tries_them_all() {
    let rules = format!("    rules:\n{}", service("tcp", 443, 8443, ""));
    let pools = ONE_EACH.replace("backends:", "no_healthy_backends: up, backends:");
    let config = network(&format!("{}{}", allow_all(), balancer(&pools, &rules)));
    for ends in BOTH {
        let mut script = Script::new("no_healthy_backends: up", &config);
        script.down(backend(ends));
        let syn = tcp(&ends.client(7), &at(ends.frontend, 443)).syn(1);
        script.send(Untrusted, &syn, in_to(&syn, &ends.server(8443), ends));
        script.run();
    }
}

#[test]
fn the_operators_word_counts_more_than_health() {
    let rules = format!("    rules:\n{}", service("tcp", 443, 8443, ""));
    for (state, down, passes) in
        [("down", None, false), ("up", Some("web-1"), true), ("none", Some("web-1"), false)]
    {
        let pools =
            ONE_EACH.replace("address: 10.2.0.4", &format!("address: 10.2.0.4, admin_state: {state}"));
        let mut script =
            Script::new(state, &network(&format!("{}{}", allow_all(), balancer(&pools, &rules))));
        if let Some(down) = down {
            script.down(down);
        }
        let syn = tcp(&V4.client(7), "203.0.113.10:443").syn(1);
        let expect = if passes { in_to(&syn, "10.2.0.4:8443", V4) } else { drops("no_healthy_backend") };
        script.send(Untrusted, &syn, expect);
        script.run();
    }
}

#[test]
fn closed_by_default() {
    let rules = format!("    rules:\n{}", service("tcp", 443, 8443, ""));
    let space = "virtual_network:\n  address_space: [10.0.0.0/8, \"fd00::/8\"]\n";
    let open = network(&format!("{space}{}", balancer(ONE_EACH, &rules)));
    for ends in BOTH {
        let mut script = Script::new("a frontend needs a group at the backend", &open);
        let outside = tcp(&ends.client(7), &at(ends.frontend, 443)).syn(1);
        script.send(Untrusted, &outside, drops("denied_by_rule").backend(backend(ends)));
        // From within the virtual network no group is needed, nor for what is not balanced.
        let inside = outside.clone().from(&at(ends.second, 7));
        let sent = inside.clone().to(&ends.server(8443)).hop();
        script.send(Trusted, &inside, forwards(Trusted, &sent).backend(backend(ends)));
        let plain = tcp(&ends.client(7), &ends.server(8443)).syn(1);
        script.send(Untrusted, &plain, forwards(Trusted, &plain.clone().hop()));
        script.run();
    }
}

#[test]
fn groups_see_the_translated_destination() {
    let rules = format!("    rules:\n{}", service("tcp", 443, 8443, ""));
    for (port, passes) in [(8443, true), (443, false)] {
        let only = group(&[rule("allow", 100, "inbound", "allow", "tcp", &format!("[{port}]"))]);
        let config = network(&format!("{only}{}", balancer(ONE_EACH, &rules)));
        for ends in BOTH {
            let syn = tcp(&ends.client(7), &at(ends.frontend, 443)).syn(1);
            let denied = drops("denied_by_rule").rule("web-nsg/DenyAllInBound").backend(backend(ends));
            let expect = if passes { in_to(&syn, &ends.server(8443), ends) } else { denied };
            let mut script = Script::new("judged behind destination translation", &config);
            script.send(Untrusted, &syn, expect);
            script.run();
        }
    }
}

#[test]
fn all_ports() {
    let ha = |name: &str, vip: &str, pool: &str| {
        format!(
            "      - {{name: {name}, frontend: {vip}, protocol: all, port: 0, pool: {pool}, backend_port: 0, syn_proxy: off}}\n"
        )
    };
    let rules = format!("    rules:\n{}{}", ha("ha", "vip", "four"), ha("ha6", "vip6", "six"));
    let config = network(&format!("{}{}", allow_all(), balancer(ONE_EACH, &rules)));
    for ends in BOTH {
        let mut script = Script::new("HA ports: every port as it is", &config);
        for port in [1, 22, 65_535] {
            let vip = at(ends.frontend, port);
            for packet in [tcp(&ends.client(7), &vip).syn(1), udp(&ends.client(7), &vip)] {
                script.send(Untrusted, &packet, in_to(&packet, &ends.server(port), ends));
            }
            let answer = udp(&ends.server(port), &ends.client(7));
            script.send(Trusted, &answer, out_from(&answer, &vip, ends));
        }
        script.run();
    }
}

#[test]
fn inbound_nat() {
    let nat = "    rules: []\n    inbound_nat:\n      \
               - {name: ssh-1, frontend: vip, protocol: tcp, port: 50001, backend: web-1, backend_port: 22}\n      \
               - {name: ssh-2, frontend: vip, protocol: tcp, port: 50002, backend: web-2, backend_port: 22}\n";
    let config = network(&format!("{}{}", allow_all(), balancer(TWO_EACH, nat)));
    let mut script = Script::new("each port leads to its backend", &config);
    for (port, server, name) in [(50_001, "10.2.0.4:22", "web-1"), (50_002, "10.2.0.5:22", "web-2")] {
        let vip = at(V4.frontend, port);
        let syn = tcp(&V4.client(7), &vip).syn(1);
        let sent = syn.clone().to(server).hop();
        script.send(Untrusted, &syn, forwards(Trusted, &sent).rule(ALLOW).backend(name));
        let answer = tcp(server, &V4.client(7)).ack(9, 2).syn(9);
        let sent = answer.clone().from(&vip).hop();
        script.send(Trusted, &answer, forwards(Untrusted, &sent).rule(ALLOW).backend(name));
    }
    script.send(Untrusted, &tcp(&V4.client(7), "203.0.113.10:50003").syn(1), drops("denied_by_rule"));
    script.run();
}

#[test]
fn floating_ip() {
    let rules = format!("    rules:\n{}", service("tcp", 443, 443, ", floating_ip: true, tcp_reset: true"));
    let config = network(&format!("{}{}", allow_all(), balancer(ONE_EACH, &rules)));
    for ends in BOTH {
        let to_backend = |packet: &Packet| {
            let mac = Trusted.neighbor(ends.server.parse().expect("an address"));
            let sent = packet.clone().hop().link(mac, Trusted.station());
            forwards(Trusted, &sent).rule(ALLOW).backend(backend(ends))
        };
        let mut script = Script::new("direct server return: only the next hop changes", &config);
        let talk = |seq| tcp(&ends.client(7), &at(ends.frontend, 443)).ack(seq, 77_000);
        let syn = tcp(&ends.client(7), &at(ends.frontend, 443)).syn(1);
        script.send(Untrusted, &talk(2), drops("invalid_state"));
        script.send(Untrusted, &syn, to_backend(&syn));
        // The backend's answers pass the appliance by: the client's segments alone must be enough.
        script.send(Untrusted, &talk(2), to_backend(&talk(2)));
        script.send(Untrusted, &talk(2).data(b"data"), to_backend(&talk(2).data(b"data")));
        // It lives as long as an established connection, and ends without a reset: nobody here knows its sequence numbers.
        script.wait(Duration::from_secs(200));
        script.send(Untrusted, &talk(6), to_backend(&talk(6)));
        script.wait(Duration::from_secs(250));
        script.send(Untrusted, &talk(6), drops("invalid_state"));
        script.run();
    }
}

#[test]
fn probes_of_the_cloud_reach_a_floating_frontend() {
    let rules = format!("    rules:\n{}", service("tcp", 443, 443, ", floating_ip: true"));
    let config = network(&format!("{}{}", group(&[]), balancer(ONE_EACH, &rules)));
    let mut script =
        Script::new("AzureLoadBalancer: its destination is no address of the virtual network", &config);
    let probe = tcp("168.63.129.16:50000", "203.0.113.10:443").syn(1);
    let sent = probe.clone().hop().link([2, 0, 0, 0, 2, 4], Trusted.station());
    let name = "web-nsg/AllowAzureLoadBalancerInBound";
    script.send(Untrusted, &probe, forwards(Trusted, &sent).rule(name).backend("web-1"));
    script.run();
}

/// Which backends packets from these sources got.
fn backends_of(config: &str, packets: &[Packet]) -> Vec<String> {
    let mut script = Script::new("observed", config);
    for packet in packets {
        script.send(Untrusted, packet, drops("unsupported"));
    }
    let lines = script.observe();
    lines.iter().map(|line| line["backend"].as_str().unwrap_or("none").to_string()).collect()
}

#[test]
fn distributions() {
    for ends in BOTH {
        let from = |host: u16, port: u16| {
            at(&ends.either(format!("198.51.100.{host}"), format!("2001:db8:9::{host:x}")), port)
        };
        let syns = |hosts: std::ops::Range<u16>, ports: std::ops::Range<u16>| -> Vec<Packet> {
            let pairs = hosts.flat_map(|host| ports.clone().map(move |port| (host, port)));
            pairs.map(|(host, port)| tcp(&from(host, port), &at(ends.frontend, 443)).syn(1)).collect()
        };
        let config = |distribution: &str| {
            let more = format!(", distribution: {distribution}");
            let rules = format!(
                "    rules:\n{}{}",
                service("tcp", 443, 8443, &more),
                service("udp", 443, 8443, &more)
            );
            network(&format!("{}{}", allow_all(), balancer(TWO_EACH, &rules)))
        };
        let distinct = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>().len();

        let spread = backends_of(&config("five_tuple"), &syns(1..2, 1000..1200));
        let shares = spread.iter().fold(BTreeMap::new(), |mut shares, name| {
            *shares.entry(name).or_insert(0) += 1;
            shares
        });
        assert!(shares.len() == 2 && shares.values().all(|&share| share > 60), "five_tuple: {shares:?}");

        for distribution in ["source_ip", "source_ip_protocol"] {
            let one_host = backends_of(&config(distribution), &syns(1..2, 1000..1100));
            assert_eq!(distinct(&one_host), 1, "{distribution}: one host has one backend");
            let hosts = backends_of(&config(distribution), &syns(1..100, 1000..1001));
            assert_eq!(distinct(&hosts), 2, "{distribution}: hosts are spread");
        }
        let both_protocols = |distribution: &str| -> usize {
            let packets: Vec<Packet> = (1..60)
                .flat_map(|host| {
                    let (from, vip) = (from(host, 7), at(ends.frontend, 443));
                    [tcp(&from, &vip).syn(1), udp(&from, &vip)]
                })
                .collect();
            backends_of(&config(distribution), &packets).chunks(2).filter(|pair| pair[0] != pair[1]).count()
        };
        assert_eq!(both_protocols("source_ip"), 0, "source_ip: protocols do not matter");
        assert!(both_protocols("source_ip_protocol") > 10, "source_ip_protocol: they do");
    }
}

#[test]
fn weights() {
    let pools = TWO_EACH.replace("address: 10.2.0.4", "address: 10.2.0.4, weight: 3");
    let rules = format!("    rules:\n{}", service("tcp", 443, 8443, ""));
    let config = network(&format!("{}{}", allow_all(), balancer(&pools, &rules)));
    let syns: Vec<Packet> =
        (1000..1800).map(|port| tcp(&V4.client(port), "203.0.113.10:443").syn(1)).collect();
    let heavy = backends_of(&config, &syns).iter().filter(|name| *name == "web-1").count();
    assert!((540..=660).contains(&heavy), "{heavy} of 800 to the backend with weight 3 of 4");
}

#[test]
fn a_backend_reaches_its_own_frontend() {
    let mut script = Script::new("L-20: hairpin", &web());
    let syn = tcp("10.2.0.5:7", "203.0.113.10:443").syn(1);
    let sent = syn.clone().to("10.2.0.4:8443").hop();
    script.send(Trusted, &syn, forwards(Trusted, &sent).rule(ALLOW).backend("web-1"));
    let answer = tcp("10.2.0.4:8443", "10.2.0.5:7").ack(9, 2).syn(9);
    let sent = answer.clone().from("203.0.113.10:443").hop();
    script.send(Trusted, &answer, forwards(Trusted, &sent).rule(ALLOW).backend("web-1"));
    script.run();
}

#[test]
fn a_flow_keeps_its_frontend_and_its_family() {
    let mut script = Script::new("v4 and v6 beside each other", &web());
    for ends in [V4, V6, V4, V6] {
        let ask = udp(&ends.client(7), &at(ends.frontend, 53));
        script.send(Untrusted, &ask, in_to(&ask, &ends.server(5353), ends));
    }
    script.run();
}
