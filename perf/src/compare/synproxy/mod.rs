//! The appliance as a SYN proxy against the kernel's, on the same pair of veths and under the same flood: SYNs answered, real handshakes
//! and what becomes of connections that last meanwhile, the memory that a flood takes, and what a bulk transfer loses by having been proved.

mod bulk;
pub(crate) mod ends;
mod flood;
mod handshakes;
mod hosts;
mod lasting;

use super::contender::{Contender, Driver};
use super::goal::Goal;
use super::pairs::{Bench, Pairs, Relation, Shot};
use super::quiet::{Watch, Watched};
use super::report::{Figure, Row};
use super::road::{Load, Road, Window};
use super::{Environment, nva, steady};
use ends::Ends;
use handshakes::Order;
use hosts::{DIRECT, SPLICED};
use std::time::Duration;

/// The drivers, and how many times the kernel's answers for its CPU time each is held to.
const DRIVERS: [(Driver, f64); 2] = [(Driver::AfXdp, 3.0), (Driver::AfPacket, 1.0)];
/// How long it is flooded to see what it absorbs.
const FULL: Duration = Duration::from_millis(300);
/// The flood that handshakes are made under, of what is absorbed at most.
const SHARE: f64 = 0.8;
/// Handshakes without the flood, and with it.
const QUIET: Order = Order { count: 250, interval: Duration::from_millis(2) };
const FLOODED: Order = Order { count: 500, interval: Duration::from_millis(2) };
/// How long connections that last are watched without the flood, and with it.
const LASTING: Duration = Duration::from_millis(400);
/// With more of the first handshakes failing, of a thousand, there is nothing to compare.
const FAILED_MAX: f64 = 500.0;
/// A bulk transfer of a pair.
const TRANSFER: Duration = Duration::from_millis(400);
/// The transfer of which each byte is compared.
const WHOLE: u64 = 1_000_000_000;

/// Takes the comparison.
pub(crate) fn synproxy(bench: &mut Bench, environment: &Environment) -> Result<Vec<Row>, String> {
    let cores = environment.cores;
    bench.progress("synproxy: starts the kernel's");
    let seed = bench.seed;
    let peer = Road::build("kernel", flood::freight(seed), cores, &bench.interrupt, |space| {
        hosts::kernel(space, cores)
    })?;
    let mut peer = Side::new(peer, None, bench, environment)?;
    let mut rows = Vec::new();
    for (driver, goal) in DRIVERS {
        match against(&mut peer, driver, goal, bench, environment) {
            Ok(more) => rows.extend(more),
            // The other is no worse for it.
            Err(why) => {
                bench.interrupt.check()?;
                rows.push(ratio(driver.name(), "", None).failed(why));
            }
        }
    }
    Ok(rows)
}

fn figure(what: &str, unit: &'static str, relation: Relation, goal: Option<Goal>) -> Figure {
    Figure { comparison: "synproxy", what: what.to_owned(), unit, relation, goal }
}

fn ratio(what: &str, unit: &'static str, goal: Option<Goal>) -> Figure {
    figure(what, unit, Relation::Ratio, goal)
}

fn against(
    peer: &mut Side,
    driver: Driver,
    goal: f64,
    bench: &mut Bench,
    environment: &Environment,
) -> Result<Vec<Row>, String> {
    let name = driver.name();
    if !nva::drives(&environment.nva, driver) {
        return Ok(vec![ratio(name, "", None).skipped(format!("this nva has no driver {name}"))]);
    }
    let (cores, seed) = (environment.cores, bench.seed);
    bench.progress(&format!("synproxy: starts nva on {name}"));
    let ours = Road::build("nva", flood::freight(seed), cores, &bench.interrupt, |space| {
        let config = hosts::config(driver, cores);
        Contender::nva(Some(space), &environment.nva, &config, cores, &bench.interrupt)
    })?;
    let mut ours = Side::new(ours, Some(driver), bench, environment)?;
    let mut rows = answered(&ours.road, &peer.road, name, goal, bench)?;
    rows.extend(proved(&mut ours, peer, name, bench)?);
    rows.extend(spliced(&ours.road, name, cores.generator, bench)?);
    Ok(rows)
}

