//! The talk: lines of standard input go out, what comes in is shown, and neither waits for the other.

use base::Aor;
use client::{ClientError, Sent};
use tokio::task::JoinSet;

use super::desk::Desk;
use super::faults::{ProgramError, hint};
use super::report::Report;
use super::stdin::{self, Line};
use super::words::{self, HELP, Order};

/// Messages on their way at once; then no further line is read.
const ON_THEIR_WAY: usize = 256;

/// What became of one message.
type Outcome = (Aor, Result<Sent, ClientError>);

struct Talk {
    to: Option<Aor>,
    sending: JoinSet<Outcome>,
    sent: u64,
    failed: u64,
}

/// Talks until `/quit`, the end of standard input or a signal. Fails if a message was not accepted.
pub async fn talk(desk: &mut Desk<'_>) -> Result<(), ProgramError> {
    desk.sign_in().await?;
    desk.screen.say("/to ADDRESS names whom you write to, /help shows more, /quit leaves");
    let mut lines = stdin::lines()
        .map_err(|reason| ProgramError::File { what: "starting to read standard input".to_owned(), reason })?;
    let mut talk = Talk { to: None, sending: JoinSet::new(), sent: 0, failed: 0 };
    let mut reading = true;
    while (reading || !talk.sending.is_empty()) && !desk.screen.is_gone() {
        tokio::select! {
            line = lines.recv(), if reading && talk.sending.len() < ON_THEIR_WAY => {
                reading = line.is_some_and(|line| talk.follow(desk, line));
            }
            Some(event) = desk.inbox.recv() => desk.show(&event),
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
    desk.sign_out().await?;
    match talk.failed {
        0 => Ok(()),
        failed => Err(ProgramError::SomeFailed { failed, all: talk.sent }),
    }
}

impl Talk {
    /// Does what a line asks for; false: it was the last.
    fn follow(&mut self, desk: &mut Desk<'_>, line: Line) -> bool {
        let line = match line {
            Line::Text(line) => line,
            Line::TooLong => {
                desk.screen.fault(&"a line is longer than any message may be; it was passed over");
                return true;
            }
            Line::NotUtf8 => {
                desk.screen.fault(&"a line is not UTF-8; it was passed over");
                return true;
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
            Ok(Order::Quit) => return false,
            Ok(Order::Nothing) => {}
            Err(error) => desk.screen.fault(&error),
        }
        true
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
