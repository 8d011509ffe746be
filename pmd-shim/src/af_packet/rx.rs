//! Receiving: a ring of slots that the kernel fills (`TPACKET_V2`), copied frame by frame into the pool.
//!
//! Slots rather than blocks (`TPACKET_V3`): a frame can be read as soon as it is there, where a block that is not full is handed over
//! by a timer, a millisecond late. A slot holds what the link carries. Of a longer packet, which is a segmentation that a device
//! left whole, the kernel queues a copy at the socket, and the slot keeps its place in the order.

use super::ring::Ring;
use super::segment::Segmentation;
use super::slot::{self, Packet};
use super::socket::PacketSocket;
use super::vnet::{Gso, VNET_HEADER_LEN};
use super::{AfPacketOptions, checksum};
use crate::ethernet::HEADER_MAX;
use crate::kernel::DeviceError;
use crate::prefetch::prefetch;
use crate::{Burst, ChecksumStatus, Frame, Pool, PoolFrame, QueueCounters, RxOffload, RxQueue};
use core::sync::atomic::Ordering;
use std::os::fd::{AsFd, BorrowedFd};

/// Slots are a multiple of this long, so that this many make whole pages: two cache lines, which the processor loads as a pair.
const SLOT_ALIGN: usize = 128;
/// The kernel takes memory for a ring in pieces of so many slots.
const BLOCK_SLOTS: usize = 32;
/// Longest packet that is read from the socket's queue: more than any device leaves whole unless told to (64 KiB).
const LONG_MAX: usize = 128 * 1024;
/// Half of the kernel's memory, in bytes, that packets in the socket's queue may take: the kernel doubles it.
const LONG_QUEUE_BYTES: i32 = 8 * 1024 * 1024;
/// How many slots ahead memory is asked for.
const PREFETCH_SLOTS: usize = 2;
const ETHERNET_VLAN_TPID: u16 = 0x8100;
const VLAN_TAG: usize = 4;
const TWO_ADDRESSES: usize = 12;

/// Where reading stands in the slot that is ours.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// The packet is longer than the slot; so many bytes of it are in the buffer for such, behind the header of [`super::vnet`].
    long: Option<usize>,
    /// The packet is being cut up, and this segment comes next.
    cutting: Option<(Segmentation, usize)>,
}

/// A receive queue of a packet socket.
#[derive(Debug)]
pub struct AfPacketRx {
    ring: Ring,
    socket: PacketSocket,
    pool: Pool,
    /// The slot that is read, or that the kernel hands over next.
    slot: usize,
    /// `None` as long as the slot is the kernel's, as far as is known.
    position: Option<Position>,
    /// A packet that is longer than a slot.
    long: Box<[u8]>,
    counters: QueueCounters,
}

