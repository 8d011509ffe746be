//! Packet-socket ports against the kernel, in network namespaces of the tests' own.

mod common;
#[path = "common/scene.rs"]
mod scene;

use common::{Netns, skipped};
use pmd_shim::af_packet::{self, AfPacketOptions, AfPacketPort, BpfInstruction, Steering};
use pmd_shim::kernel::{ingress, link};
use pmd_shim::{
    Burst, ChecksumStatus, Frame, Pool, PoolFrame, PoolOptions, RxOffload, RxQueue, TxQueue, idle,
};
use scene::{answering, frame, is_arp, is_ours, number, pair, receive_until, udp};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn pool(frames: usize) -> Pool {
    Pool::new(PoolOptions { frames, data_room: 1600 }).unwrap()
}

fn small() -> AfPacketOptions {
    AfPacketOptions { rx_frames: 1024, tx_frames: 256, ..AfPacketOptions::default() }
}

#[test]
fn the_kernel_is_kept_from_answering_until_it_is_released() {
    if skipped("the_kernel_is_kept_from_answering_until_it_is_released") {
        return;
    }
    let (peer, host) = pair();
    let qdiscs = || host.output("tc qdisc show dev h0");
    let answers = answering(&peer, &host);
    let before = qdiscs();
    assert!(answers(), "the kernel answers when nobody keeps it from it");

    let mut port = host.within(|| af_packet::open("h0", &small(), &[pool(512)]).unwrap());
    assert!(!answers());
    let frames = receive_until(&mut port.rx, is_arp, |frames| !frames.is_empty());
    assert!(!frames.is_empty(), "the tap sees what the kernel is kept from");
    drop(port);
    assert!(!answers(), "the drop stays when the port is gone");
    host.within(|| {
        assert!(ingress::is_held("h0").unwrap());
        ingress::hold("h0").unwrap();
    });
    assert!(!host.output("ip -6 addr show dev h0").contains("fe80"));

    host.within(|| {
        ingress::release("h0").unwrap();
        assert!(!ingress::is_held("h0").unwrap());
        ingress::release("h0").unwrap();
    });
    assert!(answers(), "released");
    assert_eq!(qdiscs(), before);
    assert_eq!(host.output("cat /proc/sys/net/ipv6/conf/h0/disable_ipv6").trim(), "0");
}

#[test]
fn filters_and_settings_of_others_are_left_alone() {
    if skipped("filters_and_settings_of_others_are_left_alone") {
        return;
    }
    let (_peer, host) = pair();
    host.run("sysctl -qw net.ipv6.conf.h0.disable_ipv6=1");
    host.run("tc qdisc add dev h0 clsact");
    host.run("tc filter add dev h0 ingress protocol ip pref 7 u32 match u32 0 0 flowid 1:1");
    let before = host.output("tc filter show dev h0 ingress");
    host.within(|| ingress::hold("h0").unwrap());
    assert!(host.output("tc filter show dev h0 ingress").contains("pref 1 bpf"));
    host.within(|| {
        assert!(ingress::is_held("h0").unwrap());
        ingress::release("h0").unwrap();
    });
    assert_eq!(host.output("tc filter show dev h0 ingress"), before);
    assert_eq!(host.output("cat /proc/sys/net/ipv6/conf/h0/disable_ipv6").trim(), "1");
}

#[test]
fn a_port_that_cannot_be_ours_is_refused_in_a_sentence() {
    if skipped("a_port_that_cannot_be_ours_is_refused_in_a_sentence") {
        return;
    }
    let (_peer, host) = pair();
    host.within(|| {
        let error = |device, options: &AfPacketOptions| {
            af_packet::open(device, options, &[pool(64)]).unwrap_err().to_string()
        };
        assert_eq!(
            error("h7", &small()),
            "device h7: there is no such interface; check the name with `ip link`"
        );
        assert!(error("lo", &small()).contains("the interface is not Ethernet"));
        let jumbo = AfPacketOptions { mtu: Some(9000), ..small() };
        assert_eq!(
            error("h0", &jumbo),
            "device h0: the interface's MTU is smaller than the configured one; configure at most 1500 or run `ip link set dev h0 mtu 9000`"
        );
        assert!(!ingress::is_held("h0").unwrap());

        let port = af_packet::open("h0", &small(), &[pool(64)]).unwrap();
        assert_eq!((port.mtu, port.link_state().unwrap().running), (1500, true));
        assert_eq!(
            error("h0", &small()),
            "device h0: the device is in use by another instance; stop that one first, or name another device"
        );
        drop(port);
        drop(af_packet::open("h0", &small(), &[pool(64)]).unwrap());
        ingress::release("h0").unwrap();
    });
    host.run("ip addr add 192.0.2.1/24 dev h0");
    host.run("ip addr add 2001:db8::1/64 dev h0 nodad");
    host.within(|| {
        let addresses = link::routable_addresses("h0").unwrap();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"].map(|address| address.parse::<IpAddr>().unwrap()));
        let error = af_packet::open("h0", &small(), &[pool(64)]).unwrap_err().to_string();
        assert_eq!(
            error,
            "device h0: the kernel has addresses on the interface; remove 192.0.2.1, 2001:db8::1 with `ip addr flush dev h0` if the interface is meant for the appliance"
        );
        assert!(!ingress::is_held("h0").unwrap());
        assert_eq!(link::kernel_forwards(), [""; 0]);
    });
    host.run("sysctl -qw net.ipv4.ip_forward=1");
    host.within(|| assert_eq!(link::kernel_forwards(), ["net.ipv4.ip_forward"]));
}

