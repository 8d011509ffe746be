//! The command line: every command with its arguments and its help. What is read here is well formed; whether it fits the
//! configuration (a port of that name, a backend of that name) is for the command to say.

#[cfg(test)]
mod tests;
mod values;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
pub(crate) use values::{Endpoint, PortCapture, PortMac, Protocol, Seed};
use values::{
    parse_duration, parse_endpoint, parse_port_capture, parse_port_mac, parse_protocol, parse_seed,
};

/// A userspace poll-mode network virtual appliance: security groups and load balancing without the kernel in the path.
#[derive(Debug, Parser)]
#[command(name = "nva", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  nva demo                           see it work: namespaces, real traffic, cleaned up
  nva check --config nva.yaml        is this configuration good?
  nva run --config nva.yaml          forward packets until SIGTERM

  Which rule decides this packet, and why?
  nva explain --config nva.yaml --port untrusted --proto tcp \\
      --from 198.51.100.7:40000 --to 203.0.113.10:443

  What would it have done with this capture?
  nva replay --config nva.yaml --in untrusted=before.pcap --out after/

  What would it do otherwise under another configuration?
  nva diff --config nva.yaml --new proposed.yaml --in untrusted=before.pcap

Exit codes: 0 done, 1 it ran and failed, 2 bad usage or bad configuration.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward packets, in the foreground
    Run(RunArgs),
    /// Read and validate a configuration and every file that it names
    Check(CheckArgs),
    /// Walk one packet through the configuration and name the rule that decides, without sending anything
    Explain(ExplainArgs),
    /// Put capture files through the same pipeline, in the captures' own time
    Replay(ReplayArgs),
    /// Put capture files through two configurations and print each flow that they treat differently
    Diff(DiffArgs),
    /// Turn rules from the cloud into sections of this configuration
    #[command(subcommand)]
    Import(ImportCommand),
    /// Build a small network in namespaces, send real traffic through the appliance, show what happens, clean up
    Demo(DemoArgs),
    /// Show what a running appliance is doing
    Show(ShowArgs),
    /// Watch a running appliance: packets and drops a second
    Top(TopArgs),
    /// Look after the kernel interfaces behind the ports
    #[command(subcommand)]
    Ports(PortsCommand),
    /// The demo's own web server and client
    #[command(subcommand, hide = true)]
    DemoPeer(DemoPeer),
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file; given more than once, the sections of all files are taken together
    #[arg(long = "config", value_name = "F", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `nva run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nva run --config nva.yaml
  nva run --config ports.yaml --config policy.yaml
  kill -HUP $(pidof nva)      read the files again: all of them or, where one is bad, none
  kill -TERM $(pidof nva)     end cleanly, with a summary")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Unix socket that `nva show` talks to [default: made from the configuration's name, under /run/nva]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// `nva check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nva check --config nva.yaml
  nva check --config nva.yaml --skip-files      the file alone, not what it names
  nva check --config nva.yaml --json | jq .ports

Needs no privilege and none of the devices.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Do not open the files that the configuration names
    #[arg(long)]
    pub(crate) skip_files: bool,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// `nva explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nva explain --config nva.yaml --port untrusted --proto tcp \\
      --from 198.51.100.7:40000 --to 203.0.113.10:443
  nva explain --config nva.yaml --port trusted --proto udp \\
      --from '[fd00:2::4]:5353' --to '[2001:db8::53]:53'
  nva explain --config nva.yaml --port untrusted --proto icmp \\
      --from 198.51.100.7 --to 10.2.0.4 --json

The packet is taken as the first of its flow. Exit code 0 whatever the verdict.

  nva explain --config nva.yaml --effective 10.2.0.4
  nva explain --config nva.yaml --effective 10.2.0.4 --json > effective.json

shows the rules that guard an address, both directions and levels, tags expanded. The JSON
has the shape of the cloud's effective rules; `nva import azure --nsg` takes it back.")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) packet: Option<PacketArgs>,
    /// Show the effective rules of this address instead
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "PacketArgs",
        conflicts_with = "PacketArgs"
    )]
    pub(crate) effective: Option<IpAddr>,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// The packet that is explained.
#[derive(Debug, Args)]
pub(crate) struct PacketArgs {
    /// Port on which the packet comes in
    #[arg(long, value_name = "P")]
    pub(crate) port: String,
    /// tcp, udp, icmp, esp, ah, or the number of an IP protocol
    #[arg(long, value_parser = parse_protocol)]
    pub(crate) proto: Protocol,
    /// Source address, with a port for tcp and udp: 192.0.2.1:40000, [2001:db8::1]:40000
    #[arg(long, value_name = "A:PORT", value_parser = parse_endpoint)]
    pub(crate) from: Endpoint,
    /// Destination address, with a port for tcp and udp
    #[arg(long, value_name = "B:PORT", value_parser = parse_endpoint)]
    pub(crate) to: Endpoint,
}

