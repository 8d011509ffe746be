//! The kernel's sockets behind the appliance's addresses: what gets in, and what gets out.

use super::{Handed, Options, Pipeline, Transmit, worker_for};
use crate::addr::{Addr, Family, Mac};
use crate::names::Names;
use crate::placement::Placement;
use crate::snapshot::{BuildOptions, Link, Snapshot};
use crate::testing::VecFrame;
use crate::time::Time;
use crate::verdict::{DropReason, PortId};
use crate::wire::testing::FrameBuilder;
use crate::wire::{self, ETHERNET_HEADER_LEN, Parsed, TcpFlags};
use core::time::Duration;
use nva_config::Source;
use pmd_shim::{Burst, Frame, RxOffload};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

const NOW: Time = Time::from_millis(1_000);
const SEED: [u8; 16] = [0x5a; 16];
const OUT: PortId = PortId(0);
const PLAIN: PortId = PortId(1);
const SHUT: PortId = PortId(2);
const MACS: [Mac; 3] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 2, 1])];
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 9, 10]);

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
struct Ends {
    own: &'static str,
    peer: &'static str,
    far: &'static str,
    /// On the link, and not known yet.
    unknown: &'static str,
    /// Of the port without a host interface, and of the one without services.
    plain: &'static str,
    shut: &'static str,
    frontend: &'static str,
}

const BOTH: [Ends; 2] = [
    Ends {
        own: "198.51.100.1",
        peer: "198.51.100.10",
        far: "203.0.113.7",
        unknown: "198.51.100.77",
        plain: "10.1.0.1",
        shut: "10.2.0.1",
        frontend: "198.51.100.99",
    },
    Ends {
        own: "2001:db8:a::1",
        peer: "2001:db8:a::10",
        far: "2001:db8:f::7",
        unknown: "2001:db8:a::77",
        plain: "fd00:1::1",
        shut: "fd00:2::1",
        frontend: "2001:db8:a::99",
    },
];

const CONFIG: &str = r#"
version: 1
ports:
- {name: out, device: e0, trust: untrusted, addresses: [198.51.100.1/24, "2001:db8:a::1/64"], host_services: [tcp/22, udp/4000-4010]}
- {name: plain, device: e1, trust: trusted, addresses: [10.1.0.1/24, "fd00:1::1/64"]}
- {name: shut, device: e2, mtu: 1400, trust: trusted, addresses: [10.2.0.1/24, "fd00:2::1/64"], host_services: []}
routes:
- {to: 0.0.0.0/0, via: 198.51.100.10}
- {to: "::/0", via: "2001:db8:a::10"}
neighbors:
- {address: 198.51.100.10, mac: "02:00:00:00:09:0a"}
- {address: "2001:db8:a::10", mac: "02:00:00:00:09:0a"}
- {address: 10.2.0.10, mac: "02:00:00:00:09:0a"}
- {address: "fd00:2::10", mac: "02:00:00:00:09:0a"}
load_balancers:
- name: lb
  frontends: [{name: f4, address: 198.51.100.99}, {name: f6, address: "2001:db8:a::99"}]
"#;

fn snapshot() -> Arc<Snapshot> {
    let source = Source { path: "kernel.yaml".into(), text: CONFIG.into() };
    let config = nva_config::load(&[source], None).expect("a good configuration");
    let links = [1500, 1500, 1400].iter().zip(MACS).map(|(&mtu, mac)| Link { mac, mtu });
    let links: Vec<Link> = links.collect();
    let mut names = Names::default();
    let options = BuildOptions { links: &links, down: &|_, _| false, names: &mut names, generation: 1 };
    Arc::new(Snapshot::build(&config, options))
}

/// What left the workers.
#[derive(Default)]
struct Wires {
    inboxes: Vec<VecDeque<Handed<VecFrame>>>,
    sent: Vec<(PortId, Vec<u8>)>,
    kernel: Vec<(PortId, Vec<u8>)>,
    kernel_is_full: bool,
    handed_over: usize,
}

