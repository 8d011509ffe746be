//! What fuzzers try, as functions, so that their findings stay as ordinary tests.

mod splice;

pub use splice::{splice, splice_seeds};

use crate::packet::{
    OnWire, Packet, advertisement, arp_reply, arp_request, checksum, echo, echo_reply, error, other,
    solicitation, tcp, udp,
};
use crate::ports::{NETWORK, Port, changed, network};
use crate::rig::{self, Rig};
use crate::tunnel::{Tunnel, back, inner};
use nva_config::Source;
use nva_config::import::{self, Input, Options, Role};
use nva_dataplane::snapshot::Snapshot;
use pmd_shim::{Burst, ChecksumStatus, Frame, Pool, PoolFrame};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Frames taken from one input; each costs little, but an input must end.
const FRAMES_MAX: usize = 64;
/// Bytes in front of each frame: flags, time, length.
const RECORD: usize = 4;

/// The flags of a record.
mod flag {
    /// It comes in by the trusted port.
    pub(super) const TRUSTED: u8 = 1;
    /// It is addressed to the port's station, whatever its bytes say.
    pub(super) const TO_STATION: u8 = 2;
    /// Its IPv4 header checksum is put right, and the device vouches for the transport's.
    pub(super) const SUMS_RIGHT: u8 = 4;
    /// The capture or the device cut it.
    pub(super) const TRUNCATED: u8 = 8;
    /// It shares a burst with the one before it, if that came by the same port.
    pub(super) const SAME_BURST: u8 = 16;
    /// The port's transmit queue refuses what was sent before it.
    pub(super) const REFUSE: u8 = 32;
}

/// One frame of an input.
struct Record<'a> {
    flags: u8,
    pause: Duration,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record; the last one may be shorter than it says.
    fn read(input: &mut &'a [u8]) -> Option<Self> {
        let (&[flags, pause, low, high], rest) = input.split_first_chunk::<RECORD>()?;
        let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        *input = rest;
        // From nothing to four minutes, finer where timers are.
        let pause = Duration::from_millis(u64::from(pause).pow(3) / 64);
        Some(Self { flags, pause, bytes })
    }

    fn port(&self) -> Port {
        if self.flags & flag::TRUSTED == 0 { Port::Untrusted } else { Port::Trusted }
    }

    fn frame(&self, pool: &Pool) -> Option<PoolFrame> {
        let cut = &self.bytes[..self.bytes.len().min(pool.data_room())];
        let mut frame = pool.copy_from(cut)?;
        let mut offload = frame.offload();
        offload.truncated = self.flags & flag::TRUNCATED != 0 || cut.len() < self.bytes.len();
        let bytes = frame.bytes_mut();
        if self.flags & flag::TO_STATION != 0
            && let Some(destination) = bytes.first_chunk_mut::<6>()
        {
            *destination = self.port().station();
        }
        if self.flags & flag::SUMS_RIGHT != 0 {
            offload.checksum = ChecksumStatus::Verified;
            if bytes.len() >= 34 && bytes[12..14] == [0x08, 0x00] {
                let end = (14 + 4 * usize::from(bytes[14] & 0x0f)).clamp(34, bytes.len());
                bytes[24..26].fill(0);
                let sum = checksum(&[&bytes[14..end]]);
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            }
        }
        frame.set_offload(offload);
        Some(frame)
    }
}

