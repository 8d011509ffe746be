//! One generation of the configuration, compiled for the path: immutable, built off the data path, taken up between two bursts.

use crate::addr::{Addr, Mac};
use crate::bearings::{Asked, Bearings};
use crate::flow::Timeouts;
use crate::guard::Guard;
use crate::host::{self, LocalTable, Services};
use crate::lb::Balancer;
use crate::names::Names;
use crate::placement::Homes;
use crate::policy::Policy;
use crate::prefix_set::prefix_ranges;
use crate::route::{NextHop, RouteTable};
use crate::sources::Sources;
use crate::synproxy::Demands;
use crate::tunnel::{self, Tunnels};
use crate::verdict::PortId;
use nva_config::{Config, Prefix, SecurityGroup, SynFlood, SynProxyMode, Trust};

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
    pub(crate) ports: Vec<PortFacts>,
    pub(crate) local: LocalTable,
    pub(crate) services: Services,
    pub(crate) routes: RouteTable,
    pub(crate) static_neighbors: Vec<(PortId, Addr, Mac)>,
    pub(crate) guard: Guard,
    pub(crate) balancer: Balancer,
    pub(crate) policy: Policy,
    pub(crate) timeouts: Timeouts,
    pub(crate) homes: Homes,
    pub(crate) syn_flood: Option<SynFlood>,
    pub(crate) tunnels: Tunnels,
    /// When clients of any frontend prove themselves.
    pub(crate) asks: SynProxyMode,
    /// Where they do.
    pub(crate) sources: Option<Sources>,
    pub(crate) demands: Demands,
    pub(crate) bearings: Bearings,
    pub(crate) cookie_secret: Option<[u8; 16]>,
    names: Names,
}

impl Snapshot {
    /// Compiles a configuration. Cannot fail: what could was checked before.
    pub fn build(config: &Config, options: BuildOptions<'_>) -> Self {
        Self::build_after(None, config, options)
    }

