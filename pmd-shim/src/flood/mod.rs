//! Load for measurements: frames sent at a given rate by the kernel itself, and how long they took to arrive.
//!
//! [`Flood`] has the kernel run a small XDP program on recycled frames (`BPF_PROG_TEST_RUN` with live frames, Linux 5.18): it writes the
//! next packet of a table into the frame and sends it out of an interface, some millions a second. It paces itself by the clock, open
//! loop: a frame that is late is sent late, with the time at which it was meant to leave. [`Arrivals`] is a program at the other end that
//! takes that time from each frame and counts it into a histogram.
//!
//! Never used by the appliance: these are for whoever measures it.

mod arrivals;
mod pace;
mod sender;

pub use arrivals::{Arrivals, Histogram};
pub use sender::{Flood, FloodCounts};

/// The bytes in front of a stamp, by which a stamped frame is known.
pub const STAMP_MAGIC: u32 = 0x6e76_6170;
/// A stamp: the magic, then the time at which the frame was meant to leave (`CLOCK_MONOTONIC`, nanoseconds), both in the machine's byte
/// order.
pub const STAMP_BYTES: usize = 12;
