//! Sources that cannot be, lists, and amplification.

use crate::ends::{BOTH, Ends, V4, V6, WEB, at, goes_in, twins, web};
use nva_tests::packet::{OnWire, Packet, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Script, drops, forwards};

fn syn(ends: Ends) -> Packet {
    tcp(&ends.client(40_000), &ends.server(443)).syn(1)
}

/// As from the router outside, whatever the source.
fn from_outside(packet: Packet) -> Packet {
    packet.link(Untrusted.station(), [2, 0, 0, 0, 0x71, 0xfe])
}

fn good(ends: Ends) -> Packet {
    syn(ends)
}

fn refused_source(says: &str, ends: Ends, source: &str, reason: &'static str) {
    let bad = from_outside(syn(ends).from(&at(source, 40_000)));
    twins(&format!("{says}: {source}"), &web(), &good(ends), WEB, &bad, reason);
}

#[test]
fn martian_sources() {
    for source in [
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.1.2.3",
        "0.0.0.0",
        "0.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        refused_source("H-08, D-08", V4, source, "spoofed");
    }
    for source in ["::", "::1", "ff0e::1", "::ffff:198.51.100.9"] {
        refused_source("H-08", V6, source, "spoofed");
    }
    refused_source("a connected prefix's broadcast address", V4, "203.0.113.255", "spoofed");
    refused_source("good on its link only", V4, "169.254.1.1", "no_route");
    refused_source("good on its link only", V6, "fe80::1", "no_route");
}

#[test]
fn martian_destinations() {
    for (ends, destinations) in [
        (
            V4,
            &[
                "127.0.0.1",
                "224.0.0.1",
                "0.0.0.0",
                "240.0.0.1",
                "255.255.255.255",
                "169.254.1.1",
                "10.2.0.255",
                "203.0.113.255",
            ][..],
        ),
        (V6, &["::1", "::", "ff0e::1", "fe80::1"][..]),
    ] {
        for destination in destinations {
            let mut bad = syn(ends).to(&at(destination, 443));
            bad = from_outside(bad);
            twins(&format!("D-08: to {destination}"), &web(), &good(ends), WEB, &bad, "no_route");
        }
    }
    let mapped = from_outside(syn(V6).to("[::ffff:10.2.0.4]:443"));
    twins("to a mapped address", &web(), &good(V6), WEB, &mapped, "spoofed");
}

#[test]
fn no_error_is_sent_to_a_broadcast_address() {
    let bad = from_outside(syn(V4).from("203.0.113.255:40000").ttl(1));
    twins("RFC 1812, 4.3.2.7", &web(), &good(V4), WEB, &bad, "spoofed");
}

#[test]
fn land() {
    for ends in BOTH {
        let own = tcp(&ends.client(443), &ends.client(443)).syn(1);
        twins("H-09: to itself", &web(), &good(ends), WEB, &own, "spoofed");
        let other_port = tcp(&ends.client(444), &ends.client(443)).syn(1);
        twins("H-09: to its other port", &web(), &good(ends), WEB, &other_port, "spoofed");
    }
}

#[test]
fn our_own_addresses_are_nobody_elses() {
    for ends in BOTH {
        for source in [ends.outside, ends.inside] {
            refused_source("own source", ends, source, "spoofed");
            let mut script = Script::new("own source, from within", &web());
            let bad = syn(ends).from(&at(source, 40_000)).link(Trusted.station(), [2, 0, 0, 0, 2, 4]);
            script.send(Trusted, &bad, drops("spoofed"));
            script.run();
        }
    }
    let frontend = "load_balancers:\n  - name: public\n    frontends: [{name: vip, address: 203.0.113.10}]\n    \
                    pools: [{name: four, backends: [{name: web-1, address: 10.2.0.4}]}]\n    rules:\n      \
                    - {name: a, frontend: vip, protocol: tcp, port: 443, pool: four, backend_port: 443, syn_proxy: off}\n";
    let config = format!("{}{frontend}", web());
    let bad = from_outside(syn(V4).from("203.0.113.10:40000"));
    twins("a frontend's source", &config, &good(V4), WEB, &bad, "spoofed");
}

#[test]
fn sources_of_the_virtual_network_never_come_from_outside() {
    for ends in BOTH {
        for mode in ["strict", "loose", "off"] {
            let config = format!("{}protection: {{anti_spoofing: {mode}}}\n", web());
            let inner = ends.either("10.3.0.7", "fd00:3::7");
            let bad = from_outside(syn(ends).from(&at(inner, 40_000)));
            twins(mode, &config, &good(ends), WEB, &bad, "spoofed");
        }
    }
}

#[test]
fn reverse_path() {
    // One prefix has its route through the other port, one has none at all.
    let config = changed(
        &web(),
        "  - {to: 0.0.0.0/0, via: 203.0.113.254}\n  - {to: \"::/0\", via: \"2001:db8:113::fe\"}\n",
        "  - {to: 198.51.100.0/24, via: 203.0.113.254}\n  - {to: \"2001:db8:9::/48\", via: \"2001:db8:113::fe\"}\n  \
         - {to: 192.0.2.0/24, via: 10.2.0.254}\n  - {to: \"2001:db8:2::/48\", via: \"fd00:2::fe\"}\n",
    );
    for ends in BOTH {
        let elsewhere = ends.either("192.0.2.7", "2001:db8:2::7");
        let nowhere = ends.either("100.64.0.7", "2001:db8:ffff::7");
        for (mode, passes_elsewhere, passes_nowhere) in
            [("strict", false, false), ("loose", true, false), ("off", true, true)]
        {
            let config = format!("{config}protection: {{anti_spoofing: {mode}}}\n");
            let mut script = Script::new(&format!("D-07: {mode}"), &config);
            for (source, passes) in
                [(elsewhere, passes_elsewhere), (nowhere, passes_nowhere), (ends.client, true)]
            {
                let sent = syn(ends).from(&at(source, 40_000));
                let came = from_outside(sent.clone()).received(Untrusted);
                let expect = if passes { forwards(Trusted, &sent.hop()).rule(WEB) } else { drops("spoofed") };
                script.send(Untrusted, &came, expect);
            }
            script.run();
        }
    }
}

