//! Tunnels under any traffic and any configuration: what leaves, leaves on the right side and unchanged; and the fast lane does what the
//! stages do.

use super::{Handed, Observer, Options, Outcome, Pipeline, Transmit};
use crate::addr::Mac;
use crate::counters::{PortCounters, TunnelCounters};
use crate::emit::encap::{Label, Outer, encapsulate};
use crate::names::Names;
use crate::placement::Placement;
use crate::snapshot::{BuildOptions, Link, Snapshot};
use crate::testing::VecFrame;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::testing::{FrameBuilder, STATION, fix_ipv4_checksum};
use crate::wire::{TcpFlags, ethertype};
use core::time::Duration;
use nva_config::{Source, Trust};
use pmd_shim::{Burst, ChecksumStatus, Frame, RxOffload};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

const SEED: [u8; 16] = [0x5c; 16];
const NOW: Time = Time::from_millis(5_000);
const INNER: [Mac; 2] = [Mac([6, 0, 0, 0, 0, 1]), Mac([6, 0, 0, 0, 0, 2])];
/// This end and the peers of three gateways, two of them at one address.
const GATEWAYS: [(&str, &[&str]); 3] = [
    ("10.2.0.1", &["10.2.0.200", "10.2.0.201"]),
    ("10.2.0.1", &["10.2.0.201"]),
    ("fd00:2::1", &["fd00:2::c8"]),
];
const CLIENTS: [[&str; 2]; 2] = [["198.51.100.7", "198.51.100.8"], ["2001:db8:c::7", "2001:db8:c::8"]];
const FRONTENDS: [[&str; 2]; 2] = [["203.0.113.10", "203.0.113.11"], ["2001:db8:f::10", "2001:db8:f::11"]];

/// A tunnel of a configuration, as its peer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    gateway: usize,
    own: &'static str,
    peer: &'static str,
    vni: u32,
    udp_port: u16,
    trust: Trust,
}

/// The first gateway has another network on its untrusted side, so that the trusted one's twin is another.
const OTHER_TWIN: u64 = 1 << 8;
/// It has the other UDP port there.
const OTHER_UDP_PORT: u64 = 1 << 9;
/// It has one peer only.
const FEWER_PEERS: u64 = 1 << 10;
/// There is a [segment](SEGMENT).
const WITH_SEGMENT: u64 = 1 << 11;

