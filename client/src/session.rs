//! A session of two: agreed by INVITE (RFC 3261 §13), talked by MSRP (RFC 4975), ended by BYE.
//!
//! ```text
//! Session ── parcels ──> talk (MSRP) ── messages ──> Session
//!    └── close ──> holder <── words (BYE, 2xx again) ── link
//! ```
//!
//! The holder is a task that owns the dialog: whatever ends first, the call, the connection or the [`Session`] itself,
//! it ends the others.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::limits::{MSRP_FILE_BYTES_MAX, MSRP_MESSAGE_BYTES_MAX};
use bytes::Bytes;
use sdp::Setup;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::files::disposition_of;
use crate::talk::{self, Message, Parcel};

/// How a session is held.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Who opens the MSRP connection (RFC 6135): `ActPass` and `Passive`: a port is opened, and the other side may
    /// connect to it; `Active`: we connect.
    pub setup: Setup,
    /// Media types that are taken, with a space between; `*` for all.
    pub accept_types: String,
    /// Octets of the largest message that is taken and held in memory.
    pub message_bytes: u64,
    /// Where files are put as they come: all but texts and what says something about messages. They are not held in
    /// memory then, and may be larger. The directory is made for the first one.
    pub download_dir: Option<PathBuf>,
    /// Whether the receiver is asked to report that a message has come whole. If not, a message counts as taken when
    /// the next hop has it.
    pub reports: bool,
    /// How long an invitation rings before it is taken back.
    pub ring: Duration,
    /// What the session is about; may be empty.
    pub subject: String,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            setup: Setup::ActPass,
            accept_types: "*".to_owned(),
            message_bytes: MSRP_MESSAGE_BYTES_MAX,
            download_dir: None,
            reports: true,
            ring: Duration::from_secs(180),
            subject: String::new(),
        }
    }
}

impl SessionOptions {
    /// Octets of the largest message that is taken, as we say it to the other side.
    pub(crate) fn max_size(&self) -> u64 {
        if self.download_dir.is_some() { self.message_bytes.max(MSRP_FILE_BYTES_MAX) } else { self.message_bytes }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver has reported that it is there, whole.
    Delivered,
    /// The next hop has it; the receiver did not report, or was not asked to.
    Taken,
    /// Refused, with this code of RFC 4975 §10: 413 too large, 415 not of a type that is taken, 481 no such session.
    Refused(u16),
    /// No answer in time.
    TimedOut,
    /// The session was over before it was known.
    Lost,
}

impl Delivery {
    /// Whether it is where it should be, as far as can be known.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Delivered | Self::Taken)
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Taken => f.write_str("sent"),
            Self::Refused(code) => write!(f, "refused ({code} {})", msrp::comment_of(*code)),
            Self::TimedOut => f.write_str("not answered in time"),
            Self::Lost => f.write_str("lost with the session"),
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// We hung up.
    ByUs,
    /// The other side, or the server, hung up; with its Reason (RFC 3326), if it gave one.
    ByPeer(Option<String>),
    /// The connection was lost, for this reason.
    Lost(String),
}

/// What the other side says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Theirs {
    /// Its whole MSRP path.
    pub path: String,
    /// The media types that it takes.
    pub accept_types: Vec<String>,
    /// Octets of the largest message that it takes, if it says.
    pub max_size: Option<u64>,
}

impl Theirs {
    pub(crate) fn of(line: sdp::Message<'_>) -> Self {
        let accept_types = line.accept_types().iter().map(str::to_owned).collect();
        Self { path: line.path().to_owned(), accept_types, max_size: line.max_size() }
    }
}

/// One end of a session. Dropping it hangs up.
pub struct Session {
    pub(crate) peer: String,
    pub(crate) theirs: watch::Receiver<Theirs>,
    pub(crate) parcels: mpsc::Sender<Parcel>,
    pub(crate) inbox: Mutex<mpsc::Receiver<Message>>,
    pub(crate) closing: mpsc::Sender<()>,
    pub(crate) ended: watch::Receiver<Option<Ended>>,
}

impl Session {
    /// The URI of the other one.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Sends a text.
    pub async fn send_text(&self, text: &str) -> Delivery {
        self.send("text/plain", Bytes::copy_from_slice(text.as_bytes())).await
    }

    /// Sends a message and waits to hear what became of it. `body` is shared, never copied whole; several may be sent
    /// at a time, and a small one does not wait for a large one.
    pub async fn send(&self, content_type: &str, body: impl Into<Bytes>) -> Delivery {
        self.post(content_type, body.into(), String::new()).await
    }

    /// As [`Session::send`], and says what the file is called: the last step of this path.
    pub async fn send_file(&self, name: &Path, content_type: &str, body: impl Into<Bytes>) -> Delivery {
        self.post(content_type, body.into(), disposition_of(name).unwrap_or_default()).await
    }

    async fn post(&self, content_type: &str, body: Bytes, lines: String) -> Delivery {
        // RFC 4975 §8.6: not what the other side does not take. A line end would forge header fields.
        let (takes, max_size) = {
            let theirs = self.theirs.borrow();
            (talk::takes(&theirs.accept_types, content_type.as_bytes()), theirs.max_size)
        };
        if content_type.chars().any(char::is_control) || !takes {
            return Delivery::Refused(415);
        }
        if max_size.is_some_and(|max| body.len() as u64 > max) {
            return Delivery::Refused(413);
        }
        let (outcome, came) = oneshot::channel();
        let parcel = Parcel { content_type: content_type.to_owned(), body, lines, outcome };
        if self.parcels.send(parcel).await.is_err() {
            return Delivery::Lost;
        }
        came.await.unwrap_or(Delivery::Lost)
    }

    /// Waits for the next message; nothing when the session is over and all has been read. Who does not read holds up
    /// the whole session, in both directions.
    pub async fn recv(&self) -> Option<Message> {
        self.inbox.lock().await.recv().await
    }

    /// Hangs up and waits until it is done. What [`Session::send`] has not yet answered may be lost.
    pub async fn close(&self) -> Ended {
        // It may be over already.
        let _ = self.closing.try_send(());
        self.ended().await
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let how = ended.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
        how.unwrap_or_else(|| Ended::Lost("the client has ended".to_owned()))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("ended", &*self.ended.borrow())
            .finish_non_exhaustive()
    }
}
