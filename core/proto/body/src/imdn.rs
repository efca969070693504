//! Disposition notifications (IMDN, RFC 5438): what a message asks to be told, and the notices that tell it.

use base::mime::MediaType;

use crate::cpim::{Cpim, IMDN, Writer, unescape};
use crate::error::ParseError;
use crate::xml;

/// Content type of a notice (RFC 5438 §11.1.8).
pub const CONTENT_TYPE: &str = "message/imdn+xml";
/// Its XML namespace.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:imdn";

bitflags::bitflags! {
    /// What the sender of a message wants to hear (RFC 5438 §6.2). The bits are written to disk: they never change.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Wants: u8 {
        /// That it was delivered: told by the recipient, never by a server in between (RFC 5438 §12.2).
        const POSITIVE_DELIVERY = 1;
        /// That it failed.
        const NEGATIVE_DELIVERY = 2;
        /// That a server has processed or stored it.
        const PROCESSING = 4;
        /// That it was shown: told by the recipient.
        const DISPLAY = 8;
    }
}

impl Wants {
    /// From the value of Disposition-Notification; unknown words are passed over (RFC 5438 §7.2.1), parameters too.
    pub fn parse(value: &str) -> Self {
        let word = |one: &str| match one.split(';').next().unwrap_or(one).trim() {
            "positive-delivery" => Self::POSITIVE_DELIVERY,
            "negative-delivery" => Self::NEGATIVE_DELIVERY,
            "processing" => Self::PROCESSING,
            "display" => Self::DISPLAY,
            _ => Self::empty(),
        };
        value.split(',').map(word).collect()
    }

    /// The value of a Disposition-Notification that asks for these.
    pub fn value(self) -> String {
        let words = [
            (Self::POSITIVE_DELIVERY, "positive-delivery"),
            (Self::NEGATIVE_DELIVERY, "negative-delivery"),
            (Self::PROCESSING, "processing"),
            (Self::DISPLAY, "display"),
        ];
        words.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
    }
}

/// What a message asks for, with everything that a notice about it must repeat. All as it stood, escapes in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// What its sender wants to hear; may be nothing.
    pub wants: Wants,
    /// Its Message-ID (RFC 5438 §6.3).
    pub message_id: String,
    /// Its DateTime; empty where the sender left it out.
    pub date_time: String,
    /// URI of the recipient: of the first To.
    pub recipient: String,
    /// URI of Original-To, which a server in between puts in when it changes To; empty where none did.
    pub original_recipient: String,
    /// One Subject, as text (RFC 5438 §11.1.5: any one will do).
    pub subject: String,
    /// Values of IMDN-Record-Route, topmost first (RFC 5438 §7.2.1).
    pub routes: Vec<String>,
}

impl Asked {
    /// What this message asks for. Nothing when it has no Message-ID, since nothing could be told about it, or when it
    /// is a notice itself: about a notice none is ever sent (RFC 5438 §7.2.1).
    pub fn of(message: &Cpim<'_>) -> Option<Self> {
        if is_notice(message) {
            return None;
        }
        let message_id = message.imdn("Message-ID").map(str::trim).filter(|id| !id.is_empty())?;
        let uri = |value: &str| crate::cpim::Address::parse(value).map(|one| one.uri.to_owned());
        Some(Self {
            wants: message.imdn("Disposition-Notification").map(Wants::parse).unwrap_or_default(),
            message_id: message_id.to_owned(),
            date_time: message.core("DateTime").unwrap_or_default().trim().to_owned(),
            recipient: message.to().next().map(|to| to.uri.to_owned()).unwrap_or_default(),
            original_recipient: message.imdn("Original-To").and_then(uri).unwrap_or_default(),
            subject: message.core("Subject").map(|text| unescape(text).into_owned()).unwrap_or_default(),
            routes: message.all(IMDN, "IMDN-Record-Route").map(str::to_owned).collect(),
        })
    }
}

