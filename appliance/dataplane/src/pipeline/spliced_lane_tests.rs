//! The fast lane of spliced flows held against the stages: the same traffic, once with it and once without, ends the same in every respect.

use super::fast_tests::{Random, Twins, compile, of_each, pad, some_frames};
use crate::addr::Mac;
use crate::names::Names;
use crate::snapshot::Snapshot;
use crate::synproxy::SynOptions;
use crate::verdict::PortId;
use crate::wire::testing::FrameBuilder;
use crate::wire::{self, Packet, Parsed, TCP_HEADER_LEN, Tcp, TcpFlags, Transport};
use core::time::Duration;
use pmd_shim::RxOffload;
use std::net::IpAddr;
use std::sync::Arc;

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
const SYN_ACK: u8 = TcpFlags::SYN | TcpFlags::ACK;

/// A frontend and a routed host of each family: behind both, who asks has to prove itself.
const TARGETS: [[&str; 2]; 2] = [["192.0.2.1", "10.2.0.4"], ["2001:db8:f::1", "fd00:2::4"]];
const CLIENTS: [[&str; 2]; 2] = [["198.51.100.7", "198.51.100.8"], ["2001:db8:c::7", "2001:db8:c::8"]];

/// One configuration of several: what is open, how long flows live, what the inner link carries.
fn snapshot(variant: u64, generation: u32, names: &mut Names) -> Arc<Snapshot> {
    let pick =
        |bit: u32, set: &'static str, clear: &'static str| if variant >> bit & 1 == 0 { clear } else { set };
    let (closed, flush) = (pick(0, "445", "446"), pick(0, "true", "false"));
    let timeout = pick(1, "{tcp: 30s}", "{}");
    let text = format!(
        r#"
version: 1
ports:
- {{name: outside, driver: af_packet, device: e0, trust: untrusted, addresses: [203.0.113.1/24, "2001:db8:1::1/64"]}}
- {{name: inside, driver: af_packet, device: e1, trust: trusted, addresses: [10.2.0.1/24, "fd00:2::1/64"]}}
dataplane: {{flow_idle_timeout: {timeout}}}
routes: [{{to: 0.0.0.0/0, via: 203.0.113.254}}, {{to: "::/0", via: "2001:db8:1::fe"}}]
neighbors:
- {{address: 203.0.113.254, mac: "02:00:00:00:71:fe"}}
- {{address: "2001:db8:1::fe", mac: "02:00:00:00:71:fd"}}
- {{address: "10.2.0.4", mac: "02:00:00:00:02:04"}}
- {{address: "fd00:2::4", mac: "02:00:00:00:06:04"}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
  - {{name: all, prefixes: [10.0.0.0/8, "fd00::/8"], security_group: open, syn_proxy: always}}
security_groups:
- name: open
  flush_connections: {flush}
  rules:
  - {{name: no, priority: 100, direction: inbound, access: deny, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [{closed}]}}
  - {{name: in, priority: 110, direction: inbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}}
load_balancers:
- name: lb
  frontends: [{{name: f4, address: 192.0.2.1}}, {{name: f6, address: "2001:db8:f::1"}}]
  pools: [{{name: p4, backends: [{{name: b4, address: 10.2.0.4}}]}}, {{name: p6, backends: [{{name: b6, address: "fd00:2::4"}}]}}]
  rules:
  - {{name: r4, frontend: f4, protocol: tcp, port: 443, pool: p4, backend_port: 8443, syn_proxy: always}}
  - {{name: s4, frontend: f4, protocol: tcp, port: 445, pool: p4, backend_port: 445, syn_proxy: always}}
  - {{name: r6, frontend: f6, protocol: tcp, port: 443, pool: p6, backend_port: 8443, syn_proxy: always}}
  - {{name: s6, frontend: f6, protocol: tcp, port: 445, pool: p6, backend_port: 445, syn_proxy: always}}
"#
    );
    let inner_mtu = if variant & 4 == 0 { 1500 } else { 1300 };
    compile(text, inner_mtu, false, (generation, names))
}

/// A segment that left.
struct Heard {
    packet: Packet,
    tcp: Tcp,
    options: SynOptions,
}

fn read(frame: &[u8]) -> Option<Heard> {
    let Ok(Parsed::Ip(packet)) = wire::parse(frame, RxOffload::default(), Mac(*frame.first_chunk()?)) else {
        return None;
    };
    let Transport::Tcp(tcp) = packet.transport else { return None };
    let options = SynOptions::read(&frame[packet.l4 as usize + TCP_HEADER_LEN..packet.payload as usize]);
    Some(Heard { packet, tcp, options })
}

/// The first of these flags that left.
fn find(sent: &[(PortId, u32, Vec<u8>)], flags: u8) -> Option<Heard> {
    sent.iter().filter_map(|(_, _, frame)| read(frame)).find(|heard| heard.tcp.flags.0 & 0x3f == flags)
}

fn options_of_syn(random: &mut Random, mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    let stamp = (random.next() as u32).to_be_bytes();
    let shift = random.pick(&[0, 2, 7, 9]);
    match random.below(8) {
        0 => vec![2, 4, high, low],
        1 => vec![2, 4, high, low, 1, 3, 3, shift],
        2 => [&[2, 4, high, low, 1, 3, 3, shift, 1, 1, 8, 10], &stamp[..], &[0; 4]].concat(),
        3 => vec![2, 4, high, low, 1, 3, 3, shift, 1, 1, 4, 2],
        _ => [&[2, 4, high, low, 4, 2, 8, 10], &stamp[..], &[0, 0, 0, 0, 1, 3, 3, shift]].concat(),
    }
}

/// A connection through the proxy, as both ends know it.
struct Talk {
    client: (IpAddr, u16),
    target: (IpAddr, u16),
    server: (IpAddr, u16),
    /// Next sequence number of client and server, each in its own count.
    seq: [u32; 2],
    /// What the client adds to the server's.
    delta: u32,
}

impl Talk {
    /// Takes a connection through its handshakes. `None`: it did not come to be.
    fn open(twins: &mut Twins, random: &mut Random) -> Option<Self> {
        let family = random.below(2);
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let client = (address(random.pick(&CLIENTS[family])), 1_000 + random.below(200) as u16);
        let target = (address(random.pick(&TARGETS[family])), random.pick(&[443, 445]));
        let isn = random.next() as u32;
        let mss = random.pick(&[1460, 1440, 1400, 536]);
        let options = options_of_syn(random, mss);
        let from_client =
            || FrameBuilder::between(client.0, target.0).tcp(client.1, target.1).dont_fragment();
        let one = |frame: Vec<u8>| [(frame, RxOffload::default())];

        let syn = from_client().flags(TcpFlags::SYN).seq(isn, 0).window(64_000).tcp_options(&options);
        let asked = find(&twins.process(OUTSIDE, &one(syn.build())), SYN_ACK)?;
        let stamps = asked.options.timestamps.map_or(Vec::new(), |(ours, theirs)| {
            [&[1, 1, 8, 10], &theirs.to_be_bytes()[..], &ours.to_be_bytes()].concat()
        });
        let shown =
            from_client().flags(TcpFlags::ACK).seq(isn.wrapping_add(1), asked.tcp.seq.wrapping_add(1));
        let shown = shown.window(500).tcp_options(&stamps).build();
        let opening = find(&twins.process(OUTSIDE, &one(shown)), TcpFlags::SYN)?;
        let key = opening.packet.key;
        let server = (IpAddr::from(key.dst), key.dst_port);
        let server_isn = random.next() as u32;
        // What the backend agrees to: often the same kinds as it was offered.
        let mss = random.pick(&[1460, 1440, 536]);
        let mut agreed = options_of_syn(random, mss);
        if !random.once_in(4) {
            let offered = &opening.options;
            agreed = vec![2, 4, (mss >> 8) as u8, mss as u8];
            if offered.window_scale.is_some() {
                agreed.extend([1, 3, 3, random.pick(&[0, 7, 11])]);
            }
            if offered.sack_permitted {
                agreed.extend([1, 1, 4, 2]);
            }
            if let Some((value, _)) = offered.timestamps {
                agreed.extend([1, 1, 8, 10]);
                agreed.extend((random.next() as u32).to_be_bytes());
                agreed.extend(value.to_be_bytes());
            }
        }
        let answer = FrameBuilder::between(server.0, client.0).tcp(server.1, client.1).flags(SYN_ACK);
        let answer = answer.seq(server_isn, isn.wrapping_add(1)).window(64_000).tcp_options(&agreed).build();
        find(&twins.process(INSIDE, &one(answer)), TcpFlags::ACK)?;
        let seq = [isn.wrapping_add(1), server_isn.wrapping_add(1)];
        Some(Self { client, target, server, seq, delta: asked.tcp.seq.wrapping_sub(server_isn) })
    }

    /// The next frame, by client or server, usually one that fits.
    fn frame(&mut self, random: &mut Random) -> (PortId, Vec<u8>) {
        let by_server = random.once_in(2);
        let (port, src, dst) =
            if by_server { (INSIDE, self.server, self.client) } else { (OUTSIDE, self.client, self.target) };
        let len = random.pick(&[0, 0, 0, 1, 7, 63, 64, 65, 500, 512, 590, 1_300, 1_400]);
        let payload: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let (own, others) = if by_server { (1, 0) } else { (0, 1) };
        let flags = match random.below(60) {
            0 => TcpFlags::FIN | TcpFlags::ACK,
            1 => TcpFlags::RST | TcpFlags::ACK,
            2 => TcpFlags::SYN,
            3 => TcpFlags::ACK | TcpFlags::PSH | TcpFlags::URG | 0xc0,
            4 => TcpFlags::PSH,
            _ => TcpFlags::ACK,
        };
        let off = match random.below(12) {
            0 => random.pick(&[1, u32::MAX, 70_000, 0x8000_0000, 200_000u32.wrapping_neg()]),
            _ => 0,
        };
        let ack = self.seq[others].wrapping_sub(random.below(3) as u32 * 100);
        let ack = if by_server { ack } else { ack.wrapping_add(self.delta) };
        let builder = FrameBuilder::between(src.0, dst.0)
            .tcp(src.1, dst.1)
            .flags(flags)
            .seq(self.seq[own].wrapping_add(off), ack)
            .window(random.pick(&[0, 1, 500, 64_000, 65_535]))
            .tcp_options(&options(random, ack))
            .payload(&payload)
            .ttl(if random.once_in(20) { 1 } else { 64 });
        let builder = if random.once_in(2) { builder.dont_fragment() } else { builder };
        let ends = u32::from(flags & (TcpFlags::SYN | TcpFlags::FIN) != 0);
        if off == 0 && !random.once_in(5) {
            self.seq[own] = self.seq[own].wrapping_add(payload.len() as u32 + ends);
        }
        let frame = match random.below(60) {
            0 if payload.len() > 16 => builder.build_fragments(16)[0].clone(),
            _ => builder.padding(random.pick(&[0, 0, 6, 18])).build(),
        };
        (port, pad(frame, random))
    }
}

/// The options of a segment in the midst of a connection that acknowledges this.
fn options(random: &mut Random, ack: u32) -> Vec<u8> {
    let stamps = [&[1, 1, 8, 10], &random.next().to_le_bytes()[..]].concat();
    let mut blocks = Vec::new();
    let count = 1 + random.below(3);
    for block in 0..count as u32 {
        blocks.extend(ack.wrapping_add(2_000 * block + 1_000).to_be_bytes());
        blocks.extend(ack.wrapping_add(2_000 * block + 2_000).to_be_bytes());
    }
    let sack = [&[1, 1, 5, 2 + blocks.len() as u8], &blocks[..]].concat();
    match random.below(16) {
        0..4 => Vec::new(),
        4..8 => stamps,
        8..10 => sack,
        10..12 => [stamps, sack].concat(),
        12 => vec![1, 1, 1, 1],
        // Padded at the other end.
        13 => [&sack[2..], &[1, 1]].concat(),
        14 => [&stamps[2..], &[0, 0]].concat(),
        _ => [&sack[..], &[1, 1, 254, 2]].concat(),
    }
}

/// Runs random traffic; how often the fast lane was taken, by family.
fn run(seed: u64) -> [u64; 2] {
    let mut random = Random(seed);
    let variant = random.next() & 2;
    let mut twins = Twins::new(snapshot, variant, &mut random);
    let mut talks: Vec<Talk> = Vec::new();
    for _ in 0..150 {
        match random.below(40) {
            0 => twins.reload(random.next() % 8),
            1 => drop(twins.pass_time(Duration::from_secs(random.pick(&[1, 4, 6, 31])))),
            2 if !talks.is_empty() => drop(talks.remove(random.below(talks.len()))),
            3..10 => talks.extend(Talk::open(&mut twins, &mut random)),
            _ if talks.is_empty() => talks.extend(Talk::open(&mut twins, &mut random)),
            _ => burst(&mut twins, &mut talks, &mut random),
        }
        twins.pass_time(Duration::from_micros(random.next() % 20_000));
    }
    assert_eq!(twins.pipelines[1].spliced_rides, [0; 2]);
    twins.pipelines[0].spliced_rides
}

/// Some frames that come in through both ports.
fn burst(twins: &mut Twins, talks: &mut [Talk], random: &mut Random) {
    twins.receive(&some_frames(random, talks.len(), |talk, random| talks[talk].frame(random)));
}

#[test]
fn with_and_without_the_fast_lane_spliced_flows_are_the_same() {
    let mut rides = [0; 2];
    for more in of_each(0..80, run) {
        rides.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    assert!(rides.iter().all(|rides| *rides > 2_000), "over IPv4 and IPv6: {rides:?}");
}
