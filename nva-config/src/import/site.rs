//! What the inputs say around the rules: subnets, interfaces with their addresses, and who belongs to which group.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::draft::Endpoint;
use super::find::{Kind, Resource};
use super::journal::{Journal, Spot};
use super::rules::endpoint;
use super::view::{Item, Object, last_segment};
use crate::model::Prefix;
use crate::report::quote;

/// The cloud gives an interface so many IP configurations.
const CONFIGURATIONS_MAX: usize = 256;
/// The cloud makes an IP configuration a member of so many groups.
const MEMBERSHIPS_MAX: usize = 20;

/// A reference to a resource: its id or its name, as written.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) id: String,
    pub(super) spot: Spot,
}

/// A subnet with its prefixes.
#[derive(Debug)]
pub(super) struct Subnet {
    pub(super) spot: Spot,
    pub(super) name: String,
    pub(super) prefixes: Vec<Prefix>,
    pub(super) groups: Vec<Reference>,
}

/// An address of an interface.
#[derive(Debug)]
pub(super) struct IpConfiguration {
    pub(super) spot: Spot,
    pub(super) name: String,
    pub(super) address: Option<IpAddr>,
    pub(super) member_of: Vec<Reference>,
    /// Backend pools.
    pub(super) pools: Vec<Reference>,
    /// Inbound NAT rules.
    pub(super) nat_rules: Vec<Reference>,
}

/// A network interface.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) groups: Vec<Reference>,
    pub(super) configurations: Vec<IpConfiguration>,
    /// Application security groups that every configuration is a member of.
    pub(super) member_of: Vec<Reference>,
}

/// The members of an application security group as a list by hand says them: all of them.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// Everything around the rules.
#[derive(Debug, Default)]
pub(super) struct Site {
    pub(super) address_space: BTreeSet<Prefix>,
    pub(super) subnets: Vec<Subnet>,
    pub(super) interfaces: Vec<Interface>,
    /// By name in lower case.
    pub(super) listed: BTreeMap<String, Listed>,
    /// Public addresses, where they are known.
    public: Vec<Option<IpAddr>>,
    subnet_index: Index,
    interface_index: Index,
    public_index: Index,
}

/// Finds resources by reference: by id where both have one, else by name. Case does not count; the first of a name wins.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_id: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
    without_id: HashMap<String, usize>,
}

impl Index {
    /// Adds the resource `place`; false where its id is there already.
    pub(super) fn add(&mut self, id: Option<&str>, name: &str, place: usize) -> bool {
        let name = name.to_ascii_lowercase();
        match id {
            Some(id) if self.by_id.contains_key(&id.to_ascii_lowercase()) => return false,
            Some(id) => drop(self.by_id.insert(id.to_ascii_lowercase(), place)),
            None => drop(self.without_id.entry(name.clone()).or_insert(place)),
        }
        self.by_name.entry(name).or_insert(place);
        true
    }

    pub(super) fn find(&self, reference: &str) -> Option<usize> {
        let name = || last_segment(reference).to_ascii_lowercase();
        if reference.contains('/') {
            let id = reference.trim_end_matches('/').to_ascii_lowercase();
            return self.by_id.get(&id).or_else(|| self.without_id.get(&name())).copied();
        }
        self.by_name.get(&name()).copied()
    }
}

impl Site {
    /// Reads everything that is no rule and no load balancer. `maps`: lists of members by hand.
    pub(super) fn collect(resources: &[Resource<'_>], maps: &[Item<'_>], journal: &mut Journal) -> Self {
        let mut site = Self::default();
        for resource in resources {
            let object = &resource.object;
            match resource.kind {
                Kind::Network => site.network(object, journal),
                Kind::Peering => site.peering(object, journal),
                Kind::Subnet => site.subnet(object, resource.id.as_deref(), journal),
                Kind::Interface => site.interface(resource, journal),
                Kind::MemberGroup => object.ignore_rest(journal),
                Kind::PublicAddress => site.public_address(resource, journal),
                _ => {}
            }
        }
        for map in maps {
            site.members_by_hand(map, journal);
        }
        for resource in resources {
            site.join(resource, journal);
        }
        site
    }

