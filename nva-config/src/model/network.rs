//! Ports, routes, neighbours and the virtual network.

use std::net::IpAddr;

use super::{GroupIndex, MacAddress, PortIndex, PortRange, Prefix, SynProxyMode, words};

/// One of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `name`.
    pub name: String,
    /// `driver`. Default `af_packet`.
    pub driver: Driver,
    /// `device`: a kernel interface; for DPDK a PCI address or a `--vdev` string. Of a segment, in words which one it is.
    pub device: String,
    /// `vxlan`: there for the driver of this name, and only for it. Such ports stand behind all others.
    pub vxlan: Option<Segment>,
    /// `mtu` in bytes of IP packet, 576..=9216, from 1280 with an IPv6 address. Default 1500. Of a segment it is never more than what its port
    /// carries inside.
    pub mtu: u16,
    /// `addresses`: owned by the appliance; each with the prefix that is connected through it.
    pub addresses: Vec<InterfaceAddress>,
    /// `trust`. Default `untrusted`.
    pub trust: Trust,
    /// `host_services`: what reaches the kernel's sockets through this port's host interface. `None`: the port has no such interface.
    pub host_services: Option<Vec<HostService>>,
}

/// `ports[].vxlan`: the port is a segment of an overlay (RFC 7348).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `port`: which carries it; never a segment itself.
    pub port: PortIndex,
    /// `vni`: 1..=0xff_ffff; of all segments and gateways' tunnels that end at an address, one has it.
    pub vni: u32,
    /// `local`: this end, one of that port's addresses.
    pub local: IpAddr,
    /// `remotes`: the other ends, of the same family; never empty.
    pub remotes: Vec<IpAddr>,
    /// `udp_port`: not 0. Default 4789.
    pub udp_port: u16,
    /// `learn`: remotes of stations are learnt; else every frame goes to all remotes. Default true.
    pub learn: bool,
}

/// One of `ports[].host_services`: packets of this protocol to one of these ports of the port's own addresses go to the kernel's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostService {
    /// The transport protocol.
    pub protocol: HostProtocol,
    /// Destination ports; 0 is not among them.
    pub ports: PortRange,
}

impl HostService {
    /// Services that have a name: BFD over one hop and several (RFC 5881, section 4; RFC 5883, section 5), its echoes, and BGP (RFC 4271).
    pub(crate) const NAMED: [(&'static str, &'static [Self]); 2] = [
        ("bfd", &[Self::new(HostProtocol::Udp, 3784, 3785), Self::new(HostProtocol::Udp, 4784, 4784)]),
        ("bgp", &[Self::new(HostProtocol::Tcp, 179, 179)]),
    ];

    const fn new(protocol: HostProtocol, first: u16, last: u16) -> Self {
        Self { protocol, ports: PortRange { first, last } }
    }
}

/// The protocol of a [`HostService`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostProtocol {
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
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
    /// `vxlan`: carried by another port.
    Vxlan,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualNetwork {
    /// `address_space`: what the tag VirtualNetwork stands for, with 168.63.129.16 and `route_prefixes`.
    pub address_space: Vec<Prefix>,
    /// `route_prefixes`: what the tag VirtualNetwork holds beside, and nothing else: the cloud counts the prefixes of route tables into it.
    pub route_prefixes: Vec<Prefix>,
    /// `subnets`; no two overlap.
    pub subnets: Vec<Subnet>,
    /// `interfaces`; no address twice.
    pub interfaces: Vec<Interface>,
    /// Names of all application security groups, declared by use in `interfaces`; an index points into it.
    pub application_security_groups: Vec<String>,
}

/// One of `virtual_network.subnets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `name`.
    pub name: String,
    /// `prefixes`.
    pub prefixes: Vec<Prefix>,
    /// `security_group`; `None`: that level lets everything through.
    pub security_group: Option<GroupIndex>,
    /// `syn_proxy`, for connections from the untrusted side. Default off.
    pub syn_proxy: SynProxyMode,
}

/// One of `virtual_network.interfaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `address`.
    pub address: IpAddr,
    /// `security_group`.
    pub security_group: Option<GroupIndex>,
    /// `application_security_groups`, as indices into [`VirtualNetwork::application_security_groups`].
    pub application_security_groups: Vec<usize>,
}

words!(Driver { AfPacket = "af_packet", AfXdp = "af_xdp", Dpdk = "dpdk", Vxlan = "vxlan" });
words!(Trust { Untrusted = "untrusted", Trusted = "trusted" });
words!(HostProtocol { Tcp = "tcp", Udp = "udp" });
