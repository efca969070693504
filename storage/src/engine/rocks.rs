//! Records in RocksDB: one column family a [`Family`], one writer, a few readers.
//!
//! The database lies in `store/` of the data directory. Its handle stands behind a lock that only a repair takes for
//! itself: after some faults RocksDB takes no more writes until it is opened again, and the writer does that once the
//! disk is seen to work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Partition, Partitions, partition::HASH_NAME, partition::PARTITIONS_DEFAULT};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rocksdb::properties::{
    BLOCK_CACHE_PINNED_USAGE, BLOCK_CACHE_USAGE, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_TABLE_READERS_MEM, PropName,
};
use rocksdb::{ColumnFamily, DB, Options, ReadOptions, WriteBatch, WriteOptions};

use super::{Batch, Engine, Epoch, Health, Receipt, Rev, Row, Tally, tuning};
use crate::ask::Ask;
use crate::backup;
use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::error::StoreError;
use crate::families::Family;
use crate::flow::Flow;
use crate::group::{Commit, Disk};
use crate::keys::{self, Key};
use crate::lock::DirLock;
use crate::metrics::{Footprint, Metrics, Queues};
use crate::read::{self, Range, Table, Visit};
use crate::readers::Readers;
use crate::record::{HEAD_WIDTH, Head, Reader, Writer as Record};
use crate::writer::{Journal, Surroundings, Writer};

/// The folder of the database within the data directory.
pub(crate) const FOLDER: &str = "store";
const META_KIND: &str = "description of a store";
const META_VERSION: u8 = 1;
/// What a test of the disk writes: more than a block, so that the last free one does not look like space.
const TEST_SIZE: usize = 256 * 1024;
/// Octets of a group that stay allocated for the next one.
const STAGED_KEPT: usize = 1 << 20;

/// The engine on RocksDB. Clones are the same store; when the last one is dropped, it is closed.
#[derive(Clone)]
pub struct Rocks(Arc<Parts>);

struct Parts {
    home: Arc<Home>,
    writer: Writer,
    readers: Readers,
    partitions: Partitions,
    health: Arc<Mutex<Health>>,
    metrics: Arc<Metrics>,
}

/// The database and where it lies: what the threads share.
struct Home {
    /// Its data directory.
    data_dir: PathBuf,
    config: Config,
    clock: Arc<dyn Clock>,
    /// `None` once it is closed, or while a repair failed.
    db: RwLock<Option<DB>>,
    lock: Mutex<Option<DirLock>>,
}

impl Rocks {
    /// Opens the store in the data directory of `config`, and makes it where there is none. Blocks while the log is
    /// read. Fails when another process holds the directory, or the store was made otherwise than `config` says.
    pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let lock = DirLock::take(&config.data_dir)?;
        let home = Home {
            data_dir: config.data_dir.clone(),
            config: config.clone(),
            clock: Arc::clone(&clock),
            db: RwLock::new(None),
            lock: Mutex::new(Some(lock)),
        };
        home.reopen()?;
        crate::backup::keep_private(&config.data_dir.join(FOLDER))?;
        let partitions = home.describe()?;
        let (home, metrics) = (Arc::new(home), Arc::new(Metrics::default()));
        let health = Arc::new(Mutex::new(Health::Serving));
        let sync = config.durability == Durability::Fsync;
        let journal = RocksDisk { home: Arc::clone(&home), staged: Staged::default() };
        let around = Surroundings { metrics: Arc::clone(&metrics), health: Arc::clone(&health), clock, sync };
        let writer = Writer::start(journal, around)?;
        let readers = Readers::start(config.readers, Arc::clone(&metrics))?;
        Ok(Self(Arc::new(Parts { home, writer, readers, partitions, health, metrics })))
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>, u64) -> Result<T, StoreError> + Send + 'static,
    ) -> Ask<T> {
        let home = Arc::clone(&self.0.home);
        self.0.readers.ask(move || home.with(|db| read(&View(db), home.clock.unix_ms() / 1_000)))
    }
}

impl Engine for Rocks {
    fn partitions(&self) -> Partitions {
        self.0.partitions
    }

    fn get(&self, partition: Partition, family: Family, key: Key) -> Ask<Option<(Rev, Bytes)>> {
        self.read(move |table, now| read::get(table, &key.on_disk(partition), family, now))
    }

    fn scan(&self, partition: Partition, family: Family, prefix: Key, from: Key, limit: usize) -> Ask<Vec<Row>> {
        self.read(move |table, now| read::scan(table, &Range::new(partition, family, prefix, from), limit, now))
    }

    fn tally(&self, partition: Partition, family: Family, prefix: Key) -> Ask<Tally> {
        self.read(move |table, now| read::tally(table, &Range::new(partition, family, prefix.clone(), prefix), now))
    }

