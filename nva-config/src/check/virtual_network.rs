//! Subnets, interfaces and the application security groups that interfaces are members of.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Once;
use super::names::Names;
use crate::model::{GroupIndex, Interface, Prefix, Subnet, VirtualNetwork};
use crate::raw::{self, List, Raw};
use crate::report::{At, Place, Report, list, nearest, quote};

/// The application security groups that have members.
pub(super) struct Members {
    /// By name in lower case, the index into [`VirtualNetwork::application_security_groups`].
    known: HashMap<String, usize>,
    names: Vec<String>,
    /// A group that is not here has no member.
    complete: bool,
}

impl Members {
    fn add(&mut self, name: &str) -> usize {
        let folded = name.to_ascii_lowercase();
        if let Some(index) = self.known.get(&folded) {
            return *index;
        }
        let index = self.names.len();
        self.known.insert(folded, index);
        self.names.push(name.to_owned());
        index
    }

    /// The group's index; a group without members is reported.
    pub(super) fn find(&self, name: &str, at: Place, report: &mut Report<'_>) -> Option<usize> {
        let found = self.known.get(&name.to_ascii_lowercase()).copied();
        if found.is_none() && self.complete && report.is_full() {
            report.problem(at, "");
        } else if found.is_none() && self.complete {
            let wrong = quote(name);
            let names = || self.names.iter().take(64).map(String::as_str);
            let right = match nearest(name, names()) {
                Some(meant) => format!("did you mean {}?", quote(&format!("asg:{meant}"))),
                None if self.names.is_empty() => "make an interface of `virtual_network` a member".to_owned(),
                None => format!("groups with members are {}", list(names().take(8), "and")),
            };
            report.problem(
                at,
                format!("no interface is a member of the application security group {wrong}; {right}"),
            );
        }
        found
    }
}

/// Checks the section; an absent one is empty.
pub(super) fn check(raw: &Raw, groups: &Names<'_>, report: &mut Report<'_>) -> (VirtualNetwork, Members) {
    let mut members = Members { known: HashMap::new(), names: Vec::new(), complete: true };
    let Some(section) = &raw.virtual_network else {
        // Absent, or bad and reported.
        members.complete &= !raw.virtual_network_given;
        return (VirtualNetwork::default(), members);
    };
    members.complete &= section.interfaces.complete;
    let subnets = subnets(&section.subnets, groups, report);
    let interfaces = interfaces(&section.interfaces, groups, &mut members, report);
    let network = VirtualNetwork {
        address_space: section.address_space.items.concat(),
        route_prefixes: route_prefixes(&section.route_prefixes, report),
        subnets,
        interfaces,
        application_security_groups: members.names.clone(),
    };
    (network, members)
}

/// A default route among them makes the tag stand for every address, as in the cloud, where it is seldom meant.
fn route_prefixes(raw: &List<At<Vec<Prefix>>>, report: &mut Report<'_>) -> Vec<Prefix> {
    for entry in &raw.items {
        if let Some(prefix) = entry.value.iter().find(|prefix| prefix.len() == 0) {
            let message = format!(
                "with {prefix} the tag VirtualNetwork stands for every address of its family, and Internet for none; leave it out unless that is meant"
            );
            report.warn(entry.at, message);
        }
    }
    raw.items.iter().flat_map(|entry| entry.value.iter().copied()).collect()
}

fn group(name: Option<&At<String>>, groups: &Names<'_>, report: &mut Report<'_>) -> Option<GroupIndex> {
    name.and_then(|name| groups.find(name, report)).map(GroupIndex)
}

fn subnets(raw: &List<raw::Subnet>, groups: &Names<'_>, report: &mut Report<'_>) -> Vec<Subnet> {
    Names::collect("subnet", raw.items.iter().map(|s| &s.name), raw.complete, report);
    check_overlaps(raw, report);
    let mut subnets = Vec::new();
    for subnet in &raw.items {
        let security_group = group(subnet.security_group.as_ref(), groups, report);
        let prefixes = subnet.prefixes.items.iter().flat_map(|p| p.value.iter().copied()).collect();
        if let (Some(name), Some(syn_proxy)) = (&subnet.name, subnet.syn_proxy) {
            let name = name.value.clone();
            subnets.push(Subnet { name, prefixes, security_group, syn_proxy: syn_proxy.value });
        }
    }
    subnets
}

/// No address is in two subnets. Sorted by first address, a prefix overlaps an earlier one only when it lies inside the last one
/// that overlaps nothing.
fn check_overlaps(raw: &List<raw::Subnet>, report: &mut Report<'_>) {
    let mut prefixes: Vec<(Prefix, Place)> = Vec::new();
    for entry in raw.items.iter().flat_map(|subnet| &subnet.prefixes.items) {
        prefixes.extend(entry.value.iter().map(|prefix| (*prefix, entry.at)));
    }
    prefixes.sort();
    let mut outer: Option<(Prefix, Place)> = None;
    for (prefix, at) in prefixes {
        match outer {
            Some((wide, place)) if wide.overlaps(&prefix) => {
                let (earlier, later) =
                    if place < at { ((wide, place), (prefix, at)) } else { ((prefix, at), (wide, place)) };
                let first = report.location(earlier.1);
                report.problem(
                    later.1,
                    format!(
                        "{} overlaps {} at {first}; no address may be in two subnets",
                        later.0, earlier.0
                    ),
                );
            }
            _ => outer = Some((prefix, at)),
        }
    }
}

fn interfaces(
    raw: &List<raw::Interface>,
    groups: &Names<'_>,
    members: &mut Members,
    report: &mut Report<'_>,
) -> Vec<Interface> {
    let mut addresses: Once<IpAddr> = Once::new();
    let mut interfaces = Vec::new();
    for interface in &raw.items {
        members.complete &= interface.application_security_groups.complete;
        let mut seen = Once::new();
        let mut joined = Vec::new();
        for name in &interface.application_security_groups.items {
            let folded = At { value: name.value.to_ascii_lowercase(), at: name.at };
            let new = seen.note(&folded, report, |first| {
                format!("{} is listed at {first} already; list each group once", quote(&name.value))
            });
            if new {
                joined.push(members.add(&name.value));
            }
        }
        let security_group = group(interface.security_group.as_ref(), groups, report);
        let Some(address) = interface.address else { continue };
        addresses.note(&address, report, |first| {
            format!("the interface {} is given at {first} already; keep one", address.value)
        });
        interfaces.push(Interface {
            address: address.value,
            security_group,
            application_security_groups: joined,
        });
    }
    interfaces
}
