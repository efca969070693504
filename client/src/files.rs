//! Files that come in over a session, written as they come: what a film costs is a place on the disk, not memory.
//!
//! ```text
//! Reassembly (which octets belong where) ── pieces ──> queue ──> writer, a thread of its own: disk, SHA-256
//!                                 finished, or failed <── done ──┘
//! ```
//!
//! Bound: [`ORDERS`] pieces of [`PIECE`] octets for the writer; when there is more, the session's socket is not read.

mod name;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use base::limits::{MSRP_PARTIALS_MAX, MSRP_SHOWN_BYTES_MAX};
use msrp::{Head, Whole};
use tokio::sync::mpsc;

pub(crate) use name::disposition_of;
pub use name::media_type_of;
use writer::{Done, Order};

/// Orders that wait for the writer.
const ORDERS: usize = 16;
/// Octets that are written at a time.
const PIECE: usize = 65_536;

/// A file that has come whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size in octets.
    pub bytes: u64,
    /// The SHA-256 of its content.
    pub sha256: [u8; 32],
}

impl ReceivedFile {
    /// The SHA-256 as people compare it: 64 hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        self.sha256.iter().fold(String::new(), |mut text, byte| {
            // Memory does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// What became of a file.
pub(crate) enum Filed {
    /// It is there, and its message is whole.
    There(Box<Whole>, ReceivedFile),
    /// It is not, though all its octets have come: its sender counts on it.
    Lost(Box<Whole>),
    /// It has failed before its end: the rest of it is refused.
    Broken,
}

/// The files of one session.
pub(crate) struct Files {
    /// Where they go; without it there are none.
    dir: Option<PathBuf>,
    writer: Option<Writer>,
    /// What the writer has had no room for.
    queue: VecDeque<Order>,
    /// Those that are coming in, by the ids of their messages.
    open: HashMap<Vec<u8>, u64>,
    /// Those that have come, and are not all on the disk.
    finishing: HashMap<u64, Box<Whole>>,
    /// Ids of messages whose files have failed; the oldest is forgotten.
    broken: VecDeque<Vec<u8>>,
    next: u64,
}

struct Writer {
    orders: mpsc::Sender<Order>,
    /// One for each file at most.
    done: mpsc::UnboundedReceiver<Done>,
}

impl Files {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            writer: None,
            queue: VecDeque::new(),
            open: HashMap::new(),
            finishing: HashMap::new(),
            broken: VecDeque::new(),
            next: 0,
        }
    }

    /// Whether the message that begins here goes into a file: what is not for a person to read or for us to act on, and
    /// what is too long for that.
    pub(crate) fn takes(&self, head: Head<'_>) -> bool {
        let kind = head.content_type().unwrap_or_default();
        self.dir.is_some() && (!is_shown(kind) || head.range().total.is_some_and(|total| total > MSRP_SHOWN_BYTES_MAX))
    }

    /// Whether the file of this message has failed, or must.
    pub(crate) fn is_broken(&self, message_id: &[u8]) -> bool {
        self.dir.is_none() || self.broken.iter().any(|id| id == message_id)
    }

    /// The file of this message: made, where it is the first chunk of it that comes.
    pub(crate) fn begin(&mut self, message_id: &[u8], head: Head<'_>) -> u64 {
        if let Some(key) = self.open.get(message_id) {
            return *key;
        }
        let key = self.next;
        self.next += 1;
        self.open.insert(message_id.to_vec(), key);
        let name = name::of(head.header("Content-Disposition"), head.content_type());
        self.queue.push_back(Order::Open { key, name });
        key
    }

    /// Octets of it, and how many stand before them.
    pub(crate) fn write(&mut self, key: u64, at: u64, octets: &[u8]) {
        match self.queue.back_mut() {
            // Small chunks are written together.
            Some(Order::Write { key: last, at: from, octets: piece })
                if *last == key && *from + piece.len() as u64 == at && piece.len() + octets.len() <= PIECE =>
            {
                piece.extend_from_slice(octets);
            }
            _ => self.queue.push_back(Order::Write { key, at, octets: octets.to_vec() }),
        }
    }

    /// Nothing of it is missing.
    pub(crate) fn finish(&mut self, key: u64, whole: Whole) {
        self.open.remove(&whole.message_id);
        self.queue.push_back(Order::Finish { key, octets: whole.octets });
        self.finishing.insert(key, Box::new(whole));
    }

    /// Its message is given up.
    pub(crate) fn forget(&mut self, message_id: &[u8]) {
        if let Some(key) = self.open.remove(message_id) {
            self.queue.push_back(Order::Forget { key });
        }
    }

    /// Hands the writer what it has room for.
    pub(crate) fn pump(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let Some(dir) = &self.dir else { return self.queue.clear() };
        let writer = self.writer.get_or_insert_with(|| Writer::start(dir.clone()));
        while !self.queue.is_empty() {
            // Where it has no room it will have some; where it is gone, `go_on` hears of it.
            let Ok(place) = writer.orders.try_reserve() else { return };
            place.send(self.queue.pop_front().expect("there is one"));
        }
    }

    /// Whether the disk is slower than the network: then nothing more should be read.
    pub(crate) fn is_behind(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether [`Files::go_on`] has something to wait for.
    pub(crate) fn is_busy(&self) -> bool {
        self.writer.is_some() && !(self.queue.is_empty() && self.open.is_empty() && self.finishing.is_empty())
    }

    /// Waits for room, or for word of a file.
    pub(crate) async fn go_on(&mut self) -> Option<Filed> {
        let writer = self.writer.as_mut()?;
        let orders = writer.orders.clone();
        let done = tokio::select! {
            done = writer.done.recv() => done,
            place = orders.reserve(), if !self.queue.is_empty() => {
                if let (Ok(place), Some(order)) = (place, self.queue.pop_front()) {
                    place.send(order);
                }
                return None;
            }
        };
        match done {
            Some(done) => self.filed(done),
            None => self.give_up(),
        }
    }

    /// The session is over: what has come whole is still written, all else is removed. Each file that is there is given
    /// to `take`.
    pub(crate) async fn close(&mut self, mut take: impl FnMut(Box<Whole>, ReceivedFile)) {
        self.open.clear();
        let Some(Writer { orders, mut done }) = self.writer.take() else { return };
        for order in self.queue.drain(..) {
            if orders.send(order).await.is_err() {
                break;
            }
        }
        drop(orders);
        while let Some(done) = done.recv().await {
            if let Some(Filed::There(whole, file)) = self.filed(done) {
                take(whole, file);
            }
        }
    }

    /// There is no writer any more: no file is taken from now on, and none that has begun becomes whole.
    fn give_up(&mut self) -> Option<Filed> {
        (self.dir, self.writer) = (None, None);
        self.queue.clear();
        self.open.clear();
        self.finishing.drain().next().map(|(_, whole)| Filed::Lost(whole))
    }

    fn filed(&mut self, Done { key, outcome }: Done) -> Option<Filed> {
        let whole = self.finishing.remove(&key);
        match (outcome, whole) {
            (Ok(file), Some(whole)) => Some(Filed::There(whole, file)),
            (Ok(_), None) => None,
            (Err(error), whole) => {
                tracing::warn!(%error, "A file that came in cannot be kept");
                if let Some(whole) = whole {
                    return Some(Filed::Lost(whole));
                }
                let id = self.open.iter().find(|(_, open)| **open == key).map(|(id, _)| id.clone())?;
                self.open.remove(&id);
                if self.broken.len() >= MSRP_PARTIALS_MAX {
                    self.broken.pop_front();
                }
                self.broken.push_back(id);
                Some(Filed::Broken)
            }
        }
    }
}

impl Writer {
    fn start(dir: PathBuf) -> Self {
        let (orders, ordered) = mpsc::channel(ORDERS);
        let (tell, done) = mpsc::unbounded_channel();
        let tell_fault = tell.clone();
        let started =
            std::thread::Builder::new().name("files".to_owned()).spawn(move || writer::write(&dir, ordered, &tell));
        if let Err(error) = started {
            // The first file is told so, and all others: their orders find nobody.
            let _ = tell_fault.send(Done { key: 0, outcome: Err(error) });
        }
        Self { orders, done }
    }
}

/// Texts, and what says something about messages: shown or acted on, never put into a file.
fn is_shown(kind: &[u8]) -> bool {
    let kind = kind.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    [&b"text/"[..], b"message/", b"multipart/"].iter().any(|start| kind.starts_with(start)) || kind.ends_with(b"+xml")
}

/// That a file cannot be kept, as a sender hears it: this message is not wanted any more (RFC 4975 §10.5).
pub(crate) const NOT_KEPT: u16 = 413;

/// An error that names the file.
fn named(path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