/// A configuration of several: which gateways there are, which VNI is whose, what passes.
fn configuration(variant: u64) -> (String, Vec<End>) {
    let mut text = String::from(
        "version: 1\nports:\n\
         - {name: p, device: e0, mtu: 1500, trust: trusted, addresses: [10.2.0.1/24, \"fd00:2::1/64\"]}\n\
         - {name: q, device: e1, mtu: 1500, trust: untrusted, addresses: [192.0.2.1/24]}\n\
         routes: [{to: 0.0.0.0/0, via: 192.0.2.254}]\nneighbors:\n- {address: 192.0.2.254, mac: \"02:00:00:00:00:fe\"}\n",
    );
    for last in [200, 201] {
        text += &format!("- {{address: 10.2.0.{last}, mac: \"02:00:00:00:02:{last:02x}\"}}\n");
    }
    let deny = if variant & 1 == 0 { "allow" } else { "deny" };
    let rule = |name: &str, priority: u16, direction: &str, access: &str, protocol: &str| {
        format!(
            "  - {{name: {name}, priority: {priority}, direction: {direction}, access: {access}, protocol: {protocol}, source: [\"*\"], \
             source_ports: [\"*\"], destination: [\"*\"], destination_ports: [\"*\"]}}\n"
        )
    };
    text += &format!(
        "- {{address: \"fd00:2::c8\", mac: \"02:00:00:00:02:c8\"}}\nvirtual_network:\n  address_space: [10.0.0.0/8]\n  subnets:\n  \
         - {{name: s, prefixes: [10.9.0.0/24, \"fd00:9::/64\"], security_group: g}}\nsecurity_groups:\n- name: g\n  flush_connections: {}\n  rules:\n{}{}{}",
        variant & 2 == 0,
        rule("udp", 100, "inbound", deny, "udp"),
        rule("all", 200, "inbound", "allow", "any"),
        rule("out", 100, "outbound", "allow", "any"),
    );
    text += "gateway:\n";
    let mut ends = Vec::new();
    if variant & WITH_SEGMENT != 0 {
        text = text.replacen("routes:", &format!("{SEGMENT}routes:"), 1);
    }
    for (number, (own, mut peers)) in GATEWAYS.into_iter().enumerate() {
        let has = |bit: u64| number == 0 && variant & bit != 0;
        if has(FEWER_PEERS) {
            peers = &peers[..1];
        }
        if number > 0 && variant >> (1 + number) & 1 == 0 {
            continue;
        }
        // In some configurations the sides are the other way round.
        let turned = u32::from(variant >> (4 + number) & 1 == 1);
        let base = 800 + 100 * number as u32;
        let tunnel = |trust: Trust, side: u32| {
            let (mut vni, mut udp_port) = (base + (side ^ turned), 10_800 + (side ^ turned) as u16);
            if trust == Trust::Untrusted {
                vni += 50 * u32::from(has(OTHER_TWIN));
                udp_port += 100 * u16::from(has(OTHER_UDP_PORT));
            }
            let name = format!("t{number}{side}{turned}");
            (
                format!("  - {{name: {name}, trust: {trust}, vni: {vni}, udp_port: {udp_port}}}\n"),
                (trust, vni, udp_port),
            )
        };
        let both = [tunnel(Trust::Trusted, 0), tunnel(Trust::Untrusted, 1)];
        let list = peers.iter().map(|peer| format!("\"{peer}\"")).collect::<Vec<_>>().join(", ");
        text += &format!("- port: p\n  address: \"{own}\"\n  peers: [{list}]\n");
        if number == 0 {
            text += "  frontends: {203.0.113.10: [10.9.0.4], \"2001:db8:f::10\": [\"fd00:9::4\"]}\n";
        }
        text += &format!("  tunnels:\n{}{}", both[0].0, both[1].0);
        for peer in peers {
            ends.extend(both.iter().map(|(_, (trust, vni, udp_port))| End {
                gateway: number,
                own,
                peer,
                vni: *vni,
                udp_port: *udp_port,
                trust: *trust,
            }));
        }
    }
    if has_geneve(variant) {
        text += "- port: p\n  address: 10.2.0.1\n  peers: [10.2.0.200]\n  encapsulation: geneve\n  \
                 tunnels: [{name: g0, trust: trusted}, {name: g1, trust: untrusted}]\n";
    }
    (text, ends)
}

/// One more gateway, with the first one's address and peer, speaks Geneve.
fn has_geneve(variant: u64) -> bool {
    variant >> 7 & 1 == 1
}

/// The Geneve header and options.
const ENVELOPE: [u8; 40] = [
    8, 0, 8, 0, 0, 0, 0, 0, 1, 8, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8, 1, 8, 2, 2, 8, 7, 6, 5, 4, 3, 2, 1, 1, 8, 3,
    1, 9, 9, 9, 9,
];

/// The inner packet in its envelope, from the peer.
fn enveloped(inner: &[u8]) -> Vec<u8> {
    let mut envelope = ENVELOPE;
    envelope[2..4].copy_from_slice(&inner[12..14]);
    let payload = [&envelope[..], &inner[14..]].concat();
    FrameBuilder::new("10.2.0.200", "10.2.0.1").udp(50_001, 6081).payload(&payload).build()
}

/// What must hold of everything that left for a packet in an envelope: it went back in it, and unchanged where it is no answer.
fn check_enveloped(sent_in: &[u8], sent: &[(PortId, Vec<u8>)], outcomes: &[Outcome]) {
    for (port, frame) in sent {
        assert_eq!(*port, PortId(0));
        let sliced = etherparse::SlicedPacket::from_ethernet(frame).expect("a right frame");
        let Some(etherparse::TransportSlice::Udp(udp)) = &sliced.transport else { panic!("no datagram") };
        assert_eq!((udp.source_port(), udp.destination_port()), (50_001, 6081), "the ports are kept");
        assert_eq!((&frame[26..30], &frame[30..34]), (&[10, 2, 0, 1][..], &[10, 2, 0, 200][..]));
        let (envelope, packet) = udp.payload().split_at(40);
        assert_eq!((&envelope[..2], &envelope[4..]), (&ENVELOPE[..2], &ENVELOPE[4..]));
        assert_eq!(envelope[2..4], sent_in[12..14], "answers are of the same family");
        if outcomes.iter().any(|outcome| matches!(outcome.verdict, Verdict::Forward(_))) {
            assert_eq!(packet, &sent_in[14..], "as it was");
        }
    }
}

