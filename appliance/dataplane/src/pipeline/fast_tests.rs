//! The fast lane held against the stages: the same traffic, once with it and once without, ends the same in every respect.

use super::{Handed, Observer, Options, Outcome, Pipeline, Transmit};
use crate::addr::{Addr, Mac};
use crate::flow::{Side, Tally, TcpState, Way};
use crate::names::Names;
use crate::placement::Placement;
use crate::snapshot::{BuildOptions, Link, Snapshot};
use crate::synproxy::Splice;
use crate::testing::VecFrame;
use crate::time::Time;
use crate::verdict::PortId;
use crate::wire::testing::{FrameBuilder, STATION};
use crate::wire::{FlowKey, TcpFlags, protocol};
use core::ops::Range;
use core::time::Duration;
use nva_config::Source;
use pmd_shim::{Burst, ChecksumStatus, Frame, RxOffload};
use std::net::IpAddr;
use std::sync::Arc;

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
const SEED: [u8; 16] = [0x3c; 16];
const ROUTER: &str = "203.0.113.254";
/// Backends, then a host that is only routed to.
const INNER: [[&str; 3]; 2] = [["10.2.0.4", "10.2.0.5", "10.2.0.9"], ["fd00:2::4", "fd00:2::5", "fd00:2::9"]];
const FRONTENDS: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.2"], ["2001:db8:f::1", "2001:db8:f::2"]];
const CLIENTS: [[&str; 3]; 2] =
    [["198.51.100.7", "198.51.100.8", "10.2.0.77"], ["2001:db8:c::7", "2001:db8:c::8", "fd00:2::77"]];
/// Two that are balanced, one that is balanced without translation, and those that filters look at.
const PORTS: [u16; 6] = [443, 53, 99, 123, 11_211, 8_080];

/// One configuration of several: what is open, who is up, how long flows live, what the inner link carries.
fn snapshot(variant: u64, generation: u32, names: &mut Names) -> Arc<Snapshot> {
    let (access, flush) = if variant & 1 == 0 { ("allow", "false") } else { ("deny", "true") };
    let timeout = if variant & 2 == 0 { "{}" } else { "{tcp: 30s, udp: 5s}" };
    let mut text = format!(
        r#"
version: 1
ports:
- {{name: outside, driver: af_packet, device: e0, trust: untrusted, addresses: [203.0.113.1/24, "2001:db8:1::1/64"]}}
- {{name: inside, driver: af_packet, device: e1, trust: trusted, addresses: [10.2.0.1/24, "fd00:2::1/64"]}}
dataplane: {{flow_idle_timeout: {timeout}}}
routes: [{{to: 0.0.0.0/0, via: {ROUTER}}}, {{to: "::/0", via: "2001:db8:1::fe"}}]
neighbors:
- {{address: {ROUTER}, mac: "02:00:00:00:71:fe"}}
- {{address: "2001:db8:1::fe", mac: "02:00:00:00:71:fd"}}
- {{address: "10.2.0.4", mac: "02:00:00:00:02:04"}}
- {{address: "fd00:2::4", mac: "02:00:00:00:06:04"}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
  - {{name: all, prefixes: [10.0.0.0/8, "fd00::/8"], security_group: open}}
security_groups:
- name: open
  flush_connections: {flush}
  rules:
  - {{name: udp, priority: 100, direction: inbound, access: {access}, protocol: udp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [8080]}}
  - {{name: in, priority: 110, direction: inbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}}
  - {{name: out, priority: 100, direction: outbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}}
load_balancers:
- name: lb
  frontends:
"#
    );
    for (family, frontends) in FRONTENDS.iter().enumerate() {
        for (which, address) in frontends.iter().enumerate() {
            text += &format!("  - {{name: f{family}{which}, address: \"{address}\"}}\n");
        }
    }
    text += "  pools:\n";
    for (family, inner) in INNER.iter().enumerate() {
        text += &format!(
            "  - {{name: p{family}, backends: [{{name: a{family}, address: \"{}\"}}, {{name: b{family}, address: \"{}\"}}]}}\n",
            inner[0], inner[1]
        );
    }
    text += "  rules:\n";
    for family in 0..2 {
        for (index, port) in PORTS.iter().enumerate() {
            for protocol in ["tcp", "udp"] {
                let direct = *port == 99;
                let to = if direct || index % 2 == 1 { *port } else { port + 8_000 };
                text += &format!(
                    "  - {{name: r{family}-{port}-{protocol}, frontend: f{family}0, protocol: {protocol}, port: {port}, pool: p{family}, backend_port: {to}, floating_ip: {direct}}}\n"
                );
            }
        }
    }
    let inner_mtu = if variant & 4 == 0 { 1500 } else { 600 };
    compile(text, inner_mtu, variant & 8 != 0, (generation, names))
}

/// A configuration of two ports, the inner one on a link that carries packets of this length. `is_any_down`: backends are whose names begin
/// with b.
pub(super) fn compile(
    text: String,
    inner_mtu: u16,
    is_any_down: bool,
    (generation, names): (u32, &mut Names),
) -> Arc<Snapshot> {
    let source = Source { path: "twins.yaml".into(), text: text.into_bytes() };
    let config = nva_config::load(&[source], None).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>())
    });
    let links = [Link { mac: STATION, mtu: 1500 }, Link { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: inner_mtu }];
    let down = |_: &str, backend: &str| is_any_down && backend.starts_with('b');
    Arc::new(Snapshot::build(&config, BuildOptions { links: &links, down: &down, names, generation }))
}

