//! The command line: every command with its arguments and its help. What is read here is well formed; whether it fits the
//! configuration (a port of that name, a backend of that name) is for the command to say.

use clap::{Args, Parser, Subcommand, ValueEnum};
use nva_dataplane::addr::Mac;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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

/// An IP protocol as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `icmp`: ICMP between IPv4 addresses, ICMPv6 between IPv6 addresses.
    Icmp,
    /// Another one, by its IANA number.
    Number(u8),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use nva_dataplane::wire::protocol::{AH, ESP, TCP, UDP};
        match *self {
            Self::Icmp => f.write_str("icmp"),
            Self::Number(TCP) => f.write_str("tcp"),
            Self::Number(UDP) => f.write_str("udp"),
            Self::Number(ESP) => f.write_str("esp"),
            Self::Number(AH) => f.write_str("ah"),
            Self::Number(number) => write!(f, "protocol {number}"),
        }
    }
}

/// An address, and a port where one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The address.
    pub(crate) address: IpAddr,
    /// The port.
    pub(crate) port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// `PORT=PCAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortCapture {
    /// Name of the port.
    pub(crate) port: String,
    /// The capture file.
    pub(crate) path: PathBuf,
}

/// `PORT=MAC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortMac {
    /// Name of the port.
    pub(crate) port: String,
    /// Its Ethernet address, unicast.
    pub(crate) mac: Mac,
}

/// What fixes every secret and random choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) [u8; 16]);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    use nva_dataplane::wire::protocol::{AH, ESP, TCP, UDP};
    match text {
        "tcp" => Ok(Protocol::Number(TCP)),
        "udp" => Ok(Protocol::Number(UDP)),
        "icmp" => Ok(Protocol::Icmp),
        "esp" => Ok(Protocol::Number(ESP)),
        "ah" => Ok(Protocol::Number(AH)),
        _ => text
            .parse()
            .map(Protocol::Number)
            .map_err(|_| "expected tcp, udp, icmp, esp, ah, or a number from 0 to 255".into()),
    }
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Endpoint { address, port: None });
    }
    let socket: SocketAddr = text.parse().map_err(
        |_| "expected ADDRESS:PORT, an IPv6 address in brackets as [2001:db8::1]:443, or an address alone",
    )?;
    Ok(Endpoint { address: socket.ip(), port: Some(socket.port()) })
}

fn split_port<'a>(text: &'a str, what: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once('=')
        .filter(|(port, value)| !port.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("expected PORT={what}, PORT being a name from the configuration's ports"))
}

fn parse_port_capture(text: &str) -> Result<PortCapture, String> {
    let (port, path) = split_port(text, "PCAP")?;
    Ok(PortCapture { port: port.into(), path: path.into() })
}

fn parse_port_mac(text: &str) -> Result<PortMac, String> {
    let (port, address) = split_port(text, "MAC")?;
    let wrong = || "expected a unicast Ethernet address such as 02:00:00:00:00:01".to_string();
    let mut octets = [0; 6];
    let mut parts = address.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        *octet = hex_byte(part).ok_or_else(wrong)?;
    }
    let mac = Mac(octets);
    if parts.next().is_some() || mac.is_group() || octets == [0; 6] {
        return Err(wrong());
    }
    Ok(PortMac { port: port.into(), mac })
}

fn parse_seed(text: &str) -> Result<Seed, String> {
    let wrong = || "expected 32 hex digits".to_string();
    if text.len() != 32 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut seed = [0; 16];
    for (place, byte) in seed.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2).ok_or_else(wrong)?;
        *byte = hex_byte(digits).ok_or_else(wrong)?;
    }
    Ok(Seed(seed))
}