fn snapshot(text: &str, generation: u32, names: &mut Names) -> Arc<Snapshot> {
    let source = Source { path: "tunnels.yaml".into(), text: text.into() };
    let config = nva_config::load(&[source], None).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    let links = [Link { mac: STATION, mtu: 1500 }, Link { mac: Mac([2, 0, 0, 0, 0, 9]), mtu: 1500 }];
    Arc::new(Snapshot::build(&config, BuildOptions { links: &links, down: &|_, _| false, names, generation }))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// What workers gave out.
#[derive(Default)]
struct Wires {
    sent: Vec<(PortId, Vec<u8>)>,
    /// How each of these is marked.
    marks: Vec<u32>,
    inboxes: [VecDeque<Handed<VecFrame>>; 2],
}

impl Transmit<VecFrame> for Wires {
    fn transmit(&mut self, port: PortId, frame: VecFrame) {
        self.sent.push((port, frame.bytes().to_vec()));
        self.marks.push(frame.mark());
    }

    fn allocate(&mut self) -> Option<VecFrame> {
        Some(VecFrame::new(&[]))
    }

    fn hand_over(&mut self, worker: usize, handed: Handed<VecFrame>) -> Result<(), Handed<VecFrame>> {
        self.inboxes[worker].push_back(handed);
        Ok(())
    }
}

struct Outcomes<'a>(&'a mut Vec<Outcome>);

impl Observer for Outcomes<'_> {
    fn decided(&mut self, _: usize, outcome: &Outcome) {
        self.0.push(*outcome);
    }
}

/// Two workers, or one.
struct Team(Vec<Pipeline<VecFrame>>);

impl Team {
    fn new(first: &Arc<Snapshot>, workers: usize, is_fast: bool) -> Self {
        let pipelines = (0..workers).map(|index| {
            let placement =
                if workers == 1 { Placement::ALONE } else { Placement::new(index, workers, SEED) };
            let options = Options { flow_capacity: 60, seed: SEED, placement };
            let mut pipeline = Pipeline::new(Arc::clone(first), &options, NOW);
            pipeline.is_without_fast_lane = !is_fast;
            pipeline
        });
        Self(pipelines.collect())
    }

    /// One frame to its end, at the first worker; what was sent for it.
    fn receive(&mut self, now: Time, port: PortId, bytes: &[u8]) -> (Vec<(PortId, Vec<u8>)>, Vec<Outcome>) {
        let mut wires = Wires::default();
        let mut burst: Burst<VecFrame> = [VecFrame::new(bytes)].into_iter().collect();
        let mut outcomes = Vec::new();
        self.0[0].process(now, port, &mut burst, &mut wires, &mut Outcomes(&mut outcomes));
        while let Some(at) = wires.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            let mut handed: Burst<Handed<VecFrame>> = wires.inboxes[at].drain(..).collect();
            self.0[at].accept(now, &mut handed, &mut wires);
        }
        (wires.sent, outcomes)
    }

    /// Frames in one burst to their ends, at the only worker.
    fn receive_all(&mut self, now: Time, frames: &[Vec<u8>]) -> (Vec<(PortId, Vec<u8>)>, Vec<Outcome>) {
        let (mut wires, mut outcomes) = (Wires::default(), Vec::new());
        let mut burst: Burst<VecFrame> = frames.iter().map(|bytes| VecFrame::new(bytes)).collect();
        self.0[0].process(now, PortId(0), &mut burst, &mut wires, &mut Outcomes(&mut outcomes));
        (wires.sent, outcomes)
    }

    /// Frames in one burst to their ends, beginning at one worker: what was sent, how it was marked, and what that worker decided.
    fn receive_at(&mut self, first: usize, now: Time, frames: &[VecFrame]) -> (Wires, Vec<Outcome>) {
        let (mut wires, mut outcomes) = (Wires::default(), Vec::new());
        let mut burst: Burst<VecFrame> = frames.iter().map(copy).collect();
        self.0[first].process(now, PortId(0), &mut burst, &mut wires, &mut Outcomes(&mut outcomes));
        while let Some(at) = wires.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            let mut handed: Burst<Handed<VecFrame>> = wires.inboxes[at].drain(..).collect();
            self.0[at].accept(now, &mut handed, &mut wires);
        }
        (wires, outcomes)
    }

    /// What all workers counted of all tunnels.
    fn tunnels(&self) -> Vec<TunnelCounters> {
        let mut sums = Vec::new();
        for pipeline in &self.0 {
            for (index, tunnel) in pipeline.tunnel_counters().enumerate() {
                if index == sums.len() {
                    sums.push(TunnelCounters::default());
                }
                sums[index].received += tunnel.received;
                sums[index].dropped += tunnel.dropped;
                sums[index].transmitted += tunnel.transmitted;
            }
        }
        sums
    }

    /// What all workers counted, by port.
    fn ports(&self) -> [PortCounters; 3] {
        let mut sums = [(); 3].map(|()| PortCounters::default());
        for pipeline in &self.0 {
            for (sum, port) in sums.iter_mut().zip(&pipeline.counters().ports) {
                sum.received += port.received;
                sum.forwarded += port.forwarded;
                sum.replied += port.replied;
                sum.consumed += port.consumed;
                sum.held += port.held;
                sum.transmitted += port.transmitted;
                sum.dropped.iter_mut().zip(port.dropped).for_each(|(sum, count)| *sum += count);
            }
        }
        sums
    }
}

