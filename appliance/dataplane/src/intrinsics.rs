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

/// Whether two blocks are equal in the bits of a third.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
#[inline(always)]
pub fn are_equal_where(a: &[u8; 32], b: &[u8; 32], bits: &[u8; 32]) -> bool {
    use core::arch::x86_64::{_mm256_lddqu_si256, _mm256_loadu_si256, _mm256_testz_si256, _mm256_xor_si256};

    // SAFETY: all of it is AVX and AVX2, without which this is not compiled. Each load reads the 32 bytes of an array, at any alignment;
    // the others work on values only.
    unsafe {
        // Loaded so that whoever reads words of the same bytes loads those by themselves: taking them out of this takes longer.
        let a = _mm256_lddqu_si256(a.as_ptr().cast());
        let [b, bits] = [b, bits].map(|block| _mm256_loadu_si256(block.as_ptr().cast()));
        _mm256_testz_si256(_mm256_xor_si256(a, b), bits) != 0
    }
}

/// Whether two blocks are equal in the bits of a third.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
#[inline(always)]
pub fn are_equal_where(a: &[u8; 32], b: &[u8; 32], bits: &[u8; 32]) -> bool {
    plain_are_equal_where(a, b, bits)
}

#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "avx2"))))]
fn plain_are_equal_where(a: &[u8; 32], b: &[u8; 32], bits: &[u8; 32]) -> bool {
    a.iter().zip(b).zip(bits).fold(0, |differs, ((a, b), bits)| differs | (a ^ b) & bits) == 0
}

/// Work for AVX-512. `run` must be inlined, or it runs without it.
pub trait Wide {
    /// Does it.
    fn run(self, cpu: Avx512);
}

/// Sixteen numbers of 32 bits.
#[derive(Clone, Copy, Debug)]
pub struct Lanes(wide::Vector);

