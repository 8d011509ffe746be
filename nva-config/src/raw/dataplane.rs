//! `dataplane` as written.

use std::collections::HashSet;
use std::time::Duration;

use super::fields::{Fields, elements, placed};
use super::scalar::{count, duration, mebibytes, text, word};
use crate::model::{Dataplane, DpdkOptions, FlowTimeouts, Workers};
use crate::report::Report;
use crate::tree::{Node, Value};

/// Flow records; more than this is beyond any machine's memory.
const FLOW_CAPACITY_MAX: u64 = 1 << 30;
/// Cores of a machine.
const CORE_MAX: u64 = 4095;
/// A flow that is idle for longer is gone in every peer's table.
const FLOW_IDLE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A group of a few rules takes a MiB; no machine has the upper end.
const POLICY_MEMORY_MIB: std::ops::RangeInclusive<u32> = 1..=1 << 20;
/// DPDK's own structures take some 20 MiB; no machine has the upper end.
const DPDK_MEMORY_MIB: std::ops::RangeInclusive<u32> = 64..=1 << 20;

pub(super) fn dataplane(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Dataplane {
    let default = Dataplane::default();
    let workers = fields.or("workers", default.workers.clone(), report, workers);
    let idle = fields.or("idle", default.idle, report, word);
    let flow_capacity =
        fields.or("flow_capacity", default.flow_capacity, report, count(1..=FLOW_CAPACITY_MAX));
    let flow_idle_timeout = fields.section("flow_idle_timeout", report, flow_timeouts);
    let policy_memory =
        fields.or("policy_memory", default.policy_memory_mib, report, mebibytes(POLICY_MEMORY_MIB));
    let dpdk = fields.section("dpdk", report, dpdk);
    Dataplane {
        workers: workers.map_or(default.workers, |w| w.value),
        idle: idle.map_or(default.idle, |idle| idle.value),
        flow_capacity: flow_capacity.map_or(0, |c| c.value),
        flow_idle_timeout: flow_idle_timeout.unwrap_or_default(),
        policy_memory_mib: policy_memory.map_or(default.policy_memory_mib, |memory| memory.value),
        dpdk: dpdk.unwrap_or_default(),
    }
}

fn workers(node: &Node, report: &mut Report<'_>) -> Option<Workers> {
    if let Value::Scalar { text, .. } = &node.value {
        if text == "auto" {
            return Some(Workers::Auto);
        }
        report.problem(
            node.at,
            "`workers` is a list of cores, such as `[1, 2]`, or `auto`; write one of these",
        );
        return None;
    }
    let cores = elements(node, report, placed(count::<usize>(0..=CORE_MAX)));
    if cores.items.is_empty() && cores.complete {
        report.problem(node.at, "`workers` is empty; list the core of at least one worker, or write `auto`");
    }
    let mut seen = HashSet::new();
    for core in &cores.items {
        if !seen.insert(core.value) {
            report.problem(
                core.at,
                format!("core {} has a worker already; give each worker its own", core.value),
            );
        }
    }
    Some(Workers::Cores(cores.items.into_iter().map(|core| core.value).collect()))
}

fn flow_timeouts(fields: &mut Fields<'_>, report: &mut Report<'_>) -> FlowTimeouts {
    let mut read = |key, default| {
        let range = Duration::from_millis(1)..=FLOW_IDLE_MAX;
        fields.or(key, default, report, duration(range)).map_or(default, |time| time.value)
    };
    let default = FlowTimeouts::default();
    FlowTimeouts {
        tcp: read("tcp", default.tcp),
        tcp_half_open: read("tcp_half_open", default.tcp_half_open),
        tcp_closing: read("tcp_closing", default.tcp_closing),
        udp: read("udp", default.udp),
        icmp: read("icmp", default.icmp),
        other: read("other", default.other),
    }
}

fn dpdk(fields: &mut Fields<'_>, report: &mut Report<'_>) -> DpdkOptions {
    let default = DpdkOptions::default();
    let eal = fields.list("eal", report, text);
    let hugepages = fields.or("hugepages", default.hugepages, report, word);
    let memory = fields.or("memory", default.memory_mib, report, mebibytes(DPDK_MEMORY_MIB));
    DpdkOptions {
        eal: eal.items,
        hugepages: hugepages.map_or(default.hugepages, |pages| pages.value),
        memory_mib: memory.map_or(default.memory_mib, |memory| memory.value),
    }
}
