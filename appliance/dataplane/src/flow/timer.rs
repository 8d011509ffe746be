//! The timer wheel: which flows may be over.
//!
//! Four levels of 256 lists. Level 0 holds the ticks of the current 256, one list a tick; each level above holds 256 times as
//! much, and a list moves down when its time begins. Where a flow stands follows from the highest byte in which its tick differs from
//! the wheel's position, so time without flows is skipped, however long. A flow's deadline moves with every packet, the flow itself does
//! not: when its turn comes and its deadline is later, it is put in anew.

use arrayvec::ArrayVec;

/// Lists of one level.
const SLOTS: usize = 256;
const LEVELS: usize = 4;

/// No flow; or, in `previous`, a list's number from here on.
const NONE: u32 = u32::MAX;
const LIST: u32 = 1 << 31;

/// Most flows a wheel can hold.
pub(super) const MAX_FLOWS: usize = 1 << 30;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    /// The flow before, or `LIST` and the number of the list of which this is the first. `NONE`: in no list.
    previous: u32,
}

impl Link {
    /// In no list.
    const OUT: Self = Self { next: NONE, previous: NONE };
}

pub(super) struct Wheel {
    links: Box<[Link]>,
    heads: Box<[u32; LEVELS * SLOTS]>,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// The first tick that is not done with.
    position: u64,
}

impl Wheel {
    /// An empty wheel for flows 0..capacity. All memory is touched.
    pub(super) fn new(capacity: usize, tick: u64) -> Self {
        Self {
            links: vec![Link::OUT; capacity].into_boxed_slice(),
            heads: Box::new([NONE; LEVELS * SLOTS]),
            occupied: [[0; SLOTS / 64]; LEVELS],
            position: tick,
        }
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.links) + size_of_val(&*self.heads)
    }

    /// Queues a flow that is not queued. A deadline in the past is due at once.
    pub(super) fn insert(&mut self, flow: u32, deadline: u32) {
        let tick = self.absolute(deadline);
        let differing = tick ^ self.position;
        let level = (64 - (differing | 1).leading_zeros() as usize - 1) / 8;
        let level = level.min(LEVELS - 1);
        let list = level * SLOTS + slot(tick, level);
        let next = core::mem::replace(&mut self.heads[list], flow);
        if next == NONE {
            let slot = list % SLOTS;
            self.occupied[level][slot / 64] |= 1 << (slot % 64);
        } else {
            self.links[next as usize].previous = flow;
        }
        self.links[flow as usize] = Link { next, previous: LIST | list as u32 };
    }

    /// Takes a flow out; nothing, when it is not queued.
    pub(super) fn remove(&mut self, flow: u32) {
        let Link { next, previous } = core::mem::replace(&mut self.links[flow as usize], Link::OUT);
        if previous == NONE {
            return;
        }
        if previous & LIST != 0 {
            return self.begin((previous & !LIST) as usize, next);
        }
        self.links[previous as usize].next = next;
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
    }

    /// Takes out flows that may be over at tick `now`, as many of one list as fit, and tells each as soon as it is known. Each takes one
    /// from the budget; at 0 the rest waits for the next call. Those that are not [over](Self::is_over) have to be put in anew. None is taken:
    /// no more are due, or the budget is used up.
    pub(super) fn take<const N: usize>(
        &mut self,
        now: u64,
        budget: &mut usize,
        taken: &mut ArrayVec<u32, N>,
        tell: impl Fn(u32),
    ) {
        while self.position <= now {
            let Some(list) = self.current_list() else {
                self.position = self.next_event().map_or(now + 1, |tick| tick.min(now + 1));
                continue;
            };
            let mut flow = self.heads[list];
            while flow != NONE && *budget != 0 && !taken.is_full() {
                *budget -= 1;
                taken.push(flow);
                tell(flow);
                flow = core::mem::replace(&mut self.links[flow as usize], Link::OUT).next;
            }
            self.begin(list, flow);
            return;
        }
    }

    /// A flow of this deadline that was taken out is over.
    #[inline(always)]
    pub(super) fn is_over(&self, deadline: u32) -> bool {
        self.absolute(deadline) == self.position
    }

    /// Lets a list begin with this flow, or none.
    fn begin(&mut self, list: usize, flow: u32) {
        self.heads[list] = flow;
        if flow != NONE {
            self.links[flow as usize].previous = LIST | list as u32;
        } else {
            let (level, slot) = (list / SLOTS, list % SLOTS);
            self.occupied[level][slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// No queued flow is due before this tick.
    pub(super) fn next_event(&self) -> Option<u64> {
        if self.current_list().is_some() {
            return Some(self.position);
        }
        for level in 0..LEVELS - 1 {
            if let Some(slot) = self.occupied_from(level, slot(self.position, level)) {
                let below = 8 * level as u32;
                return Some(((self.position >> below) & !0xff | slot as u64) << below);
            }
        }
        // The top level goes round.
        let top = LEVELS - 1;
        let here = slot(self.position, top);
        let found = self.occupied_from(top, here).or_else(|| self.occupied_from(top, 0))?;
        let ahead = (found + SLOTS - here) % SLOTS;
        let below = 8 * top as u32;
        Some(((self.position >> below) + ahead as u64) << below)
    }

    /// A list whose time has begun: of the highest level first, as it feeds those below.
    fn current_list(&self) -> Option<usize> {
        (0..LEVELS)
            .rev()
            .map(|level| level * SLOTS + slot(self.position, level))
            .find(|list| self.heads[*list] != NONE)
    }

    /// The first list of a level, from `slot` on, that is not empty.
    fn occupied_from(&self, level: usize, slot: usize) -> Option<usize> {
        let words = &self.occupied[level];
        let first = words[slot / 64] & (u64::MAX << (slot % 64));
        if first != 0 {
            return Some(slot / 64 * 64 + first.trailing_zeros() as usize);
        }
        (slot / 64 + 1..words.len())
            .find(|word| words[*word] != 0)
            .map(|word| word * 64 + words[word].trailing_zeros() as usize)
    }

    /// A deadline as a tick that does not wrap: less than 2^31 ticks from the position, and not before it.
    pub(super) fn absolute(&self, deadline: u32) -> u64 {
        let ahead = deadline.wrapping_sub(self.position as u32) as i32;
        self.position + u64::try_from(ahead).unwrap_or(0)
    }
}

/// Which list of a level a tick belongs to.
fn slot(tick: u64, level: usize) -> usize {
    (tick >> (8 * level)) as usize % SLOTS
}

#[cfg(test)]
mod tests;
