//! What holds a session together: the dialog, the connection, and the [`Session`] in somebody's hand. Whatever ends first,
//! the others are ended; where the other side moves, we go along (RFC 3264 §8, RFC 4975 §8.4).
//!
//! ```text
//!               re-INVITE, its path is another                    ACK, or EARLY
//!   talking ────────────────────────────────────> 200 is sent ────────────────────> talking, over a new connection
//!      │  └── its path is the same: 200, nothing changes                                   what was not answered for
//!      └── connection lost: BYE after GRACE, unless it moves                               is sent once more
//! ```

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use base::KeyedHash;
use bytes::Bytes;
use sdp::{Role, Setup, role_from_answer, role_to_answer};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::calls::Calls;
use crate::error::ClientError;
use crate::link::Link;
use crate::media::Side;
use crate::reoffer::Reoffer;
use crate::session::{Ended, Session, SessionOptions, Theirs};
use crate::talk::{self, INBOX, Line, Lost, Stop, Terms, Way, fault_of};
use crate::word::Word;

/// Messages that wait to be taken by the connection; then who sends waits.
const PARCELS: usize = 16;
/// How long we wait for the ACK before we connect.
const EARLY: Duration = Duration::from_millis(500);
/// How long an end of ours waits for the ACK of our 2xx (RFC 3261 §15: no BYE before).
const ACK: Duration = Duration::from_secs(4);
/// The server closes both connections when it hangs up: its BYE says why, and may be on its way.
const GRACE: Duration = Duration::from_millis(200);

/// The call of a session that has been agreed.
pub(crate) struct Call {
    pub calls: Arc<Calls>,
    pub link: Link,
    /// Ours, by which the dialog stands.
    pub tag: String,
    pub told: UnboundedReceiver<Word>,
    /// New offers within the dialog.
    pub offers: mpsc::Receiver<Reoffer>,
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
    theirs: Theirs,
    options: SessionOptions,
) -> Result<Session, ClientError> {
    // The other side knows our path when our answer is there, and not before: it would say 481.
    if let Err(reason) = call.wait_for_ack().await {
        return Err(call.give_up(reason).await);
    }
    let terms = Terms {
        ours: side.ours.as_bytes().to_vec(),
        theirs: theirs.path.as_bytes().to_vec(),
        accept_types: options.accept_types.split_ascii_whitespace().map(str::to_owned).collect(),
        message_bytes: options.message_bytes,
        files: options.download_dir.clone(),
        reports: options.reports,
        hash: KeyedHash::new(call.calls.ids.key()),
        tap: call.calls.tap.clone(),
    };
    let (parcels, parcels_out) = mpsc::channel(PARCELS);
    let (inbox_in, inbox) = mpsc::channel(INBOX);
    let (mut talking, is_bound) = Talking::start(side.way(role, &theirs.path), Line::new(terms, parcels_out, inbox_in));
    let failed = tokio::select! {
        Ok(()) = is_bound => None,
        ended = &mut talking.task => Some(why(&ended)),
        word = call.over() => Some(word),
    };
    if let Some(reason) = failed {
        talking.task.abort();
        return Err(call.give_up(reason).await);
    }
    let (ending, ended) = watch::channel(None);
    let (closing, closed) = mpsc::channel(1);
    let peer = call.peer.clone();
    let (theirs_in, theirs) = watch::channel(theirs);
    let held = Held { call, side, role, options, theirs: theirs_in, state: State::Talking(talking), moving: None };
    tokio::spawn(held.hold(closed, ending));
    Ok(Session { peer, theirs, parcels, inbox: Mutex::new(inbox), closing, ended })
}

/// A session that is held.
struct Held {
    call: Call,
    side: Side,
    /// Ours, in the connection that there is.
    role: Role,
    options: SessionOptions,
    theirs: watch::Sender<Theirs>,
    state: State,
    moving: Option<Moving>,
}

enum State {
    Talking(Talking),
    /// The connection was lost, for this reason; until then word of it may come.
    Silent(Box<Line>, String, Instant),
    /// The line is lost too.
    Over,
}

struct Talking {
    task: JoinHandle<(Line, Result<(), Lost>)>,
    stop: oneshot::Sender<Stop>,
}

impl Talking {
    fn start(way: Way, line: Line) -> (Self, oneshot::Receiver<()>) {
        let (bound, is_bound) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        (Self { task: tokio::spawn(talk::run(way, line, bound, stopped)), stop }, is_bound)
    }

    async fn end(self, how: Stop) -> Option<Line> {
        // It may have ended at the same time.
        let _ = self.stop.send(how);
        self.task.await.ok().map(|(line, _)| line)
    }
}

/// A new offer that has been answered, or answered with one of ours.
struct Moving {
    /// Where its ACK is told of.
    told: UnboundedReceiver<Word>,
    step: Step,
}

