//! A network namespace: made, entered, and taken away.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::thread::{JoinHandle, ScopedJoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace of its own. Dropping it removes it with every interface in it.
#[derive(Debug)]
pub(crate) struct Space {
    name: String,
}

impl Space {
    /// Makes a namespace, with its loopback interface on.
    pub(crate) fn new(name: String) -> Self {
        ip(&["netns", "add", &name]);
        let space = Self { name };
        space.ip("link set lo up");
        space
    }

    /// Its name, as `ip netns` knows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on it; what it printed.
    pub(crate) fn ip(&self, command: &str) -> String {
        let args: Vec<&str> = ["-n", &self.name].into_iter().chain(command.split_whitespace()).collect();
        ip(&args)
    }

    /// Runs `ip` on it with many commands at once, one a line.
    pub(crate) fn ip_all(&self, commands: &str) {
        let args = ["-n", self.name.as_str(), "-batch", "-"];
        let mut child = Command::new("ip")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip can be run");
        child.stdin.take().expect("piped").write_all(commands.as_bytes()).expect("ip reads its commands");
        printed("ip -batch", &child.wait_with_output().expect("ip ends"));
    }

    /// Writes a setting below `/proc/sys/net`.
    pub(crate) fn set(&self, setting: &str, value: &str) {
        let path = format!("/proc/sys/net/{setting}");
        self.run(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// A file below `/proc/net`.
    pub(crate) fn proc_net(&self, file: &str) -> String {
        let path = format!("/proc/thread-self/net/{file}");
        self.run(|| std::fs::read_to_string(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Runs something inside, to its end. Sockets that it makes stay inside wherever they are used.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside: ScopedJoinHandle<'_, T> = scope.spawn(|| {
                self.enter();
                what()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let inside = Self::named(&self.name);
        std::thread::spawn(move || {
            move_into(&inside);
            what()
        })
    }

    fn enter(&self) {
        move_into(&Self::named(&self.name));
    }

    fn named(name: &str) -> File {
        let path = format!("/run/netns/{name}");
        File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Moves the calling thread, and only it.
fn move_into(space: &File) {
    move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns works for root");
}

/// Runs `ip`; what it printed.
pub(crate) fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().expect("ip can be run");
    printed(&format!("ip {}", args.join(" ")), &output)
}

fn printed(line: &str, output: &Output) -> String {
    assert!(output.status.success(), "`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
