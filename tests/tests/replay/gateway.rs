//! Tunnels of a gateway load balancer: what passes, what is kept apart, and what stands on the wire.

use crate::ends::{BOTH, Ends, V4, V6, at, rule};
use nva_tests::packet::{Packet, arp_reply, arp_request, echo, echo_reply, error, icmp, other, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Expect, Script, consumes, drops, forwards, holds, refuses, replies};
use nva_tests::tunnel::{INNER, Tunnel, back, inner};
use std::time::Duration;

/// Over IPv4: the contract's tunnels.
const INTERNAL: Tunnel = Tunnel { own: "10.2.0.1", peer: "10.2.0.200", vni: 800, udp_port: 10_800 };
const EXTERNAL: Tunnel = Tunnel { vni: 801, udp_port: 10_801, ..INTERNAL };
/// Over IPv6.
const INTERNAL6: Tunnel = Tunnel { own: "fd00:2::1", peer: "fd00:2::c8", ..INTERNAL };
const EXTERNAL6: Tunnel = Tunnel { own: "fd00:2::1", peer: "fd00:2::c8", ..EXTERNAL };
/// Outer ends of both families.
const OUTER: [(Tunnel, Tunnel); 2] = [(EXTERNAL, INTERNAL), (EXTERNAL6, INTERNAL6)];

const WEB: &str = "web-nsg/web";

/// Gateways over both families, at addresses of the trusted port, with these keys in each.
fn gateways(keys: &str) -> String {
    let gateway = |own, peer, names: [&str; 2]| {
        format!(
            "  - port: trusted\n    address: \"{own}\"\n    peers: [\"{peer}\"]\n{keys}    tunnels:\n      \
             - {{name: {}, trust: trusted, vni: 800, udp_port: 10800}}\n      \
             - {{name: {}, trust: untrusted, vni: 801, udp_port: 10801}}\n",
            names[0], names[1]
        )
    };
    let [v4, v6] = [
        gateway("10.2.0.1", "10.2.0.200", ["internal", "external"]),
        gateway("fd00:2::1", "fd00:2::c8", ["internal6", "external6"]),
    ];
    format!("gateway:\n{v4}{v6}")
}

/// The network with these sections, and neighbours that are the peers.
fn with_peers(sections: &str) -> String {
    let peers = "neighbors:\n  - {address: 10.2.0.200, mac: \"02:00:00:00:02:c8\"}\n  \
                 - {address: 10.2.0.201, mac: \"02:00:00:00:02:c9\"}\n  \
                 - {address: \"fd00:2::c8\", mac: \"02:00:00:00:02:c8\"}\n";
    network(sections).replacen("neighbors:\n", peers, 1)
}

/// What is behind the frontends, which rules may tell.
const FRONTENDS: &str = "    frontends: {203.0.113.10: [10.2.0.4], \"2001:db8:113::10\": [\"fd00:2::4\"]}\n";

fn gateway() -> String {
    with_peers(&gateways(""))
}

/// Only web traffic may reach what is behind the frontends; what is there may go anywhere but to port 25.
fn guarded(keys: &str) -> String {
    let rules = [
        rule("web", 100, "inbound", "allow", "tcp", "[443]"),
        rule("no-mail", 100, "outbound", "deny", "tcp", "[25]"),
    ];
    let (v4, v6) = FRONTENDS.split_once(", \"2001").expect("two");
    let gateways = gateways("FRONTENDS");
    let gateways = gateways.replacen("FRONTENDS", &format!("{v4}}}\n{keys}"), 1);
    let gateways = gateways.replacen("FRONTENDS", &format!("    frontends: {{\"2001{}{keys}", v6), 1);
    with_peers(&format!("{}{gateways}", crate::ends::group(&rules)))
}

/// A client in the Internet and a frontend, as inner packets have them.
fn request(ends: Ends) -> Packet {
    tcp(&ends.client(40_000), &at(ends.frontend, 443))
}

fn answer(ends: Ends) -> Packet {
    tcp(&at(ends.frontend, 443), &ends.client(40_000))
}

/// In by one tunnel, out by the other, the inner frame untouched.
fn crosses(script: &mut Script, from: Tunnel, to: Tunnel, frame: &[u8], rule: Option<&str>) {
    let expect = forwards(Trusted, &to.leaves(frame));
    let expect = rule.map_or(expect.clone(), |rule| expect.rule(rule));
    script.send(Trusted, &from.arrives(frame), expect);
}

