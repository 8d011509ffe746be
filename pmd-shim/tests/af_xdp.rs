//! AF_XDP ports against the kernel, in network namespaces of the tests' own.
#![cfg(feature = "af_xdp")]

mod common;
#[path = "common/scene.rs"]
mod scene;

use common::{Netns, skipped};
use pmd_shim::af_xdp::{self, AfXdpOptions, AfXdpPort, XdpMode};
use pmd_shim::idle::{self, WaitHandles};
use pmd_shim::kernel::ingress;
use pmd_shim::{
    BURST, Burst, ChecksumStatus, Frame, Pool, PoolFrame, PoolOptions, RxOffload, RxQueue, TxQueue,
};
use scene::{answering, is_arp, is_ours, number, pair, udp};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn pool(frames: usize) -> Pool {
    Pool::new(PoolOptions { frames, data_room: 1518 }).unwrap()
}

/// Rings of 256 frames to receive and 64 to send.
fn small() -> AfXdpOptions {
    AfXdpOptions { rx_frames: 256, tx_frames: 64, ..AfXdpOptions::default() }
}

/// A port with small rings for one worker.
fn open(netns: &Netns, device: &str, pool: &Pool) -> AfXdpPort {
    netns.within(|| af_xdp::open(device, &small(), slice::from_ref(pool)).unwrap())
}

fn error(netns: &Netns, device: &str, pools: &[Pool]) -> String {
    netns.within(|| af_xdp::open(device, &small(), pools).unwrap_err().to_string())
}

/// Receives until `enough` is true of what came, or nothing has come for two seconds.
fn receive_until(port: &mut AfXdpPort, enough: impl FnMut(&[PoolFrame]) -> bool) -> Vec<PoolFrame> {
    scene::receive_until(&mut port.rx, is_ours, enough)
}

fn frame(pool: &Pool, number: u32, len: usize) -> PoolFrame {
    scene::frame(pool, number, len, &[])
}

/// What a burst of `count` frames from `first` on leaves.
fn send(port: &mut AfXdpPort, pool: &Pool, first: u32, count: u32) -> usize {
    let mut burst: Burst<PoolFrame> =
        (first..first + count).map(|number| frame(pool, number, 60 + number as usize % 1400)).collect();
    let before = burst.len();
    assert_eq!(port.tx[0].send(&mut burst) + burst.len(), before);
    burst.len()
}

#[test]
fn what_is_sent_arrives_byte_for_byte_and_in_order_both_ways() {
    if skipped("what_is_sent_arrives_byte_for_byte_and_in_order_both_ways") {
        return;
    }
    const COUNT: u32 = 3000;
    let (peer, host) = pair();
    let pools = [pool(1024), pool(1024)];
    let [a, b] = &pools;
    let mut ports = [open(&peer, "p0", a), open(&host, "h0", b)];
    assert_eq!(ports[1].description, "copy, driver mode");
    assert!(ports[1].notes.iter().any(|note| note.contains("ethtool -K PEER tx off")));
    assert!(ports[1].link_state().unwrap().running);
    let len = |number: u32| 20 + (number as usize * 7) % 1490;
    for (from, to) in [(0, 1), (1, 0)] {
        // The sender is the pool's owner, as a worker is; the receiver is not.
        let _owner = pools[from].adopt().unwrap();
        let (mut burst, mut next) = (Burst::new(), 0);
        for many in (1..=BURST).cycle() {
            burst.extend((next..).take(many).map(|number| frame(&pools[from], number, len(number))));
            assert_eq!(ports[from].tx[0].send(&mut burst), many);
            let frames = receive_until(&mut ports[to], |frames| frames.len() == many);
            assert_eq!(frames.len(), many);
            for got in frames {
                assert_eq!(got.bytes(), frame(&pools[from], next, len(next)).bytes());
                assert_eq!((got.offload(), got.mark()), (RxOffload::default(), 0));
                next += 1;
            }
            if next > COUNT {
                break;
            }
        }
        assert_eq!(ports[from].tx[0].counters().packets, u64::from(next));
        assert_eq!((ports[from].tx[0].counters().errors, ports[from].tx[0].copied()), (0, 0));
        let counters = ports[to].rx[0].counters();
        assert_eq!((counters.missed, counters.no_buffer, counters.errors), (0, 0, 0));
    }
    // What the rings hold: 256 and an eighth to receive, and at most 64 that were sent.
    for pool in &pools {
        assert!((288..=288 + 64).contains(&pool.in_use()), "{}", pool.in_use());
    }
    drop(ports);
    assert_eq!(pools.each_ref().map(Pool::in_use), [0, 0]);
}

