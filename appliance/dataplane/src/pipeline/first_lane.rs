//! The lane of first packets: datagrams and SYNs that no flow knows, and of which the stages need nothing but tables.
//!
//! What the stages would say of such a packet does not depend on the packets before it: it is looked up for a burst at once, its rules for
//! all packets together. Then, in the order of arrival, it is counted and limited as in the stages, its flow is made, and it is brought up
//! to its departure. Every packet of which the stages would have to know more goes through them as if it had never been here.

use super::admit::new_flow;
use super::burst::Slot;
use super::fast::{Lane, edit, ip_hops};
use super::fields::{key, key_v4, options};
use super::{Departure, Outcome, Pipeline};
use crate::addr::Addr;
use crate::bearings::{Bearing, Role};
use crate::emit::rewrite;
use crate::flow::{FlowHash, InsertError, NewFlow, Side, TcpState};
use crate::lb::Selection;
use crate::policy::{Context, Decision, Judge};
use crate::route::{NeighborId, Neighbors, NextHop};
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Verdict};
use crate::wire::plain::{self, Kind, L3, L4_OVER_V4, L4_OVER_V6, Plain};
use crate::wire::{FlowKey, TCP_HEADER_LEN, Tcp, TcpFlags, UDP_HEADER_LEN};
use nva_config::{Access, SynProxyMode};
use pmd_shim::{BURST, Burst, Frame};

/// What is read of a packet at once: as far as the fixed part of a TCP header. A datagram over IPv6 may end before.
const V4: usize = L4_OVER_V4 + TCP_HEADER_LEN;
const TCP_V6: usize = L4_OVER_V6 + TCP_HEADER_LEN;
const UDP_V6: usize = L4_OVER_V6 + UDP_HEADER_LEN;

/// What the lane found out about the packets of a burst.
pub(super) struct FirstLane {
    /// By the frame's place in the burst: the place of its candidate, or [`NOBODY`].
    of_frames: [u8; BURST],
    candidates: Box<[Candidate; BURST]>,
    /// Those that rules are asked about, by place, and what these saw of them.
    places: Box<[u8; BURST]>,
    keys: Box<[FlowKey; BURST]>,
    decisions: Box<[Decision; BURST]>,
    /// Who was found last on the way there, and on the way back.
    lately: [Lately; 2],
    /// How often what ended how.
    #[cfg(test)]
    pub(super) ended: std::collections::BTreeMap<String, u64>,
}

/// The frame is for the stages.
const NOBODY: u8 = u8::MAX;

/// What the first look at a packet found: all that does not depend on the packets before it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    fate: Fate,
    /// It counts towards the limits of SYNs.
    is_limited: bool,
    judge: Judge,
    access: Access,
    /// Its flow, if it makes one: as far as it is judged, with the rule that decides.
    new: NewFlow,
    /// Of the key of answers, where it is allowed.
    answer: FlowHash,
    /// The next hop on the way to this place, where its destination stands. `None`: the stages have to say what becomes of it.
    to: Option<NextHop>,
    location: Addr,
    /// The same on the way back to its source, if there is one.
    back: Option<NextHop>,
}

/// How far a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The guard refuses it.
    Refused(DropReason),
    /// It is for a frontend that has nobody for it.
    Unserved(DropReason),
    /// Rules decide.
    Judged,
}

const KEY: FlowKey =
    FlowKey { src: Addr::UNSPECIFIED, dst: Addr::UNSPECIFIED, src_port: 0, dst_port: 0, protocol: 0 };
const PASSES: Decision = Decision { access: Access::Allow, rule: None };
const NONE: Candidate = Candidate {
    fate: Fate::Judged,
    is_limited: false,
    judge: Judge::Nobody,
    access: Access::Allow,
    new: NewFlow {
        key: KEY,
        translated: KEY.dst,
        translated_port: 0,
        tcp: None,
        rule: None,
        backend: None,
        generation: 0,
        idle_timeout_ms: None,
        tcp_reset: false,
    },
    answer: FlowHash::NONE,
    to: None,
    location: KEY.dst,
    back: None,
};

