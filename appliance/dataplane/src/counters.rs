//! What the path counted: one verdict for each received frame, so that for every port
//! received = forwarded + replied + consumed + held + dropped, summed over reasons.

use crate::time::Time;
use crate::verdict::{BackendId, DropReason, PortId, RuleId, Verdict};

/// One port's frames, counted at the port on which they were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received.
    pub received: u64,
    /// Left, changed or not, through any port.
    pub forwarded: u64,
    /// Answered by the appliance.
    pub replied: u64,
    /// Taken in, with nothing sent for them.
    pub consumed: u64,
    /// Waiting at this moment; each ends as one of the others.
    pub held: u64,
    /// Dropped, by [`DropReason::index`].
    pub dropped: [u64; DropReason::COUNT],
    /// Frames sent out of this port, of whatever origin.
    pub transmitted: u64,
    /// What passed between the appliance and the kernel, by this port's host interface.
    pub host: HostCounters,
}

/// Frames at a port's host interface. Those that came from the kernel were never received by a port, and have no verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Given to the kernel, for addresses of this port; consumed where they were received.
    pub to_kernel: u64,
    /// Dropped as `tx_queue_full`, since too many waited for the kernel.
    pub to_kernel_full: u64,
    /// Sent by the kernel and passed on, or waiting for their neighbour.
    pub from_kernel: u64,
    /// Sent by the kernel and dropped, since no buffer was free.
    pub from_kernel_full: u64,
    /// Sent by the kernel and dropped: of another source, of no protocol of sockets, or without a way out.
    pub refused: u64,
}

impl HostCounters {
    /// All five, in the order of reports.
    pub const fn numbers(&self) -> [u64; 5] {
        [self.to_kernel, self.to_kernel_full, self.from_kernel, self.from_kernel_full, self.refused]
    }

    /// From [`numbers`](Self::numbers).
    pub const fn from_numbers(numbers: [u64; 5]) -> Self {
        let [to_kernel, to_kernel_full, from_kernel, from_kernel_full, refused] = numbers;
        Self { to_kernel, to_kernel_full, from_kernel, from_kernel_full, refused }
    }
}

/// One tunnel's packets to and from one peer. Each is counted at the port that carries the tunnel too, with its verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounters {
    /// Came in by the tunnel.
    pub received: u64,
    /// Of these, dropped, for whatever reason.
    pub dropped: u64,
    /// Left by the tunnel, of whatever origin.
    pub transmitted: u64,
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            received: 0,
            forwarded: 0,
            replied: 0,
            consumed: 0,
            held: 0,
            dropped: [0; DropReason::COUNT],
            transmitted: 0,
            host: HostCounters::default(),
        }
    }
}

impl PortCounters {
    /// All drops together.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// All verdicts together; equal to `received` at every burst boundary.
    pub fn verdicts(&self) -> u64 {
        self.forwarded + self.replied + self.consumed + self.held + self.dropped_total()
    }

    /// Drops for one reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()]
    }

    pub(crate) fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Forward(_) => self.forwarded += 1,
            Verdict::Reply(_) => self.replied += 1,
            Verdict::Consume => self.consumed += 1,
            Verdict::Hold => self.held += 1,
            Verdict::Drop(reason) => self.dropped[reason.index()] += 1,
        }
    }

    /// Takes a verdict back, because the frame's end turned out to be another.
    pub(crate) fn uncount(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Forward(_) => &mut self.forwarded,
            Verdict::Reply(_) => &mut self.replied,
            Verdict::Consume => &mut self.consumed,
            Verdict::Hold => &mut self.held,
            Verdict::Drop(reason) => &mut self.dropped[reason.index()],
        };
        *counter = counter.saturating_sub(1);
    }
}

/// New flows that a security rule decided, allowed or denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleHits {
    /// How many.
    pub count: u64,
    /// When the last one began; of no meaning while there is none.
    pub last: Time,
}

impl RuleHits {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.last = self.last.max(other.last);
    }
}

/// What the SYN proxy counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynCounters {
    /// SYNs answered with a cookie.
    pub cookies_sent: u64,
    /// Acknowledgements that proved a cookie.
    pub cookies_valid: u64,
    /// Acknowledgements that should have proved one and did not.
    pub cookies_invalid: u64,
    /// Connections spliced: the backend agreed.
    pub spliced: u64,
    /// Handshakes that the backend refused.
    pub refused: u64,
    /// Handshakes that the backend did not answer.
    pub unanswered: u64,
    /// Resets for segments of connections that were not known.
    pub resets: u64,
    /// Handshakes on their way at this moment.
    pub half_open: u64,
}

impl SynCounters {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// All of them, in the order of reports.
    pub const fn numbers(&self) -> [u64; Self::COUNT] {
        let Self {
            cookies_sent,
            cookies_valid,
            cookies_invalid,
            spliced,
            refused,
            unanswered,
            resets,
            half_open,
        } = *self;
        [cookies_sent, cookies_valid, cookies_invalid, spliced, refused, unanswered, resets, half_open]
    }

    /// From [`numbers`](Self::numbers).
    pub const fn from_numbers(numbers: [u64; Self::COUNT]) -> Self {
        let [cookies_sent, cookies_valid, cookies_invalid, spliced, refused, unanswered, resets, half_open] =
            numbers;
        Self { cookies_sent, cookies_valid, cookies_invalid, spliced, refused, unanswered, resets, half_open }
    }
}

