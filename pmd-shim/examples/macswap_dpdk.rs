//! Sends back out of one device what came in at the other, with the hardware addresses swapped: shows that DPDK drives them, and
//! what the drivers' seam costs by itself.
//!
//! `macswap_dpdk SECONDS HUGEPAGES DEVICE DEVICE`, such as `macswap_dpdk 5 none net_null0 net_null1`. Prints what passed, and nanoseconds of this
//! thread's CPU time for each packet.

use pmd_shim::dpdk::{
    DpdkOptions, DpdkRx, DpdkTx, Eal, EalOptions, End, Hugepages, KEY_BYTES, Mbuf, MbufPool, Spread,
    is_pci_address, open,
};
use pmd_shim::{Burst, Frame, PoolOptions, RxQueue, TxQueue};
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, hugepages, one, other] = arguments.as_slice() else {
        return Err("usage: macswap_dpdk SECONDS 2M|1G|none DEVICE DEVICE".into());
    };
    let hugepages = match hugepages.as_str() {
        "2M" => Hugepages::Size2M,
        "1G" => Hugepages::Size1G,
        "none" => Hugepages::None,
        other => return Err(format!("{other} is not 2M, 1G or none").into()),
    };
    let pci = [one, other].into_iter().filter(|device| is_pci_address(device)).cloned().collect();
    let eal = Eal::start(&EalOptions { hugepages, memory_mib: 256, pci, ..EalOptions::default() })?;
    let pool = MbufPool::new(eal, PoolOptions { frames: 16_384, data_room: 1518 })?;
    let options = DpdkOptions {
        mtu: Some(1500),
        rx_frames: 1024,
        tx_frames: 1024,
        spread: Spread { end: End::Source, key: [0x6d; KEY_BYTES] },
    };
    let mut ends = Vec::new();
    let mut guards = Vec::new();
    for device in [one, other] {
        let port = open(eal, device, &options, std::slice::from_ref(&pool))?;
        println!("{device}: {}, MTU {}, {}", mac(port.mac), port.mtu, port.description);
        ends.extend(port.rx.into_iter().zip(port.tx));
        guards.push((port.link, port.locks));
    }
    let [(rx_one, tx_one), (rx_other, tx_other)] =
        <[_; 2]>::try_from(ends).map_err(|_| "not two pairs of queues")?;
    let _owner = pool.adopt()?;
    let mut ways = [(rx_one, tx_other), (rx_other, tx_one)];
    swap_for(Duration::from_millis(200), &mut ways);
    let (before, start) = (cpu_time_ns()?, Instant::now());
    let passed = swap_for(Duration::from_secs_f64(seconds.parse()?), &mut ways);
    let (cpu, wall) = (cpu_time_ns()? - before, start.elapsed());
    let seconds = wall.as_secs_f64();
    match passed {
        0 => println!("nothing came in {seconds:.2} s"),
        _ => println!(
            "{passed} packets in {seconds:.2} s, {:.2} ns of CPU time each",
            cpu as f64 / passed as f64
        ),
    }
    Ok(())
}

/// Passes bursts on until the time is over; returns how many packets were sent.
fn swap_for(time: Duration, ways: &mut [(DpdkRx, DpdkTx)]) -> u64 {
    let end = Instant::now() + time;
    let mut burst = Burst::new();
    let mut passed = 0;
    while Instant::now() < end {
        for _ in 0..256 {
            for (rx, tx) in ways.iter_mut() {
                rx.receive(&mut burst);
                burst.iter_mut().for_each(swap);
                passed += tx.send(&mut burst) as u64;
                // What the other side has no room for.
                burst.clear();
            }
        }
    }
    passed
}

#[inline(always)]
fn swap(frame: &mut Mbuf) {
    if let Some((to, [a, b, c, d, e, f, ..])) = frame.bytes_mut().split_first_chunk_mut::<6>() {
        let from = [*a, *b, *c, *d, *e, *f];
        [*a, *b, *c, *d, *e, *f] = *to;
        *to = from;
    }
}

/// What this thread has used so far.
fn cpu_time_ns() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("no CPU time in schedstat")?.parse()?)
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
