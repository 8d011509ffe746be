//! What the stages say of an address alone, whatever packet it is in: found out for whole ranges of addresses when a configuration is
//! compiled.

use crate::addr::Addr;
use crate::guard::{Guard, Standing};
use crate::host::LocalTable;
use crate::lb::Balancer;
use crate::policy::{Place, Policy};
use crate::route::{NextHop, RouteTable};
use crate::sources::Ranges;
use crate::synproxy::Demands;
use crate::verdict::PortId;

/// What is known of addresses.
pub(crate) type Bearings = Ranges<Bearing>;

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bearing {
    /// As a source, for the guard.
    pub(crate) standing: Standing,
    /// As a source it is like others.
    pub(crate) is_plain_source: bool,
    /// As a destination.
    pub(crate) role: Role,
    /// The way to it.
    pub(crate) next: Option<NextHop>,
    /// The groups that judge what it sends and receives.
    pub(crate) groups: Place,
}

/// What an address is as a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The appliance's own, the platform's, of no single host, or in a subnet that asks for proofs.
    Special,
    /// A load balancer's frontend.
    Frontend,
    /// A host behind the appliance, or nobody.
    Host,
}

/// The stages that are asked, of one configuration.
pub(crate) struct Asked<'a> {
    pub(crate) guard: &'a Guard,
    pub(crate) local: &'a LocalTable,
    pub(crate) balancer: &'a Balancer,
    pub(crate) policy: &'a Policy,
    pub(crate) demands: &'a Demands,
    pub(crate) routes: &'a RouteTable,
}

impl Asked<'_> {
    /// What is known of the addresses between the bounds of `routed`, which are those of the routes, and those of the other stages.
    pub(crate) fn bearings(&self, routed: impl Iterator<Item = (u128, u128)>) -> Bearings {
        let platform = [Addr::PLATFORM, Addr::METADATA].map(|address| (address.bits(), address.bits()));
        let ranges = self
            .guard
            .source_ranges()
            .chain(self.policy.placement_ranges())
            .chain(self.demands.ranges())
            .chain(platform)
            .chain(routed);
        Ranges::build(ranges, |address| self.bearing(address))
    }

    fn bearing(&self, address: Addr) -> Bearing {
        let next = self.routes.lookup(address);
        Bearing {
            standing: self.guard.standing(address, next),
            is_plain_source: address != Addr::PLATFORM,
            role: self.role(address),
            next,
            groups: self.policy.place(address),
        }
    }

    fn role(&self, address: Addr) -> Role {
        // Of the port's own addresses only those of the link depend on the port, and are no destination anyway.
        let is_ours = self.balancer.is_frontend(address);
        let is_special = !self.guard.forwards_to(address)
            || [Addr::PLATFORM, Addr::METADATA].contains(&address)
            || self.demands.of_subnet(address).is_some()
            || !is_ours && self.local.kind(PortId(0), address).is_some();
        match is_special {
            true => Role::Special,
            false if is_ours => Role::Frontend,
            false => Role::Host,
        }
    }
}
