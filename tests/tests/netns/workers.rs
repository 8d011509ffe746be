//! Two workers: every connection passes whole, whichever of them its frames come to, and both have their part.

use super::appliance::{Appliance, number, write_config};
use super::config::{Config, DATAGRAM, Driver, OPEN, OPEN_BEHIND};
use super::lab::{Lab, OWN, OWN6, VIP, VIP6, WEB, WEB6};
use super::peer::{Datagrams, PATIENCE, at, download, servers, upload};
use super::ping::ping;
use super::space::Space;

const BULK: u64 = 4_000_000;
/// Addresses of one host. That all of them have one worker is as likely as heads eight times in a row.
const ADDRESSES: u32 = 9;

/// Gives a host more addresses, so that its connections belong to different workers. Neighbours must be asked for each. The host takes
/// none of them by itself, as its servers are to answer from where they were asked.
fn add_addresses(host: &Space, networks: [&str; 2]) {
    for address in 101..100 + ADDRESSES {
        host.ip(&format!("address add {}{address}/24 dev eth0", networks[0]));
        host.ip(&format!("address add {}{address}/64 dev eth0 nodad preferred_lft 0", networks[1]));
    }
}

/// Has the host use one of its addresses towards these two, and through its router where there is one in between.
fn speak_as(host: &Space, networks: [&str; 2], last: u32, to: [&str; 2], via: Option<[&str; 2]>) {
    for family in 0..2 {
        let len = [32, 128][family];
        let via = via.map(|via| format!("via {}", via[family])).unwrap_or_default();
        let (to, network) = (to[family], networks[family]);
        host.ip(&format!("route replace {to}/{len} {via} dev eth0 src {network}{last}"));
    }
}

/// Both ways at once, as segments cut up by the appliance and as they come.
fn both_ways(from: &Space, to: std::net::SocketAddr, seed: u64) {
    std::thread::scope(|scope| {
        let up = scope.spawn(|| upload(from, to, seed, BULK));
        assert_eq!(download(from, to, !seed, BULK).expect("the download ends"), BULK, "{to}");
        assert_eq!(up.join().expect("no panic").expect("the upload ends"), BULK, "{to}");
    });
}

#[test]
fn two_workers_carry_every_connection_whole() {
    let name = "two_workers_carry_every_connection_whole";
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: {name}: needs two cores");
        return;
    }
    let Some(lab) = Lab::build(name) else { return };
    let _servers = servers(&lab);
    let one = Config::default().text();
    // DPDK's driver on packet sockets has as many queues as it is told.
    let two = one.replace("workers: [1]", "workers: [0, 1]").replace("iface=", "qpairs=2,iface=");
    assert_ne!(one, two);
    write_config(&lab.folder, &two);
    let appliance = Appliance::restart(&lab);

    let outside = ["203.0.113.", "2001:db8:113::"];
    let inside = ["10.2.0.", "fd00:2::"];
    let router = ["10.2.0.1", "fd00:2::1"];
    add_addresses(&lab.client, outside);
    add_addresses(&lab.web[0], inside);
    for last in 101..100 + ADDRESSES {
        // Balanced, between the sides: what is steered right.
        speak_as(&lab.client, outside, last, [VIP, VIP6], None);
        // From one trusted port to the other: what comes to the wrong worker as often as not.
        speak_as(&lab.web[0], inside, last, [WEB[1], WEB6[1]], Some(router));
        let seed = u64::from(last);
        for (vip, web) in [(VIP, WEB[1]), (VIP6, WEB6[1])] {
            both_ways(&lab.client, at(vip, OPEN), seed);
            both_ways(&lab.web[0], at(web, OPEN_BEHIND), seed << 32);
            // In fragments too.
            for len in [10, Driver::of_this_run().longest_datagram()] {
                let mut datagrams = Datagrams::open(&lab.client, at(vip, DATAGRAM), PATIENCE);
                assert!(datagrams.turn(len).is_some(), "{len} bytes to {vip}");
                let mut datagrams = Datagrams::open(&lab.web[0], at(web, DATAGRAM), PATIENCE);
                assert_eq!(datagrams.turn(len), Some(1), "{len} bytes to {web}");
            }
            assert!(ping(&lab.web[0], web, 56, PATIENCE), "{web}");
        }
    }
    for own in [OWN, OWN6] {
        assert!(ping(&lab.client, own, 56, PATIENCE), "{own}");
    }
    let stats = appliance.show("stats");
    let workers = stats["workers"].as_array().expect("a list of workers");
    assert!(workers.len() == 2 && workers.iter().all(|worker| number(&worker["flows"]) > 0), "{stats}");
    for reason in ["tx_queue_full", "unresolved_neighbor", "invalid_state"] {
        assert_eq!(number(&stats["total"]["dropped"][reason]), 0, "{reason}");
    }
    appliance.conserves();
}
