//! The lane of first packets: datagrams and SYNs that no flow knows, and of which the stages need nothing but tables.
//!
//! What the stages would say of such a packet does not depend on the packets before it: it is looked up for a burst at once, its rules for
//! all packets together. Then, in the order of arrival, it is counted and limited as in the stages, its flow is made, and it is brought up
//! to its departure. Every packet of which the stages would have to know more goes through them as if it had never been here.

use super::burst::Slot;
use super::fast::{Exit, Lane, edit, ip_hops};
use super::fields::{key, options};
use super::{Departure, Outcome, Pipeline};
use crate::addr::Addr;
use crate::bearings::{Bearing, Role};
use crate::emit::rewrite;
use crate::flow::{FlowHash, InsertError, NewFlow, Side, TcpState};
use crate::lb::{Selection, Target};
use crate::policy::{Context, Decision, Judge};
use crate::route::{NeighborId, Neighbors, NextHop};
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, PortId, Verdict};
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
    /// By the frame's place in the burst.
    candidates: Box<[Candidate; BURST]>,
    /// Those that rules are asked about, by place, and what these saw of them.
    places: Box<[u8; BURST]>,
    keys: Box<[FlowKey; BURST]>,
    decisions: Box<[Decision; BURST]>,
    /// How often what ended how.
    #[cfg(test)]
    pub(super) ended: std::collections::BTreeMap<String, u64>,
}

/// What the first look at a packet found: all that does not depend on the packets before it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    fate: Fate,
    /// It counts towards the limits of SYNs.
    is_limited: bool,
    judge: Judge,
    decision: Decision,
    tcp: Option<TcpState>,
    target: Option<Target>,
    /// As it came, and as rules see it.
    key: FlowKey,
    translated: FlowKey,
    /// Of its key, and of the answers'.
    hashes: [FlowHash; 2],
    /// Its way and that of the answers, if there is one. `None`: the stages have to look for them.
    ways: Option<(Departure, Option<Departure>)>,
}

/// How far a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is for the stages.
    Stages,
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
    fate: Fate::Stages,
    is_limited: false,
    judge: Judge::Nobody,
    decision: PASSES,
    tcp: None,
    target: None,
    key: KEY,
    translated: KEY,
    hashes: [FlowHash::NONE; 2],
    ways: None,
};

/// What does not change from one packet of a burst to the next.
struct Known<'a> {
    snapshot: &'a Snapshot,
    lane: &'a Lane,
    exits: &'a [Exit],
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
            candidates: Box::new([NONE; BURST]),
            places: Box::new([0; BURST]),
            keys: Box::new([KEY; BURST]),
            decisions: Box::new([PASSES; BURST]),
            #[cfg(test)]
            ended: std::collections::BTreeMap::new(),
        }
    }

    /// Asks rules about those of the first `count` packets that any are to be asked about: about all that one group decides together.
    fn ask(&mut self, snapshot: &Snapshot, count: usize) {
        let Self { candidates, places, keys, decisions, .. } = self;
        let mut left = candidates.iter().take(count).filter(|candidate| candidate.is_judged()).count();
        let mut from = 0;
        while left != 0 {
            // Each turn asks one group at least about one packet.
            let Some(place) = candidates[from..count].iter().position(Candidate::is_judged) else { break };
            from += place;
            let judge = candidates[from].judge;
            let mut asked = 0;
            for (place, candidate) in candidates[..count].iter().enumerate().skip(from) {
                if candidate.fate == Fate::Judged && candidate.judge == judge {
                    (places[asked], keys[asked]) = (place as u8, candidate.translated);
                    asked += 1;
                }
            }
            if let Judge::Group(group, direction) = judge {
                snapshot.policy.decide_all(group, direction, &keys[..asked], &mut decisions[..asked]);
            }
            for (place, decision) in places[..asked].iter().zip(&decisions[..asked]) {
                let candidate = &mut candidates[usize::from(*place) % BURST];
                (candidate.decision, candidate.judge) = (*decision, Judge::Nobody);
            }
            left -= asked.min(left);
        }
    }
}

impl Candidate {
    /// The rules of one group are to be asked about it.
    #[inline(always)]
    fn is_judged(&self) -> bool {
        self.fate == Fate::Judged && matches!(self.judge, Judge::Group(..))
    }

