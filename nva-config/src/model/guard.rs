//! The gateway's tunnels and the protection of what is behind the appliance.

use std::net::IpAddr;

use super::{PortIndex, Prefix, SynProxyMode, Trust, words};

/// `gateway`: one of them, or a list of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `peers`: outer sources that may send, and to which is sent; never empty, each of the family of every tunnel's address.
    pub peers: Vec<IpAddr>,
    /// `tunnels`: one trusted and one untrusted, each with a name that no other tunnel of any gateway has.
    pub tunnels: Vec<Tunnel>,
    /// `encapsulation`. Default `vxlan`.
    pub encapsulation: Encapsulation,
    /// `frontends`: what stands behind each public address of the inner packets. No address is in two gateways.
    pub frontends: Vec<MappedFrontend>,
    /// `mtu`: the longest outer packet that the way to the peers carries, in bytes. `None`: what the tunnel's port carries.
    pub mtu: Option<u16>,
    /// `dscp` of outer headers, 0..=63. `None`: that of the inner packet (`inherit`, the default).
    pub dscp: Option<u8>,
    /// `zero_checksum_ipv6`: over IPv6, datagrams without checksum are taken and sent (RFC 6935). Default false.
    pub zero_checksum_ipv6: bool,
    /// `clamp_mss`: the maximum segment size that a SYN announces is made to fit the tunnels. Default false.
    pub clamp_mss: bool,
    /// `syn_proxy`, for connections that begin in the untrusted tunnel. Default off.
    pub syn_proxy: SynProxyMode,
}

/// One of `gateway.tunnels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `name`.
    pub name: String,
    /// `trust`.
    pub trust: Trust,
    /// `vni`: 1..=0xff_ffff, with Geneve also 0, the default; of all gateways' tunnels that end at an address, one has it. Both tunnels of a
    /// gateway have the same with Geneve.
    pub vni: u32,
    /// `udp_port`: not 0. With Geneve the same for both tunnels of a gateway, by default 6081.
    pub udp_port: u16,
    /// `port`. Default the gateway's.
    pub port: PortIndex,
    /// `address`: one of the port's own. Default the gateway's.
    pub address: IpAddr,
}

/// One of `gateway.frontends`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFrontend {
    /// The address that inner packets have.
    pub address: IpAddr,
    /// What security rules are to see in its place; of the same family, never empty.
    pub backends: Vec<Prefix>,
}

/// `gateway.encapsulation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// `vxlan`: RFC 7348, with Ethernet inside and one tunnel a side.
    Vxlan,
    /// `geneve`: RFC 8926, with IP inside and one tunnel for both sides.
    Geneve,
}

/// `protection`; [`Default`] is that of an absent section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// `allowlist`.
    pub allowlist: Vec<Prefix>,
    /// `blocklist`.
    pub blocklist: Vec<Prefix>,
    /// `anti_spoofing`. Default strict.
    pub anti_spoofing: AntiSpoofing,
    /// `syn_flood`.
    pub syn_flood: Option<SynFlood>,
    /// What is in `syn_flood.cookie_secret_file`: the secret of SYN cookies that several appliances share. `None` where there is no such
    /// key, or files are not read.
    pub cookie_secret: Option<[u8; 16]>,
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
            cookie_secret: None,
            connections: None,
            amplification: Amplification::default(),
            icmp_rate: None,
        }
    }
}

words!(Encapsulation { Vxlan = "vxlan", Geneve = "geneve" });
words!(AntiSpoofing { Off = "off", Loose = "loose", Strict = "strict" });
