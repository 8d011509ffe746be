//! The appliance's path between two memory ports: a table of packets goes in, what comes out is counted and freed.

use crate::firewall::{Firewall, LIFETIME_MS};
use crate::traffic::{self, Random, STATION, Segment};
use nva_config::{Config, Source};
use nva_dataplane::addr::{Addr, Mac};
use nva_dataplane::names::Names;
use nva_dataplane::pipeline::{Handed, Options, Pipeline, Transmit};
use nva_dataplane::placement::Placement;
use nva_dataplane::route::News;
use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};
use nva_dataplane::time::Time;
use nva_dataplane::verdict::{DropReason, PortId};
use nva_dataplane::wire::{self, Packet, Parsed, Transport};
use pmd_shim::exchange;
use pmd_shim::memory::{LoopRx, Templates};
use pmd_shim::{Burst, Frame, FrameSource, Pool, PoolFrame, PoolOptions, RxOffload, RxQueue};
use std::cell::Cell;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// The untrusted and the trusted port.
const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
/// Their devices.
const LINKS: [Link; 2] = [Link { mac: Mac(STATION), mtu: 1500 }; 2];
/// Of so many packets from outside one is of a stranger, where some are.
const STRANGERS: usize = 5;
/// Frames a burst, as from a poll-mode driver.
pub(crate) const BURST: usize = 32;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// Its name in tables and files.
    pub(crate) name: &'static str,
    /// Live connections.
    pub(crate) flows: usize,
    /// Security rules in front of the one that allows.
    pub(crate) rules: usize,
    /// Which packets.
    pub(crate) kind: Kind,
    /// Which sizes.
    pub(crate) sizes: Sizes,
}

/// Which packets a scenario sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Data of established, balanced and translated connections, both directions mixed.
    Established,
    /// The same of connections whose client proved itself to the SYN proxy.
    Spliced,
    /// As `Established`, and in place of each fifth from outside the first datagram of a flow that only the default rule behind all others denies.
    SomeDenied,
    /// Datagrams of flows that are routed as they are, both directions mixed.
    Routed,
    /// The same datagrams in tunnels of a gateway, which has two for each of [`traffic::GATEWAYS`].
    Tunnelled,
    /// First packets that no flow knows, and that only the default rule behind all others denies.
    Denied,
    /// First packets of flows that a firewall's rules allow, each of which lives until some later ones have come.
    Opened,
    /// SYNs with the options of Linux from forged sources, each answered with a cookie.
    Cookies,
    /// Acknowledgements from forged sources that prove nothing.
    Unproved,
}

/// Frame sizes, without the frame check sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// 60 bytes: the smallest frame, 64 on the wire.
    Small,
    /// 60, 590 and 1514 bytes as 7 : 4 : 1.
    Mixed,
}

impl Sizes {
    fn pick(self, random: &mut Random) -> usize {
        match (self, random.below(12)) {
            (Self::Small, _) | (Self::Mixed, 0..7) => 60,
            (Self::Mixed, 7..11) => 590,
            (Self::Mixed, _) => 1514,
        }
    }
}

/// Two memory ports, the path, and the packets.
pub(crate) struct Rig {
    pipeline: Pipeline<PoolFrame>,
    sources: [LoopRx<Pool>; 2],
    /// The same packets for the floor, which leaves the path's where it was: in its order each flow's turn comes when it has to.
    floors: [LoopRx<Pool>; 2],
    tables: [Arc<Templates>; 2],
    pool: Pool,
    sink: Sink,
    now: Time,
    /// From one round to the next.
    round_ns: u64,
    /// Packets that went through the path, the handshakes not counted.
    stepped: u64,
    /// Frames that were filled and freed without the path.
    freed: u64,
    /// Frames come and go on this thread.
    _owner: pmd_shim::pool::Owner,
}

/// A worker's post among others.
pub(crate) struct Post {
    /// Its place. Its flows are those whose client is at home there.
    pub(crate) placement: Placement,
    /// The secret that all of them share.
    pub(crate) seed: [u8; 16],
    /// How it and the others reach each other.
    pub(crate) desk: Desk,
}

/// How a worker and the others reach each other.
pub(crate) type Desk = exchange::Post<Handed<PoolFrame>, News>;

/// Counts and frees; keeps the last frame's bytes when asked to.
struct Sink {
    /// Whom to hand over to, and from whom frames come.
    others: Option<Desk>,
    pool: Pool,
    sent: u64,
    last: Option<Vec<u8>>,
    keep: bool,
}

