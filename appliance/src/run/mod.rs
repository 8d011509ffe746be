//! `nva run`: the appliance in the foreground.
//!
//! The main thread reads the configuration, opens the ports, starts one worker on each core, and then waits for signals and
//! watches the workers. The control socket has threads of its own. Whatever is slow or may fail happens on these; the workers only
//! look into their mailboxes.
//!
//! *Invariant:* from the first look at a port on, the kernel does not answer for or forward what it receives: the drop at its
//! ingress comes before the sockets, and outlives the process.

mod answer;
pub(crate) mod board;
mod carrier;
mod clock;
pub(crate) mod control;
mod cores;
mod host;
mod mailbox;
mod metrics;
mod notify;
mod open;
mod outbox;
pub(crate) mod protocol;
mod reload;
mod rest;
pub(crate) mod socket;
mod steering;
mod strangers;
pub(crate) mod summary;
mod watchdog;
mod worker;

#[cfg(test)]
mod tests;

use crate::check::oversized;
use crate::cli::RunArgs;
use crate::files::{self, Depth};
use crate::output::{Failure, Style, complain, conclude, print};
use crate::unbuilt::{Purpose, unbuilt};
use board::Board;
use carrier::Carrier;
use clock::Clock;
use control::{Beginning, Control, Machine, Moment};
use core_affinity::CoreId;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use host::{Host, RunningHost};
use metrics::Metrics;
use nva_config::Config;
use nva_dataplane::pipeline::{Handed, Options, Pipeline};
use nva_dataplane::placement::Placement;
use nva_dataplane::route::News;
use nva_dataplane::snapshot::Snapshot;
use open::{Opened, Queues};
use outbox::Outbox;
use pmd_shim::exchange::{self, Post};
use pmd_shim::{Frame, FramePool, RxQueue, TxQueue};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket::ControlSocket;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use strangers::Strangers;
use worker::Worker;

/// How often the main thread looks at the workers.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a worker may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Runs the command.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    conclude(try_run(args))
}

fn try_run(args: &RunArgs) -> Result<(), Failure> {
    // Before anything else: a signal that comes early is kept, not lost.
    let signals = signals()?;
    let config = configuration(args)?;
    let cores = cores::cores(&config.dataplane.workers)?;
    let on_devices = config.ports.iter().filter(|port| port.vxlan.is_none());
    let devices = on_devices.map(|port| port.device.as_str());
    for stranger in cores::strangers(devices, &cores) {
        complain(Style::stderr().warn(format_args!("{}: {stranger}", config.name)));
    }
    let seed = seed()?;
    // Before the devices are touched.
    let metrics = config.metrics().map(Metrics::bind).transpose()?;
    #[cfg(feature = "dpdk")]
    if config.ports.iter().any(|port| port.driver == nva_config::Driver::Dpdk) {
        let opened = open::open_dpdk(&config, &cores, seed)?;
        return forward(args, &signals, config, cores, seed, metrics, opened);
    }
    let opened = open::open_kernel(&config, &cores, seed)?;
    forward(args, &signals, config, cores, seed, metrics, opened)
}

/// Forwards between open ports until it is told to end.
fn forward<R, T, P>(
    args: &RunArgs,
    signals: &Receiver<i32>,
    config: Config,
    cores: Vec<CoreId>,
    seed: [u8; 16],
    metrics: Option<Metrics>,
    opened: Opened<R, T, P>,
) -> Result<(), Failure>
where
    R: RxQueue + Send + 'static,
    T: TxQueue<Frame = R::Frame> + Send + 'static,
    P: FramePool<Frame = R::Frame>,
{
    let path = args.socket.clone().unwrap_or_else(|| socket::default_path(&config.name));
    let socket = ControlSocket::bind(&path)?;

    let epoch = Instant::now();
    let Opened { links, mut drivers, placements, queues, held, guards, carriers } = opened;
    drivers.extend(config.ports.iter().filter(|port| port.vxlan.is_some()).map(|_| "VXLAN".into()));
    let host = Host::open(&config, &links, cores.len())?;
    let machine = Machine { links, drivers, cores: cores.iter().map(|core| core.id).collect() };
    let Beginning { control, snapshot, boards } = Control::begin(config, machine, epoch);
    let too_large = oversized(&control.state().config, &snapshot.group_bytes());
    if !too_large.is_empty() {
        return Err(Failure::configuration(&too_large));
    }
    let failed = |error| Failure::failed(format!("what wakes the workers: {error}"));
    // The host thread wakes workers too.
    let posts = exchange::posts(cores.len(), host.is_some()).map_err(failed)?;
    let bells = posts.iter().filter_map(|post| post.inbox.bell().map(Arc::clone)).collect();
    let any = placements.first().copied().unwrap_or(Placement::ALONE);
    let host = host.map(|host| host.start(bells, any)).transpose()?;
    let clock = Clock::start(&control);
    let start = Start { control: &control, snapshot, seed, epoch, workers: cores.len(), host: host.as_ref() };
    let mut workers = Vec::new();
    for ((((core, queues), placement), board), post) in
        cores.into_iter().zip(queues).zip(placements).zip(boards).zip(posts)
    {
        workers.push(start.worker(placement, core, queues, board, post)?);
    }
    socket
        .serve(&control)
        .map_err(|error| Failure::failed(format!("no thread for the control socket: {error}")))?;
    let served = metrics.map_or(Ok(()), |metrics| metrics.serve(&control));
    served.map_err(|error| Failure::failed(format!("no thread for metrics: {error}")))?;

    print(&welcome(&control))?;
    tell_manager("READY=1");
    let ended = attend(&control, signals, &workers, args, (clock, &carriers));
    tell_manager("STOPPING=1");
    let stuck = stop(&control, workers);
    drop(socket);
    drop(host);
    print(&farewell(&control, &held))?;
    drop((guards, carriers));
    match (ended, stuck) {
        (Ended::Asked, 0) => Ok(()),
        (Ended::Asked, stuck) => Err(Failure::failed(format!(
            "{} did not end within {} s; their last counters may be missing above",
            counted(stuck, "worker"),
            END_WITHIN.as_secs()
        ))),
        (Ended::WorkerDied, _) => {
            Err(Failure::failed("a worker ended by itself: this is a bug; its message is above"))
        }
    }
}

