//! The lane of floods: SYNs to a frontend whose clients prove themselves, and segments that prove nothing there.
//!
//! Such a packet has no flow and leaves none, so that all there is to it is what the stages would say of its source, its frontend and
//! its backend. That is looked up for a burst at once, most of it out of what is remembered of the packets before, and the hashes of
//! all its cookies are computed together. Then, in the order of arrival, it is counted and limited as in the stages, and answered. Every
//! packet that is not known to end here goes through the stages as if it had never been here.

use super::burst::Slot;
use super::fast::{Exit, Lane};
use super::fields::{is_well_formed, key, key_v4, key_v6, options, source};
use super::syn_answer::answer;
use super::{Outcome, Pipeline};
use crate::addr::Family;
use crate::emit::NotWritten;
use crate::emit::syn_ack;
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

/// What the first look at a packet found: all that does not depend on the packets before it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    what: What,
    /// Where its hash is.
    hash: u8,
    mode: SynProxyMode,
    /// What the guard has against it.
    refused: Option<DropReason>,
    /// It counts towards the limits of SYNs.
    is_limited: bool,
    /// Where answers to its source are counted.
    place: Place,
    backend: Option<BackendId>,
    /// Of the groups, where there is a backend.
    decision: Decision,
    options: SynOptions,
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
    /// `None`: clients prove nothing there.
    asking: Option<Asking>,
}

/// What the groups say of packets from a range of sources to a backend.
#[derive(Clone, Copy, Debug)]
struct Judged {
    source: SourceId,
    backend: BackendId,
    port: u16,
    decision: Option<Decision>,
}

/// What does not change from one packet of a burst to the next.
struct Known<'a> {
    snapshot: &'a Snapshot,
    sources: &'a Sources,
    cookies: &'a Cookies,
    reflection: &'a Reflection,
    floods: &'a Floods,
    lane: &'a Lane,
    now: Time,
    /// SYNs from this port are limited.
    is_limiting: bool,
}

const UNDECIDED: Decision = Decision { access: Access::Deny, rule: None };
const OTHER: Candidate = Candidate {
    what: What::Other,
    hash: 0,
    mode: SynProxyMode::Off,
    refused: None,
    is_limited: false,
    place: Place::NONE,
    backend: None,
    decision: UNDECIDED,
    options: SynOptions::NONE,
};
/// Nothing is sent to port 0.
const NO_GATE: Gate = Gate { at: [0; 3], asking: None };
const NOT_JUDGED: Judged = Judged { source: SourceId(0), backend: BackendId(0), port: 0, decision: None };

impl Candidate {
    /// It ends so after its backend and its rule were found.
    #[inline(always)]
    fn ended(&self, verdict: Verdict) -> Outcome {
        Outcome { verdict, rule: self.decision.rule, backend: self.backend }
    }

    #[inline(always)]
    fn dropped(&self, reason: DropReason) -> Outcome {
        self.ended(Verdict::Drop(reason))
    }
}

/// It ends so before.
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
        let Self { gates, judged, batch, candidates, is_judged_by_port, .. } = self;
        let Some(asking) = asking::<V6, N>(gates, head, known.snapshot) else { return false };
        if ports as u16 == 0 || ports >> 16 == 0 {
            return false;
        }
        // What is flooded now stays so for this burst.
        if asking.mode == SynProxyMode::Auto && !known.is_due::<V6, N>(head, is_syn) {
            return false;
        }
        let candidate = &mut candidates[place % BURST];
        let source = match V6 {
            true => known.sources.of_v6(source::<V6, N>(head)),
            false => known.sources.of_v4(plain::half_word(head, L3 + 12).swap_bytes()),
        };
        let standing = known.sources.standing(source);
        let checked = known.snapshot.guard.check_standing(standing, known.lane.port(), known.lane.trust());
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
            let Some(options) = options::<N>(head, rest, end) else { return false };
            let key = key::<V6, true, N>(head);
            let chosen = known.snapshot.balancer.choose_for(asking, &key);
            candidate.backend = chosen.map(|(backend, _)| backend);
            if let Some((backend, dst)) = chosen {
                let translated = FlowKey { dst, dst_port: asking.port.unwrap_or(key.dst_port), ..key };
                let policy = &known.snapshot.policy;
                candidate.decision =
                    judge(judged, *is_judged_by_port, policy, (source, backend), &translated);
            }
            candidate.is_limited = known.is_limiting && !standing.is_allowlisted;
            candidate.options = options;
            candidate.place = known.reflection.place(key.src);
            known.reflection.prefetch(candidate.place);
            candidate.hash = match V6 {
                true => batch.add_syn_v6(known.cookies, &key_v6(head), seq),
                false => batch.add_syn_v4(known.cookies, &key_v4(head), seq),
            };
            candidate.what = What::Syn;
        }
        candidate.mode = asking.mode;
        candidate.refused = checked.err();
        true
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