    fn due(&self, partition: Partition, family: Family, limit: usize) -> Ask<Vec<Row>> {
        self.read(move |table, now| read::due(table, partition, family, limit, now))
    }

    fn commit(&self, partition: Partition, fence: Epoch, batch: Batch) -> Ask<Receipt> {
        let opened = Commit::open(partition, fence, batch);
        match opened.and_then(|(commit, ask)| self.0.writer.submit(commit).map(|()| ask)) {
            Ok(ask) => ask,
            Err(why) => Ask::ready(Err(why)),
        }
    }

    fn load(&self, partition: Partition, families: &[Family]) -> Flow<(Family, Row)> {
        super::load_by_scans(self.clone(), partition, families)
    }

    fn backup(&self, dir: PathBuf) -> Ask<()> {
        let home = Arc::clone(&self.0.home);
        // It may take minutes: a thread of its own, not one of those that read.
        Ask::on_thread("store-backup", move || home.with(|db| backup::take(db, &dir)))
    }

    fn health(&self) -> Health {
        if self.0.writer.has_ended() { Health::Refusing(StoreError::Closed) } else { self.0.health.lock().clone() }
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn queues(&self) -> Queues {
        Queues { commits: self.0.writer.waiting(), reads: self.0.readers.waiting() }
    }

    fn footprint(&self) -> Option<Footprint> {
        // A repair may hold the lock for seconds, and a closed database holds nothing.
        footprint(self.0.home.db.try_read()?.as_ref()?)
    }

    fn close(&self) -> Ask<()> {
        let engine = self.clone();
        Ask::on_thread("store-close", move || {
            engine.0.close();
            Ok(())
        })
    }
}

impl Parts {
    fn close(&self) {
        self.writer.stop();
        self.readers.stop();
        drop(self.home.db.write().take());
        drop(self.home.lock.lock().take());
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.close();
    }
}

impl Home {
    fn path(&self) -> PathBuf {
        self.data_dir.join(FOLDER)
    }

    /// What needs the database, while no repair is under way.
    fn with<T>(&self, act: impl FnOnce(&DB) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.db.read().as_ref() {
            Some(db) => act(db),
            None if self.lock.lock().is_none() => Err(StoreError::Closed),
            None => Err(StoreError::disk("the database could not be opened again after a fault")),
        }
    }

    /// Opens the database, closing it first where it is open.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut db = self.db.write();
        drop(db.take());
        let path = self.path();
        if path.join("CURRENT").exists() {
            known_families(&path)?;
        }
        let options = tuning::database(&self.config);
        let families = tuning::families(&self.config, &self.clock);
        let opened = DB::open_cf_descriptors(&options, &path, families).map_err(|error| match error.into_string() {
            held if held.contains("LOCK") => {
                StoreError::Locked { dir: self.data_dir.clone(), holder: format!("RocksDB says: {held}").into() }
            }
            other => fault(&other),
        })?;
        *db = Some(opened);
        Ok(())
    }

    /// Reads what the store is, or writes it down where the store is new.
    fn describe(&self) -> Result<Partitions, StoreError> {
        let row = keys::meta_store();
        if let Some(found) = self.with(|db| View(db).value(Family::Meta, &row))? {
            let partitions = read_description(&self.data_dir, &found)?;
            return match self.config.partitions.filter(|wanted| *wanted != partitions.count()) {
                Some(wanted) => {
                    Err(StoreError::WrongPartitions { dir: self.data_dir.clone(), found: partitions.count(), wanted })
                }
                None => Ok(partitions),
            };
        }
        let partitions = Partitions::new(self.config.partitions.unwrap_or(PARTITIONS_DEFAULT));
        let mut value = Vec::new();
        Head { rev: Rev(0), expires_unix_s: 0 }.write(&mut value);
        let mut record = Record::new(META_VERSION);
        record.number(u64::from(partitions.count())).text(HASH_NAME);
        value.extend_from_slice(&record.finish());
        self.with(|db| {
            let mut batch = WriteBatch::default();
            batch.put_cf(column(db, Family::Meta)?, &row, &value);
            db.write_opt(batch, &synced(true)).map_err(disk_fault)
        })?;
        Ok(partitions)
    }

    /// Whether the disk takes a file, and has space for one.
    fn test_file(&self) -> Result<(), StoreError> {
        let path = self.data_dir.join("store.test");
        let written =
            std::fs::write(&path, vec![0x5A; TEST_SIZE]).and_then(|()| std::fs::File::open(&path)?.sync_all());
        let removed = std::fs::remove_file(&path);
        written.and(removed).map_err(|error| fault(&error.to_string()))
    }
}

