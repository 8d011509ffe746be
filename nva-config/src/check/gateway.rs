//! The gateway: its port, its address, and its pair of tunnels.

use super::Once;
use super::names::Names;
use crate::model::{Gateway, PortIndex, Trust, Tunnel};
use crate::raw::{self, Raw};
use crate::report::{At, Report, list};

/// Checks the section against the ports.
pub(super) fn check(
    raw: &raw::Gateway,
    whole: &Raw,
    ports: &Names<'_>,
    report: &mut Report<'_>,
) -> Option<Gateway> {
    let port = raw.port.as_ref().and_then(|name| ports.find(name, report));
    check_address(raw, port.and_then(|index| whole.ports.items.get(index)), report);
    check_peers(raw, report);
    check_tunnels(raw, report);
    let tunnels = raw.tunnels.items.iter().filter_map(|tunnel| {
        Some(Tunnel {
            name: tunnel.name.as_ref()?.value.clone(),
            trust: tunnel.trust?.value,
            vni: tunnel.vni?.value,
            udp_port: tunnel.udp_port?.value,
        })
    });
    Some(Gateway {
        port: PortIndex(port?),
        address: raw.address?.value,
        peers: raw.peers.items.iter().map(|peer| peer.value).collect(),
        tunnels: tunnels.collect(),
    })
}

/// The tunnel endpoint is an address of the port.
fn check_address(raw: &raw::Gateway, port: Option<&raw::Port>, report: &mut Report<'_>) {
    let (Some(address), Some(port)) = (&raw.address, port) else { return };
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
    report.problem(address.at, format!("{} is no address of the gateway's port; {right}", address.value));
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
        if text == address.value {
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

/// One trusted and one untrusted tunnel, told apart by VNI and by UDP port.
fn check_tunnels(raw: &raw::Gateway, report: &mut Report<'_>) {
    Names::collect("tunnel", raw.tunnels.items.iter().map(|t| &t.name), raw.tunnels.complete, report);
    let mut trusts: Once<&'static str> = Once::new();
    let mut vnis = Once::new();
    let mut udp_ports = Once::new();
    for tunnel in &raw.tunnels.items {
        if let Some(trust) = tunnel.trust {
            let word = trust.value.as_str();
            let key = At { value: word, at: trust.at };
            trusts.note(&key, report, |first| {
                format!("there is a tunnel with `trust: {word}` at {first}; a gateway has one trusted and one untrusted tunnel")
            });
        }
        if let Some(vni) = &tunnel.vni {
            vnis.note(vni, report, |first| {
                format!("the VNI {} is taken at {first}; give each tunnel its own", vni.value)
            });
        }
        if let Some(port) = &tunnel.udp_port {
            udp_ports.note(port, report, |first| {
                format!("the UDP port {} is taken at {first}; give each tunnel its own", port.value)
            });
        }
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
