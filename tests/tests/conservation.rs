//! Conservation: over bad links and under random traffic every received frame gets one verdict, every sent frame one account, and every
//! buffer comes back.
#![forbid(unsafe_code)]

use nva_dataplane::verdict::DropReason;
use nva_tests::packet::{
    OnWire, Packet, advertisement, arp_reply, arp_request, echo, echo_reply, error, icmp, other,
    solicitation, tcp, udp,
};
use nva_tests::ports::{Port, changed, network};
use nva_tests::random::Random;
use nva_tests::rig::{Rig, config};
use pmd_shim::faulty::{FaultOptions, Faulty};
use pmd_shim::memory::{MemoryQueue, MemoryRx, MemoryTx};
use pmd_shim::{BURST, Burst, Pool, PoolFrame, RxQueue, TxQueue};
use std::collections::BTreeMap;
use std::time::Duration;

const SEEDS: u64 = 12;
const BURSTS: usize = 600;
/// More than waits, is on the links and is on its way at any time.
const FRAMES: usize = 4096;

/// Everything at once: groups, balancing, lists, hosts that are not known and some that never answer, a small flow table.
fn everything() -> String {
    let rule = |name: &str, priority: u16, direction: &str, access: &str, protocol: &str, ports: &str| {
        format!(
            "      - {{name: {name}, priority: {priority}, direction: {direction}, access: {access}, protocol: {protocol}, source: [\"*\"], \
             source_ports: [\"*\"], destination: [\"*\"], destination_ports: {ports}}}\n"
        )
    };
    let groups = format!(
        "virtual_network:\n  address_space: [10.0.0.0/8, \"fd00::/8\"]\n  subnets:\n    \
         - {{name: web, prefixes: [10.2.0.0/24, \"fd00:2::/64\"], security_group: web-nsg}}\nsecurity_groups:\n  - name: web-nsg\n    rules:\n{}{}{}{}",
        rule("web", 100, "inbound", "allow", "tcp", "[443, 8443]"),
        rule("dns", 110, "inbound", "allow", "udp", "[53, 123]"),
        rule("echo", 120, "inbound", "allow", "icmp", "[\"*\"]"),
        rule("out", 100, "outbound", "deny", "udp", "[54]"),
    );
    let balancing = "load_balancers:\n  - name: public\n    frontends: [{name: vip, address: 203.0.113.10}, {name: vip6, address: \"2001:db8:113::10\"}]\n    \
                     pools:\n      - {name: four, backends: [{name: a, address: 10.2.0.4}, {name: b, address: 10.2.0.9}]}\n      \
                     - {name: six, backends: [{name: c, address: \"fd00:2::4\"}, {name: d, address: \"fd00:2::9\"}]}\n      \
                     - {name: none, backends: [{name: e, address: 10.2.0.5, admin_state: down}]}\n    rules:\n      \
                     - {name: w, frontend: vip, protocol: tcp, port: 443, pool: four, backend_port: 8443, tcp_reset: true, syn_proxy: off}\n      \
                     - {name: w6, frontend: vip6, protocol: tcp, port: 443, pool: six, backend_port: 8443, tcp_reset: true, syn_proxy: off}\n      \
                     - {name: n, frontend: vip, protocol: tcp, port: 80, pool: none, backend_port: 80, syn_proxy: off}\n";
    let text = network(&format!("{groups}{balancing}protection: {{blocklist: [198.51.100.200/29]}}\n"));
    let text = changed(
        &text,
        "  - {to: 0.0.0.0/0, via: 203.0.113.254}\n",
        "  - {to: 198.51.100.0/24, via: 203.0.113.254}\n",
    );
    changed(&text, "device: eth2, mtu: 1500", "device: eth2, mtu: 1280")
}

/// Random traffic of clients and servers that know each other's ports, so that flows come about.
struct Traffic {
    random: Random,
}

impl Traffic {
    fn client(&mut self, v4: bool) -> String {
        let host = *self.random.pick(&[7, 8, 9, 9, 9, 201]);
        let port = 1000 + self.random.below(12);
        if v4 { format!("198.51.100.{host}:{port}") } else { format!("[2001:db8:9::{host}]:{port}") }
    }

    fn server(&mut self, v4: bool) -> String {
        let port = *self.random.pick(&[443, 443, 443, 8443, 53, 53, 54, 123, 80]);
        let host = *self.random.pick(&[4, 4, 5, 9, 77]);
        match (v4, self.random.below(3)) {
            (true, 0) => format!("203.0.113.10:{port}"),
            (false, 0) => format!("[2001:db8:113::10]:{port}"),
            (true, _) => format!("10.2.0.{host}:{port}"),
            (false, _) => format!("[fd00:2::{host:x}]:{port}"),
        }
    }

