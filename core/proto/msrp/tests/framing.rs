//! What the scanner hears, however the wire cuts it (RFC 4975 §7.1, §9), with every case of the torture list.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use base::limits::{MSRP_HEAD_BYTES_MAX, MSRP_HELD_BACK_BYTES_MAX, MSRP_REQUEST_BODY_BYTES_MAX};
use msrp::{Head, Kind, ParseError, Reply, Scanner, Step, Tid};
use proptest::prelude::*;

const PATHS: &str = "To-Path: msrp://bob.example.com:8493/si438dsaodes;tcp\r\n\
    From-Path: msrp://alice.example.com:7394/2s93i93idj;tcp\r\n";

#[test]
fn a_stream_reads_the_same_however_the_wire_cuts_it() {
    let stream = [
        send("abcd", "dkei38sd", "+"),
        bodiless("SEND", "hello-01", "Message-ID: 4564dpWd\r\nByte-Range: 1-0/0\r\n"),
        send("", "empty-01", "$"),
        send("x\r\n-------dkei38se$\r\n-------\r", "dkei38sf", "#"),
        format!("MSRP d93kswow 200 OK\r\n{PATHS}-------d93kswow$\r\n"),
    ]
    .concat();
    let whole = heard(&[stream.as_bytes()]);
    let wanted = "SEND dkei38sd [abcd] +, SEND hello-01 none $, SEND empty-01 [] $, \
        SEND dkei38sf [x\\r\\n-------dkei38se$\\r\\n-------\\r] #, 200 d93kswow none $";
    assert_eq!(whole, wanted);
    for cut in 0..stream.len() {
        let (left, right) = stream.as_bytes().split_at(cut);
        assert_eq!(heard(&[left, right]), whole, "cut at byte {cut}");
    }
    let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(heard(&single), whole);
}

#[test]
fn an_end_line_look_alike_is_data() {
    // RFC 4975 §7.1: the id, a flag and CRLF must follow the hyphens.
    for body in [
        "\r\n-------other-id$\r\n",
        "\r\n-------abcdefgh\r\n",
        "\r\n-------abcdefgh$ ",
        "\r\n-------abcdefgh$\n",
        "\r\n-------abcdefgh*\r\n",
        "\r\n-------abcdefghi$\r\n",
        "\r\n------abcdefgh$\r\n",
        "-------abcdefgh$x",
        "\n-------abcdefgh$\r\n",
        "x-------abcdefgh$\r\n",
        "\r\n--------abcdefgh$\r\n",
        "\r\n-------abcdefgh$\r",
        "\r\n-------ABCDEFGH$\r\n",
        "-",
        "-------",
        "-------abcdefg",
        "-------abcdefgh",
        "\r\n-------\r\n-------",
    ] {
        let wanted = format!("SEND abcdefgh [{}] $", body.escape_debug());
        for_all_cuts(&send(body, "abcdefgh", "$"), &wanted);
    }
}

#[test]
fn a_body_may_end_in_anything() {
    // In CR, in hyphens, in what begins an end-line.
    for body in ["\r", "\n", "\r\n", "\r\n\r\n", "-", "\r\n-", "\r\n-------", "\r\n-------abc", "\r\r\r", "\r\n--\r\n"]
    {
        for_all_cuts(&send(body, "abcdefgh", "+"), &format!("SEND abcdefgh [{}] +", body.escape_debug()));
    }
}

#[test]
fn an_empty_body_is_not_no_body() {
    // RFC 4975 §7.1.
    for_all_cuts(&send("", "abcdefgh", "$"), "SEND abcdefgh [] $");
    let none = bodiless("SEND", "abcdefgh", "Message-ID: 4564dpWd\r\n");
    for_all_cuts(&none, "SEND abcdefgh none $");
    // Of peers that let the empty line's CRLF serve for the end-line too.
    let spare = send("", "abcdefgh", "$").replace("\r\n\r\n\r\n", "\r\n\r\n");
    for_all_cuts(&spare, "SEND abcdefgh [] $");
}

#[test]
fn the_range_end_does_not_frame_anything() {
    // RFC 4975 §7.3.1: the length is what is there, with `*` or with a lie.
    for range in ["1-*/*", "1-3/300", "1-300/300"] {
        let frame = send("hello", "abcdefgh", "+").replace("1-*/8", range);
        for_all_cuts(&frame, "SEND abcdefgh [hello] +");
    }
}

