//! What happens by itself: questions for neighbours' addresses, packets that waited too long, flows that end.

use super::burst::Slot;
use super::{End, Mark, Origin, Passage, Pipeline, Transmit};
use crate::addr::{Addr, Family, Mac};
use crate::emit::icmp_error::IcmpError;
use crate::emit::rewrite::{self, Endpoint, Translation};
use crate::emit::{arp, nd, splice};
use crate::route::NeighborAction;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::Packet;
use core::ops::ControlFlow;
use pmd_shim::Frame;

/// Timer events carried out in one call, of each kind, so that a burst never waits long for them.
const BUDGET: usize = 64;

impl<F: Frame> Pipeline<F> {
    /// Runs the timers that are due, a bounded number of them. Call it once a burst, and while there is none.
    pub fn advance<T: Transmit<F>>(&mut self, now: Time, tx: &mut T) {
        self.now = now;
        self.neighbor_timers(now, tx);
        self.expire_fragments(now);
        self.expire_flows(now, tx);
        self.expire_asked(now);
        self.drain(now, tx);
        self.half_open_timers(now, tx);
    }

    /// When [`advance`](Self::advance) has something to do next, at the earliest.
    pub fn next_timer(&self) -> Option<Time> {
        [
            self.neighbors.next_timer(),
            self.fragments.next_timer(),
            self.flows.next_expiry(),
            self.asked.next_expiry(),
            self.drains.next_timer(),
            self.proxy.half_opens.next_timer(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Asks for neighbours' addresses, and gives up on those that do not answer.
    pub(super) fn neighbor_timers<T: Transmit<F>>(&mut self, now: Time, tx: &mut T) {
        let mut budget = BUDGET;
        while let Some(action) = self.neighbors.advance(now, &mut budget) {
            match action {
                NeighborAction::Solicit { port, address, known_mac } => {
                    self.solicit(port, address, known_mac, tx);
                }
                NeighborAction::Resolved(id) => self.release_waiting(id, tx),
                NeighborAction::Expired { frame, .. } => self.unanswered(frame, now, tx),
            }
        }
    }

    fn solicit<T: Transmit<F>>(&mut self, port: PortId, address: Addr, known_mac: Option<Mac>, tx: &mut T) {
        let station = self.facts(port).mac;
        let Some(source) = self.snapshot.local.source_address(port, address.family(), address) else {
            return;
        };
        let Some(mut frame) = tx.allocate() else { return };
        let written = match address.family() {
            Family::V4 => arp::request(&mut frame, station, source, address, known_mac),
            Family::V6 => nd::solicitation(&mut frame, station, source, address, known_mac),
        };
        if written.is_ok() {
            self.originate(port, frame, tx);
        }
    }

    /// Sends a frame that the appliance made by itself.
    pub(super) fn originate<T: Transmit<F>>(&mut self, port: PortId, mut frame: F, tx: &mut T) {
        frame.set_mark(Mark { port, origin: Origin::Own }.to_bits());
        self.counters.originated += 1;
        // Nobody waits for it, and no frame is counted by it.
        let _ = self.transmit(port, frame, Origin::Own, tx);
    }

    /// A packet waited for a neighbour in vain: its sender is told, with the packet as it was sent.
    fn unanswered<T: Transmit<F>>(&mut self, mut frame: F, now: Time, tx: &mut T) {
        let mark = Mark::from_bits(frame.mark());
        self.take_back(frame.bytes());
        match mark.origin {
            Origin::Own => return self.unanswered_own(mark.port),
            // It is sent again when its time has come.
            Origin::Handshake => return,
            _ => {}
        }
        let mut verdict = Verdict::Drop(DropReason::UnresolvedNeighbor);
        if mark.port.is_tunnel() || matches!(mark.origin, Origin::Forwarded | Origin::Replied) {
            // It was on its way already, and has its outer headers on.
            return self.recount(mark.port, Verdict::Hold, verdict);
        }
        if let Some(mut packet) = self.parse_again(&frame, mark) {
            self.as_sent(&mut frame, &mut packet);
            let passage = Passage::new(now, mark, &packet, Slot::OTHER);
            let error = IcmpError::HostUnreachable;
            let step =
                self.answer_with_error::<()>(&mut frame, &passage, error, DropReason::UnresolvedNeighbor);
            if let ControlFlow::Break(End::Decided(decided)) = step {
                verdict = decided;
            }
            if let Verdict::Reply(_) = verdict {
                verdict = self.transmit(mark.port, frame, Origin::Replied, tx).or(verdict);
            }
        }
        self.recount(mark.port, Verdict::Hold, verdict);
    }

    /// Takes the flow's translation off a packet that was on its way out.
    fn as_sent(&self, frame: &mut F, packet: &mut Packet) {
        let answer = packet.key.reversed();
        let Some((id, receiver)) = self.flows.find(&answer, self.flows.hash(&answer)) else { return };
        let flow = self.flows.flow(id);
        if !flow.is_translated() && !flow.is_spliced() {
            return;
        }
        let original = flow.key(receiver.other());
        let end = |addr, port| Some(Endpoint { addr, port: Some(port) });
        if flow.is_spliced() {
            let edits = self.splice_edits(id, receiver.other(), packet).reversed();
            splice::splice(frame.bytes_mut(), packet, &edits);
        }
        let restored = Translation {
            src: end(original.src, original.src_port),
            dst: end(original.dst, original.dst_port),
        };
        rewrite::translate(frame.bytes_mut(), packet, &restored);
        packet.key = original;
    }

    fn expire_fragments(&mut self, now: Time) {
        let mut budget = BUDGET;
        while let Some(frame) = self.fragments.advance(now, &mut budget) {
            let received = Mark::from_bits(frame.mark()).port;
            self.recount(received, Verdict::Hold, Verdict::Drop(DropReason::Fragment));
        }
    }
}
