//! Load balancers: frontends, pools and probes, and the rules that join them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Once;
use super::listeners::Listeners;
use super::names::Names;
use super::network::Connected;
use crate::model::{
    Backend, BalancingRule, Frontend, FrontendIndex, InboundNat, LoadBalancer, Pool, PoolIndex, Probe,
    ProbeIndex, SynProxyMode,
};
use crate::raw::{self, Opt, Raw};
use crate::report::{Place, Report};

/// All load balancers, in the order of the file.
pub(super) fn check(raw: &Raw, connected: &Connected, report: &mut Report<'_>) -> Vec<LoadBalancer> {
    let balancers = &raw.load_balancers;
    Names::collect("load balancer", balancers.items.iter().map(|b| &b.name), balancers.complete, report);
    let frontends = frontend_addresses(raw, connected, report);
    for balancer in &balancers.items {
        check_backend_addresses(balancer, connected, &frontends, report);
    }
    balancers.items.iter().filter_map(|balancer| Scope::new(balancer, report).check(report)).collect()
}

/// Every frontend's address, once among all balancers and never a port's own.
fn frontend_addresses(raw: &Raw, connected: &Connected, report: &mut Report<'_>) -> HashMap<IpAddr, Place> {
    let mut addresses = Once::new();
    let frontends = raw.load_balancers.items.iter().flat_map(|balancer| &balancer.frontends.items);
    for address in frontends.filter_map(|frontend| frontend.address.as_ref()) {
        let text = address.value;
        addresses.note(address, report, |first| {
            format!("the address {text} is that of the frontend at {first}; give each its own")
        });
        if let Some(own) = connected.own(text) {
            let own = report.location(own);
            report.problem(
                address.at,
                format!("{text} is a port's own address, given at {own}; give the frontend another"),
            );
        }
    }
    addresses.0
}

/// A backend is another station: neither the appliance nor one of its frontends; and it is in a pool once.
fn check_backend_addresses(
    balancer: &raw::LoadBalancer,
    connected: &Connected,
    frontends: &HashMap<IpAddr, Place>,
    report: &mut Report<'_>,
) {
    for pool in &balancer.pools.items {
        let mut addresses = Once::new();
        for address in pool.backends.items.iter().filter_map(|backend| backend.address.as_ref()) {
            let text = address.value;
            addresses.note(address, report, |first| {
                format!("the address {text} is in this pool at {first} already; keep one")
            });
            if let Some(frontend) = frontends.get(&text) {
                let place = report.location(*frontend);
                report.problem(address.at, format!("{text} is the frontend at {place}, so packets would go in circles; name the station itself"));
            } else if let Some(own) = connected.own(text) {
                let place = report.location(own);
                report.problem(
                    address.at,
                    format!("{text} is the appliance's own address, given at {place}; name another station"),
                );
            }
        }
    }
}

/// One balancer with its names.
pub(super) struct Scope<'r> {
    pub(super) raw: &'r raw::LoadBalancer,
    pub(super) frontends: Names<'r>,
    pub(super) pools: Names<'r>,
    probes: Names<'r>,
    backends: Names<'r>,
    /// Of each pool, the first IPv4 and the first IPv6 backend.
    first_backends: Vec<[Opt<IpAddr>; 2]>,
    /// Of each backend, in the order of `backends`: its pool, and its index there.
    homes: Vec<(usize, usize)>,
}

impl<'r> Scope<'r> {
    fn new(raw: &'r raw::LoadBalancer, report: &mut Report<'_>) -> Self {
        let pools = &raw.pools;
        let backends_complete = pools.complete && pools.items.iter().all(|p| p.backends.complete);
        let backends = pools.items.iter().flat_map(|pool| &pool.backends.items);
        let homes = pools
            .items
            .iter()
            .enumerate()
            .flat_map(|(p, pool)| (0..pool.backends.items.len()).map(move |b| (p, b)));
        Self {
            raw,
            frontends: Names::collect(
                "frontend",
                raw.frontends.items.iter().map(|f| &f.name),
                raw.frontends.complete,
                report,
            ),
            pools: Names::collect("pool", pools.items.iter().map(|p| &p.name), pools.complete, report),
            probes: Names::collect(
                "probe",
                raw.probes.items.iter().map(|p| &p.name),
                raw.probes.complete,
                report,
            ),
            backends: Names::collect("backend", backends.map(|b| &b.name), backends_complete, report),
            first_backends: pools.items.iter().map(first_backends).collect(),
            homes: homes.collect(),
        }
    }

