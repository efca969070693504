//! The one form in which a page message lives inside the house, from its arrival to its last delivery.
//!
//! What a repeat must show again is kept as it came (decisions D3): Call-ID, CSeq, From with its tag, To, the date, the
//! body and every header that is the sender's own. What belongs to the way (Via, routes, credentials) is not.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use base::mime::MediaType;
use base::{Aor, Now};
use body::{Asked, Cpim, imdn, is_composing};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use sip::{HeaderError, Name, View};

/// The last second that a SIP date can name.
const LAST_UNIX_S: u64 = 253_402_300_799;

/// Who a message is (decisions D3): equal for a repeat, different for everything else.
///
/// 128 bits of SHA-256 over sender, Call-ID, CSeq, From tag and imdn.Message-ID: nobody can make a message that is
/// taken for the repeat of another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId([u8; 16]);

impl EntryId {
    /// Of these parts; where one ends and the next begins counts.
    pub fn of(sender: &Aor, call_id: &[u8], cseq: u32, from_tag: &[u8], imdn_id: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [sender.as_str().as_bytes(), call_id, &cseq.to_be_bytes(), from_tag, imdn_id] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// As it was written down.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// To be written down.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What sort of message it is, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something that a person or a program says.
    Page,
    /// A typing notice: passed on or forgotten, never stored (RFC 3994).
    Typing,
    /// A disposition notification: stored like a page, but nothing is ever told about it (RFC 5438 §7.2.1).
    Notification,
}

impl Kind {
    /// By content type and body.
    pub fn of(content_type: Option<MediaType<'_>>, body: &[u8]) -> Self {
        match content_type {
            Some(kind) if is_composing::is_typing(&kind, body) => Self::Typing,
            Some(kind) if imdn::is_notice_body(&kind, body) => Self::Notification,
            _ => Self::Page,
        }
    }

    /// Whether it may wait for a receiver who is away.
    pub fn may_wait(self) -> bool {
        self != Self::Typing
    }
}

/// A page message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who it is.
    pub id: EntryId,
    /// Who sent it: as proved, not as claimed.
    pub sender: Aor,
    /// From, the whole value, tag included.
    pub from: String,
    /// To, the whole value.
    pub to: String,
    /// Call-ID.
    pub call_id: String,
    /// The number of CSeq.
    pub cseq: u32,
    /// Date for its receiver: the sender's, else the DateTime of its envelope, else when it came here.
    pub date: String,
    /// From this second on, since 1970, it is stale (RFC 3428 §7).
    pub expires_unix_s: u64,
    /// Content-Type, the whole value; empty where there is none.
    pub content_type: String,
    /// All other header lines that are the sender's own, each with its CRLF.
    pub lines: String,
    /// The body.
    pub body: Bytes,
    /// What its sender asks to be told; nothing for a notification.
    pub asked: Option<Asked>,
    /// What sort it is.
    pub kind: Kind,
    /// Whether it may be kept for a receiver who is away.
    pub may_wait: bool,
}

impl Entry {
    /// From a MESSAGE that came just now from `sender`. It waits `expiry_s` seconds at the longest.
    pub fn of(request: View<'_>, sender: &Aor, expiry_s: u64, now: Now) -> Result<Self, HeaderError> {
        let text = |name: Name| request.first(name).map(lossy).unwrap_or_default();
        let (content_type, body) = (request.content_type(), request.body());
        let envelope = content_type.filter(|kind| kind.is("message/cpim")).and_then(|_| Cpim::parse(body).ok());
        let asked = envelope.as_ref().and_then(Asked::of);
        let imdn_id = envelope.as_ref().and_then(|envelope| envelope.imdn("Message-ID")).unwrap_or_default();
        let (call_id, cseq) = (request.call_id()?, request.cseq()?.number);
        let from_tag = request.from()?.tag().unwrap_or_default();
        let time = Time::of(request, envelope.as_ref(), expiry_s, now);
        let kind = Kind::of(content_type, body);
        // RFC 3428 §7: what expires when it comes is for now or never. By what way the receiver of a kept message will come
        // back nobody knows, and SIPS asks for a secure one (RFC 5630 §5.3).
        let may_wait = kind.may_wait() && request.expires() != Some(0) && !request.is_sips();
        Ok(Self {
            id: EntryId::of(sender, call_id, cseq, from_tag, imdn_id.as_bytes()),
            sender: sender.clone(),
            from: text(Name::From),
            to: text(Name::To),
            call_id: lossy(call_id),
            cseq,
            date: time.date,
            expires_unix_s: time.expires_unix_s,
            content_type: text(Name::ContentType),
            lines: own_lines(request),
            body: Bytes::copy_from_slice(body),
            asked,
            kind,
            may_wait,
        })
    }

