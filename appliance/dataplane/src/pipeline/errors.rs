//! ICMP errors: those that the appliance sends about a packet it could not pass on, and those of others about a flow.

use super::known::{payload, target, translated, translation};
use super::{Departure, Passage, Pipeline, Step, decided, drop_for};
use crate::addr::Family;
use crate::emit::icmp_error::{self, IcmpError};
use crate::emit::rewrite::{self, Translation};
use crate::emit::splice::splice_quoted;
use crate::flow::{Flow, Side};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{self, Quoted, Transport};
use core::ops::ControlFlow;
use pmd_shim::Frame;

/// Destination unreachable: fragmentation needed and DF set (RFC 792).
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
/// The type of ICMPv6's error (RFC 4443, 3.2).
const PACKET_TOO_BIG: u8 = 2;

/// The least MTU that an ICMPv6 packet too big may name (RFC 8200, 5).
const IPV6_MIN_MTU: u32 = 1280;

impl<F: Frame> Pipeline<F> {
    /// Turns the packet into an ICMP error about itself, or drops it where an error must not be sent or too many were.
    pub(super) fn answer_with_error<S>(
        &mut self,
        frame: &mut F,
        p: &Passage<'_>,
        error: IcmpError,
        reason: DropReason,
    ) -> Step<S> {
        let from = match p.port.is_tunnel() {
            // In the wire nobody knows an address of ours: it is as if the destination said it.
            true => Some(p.packet.key.dst),
            false => self.snapshot.local.source_address(p.port, p.packet.family, p.packet.key.src),
        };
        let station = self.station(frame, p.port);
        let envelope = self.envelope(frame, p);
        match from {
            Some(from)
                if icmp_error::is_answerable(frame, p.packet)
                    && self.icmp_errors.allow(p.now)
                    && icmp_error::build(frame, p.packet, error, from, station).is_ok()
                    && envelope.is_none_or(|envelope| envelope.put_behind(frame).is_some()) =>
            {
                decided(Verdict::Reply(Some(reason)))
            }
            _ => drop_for(reason),
        }
    }

    /// An error that some router or host sent about a packet of a flow: it follows the flow back to the packet's sender, with
    /// the header that it quotes translated like the header around it (RFC 5508, REQ-4).
    pub(super) fn icmp_about_flow(&mut self, frame: &mut F, p: &mut Passage<'_>) -> Step<Departure> {
        let Some(quoted) = wire::quoted(payload(frame, p), p.packet.family) else {
            return drop_for(DropReason::InvalidState);
        };
        if quoted.key.src != p.packet.key.dst || !plausible_mtu(frame.bytes(), p) {
            return drop_for(DropReason::InvalidState);
        }
        self.error_about_tunnel(frame, p, &quoted)?;
        // Who would answer the quoted packet is, as a sender, on the error's own way.
        let answer = quoted.key.reversed();
        let Some((id, side)) = self.flows.find(&answer, self.flows.hash(&answer)) else {
            self.error_in(frame, p, &quoted)?;
            self.seek(p, &answer)?;
            return drop_for(DropReason::InvalidState);
        };
        if self.is_over(p, id, side)? {
            return drop_for(DropReason::InvalidState);
        }
        self.check_ingress(frame, p, id, side)?;
        (p.rule, p.backend) = self.flows.decided_by(id);
        let (seq_moves, ack_moves) = self.quoted_moves(id, side);
        if let Some(seq) = quoted.tcp_seq.map(|seq| seq.wrapping_add(seq_moves))
            && !self.flows.flow(id).returns_directly()
            && !self.flows.flow(id).tcp.quoted_in_window(side.other(), seq)
        {
            return drop_for(DropReason::InvalidState);
        }
        let departure = self.way_out(frame, p, id, side)?;
        if self.refused_by_error(frame, p, id, side) {
            return ControlFlow::Continue(departure);
        }
        let flow = self.flows.flow(id);
        if flow.is_spliced() {
            splice_quoted(frame.bytes_mut(), p.packet, &quoted, seq_moves, ack_moves);
        }
        if flow.is_translated() {
            let (inner, outer) = (quoted_translation(flow, side), translation(flow, side));
            rewrite::translate_quoted(frame.bytes_mut(), p.packet, &quoted, &inner);
            rewrite::translate(frame.bytes_mut(), p.packet, &outer);
        }
        self.hop(frame, p);
        ControlFlow::Continue(departure)
    }
}

impl<F: Frame> Pipeline<F> {
    /// An error about an outer packet of ours that is too big for some link makes the way to that end of the tunnel narrower, and ends here.
    fn error_about_tunnel(&mut self, frame: &F, p: &Passage<'_>, quoted: &Quoted) -> Step<()> {
        let Transport::Icmp(icmp) = p.packet.transport else { return ControlFlow::Continue(()) };
        let field =
            wire::chunk(frame.bytes(), usize::from(p.packet.l4) + 4).copied().map_or(0, u32::from_be_bytes);
        let mtu = match (p.packet.family, icmp.kind, icmp.code) {
            (Family::V4, UNREACHABLE, FRAGMENTATION_NEEDED) => field & 0xffff,
            (Family::V6, PACKET_TOO_BIG, _) => field,
            _ => return ControlFlow::Continue(()),
        };
        if !self.snapshot.tunnels.end_at(p.port, quoted.key.src, quoted.key.dst) {
            return ControlFlow::Continue(());
        }
        self.guard(frame, p)?;
        // To look all tunnels through takes a while.
        let link = self.facts(p.port).mtu;
        let is_ours = self.icmp_errors.allow(p.now)
            && self.snapshot.tunnels.learn_mtu(p.port, quoted, payload(frame, p), mtu, link, p.now);
        if is_ours { decided(Verdict::Consume) } else { drop_for(DropReason::InvalidState) }
    }
}

/// What is changed in the header that an error quotes, when the error goes the way of `side`'s packets: the quoted packet went
/// the other way, and is put back to what its sender sent.
fn quoted_translation(flow: &Flow, side: Side) -> Translation {
    match side {
        Side::Initiator => Translation { src: Some(translated(flow)), ..Translation::default() },
        Side::Responder => Translation { dst: Some(target(flow)), ..Translation::default() },
    }
}

/// A packet too big that names less than the least MTU of IPv6 is an attack on it (RFC 8201, 4).
fn plausible_mtu(bytes: &[u8], p: &Passage<'_>) -> bool {
    let Transport::Icmp(icmp) = p.packet.transport else { return true };
    if p.packet.family != Family::V6 || icmp.kind != PACKET_TOO_BIG {
        return true;
    }
    let at = p.packet.l4 as usize + 4;
    let mtu = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
    mtu >= IPV6_MIN_MTU
}
