//! The store as everybody above holds it: an engine, its partitions, and the clock. What it can do stands in
//! [`crate::accounts`], [`crate::bindings`], [`crate::spool`] and [`crate::seen`].

use std::path::PathBuf;
use std::sync::Arc;

use base::{Aor, Partition, Partitions};
use parking_lot::Mutex;

use crate::ask::Ask;
use crate::clock::{Clock, WallClock};
use crate::config::{Config, EngineKind};
use crate::engine::memory::Memory;
use crate::engine::rocks::Rocks;
use crate::engine::{Batch, Engine, Epoch, Health, Receipt, Row};
use crate::error::StoreError;
use crate::families::Family;
use crate::flow::Flow;
use crate::metrics::{Footprint, Metrics, Queues};

/// A store. Clones are the same store, and cheap.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
}

impl Store {
    /// Opens the store that the configuration names, and makes it where there is none. Blocks while its log is read.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let partitions = Partitions::new(config.partitions.unwrap_or(base::partition::PARTITIONS_DEFAULT));
        let engine: Arc<dyn Engine> = match config.engine {
            EngineKind::Memory => Arc::new(Memory::new(partitions, Arc::clone(&clock))),
            EngineKind::Rocksdb => Arc::new(Rocks::open(config, Arc::clone(&clock))?),
        };
        Ok(Self::over(engine, clock))
    }

    /// A store over an engine of the caller's: how tests and the simulated world begin.
    pub fn over(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { engine, clock, epoch: Epoch::SOLE }))
    }

    /// An empty store in memory.
    pub fn in_memory() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        Self::over(Arc::new(Memory::new(Partitions::default(), Arc::clone(&clock))), clock)
    }

    /// Its partitions.
    pub fn partitions(&self) -> Partitions {
        self.0.engine.partitions()
    }

    /// The partition of an owner.
    pub fn partition(&self, owner: &Aor) -> Partition {
        self.partitions().of(owner)
    }

    /// The engine underneath, for records that this crate does not know.
    pub fn engine(&self) -> &dyn Engine {
        self.0.engine.as_ref()
    }

    /// Does a batch under the epoch of this process.
    pub fn commit(&self, partition: Partition, batch: Batch) -> Ask<Receipt> {
        self.0.engine.commit(partition, self.0.epoch, batch)
    }

    /// Whether it takes commits.
    pub fn health(&self) -> Health {
        self.0.engine.health()
    }

    /// What it counted.
    pub fn metrics(&self) -> &Metrics {
        self.0.engine.metrics()
    }

    /// What waits in front of it.
    pub fn queues(&self) -> Queues {
        self.0.engine.queues()
    }

    /// What it holds in memory; nothing while its engine is being opened again. Not for a shard's thread.
    pub fn footprint(&self) -> Option<Footprint> {
        self.0.engine.footprint()
    }

    /// A consistent copy, taken while it runs, in a directory that is absolute and absent or empty.
    pub fn backup(&self, dir: impl Into<PathBuf>) -> Ask<()> {
        self.0.engine.backup(dir.into())
    }

    /// Finishes what waits, makes it durable and ends.
    pub fn close(&self) -> Ask<()> {
        self.0.engine.close()
    }

    pub(crate) fn now_unix_s(&self) -> u64 {
        self.0.clock.unix_ms() / 1_000
    }

    /// All rows of one family, partition by partition.
    pub(crate) fn load_all(&self, family: Family) -> Flow<Row> {
        let store = self.clone();
        let mut partitions = self.partitions().all();
        let flow = Arc::new(Mutex::new(None));
        Flow::new(move || {
            let page = {
                let mut current = flow.lock();
                let pages = match &mut *current {
                    Some(pages) => pages,
                    empty => {
                        let Some(partition) = partitions.next() else { return Ask::ready(Ok(None)) };
                        empty.insert(store.engine().load(partition, &[family]))
                    }
                };
                pages.next_page()
            };
            let flow = Arc::clone(&flow);
            page.map(move |page| {
                let page = page?;
                if page.is_none() {
                    *flow.lock() = None;
                }
                Ok(Some(page.into_iter().flatten().map(|(_, row)| row).collect()))
            })
        })
    }
}
