//! Several pipelines that hand over to each other, held against one that is alone.

use super::{Handed, Options, Origin, Pipeline, Transmit};
use crate::addr::{Addr, Mac};
use crate::counters::{Counters, PortCounters};
use crate::names::Names;
use crate::placement::Placement;
use crate::route::News;
use crate::snapshot::{BuildOptions, Link, Snapshot};
use crate::testing::VecFrame;
use crate::time::Time;
use crate::verdict::{DropReason, PortId};
use crate::wire::testing::{FrameBuilder, STATION};
use crate::wire::{self, FlowKey, Packet, Parsed, TcpFlags, Transport, protocol};
use nva_config::{Source, Trust};
use pmd_shim::{Burst, Frame, RxOffload};
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

const NOW: Time = Time::from_millis(1_000);
const SEED: [u8; 16] = [0x5a; 16];
const DNS: u16 = 53;

/// Hosts on two untrusted and two trusted ports; the first of each trusted port, and of the second untrusted one, is a backend.
fn hosts(is_v6: bool) -> Vec<(IpAddr, PortId)> {
    let networks = if is_v6 {
        ["2001:db8:a::", "2001:db8:b::", "fd00:1::", "fd00:2::"]
    } else {
        ["198.51.100.", "203.0.113.", "10.1.0.", "10.2.0."]
    };
    let host = |(network, port): (&str, u16)| {
        let address = move |number| format!("{network}{number}").parse().expect("an address");
        (10..14).map(move |number| (address(number), PortId(port))).collect::<Vec<_>>()
    };
    networks.into_iter().zip(0..).flat_map(host).collect()
}

/// Frontends with backends inside, and with one outside.
fn frontends(is_v6: bool) -> [IpAddr; 2] {
    let texts = if is_v6 { ["2001:db8:f::1", "2001:db8:f::2"] } else { ["192.0.2.1", "192.0.2.2"] };
    texts.map(|text| text.parse().expect("an address"))
}

/// The hardware address of a host.
fn mac(address: IpAddr) -> Mac {
    let octets = *Addr::from(address).octets();
    Mac([2, u8::from(address.is_ipv6()), octets[13], octets[14] ^ octets[3], octets[5], octets[15]])
}

fn snapshot(trust: [&str; 4], generation: u32) -> Arc<Snapshot> {
    let mut text = String::from("version: 1\nports:\n");
    let nets = ["198.51.100", "203.0.113", "10.1.0", "10.2.0"];
    let nets6 = ["2001:db8:a::", "2001:db8:b::", "fd00:1::", "fd00:2::"];
    for (index, ((net, net6), trust)) in nets.iter().zip(nets6).zip(trust).enumerate() {
        text += &format!(
            "- {{name: p{index}, driver: af_packet, device: e{index}, trust: {trust}, addresses: [{net}.1/24, \"{net6}1/64\"]}}\n"
        );
    }
    text += "neighbors:\n";
    for (address, _) in [hosts(false), hosts(true)].concat() {
        text += &format!("- {{address: \"{address}\", mac: \"{}\"}}\n", mac(address));
    }
    text += r#"
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
  - {name: all, prefixes: [10.0.0.0/8, 203.0.113.0/24, "fd00::/8", "2001:db8:b::/64"], security_group: open}
security_groups:
- name: open
  rules:
  - {name: in, priority: 100, direction: inbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}
  - {name: out, priority: 100, direction: outbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}
load_balancers:
- name: lb
  frontends:
"#;
    let families = [("4", false), ("6", true)];
    for (family, is_v6) in families {
        for (name, address) in ["in", "out"].iter().zip(frontends(is_v6)) {
            text += &format!("  - {{name: {name}{family}, address: \"{address}\"}}\n");
        }
    }
    text += "  pools:\n";
    for (family, is_v6) in families {
        for (name, places) in [("in", &[8, 12][..]), ("out", &[4])] {
            text += &format!("  - name: {name}{family}\n    backends:\n");
            for place in places {
                let address = hosts(is_v6)[*place].0;
                text += &format!("    - {{name: b{place}-{family}, address: \"{address}\"}}\n");
            }
        }
    }
    text += "  rules:\n";
    for name in ["in4", "out4", "in6", "out6"] {
        for protocol in ["tcp", "udp"] {
            text += &format!(
                "  - {{name: {name}-{protocol}, frontend: {name}, protocol: {protocol}, port: {DNS}, pool: {name}}}\n"
            );
        }
    }
    let source = Source { path: "place.yaml".into(), text: text.into_bytes() };
    let config = nva_config::load(&[source], None).expect("a good configuration");
    let links = [Link { mac: STATION, mtu: 1500 }; 4];
    let mut names = Names::default();
    let options = BuildOptions { links: &links, down: &|_, _| false, names: &mut names, generation };
    Arc::new(Snapshot::build(&config, options))
}

