//! Headers that no honest stack sends, each beside one that differs in a field and passes.

use crate::ends::{BOTH, DNS, Talk, V4, V6, WEB, goes_in, twins, web};
use nva_tests::packet::{ETHERNET_LEN, Packet, echo, error, tcp, udp};
use nva_tests::ports::Port::Untrusted;
use nva_tests::script::{Script, drops, refuses};

const IP: usize = ETHERNET_LEN;

fn dns() -> Packet {
    udp(&V4.client(1000), &V4.server(53))
}

fn dns6() -> Packet {
    udp(&V6.client(1000), &V6.server(53))
}

fn syn() -> Packet {
    tcp(&V4.client(40_000), &V4.server(443)).syn(1)
}

fn refused(says: &str, bad: &Packet, reason: &'static str) {
    twins(says, &web(), &dns(), DNS, bad, reason);
}

fn refused6(says: &str, bad: &Packet, reason: &'static str) {
    twins(says, &web(), &dns6(), DNS, bad, reason);
}

fn refused_syn(says: &str, bad: &Packet, reason: &'static str) {
    twins(says, &web(), &syn(), WEB, bad, reason);
}

fn passes(says: &str, packet: &Packet, rule: &str) {
    let mut script = Script::new(says, &web());
    script.send(Untrusted, packet, goes_in(packet, rule));
    script.run();
}

#[test]
fn ipv4_header() {
    refused("H-01: header checksum", &dns().flip(IP + 10), "bad_checksum");
    refused("H-02: header length 16", &dns().header(|ip| ip[0] = 0x44), "malformed");
    refused("H-02: header length 60", &dns().header(|ip| ip[0] = 0x4f), "malformed");
    refused("H-02: version 5", &dns().header(|ip| ip[0] = 0x55), "malformed");
    refused("H-02: version 6 under IPv4", &dns().header(|ip| ip[0] = 0x65), "malformed");
    refused("H-03: longer than the frame", &dns().header(|ip| ip[3] += 1), "malformed");
    refused("H-03: shorter than the header", &dns().header(|ip| ip[3] = 19), "malformed");
    refused("the reserved flag", &dns().header(|ip| ip[6] |= 0x80), "malformed");
}

#[test]
fn ipv6_header() {
    refused6("H-21: longer than the frame", &dns6().header(|ip| ip[5] += 1), "malformed");
    refused6("version 7", &dns6().header(|ip| ip[0] = 0x70), "malformed");
    refused6("version 4 under IPv6", &dns6().header(|ip| ip[0] = 0x40), "malformed");
}

#[test]
fn ethernet_padding_goes() {
    for packet in [dns(), dns6(), syn().padded(0)] {
        let rule = if packet.ip_bytes()[9] == 6 { WEB } else { DNS };
        let mut script = Script::new("H-04: padding is not forwarded", &web());
        script.send(Untrusted, &packet.clone().padded(18), goes_in(&packet, rule));
        script.run();
    }
}

#[test]
fn frames_cut_short() {
    for (good, rule) in [(dns(), DNS), (dns6(), DNS), (syn(), WEB)] {
        let whole = good.ip_bytes().len() + IP;
        for len in [0, 1, 13, 14, 15, 33, 34, whole - 9, whole - 1] {
            let bad = good.clone().edit(move |frame| frame.truncate(len));
            twins("H-22: cut short", &web(), &good, rule, &bad, "malformed");
        }
    }
}

#[test]
fn frames_that_the_capture_cut() {
    // The packet itself is whole; what is missing is padding, but nobody knows.
    let mut script = Script::new("snapped", &web());
    script.cut(1).send(Untrusted, &dns(), drops("malformed"));
    script.run();
}

#[test]
fn a_jumbo_frame_is_too_big_and_no_trouble() {
    let jumbo = dns().data(&[7; 8900]);
    let mut script = Script::new("H-22: jumbo", &web());
    let told = error(V4.outside, &jumbo, 3, 4, 1500);
    script.send(Untrusted, &jumbo, refuses("too_big", Untrusted, &told).rule(DNS));
    script.send(Untrusted, &dns(), goes_in(&dns(), DNS));
    script.run();
}

#[test]
fn time_to_live() {
    for ends in BOTH {
        let packet = udp(&ends.client(1000), &ends.server(53));
        for ttl in [1, 0] {
            let last = packet.clone().ttl(ttl);
            let told = error(ends.outside, &last, ends.either(11, 3), 0, 0);
            let mut script = Script::new("H-05", &web());
            script.send(Untrusted, &last, refuses("ttl_exceeded", Untrusted, &told).rule(DNS));
            script.send(Untrusted, &packet.clone().ttl(2), goes_in(&packet.clone().ttl(2), DNS));
            script.run();
        }
    }
}

