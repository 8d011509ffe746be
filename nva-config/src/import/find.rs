//! Which resources a file holds: one export, a list of them, a template, a Terraform state or plan.

use super::Role;
use super::journal::{Journal, Spot};
use super::json::{Node, Value};
use super::terraform;
use super::view::{Item, Object, fold, is_expression, last_segment};
use crate::report::quote;

/// What a resource is, as far as an import cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A network security group with its rules.
    Group,
    /// One rule on its own.
    Rule,
    /// The effective rules of an interface, from one group.
    EffectiveGroup,
    /// A virtual network.
    Network,
    /// What joins a virtual network to another one.
    Peering,
    Subnet,
    Interface,
    /// An application security group, which does not say its members.
    MemberGroup,
    PublicAddress,
    Balancer,
    /// Parts of a load balancer on their own.
    Pool,
    PoolAddress,
    Probe,
    BalancingRule,
    InboundNat,
    OutboundRule,
    RouteTable,
    Route,
    /// Terraform's joins: a group to a subnet, and what an interface belongs to.
    SubnetHasGroup,
    InterfaceHasGroup,
    InterfaceInMemberGroup,
    InterfaceInPool,
    InterfaceHasNat,
}

/// One resource of an input.
#[derive(Debug)]
pub(super) struct Resource<'j> {
    pub(super) kind: Kind,
    /// What its file was given for.
    pub(super) role: Role,
    pub(super) object: Object<'j>,
    /// Its name, where it has one.
    pub(super) name: Option<String>,
    /// The name of the resource that it is part of, where its place, type or id tells.
    pub(super) parent: Option<String>,
    /// Its resource id, folded.
    pub(super) id: Option<String>,
    /// It comes from a template, where a resource may be written in several pieces.
    pub(super) in_template: bool,
}

/// The cloud's types, in lower case.
const ARM: [(&str, Kind); 15] = [
    ("microsoft.network/networksecuritygroups", Kind::Group),
    ("microsoft.network/networksecuritygroups/securityrules", Kind::Rule),
    ("microsoft.network/networksecuritygroups/defaultsecurityrules", Kind::Rule),
    ("microsoft.network/virtualnetworks", Kind::Network),
    ("microsoft.network/virtualnetworks/virtualnetworkpeerings", Kind::Peering),
    ("microsoft.network/virtualnetworks/subnets", Kind::Subnet),
    ("microsoft.network/networkinterfaces", Kind::Interface),
    ("microsoft.network/applicationsecuritygroups", Kind::MemberGroup),
    ("microsoft.network/publicipaddresses", Kind::PublicAddress),
    ("microsoft.network/loadbalancers", Kind::Balancer),
    ("microsoft.network/loadbalancers/backendaddresspools", Kind::Pool),
    ("microsoft.network/loadbalancers/inboundnatrules", Kind::InboundNat),
    ("microsoft.network/loadbalancers/outboundrules", Kind::OutboundRule),
    ("microsoft.network/routetables", Kind::RouteTable),
    ("microsoft.network/routetables/routes", Kind::Route),
];

/// Types that decide about packets, that have no equivalent here, and that are not left out in silence.
const REFUSED: [(&str, &str); 3] = [
    (
        "microsoft.network/networkmanagers/securityadminconfigurations/rulecollections/rules",
        "security admin rules have no equivalent; remove it, and write its denials as rules of the groups",
    ),
    (
        "azurerm_network_manager_admin_rule",
        "security admin rules have no equivalent; remove it, and write its denials as rules of the groups",
    ),
    (
        "microsoft.resources/deployments",
        "what a nested deployment makes is not seen here; export the deployed resources",
    ),
];

/// The resources of one input, which stand in it in this order.
pub(super) fn resources<'j>(root: &'j Node, role: Role, journal: &mut Journal) -> Finder<'j> {
    let mut finder = Finder { role, found: Vec::new(), maps: Vec::new() };
    finder.document(&Item::root(root), journal);
    finder
}