const TRUST: [&str; 4] = ["untrusted", "untrusted", "trusted", "trusted"];

/// What passes between the workers, and out.
#[derive(Default)]
struct Wires {
    inboxes: Vec<VecDeque<Handed<VecFrame>>>,
    news: Vec<VecDeque<News>>,
    sent: Vec<(PortId, Vec<u8>)>,
    handed_over: usize,
    room: usize,
}

/// One worker's view of it.
struct Tx<'a> {
    wires: &'a mut Wires,
    own: usize,
}

impl Transmit<VecFrame> for Tx<'_> {
    fn transmit(&mut self, port: PortId, frame: VecFrame) {
        self.wires.sent.push((port, frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<VecFrame> {
        Some(VecFrame::new(&[]))
    }

    fn hand_over(&mut self, worker: usize, handed: Handed<VecFrame>) -> Result<(), Handed<VecFrame>> {
        assert_ne!(worker, self.own, "nobody hands over to himself");
        if self.wires.inboxes[worker].len() >= self.wires.room {
            return Err(handed);
        }
        self.wires.handed_over += 1;
        self.wires.inboxes[worker].push_back(handed);
        Ok(())
    }

    fn tell(&mut self, news: News) {
        let others = self.wires.news.iter_mut().enumerate().filter(|(index, _)| *index != self.own);
        others.for_each(|(_, inbox)| inbox.push_back(news));
    }
}

/// A flow: its protocol, initiator and target.
type Ends = (u8, (Addr, u16), (Addr, u16));

/// Workers in one thread.
struct Team {
    pipelines: Vec<Pipeline<VecFrame>>,
    wires: Wires,
    trust: Vec<Trust>,
}

impl Team {
    fn new(count: usize, snapshot: &Arc<Snapshot>) -> Self {
        let pipeline = |index| {
            let placement = Placement::new(index, count, SEED);
            let options = Options { flow_capacity: 1000, seed: SEED, placement };
            Pipeline::new(Arc::clone(snapshot), &options, NOW)
        };
        let inboxes = (0..count).map(|_| VecDeque::new()).collect();
        let news = (0..count).map(|_| VecDeque::new()).collect();
        Self {
            pipelines: (0..count).map(pipeline).collect(),
            wires: Wires { inboxes, news, room: 1000, ..Wires::default() },
            trust: snapshot.ports().iter().map(|port| port.trust).collect(),
        }
    }

    /// Where a port's queues are steered to.
    fn steer(&self, port: PortId, bytes: &[u8]) -> usize {
        let Ok(Parsed::Ip(packet)) = wire::parse(bytes, RxOffload::default(), STATION) else { return 0 };
        let outer = match self.trust[port.index()] {
            Trust::Untrusted => packet.key.src,
            Trust::Trusted => packet.key.dst,
        };
        self.pipelines[0].placement.worker_of(outer)
    }

    /// A worker receives a frame.
    fn receive(&mut self, worker: usize, port: PortId, bytes: &[u8]) {
        let mut burst: Burst<VecFrame> = [VecFrame::new(bytes)].into_iter().collect();
        let mut tx = Tx { wires: &mut self.wires, own: worker };
        self.pipelines[worker].process(NOW, port, &mut burst, &mut tx, &mut ());
    }

    /// A worker takes so many frames that others handed over; `false`: there were none.
    fn accept(&mut self, worker: usize, count: usize) -> bool {
        let inbox = &mut self.wires.inboxes[worker];
        let count = count.min(inbox.len());
        let mut burst: Burst<Handed<VecFrame>> = inbox.drain(..count).collect();
        let mut tx = Tx { wires: &mut self.wires, own: worker };
        self.pipelines[worker].accept(NOW, &mut burst, &mut tx);
        while let Some(news) = tx.wires.news[worker].pop_front() {
            self.pipelines[worker].hear(NOW, news, &mut tx);
        }
        count > 0
    }

    /// Until nothing is on its way between the workers.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let busy = (0..self.pipelines.len()).filter(|worker| self.accept(*worker, 3)).count();
            if busy == 0 {
                return;
            }
        }
        panic!("frames go round in circles");
    }

    fn sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let mut sent = std::mem::take(&mut self.wires.sent);
        sent.sort();
        sent
    }

    /// What all counted together.
    fn counters(&self) -> Counters {
        let mut sum = self.pipelines[0].counters().clone();
        for counters in self.pipelines[1..].iter().map(Pipeline::counters) {
            for (sum, port) in sum.ports.iter_mut().zip(&counters.ports) {
                add(sum, port);
            }
            sum.rule_hits.iter_mut().zip(&counters.rule_hits).for_each(|(sum, more)| sum.add(more));
            sum.backend_flows.iter_mut().zip(&counters.backend_flows).for_each(|(sum, more)| *sum += more);
            sum.flows_created += counters.flows_created;
            sum.flows_expired += counters.flows_expired;
            sum.originated += counters.originated;
        }
        sum
    }

    /// All flows; fails when a packet would find one with two workers.
    fn flows(&self) -> HashSet<Ends> {
        let mut keys = HashSet::new();
        let mut flows = HashSet::new();
        for pipeline in &self.pipelines {
            let next = pipeline.flows(0, 1000, &mut |flow| {
                assert!(
                    keys.insert((flow.protocol, flow.initiator, flow.target)),
                    "on two workers: {flow:?}"
                );
                assert!(
                    keys.insert((flow.protocol, flow.translated, flow.initiator)),
                    "on two workers: {flow:?}"
                );
                flows.insert((flow.protocol, flow.initiator, flow.target));
            });
            assert_eq!(next, None);
        }
        flows
    }
}