/// An inner frame between a client and a frontend, whether it goes inward, and the client's port.
fn inner(random: &mut Random) -> (Vec<u8>, bool, usize) {
    let family = random.below(2);
    let (client, frontend) = (random.pick(&CLIENTS[family]), random.pick(&FRONTENDS[family]));
    let port = 1_000 + random.below(4) as u16;
    let is_inward = random.below(2) == 0;
    let (src, dst, ports) =
        if is_inward { (client, frontend, (port, 443)) } else { (frontend, client, (443, port)) };
    let link = if is_inward { (INNER[0], INNER[1]) } else { (INNER[1], INNER[0]) };
    let builder = FrameBuilder::new(src, dst).link(link.0, link.1).ttl(random.pick(&[64, 1, 255]));
    let sizes = [0, 12, 40, 600];
    let payload = vec![0x5a; random.pick(&sizes)];
    let builder = match random.below(8) {
        0..=1 => builder.udp(ports.0, ports.1),
        2 => builder.tcp(ports.0, ports.1).flags(TcpFlags::SYN).seq(100, 0),
        3 => builder.tcp(ports.0, ports.1).flags(TcpFlags::SYN | TcpFlags::ACK).seq(100, 101),
        4..=5 => builder.tcp(ports.0, ports.1).flags(TcpFlags::ACK).seq(101, 101),
        6 => builder.echo_request(port, 1),
        _ => builder.tcp(ports.0, ports.1).flags(TcpFlags::RST).seq(101, 101),
    };
    (builder.payload(&payload).padding(random.pick(&[0, 0, 7])).build(), is_inward, port.into())
}

fn address(text: &str) -> crate::addr::Addr {
    text.parse::<IpAddr>().expect("an address").into()
}

fn around(end: &End, inner: &[u8], service: u8) -> Vec<u8> {
    let mut frame = VecFrame::new(inner);
    let outer = Outer::new(address(end.peer), address(end.own), true);
    let label = Label { vni: end.vni, udp_port: end.udp_port, source_port: 50_000, service };
    encapsulate(&mut frame, &outer, &label, (STATION.into(), Mac([2, 0, 0, 0, 2, 0xc8]).into()))
        .expect("there is room");
    frame.bytes().to_vec()
}

/// Which tunnel a frame was sent into, and the inner frame: read with etherparse.
fn sent_into(ends: &[End], frame: &[u8]) -> Option<(End, Vec<u8>)> {
    let sliced = etherparse::SlicedPacket::from_ethernet(frame).expect("a right frame");
    let (src, dst): (IpAddr, IpAddr) = match &sliced.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            (ip.header().source().into(), ip.header().destination().into())
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => {
            (ip.header().source().into(), ip.header().destination().into())
        }
        _ => return None,
    };
    let Some(etherparse::TransportSlice::Udp(udp)) = &sliced.transport else { return None };
    let payload = udp.payload();
    let vni = u32::from_be_bytes([0, *payload.get(4)?, *payload.get(5)?, *payload.get(6)?]);
    let is_it = |end: &&End| {
        (end.own.parse() == Ok(src))
            && (end.peer.parse() == Ok(dst))
            && end.vni == vni
            && end.udp_port == udp.destination_port()
    };
    ends.iter().find(is_it).map(|end| (*end, payload[8..].to_vec()))
}

