//! A burst through the path, in three passes: parse all and ask for their flow buckets, ask for their flow records, then decide each in
//! order of arrival, so that the memory that one packet needs is on its way while another is worked on. Where clients prove
//! themselves, what is without a flow is [looked at](Pipeline::look_for_syns) together before the third.
//!
//! What is decided about a frame, and in which stages, is said in the module above.

use super::mark::{Mark, Origin};
use super::place::Move;
use super::tunnel::wrap;
use super::{Handed, Observer, Outcome, Pipeline, Transmit};
use crate::addr::Mac;
use crate::counters::Counters;
use crate::flow::FlowHash;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::plain::{self, Plain, Station};
use crate::wire::{self, Parsed};
use arrayvec::ArrayVec;
use core::slice;
use pmd_shim::{BURST, Burst, ChecksumStatus, Frame, RxOffload};

/// What the first pass found out about a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) hash: FlowHash,
    /// `None`: the frame is another one, whose parsed form is with those of the others.
    pub(super) plain: Option<Plain>,
}

impl Slot {
    /// Of a frame that is parsed already, or not yet.
    pub(super) const OTHER: Self = Self { hash: FlowHash::NONE, plain: None };
}

/// What the fast lane took of a burst: the frames before the first one that it left.
pub(super) struct Ahead {
    pub(super) count: usize,
    /// By which port each of them leaves.
    pub(super) exits: [PortId; BURST],
}

impl Ahead {
    /// The port by which all leave.
    fn common_exit(&self) -> Option<PortId> {
        let (first, exits) = (self.exits[0], self.exits.get(..self.count)?);
        // All are looked at, which is one comparison for many.
        let differs = exits.iter().fold(0, |bits, exit| bits | (exit.0 ^ first.0));
        (differs == 0).then_some(first)
    }
}

/// Frames that leave by the fast lane: those in a row to one port go together.
pub(super) struct Leaving<F> {
    from: PortId,
    to: PortId,
    frames: Burst<F>,
    /// How many went before these.
    gone: u64,
    /// How many of all are answers.
    replied: u64,
}

impl<F: Frame> Leaving<F> {
    pub(super) fn new(from: PortId) -> Self {
        Self { from, to: from, frames: Burst::new(), gone: 0, replied: 0 }
    }

    #[inline(always)]
    pub(super) fn add<T: Transmit<F>>(&mut self, to: PortId, frame: F, counters: &mut Counters, tx: &mut T) {
        if to != self.to {
            self.go(counters, tx);
            self.to = to;
        }
        // There is room for a whole burst.
        self.frames.push(frame);
    }

    /// Takes the frames that went ahead off a burst.
    pub(super) fn add_ahead<T: Transmit<F>>(
        &mut self,
        frames: &mut arrayvec::Drain<'_, F, BURST>,
        ahead: &Ahead,
        counters: &mut Counters,
        tx: &mut T,
    ) {
        for (exit, frame) in ahead.exits.iter().take(ahead.count).zip(frames) {
            self.add(*exit, frame, counters, tx);
        }
    }

    /// All of a burst went ahead, and leaves: as it is, where all leave by one port.
    pub(super) fn finish<T: Transmit<F>>(
        mut self,
        burst: &mut Burst<F>,
        ahead: &Ahead,
        counters: &mut Counters,
        tx: &mut T,
    ) {
        if let Some(exit) = ahead.common_exit() {
            self.gone += depart(exit, burst, counters, tx);
        } else {
            self.add_ahead(&mut burst.drain(..), ahead, counters, tx);
        }
        self.settle(counters, tx);
    }

    /// An answer leaves where its question came in.
    #[inline(always)]
    pub(super) fn reply<T: Transmit<F>>(&mut self, mut frame: F, counters: &mut Counters, tx: &mut T) {
        frame.set_mark(Mark { port: self.from, origin: Origin::Replied }.to_bits());
        self.replied += 1;
        self.add(self.from, frame, counters, tx);
    }