impl Transmit<VecFrame> for &mut Wires {
    fn transmit(&mut self, port: PortId, frame: VecFrame) {
        self.sent.push((port, frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<VecFrame> {
        Some(VecFrame::new(&[]))
    }

    fn hand_over(&mut self, worker: usize, handed: Handed<VecFrame>) -> Result<(), Handed<VecFrame>> {
        self.handed_over += 1;
        self.inboxes[worker].push_back(handed);
        Ok(())
    }

    fn to_kernel(&mut self, port: PortId, frame: VecFrame) -> Result<(), VecFrame> {
        if self.kernel_is_full {
            return Err(frame);
        }
        self.kernel.push((port, frame.bytes().to_vec()));
        Ok(())
    }
}

/// Workers in one thread.
struct Team {
    pipelines: Vec<Pipeline<VecFrame>>,
    wires: Wires,
    now: Time,
}

impl Team {
    fn new(count: usize) -> Self {
        let snapshot = snapshot();
        let pipeline = |index| {
            let placement = Placement::new(index, count, SEED);
            let options = Options { flow_capacity: 100, seed: SEED, placement };
            Pipeline::new(Arc::clone(&snapshot), &options, NOW)
        };
        let wires = Wires { inboxes: (0..count).map(|_| VecDeque::new()).collect(), ..Wires::default() };
        Self { pipelines: (0..count).map(pipeline).collect(), wires, now: NOW }
    }

    fn receive_at(&mut self, worker: usize, port: PortId, bytes: &[u8]) {
        let mut burst: Burst<VecFrame> = [VecFrame::new(bytes)].into_iter().collect();
        self.pipelines[worker].process(self.now, port, &mut burst, &mut &mut self.wires, &mut ());
        while let Some(at) = self.wires.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            let mut burst: Burst<Handed<VecFrame>> = self.wires.inboxes[at].drain(..).collect();
            self.pipelines[at].accept(self.now, &mut burst, &mut &mut self.wires);
        }
    }

    fn receive(&mut self, port: PortId, bytes: &[u8]) {
        self.receive_at(0, port, bytes);
    }

    /// The kernel sends.
    fn send(&mut self, port: PortId, bytes: &[u8]) {
        let worker = worker_for(&self.pipelines[0].placement, bytes);
        let frame = VecFrame::new(bytes);
        self.pipelines[worker].take_from_kernel(self.now, port, frame, &mut &mut self.wires);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        for _ in 0..200 {
            for pipeline in &mut self.pipelines {
                pipeline.advance(self.now, &mut &mut self.wires);
            }
        }
    }

    /// What the kernel got, since the last time.
    fn kernel(&mut self) -> Vec<(PortId, Vec<u8>)> {
        std::mem::take(&mut self.wires.kernel)
    }

    /// What left by a port, since the last time.
    fn sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        std::mem::take(&mut self.wires.sent)
    }

    fn sum(&self, counter: impl Fn(&Pipeline<VecFrame>) -> u64) -> u64 {
        self.pipelines.iter().map(counter).sum()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.sum(|p| p.counters().ports.iter().map(|port| port.dropped_for(reason)).sum())
    }

    /// To the kernel, dropped there for want of room, from it, lost from it, refused; of one port.
    fn host(&self, port: PortId) -> [u64; 5] {
        let mut sums = [0; 5];
        for pipeline in &self.pipelines {
            let numbers = pipeline.counters().ports[port.index()].host.numbers();
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
        sums
    }

    fn records(&self) -> usize {
        self.pipelines.iter().map(|pipeline| pipeline.asked.len()).sum()
    }

    #[track_caller]
    fn conserves(&self) {
        for port in 0..3 {
            let received = self.sum(|p| p.counters().ports[port].received);
            assert_eq!(received, self.sum(|p| p.counters().ports[port].verdicts()), "port {port}");
        }
        assert_eq!(self.sum(|p| p.flow_count() as u64), 0, "none of this is a forwarded flow");
    }
}

/// From the peer's station to a port.
fn inward(port: PortId, src: &str, dst: &str) -> FrameBuilder {
    FrameBuilder::new(src, dst).link(PEER_MAC, MACS[port.index()]).ttl(255)
}

/// As the kernel writes frames on an interface without ARP: from and to its own station.
fn outward(port: PortId, src: &str, dst: &str) -> FrameBuilder {
    FrameBuilder::new(src, dst).link(MACS[port.index()], MACS[port.index()]).ttl(255)
}

/// What leaves for this frame of the kernel.
fn on_wire(port: PortId, frame: &[u8]) -> (PortId, Vec<u8>) {
    let mut wire = frame.to_vec();
    wire[..6].copy_from_slice(&PEER_MAC.0);
    wire[6..12].copy_from_slice(&MACS[port.index()].0);
    (port, wire)
}

#[test]
fn a_service_is_let_in_as_it_comes_and_leaves_nothing_behind() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let packet = inward(OUT, ends.far, ends.own);
        let good = [
            packet.clone().tcp(1000, 22).flags(TcpFlags::SYN).build(),
            packet.clone().tcp(1000, 22).flags(TcpFlags::ACK).payload(b"x").build(),
            packet.clone().udp(1000, 4000).payload(b"hello").build(),
            packet.clone().udp(1000, 4010).build(),
        ];
        for frame in &good {
            team.receive(OUT, frame);
            assert_eq!(team.kernel(), [(OUT, frame.clone())]);
        }
        let consumed = team.sum(|p| p.counters().ports[0].consumed);
        assert_eq!((consumed, team.host(OUT), team.records()), (4, [4, 0, 0, 0, 0], 0));
        let padded = packet.clone().udp(1000, 4000).padding(9).build();
        team.receive(OUT, &padded);
        assert_eq!(team.kernel(), [(OUT, padded[..padded.len() - 9].to_vec())], "without the link's padding");
        assert!(team.sent().is_empty());
        team.conserves();
    }
}

