//! The whole tree on one page: what runs here, and who restarts it?
//!
//! ```text
//! root ─┬─ store             the keeper of the one writer: if that ends, all falls
//!       ├─ locator           one search of the DNS a domain or number
//!       ├─ shard × cores ─┬─ transactions   the sweeper of timers
//!       │                 ├─ reach          the sweeper of rows whose bindings are over
//!       │                 ├─ users          a nursery: an actor an active user
//!       │                 └─ sessions       a nursery: an actor a session, and one a passage
//!       └─ doors ─────────── listener × address × shard     opened last, closed first
//! ```

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Addr, ArbiterHandle};

use crate::house::House;
use crate::keeper::Keeper;
use crate::locator::LocatorActor;
use crate::node::Node;
use crate::nursery::Nursery;
use crate::reach_sweeper::ReachSweeper;
use crate::session_nursery::SessionNursery;
use crate::supervise::{Child, Dismiss, Handle, Intensity, Leash, Leave, Lifeline, Supervisor};
use crate::sweeper::Sweeper;
use crate::turn::{self, DatagramSink, ShardOut};
use crate::user;

/// The tree that was planted.
pub struct Tree {
    /// For showing it.
    pub node: Arc<Node>,
    /// Its top: told to leave, all leaves.
    pub root: Addr<Supervisor>,
}

impl Tree {
    /// Closes the doors: what is inside is served to its end, nothing comes in any more.
    pub fn close_doors(&self) {
        self.root.do_send(Dismiss(DOORS));
    }

    /// Tells all to leave, the doors first.
    pub fn leave(&self) {
        self.root.do_send(Leave::Soon);
    }
}

const DOORS: &str = "doors";

/// Plants the tree on the shards' threads. `doors` are the listeners; `fallen` is called when the root gives up.
pub fn plant(house: &Arc<House>, shards: &[ArbiterHandle], doors: Vec<Child>, fallen: impl FnOnce() + 'static) -> Tree {
    let mut children = vec![store(house), locator(house)];
    children.extend(shards.iter().enumerate().map(|(number, arbiter)| shard(house, number, arbiter)));
    children.push(doors_of(doors));
    let node = Node::new("root", "supervisor", 0);
    let root = Supervisor::root(node.clone(), Intensity::default(), children, fallen).start();
    Tree { node, root }
}

/// Makes the calling thread a shard: its turn can leave by `sink`, and answers of the store come to it in batches. To be
/// run once on each shard's thread, before the tree is planted.
pub fn attach_shard(house: &Arc<House>, sink: Box<dyn DatagramSink>) {
    let (registry, transactions) = (house.registry.clone(), house.transactions.clone());
    turn::attach(ShardOut { registry, transactions, sink, metrics: house.metrics.clone() });
    actix_rt::spawn(storage::Desk::attach().run());
}

fn store(house: &Arc<House>) -> Child {
    let node = Node::new("store", "writer", base::limits::COMMIT_QUEUE_MAX);
    let house = house.clone();
    Child::new(node.clone(), move |lifeline| {
        Some(Handle::to(Keeper::new(house.clone(), node.clone(), lifeline).start()))
    })
}

fn locator(house: &Arc<House>) -> Child {
    let node = Node::new("locator", "locator", base::limits::LOCATOR_MAILBOX_MAX);
    let house = house.clone();
    Child::new(node.clone(), move |lifeline| Some(Handle::to(LocatorActor::start_here(&house, node.clone(), lifeline))))
}

fn shard(house: &Arc<House>, number: usize, arbiter: &ArbiterHandle) -> Child {
    let node = Node::new(format!("shard {number}"), "supervisor", 0);
    let sweeper = Node::new("transactions", "sweeper", 0);
    let reach = Node::new("reach", "sweeper", 0);
    let users = Node::new("users", "nursery", base::limits::NURSERY_MAILBOX_MAX);
    let sessions = Node::new("sessions", "nursery", base::limits::NURSERY_MAILBOX_MAX);
    node.adopt(sweeper.clone());
    node.adopt(reach.clone());
    node.adopt(users.clone());
    node.adopt(sessions.clone());
    let (house, arbiter) = (house.clone(), arbiter.clone());
    Child::new(node.clone(), move |lifeline| {
        let (house, node) = (house.clone(), node.clone());
        let (sweeper, reach, users, sessions) = (sweeper.clone(), reach.clone(), users.clone(), sessions.clone());
        let supervisor = Supervisor::start_in_arbiter(&arbiter, move |_| {
            let children = vec![
                timers(&house, number, sweeper),
                rows(&house, number, reach),
                nursery(&house, number, users),
                session_nursery(&house, number, sessions),
            ];
            Supervisor::below(node, Intensity::default(), children, lifeline)
        });
        Some(Handle::to(supervisor))
    })
}

fn timers(house: &Arc<House>, number: usize, node: Arc<Node>) -> Child {
    let house = house.clone();
    Child::new(node.clone(), move |lifeline: Lifeline| -> Leash {
        Some(Handle::to(Sweeper::new(house.clone(), number, node.clone(), lifeline).start()))
    })
}

fn rows(house: &Arc<House>, number: usize, node: Arc<Node>) -> Child {
    let house = house.clone();
    Child::new(node.clone(), move |lifeline: Lifeline| -> Leash {
        Some(Handle::to(ReachSweeper::new(house.clone(), number, node.clone(), lifeline).start()))
    })
}

fn nursery(house: &Arc<House>, number: usize, node: Arc<Node>) -> Child {
    let house = house.clone();
    Child::new(node.clone(), move |lifeline: Lifeline| -> Leash {
        let plant = {
            let house = house.clone();
            move |aor, ties| user::plant(&house, aor, ties)
        };
        let nursery = Nursery::start_here(node.clone(), house.metrics.clone(), lifeline, plant);
        house.registry.register(number, nursery.clone().recipient(), node.clone());
        Some(Handle::to(nursery))
    })
}

fn session_nursery(house: &Arc<House>, number: usize, node: Arc<Node>) -> Child {
    let house = house.clone();
    Child::new(node.clone(), move |lifeline: Lifeline| -> Leash {
        let nursery = SessionNursery::start_here(house.clone(), number, node.clone(), lifeline);
        house.registry.register_sessions(number, nursery.clone().recipient(), node.clone());
        Some(Handle::to(nursery))
    })
}

fn doors_of(doors: Vec<Child>) -> Child {
    let node = Node::new(DOORS, "supervisor", 0);
    for door in &doors {
        node.adopt(door.node.clone());
    }
    // The listeners outlive a fall of their supervisor: their sockets are kept by whoever can start them.
    let doors = Rc::new(doors);
    Child::new(node.clone(), move |lifeline| {
        let children = (0..doors.len()).map(|at| Child::shared(&doors, at)).collect();
        Some(Handle::to(Supervisor::below(node.clone(), Intensity::default(), children, lifeline).start()))
    })
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
