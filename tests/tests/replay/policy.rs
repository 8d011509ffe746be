//! Security groups: levels and their order, priorities, tags, application groups, ports.

use crate::ends::{BOTH, Ends, V4, V6, at, group, rule, rule_between};
use nva_tests::binary;
use nva_tests::folder::Folder;
use nva_tests::packet::{Packet, echo, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::network;
use nva_tests::script::{Expect, Script, drops, forwards};

const ALL: &str = r#"["*"]"#;

fn syn(ends: Ends, port: u16) -> Packet {
    tcp(&ends.client(40_000), &ends.server(port)).syn(1)
}

fn inward(packet: &Packet) -> Expect {
    forwards(Trusted, &packet.clone().hop())
}

fn outward(packet: &Packet) -> Expect {
    forwards(Untrusted, &packet.clone().hop())
}

fn denied(rule: &str) -> Expect {
    drops("denied_by_rule").rule(rule)
}

/// A subnet and an interface, each with a group of its own.
fn two_levels(subnet: &[String], interface: &[String]) -> String {
    let list =
        |rules: &[String]| if rules.is_empty() { " []\n".into() } else { format!("\n{}", rules.concat()) };
    network(&format!(
        "virtual_network:\n  address_space: [10.0.0.0/8, \"fd00::/8\"]\n  subnets:\n    \
         - {{name: web, prefixes: [10.2.0.0/24, \"fd00:2::/64\"], security_group: subnet}}\n  interfaces:\n    \
         - {{address: 10.2.0.4, security_group: nic}}\n    - {{address: \"fd00:2::4\", security_group: nic}}\n\
         security_groups:\n  - name: subnet\n    rules:{}  - name: nic\n    rules:{}",
        list(subnet),
        list(interface)
    ))
}

#[test]
fn the_lowest_priority_number_that_matches_decides() {
    for (first, second, name) in [("deny", "allow", "a"), ("allow", "deny", "a")] {
        let rules = [
            rule("b", 200, "inbound", second, "any", ALL),
            rule("a", 100, "inbound", first, "tcp", "[80-500]"),
        ];
        let config = network(&group(&rules));
        for ends in BOTH {
            let mut script = Script::new("A-01", &config);
            let name = format!("web-nsg/{name}");
            let (here, there) = (syn(ends, 443), syn(ends, 501));
            let [decided, otherwise] = [(first, &here, name.as_str()), (second, &there, "web-nsg/b")].map(
                |(access, packet, rule)| {
                    if access == "allow" { inward(packet).rule(rule) } else { denied(rule) }
                },
            );
            script.send(Untrusted, &here, decided);
            script.send(Untrusted, &there, otherwise);
            script.run();
        }
    }
}

#[test]
fn a_priority_is_used_once_in_a_direction() {
    let check = |second: &str| {
        let rules =
            [rule("a", 100, "inbound", "allow", "tcp", ALL), rule("b", 100, second, "deny", "tcp", ALL)];
        let folder = Folder::new();
        let path = folder.write("nva.yaml", network(&group(&rules)));
        binary::run(["check".as_ref(), "--config".as_ref(), path.as_os_str()])
    };
    let refused = check("inbound");
    let err = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "A-02: {err}");
    assert!(err.contains("nva.yaml:") && err.contains("priority") && err.contains("100"), "{err}");
    assert_eq!(
        check("outbound").status.code(),
        Some(0),
        "A-02: the other direction has priorities of its own"
    );
}

#[test]
fn both_levels_must_allow_and_the_last_one_is_named() {
    let allow = |ports| vec![rule("allow", 100, "inbound", "allow", "tcp", ports)];
    for ends in BOTH {
        let mut script = Script::new("to a server", &two_levels(&allow("[80, 443]"), &allow("[443, 8080]")));
        let packets = [443, 80, 8080].map(|port| syn(ends, port));
        script.send(Untrusted, &packets[0], inward(&packets[0]).rule("nic/allow"));
        script.send(Untrusted, &packets[1], denied("nic/DenyAllInBound"));
        script.send(Untrusted, &packets[2], denied("subnet/DenyAllInBound"));
        // The interface's neighbour has only its subnet's group.
        let next = packets[1].clone().to(&at(ends.second, 80));
        script.send(Untrusted, &next, inward(&next).rule("subnet/allow"));
        script.run();
    }
}

