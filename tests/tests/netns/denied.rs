//! What no rule allows is dropped in silence.

use super::appliance::{Appliance, number};
use super::config::{CLOSED, CLOSED_BEHIND, CLOSED_DATAGRAM, Config};
use super::counters::{snmp, snmp6};
use super::lab::{Lab, VIP, VIP6, WEB, WEB6};
use super::peer::{Datagrams, Server, at};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

/// How long the client listens in vain.
const SILENCE: Duration = Duration::from_millis(700);

#[test]
fn a_denied_port_is_silent() {
    let Some(lab) = Lab::build("a_denied_port_is_silent") else { return };
    let servers =
        [0, 1].map(|at| Server::start(&lab.web[at], at as u8, &[CLOSED_BEHIND], &[CLOSED_DATAGRAM]));
    let appliance = Appliance::start(&lab, &Config::default());
    let tried =
        [(VIP, CLOSED), (VIP6, CLOSED), (WEB[0], CLOSED_BEHIND), (WEB6[1], CLOSED_BEHIND), (WEB[1], 22)];
    for (address, port) in tried {
        let to = at(address, port);
        let error = lab.client.run(|| TcpStream::connect_timeout(&to, SILENCE)).expect_err("nobody answers");
        // Neither a reset nor an ICMP error, of which the kernel would tell in other words.
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: {error}");
    }
    for address in [WEB[0], WEB6[1]] {
        let mut client = Datagrams::open(&lab.client, at(address, CLOSED_DATAGRAM), SILENCE);
        assert_eq!(client.turn(100), None, "{address}");
    }
    let denied = appliance.dropped("denied_by_rule");
    assert!(denied >= tried.len() as u64 + 2, "{denied} denied");
    let stats = appliance.show("stats");
    assert_eq!(number(&stats["ports"][0]["dropped"]["denied_by_rule"]), denied, "all of it where it came in");
    assert_eq!(number(&stats["flows"]), 0, "and it leaves no flow behind");
    for (space, server) in lab.web.iter().zip(&servers) {
        assert_eq!(server.arrived(), 0);
        assert_eq!(snmp(space, "Ip", "InReceives"), 0, "nothing of it reached the backend's namespace");
        for counter in ["Udp6InDatagrams", "Udp6NoPorts"] {
            assert_eq!(snmp6(space, counter), 0, "{counter}");
        }
        assert_eq!(snmp(space, "Tcp", "InSegs"), 0);
    }
    appliance.conserves();
}
