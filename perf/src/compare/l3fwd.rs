//! DPDK's example `l3fwd`: built from the sources that Debian installs, with as few changes as make it run on virtual devices and tell what
//! it did.
//!
//! The changes: no checksum offload and no spreading over queues, which virtual devices lack; bursts as long as the appliance's; and on
//! SIGUSR1 it prints its packet counts. It is built for this processor, as DPDK's own build would be.

use super::Cores;
use super::hugepages::PROCESS_MIB;
use super::rules::rules;
use super::traffic::{CAPTURE_FLOWS, whole_packet};
use pmd_shim::BURST;
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the sources are, and the Debian package that they are in.
const SOURCES: &str = "/usr/share/dpdk/examples/l3fwd";
const COMMON: &str = "/usr/share/dpdk/examples/common";
pub(crate) const PACKAGES: &str = "dpdk-doc libdpdk-dev gcc pkg-config";
/// What its forwarding thread is called: it is the first one.
pub(crate) const WORKER: &str = "l3fwd";

/// Each passage of `main.c` that is changed, and what it is changed to.
const CHANGES: [(&str, &str); 4] = [
    (".mq_mode = RTE_ETH_MQ_RX_RSS,", ".mq_mode = RTE_ETH_MQ_RX_NONE,"),
    (".offloads = RTE_ETH_RX_OFFLOAD_CHECKSUM,", ".offloads = 0,"),
    (
        "static int\nprepare_ptype_parser(",
        "static void\nshow_counts(int signum)\n{\n\tstruct rte_eth_stats stats;\n\n\tRTE_SET_USED(signum);\n\
         \tif (rte_eth_stats_get(0, &stats) == 0) {\n\
         \t\tprintf(\"packets %\" PRIu64 \" sent %\" PRIu64 \"\\n\", stats.ipackets, stats.opackets);\n\
         \t\tfflush(stdout);\n\t}\n}\n\nstatic int\nprepare_ptype_parser(",
    ),
    (
        "\tsignal(SIGINT, signal_handler);\n",
        "\tsignal(SIGINT, signal_handler);\n\tsignal(SIGUSR1, show_counts);\n",
    ),
];
const BURST_CHANGE: &str = "#define MAX_PKT_BURST     32";

/// Whether it can be built here.
pub(crate) fn is_installed() -> bool {
    let pkg_config = Command::new("pkg-config").args(["--exists", "libdpdk"]).status();
    Path::new(SOURCES).join("main.c").is_file()
        && pkg_config.is_ok_and(|status| status.success())
        && Command::new("cc").arg("--version").output().is_ok()
}

/// Builds it in `folder`; the program.
pub(crate) fn build(folder: &Path) -> Result<PathBuf, String> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(SOURCES).map_err(at(Path::new(SOURCES)))? {
        let path = entry.map_err(at(Path::new(SOURCES)))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.ends_with(".c") && !name.ends_with(".h") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let text = change(name, text)?;
        let to = folder.join(name);
        fs::write(&to, text).map_err(at(&to))?;
        // The parsers of routes are included by others.
        if name.ends_with(".c") && !name.ends_with("_route_parse.c") {
            files.push(to);
        }
    }
    let program = folder.join("l3fwd");
    let flags: Vec<String> =
        pkg_config("--cflags")?.into_iter().filter(|flag| !flag.starts_with("-march")).collect();
    let mut command = Command::new("cc");
    command.args(["-O3", "-march=native", "-DALLOW_EXPERIMENTAL_API", "-w", "-I", COMMON, "-I"]).arg(folder);
    command.args(flags).arg("-o").arg(&program).args(files).args(pkg_config("--libs")?);
    let output = command.output().map_err(|error| format!("cc: {error}"))?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| line.contains("error")).unwrap_or("it says nothing");
    Err(format!("l3fwd cannot be built: {first}"))
}

fn change(name: &str, mut text: String) -> Result<String, String> {
    let burst = format!("#define MAX_PKT_BURST     {BURST}");
    let changes: &[(&str, &str)] = match name {
        "main.c" => &CHANGES,
        "l3fwd.h" => &[(BURST_CHANGE, &burst)],
        _ => &[],
    };
    for (from, to) in changes {
        if text.matches(from).count() != 1 {
            return Err(format!("{SOURCES}/{name} is another version: {from:?} is not in it once"));
        }
        text = text.replace(from, to);
    }
    Ok(text)
}

fn pkg_config(what: &str) -> Result<Vec<String>, String> {
    let output = Command::new("pkg-config").args([what, "libdpdk"]).output();
    let output = output.map_err(|error| format!("pkg-config: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
}

/// How it finds out where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// By so many access rules that match nothing, and a route for everything.
    Acl(usize),
    /// By an exact match of each of the capture's flows in a hash table.
    Em,
}

impl Lookup {
    /// As its option names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Acl(_) => "acl",
            Self::Em => "em",
        }
    }

    /// The memory that it needs in MiB: the exact match is made for four million flows of either IP version, whatever there are.
    pub(crate) const fn memory_mib(self) -> u32 {
        match self {
            Self::Acl(_) => PROCESS_MIB,
            Self::Em => 1024,
        }
    }

    /// The files of its rules, for IPv4 and IPv6.
    fn rules(self) -> [String; 2] {
        match self {
            Self::Acl(count) => [acl_rules(count), acl_rules6()],
            Self::Em => [em_rules(), em_rules6()],
        }
    }
}

