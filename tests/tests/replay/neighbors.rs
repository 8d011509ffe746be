//! Who has which Ethernet address: questions to the appliance, and its own.

use crate::ends::{BOTH, Ends, V4, V6, WEB, at, goes_in, group, rule, web};
use nva_tests::packet::{
    Packet, advertisement, arp, arp_reply, arp_request, echo, echo_reply, error, solicitation, tcp, udp,
};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{Mac, changed, network};
use nva_tests::script::{Script, consumes, drops, forwards, holds, refuses, replies};
use std::time::Duration;

const ROUTER: Mac = [2, 0, 0, 0, 0x71, 0xfe];
/// A host on the trusted link that no static entry names.
const NINTH: Mac = [2, 0, 0, 0, 2, 9];
const SECOND: Duration = Duration::from_secs(1);

fn ninth(ends: Ends) -> &'static str {
    ends.either("10.2.0.9", "fd00:2::9")
}

/// With a frontend of each family on the untrusted link.
fn with_frontends() -> String {
    network(&format!(
        "{}load_balancers:\n  - name: public\n    frontends:\n      - {{name: vip, address: 203.0.113.10}}\n      \
         - {{name: vip6, address: \"2001:db8:113::10\"}}\n    pools:\n      \
         - {{name: four, backends: [{{name: web-9, address: 10.2.0.9}}]}}\n      \
         - {{name: six, backends: [{{name: web-69, address: \"fd00:2::9\"}}]}}\n    rules:\n      \
         - {{name: a, frontend: vip, protocol: tcp, port: 443, pool: four, backend_port: 8443, syn_proxy: off}}\n      \
         - {{name: b, frontend: vip6, protocol: tcp, port: 443, pool: six, backend_port: 8443, syn_proxy: off}}\n",
        group(&[rule("allow-web", 100, "inbound", "allow", "tcp", "[8443]")])
    ))
}

#[test]
fn arp_for_our_addresses() {
    for target in ["203.0.113.1", "203.0.113.10"] {
        let mut script = Script::new("an own address and a frontend", &with_frontends());
        let ours = Untrusted.station();
        let answer = arp_reply(ours, target, ROUTER, "203.0.113.254");
        script.send(Untrusted, &arp_request(ROUTER, "203.0.113.254", "203.0.113.11"), drops("not_for_us"));
        script.send(Untrusted, &arp_request(ROUTER, "203.0.113.254", target), replies(Untrusted, &answer));
        // A probe (RFC 5227) is answered, though nobody asks.
        let answer = arp_reply(ours, target, ROUTER, "0.0.0.0");
        script.send(Untrusted, &arp_request(ROUTER, "0.0.0.0", target), replies(Untrusted, &answer));
        // Another port's address, and a frontend, are not on this link.
        script.send(Trusted, &arp_request(NINTH, "10.2.0.9", target), drops("not_for_us"));
        script.run();
    }
}

#[test]
fn arp_that_is_not_believed() {
    let mut script = Script::new("senders that cannot be", &web());
    let asks = |sender: &str| arp_request(ROUTER, sender, "203.0.113.1");
    script.send(Untrusted, &asks("203.0.113.1"), drops("spoofed"));
    script.send(Untrusted, &asks("198.51.100.9"), drops("spoofed"));
    script.send(Untrusted, &asks("203.0.113.255"), drops("spoofed"));
    let mut other_source = asks("203.0.113.254");
    other_source[6..12].copy_from_slice(&[2, 0, 0, 0, 0x71, 9]);
    script.send(Untrusted, &other_source, drops("malformed"));
    let mut short = asks("203.0.113.254");
    short.truncate(41);
    script.send(Untrusted, &short, drops("malformed"));
    for (at, value) in [(15, 6), (16, 9), (18, 8), (19, 6), (21, 3)] {
        let mut odd = asks("203.0.113.254");
        odd[at] = value;
        script.send(Untrusted, &odd, drops("unsupported"));
    }
    let answer = arp_reply(Untrusted.station(), "203.0.113.1", ROUTER, "203.0.113.254");
    script.send(Untrusted, &asks("203.0.113.254"), replies(Untrusted, &answer));
    script.run();
}

#[test]
fn neighbor_discovery_for_our_addresses() {
    for target in ["2001:db8:113::1", "2001:db8:113::10", "fe80::ff:fe00:a01"] {
        let ours = Untrusted.station();
        let sender = "2001:db8:113::fe";
        let asks = solicitation(ROUTER, sender, target);
        let answer = advertisement(ours, target, ROUTER, sender, 0xe0);
        let mut script = Script::new("an own address, a frontend, the link-local one", &with_frontends());
        script.send(Untrusted, &asks.clone().ttl(254), drops("malformed"));
        script.send(Untrusted, &asks, replies(Untrusted, &answer));
        let nobody = solicitation(ROUTER, sender, "2001:db8:113::11");
        script.send(Untrusted, &nobody, drops("not_for_us"));
        script.send(Untrusted, &asks.clone().from("2001:db8:9::9"), drops("spoofed"));
        script.run();
    }
}

