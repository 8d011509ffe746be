//! What the sets showed: a table and the goals for people, JSON for programs.

use super::Row;
use super::bench::Cost;
use super::updates::Updates;
use crate::compare::goal::{Goal, Standing};
use serde::Serialize;
use std::fmt::Write as _;

const MB: f64 = 1e6;

/// A figure over several sets, and what it is held to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Total {
    what: String,
    figure: f64,
    goal: Goal,
    standing: Standing,
}

/// What is printed with `--json`.
#[derive(Serialize)]
pub(crate) struct Json<'a> {
    sets: &'a [Row],
    goals: Vec<Total>,
}

/// Everything, for programs.
pub(crate) fn json(rows: &[Row]) -> Json<'_> {
    Json { sets: rows, goals: totals(rows) }
}

/// Everything, for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.set.len()).max().unwrap_or(0).max(3);
    let mut text = format!(
        "{:width$}          ns a look-up, hot             ns a look-up, cold              memory, MB        build, ms   one rule changed\n\
         {:<width$} {:>6}    nva rte_acl  rate  90 %          nva rte_acl  rate  90 %          nva rte_acl      nva rte_acl  in force, µs    x\n",
        "", "set", "rules"
    );
    for row in rows {
        let peer = |figure: Option<f64>| figure.map_or_else(|| "-".into(), short);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<width$} {:>6} {} {} {:>7} {:>7}  {:>7} {:>7} {:>13} {:>4}{}",
            row.set,
            row.rules,
            cost(&row.hot),
            cost(&row.cold),
            short(row.bytes as f64 / MB),
            peer(row.rte_acl.as_ref().map(|peer| peer.bytes as f64 / MB)),
            short(row.build_ms),
            peer(row.rte_acl.as_ref().map(|peer| peer.build_ms)),
            peer(row.updates.map(|updates| updates.p99_us)),
            peer(row.updates.map(|updates| updates.changing_by_still.median)),
            if row.linear { "  searched linearly" } else { "" },
        );
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let _ = writeln!(
        text,
        "answers verified, none differs: {} by traces, {} by the linear search, {} by rte_acl",
        sum(|row| row.verified.by_trace),
        sum(|row| row.verified.by_linear),
        sum(|row| row.verified.by_rte_acl)
    );
    let mut methods: Vec<&str> =
        rows.iter().filter_map(|row| row.rte_acl.as_ref()).map(|peer| peer.method).collect();
    methods.sort_unstable();
    methods.dedup();
    if !methods.is_empty() {
        let _ = writeln!(text, "rte_acl's fastest methods here: {}", methods.join(", "));
    }
    let mut reasons: Vec<&str> = rows.iter().filter_map(|row| row.alone_because.as_deref()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for because in reasons {
        let _ = writeln!(text, "without rte_acl: {because}");
    }
    let totals = totals(rows);
    let width = totals.iter().map(|total| total.what.len()).max().unwrap_or(0);
    for Total { what, figure, goal, standing } in totals {
        let _ = writeln!(text, "{what:<width$} {:>7}  {} {}", short(figure), goal.text(), standing.text());
    }
    text
}

fn cost(cost: &Cost) -> String {
    match &cost.rte_acl {
        Some(peer) => format!(
            "{:>6} {:>7} {:>5.2}  {:<11}",
            short(cost.nva_ns),
            short(peer.ns),
            peer.rate.median,
            format!("{:.2}..{:.2}", peer.rate.low, peer.rate.high)
        ),
        None => format!("{:>6} {:>7} {:>5}  {:<11}", short(cost.nva_ns), "-", "-", "-"),
    }
}

/// A figure with three places that say something.
fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Sets of a size: in ClassBench, one of a thousand rules has 850 to 1000.
fn has_size(row: &Row, size: usize) -> bool {
    (size / 2..size * 2).contains(&row.rules)
}

fn is_firewall(row: &Row) -> bool {
    row.set.contains("fw")
}