/// What does not change from one packet of a burst to the next.
struct Known<'a> {
    snapshot: &'a Snapshot,
    lane: &'a Lane,
    /// Connections to frontends need no proof. Those to hosts need none anyway.
    serves_tcp: bool,
    /// SYNs from this port are limited.
    is_limiting: bool,
}

/// Who was found last in a direction: most packets go to the same router.
type Lately = Option<(NextHop, NeighborId)>;

impl FirstLane {
    pub(super) fn new() -> Self {
        Self {
            of_frames: [NOBODY; BURST],
            candidates: Box::new([NONE; BURST]),
            places: Box::new([0; BURST]),
            keys: Box::new([KEY; BURST]),
            decisions: Box::new([PASSES; BURST]),
            lately: [None; 2],
            #[cfg(test)]
            ended: std::collections::BTreeMap::new(),
        }
    }

    /// Asks rules about those of the first `count` candidates that any are to be asked about: about all that one group decides together.
    fn ask(&mut self, snapshot: &Snapshot, count: usize) {
        let Self { candidates, places, keys, decisions, .. } = self;
        let mut from = 0;
        // Each turn asks one group, about the first one that is left and those like it.
        while let Some(ahead) = candidates[from..count].iter().position(Candidate::is_judged) {
            from += ahead;
            let judge = candidates[from].judge;
            let mut asked = 0;
            for (place, candidate) in candidates[..count].iter().enumerate().skip(from) {
                if candidate.fate == Fate::Judged && candidate.judge == judge {
                    (places[asked], keys[asked]) = (place as u8, candidate.new.translated_key());
                    asked += 1;
                }
            }
            if let Judge::Group(group, direction) = judge {
                snapshot.policy.decide_all(group, direction, &keys[..asked], &mut decisions[..asked]);
            }
            for (place, decision) in places[..asked].iter().zip(&decisions[..asked]) {
                candidates[usize::from(*place) % BURST].decide(*decision);
            }
        }
    }
}

impl Candidate {
    /// The rules of one group are to be asked about it.
    #[inline(always)]
    fn is_judged(&self) -> bool {
        self.fate == Fate::Judged && matches!(self.judge, Judge::Group(..))
    }

    /// It makes a flow, as far as rules and guard go.
    #[inline(always)]
    fn is_allowed(&self) -> bool {
        self.fate == Fate::Judged && self.access == Access::Allow
    }

    #[inline(always)]
    fn decide(&mut self, Decision { access, rule }: Decision) {
        (self.judge, self.access, self.new.rule) = (Judge::Nobody, access, rule);
    }

    #[inline(always)]
    fn ended(&self, verdict: Verdict) -> Outcome {
        Outcome { verdict, rule: self.new.rule, backend: self.new.backend }
    }
}

/// The places of those packets for which this holds, and how many there are.
#[inline(always)]
fn places_of(slots: &[Slot], holds: impl Fn(usize, &Slot) -> bool) -> ([u8; BURST], usize) {
    let (mut places, mut count) = ([0; BURST], 0);
    for (place, slot) in slots.iter().enumerate() {
        // No branch: it would go either way as senders like.
        places[count % BURST] = place as u8;
        count += usize::from(holds(place, slot));
    }
    (places, count)
}

/// It ends so before rules are asked.
#[inline(always)]
fn dropped(reason: DropReason) -> Outcome {
    Outcome { verdict: Verdict::Drop(reason), rule: None, backend: None }
}

