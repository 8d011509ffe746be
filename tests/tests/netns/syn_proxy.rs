//! Clients that have to prove themselves: real kernels in front of the SYN proxy and behind it, with timestamps and without.

use super::appliance::{Appliance, number, write_config};
use super::config::{Config, OPEN, OPEN_BEHIND};
use super::counters::snmp;
use super::lab::{Lab, VIP, VIP6, WEB, WEB6, wait_until};
use super::peer::{Echo, PATIENCE, at, download, servers, upload, who_many};
use nva_tests::packet::tcp;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
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
    const LEN: u64 = 12_000_000;
    let _servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config { syn_proxy: "always", ..Config::default() });
    let mut connections = 0;
    for (has_timestamps, has_sack, has_ecn) in
        [("1", "1", "0"), ("0", "1", "0"), ("1", "0", "0"), ("1", "1", "1"), ("0", "0", "1")]
    {
        lab.client.set("ipv4/tcp_timestamps", has_timestamps);
        lab.client.set("ipv4/tcp_sack", has_sack);
        lab.client.set("ipv4/tcp_ecn", has_ecn);
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
fn thousands_of_short_connections_and_a_reload_in_their_midst() {
    let Some(lab) = Lab::build("thousands_of_short_connections_and_a_reload_in_their_midst") else { return };
    const TIMES: usize = 376;
    let servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config { syn_proxy: "always", ..Config::default() });
    let mut echo = Echo::open(&lab.client, at(VIP, OPEN)).expect("it connects");
    echo.turn().expect("it is answered");
    for round in 0..4 {
        for vip in [VIP, VIP6] {
            let count = who_many(&lab.client, at(vip, OPEN), TIMES);
            assert_eq!(count.values().sum::<usize>(), TIMES);
        }
        if round < 3 {
            // What is spliced goes on, whatever is said of new connections.
            appliance.reload(&Config { syn_proxy: ["off", "always"][round % 2], ..Config::default() });
        }
        echo.turn().expect("a spliced connection goes on over a reload");
    }
    let arrived = servers.iter().map(|server| server.arrived()).sum::<u64>();
    assert_eq!(arrived, 1 + 8 * TIMES as u64, "no connection twice");
    let proved = counter(&appliance, "spliced");
    assert_eq!(proved, 1 + 4 * TIMES as u64);
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

#[test]
fn routed_connections_are_proved_too() {
    let Some(lab) = Lab::build("routed_connections_are_proved_too") else { return };
    const LEN: u64 = 8_000_000;
    let _servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config { routed_syn_proxy: "always", ..Config::default() });
    let mut connections = 0;
    for server in WEB.into_iter().chain(WEB6) {
        let to = at(server, OPEN_BEHIND);
        assert_eq!(upload(&lab.client, to, 5, LEN).expect("the upload ends"), LEN);
        assert_eq!(download(&lab.client, to, 6, LEN).expect("the download ends"), LEN);
        assert_eq!(who_many(&lab.client, to, 40).values().sum::<usize>(), 40);
        connections += 42;
    }
    // A frontend goes by its rule, though its backends are in the subnet.
    assert_eq!(who_many(&lab.client, at(VIP, OPEN), 8).values().sum::<usize>(), 8);
    all_proved(&appliance, connections);
    for web in &lab.web {
        assert_eq!(snmp(web, "TcpExt", "TSEcrRejected"), 0);
    }
    appliance.conserves();
}

#[test]
fn transfers_fit_links_of_many_mtus() {
    let Some(lab) = Lab::build("transfers_fit_links_of_many_mtus") else { return };
    const LEN: u64 = 2_000_000;
    let _servers = servers(&lab);
    for behind in [1500, 1400, 1281] {
        // Between the appliance and the backends, which take no more; the client only hears of it.
        lab.web.iter().for_each(|web| drop(web.ip(&format!("link set eth0 mtu {behind}"))));
        let config = Config { mtu: [1500, behind, behind], syn_proxy: "always", ..Config::default() };
        let appliance = Appliance::start(&lab, &config);
        for vip in [VIP, VIP6] {
            assert_eq!(upload(&lab.client, at(vip, OPEN), 5, LEN).expect("the upload ends"), LEN);
            assert_eq!(download(&lab.client, at(vip, OPEN), 6, LEN).expect("the download ends"), LEN);
        }
        all_proved(&appliance, 4);
        appliance.conserves();
    }
}

/// Sends a word every 20 ms to everybody who connects; how writing to them ended.
fn tickers(lab: &Lab, ending: &Arc<AtomicBool>) -> Arc<Mutex<Vec<ErrorKind>>> {
    let ends = Arc::new(Mutex::new(Vec::new()));
    for web in &lab.web {
        let listener =
            web.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, BANNER_BEHIND))).expect("a free port");
        listener.set_nonblocking(true).expect("a setting");
        let (ending, ends) = (Arc::clone(ending), Arc::clone(&ends));
        std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::new();
            while !ending.load(Ordering::Relaxed) {
                streams.extend(listener.accept().map(|(stream, _)| stream));
                streams.retain_mut(|stream| match stream.write_all(b"tick") {
                    Ok(()) => true,
                    Err(error) => {
                        ends.lock().expect("nobody panicked").push(error.kind());
                        false
                    }
                });
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    }
    ends
}

