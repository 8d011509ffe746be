//! A packet without a flow: every stage judges it, and it becomes a flow or ends here.

use super::known::payload;
use super::prove::{Proving, proved_state};
use super::{Departure, Passage, Pipeline, Step, decided, drop_for};
use crate::addr::Addr;
use crate::emit::icmp_error::IcmpError;
use crate::flow::{FlowId, InsertError, NewFlow, Side, TcpState, query};
use crate::host::{self, HostOutcome, Local};
use crate::lb::{Selection, Target};
use crate::policy::Context;
use crate::synproxy::Proof;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{FlowKey, IcmpClass, Transport};
use core::ops::ControlFlow;
use nva_config::Access;
use pmd_shim::Frame;

impl<F: Frame> Pipeline<F> {
    /// The stages of a new flow, in their order.
    pub(super) fn admit(&mut self, frame: &mut F, p: &mut Passage<'_>) -> Step<Departure> {
        if p.packet.key.dst.is_v6_link_local() {
            // Of the link: for the appliance or for nobody, and outside of what the guard knows.
            self.local(frame, p)?;
            return drop_for(DropReason::NoRoute);
        }
        self.guard(frame, p)?;
        self.limit_syns(p)?;
        self.local(frame, p)?;
        let proving = self.proving(frame, p)?;
        let tcp = opening_as(p, &proving)?;
        let target = self.balance(p)?;
        let key = target.map_or(p.packet.key, |target| target.translated_key(&p.packet.key));
        let location = target.map_or(key.dst, |target| target.address);
        self.judge(p, &key, location, target.is_some())?;
        if let Proving::Ask(syn) = &proving {
            return self.ask(frame, p, syn, p.backend);
        }
        self.hit_rules(p, &key, location);
        let Some(departure) = self.way_to(location, p.now) else {
            return self.answer_with_error(frame, p, IcmpError::NetUnreachable, DropReason::NoRoute);
        };
        self.fits(frame, p, departure)?;
        if self.neighbors.is_failed(departure.neighbor, p.now) {
            let reason = DropReason::UnresolvedNeighbor;
            return self.answer_with_error(frame, p, IcmpError::HostUnreachable, reason);
        }
        if let Proving::Proved(proof) = &proving {
            self.redeem(p, proof)?;
        }
        let id = self.open(p, &key, target, tcp, departure)?;
        if let Proving::Proved(proof) = &proving {
            return self.accept_proof(frame, p, id, proof);
        }
        self.carry(frame, p, id, Side::Initiator);
        ControlFlow::Continue(departure)
    }

    /// Stage 4: whether the packet may come from where it came.
    pub(super) fn guard(&mut self, frame: &F, p: &Passage<'_>) -> Step<()> {
        let trust = self.facts(p.port).trust;
        let source_route = self.snapshot.routes.lookup(p.packet.key.src);
        match self.snapshot.guard.check(p.packet, payload(frame, p), p.port, trust, source_route) {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => drop_for(reason),
        }
    }

    /// Stage 3: what is addressed to the appliance itself. It answers echo; what the kernel's sockets listen for goes to them.
    fn local(&mut self, frame: &mut F, p: &Passage<'_>) -> Step<()> {
        let Some(Local::PortAddress(owner)) = self.snapshot.local.kind(p.port, p.packet.key.dst) else {
            return ControlFlow::Continue(());
        };
        self.let_in(p, owner, &p.packet.key)?;
        if p.packet.fragment.is_some() {
            return drop_for(DropReason::Fragment);
        }
        match p.packet.transport {
            Transport::Icmp(icmp) if icmp.class == IcmpClass::EchoRequest => {
                match host::echo(frame, p.packet) {
                    HostOutcome::Drop(reason) => drop_for(reason),
                    _ => decided(Verdict::Reply(None)),
                }
            }
            _ => drop_for(DropReason::DeniedByRule),
        }
    }

    /// Stage 6: which backend, when the destination is a frontend.
    fn balance(&mut self, p: &mut Passage<'_>) -> Step<Option<Target>> {
        match self.snapshot.balancer.select(&p.packet.key) {
            Selection::NotAFrontend => ControlFlow::Continue(None),
            Selection::NoRule => drop_for(DropReason::DeniedByRule),
            Selection::NoHealthyBackend => drop_for(DropReason::NoHealthyBackend),
            Selection::Backend(target) => {
                p.backend = Some(target.backend);
                ControlFlow::Continue(Some(target))
            }
        }
    }