/// The kind of a type of either tool.
pub(super) fn kind_of(type_name: &str) -> Option<Kind> {
    let lower = type_name.to_ascii_lowercase();
    let arm = ARM.iter().find(|(name, _)| *name == lower).map(|(_, kind)| *kind);
    arm.or_else(|| terraform::kind_of(&lower))
}

/// What was found so far.
pub(super) struct Finder<'j> {
    pub(super) role: Role,
    pub(super) found: Vec<Resource<'j>>,
    /// Lists of the members of application security groups, written by hand.
    pub(super) maps: Vec<Item<'j>>,
}

impl<'j> Finder<'j> {
    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.maps.is_empty()
    }

    fn document(&mut self, item: &Item<'j>, journal: &mut Journal) {
        if terraform::is_terraform(item) {
            return terraform::document(item, self, journal);
        }
        let is_template = item.key("resources").is_some()
            && (item.key("$schema").is_some() || item.key("contentVersion").is_some());
        if is_template {
            return self.template(item, "", None, journal);
        }
        self.exports(item, journal);
    }

    /// One export, a list of them, or a page of a list.
    fn exports(&mut self, item: &Item<'j>, journal: &mut Journal) {
        if let Value::List(_) = item.node.value {
            for element in item.elements() {
                self.exports(&element, journal);
            }
            return;
        }
        let names_itself = ["name", "Name", "id", "Id"].iter().any(|key| item.key(key).is_some());
        if let (Some(page), false) = (item.key("value"), names_itself) {
            if let Some(next) = item.key("nextLink") {
                journal.problem(&next.spot, "the list goes on in another page; export it whole");
            }
            return self.exports(&page, journal);
        }
        let Some(object) = item.object(journal) else { return };
        let type_name = object.peek(&["type"]).and_then(|item| match &item.node.value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        });
        let kind = type_name.and_then(kind_of).or_else(|| by_shape(&object));
        match kind {
            Some(kind) => self.add(kind, object, None, false),
            None if self.refuse_type(type_name, &object.spot, journal) => {}
            None if self.role == Role::Members && is_member_map(item) => self.maps.push(item.clone()),
            None => {
                // `az network nsg create` and its like wrap what they made in one key.
                if let [(_, inner)] = item.entries().as_slice()
                    && let Value::Object(_) = inner.node.value
                {
                    return self.exports(inner, journal);
                }
                let empty = matches!(&item.node.value, Value::Object(members) if members.is_empty());
                let what = type_name.map_or_else(|| "the object".to_owned(), quote);
                let why = if empty {
                    "the object is empty".to_owned()
                } else {
                    format!("{what} is no resource that is read here")
                };
                journal.problem(&object.spot, format!("{why}; give an export of {}", self.role.wanted()));
            }
        }
    }

    /// The resources of a template; `parent` is the type and name around nested ones.
    fn template(&mut self, item: &Item<'j>, parent_type: &str, parent: Option<&str>, journal: &mut Journal) {
        let Some(list) = item.key("resources") else { return };
        let items: Vec<Item<'j>> = match &list.node.value {
            Value::List(_) => list.elements(),
            Value::Object(_) => list.entries().into_iter().map(|(_, item)| item).collect(),
            _ => return list.refuse("a list of resources is needed", journal),
        };
        for item in items {
            self.template_resource(&item, parent_type, parent, journal);
        }
    }

    fn template_resource(
        &mut self,
        item: &Item<'j>,
        parent_type: &str,
        parent: Option<&str>,
        journal: &mut Journal,
    ) {
        let Some(object) = item.object(journal) else { return };
        let Some(type_name) = object.need(&["type"], "type", journal).and_then(|item| item.text(journal))
        else {
            return;
        };
        let whole =
            if parent_type.is_empty() { type_name.to_owned() } else { format!("{parent_type}/{type_name}") };
        let kind = kind_of(&whole);
        if kind.is_none() && !self.refuse_type(Some(&whole), &object.spot, journal) {
            journal.ignored_as(&object.spot, &whole);
        }
        let mut inner_name = None;
        if let Some(kind) = kind {
            for key in ["condition", "copy"] {
                if let Some(item) = object.peek(&[key])
                    && item.node.value != Value::Bool(true)
                {
                    let message = format!("`{key}` is computed at deployment; export the deployed resource");
                    journal.problem(&item.spot, message);
                }
            }
            let name = object.text(&["name"], journal).map(str::to_owned);
            inner_name = name.as_deref().map(|name| last_segment(name).to_owned());
            let before = name
                .as_deref()
                .and_then(|name| name.rsplit_once('/'))
                .map(|(before, _)| last_segment(before));
            let parent = before.or(parent).map(str::to_owned);
            self.add(kind, object, parent, true);
        }
        self.template(item, &whole, inner_name.as_deref(), journal);
    }

    /// Refuses a type that must not be passed over.
    pub(super) fn refuse_type(&self, type_name: Option<&str>, spot: &Spot, journal: &mut Journal) -> bool {
        let lower = type_name.unwrap_or_default().to_ascii_lowercase();
        let refused = REFUSED.iter().find(|(name, _)| *name == lower);
        if let Some((_, why)) = refused {
            journal.problem(spot, *why);
        }
        refused.is_some()
    }

    pub(super) fn add(&mut self, kind: Kind, object: Object<'j>, parent: Option<String>, in_template: bool) {
        let text = |names: &[&str]| match object.peek(names).map(|item| &item.node.value) {
            Some(Value::Text(text)) if !is_expression(text) => Some(text.clone()),
            _ => None,
        };
        let id = text(&["id"]).filter(|id| id.contains('/'));
        let name = text(&["name"]).or_else(|| id.clone()).map(|name| last_segment(&name).to_owned());
        // `…/networkSecurityGroups/web-nsg/securityRules/allow-https`
        let around =
            id.as_deref().map(|id| id.trim_end_matches('/').split('/').rev()).and_then(|mut parts| {
                let part_of = parts.nth(1).map(fold);
                let parent = parts.next()?;
                let is_part = matches!(
                    part_of?.as_str(),
                    "securityrules"
                        | "defaultsecurityrules"
                        | "subnets"
                        | "routes"
                        | "backendaddresspools"
                        | "probes"
                        | "loadbalancingrules"
                        | "inboundnatrules"
                        | "outboundrules"
                );
                is_part.then(|| parent.to_owned())
            });
        let parent = parent.or(around);
        self.found.push(Resource {
            kind,
            role: self.role,
            object,
            name,
            parent,
            id: id.map(|id| id.trim_end_matches('/').to_ascii_lowercase()),
            in_template,
        });
    }
}

