//! Ports, routes, neighbours and the virtual network.

use std::net::IpAddr;
use std::time::Duration;

use super::{GroupIndex, MacAddress, PortIndex, Prefix, words};

/// `dataplane`.
#[derive(Clone, Debug)]
pub struct Dataplane {
    /// `workers`: the core of each worker; never empty, no core twice. Default `[1]`.
    pub workers: Vec<usize>,
    /// `flow_capacity`: flow records over all workers. Default 1 000 000.
    pub flow_capacity: usize,
    /// `flow_idle_timeout`.
    pub flow_idle_timeout: FlowTimeouts,
}

/// `dataplane.flow_idle_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// Established TCP. Default 4 min.
    pub tcp: Duration,
    /// TCP before the handshake is complete. Default 10 s.
    pub tcp_half_open: Duration,
    /// TCP after a FIN from both sides, or a RST. Default 10 s.
    pub tcp_closing: Duration,
    /// UDP. Default 60 s.
    pub udp: Duration,
    /// ICMP queries. Default 10 s.
    pub icmp: Duration,
    /// Other protocols. Default 60 s.
    pub other: Duration,
}

/// One of `ports`.
#[derive(Clone, Debug)]
pub struct Port {
    /// `name`.
    pub name: String,
    /// `driver`. Default `af_packet`.
    pub driver: Driver,
    /// `device`: a kernel interface; for DPDK a PCI address or a `--vdev` string.
    pub device: String,
    /// `mtu` in bytes of IP packet, 576..=9216, from 1280 with an IPv6 address. Default 1500.
    pub mtu: u16,
    /// `addresses`: owned by the appliance; each with the prefix that is connected through it.
    pub addresses: Vec<InterfaceAddress>,
    /// `trust`. Default `untrusted`.
    pub trust: Trust,
}

/// An address with the prefix that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address itself.
    pub address: IpAddr,
    /// The connected prefix.
    pub prefix: Prefix,
}

/// `ports[].driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `af_packet`.
    AfPacket,
    /// `af_xdp`.
    AfXdp,
    /// `dpdk`.
    Dpdk,
}

/// `ports[].trust` and `gateway.tunnels[].trust`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `untrusted`.
    Untrusted,
    /// `trusted`.
    Trusted,
}

/// One of `routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `to`.
    pub to: Prefix,
    /// `via`: in a connected prefix, same family as `to`.
    pub via: IpAddr,
    /// The port whose connected prefix holds `via`.
    pub port: PortIndex,
}

/// One of `neighbors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// `address`: in a connected prefix.
    pub address: IpAddr,
    /// `mac`: unicast.
    pub mac: MacAddress,
    /// The port whose connected prefix holds `address`.
    pub port: PortIndex,
}

/// `virtual_network`; absent: all empty.
#[derive(Clone, Debug, Default)]
pub struct VirtualNetwork {
    /// `address_space`: what the tag VirtualNetwork stands for, with 168.63.129.16.
    pub address_space: Vec<Prefix>,
    /// `subnets`; no two overlap.
    pub subnets: Vec<Subnet>,
    /// `interfaces`; no address twice.
    pub interfaces: Vec<Interface>,
    /// Names of all application security groups, declared by use in `interfaces`; an index points into it.
    pub application_security_groups: Vec<String>,
}

/// One of `virtual_network.subnets`.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// `name`.
    pub name: String,
    /// `prefixes`.
    pub prefixes: Vec<Prefix>,
    /// `security_group`; `None`: that level lets everything through.
    pub security_group: Option<GroupIndex>,
}

/// One of `virtual_network.interfaces`.
#[derive(Clone, Debug)]
pub struct Interface {
    /// `address`.
    pub address: IpAddr,
    /// `security_group`.
    pub security_group: Option<GroupIndex>,
    /// `application_security_groups`, as indices into [`VirtualNetwork::application_security_groups`].
    pub application_security_groups: Vec<usize>,
}

impl Default for Dataplane {
    fn default() -> Self {
        Self { workers: vec![1], flow_capacity: 1_000_000, flow_idle_timeout: FlowTimeouts::default() }
    }
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(240),
            tcp_half_open: Duration::from_secs(10),
            tcp_closing: Duration::from_secs(10),
            udp: Duration::from_secs(60),
            icmp: Duration::from_secs(10),
            other: Duration::from_secs(60),
        }
    }
}

words!(Driver { AfPacket = "af_packet", AfXdp = "af_xdp", Dpdk = "dpdk" });
words!(Trust { Untrusted = "untrusted", Trusted = "trusted" });
