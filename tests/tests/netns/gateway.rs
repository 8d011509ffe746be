//! The appliance behind a gateway load balancer, which is the kernel's: two vxlan devices, each bridged to one side.
//!
//! ```text
//! client eth0 ──── outside ┐                                    ┌ external (untrusted)
//!                          ├─ vxlan ─┐                          │
//!                 balancer │         ├─ eth0 ──── eth2 appliance┤
//!                          ├─ vxlan ─┘                          │
//! server eth0 ──── inside  ┘                                    └ internal (trusted)
//! ```

use super::appliance::{Appliance, number, write_config};
use super::config::Driver;
use super::lab::{Lab, cable, mac};
use super::offload;
use super::peer::{Datagrams, PATIENCE, Server, at, download, upload, who_many};
use super::space::Space;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

const CLIENT: [&str; 2] = ["198.51.100.7", "2001:db8:51::7"];
const SERVER: [&str; 2] = ["198.51.100.10", "2001:db8:51::10"];
/// This end and the balancer's, over IPv4 and over IPv6.
const OUTER: [[&str; 2]; 2] = [["10.2.0.1", "10.2.0.4"], ["fd00:2::1", "fd00:2::4"]];

const OPEN: u16 = 8080;
const CLOSED: u16 = 8081;
const DATAGRAM: u16 = 9000;
const BULK: u64 = 4_000_000;

/// The balancer with a client before it and a server behind it.
struct Chain {
    lab: Lab,
    client: Space,
    server: Space,
}

/// What links and tunnels carry.
#[derive(Clone, Copy)]
struct Sizes {
    inner: u16,
    outer: u16,
    /// `gateway.mtu`, where it is less than the outer link's.
    path: Option<u16>,
}

impl Sizes {
    /// Whole frames inside, where the driver takes what that makes of them outside.
    fn usual() -> Self {
        match Driver::of_this_run() {
            // Its driver on packet sockets takes no MTU above 1500.
            Driver::Dpdk => Self { inner: 1400, outer: 1500, path: None },
            Driver::AfPacket | Driver::AfXdp => Self { inner: 1500, outer: 1600, path: None },
        }
    }
}

impl Chain {
    /// Builds it, over IPv4 or IPv6. `None`, said, where that cannot be done.
    fn build(test: &str, family: usize, sizes: Sizes) -> Option<Self> {
        let lab = Lab::build(test)?;
        let name = |what: &str| format!("{}-{what}", lab.web[0].name());
        let (client, server) = (Space::new(name("client")), Space::new(name("server")));
        let balancer = &lab.web[0];
        cable(&client, "eth0", balancer, "outside");
        cable(&server, "eth0", balancer, "inside");
        let [own, peer] = OUTER[family];
        let Sizes { inner, outer, .. } = sizes;
        lab.appliance.ip(&format!("link set eth2 mtu {outer}"));
        balancer.ip(&format!("link set eth0 mtu {outer}"));
        let mut commands = String::new();
        for (end, vni, port) in [("outside", 801, 10801), ("inside", 800, 10800)] {
            commands.push_str(&format!(
                "link add v{vni} type vxlan id {vni} local {peer} remote {own} dstport {port} nolearning dev eth0\n\
                 link add b{vni} type bridge\nlink set {end} mtu {inner} master b{vni}\nlink set v{vni} mtu {inner} master b{vni}\n"
            ));
        }
        balancer.ip_all(&commands);
        for device in ["outside", "inside", "v800", "v801", "b800", "b801"] {
            balancer.set(&format!("ipv6/conf/{device}/disable_ipv6"), "1");
            balancer.ip(&format!("link set {device} up"));
        }
        for (space, addresses) in [(&client, CLIENT), (&server, SERVER)] {
            space.set("ipv6/conf/eth0/accept_dad", "0");
            space.set("ipv6/conf/eth0/router_solicitations", "0");
            let [v4, v6] = addresses;
            space.ip_all(&format!(
                "link set eth0 mtu {inner} up\naddress add {v4}/24 dev eth0\naddress add {v6}/64 dev eth0 nodad\n"
            ));
        }
        let chain = Self { lab, client, server };
        // Address resolution does not go through a wire that passes IP.
        chain.know(&chain.client, SERVER, &chain.server);
        chain.know(&chain.server, CLIENT, &chain.client);
        for (space, device) in [
            (&chain.client, "eth0"),
            (&chain.server, "eth0"),
            (&chain.lab.web[0], "outside"),
            (&chain.lab.web[0], "inside"),
            (&chain.lab.web[0], "eth0"),
            (&chain.lab.appliance, "eth2"),
        ] {
            space.run(|| offload::switch_off(device));
        }
        Some(chain)
    }

