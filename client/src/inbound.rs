//! What the client answers to requests that come in (RFC 3261 §8.2, RFC 3428 §7): at once, and without asking anybody.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{KeyedHash, Now};
use sdp::Offer;
use sip::{Message, Method, Name, Reply, Scheme, Uri, View, reply};
use tokio::sync::mpsc;

use crate::ClientError;
use crate::account::{Answer, Options};
use crate::call::IncomingCall;
use crate::calls::{self, Calls};
use crate::link::{Answerer, Invitation};
use crate::owed::{Debts, Owed, Owing};
use crate::pager::{self, Content, Incoming, Receipt};
use crate::registration::Binding;

/// What the client tells who uses it.
#[derive(Debug)]
pub enum Event {
    /// Somebody wrote.
    Message(Box<Incoming>),
    /// What became of a message of ours.
    Receipt(Receipt),
    /// Somebody is typing, or has stopped.
    Composing {
        /// URI of who.
        from: String,
        /// Typing, or stopped.
        active: bool,
    },
    /// Somebody invites us to a session.
    Invited(Box<IncomingCall>),
    /// The binding stands again after it was lost.
    Registered(Binding),
    /// The binding could not be refreshed; trying goes on until [`crate::Client::close`].
    Lost(ClientError),
}

/// What we can do without sessions (RFC 3261 §11.2).
const ALLOW_NO_SESSIONS: &str = "Allow: MESSAGE, OPTIONS\r\n";
/// Identities of messages that are remembered, for 10 minutes at most; the oldest is forgotten.
const REMEMBERED: usize = 4_096;
/// As long as servers may offer a message again whose answer was lost.
const REMEMBERED_FOR: Duration = Duration::from_secs(base::limits::SEEN_EXPIRY_S);

/// Answers requests. Clones share what they remember: one for each link of a client.
#[derive(Clone)]
pub(crate) struct Responder {
    events: mpsc::Sender<Event>,
    debts: Debts,
    answer: Arc<Mutex<Answer>>,
    seen: Arc<Mutex<Seen>>,
    accept: Arc<[String]>,
    receipts: bool,
    sessions: bool,
    calls: Arc<Calls>,
    hash: KeyedHash,
    server: SocketAddr,
    /// How long a transaction is under way after its answer: 64 × T1.
    under_way: Duration,
}

impl Responder {
    pub(crate) fn new(
        options: &Options,
        calls: Arc<Calls>,
        events: mpsc::Sender<Event>,
        debts: Debts,
        answer: Arc<Mutex<Answer>>,
        hash: KeyedHash,
        server: SocketAddr,
    ) -> Self {
        Self {
            events,
            debts,
            answer,
            seen: Arc::default(),
            accept: options.accept.clone().into(),
            receipts: options.receipts,
            sessions: options.sessions,
            calls,
            hash,
            server,
            under_way: options.timers.t1 * 64,
        }
    }

    fn write(&self, request: View<'_>, out: &mut Vec<u8>, status: u16, reason: &str, lines: &[u8]) {
        // RFC 3261 §8.2.6.2: a 100 has no tag of ours.
        let to_tag = if status == 100 { String::new() } else { self.tag(request) };
        reply(out, request, &Reply { status, reason, to_tag: &to_tag, source: Some(self.server), lines, body: b"" });
    }

