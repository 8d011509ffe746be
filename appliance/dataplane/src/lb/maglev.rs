//! The Maglev table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, 3.4).
//!
//! Each backend has its own permutation of the slots, made from its address alone, and the backends take turns in filling the table.
//!
//! Where this differs from the paper: a turn is one step along the permutation, which takes the slot if it is free, and not a walk to the
//! next free slot; and a backend stops when it has its share. So a backend that gains a slot is not late for all those behind it,
//! and a backend more or less moves about half as many slots of the others (0.7 % of the table at 400 backends). Shares are exact to the slot.

use super::hash::backend_hashes;
use crate::addr::Addr;
use crate::intrinsics::prefetch;

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
struct Walk {
    member: u16,
    position: u32,
    step: u32,
    weight: u32,
    /// Steps owed, in units of one step / the largest weight.
    credit: u32,
    /// Slots that it may still take.
    quota: u32,
}

impl Table {
    /// Builds the table; `None` without members. Members behind the 65 535th are left out: there are no slots for more.
    pub fn build(members: &[Member]) -> Option<Self> {
        if members.is_empty() {
            return None;
        }
        let mut walks = walks(members);
        let mut slots = vec![FREE; SLOTS].into_boxed_slice();
        let mut free = SLOTS;
        // Everyone's whole slots first; then the few that rounding down has left, at most one more for each.
        fill(&mut walks, &mut slots, &mut free);
        for walk in &mut walks {
            walk.quota = 1;
        }
        fill(&mut walks, &mut slots, &mut free);
        Some(Self { slots })
    }

    /// The slot that a hash falls into.
    #[inline(always)]
    pub fn slot(hash: u64) -> u32 {
        (((hash >> 32) * SLOTS as u64) >> 32) as u32
    }

    /// Asks for a slot.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32) {
        prefetch(&self.slots, slot as usize);
    }

    /// The place, in the list that the table was built from, of the member that has this slot.
    #[inline(always)]
    pub fn member(&self, slot: u32) -> usize {
        usize::from(self.slots.get(slot as usize).copied().unwrap_or_default())
    }

    /// The member of each slot.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }
}

/// The members in the order of their turns, which must not depend on the order of the list, each with a quota of whole slots.
fn walks(members: &[Member]) -> Vec<Walk> {
    let mut order: Vec<(Addr, u16, u16)> =
        (0..FREE).zip(members).map(|(place, member)| (member.address, member.weight.max(1), place)).collect();
    order.sort_unstable();
    let sum: u64 = order.iter().map(|(_, weight, _)| u64::from(*weight)).sum();
    order.into_iter().filter_map(|(address, weight, place)| Walk::new(address, weight, place, sum)).collect()
}

/// Lets the members step, each as often as its weight says, until all have their quota or no slot is free.
fn fill(walks: &mut [Walk], slots: &mut [u16], free: &mut usize) {
    let mut active: Vec<&mut Walk> = walks.iter_mut().filter(|walk| walk.quota > 0).collect();
    while let Some(largest) = active.iter().map(|walk| walk.weight).max().filter(|_| *free > 0) {
        for walk in &mut active {
            walk.credit = walk.credit.min(largest);
        }
        let mut has_all = false;
        while !has_all && *free > 0 {
            for walk in &mut active {
                if *free > 0 && walk.turn(slots, largest) {
                    *free -= 1;
                    has_all |= walk.quota == 0;
                }
            }
        }
        active.retain(|walk| walk.quota > 0);
    }
}

impl Walk {
    fn new(address: Addr, weight: u16, member: u16, weights: u64) -> Option<Self> {
        let (offset, step) = backend_hashes(address);
        let slots = SLOTS as u64;
        Some(Self {
            member,
            position: u32::try_from(offset % slots).ok()?,
            step: u32::try_from(step % (slots - 1) + 1).ok()?,
            weight: u32::from(weight),
            credit: 0,
            quota: u32::try_from(slots * u64::from(weight) / weights).ok()?,
        })
    }

    /// Steps when a step is owed; says whether that took a slot. The step is no multiple of the prime, so that the way reaches every slot.
    fn turn(&mut self, slots: &mut [u16], largest: u32) -> bool {
        self.credit += self.weight;
        if self.credit < largest {
            return false;
        }
        self.credit -= largest;
        let slot = slots.get_mut(self.position as usize);
        self.position = (self.position + self.step) % SLOTS as u32;
        let Some(slot) = slot.filter(|slot| **slot == FREE) else { return false };
        *slot = self.member;
        self.quota -= 1;
        true
    }
}

#[cfg(test)]
mod tests;
