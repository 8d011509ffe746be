//! Two workers, each a thread pinned to a core of its own with the appliance's path over memory ports, joined by the appliance's own
//! queues between workers.

use super::quiet::{Interval, Watch, Watched};
use crate::measure::thread_cpu_ns;
use crate::rig::{Desk, Kind, Post, Rig, Scenario, Sizes};
use core_affinity::CoreId;
use nva_dataplane::placement::Placement;
use pmd_shim::exchange::posts;
use pmd_shim::memory::Templates;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Of the crew.
const WORKERS: usize = 2;
const SCENARIO: Scenario =
    Scenario { name: "crew", flows: 1_000, rules: 1_000, kind: Kind::Established, sizes: Sizes::Small };
/// Turns between two looks at the clock.
const TURNS: usize = 16;
/// Not measured, before each shot.
const WARM_UP: Duration = Duration::from_millis(100);
/// How long a worker may take to begin, or to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a worker does in a shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Receives packets of its own flows.
    Own,
    /// Receives packets of the other worker's flows.
    Others,
    /// Sleeps.
    Rest,
}

/// What a worker did in a shot.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// CPU time of its thread, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Frames that it sent.
    pub(crate) packets: u64,
    /// What happened on its core.
    pub(crate) interval: Interval,
    turns: u64,
    idle_turns: u64,
}

impl Work {
    /// CPU time for each frame that it sent.
    pub(crate) fn ns_a_packet(&self) -> f64 {
        self.cpu_ns as f64 / self.packets.max(1) as f64
    }

    /// Share of the turns in which there was nothing to do.
    pub(crate) fn idle_share(&self) -> f64 {
        self.idle_turns as f64 / self.turns.max(1) as f64
    }
}

type Tables = [Arc<Templates>; 2];

enum Command {
    /// The other worker's packets.
    Meet(Tables),
    Work {
        order: Order,
        time: Duration,
        begin: Arc<Barrier>,
        end: Arc<Barrier>,
    },
    /// Whether every packet so far was forwarded.
    Check,
}

enum Answer {
    Ready(Tables),
    Did(Option<Work>),
    Checked(u64, u64),
    Failed(String),
}

struct Hand {
    commands: Sender<Command>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

/// The workers; they end when it is dropped.
pub(crate) struct Crew {
    hands: Vec<Hand>,
}

impl Crew {
    /// Starts a worker on each core, with its flows open.
    pub(crate) fn hire(cores: [usize; WORKERS], seed: u64) -> Result<Self, String> {
        let desks = posts(WORKERS, false).map_err(|error| format!("socketpair: {error}"))?;
        let hands = cores.into_iter().zip(desks).enumerate();
        let hands = hands.map(|(index, (core, desk))| hire(index, core, desk, seed));
        let crew = Self { hands: hands.collect::<Result<_, _>>()? };
        let tables: Vec<Tables> = crew
            .hands
            .iter()
            .map(|hand| match hand.answer()? {
                Answer::Ready(tables) => Ok(tables),
                other => Err(other.unexpected()),
            })
            .collect::<Result<_, _>>()?;
        for (hand, tables) in crew.hands.iter().zip(tables.into_iter().rev()) {
            hand.command(Command::Meet(tables))?;
        }
        Ok(crew)
    }

    /// Has the workers work for `time`, at once; what each did that did not rest.
    pub(crate) fn work(&self, orders: [Order; WORKERS], time: Duration) -> Result<Vec<Work>, String> {
        let awake = orders.iter().filter(|order| **order != Order::Rest).count();
        let (begin, end) = (Arc::new(Barrier::new(awake)), Arc::new(Barrier::new(awake)));
        for (hand, order) in self.hands.iter().zip(orders) {
            let (begin, end) = (Arc::clone(&begin), Arc::clone(&end));
            hand.command(Command::Work { order, time, begin, end })?;
        }
        let mut all = Vec::new();
        for hand in &self.hands {
            match hand.answer()? {
                Answer::Did(work) => all.extend(work),
                other => return Err(other.unexpected()),
            }
        }
        Ok(all)
    }

