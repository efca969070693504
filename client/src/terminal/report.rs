//! What happened, as a line for a person and as an object for a script.

use std::time::{Duration, SystemTime};

use base::Aor;
use client::{Binding, ClientError, Delivery, Ended, Event, Incoming, Message, Receipt, ReceivedFile, Sent};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One thing that happened.
pub enum Report<'a> {
    /// The registrar took our contact.
    Registered(&'a Aor, &'a Binding),
    /// The binding was taken back.
    Unregistered(&'a Aor),
    /// The binding could not be refreshed; trying goes on.
    Lost(&'a ClientError),
    /// A final answer to a message of ours.
    Sent(&'a Aor, &'a Sent),
    /// No final answer to a message of ours.
    Unsent(&'a Aor, &'a ClientError),
    /// Somebody wrote.
    Received(&'a Incoming),
    /// What became of a message of ours.
    Receipt(&'a Receipt),
    /// Somebody is typing, or no longer.
    Composing(&'a str, bool),
    /// Who gets the lines that follow.
    Chosen(&'a Aor),
    /// Somebody invites us to a session: who, and what it is about.
    Invited(&'a str, Option<&'a str>),
    /// A session with somebody has begun.
    SessionStarted(&'a str),
    /// Somebody said something in a session, or sent a file.
    Said(&'a str, &'a Message),
    /// What became of something that we said in a session: to whom, what, how.
    Passed(&'a str, &'a str, Delivery),
    /// A session with somebody has ended.
    SessionEnded(&'a str, &'a Ended),
}

impl<'a> Report<'a> {
    /// The report of something that came in.
    pub fn of(event: &'a Event, aor: &'a Aor) -> Self {
        match event {
            Event::Message(incoming) => Self::Received(incoming),
            Event::Receipt(receipt) => Self::Receipt(receipt),
            Event::Composing { from, active } => Self::Composing(from, *active),
            Event::Registered(binding) => Self::Registered(aor, binding),
            Event::Lost(error) => Self::Lost(error),
            Event::Invited(call) => Self::Invited(call.from(), call.subject()),
        }
    }

    /// For a person. `stamp` writes a time of day with its date.
    pub fn line(&self, stamp: impl Fn(SystemTime) -> String) -> String {
        match self {
            Self::Registered(aor, binding) => {
                format!("* registered as {aor} for {} s at {}", binding.expires.as_secs(), binding.contact)
            }
            Self::Unregistered(aor) => format!("* {aor} is no longer registered"),
            Self::Lost(error) => format!("* not registered any more, trying again: {error}"),
            Self::Sent(to, sent) => {
                let outcome = match sent.status {
                    200 => "delivered",
                    202 => "kept by the server, to be delivered later",
                    201 | 203..300 => "accepted",
                    _ => "NOT delivered",
                };
                format!("> {to}: {outcome} ({} {})", sent.status, sent.reason)
            }
            Self::Unsent(to, error) => format!("> {to}: NOT delivered: {error}"),
            Self::Received(incoming) => {
                let late = incoming.date.filter(|date| date.elapsed().is_ok_and(|age| age > Duration::from_secs(60)));
                let late = late.map(|date| format!(" (written {})", stamp(date))).unwrap_or_default();
                let text = incoming.text.as_deref().map_or_else(
                    || format!("[{} octets of {}]", incoming.content.len(), incoming.content_type),
                    str::to_owned,
                );
                format!("<{}>{late} {text}", incoming.from)
            }
            Self::Receipt(receipt) => format!("* {}: {} ({})", receipt.from, receipt.status, receipt.message_id),
            Self::Composing(from, true) => format!("* {from} is typing"),
            Self::Composing(from, false) => format!("* {from} stopped typing"),
            Self::Chosen(to) => format!("* what you type now goes to {to}"),
            Self::Invited(from, subject) => {
                let about = subject.map(|subject| format!(": {subject}")).unwrap_or_default();
                format!("* {from} invites you to a session{about}")
            }
            Self::SessionStarted(peer) => format!("* the session with {peer} has begun"),
            Self::Said(peer, message) => {
                let said = message
                    .text()
                    .map_or_else(|| format!("[{} octets of {}]", message.bytes(), message.content_type), str::to_owned);
                let saved = message.file.as_ref().map(|file| format!(" saved as {}", file.path.display()));
                format!("<{peer}> {said}{}", saved.unwrap_or_default())
            }
            Self::Passed(_, what, delivery) => format!("> {what}: {delivery}"),
            Self::SessionEnded(peer, how) => match how {
                Ended::ByUs => format!("* the session with {peer} has ended"),
                Ended::ByPeer(None) => format!("* {peer} has hung up"),
                Ended::ByPeer(Some(reason)) => format!("* {peer} has hung up: {reason}"),
                Ended::Lost(reason) => format!("* the session with {peer} was lost: {reason}"),
            },
        }
    }

    /// For a script; nothing where a script has no use for it.
    pub fn object(&self) -> Option<Value> {
        Some(match self {
            Self::Registered(aor, binding) => json!({
                "event": "registered", "aor": aor.as_str(), "contact": binding.contact, "expires": binding.expires.as_secs(),
            }),
            Self::Unregistered(aor) => json!({ "event": "unregistered", "aor": aor.as_str() }),
            Self::Lost(error) => json!({ "event": "lost", "message": error.to_string() }),
            Self::Sent(to, sent) => json!({
                "event": "sent", "to": to.as_str(), "status": sent.status, "reason": sent.reason,
                "call_id": sent.call_id, "message_id": sent.message_id, "retry_after": sent.retry_after_s,
            }),
            Self::Unsent(to, error) => json!({
                "event": "sent", "to": to.as_str(), "status": error.status(), "error": error.to_string(),
            }),
            Self::Received(incoming) => json!({
                "event": "received", "from": incoming.from, "display": incoming.display, "to": incoming.to,
                "date": incoming.date.and_then(rfc3339), "call_id": incoming.call_id,
                "content_type": incoming.content_type, "text": incoming.text, "bytes": incoming.content.len(),
                "message_id": incoming.cpim.as_ref().and_then(|cpim| cpim.message_id.clone()),
            }),
            Self::Receipt(receipt) => json!({
                "event": "receipt", "from": receipt.from, "message_id": receipt.message_id, "status": receipt.status,
            }),
            Self::Composing(from, active) => json!({ "event": "composing", "from": from, "active": active }),
            Self::Invited(from, subject) => json!({ "event": "invited", "from": from, "subject": subject }),
            Self::SessionStarted(peer) => json!({ "event": "session_started", "peer": peer }),
            Self::Said(peer, message) => json!({
                "event": "message", "from": peer, "content_type": message.content_type, "text": message.text(),
                "bytes": message.bytes(), "file": message.file.as_ref().map(|file| file.path.display().to_string()),
                "sha256": message.file.as_ref().map(ReceivedFile::sha256_hex),
            }),
            Self::Passed(peer, what, delivery) => json!({
                "event": "sent", "to": peer, "what": what, "delivered": delivery.is_good(),
                "outcome": delivery.to_string(),
            }),
            Self::SessionEnded(peer, how) => {
                let (how, reason) = match how {
                    Ended::ByUs => ("by_us", None),
                    Ended::ByPeer(reason) => ("by_peer", reason.as_deref()),
                    Ended::Lost(reason) => ("lost", Some(reason.as_str())),
                };
                json!({ "event": "session_ended", "peer": peer, "how": how, "reason": reason })
            }
            Self::Chosen(_) => return None,
        })
    }
}

fn rfc3339(at: SystemTime) -> Option<String> {
    // A date outside of the years 0 to 9999 has no such form.
    OffsetDateTime::from(at).format(&Rfc3339).ok()
}
