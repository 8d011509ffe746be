//! The way out: next hop, limits of the link, and the frame's departure or wait.

use super::segment::Sent;
use super::{Departure, Mark, Origin, Passage, Pipeline, Step, Transmit};
use crate::addr::{Addr, Mac};
use crate::emit::icmp_error::IcmpError;
use crate::emit::rewrite;
use crate::emit::split::split;
use crate::flow::{FlowId, Side, Way};
use crate::route::{NeighborId, NextHop};
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::ETHERNET_HEADER_LEN;
use arrayvec::ArrayVec;
use core::ops::ControlFlow;
use pmd_shim::Frame;

impl<F: Frame> Pipeline<F> {
    /// The port and neighbour towards an address; `None` where no route leads, or no room is left for another neighbour.
    pub(super) fn way_to(&mut self, address: Addr, now: Time) -> Option<Departure> {
        let NextHop { port, gateway } = self.snapshot.routes.lookup(address)?;
        let neighbor = self.neighbors.find_or_create(port, gateway.unwrap_or(address), now)?;
        Some(Departure { port, neighbor })
    }

    /// Checks that a packet of the flow can leave: there is a way, its time to live lasts, it fits the link.
    #[inline(always)]
    pub(super) fn way_out(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        id: FlowId,
        side: Side,
    ) -> Step<Departure> {
        if p.port.is_tunnel() {
            let departure = self.way_through(p)?;
            self.fits(frame, p, departure)?;
            return ControlFlow::Continue(departure);
        }
        let known = self.flows.flow(id).way(side).map(Departure::from_way);
        let departure = match known {
            Some(departure) if self.neighbors.is_current(departure.neighbor) => departure,
            _ => {
                let destination = self.final_destination(self.flows.flow(id), side);
                let Some(found) = self.way_to(destination, p.now) else {
                    return self.answer_with_error(frame, p, IcmpError::NetUnreachable, DropReason::NoRoute);
                };
                self.flows.flow_mut(id).set_way(side, Some(found.to_way()));
                found
            }
        };
        self.fits(frame, p, departure)?;
        ControlFlow::Continue(departure)
    }

    /// The longest IP packet that leaves by a port, a tunnel or a segment.
    #[inline(always)]
    pub(super) fn room(&self, port: PortId) -> u16 {
        let (mtu, tunnels) = (self.facts(port).mtu, &self.snapshot.tunnels);
        if tunnels.least_room(self.now) == u16::MAX { mtu } else { tunnels.room(port, mtu, self.now) }
    }

    /// Time to live and size against the way out.
    #[inline(always)]
    pub(super) fn fits(&mut self, frame: &mut F, p: &Passage<'_>, departure: Departure) -> Step<()> {
        if p.packet.ttl <= 1 && !p.port.is_tunnel() {
            return self.answer_with_error(frame, p, IcmpError::TimeExceeded, DropReason::TtlExceeded);
        }
        let mtu = self.room_for(frame, departure.port);
        if p.packet.ip_len() > usize::from(mtu) && p.packet.dont_fragment {
            let error = IcmpError::FragmentationNeeded { mtu };
            return self.answer_with_error(frame, p, error, DropReason::TooBig);
        }
        ControlFlow::Continue(())
    }

    /// Sends a finished packet to its neighbour, or keeps it until the neighbour's address is known.
    #[inline(always)]
    pub(super) fn send<T: Transmit<F>>(
        &mut self,
        frame: F,
        departure: Departure,
        now: Time,
        tx: &mut T,
    ) -> Verdict {
        if departure.port.is_tunnel() {
            return self.send_tunnelled(frame, departure, Origin::Forwarded, now, tx);
        }
        if let Some(mac) = self.neighbors.mac(departure.neighbor) {
            return self.deliver(frame, departure.port, mac, Origin::Forwarded, tx);
        }
        match self.neighbors.hold(departure.neighbor, frame, now) {
            Ok(()) => {
                self.neighbor_timers(now, tx);
                Verdict::Hold
            }
            Err(_refused) => Verdict::Drop(DropReason::UnresolvedNeighbor),
        }
    }