    /// The same after an earlier generation and its configuration, with as much of its compiled rules as still holds: one rule among many
    /// thousands is changed without building the others anew, and without a look at the flows that are open.
    pub fn build_after(before: Option<(&Self, &Config)>, config: &Config, options: BuildOptions<'_>) -> Self {
        let ports = port_facts(config, options.links);
        let balancer = Balancer::build(config, options.down, options.names);
        let policy = Policy::build_after(before.map(|(before, _)| &before.policy), config, options.names);
        let is_for_new_flows = |(before, old): &(&Self, &Config)| {
            before.ports == ports
                && before.balancer.shares() == balancer.shares()
                && leaves_flows_alone(old, config)
        };
        let decided =
            before.filter(is_for_new_flows).map_or(options.generation, |(before, _)| before.decided);
        let routes = route_table(config, |_| true);
        let tunnels_before = before.map(|(before, _)| &before.tunnels);
        let tunnels = Tunnels::build(tunnels_before, config, &ports, options.names);
        let guard = Guard::build(config);
        let asks = balancer.asks();
        let sources = (asks != SynProxyMode::Off).then(|| sources(config, &guard, &routes, &policy));
        let (local, demands) = (local_table(config, &ports), Demands::build(config));
        let asked = Asked {
            guard: &guard,
            local: &local,
            balancer: &balancer,
            policy: &policy,
            demands: &demands,
            routes: &routes,
        };
        let bearings = asked.bearings(routed(config));
        Self {
            generation: options.generation,
            decided,
            local,
            services: Services::build(config),
            routes,
            tunnels,
            static_neighbors: config
                .neighbors
                .iter()
                .map(|n| (port_id(n.port.0), n.address.into(), Mac(n.mac.0)))
                .collect(),
            guard,
            asks,
            sources,
            demands,
            bearings,
            balancer,
            policy,
            timeouts: Timeouts::from(&config.dataplane.flow_idle_timeout),
            homes: Homes::build(config),
            syn_flood: config.protection.syn_flood,
            cookie_secret: config.protection.cookie_secret,
            names: options.names.clone(),
            ports,
        }
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

/// Whether nothing differs but rules of groups that leave flows alone that are open.
fn leaves_flows_alone(old: &Config, new: &Config) -> bool {
    // All by name: whoever adds a key has to say here whether flows depend on it.
    let Config {
        name: _,
        dataplane,
        ports,
        routes,
        neighbors,
        virtual_network,
        service_tags,
        security_groups,
        load_balancers,
        gateways,
        protection,
        management: _,
        logs: _,
        places: _,
        warnings: _,
    } = old;
    let is_alike = |(old, new): (&SecurityGroup, &SecurityGroup)| {
        old == new || (old.name == new.name && !old.flush_connections && !new.flush_connections)
    };
    *dataplane == new.dataplane
        && *ports == new.ports
        && *routes == new.routes
        && *neighbors == new.neighbors
        && *virtual_network == new.virtual_network
        && *service_tags == new.service_tags
        && *load_balancers == new.load_balancers
        && *gateways == new.gateways
        && *protection == new.protection
        && security_groups.len() == new.security_groups.len()
        && security_groups.iter().zip(&new.security_groups).all(is_alike)
}

/// The ports as the path knows them; segments, which stand behind all others, by the port that carries each.
fn port_facts(config: &Config, links: &[Link]) -> Vec<PortFacts> {
    let mut all: Vec<PortFacts> = Vec::with_capacity(config.ports.len());
    for (index, port) in config.ports.iter().enumerate() {
        let link = match &port.vxlan {
            None => links.get(index).copied(),
            Some(segment) => all.get(segment.port.0).map(|carrier| Link {
                mac: carrier.mac,
                mtu: carrier.mtu.saturating_sub(tunnel::overhead(segment.local.is_ipv4())),
            }),
        };
        // There is one for each port.
        let Link { mac, mtu } = link.unwrap_or(Link { mac: Mac::default(), mtu: 0 });
        all.push(PortFacts { name: port.name.clone(), mac, mtu: port.mtu.min(mtu), trust: port.trust });
    }
    all
}

/// The number of the port at this place in the configuration. There are never as many ports as would not fit.
pub(crate) fn port_id(index: usize) -> PortId {
    PortId(u16::try_from(index).unwrap_or(u16::MAX))
}

fn prefix_parts(prefix: Prefix) -> (Addr, u8) {
    (prefix.address().into(), prefix.len())
}

fn local_table(config: &Config, facts: &[PortFacts]) -> LocalTable {
    let ports: Vec<host::PortAddresses> = config
        .ports
        .iter()
        .zip(facts)
        .enumerate()
        .map(|(index, (port, facts))| {
            let addresses = port
                .addresses
                .iter()
                .map(|a| {
                    let (network, len) = prefix_parts(a.prefix);
                    (Addr::from(a.address), network, len)
                })
                .collect();
            (host::PortFacts { id: port_id(index), mac: facts.mac }, addresses)
        })
        .collect();
    let frontends: Vec<Addr> =
        config.load_balancers.iter().flat_map(|lb| &lb.frontends).map(|f| f.address.into()).collect();
    LocalTable::build(&ports, &frontends)
}

/// The sources that guard, routes and groups tell apart.
fn sources(config: &Config, guard: &Guard, routes: &RouteTable, policy: &Policy) -> Sources {
    let ranges = guard.source_ranges().chain(policy.source_ranges()).chain(routed(config));
    Sources::build(ranges, |source| guard.standing(source, routes.lookup(source)))
}

/// The ranges of addresses, both ends included, that routes tell apart.
fn routed(config: &Config) -> impl Iterator<Item = (u128, u128)> {
    let links = config.ports.iter().flat_map(|port| &port.addresses).map(|address| &address.prefix);
    config.routes.iter().map(|route| &route.to).chain(links).flat_map(prefix_ranges)
}

/// The routes of a configuration whose next hop is among those wanted.
pub(crate) fn route_table(config: &Config, is_wanted: impl Fn(NextHop) -> bool) -> RouteTable {
    let mut table = RouteTable::new();
    let mut insert = |prefix, next| {
        if is_wanted(next) {
            table.insert(prefix_parts(prefix), next);
        }
    };
    // Connected prefixes come last: a route to the same prefix does not hide the link itself.
    for route in &config.routes {
        insert(route.to, NextHop { port: port_id(route.port.0), gateway: Some(route.via.into()) });
    }
    for (index, port) in config.ports.iter().enumerate() {
        for address in &port.addresses {
            insert(address.prefix, NextHop { port: port_id(index), gateway: None });
        }
    }
    table
}
