//! The kernel's sockets behind the data plane: services reached from near and far, connections of the kernel's own, and nothing of it
//! left behind.

use super::appliance::{Appliance, number, write_config};
use super::config::{Config, Driver, OPEN};
use super::lab::{CLIENT, CLIENT6, Lab, OWN, OWN6, VIP, VIP6, WEB, WEB6, cable, wait_until};
use super::peer::{Datagrams, Server, at, download, servers, upload, who};
use super::ping::ping;
use super::space::Space;
use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto};
use rustix::process::Signal;
use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

/// The services of the untrusted port.
const SERVICE: u16 = 7000;
const DATAGRAMS: u16 = 7001;
/// A port on which the appliance's kernel listens too, and that is not listed.
const UNLISTED: u16 = 7002;
/// A host behind a router.
const FAR: &str = "198.51.100.9";
const FAR6: &str = "2001:db8:9::9";
/// How long somebody listens in vain.
const SILENCE: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(10);
const BULK: u64 = 2_000_000;

/// The configuration with host interfaces at the untrusted port and at the first backend's.
fn text(services: &str, workers: &str) -> String {
    let plain = Config::default().text();
    let text = plain
        .replace("trust: untrusted}", &format!("trust: untrusted, host_services: [{services}]}}"))
        .replacen("trust: trusted}", "trust: trusted, host_services: []}", 1)
        .replace("workers: [1]", &format!("workers: [{workers}]"));
    assert_eq!(text.matches("host_services").count(), 2);
    text + &format!(
        "routes:\n  - {{to: 198.51.100.0/24, via: {CLIENT}}}\n  - {{to: \"2001:db8:9::/64\", via: \"{CLIENT6}\"}}\n"
    )
}

fn listed() -> String {
    format!("tcp/{SERVICE}, udp/{DATAGRAMS}")
}

fn start(lab: &Lab, workers: &str) -> Appliance {
    lab.appliance.set("ipv4/ping_group_range", "0 0");
    let text = text(&listed(), workers);
    // DPDK's driver on packet sockets has as many queues as it is told.
    let text = if workers.contains(',') { text.replace("iface=", "qpairs=2,iface=") } else { text };
    write_config(&lab.folder, &text);
    Appliance::restart(lab)
}

/// A host behind the client, which is its router.
fn far_host(lab: &Lab) -> Space {
    let far = Space::new(lab.client.name().replace("client", "far"));
    cable(&lab.client, "eth1", &far, "eth0");
    for (space, device) in [(&lab.client, "eth1"), (&far, "eth0")] {
        space.set(&format!("ipv6/conf/{device}/accept_dad"), "0");
    }
    far.set("ipv4/ping_group_range", "0 0");
    lab.client.set("ipv4/ip_forward", "1");
    lab.client.set("ipv6/conf/all/forwarding", "1");
    lab.client.ip_all(
        "link set eth1 up\naddress add 198.51.100.254/24 dev eth1\naddress add 2001:db8:9::fe/64 dev eth1 nodad\n",
    );
    far.ip_all(&format!(
        "link set eth0 up\naddress add {FAR}/24 dev eth0\naddress add {FAR6}/64 dev eth0 nodad\n\
         route add default via 198.51.100.254\nroute add default via 2001:db8:9::fe\n"
    ));
    far
}

/// What the appliance's namespace has of host interfaces: links, addresses, routes, rules.
fn traces(lab: &Lab) -> String {
    let mut found = String::new();
    for command in ["link", "address", "rule", "-6 rule", "route show table all", "-6 route show table all"] {
        let shown = lab.appliance.ip(command);
        let lines = shown.lines().filter(|line| line.contains("nva-") || line.contains("proto 110"));
        found.extend(lines.map(|line| format!("{command}: {line}\n")));
    }
    found
}

fn host(appliance: &Appliance, port: usize, counter: &str) -> u64 {
    number(&appliance.show("stats")["ports"][port]["host"][counter])
}

