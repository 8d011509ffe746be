//! The appliance against `dpdk-testpmd` and against the kernel, each on a pair of veths of its own.

use super::contender::{Contender, Driver};
use super::goal::Goal;
use super::hugepages::{Hugepages, PROCESS_MIB};
use super::pairs::{Bench, Pairs, Relation, Shot};
use super::profile::{self, QUANTILES};
use super::report::{Figure, Row};
use super::road::{Freight, LOSS_MAX, Load, Road};
use super::rules::{Form, nft, rules};
use super::steady::NEAR_FULL;
use super::{Environment, has, missing, nva};
use std::cell::Cell;
use std::time::Duration;

/// A window of a shot.
const WINDOW: Duration = Duration::from_millis(500);

/// Against `dpdk-testpmd` over the same kind of socket.
pub(crate) fn testpmd(
    bench: &mut Bench,
    environment: &Environment,
    driver: Driver,
) -> Result<Vec<Row>, String> {
    let comparison = match driver {
        Driver::AfPacket => "afpacket",
        Driver::AfXdp => "afxdp",
    };
    let what = format!("testpmd macswap over net_{}", driver.name());
    let figure =
        |what: String, unit, goal| Figure { comparison, what, unit, relation: Relation::Ratio, goal };
    let whole = || figure(what.clone(), "", None);
    if !nva::drives(&environment.nva, driver) {
        return Ok(vec![whole().skipped(format!("this nva has no driver {}", driver.name()))]);
    }
    bench.progress(&format!("{comparison}: starts both"));
    let cores = environment.cores;
    let _pages = Hugepages::reserve(PROCESS_MIB)?;
    let ours = Road::build("nva", Freight::datagrams(), cores, &bench.interrupt, |space| {
        let config = nva::config(driver, &[], cores.worker);
        Contender::nva(Some(space), &environment.nva, &config, cores, &bench.interrupt)
    })?;
    let peer = Road::build("testpmd", Freight::datagrams(), cores, &bench.interrupt, |space| {
        Contender::testpmd(space, driver, cores, &bench.interrupt)
    })?;
    let (lowest, pairs) = capacities(bench, comparison, &ours, &peer)?;
    let mut rows = capacity_rows(&pairs, bench.seed, &figure, [None; 3]);
    if lowest == f64::INFINITY {
        return Ok(rows);
    }
    let delays = |road| move |share| delays(road, share * lowest);
    rows.extend(profile::delays(bench, comparison, None, &figure, &mut delays(&ours), &mut delays(&peer))?);
    Ok(rows)
}

/// What the kernel does in a comparison, and how: `None` is plain forwarding.
type Kernel = (Driver, &'static str, Option<Form>, Option<Goal>);

/// Forwarding without rules.
pub(crate) const PLAIN: [Kernel; 2] = [
    (Driver::AfPacket, "plain forwarding", None, Some(Goal::AtLeast(0.6))),
    (Driver::AfXdp, "plain forwarding", None, None),
];

/// Forwarding with rules.
pub(crate) const RULED: [Kernel; 2] = [
    (Driver::AfXdp, "1000 rules", Some(Form::Linear), Some(Goal::AtLeast(2.0))),
    (Driver::AfXdp, "1000 in a map", Some(Form::Map), Some(Goal::AtLeast(1.2))),
];

/// Against the kernel, which forwards with the same rules in `nft`.
pub(crate) fn kernel(
    bench: &mut Bench,
    environment: &Environment,
    comparison: &'static str,
    kernels: &[Kernel],
) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for kernel in kernels {
        let (driver, name, ..) = kernel;
        let what = format!("{} by kernel, {name}", driver.name());
        let figure = |what, unit, goal| Figure { comparison, what, unit, relation: Relation::Ratio, goal };
        match against(kernel, &what, bench, environment, &figure) {
            Ok(more) => rows.extend(more),
            // The others are no worse for it.
            Err(why) => {
                bench.interrupt.check()?;
                rows.push(figure(what, "", None).failed(why));
            }
        }
    }
    Ok(rows)
}

