//! The appliance under test: `nva run` in its namespace, and what it says of itself.

use super::config::Config;
use super::lab::{Lab, wait_until};
use nva_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start or end; generous, as the machine may be busy with other things.
const WITHIN: Duration = Duration::from_secs(20);

/// The drop reasons that there are: a counter by any other name would be one of unknown drops.
const REASONS: [&str; 27] = [
    "malformed",
    "bad_checksum",
    "not_for_us",
    "no_route",
    "unresolved_neighbor",
    "ttl_exceeded",
    "too_big",
    "fragment",
    "unsupported",
    "denied_by_rule",
    "blocklisted",
    "spoofed",
    "syn_rate",
    "source_rate",
    "connection_limit",
    "amplification",
    "icmp_rate",
    "invalid_cookie",
    "invalid_state",
    "no_healthy_backend",
    "flow_table_full",
    "snat_exhausted",
    "tunnel_unknown_vni",
    "tunnel_wrong_port",
    "tunnel_bad_peer",
    "tunnel_trust",
    "tx_queue_full",
];

/// A running appliance. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Appliance {
    child: Child,
    folder: PathBuf,
}

impl Appliance {
    /// Starts it and waits until it forwards.
    pub(crate) fn start(lab: &Lab, config: &Config) -> Self {
        write_config(&lab.folder, &config.text());
        Self::restart(lab)
    }

    /// Starts it with the configuration that is there, and waits until it forwards.
    pub(crate) fn restart(lab: &Lab) -> Self {
        let mut appliance = Self::begin(lab);
        appliance.wait_until_it_forwards();
        appliance
    }

    /// Starts it, and does not wait.
    pub(crate) fn begin(lab: &Lab) -> Self {
        Self::spawn(lab, lab.folder.clone(), run_command(&lab.folder))
    }

