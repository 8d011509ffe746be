//! Text to tree, within limits.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::{Entry, Node, Value};
use crate::report::{Place, Report, quote};

/// Bytes of one file.
const SIZE_MAX: usize = 16 << 20;
/// Brackets, commas and the like. A bracket where a key could start makes the parser keep all that is in it, at some 400 bytes for each of these.
const INDICATORS_MAX: usize = 1_000_000;
/// Mappings and lists inside each other; the contract needs eight.
pub(super) const DEPTH_MAX: usize = 32;
/// So many keys of a mapping are compared one by one.
const FEW: usize = 16;
/// Values and keys of one file.
const NODES_MAX: usize = 500_000;

/// The text has no tree; the report says why.
pub(crate) struct Unreadable;

/// The tree of source number `file`: a mapping, or `None` for a text in which nothing stands.
pub(crate) fn parse(file: u32, bytes: &[u8], report: &mut Report<'_>) -> Result<Option<Node>, Unreadable> {
    let text = text(file, bytes, report).ok_or(Unreadable)?;
    let mut builder = Builder { file, end: end(text), open: Vec::new(), root: None, nodes: 0 };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, span, report),
            Err(error) => Err((builder.place(*error.marker()), explain(error.info()))),
        };
        if let Err((at, message)) = step {
            report.problem(at, message);
            return Err(Unreadable);
        }
    }
    let Some(root) = builder.root else { return Ok(None) };
    match root.value {
        Value::Map(_) => Ok(Some(root)),
        Value::Null => Ok(None),
        Value::Bad => Err(Unreadable),
        Value::Scalar { .. } | Value::List(_) => {
            let message =
                format!("{}; a configuration is a mapping of sections, such as `ports:`", root.value.found());
            report.problem(root.at, message);
            Err(Unreadable)
        }
    }
}

/// The bytes as text without a byte-order mark, when they are text of a fair size.
fn text<'t>(file: u32, bytes: &'t [u8], report: &mut Report<'_>) -> Option<&'t str> {
    if bytes.len() > SIZE_MAX {
        let message = format!("the file has {} bytes; at most {SIZE_MAX} are read", bytes.len());
        report.problem(Place { file, line: 1, column: 1 }, message);
        return None;
    }
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).and_then(|b| str::from_utf8(b).ok()).unwrap_or("");
            report.problem(Place { file, ..end(good) }, "the text is not UTF-8; save the file as UTF-8");
            return None;
        }
    };
    if let Some((before, _)) = text.split_once('\0') {
        report.problem(Place { file, ..end(before) }, "there is a NUL character; remove it");
        return None;
    }
    if indicators(text) > INDICATORS_MAX {
        let message = format!(
            "the file has too many values; at most {INDICATORS_MAX} brackets, commas and colons are read"
        );
        report.problem(Place { file, line: 1, column: 1 }, message);
        return None;
    }
    Some(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Characters that may separate values, wherever they stand.
fn indicators(text: &str) -> usize {
    let mut next = text.bytes().skip(1).chain([b'\n']);
    let mut count = 0;
    for byte in text.bytes() {
        let before_gap =
            next.next().is_some_and(|next| next.is_ascii_whitespace() || b",[]{}".contains(&next));
        count += usize::from(b",[]{}!&*?".contains(&byte) || (byte == b':' && before_gap));
    }
    count
}

/// The place just behind the last character, with the line breaks of YAML: LF, CR, or both.
fn end(text: &str) -> Place {
    let (mut line, mut column) = (1, 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' || (c == '\r' && chars.peek() != Some(&'\n')) {
            line += 1;
            column = 1;
        } else if c != '\r' {
            column += 1;
        }
    }
    Place { file: 0, line, column }
}

/// The parser's words for the mistakes that are made most, with what would be right.
fn explain(info: &str) -> String {
    let hint = match info {
        "mapping values are not allowed in this context" => {
            "check the indentation of this line and the one before, and put text that has `: ` in it between quotes"
        }
        "while parsing node, found unknown anchor" => "aliases are not used here, write the value out",
        "recursion limit exceeded" => return too_deep(),
        _ if info.contains("tab") => "indent with spaces",
        _ if info.contains("quoted scalar") => "close the quotes",
        _ => "check the indentation, brackets and quotes here and in the line before",
    };
    format!("this is no good YAML: {info}; {hint}")
}

