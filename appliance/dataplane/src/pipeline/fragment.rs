//! Fragments: the first one is judged like a whole packet, the later ones follow it, out of order too.

use super::burst::Slot;
use super::{Departure, End, Mark, Passage, Pipeline, Step, Transmit, decided, drop_for};
use crate::fragments::{FragmentKey, Later};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{self, FragmentInfo, Packet, Parsed, Transport};
use core::ops::ControlFlow;
use pmd_shim::Frame;

impl<F: Frame> Pipeline<F> {
    pub(super) fn fragment(
        &mut self,
        frame: &mut F,
        p: &mut Passage<'_>,
        info: FragmentInfo,
    ) -> Step<Departure> {
        self.gather(p)?;
        let key = fragment_key(p);
        if p.packet.transport != Transport::LaterFragment {
            // Errors quote the whole first packet; about an error's fragments nothing can be said.
            if let Err(reason) = self.fragments.first(key, &info, Ok(p.packet.key), p.now) {
                return drop_for(reason);
            }
            let step = self.flow(frame, p);
            if let ControlFlow::Break(End::Decided(Verdict::Drop(reason) | Verdict::Reply(Some(reason)))) =
                step
            {
                self.fragments.reject(key, reason);
            }
            return step;
        }
        match self.fragments.later(key, &info, p.now) {
            Later::Follow(first) => self.follow_first(frame, p, &first),
            Later::Drop(reason) => drop_for(reason),
            Later::Hold => decided(Verdict::Hold),
        }
    }

    /// A later fragment goes the way of the first one's flow; there is no transport header to hold against a state.
    fn follow_first(&mut self, frame: &mut F, p: &mut Passage<'_>, first: &wire::FlowKey) -> Step<Departure> {
        let Some((id, side)) = self.flows.find(first, self.flows.hash(first)) else {
            self.follow_in(frame, p, first)?;
            self.seek(p, first)?;
            return drop_for(DropReason::InvalidState);
        };
        if self.is_over(p, id, side)? {
            return drop_for(DropReason::InvalidState);
        }
        self.check_ingress(frame, p, id, side)?;
        (p.rule, p.backend) = self.flows.decided_by(id);
        let departure = self.way_out(frame, p, id, side)?;
        self.carry(frame, p, id, side);
        if p.port.is_tunnel() {
            self.pin(p, id, side, departure);
        }
        ControlFlow::Continue(departure)
    }

    /// Keeps a fragment that came before its first.
    pub(super) fn hold_fragment(&mut self, frame: F, p: &Passage<'_>) -> Verdict {
        match self.fragments.hold(fragment_key(p), frame) {
            Ok(()) => Verdict::Hold,
            Err(_refused) => Verdict::Drop(DropReason::Fragment),
        }
    }

    /// The first fragment was decided: those that waited for it follow.
    pub(super) fn release_fragments<T: Transmit<F>>(&mut self, p: &Passage<'_>, tx: &mut T) {
        while let Some(mut frame) = self.fragments.pop_waiting(fragment_key(p)) {
            let mark = Mark::from_bits(frame.mark());
            let verdict = match self.parse_again(&frame, mark) {
                Some(packet) => {
                    let mut passage = Passage::new(p.now, mark, &packet, Slot::OTHER);
                    let step = self.path(&mut frame, &mut passage);
                    self.finish(frame, &passage, step, tx)
                }
                None => Some(Verdict::Drop(DropReason::Malformed)),
            };
            match verdict {
                Some(verdict) => self.recount(mark.port, Verdict::Hold, verdict),
                None => self.forget(mark.port, Verdict::Hold),
            }
        }
    }

    /// Parses a frame that was kept: it was whole when it came in.
    pub(super) fn parse_again(&self, frame: &F, mark: Mark) -> Option<Packet> {
        match wire::parse(frame.bytes(), frame.offload(), self.station(frame, mark.port)) {
            Ok(Parsed::Ip(packet)) => Some(packet),
            _ => None,
        }
    }
}

fn fragment_key(p: &Passage<'_>) -> FragmentKey {
    FragmentKey {
        src: p.packet.key.src,
        dst: p.packet.key.dst,
        id: p.packet.fragment.map_or(0, |f| f.id),
        protocol: p.packet.key.protocol,
        port: p.port,
    }
}
