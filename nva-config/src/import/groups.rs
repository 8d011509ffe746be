//! Security groups: their rules from wherever they stand, and what the rules name.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::Role;
use super::draft::{Endpoint, Group, Interface, Network, Rule, Subnet};
use super::find::{Kind, Resource};
use super::journal::{Journal, Spot};
use super::names::Names;
use super::rules::{From, RuleReader};
use super::site::{Reference, Site};
use super::tags::Tags;
use super::view::{Object, last_segment};
use crate::model::{Access, Direction, Prefix};
use crate::report::quote;

/// A group while it is put together.
struct Open {
    spot: Spot,
    name: String,
    id: Option<String>,
    flush_connections: bool,
    rules: Vec<Rule>,
    /// Folded names of the rules, with their places in `rules`.
    by_name: HashMap<String, usize>,
    /// It was written as a whole.
    whole: bool,
    /// A plan knows the rules only after apply, unless they stand on their own.
    later: bool,
}

/// Everything about groups, before their rules' names are looked up.
#[derive(Default)]
pub(super) struct Groups {
    open: Vec<Open>,
    /// By name in lower case.
    index: HashMap<String, usize>,
    reader: RuleReader,
}

impl Groups {
    /// Reads the groups of all inputs that were given for them, and attaches them to the subnets and interfaces of `site`.
    pub(super) fn collect(resources: &[Resource<'_>], site: &mut Site, journal: &mut Journal) -> Self {
        let mut groups = Self::default();
        for resource in resources {
            match (resource.kind, resource.role) {
                (Kind::Group | Kind::EffectiveGroup, Role::Groups) => groups.group(resource, site, journal),
                (Kind::Group | Kind::EffectiveGroup | Kind::Rule, role) if role != Role::Groups => {
                    let message = "give the file with --nsg too, and its rules are taken";
                    journal.left_out(&resource.object.spot, message);
                }
                _ => {}
            }
        }
        for resource in resources.iter().filter(|r| r.kind == Kind::Rule && r.role == Role::Groups) {
            groups.single_rule(resource, journal);
        }
        for group in &groups.open {
            if group.later {
                journal
                    .problem(&group.spot, "the rules are known only after apply; import the state after it");
            }
            check_priorities(&group.rules, journal);
        }
        groups
    }

    fn group(&mut self, resource: &Resource<'_>, site: &mut Site, journal: &mut Journal) {
        let object = &resource.object;
        let effective = resource.kind == Kind::EffectiveGroup;
        let reference = if effective {
            object.reference(&["networksecuritygroup"], journal)
        } else {
            let name = object.get(&["name"], journal).and_then(|item| Some((item.text(journal)?, item.spot)));
            name.or_else(|| object.reference(&["id"], journal))
        };
        let Some((written, name_spot)) = reference else {
            let missing = if effective { "networkSecurityGroup" } else { "name" };
            let message =
                format!("`{missing}` is missing, so the group has no name; is this the whole export?");
            return journal.problem(&object.spot, message);
        };
        let id = if effective {
            Some(written.trim_end_matches('/').to_ascii_lowercase()).filter(|id| id.contains('/'))
        } else {
            resource.id.clone()
        };
        let name = last_segment(written).to_owned();
        let rules = self.rules(resource, journal);
        let flush = object.boolean(&["flushconnection"], journal).unwrap_or(false);
        let later = !object.has("securityrules") && object.is_later("securityrule");
        let mut open = Open {
            spot: name_spot,
            name,
            id,
            flush_connections: flush,
            rules: Vec::new(),
            by_name: HashMap::new(),
            whole: true,
            later,
        };
        for rule in rules {
            open.add(rule, journal);
        }
        let group =
            Reference { id: open.id.clone().unwrap_or_else(|| open.name.clone()), spot: object.spot.clone() };
        attach(object, &group, effective, site, journal);
        object.peek(&["id"]);
        object.ignore_rest(journal);
        self.merge(open, journal);
    }

    /// The rules that stand in the group.
    fn rules(&mut self, resource: &Resource<'_>, journal: &mut Journal) -> Vec<Rule> {
        let object = &resource.object;
        let lists = [
            (["securityrules", "securityrule"], From::Rules),
            (["defaultsecurityrules", "defaultsecurityrule"], From::Defaults),
            (["effectivesecurityrules", "effectivesecurityrule"], From::Effective),
        ];
        let given =
            lists.iter().any(|(names, _)| names.iter().any(|name| object.has(name) || object.is_later(name)));
        if !given && !resource.in_template {
            let message =
                "`securityRules` is missing; export the group whole, as `az network nsg show` prints it";
            journal.problem(&object.spot, message);
        }
        let mut rules = Vec::new();
        for (names, from) in lists {
            let objects = object.peek(&names).map(|item| item.objects(journal)).unwrap_or_default();
            rules.extend(objects.iter().filter_map(|rule| self.reader.read(rule, from, journal)));
        }
        rules
    }

    /// A rule that stands on its own, in a list or a template, or as a resource of Terraform's.
    fn single_rule(&mut self, resource: &Resource<'_>, journal: &mut Journal) {
        let object = &resource.object;
        let mut rule = self.reader.read(object, From::Rules, journal);
        if let (Some(rule), Some(name)) = (&mut rule, &resource.name) {
            // In a template the name has the group's before it.
            rule.name = last_segment(name).to_owned();
        }
        let Some(rule) = rule else { return };
        let Some(parent) = &resource.parent else {
            let message = "the rule does not say its group; export the group, or keep the rule's `id`";
            return journal.problem(&object.spot, message);
        };
        let place = *self.index.entry(parent.to_ascii_lowercase()).or_insert_with(|| {
            self.open.push(Open {
                spot: object.spot.clone(),
                name: parent.clone(),
                id: None,
                flush_connections: false,
                rules: Vec::new(),
                by_name: HashMap::new(),
                whole: false,
                later: false,
            });
            self.open.len() - 1
        });
        if let Some(group) = self.open.get_mut(place) {
            group.later = false;
            group.add(rule, journal);
        }
    }

    /// Adds a group that stands in the input as a whole.
    fn merge(&mut self, open: Open, journal: &mut Journal) {
        let key = open.name.to_ascii_lowercase();
        let Some(known) = self.index.get(&key).and_then(|place| self.open.get(*place)) else {
            self.index.insert(key, self.open.len());
            self.open.push(open);
            return;
        };
        let other = known.id.is_some() && open.id.is_some() && known.id != open.id;
        let same = known.rules.len() == open.rules.len()
            && open.rules.iter().all(|rule| known.rule(&rule.name).is_some_and(|twin| twin.same(rule)));
        if other {
            let message = format!(
                "another group is called {} too; import one at a time, and rename one",
                quote(&open.name)
            );
            journal.problem(&open.spot, message);
        } else if !same {
            let message = format!(
                "the group {} is in the input twice, with different rules; give it once",
                quote(&open.name)
            );
            journal.problem(&open.spot, message);
        } else {
            journal.ignored_as(&open.spot, "the same group again");
        }
    }

    /// The groups with every name of their rules looked up.
    ///
    /// `roles`: what the inputs were given for. Without groups, only who belongs to which application security group is of interest.
    pub(super) fn finish(
        mut self,
        site: &Site,
        roles: &[Role],
        tags: &mut Tags,
        journal: &mut Journal,
    ) -> (Vec<Group>, Network) {
        let mut network = Network::default();
        if !roles.contains(&Role::Groups) {
            if roles.contains(&Role::Members) {
                network.interfaces = Members::collect(site, journal).interfaces(journal);
            }
            return (Vec::new(), network);
        }
        network.address_space = site.address_space.iter().copied().collect();
        for (tag, prefixes, spot) in std::mem::take(&mut self.reader.expansions) {
            match tag.as_str() {
                "VirtualNetwork" => expand_network(&mut network, &prefixes, &spot, journal),
                "AzureLoadBalancer" | "Internet" => {}
                _ => tags.add_expansion(&tag, prefixes, &spot, journal),
            }
        }
        let mut members = Members::collect(site, journal);
        let mut names = Names::default();
        let mut written: HashMap<String, String> = HashMap::new();
        let mut groups = Vec::new();
        for open in self.open {
            let name = names.fit(&open.name, &open.spot, journal);
            written.insert(open.name.to_ascii_lowercase(), name.clone());
            journal.taken(&open.spot, format!("security_groups.{name}"));
            groups.push(open.finish(name, &mut members, tags, journal));
        }
        network.subnets = subnets(site, &written, journal);
        network.interfaces = members.interfaces(journal);
        attach_interfaces(&mut network.interfaces, site, &written, journal);
        network.tags = tags.used();
        (groups, network)
    }
}

impl Open {
    fn rule(&self, name: &str) -> Option<&Rule> {
        self.by_name.get(&name.to_ascii_lowercase()).and_then(|place| self.rules.get(*place))
    }

