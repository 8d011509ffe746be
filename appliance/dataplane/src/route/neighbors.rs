//! The neighbours of one worker: who has which Ethernet address, and which packets wait to know it.
//!
//! RFC 826 for IPv4 and RFC 4861, 7.3 for IPv6, as one machine for both. All memory is taken by [`Neighbors::new`].

use super::timers::{State, Timers};
use super::waiting::{Queue, WaitingFrames};
use crate::addr::{Addr, Mac, MacWord};
use crate::siphash::sip13;
use crate::time::Time;
use crate::verdict::PortId;
use core::cell::Cell;
use core::num::NonZeroU32;
use hashbrown::HashTable;
use pmd_shim::Frame;

/// A neighbour in a worker's table. It goes stale when the entry is given to another neighbour: then it names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighborId(NonZeroU32);

/// Bits of an identifier that are the entry's index; the others count the entry's lives. One kept through 2^18 of them would
/// name the wrong neighbour: a full table, churned by a million forged senders a second, takes a quarter of an hour for that.
const INDEX_BITS: u32 = 14;
const MAX_ENTRIES: usize = 1 << INDEX_BITS;
const MAX_EPOCH: u32 = u32::MAX >> INDEX_BITS;

impl NeighborId {
    fn new(index: u16, epoch: u32) -> Option<Self> {
        NonZeroU32::new(epoch << INDEX_BITS | u32::from(index)).map(Self)
    }

    #[inline(always)]
    fn index(self) -> u16 {
        (self.0.get() & (MAX_ENTRIES as u32 - 1)) as u16
    }

    #[inline(always)]
    fn epoch(self) -> u32 {
        self.0.get() >> INDEX_BITS
    }

    /// As a number to be stored.
    #[inline]
    pub const fn to_bits(self) -> NonZeroU32 {
        self.0
    }

    /// From the number.
    #[inline]
    pub const fn from_bits(bits: NonZeroU32) -> Self {
        Self(bits)
    }
}

/// How much a worker's neighbour table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborLimits {
    /// Neighbours, static ones included; at most 16,384. Those without a known address may take half.
    pub entries: usize,
    /// Frames that wait, over all neighbours; at most 65,535.
    pub waiting: usize,
    /// Frames that wait for one neighbour.
    pub waiting_each: usize,
}

impl Default for NeighborLimits {
    fn default() -> Self {
        Self { entries: 4096, waiting: 512, waiting_each: 8 }
    }
}

/// How a neighbour's address became known; the caller has checked that the message is valid and may speak on this port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// It asked for something. What it says of itself is taken, but not as proof that it hears us.
    Request {
        /// The question was for an address of ours and its sender is on the link: it may become a new entry.
        may_create: bool,
    },
    /// An advertisement, or an ARP reply (RFC 4861, 7.2.5). Never makes a new entry.
    Advertisement {
        /// It answers a question of ours. Proof only where one was asked.
        solicited: bool,
        /// It may replace a known address.
        overrides: bool,
    },
}

/// What a message said of a neighbour: to be [heard](Neighbors::hear) by the other workers too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The port.
    pub port: PortId,
    /// The neighbour.
    pub address: Addr,
    /// Its Ethernet address; `None` where an advertisement names none.
    pub mac: Option<Mac>,
    /// How it became known.
    pub how: Learning,
}

/// What the table wants done as time goes by.
#[derive(Debug)]
pub enum NeighborAction<F> {
    /// A question is to be sent.
    Solicit {
        /// The port.
        port: PortId,
        /// Whom to ask for.
        address: Addr,
        /// Where to send it; `None`: to everybody.
        known_mac: Option<Mac>,
    },
    /// A neighbour became static while frames [waited](Neighbors::pop_waiting) for it.
    Resolved(NeighborId),
    /// A frame waited in vain.
    Expired {
        /// The port that it would have left through.
        port: PortId,
        /// The neighbour that did not answer.
        address: Addr,
        /// The frame.
        frame: F,
    },
}

/// Questions without an answer before a neighbour counts as gone (RFC 4861, 10: MAX_MULTICAST_SOLICIT).
const MAX_QUESTIONS: u8 = 3;
/// Entries in use that are passed over, at most, when room is made.
const MAX_SECOND_CHANCES: usize = 16;

