//! The lane of floods: SYNs to a frontend whose clients prove themselves, and segments that prove nothing there.
//!
//! Such a packet has no flow and leaves none, so that all there is to it is what the stages would say of its source, its frontend and
//! its backend. A burst is looked at twice. At first where all this stands is found out and asked for, and the hashes of all its cookies
//! are computed together. Then, in the order of arrival, it is read, most of it out of what is remembered of the packets before, and
//! each packet is counted and limited as in the stages, and answered. One that is not known to end here goes through the stages as
//! if it had never been here.

use super::burst::Slot;
use super::fast::{Exit, Lane};
use super::fields::{is_well_formed, key, key_v4, key_v6, options, options_of_linux, source};
use super::syn_answer::{Question, answer};
use super::{Outcome, Pipeline};
use crate::addr::Family;
use crate::emit::NotWritten;
use crate::host::Local;
use crate::lb::Asking;
use crate::policy::{Context, Decision, Policy};
use crate::snapshot::Snapshot;
use crate::sources::{SourceId, Sources};
use crate::synproxy::{Batch, Cookies, Floods, Place, Proxy, Reflection, SynOptions, cookie};
use crate::time::Time;
use crate::verdict::{BackendId, DropReason, PortId, Verdict};
use crate::wire::plain::{self, Kind, L3, L4_OVER_V4, L4_OVER_V6, Plain};
use crate::wire::{FlowKey, TCP_HEADER_LEN, TcpFlags};
use nva_config::{Access, SynProxyMode};
use pmd_shim::{BURST, Burst, Frame};

/// Destinations that are remembered.
const GATES: usize = 64;
/// Decisions of security groups that are remembered.
const JUDGED: usize = 1024;
/// Spreads places over both (2^64 by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is read of a packet at once: as far as the fixed part of its TCP header.
const V4: usize = L4_OVER_V4 + TCP_HEADER_LEN;
const V6: usize = L4_OVER_V6 + TCP_HEADER_LEN;

/// What the lane remembers, under one configuration.
pub(super) struct SynLane {
    gates: Box<[Gate; GATES]>,
    judged: Box<[Judged; JUDGED]>,
    /// The groups' decisions depend on source ports too, so that none is remembered.
    is_judged_by_port: bool,
    batch: Batch,
    /// How many flows had been made when the burst's buckets were read.
    pub(super) lacked_as_of: u64,
    /// By the frame's place in the burst.
    candidates: Box<[Candidate; BURST]>,
    /// How often what ended how.
    #[cfg(test)]
    pub(super) ended: std::collections::BTreeMap<String, u64>,
}

/// What the first look at a packet found: where its answer is to be read, which is on its way from there.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    what: What,
    /// Where its hash is.
    hash: u8,
    source: SourceId,
    /// Of a SYN: what listens there, what its backend is chosen by, and where answers to its source are counted.
    asking: Asking,
    slot: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// It is for the stages.
    Other,
    Syn,
    /// A segment that may show a cookie.
    Shown,
}

/// A destination, and what listens there.
#[derive(Clone, Copy, Debug)]
struct Gate {
    /// The address in words as they stand in a packet, and the port.
    at: [u64; 3],
    asking: Asking,
}

/// What the groups say of packets from a range of sources to a port of a backend.
#[derive(Clone, Copy, Debug)]
struct Judged {
    source: SourceId,
    backend: BackendId,
    /// Beyond all ports: of nothing.
    port: u32,
    decision: Decision,
}

/// What does not change from one packet of a burst to the next.
struct Known<'a> {
    snapshot: &'a Snapshot,
    sources: &'a Sources,
    cookies: &'a Cookies,
    reflection: &'a Reflection,
    floods: &'a Floods,
    now: Time,
}

