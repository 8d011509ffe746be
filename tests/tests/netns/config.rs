//! The configuration of the tests, with what they vary.

use super::lab::{DEVICES, OWN, OWN6, VIP, VIP6, WEB, WEB6};
use std::fmt::Write;

/// The port of the virtual addresses, and where the backends serve it.
pub(crate) const OPEN: u16 = 80;
pub(crate) const OPEN_BEHIND: u16 = 8080;
/// A second port that the backends serve, for configurations that lead there.
pub(crate) const OTHER_BEHIND: u16 = 8090;
/// A port that is balanced but that no rule allows, though the backends serve it.
pub(crate) const CLOSED: u16 = 81;
pub(crate) const CLOSED_BEHIND: u16 = 8081;
/// The UDP port, in front and behind.
pub(crate) const DATAGRAM: u16 = 9000;
/// A UDP port that no rule allows, though the backends serve it.
pub(crate) const CLOSED_DATAGRAM: u16 = 9999;

/// Which driver the appliance's ports have: the environment's `NVA_TEST_DRIVER`, else packet sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// `af_packet`.
    AfPacket,
    /// `af_xdp`.
    AfXdp,
    /// `dpdk`, with its own driver on packet sockets.
    Dpdk,
}

impl Driver {
    /// The driver of this run.
    ///
    /// # Panics
    /// With a word in the environment that names none.
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("NVA_TEST_DRIVER").as_deref() {
            Ok("af_packet") | Err(_) => Self::AfPacket,
            Ok("af_xdp") => Self::AfXdp,
            Ok("dpdk") => Self::Dpdk,
            Ok(other) => panic!("NVA_TEST_DRIVER is {other}; there are af_packet, af_xdp and dpdk"),
        }
    }

    /// Whether what a kernel leaves to its devices, checksums and segmentation, reaches the appliance finished.
    pub(crate) fn finishes_offloads(self) -> bool {
        self == Self::AfPacket
    }

    /// Whether fragments reach the appliance as they come. For DPDK's driver on packet sockets the kernel puts them together first, and it
    /// takes no more of the whole than a frame (`PACKET_FANOUT_FLAG_DEFRAG`).
    pub(crate) fn sees_fragments(self) -> bool {
        self != Self::Dpdk
    }

    /// Bytes of the longest datagram that gets through to the appliance, in fragments where these do.
    pub(crate) fn longest_datagram(self) -> usize {
        if self.sees_fragments() { 4000 } else { 1400 }
    }

    /// The keys `driver` and `device` of a port.
    pub(crate) fn keys(self, device: &str) -> String {
        match self {
            Self::AfPacket => format!("driver: af_packet, device: {device}"),
            Self::AfXdp => format!("driver: af_xdp, device: {device}"),
            Self::Dpdk => format!("driver: dpdk, device: \"net_af_packet_{device},iface={device}\""),
        }
    }

    /// What the appliance needs to be told of it.
    pub(crate) fn dataplane(self) -> &'static str {
        if self == Self::Dpdk { ", dpdk: {hugepages: none}" } else { "" }
    }
}

/// What the tests vary.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// MTU of the ports, in the order of the interfaces.
    pub(crate) mtu: [u16; 3],
    /// Where the open port leads, and what the rule that lets it through is called. Both name the port, so that a mixture of two
    /// configurations lets nothing through.
    pub(crate) behind: u16,
    /// Backends that are taken away.
    pub(crate) down: [bool; 2],
    /// How long a backend that is taken away keeps its connections.
    pub(crate) drain_period: &'static str,
    /// When clients of the open port prove themselves: a value of `syn_proxy`.
    pub(crate) syn_proxy: &'static str,
    /// The same of clients that speak to a backend's own address.
    pub(crate) routed_syn_proxy: &'static str,
    /// Hosts whose hardware addresses are known from the start: each an address and a hardware address.
    pub(crate) neighbors: Vec<(&'static str, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: [1500; 3],
            behind: OPEN_BEHIND,
            down: [false; 2],
            drain_period: "30s",
            syn_proxy: "auto",
            routed_syn_proxy: "off",
            neighbors: Vec::new(),
        }
    }
}

