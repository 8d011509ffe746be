//! How long frames took, to about one in a hundred.

/// Linear steps within each doubling, as a power of two.
const STEP_BITS: u32 = 6;
/// From here on, 2^31 ns, delays are not told apart.
const BITS_MAX: u32 = 31;
const BUCKETS: usize = ((BITS_MAX - STEP_BITS + 1) << STEP_BITS) as usize;

/// Counts of delays in nanoseconds.
pub(super) struct Histogram {
    buckets: Vec<u32>,
    count: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, delay_ns: u64) {
        self.buckets[bucket(delay_ns)] += 1;
        self.count += 1;
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    /// So many nanoseconds, or less, this share of the frames took; `None` when there is none.
    pub(super) fn quantile_ns(&self, share: f64) -> Option<f64> {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(f64::midpoint(lowest(found) as f64, lowest(found + 1) as f64))
    }
}

/// The first buckets are a nanosecond each; then each doubling has as many as there are steps.
fn bucket(delay_ns: u64) -> usize {
    let delay = delay_ns.min((1 << BITS_MAX) - 1);
    let shift = (u64::BITS - delay.leading_zeros()).saturating_sub(STEP_BITS + 1);
    ((u64::from(shift) << STEP_BITS) + (delay >> shift)) as usize
}

/// The shortest delay in a bucket.
fn lowest(bucket: usize) -> u64 {
    let steps = 1 << STEP_BITS;
    let bucket = bucket as u64;
    if bucket < 2 * steps {
        return bucket;
    }
    let shift = (bucket >> STEP_BITS) - 1;
    (bucket - (shift << STEP_BITS)) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delay_is_in_its_bucket() {
        for delay in (0..300).chain([1_000, 65_535, 65_536, 1_000_000, (1 << 31) - 1]) {
            let found = bucket(delay);
            assert!(found < BUCKETS, "{delay}");
            assert!(lowest(found) <= delay && delay < lowest(found + 1), "{delay} in {found}");
            let width = lowest(found + 1) - lowest(found);
            assert!(width as f64 <= (delay as f64 / 64.0).max(1.0), "{delay}: {width}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_what_was_added() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile_ns(0.5), None);
        (1..=1000).for_each(|delay| histogram.add(delay * 100));
        for (share, delay) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0)] {
            let found = histogram.quantile_ns(share).unwrap();
            assert!((found / delay - 1.0).abs() < 0.016, "{found} for {delay}");
        }
        histogram.clear();
        assert_eq!(histogram.quantile_ns(0.5), None);
    }
}