#[test]
fn a_port_that_is_down_is_switched_on() {
    if skipped("a_port_that_is_down_is_switched_on") {
        return;
    }
    let (_peer, host) = pair();
    host.run("ip link set h0 down");
    let port = host.within(|| af_packet::open("h0", &small(), &[pool(64)]).unwrap());
    assert!(port.link_state().unwrap().up);
    assert!(!host.output("ip -6 addr show dev h0").contains("fe80"), "no link-local address comes up");
}

#[test]
fn what_is_sent_arrives_byte_for_byte_and_in_order() {
    if skipped("what_is_sent_arrives_byte_for_byte_and_in_order") {
        return;
    }
    const COUNT: u32 = 1000;
    let (peer, host) = pair();
    let buffers = pool(4096);
    let mut sender = peer.within(|| af_packet::open("p0", &small(), &[pool(64)]).unwrap());
    let mut receiver =
        host.within(|| af_packet::open("h0", &small(), std::slice::from_ref(&buffers)).unwrap());
    let source = pool(256);
    let len = |number: u32| 20 + (number as usize * 7) % 1490;
    let mut burst = Burst::new();
    let mut frames = Vec::new();
    for number in 0..COUNT {
        burst.push(frame(&source, number, len(number), &[]));
        if burst.is_full() || number + 1 == COUNT {
            let offered = burst.len();
            assert_eq!(sender.tx[0].send(&mut burst), offered);
            let want = frames.len() + offered;
            let more = receive_until(&mut receiver.rx, is_ours, |more| frames.len() + more.len() >= want);
            frames.extend(more);
        }
    }
    assert_eq!(frames.len(), COUNT as usize);
    for (number, got) in frames.iter().enumerate() {
        let number = number as u32;
        assert_eq!(got.bytes(), frame(&source, number, len(number), &[]).bytes());
        assert_eq!(got.offload(), RxOffload::default());
    }
    assert_eq!(sender.tx[0].counters().packets, u64::from(COUNT));
    assert_eq!(receiver.rx[0].counters().missed, 0);
    assert_eq!(source.in_use(), 0);
}

#[test]
fn too_long_a_frame_is_an_error_on_sending_and_truncated_on_receiving() {
    if skipped("too_long_a_frame_is_an_error_on_sending_and_truncated_on_receiving") {
        return;
    }
    let (peer, host) = pair();
    for (netns, device) in [(&peer, "p0"), (&host, "h0")] {
        netns.run(&format!("ip link set {device} mtu 9000"));
    }
    let jumbo = Pool::new(PoolOptions { frames: 64, data_room: 9100 }).unwrap();
    let mut sender = peer.within(|| af_packet::open("p0", &small(), &[pool(64)]).unwrap());
    let mut receiver = host.within(|| af_packet::open("h0", &small(), &[pool(64)]).unwrap());
    let mut burst: Burst<PoolFrame> =
        [(1, 9015), (2, 9014)].into_iter().map(|(number, len)| frame(&jumbo, number, len, &[])).collect();
    assert_eq!(sender.tx[0].send(&mut burst), 2);
    let counters = sender.tx[0].counters();
    assert_eq!((counters.packets, counters.errors), (1, 1));
    let frames = receive_until(&mut receiver.rx, is_ours, |frames| !frames.is_empty());
    assert_eq!(frames.len(), 1);
    assert!(frames[0].offload().truncated);
    let got = frames[0].bytes();
    assert!(got.len() >= 1600);
    assert_eq!(got, &frame(&jumbo, 2, 9014, &[]).bytes()[..got.len()]);
}

