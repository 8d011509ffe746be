//! Terraform's files: the state (`terraform.tfstate`, version 4), and state or plan as `terraform show -json` prints them.

use super::find::{Finder, Kind};
use super::journal::Journal;
use super::json::{Node, Value};
use super::view::Item;

const TYPES: [(&str, Kind); 22] = [
    ("azurerm_network_security_group", Kind::Group),
    ("azurerm_network_security_rule", Kind::Rule),
    ("azurerm_virtual_network", Kind::Network),
    ("azurerm_virtual_network_peering", Kind::Peering),
    ("azurerm_subnet", Kind::Subnet),
    ("azurerm_network_interface", Kind::Interface),
    ("azurerm_application_security_group", Kind::MemberGroup),
    ("azurerm_public_ip", Kind::PublicAddress),
    ("azurerm_lb", Kind::Balancer),
    ("azurerm_lb_backend_address_pool", Kind::Pool),
    ("azurerm_lb_backend_address_pool_address", Kind::PoolAddress),
    ("azurerm_lb_probe", Kind::Probe),
    ("azurerm_lb_rule", Kind::BalancingRule),
    ("azurerm_lb_nat_rule", Kind::InboundNat),
    ("azurerm_lb_outbound_rule", Kind::OutboundRule),
    ("azurerm_route_table", Kind::RouteTable),
    ("azurerm_route", Kind::Route),
    ("azurerm_subnet_network_security_group_association", Kind::SubnetHasGroup),
    ("azurerm_network_interface_security_group_association", Kind::InterfaceHasGroup),
    ("azurerm_network_interface_application_security_group_association", Kind::InterfaceInMemberGroup),
    ("azurerm_network_interface_backend_address_pool_association", Kind::InterfaceInPool),
    ("azurerm_network_interface_nat_rule_association", Kind::InterfaceHasNat),
];

pub(super) fn kind_of(type_name: &str) -> Option<Kind> {
    TYPES.iter().find(|(name, _)| *name == type_name).map(|(_, kind)| *kind)
}

/// Whether it is one of Terraform's files.
pub(super) fn is_terraform(item: &Item<'_>) -> bool {
    item.key("terraform_version").is_some() || item.key("format_version").is_some()
}

/// All resources of the file.
pub(super) fn document<'j>(item: &Item<'j>, finder: &mut Finder<'j>, journal: &mut Journal) {
    if let Some(planned) = item.key("planned_values") {
        if let Some(errored) = item.key("errored").filter(|item| item.node.value == Value::Bool(true)) {
            journal.problem(&errored.spot, "the plan ended with an error, so it is not whole; plan again");
        }
        if let Some(complete) = item.key("complete").filter(|item| item.node.value == Value::Bool(false)) {
            journal.problem(
                &complete.spot,
                "the plan leaves something for later, so it is not whole; import the state",
            );
        }
        let changes = item.key("resource_changes").map(|item| item.elements()).unwrap_or_default();
        let unknown: std::collections::HashMap<&str, &Node> = changes
            .iter()
            .filter_map(|change| {
                Some((plain(change, "address")?, change.key("change")?.key("after_unknown")?.node))
            })
            .collect();
        if let Some(root) = planned.key("root_module") {
            module(&root, &|address| unknown.get(address).copied(), finder, journal);
        }
    } else if let Some(values) = item.key("values") {
        if let Some(root) = values.key("root_module") {
            module(&root, &|_| None, finder, journal);
        }
    } else if item.key("modules").is_some() {
        journal
            .problem(&item.spot, "this state is of a version before 4; write it with `terraform show -json`");
    } else {
        state(item, finder, journal);
    }
}

/// The text at a key, where it is one.
fn plain<'j>(item: &Item<'j>, key: &str) -> Option<&'j str> {
    match &item.key(key)?.node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// `resources[].instances[].attributes`.
fn state<'j>(item: &Item<'j>, finder: &mut Finder<'j>, journal: &mut Journal) {
    for resource in item.key("resources").map(|item| item.elements()).unwrap_or_default() {
        let Some(type_name) = type_of(&resource, journal) else { continue };
        let instances = resource.key("instances").map(|item| item.elements()).unwrap_or_default();
        for instance in instances {
            // What is kept under a deposed key is about to be destroyed.
            if instance.key("deposed").is_some() {
                journal.ignored_as(&instance.spot, "deposed");
                continue;
            }
            match instance.key("attributes") {
                Some(attributes) => add(type_name, &attributes, finder, journal),
                None => journal.problem(
                    &instance.spot,
                    "`attributes` is missing; write the state with `terraform show -json`",
                ),
            }
        }
    }
}

/// `resources[].values`, and the modules in it.
fn module<'j>(
    item: &Item<'j>,
    unknown: &dyn Fn(&str) -> Option<&'j Node>,
    finder: &mut Finder<'j>,
    journal: &mut Journal,
) {
    for resource in item.key("resources").map(|item| item.elements()).unwrap_or_default() {
        let Some(type_name) = type_of(&resource, journal) else { continue };
        let address = plain(&resource, "address").unwrap_or_default();
        match resource.key("values") {
            Some(values) => add(type_name, &values.planned(unknown(address)), finder, journal),
            None => journal.problem(&resource.spot, "`values` is missing; is this the whole file?"),
        }
    }
    for child in item.key("child_modules").map(|item| item.elements()).unwrap_or_default() {
        module(&child, unknown, finder, journal);
    }
}

fn type_of<'j>(resource: &Item<'j>, journal: &mut Journal) -> Option<&'j str> {
    let type_name = plain(resource, "type");
    if type_name.is_none() {
        journal.problem(&resource.spot, "`type` is missing; is this the whole file?");
    }
    type_name
}

fn add<'j>(type_name: &str, values: &Item<'j>, finder: &mut Finder<'j>, journal: &mut Journal) {
    if type_name == "azurerm_lb_nat_pool" {
        journal
            .left_out(&values.spot, "a NAT pool shares ports out over a scale set, which has no equivalent");
        return;
    }
    let Some(kind) = kind_of(type_name) else {
        if !finder.refuse_type(Some(type_name), &values.spot, journal) {
            journal.ignored_as(&values.spot, type_name);
        }
        return;
    };
    let Some(object) = values.object(journal) else { return };
    let parent_keys: &[&str] = match kind {
        Kind::Rule => &["networksecuritygroupname"],
        Kind::Subnet => &["virtualnetworkname"],
        Kind::Route => &["routetablename"],
        Kind::Pool | Kind::Probe | Kind::BalancingRule | Kind::InboundNat | Kind::OutboundRule => {
            &["loadbalancerid"]
        }
        _ => &[],
    };
    let parent = if parent_keys.is_empty() { None } else { object.text(parent_keys, journal) };
    let parent = parent.map(|text| super::view::last_segment(text).to_owned());
    finder.add(kind, object, parent, false);
}
