//! `dpdk-testpmd`: how it is started, and what its counters say.

use super::Cores;
use super::child::{Bookmark, Process};
use super::hugepages::PROCESS_MIB;
use super::interrupt::Interrupt;
use std::time::Duration;

/// The program, and the Debian package that it is in.
pub(crate) const PROGRAM: &str = "dpdk-testpmd";
pub(crate) const PACKAGE: &str = "dpdk-dev";
/// What its forwarding threads are called.
pub(crate) const WORKER: &str = "rte-worker";

/// As many as fit into its memory, with room for rings and bursts.
const MBUFS: u32 = 16_384;

/// Its arguments for two devices, one forwarding core, bursts of 32.
pub(crate) fn arguments(devices: impl IntoIterator<Item = String>, mode: &str, cores: Cores) -> Vec<String> {
    let memory = PROCESS_MIB.to_string();
    let lcores = format!("0@{},1@{}", cores.generator, cores.worker);
    let mut arguments: Vec<String> = [
        "--lcores",
        &lcores,
        "--main-lcore",
        "0",
        "--no-pci",
        "--no-telemetry",
        "--in-memory",
        "-m",
        &memory,
    ]
    .map(str::to_owned)
    .to_vec();
    for device in devices {
        arguments.extend(["--vdev".to_owned(), device]);
    }
    let mode = format!("--forward-mode={mode}");
    let mbufs = format!("--total-num-mbufs={MBUFS}");
    arguments.extend(
        ["--", "-i", "--nb-cores=1", &mode, "--burst=32", "--no-lsc-interrupt", &mbufs].map(str::to_owned),
    );
    arguments
}

/// Waits until it is ready, and has it forward.
pub(crate) fn start(process: &mut Process, time: Duration, interrupt: &Interrupt) -> Result<(), String> {
    process.say("start")?;
    process.wait_for(Bookmark::START, "packet forwarding", time, interrupt).map(|_| ())
}