#[test]
fn ids_of_4_and_of_32_characters_frame_and_others_end_the_connection() {
    for tid in ["a.-+", "0000", &"t".repeat(32)] {
        for_all_cuts(&send("body", tid, "$"), &format!("SEND {tid} [body] $"));
    }
    // 33 characters.
    for tid in ["abc", "", &"t".repeat(33), "-bcd", "ab$d"] {
        let fault = fault_of(&send("body", tid, "$"));
        assert_eq!((fault, fault.reply()), (ParseError::TransactionId, Reply::Close), "{tid:?}");
    }
}

#[test]
fn what_is_not_msrp_is_known_by_its_first_octets() {
    // `msrp` in lower case (RFC 4975 §9: in caps).
    for (text, fault) in [
        ("msrp abcdefgh SEND\r\n", ParseError::NotMsrp),
        ("GET / HTTP/1.1\r\n\r\n", ParseError::NotMsrp),
        ("\r\n", ParseError::NotMsrp),
        ("MSRPS", ParseError::NotMsrp),
        ("\0", ParseError::NotMsrp),
        ("MSRP abcdefgh send\r\n", ParseError::StartLine),
        ("MSRP abcdefgh\r\n", ParseError::StartLine),
        ("MSRP abcdefgh \r\n", ParseError::StartLine),
        ("MSRP abcdefgh 20\r\n", ParseError::StartLine),
        ("MSRP abcdefgh 2000\r\n", ParseError::StartLine),
        ("MSRP abcdefgh 200OK\r\n", ParseError::StartLine),
        ("MSRP abcdefgh SEND \r\n", ParseError::StartLine),
    ] {
        assert_eq!(fault_of(text), fault, "{text:?}");
        assert_eq!(fault.reply(), Reply::Close);
    }
}

#[test]
fn heads_that_cannot_be_framed_end_the_connection() {
    for (lines, fault) in [
        ("X-Own\r\n", ParseError::HeaderLine),
        (": x\r\n", ParseError::HeaderLine),
        ("X Y: z\r\n", ParseError::HeaderLine),
        (" folded\r\n", ParseError::HeaderLine),
        ("X: a\nY: b\r\n", ParseError::LineEnd),
        ("X: a\rb\r\n", ParseError::LineEnd),
        ("X: a\0b\r\n", ParseError::LineEnd),
        // An end-line of another request is no header (RFC 4975 §7.1).
        ("-------other-id$\r\n", ParseError::HeaderLine),
        ("-------abcdefgh\r\n", ParseError::HeaderLine),
    ] {
        let text = bodiless("SEND", "abcdefgh", &format!("Message-ID: 4564dpWd\r\n{lines}"));
        assert_eq!(fault_of(&text), fault, "{lines:?}");
    }
}

#[test]
fn without_both_paths_nobody_can_be_answered() {
    // RFC 4975 §9: the two come first.
    let (to, from) = PATHS.split_at(PATHS.find("From").unwrap());
    for lines in
        ["", to, from, &format!("{to}Message-ID: 4564dpWd\r\n{from}"), &format!("{to}{to}{from}"), "To-Path: \r\n"]
    {
        let text = format!("MSRP abcdefgh SEND\r\n{lines}-------abcdefgh$\r\n");
        assert_eq!(fault_of(&text), ParseError::NoPaths, "{lines:?}");
    }
    let exchanged = format!("MSRP abcdefgh SEND\r\n{from}{to}Message-ID: 4564dpWd\r\n-------abcdefgh$\r\n");
    for_all_cuts(&exchanged, "SEND abcdefgh none (paths are out of order) $");
}