    /// Those that wait leave.
    #[inline(never)]
    pub(super) fn go<T: Transmit<F>>(&mut self, counters: &mut Counters, tx: &mut T) {
        self.gone += depart(self.to, &mut self.frames, counters, tx);
    }

    /// Frames that are added from now on were received at `from`.
    #[inline(always)]
    pub(super) fn turn_to<T: Transmit<F>>(&mut self, from: PortId, counters: &mut Counters, tx: &mut T) {
        if from != self.from {
            self.settle(counters, tx);
            self.from = from;
        }
    }

    /// All leave, and are counted.
    pub(super) fn settle<T: Transmit<F>>(&mut self, counters: &mut Counters, tx: &mut T) {
        if !self.frames.is_empty() {
            self.go(counters, tx);
        }
        let [gone, replied] = [&mut self.gone, &mut self.replied].map(core::mem::take);
        if let Some(counters) = counters.port(self.from) {
            counters.received += gone;
            counters.forwarded += gone - replied;
            counters.replied += replied;
        }
    }
}

/// Sends frames out of a port, and counts them there; gives their number.
fn depart<F: Frame, T: Transmit<F>>(
    to: PortId,
    frames: &mut Burst<F>,
    counters: &mut Counters,
    tx: &mut T,
) -> u64 {
    let count = frames.len() as u64;
    if let Some(counters) = counters.port(to) {
        counters.transmitted += count;
    }
    tx.transmit_all(to, frames);
    count
}

impl<F: Frame> Pipeline<F> {
    /// Takes a burst through the path; `burst` is empty afterwards.
    pub fn process<T: Transmit<F>, O: Observer>(
        &mut self,
        now: Time,
        port: PortId,
        burst: &mut Burst<F>,
        tx: &mut T,
        observer: &mut O,
    ) {
        let Some(station) = self.snapshot.ports.get(port.index()).map(|facts| facts.mac) else {
            burst.clear();
            return;
        };
        self.proxy.cookies.keep_up(now);
        self.now = now;
        if self.snapshot.tunnels.are_at(port) {
            return self.process_tunnelled(now, port, burst, tx, observer);
        }
        let mut slots = [Slot::OTHER; BURST];
        let mut others = ArrayVec::new();
        self.syns.lacked_as_of = self.counters.flows_created;
        self.parse(burst, station, &mut slots, &mut others);
        self.prefetch_records(&mut slots[..burst.len()]);
        let mark = Mark { port, origin: Origin::Received };
        self.carry_out(now, mark, burst, &slots, &mut others.iter(), tx, observer);
    }

    /// Takes frames that other workers [handed over](Transmit::hand_over); `handed` is empty afterwards.
    pub fn accept<T: Transmit<F>>(&mut self, now: Time, handed: &mut Burst<Handed<F>>, tx: &mut T) {
        let Some(&Handed { mark: mut common, .. }) = handed.first() else { return };
        self.now = now;
        self.proxy.cookies.keep_up(now);
        for Handed { frame, slot, .. } in handed.iter() {
            frame.prefetch_header();
            self.flows.prefetch_index(slot.hash);
        }
        let mut others = ArrayVec::new();
        self.syns.lacked_as_of = self.counters.flows_created;
        for Handed { frame, slot, mark } in handed.iter_mut() {
            // What the fast lane needs in front of what came by a tunnel; it had as much when it came.
            if slot.plain.is_some() && (!mark.port.is_tunnel() || wrap(frame)) {
                frame.prefetch();
            } else {
                slot.plain = None;
                self.other(frame, self.station(frame, mark.port), slot, &mut others);
            }
            if self.flows.prefetch_record(&mut slot.hash) {
                self.flows.prefetch_elsewhere(&mut slot.hash);
            }
        }
        let mut others = others.iter();
        // Frames that came in alike go on together.
        let mut burst = Burst::new();
        let mut slots = [Slot::OTHER; BURST];
        for Handed { frame, slot, mark } in handed.drain(..) {
            if mark != common {
                self.carry_on(now, common, &mut burst, &slots, &mut others, tx);
                common = mark;
            }
            slots[burst.len()] = slot;
            burst.push(frame);
        }
        self.carry_on(now, common, &mut burst, &slots, &mut others, tx);
    }

