//! Where a program finds AF_XDP sockets: a map from receive queues.

use super::call::{self, Attributes, MAP_UPDATE_ELEM, MapCreate};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const XSKMAP: u32 = 17;

#[derive(Debug)]
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// SAFETY: the members as in the header, with its padding; `Sockets::set` fills in the addresses of words, which the map's keys and values are.
unsafe impl Attributes for MapUpdate {
    const COMMAND: libc::c_long = MAP_UPDATE_ELEM;
}

/// A map from receive queues to AF_XDP sockets, empty at first.
#[derive(Debug)]
pub(crate) struct Sockets {
    map: OwnedFd,
}

impl Sockets {
    /// With room for so many queues, and a name of at most 15 bytes.
    ///
    /// # Errors
    /// What the kernel says: no privilege, no such maps.
    pub(crate) fn new(queues: u32, name: &str) -> io::Result<Self> {
        let map = call::open(&mut MapCreate {
            map_type: XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: queues.max(1),
            map_name: call::name(name),
            ..MapCreate::default()
        })?;
        Ok(Self { map })
    }

    /// Has the frames of a queue go to a socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd().cast_unsigned();
        call::bpf(&mut MapUpdate {
            map_fd: self.descriptor().cast_unsigned(),
            padding: 0,
            key: (&raw const queue).expose_provenance() as u64,
            value: (&raw const value).expose_provenance() as u64,
            flags: 0,
        })
        .map(drop)
    }

    /// The map's descriptor, by which a program names it.
    pub(super) fn descriptor(&self) -> i32 {
        self.map.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        use core::mem::offset_of;
        assert_eq!((offset_of!(MapCreate, map_name), offset_of!(MapUpdate, key)), (28, 8));
    }
}