    /// Whether every frame that came in left: a path that drops would be fast.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (mut received, mut sent) = (0, 0);
        for hand in &self.hands {
            hand.command(Command::Check)?;
            match hand.answer()? {
                Answer::Checked(one, other) => {
                    received += one;
                    sent += other;
                }
                other => return Err(other.unexpected()),
            }
        }
        let lost = received - received.min(sent);
        // What a full queue between the workers refuses is dropped, as in the appliance; more than a few were no measurement.
        if lost * 1000 > received {
            return Err(format!("{lost} of {received} frames were not forwarded"));
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for hand in &mut self.hands {
            let (closed, _) = channel();
            hand.commands = closed;
            if let Some(thread) = hand.thread.take() {
                // It has said by its answers whatever went wrong.
                let _ = thread.join();
            }
        }
    }
}

impl Hand {
    fn command(&self, command: Command) -> Result<(), String> {
        self.commands.send(command).map_err(|_| "a worker's thread ended".to_owned())
    }

    fn answer(&self) -> Result<Answer, String> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(Answer::Failed(why)) => Err(why),
            Ok(answer) => Ok(answer),
            Err(_) => Err(format!("a worker's thread did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

impl Answer {
    fn unexpected(self) -> String {
        "a worker's thread answered something else".into()
    }
}

fn hire(index: usize, core: usize, desk: Desk, seed: u64) -> Result<Hand, String> {
    let (commands, orders) = channel();
    let (tell, answers) = channel();
    let secret = [seed as u8; 16];
    let placement = Placement::new(index, WORKERS, secret);
    let post = Post { placement, seed: secret, desk };
    let body = move || {
        let outcome = Worker::new(core, post, seed).and_then(|mut worker| worker.attend(&orders, &tell));
        if let Err(why) = outcome {
            // Nobody listens any more when the crew is gone.
            let _ = tell.send(Answer::Failed(why));
        }
    };
    let thread = std::thread::Builder::new()
        .name(format!("perf-worker-{index}"))
        .spawn(body)
        .map_err(|error| format!("no thread for a worker: {error}"))?;
    Ok(Hand { commands, answers, thread: Some(thread) })
}

struct Worker {
    core: usize,
    watched: Watched,
    rig: Rig,
    others: Tables,
    received: u64,
    sent_before: u64,
}

impl Worker {
    fn new(core: usize, post: Post, seed: u64) -> Result<Self, String> {
        if !core_affinity::set_for_current(CoreId { id: core }) {
            return Err(format!("a thread cannot be pinned to core {core}"));
        }
        let rig = Rig::at(&SCENARIO, seed, Some(post))?;
        let watched = Watched::this_thread(core);
        let sent_before = rig.sent();
        Ok(Self { core, watched, rig, others: Tables::default(), received: 0, sent_before })
    }

    fn attend(&mut self, orders: &Receiver<Command>, tell: &Sender<Answer>) -> Result<(), String> {
        let gone = |_| "nobody listens".to_owned();
        tell.send(Answer::Ready(self.rig.tables().clone())).map_err(gone)?;
        while let Ok(command) = orders.recv() {
            match command {
                Command::Meet(tables) => self.others = tables,
                Command::Check => {
                    let sent = self.rig.sent() - self.sent_before;
                    tell.send(Answer::Checked(self.received, sent)).map_err(gone)?;
                }
                Command::Work { order: Order::Rest, .. } => tell.send(Answer::Did(None)).map_err(gone)?,
                Command::Work { order, time, begin, end } => {
                    let own = self.rig.tables().clone();
                    let tables = if order == Order::Own { &own } else { &self.others };
                    self.rig.play(tables);
                    begin.wait();
                    let work = self.work(time);
                    // What is still between the workers belongs to nobody's shot, but is not to be lost.
                    end.wait();
                    while self.rig.turn(false) > 0 {}
                    end.wait();
                    while self.rig.turn(false) > 0 {}
                    tell.send(Answer::Did(Some(work?))).map_err(gone)?;
                }
            }
        }
        Ok(())
    }

    fn work(&mut self, time: Duration) -> Result<Work, String> {
        self.turn_for(WARM_UP);
        let watch = Watch::begin(&[self.watched], &[self.core])?;
        let (cpu, sent) = (thread_cpu_ns(), self.rig.sent());
        let (turns, idle_turns) = self.turn_for(time);
        let cpu_ns = thread_cpu_ns() - cpu;
        let packets = self.rig.sent() - sent;
        Ok(Work { cpu_ns, packets, interval: watch.end()?, turns, idle_turns })
    }

    /// Works for a time; how many turns, and how many of them found nothing.
    fn turn_for(&mut self, time: Duration) -> (u64, u64) {
        let end = Instant::now() + time;
        let (mut turns, mut idle) = (0, 0);
        while Instant::now() < end {
            for _ in 0..TURNS {
                let taken = self.rig.turn(true);
                idle += u64::from(taken == 0);
            }
            turns += TURNS as u64;
        }
        (turns, idle)
    }
}
