//! From configuration and health to tables.

use super::balancer::{Balancer, Choice, CompiledPool, Rewrite, Service, ServiceId, ServiceKind, Share};
use super::maglev::{Member, Table};
use crate::addr::{Addr, Family};
use crate::names::Names;
use crate::wire::protocol;
use core::time::Duration;
use nva_config::{
    AdminState, BalancingProtocol, BalancingRule, Config, Distribution, Frontend, InboundNat, LoadBalancer,
    NoHealthyBackends, Pool, SynProxyMode,
};
use std::sync::Arc;

impl Balancer {
    /// As [`build`](Self::build), or what was built before from these load balancers, where that is the same: where the same backends take
    /// new flows.
    pub(crate) fn build_after(
        before: Option<(&Arc<Self>, &[LoadBalancer])>,
        config: &Config,
        down: &dyn Fn(&str, &str) -> bool,
        names: &mut Names,
    ) -> Arc<Self> {
        let is_same = |(before, old): &(&Arc<Self>, &[LoadBalancer])| {
            let takers = config.load_balancers.iter().flat_map(|load_balancer| {
                let down = |backend: &str| down(&load_balancer.name, backend);
                load_balancer.pools.iter().flat_map(move |pool| eligible(pool, down))
            });
            **old == config.load_balancers && takers.eq(before.shares.iter().map(|share| share.eligible))
        };
        match before.filter(is_same) {
            Some((before, _)) => Arc::clone(before),
            None => Arc::new(Self::build(config, down, names)),
        }
    }

    /// Compiles all load balancers. `down` says of a load balancer's backend whether its probe fails.
    ///
    /// A backend takes new flows unless it is set down, or its probe fails and it is not set up. Where that leaves a pool
    /// with none, `no_healthy_backends: up` takes every backend that is not set down: it overrides the probes, not the operator.
    /// A backend serves the frontends of its own address family.
    pub fn build(config: &Config, down: &dyn Fn(&str, &str) -> bool, names: &mut Names) -> Self {
        let mut balancer = Self::default();
        for load_balancer in &config.load_balancers {
            let first_pool = balancer.pools.len();
            for pool in &load_balancer.pools {
                balancer.add_pool(load_balancer, pool, down, names);
            }
            balancer.frontends.extend(load_balancer.frontends.iter().map(|f| (f.address.into(), None)));
            for rule in &load_balancer.rules {
                balancer.add_rule(load_balancer, rule, first_pool);
            }
            for nat in &load_balancer.inbound_nat {
                balancer.add_nat(load_balancer, nat, names);
            }
        }
        balancer.eligible = vec![false; names.backend_count()];
        for share in &balancer.shares {
            if let Some(eligible) = balancer.eligible.get_mut(share.id.0 as usize) {
                *eligible = share.eligible;
            }
        }
        balancer
    }

    /// Adds a pool's backends, and its two compiled forms: for IPv4, and behind it for IPv6.
    fn add_pool(
        &mut self,
        load_balancer: &LoadBalancer,
        pool: &Pool,
        down: &dyn Fn(&str, &str) -> bool,
        names: &mut Names,
    ) {
        let first = self.shares.len();
        let eligible = eligible(pool, |backend| down(&load_balancer.name, backend));
        for (backend, eligible) in pool.backends.iter().zip(eligible) {
            self.shares.push(Share {
                id: names.backend(&load_balancer.name, &pool.name, &backend.name),
                load_balancer: load_balancer.name.clone(),
                pool: pool.name.clone(),
                backend: backend.name.clone(),
                address: backend.address.into(),
                weight: backend.weight,
                eligible,
                set_down: backend.admin_state == AdminState::Down,
                drain_period_ms: millis(pool.drain_period),
                slots: 0,
            });
        }
        let shares = self.shares.get_mut(first..).unwrap_or_default();
        self.pools.extend([Family::V4, Family::V6].map(|family| compile(shares, family)));
    }

    fn add_rule(&mut self, load_balancer: &LoadBalancer, rule: &BalancingRule, first_pool: usize) {
        let (Some(frontend), Some(pool)) =
            (load_balancer.frontends.get(rule.frontend.0), load_balancer.pools.get(rule.pool.0))
        else {
            return;
        };
        let address = Addr::from(frontend.address);
        let compiled = first_pool + 2 * rule.pool.0 + usize::from(address.family() == Family::V6);
        let service = Service {
            distribution: rule.distribution,
            floating_ip: rule.floating_ip,
            syn_proxy: rule.syn_proxy,
            kind: ServiceKind::Rule,
            ..described(
                load_balancer,
                frontend,
                &rule.name,
                pool,
                (rule.protocol, rule.port, rule.backend_port),
            )
        };
        let rewrite = Rewrite {
            choice: Choice::Pool(compiled, rule.distribution),
            port: service.backend_port,
            floating_ip: rule.floating_ip,
            idle_timeout_ms: millis(rule.idle_timeout),
            tcp_reset: rule.tcp_reset,
            syn_proxy: rule.syn_proxy,
        };
        self.add_service(service, rewrite);
    }

