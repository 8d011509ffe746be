//! The lane of first packets held against the stages: the same traffic, once with lanes and once without, ends the same in every respect.

use super::fast_tests::{Random, Twins, compile, damage, of_each, offload, pad};
use crate::names::Names;
use crate::snapshot::Snapshot;
use crate::verdict::PortId;
use crate::wire::TcpFlags;
use crate::wire::testing::FrameBuilder;
use core::fmt::Write;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
/// What lists, routes, subnets, interfaces and rules have something to say about, from either side; frontends are behind.
const ADDRESSES: [&[&str]; 2] = [
    &[
        "198.51.100.7",
        "198.51.100.8",
        "10.2.0.4",
        "10.2.0.5",
        "10.2.0.9",
        "10.2.0.9",
        "10.3.0.4",
        "10.3.0.5",
        "10.4.0.6",
        "172.16.6.6",
        "172.16.5.5",
        "203.0.113.254",
        "198.18.0.1",
        "198.18.7.1",
        "203.0.113.1",
        "10.2.0.1",
        "203.0.113.255",
        "10.2.0.255",
        "127.0.0.1",
        "224.0.0.5",
        "255.255.255.255",
        "169.254.3.4",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.2.1",
        "192.0.2.1",
        "192.0.2.2",
    ],
    &[
        "2001:db8:c::7",
        "2001:db8:c::8",
        "fd00:2::4",
        "fd00:2::5",
        "fd00:2::9",
        "fd00:2::9",
        "fd00:3::4",
        "2001:db8:bad::1",
        "2001:db8:bad:7::1",
        "2001:db8:1::1",
        "fe80::5",
        "ff02::1",
        "2001:db8:f::1",
        "2001:db8:f::1",
        "2001:db8:f::2",
    ],
];
const PORTS: [u16; 8] = [443, 444, 445, 446, 53, 123, 11_211, 5_000];