/// The checked configuration, of which everything can be run.
fn configuration(args: &RunArgs) -> Result<Config, Failure> {
    let config =
        files::load(&args.config.files, Depth::WithFiles).map_err(|all| Failure::configuration(&all))?;
    let missing = unbuilt(&config, Purpose::Run);
    if !missing.is_empty() {
        return Err(Failure::configuration(&missing));
    }
    if config.ports.is_empty() {
        return Err(Failure::usage(
            "the configuration has no ports, so there is nothing to forward; add a `ports` section",
        ));
    }
    Ok(config)
}

/// Secrets of the hash tables, different in every run.
fn seed() -> Result<[u8; 16], Failure> {
    use std::io::Read;
    let mut seed = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut seed))
        .map_err(|error| Failure::failed(format!("/dev/urandom: {error}")))?;
    Ok(seed)
}

/// Signals as they come, from a thread of their own.
fn signals() -> Result<Receiver<i32>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("signal handlers: {error}"));
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(failed)?;
    let (send, receive) = bounded(16);
    let forward = move || {
        for signal in signals.forever() {
            // Sixteen that wait are enough: one more reload would read the same files.
            let _ = send.try_send(signal);
        }
    };
    std::thread::Builder::new().name("nva-signals".into()).spawn(forward).map_err(failed)?;
    Ok(receive)
}

/// What all workers begin with.
struct Start<'a> {
    control: &'a Control,
    snapshot: Arc<Snapshot>,
    seed: [u8; 16],
    epoch: Instant,
    workers: usize,
    host: Option<&'a RunningHost>,
}

impl Start<'_> {
    /// Starts a worker on its core.
    fn worker<F, R, T, P>(
        &self,
        placement: Placement,
        core: CoreId,
        queues: Queues<R, T, P>,
        board: Arc<Board>,
        post: Post<Handed<F>, News>,
    ) -> Result<JoinHandle<()>, Failure>
    where
        F: Frame,
        R: RxQueue<Frame = F> + Send + 'static,
        T: TxQueue<Frame = F> + Send + 'static,
        P: FramePool<Frame = F>,
    {
        let index = placement.index();
        let failed = |what: String| Failure::failed(format!("worker {index}: {what}"));
        let mailbox = self.control.mailboxes.get(index).map(Arc::clone);
        let mailbox = mailbox.ok_or_else(|| failed("has no mailbox".into()))?;
        let Post { inbox, peers } = post;
        let dataplane = &self.control.state().config.dataplane;
        let (capacity, idle) = (dataplane.flow_capacity, dataplane.idle);
        let options = Options { flow_capacity: capacity.div_ceil(self.workers), seed: self.seed, placement };
        let (snapshot, epoch) = (Arc::clone(&self.snapshot), self.epoch);
        let host = self.host.map(|host| host.end(index));
        let (send, started) = bounded(1);
        let body = move || {
            if !core_affinity::set_for_current(core) {
                let _ = send.send(Err(format!("cannot be pinned to core {}", core.id)));
                return;
            }
            // From here on this thread takes and frees frames without synchronisation.
            let owner = queues.pool.adopt();
            let generation = snapshot.generation();
            let now = worker::now(epoch);
            let pipeline = Pipeline::new(snapshot, &options, now).with_orphans(now);
            let outbox =
                Outbox::new(queues.tx, queues.pool.clone(), queues.pool.capacity(), peers).with_host(host);
            let rx = queues.rx;
            let worker = Worker {
                pipeline,
                rx,
                inbox,
                outbox,
                mailbox,
                board,
                generation,
                epoch,
                // It is told before its first burst.
                unix_ms: 0,
                idle,
            };
            let _ = send.send(owner.as_ref().map(|_| ()).map_err(ToString::to_string));
            worker.run();
        };
        let thread = std::thread::Builder::new()
            .name(format!("nva-worker-{index}"))
            .spawn(body)
            .map_err(|error| failed(error.to_string()))?;
        match started.recv() {
            Ok(Ok(())) => Ok(thread),
            Ok(Err(what)) => Err(failed(what)),
            Err(_) => Err(failed("did not start".into())),
        }
    }
}

