//! The flow table as people see it.

use super::Pipeline;
use crate::addr::Addr;
use crate::flow::{Class, Side, Tally};
use crate::time::Time;
use crate::verdict::{BackendId, PortId, RuleId};
use crate::wire::FlowKey;
use pmd_shim::Frame;

/// One flow, copied out of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSummary {
    /// The transport (IANA protocol number).
    pub protocol: u8,
    /// Who sent the first packet: address and port (ICMP: identifier).
    pub initiator: (Addr, u16),
    /// To whom.
    pub target: (Addr, u16),
    /// The destination after translation; without one, the same as `target`.
    pub translated: (Addr, u16),
    /// What its timeout depends on.
    pub class: Class,
    /// The rule that allowed it.
    pub rule: Option<RuleId>,
    /// The backend that it was balanced to.
    pub backend: Option<BackendId>,
    /// The port towards the initiator, once known.
    pub initiator_port: Option<PortId>,
    /// The port towards the target, once known.
    pub target_port: Option<PortId>,
    /// What the initiator sent.
    pub sent: Tally,
    /// What the responder sent.
    pub answered: Tally,
    /// When it began.
    pub created: Time,
    /// When it ends if no packet comes.
    pub expires: Time,
}

/// What a packet is to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The key of the initiator's packets.
    pub initiator: FlowKey,
    /// Who sends such packets.
    pub side: Side,
    /// The port towards the initiator, once known.
    pub port: Option<PortId>,
}

impl<F: Frame> Pipeline<F> {
    /// The flow that packets with this key belong to.
    pub fn flow_of(&self, key: &FlowKey) -> Option<Membership> {
        let (id, side) = self.flows.find(key, self.flows.hash(key))?;
        let flow = self.flows.flow(id);
        let port = flow.way(Side::Responder).map(|way| way.port);
        Some(Membership { initiator: flow.key(Side::Initiator), side, port })
    }

    /// Shows the flows among the `limit` records from `cursor` on, and where to go on; `None` at the end. Start with 0. Flows that
    /// come and go between two calls may be missed.
    pub fn flows(&self, cursor: usize, limit: usize, visit: &mut dyn FnMut(FlowSummary)) -> Option<usize> {
        let (slice, next) = self.flows.slice(cursor, limit);
        for (id, view) in slice {
            let (sent_key, translated) = (view.flow.key(Side::Initiator), view.flow.translated_key());
            visit(FlowSummary {
                protocol: view.flow.protocol(),
                initiator: (sent_key.src, sent_key.src_port),
                target: (sent_key.dst, sent_key.dst_port),
                translated: (translated.dst, translated.dst_port),
                class: view.flow.class(),
                rule: view.flow.rule(),
                backend: view.flow.backend(),
                initiator_port: view.flow.way(Side::Responder).map(|way| way.port),
                target_port: view.flow.way(Side::Initiator).map(|way| way.port),
                sent: view.tally(Side::Initiator),
                answered: view.tally(Side::Responder),
                created: view.created(),
                expires: self.flows.expires(id),
            });
        }
        next
    }
}
