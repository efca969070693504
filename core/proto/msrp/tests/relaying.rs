//! A chunk passed on as the switch does it: fresh ids and heads, cut through, interrupted; and a body that knows the ids.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use msrp::{ByteRange, Flag, HeadSpans, Range, Resume, Scanner, Step, Tid, end_line, forward_head, respond};
use proptest::prelude::*;

const HEAD: &str = "MSRP incoming SEND\r\nTo-Path: msrp://us:1/a;tcp\r\nFrom-Path: msrp://alice:2/b;tcp\r\n\
    Message-ID: 4564dpWd\r\nX-Own:  kept \r\nByte-Range: 1-*/*\r\nFailure-Report: partial\r\nContent-Type: text/plain\r\n\r\n";

#[test]
fn a_head_is_passed_on_octet_for_octet_but_for_id_and_paths() {
    let spans = head_of(HEAD);
    let mut out = Vec::new();
    forward_head(
        &mut out,
        spans.view(HEAD.as_bytes()),
        &tid("outgoing"),
        b"msrp://bob:3/c;tcp",
        b"msrp://us:1/d;tcp",
        Range::Kept,
    );
    let wanted = HEAD
        .replace("incoming", "outgoing")
        .replace("msrp://us:1/a;tcp", "msrp://bob:3/c;tcp")
        .replace("msrp://alice:2/b;tcp", "msrp://us:1/d;tcp");
    assert_eq!(String::from_utf8(out).unwrap(), wanted);
}

#[test]
fn a_chunk_that_may_be_interrupted_has_a_star_for_its_end() {
    // RFC 4975 §7.1.1.
    let closed = HEAD.replace("1-*/*", "1-100/100");
    let spans = head_of(&closed);
    let head = spans.view(closed.as_bytes());
    for (range, wanted) in [(Range::Kept, "1-100/100"), (Range::Open, "1-*/100"), (Range::From(41), "41-*/100")] {
        let mut out = Vec::new();
        forward_head(&mut out, head, &tid("outgoing"), b"msrp://bob:3/c;tcp", b"msrp://us:1/d;tcp", range);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(&format!("X-Own:  kept \r\nByte-Range: {wanted}\r\nFailure-Report: partial\r\n")),
            "{text}"
        );
    }
    let mut out = Vec::new();
    Resume::of(head, b"msrp://bob:3/c;tcp", b"msrp://us:1/d;tcp").write(&mut out, &tid("outgoing"), 40);
    let mut same = Vec::new();
    forward_head(&mut same, head, &tid("outgoing"), b"msrp://bob:3/c;tcp", b"msrp://us:1/d;tcp", Range::From(41));
    assert_eq!(out, same);
}

#[test]
fn the_rest_of_a_chunk_without_byte_range_gets_one() {
    // RFC 4975 §7.1.1: all chunks but the first must have it.
    let bare = HEAD.replace("Byte-Range: 1-*/*\r\n", "");
    let spans = head_of(&bare);
    let mut out = Vec::new();
    Resume::of(spans.view(bare.as_bytes()), b"msrp://bob:3/c;tcp", b"msrp://us:1/d;tcp").write(
        &mut out,
        &tid("outgoing"),
        7,
    );
    let spans = head_of(std::str::from_utf8(&out).unwrap());
    let head = spans.view(&out);
    assert_eq!(head.byte_range(), Some(ByteRange { start: 8, end: None, total: None }));
    assert_eq!((head.fault(), head.has_body(), head.message_id()), (None, true, Some(&b"4564dpWd"[..])));
}

