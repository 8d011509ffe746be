//! What a configuration says beside rules and backends' health: compiled anew only when it changes.

use super::{Link, PortFacts, port_id};
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
use crate::synproxy::Demands;
use crate::tunnel::{self, Tunnels};
use crate::verdict::PortId;
use nva_config::{Config, Prefix, SynFlood, SynProxyMode};

/// What neither the rules of groups nor the health of backends change. Generations that differ in nothing else share it, so that a worker
/// that takes up one after the other still has it in its caches.
pub struct Ground {
    pub(crate) ports: Vec<PortFacts>,
    pub(crate) local: LocalTable,
    pub(crate) services: Services,
    pub(crate) routes: RouteTable,
    pub(crate) static_neighbors: Vec<(PortId, Addr, Mac)>,
    pub(crate) guard: Guard,
    pub(crate) timeouts: Timeouts,
    pub(crate) homes: Homes,
    pub(crate) syn_flood: Option<SynFlood>,
    pub(crate) tunnels: Tunnels,
    /// When clients of any frontend prove themselves.
    pub(crate) asks: SynProxyMode,
    pub(crate) demands: Demands,
    pub(crate) bearings: Bearings,
    pub(crate) cookie_secret: Option<[u8; 16]>,
}

impl Ground {
    /// Compiles it. Of `policy` only the places of groups matter, of `balancer` all but health; `before` is what it was.
    pub(super) fn build(
        before: Option<&Self>,
        config: &Config,
        ports: Vec<PortFacts>,
        (policy, balancer): (&Policy, &Balancer),
        names: &mut Names,
    ) -> Self {
        let (guard, routes) = (Guard::build(config), route_table(config, |_| true));
        let (local, demands) = (local_table(config, &ports), Demands::build(config));
        let asked =
            Asked { guard: &guard, local: &local, balancer, policy, demands: &demands, routes: &routes };
        let bearings = asked.bearings(routed(config));
        let static_neighbors =
            config.neighbors.iter().map(|n| (port_id(n.port.0), n.address.into(), Mac(n.mac.0))).collect();
        Self {
            local,
            services: Services::build(config),
            routes,
            static_neighbors,
            guard,
            timeouts: Timeouts::from(&config.dataplane.flow_idle_timeout),
            homes: Homes::build(config),
            syn_flood: config.protection.syn_flood,
            tunnels: Tunnels::build(before.map(|before| &before.tunnels), config, &ports, names),
            asks: balancer.asks(),
            demands,
            bearings,
            cookie_secret: config.protection.cookie_secret,
            ports,
        }
    }

    /// Whether it would be the same of another configuration, with the same devices.
    pub(super) fn is_same_of(old: &Config, new: &Config) -> bool {
        // All by name: whoever adds a key has to say here whether this depends on it.
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
        *dataplane == new.dataplane
            && *ports == new.ports
            && *routes == new.routes
            && *neighbors == new.neighbors
            && *virtual_network == new.virtual_network
            && *service_tags == new.service_tags
            && *load_balancers == new.load_balancers
            && *gateways == new.gateways
            && *protection == new.protection
            && security_groups
                .iter()
                .map(|group| &group.name)
                .eq(new.security_groups.iter().map(|group| &group.name))
    }
}

/// The ports as the path knows them; segments, which stand behind all others, by the port that carries each.
pub(super) fn port_facts(config: &Config, links: &[Link]) -> Vec<PortFacts> {
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

/// The ranges of addresses, both ends included, that routes tell apart.
pub(super) fn routed(config: &Config) -> impl Iterator<Item = (u128, u128)> {
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
