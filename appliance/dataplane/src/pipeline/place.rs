//! Between workers: a packet whose flow is not here goes to where it may be, and is judged as new by one worker only.
//!
//! A flow is at the worker of one of its packets' two addresses ([`placement`](crate::placement)). The worker that has no flow for a
//! packet gives it to the home of its addresses, which decides it; where the flow may also be at the other address's worker,
//! that one is asked on the way. So a packet is handed over twice at most, and what the queues are steered by makes that never
//! for what passes between the sides.
//!
//! Frames that one worker gives to another keep their order. It can be lost at a flow's beginning only: while its first packet is on
//! its way to another worker and back, those that come meanwhile go the same way, and the first that finds the flow made may overtake
//! the last of them.

use super::{End, FlowKey, Mark, Origin, Outcome, Passage, Pipeline, Step, Transmit};
use crate::flow::FlowHash;
use crate::host::Local;
use crate::placement::Home;
use crate::route::News;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::{self, Parsed};
use core::ops::ControlFlow;
use nva_config::Trust;
use pmd_shim::{Burst, Frame};

/// Which worker goes on with a packet, and what it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    worker: u16,
    origin: Origin,
}

impl<F: Frame> Pipeline<F> {
    /// Takes frames that other workers [handed over](Transmit::hand_over); `burst` is empty afterwards.
    pub fn accept<T: Transmit<F>>(&mut self, now: Time, burst: &mut Burst<F>, tx: &mut T) {
        for frame in burst.drain(..) {
            let mark = Mark::from_bits(frame.mark());
            let station = self.facts(mark.port).mac;
            let parsed = wire::parse(frame.bytes(), frame.offload(), station);
            let hash = match &parsed {
                Ok(Parsed::Ip(packet)) => self.flows.hash(&packet.key),
                _ => FlowHash::default(),
            };
            if let Some(Outcome { verdict, .. }) = self.decide(frame, &parsed, hash, mark, now, tx) {
                self.count(mark.port, verdict);
            }
        }
    }

    /// Takes in what another worker [told](Transmit::tell).
    pub fn hear<T: Transmit<F>>(&mut self, now: Time, news: News, tx: &mut T) {
        if let Some(neighbor) = self.neighbors.hear(news, now) {
            self.release_waiting(neighbor, tx);
        }
    }

    /// There is no flow of this key here: goes on where the packet is to be judged as new, else ends its way here.
    #[inline(always)]
    pub(super) fn seek(&self, p: &Passage<'_>, key: &FlowKey) -> Step<()> {
        if self.placement.is_alone() {
            return ControlFlow::Continue(());
        }
        self.seek_elsewhere(p, key)
    }

    #[inline(never)]
    fn seek_elsewhere(&self, p: &Passage<'_>, key: &FlowKey) -> Step<()> {
        if p.origin == Origin::Placed || self.is_for_us(p) {
            return ControlFlow::Continue(());
        }
        let here = self.placement.index();
        let Home { address, other, is_certain } = self.home(key);
        let [home, other] = [address, other].map(|address| self.placement.worker_of(address));
        let asked =
            is_certain && !self.has_moved || p.origin == Origin::Sought || [here, home].contains(&other);
        if asked { self.go_on(home, Origin::Placed) } else { self.go_on(other, Origin::Sought) }
    }

    /// Fragments of a datagram meet at its home, in whichever order they come.
    #[inline]
    pub(super) fn gather(&self, p: &Passage<'_>) -> Step<()> {
        if self.placement.is_alone() || p.origin != Origin::Received {
            return ControlFlow::Continue(());
        }
        if self.is_for_us(p) {
            return self.gather_in(p);
        }
        self.go_on(self.placement.worker_of(self.home(&p.packet.key).address), Origin::Gathered)
    }

    pub(super) fn go_on(&self, worker: usize, origin: Origin) -> Step<()> {
        if worker == self.placement.index() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(End::Elsewhere(Move { worker: worker as u16, origin }))
    }

    /// Every worker answers for the appliance's own addresses, which have no flows.
    fn is_for_us(&self, p: &Passage<'_>) -> bool {
        let dst = p.packet.key.dst;
        dst.is_v6_link_local() || matches!(self.snapshot.local.kind(p.port, dst), Some(Local::PortAddress(_)))
    }

    pub(super) fn home(&self, key: &FlowKey) -> Home {
        self.snapshot.homes.of(key.src, key.dst, |address| {
            let port = self.snapshot.routes.lookup(address).map(|hop| hop.port);
            port.is_some_and(|port| self.facts(port).trust == Trust::Untrusted)
        })
    }
}

/// Gives the frame to another worker. What it has no room for is dropped as by any full queue.
#[cold]
#[inline(never)]
pub(super) fn hand_over<F: Frame, T: Transmit<F>>(
    mut frame: F,
    port: PortId,
    Move { worker, origin }: Move,
    tx: &mut T,
) -> Option<Verdict> {
    frame.set_mark(Mark { port, origin }.to_bits());
    tx.hand_over(worker.into(), frame).err().map(|_refused| Verdict::Drop(DropReason::TxQueueFull))
}
