//! Sends back out of one interface what came in at the other, with the hardware addresses swapped: shows that AF_XDP drives them, and how
//! fast the driver is by itself.
//!
//! `macswap_af_xdp SECONDS DEVICE DEVICE`, as root. Prints what passed and what was lost.

use pmd_shim::af_xdp::{self, AfXdpOptions};
use pmd_shim::{Burst, Frame, Pool, PoolFrame, PoolOptions, RxQueue, TxQueue};
use std::error::Error;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, one, other] = arguments.as_slice() else {
        return Err("usage: macswap_af_xdp SECONDS DEVICE DEVICE".into());
    };
    let time = Duration::from_secs_f64(seconds.parse()?);
    let pool = Pool::new(PoolOptions { frames: 16_384, data_room: 1518 })?;
    let options = AfXdpOptions::default();
    let (mut queues, mut guards) = (Vec::new(), Vec::new());
    for device in [one, other] {
        let port = af_xdp::open(device, &options, std::slice::from_ref(&pool))?;
        println!("{device}: {}, MTU {}", port.description, port.mtu);
        port.notes.iter().for_each(|note| println!("{note}"));
        queues.extend(port.rx.into_iter().zip(port.tx));
        guards.push((port.guard, port.lock));
    }
    let [(rx_one, tx_one), (rx_other, tx_other)] =
        <[_; 2]>::try_from(queues).map_err(|_| "not two pairs of queues")?;
    let mut ways = [(rx_one, tx_other), (rx_other, tx_one)];
    let _owner = pool.adopt()?;

    let (start, mut burst) = (Instant::now(), Burst::new());
    while start.elapsed() < time {
        for _ in 0..256 {
            for (rx, tx) in &mut ways {
                if rx.receive(&mut burst) > 0 {
                    burst.iter_mut().for_each(swap);
                    tx.send(&mut burst);
                    // What the other side had no room for; it counts them.
                    burst.clear();
                }
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    for ((rx, tx), (from, to)) in ways.iter_mut().zip([(one, other), (other, one)]) {
        let (received, sent) = (rx.counters(), tx.counters());
        println!(
            "{from} to {to}: {} packets in {seconds:.2} s, {} missed, {} without a buffer, {} refused, {} errors",
            sent.packets,
            received.missed,
            received.no_buffer,
            sent.missed,
            received.errors + sent.errors
        );
    }
    Ok(())
}

#[inline(always)]
fn swap(frame: &mut PoolFrame) {
    if let Some((to, [a, b, c, d, e, f, ..])) = frame.bytes_mut().split_first_chunk_mut::<6>() {
        let from = [*a, *b, *c, *d, *e, *f];
        [*a, *b, *c, *d, *e, *f] = *to;
        *to = from;
    }
}
