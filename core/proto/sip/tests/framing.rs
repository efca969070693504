//! Where a message begins and ends: datagrams and streams (RFC 3261 §7.5, §18.3; RFC 5626 §3.5.1), and the ceilings.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use base::limits::{SIP_FIELDS_MAX, SIP_HEAD_BYTES_MAX, SIP_MESSAGE_BYTES_MAX};
use sip::{Flaw, Layout, Name, ParseError, Progress, Step, parse_datagram, parse_stream};

const START: &str = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP b;branch=z9hG4bK1\r\n";

/// Head lines behind a good start, then a body.
fn message(lines: &str, body: &str) -> Vec<u8> {
    format!("{START}{lines}\r\n{body}").into_bytes()
}

fn datagram(bytes: &[u8]) -> Result<Vec<u8>, ParseError> {
    let mut layout = Layout::default();
    parse_datagram(bytes, &mut layout)?;
    Ok(layout.view(bytes).body().to_vec())
}

fn stream(bytes: &[u8]) -> Result<Step, ParseError> {
    parse_stream(bytes, &mut Progress::default(), &mut Layout::default())
}

fn status(error: ParseError) -> Option<u16> {
    error.status().map(|(status, _)| status)
}

#[test]
fn a_datagram_is_cut_at_content_length_and_refused_when_shorter() {
    // RFC 3261 §18.3
    assert_eq!(datagram(&message("Content-Length: 3\r\n", "abcdef")).unwrap(), b"abc");
    assert_eq!(datagram(&message("", "abcdef")).unwrap(), b"abcdef");
    assert_eq!(datagram(&message("l:000\r\n", "abcdef")).unwrap(), b"");
    let short = datagram(&message("Content-Length: 7\r\n", "abcdef")).unwrap_err();
    assert_eq!((short.flaw, status(short)), (Flaw::BodyShort { declared: 7, have: 6 }, Some(400)));
    let response = message("Content-Length: 7\r\n", "").strip_prefix(b"OPTIONS sip:a SIP/2.0").unwrap().to_vec();
    assert_eq!(status(datagram(&[b"SIP/2.0 200 OK", &response[..]].concat()).unwrap_err()), None);
    let ack = String::from_utf8(message("Content-Length: 7\r\n", "")).unwrap().replace("OPTIONS", "ACK");
    assert_eq!(status(datagram(ack.as_bytes()).unwrap_err()), None, "an ACK is never answered");
}

#[test]
fn line_ends_before_a_datagram_are_passed_over() {
    // RFC 3261 §7.5
    let bytes = [b"\r\n\r\n\r\n", &message("Content-Length: 2\r\n", "okay")[..]].concat();
    let mut layout = Layout::default();
    parse_datagram(&bytes, &mut layout).unwrap();
    assert_eq!(layout.view(&bytes).bytes(), &bytes[6..bytes.len() - 2]);
    assert_eq!(sip::Message::copy_of(layout.view(&bytes)).view().bytes(), &bytes[6..bytes.len() - 2]);
    for empty in [&b""[..], b"\r\n", b"\r\n\r\n"] {
        let error = datagram(empty).unwrap_err();
        assert_eq!((error.flaw, error.status()), (Flaw::Empty, None));
    }
}

#[test]
fn after_an_error_the_view_holds_all_that_came() {
    // Keepalives that are no CRLF are told from garbage by their octets.
    for bytes in
        [&b"\0\0"[..], b"\x00\x01 this is not SIP", b"GET / HTTP/1.1\r\n\r\n", &message("no colon\r\n", "body")]
    {
        let mut layout = Layout::default();
        assert!(parse_datagram(bytes, &mut layout).is_err());
        assert_eq!((layout.view(bytes).bytes(), layout.view(bytes).body()), (bytes, &b""[..]));
    }
}