fn add(sum: &mut PortCounters, more: &PortCounters) {
    for (sum, more) in [
        (&mut sum.received, more.received),
        (&mut sum.forwarded, more.forwarded),
        (&mut sum.replied, more.replied),
        (&mut sum.consumed, more.consumed),
        (&mut sum.held, more.held),
        (&mut sum.transmitted, more.transmitted),
    ] {
        *sum += more;
    }
    sum.dropped.iter_mut().zip(more.dropped).for_each(|(sum, more)| *sum += more);
}

/// What comes next. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Event {
    /// A host opens a flow to another host or a frontend: UDP, TCP or echo.
    Open { kind: u8, is_v6: bool, from: usize, to: usize, port: u16 },
    /// A host answers, or ends, what came to it.
    Answer { pick: usize, resets: bool },
    /// Somebody on that link reports an error about what came by.
    Error { pick: usize, from: usize },
    /// A datagram in four fragments, in some order.
    Fragments { is_v6: bool, from: usize, to: usize, order: [usize; 4], id: u32 },
}

fn events() -> impl Strategy<Value = Vec<(Event, Option<usize>)>> {
    let ends = || (any::<bool>(), 0..16usize, 0..20usize);
    let event = prop_oneof![
        4 => (0..3u8, ends(), 0..3u16).prop_map(|(kind, (is_v6, from, to), port)| Event::Open { kind, is_v6, from, to, port }),
        6 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(pick, resets)| Event::Answer { pick, resets }),
        2 => (any::<usize>(), 0..16usize).prop_map(|(pick, from)| Event::Error { pick, from }),
        2 => (ends(), Just([0, 1, 2, 3]).prop_shuffle(), any::<u32>())
            .prop_map(|((is_v6, from, to), order, id)| Event::Fragments { is_v6, from, to, order, id }),
    ];
    // Some frames come to a worker that steering did not mean.
    prop::collection::vec((event, prop::option::weighted(0.2, 0..8usize)), 1..60)
}

/// Both ends, with the source port: another one to frontends than to hosts, as a client's ports are.
fn ends(is_v6: bool, from: usize, to: usize, port: u16) -> ((IpAddr, PortId), IpAddr, u16) {
    let hosts = hosts(is_v6);
    match hosts.get(to) {
        Some((address, _)) => (hosts[from], *address, 1000 + port),
        None => (hosts[from], frontends(is_v6)[to % 2], 2000 + port),
    }
}

fn parse(frame: &[u8]) -> Option<Packet> {
    let station = Mac(*frame.first_chunk()?);
    match wire::parse(frame, RxOffload::default(), station) {
        Ok(Parsed::Ip(packet)) => Some(packet),
        _ => None,
    }
}

