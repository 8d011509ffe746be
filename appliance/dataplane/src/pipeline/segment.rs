//! Frames of segments: out of the outer headers of a remote's packet, as if the segment's port had received them; and into those of a packet
//! to the remote behind which the station is.

use super::burst::Slot;
use super::tunnel::{Others, combine};
use super::{Mark, Origin, Pipeline, Transmit};
use crate::addr::{Addr, Family, Mac};
use crate::emit::encap::{Label, encapsulate};
use crate::emit::service;
use crate::tunnel::{Arrival, Remote, entropy};
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::plain::{self, Station};
use crate::wire::{self, ETHERNET_HEADER_LEN, Parsed, ethertype};
use arrayvec::ArrayVec;
use pmd_shim::{Frame, RxOffload};

/// As many remotes a segment has at most: the configuration takes no more.
const REMOTES_MAX: usize = 64;

/// What became of a frame that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Sent {
    /// It is on its way.
    Left,
    /// It waits for the next hop to a remote.
    Waits,
    /// It was dropped.
    Lost(DropReason),
}

impl Sent {
    /// The verdict of a frame that has this one if it left.
    #[inline(always)]
    pub(super) const fn or(self, verdict: Verdict) -> Verdict {
        match self {
            Self::Left => verdict,
            Self::Waits => Verdict::Hold,
            Self::Lost(reason) => Verdict::Drop(reason),
        }
    }
}

impl<F: Frame> Pipeline<F> {
    /// Parses a frame of a segment, and only then cuts the outer headers off.
    #[inline(never)]
    pub(super) fn take_out_of_segment(
        &self,
        frame: &mut F,
        arrival: &Arrival,
        slot: &mut Slot,
        others: &mut Others,
    ) {
        let bytes = frame.bytes();
        let remote = outer_source(bytes);
        let inner = bytes.get(arrival.start.into()..arrival.end.into()).unwrap_or_default();
        if self.snapshot.tunnels.is_ours(inner) {
            return others.push(Err(DropReason::Spoofed));
        }
        let mac = self.facts(arrival.port).mac;
        let is_fast = !self.is_without_fast_lane();
        let mut other = None;
        let family = if let Some((plain, key)) =
            plain::v4(inner, &Station::new(mac), true).filter(|_| is_fast)
        {
            *slot = Slot { hash: self.flows.hash_v4(&key), plain: Some(plain) };
            Some(Family::V4)
        } else if let Some((plain, key)) = plain::v6(inner, &Station::new(mac), true).filter(|_| is_fast) {
            *slot = Slot { hash: self.flows.hash_v6(&key), plain: Some(plain) };
            Some(Family::V6)
        } else {
            match wire::parse(inner, RxOffload::default(), mac) {
                Err(reason) => return others.push(Err(reason)),
                Ok(parsed) => {
                    let family = match &parsed {
                        Parsed::Ip(packet) => {
                            slot.hash = self.flows.hash(&packet.key);
                            Some(packet.family)
                        }
                        Parsed::Arp(_) => None,
                    };
                    other = Some(parsed);
                    family
                }
            }
        };
        let change = match family.map_or(Ok(None), |family| combine(inner, family, arrival.service)) {
            Ok(change) => change,
            Err(_) => {
                *slot = Slot::OTHER;
                return others.push(Err(DropReason::Malformed));
            }
        };
        if let (Some(segment), Some(station)) = (self.snapshot.tunnels.segment(arrival.port), source(inner)) {
            segment.learn(station, remote, self.now);
        }
        // All of it is in the frame.
        let cut = frame.set_len(arrival.end.into()).is_ok() && frame.pop_front(arrival.start.into()).is_ok();
        debug_assert!(cut, "the inner frame is within the frame");
        frame.set_offload(RxOffload::default());
        if let Some((family, ecn)) = change {
            service::set_ecn(frame.bytes_mut(), ETHERNET_HEADER_LEN, family, ecn);
        }
        if family.is_some() {
            self.flows.prefetch_index(slot.hash);
        }
        if let Some(parsed) = other {
            others.push(Ok(parsed));
        }
    }

