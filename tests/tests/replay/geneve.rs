//! The tunnel of a gateway load balancer that speaks Geneve: what goes back, in which envelope, and what is refused.

use crate::ends::{BOTH, Ends, V4, V6, at, group, rule};
use nva_tests::geneve::{Envelope, Geneve, option};
use nva_tests::packet::{Packet, echo, error, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::network;
use nva_tests::script::{Expect, Script, drops, forwards, holds, refuses};

const OVER4: Geneve = Geneve { own: "10.2.0.1", peer: "10.2.0.200", vni: 0 };
const OVER6: Geneve = Geneve { own: "fd00:2::1", peer: "fd00:2::c8", vni: 7 };
const OUTER: [Geneve; 2] = [OVER4, OVER6];
const WEB: &str = "web-nsg/web";
const OUT: &str = "web-nsg/AllowInternetOutBound";

/// Gateways over both families, and the rules of what is inside.
fn gateway(keys: &str) -> String {
    let one = |own: &str, peer: &str, names: [&str; 2], network: &str| {
        format!(
            "  - port: trusted\n    address: \"{own}\"\n    peers: [\"{peer}\"]\n    encapsulation: geneve\n{keys}    tunnels:\n      \
             - {{name: {}, trust: trusted{network}}}\n      - {{name: {}, trust: untrusted{network}}}\n",
            names[0], names[1]
        )
    };
    let gateways = [
        one("10.2.0.1", "10.2.0.200", ["inside", "outside"], ""),
        one("fd00:2::1", "fd00:2::c8", ["inside6", "outside6"], ", vni: 7"),
    ];
    let rules = [
        rule("web", 100, "inbound", "allow", "tcp", "[443]"),
        rule("datagrams", 110, "inbound", "allow", "udp", "[53]"),
        rule("no-mail", 100, "outbound", "deny", "tcp", "[25]"),
    ];
    let peers = "neighbors:\n  - {address: 10.2.0.200, mac: \"02:00:00:00:02:c8\"}\n  \
                 - {address: 10.2.0.201, mac: \"02:00:00:00:02:c9\"}\n  \
                 - {address: \"fd00:2::c8\", mac: \"02:00:00:00:02:c8\"}\n";
    let sections = format!("{}gateway:\n{}", group(&rules), gateways.concat());
    network(&sections).replacen("neighbors:\n", peers, 1)
}

fn request(ends: Ends) -> Packet {
    tcp(&ends.client(40_000), &ends.server(443))
}

fn answer(ends: Ends) -> Packet {
    tcp(&ends.server(443), &ends.client(40_000))
}

/// In and out again, to whoever it came from, as it was.
fn passes(script: &mut Script, outer: Geneve, envelope: &Envelope, packet: &Packet, rule: &str) {
    let expect = forwards(Trusted, &outer.leaves(envelope, packet)).rule(rule);
    script.send(Trusted, &outer.arrives(envelope, packet), expect);
}

fn arrives(script: &mut Script, packet: &Packet, expect: Expect) {
    script.send(Trusted, packet, expect);
}

#[test]
fn what_comes_goes_back_in_its_envelope() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let mut script = Script::new("a connection both ways, each packet in its own envelope", &gateway(""));
        let (to, back) = (Envelope::of(17), Envelope::of(18));
        passes(&mut script, outer, &to, &request(ends).syn(99), WEB);
        passes(&mut script, outer, &back, &answer(ends).ack(999, 100).syn(999), WEB);
        passes(&mut script, outer, &to, &request(ends).ack(100, 1000), WEB);
        // A wire leaves the time to live alone, whatever it is.
        passes(&mut script, outer, &to, &request(ends).ack(100, 1000).data(b"request").ttl(1), WEB);
        // The load balancer may number the flow anew, and choose another port.
        passes(&mut script, outer, &Envelope::of(4711), &answer(ends).ack(1000, 107).data(&[0x5a; 900]), WEB);
        script.run();
    }
}