impl<F: Frame> Pipeline<F> {
    /// Looks at those packets of a burst for which there is surely no record, but not at those that are for the lane of floods, if it
    /// `has_syns`. `false`: none is for this lane.
    #[inline(never)]
    pub(super) fn look_for_firsts(
        &mut self,
        burst: &Burst<F>,
        slots: &[Slot; BURST],
        lane: &Lane,
        has_syns: bool,
    ) -> bool {
        let Self { snapshot, firsts, syns, flows, .. } = self;
        let known = Known {
            lane,
            serves_tcp: match snapshot.asks {
                SynProxyMode::Off => true,
                // Nothing counts as a flood.
                SynProxyMode::Auto => snapshot.syn_flood.is_none_or(|limits| limits.proxy_threshold == 0),
                SynProxyMode::Always => false,
            },
            is_limiting: snapshot.syn_flood.is_some() && lane.is_untrusted(),
            snapshot,
        };
        let is_first = |place: usize, slot: &Slot| slot.hash.was_lacked() && !(has_syns && syns.takes(place));
        let (lacked, count) = places_of(&slots[..burst.len().min(BURST)], is_first);
        let places = || lacked.iter().take(count).map(|place| usize::from(*place));
        for (place, frame) in places().filter_map(|place| Some((place, burst.get(place)?))) {
            known.prefetch(slots[place].plain, frame.bytes());
        }
        (firsts.of_frames, firsts.lately) = ([NOBODY; BURST], [None; 2]);
        let mut found = 0;
        for place in places() {
            let (Some(frame), Some(Plain { kind, end })) = (burst.get(place), slots[place].plain) else {
                continue;
            };
            let candidate = &mut firsts.candidates[found % BURST];
            let packet = (frame.bytes(), end);
            let seen = match kind {
                Kind::TcpV4 => candidate.look::<false, true, V4>(packet, &known),
                Kind::UdpV4 => candidate.look::<false, false, V4>(packet, &known),
                Kind::TcpV6 => candidate.look::<true, true, TCP_V6>(packet, &known),
                Kind::UdpV6 => candidate.look::<true, false, UDP_V6>(packet, &known),
            };
            let Some(fate) = seen else { continue };
            candidate.fate = fate;
            firsts.of_frames[place] = found as u8;
            found += 1;
        }
        if found == 0 {
            return false;
        }
        firsts.ask(snapshot, found);
        for candidate in firsts.candidates.iter_mut().take(found).filter(|candidate| candidate.is_allowed()) {
            candidate.answer = flows.hash(&candidate.new.answer());
            flows.prefetch_index(candidate.answer);
        }
        flows.prefetch_vacant();
        true
    }

    /// Ends a packet's way, or brings it up to its departure, as the stages would. `None`: it is for the stages, and nothing was changed.
    // Not inlined, so that the fast lane has the registers to itself.
    #[inline(never)]
    pub(super) fn first(
        &mut self,
        frame: &mut F,
        (place, slot): (usize, &Slot),
        lane: &Lane,
    ) -> Option<Outcome> {
        // Another packet of the burst may have made its flow.
        if self.firsts.of_frames[place % BURST] == NOBODY || !self.flows.lacks(slot.hash) {
            return None;
        }
        let Plain { kind, end } = slot.plain?;
        let outcome = match kind {
            Kind::TcpV4 => self.admit_at_once::<false, true, V4>(frame, place, (slot.hash, end), lane),
            Kind::UdpV4 => self.admit_at_once::<false, false, V4>(frame, place, (slot.hash, end), lane),
            Kind::TcpV6 => self.admit_at_once::<true, true, TCP_V6>(frame, place, (slot.hash, end), lane),
            Kind::UdpV6 => self.admit_at_once::<true, false, UDP_V6>(frame, place, (slot.hash, end), lane),
        }?;
        #[cfg(test)]
        {
            let ended = format!("{kind:?} {:?}", outcome.verdict);
            *self.firsts.ended.entry(ended).or_default() += 1;
        }
        Some(outcome)
    }

