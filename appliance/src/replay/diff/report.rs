//! What `nva diff` prints: tables for people, JSON for programs.

use super::flows::{Flow, Pair, Seen, Subject};
use super::{Comparison, Known, Plan};
use crate::cli::Seed;
use crate::output::{Align, Style, Table};
use nva_dataplane::addr::Addr;
use nva_dataplane::names::Names;
use nva_dataplane::wire::{FlowKey, protocol};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The whole comparison.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: String,
    /// Packets compared.
    packets: u64,
    /// Those whose verdict, reason, rule or backend changes.
    pub(super) changed_packets: u64,
    /// Flows that change, by their first packet that does.
    flows: Vec<FlowReport>,
    /// Changed packets of flows that are not listed, as there are too many.
    unlisted_packets: u64,
    /// Ports with captures that only the old configuration has.
    ports_only_in_old: Vec<String>,
    /// Ports with captures that only the new configuration has.
    ports_only_in_new: Vec<String>,
}

/// One flow that changes; without addresses, frames of one kind.
#[derive(Debug, Serialize)]
struct FlowReport {
    /// Where its first packet came in.
    port: String,
    /// `tcp`, `udp`, `icmp`, `esp`, `ah`, the protocol's number; of frames that are no IP packets, what they are.
    protocol: String,
    /// Who sent the first packet.
    from: Option<End>,
    to: Option<End>,
    /// They are fragments that are not the first of their datagram.
    later_fragments: bool,
    /// The first packet that changes, by its number over all captures.
    first_frame: u64,
    /// Packets that change.
    packets: u64,
    changes: Vec<Change>,
}

#[derive(Debug, Serialize)]
struct End {
    address: IpAddr,
    /// For ICMP the identifier; null where the protocol has none.
    port: Option<u16>,
}

/// Packets of one flow that change alike.
#[derive(Debug, Serialize)]
struct Change {
    packets: u64,
    /// Null: the configuration has no such port.
    before: Option<Line>,
    after: Option<Line>,
}

/// What a verdict line says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Line {
    verdict: &'static str,
    reason: Option<&'static str>,
    rule: Option<String>,
    backend: Option<String>,
}

impl Report {
    pub(super) fn new(comparison: &Comparison, known: &Known<'_>, plan: &Plan, seed: Seed) -> Self {
        let only_in = |without: &super::Half| {
            let missing = plan.inputs.iter().filter(|(port, _)| without.own_port(*port).is_none());
            let mut ports: Vec<String> = missing
                .filter_map(|(port, _)| known.ports.get(port.index()))
                .map(ToString::to_string)
                .collect();
            ports.dedup();
            ports
        };
        let changes = &comparison.changes;
        let flow = |flow| FlowReport::new(flow, known, &comparison.names);
        Self {
            seed: seed.to_string(),
            packets: comparison.frames,
            changed_packets: changes.packets,
            flows: changes.flows.iter().map(flow).collect(),
            unlisted_packets: changes.unlisted,
            ports_only_in_old: only_in(&comparison.new),
            ports_only_in_new: only_in(&comparison.old),
        }
    }

    /// For people: the flows, then what the changes come to.
    pub(super) fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for (ports, which) in [(&self.ports_only_in_old, "old"), (&self.ports_only_in_new, "new")] {
            for port in ports {
                let note = format!(
                    "port {port} is in the {which} configuration only: the other receives nothing there"
                );
                let _ = writeln!(text, "{}", style.warn(note));
            }
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let packets = counted(self.packets, "packet");
        if self.changed_packets == 0 {
            let _ =
                writeln!(text, "no flow changes: {packets}, the same verdict, rule and backend under both");
            return text;
        }
        text.push_str(&self.flow_table().render(style, 0));
        let flows = counted(self.flows.len() as u64, "flow");
        let change = if self.flows.len() == 1 { "changes" } else { "change" };
        let _ = writeln!(text, "\n{flows} {change}: {} of {packets}", self.changed_packets);
        if self.unlisted_packets > 0 {
            let _ = writeln!(
                text,
                "{} of them belong to changes beyond those that are listed",
                self.unlisted_packets
            );
        }
        let _ = write!(text, "\n{}", self.sums().render(style, 0));
        text
    }

    fn flow_table(&self) -> Table {
        let mut table = Table::new(&[
            ("port", Align::Left),
            ("flow", Align::Left),
            ("packets", Align::Right),
            ("before", Align::Left),
            ("after", Align::Left),
        ]);
        for flow in &self.flows {
            let (mut port, mut name) = (flow.port.clone(), flow.name());
            for change in &flow.changes {
                let [before, after] = [&change.before, &change.after].map(|line| in_full(line.as_ref()));
                table.row([
                    std::mem::take(&mut port),
                    std::mem::take(&mut name),
                    change.packets.to_string(),
                    before,
                    after,
                ]);
            }
        }
        table
    }

