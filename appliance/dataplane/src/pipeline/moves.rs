//! Which worker packets of a flow went to, by the flow's hash: to find that out anew for each packet costs more than to take it out.

use super::place::Move;
use crate::flow::FlowHash;
use crate::placement::Placement;
use crate::verdict::PortId;

/// Pairs of places, a power of two.
const PAIRS: usize = 4096;

/// One flow's packets.
#[derive(Clone, Copy)]
struct Known {
    hash: u64,
    port: PortId,
    to: Option<Move>,
}

/// Of nobody.
const UNKNOWN: Known = Known { hash: 0, port: PortId(0), to: None };

const _: () = assert!(size_of::<Known>() == 16);

/// Moves of packets that came in by a port, as of the configuration in force. Of each pair of places the last two are kept.
///
/// A packet of another flow with the same hash, which occurs with a probability of 2^-64, would be taken for one of this flow, and judged by a
/// worker that is not its flow's.
pub(super) struct Moves {
    pairs: Box<[[Known; 2]]>,
}

impl Moves {
    /// None yet. A worker that is alone has no room for any.
    pub(super) fn new(placement: Placement) -> Self {
        let count = if placement.is_alone() { 0 } else { PAIRS };
        Self { pairs: vec![[UNKNOWN; 2]; count].into() }
    }

    /// Where a packet of this hash went that came in by this port.
    #[inline(always)]
    pub(super) fn get(&self, hash: FlowHash, port: PortId) -> Option<Move> {
        let pair = self.pairs.get(hash.bits() as usize % PAIRS)?;
        let known = pair.iter().find(|known| known.hash == hash.bits() && known.port == port)?;
        known.to
    }

    /// Where one goes of which nothing was known.
    #[inline]
    pub(super) fn set(&mut self, hash: FlowHash, port: PortId, to: Move) {
        if let Some([first, second]) = self.pairs.get_mut(hash.bits() as usize % PAIRS) {
            *second = core::mem::replace(first, Known { hash: hash.bits(), port, to: Some(to) });
        }
    }

    /// Other configurations lead elsewhere.
    pub(super) fn forget(&mut self) {
        self.pairs.fill([UNKNOWN; 2]);
    }
}
