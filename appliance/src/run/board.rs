//! Where a worker shows its counters, and everybody else reads them.
//!
//! A board has one writer, the worker, and any number of readers. The writer never waits: it stores every number with relaxed
//! ordering between two steps of a sequence number, and a reader that sees the sequence move reads again. What a reader gets is
//! therefore one moment of the worker, at a burst boundary, where received = the sum of all verdicts.
//!
//! A board has room for the rules and backends of one generation; a later generation comes with a board of its own.

use crossbeam::utils::CachePadded;
use nva_dataplane::counters::{Counters, HostCounters, PortCounters, RuleHits, SynCounters, TunnelCounters};
use nva_dataplane::synproxy::Watched;
use nva_dataplane::time::Time;
use nva_dataplane::verdict::DropReason;
use pmd_shim::QueueCounters;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What one worker counted up to a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Counters of the path.
    pub(crate) counters: Counters,
    /// Those of tunnels, by [`PortId::tunnel_index`](nva_dataplane::verdict::PortId::tunnel_index).
    pub(crate) tunnels: Vec<TunnelCounters>,
    /// Live flow records.
    pub(crate) flows: u64,
    /// What is flooded, so that its clients have to prove themselves.
    pub(crate) flooded: Vec<Watched>,
    /// What the receive queues counted, by port.
    pub(crate) rx: Vec<QueueCounters>,
    /// What the transmit queues counted, by port.
    pub(crate) tx: Vec<QueueCounters>,
}

impl Reading {
    /// Adds another worker's counters.
    pub(crate) fn add(&mut self, other: &Self) {
        grow(&mut self.counters.ports, other.counters.ports.len());
        for (sum, port) in self.counters.ports.iter_mut().zip(&other.counters.ports) {
            add_port(sum, port);
        }
        grow(&mut self.tunnels, other.tunnels.len());
        for (sum, tunnel) in self.tunnels.iter_mut().zip(&other.tunnels) {
            sum.received += tunnel.received;
            sum.dropped += tunnel.dropped;
            sum.transmitted += tunnel.transmitted;
        }
        grow(&mut self.counters.rule_hits, other.counters.rule_hits.len());
        for (sum, hits) in self.counters.rule_hits.iter_mut().zip(&other.counters.rule_hits) {
            sum.add(hits);
        }
        add_all(&mut self.counters.backend_flows, &other.counters.backend_flows);
        self.counters.flows_created += other.counters.flows_created;
        self.counters.flows_expired += other.counters.flows_expired;
        self.counters.originated += other.counters.originated;
        let mut syn = self.counters.syn.numbers();
        syn.iter_mut().zip(other.counters.syn.numbers()).for_each(|(total, number)| *total += number);
        self.counters.syn = SynCounters::from_numbers(syn);
        let (profiles, others) = (&mut self.counters.backend_profiles, &other.counters.backend_profiles);
        grow(profiles, others.len());
        // What one worker learnt is as good as what another did.
        profiles.iter_mut().zip(others).for_each(|(known, other)| *known = (*known).max(*other));
        self.flows += other.flows;
        let news = other.flooded.iter().filter(|watched| !self.flooded.contains(watched));
        let news: Vec<Watched> = news.copied().collect();
        self.flooded.extend(news);
        for (queues, others) in [(&mut self.rx, &other.rx), (&mut self.tx, &other.tx)] {
            grow(queues, others.len());
            for (sum, queue) in queues.iter_mut().zip(others) {
                sum.packets += queue.packets;
                sum.bytes += queue.bytes;
                sum.missed += queue.missed;
                sum.no_buffer += queue.no_buffer;
                sum.errors += queue.errors;
            }
        }
    }
}

