//! Messages cut up, written, torn by the wire and put together again (RFC 4975 §7.1.1, §7.3.1).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::time::{Duration, Instant};

use base::KeyedHash;
use msrp::{
    ByteRange, FailureReport, Flag, Head, Limits, Outgoing, Piece, Reassembly, ReassemblyError, Report, Scanner, Step,
    TidMaker, TooScattered, Whole, chunks, end_line, report, write_chunk, write_hello,
};
use proptest::prelude::*;

const MESSAGE: Outgoing<'static> = Outgoing {
    to_path: b"msrp://bob:1/s;tcp",
    from_path: b"msrp://alice:2/t;tcp",
    message_id: b"4564dpWd",
    content_type: b"text/plain",
    lines: b"X-Own: kept\r\n",
    success_report: true,
    failure_report: FailureReport::No,
};

#[test]
fn a_message_is_cut_into_pieces_that_say_what_they_are() {
    // RFC 4975 §7.1.1: above 2,048 octets the end is `*`; smaller pieces than that are not cut.
    let body = vec![b'x'; 5_000];
    let cut = |size| chunks(&body, size).map(|piece| (shown(piece.range), piece.flag)).collect::<Vec<_>>();
    let small = [("1-2048/5000", Flag::More), ("2049-4096/5000", Flag::More), ("4097-5000/5000", Flag::Complete)];
    assert_eq!(cut(1), small.map(|(range, flag)| (range.to_owned(), flag)));
    assert_eq!(cut(1), cut(2_048));
    assert_eq!(cut(3_000), [("1-*/5000".to_owned(), Flag::More), ("3001-5000/5000".to_owned(), Flag::Complete)]);
    assert_eq!(cut(9_000), [("1-*/5000".to_owned(), Flag::Complete)]);
    let empty: Vec<_> = chunks(b"", 2_048).collect();
    assert_eq!(empty, [Piece { range: ByteRange::of(1, 0, 0), body: b"", flag: Flag::Complete }]);
}

#[test]
fn what_is_written_is_heard() {
    for body in [&b""[..], b"Hello", &[b'-'; 9_000], b"\r\n-------"] {
        let heard = received(&written(body, 2_048), Limits::default()).unwrap();
        assert_eq!(heard.len(), 1);
        let whole = &heard[0];
        assert_eq!((&whole.body[..], &whole.content_type[..]), (body, MESSAGE.content_type));
        assert_eq!((&whole.message_id[..], &whole.from_path[..]), (MESSAGE.message_id, MESSAGE.from_path));
        assert_eq!((whole.success_report, whole.failure_report), (true, FailureReport::No));
        assert_eq!(whole.chunks as usize, chunks(body, 2_048).count());
    }
}

#[test]
fn a_chunk_never_ends_within_its_body() {
    // RFC 4975 §7.1: the id is chosen so that it does not occur.
    let key = KeyedHash::new([5; 16]);
    let body = [b"\r\n-------", TidMaker::new(key).next().as_bytes(), b"$\r\n"].concat();
    let mut wire = Vec::new();
    let piece = chunks(&body, 2_048).next().unwrap();
    write_chunk(&mut wire, &TidMaker::new(key), &MESSAGE, &piece);
    assert_eq!(received(&wire, Limits::default()).unwrap()[0].body, body);
}

#[test]
fn the_first_send_of_a_connection_is_empty_and_carries_no_message() {
    // RFC 4975 §5.4, §7.1.1: 1-0/0.
    let mut wire = Vec::new();
    write_hello(&mut wire, &maker(), MESSAGE.to_path, MESSAGE.from_path);
    assert!(String::from_utf8_lossy(&wire).contains("\r\nByte-Range: 1-0/0\r\n-------"));
    assert_eq!(received(&wire, Limits::default()), Ok(vec![]));
}

#[test]
fn chunks_may_come_in_any_order() {
    // RFC 4975 §7.3.1: `+` behind `$`.
    let got = assembled(&[(5, "EFGH", Flag::Complete), (1, "abcd", Flag::More)]);
    assert_eq!(got, [None, Some("abcdEFGH".to_owned())]);
    let holes =
        assembled(&[(7, "gh", Flag::Complete), (1, "ab", Flag::More), (5, "ef", Flag::More), (3, "cd", Flag::More)]);
    assert_eq!(holes, [None, None, None, Some("abcdefgh".to_owned())]);
}

