//! Ports with their connected prefixes, routes and neighbours.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::names::Names;
use super::{Once, overlay};
use crate::model::{InterfaceAddress, Neighbor, Port, PortIndex, Prefix, Route, Segment};
use crate::raw::{self, Raw};
use crate::report::{At, Place, Report, quote};

/// An IPv6 link carries packets of at least this size (RFC 8200, section 5).
const IPV6_MTU_MIN: u16 = 1280;

/// What is reached without a router, and which addresses are the appliance's own.
pub(super) struct Connected {
    prefixes: HashMap<Prefix, (PortIndex, Place)>,
    /// The lengths among them, by family.
    lengths: BTreeSet<(bool, u8)>,
    own: HashMap<IpAddr, Place>,
    /// All addresses of all ports are in it.
    complete: bool,
}

impl Connected {
    /// Collects the ports' addresses; reports what they must not share.
    pub(super) fn collect(raw: &Raw, report: &mut Report<'_>) -> Self {
        let mut connected = Self {
            prefixes: HashMap::new(),
            lengths: BTreeSet::new(),
            own: HashMap::new(),
            complete: raw.ports.complete,
        };
        let mut devices = Once::new();
        let mut addresses = Once::new();
        for (index, port) in raw.ports.items.iter().enumerate() {
            if let Some(device) = &port.device {
                let name = quote(&device.value);
                devices.note(device, report, |first| {
                    format!("the device {name} is that of the port at {first}; give each port its own")
                });
            }
            connected.complete &= port.addresses.complete;
            for entry in &port.addresses.items {
                let (address, len) = entry.value;
                let key = At { value: address, at: entry.at };
                addresses.note(&key, report, |first| {
                    format!("the address {address} is given at {first} already; give it once")
                });
                connected.own.entry(address).or_insert(entry.at);
                if let Ok(prefix) = Prefix::containing(address, len) {
                    connected.add(prefix, PortIndex(index), entry.at, report);
                }
            }
            check_mtu(port, report);
            check_host_services(port, report);
        }
        connected
    }

    fn add(&mut self, prefix: Prefix, port: PortIndex, at: Place, report: &mut Report<'_>) {
        match self.prefixes.get(&prefix) {
            None => {
                self.prefixes.insert(prefix, (port, at));
                self.lengths.insert((prefix.is_ipv4(), prefix.len()));
            }
            Some((other, first)) if *other != port => {
                let first = report.location(*first);
                report.problem(
                    at,
                    format!(
                        "{prefix} is connected to another port at {first}; connect each prefix to one port"
                    ),
                );
            }
            Some(_) => {}
        }
    }

    /// The port behind which `address` is, by the longest connected prefix.
    fn port_of(&self, address: IpAddr) -> Option<PortIndex> {
        let lengths = self.lengths.iter().rev().filter(|(v4, _)| *v4 == address.is_ipv4());
        lengths
            .filter_map(|(_, len)| self.prefixes.get(&Prefix::containing(address, *len).ok()?))
            .map(|(port, _)| *port)
            .next()
    }

    /// Where the appliance was given this address, if it was.
    pub(super) fn own(&self, address: IpAddr) -> Option<Place> {
        self.own.get(&address).copied()
    }

    /// The port of a neighbour, which must be reached without a router and be someone else.
    fn neighbor_port(&self, address: &At<IpAddr>, report: &mut Report<'_>) -> Option<PortIndex> {
        if let Some(own) = self.own(address.value) {
            let own = report.location(own);
            report.problem(
                address.at,
                format!(
                    "{} is the appliance's own address, given at {own}; name another station",
                    address.value
                ),
            );
            return None;
        }
        let port = self.port_of(address.value);
        if port.is_none() && self.complete {
            report.problem(address.at, format!("{} is in no connected prefix; name a station in the prefix of one of `ports[].addresses`", address.value));
        }
        port
    }
}

fn check_mtu(port: &raw::Port, report: &mut Report<'_>) {
    let ipv6 = port.addresses.items.iter().any(|a| a.value.0.is_ipv6());
    if let Some(mtu) = &port.mtu
        && ipv6
        && mtu.value < IPV6_MTU_MIN
    {
        report.problem(
            mtu.at,
            format!("{} is too little for the port's IPv6 address; write at least {IPV6_MTU_MIN}", mtu.value),
        );
    }
}

/// The kernel's sockets are reached at the port's addresses, so there must be one.
fn check_host_services(port: &raw::Port, report: &mut Report<'_>) {
    if let Some(services) = &port.host_services
        && port.addresses.items.is_empty()
        && port.addresses.complete
    {
        let message = "`host_services` are reached at the port's addresses, and it has none; give it one in `addresses`";
        report.problem(services.at, message);
    }
}

/// The ports, in the order of the file.
pub(super) fn ports(raw: &Raw, names: &Names<'_>, report: &mut Report<'_>) -> Vec<Port> {
    let segments = overlay::check(raw, names, report);
    raw.ports.items.iter().zip(segments).filter_map(|(raw, segment)| port(raw, segment)).collect()
}

fn port(raw: &raw::Port, vxlan: Option<Segment>) -> Option<Port> {
    let addresses = raw.addresses.items.iter().filter_map(|entry| {
        let (address, len) = entry.value;
        Some(InterfaceAddress { address, prefix: Prefix::containing(address, len).ok()? })
    });
    Some(Port {
        name: raw.name.as_ref()?.value.clone(),
        driver: raw.driver?.value,
        device: match (&raw.vxlan, &raw.device) {
            (Some(raw), _) => format!("VNI {} on {}", raw.value.vni?.value, raw.value.port.as_ref()?.value),
            (None, device) => device.as_ref()?.value.clone(),
        },
        vxlan,
        mtu: raw.mtu?.value,
        addresses: addresses.collect(),
        trust: raw.trust?.value,
        host_services: raw.host_services.as_ref().map(|services| {
            services.items.iter().flat_map(|service| service.value.iter().copied()).collect()
        }),
    })
}

/// The routes: each destination once, each next hop on a port.
pub(super) fn routes(raw: &Raw, connected: &Connected, report: &mut Report<'_>) -> Vec<Route> {
    let mut destinations = Once::new();
    let mut routes = Vec::new();
    for route in &raw.routes.items {
        if let Some(to) = &route.to {
            destinations.note(to, report, |first| {
                format!("the route to {} is given at {first} already; keep one", to.value)
            });
        }
        let Some(via) = route.via else { continue };
        let port = connected.neighbor_port(&via, report);
        let Some(to) = route.to else { continue };
        if to.value.is_ipv4() != via.value.is_ipv4() {
            report.problem(
                via.at,
                format!(
                    "{} is of another IP version than {}; name a next hop of the same",
                    via.value, to.value
                ),
            );
            continue;
        }
        if let Some(port) = port {
            routes.push(Route { to: to.value, via: via.value, port });
        }
    }
    routes
}

/// The static neighbours: each address once, on a port.
pub(super) fn neighbors(raw: &Raw, connected: &Connected, report: &mut Report<'_>) -> Vec<Neighbor> {
    let mut addresses = Once::new();
    let mut neighbors = Vec::new();
    for neighbor in &raw.neighbors.items {
        let Some(address) = neighbor.address else { continue };
        let new = addresses.note(&address, report, |first| {
            format!("the neighbor {} is given at {first} already; keep one", address.value)
        });
        if !new {
            continue;
        }
        if let (Some(port), Some(mac)) = (connected.neighbor_port(&address, report), neighbor.mac) {
            neighbors.push(Neighbor { address: address.value, mac: mac.value, port });
        }
    }
    neighbors
}
