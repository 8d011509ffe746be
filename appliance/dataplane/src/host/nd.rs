//! Neighbour discovery for IPv6 (RFC 4861, 7.2).

use super::arp::may_speak;
use super::{HostOutcome, LocalTable, PortFacts};
use crate::addr::{Addr, Mac};
use crate::emit;
use crate::emit::nd::{group_mac, solicited_node};
use crate::route::{Learning, Neighbors};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Icmp, IcmpClass, Packet, Transport};
use pmd_shim::Frame;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
/// `ff02::1`, every node on the link.
const ALL_NODES: Addr = Addr::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// A message's fields.
struct Message {
    /// The Ethernet addresses of the frame.
    to_mac: Mac,
    from_mac: Mac,
    solicited: bool,
    overrides: bool,
    target: Addr,
    /// The link-layer address option of the kind that the message may carry.
    link_address: Option<Mac>,
}

/// Takes in a neighbour solicitation or advertisement that parsing found valid (RFC 4861, 7.1); a solicitation for an
/// address that is answered on the port becomes the advertisement. Duplicate address detection is answered too (RFC 4862, 5.4).
pub fn nd<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    port: &PortFacts,
    local: &LocalTable,
    neighbors: &mut Neighbors<F>,
    now: Time,
) -> HostOutcome {
    let Transport::Icmp(Icmp { class, .. }) = packet.transport else {
        return HostOutcome::Drop(DropReason::NotForUs);
    };
    let link_option = match class {
        IcmpClass::NeighborSolicitation => SOURCE_LINK_ADDRESS,
        IcmpClass::NeighborAdvertisement => TARGET_LINK_ADDRESS,
        _ => return HostOutcome::Drop(DropReason::NotForUs),
    };
    let Some(message) = Message::read(frame.bytes(), packet, link_option) else {
        return HostOutcome::Drop(DropReason::Malformed);
    };
    if message.link_address.is_some_and(|mac| mac.is_group() || mac == Mac::default()) {
        return HostOutcome::Drop(DropReason::Malformed);
    }
    let outcome = if class == IcmpClass::NeighborSolicitation {
        solicited(frame, packet, &message, port, local, neighbors, now)
    } else {
        advertised(packet, &message, port, local, neighbors, now)
    };
    outcome.unwrap_or_else(HostOutcome::Drop)
}

/// Somebody asks who has the target.
fn solicited<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    message: &Message,
    port: &PortFacts,
    local: &LocalTable,
    neighbors: &mut Neighbors<F>,
    now: Time,
) -> Result<HostOutcome, DropReason> {
    let (asker, dst) = (packet.key.src, packet.key.dst);
    // A group's packet may also come to the station's own Ethernet address (RFC 6085).
    let to_group =
        dst == solicited_node(message.target) && [group_mac(dst), port.mac].contains(&message.to_mac);
    let to_us = local.answers_on(port.id, dst) && message.to_mac == port.mac;
    if !(to_group || to_us) || !local.answers_on(port.id, message.target) {
        return Err(DropReason::NotForUs);
    }
    let is_probe = asker == Addr::UNSPECIFIED;
    let link_address = message.link_address.unwrap_or(message.from_mac);
    if !is_probe && !may_speak(asker, link_address, port, local) {
        return Err(DropReason::Spoofed);
    }
    let learned = match message.link_address {
        Some(mac) if !is_probe => {
            neighbors.learn(port.id, asker, Some(mac), Learning::Request { may_create: true }, now)
        }
        _ => None,
    };
    emit::nd::advertisement(frame, port.mac, message.target, link_address, asker)
        .map_err(|_| DropReason::Malformed)?;
    Ok(HostOutcome::Reply(learned))
}

/// Somebody says who has the target.
fn advertised<F: Frame>(
    packet: &Packet,
    message: &Message,
    port: &PortFacts,
    local: &LocalTable,
    neighbors: &mut Neighbors<F>,
    now: Time,
) -> Result<HostOutcome, DropReason> {
    let dst = packet.key.dst;
    let to_everybody = dst == ALL_NODES && [group_mac(dst), port.mac].contains(&message.to_mac);
    let to_us = local.answers_on(port.id, dst) && message.to_mac == port.mac;
    if !to_everybody && !to_us {
        return Err(DropReason::NotForUs);
    }
    let mac = message.link_address.unwrap_or(message.from_mac);
    let honest = |address| may_speak(address, mac, port, local);
    if !honest(packet.key.src) || !honest(message.target) {
        return Err(DropReason::Spoofed);
    }
    let how = Learning::Advertisement { solicited: message.solicited, overrides: message.overrides };
    let learned = neighbors.learn(port.id, message.target, message.link_address, how, now);
    Ok(learned.map_or(HostOutcome::Consume, HostOutcome::Learned))
}

impl Message {
    /// Reads the message behind the ICMP header. `None`: it is shorter than parsing found it, or an option is of no use.
    fn read(bytes: &[u8], packet: &Packet, link_option: u8) -> Option<Self> {
        const SOLICITED: u8 = 0x40;
        const OVERRIDE: u8 = 0x20;
        let (ethernet, _) = bytes.split_first_chunk::<12>()?;
        let [to_mac, from_mac] = ethernet.as_chunks::<6>().0 else { return None };
        let message = bytes.get(usize::from(packet.l4)..usize::from(packet.end))?;
        let (header, rest) = message.split_first_chunk::<8>()?;
        let (target, options) = rest.split_first_chunk::<16>()?;
        Some(Self {
            to_mac: Mac(*to_mac),
            from_mac: Mac(*from_mac),
            solicited: header[4] & SOLICITED != 0,
            overrides: header[4] & OVERRIDE != 0,
            target: Addr::v6(*target),
            link_address: find_link_address(options, link_option)?,
        })
    }
}

/// The first option of this kind (RFC 4861, 4.6.1); others are skipped. `None`: an option that is too short or ends too late.
fn find_link_address(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    while let Some(&[kind, units]) = options.first_chunk() {
        if units == 0 {
            return None;
        }
        let (option, rest) = options.split_at_checked(8 * usize::from(units))?;
        if kind == wanted {
            // An Ethernet address fills one unit exactly (RFC 2464, 6).
            let [_, _, mac @ ..] = <[u8; 8]>::try_from(option).ok()?;
            return Some(Some(Mac(mac)));
        }
        options = rest;
    }
    options.is_empty().then_some(None)
}
