//! The text as a tree: mappings, lists and scalars, each with its place. Knows YAML, and nothing of what the keys mean.
//!
//! *Invariant:* a tree is at most [`parse::DEPTH_MAX`] deep, so walking it recursively is safe.

mod merge;
mod parse;
mod places;

pub(crate) use merge::merge;
pub(crate) use parse::{Unreadable, parse};
pub(crate) use places::places;

use crate::report::Place;

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) value: Value,
}

/// The four kinds of value, and one that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing was written, or `~` or `null`.
    Null,
    /// Text; `plain` when it stands without quotes.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, no key twice.
    Map(Vec<Entry>),
    /// Something that was reported already and that nothing more is to be said about.
    Bad,
}

/// One key of a mapping, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The place of the key.
    pub(crate) at: Place,
    pub(crate) node: Node,
}

impl Value {
    /// What a user calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "no value",
            Self::Scalar { .. } => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Bad => "a bad value",
        }
    }

    /// What a message says of it where something else is needed.
    pub(crate) fn found(&self) -> String {
        match self {
            Self::Null => "the value is missing".to_owned(),
            other => format!("this is {}", other.kind()),
        }
    }
}
