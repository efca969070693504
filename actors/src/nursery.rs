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

use crate::brood::{Brood, HAND, Handles, MayLeave, START, Sliced, Slices, Ties};
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

type Plant = Box<dyn Fn(Aor, Ties) -> Handles<Offered>>;

/// A shard's users.
pub struct Nursery {
    metrics: Arc<Metrics>,
    plant: Plant,
    brood: Brood<Aor, Offered>,
    waiting: Slices<(Aor, Offer)>,
    deaths_of: HashMap<Aor, VecDeque<Instant>>,
    /// Children at once.
    bound: usize,
}

impl Nursery {
    /// Starts one on this thread; `plant` starts a user's actor there.
    pub fn start_here(
        node: Arc<Node>,
        metrics: Arc<Metrics>,
        lifeline: Lifeline,
        plant: impl Fn(Aor, Ties) -> Handles<Offered> + 'static,
    ) -> Addr<Self> {
        Self::start_bounded(node, metrics, lifeline, plant, ACTIVE_USERS_PER_SHARD_MAX)
    }

    fn start_bounded(
        node: Arc<Node>,
        metrics: Arc<Metrics>,
        lifeline: Lifeline,
        plant: impl Fn(Aor, Ties) -> Handles<Offered> + 'static,
        bound: usize,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            // Before the first offer comes, not when it starts.
            ctx.set_mailbox_capacity(NURSERY_MAILBOX_MAX);
            Self {
                metrics,
                plant: Box::new(plant),
                brood: Brood::new(node, ALL_DEATHS, lifeline),
                waiting: Slices::default(),
                deaths_of: HashMap::new(),
                bound,
            }
        })
    }

    fn activate(&mut self, to: &Aor, ctx: &mut Context<Self>) {
        let ties = self.brood.ties(&ctx.address(), to.as_str(), "user", USER_MAILBOX_MAX);
        let (child, node) = (ties.child, ties.node.clone());
        let handles = (self.plant)(to.clone(), ties);
        self.brood.adopt(to.clone(), child, node, handles);
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
}

impl Sliced<(Aor, Offer)> for Nursery {
    fn slices(&mut self) -> &mut Slices<(Aor, Offer)> {
        &mut self.waiting
    }

    fn shown(&self) -> &Node {
        self.brood.node()
    }

    /// What is not handed on is dropped: 503.
    fn hand_on(&mut self, (to, offer): (Aor, Offer), ctx: &mut Context<Self>) -> usize {
        if self.must_rest(&to) {
            return HAND;
        }
        let Err(Offered(offer)) = self.brood.hand(&to, Offered(offer)) else { return HAND };
        // Of an account that was changed nobody holds what was before: the next start reads what is.
        if matches!(offer, Offer::AccountChanged(_)) || self.brood.count() >= self.bound {
            return HAND;
        }
        self.activate(&to, ctx);
        let _ = self.brood.hand(&to, Offered(offer));
        START
    }
}

impl Actor for Nursery {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.brood.node().set(State::Running);
    }
}

impl Handler<Offers> for Nursery {
    type Result = ();

    fn handle(&mut self, offers: Offers, ctx: &mut Self::Context) {
        self.brood.node().taken();
        self.take_batch(offers.0, ctx);
    }
}

impl Handler<MayLeave> for Nursery {
    type Result = ();

    fn handle(&mut self, ask: MayLeave, _: &mut Self::Context) {
        if self.brood.let_go(&ask).is_some() {
            self.metrics.count(Count::Passivated);
        }
    }
}

impl Handler<Fell> for Nursery {
    type Result = ();

    fn handle(&mut self, fell: Fell, ctx: &mut Self::Context) {
        let Some(name) = self.brood.fallen(&fell) else { return };
        let now = clock();
        tracing::debug!(user = %name, "User's actor fell");
        tracing::warn!(nursery = %self.brood.node().name, "A user's actor fell");
        remember(self.deaths_of.entry(name).or_default(), now, USER_DEATHS.within);
        if self.deaths_of.len() > ALL_DEATHS.deaths {
            self.deaths_of
                .retain(|_, deaths| deaths.back().is_some_and(|last| now.duration_since(*last) <= USER_DEATHS.within));
        }
        if self.brood.is_too_much() {
            ctx.stop();
        }
    }
}

impl Handler<Leave> for Nursery {
    type Result = ();

    fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
        self.brood.leave(how);
        ctx.stop();
    }
}

impl Handler<Fall> for Nursery {
    type Result = ();

    fn handle(&mut self, mut fall: Fall, ctx: &mut Self::Context) {
        let Some(name) = fall.below() else { fall.now() };
        // A user's actor falls by an offer, which is how everything comes to it.
        if let Ok(user) = Aor::parse(&name) {
            self.hand_on((user, Offer::Panic), ctx);
        }
    }
}

#[cfg(test)]
#[path = "nursery_tests.rs"]
mod tests;
