//! Takes the ports over from the kernel, in an order in which nothing slips through: nobody else has the port, the kernel is shut out of
//! it, the kernel has no business there, and only then the sockets.

use super::counted;
use crate::output::{Failure, complain};
use nva_config::{Config, Port};
use nva_dataplane::addr::Mac;
use nva_dataplane::snapshot::Link;
use pmd_shim::af_packet::{self, ingress};
use pmd_shim::{DeviceError, Pool, PoolOptions, PortRx, PortTx, link, lock};

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
    /// Devices from which the kernel is shut out.
    pub(super) held: Vec<String>,
    /// Keep a second appliance off the devices while they live.
    pub(super) locks: Vec<lock::Lock>,
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
