//! The sections that an import fills, before they are written: what [`crate::load`] will make of them, with names in place of indices.

use std::net::IpAddr;

use super::journal::Spot;
use crate::model::{
    Access, AdminState, BalancingProtocol, Direction, Distribution, PortRange, Prefix, ProbeProtocol,
    RuleProtocol,
};

/// One of `security_groups`.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// Index of the input it comes from.
    pub(super) file: u32,
    pub(super) flush_connections: bool,
    /// Inbound before outbound, each by priority.
    pub(super) rules: Vec<Rule>,
}

/// One of its `rules`.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) spot: Spot,
    pub(super) name: String,
    pub(super) priority: u16,
    pub(super) direction: Direction,
    pub(super) access: Access,
    pub(super) protocol: RuleProtocol,
    pub(super) source: Vec<Endpoint>,
    pub(super) source_ports: Vec<PortRange>,
    pub(super) destination: Vec<Endpoint>,
    pub(super) destination_ports: Vec<PortRange>,
    pub(super) description: Option<String>,
}

impl Rule {
    /// Whether both judge alike.
    pub(super) fn same(&self, other: &Self) -> bool {
        let key = |r: &Self| (r.priority, r.direction, r.access, r.protocol);
        key(self) == key(other)
            && self.source == other.source
            && self.source_ports == other.source_ports
            && self.destination == other.destination
            && self.destination_ports == other.destination_ports
    }
}

/// An entry of `source` or `destination`; their order is that in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Any,
    /// `VirtualNetwork`, `AzureLoadBalancer` or `Internet`.
    BuiltIn(&'static str),
    /// Another tag, as the input spells it, later as the tags do.
    Tag(String),
    /// An application security group: its id or name as the input spells it, later its name here.
    MemberGroup(String),
    Prefix(Prefix),
}

/// `virtual_network` and `service_tags`.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) address_space: Vec<Prefix>,
    pub(super) route_prefixes: Vec<Prefix>,
    pub(super) subnets: Vec<Subnet>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) tags: Vec<(String, Vec<Prefix>)>,
}

/// One of `virtual_network.subnets`.
#[derive(Debug)]
pub(super) struct Subnet {
    pub(super) name: String,
    pub(super) prefixes: Vec<Prefix>,
    pub(super) group: Option<String>,
}

/// One of `virtual_network.interfaces`.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) address: IpAddr,
    pub(super) group: Option<String>,
    pub(super) member_of: Vec<String>,
}

/// One of `load_balancers`.
#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) name: String,
    /// Index of the input it comes from.
    pub(super) file: u32,
    pub(super) frontends: Vec<(String, IpAddr)>,
    pub(super) pools: Vec<Pool>,
    pub(super) probes: Vec<Probe>,
    pub(super) rules: Vec<BalancingRule>,
    pub(super) inbound_nat: Vec<InboundNat>,
    pub(super) outbound: Vec<Outbound>,
}

/// One of `pools`.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    /// Seconds; 0 is for ever.
    pub(super) drain_period_s: u64,
    /// With no healthy backend, every one is tried.
    pub(super) up_when_down: bool,
    pub(super) backends: Vec<Backend>,
}

/// One of `backends`.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) admin_state: AdminState,
}

/// One of `probes`.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) name: String,
    pub(super) protocol: ProbeProtocol,
    pub(super) port: u64,
    pub(super) path: Option<String>,
    pub(super) interval_s: u64,
    pub(super) threshold: u64,
}

/// What rules, inbound NAT and outbound rules have in common.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) name: String,
    pub(super) protocol: BalancingProtocol,
    pub(super) idle_timeout_min: u64,
    pub(super) tcp_reset: bool,
}

/// Where a rule listens and sends to.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) flow: Flow,
    pub(super) frontend: String,
    pub(super) port: u64,
    pub(super) backend_port: u64,
    pub(super) floating_ip: bool,
}

/// One of `rules`.
#[derive(Debug)]
pub(super) struct BalancingRule {
    pub(super) listener: Listener,
    pub(super) pool: String,
    pub(super) probe: Option<String>,
    pub(super) distribution: Distribution,
}

/// One of `inbound_nat`.
#[derive(Debug)]
pub(super) struct InboundNat {
    pub(super) listener: Listener,
    pub(super) backend: String,
}

/// One of `outbound`.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) flow: Flow,
    pub(super) frontends: Vec<String>,
    pub(super) pool: String,
    pub(super) ports_per_backend: u64,
}

/// One of `routes`.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) to: Prefix,
    pub(super) via: IpAddr,
    /// Its name in the cloud, for a comment.
    pub(super) name: String,
}
