//! Whatever comes, however it is cut: no panic, the same messages, and nothing lost on the way through.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sip::{
    Contacts, Delta, Forward, Layout, Message, Name, Progress, Reply, Step, Uri, View, parse_datagram, parse_stream,
};

const SEEDS: [&[u8]; 8] = [
    include_bytes!("rfc4475/wsinv.dat"),
    include_bytes!("rfc4475/intmeth.dat"),
    include_bytes!("rfc4475/esc01.dat"),
    include_bytes!("rfc4475/longreq.dat"),
    include_bytes!("rfc4475/mpart01.dat"),
    include_bytes!("rfc4475/unreason.dat"),
    include_bytes!("rfc4475/badinv01.dat"),
    include_bytes!("rfc5118/ipv4-mapped-ipv6.dat"),
];

/// Header lines that leave no trace of order or length in what a message means.
fn line() -> impl Strategy<Value = String> {
    let name =
        select(vec!["X-A", "Subject", "s", "Require", "Route", "Date", "Authorization", "Supported", "v", "Via"]);
    let value = select(vec![
        "",
        "a",
        "a, b",
        "a,\r\n b",
        "\"x, \\\" y\", <sip:a,b@c>;q=0.5",
        ";;,;",
        "  \t z",
        "SIP/2.0/UDP h;branch=z9hG4bKq",
    ]);
    let gap = select(vec![":", ": ", " : ", ":\r\n ", ":\t"]);
    (name, gap, value).prop_map(|(name, gap, value)| format!("{name}{gap}{value}\r\n"))
}

const REQUESTS: [&str; 2] = ["MESSAGE sip:bob@example.com SIP/2.0", "OPTIONS sip:[::1] SIP/2.0"];
const RESPONSES: [&str; 2] = ["SIP/2.0 200 OK", "SIP/2.0 480 "];

/// A whole message that fits a stream: one of these start lines, odd header lines and any body.
fn message(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (select(starts), vec(line(), 0..8), vec(line(), 0..4), vec(any::<u8>(), 0..200)).prop_map(
        |(start, above, below, body)| {
            let fixed =
                "Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: sip:c@d\r\nCall-ID: 1@2\r\nCSeq: 1 MESSAGE\r\n";
            let via = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n";
            let length = format!("Content-Length: {}\r\n\r\n", body.len());
            let head = [start, "\r\n", via, &above.concat(), fixed, &below.concat(), &length].concat();
            [head.as_bytes(), &body].concat()
        },
    )
}

/// Everything that can be asked of a message, and everything that can be made of it.
fn look(view: View<'_>) {
    let _ = (view.bytes(), view.method_text(), view.request_uri(), view.reason(), view.status(), view.body());
    for name in [Name::Via, Name::Contact, Name::Route, Name::Authorization, Name::Subject, Name::Other] {
        let _ = (view.first(name), view.count(name), view.values(name).count(), view.other(name.as_str()));
    }
    let _ = (view.top_via(), view.call_id(), view.cseq(), view.max_forwards(), view.expires(), view.content_type());
    let _ =
        (view.check_request(), Uri::parse(view.request_uri()).map(|uri| (uri.aor(), uri.addr(), uri.same_as(&uri))));
    for address in [view.from(), view.to()].into_iter().flatten() {
        let _ = (address.tag(), address.q(), address.expires(), address.parsed_uri());
    }
    if let Ok(Contacts::List(list)) = view.contacts() {
        assert!(
            list.iter().all(|one| one.parsed_uri().is_ok_and(|uri| uri.text == one.uri) || one.parsed_uri().is_err())
        );
    }
    let mut out = Vec::new();
    sip::reply(
        &mut out,
        view,
        &Reply { status: 400, to_tag: "t", source: "[::1]:5060".parse().ok(), ..Reply::default() },
    );
}

fn read(bytes: &[u8]) {
    let mut layout = Layout::default();
    let whole = parse_datagram(bytes, &mut layout).is_ok();
    let view = layout.view(bytes);
    look(view);
    if whole {
        let mut out = Vec::new();
        let how = Forward { received: "192.0.2.1:5".parse().ok(), add: b"A: b\r\n", strip: &[Name::Subject], ..pass() };
        sip::forward_request(&mut out, view, &how);
        sip::forward_response(&mut out, view);
        Delta::of(view).write(&mut out, view, None);
        assert_eq!(Message::copy_of(view).view().bytes(), view.bytes());
    }
    let _ = parse_stream(bytes, &mut Progress::default(), &mut layout);
}

fn pass() -> Forward<'static> {
    Forward {
        uri: b"sip:x",
        via: b"SIP/2.0/UDP us;branch=z9hG4bKz",
        max_forwards: 70,
        strip: &[],
        received: None,
        add: b"",
        record: b"",
    }
}