#[test]
fn on_the_way_out_the_interface_comes_first() {
    let deny = |ports| vec![rule("deny", 100, "outbound", "deny", "udp", ports)];
    for ends in BOTH {
        let mut script = Script::new("from a server", &two_levels(&deny("[1, 2]"), &deny("[2, 3]")));
        let packets = [1, 2, 3, 4].map(|port| udp(&ends.server(9), &ends.client(port)));
        script.send(Trusted, &packets[0], denied("subnet/deny"));
        script.send(Trusted, &packets[1], denied("nic/deny"));
        script.send(Trusted, &packets[2], denied("nic/deny"));
        script.send(Trusted, &packets[3], outward(&packets[3]).rule("subnet/AllowInternetOutBound"));
        script.run();
    }
}

#[test]
fn default_rules_have_the_clouds_names() {
    let config = network(&group(&[]));
    for ends in BOTH {
        let mut script = Script::new("default rules", &config);
        let from_outside = syn(ends, 443);
        script.send(Untrusted, &from_outside, denied("web-nsg/DenyAllInBound"));
        let to_outside = udp(&ends.server(9), &ends.client(7));
        script.send(Trusted, &to_outside, outward(&to_outside).rule("web-nsg/AllowInternetOutBound"));
        let within = udp(&ends.server(9), &at(ends.either("10.3.0.7", "fd00:3::7"), 7));
        let expect = forwards(Trusted, &within.clone().hop()).rule("web-nsg/AllowVnetOutBound");
        script.send(Trusted, &within, expect);
        let back = udp(&at(ends.either("10.3.0.7", "fd00:3::7"), 8), &ends.server(9));
        script.send(Trusted, &back, inward(&back).rule("web-nsg/AllowVnetInBound"));
        script.run();
    }
    // Probes come from the platform's address.
    let mut script = Script::new("AzureLoadBalancer", &config);
    let probe = tcp("168.63.129.16:50000", "10.2.0.4:80").syn(1);
    script.send(Untrusted, &probe.clone().from("168.63.129.17:50000"), denied("web-nsg/DenyAllInBound"));
    // The address stands for the virtual network too, whose rule comes first.
    script.send(Untrusted, &probe, inward(&probe).rule("web-nsg/AllowVnetInBound"));
    script.run();
    let rules = [rule_between("no-vnet", 100, "inbound", "deny", "any", "[10.0.0.0/8]", ALL, ALL)];
    let overriding = rule_between("no-lb", 200, "inbound", "deny", "any", "[AzureLoadBalancer]", ALL, ALL);
    let mut script = Script::new("overridden", &network(&group(&[rules[0].clone(), overriding])));
    script.send(Untrusted, &probe, denied("web-nsg/no-lb"));
    script.run();
}

#[test]
fn outside_of_internet_and_virtual_network_nothing_goes_out() {
    let deny = [rule_between("deny", 100, "outbound", "deny", "any", ALL, "[Internet]", ALL)];
    for ends in BOTH {
        let mut script =
            Script::new("the Internet is what the virtual network is not", &network(&group(&deny)));
        let out = udp(&ends.server(9), &ends.client(7));
        script.send(Trusted, &out, denied("web-nsg/deny"));
        let within = udp(&ends.server(9), &at(ends.either("10.3.0.7", "fd00:3::7"), 7));
        let expect = forwards(Trusted, &within.clone().hop()).rule("web-nsg/AllowVnetOutBound");
        script.send(Trusted, &within, expect);
        script.run();
    }
}

#[test]
fn tags_and_prefixes() {
    let tags = "service_tags:\n  inline: {Monitoring: [198.51.100.0/25, \"2001:db8:9::/64\"]}\n";
    for (source, inside, outside) in [
        ("[Monitoring]", ["198.51.100.127", "2001:db8:9::ffff"], ["198.51.100.128", "2001:db8:9:1::"]),
        ("[198.51.100.9, \"2001:db8:9::9\"]", [V4.client, V6.client], ["198.51.100.8", "2001:db8:9::8"]),
        (
            "[198.51.96.0/20, \"2001:db8:8::/45\"]",
            ["198.51.111.255", "2001:db8:f::1"],
            ["198.51.112.0", "2001:db8:10::"],
        ),
    ] {
        let allow = rule_between("only", 100, "inbound", "allow", "tcp", source, ALL, ALL);
        let config = network(&format!("{tags}{}", group(&[allow])));
        for (ends, place) in [(V4, 0), (V6, 1)] {
            let mut script = Script::new(source, &config);
            let good = syn(ends, 443).from(inside[place]);
            script.send(Untrusted, &syn(ends, 443).from(outside[place]), denied("web-nsg/DenyAllInBound"));
            script.send(Untrusted, &good, inward(&good).rule("web-nsg/only"));
            script.run();
        }
    }
}

