//! Prefetch hints: the one place of the data plane that needs `unsafe`, because the intrinsics take raw pointers.
//!
//! A burst's lookups first hint at all the memory that they are going to read and then read it, so that the waits overlap. A hint never
//! faults and never changes a result.

/// Asks for every cache line of `slice[index]`, to be read soon. An `index` out of bounds does nothing.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], index: usize) {
    if let Some(element) = slice.get(index) {
        lines(element);
    }
}

/// A cache line, in bytes.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lines<T>(element: &T) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    let start = core::ptr::from_ref(element).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(LINE) {
        // SAFETY: PREFETCHT0 is part of SSE, which every x86_64 processor has. It is a hint that reads no memory
        // architecturally and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn lines<T>(_element: &T) {}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn any_index_is_harmless() {
        let values = [1u64, 2, 3];
        for index in [0, 2, 3, usize::MAX] {
            prefetch(&values, index);
        }
        prefetch::<[u8; 300]>(&[], 0);
        prefetch(&[()], 0);
        assert_eq!(values, [1, 2, 3]);
    }
}