fn against(
    (driver, _, form, goal): &Kernel,
    what: &str,
    bench: &mut Bench,
    environment: &Environment,
    of: &dyn Fn(String, &'static str, Option<Goal>) -> Figure,
) -> Result<Vec<Row>, String> {
    let (driver, form, goal) = (*driver, *form, *goal);
    let figure = |detail: String, unit, goal| of(format!("{what}: {detail}"), unit, goal);
    let whole = || of(what.to_owned(), "", None);
    if form.is_some() && !has("nft") {
        return Ok(vec![whole().skipped(missing("nft", "nftables"))]);
    }
    if !nva::drives(&environment.nva, driver) {
        return Ok(vec![whole().skipped(format!("this nva has no driver {}", driver.name()))]);
    }
    bench.progress(&format!("{what}: starts both"));
    let cores = environment.cores;
    let rules = rules(if form.is_some() { 1000 } else { 0 });
    let ours = Road::build("nva", Freight::datagrams(), cores, &bench.interrupt, |space| {
        let config = nva::config(driver, &rules, cores.worker);
        Contender::nva(Some(space), &environment.nva, &config, cores, &bench.interrupt)
    })?;
    let peer = Road::build("kernel", Freight::datagrams(), cores, &bench.interrupt, |space| {
        let rules = form.map(|form| nft(&rules, form)).unwrap_or_default();
        Contender::kernel(space, &rules, cores)
    })?;
    let (_, pairs) = capacities(bench, what, &ours, &peer)?;
    Ok(capacity_rows(&pairs, bench.seed, &figure, [None, None, goal]))
}

/// Pairs of what each can do; and the lowest loss-free rate of them all.
fn capacities(bench: &mut Bench, what: &str, ours: &Road, peer: &Road) -> Result<(f64, Pairs), String> {
    let lowest = Cell::new(f64::INFINITY);
    let shot = |road: &Road| {
        let (shot, rate) = capacity(road)?;
        lowest.set(lowest.get().min(rate));
        Ok(shot)
    };
    let pairs = Pairs::take(bench, what, &mut || shot(ours), &mut || shot(peer))?;
    Ok((lowest.get(), pairs))
}

/// Loss-free rate; what goes through at twice that, or at what the generator can offer where that is less; and packets for a second of
/// CPU time near what goes through under full load.
///
/// A generator short of twice the rate is no disturbance: it shares its core with the soft interrupts that deliver frames into the
/// contender's rings. CPU time is not taken near the loss-free rate, which one stall may have set so low that each packet wakes somebody.
fn capacity(road: &Road) -> Result<(Shot, f64), String> {
    road.drive(|drive| {
        let rate = drive.loss_free()?;
        if rate == 0.0 {
            return Ok((Shot::without_rate(3, LOSS_MAX), f64::INFINITY));
        }
        let over = drive.window(Load::Rate(2.0 * rate), WINDOW)?;
        let full = drive.window(Load::Full, WINDOW)?;
        let near = drive.window(Load::Rate(NEAR_FULL * full.kpps() * 1e3), WINDOW)?;
        let figures = vec![rate / 1e3, over.kpps(), 1e6 / near.ns_a_packet()];
        let windows = [over.interval.disturbances(), full.disturbances(), near.disturbances()];
        let disturbances = windows.concat();
        Ok((Shot { figures, disturbances }, rate))
    })
}

fn capacity_rows(
    pairs: &Pairs,
    seed: u64,
    figure: &dyn Fn(String, &'static str, Option<Goal>) -> Figure,
    goals: [Option<Goal>; 3],
) -> Vec<Row> {
    let figures =
        [("loss-free", "kpps"), ("at up to twice loss-free", "kpps"), ("system-wide CPU", "kp/CPU-s")];
    let row = |(index, ((what, unit), goal)): (usize, ((&str, &'static str), Option<Goal>))| {
        figure(what.to_owned(), unit, goal).row(pairs, index, seed)
    };
    figures.into_iter().zip(goals).enumerate().map(row).collect()
}

/// Delays in microseconds, each quantile, at this rate.
fn delays(road: &Road, rate: f64) -> Result<Shot, String> {
    road.drive(|drive| {
        let (window, histogram) = drive.delays(Load::Rate(rate), WINDOW)?;
        let delay = |quantile| {
            let none = || {
                let name = road.contender().name();
                format!(
                    "{name}: no frame with a stamp arrived of {rate:.0} a second ({} without)",
                    window.arrived
                )
            };
            histogram.quantile_ns(quantile).map(|delay| delay / 1e3).ok_or_else(none)
        };
        let figures = QUANTILES.into_iter().map(delay).collect::<Result<_, _>>()?;
        Ok(Shot { figures, disturbances: window.disturbances() })
    })
}