/// A configuration with something of everything, over the scripts' network.
fn rich() -> String {
    let sections = r#"
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {name: web, prefixes: [10.2.0.0/24, "fd00:2::/64"], security_group: web-nsg}
  interfaces:
    - {address: 10.2.0.4, security_group: nic-nsg, application_security_groups: [asg-web]}
service_tags:
  inline: {Monitoring: [198.51.100.0/25]}
security_groups:
  - name: web-nsg
    rules:
      - {name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [22, 443, 8000-9000]}
      - {name: dns, priority: 110, direction: inbound, access: allow, protocol: udp, source: [Internet], source_ports: ["*"], destination: ["*"], destination_ports: [53, 123, 5353]}
      - {name: echo, priority: 120, direction: inbound, access: allow, protocol: icmp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}
      - {name: esp, priority: 130, direction: inbound, access: allow, protocol: esp, source: [Monitoring], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}
  - name: nic-nsg
    rules:
      - {name: all, priority: 200, direction: inbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["asg:asg-web"], destination_ports: ["*"]}
load_balancers:
  - name: public
    frontends: [{name: vip, address: 203.0.113.10}, {name: vip6, address: "2001:db8:113::10"}, {name: ha, address: 203.0.113.11}]
    pools:
      - {name: four, backends: [{name: a, address: 10.2.0.4}, {name: b, address: 10.2.0.9}]}
      - {name: six, backends: [{name: c, address: "fd00:2::4"}, {name: d, address: "fd00:2::9"}]}
    rules:
      - {name: w, frontend: vip, protocol: tcp, port: 443, pool: four, backend_port: 8443, tcp_reset: true, idle_timeout: 4m, syn_proxy: off}
      - {name: w6, frontend: vip6, protocol: tcp, port: 443, pool: six, backend_port: 8443, tcp_reset: true, idle_timeout: 4m, syn_proxy: off}
      - {name: u, frontend: vip, protocol: udp, port: 53, pool: four, backend_port: 5353, distribution: source_ip, syn_proxy: off}
      - {name: u6, frontend: vip6, protocol: udp, port: 53, pool: six, backend_port: 5353, syn_proxy: off}
      - {name: ha, frontend: ha, protocol: all, port: 0, pool: four, backend_port: 0, floating_ip: true, syn_proxy: off}
    inbound_nat:
      - {name: ssh, frontend: vip, protocol: tcp, port: 50001, backend: a, backend_port: 22}
protection:
  blocklist: [198.18.0.0/15]
  anti_spoofing: loose
gateway:
  - port: trusted
    address: 10.2.0.1
    peers: [10.2.0.5]
    clamp_mss: true
    frontends: {203.0.113.20: [10.2.0.4, 10.2.0.9]}
    tunnels:
      - {name: internal, trust: trusted, vni: 800, udp_port: 10800}
      - {name: external, trust: untrusted, vni: 801, udp_port: 10801}
  - port: trusted
    address: "fd00:2::1"
    peers: ["fd00:2::5"]
    zero_checksum_ipv6: true
    tunnels:
      - {name: internal6, trust: trusted, vni: 800, udp_port: 10800}
      - {name: external6, trust: untrusted, vni: 801, udp_port: 10801}
"#;
    changed(&network(sections), "device: eth2, mtu: 1500", "device: eth2, mtu: 1280")
}

/// Any bytes as frames over time. Records of four bytes each (flags, pause, length) are followed by a frame's bytes.
///
/// # Panics
/// When the path is wrong.
pub fn frames(mut input: &[u8]) {
    // Compiling takes far longer than a few frames.
    static READY: OnceLock<(Arc<Snapshot>, Pool)> = OnceLock::new();
    let (snapshot, pool) = READY.get_or_init(|| (rig::compile(&rig::config(&rich())), rig::pool(512)));
    let mut rig = Rig::on(Arc::clone(snapshot), pool.clone(), 16, [7; 16]);
    let mut burst = Burst::new();
    let mut last = Port::Untrusted;
    for _ in 0..FRAMES_MAX {
        let Some(record) = Record::read(&mut input) else { break };
        let same = record.flags & flag::SAME_BURST != 0 && record.port() == last;
        if !same {
            rig.receive(last, &mut burst);
            rig.run_timers(record.pause);
        }
        for (port, frame) in rig.take_sent() {
            if record.flags & flag::REFUSE != 0 {
                rig.refused(port, frame);
            }
        }
        last = record.port();
        burst.extend(record.frame(pool));
    }
    rig.receive(last, &mut burst);
    rig.settle();
}

