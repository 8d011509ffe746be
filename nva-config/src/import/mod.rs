//! Rules that already exist in the cloud, as the cloud's tools export them: from their JSON to the sections of this configuration.
//!
//! The way of an import: `json` reads the text, `find` the resources in it (an export, a list, a template, a Terraform state or plan), `view` makes every
//! spelling one; `site`, `rules` and `groups` say what is meant, in the `draft`s that `write` turns into text. `journal` keeps
//! what is said of each value.
//!
//! *Invariant:* no rule goes without a word. What cannot be expressed is left out with a note where less is let in without it, and is a
//! problem where more would be. The text that comes out is one that [`crate::load`] takes, and the same inputs give the same text.

mod balancers;
mod draft;
mod find;
mod groups;
mod journal;
mod json;
mod listeners;
mod names;
mod routes;
mod rules;
mod site;
mod tags;
mod terraform;
mod view;
mod write;

pub use journal::{Account, Ignored, Note};
pub(crate) use json::decode;

use std::fmt::Write;
use std::path::PathBuf;

use self::find::Resource;
use self::groups::Groups;
use self::journal::{Journal, Spot};
use self::site::Site;
use self::tags::Tags;
use crate::Source;

/// What an input was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Network security groups.
    Groups,
    /// Load balancers.
    Balancers,
    /// Who belongs to which application security group: interfaces, or a list by hand.
    Members,
    /// Route tables.
    Routes,
    /// The published service tags.
    Tags,
}

impl Role {
    /// What such an input must hold.
    const fn wanted(self) -> &'static str {
        match self {
            Self::Groups => "network security groups",
            Self::Balancers => "load balancers",
            Self::Members => "network interfaces, or a file such as {\"asg-web\": [\"10.2.0.4\"]}",
            Self::Routes => "route tables",
            Self::Tags => "service tags",
        }
    }
}

/// One file of an import.
#[derive(Clone, Debug)]
pub struct Input {
    /// What it was given for.
    pub role: Role,
    /// The file.
    pub source: Source,
}

/// How to import.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The configuration has the service tags that rules name: none is copied.
    pub keep_tags: bool,
}

/// What an import comes to.
#[derive(Clone, Debug)]
pub struct Import {
    /// The sections, as a configuration file. `None` where there is a problem.
    pub text: Option<String>,
    /// What is to be said of the inputs.
    pub account: Account,
}

/// Imports resources of the cloud called Azure.
///
/// Takes any bytes: it ends in bounded time and memory.
pub fn azure(inputs: &[Input], options: Options) -> Import {
    let mut journal = Journal::new(inputs.iter().map(|input| input.source.path.clone()).collect());
    let roots = read(inputs, &mut journal);
    let mut tags = Tags::new(options.keep_tags);
    let mut resources: Vec<Resource<'_>> = Vec::new();
    let mut maps = Vec::new();
    for (role, root) in &roots {
        if *role == Role::Tags {
            tags.publish(root, &mut journal);
            continue;
        }
        let before = journal.problems();
        let found = find::resources(root, *role, &mut journal);
        if found.is_empty() && journal.problems() == before {
            let spot = Spot { at: root.at, path: String::new() };
            journal
                .problem(&spot, format!("nothing to import is in it; give an export of {}", role.wanted()));
        }
        resources.extend(found.found);
        maps.extend(found.maps);
    }
    let roles: Vec<Role> = roots.iter().map(|(role, _)| *role).collect();
    let mut site = Site::collect(&resources, &maps, &mut journal);
    let groups = Groups::collect(&resources, &mut site, &mut journal);
    let (groups, mut network) = groups.finish(&site, &roles, &mut tags, &mut journal);
    let balancers = balancers::collect(&resources, &site, &mut journal);
    let (routes, prefixes) = routes::collect(&resources, &tags, &mut journal);
    network.route_prefixes = prefixes;
    tags.report(&mut journal);

    let mut text = header(inputs);
    write::network(&mut text, &network);
    write::groups(&mut text, &groups, &journal);
    write::balancers(&mut text, &balancers, &journal);
    if journal.is_clean() {
        check(&text, options, &mut journal);
    }
    // Next hops are on the links of ports, which the user's own files have.
    write::routes(&mut text, &routes);
    Import { text: journal.is_clean().then_some(text), account: journal.finish() }
}

/// The inputs as JSON; those that cannot be read are problems.
fn read(inputs: &[Input], journal: &mut Journal) -> Vec<(Role, json::Node)> {
    let mut roots = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let file = u32::try_from(index).unwrap_or(u32::MAX);
        let root = json::decode(file, &input.source.text).and_then(|text| json::parse(file, &text));
        match root {
            Ok(root) => {
                view::refuse_duplicates(&root, journal);
                roots.push((input.role, root));
            }
            Err((at, message)) => journal.problem(&Spot { at, path: String::new() }, message),
        }
    }
    roots
}

fn header(inputs: &[Input]) -> String {
    let mut text = String::from("# Made by `nva import azure` from:\n");
    for input in inputs {
        let _ = writeln!(text, "{}", write::comment(&format!("  {}", input.source.path.display())));
    }
    text.push_str("version: 1\n");
    text
}

/// What comes out is read once as the configuration that it is, so that whatever its checks refuse is said now.
fn check(text: &str, options: Options, journal: &mut Journal) {
    // Tags that the user's own files have are taken as known.
    let kept = if options.keep_tags { "service_tags: {file: tags}\n" } else { "" };
    let source = Source { path: PathBuf::from("imported"), text: format!("{text}{kept}").into() };
    let Err(problems) = crate::load(&[source], None) else { return };
    let lines: Vec<&str> = text.lines().collect();
    for problem in problems {
        let place = problem.location.line.saturating_sub(1);
        let line = lines.get(place).copied().unwrap_or_default().trim();
        let line: String = line.chars().take(120).collect();
        let spot = journal.origin(&write::path_at(&lines, place));
        journal.problem(
            &spot,
            format!("the configuration that comes out is refused at `{line}`: {}", problem.message),
        );
    }
}
