//! The MSRP end of one session: one connection at a time, the messages that go out over it and those that come in
//! (RFC 4975).
//!
//! ```text
//!  parcels ──> chunks in turn ──> out ──> socket         a large message does not hold up a small one
//!  socket ──> Scanner ──> Reassembly ──> inbox           who does not read is not read from
//!                   │         └──> files                 a file goes to the disk as it comes
//!                   └──> responses, REPORTs ──> out
//! ```
//!
//! [`Line`] is what outlives a connection: when the session moves, the next one goes on with it.
//!
//! Bounds: [`WINDOW`] chunks without a response, [`AT_ONCE`] messages going out at a time, [`INBOX`] whole messages that
//! nobody has read; what is put together from chunks is bounded by the session's largest message.

mod incoming;
mod outgoing;
mod way;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::KeyedHash;
use base::limits::{MSRP_PARTIALS_MAX, MSRP_SHOWN_BYTES_MAX};
use bytes::Bytes;
use msrp::{Head, Kind, Limits, Method, Reassembly, Scanner, Step, TidMaker};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use crate::account::{Direction, Tap};
use crate::files::{Files, ReceivedFile};

use incoming::Chunk;
pub(crate) use incoming::takes;
use outgoing::Outbox;
pub(crate) use outgoing::Parcel;
pub(crate) use way::{Way, fault_of};

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
/// How long the two sides may take, once the session is agreed, until the connection is known to be theirs.
const BINDING: Duration = Duration::from_secs(30);
/// How long the last file may take to be written when the session is over.
const FILING: Duration = Duration::from_secs(10);

/// A message of the session, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its media type, as the sender wrote it.
    pub content_type: String,
    /// Its content; empty where it went into a file.
    pub body: Bytes,
    /// The file that its content went into.
    pub file: Option<ReceivedFile>,
}

impl Message {
    /// The content as text, where it is text.
    pub fn text(&self) -> Option<&str> {
        let is_text = self.content_type.trim_start().to_ascii_lowercase().starts_with("text/") && self.file.is_none();
        std::str::from_utf8(&self.body).ok().filter(|_| is_text)
    }

    /// Octets of its content, wherever it is.
    pub fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(self.body.len() as u64, |file| file.bytes)
    }
}

/// Why a session is over, where it is not by our own wish.
pub(crate) type Lost = io::Error;

/// Why a connection is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The session is over: what was written still leaves.
    Part,
    /// The session goes on over another connection.
    Move,
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
    /// Where files go; without it everything is held in memory.
    pub files: Option<PathBuf>,
    /// Whether we ask for success reports.
    pub reports: bool,
    pub hash: KeyedHash,
    pub tap: Option<Tap>,
}

/// One side of a session, whatever connection it has.
pub(crate) struct Line {
    terms: Arc<Terms>,
    parcels: mpsc::Receiver<Parcel>,
    inbox: mpsc::Sender<Message>,
    outbox: Outbox,
    reassembly: Reassembly,
    files: Files,
    /// Messages that wait for room in the inbox.
    whole: VecDeque<Message>,
    /// Ids of those that have come whole; the oldest are forgotten.
    heard: VecDeque<Vec<u8>>,
    /// How many of the first of these came over connections that were left.
    heard_before: usize,
}

impl Line {
    pub(crate) fn new(terms: Terms, parcels: mpsc::Receiver<Parcel>, inbox: mpsc::Sender<Message>) -> Self {
        let terms = Arc::new(terms);
        let message_bytes = match terms.files {
            Some(_) => terms.message_bytes.min(MSRP_SHOWN_BYTES_MAX),
            None => terms.message_bytes,
        };
        let limits = Limits { message_bytes, bytes: terms.message_bytes, ..Limits::default() };
        Self {
            parcels,
            inbox,
            outbox: Outbox::new(terms.clone()),
            reassembly: Reassembly::new(limits),
            files: Files::new(terms.files.clone()),
            whole: VecDeque::new(),
            heard: VecDeque::new(),
            heard_before: 0,
            terms,
        }
    }

