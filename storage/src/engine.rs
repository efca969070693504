//! The small face of a key-value store, cut so that RocksDB and a distributed engine both serve it.
//!
//! A partition is the unit of ownership, order, atomic commit and fsync. A batch belongs to one partition and is done
//! whole or not at all; its answer comes when it is durable. Records and keys stay above this face.

pub mod faulty;
pub mod memory;
pub mod rocks;
mod tuning;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use base::limits::RECORD_BYTES_MAX;
use base::{Partition, Partitions};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::ask::Ask;
use crate::error::StoreError;
use crate::families::{Expiry, Family};
use crate::flow::Flow;
use crate::keys::Key;
use crate::metrics::{Footprint, Metrics, Queues};

/// Longest key.
const LONGEST_KEY: usize = 65_535;
/// Rows of one page of a load.
const LOAD_PAGE_ROWS: usize = 256;

/// Which ownership of a partition a commit was made under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a store that one process owns alone.
    pub const SOLE: Self = Self(0);
}

/// The revision of a record: grows with every commit of its store, also over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev(pub u64);

/// What must be true of a record for a batch to be done. A record whose time is over counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// There is none.
    Absent,
    /// There is one, even if its time is over: who acts on an expired record removes it so, once.
    Present,
    /// It has this revision.
    Rev(Rev),
}

/// One record of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// Its revision.
    pub rev: Rev,
    /// Its value.
    pub value: Bytes,
}

/// What a commit gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The revision of every record that it put.
    pub rev: Rev,
    /// The arrival that it stamped into its keys (microseconds since 1970, D2); 0 when it stamped none.
    pub arrival: u64,
}

/// How much lies under a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Records.
    pub count: u64,
    /// Octets of their values.
    pub bytes: u64,
}

/// Whether the engine takes commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Serving,
    /// It does not, for this reason; it tests every second whether it can again.
    Refusing(StoreError),
}

/// Changes to one partition, done together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
    pub(crate) bytes: usize,
    pub(crate) fault: Option<StoreError>,
}

#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub family: Family,
    pub key: Key,
    pub stamp_at: Option<usize>,
    pub expect: Expect,
    pub change: Change,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put {
        value: Bytes,
        expires_unix_s: u64,
    },
    /// `was_until_s`: the time that the record was put with, where that is known (unix seconds).
    Delete {
        was_until_s: Option<u64>,
    },
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A record; with a time (unix seconds) nobody sees it from then on.
    pub fn put(
        &mut self,
        family: Family,
        key: Key,
        value: impl Into<Bytes>,
        expect: Expect,
        expires_unix_s: Option<u64>,
    ) -> &mut Self {
        let change = Change::Put { value: value.into(), expires_unix_s: expires_unix_s.unwrap_or(0) };
        self.push(Op { family, key, stamp_at: None, expect, change })
    }

    /// A new record with the time of its arrival in its key: the writer fills in eight octets at `stamp_at`, with a
    /// number that only grows in its partition (D2). All stamps of one batch are the same number.
    pub fn put_stamped(
        &mut self,
        family: Family,
        key: Key,
        stamp_at: usize,
        value: impl Into<Bytes>,
        expires_unix_s: Option<u64>,
    ) -> &mut Self {
        let change = Change::Put { value: value.into(), expires_unix_s: expires_unix_s.unwrap_or(0) };
        self.push(Op { family, key, stamp_at: Some(stamp_at), expect: Expect::Any, change })
    }

    /// Removes a record; one that is not there is not missed, unless it was expected.
    pub fn delete(&mut self, family: Family, key: Key, expect: Expect) -> &mut Self {
        self.push(Op { family, key, stamp_at: None, expect, change: Change::Delete { was_until_s: None } })
    }

    /// Removes a record that was put once, with this time, and that nobody misses if it is gone: nothing is read for it.
    pub fn delete_put_until(&mut self, family: Family, key: Key, was_until_s: u64) -> &mut Self {
        let change = Change::Delete { was_until_s: Some(was_until_s) };
        self.push(Op { family, key, stamp_at: None, expect: Expect::Any, change })
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn push(&mut self, op: Op) -> &mut Self {
        let value = match &op.change {
            Change::Put { value, .. } => value.len(),
            Change::Delete { .. } => 0,
        };
        let key = op.key.bytes().len();
        if value > RECORD_BYTES_MAX {
            self.fault = Some(StoreError::TooLarge { bytes: value, max: RECORD_BYTES_MAX });
        } else if key > LONGEST_KEY {
            self.fault = Some(StoreError::TooLarge { bytes: key, max: LONGEST_KEY });
        } else if matches!(op.family, Family::Due | Family::Meta) {
            self.fault =
                Some(StoreError::Unsupported { engine: "any", what: "batch that writes the engine's own families" });
        }
        self.bytes += key + value;
        self.ops.push(op);
        self
    }
}

