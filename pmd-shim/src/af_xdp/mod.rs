//! Ports on any network interface of the kernel, by AF_XDP sockets.
//!
//! [`open`] takes an interface over. Its driver, or the kernel in its place, writes received frames straight to chunks of the workers'
//! pools, whose memory is registered as UMEM; what is sent is handed over as it lies in its chunk. Nothing is copied on this side of the
//! kernel, save frames of another worker's pool, which that worker handed over to be sent here.
//!
//! An XDP program at the interface gives each of its queues to a socket and drops everything else, before the kernel makes anything of it.
//! The program belongs to the interface: when the process is killed, it stays, and without sockets drops all. The drop at ingress
//! ([`crate::kernel::ingress`]) stands behind it, so that the kernel gets nothing either when the program is taken away.
//!
//! What AF_XDP does not tell is taken as unknown: no checksum counts as verified, and VLAN tags are left in the frames.
//!
//! All of it happens in the network namespace of the thread that calls [`open`]; the queues then work on any thread.

mod program;
mod redirect;
mod ring;
mod rx;
mod socket;
mod tx;
mod unbound;

pub use program::{AttachedProgram, XdpGuard, XdpMode, attached, detach};
pub use rx::AfXdpRx;
pub use tx::AfXdpTx;

use crate::Pool;
use crate::af_packet::PacketSocket;
use crate::bpf::Sockets;
use crate::kernel::link::{self, Link, LinkState};
use crate::kernel::{DeviceError, DeviceLock, ingress, lock};
use crate::pool::Loan;
use program::{attach, bpf_error, refuse_foreign};
use socket::XdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use unbound::{Copying, RingSizes};

/// An Ethernet header with one VLAN tag, on top of the longest network packet.
const LINK_HEADER_MAX: u32 = 18;

/// How a port is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfXdpOptions {
    /// The longest network packet that will be sent, in bytes; `None` takes the interface's MTU.
    pub mtu: Option<u32>,
    /// Frames in each receive ring, rounded up to a power of two. So many may come while a worker is held up.
    pub rx_frames: u32,
    /// Frames in each transmit ring, rounded up to a power of two.
    pub tx_frames: u32,
    /// Whether the driver may write to the UMEM itself if it can. Without, the kernel always copies.
    pub zero_copy: bool,
}

impl Default for AfXdpOptions {
    /// 4096 frames to receive and 1024 to send for each queue; the interface's MTU; without copies where the driver can.
    fn default() -> Self {
        Self { mtu: None, rx_frames: 4096, tx_frames: 1024, zero_copy: true }
    }
}

impl AfXdpOptions {
    fn ring_sizes(&self) -> RingSizes {
        let size = |frames: u32| frames.clamp(64, 1 << 20).next_power_of_two();
        let rx = size(self.rx_frames);
        RingSizes { rx, fill: rx * 2, tx: size(self.tx_frames) }
    }

    /// How many chunks the kernel is lent for one receive queue: an eighth more than its ring holds, so that a full ring and an empty pool
    /// can be told apart.
    fn rx_chunks(&self) -> u32 {
        let rx = self.ring_sizes().rx;
        rx + rx / 8
    }

    /// How many frames of a worker's pool the rings of a port take at most, if the worker serves `rx_queues` of its queues.
    pub fn frames(&self, rx_queues: u32) -> usize {
        self.rx_chunks() as usize * rx_queues as usize + self.ring_sizes().tx as usize
    }
}

/// An interface that is ours.
#[derive(Debug)]
pub struct AfXdpPort {
    /// The interface's hardware address.
    pub mac: [u8; 6],
    /// The longest network packet that is sent, in bytes.
    pub mtu: u32,
    /// The interface's number in its network namespace.
    pub ifindex: i32,
    /// One receive queue for each pool given. Together they serve all queues of the interface.
    pub rx: Vec<AfXdpRx>,
    /// As many transmit queues.
    pub tx: Vec<AfXdpTx>,
    /// Tells the link's state.
    pub link: Link,
    /// Keeps other instances away; to be kept as long as the queues are used.
    pub lock: DeviceLock,
    /// Keeps the program at the interface; to be kept as long as the queues are used.
    pub guard: PortGuard,
    /// How frames come and go, such as `zero-copy, driver mode`.
    pub description: String,
    /// What the operator should know about this interface, each a sentence.
    pub notes: Vec<String>,
}

