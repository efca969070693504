//! The locator's actor: runs the searches, one a place or number, and writes down what they found.
//!
//! Bound: [`LOCATOR_MAILBOX_MAX`] questions, [`LOCATE_FLIGHTS_MAX`] searches, [`LOCATE_WAITERS_MAX`] who wait for one; past
//! them whoever asks hears [`NotFound::Busy`]. A search that panics ends alone: strangers write what it reads. After a panic
//! of the actor's own all who wait hear the same; what was known stays known.

use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::limits::{
    DNS_FAILURE_TTL, DNS_QUESTION_TIME_MAX, LOCATE_FLIGHTS_MAX, LOCATE_TIME_MAX, LOCATE_WAITERS_MAX,
    LOCATOR_MAILBOX_MAX,
};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hashbrown::HashMap;
use locate::{Answer, EnumNumber, Failure, Located, NextHop, Number, Outcome, Output, Place, Question, Search, Uris};
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::memory::Memory;
use super::{Finding, Locator, Mailboxes, Names, NotFound, count};
use crate::house::House;
use crate::metrics::Count;
use crate::node::{Node, State};
use crate::supervise::{Fall, Leave, Lifeline};

/// How often failed targets whose time is long over are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Where the answer goes.
pub(super) type Reply<T> = oneshot::Sender<Finding<T>>;

/// Find this place.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Locate(pub(super) Place, pub(super) Reply<Arc<Located>>);

/// Find the owner of this number.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct LocateNumber(pub(super) Number, pub(super) Reply<Arc<Uris>>);

/// Who waits, by what is looked for.
type Flights<K, T> = HashMap<K, Vec<Reply<T>>>;

/// What is looked for is of two kinds: where each is remembered, and who waits for it.
struct Shelf<K: 'static, T: 'static> {
    memory: fn(&Locator) -> &RwLock<Memory<K, T>>,
    flights: fn(&mut LocatorActor) -> &mut Flights<K, T>,
}

/// Runs the searches.
pub struct LocatorActor {
    house: Arc<House>,
    places: Flights<Place, Arc<Located>>,
    numbers: Flights<Number, Arc<Uris>>,
    node: Arc<Node>,
    lifeline: Option<Lifeline>,
}

impl LocatorActor {
    /// Starts one on this thread, for the house's locator.
    pub fn start_here(house: &Arc<House>, node: Arc<Node>, lifeline: Lifeline) -> Addr<Self> {
        let actor = Self {
            house: house.clone(),
            places: Flights::new(),
            numbers: Flights::new(),
            node: node.clone(),
            lifeline: Some(lifeline),
        };
        let address = Self::create(|ctx| {
            // Before the first question comes, not when it starts.
            ctx.set_mailbox_capacity(LOCATOR_MAILBOX_MAX);
            actor
        });
        let boxes = Mailboxes { places: address.clone().recipient(), numbers: address.clone().recipient() };
        *house.locator.living.write() = Some((boxes, node));
        address
    }

    /// Begins a search, or has the asker wait for the one that runs.
    fn look<K, S>(
        &mut self,
        key: K,
        reply: Reply<Arc<S::Found>>,
        shelf: Shelf<K, Arc<S::Found>>,
        start: impl FnOnce(&K, &Locator) -> S,
        ctx: &mut Context<Self>,
    ) where
        K: Hash + Eq + Clone + 'static,
        S: Search + 'static,
    {
        let (house, began) = (self.house.clone(), Instant::now());
        let locator = &house.locator;
        self.node.taken();
        // Somebody else's search may have landed while the question waited.
        if let Some(known) = (shelf.memory)(locator).read().get(&key, house.now().at) {
            return tell(vec![reply], &known);
        }
        let Some(names) = locator.names.get() else { return tell(vec![reply], &Err(Failure::Unknown)) };
        let running = self.places.len() + self.numbers.len();
        match (shelf.flights)(self).get_mut(&key) {
            Some(waiting) if waiting.len() < LOCATE_WAITERS_MAX => waiting.push(reply),
            None if running < LOCATE_FLIGHTS_MAX => {
                (shelf.flights)(self).insert(key.clone(), vec![reply]);
                let search = AssertUnwindSafe(run(start(&key, locator), house.clone(), names.clone()));
                ctx.spawn(search.catch_unwind().into_actor(self).map(move |outcome, this, _| {
                    let outcome = outcome.unwrap_or_else(|_| this.fell());
                    let found = outcome.found.map(Arc::new);
                    let memory = (shelf.memory)(&this.house.locator);
                    memory.write().put(&key, found.clone(), outcome.ttl, this.house.now().at);
                    let waiting = (shelf.flights)(this).remove(&key);
                    tell(waiting.unwrap_or_default(), &found);
                }));
            }
            // The reply is dropped: busy.
            Some(_) | None => count(&locator.counts.refused),
        }
        self.node.turn_took(began.elapsed());
    }

