//! Host interfaces as the kernel sees them, in a network namespace of their own.

use pmd_shim::tap::{self, Tap, TapOptions, interface_name};
use std::net::{IpAddr, UdpSocket};
use std::process::Command;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0x0a, 0x01];

/// Runs a test in a thread with a network namespace of its own, which goes with the thread.
fn in_namespace(test: &str, body: impl FnOnce() + Send + 'static) {
    let ran = std::thread::spawn(move || {
        // SAFETY: takes no pointers; only the calling thread moves.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return false;
        }
        ip("link set lo up");
        body();
        true
    });
    match ran.join() {
        Ok(true) => {}
        Ok(false) => println!("skipped: {test}: needs root"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn open(port: &str, addresses: &[(&str, u8)]) -> Tap {
    let addresses: Vec<(IpAddr, u8)> =
        addresses.iter().map(|(address, len)| (address.parse().expect("an address"), *len)).collect();
    let options = TapOptions { mac: MAC, mtu: 1500, far_mtu: 1400, addresses: &addresses };
    tap::open(&interface_name(port), &options).expect("a host interface")
}

fn outside() -> Tap {
    open("outside", &[("203.0.113.1", 24), ("2001:db8:113::1", 64)])
}

/// The next frame of IPv4 or IPv6.
fn next(tap: &Tap) -> Vec<u8> {
    let mut buffer = [0; 2000];
    for _ in 0..1000 {
        if let Some(len) = tap.read(&mut buffer).expect("a frame or none") {
            return buffer[..len].to_vec();
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("no frame came");
}

#[test]
fn it_has_what_the_port_has_and_nothing_else() {
    in_namespace("it_has_what_the_port_has_and_nothing_else", || {
        let tap = outside();
        let link = ip("-o link show nva-outside");
        for part in ["NOARP", ",UP", "mtu 1500", "link/ether 02:00:00:00:0a:01"] {
            assert!(link.contains(part), "{part} in {link}");
        }
        let addresses = ip("-o address show nva-outside");
        assert_eq!(addresses.lines().count(), 2, "{addresses}");
        assert!(addresses.contains("203.0.113.1/24") && addresses.contains("2001:db8:113::1/64"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(tap.read(&mut [0; 2000]).expect("a look"), None, "it is silent");
        drop(tap);
    });
}

#[test]
fn what_has_its_address_leaves_by_it_and_the_machines_routes_stay() {
    in_namespace("what_has_its_address_leaves_by_it_and_the_machines_routes_stay", || {
        ip("link add mgmt type veth peer name far");
        ip("link set mgmt up");
        ip("link set far up");
        ip("address add 192.0.2.1/24 dev mgmt");
        ip("route add default via 192.0.2.254");
        let before = ip("route show default");
        let tap = outside();
        assert_eq!(ip("route show default"), before);
        assert!(ip("route get 198.51.100.9").contains("dev mgmt"));
        for (to, from) in [("198.51.100.9", "203.0.113.1"), ("2001:db8:9::9", "2001:db8:113::1")] {
            assert!(ip(&format!("route get {to} from {from}")).contains("dev nva-outside"));
            assert!(ip(&format!("route get {to} oif nva-outside")).contains(from));
        }
        // A network of the port's, without a word about the source.
        assert!(ip("route get 203.0.113.77").contains("dev nva-outside src 203.0.113.1"));
        assert!(ip("route get 2001:db8:113::77").contains("dev nva-outside"));
        for (own, to) in [("203.0.113.1:0", "198.51.100.9:53"), ("[2001:db8:113::1]:0", "[2001:db8:9::9]:53")]
        {
            let socket = UdpSocket::bind(own).expect("the address is there");
            socket.send_to(b"hello", to).expect("a way");
            let frame = next(&tap);
            assert_eq!((&frame[..6], &frame[6..12]), (&MAC[..], &MAC[..]));
            assert!(frame.ends_with(b"hello"));
        }
        drop(tap);
        assert!(!ip("rule").contains("110") && !ip("-6 rule").contains("110"));
        assert!(!ip("link").contains("nva-outside"));
    });
}

#[test]
fn a_route_that_is_there_already_comes_first() {
    in_namespace("a_route_that_is_there_already_comes_first", || {
        ip("link add mgmt type veth peer name far");
        ip("link set mgmt up");
        ip("link set far up");
        ip("address add 203.0.113.200/24 dev mgmt");
        let _tap = outside();
        assert!(ip("route get 203.0.113.77").contains("dev mgmt"));
        assert!(ip("route get 203.0.113.77 from 203.0.113.1").contains("dev nva-outside"));
    });
}

#[test]
fn what_a_killed_process_left_is_replaced_and_what_others_made_stays() {
    in_namespace("what_a_killed_process_left_is_replaced_and_what_others_made_stays", || {
        // Our own number, of an interface that is gone; somebody else's rule with the same table; somebody else's of that number.
        let gone = 0x6e00_0000_u32 + 0xffff;
        for v in ["", "-6 "] {
            ip(&format!("{v}rule add from all lookup {gone} protocol 110 priority 5110"));
            ip(&format!("{v}rule add from all oif nva-x lookup {gone} protocol 110 priority 5110"));
            ip(&format!("{v}rule add from all lookup {gone} protocol 4 priority 77"));
            ip(&format!("{v}rule add from all lookup 99 protocol 110 priority 78"));
        }
        let first = outside();
        let second = open("inside", &[("10.2.0.1", 24), ("10.2.0.2", 24), ("10.9.0.1", 32)]);
        for v in ["", "-6 "] {
            let rules = ip(&format!("{v}rule"));
            assert_eq!(rules.matches(&format!("lookup {gone}")).count(), 1, "{rules}");
            assert!(rules.contains("\n77:") || rules.starts_with("77:"));
            assert!(rules.contains("lookup 99"), "{rules}");
        }
        assert_eq!(ip("rule").matches("5110:").count(), 2 + 4);
        assert_eq!(ip("-6 rule").matches("5110:").count(), 2);
        drop(second);
        assert_eq!(ip("rule").matches("5110:").count(), 2, "the other one's stay");
        drop(first);
        assert_eq!(ip("rule").matches("5110:").count(), 0);
    });
}

#[test]
fn a_name_that_is_taken_is_refused() {
    in_namespace("a_name_that_is_taken_is_refused", || {
        ip("tuntap add dev nva-outside mode tap");
        let options = TapOptions { mac: MAC, mtu: 1500, far_mtu: 1500, addresses: &[] };
        let error = tap::open("nva-outside", &options).expect_err("somebody else's interface").to_string();
        assert!(error.contains("ioctl(TUNSETIFF) failed: ") && error.contains("rename the port"), "{error}");
        assert!(ip("link").contains("nva-outside"), "it is still there");
    });
}

#[test]
fn the_kernel_takes_what_is_written_also_where_sources_are_checked_strictly() {
    in_namespace("the_kernel_takes_what_is_written_also_where_sources_are_checked_strictly", || {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").expect("a setting");
        let tap = outside();
        let socket = UdpSocket::bind("203.0.113.1:4000").expect("the address is there");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a timeout");
        let packet = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], MAC)
            .ipv4([198, 51, 100, 9], [203, 0, 113, 1], 64)
            .udp(53, 4000);
        let mut frame = Vec::new();
        packet.write(&mut frame, b"from far away").expect("a frame");
        tap.write(&frame).expect("the kernel takes it");
        let mut buffer = [0; 100];
        let (len, from) = socket.recv_from(&mut buffer).expect("it arrives");
        assert_eq!((&buffer[..len], from.to_string().as_str()), (&b"from far away"[..], "198.51.100.9:53"));
    });
}