#[test]
fn what_does_not_fit_into_a_full_receive_ring_is_counted() {
    if skipped("what_does_not_fit_into_a_full_receive_ring_is_counted") {
        return;
    }
    const BURSTS: u32 = 20;
    let (peer, host) = pair();
    let (out, into) = (pool(512), pool(1024));
    let (mut sender, mut receiver) = (open(&peer, "p0", &out), open(&host, "h0", &into));
    for burst in 0..BURSTS {
        assert_eq!(send(&mut sender, &out, burst * 64, 64), 0);
    }
    let frames = receive_until(&mut receiver, |frames| frames.len() == 256);
    assert!(frames.iter().map(number).eq(0..256));
    drop(frames);
    let sent = u64::from(BURSTS) * 64;
    let lost_by_device = sender.tx[0].counters().errors;
    let counters = receiver.rx[0].counters();
    assert_eq!(counters.packets + counters.missed + lost_by_device, sent);
    assert_eq!((counters.no_buffer, counters.errors), (0, 0));
    assert!(counters.missed > 0);
    // It goes on where it was.
    assert_eq!(send(&mut sender, &out, 5000, 64), 0);
    assert_eq!(receive_until(&mut receiver, |frames| frames.len() == 64).len(), 64);
}

#[test]
fn without_free_buffers_frames_are_lost_and_counted_until_there_are_some() {
    if skipped("without_free_buffers_frames_are_lost_and_counted_until_there_are_some") {
        return;
    }
    let (peer, host) = pair();
    let (out, into) = (pool(512), pool(300));
    let (mut sender, mut receiver) = (open(&peer, "p0", &out), open(&host, "h0", &into));
    let mut held = Vec::new();
    for burst in 0..6 {
        assert_eq!(send(&mut sender, &out, burst * 64, 64), 0);
        held.extend(receive_until(&mut receiver, |frames| !frames.is_empty()));
    }
    held.extend(receive_until(&mut receiver, |frames| frames.len() + held.len() >= 300));
    assert!((290..=300).contains(&held.len()), "{}", held.len());
    assert!(receiver.rx[0].counters().no_buffer > 0);
    assert_eq!(receiver.rx[0].counters().errors, 0);
    held.clear();
    assert_eq!(receiver.rx[0].receive(&mut Burst::new()), 0);
    assert_eq!(send(&mut sender, &out, 0, 64), 0);
    assert_eq!(receive_until(&mut receiver, |frames| frames.len() == 64).len(), 64);
}

