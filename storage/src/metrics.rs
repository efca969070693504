//! What the store counts. One writer and a few readers add to it, a scrape reads it: plain atomics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::StoreError;
use crate::group::Verdicts;

/// Upper bounds of the buckets of commit latency, microseconds; one more bucket holds what is above.
pub const LATENCY_BOUNDS_US: [u64; 14] =
    [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 10_000_000];
/// Upper bounds of the buckets of group size, commits; one more bucket holds what is above.
pub const GROUP_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, by: usize) {
        self.0.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values fell under each of a few bounds.
#[derive(Debug)]
pub struct Histogram<const BOUNDS: usize> {
    bounds: &'static [u64; BOUNDS],
    buckets: [AtomicU64; BOUNDS],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// Nothing yet.
    pub fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; BOUNDS],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub fn note(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).map_or(&self.above, |at| &self.buckets[at]);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Pairs of bound and how many values are not above it, as Prometheus wants them; without `+Inf`.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.bounds.iter().zip(&self.buckets);
        counts.scan(0, |so_far, (bound, bucket)| {
            *so_far += bucket.load(Ordering::Relaxed);
            Some((*bound, *so_far))
        })
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().chain([&self.above]).map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// What waits in front of an engine now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queues {
    /// Commits that wait for the writer.
    pub commits: usize,
    /// Reads that wait for a reader.
    pub reads: usize,
}

/// What an engine holds in memory now, octets, all families together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Records that wait for being written in order.
    pub memtables: u64,
    /// Blocks that were read and are kept, indexes and filters among them.
    pub block_cache: u64,
    /// Of these, those that cannot leave: they are in use, or held in place.
    pub block_cache_pinned: u64,
    /// What open files take outside of that cache.
    pub table_readers: u64,
}

/// Counters of one store.
#[derive(Debug)]
pub struct Metrics {
    /// Batches that were done.
    pub commits_total: Counter,
    /// Records put or deleted by them.
    pub records_total: Counter,
    /// Batches of which an expectation failed.
    pub conflicts_total: Counter,
    /// Group commits written.
    pub groups_total: Counter,
    /// Of these, how many waited for the disk.
    pub fsyncs_total: Counter,
    /// Commits in a group.
    pub group_size: Histogram<{ GROUP_BOUNDS.len() }>,
    /// From the question to the answer, microseconds.
    pub commit_us: Histogram<{ LATENCY_BOUNDS_US.len() }>,
    /// Reads done.
    pub reads_total: Counter,
    /// Commits and reads refused because a queue was full.
    pub busy_total: Counter,
    /// Groups and reads that failed by the disk.
    pub errors_total: Counter,
    /// Of these, for want of space.
    pub full_total: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commits_total: Counter::default(),
            records_total: Counter::default(),
            conflicts_total: Counter::default(),
            groups_total: Counter::default(),
            fsyncs_total: Counter::default(),
            group_size: Histogram::new(&GROUP_BOUNDS),
            commit_us: Histogram::new(&LATENCY_BOUNDS_US),
            reads_total: Counter::default(),
            busy_total: Counter::default(),
            errors_total: Counter::default(),
            full_total: Counter::default(),
        }
    }
}

impl Metrics {
    /// Counts an error of the disk.
    pub(crate) fn note_error(&self, error: &StoreError) {
        self.errors_total.add(1);
        if *error == StoreError::Full {
            self.full_total.add(1);
        }
    }

    /// Counts a group that was written, or failed.
    pub(crate) fn note_group(&self, verdicts: &Verdicts, written: &Result<(), StoreError>, synced: bool) {
        if let Err(error) = written {
            return self.note_error(error);
        }
        self.group_size.note(verdicts.count() as u64);
        self.commits_total.add(verdicts.count() - verdicts.refused);
        self.conflicts_total.add(verdicts.refused);
        self.records_total.add(verdicts.records);
        if !verdicts.changes_nothing() {
            self.groups_total.add(1);
            self.fsyncs_total.add(usize::from(synced));
        }
    }

    /// Counts an answered commit.
    pub(crate) fn note_latency(&self, took: Duration) {
        self.commit_us.note(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::new(&[10, 100]);
        [1, 10, 11, 5_000].into_iter().for_each(|value| histogram.note(value));
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(10, 2), (100, 3)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 5_022));
    }
}