    fn allow(&self) -> &'static str {
        if self.sessions { calls::ALLOW } else { ALLOW_NO_SESSIONS }
    }

    /// Answers what cannot be acted on, whatever it asks for.
    fn is_faulty(&self, request: View<'_>, out: &mut Vec<u8>) -> bool {
        if let Err(fault) = request.check_request() {
            // RFC 3261 §17: nothing is ever answered to an ACK.
            if request.method() != Method::Ack {
                self.write(request, out, fault.status, fault.reason, b"");
            }
            return true;
        }
        match request.method() {
            Method::Ack => return true,
            // RFC 3261 §9.2: no INVITE is under way that could be cancelled.
            Method::Cancel => self.write(request, out, 481, "", b""),
            Method::Other => self.write(request, out, 501, "", self.allow().as_bytes()),
            _ => {}
        }
        if !out.is_empty() {
            return true;
        }
        let known = Uri::parse(request.request_uri()).is_ok_and(|uri| uri.scheme != Scheme::Other);
        if !known {
            self.write(request, out, 416, "", b"");
            return true;
        }
        // RFC 3261 §8.2.2.3: we have no extension at all.
        let required: Vec<_> = request.values(Name::Require).collect();
        if !required.is_empty() {
            let lines = [b"Unsupported: ".as_slice(), &required.join(b", ".as_slice()), b"\r\n"].concat();
            self.write(request, out, 420, "", &lines);
            return true;
        }
        false
    }

    /// What an INVITE offers; nothing where it leaves the offer to us (RFC 3261 §13.2.1).
    fn offer_of(&self, request: View<'_>) -> Result<Option<Offer>, (u16, &'static str, &'static str)> {
        let is_sdp = request.content_type().is_some_and(|kind| kind.is("application/sdp"));
        if request.body().is_empty() {
            return Ok(None);
        }
        if !is_sdp {
            return Err((415, "", "Accept: application/sdp\r\n"));
        }
        Offer::read(request.body()).map(Some).map_err(|error| {
            let (status, reason) = error.status();
            (status, reason, "")
        })
    }

    fn message(&self, request: View<'_>, now: Now, out: &mut Vec<u8>) {
        let encoding = request.first(Name::ContentEncoding).unwrap_or(b"identity");
        if !encoding.eq_ignore_ascii_case(b"identity") {
            return self.write(request, out, 415, "Unsupported Content-Encoding", b"Accept-Encoding: identity\r\n");
        }
        if request.first(Name::ContentType).is_none() && !request.body().is_empty() {
            return self.write(request, out, 400, "Missing Content-Type", b"");
        }
        if let Some(kind) = request.content_type()
            && !self.accept.iter().any(|taken| taken == "*/*" || kind.is(taken))
        {
            return self.write(request, out, 415, "", self.accept_line().as_bytes());
        }
        let content = match pager::read(request) {
            Ok(content) => content,
            Err(refusal) => return self.write(request, out, refusal.status, refusal.reason, b""),
        };
        let status = match *lock(&self.answer) {
            Answer::Silence => return,
            Answer::Status(status) => status,
        };
        if !(200..300).contains(&status) {
            return self.write(request, out, status, "", b"");
        }
        let identity = self.identity(request);
        match lock(&self.seen).last(identity, now.at) {
            // RFC 3261 §8.2.2.2: the same request came by another path while its transaction is under way.
            Some(at) if now.at.duration_since(at) < self.under_way && !has_to_tag(request) => {
                return self.write(request, out, 482, "", b"");
            }
            // The answer to it was lost: it is here, and shown once.
            Some(_) => return self.write(request, out, status, "", b""),
            None => {}
        }
        if self.hand_on(content) {
            lock(&self.seen).remember(identity, now.at);
            self.write(request, out, status, "", b"");
        } else {
            // Whoever should read does not: a server keeps the message for later (RFC 3261 §21.4.18).
            self.write(request, out, 480, "Nobody Reads", b"");
        }
    }

    fn hand_on(&self, content: Content) -> bool {
        let event = match content {
            Content::Message(message) => {
                let owed = Owed::of(&message, Owing::Delivered).filter(|_| self.receipts);
                if self.events.try_send(Event::Message(message)).is_err() {
                    return false;
                }
                if let Some(owed) = owed {
                    self.debts.owe(owed);
                }
                return true;
            }
            Content::Receipt(receipt) => Event::Receipt(receipt),
            Content::Composing { from, active } => Event::Composing { from, active },
        };
        // These are of no use later: who does not read them misses them.
        let _ = self.events.try_send(event);
        true
    }

    /// Call-ID, CSeq and From tag.
    fn identity(&self, request: View<'_>) -> u64 {
        let tag = request.from().ok().and_then(|from| from.tag());
        let pieces = [request.first(Name::CallId), request.first(Name::CSeq), tag];
        self.hash.of(&pieces.map(Option::unwrap_or_default))
    }

    fn accept_line(&self) -> String {
        format!("Accept: {}\r\n", self.accept.join(", "))
    }
}

