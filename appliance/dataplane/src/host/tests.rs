//! Messages as frames: who is answered, who is believed, and who is not.

use super::*;
use crate::addr::{Addr, Family, Mac};
use crate::emit;
use crate::emit::nd::{group_mac, solicited_node};
use crate::route::{NeighborAction, NeighborLimits, Neighbors};
use crate::testing::VecFrame;
use crate::time::Time;
use crate::verdict::PortId;
use crate::wire::testing::{FrameBuilder, NEIGHBOR, STATION};
use crate::wire::{Arp, Icmp, IcmpClass, Packet, Parsed, Transport, icmpv6, parse};
use pmd_shim::{Frame, RxOffload};
use std::net::IpAddr;

const NOW: Time = Time::from_millis(1);
const PORT: PortFacts = PortFacts { id: PortId(0), mac: STATION };
const OTHER_PORT: PortFacts = PortFacts { id: PortId(1), mac: Mac([2, 0, 0, 0, 0, 3]) };
const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 7]);
const OURS: &str = "192.0.2.1";
const THEIRS: &str = "192.0.2.2";
const OURS6: &str = "2001:db8::1";
const THEIRS6: &str = "2001:db8::2";

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

/// The appliance with two ports and a frontend on the first one's link.
struct Host {
    local: LocalTable,
    neighbors: Neighbors<VecFrame>,
}

impl Host {
    fn new() -> Self {
        let on_link = |own, prefix, len| (addr(own), addr(prefix), len);
        let local = LocalTable::build(
            &[
                (PORT, vec![on_link(OURS, "192.0.2.0", 24), on_link(OURS6, "2001:db8::", 64)]),
                (OTHER_PORT, vec![on_link("10.0.0.1", "10.0.0.0", 24)]),
            ],
            &[addr("192.0.2.10"), addr("2001:db8::10"), addr("203.0.113.10")],
        );
        let limits = NeighborLimits { entries: 16, waiting: 16, waiting_each: 4 };
        Self { local, neighbors: Neighbors::new(limits, [1; 16]) }
    }

    /// Has a frame wait for a neighbour that has been asked for.
    fn wait_for(&mut self, address: &str) -> NeighborId {
        let id = self.neighbors.find_or_create(PORT.id, addr(address), NOW).unwrap();
        self.neighbors.hold(id, VecFrame::new(&[]), NOW).unwrap();
        let asked = self.neighbors.advance(NOW, &mut 10);
        assert!(matches!(asked, Some(NeighborAction::Solicit { .. })));
        id
    }

    fn arp(&mut self, frame: &mut VecFrame) -> HostOutcome {
        let parsed = read_arp(frame, PORT.mac);
        arp(frame, &parsed, &PORT, &self.local, &mut self.neighbors, NOW)
    }

    fn nd(&mut self, frame: &mut VecFrame) -> HostOutcome {
        let parsed = read_ip(frame, PORT.mac);
        nd(frame, &parsed, &PORT, &self.local, &mut self.neighbors, NOW)
    }

    fn mac_of(&mut self, address: &str) -> Option<Mac> {
        let id = self.neighbors.find_or_create(PORT.id, addr(address), NOW).unwrap();
        self.neighbors.mac(id)
    }
}

fn read_arp(frame: &VecFrame, station: Mac) -> Arp {
    match parse(frame.bytes(), RxOffload::default(), station) {
        Ok(Parsed::Arp(arp)) => arp,
        other => panic!("{other:?}"),
    }
}