/// The question that opens the lane: whether a rule of a frontend asks clients of this address and port to prove themselves.
#[inline(always)]
fn asking<'a, const V6: bool, const N: usize>(
    gates: &'a mut [Gate; GATES],
    head: &[u8; N],
    snapshot: &Snapshot,
) -> Option<&'a Asking> {
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
        *gate = Gate { at, asking: asking_at(snapshot, &key) };
    }
    gate.asking.as_ref()
}

#[cold]
#[inline(never)]
fn asking_at(snapshot: &Snapshot, key: &FlowKey) -> Option<Asking> {
    let asking = snapshot.balancer.asking_at(key)?;
    // Link-local addresses alone are not the same on every port.
    let is_ours = matches!(snapshot.local.kind(PortId(0), key.dst), Some(Local::PortAddress(_)));
    (!is_ours && !key.dst.is_v6_link_local() && snapshot.guard.takes(key.dst)).then_some(asking)
}

/// What the groups say of a packet from this range of sources to this backend: asked once.
#[inline(always)]
fn judge(
    judged: &mut [Judged; JUDGED],
    is_judged_by_port: bool,
    policy: &Policy,
    (source, backend): (SourceId, BackendId),
    key: &FlowKey,
) -> Decision {
    let mixed = u64::from(source.0) << 32 ^ u64::from(backend.0) << 16 ^ u64::from(key.dst_port);
    let judged = &mut judged[(mixed.wrapping_mul(SPREAD) >> 54) as usize % JUDGED];
    if let Some(decision) = judged.decision
        && (judged.source, judged.backend, judged.port) == (source, backend, key.dst_port)
    {
        return decision;
    }
    let decision = policy.decide(key, Context { load_balanced: true });
    if !is_judged_by_port {
        *judged = Judged { source, backend, port: key.dst_port, decision: Some(decision) };
    }
    decision
}