#[test]
fn duplicate_address_detection_is_answered() {
    let target = "2001:db8:113::1";
    // Without an address of its own the asker gives no link-layer address either, and is answered where all hear it.
    let probe = solicitation(ROUTER, "::", target)
        .data(&[&"2001:db8:113::1".parse::<std::net::Ipv6Addr>().expect("an address").octets()[..]].concat());
    let answer = advertisement(Untrusted.station(), target, [0x33, 0x33, 0, 0, 0, 1], "ff02::1", 0xa0);
    let mut script = Script::new("RFC 4862, 5.4", &web());
    script.send(Untrusted, &solicitation(ROUTER, "::", target), drops("malformed"));
    script.send(Untrusted, &probe, replies(Untrusted, &answer));
    script.run();
}

#[test]
fn echo_to_our_addresses() {
    for ends in BOTH {
        let mut script = Script::new("answered; nothing else is", &web());
        let like_echo = |reply: Packet| reply.ttl(64);
        for (to, ttl) in [(ends.outside, 64), (ends.outside, 3), (ends.inside, 255)] {
            let request = echo(ends.client, to, 7).ttl(ttl);
            script.send(Untrusted, &request, replies(Untrusted, &like_echo(echo_reply(to, ends.client, 7))));
        }
        let inner = echo(ends.server, ends.inside, 9);
        let link = (Trusted.neighbor(ends.server.parse().expect("an address")), Trusted.station());
        let answer = echo_reply(ends.inside, ends.server, 9).link(link.0, link.1);
        script.send(Trusted, &inner, replies(Trusted, &answer));
        script.send(Untrusted, &echo_reply(ends.client, ends.outside, 7), drops("denied_by_rule"));
        script.send(Untrusted, &udp(&ends.client(7), &at(ends.outside, 53)), drops("denied_by_rule"));
        script.send(Untrusted, &tcp(&ends.client(7), &at(ends.outside, 22)).syn(1), drops("denied_by_rule"));
        let cut = echo(ends.client, ends.outside, 7).data(&[0; 64]).fragments(&[32]);
        script.send(Untrusted, &cut[0], drops("fragment"));
        script.run();
    }
}

/// The appliance's question for the ninth host.
fn question(ends: Ends) -> Vec<u8> {
    if ends.v4 {
        return arp_request(Trusted.station(), "10.2.0.1", "10.2.0.9");
    }
    use nva_tests::packet::OnWire;
    solicitation(Trusted.station(), "fd00:2::1", "fd00:2::9").sent(Trusted)
}

/// The ninth host's answer.
fn answer(ends: Ends) -> Vec<u8> {
    use nva_tests::packet::OnWire;
    let ours = Trusted.station();
    match ends.v4 {
        true => arp_reply(NINTH, "10.2.0.9", ours, "10.2.0.1"),
        false => advertisement(NINTH, "fd00:2::9", ours, "fd00:2::1", 0x60).received(Trusted),
    }
}

#[test]
fn a_next_hop_is_asked_for_and_what_waited_goes_on() {
    for ends in BOTH {
        let mut script = Script::new("one question, all packets in order", &web());
        let syn = |port| tcp(&ends.client(port), &at(ninth(ends), 443)).syn(1);
        script.send(Untrusted, &syn(1), holds().rule(WEB).forwarded_later().and(Trusted, &question(ends)));
        script.send(Untrusted, &syn(2), holds().rule(WEB).forwarded_later());
        let [first, second] = [1, 2].map(|port| syn(port).hop());
        script.send(Trusted, &answer(ends), consumes().and(Trusted, &first).and(Trusted, &second));
        script.send(Untrusted, &syn(3), goes_in(&syn(3), WEB));
        script.run();
    }
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    for ends in BOTH {
        let mut script = Script::new("no entry from an unsolicited answer", &web());
        let syn = tcp(&ends.client(1), &at(ninth(ends), 443)).syn(1);
        script.send(Trusted, &answer(ends), consumes());
        script.send(Untrusted, &syn, holds().rule(WEB).and(Trusted, &question(ends)));
        script.run();
        // Nor does it replace a static entry.
        let mut script = Script::new("static entries stay", &web());
        let thief: Mac = [2, 0, 0, 0, 2, 66];
        let ours = Trusted.station();
        let forged = if ends.v4 {
            arp_reply(thief, ends.server, ours, ends.inside)
        } else {
            use nva_tests::packet::OnWire;
            advertisement(thief, ends.server, ours, ends.inside, 0x60).received(Trusted)
        };
        script.send(Trusted, &forged, consumes());
        let syn = tcp(&ends.client(1), &ends.server(443)).syn(1);
        script.send(Untrusted, &syn, goes_in(&syn, WEB));
        script.run();
    }
}

