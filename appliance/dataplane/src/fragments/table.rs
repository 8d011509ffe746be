//! The datagrams that fragments were seen of.

use super::spans::{Placed, Spans};
use super::store::{Chain, NONE, Store};
use super::{FRAGMENTS_MAX, FragmentKey, Later, Limits};
use crate::addr::Family;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::FragmentInfo;
use core::time::Duration;
use hashbrown::HashTable;
use pmd_shim::Frame;

/// Datagrams in fragments. `D` is what a first fragment was recognised as and what the later ones follow: equal plans mean that two first fragments
/// say the same.
#[derive(Debug)]
pub struct FragmentTable<F: Frame, D: Copy + PartialEq> {
    datagrams: Vec<Datagram<D>>,
    free: Vec<u32>,
    capacity: usize,
    /// Places in `datagrams`. With twice the room that is used, clearing away what was deleted never allocates.
    index: HashTable<u32>,
    /// Datagrams in the order of their deadlines, by [`QueueId`].
    queues: [Queue; 4],
    held: Store<F>,
    /// Frames of condemned and expired datagrams, to be dropped.
    discarded: Chain,
    secret: [u64; 2],
    timeouts: [Duration; 2],
}

#[derive(Debug)]
struct Datagram<D> {
    key: FragmentKey,
    spans: Spans,
    state: State<D>,
    waiting: Chain,
    waiting_len: usize,
    deadline: Time,
    queue: QueueId,
    previous: u32,
    next: u32,
}

/// What is known of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State<D> {
    /// Only later fragments came so far.
    ExpectFirst,
    /// The first was recognised.
    Follow(D),
    /// The first was dropped.
    Rejected(DropReason),
    /// Its fragments do not fit together.
    Condemned,
}

/// Every queue has one timeout, so that its order of arrival is its order of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueId {
    OpenV4 = 0,
    OpenV6 = 1,
    CompleteV4 = 2,
    CompleteV6 = 3,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    head: u32,
    tail: u32,
}

impl<F: Frame, D: Copy + PartialEq> FragmentTable<F, D> {
    /// A table with room for what the limits say. `seed` makes its hash unforeseeable to senders.
    pub fn new(limits: Limits, seed: [u8; 16]) -> Self {
        let capacity = limits.datagrams.min(NONE as usize);
        let [low, high] = [u128::from_le_bytes(seed) as u64, (u128::from_le_bytes(seed) >> 64) as u64];
        Self {
            datagrams: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            index: HashTable::with_capacity(2 * capacity),
            queues: [Queue { head: NONE, tail: NONE }; 4],
            held: Store::new(limits.held_frames),
            discarded: Chain::EMPTY,
            secret: [low, high],
            timeouts: [limits.timeout_v4, limits.timeout_v6],
        }
    }

    /// How many datagrams are remembered.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no datagram is remembered.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// How many frames wait, those included that [`advance`](Self::advance) is to give back.
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Takes note of a first fragment, and of the plan or the drop that it leads to. Those that waited for it come out of
    /// [`pop_waiting`](Self::pop_waiting) afterwards.
    ///
    /// # Errors
    /// The reason to drop this fragment: the one in `plan`, that of an earlier first fragment of the datagram, or [`DropReason::Fragment`] when it
    /// does not fit the others, is not like an earlier first one, or the table is full.
    pub fn first(
        &mut self,
        key: FragmentKey,
        info: &FragmentInfo,
        plan: Result<D, DropReason>,
        now: Time,
    ) -> Result<(), DropReason> {
        let Some(at) = self.find(key, now).or_else(|| self.open(key, now)) else {
            return Err(plan.err().unwrap_or(DropReason::Fragment));
        };
        if self.place(at, info, now) == Placed::Conflict {
            return Err(DropReason::Fragment);
        }
        let Some(datagram) = self.datagrams.get_mut(at as usize) else { return Err(DropReason::Fragment) };
        match (datagram.state, plan) {
            (State::Rejected(reason), _) => Err(reason),
            (State::ExpectFirst, Ok(plan)) => {
                datagram.state = State::Follow(plan);
                Ok(())
            }
            (State::ExpectFirst, Err(reason)) => {
                datagram.state = State::Rejected(reason);
                Err(reason)
            }
            (State::Follow(earlier), Ok(plan)) if earlier == plan => Ok(()),
            (State::Follow(_) | State::Condemned, _) => {
                self.condemn(at, now);
                Err(DropReason::Fragment)
            }
        }
    }

