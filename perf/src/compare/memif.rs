//! The appliance against `dpdk-testpmd`, each between the two ports of a generator, all joined by shared memory (DPDK's `net_memif`):
//!
//! ```text
//! generator out ──── contender ──── back generator
//! ```
//!
//! The generator is on one core, the contender on the other. It is the memif client, whose memory the rings' frames lie in, so that the
//! contender alone copies: it has to be faster than whoever is measured.

use super::child::{Bookmark, Process};
use super::contender::Contender;
use super::goal::Goal;
use super::hugepages::{Hugepages, PROCESS_MIB};
use super::interrupt::Interrupt;
use super::order::{Order, Outcome};
use super::pairs::{Bench, Pairs, Relation, Shot};
use super::profile;
use super::quiet::{Disturbance, Watch, Watched};
use super::report::{Figure, Row};
use super::rules::rules;
use super::scrap::Folder;
use super::search::{Search, Trial};
use super::traffic::Kind;
use super::{Cores, Environment, nva};
use crate::traffic::STATION;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Of the appliance, in front of the one that allows.
const RULES: usize = 1000;
/// Share of the frames that may be lost at a loss-free rate: a stall of the machine is nobody's fault.
const LOSS_MAX: f64 = 1e-3;
/// Frames a second that no contender keeps up with.
const FULL: f64 = 40e6;
const WARM_UP: Duration = Duration::from_millis(60);
/// A trial of the search, and of everything else.
const TRIAL: Duration = Duration::from_millis(150);
const WINDOW: Duration = Duration::from_millis(400);
/// The first frames, at a rate that opens each flow some times.
const FIRST: Order = Order { rate: 2e4, warm_up: Duration::ZERO, time: Duration::from_millis(200) };
/// So many of them are enough; all are looked at.
const SAMPLE: u64 = 200;
const FIRST_WITHIN: Duration = Duration::from_secs(4);
/// So often both are started, one time after the other, until frames come back.
const ATTEMPTS: usize = 8;
const START_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Takes the comparison.
pub(crate) fn memif(bench: &mut Bench, environment: &Environment) -> Result<Vec<Row>, String> {
    let figure =
        |what: String, unit, relation, goal| Figure { comparison: "memif", what, unit, relation, goal };
    let whole = || figure("testpmd macswap in its place".into(), "", Relation::Ratio, None);
    if !nva::drives_dpdk(&environment.nva)? {
        let because = "this nva is built without DPDK: cargo build --release -p nva --features dpdk";
        return Ok(vec![whole().skipped(because)]);
    }
    // Two contenders, and a generator of half their memory for each.
    let _pages = Hugepages::reserve(3 * PROCESS_MIB)?;
    let cores = environment.cores;
    let interrupt = bench.interrupt.clone();
    let mut ours = Wire::build("nva", Kind::Routes, cores, bench, |devices| {
        let config = nva::config_over_dpdk(&devices, &rules(RULES), cores.worker, PROCESS_MIB);
        Contender::nva(None, &environment.nva, &config, cores, &interrupt)
    })?;
    let mut peer = Wire::build("testpmd", Kind::Swaps, cores, bench, |devices| {
        Contender::testpmd_on(None, "testpmd macswap", devices, cores, &interrupt)
    })?;
    let lowest = Cell::new(f64::INFINITY);
    let capacity = |wire: &mut Wire| {
        let (shot, rate) = wire.drive(Wire::capacity)?;
        lowest.set(lowest.get().min(rate));
        Ok(shot)
    };
    let pairs = Pairs::take(bench, "memif, rates", &mut || capacity(&mut ours), &mut || capacity(&mut peer))?;
    let goal = Some(Goal::AtLeast(0.85));
    let mut rows =
        vec![figure("loss-free".to_owned(), "kpps", Relation::Ratio, goal).row(&pairs, 0, bench.seed)];
    let lowest = lowest.get();
    if lowest == f64::INFINITY {
        return Ok(rows);
    }
    let pairs = Pairs::take(bench, "memif, overload", &mut || ours.drive(Wire::overload), &mut || {
        peer.drive(Wire::overload)
    })?;
    let lines = [
        ("at twice loss-free", "kpps", Relation::Ratio, None),
        ("at twice loss-free, share of its best rate", "", Relation::Ours, Some(Goal::AtLeast(0.95))),
    ];
    rows.extend(lines.into_iter().enumerate().map(|(index, (what, unit, relation, goal))| {
        figure(what.to_owned(), unit, relation, goal).row(&pairs, index, bench.seed)
    }));
    let most = Some(Goal::AtMost(1.3));
    rows.extend(profile::delays(
        bench,
        "memif",
        most,
        &|what, unit, goal| figure(what, unit, Relation::Ratio, goal),
        &mut |share| ours.drive(|wire| wire.delays(share * lowest)),
        &mut |share| peer.drive(|wire| wire.delays(share * lowest)),
    )?);
    Ok(rows)
}

