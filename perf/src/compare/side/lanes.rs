//! Where frames wait for the end of a turn, as in the appliance's worker: one burst for each port, sent with one call.

use nva_dataplane::pipeline::Transmit;
use nva_dataplane::verdict::PortId;
use pmd_shim::dpdk::{DpdkTx, Mbuf, MbufPool};
use pmd_shim::{Burst, FrameSource, TxQueue};

/// The transmit side of a worker that is alone.
pub(super) struct Lanes {
    lanes: Vec<(DpdkTx, Burst<Mbuf>)>,
    pool: MbufPool,
    /// Frames that a lane had no room for, and their ports.
    refused: Vec<(PortId, Mbuf)>,
}

impl Lanes {
    pub(super) fn new(queues: Vec<DpdkTx>, pool: &MbufPool) -> Self {
        let lanes = queues.into_iter().map(|queue| (queue, Burst::new())).collect();
        Self { lanes, pool: pool.clone(), refused: Vec::with_capacity(pool.capacity()) }
    }

    /// Sends what waits, and hands over each frame that a full queue refused.
    pub(super) fn flush(&mut self, mut refused: impl FnMut(PortId, Mbuf)) {
        for ((queue, burst), port) in self.lanes.iter_mut().zip(0..) {
            if !burst.is_empty() {
                queue.send(burst);
                burst.drain(..).for_each(|frame| refused(PortId(port), frame));
            }
        }
        self.refused.drain(..).for_each(|(port, frame)| refused(port, frame));
    }

    /// Frames that the port at this place sent.
    pub(super) fn sent(&mut self, port: PortId) -> u64 {
        self.lanes.get_mut(port.index()).map_or(0, |(queue, _)| queue.counters().packets)
    }
}

impl Transmit<Mbuf> for Lanes {
    fn transmit(&mut self, port: PortId, frame: Mbuf) {
        let Some((queue, burst)) = self.lanes.get_mut(port.index()) else {
            self.refused.push((port, frame));
            return;
        };
        if burst.is_full() {
            queue.send(burst);
        }
        if let Err(full) = burst.try_push(frame) {
            self.refused.push((port, full.element()));
        }
    }

    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}