#[test]
fn tags_that_the_kernel_took_off_are_seen() {
    if skipped("tags_that_the_kernel_took_off_are_seen") {
        return;
    }
    let (peer, host) = pair();
    let mut sender = peer.within(|| af_packet::open("p0", &small(), &[pool(64)]).unwrap());
    let mut receiver = host.within(|| af_packet::open("h0", &small(), &[pool(64)]).unwrap());
    let source = pool(64);
    let tags: [&[u8]; 4] =
        [&[], &[0x81, 0, 0x60, 5], &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7], &[0x81, 0, 0, 0, 0x81, 0, 0, 8]];
    let mut burst: Burst<PoolFrame> =
        tags.iter().enumerate().map(|(number, tag)| frame(&source, number as u32, 100, tag)).collect();
    assert_eq!(sender.tx[0].send(&mut burst), 4);
    let frames = receive_until(&mut receiver.rx, is_ours, |frames| frames.len() == 4);
    let got: Vec<_> =
        frames.iter().map(|frame| (frame.offload().vlan, frame.bytes()[12..22].to_vec())).collect();
    let want = [
        (None, vec![0x88, 0xb5, 0, 0, 0, 0]),
        (Some(0x6005), vec![0x88, 0xb5, 0, 0, 0, 1]),
        (None, vec![0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 0x88, 0xb5]),
        (Some(0), vec![0x81, 0, 0, 8, 0x88, 0xb5, 0, 0, 0, 3]),
    ];
    assert_eq!(got.len(), want.len());
    for ((vlan, bytes), (want_vlan, want_bytes)) in got.iter().zip(&want) {
        assert_eq!((vlan, &bytes[..want_bytes.len()]), (want_vlan, &want_bytes[..]));
    }
}

#[test]
fn queues_share_the_traffic_as_the_program_says() {
    if skipped("queues_share_the_traffic_as_the_program_says") {
        return;
    }
    const COUNT: u32 = 500;
    let (peer, host) = pair();
    // The low byte of the number that follows the EtherType; offsets from SKF_NET_OFF.
    let load = BpfInstruction { code: 0x30, jump_true: 0, jump_false: 0, operand: 0xfff0_0003 };
    let give = BpfInstruction { code: 0x16, jump_true: 0, jump_false: 0, operand: 0 };
    let steering = Steering::Program(vec![load, give]);
    let options = AfPacketOptions { steering, ..AfPacketOptions::default() };
    let mut sender = peer.within(|| af_packet::open("p0", &small(), &[pool(64)]).unwrap());
    let pools = [pool(1024), pool(1024)];
    let mut receiver = host.within(|| af_packet::open("h0", &options, &pools).unwrap());
    let source = pool(64);
    for number in 0..COUNT {
        let mut burst: Burst<PoolFrame> = [frame(&source, number, 60, &[])].into_iter().collect();
        assert_eq!(sender.tx[0].send(&mut burst), 1);
    }
    assert_eq!(source.in_use(), 0);
    let mut seen = [HashSet::new(), HashSet::new()];
    let mut burst = Burst::new();
    let mut idle_rounds = 0;
    while seen[0].len() + seen[1].len() < COUNT as usize && idle_rounds < 100 {
        for (rx, seen) in receiver.rx.iter_mut().zip(&mut seen) {
            if rx.receive(&mut burst) == 0
                && let Some(handle) = rx.wait_handle()
                && !idle::wait(&[handle], 20).unwrap()
            {
                idle_rounds += 1;
            }
            for frame in burst.drain(..).filter(is_ours) {
                assert!(seen.insert(number(&frame)));
            }
        }
    }
    for (queue, seen) in seen.iter().enumerate() {
        assert_eq!(seen.len(), COUNT as usize / 2);
        assert!(seen.iter().all(|number| *number as usize % 2 == queue));
    }
}

#[test]
fn unfinished_checksums_and_segmentations_are_finished() {
    if skipped("unfinished_checksums_and_segmentations_are_finished") {
        return;
    }
    const SEGMENT: i32 = 1400;
    let (peer, host) = pair();
    peer.run("ip addr add 10.9.0.2/24 dev p0");
    peer.run("ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:09 dev p0");
    let mut port = host.within(|| af_packet::open("h0", &small(), &[pool(512)]).unwrap());
    let payload: Vec<u8> = (0..60_000u32).map(|at| (at / 7) as u8).collect();
    peer.within(|| {
        let socket = UdpSocket::bind("10.9.0.2:0").unwrap();
        socket.connect("10.9.0.1:9").unwrap();
        socket.send(b"one alone").unwrap();
        // SAFETY: pointer and length are of one live integer.
        let outcome = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                core::ptr::from_ref(&SEGMENT).cast(),
                4,
            )
        };
        assert_eq!(outcome, 0);
        socket.send(&payload).unwrap();
    });
    let part = |frame: &PoolFrame| udp(frame).map(|(part, _)| part);
    let total = |frames: &[PoolFrame]| frames.iter().filter_map(part).map(|part| part.len()).sum::<usize>();
    let is_udp = |frame: &PoolFrame| udp(frame).is_some();
    let frames = receive_until(&mut port.rx, is_udp, |frames| total(frames) >= payload.len() + 9);
    for frame in &frames {
        assert!(udp(frame).unwrap().1, "the checksum is right");
        assert_eq!(frame.offload().checksum, ChecksumStatus::Verified);
    }
    let parts: Vec<Vec<u8>> = frames.iter().filter_map(part).collect();
    let (first, parts) = parts.split_first().unwrap();
    assert_eq!(first, b"one alone");
    assert!(parts.iter().all(|part| part.len() <= SEGMENT as usize));
    assert_eq!(parts.concat(), payload);
    assert_eq!(port.rx[0].counters().errors, 0);
}