#[test]
fn nothing_else_is_let_in() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let syn = |builder: FrameBuilder, port| builder.tcp(1000, port).flags(TcpFlags::SYN).build();
        let denied = [
            (OUT, syn(inward(OUT, ends.far, ends.own), 23)),
            (OUT, inward(OUT, ends.far, ends.own).udp(1000, 22).build()),
            (OUT, inward(OUT, ends.far, ends.own).udp(1000, 3999).build()),
            (OUT, inward(OUT, ends.far, ends.own).udp(4000, 4011).build()),
            (OUT, inward(OUT, ends.far, ends.own).protocol(89).build()),
            (OUT, inward(OUT, ends.far, ends.own).echo_reply(7, 1).build()),
            // The address of a port without a host interface, and of one without services.
            (OUT, syn(inward(OUT, ends.far, ends.plain), 22)),
            (OUT, syn(inward(OUT, ends.far, ends.shut), 22)),
            // The service, from the wrong side.
            (SHUT, syn(inward(SHUT, ends.either("10.2.0.10", "fd00:2::10"), ends.own), 22)),
            (PLAIN, syn(inward(PLAIN, ends.either("10.1.0.10", "fd00:1::10"), ends.own), 22)),
        ];
        for (port, frame) in &denied {
            team.receive(*port, frame);
        }
        assert_eq!(team.dropped(DropReason::DeniedByRule), denied.len() as u64);
        // Who it cannot be gets to no service.
        for source in [ends.own, ends.shut, ends.either("10.9.0.1", "fe80::9")] {
            team.receive(OUT, &syn(inward(OUT, source, ends.own), 22));
        }
        let refused = team.dropped(DropReason::Spoofed) + team.dropped(DropReason::NoRoute);
        assert_eq!(refused, 2 + u64::from(ends.own.contains(':')));
        let let_in = u64::from(!ends.own.contains(':'));
        assert_eq!(team.kernel().len() as u64, let_in, "10.9.0.1 may be anybody's");
        assert!(team.sent().is_empty());
        team.conserves();
    }
}

impl Ends {
    fn either(&self, v4: &'static str, v6: &'static str) -> &'static str {
        if self.own.contains(':') { v6 } else { v4 }
    }

    fn family(&self) -> Family {
        Addr::from(self.own.parse::<IpAddr>().unwrap()).family()
    }
}

