//! Ports on interfaces of the kernel.

use super::{FRAMES, Opened, data_room, failed, on_devices, shut_out};
use crate::output::Failure;
use crate::run::cores::on_core;
use crate::run::steering::steering;
use core_affinity::CoreId;
use nva_config::{Config, Driver, Port};
use pmd_shim::af_packet::{self, AfPacketOptions};
use pmd_shim::kernel::DeviceError;
use pmd_shim::{Pool, PoolOptions, PortRx, PortTx};

#[cfg(feature = "af_xdp")]
use crate::output::{Style, complain};
#[cfg(feature = "af_xdp")]
use pmd_shim::af_xdp::{self, AfXdpOptions};

type Kernel = Opened<PortRx, PortTx, Pool>;

/// Opens every port of the configuration, with a queue for each worker.
///
/// # Errors
/// A [`Failure`] of exit code 1 that says what to do. Ports from which the kernel was shut out until then stay so.
pub(in crate::run) fn open(config: &Config, cores: &[CoreId], seed: [u8; 16]) -> Result<Kernel, Failure> {
    let devices: Vec<(&str, String)> =
        on_devices(config).map(|port| (port.name.as_str(), port.device.clone())).collect();
    shut_out(&devices)?;
    let pools = pools(config, cores)?;
    let mut opened = Opened::of(&pools, devices.into_iter().map(|(_, device)| device).collect(), seed);
    for port in on_devices(config) {
        open_one(port, &pools, &mut opened)?;
    }
    Ok(opened)
}

fn open_one(port: &Port, pools: &[Pool], opened: &mut Kernel) -> Result<(), Failure> {
    let outcome = match port.driver {
        Driver::AfPacket => by_af_packet(port, pools, opened),
        #[cfg(feature = "af_xdp")]
        Driver::AfXdp => by_af_xdp(port, pools, opened),
        // Refused before anything is opened.
        other => return Err(failed(&port.name, &format!("this build has no {other}"))),
    };
    outcome.map_err(|error| failed(&port.name, &error))
}

fn by_af_packet(port: &Port, pools: &[Pool], opened: &mut Kernel) -> Result<(), DeviceError> {
    let mut options = AfPacketOptions { mtu: Some(port.mtu.into()), ..AfPacketOptions::default() };
    if let Some(any) = opened.placements.first() {
        options.steering = steering(port.trust, any);
    }
    let taken = af_packet::open(&port.device, &options, pools)?;
    opened.describe(taken.mac, taken.mtu, "packet sockets".into());
    opened.guards.push(Box::new(taken.lock));
    opened.carriers.push(Box::new(taken.link));
    opened.add(taken.rx.into_iter().map(PortRx::AfPacket), taken.tx.into_iter().map(PortTx::AfPacket));
    Ok(())
}

#[cfg(feature = "af_xdp")]
fn by_af_xdp(port: &Port, pools: &[Pool], opened: &mut Kernel) -> Result<(), DeviceError> {
    let options = AfXdpOptions { mtu: Some(port.mtu.into()), ..AfXdpOptions::default() };
    let taken = af_xdp::open(&port.device, &options, pools)?;
    for note in &taken.notes {
        complain(Style::stderr().warn(format_args!("port {}: {note}", port.name)));
    }
    opened.describe(taken.mac, taken.mtu, format!("AF_XDP: {}", taken.description));
    opened.guards.push(Box::new((taken.guard, taken.lock)));
    opened.carriers.push(Box::new(taken.link));
    opened.add(taken.rx.into_iter().map(PortRx::AfXdp), taken.tx.into_iter().map(PortTx::AfXdp));
    Ok(())
}

/// Each worker's frames, long enough for every port, in memory next to its core.
fn pools(config: &Config, cores: &[CoreId]) -> Result<Vec<Pool>, Failure> {
    let rings = rings(config, cores.len())?;
    let options = PoolOptions { frames: FRAMES + rings, data_room: data_room(config) };
    let pool = |core: &CoreId| on_core(*core, || Pool::new(options))?.map_err(Failure::failed);
    cores.iter().map(pool).collect()
}

/// How many frames of a worker the rings of AF_XDP ports hold; packet sockets have memory of their own.
#[cfg(feature = "af_xdp")]
fn rings(config: &Config, workers: usize) -> Result<usize, Failure> {
    let ports = config.ports.iter().filter(|port| port.driver == Driver::AfXdp);
    let frames = |port: &Port| {
        let queues = af_xdp::receive_queues(&port.device).map_err(|error| failed(&port.name, &error))?;
        Ok(AfXdpOptions::default().frames(queues.div_ceil(u32::try_from(workers).unwrap_or(1))))
    };
    ports.map(frames).sum()
}

#[cfg(not(feature = "af_xdp"))]
fn rings(_: &Config, _: usize) -> Result<usize, Failure> {
    Ok(0)
}
