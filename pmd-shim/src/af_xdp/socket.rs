//! One AF_XDP socket that has a queue of an interface, and what becomes of its chunks when it is closed.

use super::unbound::{Copying, RingSizes, Rings, Unbound};
use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use crate::pool::{Loan, Umem};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// How many frames one call sends at most (`XDP_MAX_TX_SKB_BUDGET`); where the kernel does not know it, 32.
const MAX_TX_SKB_BUDGET: libc::c_int = 9;

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

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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