const OTHER: Candidate = Candidate {
    what: What::Other,
    hash: 0,
    source: SourceId(0),
    asking: Asking::NOBODY,
    slot: 0,
    place: Place::NONE,
};
/// Nothing is sent to port 0.
const NO_GATE: Gate = Gate { at: [0; 3], asking: Asking::NOBODY };
const NOT_JUDGED: Judged = Judged {
    source: SourceId(0),
    backend: BackendId(0),
    port: u32::MAX,
    decision: Decision { access: Access::Deny, rule: None },
};

/// It ends so before its backend and its rule are asked for.
#[inline(always)]
fn dropped(reason: DropReason) -> Outcome {
    Outcome { verdict: Verdict::Drop(reason), rule: None, backend: None }
}

impl SynLane {
    pub(super) fn new() -> Self {
        Self {
            gates: Box::new([NO_GATE; GATES]),
            judged: Box::new([NOT_JUDGED; JUDGED]),
            is_judged_by_port: false,
            batch: Batch::default(),
            lacked_as_of: 0,
            candidates: Box::new([OTHER; BURST]),
            #[cfg(test)]
            ended: std::collections::BTreeMap::new(),
        }
    }

    /// Forgets what was true under another configuration. One by which nobody proves anything asks for nothing to be remembered.
    pub(super) fn adopt(&mut self, snapshot: &Snapshot) {
        if snapshot.sources.is_some() {
            self.gates.fill(NO_GATE);
            self.judged.fill(NOT_JUDGED);
            self.is_judged_by_port = snapshot.policy.compares_source_ports();
        }
    }

    /// The packet at this place of the burst that was looked at last is for the lane.
    #[inline(always)]
    pub(super) fn takes(&self, place: usize) -> bool {
        self.candidates[place % BURST].what != What::Other
    }

    /// The first look at a plain TCP packet that ends at `end`. `false`: it is for the stages.
    #[inline(always)]
    fn look<const V6: bool, const N: usize>(
        &mut self,
        place: usize,
        (bytes, end): (&[u8], u16),
        known: &Known<'_>,
    ) -> bool {
        let Some((head, rest)) = bytes.split_first_chunk::<N>() else { return false };
        let l4 = N - TCP_HEADER_LEN;
        let flags = TcpFlags(head[l4 + 13]);
        let is_syn = flags.is_initial_syn();
        if !is_syn && flags.0 & (TcpFlags::ACK | TcpFlags::SYN | TcpFlags::RST) != TcpFlags::ACK {
            return false;
        }
        let ports = plain::half_word(head, l4);
        let Self { gates, batch, candidates, .. } = self;
        let asking = asking::<V6, N>(gates, head, known.snapshot);
        if asking.mode == SynProxyMode::Off {
            return false;
        }
        if ports as u16 == 0 || ports >> 16 == 0 {
            return false;
        }
        // What is flooded now stays so for this burst.
        if asking.mode == SynProxyMode::Auto && !known.is_due::<V6, N>(head, is_syn) {
            return false;
        }
        let candidate = &mut candidates[place % BURST];
        candidate.source = match V6 {
            true => known.sources.of_v6(source::<V6, N>(head)),
            false => known.sources.of_v4(plain::half_word(head, L3 + 12).swap_bytes()),
        };
        let seq = plain::half_word(head, l4 + 4).swap_bytes();
        if !is_syn {
            if !is_well_formed::<N>(head, rest, end) {
                return false;
            }
            let numbers = (seq, plain::half_word(head, l4 + 8).swap_bytes().wrapping_sub(1));
            candidate.hash = match V6 {
                true => batch.add_shown_v6(known.cookies, &key_v6(head), numbers),
                false => batch.add_shown_v4(known.cookies, &key_v4(head), numbers),
            };
            candidate.what = What::Shown;
        } else {
            let key = key::<V6, true, N>(head);
            candidate.asking = *asking;
            candidate.slot = known.snapshot.balancer.slot_for(asking, &key);
            candidate.place = known.reflection.place(key.src);
            known.reflection.prefetch(candidate.place);
            candidate.hash = match V6 {
                true => batch.add_syn_v6(known.cookies, &key_v6(head), seq),
                false => batch.add_syn_v4(known.cookies, &key_v4(head), seq),
            };
            candidate.what = What::Syn;
        }
        true
    }

