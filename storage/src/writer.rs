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

    /// What waits: no linger (fast-path: a linger only made answers later).
    fn gather(&mut self, first: Order) -> Vec<Order> {
        let mut bytes = first.commit.bytes();
        let mut group = vec![first];
        while group.len() < COMMIT_BATCH_MAX && bytes < GROUP_FULL {
            let Ok(order) = self.waiting.try_recv() else { break };
            bytes += order.commit.bytes();
            group.push(order);
        }
        self.around.metrics.commit_queue.set(self.waiting.len());
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
        let mut answers = Answers::default();
        verdicts.tell(written, &mut answers);
        answers.deliver();
        let answered = Instant::now();
        asked.into_iter().for_each(|asked| self.around.metrics.note_latency(answered - asked));
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
