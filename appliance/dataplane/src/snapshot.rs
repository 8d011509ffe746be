//! One generation of the configuration, compiled for the path: immutable, built off the data path, taken up between two bursts.

mod ground;

use crate::addr::Mac;
use crate::lb::Balancer;
use crate::names::Names;
use crate::policy::Policy;
use crate::sources::Sources;
use crate::synproxy::Watched;
use crate::verdict::PortId;
use core::ops::Deref;
use nva_config::{Config, SecurityGroup, SynProxyMode, Trust};
use std::sync::Arc;

pub use ground::Ground;
pub(crate) use ground::route_table;
use ground::{port_facts, routed};

/// What a port's device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The port's Ethernet address.
    pub mac: Mac,
    /// The longest IP packet that the device carries, in bytes.
    pub mtu: u16,
}

/// What [`Snapshot::build`] needs beside the configuration.
pub struct BuildOptions<'a> {
    /// Each port's device, in the order of `Config::ports`. Segments have none: they take the address of the port that carries them, and what
    /// fits into its packets.
    pub links: &'a [Link],
    /// Whether a backend (load balancer, backend) is taken as unhealthy.
    pub down: &'a dyn Fn(&str, &str) -> bool,
    /// Gives names the numbers that they keep over generations.
    pub names: &'a mut Names,
    /// Counts configurations, from 1.
    pub generation: u32,
}

/// A port as the path knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The longest IP packet that it carries, in bytes.
    pub mtu: u16,
    /// Which side it faces.
    pub trust: Trust,
}

/// The compiled configuration.
pub struct Snapshot {
    generation: u32,
    /// The first generation from which on nothing has changed but rules for new flows. Flows remember this number of the generation that
    /// decided them: while it is the same, they are as if this one had.
    pub(crate) decided: u32,
    pub(crate) policy: Policy,
    pub(crate) balancer: Arc<Balancer>,
    ground: Arc<Ground>,
    /// Where clients prove themselves, if any do: the sources that guard, routes and groups tell apart.
    pub(crate) sources: Option<Sources>,
    names: Names,
}

impl Deref for Snapshot {
    type Target = Ground;

    #[inline(always)]
    fn deref(&self) -> &Ground {
        &self.ground
    }
}

impl Snapshot {
    /// What clients prove themselves for while it is flooded; some may be named twice.
    pub fn watched(&self) -> impl Iterator<Item = Watched> {
        let frontends = self.balancer.asking().map(Watched::from);
        frontends.chain(self.demands.asking()).chain(self.tunnels.asking())
    }

    /// Compiles a configuration. Cannot fail: what could was checked before.
    pub fn build(config: &Config, options: BuildOptions<'_>) -> Self {
        Self::build_after(None, config, options)
    }

    /// The same after an earlier generation and its configuration, with as much of what was compiled as still holds: one rule among many
    /// thousands is changed without building the others anew, and without a look at the flows that are open.
    pub fn build_after(before: Option<(&Self, &Config)>, config: &Config, options: BuildOptions<'_>) -> Self {
        let BuildOptions { links, down, names, generation } = options;
        let ports = port_facts(config, links);
        let balancers = before.map(|(before, old)| (&before.balancer, &*old.load_balancers));
        let balancer = Balancer::build_after(balancers, config, down, names);
        let policy = Policy::build_after(before.map(|(before, _)| &before.policy), config, names);
        let is_same =
            |(before, old): &(&Self, &Config)| before.ports == ports && Ground::is_same_of(old, config);
        let ground = match before.filter(is_same) {
            Some((before, _)) => Arc::clone(&before.ground),
            None => {
                let before = before.map(|(before, _)| &*before.ground);
                Arc::new(Ground::build(before, config, ports, (&policy, &balancer), names))
            }
        };
        let sources = (ground.asks != SynProxyMode::Off).then(|| sources(config, &ground, &policy));
        let mut snapshot =
            Self { generation, decided: generation, policy, balancer, ground, sources, names: names.clone() };
        if let Some((before, old)) = before
            && snapshot.differs_in_rules_alone(before)
            && leaves_flows_alone(old, config)
        {
            snapshot.decided = before.decided;
        }
        snapshot
    }

    /// Nothing but rules of groups is different from another generation.
    pub(crate) fn differs_in_rules_alone(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ground, &other.ground) && Arc::ptr_eq(&self.balancer, &other.balancer)
    }

    /// Which configuration this is, counted from 1.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What finding each security group's rules takes, in bytes, by [`nva_config::GroupIndex`].
    pub fn group_bytes(&self) -> Vec<usize> {
        self.policy.bytes()
    }

    /// The ports, by [`PortId::index`].
    pub fn ports(&self) -> &[PortFacts] {
        &self.ports
    }

    /// The port of this name, or the tunnel.
    pub fn port(&self, name: &str) -> Option<PortId> {
        let port = self.ports.iter().position(|port| port.name == name).map(port_id);
        port.or_else(|| self.tunnels.named(name))
    }

    /// What the path knows of a port or a tunnel.
    #[inline(always)]
    pub(crate) fn facts(&self, port: PortId) -> &PortFacts {
        if port.is_tunnel() { self.tunnels.facts(port) } else { &self.ports[port.index()] }
    }

    /// The names behind rule and backend numbers.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The load balancers' compiled form.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }
}

/// Whether the groups that differ leave flows alone that are open.
fn leaves_flows_alone(old: &Config, new: &Config) -> bool {
    let is_alike = |(old, new): (&SecurityGroup, &SecurityGroup)| {
        (!old.flush_connections && !new.flush_connections) || old == new
    };
    old.security_groups.iter().zip(&new.security_groups).all(is_alike)
}

/// The sources that guard, routes and groups tell apart.
fn sources(config: &Config, Ground { guard, routes, .. }: &Ground, policy: &Policy) -> Sources {
    let ranges = guard.source_ranges().chain(policy.source_ranges()).chain(routed(config));
    Sources::build(ranges, |source| guard.standing(source, routes.lookup(source)))
}

/// The number of the port at this place in the configuration. There are never as many ports as would not fit.
pub(crate) fn port_id(index: usize) -> PortId {
    PortId(u16::try_from(index).unwrap_or(u16::MAX))
}
