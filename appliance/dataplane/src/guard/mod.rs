//! Stage 4, protect: whether a packet can be where it is, and is of a kind that may be there at all.
//!
//! Decides on what a packet itself shows: impossible addresses, the blocklist, sources that cannot be behind the port they came through,
//! the traffic of known amplification attacks. In that order; the first reason found is the one that is counted. Never counts
//! packets, so that rates and limits are not its own, and never looks at rules or flows.

mod amplification;
mod martian;

#[cfg(test)]
mod tests;

pub use amplification::is_watched;

use crate::addr::Addr;
use crate::prefix_set::PrefixSet;
use crate::route::NextHop;
use crate::verdict::{DropReason, PortId};
use crate::wire::{FlowKey, Packet};
use nva_config::{Amplification, AntiSpoofing, Config, Prefix, Trust};
use std::net::IpAddr;

/// What the lists say of a source, wherever it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It is a source of nothing.
    refused: Option<DropReason>,
    /// It skips the blocklist and all limits.
    pub is_allowlisted: bool,
    /// The virtual network owns it.
    is_own: bool,
    /// The port that the route to it leads to, or none.
    port: PortId,
}

impl Standing {
    /// No port has this number, and no tunnel.
    const NOWHERE: PortId = PortId(u16::MAX);
}

/// The protection section with what it protects, compiled.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Skips the blocklist.
    allowlist: PrefixSet,
    blocklist: PrefixSet,
    /// Ports' own addresses and frontends, from which nobody else sends, and the connected prefixes' broadcast addresses, from which
    /// nobody does.
    never_sources: PrefixSet,
    /// The same without frontends, which send in tunnels.
    never_in_tunnels: PrefixSet,
    /// Broadcast addresses of the connected IPv4 prefixes.
    broadcasts: PrefixSet,
    address_space: PrefixSet,
    anti_spoofing: AntiSpoofing,
    amplification: Amplification,
}

impl Guard {
    /// Compiles the protection of a configuration.
    pub fn build(config: &Config) -> Self {
        let protection = &config.protection;
        let addresses = config.ports.iter().flat_map(|port| &port.addresses);
        let frontends = config.load_balancers.iter().flat_map(|lb| &lb.frontends);
        let broadcasts: Vec<Prefix> = addresses.clone().filter_map(|a| broadcast(&a.prefix)).collect();
        let never_in_tunnels: Vec<Prefix> =
            addresses.map(|a| Prefix::host(a.address)).chain(broadcasts.iter().copied()).collect();
        let frontends = frontends.map(|f| Prefix::host(f.address));
        let never_sources: Vec<Prefix> = frontends.chain(never_in_tunnels.iter().copied()).collect();
        Self {
            allowlist: PrefixSet::from_prefixes(&protection.allowlist),
            blocklist: PrefixSet::from_prefixes(&protection.blocklist),
            never_sources: PrefixSet::from_prefixes(&never_sources),
            never_in_tunnels: PrefixSet::from_prefixes(&never_in_tunnels),
            broadcasts: PrefixSet::from_prefixes(&broadcasts),
            address_space: PrefixSet::from_prefixes(&config.virtual_network.address_space),
            anti_spoofing: protection.anti_spoofing,
            amplification: protection.amplification,
        }
    }

    /// Judges a packet that came in through `port`. `payload` is that of its transport, `source_route` the way to its source.
    ///
    /// # Errors
    /// - [`DropReason::Spoofed`]: a source that no packet can have (RFC 1812, 5.3.7: broadcasts of the connected prefixes too), one of the appliance's own, the destination's own (a land packet), one of the
    ///   virtual network on an untrusted port, or one that the reverse-path check refuses, which for what the platform's address sends through the appliance is never off;
    /// - [`DropReason::NoRoute`]: a destination that is never forwarded to, or a link-local source, which is good on its link only;
    /// - [`DropReason::Blocklisted`]: a source on the blocklist that is not on the allowlist;
    /// - [`DropReason::Amplification`]: see [`amplifies`](Self::amplifies).
    pub fn check(
        &self,
        packet: &Packet,
        payload: &[u8],
        port: PortId,
        trust: Trust,
        source_route: Option<NextHop>,
    ) -> Result<(), DropReason> {
        self.check_addresses(packet, &self.never_sources)?;
        self.check_origin(&packet.key, port, trust, source_route)?;
        if self.amplifies(packet, payload, trust) {
            return Err(DropReason::Amplification);
        }
        Ok(())
    }

    /// The same for a packet in a tunnel. Routes say nothing of who is behind a tunnel; `are_trusted` does: whether only the trusted side
    /// sends from an address.
    ///
    /// # Errors
    /// As for [`check`](Self::check), and [`DropReason::TunnelTrust`] for an address of the trusted side that sends from the other one.
    pub fn check_tunnelled(
        &self,
        packet: &Packet,
        payload: &[u8],
        trust: Trust,
        are_trusted: impl FnOnce(Addr) -> bool,
    ) -> Result<(), DropReason> {
        self.check_addresses(packet, &self.never_in_tunnels)?;
        if packet.key.src == Addr::PLATFORM {
            // The platform's probes come outside of tunnels, and rules trust its address.
            return Err(DropReason::Spoofed);
        }
        if trust == Trust::Untrusted && are_trusted(packet.key.src) {
            return Err(DropReason::TunnelTrust);
        }
        if self.amplifies(packet, payload, trust) {
            return Err(DropReason::Amplification);
        }
        Ok(())
    }

