//! A client and a server on a road, and the contender between them as a proxy.

use crate::compare::contender::{Contender, Driver};
use crate::compare::road::{FAR, LEFT, NEAR, RIGHT, Road};
use crate::compare::space::Space;
use crate::compare::{Cores, nva};
use crate::traffic::{FRONTEND, SERVICE};
use std::net::{Ipv4Addr, SocketAddr};

/// Where the server listens for bulk transfers: behind the proxy, and past it.
pub(super) const SPLICED: u16 = 445;
pub(super) const DIRECT: u16 = 446;
/// Where it listens for connections that last: behind the proxy, and past it.
pub(super) const LASTING: [u16; 2] = [447, 448];

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const CLIENT_MAC: &str = "02:00:00:00:71:02";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 4);
const SERVER_MAC: &str = "02:00:00:00:02:04";

/// A port of the frontend.
pub(super) fn frontend(port: u16) -> SocketAddr {
    SocketAddr::from((FRONTEND, port))
}

/// Makes the source a client's host and the sink a server's, which is behind the frontend. What kernels leave to devices, checksums and
/// segmentation, they do themselves where the driver cannot.
pub(super) fn settle(road: &Road, driver: Option<Driver>) -> Result<(), String> {
    let (source, sink) = (road.source(), road.sink());
    let frontend = Ipv4Addr::from(FRONTEND);
    for command in [
        format!("link set {NEAR} address {CLIENT_MAC}"),
        format!("address add {CLIENT}/24 dev {NEAR}"),
        format!("neighbor add {frontend} lladdr 02:00:00:00:00:01 dev {NEAR} nud permanent"),
    ] {
        source.ip(&command)?;
    }
    // Many short connections, each with a port of its own for as long as its end is remembered.
    source.set("ipv4/ip_local_port_range", "1024 65535")?;
    source.set("ipv4/tcp_tw_reuse", "0")?;
    for command in [
        format!("link set {FAR} address {SERVER_MAC}"),
        format!("address add {SERVER}/24 dev {FAR}"),
        format!("address add {frontend}/32 dev lo"),
        format!("neighbor add 10.2.0.1 lladdr 02:00:00:00:00:02 dev {FAR} nud permanent"),
        "route add default via 10.2.0.1".to_owned(),
    ] {
        sink.ip(&command)?;
    }
    if driver == Some(Driver::AfXdp) {
        for (space, device) in [(source, NEAR), (sink, FAR)] {
            space.feed("ethtool", &["-K", device, "tx", "off", "tso", "off", "gso", "off"], "")?;
        }
    }
    Ok(())
}

/// Ports of which clients have to prove themselves, and others.
const ASKING: [u16; 3] = [SERVICE, SPLICED, LASTING[0]];
const OPEN: [u16; 2] = [DIRECT, LASTING[1]];

fn list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(", ")
}

/// A frontend that always asks for cookies, save on some ports.
pub(super) fn config(driver: Driver, cores: Cores) -> String {
    let neighbor = format!("neighbors:\n- {{address: {CLIENT}, mac: \"{CLIENT_MAC}\"}}\n");
    let mut text = nva::config(driver, &[], cores.worker).replacen("neighbors:\n", &neighbor, 1);
    text += &format!(
        "  - {{name: web, priority: 4001, direction: inbound, access: allow, protocol: tcp, source: [Internet], source_ports: [\"*\"], \
         destination: [{SERVER}], destination_ports: [{}]}}\n\
         load_balancers:\n- name: lb\n  frontends: [{{name: vip, address: {}}}]\n  pools:\n  - name: web\n    backends:\n    \
         - {{name: web-1, address: {SERVER}}}\n  rules:\n",
        list(&[&ASKING[..], &OPEN].concat()),
        Ipv4Addr::from(FRONTEND)
    );
    let modes = ASKING.map(|port| (port, "always")).into_iter().chain(OPEN.map(|port| (port, "off")));
    for (port, mode) in modes {
        text += &format!(
            "  - {{name: p{port}, frontend: vip, protocol: tcp, port: {port}, pool: web, backend_port: {port}, syn_proxy: {mode}}}\n"
        );
    }
    text
}

/// The kernel as a proxy in front of the same ports, as the documentation of nftables has it: SYNs are not tracked, and what is not known
/// is for the proxy. It routes to the server's own address: nothing is translated.
pub(super) fn kernel(space: &Space, cores: Cores) -> Result<Contender, String> {
    Contender::kernel_with(space, cores, || {
        let frontend = Ipv4Addr::from(FRONTEND);
        space.ip(&format!("route add {frontend}/32 via {SERVER} dev {RIGHT}"))?;
        space.ip(&format!("neighbor add {CLIENT} lladdr {CLIENT_MAC} dev {LEFT} nud permanent"))?;
        space.nft(&rules())?;
        // Without `loose` an acknowledgement that nobody asked for begins no connection. Ports that are free again are to be new.
        for (setting, value) in [
            ("ipv4/tcp_syncookies", "1"),
            ("ipv4/tcp_timestamps", "1"),
            ("netfilter/nf_conntrack_tcp_loose", "0"),
            ("netfilter/nf_conntrack_tcp_timeout_time_wait", "30"),
        ] {
            space.set(setting, value)?;
        }
        Ok(())
    })
}

fn rules() -> String {
    let ports = format!("{{ {} }}", list(&ASKING));
    let open = format!("{{ {} }}", list(&OPEN));
    format!(
        "table ip perf {{\n  chain early {{\n    type filter hook prerouting priority raw;\n    \
         iifname \"{LEFT}\" tcp dport {ports} tcp flags & (fin|syn|rst|ack) == syn notrack\n  }}\n  \
         chain forward {{\n    type filter hook forward priority 0; policy drop;\n    \
         tcp dport {ports} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm\n    \
         ct state invalid drop\n    ct state established,related accept\n    tcp dport {open} accept\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::load;

    #[test]
    fn the_configurations_are_good() {
        for driver in [Driver::AfXdp, Driver::AfPacket] {
            let config = load(&config(driver, Cores { worker: 1, generator: 0 })).expect("it is good");
            assert_eq!(config.load_balancers[0].rules.len(), 5);
        }
    }

    #[test]
    fn the_kernel_asks_for_cookies_on_the_same_ports() {
        let text = rules();
        assert_eq!(text.matches("dport { 443, 445, 447 }").count(), 2);
        assert!(text.contains("dport { 446, 448 } accept"));
    }
}
