//! `perf compare`: the appliance and its peers in turn on the same ports, and what each figure's ratio is.
//!
//! Every comparison is made of pairs of short shots, A B B A; both contenders are pinned alike and given the same packets. A shot that was
//! disturbed is void, and its pair with it: nothing is concluded from a figure that looks odd, only from what happened around it.

mod child;
mod contender;
mod crew;
mod firsts;
#[cfg(feature = "dpdk")]
pub(crate) mod generator;
pub(crate) mod goal;
mod hugepages;
mod interrupt;
mod l3fwd;
mod memif;
mod mode;
mod nva;
mod order;
mod pairs;
mod plan;
mod ports;
mod proc;
mod profile;
mod quiet;
mod report;
mod road;
mod rules;
mod scrap;
mod search;
#[cfg(feature = "dpdk")]
pub(crate) mod side;
mod space;
pub(crate) mod stats;
mod steady;
pub(crate) mod synproxy;
mod testpmd;
mod traffic;
mod veth;
mod vxlan;
mod workers;

use clap::{Args, ValueEnum};
use contender::Driver;
use core_affinity::CoreId;
pub(crate) use interrupt::Interrupt;
use pairs::{Bench, Relation};
use quiet::Canary;
pub(crate) use report::progress;
use report::{Figure, Row};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Compares the appliance with its peers, in turn, on the same ports.
///
/// A comparison is made of pairs of short shots, A B B A. Printed are the medians of both sides and the median of the pairs'
/// ratios (nva by peer) with its 90 % interval. A pair during which something else ran on the cores, or between whose shots the machine changed
/// its speed, is void; with more than half of the pairs void there is no result. It says first how long it will take, and when it begins nothing more.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo build --release -p nva -p perf
  sudo target/release/perf compare                     everything that can run here, a table
  sudo target/release/perf compare workers handover    two of the comparisons
  sudo target/release/perf compare plain --pairs 2     a quick look
  sudo target/release/perf compare afxdp --pairs 16    more pairs: a narrower interval
  sudo target/release/perf compare vxlan synproxy      beside the kernel's tunnels, and its SYN proxy under a flood
  sudo target/release/perf compare --json >out.json    for programs; progress stays on the terminal
  cargo build --release -p nva -p perf --features nva/dpdk,perf/dpdk
  sudo target/release/perf compare null pcap memif     those over DPDK's ports
  sudo target/release/perf compare firsts --filter-set ../shared/data/classbench/fw1_10k.rules")]
pub(crate) struct CompareArgs {
    /// Which comparisons; all when none is named.
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Prints JSON in place of the table.
    #[arg(long)]
    json: bool,
    /// Pairs of shots that are to count; up to twice as many are tried.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=100))]
    pairs: u16,
    /// How many seconds to wait, all in all, for other programs to leave the worker's core.
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// The core of the appliance's worker, and of its peers.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core of the traffic generator, and of everything else.
    #[arg(long, default_value_t = 0)]
    generator_core: usize,
    /// The appliance's program; the one beside this when it is not named.
    #[arg(long)]
    nva: Option<PathBuf>,
    /// The ClassBench rules of `firsts`; 10 000 of the generator when they are not named.
    #[arg(long)]
    filter_set: Option<PathBuf>,
    /// Fixes the packets' order and every other random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// testpmd io and macswap over net_null: what a worker costs without a path.
    Null,
    /// l3fwd with access rules, from a capture in memory: the whole path.
    Pcap,
    /// l3fwd with a firewall's rules, from a capture in memory: packets that are all the first of a flow.
    Firsts,
    /// Two workers against one, over memory ports.
    Workers,
    /// What it costs to hand a frame over to another worker.
    Handover,
    /// testpmd macswap in the appliance's place behind a generator, all joined by shared memory.
    Memif,
    /// testpmd over AF_PACKET, on veths.
    Afpacket,
    /// testpmd over AF_XDP, on veths.
    Afxdp,
    /// The kernel's plain forwarding, on veths.
    Plain,
    /// The kernel's forwarding with 1000 rules of nft, on veths.
    Kernel,
    /// The kernel's two vxlan devices joined by a bridge, with stateful rules for what is inside, on veths.
    Vxlan,
    /// The kernel's SYN proxy, under a flood, on veths.
    Synproxy,
}