    /// Starts one with this configuration beside others, its files in a folder of its own, and waits until it forwards.
    pub(crate) fn start_beside(lab: &Lab, name: &str, text: &str) -> Self {
        let folder = lab.folder.join(name);
        std::fs::create_dir_all(&folder).expect("a writable temporary folder");
        write_config(&folder, text);
        // libxdp keeps its programs in a file system of its own, here one that ends with the process.
        let mounts = "mount --make-rprivate / && mount -t bpf bpf /sys/fs/bpf && exec \"$@\"";
        let run = run_command(&folder);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mounts, "sh"]).arg(run.get_program()).args(run.get_args());
        command.env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        let mut appliance = Self::spawn(lab, folder, command);
        appliance.wait_until_it_forwards();
        appliance
    }

    fn spawn(lab: &Lab, folder: PathBuf, mut command: Command) -> Self {
        let file = |name: &str| File::create(folder.join(name)).expect("a writable temporary folder");
        command.stdout(file("out")).stderr(file("err"));
        let child = lab.appliance.run(move || command.spawn()).expect("nva can be run");
        Self { child, folder }
    }

    /// Waits until it says that it forwards.
    pub(crate) fn wait_until_it_forwards(&mut self) {
        let deadline = Instant::now() + WITHIN;
        while !self.output("out").contains("forwarding on") {
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none() && Instant::now() < deadline, "no start: {}", self.output("err"));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What it printed so far: `out` or `err`.
    pub(crate) fn output(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process number");
        kill_process(pid, signal).expect("our own child");
    }

    /// Ends it the hard way, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Asks it to end; with which status it did, and what it printed.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return (status, self.output("out"));
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.output("err"));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Gives it this configuration and waits until it is in use.
    pub(crate) fn reload(&self, config: &Config) {
        let before = self.said("is in use");
        write_config(&self.folder, &config.text());
        self.signal(Signal::HUP);
        wait_until("the configuration is taken up", || self.said("is in use") > before);
    }

    /// How often it said something on standard error.
    pub(crate) fn said(&self, what: &str) -> usize {
        self.output("err").matches(what).count()
    }

    /// What `nva show WHAT --json` shows.
    pub(crate) fn show(&self, what: &str) -> Value {
        let socket = socket(&self.folder);
        let mut command = nva();
        command.args(["show", what, "--json", "--limit", "65536", "--socket"]).arg(socket);
        let output = command.output().expect("nva can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nva show {what}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("nva show {what}: {error}"))
    }

    /// A list that it shows.
    pub(crate) fn list(&self, what: &str) -> Vec<Value> {
        match self.show(what)[what].take() {
            Value::Array(list) => list,
            shown => panic!("nva show {what}: no list but {shown}"),
        }
    }

    /// How many frames of all ports were dropped for this reason.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        number(&self.show("stats")["total"]["dropped"][reason])
    }

    /// Looks at what must be so after every test: on each port every frame received has ended in one verdict, every drop has a
    /// reason of the list, no frame got lost on the way in or out for want of room, the reports fit each other, and none but the
    /// owner may ask.
    pub(crate) fn conserves(&self) {
        let stats = self.conserves_despite_errors();
        for port in stats["ports"].as_array().expect("a list of ports") {
            assert_eq!((number(&port["rx_errors"]), number(&port["tx_errors"])), (0, 0), "{port}");
        }
    }

    /// As [`Self::conserves`], where a device may have reported errors. Returns the counters.
    pub(crate) fn conserves_despite_errors(&self) -> Value {
        let stats = self.ports_conserve();
        self.reports_fit(&stats);
        let mode = std::fs::metadata(socket(&self.folder)).expect("the socket is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        stats
    }

    /// The part of [`Self::conserves`] that holds with any configuration: ports and their sums. Returns the counters.
    pub(crate) fn ports_conserve(&self) -> Value {
        let stats = self.at_rest();
        let ports = stats["ports"].as_array().expect("a list of ports");
        for port in ports.iter().chain([&stats["total"]]) {
            let dropped = port["dropped"].as_object().expect("drops by reason");
            let unknown: Vec<_> = dropped.keys().filter(|name| !REASONS.contains(&name.as_str())).collect();
            assert_eq!((dropped.len(), unknown.len()), (REASONS.len(), 0), "{unknown:?}");
            let verdicts = ["forwarded", "replied", "consumed", "held"].map(|name| number(&port[name]));
            let sum = verdicts.iter().sum::<u64>() + dropped.values().map(number).sum::<u64>();
            assert_eq!(number(&port["received"]), sum, "{port}");
            assert_eq!(number(&port["rx_no_buffer"]), 0, "{port}");
        }
        for counter in ["received", "forwarded", "transmitted", "rx_bytes", "tx_bytes"] {
            let sum: u64 = ports.iter().map(|port| number(&port[counter])).sum();
            assert_eq!(sum, number(&stats["total"][counter]), "{counter}");
        }
        stats
    }

    fn reports_fit(&self, stats: &Value) {
        assert_eq!(self.list("rules").len(), 3 + 6, "three rules and the default ones");
        let backends = self.list("backends");
        assert_eq!(backends.len(), 4);
        let balanced: u64 = backends.iter().map(|backend| number(&backend["flows_created"])).sum();
        let hits: u64 = self.list("rules").iter().map(|rule| number(&rule["hits"])).sum();
        let created = number(&stats["flows_created"]);
        // A rule that a reload takes away takes its hits with it.
        let all_counted = stats["generation"] == 1;
        assert!(balanced <= created && (created <= hits || !all_counted), "{balanced}, {created}, {hits}");
        let flows = self.list("flows");
        assert!(flows.len() as u64 <= created, "{} flows of {created}", flows.len());
        for flow in flows {
            let has_ends = ["from", "to", "translated"].iter().all(|end| flow[end]["address"].is_string());
            assert!(has_ends && flow["protocol"].is_string() && flow["rule"].is_string(), "{flow}");
        }
    }

    /// The counters once nothing moves any more.
    fn at_rest(&self) -> Value {
        let received = |stats: &Value| number(&stats["total"]["received"]);
        let mut stats = self.show("stats");
        wait_until("the network is at rest", || {
            std::thread::sleep(Duration::from_millis(30));
            let before = std::mem::replace(&mut stats, self.show("stats"));
            received(&before) == received(&stats)
        });
        stats
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if self.runs() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                println!("the appliance said: {}{}", self.output("out"), self.output("err"));
            }
        }
    }
}

/// A count in a report.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}"))
}

/// The program, with nothing of the caller's terminal or service manager.
pub(crate) fn nva() -> Command {
    let mut command = Command::new(binary::path());
    command.stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET");
    command
}

/// `nva run` with the configuration in a folder.
pub(crate) fn run_command(folder: &Path) -> Command {
    let mut command = nva();
    command.arg("run").arg("--config").arg(config_path(folder)).arg("--socket").arg(socket(folder));
    command
}

/// Runs `nva ports WHAT` on interfaces of the appliance's namespace.
pub(crate) fn ports(lab: &Lab, what: &str, devices: &[&str]) -> Output {
    let mut command = nva();
    command.args(["ports", what]).args(devices);
    lab.appliance.run(move || command.output()).expect("nva can be run")
}

/// Writes the configuration that the next start or reload reads.
pub(crate) fn write_config(folder: &Path, text: &str) {
    std::fs::write(config_path(folder), text).expect("a writable temporary folder");
}

fn config_path(folder: &Path) -> PathBuf {
    folder.join("nva.yaml")
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("nva.sock")
}
