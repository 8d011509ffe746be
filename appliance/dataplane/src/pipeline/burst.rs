//! A burst through the path, in three passes: parse all and ask for their flow buckets, ask for their flow records, then decide each in
//! order of arrival, so that the memory that one packet needs is on its way while another is worked on.
//!
//! What is decided about a frame, and in which stages, is said in the module above.

use super::mark::{Mark, Origin};
use super::{Observer, Outcome, Pipeline, Transmit};
use crate::addr::Mac;
use crate::counters::Counters;
use crate::flow::FlowHash;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::plain::{self, Plain, Station};
use crate::wire::{self, Parsed};
use arrayvec::ArrayVec;
use pmd_shim::{BURST, Burst, ChecksumStatus, Frame, RxOffload};

/// What the first pass found out about a frame.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) hash: FlowHash,
    /// `None`: the frame is another one, whose parsed form is with those of the others.
    pub(super) plain: Option<Plain>,
}

impl Slot {
    const OTHER: Self = Self { hash: FlowHash::NONE, plain: None };
}

/// Frames that left by the fast lane, not counted yet.
struct Sent {
    from: PortId,
    to: PortId,
    all: u64,
    /// By the port of the last one.
    run: u64,
}

impl Sent {
    fn new(from: PortId) -> Self {
        Self { from, to: from, all: 0, run: 0 }
    }

    #[inline(always)]
    fn add(&mut self, to: PortId, counters: &mut Counters) {
        if to != self.to {
            self.count_run(counters);
            self.to = to;
        }
        self.run += 1;
    }

    fn count_run(&mut self, counters: &mut Counters) {
        self.all += self.run;
        if let Some(counters) = counters.port(self.to) {
            counters.transmitted += core::mem::take(&mut self.run);
        }
    }

    fn count(mut self, counters: &mut Counters) {
        self.count_run(counters);
        if let Some(counters) = counters.port(self.from) {
            counters.received += self.all;
            counters.forwarded += self.all;
        }
    }
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
        let mut slots = [Slot::OTHER; BURST];
        let mut others = ArrayVec::new();
        self.parse(burst, station, &mut slots, &mut others);
        self.prefetch_records(&mut slots[..burst.len()]);
        self.carry_out(now, port, burst, &slots, &others, tx, observer);
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
        let station = Station::new(mac);
        for ((index, frame), slot) in burst.iter().enumerate().zip(slots) {
            if let Some(ahead) = burst.get(index + 4) {
                ahead.prefetch();
            }
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
    fn is_without_fast_lane(&self) -> bool {
        self.is_without_fast_lane
    }

    #[cfg(not(test))]
    #[inline(always)]
    const fn is_without_fast_lane(&self) -> bool {
        false
    }

    /// Second pass: asks for the flow records.
    #[inline(never)]
    fn prefetch_records(&self, slots: &mut [Slot]) {
        for slot in slots {
            self.flows.prefetch_record(&mut slot.hash);
        }
    }

    /// Third pass: decides each frame.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the burst as the passes before left it")]
    fn carry_out<T: Transmit<F>, O: Observer>(
        &mut self,
        now: Time,
        port: PortId,
        burst: &mut Burst<F>,
        slots: &[Slot; BURST],
        others: &ArrayVec<Result<Parsed, DropReason>, BURST>,
        tx: &mut T,
        observer: &mut O,
    ) {
        let lane = self.lane(port, now);
        let mut others = others.iter();
        let mut sent = Sent::new(port);
        let mut frames = burst.drain(..);
        for (index, slot) in slots.iter().enumerate() {
            let Some(mut frame) = frames.next() else { break };
            if let Some(outcome) = self.fast(&mut frame, slot, &lane) {
                if let Verdict::Forward(port) = outcome.verdict {
                    sent.add(port, &mut self.counters);
                    tx.transmit(port, frame);
                }
                observer.decided(index, &outcome);
                continue;
            }
            let mark = Mark { port, origin: Origin::Received };
            if let Some(outcome) = self.through(frame, slot, &mut others, mark, now, tx) {
                observer.decided(index, &outcome);
            }
        }
        sent.count(&mut self.counters);
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
    fn through<'a, T: Transmit<F>>(
        &mut self,
        mut frame: F,
        slot: &Slot,
        others: &mut impl Iterator<Item = &'a Result<Parsed, DropReason>>,
        mark: Mark,
        now: Time,
        tx: &mut T,
    ) -> Option<Outcome> {
        frame.set_mark(mark.to_bits());
        let parsed = match slot.plain {
            Some(plain) => match plain.packet(frame.bytes()) {
                Some(packet) => &Ok(Parsed::Ip(packet)),
                None => &wire::parse(frame.bytes(), frame.offload(), self.facts(mark.port).mac),
            },
            // It is never missing.
            None => others.next().unwrap_or(&Err(DropReason::Malformed)),
        };
        let outcome = self.decide(frame, parsed, slot.hash, mark, now, tx)?;
        self.count(mark.port, outcome.verdict);
        Some(outcome)
    }
}