#[test]
fn a_full_transmit_ring_refuses_and_goes_on_when_the_link_does() {
    if skipped("a_full_transmit_ring_refuses_and_goes_on_when_the_link_does") {
        return;
    }
    let (peer, host) = pair();
    let (out, into) = (pool(512), pool(512));
    let (mut sender, mut receiver) = (open(&peer, "p0", &out), open(&host, "h0", &into));
    peer.run("ip link set p0 down");
    assert_eq!(send(&mut sender, &out, 0, 40), 0);
    assert_eq!(send(&mut sender, &out, 40, 40), 16, "the ring has 64 entries");
    assert_eq!(send(&mut sender, &out, 80, 10), 10);
    let counters = sender.tx[0].counters();
    assert_eq!((counters.packets, counters.missed), (64, 26));
    assert!(counters.errors > 0, "the link is down");
    assert_eq!(out.in_use(), 288 + 64);
    peer.run("ip link set p0 up");
    // What waits goes as soon as the worker has nothing else to do. A kernel may speak up at a link that is up again.
    sender.rx[0].receive(&mut Burst::new());
    let frames = receive_until(&mut receiver, |frames| frames.len() == 64);
    assert!(frames.iter().map(number).eq(0..64), "{}", frames.len());
    assert_eq!(send(&mut sender, &out, 1000, 64), 0);
    let frames = receive_until(&mut receiver, |frames| frames.len() == 64);
    assert!(frames.iter().map(number).eq(1000..1064), "{}", frames.len());
}

#[test]
fn frames_pass_from_port_to_port_without_a_copy_and_others_with_one() {
    if skipped("frames_pass_from_port_to_port_without_a_copy_and_others_with_one") {
        return;
    }
    let (left, middle, right) = (Netns::new(), Netns::new(), Netns::new());
    Netns::connect((&left, "l0"), (&middle, "m0"));
    Netns::connect((&right, "r0"), (&middle, "m1"));
    let (ends, shared, other) = (pool(1024), pool(1024), pool(64));
    let (mut source, mut sink) = (open(&left, "l0", &ends), open(&right, "r0", &ends));
    let (mut a, mut b) = (open(&middle, "m0", &shared), open(&middle, "m1", &shared));
    let mut burst = Burst::new();
    for round in 0..50 {
        assert_eq!(send(&mut source, &ends, round * 64, 64), 0);
        let mut frames = receive_until(&mut a, |frames| frames.len() == 64);
        assert_eq!(frames.len(), 64);
        burst.extend(frames.drain(..).map(|mut frame| {
            // Grown and cut in front, as by a tunnel.
            frame.push_front(100).unwrap();
            frame.pop_front(100).unwrap();
            frame
        }));
        assert_eq!(b.tx[0].send(&mut burst), 64);
        let frames = receive_until(&mut sink, |frames| frames.len() == 64);
        assert!(frames.iter().map(number).eq(round * 64..round * 64 + 64));
        for got in frames {
            let number = number(&got);
            assert_eq!(got.bytes(), frame(&ends, number, 60 + number as usize % 1400).bytes());
        }
    }
    assert_eq!(b.tx[0].copied(), 0);

    burst.push(frame(&other, 7, 700));
    burst.push(frame(&shared, 8, 700));
    assert_eq!(b.tx[0].send(&mut burst), 2);
    assert_eq!((b.tx[0].copied(), other.in_use()), (1, 0));
    let frames = receive_until(&mut sink, |frames| frames.len() == 2);
    assert_eq!(frames[0].bytes(), frame(&other, 7, 700).bytes());

    // Without a buffer to copy to it is lost, and counted. What was sent before comes free first.
    assert_eq!(b.tx[0].send(&mut Burst::new()), 0);
    let all: Vec<PoolFrame> = std::iter::from_fn(|| shared.frame()).collect();
    burst.push(frame(&other, 9, 700));
    assert_eq!((b.tx[0].send(&mut burst), burst.len()), (1, 0));
    assert_eq!((b.tx[0].counters().no_buffer, other.in_use()), (1, 0));
    drop((all, frames));

    drop((source, sink, a, b));
    assert_eq!([ends.in_use(), shared.in_use(), other.in_use()], [0, 0, 0]);
}

