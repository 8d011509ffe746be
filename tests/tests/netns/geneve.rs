//! The appliance behind a gateway load balancer that speaks Geneve. The kernel's geneve device cannot give back options that it does not
//! know, so the load balancer is a thread here, between a client's and a server's host interfaces and UDP sockets.
//!
//! ```text
//! client tap ──┐                       ┌── eth2 appliance: one tunnel, in which everything goes back
//!              ├─ thread, UDP 6081 ────┘
//! server tap ──┘
//! ```

use super::appliance::{Appliance, number, write_config};
use super::config::Driver;
use super::lab::{Lab, mac};
use super::peer::{Datagrams, PATIENCE, Server, at, download, upload, who_many};
use super::space::Space;
use pmd_shim::tap::{self, Tap, TapOptions};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CLIENT: [&str; 2] = ["198.51.100.7", "2001:db8:51::7"];
const SERVER: [&str; 2] = ["10.9.0.4", "fd00:9::4"];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0x51, 7];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 4];
/// This end and the balancer's, over IPv4 and over IPv6.
const OUTER: [[&str; 2]; 2] = [["10.2.0.1", "10.2.0.4"], ["fd00:2::1", "fd00:2::4"]];

const OPEN: u16 = 8080;
const CLOSED: u16 = 8081;
const DATAGRAM: u16 = 9000;
const BULK: u64 = 4_000_000;
/// What fits into an outer packet of 1500 bytes, over either family.
const INNER_MTU: u16 = 1400;

/// The load balancer, for as long as it lives.
struct Balancer {
    goes_on: Arc<AtomicBool>,
    /// Packets that came back in an envelope that was not theirs.
    strange: Arc<AtomicU64>,
    back: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
struct Wires {
    /// The client's and the server's.
    taps: [Tap; 2],
    /// Where packets come back.
    home: UdpSocket,
    /// Flows go out by one of these.
    ways: Vec<UdpSocket>,
    own: SocketAddr,
    /// By flow number, its source port.
    flows: HashMap<u32, u16>,
}

impl Wires {
    /// What a host sent, to the appliance.
    fn send(&mut self, frame: &[u8]) {
        let (kind, packet) = (&frame[12..14], &frame[14..]);
        let ends = match kind {
            [8, 0] => &packet[12..20],
            [0x86, 0xdd] => &packet[8..40],
            _ => return,
        };
        let cookie = ends.iter().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let way = &self.ways[cookie as usize % self.ways.len()];
        let port = way.local_addr().expect("it is bound").port();
        self.flows.insert(cookie, port);
        let header = [&[8, 0], kind, &[0, 0, 0, 0]].concat();
        // A datagram that the kernel has no room for is lost, as on any link.
        let _ = way.send_to(&[&header, &options(cookie)[..], packet].concat(), self.own);
    }