enum Step {
    /// Its ACK is all that is missing.
    Agreed,
    /// The other side is elsewhere: we go there at its ACK, or then.
    Answered(Theirs, Role, Instant),
    /// The offer is ours: the ACK has the answer (RFC 3261 §14.2).
    Offered,
}

impl Moving {
    /// The next word; nothing at the time at which we do not wait any longer.
    async fn next(moving: &mut Option<Self>) -> Option<Word> {
        let Some(Self { told, step }) = moving else { return pending().await };
        let until = if let Step::Answered(_, _, until) = step { Some(*until) } else { None };
        tokio::select! {
            word = told.recv() => Some(word.unwrap_or(Word::Unacknowledged)),
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => None,
        }
    }
}

impl Held {
    async fn hold(mut self, mut closed: mpsc::Receiver<()>, ending: watch::Sender<Option<Ended>>) {
        let how = loop {
            tokio::select! {
                // An ACK that has come is heard before the offer that came behind it.
                biased;
                word = self.call.told.recv() => {
                    if let Some(how) = self.call.take(word).await {
                        break how;
                    }
                }
                word = Moving::next(&mut self.moving) => {
                    if let Some(how) = self.go_on(word).await {
                        break how;
                    }
                }
                Some(reoffer) = self.call.offers.recv() => self.offered(reoffer).await,
                // Both when it is asked to and when nobody holds the session any more.
                _ = closed.recv() => {
                    self.call.hang_up("").await;
                    break Ended::ByUs;
                }
                reason = self.state.silence(), if self.moving.is_none() || self.state.is_talking() => {
                    if let Some(reason) = reason {
                        self.call.hang_up("Reason: SIP;cause=410;text=\"MSRP connection lost\"\r\n").await;
                        break Ended::Lost(reason);
                    }
                }
            }
        };
        let line = match self.state {
            State::Talking(talking) => talking.end(Stop::Part).await,
            State::Silent(line, ..) => Some(*line),
            State::Over => None,
        };
        if let Some(line) = line {
            line.finish().await;
        }
        self.call.calls.fall(&self.call.tag);
        ending.send_replace(Some(how));
    }

    /// Answers a new offer. One that we cannot follow is refused, and the session stays as it was (RFC 3264 §8).
    async fn offered(&mut self, reoffer: Reoffer) {
        match self.moving.as_ref().map(|moving| &moving.step) {
            // RFC 3264 §4: no offer while one of ours is not answered; RFC 3261 §14.2: 491.
            Some(Step::Offered) => return reoffer.refuse(491, "").await,
            Some(Step::Answered(..)) => return reoffer.refuse(500, &self.call.calls.retry_after()).await,
            Some(Step::Agreed) | None => {}
        }
        let (sdp, step) = match reoffer.offer() {
            None => (self.side.offer(&self.options), Step::Offered),
            Some(offer) => {
                let theirs = Theirs::of(offer.message());
                if theirs.path == self.theirs.borrow().path {
                    self.theirs.send_replace(theirs);
                    (self.side.answer(offer, self.role, &self.options), Step::Agreed)
                } else {
                    if fault_of(&theirs.path).is_some() {
                        return reoffer.refuse(488, "").await;
                    }
                    let role = role_to_answer(offer.setup(), self.options.setup != Setup::Active);
                    if self.make_reachable(role).await.is_err() {
                        return reoffer.refuse(500, &self.call.calls.retry_after()).await;
                    }
                    let sdp = self.side.answer(offer, role, &self.options);
                    (sdp, Step::Answered(theirs, role, Instant::now() + EARLY))
                }
            }
        };
        let Some(lines) = self.call.calls.accepts(&self.call.tag, reoffer.request().view()) else { return };
        self.moving = reoffer.accept(&lines, &sdp).await.map(|told| Moving { told, step });
    }

    /// Opens a port, where we are to be connected to and have said that we cannot be: then our path is another one too.
    async fn make_reachable(&mut self, role: Role) -> Result<(), ClientError> {
        if role == Role::Passive && !self.side.can_wait() {
            let (local, calls) = (self.call.link.up().await?, &self.call.calls);
            let side = Side::new(local.ip(), calls.account.local, Setup::Passive, &calls.ids).await?;
            self.side = side.instead_of(&self.side);
        }
        Ok(())
    }

    /// What becomes of a new offer when its ACK is here (or, with no word, late). Says how the session ended by it.
    async fn go_on(&mut self, word: Option<Word>) -> Option<Ended> {
        let Moving { told, step } = self.moving.take()?;
        match (step, word) {
            (Step::Agreed, Some(Word::Acknowledged(_))) => {}
            (Step::Answered(theirs, role, _), Some(Word::Acknowledged(_))) => self.connect_anew(theirs, role).await,
            (Step::Answered(theirs, role, _), None) => {
                self.connect_anew(theirs, role).await;
                self.moving = Some(Moving { told, step: Step::Agreed });
            }
            (Step::Offered, Some(Word::Acknowledged(answer))) => return self.answered(&answer).await,
            // RFC 3261 §14.2
            (_, Some(Word::Unacknowledged)) => {
                self.call.hang_up("").await;
                return Some(Ended::Lost("our answer was never acknowledged".to_owned()));
            }
            // It was taken back before it was answered: all stays as it was.
            (_, Some(Word::Cancelled)) => {}
            // Nothing else is told of an INVITE that came in.
            (step, _) => self.moving = Some(Moving { told, step }),
        }
        None
    }

