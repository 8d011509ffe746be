//! `nva replay`: capture files through the same pipeline as packets, on the captures' own clock.
//!
//! Decides nothing about a packet: it feeds frames by time, runs the timers between them, and writes down what comes out. The same
//! configuration, captures and seed give the same bytes. Probes do not run, devices are not touched, and neither is the real clock.
//! Memory does not grow with the captures.

mod capture;
mod order;
mod outputs;
mod plan;
mod progress;
mod station;
mod summary;
mod verdicts;

use crate::cli::{ReplayArgs, Seed};
use crate::files::{self, Depth};
use crate::output::{Failure, NewFile, Style, complain, conclude, print, print_json};
use crate::unbuilt::{Purpose, unbuilt};
use capture::{Capture, Captured, Survey};
use nva_config::Config;
use nva_dataplane::names::Names;
use nva_dataplane::pipeline::{Observer, Options, Outcome, Pipeline};
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};
use nva_dataplane::time::Time;
use nva_dataplane::verdict::PortId;
use order::{Merged, Ordered};
use outputs::Outputs;
use plan::Plan;
use pmd_shim::{Burst, Frame, Pool, PoolFrame, PoolOptions};
use progress::Progress;
use station::Election;
use std::fs::File;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use summary::{PortSummary, Summary};

/// More frames than the path ever keeps: packets that wait for a neighbour, fragments that wait for their first.
const POOL_FRAMES: usize = 4096;
const ETHERNET_HEADER_BYTES: usize = 14;

/// Runs the command.
pub(crate) fn replay(args: &ReplayArgs) -> ExitCode {
    conclude(try_replay(args))
}

fn try_replay(args: &ReplayArgs) -> Result<(), Failure> {
    let config =
        files::load(&args.config.files, Depth::PacketPath).map_err(|all| Failure::configuration(&all))?;
    let in_the_way = unbuilt(&config, Purpose::Replay);
    if !in_the_way.is_empty() {
        return Err(Failure::configuration(&in_the_way));
    }
    let plan = Plan::new(&config, args)?;
    let inputs = Inputs::survey(&config, &plan)?;
    let seed = args.seed.map_or_else(random_seed, Ok)?;
    let mut run = Run::new(&config, &plan, &inputs, seed, args)?;
    let span_ns = run.feed(&plan, &inputs, args)?;
    let summary = run.finish(&inputs, seed, span_ns)?;
    if args.json { print_json(&summary) } else { print(&summary.text(Style::stdout())) }
}

/// What one reading of all captures tells.
struct Inputs {
    /// By the place of the capture in the plan.
    surveys: Vec<Survey>,
    /// The ports' links, by [`PortId::index`].
    links: Vec<Link>,
    longest: usize,
}

impl Inputs {
    fn survey(config: &Config, plan: &Plan) -> Result<Self, Failure> {
        let mut elections: Vec<Election> = config.ports.iter().map(|_| Election::default()).collect();
        let mut surveys = Vec::new();
        for (port, path) in &plan.inputs {
            let mut capture = Capture::open(path)?;
            if let Some(election) = elections.get_mut(port.index()) {
                surveys.push(Survey::of(&mut capture, election)?);
            }
        }
        let ports = config.ports.iter().zip(&plan.macs).zip(&elections).enumerate();
        let links = ports.map(|(index, ((port, given), election))| Link {
            mac: given.or_else(|| election.winner()).unwrap_or_else(|| station::default_address(index)),
            mtu: port.mtu,
        });
        let longest = surveys.iter().map(|survey| survey.longest).max().unwrap_or(0);
        Ok(Self { links: links.collect(), longest, surveys })
    }

    /// The time of the first frame of all; 0 where there is none.
    fn start(&self) -> Time {
        Time(self.surveys.iter().filter_map(|survey| survey.earliest).min().unwrap_or(0))
    }

    fn frames(&self) -> u64 {
        self.surveys.iter().map(|survey| survey.frames).sum()
    }

    /// Every frame of the captures, every packet that a port may send.
    fn data_room(&self) -> usize {
        let mtu = self.links.iter().map(|link| usize::from(link.mtu)).max().unwrap_or(0);
        self.longest.max(mtu + ETHERNET_HEADER_BYTES).min(Pool::DATA_ROOM_MAX)
    }
}

/// Secrets for a run that is not repeated, unless somebody wants to: it is printed.
fn random_seed() -> Result<Seed, Failure> {
    let mut seed = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    read.map_err(|error| Failure::failed(format!("/dev/urandom: {error}; give a --seed")))?;
    let seed = Seed(seed);
    complain(format_args!("--seed {seed} repeats this replay"));
    Ok(seed)
}

/// A replay under way.
struct Run {
    pipeline: Pipeline<PoolFrame>,
    snapshot: Arc<Snapshot>,
    pool: Pool,
    outputs: Outputs,
    verdicts: Option<NewFile>,
    ports: Vec<String>,
    /// Frames so far.
    frames: u64,
    now: Time,
}

