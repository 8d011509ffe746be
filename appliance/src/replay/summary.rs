//! What a replay came to: a table for people, JSON for programs.

use crate::output::{Align, Style, Table};
use nva_dataplane::addr::Mac;
use nva_dataplane::counters::PortCounters;
use nva_dataplane::verdict::DropReason;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt::Write;

/// What is counted of a port.
#[derive(Debug, serde::Serialize)]
pub(super) struct PortSummary {
    name: String,
    mac: String,
    #[serde(flatten)]
    counts: Counts,
}

/// One verdict for each received frame: received = forwarded + replied + consumed + held + dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Counts {
    received: u64,
    forwarded: u64,
    replied: u64,
    consumed: u64,
    /// Still waiting at the end.
    held: u64,
    dropped: u64,
    dropped_for: Drops,
    transmitted: u64,
}

/// Drops by reason, in the order of the closed list; every reason is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Drops([u64; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl Drops {
    fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DropReason::ALL.iter().zip(self.0).map(|(reason, count)| (reason.name(), count))
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(DropReason::COUNT))?;
        for (reason, count) in self.each() {
            map.serialize_entry(reason, &count)?;
        }
        map.end()
    }
}

impl Counts {
    fn of(counters: &PortCounters) -> Self {
        Self {
            received: counters.received,
            forwarded: counters.forwarded,
            replied: counters.replied,
            consumed: counters.consumed,
            held: counters.held,
            dropped: counters.dropped_total(),
            dropped_for: Drops(counters.dropped),
            transmitted: counters.transmitted,
        }
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.forwarded += other.forwarded;
        self.replied += other.replied;
        self.consumed += other.consumed;
        self.held += other.held;
        self.dropped += other.dropped;
        self.dropped_for.0.iter_mut().zip(other.dropped_for.0).for_each(|(sum, count)| *sum += count);
        self.transmitted += other.transmitted;
    }

    fn cells(&self) -> [String; 7] {
        [
            self.received,
            self.forwarded,
            self.replied,
            self.consumed,
            self.held,
            self.dropped,
            self.transmitted,
        ]
        .map(|count| count.to_string())
    }
}

impl PortSummary {
    pub(super) fn new(name: &str, mac: Mac, counters: &PortCounters) -> Self {
        Self { name: name.into(), mac: mac.to_string(), counts: Counts::of(counters) }
    }
}

/// The whole replay.
#[derive(Debug, serde::Serialize)]
pub(super) struct Summary {
    seed: String,
    /// Nanoseconds from the first frame to the last.
    span_ns: u64,
    ports: Vec<PortSummary>,
    total: Counts,
}

impl Summary {
    pub(super) fn new(seed: String, span_ns: u64, ports: Vec<PortSummary>) -> Self {
        let mut total = Counts::default();
        ports.iter().for_each(|port| total.add(&port.counts));
        Self { seed, span_ns, ports, total }
    }

    /// For people.
    pub(super) fn text(&self, style: Style) -> String {
        let number = |title| (title, Align::Right);
        let mut table = Table::new(&[
            ("port", Align::Left),
            ("mac", Align::Left),
            number("received"),
            number("forwarded"),
            number("replied"),
            number("consumed"),
            number("held"),
            number("dropped"),
            number("transmitted"),
        ]);
        for port in &self.ports {
            table.row([port.name.clone(), port.mac.clone()].into_iter().chain(port.counts.cells()));
        }
        table.row(["total".to_string(), String::new()].into_iter().chain(self.total.cells()));
        let (seconds, milliseconds) = (self.span_ns / 1_000_000_000, self.span_ns / 1_000_000 % 1000);
        let mut text = table.render(style, 0);
        let frames = if self.total.received == 1 { "frame" } else { "frames" };
        let _ = writeln!(
            text,
            "\n{} {frames} over {seconds}.{milliseconds:03} s of the captures' time",
            self.total.received
        );
        let drops = self.drop_table();
        if !drops.is_empty() {
            let _ = write!(text, "\n{}", drops.render(style, 0));
        }
        text
    }

    fn drop_table(&self) -> Table {
        let mut table =
            Table::new(&[("dropped", Align::Right), ("reason", Align::Left), ("which means", Align::Left)]);
        for (reason, count) in DropReason::ALL.iter().zip(self.total.dropped_for.0) {
            if count > 0 {
                table.row([&count.to_string(), reason.name(), reason.description().trim()]);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let mut a = PortCounters { received: 6, forwarded: 2, held: 1, transmitted: 1, ..Default::default() };
        a.dropped[DropReason::Spoofed.index()] = 2;
        a.dropped[DropReason::Malformed.index()] = 1;
        let b = PortCounters { received: 2, replied: 1, consumed: 1, transmitted: 3, ..Default::default() };
        let port = |name, counters| PortSummary::new(name, Mac([2, 0, 0, 0, 0, 1]), counters);
        Summary::new("00".into(), 1_500_000_000, vec![port("a", &a), port("b", &b)])
    }

    #[test]
    fn the_total_is_the_sum_of_the_ports_and_of_the_verdicts() {
        let total = summary().total;
        assert_eq!(total.received, 8);
        assert_eq!(
            total.received,
            total.forwarded + total.replied + total.consumed + total.held + total.dropped
        );
        assert_eq!(total.dropped, total.dropped_for.each().map(|(_, count)| count).sum::<u64>());
        assert_eq!(total.transmitted, 4);
    }

    #[test]
    fn people_see_only_the_reasons_that_occurred() {
        let text = summary().text(Style::PLAIN);
        assert!(text.contains("8 frames over 1.500 s"), "{text}");
        assert!(text.contains("      2  spoofed "), "{text}");
        assert!(!text.contains("no_route"), "{text}");
    }

    #[test]
    fn programs_see_every_reason_in_order() {
        let json = serde_json::to_string(&summary()).expect("plain data");
        let places: Vec<Option<usize>> =
            DropReason::ALL.iter().map(|reason| json.find(&format!("\"{}\":", reason.name()))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{json}");
        assert!(json.contains("\"spoofed\":2"), "{json}");
    }
}