/// `nva replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nva replay --config nva.yaml --in untrusted=in.pcap --out out/
  nva replay --config nva.yaml --in untrusted=u.pcap --in trusted=t.pcapng --out out/ \\
      --verdicts verdicts.jsonl --down web-1 --linger 5s
  nva replay --config nva.yaml --in untrusted=in.pcap --out out/ \\
      --seed 000102030405060708090a0b0c0d0e0f

What each port would transmit is written to DIR/PORT.pcap, with nanosecond timestamps on
the captures' clock. The same configuration, captures and seed give the same bytes.

A capture does not say which station took it. Each port takes the Ethernet address to which
most unicast frames of its own captures go, of equals the one seen first; without one it is
02:00:00:00:00:NN, NN being the port's place in the configuration from 01. --mac sets it,
the summary shows it.")]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) captures: CaptureArgs,
    /// Folder for the frames that each port transmits; created if absent
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// File for the verdicts: one JSON object a line, one line for each input frame
    #[arg(long, value_name = "V")]
    pub(crate) verdicts: Option<PathBuf>,
    /// Print the summary as JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is replayed, and how.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Frames that a port receives: a pcap or pcapng file of Ethernet frames. More than once for one port: taken together
    #[arg(long = "in", value_name = "PORT=PCAP", required = true, value_parser = parse_port_capture)]
    pub(crate) inputs: Vec<PortCapture>,
    /// Fixes every secret and random choice: 32 hex digits [default: a random one, which is printed]
    #[arg(long, value_name = "HEX", value_parser = parse_seed)]
    pub(crate) seed: Option<Seed>,
    /// Take this backend as unhealthy; may be given more than once
    #[arg(long, value_name = "BACKEND")]
    pub(crate) down: Vec<String>,
    /// How long the clock runs on after the last frame: 500ms, 5s, 4m
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub(crate) linger: Duration,
    /// The Ethernet address of a port; may be given once for each
    #[arg(long, value_name = "PORT=MAC", value_parser = parse_port_mac)]
    pub(crate) mac: Vec<PortMac>,
}

/// `nva diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nva diff --config nva.yaml --new proposed.yaml --in untrusted=day.pcap
  nva diff --config ports.yaml --config old.yaml --new ports.yaml --new new.yaml \\
      --in untrusted=u.pcap --in trusted=t.pcap --json | jq .flows

Replays the captures under both configurations, as `nva replay` does, and prints each flow
whose verdict, reason, rule or backend changes, with the number of its packets that do. A
rule of another name is another rule.

Exit codes: 0 no flow changes, 1 some do, 2 they could not be compared: bad usage, a bad
configuration, a capture that cannot be read.")]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) old: ConfigArgs,
    /// The other configuration; given more than once, the sections of all files are taken together
    #[arg(long, value_name = "NEW", required = true)]
    pub(crate) new: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) captures: CaptureArgs,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// `nva import`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// From resource JSON, as Azure's tools export it
    Azure(ImportAzureArgs),
}

/// `nva import azure`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  az network nsg show -g rg -n web-nsg -o json > web-nsg.json
  az network nic list -g rg -o json > interfaces.json
  nva import azure --nsg web-nsg.json --asg interfaces.json --out policy.yaml
  nva check --config ports.yaml --config policy.yaml

  nva import azure --nsg terraform.tfstate --lb terraform.tfstate --report report.json

Takes exports of the REST API, templates, az, PowerShell, Terraform states and plans
(`terraform show -json`) and the effective rules of an interface. A rule that allows and
cannot be expressed is left out, and said so; one that denies stops the import (exit code 1).")]
pub(crate) struct ImportAzureArgs {
    /// Network security groups, with the subnets and interfaces that have them; may be given more than once
    #[arg(long, value_name = "J", required_unless_present_any = ["lb", "asg", "routes"])]
    pub(crate) nsg: Vec<PathBuf>,
    /// Load balancers, with the interfaces and public addresses that they name; may be given more than once
    #[arg(long, value_name = "J")]
    pub(crate) lb: Vec<PathBuf>,
    /// Members of application security groups: network interfaces, or a file such as {"asg-web": ["10.2.0.4"]}
    #[arg(long, value_name = "J")]
    pub(crate) asg: Vec<PathBuf>,
    /// Route tables
    #[arg(long, value_name = "J")]
    pub(crate) routes: Vec<PathBuf>,
    /// The published service tags: those that the rules name are copied
    #[arg(long, value_name = "J")]
    pub(crate) tags: Vec<PathBuf>,
    /// Copy no service tags: the configuration has them, under `service_tags`
    #[arg(long)]
    pub(crate) keep_tags: bool,
    /// File for the configuration [default: standard output]
    #[arg(long, value_name = "F")]
    pub(crate) out: Option<PathBuf>,
    /// File for the report: JSON with what was taken, what differs, what was left out, ignored or wrong, each with its path
    #[arg(long, value_name = "R")]
    pub(crate) report: Option<PathBuf>,
}