#[test]
fn of_overlapping_chunks_the_last_that_came_counts() {
    // RFC 4975 §7.3.1.
    let got = assembled(&[(1, "abcdef", Flag::More), (4, "DEFG", Flag::Complete)]);
    assert_eq!(got, [None, Some("abcDEFG".to_owned())]);
    let late = assembled(&[(4, "DEFG", Flag::Complete), (1, "abcdef", Flag::More)]);
    assert_eq!(late, [None, Some("abcdefG".to_owned())]);
    // `$` defines the length, whatever came behind it.
    let short = assembled(&[(5, "efgh", Flag::More), (1, "abcd", Flag::Complete)]);
    assert_eq!(short, [None, Some("abcd".to_owned())]);
}

#[test]
fn an_aborted_message_is_dropped() {
    // RFC 4975 §7.1: `#`.
    let got = assembled(&[(1, "abcd", Flag::More), (5, "ef", Flag::Aborted), (5, "efgh", Flag::Complete)]);
    assert_eq!(got, [None, None, None]);
}

#[test]
fn a_message_above_the_limit_is_413_and_forgotten() {
    // RFC 4975 §10.5.
    let limits = Limits { message_bytes: 10, ..Limits::default() };
    let error = Err(ReassemblyError::TooLong { max: 10 });
    assert_eq!(ReassemblyError::TooLong { max: 10 }.status(), 413);
    assert_eq!(received(&chunk(1, "*", "0123456789a", Flag::More), limits), error);
    assert_eq!(received(&chunk(1, "11", "0", Flag::More), limits), error);
    assert_eq!(received(&chunk(12, "*", "", Flag::More), limits), error);
    assert_eq!(received(&chunk(u64::MAX, "*", "ab", Flag::Complete), limits), error);
    assert_eq!(received(&chunk(1, "*", "0123456789", Flag::Complete), limits).unwrap().len(), 1);
}

#[test]
fn unfinished_messages_are_bounded_in_number_and_together() {
    let limits = Limits { bytes: 10, messages: 2, ..Limits::default() };
    let named =
        |id: &str, body: &str| String::from_utf8(chunk(1, "*", body, Flag::More)).unwrap().replace("4564dpWd", id);
    let two = named("first", "01234") + &named("second", "01234");
    assert_eq!(received(two.as_bytes(), limits), Ok(vec![]));
    let three = two.clone() + &named("third", "");
    assert_eq!(received(three.as_bytes(), limits), Err(ReassemblyError::TooMany { max: 2 }));
    let more = named("first", "01234") + &named("second", "012345");
    assert_eq!(received(more.as_bytes(), limits), Err(ReassemblyError::TooMuch { max: 10 }));
    // A tiny piece at a far place costs what it makes us keep.
    assert_eq!(received(&chunk(11, "*", "x", Flag::More), limits), Err(ReassemblyError::TooMuch { max: 10 }));
    let scattered: Vec<u8> = (0..2_000).flat_map(|n| chunk(2 * n + 2, "*", "x", Flag::More)).collect();
    assert_eq!(received(&scattered, Limits::default()), Err(ReassemblyError::TooScattered(TooScattered)));
}

