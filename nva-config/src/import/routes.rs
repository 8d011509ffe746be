//! Route tables: what they send to an appliance's address becomes a route, and the tag VirtualNetwork holds their prefixes.

use std::collections::{BTreeSet, HashMap};
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

/// The routes of the inputs that were given for them, by destination, and the prefixes that the cloud counts into VirtualNetwork.
pub(super) fn collect(
    resources: &[Resource<'_>],
    tags: &Tags,
    journal: &mut Journal,
) -> (Vec<Route>, Vec<Prefix>) {
    let mut reader =
        Reader { tags, routes: Vec::new(), by_prefix: HashMap::new(), in_network: BTreeSet::new() };
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
    (reader.routes, reader.in_network.into_iter().collect())
}

/// Whether it is one of the next hops that have no address, being the cloud's own.
fn is_clouds_own(hop: &str) -> bool {
    ["Internet", "VnetLocal", "VirtualNetworkGateway"].iter().any(|own| own.eq_ignore_ascii_case(hop))
}

struct Reader<'t> {
    tags: &'t Tags,
    routes: Vec<Route>,
    by_prefix: HashMap<Prefix, IpAddr>,
    /// What the tag VirtualNetwork holds by these routes.
    in_network: BTreeSet<Prefix>,
}

impl Reader<'_> {
    fn route(&mut self, object: &Object<'_>, journal: &mut Journal) {
        let name = object.text(&["name"], journal).unwrap_or_default();
        let hop = object
            .need(&["nexthoptype"], "nextHopType", journal)
            .and_then(|item| Some((item.text(journal)?, item.spot)));
        // Of a route that is left out, a tag need not be known.
        let is_taken = hop.as_ref().is_none_or(|(hop, _)| !is_clouds_own(hop));
        let prefixes = object
            .need(&["addressprefix"], "addressPrefix", journal)
            .and_then(|item| self.prefixes(item.text(journal)?, is_taken, &item.spot, journal));
        let via = object
            .get(&["nexthopipaddress", "nexthopinipaddress"], journal)
            .and_then(|item| Some((address(&item, journal)?, item.spot)));
        object.ignore_rest(journal);
        let (Some((prefixes, is_tag)), Some((hop, hop_spot))) = (prefixes, hop) else { return };
        self.count_into_network(&prefixes, is_tag, &object.spot, journal);
        match hop.to_ascii_lowercase().as_str() {
            "virtualappliance" => match via {
                Some((via, spot)) => self.add(&prefixes, via, name, &object.spot, &spot, journal),
                None => journal.problem(&object.spot, "`nextHopIpAddress` is missing; a route to an appliance has one"),
            },
            "none" => {
                let message = format!("the route {} drops its packets, which no route here does; write a rule that denies them, and remove the route", quote(name));
                journal.problem(&hop_spot, message);
            }
            _ if is_clouds_own(hop) => {
                let message = format!("the next hop {} of the route {} is the cloud's own and has no address; write a route with the next hop that is meant", quote(hop), quote(name));
                journal.left_out(&hop_spot, message);
            }
            _ => journal.problem(&hop_spot, format!("{} is not known here; VirtualAppliance, VnetLocal, Internet, VirtualNetworkGateway or None is needed", quote(hop))),
        }
    }

    /// The cloud counts the prefixes of every route of the user's own into the tag VirtualNetwork, whatever the next hop. Of a default
    /// route, by which the tag holds every address, it is only said: groups that were written without it in mind would let all in.
    fn count_into_network(&mut self, prefixes: &[Prefix], is_tag: bool, spot: &Spot, journal: &mut Journal) {
        if is_tag {
            let message = "whether the cloud counts the prefixes of a service tag's route into the tag VirtualNetwork is nowhere said; they are not in `virtual_network.route_prefixes`";
            return journal.differs(spot, message);
        }
        for prefix in prefixes {
            if prefix.len() == 0 {
                let message = format!(
                    "the cloud counts {prefix} of this route into the tag VirtualNetwork, which then holds every address; it is not taken into `virtual_network.route_prefixes`: write it there if that is meant"
                );
                journal.differs(spot, message);
            } else if self.in_network.insert(*prefix) {
                journal.taken(spot, format!("virtual_network.route_prefixes, {prefix}"));
            }
        }
    }

    /// The prefixes of a destination, and whether it is a service tag.
    fn prefixes(
        &self,
        text: &str,
        is_taken: bool,
        spot: &Spot,
        journal: &mut Journal,
    ) -> Option<(Vec<Prefix>, bool)> {
        match endpoint(text, spot, journal)? {
            Endpoint::Prefix(prefix) => Some((vec![prefix], false)),
            Endpoint::Tag(_) if !is_taken => Some((Vec::new(), true)),
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
                Some((prefixes.to_vec(), true))
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
            self.routes.push(Route { to: *to, via, name: name.to_owned() });
        }
    }
}
