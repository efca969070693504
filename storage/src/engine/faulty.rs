//! Records in memory on a disk that misbehaves, for the simulated world: no threads, no clock of its own, one seed.
//!
//! Questions wait until somebody takes a step. The dice of the seed say which of the waiting ones goes first, how many
//! commits are one group, how long the disk takes for it, and what of an unfinished group a crash leaves behind: all of it
//! or nothing, because the log of a real engine tears between groups. What was answered is on the disk, always.
//!
//! ```text
//! commit ──> waiting ──step──> written, not synced ──step──> synced, answered, seen by reads
//!               │                   │
//!             crash: lost         crash: the dice decide
//! ```

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use base::limits::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX, READ_QUEUE_MAX};
use base::{Partition, Partitions};
use bytes::Bytes;
use parking_lot::Mutex;

use super::memory::Rows;
use super::{Batch, Engine, Epoch, Health, Receipt, Rev, Row, Tally};
use crate::ask::{Answers, Ask};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::families::Family;
use crate::flow::Flow;
use crate::group::{Commit, Ledger, Verdicts};
use crate::keys::Key;
use crate::metrics::{Footprint, Metrics, Queues};
use crate::read::{self, Range};

/// The engine of the simulated world. Clones are the same store.
#[derive(Clone)]
pub struct Faulty(Arc<Shared>);

struct Shared {
    partitions: Partitions,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    state: Mutex<State>,
}

type Read = Box<dyn FnOnce(Result<&Rows, StoreError>, u64, &mut Answers) + Send>;
type Changes = Vec<(Family, Vec<u8>, Option<Bytes>)>;

struct State {
    dice: Dice,
    /// What the process sees.
    seen: Rows,
    /// What a crash leaves.
    disk: Rows,
    ledger: Ledger,
    commits: VecDeque<Commit>,
    reads: VecDeque<Read>,
    under_way: Option<UnderWay>,
    faults: Faults,
    health: Health,
    queue_bound: usize,
    at_once: bool,
    closed: bool,
}

/// A group that is written and not yet synced.
struct UnderWay {
    verdicts: Verdicts,
    changes: Changes,
    steps_left: u32,
}

#[derive(Default)]
struct Faults {
    full: bool,
    fail_next: u32,
    fail_per_mille: u32,
    sync_steps_most: u32,
}

impl Faulty {
    /// An empty store whose questions wait for [`Faulty::step`]. One seed plays one story.
    pub fn new(seed: u64, partitions: Partitions, clock: Arc<dyn Clock>) -> Self {
        Self::with(Dice(seed), partitions, clock, Rows::default(), Faults::default())
    }

    fn with(dice: Dice, partitions: Partitions, clock: Arc<dyn Clock>, disk: Rows, faults: Faults) -> Self {
        let state = State {
            dice,
            seen: disk.clone(),
            // What is on this disk was written here: its mark can be read.
            ledger: Ledger::open(&disk).unwrap_or_default(),
            disk,
            commits: VecDeque::new(),
            reads: VecDeque::new(),
            under_way: None,
            faults,
            health: Health::Serving,
            queue_bound: COMMIT_QUEUE_MAX,
            at_once: false,
            closed: false,
        };
        Self(Arc::new(Shared { partitions, clock, metrics: Metrics::default(), state: Mutex::new(state) }))
    }

    /// Every question is answered before it returns, as by the engine in memory.
    #[must_use]
    pub fn at_once(self) -> Self {
        self.0.state.lock().at_once = true;
        self
    }

    /// Questions wait until a step is taken, or are answered before they return, from now on.
    pub fn stall(&self, stalls: bool) {
        self.0.state.lock().at_once = !stalls;
        if !stalls {
            self.settle();
        }
    }

    /// The disk has no space (or has again): commits fail with [`StoreError::Full`], reads go on.
    pub fn full(&self, full: bool) {
        self.0.state.lock().faults.full = full;
    }

    /// The next groups fail with [`StoreError::Disk`]; the dice say which of them come back after a crash all the same.
    pub fn fail_next(&self, groups: u32) {
        self.0.state.lock().faults.fail_next = groups;
    }

    /// How many groups in a thousand fail so.
    pub fn fail_sometimes(&self, per_mille: u32) {
        self.0.state.lock().faults.fail_per_mille = per_mille;
    }

    /// A group is on the disk after at most this many further steps; the dice say after how many.
    pub fn delay(&self, steps_most: u32) {
        self.0.state.lock().faults.sync_steps_most = steps_most;
    }

    /// How many commits may wait; more are [`StoreError::Busy`].
    pub fn bound(&self, commits: usize) {
        self.0.state.lock().queue_bound = commits;
    }

