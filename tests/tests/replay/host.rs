//! The kernel's sockets behind the appliance's own addresses: what is let in, and what is not.

use crate::ends::{BOTH, Ends, V4, V6, at};
use nva_tests::packet::{Packet, echo, echo_reply, error, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Script, consumes, drops, holds, replies};

/// The network with services at the untrusted port, and a host interface without any at the trusted one.
fn services() -> String {
    let config = changed(
        &network(""),
        "trust: untrusted}",
        "trust: untrusted, host_services: [bgp, bfd, tcp/8000-8010, udp/5000]}",
    );
    changed(&config, "trust: trusted}", "trust: trusted, host_services: []}")
}

/// From the router outside to the appliance's own address.
fn to_us(ends: Ends, port: u16, protocol: fn(&str, &str) -> Packet) -> Packet {
    let packet = protocol(&ends.client(40_000), &at(ends.outside, port));
    packet.link(Untrusted.station(), [2, 0, 0, 0, 0x71, 0xfe])
}

fn syn(ends: Ends, port: u16) -> Packet {
    to_us(ends, port, tcp).syn(1)
}

/// The good twin is let in, the other one is not.
fn twins(says: &str, good: &Packet, bad: &Packet, reason: &'static str) {
    let mut script = Script::new(says, &services());
    script.send(Untrusted, bad, drops(reason));
    script.send(Untrusted, good, consumes());
    script.run();
}

#[test]
fn a_listed_service_is_let_in_and_no_other() {
    for ends in BOTH {
        for (good, bad) in [(179, 178), (8000, 7999), (8010, 8011), (8005, 5000)] {
            twins("tcp", &syn(ends, good), &syn(ends, bad), "denied_by_rule");
        }
        for (good, bad) in [(3784, 3783), (3785, 3786), (4784, 4783), (5000, 8000)] {
            twins("udp", &to_us(ends, good, udp), &to_us(ends, bad, udp), "denied_by_rule");
        }
    }
}

#[test]
fn whatever_the_segment_the_service_sees_it() {
    for ends in BOTH {
        let mut script = Script::new("a service leaves no state", &services());
        for segment in [to_us(ends, 179, tcp).ack(7, 9), syn(ends, 179), to_us(ends, 179, tcp).rst(1)] {
            script.send(Untrusted, &segment, consumes());
        }
        script.run();
    }
}

#[test]
fn times_to_live_of_one_reach_it() {
    for ends in BOTH {
        for ttl in [1, 255] {
            let mut script = Script::new("it is not forwarded", &services());
            script.send(Untrusted, &syn(ends, 179).ttl(ttl), consumes());
            script.run();
        }
    }
}

#[test]
fn without_the_key_nothing_is_let_in() {
    for ends in BOTH {
        let mut script = Script::new("no host interface", &network(""));
        script.send(Untrusted, &syn(ends, 179), drops("denied_by_rule"));
        script.send(Untrusted, &to_us(ends, 3784, udp), drops("denied_by_rule"));
        script.run();
    }
}

#[test]
fn a_service_belongs_to_its_port() {
    for ends in BOTH {
        let mut script = Script::new("the service of another port", &services());
        let from_within = |to: &str| tcp(&ends.server(40_000), &at(to, 179)).syn(1);
        script.send(Trusted, &from_within(ends.outside), drops("denied_by_rule"));
        script.send(Trusted, &from_within(ends.inside), drops("denied_by_rule"));
        let across = tcp(&ends.client(40_000), &at(ends.inside, 179)).syn(1);
        script.send(Untrusted, &across, drops("denied_by_rule"));
        script.run();
    }
}

#[test]
fn protection_comes_first() {
    for ends in BOTH {
        for source in [ends.outside, ends.server] {
            let bad =
                syn(ends, 179).from(&at(source, 40_000)).link(Untrusted.station(), [2, 0, 0, 0, 0x71, 0xfe]);
            twins("spoofed", &syn(ends, 179), &bad, "spoofed");
        }
        let blocked = format!("{}protection:\n  blocklist: [\"{}\"]\n", services(), ends.client);
        let mut script = Script::new("blocklisted", &blocked);
        script.send(Untrusted, &syn(ends, 179), drops("blocklisted"));
        script.run();
    }
}

#[test]
fn echo_stays_ours_and_answers_nobody_asked_for_do_not_get_in() {
    for ends in BOTH {
        let mut script = Script::new("echo", &services());
        let ask = echo(ends.client, ends.outside, 7).link(Untrusted.station(), [2, 0, 0, 0, 0x71, 0xfe]);
        script.send(Untrusted, &ask, replies(Untrusted, &echo_reply(ends.outside, ends.client, 7)));
        script.send(Untrusted, &echo_reply(ends.client, ends.outside, 7), drops("denied_by_rule"));
        script.send(Untrusted, &to_us(ends, 179, udp).from(&ends.client(53)), drops("denied_by_rule"));
        script.run();
    }
}

#[test]
fn fragments_follow_their_first() {
    for ends in BOTH {
        let three = |port| -> [Packet; 3] {
            let whole = to_us(ends, port, udp).data(&[b'x'; 40]);
            whole.fragments(&[16, 16]).try_into().ok().expect("three fragments")
        };
        let [first, middle, last] = three(5000);
        let mut script = Script::new("in order", &services());
        for fragment in [&first, &middle, &last] {
            script.send(Untrusted, fragment, consumes());
        }
        script.run();
        let mut script = Script::new("the first at last", &services());
        script.send(Untrusted, &last, holds().consumed_later());
        script.send(Untrusted, &middle, holds().consumed_later());
        script.send(Untrusted, &first, consumes());
        script.run();
        let [first, middle, last] = three(5001);
        let mut script = Script::new("of what is not let in", &services());
        script.send(Untrusted, &last, holds().dropped_later("fragment"));
        script.send(Untrusted, &first, drops("fragment"));
        script.send(Untrusted, &middle, drops("fragment"));
        script.run();
    }
}

#[test]
fn errors_reach_it_about_what_a_service_sent() {
    for (ends, kind, code, rest) in [(V4, 3, 4, 1300), (V6, 2, 0, 1300)] {
        let answer = |port| tcp(&at(ends.outside, port), &ends.client(40_000)).ack(1, 1).data(b"x");
        let router = ends.either("203.0.113.254", "2001:db8:113::fe");
        let mut script = Script::new("path MTU discovery", &services());
        script.send(Untrusted, &error(router, &answer(179), kind, code, rest), consumes());
        script.send(Untrusted, &error(router, &answer(178), kind, code, rest), drops("invalid_state"));
        script.run();
    }
}