    /// A search has panicked.
    fn fell<T>(&self) -> Outcome<T> {
        tracing::error!("A search of the DNS fell");
        self.house.metrics.count(Count::Panics);
        Outcome { found: Err(Failure::Unknown), ttl: DNS_FAILURE_TTL }
    }
}

/// A search to its end. Whatever the name servers do, that comes in time.
async fn run<S: Search>(mut search: S, house: Arc<House>, names: Arc<dyn Names>) -> Outcome<S::Found> {
    let end = tokio::time::Instant::now() + LOCATE_TIME_MAX;
    let mut asking = FuturesUnordered::new();
    loop {
        while let Some(output) = search.poll_output() {
            match output {
                Output::Done(outcome) => return outcome,
                Output::Ask(question) => asking.push(ask(question, &house.locator, &*names, end)),
            }
        }
        match asking.next().await {
            Some((question, answer)) => search.handle(&question, answer),
            // It neither asks nor ends: a bug of ours, for which nobody is to wait.
            None => return Outcome { found: Err(Failure::Unknown), ttl: DNS_FAILURE_TTL },
        }
    }
}

async fn ask(
    question: Question,
    locator: &Locator,
    names: &dyn Names,
    end: tokio::time::Instant,
) -> (Question, Answer) {
    count(&locator.counts.queries);
    let until = end.min(tokio::time::Instant::now() + DNS_QUESTION_TIME_MAX);
    let answer = tokio::time::timeout_at(until, names.ask(&question)).await.unwrap_or(Answer::Unknown);
    if answer == Answer::Unknown {
        count(&locator.counts.failures);
    }
    (question, answer)
}

fn tell<T: Clone>(waiting: Vec<Reply<T>>, found: &Result<T, Failure>) {
    for reply in waiting {
        // Who has gone away meanwhile is not missed.
        let _ = reply.send(found.clone().map_err(NotFound::Failed));
    }
}

impl Handler<Locate> for LocatorActor {
    type Result = ();

    fn handle(&mut self, Locate(place, reply): Locate, ctx: &mut Self::Context) {
        let shelf = Shelf { memory: |locator| &locator.places, flights: |this| &mut this.places };
        self.look(place, reply, shelf, |place, locator| NextHop::start(place.clone(), locator.speaks), ctx);
    }
}

impl Handler<LocateNumber> for LocatorActor {
    type Result = ();

    fn handle(&mut self, LocateNumber(number, reply): LocateNumber, ctx: &mut Self::Context) {
        let shelf = Shelf { memory: |locator| &locator.numbers, flights: |this| &mut this.numbers };
        self.look(number, reply, shelf, |number, locator| EnumNumber::start(number, &locator.enum_suffix), ctx);
    }
}

impl Actor for LocatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        ctx.run_interval(SWEEP_EVERY, |this, _| {
            let now = this.house.now().at;
            this.house.locator.health.lock().sweep(now);
        });
    }
}

impl Handler<Leave> for LocatorActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl Handler<Fall> for LocatorActor {
    type Result = ();

    fn handle(&mut self, fall: Fall, _: &mut Self::Context) {
        fall.now();
    }
}
