//! A client at work: what each command of the command line does with it.

use std::path::PathBuf;
use std::time::Duration;

use base::Aor;
use client::{Client, Event, Inbox, Outgoing, Receipt, SessionOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::faults::{ProgramError, hint};
use super::report::Report;
use super::screen::Screen;

/// A client at work, and who reads.
pub struct Desk<'a> {
    /// To ask.
    pub client: Client,
    /// What comes in.
    pub inbox: Inbox,
    /// Who we are.
    pub aor: Aor,
    /// Who reads.
    pub screen: &'a Screen,
    /// Whether notifications are asked for.
    pub receipts: bool,
    /// Where files go that come in over sessions.
    pub downloads: Option<PathBuf>,
    /// When to leave.
    pub end: End,
}

impl Desk<'_> {
    /// Registers and says so.
    pub async fn sign_in(&self) -> Result<(), ProgramError> {
        let binding = self.client.register().await?;
        self.screen.show(&Report::Registered(&self.aor, &binding));
        Ok(())
    }

    /// Takes the binding back and says so.
    pub async fn sign_out(&self) -> Result<(), ProgramError> {
        if self.client.close().await? {
            self.screen.show(&Report::Unregistered(&self.aor));
        }
        Ok(())
    }

    /// Shows what came in; who asked to know that it was displayed is told.
    pub fn show(&self, event: &Event) {
        self.screen.show(&Report::of(event, &self.aor));
        if let Event::Message(incoming) = event {
            self.client.displayed(incoming);
        }
    }

    /// A text with what the command line or the talk asks for.
    pub fn outgoing(&self, text: &str, receipts: Option<bool>) -> Outgoing {
        let outgoing = Outgoing::text(text);
        if receipts.unwrap_or(self.receipts) { outgoing.with_receipts() } else { outgoing }
    }

    /// How a session is held here.
    pub fn session(&self) -> SessionOptions {
        SessionOptions { download_dir: self.downloads.clone(), ..SessionOptions::default() }
    }

    /// Registers, and takes the binding back unless it is to be kept.
    pub async fn register(&self, keep: bool) -> Result<(), ProgramError> {
        self.sign_in().await?;
        if keep {
            self.client.leave().await;
            return Ok(());
        }
        self.sign_out().await
    }

    /// Sends one message; where notifications are asked for, waits for one.
    pub async fn message(&mut self, to: &Aor, text: &str, wait: Duration) -> Result<(), ProgramError> {
        if self.receipts {
            self.sign_in().await?;
        }
        let sent = self.client.message(to, self.outgoing(text, None)).await;
        match &sent {
            Ok(sent) if sent.accepted() || self.screen.json() => self.screen.show(&Report::Sent(to, sent)),
            Err(error) if self.screen.json() => self.screen.show(&Report::Unsent(to, error)),
            _ => {}
        }
        if let Ok(sent) = &sent
            && sent.accepted()
            && let Some(message_id) = &sent.message_id
        {
            self.await_receipt(message_id, Instant::now() + wait).await;
        }
        // What became of the message counts, not whether the binding could be taken back.
        let signed_out = self.sign_out().await;
        let sent = sent?;
        if !sent.accepted() {
            let (status, hint) = (sent.status, hint(sent.status));
            return Err(ProgramError::NotDelivered { to: to.to_string(), status, reason: sent.reason, hint });
        }
        signed_out
    }

    /// Shows what comes in until a notification says that the message arrived or never will.
    async fn await_receipt(&mut self, message_id: &str, until: Instant) {
        loop {
            let event = tokio::select! {
                event = timeout_at(until, self.inbox.recv()) => event,
                () = self.end.come() => return,
            };
            let Ok(Some(event)) = event else { return };
            self.show(&event);
            if matches!(&event, Event::Receipt(Receipt { message_id: id, status, .. })
                if id == message_id && !["stored", "processed"].contains(&status.as_str()))
            {
                return;
            }
        }
    }

    /// Shows what comes in until there were `count` messages or `seconds` are over.
    pub async fn listen(&mut self, count: Option<u64>, seconds: Option<u64>) -> Result<(), ProgramError> {
        self.sign_in().await?;
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut seen = 0;
        while count.is_none_or(|count| seen < count) && !self.screen.is_gone() {
            let event = tokio::select! {
                event = self.inbox.recv() => event,
                () = sleep_until(until.unwrap_or_else(far)), if until.is_some() => None,
                () = self.end.come() => None,
            };
            let Some(event) = event else { break };
            self.show(&event);
            seen += u64::from(matches!(event, Event::Message(_)));
        }
        self.sign_out().await?;
        match (count, seconds) {
            (Some(wanted), Some(seconds)) if seen < wanted => Err(ProgramError::TooFew { seen, wanted, seconds }),
            _ => Ok(()),
        }
    }
}

/// The two signals that ask a program to end.
pub struct End {
    interrupt: Signal,
    terminate: Signal,
}

impl End {
    /// From now on neither ends the program by itself.
    pub fn new() -> Result<Self, ProgramError> {
        let open =
            |kind| signal(kind).map_err(|reason| ProgramError::File { what: "waiting for signals".to_owned(), reason });
        Ok(Self { interrupt: open(SignalKind::interrupt())?, terminate: open(SignalKind::terminate())? })
    }

    /// Waits for either.
    pub async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A time that is not reached: stands where a branch is switched off.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
