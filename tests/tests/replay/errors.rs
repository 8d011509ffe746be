//! ICMP errors: those of others about a flow, and those that the appliance sends.

use crate::ends::{BOTH, DNS, Ends, Talk, V4, V6, WEB, at, goes_in, goes_out, group, rule, web};
use nva_tests::packet::{Packet, echo, error, icmp, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Expect, Script, drops, forwards, refuses};
use std::time::Duration;

/// Type and code of "fragmentation needed" or "packet too big", with the MTU that it names.
fn too_big(ends: Ends, from: &str, to: &str, mtu: u32, about: &Packet, quote: usize) -> Packet {
    let (kind, code) = ends.either((3, 4), (2, 0));
    let mut quoted = about.ip_bytes();
    quoted.truncate(quote);
    icmp(from, to, kind, code, mtu).data(&quoted)
}

fn opened(says: &str, ends: Ends) -> (Script, Talk) {
    let mut script = Script::new(says, &web());
    let talk = Talk::new(ends);
    talk.open(&mut script);
    talk.goes(&mut script, &talk.c(0, 0).data(b"request"));
    talk.comes(&mut script, &talk.s(0, 7).data(&[0; 1000]));
    (script, talk)
}

#[test]
fn about_an_established_flow() {
    for ends in BOTH {
        let (mut script, talk) = opened("A-08, A-13: both ways, the MTU kept", ends);
        let data = talk.c(0, 0).data(b"request").hop();
        let about = too_big(ends, ends.inner_router, ends.client, 1400, &data, 1000);
        script.send(Trusted, &about, goes_out(&about, WEB));
        let answer = talk.s(0, 7).data(&[0; 1000]).hop();
        let router = ends.either("192.0.2.77", "2001:db8:77::1");
        let about = too_big(ends, router, ends.server, 1300, &answer, 400);
        script.send(Untrusted, &about, goes_in(&about, WEB));
        talk.goes(&mut script, &talk.c(7, 1000));
        script.run();
    }
}

#[test]
fn about_an_unknown_flow() {
    for ends in BOTH {
        let (mut script, talk) = opened("A-09", ends);
        let other_port = talk.s(0, 0).to(&ends.client(41_000));
        let router = ends.either("192.0.2.77", "2001:db8:77::1");
        script.send(
            Untrusted,
            &too_big(ends, router, ends.server, 1400, &other_port, 200),
            drops("invalid_state"),
        );
        // The quoted packet was sent by somebody else than the error goes to.
        let known = talk.s(0, 7);
        script.send(
            Untrusted,
            &too_big(ends, router, ends.second, 1400, &known, 200),
            drops("invalid_state"),
        );
        let good = too_big(ends, router, ends.server, 1400, &known, 200);
        script.send(Untrusted, &good, goes_in(&good, WEB));
        script.run();
    }
}

#[test]
fn quoting_numbers_that_were_never_sent() {
    for ends in BOTH {
        let (mut script, talk) = opened("A-10", ends);
        let router = ends.either("192.0.2.77", "2001:db8:77::1");
        let with = |sent: u32| too_big(ends, router, ends.server, 1400, &talk.s(sent, 7), 200);
        let invalid = || drops("invalid_state").rule(WEB);
        script.send(Untrusted, &with(1_000_000), invalid());
        script.send(Untrusted, &with(1001), invalid());
        script.send(Untrusted, &with(0u32.wrapping_sub(1_000_000)), invalid());
        script.send(Untrusted, &with(1000), goes_in(&with(1000), WEB));
        script.run();
    }
}

#[test]
fn redirects() {
    for ends in BOTH {
        let (mut script, talk) = opened("A-11", ends);
        let (kind, rest) = ends.either((5, 0xc633_6401), (137, 0));
        let redirect = |ttl: u8| {
            let mut content = if ends.v4 { Vec::new() } else { [0x20; 32].to_vec() };
            content.extend(if ends.v4 { talk.s(0, 7).ip_bytes() } else { Vec::new() });
            icmp(
                ends.either("203.0.113.254", "2001:db8:113::fe"),
                ends.server,
                kind,
                1 & ends.either(1, 0),
                rest,
            )
            .data(&content)
            .ttl(ttl)
        };
        script.send(Untrusted, &redirect(255), drops("not_for_us"));
        talk.goes(&mut script, &talk.c(7, 1000));
        script.run();
    }
}

#[test]
fn the_shortest_quote() {
    for ends in BOTH {
        let (mut script, talk) = opened("A-12: eight bytes of the transport", ends);
        let header: usize = ends.either(20, 40);
        let router = ends.either("192.0.2.77", "2001:db8:77::1");
        let with = |len: usize| too_big(ends, router, ends.server, 1400, &talk.s(0, 7), header + len);
        script.send(Untrusted, &with(7), drops("invalid_state"));
        script.send(Untrusted, &with(8), goes_in(&with(8), WEB));
        script.run();
    }
}

