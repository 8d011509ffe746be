//! ARP (RFC 826), with the probes and announcements of RFC 5227.

use super::{HostOutcome, LocalTable, PortFacts};
use crate::addr::{Addr, Mac};
use crate::emit;
use crate::emit::icmp_error::is_single_host;
use crate::route::{Learning, Neighbors};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Arp, ArpOperation, Cast};
use pmd_shim::Frame;

/// `0.0.0.0`, the sender of a probe.
const NOBODY: Addr = Addr::v4([0; 4]);

/// Takes in an ARP packet; a request for an address that is answered on the port becomes the reply.
///
/// A sender that cannot be on the link, or that has an address of ours, is spoofed: our addresses are not defended by
/// announcements (RFC 5227, 2.4), since one would have to be sent for each forged packet.
pub fn arp<F: Frame>(
    frame: &mut F,
    arp: &Arp,
    port: &PortFacts,
    local: &LocalTable,
    neighbors: &mut Neighbors<F>,
    now: Time,
) -> HostOutcome {
    let is_probe = arp.sender == NOBODY && arp.operation == ArpOperation::Request;
    if !is_probe && !may_speak(arp.sender, arp.sender_mac, port, local) {
        return HostOutcome::Drop(DropReason::Spoofed);
    }
    let mut learn = |how| neighbors.learn(port.id, arp.sender, Some(arp.sender_mac), how, now);
    let for_us = local.answers_on(port.id, arp.target);
    match arp.operation {
        ArpOperation::Request if for_us => {
            let learned = if is_probe { None } else { learn(Learning::Request { may_create: true }) };
            match emit::arp::reply(frame, arp, port.mac) {
                Ok(()) => HostOutcome::Reply(learned),
                Err(_) => HostOutcome::Drop(DropReason::Malformed),
            }
        }
        // An announcement: to everybody, about the sender itself.
        _ if !is_probe && arp.target == arp.sender => {
            learn(Learning::Request { may_create: false }).map_or(HostOutcome::Consume, HostOutcome::Learned)
        }
        ArpOperation::Reply if for_us => {
            let solicited = arp.cast == Cast::Unicast;
            learn(Learning::Advertisement { solicited, overrides: true })
                .map_or(HostOutcome::Consume, HostOutcome::Learned)
        }
        ArpOperation::Request | ArpOperation::Reply => HostOutcome::Drop(DropReason::NotForUs),
    }
}

/// A single station other than us that can be on this link.
pub(super) fn may_speak(address: Addr, mac: Mac, port: &PortFacts, local: &LocalTable) -> bool {
    !mac.is_group()
        && mac != Mac::default()
        && mac != port.mac
        && is_single_host(address)
        && local.connected(port.id, address)
        && local.kind(port.id, address).is_none()
        && !local.is_broadcast(address)
}
