//! The packet's path: the order of the stages, written once.
//!
//! A burst goes through three passes (`burst.rs`); in the last one each frame is decided. Deciding is a list of direct calls; a stage
//! that ends a packet's way breaks out with its verdict. Every received frame ends in exactly one verdict.

mod admit;
mod burst;
#[cfg(test)]
mod change_tests;
mod depart;
mod ends;
mod enveloped;
mod errors;
mod fast;
#[cfg(test)]
mod fast_tests;
mod fields;
mod first_lane;
#[cfg(test)]
mod first_lane_tests;
mod fragment;
mod from_kernel;
mod handshake;
mod inspect;
#[cfg(test)]
mod kernel_tests;
mod known;
mod link;
mod mark;
mod moves;
mod place;
#[cfg(test)]
mod place_tests;
mod prove;
mod segment;
mod spliced;
mod spliced_lane;
#[cfg(test)]
mod spliced_lane_tests;
mod syn_answer;
mod syn_lane;
#[cfg(test)]
mod syn_lane_tests;
#[cfg(test)]
mod syn_tests;
mod timers;
mod to_kernel;
mod tunnel;
#[cfg(test)]
mod tunnel_tests;

use crate::counters::{Counters, Tolls, TunnelCounters};
use crate::flow::{Class, FlowId, FlowTable};
use crate::fragments::FragmentTable;
use crate::host::Limiter;
use crate::placement::Placement;
use crate::route::{NeighborId, Neighbors, News};
use crate::snapshot::{PortFacts, Snapshot};
use crate::synproxy::{Orphans, Proxy, Watched};
use crate::time::Time;
use crate::verdict::{BackendId, DropReason, PortId, RuleId, Verdict};
use crate::wire::{FlowKey, Icmp, IcmpClass, Packet, Parsed, Transport};
use burst::Slot;
use core::ops::ControlFlow;
use mark::{Mark, Origin};
use pmd_shim::{Burst, Frame};
use std::sync::Arc;

pub use from_kernel::worker_for;
pub use inspect::{FlowSummary, Membership};
pub use place::Handed;

/// Where frames leave, and where new ones come from.
pub trait Transmit<F: Frame> {
    /// Takes a frame to be sent out of a port. What the port's queue refuses later comes back through [`Pipeline::refused`].
    fn transmit(&mut self, port: PortId, frame: F);

    /// Takes frames to be sent out of a port, in their order, as [`transmit`](Self::transmit) takes each; `frames` is empty afterwards.
    fn transmit_all(&mut self, port: PortId, frames: &mut Burst<F>) {
        frames.drain(..).for_each(|frame| self.transmit(port, frame));
    }

    /// A new, empty frame, for what the appliance says by itself; `None` when all are in use.
    fn allocate(&mut self) -> Option<F>;

    /// Gives a received frame to another worker, whose pipeline is to [accept](Pipeline::accept) it, behind all that it was given
    /// before.
    ///
    /// # Errors
    /// The frame, when that worker has too many waiting. A worker that is alone is never asked.
    fn hand_over(&mut self, _worker: usize, handed: Handed<F>) -> Result<(), Handed<F>> {
        Err(handed)
    }

    /// Gives a received frame to the kernel, at the host interface of a port. Without one it ends here.
    ///
    /// # Errors
    /// The frame, when too many wait for the kernel.
    fn to_kernel(&mut self, _port: PortId, _frame: F) -> Result<(), F> {
        Ok(())
    }

    /// Lets all other workers' pipelines [hear](Pipeline::hear) something.
    fn tell(&mut self, _news: News) {}
}

/// Told of each received frame's verdict, in order.
pub trait Observer {
    /// The frame at place `slot` of the burst was decided.
    fn decided(&mut self, slot: usize, outcome: &Outcome);
}

impl Observer for () {
    #[inline]
    fn decided(&mut self, _: usize, _: &Outcome) {}
}

/// A verdict with what led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The deciding security rule.
    pub rule: Option<RuleId>,
    /// The backend that the packet goes to or comes from.
    pub backend: Option<BackendId>,
}

/// What a pipeline is made with, once.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Flow records of this worker.
    pub flow_capacity: usize,
    /// Fixes every secret: hash keys. The same for all workers, as they tell each other hashes.
    pub seed: [u8; 16],
    /// Which of the workers it is.
    pub placement: Placement,
}

/// ICMP errors that all workers send a second, and at once; each has its share.
const ICMP_ERRORS_PER_SECOND: u32 = 1000;
const ICMP_ERROR_BURST: u32 = 100;

/// Resets for segments of connections that are not known, as [`ICMP_ERRORS_PER_SECOND`].
const RESETS_PER_SECOND: u32 = 1000;
const RESET_BURST: u32 = 100;

