//! Where frames wait until there are many, or for the end of a turn, as in the appliance's worker: one burst for each port, sent with one
//! call.

use nva_dataplane::pipeline::Transmit;
use nva_dataplane::verdict::PortId;
use pmd_shim::dpdk::{DpdkTx, Mbuf, MbufPool};
use pmd_shim::{BURST, Burst, FrameSource, TxQueue};

/// Frames that are sent before the end of a turn.
const ENOUGH: usize = BURST / 2;

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

    /// Sends where enough waits to be worth a call; hands over each frame that a full queue refused.
    pub(super) fn send_many(&mut self, refused: impl FnMut(PortId, Mbuf)) {
        self.send(ENOUGH, refused);
    }

    /// Sends what waits, and hands over each frame that a full queue refused.
    pub(super) fn flush(&mut self, mut refused: impl FnMut(PortId, Mbuf)) {
        self.send(1, &mut refused);
        self.refused.drain(..).for_each(|(port, frame)| refused(port, frame));
    }

    fn send(&mut self, enough: usize, mut refused: impl FnMut(PortId, Mbuf)) {
        for ((queue, burst), port) in self.lanes.iter_mut().zip(0..) {
            if burst.len() >= enough {
                queue.send(burst);
                burst.drain(..).for_each(|frame| refused(PortId(port), frame));
            }
        }
    }

    /// Sends what waits, to make room for a frame.
    #[cold]
    fn transmit_more(&mut self, port: PortId, frame: Mbuf) {
        let Some((queue, burst)) = self.lanes.get_mut(port.index()) else { return };
        queue.send(burst);
        if let Err(full) = burst.try_push(frame) {
            self.refused.push((port, full.element()));
        }
    }

    /// Frames that the port at this place sent.
    pub(super) fn sent(&mut self, port: PortId) -> u64 {
        self.lanes.get_mut(port.index()).map_or(0, |(queue, _)| queue.counters().packets)
    }
}

impl Transmit<Mbuf> for Lanes {
    #[inline]
    fn transmit(&mut self, port: PortId, frame: Mbuf) {
        let Some((_, burst)) = self.lanes.get_mut(port.index()) else {
            self.refused.push((port, frame));
            return;
        };
        if let Err(full) = burst.try_push(frame) {
            self.transmit_more(port, full.element());
        }
    }

    #[inline]
    fn transmit_all(&mut self, port: PortId, frames: &mut Burst<Mbuf>) {
        match self.lanes.get_mut(port.index()) {
            Some((_, burst)) if burst.is_empty() => std::mem::swap(burst, frames),
            _ => frames.drain(..).for_each(|frame| self.transmit(port, frame)),
        }
    }

    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}