#[test]
fn each_queue_of_the_interface_is_served_by_a_worker() {
    if skipped("each_queue_of_the_interface_is_served_by_a_worker") {
        return;
    }
    let (peer, host) = (Netns::new(), Netns::new());
    Netns::connect_queues((&peer, "p0"), (&host, "h0"), 4);
    let pools = |count| (0..count).map(|_| pool(1024)).collect::<Vec<_>>();
    assert_eq!(
        error(&host, "h0", &pools(5)),
        "device h0: the interface has fewer queues than there are workers; \
         it has 4 to receive from and 4 to send to and can have 4: configure no more workers than that"
    );
    host.run("ethtool -L h0 rx 4 tx 2");
    assert_eq!(
        error(&host, "h0", &pools(3)),
        "device h0: the interface has fewer queues than there are workers; \
         it has 4 to receive from and 2 to send to: run `ethtool -L h0 rx 3 tx 3`, or lower the number of workers to 2"
    );
    host.run("ethtool -L h0 rx 4 tx 4");
    host.within(|| assert!(af_xdp::attached("h0").unwrap().is_none() && !ingress::is_held("h0").unwrap()));
    let (out, into) = (pools(4), pools(3));
    let mut sender = peer.within(|| af_xdp::open("p0", &small(), &out).unwrap());
    let mut receiver = host.within(|| af_xdp::open("h0", &small(), &into).unwrap());
    let queues: Vec<Vec<u32>> = receiver.rx.iter().map(|rx| rx.queues().collect()).collect();
    assert_eq!(queues, [vec![0, 3], vec![1], vec![2]]);
    assert!(receiver.rx[0].wait_handle().is_none(), "there are two");

    // A veth's frames arrive at the queue that they were sent by.
    for ((tx, pool), queue) in sender.tx.iter_mut().zip(&out).zip(0..) {
        let mut burst: Burst<PoolFrame> =
            (0..32).map(|number| frame(pool, queue * 100 + number, 80)).collect();
        assert_eq!(tx.send(&mut burst), 32);
    }
    let mut seen: Vec<Vec<u32>> = vec![Vec::new(); 3];
    let mut burst = Burst::new();
    for _ in 0..100 {
        for (rx, seen) in receiver.rx.iter_mut().zip(&mut seen) {
            rx.receive(&mut burst);
            seen.extend(burst.drain(..).filter(is_ours).map(|frame| number(&frame)));
        }
        let mut handles = WaitHandles::new();
        assert!(receiver.rx.iter().all(|rx| rx.wait_handles(&mut handles)));
        assert_eq!(handles.len(), 4);
        if seen.iter().map(Vec::len).sum::<usize>() == 128 || !idle::wait(&handles, 1000).unwrap() {
            break;
        }
    }
    seen[0].sort_unstable();
    assert!(seen[0].iter().copied().eq((0..32).chain(300..332)), "{seen:?}");
    assert!(seen[1].iter().copied().eq(100..132) && seen[2].iter().copied().eq(200..232), "{seen:?}");

    // And back, each worker by a queue of its own.
    for (worker, tx) in receiver.tx.iter_mut().enumerate() {
        burst.push(frame(&into[worker], worker as u32, 80));
        assert_eq!((tx.send(&mut burst), tx.copied()), (1, 0));
    }
    let mut back: Vec<u32> =
        receive_until(&mut sender, |frames| frames.len() == 3).iter().map(number).collect();
    back.sort_unstable();
    assert_eq!(back, [0, 1, 2]);
    drop((sender, receiver));
    assert!(out.iter().chain(&into).all(|pool| pool.in_use() == 0));
}