    /// Looks at the packets of one family, each of which has the registers to itself. How many are for the lane, and whether any may be of the
    /// other family.
    #[inline(never)]
    fn look_at_all<F: Frame, const V6: bool, const N: usize>(
        &mut self,
        burst: &Burst<F>,
        slots: &[Slot; BURST],
        known: &Known<'_>,
    ) -> (usize, bool) {
        let (mut count, mut are_others) = (0, false);
        for (place, (frame, slot)) in burst.iter().zip(slots).enumerate() {
            let Some(Plain { kind: kind @ (Kind::TcpV4 | Kind::TcpV6), end }) = slot.plain else { continue };
            if !slot.hash.is_without_guess() {
                continue;
            }
            if (kind == Kind::TcpV6) != V6 {
                are_others = true;
                continue;
            }
            if self.look::<V6, N>(place, (frame.bytes(), end), known) {
                count += 1;
                // Of a flood, those that come next are candidates too.
                burst.get(place + 2).into_iter().for_each(Frame::prefetch);
            }
        }
        (count, are_others)
    }
}

impl Known<'_> {
    /// Whether clients of a frontend that asks while it is flooded are asked now.
    #[inline(never)]
    fn is_due<const V6: bool, const N: usize>(&self, head: &[u8; N], is_syn: bool) -> bool {
        let frontend = key::<V6, true, N>(head).dst;
        match is_syn {
            true => self.floods.is_flooded(frontend, self.now),
            false => self.floods.may_show(frontend, self.now),
        }
    }
}

/// The question that opens the lane: when clients of this address and port prove themselves.
#[inline(always)]
fn asking<'a, const V6: bool, const N: usize>(
    gates: &'a mut [Gate; GATES],
    head: &[u8; N],
    snapshot: &Snapshot,
) -> &'a Asking {
    let port = u64::from(plain::quarter_word(head, N - TCP_HEADER_LEN + 2));
    let at = match V6 {
        true => [plain::word(head, L3 + 24), plain::word(head, L3 + 32), port],
        // No address of IPv6 begins with a word of zeros, of those that are plain.
        false => [0, u64::from(plain::half_word(head, L3 + 16)), port],
    };
    let place = (at[0] ^ at[1] ^ port << 32).wrapping_mul(SPREAD) >> 58;
    let gate = &mut gates[place as usize % GATES];
    if (gate.at[0] ^ at[0]) | (gate.at[1] ^ at[1]) | (gate.at[2] ^ at[2]) != 0 {
        let key = key::<V6, true, N>(head);
        *gate = Gate { at, asking: asking_at(snapshot, &key).unwrap_or(Asking::NOBODY) };
    }
    &gate.asking
}

#[cold]
#[inline(never)]
fn asking_at(snapshot: &Snapshot, key: &FlowKey) -> Option<Asking> {
    let asking = snapshot.balancer.asking_at(key)?;
    // Link-local addresses alone are not the same on every port.
    let is_ours = matches!(snapshot.local.kind(PortId(0), key.dst), Some(Local::PortAddress(_)));
    (!is_ours && !key.dst.is_v6_link_local() && snapshot.guard.takes(key.dst)).then_some(asking)
}

/// What the groups say of a packet from this range of sources to this port of a backend: asked once, with the key of such a packet.
#[inline(always)]
fn judge(
    judged: &mut [Judged; JUDGED],
    is_judged_by_port: bool,
    policy: &Policy,
    (source, backend, port): (SourceId, BackendId, u16),
    key: impl FnOnce() -> FlowKey,
) -> Decision {
    let port = u32::from(port);
    let mixed = u64::from(source.0) << 32 ^ u64::from(backend.0) << 16 ^ u64::from(port);
    let judged = &mut judged[(mixed.wrapping_mul(SPREAD) >> 54) as usize % JUDGED];
    if (judged.source.0 ^ source.0) | (judged.backend.0 ^ backend.0) | (judged.port ^ port) != 0 {
        let decision = policy.decide(&key(), Context { load_balanced: true });
        let port = if is_judged_by_port { u32::MAX } else { port };
        *judged = Judged { source, backend, port, decision };
    }
    judged.decision
}

