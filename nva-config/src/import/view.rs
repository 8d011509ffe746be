//! One object of an export, whichever tool spelt it: `sourcePortRange`, `SourcePortRange` and `source_port_range` are one key, and what stands
//! in `properties` counts as standing beside it.
//!
//! *Invariant:* a value that a template or a plan has yet to compute is refused where it is asked for, never guessed.

use std::cell::Cell;

use super::journal::{Journal, Spot};
use super::json::{Member, Node, Value};
use crate::report::quote;

/// A value with its path.
#[derive(Clone, Debug)]
pub(super) struct Item<'j> {
    pub(super) node: &'j Node,
    pub(super) spot: Spot,
    /// What a Terraform plan says of it: `true` where it is known only after apply.
    unknown: Option<&'j Node>,
}

/// An object whose keys are asked for by meaning.
#[derive(Debug)]
pub(super) struct Object<'j> {
    pub(super) spot: Spot,
    fields: Vec<Field<'j>>,
    /// How `properties` is written here.
    properties: &'j str,
    /// Keys that a plan knows only after apply: folded, and as written.
    later: Vec<(String, &'j str)>,
}

#[derive(Debug)]
struct Field<'j> {
    folded: String,
    /// It stands in `properties`.
    inner: bool,
    member: &'j Member,
    unknown: Option<&'j Node>,
    asked: Cell<bool>,
}

/// A key as it is compared: without case and underscores.
pub(super) fn fold(key: &str) -> String {
    key.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// The last part of a resource id, which is the resource's name.
pub(super) fn last_segment(id: &str) -> &str {
    id.trim_end_matches('/').rsplit('/').next().unwrap_or(id)
}

/// Whether a template engine has yet to compute the text. ARM escapes a text that only looks so with a second bracket.
pub(super) fn is_expression(text: &str) -> bool {
    (text.starts_with('[') && !text.starts_with("[[") && text.ends_with(']'))
        || text.contains("${")
        || text.contains("#{")
}

/// Nothing was given: null, an empty text, an empty list.
fn is_absent(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// The member of an object by its exact key.
pub(super) fn member<'j>(node: &'j Node, key: &str) -> Option<&'j Member> {
    match &node.value {
        Value::Object(members) => members.iter().find(|member| member.key == key),
        _ => None,
    }
}

/// The path of a key below `path`.
pub(super) fn below(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$' | '@'));
    let step =
        if plain { key.to_owned() } else { format!("[{:?}]", key.chars().take(80).collect::<String>()) };
    if path.is_empty() || !plain { format!("{path}{step}") } else { format!("{path}.{step}") }
}

impl<'j> Item<'j> {
    pub(super) fn root(node: &'j Node) -> Self {
        Self { node, spot: Spot { at: node.at, path: String::new() }, unknown: None }
    }

    /// The same with what a plan says of it.
    pub(super) fn planned(self, unknown: Option<&'j Node>) -> Self {
        Self { unknown, ..self }
    }

    /// A member by its exact key, where it is given.
    pub(super) fn key(&self, key: &str) -> Option<Self> {
        let found = member(self.node, key).filter(|found| !is_absent(&found.node))?;
        Some(Self {
            node: &found.node,
            spot: Spot { at: found.node.at, path: below(&self.spot.path, key) },
            unknown: None,
        })
    }

    /// The elements, each with its path; nothing for what is no list.
    pub(super) fn elements(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else { return Vec::new() };
        let unknown = |index: usize| match self.unknown.map(|node| &node.value) {
            Some(Value::List(items)) => items.get(index),
            _ => None,
        };
        let element = |(index, node): (usize, &'j Node)| Self {
            node,
            spot: Spot { at: node.at, path: format!("{}[{index}]", self.spot.path) },
            unknown: unknown(index),
        };
        items.iter().enumerate().map(element).collect()
    }

