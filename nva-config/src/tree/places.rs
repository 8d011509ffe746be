//! Where each key and element stands.

use super::{Node, Value};
use crate::report::{Place, Report};
use crate::{Location, Places};
use std::sync::Arc;

/// The place of every key and every list element, by its path from the root. The values themselves are dropped.
pub(crate) fn places(mut root: Node, report: &Report<'_>) -> Places {
    strip(&mut root);
    Places { files: report.files(), root: Some(Arc::new(root)) }
}

/// Drops what scalars say. Recursive: a tree is not deep.
fn strip(node: &mut Node) {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().for_each(|entry| strip(&mut entry.node)),
        Value::List(items) => items.iter_mut().for_each(strip),
        value @ Value::Scalar { .. } => *value = Value::Null,
        Value::Null | Value::Bad => {}
    }
}

impl Places {
    /// The place of a key path such as `gateway` or `load_balancers[0].rules[1].syn_proxy`, if the files have it.
    pub fn get(&self, path: &str) -> Option<Location> {
        self.location(find(self.root.as_deref()?, path)?)
    }

    /// Every path with its place, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = (String, Location)> {
        let mut all = Vec::new();
        if let Some(root) = &self.root {
            walk(root, &mut String::new(), &mut |path, at| {
                all.extend(self.location(at).map(|location| (path.to_owned(), location)));
            });
        }
        all.into_iter()
    }

    fn location(&self, at: Place) -> Option<Location> {
        let file = self.files.get(at.file as usize).cloned().unwrap_or_default();
        Some(Location { file, line: at.line as usize, column: at.column as usize })
    }
}

/// The place of what a path leads to from here. Recursive: a tree is not deep.
fn find(node: &Node, path: &str) -> Option<Place> {
    match &node.value {
        Value::Map(entries) => entries.iter().find_map(|entry| {
            // Names, which are keys too, may have dots in them.
            find_below(entry.at, &entry.node, path.strip_prefix(&*entry.key)?)
        }),
        Value::List(items) => {
            let (number, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(number.parse::<usize>().ok().filter(|n| n.to_string() == number)?)?;
            find_below(item.at, item, rest)
        }
        Value::Null | Value::Scalar { .. } | Value::Bad => None,
    }
}

/// The same for what is left of a path that has led to a node, whose key or element stands at `at`.
fn find_below(at: Place, node: &Node, rest: &str) -> Option<Place> {
    match rest.strip_prefix('.') {
        _ if rest.is_empty() => Some(at),
        Some(below) => find(node, below),
        None if rest.starts_with('[') => find(node, rest),
        None => None,
    }
}

/// Tells of what is below `node`, whose path is `path`. Recursive: a tree is not deep.
fn walk(node: &Node, path: &mut String, tell: &mut dyn FnMut(&str, Place)) {
    let len = path.len();
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                if len > 0 {
                    path.push('.');
                }
                path.push_str(&entry.key);
                tell(path, entry.at);
                walk(&entry.node, path, tell);
                path.truncate(len);
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                tell(path, item.at);
                walk(item, path, tell);
                path.truncate(len);
            }
        }
        Value::Null | Value::Scalar { .. } | Value::Bad => {}
    }
}