    /// Stage 7: security groups, on the packet as translated. Counts what is denied; what is allowed may still have to prove itself.
    fn judge(&mut self, p: &mut Passage<'_>, key: &FlowKey, location: Addr, load_balanced: bool) -> Step<()> {
        let decision = self.snapshot.policy.decide_at(key, Context { load_balanced }, location);
        p.rule = decision.rule;
        match decision.access {
            Access::Allow => ControlFlow::Continue(()),
            Access::Deny => {
                self.counters.hit_rule(decision.rule, p.now);
                drop_for(DropReason::DeniedByRule)
            }
        }
    }

    /// Counts the rules by which a new flow passes, one of each level.
    fn hit_rules(&mut self, p: &Passage<'_>, key: &FlowKey, location: Addr) {
        let Self { counters, snapshot, .. } = self;
        counters.hit_rule(p.rule, p.now);
        snapshot.policy.passed_by(key, location, p.rule, &mut |rule| counters.hit_rule(Some(rule), p.now));
    }

    /// Stage 5, the record: makes the flow.
    pub(super) fn open(
        &mut self,
        p: &Passage<'_>,
        translated: &FlowKey,
        target: Option<Target>,
        tcp: Option<TcpState>,
        departure: Departure,
    ) -> Step<FlowId> {
        let key = p.packet.key;
        let new = NewFlow {
            translated: translated.dst,
            translated_port: translated.dst_port,
            rule: p.rule,
            backend: p.backend,
            ..new_flow(&key, tcp, target.as_ref(), self.snapshot.decided)
        };
        let id = match self.flows.insert(new, p.now) {
            Ok(id) => id,
            Err(InsertError::Full) => return drop_for(DropReason::FlowTableFull),
            Err(InsertError::Taken) => return drop_for(DropReason::InvalidState),
        };
        self.counters.flows_created += 1;
        self.counters.hit_backend(p.backend);
        let way_back = match p.port.is_tunnel() {
            true => self.way_into(p.port, p.now),
            false => self.way_to(key.src, p.now),
        };
        let flow = self.flows.flow_mut(id);
        flow.set_way(Side::Initiator, Some(departure.to_way()));
        flow.set_way(Side::Responder, way_back.map(Departure::to_way));
        ControlFlow::Continue(id)
    }
}

/// The flow that a packet opens, by a rule that is not known yet.
#[inline(always)]
pub(super) fn new_flow(
    key: &FlowKey,
    tcp: Option<TcpState>,
    target: Option<&Target>,
    generation: u32,
) -> NewFlow {
    let translated = target.map_or(*key, |target| target.translated_key(key));
    let floats = target.is_some_and(|target| target.floating_ip);
    NewFlow {
        key: *key,
        translated: translated.dst,
        translated_port: translated.dst_port,
        tcp: if floats { tcp.map(|_| TcpState::one_sided()) } else { tcp },
        rule: None,
        backend: target.map(|target| target.backend),
        generation,
        idle_timeout_ms: target.map(|target| target.idle_timeout_ms),
        tcp_reset: target.is_some_and(|target| target.tcp_reset),
    }
}

/// The state of the connection that a packet opens: its own, or that of the client's SYN, whose cookie it shows.
pub(super) fn opening_as(p: &Passage<'_>, proving: &Proving) -> Step<Option<TcpState>> {
    match proving {
        Proving::Proved(proof) => opening_of(p, proof).map_continue(Some),
        _ => opening(p),
    }
}

/// The state of a connection whose client proved itself by this packet.
fn opening_of(p: &Passage<'_>, proof: &Proof) -> Step<TcpState> {
    let Transport::Tcp(tcp) = p.packet.transport else { return drop_for(DropReason::InvalidState) };
    match proved_state(proof, tcp.window) {
        Ok(state) => ControlFlow::Continue(state),
        Err(reason) => drop_for(reason),
    }
}

/// Whether a packet of this transport may open a flow, and the state of the connection that it opens.
fn opening(p: &Passage<'_>) -> Step<Option<TcpState>> {
    match p.packet.transport {
        Transport::Tcp(tcp) => match TcpState::open(&tcp, p.packet.payload_len()) {
            Ok(state) => ControlFlow::Continue(Some(state)),
            Err(reason) => drop_for(reason),
        },
        Transport::Icmp(icmp) => match query::open(icmp.class) {
            Ok(()) => ControlFlow::Continue(None),
            Err(reason) => drop_for(reason),
        },
        _ => ControlFlow::Continue(None),
    }
}
