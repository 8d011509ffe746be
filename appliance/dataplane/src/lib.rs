//! The packet's path, sans I/O: frames and a time go in, frames and verdicts come out.
#![forbid(unsafe_code)]

pub mod addr;
pub mod time;
pub mod verdict;
pub mod wire;