#[test]
fn nobody_answers() {
    for ends in BOTH {
        let mut script =
            Script::new("three questions, then the sender is told, with its own packet", &with_frontends());
        let (vip, backend) = (at(ends.frontend, 443), ends.either("web-9", "web-69"));
        let syn = tcp(&ends.client(1), &vip).syn(1);
        script.send(
            Untrusted,
            &syn,
            holds().rule(WEB).backend(backend).answered_later().and(Trusted, &question(ends)),
        );
        script.wait(SECOND).sends(Trusted, &question(ends));
        script.wait(SECOND).sends(Trusted, &question(ends));
        let (kind, code) = ends.either((3, 1), (1, 3));
        let told = error(ends.outside, &syn.clone().hop(), kind, code, 0);
        script.wait(SECOND).sends(Untrusted, &told);
        // For a while nobody is asked, and new flows are refused at once.
        let again = tcp(&ends.client(2), &vip).syn(1);
        let told = error(ends.outside, &again, kind, code, 0);
        let refused = refuses("unresolved_neighbor", Untrusted, &told).rule(WEB).backend(backend);
        script.wait(SECOND).send(Untrusted, &again, refused);
        script.run();
    }
}

#[test]
fn only_so_many_wait() {
    for ends in BOTH {
        let mut script = Script::new("eight for one neighbour", &web());
        let syn = |port| tcp(&ends.client(port), &at(ninth(ends), 443)).syn(1);
        script.send(Untrusted, &syn(1), holds().rule(WEB).forwarded_later().and(Trusted, &question(ends)));
        for port in 2..=8 {
            script.send(Untrusted, &syn(port), holds().rule(WEB).forwarded_later());
        }
        script.send(Untrusted, &syn(9), drops("unresolved_neighbor").rule(WEB));
        let released = (1..=8).fold(consumes(), |expect, port| expect.and(Trusted, &syn(port).hop()));
        script.send(Trusted, &answer(ends), released);
        script.run();
    }
}

#[test]
fn a_router_that_has_to_be_asked_for() {
    let config = changed(&web(), "  - {address: 203.0.113.254, mac: \"02:00:00:00:71:fe\"}\n", "");
    let config = changed(&config, "  - {address: \"2001:db8:113::fe\", mac: \"02:00:00:00:71:fe\"}\n", "");
    use nva_tests::packet::OnWire;
    for (ends, asked, says_so) in [
        (
            V4,
            arp_request(Untrusted.station(), "203.0.113.1", "203.0.113.254"),
            arp_reply(ROUTER, "203.0.113.254", Untrusted.station(), "203.0.113.1"),
        ),
        (
            V6,
            solicitation(Untrusted.station(), "2001:db8:113::1", "2001:db8:113::fe").sent(Untrusted),
            advertisement(ROUTER, "2001:db8:113::fe", Untrusted.station(), "2001:db8:113::1", 0xe0)
                .received(Untrusted),
        ),
    ] {
        let mut script = Script::new("the gateway's address, not the destination's", &config);
        let out = udp(&ends.server(9), &ends.client(7));
        let rule = "web-nsg/AllowInternetOutBound";
        script.send(Trusted, &out, holds().rule(rule).forwarded_later().and(Untrusted, &asked));
        script.send(Untrusted, &says_so, consumes().and(Untrusted, &out.clone().hop()));
        script.send(Trusted, &out, forwards(Untrusted, &out.clone().hop()).rule(rule));
        script.run();
    }
}

#[test]
fn who_asks_is_known() {
    let mut script = Script::new("a question for us tells who asked", &web());
    let reply = arp_reply(Trusted.station(), "10.2.0.1", NINTH, "10.2.0.9");
    script.send(Trusted, &arp_request(NINTH, "10.2.0.9", "10.2.0.1"), replies(Trusted, &reply));
    let syn = tcp(&V4.client(1), "10.2.0.9:443").syn(1);
    script.send(Untrusted, &syn, goes_in(&syn, WEB));
    script.run();
}

#[test]
fn arp_operations_that_are_none() {
    let reverse = arp(
        etherparse::ArpOperation(3),
        [0xff; 6],
        (ROUTER, "203.0.113.254".parse().expect("an address")),
        [0; 6],
        "203.0.113.1".parse().expect("an address"),
    );
    let mut script = Script::new("RARP", &web());
    script.send(Untrusted, &reverse, drops("unsupported"));
    script.run();
}