/// One worker's path with all its state.
pub struct Pipeline<F: Frame> {
    snapshot: Arc<Snapshot>,
    flows: FlowTable,
    /// What the kernel's sockets began.
    asked: FlowTable,
    neighbors: Neighbors<F>,
    fragments: FragmentTable<F, FlowKey>,
    icmp_errors: Limiter,
    orphans: Orphans,
    proxy: Proxy,
    syns: syn_lane::SynLane,
    firsts: first_lane::FirstLane,
    drains: ends::Drains,
    /// By [`PortId::index`].
    exits: Box<[fast::Exit]>,
    placement: Placement,
    /// Homes are not what they were when older flows began.
    has_moved: bool,
    moves: moves::Moves,
    counters: Counters,
    tolls: Tolls,
    /// The time of the burst, or of the timers, that is worked on.
    now: Time,
    /// Every packet goes through the stages.
    #[cfg(test)]
    is_without_fast_lane: bool,
    /// Packets that took the fast lane, by kind: of flows without translation, then of those with it.
    #[cfg(test)]
    rides: [u64; 8],
    /// The same of spliced flows, over IPv4 and over IPv6.
    #[cfg(test)]
    spliced_rides: [u64; 2],
}

/// A packet on its way: where it came in, what parsing found, what the stages learnt.
struct Passage<'a> {
    now: Time,
    port: PortId,
    packet: &'a Packet,
    slot: Slot,
    rule: Option<RuleId>,
    backend: Option<BackendId>,
    /// How far the search for its flow has come.
    origin: Origin,
}

impl<'a> Passage<'a> {
    fn new(now: Time, mark: Mark, packet: &'a Packet, slot: Slot) -> Self {
        Self { now, port: mark.port, packet, slot, rule: None, backend: None, origin: mark.origin }
    }

    fn is_neighbor_discovery(&self) -> bool {
        is_neighbor_discovery(self.packet)
    }
}

fn is_neighbor_discovery(packet: &Packet) -> bool {
    matches!(
        packet.transport,
        Transport::Icmp(Icmp {
            class: IcmpClass::NeighborSolicitation | IcmpClass::NeighborAdvertisement,
            ..
        })
    )
}

/// What a decided packet that leaves still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Departure {
    port: PortId,
    neighbor: NeighborId,
}

/// A stage goes on, or ends the packet's way.
type Step<T> = ControlFlow<End, T>;

/// How a packet's way through this pipeline ends, but for its departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is decided.
    Decided(Verdict),
    /// Another worker goes on with it.
    Elsewhere(place::Move),
    /// It is for the kernel's sockets, at the host interface of this port.
    ToKernel(PortId),
    /// It proved itself: its flow's handshake with the backend begins.
    Proved(FlowId),
    /// It waits for a handshake that is on its way: nothing of it is kept, but it is counted as held.
    Waits,
    /// The backend answered the handshake.
    Answered(FlowId, Departure),
}

/// Ends a packet's way.
fn decided<T>(verdict: Verdict) -> Step<T> {
    ControlFlow::Break(End::Decided(verdict))
}

/// Ends a packet's way with a drop.
fn drop_for<T>(reason: DropReason) -> Step<T> {
    decided(Verdict::Drop(reason))
}

impl<F: Frame> Pipeline<F> {
    /// A path without flows. All memory that grows with the number of flows is taken here.
    pub fn new(snapshot: Arc<Snapshot>, options: &Options, now: Time) -> Self {
        let mut pipeline = Self {
            flows: FlowTable::new(options.flow_capacity, options.seed, snapshot.timeouts, now),
            asked: from_kernel::asked(&snapshot, options.seed, now),
            neighbors: Neighbors::new(Default::default(), options.seed),
            fragments: FragmentTable::new(Default::default(), options.seed),
            icmp_errors: share((ICMP_ERRORS_PER_SECOND, ICMP_ERROR_BURST), options.placement, now),
            orphans: Orphans::none(),
            proxy: Proxy::new(options.seed, options.flow_capacity, now),
            syns: syn_lane::SynLane::new(),
            firsts: first_lane::FirstLane::new(),
            drains: ends::Drains::default(),
            exits: Box::default(),
            placement: options.placement,
            has_moved: false,
            moves: moves::Moves::new(options.placement),
            counters: Counters::default(),
            tolls: Tolls::default(),
            now,
            #[cfg(test)]
            is_without_fast_lane: false,
            #[cfg(test)]
            rides: [0; 8],
            #[cfg(test)]
            spliced_rides: [0; 2],
            snapshot,
        };
        pipeline.fit(now);
        pipeline
    }

