//! SIP over one connection: one task that reads, decides and lets the outbox drain; nothing of it is kept while idle but
//! the connection itself and an unfinished message.
//!
//! Reading goes into the shard's buffer; only what is not whole yet stays with the connection. A peer that sends a head
//! without end, nothing whole, or nothing at all is cut off by the limits of [`Config`](crate::config::Config). A peer whose answers pile up is
//! not read until they have left, and cut off when it takes none of them for as long as it may be silent.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actors::hop::Hop;
use actors::house::House;
use actors::message::Offer;
use actors::metrics::Count;
use actors::node::Node;
use actors::outbox::Outbox;
use actors::router;
use actors::turn::{self, Turn};
use base::Now;
use base::limits::{OUTBOX_BYTES_MAX, SIP_MESSAGE_BYTES_MAX};
use sip::{Layout, Progress, Step};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Sleep, sleep_until};

use crate::doors::With;
use crate::gate::Pass;
use crate::writer::TcpWriter;

/// What a shard reads into: one message of the largest size fits.
const BUFFER_BYTES: usize = SIP_MESSAGE_BYTES_MAX + 1;
/// Answers that wait above this stop the reading until they have left.
const BACKLOG_BYTES: usize = OUTBOX_BYTES_MAX / 4;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
    static LAYOUT: RefCell<Box<Layout>> = RefCell::default();
}

/// A connection's way out, as long as it stands. Dropped, however its task ended: what waited for answers over it learns
/// so now, and nothing of it stays in the tables.
pub struct Way {
    house: Arc<House>,
    outbox: Arc<Outbox>,
}

impl Way {
    /// Over an outbox that stands among the flows.
    pub fn new(house: Arc<House>, outbox: Arc<Outbox>) -> Self {
        Self { house, outbox }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.house.flows.remove(self.outbox.id());
        let (awaited, bound) = (self.outbox.abandon(), self.outbox.bound());
        if awaited.is_empty() && bound.is_empty() {
            return;
        }
        turn::fill(|turn| {
            // Bindings first: what comes back is not sent here once more (RFC 5626 §7).
            bound.into_iter().for_each(|user| turn.offer(user, Offer::FlowLost(self.outbox.id())));
            awaited.into_iter().for_each(|asker| self.house.transactions.unreachable(turn, asker));
        });
        turn::flush();
    }
}

/// A connection's way through the house.
struct Connection {
    way: Way,
    node: Arc<Node>,
    hop: Hop,
    held: Vec<u8>,
    progress: Progress,
    /// When the unfinished message began, or the connection, where nothing whole has come yet.
    began: Instant,
    heard: Instant,
    /// When the peer last took something of what waits for it.
    took: Instant,
    is_proven: bool,
    times: (Duration, Duration, Duration),
}

enum End {
    Closed,
    CutOff,
}

/// Serves a connection that was accepted, until it ends.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, pass: Pass, with: With) {
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let write = Arc::new(write);
    let outbox = with.house.flows.open(Some(Box::new(TcpWriter(write.clone()))));
    run(read, write, peer, Way::new(with.house.clone(), outbox), &with).await;
    drop(pass);
}

/// Serves a connection over its outbox, until it ends.
pub(crate) async fn run(
    read: OwnedReadHalf,
    write: Arc<OwnedWriteHalf>,
    peer: SocketAddr,
    way: Way,
    With { gate, config, node, .. }: &With,
) {
    let now = Instant::now();
    let mut connection = Connection {
        hop: Hop::stream(way.outbox.id(), peer),
        way,
        node: node.clone(),
        held: Vec::new(),
        progress: Progress::default(),
        began: now,
        heard: now,
        took: now,
        is_proven: false,
        times: (config.head_time, config.silent_time, config.idle_time),
    };
    if let End::CutOff = connection.serve(read, &write).await {
        gate.cut_off.fetch_add(1, Ordering::Relaxed);
    }
}

