//! Frames, pools and queues on devices that need nothing of the machine. All tests share one environment, as a process has one.

use super::*;
use crate::kernel::DeviceError;
use crate::{Burst, ChecksumStatus, Frame, PoolOptions, QueueCounters, RxOffload, RxQueue, TxQueue};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

pub(super) fn eal() -> Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    *EAL.get_or_init(|| {
        let options = EalOptions { hugepages: Hugepages::None, memory_mib: 256, ..EalOptions::default() };
        Eal::start(&options).unwrap()
    })
}

fn pool(frames: usize) -> MbufPool {
    MbufPool::new(eal(), PoolOptions { frames, data_room: 1600 }).unwrap()
}

/// A device name that no other test uses.
fn name(driver: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("net_{driver}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn options() -> DpdkOptions {
    DpdkOptions {
        mtu: None,
        rx_frames: 256,
        tx_frames: 256,
        spread: Spread { end: End::Source, key: [0x6d; KEY_BYTES] },
    }
}

fn refusal(device: &str, options: &DpdkOptions, pools: &[MbufPool]) -> String {
    open(eal(), device, options, pools).map(|port| port.description).unwrap_err().to_string()
}

/// Number `number` and padding, of an EtherType for experiments.
fn frame(pool: &MbufPool, number: u32, len: usize) -> Mbuf {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend((bytes.len()..len).map(|at| (at as u8) ^ (number as u8)));
    pool.copy_from(&bytes).unwrap()
}

#[test]
fn frames_do_what_every_frame_must() {
    for data_room in [60, 1518, 2049, 9018] {
        let pool = MbufPool::new(eal(), PoolOptions { frames: 63, data_room }).unwrap();
        assert!(pool.data_room() >= data_room && pool.capacity() == 63);
        let room = pool.frame().unwrap().tailroom();
        assert_eq!(room, pool.data_room());
        crate::frame_laws::hold(&pool, HEADROOM, room);
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn a_new_frame_is_empty_whatever_it_was_before() {
    let pool = pool(1);
    let mut frame = pool.frame().unwrap();
    assert!(pool.frame().is_none());
    frame.set_len(1000).unwrap();
    frame.pop_front(10).unwrap();
    frame.set_mark(7);
    frame.set_offload(RxOffload { checksum: ChecksumStatus::Verified, vlan: Some(3), truncated: true });
    drop(frame);
    let frame = pool.frame().unwrap();
    assert_eq!((frame.bytes().len(), frame.mark(), frame.offload()), (0, 0, RxOffload::default()));
}

#[test]
fn refuses_sizes_that_cannot_be() {
    let error =
        |frames, data_room| MbufPool::new(eal(), PoolOptions { frames, data_room }).unwrap_err().to_string();
    assert_eq!(error(0, 64), "DPDK: a pool has 1 to 16777216 frames, 0 were asked for; ask for fewer");
    assert_eq!(
        error(1, 70_000),
        "DPDK: a frame has at most 64512 bytes, 70000 were asked for; configure a smaller MTU"
    );
    let text = error(1 << 22, 1518);
    assert!(text.starts_with("DPDK: rte_mempool_populate_default failed: Cannot allocate memory"), "{text}");
    assert!(text.ends_with("its 4194304 frames take 9216 MiB; give DPDK more memory (dataplane.dpdk.memory) or run fewer workers"), "{text}");
}

#[test]
fn the_environment_starts_once() {
    eal();
    let again = Eal::start(&EalOptions { hugepages: Hugepages::None, ..EalOptions::default() });
    assert_eq!(
        again.unwrap_err().to_string(),
        "DPDK: the environment can be started only once in a process; this is a bug of the program"
    );
    assert!(eal().version().starts_with("DPDK "));
}

#[test]
fn frames_outlive_the_last_handle_and_come_back_from_anywhere() {
    let first = pool(1023);
    let owner = first.adopt().unwrap();
    let mut held: Vec<Mbuf> = (0..1000).map(|number| frame(&first, number, 100)).collect();
    assert_eq!(first.in_use(), 1000);
    let half = held.split_off(500);
    thread::scope(|scope| {
        scope.spawn(|| {
            let other = pool(1023);
            let _owner = other.adopt().unwrap();
            drop(half);
        });
    });
    assert_eq!(first.in_use(), 500);
    drop(first);
    drop(owner);
    for (frame, number) in held.iter().zip(0u32..) {
        assert_eq!(frame.bytes()[14..18], number.to_be_bytes());
    }
    // Whoever comes next gets memory of its own.
    let next = pool(1023);
    let others: Vec<Mbuf> = (0..1023).map(|_| frame(&next, u32::MAX, 1500)).collect();
    assert!(held.iter().zip(0u32..).all(|(frame, number)| frame.bytes()[14..18] == number.to_be_bytes()));
    drop((others, held));
    assert_eq!(next.in_use(), 0);
}

#[test]
fn a_ring_gives_back_what_was_sent_in_order_and_refuses_what_it_has_no_room_for() {
    let pool = pool(4095);
    let mut port = open(eal(), &name("ring"), &options(), std::slice::from_ref(&pool)).unwrap();
    assert_eq!((port.rx.len(), port.tx.len(), port.spread_entries), (1, 1, None));
    assert!(port.link.state().unwrap().running);
    let (rx, tx) = (&mut port.rx[0], &mut port.tx[0]);
    let mut burst = Burst::new();
    let (mut sent, mut refused, mut bytes) = (0u32, 0, 0);
    while refused == 0 {
        while !burst.is_full() {
            let number = sent + burst.len() as u32;
            burst.push(frame(&pool, number, 60 + number as usize % 1000));
        }
        let before = burst.len();
        let taken = tx.send(&mut burst);
        assert_eq!(burst.len(), before - taken);
        sent += taken as u32;
        refused = burst.len();
    }
    // What was refused is still here, in order.
    for (frame, number) in burst.iter().zip(sent..) {
        assert_eq!(frame.bytes()[14..18], number.to_be_bytes());
    }
    burst.clear();
    assert_eq!(pool.in_use(), sent as usize);
    for number in 0..sent {
        if burst.is_empty() {
            assert!(rx.receive(&mut burst) > 0);
        }
        let received = burst.remove(0);
        let expected = frame(&pool, number, 60 + number as usize % 1000);
        assert_eq!(received.bytes(), expected.bytes());
        bytes += received.bytes().len() as u64;
        assert_eq!((received.mark(), received.offload()), (0, RxOffload::default()));
    }
    assert_eq!(rx.receive(&mut burst), 0);
    let counted = |packets: u32, missed| QueueCounters {
        packets: packets.into(),
        bytes,
        missed,
        ..QueueCounters::default()
    };
    assert_eq!(rx.counters(), counted(sent, 0));
    thread::sleep(Duration::from_millis(60));
    let counters = tx.counters();
    assert_eq!(QueueCounters { errors: 0, ..counters }, counted(sent, refused as u64));
    assert_eq!(pool.in_use(), 0);
    // What nobody has received goes back when the port is closed.
    burst.extend((0..64).map(|number| frame(&pool, number, 60)));
    assert_eq!(tx.send(&mut burst), 64);
    assert_eq!(pool.in_use(), 64);
    drop(port);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_burst_is_filled_up_and_no_further() {
    let pool = pool(1023);
    let mut port =
        open(eal(), &format!("{},size=200", name("null")), &options(), std::slice::from_ref(&pool)).unwrap();
    let mut burst: Burst<Mbuf> = (0..50).map(|number| frame(&pool, number, 60)).collect();
    assert_eq!(port.rx[0].receive(&mut burst), 14);
    assert_eq!(port.rx[0].receive(&mut burst), 0);
    assert!(burst.iter().take(50).all(|frame| frame.bytes().len() == 60));
    assert!(burst.iter().skip(50).all(|frame| frame.bytes().len() == 200));
    assert_eq!(port.tx[0].send(&mut burst), 64);
    assert!(burst.is_empty());
    assert_eq!(port.tx[0].counters().bytes, 50 * 60 + 14 * 200);
    drop(port);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_no_link_carries_is_an_error_and_not_sent() {
    let pool = pool(255);
    let mut port = open(eal(), &name("ring"), &options(), std::slice::from_ref(&pool)).unwrap();
    let tagged = |len| {
        let mut frame = frame(&pool, 0, len);
        frame.bytes_mut()[12..14].copy_from_slice(&[0x81, 0]);
        frame
    };
    let lens = [1515, 1514, 16, 18, 60];
    let mut burst: Burst<Mbuf> = lens
        .iter()
        .map(|&len| {
            let mut short = frame(&pool, 0, len.max(18));
            short.set_len(len).unwrap();
            short
        })
        .collect();
    burst.push(tagged(1518));
    burst.push(tagged(1519));
    assert_eq!(port.tx[0].send(&mut burst), 7);
    assert_eq!(port.rx[0].receive(&mut burst), 4);
    let lens: Vec<usize> = burst.iter().map(|frame| frame.bytes().len()).collect();
    assert_eq!(lens, [1514, 18, 60, 1518]);
    let QueueCounters { packets, bytes, missed, errors, .. } = port.tx[0].counters();
    assert_eq!((packets, bytes, missed, errors), (4, 1514 + 18 + 60 + 1518, 0, 3));
    burst.clear();
    drop(port);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn says_why_a_device_cannot_be_had() {
    let pool = pool(255);
    let pools = std::slice::from_ref(&pool);
    let text = refusal("net_nothing0", &options(), pools);
    assert!(text.starts_with("device net_nothing0: rte_dev_probe failed: "), "{text}");
    assert!(text.contains("librte-net-nothing"), "{text}");
    let text = refusal("ffff:00:05.0", &options(), pools);
    assert!(text.contains("there is no PCI device at this address"), "{text}");
    let text = refusal("net_af_packet9,iface=nosuch0", &options(), pools);
    assert_eq!(text, "device nosuch0: there is no such interface; check the name with `ip link`");
    let many = vec![pool.clone(); 17];
    let text = refusal(&name("ring"), &options(), &many);
    assert!(text.contains("the device has fewer queues than there are workers; run at most 16 (dataplane.workers; there are 17)"), "{text}");
    let large = DpdkOptions { mtu: Some(9000), ..options() };
    let text = refusal(&name("null"), &large, pools);
    assert!(
        text.ends_with("frames would not fit into one buffer; configure an MTU of at most 2030 (it is 9000)"),
        "{text}"
    );
    // What was refused is closed again and can be had.
    let again = name("ring");
    refusal(&again, &large, pools);
    let port = open(eal(), &again, &options(), pools).unwrap();
    let text = refusal(&again, &options(), pools);
    assert!(text.contains("a port has this device already"), "{text}");
    drop(port);
    drop(open(eal(), &again, &options(), pools).unwrap());
    drop(many);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn one_pair_of_queues_for_each_worker() {
    let pools: Vec<MbufPool> = (0..3).map(|_| pool(1023)).collect();
    let port = open(eal(), &name("null"), &options(), &pools).unwrap();
    assert_eq!((port.rx.len(), port.tx.len()), (3, 3));
    thread::scope(|scope| {
        for ((mut rx, mut tx), pool) in port.rx.into_iter().zip(port.tx).zip(&pools) {
            scope.spawn(move || {
                let _owner = pool.adopt().unwrap();
                let mut burst = Burst::new();
                for _ in 0..1000 {
                    rx.receive(&mut burst);
                    tx.send(&mut burst);
                }
                assert_eq!((rx.counters().packets, tx.counters().packets), (64_000, 64_000));
            });
        }
    });
    drop(port.link);
    assert!(pools.iter().all(|pool| pool.in_use() == 0));
}

#[test]
fn checksums_are_asked_for_where_they_mean_something() {
    let offered = ffi::SHIM_OFFLOAD_TCP | 1 << 40;
    assert_eq!(checksum_offloads("net_ice", offered), ffi::SHIM_OFFLOAD_TCP);
    assert_eq!(checksum_offloads("net_virtio", offered), 0);
    assert_eq!(checksum_offloads("net_vhost", offered), 0);
}

#[test]
fn errors_are_one_sentence() {
    let error: DeviceError = error::failed("net_x0", "rte_eth_dev_start", -libc::EIO, "see DPDK's page");
    assert_eq!(
        error.to_string(),
        "device net_x0: rte_eth_dev_start failed: Input/output error; see DPDK's page"
    );
}