/// Whether a message/cpim is a notice (RFC 5438 §9): message/imdn+xml, alone or in an aggregate (§8.3), put there as a
/// `notification`.
pub fn is_notice(message: &Cpim<'_>) -> bool {
    let Some(kind) = message.content_type() else { return false };
    // The disposition alone tells: an aggregate is multipart/mixed, and what is no notice has no right to the word.
    let disposition = message.content_header("Content-Disposition").unwrap_or_default();
    let word = disposition.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_put_so = base::scan::trim(word).eq_ignore_ascii_case(b"notification");
    // Clients forget the disposition; a document of this type can be nothing else.
    kind.is(CONTENT_TYPE) || (is_put_so && kind.is("multipart/mixed"))
}

/// Whether a body of this content type is a notice. One outside of a message/cpim is none by RFC 5438 §12.1.1, but is
/// taken for one: it must not be answered by another either.
pub fn is_notice_body(kind: &MediaType<'_>, body: &[u8]) -> bool {
    kind.is(CONTENT_TYPE) || (kind.is("message/cpim") && Cpim::parse(body).is_ok_and(|message| is_notice(&message)))
}

/// Which of the three kinds a notice is (RFC 5438 §11.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `delivery-notification`.
    Delivery,
    /// `display-notification`.
    Display,
    /// `processing-notification`.
    Processing,
}

/// What happened (RFC 5438 §11.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Of a delivery.
    Delivered,
    /// Of a delivery.
    Failed,
    /// Of a display.
    Displayed,
    /// Of a processing.
    Processed,
    /// Of a processing.
    Stored,
    /// Of any kind: the disposition was denied.
    Forbidden,
    /// Of any kind: something went wrong at who should tell.
    Error,
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Delivery, "delivery-notification"),
    (Kind::Display, "display-notification"),
    (Kind::Processing, "processing-notification"),
];
const STATUSES: [(Status, &str); 7] = [
    (Status::Delivered, "delivered"),
    (Status::Failed, "failed"),
    (Status::Displayed, "displayed"),
    (Status::Processed, "processed"),
    (Status::Stored, "stored"),
    (Status::Forbidden, "forbidden"),
    (Status::Error, "error"),
];

impl Kind {
    fn element(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

impl Status {
    fn element(self) -> &'static str {
        STATUSES.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }
}

/// A notice to be written.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// Whom it is from in the envelope: the URI of who was to get the message.
    pub from: &'a str,
    /// Whom it is for: the URI of who sent the message.
    pub to: &'a str,
    /// Its own Message-ID, new and unpredictable (RFC 5438 §6.3).
    pub id: &'a str,
    /// When it is written, seconds since 1970.
    pub now_unix_s: u64,
    /// The message that it is about.
    pub about: &'a Asked,
    /// Which kind.
    pub kind: Kind,
    /// What happened.
    pub status: Status,
}

impl Notice<'_> {
    /// The body of a message/cpim (RFC 5438 §7.2.1.1).
    pub fn write(&self) -> Vec<u8> {
        let mut envelope = Writer::new()
            .address("From", "", self.from)
            .address("To", "", self.to)
            .text("DateTime", &crate::date::rfc3339(self.now_unix_s))
            .namespace("imdn", IMDN)
            .text("imdn.Message-ID", self.id);
        // RFC 5438 §7.2.1: the recorded routes become the way back, in their order.
        for route in &self.about.routes {
            envelope = envelope.raw("imdn.IMDN-Route", route);
        }
        let document = self.document();
        let length = document.len().to_string();
        let head = [
            ("Content-Type", CONTENT_TYPE),
            ("Content-Disposition", "notification"),
            ("Content-Length", length.as_str()),
        ];
        envelope.content(&head, document.as_bytes())
    }

    /// RFC 5438 §11.1: the order of the elements is the schema's, and both recipient URIs come together.
    fn document(&self) -> String {
        let mut out = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"{NAMESPACE}\">");
        xml::push(&mut out, "message-id", &self.about.message_id);
        xml::push(&mut out, "datetime", &self.about.date_time);
        let recipient = if self.about.recipient.is_empty() { self.from } else { &self.about.recipient };
        let original = &self.about.original_recipient;
        xml::push(&mut out, "recipient-uri", recipient);
        xml::push(&mut out, "original-recipient-uri", if original.is_empty() { recipient } else { original });
        if !self.about.subject.is_empty() {
            xml::push(&mut out, "subject", &self.about.subject);
        }
        let (kind, status) = (self.kind.element(), self.status.element());
        out.push_str(&format!("<{kind}><status><{status}/></status></{kind}></imdn>\r\n"));
        out
    }
}

