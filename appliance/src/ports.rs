//! `nva ports`: who takes what arrives at the kernel interfaces behind the ports.
//!
//! A running appliance shuts the kernel out with a drop at ingress that outlives it, so that a machine whose appliance has died forwards
//! nothing past it. These commands put that drop in place before there is an appliance, show it, and take it away.

use crate::cli::{PortsArgs, PortsCommand};
use crate::files::{self, Depth};
use crate::output::{Align, Failure, Style, Table, complain, conclude, print};
use nva_config::{Driver, Port};
use pmd_shim::kernel::{DeviceError, ingress, link, lock};
use std::process::ExitCode;

/// Runs the command.
pub(crate) fn ports(command: &PortsCommand) -> ExitCode {
    conclude(match command {
        PortsCommand::Release(args) => each(args, release),
        PortsCommand::Hold(args) => each(args, hold),
        PortsCommand::Status(args) => devices(args).and_then(|devices| status(&devices)),
    })
}

/// The interfaces that the command line means, each once.
fn devices(args: &PortsArgs) -> Result<Vec<String>, Failure> {
    let mut devices = args.devices.clone();
    if !args.config.is_empty() {
        let config = files::load(&args.config, Depth::Alone).map_err(|all| Failure::configuration(&all))?;
        devices.extend(config.ports.iter().flat_map(interfaces));
    }
    let mut seen = std::collections::HashSet::new();
    devices.retain(|device| seen.insert(device.clone()));
    if devices.is_empty() {
        return Err(Failure::usage(
            "no port of the configuration is at a kernel interface; name the interfaces",
        ));
    }
    Ok(devices)
}

/// The kernel interfaces behind a port.
fn interfaces(port: &Port) -> Vec<String> {
    match port.driver {
        Driver::AfPacket | Driver::AfXdp => vec![port.device.clone()],
        Driver::Vxlan => Vec::new(),
        #[cfg(feature = "dpdk")]
        Driver::Dpdk => pmd_shim::dpdk::kernel_interfaces(&port.device),
        #[cfg(not(feature = "dpdk"))]
        Driver::Dpdk => Vec::new(),
    }
}

/// Who has an XDP program at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "af_xdp"), expect(dead_code, reason = "a build without AF_XDP cannot ask"))]
enum Program {
    /// Nobody.
    None,
    /// A running appliance, or one that was killed.
    Ours,
    /// Somebody else.
    Foreign,
}

impl Program {
    #[cfg(feature = "af_xdp")]
    fn at(device: &str) -> Result<Self, DeviceError> {
        Ok(match pmd_shim::af_xdp::attached(device)? {
            None => Self::None,
            Some(program) if program.is_ours() => Self::Ours,
            Some(_) => Self::Foreign,
        })
    }

    #[cfg(not(feature = "af_xdp"))]
    fn at(_: &str) -> Result<Self, DeviceError> {
        Ok(Self::None)
    }

    /// Takes away what an appliance that was killed left there; whether there was something.
    #[cfg(feature = "af_xdp")]
    fn take_away(device: &str) -> Result<bool, DeviceError> {
        pmd_shim::af_xdp::detach(device)
    }

    #[cfg(not(feature = "af_xdp"))]
    fn take_away(_: &str) -> Result<bool, DeviceError> {
        Ok(false)
    }
}

/// Does the same with each interface; one that fails does not keep the others from it.
fn each(args: &PortsArgs, act: fn(&str) -> Result<String, String>) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for device in devices(args)? {
        match act(&device) {
            Ok(done) => print(&format!("{device}: {done}\n"))?,
            Err(what) => failures.push(format!("error: {what}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure { lines: failures, code: 1 }) }
}

/// Takes the drop away and an XDP program that was left behind, unless an appliance stands behind it.
fn release(device: &str) -> Result<String, String> {
    let _ours = lock(device).map_err(|error| error.to_string())?;
    let text = |error: DeviceError| error.to_string();
    let had_program = Program::take_away(device).map_err(text)?;
    if !ingress::is_held(device).map_err(text)? && !had_program {
        return Ok("the kernel was not shut out; nothing to do".into());
    }
    ingress::release(device).map_err(text)?;
    Ok("released to the kernel".into())
}

/// Puts the drop in place.
fn hold(device: &str) -> Result<String, String> {
    let _ours = lock(device).map_err(|error| error.to_string())?;
    no_routable_addresses(device)?;
    if ingress::is_held(device).map_err(|error| error.to_string())? {
        return Ok("the kernel is shut out already".into());
    }
    ingress::hold(device).map_err(|error| error.to_string())?;
    Ok("the kernel is shut out".into())
}

/// Refuses an interface by which the machine itself is reached.
pub(crate) fn no_routable_addresses(device: &str) -> Result<(), String> {
    let addresses = link::routable_addresses(device).map_err(|error| error.to_string())?;
    let [first, ..] = addresses.as_slice() else { return Ok(()) };
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Err(format!(
        "device {device}: the kernel has the address {} there, and would be cut off or answer beside the appliance; \
         take it away with `ip address del {first} dev {device}`, or name another device",
        list.join(", ")
    ))
}

/// Says of each interface who takes what arrives there.
fn status(devices: &[String]) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("device", Align::Left),
        ("kernel", Align::Left),
        ("appliance", Align::Left),
        ("kernel's addresses", Align::Left),
    ]);
    let mut failures = Vec::new();
    for device in devices {
        match row(device) {
            Ok(row) => table.row(row),
            Err(error) => failures.push(format!("error: {error}")),
        }
    }
    if !table.is_empty() {
        print(&table.render(Style::stdout(), 0))?;
    }
    for setting in link::kernel_forwards() {
        complain(format_args!("the kernel forwards between its interfaces here: {setting} is on"));
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure { lines: failures, code: 1 }) }
}

fn row(device: &str) -> Result<[String; 4], DeviceError> {
    let kernel = match (ingress::is_held(device)?, Program::at(device)?) {
        (true, Program::None) => "shut out",
        (_, Program::Ours) => "shut out, XDP drops",
        (true, Program::Foreign) => "shut out, another's XDP",
        (false, Program::Foreign) => "another's XDP",
        (false, Program::None) => "takes packets",
    };
    // Taken only for a moment, shorter than an appliance that starts just now waits for it.
    let appliance = if lock(device).is_ok() { "none" } else { "running" };
    let addresses: Vec<String> = link::routable_addresses(device)?.iter().map(ToString::to_string).collect();
    let addresses = if addresses.is_empty() { "none".into() } else { addresses.join(", ") };
    Ok([device.to_owned(), kernel.into(), appliance.into(), addresses])
}
