//! The MSRP end of one session: one connection, the messages that go out over it and those that come in (RFC 4975).
//!
//! ```text
//!  parcels ──> chunks in turn ──> out ──> socket         a large message does not hold up a small one
//!  socket ──> Scanner ──> Reassembly ──> inbox           who does not read is not read from
//!                   └──> responses, REPORTs ──> out
//! ```
//!
//! Bounds: [`WINDOW`] chunks without a response, [`AT_ONCE`] messages going out at a time, [`INBOX`] whole messages that
//! nobody has read; what is put together from chunks is bounded by the session's largest message.

mod incoming;
mod outgoing;

use std::io;
use std::time::{Duration, Instant};

use base::KeyedHash;
use bytes::Bytes;
use msrp::{Head, Kind, Limits, Method, Reassembly, Scanner, Step, TidMaker};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use crate::account::{Direction, Tap};

use incoming::Chunk;
pub(crate) use incoming::takes;
use outgoing::Outbox;
pub(crate) use outgoing::Parcel;

/// Whole messages that nobody has read; then the socket is not read either.
pub(crate) const INBOX: usize = 256;
/// Messages that go out at a time; further ones wait.
const AT_ONCE: usize = 16;
/// Chunks that may be without a response.
const WINDOW: usize = 64;
/// Octets of one chunk's body.
const CHUNK: usize = 65_536;
/// Octets written ahead of the socket.
const AHEAD: usize = 2 * CHUNK;
/// Octets that may wait for a peer that sends and does not read its answers; then it is left.
const UNREAD: usize = 8 << 20;
/// How long the last octets may take when the session ends.
const FLUSH: Duration = Duration::from_secs(2);

/// A message of the session, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its media type, as the sender wrote it.
    pub content_type: String,
    /// Its content.
    pub body: Bytes,
}

impl Message {
    /// The content as text, where it is text.
    pub fn text(&self) -> Option<&str> {
        let is_text = self.content_type.trim_start().to_ascii_lowercase().starts_with("text/");
        std::str::from_utf8(&self.body).ok().filter(|_| is_text)
    }
}

/// Why a talk is over, where it is not by our own wish.
pub(crate) type Lost = io::Error;

/// Which way the connection is made.
pub(crate) enum Way {
    /// Ours: connected.
    Connected(TcpStream),
    /// The peer's: waited for.
    Awaited(TcpListener),
}

/// What a talk is made from.
pub(crate) struct Terms {
    /// Our URI.
    pub ours: Vec<u8>,
    /// The peer's whole path.
    pub theirs: Vec<u8>,
    /// The media types that we take, as our SDP lists them.
    pub accept_types: Vec<String>,
    /// Octets of the largest message that we take.
    pub message_bytes: u64,
    /// Whether we ask for success reports.
    pub reports: bool,
    pub hash: KeyedHash,
    pub tap: Option<Tap>,
}

/// Talks until the session ends by `stop` (`Ok`), or until the connection is lost. `bound` is told when
/// the connection is known to be of this session.
pub(crate) async fn run(
    way: Way,
    terms: Terms,
    mut parcels: mpsc::Receiver<Parcel>,
    inbox: mpsc::Sender<Message>,
    bound: oneshot::Sender<()>,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), Lost> {
    let mut bound = Some(bound);
    match way {
        Way::Connected(stream) => {
            let mut talk = Talk::new(&terms, &stream, true);
            talk.serve(&mut parcels, &inbox, &mut bound, &mut stop).await
        }
        Way::Awaited(listener) => loop {
            // Anybody may connect; whose SEND names another session is told 481, and the next one is heard.
            let stream = tokio::select! {
                accepted = listener.accept() => accepted?.0,
                _ = &mut stop => return Ok(()),
            };
            stream.set_nodelay(true)?;
            let mut talk = Talk::new(&terms, &stream, false);
            let ended = talk.serve(&mut parcels, &inbox, &mut bound, &mut stop).await;
            if bound.is_none() || ended.is_ok() {
                return ended;
            }
        },
    }
}

struct Talk<'a> {
    terms: &'a Terms,
    stream: &'a TcpStream,
    scanner: Scanner,
    /// What was read and is not scanned yet.
    input: Vec<u8>,
    reassembly: Reassembly,
    chunk: Option<Chunk>,
    /// Messages that wait for room in the inbox.
    whole: Vec<Message>,
    outbox: Outbox<'a>,
    /// What the socket has not taken yet, from `written` on.
    out: Vec<u8>,
    written: usize,
    tids: TidMaker,
}

impl<'a> Talk<'a> {
    fn new(terms: &'a Terms, stream: &'a TcpStream, is_active: bool) -> Self {
        let limits = Limits { message_bytes: terms.message_bytes, bytes: terms.message_bytes, ..Limits::default() };
        let mut talk = Self {
            terms,
            stream,
            scanner: Scanner::default(),
            input: Vec::new(),
            reassembly: Reassembly::new(limits),
            chunk: None,
            whole: Vec::new(),
            outbox: Outbox::new(terms),
            out: Vec::new(),
            written: 0,
            tids: TidMaker::new(terms.hash),
        };
        if is_active {
            // RFC 6135 §4.2.2: who has connected sends at once, so that the other side knows whose connection it is.
            talk.write(|talk, out| talk.outbox.hello(out, &talk.tids));
        }
        talk
    }