#[test]
fn the_kernel_speaks_first_and_is_answered() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let question = outward(OUT, ends.own, ends.far).udp(5000, 53).payload(b"?").build();
        let answer = inward(OUT, ends.far, ends.own).udp(53, 5000).payload(b"!").build();
        team.receive(OUT, &answer);
        assert_eq!((team.kernel(), team.dropped(DropReason::DeniedByRule)), (vec![], 1), "not asked for");
        team.send(OUT, &question);
        assert_eq!(team.sent(), [on_wire(OUT, &question)], "but for the link, as the kernel wrote it");
        team.receive(OUT, &answer);
        assert_eq!(team.kernel(), [(OUT, answer.clone())]);
        for other in [
            inward(OUT, ends.peer, ends.own).udp(53, 5000).build(),
            inward(OUT, ends.far, ends.own).udp(54, 5000).build(),
            inward(OUT, ends.far, ends.own).udp(53, 5001).build(),
            inward(OUT, ends.far, ends.own).tcp(53, 5000).flags(TcpFlags::ACK).build(),
        ] {
            team.receive(OUT, &other);
        }
        assert_eq!((team.kernel(), team.dropped(DropReason::DeniedByRule)), (vec![], 5));
        team.wait(Duration::from_secs(600));
        team.receive(OUT, &answer);
        assert_eq!((team.kernel(), team.records()), (vec![], 0), "its time is over");
        assert_eq!((team.host(OUT), team.sum(|p| p.counters().originated)), ([1, 0, 1, 0, 0], 1));
        team.conserves();
    }
}

#[test]
fn a_connection_of_the_kernel_is_tracked() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let out = |seq, ack, flags| {
            outward(OUT, ends.own, ends.far).tcp(5000, 80).seq(seq, ack).flags(flags).window(1000).build()
        };
        let back = |seq, ack, flags| {
            inward(OUT, ends.far, ends.own).tcp(80, 5000).seq(seq, ack).flags(flags).window(1000).build()
        };
        let both = TcpFlags::SYN | TcpFlags::ACK;
        team.send(OUT, &out(100, 0, TcpFlags::SYN));
        team.receive(OUT, &back(7000, 999, both));
        assert_eq!((team.kernel(), team.dropped(DropReason::InvalidState)), (vec![], 1), "not its answer");
        team.receive(OUT, &back(900, 101, both));
        team.send(OUT, &out(101, 901, TcpFlags::ACK));
        team.receive(OUT, &back(901, 101, TcpFlags::ACK));
        team.receive(OUT, &back(901 + 0x4000_0000, 101, TcpFlags::RST));
        assert_eq!((team.kernel().len(), team.dropped(DropReason::InvalidState)), (2, 2), "a blind reset");
        assert_eq!(team.sent().len(), 2);
        team.receive(OUT, &back(901, 101, TcpFlags::RST));
        assert_eq!(team.kernel().len(), 1);
        // It begins anew from the same port.
        team.send(OUT, &out(9000, 0, TcpFlags::SYN));
        team.receive(OUT, &back(50, 9001, both));
        assert_eq!((team.kernel().len(), team.records()), (1, 1));
        team.conserves();
    }
}

#[test]
fn a_connection_that_is_older_than_its_record_goes_on() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let segment = |builder: FrameBuilder| builder.seq(77, 99).flags(TcpFlags::ACK).payload(b"x").build();
        team.send(OUT, &segment(outward(OUT, ends.own, ends.far).tcp(5000, 179)));
        team.receive(OUT, &segment(inward(OUT, ends.far, ends.own).tcp(179, 5000)));
        assert_eq!((team.sent().len(), team.kernel().len(), team.records()), (1, 1, 1));
        let reset = outward(OUT, ends.own, ends.far).tcp(5001, 179).flags(TcpFlags::RST).build();
        team.send(OUT, &reset);
        assert_eq!((team.sent().len(), team.records()), (1, 1), "a reset is not the beginning of anything");
    }
}

#[test]
fn a_service_answers_without_a_record() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let answers = [
            outward(OUT, ends.own, ends.far).tcp(22, 1000).flags(TcpFlags::SYN | TcpFlags::ACK).build(),
            outward(OUT, ends.own, ends.peer).udp(4005, 9).build(),
        ];
        for answer in &answers {
            team.send(OUT, answer);
        }
        assert_eq!(team.sent(), answers.map(|answer| on_wire(OUT, &answer)));
        assert_eq!((team.records(), team.host(OUT)), (0, [0, 0, 2, 0, 0]));
    }
}

