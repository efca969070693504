//! The supervision tree as it is seen from outside: a leaf of atomics for each living thing, read by the admin port.
//!
//! Actors write their own node and nobody waits for them; who shows the tree asks no actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base::limits::{TREE_CHILDREN_SHOWN_MAX, TURN_MAX};
use parking_lot::RwLock;

/// What a living thing is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Being started, or reading its state from the store.
    Starting = 0,
    /// Doing its work.
    Running = 1,
    /// Fell; will be started again after a pause.
    Waiting = 2,
    /// Ended, and not to be started again.
    Stopped = 3,
}

impl State {
    /// The word that `/tree` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }

    fn of(value: u8) -> Self {
        match value {
            0 => Self::Starting,
            1 => Self::Running,
            2 => Self::Waiting,
            _ => Self::Stopped,
        }
    }
}

/// How long turns took (decisions D15).
#[derive(Debug, Default)]
pub struct Turns {
    longest_us: AtomicU64,
    long: AtomicU64,
}

impl Turns {
    fn took(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Few turns are longer than all before: most of them write nothing that other threads have to fetch.
        if us > self.longest_us() {
            self.longest_us.fetch_max(us, Ordering::Relaxed);
        }
        if took > TURN_MAX {
            self.long.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The longest so far, microseconds.
    pub fn longest_us(&self) -> u64 {
        self.longest_us.load(Ordering::Relaxed)
    }

    /// Those above [`TURN_MAX`] so far.
    pub fn long(&self) -> u64 {
        self.long.load(Ordering::Relaxed)
    }
}

/// Children in parts, each of which grows for itself: moving a list of a million is no work for one turn.
#[derive(Debug, Default)]
struct Children(Vec<Vec<Arc<Node>>>);

/// Children of a part.
const PART: usize = 1_024;

impl Children {
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PART + last.len())
    }

    fn get(&self, place: usize) -> Option<&Arc<Node>> {
        self.0.get(place / PART)?.get(place % PART)
    }

    fn push(&mut self, child: Arc<Node>) {
        match self.0.last_mut().filter(|last| last.len() < PART) {
            Some(last) => last.push(child),
            None => self.0.push(vec![child]),
        }
    }

    /// The last one comes in its place.
    fn swap_remove(&mut self, place: usize) {
        let Some(last) = self.0.last_mut() else { return };
        let moved = last.pop();
        if last.is_empty() {
            self.0.pop();
        }
        let place = self.0.get_mut(place / PART).and_then(|part| part.get_mut(place % PART));
        if let (Some(place), Some(moved)) = (place, moved) {
            *place = moved;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.0.iter().flatten()
    }
}

/// One living thing and its children.
#[derive(Debug)]
pub struct Node {
    /// Its name among its siblings. No user's address: the key of a user's actor is shown only under the token.
    pub name: String,
    /// What it is: `supervisor`, `nursery`, `user`, `listener`, `writer` …
    pub kind: &'static str,
    /// How many inputs may wait for it; 0: it has no mailbox of its own.
    pub bound: usize,
    state: AtomicU8,
    restarts: AtomicU32,
    depth: AtomicUsize,
    fullest_child: AtomicUsize,
    turns: Turns,
    /// Turns of all its children together, those that have left too.
    below: Arc<Turns>,
    above: Option<Arc<Turns>>,
    /// Where it stands among its siblings: they may be a million, and each leaves one day.
    place: AtomicUsize,
    children: RwLock<Children>,
}

impl Node {
    /// A node without children, starting.
    pub fn new(name: impl Into<String>, kind: &'static str, bound: usize) -> Arc<Self> {
        Self::made(name.into(), kind, bound, None)
    }

    /// The same for one of many that come and go: its parent keeps how long their turns took.
    pub fn below(parent: &Node, name: impl Into<String>, kind: &'static str, bound: usize) -> Arc<Self> {
        Self::made(name.into(), kind, bound, Some(parent.below.clone()))
    }

    fn made(name: String, kind: &'static str, bound: usize, above: Option<Arc<Turns>>) -> Arc<Self> {
        Arc::new(Self {
            name,
            kind,
            bound,
            state: AtomicU8::new(State::Starting as u8),
            restarts: AtomicU32::new(0),
            depth: AtomicUsize::new(0),
            fullest_child: AtomicUsize::new(0),
            turns: Turns::default(),
            below: Arc::default(),
            above,
            place: AtomicUsize::new(0),
            children: RwLock::default(),
        })
    }

    /// Adds a child, which has no other parent.
    pub fn adopt(&self, child: Arc<Node>) {
        let mut children = self.children.write();
        child.place.store(children.len(), Ordering::Relaxed);
        children.push(child);
    }

    /// Takes a child away, found by identity.
    pub fn release(&self, child: &Arc<Node>) {
        let mut children = self.children.write();
        let place = child.place.load(Ordering::Relaxed);
        if children.get(place).is_some_and(|each| Arc::ptr_eq(each, child)) {
            children.swap_remove(place);
            if let Some(moved) = children.get(place) {
                moved.place.store(place, Ordering::Relaxed);
            }
        }
    }

    /// Says what it is doing.
    pub fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// What it said last.
    pub fn state(&self) -> State {
        State::of(self.state.load(Ordering::Relaxed))
    }

