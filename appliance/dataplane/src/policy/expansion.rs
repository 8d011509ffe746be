//! What rules name, spelled out for people: tags and application security groups with the prefixes that they stand for.

use super::compiled::{default_rules, in_order};
use super::endpoints::Endpoints;
use nva_config::{Config, Direction, Endpoint, Prefix, SecurityGroup, SecurityRule};

/// Spells out what the rules of a configuration name.
pub struct Expansions<'a> {
    config: &'a Config,
    endpoints: Endpoints<'a>,
}

impl<'a> Expansions<'a> {
    /// For the rules of this configuration.
    pub fn new(config: &'a Config) -> Self {
        Self { config, endpoints: Endpoints::new(config) }
    }

    /// The entry as a configuration spells it.
    pub fn spelled(&self, endpoint: &Endpoint) -> String {
        let network = &self.config.virtual_network;
        match endpoint {
            Endpoint::Any => "*".into(),
            Endpoint::Prefix(prefix) => prefix.to_string(),
            Endpoint::VirtualNetwork => "VirtualNetwork".into(),
            Endpoint::AzureLoadBalancer => "AzureLoadBalancer".into(),
            Endpoint::Internet => "Internet".into(),
            Endpoint::ServiceTag(index) => {
                self.config.service_tags.get(*index).map(|tag| tag.name.clone()).unwrap_or_default()
            }
            Endpoint::ApplicationSecurityGroup(index) => {
                let name = network.application_security_groups.get(*index);
                format!("asg:{}", name.map_or("", String::as_str))
            }
        }
    }

    /// What a tag stands for, in the fewest prefixes, and the members of an application security group; `None` for what says it
    /// itself.
    pub fn expanded(&mut self, endpoint: &Endpoint) -> Option<Vec<Prefix>> {
        match endpoint {
            Endpoint::Any | Endpoint::Prefix(_) => None,
            Endpoint::ApplicationSecurityGroup(index) => {
                let interfaces = self.config.virtual_network.interfaces.iter();
                let members = interfaces.filter(|i| i.application_security_groups.contains(index));
                Some(members.map(|member| Prefix::host(member.address)).collect())
            }
            _ => Some(self.endpoints.resolve(std::slice::from_ref(endpoint)).prefixes()),
        }
    }

    /// All addresses that any of these entries matches, in the fewest prefixes.
    pub fn together(&mut self, endpoints: &[Endpoint]) -> Vec<Prefix> {
        self.endpoints.resolve(endpoints).prefixes()
    }
}

/// A group's rules of one direction in the order in which they are tried, default rules last.
pub fn rules_in_order(group: &SecurityGroup, direction: Direction) -> Vec<SecurityRule> {
    let defaults = default_rules(direction);
    in_order(group, direction, &defaults).into_iter().cloned().collect()
}
