//! One SIP link to a server: a socket, and the transactions that run over it (RFC 3261 §17, §18).
//!
//! ```text
//! Link::request ──> commands ──┐                       ┌──> Exchange (client machines) ──> the answer, once
//!                              ├──> the link's task ───┤
//! socket ──────────────────────┘                       └──> Exchange (server machines) ──> Answerer, once
//! ```
//!
//! The task owns the socket and waits for nothing but the next thing to do. It opens the socket when it is asked to,
//! and again when it is asked after an end.

mod exchange;
mod invites;
mod socket;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::{KeyedHash, Now};
use bytes::Bytes;
use sip::transaction::Timers;
use sip::{Layout, Message, Method, View};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::account::{Direction, Tap, Transport};
use crate::error::ClientError;
use crate::word::{Teller, Word};

use exchange::Exchange;
use socket::{Frame, Socket};

/// Commands that wait for the task; then who asks waits too.
const COMMANDS: usize = 256;
/// Messages read before other things get their turn.
const FRAMES_PER_TURN: usize = 64;

/// Answers requests that come in. Called once a request: repeats are absorbed.
pub(crate) trait Answerer: Send {
    /// Writes the answer; nothing, where none is given.
    fn answer(&mut self, request: View<'_>, now: Now, out: &mut Vec<u8>);
    /// An INVITE, once: repeats, CANCEL and ACK are the link's business. Writes the first answer, a provisional or the
    /// final one.
    fn invited(&mut self, request: View<'_>, invitation: Invitation, out: &mut Vec<u8>);
    /// Our tag in the answers to this request.
    fn tag(&self, request: View<'_>) -> String;
    /// Writes the answer to a request that could not be read; the view holds what could.
    fn refuse(&mut self, request: View<'_>, status: u16, reason: &'static str, out: &mut Vec<u8>);
}

/// An INVITE that has come, and how it is answered.
pub(crate) struct Invitation {
    /// By what the link knows it.
    pub key: u64,
    /// The link that it came over; nothing where that ends just now.
    pub link: Option<Link>,
    /// Where the call is told of CANCEL and ACK.
    pub tell: Teller,
    /// What it is told.
    pub told: mpsc::UnboundedReceiver<Word>,
}

/// Where a link leads, and how it behaves.
#[derive(Clone)]
pub(crate) struct Settings {
    pub server: SocketAddr,
    pub transport: Transport,
    pub local: Option<IpAddr>,
    pub ping: Duration,
    pub timers: Timers,
    pub refusal_is_final: bool,
    pub hash: KeyedHash,
    pub tap: Option<Tap>,
}

/// The way to ask a link; the link ends when all of these are gone.
#[derive(Clone)]
pub(crate) struct Link {
    commands: mpsc::Sender<Command>,
    up: watch::Receiver<bool>,
    pub transport: Transport,
}

enum Command {
    Up(oneshot::Sender<Result<SocketAddr, ClientError>>),
    Request(Request),
    Invite {
        wire: Bytes,
        branch: String,
        tell: Teller,
    },
    Cancel {
        branch: String,
    },
    /// A response to an INVITE that came over this link.
    Answer {
        key: u64,
        status: u16,
        bytes: Bytes,
    },
    /// What belongs to no transaction: an ACK for a 2xx.
    Send(Bytes),
    End,
}

/// A request on its way to become a client transaction.
pub(crate) struct Request {
    /// All octets.
    pub wire: Bytes,
    /// The branch of its Via.
    pub branch: String,
    /// Its method; never INVITE or ACK.
    pub method: Method,
    /// Who waits for the final answer.
    pub answer: oneshot::Sender<Result<Message, ClientError>>,
}

impl Link {
    /// Starts the task. Nothing is opened before somebody asks for it.
    pub(crate) fn start(settings: Settings, answerer: Box<dyn Answerer>) -> Self {
        let (commands, waiting) = mpsc::channel(COMMANDS);
        let (state, up) = watch::channel(false);
        let transport = settings.transport;
        let home = Home { commands: commands.downgrade(), up: up.clone(), transport };
        let exchange = Exchange::new(&settings, home);
        tokio::spawn(Task { settings, answerer, waiting, state, exchange, layout: Layout::default() }.run());
        Self { commands, up, transport }
    }

    /// Opens the socket if it is not open. Gives its local address.
    pub(crate) async fn up(&self) -> Result<SocketAddr, ClientError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Up(answer)).await.map_err(|_| ClientError::Closed)?;
        answered.await.map_err(|_| ClientError::Closed)?
    }

    /// Sends a request and waits for its final answer; who stops waiting does not stop the transaction.
    pub(crate) async fn request(&self, wire: Bytes, branch: String, method: Method) -> Result<Message, ClientError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { wire, branch, method, answer };
        self.commands.send(Command::Request(request)).await.map_err(|_| ClientError::Closed)?;
        answered.await.map_err(|_| ClientError::Closed)?
    }