/// Everything that one worker's path counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By [`PortId::index`].
    pub ports: Vec<PortCounters>,
    /// By [`RuleId`].
    pub rule_hits: Vec<RuleHits>,
    /// New flows given to a backend, by [`BackendId`].
    pub backend_flows: Vec<u64>,
    /// Flow records made.
    pub flows_created: u64,
    /// Flow records whose idle timeout ended them.
    pub flows_expired: u64,
    /// Requests for neighbours' addresses and resets that the appliance sent by itself, and what the kernel's sockets sent.
    pub originated: u64,
    /// What the SYN proxy did.
    pub syn: SynCounters,
    /// What backends agreed to, by [`BackendId`]: [`Profile::to_bits`](crate::synproxy::Profile::to_bits).
    pub backend_profiles: Vec<u64>,
}

impl Counters {
    /// Room for a configuration's ports, rules and backends; what was counted stays.
    pub(crate) fn fit(&mut self, ports: usize, rules: usize, backends: usize) {
        self.ports.resize_with(self.ports.len().max(ports), PortCounters::default);
        self.rule_hits.resize(self.rule_hits.len().max(rules), RuleHits::default());
        self.backend_flows.resize(self.backend_flows.len().max(backends), 0);
        self.backend_profiles.resize(self.backend_profiles.len().max(backends), 0);
    }

    /// Counts a new flow that the rule decided at its level; `now` is the burst's.
    pub(crate) fn hit_rule(&mut self, rule: Option<RuleId>, now: Time) {
        if let Some(hits) = rule.and_then(|RuleId(id)| self.rule_hits.get_mut(id as usize)) {
            hits.count += 1;
            hits.last = now;
        }
    }

    pub(crate) fn hit_backend(&mut self, backend: Option<BackendId>) {
        if let Some(flows) = backend.and_then(|BackendId(id)| self.backend_flows.get_mut(id as usize)) {
            *flows += 1;
        }
    }

    /// Shows what a backend agreed to.
    pub(crate) fn show_profile(&mut self, backend: Option<BackendId>, bits: u64) {
        if let Some(shown) = backend.and_then(|BackendId(id)| self.backend_profiles.get_mut(id as usize)) {
            *shown = bits;
        }
    }

    pub(crate) fn port(&mut self, port: PortId) -> Option<&mut PortCounters> {
        self.ports.get_mut(port.index())
    }
}

/// What one worker's path counts of tunnels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tolls {
    /// By [`PortId::tunnel_index`]; without those that crossed, some of which may be [taken back](Self::take_back) here: what was transmitted
    /// wraps then.
    counters: Vec<TunnelCounters>,
    /// The same: packets that came in by a tunnel and left by its twin in the fast lane, in a table that is small.
    crossed: Vec<u64>,
}

impl Tolls {
    /// Room for so many tunnels; what was counted stays.
    pub(crate) fn fit(&mut self, tunnels: usize) {
        self.counters.resize(self.counters.len().max(tunnels), TunnelCounters::default());
        self.crossed.resize(self.counters.len(), 0);
    }

    /// Counts a packet that came in by a tunnel and leaves by its twin.
    #[inline(always)]
    pub(crate) fn cross(&mut self, from: PortId) {
        if let Some(crossed) = self.crossed.get_mut(from.tunnel_index()) {
            *crossed += 1;
        }
    }

    /// Counts those that crossed where others are counted: from now on tunnels may have other twins than these.
    pub(crate) fn settle(&mut self, twin: impl Fn(PortId) -> PortId) {
        for (from, crossed) in (0..).map(PortId::tunnel).zip(&mut self.crossed) {
            let crossed = core::mem::take(crossed);
            if let Some(counters) = self.counters.get_mut(from.tunnel_index()) {
                counters.received += crossed;
            }
            if let Some(counters) = self.counters.get_mut(twin(from).tunnel_index()) {
                counters.transmitted = counters.transmitted.wrapping_add(crossed);
            }
        }
    }

    /// A packet was counted as transmitted by this port, and did not leave.
    pub(crate) fn take_back(&mut self, port: PortId) {
        if let Some(counters) = self.of(port) {
            counters.transmitted = counters.transmitted.wrapping_sub(1);
        }
    }

    /// For a packet that comes in by a port or leaves by it otherwise; `None`: it is no tunnel.
    pub(crate) fn of(&mut self, port: PortId) -> Option<&mut TunnelCounters> {
        if port.is_tunnel() { self.counters.get_mut(port.tunnel_index()) } else { None }
    }

    /// What was counted of each tunnel, by [`PortId::tunnel_index`].
    pub(crate) fn sums(&self, twin: impl Fn(PortId) -> PortId) -> impl Iterator<Item = TunnelCounters> {
        (0..).map(PortId::tunnel).zip(&self.counters).map(move |(port, counters)| {
            let crossed = |by: PortId| self.crossed.get(by.tunnel_index()).copied().unwrap_or(0);
            let mut sum = *counters;
            sum.received += crossed(port);
            sum.transmitted = sum.transmitted.wrapping_add(crossed(twin(port)));
            sum
        })
    }
}
