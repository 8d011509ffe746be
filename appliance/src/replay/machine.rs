//! The appliance's path on the captures' clock: frames go in at their time, and every timer between them runs at its own.

use super::POOL_FRAMES;
use super::capture::Captured;
use crate::cli::Seed;
use crate::output::Failure;
use nva_config::Config;
use nva_dataplane::names::Names;
use nva_dataplane::pipeline::{Observer, Options, Outcome, Pipeline, Transmit};
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};
use nva_dataplane::time::Time;
use nva_dataplane::verdict::PortId;
use pmd_shim::{Burst, Frame, Pool, PoolFrame, PoolOptions};
use std::sync::Arc;

/// Where a machine's frames go.
pub(super) trait Sink: Transmit<PoolFrame> {
    /// From here on the time is `now`.
    fn begin(&mut self, now: Time);
}

/// What a machine is made with beside its configuration.
pub(super) struct MachineOptions<'a> {
    /// Each port's device, in the order of `Config::ports`.
    pub(super) links: &'a [Link],
    /// Backends that are down.
    pub(super) down: &'a [String],
    /// Gives rules and backends their numbers.
    pub(super) names: &'a mut Names,
    /// The longest frame.
    pub(super) data_room: usize,
    /// Fixes every secret.
    pub(super) seed: Seed,
    /// When the first frame comes.
    pub(super) start: Time,
}

/// One path with its clock.
pub(super) struct Machine {
    pub(super) pipeline: Pipeline<PoolFrame>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) pool: Pool,
    /// Frames so far.
    pub(super) frames: u64,
    pub(super) now: Time,
}

/// Keeps the outcome of the one frame of a burst.
struct Kept(Option<Outcome>);

impl Observer for Kept {
    fn decided(&mut self, _: usize, outcome: &Outcome) {
        self.0 = Some(*outcome);
    }
}

impl Machine {
    /// # Errors
    /// A [`Failure`] of exit code 1 when there is no memory for packets.
    pub(super) fn new(config: &Config, options: MachineOptions<'_>) -> Result<Self, Failure> {
        let MachineOptions { links, down, names, data_room, seed, start } = options;
        let down = |_: &str, backend: &str| down.iter().any(|down| down == backend);
        let options = BuildOptions { links, down: &down, names, generation: 1 };
        let snapshot = Arc::new(Snapshot::build(config, options));
        let pool = Pool::new(PoolOptions { frames: POOL_FRAMES, data_room }).map_err(Failure::failed)?;
        let options = Options {
            flow_capacity: config.dataplane.flow_capacity,
            seed: seed.0,
            placement: Placement::ALONE,
        };
        let pipeline = Pipeline::new(Arc::clone(&snapshot), &options, start);
        Ok(Self { pipeline, snapshot, pool, frames: 0, now: start })
    }

    /// Brings the clock to `until`, running every timer at its own time. The clock never goes back.
    pub(super) fn run_timers(&mut self, until: Time, sink: &mut impl Sink) {
        while let Some(due) = self.pipeline.next_timer().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            sink.begin(self.now);
            self.pipeline.advance(self.now, sink);
        }
        self.now = self.now.max(until);
    }

    /// One frame, at the present time; `None` where the port is none of the configuration's.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 when no packet buffer is free.
    pub(super) fn frame(
        &mut self,
        port: PortId,
        captured: &Captured,
        sink: &mut impl Sink,
    ) -> Result<Option<Outcome>, Failure> {
        self.frames += 1;
        let Some(frame) = self.buffer(captured) else {
            return Err(Failure::failed(format!("no packet buffer is free for frame {}", self.frames)));
        };
        let mut burst = Burst::new();
        burst.push(frame);
        let mut kept = Kept(None);
        sink.begin(self.now);
        self.pipeline.process(self.now, port, &mut burst, sink, &mut kept);
        Ok(kept.0)
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
}
