//! The packet's path, sans I/O: frames and a time go in, frames and verdicts come out.
#![forbid(unsafe_code)]

pub mod addr;
pub mod emit;
pub mod guard;
pub mod lb;
pub mod names;
pub mod policy;
pub mod prefix_set;
pub mod route;
#[cfg(test)]
mod testing;
pub mod time;
pub mod verdict;
pub mod wire;
