//! A piece of anonymous memory, touched before its first use.

use core::ptr::{self, NonNull};
use std::io;

/// Alignment and granularity: a huge page, so that the kernel can use them and a chunk never straddles one.
const HUGE_PAGE: usize = 2 << 20;
/// The smallest page that there may be: the stride at which the memory is touched.
const PAGE: usize = 4096;

/// Private anonymous memory, unmapped on drop.
pub(super) struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// Maps at least `bytes` bytes, aligned to a huge page, zeroed and backed by real memory.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let overflow = || io::Error::from_raw_os_error(libc::ENOMEM);
        let bytes = bytes.checked_next_multiple_of(HUGE_PAGE).ok_or_else(overflow)?;
        let reserved = bytes.checked_add(HUGE_PAGE).ok_or_else(overflow)?;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice affects no existing memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                reserved,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let before = start.align_offset(HUGE_PAGE);
        let after = HUGE_PAGE - before;
        // SAFETY: `before` <= HUGE_PAGE, so both ends lie in the mapping just made, and only what is outside of
        // `base..base + bytes` is unmapped again. All three addresses are multiples of a page.
        let base = unsafe {
            let base = start.add(before);
            if before > 0 {
                libc::munmap(start.cast(), before);
            }
            if after > 0 {
                libc::munmap(base.add(bytes).cast(), after);
            }
            // Advice only: without huge pages everything works, with more misses of the translation cache.
            libc::madvise(base.cast(), bytes, libc::MADV_HUGEPAGE);
            for offset in (0..bytes).step_by(PAGE) {
                base.add(offset).write_volatile(0);
            }
            base
        };
        let base = NonNull::new(base).ok_or_else(overflow)?;
        Ok(Self { base, bytes })
    }

    /// The first byte; aligned to a huge page.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` kept; the owner of the region guarantees that no frame is left in it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
