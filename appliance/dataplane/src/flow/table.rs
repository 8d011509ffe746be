//! The flow table of one worker.

use super::hash::{FlowHash, LACKED, NO_GUESS, Secret};
use super::index::{Hints, Index};
use super::record::{Cold, Flow, FlowId, FlowView, NewFlow, Side};
use super::tcp::TcpEvent;
use super::timeout::{TICKS_PER_SECOND, Timeouts, tick_at, tick_from, time_of};
use super::timer::{self, Wheel};
use crate::intrinsics::prefetch;
use crate::synproxy::Splice;
use crate::time::Time;
use crate::verdict::{BackendId, DropReason, RuleId};
use crate::wire::{FlowKey, Tcp};
use arrayvec::ArrayVec;
use pmd_shim::hugepages;

/// Why a flow was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The table is full. Flows that live are never pushed out.
    Full,
    /// One of the two keys belongs to another flow already, or both are the same.
    Taken,
}

/// End of the list of vacant records.
const NONE: u32 = u32::MAX;

/// Flows that end together.
const TOGETHER: usize = 32;

/// The flows of one worker: found by the key of either direction, ended by timeouts.
///
/// All memory is taken and touched by [`new`](Self::new), and never grows: [`bytes_per_flow`](Self::bytes_per_flow). A record
/// never moves while its flow lives.
///
/// Deadlines count in ticks of 10 ms from the first tick that does not begin before the packet. A flow never ends early; it ends in the
/// first [`expire`](Self::expire) whose time is in the tick of its deadline or later, unless the budget of that call runs out before.
pub struct FlowTable {
    pub(super) secret: Secret,
    index: Index,
    pub(super) flows: Box<[Flow]>,
    pub(super) cold: Box<[Cold]>,
    /// Of spliced flows.
    pub(super) splices: Box<[Splice]>,
    wheel: Wheel,
    pub(super) timeouts: Timeouts,
    vacant: u32,
    len: usize,
    refused: u64,
}

/// A record's index and the side whose key led to it.
#[inline(always)]
fn reference(index: u32, side: Side) -> u32 {
    index << 1 | side as u32
}

#[inline(always)]
pub(super) fn referee(reference: u32) -> (u32, Side) {
    (reference >> 1, if reference & 1 == 0 { Side::Initiator } else { Side::Responder })
}

impl FlowTable {
    /// An empty table for `capacity` flows (from 1 to 2^30). The seed must be random, as it keeps senders from choosing addresses and
    /// ports that collide.
    pub fn new(capacity: usize, seed: [u8; 16], timeouts: Timeouts, now: Time) -> Self {
        let capacity = capacity.clamp(1, timer::MAX_FLOWS);
        let mut cold = vec![Cold::VACANT; capacity].into_boxed_slice();
        for (next, cold) in (1..).zip(&mut cold) {
            cold.next_vacant = if next == capacity as u32 { NONE } else { next };
        }
        let mut flows = vec![Flow::VACANT; capacity].into_boxed_slice();
        hugepages::back(&mut flows);
        Self {
            secret: Secret::new(seed),
            index: Index::new(2 * capacity),
            flows,
            cold,
            splices: vec![Splice::default(); capacity].into_boxed_slice(),
            wheel: Wheel::new(capacity, tick_at(now)),
            timeouts,
            vacant: 0,
            len: 0,
            refused: 0,
        }
    }

    /// Flows that live.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No flow lives.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Flows there is room for.
    pub fn capacity(&self) -> usize {
        self.flows.len()
    }

    /// Inserts refused with [`InsertError::Full`] since the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// All memory of the table over its capacity, in bytes, rounded up: at most 200 from 1 000 flows on.
    pub fn bytes_per_flow(&self) -> usize {
        let memory = size_of::<Self>()
            + self.index.memory()
            + size_of_val(&*self.flows)
            + size_of_val(&*self.cold)
            + size_of_val(&*self.splices)
            + self.wheel.memory();
        memory.div_ceil(self.capacity())
    }

    /// Uses other timeouts from now on: each flow from its next packet.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// The key's hash.
    #[inline(always)]
    pub fn hash(&self, key: &FlowKey) -> FlowHash {
        self.secret.hash(key)
    }

    /// First step of a burst's look-ups: asks for the hash's bucket.
    #[inline]
    pub fn prefetch_index(&self, hash: FlowHash) {
        self.index.prefetch(hash);
    }

