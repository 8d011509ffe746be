//! The gateways: where their tunnels end, who is at the other end, and the pair of tunnels of each.

use std::collections::HashMap;
use std::net::IpAddr;

use super::names::Names;
use super::{Once, overlay};
use crate::model::{Encapsulation, Gateway, MappedFrontend, PortIndex, Prefix, SynProxyMode, Trust, Tunnel};
use crate::raw::{self, Raw};
use crate::report::{At, Place, Report, list};

/// Tunnels of all gateways, counted once for each peer: each has a number of its own in the data plane.
const TUNNEL_ENDS_MAX: usize = 16_384;
/// Whoever sends to it, at an address where tunnels end, is told why that is wrong.
const VXLAN_PORT: u16 = 4789;
/// Prefixes behind a frontend: each is asked about for a new flow.
const BEHIND_MAX: usize = 64;

/// Checks the gateways against the ports and each other.
pub(super) fn check(raw: &Raw, ports: &Names<'_>, report: &mut Report<'_>) -> Vec<Gateway> {
    let all = &raw.gateways;
    let tunnels = || all.items.iter().flat_map(|gateway| &gateway.tunnels.items);
    let complete = all.complete && all.items.iter().all(|gateway| gateway.tunnels.complete);
    Names::collect("tunnel", tunnels().map(|tunnel| &tunnel.name), complete, report);
    let ends: usize = all.items.iter().map(|g| g.tunnels.items.len() * g.peers.items.len()).sum();
    if ends > TUNNEL_ENDS_MAX {
        let message =
            format!("{ends} tunnels, counted once for each peer; at most {TUNNEL_ENDS_MAX} are taken");
        report.problem(all.at, message);
    }
    let mut vnis = Once::new();
    let mut frontends = Once::new();
    let gateways = all.items.iter().filter_map(|gateway| {
        check_frontends(gateway, &mut frontends, report);
        one(gateway, raw, ports, &mut vnis, report)
    });
    let gateways = gateways.collect();
    check_encapsulations(raw, report);
    overlay::check_ends(raw, report);
    gateways
}

fn one(
    raw: &raw::Gateway,
    whole: &Raw,
    ports: &Names<'_>,
    vnis: &mut Once<(IpAddr, u32)>,
    report: &mut Report<'_>,
) -> Option<Gateway> {
    let port = raw.port.as_ref().and_then(|name| ports.find(name, report));
    let facts = |index: Option<usize>| index.and_then(|index| whole.ports.items.get(index));
    if let Some(address) = &raw.address {
        check_address(address, facts(port), "the gateway's port", report);
        overlay::warn_of_no_way(whole, port, &raw.peers.items, report);
    }
    overlay::check_carrier(raw.port.as_ref(), facts(port), report);
    check_peers(raw, report);
    check_tunnels(raw, report);
    check_syn_proxy(raw, report);
    let mut tunnels = Vec::new();
    for (place, tunnel) in raw.tunnels.items.iter().enumerate() {
        let own_port = tunnel.port.as_ref().map(|name| ports.find(name, report));
        overlay::check_carrier(tunnel.port.as_ref(), facts(own_port.flatten()), report);
        if tunnel.port.is_some() || tunnel.address.is_some() {
            let address = tunnel.address.as_ref().or(raw.address.as_ref());
            if let Some(address) = address {
                let at =
                    tunnel.address.as_ref().map_or(tunnel.port.as_ref().map(|port| port.at), |a| Some(a.at));
                let placed = At { value: address.value, at: at.unwrap_or(address.at) };
                check_address(&placed, facts(own_port.unwrap_or(port)), "the tunnel's port", report);
                check_family(raw, &placed, report);
            }
        }
        let end = tunnel.address.or(raw.address);
        if let (Some(end), Some(vni)) = (&end, &tunnel.vni)
            && (place == 0 || !is_geneve(raw))
        {
            let key = At { value: (end.value, vni.value), at: vni.at };
            vnis.note(&key, report, |first| {
                format!("the VNI {} is taken at {first}; give each tunnel its own", vni.value)
            });
        }
        tunnels.extend(checked(tunnel, own_port.unwrap_or(port), end.map(|end| end.value)));
    }
    Some(Gateway {
        peers: raw.peers.items.iter().map(|peer| peer.value).collect(),
        tunnels,
        encapsulation: raw.encapsulation?.value,
        frontends: mapped_frontends(raw),
        mtu: raw.mtu.map(|mtu| mtu.value),
        dscp: raw.dscp?.value,
        zero_checksum_ipv6: raw.zero_checksum_ipv6?.value,
        clamp_mss: raw.clamp_mss?.value,
        syn_proxy: raw.syn_proxy?.value,
    })
}