    /// Questions that wait, a group under way included.
    pub fn waiting(&self) -> usize {
        let state = self.0.state.lock();
        let under_way = state.under_way.as_ref().map_or(0, |group| group.verdicts.count());
        state.commits.len() + state.reads.len() + under_way
    }

    /// One thing happens: a read is answered, a group is written, or one is durable and answered. `false`: nothing waits.
    pub fn step(&self) -> bool {
        self.advance(|state| {
            let writes = state.under_way.is_some() || !state.commits.is_empty();
            match (writes, !state.reads.is_empty()) {
                (false, false) => None,
                (true, false) => Some(Turn::Write),
                (false, true) => Some(Turn::Read),
                (true, true) => Some(if state.dice.below(2) == 0 { Turn::Write } else { Turn::Read }),
            }
        })
    }

    /// Steps until nothing waits.
    pub fn settle(&self) {
        while self.step() {}
    }

    /// Brings the oldest waiting commit, alone, to its answer; `false`: none waits and none is under way.
    pub fn complete_one(&self) -> bool {
        let mut moved = false;
        while self.0.state.lock().under_way.is_some() {
            moved |= self.advance(|_| Some(Turn::Write));
        }
        if moved || self.0.state.lock().commits.is_empty() {
            return moved;
        }
        self.advance(|_| Some(Turn::WriteOne));
        while self.0.state.lock().under_way.is_some() {
            self.advance(|_| Some(Turn::Write));
        }
        true
    }

    /// The process is killed. Whoever waits is answered [`StoreError::Closed`], and this store with all its clones is
    /// dead. What it returns is the store as the next process finds it; faults of the disk stay as they were set.
    #[must_use]
    pub fn crash(&self) -> Self {
        let (commits, reads, under_way, next) = {
            let mut state = self.0.state.lock();
            state.closed = true;
            let mut under_way = state.under_way.take();
            if let Some(group) = &mut under_way
                && state.dice.below(2) == 0
            {
                let changes = std::mem::take(&mut group.changes);
                state.disk.apply(changes);
            }
            let dice = Dice(state.dice.next());
            let (disk, faults) = (std::mem::take(&mut state.disk), std::mem::take(&mut state.faults));
            let next = Self::with(dice, self.0.partitions, Arc::clone(&self.0.clock), disk, faults);
            (std::mem::take(&mut state.commits), std::mem::take(&mut state.reads), under_way, next)
        };
        // Their replies say that the store is closed as they are dropped: after the lock.
        drop((commits, reads, under_way));
        next
    }

    fn advance(&self, choose: impl FnOnce(&mut State) -> Option<Turn>) -> bool {
        let now_unix_ms = self.0.clock.unix_ms();
        let mut answers = Answers::default();
        let moved = {
            let mut state = self.0.state.lock();
            match choose(&mut state) {
                None => false,
                Some(Turn::Read) => {
                    if let Some(read) = state.reads.pop_front() {
                        self.0.metrics.reads_total.add(1);
                        read(Ok(&state.seen), now_unix_ms / 1_000, &mut answers);
                    }
                    true
                }
                Some(Turn::Write) => {
                    state.write(usize::MAX, now_unix_ms, &self.0.metrics, &mut answers);
                    true
                }
                Some(Turn::WriteOne) => {
                    state.write(1, now_unix_ms, &self.0.metrics, &mut answers);
                    true
                }
            }
        };
        answers.deliver();
        moved
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Rows, u64) -> Result<T, StoreError> + Send + 'static,
    ) -> Ask<T> {
        let (ask, reply) = Ask::open();
        let at_once = {
            let mut state = self.0.state.lock();
            if state.closed {
                return Ask::ready(Err(StoreError::Closed));
            }
            if state.reads.len() >= READ_QUEUE_MAX {
                self.0.metrics.busy_total.add(1);
                return Ask::ready(Err(StoreError::Busy { queue: READ_QUEUE_MAX }));
            }
            let job = move |rows: Result<&Rows, StoreError>, now, answers: &mut Answers| {
                reply.send(rows.and_then(|rows| read(rows, now)), answers);
            };
            state.reads.push_back(Box::new(job));
            state.at_once
        };
        if at_once {
            self.settle();
        }
        ask
    }
}

enum Turn {
    Read,
    Write,
    WriteOne,
}

impl State {
    /// The writer's next move: the group under way comes nearer to the disk, or a new one is begun.
    fn write(&mut self, most: usize, now_unix_ms: u64, metrics: &Metrics, answers: &mut Answers) {
        if let Some(group) = &mut self.under_way {
            if group.steps_left > 0 {
                group.steps_left -= 1;
                return;
            }
        } else {
            return self.begin(most, now_unix_ms, metrics, answers);
        }
        if let Some(group) = self.under_way.take() {
            self.disk.apply(group.changes.iter().cloned());
            self.seen.apply(group.changes);
            metrics.note_group(&group.verdicts, &Ok(()), true);
            group.verdicts.tell(Ok(()), answers);
        }
    }

