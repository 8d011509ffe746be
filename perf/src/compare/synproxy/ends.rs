//! Both ends of a road in one process: `perf ends`, which the comparison starts with a real-time priority, so that neither waits for the
//! generator whose core it shares. It makes handshakes, and has connections that last.

use super::handshakes::{self, Order, Outcome};
use super::lasting::{self, Lasting};
use crate::compare::Cores;
use crate::compare::child::{Bookmark, Process};
use crate::compare::interrupt::Interrupt;
use crate::compare::proc;
use crate::compare::quiet::Watched;
use crate::compare::road::Road;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::time::Duration;

/// How long an answer may take beyond the time of what is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Is both ends of a contender's road, for `perf compare`.
#[derive(Args)]
pub(crate) struct EndsArgs {
    /// The namespace of the clients.
    #[arg(long)]
    client_space: String,
    /// The namespace of the server.
    #[arg(long)]
    server_space: String,
}

/// What the process is asked for, a line each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Task {
    /// Handshakes.
    Make(Order),
    /// The lasting connections, opened now.
    Open,
    /// What arrives by them in this time.
    Watch(Duration),
    /// No more of them.
    Close,
}

/// What it answers, a line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    Made(Outcome),
    Done,
    /// Bytes a second, by connection.
    Arrived(Vec<f64>),
    Failed(String),
}

/// The process.
pub(super) struct Ends {
    process: Process,
    core: usize,
    interrupt: Interrupt,
}

impl Ends {
    /// Starts it.
    pub(super) fn start(road: &Road, cores: Cores, interrupt: &Interrupt) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?;
        let program = program.display().to_string();
        let (client, server) = (road.source().name(), road.sink().name());
        let args = ["-f", "1", &program, "ends", "--client-space", client, "--server-space", server];
        let core = cores.generator;
        let args = args.map(str::to_owned);
        let mut process = Process::start("perf ends", None, "chrt", &args, &core.to_string())?;
        process.wait_for(Bookmark::START, "ready", ANSWER_WITHIN, interrupt)?;
        Ok(Self { process, core, interrupt: interrupt.clone() })
    }

    /// Its threads.
    pub(super) fn threads(&self) -> Result<Vec<Watched>, String> {
        let (pid, core) = (self.process.pid(), self.core);
        Ok(proc::threads(pid, "")?.into_iter().map(|tid| Watched::new(pid, tid, core)).collect())
    }

    /// Has it make handshakes.
    pub(super) fn make(&mut self, order: Order) -> Result<Outcome, String> {
        let time = order.interval * u32::try_from(order.count).unwrap_or(u32::MAX);
        match self.ask(Task::Make(order), time)? {
            Answer::Made(outcome) => Ok(outcome),
            other => Err(format!("handshakes: {other:?}")),
        }
    }

    /// Has it open the lasting connections.
    pub(super) fn open(&mut self) -> Result<(), String> {
        self.ask(Task::Open, Duration::ZERO).map(|_| ())
    }

    /// What arrives by the lasting connections, in bytes a second.
    pub(super) fn watch(&mut self, time: Duration) -> Result<Vec<f64>, String> {
        match self.ask(Task::Watch(time), time)? {
            Answer::Arrived(rates) => Ok(rates),
            other => Err(format!("lasting connections: {other:?}")),
        }
    }

    /// Has it close them.
    pub(super) fn close(&mut self) -> Result<(), String> {
        self.ask(Task::Close, Duration::ZERO).map(|_| ())
    }

    fn ask(&mut self, task: Task, time: Duration) -> Result<Answer, String> {
        let bookmark = self.process.bookmark();
        let line = serde_json::to_string(&task).map_err(|error| error.to_string())?;
        self.process.say(&line)?;
        let lines = self.process.wait_for(bookmark, ANSWERS, time + ANSWER_WITHIN, &self.interrupt)?;
        let line = lines.iter().find_map(|line| line.strip_prefix(ANSWERS)).ok_or("it says nothing")?;
        match serde_json::from_str(line).map_err(|error| format!("{line:?}: {error}"))? {
            Answer::Failed(why) => Err(why),
            answer => Ok(answer),
        }
    }
}

/// What an answer begins with.
const ANSWERS: &str = "answer ";

/// Runs the command, until standard input ends.
pub(crate) fn run(args: &EndsArgs) -> Result<(), String> {
    handshakes::serve(&args.server_space)?;
    lasting::serve(&args.server_space)?;
    let clients = handshakes::clients(&args.client_space)?;
    let mut connections: Vec<Lasting> = Vec::new();
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("stdin: {error}"))?;
        let answer = match serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))? {
            Task::Make(order) => handshakes::make(order, &clients).map(Answer::Made),
            Task::Open => lasting::open(&args.client_space).map(|opened| {
                connections = opened;
                Answer::Done
            }),
            Task::Watch(time) => Ok(Answer::Arrived(lasting::watch(&connections, time))),
            Task::Close => {
                connections.clear();
                Ok(Answer::Done)
            }
        };
        let answer = serde_json::to_string(&answer.unwrap_or_else(Answer::Failed));
        say(&format!("{ANSWERS}{}", answer.map_err(|error| error.to_string())?))?;
    }
    Ok(())
}

fn say(line: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| format!("stdout: {error}"))
}

/// A thread of the process.
pub(super) fn thread(body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new().spawn(body).map(|_| ()).map_err(|error| format!("no thread: {error}"))
}
