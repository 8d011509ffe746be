//! A packet socket on one interface.

use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A raw packet socket. It receives nothing before it is bound to a protocol.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
    device: String,
    ifindex: i32,
}

impl PacketSocket {
    pub(crate) fn open(link: &Link) -> Result<Self, DeviceError> {
        // SAFETY: takes no pointers.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            let error = io::Error::last_os_error();
            let remedy = "the kernel needs CONFIG_PACKET";
            return Err(DeviceError::call(link.device(), "socket(AF_PACKET)", error, remedy));
        }
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, device: link.device().to_owned(), ifindex: link.ifindex() })
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// Sets an option. `T` is the integer or C structure that the option takes.
    pub(crate) fn set<T: Copy>(
        &self,
        level: libc::c_int,
        option: libc::c_int,
        value: &T,
        call: &'static str,
    ) -> Result<(), DeviceError> {
        // SAFETY: pointer and length are of one live value.
        let outcome = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                core::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if outcome < 0 {
            let error = io::Error::last_os_error();
            return Err(DeviceError::call(&self.device, call, error, "a newer kernel is needed"));
        }
        Ok(())
    }

    /// Reads an option that is an integer or a C structure of integers.
    pub(super) fn get<T: Copy + Default>(&self, level: libc::c_int, option: libc::c_int) -> io::Result<T> {
        let mut value = T::default();
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: pointer and length are of one live, writable value; every use is with a type of integers, so that whatever the
        // kernel writes is a value of it.
        let outcome = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                core::ptr::from_mut(&mut value).cast(),
                &mut len,
            )
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
    }

    /// Binds the socket to its interface and a protocol, given in host byte order; 0 receives nothing.
    pub(crate) fn bind(&self, protocol: u16) -> Result<(), DeviceError> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
            sll_ifindex: self.ifindex,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: pointer and length are of one live structure.
        let outcome = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                core::ptr::from_ref(&address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if outcome < 0 {
            let error = io::Error::last_os_error();
            return Err(DeviceError::call(&self.device, "bind(AF_PACKET)", error, "set the interface up"));
        }
        Ok(())
    }

    /// Has the interface receive every frame, whatever its destination, as long as the socket lives.
    pub(crate) fn be_promiscuous(&self) -> Result<(), DeviceError> {
        let membership = libc::packet_mreq {
            mr_ifindex: self.ifindex,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            &membership,
            "setsockopt(PACKET_ADD_MEMBERSHIP)",
        )
    }

    /// Lets nothing through until [`open_gate`](Self::open_gate).
    pub(super) fn close_gate(&self) -> Result<(), DeviceError> {
        // Return 0: keep no byte of any packet.
        let mut refuse = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &mut refuse };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program, "setsockopt(SO_ATTACH_FILTER)")
    }

    /// Lets everything through from here on.
    pub(super) fn open_gate(&self) -> Result<(), DeviceError> {
        self.set(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0i32, "setsockopt(SO_DETACH_FILTER)")
    }

    /// Takes a packet from the socket's queue; returns its length, of which as much as fits is in `buffer`. Never blocks.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: pointer and length are of one live, writable slice.
        let outcome =
            unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        usize::try_from(outcome).map_err(|_| io::Error::last_os_error())
    }

    /// Reads and clears what went wrong since the last time, such as the interface going down.
    pub(super) fn take_error(&self) -> bool {
        self.get::<libc::c_int>(libc::SOL_SOCKET, libc::SO_ERROR).is_ok_and(|error| error != 0)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
