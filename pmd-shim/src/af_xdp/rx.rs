//! Receiving: the kernel writes frames to chunks that it was lent, and they are taken back as frames.

use super::ring::{Consumer, Descriptor, Producer};
use super::socket::XdpSocket;
use crate::idle::WaitHandles;
use crate::pool::Loan;
use crate::{Burst, Pool, PoolFrame, QueueCounters, RxQueue};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// How many frames ahead memory is asked for.
const PREFETCH_FRAMES: u32 = 12;
/// The fill ring is topped up when so many chunks are missing, so that it is done for several frames at once.
const REFILL_MIN: usize = 32;

/// The receiving half of a socket.
#[derive(Debug)]
struct Half {
    // Dropped in this order: the rings are unmapped before the socket is closed.
    rx: Consumer<Descriptor>,
    fill: Producer<u64>,
    /// The chunks in either ring, and those that the driver has; `None` once left to the socket.
    loan: Option<Loan>,
    /// How many chunks the kernel shall have.
    target: usize,
    socket: Arc<XdpSocket>,
}

impl Half {
    /// Takes what has arrived, as far as there is room; returns how many entries were unusable.
    #[inline]
    fn receive(&mut self, burst: &mut Burst<PoolFrame>, counters: &mut QueueCounters) -> u32 {
        let Some(loan) = &mut self.loan else { return 0 };
        let count = self.rx.available().min(burst.remaining_capacity() as u32);
        if count == 0 {
            self.socket.kick_waiting();
            if loan.count() < self.target {
                self.refill();
            }
            return 0;
        }
        for ahead in 0..PREFETCH_FRAMES.min(count) {
            if let Some(descriptor) = self.rx.peek(ahead) {
                loan.prefetch(descriptor.address);
            }
        }
        let mut strange = 0;
        for _ in 0..count {
            if let Some(descriptor) = self.rx.peek(PREFETCH_FRAMES) {
                loan.prefetch(descriptor.address);
            }
            let Some(Descriptor { address, len, .. }) = self.rx.pop() else { break };
            match loan.take_back(address, len) {
                Some(frame) => {
                    counters.packets += 1;
                    counters.bytes += u64::from(len);
                    burst.push(frame);
                }
                // Not a frame that the kernel was lent a chunk for.
                None => strange += 1,
            }
        }
        self.rx.release();
        if loan.count() + REFILL_MIN <= self.target {
            self.refill();
        }
        strange
    }

    /// Lends the kernel the chunks that it lacks, as far as the pool has them.
    #[inline]
    fn refill(&mut self) {
        let Some(loan) = &mut self.loan else { return };
        let missing = self.target.saturating_sub(loan.count());
        let room = self.fill.room(missing as u32) as usize;
        let fill = &mut self.fill;
        if loan.lend_free(missing.min(room), |start| fill.push(start)) > 0 {
            fill.submit();
        }
        if fill.needs_wakeup() {
            self.socket.kick_rx();
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            self.socket.leave(loan);
        }
    }
}

/// A receive queue of AF_XDP sockets: of one queue of the interface, or of several that one worker serves in turn.
#[derive(Debug)]
pub struct AfXdpRx {
    halves: Vec<Half>,
    /// The first to be asked next.
    next: usize,
    counters: QueueCounters,
}

impl AfXdpRx {
    /// A queue of no sockets yet.
    pub(super) fn new() -> Self {
        Self { halves: Vec::new(), next: 0, counters: QueueCounters::default() }
    }

    /// Adds a socket and lends it `target` chunks of the pool. Returns whether the pool had as many.
    pub(super) fn add(
        &mut self,
        socket: Arc<XdpSocket>,
        rx: Consumer<Descriptor>,
        fill: Producer<u64>,
        pool: &Pool,
        target: u32,
    ) -> bool {
        let loan = Some(Loan::new(pool.clone()));
        let mut half = Half { rx, fill, loan, target: target as usize, socket };
        half.refill();
        let is_full = half.loan.as_ref().is_some_and(|loan| loan.count() == half.target);
        self.halves.push(half);
        is_full
    }

    /// The sockets with their queues of the interface.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &XdpSocket> {
        self.halves.iter().map(|half| &*half.socket)
    }

    /// The queues of the interface whose frames come here.
    pub fn queues(&self) -> impl Iterator<Item = u32> {
        self.sockets().map(XdpSocket::queue)
    }
}

impl RxQueue for AfXdpRx {
    type Frame = PoolFrame;

    fn receive(&mut self, burst: &mut Burst<PoolFrame>) -> usize {
        let before = burst.len();
        let count = self.halves.len();
        // Each is the first in turn, as the first can fill the burst alone.
        let (behind, first) = self.halves.split_at_mut(self.next.min(count));
        for half in first.iter_mut().chain(behind) {
            let strange = half.receive(burst, &mut self.counters);
            self.counters.errors += u64::from(strange);
        }
        self.next = if self.next + 1 < count { self.next + 1 } else { 0 };
        burst.len() - before
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        match self.halves.as_slice() {
            [half] => Some(half.socket.as_fd()),
            _ => None,
        }
    }

    fn wait_handles<'a>(&'a self, handles: &mut WaitHandles<'a>) -> bool {
        self.halves.iter().all(|half| handles.try_push(half.socket.as_fd()).is_ok())
    }

    fn counters(&mut self) -> QueueCounters {
        let mut counters = self.counters;
        for socket in self.sockets() {
            let kernel = socket.statistics();
            counters.missed += kernel.rx_ring_full;
            counters.no_buffer += kernel.rx_fill_ring_empty_descs;
            // A kernel that copies counts a frame for which the fill ring was empty in both places.
            let counted = if socket.is_zero_copy() { 0 } else { kernel.rx_fill_ring_empty_descs };
            counters.errors += kernel.rx_dropped.saturating_sub(counted) + kernel.rx_invalid_descs;
        }
        counters
    }
}