fn read_ip(frame: &VecFrame, station: Mac) -> Packet {
    match parse(frame.bytes(), RxOffload::default(), station) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn request(mac: Mac, sender: &str, target: &str) -> VecFrame {
    let mut frame = VecFrame::new(&[]);
    emit::arp::request(&mut frame, mac, addr(sender), addr(target), None).unwrap();
    frame
}

/// A reply from `mac` to our station or to everybody.
fn reply(mac: Mac, sender: &str, target: &str, broadcast: bool) -> VecFrame {
    let mut frame = request(mac, sender, target);
    if !broadcast {
        frame.bytes_mut()[..6].copy_from_slice(&PORT.mac.0);
    }
    frame.bytes_mut()[21] = 2;
    frame
}

const SPOOFED: HostOutcome = HostOutcome::Drop(DropReason::Spoofed);
const NOT_FOR_US: HostOutcome = HostOutcome::Drop(DropReason::NotForUs);

#[test]
fn arp_for_our_addresses_is_answered_and_the_asker_learnt() {
    for target in [OURS, "192.0.2.10"] {
        let mut host = Host::new();
        let mut frame = request(NEIGHBOR, THEIRS, target);
        let HostOutcome::Reply(Some(id)) = host.arp(&mut frame) else { panic!("no reply") };
        assert_eq!(host.neighbors.mac(id), Some(NEIGHBOR));
        let answer = read_arp(&frame, NEIGHBOR);
        assert_eq!((answer.sender_mac, answer.sender, answer.target), (STATION, addr(target), addr(THEIRS)));
    }
}

#[test]
fn arp_for_others_is_not_answered_nor_learnt_from() {
    for target in ["198.51.100.1", "192.0.2.3", "10.0.0.1", "203.0.113.10"] {
        let mut host = Host::new();
        assert_eq!(host.arp(&mut request(NEIGHBOR, THEIRS, target)), NOT_FOR_US, "{target}");
        assert!(host.neighbors.is_empty());
    }
}

#[test]
fn an_arp_probe_for_our_address_is_answered_and_not_learnt() {
    let mut host = Host::new();
    let mut frame = request(NEIGHBOR, "0.0.0.0", OURS);
    assert_eq!(host.arp(&mut frame), HostOutcome::Reply(None));
    assert_eq!(read_arp(&frame, NEIGHBOR).target, addr("0.0.0.0"));
    assert_eq!(host.arp(&mut request(NEIGHBOR, "0.0.0.0", THEIRS)), NOT_FOR_US);
    assert!(host.neighbors.is_empty());
}

#[test]
fn an_arp_sender_that_cannot_be_there_is_spoofed() {
    for (mac, sender, spoofed) in [
        (NEIGHBOR, THEIRS, false),
        (NEIGHBOR, "198.51.100.2", true),
        (NEIGHBOR, "10.0.0.2", true),
        (NEIGHBOR, "192.0.2.0", true),
        (NEIGHBOR, "192.0.2.255", true),
        (NEIGHBOR, OURS, true),
        (NEIGHBOR, "192.0.2.10", true),
        (NEIGHBOR, "127.0.0.1", true),
        (STATION, THEIRS, true),
        (Mac::default(), THEIRS, true),
    ] {
        let mut host = Host::new();
        let parsed = Arp {
            sender_mac: mac,
            sender: addr(sender),
            ..read_arp(&request(NEIGHBOR, THEIRS, OURS), STATION)
        };
        let mut frame = request(NEIGHBOR, sender, OURS);
        let outcome = arp(&mut frame, &parsed, &PORT, &host.local, &mut host.neighbors, NOW);
        assert_eq!(outcome == SPOOFED, spoofed, "{mac} {sender}");
        assert_eq!(host.neighbors.is_empty(), spoofed);
    }
    let mut host = Host::new();
    assert_eq!(host.arp(&mut reply(NEIGHBOR, "0.0.0.0", OURS, false)), SPOOFED);
}

#[test]
fn an_arp_reply_resolves_who_was_asked_for_and_nobody_else() {
    let mut host = Host::new();
    let id = host.wait_for(THEIRS);
    assert_eq!(host.arp(&mut reply(STRANGER, "192.0.2.3", OURS, false)), HostOutcome::Consume);
    assert_eq!(host.neighbors.len(), 1);
    assert_eq!(host.arp(&mut reply(NEIGHBOR, THEIRS, "192.0.2.9", true)), NOT_FOR_US);
    assert_eq!(host.neighbors.mac(id), None);
    assert_eq!(host.arp(&mut reply(NEIGHBOR, THEIRS, OURS, false)), HostOutcome::Learned(id));
    assert_eq!(host.neighbors.mac(id), Some(NEIGHBOR));
    assert!(host.neighbors.pop_waiting(id).is_some());
}

#[test]
fn a_question_from_who_is_asked_for_resolves_it_too() {
    let mut host = Host::new();
    let id = host.wait_for(THEIRS);
    assert_eq!(host.arp(&mut request(NEIGHBOR, THEIRS, OURS)), HostOutcome::Reply(Some(id)));
    assert!(host.neighbors.pop_waiting(id).is_some());
}

#[test]
fn an_announcement_updates_who_is_known_and_adds_nobody() {
    let mut host = Host::new();
    for mut frame in [request(NEIGHBOR, THEIRS, THEIRS), reply(NEIGHBOR, THEIRS, THEIRS, true)] {
        assert_eq!(host.arp(&mut frame), HostOutcome::Consume);
        assert!(host.neighbors.is_empty());
    }
    host.arp(&mut request(NEIGHBOR, THEIRS, OURS));
    assert!(matches!(host.arp(&mut request(STRANGER, THEIRS, THEIRS)), HostOutcome::Learned(_)));
    assert_eq!(host.mac_of(THEIRS), Some(STRANGER));
}

#[test]
fn a_static_neighbour_is_not_talked_over() {
    let mut host = Host::new();
    host.neighbors.set_static(&[(PORT.id, addr(THEIRS), NEIGHBOR)]);
    assert_eq!(host.arp(&mut request(STRANGER, THEIRS, OURS)), HostOutcome::Reply(None));
    assert_eq!(host.arp(&mut reply(STRANGER, THEIRS, OURS, false)), HostOutcome::Consume);
    assert_eq!(host.mac_of(THEIRS), Some(NEIGHBOR));
}

fn solicitation(mac: Mac, source: &str, target: &str, known_mac: Option<Mac>) -> VecFrame {
    let mut frame = VecFrame::new(&[]);
    emit::nd::solicitation(&mut frame, mac, addr(source), addr(target), known_mac).unwrap();
    frame
}

/// A discovery message written by hand: header, target, options.
fn message(kind: u8, flags: u8, src: &str, dst: &str, target: &str, options: &[u8]) -> VecFrame {
    let body = [&addr(target).octets()[..], options].concat();
    let to = if addr(dst).octets()[0] == 0xff { group_mac(addr(dst)) } else { STATION };
    let builder = FrameBuilder::new(src, dst).link(NEIGHBOR, to).ttl(255);
    VecFrame::new(&builder.icmp(kind, 0, [flags, 0, 0, 0]).payload(&body).build())
}

fn advertisement(flags: u8, src: &str, dst: &str, target: &str, options: &[u8]) -> VecFrame {
    message(icmpv6::kind::NEIGHBOR_ADVERTISEMENT, flags, src, dst, target, options)
}

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const NEIGHBOR_OPTION: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 2];