/// Both tunnels of the gateway are one on the wire.
fn is_geneve(raw: &raw::Gateway) -> bool {
    raw.encapsulation.is_some_and(|one| one.value == Encapsulation::Geneve)
}

fn checked(raw: &raw::Tunnel, port: Option<usize>, address: Option<IpAddr>) -> Option<Tunnel> {
    Some(Tunnel {
        name: raw.name.as_ref()?.value.clone(),
        trust: raw.trust?.value,
        vni: raw.vni?.value,
        udp_port: raw.udp_port?.value,
        port: PortIndex(port?),
        address: address?,
    })
}

fn mapped_frontends(raw: &raw::Gateway) -> Vec<MappedFrontend> {
    let of = |(address, backends): &(At<IpAddr>, raw::List<At<Prefix>>)| MappedFrontend {
        address: address.value,
        backends: backends.items.iter().map(|prefix| prefix.value).collect(),
    };
    raw.frontends.iter().map(of).collect()
}

/// The tunnel endpoint is an address of the port.
pub(super) fn check_address(
    address: &At<IpAddr>,
    port: Option<&raw::Port>,
    whose: &str,
    report: &mut Report<'_>,
) {
    let Some(port) = port else { return };
    let own = &port.addresses;
    if !own.complete || own.items.iter().any(|entry| entry.value.0 == address.value) {
        return;
    }
    let texts: Vec<String> = own.items.iter().take(8).map(|entry| entry.value.0.to_string()).collect();
    let right = if texts.is_empty() {
        "the port has none".to_owned()
    } else {
        format!("it has {}", list(texts.iter().map(String::as_str), "and"))
    };
    report.problem(address.at, format!("{} is no address of {whose}; {right}", address.value));
}

/// The address of a tunnel of its own is of the peers' IP version.
fn check_family(raw: &raw::Gateway, address: &At<IpAddr>, report: &mut Report<'_>) {
    let other = raw.peers.items.iter().find(|peer| peer.value.is_ipv4() != address.value.is_ipv4());
    if let Some(peer) = other {
        let message = format!(
            "{} is of another IP version than the peer {}; give one of the same",
            address.value, peer.value
        );
        report.problem(address.at, message);
    }
}

/// Peers are others, of the endpoint's IP version, each listed once.
fn check_peers(raw: &raw::Gateway, report: &mut Report<'_>) {
    let mut seen = Once::new();
    for peer in &raw.peers.items {
        let text = peer.value;
        if !seen
            .note(peer, report, |first| format!("the peer {text} is listed at {first} already; list it once"))
        {
            continue;
        }
        let Some(address) = &raw.address else { continue };
        let own = raw.tunnels.items.iter().filter_map(|tunnel| tunnel.address.as_ref());
        if own.chain([address]).any(|own| own.value == text) {
            report.problem(
                peer.at,
                format!("the peer {text} is the gateway's own address; list the other ends"),
            );
        } else if text.is_ipv4() != address.value.is_ipv4() {
            let own = address.value;
            report.problem(
                peer.at,
                format!("the peer {text} is of another IP version than {own}; list peers of the same"),
            );
        }
    }
}

