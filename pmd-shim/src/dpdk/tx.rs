//! Sending: one call into DPDK a burst.
//!
//! No transmit offload is ever asked for: checksums are updated by what was changed, so that they are right already.

use super::device::Device;
use super::{Mbuf, ffi};
use crate::ethernet::{HEADER, header_len};
use crate::{Burst, Frame, QueueCounters, TxQueue};
use core::ptr;
use std::sync::Arc;

/// The shortest frame that every device takes (Intel's count anything shorter as an attack).
const LEN_MIN: usize = 17;

/// A transmit queue of a device.
#[derive(Debug)]
pub struct DpdkTx {
    device: Arc<Device>,
    port: u16,
    queue: u16,
    /// Longest network packet, in bytes.
    mtu: usize,
    counters: QueueCounters,
    /// Frames that no link carries, refused here.
    misfits: u64,
}

impl DpdkTx {
    pub(super) fn new(device: Arc<Device>, queue: u16, mtu: u16) -> Self {
        let counters = QueueCounters::default();
        Self { port: device.port(), device, queue, mtu: mtu.into(), counters, misfits: 0 }
    }

    /// Takes out of the burst what the link does not carry; some devices stop for good when they are given that. Returns how many.
    #[cold]
    fn discard_misfits(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let before = burst.len();
        burst.retain(|frame| fits(frame.bytes(), self.mtu));
        let discarded = before - burst.len();
        self.misfits += discarded as u64;
        discarded
    }
}

/// Whether a frame is one that the link carries.
fn fits(frame: &[u8], mtu: usize) -> bool {
    (LEN_MIN..=header_len(frame) + mtu).contains(&frame.len())
}

impl TxQueue for DpdkTx {
    type Frame = Mbuf;

    #[inline]
    fn send(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let (mut bytes, mut shortest, mut longest) = (0, usize::MAX, 0);
        for frame in burst.iter() {
            let len = frame.len();
            bytes += len;
            shortest = shortest.min(len);
            longest = longest.max(len);
        }
        let mut taken = 0;
        // A tagged frame may be longer; this looks more closely.
        if shortest < LEN_MIN || longest > HEADER + self.mtu {
            taken = self.discard_misfits(burst);
            bytes = burst.iter().map(Mbuf::len).sum();
        }
        let count = burst.len();
        let frames = burst.as_mut_ptr();
        // SAFETY: the queue is set up and started as long as the device is held, and is this value's alone. A frame is a pointer in
        // memory, and there are `count` of them, each the only one to its buffer.
        let sent = unsafe { ffi::shim_tx_burst(self.port, self.queue, frames.cast(), count as u16) };
        let sent = usize::from(sent).min(count);
        let left = count - sent;
        // SAFETY: the driver owns the first `sent` buffers now, so their handles are forgotten, not dropped; the others move to the
        // front, within the burst's storage.
        unsafe {
            burst.set_len(0);
            ptr::copy(frames.add(sent), frames, left);
            burst.set_len(left);
        }
        if left > 0 {
            bytes -= burst.iter().map(Mbuf::len).sum::<usize>();
            self.counters.missed += left as u64;
        }
        self.counters.packets += sent as u64;
        self.counters.bytes += bytes as u64;
        taken += sent;
        taken
    }

    fn counters(&mut self) -> QueueCounters {
        // As for receiving: the first queue reports what the device counts for all.
        let device = if self.queue == 0 { self.device.losses().tx_errors } else { 0 };
        self.counters.errors = self.misfits + device;
        self.counters
    }
}