impl<F: Frame> Pipeline<F> {
    /// Looks at those packets of a burst for which no record was found, and computes the hashes of their cookies. How many are for the lane.
    #[inline(never)]
    pub(super) fn look_for_syns(&mut self, burst: &Burst<F>, slots: &[Slot; BURST], now: Time) -> usize {
        let Self { snapshot, syns, proxy, .. } = self;
        let Some(sources) = &snapshot.sources else { return 0 };
        if snapshot.asks != SynProxyMode::Always && !proxy.floods.may_any_show(now) {
            return 0;
        }
        // A burst of connections that are known goes on at once.
        if !slots.iter().take(burst.len()).any(|slot| slot.hash.is_without_guess()) {
            return 0;
        }
        let Proxy { cookies, reflection, floods, .. } = proxy;
        let known = Known { snapshot, sources, cookies, reflection, floods, now };
        syns.batch.clear();
        for candidate in syns.candidates.iter_mut().take(burst.len()) {
            candidate.what = What::Other;
        }
        let (mut count, are_others) = syns.look_at_all::<F, false, V4>(burst, slots, &known);
        if are_others {
            count += syns.look_at_all::<F, true, V6>(burst, slots, &known).0;
        }
        if count > 0 {
            syns.batch.compute();
        }
        count
    }

    /// Ends a packet's way as the stages would. `None`: it is for the stages, and nothing was changed.
    // Not inlined, so that the fast lane has the registers to itself.
    #[inline(never)]
    pub(super) fn syn(
        &mut self,
        frame: &mut F,
        (place, slot): (usize, &Slot),
        lane: &Lane,
        now: Time,
    ) -> Option<Outcome> {
        let what = self.syns.candidates[place % BURST].what;
        if what == What::Other {
            return None;
        }
        // Another packet of the burst may have made its flow.
        let is_lacked = slot.hash.was_lacked() && self.syns.lacked_as_of == self.counters.flows_created;
        if !is_lacked && !self.flows.lacks(slot.hash) {
            return None;
        }
        let Plain { kind, end } = slot.plain?;
        let outcome = match (what, kind == Kind::TcpV6) {
            (What::Syn, false) => self.ask_at_once::<false, V4>(frame, (place, end), lane, now),
            (What::Syn, true) => self.ask_at_once::<true, V6>(frame, (place, end), lane, now),
            (_, false) => self.refuse::<false, V4>(frame, place, lane, now),
            (_, true) => self.refuse::<true, V6>(frame, place, lane, now),
        }?;
        #[cfg(test)]
        {
            let ended = format!("{kind:?} {what:?} {:?}", outcome.verdict);
            *self.syns.ended.entry(ended).or_default() += 1;
        }
        Some(outcome)
    }

    /// A segment that should show a cookie, and shows none that is right.
    #[inline(always)]
    fn refuse<const V6: bool, const N: usize>(
        &mut self,
        frame: &F,
        place: usize,
        lane: &Lane,
        now: Time,
    ) -> Option<Outcome> {
        let Self { syns, counters, snapshot, .. } = self;
        let head: &[u8; N] = frame.bytes().first_chunk()?;
        let Candidate { hash, source, .. } = syns.candidates[place % BURST];
        let shown = plain::half_word(head, N - TCP_HEADER_LEN + 8).swap_bytes().wrapping_sub(1);
        if cookie::is_shown(syns.batch.hash::<V6>(hash), shown)
            || cookie::is_shown(syns.batch.hash::<V6>(hash.wrapping_add(1)), shown)
        {
            return None;
        }
        let standing = snapshot.sources.as_ref()?.standing(source);
        if let Err(reason) = snapshot.guard.check_standing(standing, lane.port(), lane.trust()) {
            return Some(dropped(reason));
        }
        // The stages have a reset for it, now and then.
        if self.orphans.is_ready(now) {
            return None;
        }
        counters.syn.cookies_invalid += 1;
        Some(dropped(DropReason::InvalidCookie))
    }

