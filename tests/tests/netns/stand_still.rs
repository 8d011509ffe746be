//! The appliance stands still, or a link does, and goes on.

use super::appliance::Appliance;
use super::config::{Config, DATAGRAM, OPEN};
use super::lab::{Lab, VIP, VIP6, wait_until};
use super::peer::{Datagrams, Echo, at, servers, who};
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_stopped_appliance_goes_on_and_says_so() {
    let Some(lab) = Lab::build("a_stopped_appliance_goes_on_and_says_so") else { return };
    let _servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config::default());
    let mut echoes = [VIP, VIP6].map(|vip| Echo::open(&lab.client, at(vip, OPEN)).expect("it connects"));
    appliance.signal(Signal::STOP);
    let mut datagrams = Datagrams::open(&lab.client, at(VIP, DATAGRAM), Duration::from_millis(500));
    for _ in 0..4 {
        assert_eq!(datagrams.turn(100), None, "it stands still");
    }
    appliance.signal(Signal::CONT);
    echoes.iter_mut().for_each(|echo| echo.turn().expect("connections go on"));
    wait_until("datagrams are answered", || datagrams.turn(100).is_some());
    who(&lab.client, at(VIP, OPEN)).expect("new connections are made");
    wait_until("it says so", || appliance.output("err").contains("the appliance stood still for 2."));
    appliance.conserves();
}

#[test]
fn a_link_that_went_down_comes_back() {
    let Some(lab) = Lab::build("a_link_that_went_down_comes_back") else { return };
    let _servers = servers(&lab);
    let mut appliance = Appliance::start(&lab, &Config::default());
    let mut echo = Echo::open(&lab.client, at(VIP, OPEN)).expect("it connects");
    let mut datagrams = Datagrams::open(&lab.client, at(VIP, DATAGRAM), Duration::from_millis(200));
    for round in 0..10 {
        let device = ["eth1", "eth2"][round % 2];
        lab.appliance.ip(&format!("link set {device} down"));
        if device == "eth1" {
            assert_eq!(datagrams.turn(100), None, "nothing passes");
        }
        if round < 2 {
            let said = format!("{device}: it is switched off");
            wait_until("it says that the link is down", || appliance.output("err").contains(&said));
            assert_eq!(appliance.show("stats")["ports"][round]["link_up"], false);
        }
        lab.appliance.ip(&format!("link set {device} up"));
        wait_until("datagrams pass again", || datagrams.turn(100).is_some());
        echo.turn().expect("the connection goes on");
        for vip in [VIP, VIP6] {
            who(&lab.client, at(vip, OPEN)).expect("new connections are made");
        }
    }
    assert!(appliance.runs());
    let up_again =
        |device: &str| appliance.output("err").contains(&format!("{device}: its link is up again"));
    wait_until("it says that the links are up", || up_again("eth1") && up_again("eth2"));
    // The last of the changes may not have been looked at yet.
    wait_until("all links are shown to be up", || {
        let stats = appliance.show("stats");
        let mut ports = stats["ports"].as_array().expect("ports").iter();
        ports.all(|port| port["link_up"] == true)
    });
    // What is at the other end switched off is told too.
    lab.client.ip("link set eth0 down");
    wait_until("it says that the carrier is gone", || {
        appliance.output("err").contains("eth1: its link is down")
    });
    lab.client.ip("link set eth0 up");
    appliance.conserves_despite_errors();
}