    /// A frame and the port that it comes in by.
    fn frame(&mut self) -> (Port, Vec<u8>) {
        let port = *self.random.pick(&Port::ALL);
        let v4 = self.random.below(2) == 0;
        let (client, server) = (self.client(v4), self.server(v4));
        let (from, to) = if port == Port::Untrusted { (client, server) } else { (server, client) };
        let packet = match self.random.below(10) {
            0..=3 => self.segment(&from, &to),
            4..=5 => udp(&from, &to).data(&vec![7; self.random.below(200)]),
            6 => self.message(&from, &to),
            7 => return (port, self.discovery(port, v4)),
            8 => self.oddity(&from, &to),
            _ => self.piece(&from, &to),
        };
        let ttl = *self.random.pick(&[64, 64, 64, 64, 1]);
        (port, packet.ttl(ttl).received(port))
    }

    fn segment(&mut self, from: &str, to: &str) -> Packet {
        let (seq, ack) = (1000 + self.random.below(3) as u32, 1000 + self.random.below(3) as u32);
        let packet = tcp(from, to);
        match self.random.below(8) {
            0..=2 => packet.syn(seq),
            3 => packet.ack(seq, ack).syn(seq),
            4..=5 => packet.ack(seq, ack).data(&vec![1; self.random.below(3)]),
            6 => packet.ack(seq, ack).fin(),
            _ => packet.ack(seq, ack).rst(seq),
        }
    }

    fn message(&mut self, from: &str, to: &str) -> Packet {
        let host = |end: &str| {
            end.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']'])).to_string()
        };
        let (from, to) = (host(from), host(to));
        let id = self.random.below(4) as u16;
        match self.random.below(5) {
            0 => echo(&from, &to, id),
            1 => echo_reply(&from, &to, id),
            2 => echo(&from, if from.contains(':') { "2001:db8:113::1" } else { "203.0.113.1" }, id),
            3 => {
                let about = udp(&format_end(&to, 1000), &format_end(&from, 53));
                let (kind, code) = if from.contains(':') { (2, 0) } else { (3, 4) };
                error(&from, &about, kind, code, 1400)
            }
            _ => icmp(&from, &to, 5 + self.random.below(140) as u8, 0, 0).data(&[0; 40]),
        }
    }

    fn discovery(&mut self, port: Port, v4: bool) -> Vec<u8> {
        let ours = port.station();
        let (own4, own6, host4, host6) = match port {
            Port::Untrusted => ("203.0.113.1", "2001:db8:113::1", "203.0.113.254", "2001:db8:113::fe"),
            Port::Trusted => ("10.2.0.1", "fd00:2::1", "10.2.0.9", "fd00:2::9"),
        };
        let mac = port.neighbor(host4.parse().expect("an address"));
        match (v4, self.random.below(3)) {
            (true, 0) => arp_request(mac, host4, own4),
            (true, 1) => arp_request(mac, host4, host4),
            (true, _) => arp_reply(mac, host4, ours, own4),
            (false, 0) => solicitation(mac, host6, own6).received(port),
            (false, _) => advertisement(mac, host6, ours, own6, 0x60).received(port),
        }
    }

    /// What gets its own drop reason.
    fn oddity(&mut self, from: &str, to: &str) -> Packet {
        let packet = udp(from, to);
        match self.random.below(8) {
            0 => packet.edit(|frame| frame.truncate(40)),
            1 => packet.edit(|frame| frame[5] ^= 1),
            2 => packet.edit(|frame| frame[12] = 0x88),
            3 => packet.from(if from.contains('[') { "[fd00:9::1]:7" } else { "10.9.0.1:7" }),
            4 => packet.to(if from.contains('[') { "[2001:db8:55::1]:7" } else { "192.0.2.1:7" }),
            5 => packet.data(&[0; 1400]),
            6 => packet.data(&[0x27; 48]).to(&to.replace(":53", ":123")),
            _ => {
                let host = |end: &str| {
                    end.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']'])).to_string()
                };
                other(&host(from), &host(to), 47)
            }
        }
    }

    fn piece(&mut self, from: &str, to: &str) -> Packet {
        let id = 1 + self.random.below(20) as u32;
        let pieces = udp(from, to).data(&[3; 100]).id(id).fragments(&[40, 32]);
        self.random.pick(&pieces).clone()
    }
}

