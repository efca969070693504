//! A user, alive: bindings, mailbox and messages under way, around the rules of [`im::registrar`], [`im::Mailbox`] and
//! [`im::Delivery`].
//!
//! Bound: [`USER_MAILBOX_MAX`] inputs, [`LOADING_WAITERS_MAX`] while its state is read, [`TRIES`] messages under way, then
//! the sender is told 503. It is started by the first offer, reads its state from the store, and leaves when it has had
//! nothing to do for a while; what the data plane knows of it stays in `Reach` while a binding stands. After a panic:
//! requests that waited for it get 503, and the next offer starts it anew from the store, where everything is that was
//! acknowledged.

mod choice;
mod inbox;
mod locating;
mod plan;
mod registration;
mod watch;
mod whereabouts;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::limits::{COMMIT_TIME_MAX, LOADING_WAITERS_MAX, USER_MAILBOX_MAX};
use base::{Aor, Now};
use futures_util::future::join3;
use hashbrown::HashMap;
use im::deferred::Head;
use im::registrar::Binding;
use im::{Entry, EntryId, Mailbox};
use storage::accounts::Account;
use storage::bindings::StoredBinding;
use storage::spool::Mailbox as Waiting;
use storage::{Ask, StoreError};

use crate::alarm::Alarm;
use crate::brood::{Handles, MayLeave, Ties};
use crate::house::House;
use crate::message::{Heard, Offer};
use crate::node::{Node, State as NodeState};
use crate::nursery::Offered;
use crate::pace::{Pace, TURNS_IN_A_ROW, pause};
use crate::reach::Reach;
use crate::router;
use crate::supervise::{Leave, Lifeline};
use crate::transactions::Slot;
use crate::turn;

use plan::Try;
use registration::Durable;
use watch::{NOTIFY_TOKEN, Watch};

/// How long a transaction may still bring a late 2xx after its message was stored: 64·T1 (RFC 3261 §17.1.2.2).
const LATE: Duration = Duration::from_secs(32);
/// Messages and letters that are under way to one user's contacts at once.
const TRIES: usize = 1_024;

/// One user's actor.
pub struct UserActor {
    house: Arc<House>,
    aor: Aor,
    child: usize,
    lifeline: Option<Lifeline>,
    nursery: Recipient<MayLeave>,
    node: Arc<Node>,
    pace: Pace,
    handled: u64,
    state: State,
    alarm: Alarm,
    busy_at: Instant,
    /// What the data plane sees, as it was published last.
    row: Option<Arc<Reach>>,
    /// Told to leave while commits were under way: leaves after the last of them.
    leaving: bool,
}

enum State {
    /// The store is being read; these wait.
    Loading(Vec<Offer>),
    /// Alive.
    Here(Box<Here>),
    /// Another address or a login of this user, to whom everything is handed on; leaves at once.
    Elsewhere(Aor),
    /// The store could not be read: everything is answered 503; leaves at once, and the next start reads again.
    Failed,
}

/// What is known of the user.
struct Here {
    /// Nothing: nobody of this name is a subscriber.
    account: Option<Account>,
    /// The account was made for who is no subscriber, because a trusted peer says that it is there; it ends with its bindings.
    is_guest: bool,
    /// What the REGISTERs so far have made of the bindings; the store may still be writing the last of it.
    bindings: Arc<[Binding]>,
    /// What of it is durable, and published.
    durable: Durable,
    mailbox: Mailbox,
    /// Whether a contact stands that letters can go to, as the mailbox knows it.
    bound: bool,
    /// New messages queue behind what waits (decisions D1).
    queued: bool,
    /// Letters that the mailbox holds, whole, by arrival.
    letters: HashMap<u64, Arc<Entry>>,
    /// Delivered letters that leave the store by the next commit: one is under way.
    leaving: Vec<Head>,
    /// Whether it is.
    removing: bool,
    /// Letters given up that are not in memory: the store's sweep brings them.
    unread: Vec<u64>,
    /// Messages and letters under way to contacts, by number.
    tries: HashMap<u32, Try>,
    next_try: u32,
    /// Messages and letters whose contacts' servers are being looked for.
    locating: usize,
    /// Commits under way.
    writes: usize,
    /// The number of the last REGISTER that was written, and of the last whose outcome is known.
    registers: (u64, u64),
    /// The account was changed and is being read again; these wait for it.
    rereading: Option<Vec<Offer>>,
    /// Those that have waited and are not taken yet: nothing comes in before them.
    waiting: VecDeque<Offer>,
    /// Stored messages whose first receiver may still answer.
    late: VecDeque<Late>,
    /// Who watches its contacts.
    watch: Watch,
}

