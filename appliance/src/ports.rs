//! `nva ports`: who takes what arrives at the kernel interfaces behind the ports.
//!
//! A running appliance shuts the kernel out with a drop at ingress that outlives it, so that a machine whose appliance has died forwards
//! nothing past it. These commands put that drop in place before there is an appliance, show it, and take it away.

use crate::cli::{PortsArgs, PortsCommand};
use crate::files::{self, Depth};
use crate::output::{Align, Failure, Style, Table, complain, conclude, print};
use nva_config::Driver;
use pmd_shim::af_packet::ingress;
use pmd_shim::{link, lock};
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
        let kernel = config.ports.iter().filter(|port| port.driver == Driver::AfPacket);
        devices.extend(kernel.map(|port| port.device.clone()));
    }
    let mut seen = std::collections::HashSet::new();
    devices.retain(|device| seen.insert(device.clone()));
    if devices.is_empty() {
        return Err(Failure::usage("the configuration has no af_packet ports; name the interfaces"));
    }
    Ok(devices)
}

/// Does the same with each interface; one that fails does not keep the others from it.
fn each(args: &PortsArgs, act: fn(&str) -> Result<String, String>) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for device in devices(args)? {
        match act(&device) {
            Ok(done) => print(&format!("{device}: {done}\n"))?,
            Err(what) => failures.push(format!("error: {device}: {what}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure { lines: failures, code: 1 }) }
}