/// An import of one file: it ends, says why it refuses, gives the same when it is run again, and what comes out is a good configuration.
/// The first byte says what the file is given for.
///
/// # Panics
/// When that does not hold.
pub fn import(input: &[u8]) {
    let Some((role, text)) = input.split_first() else { return };
    let role = match role {
        b'l' => Role::Balancers,
        b'm' => Role::Members,
        b'r' => Role::Routes,
        b't' => Role::Tags,
        _ => Role::Groups,
    };
    let inputs = [Input { role, source: Source { path: "in.json".into(), text: text.to_vec() } }];
    let attempt = || import::azure(&inputs, Options::default());
    let (first, second) = (attempt(), attempt());
    assert_eq!((&first.text, &first.account), (&second.text, &second.account));
    let Some(text) = first.text else {
        assert!(!first.account.problems.is_empty(), "refused without a reason");
        return;
    };
    // Routes need the ports that other files have.
    let (sections, _) = text.split_once("\nroutes:\n").unwrap_or((&text, ""));
    let source = Source { path: "imported.yaml".into(), text: sections.into() };
    if let Err(problems) = nva_config::load(&[source], None) {
        panic!("{problems:?}\n{text}");
    }
}

/// Any bytes as a configuration of one file.
///
/// # Panics
/// When a problem lies outside of the file, or there are none and yet no configuration.
pub fn config(text: &[u8]) {
    let source = Source { path: "nva.yaml".into(), text: text.to_vec() };
    let Err(problems) = nva_config::load(&[source], None) else { return };
    assert!(!problems.is_empty(), "refused without a reason");
    // Each of CR LF, CR and LF ends a line (YAML 1.2, 5.4).
    let text: Vec<u8> = text
        .iter()
        .copied()
        .enumerate()
        .filter(|&(at, byte)| !(byte == b'\n' && at > 0 && text[at - 1] == b'\r'))
        .map(|(_, byte)| byte)
        .collect();
    let lines: Vec<&[u8]> = text.split(|byte| matches!(byte, b'\n' | b'\r')).collect();
    for problem in problems {
        let shown = problem.to_string();
        let (line, column) = place(&shown).unwrap_or_else(|| panic!("no place: {shown}"));
        assert!(line >= 1 && column >= 1, "counted from 1: {shown}");
        let Some(of_file) = lines.get(line - 1) else { panic!("{} lines: {shown}", lines.len()) };
        // One past the end is where something is missing.
        assert!(column <= of_file.len() + 1, "the line has {} bytes: {shown}", of_file.len());
    }
}