#[test]
fn options_come_back_as_they_came() {
    let packet = |n: u16| udp(&V4.client(1_000 + n), &V4.server(53));
    let three = |n: u32| Envelope::of(n).options;
    let words = |options: &[u8]| options.to_vec();
    let orders = [
        // The other way round.
        [words(&three(1)[24..]), words(&three(1)[12..24]), words(&three(1)[..12])].concat(),
        // With some that nobody here knows: of another class, of this one, empty.
        [option(0x0107, 5, b"unknown."), three(2), option(0x0108, 4, b"four"), option(9, 0, b"")].concat(),
        // Reserved bits in an option.
        [words(&three(3)[..3]), vec![0xe2], words(&three(3)[4..])].concat(),
        // The load balancer's own, called critical.
        [words(&three(4)[..2]), vec![0x81], words(&three(4)[3..])].concat(),
        // As many as are taken.
        [three(5), option(0xffff, 1, &[7; 28])].concat(),
    ];
    let mut script = Script::new("RFC 8926, 3.5", &gateway(""));
    for (n, options) in orders.into_iter().enumerate() {
        let flags = if n == 3 { 0x40 } else { 0 };
        let envelope = Envelope { options, flags, ..Envelope::of(20) };
        passes(&mut script, OVER4, &envelope, &packet(n as u16), "web-nsg/datagrams");
    }
    // Reserved flags are not sent back.
    let envelope = Envelope { flags: 0x3f, ..Envelope::of(21) };
    let leaves = OVER4.leaves(&Envelope::of(21), &packet(9));
    let expect = forwards(Trusted, &leaves).rule("web-nsg/datagrams");
    arrives(&mut script, &OVER4.arrives(&envelope, &packet(9)), expect);
    script.run();
}

#[test]
fn headers_that_are_not_right() {
    let packet = udp(&V4.client(1_000), &V4.server(53));
    let good = Envelope::of(1);
    let with = |options: &[Vec<u8>]| Envelope::of(1).options(options);
    let three: Vec<Vec<u8>> =
        [(0, 12), (12, 24), (24, 32)].map(|(a, b)| good.options[a..b].to_vec()).to_vec();
    let mut script = Script::new("each is dropped with its reason", &gateway(""));
    let mut refused = |envelope: Envelope, reason| {
        arrives(&mut script, &OVER4.arrives(&envelope, &packet), drops(reason));
    };
    for missing in 0..3 {
        let mut two = three.clone();
        two.remove(missing);
        refused(with(&two), "malformed");
        // Of another length.
        two.push(option(0x108, missing as u8 + 1, &[1; 12]));
        refused(with(&two), "malformed");
        refused(with(&[three.clone(), vec![three[missing].clone()]].concat()), "malformed");
    }
    refused(with(&[]), "malformed");
    // One that says more than is there.
    refused(with(&[three.clone(), vec![vec![0, 9, 9, 1]]].concat()), "malformed");
    refused(with(&[three.clone(), vec![option(9, 0x85, b"crit")]].concat()), "unsupported");
    refused(with(&[three.clone(), vec![option(0x108, 0x84, b"crit")]].concat()), "unsupported");
    refused(with(&[three.clone(), vec![option(9, 1, &[0; 32])]].concat()), "unsupported");
    refused(Envelope { flags: 0x80, ..good.clone() }, "unsupported");
    let edited = |at: usize, with: u8| OVER4.arrives(&good, &packet).edit(move |frame| frame[at] = with);
    arrives(&mut script, &edited(42, 0x48), drops("unsupported"));
    for kind in [0x58, 0x06] {
        // Ethernet inside, and ARP.
        let odd = OVER4
            .arrives(&good, &packet)
            .edit(move |frame| frame[44..46].copy_from_slice(&[if kind == 6 { 8 } else { 0x65 }, kind]));
        arrives(&mut script, &odd, drops("unsupported"));
    }
    // IPv6 said, IPv4 inside.
    let other = OVER4.arrives(&good, &packet).edit(|frame| frame[44..46].copy_from_slice(&[0x86, 0xdd]));
    arrives(&mut script, &other, drops("malformed"));
    arrives(&mut script, &Geneve { vni: 8, ..OVER4 }.arrives(&good, &packet), drops("tunnel_unknown_vni"));
    let stranger = Geneve { peer: "10.2.0.201", ..OVER4 };
    arrives(&mut script, &stranger.arrives(&good, &packet), drops("tunnel_bad_peer"));
    arrives(
        &mut script,
        &stranger.arrives(&Envelope { flags: 0x80, ..good.clone() }, &packet),
        drops("tunnel_bad_peer"),
    );
    let payload = OVER4.payload(&good, &packet);
    for len in [0, 7, 8, 39, 40, 59] {
        let short = OVER4.arrives(&good, &packet).data(&payload[..len]);
        arrives(&mut script, &short, drops("malformed"));
    }
    let wrong = udp("10.2.0.200:50001", "10.2.0.1:6081").data(&payload).flip(41);
    arrives(&mut script, &wrong, drops("bad_checksum"));
    let mut pieces = OVER4.arrives(&good, &packet).may_fragment().fragments(&[48]);
    let rest = pieces.pop().expect("two");
    arrives(&mut script, &pieces[0], drops("fragment"));
    arrives(&mut script, &rest, drops("fragment"));
    let inner = OVER4.arrives(&good, &packet).edit(|frame| frame[100] ^= 1);
    arrives(&mut script, &inner, drops("bad_checksum"));
    passes(&mut script, OVER4, &good, &packet, "web-nsg/datagrams");
    script.run();
}

