use super::*;
use crate::memory::{MemoryQueue, MemoryRx, MemoryTx};
use crate::{Pool, PoolFrame, PoolOptions};
use proptest::prelude::*;

fn pool() -> Pool {
    Pool::new(PoolOptions { frames: 2048, data_room: 256 }).unwrap()
}

/// `count` frames, each with its number in front.
fn numbered(pool: &Pool, count: u32) -> MemoryQueue<PoolFrame> {
    let queue = MemoryQueue::new(count as usize);
    for number in 0..count {
        let mut frame = pool.copy_from(&number.to_be_bytes()).unwrap();
        frame.set_len(60).unwrap();
        frame.bytes_mut()[4..].fill(0);
        queue.push(frame).unwrap();
    }
    queue
}

fn number(frame: &PoolFrame) -> u32 {
    u32::from_be_bytes(frame.bytes()[..4].try_into().unwrap())
}

/// Everything that comes out of a receive queue, until nothing is left.
fn receive_all(rx: &mut Faulty<MemoryRx<PoolFrame>, Pool>) -> Vec<PoolFrame> {
    let (mut all, mut burst) = (Vec::new(), Burst::new());
    let mut quiet = 0;
    while quiet < 2 {
        quiet = if rx.receive(&mut burst) == 0 && rx.held() == 0 { quiet + 1 } else { 0 };
        all.extend(burst.drain(..));
    }
    all
}

fn through(options: FaultOptions, count: u32) -> (Vec<PoolFrame>, FaultCounters) {
    let pool = pool();
    let mut rx = Faulty::new(MemoryRx::new(numbered(&pool, count)), pool.clone(), options);
    let frames = receive_all(&mut rx);
    (frames, rx.faults())
}

#[test]
fn a_link_without_faults_changes_nothing() {
    let (frames, faults) = through(FaultOptions { seed: 1, ..FaultOptions::default() }, 500);
    assert_eq!(frames.iter().map(number).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
    assert_eq!(faults, FaultCounters::default());
}

#[test]
fn drops_are_counted() {
    let (frames, faults) = through(FaultOptions { drop_per_mille: 200, ..FaultOptions::default() }, 1000);
    assert_eq!(frames.len() as u64 + faults.dropped, 1000);
    assert!((100..300).contains(&faults.dropped), "{faults:?}");
    assert!(frames.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])));
}

#[test]
fn every_frame_can_be_doubled() {
    let (frames, faults) =
        through(FaultOptions { duplicate_per_mille: 1000, ..FaultOptions::default() }, 300);
    let got: Vec<u32> = frames.iter().map(number).collect();
    let want: Vec<u32> = (0..300).flat_map(|number| [number, number]).collect();
    assert_eq!((got, faults.duplicated, faults.not_duplicated), (want, 300, 0));
}

#[test]
fn reordering_loses_nothing_and_is_bounded() {
    let options = FaultOptions {
        reorder_per_mille: 300,
        reorder_frames_max: 10,
        reorder_bursts_max: 3,
        ..FaultOptions::default()
    };
    let (frames, faults) = through(options, 1000);
    let mut numbers: Vec<u32> = frames.iter().map(number).collect();
    assert!(faults.reordered > 20);
    assert!(!numbers.is_sorted());
    for (at, number) in numbers.iter().enumerate() {
        assert!(at.abs_diff(*number as usize) <= 4 * BURST, "frame {number} came at place {at}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}

#[test]
fn corruption_turns_exactly_one_bit_over() {
    let pool = pool();
    let queue = numbered(&pool, 200);
    let options = FaultOptions { corrupt_per_mille: 500, ..FaultOptions::default() };
    let mut rx = Faulty::new(MemoryRx::new(queue), pool.clone(), options);
    let mut wrong_bits = 0;
    for (number, frame) in receive_all(&mut rx).iter().enumerate() {
        let want = (number as u32).to_be_bytes().into_iter().chain([0; 56]);
        let bits: u32 = frame.bytes().iter().zip(want).map(|(got, want)| (got ^ want).count_ones()).sum();
        assert!(bits <= 1);
        wrong_bits += u64::from(bits);
    }
    assert!(wrong_bits > 50);
    assert_eq!(wrong_bits, rx.faults().corrupted);
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let run = |seed| {
        let options = FaultOptions {
            seed,
            drop_per_mille: 100,
            duplicate_per_mille: 100,
            reorder_per_mille: 100,
            reorder_frames_max: 5,
            reorder_bursts_max: 2,
            corrupt_per_mille: 100,
            refuse_per_mille: 0,
        };
        through(options, 500).0.iter().map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_missing_buffer_costs_the_copy_only() {
    let pool = Pool::new(PoolOptions { frames: 64, data_room: 256 }).unwrap();
    let queue = numbered(&pool, 64);
    let options = FaultOptions { duplicate_per_mille: 1000, ..FaultOptions::default() };
    let mut rx = Faulty::new(MemoryRx::new(queue), pool.clone(), options);
    assert_eq!(receive_all(&mut rx).len(), 64);
    assert_eq!(rx.faults().not_duplicated, 64);
}

proptest! {
    #[test]
    fn sending_accounts_for_every_frame(
        seed in any::<u64>(),
        rates in prop::array::uniform5(0u16..400),
        bursts in prop::collection::vec(0..=BURST, 1..30),
        inner_room in prop::collection::vec(0usize..200, 30),
    ) {
        let pool = pool();
        let out = MemoryQueue::new(0);
        let options = FaultOptions {
            seed,
            drop_per_mille: rates[0],
            duplicate_per_mille: rates[1],
            reorder_per_mille: rates[2],
            reorder_frames_max: 8,
            reorder_bursts_max: 3,
            corrupt_per_mille: rates[3],
            refuse_per_mille: rates[4],
        };
        let mut tx = Faulty::new(MemoryTx::new(out.clone()), pool.clone(), options);
        let (mut taken, mut refused, mut arrived) = (0, 0, 0);
        for (count, room) in bursts.iter().zip(&inner_room) {
            out.set_room(*room);
            let mut burst: Burst<PoolFrame> = (0..*count).map(|_| pool.copy_from(&[0; 60]).unwrap()).collect();
            let sent = tx.send(&mut burst);
            prop_assert_eq!(sent + burst.len(), *count);
            taken += sent as u64;
            refused += burst.len() as u64;
            arrived += out.take_all().len() as u64;
            let faults = tx.faults();
            prop_assert_eq!(taken, arrived + tx.held() as u64 + faults.dropped - faults.duplicated);
            prop_assert_eq!(refused, faults.refused);
            prop_assert_eq!(tx.counters().missed, refused);
            prop_assert!(tx.held() <= 3 * BURST + 16, "{} frames held", tx.held());
        }
        out.set_room(2048);
        for _ in 0..8 {
            tx.send(&mut Burst::new());
        }
        prop_assert_eq!(tx.held(), 0);
        drop(out.take_all());
        prop_assert_eq!(pool.in_use(), 0);
    }
}
