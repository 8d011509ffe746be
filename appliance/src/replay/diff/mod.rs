//! `nva diff`: the same captures through two configurations, side by side, and what becomes of each flow under one and the other.
//!
//! Both machines get each frame at its time, with the same seed. Whether a packet changes is read off its two verdict lines: verdict,
//! reason, rule and backend. Memory does not grow with the captures: of the flows that change, so many are listed and the rest counted.

mod flows;
mod report;

use super::Captured;
use super::inputs::{Inputs, random_seed};
use super::machine::{Machine, MachineOptions, Sink};
use super::plan::{Known, Plan};
use super::progress::Progress;
use super::verdicts::words;
use crate::cli::{DiffArgs, Seed};
use crate::files::{self, Depth};
use crate::output::{Failure, Style, complain, print, print_json};
use crate::unbuilt::{Purpose, unbuilt};
use flows::{Changes, Place, Seen, Subject};
use nva_config::{Config, Problem};
use nva_dataplane::addr::Mac;
use nva_dataplane::flow::Side;
use nva_dataplane::names::Names;
use nva_dataplane::pipeline::{Membership, Outcome, Transmit};
use nva_dataplane::snapshot::Link;
use nva_dataplane::time::Time;
use nva_dataplane::verdict::{BackendId, DropReason, PortId};
use nva_dataplane::wire::{self, FlowKey, Packet, Parsed, Transport};
use pmd_shim::{Pool, PoolFrame, RxOffload};
use report::Report;
use std::collections::HashMap;
use std::process::ExitCode;

/// Two configurations that do not differ, do, or could not be compared.
const NO_CHANGE: u8 = 0;
const SOME_CHANGE: u8 = 1;
const TROUBLE: u8 = 2;

/// Runs the command.
pub(crate) fn diff(args: &DiffArgs) -> ExitCode {
    ExitCode::from(match try_diff(args) {
        Ok(true) => SOME_CHANGE,
        Ok(false) => NO_CHANGE,
        Err(failure) => {
            failure.lines.iter().for_each(complain);
            TROUBLE
        }
    })
}

/// Whether any flow changes.
fn try_diff(args: &DiffArgs) -> Result<bool, Failure> {
    let (old, new) = match (load(&args.old.files), load(&args.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            let mut problems = old.err().unwrap_or_default();
            problems.extend(new.err().unwrap_or_default());
            problems.dedup();
            return Err(Failure::configuration(&problems));
        }
    };
    let known = Known::of_either(&old, &new);
    let plan = Plan::new(&args.captures, &known).map_err(Failure::usage_all)?;
    let inputs = Inputs::survey(&plan)?;
    let seed = args.captures.seed.map_or_else(random_seed, Ok)?;
    let mut names = Names::default();
    let (old, new) = (
        Half::new(&old, &known, &plan, &inputs, seed, &mut names)?,
        Half::new(&new, &known, &plan, &inputs, seed, &mut names)?,
    );
    let mut comparison =
        Comparison { old, new, backends: namesakes(&names), changes: Changes::default(), frames: 0, names };
    comparison.feed(&plan, &inputs, args)?;
    let report = Report::new(&comparison, &known, &plan, seed);
    if args.json {
        print_json(&report)?
    } else {
        print(&report.text(Style::stdout()))?
    }
    Ok(report.changed_packets > 0)
}

/// A configuration that can be replayed.
fn load(paths: &[std::path::PathBuf]) -> Result<Config, Vec<Problem>> {
    let config = files::load(paths, Depth::PacketPath)?;
    let in_the_way = unbuilt(&config, Purpose::Replay);
    if in_the_way.is_empty() { Ok(config) } else { Err(in_the_way) }
}

/// Nobody wants the frames themselves.
struct Discard(Pool);

impl Sink for Discard {
    fn begin(&mut self, _: Time) {}
}

impl Transmit<PoolFrame> for Discard {
    fn transmit(&mut self, _: PortId, _: PoolFrame) {}

    fn allocate(&mut self) -> Option<PoolFrame> {
        self.0.frame()
    }
}

/// One of the two.
struct Half {
    machine: Machine,
    sink: Discard,
    /// From the plan's ports to the configuration's own.
    ports: Vec<Option<PortId>>,
    /// The configuration's own ports to the plan's.
    places: Vec<PortId>,
    links: Vec<Link>,
}

impl Half {
    fn new(
        config: &Config,
        known: &Known<'_>,
        plan: &Plan,
        inputs: &Inputs,
        seed: Seed,
        names: &mut Names,
    ) -> Result<Self, Failure> {
        let own = |name: &str| config.ports.iter().position(|port| port.name == name).map(port_id);
        let place = |name: &str| known.ports.iter().position(|known| *known == name);
        let places = config.ports.iter().filter_map(|port| place(&port.name));
        let places: Vec<PortId> = places.map(port_id).collect();
        let links = inputs.links(config, |index| places.get(index).map(|place| place.index()));
        let options = MachineOptions {
            links: &links,
            down: &plan.down,
            names,
            data_room: inputs.data_room(&links),
            seed,
            start: inputs.start(),
        };
        let machine = Machine::new(config, options)?;
        let sink = Discard(machine.pool.clone());
        Ok(Self { machine, sink, ports: known.ports.iter().map(|name| own(name)).collect(), places, links })
    }

