//! Path-MTU discovery: what is too big for the next link is reported to its sender or, where that is allowed, fragmented.

use super::appliance::{Appliance, number};
use super::config::{Config, DATAGRAM, Driver, OPEN};
use super::counters::snmp;
use super::lab::{Lab, VIP, VIP6, WEB};
use super::peer::{Datagrams, PATIENCE, at, download, servers, upload};

/// Smaller than what either end's own interface takes.
const NARROW: u16 = 1300;

fn narrow() -> Config {
    Config { mtu: [1500, NARROW, NARROW], ..Config::default() }
}

fn transfers_adapt(lab: &Lab) {
    let appliance = Appliance::start(lab, &narrow());
    for vip in [VIP, VIP6] {
        const LEN: u64 = 5_000_000;
        assert_eq!(upload(&lab.client, at(vip, OPEN), 5, LEN).expect("the upload ends"), LEN);
        assert_eq!(download(&lab.client, at(vip, OPEN), 6, LEN).expect("the download ends"), LEN);
        let route = lab.client.ip(&format!("route get {vip}"));
        assert!(route.contains(&format!("mtu {NARROW}")), "the client has learned it: {route}");
    }
    let stats = appliance.show("stats");
    assert!(number(&stats["ports"][0]["replied"]) >= 2, "it was told so: {stats}");
    appliance.conserves();
}

#[test]
fn tcp_adapts_to_a_narrow_link() {
    let Some(lab) = Lab::build("tcp_adapts_to_a_narrow_link") else { return };
    let _servers = servers(&lab);
    transfers_adapt(&lab);
}

#[test]
fn tcp_adapts_to_a_narrow_link_without_offloads() {
    let Some(lab) = Lab::build("tcp_adapts_to_a_narrow_link_without_offloads") else { return };
    lab.offloads_off();
    let _servers = servers(&lab);
    transfers_adapt(&lab);
}

#[test]
fn datagrams_that_may_be_fragmented_are() {
    let Some(lab) = Lab::build("datagrams_that_may_be_fragmented_are") else { return };
    let _servers = servers(&lab);
    // Datagrams without "don't fragment", from either end.
    lab.client.set("ipv4/ip_no_pmtu_disc", "1");
    lab.web[0].set("ipv4/ip_no_pmtu_disc", "1");
    if Driver::of_this_run() == Driver::Dpdk {
        // It narrows the interface itself, which then takes nothing longer.
        lab.web.iter().for_each(|web| drop(web.ip(&format!("link set eth0 mtu {NARROW}"))));
    }
    let appliance = Appliance::start(&lab, &narrow());
    let mut client = Datagrams::open(&lab.client, at(WEB[0], DATAGRAM), PATIENCE);
    for _ in 0..20 {
        assert_eq!(client.turn(1450), Some(0));
    }
    assert_eq!(snmp(&lab.web[0], "Ip", "ReasmOKs"), 20, "they came in fragments");
    // Fragments from the client itself pass too, also through the load balancer.
    let mut client = Datagrams::open(&lab.client, at(VIP, DATAGRAM), PATIENCE);
    let lens: &[usize] =
        if Driver::of_this_run().sees_fragments() { &[1500, 3000, 9000, 30_000] } else { &[1500] };
    for &len in lens {
        assert!(client.turn(len).is_some(), "{len} bytes");
    }
    appliance.conserves();
}