fn link_local_text(mac: Mac) -> String {
    link_local(mac).to_string()
}

#[test]
fn a_solicitation_for_our_addresses_is_answered_and_the_asker_learnt() {
    let (mine, theirs) = (link_local_text(STATION), link_local_text(NEIGHBOR));
    for (source, target) in [
        (THEIRS6, OURS6),
        (THEIRS6, "2001:db8::10"),
        (THEIRS6, mine.as_str()),
        (theirs.as_str(), OURS6),
        (theirs.as_str(), mine.as_str()),
    ] {
        for known_mac in [None, Some(STATION)] {
            let mut host = Host::new();
            let mut frame = solicitation(NEIGHBOR, source, target, known_mac);
            let HostOutcome::Reply(Some(id)) = host.nd(&mut frame) else { panic!("no reply to {source}") };
            assert_eq!(host.neighbors.mac(id), Some(NEIGHBOR));
            let answer = read_ip(&frame, NEIGHBOR);
            assert_eq!((answer.key.src, answer.key.dst), (addr(target), addr(source)));
            let class = IcmpClass::NeighborAdvertisement;
            assert!(matches!(answer.transport, Transport::Icmp(Icmp { class: c, .. }) if c == class));
            assert_eq!(frame.bytes()[58], 0xe0);
            assert_eq!(frame.bytes()[78..], [2, 1, 2, 0, 0, 0, 0, 1]);
        }
    }
}

