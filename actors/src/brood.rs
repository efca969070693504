//! What a nursery keeps of its many children, whoever they are: who lives, what was handed to each, and how many have died
//! of late.
//!
//! A nursery takes no longer turn for having a million of them: tables grow a stripe at a time, and what comes in one batch
//! is handed on in slices ([`Sliced`]), between which the shard does other work (decisions D15).

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use hashbrown::{DefaultHashBuilder, HashMap};

use crate::node::Node;
use crate::pace::pause;
use crate::supervise::{Fell, Intensity, Leave, Lifeline, clock, remember};

/// Parts of a table, each of which grows for itself: at a million children one holds a thousand.
const STRIPES: usize = 1_024;
/// What a turn may spend, as costs of handing on: a microsecond or less each.
const SPENT_A_TURN: usize = 64;
/// What starting a child costs, in the same coin.
pub const START: usize = 8;
/// What handing on to one that lives costs.
pub const HAND: usize = 1;

/// A child has nothing to do, having handled so many inputs: may it leave?
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct MayLeave {
    /// Who asks.
    pub child: usize,
    /// How many inputs it has handled.
    pub handled: u64,
}

/// What ties a child to its nursery.
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

/// How a nursery speaks to a child.
pub struct Handles<M: Message<Result = ()> + Send> {
    /// For inputs.
    pub inputs: Recipient<M>,
    /// For the end.
    pub leave: Recipient<Leave>,
}

impl<M: Message<Result = ()> + Send + 'static> Handles<M> {
    /// To a living thing.
    pub fn to<A>(child: Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<M> + Handler<Leave>,
    {
        Self { inputs: child.clone().recipient(), leave: child.recipient() }
    }
}

/// One child that lives.
struct Live<M: Message<Result = ()> + Send> {
    child: usize,
    handles: Handles<M>,
    sent: u64,
    node: Arc<Node>,
}

/// The children of a nursery, by name.
pub struct Brood<K, M: Message<Result = ()> + Send> {
    node: Arc<Node>,
    bears: Intensity,
    live: Striped<K, Box<Live<M>>>,
    names: Striped<usize, K>,
    next: usize,
    deaths: VecDeque<Instant>,
    lifeline: Option<Lifeline>,
}

impl<K: Hash + Eq + Clone, M: Message<Result = ()> + Send> Brood<K, M> {
    /// Nobody yet. A nursery `bears` so many deaths before it falls itself.
    pub fn new(node: Arc<Node>, bears: Intensity, lifeline: Lifeline) -> Self {
        let (live, names) = (Striped::default(), Striped::default());
        Self { node, bears, live, names, next: 0, deaths: VecDeque::new(), lifeline: Some(lifeline) }
    }

    /// How the nursery is shown.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// How many live.
    pub fn count(&self) -> usize {
        self.live.len
    }

    /// All who live: a walk over every stripe, for what is rare.
    pub fn names(&self) -> impl Iterator<Item = &K> {
        self.names.values()
    }

    /// Whether one of this name lives.
    pub fn has<Q>(&self, name: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.live.get(name).is_some()
    }

    /// What a new child of `nursery` is to hold.
    pub fn ties<N>(&mut self, nursery: &Addr<N>, shown: &str, kind: &'static str, mailbox: usize) -> Ties
    where
        N: Actor<Context = Context<N>> + Handler<Fell> + Handler<MayLeave>,
    {
        self.next += 1;
        Ties {
            child: self.next,
            lifeline: Lifeline::new(nursery.clone().recipient(), self.next, 0),
            nursery: nursery.clone().recipient(),
            node: Node::below(&self.node, shown, kind, mailbox),
        }
    }

    /// A child was started with such ties.
    pub fn adopt(&mut self, name: K, child: usize, node: Arc<Node>, handles: Handles<M>) {
        self.node.adopt(node.clone());
        self.names.insert(child, name.clone());
        self.live.insert(name, Box::new(Live { child, handles, sent: 0, node }));
    }

    /// Hands an input to a child; what nobody of this name is there for comes back. One whose mailbox is full, or who has
    /// just ended, refuses it: it is dropped, and the answer that it carries becomes 503.
    pub fn hand<Q>(&mut self, name: &Q, input: M) -> Result<(), M>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(live) = self.live.get_mut(name) else { return Err(input) };
        self.node.child_queued(live.node.queued());
        match live.handles.inputs.try_send(input) {
            Ok(()) => live.sent += 1,
            Err(_) => live.node.taken(),
        }
        Ok(())
    }