#[test]
fn a_packet_too_big_below_the_least_mtu() {
    let (mut script, talk) = opened("A-13", V6);
    let with = |mtu| too_big(V6, "2001:db8:77::1", V6.server, mtu, &talk.s(0, 7), 400);
    script.send(Untrusted, &with(1279), drops("invalid_state"));
    script.send(Untrusted, &with(1280), goes_in(&with(1280), WEB));
    script.run();
}

#[test]
fn about_datagrams_and_echoes() {
    for ends in BOTH {
        let mut script = Script::new("UDP and echo", &web());
        let unreachable = |from: &str, to: &str, about: &Packet| {
            let (kind, code) = ends.either((3, 3), (1, 4));
            icmp(from, to, kind, code, 0).data(&about.ip_bytes())
        };
        let ask = udp(&ends.client(7), &ends.server(53));
        script.send(Untrusted, &ask, goes_in(&ask, DNS));
        let told = unreachable(ends.server, ends.client, &ask.clone().hop());
        script.send(Trusted, &told, goes_out(&told, DNS));
        let request = echo(ends.client, ends.server, 7);
        script.send(Untrusted, &request, goes_in(&request, crate::ends::ECHO));
        let told = unreachable(ends.inner_router, ends.client, &request.clone().hop());
        script.send(Trusted, &told, goes_out(&told, crate::ends::ECHO));
        let other = echo(ends.client, ends.server, 8);
        script.send(Trusted, &unreachable(ends.inner_router, ends.client, &other), drops("invalid_state"));
        script.run();
    }
}

