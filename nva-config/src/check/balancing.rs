//! Load balancers: frontends, pools and probes, and the rules that join them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Once;
use super::listeners::Listeners;
use super::names::Names;
use super::network::Connected;
use crate::model::{
    Backend, BalancingProtocol, BalancingRule, Frontend, FrontendIndex, InboundNat, LoadBalancer,
    OutboundRule, Pool, PoolIndex, Probe, ProbeIndex,
};
use crate::raw::{self, Raw, SNAT_PORTS};
use crate::report::{At, Place, Report};

/// The cloud's table of SNAT ports by the size of the pool ends here.
const DEFAULT_SNAT_BACKENDS_MAX: usize = 1000;

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
struct Scope<'r> {
    raw: &'r raw::LoadBalancer,
    frontends: Names<'r>,
    pools: Names<'r>,
    probes: Names<'r>,
    backends: Names<'r>,
    /// Of each backend, in the order of `backends`: its pool, and its index there.
    homes: Vec<(usize, usize)>,
}

impl<'r> Scope<'r> {
    fn new(raw: &'r raw::LoadBalancer, report: &mut Report<'_>) -> Self {
        let all = raw.complete;
        let pools = &raw.pools;
        let backends_complete =
            all && pools.complete && pools.items.iter().all(|p| p.complete && p.backends.complete);
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
                all && raw.frontends.complete,
                report,
            ),
            pools: Names::collect("pool", pools.items.iter().map(|p| &p.name), all && pools.complete, report),
            probes: Names::collect(
                "probe",
                raw.probes.items.iter().map(|p| &p.name),
                all && raw.probes.complete,
                report,
            ),
            backends: Names::collect("backend", backends.map(|b| &b.name), backends_complete, report),
            homes: homes.collect(),
        }
    }

    fn check(&self, report: &mut Report<'_>) -> Option<LoadBalancer> {
        let raw = self.raw;
        // Rules of all three lists share one set of names: they are counted and logged side by side.
        let rules = raw.rules.items.iter().map(|rule| &rule.listener.name);
        let nats = raw.inbound_nat.items.iter().map(|nat| &nat.listener.name);
        let outbounds = raw.outbound.items.iter().map(|outbound| &outbound.name);
        Names::collect("rule", rules.chain(nats).chain(outbounds), true, report);
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
            self.check_family(frontend, pool, name.at, report);
        }
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
            self.check_backend_family(frontend, pool, index, name.at, report);
        }
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
    fn check_family(&self, frontend: usize, pool: usize, at: Place, report: &mut Report<'_>) -> bool {
        let backends = self.raw.pools.items.get(pool).map_or(0, |pool| pool.backends.items.len());
        (0..backends).all(|index| self.check_backend_family(frontend, pool, index, at, report))
    }

    fn check_backend_family(
        &self,
        frontend: usize,
        pool: usize,
        index: usize,
        at: Place,
        report: &mut Report<'_>,
    ) -> bool {
        let frontend = self.raw.frontends.items.get(frontend).and_then(|f| f.address);
        let backend =
            self.raw.pools.items.get(pool).and_then(|p| p.backends.items.get(index)).and_then(|b| b.address);
        let (Some(frontend), Some(backend)) = (frontend, backend) else { return true };
        if frontend.value.is_ipv4() == backend.value.is_ipv4() {
            return true;
        }
        let (here, there) = (frontend.value, backend.value);
        let place = report.location(backend.at);
        report.problem(at, format!("the backend {there} at {place} is of another IP version than the frontend {here}; use backends of the same"));
        false
    }

    fn outbound(
        &self,
        raw: &raw::Outbound,
        egress: &mut HashMap<(usize, bool), Place>,
        report: &mut Report<'_>,
    ) -> Option<OutboundRule> {
        let mut seen = Once::new();
        let mut frontends = Vec::new();
        for name in &raw.frontends.items {
            let new = seen.note(name, report, |first| {
                format!("the frontend is listed at {first} already; list it once")
            });
            if new && let Some(index) = self.frontends.find(name, report) {
                frontends.push(index);
            }
        }
        let pool = raw.pool.as_ref().and_then(|name| self.pools.find(name, report));
        if let (Some(pool), Some(name)) = (pool, &raw.pool) {
            // One word for each pool is enough.
            let _ = frontends.iter().all(|frontend| self.check_family(*frontend, pool, name.at, report));
            self.check_egress(pool, name.at, raw.protocol, egress, report);
            self.check_snat_ports(pool, raw, report);
        }
        Some(OutboundRule {
            name: raw.name.as_ref()?.value.clone(),
            frontends: frontends.into_iter().map(FrontendIndex).collect(),
            pool: PoolIndex(pool?),
            protocol: raw.protocol?.value,
            ports_per_backend: raw.ports_per_backend?.value,
            idle_timeout: raw.idle_timeout?.value,
            tcp_reset: raw.tcp_reset?.value,
        })
    }

    /// A pool has one way out for each protocol.
    fn check_egress(
        &self,
        pool: usize,
        at: Place,
        protocol: Option<At<BalancingProtocol>>,
        egress: &mut HashMap<(usize, bool), Place>,
        report: &mut Report<'_>,
    ) {
        let protocols: &[bool] = match protocol.map(|p| p.value) {
            None => &[],
            Some(BalancingProtocol::Tcp) => &[true],
            Some(BalancingProtocol::Udp) => &[false],
            Some(BalancingProtocol::All) => &[true, false],
        };
        let taken = protocols.iter().find_map(|tcp| egress.get(&(pool, *tcp)));
        if let Some(first) = taken {
            let first = report.location(*first);
            report.problem(
                at,
                format!("the pool has an outbound rule for this protocol at {first} already; keep one"),
            );
        }
        for tcp in protocols {
            egress.entry((pool, *tcp)).or_insert(at);
        }
    }

    /// The frontends have ports enough for all backends of the pool.
    fn check_snat_ports(&self, pool: usize, raw: &raw::Outbound, report: &mut Report<'_>) {
        let (Some(ports), Some(pool)) = (raw.ports_per_backend, self.raw.pools.items.get(pool)) else {
            return;
        };
        let backends = pool.backends.items.len();
        if ports.value == 0 {
            if backends > DEFAULT_SNAT_BACKENDS_MAX {
                let message = format!(
                    "the pool has {backends} backends; for more than {DEFAULT_SNAT_BACKENDS_MAX} say `ports_per_backend`"
                );
                report.problem(ports.at, message);
            }
            return;
        }
        let frontends = raw.frontends.items.len() as u64;
        let (needed, there) = (backends as u64 * u64::from(ports.value), SNAT_PORTS * frontends);
        if raw.frontends.complete && needed > there {
            let right = there / backends as u64 / 8 * 8;
            let message = format!(
                "{backends} backends with {} ports each need {needed}, but {frontends} frontends have {there}",
                ports.value
            );
            report.problem(ports.at, format!("{message}; write at most {right}, or add frontends"));
        }
    }
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
