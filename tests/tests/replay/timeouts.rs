//! Flows end when they were idle for their class's time; where the rule says so, both ends of a connection hear of it.

use crate::ends::{BOTH, DNS, ECHO, Ends, Talk, V4, WEB, at, closed_web, goes_in, goes_out, group, rule};
use nva_tests::packet::{Packet, echo, echo_reply, other, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Expect, Script, drops, forwards};
use std::time::Duration;

const JUST: Duration = Duration::from_millis(10);

/// After `opening`, an answer passes until the timeout and not after it.
fn ends_after(
    says: &str,
    config: &str,
    opening: &Packet,
    answer: &Packet,
    rule: &str,
    timeout: Duration,
    gone: &Expect,
) {
    let mut script = Script::new(&format!("{says}: just before {timeout:?}"), config);
    script.send(Untrusted, opening, goes_in(opening, rule));
    script.wait(timeout - JUST);
    script.send(Trusted, answer, goes_out(answer, rule));
    script.run();
    let mut script = Script::new(&format!("{says}: after {timeout:?}"), config);
    script.send(Untrusted, opening, goes_in(opening, rule));
    script.wait(timeout + JUST);
    script.send(Trusted, answer, gone.clone());
    script.run();
}

fn classes(config: &str, ends: Ends, [udp_s, icmp_s, other_s, half_open_s]: [u64; 4]) {
    let denied = drops("denied_by_rule").rule("web-nsg/deny-out");
    let state = drops("invalid_state");
    let seconds = Duration::from_secs;
    let (ask, answer) = (udp(&ends.client(7), &ends.server(53)), udp(&ends.server(53), &ends.client(7)));
    ends_after("A-15: UDP", config, &ask, &answer, DNS, seconds(udp_s), &denied);
    let (ask, answer) = (echo(ends.client, ends.server, 7), echo_reply(ends.server, ends.client, 7));
    ends_after("echo", config, &ask, &answer, ECHO, seconds(icmp_s), &state);
    let (ask, answer) = (other(ends.client, ends.server, 47), other(ends.server, ends.client, 47));
    ends_after("GRE", config, &ask, &answer, "web-nsg/gre", seconds(other_s), &denied);
    let talk = Talk::new(ends);
    ends_after("A-16: SYN", config, &talk.syn(), &talk.syn_ack(), WEB, seconds(half_open_s), &state);
}

