//! What comparisons showed: a table for people, JSON for programs, progress on standard error.

use super::goal::{Goal, Standing};
use super::pairs::{Compared, Pairs, Relation, Taken};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

/// One figure of a comparison, as it is announced before it is taken.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// The comparison's name.
    pub(crate) comparison: &'static str,
    /// What is compared, and with whom.
    pub(crate) what: String,
    /// The unit of both sides.
    pub(crate) unit: &'static str,
    /// How a pair's figures become one.
    #[serde(rename = "compared_by")]
    pub(crate) relation: Relation,
    /// What it is held to.
    pub(crate) goal: Option<Goal>,
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    figure: Figure,
    #[serde(flatten)]
    outcome: Outcome,
    /// Every pair, void ones too.
    taken: Vec<Taken>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Measured {
        #[serde(flatten)]
        compared: Compared,
        pairs: usize,
        void_pairs: usize,
        void_because: String,
        standing: Option<Standing>,
    },
    /// More than half of the pairs were disturbed.
    NoResult {
        pairs: usize,
        void_pairs: usize,
        void_because: String,
    },
    Skipped {
        because: String,
    },
    Failed {
        because: String,
    },
}

impl Figure {
    /// The line that the pairs make of it; `index` is the figure's place in their shots.
    pub(crate) fn row(self, pairs: &Pairs, index: usize, seed: u64) -> Row {
        let (good, void_pairs) = pairs.counts();
        let void_because = pairs.reasons();
        let outcome = match pairs.compare(index, self.relation, seed) {
            Some(compared) => {
                let standing = self.goal.map(|goal| goal.standing(&compared.relation));
                Outcome::Measured { compared, pairs: good, void_pairs, void_because, standing }
            }
            None => Outcome::NoResult { pairs: good, void_pairs, void_because },
        };
        Row { figure: self, outcome, taken: pairs.taken(index) }
    }

    /// The line that says what went wrong.
    pub(crate) fn failed(self, because: String) -> Row {
        Row { figure: self, outcome: Outcome::Failed { because }, taken: Vec::new() }
    }

    /// The line that says why it was not taken.
    pub(crate) fn skipped(self, because: impl Into<String>) -> Row {
        Row { figure: self, outcome: Outcome::Skipped { because: because.into() }, taken: Vec::new() }
    }
}

impl Row {
    /// Whether something went wrong.
    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }

    /// Whether it has no result for the same reason as another line of its comparison.
    fn is_void_like(&self, other: &Self) -> bool {
        let Outcome::NoResult { pairs, void_pairs, void_because } = &self.outcome else { return false };
        self.figure.comparison == other.figure.comparison
            && matches!(&other.outcome, Outcome::NoResult { pairs: p, void_pairs: v, void_because: w }
                if p == pairs && v == void_pairs && w == void_because)
    }
}

