//! Making an AF_XDP socket: its UMEM, its rings, and binding it to a queue.

use super::ring::{Consumer, Descriptor, Producer};
use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use crate::pool::Umem;
use core::ptr;
use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

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

/// A socket in the making.
#[derive(Debug)]
pub(super) struct Unbound {
    fd: OwnedFd,
    device: String,
    ifindex: u32,
    pub(super) queue: u32,
    umem: Umem,
}

impl Unbound {
    pub(super) fn new(link: &Link, queue: u32, umem: Umem) -> Result<Self, DeviceError> {
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

    pub(super) fn error(&self, call: &'static str, error: io::Error, remedy: &'static str) -> DeviceError {
        DeviceError::call(&self.device, call, error, remedy)
    }

    pub(super) fn set<T: Copy>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
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
    pub(super) fn get<T: Copy>(&self, option: libc::c_int) -> io::Result<T> {
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
    pub(super) fn register(&self) -> Result<(), DeviceError> {
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

    pub(super) fn size_rings(&self, sizes: RingSizes, sends: bool) -> Result<(), DeviceError> {
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
    pub(super) fn rings(&self, sizes: RingSizes, sends: bool) -> Result<Rings, DeviceError> {
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
    pub(super) fn bind(&self, copying: Copying) -> Result<(), DeviceError> {
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

impl AsFd for Unbound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A failed call whose remedy is known better than by its error number.
pub(super) fn explained(
    device: &str,
    call: &'static str,
    error: io::Error,
    remedy: impl Into<Cow<'static, str>>,
) -> DeviceError {
    DeviceError { device: device.to_owned(), call, errno: Some(error), remedy: remedy.into() }
}