/// A store of records by partition, family and key.
///
/// Every answer may be an error: [`StoreError::Busy`] at once when a queue is full, [`StoreError::Disk`] or
/// [`StoreError::Full`] when the disk fails, [`StoreError::Closed`] when the engine ended first. A commit whose answer does
/// not come, or is `Disk` or `Closed`, may or may not last: the message id decides (D22).
pub trait Engine: Send + Sync {
    /// The partitions of this store; fixed when it was made.
    fn partitions(&self) -> Partitions;

    /// One record.
    fn get(&self, partition: Partition, family: Family, key: Key) -> Ask<Option<(Rev, Bytes)>>;

    /// Records under `prefix`, in the order of their keys, the first of them not before `from`; at most `limit`.
    fn scan(&self, partition: Partition, family: Family, prefix: Key, from: Key, limit: usize) -> Ask<Vec<Row>>;

    /// How much lies under `prefix`: counted, hence exact.
    fn tally(&self, partition: Partition, family: Family, prefix: Key) -> Ask<Tally>;

    /// Records of a family with [`Expiry::Due`] whose time is over, the longest dead first; they stay until deleted.
    /// Other families have none.
    fn due(&self, partition: Partition, family: Family, limit: usize) -> Ask<Vec<Row>>;

    /// Does the whole batch or, when an expectation fails, nothing. Never blocks: a full queue is
    /// [`StoreError::Busy`] at once.
    fn commit(&self, partition: Partition, fence: Epoch, batch: Batch) -> Ask<Receipt>;

    /// Everything of these families, family by family.
    fn load(&self, partition: Partition, families: &[Family]) -> Flow<(Family, Row)>;

    /// A consistent copy, taken while the engine runs, in a directory that is absolute and absent or empty.
    fn backup(&self, dir: PathBuf) -> Ask<()>;

    /// Whether it takes commits.
    fn health(&self) -> Health;

    /// What it counted.
    fn metrics(&self) -> &Metrics;

    /// What waits in front of it.
    fn queues(&self) -> Queues;

    /// What it holds in memory; nothing while that cannot be said without waiting (it is being opened again). For a
    /// scrape: not on a shard's thread.
    fn footprint(&self) -> Option<Footprint>;

    /// Finishes what waits, makes it durable and ends: later questions are answered [`StoreError::Closed`].
    fn close(&self) -> Ask<()>;
}

/// Whether an engine keeps rows of this family in its due index.
pub(crate) fn is_due(family: Family) -> bool {
    family.expiry() == Expiry::Due
}

/// [`Engine::load`] for engines that have nothing better: scans, each beginning where the last one ended.
pub(crate) fn load_by_scans(
    engine: impl Engine + 'static,
    partition: Partition,
    families: &[Family],
) -> Flow<(Family, Row)> {
    let engine = Arc::new(engine);
    let left: Arc<Mutex<VecDeque<(Family, Key)>>> =
        Arc::new(Mutex::new(families.iter().map(|family| (*family, Key::of(b""))).collect()));
    Flow::new(move || {
        let Some((family, from)) = left.lock().front().cloned() else { return Ask::ready(Ok(None)) };
        let left = Arc::clone(&left);
        engine.scan(partition, family, Key::of(b""), from, LOAD_PAGE_ROWS).map(move |rows| {
            let rows = rows?;
            let mut left = left.lock();
            match rows.last().filter(|_| rows.len() == LOAD_PAGE_ROWS) {
                Some(last) => left[0].1 = last.key.clone().next(),
                None => drop(left.pop_front()),
            }
            Ok(Some(rows.into_iter().map(|row| (family, row)).collect()))
        })
    })
}
