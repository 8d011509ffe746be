//! What a frame is to the data plane: owned bytes with room in front, and what the driver already knows of them.

use crate::Burst;
use core::fmt;

/// What the driver found out about a received frame, so that the parser need not do it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxOffload {
    /// The transport checksum.
    pub checksum: ChecksumStatus,
    /// A VLAN tag that the device or the kernel stripped: the tag control information (IEEE 802.1Q).
    pub vlan: Option<u16>,
    /// The frame was longer than a buffer, and its end is missing.
    pub truncated: bool,
}

/// Whether the transport checksum (TCP, UDP, ICMP) still has to be verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumStatus {
    /// Nobody looked at it.
    #[default]
    Unverified,
    /// Known to be right: verified by the device, or written by the driver itself.
    Verified,
}

/// A frame that its holder owns: never cloned, freed by `drop`, consumed by sending.
///
/// A new frame is empty and has at least 128 bytes of headroom, enough for a VXLAN tunnel over IPv6 (70 bytes).
pub trait Frame: Send + Sized + 'static {
    /// The frame's bytes, from the Ethernet header on, without the frame check sequence.
    fn bytes(&self) -> &[u8];

    /// The same, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Grows the frame by `count` bytes at the front; their content is unspecified.
    ///
    /// # Errors
    /// [`NoHeadroom`] when there is less room than that; the frame is unchanged.
    fn push_front(&mut self, count: usize) -> Result<(), NoHeadroom>;

    /// Cuts `count` bytes off the front.
    ///
    /// # Errors
    /// [`TooShort`] when the frame has fewer; the frame is unchanged.
    fn pop_front(&mut self, count: usize) -> Result<(), TooShort>;

    /// Makes the frame `len` bytes long, cutting or growing it at the end; the content of new bytes is unspecified.
    ///
    /// # Errors
    /// [`NoTailroom`] when the buffer is too small; the frame is unchanged.
    fn set_len(&mut self, len: usize) -> Result<(), NoTailroom>;

    /// What the driver found out on reception.
    fn offload(&self) -> RxOffload;

    /// Records what the driver found out on reception.
    fn set_offload(&mut self, offload: RxOffload);

    /// A word that travels with the frame and that only its holder gives a meaning; 0 on a new frame.
    fn mark(&self) -> u32;

    /// Sets the word that travels with the frame.
    fn set_mark(&mut self, mark: u32);

    /// Frees frames, which costs less than to drop them one by one where they are another thread's. `burst` is empty afterwards.
    #[inline]
    fn free_all(burst: &mut Burst<Self>) {
        burst.clear();
    }

    /// Asks the processor to load the frame's first bytes, ahead of reading and writing them.
    fn prefetch(&self) {}

    /// Asks the processor to load what the frame is described by, ahead of any use of it by a thread that has not made it.
    fn prefetch_header(&self) {}
}

/// There is not enough room in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeadroom;

/// A frame has fewer bytes than were to be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort;

/// A buffer is too small for the length asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTailroom;

impl fmt::Display for NoHeadroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room in front of the frame")
    }
}

impl fmt::Display for TooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the frame is shorter than what was to be cut off")
    }
}

impl fmt::Display for NoTailroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room behind the frame")
    }
}

impl core::error::Error for NoHeadroom {}
impl core::error::Error for TooShort {}
impl core::error::Error for NoTailroom {}