#[test]
fn a_solicitation_without_an_option_is_answered_where_it_came_from() {
    let mut host = Host::new();
    let mut frame = message(icmpv6::kind::NEIGHBOR_SOLICITATION, 0, THEIRS6, OURS6, OURS6, &[]);
    assert_eq!(host.nd(&mut frame), HostOutcome::Reply(None));
    assert_eq!(frame.bytes()[..6], NEIGHBOR.0);
    assert_eq!(read_ip(&frame, NEIGHBOR).key.dst, addr(THEIRS6));
    assert!(host.neighbors.is_empty());
}

#[test]
fn solicitations_for_others_are_not_ours() {
    let other_port = link_local_text(OTHER_PORT.mac);
    for target in ["2001:db8::3", "2001:db8:1::1", other_port.as_str()] {
        let mut host = Host::new();
        assert_eq!(host.nd(&mut solicitation(NEIGHBOR, THEIRS6, target, None)), NOT_FOR_US, "{target}");
        assert!(host.neighbors.is_empty());
    }
    // To a group, or in an Ethernet group, that is not the target's.
    let mut host = Host::new();
    let other_group = solicited_node(addr("2001:db8::77")).to_string();
    let kind = icmpv6::kind::NEIGHBOR_SOLICITATION;
    assert_eq!(host.nd(&mut message(kind, 0, THEIRS6, &other_group, OURS6, &[])), NOT_FOR_US);
    let mut frame = solicitation(NEIGHBOR, THEIRS6, OURS6, None);
    frame.bytes_mut()[5] ^= 1;
    assert_eq!(host.nd(&mut frame), NOT_FOR_US);
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let mut host = Host::new();
    let group = solicited_node(addr(OURS6)).to_string();
    let mut frame = message(icmpv6::kind::NEIGHBOR_SOLICITATION, 0, "::", &group, OURS6, &[]);
    assert_eq!(host.nd(&mut frame), HostOutcome::Reply(None));
    assert_eq!(read_ip(&frame, NEIGHBOR).key.dst, addr("ff02::1"));
    assert_eq!(frame.bytes()[58], 0xa0);
    assert!(host.neighbors.is_empty());
}

#[test]
fn an_ipv6_asker_that_cannot_be_there_is_spoofed() {
    let mine = link_local_text(STATION);
    for source in ["2001:db8:1::2", OURS6, "2001:db8::10", mine.as_str()] {
        let mut host = Host::new();
        assert_eq!(host.nd(&mut solicitation(NEIGHBOR, source, OURS6, None)), SPOOFED, "{source}");
        assert!(host.neighbors.is_empty());
    }
    let mut host = Host::new();
    assert_eq!(host.nd(&mut solicitation(STATION, THEIRS6, OURS6, None)), SPOOFED);
}

