//! Ports on any network interface of the kernel, by packet sockets.
//!
//! [`open`] takes an interface over: it locks it against a second instance, keeps the kernel from answering for it
//! ([`ingress`]), and only then opens sockets. Frames are copied once in either direction. What the kernel leaves to devices is
//! done here: checksums that are unfinished, segmentations that are longer than the link, VLAN tags that stand beside the frame.
//!
//! It never configures addresses or routes, and never takes a frame from the kernel: a packet socket sees a copy, and what stops the
//! original is the drop at ingress alone.
//!
//! All of it happens in the network namespace of the thread that calls [`open`]; the queues then work on any thread.

mod checksum;
mod fanout;
mod ring;
mod rx;
mod segment;
mod slot;
mod socket;
mod tx;
mod vnet;

pub use fanout::{BpfInstruction, Steering};
pub use rx::AfPacketRx;
pub use tx::AfPacketTx;

use crate::Pool;
use crate::kernel::link::{self, Link, LinkState};
use crate::kernel::{DeviceError, DeviceLock, ingress, lock};
pub(crate) use socket::PacketSocket;

/// How a port is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfPacketOptions {
    /// The longest network packet that will be sent, in bytes; `None` takes the interface's MTU.
    pub mtu: Option<u32>,
    /// Frames in each receive ring, rounded up to a power of two. So many may come while a worker is held up.
    pub rx_frames: u32,
    /// Frames in each transmit ring, rounded up to a power of two.
    pub tx_frames: u32,
    /// How frames are spread over the queues.
    pub steering: Steering,
}

impl Default for AfPacketOptions {
    /// 8192 frames to receive (13 MiB at an MTU of 1500) and 1024 to send for each queue; the interface's MTU; steering by hash.
    fn default() -> Self {
        Self { mtu: None, rx_frames: 8192, tx_frames: 1024, steering: Steering::Hash }
    }
}

/// An interface that is ours.
#[derive(Debug)]
pub struct AfPacketPort {
    /// The interface's hardware address.
    pub mac: [u8; 6],
    /// The longest network packet that is sent, in bytes.
    pub mtu: u32,
    /// The interface's number in its network namespace.
    pub ifindex: i32,
    /// One receive queue for each pool given.
    pub rx: Vec<AfPacketRx>,
    /// As many transmit queues.
    pub tx: Vec<AfPacketTx>,
    /// Tells the link's state.
    pub link: Link,
    /// Keeps other instances away; to be kept as long as the queues are used.
    pub lock: DeviceLock,
}

impl AfPacketPort {
    /// Whether frames can pass now.
    ///
    /// # Errors
    /// [`DeviceError`] when the interface is gone.
    pub fn link_state(&self) -> Result<LinkState, DeviceError> {
        self.link.state()
    }
}

/// Takes an interface over, with one pair of queues for each of `pools`: the pools of the workers that will own the queues.
///
/// The order leaves no gap: another instance is excluded first, then the kernel, and no frame is received before all queues share
/// the traffic. The interface is switched on if it was off. What is done to it stays when the port is closed;
/// [`ingress::release`] undoes it.
///
/// # Errors
/// [`DeviceError`] when the interface does not exist, is in use, has addresses that the kernel could be reached by (nothing of it is
/// changed then), has a smaller MTU than is asked for, or the kernel refuses.
pub fn open(device: &str, options: &AfPacketOptions, pools: &[Pool]) -> Result<AfPacketPort, DeviceError> {
    let lock = lock(device)?;
    let link = Link::open(device)?;
    link::refuse_addresses(device)?;
    let mac = link.mac()?;
    let mtu = link.usable_mtu(options.mtu)?;
    ingress::hold(device)?;
    link.set_up()?;

    let rx = pools
        .iter()
        .map(|pool| AfPacketRx::new(PacketSocket::open(&link)?, options, mtu, pool.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let tx = pools
        .iter()
        .map(|_| AfPacketTx::new(PacketSocket::open(&link)?, options, mtu))
        .collect::<Result<Vec<_>, _>>()?;
    let sockets: Vec<&PacketSocket> = rx.iter().map(AfPacketRx::socket).collect();
    fanout::join(&sockets, &options.steering)?;
    // Before the queues share the traffic each would get all of it.
    for socket in sockets {
        socket.open_gate()?;
    }
    Ok(AfPacketPort { mac, mtu, ifindex: link.ifindex(), rx, tx, link, lock })
}
