//! Where the path's frames wait until there are many, or for the end of the round: one burst for each port, sent with one call, and what is
//! for other workers.

use super::host::{HostEnd, Slot};
use nva_dataplane::pipeline::{Handed, Transmit};
use nva_dataplane::route::News;
use nva_dataplane::verdict::PortId;
use pmd_shim::exchange::Peers;
use pmd_shim::{BURST, Burst, Frame, FrameSource, QueueCounters, TxQueue};

/// Frames that are sent before the end of the round.
const ENOUGH: usize = BURST / 2;

/// The transmit side of a worker.
pub(crate) struct Outbox<T: TxQueue, S> {
    lanes: Vec<Lane<T>>,
    source: S,
    refused: Vec<(PortId, T::Frame)>,
    peers: Peers<Handed<T::Frame>, News>,
    /// The kernel's sockets; `None`: no port has a host interface.
    host: Option<HostEnd>,
}

struct Lane<T: TxQueue> {
    port: PortId,
    queue: T,
    burst: Burst<T::Frame>,
}

impl<T: TxQueue, S: FrameSource<Frame = T::Frame>> Outbox<T, S> {
    /// An outbox for queues in the order of the ports. `frames_max` is how many frames there can be at all.
    pub(crate) fn new(
        queues: Vec<T>,
        source: S,
        frames_max: usize,
        peers: Peers<Handed<T::Frame>, News>,
    ) -> Self {
        let lanes = queues.into_iter().zip(0..).map(|(queue, port)| Lane {
            port: PortId(port),
            queue,
            burst: Burst::new(),
        });
        Self { lanes: lanes.collect(), source, refused: Vec::with_capacity(frames_max), peers, host: None }
    }

    /// With the kernel's sockets behind host interfaces.
    pub(crate) fn with_host(self, host: Option<HostEnd>) -> Self {
        Self { host, ..self }
    }

    /// The next frame that the kernel sent.
    pub(crate) fn take_from_kernel(&self) -> Option<Slot> {
        self.host.as_ref()?.take()
    }

    /// Whether the kernel sent nothing.
    pub(crate) fn kernel_is_quiet(&self) -> bool {
        self.host.as_ref().is_none_or(HostEnd::is_quiet)
    }

    /// A frame with what the kernel sent; `None` when all are in use, or it is longer than they are. The slot goes back to the host
    /// thread.
    pub(crate) fn frame_from_kernel(&mut self, slot: Slot) -> Option<T::Frame> {
        let bytes = slot.bytes();
        let frame = self.source.allocate().and_then(|mut frame| {
            frame.set_len(bytes.len()).ok()?;
            frame.bytes_mut().copy_from_slice(bytes);
            Some(frame)
        });
        if let Some(host) = &mut self.host {
            host.give_back(slot);
        }
        frame
    }

    /// Sends where enough waits to be worth a call, while the frames are still in the processor's first cache. Hands over each frame that a
    /// full queue refused.
    #[inline]
    pub(crate) fn send_many(&mut self, refused: impl FnMut(PortId, T::Frame)) {
        self.send(ENOUGH, refused);
    }

    fn send(&mut self, enough: usize, mut refused: impl FnMut(PortId, T::Frame)) {
        for Lane { port, queue, burst } in &mut self.lanes {
            if burst.len() >= enough {
                queue.send(burst);
                burst.drain(..).for_each(|frame| refused(*port, frame));
            }
        }
    }

    /// Sends what waits, and hands over each frame that a full queue refused.
    pub(crate) fn flush(&mut self, mut refused: impl FnMut(PortId, T::Frame)) {
        self.send(1, &mut refused);
        self.refused.drain(..).for_each(|(port, frame)| refused(port, frame));
        self.peers.flush();
        if let Some(host) = &mut self.host {
            host.flush();
        }
    }

    /// Sends what waits, to make room for a frame.
    #[cold]
    fn transmit_more(&mut self, port: PortId, frame: T::Frame) {
        let Some(lane) = self.lanes.get_mut(port.index()) else { return };
        lane.queue.send(&mut lane.burst);
        if let Err(full) = lane.burst.try_push(frame) {
            self.refused.push((port, full.element()));
        }
    }

    /// What the queue of the port at this place counted.
    pub(crate) fn counters(&mut self, index: usize) -> QueueCounters {
        self.lanes.get_mut(index).map(|lane| lane.queue.counters()).unwrap_or_default()
    }
}

impl<T: TxQueue, S: FrameSource<Frame = T::Frame>> Transmit<T::Frame> for Outbox<T, S> {
    #[inline]
    fn transmit(&mut self, port: PortId, frame: T::Frame) {
        let Some(lane) = self.lanes.get_mut(port.index()) else {
            self.refused.push((port, frame));
            return;
        };
        if let Err(full) = lane.burst.try_push(frame) {
            self.transmit_more(port, full.element());
        }
    }

    #[inline]
    fn transmit_all(&mut self, port: PortId, frames: &mut Burst<T::Frame>) {
        match self.lanes.get_mut(port.index()) {
            Some(lane) if lane.burst.is_empty() => std::mem::swap(&mut lane.burst, frames),
            _ => frames.drain(..).for_each(|frame| self.transmit(port, frame)),
        }
    }

    fn allocate(&mut self) -> Option<T::Frame> {
        self.source.allocate()
    }

    #[inline]
    fn hand_over(&mut self, worker: usize, handed: Handed<T::Frame>) -> Result<(), Handed<T::Frame>> {
        self.peers.hand_over(worker, handed)
    }

    fn to_kernel(&mut self, port: PortId, frame: T::Frame) -> Result<(), T::Frame> {
        let given = self.host.as_mut().is_some_and(|host| host.give(port, frame.bytes()));
        if given { Ok(()) } else { Err(frame) }
    }

    fn tell(&mut self, news: News) {
        self.peers.tell(news);
    }
}
