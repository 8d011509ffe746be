//! Route tables: what they send to an appliance's address becomes a route.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Role;
use super::draft::{Endpoint, Route};
use super::find::{Kind, Resource};
use super::journal::{Journal, Spot};
use super::rules::endpoint;
use super::site::address;
use super::tags::Tags;
use super::view::Object;
use crate::model::Prefix;
use crate::report::quote;

/// The routes of the inputs that were given for them, by destination.
pub(super) fn collect(resources: &[Resource<'_>], tags: &Tags, journal: &mut Journal) -> Vec<Route> {
    let mut reader = Reader { tags, routes: Vec::new(), by_prefix: HashMap::new() };
    for resource in resources {
        let object = &resource.object;
        match (resource.kind, resource.role) {
            (Kind::RouteTable, Role::Routes) => {
                object.peek(&["name", "id"]);
                for route in object.objects(&["routes", "route"], journal) {
                    reader.route(&route, journal);
                }
                object.ignore_rest(journal);
            }
            (Kind::Route, Role::Routes) => reader.route(object, journal),
            (Kind::RouteTable | Kind::Route, _) => {
                journal.left_out(&object.spot, "give the file with --routes too, and its routes are taken");
            }
            _ => {}
        }
    }
    reader.routes.sort_by_key(|route| route.to);
    reader.routes
}

struct Reader<'t> {
    tags: &'t Tags,
    routes: Vec<Route>,
    by_prefix: HashMap<Prefix, IpAddr>,
}

impl Reader<'_> {
    fn route(&mut self, object: &Object<'_>, journal: &mut Journal) {
        let name = object.text(&["name"], journal).unwrap_or_default();
        let prefixes = object
            .need(&["addressprefix"], "addressPrefix", journal)
            .and_then(|item| self.prefixes(item.text(journal)?, &item.spot, journal));
        let hop = object
            .need(&["nexthoptype"], "nextHopType", journal)
            .and_then(|item| Some((item.text(journal)?, item.spot)));
        let via = object
            .get(&["nexthopipaddress", "nexthopinipaddress"], journal)
            .and_then(|item| Some((address(&item, journal)?, item.spot)));
        object.ignore_rest(journal);
        let (Some(prefixes), Some((hop, hop_spot))) = (prefixes, hop) else { return };
        match hop.to_ascii_lowercase().as_str() {
            "virtualappliance" => match via {
                Some((via, spot)) => self.add(&prefixes, via, name, &object.spot, &spot, journal),
                None => journal.problem(&object.spot, "`nextHopIpAddress` is missing; a route to an appliance has one"),
            },
            "none" => {
                let message = format!("the route {} drops its packets, which no route here does; write a rule that denies them, and remove the route", quote(name));
                journal.problem(&hop_spot, message);
            }
            "internet" | "vnetlocal" | "virtualnetworkgateway" => {
                let message = format!("the next hop {} of the route {} is the cloud's own and has no address; write a route with the next hop that is meant", quote(hop), quote(name));
                journal.left_out(&hop_spot, message);
            }
            _ => journal.problem(&hop_spot, format!("{} is not known here; VirtualAppliance, VnetLocal, Internet, VirtualNetworkGateway or None is needed", quote(hop))),
        }
    }

    /// The prefixes of a destination, which may be a service tag.
    fn prefixes(&self, text: &str, spot: &Spot, journal: &mut Journal) -> Option<Vec<Prefix>> {
        match endpoint(text, spot, journal)? {
            Endpoint::Prefix(prefix) => Some(vec![prefix]),
            Endpoint::Tag(name) => {
                let Some(prefixes) = self.tags.prefixes(&name) else {
                    journal.problem(
                        spot,
                        format!(
                            "the service tag {} is not known; give the published file with --tags",
                            quote(&name)
                        ),
                    );
                    return None;
                };
                journal.differs(
                    spot,
                    format!(
                        "the service tag {} is {} routes here, one for each of its prefixes",
                        quote(&name),
                        prefixes.len()
                    ),
                );
                Some(prefixes.to_vec())
            }
            Endpoint::Any | Endpoint::BuiltIn(_) | Endpoint::MemberGroup(_) => {
                journal.problem(
                    spot,
                    format!("{} is no destination of a route; a prefix or a service tag is", quote(text)),
                );
                None
            }
        }
    }

    fn add(
        &mut self,
        prefixes: &[Prefix],
        via: IpAddr,
        name: &str,
        spot: &Spot,
        via_spot: &Spot,
        journal: &mut Journal,
    ) {
        for to in prefixes {
            match self.by_prefix.get(to) {
                Some(other) if *other == via => continue,
                Some(other) => {
                    let message = format!(
                        "another route sends {to} to {other}; the appliance has one table, so keep one of them"
                    );
                    journal.problem(via_spot, message);
                    continue;
                }
                None => {}
            }
            if to.is_ipv4() != via.is_ipv4() {
                journal.left_out(
                    via_spot,
                    format!("{via} is of another IP version than {to}, which no route here does"),
                );
                continue;
            }
            self.by_prefix.insert(*to, via);
            journal.taken(spot, format!("routes, {to}"));
            let message = format!(
                "the cloud counts {to} of this route into the tag VirtualNetwork; here `virtual_network.address_space` says what the tag holds"
            );
            journal.differs(spot, message);
            self.routes.push(Route { to: *to, via, name: name.to_owned() });
        }
    }
}