impl<F: Frame> Pipeline<F> {
    /// Looks at those packets of a burst for which no record was found, and computes the hashes of their cookies. `false`: none is for the
    /// lane.
    #[inline(never)]
    pub(super) fn look_for_syns(
        &mut self,
        burst: &Burst<F>,
        slots: &[Slot; BURST],
        lane: &Lane,
        now: Time,
    ) -> bool {
        let Self { snapshot, syns, proxy, .. } = self;
        let Some(sources) = &snapshot.sources else { return false };
        if snapshot.asks != SynProxyMode::Always && !proxy.floods.may_any_show(now) {
            return false;
        }
        let is_limiting = snapshot.syn_flood.is_some() && lane.is_untrusted();
        let Proxy { cookies, reflection, floods, .. } = proxy;
        let known = Known { snapshot, sources, cookies, reflection, floods, lane, now, is_limiting };
        syns.batch.clear();
        let mut is_any = false;
        for (place, (frame, slot)) in burst.iter().zip(slots).enumerate() {
            let is_candidate = match slot.plain {
                Some(Plain { kind: Kind::TcpV4, end }) if slot.hash.is_without_guess() => {
                    syns.look::<false, V4>(place, (frame.bytes(), end), &known)
                }
                Some(Plain { kind: Kind::TcpV6, end }) if slot.hash.is_without_guess() => {
                    syns.look::<true, V6>(place, (frame.bytes(), end), &known)
                }
                _ => false,
            };
            if is_candidate {
                is_any = true;
                // Of a flood, those that come next are candidates too.
                burst.get(place + 2).into_iter().for_each(Frame::prefetch);
            } else {
                syns.candidates[place].what = What::Other;
            }
        }
        if is_any {
            syns.batch.compute();
        }
        is_any
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
        let kind = slot.plain?.kind;
        let outcome = match (what, kind == Kind::TcpV6) {
            (What::Syn, false) => self.ask_at_once::<false, V4>(frame, place, lane, now),
            (What::Syn, true) => self.ask_at_once::<true, V6>(frame, place, lane, now),
            (_, false) => self.refuse::<false, V4>(frame, place, now),
            (_, true) => self.refuse::<true, V6>(frame, place, now),
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
        now: Time,
    ) -> Option<Outcome> {
        let head: &[u8; N] = frame.bytes().first_chunk()?;
        let candidate = &self.syns.candidates[place % BURST];
        let shown = plain::half_word(head, N - TCP_HEADER_LEN + 8).swap_bytes().wrapping_sub(1);
        let hash = |place: u8| self.syns.batch.hash::<V6>(place);
        if cookie::is_shown(hash(candidate.hash), shown)
            || cookie::is_shown(hash(candidate.hash.wrapping_add(1)), shown)
        {
            return None;
        }
        // The stages have a reset for it, now and then.
        if candidate.refused.is_none() && self.orphans.is_ready(now) {
            return None;
        }
        let reason = candidate.refused.unwrap_or(DropReason::InvalidCookie);
        self.counters.syn.cookies_invalid += u64::from(candidate.refused.is_none());
        Some(dropped(reason))
    }

    /// A SYN that is asked for a proof, if all stages let it.
    #[inline(always)]
    fn ask_at_once<const V6: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        place: usize,
        lane: &Lane,
        now: Time,
    ) -> Option<Outcome> {
        let Self { syns, proxy, counters, exits, .. } = self;
        let head: &[u8; N] = frame.bytes().first_chunk()?;
        let (candidate, source) = (&syns.candidates[place % BURST], source::<V6, N>(head));
        let station = exits.get(lane.port().index()).map(Exit::mac)?;
        // From here on it is certain that it ends here.
        if let Some(reason) = candidate.refused {
            return Some(dropped(reason));
        }
        if candidate.is_limited && !proxy.floods.allow(source, now) {
            return Some(dropped(DropReason::SynRate));
        }
        if candidate.mode == SynProxyMode::Auto {
            let is_flooded = proxy.floods.see(key::<V6, true, N>(head).dst, now);
            debug_assert!(is_flooded, "it was flooded a moment ago");
        }
        let Some(backend) = candidate.backend else { return Some(dropped(DropReason::NoHealthyBackend)) };
        if candidate.decision.access == Access::Deny {
            counters.hit_rule(candidate.decision.rule, now);
            return Some(candidate.dropped(DropReason::DeniedByRule));
        }
        if !proxy.reflection.allow_at(candidate.place, now) {
            return Some(candidate.dropped(DropReason::SynRate));
        }
        let family = if V6 { Family::V6 } else { Family::V4 };
        let offer = proxy.profiles.offer_of(backend, proxy.mss_max(family));
        let flags = head[N - TCP_HEADER_LEN + 13];
        let question = (syns.batch.hash::<V6>(candidate.hash), flags);
        let answer = answer::<V6>(&proxy.cookies, question, &candidate.options, &offer);
        let written = match V6 {
            true => syn_ack::answer_v6(frame, &answer, station),
            false => syn_ack::answer_v4(frame, &answer, station),
        };
        if written == Err(NotWritten) {
            return Some(candidate.dropped(DropReason::Malformed));
        }
        counters.syn.cookies_sent += 1;
        Some(candidate.ended(Verdict::Reply(None)))
    }
}