struct Late {
    slot: Option<Slot>,
    id: EntryId,
    kept: Option<Head>,
    taken: bool,
    until: Instant,
}

/// Starts a user's actor on this thread.
pub fn plant(house: &Arc<House>, aor: Aor, ties: Ties) -> Handles<Offered> {
    let actor = UserActor {
        house: house.clone(),
        aor,
        child: ties.child,
        lifeline: Some(ties.lifeline),
        nursery: ties.nursery,
        node: ties.node,
        pace: Pace::default(),
        handled: 0,
        state: State::Loading(Vec::new()),
        alarm: Alarm::default(),
        busy_at: house.now().at,
        row: None,
        leaving: false,
    };
    Handles::to(UserActor::create(|ctx| {
        // Before the first offer comes, not when it starts: a burst is no fault of its sender's.
        ctx.set_mailbox_capacity(USER_MAILBOX_MAX);
        actor
    }))
}

impl Actor for UserActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
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
            State::Loading(_) | State::Failed => drop(offer), // 503
            State::Elsewhere(owner) => turn::fill_later(|turn| turn.offer(owner.clone(), offer)),
            State::Here(_) => self.take_or_wait(offer, now, ctx),
        }
        self.arm(ctx);
        self.turn_took(began, ctx);
    }
}

impl Handler<Leave> for UserActor {
    type Result = ();

    fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
        match how {
            Leave::Soon => {
                self.leaving = true;
                self.leave_if_done(ctx);
            }
            Leave::AtOnce => ctx.stop(),
        }
    }
}

/// However it ends: of a user without a binding nothing stays in the tables. The next actor's row is not touched.
impl Drop for UserActor {
    fn drop(&mut self) {
        let is_bound = matches!(&self.state, State::Here(here) if !here.durable.is_empty());
        if let Some(row) = self.row.take().filter(|_| !is_bound) {
            self.house.reach.remove_if(&row);
        }
    }
}

type Loaded =
    (Result<Option<Account>, StoreError>, Result<Vec<StoredBinding>, StoreError>, Result<Waiting, StoreError>);