    /// The session goes on on these terms. What of our messages is not known to have arrived is sent once more, under
    /// the ids that it had (RFC 4975 §5.4).
    pub(crate) fn moved(&mut self, ours: &str, theirs: &str) {
        let before = &self.terms;
        let terms = Arc::new(Terms {
            ours: ours.as_bytes().to_vec(),
            theirs: theirs.as_bytes().to_vec(),
            accept_types: before.accept_types.clone(),
            files: before.files.clone(),
            tap: before.tap.clone(),
            ..**before
        });
        self.outbox.moved(terms.clone());
        self.terms = terms;
        self.heard_before = self.heard.len();
    }

    /// Whether a message of this id came whole before the session moved: its sender may not know (RFC 4975 §5.4).
    fn has_heard(&mut self, message_id: &[u8]) -> bool {
        if self.heard.iter().take(self.heard_before).any(|id| id == message_id) {
            return true;
        }
        if self.heard.len() >= MSRP_PARTIALS_MAX {
            self.heard.pop_front();
            self.heard_before = self.heard_before.saturating_sub(1);
        }
        self.heard.push_back(message_id.to_vec());
        false
    }

    /// Talks until told to stop (`Ok`), or until the connection is lost. `bound` is told when the connection is known to
    /// be of this session.
    async fn talk(
        &mut self,
        way: Way,
        bound: oneshot::Sender<()>,
        stop: &mut oneshot::Receiver<Stop>,
    ) -> Result<(), Lost> {
        let mut binding = Binding { bound: Some(bound), until: Instant::now() + BINDING };
        match way {
            Way::Ours(path, local) => {
                let stream = tokio::select! {
                    connected = way::connect(&path, local) => connected?,
                    _ = &mut *stop => return Ok(()),
                };
                Talk::new(self, &stream, true).serve(&mut binding, stop).await
            }
            Way::Theirs(listener) => loop {
                // Anybody may connect; whose SEND names another session is told 481, and the next one is heard.
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted?.0,
                    _ = &mut *stop => return Ok(()),
                    () = sleep_until(binding.until.into()) => return Err(binding.expired()),
                };
                stream.set_nodelay(true)?;
                let ended = Talk::new(self, &stream, false).serve(&mut binding, stop).await;
                if binding.bound.is_none() || ended.is_ok() || Instant::now() >= binding.until {
                    return ended;
                }
            },
        }
    }

    /// The session is over: who reads still gets what has come whole.
    pub(crate) async fn finish(mut self) {
        let whole = &mut self.whole;
        let filed = self.files.close(|done, file| whole.push_back(incoming::message(*done, Some(file))));
        if tokio::time::timeout(FILING, filed).await.is_err() {
            tracing::debug!("The last files are left to the disk");
        }
        for message in self.whole {
            // Who reads no more needs nothing more.
            let _ = tokio::time::timeout(FLUSH, self.inbox.send(message)).await;
        }
    }
}

/// Talks over one connection, and gives the line back.
pub(crate) async fn run(
    way: Way,
    mut line: Line,
    bound: oneshot::Sender<()>,
    mut stop: oneshot::Receiver<Stop>,
) -> (Line, Result<(), Lost>) {
    let ended = line.talk(way, bound, &mut stop).await;
    (line, ended)
}

/// Who waits for the connection to be known as the session's, and how long.
struct Binding {
    bound: Option<oneshot::Sender<()>>,
    until: Instant,
}

impl Binding {
    fn expired(&self) -> Lost {
        io::Error::new(io::ErrorKind::TimedOut, format!("nobody connected within {} s", BINDING.as_secs()))
    }
}

struct Talk<'a> {
    line: &'a mut Line,
    stream: &'a TcpStream,
    scanner: Scanner,
    /// What was read and is not scanned yet.
    input: Vec<u8>,
    chunk: Option<Chunk>,
    /// What the socket has not taken yet, from `written` on.
    out: Vec<u8>,
    written: usize,
    tids: TidMaker,
}

