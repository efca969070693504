//! The supervisor of the many: starts a user's actor when something is offered to it, and lets it leave when it has
//! nothing to do. One nursery a shard, on the shard's own thread.
//!
//! Bound: [`NURSERY_MAILBOX_MAX`] batches, [`ACTIVE_USERS_PER_SHARD_MAX`] children; past it an offer is dropped, and its
//! sender hears 503. A child that panics ends alone: what waited for its answers gets 503 (each [`Answer`] carries its
//! own will), and the next offer starts it anew from the store. A user whose actor dies again and again rests for a
//! while; too many deaths of any bring the nursery itself down.
//!
//! [`Answer`]: crate::transactions::Answer

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::Aor;
use base::limits::{ACTIVE_USERS_PER_SHARD_MAX, NURSERY_MAILBOX_MAX, USER_MAILBOX_MAX};
use hashbrown::HashMap;

use crate::message::{Offer, Offers};
use crate::metrics::{Count, Metrics};
use crate::node::{Node, State};
use crate::supervise::{Fall, Fell, Intensity, Leave, Lifeline, clock, remember};

/// Deaths of one user's actor that are borne before it must rest.
const USER_DEATHS: Intensity = Intensity { deaths: 5, within: Duration::from_secs(10) };
/// Deaths of all users' actors that a nursery bears.
const ALL_DEATHS: Intensity = Intensity { deaths: 200, within: Duration::from_secs(10) };

/// One offer, for the actor of the user whom it is for.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Offered(pub Offer);

/// A user's actor has nothing to do, having handled so many offers: may it leave?
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct MayLeave {
    /// Who asks.
    pub child: usize,
    /// How many offers it has handled.
    pub handled: u64,
}

/// What ties a user's actor to its nursery.
#[derive(Debug)]
pub struct Ties {
    /// Its number among its nursery's children.
    pub child: usize,
    /// Held for as long as it lives.
    pub lifeline: Lifeline,
    /// Whom to ask before leaving.
    pub nursery: Recipient<MayLeave>,
    /// How it is shown.
    pub node: Arc<Node>,
}

/// How a nursery is spoken to by its children.
pub struct Handles {
    /// For offers.
    pub offers: Recipient<Offered>,
    /// For the end.
    pub leave: Recipient<Leave>,
}

struct Live {
    child: usize,
    handles: Handles,
    sent: u64,
    node: Arc<Node>,
}

type Plant = Box<dyn Fn(Aor, Ties) -> Handles>;

/// A shard's users.
pub struct Nursery {
    node: Arc<Node>,
    metrics: Arc<Metrics>,
    plant: Plant,
    live: HashMap<Aor, Live>,
    names: HashMap<usize, Aor>,
    next: usize,
    deaths: VecDeque<Instant>,
    deaths_of: HashMap<Aor, VecDeque<Instant>>,
    lifeline: Option<Lifeline>,
}

impl Nursery {
    /// Starts one on this thread; `plant` starts a user's actor there.
    pub fn start_here(
        node: Arc<Node>,
        metrics: Arc<Metrics>,
        lifeline: Lifeline,
        plant: impl Fn(Aor, Ties) -> Handles + 'static,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            // Before the first offer comes, not when it starts.
            ctx.set_mailbox_capacity(NURSERY_MAILBOX_MAX);
            Self::new(node, metrics, lifeline, plant)
        })
    }

    fn new(
        node: Arc<Node>,
        metrics: Arc<Metrics>,
        lifeline: Lifeline,
        plant: impl Fn(Aor, Ties) -> Handles + 'static,
    ) -> Self {
        Self {
            node,
            metrics,
            plant: Box::new(plant),
            live: HashMap::new(),
            names: HashMap::new(),
            next: 0,
            deaths: VecDeque::new(),
            deaths_of: HashMap::new(),
            lifeline: Some(lifeline),
        }
    }

    fn hand_on(&mut self, to: Aor, offer: Offer, ctx: &mut Context<Self>) {
        if self.must_rest(&to) {
            return; // dropped: 503
        }
        if !self.live.contains_key(&to) {
            if let Offer::AccountChanged(_) = offer {
                return; // nobody holds what was before: the next start reads what is
            }
            if self.live.len() >= ACTIVE_USERS_PER_SHARD_MAX {
                return;
            }
            self.activate(&to, ctx);
        }
        let Some(live) = self.live.get_mut(&to) else { return };
        self.node.child_queued(live.node.queued());
        match live.handles.offers.try_send(Offered(offer)) {
            Ok(()) => live.sent += 1,
            // Full or gone: the refusal carries the offer, and with it the answer that becomes 503.
            Err(_) => live.node.taken(),
        }
    }

    fn activate(&mut self, to: &Aor, ctx: &mut Context<Self>) {
        self.next += 1;
        let child = self.next;
        let node = Node::new(to.as_str(), "user", USER_MAILBOX_MAX);
        let lifeline = Lifeline::new(ctx.address().recipient(), child, 0);
        let ties = Ties { child, lifeline, nursery: ctx.address().recipient(), node: node.clone() };
        let handles = (self.plant)(to.clone(), ties);
        self.node.adopt(node.clone());
        self.names.insert(child, to.clone());
        self.live.insert(to.clone(), Live { child, handles, sent: 0, node });
        self.metrics.count(Count::Activated);
    }

    /// Whether this user's actor has died too often of late.
    fn must_rest(&mut self, user: &Aor) -> bool {
        let Some(deaths) = self.deaths_of.get(user) else { return false };
        match deaths.back() {
            Some(last) if clock().duration_since(*last) > USER_DEATHS.within => {
                self.deaths_of.remove(user);
                false
            }
            _ => deaths.len() > USER_DEATHS.deaths,
        }
    }

    fn forget(&mut self, child: usize) -> Option<(Aor, Live)> {
        let name = self.names.remove(&child)?;
        let live = self.live.remove(&name)?;
        self.node.release(&live.node);
        Some((name, live))
    }
}