/// One configuration of several: who has groups, which limits there are, who is up, how sources are checked.
fn snapshot(variant: u64, generation: u32, names: &mut Names) -> Arc<Snapshot> {
    let pick =
        |bit: u32, set: &'static str, clear: &'static str| if variant >> bit & 1 == 0 { clear } else { set };
    let mut text = format!(
        r#"
version: 1
ports:
- {{name: outside, driver: af_packet, device: e0, trust: untrusted, addresses: [203.0.113.1/24, "2001:db8:1::1/64"]}}
- {{name: inside, driver: af_packet, device: e1, trust: trusted, addresses: [10.2.0.1/24, "fd00:2::1/64"]}}
routes: [{{to: {default}, via: 203.0.113.254}}, {{to: "::/0", via: "2001:db8:1::fe"}}, {{to: 10.3.0.0/16, via: 10.2.0.4}}, {{to: 172.16.0.0/16, via: 10.2.0.99}}, {{to: "fd00:3::/64", via: "fd00:2::4"}}]
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
  - {{name: near, prefixes: [10.2.0.0/16, "fd00:2::/64"]{near}}}
  - {{name: far, prefixes: [10.3.0.0/16, "fd00:3::/64"]{far}{proving}}}
  interfaces:
  - {{address: 10.2.0.9, security_group: few}}
  - {{address: 10.3.0.5, security_group: many}}
protection:
  anti_spoofing: {spoofing}
  blocklist: [198.18.0.0/15, "2001:db8:bad::/48"]
  allowlist: [198.18.7.0/24, "2001:db8:bad:7::/64"]
{flood}
security_groups:
- name: few
  flush_connections: {flush}
  rules:
  - {{name: not-them, priority: 100, direction: inbound, access: deny, protocol: any, source: [198.51.100.8/32, "2001:db8:c::8/128"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}}
  - {{name: in, priority: 110, direction: inbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}}
  - {{name: not-out, priority: 100, direction: outbound, access: deny, protocol: udp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [446]}}
- name: many
  rules:
"#,
        default = pick(0, "198.0.0.0/8", "0.0.0.0/0"),
        near = pick(1, "", ", security_group: many"),
        far = pick(2, ", security_group: few", ""),
        proving = pick(9, ", syn_proxy: auto", ""),
        spoofing = ["strict", "loose", "off", "off"][variant as usize >> 3 & 3],
        flood = [
            "",
            "  syn_flood: {per_source_rate: 3, proxy_threshold: 20}",
            "  syn_flood: {per_source_rate: 100, global_rate: 5, proxy_threshold: 60}",
            "",
        ][variant as usize >> 5 & 3],
        flush = pick(7, "true", "false"),
    );
    // So many that they are compiled to tables.
    for number in 0..40 {
        let (access, protocol) = (["allow", "deny"][number % 2], ["tcp", "udp", "any"][number % 3]);
        let source = ["\"*\"", "198.51.100.0/29", "10.0.0.0/8", "\"fd00::/8\"", "Internet"][number % 5];
        let direction = if number % 7 == 0 { "outbound" } else { "inbound" };
        let _ = writeln!(
            text,
            "  - {{name: m{number}, priority: {}, direction: {direction}, access: {access}, protocol: {protocol}, source: [{source}], \
             source_ports: [{}], destination: [\"*\"], destination_ports: [{}]}}",
            200 + number,
            if number % 4 == 0 { "1000-1003" } else { "\"*\"" },
            PORTS[number % 8],
        );
    }
    text += "  - {name: rest, priority: 300, direction: inbound, access: allow, protocol: any, source: [\"*\"], source_ports: [\"*\"], destination: [\"*\"], destination_ports: [\"*\"]}\n";
    text += "load_balancers:\n- name: lb\n  frontends:\n";
    for (family, frontends) in
        [["192.0.2.1", "192.0.2.2"], ["2001:db8:f::1", "2001:db8:f::2"]].iter().enumerate()
    {
        for (which, address) in frontends.iter().enumerate() {
            let _ = writeln!(text, "  - {{name: f{family}{which}, address: \"{address}\"}}");
        }
    }
    text += "  pools:\n";
    for (family, [a, b]) in [["10.2.0.4", "10.3.0.4"], ["fd00:2::4", "fd00:3::4"]].iter().enumerate() {
        let _ = writeln!(
            text,
            "  - {{name: p{family}, backends: [{{name: a{family}, address: \"{a}\"}}, {{name: b{family}, address: \"{b}\"}}]}}\n  \
             - {{name: q{family}, backends: [{{name: c{family}, address: \"{a}\", admin_state: down}}]}}"
        );
    }
    text += "  rules:\n";
    for family in 0..2 {
        for protocol in ["tcp", "udp"] {
            for (port, pool, to, floats) in [
                (443, 'p', 8_443, false),
                (444, 'q', 444, false),
                (445, 'p', 445, true),
                (123, 'p', 123, false),
            ] {
                let _ = writeln!(
                    text,
                    "  - {{name: r{family}{protocol}{port}, frontend: f{family}0, protocol: {protocol}, port: {port}, pool: {pool}{family}, backend_port: {to}, floating_ip: {floats}, idle_timeout: 5m}}",
                );
            }
        }
    }
    compile(text, 600, variant >> 8 & 1 != 0, (generation, names))
}

/// The first packet of a flow, usually a good one, and by which port it comes. What is tame is well-formed: what is not, and is for another
/// worker, that one refuses instead of this one.
fn frame(random: &mut Random, is_tame: bool) -> (PortId, Vec<u8>) {
    let family = random.below(2);
    let mut address = |known: usize| -> IpAddr {
        let among = ADDRESSES[family];
        let place = if random.once_in(3) { random.below(among.len()) } else { known };
        among[place % among.len()].parse().expect("an address")
    };
    let (client, count) = ((0..2), ADDRESSES[family].len());
    let mut ends = [address(client.start), address(count - 2)];
    if random.once_in(2) {
        ends[1] = ADDRESSES[family][2 + random.below(5)].parse().expect("an address");
    }
    if random.once_in(6) {
        ends.reverse();
    }
    let from = ADDRESSES[family].iter().position(|text| text.parse() == Ok(ends[0]));
    let port = if from.is_some_and(|place| (2..11).contains(&place)) { INSIDE } else { OUTSIDE };
    let port = if random.once_in(12) { PortId(1 - port.0) } else { port };
    let odd = if is_tame { 1_000 } else { 0 };
    let ports = (random.pick(&[odd, 1_000, 1_001, 1_002, 1_003, 1_500, 123, 443]), random.pick(&PORTS));
    let payload = vec![7; random.pick(&[0, 1, 4, 12, 18, 700])];
    let mut builder = FrameBuilder::between(ends[0], ends[1]);
    builder = if random.once_in(2) {
        let flags =
            random.pick(&[TcpFlags::SYN, TcpFlags::SYN, TcpFlags::SYN, TcpFlags::SYN | 0xc0, TcpFlags::ACK]);
        let options: &[u8] = match random.below(5) {
            0 => &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
            1 => &[2, 4, 5, 0xb4],
            2 => &[3, 3, 200, 1],
            3 => &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
            _ => &[],
        };
        let tcp = builder
            .tcp(ports.0, ports.1)
            .flags(flags)
            .seq(random.next() as u32, 0)
            .window(random.next() as u16);
        tcp.tcp_options(options).payload(if random.once_in(9) { &payload } else { &[] })
    } else {
        builder.udp(ports.0, ports.1).payload(&payload)
    };
    builder = builder.ttl(if random.once_in(20) { 1 } else { 64 });
    if random.once_in(2) {
        builder = builder.dont_fragment();
    }
    (port, builder.build())
}

/// Runs random traffic; how often what ended how in the lane.
fn run(seed: u64) -> BTreeMap<String, u64> {
    let mut random = Random(seed);
    let variant = random.next() % 1024;
    let mut twins = Twins::new(snapshot, variant, &mut random);
    let is_tame = !twins.pipelines[0].placement.is_alone();
    for _ in 0..120 {
        match random.below(20) {
            0 => twins.reload(random.next() % 1024),
            1..4 => {
                let seconds = random.pick(&[1, 4, 9, 31, 240]);
                twins.pass_time(Duration::from_secs(seconds));
            }
            _ => {
                let mut frames = [Vec::new(), Vec::new()];
                for _ in 0..random.pick(&[1, 3, 9, 24]) {
                    let (port, bytes) = frame(&mut random, is_tame);
                    let mut bytes = pad(bytes, &mut random);
                    if !is_tame {
                        damage(&mut bytes, &mut random);
                    }
                    let again = if random.once_in(6) { 2 } else { 1 };
                    // One twice, so that the second finds what the first left.
                    for _ in 0..again {
                        frames[port.index()].push((bytes.clone(), offload(&mut random)));
                    }
                }
                twins.receive(&frames);
            }
        }
        twins.pass_time(Duration::from_micros(random.next() % 20_000));
    }
    let [fast, slow] = &twins.pipelines;
    assert!(slow.firsts.ended.is_empty());
    assert!(fast.proxy.floods == slow.proxy.floods, "what floods counted differs");
    let [fast_neighbors, slow_neighbors] = [fast, slow].map(|pipeline| format!("{:?}", pipeline.neighbors));
    assert!(fast_neighbors == slow_neighbors, "the neighbours differ");
    fast.firsts.ended.clone()
}

#[test]
fn with_and_without_the_lane_of_first_packets_all_is_the_same() {
    let mut ended: BTreeMap<String, u64> = BTreeMap::new();
    for more in of_each(0..60, run) {
        more.into_iter().for_each(|(how, count)| *ended.entry(how).or_default() += count);
    }
    let refused = ["Spoofed", "Blocklisted", "DeniedByRule", "NoHealthyBackend", "FlowTableFull"];
    for kind in ["TcpV4", "UdpV4", "TcpV6", "UdpV6"] {
        let drops = refused.iter().map(|reason| format!("{kind} Drop({reason})"));
        let forwarded = [0, 1].map(|port| format!("{kind} Forward(PortId({port}))"));
        for how in drops.chain(forwarded) {
            let count = ended.get(&how).copied().unwrap_or(0);
            assert!(count > 5, "{how} {count} times, of {ended:#?}");
        }
    }
    for how in ["TcpV4 Drop(SynRate)", "TcpV6 Drop(SynRate)"] {
        assert!(ended.get(how).is_some_and(|count| *count > 5), "{how}, of {ended:#?}");
    }
}