#[test]
fn what_is_not_the_kernels_own_does_not_leave() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let udp = |src, dst| outward(OUT, src, dst).udp(5000, 53).build();
        let mut refused = vec![
            udp(ends.peer, ends.far),
            udp(ends.plain, ends.far),
            udp(ends.shut, ends.far),
            udp(ends.either("0.0.0.0", "::"), ends.far),
            udp(ends.either("127.0.0.1", "fe80::ff:fe00:1"), ends.far),
            udp(ends.own, ends.own),
            udp(ends.own, ends.shut),
            udp(ends.own, ends.frontend),
            udp(ends.own, ends.either("224.0.0.5", "ff02::5")),
            udp(ends.own, ends.either("255.255.255.255", "fe80::9")),
            udp(ends.own, ends.either("198.51.100.255", "::1")),
            outward(OUT, ends.own, ends.far).protocol(89).build(),
            outward(OUT, ends.own, ends.far).echo_reply(1, 1).build(),
            // To another station.
            FrameBuilder::new(ends.own, ends.far).link(MACS[0], PEER_MAC).udp(1, 2).build(),
            FrameBuilder::new(ends.own, ends.far).link(MACS[0], Mac::BROADCAST).udp(1, 2).build(),
            Vec::new(),
        ];
        let mut broken = udp(ends.own, ends.far);
        *broken.last_mut().unwrap() ^= 1;
        refused.push(broken);
        if ends.family() == Family::V6 {
            refused.push(outward(OUT, ends.own, ends.peer).icmp(135, 0, [0; 4]).payload(&[0; 16]).build());
        }
        for frame in &refused {
            team.send(OUT, frame);
            assert_eq!(team.sent(), [], "{frame:x?}");
        }
        assert_eq!((team.host(OUT), team.records()), ([0, 0, 0, 0, refused.len() as u64], 0));
        // No interface, no way.
        team.send(PLAIN, &outward(PLAIN, ends.plain, ends.far).udp(1, 2).build());
        assert_eq!((team.sent(), team.host(PLAIN)), (vec![], [0, 0, 0, 0, 1]));
        team.conserves();
    }
}

#[test]
fn the_way_out_may_be_another_port_and_so_may_the_way_back() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let neighbor = ends.either("10.2.0.10", "fd00:2::10");
        let question = outward(OUT, ends.own, neighbor).udp(5000, 53).build();
        team.send(OUT, &question);
        assert_eq!(team.sent(), [on_wire(SHUT, &question)]);
        let answer = inward(SHUT, neighbor, ends.own).udp(53, 5000).build();
        team.receive(SHUT, &answer);
        let (port, got) = team.kernel().pop().unwrap();
        assert_eq!((port, &got[..6]), (OUT, &MACS[0].0[..]), "at the interface that has the address");
        assert_eq!(got[ETHERNET_HEADER_LEN..], answer[ETHERNET_HEADER_LEN..]);
        // That port carries 1400 bytes.
        let long = outward(OUT, ends.own, neighbor).dont_fragment().udp(5000, 53).payload(&[0; 1400]).build();
        team.send(OUT, &long);
        assert_eq!((team.sent(), team.host(OUT)[4]), (vec![], 1));
        if ends.family() == Family::V4 {
            let cut = outward(OUT, ends.own, neighbor).udp(5000, 53).payload(&[0; 1400]).build();
            team.send(OUT, &cut);
            assert_eq!(team.sent().len(), 2);
        }
        team.conserves();
    }
}

