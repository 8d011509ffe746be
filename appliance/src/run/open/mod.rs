//! Takes the ports over from the kernel, in an order in which nothing slips through: the kernel is shut out of all of them before the
//! first is opened.

#[cfg(feature = "dpdk")]
mod dpdk;
mod kernel;

#[cfg(feature = "dpdk")]
pub(super) use dpdk::open as open_dpdk;
pub(super) use kernel::open as open_kernel;

use crate::output::{Failure, complain};
use crate::ports::no_routable_addresses;
use crate::run::carrier::Carrier;
use nva_config::{Config, Port};
use nva_dataplane::addr::Mac;
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::Link;
use pmd_shim::kernel::{ingress, link};
use std::any::Any;
use std::fmt::Display;

/// Frames of one worker: bursts and rings of all its ports, and the packets that wait for a neighbour or their first fragment.
const FRAMES: usize = 16_384;
/// An Ethernet header with one VLAN tag, on top of the longest IP packet.
const LINK_HEADER: usize = 18;

/// The ports, open.
pub(super) struct Opened<R, T, P> {
    /// Their devices.
    pub(super) links: Vec<Link>,
    /// How each is driven, in words.
    pub(super) drivers: Vec<String>,
    /// Where each worker stands among all, as the devices' queues are steered.
    pub(super) placements: Vec<Placement>,
    /// The queues of each worker.
    pub(super) queues: Vec<Queues<R, T, P>>,
    /// The kernel interfaces behind them, which stay held when the appliance ends.
    pub(super) held: Vec<String>,
    /// What keeps a second appliance off the devices and is undone with its end; dropped when no queue is left.
    pub(super) guards: Vec<Box<dyn Any>>,
    /// By which the devices' links are watched, in the order of the ports; dropped as those are.
    pub(super) carriers: Vec<Box<dyn Carrier>>,
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

impl<R, T, P: Clone> Opened<R, T, P> {
    /// No port yet, for workers with these pools.
    fn of(pools: &[P], held: Vec<String>, seed: [u8; 16]) -> Self {
        let queues = |pool: &P| Queues { pool: pool.clone(), rx: Vec::new(), tx: Vec::new() };
        let placement = |index| Placement::new(index, pools.len(), seed);
        Self {
            placements: (0..pools.len()).map(placement).collect(),
            links: Vec::new(),
            drivers: Vec::new(),
            queues: pools.iter().map(queues).collect(),
            held,
            guards: Vec::new(),
            carriers: Vec::new(),
        }
    }

    /// Adds a port's device.
    fn describe(&mut self, mac: [u8; 6], mtu: u32, driver: String) {
        self.links.push(Link { mac: Mac(mac), mtu: u16::try_from(mtu).unwrap_or(u16::MAX) });
        self.drivers.push(driver);
    }

    /// Adds a port's queues, one of each for every worker.
    fn add(&mut self, rx: impl IntoIterator<Item = R>, tx: impl IntoIterator<Item = T>) {
        for ((queues, rx), tx) in self.queues.iter_mut().zip(rx).zip(tx) {
            queues.rx.push(rx);
            queues.tx.push(tx);
        }
    }
}

/// Shuts the kernel out of interfaces: of all or, where one is in the machine's own use, of none. Each comes with the name of its port.
///
/// # Errors
/// A [`Failure`] of exit code 1 that says what to do. Interfaces from which the kernel was shut out until then stay so.
fn shut_out(interfaces: &[(&str, String)]) -> Result<(), Failure> {
    let refused = interfaces.iter().filter_map(|(_, device)| no_routable_addresses(device).err());
    let lines: Vec<String> = refused.map(|what| format!("error: {what}")).collect();
    if !lines.is_empty() {
        return Err(Failure { lines, code: 1 });
    }
    for setting in link::kernel_forwards() {
        complain(format_args!(
            "warning: {setting} is on: the kernel forwards between its other interfaces here; what the ports receive it does not get"
        ));
    }
    interfaces
        .iter()
        .try_for_each(|(port, device)| ingress::hold(device).map_err(|error| failed(port, &error)))
}

/// The ports that have queues; segments, which stand behind them, have none.
fn on_devices(config: &Config) -> impl Iterator<Item = &Port> {
    config.ports.iter().filter(|port| port.vxlan.is_none())
}

fn failed(port: &str, error: &dyn Display) -> Failure {
    Failure::failed(format!("port {port}: {error}"))
}

/// The longest frame of any port, in bytes.
fn data_room(config: &Config) -> usize {
    config.ports.iter().map(|port| usize::from(port.mtu)).max().unwrap_or(0) + LINK_HEADER
}