    /// The values of an object's keys, each with its key and path.
    pub(super) fn entries(&self) -> Vec<(&'j str, Self)> {
        let Value::Object(members) = &self.node.value else { return Vec::new() };
        let entry = |member: &'j Member| {
            let spot = Spot { at: member.node.at, path: below(&self.spot.path, &member.key) };
            (member.key.as_str(), Self { node: &member.node, spot, unknown: None })
        };
        members.iter().map(entry).collect()
    }

    /// The elements of a list of objects; PowerShell writes a list of one as its element.
    pub(super) fn objects(&self, journal: &mut Journal) -> Vec<Object<'j>> {
        match &self.node.value {
            Value::List(_) => self.elements().iter().filter_map(|item| item.object(journal)).collect(),
            Value::Object(_) => self.object(journal).into_iter().collect(),
            _ => {
                self.refuse("a list of objects is needed", journal);
                Vec::new()
            }
        }
    }

    /// The object that stands here.
    pub(super) fn object(&self, journal: &mut Journal) -> Option<Object<'j>> {
        if let Value::Object(_) = self.node.value {
            return Object::of(self, journal);
        }
        self.refuse("an object is needed", journal);
        None
    }

    /// The object that stands here, or else the texts.
    pub(super) fn object_or_texts(&self, journal: &mut Journal) -> Result<Object<'j>, Vec<(&'j str, Spot)>> {
        match self.node.value {
            Value::Object(_) => Object::of(self, journal).ok_or_else(Vec::new),
            _ => Err(self.texts(journal)),
        }
    }

    /// The resource that is meant here: by its id, as `{"id": …}`, or in Terraform by `name`.
    pub(super) fn reference(&self, journal: &mut Journal) -> Option<(&'j str, Spot)> {
        if let Value::Object(_) = self.node.value {
            let object = self.object(journal)?;
            let id = object.peek(&["id"]).or_else(|| object.peek(&["name"]));
            let Some(id) = id else {
                journal.problem(&self.spot, "`id` is missing; is this the whole export?");
                return None;
            };
            return Some((id.text(journal)?, id.spot));
        }
        Some((self.text(journal)?, self.spot.clone()))
    }

    /// The text that stands here, or a number as it is written.
    pub(super) fn text(&self, journal: &mut Journal) -> Option<&'j str> {
        match &self.node.value {
            Value::Text(text) if is_expression(text) => {
                self.refuse("", journal);
                None
            }
            Value::Text(text) => Some(text.strip_prefix("[[").map_or(text.as_str(), |_| &text[1..])),
            Value::Number(text) => Some(text),
            _ => {
                self.refuse("a text is needed", journal);
                None
            }
        }
    }

    /// The texts of a list, or the one that stands in place of a list.
    pub(super) fn texts(&self, journal: &mut Journal) -> Vec<(&'j str, Spot)> {
        let items = if let Value::List(_) = self.node.value { self.elements() } else { vec![self.clone()] };
        items.iter().filter_map(|item| Some((item.text(journal)?, item.spot.clone()))).collect()
    }

    /// A whole number in a range; exporters write some between quotes.
    pub(super) fn number(&self, min: u64, max: u64, journal: &mut Journal) -> Option<u64> {
        let is_text = matches!(&self.node.value, Value::Number(_) | Value::Text(_));
        if !is_text {
            self.refuse("a number is needed", journal);
            return None;
        }
        let text = self.text(journal)?;
        let digits = text.strip_suffix(".0").unwrap_or(text);
        let number = if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None };
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            journal.problem(
                &self.spot,
                format!("{} is out of range; a whole number from {min} to {max} is needed", quote(text)),
            );
        }
        number
    }

    /// True or false; exporters write some between quotes.
    pub(super) fn boolean(&self, journal: &mut Journal) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => {
                self.refuse("true or false is needed", journal);
                None
            }
        }
    }

    /// Says that something else is needed here, or why that cannot be known.
    pub(super) fn refuse(&self, needed: &str, journal: &mut Journal) {
        let message = match &self.node.value {
            Value::Text(text) if is_expression(text) => {
                format!(
                    "{} is a template expression, whose value is not in the file; export the deployed resource, or write the value out",
                    quote(text)
                )
            }
            Value::Text(text) if looks_cut(text) => {
                format!(
                    "{} stands for an object that was cut off; export it again with `ConvertTo-Json -Depth 20`",
                    quote(text)
                )
            }
            other => format!("{}; {needed}", other.found()),
        };
        journal.problem(&self.spot, message);
    }
}

