//! What the store counts, as Prometheus reads it.

use std::fmt::Write;

use storage::{Footprint, Metrics, Queues, Store};

use crate::telemetry::{head, metric, sample};

/// Appends all of it.
pub fn write(store: &Store, out: &mut String) {
    write_queues(store.queues(), out);
    if let Some(footprint) = store.footprint() {
        write_footprint(footprint, out);
    }
    write_counts(store.metrics(), out);
}

fn write_queues(queues: Queues, out: &mut String) {
    metric(out, "parlour_store_commit_queue", "gauge", "Commits that wait for the writer.", queues.commits);
    metric(out, "parlour_store_read_queue", "gauge", "Reads that wait for a reader.", queues.reads);
}

fn write_footprint(footprint: Footprint, out: &mut String) {
    let name = "parlour_store_memory_bytes";
    head(out, name, "gauge", "What the store holds in memory; block_cache_pinned is a part of block_cache.");
    for (part, octets) in [
        ("memtables", footprint.memtables),
        ("block_cache", footprint.block_cache),
        ("block_cache_pinned", footprint.block_cache_pinned),
        ("table_readers", footprint.table_readers),
    ] {
        sample(out, name, &[("part", part)], octets);
    }
}

fn write_counts(metrics: &Metrics, out: &mut String) {
    let counters = [
        ("parlour_store_commits_total", "Batches done.", &metrics.commits_total),
        ("parlour_store_records_total", "Records put or deleted.", &metrics.records_total),
        ("parlour_store_conflicts_total", "Batches whose expectation failed.", &metrics.conflicts_total),
        ("parlour_store_groups_total", "Group commits written.", &metrics.groups_total),
        ("parlour_store_fsyncs_total", "Group commits that waited for the disk.", &metrics.fsyncs_total),
        ("parlour_store_reads_total", "Reads done.", &metrics.reads_total),
        ("parlour_store_busy_total", "Commits and reads refused because a queue was full.", &metrics.busy_total),
        ("parlour_store_errors_total", "Groups and reads that failed by the disk.", &metrics.errors_total),
        ("parlour_store_full_total", "Groups that failed for want of space.", &metrics.full_total),
    ];
    for (name, help, counter) in counters {
        metric(out, name, "counter", help, counter.get());
    }

    let size = &metrics.group_size;
    histogram(
        out,
        "parlour_store_group_commits",
        "Commits in a group.",
        size.cumulative(),
        size.count(),
        size.sum(),
        1.0,
    );
    let time = &metrics.commit_us;
    let help = "From a commit's question to its answer.";
    histogram(out, "parlour_store_commit_seconds", help, time.cumulative(), time.count(), time.sum(), 1e6);
}

/// Bounds and sum are counted in pieces of a unit: so many of them to one.
fn histogram(
    out: &mut String,
    name: &str,
    help: &str,
    buckets: impl Iterator<Item = (u64, u64)>,
    count: u64,
    sum: u64,
    pieces: f64,
) {
    head(out, name, "histogram", help);
    for (bound, below) in buckets {
        _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", bound as f64 / pieces);
    }
    _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {}\n{name}_count {count}", sum as f64 / pieces);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_in_seconds_and_every_line_has_our_prefix() {
        let metrics = Metrics::default();
        metrics.commit_us.note(150);
        metrics.group_size.note(3);
        let mut out = String::new();
        write_counts(&metrics, &mut out);
        for line in [
            "parlour_store_commit_seconds_bucket{le=\"0.0001\"} 0",
            "parlour_store_commit_seconds_bucket{le=\"0.0002\"} 1",
            "parlour_store_commit_seconds_sum 0.00015",
            "parlour_store_group_commits_bucket{le=\"4\"} 1",
            "parlour_store_group_commits_bucket{le=\"+Inf\"} 1",
        ] {
            assert!(out.lines().any(|each| each == line), "{line} in {out}");
        }
        assert!(out.lines().all(|line| line.starts_with("parlour_") || line.starts_with("# ")), "{out}");
    }

    #[test]
    fn a_store_tells_what_it_holds_part_by_part_and_what_waits() {
        let (mut out, store) = (String::new(), Store::in_memory());
        write(&store, &mut out);
        let begins = |with: &str| out.lines().filter(|line| line.starts_with(with)).count();
        assert_eq!(begins("parlour_store_memory_bytes{part=\""), 4, "{out}");
        assert_eq!((begins("parlour_store_commit_queue 0"), begins("parlour_store_read_queue 0")), (1, 1), "{out}");
    }
}