/// [`closed_web`] with a rule for every other protocol, last.
fn with_others() -> String {
    let mut rules = crate::ends::web_rules();
    rules.push(rule("deny-out", 100, "outbound", "deny", "any", r#"["*"]"#));
    rules.push(rule("no-tcp", 200, "inbound", "deny", "tcp", r#"["*"]"#));
    rules.push(rule("gre", 300, "inbound", "allow", "any", r#"["*"]"#));
    network(&group(&rules))
}

#[test]
fn every_class_has_its_default() {
    for ends in BOTH {
        classes(&with_others(), ends, [60, 10, 60, 10]);
    }
}

#[test]
fn every_class_can_be_set() {
    let times = "flow_capacity: 1000\n  flow_idle_timeout: {tcp: 1m, tcp_half_open: 3s, tcp_closing: 4s, udp: 5s, icmp: 6s, other: 7s}";
    classes(&changed(&with_others(), "flow_capacity: 1000", times), V4, [5, 6, 7, 3]);
}

#[test]
fn established_connections() {
    for ends in BOTH {
        let mut script = Script::new("A-16: four minutes, from the last packet", &closed_web());
        let talk = Talk::new(ends);
        talk.open(&mut script);
        for _ in 0..3 {
            script.wait(Duration::from_secs(240) - JUST);
            talk.goes(&mut script, &talk.c(0, 0));
        }
        script.wait(Duration::from_secs(240) + JUST);
        script.send(Untrusted, &talk.c(0, 0), drops("invalid_state"));
        script.run();
    }
}

#[test]
fn closed_connections() {
    for ends in BOTH {
        for (wait, gone) in [(Duration::from_secs(10) - JUST, false), (Duration::from_secs(10) + JUST, true)]
        {
            let mut script = Script::new("ten seconds after a reset", &closed_web());
            let talk = Talk::new(ends);
            talk.open(&mut script);
            talk.comes(&mut script, &talk.s(0, 0).rst(5001));
            script.wait(wait);
            if gone {
                script.send(Untrusted, &talk.c(0, 0), drops("invalid_state"));
            } else {
                talk.goes(&mut script, &talk.c(0, 0));
            }
            script.run();
        }
    }
}

/// A rule with an idle timeout and a reset at its end, or none.
fn balanced(reset: bool) -> String {
    let rules = [
        rule("allow-web", 100, "inbound", "allow", "tcp", "[8443]"),
        rule("dns", 110, "inbound", "allow", "udp", "[5353]"),
    ];
    let lb_rule = |name: &str, frontend: &str, pool: &str, protocol: &str, port: u16, backend: u16| {
        format!(
            "      - {{name: {name}, frontend: {frontend}, protocol: {protocol}, port: {port}, pool: {pool}, backend_port: {backend}, \
             idle_timeout: 5m, tcp_reset: {reset}, syn_proxy: off}}\n"
        )
    };
    network(&format!(
        "{}load_balancers:\n  - name: public\n    frontends:\n      - {{name: vip, address: 203.0.113.10}}\n      \
         - {{name: vip6, address: \"2001:db8:113::10\"}}\n    pools:\n      \
         - {{name: four, backends: [{{name: web-1, address: 10.2.0.4}}]}}\n      \
         - {{name: six, backends: [{{name: web-6, address: \"fd00:2::4\"}}]}}\n    rules:\n{}{}{}",
        group(&rules),
        lb_rule("https", "vip", "four", "tcp", 443, 8443),
        lb_rule("dns", "vip", "four", "udp", 53, 5353),
        lb_rule("https6", "vip6", "six", "tcp", 443, 8443),
    ))
}

/// A connection through the frontend up to its handshake, and some data each way.
fn converse(script: &mut Script, ends: Ends) {
    let backend = ends.either("web-1", "web-6");
    let (client, frontend, server) = (ends.client(40_000), at(ends.frontend, 443), ends.server(8443));
    let goes = |script: &mut Script, packet: Packet| {
        let sent = packet.clone().to(&server).hop();
        script.send(Untrusted, &packet, forwards(Trusted, &sent).rule(WEB).backend(backend));
    };
    let comes = |script: &mut Script, packet: Packet| {
        let sent = packet.clone().from(&frontend).hop();
        script.send(Trusted, &packet, forwards(Untrusted, &sent).rule(WEB).backend(backend));
    };
    goes(script, tcp(&client, &frontend).syn(1000));
    comes(script, tcp(&server, &client).ack(5000, 1001).syn(5000));
    goes(script, tcp(&client, &frontend).ack(1001, 5001).data(b"request"));
    comes(script, tcp(&server, &client).ack(5001, 1008).data(b"an answer"));
}

#[test]
fn both_ends_are_reset_at_the_idle_timeout() {
    for ends in BOTH {
        let mut script = Script::new("tcp_reset: each end gets what it will believe", &balanced(true));
        converse(&mut script, ends);
        goes_on(&mut script, ends);
        script.wait(Duration::from_secs(300));
        let like_ours = |packet: Packet| if ends.v4 { packet.id(0).traffic_class(0xc0) } else { packet };
        let to_server = tcp(&ends.client(40_000), &ends.server(8443)).ack(1008, 5010).rst(1008).window(0);
        let to_client =
            tcp(&at(ends.frontend, 443), &ends.client(40_000)).ack(5010, 1008).rst(5010).window(0);
        script.sends(Trusted, &like_ours(to_server));
        script.sends(Untrusted, &like_ours(to_client));
        script.run();
    }
}

/// The client acknowledges the answer.
fn goes_on(script: &mut Script, ends: Ends) {
    let ack = tcp(&ends.client(40_000), &at(ends.frontend, 443)).ack(1008, 5010);
    let sent = ack.clone().to(&ends.server(8443)).hop();
    script.send(Untrusted, &ack, forwards(Trusted, &sent).rule(WEB).backend(ends.either("web-1", "web-6")));
}

#[test]
fn without_tcp_reset_the_end_is_silent() {
    for ends in BOTH {
        let mut script = Script::new("tcp_reset off", &balanced(false));
        converse(&mut script, ends);
        goes_on(&mut script, ends);
        script.wait(Duration::from_secs(301)).to_the_end();
        script.run();
    }
}

#[test]
fn a_half_open_connection_and_a_datagram_are_not_reset() {
    let mut script = Script::new("only established connections", &balanced(true));
    let syn = tcp(&V4.client(40_000), "203.0.113.10:443").syn(1);
    let sent = syn.clone().to("10.2.0.4:8443").hop();
    script.send(Untrusted, &syn, forwards(Trusted, &sent).rule(WEB).backend("web-1"));
    let ask = udp(&V4.client(7), "203.0.113.10:53");
    let sent = ask.clone().to("10.2.0.4:5353").hop();
    script.send(Untrusted, &ask, forwards(Trusted, &sent).rule("web-nsg/dns").backend("web-1"));
    script.wait(Duration::from_secs(600)).to_the_end();
    script.run();
}

#[test]
fn a_balanced_connection_has_its_rules_idle_timeout() {
    for (wait, gone) in [(Duration::from_secs(300) - JUST, false), (Duration::from_secs(300) + JUST, true)] {
        let mut script = Script::new("five minutes, not four", &balanced(false));
        converse(&mut script, V4);
        script.wait(wait);
        if gone {
            let ack = tcp(&V4.client(40_000), "203.0.113.10:443").ack(1008, 5010);
            script.send(Untrusted, &ack, drops("invalid_state"));
        } else {
            goes_on(&mut script, V4);
        }
        script.run();
    }
}