impl Answerer for Responder {
    fn answer(&mut self, request: View<'_>, now: Now, out: &mut Vec<u8>) {
        if self.is_faulty(request, out) {
            return;
        }
        match request.method() {
            Method::Message => self.message(request, now, out),
            Method::Options => {
                let lines =
                    [self.allow().as_bytes(), self.accept_line().as_bytes(), b"Accept-Encoding: identity\r\n"].concat();
                self.write(request, out, 200, "", &lines);
            }
            Method::Bye => {
                let (status, reason) = self.calls.hung_up(request);
                self.write(request, out, status, reason, b"");
            }
            // These belong to a dialog or a subscription, and there is none (RFC 3261 §12.2.2, RFC 6665 §4.1.3).
            Method::Notify | Method::Prack | Method::Update | Method::Info => {
                self.write(request, out, 481, "", b"");
            }
            Method::Register | Method::Subscribe | Method::Publish | Method::Refer => {
                self.write(request, out, 405, "", self.allow().as_bytes());
            }
            // Answered above, or by `invited`.
            Method::Invite | Method::Ack | Method::Cancel | Method::Other => {}
        }
    }

    fn invited(&mut self, request: View<'_>, invitation: Invitation, out: &mut Vec<u8>) {
        if self.is_faulty(request, out) {
            return;
        }
        if !self.sessions {
            return self.write(request, out, 405, "", self.allow().as_bytes());
        }
        let offer = match self.offer_of(request) {
            Ok(offer) => offer,
            Err((status, reason, lines)) => return self.write(request, out, status, reason, lines.as_bytes()),
        };
        if has_to_tag(request) {
            // RFC 3261 §14.2: who holds the session answers, or says why not.
            if let Err((status, reason, lines)) = self.calls.offered(request, offer, invitation) {
                self.write(request, out, status, reason, lines.as_bytes());
            }
            return;
        }
        let (copy, tag) = (Message::copy_of(request), self.tag(request));
        let Some(call) = IncomingCall::new(copy, offer, tag, invitation, self.calls.clone()) else {
            return self.write(request, out, 480, "", b"");
        };
        match self.events.try_send(Event::Invited(Box::new(call))) {
            // The person takes time; the caller's transaction need not be repeated meanwhile.
            Ok(()) => self.write(request, out, 100, "", b""),
            Err(_) => self.write(request, out, 480, "Nobody Reads", b""),
        }
    }

    fn tag(&self, request: View<'_>) -> String {
        // What is answered without any memory (RFC 3261 §8.2.7) must have the same tag again.
        let key = [request.first(Name::CallId), request.first(Name::From), request.first(Name::Via)];
        format!("{:016x}", self.hash.of(&key.map(Option::unwrap_or_default)))
    }

    fn refuse(&mut self, request: View<'_>, status: u16, reason: &'static str, out: &mut Vec<u8>) {
        self.write(request, out, status, reason, b"");
    }
}

