//! Takes the ports over from the kernel, in an order in which nothing slips through: the kernel is shut out of all of them before the
//! first is opened.

use super::cores::on_core;
use super::steering::steering;
use crate::output::{Failure, complain};
use crate::ports::no_routable_addresses;
use core_affinity::CoreId;
use nva_config::{Config, Port};
use nva_dataplane::addr::Mac;
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::Link;
use pmd_shim::af_packet::{self, AfPacketOptions, AfPacketPort};
use pmd_shim::kernel::{DeviceError, ingress, link};
use pmd_shim::{Pool, PoolOptions, PortRx, PortTx};
use std::any::Any;

/// Frames of one worker: bursts and rings of all its ports, and the packets that wait for a neighbour or their first fragment.
const FRAMES: usize = 16_384;
/// An Ethernet header with one VLAN tag, on top of the longest IP packet.
const LINK_HEADER: usize = 18;

/// The ports, open.
pub(super) struct Opened<R, T, P> {
    /// Their devices.
    pub(super) links: Vec<Link>,
    /// The queues of each worker.
    pub(super) queues: Vec<Queues<R, T, P>>,
    /// The kernel interfaces behind them, which stay held when the appliance ends.
    pub(super) held: Vec<String>,
    /// What keeps a second appliance off the devices and is undone with its end; dropped when no queue is left.
    pub(super) guards: Vec<Box<dyn Any>>,
}

/// One worker's queues, in the order of the ports.
pub(super) struct Queues<R, T, P> {
    /// Where its frames come from.
    pub(super) pool: P,
    /// To receive from.
    pub(super) rx: Vec<R>,
    /// To send to.
    pub(super) tx: Vec<T>,
}

/// Opens every port of the configuration, with a queue for each worker. `any` is the placement of any of them.
///
/// # Errors
/// A [`Failure`] of exit code 1 that says what to do. Ports from which the kernel was shut out until then stay so.
pub(super) fn open(
    config: &Config,
    cores: &[CoreId],
    any: &Placement,
) -> Result<Opened<PortRx, PortTx, Pool>, Failure> {
    let ports = &config.ports;
    let refused: Vec<String> =
        ports.iter().filter_map(|port| no_routable_addresses(&port.device).err()).collect();
    if !refused.is_empty() {
        return Err(Failure {
            lines: refused.iter().map(|what| format!("error: {what}")).collect(),
            code: 1,
        });
    }
    for setting in link::kernel_forwards() {
        complain(format_args!(
            "warning: {setting} is on: the kernel forwards between its other interfaces here; what the ports receive it does not get"
        ));
    }
    for port in ports {
        ingress::hold(&port.device).map_err(|error| failed(port, &error))?;
    }
    let pools = pools(config, cores)?;
    let held = ports.iter().map(|port| port.device.clone()).collect();
    let mut opened = Opened { links: Vec::new(), queues: Vec::new(), held, guards: Vec::new() };
    opened.queues.extend(pools.iter().map(|pool| Queues {
        pool: pool.clone(),
        rx: Vec::new(),
        tx: Vec::new(),
    }));
    for port in ports {
        let taken = take(port, &pools, any).map_err(|error| failed(port, &error))?;
        opened.links.push(Link { mac: Mac(taken.mac), mtu: u16::try_from(taken.mtu).unwrap_or(u16::MAX) });
        opened.guards.push(Box::new(taken.lock));
        for ((queues, rx), tx) in opened.queues.iter_mut().zip(taken.rx).zip(taken.tx) {
            queues.rx.push(PortRx::AfPacket(rx));
            queues.tx.push(PortTx::AfPacket(tx));
        }
    }
    Ok(opened)
}

fn take(port: &Port, pools: &[Pool], any: &Placement) -> Result<AfPacketPort, DeviceError> {
    let options = AfPacketOptions {
        mtu: Some(port.mtu.into()),
        steering: steering(port.trust, any),
        ..AfPacketOptions::default()
    };
    af_packet::open(&port.device, &options, pools)
}

/// Each worker's frames, long enough for every port, in memory next to its core.
fn pools(config: &Config, cores: &[CoreId]) -> Result<Vec<Pool>, Failure> {
    let mtu = config.ports.iter().map(|port| usize::from(port.mtu)).max().unwrap_or(0);
    let options = PoolOptions { frames: FRAMES, data_room: mtu + LINK_HEADER };
    let pool = |core: &CoreId| on_core(*core, || Pool::new(options))?.map_err(Failure::failed);
    cores.iter().map(pool).collect()
}

fn failed(port: &Port, error: &DeviceError) -> Failure {
    Failure::failed(format!("port {}: {error}", port.name))
}