impl AfPacketRx {
    /// Sets the ring up, binds the socket to all protocols, and lets nothing in yet.
    pub(super) fn new(
        socket: PacketSocket,
        options: &AfPacketOptions,
        mtu: u32,
        pool: Pool,
    ) -> Result<Self, DeviceError> {
        let packet = libc::SOL_PACKET;
        let version = libc::tpacket_versions::TPACKET_V2 as i32;
        socket.set(packet, libc::PACKET_VERSION, &version, "setsockopt(PACKET_VERSION)")?;
        socket.set(packet, libc::PACKET_VNET_HDR, &1i32, "setsockopt(PACKET_VNET_HDR)")?;
        socket.set(packet, libc::PACKET_IGNORE_OUTGOING, &1i32, "setsockopt(PACKET_IGNORE_OUTGOING)")?;
        // Any number but zero: what does not fit into a slot is queued.
        socket.set(packet, libc::PACKET_COPY_THRESH, &1i32, "setsockopt(PACKET_COPY_THRESH)")?;
        let queue = &LONG_QUEUE_BYTES;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, queue, "setsockopt(SO_RCVBUFFORCE)")?;
        let slot_bytes = (slot::FRAME_MAX + mtu as usize + HEADER_MAX).next_multiple_of(SLOT_ALIGN);
        let slots = (options.rx_frames as usize).max(64).next_power_of_two();
        let request = libc::tpacket_req {
            tp_block_size: (slot_bytes * BLOCK_SLOTS) as u32,
            tp_block_nr: (slots / BLOCK_SLOTS) as u32,
            tp_frame_size: slot_bytes as u32,
            tp_frame_nr: slots as u32,
        };
        socket.set(packet, libc::PACKET_RX_RING, &request, "setsockopt(PACKET_RX_RING)")?;
        let ring = Ring::map(&socket, slot_bytes, slots)?;
        socket.close_gate()?;
        socket.bind(libc::ETH_P_ALL as u16)?;
        socket.be_promiscuous()?;
        let long = vec![0; VNET_HEADER_LEN + LONG_MAX].into_boxed_slice();
        Ok(Self { ring, socket, pool, slot: 0, position: None, long, counters: QueueCounters::default() })
    }

    pub(super) fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Takes the next slot over if the kernel is done with it.
    #[inline]
    fn open_slot(&mut self) -> Option<Position> {
        // Acquire: pairs with the kernel's barrier between filling the slot and handing it over.
        let status = self.ring.status(self.slot, slot::STATUS).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let ahead = self.ring.address(self.slot + PREFETCH_SLOTS);
        for line in 0..3 {
            prefetch(ahead.wrapping_add(line * 64));
        }
        let long = (status & libc::TP_STATUS_COPY != 0).then(|| self.read_long());
        Some(Position { long, cutting: None })
    }

    /// Reads the packet of which the slot has only the first bytes; returns how many bytes there are of it.
    #[cold]
    fn read_long(&mut self) -> usize {
        // Without its packet the slot has an empty one, which is counted as an error.
        let len = self.socket.receive(&mut self.long).unwrap_or(0);
        len.saturating_sub(VNET_HEADER_LEN)
    }

    /// Gives the slot back.
    #[inline]
    fn close_slot(&mut self) {
        self.ring.hand_over(self.slot, slot::STATUS, libc::TP_STATUS_KERNEL);
        self.slot = self.ring.after(self.slot);
    }

    /// Makes the next frame of the packet in the slot, which is the only one unless it is being cut up. `None`, counted, if it is
    /// lost. Gives the slot back with its last frame.
    #[inline]
    fn next_frame(&mut self, position: Position) -> Option<PoolFrame> {
        // SAFETY: the slot is ours since `open_slot`, and the slice is gone before `close_slot`.
        let slot = unsafe { self.ring.bytes(self.slot) };
        let mut packet = Packet::read(slot);
        if let Some(len) = position.long {
            packet = packet.and_then(|packet| whole(packet, &self.long, len));
        }
        let (frame, cutting) = match packet {
            Some(packet) if packet.vnet.gso == Gso::None => {
                (take_whole(&packet, &self.pool, &mut self.counters), None)
            }
            Some(packet) => take_next(&packet, position.cutting, &self.pool, &mut self.counters),
            // Not the layout that the kernel promises, or not in the queue: the packet is lost.
            None => {
                self.counters.errors += 1;
                (None, None)
            }
        };
        self.position = cutting.map(|cutting| Position { cutting: Some(cutting), ..position });
        if self.position.is_none() {
            self.close_slot();
        }
        frame
    }
}

/// The packet with all its bytes, `len` of them; `None` if there are none.
fn whole<'a>(packet: Packet<'a>, long: &'a [u8], len: usize) -> Option<Packet<'a>> {
    let bytes = long.get(VNET_HEADER_LEN..)?;
    let kept = bytes.get(..len.min(bytes.len()))?;
    (len > 0).then(|| packet.with_bytes(kept, len > kept.len()))
}

/// The next segment of a packet, and which one follows.
fn take_next(
    packet: &Packet<'_>,
    cutting: Option<(Segmentation, usize)>,
    pool: &Pool,
    counters: &mut QueueCounters,
) -> (Option<PoolFrame>, Option<(Segmentation, usize)>) {
    let Some((cut, index)) = cutting.or_else(|| start_cutting(packet)) else {
        counters.errors += 1;
        return (None, None);
    };
    let following = (index + 1 < cut.count()).then_some((cut, index + 1));
    (take_segment(packet, &cut, index, pool, counters), following)
}

/// How a segmentation is cut up, and its first segment; `None` if it is not whole or of a kind that cannot be cut up.
fn start_cutting(packet: &Packet<'_>) -> Option<(Segmentation, usize)> {
    if packet.truncated {
        return None;
    }
    let vnet = &packet.vnet;
    let transport = vnet.partial_checksum.map(|(start, _)| start);
    Some((Segmentation::new(packet.bytes, vnet.gso, vnet.gso_size, transport)?, 0))
}

/// One segment in a frame of its own.
fn take_segment(
    packet: &Packet<'_>,
    cut: &Segmentation,
    index: usize,
    pool: &Pool,
    counters: &mut QueueCounters,
) -> Option<PoolFrame> {
    let Some(mut frame) = pool.frame() else {
        counters.no_buffer += 1;
        return None;
    };
    if frame.set_len(cut.len(index)).is_err() || !cut.write(packet.bytes, index, frame.bytes_mut()) {
        counters.errors += 1;
        return None;
    }
    let offload = RxOffload { checksum: ChecksumStatus::Verified, vlan: None, truncated: false };
    finish(frame, offload, packet, counters)
}

