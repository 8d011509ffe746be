//! Where each key and element stands.

use super::{Node, Value};
use crate::Places;
use crate::report::Report;

/// The place of every key and every list element, by its path from the root.
pub(crate) fn places(root: &Node, report: &Report<'_>) -> Places {
    let mut places = Places::default();
    walk(root, &mut String::new(), report, &mut places);
    places
}

/// Adds what is below `node`, whose path is `path`. Recursive: a tree is not deep.
fn walk(node: &Node, path: &mut String, report: &Report<'_>, places: &mut Places) {
    let len = path.len();
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                if len > 0 {
                    path.push('.');
                }
                path.push_str(&entry.key);
                places.0.insert(path.clone(), report.location(entry.at));
                walk(&entry.node, path, report, places);
                path.truncate(len);
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                places.0.insert(path.clone(), report.location(item.at));
                walk(item, path, report, places);
                path.truncate(len);
            }
        }
        Value::Null | Value::Scalar { .. } | Value::Bad => {}
    }
}