    /// Second step of a burst's look-ups: reads the bucket, asks for the records that may be meant, and notes one of them for
    /// [`find`](Self::find). `true`: it may be known [elsewhere](Self::prefetch_elsewhere) only, of which nothing is noted.
    #[inline(always)]
    pub fn prefetch_record(&self, hash: &mut FlowHash) -> bool {
        let mut guess = NO_GUESS;
        match self.index.hints(*hash, |reference| guess = self.hinted(reference)) {
            Hints::Some => hash.guess = guess,
            Hints::None => hash.guess = LACKED,
            Hints::Elsewhere => {
                hash.guess = NO_GUESS;
                return true;
            }
        }
        false
    }

    /// Third step, where the second one said so of some: for those without a note, does what that does with the other bucket.
    #[inline(always)]
    pub fn prefetch_elsewhere(&self, hash: &mut FlowHash) {
        if hash.guess == NO_GUESS {
            self.prefetch_from_second(hash);
        }
    }

    #[cold]
    #[inline(never)]
    fn prefetch_from_second(&self, hash: &mut FlowHash) {
        let mut guess = NO_GUESS;
        let are_any = self.index.second_hints(*hash, |reference| guess = self.hinted(reference));
        hash.guess = if are_any { guess } else { LACKED };
    }

    /// Asks for the record that a reference leads to.
    #[inline(always)]
    fn hinted(&self, reference: u32) -> u32 {
        prefetch(&self.flows, referee(reference).0 as usize);
        reference
    }

    /// There is surely no flow for a packet of this hash. `false`: there may be one.
    #[inline]
    pub fn lacks(&self, hash: FlowHash) -> bool {
        self.index.lacks(hash)
    }

    /// The flow of a packet, and who sent it. `hash` is the key's [`hash`](Self::hash), whether the steps before were taken or not.
    #[inline(always)]
    pub fn find(&self, key: &FlowKey, hash: FlowHash) -> Option<(FlowId, Side)> {
        let (index, side) = referee(hash.guess);
        // A live flow is in the index under both its keys, so that this is what the search would find.
        match self.flows.get(index as usize) {
            Some(flow) if flow.has_key(side, key) => Some((FlowId { index, epoch: flow.epoch }, side)),
            _ => self.search(key, hash),
        }
    }

    #[inline(never)]
    fn search(&self, key: &FlowKey, hash: FlowHash) -> Option<(FlowId, Side)> {
        let found = self.index.find(hash, |candidate| {
            let (index, side) = referee(candidate);
            self.flows[index as usize].has_key(side, key)
        })?;
        let (index, side) = referee(found);
        Some((FlowId { index, epoch: self.flows[index as usize].epoch }, side))
    }

    /// Makes a flow. No packet is counted for it yet.
    ///
    /// # Errors
    /// [`InsertError`]; nothing is changed then.
    pub fn insert(&mut self, new: NewFlow, now: Time) -> Result<FlowId, InsertError> {
        let hashes = [self.hash(&new.key), self.hash(&new.answer())];
        self.insert_hashed(&new, hashes, now)
    }

    /// The same, with the hashes of its first packet's key and of the answers'.
    ///
    /// # Errors
    /// As there.
    #[inline(never)]
    pub fn insert_hashed(
        &mut self,
        new: &NewFlow,
        hashes: [FlowHash; 2],
        now: Time,
    ) -> Result<FlowId, InsertError> {
        let [one, other] = hashes;
        let may_be_taken = one.is_like(other) || !self.lacks(one) || !self.lacks(other);
        if may_be_taken && self.is_taken(new, hashes) {
            return Err(InsertError::Taken);
        }
        let index = self.vacant;
        if index == NONE {
            self.refused += 1;
            return Err(InsertError::Full);
        }
        let flow = &mut self.flows[index as usize];
        *flow = Flow::new(new, flow.epoch);
        if self.link(index, hashes).is_err() {
            self.flows[index as usize].end();
            self.refused += 1;
            return Err(InsertError::Full);
        }
        self.vacant = core::mem::replace(&mut self.cold[index as usize], Cold::new(new, now)).next_vacant;
        self.len += 1;
        let deadline = self.deadline(index, now);
        let flow = &mut self.flows[index as usize];
        flow.deadline = deadline;
        self.wheel.insert(index, deadline);
        Ok(FlowId { index, epoch: flow.epoch })
    }

    /// One of the keys is another flow's, or both are the same.
    #[inline(never)]
    fn is_taken(&self, new: &NewFlow, hashes: [FlowHash; 2]) -> bool {
        let (answer, [one, other]) = (new.answer(), hashes);
        new.key == answer || self.search(&new.key, one).is_some() || self.search(&answer, other).is_some()
    }