    /// Sends a frame to the remote behind which its station is, or to all. Its own end is the first one's; the others get copies, as far as
    /// buffers are free.
    #[inline(never)]
    pub(super) fn transmit_in_segment<T: Transmit<F>>(
        &mut self,
        port: PortId,
        frame: F,
        origin: Origin,
        tx: &mut T,
    ) -> Sent {
        if let Some(counters) = self.counters.port(port) {
            counters.transmitted += 1;
        }
        let station = frame.bytes().first_chunk().copied().map_or(Mac::default(), Mac);
        let segment = self.snapshot.tunnels.segment(port);
        let remotes = segment.map_or(&[][..], |segment| segment.toward(station, self.now));
        let remotes: ArrayVec<Remote, REMOTES_MAX> = remotes.iter().copied().take(REMOTES_MAX).collect();
        let Some((first, others)) = remotes.split_first() else {
            return Sent::Lost(DropReason::NoRoute);
        };
        for remote in others {
            let Some(mut copy) = tx.allocate() else { break };
            if copy.set_len(frame.bytes().len()).is_err() {
                break;
            }
            copy.bytes_mut().copy_from_slice(frame.bytes());
            // Nothing is counted by it, and nobody waits for it.
            copy.set_mark(Mark { port, origin: Origin::Handshake }.to_bits());
            let _ = self.transmit_to(port, remote, copy, Origin::Handshake, tx);
        }
        self.transmit_to(port, first, frame, origin, tx)
    }

    fn transmit_to<T: Transmit<F>>(
        &mut self,
        port: PortId,
        remote: &Remote,
        mut frame: F,
        origin: Origin,
        tx: &mut T,
    ) -> Sent {
        let tunnels = &self.snapshot.tunnels;
        let (Some(segment), Some(path)) = (tunnels.segment(port), tunnels.path_to(remote)) else {
            return Sent::Lost(DropReason::NoRoute);
        };
        let Some(next_hop) = path.next_hop else { return Sent::Lost(DropReason::NoRoute) };
        let carrier = segment.carrier;
        let Some(neighbor) = self.neighbors.find_or_create(carrier, next_hop, self.now) else {
            return Sent::Lost(DropReason::UnresolvedNeighbor);
        };
        let mac = self.neighbors.mac(neighbor);
        let inner = frame.bytes();
        let label = Label {
            vni: segment.vni,
            udp_port: segment.udp_port,
            source_port: entropy::of_frame(inner),
            service: path.service(service_of(inner)),
        };
        let link = (mac.unwrap_or_default().into(), self.snapshot.facts(carrier).mac.into());
        if encapsulate(&mut frame, &path.outer, &label, link).is_err() {
            return Sent::Lost(DropReason::TooBig);
        }
        if mac.is_some() {
            return self.transmit(carrier, frame, origin, tx);
        }
        let mark = Mark::from_bits(frame.mark());
        let origin = match mark.origin {
            Origin::Own => Origin::Handshake,
            own if own.is_own() => own,
            _ => origin,
        };
        frame.set_mark(Mark { port: mark.port, origin }.to_bits());
        match self.neighbors.hold(neighbor, frame, self.now) {
            Ok(()) => Sent::Waits,
            Err(_refused) => Sent::Lost(DropReason::UnresolvedNeighbor),
        }
    }
}

/// The source of the outer header, which was looked at before.
fn outer_source(bytes: &[u8]) -> Addr {
    let at = |at: usize| bytes.get(at..).unwrap_or_default();
    match bytes.get(ETHERNET_HEADER_LEN).map(|first| first >> 4) {
        Some(4) => at(ETHERNET_HEADER_LEN + 12).first_chunk().map_or(Addr::UNSPECIFIED, |own| Addr::v4(*own)),
        _ => at(ETHERNET_HEADER_LEN + 8).first_chunk().map_or(Addr::UNSPECIFIED, |own| Addr::v6(*own)),
    }
}

/// The Ethernet source of an inner frame.
fn source(inner: &[u8]) -> Option<Mac> {
    inner.get(6..)?.first_chunk().copied().map(Mac).filter(|station| !station.is_group())
}

/// The service field of the packet in an inner frame; of what is no IP packet, none.
fn service_of(inner: &[u8]) -> u8 {
    let kind = wire::chunk(inner, ETHERNET_HEADER_LEN - 2).copied().map(u16::from_be_bytes);
    match kind {
        Some(ethertype::IPV4) => service::read(inner, ETHERNET_HEADER_LEN, Family::V4),
        Some(ethertype::IPV6) => service::read(inner, ETHERNET_HEADER_LEN, Family::V6),
        _ => 0,
    }
}