    /// Decides frames of other workers that came in alike.
    fn carry_on<T: Transmit<F>>(
        &mut self,
        now: Time,
        mark: Mark,
        burst: &mut Burst<F>,
        slots: &[Slot; BURST],
        others: &mut slice::Iter<'_, Result<Parsed, DropReason>>,
        tx: &mut T,
    ) {
        if mark.port.is_tunnel() {
            let ports = [mark.port; BURST];
            let from = Mark { port: self.snapshot.tunnels.carrier(mark.port), ..mark };
            self.carry_out_tunnelled(now, from, burst, (slots, &ports), others, tx);
        } else {
            self.carry_out(now, mark, burst, slots, others, tx, &mut ());
        }
    }

    /// First pass: parses, and asks for the flow buckets. Each pass has the registers to itself.
    #[inline(never)]
    fn parse(
        &self,
        burst: &Burst<F>,
        mac: Mac,
        slots: &mut [Slot; BURST],
        others: &mut ArrayVec<Result<Parsed, DropReason>, BURST>,
    ) {
        let station = &Station::new(mac);
        for (frame, slot) in burst.iter().zip(slots) {
            let (bytes, RxOffload { checksum, vlan, truncated }) = (frame.bytes(), frame.offload());
            let verify = checksum == ChecksumStatus::Unverified;
            if vlan.is_some() || truncated || self.is_without_fast_lane() {
                self.other(frame, mac, slot, others);
            } else if let Some((plain, key)) = plain::v4(bytes, station, verify) {
                slot.hash = self.flows.hash_v4(&key);
                slot.plain = Some(plain);
                self.flows.prefetch_index(slot.hash);
            } else if let Some((plain, key)) = plain::v6(bytes, station, verify) {
                slot.hash = self.flows.hash_v6(&key);
                slot.plain = Some(plain);
                self.flows.prefetch_index(slot.hash);
            } else {
                self.other(frame, mac, slot, others);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_without_fast_lane(&self) -> bool {
        self.is_without_fast_lane
    }

    #[cfg(not(test))]
    #[inline(always)]
    pub(super) const fn is_without_fast_lane(&self) -> bool {
        false
    }

    /// Second pass: asks for the flow records.
    #[inline(never)]
    pub(super) fn prefetch_records(&self, slots: &mut [Slot]) {
        let mut are_any_elsewhere = false;
        for slot in &mut *slots {
            if self.flows.prefetch_record(&mut slot.hash) {
                are_any_elsewhere = true;
            }
        }
        if are_any_elsewhere {
            slots.iter_mut().for_each(|slot| self.flows.prefetch_elsewhere(&mut slot.hash));
        }
    }

    /// Third pass: decides each frame.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the burst as the passes before left it")]
    fn carry_out<T: Transmit<F>, O: Observer>(
        &mut self,
        now: Time,
        mark: Mark,
        burst: &mut Burst<F>,
        slots: &[Slot; BURST],
        others: &mut slice::Iter<'_, Result<Parsed, DropReason>>,
        tx: &mut T,
        observer: &mut O,
    ) {
        let lane = self.lane(mark.port, now);
        let ahead = self.fast_ahead(burst, slots, &lane);
        self.report(slots, &ahead, observer);
        let mut leaving = Leaving::new(mark.port);
        if ahead.count == burst.len() {
            return leaving.finish(burst, &ahead, &mut self.counters, tx);
        }
        // Into a segment answers go through the stages.
        let is_segment = self.snapshot.tunnels.segment(mark.port).is_some();
        let syns = if is_segment { 0 } else { self.look_for_syns(burst, slots, now) };
        let has_syns = syns > 0;
        let are_any_lacked =
            syns < burst.len() && slots.iter().take(burst.len()).any(|slot| slot.hash.was_lacked());
        let has_firsts = are_any_lacked && !is_segment && self.look_for_firsts(burst, slots, &lane, has_syns);
        let mut frames = burst.drain(..);
        leaving.add_ahead(&mut frames, &ahead, &mut self.counters, tx);
        for (index, slot) in slots.iter().enumerate().skip(ahead.count) {
            let Some(mut frame) = frames.next() else { break };
            if let Some(port) = self.fast(&mut frame, slot, &lane) {
                leaving.add(port, frame, &mut self.counters, tx);
                observer.decided(index, &self.outcome(slot, port));
                continue;
            }
            let outcome = match self.at_once_elsewhere(&frame, slot, mark) {
                Some(to) => self.pass_on(frame, slot, mark, to, tx),
                None => {
                    if has_syns && let Some(outcome) = self.syn(&mut frame, (index, slot), &lane, now) {
                        match outcome.verdict {
                            Verdict::Reply(_) => leaving.reply(frame, &mut self.counters, tx),
                            verdict => self.count(mark.port, verdict),
                        }
                        observer.decided(index, &outcome);
                        continue;
                    }
                    if has_firsts && let Some(outcome) = self.first(&mut frame, (index, slot), &lane) {
                        match outcome.verdict {
                            Verdict::Forward(to) => leaving.add(to, frame, &mut self.counters, tx),
                            verdict => self.count(mark.port, verdict),
                        }
                        observer.decided(index, &outcome);
                        continue;
                    }
                    // What came before leaves before.
                    if !leaving.frames.is_empty() {
                        leaving.go(&mut self.counters, tx);
                    }
                    self.through(frame, slot, others, mark, now, tx)
                }
            };
            if let Some(outcome) = outcome {
                observer.decided(index, &outcome);
            }
        }
        leaving.settle(&mut self.counters, tx);
    }

    /// Tells what became of the frames that went ahead.
    #[inline(always)]
    pub(super) fn report<O: Observer>(&self, slots: &[Slot; BURST], ahead: &Ahead, observer: &mut O) {
        for (index, (slot, exit)) in slots.iter().zip(&ahead.exits).enumerate().take(ahead.count) {
            observer.decided(index, &self.outcome(slot, *exit));
        }
    }

    /// Gives a frame to another worker; `None` when that one goes on with it.
    pub(super) fn pass_on<T: Transmit<F>>(
        &mut self,
        frame: F,
        slot: &Slot,
        mark: Mark,
        to: Move,
        tx: &mut T,
    ) -> Option<Outcome> {
        let verdict = to.carry_out(frame, mark.port, slot, tx)?;
        self.count(mark.port, verdict);
        Some(Outcome { verdict, rule: None, backend: None })
    }

    #[inline(never)]
    fn other(
        &self,
        frame: &F,
        mac: Mac,
        slot: &mut Slot,
        others: &mut ArrayVec<Result<Parsed, DropReason>, BURST>,
    ) {
        let parsed = wire::parse(frame.bytes(), frame.offload(), mac);
        if let Ok(Parsed::Ip(packet)) = &parsed {
            slot.hash = self.flows.hash(&packet.key);
            self.flows.prefetch_index(slot.hash);
        }
        others.push(parsed);
    }

    /// Takes a frame that the fast lane left through the stages; `None` when another worker goes on with it.
    #[inline(never)]
    pub(super) fn through<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        slot: &Slot,
        others: &mut slice::Iter<'_, Result<Parsed, DropReason>>,
        mark: Mark,
        now: Time,
        tx: &mut T,
    ) -> Option<Outcome> {
        frame.set_mark(mark.to_bits());
        let parsed = match slot.plain {
            Some(plain) => match plain.packet(frame.bytes()) {
                Some(packet) => &Ok(Parsed::Ip(packet)),
                None => &wire::parse(frame.bytes(), frame.offload(), self.station(&frame, mark.port)),
            },
            // It is never missing.
            None => others.next().unwrap_or(&Err(DropReason::Malformed)),
        };
        let outcome = self.decide(frame, parsed, slot, mark, now, tx)?;
        self.count(mark.port, outcome.verdict);
        Some(outcome)
    }
}
