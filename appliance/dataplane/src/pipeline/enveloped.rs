//! Packets in a Geneve tunnel. Inside there is no Ethernet header; the path knows none without, so it is given one that says nothing. What
//! must go back with the packet travels behind it, as its [`Envelope`], until it is sent.

use super::burst::Slot;
use super::tunnel::{Others, combine, family_of};
use super::{Passage, Pipeline};
use crate::addr::{Addr, Family, Mac, MacWord};
use crate::emit::encap::Label;
use crate::emit::{geneve, service};
use crate::tunnel::Found;
use crate::tunnel::geneve::Envelope;
use crate::verdict::{DropReason, PortId};
use crate::wire::{self, ETHERNET_HEADER_LEN, Parsed, ethertype};
use nva_config::Trust;
use pmd_shim::{Frame, RxOffload};

impl<F: Frame> Pipeline<F> {
    /// Parses the inner packet, and only then cuts the outer headers off. `port` becomes the direction that it came by.
    #[inline(never)]
    pub(super) fn take_out_enveloped(
        &self,
        frame: &mut F,
        found: Found,
        port: &mut PortId,
        slot: &mut Slot,
        others: &mut Others,
    ) {
        let Found::Enveloped { arrival, header, family } = found else { return };
        *port = arrival.port;
        let (start, end) = (usize::from(arrival.start), usize::from(arrival.end));
        let Some(envelope) = Envelope::read(frame.bytes(), header.into()) else {
            return others.push(Err(DropReason::Malformed));
        };
        // The Ethernet header stands where the last options were.
        let begin = start - ETHERNET_HEADER_LEN;
        if let Some(link) = frame.bytes_mut().get_mut(begin..start) {
            link.copy_from_slice(&link_of(family));
        }
        let inner = frame.bytes().get(begin..end).unwrap_or_default();
        let parsed = match wire::parse(inner, RxOffload::default(), Mac::default()) {
            Ok(Parsed::Ip(packet)) if !super::is_neighbor_discovery(&packet) => packet,
            Ok(_) => return others.push(Err(DropReason::NotForUs)),
            Err(reason) => return others.push(Err(reason)),
        };
        let change = match combine(inner, family, arrival.service) {
            Ok(change) => change,
            Err(_) => return others.push(Err(DropReason::Malformed)),
        };
        *port = self.snapshot.tunnels.direction(arrival.port, parsed.key.src);
        // All of it is in the frame.
        let cut = frame.set_len(end).is_ok() && frame.pop_front(begin).is_ok();
        debug_assert!(cut, "the inner packet is within the frame");
        frame.set_offload(RxOffload::default());
        if let Some((family, ecn)) = change {
            service::set_ecn(frame.bytes_mut(), ETHERNET_HEADER_LEN, family, ecn);
        }
        if envelope.put_behind(frame).is_none() {
            return others.push(Err(DropReason::Unsupported));
        }
        slot.hash = self.flows.hash(&parsed.key);
        self.flows.prefetch_index(slot.hash);
        others.push(Ok(Parsed::Ip(parsed)));
    }

    /// The longest IP packet that leaves by a port, of one that is in an envelope with these options where it leaves by a Geneve tunnel.
    #[inline(always)]
    pub(super) fn room_for(&self, frame: &F, port: PortId) -> u16 {
        let room = self.room(port);
        if port.is_tunnel() && self.snapshot.tunnels.is_geneve(port) {
            return room.saturating_sub(Envelope::excess(frame.bytes()));
        }
        room
    }

    /// Takes a packet out of its envelope, if it leaves by a Geneve tunnel.
    ///
    /// # Errors
    /// [`DropReason::Malformed`] when there is none, which is never so.
    pub(super) fn open_envelope(&self, frame: &mut F, port: PortId) -> Result<Option<Envelope>, DropReason> {
        if !self.snapshot.tunnels.is_geneve(port) {
            return Ok(None);
        }
        Envelope::take_from(frame).map(Some).ok_or(DropReason::Malformed)
    }

    /// The envelope of a packet that is to be answered: the answer goes back in it.
    pub(super) fn envelope(&self, frame: &mut F, p: &Passage<'_>) -> Option<Envelope> {
        if p.port.is_tunnel() { self.open_envelope(frame, p.port).ok()? } else { None }
    }

    /// Puts the outer headers of a Geneve tunnel in front of a packet; gives the port that carries it. `None`: there is no room, or the
    /// tunnel is closed.
    pub(super) fn put_in_envelope(
        &mut self,
        frame: &mut F,
        port: PortId,
        envelope: &Envelope,
        next_hop: MacWord,
    ) -> Option<PortId> {
        let tunnel = self.snapshot.tunnels.open(port)?;
        let path = self.snapshot.tunnels.path(tunnel)?;
        let inner = frame.bytes();
        let family = family_of(inner);
        let label = Label {
            vni: tunnel.vni,
            udp_port: tunnel.udp_port,
            source_port: envelope.source_port,
            service: path.service(service::read(inner, ETHERNET_HEADER_LEN, family)),
        };
        let station = self.facts(tunnel.carrier).mac;
        geneve::encapsulate(frame, &path.outer, &label, (envelope, family), (next_hop, station.into()))
            .ok()?;
        let carrier = tunnel.carrier;
        if let Some(counters) = self.tolls.of(port) {
            counters.transmitted = counters.transmitted.wrapping_add(1);
        }
        Some(carrier)
    }

    /// Which of the two ends of a packet in a Geneve tunnel says at which worker its flow is: the one on the untrusted side, and where both
    /// are on one side the lower one, so that it is the same for both directions.
    pub(super) fn outer_end_enveloped(&self, [from, to]: [Addr; 2]) -> Addr {
        let trust = |address| match self.snapshot.tunnels.frontends.are_trusted(address) {
            true => Trust::Trusted,
            false => Trust::Untrusted,
        };
        match (trust(from), trust(to)) {
            (Trust::Untrusted, Trust::Trusted) => from,
            (Trust::Trusted, Trust::Untrusted) => to,
            _ => from.min(to),
        }
    }
}

/// An Ethernet header from nobody to nobody.
pub(super) fn link_of(family: Family) -> [u8; ETHERNET_HEADER_LEN] {
    let [high, low] = match family {
        Family::V4 => ethertype::IPV4,
        Family::V6 => ethertype::IPV6,
    }
    .to_be_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]
}