#[track_caller]
fn is_silent(from: &Space, address: &str, port: u16) {
    let to = at(address, port);
    let error = from.run(|| TcpStream::connect_timeout(&to, SILENCE)).expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: {error}");
}

#[test]
fn services_are_reached_from_near_and_far_and_nothing_else() {
    let Some(lab) = Lab::build("services_are_reached_from_near_and_far_and_nothing_else") else { return };
    let far = far_host(&lab);
    let appliance = start(&lab, "1");
    let _server = Server::start(&lab.appliance, 7, &[SERVICE, UNLISTED], &[DATAGRAMS]);
    for (from, address) in [(&lab.client, OWN), (&lab.client, OWN6), (&far, OWN), (&far, OWN6)] {
        let to = at(address, SERVICE);
        assert_eq!(who(from, to).expect("an answer"), 7);
        assert_eq!(upload(from, to, 3, BULK).expect("the upload ends"), BULK);
        assert_eq!(download(from, to, 4, BULK).expect("the download ends"), BULK);
        assert!(ping(from, address, 56, PATIENCE), "echo stays the appliance's");
    }
    for address in [OWN, OWN6] {
        let mut datagrams = Datagrams::open(&lab.client, at(address, DATAGRAMS), PATIENCE);
        assert_eq!(datagrams.turn(100), Some(7));
        assert_eq!(datagrams.turn(Driver::of_this_run().longest_datagram()), Some(7), "in fragments");
        // It listens, and is not reached.
        assert_eq!(who(&lab.appliance, at(address, UNLISTED)).expect("an answer"), 7);
        is_silent(&lab.client, address, UNLISTED);
        is_silent(&far, address, UNLISTED);
        // A service of another port than that of the address, and than that by which it comes.
        is_silent(&lab.web[0], address, SERVICE);
    }
    for address in ["10.2.0.1", "fd00:2::1"] {
        assert_eq!(who(&lab.appliance, at(address, SERVICE)).expect("an answer"), 7);
        is_silent(&lab.web[0], address, SERVICE);
    }
    let stats = appliance.show("stats");
    assert!(host(&appliance, 0, "to_kernel") > 1000 && host(&appliance, 0, "from_kernel") > 1000, "{stats}");
    assert_eq!(host(&appliance, 1, "to_kernel"), 0, "{stats}");
    assert_eq!(host(&appliance, 0, "refused"), 0, "{stats}");
    assert_eq!(number(&stats["flows_created"]), 0, "no service takes a flow record");
    appliance.conserves();
}

#[test]
fn what_the_kernel_begins_is_answered() {
    let Some(lab) = Lab::build("what_the_kernel_begins_is_answered") else { return };
    let far = far_host(&lab);
    let _near = Server::start(&lab.client, 1, &[SERVICE], &[DATAGRAMS]);
    let _web = Server::start(&lab.web[0], 2, &[SERVICE], &[DATAGRAMS]);
    let _far = Server::start(&far, 3, &[SERVICE], &[DATAGRAMS]);
    let appliance = start(&lab, "1");
    let own = &lab.appliance;
    for (name, address) in [(1, CLIENT), (1, CLIENT6), (2, WEB[0]), (2, WEB6[0])] {
        let to = at(address, SERVICE);
        assert_eq!(who(own, to).expect("an answer"), name);
        assert_eq!(upload(own, to, 5, BULK).expect("the upload ends"), BULK);
        assert_eq!(download(own, to, 6, BULK).expect("the download ends"), BULK);
        assert!(ping(own, address, 56, PATIENCE), "{address}");
        assert_eq!(
            Datagrams::open(own, at(address, DATAGRAMS), PATIENCE)
                .turn(Driver::of_this_run().longest_datagram()),
            Some(name)
        );
    }
    // Bound to the port's address, to where the machine itself has no route.
    for (bound, address) in [(OWN, FAR), (OWN6, FAR6)] {
        let socket = own.run(|| UdpSocket::bind(at(bound, 0))).expect("the address is the kernel's too");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send_to(b"question", at(address, DATAGRAMS)).expect("there is a way");
        let mut answer = [0; 20];
        let (len, from) = socket.recv_from(&mut answer).expect("an answer");
        assert_eq!((&answer[..len], from), (&b"\x03question"[..], at(address, DATAGRAMS)));
        // Whoever was not asked does not get in.
        let stranger = lab.client.run(|| UdpSocket::bind(at(if bound == OWN { CLIENT } else { CLIENT6 }, 0)));
        let port = socket.local_addr().expect("it is bound").port();
        stranger.expect("a free port").send_to(b"unasked", at(bound, port)).expect("there is a route");
        socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
        assert!(socket.recv_from(&mut answer).is_err());
    }
    assert_eq!(number(&appliance.show("stats")["flows_created"]), 0);
    appliance.conserves();
}