/// In by a tunnel, and dropped.
fn refused(script: &mut Script, from: Tunnel, frame: &[u8], expect: Expect) {
    script.send(Trusted, &from.arrives(frame), expect);
}

/// A connection, opened.
fn open(script: &mut Script, outer: (Tunnel, Tunnel), ends: Ends, rule: Option<&str>) {
    let (external, internal) = outer;
    crosses(script, external, internal, &inner(&request(ends).syn(99)), rule);
    crosses(script, internal, external, &back(&answer(ends).ack(999, 100).syn(999)), rule);
    crosses(script, external, internal, &inner(&request(ends).ack(100, 1000)), rule);
}

#[test]
fn what_comes_by_one_tunnel_leaves_by_the_other() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let mut script = Script::new("V-01, V-08: a connection through both tunnels", &gateway());
        open(&mut script, outer, ends, None);
        let (external, internal) = outer;
        // A time to live that would end at a router, and padding: a wire changes neither.
        let data = request(ends).ack(100, 1000).data(b"request").ttl(1).padded(9);
        crosses(&mut script, external, internal, &inner(&data), None);
        let data = answer(ends).ack(1000, 107).data(&[0x5a; 900]).ttl(0);
        crosses(&mut script, internal, external, &back(&data), None);
        crosses(&mut script, internal, external, &back(&answer(ends).ack(1900, 107).fin()), None);
        script.run();
    }
}

#[test]
fn datagrams_echoes_and_other_protocols_cross_too() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let (external, internal) = outer;
        let mut script = Script::new("begun on either side", &gateway());
        let frontend = ends.frontend;
        crosses(&mut script, internal, external, &back(&udp(&at(frontend, 999), &ends.client(53))), None);
        crosses(&mut script, external, internal, &inner(&udp(&ends.client(53), &at(frontend, 999))), None);
        crosses(&mut script, external, internal, &inner(&echo(ends.client, frontend, 7)), None);
        crosses(&mut script, internal, external, &back(&echo_reply(frontend, ends.client, 7)), None);
        crosses(&mut script, external, internal, &inner(&other(ends.client, frontend, 50)), None);
        script.run();
    }
}

#[test]
fn networks_ports_and_peers_that_are_not_ours() {
    for (external, internal) in OUTER {
        let mut script = Script::new("V-05, V-06, V-07", &gateway());
        let frame = inner(&request(V4).syn(1));
        for vni in [0, 1, 802, 0xff_ffff] {
            refused(&mut script, external.vni(vni), &frame, drops("tunnel_unknown_vni"));
        }
        refused(&mut script, external.udp_port(10_800), &frame, drops("tunnel_wrong_port"));
        refused(&mut script, internal.udp_port(10_801), &frame, drops("tunnel_wrong_port"));
        refused(&mut script, internal.udp_port(4789), &frame, drops("tunnel_wrong_port"));
        refused(&mut script, external.udp_port(4789).vni(9), &frame, drops("tunnel_unknown_vni"));
        let stranger = if external.own.contains(':') { "fd00:2::c9" } else { "10.2.0.201" };
        refused(&mut script, external.peer(stranger), &frame, drops("tunnel_bad_peer"));
        refused(&mut script, external.peer(stranger).vni(9), &frame, drops("tunnel_bad_peer"));
        // Not one of the tunnels' ports at all: nobody listens.
        refused(&mut script, external.udp_port(10_802), &frame, drops("denied_by_rule"));
        crosses(&mut script, external, internal, &frame, None);
        script.run();
    }
}

#[test]
fn sources_of_the_trusted_side_come_by_its_tunnel_only() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let (external, internal) = outer;
        let mut script = Script::new("a frontend's address, and the network's", &guarded(""));
        for (from, rule) in [
            (at(ends.frontend, 999), Some("web-nsg/AllowInternetOutBound")),
            (at(ends.second, 999), Some("web-nsg/AllowInternetOutBound")),
        ] {
            let packet = udp(&from, &ends.client(53));
            refused(&mut script, external, &inner(&packet), drops("tunnel_trust"));
            crosses(&mut script, internal, external, &back(&packet), rule);
        }
        let platform = udp("168.63.129.16:999", "203.0.113.10:53");
        refused(&mut script, external, &inner(&platform), drops("spoofed"));
        let own = udp(&at(ends.inside, 999), &ends.client(53));
        refused(&mut script, internal, &back(&own), drops("spoofed"));
        script.run();
    }
}

