//! Through a bad link: loss, duplicates, reordering and corruption, by a seed.

use super::appliance::Appliance;
use super::config::{Config, OPEN};
use super::counters::snmp;
use super::lab::{CLIENT, CLIENT6, Lab, VIP, VIP6, mac};
use super::peer::{at, download, servers, upload};
use pmd_shim::af_packet::{self, AfPacketOptions, AfPacketPort, AfPacketRx, AfPacketTx};
use pmd_shim::faulty::{FaultCounters, FaultOptions, Faulty};
use pmd_shim::{Burst, Pool, PoolFrame, PoolOptions, RxQueue, TxQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// In both directions: 1 % lost, 1 % twice, 3 % late, 1 % with a bit turned over.
const FAULTS: FaultOptions = FaultOptions {
    seed: 0x6e76_6101,
    drop_per_mille: 10,
    duplicate_per_mille: 10,
    reorder_per_mille: 30,
    reorder_frames_max: 8,
    reorder_bursts_max: 3,
    corrupt_per_mille: 10,
    refuse_per_mille: 0,
};

/// A wire that passes frames on between its ends `near` and `far`, badly.
struct BadWire {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<[FaultCounters; 2]>>,
}

impl BadWire {
    /// Begins to pass frames on.
    fn start(lab: &Lab) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (ready, begun) = channel();
        let flag = Arc::clone(&stopping);
        let wire = lab.wire.as_ref().expect("the lab has a wire");
        let thread = wire.spawn(move || pass_on(&flag, &ready));
        begun.recv().expect("the wire's ports can be opened");
        Self { stopping, thread: Some(thread) }
    }

    /// Ends it; what it did to frames from the client, and to those towards it.
    fn stop(mut self) -> [FaultCounters; 2] {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("no panic")
    }
}

impl Drop for BadWire {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// One direction.
struct Lane {
    rx: Faulty<AfPacketRx, Pool>,
    tx: AfPacketTx,
    burst: Burst<PoolFrame>,
}

impl Lane {
    fn new(from: &mut AfPacketPort, to: &mut AfPacketPort, pool: &Pool, seed: u64) -> Self {
        let rx = from.rx.pop().expect("one queue was asked for");
        let tx = to.tx.pop().expect("one queue was asked for");
        let options = FaultOptions { seed, ..FAULTS };
        Self { rx: Faulty::new(rx, pool.clone(), options), tx, burst: Burst::new() }
    }

    /// Passes a burst on; how many frames there were. What the far end has no room for waits.
    fn turn(&mut self) -> usize {
        self.rx.receive(&mut self.burst);
        let count = self.burst.len();
        self.tx.send(&mut self.burst);
        count
    }
}

fn pass_on(stopping: &AtomicBool, ready: &Sender<()>) -> [FaultCounters; 2] {
    let pool = Pool::new(PoolOptions { frames: 8192, data_room: 2048 }).expect("memory");
    let _owner = pool.adopt().expect("a new pool");
    let open = |device| {
        af_packet::open(device, &AfPacketOptions::default(), std::slice::from_ref(&pool)).expect("a port")
    };
    let (mut near, mut far) = (open("near"), open("far"));
    let mut lanes = [
        Lane::new(&mut near, &mut far, &pool, FAULTS.seed),
        Lane::new(&mut far, &mut near, &pool, !FAULTS.seed),
    ];
    ready.send(()).expect("the test waits for it");
    while !stopping.load(Ordering::Relaxed) {
        if lanes.iter_mut().map(Lane::turn).sum::<usize>() == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    lanes.map(|lane| lane.rx.faults())
}

#[test]
fn transfers_through_a_bad_link_stay_whole() {
    transfers("transfers_through_a_bad_link_stay_whole", "off");
}

#[test]
fn proxied_transfers_through_a_bad_link_stay_whole() {
    transfers("proxied_transfers_through_a_bad_link_stay_whole", "always");
}

fn transfers(test: &str, syn_proxy: &'static str) {
    let Some(lab) = Lab::build_with_wire(test) else { return };
    // ARP has no checksum: what it says could be wrong for good.
    for address in [VIP, VIP6] {
        lab.know(&lab.client, address, "eth1");
    }
    let client = mac(&lab.client, "eth0");
    let neighbors = vec![(CLIENT, client.clone()), (CLIENT6, client)];
    let _servers = servers(&lab);
    let appliance = Appliance::start(&lab, &Config { neighbors, syn_proxy, ..Config::default() });
    let wire = BadWire::start(&lab);
    for vip in [VIP, VIP6] {
        const LEN: u64 = 3_000_000;
        assert_eq!(upload(&lab.client, at(vip, OPEN), 3, LEN).expect("the upload ends"), LEN);
        assert_eq!(download(&lab.client, at(vip, OPEN), 4, LEN).expect("the download ends"), LEN);
    }
    let [there, back] = wire.stop();
    println!("to the appliance {there:?}, to the client {back:?}");
    for faults in [there, back] {
        let all = [faults.dropped, faults.duplicated, faults.reordered, faults.corrupted];
        assert!(all.iter().all(|count| *count > 10), "{faults:?}");
    }
    // What was broken on the way to the appliance is dropped there, and reaches nobody with a checksum made to fit.
    let dropped = appliance.dropped("bad_checksum") + appliance.dropped("malformed");
    assert!(dropped > there.corrupted / 2, "{dropped} dropped of {} corrupted", there.corrupted);
    for web in &lab.web {
        for (group, counter) in [("Tcp", "InCsumErrors"), ("Ip", "InHdrErrors"), ("Tcp", "InErrs")] {
            assert_eq!(snmp(web, group, counter), 0, "{group} {counter}");
        }
    }
    assert!(
        snmp(&lab.client, "Tcp", "InCsumErrors") > 0,
        "what was broken behind the appliance is seen there"
    );
    appliance.conserves();
}