    #[inline(always)]
    fn admit_at_once<const V6: bool, const TCP: bool, const N: usize>(
        &mut self,
        frame: &mut F,
        place: usize,
        (hash, end): (FlowHash, u16),
        lane: &Lane,
    ) -> Option<Outcome> {
        let Self { firsts, flows, neighbors, counters, exits, proxy, snapshot, now, .. } = self;
        let FirstLane { of_frames, candidates, lately, .. } = firsts;
        let candidate = candidates.get(usize::from(of_frames[place % BURST]))?;
        let leaves = match candidate.is_allowed() {
            true => {
                let (to, back) = candidate.ways(neighbors, lately)?;
                let exit = exits.get(to.port.index())?;
                neighbors.hop(to.neighbor)?;
                if usize::from(end) - L3 > exit.mtu().min(lane.room()).into() {
                    return None;
                }
                Some((to, back, exit))
            }
            false => None,
        };
        // From here on it is certain that it ends here.
        if let Fate::Refused(reason) = candidate.fate {
            return Some(dropped(reason));
        }
        if candidate.is_limited && !proxy.floods.allow(candidate.new.key.src, *now) {
            return Some(dropped(DropReason::SynRate));
        }
        if let Fate::Unserved(reason) = candidate.fate {
            return Some(dropped(reason));
        }
        counters.hit_rule(candidate.new.rule, *now);
        if candidate.judge == Judge::Several && candidate.is_allowed() {
            let (key, location, last) =
                (candidate.new.translated_key(), candidate.location, candidate.new.rule);
            snapshot.policy.passed_by(&key, location, last, &mut |rule| counters.hit_rule(Some(rule), *now));
        }
        let Some((to, back, exit)) = leaves else {
            return Some(candidate.ended(Verdict::Drop(DropReason::DeniedByRule)));
        };
        neighbors.is_used(*now);
        let id = match flows.insert_hashed(&candidate.new, [hash, candidate.answer], *now) {
            Ok(id) => id,
            Err(InsertError::Full) => return Some(candidate.ended(Verdict::Drop(DropReason::FlowTableFull))),
            Err(InsertError::Taken) => return Some(candidate.ended(Verdict::Drop(DropReason::InvalidState))),
        };
        counters.flows_created += 1;
        counters.hit_backend(candidate.new.backend);
        let flow = flows.flow_mut(id);
        flow.set_way(Side::Initiator, Some(to.to_way()));
        flow.set_way(Side::Responder, back.map(Departure::to_way));
        flows.tally(id, Side::Initiator, usize::from(end) - L3);
        let bytes = frame.bytes_mut();
        let is_padded = bytes.len() > usize::from(end);
        // Both are there, as they were a moment ago.
        if let (Some(head), Some(hop)) = (bytes.first_chunk_mut::<N>(), neighbors.hop(to.neighbor)) {
            edit::<V6, TCP, N>(head, flows.flow(id), Side::Initiator);
            rewrite::set_link_words(head, exit.mac(), hop.take());
        }
        if is_padded {
            rewrite::cut(frame, end.into());
        }
        frame.set_mark(lane.mark());
        Some(candidate.ended(Verdict::Forward(to.port)))
    }
}

impl Candidate {
    /// The first look at a plain packet that ends at `end`. `None`: it is for the stages.
    #[inline(always)]
    fn look<const V6: bool, const TCP: bool, const N: usize>(
        &mut self,
        (bytes, end): (&[u8], u16),
        known: &Known<'_>,
    ) -> Option<Fate> {
        let Known { snapshot, lane, .. } = known;
        let (head, rest): (&[u8; N], _) = bytes.split_first_chunk()?;
        let key = key::<V6, TCP, N>(head);
        let tcp = if TCP { Some(opening::<N>(head, rest, end)?) } else { None };
        if !TCP && lane.is_untrusted() {
            let ports = plain::half_word(head, N - if V6 { UDP_HEADER_LEN } else { TCP_HEADER_LEN });
            if snapshot.guard.watches(ports) {
                return None;
            }
        }
        let (from, to) = (known.bearing::<V6>(&key.src), known.bearing::<V6>(&key.dst));
        if key.src == key.dst || !from.is_plain_source || to.role == Role::Special {
            return None;
        }
        if let Err(reason) = snapshot.guard.check_standing(from.standing, lane.port(), lane.trust()) {
            return Some(Fate::Refused(reason));
        }
        self.new.key = key;
        self.is_limited = TCP && known.is_limiting && !from.standing.is_allowlisted;
        let (mut at, mut target) = (to, None);
        if to.role == Role::Frontend {
            if TCP && !known.serves_tcp {
                return None;
            }
            match snapshot.balancer.select(&key) {
                Selection::NotAFrontend => return None,
                Selection::NoRule => return Some(Fate::Unserved(DropReason::DeniedByRule)),
                Selection::NoHealthyBackend => return Some(Fate::Unserved(DropReason::NoHealthyBackend)),
                Selection::Backend(backend) => {
                    target = Some(backend);
                    at = known.bearing::<V6>(&backend.address);
                    if at.role != Role::Host {
                        return None;
                    }
                }
            }
        }
        self.new = new_flow(&key, tcp, target.as_ref(), snapshot.decided);
        let context = Context { load_balanced: target.is_some() };
        self.location = target.map_or(key.dst, |target| target.address);
        self.judge = Judge::between(from.groups, at.groups, context);
        if self.judge == Judge::Several {
            self.decide(snapshot.policy.decide_at(&self.new.translated_key(), context, self.location));
            self.judge = Judge::Several;
        } else {
            self.access = Access::Allow;
        }
        // A packet whose time to live is over is for the stages.
        self.to = at.next.filter(|_| ip_hops::<V6, N>(head) > 1);
        self.back = from.next;
        Some(Fate::Judged)
    }