impl UserActor {
    fn load(&mut self, ctx: &mut Context<Self>) {
        let (store, aor) = (self.house.store.clone(), self.aor.clone());
        let reading = async move {
            let (account, bindings, waiting) =
                join3(store.account(&aor), store.bindings(&aor), store.mailbox(&aor)).await;
            let account = match account {
                // Nobody has this address: perhaps somebody logs in by it.
                Ok(None) if !aor.is_tel() => store.by_login(aor.domain(), aor.user()).await,
                account => account,
            };
            (account, bindings, waiting)
        };
        let busy = StoreError::Busy { queue: 0 };
        let in_time = async {
            let loaded = tokio::time::timeout(COMMIT_TIME_MAX, reading).await;
            loaded.unwrap_or_else(|_| (Err(busy.clone()), Err(busy.clone()), Err(busy)))
        };
        self.when(in_time, ctx, |loaded, this, ctx| this.loaded(loaded, ctx));
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
                self.state = State::Failed;
                return self.leave_soon(ctx);
            }
        };
        if let Some(account) = &account
            && account.aor != self.aor
        {
            // An alias or a login: its owner's actor is another one.
            turn::fill_later(|turn| waiting.into_iter().for_each(|offer| turn.offer(account.aor.clone(), offer)));
            self.state = State::Elsewhere(account.aor.clone());
            return self.leave_soon(ctx);
        }
        let standing = |stored: &StoredBinding| registration::from_stored(&self.house, stored);
        let durable: Vec<Binding> = bindings.iter().filter_map(standing).collect();
        let tally = im::deferred::Tally { count: u32::try_from(tally.count).unwrap_or(u32::MAX), bytes: tally.bytes };
        // Bindings of who is no subscriber were made by a trusted peer.
        let is_guest = account.is_none() && !durable.is_empty();
        let account = account.or_else(|| is_guest.then(|| registration::guest(&self.house, &self.aor)));
        let is_nobody = account.is_none();
        if is_nobody {
            self.house.reach.remove(&self.aor);
        }
        let mut here = Here::new(&self.house, account, durable, tally);
        here.is_guest = is_guest;
        self.state = State::Here(Box::new(here));
        self.node.set(NodeState::Running);
        self.settle_bound(now, ctx);
        self.publish();
        self.take_all(waiting, ctx);
        if is_nobody {
            return self.leave_soon(ctx); // who guesses at names fills no memory
        }
        self.arm(ctx);
    }

    /// Nothing is to be done here: no use in waiting for more.
    fn leave_soon(&mut self, ctx: &mut Context<Self>) {
        let now = self.house.now().at;
        self.busy_at = now.checked_sub(self.house.config.user_idle).unwrap_or(now);
        self.arm(ctx);
    }

    /// Leaves when it was told to and no commit is under way.
    fn leave_if_done(&mut self, ctx: &mut Context<Self>) {
        if !self.leaving || matches!(&self.state, State::Here(here) if here.writes > 0) {
            return;
        }
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }

    fn here(&mut self) -> Option<&mut Here> {
        match &mut self.state {
            State::Here(here) => Some(here),
            State::Loading(_) | State::Elsewhere(_) | State::Failed => None,
        }
    }

    /// What comes of a question to the store, in a turn of its own.
    fn when<T: 'static>(
        &mut self,
        asked: impl Future<Output = T> + 'static,
        ctx: &mut Context<Self>,
        then: impl FnOnce(T, &mut Self, &mut Context<Self>) + 'static,
    ) {
        ctx.spawn(asked.into_actor(self).map(|outcome, this, ctx| {
            let began = Instant::now();
            then(outcome, this, ctx);
            this.turn_took(began, ctx);
        }));
    }

    fn turn_took(&mut self, began: Instant, ctx: &mut Context<Self>) {
        self.node.turn_took(began.elapsed());
        self.pace.turned(ctx);
    }

    /// What has waited until the user's state was there: what is too much for a turn is taken in the next ones.
    fn take_all(&mut self, waiting: Vec<Offer>, ctx: &mut Context<Self>) {
        if let Some(here) = self.here() {
            here.waiting = waiting.into();
        }
        self.take_waiting(ctx);
    }

    fn take_waiting(&mut self, ctx: &mut Context<Self>) {
        let now = self.house.now();
        for _ in 0..TURNS_IN_A_ROW {
            let Some(offer) = self.here().and_then(|here| here.waiting.pop_front()) else { break };
            self.take_or_wait(offer, now, ctx);
        }
        if self.here().is_some_and(|here| !here.waiting.is_empty()) {
            ctx.wait(pause().map(|(), this: &mut Self, ctx| {
                let began = Instant::now();
                this.take_waiting(ctx);
                this.turn_took(began, ctx);
            }));
        }
    }

    /// While a changed account is read, nothing is done by what it was before; but what is under way may end.
    fn take_or_wait(&mut self, offer: Offer, now: Now, ctx: &mut Context<Self>) {
        let reading = self.here().and_then(|here| here.rereading.as_mut());
        match (reading, &offer) {
            (None, _) | (Some(_), Offer::Outcome { .. } | Offer::TookAfterAll { .. } | Offer::Panic) => {
                self.take(offer, now, ctx);
            }
            (Some(waiting), Offer::AccountChanged(_)) => waiting.push(offer),
            (Some(waiting), _) if waiting.len() < LOADING_WAITERS_MAX => waiting.push(offer),
            (Some(_), _) => drop(offer), // 503
        }
    }

    fn take(&mut self, offer: Offer, now: Now, ctx: &mut Context<Self>) {
        match offer {
            Offer::Register(answer) => self.register(answer, now, ctx),
            Offer::Page { sender, answer, device } => self.page(sender, answer, device, now, ctx),
            Offer::Undelivered { sender, answer, status } => self.undelivered(&sender, answer, status, now, ctx),
            Offer::TookAfterAll { slot } => self.took_after_all(slot, now, ctx),
            Offer::Outcome { token, status, response } if token & NOTIFY_TOKEN != 0 => {
                self.notified(token, status, response, now);
            }
            Offer::Outcome { token, status, response } => self.outcome(token, status, response, now, ctx),
            Offer::Notice(entry) => self.notice(*entry, now, ctx),
            // A login of somebody else's was handed on when the state was read.
            Offer::Missing { answer } => {
                if self.house.reach.get(&self.aor).is_none() {
                    self.publish(); // swept with its last binding, or taken away when the account was changed
                }
                turn::fill_later(|turn| router::again(&self.house, turn, answer, now));
            }
            Offer::Active => self.mailbox_input(im::deferred::Input::UserActive, now, ctx),
            Offer::AccountChanged(heard) => self.reload(heard, ctx),
            Offer::Perhaps { receiver, answer } => self.perhaps(receiver, answer, ctx),
            Offer::Expired(letter) => self.expired(*letter, now, ctx),
            Offer::Devices { passage, wanted } => self.devices(passage, &wanted, now, ctx),
            Offer::Whereabouts { session, wanted } => self.whereabouts(session, &wanted, now, ctx),
            Offer::Watch(answer) => self.watch(answer, now),
            Offer::FlowLost(conn) => self.flow_lost(conn, now, ctx),
            #[expect(clippy::panic, reason = "it is what the operator's test asks for")]
            Offer::Panic => panic!("told to fall"),
        }
    }

    /// The account was changed by an operator: what it says is true from now on.
    fn reload(&mut self, heard: Heard, ctx: &mut Context<Self>) {
        let reading = self.house.store.account(&self.aor);
        self.under_way();
        if let Some(here) = self.here() {
            here.rereading = Some(Vec::new());
        }
        self.when(reading, ctx, |account, this, ctx| {
            let waiting = this.here().and_then(|here| here.rereading.take()).unwrap_or_default();
            match account {
                Ok(account) => this.reloaded(account, ctx),
                Err(error) => {
                    tracing::warn!(%error, "Changed account could not be read");
                    this.house.reach.remove(&this.aor);
                    this.state = State::Failed;
                    return this.leave_soon(ctx);
                }
            }
            drop(heard);
            this.take_all(waiting, ctx);
            this.done(ctx);
        });
    }

    fn reloaded(&mut self, account: Option<Account>, ctx: &mut Context<Self>) {
        let (house, aor) = (self.house.clone(), self.aor.clone());
        let Some(here) = self.here() else { return };
        if let Some(account) = account.filter(|account| account.aor == aor) {
            here.account = Some(account);
            return self.publish();
        }
        self.end_watch(house.now());
        let Some(here) = self.here() else { return };
        // Letters, bindings and messages under way went with the account; commits still end.
        let (writes, registers) = (here.writes, here.registers);
        let nothing = im::deferred::Tally::default();
        *here = Here { writes, registers, ..Here::new(&house, None, Vec::new(), nothing) };
        house.reach.remove(&aor);
        self.leave_soon(ctx);
    }

    /// One more question to the store whose answer is to be waited for.
    fn under_way(&mut self) {
        if let Some(here) = self.here() {
            here.writes += 1;
        }
    }

    /// One of them was answered.
    fn done(&mut self, ctx: &mut Context<Self>) {
        if let Some(here) = self.here() {
            here.writes = here.writes.saturating_sub(1);
        }
        self.leave_if_done(ctx);
        self.arm(ctx);
    }

    /// One timer for all that is waited for: tries, letters, bindings, and the end of idleness.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let now = self.house.now();
        let idle_at = self.busy_at + self.house.config.user_idle;
        let next = match &self.state {
            State::Loading(_) | State::Elsewhere(_) | State::Failed => idle_at,
            State::Here(here) => {
                let tries = here.tries.values().filter_map(|each| each.delivery.poll_timeout());
                let late = here.late.front().map(|late| late.until);
                let watched = here.watch.poll_timeout(now);
                let waits = [here.mailbox.poll_timeout(), late, here.binding_ends(now), watched, Some(idle_at)];
                tries.chain(waits.into_iter().flatten()).min().unwrap_or(idle_at)
            }
        };
        self.alarm.set(Some(next), now.at, ctx, Self::rang);
    }

    fn rang(&mut self, ctx: &mut Context<Self>) {
        self.alarm.rang();
        let (began, now) = (Instant::now(), self.house.now());
        if !self.nursery.connected() {
            return ctx.stop(); // its nursery fell: another actor of this user's may live by now
        }
        let due = |each: &Try| each.delivery.poll_timeout().is_some_and(|at| at <= now.at);
        let Some(here) = self.here() else { return self.ask_to_leave(ctx) };
        while here.late.pop_front_if(|late| late.until <= now.at).is_some() {}
        let mut due: Vec<u32> = here.tries.iter().filter(|(_, each)| due(each)).map(|(number, _)| *number).collect();
        due.sort_unstable(); // in the order in which they came: so they are stored
        if here.bound && here.im_bindings(now).is_empty() {
            self.settle_bound(now, ctx);
            self.publish();
        }
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
        self.watch_rang(now);
        self.ask_to_leave(ctx);
        self.turn_took(began, ctx);
    }

    /// With nothing to do for long enough, asks the nursery to leave; asks again while it is refused.
    fn ask_to_leave(&mut self, ctx: &mut Context<Self>) {
        let quiet = match &self.state {
            State::Loading(_) => false,
            State::Elsewhere(_) | State::Failed => true,
            State::Here(here) => {
                let is_still = !here.is_trying() && here.watch.is_empty();
                is_still && here.writes == 0 && here.mailbox.is_idle() && here.late.is_empty()
            }
        };
        let now = self.house.now().at;
        let idle = now.saturating_duration_since(self.busy_at) >= self.house.config.user_idle;
        if idle {
            if quiet {
                let _ = self.nursery.try_send(MayLeave { child: self.child, handled: self.handled });
            }
            // Asked again after as long, whether it may not leave or has letters that wait for their next try.
            self.busy_at = now;
        }
        self.arm(ctx);
    }
}