    /// Counts one death that was answered with a new start.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// One more input waits; how many it are now.
    pub fn queued(&self) -> usize {
        self.depth.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// An input was taken.
    pub fn taken(&self) {
        let _ = self.depth.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |depth| depth.checked_sub(1));
    }

    /// So much waits, as who counts it elsewhere says.
    pub fn set_depth(&self, depth: usize) {
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Forgets what waited: a new start has an empty mailbox.
    pub fn emptied(&self) {
        self.depth.store(0, Ordering::Relaxed);
    }

    /// Inputs that wait.
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// So many inputs wait for one of its children.
    pub fn child_queued(&self, depth: usize) {
        self.fullest_child.fetch_max(depth, Ordering::Relaxed);
    }

    /// The most that have waited for any one child since this was asked last: nobody walks over a million mailboxes.
    pub fn take_fullest_child(&self) -> usize {
        self.fullest_child.swap(0, Ordering::Relaxed)
    }

    /// Notes how long a turn took (decisions D15).
    pub fn turn_took(&self, took: Duration) {
        self.turns.took(took);
        if let Some(above) = &self.above {
            above.took(took);
        }
    }

    /// Its own turns.
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Turns of its children, of those that were made by [`Node::below`].
    pub fn turns_below(&self) -> &Turns {
        &self.below
    }

    /// At most [`TREE_CHILDREN_SHOWN_MAX`] children, and how many there are.
    pub fn children(&self) -> (Vec<Arc<Node>>, usize) {
        let children = self.children.read();
        (children.iter().take(TREE_CHILDREN_SHOWN_MAX).cloned().collect(), children.len())
    }

    /// Restarts of this node and of all below it.
    pub fn restarts_below(&self) -> u64 {
        let own = u64::from(self.restarts());
        own + self.children.read().iter().map(|child| child.restarts_below()).sum::<u64>()
    }

    /// Every node of the tree, this one first; for summing up. Bounded by what `/tree` shows.
    pub fn walk(self: &Arc<Self>, visit: &mut dyn FnMut(&Node)) {
        visit(self);
        for child in self.children().0 {
            child.walk(visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_what_it_holds_and_shows_a_bounded_number_of_children() {
        let root = Node::new("root", "supervisor", 0);
        for n in 0..TREE_CHILDREN_SHOWN_MAX + 5 {
            root.adopt(Node::new(format!("child {n}"), "user", 8));
        }
        let (shown, all) = root.children();
        assert_eq!((shown.len(), all), (TREE_CHILDREN_SHOWN_MAX, TREE_CHILDREN_SHOWN_MAX + 5));
        shown[3].restarted();
        assert_eq!(root.restarts_below(), 1);
        root.release(&shown[3]);
        assert_eq!(root.restarts_below(), 0);
    }

    #[test]
    fn children_beyond_a_part_leave_from_either_end() {
        for backwards in [false, true] {
            let root = Node::new("root", "supervisor", 0);
            let mut all: Vec<_> = (0..PART * 2 + 3).map(|n| Node::new(format!("{n}"), "user", 8)).collect();
            all.iter().for_each(|child| root.adopt(child.clone()));
            if backwards {
                all.reverse();
            }
            for (gone, child) in all.iter().enumerate() {
                assert_eq!(root.children().1, all.len() - gone);
                root.release(child);
            }
            assert_eq!(root.children().1, 0);
        }
    }

    #[test]
    fn children_leave_in_any_order() {
        let root = Node::new("root", "supervisor", 0);
        let all: Vec<_> = (0..10).map(|n| Node::new(format!("{n}"), "user", 8)).collect();
        all.iter().for_each(|child| root.adopt(child.clone()));
        for (left, n) in [3usize, 9, 0, 3, 5, 1, 2, 4, 6, 7, 8].into_iter().enumerate() {
            root.release(&all[n]);
            let gone = if left < 3 { left + 1 } else { left };
            assert_eq!(root.children().1, 10 - gone, "after {n}");
        }
        let (one, other) = (Node::new("one", "user", 8), Node::new("other", "user", 8));
        root.adopt(one.clone());
        root.release(&other);
        assert_eq!(root.children().1, 1, "a stranger takes nobody's place");
    }

    #[test]
    fn depth_never_falls_below_nothing() {
        let node = Node::new("n", "user", 8);
        node.queued();
        node.taken();
        node.taken();
        assert_eq!(node.depth(), 0);
    }

    #[test]
    fn the_fullest_child_is_told_once() {
        let node = Node::new("n", "nursery", 8);
        [1, 7, 3].into_iter().for_each(|depth| node.child_queued(depth));
        assert_eq!((node.take_fullest_child(), node.take_fullest_child()), (7, 0));
    }

    #[test]
    fn a_turn_above_the_bound_is_counted() {
        let node = Node::new("n", "user", 8);
        node.turn_took(Duration::from_micros(40));
        node.turn_took(TURN_MAX * 3);
        assert_eq!((node.turns().longest_us(), node.turns().long()), (300, 1));
    }

    #[test]
    fn turns_of_one_of_many_are_remembered_when_it_has_left() {
        let nursery = Node::new("n", "nursery", 8);
        let child = Node::below(&nursery, "alice", "user", 8);
        child.turn_took(TURN_MAX * 2);
        drop(child);
        assert_eq!((nursery.turns_below().longest_us(), nursery.turns_below().long()), (200, 1));
        assert_eq!(nursery.turns().longest_us(), 0, "it was not its own");
    }
}
