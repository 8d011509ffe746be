//! One AF_XDP socket: a queue of an interface, with a pool's memory as its UMEM.

use super::ring::{Consumer, Descriptor, Producer};
use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use crate::pool::{Loan, Umem};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many frames one call sends at most (`XDP_MAX_TX_SKB_BUDGET`, Linux 6.18); without it 32.
const MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// A queue is free a moment after the socket that had it is closed: the kernel cleans up behind the scenes.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// How the kernel reaches the UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    /// The driver decides: without copies if it can.
    IfNeeded,
    /// The kernel copies.
    Always,
}

/// How large a socket's rings are, in frames; powers of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSizes {
    /// Receive ring.
    pub(super) rx: u32,
    /// Fill ring.
    pub(super) fill: u32,
    /// Transmit and completion ring.
    pub(super) tx: u32,
}

/// A socket's rings.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) fill: Producer<u64>,
    pub(super) rx: Consumer<Descriptor>,
    pub(super) completion: Consumer<u64>,
    /// `None` on a socket that only receives.
    pub(super) tx: Option<Producer<Descriptor>>,
}

/// A socket that is bound to a queue. It is closed when the last of those that share it is dropped, all of which unmap their rings first;
/// only then are the chunks that they left with it free again.
#[derive(Debug)]
pub(super) struct XdpSocket {
    // Dropped in this order: the socket is closed before what it left is looked at.
    socket: Unbound,
    is_zero_copy: bool,
    /// Frames wait in the transmit ring that the kernel had no room for; it has to be asked again.
    waits: AtomicBool,
    left: Left,
}

impl XdpSocket {
    /// Makes the socket with its rings and binds it to a queue. It receives nothing before it is in the program's map.
    pub(super) fn open(
        link: &Link,
        queue: u32,
        umem: Umem,
        sizes: RingSizes,
        sends: bool,
        copying: Copying,
    ) -> Result<(Self, Rings), DeviceError> {
        let (socket, spare) = (Unbound::new(link, queue, umem)?, Unbound::new(link, queue, umem)?);
        socket.register()?;
        socket.size_rings(sizes, sends)?;
        let rings = socket.rings(sizes, sends)?;
        socket.bind(copying)?;
        let options: libc::xdp_options = socket.get(libc::XDP_OPTIONS).map_err(|error| {
            socket.error("getsockopt(XDP_OPTIONS)", error, "a kernel of version 5.3 or later is needed")
        })?;
        let is_zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        if sends {
            // Both make bursts cheaper and are not there on every kernel.
            let _ = socket.set(libc::SOL_XDP, MAX_TX_SKB_BUDGET, &sizes.tx);
            let bytes = i32::try_from(u64::from(sizes.tx) * u64::from(umem.chunk) * 2).unwrap_or(i32::MAX);
            let _ = socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes);
        }
        let left = Left { spare, loans: Mutex::new(Vec::new()) };
        Ok((Self { socket, is_zero_copy, waits: AtomicBool::new(false), left }, rings))
    }

    pub(super) fn queue(&self) -> u32 {
        self.socket.queue
    }

    /// The driver reads and writes the UMEM itself.
    pub(super) fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// Has the kernel send what is in the transmit ring.
    #[inline]
    pub(super) fn kick_tx(&self) -> io::Result<()> {
        // SAFETY: no data and no address are given.
        let outcome = unsafe {
            libc::sendto(self.as_fd().as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0)
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Remembers whether frames wait in the transmit ring.
    #[inline]
    pub(super) fn set_waiting(&self, waits: bool) {
        // Both halves of a socket belong to one worker; the value orders nothing.
        if self.waits.load(Ordering::Relaxed) != waits {
            self.waits.store(waits, Ordering::Relaxed);
        }
    }

    /// Asks the kernel again for what waits in the transmit ring, if anything does.
    #[inline]
    pub(super) fn kick_waiting(&self) {
        if self.waits.load(Ordering::Relaxed) {
            self.kick_again();
        }
    }

    #[cold]
    fn kick_again(&self) {
        let errno = self.kick_tx().err().and_then(|error| error.raw_os_error());
        // Anything but want of room is not mended by asking; the next frame that is sent reports it.
        self.set_waiting(matches!(errno, Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR | libc::EBUSY)));
    }

    /// Has the driver look at the fill ring.
    #[cold]
    pub(super) fn kick_rx(&self) {
        // SAFETY: no buffer and no address are given.
        unsafe {
            libc::recvfrom(
                self.as_fd().as_raw_fd(),
                ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
                ptr::null_mut(),
            );
        }
        // A failure is not new: the interface is down or gone, which the link's state tells.
    }

    /// What the kernel counted for this socket.
    pub(super) fn statistics(&self) -> libc::xdp_statistics {
        let none = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        self.socket.get(libc::XDP_STATISTICS).unwrap_or(none)
    }

    /// Leaves chunks with the socket that the kernel may have until it is closed.
    pub(super) fn leave(&self, loan: Loan) {
        self.left.loans.lock().unwrap_or_else(PoisonError::into_inner).push(loan);
    }
}

