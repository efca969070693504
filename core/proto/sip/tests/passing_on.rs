//! What leaves: requests and responses passed on, answers of our own, answers kept (RFC 3261 §8.2.6, §16.6, §16.7,
//! §18.2.1; RFC 3581).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::net::SocketAddr;

use sip::{
    Delta, Forward, Layout, Name, Reply, Request, forward_request, forward_response, parse_datagram, reply, request,
};

const MESSAGE: &str = "MESSAGE sip:bob@example.com SIP/2.0\r\n\
    v:  SIP/2.0/UDP 192.0.2.1:5062 ;branch=z9hG4bKa;rport , SIP/2.0/TCP x;branch=z9hG4bKb\r\n\
    Via: SIP/2.0/UDP y;branch=z9hG4bKc\r\n\
    max-forwards :  70\r\n\
    f: \"A, B\" <sip:alice@example.com>;tag=1\r\n\
    To: <sip:bob@example.com>\r\n\
    Call-ID: 1@a\r\n\
    CSeq: 7 MESSAGE\r\n\
    Authorization: Digest realm=\"example.com\", nonce=\"n\"\r\n\
    X-Odd:;;,, \t folded\r\n\
    \x20 further\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 2\r\n\
    \r\nhi";

const HOW: Forward<'_> = Forward {
    uri: b"sip:bob@192.0.2.7:5070",
    via: b"SIP/2.0/UDP us;branch=z9hG4bKz",
    max_forwards: 69,
    strip: &[],
    received: None,
    add: b"",
    record: b"",
};

fn forwarded(text: &str, how: &Forward<'_>) -> String {
    let (mut layout, mut out) = (Layout::default(), Vec::new());
    parse_datagram(text.as_bytes(), &mut layout).unwrap();
    forward_request(&mut out, layout.view(text.as_bytes()), how);
    String::from_utf8(out).unwrap()
}

fn popped(text: &str) -> String {
    let (mut layout, mut out) = (Layout::default(), Vec::new());
    parse_datagram(text.as_bytes(), &mut layout).unwrap();
    forward_response(&mut out, layout.view(text.as_bytes()));
    String::from_utf8(out).unwrap()
}

fn answer(text: &str, how: &Reply<'_>) -> String {
    let (mut layout, mut out) = (Layout::default(), Vec::new());
    let _ = parse_datagram(text.as_bytes(), &mut layout);
    reply(&mut out, layout.view(text.as_bytes()), how);
    String::from_utf8(out).unwrap()
}

fn delta(text: &str) -> Delta {
    let mut layout = Layout::default();
    parse_datagram(text.as_bytes(), &mut layout).unwrap();
    Delta::of(layout.view(text.as_bytes()))
}

fn rewritten(delta: &Delta, text: &str, source: Option<SocketAddr>) -> String {
    let (mut layout, mut out) = (Layout::default(), Vec::new());
    parse_datagram(text.as_bytes(), &mut layout).unwrap();
    delta.write(&mut out, layout.view(text.as_bytes()), source);
    String::from_utf8(out).unwrap()
}

/// The top Via of a request that has this one and came from `source`, as it is passed on.
fn via_from(source: &str, via: &str) -> String {
    let text =
        MESSAGE.replace("SIP/2.0/UDP 192.0.2.1:5062 ;branch=z9hG4bKa;rport , SIP/2.0/TCP x;branch=z9hG4bKb", via);
    let out = forwarded(&text, &Forward { received: Some(source.parse().unwrap()), ..HOW });
    out.lines().nth(2).unwrap().strip_prefix("v:  ").unwrap().to_string()
}

#[test]
fn only_what_must_change_changes() {
    let expected = MESSAGE
        .replace(
            "MESSAGE sip:bob@example.com SIP/2.0\r\n",
            "MESSAGE sip:bob@192.0.2.7:5070 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKz\r\n",
        )
        .replace("max-forwards :  70", "max-forwards :  69");
    assert_eq!(forwarded(MESSAGE, &HOW), expected);
    let how = Forward {
        strip: &[Name::Authorization, Name::Other],
        received: Some("198.51.100.9:1024".parse().unwrap()),
        add: b"P-Asserted-Identity: <sip:alice@example.com>\r\n",
        ..HOW
    };
    let expected = expected
        .replace("Authorization: Digest realm=\"example.com\", nonce=\"n\"\r\n", "")
        .replace(";rport ,", ";rport=1024;received=198.51.100.9 ,")
        .replace("Content-Length", "P-Asserted-Identity: <sip:alice@example.com>\r\nContent-Length");
    assert_eq!(forwarded(MESSAGE, &how), expected);
}