    fn know(&self, space: &Space, addresses: [&str; 2], other: &Space) {
        for address in addresses {
            space.ip(&format!(
                "neighbor replace {address} lladdr {} nud permanent dev eth0",
                mac(other, "eth0")
            ));
        }
    }

    fn start(&self, family: usize, sizes: Sizes, keys: &str) -> Appliance {
        write_config(&self.lab.folder, &config(family, sizes, keys));
        Appliance::restart(&self.lab)
    }
}

/// A gateway, and one rule for what is behind the frontends.
fn config(family: usize, sizes: Sizes, keys: &str) -> String {
    let driver = Driver::of_this_run();
    let ([own, peer], device, dataplane) = (OUTER[family], driver.keys("eth2"), driver.dataplane());
    let path = sizes.path.map_or(String::new(), |mtu| format!("  mtu: {mtu}\n"));
    format!(
        r#"version: 1
name: gateway
dataplane: {{workers: [1], flow_capacity: 20_000{dataplane}}}
ports:
  - {{name: trusted, {device}, mtu: {}, addresses: [10.2.0.1/24, "fd00:2::1/64"], trust: trusted}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {{name: apps, prefixes: [10.9.0.0/24, "fd00:9::/64"], security_group: apps-nsg}}
security_groups:
  - name: apps-nsg
    rules:
      - {{name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: [Internet], source_ports: ["*"], destination: [10.9.0.4, "fd00:9::4"], destination_ports: [{OPEN}]}}
      - {{name: datagrams, priority: 110, direction: inbound, access: allow, protocol: udp, source: [Internet], source_ports: ["*"], destination: [10.9.0.4, "fd00:9::4"], destination_ports: [{DATAGRAM}]}}
gateway:
  port: trusted
  address: "{own}"
  peers: ["{peer}"]
{path}{keys}  frontends: {{{}: [10.9.0.4], "{}": ["fd00:9::4"]}}
  tunnels:
    - {{name: internal, trust: trusted, vni: 800, udp_port: 10800}}
    - {{name: external, trust: untrusted, vni: 801, udp_port: 10801}}
"#,
        sizes.outer, SERVER[0], SERVER[1]
    )
}

/// Connections from either side, datagrams, what is denied, and what was counted.
fn everything_passes(test: &str, sizes: Sizes) {
    for family in [0, 1] {
        let Some(chain) = Chain::build(test, family, sizes) else { return };
        let _server = Server::start(&chain.server, 1, &[OPEN, CLOSED], &[DATAGRAM]);
        let _outside = Server::start(&chain.client, 2, &[OPEN], &[]);
        let appliance = chain.start(family, sizes, "");
        for (client, server) in CLIENT.into_iter().zip(SERVER) {
            assert_eq!(upload(&chain.client, at(server, OPEN), 5, BULK).expect("it ends"), BULK);
            assert_eq!(download(&chain.client, at(server, OPEN), 6, BULK).expect("it ends"), BULK);
            // What is behind the frontends may begin too.
            assert_eq!(upload(&chain.server, at(client, OPEN), 7, BULK).expect("it ends"), BULK);
            assert_eq!(who_many(&chain.client, at(server, OPEN), 40).get(&1), Some(&40));
            let mut datagrams = Datagrams::open(&chain.client, at(server, DATAGRAM), PATIENCE);
            for _ in 0..20 {
                assert_eq!(datagrams.turn(1000), Some(1));
            }
            let to = at(server, CLOSED);
            let silence = Duration::from_millis(500);
            let error =
                chain.client.run(|| TcpStream::connect_timeout(&to, silence)).expect_err("nobody answers");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: {error}");
        }
        assert!(appliance.dropped("denied_by_rule") >= 2);
        let stats = appliance.ports_conserve();
        let tunnels = stats["tunnels"].as_array().expect("a list of tunnels");
        assert_eq!(tunnels.len(), 2);
        for tunnel in tunnels {
            assert!(number(&tunnel["received"]) > 1000 && number(&tunnel["transmitted"]) > 1000, "{tunnel}");
        }
        let of = |what: &str| tunnels.iter().map(|tunnel| number(&tunnel[what])).sum::<u64>();
        assert!(of("received") - of("dropped") == of("transmitted"), "{stats}");
        for flow in appliance.list("flows") {
            let ports = [&flow["from_port"], &flow["to_port"]].map(|port| port.as_str().unwrap_or_default());
            assert!(ports == ["external", "internal"] || ports == ["internal", "external"], "{flow}");
        }
    }
}

#[test]
fn a_gateway_load_balancer_of_the_kernels_vxlan_devices() {
    everything_passes("a_gateway_load_balancer_of_the_kernels_vxlan_devices", Sizes::usual());
}

#[test]
fn a_gateway_load_balancer_with_long_frames() {
    let test = "a_gateway_load_balancer_with_long_frames";
    let sizes = match Driver::of_this_run() {
        Driver::AfPacket => Sizes { inner: 3900, outer: 4000, path: None },
        Driver::AfXdp => Sizes { inner: 3600, outer: 3700, path: None },
        Driver::Dpdk => {
            println!("skipped: {test}: DPDK's driver on packet sockets takes no MTU above 1500");
            return;
        }
    };
    everything_passes(test, sizes);
}

#[test]
fn clients_prove_themselves_in_the_tunnel_that_they_came_by() {
    let (test, sizes) = ("clients_prove_themselves_in_the_tunnel_that_they_came_by", Sizes::usual());
    for family in [0, 1] {
        let Some(chain) = Chain::build(test, family, sizes) else { return };
        let _server = Server::start(&chain.server, 1, &[OPEN], &[]);
        let _outside = Server::start(&chain.client, 2, &[OPEN], &[]);
        let appliance = chain.start(family, sizes, "  syn_proxy: always\n");
        let mut connections = 0;
        for (client, server) in CLIENT.into_iter().zip(SERVER) {
            assert_eq!(upload(&chain.client, at(server, OPEN), 5, BULK).expect("it ends"), BULK);
            assert_eq!(download(&chain.client, at(server, OPEN), 6, BULK).expect("it ends"), BULK);
            assert_eq!(who_many(&chain.client, at(server, OPEN), 40).get(&1), Some(&40));
            connections += 42;
            // Who is behind the frontend has nothing to prove.
            assert_eq!(upload(&chain.server, at(client, OPEN), 7, BULK).expect("it ends"), BULK);
        }
        let proxy = &appliance.show("protection")["syn_proxy"];
        let of = |name: &str| number(&proxy[name]);
        assert_eq!((of("cookies_valid"), of("spliced"), of("half_open")), (connections, connections, 0));
        appliance.ports_conserve();
    }
}

#[test]
fn tcp_adapts_to_a_narrow_way_to_the_balancer() {
    let test = "tcp_adapts_to_a_narrow_way_to_the_balancer";
    let usual = Sizes::usual();
    let sizes = Sizes { path: Some(usual.inner), ..usual };
    for family in [0, 1] {
        let Some(chain) = Chain::build(test, family, sizes) else { return };
        let _server = Server::start(&chain.server, 1, &[OPEN], &[]);
        let appliance = chain.start(family, sizes, "");
        let room = sizes.inner - if family == 0 { 50 } else { 70 };
        for server in SERVER {
            assert_eq!(upload(&chain.client, at(server, OPEN), 5, BULK).expect("it ends"), BULK);
            assert_eq!(download(&chain.client, at(server, OPEN), 6, BULK).expect("it ends"), BULK);
            let route = chain.client.ip(&format!("route get {server}"));
            assert!(
                route.contains(&format!("mtu {room}")),
                "the client was told, inside the tunnel: {route}"
            );
        }
        assert!(number(&appliance.ports_conserve()["total"]["replied"]) >= 4);
        // Told beforehand, in what the ends announce, nobody needs to be.
        drop(appliance);
        let Some(chain) = ({
            drop(chain);
            Chain::build(test, family, sizes)
        }) else {
            return;
        };
        let _server = Server::start(&chain.server, 1, &[OPEN], &[]);
        let appliance = chain.start(family, sizes, "  clamp_mss: true\n");
        for server in SERVER {
            assert_eq!(upload(&chain.client, at(server, OPEN), 5, BULK).expect("it ends"), BULK);
            assert_eq!(download(&chain.client, at(server, OPEN), 6, BULK).expect("it ends"), BULK);
        }
        assert_eq!(appliance.dropped("too_big"), 0);
        let replied = appliance.ports_conserve();
        assert!(number(&replied["total"]["replied"]) <= 4, "no more than address resolution: {replied}");
    }
}

/// A public load balancer, an appliance of its own: frontends on the gateway's inside, a backend behind its other port.
fn public_balancer(chain: &Chain) -> String {
    let driver = Driver::of_this_run();
    let (outside, inside, dataplane) = (driver.keys("eth4"), driver.keys("eth3"), driver.dataplane());
    let client = mac(&chain.client, "eth0");
    format!(
        r#"version: 1
name: balancer
dataplane: {{workers: [1], flow_capacity: 20_000{dataplane}}}
ports:
  - {{name: outside, {outside}, addresses: [198.51.100.1/24, "2001:db8:51::1/64"], trust: untrusted}}
  - {{name: inside, {inside}, addresses: [10.3.0.1/24, "fd00:3::1/64"], trust: trusted}}
neighbors:
  - {{address: {}, mac: "{client}"}}
  - {{address: "{}", mac: "{client}"}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets: [{{name: apps, prefixes: [10.3.0.0/24, "fd00:3::/64"], security_group: apps-nsg}}]
security_groups:
  - name: apps-nsg
    rules:
      - {{name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: [Internet], source_ports: ["*"], destination: ["*"], destination_ports: [{OPEN}]}}
load_balancers:
  - name: public
    frontends: [{{name: vip, address: {}}}, {{name: vip6, address: "{}"}}]
    pools:
      - {{name: web, backends: [{{name: web-2, address: 10.3.0.4}}]}}
      - {{name: web6, backends: [{{name: web6-2, address: "fd00:3::4"}}]}}
    rules:
      - {{name: http, frontend: vip, protocol: tcp, port: 80, pool: web, backend_port: {OPEN}}}
      - {{name: http6, frontend: vip6, protocol: tcp, port: 80, pool: web6, backend_port: {OPEN}}}
"#,
        CLIENT[0], CLIENT[1], SERVER[0], SERVER[1]
    )
}

#[test]
fn a_gateway_chained_with_a_load_balancer() {
    let test = "a_gateway_chained_with_a_load_balancer";
    if Driver::of_this_run() == Driver::Dpdk {
        println!("skipped: {test}: two appliances beside each other with DPDK need cores of their own");
        return;
    }
    let sizes = Sizes::usual();
    let Some(chain) = Chain::build(test, 0, sizes) else { return };
    // In the server's place there is the load balancer.
    let gateway = &chain.lab.web[0];
    gateway.ip("link del inside");
    cable(&chain.lab.appliance, "eth4", gateway, "inside");
    gateway.set("ipv6/conf/inside/disable_ipv6", "1");
    chain.lab.appliance.set("ipv6/conf/eth4/disable_ipv6", "1");
    gateway.ip(&format!("link set inside mtu {} master b800 up", sizes.inner));
    chain.lab.appliance.ip("link set eth4 up");
    gateway.run(|| offload::switch_off("inside"));
    chain.lab.appliance.run(|| offload::switch_off("eth4"));
    for address in SERVER {
        let station = mac(&chain.lab.appliance, "eth4");
        chain.client.ip(&format!("neighbor replace {address} lladdr {station} nud permanent dev eth0"));
    }
    let _server = Server::start(&chain.lab.web[1], 3, &[OPEN], &[]);
    // What the gateway judges is the frontend's port.
    let rules =
        config(0, sizes, "").replace(&format!("destination_ports: [{OPEN}]"), "destination_ports: [80]");
    write_config(&chain.lab.folder, &rules);
    let inspector = Appliance::restart(&chain.lab);
    let balancer = Appliance::start_beside(&chain.lab, "balancer", &public_balancer(&chain));
    for vip in SERVER {
        assert_eq!(upload(&chain.client, at(vip, 80), 5, BULK).expect("it ends"), BULK);
        assert_eq!(download(&chain.client, at(vip, 80), 6, BULK).expect("it ends"), BULK);
        assert_eq!(who_many(&chain.client, at(vip, 80), 40).get(&3), Some(&40));
        let silence = Duration::from_millis(500);
        let closed = at(vip, CLOSED);
        assert!(chain.client.run(|| TcpStream::connect_timeout(&closed, silence)).is_err());
    }
    assert!(inspector.dropped("denied_by_rule") >= 2, "the gateway lets no other port through");
    assert_eq!(balancer.dropped("denied_by_rule"), 0);
    let flows = balancer.list("backends").iter().map(|one| number(&one["flows_created"])).sum::<u64>();
    assert!(flows >= 2 * 42, "{flows}");
    inspector.ports_conserve();
    balancer.ports_conserve();
}

#[test]
fn connections_live_through_reloads_and_sides_stay_apart() {
    let test = "connections_live_through_reloads_and_sides_stay_apart";
    let sizes = Sizes::usual();
    let Some(chain) = Chain::build(test, 0, sizes) else { return };
    let _server = Server::start(&chain.server, 1, &[OPEN], &[]);
    let appliance = chain.start(0, sizes, "");
    let mut echo = super::peer::Echo::open(&chain.client, at(SERVER[0], OPEN)).expect("it connects");
    for round in 1..=5 {
        echo.turn().expect("it comes back");
        let keys = format!("  dscp: {round}\n");
        let before = appliance.said("is in use");
        write_config(&chain.lab.folder, &config(0, sizes, &keys));
        appliance.signal(rustix::process::Signal::HUP);
        super::lab::wait_until("the configuration is taken up", || appliance.said("is in use") > before);
    }
    echo.turn().expect("it comes back");
    assert_eq!(appliance.dropped("tunnel_trust"), 0);
    // The balancer's two cables exchanged: every packet comes by the wrong tunnel now.
    chain.lab.web[0].ip_all("link set outside master b800\nlink set inside master b801\n");
    let silence = Duration::from_millis(500);
    assert!(chain.server.run(|| TcpStream::connect_timeout(&at(CLIENT[0], OPEN), silence)).is_err());
    assert!(appliance.dropped("tunnel_trust") >= 1, "a server's address outside");
    appliance.ports_conserve();
}
