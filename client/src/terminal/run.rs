//! From the command line to a client, and through the one thing that was asked for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Aor;
use client::{Account, Client, Direction, Options, Tap};

use super::args::{Arguments, Command, Way};
use super::desk::{Desk, End};
use super::faults::ProgramError;
use super::screen::Screen;
use super::{chat, talk, words};

/// Does what the command line asks for.
pub async fn run(arguments: Arguments, password: String, screen: &Screen) -> Result<(), ProgramError> {
    let (account, options) = settings(&arguments, password).await?;
    let aor = account.aor.clone();
    let sending = prepare(&arguments, &aor)?;
    let (partner, downloads) = (partner(&arguments, &aor)?, downloads(&arguments)?);
    let (client, inbox) = Client::connect(account, options).await?;
    let (receipts, end) = (arguments.receipts, End::new()?);
    let mut desk = Desk { client, inbox, aor, screen, receipts, downloads, end };
    let done = match arguments.command {
        None => talk::talk(&mut desk).await,
        Some(Command::Register { keep }) => desk.register(keep).await,
        Some(Command::Chat { wait, .. }) => chat::chat(&mut desk, partner, wait).await,
        Some(Command::Listen { count, seconds }) => desk.listen(count, seconds).await,
        Some(Command::Message { wait, .. }) => match sending {
            Some((to, text)) => desk.message(&to, &text, Duration::from_secs(wait)).await,
            None => Ok(()),
        },
    };
    done.and_then(|()| if screen.is_gone() { Err(ProgramError::Unread) } else { Ok(()) })
}

/// Where files go that come in; nothing where no place for them is known, and then they are not kept.
fn downloads(arguments: &Arguments) -> Result<Option<PathBuf>, ProgramError> {
    if let Some(dir) = arguments.download_dir.as_ref().filter(|dir| dir.exists() && !dir.is_dir()) {
        let fault = format!("--download-dir {}: this is no directory; name one, or a new one", dir.display());
        return Err(ProgramError::Usage(fault));
    }
    let given = |variable| std::env::var_os(variable).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    Ok(arguments.download_dir.clone().or_else(|| {
        let data = given("XDG_DATA_HOME").or_else(|| Some(given("HOME")?.join(".local/share")))?;
        Some(data.join("parlour-client/received"))
    }))
}

/// Whom a session is to be held with.
fn partner(arguments: &Arguments, aor: &Aor) -> Result<Option<Aor>, ProgramError> {
    let Some(Command::Chat { to, .. }) = &arguments.command else { return Ok(None) };
    to.as_ref().map(|to| address(to, aor)).transpose()
}

fn address(to: &str, aor: &Aor) -> Result<Aor, ProgramError> {
    words::address(to, aor.domain())
        .map_err(|error| ProgramError::Usage(format!("{to:?} is no address: {error}; write sip:name@domain")))
}

/// Reads what is to be sent before anything goes over the wire.
fn prepare(arguments: &Arguments, aor: &Aor) -> Result<Option<(Aor, String)>, ProgramError> {
    let Some(Command::Message { to, text, .. }) = &arguments.command else { return Ok(None) };
    let to = address(to, aor)?;
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
        let file = File::create(path).map_err(|reason| ProgramError::Unusable {
            what: format!("--wire {}", path.display()),
            reason,
            remedy: "name a file that can be written",
        })?;
        Ok::<_, ProgramError>(tap_into(file))
    });
    let tap = tap.transpose()?;
    // Only where somebody can take an invitation.
    let sessions = matches!(arguments.command, None | Some(Command::Chat { .. }));
    let patience = Duration::from_secs(*timeout);
    let options = Options { patience, sessions, msrp_tap: tap.clone(), tap, ..Options::default() };
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
