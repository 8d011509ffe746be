//! The SYN proxy in the path: packet by packet, and with two hosts that speak TCP through it.

use super::{Observer, Options, Outcome, Pipeline, Transmit};
use crate::addr::Mac;
use crate::names::Names;
use crate::placement::Placement;
use crate::snapshot::{BuildOptions, Link, Snapshot};
use crate::synproxy::SynOptions;
use crate::testing::VecFrame;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::testing::FrameBuilder;
use crate::wire::{self, Packet, Parsed, TCP_HEADER_LEN, Tcp, TcpFlags, Transport};
use core::time::Duration;
use nva_config::Source;
use pmd_shim::{Burst, Frame, RxOffload};
use std::sync::Arc;

mod exact;
mod model;
mod orphans;

const OUT: PortId = PortId(0);
const IN: PortId = PortId(1);
const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 1, 1])];
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 9, 10]);
const START: Time = Time::from_millis(1_000_000);
const SYN_ACK: u8 = TcpFlags::SYN | TcpFlags::ACK;
const RST_ACK: u8 = TcpFlags::RST | TcpFlags::ACK;

/// Client, frontend and backend, of one family.
#[derive(Clone, Copy, Debug)]
struct Ends {
    v6: bool,
    client: &'static str,
    frontend: &'static str,
    backend: &'static str,
}

const V4: Ends = Ends { v6: false, client: "192.0.2.7", frontend: "203.0.113.10", backend: "10.2.0.4" };
const V6: Ends =
    Ends { v6: true, client: "2001:db8:7::7", frontend: "2001:db8:113::10", backend: "fd00:2::4" };
const BOTH: [Ends; 2] = [V4, V6];
const CLIENT_PORT: u16 = 40_000;

const CONFIG: &str = r#"
version: 1
dataplane: {flow_idle_timeout: {tcp_half_open: 20s}}
ports:
- {name: out, device: e0, trust: untrusted, addresses: [203.0.113.1/24, "2001:db8:113::1/64"]}
- {name: in, device: e1, trust: trusted, addresses: [10.2.0.1/24, "fd00:2::1/64"]}
routes:
- {to: 0.0.0.0/0, via: 203.0.113.254}
- {to: "::/0", via: "2001:db8:113::fe"}
neighbors:
- {address: 203.0.113.254, mac: "02:00:00:00:09:0a"}
- {address: "2001:db8:113::fe", mac: "02:00:00:00:09:0a"}
- {address: 10.2.0.4, mac: "02:00:00:00:09:0a"}
- {address: "fd00:2::4", mac: "02:00:00:00:09:0a"}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets: [{name: web, prefixes: [10.2.0.0/24, "fd00:2::/64"], security_group: web}]
security_groups:
- name: web
  rules:
  - {name: not-them, priority: 100, direction: inbound, access: deny, protocol: tcp, source: [192.0.2.66/32], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}
  - {name: all, priority: 200, direction: inbound, access: allow, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [8443]}
load_balancers:
- name: lb
  frontends: [{name: f4, address: 203.0.113.10}, {name: f6, address: "2001:db8:113::10"}]
  pools: [{name: p4, backends: [{name: b4, address: 10.2.0.4}]}, {name: p6, backends: [{name: b6, address: "fd00:2::4"}]}]
  rules:
  - {name: r4, frontend: f4, protocol: tcp, port: 443, pool: p4, backend_port: 8443, syn_proxy: always, tcp_reset: true}
  - {name: r6, frontend: f6, protocol: tcp, port: 443, pool: p6, backend_port: 8443, syn_proxy: always, tcp_reset: true}
  - {name: off, frontend: f4, protocol: tcp, port: 80, pool: p4, backend_port: 8443, syn_proxy: off}
"#;

/// What left, and how many buffers there are.
#[derive(Default)]
struct Wire(Vec<(PortId, Vec<u8>)>);

