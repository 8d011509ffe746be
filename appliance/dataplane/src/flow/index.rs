//! The index: from a hash to references, in buckets of one cache line.
//!
//! A reference has two buckets where it may stand, and is put into the second one only when the first is full. Each bucket counts
//! the references that had to leave it for their second bucket; while there are none, a look-up that finds nothing is done after one
//! cache line.

use arrayvec::ArrayVec;

use super::hash::FlowHash;
use crate::intrinsics::{equal_halves, prefetch};
use pmd_shim::hugepages;

/// References a bucket has room for.
const LANES: usize = 10;

/// References a bucket has on average when the table is full, times ten: low enough that few overflow.
const TENTHS_FILLED: usize = 64;

/// Buckets looked at to make room for a reference.
const SEARCH: usize = 64;

/// Zero is an empty bucket: ten tags of 16 bits, 0 for a vacant lane; the references that overflowed from here; ten references.
#[derive(Clone)]
#[repr(C, align(64))]
struct Bucket([u32; 16]);

const _: () = assert!(size_of::<Bucket>() == 64);

/// Words in front of the references, and the one that counts what overflowed.
const REFERENCES: usize = 16 - LANES;
const OVERFLOWED: usize = REFERENCES - 1;

impl Bucket {
    const EMPTY: Self = Self([0; 16]);

    /// The lanes with this tag, as every other one of twenty bits.
    #[inline(always)]
    fn matching(&self, tag: u16) -> Lanes {
        let (tags, _) = self.0.split_first_chunk().expect("a bucket has sixteen words");
        Lanes(equal_halves(tags, tag) & LANES_MASK)
    }

    #[inline(always)]
    fn reference(&self, lane: usize) -> u32 {
        self.0[REFERENCES + lane]
    }

    /// The references with this tag; whether there are any.
    #[inline(always)]
    fn hints(&self, tag: u16, mut hint: impl FnMut(u32)) -> bool {
        let mut lanes = self.matching(tag);
        let Some(lane) = lanes.next() else { return false };
        hint(self.reference(lane));
        for lane in lanes {
            hint(self.reference(lane));
        }
        true
    }

    fn vacant(&self) -> Option<usize> {
        self.matching(0).next()
    }

    fn set(&mut self, lane: usize, tag: u16, reference: u32) {
        let shift = (lane % 2) * 16;
        let word = &mut self.0[lane / 2];
        *word = *word & !(0xffff << shift) | u32::from(tag) << shift;
        self.0[REFERENCES + lane] = reference;
    }

    #[inline]
    fn overflowed(&self) -> u32 {
        self.0[OVERFLOWED]
    }

    fn count_overflow(&mut self) {
        self.0[OVERFLOWED] += 1;
    }

    fn uncount_overflow(&mut self) {
        debug_assert!(self.overflowed() > 0);
        self.0[OVERFLOWED] -= 1;
    }
}

/// Lanes of a bucket: the even bits.
#[derive(Clone, Copy)]
struct Lanes(u32);

const LANES_MASK: u32 = 0x5555_5555 & ((1 << (2 * LANES)) - 1);

impl Iterator for Lanes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let lane = self.0.trailing_zeros() as usize / 2;
        self.0 &= self.0.wrapping_sub(1);
        // Ten lanes: also what the compiler sees the bound by.
        (lane < LANES).then_some(lane)
    }
}

/// Where a hash's reference may stand.
#[derive(Clone, Copy)]
struct Places {
    first: usize,
    second: usize,
    tag: u16,
}

/// What a hash's first bucket knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hints {
    /// References that may be meant.
    Some,
    /// There is surely none.
    None,
    /// None; there may be some in the second bucket, which was asked for.
    Elsewhere,
}

/// No room, even after moving others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexFull;

pub(super) struct Index {
    buckets: Box<[Bucket]>,
}

impl Index {
    /// Room for this many references. All memory is touched.
    pub(super) fn new(references: usize) -> Self {
        let buckets = (references * 10).div_ceil(TENTHS_FILLED).max(2);
        let mut buckets = vec![Bucket::EMPTY; buckets].into_boxed_slice();
        hugepages::back(&mut buckets);
        Self { buckets }
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    #[inline(always)]
    fn places(&self, FlowHash { bits: hash, .. }: FlowHash) -> Places {
        let count = self.buckets.len();
        let first = scale(hash >> 32, count);
        let second = first + 1 + scale(hash & 0xffff_ffff, count - 1);
        let second = if second >= count { second - count } else { second };
        // A bucket's number uses the upper bits of its half, the tag the lower ones of both.
        let tag = (hash ^ hash >> 32) as u16;
        Places { first, second, tag: tag.max(1) }
    }

    /// Asks for the bucket where most references of this hash stand.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: FlowHash) {
        prefetch(&self.buckets, self.places(hash).first);
    }

    #[cold]
    #[inline(never)]
    fn prefetch_second(&self, hash: FlowHash) {
        prefetch(&self.buckets, self.places(hash).second);
    }

    /// The references that may be meant, as far as the first bucket knows.
    #[inline(always)]
    pub(super) fn hints(&self, hash: FlowHash, hint: impl FnMut(u32)) -> Hints {
        let places = self.places(hash);
        let bucket = &self.buckets[places.first];
        if bucket.hints(places.tag, hint) {
            Hints::Some
        } else if bucket.overflowed() == 0 {
            Hints::None
        } else {
            self.prefetch_second(hash);
            Hints::Elsewhere
        }
    }

