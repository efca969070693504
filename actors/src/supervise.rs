//! Who restarts whom: lifelines, one-for-one restarts with intensity and back-off, escalation.
//!
//! A panic ends an actor's task, and actix's own `Supervisor` ends with it and tells no one. So each child holds a
//! [`Lifeline`]: dropped with the child, however it ended, it tells the parent, which starts the child again or, after
//! too many deaths in too short a time, falls in its turn. A death is a notice that must not be lost, so it alone is sent
//! past the mailbox's bound.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use crate::node::{Node, State};

/// How many deaths within which time a parent bears before it falls itself.
#[derive(Clone, Copy, Debug)]
pub struct Intensity {
    /// Deaths that are borne.
    pub deaths: usize,
    /// Within this time.
    pub within: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { deaths: 5, within: Duration::from_secs(10) }
    }
}

/// First pause before a new start; it doubles with each death that [`Intensity`] still remembers.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
/// Longest such pause.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// The thread from a child to its parent. Whoever holds it lives; dropping it is the death notice.
#[derive(Debug)]
pub struct Lifeline {
    parent: Recipient<Fell>,
    child: usize,
    generation: u32,
    orderly: bool,
}

impl Lifeline {
    /// A line from a child of this number to its parent.
    pub(crate) fn new(parent: Recipient<Fell>, child: usize, generation: u32) -> Self {
        Self { parent, child, generation, orderly: false }
    }

    /// The child means to end: its parent will not start it again.
    pub fn leave(mut self) {
        self.orderly = true;
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.parent.do_send(Fell { child: self.child, generation: self.generation, orderly: self.orderly });
    }
}

/// A child has ended.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Fell {
    child: usize,
    generation: u32,
    orderly: bool,
}

impl Fell {
    /// Which child.
    pub(crate) fn child(&self) -> usize {
        self.child
    }

    /// Whether it meant to end.
    pub(crate) fn is_orderly(&self) -> bool {
        self.orderly
    }
}

/// The parent wants its child to end, in good order.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub enum Leave {
    /// When what was promised is done.
    Soon,
    /// Now, whatever it is doing: its parent fell, and the next one starts others in its place.
    AtOnce,
}

/// A test's wish, the operator's too: who stands at the end of this path falls by a panic.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Fall(VecDeque<String>);

impl Fall {
    /// The path: names of the tree, from below whoever is told.
    pub fn at(path: &[&str]) -> Self {
        Self(path.iter().map(|name| (*name).to_owned()).collect())
    }

    /// The next name of the path; nothing at its end.
    pub fn below(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// Falls.
    #[expect(clippy::panic, reason = "it is what the test asks for")]
    pub fn now(&self) -> ! {
        panic!("told to fall");
    }
}

/// One child of this name is to leave; the others stay.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct Dismiss(pub &'static str);

/// How a parent speaks to its child; nothing for children that end when their handle is dropped, or could not start.
pub type Leash = Option<Handle>;

/// What every child of a supervisor hears.
#[derive(Clone)]
pub struct Handle {
    leave: Recipient<Leave>,
    fall: Recipient<Fall>,
}

impl Handle {
    /// To a living thing.
    pub fn to<A>(child: Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Leave> + Handler<Fall>,
    {
        Self { leave: child.clone().recipient(), fall: child.recipient() }
    }
}

type Start = Box<dyn Fn(Lifeline) -> Leash>;

/// What a supervisor keeps alive.
pub struct Child {
    /// How it is shown.
    pub node: Arc<Node>,
    start: Start,
}

impl Child {
    /// `start` makes the child anew each time; it keeps the lifeline for as long as it lives.
    pub fn new(node: Arc<Node>, start: impl Fn(Lifeline) -> Leash + 'static) -> Self {
        Self { node, start: Box::new(start) }
    }

