//! A session at a terminal or for a script: lines go out as texts, files by `/send`, what comes in is shown.

use std::path::PathBuf;
use std::sync::Arc;

use base::Aor;
use base::limits::MSRP_MESSAGE_BYTES_MAX;
use client::{ClientError, Delivery, Event, IncomingCall, Session, SessionOptions, media_type_of};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

use super::desk::Desk;
use super::faults::ProgramError;
use super::report::Report;
use super::stdin::{self, Line};
use super::words::{self, CHAT_HELP, Order};

/// Messages on their way at once; then no further line is read.
const ON_THEIR_WAY: usize = 64;

/// What the end of standard input means within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfInput {
    /// That ends the session too.
    HangsUp,
    /// The session goes on until the other side hangs up.
    Listens,
}

/// Why a session ended, as far as who sits here is concerned.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// By `/bye`, or by the other side: there may be more to do.
    Session,
    /// By `/quit`, a signal, or the end of standard input.
    Program,
}

/// How many messages of ours went out, and how many of them did not arrive.
#[derive(Debug, Default)]
pub struct Tally {
    sent: u64,
    failed: u64,
}

/// Invites `to`, or with `waits` is invited, by `to` where it is given; then talks until the session ends.
pub async fn chat(desk: &mut Desk<'_>, to: Option<Aor>, waits: bool) -> Result<(), ProgramError> {
    desk.sign_in().await?;
    let begun = match &to {
        Some(to) if !waits => invite(desk, to).await,
        _ => wait(desk, to.as_ref()).await,
    };
    let mut tally = Tally::default();
    if let Ok(Some(session)) = &begun {
        let mut lines = stdin::lines()
            .map_err(|reason| ProgramError::File { what: "starting to read standard input".to_owned(), reason })?;
        desk.screen.say("what you type is sent; /send FILE sends a file, /bye hangs up");
        let end = if !waits && to.is_some() { EndOfInput::HangsUp } else { EndOfInput::Listens };
        hold(desk, session, &mut lines, end, &mut tally).await;
    }
    desk.sign_out().await?;
    begun?;
    tally.outcome()
}

impl Tally {
    /// Fails if a message did not arrive.
    pub fn outcome(&self) -> Result<(), ProgramError> {
        match self.failed {
            0 => Ok(()),
            failed => Err(ProgramError::SomeFailed { failed, all: self.sent }),
        }
    }
}

async fn invite(desk: &mut Desk<'_>, to: &Aor) -> Result<Option<Arc<Session>>, ProgramError> {
    desk.screen.say(&format!("ringing {to}; Ctrl-C takes the invitation back"));
    tokio::select! {
        session = desk.client.invite(to, desk.session()) => Ok(Some(Arc::new(session?))),
        () = desk.end.come() => Ok(None),
    }
}

async fn wait(desk: &mut Desk<'_>, from: Option<&Aor>) -> Result<Option<Arc<Session>>, ProgramError> {
    desk.screen.say("waiting to be invited; Ctrl-C ends that");
    loop {
        let event = tokio::select! {
            event = desk.inbox.recv() => event,
            () = desk.end.come() => None,
        };
        let Some(event) = event else { return Ok(None) };
        desk.show(&event);
        if let Event::Invited(call) = event {
            if from.is_some_and(|from| from.as_str() != call.from()) {
                call.refuse(486).await;
                continue;
            }
            match take(desk, *call).await {
                Ok(session) => return Ok(Some(Arc::new(session))),
                // The next one may have more luck.
                Err(error) => desk.screen.fault(&error),
            }
        }
    }
}

/// Accepts an invitation and talks until the session ends.
pub async fn accept(
    desk: &mut Desk<'_>,
    call: IncomingCall,
    lines: &mut mpsc::Receiver<Line>,
    tally: &mut Tally,
) -> Left {
    match take(desk, call).await {
        Ok(session) => hold(desk, &Arc::new(session), lines, EndOfInput::HangsUp, tally).await,
        Err(error) => {
            desk.screen.fault(&error);
            Left::Session
        }
    }
}

async fn take(desk: &Desk<'_>, call: IncomingCall) -> Result<Session, ClientError> {
    let options = SessionOptions { setup: call.setup(), ..desk.session() };
    call.accept_with(options).await
}

/// What was sent, and what became of it.
type Outcome = (String, Result<Delivery, ProgramError>);