#[test]
fn a_message_that_is_kept_elsewhere_holds_nothing_here_and_is_whole_when_nothing_is_missing() {
    // RFC 4975 §7.3.1: in any order, and overlapping.
    let limits = Limits { message_bytes: 4, bytes: 4, elsewhere_bytes: 12, ..Limits::default() };
    let (mut reassembly, now, mut file) = (Reassembly::new(limits), Instant::now(), vec![b'.'; 12]);
    let mut put = |start: u64, body: &str, flag: Flag| {
        let wire = chunk(start, "*", body, flag);
        elsewhere(&mut reassembly, &wire, now, |at, piece| {
            file[at as usize..at as usize + piece.len()].copy_from_slice(piece);
        })
    };
    assert_eq!(put(7, "ghij", Flag::Complete), Ok(None));
    assert_eq!(put(1, "abcd", Flag::More), Ok(None));
    let whole = put(4, "def", Flag::More).unwrap().unwrap();
    assert_eq!((whole.octets, whole.body.len(), whole.chunks), (10, 0, 3));
    assert_eq!(put(9, "xxxxx", Flag::More), Err(ReassemblyError::TooLong { max: 12 }));
    assert_eq!((file.as_slice(), reassembly.bytes()), (b"abcdefghij..".as_slice(), 0));
    // What goes on with a message stays where that is kept.
    elsewhere(&mut reassembly, &chunk(1, "*", "12345678", Flag::More), now, |_, _| {}).unwrap();
    let heard = feed(&mut reassembly, &chunk(9, "*", "9", Flag::Complete), now).unwrap();
    assert_eq!(heard[0].octets, 9);
    elsewhere(&mut reassembly, &chunk(1, "*", "12345678", Flag::More), now, |_, _| {}).unwrap();
    let other = String::from_utf8(chunk(1, "*", "12345", Flag::More)).unwrap().replace("4564dpWd", "another1");
    let over = elsewhere(&mut reassembly, other.as_bytes(), now, |_, _| {});
    assert_eq!(over, Err(ReassemblyError::TooMuch { max: 12 }));
    reassembly.reset();
    assert_eq!(reassembly.elsewhere(), None);
}

#[test]
fn an_unfinished_message_is_given_up_in_time() {
    let start = Instant::now();
    let mut reassembly = Reassembly::new(Limits { idle: Duration::from_secs(9), ..Limits::default() });
    feed(&mut reassembly, &chunk(1, "*", "abcd", Flag::More), start).unwrap();
    let due = start + Duration::from_secs(9);
    assert_eq!((reassembly.poll_timeout(), reassembly.bytes()), (Some(due), 4));
    assert!(reassembly.handle_timeout(due - Duration::from_secs(1)).is_empty());
    assert_eq!(reassembly.handle_timeout(due), [b"4564dpWd"]);
    assert_eq!((reassembly.poll_timeout(), reassembly.bytes()), (None, 0));
    feed(&mut reassembly, &chunk(1, "*", "abcd", Flag::More), start).unwrap();
    reassembly.reset();
    assert_eq!((reassembly.poll_timeout(), reassembly.bytes()), (None, 0));
}

#[test]
fn a_report_speaks_of_a_message_and_its_octets() {
    // RFC 4975 §7.1.2, §7.1.3.
    let mut wire = Vec::new();
    let tid = maker().next();
    let (to_path, from_path) = (MESSAGE.from_path, MESSAGE.to_path);
    report(
        &mut wire,
        &Report {
            tid: &tid,
            to_path,
            from_path,
            message_id: b"4564dpWd",
            byte_range: ByteRange::of(1, 8, 8),
            status: 200,
        },
    );
    let wanted = format!(
        "MSRP {0} REPORT\r\nTo-Path: msrp://alice:2/t;tcp\r\nFrom-Path: msrp://bob:1/s;tcp\r\nMessage-ID: 4564dpWd\r\n\
         Byte-Range: 1-8/8\r\nStatus: 000 200 OK\r\n-------{0}$\r\n",
        String::from_utf8_lossy(tid.as_bytes())
    );
    assert_eq!(String::from_utf8(wire).unwrap(), wanted);
}

proptest! {
    #[test]
    fn every_message_comes_whole_out_of_pieces_in_any_order(
        body in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(0usize..200, 0..8),
        order in any::<u64>(),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let mut pieces: Vec<(usize, usize)> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let hash = KeyedHash::new([0; 16]);
        pieces.sort_by_key(|(from, to)| hash.of(&[&order.to_be_bytes(), &from.to_be_bytes(), &to.to_be_bytes()]));
        let last = *pieces.iter().max().unwrap();
        let mut wire = Vec::new();
        for (from, to) in pieces {
            let range = ByteRange { start: from as u64 + 1, end: None, total: None };
            let flag = if (from, to) == last { Flag::Complete } else { Flag::More };
            write_chunk(&mut wire, &maker(), &MESSAGE, &Piece { range, body: &body[from..to], flag });
        }
        let heard = received(&wire, Limits::default()).unwrap();
        prop_assert!(!heard.is_empty());
        prop_assert_eq!(&heard[0].body, &body);
    }
}

