//! A backend that is taken away gets nothing new, keeps what it has for the drain period, and comes back.

use super::appliance::Appliance;
use super::config::{Config, OPEN};
use super::lab::{Lab, VIP, VIP6, wait_until};
use super::peer::{Echo, at, servers, who_many};
use std::io::ErrorKind;

#[test]
fn a_backend_drains_and_comes_back() {
    let Some(lab) = Lab::build("a_backend_drains_and_comes_back") else { return };
    let servers = servers(&lab);
    let config = |down| Config { drain_period: "5s", down, ..Config::default() };
    let appliance = Appliance::start(&lab, &config([false; 2]));
    let vips = [VIP, VIP6].into_iter().cycle().take(40);
    let connections = vips.map(|vip| Echo::open(&lab.client, at(vip, OPEN)).expect("it connects"));
    let (mut lost, mut kept): (Vec<Echo>, Vec<Echo>) = connections.partition(|echo| echo.name == 1);
    assert!(!lost.is_empty() && !kept.is_empty());

    appliance.reload(&config([false, true]));
    lost.iter_mut().chain(&mut kept).for_each(|echo| echo.turn().expect("a drained connection goes on"));
    for vip in [VIP, VIP6] {
        let count = who_many(&lab.client, at(vip, OPEN), 40);
        assert_eq!(count.into_iter().collect::<Vec<_>>(), [(0, 40)], "new ones go to the other");
    }
    let states: Vec<_> =
        appliance.list("backends").iter().map(|backend| backend["eligible"].clone()).collect();
    assert_eq!(states, [true, false, true, false]);

    // Then the period is over.
    for echo in &mut lost {
        assert_eq!(echo.end(), Some(ErrorKind::ConnectionReset), "reset towards the client");
    }
    wait_until("reset towards the backend", || servers[1].ends().len() == lost.len());
    assert!(
        servers[1].ends().iter().all(|end| *end == Some(ErrorKind::ConnectionReset)),
        "{:?}",
        servers[1].ends()
    );
    kept.iter_mut().for_each(|echo| echo.turn().expect("the other's connections go on"));
    assert_eq!(servers[0].ends(), []);

    appliance.reload(&config([false; 2]));
    for vip in [VIP, VIP6] {
        let count = who_many(&lab.client, at(vip, OPEN), 80);
        assert!(count.len() == 2, "back again: {count:?}");
    }
    kept.iter_mut().for_each(|echo| echo.turn().expect("they go on through all of it"));
    appliance.conserves();
}

#[test]
fn without_any_backend_new_connections_are_refused() {
    let Some(lab) = Lab::build("without_any_backend_new_connections_are_refused") else { return };
    let servers = servers(&lab);
    let config = Config { down: [true; 2], ..Config::default() };
    let appliance = Appliance::start(&lab, &config);
    for vip in [VIP, VIP6] {
        let to = at(vip, OPEN);
        let tried = lab
            .client
            .run(|| std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(700)));
        assert!(tried.is_err(), "{vip}");
    }
    assert!(appliance.dropped("no_healthy_backend") >= 2);
    assert_eq!(servers.iter().map(|server| server.arrived()).sum::<u64>(), 0);
    appliance.conserves();
}