#[test]
fn strict_is_the_default_and_holds_within_too() {
    for ends in BOTH {
        let mut script = Script::new("a server cannot speak for the Internet", &web());
        let forged = udp(&ends.client(7), &at(ends.either("192.0.2.1", "2001:db8:1::1"), 7));
        script.send(Trusted, &forged.link(Trusted.station(), [2, 0, 0, 0, 2, 4]), drops("spoofed"));
        script.run();
    }
}

#[test]
fn a_known_flow_is_not_joined_from_the_wrong_side() {
    for ends in BOTH {
        let mut script = Script::new("the flow's own addresses, another port", &web());
        let talk = crate::ends::Talk::new(ends);
        talk.open(&mut script);
        let forged = talk.s(0, 0).data(b"forged").link(Untrusted.station(), [2, 0, 0, 0, 0x71, 0xfe]);
        script.send(Untrusted, &forged, drops("spoofed"));
        talk.comes(&mut script, &talk.s(0, 0).data(b"honest"));
        script.run();
    }
}

#[test]
fn lists() {
    let lists = "protection:\n  allowlist: [192.0.2.8/29, \"2001:db8:2::8/125\"]\n  \
                 blocklist: [192.0.2.0/24, \"2001:db8:2::/48\", 198.18.0.0/15]\n";
    let config = format!("{}{lists}", web());
    for ends in BOTH {
        let source = |last: u8| ends.either(format!("192.0.2.{last}"), format!("2001:db8:2::{last:x}"));
        let with = |last| syn(ends).from(&at(&source(last), 40_000));
        let mut script =
            Script::new("the allowlist takes out of the blocklist, not out of the rules", &config);
        script.send(Untrusted, &with(7), drops("blocklisted"));
        script.send(Untrusted, &with(16), drops("blocklisted"));
        for last in [8, 15] {
            script.send(Untrusted, &with(last), goes_in(&with(last), WEB));
        }
        let denied = with(9).to(&ends.server(22));
        script.send(Untrusted, &denied, drops("denied_by_rule").rule("web-nsg/DenyAllInBound"));
        script.send(Untrusted, &syn(ends), goes_in(&syn(ends), WEB));
        script.run();
    }
}

/// NTP's first byte with this mode, and a body.
fn ntp(ends: Ends, mode: u8) -> Packet {
    let data = [&[0x20 | mode][..], &[0; 47]].concat();
    udp(&ends.client(50_000), &ends.server(123)).data(&data)
}

fn everything() -> String {
    let any = crate::ends::rule("any", 100, "inbound", "allow", "any", r#"["*"]"#);
    network(&crate::ends::group(&[any]))
}

#[test]
fn ntp_and_memcached() {
    for ends in BOTH {
        for mode in [6, 7] {
            twins("D-03", &everything(), &ntp(ends, 3), "web-nsg/any", &ntp(ends, mode), "amplification");
        }
        let answer = ntp(ends, 7).from(&ends.client(123)).to(&ends.server(50_000));
        let time = ntp(ends, 4).from(&ends.client(123)).to(&ends.server(50_000));
        twins("D-03: an answer", &everything(), &time, "web-nsg/any", &answer, "amplification");
        for (says, from, to) in [("request", 50_000, 11_211), ("answer", 11_211, 50_000)] {
            let bad = udp(&ends.client(from), &ends.server(to));
            let good = udp(&ends.client(from.min(50_001) + 1), &ends.server(to.min(50_001) + 1));
            twins(&format!("D-04: {says}"), &everything(), &good, "web-nsg/any", &bad, "amplification");
        }
    }
}

#[test]
fn an_open_flow_carries_no_attack() {
    for ends in BOTH {
        let mut script = Script::new("each packet is looked into", &everything());
        script.send(Untrusted, &ntp(ends, 3), goes_in(&ntp(ends, 3), "web-nsg/any"));
        script.send(Untrusted, &ntp(ends, 7), drops("amplification"));
        script.send(Untrusted, &ntp(ends, 3), goes_in(&ntp(ends, 3), "web-nsg/any"));
        script.run();
    }
}

#[test]
fn amplification_blocks_can_be_turned_off() {
    let off = "protection:\n  amplification: {block_ntp_monlist: false, block_memcached: false}\n";
    let config = format!("{}{off}", everything());
    for ends in BOTH {
        let mut script = Script::new("off", &config);
        let memcached = udp(&ends.client(50_000), &ends.server(11_211));
        for packet in [ntp(ends, 7), ntp(ends, 6), memcached] {
            script.send(Untrusted, &packet, goes_in(&packet, "web-nsg/any"));
        }
        script.run();
    }
}
