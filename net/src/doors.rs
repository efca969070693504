//! The doors: every socket that listens, bound at once so that what cannot be bound is said before anything lives, then
//! handed to the shards. Opened last, closed first.
//!
//! Each shard has a socket of its own at every address (`SO_REUSEPORT`): the kernel chooses who reads a datagram or takes a
//! connection. A listener is an actor on its shard's thread, so that a panic ends it alone and its supervisor opens it again
//! over the same socket.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use actors::house::House;
use actors::node::Node;
use actors::supervise::{Child, Fall, Handle, Leave, Lifeline};
use actors::turn;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::error::NetError;
use crate::gate::Gate;
use crate::{msrp_stream, sip_stream, sip_udp};

/// What the kernel may hold for a UDP socket in each direction: bursts of thousands of datagrams.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// Connections that may wait to be taken.
const BACKLOG: i32 = 1_024;
/// After a connection could not be taken (no files left), the next is tried after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Every listening socket, by shard.
#[derive(Debug)]
pub struct Doors {
    udp: Vec<Vec<StdSocket>>,
    tcp: Vec<Vec<StdListener>>,
    msrp: Vec<Vec<StdListener>>,
}

impl Doors {
    /// Binds every address once a shard. The first that cannot be bound is the error.
    pub fn bind(config: &Config, shards: usize) -> Result<Self, NetError> {
        let bind = |transport, address, kind, protocol| {
            bind_all(address, kind, protocol, shards.max(1)).map_err(|source| NetError::Listen {
                transport,
                address,
                source,
            })
        };
        let mut doors = Self { udp: Vec::new(), tcp: Vec::new(), msrp: Vec::new() };
        for address in &config.udp {
            let sockets = bind("UDP", *address, Type::DGRAM, Protocol::UDP)?;
            doors.udp.push(sockets.into_iter().map(StdSocket::from).collect());
        }
        for address in &config.tcp {
            let sockets = bind("TCP", *address, Type::STREAM, Protocol::TCP)?;
            doors.tcp.push(sockets.into_iter().map(StdListener::from).collect());
        }
        for address in &config.msrp {
            let sockets = bind("MSRP", *address, Type::STREAM, Protocol::TCP)?;
            doors.msrp.push(sockets.into_iter().map(StdListener::from).collect());
        }
        Ok(doors)
    }

    /// The addresses that datagrams come to, in the order of their listener numbers.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|sockets| sockets.first()?.local_addr().ok()).collect()
    }

    /// The addresses that connections come to.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listeners| listeners.first()?.local_addr().ok()).collect()
    }

    /// The addresses that MSRP connections come to.
    pub fn msrp_addresses(&self) -> Vec<SocketAddr> {
        self.msrp.iter().filter_map(|listeners| listeners.first()?.local_addr().ok()).collect()
    }

    /// The sockets that a shard sends by: to be lent to its turn, on its thread.
    pub fn sink(&self, shard: usize) -> io::Result<sip_udp::Sink> {
        let sockets = self.udp.iter().map(|sockets| sockets[shard].try_clone()).collect::<io::Result<_>>()?;
        Ok(sip_udp::Sink::new(sockets))
    }

    /// A child a listener and shard, for the supervisor of the doors.
    pub fn children(
        self,
        arbiters: &[actix::ArbiterHandle],
        house: &Arc<House>,
        gate: &Arc<Gate>,
        config: &Arc<Config>,
    ) -> Vec<Child> {
        let mut children = Vec::new();
        for (number, sockets) in self.udp.into_iter().enumerate() {
            for (shard, socket) in sockets.into_iter().enumerate() {
                let name = format!("udp {} #{shard}", local(socket.local_addr()));
                let node = Node::new(name, "listener", 0);
                let (arbiter, house, own) = (arbiters[shard % arbiters.len()].clone(), house.clone(), node.clone());
                let start = move |lifeline: Lifeline| {
                    let (socket, house, node) = (socket.try_clone().ok()?, house.clone(), own.clone());
                    let number = u8::try_from(number).unwrap_or(u8::MAX);
                    let listener = Listener::start_in_arbiter(&arbiter, move |_| Listener {
                        door: Some(Door::Udp(socket, number, house, node)),
                        lifeline: Some(lifeline),
                    });
                    Some(Handle::to(listener))
                };
                children.push(Child::new(node, start));
            }
        }
        let streams = self.tcp.into_iter().map(|each| ("tcp", Speaks::Sip, each));
        for (word, speaks, listeners) in streams.chain(self.msrp.into_iter().map(|each| ("msrp", Speaks::Msrp, each))) {
            for (shard, listener) in listeners.into_iter().enumerate() {
                let name = format!("{word} {} #{shard}", local(listener.local_addr()));
                let arbiter = arbiters[shard % arbiters.len()].clone();
                let node = Node::new(name, "listener", 0);
                let with =
                    With { house: house.clone(), gate: gate.clone(), config: config.clone(), node: node.clone() };
                let start = move |lifeline: Lifeline| {
                    let door = Door::Tcp(listener.try_clone().ok()?, speaks, with.clone());
                    let listener = Listener::start_in_arbiter(&arbiter, move |_| Listener {
                        door: Some(door),
                        lifeline: Some(lifeline),
                    });
                    Some(Handle::to(listener))
                };
                children.push(Child::new(node, start));
            }
        }
        children
    }
}