impl Transmit<VecFrame> for &mut Wire {
    fn transmit(&mut self, port: PortId, frame: VecFrame) {
        self.0.push((port, frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<VecFrame> {
        Some(VecFrame::new(&[]))
    }
}

/// The verdict of the one frame of a burst.
struct Seen(Option<Outcome>);

impl Observer for Seen {
    fn decided(&mut self, _: usize, outcome: &Outcome) {
        self.0 = Some(*outcome);
    }
}

struct Rig {
    pipeline: Pipeline<VecFrame>,
    wire: Wire,
    now: Time,
    names: Names,
    generation: u32,
}

fn snapshot(config: &str, names: &mut Names, generation: u32) -> Arc<Snapshot> {
    let source = Source { path: "syn.yaml".into(), text: config.into() };
    let config = nva_config::load(&[source], None).expect("a good configuration");
    let links = MACS.map(|mac| Link { mac, mtu: 1500 });
    let options = BuildOptions { links: &links, down: &|_, _| false, names, generation };
    Arc::new(Snapshot::build(&config, options))
}

impl Rig {
    fn new() -> Self {
        let mut names = Names::default();
        let snapshot = snapshot(CONFIG, &mut names, 1);
        let options = Options { flow_capacity: 64, seed: [0x5a; 16], placement: Placement::ALONE };
        let pipeline = Pipeline::new(snapshot, &options, START);
        Self { pipeline, wire: Wire::default(), now: START, names, generation: 1 }
    }

    /// One frame in; its verdict and what left for it.
    fn send(&mut self, port: PortId, bytes: &[u8]) -> (Verdict, Vec<(PortId, Vec<u8>)>) {
        let mut burst = Burst::new();
        burst.push(VecFrame::new(bytes));
        let mut seen = Seen(None);
        self.pipeline.process(self.now, port, &mut burst, &mut &mut self.wire, &mut seen);
        let verdict = seen.0.expect("every frame is decided").verdict;
        (verdict, core::mem::take(&mut self.wire.0))
    }

    /// Time goes by; what left meanwhile.
    fn pass(&mut self, time: Duration) -> Vec<(PortId, Vec<u8>)> {
        let until = self.now + time;
        while let Some(due) = self.pipeline.next_timer().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.pipeline.advance(self.now, &mut &mut self.wire);
        }
        self.now = until;
        core::mem::take(&mut self.wire.0)
    }

    fn reload(&mut self, config: &str) {
        self.generation += 1;
        let snapshot = snapshot(config, &mut self.names, self.generation);
        self.pipeline.adopt(snapshot, self.now);
    }

    /// Frames received that are neither forwarded nor anything else, and those that are still held.
    fn balance(&self) -> (u64, u64) {
        let ports = &self.pipeline.counters().ports;
        let received: u64 = ports.iter().map(|port| port.received).sum();
        let verdicts: u64 = ports.iter().map(|port| port.verdicts()).sum();
        (received - verdicts, ports.iter().map(|port| port.held).sum())
    }
}

/// A segment as somebody received it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    packet: Packet,
    tcp: Tcp,
    options: SynOptions,
    raw_options: Vec<u8>,
    payload: Vec<u8>,
}

fn heard(frame: &[u8]) -> Heard {
    let station = Mac(*frame.first_chunk().expect("it has a header"));
    let Ok(Parsed::Ip(packet)) = wire::parse(frame, RxOffload::default(), station) else {
        panic!("no good packet left: {frame:x?}")
    };
    let Transport::Tcp(tcp) = packet.transport else { panic!("no segment left: {packet:?}") };
    let raw_options = frame[packet.l4 as usize + TCP_HEADER_LEN..packet.payload as usize].to_vec();
    let payload = frame[packet.payload as usize..packet.payload_end as usize].to_vec();
    Heard { packet, tcp, options: SynOptions::read(&raw_options), raw_options, payload }
}

/// A segment from the client, to the frontend.
fn from_client(ends: Ends) -> FrameBuilder {
    FrameBuilder::new(ends.client, ends.frontend)
        .link(PEER_MAC, MACS[0])
        .tcp(CLIENT_PORT, 443)
        .dont_fragment()
}

/// A segment from the backend, to the client.
fn from_backend(ends: Ends) -> FrameBuilder {
    FrameBuilder::new(ends.backend, ends.client)
        .link(PEER_MAC, MACS[1])
        .tcp(8443, CLIENT_PORT)
        .dont_fragment()
}

/// What Linux offers: a window scale of 9, selective acknowledgements and a timestamp.
fn linux_options(mss: u16, timestamp: u32) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    let mut options = vec![2, 4, high, low, 4, 2, 8, 10];
    options.extend(timestamp.to_be_bytes());
    options.extend([0, 0, 0, 0, 1, 3, 3, 9]);
    options
}

fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options
}