/// What a store says of itself: checked, because no record could be found again otherwise.
pub(crate) fn read_description(data_dir: &Path, value: &Bytes) -> Result<Partitions, StoreError> {
    let record = value.slice(HEAD_WIDTH.min(value.len())..);
    let (_, mut fields) = Reader::open(META_KIND, META_VERSION, &record)?;
    let (count, hash) = (fields.narrow::<u16>()?, fields.text()?);
    if hash != HASH_NAME {
        return Err(StoreError::WrongHash { dir: data_dir.to_owned(), found: hash.into(), known: HASH_NAME });
    }
    Ok(Partitions::new(count))
}

/// Refuses a database with families of a later version.
fn known_families(path: &Path) -> Result<(), StoreError> {
    let found = DB::list_cf(&Options::default(), path).map_err(disk_fault)?;
    let known = |name: &String| name == "default" || Family::ALL.into_iter().any(|family| family.name() == name);
    match found.into_iter().find(|name| !known(name)) {
        Some(name) => Err(StoreError::Directory {
            dir: path.to_owned(),
            what: format!("has a family `{name}` that this program does not know: use the newer program").into(),
        }),
        None => Ok(()),
    }
}

fn footprint(db: &DB) -> Option<Footprint> {
    let of = |family, name: &PropName| db.property_int_value_cf(column(db, family).ok()?, name).ok()?;
    let all = |name| Family::ALL.into_iter().filter_map(|family| of(family, name)).sum();
    Some(Footprint {
        memtables: all(CUR_SIZE_ALL_MEM_TABLES),
        // One cache serves all families, and each of them tells of the whole of it.
        block_cache: of(Family::Meta, BLOCK_CACHE_USAGE)?,
        block_cache_pinned: of(Family::Meta, BLOCK_CACHE_PINNED_USAGE)?,
        table_readers: all(ESTIMATE_TABLE_READERS_MEM),
    })
}

fn column(db: &DB, family: Family) -> Result<&ColumnFamily, StoreError> {
    db.cf_handle(family.name()).ok_or_else(|| StoreError::disk(format!("family {} is missing", family.name())))
}

fn synced(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}

/// A message of RocksDB or of the system, by its cause.
fn fault(message: &str) -> StoreError {
    // ENOSPC and EDQUOT, as RocksDB and the standard library write them.
    let full = ["No space left", "NoSpace", "Disk quota exceeded", "Max allowed space"];
    if full.iter().any(|text| message.contains(text)) { StoreError::Full } else { StoreError::disk(message) }
}

pub(crate) fn disk_fault(error: rocksdb::Error) -> StoreError {
    fault(&error.into_string())
}

/// The database as a table of rows.
pub(crate) struct View<'a>(pub &'a DB);

