//! The supervisor of a shard's sessions and passages: starts an actor for each INVITE and for what forks, hands on what
//! comes for it, and carries out its will when it falls.
//!
//! Bound: [`NURSERY_MAILBOX_MAX`] batches, [`SESSIONS_PER_SHARD_MAX`] sessions; past it an INVITE is dropped, and its
//! sender hears 503. A session whose actor panics ends, alone: a second actor over its estate refuses what is owed, takes
//! back what rings and hangs up on both sides (decisions D20). Too many deaths bring the nursery down; the next one does
//! the same for all sessions of the one before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::limits::{NURSERY_MAILBOX_MAX, SESSION_MAILBOX_MAX, SESSIONS_PER_SHARD_MAX};
use hashbrown::HashMap;

use crate::house::House;
use crate::message::{SessionInput, SessionInputs, SessionKey};
use crate::metrics::Count;
use crate::node::{Node, State};
use crate::nursery::MayLeave;
use crate::passage;
use crate::session::{self, Shared};
use crate::supervise::{Fall, Fell, Intensity, Leave, Lifeline, clock, remember};
use crate::turn;

/// Deaths of sessions that a nursery bears.
const DEATHS: Intensity = Intensity { deaths: 200, within: Duration::from_secs(10) };

/// One input, for the session that it is for.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Handed(pub SessionInput);

/// What ties a session's actor to its nursery.
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

/// How a nursery speaks to a session.
pub struct Handles {
    /// For inputs.
    pub inputs: Recipient<Handed>,
    /// For the end.
    pub leave: Recipient<Leave>,
}

struct Live {
    key: SessionKey,
    handles: Handles,
    sent: u64,
    node: Arc<Node>,
    /// It only closes what another has left open: nobody does the same for it.
    is_last: bool,
}

/// A shard's sessions.
pub struct SessionNursery {
    house: Arc<House>,
    shard: usize,
    node: Arc<Node>,
    /// By number: a child's number in the tree is its session's.
    live: HashMap<u32, Live>,
    deaths: VecDeque<Instant>,
    lifeline: Option<Lifeline>,
}

impl SessionNursery {
    /// Starts one on this thread.
    pub fn start_here(house: Arc<House>, shard: usize, node: Arc<Node>, lifeline: Lifeline) -> Addr<Self> {
        Self::create(|ctx| {
            // Before the first input comes, not when it starts.
            ctx.set_mailbox_capacity(NURSERY_MAILBOX_MAX);
            Self { house, shard, node, live: HashMap::new(), deaths: VecDeque::new(), lifeline: Some(lifeline) }
        })
    }

    fn hand_on(&mut self, key: SessionKey, input: SessionInput, ctx: &mut Context<Self>) {
        let input = match input {
            SessionInput::Invite(invite) => {
                let plant = |house: &_, estate, ties| session::plant(house, key, invite, estate, ties);
                return self.begin(key, "session", plant, ctx);
            }
            SessionInput::Passage(passage) => {
                let plant = |house: &_, estate, ties| passage::plant(house, key, *passage, estate, ties);
                return self.begin(key, "passage", plant, ctx);
            }
            input => input,
        };
        // The number alone is no proof: who does not know the secret speaks to nobody.
        let Some(live) = self.live.get_mut(&key.number).filter(|live| live.key == key) else {
            return self.unknown(input);
        };
        self.node.child_queued(live.node.queued());
        match live.handles.inputs.try_send(Handed(input)) {
            Ok(()) => live.sent += 1,
            // Full or gone: the refusal carries the input, and with it the answer that becomes 503.
            Err(_) => live.node.taken(),
        }
    }

    fn begin(
        &mut self,
        key: SessionKey,
        kind: &'static str,
        plant: impl FnOnce(&Arc<House>, Shared, Ties) -> Option<Handles>,
        ctx: &mut Context<Self>,
    ) {
        if self.live.len() >= SESSIONS_PER_SHARD_MAX || self.live.contains_key(&key.number) {
            return; // dropped: 503
        }
        let estate = Shared::default();
        let (ties, node) = self.ties(key, kind, ctx);
        if let Some(handles) = plant(&self.house, estate.clone(), ties) {
            self.house.sessions.keep(key, estate);
            self.adopt(key, handles, node, false);
        }
    }