/// What the packet path reads of an entry, apart from the rest to stay small.
#[derive(Debug)]
struct Face {
    /// The address, where `reachable` says that it is known.
    word: MacWord,
    epoch: u32,
    /// The identifier while the address is known, else 0: all that a packet's is held against.
    reachable: u32,
    /// The address was read since the timers last looked.
    used: Cell<bool>,
}

impl Face {
    /// Of an entry whose address is not known.
    fn new(epoch: u32) -> Self {
        Self { word: Mac::default().into(), epoch, reachable: 0, used: Cell::new(false) }
    }

    #[inline(always)]
    fn mac(&self) -> Option<MacWord> {
        (self.reachable != 0).then_some(self.word)
    }
}

/// A neighbour's address, to be [taken](Self::take) when a packet goes there.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    mac: MacWord,
    used: &'a Cell<bool>,
}

impl Hop<'_> {
    /// The address, which is noted as in use.
    #[inline(always)]
    pub fn take(self) -> MacWord {
        self.used.set(true);
        self.mac
    }
}

#[derive(Debug)]
struct Entry {
    port: PortId,
    address: Addr,
    questions: u8,
    waiting: Queue,
}

/// The neighbour table of one worker.
#[derive(Debug)]
pub struct Neighbors<F> {
    faces: Box<[Face]>,
    entries: Box<[Entry]>,
    timers: Timers,
    index: HashTable<u16>,
    key: [u64; 2],
    frames: WaitingFrames<F>,
    waiting_each: usize,
    /// Entries without a known address, and how many there may be.
    unresolved: usize,
    max_unresolved: usize,
    /// An entry that failed and whose frames are being given back.
    giving_back: Option<u16>,
    /// The latest time that the table was told.
    latest: Time,
    news: Option<News>,
}

impl<F: Frame> Neighbors<F> {
    /// An empty table; `seed` keys its hash.
    #[must_use]
    pub fn new(limits: NeighborLimits, seed: [u8; 16]) -> Self {
        let count = limits.entries.clamp(1, MAX_ENTRIES);
        let seed = u128::from_ne_bytes(seed);
        let face = |_| Face::new(1);
        let entry =
            |_| Entry { port: PortId(0), address: Addr::UNSPECIFIED, questions: 0, waiting: Queue::EMPTY };
        Self {
            faces: (0..count).map(face).collect(),
            entries: (0..count).map(entry).collect(),
            timers: Timers::new(count as u16),
            // Twice the room: so much that removed keys are always cleaned up in place.
            index: HashTable::with_capacity(2 * count),
            key: [seed as u64, (seed >> 64) as u64],
            frames: WaitingFrames::new(limits.waiting),
            waiting_each: limits.waiting_each,
            unresolved: 0,
            max_unresolved: count.div_ceil(2),
            giving_back: None,
            latest: Time::default(),
            news: None,
        }
    }

    /// Replaces all static entries. A neighbour that is static again keeps its identifier; those that find no room in a table
    /// full of neighbours in use are left out.
    pub fn set_static(&mut self, neighbors: &[(PortId, Addr, Mac)]) {
        for state in [State::Static, State::StaticDue] {
            while let Some(entry) = self.timers.first(state) {
                self.timers.enter(entry, State::Retired, self.latest);
            }
        }
        for &(port, address, mac) in neighbors {
            let known = self.find(port, address);
            if let Some(entry) = known.or_else(|| self.create(port, address, true)) {
                self.set_mac(entry, Some(mac));
                let state = if self.may_go(entry) { State::Static } else { State::StaticDue };
                self.timers.enter(entry, state, self.latest);
            }
        }
        while let Some(entry) = self.timers.first(State::Retired) {
            self.release(entry);
        }
    }

    /// The neighbour at this address, as a new entry if need be. `None`: the table is full of entries in use.
    pub fn find_or_create(&mut self, port: PortId, address: Addr, now: Time) -> Option<NeighborId> {
        self.latest = now;
        let entry = match self.find(port, address) {
            Some(entry) => {
                if self.timers.state(entry) == State::Failed && self.timers.deadline(entry) <= now {
                    self.ask(entry, now);
                }
                entry
            }
            None => {
                let entry = self.create(port, address, false)?;
                self.ask(entry, now);
                entry
            }
        };
        self.id(entry)
    }

    /// The neighbour at this address, if its Ethernet address is known: then [`find_or_create`](Self::find_or_create) would only find it.
    /// Whoever goes by it [says](Self::is_used) when.
    pub fn find_known(&self, port: PortId, address: Addr) -> Option<NeighborId> {
        let id = self.id(self.find(port, address)?)?;
        self.hop(id).map(|_| id)
    }

