//! Frontends, what listens on them, and the choice of a backend.

use super::hash::flow_hash;
use super::maglev::{SLOTS, Table};
use crate::addr::Addr;
use crate::verdict::BackendId;
use crate::wire::{FlowKey, protocol};
use hashbrown::HashMap;
use nva_config::{BalancingProtocol, Distribution, SynProxyMode};

/// All load balancers of a configuration, compiled together with the health of their backends.
#[derive(Clone, Debug, Default)]
pub struct Balancer {
    /// Every frontend's address, with the service that takes all its ports.
    pub(super) frontends: HashMap<Addr, Option<ServiceId>>,
    /// What listens on one port: frontend address, protocol, port.
    pub(super) listeners: HashMap<(Addr, u8, u16), ServiceId>,
    /// By [`ServiceId`].
    pub(super) rewrites: Vec<Rewrite>,
    /// By [`ServiceId`], as for people.
    pub(super) services: Vec<Service>,
    pub(super) pools: Vec<CompiledPool>,
    pub(super) shares: Vec<Share>,
    /// By [`BackendId`]: takes new flows.
    pub(super) eligible: Vec<bool>,
}

/// A load-balancing rule or an inbound NAT entry, by its place in this generation of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

/// What becomes of the first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The destination is no frontend: nothing to balance.
    NotAFrontend,
    /// A frontend, but nothing listens on this protocol and port.
    NoRule,
    /// The pool has no backend that may take the flow.
    NoHealthyBackend,
    /// The flow goes to this backend.
    Backend(Target),
}

/// A backend with the translation that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The backend.
    pub backend: BackendId,
    /// Its address: the new destination, and with a floating IP only the next hop.
    pub address: Addr,
    /// The new destination port; `None`: the port is left as it is.
    pub port: Option<u16>,
    /// The destination address is left as it is (direct server return).
    pub floating_ip: bool,
    /// The connection ends after this long without a packet.
    pub idle_timeout_ms: u32,
    /// Both ends are reset when the idle timeout ends the connection.
    pub tcp_reset: bool,
    /// What listened.
    pub service: ServiceId,
}

impl Target {
    /// The packet's key after translation. With a floating IP the destination address stays.
    #[inline]
    pub fn translated_key(&self, key: &FlowKey) -> FlowKey {
        let dst = if self.floating_ip { key.dst } else { self.address };
        FlowKey { dst, dst_port: self.port.unwrap_or(key.dst_port), ..*key }
    }
}

/// A service whose clients prove themselves.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// When they do.
    pub mode: SynProxyMode,
    /// The new destination port; `None`: the port is left as it is.
    pub port: Option<u16>,
    choice: Choice,
}

impl Asking {
    /// Of what asks nobody.
    pub const NOBODY: Self = Self { mode: SynProxyMode::Off, port: None, choice: Choice::One(None) };
}

/// A rule or NAT entry as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The load balancer.
    pub load_balancer: String,
    /// The rule's or the NAT entry's name.
    pub name: String,
    /// Which of them it is.
    pub kind: ServiceKind,
    /// The frontend's name.
    pub frontend: String,
    /// The frontend's address.
    pub address: Addr,
    /// The protocol that it listens to.
    pub protocol: BalancingProtocol,
    /// The port that it listens on; 0: all.
    pub port: u16,
    /// The port of the backends; `None`: the same.
    pub backend_port: Option<u16>,
    /// The pool.
    pub pool: String,
    /// What makes two flows go to one backend.
    pub distribution: Distribution,
    /// The destination address is left as it is.
    pub floating_ip: bool,
    /// When connections are proven before the backend hears of them.
    pub syn_proxy: SynProxyMode,
}

/// What a [`Service`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A load-balancing rule.
    Rule,
    /// An inbound NAT entry, to the backend of this name.
    InboundNat(String),
}

/// A backend's part in its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The backend's number.
    pub id: BackendId,
    /// The load balancer.
    pub load_balancer: String,
    /// The pool.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// Its address.
    pub address: Addr,
    /// Its weight.
    pub weight: u16,
    /// It takes new flows.
    pub eligible: bool,
    /// The operator set it down: its connections drain.
    pub set_down: bool,
    /// How long connections stay with it once it is set down or taken out; 0: for ever.
    pub drain_period_ms: u32,
    /// How many slots of the table lead to it, of [`SLOTS`].
    pub slots: usize,
}

impl Share {
    /// The part of new flows that it takes, 0..=1.
    pub fn fraction(&self) -> f64 {
        self.slots as f64 / SLOTS as f64
    }
}

/// What a service does to a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewrite {
    pub(super) choice: Choice,
    pub(super) port: Option<u16>,
    pub(super) floating_ip: bool,
    pub(super) idle_timeout_ms: u32,
    pub(super) tcp_reset: bool,
    pub(super) syn_proxy: SynProxyMode,
}

/// How a service comes by its backend.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// By the table of the pool at this place.
    Pool(usize, Distribution),
    /// Always the same; `None` while it is set down.
    One(Option<(BackendId, Addr)>),
}

impl Choice {
    /// The slot of the pool's table that a flow falls into; where there is no choice, any.
    #[inline(always)]
    fn slot(self, key: &FlowKey) -> u32 {
        match self {
            Self::One(_) => 0,
            Self::Pool(_, distribution) => Table::slot(flow_hash(key, distribution)),
        }
    }
}

