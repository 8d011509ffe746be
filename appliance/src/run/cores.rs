//! Which cores the workers have, and the memory next to them.

use crate::output::Failure;
use core_affinity::CoreId;
use nva_config::Workers;
use std::fs;

/// The cores of the workers.
///
/// # Errors
/// A [`Failure`] when the process was not given a core that the configuration names.
pub(super) fn cores(workers: &Workers) -> Result<Vec<CoreId>, Failure> {
    choose(workers, &core_affinity::get_core_ids().unwrap_or_default())
}

/// As [`cores`], from those that the process was given.
fn choose(workers: &Workers, given: &[CoreId]) -> Result<Vec<CoreId>, Failure> {
    let wanted = match workers {
        Workers::Auto if given.is_empty() => {
            return Err(Failure::failed(
                "dataplane.workers: the kernel does not say which cores this process has; list the cores instead of `auto`",
            ));
        }
        Workers::Auto => return Ok(given.to_vec()),
        Workers::Cores(wanted) => wanted,
    };
    let find = |wanted: &usize| {
        given.iter().copied().find(|core| core.id == *wanted).ok_or_else(|| {
            let there: Vec<String> = given.iter().map(|core| core.id.to_string()).collect();
            Failure::failed(format!(
                "dataplane.workers: core {wanted} is not there for this process; use some of {}, or `auto`",
                there.join(", ")
            ))
        })
    };
    wanted.iter().map(find).collect()
}

/// Does something on a core, so that the memory which it touches first is of that core's node.
///
/// # Errors
/// A [`Failure`] when there is no thread to be had; where the core is refused the work is done all the same, for
/// the worker will say so.
pub(super) fn on_core<T: Send>(core: CoreId, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let pinned = || {
        core_affinity::set_for_current(core);
        work()
    };
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("nva-memory".into()).spawn_scoped(scope, pinned).map_err(
                |error| Failure::failed(format!("no thread to take memory on core {}: {error}", core.id)),
            )?;
        thread
            .join()
            .map_err(|_| Failure::failed("taking memory failed: this is a bug; its message is above"))
    })
}

/// The memory node of a core; `None` where the machine has no such thing.
fn node_of_core(core: CoreId) -> Option<u32> {
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{}", core.id)).ok()?;
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    entries.flatten().filter_map(name).find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// The memory node of a kernel interface's or a PCI device; `None` where it has none or it is not known.
fn node_of_device(device: &str) -> Option<u32> {
    // Neither an interface's name nor a PCI address has a separator; a DPDK device string may.
    if device.contains('/') {
        return None;
    }
    let paths = [
        format!("/sys/class/net/{device}/device/numa_node"),
        format!("/sys/bus/pci/devices/{device}/numa_node"),
    ];
    // -1 stands for none.
    paths.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}

/// What to tell the operator about devices and workers on different memory nodes; each frame crosses over between them.
pub(super) fn strangers<'a>(devices: impl Iterator<Item = &'a str>, cores: &[CoreId]) -> Vec<String> {
    let nodes: Vec<(usize, Option<u32>)> = cores.iter().map(|core| (core.id, node_of_core(*core))).collect();
    devices.filter_map(|device| far_cores(device, node_of_device(device)?, &nodes)).collect()
}

fn far_cores(device: &str, node: u32, cores: &[(usize, Option<u32>)]) -> Option<String> {
    let far = |(_, of): &&(usize, Option<u32>)| of.is_some_and(|of| of != node);
    let list: Vec<String> = cores.iter().filter(far).map(|(core, _)| core.to_string()).collect();
    (!list.is_empty()).then(|| {
        format!(
            "device {device} is at memory node {node}, and the workers on cores {} are not: each frame crosses over; \
             name cores of that node in dataplane.workers (`lscpu` lists them)",
            list.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: [CoreId; 3] = [CoreId { id: 2 }, CoreId { id: 3 }, CoreId { id: 7 }];

    #[test]
    fn auto_takes_what_the_process_was_given() {
        assert_eq!(choose(&Workers::Auto, &GIVEN).ok(), Some(GIVEN.to_vec()));
        assert!(choose(&Workers::Auto, &[]).is_err());
    }

    #[test]
    fn a_list_is_taken_in_its_order_or_refused() {
        let listed = choose(&Workers::Cores(vec![7, 2]), &GIVEN);
        assert_eq!(listed.ok(), Some(vec![CoreId { id: 7 }, CoreId { id: 2 }]));
        let refused = choose(&Workers::Cores(vec![7, 1]), &GIVEN).expect_err("there is no core 1");
        assert_eq!(refused.code, 1);
        assert!(
            refused.lines[0].contains("core 1 is not there for this process; use some of 2, 3, 7"),
            "{refused:?}"
        );
    }

    #[test]
    fn work_is_done_on_the_core() {
        let core = core_affinity::get_core_ids().expect("Linux says")[0];
        let there = on_core(core, || core_affinity::get_core_ids().expect("Linux says"));
        assert_eq!(there.ok(), Some(vec![core]));
    }

    #[test]
    fn cores_of_another_node_are_named() {
        let nodes = [(0, Some(0)), (1, Some(1)), (2, None), (3, Some(1))];
        assert_eq!(far_cores("eth0", 0, &nodes[..1]), None);
        let told = far_cores("eth0", 0, &nodes).expect("two are far");
        assert!(told.contains("memory node 0") && told.contains("cores 1, 3 are not"), "{told}");
        assert_eq!(node_of_device("../../etc"), None);
    }
}