#[test]
fn a_flow_keeps_to_its_sides() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let (external, internal) = outer;
        let mut script = Script::new("an answer by the tunnel of the question, and the reverse", &gateway());
        open(&mut script, outer, ends, None);
        let reply = back(&answer(ends).ack(1000, 100).data(b"answer"));
        refused(&mut script, external, &reply, drops("tunnel_trust"));
        refused(
            &mut script,
            internal,
            &inner(&request(ends).ack(100, 1000).data(b"x")),
            drops("tunnel_trust"),
        );
        // Nor may it come without a tunnel, whichever port that is.
        let bare = answer(ends).ack(1000, 100).data(b"answer");
        script.send(Trusted, &bare, drops("tunnel_trust"));
        script.send(Untrusted, &request(ends).ack(100, 1000), drops("tunnel_trust"));
        crosses(&mut script, internal, external, &reply, None);
        script.run();
    }
}

#[test]
fn a_flow_outside_of_the_tunnels_stays_outside() {
    for ends in BOTH {
        let config = with_peers(&format!(
            "{}{}",
            crate::ends::group(&[rule("web", 100, "inbound", "allow", "udp", "[53]")]),
            gateways("")
        ));
        let mut script = Script::new("routed, then seen in a tunnel", &config);
        let question = udp(&ends.client(40_000), &ends.server(53));
        let reply = udp(&ends.server(53), &ends.client(40_000));
        script.send(Untrusted, &question, forwards(Trusted, &question.clone().hop()).rule(WEB));
        refused(&mut script, INTERNAL, &back(&reply), drops("tunnel_trust"));
        refused(&mut script, EXTERNAL, &inner(&question), drops("tunnel_trust"));
        script.send(Trusted, &reply, forwards(Untrusted, &reply.clone().hop()).rule(WEB));
        script.run();
    }
}

#[test]
fn rules_for_what_is_behind_a_frontend_decide() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let (external, internal) = outer;
        let mut script = Script::new("A1.4: private destinations match", &guarded(""));
        let denied = tcp(&ends.client(40_000), &at(ends.frontend, 80)).syn(1);
        refused(
            &mut script,
            external,
            &inner(&denied),
            drops("denied_by_rule").rule("web-nsg/DenyAllInBound"),
        );
        open(&mut script, outer, ends, Some(WEB));
        let mail = tcp(&at(ends.frontend, 999), &ends.client(25)).syn(1);
        refused(&mut script, internal, &back(&mail), drops("denied_by_rule").rule("web-nsg/no-mail"));
        script.run();
    }
}

#[test]
fn a_frontend_without_rules_behind_it_is_closed() {
    let keys = "    frontends: {203.0.113.10: [10.9.0.4]}\n";
    let config = changed(
        &with_peers(&gateways("")),
        "peers: [\"10.2.0.200\"]\n",
        &format!("peers: [\"10.2.0.200\"]\n{keys}"),
    );
    let mut script = Script::new("closed by default", &config);
    refused(&mut script, EXTERNAL, &inner(&request(V4).syn(1)), drops("denied_by_rule"));
    crosses(&mut script, EXTERNAL, INTERNAL, &inner(&request(V4).to("203.0.113.11").syn(1)), None);
    script.run();
}