/// A packet as it is, with its checksum completed where the sender left that to the device.
fn take_whole(packet: &Packet<'_>, pool: &Pool, counters: &mut QueueCounters) -> Option<PoolFrame> {
    let Some(mut frame) = pool.frame() else {
        counters.no_buffer += 1;
        return None;
    };
    let room = frame.tailroom().min(packet.bytes.len());
    let kept = packet.bytes.get(..room).unwrap_or_default();
    // Fits: no longer than the tailroom.
    let _ = frame.extend_from_slice(kept);
    let truncated = packet.truncated || kept.len() < packet.bytes.len();
    let valid = if let Some((start, field)) = packet.vnet.partial_checksum {
        let completed = !truncated && checksum::complete(frame.bytes_mut(), start, field);
        completed && transport(kept) == Some(start)
    } else {
        let said_valid = packet.vnet.checksum_valid || packet.status & libc::TP_STATUS_CSUM_VALID != 0;
        said_valid && transport(kept).is_some()
    };
    let checksum = if valid { ChecksumStatus::Verified } else { ChecksumStatus::Unverified };
    finish(frame, RxOffload { checksum, vlan: None, truncated }, packet, counters)
}

/// Gives the frame its VLAN tag and counts it.
fn finish(
    mut frame: PoolFrame,
    mut offload: RxOffload,
    packet: &Packet<'_>,
    counters: &mut QueueCounters,
) -> Option<PoolFrame> {
    if packet.status & libc::TP_STATUS_VLAN_VALID != 0 {
        let has_tpid = packet.status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        if has_tpid && packet.vlan_tpid != ETHERNET_VLAN_TPID {
            restore_tag(&mut frame, packet.vlan_tpid, packet.vlan_tci);
        } else {
            offload.vlan = Some(packet.vlan_tci);
        }
    }
    frame.set_offload(offload);
    counters.packets += 1;
    counters.bytes += frame.bytes().len() as u64;
    Some(frame)
}

/// Puts a tag that is not a customer's (IEEE 802.1ad) back where it was, as only the plain kind can be told beside the frame.
fn restore_tag(frame: &mut PoolFrame, tpid: u16, tci: u16) {
    // A new frame has the headroom.
    if frame.push_front(VLAN_TAG).is_err() {
        return;
    }
    let bytes = frame.bytes_mut();
    if bytes.len() < TWO_ADDRESSES + VLAN_TAG {
        return;
    }
    bytes.copy_within(VLAN_TAG..TWO_ADDRESSES + VLAN_TAG, 0);
    if let Some(tag) = bytes.get_mut(TWO_ADDRESSES..).and_then(|rest| rest.first_chunk_mut::<VLAN_TAG>()) {
        let [tpid0, tpid1] = tpid.to_be_bytes();
        let [tci0, tci1] = tci.to_be_bytes();
        *tag = [tpid0, tpid1, tci0, tci1];
    }
}

/// Where the TCP or UDP header is, if it follows directly on an untagged IP header.
///
/// Only of these two does the kernel vouch for a checksum: a device's word on an ICMP message means nothing.
fn transport(frame: &[u8]) -> Option<usize> {
    let header: &[u8; 34] = frame.first_chunk()?;
    match (u16::from_be_bytes([header[12], header[13]]), header[14] >> 4) {
        (0x0800, 4) if matches!(header[23], 6 | 17) => Some(14 + usize::from(header[14] & 0xf) * 4),
        (0x86dd, 6) if matches!(header[20], 6 | 17) => Some(54),
        _ => None,
    }
}

impl RxQueue for AfPacketRx {
    type Frame = PoolFrame;

    fn receive(&mut self, burst: &mut Burst<PoolFrame>) -> usize {
        let before = burst.len();
        // Lost frames count too, so that a call stays bounded when there are no buffers.
        for _ in 0..burst.remaining_capacity() {
            let Some(position) = self.position.take().or_else(|| self.open_slot()) else { break };
            if let Some(frame) = self.next_frame(position) {
                burst.push(frame);
            }
        }
        burst.len() - before
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        // What is half read does not make the socket readable.
        if self.position.is_some() { None } else { Some(self.socket.as_fd()) }
    }

    fn counters(&mut self) -> QueueCounters {
        // Packets and drops; reading them clears them.
        if let Ok([_, drops]) = self.socket.get::<[u32; 2]>(libc::SOL_PACKET, libc::PACKET_STATISTICS) {
            self.counters.missed += u64::from(drops);
        }
        if self.socket.take_error() {
            self.counters.errors += 1;
        }
        self.counters
    }
}
