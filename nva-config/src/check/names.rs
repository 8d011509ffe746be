//! Names of one kind in one scope: each once, and to be found again. As in the cloud, case does not tell two names apart.

use std::collections::HashMap;

use crate::raw::Opt;
use crate::report::{At, Place, Report, list, nearest, quote};

/// Beyond so many names a message neither lists nor guesses.
const GUESS_MAX: usize = 64;
/// So many names are listed when none is near.
const LISTED_MAX: usize = 8;

/// The names of one kind.
pub(super) struct Names<'n> {
    kind: &'static str,
    /// By name in lower case.
    known: HashMap<String, (usize, Place)>,
    /// In the order of the file.
    ordered: Vec<&'n str>,
    /// A name that is not here is nowhere.
    complete: bool,
}

impl<'n> Names<'n> {
    /// The names of the elements of a list, by their index in it. One that is there twice is reported.
    pub(super) fn collect(
        kind: &'static str,
        names: impl IntoIterator<Item = &'n Opt<String>>,
        complete: bool,
        report: &mut Report<'_>,
    ) -> Self {
        let mut all = Self { kind, known: HashMap::new(), ordered: Vec::new(), complete };
        for (index, name) in names.into_iter().enumerate() {
            let Some(name) = name else {
                all.complete = false;
                continue;
            };
            let folded = name.value.to_ascii_lowercase();
            match all.known.get(&folded) {
                Some((_, first)) => {
                    let (first, name_) = (report.location(*first), quote(&name.value));
                    report.problem(name.at, format!("the {kind} name {name_} is taken at {first}; give each {kind} its own (case does not count)"));
                }
                None => {
                    all.known.insert(folded, (index, name.at));
                    all.ordered.push(&name.value);
                }
            }
        }
        all
    }

    /// The index of the element called so. A name of nothing is reported, unless the missing element may be one that was bad.
    pub(super) fn find(&self, name: &At<String>, report: &mut Report<'_>) -> Option<usize> {
        if let Some((index, _)) = self.known.get(&name.value.to_ascii_lowercase()) {
            return Some(*index);
        }
        if self.complete && report.is_full() {
            report.problem(name.at, "");
        } else if self.complete {
            let (kind, wrong) = (self.kind, quote(&name.value));
            report.problem(name.at, format!("there is no {kind} {wrong}; {}", self.suggest(&name.value)));
        }
        None
    }

    /// What could have been meant.
    fn suggest(&self, wrong: &str) -> String {
        let kind = self.kind;
        if self.ordered.is_empty() {
            return format!("no {kind} is declared here");
        }
        let guesses = if self.ordered.len() <= GUESS_MAX { self.ordered.as_slice() } else { &[] };
        match nearest(wrong, guesses.iter().copied()) {
            Some(meant) => format!("did you mean {}?", quote(meant)),
            None if self.ordered.len() <= LISTED_MAX => {
                format!("declared here: {}", list(self.ordered.iter().copied(), "and"))
            }
            None => format!("name one of the {} that are declared", self.ordered.len()),
        }
    }
}
