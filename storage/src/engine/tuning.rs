//! What RocksDB is told: it follows from how each family is used, and from a few settings.
//!
//! An idle server must stay small: the memtables share one budget, the blocks one cache, and filters live in that cache.

use std::sync::Arc;

use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    LruCacheOptions, Options,
};

use crate::clock::Clock;
use crate::config::Config;
use crate::families::{Access, Expiry, Family};
use crate::record::Head;

/// Log files of RocksDB's own that are kept, and their size.
const INFO_LOGS: usize = 2;
const INFO_LOG_SIZE: usize = 1 << 20;
/// Files that RocksDB may hold open.
const OPEN_FILES: i32 = 512;
/// A family that was not written for long must not keep old logs: when they are this large together it is written out.
const LOGS_TOGETHER: u64 = 64 << 20;
/// Bits of bloom filter a key: one false answer in a hundred.
const BLOOM_BITS: f64 = 10.0;
/// Files with expired records are rewritten at least this often, seconds.
const REWRITE_EVERY_S: u64 = 6 * 3_600;
/// A record that is over this long, seconds, may be forgotten: nobody can see it, but a clock may have stepped.
const FORGET_AFTER_S: u64 = 60;

/// Options of the whole database.
pub(crate) fn database(config: &Config) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(2);
    options.set_db_write_buffer_size(config.write_buffer_bytes);
    options.set_max_total_wal_size(LOGS_TOGETHER);
    // What stands behind the first hole of the log was never acknowledged: an fsync covers all before it.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // D21: a log that is written over needs no metadata with each fsync.
    options.set_recycle_log_file_num(config.recycled_logs);
    options.set_keep_log_file_num(INFO_LOGS);
    options.set_max_log_file_size(INFO_LOG_SIZE);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options
}

/// Every family with its options.
pub(crate) fn families(config: &Config, clock: &Arc<dyn Clock>) -> Vec<ColumnFamilyDescriptor> {
    // Few parts: what is larger than a part is never kept, and the parts of a small cache are small.
    let mut parts = LruCacheOptions::default();
    parts.set_capacity(config.cache_bytes);
    parts.set_num_shard_bits(2);
    let cache = Cache::new_lru_cache_opts(&parts);
    Family::ALL
        .into_iter()
        .map(|family| ColumnFamilyDescriptor::new(family.name(), of(family, config, &cache, clock)))
        .collect()
}

fn of(family: Family, config: &Config, cache: &Cache, clock: &Arc<dyn Clock>) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(6);
    // Indexes and filters in blocks of their own: a lookup reads the few that it needs, and the cache can hold them.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    // Most lookups are for what is not there (a new message id), and what is there lies in one file of many.
    table.set_bloom_filter(BLOOM_BITS, false);
    match family.access() {
        Access::Lookup => {
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.02);
        }
        // A mailbox that was emptied leaves tombstones in front of the next letter: such files are rewritten soon.
        Access::Queue => options.add_compact_on_deletion_collector_factory(1_024, 512, 0.5),
    }
    match family.expiry() {
        Expiry::Never | Expiry::Due => {}
        Expiry::Forget => {
            let clock = Arc::clone(clock);
            options.set_compaction_filter("forget what is over", move |_level, _key: &[u8], value: &[u8]| {
                let limit_s = (clock.unix_ms() / 1_000).saturating_sub(FORGET_AFTER_S);
                let over = Head::read(value).is_ok_and(|head| head.is_over(limit_s));
                if over { Decision::Remove } else { Decision::Keep }
            });
            options.set_periodic_compaction_seconds(REWRITE_EVERY_S);
        }
    }
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(config.write_buffer_bytes / 4);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(16 << 20);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

#[cfg(test)]
mod tests {
    use rocksdb::DB;

    use super::*;
    use crate::clock::SetClock;
    use crate::engine::Rev;

    #[test]
    fn what_is_over_leaves_the_disk_when_its_file_is_rewritten_but_a_letter_stays_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (config, clock) = (Config::in_dir(dir.path()), SetClock::at(0));
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let db = DB::open_cf_descriptors(&database(&config), dir.path(), families(&config, &shared)).unwrap();
        let mut value = Vec::new();
        Head { rev: Rev(1), expires_unix_s: 100 }.write(&mut value);
        for family in [Family::Seen, Family::Spool] {
            db.put_cf(db.cf_handle(family.name()).unwrap(), b"k", &value).unwrap();
        }
        let left_at = |unix_s: u64| {
            clock.set(unix_s * 1_000);
            [Family::Seen, Family::Spool].map(|family| {
                let column = db.cf_handle(family.name()).unwrap();
                db.compact_range_cf(column, None::<&[u8]>, None::<&[u8]>);
                db.get_cf(column, b"k").unwrap().is_some()
            })
        };
        assert_eq!(left_at(100 + FORGET_AFTER_S - 1), [true, true]);
        // Compacting an unchanged bottom level does nothing: a new version of the row makes it a new file.
        db.put_cf(db.cf_handle(Family::Seen.name()).unwrap(), b"k", &value).unwrap();
        assert_eq!(left_at(100 + FORGET_AFTER_S), [false, true]);
    }
}
