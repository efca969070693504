//! MSRP over one connection (RFC 4975): one task that reads into the shard's buffer, lets [`Ingress`] cut and write on, and
//! lets the outbox drain. While idle nothing of it is kept but the connection and an unfinished head.
//!
//! The reader that filled a slow receiver's outbox reads no more until that has drained: TCP holds its sender up, and
//! memory is one turn a reader.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actors::house::House;
use actors::metrics::Count;
use actors::node::Node;
use actors::outbox::Outbox;
use actors::switch::Opened;
use actors::switch::ingress::{Cut, Ingress};
use actors::switch::turn::{Read, Turn};
use base::limits::{MSRP_HEAD_BYTES_MAX, MSRP_READ_BYTES};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Sleep, sleep_until};

use crate::config::Config;
use crate::doors::With;
use crate::gate::Pass;
use crate::writer::TcpWriter;

/// How long a connection may be without anything to look after before it is looked at.
const LOOK: Duration = Duration::from_secs(30);

thread_local! {
    static BUFFERS: RefCell<(Read, Turn)> =
        RefCell::new((Read::new(MSRP_READ_BYTES + MSRP_HEAD_BYTES_MAX), Turn::default()));
}

/// Serves a connection that was accepted, until it ends.
pub(crate) async fn serve(stream: TcpStream, pass: Pass, with: With) {
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let write = Arc::new(write);
    let outbox = with.house.flows.open(Some(Box::new(TcpWriter(write.clone()))));
    run(read, &write, outbox, None, &with).await;
    drop(pass);
}

/// Opens a connection for a leg and serves it, until it ends.
pub(crate) async fn open(opened: Opened, outbox: Arc<Outbox>, time: Duration, with: With) {
    let peer: SocketAddr = opened.peer;
    let connecting = async {
        let pass = with.gate.enter(peer.ip())?;
        let stream = tokio::time::timeout(time, TcpStream::connect(peer)).await.ok()?.ok()?;
        Some((pass, stream))
    };
    let Some((pass, stream)) = connecting.await else {
        return end(Ingress::new(outbox.clone(), Instant::now()).carrying(opened), &outbox, &with.house);
    };
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let write = Arc::new(write);
    outbox.connect(Box::new(TcpWriter(write.clone())));
    run(read, &write, outbox, Some(opened), &with).await;
    drop(pass);
}

async fn run(
    read: OwnedReadHalf,
    write: &OwnedWriteHalf,
    outbox: Arc<Outbox>,
    opened: Option<Opened>,
    With { house, gate, config, node }: &With,
) {
    let now = Instant::now();
    let mut ingress = Ingress::new(outbox.clone(), now);
    if let Some(opened) = opened {
        ingress.carry(opened.pair, opened.side);
    }
    let mut reader = Reader { ingress, held: Vec::new(), blocked: Vec::new(), began: now, house, node };
    if reader.serve(read, write, &outbox, config).await.is_err() {
        gate.cut_off.fetch_add(1, Ordering::Relaxed);
    }
    end(reader.ingress, &outbox, house);
}

fn end(ingress: Ingress, outbox: &Arc<Outbox>, house: &Arc<House>) {
    house.flows.remove(outbox.id());
    BUFFERS.with_borrow_mut(|(read, turn)| ingress.end(&house.switch, turn, read));
    outbox.abandon();
}

struct Reader<'a> {
    ingress: Ingress,
    /// The beginning of what is not whole yet.
    held: Vec<u8>,
    /// Receivers that must catch up before more is read.
    blocked: Vec<Arc<Outbox>>,
    began: Instant,
    house: &'a Arc<House>,
    node: &'a Node,
}