fn too_deep() -> String {
    format!("values are nested too deep; at most {DEPTH_MAX} mappings and lists stand in each other")
}

/// A mapping or list whose end has not come yet.
enum Open {
    List { at: Place, items: Vec<Node> },
    Map { at: Place, entries: Vec<Entry>, seen: HashMap<String, Place>, key: Option<Key> },
}

/// A key that waits for its value.
struct Key {
    text: String,
    at: Place,
    /// It was reported; its value is read and dropped.
    bad: bool,
}

/// What ends the reading of a file.
type Fatal = (Place, String);

struct Builder {
    file: u32,
    /// Just behind the last character; no place is behind it.
    end: Place,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder {
    fn place(&self, mark: Marker) -> Place {
        let line = u32::try_from(mark.line()).unwrap_or(u32::MAX);
        let column = u32::try_from(mark.col()).unwrap_or(u32::MAX).saturating_add(1);
        if line > self.end.line {
            return Place { file: self.file, ..self.end };
        }
        Place { file: self.file, line: line.max(1), column }
    }

    fn take(&mut self, event: Event<'_>, span: Span, report: &mut Report<'_>) -> Result<(), Fatal> {
        let at = self.place(span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err((at, "a second document starts; write everything into one".to_owned()))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(_) => {
                report.problem(at, "aliases are not used here; write the value out");
                self.add(Node { at, value: Value::Bad }, report)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse(at, anchor, tag.is_some(), report);
                let plain = style == ScalarStyle::Plain;
                let value = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar { text: text.into_owned(), plain }
                };
                self.add(Node { at, value }, report)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some(), report);
                self.enter(at, Open::List { at, items: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some(), report);
                self.enter(at, Open::Map { at, entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { at, items }) => self.add(Node { at, value: Value::List(items) }, report),
                Some(Open::Map { at, entries, .. }) => {
                    self.add(Node { at, value: Value::Map(entries) }, report)
                }
                None => Ok(()),
            },
        }
    }

    /// Anchors and tags are reported; the value counts as if they were not there.
    fn refuse(&self, at: Place, anchor: usize, tag: bool, report: &mut Report<'_>) {
        if anchor != 0 {
            report.problem(at, "anchors are not used here; remove the `&name`");
        }
        if tag {
            report.problem(at, "tags are not used here; remove the `!tag`");
        }
    }

    fn enter(&mut self, at: Place, open: Open) -> Result<(), Fatal> {
        if self.open.len() >= DEPTH_MAX {
            return Err((at, too_deep()));
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a finished value where it belongs: the root, a list, or a mapping as a key or the value of one.
    fn add(&mut self, node: Node, report: &mut Report<'_>) -> Result<(), Fatal> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err((node.at, format!("the file has too many values; at most {NODES_MAX} are read")));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, seen, key, .. }) => match key.take() {
                None => *key = Some(read_key(node, entries, seen, report)),
                Some(Key { bad: true, .. }) => {}
                Some(Key { text, at, bad: false }) => entries.push(Entry { key: text, at, node }),
            },
        }
        Ok(())
    }
}

/// The key that `node` is: a scalar that is new in its mapping, of which these are the entries so far. `seen` has those keys that were
/// not looked for among the entries.
fn read_key(
    node: Node,
    entries: &[Entry],
    seen: &mut HashMap<String, Place>,
    report: &mut Report<'_>,
) -> Key {
    let at = node.at;
    let text = match node.value {
        Value::Scalar { text, .. } => text,
        Value::Bad => return Key { text: String::new(), at, bad: true },
        other => {
            report.problem(at, format!("{} stands where a key is needed; a key is a word", other.kind()));
            return Key { text: String::new(), at, bad: true };
        }
    };
    let few = entries.iter().take(FEW).find(|entry| entry.key == text).map(|entry| entry.at);
    if let Some(first) = few.or_else(|| seen.get(&text).copied()) {
        let first = report.location(first);
        report.problem(at, format!("the key {} stands twice, first at {first}; keep one", quote(&text)));
        return Key { text, at, bad: true };
    }
    if entries.len() >= FEW {
        seen.insert(text.clone(), at);
    }
    Key { text, at, bad: false }
}
