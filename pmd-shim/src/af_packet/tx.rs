//! Sending: a ring of slots that the kernel empties (`TPACKET_V2`), with one system call a burst.

use super::AfPacketOptions;
use super::ring::Ring;
use super::socket::PacketSocket;
use super::vnet::VNET_HEADER_LEN;
use crate::ethernet::{HEADER_MAX, fits};
use crate::kernel::DeviceError;
use crate::{Burst, Frame, PoolFrame, QueueCounters, TxQueue};
use core::ptr;
use core::sync::atomic::Ordering;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Where a slot's status word is (`struct tpacket2_hdr`); its length follows.
const STATUS: usize = 0;
const LENGTH: usize = 4;
/// Where the data starts: behind the header, where without an address the kernel looks for it.
const DATA: usize = libc::TPACKET2_HDRLEN - size_of::<libc::sockaddr_ll>();
/// The kernel takes memory for a ring in pieces of this size, or of a slot if that is larger.
const BLOCK_BYTES: usize = 64 * 1024;
/// Frames up to this length are copied into the kernel's buffer as a whole; see [`vnet_header`].
const COPY_MAX: usize = 4096;

/// A transmit queue of a packet socket.
#[derive(Debug)]
pub struct AfPacketTx {
    ring: Ring,
    socket: PacketSocket,
    next: usize,
    /// Longest network packet, in bytes.
    mtu: usize,
    /// There are frames in the ring that the kernel did not take when asked last.
    pending: bool,
    counters: QueueCounters,
}

impl AfPacketTx {
    /// Sets the ring up and binds the socket to the interface, for sending only.
    pub(super) fn new(
        socket: PacketSocket,
        options: &AfPacketOptions,
        mtu: u32,
    ) -> Result<Self, DeviceError> {
        let packet = libc::SOL_PACKET;
        let version = libc::tpacket_versions::TPACKET_V2 as i32;
        socket.set(packet, libc::PACKET_VERSION, &version, "setsockopt(PACKET_VERSION)")?;
        socket.set(packet, libc::PACKET_VNET_HDR, &1i32, "setsockopt(PACKET_VNET_HDR)")?;
        // A frame that the kernel refuses is skipped instead of stopping the ring.
        socket.set(packet, libc::PACKET_LOSS, &1i32, "setsockopt(PACKET_LOSS)")?;
        socket.set(packet, libc::PACKET_QDISC_BYPASS, &1i32, "setsockopt(PACKET_QDISC_BYPASS)")?;
        let mtu = mtu as usize;
        let slot_bytes = (DATA + VNET_HEADER_LEN + mtu + HEADER_MAX).next_power_of_two().max(2048);
        let block_bytes = slot_bytes.max(BLOCK_BYTES);
        let slots = (options.tx_frames as usize).max(64).next_power_of_two();
        let send_bytes = i32::try_from(slots * slot_bytes * 2).unwrap_or(i32::MAX);
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &send_bytes, "setsockopt(SO_SNDBUFFORCE)")?;
        let request = libc::tpacket_req {
            tp_block_size: block_bytes as u32,
            tp_block_nr: (slots * slot_bytes / block_bytes) as u32,
            tp_frame_size: slot_bytes as u32,
            tp_frame_nr: slots as u32,
        };
        socket.set(packet, libc::PACKET_TX_RING, &request, "setsockopt(PACKET_TX_RING)")?;
        let ring = Ring::map(&socket, slot_bytes, slots)?;
        socket.bind(0)?;
        Ok(Self { ring, socket, next: 0, mtu, pending: false, counters: QueueCounters::default() })
    }

    /// Copies a frame into the next slot. Returns false if the slot is still the kernel's.
    fn queue(&mut self, frame: &[u8]) -> bool {
        // Acquire: pairs with the kernel's barrier between its last look at the slot and handing it over.
        if self.ring.status(self.next, STATUS).load(Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
            return false;
        }
        let len = VNET_HEADER_LEN + frame.len();
        // SAFETY: the status says that the slot is ours, and it is handed over only below.
        let slot = unsafe { self.ring.bytes_mut(self.next, LENGTH) };
        let header = vnet_header(frame.len());
        let parts = slot.split_first_chunk_mut().and_then(|(length, rest): (&mut [u8; 4], _)| {
            let data = rest.get_mut(DATA - LENGTH - 4..)?.get_mut(..len)?;
            Some((length, data.split_first_chunk_mut::<VNET_HEADER_LEN>()?))
        });
        let Some((length, (vnet, data))) = parts else {
            // Checked by the caller against the MTU, for which the slots were made.
            self.counters.errors += 1;
            return true;
        };
        *length = (len as u32).to_ne_bytes();
        *vnet = header;
        data.copy_from_slice(frame);
        self.ring.hand_over(self.next, STATUS, libc::TP_STATUS_SEND_REQUEST);
        self.next = self.ring.after(self.next);
        self.counters.packets += 1;
        self.counters.bytes += frame.len() as u64;
        self.pending = true;
        true
    }

    /// Asks the kernel to send what is in the ring.
    fn kick(&mut self) {
        // SAFETY: no data and no address are given.
        let outcome = unsafe {
            libc::sendto(self.socket.as_fd().as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0)
        };
        if outcome >= 0 {
            self.pending = false;
            return;
        }
        match io::Error::last_os_error().raw_os_error() {
            // The device has no room now: the frames stay in the ring and are sent with the next burst.
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => {}
            _ => self.counters.errors += 1,
        }
    }
}

/// The header in front of a frame that needs nothing done, but for its `hdr_len`: so much the kernel copies into its own buffer.
///
/// The rest it would refer to in the ring's pages, which on a virtual device costs more than the copy: the pages have to be copied,
/// one page a frame, as soon as the frame passes from one interface to the other.
fn vnet_header(frame_len: usize) -> [u8; VNET_HEADER_LEN] {
    let [low, high] = (frame_len.min(COPY_MAX) as u16).to_ne_bytes();
    [0, 0, low, high, 0, 0, 0, 0, 0, 0]
}

impl TxQueue for AfPacketTx {
    type Frame = PoolFrame;

    fn send(&mut self, burst: &mut Burst<PoolFrame>) -> usize {
        let mut taken = 0;
        for frame in burst.iter() {
            let bytes = frame.bytes();
            if !fits(bytes, self.mtu) {
                self.counters.errors += 1;
            } else if !self.queue(bytes) {
                break;
            }
            taken += 1;
        }
        self.counters.missed += (burst.len() - taken) as u64;
        if taken == burst.len() {
            Frame::free_all(burst);
        } else {
            burst.drain(..taken);
        }
        if self.pending {
            self.kick();
        }
        taken
    }

    fn counters(&mut self) -> QueueCounters {
        if self.socket.take_error() {
            self.counters.errors += 1;
        }
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(offset_of!(libc::tpacket2_hdr, tp_status), STATUS);
        assert_eq!(offset_of!(libc::tpacket2_hdr, tp_len), LENGTH);
        assert_eq!(DATA, 32);
    }
}