    /// One of several children that are started by whoever supervises them now.
    pub fn shared(all: &Rc<Vec<Child>>, at: usize) -> Self {
        let all = all.clone();
        Self { node: all[at].node.clone(), start: Box::new(move |lifeline| (all[at].start)(lifeline)) }
    }
}

struct Kept {
    child: Child,
    generation: u32,
    leash: Leash,
    deaths: VecDeque<Instant>,
    /// Not to be started again.
    dismissed: bool,
}

/// Keeps its children alive, each for itself (one-for-one).
pub struct Supervisor {
    node: Arc<Node>,
    intensity: Intensity,
    children: Vec<Kept>,
    deaths: VecDeque<Instant>,
    lifeline: Option<Lifeline>,
    leaving: bool,
    fallen: Option<Box<dyn FnOnce()>>,
}

impl Supervisor {
    /// A supervisor below another one, whose lifeline it holds. Its node has adopted the children already, because it may
    /// be started anew over the same ones.
    pub fn below(node: Arc<Node>, intensity: Intensity, children: Vec<Child>, lifeline: Lifeline) -> Self {
        Self::over(node, intensity, children, Some(lifeline))
    }

    fn over(node: Arc<Node>, intensity: Intensity, children: Vec<Child>, lifeline: Option<Lifeline>) -> Self {
        let kept = |child| Kept { child, generation: 0, leash: None, deaths: VecDeque::new(), dismissed: false };
        Self {
            node,
            intensity,
            children: children.into_iter().map(kept).collect(),
            deaths: VecDeque::new(),
            lifeline,
            leaving: false,
            fallen: None,
        }
    }

    /// The top: `fallen` is called when it gives up, because nobody stands above it.
    pub fn root(node: Arc<Node>, intensity: Intensity, children: Vec<Child>, fallen: impl FnOnce() + 'static) -> Self {
        for child in &children {
            node.adopt(child.node.clone());
        }
        let mut root = Self::over(node, intensity, children, None);
        root.fallen = Some(Box::new(fallen));
        root
    }

    fn start_child(&mut self, index: usize, parent: Recipient<Fell>) {
        let kept = &mut self.children[index];
        kept.generation += 1;
        kept.child.node.emptied();
        let lifeline = Lifeline { parent, child: index, generation: kept.generation, orderly: false };
        kept.leash = (kept.child.start)(lifeline);
        kept.child.node.set(State::Running);
    }

    fn fall(&mut self, ctx: &mut Context<Self>) {
        tracing::error!(name = %self.node.name, deaths = self.deaths.len(), "Supervisor gives up: too many deaths");
        self.dismiss(Leave::AtOnce);
        self.node.set(State::Stopped);
        if let Some(fallen) = self.fallen.take() {
            fallen();
        }
        ctx.stop();
    }

    /// Tells the children to leave, the last one first.
    fn dismiss(&mut self, how: Leave) {
        self.leaving = true;
        for kept in self.children.iter_mut().rev() {
            kept.dismiss(how);
        }
    }
}

impl Kept {
    fn dismiss(&mut self, how: Leave) {
        self.dismissed = true;
        self.child.node.set(State::Stopped);
        if let Some(leash) = self.leash.take() {
            leash.leave.do_send(how);
        }
    }
}

/// However it ends, its children do not outlive it: the next one starts its own.
impl Drop for Supervisor {
    fn drop(&mut self) {
        if !self.leaving {
            self.dismiss(Leave::AtOnce);
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Death notices come by `do_send`; the bound only serves the others.
        for index in 0..self.children.len() {
            self.start_child(index, ctx.address().recipient());
        }
        self.node.set(State::Running);
    }
}

impl Handler<Fell> for Supervisor {
    type Result = ();