/// Its arguments, and the files that they name, which are written to `folder`.
pub(crate) fn arguments(
    folder: &Path,
    device: &str,
    lookup: Lookup,
    cores: Cores,
) -> Result<Vec<String>, String> {
    with_rules(folder, device, (lookup.name(), lookup.memory_mib()), lookup.rules(), cores)
}

/// The same with access rules and routes of the caller's, as [`Firewall::l3fwd`](crate::firewall::Firewall::l3fwd) writes them, and a route for everything
/// behind them.
pub(crate) fn arguments_for(
    folder: &Path,
    device: &str,
    rules: String,
    memory_mib: u32,
    cores: Cores,
) -> Result<Vec<String>, String> {
    let rules = [rules + EVERYTHING, acl_rules6()];
    with_rules(folder, device, (Lookup::Acl(0).name(), memory_mib), rules, cores)
}

fn with_rules(
    folder: &Path,
    device: &str,
    (name, memory_mib): (&str, u32),
    [text, text6]: [String; 2],
    cores: Cores,
) -> Result<Vec<String>, String> {
    let [rules, rules6] = ["rules", "rules6"].map(|end| folder.join(format!("{name}.{end}")));
    for (path, text) in [(&rules, text), (&rules6, text6)] {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let arguments = [
        "--lcores".to_owned(),
        // A second core of its own would want a second transmit queue, which the device does not have.
        format!("1@{}", cores.worker),
        "--no-pci".into(),
        "--no-telemetry".into(),
        "--in-memory".into(),
        "-m".into(),
        memory_mib.to_string(),
        "--force-max-simd-bitwidth=512".into(),
        "--vdev".into(),
        device.to_owned(),
        "--".into(),
        "-p".into(),
        "0x1".into(),
        "-P".into(),
        "--parse-ptype".into(),
        "--config=(0,0,1)".into(),
        format!("--lookup={name}"),
        format!("--rule_ipv4={}", rules.display()),
        format!("--rule_ipv6={}", rules6.display()),
    ];
    Ok(arguments.to_vec())
}

/// A route for everything, to its port 0.
const EVERYTHING: &str = "R0.0.0.0/0 0.0.0.0/0 0 : 65535 0 : 65535 0x00/0x00 0\n";

/// The appliance's rules, as access rules, and a route for everything.
fn acl_rules(count: usize) -> String {
    let mut text = String::new();
    for rule in rules(count) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "@{} 10.2.0.0/24 0 : 65535 {} : {} 0x11/0xff",
            rule.source(),
            rule.port,
            rule.port
        );
    }
    text + EVERYTHING
}

fn acl_rules6() -> String {
    let any = "0:0:0:0:0:0:0:0/0";
    format!("R{any} {any} 0 : 65535 0 : 65535 0x00/0x00 0\n")
}

/// Each flow of the capture: destination, source, their ports, protocol, and the port that it leaves by.
fn em_rules() -> String {
    let mut text = String::new();
    for flow in 0..CAPTURE_FLOWS {
        let packet = whole_packet(flow);
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "R{} {} {} {} 0x11 0", address(30), address(26), port(36), port(34));
    }
    text
}

/// One that nothing matches: it wants some.
fn em_rules6() -> String {
    let net = "2001:0db8:0000:0000:0000:0000:0000:000";
    format!("R{net}1 {net}2 9 9 0x11 0\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flow_is_matched_exactly() {
        let text = em_rules();
        assert_eq!(text.lines().count(), CAPTURE_FLOWS);
        assert!(text.starts_with("R10.2.0.4 198.51.100.1 9000 1024 0x11 0\n"), "{text}");
        assert_eq!(text.lines().collect::<std::collections::HashSet<_>>().len(), CAPTURE_FLOWS);
    }

    #[test]
    fn the_rules_are_the_appliances() {
        let text = acl_rules(1000);
        assert_eq!(text.lines().filter(|line| line.starts_with('@')).count(), 1000);
        assert!(text.starts_with("@10.100.0.0/24 10.2.0.0/24 0 : 65535 10000 : 10000 0x11/0xff\n"), "{text}");
    }

    #[test]
    fn another_version_of_the_sources_is_refused() {
        assert!(change("main.c", "int main;".into()).is_err_and(|why| why.contains("another version")));
        assert_eq!(change("l3fwd_em.c", "x".into()).as_deref(), Ok("x"));
        let changed = change("l3fwd.h", format!("{BURST_CHANGE}\n")).unwrap();
        assert_eq!(changed, format!("#define MAX_PKT_BURST     {BURST}\n"));
    }
}
