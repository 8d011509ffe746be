//! The system call, with the attributes of the commands used here (linux/bpf.h).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

pub(super) const MAP_CREATE: libc::c_long = 0;
pub(super) const PROG_LOAD: libc::c_long = 5;
pub(super) const PROG_TEST_RUN: libc::c_long = 10;

/// Attributes of a command, laid out as the kernel has them.
///
/// # Safety
/// The type is `repr(C)`, without padding, a prefix of the member of `union bpf_attr` that belongs to `COMMAND`, and every address
/// in it is of memory that is as large as the command takes it to be.
pub(super) unsafe trait Attributes {
    /// The command that they belong to.
    const COMMAND: libc::c_long;
}

/// For [`MAP_CREATE`].
#[derive(Debug)]
#[repr(C)]
pub(super) struct MapCreate {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
}

// SAFETY: five words as in the header; no addresses.
unsafe impl Attributes for MapCreate {
    const COMMAND: libc::c_long = MAP_CREATE;
}

/// Makes the call.
pub(super) fn bpf<A: Attributes>(attributes: &mut A) -> io::Result<i32> {
    // SAFETY: by `Attributes` the memory is what the command expects, and its size is told.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, A::COMMAND, std::ptr::from_mut(attributes), size_of::<A>()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome as i32) }
}

/// Makes a call whose outcome is a new descriptor.
pub(super) fn open<A: Attributes>(attributes: &mut A) -> io::Result<OwnedFd> {
    let descriptor = bpf(attributes)?;
    // SAFETY: both commands that come here give a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
