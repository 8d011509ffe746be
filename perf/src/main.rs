//! The appliance's path, measured over memory ports: nanoseconds of worker CPU time a packet, instructions, allocations.
#![forbid(unsafe_code)]

mod allocations;
mod changes;
mod classify;
mod compare;
mod firewall;
mod measure;
mod rig;
mod traffic;

use clap::{Parser, Subcommand, ValueEnum};
use classify::ClassifyArgs;
use compare::CompareArgs;
use measure::Cost;
use rig::{Kind, Rig, Scenario, Sizes};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures the packet path over memory ports.
///
/// The figures are CPU time of the one thread that does the work, never wall-clock time, and the floor (frames made and freed
/// without the path) is measured in turn with it. Compare ratios taken in one run; absolute figures are this machine's.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release -p perf                              every scenario, a table
  cargo run --release -p perf -- --only 1k --json out.json some scenarios, also as JSON
  cargo run --release -p perf -- --mode allocations        proves that a burst allocates nothing
  cargo run --release -p perf -- --mode changes --only 1000 what it costs that rules change
  sudo target/release/perf compare                         the appliance beside its peers; see perf compare --help
  target/release/perf classify ../shared/data/classbench   filter sets beside rte_acl; see perf classify --help
  valgrind --tool=callgrind target/release/perf --mode count --only hit-1k-100-64 --packets 20000")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to do.
    #[arg(long, value_enum, default_value_t = Mode::Time)]
    mode: Mode,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds of path and floor in turn.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Packets a round.
    #[arg(long, default_value_t = 1_000_000)]
    packets: usize,
    /// Seed of the packets' order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the figures here too.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    Classify(ClassifyArgs),
    Compare(CompareArgs),
    #[command(hide = true)]
    Ends(compare::synproxy::ends::EndsArgs),
    #[cfg(feature = "dpdk")]
    #[command(hide = true)]
    Side(compare::side::SideArgs),
    #[cfg(feature = "dpdk")]
    #[command(hide = true)]
    Generate(compare::generator::GenerateArgs),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Nanoseconds of CPU time a packet.
    Time,
    /// What a thousand changed rules a second cost, in nanoseconds of CPU time a packet.
    Changes,
    /// Allocations a burst; fails when there is one.
    Allocations,
    /// Sends the packets once and prints nothing but their number: for an instruction counter around it.
    Count,
}

const fn hit(name: &'static str, flows: usize, rules: usize, sizes: Sizes) -> Scenario {
    Scenario { name, flows, rules, kind: Kind::Established, sizes }
}

const fn routed(name: &'static str, flows: usize, rules: usize) -> Scenario {
    Scenario { name, flows, rules, kind: Kind::Routed, sizes: Sizes::Small }
}

const fn tunnelled(name: &'static str, flows: usize, rules: usize) -> Scenario {
    Scenario { name, flows, rules, kind: Kind::Tunnelled, sizes: Sizes::Small }
}

const fn miss(name: &'static str, rules: usize) -> Scenario {
    Scenario { name, flows: 0, rules, kind: Kind::Denied, sizes: Sizes::Small }
}

const fn flood(name: &'static str, kind: Kind) -> Scenario {
    Scenario { name, flows: 0, rules: 0, kind, sizes: Sizes::Small }
}

const SCENARIOS: &[Scenario] = &[
    hit("hit-1-100-64", 1, 100, Sizes::Small),
    hit("hit-1k-0-64", 1_000, 0, Sizes::Small),
    hit("hit-1k-100-64", 1_000, 100, Sizes::Small),
    hit("hit-1k-1000-64", 1_000, 1_000, Sizes::Small),
    hit("hit-1k-100-mix", 1_000, 100, Sizes::Mixed),
    hit("hit-1m-100-64", 1_000_000, 100, Sizes::Small),
    hit("hit-1m-1000-64", 1_000_000, 1_000, Sizes::Small),
    Scenario {
        name: "some-1k-1000-64",
        flows: 1_000,
        rules: 1_000,
        kind: Kind::SomeDenied,
        sizes: Sizes::Small,
    },
    Scenario {
        name: "spliced-1k-100-64",
        flows: 1_000,
        rules: 100,
        kind: Kind::Spliced,
        sizes: Sizes::Small,
    },
    routed("udp-1k-1000-64", 1_000, 1_000),
    routed("udp-1m-1000-64", 1_000_000, 1_000),
    routed("udp-4k-1000-64", 4_096, 1_000),
    tunnelled("vxlan-4k-1000-64", 4_096, 1_000),
    miss("miss-0-64", 0),
    miss("miss-100-64", 100),
    miss("miss-1000-64", 1_000),
    Scenario {
        name: "first-16k-10000-64",
        flows: 16_384,
        rules: 10_000,
        kind: Kind::Opened,
        sizes: Sizes::Small,
    },
    flood("syn-cookie", Kind::Cookies),
    flood("ack-invalid", Kind::Unproved),
];

#[derive(Serialize)]
struct Row {
    scenario: &'static str,
    flows: usize,
    rules: usize,
    #[serde(flatten)]
    cost: Cost,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Classify(args)) => classify::run(args),
        Some(Command::Compare(args)) => compare::run(args),
        Some(Command::Ends(args)) => compare::synproxy::ends::run(args),
        #[cfg(feature = "dpdk")]
        Some(Command::Side(args)) => compare::side::run(args),
        #[cfg(feature = "dpdk")]
        Some(Command::Generate(args)) => compare::generator::run(args),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(|s| s.name.contains(&arguments.only)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|s| s.name).collect();
        return Err(format!("no scenario is called {:?}; there are {}", arguments.only, names.join(", ")));
    }
    match arguments.mode {
        Mode::Time => time(arguments, &chosen),
        Mode::Changes => changes::run(&chosen, arguments.rounds, arguments.packets, arguments.seed),
        Mode::Allocations => {
            chosen.into_iter().try_for_each(|scenario| allocations::check(scenario, arguments.seed))
        }
        Mode::Count => chosen.into_iter().try_for_each(|scenario| count(arguments, scenario)),
    }
}

fn time(arguments: &Arguments, chosen: &[&Scenario]) -> Result<(), String> {
    println!(
        "ns of worker CPU time a packet, median of {} rounds of {} packets, seed {}",
        arguments.rounds, arguments.packets, arguments.seed
    );
    println!(
        "{:<18} {:>9} {:>6} {:>8} {:>8} {:>8}  {:>17}",
        "scenario", "flows", "rules", "path", "floor", "total", "total min..max"
    );
    let mut rows = Vec::new();
    for scenario in chosen {
        let mut rig = Rig::new(scenario, arguments.seed)?;
        let cost = measure::cost(&mut rig, arguments.rounds, arguments.packets);
        rig.check(scenario)?;
        println!(
            "{:<18} {:>9} {:>6} {:>8.1} {:>8.1} {:>8.1}  {:>7.1} ..{:>7.1}",
            scenario.name,
            scenario.flows,
            scenario.rules,
            cost.path_ns,
            cost.floor_ns.median,
            cost.total_ns.median,
            cost.total_ns.min,
            cost.total_ns.max
        );
        rows.push(Row { scenario: scenario.name, flows: scenario.flows, rules: scenario.rules, cost });
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&rows).map_err(|e| e.to_string())?;
        std::fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn count(arguments: &Arguments, scenario: &Scenario) -> Result<(), String> {
    let mut rig = Rig::new(scenario, arguments.seed)?;
    let mut packets = 0;
    while packets < arguments.packets {
        packets += rig.step();
    }
    println!("{} {packets}", scenario.name);
    rig.check(scenario)
}