/// The frames of an event, given what was sent before.
fn frames(event: &Event, sent: &[(PortId, Vec<u8>)]) -> Vec<(PortId, Vec<u8>)> {
    let picked = |pick: usize| {
        let (port, frame) = sent.get(pick.checked_rem(sent.len())?)?;
        Some((*port, parse(frame)?, frame))
    };
    match event {
        Event::Open { kind, is_v6, from, to, port } => {
            let ((src, ingress), dst, port) = ends(*is_v6, *from, *to, *port);
            let packet = FrameBuilder::between(src, dst);
            let packet = match kind {
                0 => packet.udp(port, DNS).payload(b"some question"),
                1 => packet.tcp(port, DNS).flags(TcpFlags::SYN).seq(7, 0),
                _ => packet.echo_request(port, 1),
            };
            vec![(ingress, packet.build())]
        }
        Event::Answer { pick, resets } => picked(*pick)
            .filter(|(_, packet, _)| packet.fragment.is_none())
            .and_then(|(port, packet, _)| Some((port, answer(&packet, *resets)?)))
            .into_iter()
            .collect(),
        Event::Error { pick, from } => picked(*pick)
            .and_then(|(port, packet, frame)| {
                let is_v6 = packet.key.src.as_v4().is_none();
                let (router, ingress) = hosts(is_v6)[*from];
                let quoted = frame.get(usize::from(packet.l3)..)?;
                let (kind, code) = if is_v6 { (1, 4) } else { (3, 1) };
                let error = FrameBuilder::between(router, packet.key.src.into()).icmp(kind, code, [0; 4]);
                let ingress = if from % 3 == 0 { ingress } else { port };
                Some((ingress, error.payload(&quoted[..quoted.len().min(500)]).build()))
            })
            .into_iter()
            .collect(),
        Event::Fragments { is_v6, from, to, order, id } => {
            let ((src, ingress), dst, port) = ends(*is_v6, *from, *to, 9);
            let datagram = FrameBuilder::between(src, dst).id(*id).udp(port, DNS).payload(&[0x61; 56]);
            let fragments = datagram.build_fragments(16);
            order.iter().map(|place| (ingress, fragments[*place].clone())).collect()
        }
    }
}