fn local(address: io::Result<SocketAddr>) -> String {
    address.map_or_else(|_| "?".into(), |address| address.to_string())
}

/// So many sockets at one address; port 0 is the same free port for all.
fn bind_all(mut address: SocketAddr, kind: Type, protocol: Protocol, count: usize) -> io::Result<Vec<Socket>> {
    // `SO_REUSEPORT` would share the port with another server without a word: who is there first is asked without it.
    if address.port() != 0 {
        bind_one(address, kind, protocol, false)?;
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bind_one(address, kind, protocol, true)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        if kind == Type::STREAM {
            socket.listen(BACKLOG)?;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind_one(address: SocketAddr, kind: Type, protocol: Protocol, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    } else if shared {
        // The system may grant less; that is no fault.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

enum Door {
    Udp(StdSocket, u8, Arc<House>, Arc<Node>),
    Tcp(StdListener, Speaks, With),
}

/// What every connection is served with.
#[derive(Clone)]
pub(crate) struct With {
    pub(crate) house: Arc<House>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) config: Arc<Config>,
    /// Whose turns its reads are.
    pub(crate) node: Arc<Node>,
}

/// What is spoken over a listener's connections.
#[derive(Clone, Copy)]
enum Speaks {
    Sip,
    Msrp,
}

/// One socket that listens, alive. Leaves when told; falls when its socket fails or its task panics.
struct Listener {
    door: Option<Door>,
    lifeline: Option<Lifeline>,
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(door) = self.door.take() else { return ctx.stop() };
        let task = async move {
            match door {
                Door::Udp(socket, number, house, node) => sip_udp::serve(socket, number, house, node).await,
                Door::Tcp(listener, speaks, with) => accept(listener, speaks, with).await,
            }
        };
        ctx.spawn(task.into_actor(self).map(|outcome, _, ctx| {
            if let Err(error) = outcome {
                tracing::error!(%error, "Listener fell");
            }
            ctx.stop();
        }));
    }
}

impl Handler<Leave> for Listener {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl Handler<Fall> for Listener {
    type Result = ();

    fn handle(&mut self, fall: Fall, _: &mut Self::Context) {
        fall.now();
    }
}

async fn accept(listener: StdListener, speaks: Speaks, with: With) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match with.gate.enter(peer.ip()) {
                Some(pass) => {
                    match speaks {
                        Speaks::Sip => actix_rt::spawn(sip_stream::serve(stream, peer, pass, with.clone())),
                        Speaks::Msrp => actix_rt::spawn(msrp_stream::serve(stream, pass, with.clone())),
                    };
                }
                None => drop(stream),
            },
            // The peer gave up, or no file is left: neither ends the listener.
            Err(error) => {
                tracing::debug!(%error, "Connection not taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Lends a shard its sockets; to be run on the shard's thread.
pub fn lend_sink(sink: sip_udp::Sink) {
    turn::attach_sink(Box::new(sink));
}
