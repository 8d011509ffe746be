//! Fragments and extension headers: a datagram's fragments share its first one's fate.

use crate::ends::{BOTH, DNS, Ends, V4, V6, WEB, goes_in, twins, web};
use nva_tests::packet::{Packet, solicitation, tcp, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::script::{Script, consumes, drops, holds, replies};
use std::time::Duration;

const DENY_ALL: &str = "web-nsg/DenyAllInBound";

/// A datagram of 48 bytes, header included.
fn datagram(ends: Ends, port: u16) -> Packet {
    udp(&ends.client(1000), &ends.server(port)).data(&[b'x'; 40])
}

fn in_three(datagram: &Packet) -> [Packet; 3] {
    datagram.fragments(&[16, 16]).try_into().ok().expect("three fragments")
}

#[test]
fn in_order() {
    for ends in BOTH {
        let mut script = Script::new("F-01", &web());
        for fragment in in_three(&datagram(ends, 53)) {
            script.send(Untrusted, &fragment, goes_in(&fragment, DNS));
        }
        script.run();
    }
}

#[test]
fn in_any_order() {
    for ends in BOTH {
        let [first, middle, last] = in_three(&datagram(ends, 53));
        let released = |expect: nva_tests::script::Expect, held: &[&Packet]| {
            held.iter().fold(expect, |expect, packet| expect.and(Trusted, &(*packet).clone().hop()))
        };
        let mut script = Script::new("F-01: reversed", &web());
        script.send(Untrusted, &last, holds().forwarded_later());
        script.send(Untrusted, &middle, holds().forwarded_later());
        script.send(Untrusted, &first, released(goes_in(&first, DNS), &[&last, &middle]));
        script.run();
        let mut script = Script::new("F-01: the first in the middle", &web());
        script.send(Untrusted, &last, holds().forwarded_later());
        script.send(Untrusted, &first, released(goes_in(&first, DNS), &[&last]));
        script.send(Untrusted, &middle, goes_in(&middle, DNS));
        script.run();
    }
}

#[test]
fn of_a_denied_port() {
    for ends in BOTH {
        let [first, middle, last] = in_three(&datagram(ends, 54));
        let mut script = Script::new("F-02: in order", &web());
        script.send(Untrusted, &first, drops("denied_by_rule").rule(DENY_ALL));
        script.send(Untrusted, &middle, drops("denied_by_rule"));
        script.send(Untrusted, &last, drops("denied_by_rule"));
        script.run();
        let mut script = Script::new("F-02: reversed", &web());
        script.send(Untrusted, &last, holds().dropped_later("denied_by_rule"));
        script.send(Untrusted, &middle, holds().dropped_later("denied_by_rule"));
        script.send(Untrusted, &first, drops("denied_by_rule").rule(DENY_ALL));
        script.run();
    }
}

#[test]
fn without_a_first() {
    for (ends, timeout) in [(V4, 30), (V6, 60)] {
        let [first, middle, _] = in_three(&datagram(ends, 53));
        let mut script = Script::new("F-03: dropped when its time is over", &web());
        script.send(Untrusted, &middle, holds().dropped_later("fragment"));
        script.wait(Duration::from_secs(timeout) + Duration::from_millis(10)).to_the_end();
        script.run();
        let mut script = Script::new("F-03, F-16: still there just before", &web());
        script.send(Untrusted, &middle, holds().forwarded_later());
        script.wait(Duration::from_secs(timeout) - Duration::from_millis(10));
        script.send(Untrusted, &first, goes_in(&first, DNS).and(Trusted, &middle.clone().hop()));
        script.run();
    }
}

#[test]
fn held_past_the_timeout() {
    for (ends, timeout) in [(V4, 30), (V6, 60)] {
        let [first, middle, last] = in_three(&datagram(ends, 53));
        let mut script = Script::new("F-16: the state is gone, and what follows is a new datagram", &web());
        script.send(Untrusted, &middle, holds().dropped_later("fragment"));
        script.wait(Duration::from_secs(timeout) + Duration::from_millis(10));
        script.send(Untrusted, &first, goes_in(&first, DNS));
        script.send(Untrusted, &last, goes_in(&last, DNS));
        script.wait(Duration::from_secs(timeout) + Duration::from_millis(10));
        script.send(Untrusted, &middle, holds());
        script.run();
    }
}

#[test]
fn tiny_first() {
    let syn = tcp(&V4.client(40_000), &V4.server(443)).syn(1).data(&[0; 60]);
    let whole = syn.segment_bytes();
    let good = syn.piece(0, &whole[..24], true);
    let bad = syn.piece(0, &whole[..8], true);
    twins("F-04: the flags are not in it", &web(), &good.clone().id(2), WEB, &bad, "fragment");
    let bad = syn.piece(0, &whole[..16], true);
    twins("F-04: the checksum is not in it", &web(), &good.id(2), WEB, &bad, "fragment");
}

#[test]
fn overlaying_the_tcp_header() {
    let syn = tcp(&V4.client(40_000), &V4.server(443)).syn(1).data(&[0; 100]);
    let whole = syn.segment_bytes();
    let mut script = Script::new("F-05", &web());
    let first = syn.piece(0, &whole[..64], true);
    script.send(Untrusted, &first, goes_in(&first, WEB));
    script.send(Untrusted, &syn.piece(8, &whole[8..16], true), drops("fragment"));
    script.send(Untrusted, &syn.piece(56, &whole[56..64], true), drops("fragment"));
    let last = syn.piece(64, &whole[64..], false);
    script.send(Untrusted, &last, goes_in(&last, WEB));
    script.run();
}

#[test]
fn another_first() {
    for ends in BOTH {
        let [first, middle, last] = in_three(&datagram(ends, 53));
        let [other_port, ..] = in_three(&datagram(ends, 22));
        let mut script = Script::new("F-06: the port rewritten; the datagram is condemned", &web());
        script.send(Untrusted, &first, goes_in(&first, DNS));
        script.send(Untrusted, &other_port, drops("fragment"));
        script.send(Untrusted, &middle, drops("fragment"));
        script.send(Untrusted, &last, drops("fragment"));
        let [again, ..] = in_three(&datagram(ends, 53).id(2));
        script.send(Untrusted, &again, goes_in(&again, DNS));
        script.run();
    }
}

#[test]
fn duplicates() {
    for ends in BOTH {
        let [first, middle, last] = in_three(&datagram(ends, 53));
        let mut script = Script::new("F-07", &web());
        for fragment in [&first, &first, &middle, &middle, &middle, &last, &last] {
            script.send(Untrusted, fragment, goes_in(fragment, DNS));
        }
        script.run();
    }
}

#[test]
fn overlaps() {
    for ends in BOTH {
        let datagram = datagram(ends, 53);
        let [first, middle, last] = in_three(&datagram);
        let mut script = Script::new("F-09: all of it is dropped from there on", &web());
        script.send(Untrusted, &first, goes_in(&first, DNS));
        script.send(Untrusted, &datagram.piece(8, &[0; 16], true), drops("fragment"));
        script.send(Untrusted, &middle, drops("fragment"));
        script.send(Untrusted, &last, drops("fragment"));
        script.run();
        let mut script = Script::new("F-09: what waited is dropped too", &web());
        script.send(Untrusted, &last, holds().dropped_later("fragment"));
        script.send(Untrusted, &datagram.piece(24, &[0; 16], true), drops("fragment"));
        script.send(Untrusted, &first, drops("fragment"));
        script.to_the_end();
        script.run();
    }
}

#[test]
fn beyond_the_largest_datagram() {
    for ends in BOTH {
        let datagram = datagram(ends, 53);
        let mut script = Script::new("F-08", &web());
        script.send(Untrusted, &datagram.piece(65_528, &[0; 64], false), drops("fragment"));
        script.send(Untrusted, &datagram.clone().id(2).piece(65_400, &[0; 64], false), holds());
        script.run();
    }
}

#[test]
fn uneven_or_empty() {
    for ends in BOTH {
        let datagram = datagram(ends, 53);
        let mut script = Script::new("only the last fragment may have any length", &web());
        script.send(Untrusted, &datagram.piece(16, &[0; 9], true), drops("malformed"));
        script.send(Untrusted, &datagram.piece(16, &[], false), drops("fragment"));
        script.send(Untrusted, &datagram.piece(16, &[0; 9], false), holds());
        script.run();
    }
}

#[test]
fn many_and_small() {
    for ends in BOTH {
        let chain = |pieces: usize| {
            let datagram = udp(&ends.client(1000), &ends.server(53)).data(&vec![7; 8 * (pieces - 1) + 1 - 8]);
            datagram.id(pieces as u32).fragments(&vec![8; pieces - 1])
        };
        let mut script = Script::new("F-15: fifty fragments, the last of one byte", &web());
        let fifty = chain(50);
        assert_eq!(fifty.len(), 50);
        for fragment in &fifty {
            script.send(Untrusted, fragment, goes_in(fragment, DNS));
        }
        script.run();
        let mut script = Script::new("F-15: sixty-four are the most", &web());
        for (index, fragment) in chain(66).iter().enumerate() {
            let expect = if index < 64 { goes_in(fragment, DNS) } else { drops("fragment") };
            script.send(Untrusted, fragment, expect);
        }
        script.run();
    }
}

#[test]
fn flood_of_lone_fragments() {
    let mut script = Script::new("F-17: bounded, and others are not affected", &web());
    for id in 0..300 {
        let lone = datagram(V4, 53).id(id).piece(16, &[0; 16], true);
        let expect = if id < 256 { holds().dropped_later("fragment") } else { drops("fragment") };
        script.wait(Duration::ZERO).send(Untrusted, &lone, expect);
    }
    let (whole, [first, middle, _]) = (datagram(V4, 53), in_three(&datagram(V4, 53).id(1000)));
    script.send(Untrusted, &whole, goes_in(&whole, DNS));
    script.send(Untrusted, &first, goes_in(&first, DNS));
    script.send(Untrusted, &middle, goes_in(&middle, DNS));
    script.wait(Duration::from_secs(31));
    let lone = datagram(V4, 53).id(2000).piece(16, &[0; 16], true);
    script.send(Untrusted, &lone, holds());
    script.run();
}

#[test]
fn of_different_senders_do_not_mix() {
    let mut script = Script::new("one identification, two senders", &web());
    let [first, ..] = in_three(&datagram(V4, 53));
    let [_, other, _] = in_three(&datagram(V4, 53).from("198.51.100.10:1000"));
    script.send(Untrusted, &first, goes_in(&first, DNS));
    script.send(Untrusted, &other, holds());
    script.run();
}

#[test]
fn atomic() {
    let mut script = Script::new("F-10: whole, and no part of fragments with its identification", &web());
    let [first, middle, _] = in_three(&datagram(V6, 53));
    script.send(Untrusted, &first, goes_in(&first, DNS));
    let atomic = datagram(V6, 53).atomic();
    script.send(Untrusted, &atomic, goes_in(&atomic, DNS));
    script.send(Untrusted, &datagram(V6, 54).atomic(), drops("denied_by_rule").rule(DENY_ALL));
    script.send(Untrusted, &middle, goes_in(&middle, DNS));
    script.run();
}

#[test]
fn first_without_the_whole_header_chain() {
    let datagram = datagram(V6, 53);
    let udp = datagram.segment_bytes();
    // Destination options of 16 bytes, then UDP.
    let options = [&[17, 1, 1, 12][..], &[0; 12]].concat();
    let whole = [&options[..], &udp].concat();
    let under = |packet: Packet| packet.header(|ip| ip[40] = 60);
    let good = under(datagram.clone().id(2).piece(0, &whole[..32], true));
    let bad = under(datagram.piece(0, &whole[..8], true));
    twins("F-11: cut within the options", &web(), &good, DNS, &bad, "fragment");
    let bad = under(datagram.piece(0, &whole[..16], true));
    twins("F-11: cut before UDP", &web(), &good, DNS, &bad, "fragment");
}

#[test]
fn routing_headers() {
    let good = datagram(V6, 53).extension(43, &[4, 0, 0, 0, 0, 0]);
    let with = |content: [u8; 6]| datagram(V6, 53).extension(43, &content);
    twins("F-12: type 0", &web(), &good, DNS, &with([0, 0, 0, 0, 0, 0]), "unsupported");
    twins("F-12: segments left", &web(), &good, DNS, &with([4, 1, 0, 0, 0, 0]), "unsupported");
}

#[test]
fn extension_chains_hide_nothing() {
    let chained =
        |packet: Packet| packet.extension(0, &[1, 4, 0, 0, 0, 0]).extension(60, &[1, 4, 0, 0, 0, 0]);
    let dns = chained(datagram(V6, 53));
    let ssh = chained(tcp(&V6.client(40_000), &V6.server(22)).syn(1));
    let mut script = Script::new("F-13", &web());
    script.send(Untrusted, &ssh, drops("denied_by_rule").rule(DENY_ALL));
    script.send(Untrusted, &dns, goes_in(&dns, DNS));
    script.run();
}

#[test]
fn extension_headers_beyond_limits() {
    let padding = |bytes: usize| [&[1, (bytes - 4) as u8][..], &vec![0; bytes - 4]].concat();
    let chain =
        |count: usize| (0..count).fold(datagram(V6, 53), |packet, _| packet.extension(60, &padding(8)));
    twins("F-14: eight headers pass", &web(), &chain(8), DNS, &chain(9), "unsupported");
    twins("F-14: 130 headers", &web(), &chain(1), DNS, &chain(130), "unsupported");
    let options =
        |count: usize| (0..count).fold(datagram(V6, 53), |packet, _| packet.extension(60, &padding(256)));
    twins("F-14: 512 bytes pass", &web(), &options(2), DNS, &options(3), "unsupported");
    let late = datagram(V6, 53).extension(60, &padding(8)).extension(0, &padding(8));
    twins("hop-by-hop options come first", &web(), &chain(2), DNS, &late, "malformed");
    let unknown = |kind| datagram(V6, 53).extension(60, &[kind, 4, 0, 0, 0, 0]);
    twins("an option not to be skipped", &web(), &unknown(0x1e), DNS, &unknown(0x9e), "unsupported");
    let overlong = datagram(V6, 53).extension(60, &[1, 5, 0, 0, 0, 0]);
    twins("an option behind its header", &web(), &chain(1), DNS, &overlong, "malformed");
}

#[test]
fn neighbor_discovery_is_never_fragmented() {
    let mac = [2, 0, 0, 0, 0x71, 0xfe];
    let good = solicitation(mac, "2001:db8:113::fe", "2001:db8:113::1");
    let answer = nva_tests::packet::advertisement(
        Untrusted.station(),
        "2001:db8:113::1",
        mac,
        "2001:db8:113::fe",
        0xe0,
    );
    let mut script = Script::new("F-19", &web());
    script.send(Untrusted, &good.clone().atomic(), drops("malformed"));
    script.send(Untrusted, &good, replies(Untrusted, &answer));
    script.run();
    let mut script = Script::new("F-19: an advertisement", &web());
    let announced = nva_tests::packet::advertisement(
        mac,
        "2001:db8:113::fe",
        Untrusted.station(),
        "2001:db8:113::1",
        0x60,
    );
    script.send(Untrusted, &announced.clone().atomic(), drops("malformed"));
    script.send(Untrusted, &announced, consumes());
    script.run();
}