#[test]
fn times_to_live_stay_as_they_are() {
    let Some(lab) = Lab::build("times_to_live_stay_as_they_are") else { return };
    let appliance = start(&lab, "1");
    for (from, to, source, destination) in
        [(&lab.client, &lab.appliance, CLIENT, OWN), (&lab.appliance, &lab.client, OWN, CLIENT)]
    {
        // A raw socket gets the IP header.
        let raw = to.run(|| rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::UDP)));
        let raw = raw.expect("root may open a raw socket");
        let sender = from.run(|| UdpSocket::bind(at(source, DATAGRAMS))).expect("a free port");
        sender.set_ttl(255).expect("a setting");
        sender.send_to(b"bfd", at(destination, DATAGRAMS)).expect("there is a route");
        let mut packet = [0; 100];
        let mut received = None;
        wait_until("the datagram", || {
            received = rustix::net::recv(&raw, &mut packet, RecvFlags::DONTWAIT).ok().map(|(len, _)| len);
            received.is_some()
        });
        assert_eq!((packet[8], received), (255, Some(20 + 8 + 3)), "{source}");
    }
    appliance.conserves();
}

#[test]
fn nothing_stays_behind() {
    let Some(lab) = Lab::build("nothing_stays_behind") else { return };
    let _server = Server::start(&lab.appliance, 7, &[SERVICE], &[]);
    assert_eq!(traces(&lab), "");
    let appliance = start(&lab, "1");
    let at_work = traces(&lab);
    for part in ["nva-untrusted", "nva-web1", "proto 110", OWN, OWN6] {
        assert!(at_work.contains(part), "{part} in\n{at_work}");
    }
    assert!(!at_work.contains("nva-web2"));
    appliance.kill();
    let left: Vec<String> = traces(&lab).lines().map(str::to_owned).collect();
    assert!(
        left.iter().all(|line| line.contains("rule:")),
        "rules to an empty table, and nothing else: {left:?}"
    );
    // It starts again, and replaces what was left.
    let appliance = Appliance::restart(&lab);
    let rules = |text: &str| text.lines().filter(|line| line.contains("rule:")).count();
    assert_eq!(rules(&traces(&lab)), rules(&at_work));
    assert_eq!(who(&lab.client, at(OWN, SERVICE)).expect("an answer"), 7);
    let (status, _) = appliance.stop();
    assert!(status.success());
    assert_eq!(traces(&lab), "");
    is_silent(&lab.client, OWN, SERVICE);
}