#[test]
fn options_are_read_or_the_message_is_malformed() {
    let kind = icmpv6::kind::NEIGHBOR_SOLICITATION;
    let source = [1, 1, 2, 0, 0, 0, 0, 2];
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let group = [1, 1, 3, 0, 0, 0, 0, 2];
    let long = [1, 2, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    for (options, expected) in [
        ([&nonce[..], &source].concat(), Some(Some(NEIGHBOR))),
        (nonce.to_vec(), Some(None)),
        (group.to_vec(), None),
        (long.to_vec(), None),
    ] {
        let mut host = Host::new();
        let outcome = host.nd(&mut message(kind, 0, THEIRS6, OURS6, OURS6, &options));
        match expected {
            Some(mac) => {
                let HostOutcome::Reply(id) = outcome else { panic!("{outcome:?}") };
                assert_eq!(id.and_then(|id| host.neighbors.mac(id)), mac);
            }
            None => assert_eq!(outcome, HostOutcome::Drop(DropReason::Malformed), "{options:?}"),
        }
    }
}

#[test]
fn an_advertisement_resolves_who_was_asked_for_and_nobody_else() {
    let mut host = Host::new();
    let id = host.wait_for(THEIRS6);
    let flags = SOLICITED | OVERRIDE;
    let stranger = "2001:db8::3";
    let mut frame = advertisement(flags, stranger, OURS6, stranger, &NEIGHBOR_OPTION);
    assert_eq!(host.nd(&mut frame), HostOutcome::Consume);
    assert_eq!(host.nd(&mut advertisement(flags, THEIRS6, OURS6, THEIRS6, &[])), HostOutcome::Consume);
    assert_eq!((host.neighbors.len(), host.neighbors.mac(id)), (1, None));
    let mut frame = advertisement(flags, THEIRS6, OURS6, THEIRS6, &NEIGHBOR_OPTION);
    assert_eq!(host.nd(&mut frame), HostOutcome::Learned(id));
    assert_eq!(host.neighbors.mac(id), Some(NEIGHBOR));
    assert!(host.neighbors.pop_waiting(id).is_some());
}

#[test]
fn advertisements_are_taken_from_who_may_speak() {
    let theirs = link_local_text(NEIGHBOR);
    for (flags, src, dst, target, outcome) in [
        (0, THEIRS6, "ff02::1", THEIRS6, HostOutcome::Consume),
        (0, theirs.as_str(), "ff02::1", THEIRS6, HostOutcome::Consume),
        (SOLICITED, THEIRS6, OURS6, OURS6, SPOOFED),
        (SOLICITED, THEIRS6, OURS6, "2001:db8::10", SPOOFED),
        (SOLICITED, THEIRS6, OURS6, "2001:db8:1::3", SPOOFED),
        (SOLICITED, "2001:db8:1::3", OURS6, THEIRS6, SPOOFED),
        (SOLICITED, OURS6, OURS6, THEIRS6, SPOOFED),
        (SOLICITED, THEIRS6, "2001:db8::9", THEIRS6, NOT_FOR_US),
        (0, THEIRS6, "ff02::2", THEIRS6, NOT_FOR_US),
    ] {
        let mut host = Host::new();
        let mut frame = advertisement(flags, src, dst, target, &NEIGHBOR_OPTION);
        assert_eq!(host.nd(&mut frame), outcome, "{src} to {dst} about {target}");
        assert!(host.neighbors.is_empty());
    }
}

#[test]
fn echo_is_answered_to_the_one_who_asked() {
    for (from, to, family) in [("198.51.100.9", OURS, Family::V4), ("2001:db8:9::9", OURS6, Family::V6)] {
        let bytes = FrameBuilder::new(from, to).echo_request(7, 1).payload(b"data").build();
        let mut frame = VecFrame::new(&bytes);
        let packet = read_ip(&frame, STATION);
        assert_eq!(echo(&mut frame, &packet), HostOutcome::Reply(None));
        let answer = read_ip(&frame, NEIGHBOR);
        assert_eq!((answer.key.src, answer.key.dst, answer.family), (addr(to), addr(from), family));
    }
}

#[test]
fn echo_that_would_reach_others_is_not_answered() {
    use crate::wire::{Cast, FragmentInfo};
    let bytes = FrameBuilder::new("198.51.100.9", OURS).echo_request(7, 1).build();
    let packet = read_ip(&VecFrame::new(&bytes), STATION);
    let with_source =
        |src: &str| Packet { key: crate::wire::FlowKey { src: addr(src), ..packet.key }, ..packet };
    let fragment = FragmentInfo { id: 1, offset: 0, len: 8, more: true };
    for (twin, reason) in [
        (Packet { cast: Cast::Broadcast, ..packet }, DropReason::NotForUs),
        (Packet { cast: Cast::Multicast, ..packet }, DropReason::NotForUs),
        (Packet { fragment: Some(fragment), ..packet }, DropReason::Fragment),
        (Packet { transport: Transport::Udp, ..packet }, DropReason::NotForUs),
        (with_source("224.0.0.1"), DropReason::Spoofed),
        (with_source("0.0.0.0"), DropReason::Spoofed),
        (with_source("127.0.0.1"), DropReason::Spoofed),
        (with_source(OURS), DropReason::Spoofed),
    ] {
        let mut frame = VecFrame::new(&bytes);
        assert_eq!(echo(&mut frame, &twin), HostOutcome::Drop(reason));
        assert_eq!(frame.bytes(), bytes);
    }
}