/// Line and column of `FILE:LINE:COLUMN: what`.
fn place(problem: &str) -> Option<(usize, usize)> {
    let mut parts = problem.strip_prefix("nva.yaml:")?.splitn(3, ':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A name and an input.
pub type Seed = (&'static str, Vec<u8>);

/// Conversations to begin with.
pub fn frame_seeds() -> Vec<Seed> {
    let (client, vip, server) = ("198.51.100.9:40000", "203.0.113.10:443", "10.2.0.4:8443");
    let (client6, vip6) = ("[2001:db8:9::9]:40000", "[2001:db8:113::10]:53");
    let untrusted = |packet: &Packet| (Port::Untrusted, packet.received(Port::Untrusted));
    let trusted = |packet: &Packet| (Port::Trusted, packet.received(Port::Trusted));
    let ours = Port::Trusted.station();
    let ninth = [2, 0, 0, 0, 2, 9];
    let whole = udp(client, "10.2.0.4:53").data(&[b'f'; 60]);
    let pieces = whole.fragments(&[24, 24]);
    let (ask6, syn) = (udp(client6, vip6), tcp(client, vip).syn(1000));
    let unreachable = error("192.0.2.77", &tcp(vip, client).ack(5000, 1001), 3, 4, 1400).to("203.0.113.10");
    vec![
        (
            "connection",
            records(&[
                untrusted(&syn.clone().tcp_options(&[2, 4, 5, 180, 1, 3, 3, 7])),
                trusted(&tcp(server, client).ack(5000, 1001).syn(5000)),
                untrusted(&tcp(client, vip).ack(1001, 5001).data(b"request")),
                trusted(&tcp(server, client).ack(5001, 1008).data(b"answer").fin()),
                untrusted(&unreachable),
                untrusted(&tcp(client, vip).ack(1008, 5008).rst(1008)),
            ]),
        ),
        ("tunnels", records(&tunnels())),
        ("fragments", records(&[untrusted(&pieces[2]), untrusted(&pieces[0]), untrusted(&pieces[1])])),
        (
            "ipv6",
            records(&[
                untrusted(&ask6),
                untrusted(&ask6.clone().extension(0, &[1, 4, 0, 0, 0, 0]).extension(60, &[1, 4, 0, 0, 0, 0])),
                untrusted(&ask6.clone().atomic()),
                trusted(&advertisement(ninth, "fd00:2::9", ours, "fd00:2::1", 0x60)),
                untrusted(&ask6.fragments(&[8])[1]),
            ]),
        ),
        (
            "resolution",
            records(&[
                untrusted(&tcp(client, "10.2.0.9:443").syn(1)),
                (Port::Trusted, arp_reply(ninth, "10.2.0.9", ours, "10.2.0.1")),
                (Port::Trusted, arp_request(ninth, "10.2.0.9", "10.2.0.1")),
                untrusted(&solicitation([2, 0, 0, 0, 0x71, 0xfe], "2001:db8:113::fe", "2001:db8:113::1")),
            ]),
        ),
        (
            "messages",
            records(&[
                untrusted(&echo("198.51.100.9", "10.2.0.4", 7)),
                trusted(&echo_reply("10.2.0.4", "198.51.100.9", 7)),
                untrusted(&echo("2001:db8:9::9", "2001:db8:113::1", 7)),
                untrusted(&udp(client, "10.2.0.4:53").ttl(1)),
                untrusted(&udp(client, "10.2.0.4:53").data(&[0; 1400])),
                untrusted(&udp(client, "10.2.0.4:53").may_fragment().data(&[0; 1400])),
                untrusted(&other("198.51.100.9", "10.2.0.4", 50)),
                untrusted(&syn.to("203.0.113.11:9")),
            ]),
        ),
    ]
}

/// A connection through the tunnels of a gateway, over both families.
fn tunnels() -> Vec<(Port, Vec<u8>)> {
    let internal = Tunnel { own: "10.2.0.1", peer: "10.2.0.5", vni: 800, udp_port: 10_800 };
    let external = Tunnel { vni: 801, udp_port: 10_801, ..internal };
    let outer6 = |tunnel: Tunnel| Tunnel { own: "fd00:2::1", peer: "fd00:2::5", ..tunnel };
    let (client, frontend) = ("198.51.100.9:40000", "203.0.113.20:443");
    let syn = tcp(client, frontend).syn(1000).tcp_options(&[2, 4, 5, 180, 1, 3, 3, 7]);
    let long = udp("[2001:db8:9::9]:53", "[2001:db8:7::7]:53").data(&[7; 1150]);
    let frames = [
        external.arrives(&inner(&syn)),
        internal.arrives(&back(&tcp(frontend, client).ack(5000, 1001).syn(5000))),
        external.arrives(&inner(&tcp(client, frontend).ack(1001, 5001).data(b"request"))).traffic_class(3),
        external.arrives(&back(&tcp(frontend, client).ack(5001, 1008))),
        outer6(external).arrives(&inner(&long)).without_checksum(),
        outer6(internal).arrives(&back(&echo("203.0.113.20", "198.51.100.9", 7))),
    ];
    frames.into_iter().map(|frame| (Port::Trusted, frame.received(Port::Trusted))).collect()
}

fn records(frames: &[(Port, Vec<u8>)]) -> Vec<u8> {
    let record = |(port, frame): &(Port, Vec<u8>)| {
        let port = if *port == Port::Trusted { flag::TRUSTED } else { 0 };
        let [low, high] = (frame.len() as u16).to_le_bytes();
        let head = [port | flag::TO_STATION | flag::SUMS_RIGHT, 3, low, high];
        [&head[..], frame].concat()
    };
    frames.iter().flat_map(record).collect()
}

/// Configurations to begin with.
pub fn config_seeds() -> Vec<Seed> {
    vec![
        ("network", NETWORK.into()),
        ("rich", rich().into()),
        ("flow", "{version: 1, ports: [{name: a, driver: af_packet, device: e, mtu: 1500, addresses: [192.0.2.1/24], trust: trusted}]}".into()),
        ("wrong", "version: 2\nports:\n  - {name: a, nam: \"b\\u00e9\"}\n  - *anchor\nroutes: [{to: 1.2.3.4/33, via: x}]\n".into()),
    ]
}

/// A load balancer with one of each of its parts.
const BALANCER: &str = r#"{"name":"lb","properties":{"frontendIPConfigurations":[{"name":"vip","properties":{"privateIPAddress":"10.2.0.100"}}],"backendAddressPools":[{"name":"web","properties":{"loadBalancerBackendAddresses":[{"name":"a","properties":{"ipAddress":"10.2.0.4","adminState":"Up"}}]}}],"probes":[{"name":"p","properties":{"protocol":"Http","port":80,"requestPath":"/","intervalInSeconds":5,"probeThreshold":2}}],"loadBalancingRules":[{"name":"r","properties":{"frontendIPConfiguration":{"id":"/x/vip"},"backendAddressPool":{"id":"/x/web"},"probe":{"id":"/x/p"},"protocol":"Tcp","frontendPort":80,"backendPort":8080,"loadDistribution":"SourceIP"}}],"outboundRules":[{"name":"o","properties":{"frontendIPConfigurations":[{"id":"/x/vip"}],"backendAddressPool":{"id":"/x/web"},"protocol":"All","allocatedOutboundPorts":8}}]}}"#;

/// Small exports, each behind what it is given for.
pub fn import_seeds() -> Vec<Seed> {
    let seed = |role: &str, json: &str| {
        let json: serde_json::Value = serde_json::from_str(json).expect("a fixture is JSON");
        format!("{role}{json}").into_bytes()
    };
    macro_rules! fixture {
        ($role:literal, $name:literal) => {
            seed($role, include_str!(concat!("../../nva-config/tests/import/", $name)))
        };
    }
    vec![
        ("effective", fixture!("n", "web.effective.json")),
        ("terraform", fixture!("n", "web.tfstate.json")),
        ("template", fixture!("n", "web.template.json")),
        ("balancer", seed("l", BALANCER)),
        ("interfaces", fixture!("m", "interfaces.json")),
        ("routes", fixture!("r", "routes.arm.json")),
        ("tags", fixture!("t", "tags.json")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The files of a corpus or of the regressions; none where the folder is not there.
    fn kept(folder: &str, target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries
            .map(|entry| (entry.path().display().to_string(), std::fs::read(entry.path()).expect("a file")))
            .collect()
    }

    fn replay(target: &str, attempt: fn(&[u8])) -> usize {
        let inputs = [kept("corpus", target), kept("regressions", target)].concat();
        for (name, bytes) in &inputs {
            println!("{name}");
            attempt(bytes);
        }
        inputs.len()
    }

    #[test]
    fn what_was_found_stays_fixed() {
        assert!(replay("frames", frames) >= frame_seeds().len(), "the corpus is there");
        assert!(replay("config", config) >= config_seeds().len(), "the corpus is there");
        assert!(replay("import", import) >= import_seeds().len(), "the corpus is there");
        assert!(replay("splice", splice) >= splice_seeds().len(), "the corpus is there");
    }

    #[test]
    fn seeds_reach_the_flow_table() {
        for (name, mut input) in frame_seeds().iter().map(|(name, bytes)| (name, bytes.as_slice())) {
            let mut rig = Rig::new(&rig::config(&rich()), 16, 512, [7; 16]);
            let pool = rig.pool().clone();
            while let Some(record) = Record::read(&mut input) {
                let mut burst: Burst<PoolFrame> = record.frame(&pool).into_iter().collect();
                rig.receive(record.port(), &mut burst);
                rig.run_timers(record.pause);
            }
            let passed = rig.hits().0.get("forward").or(rig.hits().0.get("hold"));
            assert!(passed.is_some() && rig.flow_count() > 0, "{name}: {:?}", rig.hits());
        }
    }
}