#[test]
fn services_change_with_the_configuration() {
    let Some(lab) = Lab::build("services_change_with_the_configuration") else { return };
    let appliance = start(&lab, "1");
    let _server = Server::start(&lab.appliance, 7, &[SERVICE, UNLISTED], &[]);
    let reload = |services: &str, says: &str| {
        let before = appliance.said(says);
        write_config(&lab.folder, &text(services, "1"));
        appliance.signal(Signal::HUP);
        wait_until(says, || appliance.said(says) > before);
    };
    assert_eq!(who(&lab.client, at(OWN6, SERVICE)).expect("an answer"), 7);
    reload(&format!("tcp/{UNLISTED}"), "is in use");
    assert_eq!(who(&lab.client, at(OWN6, UNLISTED)).expect("an answer"), 7);
    is_silent(&lab.client, OWN6, SERVICE);
    write_config(&lab.folder, &Config::default().text());
    appliance.signal(Signal::HUP);
    wait_until("it says why not", || appliance.said("cannot change while the appliance runs") > 0);
    assert_eq!(who(&lab.client, at(OWN, UNLISTED)).expect("an answer"), 7);
    appliance.conserves();
}

#[test]
fn two_workers_share_the_host_interfaces() {
    let name = "two_workers_share_the_host_interfaces";
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: {name}: needs two cores");
        return;
    }
    let Some(lab) = Lab::build(name) else { return };
    let far = far_host(&lab);
    let appliance = start(&lab, "0, 1");
    let _service = Server::start(&lab.appliance, 7, &[SERVICE], &[]);
    let _servers = [
        Server::start(&lab.client, 1, &[OPEN], &[DATAGRAMS]),
        Server::start(&lab.web[0], 2, &[OPEN], &[DATAGRAMS]),
        Server::start(&far, 3, &[], &[DATAGRAMS]),
    ];
    // Each address belongs to some worker, and each port's queues are steered by another end.
    for (name, address) in [(1, CLIENT), (1, CLIENT6), (2, WEB[0]), (2, WEB6[0])] {
        assert_eq!(who(&lab.appliance, at(address, OPEN)).expect("an answer"), name);
        assert_eq!(upload(&lab.appliance, at(address, OPEN), 1, BULK).expect("the upload ends"), BULK);
        assert_eq!(
            Datagrams::open(&lab.appliance, at(address, DATAGRAMS), PATIENCE)
                .turn(Driver::of_this_run().longest_datagram()),
            Some(name)
        );
        assert!(ping(&lab.appliance, address, 56, PATIENCE), "{address}");
    }
    for (from, address) in [(&lab.client, OWN), (&far, OWN6)] {
        assert_eq!(download(from, at(address, SERVICE), 2, BULK).expect("the download ends"), BULK);
    }
    appliance.conserves();
}

#[test]
fn a_flood_to_a_service_leaves_the_data_path_alone() {
    let Some(lab) = Lab::build("a_flood_to_a_service_leaves_the_data_path_alone") else { return };
    let _servers = servers(&lab);
    let appliance = start(&lab, "1");
    // Nobody reads from it, so that what the kernel takes ends in its buffer.
    let _socket = lab.appliance.run(|| UdpSocket::bind(at(OWN, DATAGRAMS))).expect("a free port");
    let flood = Datagrams::open(&lab.client, at(OWN, DATAGRAMS), SILENCE);
    let (stopping, mut sent) = (std::sync::atomic::AtomicBool::new(false), 0_u64);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let mut sent = 0;
            while !stopping.load(std::sync::atomic::Ordering::Relaxed) {
                flood.send(64);
                sent += 1;
            }
            sent
        });
        for vip in [VIP, VIP6] {
            assert_eq!(download(&lab.client, at(vip, OPEN), 8, BULK).expect("the download ends"), BULK);
            assert_eq!(upload(&lab.client, at(vip, OPEN), 9, BULK).expect("the upload ends"), BULK);
        }
        stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        sent = flooding.join().expect("no panic");
    });
    let stats = appliance.show("stats");
    let host = &stats["ports"][0]["host"];
    let (taken, full) = (number(&host["to_kernel"]), number(&host["to_kernel_full"]));
    println!("{sent} datagrams sent, {taken} given to the kernel, {full} dropped before it");
    assert!(sent > 1000 && taken > 500, "{stats}");
    assert_eq!(number(&stats["ports"][0]["dropped"]["tx_queue_full"]), full, "{stats}");
    appliance.conserves();
}