/// A notice that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The message that it is about.
    pub message_id: String,
    /// When that was sent, as its sender wrote it.
    pub date_time: String,
    /// Who should have got it; empty when hidden.
    pub recipient: String,
    /// Which kind.
    pub kind: Kind,
    /// What happened; nothing for a status that RFC 5438 does not know.
    pub status: Option<Status>,
}

impl Told {
    /// Reads a message/imdn+xml.
    pub fn parse(document: &[u8]) -> Result<Self, ParseError> {
        let found = xml::elements(document, NAMESPACE)?;
        let text = |path: &str| found.iter().find(|one| one.path == path).map(|one| one.text.clone());
        let (kind, name) = KINDS
            .into_iter()
            .find(|(_, name)| found.iter().any(|one| one.path.strip_prefix("imdn/") == Some(name)))
            .ok_or(ParseError::Missing("notification"))?;
        let status = STATUSES
            .into_iter()
            .find(|(_, word)| found.iter().any(|one| one.path == format!("imdn/{name}/status/{word}")))
            .map(|(status, _)| status);
        Ok(Self {
            message_id: text("imdn/message-id").ok_or(ParseError::Missing("message-id"))?,
            date_time: text("imdn/datetime").unwrap_or_default(),
            recipient: text("imdn/recipient-uri").unwrap_or_default(),
            kind,
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 5438 §7.1.1.3, the prefix changed
    const ASKING: &str = "From: Alice <im:alice@example.com>\r\nTo: Bob <im:bob@example.com>\r\nNS: x <urn:ietf:params:imdn>\r\n\
        x.Message-ID: 34jk324j\r\nDateTime: 2006-04-04T12:16:49-05:00\r\nSubject: a <b> & \\\"c\\\"\r\n\
        x.Disposition-Notification: positive-delivery, negative-delivery;p=1,own\r\n\
        x.IMDN-Record-Route: <sip:one@r>\r\nx.IMDN-Record-Route: Two <sip:two@r>\r\n\r\n\
        Content-type: text/plain\r\n\r\nHello World";

    fn asked(text: &str) -> Option<Asked> {
        Asked::of(&Cpim::parse(text.as_bytes()).unwrap())
    }

    fn failed(about: &Asked) -> Vec<u8> {
        let (from, to, id) = ("im:bob@example.com", "im:alice@example.com", "d834jied93rf");
        Notice { from, to, id, now_unix_s: 1_144_171_009, about, kind: Kind::Delivery, status: Status::Failed }.write()
    }

    #[test]
    fn a_message_says_what_it_wants_to_hear_under_any_prefix() {
        let asked = asked(ASKING).unwrap();
        assert_eq!(asked.wants, Wants::POSITIVE_DELIVERY | Wants::NEGATIVE_DELIVERY);
        assert_eq!((asked.message_id.as_str(), asked.recipient.as_str()), ("34jk324j", "im:bob@example.com"));
        assert_eq!((asked.subject.as_str(), asked.routes.len()), ("a <b> & \"c\"", 2));
    }

    #[test]
    fn without_a_message_id_nothing_can_be_told() {
        assert_eq!(asked(&ASKING.replace("x.Message-ID", "Message-ID")), None);
    }

    #[test]
    fn an_empty_or_absent_request_asks_for_nothing() {
        // RFC 5438 §7.1.1.3; the words are case-sensitive (§10)
        for value in ["", " , ", "Processing", "positive-delivery-not"] {
            assert_eq!(Wants::parse(value), Wants::empty(), "{value:?}");
        }
        assert_eq!(Wants::parse(&Wants::all().value()), Wants::all());
    }

    #[test]
    fn a_notice_repeats_what_it_is_about_and_has_an_id_of_its_own() {
        let wire = failed(&asked(ASKING).unwrap());
        let read = Cpim::parse(&wire).unwrap();
        assert!(is_notice(&read));
        assert_eq!(
            (read.imdn("Message-ID"), read.core("DateTime")),
            (Some("d834jied93rf"), Some("2006-04-04T17:16:49Z"))
        );
        assert_eq!(read.to().next().unwrap().uri, "im:alice@example.com");
        assert_eq!(read.all(IMDN, "IMDN-Route").collect::<Vec<_>>(), ["<sip:one@r>", "Two <sip:two@r>"]);
        assert_eq!(read.content_header("Content-Disposition"), Some(&b"notification"[..]));
        let told = Told::parse(read.content()).unwrap();
        assert_eq!((told.message_id.as_str(), told.date_time.as_str()), ("34jk324j", "2006-04-04T12:16:49-05:00"));
        assert_eq!((told.kind, told.status), (Kind::Delivery, Some(Status::Failed)));
        let text = std::str::from_utf8(read.content()).unwrap();
        assert!(text.contains("<subject>a &lt;b&gt; &amp; &quot;c&quot;</subject>"), "{text}");
        assert!(text.contains("<original-recipient-uri>im:bob@example.com</original-recipient-uri>"), "{text}");
    }

    #[test]
    fn about_a_notice_none_is_sent_even_if_it_asks() {
        // RFC 5438 §7.2.1
        let wire = String::from_utf8(failed(&asked(ASKING).unwrap())).unwrap();
        let asks = wire.replace("imdn.Message-ID", "imdn.Disposition-Notification: processing\r\nimdn.Message-ID");
        assert_eq!(asked(&asks), None);
        assert_eq!(asked(&asks.replace("Content-Disposition: notification\r\n", "")), None);
        let many = ASKING.replace("text/plain", "multipart/mixed; boundary=x\r\nContent-disposition: Notification");
        assert_eq!(asked(&many), None, "an aggregate (RFC 5438 §8.3)");
    }

    #[test]
    fn a_notice_is_recognised_by_the_type_of_what_carries_it() {
        let wire = failed(&asked(ASKING).unwrap());
        let is = |kind: &str, body: &[u8]| is_notice_body(&MediaType::parse(kind.as_bytes()).unwrap(), body);
        assert!(is("Message/CPIM", &wire) && is("message/imdn+xml", b""));
        assert!(!is("text/plain", &wire) && !is("message/cpim", ASKING.as_bytes()) && !is("message/cpim", b"broken"));
    }

    #[test]
    fn a_notice_with_extensions_is_read_and_one_without_its_kind_is_not() {
        let body = "<i:imdn xmlns:i='urn:ietf:params:xml:ns:imdn'><i:message-id>1</i:message-id><i:datetime>d</i:datetime>\
            <e:x xmlns:e='urn:e'><i:message-id>2</i:message-id></e:x><i:display-notification><i:status><e:own xmlns:e='urn:e'/>\
            </i:status></i:display-notification></i:imdn>";
        let told = Told::parse(body.as_bytes()).unwrap();
        assert_eq!((told.message_id.as_str(), told.kind, told.status), ("1", Kind::Display, None));
        assert_eq!(
            Told::parse(b"<imdn xmlns='urn:ietf:params:xml:ns:imdn'/>"),
            Err(ParseError::Missing("notification"))
        );
        assert_eq!(Told::parse(b"not xml <"), Err(ParseError::Xml));
    }

    proptest! {
        #[test]
        fn whatever_a_message_carries_its_notice_is_well_formed(
            message_id in "\\PC{1,20}", date_time in any::<String>(), recipient in any::<String>(),
            subject in any::<String>(), routes in proptest::collection::vec(any::<String>(), 0..3), from in "\\PC{0,20}"
        ) {
            let about = Asked { message_id: message_id.trim().to_owned(), date_time, recipient, subject, routes, ..Asked::default() };
            let (to, id) = (from.as_str(), "own");
            let from = if from.is_empty() { "sip:a@b" } else { &from };
            let notice = Notice { from, to: if to.is_empty() { "sip:a@b" } else { to }, id, now_unix_s: 0, about: &about, kind: Kind::Processing, status: Status::Stored };
            let wire = notice.write();
            let read = Cpim::parse(&wire).unwrap();
            prop_assert_eq!(read.imdn("Message-ID"), Some("own"));
            let told = Told::parse(read.content()).unwrap();
            prop_assert_eq!(told.status, Some(Status::Stored));
            prop_assert_eq!(told.message_id, about.message_id);
        }
    }
}
