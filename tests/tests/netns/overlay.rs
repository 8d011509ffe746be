//! A segment of an overlay as a port: backends behind the kernel's vxlan device, over IPv4 and IPv6.
//!
//! ```text
//! client eth0 ──── eth1 appliance eth2 ──── eth0 web-1: vxlan device, 10.9.0.4
//!                       └ segment ═══════════════════╛
//! ```

use super::appliance::{Appliance, number, write_config};
use super::config::Driver;
use super::lab::{CLIENT, CLIENT6, Lab, VIP, VIP6};
use super::offload;
use super::peer::{Datagrams, PATIENCE, Server, at, download, upload, who_many};

/// This end, the backend's, and one that nobody has.
const OUTER: [[&str; 3]; 2] =
    [["10.2.0.1", "10.2.0.4", "10.2.0.77"], ["fd00:2::1", "fd00:2::4", "fd00:2::77"]];
const BACKEND: [&str; 2] = ["10.9.0.4", "fd00:9::4"];

const OPEN: u16 = 8080;
const DATAGRAM: u16 = 9000;
const BULK: u64 = 4_000_000;

fn config(family: usize) -> String {
    let driver = Driver::of_this_run();
    let (outside, under, dataplane) = (driver.keys("eth1"), driver.keys("eth2"), driver.dataplane());
    let [own, remote, nobody] = OUTER[family];
    format!(
        r#"version: 1
name: overlay
dataplane: {{workers: [1], flow_capacity: 20_000{dataplane}}}
ports:
  - {{name: outside, {outside}, addresses: [203.0.113.1/24, "2001:db8:113::1/64"], trust: untrusted}}
  - {{name: under, {under}, addresses: [10.2.0.1/24, "fd00:2::1/64"], trust: trusted}}
  - {{name: pool, driver: vxlan, vxlan: {{port: under, vni: 42, local: "{own}", remotes: ["{remote}", "{nobody}"]}}, addresses: [10.9.0.1/24, "fd00:9::1/64"], trust: trusted}}
routes:
  - {{to: 0.0.0.0/0, via: {CLIENT}}}
  - {{to: "::/0", via: "{CLIENT6}"}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {{name: apps, prefixes: [10.9.0.0/24, "fd00:9::/64"], security_group: apps-nsg}}
security_groups:
  - name: apps-nsg
    rules:
      - {{name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [{OPEN}]}}
      - {{name: datagrams, priority: 110, direction: inbound, access: allow, protocol: udp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [{DATAGRAM}]}}
load_balancers:
  - name: public
    frontends: [{{name: vip, address: {VIP}}}, {{name: vip6, address: "{VIP6}"}}]
    pools:
      - {{name: web, backends: [{{name: web-1, address: 10.9.0.4}}]}}
      - {{name: web6, backends: [{{name: web6-1, address: "fd00:9::4"}}]}}
    rules:
      - {{name: http, frontend: vip, protocol: all, port: 0, pool: web, backend_port: 0}}
      - {{name: http6, frontend: vip6, protocol: all, port: 0, pool: web6, backend_port: 0}}
"#
    )
}

#[test]
fn backends_behind_the_kernels_vxlan_device() {
    for family in [0, 1] {
        let Some(lab) = Lab::build("backends_behind_the_kernels_vxlan_device") else { return };
        let [own, remote, _] = OUTER[family];
        let web = &lab.web[0];
        web.ip_all(&format!(
            "link add pool type vxlan id 42 local {remote} remote {own} dstport 4789 dev eth0\nlink set pool up\n\
             address add 10.9.0.4/24 dev pool\naddress add fd00:9::4/64 dev pool nodad\n\
             route replace default via 10.9.0.1 dev pool\nroute replace default via fd00:9::1 dev pool\n"
        ));
        // The kernel leaves the segmentation of what is in a tunnel to a device that is none.
        lab.offloads_off();
        web.run(|| offload::switch_off("pool"));
        let _inside = Server::start(web, 1, &[OPEN], &[DATAGRAM]);
        let _outside = Server::start(&lab.client, 2, &[OPEN], &[]);
        write_config(&lab.folder, &config(family));
        let appliance = Appliance::restart(&lab);
        for ((vip, backend), client) in [VIP, VIP6].into_iter().zip(BACKEND).zip([CLIENT, CLIENT6]) {
            // Balanced to what is behind the tunnel, and routed there.
            for to in [vip, backend] {
                assert_eq!(upload(&lab.client, at(to, OPEN), 5, BULK).expect("it ends"), BULK, "{to}");
                assert_eq!(download(&lab.client, at(to, OPEN), 6, BULK).expect("it ends"), BULK, "{to}");
                assert_eq!(who_many(&lab.client, at(to, OPEN), 40).get(&1), Some(&40));
                let mut datagrams = Datagrams::open(&lab.client, at(to, DATAGRAM), PATIENCE);
                for _ in 0..20 {
                    assert_eq!(datagrams.turn(1000), Some(1));
                }
            }
            assert_eq!(upload(web, at(client, OPEN), 7, BULK).expect("it ends"), BULK, "from inside");
        }
        let stats = appliance.ports_conserve();
        let ports = stats["ports"].as_array().expect("a list of ports");
        let pool = ports.iter().find(|port| port["port"] == "pool").expect("the segment is listed");
        assert!(number(&pool["received"]) > 2000 && number(&pool["transmitted"]) > 2000, "{pool}");
        assert_eq!(number(&pool["dropped"]["tunnel_bad_peer"]), 0);
        // A vxlan device that is no remote is not listened to.
        web.ip_all(&format!(
            "address add 10.2.0.99/24 dev eth0\naddress add fd00:2::99/64 dev eth0 nodad\nlink del pool\n\
             link add pool type vxlan id 42 local {} remote {own} dstport 4789 dev eth0\nlink set pool up\n\
             address add 10.9.0.4/24 dev pool\n",
            if family == 0 { "10.2.0.99" } else { "fd00:2::99" }
        ));
        web.run(|| {
            let socket = std::net::UdpSocket::bind("10.9.0.4:0").expect("its address");
            for _ in 0..3 {
                // What the kernel says of address resolution is no concern here.
                let _ = socket.send_to(b"x", "10.9.0.1:9");
            }
        });
        super::lab::wait_until("it was refused", || appliance.dropped("tunnel_bad_peer") > 0);
        appliance.ports_conserve();
    }
}