#[test]
fn after_a_crash_both_ends_are_reset() {
    let Some(lab) = Lab::build("after_a_crash_both_ends_are_reset") else { return };
    let ending = Arc::new(AtomicBool::new(false));
    let ends = tickers(&lab, &ending);
    let config = Config { routed_syn_proxy: "always", ..proxied(BANNER_BEHIND) };
    let appliance = Appliance::start(&lab, &config);
    let to = [at(VIP, OPEN), at(VIP6, OPEN), at(WEB[0], BANNER_BEHIND), at(WEB6[1], BANNER_BEHIND)];
    let mut streams = to.map(|to| {
        let mut stream = lab.client.run(|| TcpStream::connect(to)).expect("it connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a setting");
        stream.read_exact(&mut [0; 12]).expect("it ticks");
        stream
    });
    all_proved(&appliance, 4);
    appliance.kill();
    let appliance = Appliance::restart(&lab);
    let begun = Instant::now();
    for stream in &mut streams {
        // What was there already is read first.
        let end = stream.write_all(b"still there?").and_then(|()| {
            let mut chunk = [0; 4096];
            loop {
                if stream.read(&mut chunk)? == 0 {
                    return Ok(());
                }
            }
        });
        assert_eq!(end.expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
    }
    let clients = begun.elapsed();
    wait_until("the servers are reset", || ends.lock().expect("nobody panicked").len() == 4);
    println!("clients reset after {clients:?}, servers after {:?}", begun.elapsed());
    // The servers' next segments come when their timers say so, which doubled while nobody was there.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let ends = ends.lock().expect("nobody panicked").clone();
    assert!(
        ends.iter().all(|end| matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)),
        "{ends:?}"
    );
    assert!(counter(&appliance, "resets") >= 8, "{}", counter(&appliance, "resets"));
    // New connections are made as ever.
    let mut stream = lab.client.run(|| TcpStream::connect(to[0])).expect("it connects");
    stream.read_exact(&mut [0; 4]).expect("it ticks");
    ending.store(true, Ordering::Relaxed);
    drop(stream);
    appliance.conserves();
}

/// Sends SYNs from all hosts of the client's network but its own, so many a second at most, until it is told to end. How many.
fn flood(lab: &Lab, ending: &Arc<AtomicBool>) -> JoinHandle<u64> {
    const BATCH: u32 = 40;
    let ending = Arc::clone(ending);
    lab.client.spawn(move || {
        let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).expect("root may");
        let to = SocketAddrV4::new(VIP.parse().expect("an address"), 0);
        let mut sent = 0;
        while !ending.load(Ordering::Relaxed) {
            for n in 0..BATCH {
                let n = n + sent as u32;
                let from = format!("203.0.113.{}:{}", 20 + n % 200, 1024 + n / 200 % 60_000);
                let syn = tcp(&from, &at(VIP, OPEN).to_string()).syn(n).tcp_options(&[2, 4, 5, 180]);
                // What the interface has no room for was no flood.
                let _ = sendto(&socket, &syn.ip_bytes(), SendFlags::empty(), &to);
            }
            sent += u64::from(BATCH);
            std::thread::sleep(Duration::from_millis(4));
        }
        sent
    })
}

#[test]
fn clients_beside_a_flood_of_forged_syns_are_served() {
    let Some(lab) = Lab::build("clients_beside_a_flood_of_forged_syns_are_served") else { return };
    let _servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config { syn_proxy: "always", ..Config::default() });
    let ending = Arc::new(AtomicBool::new(false));
    let flooding = flood(&lab, &ending);
    wait_until("the flood begins", || counter(&appliance, "cookies_sent") > 1000);
    const TIMES: usize = 400;
    let begun = Instant::now();
    assert_eq!(who_many(&lab.client, at(VIP, OPEN), TIMES).values().sum::<usize>(), TIMES);
    const LEN: u64 = 4_000_000;
    assert_eq!(upload(&lab.client, at(VIP, OPEN), 5, LEN).expect("the upload ends"), LEN);
    let time = begun.elapsed();
    ending.store(true, Ordering::Relaxed);
    let forged = flooding.join().expect("no panic");
    println!("{TIMES} connections in {time:?} beside {forged} forged SYNs");
    assert_eq!(counter(&appliance, "spliced"), TIMES as u64 + 1);
    assert!(counter(&appliance, "cookies_sent") > 1000 + TIMES as u64);
    assert_eq!(
        number(&appliance.show("stats")["flows_created"]),
        TIMES as u64 + 1,
        "no state for forged ones"
    );
    appliance.conserves();
}

#[test]
fn what_is_flooded_is_named_as_long_as_it_is() {
    let Some(lab) = Lab::build("what_is_flooded_is_named_as_long_as_it_is") else { return };
    let _servers = servers(&lab);
    let text = Config { syn_proxy: "auto", ..Config::default() }.text();
    write_config(&lab.folder, &format!("{text}protection: {{syn_flood: {{proxy_threshold: 200}}}}\n"));
    let appliance = Appliance::restart(&lab);
    let asking = || appliance.show("protection")["asking"].as_array().cloned().expect("a list");
    let asks_now = || asking().iter().any(|entry| entry["now"] == true);
    assert!(asking().iter().any(|entry| entry["mode"] == "auto") && !asks_now(), "{:?}", asking());
    let ending = Arc::new(AtomicBool::new(false));
    let flooding = flood(&lab, &ending);
    wait_until("the flood is named", asks_now);
    assert!(counter(&appliance, "cookies_sent") > 0);
    ending.store(true, Ordering::Relaxed);
    flooding.join().expect("no panic");
    wait_until("it is over", || !asks_now());
    appliance.conserves();
}