    fn network(&mut self, object: &Object<'_>, journal: &mut Journal) {
        let space = object.get(&["addressspace"], journal).map(|item| {
            // The cloud has the prefixes in an object of their own, Terraform has them here.
            match item.object_or_texts(journal) {
                Ok(inner) => inner
                    .get(&["addressprefixes"], journal)
                    .map(|item| item.texts(journal))
                    .unwrap_or_default(),
                Err(texts) => texts,
            }
        });
        self.address_space.extend(prefixes(&space.unwrap_or_default(), journal));
        for peering in object.objects(&["virtualnetworkpeerings"], journal) {
            self.peering(&peering, journal);
        }
        for subnet in object.objects(&["subnets", "subnet"], journal) {
            let id = subnet.text(&["id"], journal).map(str::to_ascii_lowercase);
            self.subnet(&subnet, id.as_deref(), journal);
        }
        object.ignore_rest(journal);
    }

    /// A joined network, whose prefixes the cloud counts into the tag VirtualNetwork while it is connected and may be reached.
    fn peering(&mut self, object: &Object<'_>, journal: &mut Journal) {
        let is_open = object.boolean(&["allowvirtualnetworkaccess"], journal).unwrap_or(true);
        let state = object.text(&["peeringstate"], journal);
        let is_connected = state.is_none_or(|state| state.eq_ignore_ascii_case("Connected"));
        let space = ["remoteaddressspace", "remotevirtualnetworkaddressspace"];
        let mut texts = Vec::new();
        for space in object.objects(&space, journal) {
            texts.extend(
                space.get(&["addressprefixes"], journal).map(|item| item.texts(journal)).unwrap_or_default(),
            );
        }
        object.ignore_rest(journal);
        if !is_open || !is_connected {
            let message = "the peering is not connected, or lets nothing through, so its network is not in the tag VirtualNetwork";
            return journal.left_out(&object.spot, message);
        }
        if texts.is_empty() {
            let message = "the cloud counts the prefixes of the peered network into the tag VirtualNetwork; write those that are not in the input to `virtual_network.address_space`";
            journal.differs(&object.spot, message);
        }
        for prefix in prefixes(&texts, journal) {
            journal.taken(&object.spot, format!("virtual_network.address_space, {prefix}"));
            self.address_space.insert(prefix);
        }
    }

    /// A subnet; one that is only referred to has no prefix.
    pub(super) fn subnet(&mut self, object: &Object<'_>, id: Option<&str>, journal: &mut Journal) {
        let texts = object
            .get(&["addressprefixes"], journal)
            .or_else(|| object.get(&["addressprefix"], journal))
            .map(|item| item.texts(journal))
            .unwrap_or_default();
        let prefixes = prefixes(&texts, journal);
        let group =
            object.reference(&["networksecuritygroup", "networksecuritygroupid", "securitygroup"], journal);
        let groups: Vec<Reference> =
            group.map(|(id, spot)| Reference { id: id.to_owned(), spot }).into_iter().collect();
        let name = object.text(&["name"], journal).or(id).map(|name| last_segment(name).to_owned());
        object.peek(&["addressprefix", "addressprefixes"]);
        object.ignore_rest(journal);
        let Some(name) = name else { return };
        let known = id.and_then(|id| self.subnet_index.by_id.get(id).copied());
        if let Some(known) = known.and_then(|place| self.subnets.get_mut(place)) {
            known.groups.extend(groups);
        } else if !prefixes.is_empty() {
            self.subnet_index.add(id, &name, self.subnets.len());
            self.subnets.push(Subnet { spot: object.spot.clone(), name, prefixes, groups });
        }
    }

    fn interface(&mut self, resource: &Resource<'_>, journal: &mut Journal) {
        let object = &resource.object;
        let group = object.reference(&["networksecuritygroup", "networksecuritygroupid"], journal);
        let mut interface = Interface {
            name: resource.name.clone().unwrap_or_default(),
            groups: group.map(|(id, spot)| Reference { id: id.to_owned(), spot }).into_iter().collect(),
            configurations: Vec::new(),
            member_of: Vec::new(),
        };
        let configurations = object.objects(&["ipconfigurations", "ipconfiguration"], journal);
        if configurations.len() > CONFIGURATIONS_MAX {
            let message = format!(
                "the interface has more than {CONFIGURATIONS_MAX} IP configurations, which the cloud does not take"
            );
            journal.problem(&object.spot, message);
        }
        for configuration in configurations.iter().take(CONFIGURATIONS_MAX) {
            interface.configurations.push(ip_configuration(configuration, journal));
        }
        object.ignore_rest(journal);
        // The same interface in two exports says the same.
        if self.interface_index.add(resource.id.as_deref(), &interface.name, self.interfaces.len()) {
            self.interfaces.push(interface);
        }
    }