    fn own_port(&self, port: PortId) -> Option<PortId> {
        self.ports.get(port.index()).copied().flatten()
    }

    /// One frame at its time; `None` where the configuration has no such port.
    fn frame(&mut self, port: PortId, captured: &Captured) -> Result<Option<Outcome>, Failure> {
        self.machine.run_timers(Time(captured.time), &mut self.sink);
        match self.own_port(port) {
            Some(own) => self.machine.frame(own, captured, &mut self.sink),
            None => Ok(None),
        }
    }

    /// The flow of such packets, its port as the plan numbers it.
    fn flow_of(&self, key: &FlowKey) -> Option<Membership> {
        let flow = self.machine.pipeline.flow_of(key)?;
        let place = |port: PortId| self.places.get(port.index()).copied();
        Some(Membership { port: flow.port.and_then(place), ..flow })
    }

    /// What is in the tunnel that a frame comes by, if it does.
    fn inside(&self, port: PortId, captured: &Captured) -> Option<Result<Parsed, DropReason>> {
        if captured.truncated {
            return None;
        }
        self.machine.pipeline.inside(self.own_port(port)?, &captured.bytes)
    }

    fn station(&self, port: PortId) -> Option<Mac> {
        self.links.get(self.own_port(port)?.index()).map(|link| link.mac)
    }
}

fn port_id(index: usize) -> PortId {
    PortId(u16::try_from(index).unwrap_or(u16::MAX))
}

/// For each backend the first of the same name.
fn namesakes(names: &Names) -> Vec<BackendId> {
    let ids = || (0..u32::try_from(names.backend_count()).unwrap_or(u32::MAX)).map(BackendId);
    let mut first = HashMap::new();
    ids().map(|id| *first.entry(names.backend_name(id)).or_insert(id)).collect()
}

/// Both under way.
struct Comparison {
    old: Half,
    new: Half,
    changes: Changes,
    frames: u64,
    names: Names,
    /// For each backend the first of the same name: a verdict line shows no more of it than that.
    backends: Vec<BackendId>,
}

impl Comparison {
    fn feed(&mut self, plan: &Plan, inputs: &Inputs, args: &DiffArgs) -> Result<(), Failure> {
        let mut merged = inputs.merged(plan)?;
        let mut progress = Progress::new(inputs.frames());
        while let Some((capture, frame)) = merged.next()? {
            let Some(&(port, _)) = plan.inputs.get(capture) else { continue };
            self.frame(port, &frame)?;
            progress.at(self.frames);
        }
        for half in [&mut self.old, &mut self.new] {
            let until = half.machine.now + args.captures.linger;
            half.machine.run_timers(until, &mut half.sink);
        }
        Ok(())
    }

    fn frame(&mut self, port: PortId, captured: &Captured) -> Result<(), Failure> {
        self.frames += 1;
        let place = self.place(port, captured);
        let before = self.old.frame(port, captured)?.map(|outcome| self.seen(&outcome));
        let after = self.new.frame(port, captured)?.map(|outcome| self.seen(&outcome));
        if before != after {
            self.changes.note(self.frames, place, (before, after));
        }
        Ok(())
    }

    /// What a frame belongs to. Asked before the frame is processed, as that may end its flow.
    fn place(&self, port: PortId, captured: &Captured) -> Place {
        let offload = RxOffload { truncated: captured.truncated, ..RxOffload::default() };
        let station = self.old.station(port).or_else(|| self.new.station(port)).unwrap_or(Mac([0; 6]));
        let place = |subject| Place { subject, port, is_answer: false };
        let inside = self.old.inside(port, captured).or_else(|| self.new.inside(port, captured));
        match inside.unwrap_or_else(|| wire::parse(&captured.bytes, offload, station)) {
            Err(reason) => place(Subject::Kind(reason.name())),
            Ok(Parsed::Arp(_)) => place(Subject::Kind("arp")),
            Ok(Parsed::Ip(packet)) if packet.transport == Transport::LaterFragment => {
                place(Subject::Fragments(packet.key))
            }
            Ok(Parsed::Ip(Packet { key, .. })) => {
                match self.old.flow_of(&key).or_else(|| self.new.flow_of(&key)) {
                    Some(flow) if flow.side == Side::Responder => Place {
                        subject: Subject::Flow(flow.initiator),
                        port: flow.port.unwrap_or(port),
                        is_answer: true,
                    },
                    _ => place(Subject::Flow(key)),
                }
            }
        }
    }

    fn seen(&self, outcome: &Outcome) -> Seen {
        let (verdict, reason) = words(outcome.verdict);
        let backend = outcome.backend.map(|id| self.backends.get(id.0 as usize).copied().unwrap_or(id));
        Seen { verdict, reason, rule: outcome.rule, backend }
    }
}
