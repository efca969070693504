//! One life of the house: its tables and its tree on this thread's runtime, over the disk that survived, until it is
//! killed.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Arbiter, Context, Handler};
use actors::locator::Names;
use actors::message::Dial;
use actors::node::Node;
use actors::outbox::Outbox;
use actors::registry::Registry;
use actors::transactions::Transactions;
use actors::tree::{self, Tree};
use actors::turn::{self, Datagram, DatagramSink, ShardOut};
use actors::{Config, House};
use base::IdMaker;
use base::limits::SILENCE;
use storage::Store;
use storage::engine::memory::Memory;

use crate::bus::Bus;
use crate::clock;
use crate::dice::Dice;
use crate::disk::{Disk, Temper};

/// A datagram that the house has sent.
pub struct Sent {
    /// When, in world time.
    pub at_ms: u64,
    /// What its wall clock showed.
    pub unix_ms: u64,
    /// To whom.
    pub peer: SocketAddr,
    /// Its octets.
    pub bytes: Vec<u8>,
}

/// A connection to be opened: to whom, and what is to go over it.
pub type Dialled = (SocketAddr, Arc<Outbox>);

/// What the house has done and the world has not looked at yet.
#[derive(Clone, Default)]
pub struct Outgoing {
    /// Datagrams.
    pub datagrams: Rc<RefCell<Vec<Sent>>>,
    /// Connections to be opened.
    pub dials: Rc<RefCell<Vec<Dialled>>>,
    /// The next flush panics: a bug of the socket layer.
    pub panic_at_flush: Rc<Cell<bool>>,
    /// The root has given up.
    pub fallen: Rc<Cell<bool>>,
}

struct Sink {
    bus: Bus,
    out: Outgoing,
}

impl DatagramSink for Sink {
    fn send(&self, arena: &[u8], datagrams: &[Datagram], _: &mut Vec<usize>) -> u64 {
        assert!(!self.out.panic_at_flush.replace(false), "told to fall at a flush");
        for datagram in datagrams {
            if self.bus.step() {
                self.out.datagrams.borrow_mut().push(Sent {
                    at_ms: clock::world_ms(),
                    unix_ms: clock::unix_ms(),
                    peer: datagram.peer,
                    bytes: arena[datagram.range.clone()].to_vec(),
                });
            }
        }
        self.bus.ring();
        0
    }
}

struct Nowhere;

impl DatagramSink for Nowhere {
    fn send(&self, _: &[u8], _: &[Datagram], _: &mut Vec<usize>) -> u64 {
        0
    }
}

struct Dialler {
    bus: Bus,
    out: Outgoing,
}

impl Actor for Dialler {
    type Context = Context<Self>;
}

impl Handler<Dial> for Dialler {
    type Result = ();

    fn handle(&mut self, dial: Dial, _: &mut Self::Context) {
        self.out.dials.borrow_mut().push((dial.peer, dial.outbox));
        self.bus.ring();
    }
}

/// One life.
pub struct Life {
    /// The shared tables.
    pub house: Arc<House>,
    /// The tree, as it is shown.
    pub tree: Tree,
    /// Its disk.
    pub disk: Disk,
    /// What ties it to the world.
    pub bus: Bus,
    /// What it has done.
    pub out: Outgoing,
}

impl Life {
    /// Begins; to be called within a runtime of its own.
    pub fn begin(
        memory: &Memory,
        dice: &mut Dice,
        temper: Temper,
        config: Config,
        names: Option<Arc<dyn Names>>,
        bus: Bus,
    ) -> Self {
        clock::begin_life();
        let disk = Disk::new(memory.clone(), bus.clone(), dice.fork(), temper);
        let store = Store::over(Arc::new(disk.clone()), Arc::new(clock::Wall));
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&dice.next().to_be_bytes());
        seed[8..].copy_from_slice(&dice.next().to_be_bytes());
        let shards = config.shards;
        let house = House::new(config, store, IdMaker::new(seed), clock::now);
        if let Some(names) = names {
            house.locator.introduce(names);
        }
        let out = Outgoing::default();
        tree::attach_shard(&house, Box::new(Sink { bus: bus.clone(), out: out.clone() }));
        let node = Node::new("dialer", "dialer", 0);
        house.introduce(Dialler { bus: bus.clone(), out: out.clone() }.start().recipient(), node);
        let arbiters = vec![Arbiter::current(); shards];
        let (fallen, told) = (out.fallen.clone(), bus.clone());
        let tree = tree::plant(&house, &arbiters, Vec::new(), move || {
            fallen.set(true);
            told.ring();
        });
        Self { house, tree, disk, bus, out }
    }

    /// The first thing of that name in the tree.
    pub fn node_of(&self, name: &str) -> Option<Arc<Node>> {
        named(&self.tree.node, name)
    }

    /// A living thing of the tree by its name and kind.
    pub fn node(&self, name: &str, kind: &str) -> Option<Arc<Node>> {
        find(&self.tree.node, name, kind)
    }
}

fn named(node: &Arc<Node>, name: &str) -> Option<Arc<Node>> {
    if node.name == name {
        return Some(node.clone());
    }
    node.children().0.iter().find_map(|child| named(child, name))
}

fn find(node: &Arc<Node>, name: &str, kind: &str) -> Option<Arc<Node>> {
    if node.name == name && node.kind == kind {
        return Some(node.clone());
    }
    node.children().0.iter().find_map(|child| find(child, name, kind))
}

/// After a life has ended and its runtime is gone: what it left on this thread is forgotten, unsent.
pub fn forget_the_dead() {
    let transactions = Transactions::new(&IdMaker::new([0; 16]), Arc::default(), SILENCE, clock::now);
    let registry = Arc::new(Registry::new(1));
    turn::attach(ShardOut { registry, transactions, sink: Box::new(Nowhere), metrics: Arc::default() });
    for _ in 0..4 {
        turn::flush();
    }
}
