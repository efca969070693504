//! The supervisor of a shard's sessions and passages: starts an actor for each INVITE and for what forks, hands on what
//! comes for it, and carries out its will when it falls.
//!
//! Bound: [`NURSERY_MAILBOX_MAX`] batches, [`SESSIONS_PER_SHARD_MAX`] sessions; past it an INVITE is dropped, and its
//! sender hears 503. A session whose actor panics ends, alone: a second actor over its estate refuses what is owed, takes
//! back what rings and hangs up on both sides (decisions D20). Too many deaths bring the nursery down; the next one does
//! the same for all sessions of the one before.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use base::limits::{NURSERY_MAILBOX_MAX, SESSION_MAILBOX_MAX, SESSIONS_PER_SHARD_MAX};
use hashbrown::HashSet;

use crate::brood::{Brood, HAND, Handles, MayLeave, START, Sliced, Slices, Ties};
use crate::house::House;
use crate::message::{SessionInput, SessionInputs, SessionKey};
use crate::metrics::Count;
use crate::node::{Node, State};
use crate::passage;
use crate::session::{self, Shared};
use crate::supervise::{Fall, Fell, Intensity, Leave, Lifeline};
use crate::turn;

/// Deaths of sessions that a nursery bears.
const DEATHS: Intensity = Intensity { deaths: 200, within: Duration::from_secs(10) };

/// What beginning a session costs a turn: its description is read, answers and a request are written.
const BEGIN: usize = 4 * START;

/// One input, for the session that it is for.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Handed(pub SessionInput);

/// A shard's sessions.
pub struct SessionNursery {
    house: Arc<House>,
    shard: usize,
    /// By the whole key: the number alone is no proof, and who does not know the secret speaks to nobody.
    brood: Brood<SessionKey, Handed>,
    waiting: Slices<(SessionKey, SessionInput)>,
    /// Those that only close what another has left open: nobody does the same for them.
    last: HashSet<SessionKey>,
}

impl SessionNursery {
    /// Starts one on this thread.
    pub fn start_here(house: Arc<House>, shard: usize, node: Arc<Node>, lifeline: Lifeline) -> Addr<Self> {
        Self::create(|ctx| {
            // Before the first input comes, not when it starts.
            ctx.set_mailbox_capacity(NURSERY_MAILBOX_MAX);
            let brood = Brood::new(node, DEATHS, lifeline);
            Self { house, shard, brood, waiting: Slices::default(), last: HashSet::new() }
        })
    }

    fn begin(
        &mut self,
        key: SessionKey,
        kind: &'static str,
        plant: impl FnOnce(&Arc<House>, Shared, Ties) -> Option<Handles<Handed>>,
        ctx: &mut Context<Self>,
    ) {
        if self.brood.count() >= SESSIONS_PER_SHARD_MAX || self.brood.has(&key) {
            return; // dropped: 503
        }
        let estate = Shared::default();
        let ties = self.ties(key, kind, ctx);
        let (child, node) = (ties.child, ties.node.clone());
        if let Some(handles) = plant(&self.house, estate.clone(), ties) {
            self.house.sessions.keep(key, estate);
            self.brood.adopt(key, child, node, handles);
        }
    }

    fn bury(&mut self, key: SessionKey, estate: Shared, ctx: &mut Context<Self>) {
        let is_passage = estate.lock().is_passage;
        let (kind, bury) = match is_passage {
            true => ("passage", passage::bury as fn(&_, _, _, _) -> _),
            false => ("session", session::bury as _),
        };
        let ties = self.ties(key, kind, ctx);
        let (child, node) = (ties.child, ties.node.clone());
        let handles = bury(&self.house, key, estate.clone(), ties);
        self.house.sessions.keep(key, estate);
        self.brood.adopt(key, child, node, handles);
        self.last.insert(key);
    }

    fn ties(&mut self, key: SessionKey, kind: &'static str, ctx: &mut Context<Self>) -> Ties {
        self.brood.ties(&ctx.address(), &key.number.to_string(), kind, SESSION_MAILBOX_MAX)
    }

    /// For a session that has ended, or never was.
    fn unknown(&self, input: SessionInput) {
        let now = self.house.now();
        match input {
            SessionInput::Request(within) => {
                turn::fill_later(|turn| within.answer.send(turn, now, 481, b""));
            }
            SessionInput::Response(_) => self.house.metrics.count(Count::Strays),
            _ => {}
        }
    }
}

impl Sliced<(SessionKey, SessionInput)> for SessionNursery {
    fn slices(&mut self) -> &mut Slices<(SessionKey, SessionInput)> {
        &mut self.waiting
    }

    fn shown(&self) -> &Node {
        self.brood.node()
    }

    fn hand_on(&mut self, (key, input): (SessionKey, SessionInput), ctx: &mut Context<Self>) -> usize {
        let input = match input {
            SessionInput::Invite(invite) => {
                let plant = |house: &_, estate, ties| session::plant(house, key, invite, estate, ties);
                self.begin(key, "session", plant, ctx);
                return BEGIN;
            }
            SessionInput::Passage(passage) => {
                let plant = |house: &_, estate, ties| passage::plant(house, key, *passage, estate, ties);
                self.begin(key, "passage", plant, ctx);
                return BEGIN;
            }
            input => input,
        };
        if let Err(Handed(input)) = self.brood.hand(&key, Handed(input)) {
            self.unknown(input);
        }
        HAND
    }
}

impl Actor for SessionNursery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.brood.node().set(State::Running);
        for (key, estate) in self.house.sessions.left_by(self.shard) {
            self.bury(key, estate, ctx);
        }
    }
}

impl Handler<SessionInputs> for SessionNursery {
    type Result = ();

    fn handle(&mut self, inputs: SessionInputs, ctx: &mut Self::Context) {
        self.brood.node().taken();
        self.take_batch(inputs.0, ctx);
    }
}

impl Handler<MayLeave> for SessionNursery {
    type Result = ();

    fn handle(&mut self, ask: MayLeave, _: &mut Self::Context) {
        if let Some(key) = self.brood.let_go(&ask) {
            self.last.remove(&key);
        }
    }
}

impl Handler<Fell> for SessionNursery {
    type Result = ();

    fn handle(&mut self, fell: Fell, ctx: &mut Self::Context) {
        let Some(key) = self.brood.fallen(&fell) else { return };
        let estate = self.house.sessions.release(key);
        tracing::warn!(nursery = %self.brood.node().name, session = key.number, "A session's actor fell");
        let was_last = self.last.remove(&key);
        if let Some(estate) = estate.filter(|_| !was_last) {
            self.bury(key, estate, ctx);
        }
        if self.brood.is_too_much() {
            ctx.stop();
        }
    }
}

impl Handler<Leave> for SessionNursery {
    type Result = ();

    fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
        self.brood.leave(how);
        ctx.stop();
    }
}

impl Handler<Fall> for SessionNursery {
    type Result = ();

    fn handle(&mut self, mut fall: Fall, ctx: &mut Self::Context) {
        let Some(name) = fall.below() else { fall.now() };
        // A session falls by an input, which is how everything comes to it.
        let key =
            name.parse().ok().and_then(|number: u32| self.brood.names().find(|key| key.number == number).copied());
        if let Some(key) = key {
            self.hand_on((key, SessionInput::Panic), ctx);
        }
    }
}
