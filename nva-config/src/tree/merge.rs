//! Several files as one.

use super::{Entry, Node, Value};
use crate::report::{Place, Report, quote};

/// The roots of all files taken together: mappings key by key, lists end to end; the same single value twice is a problem.
/// Each file may say its `version`, as long as all say the same.
pub(crate) fn merge(roots: impl IntoIterator<Item = Node>, report: &mut Report<'_>) -> Node {
    let mut whole: Option<Node> = None;
    for root in roots {
        match &mut whole {
            None => whole = Some(root),
            Some(whole) => join_roots(whole, root, report),
        }
    }
    whole.unwrap_or(Node { at: Place { file: 0, line: 1, column: 1 }, value: Value::Map(Vec::new()) })
}

fn join_roots(whole: &mut Node, mut other: Node, report: &mut Report<'_>) {
    if let (Value::Map(entries), Value::Map(others)) = (&whole.value, &mut other.value) {
        others.retain(|entry| entry.key != "version" || !entries.iter().any(|e| same_version(e, entry)));
    }
    join("", whole, other, report);
}

fn same_version(a: &Entry, b: &Entry) -> bool {
    match (&a.node.value, &b.node.value) {
        (Value::Scalar { text: x, plain: p }, Value::Scalar { text: y, plain: q }) => {
            a.key == b.key && (x, p) == (y, q)
        }
        _ => false,
    }
}

/// Adds `other` to `node`, both being the value of `key`. Recursive: a tree is not deep.
fn join(key: &str, node: &mut Node, other: Node, report: &mut Report<'_>) {
    match (&mut node.value, other.value) {
        (Value::Map(entries), Value::Map(others)) => {
            // By sorted index, so that two long mappings are joined in fair time.
            let mut known: Vec<usize> = (0..entries.len()).collect();
            known.sort_by(|a, b| entries[*a].key.cmp(&entries[*b].key));
            for other in others {
                match known.binary_search_by(|i| entries[*i].key.as_str().cmp(&other.key)) {
                    Ok(found) => {
                        let entry = &mut entries[known[found]];
                        join(&other.key, &mut entry.node, other.node, report);
                    }
                    Err(_) => entries.push(other),
                }
            }
        }
        (Value::List(items), Value::List(others)) => items.extend(others),
        (_, Value::Null | Value::Bad) => {}
        (Value::Null, value) => *node = Node { at: other.at, value },
        (Value::Bad, _) => {}
        (Value::Scalar { .. }, Value::Scalar { .. }) => {
            let first = report.location(node.at);
            report.problem(other.at, format!("{} is given twice, first at {first}; keep one", quote(key)));
        }
        (here, there) => {
            let (first, here) = (report.location(node.at), here.kind());
            report.problem(
                other.at,
                format!(
                    "{} is {} here and {here} at {first}; write it the same way",
                    quote(key),
                    there.kind()
                ),
            );
        }
    }
}
