//! The memory that the kernel and a packet socket share.

use super::socket::PacketSocket;
use crate::kernel::DeviceError;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A socket's ring, mapped. It is cut into equal slots, and a status word in each says whose the slot is.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    slot_bytes: usize,
    slots: usize,
    /// The number of slots is a power of two: this cuts an index to it.
    mask: usize,
}

// SAFETY: the mapping is this value's own; nothing about it belongs to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring that was set up on `socket` with this geometry. The number of slots is a power of two.
    pub(super) fn map(socket: &PacketSocket, slot_bytes: usize, slots: usize) -> Result<Self, DeviceError> {
        debug_assert!(slots.is_power_of_two());
        // SAFETY: a new shared mapping at an address of the kernel's choice affects no existing memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                slot_bytes * slots,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_fd().as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(start) if base != libc::MAP_FAILED => {
                Ok(Self { base: start, slot_bytes, slots, mask: slots - 1 })
            }
            _ => {
                let error = io::Error::last_os_error();
                Err(DeviceError::call(
                    socket.device(),
                    "mmap(AF_PACKET ring)",
                    error,
                    "configure smaller rings",
                ))
            }
        }
    }

    /// The index that follows.
    #[inline]
    pub(super) fn after(&self, index: usize) -> usize {
        (index + 1) & self.mask
    }

    /// First byte of a slot, counted round the ring.
    #[inline]
    fn slot(&self, index: usize) -> NonNull<u8> {
        // SAFETY: what the mask leaves is below the number of slots, all of which are in the mapping.
        unsafe { self.base.add((index & self.mask) * self.slot_bytes) }
    }

    /// Where a slot is, for a prefetch.
    #[inline]
    pub(super) fn address(&self, index: usize) -> *const u8 {
        self.slot(index).as_ptr()
    }

    /// The word at `offset` in slot `index` that says whose the slot is. `offset` is a multiple of 4 and below the slot's size.
    pub(super) fn status(&self, index: usize, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset < self.slot_bytes);
        // SAFETY: in the mapping and aligned, which is page-aligned as slots are; both sides access the word atomically.
        unsafe { self.slot(index).add(offset).cast().as_ref() }
    }

    /// The bytes of a slot that the status word says is ours.
    ///
    /// # Safety
    /// The kernel has handed the slot over (its status word was read with acquire ordering), and it is not handed back as long as
    /// the slice is used.
    pub(super) unsafe fn bytes(&self, index: usize) -> &[u8] {
        // SAFETY: in the mapping, initialised (the kernel zeroes it), and by the caller's promise nobody writes to it.
        unsafe { core::slice::from_raw_parts(self.slot(index).as_ptr(), self.slot_bytes) }
    }

    /// The same, from `offset` on, to be written. `offset` is past the status word and at most the slot's size.
    ///
    /// # Safety
    /// As for [`Ring::bytes`].
    pub(super) unsafe fn bytes_mut(&mut self, index: usize, offset: usize) -> &mut [u8] {
        debug_assert!(offset <= self.slot_bytes);
        // SAFETY: as in `bytes`; exclusive, as the ring is borrowed mutably.
        unsafe {
            core::slice::from_raw_parts_mut(self.slot(index).add(offset).as_ptr(), self.slot_bytes - offset)
        }
    }

    /// Hands a slot over to the kernel with everything that was written to it or read from it.
    pub(super) fn hand_over(&self, index: usize, offset: usize, status: u32) {
        self.status(index, offset).store(status, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.slot_bytes * self.slots) };
    }
}
