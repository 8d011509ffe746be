//! Frames on their way between workers and the kernel: bytes in slots that go round, so that nothing is allocated for one.

use crossbeam::queue::ArrayQueue;
use nva_dataplane::verdict::PortId;
use nva_dataplane::wire::ETHERNET_HEADER_LEN;
use pmd_shim::exchange::Bell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Frames of one port that can be on their way, in each direction.
pub(super) const SLOTS: usize = 256;

/// A frame's bytes, and whose they are.
pub(crate) struct Slot {
    port: PortId,
    len: usize,
    room: Box<[u8]>,
}

impl Slot {
    fn new(port: PortId, room: usize) -> Self {
        Self { port, len: 0, room: vec![0; room].into() }
    }

    /// The port at whose host interface the frame is.
    pub(crate) fn port(&self) -> PortId {
        self.port
    }

    /// The frame.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }

    /// Puts a frame in; `false`: it is too long.
    fn fill(&mut self, frame: &[u8]) -> bool {
        let room = self.room.get_mut(..frame.len());
        self.len = room.as_ref().map_or(0, |room| room.len());
        room.map(|room| room.copy_from_slice(frame)).is_some()
    }

    /// Lets `read` put a frame in; what it gives is the frame's length, or that there is none.
    pub(super) fn read(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<Option<usize>>,
    ) -> io::Result<bool> {
        let len = read(&mut self.room)?;
        self.len = len.unwrap_or(0).min(self.room.len());
        Ok(len.is_some())
    }
}

/// The slots of one port.
pub(super) struct Lane {
    pub(super) to_kernel: ArrayQueue<Slot>,
    pub(super) to_kernel_empty: ArrayQueue<Slot>,
    pub(super) from_kernel_empty: ArrayQueue<Slot>,
}

impl Lane {
    fn new(port: PortId, room: usize) -> Self {
        let empty = || {
            let queue = ArrayQueue::new(SLOTS);
            for _ in 0..SLOTS {
                // There is room for as many.
                let _ = queue.push(Slot::new(port, room));
            }
            queue
        };
        Self { to_kernel: ArrayQueue::new(SLOTS), to_kernel_empty: empty(), from_kernel_empty: empty() }
    }
}

/// What workers and the host thread share.
pub(super) struct Desk {
    /// By [`PortId::index`]; `None`: no host interface.
    lanes: Vec<Option<Lane>>,
    /// What the kernel sent, by worker.
    from_kernel: Vec<ArrayQueue<Slot>>,
    /// The host thread's.
    pub(super) bell: Bell,
    stopping: AtomicBool,
}

impl Desk {
    /// For `count` ports, of which `ports` have host interfaces, and IP packets of at most `packet_max` bytes.
    pub(super) fn new(
        count: usize,
        ports: impl Iterator<Item = PortId>,
        packet_max: u16,
        workers: usize,
    ) -> io::Result<Self> {
        let mut lanes: Vec<Option<Lane>> = (0..count).map(|_| None).collect();
        for port in ports {
            if let Some(lane) = lanes.get_mut(port.index()) {
                *lane = Some(Lane::new(port, usize::from(packet_max) + ETHERNET_HEADER_LEN));
            }
        }
        let slots = SLOTS * lanes.iter().flatten().count().max(1);
        let from_kernel = (0..workers).map(|_| ArrayQueue::new(slots)).collect();
        Ok(Self { lanes, from_kernel, bell: Bell::new()?, stopping: AtomicBool::new(false) })
    }

    pub(super) fn lane(&self, port: PortId) -> Option<&Lane> {
        self.lanes.get(port.index())?.as_ref()
    }

    /// Gives a worker a frame of the kernel, to be rung for.
    ///
    /// # Errors
    /// The frame, where there is no such worker.
    pub(super) fn deliver(&self, worker: usize, slot: Slot) -> Result<(), Slot> {
        match self.from_kernel.get(worker) {
            // There is room for every slot that there is.
            Some(queue) => queue.push(slot),
            None => Err(slot),
        }
    }

    /// Nothing waits for the kernel, and the thread is not to end.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_stopping() && self.lanes.iter().flatten().all(|lane| lane.to_kernel.is_empty())
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The kernel's sockets, as a worker sees them.
pub(crate) struct HostEnd {
    desk: Arc<Desk>,
    worker: usize,
    /// Something was given since the bell was last rung.
    is_due: bool,
}

impl HostEnd {
    pub(super) fn new(desk: Arc<Desk>, worker: usize) -> Self {
        Self { desk, worker, is_due: false }
    }

    /// Gives the kernel a copy of a frame; `false`: too many wait, or the port has no host interface.
    pub(crate) fn give(&mut self, port: PortId, frame: &[u8]) -> bool {
        let Some(lane) = self.desk.lane(port) else { return false };
        let Some(mut slot) = lane.to_kernel_empty.pop() else { return false };
        let fits = slot.fill(frame);
        let queue = if fits { &lane.to_kernel } else { &lane.to_kernel_empty };
        // Either has room for every slot that there is.
        let given = queue.push(slot).is_ok() && fits;
        self.is_due |= given;
        given
    }

    /// The next frame that the kernel sent.
    pub(crate) fn take(&self) -> Option<Slot> {
        self.desk.from_kernel.get(self.worker)?.pop()
    }

    /// Whether the kernel sent nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.desk.from_kernel.get(self.worker).is_none_or(ArrayQueue::is_empty)
    }

    /// Gives back a slot in which a frame of the kernel came.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        if let Some(lane) = self.desk.lane(slot.port) {
            let _ = lane.from_kernel_empty.push(slot);
        }
    }

    /// Once a turn: wakes the host thread if something was given.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.is_due) {
            self.desk.bell.ring();
        }
    }
}