impl Reader<'_> {
    /// `Err`: it was cut off.
    async fn serve(
        &mut self,
        mut read: OwnedReadHalf,
        write: &OwnedWriteHalf,
        outbox: &Arc<Outbox>,
        config: &Config,
    ) -> Result<(), Cut> {
        let mut timer = std::pin::pin!(sleep_until(tokio::time::Instant::now()));
        let mut waits_for_room = outbox.waiting() > 0;
        loop {
            rearm(&mut timer, self.next_look(config));
            let receiver = self.blocked.first().cloned();
            tokio::select! {
                biased;
                () = outbox.woken() => {
                    if outbox.is_closed() {
                        return Ok(());
                    }
                    waits_for_room = outbox.waiting() > 0;
                }
                ready = write.writable(), if waits_for_room => {
                    match ready.and_then(|()| outbox.flush()) {
                        Ok(done) => waits_for_room = !done,
                        Err(_) => return Ok(()),
                    }
                }
                () = drained(receiver.as_ref()), if receiver.is_some() => {
                    self.blocked.swap_remove(0);
                }
                more = std::future::poll_fn(|cx| self.poll_read(&mut read, cx)), if receiver.is_none() => {
                    match more {
                        Ok(true) => {}
                        Ok(false) => return Ok(()),
                        Err(cut) => return Err(cut),
                    }
                }
                () = timer.as_mut() => self.look(config)?,
            }
        }
    }

    /// Reads once and handles what came. `Ok(false)`: the peer has closed.
    fn poll_read(&mut self, read: &mut OwnedReadHalf, cx: &mut Context<'_>) -> Poll<Result<bool, Cut>> {
        BUFFERS.with_borrow_mut(|(buffer, turn)| {
            let held = self.held.len();
            let room = buffer.room();
            room[..held].copy_from_slice(&self.held);
            let mut into = ReadBuf::new(&mut room[held..]);
            match Pin::new(read).poll_read(cx, &mut into) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(())) => {}
            }
            let count = into.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(false));
            }
            buffer.fill(held + count);
            let began = Instant::now();
            let taken = self.take(buffer, turn, began);
            self.node.turn_took(began.elapsed());
            Poll::Ready(taken.map(|()| true))
        })
    }

    fn take(&mut self, buffer: &mut Read, turn: &mut Turn, now: Instant) -> Result<(), Cut> {
        let cut = catch_unwind(AssertUnwindSafe(|| self.ingress.read(&self.house.switch, turn, buffer, now)));
        let left = match cut {
            Ok(left) => left?,
            Err(_) => {
                // The turn may hold the half of something: nothing of it leaves.
                *turn = Turn::default();
                self.house.metrics.count(Count::Panics);
                return Err(Cut::Panic);
            }
        };
        let bytes = buffer.bytes();
        self.held.clear();
        self.held.extend_from_slice(&bytes[bytes.len() - left..]);
        if self.held.is_empty() {
            self.held.shrink_to(64);
            self.began = now;
        }
        for outbox in turn.blocked.drain(..) {
            if !self.blocked.iter().any(|each| Arc::ptr_eq(each, &outbox)) {
                self.blocked.push(outbox);
            }
        }
        Ok(())
    }

    fn next_look(&self, config: &Config) -> Instant {
        let now = Instant::now();
        let due = self.ingress.poll_timeout().unwrap_or(now + LOOK);
        let patience = if self.held.is_empty() && self.ingress.is_used() { LOOK } else { config.head_time };
        due.min(now + patience)
    }

    /// Looks after what time brings: responses that did not come, peers that begin and do not go on.
    fn look(&mut self, config: &Config) -> Result<(), Cut> {
        let now = Instant::now();
        BUFFERS.with_borrow_mut(|(buffer, turn)| self.ingress.overdue(&self.house.switch, turn, buffer, now));
        let waited = now.saturating_duration_since(self.began);
        let is_silent = !self.ingress.is_used() && waited > config.silent_time;
        let is_slow = !self.held.is_empty() && !self.ingress.is_within_chunk() && waited > config.head_time;
        if is_silent || is_slow || self.ingress.is_stalled(now) {
            return Err(Cut::Slow);
        }
        Ok(())
    }
}

async fn drained(outbox: Option<&Arc<Outbox>>) {
    if let Some(outbox) = outbox {
        outbox.drained().await;
    }
}

/// The timer moves only when the deadline came nearer, or when it has rung.
fn rearm(timer: &mut Pin<&mut Sleep>, deadline: Instant) {
    let deadline = tokio::time::Instant::from_std(deadline);
    if timer.is_elapsed() || deadline < timer.deadline() {
        timer.as_mut().reset(deadline);
    }
}