impl Sink {
    #[cold]
    fn keep(&mut self, frame: &PoolFrame) {
        self.last = Some(frame.bytes().to_vec());
    }
}

impl Transmit<PoolFrame> for Sink {
    #[inline]
    fn transmit(&mut self, _: PortId, frame: PoolFrame) {
        self.sent += 1;
        if self.keep {
            self.keep(&frame);
        }
    }

    #[inline]
    fn transmit_all(&mut self, port: PortId, frames: &mut Burst<PoolFrame>) {
        if self.keep {
            return frames.drain(..).for_each(|frame| self.transmit(port, frame));
        }
        self.sent += frames.len() as u64;
        Frame::free_all(frames);
    }

    fn allocate(&mut self) -> Option<PoolFrame> {
        self.pool.allocate()
    }

    #[inline]
    fn hand_over(&mut self, worker: usize, handed: Handed<PoolFrame>) -> Result<(), Handed<PoolFrame>> {
        match &mut self.others {
            Some(desk) => desk.peers.hand_over(worker, handed),
            None => Err(handed),
        }
    }

    fn tell(&mut self, news: News) {
        if let Some(desk) = &mut self.others {
            desk.peers.tell(news);
        }
    }
}

impl Rig {
    /// Builds the path, opens the scenario's connections through it, and lays out the packets to be measured.
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Result<Self, String> {
        Self::at(scenario, seed, None)
    }

    /// The same for a worker among others, or alone.
    pub(crate) fn at(scenario: &Scenario, seed: u64, post: Option<Post>) -> Result<Self, String> {
        let pool = Pool::new(PoolOptions { frames: 4096, data_room: 1600 }).map_err(|e| e.to_string())?;
        let owner = pool.adopt().map_err(|e| e.to_string())?;
        let firewall = (scenario.kind == Kind::Opened).then(|| firewall(scenario, seed)).transpose()?;
        let config = match &firewall {
            Some(firewall) => firewall.config("af_packet", ["p0", "p1"])?,
            None => load(&text(scenario))?,
        };
        let mut names = Names::default();
        let options = BuildOptions { links: &LINKS, down: &|_, _| false, names: &mut names, generation: 1 };
        let snapshot = Arc::new(Snapshot::build(&config, options));
        let now = Time::from_millis(1_000);
        // Of flows that come and go, some are still there when their time is over.
        let capacity = if firewall.is_some() { 2 * scenario.flows } else { scenario.flows.max(1024) };
        let lifetime_ns = LIFETIME_MS * 1_000_000;
        let round_ns =
            if firewall.is_some() { lifetime_ns * BURST as u64 / scenario.flows as u64 } else { 2_000 };
        let placement = post.as_ref().map_or(Placement::ALONE, |post| post.placement);
        let secret = post.as_ref().map_or([7; 16], |post| post.seed);
        let pipeline =
            Pipeline::new(snapshot, &Options { flow_capacity: capacity, seed: secret, placement }, now);
        let others = post.map(|post| post.desk);
        let sink = Sink { others, pool: pool.clone(), sent: 0, last: None, keep: false };
        let mut rig = Self {
            pipeline,
            sources: [(); 2].map(|()| source(&pool, &Arc::default())),
            floors: [(); 2].map(|()| source(&pool, &Arc::default())),
            tables: Default::default(),
            pool: pool.clone(),
            sink,
            now,
            round_ns,
            stepped: 0,
            freed: 0,
            _owner: owner,
        };
        let tables = match scenario.kind {
            Kind::Established | Kind::SomeDenied => rig.establish(scenario, &pool, seed, &placement)?,
            Kind::Spliced => rig.splice(scenario, &pool, seed)?,
            Kind::Routed => rig.open(scenario, &pool, seed)?,
            Kind::Tunnelled => rig.open_tunnelled(scenario, &pool, seed)?,
            Kind::Denied => denied(seed),
            Kind::Opened => {
                [Templates::new(firewall.iter().flat_map(Firewall::frames)), Templates::default()]
            }
            Kind::Cookies => rig.asked(&pool, seed)?,
            Kind::Unproved => unproved(seed),
        };
        rig.tables = tables.map(Arc::new);
        rig.play(&rig.tables.clone());
        Ok(rig)
    }

    /// Its packets, for each port.
    pub(crate) fn tables(&self) -> &[Arc<Templates>; 2] {
        &self.tables
    }

