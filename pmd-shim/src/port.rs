//! One queue type for all drivers of the pool's frame family.
//!
//! A worker is compiled once for a frame family; which driver is behind a queue is known only at start-up. The choice is an
//! enum, looked at once a burst.

use crate::af_packet::{AfPacketRx, AfPacketTx};
#[cfg(feature = "af_xdp")]
use crate::af_xdp::{AfXdpRx, AfXdpTx};
use crate::idle::WaitHandles;
use crate::memory::{LoopRx, MemoryRx, MemoryTx, SinkTx};
use crate::{Burst, Pool, PoolFrame, QueueCounters, RxQueue, TxQueue};
use core::fmt;
use std::os::fd::BorrowedFd;

/// A receive queue of any driver whose frames are [`PoolFrame`]s.
pub enum PortRx {
    /// A packet socket.
    AfPacket(AfPacketRx),
    /// AF_XDP sockets.
    #[cfg(feature = "af_xdp")]
    AfXdp(AfXdpRx),
    /// Frames that were pushed to a queue in memory.
    Memory(MemoryRx<PoolFrame>),
    /// A table of packets, over and over.
    Loop(LoopRx<Pool>),
    /// Any other queue, such as a wrapped one.
    Other(Box<dyn RxQueue<Frame = PoolFrame> + Send>),
}

/// A transmit queue of any driver whose frames are [`PoolFrame`]s.
pub enum PortTx {
    /// A packet socket.
    AfPacket(AfPacketTx),
    /// AF_XDP sockets.
    #[cfg(feature = "af_xdp")]
    AfXdp(AfXdpTx),
    /// A queue in memory.
    Memory(MemoryTx<PoolFrame>),
    /// Counts and frees.
    Sink(SinkTx<PoolFrame>),
    /// Any other queue, such as a wrapped one.
    Other(Box<dyn TxQueue<Frame = PoolFrame> + Send>),
}

impl RxQueue for PortRx {
    type Frame = PoolFrame;

    fn receive(&mut self, burst: &mut Burst<PoolFrame>) -> usize {
        match self {
            Self::AfPacket(queue) => queue.receive(burst),
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(queue) => queue.receive(burst),
            Self::Memory(queue) => queue.receive(burst),
            Self::Loop(queue) => queue.receive(burst),
            Self::Other(queue) => queue.receive(burst),
        }
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::AfPacket(queue) => queue.wait_handle(),
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(queue) => queue.wait_handle(),
            Self::Memory(queue) => queue.wait_handle(),
            Self::Loop(queue) => queue.wait_handle(),
            Self::Other(queue) => queue.wait_handle(),
        }
    }

    fn wait_handles<'a>(&'a self, handles: &mut WaitHandles<'a>) -> bool {
        match self {
            Self::AfPacket(queue) => queue.wait_handles(handles),
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(queue) => queue.wait_handles(handles),
            Self::Memory(queue) => queue.wait_handles(handles),
            Self::Loop(queue) => queue.wait_handles(handles),
            Self::Other(queue) => queue.wait_handles(handles),
        }
    }

    fn counters(&mut self) -> QueueCounters {
        match self {
            Self::AfPacket(queue) => queue.counters(),
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(queue) => queue.counters(),
            Self::Memory(queue) => queue.counters(),
            Self::Loop(queue) => queue.counters(),
            Self::Other(queue) => queue.counters(),
        }
    }
}

impl TxQueue for PortTx {
    type Frame = PoolFrame;

    fn send(&mut self, burst: &mut Burst<PoolFrame>) -> usize {
        match self {
            Self::AfPacket(queue) => queue.send(burst),
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(queue) => queue.send(burst),
            Self::Memory(queue) => queue.send(burst),
            Self::Sink(queue) => queue.send(burst),
            Self::Other(queue) => queue.send(burst),
        }
    }

    fn counters(&mut self) -> QueueCounters {
        match self {
            Self::AfPacket(queue) => queue.counters(),
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(queue) => queue.counters(),
            Self::Memory(queue) => queue.counters(),
            Self::Sink(queue) => queue.counters(),
            Self::Other(queue) => queue.counters(),
        }
    }
}

impl fmt::Debug for PortRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfPacket(_) => "PortRx::AfPacket",
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(_) => "PortRx::AfXdp",
            Self::Memory(_) => "PortRx::Memory",
            Self::Loop(_) => "PortRx::Loop",
            Self::Other(_) => "PortRx::Other",
        })
    }
}

impl fmt::Debug for PortTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfPacket(_) => "PortTx::AfPacket",
            #[cfg(feature = "af_xdp")]
            Self::AfXdp(_) => "PortTx::AfXdp",
            Self::Memory(_) => "PortTx::Memory",
            Self::Sink(_) => "PortTx::Sink",
            Self::Other(_) => "PortTx::Other",
        })
    }
}