    /// Asks for the memory that the next flow takes.
    #[inline(always)]
    pub fn prefetch_vacant(&self) {
        let index = self.vacant as usize;
        prefetch(&self.flows, index);
        prefetch(&self.cold, index);
    }

    /// Puts both keys into the index, or neither.
    #[inline(always)]
    fn link(
        &mut self,
        index: u32,
        [initiator, responder]: [FlowHash; 2],
    ) -> Result<(), super::index::IndexFull> {
        let (flows, secret) = (&self.flows, &self.secret);
        let rehash = |candidate| {
            let (index, side) = referee(candidate);
            flows[index as usize].hash(side, secret)
        };
        self.index.insert(initiator, reference(index, Side::Initiator), rehash)?;
        self.index
            .insert(responder, reference(index, Side::Responder), rehash)
            .inspect_err(|_| self.index.remove(initiator, reference(index, Side::Initiator)))
    }

    /// The flow still lives.
    #[inline]
    pub fn is_live(&self, id: FlowId) -> bool {
        self.flows.get(id.index as usize).is_some_and(|flow| flow.is_live() && flow.epoch == id.epoch)
    }

    /// The flow. `id` must be of this table; of a flow that was removed, what is there now is returned.
    #[inline]
    pub fn flow(&self, id: FlowId) -> &Flow {
        debug_assert!(self.is_live(id), "the flow was removed");
        &self.flows[id.index as usize]
    }

    /// The flow, to be changed. As for [`flow`](Self::flow).
    #[inline]
    pub fn flow_mut(&mut self, id: FlowId) -> &mut Flow {
        debug_assert!(self.is_live(id), "the flow was removed");
        &mut self.flows[id.index as usize]
    }