    /// Sends an INVITE; what is heard of it goes to `tell`.
    pub(crate) async fn invite(&self, wire: Bytes, branch: String, tell: Teller) -> Result<(), ClientError> {
        self.commands.send(Command::Invite { wire, branch, tell }).await.map_err(|_| ClientError::Closed)
    }

    /// Takes an INVITE back.
    pub(crate) async fn cancel(&self, branch: String) {
        // An ended link has nothing under way; so in the next three.
        let _ = self.commands.send(Command::Cancel { branch }).await;
    }

    /// Answers an INVITE that came over this link.
    pub(crate) async fn answer(&self, key: u64, status: u16, bytes: Bytes) {
        let _ = self.commands.send(Command::Answer { key, status, bytes }).await;
    }

    /// The same, where nobody can wait; a link with too much to do does not answer.
    pub(crate) fn answer_now(&self, key: u64, status: u16, bytes: Bytes) {
        let _ = self.commands.try_send(Command::Answer { key, status, bytes });
    }

    /// Sends an ACK for a 2xx.
    pub(crate) async fn send(&self, bytes: Bytes) {
        let _ = self.commands.send(Command::Send(bytes)).await;
    }

    /// Ends the link for everybody.
    pub(crate) async fn end(&self) {
        // It may have ended already.
        let _ = self.commands.send(Command::End).await;
    }

    /// Says when the socket is opened and when it is lost.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }
}

/// A link that does not keep itself alive.
struct Home {
    commands: mpsc::WeakSender<Command>,
    up: watch::Receiver<bool>,
    transport: Transport,
}

impl Home {
    fn link(&self) -> Option<Link> {
        Some(Link { commands: self.commands.upgrade()?, up: self.up.clone(), transport: self.transport })
    }
}

struct Task {
    settings: Settings,
    answerer: Box<dyn Answerer>,
    waiting: mpsc::Receiver<Command>,
    state: watch::Sender<bool>,
    exchange: Exchange,
    layout: Layout,
}

impl Task {
    async fn run(mut self) {
        while let Some(command) = self.waiting.recv().await {
            if matches!(command, Command::End) {
                break;
            }
            let Settings { server, transport, local, .. } = self.settings;
            let (mut socket, local) = match Socket::open(server, transport, local).await {
                Ok(opened) => opened,
                Err(error) => {
                    command.fail(&self.settings.unreachable(error));
                    continue;
                }
            };
            self.state.send_replace(true);
            let ended = self.serve(&mut socket, local, command).await;
            self.state.send_replace(false);
            match ended {
                Ok(()) => break,
                Err(error) => self.exchange.fail_all(&self.settings.lost(error)),
            }
        }
        self.exchange.fail_all(&ClientError::Closed);
    }

