//! The appliance's side of a comparison over DPDK's ports, in a process of its own, as its peers are: `perf side`, which `perf compare`
//! starts. It works like the appliance's worker, on the appliance's own DPDK queues, and tells on standard output what is asked on
//! standard input: `count`, or the name of a mode, which it then changes to.

mod lanes;
mod work;

use super::firsts;
use super::mode::Mode;
use crate::firewall::Firewall;
use clap::Args;
use core_affinity::CoreId;
use pmd_shim::PoolOptions;
use pmd_shim::dpdk::{DpdkOptions, DpdkPort, Eal, EalOptions, End, KEY_BYTES, MbufPool, Spread, open};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use work::{Firsts, Floor, Path, Work};

/// Frames for rings, bursts, and a capture that is kept in memory.
const FRAMES: usize = 8192;
const RING: u16 = 1024;

/// Works on DPDK's ports, for `perf compare`.
#[derive(Args)]
pub(crate) struct SideArgs {
    /// Devices, as for DPDK's option `--vdev`.
    #[arg(long, required = true)]
    device: Vec<String>,
    /// The worker's core.
    #[arg(long)]
    core: usize,
    /// Memory in MiB.
    #[arg(long)]
    memory_mib: u32,
    /// Goes the appliance's whole path with so many flows; without it, Ethernet addresses are swapped.
    #[arg(long)]
    flows: Option<usize>,
    /// Security rules that match nothing, in front of the one that allows.
    #[arg(long, default_value_t = 0)]
    rules: usize,
    /// Goes the whole path with packets that are all the first of a flow, through the firewall of this seed.
    #[arg(long, conflicts_with = "flows")]
    firewall: Option<u64>,
    /// The firewall's ClassBench rules; those of the generator when they are not named.
    #[arg(long)]
    filter_set: Option<PathBuf>,
}

/// What the worker and whoever asks share.
#[derive(Debug, Default)]
struct Board {
    received: AtomicU64,
    sent: AtomicU64,
    mode: AtomicU8,
    stopping: AtomicBool,
}

/// Runs the command, until standard input ends.
pub(crate) fn run(args: &SideArgs) -> Result<(), String> {
    let eal = Eal::start(&EalOptions { memory_mib: args.memory_mib, ..EalOptions::default() })
        .map_err(|error| error.to_string())?;
    let options = PoolOptions { frames: FRAMES, data_room: 1600 };
    let pool = MbufPool::new(eal, options).map_err(|error| error.to_string())?;
    let spread = Spread { end: End::Source, key: [0; KEY_BYTES] };
    let options = DpdkOptions { mtu: None, rx_frames: RING, tx_frames: RING, spread };
    let open = |device: &String| {
        open(eal, device, &options, std::slice::from_ref(&pool)).map_err(|error| error.to_string())
    };
    let ports = args.device.iter().map(open).collect::<Result<Vec<DpdkPort>, _>>()?;
    let board = Arc::new(Board::default());
    let (task, core) = (Task::of(args)?, args.core);
    let shared = Arc::clone(&board);
    let (tell, told) = std::sync::mpsc::channel();
    let body = move || {
        // As the appliance's worker: its frames come from and go to a cache of its own.
        let owner = pool.adopt().map_err(|error| error.to_string());
        let begun = owner.and_then(|owner| Ok((owner, begin(ports, &pool, task, core)?)));
        let outcome = begun.map(|(_owner, mut work)| {
            // Whoever waits for it says so.
            let _ = tell.send(Ok(()));
            labour(&mut *work, &shared);
        });
        if let Err(why) = outcome {
            let _ = tell.send(Err(why));
        }
    };
    let worker = std::thread::Builder::new()
        .name("side-worker".into())
        .spawn(body)
        .map_err(|error| format!("no thread for the worker: {error}"))?;
    told.recv().map_err(|_| "the worker ended".to_owned())??;
    let outcome = answer(&board);
    board.stopping.store(true, Ordering::Relaxed);
    worker.join().map_err(|_| "the worker panicked".to_owned())?;
    outcome
}

/// What is done.
enum Task {
    Swap,
    /// So many, behind so many rules.
    Flows(usize, usize),
    Firsts(Box<Firewall>),
}

impl Task {
    fn of(args: &SideArgs) -> Result<Self, String> {
        Ok(match (args.flows, args.firewall) {
            (Some(flows), _) => Self::Flows(flows, args.rules),
            (None, Some(seed)) => Self::Firsts(Box::new(firsts::firewall(args.filter_set.as_deref(), seed)?)),
            (None, None) => Self::Swap,
        })
    }
}

fn begin(ports: Vec<DpdkPort>, pool: &MbufPool, task: Task, core: usize) -> Result<Box<dyn Work>, String> {
    if !core_affinity::set_for_current(CoreId { id: core }) {
        return Err(format!("the worker cannot be pinned to core {core}"));
    }
    Ok(match task {
        Task::Swap => Box::new(Floor::new(ports, pool)),
        Task::Flows(flows, rules) => Box::new(Path::new(ports, pool, flows, rules)?),
        Task::Firsts(firewall) => Box::new(Firsts::new(ports, pool, &firewall)?),
    })
}

/// Turns, and what came of them, until it is to stop.
fn labour(work: &mut dyn Work, board: &Board) {
    while !board.stopping.load(Ordering::Relaxed) {
        let mode = Mode::ALL[usize::from(board.mode.load(Ordering::Relaxed)) % Mode::ALL.len()];
        // One call through the table of methods for many turns.
        let (received, sent) = work.turns(mode);
        board.received.store(received, Ordering::Relaxed);
        board.sent.store(sent, Ordering::Relaxed);
    }
}

fn answer(board: &Board) -> Result<(), String> {
    let mut stdout = std::io::stdout();
    let mut say = |line: &str| {
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| format!("stdout: {error}"))
    };
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("stdin: {error}"))?;
        if line == "count" {
            let received = board.received.load(Ordering::Relaxed);
            let sent = board.sent.load(Ordering::Relaxed);
            say(&format!("packets {received} sent {sent}"))?;
        } else if let Some(mode) = Mode::ALL.into_iter().find(|mode| mode.name() == line) {
            board.mode.store(mode as u8, Ordering::Relaxed);
            say(&format!("mode {line}"))?;
        } else {
            say(&format!("no such word: {line}"))?;
        }
    }
    Ok(())
}
