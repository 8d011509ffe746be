//! The flow table as people see it.

use super::Pipeline;
use super::enveloped::link_of;
use crate::addr::{Addr, Mac};
use crate::flow::{Class, Side, Tally};
use crate::time::Time;
use crate::tunnel::{self, Found};
use crate::verdict::{BackendId, DropReason, PortId, RuleId};
use crate::wire::plain::Station;
use crate::wire::{self, FlowKey, Parsed};
use pmd_shim::{Frame, RxOffload};

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

    /// What is inside a whole frame that comes in by a tunnel or a segment at this port; `None`: it does not.
    pub fn inside(&self, port: PortId, frame: &[u8]) -> Option<Result<Parsed, DropReason>> {
        let tunnels = &self.snapshot.tunnels;
        if !tunnels.are_at(port) {
            return None;
        }
        let mac = self.facts(port).mac;
        let mut found = tunnels.find(port, frame, &Station::new(mac), true);
        if found == Found::Outside
            && let Ok(Parsed::Ip(packet)) = wire::parse(frame, RxOffload::default(), mac)
        {
            found = tunnels.find_parsed(port, frame, &packet);
        }
        let inner = |start: u16, end: u16| frame.get(start.into()..end.into());
        match found {
            Found::Inside(arrival) => {
                let inner = inner(arrival.start, arrival.end)?;
                let station = match arrival.port.is_tunnel() {
                    true => tunnel::station(inner),
                    false => self.facts(arrival.port).mac,
                };
                Some(wire::parse(inner, RxOffload::default(), station))
            }
            Found::Enveloped { arrival, family, .. } => {
                let packet = [&link_of(family), inner(arrival.start, arrival.end)?].concat();
                Some(wire::parse(&packet, RxOffload::default(), Mac::default()))
            }
            Found::Outside | Found::Refused(_) => None,
        }
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