#[test]
fn long_frames_take_longer_buffers_and_the_longest_are_refused() {
    if skipped("long_frames_take_longer_buffers_and_the_longest_are_refused") {
        return;
    }
    let (peer, host) = pair();
    let mtu = |mtu: u32| {
        peer.run(&format!("ip link set p0 mtu {mtu}"));
        host.run(&format!("ip link set h0 mtu {mtu}"));
    };
    let long = |data_room| Pool::new(PoolOptions { frames: 1024, data_room }).unwrap();
    mtu(9000);
    assert_eq!(
        error(&host, "h0", &[long(3776)]),
        "device h0: the MTU is longer than AF_XDP's packet buffers; configure at most 3758 or use the af_packet driver on this device"
    );
    // Pages of longer buffers, as when another port needs those.
    assert!(error(&host, "h0", &[long(9018)]).contains("configure at most "));
    host.within(|| assert!(af_xdp::attached("h0").unwrap().is_none() && !ingress::is_held("h0").unwrap()));
    for (value, data_room, mode) in [(3000, 3018, "driver"), (3758, 3776, "generic"), (2000, 9018, "driver")]
    {
        mtu(value);
        let (out, into) = (long(data_room), long(data_room));
        let (mut sender, mut receiver) = (open(&peer, "p0", &out), open(&host, "h0", &into));
        assert_eq!(receiver.description, format!("copy, {mode} mode"));
        let excuse = receiver.notes.iter().find(|note| note.contains("does not take the XDP program"));
        assert_eq!(excuse.is_some(), mode == "generic", "{:?}", receiver.notes);
        let len = value as usize + 14;
        let mut burst: Burst<PoolFrame> = (0..64).map(|number| frame(&out, number, len)).collect();
        assert_eq!(sender.tx[0].send(&mut burst), 64);
        let frames = receive_until(&mut receiver, |frames| frames.len() == 64);
        assert_eq!(frames.len(), 64, "{value}");
        for got in &frames {
            assert_eq!(got.bytes(), frame(&out, number(got), len).bytes());
        }
        // A byte more than the link carries.
        burst.push(frame(&out, 0, len + 1));
        assert_eq!((sender.tx[0].send(&mut burst), sender.tx[0].counters().errors), (1, 1));
        assert_eq!(sender.tx[0].copied(), 0);
    }
}

#[test]
fn a_port_that_cannot_be_ours_is_refused_in_a_sentence() {
    if skipped("a_port_that_cannot_be_ours_is_refused_in_a_sentence") {
        return;
    }
    let (_peer, host) = pair();
    let frames = pool(1024);
    let refusal = |device| error(&host, device, slice::from_ref(&frames));
    assert_eq!(refusal("h7"), "device h7: there is no such interface; check the name with `ip link`");
    assert_eq!(
        error(&host, "h0", &[pool(100)]),
        "device h0: a worker has too few packet buffers for the port's receive rings; give it 288 more for this port, or configure smaller rings"
    );
    let nothing_stays = || host.within(|| assert!(af_xdp::attached("h0").unwrap().is_none()));
    nothing_stays();

    let port = open(&host, "h0", &frames);
    assert_eq!(
        refusal("h0"),
        "device h0: the device is in use by another instance; stop that one first, or name another device"
    );
    host.within(|| assert!(af_xdp::attached("h0").unwrap().unwrap().is_ours()));
    // A program that knows nothing of our lock.
    let AfXdpPort { rx, tx, lock, .. } = port;
    drop(lock);
    assert_eq!(
        refusal("h0"),
        "device h0: bind(AF_XDP) failed: Device or resource busy (os error 16); \
         another AF_XDP socket has queue 0 of the device: stop the program that does"
    );
    drop((rx, tx));
    nothing_stays();
    assert_eq!(frames.in_use(), 0);

    let foreign = ForeignProgram::attach(&host, "h0");
    assert_eq!(
        refusal("h0"),
        format!(
            "device h0: another XDP program is attached to the interface; \
             stop what attached program {} (`pass_all`), or detach it with `ip link set dev h0 xdp off`",
            foreign.id(&host, "h0")
        )
    );
    host.within(|| assert!(!af_xdp::detach("h0").unwrap(), "it is not ours to take away"));
    foreign.id(&host, "h0");
    drop(foreign);
    // A process that another test is about to start can still have a copy of its descriptor.
    let is_gone = || host.within(|| af_xdp::attached("h0").unwrap().is_none());
    assert!((0..200).any(|_| is_gone() || {
        std::thread::sleep(Duration::from_millis(10));
        false
    }));
    drop(open(&host, "h0", &frames));

    host.run("ip addr add 192.0.2.1/24 dev h0");
    assert!(refusal("h0").contains("the kernel has addresses on the interface; remove 192.0.2.1"));
    nothing_stays();
}

