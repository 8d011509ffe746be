//! What rules name as source and destination, as address sets that are built once and shared.

use crate::addr::Addr;
use crate::prefix_set::PrefixSet;
use nva_config::{Config, Endpoint, Prefix};
use std::collections::HashMap;
use std::sync::Arc;

/// Resolves endpoints. Rules that name the same tag, or that come to the same addresses, share one set: a published tag has
/// thousands of prefixes, and hundreds of rules may name it.
pub(super) struct Endpoints<'a> {
    config: &'a Config,
    any: Arc<PrefixSet>,
    virtual_network: Arc<PrefixSet>,
    load_balancer: Arc<PrefixSet>,
    internet: Arc<PrefixSet>,
    tags: HashMap<usize, Arc<PrefixSet>>,
    members: HashMap<usize, Arc<PrefixSet>>,
    others: HashMap<PrefixSet, Arc<PrefixSet>>,
}

impl<'a> Endpoints<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let platform = Prefix::host(Addr::PLATFORM.into());
        let network = &config.virtual_network;
        let named = network.address_space.iter().chain(&network.route_prefixes).chain([&platform]);
        let virtual_network = PrefixSet::from_prefixes(named);
        Self {
            config,
            any: Arc::new(PrefixSet::any()),
            load_balancer: Arc::new(PrefixSet::from_prefixes([&platform])),
            internet: Arc::new(virtual_network.complement()),
            virtual_network: Arc::new(virtual_network),
            tags: HashMap::new(),
            members: HashMap::new(),
            others: HashMap::new(),
        }
    }

    /// Whether a rule's destination is a tag of the platform's own services, which they are judged by alone.
    pub(super) fn names_platform_service(&self, endpoints: &[Endpoint]) -> bool {
        const START: &str = "AzurePlatform";
        endpoints.iter().any(|endpoint| match endpoint {
            Endpoint::ServiceTag(index) => {
                let name = self.config.service_tags.get(*index).map_or("", |tag| &tag.name);
                name.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
            }
            _ => false,
        })
    }

    /// The addresses that match any of a rule's entries.
    pub(super) fn resolve(&mut self, endpoints: &[Endpoint]) -> Arc<PrefixSet> {
        if let [one] = endpoints {
            return self.one(one);
        }
        let sets: Vec<Arc<PrefixSet>> = endpoints.iter().map(|endpoint| self.one(endpoint)).collect();
        self.shared(PrefixSet::union(sets.iter().map(Arc::as_ref)))
    }

    fn one(&mut self, endpoint: &Endpoint) -> Arc<PrefixSet> {
        match endpoint {
            Endpoint::Any => self.any.clone(),
            Endpoint::VirtualNetwork => self.virtual_network.clone(),
            Endpoint::AzureLoadBalancer => self.load_balancer.clone(),
            Endpoint::Internet => self.internet.clone(),
            Endpoint::Prefix(prefix) => self.shared(PrefixSet::from_prefixes([prefix])),
            Endpoint::ServiceTag(index) => {
                let tag = self.config.service_tags.get(*index);
                let prefixes = tag.map_or(&[][..], |tag| &tag.prefixes);
                self.tags
                    .entry(*index)
                    .or_insert_with(|| Arc::new(PrefixSet::from_prefixes(prefixes)))
                    .clone()
            }
            Endpoint::ApplicationSecurityGroup(index) => {
                let interfaces = &self.config.virtual_network.interfaces;
                let build = || {
                    let members = interfaces.iter().filter(|i| i.application_security_groups.contains(index));
                    let hosts: Vec<Prefix> = members.map(|i| Prefix::host(i.address)).collect();
                    Arc::new(PrefixSet::from_prefixes(&hosts))
                };
                self.members.entry(*index).or_insert_with(build).clone()
            }
        }
    }

    fn shared(&mut self, set: PrefixSet) -> Arc<PrefixSet> {
        if let Some(known) = self.others.get(&set) {
            return known.clone();
        }
        let new = Arc::new(set.clone());
        self.others.insert(set, new.clone());
        new
    }
}
