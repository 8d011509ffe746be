//! What the control threads know: the configuration in use, the workers' mailboxes and boards. No worker ever takes its lock.

use super::board::{Board, Reading, Room};
use super::mailbox::{Edition, Mailbox};
use super::watchdog::Watchdog;
use crate::check::oversized;
use nva_config::{Config, Driver};
use nva_dataplane::names::Names;
use nva_dataplane::snapshot::{BuildOptions, Link, Snapshot};
use nva_dataplane::synproxy::Watched;
use nva_dataplane::time::Time;
use nva_dataplane::tunnel::configured;
use nva_dataplane::verdict::PortId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What an appliance runs on, from its start to its end.
pub(crate) struct Machine {
    /// The ports' devices.
    pub(crate) links: Vec<Link>,
    /// How each port is driven, in words.
    pub(crate) drivers: Vec<String>,
    /// The core of each worker.
    pub(crate) cores: Vec<usize>,
}

/// The control side of a running appliance.
pub(crate) struct Control {
    /// The zero of the workers' clock.
    pub(crate) epoch: Instant,
    /// What it runs on.
    pub(crate) machine: Machine,
    /// The workers' mailboxes.
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    state: Mutex<State>,
}

/// What changes while the appliance runs.
pub(crate) struct State {
    /// The configuration in use.
    pub(crate) config: Arc<Config>,
    /// The numbers of rules and backends, of this and all earlier generations.
    pub(crate) names: Arc<Names>,
    /// Counts configurations, from 1.
    pub(crate) generation: u32,
    /// Its compiled form, from which the next takes over what stays.
    snapshot: Arc<Snapshot>,
    /// For each worker the boards that it may be using, the newest last.
    boards: Vec<Vec<Arc<Board>>>,
    /// Of each port whether frames can pass its link; `None`: it has no device, or nobody has looked.
    pub(crate) links_up: Vec<Option<bool>>,
    /// Knows which workers stand still.
    pub(crate) watchdog: Watchdog,
}

/// The first generation, for workers that are still to be made.
pub(crate) struct Beginning {
    /// The control side.
    pub(crate) control: Arc<Control>,
    /// The first configuration.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The workers' boards.
    pub(crate) boards: Vec<Arc<Board>>,
}

impl Control {
    /// Compiles the first generation.
    pub(crate) fn begin(config: Config, machine: Machine, epoch: Instant) -> Beginning {
        let mut names = Names::default();
        let generation = 1;
        let snapshot = compile(None, &config, &machine.links, &mut names, generation);
        let workers = machine.cores.len();
        let boards: Vec<_> = (0..workers).map(|_| board(&config, &names, &snapshot)).collect();
        let state = State {
            links_up: vec![None; config.ports.len()],
            boards: boards.iter().map(|board| vec![Arc::clone(board)]).collect(),
            config: Arc::new(config),
            names: Arc::new(names),
            generation,
            snapshot: Arc::clone(&snapshot),
            watchdog: Watchdog::new(workers, epoch),
        };
        let mailboxes = (0..workers).map(|_| Arc::new(Mailbox::new(generation))).collect();
        let control = Arc::new(Self { epoch, machine, mailboxes, state: Mutex::new(state) });
        Beginning { control, snapshot, boards }
    }

    /// What changes. A thread that panicked with it left it whole: every change is the last step of its making.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a configuration in place of the one in use, or says why that takes a restart and changes nothing.
    ///
    /// # Errors
    /// A sentence for each difference that a running appliance cannot take up.
    pub(crate) fn replace(&self, config: Config) -> Result<u32, Vec<String>> {
        let mut state = self.state();
        let mut differences = needs_restart(&state.config, &config, &self.machine.links);
        if !all_have_numbers(&config, Names::clone(&state.names)) {
            differences.push(format!(
                "more than {} different tunnels have been configured since the start, and no number is left for another; restart it",
                PortId::TUNNELS_MAX
            ));
        }
        if !differences.is_empty() {
            return Err(differences);
        }
        let generation = state.generation.wrapping_add(1);
        let before = Arc::clone(&state.snapshot);
        let old = Arc::clone(&state.config);
        let before = Some((&*before, &*old));
        let names = Arc::make_mut(&mut state.names);
        let snapshot = compile(before, &config, &self.machine.links, names, generation);
        let too_large = oversized(&config, &snapshot.group_bytes());
        if !too_large.is_empty() {
            return Err(too_large.iter().map(ToString::to_string).collect());
        }
        for (place, mailbox) in self.mailboxes.iter().enumerate() {
            let board = board(&config, &state.names, &snapshot);
            let unused =
                mailbox.publish(Edition { snapshot: Arc::clone(&snapshot), board: Arc::clone(&board) });
            if let Some(boards) = state.boards.get_mut(place) {
                boards
                    .retain(|known| unused.as_ref().is_none_or(|unused| !Arc::ptr_eq(known, &unused.board)));
                boards.push(board);
            }
        }
        state.snapshot = snapshot;
        state.config = Arc::new(config);
        state.generation = generation;
        Ok(generation)
    }