#[test]
fn what_can_be_framed_and_answered_is_400_and_the_stream_goes_on() {
    for (lines, fault) in [
        ("Byte-Range: 1-*/8\r\n", ParseError::MessageId),
        ("Message-ID: x\r\n", ParseError::MessageId),
        ("Message-ID: 4564dpWd\r\nMessage-ID: 4564dpWd\r\n", ParseError::Repeated),
        ("Message-ID: 4564dpWd\r\nTo-Path: msrp://c:1/s;tcp\r\n", ParseError::Repeated),
        // Start 0, start above total, overflow.
        ("Message-ID: 4564dpWd\r\nByte-Range: 0-4/4\r\n", ParseError::ByteRange),
        ("Message-ID: 4564dpWd\r\nByte-Range: 9-*/4\r\n", ParseError::ByteRange),
        ("Message-ID: 4564dpWd\r\nByte-Range: 1-*/18446744073709551616\r\n", ParseError::ByteRange),
        ("Message-ID: 4564dpWd\r\nFailure-Report: maybe\r\n", ParseError::ReportWish),
        ("Message-ID: 4564dpWd\r\nSuccess-Report: partial\r\n", ParseError::ReportWish),
        ("Message-ID: 4564dpWd\r\nStatus: 200 OK\r\n", ParseError::Status),
    ] {
        let frame =
            format!("MSRP abcdefgh SEND\r\n{PATHS}{lines}Content-Type: text/plain\r\n\r\nabc\r\n-------abcdefgh$\r\n");
        assert_eq!(fault.reply(), Reply::Status(400));
        let both = format!("{frame}{}", send("next", "abcdefgi", "$"));
        for_all_cuts(&both, &format!("SEND abcdefgh ({fault}) [abc] $, SEND abcdefgi [next] $"));
    }
    // RFC 4975 §7.1: a body has a Content-Type. RFC 4975 §7.1.2: a REPORT has a Status.
    let bare = send("abc", "abcdefgh", "$").replace("Content-Type: text/plain\r\n", "");
    for_all_cuts(&bare, "SEND abcdefgh (body without Content-Type) [abc] $");
    let report = bodiless("REPORT", "abcdefgh", "Message-ID: 4564dpWd\r\n");
    for_all_cuts(&report, "REPORT abcdefgh none (missing or malformed Status) $");
}

#[test]
fn a_head_above_the_limit_ends_the_connection_and_one_at_the_limit_does_not() {
    // Header section over the limit.
    let fixed = bodiless("SEND", "abcdefgh", "Message-ID: 4564dpWd\r\nX: \r\n").len() - "-------abcdefgh$\r\n".len();
    let padded = |bytes: usize| {
        bodiless("SEND", "abcdefgh", &format!("Message-ID: 4564dpWd\r\nX: {}\r\n", "x".repeat(bytes - fixed)))
    };
    assert_eq!(heard(&[padded(MSRP_HEAD_BYTES_MAX - 18).as_bytes()]), "SEND abcdefgh none $");
    assert_eq!(fault_of(&padded(MSRP_HEAD_BYTES_MAX + 1)), ParseError::HeadTooLong { max: MSRP_HEAD_BYTES_MAX });
    // A head that never ends, in small pieces: it does not grow past the limit.
    let endless = format!("MSRP abcdefgh SEND\r\n{PATHS}{}", "X: y\r\n".repeat(200_000));
    let pieces: Vec<&[u8]> = endless.as_bytes().chunks(700).collect();
    assert_eq!(heard(&pieces), "! head is longer than 16384 bytes");
    let one_line = format!("MSRP abcdefgh SEND\r\nTo-Path: {}", "x".repeat(MSRP_HEAD_BYTES_MAX));
    assert_eq!(fault_of(&one_line), ParseError::HeadTooLong { max: MSRP_HEAD_BYTES_MAX });
}

#[test]
fn bodies_of_other_methods_are_bounded_and_those_of_send_are_not() {
    // RFC 4975 §7.1: non-SEND bodies are not larger than 10,240 octets.
    let max = MSRP_REQUEST_BODY_BYTES_MAX;
    let frame = |bytes: usize| send(&"x".repeat(bytes), "abcdefgh", "$").replace("SEND", "AUTH");
    assert!(heard(&[frame(max).as_bytes()]).ends_with("] $"));
    assert_eq!(fault_of(&frame(max + 1)), ParseError::BodyTooLong { max });
    assert!(heard(&[send(&"x".repeat(max + 1), "abcdefgh", "$").as_bytes()]).ends_with("] $"));
}

#[test]
fn a_paths_second_uri_does_not_hide_the_first() {
    // To-Path with two URIs to an endpoint: it is heard, and for the reader to refuse (RFC 4975 §7.3).
    let two = "To-Path: msrp://relay:1/r;tcp msrp://bob:2/s;tcp\r\nFrom-Path: msrp://[2001:db8::1]:7394/2s;tcp\r\n";
    let text = format!("MSRP abcdefgh SEND\r\n{two}Message-ID: 4564dpWd\r\n-------abcdefgh$\r\n");
    with_head(&text, |head| {
        assert_eq!(head.to_path(), b"msrp://relay:1/r;tcp msrp://bob:2/s;tcp");
        assert_eq!(head.to_first(), b"msrp://relay:1/r;tcp");
        assert_eq!(head.from_uri().unwrap().host, b"[2001:db8::1]");
    });
}

