//! Which connections have to be proved, beside those that a load balancer's service asks to: those to a subnet, from the untrusted side,
//! and those that begin in the untrusted tunnel of a gateway. And who answers connections that were proved, so that what such a one
//! sends for a connection that is no longer known is known for what it is.
//!
//! A service of a load balancer says by itself what it asks for ([`Balancer::syn_proxy`](crate::lb::Balancer::syn_proxy)).

use crate::addr::Addr;
use crate::prefix_set::prefix_ranges;
use crate::verdict::PortId;
use hashbrown::HashSet;
use nva_config::{BalancingProtocol, Config, LoadBalancer, Subnet, SynProxyMode};
use std::net::IpAddr;

/// What SYNs are counted for, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watched {
    /// A frontend.
    Frontend(Addr),
    /// A subnet, known by the first address of its first prefix.
    Subnet(Addr),
    /// A gateway, known by its untrusted tunnel to its first peer.
    Gateway(PortId),
}

impl Watched {
    /// A subnet of the configuration.
    pub fn of_subnet(subnet: &Subnet) -> Self {
        Self::Subnet(subnet.prefixes.first().map_or(Addr::UNSPECIFIED, |first| first.address().into()))
    }
}

impl From<Addr> for Watched {
    #[inline]
    fn from(frontend: Addr) -> Self {
        Self::Frontend(frontend)
    }
}

/// When a connection has to be proved, and with which others it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// When.
    pub mode: SynProxyMode,
    /// Whose flood it would be.
    pub watched: Watched,
}

/// What the subnets of a configuration demand, and who answers its services.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Sorted, disjoint: the checked configuration has no overlapping subnets.
    subnets: Vec<(u128, u128, Demand)>,
    /// Backends of services that ask, with their ports; 0: every port.
    backends: HashSet<(Addr, u16)>,
}

impl Demands {
    /// Compiles a configuration.
    pub fn build(config: &Config) -> Self {
        let asking = config.virtual_network.subnets.iter().filter(|s| s.syn_proxy != SynProxyMode::Off);
        let mut subnets: Vec<_> = asking
            .flat_map(|subnet| {
                let demand = Demand { mode: subnet.syn_proxy, watched: Watched::of_subnet(subnet) };
                subnet.prefixes.iter().flat_map(prefix_ranges).map(move |(from, to)| (from, to, demand))
            })
            .collect();
        subnets.sort_unstable_by_key(|(first, ..)| *first);
        Self { subnets, backends: config.load_balancers.iter().flat_map(answering).collect() }
    }

    /// The ranges of addresses, both ends included, of the subnets that demand something.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.subnets.iter().map(|(first, last, _)| (*first, *last))
    }

    /// What the subnet of a destination demands of connections from the untrusted side; `None`: nothing.
    #[inline]
    pub fn of_subnet(&self, destination: Addr) -> Option<Demand> {
        if self.subnets.is_empty() {
            return None;
        }
        let bits = destination.bits();
        let behind = self.subnets.partition_point(|(first, ..)| *first <= bits);
        let (_, last, demand) = self.subnets.get(behind.checked_sub(1)?)?;
        (bits <= *last).then_some(*demand)
    }

    /// A service that asks for proofs has this backend, at this port.
    #[inline]
    pub fn has_backend(&self, address: Addr, port: u16) -> bool {
        !self.backends.is_empty()
            && (self.backends.contains(&(address, port)) || self.backends.contains(&(address, 0)))
    }

    /// The subnets whose clients prove themselves while these are flooded.
    pub(crate) fn asking(&self) -> impl Iterator<Item = Watched> + '_ {
        let auto = self.subnets.iter().filter(|(.., demand)| demand.mode == SynProxyMode::Auto);
        auto.map(|(.., demand)| demand.watched)
    }
}

/// The backends of a load balancer's services that ask for proofs, with their ports.
fn answering(balancer: &LoadBalancer) -> Vec<(Addr, u16)> {
    let is_asking = |mode: SynProxyMode, is_floating: bool, protocol: BalancingProtocol| {
        mode != SynProxyMode::Off && !is_floating && protocol != BalancingProtocol::Udp
    };
    let mut all = Vec::new();
    let mut add = |address: IpAddr, port: u16| all.push((Addr::from(address), port));
    for rule in balancer.rules.iter().filter(|r| is_asking(r.syn_proxy, r.floating_ip, r.protocol)) {
        let pool = balancer.pools.get(rule.pool.0);
        pool.into_iter().flat_map(|pool| &pool.backends).for_each(|b| add(b.address, rule.backend_port));
    }
    for nat in balancer.inbound_nat.iter().filter(|n| is_asking(n.syn_proxy, n.floating_ip, n.protocol)) {
        let pool = balancer.pools.get(nat.backend.0.0);
        if let Some(backend) = pool.and_then(|pool| pool.backends.get(nat.backend.1)) {
            add(backend.address, nat.backend_port);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(name: &str, prefixes: &[&str], syn_proxy: SynProxyMode) -> Subnet {
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().expect("a prefix")).collect();
        Subnet { name: name.into(), prefixes, security_group: None, syn_proxy }
    }

    fn address(text: &str) -> Addr {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn a_subnet_demands_of_all_its_addresses_and_of_no_others() {
        let mut config = Config::default();
        config.virtual_network.subnets = vec![
            subnet("web", &["10.2.0.0/24", "fd00:2::/64"], SynProxyMode::Always),
            subnet("db", &["10.3.0.0/24"], SynProxyMode::Off),
            subnet("app", &["10.1.0.0/24", "10.2.1.0/25"], SynProxyMode::Auto),
        ];
        let demands = Demands::build(&config);
        let mode = |text: &str| demands.of_subnet(address(text)).map(|demand| demand.mode);
        for text in ["10.2.0.0", "10.2.0.255", "fd00:2::", "fd00:2::ffff:ffff:ffff:ffff"] {
            assert_eq!(mode(text), Some(SynProxyMode::Always), "{text}");
        }
        for text in ["10.1.0.9", "10.2.1.127"] {
            assert_eq!(mode(text), Some(SynProxyMode::Auto), "{text}");
        }
        for text in ["10.0.255.255", "10.2.1.128", "10.3.0.1", "fd00:3::", "0.0.0.0", "::"] {
            assert_eq!(mode(text), None, "{text}");
        }
        // The prefixes of a subnet are counted together.
        let watched = Watched::Subnet(address("10.1.0.0"));
        assert!(demands.asking().all(|asking| asking == watched) && demands.asking().count() == 2);
        assert_eq!(Demands::build(&Config::default()).of_subnet(address("10.2.0.1")), None);
    }
}