    /// Lets a child go that has nothing to do, if nothing is on its way to it: both run on one thread, so the count cannot
    /// move in between. Who it was.
    pub fn let_go(&mut self, ask: &MayLeave) -> Option<K> {
        let live = self.live.get(self.names.get(&ask.child)?)?;
        if live.child != ask.child || live.sent != ask.handled {
            return None;
        }
        let (name, live) = self.forget(ask.child)?;
        live.handles.leave.do_send(Leave::Soon);
        Some(name)
    }

    /// A child has ended. Who, if it did not mean to.
    pub fn fallen(&mut self, fell: &Fell) -> Option<K> {
        let (name, _) = self.forget(fell.child())?;
        if fell.is_orderly() {
            return None;
        }
        self.node.restarted();
        remember(&mut self.deaths, clock(), self.bears.within);
        Some(name)
    }

    /// Whether more have died of late than the nursery bears.
    pub fn is_too_much(&self) -> bool {
        let is_too_much = self.deaths.len() > self.bears.deaths;
        if is_too_much {
            tracing::error!(nursery = %self.node.name, "Nursery gives up: too many deaths");
        }
        is_too_much
    }

    /// All are told to leave, and the nursery's parent that it means to.
    pub fn leave(&mut self, how: Leave) {
        self.dismiss(how);
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
    }

    fn dismiss(&mut self, how: Leave) {
        for (_, live) in self.live.drain() {
            self.node.release(&live.node);
            live.handles.leave.do_send(how);
        }
    }

    fn forget(&mut self, child: usize) -> Option<(K, Box<Live<M>>)> {
        let name = self.names.remove(&child)?;
        let live = self.live.remove(&name)?;
        self.node.release(&live.node);
        Some((name, live))
    }
}

/// However a nursery ends, no child outlives it: an orphan and its successor would both speak for one name.
impl<K, M: Message<Result = ()> + Send> Drop for Brood<K, M> {
    fn drop(&mut self) {
        for live in self.live.values() {
            self.node.release(&live.node);
            live.handles.leave.do_send(Leave::AtOnce);
        }
    }
}

/// What has come and is not handed on yet. While something is left, its nursery takes nothing else from its mailbox: the
/// order stands, and the mailbox's bound.
pub struct Slices<I> {
    waiting: VecDeque<I>,
    spent: usize,
}

impl<I> Default for Slices<I> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), spent: 0 }
    }
}

/// A nursery that hands on in slices.
pub trait Sliced<I: 'static>: Actor<Context = Context<Self>> {
    /// What waits in it.
    fn slices(&mut self) -> &mut Slices<I>;

    /// How it is shown.
    fn shown(&self) -> &Node;

    /// One input goes on; what that cost, [`START`] or [`HAND`].
    fn hand_on(&mut self, input: I, ctx: &mut Context<Self>) -> usize;

    /// A batch has come: as much of it as a turn has time for is handed on, the others follow in turns of their own.
    fn take_batch(&mut self, batch: Vec<I>, ctx: &mut Context<Self>) {
        self.slices().waiting.extend(batch);
        self.go_on(ctx);
    }

    /// One turn's worth of what waits.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        let began = Instant::now();
        while self.slices().spent < SPENT_A_TURN
            && let Some(input) = self.slices().waiting.pop_front()
        {
            self.slices().spent += self.hand_on(input, ctx);
        }
        self.shown().turn_took(began.elapsed());
        if self.slices().spent >= SPENT_A_TURN {
            self.slices().spent = 0;
            ctx.wait(pause().map(|(), this: &mut Self, ctx| this.go_on(ctx)));
        }
    }
}

/// A table that grows a part at a time: moving all of a large one takes milliseconds.
struct Striped<K, V> {
    hasher: DefaultHashBuilder,
    stripes: Box<[HashMap<K, V>]>,
    len: usize,
}

impl<K, V> Default for Striped<K, V> {
    fn default() -> Self {
        let stripes = (0..STRIPES).map(|_| HashMap::default()).collect();
        Self { hasher: DefaultHashBuilder::default(), stripes, len: 0 }
    }
}

impl<K, V> Striped<K, V> {
    fn stripe<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // Hashed by another key than within the stripe.
        self.hasher.hash_one(key) as usize % STRIPES
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.stripes.iter().flat_map(HashMap::values)
    }

    fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.len = 0;
        self.stripes.iter_mut().flat_map(|stripe| stripe.drain())
    }
}

impl<K: Hash + Eq, V> Striped<K, V> {
    fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.stripes[self.stripe(key)].get(key)
    }

    fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let stripe = self.stripe(key);
        self.stripes[stripe].get_mut(key)
    }

    fn insert(&mut self, key: K, value: V) {
        let stripe = self.stripe(&key);
        if self.stripes[stripe].insert(key, value).is_none() {
            self.len += 1;
        }
    }

    fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let stripe = self.stripe(key);
        let removed = self.stripes[stripe].remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }
}
