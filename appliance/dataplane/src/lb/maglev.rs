//! The Maglev table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, 3.4).
//!
//! Each backend has its own permutation of the slots, made from its address alone. The backends take turns, always in the same order,
//! and each takes its next free slot until none is left. A backend more or less therefore moves few slots of the others.

use super::hash::backend_hashes;
use crate::addr::Addr;

/// Slots of a table: a prime, so that every step reaches every slot, and more than a hundred times as many as backends in
/// all but the largest pools.
pub const SLOTS: usize = 65_537;

/// No slot, or a slot that nobody has taken yet.
const FREE: u16 = u16::MAX;

/// A backend as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity. The port is not part of it: all rules of a pool lead a hash to the same backend.
    pub address: Addr,
    /// Its share, relative to the other members' weights. 0 counts as 1.
    pub weight: u16,
}

/// Which member each slot belongs to. Depends on the members' addresses and weights only: not on their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    slots: Box<[u16]>,
}

/// A member's way through its permutation.
struct Turn {
    member: u16,
    position: u32,
    step: u32,
    weight: u32,
    /// Slots owed, in units of one slot / the largest weight.
    credit: u32,
}

impl Table {
    /// Builds the table; `None` without members. Members behind the 65 535th are left out: there are no slots for more.
    pub fn build(members: &[Member]) -> Option<Self> {
        let mut turns = turns(members);
        let largest = turns.iter().map(|turn| turn.weight).max()?;
        for turn in &mut turns {
            // Half a slot ahead, so that shares are rounded and not cut off.
            turn.credit = largest / 2;
        }
        let mut slots = vec![FREE; SLOTS].into_boxed_slice();
        let mut free = SLOTS;
        while free > 0 {
            for turn in &mut turns {
                turn.credit += turn.weight;
                if turn.credit >= largest && free > 0 {
                    turn.credit -= largest;
                    turn.take(&mut slots);
                    free -= 1;
                }
            }
        }
        Some(Self { slots })
    }

    /// The place, in the list that the table was built from, of the member that takes this hash.
    #[inline]
    pub fn member(&self, hash: u64) -> usize {
        let slot = ((hash >> 32) * SLOTS as u64 >> 32) as usize;
        usize::from(self.slots.get(slot).copied().unwrap_or_default())
    }

    /// The member of each slot.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }
}

/// The members in the order of their turns, which must not depend on the order of the list.
fn turns(members: &[Member]) -> Vec<Turn> {
    let mut order: Vec<(Addr, u16, u16)> =
        (0..FREE).zip(members).map(|(place, member)| (member.address, member.weight, place)).collect();
    order.sort_unstable();
    order.into_iter().filter_map(|(address, weight, place)| Turn::new(address, weight, place)).collect()
}

impl Turn {
    fn new(address: Addr, weight: u16, member: u16) -> Option<Self> {
        let (offset, step) = backend_hashes(address);
        let slots = SLOTS as u64;
        Some(Self {
            member,
            position: u32::try_from(offset % slots).ok()?,
            step: u32::try_from(step % (slots - 1) + 1).ok()?,
            weight: u32::from(weight.max(1)),
            credit: 0,
        })
    }

    /// Takes the next free slot. There is one: the step is no multiple of the prime, so that the way reaches every slot.
    fn take(&mut self, slots: &mut [u16]) {
        loop {
            let slot = slots.get_mut(self.position as usize);
            self.position = (self.position + self.step) % SLOTS as u32;
            if let Some(slot) = slot.filter(|slot| **slot == FREE) {
                *slot = self.member;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
