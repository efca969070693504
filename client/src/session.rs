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
use std::sync::Arc;
use std::time::Duration;

use base::KeyedHash;
use base::limits::MSRP_MESSAGE_BYTES_MAX;
use bytes::Bytes;
use sdp::{Role, Setup};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::calls::Calls;
use crate::error::ClientError;
use crate::link::Link;
use crate::media::Side;
use crate::talk::{self, INBOX, Lost, Message, Parcel, Terms};
use crate::word::Word;

/// Messages that wait to be taken by the connection; then who sends waits.
const PARCELS: usize = 16;
/// How long the two sides may take, once the session is agreed, until the connection is known to be theirs.
const BINDING: Duration = Duration::from_secs(30);
/// How long we wait for the ACK before we connect.
const EARLY: Duration = Duration::from_millis(500);
/// How long an end of ours waits for the ACK of our 2xx (RFC 3261 §15: no BYE before).
const ACK: Duration = Duration::from_secs(4);

/// How a session is held.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Who opens the MSRP connection (RFC 6135): `ActPass` and `Passive`: a port is opened, and the other side may
    /// connect to it; `Active`: we connect.
    pub setup: Setup,
    /// Media types that are taken, with a space between; `*` for all.
    pub accept_types: String,
    /// Octets of the largest message that is taken; it is held in memory.
    pub message_bytes: u64,
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
            reports: true,
            ring: Duration::from_secs(180),
            subject: String::new(),
        }
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

/// One end of a session. Dropping it hangs up.
pub struct Session {
    peer: String,
    accept_types: Vec<String>,
    max_size: Option<u64>,
    parcels: mpsc::Sender<Parcel>,
    inbox: Mutex<mpsc::Receiver<Message>>,
    closing: mpsc::Sender<()>,
    ended: watch::Receiver<Option<Ended>>,
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
        let body = body.into();
        // RFC 4975 §8.6: not what the other side does not take. A line end would forge header fields.
        if content_type.chars().any(char::is_control) || !self.takes(content_type) {
            return Delivery::Refused(415);
        }
        if self.max_size.is_some_and(|max| body.len() as u64 > max) {
            return Delivery::Refused(413);
        }
        let (outcome, came) = oneshot::channel();
        let parcel = Parcel { content_type: content_type.to_owned(), body, outcome };
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