/// What comes of each seed; one that panics is named.
pub(super) fn of_each<T>(seeds: Range<u64>, run: fn(u64) -> T) -> impl Iterator<Item = T> {
    seeds.map(move |seed| std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}")))
}

/// What comes in by each port.
pub(super) type Frames = [Vec<(Vec<u8>, RxOffload)>; 2];

/// Some frames of so many conversations, of few of these at once, so that one flow's packets follow each other.
pub(super) fn some_frames(
    random: &mut Random,
    talks: usize,
    mut frame: impl FnMut(usize, &mut Random) -> (PortId, Vec<u8>),
) -> Frames {
    let mut frames = Frames::default();
    for _ in 0..random.pick(&[1, 1, 3, 8, 20]) {
        let talk = random.below(talks);
        for _ in 0..1 + random.below(3) {
            let (port, mut frame) = frame(talk, random);
            damage(&mut frame, random);
            let port = if random.once_in(50) { PortId(1 - port.0) } else { port };
            frames[port.index()].push((frame, offload(random)));
        }
    }
    frames
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// All that a pipeline gave out.
#[derive(Default, Debug, PartialEq)]
pub(super) struct Wires {
    pub(super) sent: Vec<(PortId, u32, Vec<u8>)>,
    handed_over: Vec<(usize, u32, Vec<u8>)>,
    outcomes: Vec<(usize, Outcome)>,
}

impl Transmit<VecFrame> for Wires {
    fn transmit(&mut self, port: PortId, frame: VecFrame) {
        self.sent.push((port, frame.mark(), frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<VecFrame> {
        Some(VecFrame::new(&[]))
    }

    fn hand_over(&mut self, worker: usize, handed: Handed<VecFrame>) -> Result<(), Handed<VecFrame>> {
        let frame = &handed.frame;
        self.handed_over.push((worker, frame.mark(), frame.bytes().to_vec()));
        Ok(())
    }
}

pub(super) struct Outcomes<'a>(&'a mut Vec<(usize, Outcome)>);

impl Observer for Outcomes<'_> {
    fn decided(&mut self, slot: usize, outcome: &Outcome) {
        self.0.push((slot, *outcome));
    }
}

/// All that there is to a flow.
#[derive(Debug, PartialEq)]
struct FlowState {
    key: FlowKey,
    translated: FlowKey,
    tcp: TcpState,
    generation: u32,
    ways: [Option<Way>; 2],
    tallies: [Tally; 2],
    decided: (Option<crate::verdict::RuleId>, Option<crate::verdict::BackendId>),
    expires: Time,
    splice: Option<Splice>,
}

fn flows(pipeline: &Pipeline<VecFrame>) -> Vec<FlowState> {
    let (all, _) = pipeline.flows.slice(0, usize::MAX);
    let sides = [Side::Initiator, Side::Responder];
    all.map(|(id, view)| FlowState {
        key: view.flow.key(Side::Initiator),
        translated: view.flow.translated_key(),
        tcp: view.flow.tcp,
        generation: view.flow.generation,
        ways: sides.map(|side| view.flow.way(side)),
        tallies: sides.map(|side| view.tally(side)),
        decided: pipeline.flows.decided_by(id),
        expires: pipeline.flows.expires(id),
        splice: view.flow.is_spliced().then_some(*view.splice),
    })
    .collect()
}

/// What compiles one configuration of several, under a generation.
type Build = fn(u64, u32, &mut Names) -> Arc<Snapshot>;

/// The two, with what both gave out.
pub(super) struct Twins {
    pub(super) pipelines: [Pipeline<VecFrame>; 2],
    pub(super) now: Time,
    build: Build,
    generation: u32,
    names: Names,
}

impl Twins {
    pub(super) fn new(build: Build, variant: u64, random: &mut Random) -> Self {
        let mut names = Names::default();
        let now = Time::from_millis(5_000);
        let first = build(variant, 1, &mut names);
        let placement = if random.once_in(4) { Placement::new(0, 2, SEED) } else { Placement::ALONE };
        let options = Options { flow_capacity: 40, seed: SEED, placement };
        let mut pipelines = [0, 1].map(|_| Pipeline::new(Arc::clone(&first), &options, now));
        pipelines[1].is_without_fast_lane = true;
        Self { pipelines, now, build, generation: 1, names }
    }

    /// Lets both do the same, and gives what they sent.
    fn both(
        &mut self,
        mut step: impl FnMut(&mut Pipeline<VecFrame>, &mut Wires),
    ) -> Vec<(PortId, u32, Vec<u8>)> {
        let [fast, slow] = self.pipelines.each_mut().map(|pipeline| {
            let mut wires = Wires::default();
            step(pipeline, &mut wires);
            wires
        });
        assert_eq!(fast, slow);
        let [one, other] = &self.pipelines;
        assert_eq!(one.counters(), other.counters());
        assert_eq!(flows(one), flows(other));
        assert_eq!(one.next_timer(), other.next_timer());
        fast.sent
    }

    /// What comes in by both ports, in bursts.
    pub(super) fn receive(&mut self, frames: &Frames) {
        for (frames, port) in frames.iter().zip([OUTSIDE, INSIDE]) {
            for frames in frames.chunks(pmd_shim::BURST) {
                self.process(port, frames);
            }
        }
    }

    pub(super) fn process(
        &mut self,
        port: PortId,
        frames: &[(Vec<u8>, RxOffload)],
    ) -> Vec<(PortId, u32, Vec<u8>)> {
        let now = self.now;
        self.both(|pipeline, wires| {
            let frame = |(bytes, offload): &(Vec<u8>, RxOffload)| {
                let mut frame = VecFrame::new(bytes);
                frame.set_offload(*offload);
                frame
            };
            let mut burst: Burst<VecFrame> = frames.iter().map(frame).collect();
            let mut outcomes = Vec::new();
            pipeline.process(now, port, &mut burst, wires, &mut Outcomes(&mut outcomes));
            assert!(burst.is_empty());
            wires.outcomes = outcomes;
        })
    }

    pub(super) fn pass_time(&mut self, time: Duration) -> Vec<(PortId, u32, Vec<u8>)> {
        self.now = self.now + time;
        let now = self.now;
        self.both(|pipeline, wires| pipeline.advance(now, wires))
    }

    pub(super) fn reload(&mut self, variant: u64) {
        self.generation += 1;
        let next = (self.build)(variant, self.generation, &mut self.names);
        let now = self.now;
        self.both(|pipeline, _| drop(pipeline.adopt(Arc::clone(&next), now)));
    }
}

/// Two hosts that speak with each other, as the appliance should see it.
struct Talk {
    protocol: u8,
    client: (IpAddr, u16),
    target: (IpAddr, u16),
    /// The target after translation, once a packet left towards it.
    server: Option<(IpAddr, u16)>,
    /// Next sequence number of client and server.
    seq: [u32; 2],
    handshake: u8,
    has_timestamps: bool,
}

impl Talk {
    fn new(random: &mut Random) -> Self {
        let family = random.below(2);
        let target = match random.below(4) {
            0 => INNER[family][2],
            1 => FRONTENDS[family][1],
            _ => FRONTENDS[family][0],
        };
        let address = |text: &str| text.parse().expect("an address");
        Self {
            protocol: random.pick(&[protocol::TCP, protocol::TCP, protocol::UDP]),
            client: (address(random.pick(&CLIENTS[family])), 1_000 + random.below(8) as u16),
            target: (address(target), random.pick(&PORTS)),
            server: None,
            seq: [random.next() as u32, random.next() as u32],
            handshake: 0,
            has_timestamps: random.once_in(3),
        }
    }

    /// The next frame, by client or server, usually one that fits.
    fn frame(&mut self, random: &mut Random) -> (PortId, Vec<u8>) {
        let by_server = match (self.protocol, self.handshake) {
            (protocol::TCP, 0 | 2) => false,
            (protocol::TCP, 1) => true,
            _ => random.once_in(2),
        };
        let server = self.server.unwrap_or(self.target);
        let (port, src, dst) =
            if by_server { (INSIDE, server, self.client) } else { (OUTSIDE, self.client, self.target) };
        let mut builder = FrameBuilder::between(src.0, dst.0);
        let len = random.pick(&[0, 0, 1, 3, 7, 8, 12, 13, 26, 63, 64, 65, 127, 512, 590, 1_300]);
        let mut payload: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if self.protocol == protocol::TCP {
            builder = builder.tcp(src.1, dst.1);
            let (own, others) = if by_server { (1, 0) } else { (0, 1) };
            let flags = match self.handshake {
                0 => TcpFlags::SYN,
                1 => TcpFlags::SYN | TcpFlags::ACK,
                _ => match random.below(40) {
                    0 => TcpFlags::FIN | TcpFlags::ACK,
                    1 => TcpFlags::RST | TcpFlags::ACK,
                    2 => TcpFlags::SYN,
                    3 => TcpFlags::ACK | TcpFlags::PSH | TcpFlags::URG | 0xc0,
                    4 => TcpFlags::PSH,
                    _ => TcpFlags::ACK,
                },
            };
            if self.handshake < 2 {
                payload.clear();
            }
            let off = match random.below(12) {
                0 => random.pick(&[1, u32::MAX, 70_000, 0x8000_0000, 200_000u32.wrapping_neg()]),
                _ => 0,
            };
            builder = builder
                .flags(flags)
                .seq(
                    self.seq[own].wrapping_add(off),
                    self.seq[others].wrapping_sub(random.below(3) as u32 * 100),
                )
                .window(random.pick(&[0, 1, 500, 64_000, 65_535]));
            if self.handshake < 2 {
                builder = builder.seq(self.seq[own], self.seq[others]).tcp_options(&[3, 3, 7, 1]);
            } else if self.has_timestamps {
                builder = builder.tcp_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
            }
            let ends = u32::from(flags & (TcpFlags::SYN | TcpFlags::FIN) != 0);
            if off == 0 && !random.once_in(5) {
                self.seq[own] = self.seq[own].wrapping_add(payload.len() as u32 + ends);
                self.handshake = (self.handshake + 1).min(3);
            }
        } else if random.once_in(6) && src.0.is_ipv4() {
            builder = builder.udp_without_checksum(src.1, dst.1);
        } else {
            builder = builder.udp(src.1, dst.1);
        }
        builder = builder.payload(&payload).ttl(match random.below(20) {
            0 => 1,
            1 => 2,
            _ => 64,
        });
        if random.once_in(2) {
            builder = builder.dont_fragment();
        }
        let frame = match random.below(40) {
            0 if payload.len() > 16 => random_fragment(&builder, random),
            1 => builder.ip_options(if src.0.is_ipv4() { &[1, 1, 1, 0] } else { &[] }).build(),
            _ => builder.padding(random.pick(&[0, 0, 6, 18])).build(),
        };
        (port, pad(frame, random))
    }
}

fn random_fragment(builder: &FrameBuilder, random: &mut Random) -> Vec<u8> {
    let fragments = builder.build_fragments(16);
    fragments[random.below(fragments.len())].clone()
}

/// Mostly as on a wire, where no frame is shorter.
pub(super) fn pad(mut frame: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if frame.len() < 60 && !random.once_in(4) {
        frame.resize(60, 0);
    }
    frame
}

/// Sometimes one bit is wrong, or the end is missing.
pub(super) fn damage(frame: &mut Vec<u8>, random: &mut Random) {
    match random.below(60) {
        0 => {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        1 => frame.truncate(random.below(frame.len())),
        _ => {}
    }
}

pub(super) fn offload(random: &mut Random) -> RxOffload {
    match random.below(50) {
        0 => RxOffload { vlan: Some(7), ..RxOffload::default() },
        1 => RxOffload { truncated: true, ..RxOffload::default() },
        2..10 => RxOffload { checksum: ChecksumStatus::Verified, ..RxOffload::default() },
        _ => RxOffload::default(),
    }
}

/// An ARP answer of an inner host, or an advertisement: with one of two Ethernet addresses.
fn answer(random: &mut Random) -> Vec<u8> {
    let family = random.below(2);
    let last = random.pick(&[5u8, 9]);
    let mac = [2, 0, 0, random.below(2) as u8, 2, last];
    if family == 0 {
        let ethernet = [&STATION.0[..], &mac, &[8, 6]].concat();
        let body =
            [&[0, 1, 8, 0, 6, 4, 0, 2], &mac[..], &[10, 2, 0, last], &STATION.0, &[10, 2, 0, 1]].concat();
        return [ethernet, body].concat();
    }
    let address: IpAddr = format!("fd00:2::{last}").parse().expect("an address");
    let target = *Addr::from(address).octets();
    let payload = [&target[..], &[2, 1], &mac].concat();
    FrameBuilder::between(address, "fd00:2::1".parse().expect("an address"))
        .link(Mac(mac), STATION)
        .icmp(136, 0, [0x60, 0, 0, 0])
        .ttl(255)
        .payload(&payload)
        .build()
}

/// Runs random traffic; how often the fast lane was taken, by kind and translation.
fn run(seed: u64) -> [u64; 8] {
    let mut random = Random(seed);
    let variant = random.next() & 8;
    let mut twins = Twins::new(snapshot, variant, &mut random);
    let mut talks: Vec<Talk> = (0..12).map(|_| Talk::new(&mut random)).collect();
    for _ in 0..150 {
        match random.below(30) {
            0 => twins.reload(random.next() % 16),
            1 => {
                let seconds = random.pick(&[1, 4, 6, 31, 200]);
                twins.pass_time(Duration::from_secs(seconds));
            }
            2 => {
                let fresh = random.below(talks.len());
                talks[fresh] = Talk::new(&mut random);
            }
            3..6 => {
                let frame = answer(&mut random);
                twins.process(INSIDE, &[(frame, RxOffload::default())]);
            }
            _ => burst(&mut twins, &mut talks, &mut random),
        }
        twins.pass_time(Duration::from_micros(random.next() % 20_000));
    }
    let [fast, slow] = twins.pipelines.each_ref().map(|pipeline| format!("{:?}", pipeline.neighbors));
    assert!(fast == slow, "the neighbours differ");
    assert_eq!(twins.pipelines[1].rides, [0; 8]);
    twins.pipelines[0].rides
}

/// Some frames that come in through one port.
fn burst(twins: &mut Twins, talks: &mut [Talk], random: &mut Random) {
    twins.receive(&some_frames(random, talks.len(), |talk, random| talks[talk].frame(random)));
    // Where the targets are now.
    for flow in flows(&twins.pipelines[0]) {
        let same = |talk: &&mut Talk| {
            (talk.protocol, Addr::from(talk.client.0), talk.client.1)
                == (flow.key.protocol, flow.key.src, flow.key.src_port)
                && (Addr::from(talk.target.0), talk.target.1) == (flow.key.dst, flow.key.dst_port)
        };
        for talk in talks.iter_mut().filter(same) {
            talk.server = Some((flow.translated.dst.into(), flow.translated.dst_port));
        }
    }
}

#[test]
fn with_and_without_the_fast_lane_all_is_the_same() {
    let mut rides = [0; 8];
    for more in of_each(0..60, run) {
        rides.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    assert!(rides.iter().all(|rides| *rides > 10), "by kind, untranslated and translated: {rides:?}");
}
