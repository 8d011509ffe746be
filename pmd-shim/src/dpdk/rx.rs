//! Receiving: one call into DPDK a burst.

use super::device::Device;
use super::{Mbuf, ffi};
use crate::{Burst, QueueCounters, RxQueue};
use std::sync::Arc;

/// A receive queue of a device.
#[derive(Debug)]
pub struct DpdkRx {
    device: Arc<Device>,
    port: u16,
    queue: u16,
    counters: QueueCounters,
}

impl DpdkRx {
    pub(super) fn new(device: Arc<Device>, queue: u16) -> Self {
        Self { port: device.port(), device, queue, counters: QueueCounters::default() }
    }
}

impl RxQueue for DpdkRx {
    type Frame = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let (start, room) = (burst.len(), burst.remaining_capacity());
        // SAFETY: within the burst's own storage, behind the frames that are there. A frame is a pointer in memory, so the driver may
        // write pointers in the place of frames.
        let place = unsafe { burst.as_mut_ptr().add(start) }.cast::<*mut ffi::rte_mbuf>();
        // SAFETY: the queue is set up and started as long as the device is held, and is this value's alone; there is room for as many
        // pointers as are asked for.
        let count = unsafe { ffi::shim_rx_burst(self.port, self.queue, place, room as u16) };
        let count = usize::from(count).min(room);
        let mut bytes = 0;
        for index in 0..count {
            // SAFETY: the driver has written so many pointers, each to a buffer that is ours from here on, and each becomes one frame.
            bytes += unsafe { Mbuf::receive(place.add(index).read()) };
        }
        // SAFETY: as many frames as said, all of them initialised, and no more than there was room for.
        unsafe { burst.set_len(start + count) };
        self.counters.packets += count as u64;
        self.counters.bytes += bytes;
        count
    }

    fn counters(&mut self) -> QueueCounters {
        // A device counts what it lost for all its queues together; the first one reports it, so that the sums are right.
        if self.queue == 0 {
            let lost = self.device.losses();
            self.counters.missed = lost.rx_missed;
            self.counters.no_buffer = lost.rx_no_buffer;
            self.counters.errors = lost.rx_errors;
        }
        self.counters
    }
}