    /// The same where the second bucket knows: whether there are any.
    pub(super) fn second_hints(&self, hash: FlowHash, hint: impl FnMut(u32)) -> bool {
        let places = self.places(hash);
        self.buckets[places.second].hints(places.tag, hint)
    }

    /// There is surely no reference of this hash.
    #[inline]
    pub(super) fn lacks(&self, hash: FlowHash) -> bool {
        let places = self.places(hash);
        let lacks = |bucket: &Bucket| bucket.matching(places.tag).next().is_none();
        let first = &self.buckets[places.first];
        lacks(first) && (first.overflowed() == 0 || lacks(&self.buckets[places.second]))
    }

    /// The first reference of this hash for which `is_it` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: FlowHash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.locate(hash, &mut is_it).map(|(bucket, lane)| self.buckets[bucket].reference(lane))
    }

    #[inline(always)]
    fn locate(&self, hash: FlowHash, is_it: &mut impl FnMut(u32) -> bool) -> Option<(usize, usize)> {
        let places = self.places(hash);
        let first = &self.buckets[places.first];
        if let Some(lane) = among(first, places.tag, is_it) {
            return Some((places.first, lane));
        }
        if first.overflowed() == 0 {
            return None;
        }
        let second = &self.buckets[places.second];
        among(second, places.tag, is_it).map(|lane| (places.second, lane))
    }

    /// Adds a reference. When both its buckets are full, others make room by moving to their other bucket, a bounded number of them;
    /// `rehash` gives their hash.
    pub(super) fn insert(
        &mut self,
        hash: FlowHash,
        reference: u32,
        rehash: impl Fn(u32) -> FlowHash,
    ) -> Result<(), IndexFull> {
        let places = self.places(hash);
        for bucket in [places.first, places.second] {
            if let Some(lane) = self.buckets[bucket].vacant() {
                self.put(places, bucket, lane, reference);
                return Ok(());
            }
        }
        let (bucket, lane) = self.make_room(places, &rehash)?;
        self.put(places, bucket, lane, reference);
        Ok(())
    }

    /// Removes a reference. One that is not there is none of ours to remove.
    #[inline(always)]
    pub(super) fn remove(&mut self, hash: FlowHash, reference: u32) {
        if let Some((bucket, lane)) = self.locate(hash, &mut |candidate| candidate == reference) {
            self.take(self.places(hash), bucket, lane);
        }
    }

    #[inline(always)]
    fn put(&mut self, places: Places, bucket: usize, lane: usize, reference: u32) {
        self.buckets[bucket].set(lane, places.tag, reference);
        if bucket != places.first {
            self.buckets[places.first].count_overflow();
        }
    }

    #[inline(always)]
    fn take(&mut self, places: Places, bucket: usize, lane: usize) {
        self.buckets[bucket].set(lane, 0, 0);
        if bucket != places.first {
            self.buckets[places.first].uncount_overflow();
        }
    }

    /// Searches, breadth first, for the shortest chain of moves that empties a lane of one of both buckets, and carries it out.
    #[cold]
    fn make_room(
        &mut self,
        places: Places,
        rehash: &impl Fn(u32) -> FlowHash,
    ) -> Result<(usize, usize), IndexFull> {
        /// A bucket, and the lane whose reference can move there: of the step before.
        struct Step {
            bucket: usize,
            from: Option<(usize, usize)>,
        }
        let mut steps: ArrayVec<Step, SEARCH> = ArrayVec::new();
        steps.extend([places.first, places.second].map(|bucket| Step { bucket, from: None }));
        let mut next = 0;
        while next < steps.len() {
            let bucket = steps[next].bucket;
            for lane in 0..LANES {
                let there = self.places(rehash(self.buckets[bucket].reference(lane)));
                let other = if there.first == bucket { there.second } else { there.first };
                let Some(mut vacant) = self.buckets[other].vacant() else {
                    if !steps.is_full() && steps.iter().all(|step| step.bucket != other) {
                        steps.push(Step { bucket: other, from: Some((next, lane)) });
                    }
                    continue;
                };
                // Move along the chain, the last reference first; each move empties the lane for the one before.
                let (mut step, mut lane, mut to) = (next, lane, other);
                loop {
                    let from = steps[step].bucket;
                    let reference = self.buckets[from].reference(lane);
                    let moving = self.places(rehash(reference));
                    self.take(moving, from, lane);
                    self.put(moving, to, vacant, reference);
                    let Some((before, lane_before)) = steps[step].from else { return Ok((from, lane)) };
                    (to, vacant) = (from, lane);
                    (step, lane) = (before, lane_before);
                }
            }
            next += 1;
        }
        Err(IndexFull)
    }
}

/// Maps 32 uniform bits to 0..count.
#[inline(always)]
fn scale(bits: u64, count: usize) -> usize {
    ((bits * count as u64) >> 32) as usize
}

#[inline(always)]
fn among(bucket: &Bucket, tag: u16, is_it: &mut impl FnMut(u32) -> bool) -> Option<usize> {
    bucket.matching(tag).find(|&lane| is_it(bucket.reference(lane)))
}