/// What PowerShell writes for objects below the depth that it was asked for.
fn looks_cut(text: &str) -> bool {
    ["Microsoft.Azure.Commands.", "System.Collections.", "System.Object", "@{"]
        .iter()
        .any(|start| text.starts_with(start))
}

impl<'j> Object<'j> {
    /// The object with the keys of its `properties`.
    fn of(item: &Item<'j>, journal: &mut Journal) -> Option<Self> {
        let Value::Object(members) = &item.node.value else { return None };
        let mut object =
            Self { spot: item.spot.clone(), fields: Vec::new(), properties: "", later: Vec::new() };
        object.add(members, false, item.unknown);
        if let Some(inner) = members.iter().find(|member| fold(&member.key) == "properties") {
            object.properties = &inner.key;
            match &inner.node.value {
                Value::Object(members) => object.add(members, true, None),
                Value::Null => {}
                _ => Item {
                    node: &inner.node,
                    spot: Spot { at: inner.node.at, path: below(&item.spot.path, &inner.key) },
                    unknown: None,
                }
                .refuse("an object is needed", journal),
            }
        }
        object.refuse_twins(journal);
        Some(object)
    }

    fn add(&mut self, members: &'j [Member], inner: bool, unknown: Option<&'j Node>) {
        for entry in members {
            let folded = fold(&entry.key);
            if folded == "properties" && !inner {
                continue;
            }
            let unknown = unknown.and_then(|node| member(node, &entry.key)).map(|entry| &entry.node);
            self.fields.push(Field { folded, inner, member: entry, unknown, asked: Cell::new(false) });
        }
        if let Some(Value::Object(later)) = unknown.map(|node| &node.value) {
            let open = later.iter().filter(|entry| entry.node.value == Value::Bool(true));
            self.later.extend(open.map(|entry| (fold(&entry.key), entry.key.as_str())));
        }
    }

    /// The same key in two spellings would be a choice, and that is not made here.
    fn refuse_twins(&mut self, journal: &mut Journal) {
        let mut order: Vec<usize> = (0..self.fields.len()).collect();
        order.sort_by(|a, b| self.fields[*a].folded.cmp(&self.fields[*b].folded));
        for pair in order.windows(2) {
            let (one, other) = (&self.fields[pair[0]], &self.fields[pair[1]]);
            let given = !is_absent(&one.member.node) && !is_absent(&other.member.node);
            // Exact twins are found where duplicate keys are.
            let spelt_apart = one.inner != other.inner || one.member.key != other.member.key;
            if one.folded == other.folded
                && given
                && spelt_apart
                && one.member.node.value != other.member.node.value
            {
                journal.problem(
                    &self.spot_of(other),
                    format!("the key stands twice, also as {}; keep one", quote(&self.spot_of(one).path)),
                );
            }
        }
    }

    fn spot_of(&self, field: &Field<'j>) -> Spot {
        let path = if field.inner { below(&self.spot.path, self.properties) } else { self.spot.path.clone() };
        Spot { at: field.member.node.at, path: below(&path, &field.member.key) }
    }

