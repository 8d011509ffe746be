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

use super::burst::Slot;
use super::{End, FlowKey, Mark, Origin, Passage, Pipeline, Step, Transmit};
use crate::addr::Addr;
use crate::host::Local;
use crate::placement::Home;
use crate::route::News;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use core::ops::ControlFlow;
use nva_config::Trust;
use pmd_shim::Frame;

/// Which worker goes on with a packet, and what it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    worker: u16,
    origin: Origin,
}

/// A received frame on its way to another worker, with what is known about it so far.
#[derive(Debug)]
pub struct Handed<F> {
    pub(super) frame: F,
    pub(super) slot: Slot,
    pub(super) mark: Mark,
}

impl<F: Frame> Pipeline<F> {
    /// Takes in what another worker [told](Transmit::tell).
    pub fn hear<T: Transmit<F>>(&mut self, now: Time, news: News, tx: &mut T) {
        self.now = now;
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
        let mark = Mark { port: p.port, origin: p.origin };
        match self.elsewhere(mark, p.packet.key.dst, [key.src, key.dst]) {
            Some(to) => ControlFlow::Break(End::Elsewhere(to)),
            None => ControlFlow::Continue(()),
        }
    }

    /// Who is asked next about a packet to `dst` that came in as `mark` says, when no flow between these ends is here; `None`: nobody.
    fn elsewhere(&self, mark: Mark, dst: Addr, [from, to]: [Addr; 2]) -> Option<Move> {
        let here = self.placement.index();
        if mark.port.is_tunnel() {
            let worker = self.placement.worker_of(self.outer_end(mark.port, [from, to]));
            let goes_on = mark.origin != Origin::Placed && worker != here;
            return goes_on.then_some(Move { worker: worker as u16, origin: Origin::Placed });
        }
        if mark.origin == Origin::Placed || self.is_for_us(mark.port, dst) {
            return None;
        }
        let Home { address, other, is_certain } = self.home(from, to);
        let home = self.placement.worker_of(address);
        let asked = is_certain && !self.has_moved || mark.origin == Origin::Sought;
        let other = if asked { home } else { self.placement.worker_of(other) };
        let asked = asked || [here, home].contains(&other);
        let (worker, origin) = if asked { (home, Origin::Placed) } else { (other, Origin::Sought) };
        (worker != here).then_some(Move { worker: worker as u16, origin })
    }

    /// Where a plain packet goes that surely has no flow here, as the stages would say, before it is looked at any more. `None`: it is for
    /// the stages.
    #[inline(always)]
    pub(super) fn at_once_elsewhere(&mut self, frame: &F, slot: &Slot, mark: Mark) -> Option<Move> {
        if self.placement.is_alone() { None } else { self.surely_elsewhere(frame, slot, mark) }
    }

    #[inline(never)]
    fn surely_elsewhere(&mut self, frame: &F, slot: &Slot, mark: Mark) -> Option<Move> {
        if !self.flows.lacks(slot.hash) {
            return None;
        }
        let plain = slot.plain?;
        if mark.origin != Origin::Received {
            let [src, dst] = plain.addresses(frame.bytes())?;
            return self.elsewhere(mark, dst, [src, dst]);
        }
        if let Some(to) = self.moves.get(slot.hash, mark.port) {
            return Some(to);
        }
        let [src, dst] = plain.addresses(frame.bytes())?;
        let to = self.elsewhere(mark, dst, [src, dst])?;
        self.moves.set(slot.hash, mark.port, to);
        Some(to)
    }

    /// Fragments of a datagram meet at its home, in whichever order they come.
    #[inline]
    pub(super) fn gather(&self, p: &Passage<'_>) -> Step<()> {
        if self.placement.is_alone() || p.origin != Origin::Received {
            return ControlFlow::Continue(());
        }
        if p.port.is_tunnel() {
            let outer_end = self.outer_end(p.port, [p.packet.key.src, p.packet.key.dst]);
            return self.go_on(self.placement.worker_of(outer_end), Origin::Gathered);
        }
        if self.is_for_us(p.port, p.packet.key.dst) {
            return self.gather_in(p);
        }
        let home = self.home(p.packet.key.src, p.packet.key.dst);
        self.go_on(self.placement.worker_of(home.address), Origin::Gathered)
    }

    pub(super) fn go_on(&self, worker: usize, origin: Origin) -> Step<()> {
        if worker == self.placement.index() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(End::Elsewhere(Move { worker: worker as u16, origin }))
    }

    /// Every worker answers for the appliance's own addresses, which have no flows.
    fn is_for_us(&self, port: PortId, dst: Addr) -> bool {
        dst.is_v6_link_local() || matches!(self.snapshot.local.kind(port, dst), Some(Local::PortAddress(_)))
    }

    pub(super) fn home(&self, src: Addr, dst: Addr) -> Home {
        self.snapshot.homes.of(src, dst, |address| {
            let port = self.snapshot.routes.lookup(address).map(|hop| hop.port);
            port.is_some_and(|port| self.facts(port).trust == Trust::Untrusted)
        })
    }
}

impl Move {
    /// Gives the frame to the other worker. What that has no room for is dropped as by any full queue; `None`: the other one goes on with it.
    #[inline(never)]
    pub(super) fn carry_out<F: Frame, T: Transmit<F>>(
        self,
        mut frame: F,
        port: PortId,
        slot: &Slot,
        tx: &mut T,
    ) -> Option<Verdict> {
        let mark = Mark { port, origin: self.origin };
        frame.set_mark(mark.to_bits());
        let slot = Slot { hash: slot.hash.elsewhere(), ..*slot };
        let refused = tx.hand_over(self.worker.into(), Handed { frame, slot, mark }).err();
        refused.map(|_refused| Verdict::Drop(DropReason::TxQueueFull))
    }
}