/// What a connection hears when its octets arrive in these pieces.
fn heard(pieces: &[&[u8]]) -> Vec<String> {
    let (mut buffer, mut progress, mut layout, mut events) =
        (Vec::new(), Progress::default(), Layout::default(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (event, used) = match parse_stream(&buffer, &mut progress, &mut layout) {
                Ok(Step::More) => break,
                Ok(Step::Ping { used }) => ("ping".into(), used),
                Ok(Step::Skip { used }) => ("skip".into(), used),
                Ok(Step::Message { used }) => {
                    let view = layout.view(&buffer);
                    assert_eq!(view.bytes(), &buffer[..used]);
                    (format!("{} fields, body {:?}", view.fields().len(), view.body()), used)
                }
                Err(error) => {
                    events.push(error.to_string());
                    return events;
                }
            };
            events.push(event);
            buffer.drain(..used);
        }
    }
    events
}

proptest! {
    #[test]
    fn a_stream_reads_the_same_however_the_wire_cuts_it(
        parts in vec(prop_oneof![3 => message(&REQUESTS), 2 => message(&RESPONSES), 1 => Just(b"\r\n".to_vec()), 1 => Just(b"\r\n\r\n".to_vec())], 1..5),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream = parts.concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).chain([0, stream.len()]).collect();
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let whole = heard(&[&stream]);
        prop_assert_eq!(&heard(&pieces), &whole);
        prop_assert_eq!(whole.iter().filter(|event| event.contains("fields")).count(), parts.iter().filter(|part| part.len() > 4).count());
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(heard(&octets), whole);
    }

    #[test]
    fn random_octets_harm_nobody(bytes in vec(any::<u8>(), 0..600)) {
        read(&bytes);
    }

    #[test]
    fn words_of_sip_in_any_order_harm_nobody(words in vec(select(vec![
        "MESSAGE", " ", "sip:a@b", "SIP/2.0", "\r\n", "\r\n", "Via", "To", "f", "Contact", ":", ";", ",", "=", "\"", "<", ">", "\\", "[", "]",
        "@", "%", "*", "200", "Content-Length", "5", "/", "\t", "tag", "rport", "received", "q",
    ]), 0..80)) {
        read(format!("OPTIONS sip:a SIP/2.0\r\n{}", words.concat()).as_bytes());
        read(words.concat().as_bytes());
    }

    #[test]
    fn damaged_messages_harm_nobody(
        seed in select(SEEDS.to_vec()),
        damage in vec((any::<Index>(), prop_oneof![any::<u8>(), select(b"\r\n :;,<>\"[]@%\\".to_vec())], 0..3u8), 1..12),
    ) {
        let mut bytes = seed.to_vec();
        for (place, byte, kind) in damage {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        read(&bytes);
    }

    #[test]
    fn forward_then_pop_gives_the_original(bytes in message(&REQUESTS)) {
        let mut layout = Layout::default();
        parse_datagram(&bytes, &mut layout).unwrap();
        let view = layout.view(&bytes);
        let (mut on, mut back) = (Vec::new(), Vec::new());
        sip::forward_request(&mut on, view, &Forward { uri: view.request_uri(), ..pass() });
        parse_datagram(&on, &mut layout).unwrap();
        sip::forward_response(&mut back, layout.view(&on));
        prop_assert_eq!(String::from_utf8_lossy(&back), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn an_answer_finds_its_way_back_as_if_nobody_had_stood_between(bytes in message(&REQUESTS), body in vec(any::<u8>(), 0..50)) {
        let (mut layout, mut copy) = (Layout::default(), Layout::default());
        parse_datagram(&bytes, &mut layout).unwrap();
        let view = layout.view(&bytes);
        let how = Reply { status: 200, to_tag: "t", lines: b"Server: x\r\n", body: &body, ..Reply::default() };
        let (mut on, mut answer, mut back, mut direct, mut repeated) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        sip::forward_request(&mut on, view, &pass());
        parse_datagram(&on, &mut copy).unwrap();
        sip::reply(&mut answer, copy.view(&on), &how);
        parse_datagram(&answer, &mut copy).unwrap();
        sip::forward_response(&mut back, copy.view(&answer));
        sip::reply(&mut direct, view, &how);
        prop_assert_eq!(String::from_utf8_lossy(&back), String::from_utf8_lossy(&direct));
        // Kept as a delta and written again for the repeated request, it is the same once more.
        Delta::of(copy.view(&answer)).write(&mut repeated, view, None);
        prop_assert_eq!(repeated, direct);
    }
}