    fn check(&self, report: &mut Report<'_>) -> Option<LoadBalancer> {
        let raw = self.raw;
        Names::collect("rule", raw.rules.items.iter().map(|rule| &rule.listener.name), true, report);
        Names::collect(
            "inbound NAT rule",
            raw.inbound_nat.items.iter().map(|nat| &nat.listener.name),
            true,
            report,
        );
        Names::collect(
            "outbound rule",
            raw.outbound.items.iter().map(|outbound| &outbound.name),
            true,
            report,
        );
        let mut listeners = Listeners::default();
        let rules = raw.rules.items.iter().filter_map(|r| self.rule(r, &mut listeners, report)).collect();
        let inbound_nat =
            raw.inbound_nat.items.iter().filter_map(|n| self.nat(n, &mut listeners, report)).collect();
        let mut egress = HashMap::new();
        let outbound =
            raw.outbound.items.iter().filter_map(|o| self.outbound(o, &mut egress, report)).collect();
        Some(LoadBalancer {
            name: raw.name.as_ref()?.value.clone(),
            frontends: raw.frontends.items.iter().filter_map(frontend).collect(),
            pools: raw.pools.items.iter().filter_map(pool).collect(),
            probes: raw.probes.items.iter().filter_map(probe).collect(),
            rules,
            inbound_nat,
            outbound,
        })
    }

    fn rule(
        &self,
        raw: &raw::Rule,
        listeners: &mut Listeners,
        report: &mut Report<'_>,
    ) -> Option<BalancingRule> {
        let listener = &raw.listener;
        let frontend = self.listen(listener, listeners, report);
        let pool = raw.pool.as_ref().and_then(|name| self.pools.find(name, report));
        let probe = raw.probe.as_ref().and_then(|name| self.probes.find(name, report));
        if let (Some(frontend), Some(pool), Some(name)) = (frontend, pool, &raw.pool) {
            self.check_pool_family(frontend, pool, name.at, report);
        }
        check_syn_proxy(raw.syn_proxy, listener, report);
        Some(BalancingRule {
            name: listener.name.as_ref()?.value.clone(),
            frontend: FrontendIndex(frontend?),
            protocol: listener.protocol?.value,
            port: listener.port?.value,
            pool: PoolIndex(pool?),
            backend_port: listener.backend_port?.value,
            probe: probe.map(ProbeIndex),
            distribution: raw.distribution?.value,
            idle_timeout: listener.idle_timeout?.value,
            tcp_reset: listener.tcp_reset?.value,
            floating_ip: listener.floating_ip?.value,
            syn_proxy: raw.syn_proxy?.value,
        })
    }

    fn nat(&self, raw: &raw::Nat, listeners: &mut Listeners, report: &mut Report<'_>) -> Option<InboundNat> {
        let listener = &raw.listener;
        let frontend = self.listen(listener, listeners, report);
        let backend = raw.backend.as_ref().and_then(|name| self.backends.find(name, report));
        let home = backend.and_then(|index| self.homes.get(index).copied());
        if let (Some(frontend), Some((pool, index)), Some(name)) = (frontend, home, &raw.backend) {
            let address =
                self.raw.pools.items.get(pool).and_then(|pool| pool.backends.items.get(index)?.address);
            self.check_family(frontend, address, name.at, report);
        }
        check_syn_proxy(raw.syn_proxy, listener, report);
        let (pool, index) = home?;
        Some(InboundNat {
            name: listener.name.as_ref()?.value.clone(),
            frontend: FrontendIndex(frontend?),
            protocol: listener.protocol?.value,
            port: listener.port?.value,
            backend: (PoolIndex(pool), index),
            backend_port: listener.backend_port?.value,
            idle_timeout: listener.idle_timeout?.value,
            tcp_reset: listener.tcp_reset?.value,
            floating_ip: listener.floating_ip?.value,
            syn_proxy: raw.syn_proxy?.value,
        })
    }

