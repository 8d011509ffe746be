//! Sending: chunks are lent to the kernel as they are and come back when it is done with them.

use super::ring::{Consumer, Descriptor, Producer};
use super::socket::XdpSocket;
use crate::ethernet::fits;
use crate::pool::Loan;
use crate::{Burst, Frame, Pool, PoolFrame, QueueCounters, TxQueue};
use std::sync::Arc;

/// A transmit queue of an AF_XDP socket.
#[derive(Debug)]
pub struct AfXdpTx {
    // Dropped in this order: the rings are unmapped before the socket is closed.
    tx: Producer<Descriptor>,
    completion: Consumer<u64>,
    /// The chunks in either ring, and those that the driver has; `None` once left to the socket.
    loan: Option<Loan>,
    socket: Arc<XdpSocket>,
    /// Longest network packet, in bytes.
    mtu: usize,
    /// Frames of other pools, which had to be copied.
    copied: u64,
    counters: QueueCounters,
}

impl AfXdpTx {
    pub(super) fn new(
        socket: Arc<XdpSocket>,
        tx: Producer<Descriptor>,
        completion: Consumer<u64>,
        pool: &Pool,
        mtu: u32,
    ) -> Self {
        Self {
            tx,
            completion,
            loan: Some(Loan::new(pool.clone())),
            socket,
            mtu: mtu as usize,
            copied: 0,
            counters: QueueCounters::default(),
        }
    }

    /// How many frames had to be copied before they could be sent: those that another worker's pool has.
    pub fn copied(&self) -> u64 {
        self.copied
    }

    /// Frees the chunks that the kernel is done with.
    #[inline]
    fn reap(&mut self) {
        let Some(loan) = &mut self.loan else { return };
        if self.completion.available() == 0 {
            return;
        }
        let completion = &mut self.completion;
        let strange = loan.free(core::iter::from_fn(|| completion.pop()));
        self.completion.release();
        self.counters.errors += strange as u64;
    }

    /// Puts a frame into the ring, which has room for it.
    #[inline]
    fn queue(&mut self, frame: PoolFrame) {
        if !fits(frame.bytes(), self.mtu) {
            self.counters.errors += 1;
            return;
        }
        let Some(loan) = &mut self.loan else { return };
        let lent = loan.lend(frame).or_else(|frame| {
            self.copied += 1;
            let copy = loan.pool().copy_from(frame.bytes());
            copy.ok_or(()).and_then(|copy| loan.lend(copy).map_err(drop))
        });
        let Ok((address, len)) = lent else {
            self.counters.no_buffer += 1;
            return;
        };
        self.tx.push(Descriptor { address, len, options: 0 });
        self.counters.packets += 1;
        self.counters.bytes += u64::from(len);
    }

    /// Asks the kernel to send what is in the ring, as often as it gets on with it.
    fn kick(&mut self) {
        if self.socket.is_zero_copy() {
            if self.tx.needs_wakeup() && self.socket.kick_tx().is_err() {
                self.counters.errors += 1;
            }
            return;
        }
        // A call sends a part of the ring (32 frames unless told otherwise), or ends at a frame that the device refused.
        let all = self.tx.pending();
        let mut pending = all;
        for _ in 0..all {
            let Err(error) = self.socket.kick_tx() else { return };
            match error.raw_os_error() {
                // The device has no room, or the call has sent its part.
                Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => {
                    let left = self.tx.pending();
                    if left == pending {
                        return;
                    }
                    pending = left;
                }
                // The device took a frame and lost it, which frees its chunk.
                Some(libc::EBUSY) => self.counters.errors += 1,
                _ => {
                    self.counters.errors += 1;
                    return;
                }
            }
        }
    }
}

impl TxQueue for AfXdpTx {
    type Frame = PoolFrame;

    fn send(&mut self, burst: &mut Burst<PoolFrame>) -> usize {
        self.reap();
        let taken = (self.tx.room(burst.len() as u32) as usize).min(burst.len());
        for frame in burst.drain(..taken) {
            self.queue(frame);
        }
        self.counters.missed += burst.len() as u64;
        self.tx.submit();
        if self.tx.pending() > 0 {
            self.kick();
            let waits = !self.socket.is_zero_copy() && self.tx.pending() > 0;
            self.socket.set_waiting(waits);
        }
        taken
    }

    fn counters(&mut self) -> QueueCounters {
        let mut counters = self.counters;
        counters.errors += self.socket.statistics().tx_invalid_descs;
        counters
    }
}

impl Drop for AfXdpTx {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            self.socket.leave(loan);
        }
    }
}
