//! The hashes of the cookies that a burst asks for, computed side by side.

use super::cookie::{Cookies, words_v4, words_v6};
use crate::intrinsics::{Avx512, Wide};
use crate::siphash::{Key, sip24, sip24_lanes};
use crate::wire::plain::{KeyV4, KeyV6};
use pmd_shim::BURST;

/// Hashes that are computed in the same steps.
const LANES: usize = 8;
/// Those of a full burst whose every packet asks for two.
const BLOCKS: usize = 2 * BURST / LANES;

/// The questions of a burst, and their answers.
#[derive(Clone, Debug)]
pub struct Batch {
    v4: Group<2>,
    v6: Group<5>,
    cpu: Option<Avx512>,
}

/// Questions of one length.
#[derive(Clone, Debug)]
struct Group<const N: usize> {
    blocks: Box<[Block<N>; BLOCKS]>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Block<const N: usize> {
    key: [[u64; LANES]; 2],
    words: [[u64; LANES]; N],
    hashes: [u64; LANES],
}

impl<const N: usize> Group<N> {
    fn new() -> Self {
        let block = Block { key: [[0; LANES]; 2], words: [[0; LANES]; N], hashes: [0; LANES] };
        Self { blocks: Box::new([block; BLOCKS]), len: 0 }
    }

    #[inline(always)]
    fn add(&mut self, key: Key, words: [u64; N]) -> u8 {
        let place = self.len;
        if let Some(block) = self.blocks.get_mut(place / LANES) {
            let lane = place % LANES;
            (block.key[0][lane], block.key[1][lane]) = (key[0], key[1]);
            for (n, word) in words.into_iter().enumerate() {
                block.words[n][lane] = word;
            }
            self.len += 1;
        }
        place as u8
    }

    #[inline(always)]
    fn hash(&self, place: u8) -> u64 {
        self.blocks[usize::from(place) / LANES % BLOCKS].hashes[usize::from(place) % LANES]
    }

    fn blocks(&mut self) -> &mut [Block<N>] {
        let used = self.len.div_ceil(LANES);
        self.blocks.get_mut(..used).unwrap_or_default()
    }
}

/// What a processor with AVX-512 does in the same steps for all lanes.
struct Compute<'a, const N: usize>(&'a mut [Block<N>]);

impl<const N: usize> Wide for Compute<'_, N> {
    #[inline(always)]
    fn run(self, _: Avx512) {
        for block in self.0 {
            block.hashes = sip24_lanes(&block.key, &block.words);
        }
    }
}