    /// Adds a rule; the same one again is passed over, another of its name is not.
    fn add(&mut self, rule: Rule, journal: &mut Journal) {
        if let Some(known) = self.rule(&rule.name) {
            if known.same(&rule) {
                journal.ignored_as(&rule.spot, "the same rule again");
            } else {
                journal.problem(
                    &rule.spot,
                    format!(
                        "another rule of the group is called {} too; give each its own name",
                        quote(&rule.name)
                    ),
                );
            }
            return;
        }
        self.by_name.insert(rule.name.to_ascii_lowercase(), self.rules.len());
        self.rules.push(rule);
    }

    fn finish(self, name: String, members: &mut Members, tags: &mut Tags, journal: &mut Journal) -> Group {
        let mut names = Names::default();
        let mut rules = Vec::new();
        for rule in self.rules {
            if let Some(rule) = resolve(rule, members, tags, journal) {
                let name = names.fit(&rule.name, &rule.spot, journal);
                rules.push(Rule { name, ..rule });
            }
        }
        rules.sort_by_key(|rule| (rule.direction == Direction::Outbound, rule.priority));
        for rule in &rules {
            journal.taken(&rule.spot, format!("security_groups.{name}.rules.{}", rule.name));
        }
        if !self.whole {
            journal.differs(
                &self.spot,
                format!(
                    "the group {} itself is not in the input, only rules of it; `flush_connections` is false",
                    quote(&self.name)
                ),
            );
        }
        Group { name, file: self.spot.at.file, flush_connections: self.flush_connections, rules }
    }
}

/// Each priority once in each direction: which of two rules decides is nowhere said.
fn check_priorities(rules: &[Rule], journal: &mut Journal) {
    let mut seen: HashMap<(Direction, u16), &str> = HashMap::new();
    for rule in rules {
        if let Some(first) = seen.get(&(rule.direction, rule.priority)) {
            let message = format!(
                "the priority {} is that of the {} rule {} too; give each its own",
                rule.priority,
                rule.direction,
                quote(first)
            );
            journal.problem(&rule.spot, message);
        }
        seen.entry((rule.direction, rule.priority)).or_insert(&rule.name);
    }
}

/// Notes where the group is attached.
fn attach(object: &Object<'_>, group: &Reference, effective: bool, site: &mut Site, journal: &mut Journal) {
    let mut subnets = Vec::new();
    let mut interfaces = Vec::new();
    if effective {
        if let Some(association) = object.objects(&["association"], journal).first() {
            subnets.extend(association.reference(&["subnet"], journal));
            interfaces.extend(association.reference(&["networkinterface"], journal));
            association.ignore_rest(journal);
        }
    } else {
        for subnet in object.objects(&["subnets"], journal) {
            if let Some(reference) = subnet.reference(&["id"], journal) {
                site.subnet(&subnet, Some(&reference.0.to_ascii_lowercase()), journal);
                subnets.push(reference);
            }
        }
        interfaces = object.references(&["networkinterfaces"], journal);
    }
    for (id, spot) in subnets {
        if !site.attach_subnet(id, group.clone()) {
            let message = format!(
                "the group is attached to the subnet {}, whose prefixes are not in the input; attach it under `virtual_network.subnets`, or give the virtual network's export with --nsg too",
                quote(last_segment(id))
            );
            journal.left_out(&spot, message);
        }
    }
    for (id, spot) in interfaces {
        if !site.attach_interface(id, group.clone()) {
            let message = format!(
                "the group is attached to the interface {}, whose addresses are not in the input; attach it under `virtual_network.interfaces`, or give the interface's export with --asg",
                quote(last_segment(id))
            );
            journal.left_out(&spot, message);
        }
    }
}

/// What an interface's effective rules say of the tag VirtualNetwork is the address space, peered networks and all.
fn expand_network(network: &mut Network, prefixes: &[Prefix], spot: &Spot, journal: &mut Journal) {
    let host = Prefix::host(IpAddr::from([168, 63, 129, 16]));
    for prefix in prefixes.iter().filter(|prefix| **prefix != host) {
        if prefix.len() == 0 {
            let message = format!(
                "the tag VirtualNetwork holds {prefix} in the cloud, by a default route of the user's own, and so every address; it is not taken into `virtual_network.address_space`"
            );
            journal.differs(spot, message);
        } else if !network.address_space.contains(prefix) {
            network.address_space.push(*prefix);
            journal.taken(spot, format!("virtual_network.address_space, {prefix}"));
        }
    }
    network.address_space.sort();
}

/// The rule with the names that the configuration has. One that cannot be expressed is left out where that lets in less, and stops the
/// import where it would let in more.
fn resolve(mut rule: Rule, members: &mut Members, tags: &mut Tags, journal: &mut Journal) -> Option<Rule> {
    let mut obstacles = Vec::new();
    let mut nobody = None;
    for side in [&mut rule.source, &mut rule.destination] {
        let mut kept = Vec::new();
        for endpoint in side.drain(..) {
            match endpoint {
                Endpoint::Tag(name) => match tags.name(&name) {
                    Some(name) => kept.push(Endpoint::Tag(name)),
                    None => obstacles.push(format!("the service tag {} is not known; give the published file with --tags, or say --keep-tags where the configuration has the tag", quote(&name))),
                },
                Endpoint::MemberGroup(id) => match members.find(&id, &rule.spot, journal) {
                    Found::Members(name) => kept.push(Endpoint::MemberGroup(name)),
                    Found::Nobody => nobody = Some(last_segment(&id).to_owned()),
                    Found::Unknown => obstacles.push(format!("no member of the application security group {0} is known; give the interfaces' export with --asg, or a file such as {{\"{0}\": [\"10.2.0.4\"]}}", last_segment(&id))),
                },
                other => kept.push(other),
            }
        }
        kept.sort();
        kept.dedup();
        if let (true, true, Some(group)) = (kept.is_empty(), obstacles.is_empty(), &nobody) {
            let message = format!(
                "the rule {} is for the application security group {} alone, which has no member, so it matches nothing",
                quote(&rule.name),
                quote(group)
            );
            journal.left_out(&rule.spot, message);
            return None;
        }
        *side = kept;
    }
    if obstacles.is_empty() {
        return Some(rule);
    }
    for obstacle in obstacles {
        if rule.access == Access::Deny {
            journal.problem(
                &rule.spot,
                format!("the rule {} denies, and cannot be written: {obstacle}", quote(&rule.name)),
            );
        } else {
            journal.left_out(
                &rule.spot,
                format!(
                    "the rule {} is left out, so what it allows is not let in: {obstacle}",
                    quote(&rule.name)
                ),
            );
        }
    }
    None
}

/// Who belongs to which application security group.
struct Members {
    /// By the group's name in lower case: its id, its name here, the addresses, and whether the list is known to be whole.
    groups: BTreeMap<String, MemberGroup>,
    names: Names,
    /// Where each membership stands in the inputs.
    taken: Vec<(Spot, IpAddr, String)>,
}

struct MemberGroup {
    id: String,
    name: String,
    addresses: Vec<IpAddr>,
    whole: bool,
}

/// What is known of a group.
enum Found {
    Members(String),
    Nobody,
    Unknown,
}

impl Members {
    fn collect(site: &Site, journal: &mut Journal) -> Self {
        let mut members = Self { groups: BTreeMap::new(), names: Names::default(), taken: Vec::new() };
        for listed in site.listed.values() {
            let spot = Spot { at: crate::report::Place::default(), path: String::new() };
            members.group(&listed.id, &spot, journal);
            if let Some(group) = members.groups.get_mut(&last_segment(&listed.id).to_ascii_lowercase()) {
                group.addresses.extend(&listed.addresses);
                group.whole = true;
            }
        }
        for interface in &site.interfaces {
            for configuration in &interface.configurations {
                for reference in configuration.member_of.iter().chain(&interface.member_of) {
                    members.group(&reference.id, &reference.spot, journal);
                    let key = last_segment(&reference.id).to_ascii_lowercase();
                    let Some(group) = members.groups.get_mut(&key) else { continue };
                    match configuration.address {
                        Some(address) => {
                            group.addresses.push(address);
                            members.taken.push((reference.spot.clone(), address, group.name.clone()));
                        }
                        None => journal.problem(&configuration.spot, "the interface is a member of an application security group, and its address is not in the input; export it when it has one"),
                    }
                }
            }
        }
        for group in members.groups.values_mut() {
            group.addresses.sort();
            group.addresses.dedup();
        }
        members
    }