#[test]
fn frames_of_the_kernel_wait_for_a_neighbour_and_are_no_received_ones() {
    let ends = BOTH[0];
    let mut team = Team::new(1);
    let question = outward(OUT, ends.own, ends.unknown).udp(5000, 53).build();
    team.send(OUT, &question);
    assert_eq!(team.sent().len(), 1, "a request for the address");
    team.conserves();
    let mut reply = vec![];
    reply.extend(MACS[0].0);
    reply.extend(PEER_MAC.0);
    reply.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    reply.extend(PEER_MAC.0);
    reply.extend([198, 51, 100, 77]);
    reply.extend(MACS[0].0);
    reply.extend([198, 51, 100, 1]);
    team.receive(OUT, &reply);
    assert_eq!(team.sent(), [on_wire(OUT, &question)]);
    assert_eq!((team.host(OUT), team.sum(|p| p.counters().originated)), ([0, 0, 1, 0, 0], 2));
    team.conserves();
    let nobody = outward(OUT, ends.own, "198.51.100.78").udp(5000, 53).build();
    team.send(OUT, &nobody);
    (0..6).for_each(|_| team.wait(Duration::from_secs(1)));
    assert_eq!(team.host(OUT), [0, 0, 1, 0, 1], "waited in vain");
    assert!(
        team.sent().iter().all(|(_, frame)| frame[12..14] == [8, 6]),
        "requests only, no error to itself"
    );
    team.conserves();
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut team = Team::new(1);
    team.wires.kernel_is_full = true;
    team.receive(OUT, &inward(OUT, BOTH[0].far, BOTH[0].own).udp(1, 4000).build());
    assert_eq!((team.dropped(DropReason::TxQueueFull), team.host(OUT)), (1, [0, 1, 0, 0, 0]));
    team.pipelines[0].lost_from_kernel(OUT);
    assert_eq!(team.host(OUT), [0, 1, 0, 1, 0]);
    team.conserves();
}

#[test]
fn records_are_bounded_and_services_take_none() {
    let ends = BOTH[0];
    let mut team = Team::new(1);
    for number in 1..=5000_u16 {
        team.receive(OUT, &inward(OUT, ends.far, ends.own).tcp(number, 22).flags(TcpFlags::SYN).build());
    }
    assert_eq!((team.records(), team.kernel().len()), (0, 5000));
    for number in 0..5000_u16 {
        team.send(OUT, &outward(OUT, ends.own, ends.far).udp(10_000 + number, 53).build());
    }
    assert_eq!((team.records(), team.host(OUT)), (4096, [5000, 0, 4096, 0, 904]));
    team.conserves();
}

#[test]
fn errors_about_what_the_kernel_sent_reach_it() {
    for (ends, kind, code) in [(BOTH[0], 3, 4), (BOTH[1], 2, 0)] {
        for workers in [1, 3] {
            for at in 0..workers {
                let mut team = Team::new(workers);
                let asked = outward(OUT, ends.own, ends.far).udp(5000, 53).payload(&[7; 40]);
                let answered = outward(OUT, ends.own, ends.far).tcp(22, 5000).flags(TcpFlags::ACK);
                let never = outward(OUT, ends.own, ends.far).udp(5001, 53).payload(&[7; 40]);
                team.send(OUT, &asked.build());
                let error = |about: &FrameBuilder| {
                    let rest = if kind == 2 { [0, 0, 5, 0] } else { [0, 0, 2, 0x40] };
                    inward(OUT, ends.peer, ends.own).icmp(kind, code, rest).payload(&about.build_ip()).build()
                };
                for (about, reaches) in [(&asked, true), (&answered, true), (&never, false)] {
                    let error = error(about);
                    team.receive_at(at, OUT, &error);
                    let expected: Vec<_> = reaches.then_some((OUT, error)).into_iter().collect();
                    assert_eq!(team.kernel(), expected, "{workers} workers, at {at}");
                }
                assert_eq!(team.dropped(DropReason::InvalidState), 1);
                team.conserves();
            }
        }
    }
}

#[test]
fn every_worker_leads_to_the_record() {
    for ends in BOTH {
        for at in 0..3 {
            let mut team = Team::new(3);
            let question = outward(OUT, ends.own, ends.far).echo_request(9, 1).build();
            let answer = inward(OUT, ends.far, ends.own).echo_reply(9, 1).build();
            team.send(OUT, &question);
            team.receive_at(at, OUT, &answer);
            team.receive_at(at, OUT, &inward(OUT, ends.far, ends.own).echo_reply(8, 1).build());
            assert_eq!(team.kernel(), [(OUT, answer)]);
            assert_eq!(team.dropped(DropReason::DeniedByRule), 1);
            assert!(team.wires.handed_over <= 2);
            team.conserves();
        }
    }
}