    /// The frontend of a rule, whose port it takes.
    fn listen(
        &self,
        raw: &raw::Listener,
        listeners: &mut Listeners,
        report: &mut Report<'_>,
    ) -> Option<usize> {
        let frontend = self.frontends.find(raw.frontend.as_ref()?, report)?;
        listeners.take(frontend, raw, report);
        Some(frontend)
    }

    /// Every backend of the pool speaks the frontend's IP version; the first that does not is named.
    pub(super) fn check_pool_family(
        &self,
        frontend: usize,
        pool: usize,
        at: Place,
        report: &mut Report<'_>,
    ) -> bool {
        let firsts = self.first_backends.get(pool).into_iter().flatten().flatten();
        firsts.fold(true, |good, backend| good & self.check_family(frontend, Some(*backend), at, report))
    }

    fn check_family(
        &self,
        frontend: usize,
        backend: Opt<IpAddr>,
        at: Place,
        report: &mut Report<'_>,
    ) -> bool {
        let frontend = self.raw.frontends.items.get(frontend).and_then(|frontend| frontend.address);
        let (Some(frontend), Some(backend)) = (frontend, backend) else { return true };
        if frontend.value.is_ipv4() == backend.value.is_ipv4() {
            return true;
        }
        let (here, there, place) = (frontend.value, backend.value, report.location(backend.at));
        let message =
            format!("the backend {there} at {place} is of another IP version than the frontend {here}");
        report.problem(at, format!("{message}; use backends of the same"));
        false
    }
}

/// Nobody can speak for a backend whose answers do not come by.
fn check_syn_proxy(proxy: Opt<SynProxyMode>, listener: &raw::Listener, report: &mut Report<'_>) {
    if let (Some(proxy), Some(floating)) = (proxy, listener.floating_ip)
        && proxy.value == SynProxyMode::Always
        && floating.value
    {
        report.problem(proxy.at, "`always` cannot go with `floating_ip`, as the backend answers past the appliance; use off or auto, or remove `floating_ip`");
    }
}

fn first_backends(pool: &raw::Pool) -> [Opt<IpAddr>; 2] {
    let first =
        |ipv4| pool.backends.items.iter().filter_map(|b| b.address).find(|a| a.value.is_ipv4() == ipv4);
    [first(true), first(false)]
}

fn frontend(raw: &raw::Frontend) -> Option<Frontend> {
    Some(Frontend { name: raw.name.as_ref()?.value.clone(), address: raw.address?.value })
}

fn pool(raw: &raw::Pool) -> Option<Pool> {
    Some(Pool {
        name: raw.name.as_ref()?.value.clone(),
        drain_period: raw.drain_period?.value,
        no_healthy_backends: raw.no_healthy_backends?.value,
        backends: raw.backends.items.iter().filter_map(backend).collect(),
    })
}

fn backend(raw: &raw::Backend) -> Option<Backend> {
    Some(Backend {
        name: raw.name.as_ref()?.value.clone(),
        address: raw.address?.value,
        weight: raw.weight?.value,
        admin_state: raw.admin_state?.value,
    })
}

fn probe(raw: &raw::Probe) -> Option<Probe> {
    Some(Probe {
        name: raw.name.as_ref()?.value.clone(),
        protocol: raw.protocol?.value,
        port: raw.port?.value,
        path: raw.path.as_ref()?.value.clone(),
        interval: raw.interval?.value,
        threshold: raw.threshold?.value,
    })
}