    fn public_address(&mut self, resource: &Resource<'_>, journal: &mut Journal) {
        let address = resource.object.get(&["ipaddress"], journal).and_then(|item| address(&item, journal));
        resource.object.ignore_rest(journal);
        let name = resource.name.as_deref().unwrap_or_default();
        if self.public_index.add(resource.id.as_deref(), name, self.public.len()) {
            self.public.push(address);
        }
    }

    /// `{"asg-web": ["10.2.0.4"]}`: application security groups by id or name.
    fn members_by_hand(&mut self, map: &Item<'_>, journal: &mut Journal) {
        for (id, item) in map.entries() {
            let mut addresses = BTreeSet::new();
            for (text, spot) in item.texts(journal) {
                match text.strip_suffix("/32").or_else(|| text.strip_suffix("/128")).unwrap_or(text).parse() {
                    Ok(address) => drop(addresses.insert(address)),
                    Err(_) => journal.problem(
                        &spot,
                        format!("{} is no IP address; list the addresses of the members", quote(text)),
                    ),
                }
            }
            let key = last_segment(id).to_ascii_lowercase();
            if let Some(known) = self.listed.get_mut(&key) {
                if !known.id.eq_ignore_ascii_case(id) {
                    journal.problem(
                        &item.spot,
                        format!("two groups are called {}; import one at a time", quote(&key)),
                    );
                }
                known.addresses.extend(addresses);
            } else {
                journal.taken(
                    &item.spot,
                    format!("virtual_network.interfaces, members of {}", last_segment(id)),
                );
                self.listed.insert(key, Listed { id: id.to_owned(), addresses });
            }
        }
    }

    /// Terraform's joins, once both ends are known.
    fn join(&mut self, resource: &Resource<'_>, journal: &mut Journal) {
        let object = &resource.object;
        let read = |name: &str, written: &str, journal: &mut Journal| {
            let item = object.need(&[name], written, journal)?;
            Some(Reference { id: item.text(journal)?.to_owned(), spot: item.spot })
        };
        match resource.kind {
            Kind::SubnetHasGroup => {
                let group = read("networksecuritygroupid", "network_security_group_id", journal);
                let subnet = read("subnetid", "subnet_id", journal);
                if let (Some(group), Some(subnet)) = (group, subnet)
                    && !self.attach_subnet(&subnet.id, group)
                {
                    let message = "the group is attached to a subnet that is not in the input; attach it under `virtual_network.subnets`";
                    journal.left_out(&subnet.spot, message);
                }
            }
            Kind::InterfaceHasGroup => {
                let group = read("networksecuritygroupid", "network_security_group_id", journal);
                let interface = read("networkinterfaceid", "network_interface_id", journal);
                if let (Some(group), Some(interface)) = (group, interface)
                    && !self.attach_interface(&interface.id, group)
                {
                    let message = "the group is attached to an interface that is not in the input; attach it under `virtual_network.interfaces`";
                    journal.left_out(&interface.spot, message);
                }
            }
            Kind::InterfaceInMemberGroup | Kind::InterfaceInPool | Kind::InterfaceHasNat => {
                let (key, written) = match resource.kind {
                    Kind::InterfaceInMemberGroup => {
                        ("applicationsecuritygroupid", "application_security_group_id")
                    }
                    Kind::InterfaceInPool => ("backendaddresspoolid", "backend_address_pool_id"),
                    _ => ("natruleid", "nat_rule_id"),
                };
                let joined = read(key, written, journal);
                let interface = read("networkinterfaceid", "network_interface_id", journal);
                let configuration = object.text(&["ipconfigurationname"], journal);
                if let (Some(joined), Some(interface)) = (joined, interface) {
                    self.join_interface(resource.kind, &interface, configuration, &joined, journal);
                }
            }
            _ => return,
        }
        object.ignore_rest(journal);
    }

