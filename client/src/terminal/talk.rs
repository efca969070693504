//! The talk: lines of standard input go out, what comes in is shown, and neither waits for the other.

use base::Aor;
use client::{ClientError, Event, IncomingCall, Sent};
use tokio::task::JoinSet;

use super::chat::{self, Left, Tally};
use super::desk::Desk;
use super::faults::{ProgramError, hint};
use super::report::Report;
use super::stdin::{self, Line};
use super::words::{self, HELP, Order};

/// Messages on their way at once; then no further line is read.
const ON_THEIR_WAY: usize = 256;

const NOBODY_INVITES: &str = "nobody invites you to a session";

/// What became of one message.
type Outcome = (Aor, Result<Sent, ClientError>);

struct Talk {
    /// Who invites to a session.
    call: Option<IncomingCall>,
    /// What was said in sessions.
    said: Tally,
    to: Option<Aor>,
    sending: JoinSet<Outcome>,
    sent: u64,
    failed: u64,
}

/// What a line leads to.
enum Next {
    /// The next line.
    Line,
    /// The session that somebody invites to, or its refusal.
    Accept,
    Refuse,
    /// The end.
    Leave,
}

/// Talks until `/quit`, the end of standard input or a signal. Fails if a message was not accepted.
pub async fn talk(desk: &mut Desk<'_>) -> Result<(), ProgramError> {
    desk.sign_in().await?;
    desk.screen.say("/to ADDRESS names whom you write to, /help shows more, /quit leaves");
    let mut lines = stdin::lines()
        .map_err(|reason| ProgramError::File { what: "starting to read standard input".to_owned(), reason })?;
    let mut talk = Talk { call: None, said: Tally::default(), to: None, sending: JoinSet::new(), sent: 0, failed: 0 };
    let mut reading = true;
    while (reading || !talk.sending.is_empty()) && !desk.screen.is_gone() {
        tokio::select! {
            line = lines.recv(), if reading && talk.sending.len() < ON_THEIR_WAY => {
                match line.map_or(Next::Leave, |line| talk.follow(desk, line)) {
                    Next::Line => {}
                    Next::Leave => reading = false,
                    Next::Refuse => talk.refuse(desk).await,
                    Next::Accept => {
                        if let Some(call) = talk.call.take() {
                            reading = chat::accept(desk, call, &mut lines, &mut talk.said).await == Left::Session;
                        } else {
                            desk.screen.fault(&NOBODY_INVITES);
                        }
                    }
                }
            }
            Some(event) = desk.inbox.recv() => talk.show(desk, event).await,
            () = taken_back(&mut talk.call), if talk.call.is_some() => {
                talk.call = None;
                desk.screen.say("* the invitation was taken back");
            }
            Some(outcome) = talk.sending.join_next() => {
                if let Ok((to, outcome)) = outcome {
                    talk.tell(desk, &to, &outcome);
                }
            }
            // A second signal, while the last answers are awaited, leaves at once.
            () = desk.end.come() => {
                if !reading {
                    break;
                }
                reading = false;
            }
        }
    }
    if talk.call.is_some() {
        talk.refuse(desk).await;
    }
    desk.sign_out().await?;
    match talk.failed {
        0 => talk.said.outcome(),
        failed => Err(ProgramError::SomeFailed { failed, all: talk.sent }),
    }
}

impl Talk {
    /// Shows what came in; an invitation waits for `/accept`, a second one meanwhile is refused.
    async fn show(&mut self, desk: &Desk<'_>, event: Event) {
        desk.show(&event);
        if let Event::Invited(call) = event {
            if self.call.is_some() {
                return call.refuse(486).await;
            }
            call.ring().await;
            desk.screen.say("/accept takes it, /refuse refuses it");
            self.call = Some(*call);
        }
    }

    async fn refuse(&mut self, desk: &Desk<'_>) {
        match self.call.take() {
            // RFC 3261 §21.6.2: not here, nor on another device.
            Some(call) => call.refuse(603).await,
            None => desk.screen.fault(&NOBODY_INVITES),
        }
    }

    /// Does what a line asks for, as far as that can be done at once.
    fn follow(&mut self, desk: &mut Desk<'_>, line: Line) -> Next {
        let line = match line.text() {
            Ok(line) => line,
            Err(fault) => {
                desk.screen.fault(&fault);
                return Next::Line;
            }
        };
        match words::read(&line, desk.aor.domain(), desk.screen.json()) {
            Ok(Order::Say { to, text, receipts }) => match to.or_else(|| self.to.clone()) {
                Some(to) => self.send(desk, to, &text, receipts),
                None => desk.screen.fault(&"nobody is chosen to write to; write /to sip:name@domain first"),
            },
            Ok(Order::To(to)) => {
                desk.screen.show(&Report::Chosen(&to));
                self.to = Some(to);
            }
            Ok(Order::Receipts(on)) => desk.receipts = on,
            Ok(Order::Help) => desk.screen.say(HELP),
            Ok(Order::Accept) => return Next::Accept,
            Ok(Order::Refuse) => return Next::Refuse,
            Ok(Order::SendFile(_) | Order::Bye) => {
                desk.screen.fault(&"there is no session; parlour-client chat TO begins one");
            }
            Ok(Order::Quit) => return Next::Leave,
            Ok(Order::Nothing) => {}
            Err(error) => desk.screen.fault(&error),
        }
        Next::Line
    }

    fn send(&mut self, desk: &Desk<'_>, to: Aor, text: &str, receipts: Option<bool>) {
        self.sent += 1;
        // The place in the line to `to` is taken by this call, not when the task first runs.
        let sending = desk.client.message(&to, desk.outgoing(text, receipts));
        self.sending.spawn(async move { (to, sending.await) });
    }

    fn tell(&mut self, desk: &Desk<'_>, to: &Aor, outcome: &Result<Sent, ClientError>) {
        let report = match outcome {
            Ok(sent) => Report::Sent(to, sent),
            Err(error) => Report::Unsent(to, error),
        };
        let accepted = outcome.as_ref().is_ok_and(Sent::accepted);
        if accepted || desk.screen.json() {
            desk.screen.show(&report);
        }
        if !accepted {
            self.failed += 1;
            match outcome {
                Ok(sent) => desk.screen.complain(&format!(
                    "{to} did not get the message: {} {}{}",
                    sent.status,
                    sent.reason,
                    hint(sent.status)
                )),
                Err(error) => desk.screen.complain(&format!("{to} did not get the message: {error}")),
            }
        }
    }
}

async fn taken_back(call: &mut Option<IncomingCall>) {
    match call {
        Some(call) => call.taken_back().await,
        None => std::future::pending().await,
    }
}