/// What a commit said in time; else the commit itself, whose outcome nobody knows yet (decisions D22).
async fn in_time<T>(mut commit: Ask<T>) -> Result<Result<T, StoreError>, Ask<T>> {
    let outcome = tokio::time::timeout(COMMIT_TIME_MAX, &mut commit).await;
    outcome.map_err(|_| commit)
}

impl Here {
    fn new(house: &House, account: Option<Account>, durable: Vec<Binding>, tally: im::deferred::Tally) -> Self {
        let (letters_max, bytes_max) = (house.config.letters_per_user, house.config.letter_bytes_per_user);
        Self {
            account,
            is_guest: false,
            bindings: durable.clone().into(),
            durable: Durable::of(durable.into()),
            mailbox: Mailbox::new(im::deferred::Quota { letters_max, bytes_max }, tally),
            bound: false,
            queued: false,
            letters: HashMap::new(),
            leaving: Vec::new(),
            removing: false,
            unread: Vec::new(),
            tries: HashMap::new(),
            // Numbers of two actors of one user never meet: answers to what a dead one asked are not taken for others.
            next_try: house.ids.next_u64() as u32 >> 1,
            locating: 0,
            writes: 0,
            registers: (0, 0),
            rereading: None,
            waiting: VecDeque::new(),
            late: VecDeque::new(),
            watch: Watch::default(),
        }
    }

    /// When the last contact that letters can go to is over.
    fn binding_ends(&self, now: Now) -> Option<Instant> {
        let last = self.im_bindings(now).iter().map(|binding| binding.expires_unix_s).max()?;
        let left_ms = last.saturating_mul(1_000).saturating_sub(now.unix_ms);
        now.at.checked_add(Duration::from_millis(left_ms)).filter(|_| self.bound)
    }
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "device_tests.rs"]
mod device_tests;
