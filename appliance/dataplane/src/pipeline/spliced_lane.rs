//! The fast lane of spliced flows: plain segments of connections that changed nothing but numbers when they were made one.
//!
//! What is said of the [fast lane](super::fast) holds here too: everything is looked at before anything is changed, and what is not plain
//! goes through the stages as if it had never been here.

use super::Pipeline;
use super::burst::Slot;
use super::fast::{Lane, Seat, edit, ip_hops, l4, seat};
use super::spliced::edits;
use crate::emit::renumber::{Layout, renumber};
use crate::emit::rewrite;
use crate::emit::splice::Edits;
use crate::flow::{Flow, Side};
use crate::synproxy::Splice;
use crate::verdict::PortId;
use crate::wire::plain::{self, L3, Plain};
use crate::wire::{TCP_HEADER_LEN, TcpFlags};
use pmd_shim::Frame;

impl<F: Frame> Pipeline<F> {
    /// As [`fast`](Self::fast), for a segment of a flow that is special. A function of its own, so that others do not pay for it.
    #[inline(never)]
    pub(super) fn ride_spliced<const V6: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        slot: &Slot,
        plain: &Plain,
        lane: &Lane,
    ) -> Option<PortId> {
        let splice = self.flows.guessed_splice(slot.hash)?;
        let bytes = frame.bytes_mut();
        let is_padded = bytes.len() > usize::from(plain.end);
        let (head, rest): (&mut [u8; N], _) = bytes.split_first_chunk_mut()?;
        let Seat { flow, side, way, hop } =
            seat::<F, V6, true, N>(&mut self.flows, &self.neighbors, head, slot, lane.expected())?;
        if !flow.is_spliced() || !splice.terms.is_plain() {
            return None;
        }
        let exit = self.exits.get(way.port.index())?;
        let ip_len = usize::from(plain.end) - L3;
        if ip_hops::<V6, N>(head) <= 1 || ip_len > exit.mtu().into() {
            return None;
        }
        let layout = layout::<V6, N>(head, rest)?;
        let edits = may_follow::<V6, N>(flow, &splice, side, head, layout, plain)?;
        // From here on it is certain.
        #[cfg(test)]
        {
            self.spliced_rides[usize::from(V6)] += 1;
        }
        renumber(head, rest, l4::<V6>(), layout, &edits);
        edit::<V6, true, N>(head, flow, side);
        rewrite::set_link_words(head, exit.mac(), hop.take());
        let rare = flow.count::<true>(side, ip_len, lane.deadlines());
        if rare.is_any() {
            self.flows.catch_up(slot.hash, rare, ip_len);
        }
        if is_padded {
            rewrite::cut(frame, plain.end.into());
        }
        frame.set_mark(lane.mark());
        Some(way.port)
    }
}

/// How the header is laid out of a segment that is an acknowledgement and has neither SYN nor FIN nor RST. `rest` is what follows the
/// header's fixed part.
#[inline(always)]
fn layout<const V6: bool, const N: usize>(head: &[u8; N], rest: &[u8]) -> Option<Layout> {
    const CONTROL: u8 = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ACK;
    let [offset, flags] = plain::quarter_word(head, l4::<V6>() + 12).to_le_bytes();
    if flags & CONTROL != TcpFlags::ACK {
        return None;
    }
    let header_len = usize::from(offset >> 4) * 4;
    Layout::of(rest.get(..header_len.checked_sub(TCP_HEADER_LEN)?)?)
}

/// What a segment has changed, if it fits what the backend takes and the state of its connection, which moves on when it does.
#[inline(always)]
fn may_follow<const V6: bool, const N: usize>(
    flow: &mut Flow,
    splice: &Splice,
    side: Side,
    head: &[u8; N],
    layout: Layout,
    plain: &Plain,
) -> Option<Edits> {
    let l4 = l4::<V6>();
    let segment_len = usize::from(plain.end) - l4;
    let payload_len = segment_len.checked_sub(layout.header_len())? as u32;
    let is_of_client = side == Side::Initiator;
    if is_of_client && splice.mss != 0 && segment_len > usize::from(splice.mss) + TCP_HEADER_LEN {
        return None;
    }
    let seq = plain::half_word(head, l4 + 4).swap_bytes();
    let ack = plain::half_word(head, l4 + 8).swap_bytes();
    let window = plain::quarter_word(head, l4 + 14).swap_bytes();
    let edits = edits(splice, side, window);
    // The state is in the backend's numbers and units.
    let (ack, window) =
        if is_of_client { (ack.wrapping_add(edits.ack), edits.window?) } else { (ack, window) };
    flow.tcp.follow(side, seq, ack, window, payload_len).then_some(edits)
}