    fn takes(&self, content_type: &str) -> bool {
        talk::takes(&self.accept_types, content_type.as_bytes())
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

/// The call of a session that has been agreed.
pub(crate) struct Call {
    pub calls: Arc<Calls>,
    pub link: Link,
    /// Ours, by which the dialog stands.
    pub tag: String,
    pub told: mpsc::UnboundedReceiver<Word>,
    /// The number of our INVITE; nothing where we were invited.
    pub number: Option<u32>,
    pub peer: String,
    /// Whether the 2xx has been acknowledged.
    pub is_acknowledged: bool,
}

/// Connects what was agreed with a description of the peer's.
pub(crate) async fn establish(
    mut call: Call,
    side: Side,
    role: Role,
    theirs: sdp::Message<'_>,
    options: &SessionOptions,
) -> Result<Session, ClientError> {
    // The other side knows our path when our answer is there, and not before: it would say 481.
    if let Err(reason) = call.wait_for_ack().await {
        return Err(call.give_up(reason).await);
    }
    let ours = side.ours.clone();
    let terms = Terms {
        ours: ours.into_bytes(),
        theirs: theirs.path().as_bytes().to_vec(),
        accept_types: options.accept_types.split_ascii_whitespace().map(str::to_owned).collect(),
        message_bytes: options.message_bytes,
        reports: options.reports,
        hash: KeyedHash::new(call.calls.ids.key()),
        tap: call.calls.tap.clone(),
    };
    let way = match side.way(role, theirs.path()).await {
        Ok(way) => way,
        Err(error) => return Err(call.give_up(error.to_string()).await),
    };
    let (parcels, parcels_out) = mpsc::channel(PARCELS);
    let (inbox_in, inbox) = mpsc::channel(INBOX);
    let (bound, is_bound) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let mut talk = tokio::spawn(talk::run(way, terms, parcels_out, inbox_in, bound, stopped));
    let failed = tokio::select! {
        bound = timeout(BINDING, is_bound) => match bound {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some("the connection was lost".to_owned()),
            Err(_) => Some(format!("nobody connected within {} s", BINDING.as_secs())),
        },
        ended = &mut talk => Some(why(ended)),
        word = call.over() => Some(word),
    };
    if let Some(reason) = failed {
        talk.abort();
        return Err(call.give_up(reason).await);
    }
    let (ending, ended) = watch::channel(None);
    let (closing, closed) = mpsc::channel(1);
    let session = Session {
        peer: call.peer.clone(),
        accept_types: theirs.accept_types().iter().map(str::to_owned).collect(),
        max_size: theirs.max_size(),
        parcels,
        inbox: Mutex::new(inbox),
        closing,
        ended,
    };
    tokio::spawn(hold(call, talk, stop, closed, ending));
    Ok(session)
}

/// Holds the call until it, the connection or the session ends; then ends the others.
async fn hold(
    mut call: Call,
    mut talk: JoinHandle<Result<(), Lost>>,
    stop: oneshot::Sender<()>,
    mut closed: mpsc::Receiver<()>,
    ending: watch::Sender<Option<Ended>>,
) {
    let mut is_talking = true;
    let how = tokio::select! {
        how = call.ended() => how,
        // Both when it is asked to and when nobody holds the session any more.
        _ = closed.recv() => {
            call.hang_up("").await;
            Ended::ByUs
        }
        ended = &mut talk => {
            is_talking = false;
            let reason = why(ended);
            // The server closes both connections when it hangs up: its BYE says why, and may be on its way.
            match timeout(Duration::from_millis(200), call.ended()).await {
                Ok(how) => how,
                Err(_) => {
                    call.hang_up("Reason: SIP;cause=410;text=\"MSRP connection lost\"\r\n").await;
                    Ended::Lost(reason)
                }
            }
        }
    };
    // It may have ended at the same time.
    let _ = stop.send(());
    if is_talking {
        let _ = talk.await;
    }
    call.calls.fall(&call.tag);
    ending.send_replace(Some(how));
}

fn why(ended: Result<Result<(), Lost>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the session has ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

fn told(how: Ended) -> String {
    match how {
        Ended::ByUs => "the client leaves".to_owned(),
        Ended::ByPeer(reason) => reason.map_or("the other side hung up".to_owned(), |why| format!("hung up: {why}")),
        Ended::Lost(reason) => reason,
    }
}

impl Call {
    /// Waits for what ends the call; a 2xx that comes again is acknowledged again (RFC 3261 §13.2.2.4).
    async fn ended(&mut self) -> Ended {
        loop {
            if let Some(how) = self.heard().await {
                return how;
            }
        }
    }

    /// The next word: how the call ended, or nothing where it goes on.
    async fn heard(&mut self) -> Option<Ended> {
        match self.told.recv().await {
            Some(Word::Response(response)) if (200..300).contains(&response.view().status()) => {
                if let Some(number) = self.number {
                    self.calls.acknowledge(&self.link, &self.tag, number).await;
                }
                None
            }
            Some(Word::Acknowledged) => {
                self.is_acknowledged = true;
                None
            }
            // RFC 3261 §13.3.1.4
            Some(Word::Unacknowledged) => {
                self.is_acknowledged = true;
                self.hang_up("").await;
                Some(Ended::Lost("our answer was never acknowledged".to_owned()))
            }
            Some(Word::HungUp(reason)) => Some(Ended::ByPeer(reason)),
            Some(Word::Leave) => {
                self.hang_up("").await;
                Some(Ended::ByUs)
            }
            // A way that is lost can be opened again: the connection of the talk decides.
            Some(Word::Response(_) | Word::Failed(_)) => None,
            // It came before our 2xx could leave: there is no dialog.
            Some(Word::Cancelled) => {
                self.calls.fall(&self.tag);
                self.is_acknowledged = true;
                Some(Ended::ByPeer(None))
            }
            None => Some(Ended::Lost("the client has ended".to_owned())),
        }
    }

    /// Waits for the ACK of our 2xx, but not long: it may be lost. Says why, where the call is over already.
    async fn wait_for_ack(&mut self) -> Result<(), String> {
        let until = tokio::time::Instant::now() + EARLY;
        while !self.is_acknowledged {
            match timeout_at(until, self.heard()).await {
                Ok(Some(how)) => return Err(told(how)),
                Ok(None) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// As [`Call::ended`], while the connection is being made.
    async fn over(&mut self) -> String {
        told(self.ended().await)
    }

    /// Ends a call that cannot be talked in.
    pub(crate) async fn give_up(&mut self, reason: String) -> ClientError {
        self.hang_up("Reason: SIP;cause=488;text=\"No MSRP connection\"\r\n").await;
        ClientError::NoTalk { peer: self.peer.clone(), reason }
    }

    async fn hang_up(&mut self, lines: &str) {
        // RFC 3261 §15: who was called says no BYE before the ACK.
        let acknowledged = async {
            while !self.is_acknowledged {
                match self.told.recv().await {
                    Some(Word::Acknowledged | Word::Unacknowledged | Word::HungUp(_)) | None => {
                        self.is_acknowledged = true
                    }
                    Some(_) => {}
                }
            }
        };
        let _ = timeout(ACK, acknowledged).await;
        if let Err(error) = self.calls.hang_up(&self.link, &self.tag, lines).await {
            tracing::debug!(%error, "BYE not answered");
        }
    }
}