impl Name {
    /// As it is asked for.
    const fn text(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Pcap => "pcap",
            Self::Firsts => "firsts",
            Self::Workers => "workers",
            Self::Handover => "handover",
            Self::Memif => "memif",
            Self::Afpacket => "afpacket",
            Self::Afxdp => "afxdp",
            Self::Plain => "plain",
            Self::Kernel => "kernel",
            Self::Vxlan => "vxlan",
            Self::Synproxy => "synproxy",
        }
    }

    /// A line about all of it.
    fn row(self, what: &str) -> Figure {
        let comparison = self.text();
        Figure { comparison, what: what.into(), unit: "", relation: Relation::Ratio, goal: None }
    }

    /// What it cannot be without, each with its Debian package.
    const fn programs(self) -> &'static [(&'static str, &'static str)] {
        const ETHTOOL: (&str, &str) = ("ethtool", "ethtool");
        const NFT: (&str, &str) = ("nft", "nftables");
        const TESTPMD: (&str, &str) = (testpmd::PROGRAM, testpmd::PACKAGE);
        match self {
            Self::Pcap | Self::Firsts | Self::Workers | Self::Handover => &[],
            Self::Null | Self::Memif => &[TESTPMD],
            Self::Afpacket | Self::Afxdp => &[ETHTOOL, TESTPMD],
            Self::Plain | Self::Kernel => &[ETHTOOL],
            Self::Vxlan | Self::Synproxy => &[ETHTOOL, NFT],
        }
    }

    /// Whether it is over DPDK's ports, which this program may be built without.
    const fn needs_dpdk(self) -> bool {
        matches!(self, Self::Null | Self::Pcap | Self::Firsts | Self::Memif)
    }

    /// Network namespaces and kernel threads are the superuser's.
    const fn needs_root(self) -> bool {
        !matches!(self, Self::Workers | Self::Handover)
    }
}

/// The cores that everything is pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    /// The worker's.
    pub(crate) worker: usize,
    /// The generator's, and everybody else's.
    pub(crate) generator: usize,
}

impl Cores {
    /// As `taskset` wants them.
    pub(crate) fn both(&self) -> String {
        format!("{},{}", self.generator, self.worker)
    }
}

/// What there is to compare with, and where.
pub(crate) struct Environment {
    /// The cores.
    pub(crate) cores: Cores,
    /// The appliance's program.
    pub(crate) nva: PathBuf,
}

/// Whether a program can be found.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What a comparison cannot be without and that is not there.
fn lacking(name: Name) -> Option<String> {
    let absent = name.programs().iter().find(|(program, _)| !has(program));
    absent.map(|(program, package)| missing(program, package))
}

/// What is to be done about a program that is not there.
fn missing(program: &str, package: &str) -> String {
    format!("{program} is not installed: apt-get install {package}")
}