impl<'a> Talk<'a> {
    fn new(line: &'a mut Line, stream: &'a TcpStream, is_active: bool) -> Self {
        let tids = TidMaker::new(line.terms.hash);
        let (scanner, input, out) = (Scanner::default(), Vec::new(), Vec::new());
        let mut talk = Self { line, stream, scanner, input, chunk: None, out, written: 0, tids };
        if is_active {
            // RFC 6135 §4.2.2: who has connected sends at once, so that the other side knows whose connection it is.
            talk.write(|talk, out| talk.line.outbox.hello(out, &talk.tids));
        }
        talk
    }

    async fn serve(&mut self, binding: &mut Binding, stop: &mut oneshot::Receiver<Stop>) -> Result<(), Lost> {
        let inbox = self.line.inbox.clone();
        loop {
            self.fill();
            self.flush()?;
            self.line.files.pump();
            if self.line.outbox.is_bound()
                && let Some(bound) = binding.bound.take()
            {
                // Who asked may have given up.
                let _ = bound.send(());
            }
            let (has_room, is_behind) = (self.line.whole.is_empty(), self.line.files.is_behind());
            let is_quiet = self.out.is_empty();
            let wake = self.line.outbox.poll_timeout().into_iter().chain(self.line.reassembly.poll_timeout()).min();
            tokio::select! {
                // Whoever lets go of the session ends it too: that comes by `stop`.
                Some(parcel) = self.line.parcels.recv(), if self.line.outbox.has_room() => self.line.outbox.take(parcel),
                why = &mut *stop => return match why {
                    Ok(Stop::Move) => Ok(()),
                    Ok(Stop::Part) | Err(_) => self.part().await,
                },
                ready = self.stream.readable(), if has_room && !is_behind => {
                    ready?;
                    self.read()?;
                }
                ready = self.stream.writable(), if !is_quiet => ready?,
                filed = self.line.files.go_on(), if self.line.files.is_busy() => {
                    if let Some(filed) = filed {
                        self.filed(filed);
                    }
                }
                permit = inbox.reserve(), if !has_room => match permit {
                    Ok(permit) => {
                        if let Some(message) = self.line.whole.pop_front() {
                            permit.send(message);
                        }
                    }
                    // Nobody reads any more, and the session is about to end.
                    Err(_) => self.line.whole.clear(),
                },
                () = sleep_until(wake.unwrap_or_else(far).into()), if wake.is_some() => {
                    let now = Instant::now();
                    self.line.outbox.handle_timeout(now);
                    for id in self.line.reassembly.handle_timeout(now) {
                        self.line.files.forget(&id);
                    }
                    self.check_gone()?;
                }
                () = sleep_until(binding.until.into()), if binding.bound.is_some() => return Err(binding.expired()),
            }
        }
    }

    /// Writes further chunks as long as the socket takes them.
    fn fill(&mut self) {
        while self.out.len() - self.written < AHEAD && self.line.outbox.may_go_on() {
            self.write(|talk, out| talk.line.outbox.write_chunk(out, &talk.tids));
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
            Kind::Response(status) => self.line.outbox.answered(head.tid(), status, now),
            // RFC 4975 §7.1.2: a REPORT is never answered.
            Kind::Request(Method::Report) if head.fault().is_none() => {
                let code = head.report_status().filter(|status| status.namespace == 0).map(|status| status.code);
                if let (Some(code), Some(id)) = (code, head.message_id()) {
                    self.line.outbox.reported(id, code, head.range());
                }
            }
            Kind::Request(_) => self.request(head, now),
        }
        self.check_gone()
    }

    fn check_gone(&self) -> Result<(), Lost> {
        if self.line.outbox.is_gone() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the other side does not know this session"));
        }
        Ok(())
    }

    fn see(&self, direction: Direction, bytes: &[u8]) {
        if let Some(tap) = &self.line.terms.tap {
            tap(direction, bytes);
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