    /// Takes up a new configuration between two bursts; gives the old one back, to be freed elsewhere. Established flows stay.
    pub fn adopt(&mut self, snapshot: Arc<Snapshot>, now: Time) -> Arc<Snapshot> {
        let old = core::mem::replace(&mut self.snapshot, snapshot);
        if self.snapshot.differs_in_rules_alone(&old) {
            self.fit_rules();
            return old;
        }
        self.tolls.settle(|port| old.tunnels.twin(port));
        self.flows.set_timeouts(self.snapshot.timeouts);
        self.asked.set_timeouts(self.snapshot.timeouts);
        self.drains.update(&old, &self.snapshot, now);
        self.has_moved |= !self.placement.is_alone() && old.homes != self.snapshot.homes;
        self.moves.forget();
        self.fit(now);
        if self.snapshot.ports != old.ports || !self.snapshot.tunnels.lead_as(&old.tunnels) {
            self.lose_enveloped(&old.tunnels);
        }
        old
    }

    /// Makes room for what is counted, and forgets what other rules said.
    fn fit_rules(&mut self) {
        let snapshot = &self.snapshot;
        self.counters.fit(
            snapshot.ports.len(),
            snapshot.names().rule_count(),
            snapshot.names().backend_count(),
        );
        self.tolls.fit(snapshot.tunnels.count());
        self.syns.adopt(snapshot);
    }

    fn fit(&mut self, now: Time) {
        self.fit_rules();
        let snapshot = &self.snapshot;
        self.neighbors.set_static(&snapshot.static_neighbors);
        self.exits = fast::Exit::all(snapshot);
        let mtu = snapshot.ports.iter().map(|port| port.mtu).min().unwrap_or(0);
        self.proxy.adopt(snapshot.cookie_secret, mtu, snapshot.names().backend_count(), now);
        self.proxy.floods.adopt(snapshot.syn_flood, self.placement.count(), snapshot.watched());
    }

    /// Lets SYN cookies go by Unix time, which was so many milliseconds at [`Time`] 0, so that appliances that share a secret take each
    /// other's. Until then they go by [`Time`] itself. Cookies of another time are worth nothing afterwards.
    pub fn set_unix_time(&mut self, epoch_ms: u64, now: Time) {
        self.proxy.set_clock(epoch_ms, now);
    }

    /// An appliance before this one may have had connections: as long as they can have been idle, the ends of those that the SYN proxy
    /// stood between are reset. Without it their segments are dropped as any others of no connection.
    #[must_use]
    pub fn with_orphans(mut self, now: Time) -> Self {
        let until = now + self.snapshot.timeouts.get(Class::TcpEstablished);
        self.orphans = Orphans::until(until, share((RESETS_PER_SECOND, RESET_BURST), self.placement, now));
        self
    }

    /// Whether clients of what is [watched](Snapshot::watched) have to prove themselves at this time, as it is flooded.
    pub fn is_flooded(&self, watched: Watched, now: Time) -> bool {
        self.proxy.floods.is_flooded(watched, now)
    }

    /// What the SYN proxy remembers.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was counted of each tunnel, by [`PortId::tunnel_index`].
    pub fn tunnel_counters(&self) -> impl Iterator<Item = TunnelCounters> {
        self.tolls.sums(|port| self.snapshot.tunnels.twin(port))
    }

    /// Live flow records.
    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// One frame to its verdict; `None` when another worker goes on with it.
    #[inline(always)]
    fn decide<T: Transmit<F>>(
        &mut self,
        frame: F,
        parsed: &Result<Parsed, DropReason>,
        slot: &Slot,
        mark: Mark,
        now: Time,
        tx: &mut T,
    ) -> Option<Outcome> {
        match parsed {
            Err(reason) => Some(Outcome { verdict: Verdict::Drop(*reason), rule: None, backend: None }),
            Ok(Parsed::Arp(arp)) => Some(self.arp(frame, arp, mark.port, now, tx)),
            Ok(Parsed::Ip(packet)) => {
                let passage = Passage::new(now, mark, packet, *slot);
                if passage.is_neighbor_discovery() {
                    Some(self.nd(frame, &passage, tx))
                } else {
                    self.packet(frame, passage, tx)
                }
            }
        }
    }