/// Keeps the outcome of the one frame of a burst.
struct Kept(Option<Outcome>);

impl Observer for Kept {
    fn decided(&mut self, _: usize, outcome: &Outcome) {
        self.0 = Some(*outcome);
    }
}

impl Run {
    fn new(
        config: &Config,
        plan: &Plan,
        inputs: &Inputs,
        seed: Seed,
        args: &ReplayArgs,
    ) -> Result<Self, Failure> {
        let down = |_: &str, backend: &str| plan.down.iter().any(|down| down == backend);
        let options =
            BuildOptions { links: &inputs.links, down: &down, names: &mut Names::default(), generation: 1 };
        let snapshot = Arc::new(Snapshot::build(config, options));
        let pool = Pool::new(PoolOptions { frames: POOL_FRAMES, data_room: inputs.data_room() });
        let pool = pool.map_err(Failure::failed)?;
        let ports: Vec<String> = config.ports.iter().map(|port| port.name.clone()).collect();
        let outputs = Outputs::create(&args.out, &ports, pool.clone())?;
        let verdicts = args.verdicts.as_deref().map(NewFile::create).transpose()?;
        let options = Options {
            flow_capacity: config.dataplane.flow_capacity,
            seed: seed.0,
            placement: Placement::ALONE,
        };
        let now = inputs.start();
        let pipeline = Pipeline::new(Arc::clone(&snapshot), &options, now);
        Ok(Self { pipeline, snapshot, pool, outputs, verdicts, ports, frames: 0, now })
    }

    /// Feeds all captures, then lets the clock run on; returns the time between the first frame and the last in nanoseconds.
    fn feed(&mut self, plan: &Plan, inputs: &Inputs, args: &ReplayArgs) -> Result<u64, Failure> {
        let captures = plan
            .inputs
            .iter()
            .zip(&inputs.surveys)
            .map(|((_, path), survey)| Ok(Ordered::new(Capture::open(path)?, path, survey.disorder_ns)));
        let mut merged = Merged::new(captures.collect::<Result<_, Failure>>()?)?;
        let start = self.now;
        let mut progress = Progress::new(inputs.frames());
        while let Some((capture, frame)) = merged.next()? {
            let Some((port, _)) = plan.inputs.get(capture) else { continue };
            self.run_timers(Time(frame.time));
            self.frame(*port, &frame)?;
            progress.at(self.frames);
        }
        let end = self.now;
        self.run_timers(end + args.linger);
        self.outputs.check()?;
        Ok(end.0 - start.0)
    }

    /// Brings the clock to `until`, running every timer at its own time. The clock never goes back.
    fn run_timers(&mut self, until: Time) {
        while let Some(due) = self.pipeline.next_timer().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.outputs.begin(self.now);
            self.pipeline.advance(self.now, &mut self.outputs);
        }
        self.now = self.now.max(until);
    }

    /// One frame, at the present time.
    fn frame(&mut self, port: PortId, captured: &Captured) -> Result<(), Failure> {
        self.frames += 1;
        let Some(frame) = self.buffer(captured) else {
            return Err(Failure::failed(format!("no packet buffer is free for frame {}", self.frames)));
        };
        let mut burst = Burst::new();
        burst.push(frame);
        let mut kept = Kept(None);
        self.outputs.begin(self.now);
        self.pipeline.process(self.now, port, &mut burst, &mut self.outputs, &mut kept);
        self.outputs.check()?;
        if let (Some(file), Some(outcome)) = (&mut self.verdicts, kept.0) {
            let line = verdicts::Line {
                frame: self.frames,
                time_ns: self.now.0,
                port,
                outcome,
                sent: self.outputs.sent(),
            };
            let written = line.write(file, &self.ports, self.snapshot.names());
            written.map_err(|error| Failure::failed(format!("{}: {error}", file.path().display())))?;
        }
        Ok(())
    }

    /// The frame in a buffer. What no buffer holds is cut off, and marked like what the capture itself cut off.
    fn buffer(&self, captured: &Captured) -> Option<PoolFrame> {
        let bytes = captured.bytes.get(..self.pool.data_room()).unwrap_or(&captured.bytes);
        let mut frame = self.pool.copy_from(bytes)?;
        let mut offload = frame.offload();
        offload.truncated = captured.truncated || bytes.len() < captured.bytes.len();
        frame.set_offload(offload);
        Some(frame)
    }

    /// Gives every file its name, and sums up.
    fn finish(mut self, inputs: &Inputs, seed: Seed, span_ns: u64) -> Result<Summary, Failure> {
        let counters = &self.pipeline.counters().ports;
        let ports = self.ports.iter().zip(&inputs.links).zip(counters);
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
