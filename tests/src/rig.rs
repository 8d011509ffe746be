//! The packet's path in a test's hands: frames and a time go in; what comes out is kept, counted, and must add up.

use crate::ports::Port;
use nva_config::{Config, Source};
use nva_dataplane::addr::Mac;
use nva_dataplane::counters::PortCounters;
use nva_dataplane::names::Names;
use nva_dataplane::pipeline::{Observer, Options, Outcome, Pipeline, Transmit};
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};
use nva_dataplane::time::Time;
use nva_dataplane::verdict::{DropReason, PortId, Verdict};
use pmd_shim::{Burst, Pool, PoolFrame, PoolOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Timer events looked at in one [`Rig::run_timers`]; far more than there ever are.
const TIMERS_MAX: usize = 1_000_000;

/// The path between the scripts' two ports.
pub struct Rig {
    pipeline: Pipeline<PoolFrame>,
    pool: Pool,
    outbox: Outbox,
    hits: Hits,
    now: Time,
    received: [u64; 2],
}

/// What the path sent and nobody has taken yet.
struct Outbox {
    pool: Pool,
    sent: Vec<(PortId, PoolFrame)>,
    /// All that was ever sent.
    count: u64,
}

impl Transmit<PoolFrame> for Outbox {
    fn transmit(&mut self, port: PortId, frame: PoolFrame) {
        self.count += 1;
        self.sent.push((port, frame));
    }

    fn allocate(&mut self) -> Option<PoolFrame> {
        self.pool.frame()
    }
}

/// How often each verdict was given, by its name and reason.
#[derive(Clone, Debug, Default)]
pub struct Hits(pub BTreeMap<String, u64>);

impl Observer for Hits {
    fn decided(&mut self, _: usize, outcome: &Outcome) {
        let name = match outcome.verdict {
            Verdict::Forward(_) => "forward".to_string(),
            Verdict::Reply(None) => "reply".to_string(),
            Verdict::Reply(Some(reason)) => format!("reply {reason}"),
            Verdict::Consume => "consume".to_string(),
            Verdict::Hold => "hold".to_string(),
            Verdict::Drop(reason) => format!("drop {reason}"),
        };
        *self.0.entry(name).or_insert(0) += 1;
    }
}

/// The number of a port.
pub fn id(port: Port) -> PortId {
    match port {
        Port::Untrusted => PortId(0),
        Port::Trusted => PortId(1),
    }
}

/// Reads a configuration of the scripts' network.
///
/// # Panics
/// When it is not a good one.
pub fn config(text: &str) -> Config {
    let source = Source { path: "nva.yaml".into(), text: text.as_bytes().to_vec() };
    nva_config::load(&[source], None).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// Compiles a configuration for the scripts' ports.
pub fn compile(config: &Config) -> Arc<Snapshot> {
    let links = Port::ALL.map(|port| Link { mac: Mac(port.station()), mtu: 1500 });
    let options =
        BuildOptions { links: &links, down: &|_, _| false, names: &mut Names::default(), generation: 1 };
    Arc::new(Snapshot::build(config, options))
}

/// So many frames, each long enough for what these ports send.
///
/// # Panics
/// When there is no memory.
pub fn pool(frames: usize) -> Pool {
    Pool::new(PoolOptions { frames, data_room: 1800 }).expect("memory for a few frames")
}

impl Rig {
    /// A path without flows, with so many frames to go round.
    ///
    /// # Panics
    /// When the configuration is bad or there is no memory.
    pub fn new(config: &Config, flow_capacity: usize, frames: usize, seed: [u8; 16]) -> Self {
        Self::on(compile(config), pool(frames), flow_capacity, seed)
    }

    /// The same on what is there already: of both there may be one for many paths.
    pub fn on(snapshot: Arc<Snapshot>, pool: Pool, flow_capacity: usize, seed: [u8; 16]) -> Self {
        let now = Time::from_millis(1_700_000_000_000);
        let pipeline =
            Pipeline::new(snapshot, &Options { flow_capacity, seed, placement: Placement::ALONE }, now);
        let outbox = Outbox { pool: pool.clone(), sent: Vec::new(), count: 0 };
        Self { pipeline, pool, outbox, hits: Hits::default(), now, received: [0; 2] }
    }

    /// An appliance before this one may have had connections.
    #[must_use]
    pub fn with_orphans(mut self) -> Self {
        self.pipeline = self.pipeline.with_orphans(self.now);
        self
    }

    /// The frames that go round.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How often each verdict was given.
    pub fn hits(&self) -> &Hits {
        &self.hits
    }

    /// Live flow records.
    pub fn flow_count(&self) -> usize {
        self.pipeline.flow_count()
    }

    /// Clients that proved themselves to the SYN proxy.
    pub fn proved(&self) -> u64 {
        self.pipeline.counters().syn.cookies_valid
    }

    /// Its handshakes with backends on their way.
    pub fn half_open(&self) -> usize {
        self.pipeline.proxy().half_opens.len()
    }

    /// Takes a burst through the path; checks the sums.
    pub fn receive(&mut self, port: Port, burst: &mut Burst<PoolFrame>) {
        self.received[id(port).index()] += burst.len() as u64;
        self.pipeline.process(self.now, id(port), burst, &mut self.outbox, &mut self.hits);
        assert!(burst.is_empty(), "the path takes whole bursts");
        self.check();
    }

    /// Time goes by; every timer runs at its own time, as in replay.
    ///
    /// # Panics
    /// When the timers never come to an end.
    pub fn run_timers(&mut self, time: Duration) {
        let until = self.now + time;
        let mut budget = TIMERS_MAX;
        while let Some(due) = self.pipeline.next_timer().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.pipeline.advance(self.now, &mut self.outbox);
            budget -= 1;
            assert!(budget > 0, "timers without end at {:?}", self.now);
        }
        self.now = until;
        self.check();
    }

    /// What was sent since the last call, oldest first.
    pub fn take_sent(&mut self) -> Vec<(Port, PoolFrame)> {
        let port = |id: PortId| if id == PortId(0) { Port::Untrusted } else { Port::Trusted };
        self.outbox.sent.drain(..).map(|(id, frame)| (port(id), frame)).collect()
    }

    /// A frame that the port's queue did not take.
    pub fn refused(&mut self, port: Port, frame: PoolFrame) {
        self.pipeline.refused(id(port), frame);
        self.check();
    }

    /// A port's counters.
    pub fn counters(&self, port: Port) -> &PortCounters {
        &self.pipeline.counters().ports[id(port).index()]
    }

    /// Frames that the path sent, refused ones included.
    pub fn sent_count(&self) -> u64 {
        self.outbox.count
    }

    /// Questions and resets that the appliance sent by itself.
    pub fn originated(&self) -> u64 {
        self.pipeline.counters().originated
    }

    /// Received = the sum of verdicts, for each port; nothing waits that is not counted as held.
    fn check(&self) {
        for port in Port::ALL {
            let counters = self.counters(port);
            assert_eq!(counters.received, self.received[id(port).index()], "{}: received", port.name());
            assert_eq!(counters.received, counters.verdicts(), "{}: {counters:?}", port.name());
        }
    }

    /// Lets the clock run until nothing waits any more, and checks that every frame came back.
    ///
    /// # Panics
    /// When a frame is missing, or something waits for ever.
    pub fn settle(&mut self) {
        self.run_timers(Duration::from_secs(600));
        drop(self.take_sent());
        for port in Port::ALL {
            assert_eq!(self.counters(port).held, 0, "{}: waits for ever", port.name());
        }
        assert_eq!(self.pool.in_use(), 0, "frames that nobody gave back");
        assert_eq!(self.flow_count(), 0, "flows that never end");
    }

    /// Drops for one reason, over both ports.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        Port::ALL.iter().map(|port| self.counters(*port).dropped_for(reason)).sum()
    }
}