/// A program of somebody else's, which lets everything pass.
struct ForeignProgram {
    _link: OwnedFd,
}

impl ForeignProgram {
    fn attach(netns: &Netns, device: &str) -> Self {
        let ifindex = netns.output(&format!("cat /sys/class/net/{device}/ifindex")).trim().parse().unwrap();
        // `return XDP_PASS`: two instructions.
        let instructions: [u64; 2] = [0x2_0000_00b7, 0x95];
        let mut load = [0u32; 18];
        load[0] = 6;
        load[1] = 2;
        load[2..4].copy_from_slice(&halves(instructions.as_ptr().expose_provenance()));
        load[4..6].copy_from_slice(&halves(c"GPL".as_ptr().expose_provenance()));
        for (word, text) in load[12..16].iter_mut().zip(b"pass_all".chunks(4)) {
            *word = u32::from_ne_bytes(text.try_into().unwrap());
        }
        let program = bpf(5, &mut load);
        let mut link = [program.as_raw_fd() as u32, ifindex, 37, 0];
        let _link = netns.within(|| bpf(28, &mut link));
        Self { _link }
    }

    fn id(&self, netns: &Netns, device: &str) -> u32 {
        let program = netns.within(|| af_xdp::attached(device).unwrap().unwrap());
        assert_eq!((program.name.as_deref(), program.is_ours()), (Some("pass_all"), false));
        program.id
    }
}

fn halves(address: usize) -> [u32; 2] {
    [address as u32, (address >> 32) as u32]
}

/// bpf(2) with commands that make a descriptor.
fn bpf(command: libc::c_long, attributes: &mut [u32]) -> OwnedFd {
    // SAFETY: pointer and length are of one live slice, whose pointers are to memory that lives as long.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            size_of_val(attributes) as libc::c_long,
        )
    };
    assert!(fd >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

/// Names the namespace and interface that a child process of this test takes.
const CHILD: &str = "AF_XDP_TEST_CHILD";

/// Takes a port and keeps it until the process is killed. Does nothing unless a test starts it.
#[test]
fn child_that_takes_a_port() {
    let Ok(device) = std::env::var(CHILD) else { return };
    let port = af_xdp::open(&device, &small(), &[pool(1024)]).unwrap();
    println!("{}", port.description);
    std::thread::sleep(Duration::from_secs(60));
    drop(port);
}

/// A child process that has taken the interface.
fn child(netns: &Netns, device: &str) -> Child {
    let mut child = netns.within(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["child_that_takes_a_port", "--exact", "--nocapture"])
            .env(CHILD, device)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("driver mode")), "the child takes the port");
    child
}