/// `nva demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo nva demo
  cargo run --release -- demo            from a checkout, as root

Needs root and iproute2. Everything that it makes is in namespaces of its own and goes away
at the end, also on Ctrl-C.")]
pub(crate) struct DemoArgs {
    /// Leave everything up at the end until Ctrl-C, and say how to look around
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What the demo starts in the namespaces of its client and backends.
#[derive(Debug, Subcommand)]
pub(crate) enum DemoPeer {
    /// Answers HTTP requests with its name until it is killed
    #[command(after_help = "Examples:\n  nva demo-peer serve --name web-1 --port 8080")]
    Serve {
        /// What it answers
        #[arg(long)]
        name: String,
        /// TCP port on every address; may be given more than once
        #[arg(long = "port", required = true)]
        ports: Vec<u16>,
    },
    /// Sends HTTP requests one after the other and prints who answered each
    #[command(after_help = "Examples:\n  nva demo-peer get --to 203.0.113.10:80 --count 10")]
    Get {
        /// Address and port of the server
        #[arg(long)]
        to: SocketAddr,
        /// How many requests, each on a connection of its own
        #[arg(long)]
        count: u32,
        /// How long to wait for one answer
        #[arg(long, value_parser = parse_duration, default_value = "2s")]
        timeout: Duration,
    },
}

/// `nva show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nva show stats                         packets in and out, and every drop by its reason
  nva show rules                         hits and the last hit of every security rule
  nva show rules --json | jq '.rules[] | select(.hits == 0)'
  nva show flows --address 198.51.100.7 --limit 20
  nva show backends --config nva.yaml    the appliance that runs this configuration")]
pub(crate) struct ShowArgs {
    /// What to show
    #[arg(value_enum)]
    pub(crate) what: Shown,
    /// Print JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) instance: InstanceArgs,
    /// flows: how many at most, up to 65536
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
    /// flows: only those with this address at either end, before or after translation
    #[arg(long, value_name = "A")]
    pub(crate) address: Option<IpAddr>,
}

/// Which running appliance.
#[derive(Debug, Args)]
pub(crate) struct InstanceArgs {
    /// Unix socket of the appliance [default: the only one under /run/nva]
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub(crate) socket: Option<PathBuf>,
    /// Configuration of the appliance, from whose name its socket is made
    #[arg(long, value_name = "F")]
    pub(crate) config: Vec<PathBuf>,
}

/// `nva top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nva top                                once a second until q or Ctrl-C
  nva top --count 5 | cat                five times, into a file or pipe")]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) instance: InstanceArgs,
    /// End after so many tables [default: never]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// What `nva show` can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shown {
    /// Counters of each port: received, verdicts, drop reasons
    Stats,
    /// The flows that are open now
    Flows,
    /// Security rules with their hits
    Rules,
    /// Backends with their state, and what they agree to in handshakes
    Backends,
    /// What the SYN proxy asked for, believed and refused
    Protection,
}

/// `nva ports`.
#[derive(Debug, Subcommand)]
pub(crate) enum PortsCommand {
    /// Give the interfaces back to the kernel: take away the drop that an appliance leaves when it ends
    #[command(after_help = "\
Examples:
  nva ports release --config nva.yaml    every port of the configuration
  nva ports release eth1 eth2            these interfaces

While an appliance runs, its ports are not released.")]
    Release(PortsArgs),
    /// Say of each interface whether the kernel is shut out, and whether an appliance runs on it
    #[command(after_help = "\
Examples:
  nva ports status --config nva.yaml
  nva ports status eth1")]
    Status(PortsArgs),
    /// Shut the kernel out of the interfaces before an appliance starts, as while the machine boots
    #[command(after_help = "\
Examples:
  nva ports hold --config nva.yaml       before the network comes up
  nva ports hold eth1 eth2

An interface that carries an address of the machine is refused: it would be cut off.")]
    Hold(PortsArgs),
}

/// Which interfaces.
#[derive(Debug, Args)]
pub(crate) struct PortsArgs {
    /// Configuration whose ports are meant; may be given more than once
    #[arg(long = "config", value_name = "F", required_unless_present = "devices")]
    pub(crate) config: Vec<PathBuf>,
    /// Kernel interfaces
    #[arg(value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
}
