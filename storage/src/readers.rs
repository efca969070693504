//! Threads that read, so that nobody above waits for a block to come from the disk (D15).
//!
//! Reads come over a bounded channel; a full one is [`StoreError::Busy`] at once. A thread takes a few at a time and
//! wakes each asking thread once for them.

use std::sync::Arc;
use std::thread::JoinHandle;

use base::limits::READ_QUEUE_MAX;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::{Mutex, RwLock};

use crate::ask::{Answers, Ask};
use crate::error::StoreError;
use crate::metrics::Metrics;

/// Reads that a thread answers together.
const READS_TOGETHER: usize = 32;

type Job = Box<dyn FnOnce(&mut Answers) + Send>;

/// The way to the threads that read.
pub(crate) struct Readers {
    jobs: RwLock<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

impl Readers {
    /// Starts the threads, at least one.
    pub(crate) fn start(count: usize, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        Self::start_bounded(count, READ_QUEUE_MAX, metrics)
    }

    fn start_bounded(count: usize, bound: usize, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let (jobs, waiting) = crossbeam_channel::bounded::<Job>(bound);
        let mut threads = Vec::new();
        for number in 0..count.max(1) {
            let (waiting, metrics) = (waiting.clone(), Arc::clone(&metrics));
            let thread = std::thread::Builder::new().name(format!("store-reader-{number}"));
            let thread = thread.spawn(move || run(&waiting, &metrics));
            threads.push(thread.map_err(|error| StoreError::disk(format!("no thread for a reader: {error}")))?);
        }
        Ok(Self { jobs: RwLock::new(Some(jobs)), threads: Mutex::new(threads), metrics })
    }

    /// Has `read` done by one of the threads; never blocks.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Ask<T> {
        let (ask, reply) = Ask::open();
        let job: Job = Box::new(move |answers| reply.send(read(), answers));
        let jobs = self.jobs.read();
        let Some(jobs) = jobs.as_ref() else { return Ask::ready(Err(StoreError::Closed)) };
        match jobs.try_send(job) {
            Ok(()) => ask,
            Err(TrySendError::Full(_)) => {
                self.metrics.busy_total.add(1);
                Ask::ready(Err(StoreError::Busy { queue: jobs.capacity().unwrap_or(0) }))
            }
            Err(TrySendError::Disconnected(_)) => Ask::ready(Err(StoreError::Closed)),
        }
    }

    /// Reads that wait, those not counted that a thread has taken.
    pub(crate) fn waiting(&self) -> usize {
        self.jobs.read().as_ref().map_or(0, Sender::len)
    }

    /// Takes no more reads, answers what waits, and returns when the threads have ended.
    pub(crate) fn stop(&self) {
        drop(self.jobs.write().take());
        let here = std::thread::current().id();
        for thread in self.threads.lock().drain(..).filter(|thread| thread.thread().id() != here) {
            let _ = thread.join();
        }
    }
}

fn run(waiting: &Receiver<Job>, metrics: &Metrics) {
    let mut answers = Answers::default();
    while let Ok(first) = waiting.recv() {
        first(&mut answers);
        let mut done = 1;
        while done < READS_TOGETHER {
            let Ok(job) = waiting.try_recv() else { break };
            job(&mut answers);
            done += 1;
        }
        metrics.reads_total.add(done);
        answers.deliver();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_so_at_once_and_the_reads_in_it_are_answered() {
        let metrics = Arc::new(Metrics::default());
        let readers = Readers::start_bounded(1, 1, Arc::clone(&metrics)).unwrap();
        let (open, gate) = crossbeam_channel::bounded::<()>(0);
        let (entered, inside) = crossbeam_channel::bounded(1);
        let first = readers.ask(move || {
            entered.send(()).unwrap();
            gate.recv().map_err(|_| StoreError::Closed)
        });
        inside.recv().unwrap();
        let second = readers.ask(|| Ok(2));
        assert_eq!(readers.waiting(), 1, "seen while the disk holds the reader");
        assert_eq!(readers.ask(|| Ok(3)).wait(), Err(StoreError::Busy { queue: 1 }));
        open.send(()).unwrap();
        assert_eq!((first.wait(), second.wait()), (Ok(()), Ok(2)));
        readers.stop();
        assert_eq!(readers.ask(|| Ok(4)).wait(), Err(StoreError::Closed));
        assert_eq!(metrics.busy_total.get(), 1);
    }
}