#[test]
fn the_inner_source_tells_the_side() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let mut script = Script::new("rules of both directions, and between two inside", &gateway(""));
        let denied = tcp(&ends.client(40_000), &ends.server(80)).syn(1);
        let reason = drops("denied_by_rule").rule("web-nsg/DenyAllInBound");
        arrives(&mut script, &outer.arrives(&Envelope::of(1), &denied), reason);
        let mail = tcp(&ends.server(999), &ends.client(25)).syn(1);
        let reason = drops("denied_by_rule").rule("web-nsg/no-mail");
        arrives(&mut script, &outer.arrives(&Envelope::of(2), &mail), reason);
        passes(&mut script, outer, &Envelope::of(3), &udp(&ends.server(999), &ends.client(99)), OUT);
        // What an outer end asks for passes unfiltered from inside only.
        let inner = udp(&ends.server(1_000), &at(ends.second, 1_000));
        let rule = "web-nsg/AllowVnetInBound";
        passes(&mut script, outer, &Envelope::of(4), &inner, rule);
        passes(
            &mut script,
            outer,
            &Envelope::of(5),
            &udp(&at(ends.second, 1_000), &ends.server(1_000)),
            rule,
        );
        // Of neither the one nor the other: from outside to outside nothing is in a rule's way.
        let through = udp(&ends.client(7), &at(ends.frontend, 7));
        script.send(
            Trusted,
            &outer.arrives(&Envelope::of(6), &through),
            forwards(Trusted, &outer.leaves(&Envelope::of(6), &through)),
        );
        let own = udp(&at(ends.inside, 999), &ends.client(53));
        arrives(&mut script, &outer.arrives(&Envelope::of(7), &own), drops("spoofed"));
        script.run();
    }
}

#[test]
fn a_flow_in_the_tunnel_stays_in_it() {
    for ends in BOTH {
        let mut script = Script::new("seen outside, and of another gateway", &gateway(""));
        passes(&mut script, OVER4, &Envelope::of(1), &request(ends).syn(99), WEB);
        passes(&mut script, OVER4, &Envelope::of(1), &answer(ends).ack(999, 100).syn(999), WEB);
        script.send(Trusted, &answer(ends).ack(1000, 100).data(b"x"), drops("tunnel_trust"));
        script.send(Untrusted, &request(ends).ack(100, 1000), drops("tunnel_trust"));
        let other = OVER6.arrives(&Envelope::of(1), &request(ends).ack(100, 1000));
        script.send(Trusted, &other, drops("tunnel_trust"));
        passes(&mut script, OVER4, &Envelope::of(1), &request(ends).ack(100, 1000), WEB);
        script.run();
    }
}

