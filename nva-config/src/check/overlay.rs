//! Segments: ports that another port carries, and whether a route leads to the other ends of tunnels.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Once;
use super::gateway::check_address;
use super::names::Names;
use crate::model::{Driver, Encapsulation, PortIndex, Prefix, Segment};
use crate::raw::{self, Raw};
use crate::report::{At, Place, Report, quote};

/// Other ends of a segment: each gets a copy of what is for all stations.
const REMOTES_MAX: usize = 64;

/// The segments by the place of their port; `None` for one on a device.
pub(super) fn check(raw: &Raw, names: &Names<'_>, report: &mut Report<'_>) -> Vec<Option<Segment>> {
    check_order(raw, report);
    let mut vnis = Once::new();
    let ports = raw.ports.items.iter();
    let segments = ports.map(|port| one(port, raw, names, &mut vnis, report));
    segments.collect()
}

/// Ports on devices have the first numbers: those are their queues' too.
fn check_order(raw: &Raw, report: &mut Report<'_>) {
    let is_segment = |port: &raw::Port| port.driver.is_some_and(|driver| driver.value == Driver::Vxlan);
    let Some(last) = raw.ports.items.iter().rposition(|port| !is_segment(port)) else { return };
    for port in raw.ports.items.iter().take(last).filter(|port| is_segment(port)) {
        if let Some(driver) = &port.driver {
            let message =
                "ports with `driver: vxlan` stand behind all others; move this one to the end of the list";
            report.problem(driver.at, message);
        }
    }
}

fn one(
    port: &raw::Port,
    whole: &Raw,
    names: &Names<'_>,
    vnis: &mut Once<(IpAddr, u32)>,
    report: &mut Report<'_>,
) -> Option<Segment> {
    let At { value: segment, .. } = port.vxlan.as_ref()?;
    if let Some(services) = &port.host_services {
        let message = "`host_services` are of ports on devices; a segment has none, remove the key";
        report.problem(services.at, message);
    }
    let carrier = segment.port.as_ref().and_then(|name| names.find(name, report));
    let facts = carrier.and_then(|index| whole.ports.items.get(index));
    check_carrier(segment.port.as_ref(), facts, report);
    if let Some(local) = &segment.local {
        check_address(local, facts, "the port that carries the segment", report);
        check_remotes(segment, local.value, report);
    }
    warn_of_no_way(whole, carrier, &segment.remotes.items, report);
    if let (Some(local), Some(vni)) = (&segment.local, &segment.vni) {
        vnis.note(&At { value: (local.value, vni.value), at: vni.at }, report, |first| {
            format!("the VNI {} is taken at {first}; give each segment its own", vni.value)
        });
    }
    Some(Segment {
        port: PortIndex(carrier?),
        vni: segment.vni?.value,
        local: segment.local?.value,
        remotes: segment.remotes.items.iter().map(|remote| remote.value).collect(),
        udp_port: segment.udp_port?.value,
        learn: segment.learn?.value,
    })
}

/// What carries a tunnel is on a device.
pub(super) fn check_carrier(name: Option<&At<String>>, port: Option<&raw::Port>, report: &mut Report<'_>) {
    let is_segment = port.and_then(|port| port.driver).is_some_and(|driver| driver.value == Driver::Vxlan);
    if let (Some(name), true) = (name, is_segment) {
        let quoted = quote(&name.value);
        report.problem(name.at, format!("the port {quoted} is a segment itself; name one on a device"));
    }
}

/// Other ends are single hosts, of the local address's IP version, each listed once.
fn check_remotes(segment: &raw::Segment, local: IpAddr, report: &mut Report<'_>) {
    let remotes = &segment.remotes;
    if remotes.items.len() > REMOTES_MAX {
        let count = remotes.items.len();
        report.problem(remotes.at, format!("{count} remotes; at most {REMOTES_MAX} are taken"));
    }
    let mut seen = Once::new();
    for remote in &remotes.items {
        let text = remote.value;
        let is_new = seen.note(remote, report, |first| {
            format!("the remote {text} is listed at {first} already; list it once")
        });
        if !is_new {
            continue;
        }
        let wrong = if text == local {
            "is the segment's own end; list the others"
        } else if text.is_ipv4() != local.is_ipv4() {
            "is of another IP version than the local end; list remotes of the same"
        } else {
            continue;
        };
        report.problem(remote.at, format!("the remote {text} {wrong}"));
    }
}

/// At an address, a segment has no VNI of a gateway's tunnel, and no UDP port of Geneve's.
pub(super) fn check_ends(raw: &Raw, report: &mut Report<'_>) {
    let mut vnis: HashMap<(IpAddr, u32), Place> = HashMap::new();
    let mut geneve: HashMap<(IpAddr, u16), Place> = HashMap::new();
    for gateway in &raw.gateways.items {
        let is_geneve = gateway.encapsulation.is_some_and(|one| one.value == Encapsulation::Geneve);
        for tunnel in &gateway.tunnels.items {
            let Some(end) = tunnel.address.as_ref().or(gateway.address.as_ref()) else { continue };
            if let Some(vni) = &tunnel.vni {
                vnis.entry((end.value, vni.value)).or_insert(vni.at);
            }
            if let Some(port) = tunnel.udp_port.as_ref().filter(|_| is_geneve) {
                geneve.entry((end.value, port.value)).or_insert(port.at);
            }
        }
    }
    for segment in raw.ports.items.iter().filter_map(|port| port.vxlan.as_ref()) {
        let segment = &segment.value;
        let Some(local) = &segment.local else { continue };
        if let Some(vni) = &segment.vni
            && let Some(first) = vnis.get(&(local.value, vni.value))
        {
            let first = report.location(*first);
            report.problem(
                vni.at,
                format!("the VNI {} is a gateway's at {first}; give the segment another", vni.value),
            );
        }
        if let Some(port) = &segment.udp_port
            && let Some(first) = geneve.get(&(local.value, port.value))
        {
            let first = report.location(*first);
            report.problem(
                port.at,
                format!("the UDP port {} is geneve's at {first}; give the segment another", port.value),
            );
        }
    }
}

/// Warns of each other end of a tunnel to which nothing leads by the port that carries it.
pub(super) fn warn_of_no_way(raw: &Raw, port: Option<usize>, ends: &[At<IpAddr>], report: &mut Report<'_>) {
    let Some(port) = port.and_then(|index| raw.ports.items.get(index)) else { return };
    let on_link = |address: IpAddr| {
        port.addresses
            .items
            .iter()
            .any(|own| holds(Prefix::containing(own.value.0, own.value.1).ok(), address))
    };
    for end in ends.iter().filter(|end| !on_link(end.value)) {
        let leads = |route: &raw::Route| {
            holds(route.to.map(|to| to.value), end.value) && route.via.is_some_and(|via| on_link(via.value))
        };
        if !raw.routes.items.iter().any(leads) {
            let name = port.name.as_ref().map_or("", |name| name.value.as_str());
            report.warn(end.at, format!("no route leads to {} by the port {}", end.value, quote(name)));
        }
    }
}

fn holds(prefix: Option<Prefix>, address: IpAddr) -> bool {
    prefix.is_some_and(|prefix| {
        Prefix::containing(address, prefix.len())
            .is_ok_and(|own| own == prefix && address.is_ipv4() == prefix.is_ipv4())
    })
}
