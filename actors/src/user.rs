//! A user, alive: bindings, mailbox and messages under way, around the rules of [`im::registrar`], [`im::Mailbox`] and
//! [`im::Delivery`].
//!
//! Bound: [`USER_MAILBOX_MAX`] inputs, [`LOADING_WAITERS_MAX`] while its state is read, then the sender is told 503. It is
//! started by the first offer, reads its state from the store, and leaves when it has had nothing to do for a while; what
//! the data plane knows of it stays in `Reach` while a binding stands. After a panic: requests that waited for it get 503,
//! and the next offer starts it anew from the store, where everything is that was acknowledged.

mod inbox;
mod plan;
mod registration;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::limits::{LOADING_WAITERS_MAX, USER_MAILBOX_MAX};
use base::{Aor, Now};
use futures_util::future::join3;
use hashbrown::HashMap;
use im::registrar::Binding;
use im::{EntryId, Mailbox};
use storage::StoreError;
use storage::accounts::Account;
use storage::bindings::StoredBinding;
use storage::spool::{Letter, Mailbox as Waiting};

use crate::house::House;
use crate::message::Offer;
use crate::node::{Node, State as NodeState};
use crate::nursery::{Handles, MayLeave, Offered, Ties};
use crate::router;
use crate::supervise::{Leave, Lifeline};
use crate::transactions::Slot;
use crate::turn;

use plan::Try;

/// How long a transaction may still bring a late 2xx after its message was stored: 64·T1 (RFC 3261 §17.1.2.2).
const LATE: Duration = Duration::from_secs(32);

/// One user's actor.
pub struct UserActor {
    house: Arc<House>,
    aor: Aor,
    child: usize,
    lifeline: Option<Lifeline>,
    nursery: Recipient<MayLeave>,
    node: Arc<Node>,
    handled: u64,
    state: State,
    timer: Option<(Instant, SpawnHandle)>,
    busy_at: Instant,
}

enum State {
    /// The store is being read; these wait.
    Loading(Vec<Offer>),
    /// Alive.
    Here(Box<Here>),
}

/// What is known of the user.
struct Here {
    /// Nothing: nobody of this name is a subscriber.
    account: Option<Account>,
    /// What the REGISTERs so far have made of the bindings; the store may still be writing the last of it.
    bindings: Vec<Binding>,
    /// What of it is durable, and published.
    durable: Vec<Binding>,
    mailbox: Mailbox,
    /// Whether a contact stands that letters can go to, as the mailbox knows it.
    bound: bool,
    /// New messages queue behind what waits (decisions D1).
    queued: bool,
    /// Letters in hand, whole, by arrival.
    letters: HashMap<u64, Letter>,
    /// Messages and letters under way to contacts, by number.
    tries: HashMap<u32, Try>,
    next_try: u32,
    /// Commits under way.
    writes: usize,
    /// Stored messages whose first receiver may still answer.
    late: VecDeque<Late>,
}

struct Late {
    slot: Option<Slot>,
    id: EntryId,
    kept: Option<im::deferred::Head>,
    taken: bool,
    until: Instant,
}

/// Starts a user's actor on this thread.
pub fn plant(house: &Arc<House>, aor: Aor, ties: Ties) -> Handles {
    let actor = UserActor {
        house: house.clone(),
        aor,
        child: ties.child,
        lifeline: Some(ties.lifeline),
        nursery: ties.nursery,
        node: ties.node,
        handled: 0,
        state: State::Loading(Vec::new()),
        timer: None,
        busy_at: house.now().at,
    };
    let address = actor.start();
    Handles { offers: address.clone().recipient(), leave: address.recipient() }
}

impl Actor for UserActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(USER_MAILBOX_MAX);
        self.load(ctx);
    }
}

impl Handler<Offered> for UserActor {
    type Result = ();