/// One after the other: without rotations of vectors that is less work.
#[inline(never)]
fn one_by_one<const N: usize>(group: &mut Group<N>) {
    let used = group.len;
    for (block, first) in group.blocks.iter_mut().zip((0..used).step_by(LANES)) {
        for lane in 0..LANES.min(used - first) {
            let mut words = [0; N];
            for (n, word) in words.iter_mut().enumerate() {
                *word = block.words[n][lane];
            }
            block.hashes[lane] = sip24([block.key[0][lane], block.key[1][lane]], words);
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { v4: Group::new(), v6: Group::new(), cpu: Avx512::detect() }
    }
}

impl Batch {
    /// Forgets what was asked.
    #[inline]
    pub fn clear(&mut self) {
        (self.v4.len, self.v6.len) = (0, 0);
    }

    /// Asks for the hash of a new cookie for a SYN over IPv4 with this number; where it will be. Of a burst there are two at most for
    /// each packet.
    #[inline(always)]
    pub fn add_syn_v4(&mut self, cookies: &Cookies, key: &KeyV4, isn: u32) -> u8 {
        self.v4.add(cookies.key(cookies.parity()), words_v4(key, isn))
    }

    /// The same over IPv6.
    #[inline(always)]
    pub fn add_syn_v6(&mut self, cookies: &Cookies, key: &KeyV6, isn: u32) -> u8 {
        self.v6.add(cookies.key(cookies.parity()), words_v6(key, isn))
    }

    /// Asks for the hashes that a cookie over IPv4 may have in a segment with this number: that of the number before, and behind it that of
    /// the number itself; where the first will be.
    #[inline(always)]
    pub fn add_shown_v4(&mut self, cookies: &Cookies, key: &KeyV4, (seq, cookie): (u32, u32)) -> u8 {
        let place = self.v4.add(cookies.key(cookie), words_v4(key, seq.wrapping_sub(1)));
        self.v4.add(cookies.key(cookie), words_v4(key, seq));
        place
    }

    /// The same over IPv6.
    #[inline(always)]
    pub fn add_shown_v6(&mut self, cookies: &Cookies, key: &KeyV6, (seq, cookie): (u32, u32)) -> u8 {
        let place = self.v6.add(cookies.key(cookie), words_v6(key, seq.wrapping_sub(1)));
        self.v6.add(cookies.key(cookie), words_v6(key, seq));
        place
    }

    /// Computes all that was asked for.
    #[inline(never)]
    pub fn compute(&mut self) {
        match self.cpu {
            Some(cpu) => {
                cpu.run(Compute(self.v4.blocks()));
                cpu.run(Compute(self.v6.blocks()));
            }
            None => {
                one_by_one(&mut self.v4);
                one_by_one(&mut self.v6);
            }
        }
    }

    /// The hash at a place, over IPv6 or over IPv4.
    #[inline(always)]
    pub fn hash<const V6: bool>(&self, place: u8) -> u64 {
        if V6 { self.v6.hash(place) } else { self.v4.hash(place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::synproxy::Question;
    use crate::time::Time;
    use crate::wire::{FlowKey, protocol};

    /// Whatever the processor, and however many there are, each hash is that of its own question.
    #[test]
    fn hashes_are_those_of_the_questions() {
        let cookies = Cookies::new([9; 16], 0, Time::from_millis(100_000));
        let cpus = [None, Avx512::detect()];
        for (cpu, count) in cpus.into_iter().flat_map(|cpu| [1u32, 7, 8, 9, 32, 64].map(|count| (cpu, count)))
        {
            let mut batch = Batch { cpu, ..Batch::default() };
            let key = |n: u32, v6: bool| {
                let address = |low| {
                    if v6 {
                        Addr::from_bits(0x2001 << 112 | low)
                    } else {
                        Addr::v4((low as u32).to_be_bytes())
                    }
                };
                let (src, dst) = (address(u128::from(n) * 77), address(5));
                FlowKey { src, dst, src_port: n as u16, dst_port: 443, protocol: protocol::TCP }
            };
            let v4 = |n| KeyV4::of(&key(n, false)).expect("over IPv4");
            let syns: Vec<[u8; 2]> = (0..count)
                .map(|n| {
                    [
                        batch.add_syn_v4(&cookies, &v4(n), n * 9),
                        batch.add_syn_v6(&cookies, &KeyV6::of(&key(n, true)), n * 9),
                    ]
                })
                .collect();
            batch.compute();
            for (n, places) in (0..count).zip(syns) {
                let hash = |v6| cookies.hash(&Question { key: key(n, v6), isn: n * 9 }, cookies.parity());
                assert_eq!(
                    (batch.hash::<false>(places[0]), batch.hash::<true>(places[1])),
                    (hash(false), hash(true))
                );
            }
            batch.clear();
            let shown: Vec<[u8; 2]> = (0..count)
                .map(|n| {
                    [
                        batch.add_shown_v4(&cookies, &v4(n), (n, n)),
                        batch.add_shown_v6(&cookies, &KeyV6::of(&key(n, true)), (n, n)),
                    ]
                })
                .collect();
            batch.compute();
            for (n, [v4, v6]) in (0..count).zip(shown) {
                let hash = |v6, isn: u32| cookies.hash(&Question { key: key(n, v6), isn }, n);
                let before = n.wrapping_sub(1);
                assert_eq!(
                    (batch.hash::<false>(v4), batch.hash::<false>(v4 + 1)),
                    (hash(false, before), hash(false, n))
                );
                assert_eq!(
                    (batch.hash::<true>(v6), batch.hash::<true>(v6 + 1)),
                    (hash(true, before), hash(true, n))
                );
            }
        }
    }
}