    fn join_interface(
        &mut self,
        kind: Kind,
        interface: &Reference,
        configuration: Option<&str>,
        joined: &Reference,
        journal: &mut Journal,
    ) {
        let found = self.interface_index.find(&interface.id).and_then(|place| self.interfaces.get_mut(place));
        let Some(found) = found else {
            journal.problem(&interface.spot, "this interface is not in the input; give its export too");
            return;
        };
        if kind == Kind::InterfaceInMemberGroup {
            if found.member_of.len() < MEMBERSHIPS_MAX {
                found.member_of.push(joined.clone());
            } else {
                refuse_memberships(&interface.spot, journal);
            }
            return;
        }
        let named = |known: &&mut IpConfiguration| {
            configuration.is_some_and(|name| known.name.eq_ignore_ascii_case(name))
        };
        match found.configurations.iter_mut().find(named) {
            Some(known) if kind == Kind::InterfaceInPool => known.pools.push(joined.clone()),
            Some(known) => known.nat_rules.push(joined.clone()),
            None => journal.problem(&interface.spot, "the interface has no IP configuration of the name given here; is its export of another time?"),
        }
    }

    /// Puts a group on a subnet; false where the subnet is not known.
    pub(super) fn attach_subnet(&mut self, subnet: &str, group: Reference) -> bool {
        let found = self.subnet_index.find(subnet).and_then(|place| self.subnets.get_mut(place));
        found.map(|known| known.groups.push(group)).is_some()
    }

    /// Puts a group on an interface; false where the interface is not known.
    pub(super) fn attach_interface(&mut self, interface: &str, group: Reference) -> bool {
        let found = self.interface_index.find(interface).and_then(|place| self.interfaces.get_mut(place));
        found.map(|known| known.groups.push(group)).is_some()
    }

    /// The address of an interface's IP configuration, by its id, with the interface's name.
    pub(super) fn configuration(&self, id: &str) -> Option<(&Interface, &IpConfiguration)> {
        let mut parts = id.trim_end_matches('/').rsplitn(3, '/');
        let (name, _, interface) = (parts.next()?, parts.next()?, parts.next()?);
        let found = self.interfaces.get(self.interface_index.find(interface)?)?;
        let configuration =
            found.configurations.iter().find(|known| known.name.eq_ignore_ascii_case(name))?;
        Some((found, configuration))
    }

    /// The address of a public address resource.
    pub(super) fn public(&self, id: &str) -> Option<IpAddr> {
        *self.public.get(self.public_index.find(id)?)?
    }
}

fn ip_configuration(object: &Object<'_>, journal: &mut Journal) -> IpConfiguration {
    let references = |names: &[&str], journal: &mut Journal| {
        let found = object.references(names, journal).into_iter();
        found.map(|(id, spot)| Reference { id: id.to_owned(), spot }).collect::<Vec<_>>()
    };
    let configuration = IpConfiguration {
        spot: object.spot.clone(),
        name: object.text(&["name"], journal).unwrap_or_default().to_owned(),
        address: object.get(&["privateipaddress"], journal).and_then(|item| address(&item, journal)),
        member_of: references(&["applicationsecuritygroups"], journal),
        pools: references(&["loadbalancerbackendaddresspools"], journal),
        nat_rules: references(&["loadbalancerinboundnatrules"], journal),
    };
    object.ignore_rest(journal);
    if configuration.member_of.len() > MEMBERSHIPS_MAX {
        refuse_memberships(&configuration.spot, journal);
    }
    configuration
}

fn refuse_memberships(spot: &Spot, journal: &mut Journal) {
    let message = format!(
        "it is a member of more than {MEMBERSHIPS_MAX} application security groups, which the cloud does not take"
    );
    journal.problem(spot, message);
}

/// The address that stands here.
pub(super) fn address(item: &Item<'_>, journal: &mut Journal) -> Option<IpAddr> {
    let text = item.text(journal)?;
    let address = text.parse().ok();
    if address.is_none() {
        journal.problem(&item.spot, format!("{} is no IP address", quote(text)));
    }
    address
}

/// The prefixes among these texts; anything else is a problem.
pub(super) fn prefixes(texts: &[(&str, Spot)], journal: &mut Journal) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    for (text, spot) in texts {
        match endpoint(text, spot, journal) {
            Some(Endpoint::Prefix(prefix)) => prefixes.push(prefix),
            Some(_) => {
                journal.problem(spot, format!("{} is no prefix; write for example 10.2.0.0/24", quote(text)))
            }
            None => {}
        }
    }
    prefixes.sort();
    prefixes.dedup();
    prefixes
}