#[test]
fn content_length_must_be_one_number() {
    for (lines, flaw) in [
        ("Content-Length: five\r\n", Flaw::ContentLength),
        ("Content-Length: -1\r\n", Flaw::ContentLength),
        ("Content-Length: +1\r\n", Flaw::ContentLength),
        ("Content-Length: 1, 1\r\n", Flaw::ContentLength),
        ("Content-Length:\r\n", Flaw::ContentLength),
        ("Content-Length: 18446744073709551616\r\n", Flaw::ContentLength),
        ("Content-Length: 1\r\nl: 2\r\n", Flaw::ContentLengthTwice),
    ] {
        for error in [datagram(&message(lines, "abc")).unwrap_err(), stream(&message(lines, "abc")).unwrap_err()] {
            assert_eq!((error.flaw, status(error)), (flaw, Some(400)), "{lines}");
        }
    }
    assert_eq!(datagram(&message("Content-Length: 1\r\nl: 01\r\n", "abc")).unwrap(), b"a", "twice the same is one");
}

#[test]
fn a_stream_needs_content_length() {
    let error = stream(&message("", "")).unwrap_err();
    assert_eq!((error.flaw, status(error)), (Flaw::ContentLengthMissing, Some(400)));
    let whole = message("Content-Length: 3\r\n", "abcOPTIONS");
    assert_eq!(stream(&whole), Ok(Step::Message { used: whole.len() - 7 }));
}

#[test]
fn line_ends_between_messages_are_pings_or_nothing() {
    // RFC 5626 §3.5.1: two are a ping; RFC 3261 §7.5: one is passed over. Until the next octet nobody knows.
    for (bytes, step) in [
        ("", Step::More),
        ("\r", Step::More),
        ("\r\n", Step::More),
        ("\r\n\r", Step::More),
        ("\r\n\r\n", Step::Ping { used: 4 }),
        ("\r\n\r\n\r\n", Step::Ping { used: 4 }),
        ("\r\nO", Step::Skip { used: 2 }),
    ] {
        assert_eq!(stream(bytes.as_bytes()), Ok(step), "{bytes:?}");
    }
    for bytes in ["\n", "\rO", "\0", "\u{ff}\u{fe}", " OPTIONS", ":"] {
        assert_eq!(
            stream(bytes.as_bytes()).unwrap_err(),
            ParseError { flaw: Flaw::NotSip, answerable: false },
            "{bytes:?}"
        );
    }
}

#[test]
fn a_lone_carriage_return_or_line_feed_is_no_line_end() {
    // What the next element takes for two lines must not pass us as one.
    for lines in
        ["Subject: a\nVia: SIP/2.0/UDP x\r\n", "Subject: a\rb\r\n", "Subject: a\n\r\n", "Subject: a\r\r\n", "\n"]
    {
        let error = datagram(&message(lines, "")).unwrap_err();
        assert_eq!((error.flaw, status(error)), (Flaw::BareLineEnd, Some(400)), "{lines:?}");
    }
    assert_eq!(datagram(&message("Content-Type: text/plain\r\n", "a\nb\rc")).unwrap(), b"a\nb\rc", "bodies are free");
}

#[test]
fn a_line_that_is_no_header_does_not_hide_the_others() {
    for lines in ["no colon\r\n", "bad name: x\r\n", ": x\r\n", "Sub\r\n ject: x\r\n", "a@b: c\r\n"] {
        let bytes = message(&format!("{lines}From: <sip:a@b>;tag=1\r\n"), "");
        let mut layout = Layout::default();
        let error = parse_datagram(&bytes, &mut layout).unwrap_err();
        assert_eq!((error.flaw, status(error)), (Flaw::HeaderLine, Some(400)), "{lines:?}");
        assert_eq!(layout.view(&bytes).from().unwrap().uri, b"sip:a@b", "{lines:?}");
    }
    // RFC 3261 §25.1 `HCOLON`
    let bytes = message("Subject \t :\r\n\t x\r\n\ty\r\n", "");
    let mut layout = Layout::default();
    parse_datagram(&bytes, &mut layout).unwrap();
    assert_eq!(layout.view(&bytes).first(Name::Subject), Some(&b"x\r\n\ty"[..]));
}

