//! The packet's path, sans I/O: frames and a time go in, frames and verdicts come out.
#![deny(unsafe_code)]

pub mod addr;
mod addr_map;
mod bearings;
pub mod counters;
pub mod emit;
pub mod explain;
pub mod flow;
pub mod fragments;
pub mod guard;
mod hash;
pub mod host;
#[allow(unsafe_code, reason = "the one place for processor intrinsics")]
pub mod intrinsics;
pub mod lb;
pub mod names;
pub mod pipeline;
pub mod placement;
pub mod policy;
pub mod prefix_set;
pub mod route;
mod siphash;
pub mod snapshot;
pub mod sources;
pub mod synproxy;
#[cfg(test)]
mod testing;
pub mod time;
pub mod toeplitz;
pub mod tunnel;
pub mod verdict;
pub mod wire;