    fn begin(&mut self, most: usize, now_unix_ms: u64, metrics: &Metrics, answers: &mut Answers) {
        let waiting = self.commits.len().min(COMMIT_BATCH_MAX).min(most);
        if waiting == 0 {
            return;
        }
        let size = if self.at_once { waiting } else { 1 + self.dice.below(waiting as u64) as usize };
        let group: Vec<_> = self.commits.drain(..size).collect();
        let (verdicts, judged) = self.ledger.judge(&mut self.seen, group, Epoch::SOLE, now_unix_ms);
        let changes = self.seen.take_staged();
        let written = judged.and_then(|()| if changes.is_empty() { Ok(()) } else { self.fault() });
        match written {
            Ok(()) => {
                self.health = Health::Serving;
                let steps_left = self.dice.below(u64::from(self.faults.sync_steps_most) + 1) as u32;
                self.under_way = Some(UnderWay { verdicts, changes, steps_left });
            }
            Err(why) => {
                // A write that failed may have reached the log: then it is found after a crash, though nobody was told.
                if matches!(why, StoreError::Disk { .. }) && self.dice.below(2) == 0 {
                    self.disk.apply(changes);
                }
                self.health = Health::Refusing(why.clone());
                metrics.note_group(&verdicts, &Err(why.clone()), true);
                verdicts.tell(Err(why), answers);
            }
        }
    }

    fn fault(&mut self) -> Result<(), StoreError> {
        if self.faults.full {
            return Err(StoreError::Full);
        }
        if self.faults.fail_next > 0 {
            self.faults.fail_next -= 1;
            return Err(StoreError::disk("input/output error (as the test asked)"));
        }
        if self.dice.below(1_000) < u64::from(self.faults.fail_per_mille) {
            return Err(StoreError::disk("input/output error (as the dice fell)"));
        }
        Ok(())
    }
}

impl Engine for Faulty {
    fn partitions(&self) -> Partitions {
        self.0.partitions
    }

    fn get(&self, partition: Partition, family: Family, key: Key) -> Ask<Option<(Rev, Bytes)>> {
        self.read(move |rows, now| read::get(rows, &key.on_disk(partition), family, now))
    }

    fn scan(&self, partition: Partition, family: Family, prefix: Key, from: Key, limit: usize) -> Ask<Vec<Row>> {
        self.read(move |rows, now| read::scan(rows, &Range::new(partition, family, prefix, from), limit, now))
    }

    fn tally(&self, partition: Partition, family: Family, prefix: Key) -> Ask<Tally> {
        self.read(move |rows, now| read::tally(rows, &Range::new(partition, family, prefix.clone(), prefix), now))
    }

    fn due(&self, partition: Partition, family: Family, limit: usize) -> Ask<Vec<Row>> {
        self.read(move |rows, now| read::due(rows, partition, family, limit, now))
    }

    fn commit(&self, partition: Partition, fence: Epoch, batch: Batch) -> Ask<Receipt> {
        let (commit, ask) = match Commit::open(partition, fence, batch) {
            Ok(opened) => opened,
            Err(why) => return Ask::ready(Err(why)),
        };
        let at_once = {
            let mut state = self.0.state.lock();
            if state.closed {
                return Ask::ready(Err(StoreError::Closed));
            }
            if state.commits.len() >= state.queue_bound {
                self.0.metrics.busy_total.add(1);
                return Ask::ready(Err(StoreError::Busy { queue: state.queue_bound }));
            }
            state.commits.push_back(commit);
            state.at_once
        };
        if at_once {
            self.settle();
        }
        ask
    }

    fn load(&self, partition: Partition, families: &[Family]) -> Flow<(Family, Row)> {
        super::load_by_scans(self.clone(), partition, families)
    }

    fn backup(&self, _dir: PathBuf) -> Ask<()> {
        Ask::ready(Err(StoreError::Unsupported { engine: "faulty", what: "backup" }))
    }

    fn health(&self) -> Health {
        let state = self.0.state.lock();
        if state.closed { Health::Refusing(StoreError::Closed) } else { state.health.clone() }
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn queues(&self) -> Queues {
        let state = self.0.state.lock();
        Queues { commits: state.commits.len(), reads: state.reads.len() }
    }

    fn footprint(&self) -> Option<Footprint> {
        Some(self.0.state.lock().seen.footprint())
    }

    fn close(&self) -> Ask<()> {
        self.settle();
        self.0.state.lock().closed = true;
        Ask::ready(Ok(()))
    }
}

/// SplitMix64: small, seeded, good enough for choosing.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