fn has_to_tag(request: View<'_>) -> bool {
    request.to().is_ok_and(|to| to.tag().is_some())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Identities of the messages that were handed on.
#[derive(Default)]
struct Seen {
    at: HashMap<u64, Instant>,
    order: VecDeque<(u64, Instant)>,
}

impl Seen {
    fn last(&mut self, identity: u64, now: Instant) -> Option<Instant> {
        while let Some((old, at)) = self.order.front().copied()
            && (now.duration_since(at) > REMEMBERED_FOR || self.order.len() > REMEMBERED)
        {
            self.order.pop_front();
            self.at.remove(&old);
        }
        self.at.get(&identity).copied()
    }

    fn remember(&mut self, identity: u64, now: Instant) {
        self.at.insert(identity, now);
        self.order.push_back((identity, now));
    }
}

#[cfg(test)]
mod tests {
    use sip::{Layout, parse_datagram};

    use super::*;

    struct Bench {
        responder: Responder,
        events: mpsc::Receiver<Event>,
        owed: mpsc::Receiver<Owed>,
        now: Now,
    }

    impl Bench {
        fn new() -> Self {
            let (events_in, events) = mpsc::channel(2);
            let (debts, owed) = Debts::new();
            let answer = Arc::new(Mutex::new(Answer::Status(200)));
            let server = ([127, 0, 0, 1], 5060).into();
            let aor = base::Aor::parse("sip:bob@example.com").unwrap();
            let account = crate::Account::new(aor, "", server, crate::Transport::Udp);
            let login = Arc::new(crate::login::Login::new(&account));
            let calls = Arc::new(Calls::new(account, login, base::IdMaker::new([2; 16]), None));
            let hash = KeyedHash::new([1; 16]);
            let responder = Responder::new(&Options::default(), calls, events_in, debts, answer, hash, server);
            Self { responder, events, owed, now: Now::read() }
        }

        fn answer(&mut self, start: &str, lines: &str, body: &str) -> String {
            let method = start.split(' ').next().unwrap();
            let cseq = if lines.contains("CSeq") { String::new() } else { format!("CSeq: 1 {method}\r\n") };
            let text = format!(
                "{start}\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\n\
                 Call-ID: c\r\n{cseq}{lines}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut layout = Layout::default();
            parse_datagram(text.as_bytes(), &mut layout).unwrap();
            let mut out = Vec::new();
            self.responder.answer(layout.view(text.as_bytes()), self.now, &mut out);
            String::from_utf8(out).unwrap()
        }

        fn message(&mut self, lines: &str, body: &str) -> String {
            self.answer("MESSAGE sip:bob@127.0.0.1 SIP/2.0", lines, body)
        }
    }

    fn status(answer: &str) -> &str {
        answer.get(8..11).unwrap_or("")
    }

    const TEXT: &str = "Content-Type: text/plain\r\n";

    #[tokio::test]
    async fn a_message_is_handed_on_and_answered_without_contact_and_body() {
        // RFC 3428 §7
        let mut bench = Bench::new();
        let answer = bench.message(TEXT, "Hello");
        assert_eq!(status(&answer), "200");
        assert!(
            !answer.contains("Contact") && answer.contains(";tag=") && answer.ends_with("Content-Length: 0\r\n\r\n")
        );
        assert!(
            matches!(bench.events.try_recv(), Ok(Event::Message(message)) if message.text.as_deref() == Some("Hello"))
        );
    }

    #[tokio::test]
    async fn the_same_message_again_is_not_shown_again() {
        let mut bench = Bench::new();
        bench.message(TEXT, "Hello");
        // RFC 3261 §8.2.2.2: 482 while the transaction is under way; later the answer was lost and is given again.
        assert_eq!(status(&bench.message(TEXT, "Hello")), "482");
        bench.now = bench.now.later(Duration::from_secs(33));
        assert_eq!(status(&bench.message(TEXT, "Hello")), "200");
        assert_eq!(status(&bench.message("Content-Type: text/plain\r\nCSeq: 2 MESSAGE\r\n", "Hello")), "200");
        assert_eq!(std::iter::from_fn(|| bench.events.try_recv().ok()).count(), 2);
    }

    #[tokio::test]
    async fn a_reader_who_does_not_read_gets_nothing_more_and_the_sender_hears_480() {
        let mut bench = Bench::new();
        for (cseq, expected) in [(1, "200"), (2, "200"), (3, "480")] {
            assert_eq!(status(&bench.message(&format!("{TEXT}CSeq: {cseq} MESSAGE\r\n"), "Hello")), expected);
        }
        // What was refused was not seen: when it comes again it is taken.
        bench.events.try_recv().unwrap();
        assert_eq!(status(&bench.message(&format!("{TEXT}CSeq: 3 MESSAGE\r\n"), "Hello")), "200");
    }

    #[tokio::test]
    async fn faults_are_answered_with_what_is_wrong() {
        let mut bench = Bench::new();
        for (start, lines, body, expected, line) in [
            ("MESSAGE sip:b@x SIP/2.0", "Content-Type: image/png\r\n", "x", "415", "Accept: text/plain"),
            (
                "MESSAGE sip:b@x SIP/2.0",
                "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n",
                "x",
                "415",
                "Accept-Encoding: identity",
            ),
            ("MESSAGE sip:b@x SIP/2.0", "", "x", "400", "Missing Content-Type"),
            ("MESSAGE sip:b@x SIP/2.0", "Content-Type: message/cpim\r\n", "x", "400", "Malformed message/cpim"),
            ("MESSAGE sip:b@x SIP/2.0", "Require: foo, bar\r\n", "", "420", "Unsupported: foo, bar"),
            ("MESSAGE sip:b@x SIP/2.0", "CSeq: 1 OPTIONS\r\n", "", "400", "CSeq"),
            ("MESSAGE http://b/ SIP/2.0", "", "", "416", ""),
            ("MESSAGE sip:b@x SIP/7.0", "", "", "505", ""),
            ("DANCE sip:b@x SIP/2.0", "", "", "501", "Allow: INVITE"),
            ("SUBSCRIBE sip:b@x SIP/2.0", "", "", "405", "Allow: INVITE"),
            ("BYE sip:b@x SIP/2.0", "", "", "481", ""),
            ("CANCEL sip:b@x SIP/2.0", "", "", "481", ""),
            ("NOTIFY sip:b@x SIP/2.0", "", "", "481", ""),
            ("OPTIONS sip:b@x SIP/2.0", "", "", "200", "Allow: INVITE, ACK, BYE, CANCEL, MESSAGE, OPTIONS"),
        ] {
            let answer = bench.answer(start, lines, body);
            assert_eq!(status(&answer), expected, "{start} {lines}: {answer}");
            assert!(answer.contains(line), "{start} {lines}: {answer}");
        }
        assert_eq!(bench.answer("ACK sip:b@x SIP/2.0", "", ""), "");
        assert!(bench.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_answer_can_be_another_one_or_none() {
        let mut bench = Bench::new();
        *lock(&bench.responder.answer) = Answer::Status(486);
        assert_eq!(status(&bench.message(TEXT, "Hello")), "486");
        *lock(&bench.responder.answer) = Answer::Silence;
        assert_eq!(bench.message(TEXT, "Hello"), "");
        assert!(bench.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_asks_for_a_delivery_notification_is_owed_one() {
        let mut bench = Bench::new();
        let cpim = "From: <sip:alice@example.com>\r\nTo: <sip:bob@example.com>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
                    imdn.Message-ID: id\r\nDateTime: 2026-01-01T00:00:00Z\r\nimdn.Disposition-Notification: positive-delivery\r\n\r\n\
                    Content-Type: text/plain\r\n\r\nHello";
        bench.message("Content-Type: message/cpim\r\n", cpim);
        assert!(matches!(bench.owed.try_recv(), Ok(owed) if owed.owing == Owing::Delivered));
        assert!(
            matches!(bench.events.try_recv(), Ok(Event::Message(message)) if message.text.as_deref() == Some("Hello"))
        );
    }

    #[test]
    fn memory_of_messages_is_bounded() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        for identity in 0..10_000 {
            seen.remember(identity, now);
        }
        assert_eq!(seen.last(0, now), None);
        assert_eq!(seen.at.len(), REMEMBERED);
        assert_eq!(seen.last(9_999, now + REMEMBERED_FOR * 2), None);
        assert!(seen.order.is_empty());
    }
}
