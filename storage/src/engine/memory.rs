//! Records in memory, for tests: every question is answered before it returns, and nothing outlives the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Partition, Partitions};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Batch, Engine, Epoch, Health, Receipt, Rev, Row, Tally};
use crate::ask::{Answers, Ask};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::families::{Expiry, Family};
use crate::flow::Flow;
use crate::group::{Commit, Disk, Ledger};
use crate::keys::Key;
use crate::metrics::{Footprint, Metrics, Queues};
use crate::read::{self, Range, Table, Visit};
use crate::record::Head;

/// Rows in memory, by family. Clones share the values.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    families: [BTreeMap<Vec<u8>, Bytes>; Family::ALL.len()],
    staged: Vec<(Family, Vec<u8>, Option<Bytes>)>,
}

impl Rows {
    /// What is staged, taken away: to be done later by [`Rows::apply`].
    pub(crate) fn take_staged(&mut self) -> Vec<(Family, Vec<u8>, Option<Bytes>)> {
        std::mem::take(&mut self.staged)
    }

    /// Does what was staged.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = (Family, Vec<u8>, Option<Bytes>)>) {
        for (family, row, value) in changes {
            match value {
                Some(value) => self.families[family.index()].insert(row, value),
                None => self.families[family.index()].remove(&row),
            };
        }
    }

    /// Keys and values: all of it waits in memory, for ever.
    pub(crate) fn footprint(&self) -> Footprint {
        let octets = self.families.iter().flatten().map(|(key, value)| (key.len() + value.len()) as u64);
        Footprint { memtables: octets.sum(), ..Footprint::default() }
    }

    /// Forgets records whose time is over, as RocksDB does when it rewrites its files.
    pub(crate) fn forget(&mut self, now_unix_s: u64) {
        for family in Family::ALL.into_iter().filter(|family| family.expiry() == Expiry::Forget) {
            let over = |value: &Bytes| Head::read(value).is_ok_and(|head| head.is_over(now_unix_s));
            self.families[family.index()].retain(|_, value| !over(value));
        }
    }
}

impl Table for Rows {
    fn value(&self, family: Family, row: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.families[family.index()].get(row).cloned())
    }

    fn head(&self, family: Family, row: &[u8]) -> Result<Option<Head>, StoreError> {
        self.families[family.index()].get(row).map(|value| Head::read(value)).transpose()
    }

    fn visit(&self, family: Family, from: &[u8], until: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError> {
        let until = until.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.families[family.index()].range::<[u8], _>((Bound::Included(from), until)) {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}

impl Disk for Rows {
    fn stage_put(&mut self, family: Family, row: &[u8], value: &[u8]) {
        self.staged.push((family, row.to_vec(), Some(Bytes::copy_from_slice(value))));
    }

    fn stage_delete(&mut self, family: Family, row: &[u8]) {
        self.staged.push((family, row.to_vec(), None));
    }

    fn discard(&mut self) {
        self.staged.clear();
    }

    fn write(&mut self, _sync: bool) -> Result<(), StoreError> {
        let staged = self.take_staged();
        self.apply(staged);
        Ok(())
    }
}

/// The engine in memory. Clones are the same store.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    partitions: Partitions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    rows: Rows,
    ledger: Ledger,
    closed: bool,
}

impl Memory {
    /// An empty store.
    pub fn new(partitions: Partitions, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { partitions, clock, state: Mutex::default(), metrics: Metrics::default() }))
    }

    fn read<T>(&self, read: impl FnOnce(&Rows, u64) -> Result<T, StoreError>) -> Ask<T> {
        let now_unix_s = self.0.clock.unix_ms() / 1_000;
        let state = self.0.state.lock();
        self.0.metrics.reads_total.add(1);
        Ask::ready(if state.closed { Err(StoreError::Closed) } else { read(&state.rows, now_unix_s) })
    }
}

impl Engine for Memory {
    fn partitions(&self) -> Partitions {
        self.0.partitions
    }

    fn get(&self, partition: Partition, family: Family, key: Key) -> Ask<Option<(Rev, Bytes)>> {
        self.read(|rows, now| read::get(rows, &key.on_disk(partition), family, now))
    }

    fn scan(&self, partition: Partition, family: Family, prefix: Key, from: Key, limit: usize) -> Ask<Vec<Row>> {
        self.read(|rows, now| read::scan(rows, &Range::new(partition, family, prefix, from), limit, now))
    }

    fn tally(&self, partition: Partition, family: Family, prefix: Key) -> Ask<Tally> {
        self.read(|rows, now| read::tally(rows, &Range::new(partition, family, prefix.clone(), prefix), now))
    }

    fn due(&self, partition: Partition, family: Family, limit: usize) -> Ask<Vec<Row>> {
        self.read(|rows, now| read::due(rows, partition, family, limit, now))
    }

    fn commit(&self, partition: Partition, fence: Epoch, batch: Batch) -> Ask<Receipt> {
        let (commit, ask) = match Commit::open(partition, fence, batch) {
            Ok(opened) => opened,
            Err(why) => return Ask::ready(Err(why)),
        };
        let now_unix_ms = self.0.clock.unix_ms();
        let mut answers = Answers::default();
        {
            let mut guard = self.0.state.lock();
            let State { rows, ledger, closed } = &mut *guard;
            if *closed {
                return Ask::ready(Err(StoreError::Closed));
            }
            let (verdicts, judged) = ledger.judge(rows, [commit], Epoch::SOLE, now_unix_ms);
            let written = judged.and_then(|()| rows.write(true));
            if ledger.rev % 256 == 0 {
                rows.forget(now_unix_ms / 1_000);
            }
            self.0.metrics.note_group(&verdicts, &written, true);
            verdicts.tell(written, &mut answers);
        }
        answers.deliver();
        ask
    }

    fn load(&self, partition: Partition, families: &[Family]) -> Flow<(Family, Row)> {
        super::load_by_scans(self.clone(), partition, families)
    }

    fn backup(&self, _dir: PathBuf) -> Ask<()> {
        Ask::ready(Err(StoreError::Unsupported { engine: "memory", what: "backup" }))
    }

    fn health(&self) -> Health {
        if self.0.state.lock().closed { Health::Refusing(StoreError::Closed) } else { Health::Serving }
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn queues(&self) -> Queues {
        Queues::default()
    }

    fn footprint(&self) -> Option<Footprint> {
        Some(self.0.state.lock().rows.footprint())
    }

    fn close(&self) -> Ask<()> {
        self.0.state.lock().closed = true;
        Ask::ready(Ok(()))
    }
}
