//! The neighbours' timers: a list for each state. All in one list wait equally long, so that each list is in the order of
//! its deadlines by itself, and adding, taking and finding the next are a few words each.

use crate::time::Time;
use core::time::Duration;

/// A neighbour's state; each is a list, and [`duration`](Self::duration) after it came in, the neighbour's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// The entry is not in use.
    Free,
    /// From the configuration; never asked for, never changed by what is heard.
    Static,
    /// Became static while frames waited for it, which are to be sent.
    StaticDue,
    /// Was static, while the configuration's list is being replaced.
    Retired,
    /// To be asked for the first time: everybody where its address is not known, the neighbour itself where it is.
    Due,
    /// Asked for, without an answer yet.
    Asking,
    /// Known for long and in use; asked whether it is still there.
    Probing,
    /// Its address was heard, but the neighbour has not answered a question of ours (RFC 4861, 7.3.2, STALE).
    Heard,
    /// It answered lately (REACHABLE).
    Confirmed,
    /// It answered once, and nothing was sent to it for long.
    Idle,
    /// It did not answer; not asked again for a while.
    Failed,
}

impl State {
    /// All that time changes.
    const TIMED: [Self; 8] = [
        Self::StaticDue,
        Self::Due,
        Self::Asking,
        Self::Probing,
        Self::Heard,
        Self::Confirmed,
        Self::Idle,
        Self::Failed,
    ];
    const COUNT: usize = Self::Failed as usize + 1;

    /// How long a neighbour stays in a state: retransmission and reachable time as in RFC 4861, 10.
    const fn duration(self) -> Duration {
        match self {
            Self::Free | Self::Static | Self::StaticDue | Self::Retired | Self::Due => Duration::ZERO,
            Self::Asking | Self::Probing => Duration::from_secs(1),
            Self::Failed => Duration::from_secs(3),
            Self::Heard => Duration::from_secs(5),
            Self::Confirmed | Self::Idle => Duration::from_secs(30),
        }
    }
}

pub(super) const NOBODY: u16 = u16::MAX;

/// Where an entry is in its list.
#[derive(Clone, Copy, Debug)]
struct Link {
    state: State,
    before: u16,
    behind: u16,
    deadline: Time,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u16,
    last: u16,
}

/// The state of every entry, by its index; allocated once.
#[derive(Debug)]
pub(super) struct Timers {
    links: Box<[Link]>,
    lists: [List; State::COUNT],
}

impl Timers {
    /// So many entries, all free.
    pub(super) fn new(entries: u16) -> Self {
        let unlinked = Link { state: State::Free, before: NOBODY, behind: NOBODY, deadline: Time(0) };
        let mut timers = Self {
            links: vec![unlinked; usize::from(entries)].into_boxed_slice(),
            lists: [List { first: NOBODY, last: NOBODY }; State::COUNT],
        };
        for entry in 0..entries {
            timers.append(entry, State::Free, Time(0));
        }
        timers
    }

    pub(super) fn state(&self, entry: u16) -> State {
        self.links[usize::from(entry)].state
    }

    pub(super) fn deadline(&self, entry: u16) -> Time {
        self.links[usize::from(entry)].deadline
    }

    /// The entry that has been in this state for the longest time.
    pub(super) fn first(&self, state: State) -> Option<u16> {
        Some(self.lists[state as usize].first).filter(|&entry| entry != NOBODY)
    }

    /// Moves an entry to the end of a state's list, also of the one that it is in, with a new deadline.
    pub(super) fn enter(&mut self, entry: u16, state: State, now: Time) {
        self.remove(entry);
        self.append(entry, state, now);
    }

    /// An entry whose time is up.
    pub(super) fn expired(&self, now: Time) -> Option<u16> {
        State::TIMED.iter().filter_map(|&state| self.first(state)).find(|&entry| self.deadline(entry) <= now)
    }

    /// When the next entry's time is up.
    pub(super) fn next(&self) -> Option<Time> {
        State::TIMED.iter().filter_map(|&state| self.first(state)).map(|entry| self.deadline(entry)).min()
    }

    fn append(&mut self, entry: u16, state: State, now: Time) {
        let list = &mut self.lists[state as usize];
        let before = core::mem::replace(&mut list.last, entry);
        match self.links.get_mut(usize::from(before)) {
            Some(link) => link.behind = entry,
            None => list.first = entry,
        }
        self.links[usize::from(entry)] =
            Link { state, before, behind: NOBODY, deadline: now + state.duration() };
    }

    fn remove(&mut self, entry: u16) {
        let Link { state, before, behind, .. } = self.links[usize::from(entry)];
        let list = &mut self.lists[state as usize];
        match self.links.get_mut(usize::from(before)) {
            Some(link) => link.behind = behind,
            None => list.first = behind,
        }
        match self.links.get_mut(usize::from(behind)) {
            Some(link) => link.before = before,
            None => list.last = before,
        }
    }
}