    fn handle(&mut self, Offered(offer): Offered, ctx: &mut Self::Context) {
        let began = Instant::now();
        self.handled += 1;
        let now = self.house.now();
        self.busy_at = now.at;
        self.node.taken();
        match &mut self.state {
            State::Loading(waiting) if waiting.len() < LOADING_WAITERS_MAX => waiting.push(offer),
            State::Loading(_) => drop(offer), // 503
            State::Here(_) => self.take(offer, now, ctx),
        }
        self.arm(ctx);
        self.node.turn_took(began.elapsed());
    }
}

impl Handler<Leave> for UserActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        if let State::Here(here) = &self.state
            && here.durable.is_empty()
            && let Some(account) = &here.account
        {
            self.house.reach.remove(&account.aor);
        }
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

type Loaded = (Result<Option<Account>, StoreError>, Result<Vec<StoredBinding>, StoreError>, Result<Waiting, StoreError>);

impl UserActor {
    fn load(&mut self, ctx: &mut Context<Self>) {
        let (store, aor) = (self.house.store.clone(), self.aor.clone());
        let reading = async move {
            let (account, bindings, waiting) = join3(store.account(&aor), store.bindings(&aor), store.mailbox(&aor)).await;
            let account = match account {
                // Nobody has this address: perhaps somebody logs in by it.
                Ok(None) if !aor.is_tel() => store.by_login(aor.domain(), aor.user()).await,
                account => account,
            };
            (account, bindings, waiting)
        };
        ctx.spawn(reading.into_actor(self).map(|loaded, this, ctx| this.loaded(loaded, ctx)));
    }

    fn loaded(&mut self, loaded: Loaded, ctx: &mut Context<Self>) {
        let State::Loading(waiting) = std::mem::replace(&mut self.state, State::Loading(Vec::new())) else { return };
        let now = self.house.now();
        let (account, bindings, tally) = match loaded {
            (Ok(account), Ok(bindings), Ok(tally)) => (account, bindings, tally),
            (account, bindings, tally) => {
                let error = account.err().or(bindings.err()).or(tally.err());
                tracing::warn!(?error, "User's state could not be read");
                drop(waiting); // 503 to each
                return self.busy_at = now.at - self.house.config.user_idle;
            }
        };
        if let Some(account) = &account
            && account.aor != self.aor
        {
            // An alias or a login: its owner's actor is another one.
            turn::fill_later(|turn| waiting.into_iter().for_each(|offer| turn.offer(account.aor.clone(), offer)));
            return self.busy_at = now.at - self.house.config.user_idle;
        }
        let durable: Vec<Binding> = bindings.iter().filter_map(registration::from_stored).collect();
        let quota = im::deferred::Quota {
            letters_max: self.house.config.letters_per_user,
            bytes_max: self.house.config.letter_bytes_per_user,
        };
        let tally = im::deferred::Tally { count: u32::try_from(tally.count).unwrap_or(u32::MAX), bytes: tally.bytes };
        self.state = State::Here(Box::new(Here {
            account,
            bindings: durable.clone(),
            durable,
            mailbox: Mailbox::new(quota, tally),
            bound: false,
            queued: false,
            letters: HashMap::new(),
            tries: HashMap::new(),
            next_try: 0,
            writes: 0,
            late: VecDeque::new(),
        }));
        self.node.set(NodeState::Running);
        self.settle_bound(now, ctx);
        self.publish();
        for offer in waiting {
            self.take(offer, now, ctx);
        }
        self.arm(ctx);
    }

    fn here(&mut self) -> Option<&mut Here> {
        match &mut self.state {
            State::Here(here) => Some(here),
            State::Loading(_) => None,
        }
    }

    fn take(&mut self, offer: Offer, now: Now, ctx: &mut Context<Self>) {
        match offer {
            Offer::Register(answer) => self.register(answer, now, ctx),
            Offer::Page { sender, answer } => self.page(sender, answer, now, ctx),
            Offer::Undelivered { answer, status } => self.undelivered(answer, status, now, ctx),
            Offer::TookAfterAll { slot } => self.took_after_all(slot, now, ctx),
            Offer::Outcome { token, status, response } => self.outcome(token, status, response, now, ctx),
            Offer::Notice(entry) => self.notice(*entry, now, ctx),
            // The row is published; a login of somebody else's was handed on when the state was read.
            Offer::Missing { answer } => turn::fill_later(|turn| router::again(&self.house, turn, answer, now)),
            Offer::Active => self.mailbox_input(im::deferred::Input::UserActive, now, ctx),
            Offer::AccountChanged => self.reload(ctx),
            Offer::Expired(letter) => self.expired(&letter, now, ctx),
            #[expect(clippy::panic, reason = "it is what the operator's test asks for")]
            Offer::Panic => panic!("told to fall"),
        }
    }