    fn add_nat(&mut self, load_balancer: &LoadBalancer, nat: &InboundNat, names: &mut Names) {
        let (Some(frontend), Some(pool)) =
            (load_balancer.frontends.get(nat.frontend.0), load_balancer.pools.get(nat.backend.0.0))
        else {
            return;
        };
        let Some(backend) = pool.backends.get(nat.backend.1) else { return };
        // Probes do not matter to an inbound NAT entry: it is a way to one machine, sick or not.
        let in_service = backend.admin_state != AdminState::Down;
        let id = names.backend(&load_balancer.name, &pool.name, &backend.name);
        let service = Service {
            floating_ip: nat.floating_ip,
            syn_proxy: nat.syn_proxy,
            kind: ServiceKind::InboundNat(backend.name.clone()),
            ..described(load_balancer, frontend, &nat.name, pool, (nat.protocol, nat.port, nat.backend_port))
        };
        let rewrite = Rewrite {
            choice: Choice::One(in_service.then(|| (id, backend.address.into()))),
            port: service.backend_port,
            floating_ip: nat.floating_ip,
            idle_timeout_ms: millis(nat.idle_timeout),
            tcp_reset: nat.tcp_reset,
            syn_proxy: nat.syn_proxy,
        };
        self.add_service(service, rewrite);
    }

    /// Adds a service where it listens. Where two want the same place, which the checked configuration has not, the first stays.
    fn add_service(&mut self, service: Service, rewrite: Rewrite) {
        let Ok(number) = u32::try_from(self.services.len()) else { return };
        let (id, address) = (ServiceId(number), service.address);
        let protocols: &[u8] = match service.protocol {
            BalancingProtocol::Tcp => &[protocol::TCP],
            BalancingProtocol::Udp => &[protocol::UDP],
            BalancingProtocol::All => &[protocol::TCP, protocol::UDP],
        };
        if service.protocol == BalancingProtocol::All && service.port == 0 {
            self.frontends.entry(address).or_insert(None).get_or_insert(id);
        } else {
            for protocol in protocols {
                self.listeners.entry((address, *protocol, service.port)).or_insert(id);
            }
        }
        self.services.push(service);
        self.rewrites.push(rewrite);
    }
}

/// Which backends of a pool take new flows.
fn eligible(pool: &Pool, down: impl Fn(&str) -> bool) -> Vec<bool> {
    let healthy: Vec<bool> = pool
        .backends
        .iter()
        .map(|backend| match backend.admin_state {
            AdminState::Up => true,
            AdminState::Down => false,
            AdminState::None => !down(&backend.name),
        })
        .collect();
    if healthy.contains(&true) || pool.no_healthy_backends == NoHealthyBackends::Down {
        return healthy;
    }
    pool.backends.iter().map(|backend| backend.admin_state != AdminState::Down).collect()
}

/// The table over the eligible backends of one family; tells each how many slots it got.
fn compile(shares: &mut [Share], family: Family) -> CompiledPool {
    let mut takers: Vec<&mut Share> =
        shares.iter_mut().filter(|share| share.eligible && share.address.family() == family).collect();
    let members: Vec<Member> =
        takers.iter().map(|share| Member { address: share.address, weight: share.weight }).collect();
    let table = Table::build(&members);
    for slot in table.iter().flat_map(Table::slots) {
        if let Some(share) = takers.get_mut(usize::from(*slot)) {
            share.slots += 1;
        }
    }
    CompiledPool { table, backends: takers.iter().map(|share| (share.id, share.address)).collect() }
}

/// What a rule and a NAT entry have in common, with a NAT entry's values for the rest.
fn described(
    load_balancer: &LoadBalancer,
    frontend: &Frontend,
    name: &str,
    pool: &Pool,
    (protocol, port, backend_port): (BalancingProtocol, u16, u16),
) -> Service {
    Service {
        load_balancer: load_balancer.name.clone(),
        name: name.to_owned(),
        kind: ServiceKind::Rule,
        frontend: frontend.name.clone(),
        address: frontend.address.into(),
        protocol,
        port,
        backend_port: (backend_port != 0).then_some(backend_port),
        pool: pool.name.clone(),
        distribution: Distribution::FiveTuple,
        floating_ip: false,
        syn_proxy: SynProxyMode::Off,
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
