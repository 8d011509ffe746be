//! One instance on one interface: a name that only one socket can have.

use super::DeviceError;
use super::link::Link;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::Duration;

/// The interface is this process's as long as this lives.
///
/// It is an abstract Unix socket's name, so it belongs to the network namespace as the interface does, and the kernel frees it with
/// the process, however that ends.
#[derive(Debug)]
pub struct DeviceLock {
    _socket: UnixDatagram,
}

/// A process that is ending, or has just forked and not yet executed, can still have the name for a moment.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Takes an interface for this process.
///
/// # Errors
/// [`DeviceError`] when there is no such interface or another instance has it, after a fifth of a second.
pub fn lock(device: &str) -> Result<DeviceLock, DeviceError> {
    // By number, as an interface can have several names.
    let name = format!("pmd-shim/port/{}", Link::open(device)?.ifindex());
    for _ in 0..ATTEMPTS {
        let bound =
            SocketAddr::from_abstract_name(&name).and_then(|address| UnixDatagram::bind_addr(&address));
        match bound {
            Ok(socket) => return Ok(DeviceLock { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(PAUSE),
            Err(error) => {
                return Err(DeviceError::call(
                    device,
                    "bind(AF_UNIX)",
                    error,
                    "raise the limit of open files",
                ));
            }
        }
    }
    Err(DeviceError::check(
        device,
        "the device is in use by another instance",
        "stop that one first, or name another device",
    ))
}