    /// One IP packet, from its parsed form to its verdict.
    #[inline(always)]
    fn packet<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        mut passage: Passage<'_>,
        tx: &mut T,
    ) -> Option<Outcome> {
        let step = self.path(&mut frame, &mut passage);
        let first = passage.packet.fragment.filter(|f| f.offset == 0);
        let verdict = self.finish(frame, &passage, step, tx);
        if first.is_some() {
            self.release_fragments(&passage, tx);
        }
        Some(Outcome { verdict: verdict?, rule: passage.rule, backend: passage.backend })
    }

    /// The stages in their order.
    #[inline(always)]
    fn path(&mut self, frame: &mut F, p: &mut Passage<'_>) -> Step<Departure> {
        self.on_link(p)?;
        match (p.packet.fragment, p.packet.transport) {
            (Some(fragment), _) => self.fragment(frame, p, fragment),
            (None, Transport::Icmp(Icmp { class: IcmpClass::Error, .. })) => self.icmp_about_flow(frame, p),
            _ => self.flow(frame, p),
        }
    }

    /// Known flows are already decided; others, once no worker knows them, go through every stage.
    #[inline(always)]
    fn flow(&mut self, frame: &mut F, p: &mut Passage<'_>) -> Step<Departure> {
        if let Some((id, side)) = self.flows.find(&p.packet.key, p.slot.hash)
            && let Some(departure) = self.known(frame, p, id, side)?
        {
            return ControlFlow::Continue(departure);
        }
        self.seek(p, &p.packet.key)?;
        if p.port.is_tunnel() { self.admit_tunnelled(frame, p) } else { self.admit(frame, p) }
    }

    /// Carries a step's result out: the frame leaves, waits, or ends here. `None`: another worker goes on with it.
    #[inline(always)]
    fn finish<T: Transmit<F>>(
        &mut self,
        frame: F,
        p: &Passage<'_>,
        step: Step<Departure>,
        tx: &mut T,
    ) -> Option<Verdict> {
        match step {
            ControlFlow::Continue(departure) => Some(self.send(frame, departure, p.now, tx)),
            ControlFlow::Break(End::Elsewhere(to)) => to.carry_out(frame, p.port, &p.slot, tx),
            ControlFlow::Break(End::ToKernel(owner)) => Some(self.deliver_in(frame, p, owner, tx)),
            ControlFlow::Break(End::Proved(id)) => Some(self.begin_handshake(id, p.now, tx)),
            ControlFlow::Break(End::Waits) => Some(Verdict::Hold),
            ControlFlow::Break(End::Answered(id, departure)) => {
                Some(self.end_handshake(frame, p, id, departure, tx))
            }
            ControlFlow::Break(End::Decided(verdict)) => {
                match verdict {
                    Verdict::Reply(_) if p.port.is_tunnel() => {
                        return Some(self.reply_tunnelled(frame, p, verdict, tx));
                    }
                    Verdict::Reply(_) => {
                        return Some(self.transmit(p.port, frame, Origin::Replied, tx).or(verdict));
                    }
                    Verdict::Hold => return Some(self.hold_fragment(frame, p)),
                    _ => {}
                }
                Some(verdict)
            }
        }
    }

    /// Counts a received frame, in the worker that decides it: at the port that carries a tunnel, and at the tunnel.
    #[inline(always)]
    fn count(&mut self, port: PortId, verdict: Verdict) {
        if let Some(counters) = self.tolls.of(port) {
            counters.received += 1;
            counters.dropped += u64::from(matches!(verdict, Verdict::Drop(_)));
        }
        let carrier = self.snapshot.tunnels.carrier(port);
        if let Some(counters) = self.counters.port(carrier) {
            counters.received += 1;
            counters.count(verdict);
        }
    }

    /// Takes a frame that another worker goes on with, and will count, out of the counters.
    fn forget(&mut self, port: PortId, from: Verdict) {
        if let Some(counters) = self.tolls.of(port) {
            counters.received = counters.received.saturating_sub(1);
        }
        let carrier = self.snapshot.tunnels.carrier(port);
        if let Some(counters) = self.counters.port(carrier) {
            counters.received -= 1;
            counters.uncount(from);
        }
    }

    fn recount(&mut self, port: PortId, from: Verdict, to: Verdict) {
        if let Some(counters) = self.tolls.of(port) {
            counters.dropped += u64::from(matches!(to, Verdict::Drop(_)));
        }
        let carrier = self.snapshot.tunnels.carrier(port);
        if let Some(counters) = self.counters.port(carrier) {
            counters.uncount(from);
            counters.count(to);
        }
    }

    #[inline(always)]
    fn facts(&self, port: PortId) -> &PortFacts {
        self.snapshot.facts(port)
    }
}

/// A worker's share of what all may send a second, and at once.
fn share((rate, burst): (u32, u32), placement: Placement, now: Time) -> Limiter {
    let workers = placement.count() as u32;
    Limiter::new((rate / workers).max(1), (burst / workers).max(1), now)
}