    fn handle(&mut self, fell: Fell, ctx: &mut Self::Context) {
        let now = clock();
        let intensity = self.intensity;
        let Some(kept) = self.children.get_mut(fell.child) else { return };
        if self.leaving || fell.generation != kept.generation {
            return;
        }
        if fell.orderly || kept.dismissed {
            kept.child.node.set(State::Stopped);
            return;
        }
        kept.child.node.set(State::Waiting);
        kept.child.node.restarted();
        remember(&mut kept.deaths, now, intensity.within);
        let pause = pause_after(kept.deaths.len());
        tracing::warn!(name = %kept.child.node.name, deaths = kept.deaths.len(), ?pause, "Child fell");
        remember(&mut self.deaths, now, intensity.within);
        if self.deaths.len() > intensity.deaths {
            return self.fall(ctx);
        }
        ctx.run_later(pause, move |this, ctx| {
            if !this.leaving && !this.children[fell.child].dismissed {
                this.start_child(fell.child, ctx.address().recipient());
            }
        });
    }
}

impl Handler<Dismiss> for Supervisor {
    type Result = ();

    fn handle(&mut self, Dismiss(name): Dismiss, _: &mut Self::Context) {
        for kept in self.children.iter_mut().filter(|kept| kept.child.node.name == name) {
            kept.dismiss(Leave::Soon);
        }
    }
}

impl Handler<Leave> for Supervisor {
    type Result = ();

    fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
        self.dismiss(how);
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl Handler<Fall> for Supervisor {
    type Result = ();

    fn handle(&mut self, mut fall: Fall, _: &mut Self::Context) {
        let Some(name) = fall.below() else { fall.now() };
        let child = self.children.iter().find(|kept| kept.child.node.name == name);
        if let Some(leash) = child.and_then(|kept| kept.leash.as_ref()) {
            leash.fall.do_send(fall);
        }
    }
}

/// The clock that the pauses go by: the same as the machine's, but in a simulated world.
pub(crate) fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Deaths that still count, with a new one.
pub(crate) fn remember(deaths: &mut VecDeque<Instant>, now: Instant, within: Duration) {
    deaths.push_back(now);
    while deaths.front().is_some_and(|death| now.duration_since(*death) > within) {
        deaths.pop_front();
    }
}

/// The pause before the start that follows the `deaths`-th remembered death.
pub(crate) fn pause_after(deaths: usize) -> Duration {
    let doublings = u32::try_from(deaths.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    (PAUSE_FIRST * 2u32.pow(doublings)).min(PAUSE_LONGEST)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A child that dies at every input.
    struct Mortal {
        _lifeline: Lifeline,
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Die;

    impl Actor for Mortal {
        type Context = Context<Self>;
    }

    impl Handler<Die> for Mortal {
        type Result = ();
        fn handle(&mut self, _: Die, _: &mut Self::Context) {
            panic!("as the test wants");
        }
    }

    type Last = Rc<std::cell::RefCell<Option<Addr<Mortal>>>>;

    fn mortal(node: Arc<Node>, last: &Last) -> Child {
        let last = last.clone();
        Child::new(node, move |lifeline| {
            *last.borrow_mut() = Some(Mortal { _lifeline: lifeline }.start());
            None
        })
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    #[actix::test]
    async fn a_child_that_panics_is_started_again_and_the_tree_shows_it() {
        let (root, node, last) = (Node::new("root", "supervisor", 0), Node::new("child", "mortal", 8), Last::default());
        let _top =
            Supervisor::root(root.clone(), Intensity::default(), vec![mortal(node.clone(), &last)], || {}).start();
        settle().await;
        let first = last.borrow().clone().unwrap();
        first.do_send(Die);
        settle().await;
        let second = last.borrow().clone().unwrap();
        assert_ne!(first, second);
        assert!(second.connected() && !first.connected());
        assert_eq!((node.restarts(), node.state()), (1, State::Running));
    }

    #[actix::test]
    async fn too_many_deaths_bring_the_parent_down_and_its_parent_starts_it_anew() {
        let (root, middle) = (Node::new("root", "supervisor", 0), Node::new("middle", "supervisor", 0));
        let last = Last::default();
        let below = {
            let (middle, last) = (middle.clone(), last.clone());
            Child::new(middle.clone(), move |lifeline| {
                let child = mortal(Node::new("child", "mortal", 8), &last);
                let few = Intensity { deaths: 2, within: Duration::from_secs(10) };
                Some(Handle::to(Supervisor::below(middle.clone(), few, vec![child], lifeline).start()))
            })
        };
        let _top = Supervisor::root(root.clone(), Intensity::default(), vec![below], || {}).start();
        for _ in 0..3 {
            settle().await;
            let child = last.borrow().clone().unwrap();
            child.do_send(Die);
        }
        settle().await;
        assert_eq!(middle.restarts(), 1);
        assert!(last.borrow().as_ref().unwrap().connected(), "a new child stands below the new parent");
    }

    #[actix::test]
    async fn the_root_tells_when_it_gives_up() {
        let (fell, last) = (Rc::new(Cell::new(false)), Last::default());
        let told = fell.clone();
        let never = Intensity { deaths: 0, within: Duration::from_secs(10) };
        let child = mortal(Node::new("child", "mortal", 8), &last);
        let _top =
            Supervisor::root(Node::new("root", "supervisor", 0), never, vec![child], move || told.set(true)).start();
        settle().await;
        last.borrow().clone().unwrap().do_send(Die);
        settle().await;
        assert!(fell.get());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(pause_after(1), PAUSE_FIRST);
        assert_eq!(pause_after(3), PAUSE_FIRST * 4);
        assert_eq!(pause_after(60), PAUSE_LONGEST);
    }

    /// A child that tells how it was asked to leave.
    struct Asked {
        lifeline: Option<Lifeline>,
        how: Rc<std::cell::RefCell<Vec<Leave>>>,
    }

    impl Actor for Asked {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            // With something to do, an actor lives on without any address.
            ctx.run_interval(Duration::from_millis(5), |_, _| {});
        }
    }

    impl Handler<Leave> for Asked {
        type Result = ();
        fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
            self.how.borrow_mut().push(how);
            if let Some(lifeline) = self.lifeline.take() {
                lifeline.leave();
            }
            ctx.stop();
        }
    }

    impl Handler<Fall> for Asked {
        type Result = ();
        fn handle(&mut self, fall: Fall, _: &mut Self::Context) {
            fall.now();
        }
    }

    #[actix::test]
    async fn no_child_outlives_its_supervisor_however_that_ends() {
        let how = Rc::new(std::cell::RefCell::new(Vec::new()));
        let child = || {
            let how = how.clone();
            Child::new(Node::new("child", "asked", 8), move |lifeline| {
                Some(Handle::to(Asked { lifeline: Some(lifeline), how: how.clone() }.start()))
            })
        };
        let plant =
            || Supervisor::root(Node::new("root", "supervisor", 0), Intensity::default(), vec![child()], || {}).start();
        let top = plant();
        settle().await;
        top.do_send(Fall::at(&[]));
        settle().await;
        assert_eq!(*how.borrow(), [Leave::AtOnce], "by a panic");
        let top = plant();
        settle().await;
        top.do_send(Leave::Soon);
        settle().await;
        assert_eq!(*how.borrow(), [Leave::AtOnce, Leave::Soon]);
        let top = plant();
        for _ in 0..60 {
            settle().await;
            top.do_send(Fall::at(&["child"]));
        }
        assert!(!top.connected(), "too many deaths");
        assert_eq!(how.borrow().len(), 2, "and the last of them was dead already");
    }

    #[actix::test]
    async fn who_was_dismissed_is_not_started_again_not_even_while_it_waits_for_that() {
        let (node, last) = (Node::new("child", "mortal", 8), Last::default());
        let top = Supervisor::root(
            Node::new("root", "supervisor", 0),
            Intensity::default(),
            vec![mortal(node.clone(), &last)],
            || {},
        )
        .start();
        settle().await;
        last.borrow().clone().unwrap().do_send(Die);
        top.do_send(Dismiss("child"));
        settle().await;
        assert_eq!(node.state(), State::Stopped);
        assert!(!last.borrow().as_ref().unwrap().connected());
    }
}
