//! The system call, with the attributes of the commands used here (linux/bpf.h).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

pub(super) const MAP_CREATE: libc::c_long = 0;
pub(super) const MAP_UPDATE_ELEM: libc::c_long = 2;
pub(super) const PROG_LOAD: libc::c_long = 5;
pub(super) const PROG_TEST_RUN: libc::c_long = 10;
pub(super) const PROG_GET_FD_BY_ID: libc::c_long = 13;
pub(super) const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// What tools print of a program or a map: at most 15 bytes and a zero.
pub(super) type Name = [u8; 16];

/// As much of the text as fits.
pub(super) fn name(text: &str) -> Name {
    let mut name = Name::default();
    for (to, from) in name.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    name
}

/// The text of a name.
pub(super) fn text(name: &Name) -> String {
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

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
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct MapCreate {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    pub(super) inner_map_fd: u32,
    pub(super) numa_node: u32,
    pub(super) map_name: Name,
}

// SAFETY: seven words and a name as in the header; no addresses.
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
    // SAFETY: the commands that come here give a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