/// What must hold of everything that left for a frame which came by a tunnel.
fn check(ends: &[End], by: &End, sent_in: &[u8], sent: &[(PortId, Vec<u8>)], outcomes: &[Outcome]) {
    for (port, frame) in sent {
        assert_eq!(*port, PortId(0), "it left by a port that carries no tunnel");
        let (into, out) = sent_into(ends, frame).expect("what came in a tunnel leaves in one");
        assert_eq!((into.gateway, into.peer), (by.gateway, by.peer), "to the peer that it came from");
        let is_answer = into.trust == by.trust;
        if let [outcome] = outcomes {
            assert_eq!(is_answer, matches!(outcome.verdict, Verdict::Reply(_)), "{outcome:?}");
        }
        if is_answer {
            assert_eq!(
                (&out[..6], &out[6..12]),
                (&sent_in[6..12], &sent_in[..6]),
                "between the same stations"
            );
        } else {
            assert_eq!(out, sent_in, "as it was");
        }
    }
}

#[test]
fn nothing_leaves_on_the_wrong_side() {
    let (mut crossed, mut in_envelopes, mut refused, mut rides) = (0, 0, 0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut names = Names::default();
        let mut variant = random.below(256) as u64;
        let (text, mut ends) = configuration(variant);
        let first = snapshot(&text, 1, &mut names);
        let workers = 1 + random.below(2);
        let mut teams = [true, false].map(|is_fast| Team::new(&first, workers, is_fast));
        let mut now = NOW;
        let mut received = [0; 2];
        for generation in 2..8 {
            for _ in 0..250 {
                let (inner, is_inward, client_port) = inner(&mut random);
                now = now + Duration::from_millis(random.below(3) as u64 * 5);
                // Mostly by the right tunnel; sometimes by any, or by none.
                let fit: Vec<End> =
                    ends.iter().copied().filter(|end| (end.trust == Trust::Untrusted) == is_inward).collect();
                let by =
                    if random.below(10) == 0 { random.pick(&ends) } else { fit[client_port % fit.len()] };
                let bare = random.below(20) == 0;
                let is_enveloped = !bare && random.below(4) == 0;
                let mut frame = match (bare, is_enveloped) {
                    (true, _) => inner.clone(),
                    (_, true) => enveloped(&inner),
                    _ => around(&by, &inner, 0),
                };
                let port = PortId(random.below(20) as u16 / 19);
                if bare {
                    let station = if port == PortId(0) { STATION } else { Mac([2, 0, 0, 0, 0, 9]) };
                    frame[..6].copy_from_slice(&station.0);
                }
                let is_broken = random.below(12) == 0;
                if is_broken {
                    let at = random.below(frame.len());
                    frame[at] ^= 1 << random.below(8);
                }
                received[port.index()] += 1;
                let [fast, slow] = teams.each_mut().map(|team| team.receive(now, port, &frame));
                assert_eq!(fast, slow, "seed {seed}");
                if is_enveloped && port == PortId(0) && !is_broken {
                    assert!(has_geneve(variant) || fast.0.is_empty());
                    check_enveloped(&inner, &fast.0, &fast.1);
                    in_envelopes += fast.0.len();
                } else if !bare && port == PortId(0) && !is_broken {
                    check(&ends, &by, &inner, &fast.0, &fast.1);
                    crossed += fast.0.len();
                }
                if bare {
                    let in_tunnels = fast.0.iter().filter(|(_, frame)| {
                        sent_into(&ends, frame).is_some() || frame.get(36..38) == Some(&6081u16.to_be_bytes())
                    });
                    assert_eq!(in_tunnels.count(), 0, "from outside into a tunnel");
                }
                let trust = |outcome: &&Outcome| outcome.verdict == Verdict::Drop(DropReason::TunnelTrust);
                refused += fast.1.iter().filter(trust).count();
            }
            for team in &teams {
                for (counters, received) in team.ports().iter().zip(received) {
                    assert_eq!((counters.received, counters.verdicts()), (received, received), "seed {seed}");
                }
            }
            assert_eq!(teams[0].ports(), teams[1].ports());
            variant = if random.below(2) == 0 { variant } else { random.below(256) as u64 };
            let (text, next) = configuration(variant);
            ends = next;
            let snapshot = snapshot(&text, generation, &mut names);
            for pipeline in teams.iter_mut().flat_map(|team| &mut team.0) {
                drop(pipeline.adopt(Arc::clone(&snapshot), now));
            }
        }
        rides += teams[0].0.iter().flat_map(|pipeline| pipeline.rides).sum::<u64>();
    }
    assert!(
        crossed > 15_000 && in_envelopes > 1_000 && refused > 1_000 && rides > 1_500,
        "{crossed} crossed, {in_envelopes} in envelopes, {refused} refused, {rides} quickly"
    );
}