    /// Changes the plan of a datagram to a drop, when a stage behind the one that recognised its first fragment drops that.
    pub fn reject(&mut self, key: FragmentKey, reason: DropReason) {
        let datagram = self.lookup(&key.common()).and_then(|at| self.datagrams.get_mut(at as usize));
        if let Some(datagram) = datagram.filter(|d| matches!(d.state, State::Follow(_))) {
            datagram.state = State::Rejected(reason);
        }
    }

    /// Takes note of a fragment that is not the first. A frame that waited goes through here again and is let through as its own duplicate.
    pub fn later(&mut self, key: FragmentKey, info: &FragmentInfo, now: Time) -> Later<D> {
        let refused = Later::Drop(DropReason::Fragment);
        let known = self.find(key, now);
        if known.is_none() && !self.held.has_room() {
            return refused;
        }
        let Some(at) = known.or_else(|| self.open(key, now)) else { return refused };
        let placed = self.place(at, info, now);
        let Some(datagram) = self.datagrams.get(at as usize) else { return refused };
        match datagram.state {
            State::Condemned => refused,
            State::Follow(plan) => Later::Follow(plan),
            State::Rejected(reason) => Later::Drop(reason),
            State::ExpectFirst if self.held.has_room() && datagram.waiting_len < FRAGMENTS_MAX => Later::Hold,
            State::ExpectFirst => {
                // Without this fragment the datagram is worth nothing; without a duplicate it is worth the same.
                if placed == Placed::New {
                    self.condemn(at, now);
                }
                refused
            }
        }
    }

    /// Keeps a frame until the first fragment of its datagram comes; call it when [`later`](Self::later) said [`Later::Hold`].
    ///
    /// # Errors
    /// The frame itself where there is no room, or its datagram does not wait for its first fragment.
    pub fn hold(&mut self, key: FragmentKey, frame: F) -> Result<(), F> {
        let datagram = self.lookup(&key.common()).and_then(|at| self.datagrams.get_mut(at as usize));
        let Some(datagram) = datagram.filter(|d| d.state == State::ExpectFirst) else { return Err(frame) };
        self.held.push(&mut datagram.waiting, frame)?;
        datagram.waiting_len += 1;
        Ok(())
    }

    /// The next frame, in order of arrival, that waited for this datagram's first fragment; `None` until that has come.
    pub fn pop_waiting(&mut self, key: FragmentKey) -> Option<F> {
        let at = self.lookup(&key.common())?;
        let datagram = self.datagrams.get_mut(at as usize).filter(|d| d.state != State::ExpectFirst)?;
        let frame = self.held.pop(&mut datagram.waiting)?;
        datagram.waiting_len -= 1;
        Some(frame)
    }

    /// Forgets datagrams whose time is over. Gives back, one a call, the frames to be dropped as [`DropReason::Fragment`]: of datagrams that
    /// never got their first fragment, or that do not fit together. `None`: nothing is due, or `budget`, which each
    /// frame and each datagram lowers by one, is used up.
    pub fn advance(&mut self, now: Time, budget: &mut usize) -> Option<F> {
        loop {
            *budget = budget.checked_sub(1)?;
            if let Some(frame) = self.held.pop(&mut self.discarded) {
                return Some(frame);
            }
            self.forget(self.first_due(now)?);
        }
    }

    /// When [`advance`](Self::advance) has something to do, at the earliest.
    pub fn next_timer(&self) -> Option<Time> {
        if !self.discarded.is_empty() {
            return Some(Time::default());
        }
        self.heads().map(|datagram| datagram.deadline).min()
    }

    /// The first datagram of each queue.
    fn heads(&self) -> impl Iterator<Item = &Datagram<D>> {
        self.queues.iter().filter_map(|queue| self.datagrams.get(queue.head as usize))
    }

    fn first_due(&self, now: Time) -> Option<u32> {
        let due = |head: &u32| self.datagrams.get(*head as usize).is_some_and(|d| d.deadline <= now);
        self.queues.iter().map(|queue| queue.head).find(due)
    }

    /// Fits a fragment into its datagram, with all that follows from it.
    fn place(&mut self, at: u32, info: &FragmentInfo, now: Time) -> Placed {
        let Some(datagram) = self.datagrams.get_mut(at as usize) else { return Placed::Conflict };
        if datagram.state == State::Condemned {
            return Placed::Conflict;
        }
        let placed = datagram.spans.place(info);
        let completes = placed == Placed::New && datagram.spans.is_complete();
        let family = datagram.key.family();
        match placed {
            Placed::Conflict => self.condemn(at, now),
            Placed::New if completes => self.requeue(at, QueueId::complete(family), now),
            Placed::New | Placed::Duplicate => {}
        }
        placed
    }

