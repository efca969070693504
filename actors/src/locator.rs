//! The locator: where other domains are (RFC 3263), whose a telephone number is (RFC 6116), and which servers have failed.
//!
//! ```text
//! any shard ── known ──> the table that all shards read ─────────────> at once
//!     └─────── find ───> the actor: one search a place, others wait ─> later, on the asking thread
//!                          └──> Names: net's name servers, or a table
//! ```
//! What was found stands in a table that every shard reads, so that a message to a domain that is known takes no mailbox.
//! Only the first one to ask waits, and whoever asks before it is known waits with him (decisions D19). What is remembered
//! is the servers and their weights: each request throws its own dice over them, see [`Located::order`].

mod actor;
mod memory;

use std::fmt::Write as _;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::Recipient;
use base::limits::LOCATED_MAX;
use locate::{Dice, Failure, Health, Located, Number, Place, Speaks, Target, Targets, Uris};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::node::Node;

pub use locate::{Answer, Kind, Naptr, Question, Record, Srv};

pub use actor::LocatorActor;
use actor::{Locate, LocateNumber, Reply};
use memory::Memory;

/// Who answers questions of the DNS: `net` with its sockets, or a table in a world without them.
pub trait Names: Send + Sync {
    /// Answers one question. The future is awaited on the locator's own thread, and dropped when its time is over.
    fn ask(&self, question: &Question) -> Asking;
}