    /// Works until the link is no longer wanted (`Ok`) or its socket fails.
    async fn serve(&mut self, socket: &mut Socket, local: SocketAddr, first: Command) -> io::Result<()> {
        let pings = self.settings.transport == Transport::Tcp && !self.settings.ping.is_zero();
        let every = if pings { self.settings.ping } else { FAR };
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Some(first);
        loop {
            match next.take() {
                Some(Command::Up(answer)) => drop(answer.send(Ok(local))),
                Some(Command::Request(request)) => self.exchange.start(request, Now::read().at),
                Some(Command::Invite { wire, branch, tell }) => {
                    self.exchange.invite(wire, branch, tell, Now::read().at);
                }
                Some(Command::Cancel { branch }) => self.exchange.cancel(&branch, Now::read().at),
                Some(Command::Answer { key, status, bytes }) => {
                    self.exchange.answer(key, status, bytes, Now::read().at);
                }
                Some(Command::Send(bytes)) => self.send(socket, &bytes)?,
                Some(Command::End) => return Ok(()),
                None => {}
            }
            self.write(socket)?;
            let wake = self.exchange.next_timeout().map_or_else(|| Instant::now() + FAR, Instant::from_std);
            tokio::select! {
                command = self.waiting.recv() => match command {
                    Some(command) => next = Some(command),
                    None => return Ok(()),
                },
                ready = socket.ready() => {
                    ready?;
                    socket.flush()?;
                    self.read(socket)?;
                }
                () = sleep_until(wake) => self.exchange.handle_timeouts(Now::read().at),
                // RFC 5626 §3.5.1: a double CRLF keeps the connection and what stands between alive.
                _ = ping.tick(), if pings => self.send(socket, b"\r\n\r\n")?,
            }
        }
    }

    fn write(&mut self, socket: &mut Socket) -> io::Result<()> {
        while let Some(bytes) = self.exchange.poll_write() {
            self.send(socket, &bytes)?;
        }
        Ok(())
    }

    fn send(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
        self.settings.see(Direction::Out, bytes);
        match socket.send(bytes) {
            Err(error) if self.settings.transport == Transport::Udp => {
                self.refused(error);
                Ok(())
            }
            sent => sent,
        }
    }

    fn read(&mut self, socket: &mut Socket) -> io::Result<()> {
        for _ in 0..FRAMES_PER_TURN {
            let frame = match socket.next(&mut self.layout) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) if self.settings.transport == Transport::Udp => {
                    self.refused(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let now = Now::read();
            match frame {
                Frame::Message(place) => {
                    let bytes = socket.read(&place);
                    self.settings.see(Direction::In, bytes);
                    self.exchange.receive(self.layout.view(bytes), now, &mut *self.answerer);
                }
                Frame::Blank(place) => self.settings.see(Direction::In, socket.read(&place)),
                Frame::Fault(place, error) => {
                    let bytes = socket.read(&place);
                    self.settings.see(Direction::In, bytes);
                    tracing::debug!(%error, bytes = bytes.len(), "What came cannot be read");
                    let mut out = Vec::new();
                    if let Some((status, reason)) = error.status() {
                        self.answerer.refuse(self.layout.view(bytes), status, reason, &mut out);
                    }
                    if !out.is_empty() {
                        self.send(socket, &out)?;
                    }
                    if self.settings.transport == Transport::Tcp {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("the server sent what is no SIP ({error})"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// The host has said that nobody listens (ICMP), or there is no way to it.
    fn refused(&mut self, error: io::Error) {
        tracing::debug!(%error, "Datagram refused");
        if self.settings.refusal_is_final {
            self.exchange.fail_all(&self.settings.unreachable(error));
        }
    }
}

/// Longer than any link lasts: stands where there is nothing to wait for.
const FAR: Duration = Duration::from_secs(86_400 * 365);

impl Settings {
    fn unreachable(&self, error: io::Error) -> ClientError {
        ClientError::Unreachable { server: self.server, transport: self.transport, reason: Arc::new(error) }
    }

    fn lost(&self, error: io::Error) -> ClientError {
        ClientError::Lost { server: self.server, transport: self.transport, reason: Arc::new(error) }
    }

    fn see(&self, direction: Direction, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            tap(direction, bytes);
        }
    }
}

impl Command {
    fn fail(self, error: &ClientError) {
        // Who asked may have stopped waiting.
        match self {
            Self::Up(answer) => drop(answer.send(Err(error.clone()))),
            Self::Request(request) => drop(request.answer.send(Err(error.clone()))),
            Self::Invite { tell, .. } => drop(tell.send(Word::Failed(error.clone()))),
            Self::Cancel { .. } | Self::Answer { .. } | Self::Send(_) | Self::End => {}
        }
    }
}
