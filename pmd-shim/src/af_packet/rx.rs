//! Receiving: a ring of blocks that the kernel fills (`TPACKET_V3`), copied frame by frame into the pool.

use super::block::{self, Packet};
use super::ring::Ring;
use super::segment::Segmentation;
use super::socket::PacketSocket;
use super::vnet::Gso;
use super::{AfPacketOptions, DeviceError, checksum};
use crate::prefetch::prefetch;
use crate::{Burst, ChecksumStatus, Frame, Pool, PoolFrame, QueueCounters, RxOffload, RxQueue};
use core::sync::atomic::Ordering;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes of a block: the longest segmentation that a device hands over (64 KiB) fits. No more, as a block that is not full when
/// it retires is lost room, and the number of blocks bounds for how many milliseconds a worker may be held up without loss.
pub(super) const BLOCK_BYTES: usize = 128 * 1024;
/// The kernel wants to know a frame size, but uses it for nothing but the sum below.
const NOMINAL_FRAME_BYTES: usize = 2048;
/// After this time a block is handed over though it is not full, in milliseconds; the shortest that there is.
const RETIRE_MS: u32 = 1;
const ETHERNET_VLAN_TPID: u16 = 0x8100;
const VLAN_TAG: usize = 4;
const TWO_ADDRESSES: usize = 12;

/// Where reading stands in the block that is ours.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Packets not yet done with, the one at `offset` among them.
    packets: u32,
    offset: usize,
    /// The packet at `offset` is being cut up, and this segment comes next.
    cutting: Option<(Segmentation, usize)>,
}

/// A receive queue of a packet socket.
#[derive(Debug)]
pub struct AfPacketRx {
    ring: Ring,
    socket: PacketSocket,
    pool: Pool,
    /// The block that is read, or that the kernel hands over next.
    block: usize,
    position: Option<Position>,
    counters: QueueCounters,
}

impl AfPacketRx {
    /// Sets the ring up, binds the socket to all protocols, and lets nothing in yet.
    pub(super) fn new(
        socket: PacketSocket,
        options: &AfPacketOptions,
        pool: Pool,
    ) -> Result<Self, DeviceError> {
        let packet = libc::SOL_PACKET;
        let version = libc::tpacket_versions::TPACKET_V3 as i32;
        socket.set(packet, libc::PACKET_VERSION, &version, "setsockopt(PACKET_VERSION)")?;
        socket.set(packet, libc::PACKET_VNET_HDR, &1i32, "setsockopt(PACKET_VNET_HDR)")?;
        socket.set(packet, libc::PACKET_IGNORE_OUTGOING, &1i32, "setsockopt(PACKET_IGNORE_OUTGOING)")?;
        let blocks = options.rx_blocks.max(2);
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: blocks,
            tp_frame_size: NOMINAL_FRAME_BYTES as u32,
            tp_frame_nr: blocks.saturating_mul((BLOCK_BYTES / NOMINAL_FRAME_BYTES) as u32),
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        socket.set(packet, libc::PACKET_RX_RING, &request, "setsockopt(PACKET_RX_RING)")?;
        let ring = Ring::map(&socket, BLOCK_BYTES, blocks as usize)?;
        socket.close_gate()?;
        socket.bind(libc::ETH_P_ALL as u16)?;
        let membership = libc::packet_mreq {
            mr_ifindex: socket.ifindex(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        socket.set(packet, libc::PACKET_ADD_MEMBERSHIP, &membership, "setsockopt(PACKET_ADD_MEMBERSHIP)")?;
        Ok(Self { ring, socket, pool, block: 0, position: None, counters: QueueCounters::default() })
    }

    pub(super) fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Takes the next block over if the kernel is done with it.
    fn open_block(&mut self) -> bool {
        // Acquire: pairs with the kernel's barrier between filling the block and handing it over.
        let status = self.ring.status(self.block, block::STATUS).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: the status says that the block is ours, and it is handed back only in `close_block`.
        let contents = block::contents(unsafe { self.ring.bytes(self.block) });
        let (packets, offset) = contents.unwrap_or_default();
        self.position = Some(Position { packets, offset, cutting: None });
        true
    }

    /// Gives the block back.
    fn close_block(&mut self) {
        self.position = None;
        self.ring.hand_over(self.block, block::STATUS, libc::TP_STATUS_KERNEL);
        self.block = (self.block + 1) % self.ring.slots();
    }
}

impl Position {
    /// Done with the packet here.
    fn advance(&mut self, packet: &Packet<'_>) {
        self.packets -= 1;
        self.offset = packet.next;
        self.cutting = None;
    }

    /// Makes the next frame of the packet here, which is the only one unless it is being cut up. `None`, counted, if it is lost.
    fn next_frame(
        &mut self,
        packet: &Packet<'_>,
        pool: &Pool,
        counters: &mut QueueCounters,
    ) -> Option<PoolFrame> {
        if packet.vnet.gso == Gso::None {
            self.advance(packet);
            return take_whole(packet, pool, counters);
        }
        let Some((cut, index)) = self.cutting.or_else(|| start_cutting(packet)) else {
            self.advance(packet);
            counters.errors += 1;
            return None;
        };
        if index + 1 < cut.count() {
            self.cutting = Some((cut, index + 1));
        } else {
            self.advance(packet);
        }
        take_segment(packet, &cut, index, pool, counters)
    }
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
        let mut room = burst.remaining_capacity();
        while room > 0 {
            if self.position.is_none() && !self.open_block() {
                break;
            }
            let Some(position) = &mut self.position else { break };
            // SAFETY: the block is ours since `open_block`, and the slice is gone before `close_block`.
            let block = unsafe { self.ring.bytes(self.block) };
            while room > 0 && position.packets > 0 {
                let Some(packet) = Packet::at(block, position.offset) else {
                    // Not the layout that the kernel promises: the rest of the block is lost.
                    self.counters.errors += u64::from(position.packets);
                    position.packets = 0;
                    break;
                };
                let next = block.as_ptr().wrapping_add(packet.next);
                prefetch(next);
                prefetch(next.wrapping_add(64));
                room -= 1;
                if let Some(frame) = position.next_frame(&packet, &self.pool, &mut self.counters) {
                    burst.push(frame);
                }
            }
            if position.packets == 0 {
                self.close_block();
            }
        }
        burst.len() - before
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        // Half-read blocks do not make the socket readable.
        if self.position.is_some() { None } else { Some(self.socket.as_fd()) }
    }

    fn counters(&mut self) -> QueueCounters {
        // Packets, drops, freezes; reading them clears them.
        if let Ok([_, drops, _]) = self.socket.get::<[u32; 3]>(libc::SOL_PACKET, libc::PACKET_STATISTICS) {
            self.counters.missed += u64::from(drops);
        }
        if self.socket.take_error() {
            self.counters.errors += 1;
        }
        self.counters
    }
}
