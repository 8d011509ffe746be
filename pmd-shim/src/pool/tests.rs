use super::*;
use crate::{BURST, Burst, ChecksumStatus, Frame, NoHeadroom, NoTailroom, RxOffload, TooShort};
use std::sync::mpsc;
use std::thread;

fn pool(frames: usize, data_room: usize) -> Pool {
    Pool::new(PoolOptions { frames, data_room }).unwrap()
}

/// A generator that is good enough to mix up an order.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn gives_out_each_frame_once_and_no_more() {
    let pool = pool(100, 1600);
    let mut frames: Vec<PoolFrame> = (0..100).map(|_| pool.frame().unwrap()).collect();
    assert!(pool.frame().is_none());
    assert_eq!(pool.in_use(), 100);
    for (number, frame) in frames.iter_mut().enumerate() {
        frame.set_len(1600).unwrap();
        frame.bytes_mut().fill(number as u8);
    }
    for (number, frame) in frames.iter().enumerate() {
        assert!(
            frame.bytes().iter().all(|byte| *byte == number as u8),
            "frame {number} was written by another"
        );
    }
    frames.truncate(40);
    assert_eq!(pool.in_use(), 40);
    drop(frames);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_new_frame_is_empty_whatever_it_was_before() {
    let pool = pool(1, 1500);
    let mut frame = pool.frame().unwrap();
    frame.set_len(1000).unwrap();
    frame.pop_front(10).unwrap();
    frame.set_mark(7);
    frame.set_offload(RxOffload { checksum: ChecksumStatus::Verified, vlan: Some(3), truncated: true });
    drop(frame);
    let mut frame = pool.frame().unwrap();
    assert_eq!((frame.bytes().len(), frame.mark(), frame.offload()), (0, 0, RxOffload::default()));
    assert_eq!(frame.push_front(HEADROOM + 1), Err(NoHeadroom));
    assert_eq!(frame.push_front(HEADROOM), Ok(()));
}

#[test]
fn a_frame_grows_and_shrinks_at_both_ends_and_never_leaves_its_chunk() {
    for data_room in [60, 1518, 1856, 1857, 9018, Pool::DATA_ROOM_MAX] {
        let pool = pool(64, data_room);
        assert!(pool.data_room() >= data_room);
        for _ in 0..64 {
            let mut frame = pool.copy_from(&vec![7; data_room]).unwrap();
            let room = frame.tailroom();
            assert_eq!(frame.set_len(data_room + room + 1), Err(NoTailroom));
            assert_eq!(frame.extend_from_slice(&vec![1; room + 1]), Err(NoTailroom));
            assert_eq!(frame.extend_from_slice(&vec![1; room]), Ok(()));
            assert_eq!(frame.pop_front(data_room + room + 1), Err(TooShort));
            assert_eq!(frame.pop_front(data_room - 1), Ok(()));
            assert_eq!(frame.bytes()[0], 7);
            assert!(frame.bytes()[1..].iter().all(|byte| *byte == 1));
            assert_eq!(frame.push_front(data_room - 1 + HEADROOM), Ok(()));
            assert_eq!(frame.push_front(1), Err(NoHeadroom));
            frame.bytes_mut().fill(9);
        }
    }
}

