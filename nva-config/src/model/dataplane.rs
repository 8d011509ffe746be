//! Workers, the flow table, and what the drivers need before any port.

use std::time::Duration;

use super::words;

/// `dataplane`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// `workers`. Default `[1]`.
    pub workers: Workers,
    /// `idle`: what a worker does that has nothing to do. Default `adaptive`.
    pub idle: IdlePolicy,
    /// `flow_capacity`: flow records over all workers. Default 1 000 000.
    pub flow_capacity: usize,
    /// `flow_idle_timeout`.
    pub flow_idle_timeout: FlowTimeouts,
    /// `policy_memory` in MiB: what the compiled rules of one security group may take. Default 512.
    pub policy_memory_mib: u32,
    /// `dpdk`: how DPDK's environment is started; without meaning when no port has that driver.
    pub dpdk: DpdkOptions,
}

/// `dataplane.workers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workers {
    /// `auto`: one on each core that the process was given.
    Auto,
    /// The core of each worker; never empty, no core twice.
    Cores(Vec<usize>),
}

/// `dataplane.idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// `adaptive`: polls on for a moment, then sleeps until a packet comes.
    Adaptive,
    /// `poll`: never sleeps.
    Poll,
}

/// `dataplane.dpdk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkOptions {
    /// `eal`: further arguments of DPDK's environment abstraction layer, as its own programs take them.
    pub eal: Vec<String>,
    /// `hugepages`. Default `2M`.
    pub hugepages: Hugepages,
    /// `memory` in MiB, at least 64. Default 512.
    pub memory_mib: u32,
}

/// `dataplane.dpdk.hugepages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// `2M`: pages of 2 MiB.
    TwoMebibytes,
    /// `1G`: pages of 1 GiB.
    OneGibibyte,
    /// `none`: ordinary pages; no NIC can use these.
    None,
}

/// `dataplane.flow_idle_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// Established TCP. Default 4 min.
    pub tcp: Duration,
    /// TCP before the handshake is complete. Default 10 s.
    pub tcp_half_open: Duration,
    /// TCP after a FIN from both sides, or a RST. Default 10 s.
    pub tcp_closing: Duration,
    /// UDP. Default 60 s.
    pub udp: Duration,
    /// ICMP queries. Default 10 s.
    pub icmp: Duration,
    /// Other protocols. Default 60 s.
    pub other: Duration,
}

impl Default for Dataplane {
    fn default() -> Self {
        Self {
            workers: Workers::Cores(vec![1]),
            idle: IdlePolicy::Adaptive,
            flow_capacity: 1_000_000,
            flow_idle_timeout: FlowTimeouts::default(),
            policy_memory_mib: 512,
            dpdk: DpdkOptions::default(),
        }
    }
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(240),
            tcp_half_open: Duration::from_secs(10),
            tcp_closing: Duration::from_secs(10),
            udp: Duration::from_secs(60),
            icmp: Duration::from_secs(10),
            other: Duration::from_secs(60),
        }
    }
}

impl Default for DpdkOptions {
    fn default() -> Self {
        Self { eal: Vec::new(), hugepages: Hugepages::TwoMebibytes, memory_mib: 512 }
    }
}

words!(IdlePolicy { Adaptive = "adaptive", Poll = "poll" });
words!(Hugepages { TwoMebibytes = "2M", OneGibibyte = "1G", None = "none" });
