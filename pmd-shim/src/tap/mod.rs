//! Host interfaces: a TAP device that carries a port's addresses, so that the kernel's sockets live behind the data plane.
//!
//! The interface has the port's own Ethernet address and asks nobody for theirs (`IFF_NOARP`): what the kernel sends, it sends to
//! itself, and what it is given must be addressed to the port's station. It has the port's addresses and no others, not even a
//! link-local one. Frames are whole, with every checksum written.
//!
//! *Invariant:* nothing stays behind. The interface goes with the descriptor, however the process ends, and with it its addresses
//! and routes. The rules that lead to its routing table are removed by `drop`; those of a process that was killed lead to an empty
//! table, and are removed by the next [`open`].

mod interface;
mod routing;

use crate::kernel::DeviceError;
use crate::kernel::netlink::Netlink;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// What a host interface is made with.
#[derive(Clone, Copy, Debug)]
pub struct TapOptions<'a> {
    /// The port's Ethernet address.
    pub mac: [u8; 6],
    /// The longest IP packet that the port carries, in bytes.
    pub mtu: u16,
    /// The longest IP packet to anywhere but the port's own networks, in bytes: such packets may leave by another port.
    pub far_mtu: u16,
    /// The port's addresses, each with the length of the prefix on its link.
    pub addresses: &'a [(IpAddr, u8)],
}

/// A host interface.
#[derive(Debug)]
pub struct Tap {
    name: String,
    /// The interface lives as long as this.
    file: File,
    /// Its rules are removed with it.
    _rules: routing::Rules,
}

/// The name of the host interface of a port: `nva-PORT`, with a hash in the place of what is too long.
pub fn interface_name(port: &str) -> String {
    const PREFIX: &str = "nva-";
    let whole = format!("{PREFIX}{port}");
    if whole.len() < libc::IFNAMSIZ {
        return whole;
    }
    // FNV-1a, folded to 16 bits.
    let hash =
        port.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let beginning: String = port.chars().take(6).collect();
    format!("{PREFIX}{beginning}-{:04x}", (hash >> 16 ^ hash) & 0xffff)
}

/// Makes an interface, gives it addresses and routes, and switches it on, in the calling thread's network namespace.
///
/// # Errors
/// [`DeviceError`] when the kernel refuses; nothing stays behind then.
pub fn open(name: &str, options: &TapOptions<'_>) -> Result<Tap, DeviceError> {
    let netlink = Netlink::open().map_err(|error| {
        DeviceError::call(name, "socket(AF_NETLINK)", error, "raise the limit of open files")
    })?;
    routing::remove_left_over(name, &netlink)?;
    let file = interface::make(name)?;
    let index = interface::set_up(name, &netlink, options)?;
    let rules = routing::lead(name, netlink, index, options)?;
    Ok(Tap { name: name.to_owned(), file, _rules: rules })
}

impl Tap {
    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the next frame that the kernel sent; its length. `None`: there is none now. What is longer than the buffer is cut off.
    ///
    /// # Errors
    /// What the kernel says when the interface is gone or switched off.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the kernel a frame, as received by the interface. Never waits.
    ///
    /// # Errors
    /// What the kernel says when it does not take it, such as when the interface is switched off.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(|_| ())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(interface_name("outside"), "nva-outside");
        assert_eq!(interface_name("elevenchars"), "nva-elevenchars");
        let long =
            ["trusted-zone-1", "trusted-zone-2", "trusted-zone-11", "twelve-chars"].map(interface_name);
        assert!(long.iter().all(|name| name.len() == 15 && name.starts_with("nva-t")), "{long:?}");
        assert_eq!(HashSet::from(long).len(), 4);
        assert_eq!(interface_name(&"x".repeat(80)).len(), 15);
    }
}
