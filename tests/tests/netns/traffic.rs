//! Traffic passes, whole: TCP both ways, many short connections, UDP, echo; with what kernels leave to devices, and without.

use super::appliance::{Appliance, number, ports};
use super::config::{Config, DATAGRAM, OPEN};
use super::counters::{device_received, taken_in};
use super::lab::{DEVICES, Lab, OWN, OWN6, VIP, VIP6, WEB, WEB6};
use super::peer::{Datagrams, PATIENCE, at, download, servers, upload, who_many};
use super::ping::ping;

const BULK: u64 = 100_000_000;

/// 100 MB through the load balancer in each direction at once, for each family.
fn bulk(lab: &Lab) {
    for (seed, vip) in (1..).zip([VIP, VIP6]) {
        let to = at(vip, OPEN);
        std::thread::scope(|scope| {
            let up = scope.spawn(|| upload(&lab.client, to, seed, BULK));
            assert_eq!(download(&lab.client, to, !seed, BULK).expect("the download ends"), BULK);
            assert_eq!(up.join().expect("no panic").expect("the upload ends"), BULK);
        });
    }
}

/// An appliance whose kernel is to be given nothing.
struct Watched {
    appliance: Appliance,
    taken_in: [u64; 2],
}

impl Watched {
    /// Shuts the kernel out, and starts the appliance.
    fn start(lab: &Lab) -> Self {
        assert!(ports(lab, "hold", &DEVICES).status.success());
        let taken_in = taken_in(&lab.appliance);
        Self { appliance: Appliance::start(lab, &Config::default()), taken_in }
    }

    /// The kernel was given nothing that the ports received, and the counters fit.
    fn end(self, lab: &Lab) {
        assert_eq!(taken_in(&lab.appliance), self.taken_in);
        self.appliance.conserves();
    }
}

fn packets_on_the_wire(lab: &Lab) -> u64 {
    DEVICES.iter().map(|device| device_received(&lab.appliance, device)).sum()
}

#[test]
fn a_hundred_megabytes_each_way_with_unfinished_checksums_and_segmentations() {
    let Some(lab) = Lab::build("a_hundred_megabytes_each_way_with_unfinished_checksums_and_segmentations")
    else {
        return;
    };
    let _servers = servers(&lab);
    let watched = Watched::start(&lab);
    bulk(&lab);
    let frames = number(&watched.appliance.show("stats")["total"]["received"]);
    let wire = packets_on_the_wire(&lab);
    assert!(frames > 2 * wire, "{frames} frames of {wire}: there were segmentations to cut up");
    watched.end(&lab);
}

#[test]
fn a_hundred_megabytes_each_way_as_finished_packets() {
    let Some(lab) = Lab::build("a_hundred_megabytes_each_way_as_finished_packets") else { return };
    lab.offloads_off();
    let _servers = servers(&lab);
    let watched = Watched::start(&lab);
    bulk(&lab);
    let frames = number(&watched.appliance.show("stats")["total"]["received"]);
    assert!(frames <= packets_on_the_wire(&lab), "nothing was cut up");
    watched.end(&lab);
}

#[test]
fn short_connections_reach_both_backends() {
    let Some(lab) = Lab::build("short_connections_reach_both_backends") else { return };
    let servers = servers(&lab);
    let watched = Watched::start(&lab);
    for vip in [VIP, VIP6] {
        let count = who_many(&lab.client, at(vip, OPEN), 400);
        assert_eq!(count.values().sum::<usize>(), 400);
        assert!(count.len() == 2 && count.values().all(|count| *count >= 100), "{count:?}");
    }
    assert_eq!(servers.iter().map(|server| server.arrived()).sum::<u64>(), 800, "no connection twice");
    let backends: u64 =
        watched.appliance.list("backends").iter().map(|backend| number(&backend["flows_created"])).sum();
    assert_eq!(backends, 800);
    watched.end(&lab);
}

#[test]
fn datagrams_are_answered() {
    let Some(lab) = Lab::build("datagrams_are_answered") else { return };
    let _servers = servers(&lab);
    let watched = Watched::start(&lab);
    for vip in [VIP, VIP6] {
        let mut names = [0; 2];
        for _ in 0..40 {
            let mut client = Datagrams::open(&lab.client, at(vip, DATAGRAM), PATIENCE);
            let name = client.turn(8).expect("an answer");
            // One flow stays with its backend.
            assert!([100, 512, 1200, 1400].into_iter().all(|len| client.turn(len) == Some(name)));
            names[usize::from(name)] += 1;
        }
        assert!(names.iter().all(|count| *count > 0), "{names:?}");
    }
    for (number, to) in [(0, WEB[0]), (1, WEB[1]), (0, WEB6[0]), (1, WEB6[1])] {
        let mut client = Datagrams::open(&lab.client, at(to, DATAGRAM), PATIENCE);
        assert_eq!(client.turn(700), Some(number), "routed, not balanced");
    }
    watched.end(&lab);
}

#[test]
fn echo_is_answered_and_routed() {
    let Some(lab) = Lab::build("echo_is_answered_and_routed") else { return };
    let watched = Watched::start(&lab);
    for to in [OWN, OWN6, WEB[0], WEB[1], WEB6[0], WEB6[1]] {
        for data_len in [0, 1, 56, 1400] {
            assert!(ping(&lab.client, to, data_len, PATIENCE), "{data_len} bytes to {to}");
        }
    }
    // Each backend from its own side.
    for (space, own) in [(&lab.web[0], "10.2.0.1"), (&lab.web[1], "fd00:3::1")] {
        assert!(ping(space, own, 56, PATIENCE), "{own}");
    }
    watched.end(&lab);
}