    /// Whether its time is over (RFC 3428 §7).
    pub fn is_stale(&self, now: Now) -> bool {
        is_over(self.expires_unix_s, now)
    }

    /// Octets that count against its receiver's quota: all that must be kept of it.
    pub fn size(&self) -> usize {
        let texts = [&self.from, &self.to, &self.call_id, &self.date, &self.content_type, &self.lines];
        self.body.len() + texts.iter().map(|text| text.len()).sum::<usize>()
    }

    /// The header lines of a request that delivers it, but for those that any request has (RFC 3261 §8.1.1).
    pub fn request_lines(&self) -> String {
        let kind = if self.content_type.is_empty() {
            String::new()
        } else {
            format!("Content-Type: {}\r\n", self.content_type)
        };
        format!("Date: {}\r\n{kind}{}", self.date, self.lines)
    }
}

/// Whether that second has come.
pub(crate) fn is_over(expires_unix_s: u64, now: Now) -> bool {
    now.unix_ms >= expires_unix_s.saturating_mul(1_000)
}

/// A date as SIP writes it (RFC 3261 §20.17).
pub fn sip_date(unix_s: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_UNIX_S)))
}

/// When it was sent, and when it is stale.
struct Time {
    date: String,
    expires_unix_s: u64,
}

impl Time {
    fn of(request: View<'_>, envelope: Option<&Cpim<'_>>, expiry_s: u64, now: Now) -> Self {
        // Up, not down: a message for two seconds is good for two.
        let arrival = now.unix_ms.div_ceil(1_000);
        let latest = arrival.saturating_add(expiry_s);
        let said = request.first(Name::Date).and_then(read_date);
        let expires = request.expires();
        // RFC 3428 §7: from the Date on, else from when it came; so its receiver will reckon too, from the Date that
        // we write. Only where nothing is reckoned may that be the envelope's.
        let enveloped = envelope.and_then(Cpim::date_unix_ms).map(|ms| ms / 1_000);
        let shown = said.or(enveloped.filter(|_| expires.is_none())).unwrap_or(arrival);
        let stale = expires.map(|expires| said.unwrap_or(arrival).saturating_add(u64::from(expires)));
        Self { date: sip_date(shown), expires_unix_s: stale.unwrap_or(latest).min(latest) }
    }
}

