//! Network namespaces that a test makes, works in and removes.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says why and returns true if these tests cannot run here.
pub(crate) fn skipped(test: &str) -> bool {
    // SAFETY: takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let has_ip = Command::new("ip").arg("-V").output().is_ok();
    let reason = match (is_root, has_ip) {
        (true, true) => return false,
        (false, _) => "needs root to make network namespaces",
        (_, false) => "needs the ip command (iproute2)",
    };
    // Past the capture of test output, as a skipped test must not look like a passed one.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
    true
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network namespace, removed on drop.
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pmd{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip netns add {name}"));
        let netns = Self { name };
        netns.run("ip link set lo up");
        netns
    }

    /// A veth pair between two namespaces; both ends are up and have a carrier.
    pub(crate) fn connect(a: (&Self, &str), b: (&Self, &str)) {
        Self::connect_queues(a, b, 1);
    }

    /// The same, with so many queues in either direction.
    pub(crate) fn connect_queues(a: (&Self, &str), b: (&Self, &str), queues: u32) {
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        run(&format!(
            "ip -n {} link add {} {queues} type veth peer name {} {queues} netns {}",
            a.0.name, a.1, b.1, b.0.name
        ));
        for (netns, device) in [a, b] {
            netns.run(&format!("ip link set {device} up"));
        }
        // The kernel tells of a carrier a moment later.
        for (netns, device) in [a, b] {
            let is_up = || netns.output(&format!("ip link show {device}")).contains("state UP");
            assert!((0..2000).any(|_| is_up()), "{device} gets no carrier");
        }
    }

    /// Runs a command in the namespace, which has to succeed.
    pub(crate) fn run(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.name));
    }

    /// What a command in the namespace prints.
    pub(crate) fn output(&self, command: &str) -> String {
        let words = ["netns", "exec", &self.name].into_iter().chain(command.split_whitespace());
        String::from_utf8(Command::new("ip").args(words).output().unwrap().stdout).unwrap()
    }

    /// Puts the calling thread into the namespace.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        // SAFETY: the descriptor is open; only this thread's namespace changes.
        let outcome = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(outcome, 0, "setns: {}", std::io::Error::last_os_error());
    }

    /// Runs `work` on a thread of the namespace.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