#[test]
fn a_response_goes_to_the_previous_hop_and_for_other_methods_all_the_way() {
    // RFC 4975 §7.2.
    let two = HEAD.replace("From-Path: ", "From-Path: msrp://relay:9/r;tcp ");
    for (request, to) in [
        (two.clone(), "msrp://relay:9/r;tcp"),
        (two.replace("SEND", "AUTH"), "msrp://relay:9/r;tcp msrp://alice:2/b;tcp"),
    ] {
        let spans = head_of(&request);
        let mut out = Vec::new();
        respond(&mut out, spans.view(request.as_bytes()), 200, b"msrp://us:1/a;tcp");
        let wanted =
            format!("MSRP incoming 200 OK\r\nTo-Path: {to}\r\nFrom-Path: msrp://us:1/a;tcp\r\n-------incoming$\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}

#[test]
fn a_body_that_holds_our_next_end_line_ends_the_chunk_before_it() {
    // RFC 4975 §7.1, decisions D11: the attacker knows every id that we will take, and cannot add a frame.
    let body = b"one\r\n-------out-0000$\r\ntwo\r\n-------out-0001+\r\n-------out-0002#\r\nMSRP evil-tid SEND\r\n";
    for cut in 0..body.len() + HEAD.len() {
        let frames = relayed(body, cut, usize::MAX);
        assert_eq!(frames.iter().map(|frame| frame.2).collect::<Vec<_>>(), "+++$".as_bytes(), "cut at {cut}");
        assert_eq!(joined(&frames), body, "cut at {cut}");
    }
}

#[test]
fn a_body_may_even_begin_with_our_end_line() {
    let body = b"-------out-0000$\r\nMSRP evil-tid SEND\r\n";
    for cut in 0..body.len() + HEAD.len() {
        assert_eq!(joined(&relayed(body, cut, usize::MAX)), body, "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn what_is_relayed_is_the_body_in_frames_that_we_cut(body in body_that_knows(), cut in 0usize..500, every in 1usize..60) {
        let frames = relayed(&body, cut, every);
        prop_assert_eq!(joined(&frames), body);
    }
}

/// Bodies out of our ids, end-lines of all flags and whole frames; never their own end-line.
fn body_that_knows() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"-------".to_vec()),
        Just(b"\r\n-------".to_vec()),
        (0u32..6).prop_map(|id| format!("out-{id:04}").into_bytes()),
        (0u32..6).prop_map(|id| format!("\r\n-------out-{id:04}$\r\n").into_bytes()),
        Just(HEAD.replace("incoming", "evil-tid").into_bytes()),
        prop::collection::vec(prop::sample::select(&b"\r\n-$+#ao0"[..]), 0..8),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// One chunk with this body through a relay that reads it in two pieces and takes foreseeable ids; between two steps it
/// interrupts whenever `every` octets have left (RFC 4975 §7.1.1). What came out: range start, body and flag of each frame.
fn relayed(body: &[u8], cut: usize, every: usize) -> Vec<(u64, Vec<u8>, u8)> {
    let wire = [HEAD.as_bytes(), body, b"\r\n-------incoming$\r\n"].concat();
    let (left, right) = wire.split_at(cut.min(wire.len()));
    let (mut scanner, mut held, mut out) = (Scanner::default(), Vec::new(), Vec::new());
    let (mut next, mut sent, mut since) = (0, 0, 0);
    let mut ids = std::iter::from_fn(|| {
        next += 1;
        Tid::parse(format!("out-{:04}", next - 1).as_bytes())
    });
    let mut open: Option<(Tid, Resume)> = None;
    for piece in [left, right] {
        held.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let rest = &held[at..];
            match scanner.scan(rest).unwrap() {
                Step::More => break,
                Step::Head(spans) => {
                    let (head, id) = (spans.view(rest), ids.next().unwrap());
                    forward_head(&mut out, head, &id, b"msrp://bob:3/c;tcp", b"msrp://us:1/d;tcp", Range::Open);
                    scanner.guard(&id);
                    open = Some((id, Resume::of(head, b"msrp://bob:3/c;tcp", b"msrp://us:1/d;tcp")));
                    at += spans.used();
                    continue;
                }
                Step::Body { used } => {
                    out.extend_from_slice(&rest[..used]);
                    at += used;
                    sent += used as u64;
                    since += used;
                    if since < every {
                        continue;
                    }
                }
                Step::End { used, flag } => {
                    end_line(&mut out, &open.take().unwrap().0, flag, true);
                    at += used;
                    continue;
                }
                Step::Clash => {}
            }
            // Interrupted: by a clash, or for another's sake.
            since = 0;
            let (id, resume) = open.as_mut().unwrap();
            end_line(&mut out, id, Flag::More, true);
            *id = ids.next().unwrap();
            resume.write(&mut out, id, sent);
            scanner.guard(id);
        }
        held.drain(..at);
    }
    assert!(held.is_empty() && !scanner.is_within_chunk());
    frames_of(&out)
}

fn frames_of(wire: &[u8]) -> Vec<(u64, Vec<u8>, u8)> {
    let (mut scanner, mut at, mut frames) = (Scanner::default(), 0, Vec::new());
    while at < wire.len() {
        match scanner.scan(&wire[at..]).expect("we write frames that can be read") {
            Step::Head(spans) => {
                let head = spans.view(&wire[at..]);
                assert!(head.tid().starts_with(b"out-") && head.fault().is_none());
                frames.push((head.range().start, Vec::new(), 0));
                at += spans.used();
            }
            Step::Body { used } => {
                frames.last_mut().unwrap().1.extend_from_slice(&wire[at..at + used]);
                at += used;
            }
            Step::End { used, flag } => {
                frames.last_mut().unwrap().2 = flag.octet();
                at += used;
            }
            step @ (Step::More | Step::Clash) => panic!("{step:?} in what we wrote"),
        }
    }
    frames
}

fn joined(frames: &[(u64, Vec<u8>, u8)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (place, (start, body, flag)) in frames.iter().enumerate() {
        assert_eq!(*start, all.len() as u64 + 1, "each frame begins where the one before ended");
        assert_eq!(*flag == b'$', place + 1 == frames.len(), "one end, and it is the last");
        all.extend_from_slice(body);
    }
    all
}

fn head_of(text: &str) -> HeadSpans {
    match Scanner::default().scan(text.as_bytes()) {
        Ok(Step::Head(spans)) => spans,
        other => panic!("{other:?}"),
    }
}

fn tid(text: &str) -> Tid {
    Tid::parse(text.as_bytes()).unwrap()
}
