//! Rules and flow state: what opens a flow, what belongs to one, what is nobody's.

use crate::ends::{BOTH, DNS, ECHO, Talk, V4, V6, WEB, closed_web, goes_in, goes_out, twins, web};
use nva_tests::packet::{echo, echo_reply, icmp, other, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Script, drops, forwards};
use std::time::Duration;

const DENY_ALL: &str = "web-nsg/DenyAllInBound";

#[test]
fn a_syn_to_an_allowed_port_and_to_another() {
    for ends in BOTH {
        let syn = |port| tcp(&ends.client(40_000), &ends.server(port)).syn(1);
        let mut script = Script::new("A-03: only the allowed port is reached", &web());
        script.send(Untrusted, &syn(22), drops("denied_by_rule").rule(DENY_ALL));
        script.send(Untrusted, &syn(443), goes_in(&syn(443), WEB));
        script.run();
    }
}

#[test]
fn only_a_syn_opens_a_connection() {
    for ends in BOTH {
        let (from, to) = (ends.client(40_000), ends.server(443));
        let syn = tcp(&from, &to).syn(1);
        let bare = |packet| twins("A-04, A-05: no state", &web(), &syn, WEB, &packet, "invalid_state");
        bare(tcp(&from, &to).ack(1, 1));
        bare(syn.clone().ack(1, 1));
        bare(tcp(&from, &to).rst(1));
        bare(tcp(&from, &to).ack(1, 1).fin());
        bare(tcp(&from, &to).fin());
        bare(tcp(&from, &to).ack(1, 1).data(b"data"));
    }
}

#[test]
fn an_unsolicited_syn_ack_does_not_pass_where_new_connections_do() {
    let (from, to) = (V4.server(40_000), V4.client(443));
    let mut script = Script::new("A-05 outwards", &web());
    script.send(Trusted, &tcp(&from, &to).ack(1, 1).syn(1), drops("invalid_state"));
    let syn = tcp(&from, &to).syn(1);
    script.send(Trusted, &syn, goes_out(&syn, "web-nsg/AllowInternetOutBound"));
    script.run();
}

#[test]
fn answers_pass_without_a_rule_of_their_own() {
    for ends in BOTH {
        let mut script = Script::new("A-06: reflexive", &closed_web());
        let talk = Talk::new(ends);
        talk.open(&mut script);
        talk.comes(&mut script, &talk.s(0, 0).data(b"hello"));
        let new = tcp(&ends.server(41_000), &ends.client(443)).syn(1);
        script.send(Trusted, &new, drops("denied_by_rule").rule("web-nsg/deny-out"));
        let (ask, answer) = (udp(&ends.client(7), &ends.server(53)), udp(&ends.server(53), &ends.client(7)));
        script.send(Untrusted, &ask, goes_in(&ask, DNS));
        script.send(Trusted, &answer, goes_out(&answer, DNS));
        let elsewhere = answer.clone().to(&ends.client(8));
        script.send(Trusted, &elsewhere, drops("denied_by_rule").rule("web-nsg/deny-out"));
        script.run();
    }
}

#[test]
fn echoes_pass_with_their_replies_and_nothing_else_of_icmp() {
    for ends in BOTH {
        let mut script = Script::new("A-14", &closed_web());
        let request = echo(ends.client, ends.server, 7);
        let reply = echo_reply(ends.server, ends.client, 7);
        script.send(Trusted, &reply, drops("invalid_state"));
        script.send(Untrusted, &request, goes_in(&request, ECHO));
        script.send(Trusted, &reply, goes_out(&reply, ECHO));
        script.send(Trusted, &echo_reply(ends.server, ends.client, 8), drops("invalid_state"));
        // A request of the other side with the same identifier is none of this flow's.
        let back = echo(ends.server, ends.client, 7);
        script.send(Trusted, &back, drops("invalid_state").rule(ECHO));
        let (timestamp, information) = (ends.either(13, 139), ends.either(15, 140));
        for kind in [timestamp, information] {
            let query = icmp(ends.client, ends.server, kind, 0, 7 << 16).data(&[0; 12]);
            script.send(Untrusted, &query, drops("invalid_state"));
        }
        script.run();
    }
}

#[test]
fn an_idle_flow_ends_on_time_behind_a_busy_one() {
    let mut script = Script::new("A-17", &closed_web());
    let idle = udp(&V4.client(1), &V4.server(53));
    let busy = udp(&V4.client(2), &V4.server(53));
    let answer = |port| udp(&V4.server(53), &V4.client(port));
    script.send(Untrusted, &idle, goes_in(&idle, DNS));
    script.send(Untrusted, &busy, goes_in(&busy, DNS));
    for _ in 0..6 {
        script.wait(Duration::from_secs(9));
        script.send(Untrusted, &busy, goes_in(&busy, DNS));
    }
    script.wait(Duration::from_secs(6) - Duration::from_millis(20));
    script.send(Trusted, &answer(2), goes_out(&answer(2), DNS));
    script.send(Trusted, &answer(1), drops("denied_by_rule").rule("web-nsg/deny-out"));
    script.run();
}

