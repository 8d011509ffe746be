//! Which flows change, and how.

use nva_dataplane::verdict::{BackendId, PortId, RuleId};
use nva_dataplane::wire::FlowKey;
use std::collections::HashMap;

/// Flows that are listed one by one; beyond them packets are only counted.
const FLOWS_MAX: usize = 65_536;
/// Ways in which the packets of one flow change that are told apart.
const WAYS_MAX: usize = 16;

/// What a verdict line says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) verdict: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) rule: Option<RuleId>,
    pub(super) backend: Option<BackendId>,
}

/// Under the old configuration and under the new one; `None`: it has no such port.
pub(super) type Pair = (Option<Seen>, Option<Seen>);

/// What a frame is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A flow: the key of its initiator's packets, as far as a flow or an earlier packet tells.
    Flow(FlowKey),
    /// Fragments that are not the first: they have no ports.
    Fragments(FlowKey),
    /// No IP packet, or none that can be read.
    Kind(&'static str),
}

impl Subject {
    fn reversed(self) -> Self {
        match self {
            Self::Flow(key) => Self::Flow(key.reversed()),
            Self::Fragments(key) => Self::Fragments(key.reversed()),
            Self::Kind(kind) => Self::Kind(kind),
        }
    }
}

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) subject: Subject,
    /// Where the flow's first packet came in; where that is not known, where this one did.
    pub(super) port: PortId,
    /// It answers to the subject.
    pub(super) is_answer: bool,
}

/// A flow that changes.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) subject: Subject,
    pub(super) port: PortId,
    /// The first packet that changes, by its number over all captures.
    pub(super) first_frame: u64,
    pub(super) ways: Vec<Way>,
}

/// Packets of one flow that change alike.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) pair: Pair,
    pub(super) packets: u64,
}

/// Everything that changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In the order of their first packets.
    pub(super) flows: Vec<Flow>,
    /// Packets that change, listed or not.
    pub(super) packets: u64,
    /// Packets that change of flows, or in ways, that are not listed.
    pub(super) unlisted: u64,
    places: HashMap<(Subject, PortId), usize>,
    /// The flow of a subject that was listed last, whatever its port.
    latest: HashMap<Subject, usize>,
}

impl Changes {
    /// Notes a packet that changes; `frame` is its number over all captures.
    pub(super) fn note(&mut self, frame: u64, place: Place, pair: Pair) {
        self.packets += 1;
        let known = self.find(place).or_else(|| self.list(frame, place));
        let Some(flow) = known.and_then(|index| self.flows.get_mut(index)) else {
            self.unlisted += 1;
            return;
        };
        if let Some(way) = flow.ways.iter_mut().find(|way| way.pair == pair) {
            way.packets += 1;
        } else if flow.ways.len() < WAYS_MAX {
            flow.ways.push(Way { pair, packets: 1 });
        } else {
            self.unlisted += 1;
        }
    }

    /// The flow that is listed already. An answer that no flow explains belongs to the packets that it answers to.
    fn find(&self, place: Place) -> Option<usize> {
        let Place { subject, port, is_answer } = place;
        let here = self.places.get(&(subject, port));
        let found = match (subject, is_answer) {
            (Subject::Kind(_), _) => here,
            (_, true) => here.or_else(|| self.latest.get(&subject)),
            (_, false) => here.or_else(|| self.latest.get(&subject.reversed())),
        };
        found.copied()
    }

    fn list(&mut self, frame: u64, place: Place) -> Option<usize> {
        let Place { subject, port, .. } = place;
        let index = self.flows.len();
        if index >= FLOWS_MAX {
            return None;
        }
        self.flows.push(Flow { subject, port, first_frame: frame, ways: Vec::new() });
        self.places.insert((subject, port), index);
        self.latest.insert(subject, index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::addr::Addr;

    const FORWARD: Option<Seen> = Some(Seen { verdict: "forward", reason: None, rule: None, backend: None });
    const DROP: Option<Seen> =
        Some(Seen { verdict: "drop", reason: Some("denied_by_rule"), rule: None, backend: None });

    fn key(from: u16) -> FlowKey {
        let (src, dst) = (Addr::v4([192, 0, 2, 1]), Addr::v4([10, 0, 0, 1]));
        FlowKey { src, dst, src_port: from, dst_port: 80, protocol: 6 }
    }

    fn at(subject: Subject, port: u16) -> Place {
        Place { subject, port: PortId(port), is_answer: false }
    }

    #[test]
    fn both_directions_of_a_flow_are_one() {
        let mut changes = Changes::default();
        let there = Subject::Flow(key(1));
        changes.note(1, at(there, 0), (FORWARD, DROP));
        changes.note(2, at(there, 0), (FORWARD, DROP));
        // An answer of a flow that is known, and one that nothing explains but the packets before.
        changes.note(3, Place { is_answer: true, ..at(there, 0) }, (FORWARD, DROP));
        changes.note(4, at(Subject::Flow(key(1).reversed()), 1), (DROP, FORWARD));
        assert_eq!((changes.flows.len(), changes.packets, changes.unlisted), (1, 4, 0));
        let ways: Vec<u64> = changes.flows[0].ways.iter().map(|way| way.packets).collect();
        assert_eq!((ways, changes.flows[0].first_frame), (vec![3, 1], 1));
    }

    #[test]
    fn the_same_addresses_through_another_port_are_another_flow() {
        let mut changes = Changes::default();
        for (frame, port) in [(1, 0), (2, 1), (3, 0)] {
            changes.note(frame, at(Subject::Flow(key(1)), port), (FORWARD, DROP));
            changes.note(frame, at(Subject::Kind("arp"), port), (FORWARD, None));
        }
        let flows: Vec<(u16, u64)> =
            changes.flows.iter().map(|flow| (flow.port.0, flow.ways[0].packets)).collect();
        assert_eq!(flows, [(0, 2), (0, 2), (1, 1), (1, 1)]);
    }

    #[test]
    fn memory_is_bounded_and_nothing_goes_uncounted() {
        let mut changes = Changes::default();
        let flows = FLOWS_MAX as u64 + 10;
        for frame in 0..flows {
            let wide = FlowKey { dst_port: (frame >> 16) as u16, ..key(frame as u16) };
            changes.note(frame, at(Subject::Flow(wide), 0), (FORWARD, DROP));
        }
        assert_eq!((changes.flows.len(), changes.packets, changes.unlisted), (FLOWS_MAX, flows, 10));
        for rule in 0..100 {
            let seen = Seen { verdict: "drop", reason: None, rule: Some(RuleId(rule)), backend: None };
            changes.note(0, at(Subject::Flow(FlowKey { dst_port: 0, ..key(7) }), 0), (FORWARD, Some(seen)));
        }
        assert_eq!((changes.flows[7].ways.len(), changes.unlisted), (WAYS_MAX, 10 + 100 - 15));
    }
}