    /// Receives these packets from now on.
    pub(crate) fn play(&mut self, tables: &[Arc<Templates>; 2]) {
        self.sources = [0, 1].map(|port| source(&self.pool, &tables[port]));
        self.floors = [0, 1].map(|port| source(&self.pool, &tables[port]));
    }

    /// Frames that left.
    pub(crate) fn sent(&self) -> u64 {
        self.sink.sent
    }

    /// One turn of a worker among others: as [`Self::step`] while `receives`, with what the others have for it and what it has for
    /// them. Packets that it took in, from ports and from others.
    pub(crate) fn turn(&mut self, receives: bool) -> usize {
        let mut packets = if receives { self.step() } else { 0 };
        let Self { pipeline, sink, now, .. } = self;
        let Some(desk) = &mut sink.others else { return packets };
        let mut handed = Burst::new();
        packets += desk.inbox.take(&mut handed);
        pipeline.accept(*now, &mut handed, sink);
        if let Some(desk) = &mut sink.others {
            desk.peers.flush();
        }
        packets
    }

    /// Packets that go through in one round of both ports.
    pub(crate) fn step(&mut self) -> usize {
        let mut packets = 0;
        self.now = Time(self.now.0 + self.round_ns);
        for (source, port) in self.sources.iter_mut().zip([OUTSIDE, INSIDE]) {
            let mut burst = Burst::new();
            packets += source.receive(&mut burst);
            if !burst.is_empty() {
                self.pipeline.process(self.now, port, &mut burst, &mut self.sink, &mut ());
            }
        }
        self.pipeline.advance(self.now, &mut self.sink);
        self.stepped += packets as u64;
        packets
    }

    /// The same without the path: frames are filled and freed.
    pub(crate) fn floor(&mut self) -> usize {
        let mut packets = 0;
        for source in &mut self.floors {
            let mut burst = Burst::new();
            packets += source.receive(&mut burst);
            self.freed += burst.drain(..).filter(|frame| !frame.bytes().is_empty()).count() as u64;
        }
        packets
    }

    /// Whether every packet so far ended as the scenario says: a path that drops everything would be fast.
    pub(crate) fn check(&self, scenario: &Scenario) -> Result<(), String> {
        let expected = match scenario.kind {
            Kind::Established | Kind::Spliced | Kind::Routed | Kind::Tunnelled | Kind::Cookies => {
                self.stepped
            }
            // Each opened one.
            Kind::Opened => self.stepped.min(self.pipeline.counters().flows_created),
            Kind::SomeDenied => self.stepped - self.denied(),
            Kind::Denied | Kind::Unproved => 0,
        };
        let is_mixed = scenario.kind != Kind::SomeDenied || self.denied() != 0;
        let are_new = scenario.kind != Kind::Opened || expected == self.stepped;
        if self.sink.sent == expected && is_mixed && are_new {
            Ok(())
        } else {
            Err(format!(
                "{}: {} frames left, not {expected}: {:?}",
                scenario.name,
                self.sink.sent,
                self.pipeline.counters().ports
            ))
        }
    }

    /// Packets that rules denied.
    fn denied(&self) -> u64 {
        self.pipeline.counters().ports.iter().map(|port| port.dropped_for(DropReason::DeniedByRule)).sum()
    }

    /// Takes up another configuration between two rounds.
    pub(crate) fn take_up(&mut self, snapshot: &Arc<Snapshot>) {
        self.pipeline.adopt(Arc::clone(snapshot), self.now);
    }

    /// The configuration that the path begins with, and `count` more, each of which differs from the one before it in one rule's port. The
    /// scenario has rules.
    pub(crate) fn editions(scenario: &Scenario, count: usize) -> Result<Vec<Arc<Snapshot>>, String> {
        let mut names = Names::default();
        let mut before: Option<(Arc<Snapshot>, Config)> = None;
        let mut text = text(scenario);
        let mut editions = Vec::with_capacity(count + 1);
        for generation in 0..=count {
            if generation != 0 {
                let rule = (generation * 7) % scenario.rules;
                let (old, new) = (10_000 + rule, 20_000 + generation);
                text = text.replacen(
                    &format!("destination_ports: [{old}]"),
                    &format!("destination_ports: [{new}]"),
                    1,
                );
            }
            let config = load(&text)?;
            let options = BuildOptions {
                links: &LINKS,
                down: &|_, _| false,
                names: &mut names,
                generation: generation as u32 + 1,
            };
            let from = before.as_ref().map(|(snapshot, config)| (&**snapshot, config));
            let snapshot = Arc::new(Snapshot::build_after(from, &config, options));
            editions.push(Arc::clone(&snapshot));
            before = Some((snapshot, config));
        }
        Ok(editions)
    }