/// A generator and a contender. It is gone when this is dropped, the generator first.
struct Wire {
    generator: Generator,
    contender: Contender,
    cores: Cores,
    /// The loss-free rate found last, in frames a second; 0: none.
    loss_free: f64,
    /// The most that came back with it.
    best: f64,
    _folder: Folder,
}

impl Wire {
    /// Starts both, with what `join` starts on the two devices that it is given. Again, where that fails: now and then DPDK 22.11 does
    /// not join two processes, and its server may crash when its client goes.
    fn build(
        name: &str,
        kind: Kind,
        cores: Cores,
        bench: &Bench,
        join: impl Fn([String; 2]) -> Result<Contender, String>,
    ) -> Result<Self, String> {
        let mut outcome = Self::start(name, kind, cores, bench, &join);
        for _ in 1..ATTEMPTS {
            if outcome.is_ok() {
                break;
            }
            bench.interrupt.check()?;
            outcome = Self::start(name, kind, cores, bench, &join);
        }
        outcome
    }

    fn start(
        name: &str,
        kind: Kind,
        cores: Cores,
        bench: &Bench,
        join: &impl Fn([String; 2]) -> Result<Contender, String>,
    ) -> Result<Self, String> {
        bench.progress(&format!("memif: starts {name} and a generator"));
        let folder = Folder::new(&format!("memif-{name}"))?;
        let device = |number: usize, role: &str, more: &str| {
            let socket = folder.file(&format!("{number}.sock"));
            format!("net_memif{number},role={role},socket={},socket-abstract=no{more}", socket.display())
        };
        let [a, b, c, d, e, f] = STATION;
        let mac = format!(",mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let mut contender = join([0, 1].map(|number| device(number, "server", &mac)))?;
        let program = std::env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?;
        let core = cores.generator.to_string();
        let memory = (PROCESS_MIB / 2).to_string();
        let [out, back] = [0, 1].map(|number| device(number, "client", ",zero-copy=yes"));
        let args =
            ["generate", "--core", &core, "--memory-mib", &memory, "--device", &out, "--device", &back];
        let mut args = args.map(str::to_owned).to_vec();
        args.extend((kind == Kind::Swaps).then(|| "--swapped".to_owned()));
        let program = program.display().to_string();
        let mut process = Process::start("perf generate", None, &program, &args, &core)?;
        process.wait_for(Bookmark::START, "ready", START_WITHIN, &bench.interrupt)?;
        // Who polls a device while it is being joined may keep it from that.
        contender.begin(&bench.interrupt)?;
        let mut generator = Generator { process, interrupt: bench.interrupt.clone() };
        generator.prove().map_err(|why| format!("{}: {why}", contender.name()))?;
        contender.suspend()?;
        Ok(Self { generator, contender, cores, loss_free: 0.0, best: 0.0, _folder: folder })
    }

    /// Lets the contender run for as long as `what` takes.
    fn drive<T>(&mut self, what: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.contender.resume()?;
        let outcome = what(self);
        self.contender.suspend()?;
        outcome
    }

    fn trial(&mut self, order: Order) -> Result<Outcome, String> {
        self.generator.trial(order).map_err(|why| format!("{}: {why}", self.contender.name()))
    }

    /// A trial, with what disturbed it.
    fn window(&mut self, rate: f64) -> Result<(Outcome, Vec<Disturbance>), String> {
        let mut watched = self.contender.threads()?;
        let pid = self.generator.process.pid();
        watched.push(Watched::new(pid, pid, self.cores.generator));
        let watch = Watch::begin(&watched, &[self.cores.worker, self.cores.generator])?;
        let outcome = self.trial(Order { rate, warm_up: WARM_UP, time: WINDOW })?;
        let mut disturbances = watch.end()?.disturbances();
        if rate < FULL {
            disturbances.extend(outcome.disturbance());
        }
        Ok((outcome, disturbances))
    }

    /// Loss-free rate; the same in frames a second, infinite where there is none. The generator offered it: trials of which it left
    /// something out are none.
    fn capacity(&mut self) -> Result<(Shot, f64), String> {
        self.loss_free = 0.0;
        let (full, disturbances) = self.window(FULL)?;
        let best = full.rate();
        if best == 0.0 {
            return Ok((Shot::without_rate(1, LOSS_MAX), f64::INFINITY));
        }
        let search = Search { low: best * 0.05, high: best * 1.3, loss_max: LOSS_MAX, width: 0.02 };
        let rate = search.run(|rate| {
            let outcome = self.trial(Order { rate, warm_up: WARM_UP, time: TRIAL })?;
            Ok(outcome.disturbance().map_or(Trial::Lost(outcome.lost()), |_| Trial::Void))
        })?;
        if rate == 0.0 {
            return Ok((Shot::without_rate(1, LOSS_MAX), f64::INFINITY));
        }
        (self.loss_free, self.best) = (rate, best.max(rate));
        Ok((Shot { figures: vec![rate / 1e3], disturbances }, rate))
    }

    /// What comes back when twice the loss-free rate is offered, and the share that this is of the best rate.
    fn overload(&mut self) -> Result<Shot, String> {
        if self.loss_free == 0.0 {
            return Ok(Shot::without_rate(2, LOSS_MAX));
        }
        let (over, disturbances) = self.window(2.0 * self.loss_free)?;
        Ok(Shot { figures: vec![over.rate() / 1e3, over.rate() / self.best], disturbances })
    }

    /// Delays in microseconds, each quantile, at this rate.
    fn delays(&mut self, rate: f64) -> Result<Shot, String> {
        let (outcome, disturbances) = self.window(rate)?;
        let delays = outcome.delays_ns.ok_or("no frame came back")?;
        Ok(Shot { figures: delays.map(|delay| delay / 1e3).into(), disturbances })
    }
}

/// The process that sends and takes back.
struct Generator {
    process: Process,
    interrupt: Interrupt,
}

impl Generator {
    /// Sends until frames come back, whole and changed as they should be, in order.
    fn prove(&mut self) -> Result<(), String> {
        let end = Instant::now() + FIRST_WITHIN;
        while Instant::now() < end {
            if self.trial(FIRST)?.arrived >= SAMPLE {
                return Ok(());
            }
        }
        Err(format!("no frame comes back within {} s", FIRST_WITHIN.as_secs()))
    }

    fn trial(&mut self, order: Order) -> Result<Outcome, String> {
        let bookmark = self.process.bookmark();
        let order = serde_json::to_string(&order).map_err(|error| error.to_string())?;
        self.process.say(&order)?;
        let lines = self.process.wait_for(bookmark, "{", ANSWER_WITHIN, &self.interrupt)?;
        let line = lines.iter().find(|line| line.starts_with('{')).ok_or("the generator says nothing")?;
        let outcome: Outcome = serde_json::from_str(line).map_err(|error| format!("{line:?}: {error}"))?;
        match (&outcome.wrong, outcome.disordered) {
            (Some(wrong), _) => Err(wrong.clone()),
            (None, 0) => Ok(outcome),
            (None, count) => Err(format!("{count} frames came out of order")),
        }
    }
}