/// Two hex digits; unlike [`u8::from_str_radix`] it takes no sign.
fn hex_byte(digits: &str) -> Option<u8> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// A duration in the form of the configuration: a whole number and its unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a whole number with its unit ms, s, m or h, such as 500ms or 5s".to_string();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        fn visit(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !command.has_subcommands() {
                assert!(help.contains("Examples:\n"), "{} has no examples", command.get_name());
            }
            // Longer lines are broken again where help is wrapped.
            assert!(
                help.lines().all(|line| line.chars().count() <= 96),
                "{} has long lines",
                command.get_name()
            );
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(visit);
        }
        visit(&Cli::command());
    }

    #[test]
    fn replay_takes_what_the_contract_says() {
        let line = "nva replay --config a --config b --in u=x.pcap --in t=y=z.pcap --out d --verdicts v \
                    --seed 000102030405060708090A0b0c0d0e0f --down w1 --down w2 --linger 500ms --mac u=02:00:00:00:00:09";
        let Ok(Command::Replay(args)) = parse(line) else { panic!("refused") };
        assert_eq!(args.config.files, [PathBuf::from("a"), PathBuf::from("b")]);
        let args = args.captures;
        assert_eq!(args.inputs[1], PortCapture { port: "t".into(), path: "y=z.pcap".into() });
        assert_eq!(args.seed, Some(Seed(std::array::from_fn(|i| u8::try_from(i).unwrap_or(0)))));
        assert_eq!(args.down, ["w1", "w2"]);
        assert_eq!(args.linger, Duration::from_millis(500));
        assert_eq!(args.mac, [PortMac { port: "u".into(), mac: Mac([2, 0, 0, 0, 0, 9]) }]);
    }

    #[test]
    fn what_is_missing_or_misspelt_is_bad_usage() {
        for (line, kind) in [
            ("nva check", ErrorKind::MissingRequiredArgument),
            ("nva replay --config a --out d", ErrorKind::MissingRequiredArgument),
            ("nva replay --config a --in u=x", ErrorKind::MissingRequiredArgument),
            ("nva replay --config a --in x --out d", ErrorKind::ValueValidation),
            ("nva replay --config a --in =x --out d", ErrorKind::ValueValidation),
            ("nva replay --config a --in u=x --out d --seed 00", ErrorKind::ValueValidation),
            ("nva explain --config a", ErrorKind::MissingRequiredArgument),
            (
                "nva explain --config a --port p --from 10.0.0.1 --to 10.0.0.2",
                ErrorKind::MissingRequiredArgument,
            ),
            ("nva explain --config a --effective 10.0.0.1 --port p", ErrorKind::ArgumentConflict),
            ("nva explain --config a --effective web", ErrorKind::ValueValidation),
            ("nva diff --config a --in u=x", ErrorKind::MissingRequiredArgument),
            ("nva diff --new a --in u=x", ErrorKind::MissingRequiredArgument),
            ("nva diff --config a --new b", ErrorKind::MissingRequiredArgument),
            ("nva import azure", ErrorKind::MissingRequiredArgument),
            ("nva import", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("nva show nothing", ErrorKind::InvalidValue),
            ("nva ports release", ErrorKind::MissingRequiredArgument),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }

    #[test]
    fn endpoints_come_with_and_without_a_port_in_both_families() {
        for (text, address, port) in [
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("192.0.2.1", "192.0.2.1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
            ("2001:db8::1", "2001:db8::1", None),
        ] {
            let wanted = address.parse().map(|address| Endpoint { address, port }).ok();
            assert_eq!(parse_endpoint(text).ok(), wanted, "{text}");
        }
        for text in ["", "host:80", "192.0.2.1:", "192.0.2.1:65536", "[2001:db8::1]", "192.0.2.300"] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seeds_are_exactly_thirty_two_hex_digits_and_print_back() {
        let text = "00ff102030405060708090a0b0c0d0e0";
        assert_eq!(parse_seed(text).map(|seed| seed.to_string()), Ok(text.into()));
        for text in [
            "",
            "0",
            "00ff102030405060708090a0b0c0d0e",
            "00ff102030405060708090a0b0c0d0e00",
            "+0ff102030405060708090a0b0c0d0e0",
        ] {
            assert!(parse_seed(text).is_err(), "{text}");
        }
        assert!(parse_seed("ééééééééééééééé").is_err());
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("4m"), Ok(Duration::from_secs(240)));
        for text in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_unicast_addresses_are_a_ports_own() {
        assert!(parse_port_mac("u=02:00:00:00:00:01").is_ok());
        for text in [
            "u=ff:ff:ff:ff:ff:ff",
            "u=01:00:5e:00:00:01",
            "u=00:00:00:00:00:00",
            "u=2:0:0:0:0:1",
            "u=02:00:00:00:00:01:02",
            "u=02:00:00:00:00",
            "u=+2:00:00:00:00:01",
        ] {
            assert!(parse_port_mac(text).is_err(), "{text}");
        }
    }

    #[test]
    fn protocols_have_names_and_numbers() {
        assert_eq!(parse_protocol("tcp"), Ok(Protocol::Number(6)));
        assert_eq!(parse_protocol("icmp"), Ok(Protocol::Icmp));
        assert_eq!(parse_protocol("132"), Ok(Protocol::Number(132)));
        assert!(parse_protocol("256").is_err() && parse_protocol("TCP ").is_err());
    }
}