    async fn serve(
        &mut self,
        parcels: &mut mpsc::Receiver<Parcel>,
        inbox: &mpsc::Sender<Message>,
        bound: &mut Option<oneshot::Sender<()>>,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<(), Lost> {
        loop {
            self.fill();
            self.flush()?;
            if self.outbox.is_bound()
                && let Some(bound) = bound.take()
            {
                // Who asked may have given up.
                let _ = bound.send(());
            }
            let (has_room, is_quiet) = (self.whole.is_empty(), self.out.is_empty());
            let wake = self.poll_timeout();
            tokio::select! {
                // Whoever lets go of the session ends it too: that comes by `stop`.
                Some(parcel) = parcels.recv(), if self.outbox.has_room() => self.outbox.take(parcel),
                _ = &mut *stop => return self.part().await,
                ready = self.stream.readable(), if has_room => {
                    ready?;
                    self.read()?;
                }
                ready = self.stream.writable(), if !is_quiet => ready?,
                permit = inbox.reserve(), if !has_room => match permit {
                    Ok(permit) => permit.send(self.whole.remove(0)),
                    // Nobody reads any more, and the session is about to end.
                    Err(_) => self.whole.clear(),
                },
                () = sleep_until(wake.unwrap_or_else(far).into()), if wake.is_some() => {
                    let now = Instant::now();
                    self.outbox.handle_timeout(now);
                    self.reassembly.handle_timeout(now);
                    self.check_gone()?;
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.outbox.poll_timeout().into_iter().chain(self.reassembly.poll_timeout()).min()
    }

    /// Writes further chunks as long as the socket takes them.
    fn fill(&mut self) {
        while self.out.len() - self.written < AHEAD && self.outbox.may_go_on() {
            self.write(|talk, out| talk.outbox.write_chunk(out, &talk.tids));
        }
    }

    /// Writes one frame, seen by the tap.
    fn write(&mut self, write: impl FnOnce(&mut Self, &mut Vec<u8>)) {
        let mut out = std::mem::take(&mut self.out);
        let before = out.len();
        write(self, &mut out);
        self.see(Direction::Out, &out[before..]);
        self.out = out;
    }

    fn flush(&mut self) -> Result<(), Lost> {
        while self.written < self.out.len() {
            match self.stream.try_write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written >= AHEAD {
            self.out.drain(..self.written);
            self.written = 0;
        }
        if self.out.len() - self.written > UNREAD {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer sends and does not read"));
        }
        Ok(())
    }

    /// The session is over: what was written still leaves.
    async fn part(&mut self) -> Result<(), Lost> {
        let until = tokio::time::Instant::now() + FLUSH;
        while !self.out.is_empty() {
            match tokio::time::timeout_at(until, self.stream.writable()).await {
                Ok(Ok(())) => self.flush()?,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Lost> {
        self.input.reserve(base::limits::MSRP_READ_BYTES);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed the connection"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let step = self.scanner.scan(rest).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("the peer sent what is no MSRP ({error})"))
            })?;
            let now = Instant::now();
            match step {
                Step::More => break,
                Step::Head(spans) => {
                    at += spans.used();
                    self.see(Direction::In, &rest[..spans.used()]);
                    self.head(spans.view(rest), now)?;
                }
                Step::Body { used } => {
                    at += used;
                    self.see(Direction::In, &rest[..used]);
                    self.body(&rest[..used]);
                }
                // Of no meaning here: our own chunks are written whole, their ids checked against their bodies.
                Step::Clash => {}
                Step::End { used, flag } => {
                    at += used;
                    self.see(Direction::In, &rest[..used]);
                    self.end(flag, now);
                }
            }
        }
        self.input = input;
        self.input.drain(..at);
        Ok(())
    }

    fn head(&mut self, head: Head<'_>, now: Instant) -> Result<(), Lost> {
        match head.kind() {
            Kind::Response(status) => self.outbox.answered(head.tid(), status, now),
            // RFC 4975 §7.1.2: a REPORT is never answered.
            Kind::Request(Method::Report) if head.fault().is_none() => {
                let code = head.report_status().filter(|status| status.namespace == 0).map(|status| status.code);
                if let (Some(code), Some(id)) = (code, head.message_id()) {
                    self.outbox.reported(id, code, head.range());
                }
            }
            Kind::Request(_) => self.request(head, now),
        }
        self.check_gone()
    }

    fn check_gone(&self) -> Result<(), Lost> {
        if self.outbox.is_gone() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the other side does not know this session"));
        }
        Ok(())
    }

    fn see(&self, direction: Direction, bytes: &[u8]) {
        if let Some(tap) = &self.terms.tap {
            tap(direction, bytes);
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
