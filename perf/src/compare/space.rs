//! Network namespaces of a comparison, gone with everything in them when they are dropped.

use super::scrap::{PREFIX, is_left_over};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A network namespace of this process.
#[derive(Debug)]
pub(crate) struct Space {
    name: String,
}

impl Space {
    /// Makes one, with its loopback interface on and without IPv6, whose chatter would be nobody's traffic.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let space = Self { name: format!("{PREFIX}{}-{name}", std::process::id()) };
        ip(&["netns", "add", &space.name])?;
        space.ip("link set lo up")?;
        space.set("ipv6/conf/all/disable_ipv6", "1")?;
        space.set("ipv6/conf/default/disable_ipv6", "1")?;
        Ok(space)
    }

    /// Its name, as `ip netns` knows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on it.
    pub(crate) fn ip(&self, command: &str) -> Result<String, String> {
        let args: Vec<&str> = ["-n", &self.name].into_iter().chain(command.split_whitespace()).collect();
        ip(&args)
    }

    /// Writes a setting below `/proc/sys/net`.
    pub(crate) fn set(&self, setting: &str, value: &str) -> Result<(), String> {
        let path = format!("/proc/sys/net/{setting}");
        self.run(|| std::fs::write(&path, value).map_err(|error| format!("{path}: {error}")))?
    }

    /// Runs something on a thread inside, to its end. Sockets that it makes stay inside wherever they are used.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> Result<T, String> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                Ok(what())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into it, for good.
    pub(crate) fn enter(&self) -> Result<(), String> {
        enter(&self.name)
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a program inside, to its end, with this on its standard input; what it printed.
    pub(crate) fn feed(&self, program: &str, args: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.command(program);
        let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| format!("`{program}`: {error}");
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        text(&format!("{program} {}", args.join(" ")), &output)
    }

    /// Puts rules for `nft` into it.
    pub(crate) fn nft(&self, rules: &str) -> Result<(), String> {
        self.feed("nft", &["-f", "-"], rules).map(|_| ())
    }

    /// Frames that an interface received so far.
    pub(crate) fn received(&self, device: &str) -> Result<u64, String> {
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
        let text = self.run(read)?.map_err(|error| format!("/proc/net/dev: {error}"))?;
        received(&text, device).ok_or_else(|| format!("{}: no interface {device}", self.name))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // There is nobody to tell; whoever started the processes inside has ended them.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// Moves the calling thread into the namespace of this name, for good.
pub(crate) fn enter(name: &str) -> Result<(), String> {
    let path = Path::new("/run/netns").join(name);
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| format!("setns({name}): {error}"))
}

/// A cable between two namespaces, both ends on.
pub(crate) fn cable(near: (&Space, &str), far: (&Space, &str)) -> Result<(), String> {
    ip(&[
        "link",
        "add",
        near.1,
        "netns",
        near.0.name(),
        "type",
        "veth",
        "peer",
        "name",
        far.1,
        "netns",
        far.0.name(),
    ])?;
    for (space, device) in [near, far] {
        space.ip(&format!("link set {device} up"))?;
    }
    Ok(())
}

/// Takes away what comparisons left whose process was killed.
pub(crate) fn sweep() -> Result<(), String> {
    for line in ip(&["netns", "list"])?.lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        if is_left_over(name) {
            ip(&["netns", "delete", name])?;
        }
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<String, String> {
    let line = format!("ip {}", args.join(" "));
    let output = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{line}`: {error}; install iproute2"))?;
    text(&line, &output)
}

fn text(line: &str, output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The second column of an interface's line in `/proc/net/dev`.
fn received(text: &str, device: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_a_line() {
        let text = "Inter-|   Receive  | Transmit\n face |bytes packets errs\n  ls0: 600 10 0 1 0 0 0 0 0 0\n ls01: 1 2 3\n";
        assert_eq!(received(text, "ls0"), Some(10));
        assert_eq!(received(text, "ls01"), Some(2));
        assert_eq!(received(text, "ls"), None);
    }
}
