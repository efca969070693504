//! Page mode (RFC 3428): what is sent, what comes in, and how bodies become texts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::{Aor, Now};
use body::imdn::{self, Asked, Status, Told, Wants};
use body::is_composing::{self, Composing};
use body::{Cpim, Writer, cpim, date};
use bytes::Bytes;
use sip::{MediaType, Name, View};

use crate::account::Account;

/// Something to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    content_type: String,
    body: Bytes,
    expires: Option<Duration>,
    wants: Option<Wants>,
}

impl Outgoing {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::of_type("text/plain;charset=UTF-8", text.as_bytes().to_vec())
    }

    /// Any body. A message/cpim goes as it is: what it asks for stands in it.
    pub fn of_type(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { content_type: content_type.to_owned(), body: body.into(), expires: None, wants: None }
    }

    /// Asks for delivery, failure and display notifications (RFC 5438 §7.1.1): the body goes inside a message/cpim.
    #[must_use]
    pub fn with_receipts(self) -> Self {
        self.asking_for(Wants::POSITIVE_DELIVERY | Wants::NEGATIVE_DELIVERY | Wants::DISPLAY)
    }

    /// Asks for these notifications.
    #[must_use]
    pub fn asking_for(mut self, wants: Wants) -> Self {
        self.wants = Some(wants);
        self
    }

    /// Is of no use after so long (RFC 3428 §4).
    #[must_use]
    pub fn expiring_in(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }

    /// The body as it goes out, its type, and its Message-ID where notifications are asked for.
    pub(crate) fn write(
        &self,
        account: &Account,
        to: &Aor,
        message_id: String,
        now: Now,
    ) -> (String, Bytes, Option<String>) {
        let Some(wants) = self.wants else { return (self.content_type.clone(), self.body.clone(), None) };
        let length = self.body.len().to_string();
        // RFC 5438 §7.1.1.1, §7.1.1.2: who asks must give a Message-ID and a DateTime.
        let body = Writer::new()
            .address("From", &account.display, account.aor.as_str())
            .address("To", "", to.as_str())
            .text("DateTime", &date::rfc3339(now.unix_s()))
            .namespace("imdn", cpim::IMDN)
            .text("imdn.Message-ID", &message_id)
            .text("imdn.Disposition-Notification", &wants.value())
            .content(&[("Content-Type", &self.content_type), ("Content-Length", &length)], &self.body);
        ("message/cpim".to_owned(), body.into(), Some(message_id))
    }

    /// Expires, and the Date that it counts from (RFC 3428 §4).
    pub(crate) fn time_lines(&self, now: Now) -> String {
        let Some(after) = self.expires else { return String::new() };
        format!("Date: {}\r\nExpires: {}\r\n", httpdate::fmt_http_date(now.wall()), after.as_secs())
    }

    pub(crate) fn content_type(&self) -> &str {
        &self.content_type
    }
}

/// The final answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// 200: the receiver has it. 202: the server keeps it for later. From 300 on: not accepted.
    pub status: u16,
    /// The reason phrase as it came.
    pub reason: String,
    /// The Call-ID under which it went.
    pub call_id: String,
    /// The number in the CSeq of the request that was answered.
    pub cseq: u32,
    /// Its IMDN Message-ID, where notifications were asked for: [`Receipt::message_id`] repeats it.
    pub message_id: Option<String>,
    /// Retry-After, seconds.
    pub retry_after_s: Option<u32>,
}

impl Sent {
    /// Whether the receiver has it or the server keeps it.
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Something that somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// URI of the sender, from the From that the server has checked, never from inside of the body.
    pub from: String,
    /// The sender's name as written there; may be empty.
    pub display: String,
    /// URI of whom it was written to.
    pub to: String,
    /// When it was written: DateTime of the message/cpim, else the Date.
    pub date: Option<SystemTime>,
    /// The Call-ID.
    pub call_id: String,
    /// The number in the CSeq.
    pub cseq: u32,
    /// The type of the content; of a message/cpim that of what is in it.
    pub content_type: String,
    /// The content; of a message/cpim what is in it.
    pub content: Bytes,
    /// The whole body, octet for octet.
    pub body: Bytes,
    /// The content, where it is a text.
    pub text: Option<String>,
    /// What stands around the content of a message/cpim.
    pub cpim: Option<Envelope>,
}