/// A socket in the making.
#[derive(Debug)]
struct Unbound {
    fd: OwnedFd,
    device: String,
    ifindex: u32,
    queue: u32,
    umem: Umem,
}

impl Unbound {
    fn new(link: &Link, queue: u32, umem: Umem) -> Result<Self, DeviceError> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            let remedy = "the kernel needs CONFIG_XDP_SOCKETS; use the af_packet driver instead";
            return Err(DeviceError::call(link.device(), "socket(AF_XDP)", error, remedy));
        }
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let ifindex = link.ifindex().cast_unsigned();
        Ok(Self { fd, device: link.device().to_owned(), ifindex, queue, umem })
    }

    fn error(&self, call: &'static str, error: io::Error, remedy: &'static str) -> DeviceError {
        DeviceError::call(&self.device, call, error, remedy)
    }

    fn set<T: Copy>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: pointer and length are of one live value.
        let outcome = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads an option that is a C structure of integers.
    fn get<T: Copy>(&self, option: libc::c_int) -> io::Result<T> {
        let mut value = core::mem::MaybeUninit::<T>::zeroed();
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: pointer and length are of one live, writable value.
        let outcome = unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_XDP, option, value.as_mut_ptr().cast(), &mut len)
        };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a structure of integers, for which zero and whatever the kernel writes are values.
        Ok(unsafe { value.assume_init() })
    }

    /// Makes the pool's memory the socket's UMEM.
    fn register(&self) -> Result<(), DeviceError> {
        let umem = self.umem;
        let registration = libc::xdp_umem_reg {
            addr: umem.start,
            len: umem.bytes,
            chunk_size: umem.chunk,
            headroom: umem.headroom,
            flags: 0,
            tx_metadata_len: 0,
        };
        self.set(libc::SOL_XDP, libc::XDP_UMEM_REG, &registration).map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::ENOBUFS) => format!(
                    "{} bytes of packet buffers are to be locked in memory: grant CAP_IPC_LOCK, or raise the limit (`ulimit -l`)",
                    umem.bytes
                ),
                _ => format!("the kernel has to lock {} bytes of packet buffers in memory", umem.bytes),
            };
            explained(&self.device, "setsockopt(XDP_UMEM_REG)", error, remedy)
        })
    }

    fn size_rings(&self, sizes: RingSizes, sends: bool) -> Result<(), DeviceError> {
        let size = |option, call, entries: u32| {
            let outcome = self.set(libc::SOL_XDP, option, &entries);
            outcome.map_err(|error| self.error(call, error, "configure smaller rings"))
        };
        size(libc::XDP_UMEM_FILL_RING, "setsockopt(XDP_UMEM_FILL_RING)", sizes.fill)?;
        size(libc::XDP_UMEM_COMPLETION_RING, "setsockopt(XDP_UMEM_COMPLETION_RING)", sizes.tx)?;
        size(libc::XDP_RX_RING, "setsockopt(XDP_RX_RING)", sizes.rx)?;
        if sends {
            size(libc::XDP_TX_RING, "setsockopt(XDP_TX_RING)", sizes.tx)?;
        }
        Ok(())
    }

    /// Maps the rings, which have these sizes.
    fn rings(&self, sizes: RingSizes, sends: bool) -> Result<Rings, DeviceError> {
        let offsets: libc::xdp_mmap_offsets = self.get(libc::XDP_MMAP_OFFSETS).map_err(|error| {
            self.error("getsockopt(XDP_MMAP_OFFSETS)", error, "a kernel of version 5.4 or later is needed")
        })?;
        let map = |error| self.error("mmap(AF_XDP ring)", error, "configure smaller rings");
        let fd = self.fd.as_fd();
        let fill_at = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;
        let completion_at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        Ok(Rings {
            fill: Producer::map(fd, fill_at, &offsets.fr, sizes.fill).map_err(map)?,
            rx: Consumer::map(fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, sizes.rx).map_err(map)?,
            completion: Consumer::map(fd, completion_at, &offsets.cr, sizes.tx).map_err(map)?,
            tx: sends
                .then(|| Producer::map(fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, sizes.tx))
                .transpose()
                .map_err(map)?,
        })
    }

    /// Binds the socket, with a little patience with one that has just been closed.
    fn bind(&self, copying: Copying) -> Result<(), DeviceError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let error = match self.try_bind(copying) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until {
                thread::sleep(PAUSE);
                continue;
            }
            let queue = self.queue;
            return Err(match error.raw_os_error() {
                Some(libc::EBUSY) => explained(
                    &self.device,
                    "bind(AF_XDP)",
                    error,
                    format!(
                        "another AF_XDP socket has queue {queue} of the device: stop the program that does"
                    ),
                ),
                Some(libc::EINVAL) => explained(
                    &self.device,
                    "bind(AF_XDP)",
                    error,
                    format!("the device has no queue {queue} any more; see `ethtool -l {}`", self.device),
                ),
                _ => self.error("bind(AF_XDP)", error, "use the af_packet driver on this device"),
            });
        }
    }

    fn try_bind(&self, copying: Copying) -> io::Result<()> {
        let flags = match copying {
            Copying::IfNeeded => libc::XDP_USE_NEED_WAKEUP,
            Copying::Always => libc::XDP_USE_NEED_WAKEUP | libc::XDP_COPY,
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: self.ifindex,
            sxdp_queue_id: self.queue,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: pointer and length are of one live structure.
        let outcome = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd.as_fd()
    }
}