/// More lost frames than this are no accident.
const LOST_MAX: u64 = 1000;

/// Moves frames between two ports, as a wire would, until told to stop or too many are lost; returns how many were refused or lost.
fn cross_connect(mut a: AfPacketPort, mut b: AfPacketPort, stop: &AtomicBool) -> u64 {
    let mut burst = Burst::new();
    let mut refused = 0;
    loop {
        let mut moved = 0;
        for (from, to) in [(&mut a.rx, &mut b.tx), (&mut b.rx, &mut a.tx)] {
            for (rx, tx) in from.iter_mut().zip(to) {
                moved += rx.receive(&mut burst);
                tx.send(&mut burst);
                refused += burst.drain(..).len() as u64;
            }
        }
        if moved > 0 {
            continue;
        }
        let queues = a.rx.iter_mut().chain(&mut b.rx).map(RxQueue::counters);
        let lost: u64 = queues.map(|queue| queue.missed + queue.no_buffer + queue.errors).sum();
        if stop.load(Ordering::Relaxed) || refused + lost > LOST_MAX {
            return refused + lost;
        }
        let queues = a.rx.iter().chain(&b.rx);
        let handles: Vec<_> = queues.filter_map(RxQueue::wait_handle).collect();
        idle::wait(&handles, 10).unwrap();
    }
}

/// Raises a flag when it goes out of scope, also by a failed assertion.
struct RaisedAtEnd<'a>(&'a AtomicBool);

impl Drop for RaisedAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn connections_with_all_offloads_pass_intact() {
    if skipped("connections_with_all_offloads_pass_intact") {
        return;
    }
    const BYTES: usize = 20 << 20;
    let (client, middle, server) = (Netns::new(), Netns::new(), Netns::new());
    Netns::connect((&client, "c0"), (&middle, "m0"));
    Netns::connect((&server, "s0"), (&middle, "m1"));
    for (netns, device, number) in [(&client, "c0", 1), (&server, "s0", 2)] {
        netns.run(&format!("ip addr add 10.9.0.{number}/24 dev {device}"));
        netns.run(&format!("ip addr add 2001:db8::{number}/64 dev {device} nodad"));
    }
    let ports = middle.within(|| {
        ["m0", "m1"].map(|device| {
            af_packet::open(device, &AfPacketOptions::default(), &[pool(2048), pool(2048)]).unwrap()
        })
    });
    let stop = AtomicBool::new(false);
    let byte = |at: usize| (at.wrapping_mul(2654435761) >> 13) as u8;
    std::thread::scope(|scope| {
        let [a, b] = ports;
        let stop = &stop;
        let wire = scope.spawn(move || cross_connect(a, b, stop));
        let at_end = RaisedAtEnd(stop);
        // Nothing hangs when the connection does.
        let patience = Some(Duration::from_secs(10));
        for address in ["10.9.0.2:80", "[2001:db8::2]:80"] {
            let listener = server.within(|| TcpListener::bind(address).unwrap());
            let mut out = client.within(|| TcpStream::connect(address).unwrap());
            out.set_write_timeout(patience).unwrap();
            let sender = scope.spawn(move || {
                let data: Vec<u8> = (0..BYTES).map(byte).collect();
                out.write_all(&data).unwrap();
            });
            let (mut incoming, _) = listener.accept().unwrap();
            incoming.set_read_timeout(patience).unwrap();
            let mut got = Vec::new();
            incoming.read_to_end(&mut got).unwrap();
            sender.join().unwrap();
            assert_eq!(got.len(), BYTES, "{address}");
            assert!(got.iter().enumerate().all(|(at, got)| *got == byte(at)), "{address}: wrong bytes");
        }
        drop(at_end);
        let lost = wire.join().unwrap();
        // TCP repairs losses, but there is no reason for any beyond the odd full transmit ring.
        assert!(lost <= LOST_MAX, "{lost} frames lost");
    });
}