#[test]
fn outer_headers_that_are_not_right() {
    let frame = inner(&request(V4).syn(1));
    let good = || EXTERNAL.arrives(&frame);
    let wrong_sum =
        udp("10.2.0.200:50000", "10.2.0.1:10801").data(&[&[8, 0, 0, 0, 0, 3, 33, 0], &frame[..]].concat());
    let mut script = Script::new("V-02, V-03, V-04, V-09, V-12", &gateway());
    script.send(Trusted, &wrong_sum.clone().flip(41), drops("bad_checksum"));
    script.send(Trusted, &good().edit(|frame| frame[42] = 0xf7), drops("malformed"));
    script.send(Trusted, &good().data(&[8, 0, 0, 0, 0, 3, 33]), drops("malformed"));
    script.send(Trusted, &good().data(&[]), drops("malformed"));
    for short in [0, 1, 13] {
        refused(&mut script, EXTERNAL, &frame[..short], drops("malformed"));
    }
    refused(&mut script, EXTERNAL, &frame[..20], drops("malformed"));
    script.send(Trusted, &good().edit(|frame| frame[14 + 2] = 9), drops("malformed"));
    let mut pieces = good().may_fragment().fragments(&[48]);
    let rest = pieces.pop().expect("two");
    script.send(Trusted, &pieces[0], drops("fragment"));
    script.send(Trusted, &rest, drops("fragment"));
    // All reserved bits, a right checksum, header options that do nothing: these are good.
    let odd = good().edit(|frame| {
        frame[42..46].fill(0xff);
        frame[49] = 0xff;
    });
    script.send(Trusted, &odd, forwards(Trusted, &INTERNAL.leaves(&frame)));
    script.send(Trusted, &wrong_sum, forwards(Trusted, &INTERNAL.leaves(&frame)));
    script.send(Trusted, &good().options(&[1, 1, 1, 0]), forwards(Trusted, &INTERNAL.leaves(&frame)));
    script.send(Trusted, &good().padded(30), forwards(Trusted, &INTERNAL.leaves(&frame)));
    script.run();
}

#[test]
fn over_ipv6_a_checksum_is_needed_unless_agreed_otherwise() {
    let frame = inner(&request(V6).syn(1));
    let bare = EXTERNAL6.arrives(&frame).without_checksum();
    let mut script = Script::new("V-16: not agreed", &gateway());
    script.send(Trusted, &bare, drops("bad_checksum"));
    crosses(&mut script, EXTERNAL6, INTERNAL6, &frame, None);
    script.run();
    let mut script = Script::new("V-16: agreed", &with_peers(&gateways("    zero_checksum_ipv6: true\n")));
    let leaves = INTERNAL6.leaves(&frame).without_checksum();
    script.send(Trusted, &bare, forwards(Trusted, &leaves));
    script.send(Trusted, &EXTERNAL6.arrives(&frame), forwards(Trusted, &leaves));
    script.send(Trusted, &EXTERNAL6.arrives(&frame).flip(61), drops("bad_checksum"));
    script.run();
}

#[test]
fn inner_frames_that_are_not_right() {
    let good = inner(&request(V4).syn(1));
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let mut script = Script::new("V-10, V-11, V-17", &gateway());
    let tagged = [&good[..12], &[0x81, 0, 0, 5], &good[12..]].concat();
    refused(&mut script, EXTERNAL, &tagged, drops("unsupported"));
    refused(&mut script, EXTERNAL, &with(24, &[good[24] ^ 1]), drops("bad_checksum"));
    refused(&mut script, EXTERNAL, &with(50, &[good[50] ^ 1]), drops("bad_checksum"));
    for station in [Untrusted.station(), Trusted.station()] {
        refused(&mut script, EXTERNAL, &with(6, &station), drops("spoofed"));
    }
    refused(&mut script, EXTERNAL, &with(6, &[7, 0, 0, 0, 0, 1]), drops("malformed"));
    refused(&mut script, EXTERNAL, &with(0, &[0xff; 6]), drops("not_for_us"));
    refused(&mut script, EXTERNAL, &arp_request(INNER.1, "192.0.2.1", "192.0.2.2"), drops("unsupported"));
    let asks = nva_tests::packet::solicitation(INNER.1, "fe80::1", "fe80::2")
        .frame([0x33, 0x33, 0xff, 0, 0, 2], INNER.1);
    refused(&mut script, EXTERNAL, &asks, drops("not_for_us"));
    crosses(&mut script, EXTERNAL, INTERNAL, &good, None);
    script.run();
}

#[test]
fn a_tunnel_in_a_tunnel_is_a_datagram() {
    let deepest = inner(&request(V4).syn(1));
    let nested = INTERNAL.arrives(&deepest).from("198.51.100.9:50000").to("203.0.113.10:10800");
    let mut script = Script::new("V-18", &gateway());
    crosses(&mut script, EXTERNAL, INTERNAL, &inner(&nested), None);
    script.run();
}

