//! Time order: within one capture, whose frames may stand a little out of order, and over several.

use super::capture::Captured;
use crate::output::Failure;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

/// What may wait for its turn in one capture before replay gives up on putting it in order.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Frames in the order of a file; fails with what is wrong with the file.
pub(super) trait Frames {
    /// The next frame; `None` at the end.
    fn next(&mut self) -> Result<Option<Captured>, Failure>;
}

/// The frames of one capture by time, those of equal time in the order of the file.
pub(super) struct Ordered<S> {
    source: S,
    path: PathBuf,
    /// How far behind the latest frame before it a frame may stand, in nanoseconds: 0 where the file is in order.
    disorder_ns: u64,
    waiting: BinaryHeap<Reverse<Entry>>,
    waiting_bytes: usize,
    read: u64,
    latest: u64,
    given: u64,
    ended: bool,
}

struct Entry {
    place: u64,
    frame: Captured,
}

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.frame.time, self.place)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<S: Frames> Ordered<S> {
    /// `disorder_ns` is the most by which any frame of the source is earlier than one before it.
    pub(super) fn new(source: S, path: &Path, disorder_ns: u64) -> Self {
        Self {
            source,
            path: path.to_path_buf(),
            disorder_ns,
            waiting: BinaryHeap::new(),
            waiting_bytes: 0,
            read: 0,
            latest: 0,
            given: 0,
            ended: false,
        }
    }

    /// The next frame by time.
    ///
    /// # Errors
    /// Those of the source; and where the frames cannot be put in order within bounded memory.
    pub(super) fn next(&mut self) -> Result<Option<Captured>, Failure> {
        while !self.ended && !self.first_is_due() {
            match self.source.next()? {
                Some(frame) => self.wait(frame)?,
                None => self.ended = true,
            }
        }
        let Some(Reverse(Entry { frame, .. })) = self.waiting.pop() else { return Ok(None) };
        self.waiting_bytes -= cost(&frame);
        if frame.time < self.given {
            return Err(self.failed("changed while it was read"));
        }
        self.given = frame.time;
        Ok(Some(frame))
    }

    /// Whether no frame that is still to be read can be earlier than the first that waits.
    fn first_is_due(&self) -> bool {
        self.waiting
            .peek()
            .is_some_and(|Reverse(first)| first.frame.time.saturating_add(self.disorder_ns) <= self.latest)
    }

    fn wait(&mut self, frame: Captured) -> Result<(), Failure> {
        self.latest = self.latest.max(frame.time);
        self.waiting_bytes += cost(&frame);
        self.waiting.push(Reverse(Entry { place: self.read, frame }));
        self.read += 1;
        if self.waiting_bytes > WAITING_BYTES_MAX {
            return Err(
                self.failed("its frames are too far out of time order; sort it first, as with `reordercap`")
            );
        }
        Ok(())
    }

    fn failed(&self, what: &str) -> Failure {
        Failure::failed(format!("{}: {what}", self.path.display()))
    }
}

fn cost(frame: &Captured) -> usize {
    frame.bytes.len() + size_of::<Entry>()
}

/// The frames of several captures by time; of equal time, in the order of the captures.
pub(super) struct Merged<S> {
    /// Each with the frame that comes next from it.
    captures: Vec<(Ordered<S>, Option<Captured>)>,
}

impl<S: Frames> Merged<S> {
    /// # Errors
    /// Those of reading the first frame of each.
    pub(super) fn new(captures: Vec<Ordered<S>>) -> Result<Self, Failure> {
        let with_first = captures.into_iter().map(|mut capture| {
            let first = capture.next()?;
            Ok((capture, first))
        });
        Ok(Self { captures: with_first.collect::<Result<_, Failure>>()? })
    }