/// One trusted and one untrusted tunnel, told apart by VNI and by UDP port; with Geneve, alike in both.
fn check_tunnels(raw: &raw::Gateway, report: &mut Report<'_>) {
    let mut trusts: Once<&'static str> = Once::new();
    let mut udp_ports = Once::new();
    for tunnel in &raw.tunnels.items {
        if let Some(trust) = tunnel.trust {
            let word = trust.value.as_str();
            let key = At { value: word, at: trust.at };
            trusts.note(&key, report, |first| {
                format!("there is a tunnel with `trust: {word}` at {first}; a gateway has one trusted and one untrusted tunnel")
            });
        }
        if let Some(port) = tunnel.udp_port.as_ref().filter(|_| !is_geneve(raw)) {
            udp_ports.note(port, report, |first| {
                format!("the UDP port {} is taken at {first}; give each tunnel its own", port.value)
            });
        }
    }
    if is_geneve(raw) {
        check_alike(raw, report);
    }
    let readable = raw.tunnels.complete && raw.tunnels.items.iter().all(|tunnel| tunnel.trust.is_some());
    for trust in [Trust::Trusted, Trust::Untrusted] {
        let missing = raw.tunnels.items.iter().all(|t| t.trust.is_some_and(|t| t.value != trust));
        if readable && missing && raw.tunnels.items.len() == 1 {
            let at = raw.tunnels.at;
            report.problem(at, format!("there is no tunnel with `trust: {trust}`; a gateway has one trusted and one untrusted tunnel"));
        }
    }
}

/// With Geneve, both tunnels of a gateway are one on the wire.
fn check_alike(raw: &raw::Gateway, report: &mut Report<'_>) {
    let [first, rest @ ..] = raw.tunnels.items.as_slice() else { return };
    for tunnel in rest {
        if let (Some(one), Some(other)) = (&first.vni, &tunnel.vni)
            && one.value != other.value
        {
            let message = "with Geneve both tunnels have one; give both the same, or neither";
            report.problem(other.at, format!("the VNI {} is not {}; {message}", other.value, one.value));
        }
        if let (Some(one), Some(other)) = (&first.udp_port, &tunnel.udp_port)
            && one.value != other.value
        {
            let message = "with Geneve both tunnels have one; give both the same, or neither";
            report.problem(other.at, format!("the UDP port {} is not {}; {message}", other.value, one.value));
        }
    }
}

/// What the proxy says by itself came in no envelope.
fn check_syn_proxy(raw: &raw::Gateway, report: &mut Report<'_>) {
    if let Some(proxy) = raw.syn_proxy.filter(|proxy| proxy.value != SynProxyMode::Off)
        && is_geneve(raw)
    {
        report.problem(proxy.at, "the SYN proxy cannot go with `encapsulation: geneve`, as a packet goes back in the envelope that it came in, and those of the proxy came in none; use off, or vxlan");
    }
}

/// At an address, a UDP port is of one encapsulation, and with Geneve not of VXLAN's own.
fn check_encapsulations(raw: &Raw, report: &mut Report<'_>) {
    let mut taken: HashMap<(IpAddr, u16), (Encapsulation, Place)> = HashMap::new();
    for gateway in &raw.gateways.items {
        let Some(encapsulation) = gateway.encapsulation.map(|one| one.value) else { continue };
        for tunnel in &gateway.tunnels.items {
            let end = tunnel.address.as_ref().or(gateway.address.as_ref());
            let (Some(end), Some(port)) = (end, &tunnel.udp_port) else { continue };
            if encapsulation == Encapsulation::Geneve && port.value == VXLAN_PORT {
                let message = "is VXLAN's own; give Geneve another, or leave the key out for 6081";
                report.problem(port.at, format!("the UDP port {VXLAN_PORT} {message}"));
            }
            let key = (end.value, port.value);
            let (other, first) = *taken.entry(key).or_insert((encapsulation, port.at));
            if other != encapsulation {
                let (first, port_) = (report.location(first), port.value);
                let message = "give each encapsulation its own UDP ports";
                report.problem(port.at, format!("the UDP port {port_} is {other}'s at {first}; {message}"));
            }
        }
    }
}

/// Each frontend is mapped once, to prefixes of its own family.
fn check_frontends(raw: &raw::Gateway, seen: &mut Once<IpAddr>, report: &mut Report<'_>) {
    for (address, backends) in &raw.frontends {
        let text = address.value;
        seen.note(address, report, |first| {
            format!("the frontend {text} is mapped at {first} already; map it once")
        });
        if backends.items.len() > BEHIND_MAX {
            let message = format!(
                "{} prefixes are behind the frontend {text}; at most {BEHIND_MAX} are taken",
                backends.items.len()
            );
            report.problem(backends.at, message);
        }
        for prefix in backends.items.iter().filter(|prefix| prefix.value.is_ipv4() != text.is_ipv4()) {
            let message = format!(
                "{} is of another IP version than the frontend {text}; list prefixes of the same",
                prefix.value
            );
            report.problem(prefix.at, message);
        }
    }
}