#[test]
fn what_does_not_fit_is_told_in_the_envelope() {
    for (outer, ends) in OUTER.into_iter().flat_map(|outer| BOTH.map(|ends| (outer, ends))) {
        let room = 1500 - if outer.own.contains(':') { 88 } else { 68 };
        let mut script = Script::new("V-13, with the options' room", &gateway(""));
        let sized =
            |len: usize| udp(&ends.client(53), &ends.server(53)).data(&vec![7; len - ends.either(28, 48)]);
        let long = sized(room + 1);
        let (kind, code) = ends.either((3, 4), (2, 0));
        let told = error(ends.server, &long, kind, code, room as u32);
        // The link cannot carry it to us either: it comes over a longer one.
        let envelope = Envelope::of(9);
        let expect = refuses("too_big", Trusted, &outer.leaves(&envelope, &told)).rule("web-nsg/datagrams");
        script.send(Trusted, &outer.arrives(&envelope, &long), expect);
        passes(&mut script, outer, &envelope, &sized(room), "web-nsg/datagrams");
        // More options, less room for the rest.
        let more = Envelope::of(10).options(&[envelope.options.clone(), option(9, 9, b"more")]);
        let told = error(ends.server, &sized(room), kind, code, room as u32 - 8);
        let expect = refuses("too_big", Trusted, &outer.leaves(&more, &told)).rule("web-nsg/datagrams");
        script.send(Trusted, &outer.arrives(&more, &sized(room)), expect);
        passes(&mut script, outer, &more, &sized(room - 8), "web-nsg/datagrams");
        script.run();
    }
}

#[test]
fn what_may_be_cut_is_cut_and_both_have_the_envelope() {
    let mut script = Script::new("without DF", &gateway(""));
    let long = udp(&V4.client(53), &V4.server(53)).data(&[7; 1472]).may_fragment();
    let pieces = long.fragments(&[1408]);
    let envelope = Envelope::of(3);
    let expect = forwards(Trusted, &OVER4.leaves(&envelope, &pieces[0])).rule("web-nsg/datagrams");
    let expect = expect.and(Trusted, &OVER4.leaves(&envelope, &pieces[1]));
    script.send(Trusted, &OVER4.arrives(&envelope, &long), expect);
    // More options, smaller pieces.
    let more = Envelope::of(4).options(&[envelope.options.clone(), option(9, 9, b"more")]);
    let pieces = long.fragments(&[1400]);
    let expect = forwards(Trusted, &OVER4.leaves(&more, &pieces[0])).rule("web-nsg/datagrams");
    let expect = expect.and(Trusted, &OVER4.leaves(&more, &pieces[1]));
    script.send(Trusted, &OVER4.arrives(&more, &long), expect);
    script.run();
}

#[test]
fn inner_fragments_follow_their_first_in_their_own_envelopes() {
    for ends in BOTH {
        let mut script = Script::new("the second first", &gateway(""));
        let pieces = udp(&ends.client(53), &ends.server(53)).data(&[7; 600]).id(2).fragments(&[320]);
        let (first, second) = (Envelope::of(1), Envelope::of(2));
        script.send(Trusted, &OVER4.arrives(&second, &pieces[1]), holds().forwarded_later());
        let expect = forwards(Trusted, &OVER4.leaves(&first, &pieces[0])).rule("web-nsg/datagrams");
        let expect = expect.and(Trusted, &OVER4.leaves(&second, &pieces[1]));
        script.send(Trusted, &OVER4.arrives(&first, &pieces[0]), expect);
        script.run();
    }
}

#[test]
fn congestion_is_told_inside() {
    let mut script = Script::new("RFC 6040", &gateway(""));
    for ends in [V4, V6] {
        let packet = |field: u8| udp(&ends.client(53), &ends.server(53)).traffic_class(0x28 | field);
        for (mark, field, becomes) in
            [(3, 0, None), (3, 2, Some(3)), (3, 1, Some(3)), (1, 2, Some(1)), (0, 2, Some(2))]
        {
            let envelope = Envelope::of(1);
            let arrives = OVER4.arrives(&envelope, &packet(field)).traffic_class(0xb8 | mark);
            let expect = match becomes {
                None => drops("malformed"),
                Some(now) => {
                    forwards(Trusted, &OVER4.leaves(&envelope, &packet(now))).rule("web-nsg/datagrams")
                }
            };
            script.send(Trusted, &arrives, expect);
        }
    }
    script.run();
}

#[test]
fn probes_outside_of_the_tunnel_are_answered() {
    let mut script = Script::new("the host path", &gateway(""));
    let probe = echo("10.2.0.200", "10.2.0.1", 1);
    let reply = nva_tests::packet::echo_reply("10.2.0.1", "10.2.0.200", 1);
    script.send(Trusted, &probe, nva_tests::script::replies(Trusted, &reply));
    script.run();
}
