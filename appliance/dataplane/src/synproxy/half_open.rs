//! Handshakes with backends that are on their way: a bounded list, with the times at which a SYN is sent again.
//!
//! A SYN is sent again after 1 s, 2 s and 4 s more; after another 8 s the client is told that nobody is there. As each wait has one
//! length only, those that wait the same are in the order in which they are due, and no more than the first of each is ever looked at.

use crate::addr::Mac;
use crate::flow::FlowId;
use crate::time::Time;
use crate::verdict::PortId;
use core::time::Duration;

/// The waits, one after the other.
pub const WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Most handshakes on their way at once.
pub const MOST: usize = 16_384;

/// End of a list.
const NONE: u16 = u16::MAX;

/// A handshake on its way.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    /// The flow.
    pub flow: FlowId,
    /// The client's latest timestamp; meaningless where it sends none.
    pub client_timestamp: u32,
    /// The client's window, as it names it.
    pub window: u16,
    /// The largest segment that the client takes.
    pub mss: u16,
    /// The client's window scale, and what it was promised of the backend's.
    pub scales: Option<(u8, u8)>,
    /// The client sends timestamps.
    pub timestamps: bool,
    /// The client was told that selective acknowledgements are understood.
    pub sack: bool,
    /// The client was told that congestion is notified.
    pub ecn: bool,
    /// Where the client's packets come in.
    pub port: PortId,
    /// In a tunnel, between which stations they are: from, to.
    pub link: (Mac, Mac),
    /// How many of them are counted as held.
    pub held: u8,
}

/// What is to be done for a handshake whose wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its SYN is sent again.
    Again(u16),
    /// It failed.
    Over(u16),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    half_open: Option<HalfOpen>,
    due: Time,
    /// Which of the waits it is in.
    stage: u8,
    before: u16,
    /// Of a vacant entry: the next one.
    behind: u16,
}

/// The ends of a list of entries.
#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u16,
    last: u16,
}

/// All handshakes on their way.
#[derive(Clone, Debug)]
pub struct HalfOpens {
    entries: Box<[Entry]>,
    queues: [Queue; WAITS.len()],
    vacant: u16,
    len: usize,
}

