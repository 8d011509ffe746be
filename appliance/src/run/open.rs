//! Takes the ports over from the kernel, in an order in which nothing slips through: the kernel is shut out of all of them before the
//! first is opened.

use super::steering::steering;
use crate::output::{Failure, complain};
use crate::ports::no_routable_addresses;
use nva_config::{Config, Port};
use nva_dataplane::addr::Mac;
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::Link;
use pmd_shim::af_packet::{self, AfPacketOptions, AfPacketPort, DeviceError, DeviceLock, ingress, link};
use pmd_shim::{Pool, PoolOptions, PortRx, PortTx};

/// Frames of one worker: bursts and rings of all its ports, and the packets that wait for a neighbour or their first fragment.
const FRAMES: usize = 16_384;
/// An Ethernet header with one VLAN tag, on top of the longest IP packet.
const LINK_HEADER: usize = 18;

/// The ports, open.
pub(super) struct Opened {
    /// Their devices.
    pub(super) links: Vec<Link>,
    /// The queues of each worker.
    pub(super) queues: Vec<Queues>,
    /// Keep a second appliance off the devices while they live.
    pub(super) locks: Vec<DeviceLock>,
}

/// One worker's queues, in the order of the ports.
pub(super) struct Queues {
    /// Where its frames come from.
    pub(super) pool: Pool,
    /// To receive from.
    pub(super) rx: Vec<PortRx>,
    /// To send to.
    pub(super) tx: Vec<PortTx>,
}

/// Opens every port of the configuration, with a queue for each worker. `any` is the placement of any of them.
///
/// # Errors
/// A [`Failure`] of exit code 1 that says what to do. Ports from which the kernel was shut out until then stay so.
pub(super) fn open(config: &Config, any: &Placement) -> Result<Opened, Failure> {
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
    let pools = pools(config)?;
    let mut opened = Opened { links: Vec::new(), queues: Vec::new(), locks: Vec::new() };
    opened.queues.extend(pools.iter().map(|pool| Queues {
        pool: pool.clone(),
        rx: Vec::new(),
        tx: Vec::new(),
    }));
    for port in ports {
        let taken = take(port, &pools, any).map_err(|error| failed(port, &error))?;
        opened.links.push(Link { mac: Mac(taken.mac), mtu: u16::try_from(taken.mtu).unwrap_or(u16::MAX) });
        opened.locks.push(taken.lock);
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

/// Each worker's frames, long enough for every port.
fn pools(config: &Config) -> Result<Vec<Pool>, Failure> {
    let mtu = config.ports.iter().map(|port| usize::from(port.mtu)).max().unwrap_or(0);
    let options = PoolOptions { frames: FRAMES, data_room: mtu + LINK_HEADER };
    let pool = |_| Pool::new(options).map_err(Failure::failed);
    config.dataplane.workers.iter().map(pool).collect()
}

fn failed(port: &Port, error: &DeviceError) -> Failure {
    Failure::failed(format!("port {}: {error}", port.name))
}