    /// Whether a key was written, be it with a value or without.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.folded == name)
    }

    /// Whether a key was written with a value.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.folded == name && !is_absent(&field.member.node))
    }

    /// Whether the plan says that the key's value comes with apply.
    pub(super) fn is_later(&self, name: &str) -> bool {
        self.later.iter().any(|(later, _)| later == name)
    }

    /// The value of the first of these (folded) keys that is given.
    pub(super) fn peek(&self, names: &[&str]) -> Option<Item<'j>> {
        let mut found = None;
        for field in self.fields.iter().filter(|field| names.contains(&field.folded.as_str())) {
            field.asked.set(true);
            if found.is_none() && !is_absent(&field.member.node) {
                found = Some(Item {
                    node: &field.member.node,
                    spot: self.spot_of(field),
                    unknown: field.unknown,
                });
            }
        }
        found
    }

    /// As [`peek`](Self::peek); a value that is known only after apply is a problem.
    pub(super) fn get(&self, names: &[&str], journal: &mut Journal) -> Option<Item<'j>> {
        let found = self.peek(names);
        let later = self.later.iter().find(|(later, _)| names.contains(&later.as_str()));
        if let (None, Some((_, written))) = (&found, later) {
            let spot = Spot { at: self.spot.at, path: below(&self.spot.path, written) };
            journal.problem(&spot, "it is known only after apply; import the state after it");
        }
        found
    }

    /// A value that must be given.
    pub(super) fn need(&self, names: &[&str], written: &str, journal: &mut Journal) -> Option<Item<'j>> {
        if names.iter().any(|name| self.is_later(name)) {
            return self.get(names, journal);
        }
        let found = self.peek(names);
        if found.is_none() {
            journal.problem(&self.spot, format!("`{written}` is missing; is this the whole export?"));
        }
        found
    }

    pub(super) fn text(&self, names: &[&str], journal: &mut Journal) -> Option<&'j str> {
        self.get(names, journal)?.text(journal)
    }

    pub(super) fn boolean(&self, names: &[&str], journal: &mut Journal) -> Option<bool> {
        let item = self.get(names, journal)?;
        let value = item.boolean(journal)?;
        // One key may stand under its older name too.
        for name in names {
            if let Some(other) = self.peek(&[*name]).filter(|other| other.boolean(journal) == Some(!value)) {
                let message = format!(
                    "this says otherwise than `{}`, and which of them counts is not known; keep one",
                    item.spot.path
                );
                journal.problem(&other.spot, message);
            }
        }
        Some(value)
    }

    pub(super) fn objects(&self, names: &[&str], journal: &mut Journal) -> Vec<Object<'j>> {
        self.get(names, journal).map(|item| item.objects(journal)).unwrap_or_default()
    }

    /// The resource id that is given here: itself, or as `{"id": …}`.
    pub(super) fn reference(&self, names: &[&str], journal: &mut Journal) -> Option<(&'j str, Spot)> {
        self.get(names, journal)?.reference(journal)
    }

    /// The resource ids of a list.
    pub(super) fn references(&self, names: &[&str], journal: &mut Journal) -> Vec<(&'j str, Spot)> {
        let Some(item) = self.get(names, journal) else { return Vec::new() };
        let items = if let Value::List(_) = item.node.value { item.elements() } else { vec![item] };
        items.iter().filter_map(|item| item.reference(journal)).collect()
    }

    /// Notes these keys as having no meaning for a packet.
    pub(super) fn ignore(&self, names: &[&str], journal: &mut Journal) {
        for field in self.fields.iter().filter(|field| names.contains(&field.folded.as_str())) {
            field.asked.set(true);
            if !is_absent(&field.member.node) {
                journal.ignored(&self.spot_of(field));
            }
        }
    }

    /// Keys with a value that nobody has asked for.
    pub(super) fn unasked(&self) -> Vec<Spot> {
        let open = self.fields.iter().filter(|field| !field.asked.get() && !is_absent(&field.member.node));
        open.map(|field| self.spot_of(field)).collect()
    }

    /// Notes everything that nobody has asked for as ignored.
    pub(super) fn ignore_rest(&self, journal: &mut Journal) {
        for spot in self.unasked() {
            journal.ignored(&spot);
        }
    }
}

/// Refuses keys that stand twice in one object of the tree: which of them counts is not known.
pub(super) fn refuse_duplicates(root: &Node, journal: &mut Journal) {
    walk(root, &mut String::new(), journal);
}

/// Recursive: a tree is not deep.
fn walk(node: &Node, path: &mut String, journal: &mut Journal) {
    let len = path.len();
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate().filter(|(_, item)| is_nested(item)) {
                path.push_str(&format!("[{index}]"));
                walk(item, path, journal);
                path.truncate(len);
            }
        }
        Value::Object(members) => {
            let mut seen = std::collections::HashSet::with_capacity(members.len());
            for entry in members {
                let first = seen.insert(entry.key.as_str());
                if first && !is_nested(&entry.node) {
                    continue;
                }
                *path = below(path, &entry.key);
                if !first {
                    let spot = Spot { at: entry.at, path: path.clone() };
                    journal.problem(&spot, "the key stands twice in its object; keep one");
                }
                walk(&entry.node, path, journal);
                path.truncate(len);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}

const fn is_nested(node: &Node) -> bool {
    matches!(node.value, Value::List(_) | Value::Object(_))
}