/// A processor that has AVX-512, with the foundation's instructions (AVX-512F): whoever has this may use them.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(wide::Proof);

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{Avx512, Lanes, Wide};
    use core::arch::x86_64::{
        __m512i, _mm_cvtsi32_si128, _mm512_add_epi32, _mm512_and_si512, _mm512_cmpge_epi32_mask,
        _mm512_cmplt_epu32_mask, _mm512_mask_i32gather_epi32, _mm512_maskz_mov_epi32, _mm512_min_epu32,
        _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srl_epi32,
    };
    use core::mem::transmute;

    pub(super) type Vector = __m512i;
    pub(super) type Proof = ();

    /// So many numbers of a table can be reached: an index is a positive number of 31 bits.
    const REACH: usize = i32::MAX as usize;

    impl Avx512 {
        /// If this processor and its system have it.
        pub fn detect() -> Option<Self> {
            std::arch::is_x86_feature_detected!("avx512f").then_some(Self(()))
        }

        /// Does the work, with AVX-512 as far as it is inlined here.
        #[inline]
        pub fn run(self, work: impl Wide) {
            #[target_feature(enable = "avx512f")]
            fn with_avx512(cpu: Avx512, work: impl Wide) {
                work.run(cpu);
            }
            // SAFETY: this processor has AVX-512F, or there would be no `self`.
            unsafe { with_avx512(self, work) }
        }

        /// These numbers.
        #[inline(always)]
        pub fn load(self, numbers: &[u32; 16]) -> Lanes {
            // SAFETY: both are 64 bytes of which every pattern is a value.
            Lanes(unsafe { transmute::<[u32; 16], __m512i>(*numbers) })
        }

        /// As an array.
        #[inline(always)]
        pub fn store(self, lanes: Lanes) -> [u32; 16] {
            // SAFETY: both are 64 bytes of which every pattern is a value.
            unsafe { transmute::<__m512i, [u32; 16]>(lanes.0) }
        }

        /// One number sixteen times.
        #[inline(always)]
        pub fn splat(self, number: u32) -> Lanes {
            // SAFETY: works on values, with AVX-512F, which this processor has.
            Lanes(unsafe { _mm512_set1_epi32(number.cast_signed()) })
        }

        /// Sums, modulo 2^32.
        #[inline(always)]
        pub fn add(self, a: Lanes, b: Lanes) -> Lanes {
            // SAFETY: as above.
            Lanes(unsafe { _mm512_add_epi32(a.0, b.0) })
        }

        /// The bits that are set in both.
        #[inline(always)]
        pub fn and(self, a: Lanes, b: Lanes) -> Lanes {
            // SAFETY: as above.
            Lanes(unsafe { _mm512_and_si512(a.0, b.0) })
        }

        /// The smaller ones.
        #[inline(always)]
        pub fn min(self, a: Lanes, b: Lanes) -> Lanes {
            // SAFETY: as above.
            Lanes(unsafe { _mm512_min_epu32(a.0, b.0) })
        }

        /// Shifted by so many bits; 0 from 32 on.
        #[inline(always)]
        pub fn shift_right(self, a: Lanes, bits: u32) -> Lanes {
            // SAFETY: as above.
            Lanes(unsafe { _mm512_srl_epi32(a.0, _mm_cvtsi32_si128(bits.min(32).cast_signed())) })
        }

        /// The elements at these places; 0 behind the end.
        #[inline(always)]
        pub fn gather(self, table: &[u32], places: Lanes) -> Lanes {
            let len = table.len().min(REACH) as u32;
            // SAFETY: with AVX-512F, which this processor has. Read are the elements at places that are in the table, whose 4 bytes
            // begin at four times the place; such a place is below 2^31, so that it is not taken for a negative one.
            Lanes(unsafe {
                let inside = _mm512_cmplt_epu32_mask(places.0, _mm512_set1_epi32(len.cast_signed()));
                let start = table.as_ptr().cast();
                _mm512_mask_i32gather_epi32::<4>(_mm512_setzero_si512(), inside, places.0, start)
            })
        }

        /// Where the highest bit of `from` is set, `from` itself; elsewhere the element so many places behind it, or 0 behind the end.
        #[inline(always)]
        pub fn gather_unless_negative(self, table: &[u32], from: Lanes, behind: Lanes) -> Lanes {
            let places = self.add(from, behind);
            let len = table.len().min(REACH) as u32;
            // SAFETY: as in `gather`; fewer elements are read.
            Lanes(unsafe {
                let wanted = _mm512_cmpge_epi32_mask(from.0, _mm512_setzero_si512());
                let inside = _mm512_cmplt_epu32_mask(places.0, _mm512_set1_epi32(len.cast_signed()));
                let start = table.as_ptr().cast();
                let kept = _mm512_maskz_mov_epi32(!wanted, from.0);
                _mm512_mask_i32gather_epi32::<4>(kept, wanted & inside, places.0, start)
            })
        }

        /// The bytes at these places; 0 at the last three, and behind the end.
        #[inline(always)]
        pub fn gather_bytes(self, table: &[u8], places: Lanes) -> Lanes {
            let len = table.len().min(REACH).saturating_sub(3) as u32;
            // SAFETY: with AVX-512F, which this processor has. Read are 4 bytes from places on that have three more bytes behind them in the
            // table, and are below 2^31.
            let words = Lanes(unsafe {
                let inside = _mm512_cmplt_epu32_mask(places.0, _mm512_set1_epi32(len.cast_signed()));
                let start = table.as_ptr().cast();
                _mm512_mask_i32gather_epi32::<1>(_mm512_setzero_si512(), inside, places.0, start)
            });
            self.and(words, self.splat(0xff))
        }

        /// The same for halves of words; 0 at the last place, and behind the end.
        #[inline(always)]
        pub fn gather_halves(self, table: &[u16], places: Lanes) -> Lanes {
            let len = table.len().min(REACH).saturating_sub(1) as u32;
            // SAFETY: with AVX-512F, which this processor has. Read are 4 bytes, that begin at twice the place, at places that have one
            // more behind them in the table, and are below 2^31.
            let words = Lanes(unsafe {
                let inside = _mm512_cmplt_epu32_mask(places.0, _mm512_set1_epi32(len.cast_signed()));
                let start = table.as_ptr().cast();
                _mm512_mask_i32gather_epi32::<2>(_mm512_setzero_si512(), inside, places.0, start)
            });
            self.and(words, self.splat(0xffff))
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod wide {
    use super::{Avx512, Lanes, Wide};

    pub(super) type Vector = [u32; 16];
    /// There is none.
    pub(super) type Proof = core::convert::Infallible;

    /// What cannot be called, as there is no such processor.
    macro_rules! absent {
        ($($name:ident($($argument:ident: $kind:ty),*) -> $outcome:ty;)*) => {
            impl Avx512 {
                $(
                    /// Not on this processor.
                    pub fn $name(self, $($argument: $kind),*) -> $outcome {
                        $(let _ = $argument;)*
                        match self.0 {}
                    }
                )*
            }
        };
    }

    impl Avx512 {
        /// This processor has not.
        pub fn detect() -> Option<Self> {
            None
        }
    }

    absent! {
        run(work: impl Wide) -> ();
        load(numbers: &[u32; 16]) -> Lanes;
        store(lanes: Lanes) -> [u32; 16];
        splat(number: u32) -> Lanes;
        add(a: Lanes, b: Lanes) -> Lanes;
        and(a: Lanes, b: Lanes) -> Lanes;
        min(a: Lanes, b: Lanes) -> Lanes;
        shift_right(a: Lanes, bits: u32) -> Lanes;
        gather(table: &[u32], places: Lanes) -> Lanes;
        gather_unless_negative(table: &[u32], from: Lanes, behind: Lanes) -> Lanes;
        gather_bytes(table: &[u8], places: Lanes) -> Lanes;
        gather_halves(table: &[u16], places: Lanes) -> Lanes;
    }
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

    proptest! {
        #[test]
        fn blocks_equal_as_plainly_seen(a: [u8; 32], bits: [u8; 32], at in 0usize..32, change: u8) {
            let mut b = a;
            b[at] ^= change;
            prop_assert_eq!(are_equal_where(&a, &b, &bits), plain_are_equal_where(&a, &b, &bits));
            prop_assert_eq!(are_equal_where(&a, &b, &bits), change & bits[at] == 0);
        }
    }

    /// A table and where to look in it, with places at and behind its end and ones that are negative to a signed eye.
    fn table_and_places() -> impl Strategy<Value = (Vec<u32>, [u32; 16], [u32; 16])> {
        let place = prop_oneof![4 => 0u32..40, 1 => any::<u32>(), 1 => 0x7fff_fff0u32..0x8000_0010];
        (
            prop::collection::vec(any::<u32>(), 0..40),
            prop::array::uniform16(place),
            prop::array::uniform16(0u32..8),
        )
    }

    /// What all of AVX-512's functions give.
    struct Everything<'a> {
        table: &'a [u32],
        bytes: &'a [u8],
        halves: &'a [u16],
        places: [u32; 16],
        behind: [u32; 16],
        given: &'a mut [[u32; 16]; 8],
    }

    impl Wide for Everything<'_> {
        #[inline(always)]
        fn run(self, cpu: Avx512) {
            let (places, behind) = (cpu.load(&self.places), cpu.load(&self.behind));
            *self.given = [
                cpu.store(cpu.gather(self.table, places)),
                cpu.store(cpu.gather_unless_negative(self.table, places, behind)),
                cpu.store(cpu.gather_bytes(self.bytes, places)),
                cpu.store(cpu.gather_halves(self.halves, places)),
                cpu.store(cpu.add(places, behind)),
                cpu.store(cpu.and(places, cpu.splat(0xff))),
                cpu.store(cpu.min(places, behind)),
                cpu.store(cpu.shift_right(places, self.behind[0] * 5)),
            ];
        }
    }

    proptest! {
        #[test]
        fn sixteen_numbers_at_once_are_as_one_by_one((table, places, behind) in table_and_places()) {
            let Some(cpu) = Avx512::detect() else { return Ok(()) };
            let bytes: Vec<u8> = table.iter().map(|number| *number as u8).collect();
            let halves: Vec<u16> = table.iter().map(|number| *number as u16).collect();
            let mut given = [[0; 16]; 8];
            cpu.run(Everything { table: &table, bytes: &bytes, halves: &halves, places, behind, given: &mut given });
            let at = |place: u32| table.get(place as usize).copied().unwrap_or(0);
            for lane in 0..16 {
                let (place, more) = (places[lane], behind[lane]);
                prop_assert_eq!(given[0][lane], at(place));
                let below = place >> 31 == 0;
                prop_assert_eq!(given[1][lane], if below { at(place.wrapping_add(more)) } else { place });
                let readable = |padding: usize| (place as usize) < table.len().saturating_sub(padding);
                prop_assert_eq!(given[2][lane], if readable(3) { at(place) & 0xff } else { 0 });
                prop_assert_eq!(given[3][lane], if readable(1) { at(place) & 0xffff } else { 0 });
                prop_assert_eq!(given[4][lane], place.wrapping_add(more));
                prop_assert_eq!(given[5][lane], place & 0xff);
                prop_assert_eq!(given[6][lane], place.min(more));
                prop_assert_eq!(given[7][lane], place.checked_shr(behind[0] * 5).unwrap_or(0));
            }
        }
    }
}