#[test]
fn a_head_tells_what_it_holds() {
    let text = format!(
        "MSRP dkei38sd SEND\r\n{PATHS}message-id: 4564dpWd\r\nBYTE-RANGE: 1-*/8\r\nSuccess-Report: YES\r\n\
         Failure-Report: partial\r\nX-Own:  a b \r\nContent-Disposition: render\r\nContent-Type: text/plain;a=b\r\n\r\nx"
    );
    with_head(&text, |head| {
        assert_eq!((head.tid(), head.tid_owned()), (&b"dkei38sd"[..], Tid::parse(b"dkei38sd").unwrap()));
        assert_eq!((head.method_text(), head.status(), head.comment()), (&b"SEND"[..], None, &b""[..]));
        assert_eq!(head.message_id(), Some(&b"4564dpWd"[..]));
        assert_eq!(head.byte_range().map(|range| (range.start, range.end, range.total)), Some((1, None, Some(8))));
        assert!(head.success_report() && head.has_body());
        assert_eq!(head.failure_report(), msrp::FailureReport::Partial);
        assert_eq!(head.content_type(), Some(&b"text/plain;a=b"[..]));
        assert_eq!((head.header("x-own"), head.header("Y")), (Some(&b"a b"[..]), None));
        assert_eq!(head.headers().count(), 7);
        assert!(head.kept().starts_with(b"message-id: ") && head.kept().ends_with(b"a=b\r\n\r\n"));
        assert_eq!(head.fault(), None);
    });
    let report =
        format!("MSRP abcdefgh REPORT\r\n{PATHS}Message-ID: 4564dpWd\r\nStatus: 000 408 late\r\n-------abcdefgh$\r\n");
    with_head(&report, |head| {
        let status = head.report_status().unwrap();
        assert_eq!((status.namespace, status.code), (0, 408));
        assert_eq!((head.byte_range(), head.range().start, head.has_body()), (None, 1, false));
    });
    let response = format!("MSRP abcdefgh 481 No such session\r\n{PATHS}-------abcdefgh$\r\n");
    with_head(&response, |head| {
        assert_eq!((head.kind(), head.status()), (Kind::Response(481), Some(481)));
        assert_eq!(head.comment(), b"No such session");
    });
}

proptest! {
    #[test]
    fn no_bytes_and_no_cuts_make_it_panic(bytes in noise(), cuts in prop::collection::vec(0usize..400, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.push(&bytes[from..]);
        prop_assert_eq!(heard(&pieces), heard(&[&bytes]));
    }

    #[test]
    fn any_body_that_lacks_the_end_line_comes_through(body in body_of_marks(), cut in 0usize..400) {
        let frame = [send("", "abcdefgh", "$").as_bytes().strip_suffix(b"\r\n-------abcdefgh$\r\n").unwrap(), &body,
            b"\r\n-------abcdefgh$\r\n"].concat();
        let (left, right) = frame.split_at(cut.min(frame.len()));
        let wanted = format!("SEND abcdefgh [{}] $", body.escape_ascii());
        prop_assert_eq!(heard(&[left, right]), wanted);
    }
}

/// Frames, torn and mended with octets that mean something.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(format!("MSRP abcdefgh SEND\r\n{PATHS}").into_bytes()),
        Just(b"Message-ID: 4564dpWd\r\n".to_vec()),
        Just(b"Byte-Range: 1-*/".to_vec()),
        Just(b"Content-Type: text/plain\r\n\r\n".to_vec()),
        Just(b"-------abcdefgh$\r\n".to_vec()),
        Just(b"\r\n-------abcdefgh+\r\n".to_vec()),
        Just(b"MSRP abcdefgh 200 OK\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
        prop::collection::vec(prop::sample::select(&b"\r\n-:$+# aM9"[..]), 0..12),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Bodies full of what looks like an end-line, but never is one.
fn body_of_marks() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\r\n-------".to_vec()),
        Just(b"abcdefg".to_vec()),
        Just(b"\r\n-------abcdefgh".to_vec()),
        Just(b"-------abcdefgh".to_vec()),
        Just(b"$\r".to_vec()),
        prop::collection::vec(prop::sample::select(&b"\r\n-$+#ax"[..]), 0..8),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()).prop_filter("holds its end-line", |body| {
        let framed = [b"\r\n", &body[..], b"\r\n-------abcdefgh$\r\n"].concat();
        let ends = [b'$', b'+', b'#'].map(|flag| [b"\r\n-------abcdefgh", &[flag][..], b"\r\n"].concat());
        let first = ends.iter().filter_map(|end| framed.windows(end.len()).position(|at| at == &end[..])).min();
        first == Some(body.len() + 2)
    })
}

