//! Packets that are all the first of a flow: the appliance looks them up in a firewall's rules and makes each a flow, `l3fwd` looks the same
//! packets up in the same rules.
//!
//! Both receive one capture over and over. So that its packets are first ones again in the next round, the appliance's clock goes on by
//! more than the lifetime of a flow meanwhile: flows end as they would with time, which is part of what is measured.

use super::child::Process;
use super::goal::Goal;
use super::hugepages::{Hugepages, PROCESS_MIB};
use super::pairs::{Bench, Pairs};
use super::ports::{Program, Sent, Tongue, figure, side, write};
use super::report::Row;
use super::scrap::Folder;
use super::traffic::CAPTURE;
use super::{Environment, l3fwd};
use crate::firewall::Firewall;
use std::path::Path;

/// Rules of a generated firewall.
const RULES: usize = 10_000;
/// What DPDK's access rules take at ten thousand of a firewall's, in MiB, with room.
const PEER_MIB: u32 = 1024;
/// One and a half times the peer's rate.
const TIME_MAX: f64 = 0.667;

/// The firewall of a ClassBench file, or of the generator, with the flows of a capture.
pub(crate) fn firewall(set: Option<&Path>, seed: u64) -> Result<Firewall, String> {
    Firewall::load(set, RULES, CAPTURE, seed)
}

/// The comparison.
pub(crate) fn firsts(
    bench: &mut Bench,
    environment: &Environment,
    set: Option<&Path>,
) -> Result<Vec<Row>, String> {
    let name = set.and_then(Path::file_stem).map_or("generated".into(), |name| name.to_string_lossy());
    bench.progress("firsts: makes the firewall");
    let firewall = firewall(set, bench.seed)?;
    let what = format!("first packets, {} rules ({name}), by l3fwd acl", firewall.len());
    let figure = figure("firsts", &what, Some(Goal::AtMost(TIME_MAX)));
    if !l3fwd::is_installed() {
        let because = format!("l3fwd cannot be built: apt-get install {}", l3fwd::PACKAGES);
        return Ok(vec![figure.skipped(&because)]);
    }
    let _pages = Hugepages::reserve(PROCESS_MIB + PEER_MIB)?;
    bench.progress("firsts: builds l3fwd");
    let folder = Folder::new("firsts")?;
    let program = l3fwd::build(folder.path())?;
    let file = folder.file("capture.pcap");
    write(&file, firewall.frames())?;
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
    // What is sent goes to a device of the same kind, which drops it, as the one that l3fwd sends to does.
    let drop = format!("net_pcap1,rx_pcap={}", file.display());
    let interrupt = bench.interrupt.clone();
    let seed = bench.seed.to_string();
    let mut more = ["--device", &device, "--device", &drop, "--firewall", &seed].map(str::to_owned).to_vec();
    if let Some(set) = set {
        more.extend(["--filter-set".to_owned(), set.display().to_string()]);
    }
    let mut ours = side(environment, &interrupt, &more)?;
    bench.progress("firsts: starts l3fwd");
    let cores = environment.cores;
    let args = l3fwd::arguments_for(folder.path(), &device, firewall.l3fwd(), PEER_MIB, cores)?;
    let process = Process::start("l3fwd", None, &program.display().to_string(), &args, &cores.both())?;
    let mut peer = Program::start(process, Tongue::L3fwd, cores.worker, &interrupt)?;
    let pairs = Pairs::take(bench, "firsts", &mut || ours.shot(Sent::All), &mut || peer.shot(Sent::All))?;
    Ok(vec![figure.row(&pairs, 0, bench.seed)])
}