/// SYNs answered.
fn answered(ours: &Road, peer: &Road, name: &str, goal: f64, bench: &mut Bench) -> Result<Vec<Row>, String> {
    let what = format!("{name} by nft synproxy");
    let pairs = steady::pairs(bench, &format!("synproxy, {what}"), ours, peer)?;
    let lines = [
        ("SYNs answered under full flood", "kpps", None),
        ("answered, system-wide CPU", "kp/CPU-s", Some(Goal::AtLeast(goal))),
    ];
    let row = |(index, (detail, unit, goal)): (usize, (&str, &'static str, Option<Goal>))| {
        ratio(&format!("{what}: {detail}"), unit, goal).row(&pairs, index, bench.seed)
    };
    Ok(lines.into_iter().enumerate().map(row).collect())
}

/// Handshakes of clients that are there, with the flood and without.
fn proved(ours: &mut Side, peer: &mut Side, name: &str, bench: &mut Bench) -> Result<Vec<Row>, String> {
    let what = format!("synproxy, {name}, handshakes");
    let pairs = Pairs::take(bench, &what, &mut || ours.shot(), &mut || peer.shot())?;
    let lines = [
        ("handshakes that fail under flood", "/1000", Some(Goal::AtMost(1.0))),
        ("p99 of a handshake without flood", "us", None),
        ("p99 of a handshake: more under flood", "us", Some(Goal::AtMost(200.0))),
        ("memory more after flood", "KiB", Some(Goal::AtMost(0.0))),
        ("throughput of a spliced flow: kept under flood", "share", Some(Goal::AtLeast(0.95))),
        ("throughput past the proxy: kept under flood", "share", Some(Goal::AtLeast(0.95))),
    ];
    let row = |(index, (detail, unit, goal)): (usize, (&str, &'static str, Option<Goal>))| {
        figure(&format!("{name}: {detail}"), unit, Relation::Ours, goal).row(&pairs, index, bench.seed)
    };
    Ok(lines.into_iter().enumerate().map(row).collect())
}

/// A bulk transfer whose client had to prove itself, against one past the proxy.
fn spliced(road: &Road, name: &str, core: usize, bench: &mut Bench) -> Result<Vec<Row>, String> {
    let what = format!("synproxy, {name}, transfers");
    let shot = |port: u16| {
        road.rouse(|| {
            let threads = road.contender().threads()?;
            let watch = Watch::begin(&threads, &[])?;
            let transfer = bulk::timed(road, port, core, TRANSFER)?;
            Ok(Shot { figures: vec![transfer.rate()], disturbances: watch.end()?.disturbances() })
        })
    };
    let pairs = Pairs::take(bench, &what, &mut || shot(SPLICED), &mut || shot(DIRECT))?;
    let goal = Some(Goal::AtLeast(0.98));
    let row = ratio(&format!("{name}: spliced transfer by one past the proxy"), "MB/s", goal);
    let row = row.row(&pairs, 0, bench.seed);
    bench.progress(&format!("{what}: compares each byte of 1 GB"));
    let transfer = road.rouse(|| bulk::whole(road, SPLICED, core, WHOLE, bench))?;
    let shot = |rate| Shot { figures: vec![rate], disturbances: Vec::new() };
    let mut pairs = Pairs::default();
    pairs.add(shot(transfer.rate()), shot(f64::NAN), &[]);
    let whole = format!("{name}: spliced, 1 GB, each byte compared");
    Ok(vec![row, figure(&whole, "MB/s", Relation::Ours, None).row(&pairs, 0, bench.seed)])
}

/// A proxy with a client before it and a server behind it.
struct Side {
    ends: Ends,
    road: Road,
}

impl Side {
    fn new(
        road: Road,
        driver: Option<Driver>,
        bench: &Bench,
        environment: &Environment,
    ) -> Result<Self, String> {
        hosts::settle(&road, driver)?;
        let mut ends = Ends::start(&road, environment.cores, &bench.interrupt)?;
        // Proxy and server learn of each other by the first.
        let first = road.rouse(|| ends.make(QUIET))?;
        if first.failed_per_thousand() > FAILED_MAX {
            let why = first.why.unwrap_or_else(|| "they take too long".into());
            return Err(format!("{}: handshakes fail: {why}", road.contender().name()));
        }
        Ok(Self { ends, road })
    }

    /// Handshakes that fail under the flood, of a thousand; their p99 without it, and how much longer it is with it, in microseconds; KiB
    /// that the proxy's process has taken meanwhile; and what a spliced connection and one past the proxy keep of their throughput.
    fn shot(&mut self) -> Result<Shot, String> {
        let Self { ends, road } = self;
        let threads: Vec<Watched> = ends.threads()?;
        road.drive(|drive| {
            let (calm, quiet) = drive.beside(Load::Nothing, &threads, || ends.make(QUIET))?;
            let full = drive.window(Load::Full, FULL)?;
            let load = Load::Rate(SHARE * full.kpps() * 1e3);
            let before = road.contender().resident_kib()?;
            let (storm, flooded) = drive.beside(load, &threads, || ends.make(FLOODED))?;
            let after = road.contender().resident_kib()?;
            let grown = after.zip(before).map_or(f64::NAN, |(after, before)| after as f64 - before as f64);
            let p99 = quiet.quantile_us(0.99);
            ends.open()?;
            let threads = ends.threads()?;
            let (lull, alone) = drive.beside(Load::Nothing, &threads, || ends.watch(LASTING))?;
            let (surge, beside) = drive.beside(load, &threads, || ends.watch(LASTING))?;
            ends.close()?;
            let kept = beside.iter().zip(&alone).map(|(beside, alone)| beside / alone);
            let mut figures =
                vec![flooded.failed_per_thousand(), p99, flooded.quantile_us(0.99) - p99, grown];
            figures.extend(kept);
            let windows = [&calm, &full, &storm, &lull, &surge];
            let disturbances = windows.into_iter().flat_map(Window::disturbances).collect();
            Ok(Shot { figures, disturbances })
        })
    }
}
