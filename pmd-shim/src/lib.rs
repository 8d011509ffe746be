//! Poll-mode ports: frames, bursts, queues, and the drivers behind them.
//!
//! A worker sees four things and nothing else: a [`Frame`] that it owns, a [`Burst`] of them, an [`RxQueue`] to
//! pull bursts from and a [`TxQueue`] to push bursts to. What is behind a queue (a kernel ring, a capture file, a
//! vector in memory) is chosen at start-up and called once a burst.
//!
//! This is the only crate of the workspace where `unsafe` is allowed; each block says why it is sound.

pub mod af_packet;
#[cfg(feature = "af_xdp")]
pub mod af_xdp;
#[cfg_attr(not(feature = "af_xdp"), expect(dead_code, reason = "only AF_XDP uses all of it"))]
mod bpf;
mod burst;
#[cfg(feature = "dpdk")]
pub mod dpdk;
mod ethernet;
pub mod exchange;
pub mod faulty;
pub mod flood;
mod frame;
#[cfg(test)]
mod frame_laws;
pub mod hugepages;
pub mod idle;
pub mod kernel;
mod line;
pub mod memory;
pub mod pcap;
pub mod pool;
mod port;
mod prefetch;
mod queue;
pub mod tap;

pub use burst::{BURST, Burst};
pub use frame::{ChecksumStatus, Frame, NoHeadroom, NoTailroom, RxOffload, TooShort};
pub use pool::{HEADROOM, Pool, PoolFrame, PoolOptions};
pub use port::{PortRx, PortTx};
pub use queue::{FramePool, FrameSource, QueueCounters, RxQueue, TxQueue};