/// Adds one port's counters to another's.
pub(crate) fn add_port(sum: &mut PortCounters, port: &PortCounters) {
    sum.received += port.received;
    sum.forwarded += port.forwarded;
    sum.replied += port.replied;
    sum.consumed += port.consumed;
    sum.held += port.held;
    sum.transmitted += port.transmitted;
    for (total, dropped) in sum.dropped.iter_mut().zip(&port.dropped) {
        *total += dropped;
    }
    let mut host = sum.host.numbers();
    host.iter_mut().zip(port.host.numbers()).for_each(|(total, number)| *total += number);
    sum.host = HostCounters::from_numbers(host);
}

fn add_all(sums: &mut Vec<u64>, numbers: &[u64]) {
    grow(sums, numbers.len());
    for (sum, number) in sums.iter_mut().zip(numbers) {
        *sum += number;
    }
}

fn grow<T: Clone + Default>(list: &mut Vec<T>, len: usize) {
    if list.len() < len {
        list.resize(len, T::default());
    }
}

/// One worker's board.
pub(crate) struct Board {
    /// Odd while the worker writes; 0 until it has written for the first time.
    sequence: CachePadded<AtomicU64>,
    numbers: Box<[AtomicU64]>,
    room: Room,
    /// What may be flooded, a number each.
    watched: Box<[Watched]>,
}

/// For how many of each a board has room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    pub(crate) ports: usize,
    pub(crate) tunnels: usize,
    pub(crate) rules: usize,
    pub(crate) backends: usize,
}

const SCALARS: usize = 4 + SynCounters::COUNT;
const PORT_NUMBERS: usize = 6 + DropReason::COUNT + HOST;
const HOST: usize = 5;
const QUEUE: usize = 5;
const RULE: usize = 2;
const TUNNEL: usize = 3;

impl Board {
    /// A board on which nothing is written yet.
    pub(crate) fn new(room: Room, watched: Box<[Watched]>) -> Self {
        let Room { ports, tunnels, rules, backends } = room;
        let counters = ports * (PORT_NUMBERS + 2 * QUEUE) + tunnels * TUNNEL + rules * RULE + 2 * backends;
        let len = SCALARS + counters + watched.len();
        Self {
            sequence: CachePadded::default(),
            numbers: (0..len).map(|_| AtomicU64::new(0)).collect(),
            room,
            watched,
        }
    }

    /// Writes everything, without waiting and without allocating. What the board has no room for is left out; what is missing is 0.
    pub(crate) fn write(
        &self,
        counters: &Counters,
        tunnels: impl Iterator<Item = TunnelCounters>,
        flows: usize,
        queues: impl Iterator<Item = (QueueCounters, QueueCounters)>,
        is_flooded: impl Fn(Watched) -> bool,
    ) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let mut cells = self.numbers.iter();
        let mut put = |number: u64| {
            if let Some(cell) = cells.next() {
                cell.store(number, Ordering::Relaxed);
            }
        };
        put(counters.flows_created);
        put(counters.flows_expired);
        put(counters.originated);
        put(u64::try_from(flows).unwrap_or(u64::MAX));
        counters.syn.numbers().into_iter().for_each(&mut put);
        let mut queues = queues.fuse();
        let nothing = PortCounters::default();
        for index in 0..self.room.ports {
            let port = counters.ports.get(index).unwrap_or(&nothing);
            let verdicts =
                [port.received, port.forwarded, port.replied, port.consumed, port.held, port.transmitted];
            verdicts.into_iter().chain(port.dropped).chain(port.host.numbers()).for_each(&mut put);
            let (rx, tx) = queues.next().unwrap_or_default();
            for queue in [rx, tx] {
                [queue.packets, queue.bytes, queue.missed, queue.no_buffer, queue.errors]
                    .into_iter()
                    .for_each(&mut put);
            }
        }
        let mut tunnels = tunnels.fuse();
        for _ in 0..self.room.tunnels {
            let TunnelCounters { received, dropped, transmitted } = tunnels.next().unwrap_or_default();
            [received, dropped, transmitted].into_iter().for_each(&mut put);
        }
        for index in 0..self.room.rules {
            let RuleHits { count, last } = counters.rule_hits.get(index).copied().unwrap_or_default();
            put(count);
            put(last.0);
        }
        for list in [&counters.backend_flows, &counters.backend_profiles] {
            (0..self.room.backends).for_each(|index| put(list.get(index).copied().unwrap_or(0)));
        }
        self.watched.iter().for_each(|watched| put(is_flooded(*watched).into()));
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Whether the worker has written to it.
    pub(crate) fn is_written(&self) -> bool {
        self.sequence.load(Ordering::Acquire) >= 2
    }