impl HalfOpens {
    /// Room for so many, at most [`MOST`].
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, MOST);
        let vacant = Entry { half_open: None, due: Time(0), stage: 0, before: NONE, behind: NONE };
        let mut entries = vec![vacant; capacity].into_boxed_slice();
        for (next, entry) in (1..capacity as u16).zip(&mut entries) {
            entry.behind = next;
        }
        Self { entries, queues: [Queue { first: NONE, last: NONE }; WAITS.len()], vacant: 0, len: 0 }
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None is on its way.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// There is no room for another one.
    pub fn is_full(&self) -> bool {
        self.vacant == NONE
    }

    /// A handshake begins now. `None`: there is no room.
    pub fn insert(&mut self, half_open: HalfOpen, now: Time) -> Option<u16> {
        let index = self.vacant;
        let entry = self.entries.get_mut(usize::from(index))?;
        self.vacant = entry.behind;
        entry.half_open = Some(half_open);
        self.len += 1;
        self.wait(index, 0, now);
        Some(index)
    }

    /// The handshake.
    #[inline]
    pub fn get(&self, index: u16) -> Option<&HalfOpen> {
        self.entries.get(usize::from(index))?.half_open.as_ref()
    }

    /// The handshake, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: u16) -> Option<&mut HalfOpen> {
        self.entries.get_mut(usize::from(index))?.half_open.as_mut()
    }

    /// Takes a handshake out: it is done, or failed.
    pub fn remove(&mut self, index: u16) -> Option<HalfOpen> {
        let half_open = self.entries.get_mut(usize::from(index))?.half_open.take()?;
        self.unlink(index);
        self.entries[usize::from(index)].behind = core::mem::replace(&mut self.vacant, index);
        self.len -= 1;
        Some(half_open)
    }

    /// The next handshake whose wait is over. One whose SYN is sent again waits anew; one that is over is still in the list.
    pub fn due(&mut self, now: Time) -> Option<Due> {
        for stage in 0..WAITS.len() {
            let index = self.queues[stage].first;
            if index == NONE || self.entries[usize::from(index)].due > now {
                continue;
            }
            if stage + 1 == WAITS.len() {
                return Some(Due::Over(index));
            }
            self.unlink(index);
            self.wait(index, stage + 1, now);
            return Some(Due::Again(index));
        }
        None
    }

    /// When the first wait is over.
    pub fn next_timer(&self) -> Option<Time> {
        let first = |queue: &Queue| self.entries.get(usize::from(queue.first)).map(|entry| entry.due);
        self.queues.iter().filter_map(first).min()
    }

    /// Puts an entry that is in no queue at the end of one.
    fn wait(&mut self, index: u16, stage: usize, now: Time) {
        let queue = &mut self.queues[stage];
        let before = core::mem::replace(&mut queue.last, index);
        match self.entries.get_mut(usize::from(before)) {
            Some(entry) => entry.behind = index,
            None => queue.first = index,
        }
        let entry = &mut self.entries[usize::from(index)];
        (entry.due, entry.stage) = (now + WAITS[stage], stage as u8);
        (entry.before, entry.behind) = (before, NONE);
    }

    fn unlink(&mut self, index: u16) {
        let Entry { stage, before, behind, .. } = self.entries[usize::from(index)];
        let queue = &mut self.queues[usize::from(stage)];
        match self.entries.get_mut(usize::from(before)) {
            Some(entry) => entry.behind = behind,
            None => queue.first = behind,
        }
        match self.entries.get_mut(usize::from(behind)) {
            Some(entry) => entry.before = before,
            None => queue.last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowId;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn half_open(window: u16) -> HalfOpen {
        HalfOpen {
            flow: FlowId::of_test(window.into()),
            client_timestamp: 0,
            window,
            mss: 0,
            scales: None,
            timestamps: false,
            sack: false,
            ecn: false,
            port: PortId(0),
            link: Default::default(),
            held: 1,
        }
    }

    #[test]
    fn four_waits_and_an_end() {
        let mut all = HalfOpens::new(4);
        let index = all.insert(half_open(1), Time(0)).expect("there is room");
        for at in [1_000, 3_000, 7_000] {
            assert_eq!(all.due(Time::from_millis(at - 1)), None);
            assert_eq!(all.next_timer(), Some(Time::from_millis(at)));
            assert_eq!(all.due(Time::from_millis(at)), Some(Due::Again(index)));
        }
        assert_eq!(all.due(Time::from_millis(14_999)), None);
        assert_eq!(all.due(Time::from_millis(15_000)), Some(Due::Over(index)));
        assert_eq!(all.remove(index).map(|half_open| half_open.window), Some(1));
        assert_eq!((all.due(Time::from_millis(99_000)), all.next_timer(), all.len()), (None, None, 0));
    }

    proptest! {
        /// Against a map of what is on its way, by the times at which it is due.
        #[test]
        fn nothing_is_lost_and_nothing_is_late(steps in prop::collection::vec((0u8..4, 0u64..3_000, 0usize..20), 0..200)) {
            let mut all = HalfOpens::new(8);
            let mut expected: BTreeMap<u16, (u16, usize, u64)> = BTreeMap::new();
            let (mut now, mut next) = (0, 0);
            for (what, wait, which) in steps {
                match what {
                    0 | 1 => {
                        next += 1;
                        let inserted = all.insert(half_open(next), Time::from_millis(now));
                        prop_assert_eq!(inserted.is_none(), expected.len() == 8);
                        if let Some(index) = inserted {
                            prop_assert!(expected.insert(index, (next, 0, now + 1_000)).is_none());
                        }
                    }
                    2 => {
                        let index = expected.keys().nth(which).copied();
                        if let Some((index, (window, ..))) = index.and_then(|index| expected.remove_entry(&index)) {
                            prop_assert_eq!(all.remove(index).map(|half_open| half_open.window), Some(window));
                        }
                    }
                    _ => {
                        now += wait;
                        while let Some(due) = all.due(Time::from_millis(now)) {
                            match due {
                                Due::Again(index) => {
                                    let (_, stage, at) = expected.get_mut(&index).expect("it is on its way");
                                    prop_assert!(*at <= now);
                                    *stage += 1;
                                    *at = now + WAITS[*stage].as_millis() as u64;
                                }
                                Due::Over(index) => {
                                    let (_, stage, at) = expected.remove(&index).expect("it is on its way");
                                    prop_assert!(at <= now && stage == 3);
                                    prop_assert!(all.remove(index).is_some());
                                }
                            }
                        }
                        prop_assert!(expected.values().all(|(.., at)| *at > now));
                    }
                }
                prop_assert_eq!(all.len(), expected.len());
                prop_assert_eq!(all.is_full(), expected.len() == 8);
                let first = expected.values().map(|(.., at)| Time::from_millis(*at)).min();
                prop_assert_eq!(all.next_timer(), first);
            }
        }
    }
}