/// The headers of a message/cpim that a client needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// URI in its From; nobody has checked it.
    pub from: String,
    /// URIs in its To.
    pub to: Vec<String>,
    /// Its IMDN Message-ID.
    pub message_id: Option<String>,
    /// What its sender asks to be told.
    pub asked: Option<Asked>,
}

/// What became of a message of ours (RFC 5438).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// URI of who says so.
    pub from: String,
    /// The message that it is about: [`Sent::message_id`].
    pub message_id: String,
    /// `delivered`, `failed`, `displayed`, `stored`, `processed`, `forbidden`, `error`, or `unknown`.
    pub status: String,
}

/// What a MESSAGE turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Message(Box<Incoming>),
    Receipt(Receipt),
    Composing { from: String, active: bool },
}

/// Why a MESSAGE cannot be taken: the status and reason phrase of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub reason: &'static str,
}

/// Headers of a message/cpim that a Require may name (RFC 3862 §4.7).
const UNDERSTOOD: [(&str, &str); 11] = [
    (cpim::CPIM, "From"),
    (cpim::CPIM, "To"),
    (cpim::CPIM, "cc"),
    (cpim::CPIM, "DateTime"),
    (cpim::CPIM, "Subject"),
    (cpim::CPIM, "NS"),
    (cpim::CPIM, "Require"),
    (cpim::IMDN, "Message-ID"),
    (cpim::IMDN, "Disposition-Notification"),
    (cpim::IMDN, "Original-To"),
    (cpim::IMDN, "IMDN-Record-Route"),
];

/// Reads a MESSAGE that has passed [`View::check_request`].
pub(crate) fn read(request: View<'_>) -> Result<Content, Refusal> {
    let refuse = |reason| Refusal { status: 400, reason };
    let from = request.from().map_err(|_| refuse("Malformed From"))?;
    let to = request.to().map_err(|_| refuse("Malformed To"))?;
    let raw_type = request.first(Name::ContentType).unwrap_or(b"text/plain");
    let kind = MediaType::parse(raw_type).ok_or(refuse("Malformed Content-Type"))?;
    let date =
        request.first(Name::Date).and_then(|date| httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok());
    let message = Incoming {
        from: lossy(from.uri),
        display: display_name(from.display),
        to: lossy(to.uri),
        date,
        call_id: lossy(request.call_id().unwrap_or_default()),
        cseq: request.cseq().map_or(0, |cseq| cseq.number),
        content_type: lossy(raw_type),
        content: Bytes::new(),
        body: Bytes::copy_from_slice(request.body()),
        text: None,
        cpim: None,
    };
    if kind.is("message/cpim") { read_cpim(message) } else { sort(message, kind, request.body()) }
}

fn read_cpim(mut message: Incoming) -> Result<Content, Refusal> {
    let body = message.body.clone();
    let envelope = Cpim::parse(&body).map_err(|_| Refusal { status: 400, reason: "Malformed message/cpim" })?;
    // RFC 3862 §4.7: what must be understood and is not makes the message unusable.
    if envelope.unknown_requirement(&UNDERSTOOD).is_some() {
        return Err(Refusal { status: 400, reason: "message/cpim Requires Unknown Header" });
    }
    let kind =
        envelope.content_type().unwrap_or(MediaType::parse(b"text/plain").ok_or(Refusal { status: 400, reason: "" })?);
    message.content_type = lossy(envelope.content_header("Content-Type").unwrap_or(b"text/plain"));
    message.date = envelope.date_unix_ms().map(|ms| UNIX_EPOCH + Duration::from_millis(ms)).or(message.date);
    message.cpim = Some(Envelope {
        from: envelope.from().map(|from| from.uri.to_owned()).unwrap_or_default(),
        to: envelope.to().map(|to| to.uri.to_owned()).collect(),
        message_id: envelope.imdn("Message-ID").map(|id| id.trim().to_owned()),
        asked: Asked::of(&envelope),
    });
    sort(message, kind, envelope.content())
}