fn read_date(value: &[u8]) -> Option<u64> {
    let at = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The lines that travel with the message, whatever they are: of the others it is known why they do not.
fn own_lines(request: View<'_>) -> String {
    request
        .fields()
        .iter()
        .filter(|field| !stays_behind(field.name))
        .map(|field| lossy(request.at(field.line)))
        .collect()
}

/// Headers of the way, of one hop, or of which the entry has the value by itself.
fn stays_behind(name: Name) -> bool {
    use Name as N;
    matches!(
        name,
        N::Via | N::Route | N::RecordRoute | N::Path | N::ServiceRoute | N::MaxForwards | N::Contact | N::Timestamp
            | N::From | N::To | N::CallId | N::CSeq | N::Date | N::ContentType | N::ContentLength
            // Credentials were for this house (RFC 3261 §22.3), what a proxy must know was for its proxies.
            | N::Authorization | N::ProxyAuthorization | N::ProxyRequire
            | N::SecurityClient | N::SecurityServer | N::SecurityVerify
            // RFC 3325 §5, RFC 7315: identity, charging and access are said anew, to whom they may be said.
            | N::PAssertedIdentity | N::PPreferredIdentity | N::PAssertedService | N::PPreferredService
            | N::PServedUser | N::PProfileKey | N::PAccessNetworkInfo | N::PVisitedNetworkId
            | N::PChargingVector | N::PChargingFunctionAddresses
    )
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::{Layout, parse_datagram};

    const EXPIRY_S: u64 = 1_000;

    fn now() -> Now {
        Now { at: std::time::Instant::now(), unix_ms: 1_000_000_000_500 }
    }

    fn entry(lines: &str, body: &str) -> Entry {
        let wire = format!(
            "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             f: \"A\" <sip:alice@example.com>;tag=7\r\nTo: <sip:bob@example.com>\r\ni: call\r\nCSeq: 5 MESSAGE\r\n\
             {lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut layout = Layout::default();
        parse_datagram(wire.as_bytes(), &mut layout).unwrap();
        let alice = Aor::parse("sip:alice@example.com").unwrap();
        Entry::of(layout.view(wire.as_bytes()), &alice, EXPIRY_S, now()).unwrap()
    }

    fn envelope(more: &str) -> String {
        format!(
            "From: <sip:alice@example.com>\r\nTo: <sip:bob@example.com>\r\nNS: i <urn:ietf:params:imdn>\r\n{more}\r\nContent-Type: text/plain\r\n\r\nhi"
        )
    }

    const CPIM: &str = "Content-Type: message/cpim\r\n";

    #[test]
    fn what_is_the_senders_own_is_kept_and_what_is_of_the_way_is_not() {
        let lines = "s: wörld\r\nRoute: <sip:p;lr>\r\nProxy-Authorization: Digest x\r\nX-Own: a\r\n b\r\n\
            P-Asserted-Identity: <sip:eve@x>\r\nContent-Language: de\r\nc: text/plain;charset=UTF-8\r\nExpires: 60\r\n";
        let entry = entry(lines, "Hello");
        assert_eq!(entry.lines, "s: wörld\r\nX-Own: a\r\n b\r\nContent-Language: de\r\nExpires: 60\r\n");
        assert_eq!(
            (entry.from.as_str(), entry.to.as_str()),
            ("\"A\" <sip:alice@example.com>;tag=7", "<sip:bob@example.com>")
        );
        assert_eq!((entry.call_id.as_str(), entry.cseq, &entry.body[..]), ("call", 5, &b"Hello"[..]));
        assert!(
            entry
                .request_lines()
                .starts_with("Date: Sun, 09 Sep 2001 01:46:41 GMT\r\nContent-Type: text/plain;charset=UTF-8\r\ns: ")
        );
        assert_eq!(entry.kind, Kind::Page);
    }

    #[test]
    fn it_is_stale_when_date_and_expires_say_so_and_never_after_the_houses_own_limit() {
        // RFC 3428 §7
        for (lines, expires) in [
            ("", 1_000_000_001 + EXPIRY_S),
            ("Expires: 2\r\n", 1_000_000_003),
            ("Expires: 0\r\n", 1_000_000_001),
            ("Date: Sun, 09 Sep 2001 01:46:00 GMT\r\nExpires: 90\r\n", 1_000_000_050),
            ("Date: Sun, 09 Sep 2001 01:46:00 GMT\r\n", 1_000_000_001 + EXPIRY_S),
            ("Date: Sun, 09 Sep 2035 01:46:00 GMT\r\nExpires: 90\r\n", 1_000_000_001 + EXPIRY_S),
            ("Expires: 4000000000\r\n", 1_000_000_001 + EXPIRY_S),
            ("Date: yesterday\r\nExpires: 5\r\n", 1_000_000_006),
        ] {
            assert_eq!(entry(lines, "x").expires_unix_s, expires, "{lines}");
        }
        assert!(!entry("Expires: 0\r\n", "x").is_stale(now()));
        assert!(entry("Expires: 0\r\n", "x").is_stale(now().later(Duration::from_millis(500))));
    }

    #[test]
    fn its_date_is_the_senders_else_the_envelopes_else_its_arrival() {
        let dated = envelope("DateTime: 2001-09-09T01:00:00Z\r\n");
        assert_eq!(entry("Date: Sun, 09 Sep 2001 01:46:00 GMT\r\n", &dated).date, "Sun, 09 Sep 2001 01:46:00 GMT");
        assert_eq!(entry(CPIM, &dated).date, "Sun, 09 Sep 2001 01:00:00 GMT");
        assert_eq!(entry("", "x").date, "Sun, 09 Sep 2001 01:46:41 GMT");
        let both = format!("{CPIM}Expires: 60\r\n");
        assert_eq!(entry(&both, &dated).date, "Sun, 09 Sep 2001 01:46:41 GMT", "Expires is reckoned from this Date");
        let late = envelope("DateTime: 9999-12-31T23:59:59-23:00\r\n");
        assert_eq!(entry(CPIM, &late).date.len(), 29);
    }

    #[test]
    fn a_repeat_has_the_same_id_and_nothing_else_has() {
        // decisions D3
        let alice = Aor::parse("sip:alice@example.com").unwrap();
        let id = |call: &str, cseq, tag: &str, imdn: &str| {
            EntryId::of(&alice, call.as_bytes(), cseq, tag.as_bytes(), imdn.as_bytes())
        };
        assert_eq!(entry("", "one").id, entry("X-Other: 1\r\n", "two").id);
        assert_eq!(entry("", "one").id, id("call", 5, "7", ""));
        assert_eq!(entry(CPIM, &envelope("i.Message-ID: m\r\n")).id, id("call", 5, "7", "m"));
        let all = [
            id("call", 5, "7", ""),
            id("cal", 5, "l7", ""),
            id("call", 6, "7", ""),
            id("call", 5, "8", ""),
            id("call", 5, "", "7"),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
        let eve = Aor::parse("sip:eve@example.com").unwrap();
        assert_ne!(EntryId::of(&eve, b"call", 5, b"7", b""), all[0], "another's message is never taken for a repeat");
        assert_eq!(EntryId::from_bytes(*all[0].as_bytes()), all[0]);
    }

    #[test]
    fn what_is_for_now_alone_may_not_wait() {
        // RFC 3428 §7
        let now = "Expires: 0\r\n";
        let dated = "Date: Sun, 09 Sep 2035 01:46:00 GMT\r\nExpires: 0\r\n";
        for (lines, may_wait) in
            [("", true), ("Expires: 1\r\n", true), (now, false), (dated, false), ("Expires: x\r\n", true)]
        {
            assert_eq!(entry(lines, "x").may_wait, may_wait, "{lines}");
        }
        assert!(!entry("Content-Type: application/im-iscomposing+xml\r\n", "<isComposing/>").may_wait);
    }

    #[test]
    fn the_kind_is_told_by_the_content() {
        let typing = "Content-Type: application/im-iscomposing+xml\r\n";
        assert_eq!(entry(typing, "<isComposing/>").kind, Kind::Typing);
        assert!(!Kind::Typing.may_wait() && Kind::Page.may_wait() && Kind::Notification.may_wait());
        let asking = envelope("i.Message-ID: m\r\ni.Disposition-Notification: processing\r\n");
        let page = entry(CPIM, &asking);
        assert_eq!((page.kind, page.asked.unwrap().message_id.as_str()), (Kind::Page, "m"));
        let told = asking.replace("text/plain", "message/imdn+xml\r\nContent-Disposition: notification");
        let notice = entry(CPIM, &told);
        assert_eq!((notice.kind, notice.asked), (Kind::Notification, None));
    }

    #[test]
    fn a_body_without_a_type_or_with_a_broken_envelope_is_a_page() {
        assert_eq!(entry("", "x").kind, Kind::Page);
        let broken = entry(CPIM, "no envelope");
        assert_eq!((broken.kind, &broken.asked), (Kind::Page, &None));
        assert!(broken.size() > "no envelope".len());
    }
}