#[test]
fn an_inner_frame_of_any_ethertype_is_looked_at() {
    let (text, ends) = configuration(0);
    let mut team = Team::new(&snapshot(&text, 1, &mut Names::default()), 1, true);
    for kind in [0, ethertype::ARP, 0x8100, 0x88a8, 0x8847, 0xffff] {
        let mut frame = vec![0; 60];
        frame[..12].copy_from_slice(&[INNER[1].0, INNER[0].0].concat());
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        let (sent, outcomes) = team.receive(NOW, PortId(0), &around(&ends[0], &frame, 0));
        assert!(sent.is_empty() && matches!(outcomes[0].verdict, Verdict::Drop(_)), "{kind:04x}");
    }
}

/// A segment on the port that carries the tunnels too.
const SEGMENT: &str = "- {name: s, driver: vxlan, vxlan: {port: p, vni: 42, local: 10.2.0.1, remotes: [10.2.0.200]}, \
                       addresses: [10.9.9.1/24], trust: trusted}\n";

/// By a segment, by tunnels, from strangers, and by the port itself, in one burst.
#[test]
fn a_burst_is_as_its_frames_one_by_one() {
    let (text, ends) = configuration(0b1100);
    let text = text.replacen("routes:", &format!("{SEGMENT}routes:"), 1);
    let snapshot = snapshot(&text, 1, &mut Names::default());
    let [mut together, mut apart] = [(); 2].map(|()| Team::new(&snapshot, 1, true));
    let segment = End { vni: 42, udp_port: 4789, ..ends[0] };
    let mut random = Random(42);
    let mut now = NOW;
    for _ in 0..400 {
        now = now + Duration::from_millis(10);
        let frames: Vec<Vec<u8>> = (0..1 + random.below(64))
            .map(|_| {
                let (inner, is_inward, _) = inner(&mut random);
                let side = if is_inward { Trust::Untrusted } else { Trust::Trusted };
                let by = random.pick(&ends);
                let by =
                    ends.iter().find(|end| end.gateway == by.gateway && end.trust == side).unwrap_or(&by);
                match random.below(12) {
                    0 => around(&segment, &inner, 0),
                    1 => inner,
                    2 => around(&End { peer: "10.2.0.77", own: "10.2.0.1", ..*by }, &inner, 0),
                    3 => around(&random.pick(&ends), &inner, random.pick(&[0, 1, 2, 3])),
                    _ => around(by, &inner, 0),
                }
            })
            .collect();
        let one_by_one = frames.iter().map(|frame| apart.receive(now, PortId(0), frame));
        let (sent, outcomes): (Vec<_>, Vec<_>) = one_by_one.unzip();
        assert_eq!(together.receive_all(now, &frames), (sent.concat(), outcomes.concat()));
        let [counters, expected] = [&together, &apart].map(|team| team.0[0].counters());
        assert_eq!(counters.ports, expected.ports);
        assert!(together.0[0].tunnel_counters().eq(apart.0[0].tunnel_counters()));
        assert!(counters.ports.iter().all(|port| port.received == port.verdicts()), "{:#?}", counters.ports);
    }
    let counters = together.0[0].counters();
    assert!(counters.ports[2].received > 200, "the segment is one of the ports");
    assert!(together.0[0].rides.iter().sum::<u64>() > 300, "{:?}", together.0[0].rides);
}

fn copy(frame: &VecFrame) -> VecFrame {
    let mut copy = VecFrame::new(frame.bytes());
    copy.set_offload(frame.offload());
    copy
}

