//! The gateway's tunnels and the protection of what is behind the appliance.

use std::net::IpAddr;

use super::{PortIndex, Prefix, Trust, words};

/// `gateway`.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// `port`.
    pub port: PortIndex,
    /// `address`: one of the port's own.
    pub address: IpAddr,
    /// `peers`; never empty.
    pub peers: Vec<IpAddr>,
    /// `tunnels`: one trusted and one untrusted.
    pub tunnels: Vec<Tunnel>,
}

/// One of `gateway.tunnels`.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// `name`.
    pub name: String,
    /// `trust`.
    pub trust: Trust,
    /// `vni`: 1..=0xff_ffff.
    pub vni: u32,
    /// `udp_port`: not 0.
    pub udp_port: u16,
}

/// `protection`; [`Default`] is that of an absent section.
#[derive(Clone, Debug)]
pub struct Protection {
    /// `allowlist`.
    pub allowlist: Vec<Prefix>,
    /// `blocklist`.
    pub blocklist: Vec<Prefix>,
    /// `anti_spoofing`. Default strict.
    pub anti_spoofing: AntiSpoofing,
    /// `syn_flood`.
    pub syn_flood: Option<SynFlood>,
    /// `connections`.
    pub connections: Option<ConnectionLimits>,
    /// `amplification`.
    pub amplification: Amplification,
    /// `icmp.rate`, packets a second.
    pub icmp_rate: Option<u64>,
}

/// `protection.anti_spoofing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiSpoofing {
    /// `off`: no reverse-path check.
    Off,
    /// `loose`: some route leads to the source.
    Loose,
    /// `strict`: the route to the source leads out of the port it came in on.
    Strict,
}

/// `protection.syn_flood`: SYNs a second; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynFlood {
    /// `per_source_rate`.
    pub per_source_rate: u64,
    /// `global_rate`.
    pub global_rate: u64,
    /// `proxy_threshold`.
    pub proxy_threshold: u64,
}

/// `protection.connections`; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `per_source`.
    pub per_source: u64,
    /// `new_per_source_rate`, a second.
    pub new_per_source_rate: u64,
}

/// `protection.amplification`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amplification {
    /// `block_ntp_monlist`. Default true.
    pub block_ntp_monlist: bool,
    /// `block_memcached`. Default true.
    pub block_memcached: bool,
    /// `dns_responses_per_destination`, a second; `None`: no limit.
    pub dns_responses_per_destination: Option<u64>,
}

impl Default for Amplification {
    fn default() -> Self {
        Self { block_ntp_monlist: true, block_memcached: true, dns_responses_per_destination: None }
    }
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            allowlist: Vec::new(),
            blocklist: Vec::new(),
            anti_spoofing: AntiSpoofing::Strict,
            syn_flood: None,
            connections: None,
            amplification: Amplification::default(),
            icmp_rate: None,
        }
    }
}

words!(AntiSpoofing { Off = "off", Loose = "loose", Strict = "strict" });
