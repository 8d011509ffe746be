//! The configuration as it was written: every key known, every value of its type and in its range, names not yet looked up.
//!
//! *Invariant:* where a value is `None` or a list not `complete`, and the key is not an optional one, the report says why. Whoever finds
//! such a hole leaves it, so that one mistake is reported once.

mod balancing;
mod dataplane;
mod fields;
mod guard;
mod network;
mod policy;
mod records;
mod scalar;

pub(crate) use balancing::*;
pub(crate) use fields::{List, Opt};
pub(crate) use guard::*;
pub(crate) use network::*;
pub(crate) use policy::*;
pub(crate) use records::*;
pub(crate) use scalar::name_mistake;

use crate::model::{Dataplane, Logs};
use crate::report::Report;
use crate::tree::Node;

/// The whole configuration as written.
pub(crate) struct Raw {
    pub(crate) name: Opt<String>,
    pub(crate) dataplane: Option<Dataplane>,
    pub(crate) ports: List<Port>,
    pub(crate) routes: List<Route>,
    pub(crate) neighbors: List<Neighbor>,
    pub(crate) virtual_network: Option<VirtualNetwork>,
    /// The section was written, be it good or bad.
    pub(crate) virtual_network_given: bool,
    pub(crate) service_tags: Option<ServiceTags>,
    /// The section was written, be it good or bad.
    pub(crate) service_tags_given: bool,
    pub(crate) security_groups: List<SecurityGroup>,
    pub(crate) load_balancers: List<LoadBalancer>,
    pub(crate) gateways: List<Gateway>,
    pub(crate) protection: Option<ProtectionSection>,
    pub(crate) management: Option<Management>,
    pub(crate) logs: Option<Logs>,
}

/// Reads the root of the tree. `None` only for a root that was reported.
pub(crate) fn read(root: &Node, report: &mut Report<'_>) -> Option<Raw> {
    let mut fields = fields::fields(root, report)?;
    if !fields.is_empty() {
        fields.required("version", report, scalar::version);
    }
    let raw = Raw {
        name: fields.or("name", "nva-1".to_owned(), report, scalar::name),
        dataplane: fields.section("dataplane", report, dataplane::dataplane),
        ports: fields.list("ports", report, network::port),
        routes: fields.list("routes", report, network::route),
        neighbors: fields.list("neighbors", report, network::neighbor),
        virtual_network_given: fields.is_meant("virtual_network"),
        virtual_network: fields.section("virtual_network", report, network::virtual_network),
        service_tags_given: fields.is_meant("service_tags"),
        service_tags: fields.section("service_tags", report, policy::service_tags),
        security_groups: fields.list("security_groups", report, policy::security_group),
        load_balancers: fields.list("load_balancers", report, balancing::load_balancer),
        gateways: fields.one_or_list("gateway", report, guard::gateway),
        protection: fields.section("protection", report, guard::protection),
        management: fields.section("management", report, records::management),
        logs: fields.section("logs", report, records::logs),
    };
    fields.finish(report);
    Some(raw)
}
