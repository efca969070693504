//! The disk of the simulated world: the engine in memory behind a writer that takes its time, in groups, as the real one
//! does; that may be full, fail without saying whether it wrote, and be cut off by a kill.
//!
//! ```text
//! commit ──> queue ──> a group under way ──> written (what a kill leaves) ──> answered
//!              lost by a kill      lost or kept, as the dice fall
//! ```
//!
//! What is written lies in [`Memory`]; a new life begins over it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Partition, Partitions};
use bytes::Bytes;
use storage::engine::memory::Memory;
use storage::{
    Ask, Batch, Engine, Epoch, Family, Flow, Footprint, Health, Key, Metrics, Queues, Receipt, Rev, Row, StoreError,
    Tally,
};
use tokio::sync::oneshot;

use crate::bus::Bus;
use crate::clock;
use crate::dice::Dice;

/// How the disk behaves.
#[derive(Clone, Debug)]
pub struct Temper {
    /// How long a group takes, milliseconds.
    pub write_ms: Range<u64>,
    /// How long a read takes, milliseconds.
    pub read_ms: Range<u64>,
    /// Groups in a thousand that fail, written or not.
    pub failing: u64,
    /// Reads in a thousand that fail.
    pub blind: u64,
    /// No space is left.
    pub full: bool,
    /// Nothing is written or answered before this world time.
    pub stalled_until_ms: u64,
}

impl Temper {
    /// Quick and sound.
    pub fn calm() -> Self {
        Self { write_ms: 1..3, read_ms: 0..2, failing: 0, blind: 0, full: false, stalled_until_ms: 0 }
    }

    /// Slow, and sometimes very slow.
    pub fn slow() -> Self {
        Self { write_ms: 1..900, read_ms: 0..400, ..Self::calm() }
    }
}

/// The disk. Clones are the same.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

struct Shared {
    memory: Memory,
    bus: Bus,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    temper: Temper,
    queue: VecDeque<Pending>,
    group: Option<(u64, Vec<Pending>)>,
    reads: BTreeMap<(u64, u64), Read>,
    next: u64,
    /// Groups whose askers were told of a failure, and which were written all the same.
    unsure: u64,
}

struct Pending {
    partition: Partition,
    fence: Epoch,
    batch: Batch,
    reply: oneshot::Sender<Result<Receipt, StoreError>>,
}

type Read = Box<dyn FnOnce(&Memory, Result<(), StoreError>) + Send>;

impl Disk {
    /// Over what is written.
    pub fn new(memory: Memory, bus: Bus, dice: Dice, temper: Temper) -> Self {
        let state =
            State { dice, temper, queue: VecDeque::new(), group: None, reads: BTreeMap::new(), next: 0, unsure: 0 };
        Self(Arc::new(Shared { memory, bus, state: Mutex::new(state) }))
    }

    /// Behaves otherwise from now on.
    pub fn set(&self, temper: Temper) {
        self.state().temper = temper;
        self.0.bus.ring();
    }

    /// Groups that failed for their askers and were written all the same.
    pub fn unsure(&self) -> u64 {
        self.state().unsure
    }

    /// When there is something to be done, in world time.
    pub fn next_ms(&self) -> Option<u64> {
        let state = self.state();
        let read = state.reads.keys().next().map(|(at, _)| *at);
        let write = match &state.group {
            Some((at, _)) => Some(*at),
            None => (!state.queue.is_empty()).then_some(0),
        };
        let next = [read, write].into_iter().flatten().min()?;
        Some(next.max(state.temper.stalled_until_ms))
    }

    /// Does one thing that is due. `false`: nothing was.
    pub fn turn(&self, now_ms: u64) -> bool {
        if self.next_ms().is_none_or(|at| at > now_ms) {
            return false;
        }
        let mut state = self.state();
        if state.group.is_none() && !state.queue.is_empty() {
            let many = state.queue.len().min(base::limits::COMMIT_BATCH_MAX);
            let group: Vec<Pending> = state.queue.drain(..many).collect();
            let took = state.temper.write_ms.clone();
            let took = state.dice.within(took);
            state.group = Some((now_ms + took, group));
            return true;
        }
        if state.group.as_ref().is_some_and(|(at, _)| *at <= now_ms) {
            let (_, group) = state.group.take().expect("just seen");
            self.write(state, group);
            return true;
        }
        let Some(first) = state.reads.first_entry() else { return false };
        let read = first.remove();
        let blind = state.temper.blind;
        let outcome = if state.dice.chance(blind) { Err(StoreError::Busy { queue: 0 }) } else { Ok(()) };
        drop(state);
        read(&self.0.memory, outcome);
        true
    }

