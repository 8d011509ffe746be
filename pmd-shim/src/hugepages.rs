//! Huge pages for large tables: a table of a million records spans tens of thousands of ordinary pages, and nearly every
//! random look-up would wait for the processor to find its page as well.

/// Asks the kernel to back `memory` with huge pages, at once where it can: pages already touched are put together in place
/// (Linux 6.1: `MADV_COLLAPSE`). Returns whether it agreed; where it does not, everything works as before, only slower.
pub fn back<T>(memory: &mut [T]) -> bool {
    back_range(memory.as_mut_ptr().cast(), size_of_val(memory))
}

/// The same for any piece of memory: advice changes how the kernel backs pages, never what is in them.
pub(crate) fn back_range(start: *mut u8, bytes: usize) -> bool {
    let offset = start.align_offset(PAGE);
    let Some(whole) =
        bytes.checked_sub(offset).map(|rest| rest & !(PAGE - 1)).filter(|&rest| rest >= HUGE_PAGE)
    else {
        return false;
    };
    let first = start.wrapping_add(offset).cast::<libc::c_void>();
    // SAFETY: the range begins and ends on a page boundary, and neither piece of advice reads, writes or unmaps any of it; where it
    // is not mapped, the kernel says so.
    unsafe {
        libc::madvise(first, whole, libc::MADV_HUGEPAGE) == 0
            && libc::madvise(first, whole, libc::MADV_COLLAPSE) == 0
    }
}

const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::back;

    #[test]
    fn advice_keeps_what_is_there() {
        let mut memory: Vec<u64> = (0..2_000_000).collect();
        back(&mut memory);
        assert!(memory.iter().enumerate().all(|(place, &value)| place as u64 == value));
    }

    #[test]
    fn little_memory_is_left_alone() {
        assert!(!back(&mut [0u8; 64]));
        assert!(!back::<u64>(&mut []));
    }
}