/// The figures over all sets.
fn totals(rows: &[Row]) -> Vec<Total> {
    let mut totals = Vec::new();
    let mut add = |what: String, figure: Option<f64>, goal: Goal| {
        let standing = |figure| if goal.is_met(figure) { Standing::Met } else { Standing::Missed };
        totals.extend(figure.map(|figure| Total { what, figure, goal, standing: standing(figure) }));
    };
    for (kind, is_hot) in [("hot", true), ("cold", false)] {
        let cost = |row: &Row| if is_hot { row.hot } else { row.cold };
        let rates = |which: &dyn Fn(&Row) -> bool| -> Vec<f64> {
            let rate = |row: &Row| cost(row).rte_acl.map(|peer| peer.rate.median);
            rows.iter().filter(|row| which(row)).filter_map(rate).collect()
        };
        let least = |rates: Vec<f64>| rates.into_iter().reduce(f64::min);
        add(
            format!("rate against rte_acl, {kind}, geometric mean"),
            geometric_mean(&rates(&|_| true)),
            Goal::AtLeast(1.5),
        );
        add(
            format!("rate against rte_acl, {kind}, least of the 1k sets"),
            least(rates(&|row| has_size(row, 1_000))),
            Goal::AtLeast(1.0),
        );
        add(
            format!("rate against rte_acl, {kind}, least of the 10k firewall sets"),
            least(rates(&|row| has_size(row, 10_000) && is_firewall(row))),
            Goal::AtLeast(2.5),
        );
    }
    let most_updates = |figure: fn(&Updates) -> f64| {
        let sets = rows.iter().filter(|row| has_size(row, 10_000));
        sets.filter_map(|row| row.updates.as_ref().map(figure)).reduce(f64::max)
    };
    add(
        "one of 10k rules changed, in force after, µs, p99, the longest".into(),
        most_updates(|updates| updates.p99_us),
        Goal::AtMost(100.0),
    );
    add(
        "look-ups in 10k rules while 1 000 a second change, times as long, the most".into(),
        most_updates(|updates| updates.changing_by_still.median),
        Goal::AtMost(1.05),
    );
    for (size, megabytes, milliseconds) in [(10_000, 32.0, 300.0), (100_000, 200.0, 3_000.0)] {
        let most = |figure: &dyn Fn(&Row) -> f64| {
            rows.iter().filter(|row| has_size(row, size)).map(figure).reduce(f64::max)
        };
        let k = size / 1_000;
        add(
            format!("memory of {k}k rules, MB, the most"),
            most(&|row| row.bytes as f64 / MB),
            Goal::AtMost(megabytes),
        );
        add(
            format!("building {k}k rules, ms, the longest"),
            most(&|row| row.build_ms),
            Goal::AtMost(milliseconds),
        );
    }
    totals
}

fn geometric_mean(figures: &[f64]) -> Option<f64> {
    let logarithms: f64 = figures.iter().map(|figure| figure.ln()).sum();
    (!figures.is_empty()).then(|| (logarithms / figures.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::super::PeerRow;
    use super::super::bench::Against;
    use super::super::verify::Verified;
    use super::*;
    use crate::compare::stats::Estimate;

    fn row(set: &str, rules: usize, rate: Option<f64>) -> Row {
        let cost = |nva_ns| Cost {
            nva_ns,
            rte_acl: rate.map(|rate| Against {
                ns: nva_ns * rate,
                rate: Estimate { low: rate - 0.1, median: rate, high: rate + 0.1 },
            }),
        };
        Row {
            set: set.into(),
            rules,
            linear: false,
            hot: cost(20.0),
            cold: cost(50.0),
            bytes: 4_000_000,
            build_ms: 310.0,
            updates: Some(Updates {
                p50_us: 20.0,
                p99_us: 60.0,
                still_ns: 50.0,
                changing_ns: 55.0,
                changing_by_still: Estimate { low: 1.05, median: 1.1, high: 1.15 },
                waited: 0,
                changes: 100,
            }),
            rte_acl: rate.map(|_| PeerRow { method: "avx512x32", bytes: 200_000_000, build_ms: 4_000.0 }),
            alone_because: rate.is_none().then(|| "of this test".into()),
            verified: Verified { by_trace: 10_000, by_linear: 20_000, by_rte_acl: 0 },
        }
    }

    #[test]
    fn goals_are_of_the_sets_that_they_name() {
        let rows = [row("acl1_1k", 942, Some(0.9)), row("fw1_10k", 9_379, Some(3.6)), row("x", 40, None)];
        let text = table(&rows);
        let words: Vec<&str> = text.split_whitespace().collect();
        for line in [
            "acl1_1k 942 20.0 18.0 0.90 0.80..1.00 50.0 45.0 0.90 0.80..1.00 4.00 200 310 4000 60.0 1.10",
            "in force after, µs, p99, the longest 60.0 <= 100 met",
            "answers verified, none differs: 30000 by traces, 60000 by the linear search, 0 by rte_acl",
            "rte_acl's fastest methods here: avx512x32 without rte_acl: of this test",
            "hot, geometric mean 1.80 >= 1.5 met",
            "hot, least of the 1k sets 0.90 >= 1 missed",
            "cold, least of the 10k firewall sets 3.60 >= 2.5 met",
            "memory of 10k rules, MB, the most 4.00 <= 32 met",
            "building 10k rules, ms, the longest 310 <= 300 missed",
        ] {
            assert!(words.join(" ").contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("100k"), "{text}");
        let json = serde_json::to_value(json(&rows)).unwrap();
        assert_eq!(json["sets"][1]["rte_acl"]["method"], "avx512x32");
        assert_eq!(json["goals"][1]["standing"], "missed");
    }
}