fn answer(packet: &Packet, resets: bool) -> Option<Vec<u8>> {
    let key = packet.key.reversed();
    let builder = FrameBuilder::between(key.src.into(), key.dst.into());
    Some(match packet.transport {
        Transport::Udp => builder.udp(key.src_port, key.dst_port).payload(b"an answer").build(),
        Transport::Tcp(tcp) => {
            let syn = u32::from(tcp.flags.any(TcpFlags::SYN));
            let end = tcp.seq.wrapping_add(packet.payload_len() as u32 + syn);
            let flags = match (resets, syn, tcp.flags.any(TcpFlags::ACK)) {
                (true, ..) => TcpFlags::RST | TcpFlags::ACK,
                (_, 1, false) => TcpFlags::SYN | TcpFlags::ACK,
                _ => TcpFlags::ACK,
            };
            builder.tcp(key.src_port, key.dst_port).flags(flags).seq(tcp.ack, end).build()
        }
        Transport::Icmp(_) if packet.key.src_port != 0 => builder.echo_reply(key.src_port, 1).build(),
        _ => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn many_workers_do_what_one_does(events in events(), count in 2..5usize) {
        let snapshot = snapshot(TRUST, 1);
        let (mut team, mut alone) = (Team::new(count, &snapshot), Team::new(1, &snapshot));
        let mut seen = Vec::new();
        for (event, astray) in events {
            for (number, (port, frame)) in frames(&event, &seen).into_iter().enumerate() {
                let worker = astray.map_or_else(|| team.steer(port, &frame), |astray| (astray + number) % count);
                team.receive(worker, port, &frame);
                team.settle();
                alone.receive(0, port, &frame);
                let sent = alone.sent();
                prop_assert_eq!(team.sent(), sent.clone(), "{:?}", event);
                seen.extend(sent);
            }
        }
        prop_assert_eq!(team.counters(), alone.counters());
        prop_assert_eq!(team.flows(), alone.flows());
    }

    /// Frames of both directions of the same few flows at once, and the workers taking turns in any order.
    #[test]
    fn a_race_makes_no_flow_twice(
        packets in prop::collection::vec((any::<bool>(), 0..16usize, 0..20usize, any::<bool>(), 0..4usize), 1..80),
        count in 2..5usize,
        room in prop::sample::select(vec![2usize, 1000]),
    ) {
        let mut team = Team::new(count, &snapshot(TRUST, 1));
        team.wires.room = room;
        let all = packets.len() as u64;
        for (is_v6, from, to, turns, worker) in packets {
            let hosts = hosts(is_v6);
            let turned = turns.then(|| hosts.get(to)).flatten();
            let (src, port, dst) = match turned {
                Some((other, port)) => (*other, *port, hosts[from].0),
                None => (hosts[from].0, hosts[from].1, ends(is_v6, from, to, 0).1),
            };
            // The same number at both ends, so that both directions are of one flow.
            let frame = FrameBuilder::between(src, dst).udp(DNS, DNS).payload(b"both at once").build();
            team.receive(team.steer(port, &frame), port, &frame);
            team.accept(worker % count, 2);
        }
        team.settle();
        let counters = team.counters();
        prop_assert_eq!(counters.ports.iter().map(|port| port.received).sum::<u64>(), all);
        for port in &counters.ports {
            prop_assert_eq!(port.received, port.verdicts());
        }
        let refused = counters.ports.iter().map(|port| port.dropped_for(DropReason::TxQueueFull)).sum::<u64>();
        prop_assert!(room == 2 || refused == 0);
        let mut pairs = HashSet::new();
        for pipeline in &team.pipelines {
            pipeline.flows(0, 1000, &mut |flow| {
                assert!(pairs.insert((flow.initiator, flow.target)), "{flow:?}");
                let is_routed = flow.target == flow.translated;
                assert!(!is_routed || !pairs.contains(&(flow.target, flow.initiator)), "{flow:?}");
            });
        }
    }
}

#[test]
fn what_passes_between_the_sides_is_never_handed_over() {
    let mut team = Team::new(4, &snapshot(TRUST, 1));
    let mut workers = HashSet::new();
    for is_v6 in [false, true] {
        for outside in 0..4 {
            let hosts = hosts(is_v6);
            let inside = 8..16;
            let opened = inside.clone().map(|inside| (outside, inside)).chain([(outside, 16)]);
            for (from, to) in opened.chain(inside.map(|inside| (inside, outside))) {
                for kind in 0..3 {
                    let mut seen = Vec::new();
                    for event in [
                        Event::Open { kind, is_v6, from, to, port: 5 },
                        Event::Answer { pick: 0, resets: false },
                        Event::Answer { pick: 0, resets: false },
                    ] {
                        for (port, frame) in frames(&event, &seen) {
                            let worker = team.steer(port, &frame);
                            workers.insert(worker);
                            team.receive(worker, port, &frame);
                        }
                        seen = team.sent();
                        // Echo is answered once, and frontends have none.
                        assert!(
                            seen.len() == 1 || kind == 2,
                            "{event:?} from {}: {:?}",
                            hosts[from].0,
                            team.counters()
                        );
                    }
                }
            }
        }
    }
    assert_eq!((team.wires.handed_over, workers.len()), (0, 4));
    assert_eq!(team.counters().backend_flows.iter().sum::<u64>(), 2 * 2 * 4, "TCP and UDP of either family");
}

#[test]
fn flows_are_found_after_a_reload_that_moves_their_homes() {
    let mut moved = 0;
    for from in 0..16 {
        for to in (0..16).filter(|to| *to != from) {
            let home = |team: &Team| {
                let [src, dst] = [from, to].map(|place| Addr::from(hosts(false)[place].0));
                let key = FlowKey { src, dst, src_port: 0, dst_port: 0, protocol: protocol::TCP };
                team.pipelines[0].placement.worker_of(team.pipelines[0].home(key.src, key.dst).address)
            };
            let mut team = Team::new(3, &snapshot(TRUST, 1));
            let mut seen = Vec::new();
            let open = Event::Open { kind: 1, is_v6: false, from, to, port: 1 };
            for event in [open.clone(), Event::Answer { pick: 0, resets: false }, open] {
                for (port, frame) in frames(&event, &seen) {
                    team.receive(team.steer(port, &frame), port, &frame);
                    team.settle();
                }
                seen = team.sent();
                assert_eq!(seen.len(), 1, "{event:?}");
                if team.pipelines[0].snapshot.generation() == 1 {
                    // What is between the first port's hosts and others has another home from now on.
                    let other = snapshot(["trusted", "untrusted", "trusted", "trusted"], 2);
                    let before = home(&team);
                    for pipeline in &mut team.pipelines {
                        pipeline.adopt(Arc::clone(&other), NOW);
                    }
                    moved += usize::from(home(&team) != before);
                }
            }
            assert_eq!(team.flows().len(), 1);
        }
    }
    assert!(moved > 20, "{moved} homes moved");
}

/// Where a worker of three gives packets of all hosts to each other, twice, in one configuration and then in another. `first`: it sees those of the
/// first one too.
fn given_away(first: bool) -> Vec<Vec<(usize, u32)>> {
    let mut team = Team::new(3, &snapshot(TRUST, 1));
    let other = snapshot(["trusted", "untrusted", "trusted", "trusted"], 2);
    let mut all = Vec::new();
    for generation in 1..3 {
        for _ in 0..2 {
            for (from, to) in (0..16).flat_map(|from| (0..20).map(move |to| (from, to))) {
                let open = Event::Open { kind: 1, is_v6: to % 2 == 0, from, to, port: 1 };
                for (port, frame) in frames(&open, &[]) {
                    if from != to && (first || generation == 2) {
                        team.receive(0, port, &frame);
                    }
                }
                let inboxes = team.wires.inboxes.iter_mut().enumerate();
                let given = inboxes.flat_map(|(worker, inbox)| {
                    inbox.drain(..).map(move |handed| (worker, handed.frame.mark())).collect::<Vec<_>>()
                });
                all.push(given.collect());
            }
        }
        team.pipelines[0].adopt(Arc::clone(&other), NOW);
    }
    all
}

#[test]
fn packets_go_the_same_way_again_until_a_reload_leads_elsewhere() {
    let (with_past, without) = (given_away(true), given_away(false));
    let quarter = with_past.len() / 4;
    let [one, two, three, four]: [&[_]; 4] = [0, 1, 2, 3].map(|nth| &with_past[nth * quarter..][..quarter]);
    assert!(one == two && three == four);
    // The others have a flow here by now.
    let given = (0..quarter).filter(|at| !one[*at].is_empty());
    let moved = given
        .inspect(|at| assert_eq!(three[*at], without[2 * quarter + at]))
        .filter(|at| three[*at] != one[*at]);
    assert!(moved.count() > 20);
}

#[test]
fn what_one_learns_all_know() {
    let mut team = Team::new(3, &snapshot(TRUST, 1));
    let (unknown, outside): (IpAddr, IpAddr) =
        ("10.1.0.99".parse().expect("an address"), "198.51.100.10".parse().expect("an address"));
    let frame = FrameBuilder::between(outside, unknown).udp(9, 9).build();
    for worker in 0..3 {
        // Astray or not: each holds what it decides.
        team.receive(worker, PortId(0), &frame);
        team.settle();
    }
    let held = |team: &Team| team.counters().ports[0].held;
    assert_eq!(held(&team), 3);
    team.wires.sent.clear();
    let home = team.steer(PortId(0), &frame);
    let teller = (home + 1) % 3;
    let [own, other] = [[10, 1, 0, 1], [10, 1, 0, 99]];
    let mut reply = STATION.0.to_vec();
    reply.extend([2, 0, 0, 0, 0, 0x99, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 0x99]);
    reply.extend(other);
    reply.extend(STATION.0);
    reply.extend(own);
    reply.resize(60, 0);
    team.receive(teller, PortId(2), &reply);
    team.settle();
    assert_eq!((held(&team), team.sent().len()), (0, 3));
    assert!(team.wires.news.iter().all(VecDeque::is_empty));
    // None tells again what it was told.
    assert!(team.pipelines.iter_mut().all(|pipeline| pipeline.neighbors.take_news().is_none()));
}

#[test]
fn marks_keep_what_they_say() {
    for origin in [
        Origin::Own,
        Origin::Received,
        Origin::Forwarded,
        Origin::Replied,
        Origin::Gathered,
        Origin::Sought,
        Origin::Placed,
    ] {
        let mark = super::Mark { port: PortId(0xfedc), origin };
        assert_eq!(super::Mark::from_bits(mark.to_bits()), mark);
    }
}
