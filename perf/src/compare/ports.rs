//! The appliance against DPDK's own programs on devices without a wire: `net_null` and `net_pcap`.

use super::child::{Bookmark, Process};
use super::goal::Goal;
use super::hugepages::{Hugepages, PROCESS_MIB};
use super::interrupt::Interrupt;
use super::l3fwd::{self, Lookup};
use super::mode::Mode;
use super::pairs::{Bench, Pairs, Relation, Shot};
use super::quiet::{Watch, Watched};
use super::report::{Figure, Row};
use super::scrap::Folder;
use super::traffic::capture;
use super::{Environment, proc, testpmd};
use pmd_shim::pcap::PcapWriter;
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;

const WARM_UP: Duration = Duration::from_millis(150);
const SHOT: Duration = Duration::from_millis(400);
/// How long a program may take to begin, and to answer.
const START_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Share of the frames that must leave: one that drops would be fast.
const SENT_MIN: f64 = 0.99;
const RULES: usize = 1000;
const MILLION: usize = 1_000_000;

/// A million flows are opened within this, a few microseconds each.
const OPEN_FLOWS: Duration = Duration::from_secs(6);

/// How a program tells what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tongue {
    /// `show port stats all`.
    Testpmd,
    /// `count`.
    Side,
    /// SIGUSR1.
    L3fwd,
}

/// A program on its ports.
pub(super) struct Program {
    process: Process,
    tongue: Tongue,
    worker: Watched,
    interrupt: Interrupt,
}

/// Frames that a program received and sent so far.
type Counts = (u64, u64);

impl Program {
    pub(super) fn start(
        mut process: Process,
        tongue: Tongue,
        core: usize,
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        let (ready, worker) = match tongue {
            Tongue::Testpmd => {
                testpmd::start(&mut process, START_WITHIN, interrupt)?;
                (testpmd::FORWARDING, testpmd::WORKER)
            }
            Tongue::Side => ("ready", "side-worker"),
            Tongue::L3fwd => ("entering main loop", l3fwd::WORKER),
        };
        process.wait_for(Bookmark::START, ready, START_WITHIN, interrupt)?;
        let pid = process.pid();
        let tid = proc::threads(pid, worker)?.first().copied();
        let tid = tid.ok_or_else(|| format!("there is no thread {worker}"))?;
        let program =
            Self { process, tongue, worker: Watched::new(pid, tid, core), interrupt: interrupt.clone() };
        program.process.suspend()?;
        Ok(program)
    }

    fn ask(&mut self) -> Result<Bookmark, String> {
        let bookmark = self.process.bookmark();
        match self.tongue {
            Tongue::Testpmd => self.process.say("show port stats all")?,
            Tongue::Side => self.process.say("count")?,
            Tongue::L3fwd => self.process.signal(Signal::USR1)?,
        }
        Ok(bookmark)
    }

    fn hear(&mut self, bookmark: Bookmark) -> Result<Counts, String> {
        if self.tongue != Tongue::Testpmd {
            let lines = self.process.wait_for(bookmark, "packets ", ANSWER_WITHIN, &self.interrupt)?;
            return counts(&lines).ok_or_else(|| format!("it does not say what it did: {lines:?}"));
        }
        let mut found = None;
        self.interrupt.wait_until(ANSWER_WITHIN, || {
            found = testpmd::counts(&self.process.since(bookmark), DEVICES);
            found.is_some()
        })?;
        found.ok_or_else(|| format!("testpmd does not say what it did: {}", self.process.last_words()))
    }

