//! A packet of a known flow: its verdict and edits are already decided. What is left is to hold it against the flow's state.

use super::{Departure, Passage, Pipeline, Step, drop_for};
use crate::addr::Addr;
use crate::emit::rewrite::{self, Endpoint, Translation};
use crate::emit::splice;
use crate::flow::{Flow, FlowId, Side, query};
use crate::verdict::DropReason;
use crate::wire::{Transport, protocol};
use core::ops::ControlFlow;
use nva_config::Access;
use pmd_shim::Frame;

impl<F: Frame> Pipeline<F> {
    /// Takes the packet along its flow. `None`: the flow is over, and the packet may open a new one.
    #[inline(always)]
    pub(super) fn known(
        &mut self,
        frame: &mut F,
        p: &mut Passage<'_>,
        id: FlowId,
        side: Side,
    ) -> Step<Option<Departure>> {
        if self.is_over(p, id, side)? {
            return ControlFlow::Continue(None);
        }
        self.check_ingress(frame, p, id, side)?;
        if let Transport::Tcp(tcp) = &p.packet.transport
            && self.flows.flow(id).tcp.reopens(side, tcp)
        {
            self.flows.remove(id);
            return ControlFlow::Continue(None);
        }
        (p.rule, p.backend) = self.flows.decided_by(id);
        if self.flows.flow(id).is_spliced()
            && let Some(ended) = self.meet_splice(frame, p, id, side)?
        {
            return ControlFlow::Continue(ended);
        }
        let departure = self.way_out(frame, p, id, side)?;
        self.follows(p, id, side)?;
        self.carry(frame, p, id, side);
        if p.port.is_tunnel() {
            self.pin(p, id, side, departure);
        }
        ControlFlow::Continue(Some(departure))
    }

    /// Whether the packet fits the state of its connection; the state moves on when it does.
    #[inline(always)]
    fn follows(&mut self, p: &Passage<'_>, id: FlowId, side: Side) -> Step<()> {
        let fits = match &p.packet.transport {
            Transport::Tcp(_) if self.flows.flow(id).returns_directly() => Ok(()),
            Transport::Tcp(tcp) if self.flows.flow(id).is_spliced() => {
                let tcp = self.as_the_backend_counts(id, side, tcp);
                self.flows.segment(id, side, &tcp, p.packet.payload_len()).map(|_| ())
            }
            Transport::Tcp(tcp) => self.flows.segment(id, side, tcp, p.packet.payload_len()).map(|_| ()),
            Transport::Icmp(icmp) => query::check(side, icmp.class),
            _ => Ok(()),
        };
        match fits {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => drop_for(reason),
        }
    }

    /// Stage 9: what a packet of a flow has done to it, and counted for it, on the way out.
    #[inline(always)]
    pub(super) fn carry(&mut self, frame: &mut F, p: &Passage<'_>, id: FlowId, side: Side) {
        self.flows.account(id, side, p.packet.ip_len(), p.now);
        let flow = self.flows.flow(id);
        if flow.is_spliced() {
            splice::splice(frame.bytes_mut(), p.packet, &self.splice_edits(id, side, p.packet));
        }
        if flow.is_translated() {
            rewrite::translate(frame.bytes_mut(), p.packet, &translation(flow, side));
        }
        self.hop(frame, p);
    }

    /// What every packet has done to it that is passed on: one hop less to live. In the wire between two tunnels there is no hop.
    #[inline(always)]
    pub(super) fn hop(&self, frame: &mut F, p: &Passage<'_>) {
        if p.port.is_tunnel() {
            return self.pass_through(frame, p);
        }
        rewrite::decrement_ttl(frame.bytes_mut(), p.packet);
        rewrite::trim(frame, p.packet);
    }

    /// Brings the flow up to date with a configuration that changed since its last packet. `true`: it ended with that.
    #[inline(always)]
    pub(super) fn is_over(&mut self, p: &mut Passage<'_>, id: FlowId, side: Side) -> Step<bool> {
        if self.flows.flow(id).generation == self.snapshot.decided {
            return ControlFlow::Continue(false);
        }
        ControlFlow::Continue(self.refresh(p, id, side)? == Refreshed::Over)
    }