/// One service of each kind, balanced to one backend.
fn balanced() -> String {
    let rules = group(&[rule("allow", 100, "inbound", "allow", "any", r#"["*"]"#)]);
    let one = |vip: &str, pool: &str, protocol: &str, port: u16, to: u16| {
        format!(
            "      - {{name: {pool}-{protocol}, frontend: {vip}, protocol: {protocol}, port: {port}, pool: {pool}, backend_port: {to}, syn_proxy: off}}\n"
        )
    };
    network(&format!(
        "{rules}load_balancers:\n  - name: public\n    frontends:\n      - {{name: vip, address: 203.0.113.10}}\n      \
         - {{name: vip6, address: \"2001:db8:113::10\"}}\n    pools:\n      \
         - {{name: four, backends: [{{name: web-1, address: 10.2.0.4}}]}}\n      \
         - {{name: six, backends: [{{name: web-6, address: \"fd00:2::4\"}}]}}\n    rules:\n{}{}{}{}",
        one("vip", "four", "tcp", 443, 8443),
        one("vip", "four", "udp", 53, 5353),
        one("vip6", "six", "tcp", 443, 8443),
        one("vip6", "six", "udp", 53, 5353),
    ))
}

fn to_backend(packet: &Packet, ends: Ends) -> Expect {
    forwards(Trusted, packet).rule("web-nsg/allow").backend(ends.either("web-1", "web-6"))
}

fn to_client(packet: &Packet, ends: Ends) -> Expect {
    forwards(Untrusted, packet).rule("web-nsg/allow").backend(ends.either("web-1", "web-6"))
}

#[test]
fn about_a_translated_flow() {
    for ends in BOTH {
        for protocol in ["tcp", "udp"] {
            let (client, vip, server) = match protocol {
                "tcp" => (ends.client(40_000), at(ends.frontend, 443), ends.server(8443)),
                _ => (ends.client(40_000), at(ends.frontend, 53), ends.server(5353)),
            };
            let (opening, answer) = match protocol {
                "tcp" => (tcp(&client, &vip).syn(1000), tcp(&server, &client).ack(5000, 1001).syn(5000)),
                _ => (udp(&client, &vip), udp(&server, &client)),
            };
            let mut script = Script::new("the quoted header is put back too", &balanced());
            let sent = opening.clone().to(&server).hop();
            script.send(Untrusted, &opening, to_backend(&sent, ends));
            script.send(Trusted, &answer, to_client(&answer.clone().from(&vip).hop(), ends));
            for quote in [1000, ends.either(28, 48)] {
                // Somebody on the way to the backend, about the client's packet: as from the frontend.
                let came = too_big(ends, ends.inner_router, ends.client, 1400, &sent, quote);
                let told = too_big(ends, ends.frontend, ends.client, 1400, &opening.clone().hop(), quote);
                script.send(Trusted, &came, to_client(&told.hop(), ends));
                // L-13: somebody on the way to the client, about the backend's answer as the Internet saw it.
                let router = ends.either("192.0.2.77", "2001:db8:77::1");
                let seen = answer.clone().from(&vip).hop();
                let came = too_big(ends, router, ends.frontend, 1400, &seen, quote);
                let told = too_big(ends, router, ends.server, 1400, &answer.clone().hop(), quote);
                script.send(Untrusted, &came, to_backend(&told.hop(), ends));
            }
            script.run();
        }
    }
}

#[test]
fn too_big_for_the_way_out() {
    let config = changed(&web(), "device: eth2, mtu: 1500", "device: eth2, mtu: 1300");
    for ends in BOTH {
        let (header, (kind, code)) = ends.either((28, (3, 4)), (48, (2, 0)));
        let sized = |len: usize| udp(&ends.client(7), &ends.server(53)).data(&vec![b'b'; len - header]);
        let mut script = Script::new("DF: the sender is told the MTU", &config);
        let long = sized(1301);
        let told = error(ends.outside, &long, kind, code, 1300);
        script.send(Untrusted, &long, refuses("too_big", Untrusted, &told).rule(DNS));
        script.send(Untrusted, &sized(1300), goes_in(&sized(1300), DNS));
        // Of a known flow too, and about its packet as it came.
        script.send(Untrusted, &long, refuses("too_big", Untrusted, &told).rule(DNS));
        script.run();
    }
}

#[test]
fn too_big_for_the_way_out_may_be_cut() {
    let config = changed(&web(), "device: eth2, mtu: 1500", "device: eth2, mtu: 1280");
    for len in [1280, 1281, 2532, 2533, 3000] {
        let long = udp(&V4.client(7), &V4.server(53)).may_fragment().data(&vec![b'c'; len - 28]);
        let sent = long.clone().hop();
        let pieces = if len <= 1280 { vec![sent.clone()] } else { sent.fragments(&[1256, 1256]) };
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.ip_bytes()[20..].to_vec()).collect();
        assert_eq!(all, sent.segment_bytes(), "the pieces are the whole");
        assert!(pieces.iter().all(|piece| piece.ip_bytes().len() <= 1280), "each piece fits");
        let expect = pieces[1..]
            .iter()
            .fold(forwards(Trusted, &pieces[0]).rule(DNS), |expect, piece| expect.and(Trusted, piece));
        let mut script = Script::new("no DF: cut, each piece in its place", &config);
        script.send(Untrusted, &long, expect);
        script.run();
    }
}

#[test]
fn no_route() {
    let config = changed(&web(), "  - {to: 0.0.0.0/0, via: 203.0.113.254}\n", "");
    let config = changed(&config, "  - {to: \"::/0\", via: \"2001:db8:113::fe\"}\n", "");
    for ends in BOTH {
        let mut script = Script::new("network unreachable", &config);
        let lost = udp(&ends.server(9), &ends.client(7));
        let told = error(ends.inside, &lost, ends.either(3, 1), 0, 0);
        let rule = "web-nsg/AllowInternetOutBound";
        script.send(Trusted, &lost, refuses("no_route", Trusted, &told).rule(rule));
        let near = lost.clone().to(&at(ends.either("203.0.113.254", "2001:db8:113::fe"), 7));
        script.send(Trusted, &near, forwards(Untrusted, &near.clone().hop()).rule(rule));
        script.run();
    }
}

#[test]
fn never_about_an_error() {
    for ends in BOTH {
        let (mut script, talk) = opened("an error whose time runs out is dropped in silence", ends);
        let router = ends.either("192.0.2.77", "2001:db8:77::1");
        let about = too_big(ends, router, ends.server, 1400, &talk.s(0, 7), 200);
        script.send(Untrusted, &about.clone().ttl(1), drops("ttl_exceeded").rule(WEB));
        script.send(Untrusted, &about, goes_in(&about, WEB));
        script.run();
    }
}

#[test]
fn never_about_a_later_fragment() {
    for ends in BOTH {
        let whole = udp(&ends.client(7), &ends.server(53)).data(&[0; 40]);
        let [first, later] = <[Packet; 2]>::try_from(whole.fragments(&[24])).ok().expect("two fragments");
        let mut script = Script::new("only the first is told about", &web());
        let late = first.clone().id(2).ttl(1);
        let told = error(ends.outside, &late, ends.either(11, 3), 0, 0);
        script.send(Untrusted, &late, refuses("ttl_exceeded", Untrusted, &told).rule(DNS));
        script.send(Untrusted, &first, goes_in(&first, DNS));
        script.send(Untrusted, &later.clone().ttl(1), drops("ttl_exceeded").rule(DNS));
        script.run();
    }
}

#[test]
fn at_most_so_many() {
    let mut script = Script::new("D-11: a hundred at once, then a thousand a second", &web());
    let late = udp(&V4.client(7), &V4.server(53)).ttl(1);
    let told = error(V4.outside, &late, 11, 0, 0);
    for n in 0..150 {
        let expect = if n < 100 { refuses("ttl_exceeded", Untrusted, &told) } else { drops("ttl_exceeded") };
        script.wait(Duration::ZERO).send(Untrusted, &late, expect.rule(DNS));
    }
    script.wait(Duration::from_millis(1));
    script.send(Untrusted, &late, refuses("ttl_exceeded", Untrusted, &told).rule(DNS));
    script.wait(Duration::ZERO).send(Untrusted, &late, drops("ttl_exceeded").rule(DNS));
    script.run();
}