/// A frame of any kind that may come in by a port which carries tunnels: most of them in one of `ends`, some in one of `gone`.
fn any_frame(random: &mut Random, ends: &[End], gone: &[End]) -> VecFrame {
    let (inner, is_inward, client_port) = inner(random);
    let side = if is_inward { Trust::Untrusted } else { Trust::Trusted };
    let fit: Vec<&End> = ends.iter().filter(|end| end.trust == side).collect();
    let by = fit[client_port % fit.len()];
    let segment = End { own: "10.2.0.1", peer: "10.2.0.200", vni: 42, udp_port: 4789, ..*by };
    let mut frame = match random.below(24) {
        0 => around(&segment, &inner, 0),
        1 => {
            let mut frame = inner;
            frame[..6].copy_from_slice(&STATION.0);
            frame
        }
        2 => around(&End { peer: "10.2.0.77", own: "10.2.0.1", ..*by }, &inner, 0),
        3 => around(&random.pick(ends), &inner, 0),
        4 if !gone.is_empty() => around(&random.pick(gone), &inner, 0),
        5 => around(&End { udp_port: random.pick(&[10_800, 10_801, 10_901, 4789]), ..*by }, &inner, 0),
        6 => enveloped(&inner),
        7 => around(by, &inner, random.pick(&[1, 2, 3, 0x28])),
        _ => around(by, &inner, 0),
    };
    match random.below(20) {
        // Outer headers that are others, and right: also reserved bits, options, fragments and checksums.
        0 if frame.len() > 50 && frame[14] == 0x45 => {
            frame[14 + random.below(36)] ^= 1 << random.below(8);
            if usize::from(frame[14] & 15) * 4 <= frame.len() - 14 {
                fix_ipv4_checksum(&mut frame);
            }
        }
        1 => {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        2 => frame.truncate(random.below(frame.len()).max(14)),
        3 => frame.extend([0; 9]),
        _ => {}
    }
    let mut frame = VecFrame::new(&frame);
    if random.below(16) == 0 {
        frame.set_offload(RxOffload {
            checksum: random.pick(&[ChecksumStatus::Verified, ChecksumStatus::Unverified]),
            vlan: random.pick(&[None, Some(7)]),
            truncated: random.below(4) == 0,
        });
    }
    frame
}

proptest! {
    /// Whatever mixture comes in one burst, and whatever becomes of the tunnels between bursts, the fast lane changes nothing: not what
    /// leaves, nor in which order, nor how it is counted at ports and tunnels. What was counted at a tunnel stays there.
    #[test]
    fn bursts_are_as_without_the_fast_lane(seed: u64) {
        let mut random = Random(seed);
        let mut names = Names::default();
        let segment = random.pick(&[0, WITH_SEGMENT]);
        let (text, mut ends) = configuration(random.below(1 << 11) as u64 | segment);
        let first = snapshot(&text, 1, &mut names);
        let workers = 1 + random.below(2);
        let mut teams = [true, false].map(|is_fast| Team::new(&first, workers, is_fast));
        let (mut gone, mut now, mut received) = (Vec::new(), NOW, 0);
        for generation in 2..6 {
            for _ in 0..8 {
                now = now + Duration::from_millis(random.below(3) as u64 * 5);
                let frames: Vec<VecFrame> =
                    (0..1 + random.below(48)).map(|_| any_frame(&mut random, &ends, &gone)).collect();
                received += frames.len() as u64;
                let at = random.below(workers);
                let [fast, slow] = teams.each_mut().map(|team| team.receive_at(at, now, &frames));
                prop_assert_eq!(fast.0.sent, slow.0.sent);
                prop_assert_eq!(fast.0.marks, slow.0.marks);
                // A frame with wrong options may go to the other worker before anybody reads them.
                prop_assert!(workers > 1 || fast.1 == slow.1);
                let ports = teams[0].ports();
                prop_assert_eq!(&ports, &teams[1].ports());
                prop_assert_eq!(teams[0].tunnels(), teams[1].tunnels());
                prop_assert_eq!(ports.iter().map(|port| port.received).sum::<u64>(), received);
                prop_assert!(ports.iter().all(|port| port.received == port.verdicts()));
            }
            let before = teams[0].tunnels();
            gone.extend(&ends);
            let (text, next) = configuration(random.below(1 << 11) as u64 | segment);
            ends = next;
            let snapshot = snapshot(&text, generation, &mut names);
            for pipeline in teams.iter_mut().flat_map(|team| &mut team.0) {
                drop(pipeline.adopt(Arc::clone(&snapshot), now));
            }
            prop_assert_eq!(&teams[0].tunnels()[..before.len()], before);
        }
    }
}

/// Where 10.2.0.200 is.
fn arp_reply() -> Vec<u8> {
    let peer = Mac([2, 0, 0, 0, 2, 0xc8]);
    let head = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2];
    [&STATION.0[..], &peer.0, &head, &peer.0, &[10, 2, 0, 200], &STATION.0, &[10, 2, 0, 1]].concat()
}