/// Chunks that the kernel had when a socket's rings were given up, and the means to find out when it has them no more.
#[derive(Debug)]
struct Left {
    /// In the network namespace of the socket.
    spare: Unbound,
    loans: Mutex<Vec<Loan>>,
}

impl Left {
    /// Waits until nobody has the queue. Returns false if somebody still has it.
    ///
    /// Closing a socket waits for what the kernel was copying, but a driver that writes to the UMEM itself is told to stop only later, by
    /// a task of the kernel's; as long as that has not run, another socket cannot be bound.
    fn queue_is_free(&self) -> bool {
        const ONE: RingSizes = RingSizes { rx: 1, fill: 1, tx: 1 };
        let spare = &self.spare;
        let bound = spare
            .register()
            .and_then(|()| spare.size_rings(ONE, false))
            .and_then(|()| spare.bind(Copying::Always));
        let errno = bound.err().and_then(|error| error.errno).and_then(|error| error.raw_os_error());
        // An interface that is gone has taken its queues along.
        matches!(errno, None | Some(libc::ENODEV))
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let loans = core::mem::take(self.loans.get_mut().unwrap_or_else(PoisonError::into_inner));
        if loans.iter().all(|loan| loan.count() == 0) || !self.queue_is_free() {
            // In the second case better lost than written to.
            return;
        }
        for loan in loans {
            // SAFETY: the only socket that knew of these chunks had the queue, and nobody has it now.
            unsafe { loan.end() };
        }
    }
}

/// A failed call whose remedy is known better than by its error number.
pub(super) fn explained(
    device: &str,
    call: &'static str,
    error: io::Error,
    remedy: impl Into<std::borrow::Cow<'static, str>>,
) -> DeviceError {
    DeviceError { device: device.to_owned(), call, errno: Some(error), remedy: remedy.into() }
}
