//! What an import says of its inputs: taken, different, left out, ignored, wrong; each with its place and its path in the JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::report::Place;
use crate::{Location, Problem};

/// So many notes of one kind are kept; the rest is counted.
const NOTES_MAX: usize = 100_000;
/// So many problems are kept.
const PROBLEMS_MAX: usize = 1000;

/// One sentence about one value of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where the value stands.
    pub location: Location,
    /// Its path from the root of the JSON, such as `properties.securityRules[3].properties.priority`; empty for the whole file.
    pub path: String,
    /// What is said of it. Of what was taken: where it went, as a path in the configuration.
    pub message: String,
}

/// Values without a meaning here, such as `etag`: all of one kind together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Where the first of them stands.
    pub location: Location,
    /// Their paths, with `[]` in place of indices.
    pub path: String,
    /// What they are, where the path does not tell: a resource's type.
    pub what: String,
    /// How many there are.
    pub count: usize,
}

/// Everything that is to be said of an import, in the order of the inputs and of what stands in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What went into the configuration.
    pub taken: Vec<Note>,
    /// What went into the configuration, but says something else there or is not all that the cloud does.
    pub differs: Vec<Note>,
    /// What has no equivalent, and without which less is let in, or the same.
    pub left_out: Vec<Note>,
    /// What has no meaning for a packet.
    pub ignored: Vec<Ignored>,
    /// What keeps the import from being made.
    pub problems: Vec<Note>,
    /// Notes of all kinds that were not kept, being too many.
    pub more: usize,
}

impl Account {
    /// The problems as the command line prints them.
    pub fn lines(&self) -> Vec<Problem> {
        self.problems.iter().map(Note::to_problem).collect()
    }
}

impl Note {
    /// The note as `FILE:LINE:COLUMN: PATH: MESSAGE`.
    pub fn to_problem(&self) -> Problem {
        let message = if self.path.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.path, self.message)
        };
        Problem { location: self.location.clone(), message }
    }
}

/// A value of an input: its place, and its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) at: Place,
    pub(super) path: String,
}

/// Collects notes in any order.
pub(super) struct Journal {
    files: Vec<PathBuf>,
    taken: Vec<(Spot, String)>,
    differs: Vec<(Spot, String)>,
    left_out: Vec<(Spot, String)>,
    ignored: BTreeMap<(u32, String, String), (Place, usize)>,
    problems: Vec<(Spot, String)>,
    more: usize,
}

impl Journal {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            taken: Vec::new(),
            differs: Vec::new(),
            left_out: Vec::new(),
            ignored: BTreeMap::new(),
            problems: Vec::new(),
            more: 0,
        }
    }

    pub(super) fn file(&self, index: u32) -> &Path {
        self.files.get(index as usize).map_or(Path::new(""), PathBuf::as_path)
    }

    /// It is `as_path` of the configuration now.
    pub(super) fn taken(&mut self, spot: &Spot, as_path: impl Into<String>) {
        push(&mut self.taken, &mut self.more, spot, as_path, NOTES_MAX);
    }

    pub(super) fn differs(&mut self, spot: &Spot, message: impl Into<String>) {
        push(&mut self.differs, &mut self.more, spot, message, NOTES_MAX);
    }

    pub(super) fn left_out(&mut self, spot: &Spot, message: impl Into<String>) {
        push(&mut self.left_out, &mut self.more, spot, message, NOTES_MAX);
    }

    pub(super) fn ignored(&mut self, spot: &Spot) {
        self.ignored_as(spot, "");
    }

    /// As [`ignored`](Self::ignored), saying what it is.
    pub(super) fn ignored_as(&mut self, spot: &Spot, what: &str) {
        let key = (spot.at.file, without_indices(&spot.path), what.to_owned());
        if self.ignored.len() >= NOTES_MAX && !self.ignored.contains_key(&key) {
            self.more += 1;
            return;
        }
        let entry = self.ignored.entry(key).or_insert((spot.at, 0));
        entry.0 = entry.0.min(spot.at);
        entry.1 += 1;
    }

    pub(super) fn problem(&mut self, spot: &Spot, message: impl Into<String>) {
        push(&mut self.problems, &mut self.more, spot, message, PROBLEMS_MAX);
    }

    /// Where in the inputs that stands which became this path of the configuration, or what is around it.
    pub(super) fn origin(&self, as_path: &str) -> Spot {
        let mut path = as_path;
        loop {
            let is_it = |taken: &str| {
                taken.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
            };
            if let Some((spot, _)) = self.taken.iter().find(|(_, taken)| is_it(taken)) {
                return spot.clone();
            }
            match path.rsplit_once('.') {
                Some((around, _)) => path = around,
                None => return Spot { at: Place { file: 0, line: 1, column: 1 }, path: String::new() },
            }
        }
    }

    /// How many problems there are so far.
    pub(super) fn problems(&self) -> usize {
        self.problems.len()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Everything by place; equal notes once.
    pub(super) fn finish(self) -> Account {
        let files = self.files;
        let location = |at: Place| Location {
            file: files.get(at.file as usize).cloned().unwrap_or_default(),
            line: at.line as usize,
            column: at.column as usize,
        };
        let sorted = |mut notes: Vec<(Spot, String)>| -> Vec<Note> {
            notes.sort();
            notes.dedup();
            let note = |(spot, message): (Spot, String)| Note {
                location: location(spot.at),
                path: spot.path,
                message,
            };
            notes.into_iter().map(note).collect()
        };
        let ignored = self.ignored.iter().map(|((_, path, what), (at, count))| Ignored {
            location: location(*at),
            path: path.clone(),
            what: what.clone(),
            count: *count,
        });
        Account {
            ignored: ignored.collect(),
            taken: sorted(self.taken),
            differs: sorted(self.differs),
            left_out: sorted(self.left_out),
            problems: sorted(self.problems),
            more: self.more,
        }
    }
}

fn push(
    notes: &mut Vec<(Spot, String)>,
    more: &mut usize,
    spot: &Spot,
    message: impl Into<String>,
    max: usize,
) {
    if notes.len() < max {
        notes.push((spot.clone(), message.into()));
    } else {
        *more += 1;
    }
}

/// `value[0].name` as `value[].name`.
fn without_indices(path: &str) -> String {
    let pieces = path.split('[').map(|piece| piece.trim_start_matches(|c: char| c.is_ascii_digit()));
    pieces.collect::<Vec<_>>().join("[")
}