/// The backends of a pool, of one family, that take new flows.
#[derive(Clone, Debug, Default)]
pub(super) struct CompiledPool {
    /// `None` without backends.
    pub(super) table: Option<Table>,
    /// In the order of the list that the table was built from.
    pub(super) backends: Vec<(BackendId, Addr)>,
}

impl Balancer {
    /// Whether the address is a frontend's.
    #[inline]
    pub fn is_frontend(&self, address: Addr) -> bool {
        self.frontends.contains_key(&address)
    }

    /// Which backend takes the flow that this packet opens.
    pub fn select(&self, key: &FlowKey) -> Selection {
        let Some(all_ports) = self.frontends.get(&key.dst) else { return Selection::NotAFrontend };
        if !matches!(key.protocol, protocol::TCP | protocol::UDP) {
            return Selection::NoRule;
        }
        let Some(service) = self.service_of(key, *all_ports) else { return Selection::NoRule };
        let Some(rewrite) = self.rewrites.get(service.0 as usize) else { return Selection::NoRule };
        let slot = rewrite.choice.slot(key);
        let Some(&(backend, address)) = self.choose(&rewrite.choice, slot) else {
            return Selection::NoHealthyBackend;
        };
        Selection::Backend(Target {
            backend,
            address,
            port: rewrite.port,
            floating_ip: rewrite.floating_ip,
            idle_timeout_ms: rewrite.idle_timeout_ms,
            tcp_reset: rewrite.tcp_reset,
            service,
        })
    }

    fn service_of(&self, key: &FlowKey, all_ports: Option<ServiceId>) -> Option<ServiceId> {
        self.listeners.get(&(key.dst, key.protocol, key.dst_port)).copied().or(all_ports)
    }

    /// When clients of the destination prove themselves: of a frontend, what the rule says that listens there, of anything else never.
    /// A backend that answers past the appliance cannot be spoken for.
    #[inline]
    pub fn syn_proxy(&self, key: &FlowKey) -> SynProxyMode {
        let Some(all_ports) = self.frontends.get(&key.dst) else { return SynProxyMode::Off };
        let service = self.service_of(key, *all_ports);
        let rewrite = service.and_then(|service| self.rewrites.get(service.0 as usize));
        rewrite.filter(|rewrite| !rewrite.floating_ip).map_or(SynProxyMode::Off, |rewrite| rewrite.syn_proxy)
    }

    /// What listens at the destination, if its clients prove themselves, as [`syn_proxy`](Self::syn_proxy) says.
    pub fn asking_at(&self, key: &FlowKey) -> Option<Asking> {
        let mode = self.syn_proxy(key);
        let service = self.service_of(key, *self.frontends.get(&key.dst)?)?;
        let rewrite = self.rewrites.get(service.0 as usize).filter(|_| mode != SynProxyMode::Off)?;
        Some(Asking { mode, port: rewrite.port, choice: rewrite.choice })
    }

    /// What decides which backend takes the flow of such a service: the slot of a table, which is asked for.
    #[inline(always)]
    pub fn slot_for(&self, asking: &Asking, key: &FlowKey) -> u32 {
        let slot = asking.choice.slot(key);
        if let Some(table) = self.pool_of(asking.choice).and_then(|pool| pool.table.as_ref()) {
            table.prefetch(slot);
        }
        slot
    }

    /// Which backend takes the flows of [this slot](Self::slot_for), as [`select`](Self::select) says, and its address.
    #[inline(always)]
    pub fn choose_at<'a>(&'a self, asking: &'a Asking, slot: u32) -> Option<&'a (BackendId, Addr)> {
        self.choose(&asking.choice, slot)
    }

    /// When clients of any service prove themselves.
    pub fn asks(&self) -> SynProxyMode {
        let is_any = |mode| self.services.iter().any(|service| service.syn_proxy == mode);
        let modes = [SynProxyMode::Always, SynProxyMode::Auto];
        modes.into_iter().find(|mode| is_any(*mode)).unwrap_or(SynProxyMode::Off)
    }

    /// The frontends whose clients prove themselves while they are flooded.
    pub(crate) fn asking(&self) -> impl Iterator<Item = Addr> + '_ {
        self.services
            .iter()
            .filter(|service| service.syn_proxy == SynProxyMode::Auto)
            .map(|service| service.address)
    }

    /// Whether the backend takes new flows. One that this configuration does not have does not.
    #[inline]
    pub fn is_eligible(&self, backend: BackendId) -> bool {
        self.eligible.get(backend.0 as usize).copied().unwrap_or(false)
    }

    /// A backend's address. Looks through the list: not for every packet.
    pub fn address(&self, backend: BackendId) -> Option<Addr> {
        self.shares.iter().find(|share| share.id == backend).map(|share| share.address)
    }

    /// The rule or NAT entry behind a number of this generation.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.0 as usize)
    }

    /// All rules and NAT entries, in the order of the configuration: a [`ServiceId`] is a place in it.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// All backends with their parts, in the order of the configuration.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    #[inline(always)]
    fn choose<'a>(&'a self, choice: &'a Choice, slot: u32) -> Option<&'a (BackendId, Addr)> {
        if let Choice::One(backend) = choice {
            return backend.as_ref();
        }
        let pool = self.pool_of(*choice)?;
        pool.backends.get(pool.table.as_ref()?.member(slot))
    }

    #[inline(always)]
    fn pool_of(&self, choice: Choice) -> Option<&CompiledPool> {
        match choice {
            Choice::One(_) => None,
            Choice::Pool(pool, _) => self.pools.get(pool),
        }
    }
}