    /// Handshakes for every flow; gives each port's packets, in random order of flows.
    fn establish(
        &mut self,
        scenario: &Scenario,
        pool: &Pool,
        seed: u64,
        placement: &Placement,
    ) -> Result<[Templates; 2], String> {
        let mut random = Random(seed);
        let mut backends = Vec::with_capacity(scenario.flows);
        let indices = own_flows(scenario.flows, placement);
        self.sink.keep = true;
        for &index in &indices {
            // The clock stands while connections are opened: none is idle before the measurement.
            let syn = self.pass(pool, OUTSIDE, &traffic::from_client(index, Segment::Syn, 0))?;
            let backend = destination(&syn).ok_or("a translated frame is too short")?;
            let answer = traffic::from_backend(index, backend.0, backend.1, Segment::SynAck, 0);
            self.pass(pool, INSIDE, &answer)?;
            self.pass(pool, OUTSIDE, &traffic::from_client(index, Segment::Data, 0))?;
            backends.push(backend);
        }
        self.sink.keep = false;
        self.sink.sent = 0;
        let strangers = Cell::new(0);
        let outside = |flow: usize, size| {
            if scenario.kind == Kind::SomeDenied && flow.is_multiple_of(STRANGERS) {
                return traffic::unwanted(strangers.replace(strangers.get() + 1), size);
            }
            traffic::from_client(indices[flow], Segment::Data, size)
        };
        let inside = |flow: usize, size| {
            let (backend, mac) = backends[flow];
            traffic::from_backend(indices[flow], backend, mac, Segment::Data, size)
        };
        Ok([table(scenario, &mut random, &outside), table(scenario, &mut random, &inside)])
    }

    /// Handshakes for every flow, first with the SYN proxy and then with the backend; gives each port's packets as
    /// [`establish`](Self::establish) does.
    fn splice(&mut self, scenario: &Scenario, pool: &Pool, seed: u64) -> Result<[Templates; 2], String> {
        let mut random = Random(seed);
        let mut ends = Vec::with_capacity(scenario.flows);
        self.sink.keep = true;
        for index in 0..scenario.flows {
            let asked = self.pass(pool, OUTSIDE, &traffic::from_client(index, Segment::Syn, 0))?;
            let ack = syn_ack_of(&asked)?.wrapping_add(1);
            let syn = self.pass(pool, OUTSIDE, &traffic::acknowledging(index, ack, 0))?;
            let backend = destination(&syn).ok_or("a translated frame is too short")?;
            let answer = traffic::from_backend(index, backend.0, backend.1, Segment::SynAck, 0);
            self.pass(pool, INSIDE, &answer)?;
            ends.push((backend, ack));
        }
        self.sink.keep = false;
        self.sink.sent = 0;
        let outside = |flow: usize, size| traffic::acknowledging(flow, ends[flow].1, size);
        let inside = |flow: usize, size| {
            let (backend, mac) = ends[flow].0;
            traffic::from_backend(flow, backend, mac, Segment::Data, size)
        };
        Ok([table(scenario, &mut random, &outside), table(scenario, &mut random, &inside)])
    }

    /// A datagram each way for every flow; gives each port's packets as [`establish`](Self::establish) does.
    fn open(&mut self, scenario: &Scenario, pool: &Pool, seed: u64) -> Result<[Templates; 2], String> {
        let mut random = Random(seed);
        self.sink.keep = true;
        for index in 0..scenario.flows {
            self.pass(pool, OUTSIDE, &traffic::datagram(index, true, 60))?;
            self.pass(pool, INSIDE, &traffic::datagram(index, false, 60))?;
        }
        self.sink.keep = false;
        self.sink.sent = 0;
        let to_host = |index, size| traffic::datagram(index, true, size);
        let to_client = |index, size| traffic::datagram(index, false, size);
        Ok([table(scenario, &mut random, &to_host), table(scenario, &mut random, &to_client)])
    }