#[test]
fn ipv4_options() {
    passes("no operation, end of list", &dns().options(&[1, 1, 1, 0]), DNS);
    for (says, kind) in
        [("H-06: LSRR", 131), ("H-06: SSRR", 137), ("H-07: record route", 7), ("H-07: router alert", 148)]
    {
        refused(says, &dns().options(&[kind, 4, 4, 0]), "unsupported");
    }
    refused("timestamp", &dns().options(&[68, 8, 5, 0, 0, 0, 0, 0]), "unsupported");
    refused("an option of length 0", &dns().options(&[7, 0, 0, 0]), "malformed");
    refused("an option of length 1", &dns().options(&[7, 1, 0, 0]), "malformed");
    refused("an option behind the header", &dns().options(&[7, 5, 0, 0]), "malformed");
}

#[test]
fn udp_header() {
    refused("H-10: longer than the packet", &dns().segment(|udp| udp[5] += 1), "malformed");
    refused("H-10: shorter than a header", &dns().segment(|udp| udp[5] = 7), "malformed");
    refused("H-10: checksum", &dns().flip(dns().transport_offset() + 6), "bad_checksum");
    refused6("H-10: checksum", &dns6().flip(dns6().transport_offset() + 6), "bad_checksum");
    refused("H-10: payload", &dns().flip(dns().transport_offset() + 9), "bad_checksum");
    refused("port 0", &dns().to("10.2.0.4:0"), "malformed");
    passes("source port 0: no answer wanted", &dns().from("198.51.100.9:0"), DNS);
    passes("H-11: no checksum over IPv4", &dns().without_checksum(), DNS);
    refused6("H-12: no checksum over IPv6", &dns6().without_checksum(), "bad_checksum");
    passes("H-13: nothing in it", &dns().data(b""), DNS);
    passes("H-13: nothing in it", &dns6().data(b""), DNS);
    passes("an odd length", &dns().data(b"odd"), DNS);
}

#[test]
fn tcp_header() {
    let offset = |words: u8| syn().segment(move |tcp| tcp[12] = words << 4);
    refused_syn("H-15: offset 4", &offset(4), "malformed");
    refused_syn("H-15: offset behind the packet", &offset(15), "malformed");
    refused_syn("H-16: port 0", &syn().to("10.2.0.4:0"), "malformed");
    refused_syn("H-16: source port 0", &syn().from("198.51.100.9:0"), "malformed");
    refused_syn("H-14: checksum", &syn().flip(syn().transport_offset() + 16), "bad_checksum");
    passes("H-19: a SYN with data", &syn().data(b"early"), WEB);
    passes("usual options", &syn().tcp_options(&[2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 1, 1]), WEB);
    passes("H-18: forty bytes of nothing", &syn().tcp_options(&[1; 40]), WEB);
    passes("an unknown option", &syn().tcp_options(&[253, 4, 1, 2]), WEB);
    refused_syn("H-18: an option of length 0", &syn().tcp_options(&[2, 0, 5, 180]), "malformed");
    refused_syn("H-18: an option of length 1", &syn().tcp_options(&[2, 1, 5, 180]), "malformed");
    refused_syn("H-18: an option behind the header", &syn().tcp_options(&[2, 5, 5, 180]), "malformed");
    refused_syn("a window scale without its shift", &syn().tcp_options(&[3, 2, 1, 1]), "malformed");
}

#[test]
fn tcp_flags_of_scanners() {
    let flags = |bits: u8| syn().segment(move |tcp| tcp[13] = bits);
    refused_syn("none", &flags(0), "malformed");
    refused_syn("SYN and FIN", &flags(0x03), "malformed");
    refused_syn("SYN and RST", &flags(0x06), "malformed");
    refused_syn("all", &flags(0x3f), "malformed");
    refused_syn("FIN, PSH and URG", &flags(0x29), "invalid_state");
    passes("SYN with ECN's flags", &flags(0xc2), WEB);
}

#[test]
fn a_wrong_checksum_does_not_touch_the_connection() {
    for ends in BOTH {
        let mut script = Script::new("H-14", &web());
        let talk = Talk::new(ends);
        talk.open(&mut script);
        let reset = talk.c(0, 0).rst(1001);
        let bad = reset.clone().flip(reset.transport_offset() + 16);
        script.send(Untrusted, &bad, drops("bad_checksum"));
        talk.comes(&mut script, &talk.s(0, 0).data(b"still here"));
        script.wait(std::time::Duration::from_secs(30));
        talk.goes(&mut script, &talk.c(0, 10).data(b"so am I"));
        script.run();
    }
}

#[test]
fn icmp_header() {
    for ends in BOTH {
        let good = echo(ends.client, ends.server, 7);
        let rule = crate::ends::ECHO;
        let at = good.transport_offset();
        twins("H-20: checksum", &web(), &good, rule, &good.clone().flip(at + 2), "bad_checksum");
        twins("H-20: data", &web(), &good, rule, &good.clone().flip(at + 9), "bad_checksum");
    }
    let quench = nva_tests::packet::icmp(V4.client, V4.server, 4, 0, 0).data(&dns().ip_bytes());
    refused("source quench", &quench, "unsupported");
}