/// Why the appliance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// A signal asked for it.
    Asked,
    /// A worker is no longer there.
    WorkerDied,
}

/// Waits for signals and watches the workers until it is time to end.
fn attend(
    control: &Control,
    signals: &Receiver<i32>,
    workers: &[JoinHandle<()>],
    args: &RunArgs,
    (mut clock, carriers): (Clock, &[Box<dyn Carrier>]),
) -> Ended {
    let mut look_at = Instant::now() + LOOK_EVERY;
    let mut strangers = Strangers::default();
    loop {
        match signals.recv_deadline(look_at) {
            Ok(SIGHUP) => reload::reload(control, &args.config),
            Ok(_) => return Ended::Asked,
            Err(RecvTimeoutError::Disconnected) => return Ended::Asked,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if now >= look_at {
            look_at = now + LOOK_EVERY;
            look(control, now);
            let told = carrier::look(&mut control.state(), carriers);
            told.iter().for_each(|line| complain(Style::stderr().warn(line)));
            clock.keep_up(control);
            look_at_tunnels(control, &mut strangers, now);
        }
        if workers.iter().any(JoinHandle::is_finished) {
            return Ended::WorkerDied;
        }
    }
}

/// Says which workers stand still, and frees what they no longer use.
fn look(control: &Control, now: Instant) {
    let mut state = control.state();
    let notices = state.watchdog.look(now, control.mailboxes.iter().map(|mailbox| mailbox.heartbeat()));
    let name = state.config.name.clone();
    drop(state);
    notices.iter().for_each(|notice| complain(Style::stderr().warn(format_args!("{name}: {notice}"))));
    control.mailboxes.iter().for_each(|mailbox| mailbox.free_retired());
}

/// Says what was refused at tunnels.
fn look_at_tunnels(control: &Control, strangers: &mut Strangers, now: Instant) {
    if control.state().config.gateways.is_empty() {
        return;
    }
    let Moment { config, sum, .. } = control.moment();
    for refused in strangers.look(now, &sum.counters) {
        let port = config.ports.get(refused.port).map_or("", |port| port.name.as_str());
        let line = format_args!("{}: port {port}: {refused}", config.name);
        complain(Style::stderr().warn(line));
    }
}

/// Tells the workers to end and waits for them; returns how many did not.
fn stop(control: &Control, workers: Vec<JoinHandle<()>>) -> usize {
    control.mailboxes.iter().for_each(|mailbox| mailbox.stop());
    let deadline = Instant::now() + END_WITHIN;
    while workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (ended, stuck): (Vec<_>, Vec<_>) = workers.into_iter().partition(JoinHandle::is_finished);
    // A worker that panicked has said so by itself.
    ended.into_iter().for_each(|worker| drop(worker.join()));
    stuck.len()
}

/// What it forwards between, and how.
fn welcome(control: &Control) -> String {
    let config = Arc::clone(&control.state().config);
    let ports = config.ports.iter().zip(&control.machine.drivers);
    let mut text: String = ports
        .map(|(port, driver)| format!("{}: port {}: {}, {driver}\n", config.name, port.name, port.device))
        .collect();
    if let Some(address) = config.metrics() {
        text.push_str(&format!("{}: metrics at http://{address}{}\n", config.name, metrics::PATH));
    }
    text.push_str(&format!("{}: forwarding on {}\n", config.name, counted(config.ports.len(), "port")));
    text
}

/// The summary, and what stays behind.
fn farewell(control: &Control, held: &[String]) -> String {
    let stats = answer::stats(&mut control.moment());
    let style = Style::stdout();
    let mut text = format!(
        "{}: ended after {:.1} s; {} made, {} open\n",
        stats.name,
        stats.uptime_seconds,
        counted(stats.flows_created, "flow"),
        stats.flows
    );
    text.push_str(&summary::render(&stats, style));
    text.push_str(&left_behind(&stats.name, held));
    text
}

/// The interfaces that stay held; devices of DPDK's need not have any.
fn left_behind(name: &str, held: &[String]) -> String {
    if held.is_empty() {
        return String::new();
    }
    format!(
        "{name}: the kernel stays shut out of {}; `nva ports release {}` gives {} back\n",
        held.join(", "),
        held.join(" "),
        if held.len() == 1 { "it" } else { "them" }
    )
}

fn tell_manager(state: &str) {
    if let Err(error) = notify::notify(state) {
        complain(format_args!("the service manager cannot be told {state}: {error}"));
    }
}

/// `1 port`, `2 ports`.
pub(crate) fn counted(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