#[test]
fn killed_it_leaves_the_kernel_shut_out_and_the_next_start_takes_over() {
    if skipped("killed_it_leaves_the_kernel_shut_out_and_the_next_start_takes_over") {
        return;
    }
    let (peer, host) = pair();
    let answers = answering(&peer, &host);
    let attached = || host.within(|| af_xdp::attached("h0").unwrap());
    assert!(answers(), "the kernel answers when nobody keeps it from it");

    let mut first = child(&host, "h0");
    assert!(!answers());
    let before = attached().unwrap();
    assert!(before.is_ours() && before.mode == XdpMode::Driver);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(attached(), Some(before.clone()), "the program outlives the process");
    assert!(!answers());
    // Each of the two is enough.
    host.within(|| ingress::release("h0").unwrap());
    assert!(!answers(), "the program alone");
    host.within(|| ingress::hold("h0").unwrap());
    host.run("ip link set dev h0 xdp off");
    assert!(!answers(), "the drop at ingress alone");
    host.within(|| ingress::release("h0").unwrap());
    assert!(answers(), "without either the kernel answers");

    // Left behind once more, and taken over without a moment in which no program is there.
    let mut second = child(&host, "h0");
    second.kill().unwrap();
    second.wait().unwrap();
    let left = attached().unwrap();
    let (watching, done, frames) = (AtomicBool::new(false), AtomicBool::new(false), pool(1024));
    let mut port = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            host.enter();
            let mut ids = Vec::new();
            while !done.load(Ordering::Relaxed) {
                ids.push(af_xdp::attached("h0").unwrap().map(|program| program.id));
                watching.store(true, Ordering::Relaxed);
            }
            ids.dedup();
            ids
        });
        while !watching.load(Ordering::Relaxed) && !watch.is_finished() {
            std::thread::yield_now();
        }
        let port = open(&host, "h0", &frames);
        done.store(true, Ordering::Relaxed);
        let ids = watch.join().unwrap();
        assert_eq!((ids.first(), ids.iter().any(Option::is_none)), (Some(&Some(left.id)), false), "{ids:?}");
        port
    });
    assert!(attached().unwrap().id != left.id);
    assert!(!answers());
    let mut burst = Burst::new();
    assert!(port.rx[0].receive(&mut burst) > 0 && burst.iter().any(is_arp), "it comes to the port");
    drop(burst);

    drop(port);
    assert_eq!(attached(), None, "a clean stop takes the program away");
    assert!(!answers(), "and leaves the kernel shut out");
    host.within(|| ingress::release("h0").unwrap());
    assert!(answers());
    assert_eq!(frames.in_use(), 0);

    // What `nva ports release` needs.
    let mut third = child(&host, "h0");
    third.kill().unwrap();
    third.wait().unwrap();
    host.within(|| {
        assert!(af_xdp::detach("h0").unwrap());
        assert!(!af_xdp::detach("h0").unwrap());
    });
    assert_eq!(attached(), None);
}

#[test]
fn checksums_that_a_veth_peer_leaves_unfinished_stay_so_until_it_is_told() {
    if skipped("checksums_that_a_veth_peer_leaves_unfinished_stay_so_until_it_is_told") {
        return;
    }
    let (peer, host) = pair();
    peer.run("ip addr add 10.9.0.2/24 dev p0");
    peer.run("ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev p0");
    let frames = pool(1024);
    let mut port = open(&host, "h0", &frames);
    let mut arrives_right = || {
        peer.within(|| {
            let socket = UdpSocket::bind("10.9.0.2:0").unwrap();
            socket.send_to(b"some words", "10.9.0.1:9").unwrap();
        });
        let frames = receive_until(&mut port, |frames| !frames.is_empty());
        assert_eq!(frames[0].offload().checksum, ChecksumStatus::Unverified);
        udp(&frames[0]).unwrap().1
    };
    assert!(!arrives_right(), "else the note says nothing");
    // The command that the note gives.
    peer.run("ethtool -K p0 tx off txvlan off");
    assert!(arrives_right());
}

#[test]
fn a_port_whose_interface_vanishes_ends_quietly() {
    if skipped("a_port_whose_interface_vanishes_ends_quietly") {
        return;
    }
    let (_peer, host) = pair();
    let frames = pool(512);
    let mut port = open(&host, "h0", &frames);
    let mut burst: Burst<PoolFrame> = (0..10).map(|number| frame(&frames, number, 100)).collect();
    assert_eq!(port.tx[0].send(&mut burst), 10);
    host.run("ip link del h0");
    assert!(port.link_state().is_err());
    burst.extend((0..10).map(|number| frame(&frames, number, 100)));
    port.tx[0].send(&mut burst);
    burst.clear();
    port.rx[0].receive(&mut burst);
    assert!(port.tx[0].counters().errors > 0);
    port.rx[0].counters();
    drop((burst, port));
    assert_eq!(frames.in_use(), 0);
}