/// All lines as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.figure.what.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "{:<9} {:<width$} {:>9} {:>9} {:<8} {:>6} {:>15} {:>6} {:>5} {:>8} {}\n",
        "name", "figure", "nva", "peer", "unit", "ratio", "90 %", "pairs", "void", "goal", ""
    );
    for (index, row) in rows.iter().enumerate() {
        if index.checked_sub(1).is_some_and(|before| row.is_void_like(&rows[before])) {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<9} {:<width$} no result, as above",
                row.figure.comparison, row.figure.what
            );
            continue;
        }
        let Figure { comparison, what, unit, relation, goal } = &row.figure;
        let goal = goal.map(Goal::text).unwrap_or_default();
        let _ = match &row.outcome {
            Outcome::Measured { compared, pairs, void_pairs, standing, .. } => {
                let e = compared.relation;
                let sign = if *relation == Relation::Difference { "+" } else { "" };
                let number = |value: f64| match relation {
                    Relation::Ratio | Relation::Ours => format!("{value:.2}"),
                    Relation::Difference => format!("{value:.1}"),
                };
                writeln!(
                    text,
                    "{comparison:<9} {what:<width$} {:>9} {:>9} {unit:<8} {:>6} {:>15} {pairs:>6} {void_pairs:>5} {goal:>8} {}",
                    short(compared.ours),
                    short(compared.peer),
                    format!("{sign}{}", number(e.median)),
                    format!("{}..{}", number(e.low), number(e.high)),
                    standing.map(Standing::text).unwrap_or_default(),
                )
            }
            Outcome::NoResult { pairs: 0, void_pairs: 0, .. } => {
                writeln!(text, "{comparison:<9} {what:<width$} no result: its time was over before")
            }
            Outcome::NoResult { pairs, void_pairs, void_because } => writeln!(
                text,
                "{comparison:<9} {what:<width$} no result: {void_pairs} of {} pairs void ({void_because})",
                pairs + void_pairs
            ),
            Outcome::Failed { because } => writeln!(text, "{comparison:<9} {what:<width$} failed: {because}"),
            Outcome::Skipped { because } => {
                writeln!(text, "{comparison:<9} {what:<width$} skipped: {because}")
            }
        };
    }
    let void = rows.iter().any(|row| matches!(row.outcome, Outcome::Measured { void_pairs: 1.., .. }));
    if void {
        text += "void pairs were disturbed and do not count; --json tells by what\n";
    }
    text
}

/// A figure with three places that say something.
fn short(figure: f64) -> String {
    match figure.abs() {
        // A side that has no such figure.
        size if size.is_nan() => "-".into(),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Shows on a terminal what is being done, in place of what was shown before; nothing where standard error is a file.
pub(crate) fn progress(what: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        // Whoever closed standard error does not want to know.
        let _ = write!(stderr, "\r\x1b[K{what}");
        let _ = stderr.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::pairs::Shot;
    use crate::compare::quiet::Disturbance;

    fn figure() -> Figure {
        Figure {
            comparison: "null",
            what: "floor".into(),
            unit: "ns",
            relation: Relation::Ratio,
            goal: Some(Goal::AtMost(1.2)),
        }
    }

    fn shot(figure: f64, disturbances: Vec<Disturbance>) -> Shot {
        Shot { figures: vec![figure], disturbances }
    }

    #[test]
    fn a_row_says_what_was_measured() {
        let mut pairs = Pairs::default();
        pairs.add(shot(5.5, vec![]), shot(5.0, vec![]), &[]);
        let row = figure().row(&pairs, 0, 1);
        let text = table(std::slice::from_ref(&row));
        assert!(text.contains("5.50      5.00 ns         1.10      1.10..1.10"), "{text}");
        assert!(text.trim_end().ends_with("<= 1.2 met"), "{text}");
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["outcome"], "measured");
        assert_eq!(json["standing"], "met");
        assert_eq!(json["goal"]["at_most"], 1.2);
        assert_eq!(json["relation"]["median"], 1.1);
    }

    #[test]
    fn void_and_skipped_are_said() {
        let mut pairs = Pairs::default();
        pairs.add(shot(5.5, vec![Disturbance::Waited(0.5)]), shot(5.0, vec![]), &[]);
        let void = || figure().row(&pairs, 0, 1);
        let rows = [void(), void(), figure().skipped("testpmd is not installed")];
        let text = table(&rows);
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["taken"][0]["void_because"][0], "waited for a core 50.0 %");
        assert!(text.contains("no result: 1 of 1 pairs void (waited for a core 50.0 %)"), "{text}");
        assert_eq!(text.matches("waited").count(), 1, "{text}");
        assert!(text.contains("no result, as above"), "{text}");
        assert!(text.contains("skipped: testpmd is not installed"), "{text}");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([1234.5, 12.34, 1.234, f64::NAN].map(short), ["1234", "12.3", "1.23", "-"]);
    }
}
