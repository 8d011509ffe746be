//! Memory that a program and this process share: the one value of an array map, mapped.

use super::call::{self, MapCreate};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const ARRAY: u32 = 2;
const MMAPABLE: u32 = 1 << 10;
const PAGE: usize = 4096;

/// Zeroed memory of a fixed size, at most 4 GiB.
#[derive(Debug)]
pub(crate) struct Array {
    map: OwnedFd,
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is this value's own, and is reached through atomics only, or through a mutable borrow.
unsafe impl Send for Array {}
// SAFETY: as above.
unsafe impl Sync for Array {}

impl Array {
    /// Memory of at least `bytes` bytes, whole pages.
    ///
    /// # Errors
    /// What the kernel says: no privilege, no memory.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(PAGE);
        let value_size = u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let map = call::open(&mut MapCreate {
            map_type: ARRAY,
            key_size: 4,
            value_size,
            max_entries: 1,
            map_flags: MMAPABLE,
            ..MapCreate::default()
        })?;
        // SAFETY: a new shared mapping at an address of the kernel's choice affects no existing memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(start) if base != libc::MAP_FAILED => Ok(Self { map, base: start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The map's descriptor, by which a program names it.
    pub(super) fn descriptor(&self) -> i32 {
        self.map.as_raw_fd()
    }

    /// The word of 8 bytes at this place, a multiple of 8.
    ///
    /// # Panics
    /// When the memory ends before.
    pub(crate) fn double(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes, "a double word at {offset}");
        // SAFETY: within the mapping and aligned, by the assertion and as mappings begin on a page; accessed atomically here, and
        // by a program with plain loads and stores of the same width.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    /// The word of 4 bytes at this place, a multiple of 4.
    ///
    /// # Panics
    /// When the memory ends before.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.bytes, "a word at {offset}");
        // SAFETY: as in `double`.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    /// The memory, to be filled before a program uses it.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the whole mapping, initialised by the kernel, borrowed mutably. Programs that use it are made from a shared borrow,
        // so whoever fills it does so before or knows that none runs.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made. Programs keep the map itself.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
