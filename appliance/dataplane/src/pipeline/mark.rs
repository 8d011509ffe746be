//! The word that travels with each frame.

use crate::verdict::PortId;

/// What travels with a frame in its mark word: where it was received and what it was counted as, so that a refused or waiting
/// frame can be counted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) port: PortId,
    pub(super) origin: Origin,
}

/// What a frame is, seen from the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The appliance made it by itself; it was never received.
    Own,
    /// Received, not counted yet.
    Received,
    /// Received and counted as forwarded.
    Forwarded,
    /// Received and counted as replied.
    Replied,
    /// Received by another worker; a fragment that is to meet the others of its datagram here.
    Gathered,
    /// Received by another worker, which has no flow for it.
    Sought,
    /// Received by another worker; to be decided here, as all that may have its flow have been asked.
    Placed,
    /// The appliance made it for a connection of somebody else's: as [`Own`](Self::Own), and nobody waits for it.
    Handshake,
}

impl Origin {
    /// It was never received by a port, and is no verdict's.
    #[inline(always)]
    pub(super) const fn is_own(self) -> bool {
        matches!(self, Self::Own | Self::Handshake)
    }
}

impl Mark {
    pub(super) const fn to_bits(self) -> u32 {
        self.port.0 as u32 | (self.origin as u32) << 16
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        let origin = match bits >> 16 {
            0 => Origin::Own,
            1 => Origin::Received,
            2 => Origin::Forwarded,
            3 => Origin::Replied,
            4 => Origin::Gathered,
            5 => Origin::Sought,
            6 => Origin::Placed,
            _ => Origin::Handshake,
        };
        Self { port: PortId(bits as u16), origin }
    }
}
