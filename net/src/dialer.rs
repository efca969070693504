//! The one way outwards: opens a connection where an actor or the router asks for it, and lends it to the outbox that
//! waits. Lives on a shard's thread.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use actors::house::House;
use actors::message::{Dial, DialLeg};
use actors::node::{Node, State};
use base::limits::DIAL_TIME_MAX;
use tokio::net::TcpStream;

use crate::config::Config;
use crate::doors::With;
use crate::gate::Gate;
use crate::msrp_stream;
use crate::sip_stream::{self, Way};
use crate::writer::TcpWriter;

/// Requests that may wait for it; then the connection counts as unreachable.
const MAILBOX: usize = 4_096;

/// Opens connections.
pub struct Dialer {
    with: With,
    time: Duration,
}

impl Dialer {
    /// For connections that pass the same gate as those that come in.
    pub fn new(house: Arc<House>, gate: Arc<Gate>, config: Arc<Config>) -> Self {
        let node = Node::new("dialer", "dialer", MAILBOX);
        Self { with: With { house, gate, config, node }, time: DIAL_TIME_MAX }
    }

    /// How it is shown, with the turns of the connections that it opened.
    pub fn node(&self) -> Arc<Node> {
        self.with.node.clone()
    }
}

impl Actor for Dialer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.with.node.set(State::Running);
    }
}

impl Handler<Dial> for Dialer {
    type Result = ();

    fn handle(&mut self, dial: Dial, _: &mut Self::Context) {
        self.with.node.taken();
        let (with, time) = (self.with.clone(), self.time);
        actix_rt::spawn(async move {
            let Dial { peer, outbox } = dial;
            // Dropped at any point, it tells those who wait.
            let way = Way::new(with.house.clone(), outbox.clone());
            let Some(pass) = with.gate.enter(peer.ip()) else { return };
            let Ok(Ok(stream)) = tokio::time::timeout(time, TcpStream::connect(peer)).await else { return };
            let _ = stream.set_nodelay(true);
            let (read, write) = stream.into_split();
            let write = Arc::new(write);
            outbox.connect(Box::new(TcpWriter(write.clone())));
            sip_stream::run(read, write, peer, way, &with).await;
            drop(pass);
        });
    }
}

impl Handler<DialLeg> for Dialer {
    type Result = ();

    fn handle(&mut self, dial: DialLeg, _: &mut Self::Context) {
        self.with.node.taken();
        actix_rt::spawn(msrp_stream::open(dial.opened, dial.outbox, self.time, self.with.clone()));
    }
}