#[test]
fn a_datagram_without_an_empty_line_has_no_end() {
    for cut in START.len() - 2..START.len() {
        let error = datagram(&START.as_bytes()[..cut]).unwrap_err();
        assert_eq!((error.flaw, error.answerable), (Flaw::HeadUnfinished, false), "the Via is not whole");
    }
    let error = datagram(format!("{START}Subject: x\r\nTo: ").as_bytes()).unwrap_err();
    assert_eq!((error.flaw, status(error)), (Flaw::HeadUnfinished, Some(400)));
}

#[test]
fn more_fields_than_the_ceiling_are_refused() {
    let lines = |count: usize| "X: y\r\n".repeat(count) + "Content-Length: 0\r\n";
    assert!(datagram(&message(&lines(SIP_FIELDS_MAX - 2), "")).is_ok());
    let error = datagram(&message(&lines(SIP_FIELDS_MAX - 1), "")).unwrap_err();
    assert_eq!((error.flaw, status(error)), (Flaw::TooManyFields { max: SIP_FIELDS_MAX }, Some(513)));
}

#[test]
fn a_head_above_the_ceiling_is_cut_off_however_it_arrives() {
    let head = |bytes: usize| {
        let lines = "Content-Length: 0\r\nSubject: ";
        message(&format!("{lines}{}\r\n", "x".repeat(bytes - START.len() - lines.len() - 4)), "")
    };
    let fits = head(SIP_HEAD_BYTES_MAX);
    assert_eq!(fits.len(), SIP_HEAD_BYTES_MAX);
    assert_eq!(stream(&fits), Ok(Step::Message { used: fits.len() }));
    assert_eq!(datagram(&fits).unwrap(), b"");
    let large = head(SIP_HEAD_BYTES_MAX + 1);
    let too_long = ParseError { flaw: Flaw::HeadTooLong { max: SIP_HEAD_BYTES_MAX }, answerable: true };
    assert_eq!((stream(&large), datagram(&large)), (Err(too_long), Err(too_long)));
    assert_eq!(too_long.status(), None, "nothing is answered, the connection is closed");
    let (mut progress, mut layout) = (Progress::default(), Layout::default());
    for have in (1..SIP_HEAD_BYTES_MAX).step_by(7) {
        assert_eq!(parse_stream(&large[..have], &mut progress, &mut layout), Ok(Step::More));
    }
    let error = parse_stream(&large[..SIP_HEAD_BYTES_MAX], &mut progress, &mut layout).unwrap_err();
    assert_eq!((error.flaw, error.status()), (too_long.flaw, None));
}

#[test]
fn a_message_above_the_ceiling_is_answered_before_its_body_comes() {
    let head = message(&format!("Content-Length: {}\r\n", SIP_MESSAGE_BYTES_MAX - 84), "");
    assert_eq!(head.len(), 84, "the length of this head is part of the test");
    assert_eq!(stream(&head), Ok(Step::More));
    let head = message(&format!("Content-Length: {}\r\n", SIP_MESSAGE_BYTES_MAX - 83), "");
    let error = stream(&head).unwrap_err();
    let flaw = Flaw::MessageTooLong { bytes: SIP_MESSAGE_BYTES_MAX + 1, max: SIP_MESSAGE_BYTES_MAX };
    assert_eq!((error.flaw, status(error)), (flaw, Some(413)));
    let error = stream(&message("Content-Length: 18446744073709551615\r\n", "")).unwrap_err();
    assert_eq!(status(error), Some(413));
    assert_eq!(status(datagram(&vec![b'x'; 70_000]).unwrap_err()), None);
}