    /// The whole flow, to be read. As for [`flow`](Self::flow).
    pub fn view(&self, id: FlowId) -> FlowView<'_> {
        self.view_at(id.index)
    }

    fn view_at(&self, index: u32) -> FlowView<'_> {
        let index = index as usize;
        FlowView { flow: &self.flows[index], cold: &self.cold[index], splice: &self.splices[index] }
    }

    /// Of a spliced flow: what stands between its two connections. As for [`flow`](Self::flow).
    #[inline]
    pub fn splice(&self, id: FlowId) -> &Splice {
        &self.splices[id.index as usize]
    }

    /// The same, to be changed.
    #[inline]
    pub fn splice_mut(&mut self, id: FlowId) -> &mut Splice {
        &mut self.splices[id.index as usize]
    }

    /// What was decided for the flow: the rule that allowed it, and its backend.
    #[inline]
    pub fn decided_by(&self, id: FlowId) -> (Option<RuleId>, Option<BackendId>) {
        let flow = self.flow(id);
        (flow.rule(), flow.backend())
    }

    /// When the flow ends if no packet comes.
    pub fn expires(&self, id: FlowId) -> Time {
        time_of(self.wheel.absolute(self.flow(id).deadline))
    }

    /// Holds a TCP segment of `side` against the flow's state, which moves on when it fits: [`TcpState::segment`].
    ///
    /// # Errors
    /// [`DropReason::InvalidState`]; nothing is changed then.
    ///
    /// [`TcpState::segment`]: super::tcp::TcpState::segment
    #[inline(always)]
    pub fn segment(
        &mut self,
        id: FlowId,
        side: Side,
        tcp: &Tcp,
        payload_len: usize,
    ) -> Result<TcpEvent, DropReason> {
        self.flow_mut(id).tcp.segment(side, tcp, payload_len)
    }

    /// Counts a packet of `side`, `bytes` long with its IP header, and moves the flow's deadline.
    #[inline(always)]
    pub fn account(&mut self, id: FlowId, side: Side, bytes: usize, now: Time) {
        self.tally(id, side, bytes);
        self.keep(id, now);
    }

    /// Counts the packet alone.
    #[inline(always)]
    pub fn tally(&mut self, id: FlowId, side: Side, bytes: usize) {
        let (packets, bytes) = self.flow_mut(id).tallies[side.index()].add(bytes as u32);
        if packets | bytes {
            self.cold[id.index as usize].carry(side, packets, bytes);
        }
    }

    /// Moves the flow's deadline, as a packet that comes now does.
    #[inline(always)]
    pub fn keep(&mut self, id: FlowId, now: Time) {
        let deadline = self.deadline(id.index, now);
        let flow = &mut self.flows[id.index as usize];
        let before = core::mem::replace(&mut flow.deadline, deadline);
        if (deadline.wrapping_sub(before) as i32) < 0 {
            self.advance_deadline(id.index, deadline);
        }
    }

    /// The wheel finds a flow late only when its deadline became earlier: when a connection begins to close.
    #[cold]
    pub(super) fn advance_deadline(&mut self, index: u32, deadline: u32) {
        self.wheel.remove(index);
        self.wheel.insert(index, deadline);
    }

    #[inline(always)]
    fn deadline(&self, index: u32, now: Time) -> u32 {
        let flow = &self.flows[index as usize];
        let class = flow.class();
        let ticks = match flow.own_timeout_s(class) {
            Some(seconds) => u32::from(seconds) * TICKS_PER_SECOND,
            None => self.timeouts.ticks(class),
        };
        (tick_from(now) as u32).wrapping_add(ticks)
    }

    /// Removes a flow. `false`: it was removed before.
    pub fn remove(&mut self, id: FlowId) -> bool {
        let live = self.is_live(id);
        if live {
            self.wheel.remove(id.index);
            self.vacate(id.index, self.hashes(id.index));
        }
        live
    }

    /// Removes a flow that is in no list of the wheel. The hashes are of its keys, by side.
    fn vacate(&mut self, index: u32, hashes: [FlowHash; 2]) {
        for (side, hash) in [Side::Initiator, Side::Responder].into_iter().zip(hashes) {
            self.index.remove(hash, reference(index, side));
        }
        let flow = &mut self.flows[index as usize];
        flow.end();
        flow.epoch = flow.epoch.wrapping_add(1);
        self.cold[index as usize].next_vacant = core::mem::replace(&mut self.vacant, index);
        self.len -= 1;
    }

    /// Of a flow's keys, by side.
    fn hashes(&self, index: u32) -> [FlowHash; 2] {
        [Side::Initiator, Side::Responder].map(|side| self.flows[index as usize].hash(side, &self.secret))
    }

    /// Ends flows whose time is over; each is given to `ended` and then removed. Each flow looked at takes one from `budget`, also
    /// one that lives on; when it is used up, the next call goes on from there. Returns how many ended.
    ///
    /// Their memory is asked for together, as that of a burst's look-ups.
    pub fn expire(&mut self, now: Time, budget: &mut usize, mut ended: impl FnMut(FlowView<'_>)) -> usize {
        let mut count = 0;
        loop {
            let mut over: ArrayVec<u32, TOGETHER> = ArrayVec::new();
            let Self { wheel, flows, .. } = self;
            wheel.take(tick_at(now), budget, &mut over, |flow| prefetch(flows, flow as usize));
            if over.is_empty() {
                return count;
            }
            over.retain(|flow| {
                let deadline = self.flows[*flow as usize].deadline;
                let is_over = self.wheel.is_over(deadline);
                if !is_over {
                    self.wheel.insert(*flow, deadline);
                }
                is_over
            });
            let hashes: ArrayVec<[FlowHash; 2], TOGETHER> =
                over.iter().map(|flow| self.hashes(*flow)).collect();
            for (flow, hashes) in over.iter().zip(&hashes) {
                prefetch(&self.cold, *flow as usize);
                hashes.iter().for_each(|hash| self.index.prefetch(*hash));
            }
            for (flow, hashes) in over.iter().zip(&hashes) {
                ended(self.view_at(*flow));
                self.vacate(*flow, *hashes);
            }
            count += over.len();
        }
    }

    /// No flow ends before this time. `None`: there is no flow. [`expire`](Self::expire) at this time may end none and learn a later one.
    pub fn next_expiry(&self) -> Option<Time> {
        self.wheel.next_event().map(time_of)
    }

    /// The flows among the `budget` records from `cursor` on, and the cursor to go on from; `None` at the end. Start with 0. Flows that
    /// come and go in between may be missed or, under another identity, seen.
    pub fn slice(
        &self,
        cursor: usize,
        budget: usize,
    ) -> (impl Iterator<Item = (FlowId, FlowView<'_>)>, Option<usize>) {
        let start = cursor.min(self.capacity());
        let end = start.saturating_add(budget.max(1)).min(self.capacity());
        let live = (start..end).filter(|index| self.flows[*index].is_live()).map(|index| index as u32);
        let named = live.map(|index| {
            let view = self.view_at(index);
            (FlowId { index, epoch: view.flow.epoch }, view)
        });
        (named, (end < self.capacity()).then_some(end))
    }
}

#[cfg(test)]
mod tests;
