//! Reloads under load lose nothing, and no flow is judged by a mixture of two configurations.

use super::appliance::{Appliance, number, write_config};
use super::config::{Config, DATAGRAM, OPEN, OPEN_BEHIND, OTHER_BEHIND};
use super::lab::{Lab, VIP, VIP6, wait_until};
use super::peer::{Datagrams, Echo, PATIENCE, at, servers, who};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};

const RELOADS: u32 = 1000;

/// What ran beside the reloads.
#[derive(Debug, Default, PartialEq, Eq)]
struct Load {
    turns: u64,
    datagrams: u64,
    connections: u64,
    lost: u64,
}

/// One client that always has something under way, until it is told to end.
fn load(lab: &Lab, vip: &str, ending: &AtomicBool) -> Load {
    let mut load = Load::default();
    let mut echo = Echo::open(&lab.client, at(vip, OPEN)).expect("it connects");
    let mut datagrams = Datagrams::open(&lab.client, at(vip, DATAGRAM), PATIENCE);
    while !ending.load(Ordering::Relaxed) {
        // An established flow, datagrams without anybody to send them again, and a new flow.
        echo.turn().expect("an established connection goes on");
        load.turns += 1;
        match datagrams.turn(100) {
            Some(_) => load.datagrams += 1,
            None => load.lost += 1,
        }
        who(&lab.client, at(vip, OPEN)).expect("a new connection is judged by one configuration");
        load.connections += 1;
    }
    load
}

/// Each configuration leads the open port elsewhere and lets only that through: a flow that one of them translates and the other
/// judges is denied, and one that passes names its rule.
fn every_flow_is_of_one_configuration(appliance: &Appliance) {
    let mut seen = 0;
    for flow in appliance.list("flows") {
        if flow["protocol"] == "tcp" {
            let port = u16::try_from(number(&flow["translated"]["port"])).expect("a port");
            let rule = format!("web-nsg/{}", Config::rule(port));
            assert_eq!(flow["rule"], rule.as_str(), "{flow}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn a_thousand_reloads_under_load_lose_nothing() {
    let Some(lab) = Lab::build("a_thousand_reloads_under_load_lose_nothing") else { return };
    let _servers = servers(&lab);
    let configs = [OPEN_BEHIND, OTHER_BEHIND].map(|behind| Config { behind, ..Config::default() });
    let appliance = Appliance::start(&lab, &configs[0]);
    let ending = AtomicBool::new(false);
    let loads = std::thread::scope(|scope| {
        let clients: Vec<_> =
            [VIP, VIP6].map(|vip| scope.spawn(|| load(&lab, vip, &ending))).into_iter().collect();
        let reload_all = || {
            for (number, config) in (1..=RELOADS).zip(configs.iter().rev().cycle()) {
                appliance.reload(config);
                if number % 100 == 0 {
                    every_flow_is_of_one_configuration(&appliance);
                }
            }
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(reload_all));
        ending.store(true, Ordering::Relaxed);
        let loads: Vec<Load> =
            clients.into_iter().map(|client| client.join().expect("nothing is lost")).collect();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        loads
    });
    println!("{RELOADS} reloads beside {loads:?}");
    for load in &loads {
        assert_eq!(load.lost, 0, "{load:?}");
        assert!(load.connections > 10, "{load:?}");
    }
    let stats = appliance.show("stats");
    assert_eq!(number(&stats["generation"]), u64::from(RELOADS) + 1);
    for reason in ["denied_by_rule", "invalid_state", "no_healthy_backend", "tx_queue_full"] {
        assert_eq!(appliance.dropped(reason), 0, "{reason}");
    }
    for port in stats["ports"].as_array().expect("a list of ports") {
        assert_eq!(number(&port["rx_missed"]), 0, "{port}");
    }
    appliance.conserves();
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let Some(lab) = Lab::build("a_bad_configuration_changes_nothing") else { return };
    let _servers = servers(&lab);
    let config = Config::default();
    let mut appliance = Appliance::start(&lab, &config);
    let mut echo = Echo::open(&lab.client, at(VIP, OPEN)).expect("it connects");
    let bad = [
        config.text().replace("access: allow", "access: perhaps"),
        config.text().replace("pool: web,", "pool: nowhere,"),
        config.text().replace("eth3", "eth4"),
        format!("{}protection: {{connections: {{per_source: 5}}}}\n", config.text()),
        String::from("["),
    ];
    for (round, text) in (1..).zip(&bad) {
        write_config(&lab.folder, text);
        appliance.signal(Signal::HUP);
        wait_until("it says so", || appliance.said("not reloaded") == round);
        assert!(appliance.runs());
        echo.turn().expect("the connection goes on");
        who(&lab.client, at(VIP, OPEN)).expect("new ones are made");
        assert_eq!(number(&appliance.show("stats")["generation"]), 1);
    }
    let said = appliance.output("err");
    assert!(said.contains("nva.yaml:"), "each problem with its place: {said}");
    appliance.reload(&config);
    assert_eq!(number(&appliance.show("stats")["generation"]), 2);
    echo.turn().expect("the connection goes on");
    appliance.conserves();
}
