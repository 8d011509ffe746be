//! The lane of SYNs held against the stages: the same traffic, once with lanes and once without, ends the same in every respect.

use super::fast_tests::{Random, Twins, compile, damage, of_each, offload, pad};
use crate::addr::Mac;
use crate::names::Names;
use crate::snapshot::Snapshot;
use crate::synproxy::SynOptions;
use crate::verdict::PortId;
use crate::wire::testing::FrameBuilder;
use crate::wire::{self, Packet, Parsed, TCP_HEADER_LEN, Tcp, TcpFlags, Transport};
use core::fmt::Write;
use core::time::Duration;
use pmd_shim::RxOffload;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
/// Frontends that ask always, when flooded, never and not at all; one that nothing listens behind, and a host.
const TARGETS: [[&str; 5]; 2] = [
    ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "10.2.0.9"],
    ["2001:db8:f::1", "2001:db8:f::2", "2001:db8:f::3", "2001:db8:f::4", "fd00:2::9"],
];
/// What all lists, routes and rules have something to say about.
const SOURCES: [&[&str]; 2] = [
    &[
        "198.51.100.7",
        "198.51.100.8",
        "198.51.100.200",
        "198.18.0.1",
        "198.18.7.1",
        "203.0.113.1",
        "203.0.113.255",
        "203.0.113.77",
        "192.0.2.1",
        "192.0.2.2",
        "10.2.0.77",
        "10.9.0.1",
        "127.0.0.1",
        "0.1.2.3",
        "224.0.0.5",
        "240.0.0.1",
        "169.254.3.4",
        "168.63.129.16",
        "100.64.0.1",
        "172.16.5.5",
        "172.16.6.6",
    ],
    &[
        "2001:db8:c::7",
        "2001:db8:c::8",
        "2001:db8:c:1::8",
        "2001:db8:bad::1",
        "2001:db8:bad:7::1",
        "2001:db8:1::1",
        "2001:db8:f::1",
        "fd00:2::77",
        "fd09::1",
        "fe80::5",
        "ff02::1",
        "2001:db8:d::5",
        "3000::1",
        "3000:0:1::1",
    ],
];