    /// A neighbour is used that was [found](Self::find_known).
    #[inline(always)]
    pub fn is_used(&mut self, now: Time) {
        self.latest = now;
    }

    /// The neighbour's Ethernet address: `None` while it is not known, and for a stale identifier.
    #[inline(always)]
    pub fn mac(&self, id: NeighborId) -> Option<Mac> {
        let face = self.faces.get(usize::from(id.index()))?;
        if face.epoch != id.epoch() {
            return None;
        }
        let mac = face.mac()?;
        if !face.used.get() {
            face.used.set(true);
        }
        Some(mac.into())
    }

    /// The neighbour's address, without noting that it was read. `None` as for [`mac`](Self::mac).
    #[inline(always)]
    pub fn hop(&self, id: NeighborId) -> Option<Hop<'_>> {
        let face = self.faces.get(usize::from(id.index()))?;
        (face.reachable == id.to_bits().get()).then_some(Hop { mac: face.word, used: &face.used })
    }

    /// The identifier still names the neighbour that it was given out for.
    #[inline]
    pub fn is_current(&self, id: NeighborId) -> bool {
        self.faces.get(usize::from(id.index())).is_some_and(|face| face.epoch == id.epoch())
    }

    /// The port that the neighbour is on.
    pub fn port(&self, id: NeighborId) -> Option<PortId> {
        self.current(id).map(|entry| self.entries[usize::from(entry)].port)
    }

    /// The neighbour did not answer, lately: a packet for it cannot be delivered.
    pub fn is_failed(&self, id: NeighborId, now: Time) -> bool {
        self.current(id).is_some_and(|entry| {
            self.timers.state(entry) == State::Failed && now < self.timers.deadline(entry)
        })
    }

    /// Keeps a frame until the neighbour answers. The question itself comes out of [`advance`](Self::advance), at once if
    /// none was asked yet.
    ///
    /// # Errors
    /// The frame, when too many wait already, the neighbour failed, its address is known, or the identifier is stale.
    pub fn hold(&mut self, id: NeighborId, frame: F, now: Time) -> Result<(), F> {
        let Some(entry) = self.current(id) else { return Err(frame) };
        match self.timers.state(entry) {
            State::Due | State::Asking if self.faces[usize::from(entry)].mac().is_none() => {}
            State::Failed if self.timers.deadline(entry) <= now => self.ask(entry, now),
            _ => return Err(frame),
        }
        let queue = &mut self.entries[usize::from(entry)].waiting;
        if queue.len() >= self.waiting_each {
            return Err(frame);
        }
        self.frames.push(queue, frame)
    }

    /// Takes the next frame that waited for a neighbour whose address is known now, in order of arrival.
    pub fn pop_waiting(&mut self, id: NeighborId) -> Option<F> {
        let entry = self.current(id)?;
        self.faces[usize::from(entry)].mac()?;
        self.frames.pop(&mut self.entries[usize::from(entry)].waiting)
    }

    /// How many frames can wait.
    pub fn places(&self) -> usize {
        self.frames.capacity()
    }

    /// Takes the frame out that waits at one of the [places](Self::places), if it is one of these: it waits no longer.
    pub fn take_waiting(&mut self, place: usize, is_one: impl Fn(&F) -> bool) -> Option<F> {
        self.frames.take(place, is_one)
    }

    /// Takes in what a message says of a neighbour. Gives the neighbour when its address is known now and the message
    /// counted, so that the caller can send what [waited](Self::pop_waiting). `mac` is `None` where an advertisement names none.
    pub fn learn(
        &mut self,
        port: PortId,
        address: Addr,
        mac: Option<Mac>,
        how: Learning,
        now: Time,
    ) -> Option<NeighborId> {
        let news = News { port, address, mac, how };
        self.news = Some(news);
        self.hear(news, now)
    }

    /// What was learnt since the last call, whether it counted here or not: another worker may have asked.
    pub fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// As [`learn`](Self::learn), from another worker.
    pub fn hear(&mut self, News { port, address, mac, how }: News, now: Time) -> Option<NeighborId> {
        self.latest = now;
        let known = self.find(port, address);
        let entry = match (known, how, mac) {
            (Some(entry), ..) => entry,
            (None, Learning::Request { may_create: true }, Some(_)) => self.create(port, address, true)?,
            _ => return None,
        };
        if matches!(self.timers.state(entry), State::Static | State::StaticDue) {
            return None;
        }
        match how {
            Learning::Request { .. } => self.heard(entry, mac?, now),
            Learning::Advertisement { solicited, overrides } => {
                self.advertised(entry, mac, solicited, overrides, now)?;
            }
        }
        self.faces[usize::from(entry)].mac().and_then(|_| self.id(entry))
    }

    /// Does what is due at `now`, one thing a call: call until `None`. Each call takes its share off `budget` and ends, with
    /// work left, when that is used up.
    pub fn advance(&mut self, now: Time, budget: &mut usize) -> Option<NeighborAction<F>> {
        self.latest = now;
        while *budget > 0 {
            *budget -= 1;
            if let Some(entry) = self.giving_back.filter(|&entry| self.timers.state(entry) == State::Failed) {
                let Entry { port, address, ref mut waiting, .. } = self.entries[usize::from(entry)];
                if let Some(frame) = self.frames.pop(waiting) {
                    return Some(NeighborAction::Expired { port, address, frame });
                }
            }
            self.giving_back = None;
            let entry = self.timers.expired(now)?;
            if let Some(action) = self.time_is_up(entry, now) {
                return Some(action);
            }
        }
        None
    }

    /// When [`advance`](Self::advance) has something to do next.
    #[must_use]
    pub fn next_timer(&self) -> Option<Time> {
        if self.giving_back.is_some() { Some(Time(0)) } else { self.timers.next() }
    }

    /// Neighbours in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// No neighbour is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn time_is_up(&mut self, entry: u16, now: Time) -> Option<NeighborAction<F>> {
        let used = self.faces[usize::from(entry)].used.take();
        match self.timers.state(entry) {
            State::Due | State::Asking | State::Probing => return self.question(entry, now),
            State::Heard | State::Confirmed | State::Idle if used => self.ask(entry, now),
            State::Heard | State::Confirmed => self.timers.enter(entry, State::Idle, now),
            State::Idle | State::Failed => self.release(entry),
            State::StaticDue => {
                self.timers.enter(entry, State::Static, now);
                return self.id(entry).map(NeighborAction::Resolved);
            }
            // Time does not change these.
            State::Static | State::Retired | State::Free => {}
        }
        None
    }

    /// Asks once more, or gives up.
    fn question(&mut self, entry: u16, now: Time) -> Option<NeighborAction<F>> {
        let Entry { port, address, questions, .. } = self.entries[usize::from(entry)];
        let known_mac = self.faces[usize::from(entry)].mac().map(Mac::from);
        if questions < MAX_QUESTIONS {
            self.entries[usize::from(entry)].questions += 1;
            let state = if known_mac.is_some() { State::Probing } else { State::Asking };
            self.timers.enter(entry, state, now);
            return Some(NeighborAction::Solicit { port, address, known_mac });
        }
        if known_mac.is_some() {
            // Perhaps it has another Ethernet address now: everybody is asked.
            self.set_mac(entry, None);
            self.ask(entry, now);
        } else {
            self.timers.enter(entry, State::Failed, now);
            self.giving_back = Some(entry);
        }
        None
    }

    /// Has questions asked from now on, at once the first.
    fn ask(&mut self, entry: u16, now: Time) {
        self.entries[usize::from(entry)].questions = 0;
        self.timers.enter(entry, State::Due, now);
    }

    /// A neighbour spoke: a known address stays confirmed, a new one is yet to be (RFC 4861, 7.2.3).
    fn heard(&mut self, entry: u16, mac: Mac, now: Time) {
        if self.faces[usize::from(entry)].mac() != Some(mac.into()) {
            self.set_mac(entry, Some(mac));
            self.timers.enter(entry, State::Heard, now);
        }
    }

    /// RFC 4861, 7.2.5. `None`: the advertisement does not count.
    fn advertised(
        &mut self,
        entry: u16,
        mac: Option<Mac>,
        solicited: bool,
        overrides: bool,
        now: Time,
    ) -> Option<()> {
        let known = self.faces[usize::from(entry)].mac().map(Mac::from);
        let mac = mac.or(known)?;
        let differs = known != Some(mac);
        if known.is_some() && differs && !overrides {
            if self.timers.state(entry) == State::Confirmed {
                self.timers.enter(entry, State::Heard, now);
            }
            return None;
        }
        let asked = matches!(self.timers.state(entry), State::Asking | State::Probing);
        if differs {
            self.set_mac(entry, Some(mac));
        }
        if solicited && asked {
            self.timers.enter(entry, State::Confirmed, now);
        } else if differs {
            self.timers.enter(entry, State::Heard, now);
        }
        Some(())
    }

    fn set_mac(&mut self, entry: u16, mac: Option<Mac>) {
        let id = self.id(entry).map_or(0, |id| id.to_bits().get());
        let face = &mut self.faces[usize::from(entry)];
        match (face.mac(), mac) {
            (None, Some(_)) => self.unresolved -= 1,
            (Some(_), None) => self.unresolved += 1,
            _ => {}
        }
        face.word = mac.unwrap_or_default().into();
        face.reachable = if mac.is_some() { id } else { 0 };
    }

    fn find(&self, port: PortId, address: Addr) -> Option<u16> {
        let same = |&entry: &u16| {
            let entry = &self.entries[usize::from(entry)];
            (entry.port, entry.address) == (port, address)
        };
        self.index.find(hash(self.key, port, address), same).copied()
    }

    /// A new entry, whose state the caller sets. Where its Ethernet address does not come along with it, there is a limit: asking
    /// for stations that do not exist takes at most half the table.
    fn create(&mut self, port: PortId, address: Addr, is_known: bool) -> Option<u16> {
        if !is_known && self.unresolved >= self.max_unresolved {
            let failed = self.timers.first(State::Failed).filter(|&entry| self.may_go(entry))?;
            self.release(failed);
        } else if self.timers.first(State::Free).is_none() {
            let oldest = self.evictable()?;
            self.release(oldest);
        }
        let entry = self.timers.first(State::Free)?;
        self.timers.enter(entry, State::Due, self.latest);
        self.entries[usize::from(entry)] = Entry { port, address, questions: 0, waiting: Queue::EMPTY };
        self.unresolved += 1;
        let Self { index, entries, key, .. } = self;
        index.insert_unique(hash(*key, port, address), entry, |&other| {
            let other = &entries[usize::from(other)];
            hash(*key, other.port, other.address)
        });
        Some(entry)
    }

    /// The entry that is missed least: who did not answer, then the one unused for longest. One that was used since it was
    /// last looked at gets another chance.
    fn evictable(&mut self) -> Option<u16> {
        if let Some(failed) = self.timers.first(State::Failed).filter(|&entry| self.may_go(entry)) {
            return Some(failed);
        }
        let mut chances = MAX_SECOND_CHANCES;
        for state in [State::Heard, State::Idle, State::Confirmed] {
            while let Some(entry) = self.timers.first(state).filter(|_| chances > 0) {
                if self.may_go(entry) && !self.faces[usize::from(entry)].used.get() {
                    return Some(entry);
                }
                chances -= 1;
                self.faces[usize::from(entry)].used.set(false);
                match state {
                    State::Idle => self.ask(entry, self.latest),
                    _ => self.timers.enter(entry, State::Idle, self.latest),
                }
            }
        }
        None
    }

    fn may_go(&self, entry: u16) -> bool {
        self.entries[usize::from(entry)].waiting.is_empty()
    }

    /// Ends an entry's life; identifiers of it name nobody from here on. Frames that still wait are freed.
    fn release(&mut self, entry: u16) {
        let Entry { port, address, ref mut waiting, .. } = self.entries[usize::from(entry)];
        while self.frames.pop(waiting).is_some() {}
        if let Ok(found) = self.index.find_entry(hash(self.key, port, address), |&other| other == entry) {
            found.remove();
        }
        let face = &mut self.faces[usize::from(entry)];
        if face.mac().is_none() {
            self.unresolved -= 1;
        }
        let epoch = if face.epoch == MAX_EPOCH { 1 } else { face.epoch + 1 };
        *face = Face::new(epoch);
        self.timers.enter(entry, State::Free, self.latest);
    }

    fn id(&self, entry: u16) -> Option<NeighborId> {
        NeighborId::new(entry, self.faces[usize::from(entry)].epoch)
    }

    /// The entry, if the identifier is not stale.
    fn current(&self, id: NeighborId) -> Option<u16> {
        self.is_current(id).then(|| id.index())
    }
}

fn hash(key: [u64; 2], port: PortId, address: Addr) -> u64 {
    let bits = address.bits();
    sip13(key, [(bits >> 64) as u64, bits as u64, u64::from(port.0)])
}

#[cfg(test)]
mod tests;
