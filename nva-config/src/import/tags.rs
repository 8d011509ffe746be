//! Service tags: what the published file and the expansions of effective rules say of the ones that rules name.

use std::collections::{BTreeMap, HashMap};

use super::journal::{Journal, Spot};
use super::json::{Node, Value};
use super::site::prefixes;
use super::view::Item;
use crate::check::platform_service;
use crate::model::Prefix;
use crate::report::quote;

/// A tag as an input says it.
struct Known {
    name: String,
    prefixes: Vec<Prefix>,
    spot: Spot,
}

/// The tags that rules may name, and those that they do.
pub(super) struct Tags {
    /// By name in lower case.
    published: HashMap<String, Known>,
    /// By name in lower case.
    expanded: HashMap<String, Known>,
    /// The configuration has the tags: names stay, and nothing is copied.
    keep: bool,
    used: BTreeMap<String, (Vec<Prefix>, Spot)>,
}

impl Tags {
    pub(super) fn new(keep: bool) -> Self {
        Self { published: HashMap::new(), expanded: HashMap::new(), keep, used: BTreeMap::new() }
    }

    /// Reads the cloud's published file: `values[].name` and `values[].properties.addressPrefixes`.
    pub(super) fn publish(&mut self, root: &Node, journal: &mut Journal) {
        let root = Item::root(root);
        let Some(values) = root.key("values").filter(|item| matches!(item.node.value, Value::List(_))) else {
            let message = "this is no list of service tags; it has values[].name and values[].properties.addressPrefixes";
            return journal.problem(&root.spot, message);
        };
        for tag in values.objects(journal) {
            let name = tag.need(&["name"], "name", journal).and_then(|item| item.text(journal));
            let Some(item) = tag.need(&["addressprefixes"], "addressPrefixes", journal) else { continue };
            let prefixes = prefixes(&item.texts(journal), journal);
            let Some(name) = name else { continue };
            let known = Known { name: name.to_owned(), prefixes, spot: tag.spot.clone() };
            match self.published.get(&name.to_ascii_lowercase()) {
                Some(other) if other.prefixes != known.prefixes => {
                    journal.problem(
                        &tag.spot,
                        format!(
                            "the tag {} is there twice, with different prefixes; give one file",
                            quote(name)
                        ),
                    );
                }
                _ => drop(self.published.insert(name.to_ascii_lowercase(), known)),
            }
        }
    }

    /// Takes what a tag of an effective rule was expanded to.
    pub(super) fn add_expansion(
        &mut self,
        name: &str,
        prefixes: Vec<Prefix>,
        spot: &Spot,
        journal: &mut Journal,
    ) {
        let known = Known { name: name.to_owned(), prefixes, spot: spot.clone() };
        match self.expanded.get(&name.to_ascii_lowercase()) {
            Some(other) if other.prefixes != known.prefixes => {
                journal.problem(spot, format!("the tag {} is expanded in two ways; import one interface's effective rules at a time", quote(name)));
            }
            _ => drop(self.expanded.insert(name.to_ascii_lowercase(), known)),
        }
    }

    /// The name of the tag that a rule names, as it is written here; the tag is copied.
    pub(super) fn name(&mut self, name: &str) -> Option<String> {
        let key = name.to_ascii_lowercase();
        let known = self.published.get(&key).or_else(|| self.expanded.get(&key));
        if self.keep {
            let kept = known.map_or(name, |known| &known.name).to_owned();
            return (known.is_some() || self.published.is_empty()).then_some(kept);
        }
        let Some(known) = known else {
            // Such a tag is known everywhere, and needs no copy.
            return platform_service(name).map(|tag| tag.name);
        };
        self.used.entry(known.name.clone()).or_insert_with(|| (known.prefixes.clone(), known.spot.clone()));
        Some(known.name.clone())
    }

    /// The prefixes of a tag, where they are known.
    pub(super) fn prefixes(&self, name: &str) -> Option<&[Prefix]> {
        self.published.get(&name.to_ascii_lowercase()).map(|known| known.prefixes.as_slice())
    }

    /// The tags that are copied, by name.
    pub(super) fn used(&self) -> Vec<(String, Vec<Prefix>)> {
        self.used.iter().map(|(name, (prefixes, _))| (name.clone(), prefixes.clone())).collect()
    }

    /// Says which tags were copied.
    pub(super) fn report(&self, journal: &mut Journal) {
        for (name, (_, spot)) in &self.used {
            journal.taken(spot, format!("service_tags.inline.{name}"));
        }
    }
}