#[test]
fn congestion_is_told_inside() {
    const NOT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    let becomes = |outer, field| match (field, outer) {
        (NOT, CE) => None,
        (ECT0 | ECT1, CE) => Some(CE),
        (ECT0, ECT1) => Some(ECT1),
        _ => Some(field),
    };
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let (external, internal) = outer;
        let mut script = Script::new("V-15: every pair of fields, codepoints of both kept apart", &gateway());
        let packet = |field: u8| udp(&ends.client(53), &at(ends.frontend, 53)).traffic_class(0x28 | field);
        for (field, mark) in (0..4).flat_map(|field| (0..4).map(move |mark| (field, mark))) {
            let arrives = external.arrives(&inner(&packet(field))).traffic_class(0xb8 | mark);
            let expect = match becomes(mark, field) {
                None => drops("malformed"),
                Some(now) => forwards(Trusted, &internal.leaves(&inner(&packet(now)))),
            };
            script.send(Trusted, &arrives, expect);
        }
        script.run();
    }
}

#[test]
fn outer_headers_have_the_codepoint_that_is_configured() {
    let mut script = Script::new("V-15: a codepoint", &with_peers(&gateways("    dscp: 46\n")));
    let frame = inner(&udp("198.51.100.9:53", "203.0.113.10:53").traffic_class(0x2a));
    let leaves = INTERNAL.leaves(&frame).traffic_class(46 << 2 | 2);
    script.send(Trusted, &EXTERNAL.arrives(&frame), forwards(Trusted, &leaves));
    script.run();
}

/// An error about a packet, as the appliance sends it back inside.
fn too_big(ends: Ends, about: &Packet, mtu: u32) -> Packet {
    let (kind, code) = ends.either((3, 4), (2, 0));
    error(ends.frontend, about, kind, code, mtu)
}

#[test]
fn what_does_not_fit_is_told_inside_the_tunnel() {
    for ((external, internal), ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let room = if external.own.contains(':') { 1430 } else { 1450 };
        let mut script = Script::new("V-13", &gateway());
        let headers = ends.either(28, 48);
        let sized = |len: usize| udp(&ends.client(53), &at(ends.frontend, 53)).data(&vec![7; len - headers]);
        let long = sized(room + 1);
        // The sender is told, by the tunnel that its packet came by, from whom it spoke to.
        let told = back(&too_big(ends, &long, room as u32));
        script.send(
            Trusted,
            &external.arrives(&inner(&long)),
            refuses("too_big", Trusted, &external.leaves(&told)),
        );
        crosses(&mut script, external, internal, &inner(&sized(room)), None);
        script.run();
    }
}

#[test]
fn what_may_be_cut_is_cut_inside() {
    let mut script = Script::new("V-13: without DF", &gateway());
    let long = udp("198.51.100.9:53", "203.0.113.10:53").data(&[7; 1472]).may_fragment();
    let pieces = long.fragments(&[1424]);
    let expect = forwards(Trusted, &INTERNAL.leaves(&inner(&pieces[0])));
    script.send(
        Trusted,
        &EXTERNAL.arrives(&inner(&long)),
        expect.and(Trusted, &INTERNAL.leaves(&inner(&pieces[1]))),
    );
    script.run();
}

#[test]
fn padding_does_not_have_to_fit() {
    for ends in BOTH {
        let mut script =
            Script::new("what is behind a packet is cut off where it is too long with it", &gateway());
        let sized = |len: usize| {
            udp(&ends.client(53), &at(ends.frontend, 53)).data(&vec![7; len - ends.either(28, 48)])
        };
        let padded = sized(1440).padded(11);
        script.send(
            Trusted,
            &EXTERNAL.arrives(&inner(&padded)),
            forwards(Trusted, &INTERNAL.leaves(&inner(&sized(1440)))),
        );
        crosses(&mut script, EXTERNAL, INTERNAL, &inner(&sized(1440).padded(10)), None);
        script.run();
    }
    let mut script = Script::new("and is in no piece", &gateway());
    let long = udp("198.51.100.9:53", "203.0.113.10:53").data(&[7; 1472]).may_fragment();
    let pieces = long.fragments(&[1424]);
    let expect = forwards(Trusted, &INTERNAL.leaves(&inner(&pieces[0])));
    let expect = expect.and(Trusted, &INTERNAL.leaves(&inner(&pieces[1])));
    script.send(Trusted, &EXTERNAL.arrives(&inner(&long.padded(9))), expect);
    script.run();
}

