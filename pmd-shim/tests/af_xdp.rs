//! AF_XDP ports against the kernel, in network namespaces of the tests' own.
#![cfg(feature = "af_xdp")]

mod common;

use common::{Netns, skipped};
use pmd_shim::af_xdp::{self, AfXdpOptions, AfXdpPort};
use pmd_shim::idle::{self, WaitHandles};
use pmd_shim::{Burst, Frame, Pool, PoolFrame, PoolOptions, RxOffload, RxQueue, TxQueue};

fn pool(frames: usize) -> Pool {
    Pool::new(PoolOptions { frames, data_room: 1518 }).unwrap()
}

/// Rings of 256 frames to receive and 64 to send.
fn small() -> AfXdpOptions {
    AfXdpOptions { rx_frames: 256, tx_frames: 64, ..AfXdpOptions::default() }
}

/// Receives until `enough` is true of what came, or nothing has come for two seconds.
fn receive_until(port: &mut AfXdpPort, mut enough: impl FnMut(&[PoolFrame]) -> bool) -> Vec<PoolFrame> {
    let (mut frames, mut burst) = (Vec::new(), Burst::new());
    while !enough(&frames) {
        let mut count = 0;
        for rx in &mut port.rx {
            count += rx.receive(&mut burst);
            frames.extend(burst.drain(..).filter(is_ours));
        }
        let mut handles = WaitHandles::new();
        assert!(port.rx.iter().all(|rx| rx.wait_handles(&mut handles)));
        if count == 0 && !idle::wait(&handles, 2000).unwrap() {
            break;
        }
    }
    frames
}

/// Ours among other frames, such as the kernel's own neighbour discovery.
fn is_ours(frame: &PoolFrame) -> bool {
    frame.bytes().starts_with(&[2, 0, 0, 0, 0, 1])
}

/// A frame of an EtherType for experiments, so that nobody answers: number, padding.
fn frame(pool: &Pool, number: u32, len: usize) -> PoolFrame {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend((bytes.len()..len).map(|at| (at as u8) ^ (number as u8)));
    pool.copy_from(&bytes).unwrap()
}

#[test]
fn what_is_sent_arrives_byte_for_byte_and_in_order() {
    if skipped("what_is_sent_arrives_byte_for_byte_and_in_order") {
        return;
    }
    const COUNT: u32 = 1000;
    let (peer, host) = (Netns::new(), Netns::new());
    Netns::connect((&peer, "p0"), (&host, "h0"));
    let (out, into) = (pool(1024), pool(1024));
    let mut sender = peer.within(|| af_xdp::open("p0", &small(), std::slice::from_ref(&out)).unwrap());
    let mut receiver = host.within(|| af_xdp::open("h0", &small(), std::slice::from_ref(&into)).unwrap());
    eprintln!("{} {:?}", receiver.description, receiver.notes);
    assert_eq!(receiver.description, "copy, driver mode");
    let len = |number: u32| 20 + (number as usize * 7) % 1490;
    let mut burst = Burst::new();
    let mut number = 0;
    for number_of_frames in (1..=64).cycle() {
        let first = number;
        for _ in 0..number_of_frames {
            burst.push(frame(&out, number, len(number)));
            number += 1;
        }
        assert_eq!(sender.tx[0].send(&mut burst), number_of_frames);
        let frames = receive_until(&mut receiver, |frames| frames.len() == number_of_frames);
        assert_eq!(frames.len(), number_of_frames);
        for (got, number) in frames.iter().zip(first..) {
            assert_eq!(got.bytes(), frame(&out, number, len(number)).bytes());
            assert_eq!(got.offload(), RxOffload::default());
        }
        if number > COUNT {
            break;
        }
    }
    assert_eq!(sender.tx[0].counters().packets, u64::from(number));
    let counters = receiver.rx[0].counters();
    assert_eq!((counters.missed, counters.no_buffer, counters.errors), (0, 0, 0));
    drop((sender, receiver));
    assert_eq!((out.in_use(), into.in_use()), (0, 0));
}