    /// The same in tunnels: all come in by the port that carries them.
    fn open_tunnelled(
        &mut self,
        scenario: &Scenario,
        pool: &Pool,
        seed: u64,
    ) -> Result<[Templates; 2], String> {
        let mut random = Random(seed);
        self.sink.keep = true;
        for index in 0..scenario.flows {
            for inward in [true, false] {
                let left = self.pass(pool, INSIDE, &traffic::tunnelled(index, inward, 60))?;
                // By the other tunnel of the same gateway.
                let vni = left.get(46..49).map(|vni| u32::from_be_bytes([0, vni[0], vni[1], vni[2]]));
                if vni != Some(traffic::vni(index, !inward)) {
                    return Err(format!("flow {index} left by network {vni:?}"));
                }
            }
        }
        self.sink.keep = false;
        self.sink.sent = 0;
        let either = |index: usize, size| traffic::tunnelled(index / 2, index.is_multiple_of(2), size);
        let both = Scenario { flows: 2 * scenario.flows, ..*scenario };
        Ok([Templates::default(), table(&both, &mut random, &either)])
    }

    /// SYNs from forged sources, of which one is tried: what leaves for it has to be a right SYN-ACK.
    fn asked(&mut self, pool: &Pool, seed: u64) -> Result<[Templates; 2], String> {
        let mut random = Random(seed);
        let frames: Vec<Vec<u8>> = (0..100_000).map(|_| traffic::forged_syn(&mut random)).collect();
        self.sink.keep = true;
        let answer = self.pass(pool, OUTSIDE, &frames[0])?;
        self.sink.keep = false;
        self.sink.sent = 0;
        syn_ack_of(&answer)?;
        Ok([Templates::new(frames), Templates::default()])
    }

    /// Takes one frame through and gives what left.
    fn pass(&mut self, pool: &Pool, port: PortId, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut burst = Burst::new();
        burst.push(pool.copy_from(bytes).ok_or("no buffer is free")?);
        self.sink.last = None;
        self.pipeline.process(self.now, port, &mut burst, &mut self.sink, &mut ());
        self.sink.last.take().ok_or_else(|| {
            format!("a packet of the handshake was not forwarded: {:?}", self.pipeline.counters())
        })
    }
}

/// The sequence number of the SYN proxy's answer to a SYN.
fn syn_ack_of(answer: &[u8]) -> Result<u32, String> {
    match wire::parse(answer, RxOffload::default(), Mac(traffic::ROUTER)) {
        Ok(Parsed::Ip(Packet { transport: Transport::Tcp(tcp), .. }))
            if tcp.flags.0 == 0x12 && tcp.window == 0 =>
        {
            Ok(tcp.seq)
        }
        other => Err(format!("no SYN-ACK left for a SYN: {other:?}")),
    }
}

fn source(pool: &Pool, table: &Arc<Templates>) -> LoopRx<Pool> {
    LoopRx::new(pool.clone(), Arc::clone(table), 0, BURST, RxOffload::default())
}

/// The first flows whose client is at home at a worker: all of one that is alone; of others, one flow a client.
fn own_flows(count: usize, placement: &Placement) -> Vec<usize> {
    if placement.is_alone() {
        return (0..count).collect();
    }
    let is_own =
        |index: &usize| placement.worker_of(Addr::v4(traffic::client(*index).0)) == placement.index();
    (0..).map(|client| client * traffic::FLOWS_A_CLIENT).filter(is_own).take(count).collect()
}

/// A port's packets: one of each flow, in random order.
fn table(scenario: &Scenario, random: &mut Random, build: &dyn Fn(usize, usize) -> Vec<u8>) -> Templates {
    let count = scenario.flows.max(1024);
    let mut order: Vec<usize> = (0..count).map(|n| n % scenario.flows).collect();
    random.shuffle(&mut order);
    Templates::new(order.into_iter().map(|flow| build(flow, scenario.sizes.pick(random))))
}

/// Rules of the generator, and twice as many flows as live at a time, so that each is over before its turn comes again.
fn firewall(scenario: &Scenario, seed: u64) -> Result<Firewall, String> {
    Firewall::load(None, scenario.rules, 2 * scenario.flows, seed)
}

/// First packets from random clients to a port that the rules deny: 100 000 of them.
fn denied(seed: u64) -> [Templates; 2] {
    let mut random = Random(seed);
    let frames = (0..100_000).map(|_| {
        let mut frame = traffic::from_client(random.below(30_000_000), Segment::Syn, 0);
        frame.resize(60, 0);
        frame
    });
    [Templates::new(frames), Templates::default()]
}

/// Acknowledgements from forged sources.
fn unproved(seed: u64) -> [Templates; 2] {
    let mut random = Random(seed);
    [Templates::new((0..100_000).map(|_| traffic::forged_ack(&mut random))), Templates::default()]
}

/// The backend, and its Ethernet address, to which a frame goes.
type Hop = (([u8; 4], u16), [u8; 6]);