fn maker() -> TidMaker {
    TidMaker::new(KeyedHash::new([9; 16]))
}

fn shown(range: ByteRange) -> String {
    let mut out = Vec::new();
    range.write(&mut out);
    String::from_utf8(out).unwrap()
}

fn written(body: &[u8], size: usize) -> Vec<u8> {
    let (mut out, tids) = (Vec::new(), maker());
    for piece in chunks(body, size) {
        write_chunk(&mut out, &tids, &MESSAGE, &piece);
    }
    out
}

fn chunk(start: u64, total: &str, body: &str, flag: Flag) -> Vec<u8> {
    let (mut out, tid) = (Vec::new(), maker().next());
    let paths = "To-Path: msrp://bob:1/s;tcp\r\nFrom-Path: msrp://alice:2/t;tcp";
    let id = String::from_utf8_lossy(tid.as_bytes()).into_owned();
    let head = format!(
        "MSRP {id} SEND\r\n{paths}\r\nMessage-ID: 4564dpWd\r\nByte-Range: {start}-*/{total}\r\nContent-Type: text/plain\r\n\r\n{body}"
    );
    out.extend_from_slice(head.as_bytes());
    end_line(&mut out, &tid, flag, true);
    out
}

fn assembled(pieces: &[(u64, &str, Flag)]) -> Vec<Option<String>> {
    let (mut reassembly, now) = (Reassembly::default(), Instant::now());
    let mut got = |(start, body, flag): &(u64, &str, Flag)| {
        let whole = feed(&mut reassembly, &chunk(*start, "*", body, *flag), now).unwrap();
        whole.into_iter().next().map(|whole| String::from_utf8(whole.body).unwrap())
    };
    pieces.iter().map(&mut got).collect()
}

/// One chunk of a message that is kept elsewhere, its pieces given to `put`.
fn elsewhere(
    reassembly: &mut Reassembly,
    wire: &[u8],
    now: Instant,
    mut put: impl FnMut(u64, &[u8]),
) -> Result<Option<Whole>, ReassemblyError> {
    let (mut scanner, mut at) = (Scanner::default(), 0);
    loop {
        let rest = &wire[at..];
        match scanner.scan(rest).unwrap() {
            Step::Head(spans) => {
                reassembly.head_elsewhere(spans.view(rest), now)?;
                at += spans.used();
            }
            Step::Body { used } => {
                let place = reassembly.elsewhere().unwrap();
                reassembly.body(&rest[..used])?;
                put(place, &rest[..used]);
                at += used;
            }
            Step::End { flag, .. } => return reassembly.end(flag, now),
            step @ (Step::More | Step::Clash) => panic!("{step:?}"),
        }
    }
}

fn received(wire: &[u8], limits: Limits) -> Result<Vec<Whole>, ReassemblyError> {
    feed(&mut Reassembly::new(limits), wire, Instant::now())
}

fn feed(reassembly: &mut Reassembly, wire: &[u8], now: Instant) -> Result<Vec<Whole>, ReassemblyError> {
    let (mut scanner, mut at, mut heard) = (Scanner::default(), 0, Vec::new());
    while at < wire.len() {
        let rest = &wire[at..];
        match scanner.scan(rest).unwrap() {
            Step::Head(spans) => {
                let head: Head<'_> = spans.view(rest);
                assert_eq!(head.fault(), None);
                reassembly.head(head, now)?;
                at += spans.used();
            }
            Step::Body { used } => {
                reassembly.body(&rest[..used])?;
                at += used;
            }
            Step::End { used, flag } => {
                heard.extend(reassembly.end(flag, now)?);
                at += used;
            }
            step @ (Step::More | Step::Clash) => panic!("{step:?}"),
        }
    }
    Ok(heard)
}