async fn hold(
    desk: &mut Desk<'_>,
    session: &Arc<Session>,
    lines: &mut mpsc::Receiver<Line>,
    end: EndOfInput,
    tally: &mut Tally,
) -> Left {
    desk.screen.show(&Report::SessionStarted(session.peer()));
    let mut sending: JoinSet<Outcome> = JoinSet::new();
    // Whether lines are read, and whether we hang up when all that was sent is answered for.
    let (mut reads, mut hangs_up, mut left) = (true, false, Left::Session);
    loop {
        if hangs_up && sending.is_empty() || desk.screen.is_gone() {
            session.close().await;
        }
        tokio::select! {
            line = lines.recv(), if reads && sending.len() < ON_THEIR_WAY => match line {
                None => {
                    reads = false;
                    left = Left::Program;
                    hangs_up |= end == EndOfInput::HangsUp;
                }
                Some(line) => {
                    if let Some(how) = follow(desk, session, line, &mut sending, tally) {
                        (reads, hangs_up, left) = (false, true, how);
                    }
                }
            },
            message = session.recv() => match message {
                Some(message) => desk.screen.show(&Report::Said(session.peer(), &message)),
                None => break,
            },
            Some(event) = desk.inbox.recv() => {
                desk.show(&event);
                if let Event::Invited(call) = event {
                    call.refuse(486).await;
                }
            }
            Some(Ok(outcome)) = sending.join_next() => tell(desk, session.peer(), outcome, tally),
            () = desk.end.come() => {
                if hangs_up {
                    // A second signal does not wait for what is on its way.
                    sending.abort_all();
                }
                (reads, hangs_up, left) = (false, true, Left::Program);
            }
        }
    }
    while let Some(outcome) = sending.join_next().await {
        if let Ok(outcome) = outcome {
            tell(desk, session.peer(), outcome, tally);
        }
    }
    desk.screen.show(&Report::SessionEnded(session.peer(), &session.ended().await));
    left
}

/// Does what a line asks for. Says how to leave, where it asks for that.
fn follow(
    desk: &Desk<'_>,
    session: &Arc<Session>,
    line: Line,
    sending: &mut JoinSet<Outcome>,
    tally: &mut Tally,
) -> Option<Left> {
    let line = match line.text() {
        Ok(line) => line,
        Err(fault) => {
            desk.screen.fault(&fault);
            return None;
        }
    };
    let session = session.clone();
    match words::read(&line, desk.aor.domain(), desk.screen.json()) {
        Ok(Order::Say { to: None, text, .. }) => {
            tally.sent += 1;
            sending.spawn(async move { ("the text".to_owned(), Ok(session.send_text(&text).await)) });
        }
        Ok(Order::SendFile(path)) => {
            tally.sent += 1;
            sending.spawn(async move {
                let name = path.display().to_string();
                let delivery = match read(path.clone()).await {
                    Ok(content) => Ok(session.send_file(&path, media_type_of(&path), content).await),
                    Err(error) => Err(error),
                };
                (name, delivery)
            });
        }
        Ok(Order::Bye) => return Some(Left::Session),
        Ok(Order::Quit) => return Some(Left::Program),
        Ok(Order::Help) => desk.screen.say(CHAT_HELP),
        Ok(Order::Nothing) => {}
        Ok(Order::Say { .. } | Order::To(_) | Order::Receipts(_) | Order::Accept | Order::Refuse) => {
            desk.screen.fault(&"not within a session; /bye ends it, /help shows what there is");
        }
        Err(error) => desk.screen.fault(&error),
    }
    None
}

async fn read(path: PathBuf) -> Result<Vec<u8>, ProgramError> {
    let what = format!("/send {}", path.display());
    let read = spawn_blocking(move || {
        let file = std::fs::metadata(&path)?;
        if file.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        let bytes = file.len();
        if bytes > MSRP_MESSAGE_BYTES_MAX {
            let fault = format!("{bytes} octets, of at most {MSRP_MESSAGE_BYTES_MAX}");
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, fault));
        }
        std::fs::read(path)
    });
    let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    read.map_err(|reason| ProgramError::Unusable { what, reason, remedy: "name a file that can be read" })
}

fn tell(desk: &Desk<'_>, peer: &str, (what, delivery): Outcome, tally: &mut Tally) {
    match delivery {
        Ok(delivery) => {
            if delivery.is_good() || desk.screen.json() {
                desk.screen.show(&Report::Passed(peer, &what, delivery));
            }
            if !delivery.is_good() {
                tally.failed += 1;
                desk.screen.complain(&format!("{peer} did not get {what}: {delivery}"));
            }
        }
        Err(error) => {
            tally.failed += 1;
            desk.screen.fault(&error);
        }
    }
}