    fn write(&self, mut state: MutexGuard<'_, State>, group: Vec<Pending>) {
        let failing = state.temper.failing;
        let failed = state.dice.chance(failing);
        let written = !failed || state.dice.chance(500);
        let full = state.temper.full;
        state.unsure += u64::from(failed && written && !full);
        drop(state);
        // One step to write, one to tell.
        if !self.0.bus.step() {
            return;
        }
        let mut answers = Vec::new();
        for Pending { partition, fence, batch, reply } in group {
            let outcome = if full {
                Err(StoreError::Full)
            } else {
                let done = if written { self.0.memory.commit(partition, fence, batch).wait() } else { Err(broken()) };
                if failed { Err(broken()) } else { done }
            };
            answers.push((reply, outcome));
        }
        if self.0.bus.step() {
            for (reply, outcome) in answers {
                let _ = reply.send(outcome);
            }
        }
    }

    /// The machine loses its power: what is under way is written or not, as the dice fall, and nothing else is.
    pub fn cut_off(&self) {
        let mut state = self.state();
        let group = state.group.take();
        let written = state.dice.chance(500);
        state.queue.clear();
        state.reads.clear();
        if let Some((_, group)) = group.filter(|_| written && !state.temper.full) {
            for Pending { partition, fence, batch, .. } in group {
                let _ = self.0.memory.commit(partition, fence, batch).wait();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T: Send + 'static>(&self, read: impl FnOnce(&Memory) -> Ask<T> + Send + 'static) -> Ask<T> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state();
        let range = state.temper.read_ms.clone();
        let at = clock::world_ms() + state.dice.within(range);
        state.next += 1;
        let place = (at, state.next);
        // What is read may be as it was when it was asked for, or as it is when the answer comes.
        let early = state.dice.chance(500);
        let job: Read = if early {
            let found = read(&self.0.memory).wait();
            Box::new(move |_, outcome| drop(tell.send(outcome.and(found))))
        } else {
            Box::new(move |memory, outcome| drop(tell.send(outcome.and_then(|()| read(memory).wait()))))
        };
        state.reads.insert(place, job);
        drop(state);
        self.0.bus.ring();
        later(told)
    }
}

fn broken() -> StoreError {
    StoreError::disk("simulated")
}

fn later<T: Send + 'static>(told: oneshot::Receiver<Result<T, StoreError>>) -> Ask<T> {
    Ask::later(async move { told.await.unwrap_or(Err(StoreError::Closed)) })
}

impl Engine for Disk {
    fn partitions(&self) -> Partitions {
        self.0.memory.partitions()
    }

    fn get(&self, partition: Partition, family: Family, key: Key) -> Ask<Option<(Rev, Bytes)>> {
        self.read(move |memory| memory.get(partition, family, key))
    }

    fn scan(&self, partition: Partition, family: Family, prefix: Key, from: Key, limit: usize) -> Ask<Vec<Row>> {
        self.read(move |memory| memory.scan(partition, family, prefix, from, limit))
    }

    fn tally(&self, partition: Partition, family: Family, prefix: Key) -> Ask<Tally> {
        self.read(move |memory| memory.tally(partition, family, prefix))
    }

    fn due(&self, partition: Partition, family: Family, limit: usize) -> Ask<Vec<Row>> {
        self.read(move |memory| memory.due(partition, family, limit))
    }

    fn commit(&self, partition: Partition, fence: Epoch, batch: Batch) -> Ask<Receipt> {
        if !self.0.bus.step() {
            return Ask::later(std::future::pending());
        }
        let (reply, told) = oneshot::channel();
        self.state().queue.push_back(Pending { partition, fence, batch, reply });
        self.0.bus.ring();
        later(told)
    }

    fn load(&self, partition: Partition, families: &[Family]) -> Flow<(Family, Row)> {
        self.0.memory.load(partition, families)
    }

    fn backup(&self, dir: PathBuf) -> Ask<()> {
        self.0.memory.backup(dir)
    }

    fn health(&self) -> Health {
        self.0.memory.health()
    }

    fn metrics(&self) -> &Metrics {
        self.0.memory.metrics()
    }

    fn queues(&self) -> Queues {
        let state = self.state();
        Queues { commits: state.queue.len(), reads: state.reads.len() }
    }

    fn footprint(&self) -> Option<Footprint> {
        self.0.memory.footprint()
    }

    fn close(&self) -> Ask<()> {
        self.0.memory.close()
    }
}
