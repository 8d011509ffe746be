//! Segments of an overlay as ports: address resolution in them, stations behind several remotes, and who may speak.

use crate::ends::{V4, at};
use nva_tests::packet::{Packet, arp_reply, arp_request, echo, echo_reply, error, icmp, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{Mac, changed, network};
use nva_tests::script::{Script, consumes, drops, forwards, holds, refuses, replies};
use nva_tests::tunnel::Tunnel;

/// The ways to two remotes, over IPv4 and over IPv6.
const FIRST: Tunnel = Tunnel { own: "10.2.0.1", peer: "10.2.0.4", vni: 42, udp_port: 4789 };
const SECOND: Tunnel = Tunnel { peer: "10.2.0.5", ..FIRST };
const FIRST6: Tunnel = Tunnel { own: "fd00:2::1", peer: "fd00:2::4", vni: 42, udp_port: 4789 };
const SECOND6: Tunnel = Tunnel { peer: "fd00:2::5", ..FIRST6 };
const OUTER: [(Tunnel, Tunnel); 2] = [(FIRST, SECOND), (FIRST6, SECOND6)];

/// A host in the segment, and the segment's own station: that of the port which carries it.
const HOST: Mac = [2, 0, 0, 0, 9, 4];
const OTHER: Mac = [2, 0, 0, 0, 9, 5];
const OWN: Mac = [2, 0, 0, 0, 0x0a, 2];

/// The network with a segment behind the trusted port.
fn overlay((first, second): (Tunnel, Tunnel), keys: &str) -> String {
    let segment = format!(
        "  - {{name: pool, driver: vxlan, vxlan: {{port: trusted, vni: 42, local: \"{}\", remotes: [\"{}\", \"{}\"]{keys}}}, \
         addresses: [10.9.0.1/24, \"fd00:9::1/64\"], trust: trusted}}\nroutes:\n",
        first.own, first.peer, second.peer
    );
    changed(&network(""), "routes:\n", &segment)
}

/// From the segment's port to a host in it.
fn inward(packet: &Packet) -> Vec<u8> {
    packet.frame(HOST, OWN)
}

fn outward(packet: &Packet) -> Vec<u8> {
    packet.frame(OWN, HOST)
}

#[test]
fn a_host_behind_one_of_two_remotes_is_asked_for_and_found() {
    for outer in OUTER {
        let (first, second) = outer;
        let mut script = Script::new("asked for everywhere, spoken to where it is", &overlay(outer, ""));
        let (to, from) = (at("10.9.0.4", 53), V4.client(40_000));
        let question = udp(&from, &to);
        let asks = arp_request(OWN, "10.9.0.1", "10.9.0.4");
        let expect =
            holds().forwarded_later().and(Trusted, &second.leaves(&asks)).and(Trusted, &first.leaves(&asks));
        script.send(Untrusted, &question, expect);
        let says = arp_reply(HOST, "10.9.0.4", OWN, "10.9.0.1");
        let expect = consumes().of("pool").and(Trusted, &second.leaves(&inward(&question.clone().hop())));
        script.send(Trusted, &second.arrives(&says), expect);
        let answer = udp(&to, &from);
        let expect = || forwards(Untrusted, &answer.clone().hop()).of("pool");
        script.send(Trusted, &second.arrives(&outward(&answer)), expect());
        let more = || forwards(Trusted, &second.leaves(&inward(&question.clone().hop()))).into("pool");
        script.send(Untrusted, &question, more());
        // It moved.
        script.send(Trusted, &first.arrives(&outward(&answer)), expect());
        let moved = forwards(Trusted, &first.leaves(&inward(&question.clone().hop()))).into("pool");
        script.send(Untrusted, &question, moved);
        script.run();
    }
}

#[test]
fn without_learning_every_remote_gets_everything() {
    let config = overlay((FIRST, SECOND), ", learn: false");
    let neighbor = "neighbors:\n  - {address: 10.9.0.4, mac: \"02:00:00:00:09:04\"}\n";
    let mut script = Script::new("static", &config.replacen("neighbors:\n", neighbor, 1));
    let packet = udp(&V4.client(40_000), &at("10.9.0.4", 53));
    let leaves = inward(&packet.clone().hop());
    let expect =
        || forwards(Trusted, &SECOND.leaves(&leaves)).and(Trusted, &FIRST.leaves(&leaves)).into("pool");
    script.send(Untrusted, &packet, expect());
    let answer = udp(&at("10.9.0.4", 53), &V4.client(40_000));
    script.send(
        Trusted,
        &FIRST.arrives(&outward(&answer)),
        forwards(Untrusted, &answer.clone().hop()).of("pool"),
    );
    script.send(Untrusted, &packet, expect());
    script.run();
}

#[test]
fn the_segments_port_answers_as_any() {
    let mut script =
        Script::new("address resolution and echo, to the remote that asks", &overlay((FIRST, SECOND), ""));
    let asks = arp_request(HOST, "10.9.0.4", "10.9.0.1");
    let says = arp_reply(OWN, "10.9.0.1", HOST, "10.9.0.4");
    script.send(Trusted, &SECOND.arrives(&asks), replies(Trusted, &SECOND.leaves(&says)).of("pool"));
    let ping = outward(&echo("10.9.0.4", "10.9.0.1", 1));
    let pong = inward(&echo_reply("10.9.0.1", "10.9.0.4", 1));
    script.send(Trusted, &SECOND.arrives(&ping), replies(Trusted, &SECOND.leaves(&pong)).of("pool"));
    // Another one at another remote.
    let asks = arp_request(OTHER, "10.9.0.5", "10.9.0.1");
    let says = arp_reply(OWN, "10.9.0.1", OTHER, "10.9.0.5");
    script.send(Trusted, &FIRST.arrives(&asks), replies(Trusted, &FIRST.leaves(&says)).of("pool"));
    // From one to the other, by the same port.
    let packet = udp("10.9.0.4:1000", "10.9.0.5:1000");
    let leaves = packet.clone().hop().frame(OTHER, OWN);
    let expect = forwards(Trusted, &FIRST.leaves(&leaves)).into("pool").of("pool");
    script.send(Trusted, &SECOND.arrives(&outward(&packet)), expect);
    script.run();
}

#[test]
fn who_may_speak_in_a_segment() {
    for outer in OUTER {
        let (first, _) = outer;
        let neighbor = "neighbors:\n  - {address: 10.9.0.4, mac: \"02:00:00:00:09:04\"}\n";
        let config = overlay(outer, "").replacen("neighbors:\n", neighbor, 1);
        let mut script = Script::new("remotes, their network, their port", &config);
        let stranger = if first.own.contains(':') { "fd00:2::9" } else { "10.2.0.9" };
        let frame = outward(&udp("10.9.0.4:1000", "198.51.100.9:53"));
        script.send(Trusted, &first.peer(stranger).arrives(&frame), drops("tunnel_bad_peer"));
        script.send(Trusted, &first.vni(43).arrives(&frame), drops("tunnel_unknown_vni"));
        script.send(Trusted, &first.udp_port(4790).arrives(&frame), drops("denied_by_rule"));
        script.send(Untrusted, &first.arrives(&frame), drops("spoofed"));
        let elsewhere = udp("10.9.0.4:1000", "198.51.100.9:53").frame(OTHER, HOST);
        script.send(Trusted, &first.arrives(&elsewhere), drops("not_for_us").of("pool"));
        let ours = udp("10.9.0.4:1000", "198.51.100.9:53").frame(OWN, OWN);
        script.send(Trusted, &first.arrives(&ours), drops("spoofed").of("pool"));
        // A source that no route has behind the segment.
        let spoofed = outward(&udp("10.3.0.4:1000", "198.51.100.9:53"));
        script.send(Trusted, &first.arrives(&spoofed), drops("spoofed").of("pool"));
        let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        script.send(Trusted, &first.arrives(&tagged), drops("unsupported").of("pool"));
        script.send(Trusted, &first.arrives(&frame[..13]), drops("malformed").of("pool"));
        let marked = first.arrives(&frame).traffic_class(3);
        script.send(Trusted, &marked, drops("malformed").of("pool"));
        let good = udp("10.9.0.4:1000", "198.51.100.9:53").hop();
        script.send(Trusted, &first.arrives(&frame), forwards(Untrusted, &good).of("pool"));
        script.run();
    }
}

#[test]
fn what_does_not_fit_into_the_segment_is_told() {
    for outer in OUTER {
        let room = if outer.0.own.contains(':') { 1430 } else { 1450 };
        let neighbor = "neighbors:\n  - {address: 10.9.0.4, mac: \"02:00:00:00:09:04\"}\n";
        let config = overlay(outer, ", learn: false").replacen("neighbors:\n", neighbor, 1);
        let mut script = Script::new("its MTU is what its port carries inside", &config);
        let sized = |len: usize| udp(&V4.client(40_000), &at("10.9.0.4", 53)).data(&vec![7; len - 28]);
        let long = sized(room + 1);
        let told = error("203.0.113.1", &long, 3, 4, room as u32);
        script.send(Untrusted, &long, refuses("too_big", Untrusted, &told));
        let fits = inward(&sized(room).hop());
        let (first, second) = outer;
        let expect = forwards(Trusted, &second.leaves(&fits)).and(Trusted, &first.leaves(&fits)).into("pool");
        script.send(Untrusted, &sized(room), expect);
        script.run();
    }
}

#[test]
fn a_remote_that_does_not_answer_loses_what_waits() {
    let config = overlay((FIRST, SECOND), "").replacen("\"10.2.0.4\", \"10.2.0.5\"", "\"10.2.0.9\"", 1);
    let neighbor = "neighbors:\n  - {address: 10.9.0.4, mac: \"02:00:00:00:09:04\"}\n";
    let mut script = Script::new("held, and counted once", &config.replacen("neighbors:\n", neighbor, 1));
    let asks = arp_request(OWN, "10.2.0.1", "10.2.0.9");
    let packet = tcp(&V4.client(40_000), &at("10.9.0.4", 443)).syn(1);
    let expect = holds().dropped_later("unresolved_neighbor").and(Trusted, &asks);
    script.send(Untrusted, &packet, expect);
    for _ in 0..2 {
        script.wait(core::time::Duration::from_secs(1)).sends(Trusted, &asks);
    }
    script.wait(core::time::Duration::from_secs(1)).to_the_end();
    script.run();
}

#[test]
fn a_narrow_way_to_a_remote_is_learnt() {
    for outer in OUTER {
        let is_v6 = outer.0.own.contains(':');
        let over = if is_v6 { 70 } else { 50 };
        let neighbor = "neighbors:\n  - {address: 10.9.0.4, mac: \"02:00:00:00:09:04\"}\n";
        let config = overlay(outer, ", learn: false").replacen("neighbors:\n", neighbor, 1);
        let mut script = Script::new("packet too big about an outer packet", &config);
        let sized = |len: usize| udp(&V4.client(40_000), &at("10.9.0.4", 53)).data(&vec![7; len - 28]);
        let (first, second) = outer;
        let passes = |script: &mut Script, packet: &Packet| {
            let leaves = inward(&packet.clone().hop());
            let expect =
                forwards(Trusted, &second.leaves(&leaves)).and(Trusted, &first.leaves(&leaves)).into("pool");
            script.send(Untrusted, packet, expect);
        };
        let full = sized(1500 - over);
        passes(&mut script, &full);
        let mut quote = second.leaves(&inward(&full.clone().hop())).ip_bytes();
        quote.truncate(60);
        let (router, kind, code) = if is_v6 { ("fd00:2::fe", 2, 0) } else { ("10.2.0.254", 3, 4) };
        script.send(Trusted, &icmp(router, first.own, kind, code, 1400).data(&quote), consumes());
        let told = error("203.0.113.1", &full, 3, 4, (1400 - over) as u32);
        script.send(Untrusted, &full, refuses("too_big", Untrusted, &told));
        passes(&mut script, &sized(1400 - over));
        script.run();
    }
}