#[test]
fn max_forwards_and_content_length_are_written_where_they_are_missing() {
    // RFC 3261 §16.6 step 3, §18.3
    let bare = MESSAGE.replace("max-forwards :  70\r\n", "").replace("Content-Length: 2\r\n", "");
    let out = forwarded(&bare, &Forward { add: b"X: y\r\n", ..HOW });
    assert!(out.contains("z9hG4bKz\r\nMax-Forwards: 69\r\nv:  SIP"), "{out}");
    assert!(out.ends_with("Content-Type: text/plain\r\nX: y\r\nContent-Length: 2\r\n\r\nhi"), "{out}");
}

#[test]
fn all_fields_of_a_stripped_name_go() {
    let text = MESSAGE
        .replace("To: ", "P-Asserted-Identity: <sip:x@y>\r\nTo: ")
        .replace("CSeq", "p-asserted-identity : <tel:+1>,\r\n <sip:z@y>\r\nCSeq");
    assert_eq!(forwarded(&text, &Forward { strip: &[Name::PAssertedIdentity], ..HOW }), forwarded(MESSAGE, &HOW));
}

#[test]
fn received_and_rport_tell_where_the_request_came_from() {
    // RFC 3261 §18.2.1: a name, another address. RFC 3581 §4: rport asks for both, even from an honest sender.
    for (source, via, expected) in [
        (
            "192.0.2.4:5060",
            "SIP/2.0/UDP bobspc.biloxi.com:5060",
            "SIP/2.0/UDP bobspc.biloxi.com:5060;received=192.0.2.4",
        ),
        ("192.0.2.4:5060", "SIP/2.0/UDP 192.0.2.4;branch=a", "SIP/2.0/UDP 192.0.2.4;branch=a"),
        ("192.0.2.5:5060", "SIP/2.0/UDP 192.0.2.4;branch=a", "SIP/2.0/UDP 192.0.2.4;branch=a;received=192.0.2.5"),
        (
            "192.0.2.1:9988",
            "SIP/2.0/UDP 192.0.2.1:4540;rport;branch=a",
            "SIP/2.0/UDP 192.0.2.1:4540;rport=9988;branch=a;received=192.0.2.1",
        ),
        ("192.0.2.1:9988", "SIP/2.0/UDP h;branch=a;RPORT", "SIP/2.0/UDP h;branch=a;RPORT=9988;received=192.0.2.1"),
        // What the sender claims of itself is put right.
        (
            "192.0.2.1:9988",
            "SIP/2.0/UDP h;received=203.0.113.1;rport=1;branch=a",
            "SIP/2.0/UDP h;received=192.0.2.1;rport=9988;branch=a",
        ),
        (
            "192.0.2.4:5060",
            "SIP/2.0/UDP h ; branch = a , SIP/2.0/UDP i",
            "SIP/2.0/UDP h ; branch = a;received=192.0.2.4 , SIP/2.0/UDP i",
        ),
        // RFC 5118 §4.5: no brackets in what we write. An IPv4 sender on an IPv6 socket is an IPv4 sender.
        (
            "[2001:db8::9:255]:5060",
            "SIP/2.0/UDP [2001:db8::9:1]",
            "SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255",
        ),
        ("[2001:db8::9:1]:5060", "SIP/2.0/UDP [2001:DB8:0::9:1]", "SIP/2.0/UDP [2001:DB8:0::9:1]"),
        ("[::ffff:192.0.2.4]:5060", "SIP/2.0/UDP 192.0.2.4", "SIP/2.0/UDP 192.0.2.4"),
        ("[::ffff:192.0.2.4]:5060", "SIP/2.0/UDP h", "SIP/2.0/UDP h;received=192.0.2.4"),
    ] {
        assert_eq!(via_from(source, via), expected);
    }
}

#[test]
fn a_response_loses_its_top_via_and_nothing_else() {
    // RFC 3261 §16.7 step 3
    let response = |vias: &str| {
        format!(
            "SIP/2.0 200 Fine\r\nX: y\r\n{vias}From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nl: 0\r\n\r\n"
        )
    };
    for (before, behind) in [
        ("Via: SIP/2.0/UDP us\r\nVia: SIP/2.0/UDP x\r\n", "Via: SIP/2.0/UDP x\r\n"),
        ("v: SIP/2.0/UDP us;a=\",\" ,\r\n SIP/2.0/UDP x, SIP/2.0/UDP y\r\n", "v: SIP/2.0/UDP x, SIP/2.0/UDP y\r\n"),
        ("Via: SIP/2.0/UDP us,\r\nVia: SIP/2.0/UDP x\r\n", "Via: SIP/2.0/UDP x\r\n"),
        ("Via: SIP/2.0/UDP us\r\n", ""),
        ("", ""),
    ] {
        assert_eq!(popped(&response(before)), response(behind), "{before:?}");
    }
    let bare = response("Via: SIP/2.0/UDP us\r\n").replace("l: 0\r\n", "");
    assert_eq!(popped(&bare), response("").replace("l: 0", "Content-Length: 0"));
}

