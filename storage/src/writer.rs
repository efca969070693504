//! The one writer: many commits, one fsync, and each asker is told when his own is durable.
//!
//! Commits come over a bounded channel; a full one is [`StoreError::Busy`] at once. The writer takes what waits, at most
//! [`COMMIT_BATCH_MAX`] commits, and does not linger: what comes during one fsync is the next group. After a fault of the
//! disk it refuses, tests the disk every second, and serves again when a test passes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base::limits::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use parking_lot::{Mutex, RwLock};

use crate::ask::Answers;
use crate::clock::Clock;
use crate::engine::{Epoch, Health};
use crate::error::StoreError;
use crate::group::{Commit, Disk, Ledger};
use crate::metrics::Metrics;

/// How often a disk that failed is tested.
const TEST_EVERY: Duration = Duration::from_secs(1);
/// A group that holds this much is not given more, whatever waits.
const GROUP_FULL: usize = 8 << 20;

/// A disk that can be asked whether it works again.
pub(crate) trait Journal: Disk + Send + 'static {
    /// Tries to write, and to repair what keeps it from writing.
    fn test(&mut self) -> Result<(), StoreError>;
    /// Makes everything durable, before the end.
    fn finish(&mut self) -> Result<(), StoreError>;
}

/// What the writer shares with those who ask and those who look.
pub(crate) struct Surroundings {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Mutex<Health>>,
    pub clock: Arc<dyn Clock>,
    /// Whether a group waits for the disk.
    pub sync: bool,
}

/// The way to the writer, and its thread.
pub(crate) struct Writer {
    orders: RwLock<Option<Sender<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

struct Order {
    commit: Commit,
    asked: Instant,
}

impl Writer {
    /// Starts the thread. Fails when the high water mark cannot be read or the system gives no thread.
    pub(crate) fn start(journal: impl Journal, around: Surroundings) -> Result<Self, StoreError> {
        Self::start_bounded(journal, around, COMMIT_QUEUE_MAX)
    }

    fn start_bounded(journal: impl Journal, around: Surroundings, bound: usize) -> Result<Self, StoreError> {
        let ledger = Ledger::open(&journal)?;
        let metrics = Arc::clone(&around.metrics);
        let (orders, waiting) = crossbeam_channel::bounded(bound);
        let work = Work { journal, ledger, around, waiting, tested: Instant::now() };
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || work.run());
        let thread = thread.map_err(|error| StoreError::disk(format!("no thread for the writer: {error}")))?;
        Ok(Self { orders: RwLock::new(Some(orders)), thread: Mutex::new(Some(thread)), metrics })
    }

    /// Hands a commit over; never blocks.
    pub(crate) fn submit(&self, commit: Commit) -> Result<(), StoreError> {
        let orders = self.orders.read();
        let Some(orders) = orders.as_ref() else { return Err(StoreError::Closed) };
        match orders.try_send(Order { commit, asked: Instant::now() }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.metrics.busy_total.add(1);
                Err(StoreError::Busy { queue: orders.capacity().unwrap_or(0) })
            }
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
        }
    }

    /// Commits that wait, those not counted that the thread has taken.
    pub(crate) fn waiting(&self) -> usize {
        self.orders.read().as_ref().map_or(0, Sender::len)
    }

    /// Whether the thread ended by itself: nothing can be committed any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.lock().as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes no more commits, does what waits, and returns when the thread has ended.
    pub(crate) fn stop(&self) {
        drop(self.orders.write().take());
        let thread = self.thread.lock().take();
        // The last holder of a store may be woken, and drop it, on this very thread.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Work<J> {
    journal: J,
    ledger: Ledger,
    around: Surroundings,
    waiting: Receiver<Order>,
    tested: Instant,
}