/// One configuration of several: which limits there are, who is let in, who is up, how sources are checked.
fn snapshot(variant: u64, generation: u32, names: &mut Names) -> Arc<Snapshot> {
    let pick =
        |bit: u32, set: &'static str, clear: &'static str| if variant >> bit & 1 == 0 { clear } else { set };
    let spoofing = ["strict", "loose", "off", "strict"][variant as usize >> 6 & 3];
    let mut text = format!(
        r#"
version: 1
ports:
- {{name: outside, driver: af_packet, device: e0, trust: untrusted, addresses: [203.0.113.1/24, "2001:db8:1::1/64"]}}
- {{name: inside, driver: af_packet, device: e1, trust: trusted, addresses: [10.2.0.1/24, "fd00:2::1/64"]}}
routes: [{{to: {default}, via: 203.0.113.254}}, {{to: "{default_v6}", via: "2001:db8:1::fe"}}, {{to: 172.16.5.0/24, via: 10.2.0.99}}]
neighbors:
- {{address: 203.0.113.254, mac: "02:00:00:00:71:fe"}}
- {{address: "2001:db8:1::fe", mac: "02:00:00:00:71:fd"}}
- {{address: "10.2.0.4", mac: "02:00:00:00:02:04"}}
- {{address: "10.2.0.5", mac: "02:00:00:00:02:05"}}
- {{address: "fd00:2::4", mac: "02:00:00:00:06:04"}}
- {{address: "fd00:2::5", mac: "02:00:00:00:06:05"}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
  - {{name: all, prefixes: [10.0.0.0/8, "fd00::/8"]{group}}}
  - {{name: far, prefixes: [172.16.6.0/24], security_group: far}}
protection:
  anti_spoofing: {spoofing}
  blocklist: [198.18.0.0/15, "2001:db8:bad::/48"]
  allowlist: [198.18.7.0/24, "2001:db8:bad:7::/64", 198.51.100.200/32]
{flood}
security_groups:
- name: far
  rules:
  - {{name: none, priority: 100, direction: outbound, access: deny, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}}
- name: open
  rules:
  - {{name: not-them, priority: 100, direction: inbound, access: deny, protocol: tcp, source: [198.51.100.8/32, "2001:db8:d::/48", 100.64.0.0/10], source_ports: [{ports}], destination: ["*"], destination_ports: ["*"]}}
  - {{name: not-there, priority: 105, direction: inbound, access: deny, protocol: any, source: ["*"], source_ports: ["*"], destination: [10.2.0.5/32, "fd00:2::5/128"], destination_ports: [8444]}}
  - {{name: in, priority: 110, direction: inbound, access: allow, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}}
load_balancers:
- name: lb
  frontends:
"#,
        default = pick(0, "198.0.0.0/8", "0.0.0.0/0"),
        default_v6 = pick(0, "2001:db8::/32", "::/0"),
        group = pick(1, "", ", security_group: open"),
        flood = [
            "",
            "  syn_flood: {proxy_threshold: 40}",
            "  syn_flood: {per_source_rate: 30, proxy_threshold: 20}",
            "  syn_flood: {per_source_rate: 100, global_rate: 150, proxy_threshold: 60}",
        ][variant as usize >> 2 & 3],
        ports = pick(4, "1000-1003", "\"*\""),
    );
    // Writing to a string cannot fail.
    for (family, targets) in TARGETS.iter().enumerate() {
        for (which, address) in targets[..4].iter().enumerate() {
            let _ = writeln!(text, "  - {{name: f{family}{which}, address: \"{address}\"}}");
        }
    }
    text += "  pools:\n";
    for (family, [a, b]) in [["10.2.0.4", "10.2.0.5"], ["fd00:2::4", "fd00:2::5"]].iter().enumerate() {
        let _ = writeln!(
            text,
            "  - {{name: p{family}, backends: [{{name: a{family}, address: \"{a}\"}}, {{name: b{family}, address: \"{b}\"}}]}}"
        );
        let _ = writeln!(
            text,
            "  - {{name: q{family}, backends: [{{name: c{family}, address: \"{a}\", admin_state: down}}]}}"
        );
    }
    text += "  rules:\n";
    for family in 0..2 {
        for (which, mode) in ["always", "auto", "off"].iter().enumerate() {
            for (port, pool, to) in [(443, 'p', 8_443), (444, 'p', 8_444), (445, 'q', 8_445)] {
                let _ = writeln!(
                    text,
                    "  - {{name: r{family}{which}{port}, frontend: f{family}{which}, protocol: tcp, port: {port}, pool: {pool}{family}, backend_port: {to}, syn_proxy: {mode}, distribution: {}}}",
                    if port == 443 { "five_tuple" } else { "source_ip" }
                );
            }
        }
    }
    compile(text, 1400, variant >> 5 & 1 != 0, (generation, names))
}

/// What the appliance asked, and of whom.
#[derive(Clone)]
struct Question {
    packet: Packet,
    tcp: Tcp,
    options: SynOptions,
}

fn read(frame: &[u8]) -> Option<Question> {
    let station = Mac(*frame.first_chunk()?);
    let Ok(Parsed::Ip(packet)) = wire::parse(frame, RxOffload::default(), station) else { return None };
    let Transport::Tcp(tcp) = packet.transport else { return None };
    let options = SynOptions::read(&frame[packet.l4 as usize + TCP_HEADER_LEN..packet.payload as usize]);
    Some(Question { packet, tcp, options })
}

struct Traffic {
    random: Random,
    /// Everything is well-formed: what is not, and is for another worker, that one refuses instead of this one.
    is_tame: bool,
    /// SYN-ACKs of the appliance.
    asked: Vec<Question>,
    /// Its SYNs to backends.
    opening: Vec<Question>,
}

impl Traffic {
    fn source(&mut self, family: usize) -> IpAddr {
        let random = &mut self.random;
        match random.below(8) {
            0..4 => random.pick(&SOURCES[family][..3]).parse().expect("an address"),
            4 => random.pick(SOURCES[family]).parse().expect("an address"),
            _ if family == 0 => IpAddr::V4(Ipv4Addr::from(random.next() as u32)),
            _ => {
                let bits = u128::from(random.next()) << 64 | u128::from(random.next());
                IpAddr::V6(Ipv6Addr::from(bits >> 4 | 2 << 124))
            }
        }
    }

    fn target(&mut self, family: usize) -> (IpAddr, u16) {
        let which = self.random.pick(&[0, 0, 0, 1, 1, 2, 3, 4]);
        let port = self.random.pick(&[443, 443, 443, 443, 444, 445, 99]);
        (TARGETS[family][which].parse().expect("an address"), port)
    }

    fn options(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let mss = random
            .pick(&[0u16, 500, 536, 1219, 1220, 1360, 1380, 1440, 1460, 8960, 9000, 65_535])
            .to_be_bytes();
        let shift = random.pick(&[0, 7, 14, 15, 255]);
        let stamp = (random.next() as u32).to_be_bytes();
        let linux = || {
            let mut options = vec![2, 4, mss[0], mss[1], 4, 2, 8, 10];
            options.extend(stamp);
            options.extend([0, 0, 0, 0, 1, 3, 3, shift]);
            options
        };
        match random.below(if self.is_tame { 11 } else { 16 }) {
            0..7 => linux(),
            7 => vec![2, 4, mss[0], mss[1]],
            8 => vec![2, 4, mss[0], mss[1], 1, 3, 3, shift, 1, 1, 4, 2],
            9 if random.once_in(3) => Vec::new(),
            9 => [&[1, 1, 8, 10], &stamp[..], &[0; 4]].concat(),
            // Signed.
            10 => [&[19, 18][..], &[0; 16], &[1, 1]].concat(),
            11 => vec![2, 4, mss[0], mss[1], 3, 9],
            12 => {
                // One byte is another.
                let mut options = linux();
                let at = random.below(options.len());
                options[at] = random.next() as u8;
                options
            }
            13 => (0..4 * random.below(11)).map(|_| random.next() as u8 % 12).collect(),
            14 => vec![2, 4, mss[0]],
            _ => Vec::new(),
        }
    }

    fn syn(&mut self, family: usize, source: IpAddr, target: (IpAddr, u16)) -> Vec<u8> {
        let options = self.options();
        let random = &mut self.random;
        let mut flags = TcpFlags::SYN | random.pick(&[0, 0, 0xc0, 0xc0, 0x40, TcpFlags::PSH]);
        if !self.is_tame && random.once_in(30) {
            flags |= random.pick(&[TcpFlags::FIN, TcpFlags::RST]);
        }
        let src_port = if !self.is_tame && random.once_in(40) { 0 } else { 1_000 + random.below(6) as u16 };
        let payload = vec![7; if random.once_in(10) { random.below(30) } else { 0 }];
        let mut frame = FrameBuilder::between(source, target.0)
            .tcp(src_port, target.1)
            .flags(flags)
            .seq(random.next() as u32, random.next() as u32)
            .tcp_options(&options)
            .payload(&payload)
            .ttl(random.pick(&[1, 64]))
            .build();
        if !self.is_tame && random.once_in(40) {
            // A header that is said to be shorter, or longer.
            let at = if family == 0 { 46 } else { 66 };
            frame[at] = (random.next() as u8) << 4;
        }
        frame
    }

    /// A segment that may show a cookie.
    fn shown(&mut self, family: usize) -> Vec<u8> {
        let flags = TcpFlags::ACK
            | self.random.pick(&[0, 0, TcpFlags::PSH, TcpFlags::FIN, TcpFlags::URG, TcpFlags::RST]);
        let random = &mut self.random;
        let payload = vec![7; if random.once_in(3) { random.below(30) } else { 0 }];
        if self.asked.is_empty() || random.once_in(2) {
            let source = self.source(family);
            let target = self.target(family);
            let random = &mut self.random;
            let builder =
                FrameBuilder::between(source, target.0).tcp(1_000 + random.below(6) as u16, target.1);
            let options: &[u8] = match random.below(if self.is_tame { 5 } else { 6 }) {
                0..3 => &[],
                3 => &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
                4 => &[1, 1, 1, 1],
                _ => &[4, 9, 0, 0],
            };
            let numbers = (random.next() as u32, random.next() as u32);
            return builder
                .flags(flags)
                .seq(numbers.0, numbers.1)
                .tcp_options(options)
                .payload(&payload)
                .build();
        }
        let question = self.asked[random.below(self.asked.len())].clone();
        let (key, tcp) = (question.packet.key, question.tcp);
        // Sometimes a bit is wrong, or the number is that of a probe.
        let wrong = if random.once_in(4) { 1 << random.below(32) } else { 0 };
        let seq = tcp.ack.wrapping_sub(u32::from(random.once_in(5)));
        let (seq, ack) = if random.once_in(8) { (seq ^ wrong, tcp.seq) } else { (seq, tcp.seq ^ wrong) };
        let mut options = Vec::new();
        if let Some((ours, theirs)) = question.options.timestamps {
            let wrong = if random.once_in(8) { 1 << random.below(32) } else { 0 };
            options = [&[1, 1, 8, 10], &theirs.to_be_bytes()[..], &(ours ^ wrong).to_be_bytes()].concat();
        }
        FrameBuilder::between(key.dst.into(), key.src.into())
            .tcp(key.dst_port, key.src_port)
            .flags(flags)
            .seq(seq, ack.wrapping_add(1))
            .window(500)
            .tcp_options(&options)
            .payload(&payload)
            .build()
    }

    /// A backend's answer to a SYN, or a refusal.
    fn answered(&mut self) -> Option<Vec<u8>> {
        let question = self.opening.pop()?;
        let (key, tcp) = (question.packet.key, question.tcp);
        let options = self.options();
        let flags = self.random.pick(&[
            TcpFlags::SYN | TcpFlags::ACK,
            TcpFlags::SYN | TcpFlags::ACK | 0x40,
            TcpFlags::RST | TcpFlags::ACK,
        ]);
        let builder = FrameBuilder::between(key.dst.into(), key.src.into()).tcp(key.dst_port, key.src_port);
        let isn = self.random.next() as u32;
        Some(builder.flags(flags).seq(isn, tcp.seq.wrapping_add(1)).window(900).tcp_options(&options).build())
    }

    fn frame(&mut self) -> Vec<u8> {
        let family = self.random.below(2);
        if self.random.once_in(3) {
            return self.shown(family);
        }
        let (source, target) = (self.source(family), self.target(family));
        self.syn(family, source, target)
    }

    /// Lets both see some frames, and hears what they send.
    fn send(&mut self, twins: &mut Twins, port: PortId, frames: Vec<Vec<u8>>) {
        let mut random = Random(self.random.next());
        let frames: Vec<(Vec<u8>, RxOffload)> = frames
            .into_iter()
            .map(|frame| {
                let mut frame = pad(frame, &mut random);
                if !self.is_tame {
                    damage(&mut frame, &mut random);
                }
                (frame, offload(&mut random))
            })
            .collect();
        for frames in frames.chunks(pmd_shim::BURST) {
            let sent = twins.process(port, frames);
            self.hear(sent);
        }
    }

    fn hear(&mut self, sent: Vec<(PortId, u32, Vec<u8>)>) {
        for question in sent.iter().filter_map(|(_, _, frame)| read(frame)) {
            match question.tcp.flags.0 & (TcpFlags::SYN | TcpFlags::ACK) {
                TcpFlags::SYN => self.opening.push(question),
                0x12 => self.asked.push(question),
                _ => {}
            }
        }
        let old = self.asked.len().saturating_sub(40);
        self.asked.drain(..old);
    }

    fn step(&mut self, twins: &mut Twins) {
        match self.random.below(30) {
            0 => twins.reload(self.random.next() % 256),
            1 => {
                let seconds = self.random.pick(&[1, 4, 9, 31, 70, 200]);
                let sent = twins.pass_time(Duration::from_secs(seconds));
                self.hear(sent);
            }
            2..5 => {
                // A flood, of one source or of many.
                let family = self.random.below(2);
                let (source, target) = (self.source(family), self.target(family));
                let is_one = self.random.once_in(2);
                for _ in 0..self.random.pick(&[1, 2, 12]) {
                    let frames = (0..60).map(|_| {
                        let source = if is_one { source } else { self.source(family) };
                        self.syn(family, source, target)
                    });
                    let frames = frames.collect();
                    self.send(twins, OUTSIDE, frames);
                }
            }
            5..9 => {
                let frames = core::iter::from_fn(|| self.answered()).take(3).collect();
                self.send(twins, INSIDE, frames);
            }
            _ => {
                let count = self.random.pick(&[1, 3, 9, 20, 64]);
                let port = if self.random.once_in(12) { INSIDE } else { OUTSIDE };
                let mut frames: Vec<Vec<u8>> = (0..count).map(|_| self.frame()).collect();
                if self.random.once_in(2) {
                    // One twice, so that the second may find what the first left.
                    let again = frames[self.random.below(frames.len())].clone();
                    frames.push(again);
                }
                self.send(twins, port, frames);
            }
        }
        let sent = twins.pass_time(Duration::from_micros(self.random.next() % 20_000));
        self.hear(sent);
    }
}

/// Runs random traffic; how often what ended how in the lane.
fn run(seed: u64) -> BTreeMap<String, u64> {
    let mut random = Random(seed);
    let variant = random.next() % 256;
    let mut twins = Twins::new(snapshot, variant, &mut random);
    if !seed.is_multiple_of(2) {
        let now = twins.now;
        twins.pipelines = twins.pipelines.map(|pipeline| pipeline.with_orphans(now));
    }
    let is_tame = !twins.pipelines[0].placement.is_alone();
    let mut traffic = Traffic { random, is_tame, asked: Vec::new(), opening: Vec::new() };
    for _ in 0..100 {
        traffic.step(&mut twins);
    }
    let [fast, slow] = &twins.pipelines;
    assert!(slow.syns.ended.is_empty());
    let (fast_proxy, slow_proxy) = (&fast.proxy, &slow.proxy);
    assert!(fast_proxy.floods == slow_proxy.floods, "what floods counted differs");
    assert!(fast_proxy.reflection == slow_proxy.reflection, "what answers counted differs");
    assert!(fast_proxy.spent == slow_proxy.spent, "cookies that were redeemed differ");
    fast.syns.ended.clone()
}

#[test]
fn with_and_without_the_lane_of_syns_all_is_the_same() {
    let mut ended: BTreeMap<String, u64> = BTreeMap::new();
    for more in of_each(0..40, run) {
        more.into_iter().for_each(|(how, count)| *ended.entry(how).or_default() += count);
    }
    let refused = ["Spoofed", "Blocklisted", "SynRate", "DeniedByRule", "NoHealthyBackend", "NoRoute"];
    let shown = ["InvalidCookie", "Spoofed", "Blocklisted"];
    for family in ["TcpV4", "TcpV6"] {
        let syns = refused.iter().map(|reason| format!("{family} Syn Drop({reason})"));
        let shown = shown.iter().map(|reason| format!("{family} Shown Drop({reason})"));
        for how in syns.chain(shown).chain([format!("{family} Syn Reply(None)")]) {
            let count = ended.get(&how).copied().unwrap_or(0);
            assert!(count > 5, "{how} {count} times, of {ended:#?}");
        }
    }
}