#[test]
fn an_answer_copies_what_rfc_3261_wants_copied() {
    // RFC 3261 §8.2.6.2
    let how = Reply {
        status: 404,
        to_tag: "t",
        source: Some("192.0.2.1:9".parse().unwrap()),
        lines: b"X: y\r\n",
        body: b"ab",
        ..Reply::default()
    };
    assert_eq!(
        answer(MESSAGE, &how),
        "SIP/2.0 404 Not Found\r\n\
        v:  SIP/2.0/UDP 192.0.2.1:5062 ;branch=z9hG4bKa;rport=9;received=192.0.2.1 , SIP/2.0/TCP x;branch=z9hG4bKb\r\n\
        Via: SIP/2.0/UDP y;branch=z9hG4bKc\r\n\
        f: \"A, B\" <sip:alice@example.com>;tag=1\r\n\
        To: <sip:bob@example.com>;tag=t\r\n\
        Call-ID: 1@a\r\n\
        CSeq: 7 MESSAGE\r\n\
        X: y\r\n\
        Content-Length: 2\r\n\r\nab"
    );
    let tagged = MESSAGE.replace("To: <sip:bob@example.com>", "To: sip:bob@example.com ; tag = mine");
    let out = answer(&tagged, &Reply { status: 699, reason: "Odd", to_tag: "t", ..Reply::default() });
    assert!(
        out.starts_with("SIP/2.0 699 Odd\r\n") && out.contains("\r\nTo: sip:bob@example.com ; tag = mine\r\n"),
        "{out}"
    );
    // §8.2.6.1: a 100 repeats the Timestamp.
    let timed = MESSAGE.replace("To: ", "Timestamp: 54\r\nTo: ");
    assert!(answer(&timed, &Reply { status: 100, ..Reply::default() }).contains("\r\nTimestamp: 54\r\n"));
    assert!(!answer(&timed, &Reply { status: 200, ..Reply::default() }).contains("Timestamp"));
}

#[test]
fn a_request_is_written_from_its_parts() {
    let (mut layout, mut out) = (Layout::default(), Vec::new());
    let parts = Request {
        method: "MESSAGE",
        uri: "sip:bob@192.0.2.7",
        via: "SIP/2.0/UDP us;branch=z9hG4bKz",
        from: "<sip:alice@example.com>;tag=1",
        to: "<sip:bob@example.com>",
        call_id: "1@us",
        cseq: 2_147_483_647,
        max_forwards: 70,
        lines: b"Content-Type: text/plain\r\n",
        body: b"hi",
    };
    request(&mut out, &parts);
    parse_datagram(&out, &mut layout).unwrap();
    let view = layout.view(&out);
    assert_eq!(view.check_request(), Ok(()));
    assert_eq!(
        (view.cseq().unwrap().number, view.max_forwards(), view.body()),
        (2_147_483_647, Ok(Some(70)), &b"hi"[..])
    );
    assert_eq!(view.count(Name::Via), 1);
}

#[test]
fn a_kept_answer_is_small_and_comes_back_the_same() {
    let source: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let own = Reply { status: 202, to_tag: "abcdefgh", lines: b"Retry-After: 5\r\n", ..Reply::default() };
    let first = answer(MESSAGE, &Reply { source: Some(source), ..own });
    let kept = delta(&first);
    assert_eq!((kept.status(), kept.clone()), (202, Delta::from_reply(&own)));
    assert_eq!(kept.len(), 9 + 8 + 16, "numbers, tag, lines");
    assert_eq!(rewritten(&kept, MESSAGE, Some(source)), first);
}

#[test]
fn a_relayed_answer_keeps_reason_lines_and_body() {
    let relayed = "SIP/2.0 480 Gone fishing\r\nVia: SIP/2.0/UDP y\r\nServer: x\r\nf: <sip:a@b>\r\nTo: <sip:c@d>;tag=his\r\ni: 1\r\nCSeq: 7 MESSAGE\r\n\
        Warning: 399 h \"w\"\r\nContent-Type: text/plain\r\nl: 3\r\n\r\nbye";
    let kept = delta(relayed);
    assert!(kept.len() < 120, "{} bytes", kept.len());
    let out = rewritten(&kept, MESSAGE, None);
    assert!(
        out.starts_with("SIP/2.0 480 Gone fishing\r\nv:  SIP/2.0/UDP 192.0.2.1:5062 ;branch=z9hG4bKa;rport ,"),
        "{out}"
    );
    assert!(out.contains("To: <sip:bob@example.com>;tag=his\r\n"), "{out}");
    assert!(out.ends_with("CSeq: 7 MESSAGE\r\nServer: x\r\nWarning: 399 h \"w\"\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nbye"), "{out}");
}
