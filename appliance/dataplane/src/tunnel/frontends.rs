//! What public addresses in tunnels stand for. A gateway load balancer sends packets as they come from the Internet, to the address of a
//! frontend; security rules are written for what is behind it.

use crate::addr::Addr;
use crate::policy::{Context, Decision, Policy};
use crate::prefix_set::PrefixSet;
use crate::verdict::RuleId;
use crate::wire::FlowKey;
use arrayvec::ArrayVec;
use hashbrown::HashMap;
use nva_config::{Access, Config, Prefix};
use std::net::IpAddr;

/// So many rules of one flow are counted: where one end is a frontend, as many as it may pass by, one at each of four levels for each of
/// the 64 prefixes that the configuration takes.
const SHOWN_MAX: usize = 4 * 64;

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

    /// Shows the other rules by which an allowed flow passed, each once: beside `last`, which is the [rule](Decision::rule) of what
    /// [`judge`](Self::judge) said. Of very many between two frontends, not all.
    pub(crate) fn passed_by(
        &self,
        policy: &Policy,
        key: &FlowKey,
        last: Option<RuleId>,
        visit: &mut impl FnMut(RuleId),
    ) {
        let mut shown: ArrayVec<RuleId, SHOWN_MAX> = ArrayVec::new();
        let mut show = |rule: RuleId| {
            if Some(rule) != last && !shown.contains(&rule) && shown.try_push(rule).is_ok() {
                visit(rule);
            }
        };
        let mut pairs = self.seen(key).peekable();
        while let Some((src, dst)) = pairs.next() {
            let seen = FlowKey { src, dst, ..*key };
            if pairs.peek().is_some() {
                let context = Context { load_balanced: dst != key.dst };
                policy.decide(&seen, context).rule.into_iter().for_each(&mut show);
            }
            policy.passed_by(&seen, dst, last, &mut show);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;
    use nva_config::Source;

    #[test]
    fn every_rule_by_which_a_flow_to_a_frontend_passes_is_shown_once() {
        let rule = "rules: [{name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: [\"*\"], \
                    source_ports: [\"*\"], destination: [\"*\"], destination_ports: [443]}]";
        let text = format!(
            "version: 1\nports: [{{name: p, device: e0, mtu: 1600, addresses: [10.2.0.1/24], trust: trusted}}]\n\
             virtual_network:\n  address_space: [10.0.0.0/8]\n  subnets: [{{name: s, prefixes: [10.9.0.0/24], security_group: subnet}}]\n  \
             interfaces: [{{address: 10.9.0.4, security_group: one}}, {{address: 10.9.0.5, security_group: two}}, {{address: 10.9.0.6, security_group: one}}]\n\
             security_groups:\n- {{name: subnet, {rule}}}\n- {{name: one, {rule}}}\n- {{name: two, {rule}}}\n\
             gateway:\n  port: p\n  address: 10.2.0.1\n  peers: [10.2.0.200]\n  \
             frontends: {{203.0.113.10: [10.9.0.4, 10.9.0.5, 10.9.0.6], 203.0.113.11: [10.9.0.5]}}\n  \
             tunnels: [{{name: i, trust: trusted, vni: 1, udp_port: 1}}, {{name: e, trust: untrusted, vni: 2, udp_port: 2}}]\n"
        );
        let source = Source { path: "test.yaml".into(), text: text.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        let mut names = Names::default();
        let (policy, frontends) = (Policy::build(&config, &mut names), Frontends::build(&config));
        let mut shown = |frontend: [u8; 4]| {
            let key = FlowKey {
                src: Addr::v4([198, 51, 100, 7]),
                dst: Addr::v4(frontend),
                src_port: 40_000,
                dst_port: 443,
                protocol: 6,
            };
            let decision = frontends.judge(&policy, &key);
            assert_eq!(decision.access, Access::Allow);
            let mut rules: Vec<RuleId> = decision.rule.into_iter().collect();
            frontends.passed_by(&policy, &key, decision.rule, &mut |rule| rules.push(rule));
            rules.sort_by_key(|rule| rule.0);
            let mut all = ["subnet", "one", "two"].map(|group| names.rule(group, "web"));
            all.sort_by_key(|rule| rule.0);
            (rules, all.to_vec())
        };
        let (rules, all) = shown([203, 0, 113, 10]);
        assert_eq!(rules, all);
        assert_eq!(shown([203, 0, 113, 11]).0.len(), 2, "one interface, and its subnet");
    }
    #[test]
    fn rules_of_as_many_groups_as_may_be_behind_a_frontend_are_all_shown() {
        let rules = "rules: [{name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: [\"*\"], \
                     source_ports: [\"*\"], destination: [\"*\"], destination_ports: [443]}]";
        let each = |of: &dyn Fn(usize) -> String, by: &str| (0..64).map(of).collect::<Vec<_>>().join(by);
        let text = format!(
            "version: 1\nports: [{{name: p, device: e0, mtu: 1600, addresses: [10.2.0.1/24], trust: trusted}}]\n\
             virtual_network:\n  address_space: [10.0.0.0/8]\n  subnets: [{}]\n  interfaces: [{}]\n\
             security_groups:\n{}\n{}\n\
             gateway:\n  port: p\n  address: 10.2.0.1\n  peers: [10.2.0.200]\n  frontends: {{203.0.113.10: [{}]}}\n  \
             tunnels: [{{name: i, trust: trusted, vni: 1, udp_port: 1}}, {{name: e, trust: untrusted, vni: 2, udp_port: 2}}]\n",
            each(&|n| format!("{{name: s{n}, prefixes: [10.9.{n}.0/24], security_group: s{n}}}"), ", "),
            each(&|n| format!("{{address: 10.9.{n}.4, security_group: i{n}}}"), ", "),
            each(&|n| format!("- {{name: s{n}, {rules}}}"), "\n"),
            each(&|n| format!("- {{name: i{n}, {rules}}}"), "\n"),
            each(&|n| format!("10.9.{n}.4"), ", "),
        );
        let source = Source { path: "test.yaml".into(), text: text.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        let mut names = Names::default();
        let (policy, frontends) = (Policy::build(&config, &mut names), Frontends::build(&config));
        let [src, dst] = [[198, 51, 100, 7], [203, 0, 113, 10]].map(Addr::v4);
        let key = FlowKey { src, dst, src_port: 40_000, dst_port: 443, protocol: 6 };
        let last = frontends.judge(&policy, &key).rule;
        let mut rules: Vec<RuleId> = last.into_iter().collect();
        frontends.passed_by(&policy, &key, last, &mut |rule| rules.push(rule));
        rules.sort_by_key(|rule| rule.0);
        rules.dedup();
        assert_eq!(rules.len(), 128);
    }
}