    /// What came back, to whom it is for; whether it came in its own envelope.
    fn deliver(&self, datagram: &[u8], from: SocketAddr) -> bool {
        let Some((head, packet)) = datagram.split_at_checked(40) else { return false };
        let cookie = u32::from_be_bytes([head[36], head[37], head[38], head[39]]);
        let is_right = head[0] == 8
            && head[8..40] == options(cookie)
            && self.flows.get(&cookie) == Some(&from.port())
            && from.ip() == self.own.ip();
        let to_server = match packet[0] >> 4 {
            4 => packet[16..20] == [10, 9, 0, 4],
            _ => packet[24..26] == [0xfd, 0],
        };
        let (tap, [to, from]) = match to_server {
            true => (&self.taps[1], [SERVER_MAC, CLIENT_MAC]),
            false => (&self.taps[0], [CLIENT_MAC, SERVER_MAC]),
        };
        tap.write(&[&to[..], &from, &head[2..4], packet].concat()).expect("it is switched on");
        is_right
    }
}

/// The three options of the load balancer.
fn options(cookie: u32) -> [u8; 32] {
    let mut options = [0; 32];
    options[..12].copy_from_slice(&[1, 8, 1, 2, 0xe0, 0, 0, 0, 0, 0, 0, 1]);
    options[12..24].copy_from_slice(&[1, 8, 2, 2, 0xa0, 0, 0, 0, 0, 0, 0, 2]);
    options[24..28].copy_from_slice(&[1, 8, 3, 1]);
    options[28..].copy_from_slice(&cookie.to_be_bytes());
    options
}

impl Balancer {
    fn start(lab: &Lab, hosts: [&Space; 2], family: usize) -> Self {
        let [own, peer] = OUTER[family].map(|address| address.parse::<IpAddr>().expect("an address"));
        let taps = [(CLIENT, CLIENT_MAC, SERVER), (SERVER, SERVER_MAC, CLIENT)];
        let taps = [0, 1].map(|n| {
            let (addresses, mac, others) = taps[n];
            let parsed = addresses.map(|address| address.parse::<IpAddr>().expect("an address"));
            let with_len = parsed.map(|address| (address, if address.is_ipv4() { 24 } else { 64 }));
            let options = TapOptions { mac, mtu: INNER_MTU, far_mtu: INNER_MTU, addresses: &with_len };
            let tap = hosts[n].run(|| tap::open("wire0", &options)).expect("an interface");
            let [v4, v6] = others;
            let mac = if n == 0 { SERVER_MAC } else { CLIENT_MAC };
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            hosts[n].ip_all(&format!(
                "route add {v4}/32 dev wire0\nroute add {v6}/128 dev wire0\n\
                 neighbor replace {v4} lladdr {mac} nud permanent dev wire0\n\
                 neighbor replace {v6} lladdr {mac} nud permanent dev wire0\n"
            ));
            tap
        });
        let bind = |port: u16| {
            let socket = lab.web[0].run(|| UdpSocket::bind((peer, port))).expect("a free port");
            socket.set_nonblocking(true).expect("a socket");
            socket
        };
        let (home, ways) = (bind(6081), (0..4).map(|_| bind(0)).collect());
        let mut wires = Wires { taps, home, ways, own: (own, 6081).into(), flows: HashMap::new() };
        let goes_on = Arc::new(AtomicBool::new(true));
        let [strange, back] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let (go, odd, came) = (Arc::clone(&goes_on), Arc::clone(&strange), Arc::clone(&back));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while go.load(Ordering::Relaxed) {
                let mut is_idle = true;
                for host in [0, 1] {
                    while let Ok(Some(len)) = wires.taps[host].read(&mut buffer) {
                        is_idle = false;
                        wires.send(&buffer[..len]);
                    }
                }
                while let Ok((len, from)) = wires.home.recv_from(&mut buffer) {
                    is_idle = false;
                    came.fetch_add(1, Ordering::Relaxed);
                    odd.fetch_add(u64::from(!wires.deliver(&buffer[..len], from)), Ordering::Relaxed);
                }
                if is_idle {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        Self { goes_on, strange, back, thread: Some(thread) }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn config(family: usize) -> String {
    let driver = Driver::of_this_run();
    let ([own, peer], device, dataplane) = (OUTER[family], driver.keys("eth2"), driver.dataplane());
    format!(
        r#"version: 1
name: gateway
dataplane: {{workers: [1], flow_capacity: 20_000{dataplane}}}
ports:
  - {{name: trusted, {device}, addresses: [10.2.0.1/24, "fd00:2::1/64"], trust: trusted}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {{name: apps, prefixes: [10.9.0.0/24, "fd00:9::/64"], security_group: apps-nsg}}
security_groups:
  - name: apps-nsg
    rules:
      - {{name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: [Internet], source_ports: ["*"], destination: ["*"], destination_ports: [{OPEN}]}}
      - {{name: datagrams, priority: 110, direction: inbound, access: allow, protocol: udp, source: [Internet], source_ports: ["*"], destination: ["*"], destination_ports: [{DATAGRAM}]}}
gateway:
  port: trusted
  address: "{own}"
  peers: ["{peer}"]
  encapsulation: geneve
  tunnels:
    - {{name: inside, trust: trusted}}
    - {{name: outside, trust: untrusted}}
"#
    )
}

#[test]
fn a_gateway_load_balancer_that_speaks_geneve() {
    let test = "a_gateway_load_balancer_that_speaks_geneve";
    for family in [0, 1] {
        let Some(lab) = Lab::build(test) else { return };
        let name = |what: &str| format!("{}-{what}", lab.web[0].name());
        let (client, server) = (Space::new(name("client")), Space::new(name("server")));
        let balancer = Balancer::start(&lab, [&client, &server], family);
        // Once they are known, nothing but the tunnel is on the wire.
        for own in ["10.2.0.1", "fd00:2::1"] {
            lab.web[0].ip(&format!(
                "neighbor replace {own} lladdr {} nud permanent dev eth0",
                mac(&lab.appliance, "eth2")
            ));
        }
        let _inside = Server::start(&server, 1, &[OPEN, CLOSED], &[DATAGRAM]);
        let _outside = Server::start(&client, 2, &[OPEN], &[]);
        write_config(&lab.folder, &config(family));
        let appliance = Appliance::restart(&lab);
        for (outer, inner) in CLIENT.into_iter().zip(SERVER) {
            assert_eq!(upload(&client, at(inner, OPEN), 5, BULK).expect("it ends"), BULK);
            assert_eq!(download(&client, at(inner, OPEN), 6, BULK).expect("it ends"), BULK);
            assert_eq!(upload(&server, at(outer, OPEN), 7, BULK).expect("it ends"), BULK);
            assert_eq!(who_many(&client, at(inner, OPEN), 40).get(&1), Some(&40));
            let mut datagrams = Datagrams::open(&client, at(inner, DATAGRAM), PATIENCE);
            for _ in 0..20 {
                assert_eq!(datagrams.turn(1000), Some(1));
            }
            let silence = Duration::from_millis(500);
            let error = client
                .run(|| TcpStream::connect_timeout(&at(inner, CLOSED), silence))
                .expect_err("nobody answers");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{inner}: {error}");
        }
        assert_eq!(balancer.strange.load(Ordering::Relaxed), 0, "each in its own envelope");
        assert!(balancer.back.load(Ordering::Relaxed) > 10_000);
        assert!(appliance.dropped("denied_by_rule") >= 2);
        let stats = appliance.ports_conserve();
        let tunnels = stats["tunnels"].as_array().expect("a list of tunnels");
        assert_eq!(tunnels.len(), 2);
        for tunnel in tunnels {
            assert!(number(&tunnel["received"]) > 1000 && number(&tunnel["transmitted"]) > 1000, "{tunnel}");
        }
    }
}