    /// A SYN that is asked for a proof, if all stages let it.
    #[inline(always)]
    fn ask_at_once<const V6: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        (place, end): (usize, u16),
        lane: &Lane,
        now: Time,
    ) -> Option<Outcome> {
        let (head, rest) = frame.bytes().split_first_chunk::<N>()?;
        match options_of_linux(head, rest, end) {
            Some(options) => self.ask_with::<V6, N>(frame, place, &options, lane, now),
            None => self.ask_rarely::<V6, N>(frame, (place, end), lane, now),
        }
    }

    /// The same for one with other options.
    #[inline(never)]
    fn ask_rarely<const V6: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        (place, end): (usize, u16),
        lane: &Lane,
        now: Time,
    ) -> Option<Outcome> {
        let (head, rest) = frame.bytes().split_first_chunk::<N>()?;
        let options = options(head, rest, end)?;
        self.ask_with::<V6, N>(frame, place, &options, lane, now)
    }

    #[inline(always)]
    fn ask_with<const V6: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        place: usize,
        options: &SynOptions,
        lane: &Lane,
        now: Time,
    ) -> Option<Outcome> {
        let Self { syns, proxy, counters, exits, snapshot, .. } = self;
        let SynLane { candidates, judged, is_judged_by_port, batch, .. } = syns;
        let candidate = &candidates[place % BURST];
        let head: &[u8; N] = frame.bytes().first_chunk()?;
        let station = exits.get(lane.port().index()).map(Exit::mac)?;
        let standing = snapshot.sources.as_ref()?.standing(candidate.source);
        // From here on it is certain that it ends here.
        if let Err(reason) = snapshot.guard.check_standing(standing, lane.port(), lane.trust()) {
            return Some(dropped(reason));
        }
        let key = || key::<V6, true, N>(head);
        let is_limited = snapshot.syn_flood.is_some() && lane.is_untrusted() && !standing.is_allowlisted;
        if is_limited && !proxy.floods.allow(key().src, now) {
            return Some(dropped(DropReason::SynRate));
        }
        let asking = &candidate.asking;
        if asking.mode == SynProxyMode::Auto {
            let is_flooded = proxy.floods.see(key().dst, now);
            debug_assert!(is_flooded, "it was flooded a moment ago");
        }
        let Some(&(backend, dst)) = snapshot.balancer.choose_at(asking, candidate.slot) else {
            return Some(dropped(DropReason::NoHealthyBackend));
        };
        let dst_port = asking.port.unwrap_or_else(|| key().dst_port);
        let ends = (candidate.source, backend, dst_port);
        let Decision { access, rule } =
            judge(judged, *is_judged_by_port, &snapshot.policy, ends, || FlowKey { dst, dst_port, ..key() });
        let ended = |verdict| Some(Outcome { verdict, rule, backend: Some(backend) });
        if access == Access::Deny {
            counters.hit_rule(rule, now);
            return ended(Verdict::Drop(DropReason::DeniedByRule));
        }
        if !proxy.reflection.allow_at(candidate.place, now) {
            return ended(Verdict::Drop(DropReason::SynRate));
        }
        let family = if V6 { Family::V6 } else { Family::V4 };
        let question = Question {
            hash: batch.hash::<V6>(candidate.hash),
            flags: head[N - TCP_HEADER_LEN + 13],
            mss_max: proxy.mss_max(family),
        };
        let offer = proxy.profiles.offer_of(backend);
        if answer::<F, V6>(frame, &proxy.cookies, question, options, offer, station) == Err(NotWritten) {
            return ended(Verdict::Drop(DropReason::Malformed));
        }
        counters.syn.cookies_sent += 1;
        ended(Verdict::Reply(None))
    }
}