    /// The next frame, with the place of its capture.
    ///
    /// # Errors
    /// Those of [`Ordered::next`].
    pub(super) fn next(&mut self) -> Result<Option<(usize, Captured)>, Failure> {
        let waiting = self.captures.iter().enumerate();
        let times = waiting.filter_map(|(place, (_, next))| next.as_ref().map(|frame| (frame.time, place)));
        let Some((_, place)) = times.min() else { return Ok(None) };
        let Some((capture, next)) = self.captures.get_mut(place) else { return Ok(None) };
        let following = capture.next()?;
        Ok(std::mem::replace(next, following).map(|frame| (place, frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::IntoIter;

    struct Listed(IntoIter<Captured>);

    impl Frames for Listed {
        fn next(&mut self) -> Result<Option<Captured>, Failure> {
            Ok(self.0.next())
        }
    }

    fn frames(times: &[u64]) -> Vec<Captured> {
        let numbered = times.iter().enumerate();
        numbered
            .map(|(n, &time)| Captured { time, bytes: n.to_be_bytes().to_vec(), truncated: false })
            .collect()
    }

    fn disorder(times: &[u64]) -> u64 {
        let behind =
            |(n, time): (usize, &u64)| times[..n].iter().max().map_or(0, |max| max.saturating_sub(*time));
        times.iter().enumerate().map(behind).max().unwrap_or(0)
    }

    fn ordered(times: &[u64], disorder_ns: u64) -> Ordered<Listed> {
        Ordered::new(Listed(frames(times).into_iter()), Path::new("test.pcap"), disorder_ns)
    }

    fn drain(mut ordered: Ordered<Listed>) -> Result<Vec<Captured>, Failure> {
        let mut all = Vec::new();
        while let Some(frame) = ordered.next()? {
            all.push(frame);
        }
        Ok(all)
    }

    /// Some permutation with repeats, the same each time.
    fn scrambled(count: u64, modulus: u64) -> Vec<u64> {
        (0..count).map(|n| n * 7 % modulus + n / 4).collect()
    }

    #[test]
    fn a_capture_comes_out_as_a_stable_sort_would_have_it() {
        for times in [vec![], vec![5], vec![1, 2, 3], vec![3, 2, 1], vec![2, 2, 1, 2, 1], scrambled(500, 31)]
        {
            let mut wanted = frames(&times);
            wanted.sort_by_key(|frame| frame.time);
            assert_eq!(drain(ordered(&times, disorder(&times))), Ok(wanted), "{times:?}");
        }
    }

    #[test]
    fn frames_in_order_do_not_wait() {
        let mut capture = ordered(&[1, 2, 3, 4], 0);
        for _ in 0..4 {
            assert!(capture.next().is_ok_and(|frame| frame.is_some()));
            assert_eq!(capture.waiting_bytes, 0);
        }
    }

    #[test]
    fn a_frame_earlier_than_was_said_is_a_failure_and_not_a_step_back() {
        assert_eq!(drain(ordered(&[10, 5], 0)).err().map(|failure| failure.code), Some(1));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut late: Vec<Captured> = Vec::new();
        for n in 0..1100 {
            late.push(Captured { time: 1000 + n, bytes: vec![0; 64 << 10], truncated: false });
        }
        let capture = Ordered::new(Listed(late.into_iter()), Path::new("late.pcap"), 5000);
        let failure = drain(capture).err();
        assert!(failure.is_some_and(|failure| failure.code == 1 && failure.lines[0].contains("late.pcap")));
    }

    #[test]
    fn captures_are_merged_by_time_and_ties_by_their_order() {
        let lists: [&[u64]; 3] = [&[1, 5, 5, 9], &[], &[5, 1, 7]];
        let captures = lists.iter().map(|times| ordered(times, disorder(times))).collect();
        let mut merged = Merged::new(captures).expect("no failure in memory");
        let mut all = Vec::new();
        while let Ok(Some((place, frame))) = merged.next() {
            all.push((frame.time, place));
        }
        assert_eq!(all, [(1, 0), (1, 2), (5, 0), (5, 0), (5, 2), (7, 2), (9, 0)]);
    }
}
