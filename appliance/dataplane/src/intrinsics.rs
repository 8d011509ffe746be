//! Processor intrinsics: the one place of the data plane that needs `unsafe`. Every function has a plain twin for other processors.

/// Asks for every cache line of `slice[index]`, to be read soon. An `index` out of bounds does nothing.
///
/// A burst's lookups first ask for all the memory that they are going to read and then read it, so that the waits overlap. Asking never
/// faults and never changes a result.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], index: usize) {
    if let Some(element) = slice.get(index) {
        prefetch_lines(element);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_lines<T>(element: &T) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    const LINE: usize = 64;
    let start = core::ptr::from_ref(element).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(LINE) {
        // SAFETY: PREFETCHT0 is part of SSE, which every x86_64 processor has. It is a hint that reads no memory
        // architecturally and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch_lines<T>(_element: &T) {}

/// Which of the twelve 16-bit lanes, counted from the low bits of the first word, equal `tag`: the low twelve bits.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn equal_lanes([a, b, c]: [u64; 3], tag: u16) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_set1_epi16,
    };

    // SAFETY: these are SSE2, which every x86_64 processor has, and work on values only.
    let bits = unsafe {
        let wanted = _mm_set1_epi16(tag.cast_signed());
        let low = _mm_cmpeq_epi16(_mm_set_epi64x(b.cast_signed(), a.cast_signed()), wanted);
        let high = _mm_cmpeq_epi16(_mm_set_epi64x(0, c.cast_signed()), wanted);
        _mm_movemask_epi8(_mm_packs_epi16(low, high))
    };
    bits.cast_unsigned() & 0xfff
}

/// Which of the twelve 16-bit lanes, counted from the low bits of the first word, equal `tag`: the low twelve bits.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn equal_lanes(words: [u64; 3], tag: u16) -> u32 {
    plain_equal_lanes(words, tag)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn plain_equal_lanes(words: [u64; 3], tag: u16) -> u32 {
    let equal = |lane: &usize| (words[lane / 4] >> (lane % 4 * 16)) as u16 == tag;
    (0..12).filter(equal).fold(0, |bits, lane| bits | 1 << lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn lanes_equal_as_plainly_seen(lanes in any::<[u8; 12]>(), tag in 0u16..4, high in prop_oneof![Just(0), Just(0xff00)]) {
            // Few values, so that lanes are equal often; also ones that saturating steps would confuse.
            let lane = |n: usize| u64::from(u16::from(lanes[n] % 4) | if lanes[n] & 0x40 == 0 { high } else { 0 });
            let words = [0, 1, 2].map(|word| (0..4).fold(0, |all, n| all | lane(4 * word + n) << (16 * n)));
            for tag in [tag, tag | high, 0xffff] {
                prop_assert_eq!(equal_lanes(words, tag), plain_equal_lanes(words, tag));
            }
        }
    }
}