    fn bury(&mut self, key: SessionKey, estate: Shared, ctx: &mut Context<Self>) {
        let is_passage = estate.lock().is_passage;
        let (kind, bury) = match is_passage {
            true => ("passage", passage::bury as fn(&_, _, _, _) -> _),
            false => ("session", session::bury as _),
        };
        let (ties, node) = self.ties(key, kind, ctx);
        let handles = bury(&self.house, key, estate.clone(), ties);
        self.house.sessions.keep(key, estate);
        self.adopt(key, handles, node, true);
    }

    fn ties(&self, key: SessionKey, kind: &'static str, ctx: &mut Context<Self>) -> (Ties, Arc<Node>) {
        let node = Node::new(key.number.to_string(), kind, SESSION_MAILBOX_MAX);
        let child = key.number as usize;
        let lifeline = Lifeline::new(ctx.address().recipient(), child, 0);
        (Ties { child, lifeline, nursery: ctx.address().recipient(), node: node.clone() }, node)
    }

    fn adopt(&mut self, key: SessionKey, handles: Handles, node: Arc<Node>, is_last: bool) {
        self.node.adopt(node.clone());
        self.live.insert(key.number, Live { key, handles, sent: 0, node, is_last });
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

    fn forget(&mut self, number: usize) -> Option<Live> {
        let live = self.live.remove(&u32::try_from(number).ok()?)?;
        self.node.release(&live.node);
        Some(live)
    }
}

impl Actor for SessionNursery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        for (key, estate) in self.house.sessions.left_by(self.shard) {
            self.bury(key, estate, ctx);
        }
    }
}

/// However it ends, no child outlives it: its estate is the next nursery's to close.
impl Drop for SessionNursery {
    fn drop(&mut self) {
        for (_, live) in self.live.drain() {
            self.node.release(&live.node);
            live.handles.leave.do_send(Leave::AtOnce);
        }
    }
}

impl Handler<SessionInputs> for SessionNursery {
    type Result = ();

    fn handle(&mut self, inputs: SessionInputs, ctx: &mut Self::Context) {
        let began = Instant::now();
        self.node.taken();
        for (key, input) in inputs.0 {
            self.hand_on(key, input, ctx);
        }
        self.node.turn_took(began.elapsed());
    }
}

impl Handler<MayLeave> for SessionNursery {
    type Result = ();

    fn handle(&mut self, ask: MayLeave, _: &mut Self::Context) {
        // Only when nothing is on its way to it: both run on this thread, so the count cannot move in between.
        let live = u32::try_from(ask.child).ok().and_then(|number| self.live.get(&number));
        if live.is_some_and(|live| live.sent == ask.handled)
            && let Some(live) = self.forget(ask.child)
        {
            live.handles.leave.do_send(Leave::Soon);
        }
    }
}

impl Handler<Fell> for SessionNursery {
    type Result = ();

    fn handle(&mut self, fell: Fell, ctx: &mut Self::Context) {
        let fallen = self.forget(fell.child());
        if fell.is_orderly() {
            return;
        }
        let Some(Live { key, is_last, .. }) = fallen else { return };
        let estate = self.house.sessions.release(key);
        self.node.restarted();
        tracing::warn!(nursery = %self.node.name, session = key.number, "A session's actor fell");
        if let Some(estate) = estate.filter(|_| !is_last) {
            self.bury(key, estate, ctx);
        }
        remember(&mut self.deaths, clock(), DEATHS.within);
        if self.deaths.len() > DEATHS.deaths {
            tracing::error!(nursery = %self.node.name, "Nursery gives up: too many deaths");
            ctx.stop();
        }
    }
}

impl Handler<Leave> for SessionNursery {
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

impl Handler<Fall> for SessionNursery {
    type Result = ();

    fn handle(&mut self, mut fall: Fall, ctx: &mut Self::Context) {
        let Some(name) = fall.below() else { fall.now() };
        // A session falls by an input, which is how everything comes to it.
        let live = name.parse().ok().and_then(|number: u32| self.live.get(&number));
        if let Some(key) = live.map(|live| live.key) {
            self.hand_on(key, SessionInput::Panic, ctx);
        }
    }
}