#[test]
fn a_smaller_way_to_the_peers_counts() {
    let mut script = Script::new("the outer path's MTU", &with_peers(&gateways("    mtu: 1400\n")));
    let long = udp("198.51.100.9:53", "203.0.113.10:53").data(&[7; 1323]);
    let told = back(&too_big(V4, &long, 1350));
    script.send(
        Trusted,
        &EXTERNAL.arrives(&inner(&long)),
        refuses("too_big", Trusted, &EXTERNAL.leaves(&told)),
    );
    script.run();
}

#[test]
fn segment_sizes_are_made_to_fit() {
    for ((external, internal), ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let room = if external.own.contains(':') { 1430 } else { 1450 };
        let fits: u16 = room - ends.either(40, 60);
        let mss = |packet: Packet, size: u16, odd: bool| {
            let [high, low] = size.to_be_bytes();
            let options = if odd { [1, 2, 4, high, low, 1, 1, 0] } else { [2, 4, high, low, 1, 1, 4, 2] };
            packet.tcp_options(&options)
        };
        let mut script = Script::new("a SYN and its answer", &with_peers(&gateways("    clamp_mss: true\n")));
        for odd in [false, true] {
            let port = 40_000 + u16::from(odd);
            let syn = tcp(&ends.client(port), &at(ends.frontend, 443)).syn(99);
            let reply = tcp(&at(ends.frontend, 443), &ends.client(port)).ack(999, 100).syn(999);
            let leaves = internal.leaves(&inner(&mss(syn.clone(), fits, odd)));
            script.send(Trusted, &external.arrives(&inner(&mss(syn, 1460, odd))), forwards(Trusted, &leaves));
            let leaves = external.leaves(&back(&mss(reply.clone(), fits, odd)));
            script.send(
                Trusted,
                &internal.arrives(&back(&mss(reply, 9000, odd))),
                forwards(Trusted, &leaves),
            );
        }
        let small = mss(tcp(&ends.client(41_000), &at(ends.frontend, 443)).syn(99), 1200, false);
        crosses(&mut script, external, internal, &inner(&small), None);
        script.run();
    }
}

#[test]
fn probes_outside_of_the_tunnels_are_answered() {
    let mut script = Script::new("the host path", &gateway());
    let probe = echo("10.2.0.200", "10.2.0.1", 1);
    script.send(Trusted, &probe, replies(Trusted, &echo_reply("10.2.0.1", "10.2.0.200", 1)));
    let probe = echo("fd00:2::c8", "fd00:2::1", 1);
    script.send(Trusted, &probe, replies(Trusted, &echo_reply("fd00:2::1", "fd00:2::c8", 1)));
    script.run();
}

#[test]
fn our_own_addresses_are_not_answered_inside() {
    let mut script = Script::new("in the wire nobody is at home", &gateway());
    crosses(&mut script, EXTERNAL, INTERNAL, &inner(&echo("198.51.100.9", "203.0.113.1", 1)), None);
    script.run();
}

#[test]
fn errors_about_a_flow_go_its_way() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let (external, internal) = outer;
        let mut script = Script::new("a router's, from either side", &gateway());
        open(&mut script, outer, ends, None);
        let data = answer(ends).ack(1000, 100).data(&[7; 900]);
        crosses(&mut script, internal, external, &back(&data), None);
        let (kind, code) = ends.either((3, 4), (2, 0));
        let router = ends.either("192.0.2.77", "2001:db8:77::1");
        let mut quoted = data.ip_bytes();
        quoted.truncate(200);
        let about = icmp(router, ends.frontend, kind, code, 1300).data(&quoted);
        refused(&mut script, internal, &back(&about), drops("tunnel_trust"));
        crosses(&mut script, external, internal, &inner(&about), None);
        script.run();
    }
}

#[test]
fn inner_fragments_follow_their_first() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let (external, internal) = outer;
        let mut script = Script::new("in both orders", &gateway());
        let datagram = udp(&ends.client(53), &at(ends.frontend, 53)).data(&[7; 600]);
        let pieces = datagram.clone().id(1).fragments(&[320]);
        for piece in &pieces {
            crosses(&mut script, external, internal, &inner(piece), None);
        }
        let pieces = datagram.id(2).fragments(&[320]);
        script.send(Trusted, &external.arrives(&inner(&pieces[1])), holds().forwarded_later());
        let expect = forwards(Trusted, &internal.leaves(&inner(&pieces[0])));
        script.send(
            Trusted,
            &external.arrives(&inner(&pieces[0])),
            expect.and(Trusted, &internal.leaves(&inner(&pieces[1]))),
        );
        script.run();
    }
}

