//! `ports`, `routes`, `neighbors` and `virtual_network` as written.

use std::net::IpAddr;

use super::fields::{Fields, List, Opt, fields, placed};
use super::scalar::{
    address, boolean, count, host_services, interface_address, mac, name, port as port_number, prefix,
    prefixes, text, word,
};
use crate::model::{Driver, HostService, MacAddress, Prefix, SynProxyMode, Trust};
use crate::report::{At, Report, quote};
use crate::tree::Node;

/// Bytes of a kernel interface's name, without the final NUL (`IFNAMSIZ`).
const INTERFACE_NAME_MAX: usize = 15;

/// The UDP port that IANA gave to VXLAN.
const VXLAN_PORT: u16 = 4789;

/// One of `ports`.
pub(crate) struct Port {
    pub(crate) name: Opt<String>,
    pub(crate) driver: Opt<Driver>,
    /// A segment has none.
    pub(crate) device: Opt<String>,
    pub(crate) vxlan: Opt<Segment>,
    pub(crate) mtu: Opt<u16>,
    pub(crate) addresses: List<At<(IpAddr, u8)>>,
    pub(crate) trust: Opt<Trust>,
    /// `None`: the key was not written.
    pub(crate) host_services: Option<List<At<Vec<HostService>>>>,
}

/// `ports[].vxlan`.
pub(crate) struct Segment {
    pub(crate) port: Opt<String>,
    pub(crate) vni: Opt<u32>,
    pub(crate) local: Opt<IpAddr>,
    pub(crate) remotes: List<At<IpAddr>>,
    pub(crate) udp_port: Opt<u16>,
    pub(crate) learn: Opt<bool>,
}

/// One of `routes`.
pub(crate) struct Route {
    pub(crate) to: Opt<Prefix>,
    pub(crate) via: Opt<IpAddr>,
}

/// One of `neighbors`.
pub(crate) struct Neighbor {
    pub(crate) address: Opt<IpAddr>,
    pub(crate) mac: Opt<MacAddress>,
}

/// `virtual_network`.
pub(crate) struct VirtualNetwork {
    pub(crate) address_space: List<Vec<Prefix>>,
    pub(crate) route_prefixes: List<At<Vec<Prefix>>>,
    pub(crate) subnets: List<Subnet>,
    pub(crate) interfaces: List<Interface>,
}

/// One of `virtual_network.subnets`.
pub(crate) struct Subnet {
    pub(crate) name: Opt<String>,
    pub(crate) prefixes: List<At<Vec<Prefix>>>,
    pub(crate) security_group: Opt<String>,
    pub(crate) syn_proxy: Opt<SynProxyMode>,
}

/// One of `virtual_network.interfaces`.
pub(crate) struct Interface {
    pub(crate) address: Opt<IpAddr>,
    pub(crate) security_group: Opt<String>,
    pub(crate) application_security_groups: List<At<String>>,
}

pub(super) fn port(node: &Node, report: &mut Report<'_>) -> Option<Port> {
    let mut fields = fields(node, report)?;
    let name = fields.required("name", report, name);
    let driver = fields.or("driver", Driver::AfPacket, report, word);
    let is_segment = driver.is_some_and(|driver| driver.value == Driver::Vxlan);
    let port = Port {
        name,
        driver,
        device: if is_segment { None } else { fields.required("device", report, text) },
        vxlan: if is_segment { fields.required("vxlan", report, segment) } else { None },
        mtu: fields.or("mtu", 1500, report, count(576..=9216)),
        addresses: fields.list("addresses", report, placed(interface_address)),
        trust: fields.or("trust", Trust::Untrusted, report, word),
        host_services: fields
            .has("host_services")
            .then(|| fields.list("host_services", report, placed(host_services))),
    };
    fields.finish(report);
    check_device(&port, report);
    Some(port)
}

fn segment(node: &Node, report: &mut Report<'_>) -> Option<Segment> {
    let mut fields = fields(node, report)?;
    let segment = Segment {
        port: fields.required("port", report, name),
        vni: fields.required("vni", report, count(1..=0xff_ffff)),
        local: fields.required("local", report, address),
        remotes: fields.filled_list("remotes", report, placed(address)),
        udp_port: fields.or("udp_port", VXLAN_PORT, report, port_number),
        learn: fields.or("learn", true, report, boolean),
    };
    fields.finish(report);
    Some(segment)
}

/// A kernel interface has a name that the kernel can give.
fn check_device(port: &Port, report: &mut Report<'_>) {
    let (Some(driver), Some(device)) = (&port.driver, &port.device) else { return };
    let name = &device.value;
    let bad = name.len() > INTERFACE_NAME_MAX
        || matches!(name.as_str(), "." | "..")
        || name.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':'));
    if bad && driver.value != Driver::Dpdk {
        let message = "is no name of a kernel interface; that has up to 15 characters, no space, `/` or `:`";
        report.problem(device.at, format!("{} {message}", quote(name)));
    }
}

pub(super) fn route(node: &Node, report: &mut Report<'_>) -> Option<Route> {
    let mut fields = fields(node, report)?;
    let route =
        Route { to: fields.required("to", report, prefix), via: fields.required("via", report, address) };
    fields.finish(report);
    Some(route)
}

pub(super) fn neighbor(node: &Node, report: &mut Report<'_>) -> Option<Neighbor> {
    let mut fields = fields(node, report)?;
    let neighbor = Neighbor {
        address: fields.required("address", report, address),
        mac: fields.required("mac", report, mac),
    };
    fields.finish(report);
    Some(neighbor)
}

pub(super) fn virtual_network(fields: &mut Fields<'_>, report: &mut Report<'_>) -> VirtualNetwork {
    VirtualNetwork {
        address_space: fields.list("address_space", report, prefixes),
        route_prefixes: fields.list("route_prefixes", report, placed(prefixes)),
        subnets: fields.list("subnets", report, subnet),
        interfaces: fields.list("interfaces", report, interface),
    }
}

fn subnet(node: &Node, report: &mut Report<'_>) -> Option<Subnet> {
    let mut fields = fields(node, report)?;
    let subnet = Subnet {
        name: fields.required("name", report, name),
        prefixes: fields.filled_list("prefixes", report, placed(prefixes)),
        security_group: fields.optional("security_group", report, name),
        syn_proxy: fields.or("syn_proxy", SynProxyMode::Off, report, word),
    };
    fields.finish(report);
    Some(subnet)
}

fn interface(node: &Node, report: &mut Report<'_>) -> Option<Interface> {
    let mut fields = fields(node, report)?;
    let interface = Interface {
        address: fields.required("address", report, address),
        security_group: fields.optional("security_group", report, name),
        application_security_groups: fields.list("application_security_groups", report, placed(name)),
    };
    fields.finish(report);
    Some(interface)
}