fn destination(frame: &[u8]) -> Option<Hop> {
    let address: [u8; 4] = frame.get(30..34)?.try_into().ok()?;
    let port = u16::from_be_bytes(frame.get(36..38)?.try_into().ok()?);
    let mac: [u8; 6] = frame.get(..6)?.try_into().ok()?;
    Some(((address, port), mac))
}

/// Reads a configuration.
pub(crate) fn load(text: &str) -> Result<Config, String> {
    let source = Source { path: PathBuf::from("perf.yaml"), text: text.as_bytes().to_vec() };
    nva_config::load(&[source], None)
        .map_err(|problems| problems.iter().map(|p| format!("{p}\n")).collect::<String>())
}

/// Pairs of tunnels, all to one peer.
fn gateways() -> String {
    let mut text = String::from("gateway:\n");
    for n in 0..traffic::GATEWAYS {
        let (trusted, untrusted) = (traffic::vni(n, false), traffic::vni(n, true));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "- {{port: inside, address: 10.2.0.1, peers: [10.2.0.200], tunnels: [{{name: i{n}, trust: trusted, vni: {trusted}, udp_port: 10800}}, \
             {{name: e{n}, trust: untrusted, vni: {untrusted}, udp_port: 10801}}]}}"
        );
    }
    text
}

/// The configuration of a scenario.
fn text(scenario: &Scenario) -> String {
    let mut text = config_text(scenario.rules, scenario.kind != Kind::Denied);
    if scenario.kind == Kind::Tunnelled {
        text += &gateways();
    }
    if matches!(scenario.kind, Kind::Cookies | Kind::Unproved | Kind::Spliced) {
        text = text.replace("backend_port: 8443}", "backend_port: 8443, syn_proxy: always}");
    }
    text
}

/// A frontend, sixteen backends, and `rules` rules that match nothing in front of the one that allows the service, if it is
/// allowed at all.
fn config_text(rules: usize, allowed: bool) -> String {
    let mut text = String::from(
        "version: 1\nname: perf\nports:\n\
         - {name: outside, driver: af_packet, device: p0, trust: untrusted, addresses: [203.0.113.1/24]}\n\
         - {name: inside, driver: af_packet, device: p1, trust: trusted, addresses: [10.2.0.1/24]}\n\
         routes:\n- {to: 0.0.0.0/0, via: 203.0.113.254}\n\
         virtual_network:\n  address_space: [10.0.0.0/8]\n  subnets:\n  - {name: web, prefixes: [10.2.0.0/24], security_group: web}\n\
         neighbors:\n- {address: 203.0.113.254, mac: \"02:00:00:00:71:fe\"}\n",
    );
    // Writing to a string cannot fail.
    for n in 0..16 {
        let _ = writeln!(text, "- {{address: 10.2.0.{}, mac: \"02:00:00:00:02:{:02x}\"}}", n + 4, n + 4);
    }
    text += "- {address: 10.2.0.200, mac: \"02:00:00:00:02:c8\"}\n";
    text += "security_groups:\n- name: web\n  rules:\n";
    for n in 0..rules {
        let _ = writeln!(
            text,
            "  - {{name: r{n}, priority: {}, direction: inbound, access: deny, protocol: tcp, source: [10.{}.{}.0/24], \
             source_ports: [\"*\"], destination: [10.2.0.0/24], destination_ports: [{}]}}",
            100 + n,
            n / 250,
            n % 250,
            10_000 + n
        );
    }
    if !allowed && rules == 0 {
        text.truncate(text.len() - "  rules:\n".len());
    }
    if allowed {
        text += "  - {name: allow, priority: 4000, direction: inbound, access: allow, protocol: tcp, source: [Internet], \
             source_ports: [\"*\"], destination: [10.2.0.0/24], destination_ports: [8443]}\n\
             \x20 - {name: datagrams, priority: 4001, direction: inbound, access: allow, protocol: udp, source: [Internet], \
             source_ports: [\"*\"], destination: [10.2.0.0/24], destination_ports: [4500]}\n";
    }
    text += "load_balancers:\n- name: lb\n  frontends: [{name: vip, address: 203.0.113.10}]\n  pools:\n  - name: web\n    backends:\n";
    for n in 0..16 {
        let _ = writeln!(text, "    - {{name: web-{n}, address: 10.2.0.{}}}", n + 4);
    }
    text +=
        "  rules: [{name: https, frontend: vip, protocol: tcp, port: 443, pool: web, backend_port: 8443}]\n";
    text
}