impl AfXdpPort {
    /// Whether frames can pass now.
    ///
    /// # Errors
    /// [`DeviceError`] when the interface is gone.
    pub fn link_state(&self) -> Result<LinkState, DeviceError> {
        self.link.state()
    }
}

/// What a port keeps up at the interface, undone on drop: the program, and the reception of every frame whatever its destination. The drop
/// at ingress stays.
#[derive(Debug)]
pub struct PortGuard {
    _program: XdpGuard,
    _promiscuous: PacketSocket,
}

/// Takes an interface over, with one pair of queues for each of `pools`: the pools of the workers that will own the queues. Queue `i` of the
/// interface belongs to worker `i`; if there are more, they are dealt out in turn.
///
/// The order leaves no gap: another instance is excluded first, then the kernel, then the program drops everything until all sockets are
/// there. The interface is switched on if it was off, and VLAN tags are left in its frames. That and the drop at ingress stay when the port
/// is closed; [`ingress::release`] undoes the latter. When opening fails, no program stays.
///
/// # Errors
/// [`DeviceError`] when the interface does not exist, is in use, has addresses that the kernel could be reached by, another's XDP program or
/// fewer queues than there are pools (nothing of it is changed then), has a smaller MTU than is asked for or a larger one than fits, a pool
/// has too few frames, or the kernel refuses.
pub fn open(device: &str, options: &AfXdpOptions, pools: &[Pool]) -> Result<AfXdpPort, DeviceError> {
    let lock = lock(device)?;
    let link = Link::open(device)?;
    link::refuse_addresses(device)?;
    refuse_foreign(&link)?;
    let mac = link.mac()?;
    let mtu = link.usable_mtu(options.mtu)?;
    refuse_long_mtu(device, mtu, pools)?;
    let queues = usable_queues(&link, pools.len())?;
    ingress::hold(device)?;
    link.set_up()?;
    let mut notes = Vec::new();
    if !link.keep_vlan_tags() {
        notes.push(format!(
            "the driver of {device} takes VLAN tags off, and tagged frames arrive as untagged ones; try `ethtool -K {device} rxvlan off`"
        ));
    }
    if link.driver().as_deref() == Some("veth") {
        notes.push(format!(
            "{device} is one end of a veth pair: what the other end leaves unfinished stays so, such as checksums and VLAN tags; run `ethtool -K PEER tx off txvlan off` there"
        ));
    }

    let map = Sockets::new(queues, redirect::MAP_NAME)
        .map_err(|error| bpf_error(device, "bpf(BPF_MAP_CREATE XSKMAP)", error))?;
    let program = redirect::program(&map).map_err(|error| bpf_error(device, "bpf(BPF_PROG_LOAD)", error))?;
    let (program, reason) = attach(&link, program)?;
    if let Some(reason) = reason {
        notes.push(format!(
            "the driver of {device} does not take the XDP program: {reason}; it runs in generic mode, which is slower"
        ));
    }
    let mode = program.mode();
    let promiscuous = PacketSocket::open(&link)?;
    promiscuous.be_promiscuous()?;
    let guard = PortGuard { _program: program, _promiscuous: promiscuous };
    let copying =
        if options.zero_copy && mode != XdpMode::Generic { Copying::IfNeeded } else { Copying::Always };
    let (rx, tx) = open_queues(&link, options, mtu, pools, queues, copying)?;
    let sockets = || rx.iter().flat_map(AfXdpRx::sockets);
    let description = describe(mode, sockets());
    for socket in sockets() {
        let outcome = map.set(socket.queue(), socket.as_fd());
        outcome.map_err(|error| bpf_error(device, "bpf(BPF_MAP_UPDATE_ELEM)", error))?;
    }
    Ok(AfXdpPort { mac, mtu, ifindex: link.ifindex(), rx, tx, link, lock, guard, description, notes })
}