    /// The answer to our offer. One that cannot be worked with ends the session: it cannot be refused.
    async fn answered(&mut self, answer: &[u8]) -> Option<Ended> {
        let (theirs, role) = match read_answer(answer) {
            Ok(read) => read,
            Err(reason) => {
                self.call.hang_up("Reason: SIP;cause=488;text=\"Answer not acceptable\"\r\n").await;
                return Some(Ended::Lost(reason));
            }
        };
        if theirs.path == self.theirs.borrow().path {
            self.theirs.send_replace(theirs);
        } else {
            self.connect_anew(theirs, role).await;
        }
        None
    }

    /// The session goes on over another connection.
    async fn connect_anew(&mut self, theirs: Theirs, role: Role) {
        let line = match std::mem::replace(&mut self.state, State::Over) {
            State::Talking(talking) => talking.end(Stop::Move).await,
            State::Silent(line, ..) => Some(*line),
            State::Over => None,
        };
        // Without a line the state says that all is over.
        let Some(mut line) = line else { return };
        line.moved(&self.side.ours, &theirs.path);
        let (talking, _) = Talking::start(self.side.way(role, &theirs.path), line);
        (self.state, self.role) = (State::Talking(talking), role);
        self.theirs.send_replace(theirs);
    }
}

impl State {
    fn is_talking(&self) -> bool {
        matches!(self, Self::Talking(_))
    }

    /// Waits until the connection is lost, and then for what else may be said; after that, why.
    async fn silence(&mut self) -> Option<String> {
        match self {
            Self::Talking(talking) => {
                let ended = (&mut talking.task).await;
                let reason = why(&ended);
                *self = match ended {
                    Ok((line, _)) => Self::Silent(Box::new(line), reason, Instant::now() + GRACE),
                    Err(_) => Self::Over,
                };
                None
            }
            Self::Silent(_, reason, until) => {
                sleep_until(*until).await;
                Some(reason.clone())
            }
            Self::Over => Some("the session has failed".to_owned()),
        }
    }
}

/// The answer in an ACK: what the other side says of itself, and our role by it.
pub(crate) fn read_answer(answer: &[u8]) -> Result<(Theirs, Role), String> {
    let answer = sdp::Answer::read(answer).map_err(|error| format!("the answer to our offer: {error}"))?;
    let theirs = Theirs::of(answer.message());
    match fault_of(&theirs.path) {
        Some(fault) => Err(fault),
        None => Ok((theirs, role_from_answer(answer.setup()))),
    }
}

fn why(ended: &Result<(Line, Result<(), Lost>), JoinError>) -> String {
    match ended {
        Ok((_, Ok(()))) => "the session has ended".to_owned(),
        Ok((_, Err(error))) => error.to_string(),
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
    /// Takes in a word: how the call ended by it, or nothing where it goes on.
    async fn take(&mut self, word: Option<Word>) -> Option<Ended> {
        match word {
            // RFC 3261 §13.2.2.4: a 2xx that comes again is acknowledged again.
            Some(Word::Response(response)) if (200..300).contains(&response.view().status()) => {
                if let Some(number) = self.number {
                    self.calls.acknowledge(&self.link, &self.tag, number).await;
                }
                None
            }
            Some(Word::Acknowledged(_)) => {
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
        let until = Instant::now() + EARLY;
        while !self.is_acknowledged {
            let Ok(word) = timeout_at(until, self.told.recv()).await else { break };
            if let Some(how) = self.take(word).await {
                return Err(told(how));
            }
        }
        Ok(())
    }

    /// Waits for the answer that the ACK of our 2xx has (RFC 3261 §13.2.1). Says why there is none.
    pub(crate) async fn wait_for_answer(&mut self) -> Result<Bytes, String> {
        loop {
            match self.told.recv().await {
                Some(Word::Acknowledged(answer)) => {
                    self.is_acknowledged = true;
                    return Ok(answer);
                }
                word => {
                    if let Some(how) = self.take(word).await {
                        return Err(told(how));
                    }
                }
            }
        }
    }

    /// Waits for the end, while the connection is being made.
    async fn over(&mut self) -> String {
        loop {
            let word = self.told.recv().await;
            if let Some(how) = self.take(word).await {
                return told(how);
            }
        }
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
                    Some(Word::Acknowledged(_) | Word::Unacknowledged | Word::HungUp(_)) | None => {
                        self.is_acknowledged = true;
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