impl Actor for Nursery {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.node.set(State::Running);
    }
}

/// However it ends, no child outlives it: an orphan and its successor would both speak for one user.
impl Drop for Nursery {
    fn drop(&mut self) {
        for (_, live) in self.live.drain() {
            self.node.release(&live.node);
            live.handles.leave.do_send(Leave::AtOnce);
        }
    }
}

impl Handler<Offers> for Nursery {
    type Result = ();

    fn handle(&mut self, offers: Offers, ctx: &mut Self::Context) {
        let began = Instant::now();
        self.node.taken();
        for (to, offer) in offers.0 {
            self.hand_on(to, offer, ctx);
        }
        self.node.turn_took(began.elapsed());
    }
}

impl Handler<MayLeave> for Nursery {
    type Result = ();

    fn handle(&mut self, ask: MayLeave, _: &mut Self::Context) {
        // Only when nothing is on its way to it: both run on this thread, so the count cannot move in between.
        let name = self.names.get(&ask.child);
        let Some(live) = name.and_then(|name| self.live.get(name)) else { return };
        if live.child == ask.child
            && live.sent == ask.handled
            && let Some((_, live)) = self.forget(ask.child)
        {
            live.handles.leave.do_send(Leave::Soon);
            self.metrics.count(Count::Passivated);
        }
    }
}

impl Handler<Fell> for Nursery {
    type Result = ();

    fn handle(&mut self, fell: Fell, ctx: &mut Self::Context) {
        let fallen = self.forget(fell.child());
        if fell.is_orderly() {
            return;
        }
        let Some((name, _)) = fallen else { return };
        self.node.restarted();
        let now = clock();
        tracing::debug!(user = %name, "User's actor fell");
        tracing::warn!(nursery = %self.node.name, "A user's actor fell");
        remember(self.deaths_of.entry(name).or_default(), now, USER_DEATHS.within);
        remember(&mut self.deaths, now, ALL_DEATHS.within);
        if self.deaths_of.len() > ALL_DEATHS.deaths {
            self.deaths_of
                .retain(|_, deaths| deaths.back().is_some_and(|last| now.duration_since(*last) <= USER_DEATHS.within));
        }
        if self.deaths.len() > ALL_DEATHS.deaths {
            tracing::error!(nursery = %self.node.name, "Nursery gives up: too many deaths");
            ctx.stop();
        }
    }
}

impl Handler<Leave> for Nursery {
    type Result = ();

    fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
        for (_, live) in self.live.drain() {
            self.node.release(&live.node);
            live.handles.leave.do_send(how);
        }
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl Handler<Fall> for Nursery {
    type Result = ();

    fn handle(&mut self, mut fall: Fall, ctx: &mut Self::Context) {
        let Some(name) = fall.below() else { fall.now() };
        // A user's actor falls by an offer, which is how everything comes to it.
        if let Ok(user) = Aor::parse(&name) {
            self.hand_on(user, Offer::Panic, ctx);
        }
    }
}