/// A notice about a message and a typing notice are no messages (RFC 5438 §7.2.1, RFC 3994 §4).
fn sort(mut message: Incoming, kind: MediaType<'_>, content: &[u8]) -> Result<Content, Refusal> {
    let from = message.from.clone();
    if kind.is(imdn::CONTENT_TYPE) {
        let told = Told::parse(content).map_err(|_| Refusal { status: 400, reason: "Malformed message/imdn+xml" })?;
        return Ok(Content::Receipt(Receipt {
            from,
            message_id: told.message_id,
            status: status_word(told.status).to_owned(),
        }));
    }
    if kind.is(is_composing::CONTENT_TYPE) {
        let notice =
            Composing::parse(content).map_err(|_| Refusal { status: 400, reason: "Malformed im-iscomposing+xml" })?;
        return Ok(Content::Composing { from, active: notice.active });
    }
    let is_text = message.content_type.trim_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"));
    message.text = is_text.then(|| decode(content, kind.parameter("charset").unwrap_or("UTF-8")));
    message.content = Bytes::copy_from_slice(content);
    Ok(Content::Message(Box::new(message)))
}

fn status_word(status: Option<Status>) -> &'static str {
    match status {
        Some(Status::Delivered) => "delivered",
        Some(Status::Failed) => "failed",
        Some(Status::Displayed) => "displayed",
        Some(Status::Processed) => "processed",
        Some(Status::Stored) => "stored",
        Some(Status::Forbidden) => "forbidden",
        Some(Status::Error) => "error",
        None => "unknown",
    }
}

/// Every octet is a character of ISO 8859-1; of all other sets only what UTF-8 shares with them is shown right.
fn decode(content: &[u8], charset: &str) -> String {
    if charset.eq_ignore_ascii_case("ISO-8859-1") {
        content.iter().map(|byte| char::from(*byte)).collect()
    } else {
        lossy(content)
    }
}

/// RFC 3261 §25.1 `display-name`: tokens, or a quoted string with escapes in it.
fn display_name(written: &[u8]) -> String {
    let bare = sip::params::unquoted(written);
    if bare.len() == written.len() {
        return lossy(bare);
    }
    let mut escaped = false;
    let plain = bare.iter().copied().filter(|byte| {
        escaped = *byte == b'\\' && !escaped;
        !escaped
    });
    lossy(&plain.collect::<Vec<_>>())
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use sip::{Layout, parse_datagram};

    use super::*;

    fn request(lines: &str, body: &[u8]) -> Result<Content, Refusal> {
        let mut text = format!(
            "MESSAGE sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: \"Al \\\"A\\\" Ice\" <sip:alice@example.com>;tag=1\r\n\
             To: <sip:bob@example.com>\r\nCall-ID: c1\r\nCSeq: 7 MESSAGE\r\n{lines}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        text.extend_from_slice(body);
        let mut layout = Layout::default();
        parse_datagram(&text, &mut layout).unwrap();
        read(layout.view(&text))
    }

    fn message(lines: &str, body: &[u8]) -> Incoming {
        match request(lines, body) {
            Ok(Content::Message(message)) => *message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_text_is_read_with_its_sender_and_date() {
        let lines = "Content-Type: text/plain;charset=UTF-8\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let message = message(lines, "Grüß Gott".as_bytes());
        assert_eq!(message.from, "sip:alice@example.com");
        assert_eq!(message.display, "Al \"A\" Ice");
        assert_eq!(message.text.as_deref(), Some("Grüß Gott"));
        assert_eq!(message.date, Some(UNIX_EPOCH + Duration::from_secs(784_111_777)));
        assert_eq!((message.call_id.as_str(), message.cseq), ("c1", 7));
    }

    #[test]
    fn other_sets_of_characters_do_not_break_the_text() {
        assert_eq!(
            message("Content-Type: text/plain;charset=\"iso-8859-1\"\r\n", b"Gr\xfc\xdfe").text.unwrap(),
            "Grüße"
        );
        assert_eq!(message("Content-Type: text/plain\r\n", b"Gr\xfc\xdfe").text.unwrap(), "Gr\u{fffd}\u{fffd}e");
        assert_eq!(message("Content-Type: image/png\r\n", b"\x89PNG").text, None);
    }

    #[test]
    fn bodies_that_lie_about_their_type_are_refused_with_the_fault() {
        for (kind, reason) in [
            ("message/cpim", "Malformed message/cpim"),
            ("message/imdn+xml", "Malformed message/imdn+xml"),
            ("application/im-iscomposing+xml", "Malformed im-iscomposing+xml"),
            ("text", "Malformed Content-Type"),
        ] {
            let refusal = request(&format!("Content-Type: {kind}\r\n"), b"nonsense").unwrap_err();
            assert_eq!((refusal.status, refusal.reason), (400, reason));
        }
    }
}