    /// The ways to the packet's destination and back to its source. `None`: the stages have to look for them.
    #[inline(always)]
    fn ways<F: Frame>(
        &self,
        neighbors: &Neighbors<F>,
        [there, back]: &mut [Lately; 2],
    ) -> Option<(Departure, Option<Departure>)> {
        let there = way(neighbors, there, self.to?, self.location)?;
        let back = match self.back {
            Some(next) => Some(way(neighbors, back, next, self.new.key.src)?),
            None => None,
        };
        Some((there, back))
    }
}

#[inline(always)]
fn way<F: Frame>(
    neighbors: &Neighbors<F>,
    lately: &mut Lately,
    next: NextHop,
    address: Addr,
) -> Option<Departure> {
    let neighbor = match lately {
        Some((known, neighbor)) if *known == next && next.gateway.is_some() => *neighbor,
        _ => {
            let neighbor = neighbors.find_known(next.port, next.gateway.unwrap_or(address))?;
            *lately = Some((next, neighbor));
            neighbor
        }
    };
    Some(Departure { port: next.port, neighbor })
}

impl Known<'_> {
    #[inline(always)]
    fn bearing<const V6: bool>(&self, address: &Addr) -> &Bearing {
        let bearings = &self.snapshot.bearings;
        let range = if V6 { bearings.of_v6(*address) } else { bearings.of_v4(address.bits() as u32) };
        bearings.known(range)
    }

    /// Asks for what is read first of what is known of a packet's addresses.
    #[inline(always)]
    fn prefetch(&self, plain: Option<Plain>, bytes: &[u8]) {
        if let Some(Plain { kind: Kind::TcpV4 | Kind::UdpV4, .. }) = plain
            && let Some(head) = bytes.first_chunk::<V4>()
        {
            let addresses = key_v4(head).addresses;
            for address in [addresses as u32, (addresses >> 32) as u32] {
                self.snapshot.bearings.prefetch_v4(address.swap_bytes());
            }
        }
    }
}

/// The state of the connection that a SYN opens.
#[inline(always)]
fn opening<const N: usize>(head: &[u8; N], rest: &[u8], end: u16) -> Option<TcpState> {
    let l4 = N - TCP_HEADER_LEN;
    let flags = TcpFlags(head[l4 + 13]);
    let ports = plain::half_word(head, l4);
    if !flags.is_initial_syn() || ports as u16 == 0 || ports >> 16 == 0 {
        return None;
    }
    let options = options::<N>(head, rest, end)?;
    let header_len = usize::from(head[l4 + 12] >> 4) * 4;
    let payload_len = usize::from(end).checked_sub(l4 + header_len)?;
    let syn = Tcp {
        seq: plain::half_word(head, l4 + 4).swap_bytes(),
        ack: plain::half_word(head, l4 + 8).swap_bytes(),
        flags,
        window: plain::quarter_word(head, l4 + 14).swap_bytes(),
        window_scale: options.window_scale,
    };
    TcpState::open(&syn, payload_len).ok()
}