    /// What [`check`](Self::check) looks at of a source. It is the same for all addresses between two bounds of
    /// [`source_ranges`](Self::source_ranges).
    pub fn standing(&self, source: Addr, source_route: Option<NextHop>) -> Standing {
        let is_allowlisted = self.allowlist.contains(source);
        let refused = match martian::refuses(source) {
            None if self.never_sources.contains(source) => Some(DropReason::Spoofed),
            None if self.blocklist.contains(source) && !is_allowlisted => Some(DropReason::Blocklisted),
            refused => refused,
        };
        Standing {
            refused,
            is_allowlisted,
            is_own: self.address_space.contains(source),
            port: source_route.map_or(Standing::NOWHERE, |next| next.port),
        }
    }

    /// As [`check`](Self::check), for a packet to a destination that is [forwarded to](Self::forwards_to) and not its source, which the platform did not
    /// send and the amplification filters do not look at.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn check_standing(&self, source: Standing, port: PortId, trust: Trust) -> Result<(), DropReason> {
        if let Some(reason) = source.refused {
            return Err(reason);
        }
        let is_reachable = match self.anti_spoofing {
            AntiSpoofing::Off => true,
            AntiSpoofing::Loose => source.port != Standing::NOWHERE,
            AntiSpoofing::Strict => source.port == port,
        };
        let is_foreign = trust == Trust::Untrusted && source.is_own;
        if is_foreign || !is_reachable { Err(DropReason::Spoofed) } else { Ok(()) }
    }

    /// Whether the address is a frontend's to which packets may be sent at all.
    pub fn takes(&self, frontend: Addr) -> bool {
        self.forwards_to(frontend) && self.never_sources.contains(frontend)
    }

    /// Whether the address is of one host, as far as [`check`](Self::check) looks at destinations.
    pub fn forwards_to(&self, destination: Addr) -> bool {
        martian::is_unicast(destination) && !self.broadcasts.contains(destination)
    }

    /// The ranges of addresses, both ends included, that sources are told apart by.
    pub fn source_ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        let lists = [&self.allowlist, &self.blocklist, &self.never_sources, &self.address_space];
        lists.into_iter().flat_map(PrefixSet::ranges).chain(martian::ranges())
    }

    fn check_addresses(&self, packet: &Packet, never_sources: &PrefixSet) -> Result<(), DropReason> {
        let (source, destination) = (packet.key.src, packet.key.dst);
        martian::check(source, destination)?;
        if self.broadcasts.contains(destination) {
            return Err(DropReason::NoRoute);
        }
        if never_sources.contains(source) {
            return Err(DropReason::Spoofed);
        }
        if self.blocklist.contains(source) && !self.allowlist.contains(source) {
            return Err(DropReason::Blocklisted);
        }
        Ok(())
    }

    /// Whether the source skips the blocklist and all limits.
    pub fn is_allowlisted(&self, source: Addr) -> bool {
        self.allowlist.contains(source)
    }

    /// Whether the address is one host's, anywhere, and none of the appliance's own: where its own packets may go.
    pub fn is_somebody_else(&self, address: Addr) -> bool {
        martian::is_unicast(address) && !self.never_sources.contains(address)
    }

    /// Whether a packet on an untrusted port is of a blocked amplification attack. Part of [`check`](Self::check); on its own it is for later packets
    /// of a flow, since a flow that an honest packet opened can carry the attack.
    #[inline]
    pub fn amplifies(&self, packet: &Packet, payload: &[u8], trust: Trust) -> bool {
        trust == Trust::Untrusted && amplification::matches(&self.amplification, packet, payload)
    }

    /// Whether [`amplifies`](Self::amplifies) can hold for a datagram between these ports, as they stand in its header.
    #[inline(always)]
    pub fn watches(&self, ports: u32) -> bool {
        is_watched((ports as u16).swap_bytes()) || is_watched(((ports >> 16) as u16).swap_bytes())
    }

    /// Whether the source can be behind the port (RFC 3704). What the virtual network owns never comes from outside, checked or not.
    fn check_origin(
        &self,
        FlowKey { src: source, dst: destination, .. }: &FlowKey,
        port: PortId,
        trust: Trust,
        source_route: Option<NextHop>,
    ) -> Result<(), DropReason> {
        let foreign = trust == Trust::Untrusted && self.address_space.contains(*source);
        // Nobody but the platform may send from its address, and it is where the route to it leads; but load balancers on both
        // sides of the appliance probe it from there, each on its own port.
        let through = *source == Addr::PLATFORM && !self.never_sources.contains(*destination);
        let mode = if through { AntiSpoofing::Strict } else { self.anti_spoofing };
        let reachable = match mode {
            AntiSpoofing::Off => true,
            AntiSpoofing::Loose => source_route.is_some(),
            AntiSpoofing::Strict => source_route.is_some_and(|next| next.port == port),
        };
        if foreign || !reachable { Err(DropReason::Spoofed) } else { Ok(()) }
    }
}

/// The directed broadcast address of an IPv4 prefix (RFC 2644: not forwarded). Links of two addresses have none (RFC 3021).
fn broadcast(prefix: &Prefix) -> Option<Prefix> {
    match prefix.address() {
        IpAddr::V4(first) if prefix.len() <= 30 => {
            let last = u32::from(first) | u32::MAX.checked_shr(u32::from(prefix.len())).unwrap_or(0);
            Some(Prefix::host(IpAddr::V4(last.into())))
        }
        _ => None,
    }
}
