//! A contender's process: started on its core, listened to, stopped while it is not its turn, and ended with this program.

use super::interrupt::Interrupt;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a process may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(3);
/// Lines of a process that are kept, the last ones.
const LINES_MAX: usize = 1_000;

/// A process that is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    /// Lines that are gone from the front.
    gone: usize,
}

/// Where a process's words were at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bookmark(usize);

impl Bookmark {
    /// Before its first word.
    pub(crate) const START: Self = Self(0);
}

impl Process {
    /// Starts `program` with `args` through `wrapper` (such as `ip netns exec`), pinned to `cores`, writing line by line. The kernel ends it with this
    /// program, however that ends.
    pub(crate) fn start(
        name: &'static str,
        wrapper: Option<Command>,
        program: &str,
        args: &[String],
        cores: &str,
    ) -> Result<Self, String> {
        let own = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", cores, "stdbuf", "-oL", program];
        let mut command = match wrapper {
            Some(mut wrapper) => {
                wrapper.args(own);
                wrapper
            }
            None => {
                let mut command = Command::new(own[0]);
                command.args(&own[1..]);
                command
            }
        };
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        let stdin = child.stdin.take();
        let said = Arc::new(Mutex::new(Said::default()));
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
            child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        ];
        let process = Self { name, child, stdin, said };
        for output in outputs.into_iter().flatten() {
            let said = Arc::clone(&process.said);
            // It ends with the pipe, which ends with the process.
            std::thread::Builder::new()
                .spawn(move || listen(output, &said))
                .map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(process)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to it.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or_else(|| format!("{}: it does not listen", self.name))?;
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .map_err(|error| format!("{}: {error}", self.name))
    }

    /// Where its words are now.
    pub(crate) fn bookmark(&self) -> Bookmark {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Bookmark(said.gone + said.lines.len())
    }

    /// What it said after the bookmark.
    pub(crate) fn since(&self, bookmark: Bookmark) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.lines.iter().skip(bookmark.0.saturating_sub(said.gone)).cloned().collect()
    }

    /// Waits until it has said a line, after the bookmark, that contains `text`; gives what it said until then.
    pub(crate) fn wait_for(
        &mut self,
        bookmark: Bookmark,
        text: &str,
        time: Duration,
        interrupt: &Interrupt,
    ) -> Result<Vec<String>, String> {
        let mut ended = None;
        let was_said = |process: &Self| process.since(bookmark).iter().any(|line| line.contains(text));
        interrupt.wait_until(time, || {
            // What it said before it ended is read first.
            ended = self.child.try_wait().ok().flatten();
            was_said(self) || ended.is_some()
        })?;
        if was_said(self) {
            return Ok(self.since(bookmark));
        }
        let last = self.last_words();
        Err(match ended {
            Some(status) => format!("{} ended ({status}): {last}", self.name),
            None => format!("{} did not say {text:?} within {} s: {last}", self.name, time.as_secs()),
        })
    }

    /// Its last lines.
    pub(crate) fn last_words(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let from = said.lines.len().saturating_sub(5);
        said.lines[from..].join(" / ")
    }

    /// Keeps it from running until it is [resumed](Self::resume).
    pub(crate) fn suspend(&self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    /// Lets it run again.
    pub(crate) fn resume(&self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("{}: it has no number", self.name))?;
        kill_process(pid, signal).map_err(|error| format!("{}: kill: {error}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First it is asked, so that it takes away what it made. It may have ended by itself.
        let asked = self.signal(Signal::TERM).and_then(|()| self.resume());
        let end = Instant::now() + END_WITHIN;
        while asked.is_ok() && matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(output: impl Read, said: &Mutex<Said>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.lines.push(line);
        if said.lines.len() > LINES_MAX {
            let more = said.lines.len() - LINES_MAX / 2;
            said.lines.drain(..more);
            said.gone += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start("shell", None, "sh", &["-c".into(), script.into()], "0").expect("a shell")
    }

    #[test]
    fn a_process_is_spoken_with_and_killed() {
        let interrupt = Interrupt::default();
        let mut process = shell("while read word; do echo \"heard $word\"; done");
        let pid = process.pid();
        let begin = process.bookmark();
        process.say("one").unwrap();
        process.wait_for(begin, "heard one", Duration::from_secs(10), &interrupt).unwrap();
        let later = process.bookmark();
        process.say("two").unwrap();
        let lines = process.wait_for(later, "heard", Duration::from_secs(10), &interrupt).unwrap();
        assert_eq!(lines, ["heard two"]);
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists());
    }

    #[test]
    fn one_that_ends_is_told_of_with_its_last_words() {
        let mut process = shell("echo no device >&2; exit 3");
        let begin = Bookmark::START;
        let error =
            process.wait_for(begin, "ready", Duration::from_secs(10), &Interrupt::default()).unwrap_err();
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