    /// Sends a finished packet to a neighbour, in fragments where it is too long for the link and may be cut.
    #[inline(always)]
    fn deliver<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        port: PortId,
        mac: Mac,
        origin: Origin,
        tx: &mut T,
    ) -> Verdict {
        let facts = self.facts(port);
        let (station, mtu) = (facts.mac, self.room(port));
        rewrite::set_link(frame.bytes_mut(), station, mac);
        if frame.bytes().len() > usize::from(mtu) + ETHERNET_HEADER_LEN {
            return self.deliver_split(frame, port, mtu, tx);
        }
        let verdict = if origin == Origin::Replied { Verdict::Reply(None) } else { Verdict::Forward(port) };
        self.transmit(port, frame, origin, tx).or(verdict)
    }

    #[cold]
    fn deliver_split<T: Transmit<F>>(&mut self, mut frame: F, port: PortId, mtu: u16, tx: &mut T) -> Verdict {
        let mut rest = ArrayVec::new();
        if split(&mut frame, mtu, || tx.allocate(), &mut rest).is_err() {
            return Verdict::Drop(DropReason::TooBig);
        }
        let verdict = self.transmit(port, frame, Origin::Forwarded, tx).or(Verdict::Forward(port));
        for mut piece in rest {
            // The verdict is counted for the first piece; the others are no received frames.
            piece.set_mark(Mark { port, origin: Origin::Own }.to_bits());
            let _ = self.transmit(port, piece, Origin::Own, tx);
        }
        verdict
    }

    /// Hands a frame to its port, marked with what it was counted as.
    #[inline(always)]
    pub(super) fn transmit<T: Transmit<F>>(
        &mut self,
        port: PortId,
        mut frame: F,
        origin: Origin,
        tx: &mut T,
    ) -> Sent {
        if self.snapshot.tunnels.segment(port).is_some() {
            return self.transmit_in_segment(port, frame, origin, tx);
        }
        let received = Mark::from_bits(frame.mark());
        let origin = if received.origin.is_own() { received.origin } else { origin };
        frame.set_mark(Mark { port: received.port, origin }.to_bits());
        if let Some(counters) = self.counters.port(port) {
            counters.transmitted += 1;
        }
        tx.transmit(port, frame);
        Sent::Left
    }

    /// Counts a frame anew that the transmit queue of `port` refused, and frees it.
    pub fn refused(&mut self, port: PortId, frame: F) {
        if let Some(counters) = self.counters.port(port) {
            counters.transmitted = counters.transmitted.saturating_sub(1);
        }
        if self.snapshot.tunnels.are_at(port) {
            self.take_back(frame.bytes());
        }
        let mark = Mark::from_bits(frame.mark());
        let from = match mark.origin {
            Origin::Forwarded => Verdict::Forward(port),
            Origin::Replied => Verdict::Reply(None),
            _ => return,
        };
        self.recount(mark.port, from, Verdict::Drop(DropReason::TxQueueFull));
    }

    /// Sends what waited for a neighbour whose address is known now.
    pub(super) fn release_waiting<T: Transmit<F>>(&mut self, id: NeighborId, tx: &mut T) {
        let (Some(mac), Some(port)) = (self.neighbors.mac(id), self.neighbors.port(id)) else { return };
        while let Some(frame) = self.neighbors.pop_waiting(id) {
            let received = Mark::from_bits(frame.mark());
            // An answer that waited is one still.
            let origin = if received.origin == Origin::Replied { Origin::Replied } else { Origin::Forwarded };
            let verdict = self.deliver(frame, port, mac, origin, tx);
            if !received.origin.is_own() {
                self.recount(received.port, Verdict::Hold, verdict);
            }
        }
    }
}

impl Departure {
    #[inline(always)]
    pub(super) fn from_way(way: Way) -> Self {
        Self { port: way.port, neighbor: NeighborId::from_bits(way.neighbor) }
    }

    pub(super) fn to_way(self) -> Way {
        Way { port: self.port, neighbor: self.neighbor.to_bits() }
    }
}