    /// Nanoseconds of its worker's CPU time for each frame received.
    pub(super) fn shot(&mut self, sent: Sent) -> Result<Shot, String> {
        self.process.resume()?;
        self.interrupt.sleep(WARM_UP)?;
        // What it did is noted by the program when it is asked, so the thread's time is read at once after that.
        let asked = self.ask()?;
        let watch = Watch::begin(&[self.worker], &[self.worker.core])?;
        let before = self.hear(asked)?;
        self.interrupt.sleep(SHOT)?;
        let asked = self.ask()?;
        let interval = watch.end()?;
        let after = self.hear(asked)?;
        self.process.suspend()?;
        let (received, left) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        if sent == Sent::All && (left as f64) < SENT_MIN * received as f64 || received == 0 {
            return Err(format!("of {received} frames only {left} left"));
        }
        let ran: u64 = interval.threads.iter().map(|thread| thread.ran_ns).sum();
        Ok(Shot { figures: vec![ran as f64 / received as f64], disturbances: interval.disturbances() })
    }

    /// The appliance's side changes what it does.
    fn mode(&mut self, mode: Mode) -> Result<(), String> {
        self.process.resume()?;
        let bookmark = self.process.bookmark();
        self.process.say(mode.name())?;
        self.process.wait_for(bookmark, "mode ", ANSWER_WITHIN, &self.interrupt).map(|_| ())
    }
}

/// Whether what was received has to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    Unknown,
}

/// Ports of `net_null`.
const DEVICES: usize = 2;

fn counts(lines: &[String]) -> Option<Counts> {
    lines.iter().rev().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        let received = words.next()?.parse().ok()?;
        (words.next()? == "sent").then_some(())?;
        Some((received, words.next()?.parse().ok()?))
    })
}

pub(super) fn figure(comparison: &'static str, what: &str, goal: Option<Goal>) -> Figure {
    Figure { comparison, what: what.to_owned(), unit: "ns", relation: Relation::Ratio, goal }
}

pub(super) fn side(
    environment: &Environment,
    interrupt: &Interrupt,
    more: &[String],
) -> Result<Program, String> {
    let cores = environment.cores;
    let program = std::env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?;
    let mut args = ["side", "--core", &cores.worker.to_string(), "--memory-mib", &PROCESS_MIB.to_string()]
        .map(str::to_owned)
        .to_vec();
    args.extend_from_slice(more);
    let process = Process::start("perf side", None, &program.display().to_string(), &args, &cores.both())?;
    Program::start(process, Tongue::Side, cores.worker, interrupt)
}

/// Receiving, dispatching and sending over `net_null`, without a path, against `dpdk-testpmd`.
pub(crate) fn null(bench: &mut Bench, environment: &Environment) -> Result<Vec<Row>, String> {
    let modes = [("macswap", Some(Goal::AtMost(1.2))), ("io", None)];
    let rows = modes.map(|(mode, goal)| (mode, figure("null", &format!("MAC swap by testpmd {mode}"), goal)));
    let _pages = Hugepages::reserve(2 * PROCESS_MIB)?;
    let interrupt = bench.interrupt.clone();
    let cores = environment.cores;
    let devices = (0..DEVICES).flat_map(|number| ["--device".to_owned(), format!("net_null{number}")]);
    let devices: Vec<String> = devices.collect();
    bench.progress("null: starts both sides");
    let mut ours = side(environment, &interrupt, &devices)?;
    let mut table = Vec::new();
    for (mode, figure) in rows {
        let devices = (0..DEVICES).map(|number| format!("net_null{number}"));
        let args = testpmd::arguments(devices, mode, cores);
        let process = Process::start("dpdk-testpmd", None, testpmd::PROGRAM, &args, &cores.both())?;
        let mut peer = Program::start(process, Tongue::Testpmd, cores.worker, &interrupt)?;
        let pairs = Pairs::take(bench, &format!("null, {mode}"), &mut || ours.shot(Sent::All), &mut || {
            peer.shot(Sent::Unknown)
        })?;
        table.push(figure.row(&pairs, 0, bench.seed));
    }
    Ok(table)
}