#[test]
fn ethertypes_and_tags_that_are_not_carried() {
    let good = udp(&V4.client(1), &V4.server(53));
    let ethertype = |high, low| good.clone().edit(move |frame| frame[12..14].copy_from_slice(&[high, low]));
    for (high, low) in [(0xaa, 0xaa), (0x81, 0x00), (0x88, 0xa8), (0x88, 0xcc), (0x00, 0x2e)] {
        twins("A-20: ethertype", &web(), &good, DNS, &ethertype(high, low), "unsupported");
    }
    let tag = |frame: &mut Vec<u8>| drop(frame.splice(12..12, [0x81, 0, 0, 5]));
    twins("A-22: one tag", &web(), &good, DNS, &good.clone().edit(tag), "unsupported");
    let tags = |frame: &mut Vec<u8>| drop(frame.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]));
    twins("A-22: two tags", &web(), &good, DNS, &good.clone().edit(tags), "unsupported");
}

#[test]
fn frames_for_other_stations() {
    for ends in BOTH {
        let good = udp(&ends.client(1), &ends.server(53));
        let says = "A-22: another station's frame, or everybody's";
        for mac in [[2, 0, 0, 0, 0x0a, 9], [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
            let bad = good.clone().edit(move |frame| frame[..6].copy_from_slice(&mac));
            twins(says, &web(), &good, DNS, &bad, "not_for_us");
        }
        let from_a_group = good.clone().edit(|frame| frame[6] |= 1);
        twins("a group never sends", &web(), &good, DNS, &from_a_group, "malformed");
    }
}

#[test]
fn other_protocols_follow_the_rules_too() {
    for ends in BOTH {
        for protocol in [47, 132, 255] {
            let packet = other(ends.client, ends.server, protocol);
            let mut script = Script::new("A-21: without a rule", &web());
            script.send(Untrusted, &packet, drops("denied_by_rule").rule(DENY_ALL));
            script.run();
            let any = crate::ends::rule("any", 100, "inbound", "allow", "any", r#"["*"]"#);
            let mut script = Script::new("A-21: with a rule", &network(&crate::ends::group(&[any])));
            script.send(Untrusted, &packet, goes_in(&packet, "web-nsg/any"));
            let answer = other(ends.server, ends.client, protocol);
            script.send(Trusted, &answer, goes_out(&answer, "web-nsg/any"));
            script.run();
        }
    }
}

#[test]
fn esp_and_ah_have_rules_of_their_own() {
    for ends in BOTH {
        for (name, protocol, other_protocol) in [("esp", 50, 51), ("ah", 51, 50)] {
            let only = crate::ends::rule("only", 100, "inbound", "allow", name, r#"["*"]"#);
            let config = network(&crate::ends::group(&[only]));
            let mut script = Script::new(name, &config);
            let wrong = other(ends.client, ends.server, other_protocol);
            script.send(Untrusted, &wrong, drops("denied_by_rule").rule(DENY_ALL));
            let right = other(ends.client, ends.server, protocol);
            script.send(Untrusted, &right, goes_in(&right, "web-nsg/only"));
            script.run();
        }
    }
}

#[test]
fn a_full_flow_table_refuses_new_flows_and_keeps_old_ones() {
    let config = changed(&closed_web(), "flow_capacity: 1000", "flow_capacity: 4");
    let mut script = Script::new("A-23", &config);
    let flow = |port| udp(&V4.client(port), &V4.server(53));
    for port in 1..=4 {
        script.send(Untrusted, &flow(port), goes_in(&flow(port), DNS));
    }
    for port in 5..=7 {
        script.send(Untrusted, &flow(port), drops("flow_table_full").rule(DNS));
    }
    let v6 = udp(&V6.client(5), &V6.server(53));
    script.send(Untrusted, &v6, drops("flow_table_full").rule(DNS));
    for port in 1..=4 {
        let answer = udp(&V4.server(53), &V4.client(port));
        script.send(Trusted, &answer, goes_out(&answer, DNS));
        script.send(Untrusted, &flow(port), goes_in(&flow(port), DNS));
    }
    script.wait(Duration::from_secs(61));
    script.send(Untrusted, &flow(5), goes_in(&flow(5), DNS));
    script.run();
}

#[test]
fn servers_reach_each_other_through_the_appliance() {
    let mut script = Script::new("within the virtual network", &web());
    let ask = udp("10.3.0.7:1000", "10.2.0.4:7");
    script.send(
        Trusted,
        &ask.clone().link(Trusted.station(), [2, 0, 0, 0, 2, 0xfe]),
        forwards(Trusted, &ask.clone().hop()).rule("web-nsg/AllowVnetInBound"),
    );
    let answer = udp("10.2.0.4:7", "10.3.0.7:1000");
    script.send(Trusted, &answer, forwards(Trusted, &answer.clone().hop()).rule("web-nsg/AllowVnetInBound"));
    script.run();
}
