//! What public addresses in tunnels stand for. A gateway load balancer sends packets as they come from the Internet, to the address of a
//! frontend; security rules are written for what is behind it.

use crate::addr::Addr;
use crate::policy::{Context, Decision, Policy};
use crate::prefix_set::PrefixSet;
use crate::wire::FlowKey;
use hashbrown::HashMap;
use nva_config::{Access, Config, Prefix};
use std::net::IpAddr;

/// The map from frontends to what is behind them, and what only the trusted side sends.
#[derive(Clone, Debug, Default)]
pub struct Frontends {
    /// One address of each prefix.
    behind: HashMap<Addr, Box<[Addr]>>,
    trusted_side: PrefixSet,
}

impl Frontends {
    pub(super) fn build(config: &Config) -> Self {
        let mapped = || config.gateways.iter().flat_map(|gateway| &gateway.frontends);
        let balanced = config.load_balancers.iter().flat_map(|balancer| &balancer.frontends);
        let network = &config.virtual_network;
        let prefixes: Vec<Prefix> = mapped()
            .map(|frontend| Prefix::host(frontend.address))
            .chain(balanced.map(|frontend| Prefix::host(frontend.address)))
            .chain(network.address_space.iter().copied())
            .chain(network.subnets.iter().flat_map(|subnet| subnet.prefixes.iter().copied()))
            .collect();
        Self {
            behind: mapped()
                .map(|frontend| (frontend.address.into(), frontend.backends.iter().map(one_of).collect()))
                .collect(),
            trusted_side: PrefixSet::from_prefixes(&prefixes),
        }
    }

    /// Only the trusted side sends from this address: the virtual network's, and frontends'.
    #[inline]
    pub fn are_trusted(&self, source: Addr) -> bool {
        self.trusted_side.contains(source)
    }

    /// What the security groups say of a new flow in a tunnel. One to a frontend, or from it, passes if they let it pass to, or from, each
    /// address that stands for a prefix behind it; who among them takes it is not known here.
    pub fn judge(&self, policy: &Policy, key: &FlowKey) -> Decision {
        let mut decision = Decision { access: Access::Allow, rule: None };
        for (src, dst) in self.seen(key) {
            let context = Context { load_balanced: dst != key.dst };
            decision = policy.decide(&FlowKey { src, dst, ..*key }, context);
            if decision.access == Access::Deny {
                break;
            }
        }
        decision
    }

    /// The same of an established flow, after rules have changed: as [`Policy::decide_again`].
    pub fn judge_again(&self, policy: &Policy, key: &FlowKey) -> Option<Decision> {
        let mut again = None;
        for (src, dst) in self.seen(key) {
            again = policy.decide_again(&FlowKey { src, dst, ..*key }, dst).or(again);
            if again.is_some_and(|decision| decision.access == Access::Deny) {
                break;
            }
        }
        again
    }

    /// Source and destination as rules see them, one pair after the other.
    pub fn seen<'a>(&'a self, key: &'a FlowKey) -> impl Iterator<Item = (Addr, Addr)> + 'a {
        let [sources, destinations] = [&key.src, &key.dst]
            .map(|end| self.behind.get(end).map_or(core::slice::from_ref(end), |behind| behind));
        sources.iter().flat_map(move |src| destinations.iter().map(move |dst| (*src, *dst)))
    }
}

/// The first address of a prefix that is a host's.
fn one_of(prefix: &Prefix) -> Addr {
    match prefix.address() {
        IpAddr::V4(network) if prefix.len() < 31 => IpAddr::V4((u32::from(network) + 1).into()).into(),
        IpAddr::V6(network) if prefix.len() < 127 => IpAddr::V6((u128::from(network) + 1).into()).into(),
        address => address.into(),
    }
}