    /// Chooses the flow's ways anew when the configuration changed, and judges it again where its group says so.
    #[cold]
    fn refresh(&mut self, p: &mut Passage<'_>, id: FlowId, side: Side) -> Step<Refreshed> {
        if side == Side::Initiator {
            if self.lost_its_backend(id) {
                self.flows.remove(id);
                return ControlFlow::Continue(Refreshed::Over);
            }
            self.judge_again(p, id)?;
        }
        let generation = self.snapshot.decided;
        let flow = self.flows.flow_mut(id);
        flow.forget_ways();
        // Groups are judged on the initiator's packets only, since the answers' direction has rules of its own. Until one
        // comes, each answer looks its way up again.
        if side == Side::Initiator {
            flow.generation = generation;
        }
        ControlFlow::Continue(Refreshed::GoesOn)
    }

    fn judge_again(&mut self, p: &mut Passage<'_>, id: FlowId) -> Step<()> {
        let flow = self.flows.flow(id);
        let decision = if p.port.is_tunnel() {
            self.snapshot.tunnels.frontends.judge_again(&self.snapshot.policy, &p.packet.key)
        } else {
            let location = self.final_destination(flow, Side::Initiator);
            self.snapshot.policy.decide_again(&flow.translated_key(), location)
        };
        let Some(decision) = decision else { return ControlFlow::Continue(()) };
        self.counters.hit_rule(decision.rule, p.now);
        if decision.access == Access::Deny {
            self.flows.remove(id);
            p.rule = decision.rule;
            return drop_for(DropReason::DeniedByRule);
        }
        if decision.rule.is_some() {
            self.flows.flow_mut(id).set_rule(decision.rule);
        }
        ControlFlow::Continue(())
    }

    /// Connections stay with a backend that takes no new ones; flows of other protocols move.
    fn lost_its_backend(&self, id: FlowId) -> bool {
        let flow = self.flows.flow(id);
        flow.protocol() != protocol::TCP
            && flow.backend().is_some_and(|backend| !self.snapshot.balancer.is_eligible(backend))
    }

    /// Whether the packet came in where answers to it leave; if not, its source is checked like a new flow's. The content is checked
    /// always: a flow that an honest packet opened can carry an attack.
    #[inline(always)]
    pub(super) fn check_ingress(&mut self, frame: &F, p: &Passage<'_>, id: FlowId, side: Side) -> Step<()> {
        let expected = self.flows.flow(id).way(side.other()).map(|way| way.port);
        if expected != Some(p.port) || p.port.is_tunnel() {
            let tunnel = self.flows.flow(id).tunnel(side.other());
            self.check_side(p, tunnel)?;
            if tunnel.is_none() {
                return self.guard(frame, p);
            }
        }
        let trust = self.facts(p.port).trust;
        if self.snapshot.guard.amplifies(p.packet, payload(frame, p), trust) {
            return drop_for(DropReason::Amplification);
        }
        ControlFlow::Continue(())
    }

    /// Where the packets that `side` sends are delivered: with a floating IP, to the backend whose address they do not carry.
    pub(super) fn final_destination(&self, flow: &Flow, side: Side) -> Addr {
        let backend = if side == Side::Initiator && flow.returns_directly() { flow.backend() } else { None };
        backend.and_then(|id| self.snapshot.balancer.address(id)).unwrap_or_else(|| flow.destination(side))
    }
}

/// What became of a flow under a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refreshed {
    GoesOn,
    /// It was removed; its packet may open another.
    Over,
}

/// A packet's transport payload.
#[inline(always)]
pub(super) fn payload<'a, F: Frame>(frame: &'a F, p: &Passage<'_>) -> &'a [u8] {
    frame.bytes().get(p.packet.payload as usize..p.packet.payload_end as usize).unwrap_or_default()
}

/// What is changed in the packets that `side` sends.
#[inline(always)]
pub(super) fn translation(flow: &Flow, side: Side) -> Translation {
    match side {
        Side::Initiator => Translation { dst: Some(translated(flow)), ..Translation::default() },
        Side::Responder => Translation { src: Some(target(flow)), ..Translation::default() },
    }
}

/// The end that the initiator speaks to.
#[inline]
pub(super) fn target(flow: &Flow) -> Endpoint {
    let key = flow.key(Side::Initiator);
    Endpoint { addr: key.dst, port: Some(key.dst_port) }
}

/// The end that the appliance speaks to for the initiator.
#[inline]
pub(super) fn translated(flow: &Flow) -> Endpoint {
    let key = flow.translated_key();
    Endpoint { addr: key.dst, port: Some(key.dst_port) }
}