impl Table for View<'_> {
    fn value(&self, family: Family, row: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.0.get_cf(column(self.0, family)?, row).map_err(disk_fault)?;
        Ok(found.map(Bytes::from))
    }

    fn head(&self, family: Family, row: &[u8]) -> Result<Option<Head>, StoreError> {
        let found = self.0.get_pinned_cf(column(self.0, family)?, row).map_err(disk_fault)?;
        found.map(|value| Head::read(&value)).transpose()
    }

    fn visit(&self, family: Family, from: &[u8], until: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError> {
        let mut options = ReadOptions::default();
        if let Some(until) = until {
            options.set_iterate_upper_bound(until);
        }
        let mut rows = self.0.raw_iterator_cf_opt(column(self.0, family)?, options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if !visit(key, value)? {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(disk_fault)
    }
}

/// The database as the writer sees it.
struct RocksDisk {
    home: Arc<Home>,
    staged: Staged,
}

/// Rows of one group, in the order in which they were staged, until they are written in the order of their keys: a
/// memtable finds the place of a row fastest next to that of the row before it.
#[derive(Default)]
struct Staged {
    rows: Vec<StagedRow>,
    octets: Vec<u8>,
}

struct StagedRow {
    family: Family,
    key: std::ops::Range<usize>,
    /// `None`: it is removed.
    value: Option<std::ops::Range<usize>>,
}

impl Staged {
    fn push(&mut self, family: Family, row: &[u8], value: Option<&[u8]>) {
        let mut keep = |octets: &[u8]| {
            let start = self.octets.len();
            self.octets.extend_from_slice(octets);
            start..self.octets.len()
        };
        let (key, value) = (keep(row), value.map(keep));
        self.rows.push(StagedRow { family, key, value });
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.octets.clear();
        self.octets.shrink_to(STAGED_KEPT);
    }

    fn batch(&mut self, db: &DB) -> Result<WriteBatch, StoreError> {
        let Self { rows, octets } = self;
        // Stable: of several rows with one key the last one staged stays the last.
        rows.sort_by(|one, other| {
            (one.family, &octets[one.key.clone()]).cmp(&(other.family, &octets[other.key.clone()]))
        });
        let mut batch = WriteBatch::with_capacity_bytes(octets.len() + 16 * rows.len());
        for of_family in rows.chunk_by(|one, other| one.family == other.family) {
            let column = column(db, of_family[0].family)?;
            for StagedRow { key, value, .. } in of_family {
                match value {
                    Some(value) => batch.put_cf(column, &octets[key.clone()], &octets[value.clone()]),
                    None => batch.delete_cf(column, &octets[key.clone()]),
                }
            }
        }
        Ok(batch)
    }
}

impl Table for RocksDisk {
    fn value(&self, family: Family, row: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.home.with(|db| View(db).value(family, row))
    }

    fn head(&self, family: Family, row: &[u8]) -> Result<Option<Head>, StoreError> {
        self.home.with(|db| View(db).head(family, row))
    }

    fn visit(&self, family: Family, from: &[u8], until: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError> {
        self.home.with(|db| View(db).visit(family, from, until, visit))
    }
}

impl Disk for RocksDisk {
    fn stage_put(&mut self, family: Family, row: &[u8], value: &[u8]) {
        self.staged.push(family, row, Some(value));
    }

    fn stage_delete(&mut self, family: Family, row: &[u8]) {
        self.staged.push(family, row, None);
    }

    fn discard(&mut self) {
        self.staged.clear();
    }

    fn write(&mut self, sync: bool) -> Result<(), StoreError> {
        let Self { home, staged } = self;
        let written = home.with(|db| db.write_opt(staged.batch(db)?, &synced(sync)).map_err(disk_fault));
        staged.clear();
        written
    }
}

impl Journal for RocksDisk {
    fn test(&mut self) -> Result<(), StoreError> {
        self.discard();
        // First the disk alone: a database closed on a full disk could not be opened again, and would not even be read.
        self.home.test_file()?;
        let probe = |disk: &mut Self| {
            disk.stage_put(Family::Meta, &keys::meta_probe(), &[]);
            disk.write(true)
        };
        if let Err(why) = probe(self) {
            tracing::warn!(%why, "The disk works, RocksDB does not: it is opened again");
            self.home.reopen()?;
            return probe(self);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.home.with(|db| db.flush_wal(true).map_err(disk_fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SetClock;
    use crate::engine::Expect;

    #[test]
    fn a_repair_under_way_loses_nothing_and_disturbs_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Rocks::open(&Config::in_dir(dir.path()), Arc::new(SetClock::at(1_000))).unwrap();
        let put = |n: u8| {
            let mut batch = Batch::new();
            batch.put(Family::Binding, Key::of(&[n]), vec![n], Expect::Absent, None);
            engine.commit(Partition(1), Epoch::SOLE, batch)
        };
        for n in 0..20 {
            let committed = put(n);
            if n % 5 == 0 {
                engine.0.home.reopen().unwrap();
            }
            committed.wait().unwrap();
            let row = engine.get(Partition(1), Family::Binding, Key::of(&[n])).wait().unwrap();
            assert_eq!(row.unwrap().1.as_ref(), [n]);
        }
        let all = engine.scan(Partition(1), Family::Binding, Key::of(b""), Key::of(b""), 99).wait().unwrap();
        assert_eq!((all.len(), engine.health()), (20, Health::Serving));
    }

    #[test]
    fn rows_of_a_group_are_written_by_key_and_of_one_key_the_last_stands() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Rocks::open(&Config::in_dir(dir.path()), Arc::new(SetClock::at(1_000))).unwrap();
        engine.0.writer.stop();
        let mut disk = RocksDisk { home: Arc::clone(&engine.0.home), staged: Staged::default() };
        for (row, value) in [(b"b", Some(b"1")), (b"a", Some(b"2")), (b"b", None), (b"c", None), (b"c", Some(b"3"))] {
            match value {
                Some(value) => disk.stage_put(Family::Binding, row, value),
                None => disk.stage_delete(Family::Binding, row),
            }
            disk.stage_put(Family::Seen, row, b"seen");
        }
        disk.write(true).unwrap();
        let found = [b"a", b"b", b"c"].map(|row| disk.value(Family::Binding, row).unwrap());
        assert_eq!(found, [Some(Bytes::from_static(b"2")), None, Some(Bytes::from_static(b"3"))]);
        assert!([b"a", b"b", b"c"].iter().all(|row| disk.value(Family::Seen, *row).unwrap().is_some()));
        // Nothing of it is written again.
        disk.stage_delete(Family::Binding, b"a");
        disk.discard();
        disk.write(true).unwrap();
        assert!(disk.value(Family::Binding, b"a").unwrap().is_some());
    }

    #[test]
    fn faults_are_known_by_their_cause() {
        for full in ["IO error: No space left on device: While appending to file", "IO error: Disk quota exceeded: x"] {
            assert_eq!(fault(full), StoreError::Full);
        }
        assert_eq!(fault("IO error: Input/output error"), StoreError::disk("IO error: Input/output error"));
    }
}