/// The whole path on packets of a capture, against `l3fwd`.
pub(crate) fn pcap(bench: &mut Bench, environment: &Environment) -> Result<Vec<Row>, String> {
    let few = figure("pcap", "1k flows by l3fwd acl, 1000 rules", Some(Goal::AtMost(1.0)));
    let exact = figure("pcap", "1k flows, 1000 rules by l3fwd em, 1000 flows", None);
    let many = figure("pcap", "1m flows by l3fwd acl (1k flows), 1000 rules", None);
    if !l3fwd::is_installed() {
        let because = format!("l3fwd cannot be built: apt-get install {}", l3fwd::PACKAGES);
        return Ok([few, exact, many].map(|figure| figure.skipped(&because)).into());
    }
    let acl = Lookup::Acl(RULES);
    let _pages = Hugepages::reserve(PROCESS_MIB + acl.memory_mib() + Lookup::Em.memory_mib())?;
    bench.progress("pcap: builds l3fwd");
    let folder = Folder::new("pcap")?;
    let program = l3fwd::build(folder.path())?;
    let file = folder.file("capture.pcap");
    write(&file, capture())?;
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
    let interrupt = bench.interrupt.clone();
    // What is sent goes to a device of the same kind, which drops it, as the one that l3fwd sends to does.
    let drop = format!("net_pcap1,rx_pcap={}", file.display());
    let (rules, flows) = (RULES.to_string(), MILLION.to_string());
    let more = ["--device", &device, "--device", &drop, "--rules", &rules, "--flows", &flows];
    let mut ours = side(environment, &interrupt, &more.map(str::to_owned))?;
    let cores = environment.cores;
    let start = |lookup: Lookup| {
        bench.progress(&format!("pcap: starts l3fwd {}", lookup.name()));
        let args = l3fwd::arguments(folder.path(), &device, lookup, cores)?;
        let process = Process::start("l3fwd", None, &program.display().to_string(), &args, &cores.both())?;
        Program::start(process, Tongue::L3fwd, cores.worker, &interrupt)
    };
    let (mut peer, mut exact_peer) = (start(acl)?, start(Lookup::Em)?);
    ours.mode(Mode::Path)?;
    let pairs =
        Pairs::take(bench, "pcap, 1k flows", &mut || ours.shot(Sent::All), &mut || peer.shot(Sent::All))?;
    let few = few.row(&pairs, 0, bench.seed);
    let pairs = Pairs::take(bench, "pcap, exact match", &mut || ours.shot(Sent::All), &mut || {
        exact_peer.shot(Sent::All)
    })?;
    let exact = exact.row(&pairs, 0, bench.seed);
    bench.progress("pcap: opens a million flows");
    // Every flow is opened before.
    ours.mode(Mode::RewritePath)?;
    interrupt.sleep(OPEN_FLOWS)?;
    ours.process.suspend()?;
    let pairs =
        Pairs::take(bench, "pcap, 1m flows", &mut || million(&mut ours), &mut || peer.shot(Sent::All))?;
    Ok(vec![few, exact, many.row(&pairs, 0, bench.seed)])
}

/// What a packet costs when each is of another one of a million flows, without what it costs to make it so.
fn million(ours: &mut Program) -> Result<Shot, String> {
    let mut shots = Vec::new();
    for mode in [Mode::RewritePath, Mode::Rewrite, Mode::Plain] {
        ours.mode(mode)?;
        shots.push(ours.shot(Sent::All)?);
    }
    let ns = |index: usize| shots[index].figures[0];
    let figures = vec![ns(0) - (ns(1) - ns(2))];
    let disturbances = shots.iter().flat_map(|shot| shot.disturbances.clone()).collect();
    Ok(Shot { figures, disturbances })
}

pub(super) fn write(path: &Path, packets: impl Iterator<Item = Vec<u8>>) -> Result<(), String> {
    let mut writer = PcapWriter::create(path).map_err(|error| error.to_string())?;
    for packet in packets {
        writer.write(0, &packet).map_err(|error| error.to_string())?;
    }
    writer.finish().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_last_that_were_said() {
        let lines = ["ready", "packets 5 sent 4", "packets 7 sent 6"].map(str::to_owned);
        assert_eq!(counts(&lines), Some((7, 6)));
        assert_eq!(counts(&lines[..1]), None);
    }
}
