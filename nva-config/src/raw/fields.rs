//! Reading a mapping key by key: keys that nobody asked for are refused, required ones must be there.

use crate::report::{At, Place, Report, list, nearest, quote};
use crate::tree::{Entry, Node, Value};

/// A value that may be missing or bad. Bad ones are reported, so `None` needs no further word.
pub(crate) type Opt<T> = Option<At<T>>;

/// A list of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct List<T> {
    /// Where the list stands; for an absent one, its mapping.
    pub(crate) at: Place,
    /// The elements that could be read.
    pub(crate) items: Vec<T>,
    /// Nothing of it was bad: what is not in `items` is not in the file.
    pub(crate) complete: bool,
}

/// A mapping that is being read.
pub(super) struct Fields<'n> {
    /// Where it stands.
    pub(super) at: Place,
    entries: &'n [Entry],
    asked: Vec<&'static str>,
}

/// The keys of `node`; nothing at all counts as an empty mapping.
pub(super) fn fields<'n>(node: &'n Node, report: &mut Report<'_>) -> Option<Fields<'n>> {
    let entries: &[Entry] = match &node.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        Value::Bad => return None,
        other => {
            report.problem(node.at, format!("{}; a mapping is needed, such as `key: value`", other.found()));
            return None;
        }
    };
    Some(Fields { at: node.at, entries, asked: Vec::new() })
}

impl<'n> Fields<'n> {
    /// The entry of a legal key.
    fn ask(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.asked.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key that may be absent. Absent and bad are not told apart.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        read: impl FnOnce(&'n Node, &mut Report<'_>) -> Option<T>,
    ) -> Opt<T> {
        let node = &self.ask(key)?.node;
        read(node, report).map(|value| At { value, at: node.at })
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        read: impl FnOnce(&'n Node, &mut Report<'_>) -> Option<T>,
    ) -> Opt<T> {
        self.require(key, report);
        self.asked.pop();
        self.optional(key, report, read)
    }

    /// The value of a key that stands for `default` when absent.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        report: &mut Report<'_>,
        read: impl FnOnce(&'n Node, &mut Report<'_>) -> Option<T>,
    ) -> Opt<T> {
        if self.entries.iter().all(|entry| entry.key != key) {
            self.asked.push(key);
            return Some(At { value: default, at: self.at });
        }
        self.optional(key, report, read)
    }

    /// The elements of a list that may be absent.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        read: impl FnMut(&'n Node, &mut Report<'_>) -> Option<T>,
    ) -> List<T> {
        match self.ask(key) {
            Some(entry) => elements(&entry.node, report, read),
            None => List { at: self.at, items: Vec::new(), complete: !self.is_misspelt(key) },
        }
    }

    /// The elements of a list that must be there, with at least one.
    pub(super) fn filled_list<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        read: impl FnMut(&'n Node, &mut Report<'_>) -> Option<T>,
    ) -> List<T> {
        self.require(key, report);
        self.asked.pop();
        let list = self.list(key, report, read);
        if list.items.is_empty() && list.complete && self.entries.iter().any(|entry| entry.key == key) {
            report.problem(list.at, format!("`{key}` is empty; write at least one element"));
        }
        list
    }

    /// The elements of a list that may be absent, of which one can stand there alone.
    pub(super) fn one_or_list<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        mut read: impl FnMut(&'n Node, &mut Report<'_>) -> Option<T>,
    ) -> List<T> {
        match self.ask(key) {
            Some(Entry { node, .. }) if matches!(node.value, Value::Map(_) | Value::Null) => {
                let item = read(node, report);
                List { at: node.at, complete: item.is_some(), items: item.into_iter().collect() }
            }
            Some(entry) => elements(&entry.node, report, read),
            None => List { at: self.at, items: Vec::new(), complete: !self.is_misspelt(key) },
        }
    }

    /// A section that may be absent.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        read: impl FnOnce(&mut Fields<'n>, &mut Report<'_>) -> T,
    ) -> Option<T> {
        let node = &self.ask(key)?.node;
        let mut section = fields(node, report)?;
        let value = read(&mut section, report);
        section.finish(report);
        Some(value)
    }

    /// A section whose keys are names.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        report: &mut Report<'_>,
        read: impl FnMut(&'n Entry, &mut Report<'_>) -> T,
    ) -> Option<Vec<T>> {
        let entries = fields(&self.ask(key)?.node, report)?.entries;
        let mut read = read;
        Some(entries.iter().map(|entry| read(entry, report)).collect())
    }

    /// Says so when `key` is missing.
    fn require(&mut self, key: &'static str, report: &mut Report<'_>) {
        if self.ask(key).is_none() {
            // A misspelt key is reported as such, and once.
            if !self.is_misspelt(key) {
                report.problem(self.at, format!("the key `{key}` is missing; it has no default"));
            }
        }
    }

    /// Whether `key` was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Whether `key` was written, be it well or misspelt.
    pub(super) fn is_meant(&self, key: &str) -> bool {
        self.has(key) || self.is_misspelt(key)
    }

    /// Whether a key that nobody has asked for so far looks like `key`.
    fn is_misspelt(&self, key: &str) -> bool {
        let unknown = self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str()));
        unknown.into_iter().any(|entry| nearest(&entry.key, [key]).is_some())
    }

    /// Whether nothing was written.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Refuses the keys that were not asked for.
    pub(super) fn finish(self, report: &mut Report<'_>) {
        let mut unknown =
            self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())).peekable();
        if unknown.peek().is_none() {
            return;
        }
        let free: Vec<&str> = self.asked.iter().copied().filter(|asked| !self.has(asked)).collect();
        for entry in unknown {
            if report.is_full() {
                report.problem(entry.at, "");
                continue;
            }
            let key = quote(&entry.key);
            let message = match nearest(&entry.key, free.iter().copied()) {
                Some(meant) => format!("the key {key} is unknown; did you mean `{meant}`?"),
                None => format!(
                    "the key {key} is unknown; here stand {}",
                    list(self.asked.iter().copied(), "and")
                ),
            };
            report.problem(entry.at, message);
        }
    }
}

/// The elements of the list `node`; nothing at all counts as an empty list.
pub(super) fn elements<'n, T>(
    node: &'n Node,
    report: &mut Report<'_>,
    mut read: impl FnMut(&'n Node, &mut Report<'_>) -> Option<T>,
) -> List<T> {
    let mut list = List { at: node.at, items: Vec::new(), complete: true };
    let nodes = match &node.value {
        Value::List(nodes) => nodes.as_slice(),
        Value::Null => &[],
        Value::Bad => {
            list.complete = false;
            &[]
        }
        other => {
            report.problem(node.at, format!("{}; a list is needed, such as `[a, b]`", other.found()));
            list.complete = false;
            &[]
        }
    };
    for node in nodes {
        match read(node, report) {
            Some(item) => list.items.push(item),
            None => list.complete = false,
        }
    }
    list
}

/// An element with its place.
pub(super) fn placed<'n, T>(
    read: impl Fn(&'n Node, &mut Report<'_>) -> Option<T>,
) -> impl FnMut(&'n Node, &mut Report<'_>) -> Option<At<T>> {
    move |node, report| read(node, report).map(|value| At { value, at: node.at })
}