#[test]
fn application_security_groups() {
    let config = network(
        &group(&[rule_between("to-web", 100, "inbound", "allow", "tcp", ALL, "[\"asg:web\"]", "[443]")])
            .replace(
                "security_groups:",
                "  interfaces:\n    - {address: 10.2.0.4, application_security_groups: [web]}\n    \
             - {address: \"fd00:2::4\", application_security_groups: [web]}\nsecurity_groups:",
            ),
    );
    for ends in BOTH {
        let mut script = Script::new("members only", &config);
        let (member, stranger) = (syn(ends, 443), syn(ends, 443).to(&at(ends.second, 443)));
        script.send(Untrusted, &stranger, denied("web-nsg/DenyAllInBound"));
        script.send(Untrusted, &member, inward(&member).rule("web-nsg/to-web"));
        script.run();
    }
}

#[test]
fn port_ranges() {
    let rules = [rule("some", 100, "inbound", "allow", "udp", "[1, 9000-9100, 65535]")];
    for ends in BOTH {
        let mut script = Script::new("ranges include their ends", &network(&group(&rules)));
        for port in [1, 2, 8999, 9000, 9050, 9100, 9101, 65_534, 65_535] {
            let packet = udp(&ends.client(7), &ends.server(port));
            let allowed = [1, 9000, 9050, 9100, 65_535].contains(&port);
            let expect =
                if allowed { inward(&packet).rule("web-nsg/some") } else { denied("web-nsg/DenyAllInBound") };
            script.send(Untrusted, &packet, expect);
        }
        script.run();
    }
}