#[test]
fn fragments_go_where_their_first_goes_in_any_order_at_any_worker() {
    for (ends, workers) in BOTH.into_iter().flat_map(|ends| [1, 3].map(|workers| (ends, workers))) {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            for (port, asks, gets_in) in [(4000, false, true), (5000, true, true), (5000, false, false)] {
                let mut team = Team::new(workers);
                if asks {
                    team.send(OUT, &outward(OUT, ends.own, ends.far).udp(port, 53).build());
                }
                let datagram = inward(OUT, ends.far, ends.own).id(77).udp(53, port).payload(&[3; 100]);
                let fragments = datagram.build_fragments(40);
                assert_eq!(fragments.len(), 3);
                for place in order {
                    team.receive_at(place % workers, OUT, &fragments[place]);
                }
                let mut got: Vec<_> = team.kernel().into_iter().map(|(_, frame)| frame).collect();
                got.sort();
                let mut all = if gets_in { fragments } else { vec![] };
                all.sort();
                assert_eq!(got, all, "{workers} workers, {order:?}, {port}");
                team.conserves();
            }
        }
    }
}

#[test]
fn fragments_of_the_kernel_leave_too() {
    for ends in BOTH {
        let mut team = Team::new(1);
        let fragments =
            outward(OUT, ends.own, ends.far).id(9).udp(5000, 53).payload(&[1; 100]).build_fragments(40);
        for fragment in &fragments {
            team.send(OUT, fragment);
        }
        let expected: Vec<_> = fragments.iter().map(|fragment| on_wire(OUT, fragment)).collect();
        assert_eq!((team.sent(), team.records()), (expected, 1));
    }
}

#[test]
fn later_fragments_are_guarded_too() {
    let ends = BOTH[0];
    let mut team = Team::new(1);
    let fragments =
        inward(OUT, ends.far, ends.own).id(77).udp(53, 4000).payload(&[3; 100]).build_fragments(40);
    team.receive(OUT, &fragments[0]);
    // The same datagram by another port is another datagram.
    let mut strayed = fragments[1].clone();
    strayed[..6].copy_from_slice(&MACS[2].0);
    team.receive(SHUT, &strayed);
    assert_eq!(team.kernel().len(), 1);
    team.conserves();
}

proptest! {
    /// Whatever the kernel writes: it leaves with a source of that port and unchanged behind the link's header, or not at all.
    #[test]
    fn nothing_leaves_that_is_not_ours(
        is_v6 in any::<bool>(),
        kind in 0..4u8,
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        flips in prop::collection::vec((0..120usize, any::<u8>()), 0..3),
        workers in 1..4usize,
    ) {
        let ends = BOTH[usize::from(is_v6)];
        let builder = outward(OUT, ends.own, ends.far);
        let mut frame = match kind {
            0 => bytes.clone(),
            1 => builder.udp(5000, 53).payload(&bytes).build(),
            2 => builder.tcp(5000, 53).flags(TcpFlags::SYN).payload(&bytes).build(),
            _ => builder.id(3).udp(5000, 53).payload(&bytes).build_fragment(0..8),
        };
        for (at, bits) in flips {
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= bits;
            }
        }
        let mut team = Team::new(workers);
        team.send(OUT, &frame);
        let own: Addr = ends.own.parse::<IpAddr>().unwrap().into();
        for (_, sent) in team.sent() {
            if sent[12..14] == frame[12..14] && sent[12..14] != [8, 6] {
                let station = Mac(*sent.first_chunk().unwrap());
                let parsed = wire::parse(&sent, RxOffload::default(), station);
                let Ok(Parsed::Ip(packet)) = parsed else { panic!("{parsed:?}") };
                if packet.key.src == own && packet.ttl == 255 && station == PEER_MAC {
                    prop_assert_eq!(&sent[ETHERNET_HEADER_LEN..], &frame[ETHERNET_HEADER_LEN..]);
                }
                prop_assert_eq!(packet.key.src, own);
            }
        }
        team.conserves();
        let [to, _, from, _, refused] = team.host(OUT);
        prop_assert_eq!((to, from + refused), (0, 1));
    }
}