    /// The account was changed by an operator: what it says is true from now on.
    fn reload(&mut self, ctx: &mut Context<Self>) {
        let reading = self.house.store.account(&self.aor);
        if let Some(here) = self.here() {
            here.writes += 1;
        }
        ctx.spawn(reading.into_actor(self).map(|account, this, ctx| {
            let Some(here) = this.here() else { return };
            here.writes -= 1;
            match account {
                Ok(account) => {
                    let was = std::mem::replace(&mut here.account, account);
                    if here.account.is_none() {
                        (here.bindings, here.durable) = (Vec::new(), Vec::new());
                        if let Some(was) = was {
                            this.house.reach.remove(&was.aor);
                        }
                        let now = this.house.now();
                        this.settle_bound(now, ctx);
                    }
                    this.publish();
                }
                Err(error) => tracing::warn!(%error, "Changed account could not be read"),
            }
            this.arm(ctx);
        }));
    }

    /// One timer for all that is waited for: tries, letters, and the end of idleness.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let now = self.house.now().at;
        let idle_at = self.busy_at + self.house.config.user_idle;
        let next = match &self.state {
            State::Loading(_) => idle_at,
            State::Here(here) => {
                let tries = here.tries.values().filter_map(|each| each.delivery.poll_timeout());
                let late = here.late.front().map(|late| late.until);
                tries.chain(here.mailbox.poll_timeout()).chain(late).chain([idle_at]).min().unwrap_or(idle_at)
            }
        };
        if let Some((at, handle)) = self.timer {
            // One that rings too early only looks and is set again: a busy user does not move its timer.
            if at <= next && at > now {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = next.saturating_duration_since(now).max(Duration::from_millis(1));
        let handle = ctx.run_later(wait, |this, ctx| {
            this.timer = None;
            this.rang(ctx);
        });
        self.timer = Some((now + wait, handle));
    }

    fn rang(&mut self, ctx: &mut Context<Self>) {
        let now = self.house.now();
        let due = |each: &Try| each.delivery.poll_timeout().is_some_and(|at| at <= now.at);
        let Some(here) = self.here() else { return self.ask_to_leave(ctx) };
        while here.late.pop_front_if(|late| late.until <= now.at).is_some() {}
        let due: Vec<u32> = here.tries.iter().filter(|(_, each)| due(each)).map(|(number, _)| *number).collect();
        for number in due {
            if let Some(each) = self.here().and_then(|here| here.tries.get_mut(&number)) {
                each.delivery.handle_timeout(now);
            }
            self.drain_try(number, now, ctx);
        }
        if let Some(here) = self.here()
            && here.mailbox.poll_timeout().is_some_and(|at| at <= now.at)
        {
            here.mailbox.handle_timeout(now);
            self.drain_mailbox(now, ctx);
        }
        self.ask_to_leave(ctx);
    }

    /// With nothing to do for long enough, asks the nursery to leave; asks again while it is refused.
    fn ask_to_leave(&mut self, ctx: &mut Context<Self>) {
        let quiet = match &self.state {
            // Reading failed, or another actor is the owner.
            State::Loading(waiting) => waiting.is_empty(),
            State::Here(here) => !here.is_trying() && here.writes == 0 && here.mailbox.is_idle() && here.late.is_empty(),
        };
        let now = self.house.now().at;
        let idle = now.saturating_duration_since(self.busy_at) >= self.house.config.user_idle;
        if quiet && idle {
            let _ = self.nursery.try_send(MayLeave { child: self.child, handled: self.handled });
            self.busy_at = now;
        }
        self.arm(ctx);
    }
}
