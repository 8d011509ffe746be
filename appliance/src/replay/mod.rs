//! `nva replay`: capture files through the same pipeline as packets, on the captures' own clock. `nva diff`: through two of them.
//!
//! Decides nothing about a packet: it feeds frames by time, runs the timers between them, and writes down what comes out. The same
//! configuration, captures and seed give the same bytes. Probes do not run, devices are not touched, and neither is the real clock.
//! Memory does not grow with the captures.

mod capture;
mod diff;
mod inputs;
mod machine;
mod order;
mod outputs;
mod plan;
mod progress;
mod station;
mod summary;
mod verdicts;

pub(crate) use diff::diff;

use crate::cli::{ReplayArgs, Seed};
use crate::files::{self, Depth};
use crate::output::{Failure, NewFile, Style, conclude, print, print_json};
use crate::unbuilt::{Purpose, unbuilt};
use capture::Captured;
use inputs::{Inputs, random_seed};
use machine::{Machine, MachineOptions};
use nva_config::Config;
use nva_dataplane::names::Names;
use nva_dataplane::snapshot::Link;
use nva_dataplane::time::Time;
use nva_dataplane::verdict::PortId;
use outputs::Outputs;
use plan::{Known, Plan};
use progress::Progress;
use std::path::PathBuf;
use std::process::ExitCode;
use summary::{PortSummary, Summary};

/// More frames than the path ever keeps: packets that wait for a neighbour, fragments that wait for their first.
const POOL_FRAMES: usize = 4096;
const ETHERNET_HEADER_BYTES: usize = 14;

/// Runs the command.
pub(crate) fn replay(args: &ReplayArgs) -> ExitCode {
    conclude(try_replay(args))
}

fn try_replay(args: &ReplayArgs) -> Result<(), Failure> {
    let mut config =
        files::load(&args.config.files, Depth::PacketPath).map_err(|all| Failure::configuration(&all))?;
    // The seed fixes every secret.
    config.protection.cookie_secret = None;
    let in_the_way = unbuilt(&config, Purpose::Replay);
    if !in_the_way.is_empty() {
        return Err(Failure::configuration(&in_the_way));
    }
    let plan = plan(&config, args)?;
    let inputs = Inputs::survey(&plan)?;
    let seed = args.captures.seed.map_or_else(random_seed, Ok)?;
    let mut run = Run::new(&config, &plan, &inputs, seed, args)?;
    let span_ns = run.feed(&plan, &inputs, args)?;
    let summary = run.finish(seed, span_ns)?;
    if args.json { print_json(&summary) } else { print(&summary.text(Style::stdout())) }
}

/// What the command line asks for, or all that is wrong with it.
fn plan(config: &Config, args: &ReplayArgs) -> Result<Plan, Failure> {
    let plan = Plan::new(&args.captures, &Known::of(config));
    let clash = |verdicts: &PathBuf| {
        config.ports.iter().any(|port| outputs::path(&args.out, &port.name) == *verdicts)
    };
    match args.verdicts.as_ref().filter(|verdicts| clash(verdicts)) {
        None => plan.map_err(Failure::usage_all),
        Some(verdicts) => {
            let shown = verdicts.display();
            let wrong = format!("--verdicts {shown}: --out writes a port's frames there; give another name");
            Err(Failure::usage_all(plan.err().unwrap_or_default().into_iter().chain([wrong])))
        }
    }
}

/// A replay under way.
struct Run {
    machine: Machine,
    outputs: Outputs,
    verdicts: Option<NewFile>,
    ports: Vec<String>,
    links: Vec<Link>,
}

impl Run {
    fn new(
        config: &Config,
        plan: &Plan,
        inputs: &Inputs,
        seed: Seed,
        args: &ReplayArgs,
    ) -> Result<Self, Failure> {
        let links = inputs.links(config, Some);
        let options = MachineOptions {
            links: &links,
            down: &plan.down,
            names: &mut Names::default(),
            data_room: inputs.data_room(&links),
            seed,
            start: inputs.start(),
        };
        let machine = Machine::new(config, options)?;
        let ports: Vec<String> = config.ports.iter().map(|port| port.name.clone()).collect();
        // What a segment sends is in the capture of the port that carries it.
        let on_devices = config.ports.iter().filter(|port| port.vxlan.is_none()).count();
        let outputs = Outputs::create(&args.out, &ports[..on_devices], machine.pool.clone())?;
        let verdicts = args.verdicts.as_deref().map(NewFile::create).transpose()?;
        Ok(Self { machine, outputs, verdicts, ports, links })
    }

    /// Feeds all captures, then lets the clock run on; returns the time between the first frame and the last in nanoseconds.
    fn feed(&mut self, plan: &Plan, inputs: &Inputs, args: &ReplayArgs) -> Result<u64, Failure> {
        let mut merged = inputs.merged(plan)?;
        let start = self.machine.now;
        let mut progress = Progress::new(inputs.frames());
        while let Some((capture, frame)) = merged.next()? {
            let Some((port, _)) = plan.inputs.get(capture) else { continue };
            self.machine.run_timers(Time(frame.time), &mut self.outputs);
            self.frame(*port, &frame)?;
            progress.at(self.machine.frames);
        }
        let end = self.machine.now;
        self.machine.run_timers(end + args.captures.linger, &mut self.outputs);
        self.outputs.check()?;
        Ok(end.0 - start.0)
    }

    /// One frame, at the present time.
    fn frame(&mut self, port: PortId, captured: &Captured) -> Result<(), Failure> {
        let outcome = self.machine.frame(port, captured, &mut self.outputs)?;
        self.outputs.check()?;
        if let (Some(file), Some(outcome)) = (&mut self.verdicts, outcome) {
            let line = verdicts::Line {
                frame: self.machine.frames,
                time_ns: self.machine.now.0,
                port,
                outcome,
                sent: self.outputs.sent(),
            };
            let written = line.write(file, &self.ports, self.machine.snapshot.names());
            written.map_err(|error| Failure::failed(format!("{}: {error}", file.path().display())))?;
        }
        Ok(())
    }

    /// Gives every file its name, and sums up.
    fn finish(mut self, seed: Seed, span_ns: u64) -> Result<Summary, Failure> {
        let counters = &self.machine.pipeline.counters().ports;
        let ports = self.ports.iter().zip(&self.links).zip(counters);
        let ports = ports.map(|((name, link), counters)| PortSummary::new(name, link.mac, counters));
        let summary = Summary::new(seed.to_string(), span_ns, ports.collect());
        // All bytes first, then all names: a full disk leaves neither half a file nor half of the files.
        self.outputs.sync()?;
        if let Some(file) = &mut self.verdicts {
            file.finish()?;
        }
        self.outputs.finish()?;
        self.verdicts.map_or(Ok(()), NewFile::commit)?;
        Ok(summary)
    }
}
