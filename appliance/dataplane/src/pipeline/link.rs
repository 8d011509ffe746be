//! What concerns the link only: ARP and neighbour discovery, and packets that must not leave it.

use super::{Origin, Outcome, Passage, Pipeline, Step, Transmit, drop_for};
use crate::host::{self, HostOutcome};
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::{Arp, Cast, Icmp, IcmpClass, Transport};
use core::ops::ControlFlow;
use pmd_shim::Frame;

impl<F: Frame> Pipeline<F> {
    /// What stays on the link: router discovery, redirects, and whatever is addressed to more than this station.
    #[inline(always)]
    pub(super) fn on_link(&self, p: &Passage<'_>) -> Step<()> {
        let of_the_link =
            matches!(p.packet.transport, Transport::Icmp(Icmp { class: IcmpClass::LinkLocal, .. }));
        if of_the_link || p.packet.cast != Cast::Unicast {
            return drop_for(DropReason::NotForUs);
        }
        ControlFlow::Continue(())
    }

    pub(super) fn arp<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        arp: &Arp,
        port: PortId,
        now: Time,
        tx: &mut T,
    ) -> Outcome {
        let facts = host::PortFacts { id: port, mac: self.facts(port).mac };
        let outcome = host::arp(&mut frame, arp, &facts, &self.snapshot.local, &mut self.neighbors, now);
        self.resolved(frame, outcome, port, tx)
    }

    pub(super) fn nd<T: Transmit<F>>(&mut self, mut frame: F, p: &Passage<'_>, tx: &mut T) -> Outcome {
        let facts = host::PortFacts { id: p.port, mac: self.facts(p.port).mac };
        let outcome =
            host::nd(&mut frame, p.packet, &facts, &self.snapshot.local, &mut self.neighbors, p.now);
        self.resolved(frame, outcome, p.port, tx)
    }

    /// Carries out what address resolution decided: an answer leaves, and so do frames that waited for what was learnt.
    fn resolved<T: Transmit<F>>(
        &mut self,
        frame: F,
        outcome: HostOutcome,
        port: PortId,
        tx: &mut T,
    ) -> Outcome {
        let verdict = match outcome {
            HostOutcome::Reply(learned) => {
                let sent = self.transmit(port, frame, Origin::Replied, tx);
                if let Some(id) = learned {
                    self.release_waiting(id, tx);
                }
                sent.or(Verdict::Reply(None))
            }
            HostOutcome::Consume => Verdict::Consume,
            HostOutcome::Learned(id) => {
                self.release_waiting(id, tx);
                Verdict::Consume
            }
            HostOutcome::Drop(reason) => Verdict::Drop(reason),
        };
        if let Some(news) = self.neighbors.take_news().filter(|_| !self.placement.is_alone()) {
            tx.tell(news);
        }
        Outcome { verdict, rule: None, backend: None }
    }
}