impl Connection {
    async fn serve(&mut self, mut read: OwnedReadHalf, write: &OwnedWriteHalf) -> End {
        let outbox = self.way.outbox.clone();
        let mut timer = std::pin::pin!(sleep_until(self.deadline(false).into()));
        let mut blocked = false;
        loop {
            let may_read = outbox.waiting() < BACKLOG_BYTES;
            tokio::select! {
                biased;
                () = outbox.woken() => {
                    if outbox.is_closed() {
                        return End::Closed;
                    }
                    if !blocked {
                        (blocked, self.took) = (outbox.waiting() > 0, Instant::now());
                    }
                }
                ready = write.writable(), if blocked => {
                    let before = outbox.waiting();
                    match ready.and_then(|()| outbox.flush()) {
                        Ok(done) => blocked = !done,
                        Err(_) => return End::Closed,
                    }
                    if outbox.waiting() < before {
                        self.took = Instant::now();
                    }
                }
                step = std::future::poll_fn(|cx| self.poll_turn(&mut read, cx)), if may_read => {
                    if let Ok(false) = step {
                        return End::Closed;
                    }
                    turn::flush();
                    self.node.turn_took(self.heard.elapsed());
                    if step.is_err() {
                        return End::CutOff;
                    }
                }
                () = timer.as_mut() => {
                    if self.deadline(blocked) <= Instant::now() {
                        return End::CutOff;
                    }
                }
            }
            rearm(&mut timer, self.deadline(blocked));
        }
    }

    /// When this connection has been patient enough. `blocked`: something waits for the peer to take it.
    fn deadline(&self, blocked: bool) -> Instant {
        let (head, silent, idle) = self.times;
        let reading = match (self.held.is_empty(), self.is_proven) {
            (false, _) => self.began + head,
            (true, false) => self.began + silent,
            (true, true) => self.heard + idle,
        };
        if blocked { reading.min(self.took + silent) } else { reading }
    }

    /// Reads once and handles what is whole. `Ok(false)`: the peer has closed. `Err`: it must be cut off.
    fn poll_turn(&mut self, read: &mut OwnedReadHalf, cx: &mut Context<'_>) -> Poll<Result<bool, ()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut into = ReadBuf::new(buffer);
            match Pin::new(read).poll_read(cx, &mut into) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(())) => {}
            }
            let bytes = into.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(false));
            }
            let now = self.way.house.now();
            self.heard = now.at;
            Poll::Ready(self.take(bytes, now).map(|()| true))
        })
    }

    fn take(&mut self, bytes: &[u8], now: Now) -> Result<(), ()> {
        if self.held.is_empty() {
            let used = self.cut(bytes, now)?;
            if used < bytes.len() {
                self.began = self.heard;
                self.held = bytes[used..].to_vec();
            }
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let used = self.cut(&held, now)?;
        if used > 0 {
            held.drain(..used);
            self.began = self.heard;
        }
        if !held.is_empty() {
            self.held = held;
        }
        Ok(())
    }

    /// Handles every whole message at the beginning of `bytes`; how much they were.
    fn cut(&mut self, bytes: &[u8], now: Now) -> Result<usize, ()> {
        let mut used = 0;
        LAYOUT.with_borrow_mut(|layout| {
            turn::fill(|turn| {
                while used < bytes.len() {
                    let step = catch_unwind(AssertUnwindSafe(|| self.step(turn, layout, &bytes[used..], now)));
                    match step.unwrap_or_else(|_| {
                        // What fell must not be met again: nobody knows where the next message begins.
                        turn.counts.add(Count::Panics);
                        Err(())
                    })? {
                        0 => break,
                        count => used += count,
                    }
                }
                Ok(used)
            })
        })
    }

    /// One message or ping; how long it was, 0 when it is not whole.
    fn step(&mut self, turn: &mut Turn, layout: &mut Layout, rest: &[u8], now: Now) -> Result<usize, ()> {
        let house = &self.way.house;
        match sip::parse_stream(rest, &mut self.progress, layout) {
            Ok(Step::More) => Ok(0),
            Ok(Step::Skip { used }) => Ok(used),
            Ok(Step::Ping { used }) => {
                // RFC 5626 §4.4.1: a double CRLF is answered by a single one.
                self.is_proven = true;
                let start = turn.arena.len();
                turn.arena.extend_from_slice(b"\r\n");
                turn.send(&house.flows, self.hop, start);
                Ok(used)
            }
            Ok(Step::Message { used }) => {
                self.is_proven = true;
                let message = layout.view(&rest[..used]);
                let decide = || router::message(house, turn, message, self.hop, now);
                if catch_unwind(AssertUnwindSafe(decide)).is_err() {
                    turn.counts.add(Count::Panics);
                }
                Ok(used)
            }
            Err(error) => {
                router::malformed(house, turn, layout.view(rest), &error, self.hop, now);
                Err(())
            }
        }
    }
}

/// The timer moves only when the deadline came nearer, or when it has rung: a busy connection leaves it alone.
fn rearm(timer: &mut Pin<&mut Sleep>, deadline: Instant) {
    let deadline = tokio::time::Instant::from_std(deadline);
    if timer.is_elapsed() || deadline < timer.deadline() {
        timer.as_mut().reset(deadline);
    }
}