#[test]
fn what_waits_for_a_peer_leaves_only_where_it_was_to() {
    const TURNED: u64 = 1 << 4;
    for (later, leaves) in [(0, true), (1, true), (TURNED, false), (OTHER_TWIN, false), (FEWER_PEERS, false)]
    {
        let mut names = Names::default();
        let without_peer = |variant: u64| {
            let (text, ends) = configuration(variant);
            (text.replacen("- {address: 10.2.0.200, mac: \"02:00:00:00:02:c8\"}\n", "", 1), ends)
        };
        let (text, ends) = without_peer(0);
        let mut team = Team::new(&snapshot(&text, 1, &mut names), 1, true);
        let inner =
            FrameBuilder::new("203.0.113.10", CLIENTS[0][0]).link(INNER[1], INNER[0]).udp(999, 53).build();
        let (_, outcomes) = team.receive(NOW, PortId(0), &around(&ends[0], &inner, 0));
        assert_eq!(outcomes[0].verdict, Verdict::Hold);
        let next = snapshot(&without_peer(later).0, 2, &mut names);
        drop(team.0[0].adopt(next, NOW));
        let (sent, _) = team.receive(NOW, PortId(0), &arp_reply());
        let left: Vec<_> = sent.iter().filter_map(|(_, frame)| sent_into(&ends, frame)).collect();
        assert_eq!(left, if leaves { vec![(ends[1], inner)] } else { vec![] }, "{later:x}");
        let (ports, tunnels) = (team.ports(), team.tunnels());
        let counted =
            (ports[0].held, ports[0].forwarded, ports[0].dropped_for(DropReason::UnresolvedNeighbor));
        assert_eq!(counted, (0, u64::from(leaves), u64::from(!leaves)), "{later:x}");
        assert_eq!(tunnels.iter().map(|tunnel| tunnel.transmitted).sum::<u64>(), u64::from(leaves));
        assert_eq!(tunnels.iter().map(|tunnel| tunnel.dropped).sum::<u64>(), u64::from(!leaves));
    }
}

#[test]
fn what_a_queue_refuses_has_not_left_by_any_tunnel() {
    let mut random = Random(7);
    let mut names = Names::default();
    let (text, mut ends) = configuration(1 << 7);
    let mut team = Team::new(&snapshot(&text, 1, &mut names), 1, true);
    let (mut now, mut refused) = (NOW, 0);
    for generation in 2..100 {
        now = now + Duration::from_millis(10);
        let frames: Vec<VecFrame> = (0..48).map(|_| any_frame(&mut random, &ends, &[])).collect();
        let (Wires { sent, marks, .. }, _) = team.receive_at(0, now, &frames);
        let before: u64 = team.tunnels().iter().map(|tunnel| tunnel.transmitted).sum();
        refused += before;
        for ((port, bytes), mark) in sent.iter().zip(marks) {
            let mut frame = VecFrame::new(bytes);
            frame.set_mark(mark);
            team.0[0].refused(*port, frame);
        }
        let (ports, tunnels) = (team.ports(), team.tunnels());
        assert!(tunnels.iter().all(|tunnel| tunnel.transmitted == 0), "{tunnels:?}");
        assert!(ports.iter().all(|port| port.transmitted == 0 && port.received == port.verdicts()));
        if random.below(8) == 0 {
            let (text, next) = configuration(1 << 7 | random.below(1 << 11) as u64);
            ends = next;
            drop(team.0[0].adopt(snapshot(&text, generation, &mut names), now));
        }
    }
    let rides: u64 = team.0[0].rides.iter().sum();
    assert!(refused > 500 && rides > 50, "{refused} refused, {rides} quickly");
}