    /// Tells the workers what Unix time it was at [`epoch`](Self::epoch), in milliseconds.
    pub(crate) fn set_unix_time(&self, unix_ms: u64) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.set_unix_time(unix_ms));
    }

    /// What there is to report: the configuration in use and what was counted under it.
    pub(crate) fn moment(&self) -> Moment<'_> {
        let now = Instant::now();
        let mut state = self.state();
        let readings: Vec<_> = state.boards.iter_mut().map(|boards| newest(boards).read()).collect();
        let mut sum = Reading::default();
        readings.iter().flatten().for_each(|reading| sum.add(reading));
        Moment {
            machine: &self.machine,
            uptime: now.saturating_duration_since(self.epoch),
            now: super::worker::now(self.epoch),
            config: Arc::clone(&state.config),
            names: Arc::clone(&state.names),
            generation: state.generation,
            links_up: state.links_up.clone(),
            stalled: (0..readings.len()).map(|worker| state.watchdog.stalled(worker, now)).collect(),
            readings,
            sum,
        }
    }
}

/// What all reports of one question are made from, so that they agree with each other.
pub(crate) struct Moment<'a> {
    /// What the appliance runs on.
    pub(crate) machine: &'a Machine,
    /// The time since the start.
    pub(crate) uptime: Duration,
    /// The workers' clock.
    pub(crate) now: Time,
    /// The configuration in use.
    pub(crate) config: Arc<Config>,
    /// The numbers of its names.
    pub(crate) names: Arc<Names>,
    /// Which configuration it is, counted from 1.
    pub(crate) generation: u32,
    /// What each worker counted, as it last showed it; `None` for one whose board cannot be read.
    pub(crate) readings: Vec<Option<Reading>>,
    /// What all workers counted together.
    pub(crate) sum: Reading,
    /// Of each port whether frames can pass its link; `None`: it has no device, or nobody has looked.
    pub(crate) links_up: Vec<Option<bool>>,
    /// For how long each worker has not turned; `None` for one that does.
    pub(crate) stalled: Vec<Option<Duration>>,
}

/// The newest board that its worker has written to; those before it are forgotten, those behind it wait for the worker.
fn newest(boards: &mut Vec<Arc<Board>>) -> Arc<Board> {
    let place = boards.iter().rposition(|board| board.is_written()).unwrap_or(0);
    boards.drain(..place);
    boards.first().map_or_else(|| Arc::new(Board::new(Room::default(), Box::default())), Arc::clone)
}

/// Whether a number is left for every tunnel of a configuration that has none yet.
fn all_have_numbers(config: &Config, mut names: Names) -> bool {
    let wanted: usize = config.gateways.iter().map(|g| g.tunnels.len() * g.peers.len()).sum();
    wanted == 0 || configured(config, &mut names).len() == wanted
}

fn compile(
    before: Option<(&Snapshot, &Config)>,
    config: &Config,
    links: &[Link],
    names: &mut Names,
    generation: u32,
) -> Arc<Snapshot> {
    // There are no probes to say otherwise: a backend is unhealthy only where its admin_state says so.
    let options = BuildOptions { links, down: &|_, _| false, names, generation };
    Arc::new(Snapshot::build_after(before, config, options))
}

fn board(config: &Config, names: &Names, snapshot: &Snapshot) -> Arc<Board> {
    let room = Room {
        ports: config.ports.len(),
        tunnels: names.tunnels().len(),
        rules: names.rule_count(),
        backends: names.backend_count(),
    };
    let watched: HashSet<Watched> = snapshot.watched().collect();
    Arc::new(Board::new(room, watched.into_iter().collect()))
}

/// What differs between two configurations that only a restart can change.
fn needs_restart(old: &Config, new: &Config, links: &[Link]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, differs: bool| {
        if differs {
            differences
                .push(format!("{what} cannot change while the appliance runs; restart it, or set it back"));
        }
    };
    differ("name", old.name != new.name);
    differ("dataplane.workers", old.dataplane.workers != new.dataplane.workers);
    differ("dataplane.idle", old.dataplane.idle != new.dataplane.idle);
    differ("dataplane.dpdk", old.dataplane.dpdk != new.dataplane.dpdk);
    differ("dataplane.flow_capacity", old.dataplane.flow_capacity != new.dataplane.flow_capacity);
    differ("management.metrics.listen", old.metrics() != new.metrics());
    let ports = |config: &Config| -> Vec<(String, Driver, String)> {
        config.ports.iter().map(|port| (port.name.clone(), port.driver, port.device.clone())).collect()
    };
    differ("the list of ports with their order, names, drivers and devices", ports(old) != ports(new));
    let interfaces = |config: &Config| -> Vec<_> {
        config.ports.iter().map(|port| port.host_services.as_ref().map(|_| port.addresses.clone())).collect()
    };
    differ(
        "which ports have `host_services`, and these ports' addresses",
        interfaces(old) != interfaces(new),
    );
    let mtus = |config: &Config| -> Vec<u16> { config.ports.iter().map(|port| port.mtu).collect() };
    let has_interface = old.ports.iter().any(|port| port.host_services.is_some());
    differ("the MTU of ports beside one with `host_services`", has_interface && mtus(old) != mtus(new));
    for (port, link) in new.ports.iter().zip(links) {
        // Frames and rings are as long as the MTU at the start.
        differ(&format!("the MTU of port {} beyond {}", port.name, link.mtu), port.mtu > link.mtu);
    }
    differences
}
