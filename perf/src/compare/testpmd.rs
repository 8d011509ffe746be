//! `dpdk-testpmd`: how it is started, and what its counters say.

use super::Cores;
use super::child::{Bookmark, Process};
use super::hugepages::PROCESS_MIB;
use super::interrupt::Interrupt;
use pmd_shim::BURST;
use std::time::Duration;

/// The program, and the Debian package that it is in.
pub(crate) const PROGRAM: &str = "dpdk-testpmd";
pub(crate) const PACKAGE: &str = "dpdk-dev";
/// What its forwarding threads are called.
pub(crate) const WORKER: &str = "rte-worker";

/// What it says when its ports are started.
const READY: &str = "Done";
/// What it says when it has begun.
pub(crate) const FORWARDING: &str = "packet forwarding - ports";
/// As many as fit into its memory, with room for rings and bursts.
const MBUFS: u32 = 16_384;

/// Its arguments for two devices, one forwarding core, bursts as long as the appliance's.
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
    let burst = format!("--burst={BURST}");
    let mbufs = format!("--total-num-mbufs={MBUFS}");
    arguments
        .extend(["--", "-i", "--nb-cores=1", &mode, &burst, "--no-lsc-interrupt", &mbufs].map(str::to_owned));
    arguments
}

/// Frames received and sent by so many ports, as `show port stats all` prints them; `None` as long as not all of it is there.
pub(crate) fn counts(lines: &[String], ports: usize) -> Option<(u64, u64)> {
    let sum = |label: &str| {
        let found: Vec<u64> = lines
            .iter()
            .filter_map(|line| line.trim_start().strip_prefix(label)?.split_whitespace().next()?.parse().ok())
            .collect();
        (found.len() == ports).then(|| found.iter().sum())
    };
    Some((sum("RX-packets:")?, sum("TX-packets:")?))
}

/// Waits until its ports are started.
pub(crate) fn wait(process: &mut Process, time: Duration, interrupt: &Interrupt) -> Result<(), String> {
    process.wait_for(Bookmark::START, READY, time, interrupt).map(|_| ())
}

/// Has it forward, which it does as soon as it is ready.
pub(crate) fn start(process: &mut Process, time: Duration, interrupt: &Interrupt) -> Result<(), String> {
    process.say("start")?;
    process.wait_for(Bookmark::START, FORWARDING, time, interrupt).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "
  ######################## NIC statistics for port 0  ########################
  RX-packets: 39541504   RX-missed: 0          RX-bytes:  0
  RX-errors: 0
  RX-nombuf:  0
  TX-packets: 39161568   TX-errors: 0          TX-bytes:  0
  ######################## NIC statistics for port 1  ########################
  RX-packets: 6   RX-missed: 0          RX-bytes:  0
  TX-packets: 2   TX-errors: 0          TX-bytes:  0";

    #[test]
    fn the_counts_of_all_ports_are_added() {
        let lines: Vec<String> = SAID.lines().map(str::to_owned).collect();
        assert_eq!(counts(&lines, 2), Some((39_541_510, 39_161_570)));
        assert_eq!(counts(&lines[..7], 2), None, "half of it");
        assert_eq!(counts(&[], 2), None);
    }

    #[test]
    fn the_worker_has_its_core() {
        let cores = Cores { worker: 3, generator: 2 };
        let arguments = arguments(["net_null0".to_owned()], "io", cores);
        assert!(arguments.contains(&"0@2,1@3".to_owned()));
        assert!(arguments.contains(&"--forward-mode=io".to_owned()));
    }
}