fn send(body: &str, tid: &str, flag: &str) -> String {
    let headers = "Message-ID: 4564dpWd\r\nByte-Range: 1-*/8\r\nContent-Type: text/plain\r\n";
    format!("MSRP {tid} SEND\r\n{PATHS}{headers}\r\n{body}\r\n-------{tid}{flag}\r\n")
}

fn bodiless(method: &str, tid: &str, headers: &str) -> String {
    format!("MSRP {tid} {method}\r\n{PATHS}{headers}-------{tid}$\r\n")
}

fn for_all_cuts(text: &str, wanted: &str) {
    for cut in 0..=text.len() {
        let (left, right) = text.as_bytes().split_at(cut);
        assert_eq!(heard(&[left, right]), wanted, "cut at byte {cut} of {text:?}");
    }
}

fn fault_of(text: &str) -> ParseError {
    let mut scanner = Scanner::default();
    let mut at = 0;
    loop {
        match scanner.scan(&text.as_bytes()[at..]) {
            Err(fault) => return fault,
            Ok(Step::More) => panic!("no fault in {text:?}"),
            Ok(step) => at += used(&step),
        }
    }
}

fn with_head(text: &str, look: impl FnOnce(Head<'_>)) {
    match Scanner::default().scan(text.as_bytes()) {
        Ok(Step::Head(spans)) => look(spans.view(text.as_bytes())),
        other => panic!("{other:?}"),
    }
}

fn used(step: &Step) -> usize {
    match step {
        Step::More | Step::Clash => 0,
        Step::Head(spans) => spans.used(),
        Step::Body { used } | Step::End { used, .. } => *used,
    }
}

/// A connection: each piece is one read. What a step does not use waits in front of the next read.
fn heard(pieces: &[&[u8]]) -> String {
    let mut scanner = Scanner::default();
    let mut held = Vec::new();
    let mut heard: Vec<String> = Vec::new();
    let mut body: Option<Vec<u8>> = None;
    for piece in pieces {
        held.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let rest = &held[at..];
            let step = match scanner.scan(rest) {
                Ok(step) => step,
                Err(fault) => {
                    heard.push(format!("! {fault}"));
                    return heard.join(", ");
                }
            };
            match &step {
                Step::More => break,
                Step::Clash => unreachable!("no guard is set"),
                Step::Head(spans) => {
                    let head = spans.view(rest);
                    let what = head.status().map_or(head.method_text().to_vec(), |status| status.to_string().into());
                    body = head.has_body().then(Vec::new);
                    let none = if head.has_body() { "" } else { " none" };
                    let fault = head.fault().map_or(String::new(), |fault| format!(" ({fault})"));
                    heard.push(format!("{} {}{none}{fault}", what.escape_ascii(), head.tid().escape_ascii()));
                }
                Step::Body { used } => {
                    assert_ne!(*used, 0);
                    body.as_mut().expect("a body only where the head has one").extend_from_slice(&rest[..*used]);
                }
                Step::End { flag, .. } => {
                    let body = body.take().map_or(String::new(), |body| format!(" [{}]", body.escape_ascii()));
                    heard.last_mut().unwrap().push_str(&format!("{body} {}", char::from(flag.octet())));
                }
            }
            at += used(&step);
        }
        held.drain(..at);
        let bound = if scanner.is_within_chunk() { MSRP_HELD_BACK_BYTES_MAX } else { MSRP_HEAD_BYTES_MAX };
        assert!(held.len() <= bound, "{} octets are held back", held.len());
    }
    if let Some(body) = body {
        heard.last_mut().unwrap().push_str(&format!(" [{}…", body.escape_ascii()));
    }
    heard.join(", ")
}
