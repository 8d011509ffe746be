//! The demo's network: namespaces, cables between them, and the processes inside; all of it gone when the lab is.

use super::config::{BACKENDS, CLIENT, CLIENT6, GATEWAY, GATEWAY6};
use crate::output::Failure;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

const PREFIX: &str = "nva-demo-";
/// The namespaces beside the backends': the switch joins the appliance's trusted port and the backends.
const CLIENT_SPACE: &str = "client";
pub(super) const APPLIANCE_SPACE: &str = "nva";
const SWITCH_SPACE: &str = "switch";

/// What the lab consists of; enough to take it away from anywhere, also from a panic hook.
#[derive(Debug)]
pub(super) struct Plan {
    /// The process that the lab belongs to.
    pid: u32,
    /// Files of the lab: configuration, control socket, logs.
    pub(super) folder: PathBuf,
}

impl Plan {
    /// A lab of this process.
    pub(super) fn new() -> Self {
        let pid = std::process::id();
        Self { pid, folder: std::env::temp_dir().join(format!("{PREFIX}{pid}")) }
    }

    /// The full name of one of its namespaces.
    pub(super) fn space(&self, name: &str) -> String {
        format!("{PREFIX}{}-{name}", self.pid)
    }

    fn spaces(&self) -> Vec<String> {
        let own = [CLIENT_SPACE, APPLIANCE_SPACE, SWITCH_SPACE].into_iter();
        own.chain(BACKENDS.iter().map(|host| host.name)).map(|name| self.space(name)).collect()
    }

    /// Takes everything away: processes, namespaces with their interfaces, files. What is not there is passed over.
    pub(super) fn remove(&self) {
        let there = namespaces();
        for space in self.spaces().iter().filter(|space| there.contains(space)) {
            remove_namespace(space);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// What of it is still there.
    pub(super) fn remains(&self) -> Vec<String> {
        let there = namespaces();
        let mut remains: Vec<String> =
            self.spaces().into_iter().filter(|space| there.contains(space)).collect();
        if self.folder.exists() {
            remains.push(self.folder.display().to_string());
        }
        remains
    }
}

/// Takes away what demos left whose process was killed.
pub(super) fn sweep() {
    for space in namespaces() {
        let owner = space.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            remove_namespace(&space);
        }
    }
}

fn namespaces() -> Vec<String> {
    let listed = ip(&["netns", "list"]).unwrap_or_default();
    listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Kills what runs in a namespace, and takes it away.
fn remove_namespace(space: &str) {
    for pid in ip(&["netns", "pids", space]).unwrap_or_default().split_whitespace() {
        signal(pid, "KILL");
    }
    let _ = ip(&["netns", "delete", space]);
}

/// Sends a signal to a process that the demo started.
pub(super) fn signal(pid: &str, signal: &str) {
    // The shell's own kill: there may be no other on a small machine.
    let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).stderr(Stdio::null()).status();
}

/// Runs `ip`; what it printed.
fn ip(args: &[&str]) -> Result<String, Failure> {
    let line = || format!("ip {}", args.join(" "));
    let output = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::failed(format!("`{}`: {error}; the demo needs iproute2", line())))?;
    text(&line(), output)
}

fn text(line: &str, output: Output) -> Result<String, Failure> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::failed(format!("`{line}` failed: {}", said.trim())))
}

/// The network, built. Dropping it takes it away.
#[derive(Debug)]
pub(super) struct Lab {
    plan: Arc<Plan>,
    children: Vec<Child>,
}