/// An answer under way.
pub type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A table of records answers at once.
impl Names for locate::Zone {
    fn ask(&self, question: &Question) -> Asking {
        Box::pin(std::future::ready(self.answer(question)))
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// The search has ended, with nothing.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Too many others are being looked for: 503.
    #[error("too many searches at once")]
    Busy,
}

/// What is found, or why not.
pub type Finding<T> = Result<T, NotFound>;

/// What is known of other domains and numbers; any shard may ask.
pub struct Locator {
    speaks: Speaks,
    enum_suffix: String,
    names: OnceLock<Arc<dyn Names>>,
    places: RwLock<Memory<Place, Arc<Located>>>,
    numbers: RwLock<Memory<Number, Arc<Uris>>>,
    health: Mutex<Health>,
    /// Where the actor lives now.
    living: RwLock<Option<(Mailboxes, Arc<Node>)>>,
    counts: Counts,
}

/// How the actor is spoken to.
#[derive(Clone)]
struct Mailboxes {
    places: Recipient<Locate>,
    numbers: Recipient<LocateNumber>,
}

/// What is counted.
#[derive(Default)]
struct Counts {
    queries: AtomicU64,
    failures: AtomicU64,
    hits: AtomicU64,
    searches: AtomicU64,
    refused: AtomicU64,
}

/// A question that was asked, or needs no asking.
enum Asked<T> {
    Known(Finding<T>),
    Later(oneshot::Receiver<Finding<T>>),
}

async fn hear<T>(asked: Asked<T>) -> Finding<T> {
    match asked {
        Asked::Known(known) => known,
        // Dropped unanswered: too many wait, or the actor fell (decisions D20).
        Asked::Later(answer) => answer.await.unwrap_or(Err(NotFound::Busy)),
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Locator {
    /// Knows nothing yet. `speaks` is what we can speak outwards, `enum_suffix` the zone of telephone numbers.
    pub fn new(speaks: Speaks, enum_suffix: &str) -> Self {
        Self {
            speaks,
            enum_suffix: enum_suffix.to_owned(),
            names: OnceLock::new(),
            places: RwLock::new(Memory::new(LOCATED_MAX)),
            numbers: RwLock::new(Memory::new(LOCATED_MAX)),
            health: Mutex::default(),
            living: RwLock::default(),
            counts: Counts::default(),
        }
    }

    /// Introduces who answers questions; once. Without him nothing is ever found.
    pub fn introduce(&self, names: Arc<dyn Names>) {
        let _ = self.names.set(names);
    }

    /// Whether there is anybody who answers.
    pub fn can_ask(&self) -> bool {
        self.names.get().is_some()
    }

    /// What we can speak outwards.
    pub fn speaks(&self) -> Speaks {
        self.speaks
    }

    /// What is known of a place; nothing where it must be looked for first.
    pub fn known(&self, place: &Place, now: Instant) -> Option<Result<Arc<Located>, Failure>> {
        self.look(&self.places, place, now)
    }

    /// What is known of a number.
    pub fn known_number(&self, number: &Number, now: Instant) -> Option<Result<Arc<Uris>, Failure>> {
        self.look(&self.numbers, number, now)
    }

    fn look<K: Hash + Eq + Clone, V: Clone>(
        &self,
        memory: &RwLock<Memory<K, V>>,
        key: &K,
        now: Instant,
    ) -> Option<Result<V, Failure>> {
        let known = memory.read().get(key, now);
        if known.is_some() {
            count(&self.counts.hits);
        }
        known
    }

    /// Looks for a place. The future may be awaited on any thread; the search goes on without it.
    pub fn find(&self, place: Place, now: Instant) -> impl Future<Output = Finding<Arc<Located>>> + Send + use<> {
        let known = self.known(&place, now);
        hear(self.ask(known, |boxes, reply| boxes.places.try_send(Locate(place, reply)).is_ok()))
    }

    /// Looks for the owner of a number.
    pub fn find_number(&self, number: Number, now: Instant) -> impl Future<Output = Finding<Arc<Uris>>> + Send + use<> {
        let known = self.known_number(&number, now);
        hear(self.ask(known, |boxes, reply| boxes.numbers.try_send(LocateNumber(number, reply)).is_ok()))
    }

    fn ask<T>(&self, known: Option<Result<T, Failure>>, send: impl FnOnce(&Mailboxes, Reply<T>) -> bool) -> Asked<T> {
        if let Some(known) = known {
            return Asked::Known(known.map_err(NotFound::Failed));
        }
        if !self.can_ask() {
            return Asked::Known(Err(NotFound::Failed(Failure::Unknown)));
        }
        count(&self.counts.searches);
        let (reply, answer) = oneshot::channel();
        if !self.send(|boxes| send(boxes, reply)) {
            count(&self.counts.refused);
        }
        Asked::Later(answer)
    }

    /// By the one sender that there is: each clone of it would have a place of its own in the mailbox.
    fn send(&self, send: impl FnOnce(&Mailboxes) -> bool) -> bool {
        let living = self.living.read();
        let Some((boxes, node)) = &*living else { return false };
        node.queued();
        let is_sent = send(boxes);
        if !is_sent {
            node.taken();
        }
        is_sent
    }

    /// The targets that one request tries, best first: by the dice of its seed, those that have failed of late last. The
    /// same seed gives the same order (RFC 3263 §4.4); of a relayed request it is its transaction's key.
    pub fn order(&self, located: &Located, seed: u64, now: Instant) -> Targets {
        let mut targets = located.order(Dice::new(seed));
        self.health.lock().sort(&mut targets, now);
        targets
    }

    /// A target has failed (RFC 3263 §4.3): it is set aside. `pause` is what its Retry-After asks for.
    pub fn failed(&self, target: &Target, pause: Option<Duration>, now: Instant) {
        self.health.lock().failed(target, pause, now);
    }

    /// A target has answered: it is as good as any other.
    pub fn worked(&self, target: &Target) {
        self.health.lock().worked(target);
    }

    /// Prometheus text; no names in it.
    pub fn write(&self, out: &mut String, now: Instant) {
        let Counts { queries, failures, hits, searches, refused } = &self.counts;
        for (name, help, count) in [
            ("parlour_dns_queries_total", "Questions put to the name servers", queries),
            ("parlour_dns_failures_total", "Questions that no name server answered", failures),
            ("parlour_dns_cache_hits_total", "Domains and numbers that were known when they were asked for", hits),
            ("parlour_dns_cache_misses_total", "Domains and numbers that had to be looked for", searches),
            ("parlour_dns_refused_total", "Domains and numbers not looked for: too many at once", refused),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {count}");
        }
        let known = self.places.read().len() + self.numbers.read().len();
        for (name, help, value) in [
            ("parlour_dns_known", "Domains and numbers whose outcome is remembered", known),
            (
                "parlour_dns_targets_aside",
                "Servers of other domains set aside after a failure",
                self.health.lock().aside(now),
            ),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}");
        }
    }
}

#[cfg(test)]
mod tests;
