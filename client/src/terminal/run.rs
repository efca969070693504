//! From the command line to a client, and through the one thing that was asked for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Aor;
use client::{Account, Client, Direction, Event, Inbox, Options, Outgoing, Receipt, Tap};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::args::{Arguments, Command, Way};
use super::faults::{ProgramError, hint};
use super::report::Report;
use super::screen::Screen;
use super::{talk, words};

/// Does what the command line asks for.
pub async fn run(arguments: Arguments, password: String, screen: &Screen) -> Result<(), ProgramError> {
    let (account, options) = settings(&arguments, password).await?;
    let aor = account.aor.clone();
    let sending = prepare(&arguments, &aor)?;
    let (client, inbox) = Client::connect(account, options).await?;
    let mut desk = Desk { client, inbox, aor, screen, receipts: arguments.receipts, end: End::new()? };
    let done = match arguments.command {
        None => talk::talk(&mut desk).await,
        Some(Command::Register { keep }) => desk.register(keep).await,
        Some(Command::Listen { count, seconds }) => desk.listen(count, seconds).await,
        Some(Command::Message { wait, .. }) => match sending {
            Some((to, text)) => desk.message(&to, &text, Duration::from_secs(wait)).await,
            None => Ok(()),
        },
    };
    done.and_then(|()| if screen.is_gone() { Err(ProgramError::Unread) } else { Ok(()) })
}

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

    async fn register(&self, keep: bool) -> Result<(), ProgramError> {
        self.sign_in().await?;
        if keep {
            self.client.leave().await;
            return Ok(());
        }
        self.sign_out().await
    }

    async fn message(&mut self, to: &Aor, text: &str, wait: Duration) -> Result<(), ProgramError> {
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

    async fn listen(&mut self, count: Option<u64>, seconds: Option<u64>) -> Result<(), ProgramError> {
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
    fn new() -> Result<Self, ProgramError> {
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

/// Reads what is to be sent before anything goes over the wire.
fn prepare(arguments: &Arguments, aor: &Aor) -> Result<Option<(Aor, String)>, ProgramError> {
    let Some(Command::Message { to, text, .. }) = &arguments.command else { return Ok(None) };
    let to = words::address(to, aor.domain())
        .map_err(|error| ProgramError::Usage(format!("{to:?} is no address: {error}; write sip:name@domain")))?;
    let mut text = text.join(" ");
    if text.is_empty() {
        let limit = base::limits::SIP_MESSAGE_BYTES_MAX as u64;
        io::stdin()
            .lock()
            .take(limit)
            .read_to_string(&mut text)
            .map_err(|reason| ProgramError::File { what: "reading the text from standard input".to_owned(), reason })?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
    }
    if text.is_empty() {
        return Err(ProgramError::Usage(
            "there is no text to send: write it behind the address, or to standard input".to_owned(),
        ));
    }
    Ok(Some((to, text)))
}

async fn settings(arguments: &Arguments, password: String) -> Result<(Account, Options), ProgramError> {
    let Way { server, transport, local, timeout, expires, wire } = &arguments.way;
    let address = resolve(server).await?;
    let mut account = Account::new(arguments.aor.clone(), &password, address, (*transport).into());
    account.local = *local;
    account.expires = Duration::from_secs(u64::from(*expires));
    if let Some(login) = &arguments.login.login {
        account.user.clone_from(login);
    }
    let tap = wire.as_ref().map(|path| {
        let file = File::create(path)
            .map_err(|reason| ProgramError::File { what: format!("--wire {}", path.display()), reason })?;
        Ok::<_, ProgramError>(tap_into(file))
    });
    let options = Options { patience: Duration::from_secs(*timeout), tap: tap.transpose()?, ..Options::default() };
    Ok((account, options))
}

async fn resolve(server: &str) -> Result<std::net::SocketAddr, ProgramError> {
    let fault = |reason| ProgramError::Server { server: server.to_owned(), reason };
    // `::1` and `[::1]` have colons and no port.
    let has_port = server.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']'))
    });
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    let found = if has_port {
        tokio::net::lookup_host(server).await.map_err(fault)?.next()
    } else {
        tokio::net::lookup_host((bare, 5060)).await.map_err(fault)?.next()
    };
    found.ok_or_else(|| fault(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

fn tap_into(file: File) -> Tap {
    let file = Mutex::new(file);
    Arc::new(move |direction, bytes| {
        let arrow = if direction == Direction::Out { ">>>" } else { "<<<" };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end a conversation.
        let _ = writeln!(file, "{arrow} {} bytes", bytes.len())
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| writeln!(file));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_may_be_given_with_or_without_its_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:5060"),
            ("127.0.0.1:5070", "127.0.0.1:5070"),
            ("::1", "[::1]:5060"),
            ("[::1]", "[::1]:5060"),
            ("[::1]:5070", "[::1]:5070"),
        ] {
            assert_eq!(resolve(text).await.unwrap().to_string(), address, "{text}");
        }
        assert!(resolve("127.0.0.1:99999").await.is_err());
    }
}
