use super::*;
use crate::{BURST, Burst, Frame, Pool, PoolFrame, PoolOptions, RxOffload, RxQueue, TxQueue};
use std::sync::Arc;

fn pool(frames: usize) -> Pool {
    Pool::new(PoolOptions { frames, data_room: 256 }).unwrap()
}

#[test]
fn frames_pass_in_order_and_are_counted() {
    let pool = pool(200);
    let queue = MemoryQueue::new(100);
    for number in 0..100u8 {
        queue.push(pool.copy_from(&[number; 60]).unwrap()).unwrap();
    }
    assert!(queue.push(pool.copy_from(b"x").unwrap()).is_err());
    let mut rx = MemoryRx::new(queue.clone());
    let mut burst = Burst::new();
    assert_eq!(rx.receive(&mut burst), BURST);
    assert_eq!(rx.receive(&mut burst), 0, "a full burst has no room");
    let out = MemoryQueue::new(70);
    let mut tx = MemoryTx::new(out.clone());
    assert_eq!(tx.send(&mut burst), BURST);
    assert_eq!(rx.receive(&mut burst), 36);
    assert_eq!(tx.send(&mut burst), 6);
    assert_eq!(burst.len(), 30);
    assert_eq!(burst[0].bytes()[0], 70, "the refused ones stay in front");
    assert_eq!((rx.counters().packets, rx.counters().bytes), (100, 6000));
    assert_eq!((tx.counters().packets, tx.counters().missed), (70, 30));
    let order: Vec<u8> = out.take_all().iter().map(|frame| frame.bytes()[0]).collect();
    assert_eq!(order, (0..70).collect::<Vec<u8>>());
    burst.clear();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_sink_takes_what_it_has_room_for() {
    let pool = pool(64);
    let mut burst: Burst<PoolFrame> = (0..10).map(|_| pool.copy_from(&[0; 64]).unwrap()).collect();
    let mut tx = SinkTx::new(4);
    assert_eq!((tx.send(&mut burst), tx.send(&mut burst), tx.send(&mut burst)), (4, 4, 2));
    assert_eq!((tx.counters().packets, tx.counters().bytes, tx.counters().missed), (10, 640, 8));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_loop_repeats_its_table_in_order() {
    let pool = pool(64);
    let table = Arc::new(Templates::new([&b"one"[..], b"two2", b"three"]));
    let mut rx = LoopRx::new(pool.clone(), Arc::clone(&table), 1, 7, RxOffload::default());
    let mut burst = Burst::new();
    assert_eq!(rx.receive(&mut burst), 7);
    let seen: Vec<&[u8]> = burst.iter().map(Frame::bytes).collect();
    assert_eq!(seen, [&b"two2"[..], b"three", b"one", b"two2", b"three", b"one", b"two2"]);
    assert_eq!(rx.counters().packets, 7);
}

#[test]
fn a_loop_counts_the_want_of_buffers_and_loses_no_packet_to_it() {
    let pool = pool(2);
    let mut rx = LoopRx::new(pool, Arc::new(Templates::new([b"a", b"b", b"c"])), 0, 64, RxOffload::default());
    let mut burst = Burst::new();
    assert_eq!(rx.receive(&mut burst), 2);
    assert_eq!(rx.counters().no_buffer, 1);
    burst.clear();
    assert_eq!(rx.receive(&mut burst), 2);
    assert_eq!(burst[0].bytes(), b"c");
}

#[test]
fn an_empty_table_gives_nothing() {
    let mut rx = LoopRx::new(pool(2), Arc::new(Templates::default()), 5, 64, RxOffload::default());
    assert_eq!(rx.receive(&mut Burst::new()), 0);
}