impl Lab {
    /// Builds the network.
    ///
    /// # Errors
    /// The command that failed; what was built until then is taken away.
    pub(super) fn build(plan: &Arc<Plan>) -> Result<Self, Failure> {
        let lab = Self { plan: Arc::clone(plan), children: Vec::new() };
        std::fs::create_dir_all(&plan.folder)
            .map_err(|error| Failure::failed(format!("{}: {error}", plan.folder.display())))?;
        for space in plan.spaces() {
            ip(&["netns", "add", &space])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        lab.cable(CLIENT_SPACE, "eth0", APPLIANCE_SPACE, "eth1")?;
        lab.cable(APPLIANCE_SPACE, "eth2", SWITCH_SPACE, "uplink")?;
        // The kernel is shut out before the first packet, as at the boot of a real appliance.
        lab.hold(&["eth1", "eth2"])?;
        lab.inside(SWITCH_SPACE, "link add bridge type bridge")?;
        lab.inside(SWITCH_SPACE, "link set bridge up")?;
        lab.inside(SWITCH_SPACE, "link set uplink master bridge")?;
        for host in BACKENDS {
            lab.cable(host.name, "eth0", SWITCH_SPACE, host.name)?;
            lab.inside(SWITCH_SPACE, &format!("link set {} master bridge", host.name))?;
            lab.address(host.name, &format!("{}/24", host.address), &format!("{}/64", host.address6))?;
        }
        lab.address(CLIENT_SPACE, &format!("{CLIENT}/24"), &format!("{CLIENT6}/64"))?;
        for (space, ends) in lab.ends() {
            for end in ends {
                lab.inside(space, &format!("link set {end} up"))?;
            }
        }
        for host in BACKENDS {
            lab.inside(host.name, &format!("route add default via {GATEWAY}"))?;
            lab.inside(host.name, &format!("-6 route add default via {GATEWAY6}"))?;
        }
        Ok(lab)
    }

    fn inside(&self, space: &str, command: &str) -> Result<(), Failure> {
        let space = self.plan.space(space);
        let args: Vec<&str> = ["-n", space.as_str()].into_iter().chain(command.split(' ')).collect();
        ip(&args).map(drop)
    }

    /// The cables' ends, by namespace.
    fn ends(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let switch = std::iter::once("uplink").chain(BACKENDS.iter().map(|host| host.name)).collect();
        let mut ends = vec![
            (SWITCH_SPACE, switch),
            (CLIENT_SPACE, vec!["eth0"]),
            (APPLIANCE_SPACE, vec!["eth1", "eth2"]),
        ];
        ends.extend(BACKENDS.iter().map(|host| (host.name, vec!["eth0"])));
        ends
    }

    /// Shuts the kernel out of the appliance's ports.
    fn hold(&self, devices: &[&str]) -> Result<(), Failure> {
        let args: Vec<&str> = ["ports", "hold"].into_iter().chain(devices.iter().copied()).collect();
        let output = self.program(APPLIANCE_SPACE, &args)?.output();
        text(
            &format!("nva {}", args.join(" ")),
            output.map_err(|error| Failure::failed(format!("nva: {error}")))?,
        )
        .map(drop)
    }

    /// A cable with two ends, both still down.
    fn cable(&self, near: &str, near_end: &str, far: &str, far_end: &str) -> Result<(), Failure> {
        let (near_space, far_space) = (self.plan.space(near), self.plan.space(far));
        ip(&[
            "link",
            "add",
            near_end,
            "netns",
            &near_space,
            "type",
            "veth",
            "peer",
            "name",
            far_end,
            "netns",
            &far_space,
        ])
        .map(drop)
    }

    /// A host's addresses. Without duplicate address detection they work at once.
    fn address(&self, space: &str, address: &str, address6: &str) -> Result<(), Failure> {
        self.inside(space, &format!("address add {address} dev eth0"))?;
        self.inside(space, &format!("address add {address6} dev eth0 nodad"))
    }

    /// A command that runs this program inside a namespace.
    ///
    /// # Errors
    /// When this program's own file is not known.
    pub(super) fn program(&self, space: &str, args: &[&str]) -> Result<Command, Failure> {
        use std::os::unix::process::CommandExt;
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("this program's own file: {error}")))?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.plan.space(space)]).arg(program).args(args).stdin(Stdio::null());
        // Ctrl-C on the terminal is for the demo, which then ends them in order.
        command.process_group(0);
        command.env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET");
        Ok(command)
    }

    /// Runs this program as the client to its end; what it printed, whether it failed or not.
    ///
    /// # Errors
    /// When it could not be started.
    pub(super) fn client(&self, args: &[&str]) -> Result<String, Failure> {
        let output = self.program(CLIENT_SPACE, args)?.stderr(Stdio::null()).output();
        let output = output.map_err(|error| Failure::failed(format!("the demo's client: {error}")))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts this program as the client, to be waited for.
    ///
    /// # Errors
    /// When it could not be started.
    pub(super) fn start_client(&self, args: &[&str]) -> Result<Child, Failure> {
        let child = self.program(CLIENT_SPACE, args)?.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        child.map_err(|error| Failure::failed(format!("the demo's client: {error}")))
    }

    /// Takes a process in that ends with the lab.
    pub(super) fn keep(&mut self, child: Child) {
        self.children.push(child);
    }

    /// A file below `/proc` as a namespace sees it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn proc_file(&self, space: &str, path: &str) -> Result<String, Failure> {
        let space = self.plan.space(space);
        ip(&["netns", "exec", &space, "cat", path])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        self.plan.remove();
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}