#[test]
fn an_unknown_peer_address_is_asked_for() {
    let config = network(&gateways(""));
    let mut script = Script::new("outer headers wait with the packet", &config);
    let (station, peer) = (Trusted.station(), [2, 0, 0, 0, 2, 0xc8]);
    let frame = inner(&request(V4).syn(1));
    let asks = arp_request(station, "10.2.0.1", "10.2.0.200");
    script.send(Trusted, &EXTERNAL.arrives(&frame), holds().forwarded_later().and(Trusted, &asks));
    let says = arp_reply(peer, "10.2.0.200", station, "10.2.0.1");
    script.send(Trusted, &says, consumes().and(Trusted, &INTERNAL.leaves(&frame)));
    crosses(&mut script, EXTERNAL, INTERNAL, &inner(&request(V4).from("198.51.100.9:1").syn(1)), None);
    script.run();
}

#[test]
fn a_peer_that_never_answers_loses_what_waits() {
    let config = network(&gateways(""));
    let mut script = Script::new("unresolved", &config);
    let asks = arp_request(Trusted.station(), "10.2.0.1", "10.2.0.200");
    let frame = inner(&request(V4).syn(1));
    let expect = holds().dropped_later("unresolved_neighbor").and(Trusted, &asks);
    script.send(Trusted, &EXTERNAL.arrives(&frame), expect);
    for _ in 0..2 {
        script.wait(Duration::from_secs(1)).sends(Trusted, &asks);
    }
    script.wait(Duration::from_secs(1)).to_the_end();
    script.run();
}

/// A gateway with two peers, and another one whose tunnels end at two ports.
fn several() -> String {
    with_peers(
        "gateway:\n  - port: trusted\n    address: 10.2.0.1\n    peers: [10.2.0.200, 10.2.0.201]\n    tunnels:\n      \
         - {name: internal, trust: trusted, vni: 800, udp_port: 10800}\n      \
         - {name: external, trust: untrusted, vni: 801, udp_port: 10801}\n  \
         - port: trusted\n    address: 10.2.0.1\n    peers: [10.3.0.200]\n    tunnels:\n      \
         - {name: inner, trust: trusted, vni: 900, udp_port: 10800}\n      \
         - {name: outer, trust: untrusted, vni: 901, udp_port: 10801, port: untrusted, address: 203.0.113.1}\n",
    )
}

#[test]
fn a_flow_leaves_to_the_peer_that_it_came_from() {
    let other = |tunnel: Tunnel| tunnel.peer("10.2.0.201");
    let mut script = Script::new("two peers", &several());
    open(&mut script, (other(EXTERNAL), other(INTERNAL)), V4, None);
    let data = |seq| inner(&request(V4).ack(seq, 1000).data(b"1234"));
    crosses(&mut script, other(EXTERNAL), other(INTERNAL), &data(100), None);
    // The balancer moved the flow to its other address.
    crosses(&mut script, EXTERNAL, INTERNAL, &data(104), None);
    crosses(&mut script, INTERNAL, EXTERNAL, &back(&answer(V4).ack(1000, 108)), None);
    // Tunnels of another gateway are no way for it.
    refused(&mut script, INNER_POOL, &back(&answer(V4).ack(1000, 108)), drops("tunnel_trust"));
    crosses(&mut script, other(INTERNAL), other(EXTERNAL), &back(&answer(V4).ack(1000, 108)), None);
    script.run();
}

/// Tunnels that end at two ports, to a peer that each port reaches through its own router.
const INNER_POOL: Tunnel = Tunnel { own: "10.2.0.1", peer: "10.3.0.200", vni: 900, udp_port: 10_800 };
const OUTER_POOL: Tunnel = Tunnel { own: "203.0.113.1", vni: 901, udp_port: 10_801, ..INNER_POOL };