    /// Makes sure that the group is known, and that no other has its name.
    fn group(&mut self, id: &str, spot: &Spot, journal: &mut Journal) {
        let key = last_segment(id).to_ascii_lowercase();
        match self.groups.get_mut(&key) {
            None => {
                let name = self.names.fit(last_segment(id), spot, journal);
                self.groups.insert(
                    key,
                    MemberGroup { id: id.to_owned(), name, addresses: Vec::new(), whole: false },
                );
            }
            Some(known) if !known.id.contains('/') => known.id = id.to_owned(),
            Some(known) if id.contains('/') && !known.id.eq_ignore_ascii_case(id) => {
                let message = format!(
                    "two application security groups are called {}; import one at a time",
                    quote(last_segment(id))
                );
                journal.problem(spot, message);
            }
            Some(_) => {}
        }
    }

    fn find(&mut self, id: &str, spot: &Spot, journal: &mut Journal) -> Found {
        self.group(id, spot, journal);
        match self.groups.get(&last_segment(id).to_ascii_lowercase()) {
            Some(group) if !group.addresses.is_empty() => Found::Members(group.name.clone()),
            Some(group) if group.whole => Found::Nobody,
            _ => Found::Unknown,
        }
    }

    /// The addresses that are members of a group, in their order.
    fn interfaces(&self, journal: &mut Journal) -> Vec<Interface> {
        let mut all: BTreeMap<IpAddr, Interface> = BTreeMap::new();
        for group in self.groups.values() {
            for address in &group.addresses {
                let blank = || Interface { address: *address, group: None, member_of: Vec::new() };
                all.entry(*address).or_insert_with(blank).member_of.push(group.name.clone());
            }
        }
        for (spot, address, name) in &self.taken {
            journal.taken(spot, format!("virtual_network.interfaces.{address}, member of {name}"));
        }
        all.into_values().collect()
    }
}

/// Adds the interfaces' own groups.
fn attach_interfaces(
    interfaces: &mut Vec<Interface>,
    site: &Site,
    written: &HashMap<String, String>,
    journal: &mut Journal,
) {
    let mut all: BTreeMap<IpAddr, Interface> =
        std::mem::take(interfaces).into_iter().map(|interface| (interface.address, interface)).collect();
    for interface in &site.interfaces {
        let whose = format!("interface {}", quote(&interface.name));
        let Some(group) = attached(&interface.groups, written, &whose, journal) else { continue };
        for configuration in &interface.configurations {
            let Some(address) = configuration.address else { continue };
            let blank = || Interface { address, group: None, member_of: Vec::new() };
            let entry = all.entry(address).or_insert_with(blank);
            if entry.group.as_ref().is_some_and(|other| *other != group) {
                let message = format!(
                    "{address} is the address of another interface too, with another group; import one network at a time"
                );
                journal.problem(&configuration.spot, message);
            }
            entry.group = Some(group.clone());
            journal.taken(&configuration.spot, format!("virtual_network.interfaces.{address}"));
        }
        if interface.configurations.iter().all(|configuration| configuration.address.is_none())
            && let Some(reference) = interface.groups.first()
        {
            let message = format!(
                "the {whose} has the group {} and no address in the input; attach it under `virtual_network.interfaces`",
                quote(&group)
            );
            journal.left_out(&reference.spot, message);
        }
    }
    *interfaces = all.into_values().collect();
}

/// The one group of a subnet or interface, by its name here.
fn attached(
    groups: &[Reference],
    written: &HashMap<String, String>,
    whose: &str,
    journal: &mut Journal,
) -> Option<String> {
    let mut found: Option<String> = None;
    for reference in groups {
        let name = last_segment(&reference.id);
        match written.get(&name.to_ascii_lowercase()) {
            None => journal.problem(
                &reference.spot,
                format!(
                    "the {whose} has the group {}, which is not in the input; give it with --nsg",
                    quote(name)
                ),
            ),
            Some(name) if found.as_ref().is_some_and(|found| found != name) => {
                journal.problem(
                    &reference.spot,
                    format!("the {whose} has two groups, {} among them; it can have one", quote(name)),
                );
            }
            Some(name) => found = Some(name.clone()),
        }
    }
    found
}

fn subnets(site: &Site, written: &HashMap<String, String>, journal: &mut Journal) -> Vec<Subnet> {
    let mut names = Names::default();
    let mut subnets = Vec::new();
    for subnet in &site.subnets {
        let name = names.fit(&subnet.name, &subnet.spot, journal);
        let group = attached(&subnet.groups, written, &format!("subnet {}", quote(&subnet.name)), journal);
        journal.taken(&subnet.spot, format!("virtual_network.subnets.{name}"));
        subnets.push(Subnet { name, prefixes: subnet.prefixes.clone(), group });
    }
    subnets
}