    #[inline(always)]
    fn ended(&self, verdict: Verdict) -> Outcome {
        Outcome { verdict, rule: self.decision.rule, backend: self.target.map(|target| target.backend) }
    }
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
        let Self { snapshot, firsts, syns, exits, flows, neighbors, .. } = self;
        let known = Known {
            lane,
            exits,
            serves_tcp: match snapshot.asks {
                SynProxyMode::Off => true,
                // Nothing counts as a flood.
                SynProxyMode::Auto => snapshot.syn_flood.is_none_or(|limits| limits.proxy_threshold == 0),
                SynProxyMode::Always => false,
            },
            is_limiting: snapshot.syn_flood.is_some() && lane.is_untrusted(),
            snapshot,
        };
        let neighbors = &*neighbors;
        let (mut lately, mut is_any) = ([None; 2], false);
        for (place, (frame, slot)) in burst.iter().zip(slots).enumerate() {
            let candidate = &mut firsts.candidates[place % BURST];
            candidate.fate = Fate::Stages;
            let Some(Plain { kind, end }) = slot.plain else { continue };
            if !slot.hash.was_lacked() || has_syns && syns.takes(place) {
                continue;
            }
            let packet = (frame.bytes(), end);
            let seen = match kind {
                Kind::TcpV4 => candidate.look::<F, false, true, V4>(packet, &known, neighbors, &mut lately),
                Kind::UdpV4 => candidate.look::<F, false, false, V4>(packet, &known, neighbors, &mut lately),
                Kind::TcpV6 => {
                    candidate.look::<F, true, true, TCP_V6>(packet, &known, neighbors, &mut lately)
                }
                Kind::UdpV6 => {
                    candidate.look::<F, true, false, UDP_V6>(packet, &known, neighbors, &mut lately)
                }
            };
            let Some(fate) = seen else { continue };
            candidate.fate = fate;
            is_any = true;
            if fate == Fate::Judged {
                candidate.hashes = [slot.hash, flows.hash(&candidate.translated.reversed())];
                flows.prefetch_index(candidate.hashes[1]);
            }
        }
        if is_any {
            flows.prefetch_vacant();
            firsts.ask(snapshot, burst.len());
        }
        is_any
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
        let candidate = &self.firsts.candidates[place % BURST];
        // Another packet of the burst may have made its flow.
        if candidate.fate == Fate::Stages || !self.flows.lacks(slot.hash) {
            return None;
        }
        let Plain { kind, end } = slot.plain?;
        let outcome = match kind {
            Kind::TcpV4 => self.admit_at_once::<false, true, V4>(frame, place, end, lane),
            Kind::UdpV4 => self.admit_at_once::<false, false, V4>(frame, place, end, lane),
            Kind::TcpV6 => self.admit_at_once::<true, true, TCP_V6>(frame, place, end, lane),
            Kind::UdpV6 => self.admit_at_once::<true, false, UDP_V6>(frame, place, end, lane),
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
        end: u16,
        lane: &Lane,
    ) -> Option<Outcome> {
        let Self { firsts, flows, neighbors, counters, exits, proxy, snapshot, now, .. } = self;
        let candidate = &firsts.candidates[place % BURST];
        let is_allowed = candidate.fate == Fate::Judged && candidate.decision.access == Access::Allow;
        let leaves = match candidate.ways {
            Some((to, back)) if is_allowed => {
                neighbors.hop(to.neighbor)?;
                Some((to, back, exits.get(to.port.index())?))
            }
            None if is_allowed => return None,
            _ => None,
        };
        // From here on it is certain that it ends here.
        if let Fate::Refused(reason) = candidate.fate {
            return Some(dropped(reason));
        }
        if candidate.is_limited && !proxy.floods.allow(candidate.key.src, *now) {
            return Some(dropped(DropReason::SynRate));
        }
        if let Fate::Unserved(reason) = candidate.fate {
            return Some(dropped(reason));
        }
        counters.hit_rule(candidate.decision.rule, *now);
        let Some((to, back, exit)) = leaves else {
            return Some(candidate.ended(Verdict::Drop(DropReason::DeniedByRule)));
        };
        neighbors.is_used(*now);
        let new = candidate.flow(snapshot.decided);
        let id = match flows.insert_hashed(&new, candidate.hashes, *now) {
            Ok(id) => id,
            Err(InsertError::Full) => return Some(candidate.ended(Verdict::Drop(DropReason::FlowTableFull))),
            Err(InsertError::Taken) => return Some(candidate.ended(Verdict::Drop(DropReason::InvalidState))),
        };
        counters.flows_created += 1;
        counters.hit_backend(new.backend);
        let flow = flows.flow_mut(id);
        flow.set_way(Side::Initiator, Some(to.to_way()));
        flow.set_way(Side::Responder, back.map(Departure::to_way));
        flows.account(id, Side::Initiator, usize::from(end) - L3, *now);
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
    fn look<F: Frame, const V6: bool, const TCP: bool, const N: usize>(
        &mut self,
        (bytes, end): (&[u8], u16),
        known: &Known<'_>,
        neighbors: &Neighbors<F>,
        lately: &mut [Lately; 2],
    ) -> Option<Fate> {
        let Known { snapshot, lane, .. } = known;
        let (head, rest): (&[u8; N], _) = bytes.split_first_chunk()?;
        let key = key::<V6, TCP, N>(head);
        if TCP {
            self.tcp = Some(opening::<N>(head, rest, end)?);
        } else {
            self.tcp = None;
            let ports = plain::half_word(head, N - if V6 { UDP_HEADER_LEN } else { TCP_HEADER_LEN });
            if lane.is_untrusted() && snapshot.guard.watches(ports) {
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
        (self.key, self.translated, self.target) = (key, key, None);
        self.is_limited = TCP && known.is_limiting && !from.standing.is_allowlisted;
        let mut at = to;
        if to.role == Role::Frontend {
            if TCP && !known.serves_tcp {
                return None;
            }
            match snapshot.balancer.select(&key) {
                Selection::NotAFrontend => return None,
                Selection::NoRule => return Some(Fate::Unserved(DropReason::DeniedByRule)),
                Selection::NoHealthyBackend => return Some(Fate::Unserved(DropReason::NoHealthyBackend)),
                Selection::Backend(target) => {
                    self.translated = target.translated_key(&key);
                    self.target = Some(target);
                    at = known.bearing::<V6>(&target.address);
                    if at.role != Role::Host {
                        return None;
                    }
                }
            }
        }
        let context = Context { load_balanced: self.target.is_some() };
        let location = self.target.map_or(key.dst, |target| target.address);
        self.judge = Judge::between(from.groups, at.groups, context);
        self.decision = match self.judge {
            Judge::Several => snapshot.policy.decide_at(&self.translated, context, location),
            _ => PASSES,
        };
        let ip_len = usize::from(end) - L3;
        self.ways = known.ways(neighbors, lately, [(at, location), (from, key.src)]);
        let is_too_long = |(to, _): &(Departure, _)| ip_len > known.room(to.port);
        if ip_hops::<V6, N>(head) <= 1 || self.ways.as_ref().is_some_and(is_too_long) {
            self.ways = None;
        }
        Some(Fate::Judged)
    }

    /// What its flow is made of.
    #[inline(always)]
    fn flow(&self, generation: u32) -> NewFlow {
        let (target, floats) = (self.target, self.target.is_some_and(|target| target.floating_ip));
        NewFlow {
            key: self.key,
            translated: self.translated.dst,
            translated_port: self.translated.dst_port,
            tcp: if floats { self.tcp.map(|_| TcpState::one_sided()) } else { self.tcp },
            rule: self.decision.rule,
            backend: target.map(|target| target.backend),
            generation,
            idle_timeout_ms: target.map(|target| target.idle_timeout_ms),
            tcp_reset: target.is_some_and(|target| target.tcp_reset),
        }
    }
}

impl Known<'_> {
    #[inline(always)]
    fn bearing<const V6: bool>(&self, address: &Addr) -> &Bearing {
        let bearings = &self.snapshot.bearings;
        let range = if V6 { bearings.of_v6(*address) } else { bearings.of_v4(address.bits() as u32) };
        bearings.known(range)
    }

    /// The ways to the packet's destination and back to its source. `None`: the stages have to look for them.
    #[inline(always)]
    fn ways<F: Frame>(
        &self,
        neighbors: &Neighbors<F>,
        lately: &mut [Lately; 2],
        [(to, location), (from, source)]: [(&Bearing, Addr); 2],
    ) -> Option<(Departure, Option<Departure>)> {
        let there = self.way(neighbors, &mut lately[0], to.next?, location)?;
        let back = match from.next {
            Some(next) => Some(self.way(neighbors, &mut lately[1], next, source)?),
            None => None,
        };
        Some((there, back))
    }

    #[inline(always)]
    fn way<F: Frame>(
        &self,
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

    /// The longest IP packet that surely leaves by a port as it is.
    #[inline(always)]
    fn room(&self, port: PortId) -> usize {
        self.exits.get(port.index()).map_or(0, |exit| exit.mtu().min(self.lane.room()).into())
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