/// What an object without a type must be.
fn by_shape(object: &Object<'_>) -> Option<Kind> {
    let has = |names: &[&str]| names.iter().any(|name| object.has(name));
    let all = |names: &[&str]| names.iter().all(|name| object.has(name));
    if has(&["effectivesecurityrules"]) {
        Some(Kind::EffectiveGroup)
    } else if has(&["loadbalancingrules", "backendaddresspools"]) {
        Some(Kind::Balancer)
    } else if has(&["securityrules", "securityrule"]) {
        Some(Kind::Group)
    } else if all(&["direction", "access", "priority"]) {
        Some(Kind::Rule)
    } else if has(&["ipconfigurations"]) {
        Some(Kind::Interface)
    } else if has(&["addressspace"]) {
        Some(Kind::Network)
    } else if has(&["nexthoptype"]) {
        Some(Kind::Route)
    } else if has(&["routes"]) {
        Some(Kind::RouteTable)
    } else if has(&["publicipallocationmethod"]) {
        Some(Kind::PublicAddress)
    } else if has(&["addressprefix", "addressprefixes"]) {
        Some(Kind::Subnet)
    } else {
        None
    }
}

/// Whether every value is a list of texts.
fn is_member_map(item: &Item<'_>) -> bool {
    let texts = |item: &Item<'_>| match &item.node.value {
        Value::List(items) => items.iter().all(|item| matches!(item.value, Value::Text(_))),
        _ => false,
    };
    let entries = item.entries();
    !entries.is_empty() && entries.iter().all(|(_, item)| texts(item))
}
