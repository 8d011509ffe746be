//! What the worker does in a turn.

use super::lanes::Lanes;
use crate::compare::mode::Mode;
use crate::compare::{nva, rules, traffic};
use crate::firewall::{Firewall, LIFETIME_MS};
use crate::rig::load;
use crate::traffic::{Random, STATION};
use nva_dataplane::addr::Mac;
use nva_dataplane::names::Names;
use nva_dataplane::pipeline::{Options, Pipeline, Transmit};
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};
use nva_dataplane::time::Time;
use nva_dataplane::verdict::PortId;
use pmd_shim::dpdk::{DpdkPort, DpdkRx, DpdkTx, Mbuf, MbufPool};
use pmd_shim::{Burst, Frame, RxQueue};
use std::sync::Arc;
use std::time::Instant;

/// Turns for each look at what is wanted.
const TURNS: usize = 32;
/// The untrusted and the trusted port.
const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);

/// Something that is done in turns.
pub(super) trait Work {
    /// Some turns; frames received and sent so far.
    fn turns(&mut self, mode: Mode) -> (u64, u64);
}

fn queues(ports: Vec<DpdkPort>) -> (Vec<DpdkRx>, Vec<DpdkTx>, Vec<pmd_shim::dpdk::DpdkLink>) {
    let (mut rx, mut tx, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for port in ports {
        rx.extend(port.rx);
        tx.extend(port.tx);
        links.push(port.link);
    }
    (rx, tx, links)
}

/// Receives, swaps the Ethernet addresses, sends out of the other port: what a worker costs without a path.
pub(super) struct Floor {
    rx: Vec<DpdkRx>,
    outbox: Lanes,
    burst: Burst<Mbuf>,
    received: u64,
    refused: u64,
    _links: Vec<pmd_shim::dpdk::DpdkLink>,
}

impl Floor {
    pub(super) fn new(ports: Vec<DpdkPort>, pool: &MbufPool) -> Self {
        let (rx, tx, links) = queues(ports);
        Self { rx, outbox: Lanes::new(tx, pool), burst: Burst::new(), received: 0, refused: 0, _links: links }
    }
}

impl Work for Floor {
    fn turns(&mut self, _: Mode) -> (u64, u64) {
        let Self { rx, outbox, burst, received, refused, .. } = self;
        let ports = rx.len();
        for _ in 0..TURNS {
            for (index, queue) in rx.iter_mut().enumerate() {
                let out = PortId(((index + 1) % ports) as u16);
                *received += queue.receive(burst) as u64;
                burst.iter_mut().for_each(|frame| swap(frame.bytes_mut()));
                outbox.transmit_all(out, burst);
                outbox.send_many(|_, _| *refused += 1);
            }
            outbox.flush(|_, _| *refused += 1);
        }
        (*received, *received - *refused)
    }
}

/// Exchanges both Ethernet addresses: twelve bytes in two words, turned by six.
fn swap(frame: &mut [u8]) {
    if let Some((first, rest)) = frame.split_first_chunk_mut::<8>()
        && let Some((second, _)) = rest.split_first_chunk_mut::<4>()
    {
        let (low, high) = (u64::from_le_bytes(*first), u32::from_le_bytes(*second));
        *first = (low >> 48 | u64::from(high) << 16 | low << 48).to_le_bytes();
        *second = ((low >> 16) as u32).to_le_bytes();
    }
}

/// What makes a frame one of another flow: source address, source port, and the header's checksum with that address.
#[derive(Clone, Copy, Debug)]
struct Disguise {
    address: [u8; 4],
    port: [u8; 2],
    checksum: [u8; 2],
}

/// Receives a capture over and over, takes its packets through the appliance's path, sends them.
pub(super) struct Path {
    rx: DpdkRx,
    outbox: Lanes,
    /// For the flows of the capture alone, and for the others.
    pipelines: [Pipeline<Mbuf>; 2],
    epoch: Instant,
    disguises: Vec<Disguise>,
    next: usize,
    received: u64,
    refused: u64,
    _links: Vec<pmd_shim::dpdk::DpdkLink>,
}

impl Path {
    pub(super) fn new(
        ports: Vec<DpdkPort>,
        pool: &MbufPool,
        flows: usize,
        count: usize,
    ) -> Result<Self, String> {
        let (rx, tx, links) = queues(ports);
        let config = load(&nva::config_of("dpdk", ["net_null0", "net_null1"], &rules::rules(count), 0))?;
        let link = [Link { mac: Mac(STATION), mtu: 1500 }; 2];
        let mut names = Names::default();
        let options = BuildOptions { links: &link, down: &|_, _| false, names: &mut names, generation: 1 };
        let snapshot = Arc::new(Snapshot::build(&config, options));
        let epoch = Instant::now();
        let pipelines = [traffic::CAPTURE, flows.max(traffic::CAPTURE)].map(|flows| {
            let options = Options { flow_capacity: flows + 1024, seed: [7; 16], placement: Placement::ALONE };
            Pipeline::new(Arc::clone(&snapshot), &options, Time::default())
        });
        let mut rx = rx.into_iter();
        let rx = rx.next().ok_or("there is no device to receive from")?;
        if tx.len() <= INSIDE.index() {
            return Err("there is no device to send to".into());
        }
        let outbox = Lanes::new(tx, pool);
        let disguises = disguises(flows);
        Ok(Self { rx, outbox, pipelines, epoch, disguises, next: 0, received: 0, refused: 0, _links: links })
    }

    fn disguise(&mut self, burst: &mut Burst<Mbuf>) {
        for frame in burst.iter_mut() {
            let Disguise { address, port, checksum } = self.disguises[self.next];
            self.next = if self.next + 1 < self.disguises.len() { self.next + 1 } else { 0 };
            if let Some(header) = frame.bytes_mut().get_mut(24..36) {
                header[..2].copy_from_slice(&checksum);
                header[2..6].copy_from_slice(&address);
                header[10..].copy_from_slice(&port);
            }
        }
    }
}

/// Receives a capture over and over, each of whose packets is the first of a flow, takes them through the appliance's path, sends them.
pub(super) struct Firsts {
    rx: DpdkRx,
    outbox: Lanes,
    pipeline: Box<Pipeline<Mbuf>>,
    now: Time,
    received: u64,
    refused: u64,
    _links: Vec<pmd_shim::dpdk::DpdkLink>,
}

/// A flow's lifetime is over after so many packets: before its own comes again.
const LIVE: u64 = traffic::CAPTURE as u64 / 2;
/// What passes from one packet to the next.
const PACKET_NS: u64 = LIFETIME_MS * 1_000_000 / LIVE;

impl Firsts {
    pub(super) fn new(ports: Vec<DpdkPort>, pool: &MbufPool, firewall: &Firewall) -> Result<Self, String> {
        let (rx, tx, links) = queues(ports);
        let config = firewall.config("dpdk", ["net_null0", "net_null1"])?;
        let link = [Link { mac: Mac(STATION), mtu: 1500 }; 2];
        let mut names = Names::default();
        let options = BuildOptions { links: &link, down: &|_, _| false, names: &mut names, generation: 1 };
        let snapshot = Arc::new(Snapshot::build(&config, options));
        // Room for those that are still there when their time is over.
        let options =
            Options { flow_capacity: 2 * traffic::CAPTURE, seed: [7; 16], placement: Placement::ALONE };
        let pipeline = Box::new(Pipeline::new(snapshot, &options, Time::default()));
        let rx = rx.into_iter().next().ok_or("there is no device to receive from")?;
        if tx.len() <= INSIDE.index() {
            return Err("there is no device to send to".into());
        }
        let outbox = Lanes::new(tx, pool);
        Ok(Self { rx, outbox, pipeline, now: Time::default(), received: 0, refused: 0, _links: links })
    }
}

impl Work for Firsts {
    fn turns(&mut self, _: Mode) -> (u64, u64) {
        let Self { rx, outbox, pipeline, now, received, refused, .. } = self;
        for _ in 0..TURNS {
            let mut burst = Burst::new();
            let count = rx.receive(&mut burst) as u64;
            *received += count;
            *now = Time(now.0 + count * PACKET_NS);
            pipeline.process(*now, OUTSIDE, &mut burst, outbox, &mut ());
            pipeline.advance(*now, outbox);
            outbox.flush(|port, frame| {
                *refused += 1;
                pipeline.refused(port, frame);
            });
        }
        // Only what left as the first of a flow counts as sent.
        (*received, outbox.sent(INSIDE).min(pipeline.counters().flows_created))
    }
}

impl Work for Path {
    fn turns(&mut self, mode: Mode) -> (u64, u64) {
        for _ in 0..TURNS {
            let mut burst = Burst::new();
            self.received += self.rx.receive(&mut burst) as u64;
            if matches!(mode, Mode::Rewrite | Mode::RewritePath) {
                self.disguise(&mut burst);
            }
            let Self { outbox, pipelines: [few, many], refused, .. } = self;
            let pipeline = if mode == Mode::Path { few } else { many };
            if matches!(mode, Mode::Plain | Mode::Rewrite) {
                outbox.transmit_all(INSIDE, &mut burst);
            } else {
                let now = Time::default() + self.epoch.elapsed();
                pipeline.process(now, OUTSIDE, &mut burst, outbox, &mut ());
                pipeline.advance(now, outbox);
            }
            outbox.flush(|port, frame| {
                *refused += 1;
                pipeline.refused(port, frame);
            });
        }
        (self.received, self.outbox.sent(INSIDE))
    }
}

/// One of each flow, in random order.
fn disguises(flows: usize) -> Vec<Disguise> {
    let mut order: Vec<usize> = (0..flows).collect();
    Random(2).shuffle(&mut order);
    let disguise = |flow: usize| {
        let packet = traffic::whole_packet(flow);
        let part = |at: usize| [packet[at], packet[at + 1]];
        let [a, b] = part(26);
        let [c, d] = part(28);
        Disguise { address: [a, b, c, d], port: part(34), checksum: part(24) }
    };
    order.into_iter().map(disguise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_change_places() {
        let mut frame: Vec<u8> = (0..14).collect();
        swap(&mut frame);
        assert_eq!(frame, [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13]);
    }
}