#[test]
fn two_pools_are_two_ports() {
    let mut script = Script::new("in by one port, out by the other", &several());
    let (syn, reply) = (inner(&request(V4).syn(99)), back(&answer(V4).ack(999, 100).syn(999)));
    script.send(Untrusted, &OUTER_POOL.arrives(&syn), forwards(Trusted, &INNER_POOL.leaves(&syn)));
    script.send(Trusted, &INNER_POOL.arrives(&reply), forwards(Untrusted, &OUTER_POOL.leaves(&reply)));
    // Each tunnel ends at its own port and address only: elsewhere the peer is a stranger.
    script.send(Untrusted, &INNER_POOL.arrives(&reply), drops("spoofed"));
    let elsewhere = Tunnel { own: "10.2.0.1", ..OUTER_POOL };
    script.send(Trusted, &elsewhere.arrives(&syn), drops("tunnel_unknown_vni"));
    script.run();
}

/// What a router on the way to a peer says of a packet that it could not pass on.
fn narrow(outer: Tunnel, quoted: &Packet, mtu: u32) -> Packet {
    let is_v4 = !outer.own.contains(':');
    let (router, (kind, code)) = if is_v4 { ("10.2.0.254", (3, 4)) } else { ("fd00:2::fe", (2, 0)) };
    let mut quote = quoted.ip_bytes();
    quote.truncate(540);
    icmp(router, outer.own, kind, code, mtu).data(&quote)
}

#[test]
fn a_narrow_way_to_a_peer_is_learnt_and_forgotten() {
    for ((external, internal), ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let over = if external.own.contains(':') { 70 } else { 50 };
        let mut script = Script::new("RFC 1191 and RFC 8201, of outer packets", &gateway());
        let headers = ends.either(28, 48);
        let sized = |len: usize| udp(&ends.client(53), &at(ends.frontend, 53)).data(&vec![7; len - headers]);
        let full = inner(&sized(1500 - over));
        crosses(&mut script, external, internal, &full, None);
        let sent = internal.leaves(&full);
        // It would have fitted; it is of no tunnel, of no peer; and what is no packet of ours at all.
        let stranger = if over == 70 { "fd00:2::c9" } else { "10.2.0.201" };
        let odd = udp(&at(internal.own, 1_000), &at(internal.peer, 10_800)).data(&[8; 1_400]);
        for (quoted, mtu) in [
            (&sent, 1500),
            (&internal.vni(900).leaves(&full), 1400),
            (&internal.udp_port(4789).leaves(&full), 1400),
            (&internal.peer(stranger).leaves(&full), 1400),
            (&odd, 1300),
            (&internal.leaves(&inner(&sized(1300))), 1400),
        ] {
            script.send(Trusted, &narrow(internal, quoted, mtu), drops("invalid_state"));
        }
        crosses(&mut script, external, internal, &full, None);
        script.send(Trusted, &narrow(internal, &sent, 1400), consumes());
        let told = back(&too_big(ends, &sized(1500 - over), (1400 - over) as u32));
        let expect = || refuses("too_big", Trusted, &external.leaves(&told));
        script.send(Trusted, &external.arrives(&full), expect());
        crosses(&mut script, external, internal, &inner(&sized(1400 - over)), None);
        // A wider one does not count meanwhile.
        script.send(Trusted, &narrow(internal, &sent, 1450), consumes());
        script.send(Trusted, &external.arrives(&full), expect());
        script.wait(Duration::from_secs(600));
        crosses(&mut script, external, internal, &full, None);
        script.run();
    }
}

#[test]
fn no_router_makes_a_way_narrower_than_every_host_takes() {
    for (said, room) in [(0, 1442), (100, 594), (643, 594), (1006, 956)] {
        let mut script = Script::new("a floor, and plateaus for routers that do not say it", &gateway());
        let sized = |len: usize| udp("198.51.100.9:53", "203.0.113.10:53").data(&vec![7; len - 28]);
        let full = inner(&sized(1450));
        crosses(&mut script, EXTERNAL, INTERNAL, &full, None);
        script.send(Trusted, &narrow(INTERNAL, &INTERNAL.leaves(&full), said), consumes());
        let told = back(&too_big(V4, &sized(1450), room));
        script.send(Trusted, &EXTERNAL.arrives(&full), refuses("too_big", Trusted, &EXTERNAL.leaves(&told)));
        crosses(&mut script, EXTERNAL, INTERNAL, &inner(&sized(room as usize)), None);
        script.run();
    }
}
