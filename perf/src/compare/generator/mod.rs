//! The traffic generator of a comparison over memif, in a process of its own: `perf generate`, which `perf compare` starts. It sends
//! stamped frames into one port at a rate that nothing slows down, and takes them back at another. On standard input it is told, a line
//! each, what to send ([`Order`]); on standard output it says what became of it ([`Outcome`]).

mod histogram;
mod receiver;
mod sender;
mod stamp;

use super::order::{Order, Outcome};
use super::traffic::Kind;
use clap::Args;
use core_affinity::CoreId;
use pmd_shim::PoolOptions;
use pmd_shim::dpdk::{
    DpdkLink, DpdkOptions, DpdkPort, DpdkRx, Eal, EalOptions, End, KEY_BYTES, MbufPool, Spread, open,
};
use pmd_shim::{Burst, RxQueue};
use receiver::Receiver;
use sender::Sender;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

const FRAMES: usize = 8192;
const RING: u16 = 1024;
/// How long two processes may take to share their memory.
const JOINED_WITHIN: Duration = Duration::from_secs(8);
/// What is still done when both say that they are joined takes less than this.
const SETTLE: Duration = Duration::from_millis(300);
/// Nothing comes any more when nothing came for so long.
const DRAIN: Duration = Duration::from_millis(20);
/// Not longer than this, whatever comes.
const DRAIN_MAX: Duration = Duration::from_millis(200);

/// Sends and takes back stamped frames, for `perf compare`.
#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// The two devices, as for DPDK's option `--vdev`: the one to send into, and the one to take back from.
    #[arg(long, required = true, num_args = 1)]
    device: Vec<String>,
    /// The core to run on.
    #[arg(long)]
    core: usize,
    /// Memory in MiB.
    #[arg(long)]
    memory_mib: u32,
    /// The frames come back with swapped Ethernet addresses; without it, routed.
    #[arg(long)]
    swapped: bool,
}

/// Runs the command, until standard input ends.
pub(crate) fn run(args: &GenerateArgs) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    if !core_affinity::set_for_current(CoreId { id: args.core }) {
        return Err(format!("the generator cannot be pinned to core {}", args.core));
    }
    // Its frames are sent and received where they lie (the devices' `zero-copy`), which takes memory in one piece.
    let arguments = vec!["--single-file-segments".to_owned()];
    let eal = Eal::start(&EalOptions { memory_mib: args.memory_mib, arguments, ..EalOptions::default() })
        .map_err(|error| text(&error))?;
    let pool =
        MbufPool::new(eal, PoolOptions { frames: FRAMES, data_room: 1600 }).map_err(|error| text(&error))?;
    let _place = pool.adopt().map_err(|error| text(&error))?;
    let spread = Spread { end: End::Source, key: [0; KEY_BYTES] };
    let options = DpdkOptions { mtu: None, rx_frames: RING, tx_frames: RING, spread };
    let open = |device: &String| {
        open(eal, device, &options, std::slice::from_ref(&pool)).map_err(|error| text(&error))
    };
    let ports = args.device.iter().map(open).collect::<Result<Vec<DpdkPort>, _>>()?;
    ports.iter().try_for_each(|port| wait_for(&port.link))?;
    std::thread::sleep(SETTLE);
    let kind = if args.swapped { Kind::Swaps } else { Kind::Routes };
    let mut generator = Generator::new(ports, &pool, kind)?;
    let mut stdout = std::io::stdout();
    let mut say = |line: &str| {
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| format!("stdout: {error}"))
    };
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("stdin: {error}"))?;
        let order: Order = serde_json::from_str(&line).map_err(|error| format!("stdin: {error}"))?;
        let outcome = generator.trial(&order);
        say(&serde_json::to_string(&outcome).map_err(|error| error.to_string())?)?;
    }
    Ok(())
}

/// Waits until the other side is there. A queue that is polled while DPDK's interrupt thread joins the two, without copies, may keep
/// them from ever being joined.
fn wait_for(link: &DpdkLink) -> Result<(), String> {
    let end = Instant::now() + JOINED_WITHIN;
    while !link.state().map_err(|error| error.to_string())?.running {
        if Instant::now() >= end {
            let seconds = JOINED_WITHIN.as_secs();
            return Err(format!("nobody is at the other side of a device within {seconds} s"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

struct Generator {
    sender: Sender,
    receiver: Receiver,
    /// What comes back where it was sent is nobody's, but has to make room.
    backwash: DpdkRx,
    _links: Vec<DpdkLink>,
}

impl Generator {
    fn new(ports: Vec<DpdkPort>, pool: &MbufPool, kind: Kind) -> Result<Self, String> {
        let Ok([out, back]) = <[DpdkPort; 2]>::try_from(ports) else {
            return Err("a generator has two devices".into());
        };
        let mut queues = out.tx.into_iter().zip(out.rx).zip(back.rx);
        let ((tx, backwash), rx) = queues.next().ok_or("a device has no queue")?;
        Ok(Self {
            sender: Sender::new(tx, pool.clone()),
            receiver: Receiver::new(rx, kind),
            backwash,
            _links: vec![out.link, back.link],
        })
    }

    /// Sends at a rate for a while, then waits for what is still on its way.
    fn trial(&mut self, order: &Order) -> Outcome {
        let begin = Instant::now();
        self.sender.begin(order.rate);
        self.receiver.begin(u64::MAX);
        self.turns(begin, order.warm_up);
        let first = self.sender.measure();
        self.receiver.begin(first);
        self.turns(begin, order.warm_up + order.time);
        let (offered, refused, left_out) =
            (self.sender.number - first, self.sender.refused, self.sender.left_out());
        self.drain(begin);
        let Receiver { arrived, disordered, delays, wrong, .. } = &mut self.receiver;
        let quantile = |share| delays.quantile_ns(share);
        Outcome {
            offered,
            refused,
            arrived: *arrived,
            left_out,
            disordered: *disordered,
            seconds: order.time.as_secs_f64(),
            delays_ns: quantile(0.5)
                .zip(quantile(0.99))
                .zip(quantile(0.999))
                .map(|((half, most), nearly_all)| [half, most, nearly_all]),
            wrong: wrong.take(),
        }
    }

    /// Sends and takes back until `end` after `begin`.
    fn turns(&mut self, begin: Instant, end: Duration) {
        let end = end.as_nanos() as u64;
        loop {
            let now = begin.elapsed().as_nanos() as u64;
            if now >= end {
                return;
            }
            let sent = self.sender.send(now, &mut self.receiver.used);
            if self.receiver.receive(begin) == 0 && sent == 0 {
                self.backwash.receive(&mut Burst::new());
            }
        }
    }

    fn drain(&mut self, begin: Instant) {
        let start = Instant::now();
        let mut last = start;
        while last.elapsed() < DRAIN && start.elapsed() < DRAIN_MAX {
            if self.receiver.receive(begin) > 0 {
                last = Instant::now();
            }
        }
    }
}