    /// What stood there at one moment; `None` when the worker wrote again and again while it was read, which takes a reader that is
    /// stopped in the middle each time.
    pub(crate) fn read(&self) -> Option<Reading> {
        for _ in 0..1000 {
            let before = self.sequence.load(Ordering::Acquire);
            if before % 2 == 1 {
                std::thread::yield_now();
                continue;
            }
            let numbers: Vec<u64> = self.numbers.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
            fence(Ordering::Acquire);
            if self.sequence.load(Ordering::Relaxed) == before {
                return Some(self.sort(&numbers));
            }
        }
        None
    }

    /// From the row of numbers back to their meaning, in the order of [`write`](Self::write).
    fn sort(&self, numbers: &[u64]) -> Reading {
        let mut numbers = numbers.iter().copied();
        let mut take = || numbers.next().unwrap_or(0);
        let mut reading = Reading::default();
        reading.counters.flows_created = take();
        reading.counters.flows_expired = take();
        reading.counters.originated = take();
        reading.flows = take();
        reading.counters.syn = SynCounters::from_numbers(std::array::from_fn(|_| take()));
        for _ in 0..self.room.ports {
            let mut port = PortCounters {
                received: take(),
                forwarded: take(),
                replied: take(),
                consumed: take(),
                held: take(),
                transmitted: take(),
                ..PortCounters::default()
            };
            port.dropped.iter_mut().for_each(|dropped| *dropped = take());
            port.host = HostCounters::from_numbers(std::array::from_fn(|_| take()));
            reading.counters.ports.push(port);
            for list in [&mut reading.rx, &mut reading.tx] {
                list.push(QueueCounters {
                    packets: take(),
                    bytes: take(),
                    missed: take(),
                    no_buffer: take(),
                    errors: take(),
                });
            }
        }
        for _ in 0..self.room.tunnels {
            let (received, dropped, transmitted) = (take(), take(), take());
            reading.tunnels.push(TunnelCounters { received, dropped, transmitted });
        }
        let Room { rules, backends, .. } = self.room;
        reading.counters.rule_hits =
            (0..rules).map(|_| RuleHits { count: take(), last: Time(take()) }).collect();
        reading.counters.backend_flows = (0..backends).map(|_| take()).collect();
        reading.counters.backend_profiles = (0..backends).map(|_| take()).collect();
        reading.flooded = self.watched.iter().copied().filter(|_| take() != 0).collect();
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::addr::Addr;

    /// Counters in which every number is another, so that a swapped pair shows.
    const WATCHED: [Watched; 2] =
        [Watched::Frontend(Addr::v4([203, 0, 113, 10])), Watched::Subnet(Addr::v4([10, 2, 0, 0]))];

    fn numbered(
        ports: usize,
        rules: usize,
        backends: usize,
    ) -> (Counters, Vec<TunnelCounters>, Vec<(QueueCounters, QueueCounters)>) {
        let mut next = 100;
        let mut number = || {
            next += 1;
            next
        };
        let mut queue = || QueueCounters {
            packets: number(),
            bytes: number(),
            missed: number(),
            no_buffer: number(),
            errors: number(),
        };
        let queues = (0..ports).map(|_| (queue(), queue())).collect();
        let ports = (0..ports)
            .map(|_| PortCounters {
                received: number(),
                forwarded: number(),
                replied: number(),
                consumed: number(),
                held: number(),
                dropped: std::array::from_fn(|_| number()),
                transmitted: number(),
                host: HostCounters::from_numbers(std::array::from_fn(|_| number())),
            })
            .collect();
        let tunnels = (0..2)
            .map(|_| TunnelCounters { received: number(), dropped: number(), transmitted: number() })
            .collect();
        let counters = Counters {
            ports,
            rule_hits: (0..rules).map(|_| RuleHits { count: number(), last: Time(number()) }).collect(),
            backend_flows: (0..backends).map(|_| number()).collect(),
            backend_profiles: (0..backends).map(|_| number()).collect(),
            syn: SynCounters::from_numbers(std::array::from_fn(|_| number())),
            flows_created: number(),
            flows_expired: number(),
            originated: number(),
        };
        (counters, tunnels, queues)
    }

    #[test]
    fn what_was_written_is_read() {
        let (counters, tunnels, queues) = numbered(2, 3, 1);
        let board = Board::new(Room { ports: 2, tunnels: 2, rules: 3, backends: 1 }, WATCHED.into());
        assert!(!board.is_written());
        board.write(&counters, tunnels.iter().copied(), 7, queues.iter().copied(), |it| it == WATCHED[1]);
        assert!(board.is_written());
        let (rx, tx) = queues.into_iter().unzip();
        assert_eq!(
            board.read(),
            Some(Reading { counters, tunnels, flows: 7, flooded: vec![WATCHED[1]], rx, tx })
        );
    }

    #[test]
    fn lists_shorter_and_longer_than_the_board_fit() {
        let (counters, tunnels, queues) = numbered(1, 2, 2);
        let board = Board::new(Room { ports: 2, tunnels: 1, rules: 1, backends: 3 }, Box::default());
        board.write(&counters, tunnels.iter().copied(), 0, queues.into_iter(), |_| true);
        let Reading { counters: read, tunnels: read_tunnels, .. } =
            board.read().expect("nobody writes meanwhile");
        assert_eq!(read.ports, [counters.ports[0].clone(), PortCounters::default()]);
        assert_eq!(read.rule_hits, counters.rule_hits[..1]);
        assert_eq!(read_tunnels, tunnels[..1]);
        assert_eq!(read.backend_flows, [counters.backend_flows[0], counters.backend_flows[1], 0]);
    }

    #[test]
    fn sums_are_taken_number_by_number() {
        let (counters, tunnels, queues) = numbered(2, 3, 1);
        let (rx, tx) = queues.into_iter().unzip();
        let one = Reading { counters, tunnels, flows: 5, flooded: WATCHED.into(), rx, tx };
        let mut sum = Reading::default();
        sum.add(&one);
        assert_eq!(sum, one);
        sum.add(&one);
        assert_eq!(sum.flows, 10);
        assert_eq!(sum.tx[1].errors, 2 * one.tx[1].errors);
        let doubled: Vec<u64> = one.counters.ports[1].dropped.iter().map(|n| 2 * n).collect();
        assert_eq!(sum.counters.ports[1].dropped.as_slice(), doubled);
        let hits = one.counters.rule_hits[2];
        assert_eq!(sum.counters.rule_hits[2], RuleHits { count: 2 * hits.count, last: hits.last });
    }

    #[test]
    fn a_reader_never_sees_half_of_two_writings() {
        let board = Board::new(Room { ports: 1, ..Room::default() }, Box::default());
        let rounds = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut counters = Counters { ports: vec![PortCounters::default()], ..Counters::default() };
                for round in 1..=rounds {
                    counters.flows_created = round;
                    counters.ports[0].received = round;
                    counters.ports[0].forwarded = round;
                    board.write(&counters, std::iter::empty(), 0, std::iter::empty(), |_| false);
                }
            });
            let mut last = 0;
            while last < rounds {
                let Some(reading) = board.read() else { continue };
                let port = &reading.counters.ports[0];
                assert_eq!(port.received, port.verdicts());
                assert_eq!(port.received, reading.counters.flows_created);
                assert!(port.received >= last);
                last = port.received;
            }
        });
    }
}
