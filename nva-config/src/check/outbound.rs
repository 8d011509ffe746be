//! Outbound rules: one way out for each pool, with ports enough.

use std::collections::HashMap;

use super::Once;
use super::balancing::Scope;
use crate::model::{BalancingProtocol, FrontendIndex, OutboundRule, PoolIndex};
use crate::raw::{self, SNAT_PORTS};
use crate::report::{At, Place, Report};

/// The cloud's table of SNAT ports by the size of the pool ends here.
const DEFAULT_SNAT_BACKENDS_MAX: usize = 1000;

impl Scope<'_> {
    /// One rule, with its pool's way out noted in `egress`.
    pub(super) fn outbound(
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
            for frontend in &frontends {
                if !self.check_pool_family(*frontend, pool, name.at, report) {
                    break;
                }
            }
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
        if raw.frontends.complete && frontends > 0 && needed > there {
            let right = there / backends as u64 / 8 * 8;
            let message = format!(
                "{backends} backends with {} ports each need {needed}, but the frontends have {there} in all",
                ports.value
            );
            report.problem(ports.at, format!("{message}; write at most {right}, or add frontends"));
        }
    }
}