#[test]
fn frames_do_what_every_frame_must() {
    for data_room in [60, 1518, 9018] {
        // One chunk, as neighbours have different room behind.
        let pool = pool(1, data_room);
        let room = pool.frame().unwrap().tailroom();
        crate::frame_laws::hold(&pool, HEADROOM, room);
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn refuses_sizes_that_cannot_be() {
    assert!(matches!(Pool::new(PoolOptions { frames: 0, data_room: 64 }), Err(PoolError::Frames(0))));
    let room = Pool::DATA_ROOM_MAX + 1;
    let error = Pool::new(PoolOptions { frames: 1, data_room: room }).unwrap_err();
    assert_eq!(error.to_string(), format!("a frame has at most 16192 bytes, {room} were asked for"));
}

#[test]
fn one_owner_at_a_time() {
    let pool = pool(8, 64);
    let owner = pool.adopt().unwrap();
    assert_eq!(pool.adopt().unwrap_err(), AlreadyOwned);
    thread::scope(|scope| scope.spawn(|| assert!(pool.adopt().is_err())).join().unwrap());
    drop(owner);
    thread::scope(|scope| scope.spawn(|| assert!(pool.adopt().is_ok())).join().unwrap());
    assert!(pool.adopt().is_ok());
}

#[test]
fn an_owner_gets_all_frames_also_those_freed_elsewhere() {
    let pool = pool(64, 64);
    let _owner = pool.adopt().unwrap();
    for _ in 0..3 {
        let frames: Vec<PoolFrame> = (0..64).map(|_| pool.frame().unwrap()).collect();
        assert!(pool.frame().is_none());
        thread::scope(|scope| scope.spawn(move || drop(frames)).join().unwrap());
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn another_thread_can_allocate_beside_the_owner() {
    let pool = pool(64, 64);
    let _owner = pool.adopt().unwrap();
    let frame = thread::scope(|scope| scope.spawn(|| pool.frame()).join().unwrap());
    assert_eq!(pool.in_use(), 1);
    drop(frame);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn all_frames_come_back_from_several_threads() {
    let pool = pool(512, 64);
    let (send, receive) = mpsc::sync_channel::<Vec<PoolFrame>>(4);
    thread::scope(|scope| {
        let to_other = send.clone();
        let shared = &pool;
        scope.spawn(move || {
            let _owner = shared.adopt().unwrap();
            let (mut state, mut held) = (1, Vec::new());
            for round in 0..20_000 {
                match next(&mut state) % 4 {
                    0 | 1 => held.extend(shared.frame()),
                    2 if !held.is_empty() => drop(held.swap_remove(next(&mut state) % held.len())),
                    _ if round % 16 == 0 => to_other.send(std::mem::take(&mut held)).unwrap(),
                    _ => {}
                }
            }
        });
        let to_other = send;
        scope.spawn(move || {
            let (mut state, mut held) = (2, Vec::new());
            for round in 0..20_000 {
                if let Some(mut frame) = shared.frame() {
                    frame.extend_from_slice(&[1, 2, 3]).unwrap();
                    held.push(frame);
                }
                if next(&mut state).is_multiple_of(3) || held.len() > 100 {
                    held.clear();
                } else if round % 64 == 0 {
                    to_other.send(std::mem::take(&mut held)).unwrap();
                }
            }
        });
        scope.spawn(move || {
            for (round, frames) in receive.into_iter().enumerate() {
                let mut frames = frames.into_iter();
                while round % 2 == 0 && frames.len() > 0 {
                    Frame::free_all(&mut frames.by_ref().take(BURST).collect());
                }
            }
        });
    });
    assert_eq!(pool.in_use(), 0);
    let all: Vec<PoolFrame> = (0..512).map(|_| pool.frame().unwrap()).collect();
    assert!(pool.frame().is_none());
    drop(all);
}

#[test]
fn a_burst_of_several_pools_goes_home() {
    let pools = [pool(8, 64), pool(8, 64), pool(8, 64)];
    let _owner = pools[1].adopt().unwrap();
    let elsewhere = thread::scope(|scope| {
        let adopt = || {
            let _owner = pools[2].adopt().unwrap();
            pools[2].frame()
        };
        scope.spawn(adopt).join().unwrap()
    });
    let mut burst: Burst<PoolFrame> =
        [0, 0, 1, 0, 1, 1, 2].iter().flat_map(|at| pools[*at].frame()).collect();
    burst.extend(elsewhere);
    assert_eq!(pools.each_ref().map(Pool::in_use), [3, 3, 2]);
    // One outlives its pool's handles.
    let [first, second, third] = pools;
    drop(third);
    Frame::free_all(&mut burst);
    assert!(burst.is_empty());
    assert_eq!([first, second].each_ref().map(Pool::in_use), [0, 0]);
}

#[test]
fn frames_outlive_the_last_handle() {
    let pool = pool(16, 64);
    let owner = pool.adopt().unwrap();
    let mut first = pool.copy_from(b"first").unwrap();
    let second = pool.copy_from(b"second").unwrap();
    drop(owner);
    drop(pool);
    thread::scope(|scope| scope.spawn(move || assert_eq!(second.bytes(), b"second")).join().unwrap());
    first.extend_from_slice(b" and last").unwrap();
    assert_eq!(first.bytes(), b"first and last");
}

#[test]
fn neighbouring_chunks_use_different_cache_sets() {
    let pool = pool(4, 1518);
    let lines: std::collections::HashSet<usize> = (0..4)
        .map(|_| std::mem::ManuallyDrop::new(pool.frame().unwrap()).bytes().as_ptr() as usize % 2048)
        .collect();
    assert_eq!(lines.len(), 4);
}
