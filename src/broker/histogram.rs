//! Durations counted in fixed buckets, four per power of two: the upper bound of a bucket is at most a quarter
//! above its lower bound. An array of plain numbers with one writer.

/// Buckets per power of two, as a power of two.
const SPLIT_BITS: u32 = 2;
const SPLIT: usize = 1 << SPLIT_BITS;
/// Durations from 2^32 microseconds (71 minutes) on share the last bucket.
const LAST_POWER: u32 = 32;
/// The number of buckets.
pub const BUCKETS: usize = (LAST_POWER - SPLIT_BITS + 1) as usize * SPLIT;

/// Durations in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// On the heap, because workers and reports are moved, and stacks are small.
    counts: Box<[u64; BUCKETS]>,
    sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = vec![0; BUCKETS].into_boxed_slice();
        Histogram { counts: counts.try_into().expect("the vector has BUCKETS elements"), sum_us: 0 }
    }
}

impl Histogram {
    #[inline]
    pub fn record(&mut self, us: u64) {
        self.counts[bucket_of(us)] += 1;
        self.sum_us = self.sum_us.wrapping_add(us);
    }

    pub fn record_many(&mut self, us: u64, count: u64) {
        self.counts[bucket_of(us)] += count;
        self.sum_us = self.sum_us.wrapping_add(us.wrapping_mul(count));
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all durations.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    pub fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(count, more)| *count += more);
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// The durations recorded after `earlier`, an older state of the same histogram.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut counts = self.counts.clone();
        counts
            .iter_mut()
            .zip(earlier.counts.iter())
            .for_each(|(count, old)| *count = count.saturating_sub(*old));
        Histogram { counts, sum_us: self.sum_us.saturating_sub(earlier.sum_us) }
    }

    /// The upper bound of the first bucket below which a share of `quantile` (0 to 1) of the durations lies.
    /// `None` if there are no durations.
    pub fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((count as f64 * quantile).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        bucket.filter(|_| count > 0).map(bound_us)
    }

    /// Durations below each power of two of microseconds, from `2^0` on, as (bound, count): cumulative,
    /// without the last bucket, which has no bound.
    pub fn below_powers(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        self.counts[..BUCKETS - 1].iter().enumerate().filter_map(move |(bucket, count)| {
            below += count;
            bound_us(bucket).is_power_of_two().then_some((bound_us(bucket), below))
        })
    }
}

#[inline]
fn bucket_of(us: u64) -> usize {
    // Each duration below the first split power has its own bucket.
    let us = us.min((1 << LAST_POWER) - 1);
    let power = (us | (SPLIT as u64)).ilog2();
    let within = (us >> (power - SPLIT_BITS)) as usize;
    (power - SPLIT_BITS) as usize * SPLIT + within
}

/// The upper bound of `bucket`, exclusive.
fn bound_us(bucket: usize) -> u64 {
    match bucket.checked_sub(2 * SPLIT) {
        None => bucket as u64 + 1,
        Some(split) => (SPLIT + split % SPLIT + 1) as u64 * (2 << (split / SPLIT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_contiguous() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for bucket in 0..BUCKETS - 1 {
            let bound = bound_us(bucket);
            assert_eq!(bucket_of(bound - 1), bucket, "below {bound}");
            assert_eq!(bucket_of(bound), bucket + 1, "from {bound}");
        }
        assert_eq!(bound_us(BUCKETS - 1), 1 << LAST_POWER);
    }

    #[test]
    fn below_powers_is_cumulative_and_omits_the_last_bucket() {
        let mut histogram = Histogram::default();
        for us in [0, 1, 3, 1_023, 1_024, 5_000_000_000] {
            histogram.record(us);
        }
        let below: Vec<(u64, u64)> = histogram.below_powers().collect();
        let at = |bound| below.iter().find(|(known, _)| *known == bound).unwrap().1;
        assert_eq!((at(1), at(2), at(4), at(1_024), at(2_048)), (1, 2, 3, 4, 5));
        assert_eq!(below.last(), Some(&(1 << 31, 5)));
        assert_eq!((histogram.count(), histogram.sum_us()), (6, 5_000_002_051));
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::default().quantile_us(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_at_most_a_quarter_above_the_exact_value(
            mut all in prop::collection::vec(0u64..1 << 31, 1..60),
            quantile in 0.0f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|us| histogram.record(*us));
            all.sort_unstable();
            let rank = ((all.len() as f64 * quantile).ceil() as usize).max(1);
            let exact = all[rank - 1];
            let found = histogram.quantile_us(quantile).unwrap();
            prop_assert!(found > exact && found <= exact + exact / 4 + 1, "{found} for {exact}");
        }

        #[test]
        fn since_and_add_are_inverse(
            before in prop::collection::vec(any::<u32>(), 0..20),
            after in prop::collection::vec(any::<u32>(), 0..20),
        ) {
            let mut histogram = Histogram::default();
            before.iter().for_each(|us| histogram.record(u64::from(*us)));
            let mut earlier = histogram.clone();
            after.iter().for_each(|us| histogram.record(u64::from(*us)));
            let since = histogram.since(&earlier);
            prop_assert_eq!(since.count(), after.len() as u64);
            earlier.add(&since);
            prop_assert_eq!(earlier, histogram);
        }
    }
}
