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

/// Which of the sixteen halves of these words, the lower one of the first word first, equal `tag`: two bits each.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
#[inline(always)]
pub fn equal_halves(words: &[u32; 8], tag: u16) -> u32 {
    use core::arch::x86_64::{
        _mm256_cmpeq_epi16, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi16,
    };

    // SAFETY: all of it is AVX2, without which this is not compiled. The load reads the 32 bytes of the array, at any alignment; the
    // others work on values only.
    let bits = unsafe {
        let words = _mm256_loadu_si256(words.as_ptr().cast());
        _mm256_movemask_epi8(_mm256_cmpeq_epi16(words, _mm256_set1_epi16(tag.cast_signed())))
    };
    bits.cast_unsigned()
}

/// Which of the sixteen halves of these words, the lower one of the first word first, equal `tag`: two bits each.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
#[inline(always)]
pub fn equal_halves(words: &[u32; 8], tag: u16) -> u32 {
    plain_equal_halves(words, tag)
}

#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "avx2"))))]
fn plain_equal_halves(words: &[u32; 8], tag: u16) -> u32 {
    let equal = |half: &usize| (words[half / 2] >> (half % 2 * 16)) as u16 == tag;
    (0..16).filter(equal).fold(0, |bits, half| bits | 0b11 << (2 * half))
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
        fn halves_equal_as_plainly_seen(halves in any::<[u8; 16]>(), tag in 0u16..4, high in prop_oneof![Just(0), Just(0xff00)]) {
            // Few values, so that halves are equal often; also ones that signed steps would confuse.
            let half = |n: usize| u32::from(u16::from(halves[n] % 4) | if halves[n] & 0x40 == 0 { high } else { 0 });
            let words = core::array::from_fn(|word| half(2 * word) | half(2 * word + 1) << 16);
            for tag in [tag, tag | high, 0xffff] {
                prop_assert_eq!(equal_halves(&words, tag), plain_equal_halves(&words, tag));
            }
        }
    }
}