/// A queue of each worker's, with a socket for each of the interface's queues.
fn open_queues(
    link: &Link,
    options: &AfXdpOptions,
    mtu: u32,
    pools: &[Pool],
    queues: u32,
    copying: Copying,
) -> Result<(Vec<AfXdpRx>, Vec<AfXdpTx>), DeviceError> {
    let sizes = options.ring_sizes();
    let mut rx: Vec<AfXdpRx> = pools.iter().map(|_| AfXdpRx::new()).collect();
    let mut tx = Vec::new();
    for (queue, worker) in (0..queues).zip((0..pools.len()).cycle()) {
        let (Some(pool), Some(rx)) = (pools.get(worker), rx.get_mut(worker)) else { break };
        // A worker sends by the first of its sockets.
        let sends = tx.len() < pools.len();
        let (socket, rings) = XdpSocket::open(link, queue, Loan::umem(pool), sizes, sends, copying)?;
        let socket = Arc::new(socket);
        if !rx.add(socket.clone(), rings.rx, rings.fill, pool, options.rx_chunks()) {
            return Err(DeviceError::check(
                link.device(),
                "a worker has too few packet buffers for the port's receive rings",
                format!("give it {} more for this port, or configure smaller rings", options.rx_chunks()),
            ));
        }
        if let Some(ring) = rings.tx {
            tx.push(AfXdpTx::new(socket, ring, rings.completion, pool, mtu));
        }
    }
    Ok((rx, tx))
}

/// How many queues an interface receives by. A socket is opened for each.
///
/// # Errors
/// [`DeviceError`] when there is no such interface or it does not tell.
pub fn receive_queues(device: &str) -> Result<u32, DeviceError> {
    Ok(Link::open(device)?.queue_counts()?.rx)
}

/// How many receive queues the interface has, if that is enough for the workers.
fn usable_queues(link: &Link, workers: usize) -> Result<u32, DeviceError> {
    let counts = link.queue_counts()?;
    let usable = counts.rx.min(counts.tx) as usize;
    if workers <= usable {
        return Ok(counts.rx);
    }
    let device = link.device();
    let has = format!("it has {} to receive from and {} to send to", counts.rx, counts.tx);
    let wanted = u32::try_from(workers).unwrap_or(u32::MAX);
    let remedy = if wanted <= counts.max {
        format!("{has}: run `{}`, or lower the number of workers to {usable}", counts.command(device, wanted))
    } else {
        format!("{has} and can have {}: configure no more workers than that", counts.max.max(usable as u32))
    };
    Err(DeviceError::check(device, "the interface has fewer queues than there are workers", remedy))
}

/// Frames of the MTU fit into every pool's chunks, as an AF_XDP socket uses them.
fn refuse_long_mtu(device: &str, mtu: u32, pools: &[Pool]) -> Result<(), DeviceError> {
    let longest = pools.iter().map(|pool| Loan::umem(pool).frame_max).min().unwrap_or(u32::MAX);
    if mtu <= longest.saturating_sub(LINK_HEADER_MAX) {
        return Ok(());
    }
    Err(DeviceError::check(
        device,
        "the MTU is longer than AF_XDP's packet buffers",
        format!(
            "configure at most {} or use the af_packet driver on this device",
            longest.saturating_sub(LINK_HEADER_MAX)
        ),
    ))
}

fn describe<'a>(mode: XdpMode, sockets: impl Iterator<Item = &'a XdpSocket>) -> String {
    let (zero_copy, copy): (Vec<_>, Vec<_>) = sockets.partition(|socket| socket.is_zero_copy());
    let copying = match (zero_copy.is_empty(), copy.is_empty()) {
        (false, true) => "zero-copy",
        (false, false) => "zero-copy on some queues",
        _ => "copy",
    };
    let mode = match mode {
        XdpMode::Driver => "driver",
        XdpMode::Generic => "generic",
        XdpMode::Hardware => "hardware",
    };
    format!("{copying}, {mode} mode")
}