#[test]
fn source_ports_count_too() {
    let only = rule("only", 100, "inbound", "allow", "udp", ALL)
        .replace(r#"source_ports: ["*"]"#, "source_ports: [500-600]");
    for ends in BOTH {
        let mut script = Script::new("source ports", &network(&group(std::slice::from_ref(&only))));
        for (port, allowed) in [(499, false), (500, true), (600, true), (601, false)] {
            let packet = udp(&ends.client(port), &ends.server(9));
            let expect =
                if allowed { inward(&packet).rule("web-nsg/only") } else { denied("web-nsg/DenyAllInBound") };
            script.send(Untrusted, &packet, expect);
        }
        script.run();
    }
}

#[test]
fn protocols_are_told_apart() {
    for ends in BOTH {
        for (name, place) in [("tcp", 0), ("udp", 1), ("icmp", 2), ("any", 3)] {
            let only = rule("only", 100, "inbound", "allow", name, ALL);
            let mut script = Script::new(name, &network(&group(&[only])));
            let packets =
                [syn(ends, 443), udp(&ends.client(7), &ends.server(443)), echo(ends.client, ends.server, 7)];
            for (index, packet) in packets.iter().enumerate() {
                let allowed = place == index || place == 3;
                let expect = if allowed {
                    inward(packet).rule("web-nsg/only")
                } else {
                    denied("web-nsg/DenyAllInBound")
                };
                script.send(Untrusted, packet, expect);
            }
            script.run();
        }
    }
}

#[test]
fn a_place_without_a_group_lets_everything_through() {
    for ends in BOTH {
        let mut script = Script::new("no group", &network(""));
        let packet = syn(ends, 22);
        script.send(Untrusted, &packet, inward(&packet));
        script.run();
    }
}

#[test]
fn one_packet_may_meet_four_levels() {
    // Between two servers with groups of their own: out of one interface and subnet, into the other's.
    let levels = ["from-nic", "from-net", "to-net", "to-nic"];
    let config = |denies: Option<usize>| {
        let mut groups = String::new();
        for (place, name) in levels.iter().enumerate() {
            let direction = if place < 2 { "outbound" } else { "inbound" };
            let access = if denies == Some(place) { "deny" } else { "allow" };
            groups += &format!(
                "  - name: {name}\n    rules:\n{}",
                rule(&format!("r-{place}"), 100, direction, access, "udp", ALL)
            );
        }
        network(&format!(
            "virtual_network:\n  address_space: [10.0.0.0/8, \"fd00::/8\"]\n  subnets:\n    \
             - {{name: a, prefixes: [10.2.0.0/24, \"fd00:2::/64\"], security_group: from-net}}\n    \
             - {{name: b, prefixes: [10.3.0.0/24, \"fd00:3::/64\"], security_group: to-net}}\n  interfaces:\n    \
             - {{address: 10.2.0.4, security_group: from-nic}}\n    - {{address: \"fd00:2::4\", security_group: from-nic}}\n    \
             - {{address: 10.3.0.7, security_group: to-nic}}\n    - {{address: \"fd00:3::7\", security_group: to-nic}}\n\
             security_groups:\n{groups}"
        ))
    };
    for ends in BOTH {
        let packet = udp(&ends.server(9), &at(ends.either("10.3.0.7", "fd00:3::7"), 7));
        let mut script = Script::new("all four allow, the last is named", &config(None));
        script.send(Trusted, &packet, forwards(Trusted, &packet.clone().hop()).rule("to-nic/r-3"));
        script.run();
        for (place, name) in levels.iter().enumerate() {
            let mut script = Script::new(name, &config(Some(place)));
            script.send(Trusted, &packet, denied(&format!("{name}/r-{place}")));
            script.run();
        }
    }
}

#[test]
fn augmented_rules_have_many_prefixes_and_ports() {
    let prefixes: Vec<String> = (0..200)
        .map(|n| format!("198.51.{}.{}/31, \"2001:db8:8:{n:x}::/64\"", 96 + n / 128, n % 128 * 2))
        .collect();
    let ports: Vec<String> = (0..100).map(|n| format!("{}-{}", 1000 + n * 10, 1004 + n * 10)).collect();
    let list = |items: &[String]| format!("[{}]", items.join(", "));
    let many = rule_between("many", 100, "inbound", "allow", "udp", &list(&prefixes), ALL, &list(&ports));
    let config = network(&group(&[many]));
    for (ends, inside, outside) in [
        (V4, ["198.51.96.0", "198.51.96.255", "198.51.97.143"], ["198.51.97.144", "198.51.95.255"]),
        (
            V6,
            ["2001:db8:8::1", "2001:db8:8:64::1", "2001:db8:8:c7:ffff::"],
            ["2001:db8:8:c8::", "2001:db8:7:ffff::1"],
        ),
    ] {
        let mut script = Script::new("200 prefixes, 100 ranges of ports", &config);
        let from = |source: &str, port| udp(&at(source, 7), &ends.server(port));
        for source in inside {
            for (port, allowed) in
                [(999, false), (1000, true), (1504, true), (1505, false), (1994, true), (1995, false)]
            {
                let packet = from(source, port);
                let expect = if allowed {
                    inward(&packet).rule("web-nsg/many")
                } else {
                    denied("web-nsg/DenyAllInBound")
                };
                script.send(Untrusted, &packet, expect);
            }
        }
        for source in outside {
            script.send(Untrusted, &from(source, 1000), denied("web-nsg/DenyAllInBound"));
        }
        script.run();
    }
}

#[test]
fn groups_do_not_guard_the_platforms_services() {
    let nothing_out = rule("none", 100, "outbound", "deny", "any", ALL);
    let dns = "168.63.129.16:53";
    let question = udp("10.2.0.4:5353", dns);
    let config = network(&group(std::slice::from_ref(&nothing_out)));
    let mut script = Script::new("168.63.129.16", &config);
    script.send(Trusted, &question, outward(&question));
    let other = question.clone().to("168.63.129.17:53");
    script.send(Trusted, &other, denied("web-nsg/none"));
    // Tenants do not speak for the platform, and link-local addresses stay on their link.
    script.send(Trusted, &udp("168.63.129.16:9", "10.2.0.4:9"), drops("spoofed"));
    script.run();
    let tag = rule_between("no-dns", 200, "outbound", "deny", "udp", ALL, "[AzurePlatformDNS]", "[53]");
    let mut script = Script::new("by its own tag", &network(&group(&[nothing_out, tag])));
    script.send(Trusted, &question, denied("web-nsg/no-dns"));
    let elsewhere = question.to("168.63.129.16:80");
    script.send(Trusted, &elsewhere, outward(&elsewhere));
    script.run();
}

#[test]
fn route_prefixes_are_in_the_tag_virtual_network() {
    let sections = group(&[])
        .replace("  subnets:", "  route_prefixes: [198.51.100.0/25, \"2001:db8:7::/64\"]\n  subnets:");
    for (ends, inside, outside) in
        [(V4, "198.51.100.127", "198.51.100.128"), (V6, "2001:db8:7::1", "2001:db8:7:1::1")]
    {
        let mut script = Script::new("UDR prefixes", &network(&sections));
        let from = |source: &str| udp(&at(source, 7), &ends.server(9));
        script.send(Untrusted, &from(inside), inward(&from(inside)).rule("web-nsg/AllowVnetInBound"));
        script.send(Untrusted, &from(outside), denied("web-nsg/DenyAllInBound"));
        let to = |destination: &str| udp(&ends.server(8), &at(destination, 7));
        script.send(Trusted, &to(inside), outward(&to(inside)).rule("web-nsg/AllowVnetOutBound"));
        script.send(Trusted, &to(outside), outward(&to(outside)).rule("web-nsg/AllowInternetOutBound"));
        script.run();
    }
}
