//! How flows end by themselves: idle timeouts, and backends that are drained. Where the configuration says so, both ends of an
//! established connection are reset.

use super::{Departure, Mark, Origin, Pipeline, Transmit};
use crate::addr::Mac;
use crate::emit::reset::{self, Reset};
use crate::flow::{Class, FlowId, FlowView, Side, Way};
use crate::route::NeighborId;
use crate::snapshot::Snapshot;
use crate::synproxy::HalfOpens;
use crate::time::Time;
use crate::verdict::BackendId;
use arrayvec::ArrayVec;
use core::time::Duration;
use pmd_shim::Frame;

/// Flows ended, or looked at, at once.
const BUDGET: usize = 64;
/// So many times as many where more are waiting: each packet of a burst can have made a flow, and each flow is looked at twice before it
/// ends, or more often where timeouts are long. So they end as fast as they begin.
const ROUNDS: usize = 3;

/// Backends whose connections are to be cut, and how far the search for these has come.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// Backend, and when its time is over.
    due: Vec<(BackendId, Time)>,
    /// The next record to look at, while a search goes on.
    cursor: Option<usize>,
}

/// What is left of an established connection: enough to reset its ends.
struct Farewell {
    ends: [(Reset, Option<Way>); 2],
    /// In a tunnel, between which stations the one to the initiator is: from, to.
    link: (Mac, Mac),
}

impl Farewell {
    /// Of a connection whose state is known well enough that its ends will believe a reset.
    fn of(view: &FlowView<'_>, half_opens: &HalfOpens) -> Option<Self> {
        let flow = view.flow;
        if flow.is_spliced() && view.splice.terms.is_half_open() {
            let link = half_opens.get(view.splice.mss).map_or_else(Default::default, |it| it.link);
            return Some(Self { link: (link.1, link.0), ..Self::half_open(view) });
        }
        (flow.class() == Class::TcpEstablished && !flow.returns_directly()).then(|| Self {
            ends: [Side::Initiator, Side::Responder]
                .map(|sender| (reset_from(view, sender), flow.way(sender))),
            link: Default::default(),
        })
    }
}

impl Farewell {
    /// Of one whose client thinks that it is connected, while the backend has not answered: nothing is to be said to that one.
    fn half_open(view: &FlowView<'_>) -> Self {
        let reset = Reset {
            seq: view.splice.seq.wrapping_add(1),
            ack: view.flow.tcp.first_seq().wrapping_add(1),
            ..reset_from(view, Side::Responder)
        };
        Self { ends: [(reset, view.flow.way(Side::Responder)), (reset, None)], link: Default::default() }
    }
}

/// A reset that looks like one from `sender`, as its peer would receive it.
fn reset_from(view: &FlowView<'_>, sender: Side) -> Reset {
    let flow = view.flow;
    let received = flow.key(sender.other()).reversed();
    let (seq, ack) = flow.tcp.reset_toward(sender.other());
    let is_counted_otherwise = sender == Side::Responder && flow.is_spliced();
    Reset {
        src: received.src,
        dst: received.dst,
        src_port: received.src_port,
        dst_port: received.dst_port,
        seq: if is_counted_otherwise { view.splice.to_client(seq) } else { seq },
        ack,
    }
}

impl Drains {
    /// Compares two generations: a backend that was set down or taken out drains from now on; one that is back does not.
    pub(super) fn update(&mut self, old: &Snapshot, new: &Snapshot, now: Time) {
        let leaves = |id| match new.balancer.shares().iter().find(|share| share.id == id) {
            Some(share) => share.set_down,
            None => true,
        };
        self.due.retain(|&(id, _)| leaves(id));
        for share in old.balancer.shares().iter().filter(|share| !share.set_down && leaves(share.id)) {
            if share.drain_period_ms != 0 {
                self.due.push((share.id, now + Duration::from_millis(share.drain_period_ms.into())));
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Time> {
        match self.cursor {
            Some(_) => Some(Time(0)),
            None => self.due.iter().map(|&(_, at)| at).min(),
        }
    }

    fn is_over(&self, backend: BackendId, now: Time) -> bool {
        self.due.iter().any(|&(id, at)| id == backend && at <= now)
    }
}

impl<F: Frame> Pipeline<F> {
    /// Ends flows whose idle timeout is over.
    pub(super) fn expire_flows<T: Transmit<F>>(&mut self, now: Time, tx: &mut T) {
        for _ in 0..ROUNDS {
            if self.expire_some(now, tx) {
                break;
            }
        }
    }

    /// Ends some of them; whether these were all.
    #[inline(never)]
    fn expire_some<T: Transmit<F>>(&mut self, now: Time, tx: &mut T) -> bool {
        let mut farewells: ArrayVec<Farewell, BUDGET> = ArrayVec::new();
        let half_opens = &self.proxy.half_opens;
        let mut budget = BUDGET;
        let ended = self.flows.expire(now, &mut budget, |view| {
            let is_half_open = view.flow.is_spliced() && view.splice.terms.is_half_open();
            if view.tcp_reset() || is_half_open {
                farewells.extend(Farewell::of(&view, half_opens));
            }
        });
        self.counters.flows_expired += ended as u64;
        // By reference: the list is large, and nearly always empty.
        for farewell in &farewells {
            self.reset_both(farewell, now, tx);
        }
        budget > 0
    }

    /// Cuts the connections of backends whose drain period is over, a few records a call.
    pub(super) fn drain<T: Transmit<F>>(&mut self, now: Time, tx: &mut T) {
        if self.drains.cursor.is_none() {
            if self.drains.due.iter().all(|&(_, at)| at > now) {
                return;
            }
            self.drains.cursor = Some(0);
        }
        let Some(cursor) = self.drains.cursor else { return };
        let (slice, next) = self.flows.slice(cursor, BUDGET);
        let over: ArrayVec<FlowId, BUDGET> = slice
            .filter(|(_, view)| view.flow.backend().is_some_and(|backend| self.drains.is_over(backend, now)))
            .map(|(id, _)| id)
            .collect();
        for id in over {
            let farewell = Farewell::of(&self.flows.view(id), &self.proxy.half_opens);
            self.flows.remove(id);
            if let Some(farewell) = farewell {
                self.reset_both(&farewell, now, tx);
            }
        }
        self.drains.cursor = next;
        if next.is_none() {
            self.drains.due.retain(|&(_, at)| at > now);
        }
    }

    fn reset_both<T: Transmit<F>>(&mut self, farewell: &Farewell, now: Time, tx: &mut T) {
        for (reset, way) in &farewell.ends {
            let Some(way) = way else { continue };
            if way.port.is_tunnel() {
                self.reset_tunnelled(reset, *way, farewell.link, now, tx);
                continue;
            }
            let Some(neighbor) = self.neighbors.mac(NeighborId::from_bits(way.neighbor)) else { continue };
            let Some(mut frame) = tx.allocate() else { return };
            if reset::write(&mut frame, reset, self.facts(way.port).mac, neighbor).is_ok() {
                self.originate(way.port, frame, tx);
            }
        }
    }

    /// The same into a tunnel.
    fn reset_tunnelled<T: Transmit<F>>(
        &mut self,
        reset: &Reset,
        way: Way,
        (from, to): (Mac, Mac),
        now: Time,
        tx: &mut T,
    ) {
        let Some(mut frame) = tx.allocate() else { return };
        if reset::write(&mut frame, reset, from, to).is_ok() {
            frame.set_mark(Mark { port: way.port, origin: Origin::Handshake }.to_bits());
            self.counters.originated += 1;
            self.send(frame, Departure::from_way(way), now, tx);
        }
    }
}