impl<J: Journal> Work<J> {
    fn run(mut self) {
        let mut refusing: Option<StoreError> = None;
        loop {
            let first = match &refusing {
                None => self.waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => self.waiting.recv_timeout(TEST_EVERY.saturating_sub(self.tested.elapsed())),
            };
            if refusing.is_some() && self.tested.elapsed() >= TEST_EVERY {
                refusing = self.test();
            }
            match first {
                Ok(first) => {
                    let group = self.gather(first);
                    match &refusing {
                        Some(why) => self.refuse(group, why),
                        None => refusing = self.write(group),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(why) = self.journal.finish() {
            self.around.metrics.note_error(&why);
            tracing::error!(%why, "The store could not be made durable at its end");
        }
    }

    /// What waits. No linger: it was measured, and only made answers later.
    fn gather(&mut self, first: Order) -> Vec<Order> {
        let mut bytes = first.commit.bytes();
        let mut group = vec![first];
        while group.len() < COMMIT_BATCH_MAX && bytes < GROUP_FULL {
            let Ok(order) = self.waiting.try_recv() else { break };
            bytes += order.commit.bytes();
            group.push(order);
        }
        group
    }

    fn refuse(&self, group: Vec<Order>, why: &StoreError) {
        let mut answers = Answers::default();
        group.into_iter().for_each(|order| order.commit.refuse(why.clone(), &mut answers));
        answers.deliver();
    }

    /// One group; the error that stops all further ones.
    fn write(&mut self, group: Vec<Order>) -> Option<StoreError> {
        let (commits, asked): (Vec<_>, Vec<_>) = group.into_iter().map(|order| (order.commit, order.asked)).unzip();
        let now_unix_ms = self.around.clock.unix_ms();
        let (verdicts, judged) = self.ledger.judge(&mut self.journal, commits, Epoch::SOLE, now_unix_ms);
        let written = judged.and_then(|()| match verdicts.changes_nothing() {
            true => Ok(()),
            false => self.journal.write(self.around.sync),
        });
        self.around.metrics.note_group(&verdicts, &written, self.around.sync);
        let fault = written.as_ref().err().cloned();
        if let Some(why) = &fault {
            self.journal.discard();
            self.tested = Instant::now();
            *self.around.health.lock() = Health::Refusing(why.clone());
            tracing::error!(%why, commits = asked.len(), "The store takes no commits: the disk failed");
        }
        // Noted first: who is woken may look at the metrics.
        let durable = Instant::now();
        asked.into_iter().for_each(|asked| self.around.metrics.note_latency(durable - asked));
        let mut answers = Answers::default();
        verdicts.tell(written, &mut answers);
        answers.deliver();
        fault
    }

    /// Tests the disk; `None`: it works again.
    fn test(&mut self) -> Option<StoreError> {
        let tested = self.journal.test();
        self.tested = Instant::now();
        let mut health = self.around.health.lock();
        match tested {
            Ok(()) => {
                *health = Health::Serving;
                tracing::warn!("The store takes commits again");
                None
            }
            Err(why) => {
                *health = Health::Refusing(why.clone());
                Some(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base::Partition;
    use bytes::Bytes;

    use super::*;
    use crate::ask::Ask;
    use crate::clock::SetClock;
    use crate::engine::memory::Rows;
    use crate::engine::{Batch, Expect, Receipt};
    use crate::families::Family;
    use crate::keys::Key;
    use crate::read::{Table, Visit};
    use crate::record::Head;

    #[test]
    fn commits_that_come_during_an_fsync_are_one_group_after_it() {
        let bench = Bench::new(64);
        let first = bench.put("first", Expect::Any);
        bench.disk.enter();
        let waiting: Vec<_> = (0..50).map(|n| bench.put(&n.to_string(), Expect::Absent)).collect();
        bench.disk.leave(Ok(()));
        assert!(first.wait().is_ok());
        bench.disk.enter();
        bench.disk.leave(Ok(()));
        let revs: Vec<_> = waiting.into_iter().map(|ask| ask.wait().unwrap().rev).collect();
        assert!(revs.is_sorted_by(|a, b| a < b), "in the order in which they were asked");
        assert_eq!(bench.disk.writes(), 2);
        assert_eq!((bench.metrics.commits_total.get(), bench.metrics.fsyncs_total.get()), (51, 2));
    }

    #[test]
    fn a_full_queue_is_busy_at_once_and_loses_nothing_of_what_waits() {
        let bench = Bench::new(2);
        let first = bench.put("a", Expect::Any);
        bench.disk.enter();
        let waiting = [bench.put("b", Expect::Any), bench.put("c", Expect::Any)];
        assert_eq!(bench.writer.waiting(), 2, "seen while the disk holds the writer");
        assert_eq!(bench.put("d", Expect::Any).wait(), Err(StoreError::Busy { queue: 2 }));
        bench.disk.leave(Ok(()));
        bench.disk.enter();
        bench.disk.leave(Ok(()));
        assert!(first.wait().is_ok());
        assert!(waiting.into_iter().all(|ask| ask.wait().is_ok()));
        assert_eq!(bench.metrics.busy_total.get(), 1);
    }

    #[test]
    fn an_expectation_sees_the_earlier_commits_of_its_group_and_disturbs_no_other() {
        let bench = Bench::new(64);
        let first = bench.put("x", Expect::Any);
        bench.disk.enter();
        let group = [
            bench.put("k", Expect::Absent),
            bench.put("k", Expect::Absent),
            bench.delete("k", Expect::Present),
            bench.put("k", Expect::Absent),
            bench.put("other", Expect::Absent),
        ];
        bench.disk.leave(Ok(()));
        bench.disk.enter();
        bench.disk.leave(Ok(()));
        assert!(first.wait().is_ok());
        let passed: Vec<_> = group.into_iter().map(|ask| ask.wait().is_ok()).collect();
        assert_eq!(passed, [true, false, true, true, true]);
        assert_eq!((bench.disk.writes(), bench.metrics.conflicts_total.get()), (2, 1));
    }

    #[test]
    fn a_group_of_conflicts_alone_is_answered_without_the_disk() {
        let bench = Bench::new(64);
        let first = bench.put("k", Expect::Any);
        bench.disk.enter();
        bench.disk.leave(Ok(()));
        assert!(first.wait().is_ok());
        assert!(matches!(bench.put("k", Expect::Absent).wait(), Err(StoreError::Conflict { .. })));
        assert_eq!(bench.disk.writes(), 1);
    }

    #[test]
    fn a_fault_of_the_disk_fails_its_whole_group_and_all_until_a_test_passes() {
        let bench = Bench::new(64);
        bench.disk.0.test_fails.store(1, Ordering::SeqCst);
        let first = bench.put("a", Expect::Any);
        bench.disk.enter();
        let group = [bench.put("b", Expect::Any), bench.put("b", Expect::Absent)];
        bench.disk.leave(Ok(()));
        assert!(first.wait().is_ok());
        bench.disk.enter();
        bench.disk.leave(Err(StoreError::Full));
        assert!(group.into_iter().all(|ask| ask.wait() == Err(StoreError::Full)));
        assert_eq!(*bench.health.lock(), Health::Refusing(StoreError::Full));
        assert_eq!(bench.put("c", Expect::Any).wait(), Err(StoreError::Full), "refused without asking the disk");

        // The first test fails, the second passes, with nobody asking.
        let patience = Instant::now() + Duration::from_secs(10);
        while *bench.health.lock() != Health::Serving {
            assert!(Instant::now() < patience, "it never served again");
            std::thread::sleep(Duration::from_millis(20));
        }
        let again = bench.put("b", Expect::Absent);
        bench.disk.enter();
        bench.disk.leave(Ok(()));
        assert!(again.wait().is_ok(), "nothing of the failed group is there");
        assert_eq!(bench.metrics.full_total.get(), 1);
    }

    #[test]
    fn a_writer_that_is_stopped_does_what_waits_and_then_is_closed() {
        let bench = Bench::new(64);
        let waiting: Vec<_> = (0..10).map(|n| bench.put(&n.to_string(), Expect::Any)).collect();
        bench.disk.open_for_good();
        bench.writer.stop();
        assert!(waiting.into_iter().all(|ask| ask.wait().is_ok()));
        assert_eq!(bench.put("late", Expect::Any).wait(), Err(StoreError::Closed));
        assert!(bench.writer.has_ended());
    }

    /// A writer on a disk that waits inside each write until the test lets it go.
    struct Bench {
        writer: Writer,
        disk: Gate,
        metrics: Arc<Metrics>,
        health: Arc<Mutex<Health>>,
    }

    type Outcome = Result<(), StoreError>;

    #[derive(Clone)]
    struct Gate(Arc<GateState>);

    struct GateState {
        entered: (Sender<()>, Receiver<()>),
        outcome: (Sender<Outcome>, Receiver<Outcome>),
        open: std::sync::atomic::AtomicBool,
        writes: AtomicUsize,
        test_fails: AtomicUsize,
    }

    impl Gate {
        /// Waits until a write is under way.
        fn enter(&self) {
            self.0.entered.1.recv().unwrap();
        }

        /// Lets it end so.
        fn leave(&self, outcome: Result<(), StoreError>) {
            self.0.outcome.0.send(outcome).unwrap();
        }

        fn open_for_good(&self) {
            self.0.open.store(true, Ordering::SeqCst);
            self.leave(Ok(()));
        }

        fn writes(&self) -> usize {
            self.0.writes.load(Ordering::SeqCst)
        }
    }

    impl Bench {
        fn new(bound: usize) -> Self {
            let disk = Gate(Arc::new(GateState {
                entered: crossbeam_channel::unbounded(),
                outcome: crossbeam_channel::unbounded(),
                open: false.into(),
                writes: AtomicUsize::new(0),
                test_fails: AtomicUsize::new(0),
            }));
            let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Mutex::new(Health::Serving)));
            let around = Surroundings {
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                clock: Arc::new(SetClock::at(1_000)),
                sync: true,
            };
            let journal = Gated { rows: Rows::default(), gate: disk.clone() };
            let writer = Writer::start_bounded(journal, around, bound).unwrap();
            Self { writer, disk, metrics, health }
        }

        fn put(&self, key: &str, expect: Expect) -> Ask<Receipt> {
            let mut batch = Batch::new();
            batch.put(Family::Binding, Key::of(key.as_bytes()), &b"v"[..], expect, None);
            self.commit(batch)
        }

        fn delete(&self, key: &str, expect: Expect) -> Ask<Receipt> {
            let mut batch = Batch::new();
            batch.delete(Family::Binding, Key::of(key.as_bytes()), expect);
            self.commit(batch)
        }

        fn commit(&self, batch: Batch) -> Ask<Receipt> {
            let (commit, ask) = Commit::open(Partition(1), Epoch::SOLE, batch).unwrap();
            self.writer.submit(commit).map_or_else(|why| Ask::ready(Err(why)), |()| ask)
        }
    }

    struct Gated {
        rows: Rows,
        gate: Gate,
    }

    impl Table for Gated {
        fn value(&self, family: Family, row: &[u8]) -> Result<Option<Bytes>, StoreError> {
            self.rows.value(family, row)
        }

        fn head(&self, family: Family, row: &[u8]) -> Result<Option<Head>, StoreError> {
            self.rows.head(family, row)
        }

        fn visit(&self, family: Family, from: &[u8], until: Option<&[u8]>, visit: Visit<'_>) -> Result<(), StoreError> {
            self.rows.visit(family, from, until, visit)
        }
    }

    impl Disk for Gated {
        fn stage_put(&mut self, family: Family, row: &[u8], value: &[u8]) {
            self.rows.stage_put(family, row, value);
        }

        fn stage_delete(&mut self, family: Family, row: &[u8]) {
            self.rows.stage_delete(family, row);
        }

        fn discard(&mut self) {
            self.rows.discard();
        }

        fn write(&mut self, sync: bool) -> Result<(), StoreError> {
            self.gate.0.writes.fetch_add(1, Ordering::SeqCst);
            if !self.gate.0.open.load(Ordering::SeqCst) {
                self.gate.0.entered.0.send(()).unwrap();
                self.gate.0.outcome.1.recv().unwrap()?;
            }
            self.rows.write(sync)
        }
    }

    impl Journal for Gated {
        fn test(&mut self) -> Result<(), StoreError> {
            let fails = &self.gate.0.test_fails;
            match fails.load(Ordering::SeqCst) {
                0 => Ok(()),
                left => {
                    fails.store(left - 1, Ordering::SeqCst);
                    Err(StoreError::Full)
                }
            }
        }

        fn finish(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
    }
}