    /// From which verdict to which, over the flows that are listed.
    fn sums(&self) -> Table {
        let mut sums: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        for flow in &self.flows {
            let mut here: BTreeMap<(String, String), u64> = BTreeMap::new();
            for change in &flow.changes {
                let kind = (in_short(change.before.as_ref()), in_short(change.after.as_ref()));
                *here.entry(kind).or_default() += change.packets;
            }
            for (kind, packets) in here {
                let sum = sums.entry(kind).or_default();
                *sum = (sum.0 + 1, sum.1 + packets);
            }
        }
        let number = |title| (title, Align::Right);
        let mut table = Table::new(&[
            number("flows"),
            number("packets"),
            ("before", Align::Left),
            ("after", Align::Left),
        ]);
        for ((before, after), (flows, packets)) in sums {
            table.row([flows.to_string(), packets.to_string(), before, after]);
        }
        table
    }
}

impl FlowReport {
    fn new(flow: &Flow, known: &Known<'_>, names: &Names) -> Self {
        let key = match flow.subject {
            Subject::Flow(key) | Subject::Fragments(key) => Some(key),
            Subject::Kind(_) => None,
        };
        let is_fragments = matches!(flow.subject, Subject::Fragments(_));
        let change =
            |(before, after): Pair| [before, after].map(|seen| seen.map(|seen| Line::new(seen, names)));
        Self {
            port: known.ports.get(flow.port.index()).map(ToString::to_string).unwrap_or_default(),
            protocol: match flow.subject {
                Subject::Flow(key) | Subject::Fragments(key) => protocol_name(key.protocol),
                Subject::Kind(kind) => kind.into(),
            },
            from: key.map(|key| End::new(key.src, key.src_port, &key, is_fragments)),
            to: key.map(|key| End::new(key.dst, key.dst_port, &key, is_fragments)),
            later_fragments: is_fragments,
            first_frame: flow.first_frame,
            packets: flow.ways.iter().map(|way| way.packets).sum(),
            changes: flow
                .ways
                .iter()
                .map(|way| {
                    let [before, after] = change(way.pair);
                    Change { packets: way.packets, before, after }
                })
                .collect(),
        }
    }

    /// `tcp 198.51.100.7:40000 -> 203.0.113.10:443`.
    fn name(&self) -> String {
        let (Some(from), Some(to)) = (&self.from, &self.to) else {
            return format!("frames: {}", self.protocol);
        };
        let end = |end: &End| match end.port {
            Some(port) => SocketAddr::new(end.address, port).to_string(),
            None => end.address.to_string(),
        };
        let mut name = match self.protocol.as_str() {
            // The identifier stands for both ports.
            "icmp" => {
                let identifier = from.port.map(|id| format!(" identifier {id}")).unwrap_or_default();
                format!("icmp {} -> {}{identifier}", from.address, to.address)
            }
            protocol => format!("{protocol} {} -> {}", end(from), end(to)),
        };
        if self.later_fragments {
            name.push_str(", later fragments");
        }
        name
    }
}

impl End {
    fn new(address: Addr, port: u16, key: &FlowKey, is_fragments: bool) -> Self {
        let has_ports =
            matches!(key.protocol, protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6);
        Self { address: address.into(), port: (has_ports && !is_fragments).then_some(port) }
    }
}

impl Line {
    fn new(seen: Seen, names: &Names) -> Self {
        Self {
            verdict: seen.verdict,
            reason: seen.reason,
            rule: seen.rule.map(|rule| names.rule_name(rule).to_owned()),
            backend: seen.backend.map(|backend| names.backend_name(backend).to_owned()),
        }
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".into(),
        protocol::UDP => "udp".into(),
        protocol::ICMP | protocol::ICMPV6 => "icmp".into(),
        protocol::ESP => "esp".into(),
        protocol::AH => "ah".into(),
        number => number.to_string(),
    }
}

/// `forward`, or `drop denied_by_rule`.
fn in_short(line: Option<&Line>) -> String {
    match line {
        None => "no such port".into(),
        Some(Line { verdict, reason: None, .. }) => (*verdict).into(),
        Some(Line { verdict, reason: Some(reason), .. }) => format!("{verdict} {reason}"),
    }
}

/// With the rule and the backend.
fn in_full(line: Option<&Line>) -> String {
    let mut text = in_short(line);
    let Some(line) = line else { return text };
    if let Some(rule) = &line.rule {
        let _ = write!(text, " by {rule}");
    }
    if let Some(backend) = &line.backend {
        let _ = write!(text, " to {backend}");
    }
    text
}

fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
