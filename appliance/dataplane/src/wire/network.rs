//! What the IP header of either family says, before the transport is looked at.

use super::FragmentInfo;
use crate::addr::{Addr, Family};

/// An IP header, with the extension headers behind it. Offsets as in [`Packet`](super::Packet), and `l3 < l4
/// <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) src: Addr,
    pub(super) dst: Addr,
    pub(super) family: Family,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) dont_fragment: bool,
    pub(super) l3: usize,
    pub(super) l4: usize,
    pub(super) end: usize,
    pub(super) fragment: Option<FragmentInfo>,
    /// There is a fragment header, even one of an atomic fragment.
    pub(super) fragment_header: bool,
}

impl Network {
    /// A fragment that is not the first: what is at `l4` is no transport header.
    #[inline]
    pub(super) const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some(FragmentInfo { offset: 1.., .. }))
    }
}
