//! Ports on interfaces of the kernel.

use super::{FRAMES, Opened, data_room, failed, shut_out};
use crate::output::Failure;
use crate::run::cores::on_core;
use crate::run::steering::steering;
use core_affinity::CoreId;
use nva_config::{Config, Port};
use nva_dataplane::addr::Mac;
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::Link;
use pmd_shim::af_packet::{self, AfPacketOptions};
use pmd_shim::kernel::DeviceError;
use pmd_shim::{Pool, PoolOptions, PortRx, PortTx};

type Kernel = Opened<PortRx, PortTx, Pool>;

/// Opens every port of the configuration, with a queue for each worker. `any` is the placement of any of them.
///
/// # Errors
/// A [`Failure`] of exit code 1 that says what to do. Ports from which the kernel was shut out until then stay so.
pub(in crate::run) fn open(config: &Config, cores: &[CoreId], any: &Placement) -> Result<Kernel, Failure> {
    let devices: Vec<(&str, String)> =
        config.ports.iter().map(|port| (port.name.as_str(), port.device.clone())).collect();
    shut_out(&devices)?;
    let pools = pools(config, cores)?;
    let mut opened = Opened::of(&pools, devices.into_iter().map(|(_, device)| device).collect());
    for port in &config.ports {
        af_packet(port, &pools, any, &mut opened).map_err(|error| failed(&port.name, &error))?;
    }
    Ok(opened)
}

fn af_packet(port: &Port, pools: &[Pool], any: &Placement, opened: &mut Kernel) -> Result<(), DeviceError> {
    let options = AfPacketOptions {
        mtu: Some(port.mtu.into()),
        steering: steering(port.trust, any),
        ..AfPacketOptions::default()
    };
    let taken = af_packet::open(&port.device, &options, pools)?;
    opened.links.push(link(taken.mac, taken.mtu));
    opened.drivers.push("packet sockets".into());
    opened.guards.push(Box::new(taken.lock));
    opened.add(taken.rx.into_iter().map(PortRx::AfPacket), taken.tx.into_iter().map(PortTx::AfPacket));
    Ok(())
}

fn link(mac: [u8; 6], mtu: u32) -> Link {
    Link { mac: Mac(mac), mtu: u16::try_from(mtu).unwrap_or(u16::MAX) }
}

/// Each worker's frames, long enough for every port, in memory next to its core.
fn pools(config: &Config, cores: &[CoreId]) -> Result<Vec<Pool>, Failure> {
    let options = PoolOptions { frames: FRAMES, data_room: data_room(config) };
    let pool = |core: &CoreId| on_core(*core, || Pool::new(options))?.map_err(Failure::failed);
    cores.iter().map(pool).collect()
}