impl Config {
    /// The name of the rule that lets the open port through.
    pub(crate) fn rule(behind: u16) -> String {
        format!("allow-{behind}")
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let Self { mtu: [mtu1, mtu2, mtu3], behind, drain_period, routed_syn_proxy, .. } = self;
        let rule = Self::rule(*behind);
        let (web, web6) = (self.backends("", WEB), self.backends("-v6", WEB6));
        let driver = Driver::of_this_run();
        let dataplane = driver.dataplane();
        let [eth1, eth2, eth3] = DEVICES.map(|device| driver.keys(device));
        let mut text = format!(
            r#"version: 1
name: netns
dataplane: {{workers: [1], flow_capacity: 20_000{dataplane}}}
ports:
  - {{name: untrusted, {eth1}, mtu: {mtu1}, addresses: [{OWN}/24, "{OWN6}/64"], trust: untrusted}}
  - {{name: web1, {eth2}, mtu: {mtu2}, addresses: [10.2.0.1/24, "fd00:2::1/64"], trust: trusted}}
  - {{name: web2, {eth3}, mtu: {mtu3}, addresses: [10.3.0.1/24, "fd00:3::1/64"], trust: trusted}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {{name: web, prefixes: [10.2.0.0/24, 10.3.0.0/24, "fd00:2::/64", "fd00:3::/64"], security_group: web-nsg, syn_proxy: {routed_syn_proxy}}}
security_groups:
  - name: web-nsg
    rules:
"#
        );
        for (name, priority, protocol, port) in [
            (rule.as_str(), 100, "tcp", behind.to_string()),
            ("allow-datagrams", 110, "udp", DATAGRAM.to_string()),
            ("allow-icmp", 120, "icmp", "\"*\"".to_string()),
        ] {
            writeln!(
                text,
                "      - {{name: {name}, priority: {priority}, direction: inbound, access: allow, protocol: {protocol}, \
                 source: [Internet], source_ports: [\"*\"], destination: [\"*\"], destination_ports: [{port}]}}"
            )
            .expect("a string takes everything");
        }
        if !self.neighbors.is_empty() {
            text.push_str("neighbors:\n");
        }
        for (address, mac) in &self.neighbors {
            writeln!(text, "  - {{address: \"{address}\", mac: \"{mac}\"}}")
                .expect("a string takes everything");
        }
        let rule = |name: &str, frontend: &str, protocol: &str, port: u16, pool: &str, behind: u16| {
            format!(
                "      - {{name: {name}, frontend: {frontend}, protocol: {protocol}, port: {port}, pool: {pool}, backend_port: {behind}}}\n"
            )
        };
        let proxied = |text: String| text.replace("}\n", &format!(", syn_proxy: {}}}\n", self.syn_proxy));
        let rules: String = [
            proxied(rule("http", "vip", "tcp", OPEN, "web", *behind)),
            proxied(rule("http6", "vip6", "tcp", OPEN, "web6", *behind)),
            rule("closed", "vip", "tcp", CLOSED, "web", CLOSED_BEHIND),
            rule("closed6", "vip6", "tcp", CLOSED, "web6", CLOSED_BEHIND),
            rule("datagrams", "vip", "udp", DATAGRAM, "web", DATAGRAM),
            rule("datagrams6", "vip6", "udp", DATAGRAM, "web6", DATAGRAM),
        ]
        .concat();
        write!(
            text,
            r#"load_balancers:
  - name: public
    frontends:
      - {{name: vip, address: {VIP}}}
      - {{name: vip6, address: "{VIP6}"}}
    pools:
      - name: web
        drain_period: {drain_period}
        backends:
{web}      - name: web6
        drain_period: {drain_period}
        backends:
{web6}    rules:
{rules}"#
        )
        .expect("a string takes everything");
        text
    }

    fn backends(&self, suffix: &str, addresses: [&str; 2]) -> String {
        let line = |((number, address), down): ((usize, &str), bool)| {
            let state = if down { "down" } else { "none" };
            format!(
                "          - {{name: web-{number}{suffix}, address: \"{address}\", admin_state: {state}}}\n"
            )
        };
        (1..).zip(addresses).zip(self.down).map(line).collect()
    }
}