    /// From now on everything of this datagram is dropped, what waits for its first fragment too.
    fn condemn(&mut self, at: u32, now: Time) {
        let Some(datagram) = self.datagrams.get_mut(at as usize) else { return };
        datagram.state = State::Condemned;
        datagram.waiting_len = 0;
        let waiting = core::mem::replace(&mut datagram.waiting, Chain::EMPTY);
        let family = datagram.key.family();
        self.held.append(&mut self.discarded, waiting);
        self.requeue(at, QueueId::open(family), now);
    }

    /// The datagram's place, if it is known and its time is not over.
    fn find(&mut self, key: FragmentKey, now: Time) -> Option<u32> {
        let at = self.lookup(&key.common())?;
        if self.datagrams.get(at as usize)?.deadline <= now {
            self.forget(at);
            return None;
        }
        Some(at)
    }

    fn lookup(&self, key: &FragmentKey) -> Option<u32> {
        let same = |at: &u32| self.datagrams.get(*at as usize).is_some_and(|d| d.key == *key);
        self.index.find(key.hash(self.secret), same).copied()
    }

    /// Begins a datagram, if need be in the place of the complete one that is next to be forgotten.
    fn open(&mut self, key: FragmentKey, now: Time) -> Option<u32> {
        let key = key.common();
        if self.index.len() >= self.capacity {
            let complete = self.queues[2..].iter().map(|queue| queue.head);
            let deadline = |at: &u32| self.datagrams.get(*at as usize).map(|datagram| datagram.deadline);
            self.forget(complete.filter(|at| deadline(at).is_some()).min_by_key(deadline)?);
        }
        let datagram = Datagram {
            key,
            spans: Spans::default(),
            state: State::ExpectFirst,
            waiting: Chain::EMPTY,
            waiting_len: 0,
            deadline: now,
            queue: QueueId::open(key.family()),
            previous: NONE,
            next: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                *self.datagrams.get_mut(at as usize)? = datagram;
                at
            }
            None => {
                let at = u32::try_from(self.datagrams.len()).ok()?;
                self.datagrams.push(datagram);
                at
            }
        };
        let (datagrams, secret) = (&self.datagrams, self.secret);
        let rehash = |at: &u32| datagrams.get(*at as usize).map_or(0, |d| d.key.hash(secret));
        self.index.insert_unique(key.hash(secret), at, rehash);
        self.enqueue(at, QueueId::open(key.family()), now);
        Some(at)
    }

    fn forget(&mut self, at: u32) {
        let Some(datagram) = self.datagrams.get_mut(at as usize) else { return };
        let waiting = core::mem::replace(&mut datagram.waiting, Chain::EMPTY);
        let hash = datagram.key.hash(self.secret);
        self.held.append(&mut self.discarded, waiting);
        self.dequeue(at);
        if let Ok(entry) = self.index.find_entry(hash, |known| *known == at) {
            entry.remove();
            self.free.push(at);
        }
    }

    fn requeue(&mut self, at: u32, queue: QueueId, now: Time) {
        self.dequeue(at);
        self.enqueue(at, queue, now);
    }

    fn enqueue(&mut self, at: u32, queue: QueueId, now: Time) {
        let ends = &mut self.queues[queue as usize];
        let tail = core::mem::replace(&mut ends.tail, at);
        if ends.head == NONE {
            ends.head = at;
        }
        if let Some(before) = self.datagrams.get_mut(tail as usize) {
            before.next = at;
        }
        if let Some(datagram) = self.datagrams.get_mut(at as usize) {
            datagram.queue = queue;
            datagram.deadline = now + self.timeouts[queue.family() as usize];
            (datagram.previous, datagram.next) = (tail, NONE);
        }
    }

    fn dequeue(&mut self, at: u32) {
        let Some(datagram) = self.datagrams.get(at as usize) else { return };
        let (queue, previous, next) = (datagram.queue, datagram.previous, datagram.next);
        match self.datagrams.get_mut(previous as usize) {
            Some(before) => before.next = next,
            None => self.queues[queue as usize].head = next,
        }
        match self.datagrams.get_mut(next as usize) {
            Some(behind) => behind.previous = previous,
            None => self.queues[queue as usize].tail = previous,
        }
    }
}

impl QueueId {
    fn open(family: Family) -> Self {
        match family {
            Family::V4 => Self::OpenV4,
            Family::V6 => Self::OpenV6,
        }
    }

    fn complete(family: Family) -> Self {
        match family {
            Family::V4 => Self::CompleteV4,
            Family::V6 => Self::CompleteV6,
        }
    }

    fn family(self) -> Family {
        match self {
            Self::OpenV4 | Self::CompleteV4 => Family::V4,
            Self::OpenV6 | Self::CompleteV6 => Family::V6,
        }
    }
}
