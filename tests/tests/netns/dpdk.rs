//! `nva run` on DPDK's software devices: two appliances back to back over shared memory, TAP devices, its AF_XDP driver; and what is wrong
//! with a device said in one sentence. In builds without DPDK there is nothing to run.

use super::appliance::{Appliance, number, run_command, write_config};
use super::config::{Driver, OPEN_BEHIND};
use super::lab::{Lab, WEB};
use super::peer::{Server, at, download, upload};
use super::ping::ping;
use std::fmt::Write;
use std::time::Duration;

const BULK: u64 = 3_000_000;

/// One port: its device, its address, and whether it is trusted.
type Port<'a> = (&'a str, &'a str, bool);

/// A configuration of two ports of DPDK's with a route to the other side's network.
fn between(name: &str, cores: &str, ports: [Port<'_>; 2], routes: &[(&str, &str)]) -> String {
    let mut text = format!(
        "version: 1\nname: {name}\ndataplane: {{workers: [{cores}], flow_capacity: 1_000, dpdk: {{hugepages: none, memory: 128M}}}}\nports:\n"
    );
    for (number, (device, address, trusted)) in ports.into_iter().enumerate() {
        let trust = if trusted { "trusted" } else { "untrusted" };
        writeln!(
            text,
            "  - {{name: p{number}, driver: dpdk, device: \"{device}\", addresses: [{address}], trust: {trust}}}"
        )
        .expect("a string takes everything");
    }
    if !routes.is_empty() {
        text.push_str("routes:\n");
    }
    for (to, via) in routes {
        writeln!(text, "  - {{to: {to}, via: {via}}}").expect("a string takes everything");
    }
    text
}

/// The network of a test on DPDK's devices; `None`, said, where there is no DPDK.
fn lab(test: &str) -> Option<Lab> {
    if Driver::of_this_run() != Driver::Dpdk {
        println!("skipped: {test}: runs with NVA_TEST_DRIVER=dpdk, which says that the binary has DPDK");
        return None;
    }
    Lab::build(test)
}

#[test]
fn two_appliances_back_to_back_share_memory() {
    let Some(lab) = lab("two_appliances_back_to_back_share_memory") else { return };
    let _server = Server::start(&lab.web[0], 0, &[OPEN_BEHIND], &[]);
    let wire = lab.folder.join("wire.sock");
    let memif =
        |role: &str| format!("net_memif_{role},role={role},socket={},socket-abstract=no", wire.display());
    let (server, client) = (memif("server"), memif("client"));
    let outer = between(
        "outer",
        "0",
        [("net_af_packet_eth1,iface=eth1", "203.0.113.1/24", false), (&server, "10.9.0.1/30", true)],
        &[("10.2.0.0/24", "10.9.0.2")],
    );
    let inner = between(
        "inner",
        "1",
        [(&client, "10.9.0.2/30", false), ("net_af_packet_eth2,iface=eth2", "10.2.0.1/24", true)],
        &[("203.0.113.0/24", "10.9.0.1")],
    );
    let outer = Appliance::start_beside(&lab, "outer", &outer);
    let inner = Appliance::start_beside(&lab, "inner", &inner);
    let to = at(WEB[0], OPEN_BEHIND);
    assert_eq!(upload(&lab.client, to, 1, BULK).expect("the upload ends"), BULK);
    assert_eq!(download(&lab.client, to, 2, BULK).expect("the download ends"), BULK);
    for appliance in [&outer, &inner] {
        let stats = appliance.ports_conserve();
        assert!(stats["ports"].to_string().contains("memif"), "{stats}");
        assert!(number(&stats["total"]["forwarded"]) > 2 * BULK / 1500, "{stats}");
    }
}

#[test]
fn tap_devices_lead_to_the_kernel() {
    let Some(lab) = lab("tap_devices_lead_to_the_kernel") else { return };
    let config = between(
        "tap",
        "1",
        [
            ("net_tap0,iface=nvatap0", "198.18.1.1/24", false),
            ("net_tap1,iface=nvatap1", "198.18.2.1/24", true),
        ],
        &[],
    );
    // The appliance holds the interfaces that it finds; its own TAP devices are made by DPDK, and lead to the kernel of this namespace.
    let appliance = Appliance::start_beside(&lab, "tap", &config);
    lab.appliance.set("ipv4/ping_group_range", "0 0");
    // DPDK gives both ends the same hardware address, and nobody else may have the port's.
    lab.appliance.ip_all("link set nvatap0 address 02:00:00:00:aa:01\nlink set nvatap0 up\naddress add 198.18.1.2/24 dev nvatap0\n");
    let answered = (0..50).any(|_| ping(&lab.appliance, "198.18.1.1", 56, Duration::from_millis(200)));
    assert!(answered, "the appliance answers the kernel: {}", appliance.show("stats"));
    let stats = appliance.ports_conserve();
    assert!(number(&stats["ports"][0]["replied"]) > 0, "{stats}");
}

#[test]
fn its_own_af_xdp_carries_connections() {
    let Some(lab) = lab("its_own_af_xdp_carries_connections") else { return };
    let _server = Server::start(&lab.web[0], 0, &[OPEN_BEHIND], &[]);
    let device = |name: &str| format!("net_af_xdp_{name},iface={name},busy_budget=0");
    let (eth1, eth2) = (device("eth1"), device("eth2"));
    let config = between("xdp", "1", [(&eth1, "203.0.113.1/24", false), (&eth2, "10.2.0.1/24", true)], &[]);
    let appliance = Appliance::start_beside(&lab, "xdp", &config);
    let to = at(WEB[0], OPEN_BEHIND);
    assert_eq!(upload(&lab.client, to, 1, BULK).expect("the upload ends"), BULK);
    assert_eq!(download(&lab.client, to, 2, BULK).expect("the download ends"), BULK);
    appliance.ports_conserve();
}

#[test]
fn what_is_wrong_with_a_device_is_said_in_one_sentence() {
    let Some(lab) = lab("what_is_wrong_with_a_device_is_said_in_one_sentence") else { return };
    let links = lab.appliance.ip("-o link show");
    let good = ("net_null0", "198.18.1.1/24", true);
    for (device, names) in [
        ("net_af_packet_x,iface=eth9", "eth9"),
        ("0000:99:00.0", "0000:99:00.0"),
        ("net_nothing0", "net_nothing0"),
        ("net_pcap0,rx_pcap=/nowhere/there.pcap", "net_pcap0"),
        ("net_memif0,role=client,socket=/tmp/nva-nobody.sock", "start the other end first"),
    ] {
        write_config(&lab.folder, &between("bad", "1", [(device, "198.18.2.1/24", false), good], &[]));
        let mut command = run_command(&lab.folder);
        let output = lab.appliance.run(move || command.output()).expect("nva can be run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{device}: {said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{device}: {said}");
        assert!(errors[0].contains(names), "{device}: {said}");
        assert_eq!(said.lines().count(), 1, "{device}: {said}");
    }
    assert_eq!(lab.appliance.ip("-o link show"), links, "nothing is left behind");
}