fn format_end(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A port whose both directions are bad links.
struct BadPort {
    port: Port,
    to_path: MemoryQueue<PoolFrame>,
    from_path: MemoryQueue<PoolFrame>,
    rx: Faulty<MemoryRx<PoolFrame>, Pool>,
    tx: Faulty<MemoryTx<PoolFrame>, Pool>,
}

impl BadPort {
    fn new(port: Port, pool: &Pool, seed: u64) -> Self {
        let (to_path, from_path) = (MemoryQueue::new(4 * BURST), MemoryQueue::new(4 * BURST));
        let options = FaultOptions {
            seed,
            drop_per_mille: 20,
            duplicate_per_mille: 20,
            reorder_per_mille: 50,
            reorder_frames_max: 16,
            reorder_bursts_max: 4,
            corrupt_per_mille: 20,
            refuse_per_mille: 100,
        };
        let sending = FaultOptions { seed: !seed, ..options };
        Self {
            port,
            rx: Faulty::new(MemoryRx::new(to_path.clone()), pool.clone(), options),
            tx: Faulty::new(MemoryTx::new(from_path.clone()), pool.clone(), sending),
            to_path,
            from_path,
        }
    }

    /// Sends what the path sent by this port; returns what the queue took and what it refused.
    fn send(&mut self, rig: &mut Rig, sent: Vec<PoolFrame>) -> [u64; 2] {
        let mut account = [0, 0];
        let mut burst = Burst::new();
        for frame in sent {
            burst.push(frame);
            if burst.is_full() {
                self.flush(rig, &mut burst, &mut account);
            }
        }
        self.flush(rig, &mut burst, &mut account);
        // Somebody on the other end takes it.
        self.from_path.take_all();
        account
    }

    fn flush(&mut self, rig: &mut Rig, burst: &mut Burst<PoolFrame>, [taken, refused]: &mut [u64; 2]) {
        *taken += self.tx.send(burst) as u64;
        *refused += burst.len() as u64;
        burst.drain(..).for_each(|frame| rig.refused(self.port, frame));
    }
}

/// What the queues said, by port.
#[derive(Default)]
struct Accounts {
    received: [u64; 2],
    taken: [u64; 2],
    refused: u64,
}

fn run(seed: u64) -> BTreeMap<String, u64> {
    let mut rig = Rig::new(&config(&everything()), 64, FRAMES, [seed as u8; 16]);
    let pool = rig.pool().clone();
    let mut ports = Port::ALL.map(|port| BadPort::new(port, &pool, 2 * seed + port as u64));
    let mut traffic = Traffic { random: Random::new(seed) };
    let mut accounts = Accounts::default();
    for round in 0..BURSTS {
        for _ in 0..traffic.random.below(BURST) {
            let (port, bytes) = traffic.frame();
            let frame = pool.copy_from(&bytes).expect("enough frames for all that is on its way");
            // What a full link does not take is its own loss, not the path's.
            drop(ports[port as usize].to_path.push(frame));
        }
        let pause = *traffic.random.pick(&[0, 0, 1, 50, 400]);
        rig.run_timers(Duration::from_millis(if round % 100 == 99 { 15_000 } else { pause }));
        exchange(&mut rig, &mut ports, &mut accounts);
    }
    // The links let go of what they hold back.
    while ports.iter().any(|bad| bad.rx.held() + bad.tx.held() > 0) {
        exchange(&mut rig, &mut ports, &mut accounts);
    }
    balance(&rig, &accounts);
    drop(ports);
    rig.settle();
    rig.hits().0.clone()
}

/// A burst from each port into the path, and what comes out of it to the ports.
fn exchange(rig: &mut Rig, ports: &mut [BadPort; 2], accounts: &mut Accounts) {
    let mut burst = Burst::new();
    for (place, bad) in ports.iter_mut().enumerate() {
        accounts.received[place] += bad.rx.receive(&mut burst) as u64;
        rig.receive(bad.port, &mut burst);
    }
    let mut by_port = [Vec::new(), Vec::new()];
    for (port, frame) in rig.take_sent() {
        by_port[port as usize].push(frame);
    }
    for (place, (bad, sent)) in ports.iter_mut().zip(by_port).enumerate() {
        let [taken, refused] = bad.send(rig, sent);
        accounts.taken[place] += taken;
        accounts.refused += refused;
    }
}

/// What the path counted against what the queues counted.
fn balance(rig: &Rig, accounts: &Accounts) {
    let mut answered = 0;
    for port in Port::ALL {
        let counters = rig.counters(port);
        assert_eq!(counters.received, accounts.received[port as usize], "{}", port.name());
        assert_eq!(
            counters.transmitted,
            accounts.taken[port as usize],
            "{}: taken by the queue",
            port.name()
        );
        answered += counters.forwarded + counters.replied;
    }
    let taken: u64 = accounts.taken.iter().sum();
    assert_eq!(rig.sent_count(), taken + accounts.refused, "what was sent was taken or refused");
    // No packet here is cut into fragments, so each sent frame is one received and passed on, or the appliance's own.
    let full = rig.dropped_for(DropReason::TxQueueFull);
    assert_eq!(rig.sent_count(), answered + full + rig.originated(), "nothing is sent twice or from nowhere");
    assert!(
        full > 0 && full <= accounts.refused,
        "{full} of {} refused ones were received",
        accounts.refused
    );
}

#[test]
fn every_frame_is_accounted_for() {
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        for (name, count) in run(seed) {
            *hits.entry(name).or_insert(0) += count;
        }
    }
    // The generator must reach them all, or it tests nothing.
    for name in [
        "forward",
        "reply",
        "reply ttl_exceeded",
        "reply too_big",
        "reply no_route",
        "reply unresolved_neighbor",
        "consume",
        "hold",
        "drop malformed",
        "drop bad_checksum",
        "drop not_for_us",
        "drop unresolved_neighbor",
        "drop fragment",
        "drop unsupported",
        "drop denied_by_rule",
        "drop blocklisted",
        "drop spoofed",
        "drop amplification",
        "drop invalid_state",
        "drop no_healthy_backend",
        "drop flow_table_full",
    ] {
        assert!(hits.get(name).is_some_and(|count| *count >= 10), "{name} in {hits:#?}");
    }
}
