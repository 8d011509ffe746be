//! Clients that have to prove themselves: real kernels in front of the SYN proxy and behind it, with timestamps and without.

use super::appliance::{Appliance, number};
use super::config::{Config, OPEN};
use super::counters::snmp;
use super::lab::{Lab, VIP, VIP6};
use super::peer::{Echo, PATIENCE, at, download, servers, upload, who_many};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where servers that speak first are.
const BANNER_BEHIND: u16 = 8092;
/// Where nobody is.
const NOBODY_BEHIND: u16 = 8093;
const BANNER: &[u8] = b"220 ready\r\n";

fn proxied(behind: u16) -> Config {
    Config { behind, syn_proxy: "always", ..Config::default() }
}

fn counter(appliance: &Appliance, name: &str) -> u64 {
    number(&appliance.show("protection")["syn_proxy"][name])
}

/// Each client proves itself, and each connection is spliced.
fn all_proved(appliance: &Appliance, connections: u64) {
    assert_eq!(counter(appliance, "cookies_valid"), connections);
    assert_eq!(counter(appliance, "spliced"), connections);
    assert!(counter(appliance, "cookies_sent") >= connections);
    assert_eq!(counter(appliance, "half_open"), 0);
}

#[test]
fn transfers_are_whole_with_timestamps_and_without() {
    let Some(lab) = Lab::build("transfers_are_whole_with_timestamps_and_without") else { return };
    const LEN: u64 = 20_000_000;
    let _servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config { syn_proxy: "always", ..Config::default() });
    let mut connections = 0;
    for (has_timestamps, has_sack) in [("1", "1"), ("0", "1"), ("1", "0")] {
        lab.client.set("ipv4/tcp_timestamps", has_timestamps);
        lab.client.set("ipv4/tcp_sack", has_sack);
        for vip in [VIP, VIP6] {
            assert_eq!(upload(&lab.client, at(vip, OPEN), 5, LEN).expect("the upload ends"), LEN);
            assert_eq!(download(&lab.client, at(vip, OPEN), 6, LEN).expect("the download ends"), LEN);
            connections += 2;
        }
    }
    all_proved(&appliance, connections);
    // Linux agrees to everything, and nothing that it was sent made it wonder.
    let backends = appliance.list("backends");
    let learnt: Vec<_> =
        backends.iter().map(|backend| &backend["tcp_options"]).filter(|o| !o.is_null()).collect();
    assert!(
        learnt.iter().any(|options| options["timestamps"] == true && options["sack"] == true),
        "{learnt:?}"
    );
    // A backend may have been asked for less than everything.
    assert!(
        learnt.iter().all(|options| options["timestamps"] != false && options["sack"] != false),
        "{learnt:?}"
    );
    for web in &lab.web {
        assert_eq!(snmp(web, "TcpExt", "TSEcrRejected"), 0);
        assert_eq!(snmp(web, "TcpExt", "PAWSEstab"), 0);
    }
    assert_eq!(snmp(&lab.client, "TcpExt", "PAWSEstab"), 0);
    appliance.conserves();
}

/// Serves a line to everybody who connects.
fn banners(lab: &Lab, ending: &Arc<AtomicBool>) {
    for web in &lab.web {
        let ending = Arc::clone(ending);
        let listener =
            web.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, BANNER_BEHIND))).expect("a free port");
        listener.set_nonblocking(true).expect("a setting");
        std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let _ = stream.write_all(BANNER);
                    }
                    Err(_) => std::thread::sleep(Duration::from_micros(200)),
                }
            }
        });
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let Some(lab) = Lab::build("a_server_that_speaks_first_is_heard_at_once") else { return };
    let ending = Arc::new(AtomicBool::new(false));
    banners(&lab, &ending);
    let appliance = Appliance::start(&lab, &proxied(BANNER_BEHIND));
    let mut connections = 0;
    for has_timestamps in ["1", "0"] {
        lab.client.set("ipv4/tcp_timestamps", has_timestamps);
        for vip in [VIP, VIP6] {
            let mut waits: Vec<Duration> = (0..100)
                .map(|_| {
                    let begun = Instant::now();
                    let mut stream =
                        lab.client.run(|| TcpStream::connect(at(vip, OPEN))).expect("it connects");
                    stream.set_read_timeout(Some(PATIENCE)).expect("a setting");
                    let mut line = [0; BANNER.len()];
                    stream.read_exact(&mut line).expect("the server speaks");
                    assert_eq!(line, BANNER);
                    begun.elapsed()
                })
                .collect();
            waits.sort_unstable();
            println!(
                "timestamps {has_timestamps}, {vip}: first line after {:?}, at worst {:?}",
                waits[50], waits[99]
            );
            // A second is what a lost or refused acknowledgement costs; the machine may be busy.
            assert!(
                waits[50] < Duration::from_millis(50) && waits[95] < Duration::from_millis(500),
                "{waits:?}"
            );
            connections += 100;
        }
    }
    ending.store(true, Ordering::Relaxed);
    all_proved(&appliance, connections);
    for web in &lab.web {
        assert_eq!(snmp(web, "TcpExt", "TSEcrRejected"), 0);
    }
    appliance.conserves();
}

#[test]
fn a_thousand_short_connections_and_a_reload_in_their_midst() {
    let Some(lab) = Lab::build("a_thousand_short_connections_and_a_reload_in_their_midst") else { return };
    let servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config { syn_proxy: "always", ..Config::default() });
    let mut echo = Echo::open(&lab.client, at(VIP, OPEN)).expect("it connects");
    echo.turn().expect("it is answered");
    for round in 0..4 {
        for vip in [VIP, VIP6] {
            let count = who_many(&lab.client, at(vip, OPEN), 124);
            assert_eq!(count.values().sum::<usize>(), 124);
        }
        if round < 3 {
            // What is spliced goes on, whatever is said of new connections.
            appliance.reload(&Config { syn_proxy: ["off", "always"][round % 2], ..Config::default() });
        }
        echo.turn().expect("a spliced connection goes on over a reload");
    }
    assert_eq!(servers.iter().map(|server| server.arrived()).sum::<u64>(), 993, "no connection twice");
    let proved = counter(&appliance, "spliced");
    assert_eq!(proved, 1 + 4 * 124);
    appliance.conserves();
}

#[test]
fn nobody_behind_is_a_refusal() {
    let Some(lab) = Lab::build("nobody_behind_is_a_refusal") else { return };
    let appliance = Appliance::start(&lab, &proxied(NOBODY_BEHIND));
    for vip in [VIP, VIP6] {
        // The appliance answers before it knows; then the backend's reset comes.
        let refused = lab.client.run(|| {
            let mut stream = TcpStream::connect(at(vip, OPEN))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read(&mut [0; 1])
        });
        assert_eq!(refused.expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(counter(&appliance, "refused"), 2);
    appliance.conserves();
}
