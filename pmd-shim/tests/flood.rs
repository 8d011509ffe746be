//! Frames of a flood over a veth pair, in network namespaces of the test's own.

mod common;

use common::{Netns, skipped};
use pmd_shim::flood::{Arrivals, Flood};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A stamp's place behind an Ethernet header and a number.
const STAMP_AT: usize = 16;
const FRAME_LEN: usize = 60;

/// Frames of an EtherType for experiments, to nobody.
fn packets(count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5][..], &[number, 0]].concat())
        .collect()
}

#[test]
fn a_flood_keeps_its_rate_and_every_frame_arrives_with_its_time() {
    if skipped("flood") {
        return;
    }
    let (near, far) = (Netns::new(), Netns::new());
    Netns::connect((&near, "near"), (&far, "far"));
    far.run("ethtool -K far gro on");
    let arrivals = far.within(|| Arrivals::new("far", STAMP_AT)).expect("the far end can be watched");
    let flood = near
        .within(|| Flood::new("near", &packets(3), FRAME_LEN, Some(STAMP_AT)))
        .expect("a flood can be prepared");
    let began = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            near.enter();
            began.store(true, Ordering::SeqCst);
            flood.send()
        });
        while !began.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(flood.counts().sent, 0, "it begins paused");

        flood.rate(20_000.0);
        std::thread::sleep(Duration::from_millis(500));
        flood.pause();
        std::thread::sleep(Duration::from_millis(50));
        let counts = flood.counts();
        let arrived = arrivals.take();
        assert_eq!(arrived.count(), counts.sent, "all that was sent arrived, {counts:?}");
        // A busy machine holds the sender up, and it leaves out what it cannot catch up with; it never sends more.
        assert!((2_000..=11_000).contains(&counts.sent), "{counts:?}");
        let median = arrived.quantile_ns(0.5).expect("frames arrived");
        assert!((100.0..5e6).contains(&median), "{median} ns");
        assert_eq!(arrivals.take().count(), 0, "what was taken is gone");

        flood.full();
        std::thread::sleep(Duration::from_millis(200));
        flood.pause();
        std::thread::sleep(Duration::from_millis(20));
        assert!(flood.counts().sent - counts.sent > 20_000, "{:?}", flood.counts());
        assert!(flood.stop(), "it stops");
        sender.join().expect("it ends").expect("it could send");
    });
}

#[test]
fn unusable_packets_are_refused() {
    if skipped("flood") {
        return;
    }
    let netns = Netns::new();
    netns.run("ip link add near type veth peer name far");
    let open = |packets: &[Vec<u8>]| {
        netns.within(|| {
            Flood::new("near", packets, FRAME_LEN, None).map(|_| ()).map_err(|error| error.to_string())
        })
    };
    assert!(open(&[]).is_err_and(|why| why.contains("no packet")));
    assert!(open(&[vec![0; 60], vec![0; 61]]).is_err_and(|why| why.contains("one length")));
    assert!(open(&[vec![0; 257]]).is_err_and(|why| why.contains("one length")));
}
