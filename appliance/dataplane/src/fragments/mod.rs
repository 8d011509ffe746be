//! Virtual reassembly: what the first fragment of a datagram was judged holds for all of it, in whatever order they come.
//!
//! Decides for a later fragment whether to follow the first, to wait for it, or to drop. Fragments are passed on as they come and never put together.
//! An exact duplicate is let through; any other overlap condemns the whole datagram (RFC 5722, RFC 8200 4.5; for
//! IPv4 because of RFC 1858 and RFC 3128), as does one fragment too many.
//!
//! *Invariant:* all memory is taken by [`FragmentTable::new`]. A full table refuses new datagrams, and first forgets those that
//! are complete.

mod spans;
mod store;
mod table;

#[cfg(test)]
mod tests;

pub use table::FragmentTable;

use crate::addr::{Addr, Family};
use crate::hash::{fold, halves};
use crate::verdict::{DropReason, PortId};
use core::time::Duration;

/// Different fragments that a datagram may have. Duplicates do not count.
pub const FRAGMENTS_MAX: usize = 64;

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams at a time.
    pub datagrams: usize,
    /// Frames that wait for a first fragment, over all datagrams.
    pub held_frames: usize,
    /// How long an IPv4 datagram is remembered, from its first fragment to arrive; a complete one as long again.
    pub timeout_v4: Duration,
    /// The same for IPv6.
    pub timeout_v6: Duration,
}

impl Default for Limits {
    /// 1,024 datagrams and 256 frames; 30 s for IPv4, where RFC 1122 leaves the time open, and 60 s for IPv6 (RFC 8200, 4.5).
    fn default() -> Self {
        Self {
            datagrams: 1024,
            held_frames: 256,
            timeout_v4: Duration::from_secs(30),
            timeout_v6: Duration::from_secs(60),
        }
    }
}

/// What the fragments of one datagram have in common (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentKey {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// The identification.
    pub id: u32,
    /// The protocol of an IPv4 datagram. Not looked at for IPv6, whose fragments may differ in it.
    pub protocol: u8,
    /// Where they come in.
    pub port: PortId,
}

impl FragmentKey {
    fn family(&self) -> Family {
        self.src.family()
    }

    /// The key with nothing in it that the fragments of a datagram may differ in.
    fn common(self) -> Self {
        match self.family() {
            Family::V4 => self,
            Family::V6 => Self { protocol: 0, ..self },
        }
    }

    /// A hash that senders, who choose every field, cannot foresee without the secret.
    fn hash(&self, secret: [u64; 2]) -> u64 {
        let (src, dst) = (halves(self.src), halves(self.dst));
        let rest = u64::from(self.id) << 32 | u64::from(self.protocol) << 16 | u64::from(self.port.0);
        let first = fold(src.0 ^ secret[0], src.1 ^ secret[1]);
        let second = fold(dst.0 ^ secret[1] ^ first, dst.1 ^ secret[0].rotate_left(32));
        fold(rest ^ secret[0].rotate_left(16) ^ second, secret[1].rotate_left(16) ^ first)
    }
}

/// What becomes of a later fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later<D> {
    /// It goes the way of the first.
    Follow(D),
    /// It is dropped, for the first one's reason or because the datagram is no good.
    Drop(DropReason),
    /// The first has not come yet: hand the frame to [`FragmentTable::hold`].
    Hold,
}
