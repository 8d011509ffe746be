//! Places, and the list of what is wrong at them.

use std::path::{Path, PathBuf};

use crate::{Location, Problem, Source};

/// So many problems are kept; whoever has more first mends these. Bounds memory for hostile files.
const PROBLEMS_MAX: usize = 1000;
/// So many characters of a value are repeated in a message.
const QUOTED_MAX: usize = 60;

/// A place in one of the sources, small enough to stand beside every value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Index of the source.
    pub(crate) file: u32,
    /// From 1.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
}

/// A value with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands; for a default, where its mapping stands.
    pub(crate) at: Place,
}

/// Collects what is wrong, in any order.
pub(crate) struct Report<'a> {
    sources: &'a [Source],
    problems: Vec<(Place, String)>,
    warnings: Vec<(Place, String)>,
    /// Problems beyond the limit.
    more: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn new(sources: &'a [Source]) -> Self {
        Self { sources, problems: Vec::new(), warnings: Vec::new(), more: 0 }
    }

    /// Notes something that makes the configuration bad.
    pub(crate) fn problem(&mut self, at: Place, message: impl Into<String>) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.problems.push((at, message.into()));
        }
    }

    /// Notes something legal that is hardly meant.
    pub(crate) fn warn(&mut self, at: Place, message: impl Into<String>) {
        if self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push((at, message.into()));
        }
    }

    /// Whether more problems are counted only: their words need no care.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The place as the user is told it.
    pub(crate) fn location(&self, at: Place) -> Location {
        location(self.sources, at)
    }

    /// The sources' files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.sources.iter().map(|source| source.path.clone()).collect()
    }

    /// `name`, a path written at `at`, from the folder of the file that it is written in.
    pub(crate) fn resolve(&self, at: Place, name: &str) -> PathBuf {
        let file = self.sources.get(at.file as usize).map_or(Path::new(""), |s| &s.path);
        file.parent().unwrap_or(Path::new("")).join(name)
    }

    /// All problems by place, or the warnings by place when there is none.
    pub(crate) fn finish(mut self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(located(self.sources, self.warnings));
        }
        if self.more > 0 {
            let last = self.problems.iter().map(|(at, _)| *at).max().unwrap_or_default();
            self.problems
                .push((last, format!("{} more problems are not listed; mend these first", self.more)));
        }
        Err(located(self.sources, self.problems))
    }
}

/// Sorted by place; what stands at one place keeps its order.
fn located(sources: &[Source], mut notes: Vec<(Place, String)>) -> Vec<Problem> {
    notes.sort_by_key(|(at, _)| *at);
    notes.into_iter().map(|(at, message)| Problem { location: location(sources, at), message }).collect()
}

fn location(sources: &[Source], at: Place) -> Location {
    let file = sources.get(at.file as usize).map(|s| s.path.clone()).unwrap_or_default();
    Location { file, line: at.line as usize, column: at.column as usize }
}

/// A value in a message: between backticks, on one line, shortened.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    let mut chars = text.chars();
    for c in chars.by_ref().take(QUOTED_MAX) {
        if c.is_control() {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    if chars.next().is_some() {
        quoted.push('…');
    }
    quoted.push('`');
    quoted
}

/// `a, b and c` of quoted words, with this conjunction.
pub(crate) fn list<'w>(words: impl IntoIterator<Item = &'w str>, conjunction: &str) -> String {
    let mut words: Vec<String> = words.into_iter().map(quote).collect();
    match words.pop() {
        None => String::new(),
        Some(only) if words.is_empty() => only,
        Some(last) => format!("{} {conjunction} {last}", words.join(", ")),
    }
}

/// The candidate that was most likely meant by `word`: few letters away, or the same but for case.
pub(crate) fn nearest<'w>(word: &str, candidates: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let word: Vec<char> = word.chars().take(QUOTED_MAX).map(|c| c.to_ascii_lowercase()).collect();
    let limit = (word.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|c| c.len().abs_diff(word.len()) <= limit)
        .map(|c| (distance(&word, c), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Letters to insert, drop, replace or swap with their neighbour (optimal string alignment), ignoring case.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(ca != cb)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_key() {
        let keys = ["frontends", "pools", "probes", "rules"];
        assert_eq!(nearest("pool", keys), Some("pools"));
        assert_eq!(nearest("Rules", keys), Some("rules"));
        assert_eq!(nearest("rulse", keys), Some("rules"));
        assert_eq!(nearest("frontneds", keys), Some("frontends"));
        assert_eq!(nearest("gateway", keys), None);
        assert_eq!(nearest("", keys), None);
    }

    #[test]
    fn quoted_values_stay_on_one_short_line() {
        assert_eq!(quote("a\nb\u{7}"), "`a\\nb\\u{7}`");
        assert_eq!(quote(&"x".repeat(10_000)), format!("`{}…`", "x".repeat(60)));
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(list(["a"], "or"), "`a`");
        assert_eq!(list(["a", "b"], "or"), "`a` or `b`");
        assert_eq!(list(["a", "b", "c"], "and"), "`a`, `b` and `c`");
    }
}
