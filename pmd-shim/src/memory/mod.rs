//! Ports without a device: queues of frames in memory, for tests, replay and measurements.
//!
//! They take and give frames exactly as a driver does, burst by burst and with limited room, but ask no kernel.

mod looped;
mod queue;
mod sink;
#[cfg(test)]
mod tests;

pub use looped::{LoopRx, Templates};
pub use queue::{MemoryQueue, MemoryRx, MemoryTx};
pub use sink::SinkTx;