/// Runs the command.
pub(crate) fn run(args: &CompareArgs) -> Result<(), String> {
    let cores = Cores { worker: args.core, generator: args.generator_core };
    if cores.worker == cores.generator {
        return Err("--core and --generator-core are the same; a comparison needs two cores".into());
    }
    let interrupt = Interrupt::catch()?;
    // The canary sings, and every child begins, where the worker will be.
    if !core_affinity::set_for_current(CoreId { id: cores.worker }) {
        return Err(format!(
            "sched_setaffinity: core {} is not there; name another with --core",
            cores.worker
        ));
    }
    let _priority = Priority::raise();
    let canary = Canary::new(args.seed);
    let mut bench = Bench {
        pairs: args.pairs.into(),
        seed: args.seed,
        interrupt,
        canary,
        patience: Duration::from_secs(args.patience),
        begun: Instant::now(),
        expected: Duration::ZERO,
        until: Instant::now(),
    };
    let names = if args.names.is_empty() { Name::value_variants() } else { &args.names };
    if names.iter().any(|name| name.needs_root()) {
        if !rustix::process::geteuid().is_root() {
            return Err(
                "only `workers` and `handover` run without root; run it with sudo, or name these".into()
            );
        }
        space::sweep()?;
        scrap::sweep();
    }
    announce(names, &bench);
    let mut rows: Vec<Row> = Vec::new();
    for name in names {
        bench.begun = Instant::now();
        bench.expected = name.expected(bench.pairs);
        bench.until = bench.begun + name.at_most(bench.pairs, bench.patience);
        let outcome = compare(*name, &mut bench, args, cores);
        report::progress("");
        match outcome {
            Ok(more) => rows.extend(more),
            Err(why) => {
                rows.push(name.row("all of it").failed(why));
                if bench.interrupt.check().is_err() {
                    break;
                }
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?);
    } else {
        print!("{}", report::table(&rows));
    }
    bench.interrupt.check()?;
    match rows.iter().filter(|row| row.is_failed()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} lines failed", rows.len())),
    }
}

/// Says on standard error how long it will take.
fn announce(names: &[Name], bench: &Bench) {
    let expected: Duration = names.iter().map(|name| name.expected(bench.pairs)).sum();
    let at_most = 2 * expected + bench.patience;
    let what = names.iter().map(|name| name.text()).collect::<Vec<_>>().join(", ");
    let (expected, at_most) = (plan::spoken(expected), plan::spoken(at_most));
    eprintln!("perf: {what}: about {expected}; nothing is begun after {at_most}");
}

/// Priority before other programs, also for all that is started: what they would take of the cores would only make pairs void. Who may not
/// have it measures as well, on a machine that has to be calmer.
struct Priority {
    /// What the session had, which is weighed as a whole where the kernel groups by sessions; given back when this is dropped.
    before: Option<String>,
}

impl Priority {
    const SESSION: &str = "/proc/self/autogroup";

    fn raise() -> Self {
        let before = std::fs::read_to_string(Self::SESSION).ok();
        let before =
            before.and_then(|text| text.rsplit_once("nice ").map(|(_, nice)| nice.trim().to_owned()));
        let _ = std::fs::write(Self::SESSION, "-20");
        let _ = rustix::process::setpriority_process(None, -20);
        Self { before }
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(nice) = &self.before {
            // The session's other programs are no business of ours any more, whether this works or not.
            let _ = std::fs::write(Self::SESSION, nice);
        }
    }
}

fn compare(name: Name, bench: &mut Bench, args: &CompareArgs, cores: Cores) -> Result<Vec<Row>, String> {
    let environment = || Ok::<_, String>(Environment { cores, nva: nva::program(args.nva.as_deref())? });
    match name {
        _ if name.needs_dpdk() && cfg!(not(feature = "dpdk")) => {
            let because = "this perf is built without DPDK: cargo build --release -p perf --features dpdk";
            Ok(vec![name.row("all of it").skipped(because)])
        }
        _ if let Some(because) = lacking(name) => Ok(vec![name.row("all of it").skipped(because)]),
        Name::Workers => workers::workers(bench, cores),
        Name::Handover => workers::handover(bench, cores),
        Name::Afpacket => veth::testpmd(bench, &environment()?, Driver::AfPacket),
        Name::Afxdp => veth::testpmd(bench, &environment()?, Driver::AfXdp),
        Name::Null => ports::null(bench, &environment()?),
        Name::Pcap => ports::pcap(bench, &environment()?),
        Name::Firsts => firsts::firsts(bench, &environment()?, args.filter_set.as_deref()),
        Name::Memif => memif::memif(bench, &environment()?),
        Name::Plain => veth::kernel(bench, &environment()?, "plain", &veth::PLAIN),
        Name::Kernel => veth::kernel(bench, &environment()?, "kernel", &veth::RULED),
        Name::Vxlan => vxlan::vxlan(bench, &environment()?),
        Name::Synproxy => synproxy::synproxy(bench, &environment()?),
    }
}
