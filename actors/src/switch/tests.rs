//! The switch over sockets that take what they are told to take: what goes in at one leg comes out at the other, however
//! the wire cuts it, and whoever is slow.

use std::sync::Arc;
use std::time::Instant;

use base::IdMaker;
use msrp::{Scanner, Step};

use super::ingress::Ingress;
use super::turn::{Read, Turn};
use super::{Pair, Place, Switch};
use crate::hop::ConnId;
use crate::message::{SessionKey, Side};
use crate::outbox::Outbox;
use crate::testing::Socket;

struct End {
    wire: Socket,
    outbox: Arc<Outbox>,
    ingress: Ingress,
    held: Vec<u8>,
}

impl End {
    fn new(id: u32, room: usize) -> Self {
        let wire = Socket::new(room);
        let outbox = Outbox::new(ConnId(id), Some(Box::new(wire.clone())));
        Self { ingress: Ingress::new(outbox.clone(), Instant::now()), outbox, wire, held: Vec::new() }
    }
}

struct World {
    switch: Switch,
    pair: Arc<Pair>,
    read: Read,
    turn: Turn,
}

const ALICE: &str = "msrp://alice.invalid:7000/a1b2c3;tcp";
const BOB: &str = "msrp://bob.invalid:8000/d4e5f6;tcp";

impl World {
    fn new() -> Self {
        let place = Place { host: "127.0.0.1".into(), port: 2855 };
        let switch = Switch::new(&IdMaker::new([5; 16]), Some(place));
        let pair = switch.open(SessionKey { shard: 0, number: 1, secret: 2 }).unwrap();
        pair.set_their_path(Side::Caller, ALICE).unwrap();
        pair.set_their_path(Side::Callee, BOB).unwrap();
        Self { switch, pair, read: Read::new(80_000), turn: Turn::default() }
    }

    /// One read of a connection. `false`: it was cut off.
    fn feed(&mut self, end: &mut End, bytes: &[u8]) -> bool {
        let held = end.held.len();
        let room = self.read.room();
        room[..held].copy_from_slice(&end.held);
        room[held..held + bytes.len()].copy_from_slice(bytes);
        self.read.fill(held + bytes.len());
        let Ok(left) = end.ingress.read(&self.switch, &mut self.turn, &mut self.read, Instant::now()) else {
            return false;
        };
        let all = self.read.bytes();
        end.held = all[all.len() - left..].to_vec();
        true
    }

    fn send(&self, side: Side, tid: &str, more: &str, body: &str, flag: char) -> Vec<u8> {
        let from = if side == Side::Caller { ALICE } else { BOB };
        let to = self.pair.our_path(side);
        format!("MSRP {tid} SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n{more}Content-Type: text/plain\r\n\r\n{body}\r\n-------{tid}{flag}\r\n")
            .into_bytes()
    }

    /// An empty SEND, which only binds.
    fn bind(&mut self, end: &mut End, side: Side) {
        let from = if side == Side::Caller { ALICE } else { BOB };
        let to = self.pair.our_path(side);
        let frame = format!(
            "MSRP bind1234 SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: bind1\r\nByte-Range: 1-0/0\r\n-------bind1234$\r\n"
        );
        assert!(self.feed(end, frame.as_bytes()));
        assert_eq!(heard(&end.wire.take()), ["200 "]);
    }

    fn both(room: usize) -> (Self, End, End) {
        let (mut world, mut alice, mut bob) = (Self::new(), End::new(1, 1 << 30), End::new(2, 1 << 30));
        world.bind(&mut alice, Side::Caller);
        world.bind(&mut bob, Side::Callee);
        bob.wire.give_room(room);
        (world, alice, bob)
    }
}

/// What stands in a stream, a text a frame: `SEND$ body`, `200`, `REPORT 413`; fails where it is no MSRP.
fn heard(stream: &[u8]) -> Vec<String> {
    let (mut scanner, mut at, mut frames) = (Scanner::default(), 0, Vec::new());
    let (mut what, mut body) = (String::new(), Vec::new());
    while at < stream.len() {
        match scanner.scan(&stream[at..]).expect("a frame") {
            Step::Head(spans) => {
                let head = spans.view(&stream[at..]);
                what = match (head.status(), head.report_status()) {
                    (Some(status), _) => status.to_string(),
                    (None, Some(report)) => format!("REPORT {}", report.code),
                    (None, None) => String::from_utf8_lossy(head.method_text()).into_owned(),
                };
                at += spans.used();
            }
            Step::Body { used } => {
                body.extend_from_slice(&stream[at..at + used]);
                at += used;
            }
            Step::End { used, flag } => {
                at += used;
                let flag = if what.starts_with("SEND") { char::from(flag.octet()).to_string() } else { String::new() };
                frames.push(format!("{what}{flag} {}", String::from_utf8_lossy(&std::mem::take(&mut body))));
            }
            Step::More | Step::Clash => break,
        }
    }
    assert_eq!(at, stream.len(), "an unfinished frame: {}", String::from_utf8_lossy(&stream[at..]));
    frames
}

/// The bodies of all SENDs, one behind the other.
fn bodies(frames: &[String]) -> String {
    frames.iter().filter_map(|frame| Some(frame.strip_prefix("SEND")?[2..].to_owned())).collect()
}

#[test]
fn a_message_comes_out_at_the_other_leg_with_our_paths_and_is_answered_at_once() {
    let (mut world, mut alice, bob) = World::both(1 << 30);
    let frame =
        world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\nByte-Range: 1-5/5\r\nX-Own: kept\r\n", "Hello", '$');
    assert!(world.feed(&mut alice, &frame));
    let stream = bob.wire.take();
    let text = String::from_utf8_lossy(&stream).into_owned();
    assert_eq!(heard(&stream), ["SEND$ Hello"]);
    assert!(
        text.contains(&format!("To-Path: {BOB}\r\nFrom-Path: {}\r\n", world.pair.our_path(Side::Callee))),
        "{text}"
    );
    assert!(
        text.contains("X-Own: kept\r\n") && text.contains("Byte-Range: 1-5/5\r\n") && !text.contains("abcd1234"),
        "{text}"
    );
    assert_eq!(heard(&alice.wire.take()), ["200 "]);
}

#[test]
fn it_comes_out_the_same_however_the_wire_cuts_it() {
    let long = "x".repeat(3_000);
    for body in ["", "Hello", "ends in hyphens\r\n-------", &long] {
        let (world, ..) = World::both(0);
        let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", body, '$');
        let step = if frame.len() > 1_000 { 37 } else { 1 };
        for cut in (1..frame.len()).step_by(step) {
            let (mut world, mut alice, bob) = World::both(1 << 30);
            let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", body, '$');
            let (left, right) = frame.split_at(cut);
            assert!(world.feed(&mut alice, left) && world.feed(&mut alice, right), "cut at {cut}");
            let frames = heard(&bob.wire.take());
            assert_eq!((bodies(&frames).as_str(), frames.len()), (body, 1), "cut at {cut}");
            assert_eq!(heard(&alice.wire.take()), ["200 "], "cut at {cut}");
        }
    }
}

#[test]
fn a_chunk_under_way_gives_way_and_goes_on_with_a_new_head() {
    // RFC 4975 §7.1.1, decisions D10: Alice stalls within a chunk; Bob's SEND is answered at once.
    let (mut world, mut alice, mut bob) = World::both(1 << 30);
    let body = "a".repeat(5_000);
    let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\nByte-Range: 1-*/5000\r\n", &body, '$');
    let (left, right) = frame.split_at(2_500);
    assert!(world.feed(&mut alice, left));
    let answer = world.send(Side::Callee, "bobs1234", "Message-ID: mess2\r\n", "quick", '$');
    assert!(world.feed(&mut bob, &answer));
    assert_eq!(heard(&alice.wire.take()), ["SEND$ quick"]);
    assert!(world.feed(&mut alice, right));
    let frames = heard(&bob.wire.take());
    assert_eq!(
        frames.iter().map(|frame| frame.split(' ').next().unwrap()).collect::<Vec<_>>(),
        ["SEND+", "200", "SEND$"]
    );
    assert_eq!(bodies(&frames), body);
}

#[test]
fn a_session_hears_its_peer_within_a_chunk_too() {
    // One chunk may take longer than a session may be idle.
    let (mut world, mut alice, _bob) = World::both(1 << 30);
    let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", &"a".repeat(9_000), '$');
    assert!(world.feed(&mut alice, &frame[..2_000]));
    for part in [&frame[2_000..4_000], &frame[4_000..6_000]] {
        let before = world.pair.last_heard();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(world.feed(&mut alice, part));
        assert!(world.pair.last_heard() > before);
    }
}

#[test]
fn a_part_that_gave_way_is_answered_before_its_sender_goes_on_and_nobody_is_told_that_it_failed() {
    // RFC 4975 §7.1.1: each part is a request with a response of its own, due from when it ended, whoever ended it.
    for status in ["200 OK", "413 Stop"] {
        let (mut world, mut alice, mut bob) = World::both(1 << 30);
        let frame = world.send(
            Side::Caller,
            "abcd1234",
            "Message-ID: mess1\r\nByte-Range: 1-*/5000\r\n",
            &"a".repeat(5_000),
            '$',
        );
        let (left, right) = frame.split_at(2_500);
        assert!(world.feed(&mut alice, left));
        let quick = world.send(Side::Callee, "bobs1234", "Message-ID: mess2\r\n", "quick", '$');
        assert!(world.feed(&mut bob, &quick));
        let first = answer_all(&bob.wire.take(), status);
        assert!(!first.is_empty() && world.feed(&mut bob, &first));
        assert!(world.feed(&mut alice, right));
        let second = answer_all(&bob.wire.take(), "200 OK");
        assert!(!second.is_empty() && world.feed(&mut bob, &second));
        assert_eq!(bob.ingress.poll_timeout(), None, "nothing is due from Bob any more");
        let late = Instant::now() + base::limits::MSRP_RESPONSE_TIME_MAX * 2;
        bob.ingress.overdue(&world.switch, &mut world.turn, &mut world.read, late);
        let alice_heard = heard(&alice.wire.take());
        let reports: Vec<_> = alice_heard.iter().filter(|frame| frame.starts_with("REPORT")).collect();
        assert_eq!(reports.len(), usize::from(status != "200 OK"), "{alice_heard:?}");
    }
}

/// Answers to every SEND that stands in a stream.
fn answer_all(stream: &[u8], status: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(stream);
    let tids = text.split("MSRP ").skip(1).filter_map(|frame| frame.split_once(" SEND\r\n"));
    let answers = tids.map(|(tid, rest)| {
        let field = |name: &str| rest.split(name).nth(1).unwrap().split("\r\n").next().unwrap();
        let (to, from) = (field("From-Path: "), field("To-Path: "));
        format!("MSRP {tid} {status}\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n-------{tid}$\r\n")
    });
    answers.collect::<String>().into_bytes()
}

#[test]
fn no_body_makes_us_emit_a_frame_that_we_did_not_cut() {
    // Decisions D11: the sender learns our id while the chunk is open, and writes its end-line.
    let (mut world, mut alice, bob) = World::both(1 << 30);
    let head = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", &"z".repeat(100), '$');
    let begun = &head[..head.len() - 20];
    assert!(world.feed(&mut alice, begun));
    let stream = bob.wire.take();
    let ours = String::from_utf8_lossy(&stream).split(' ').nth(1).unwrap().to_owned();
    let forged = format!(
        "\r\n-------{ours}$\r\nMSRP evil1234 SEND\r\nTo-Path: {BOB}\r\nFrom-Path: msrp://x:1/y;tcp\r\n-------evil1234$\r\n"
    );
    assert!(world.feed(&mut alice, forged.as_bytes()));
    assert!(world.feed(&mut alice, b"\r\n-------abcd1234$\r\n"));
    let all = [stream, bob.wire.take()].concat();
    let frames = heard(&all);
    assert!(frames.len() >= 2 && frames.iter().all(|frame| frame.starts_with("SEND")), "{frames:?}");
    assert!(bodies(&frames).ends_with(&forged), "it is all body");
}

#[test]
fn a_slow_receiver_holds_its_sender_and_loses_nothing() {
    let (mut world, mut alice, bob) = World::both(100);
    let body = "b".repeat(40_000);
    let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", &body, '$');
    let mut stream = Vec::new();
    for part in frame.chunks(9_000) {
        assert!(world.feed(&mut alice, part));
        assert!(world.turn.blocked.iter().any(|outbox| Arc::ptr_eq(outbox, &bob.outbox)), "the reader must wait");
        world.turn.blocked.clear();
        assert!(bob.outbox.waiting() < 20_000, "one turn waits, not more");
        while !bob.outbox.flush().unwrap() {
            stream.extend(bob.wire.take());
            bob.wire.give_room(777);
        }
        bob.wire.give_room(100);
    }
    stream.extend(bob.wire.take());
    assert_eq!(bodies(&heard(&stream)), body);
}

#[test]
fn a_read_buffer_that_was_lent_comes_back_when_nobody_has_a_share_of_it() {
    let mut read = Read::new(100);
    let first = read.room().as_ptr();
    read.fill(100);
    let share = read.share(10..20);
    let second = read.room().as_ptr();
    assert_ne!(first, second, "somebody still has a share of the first");
    read.fill(100);
    drop((share, read.share(0..5)));
    let third = read.room().as_ptr();
    assert!(third == first || third == second);
    read.fill(100);
    let _held = read.share(0..5);
    assert!([first, second].contains(&read.room().as_ptr()) && read.room().len() == 100);
}

#[test]
fn what_is_sent_before_the_other_side_is_there_waits_for_it() {
    // Decisions D9.
    let (mut world, mut alice, mut bob) = (World::new(), End::new(1, 1 << 30), End::new(2, 1 << 30));
    world.bind(&mut alice, Side::Caller);
    let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", "early", '$');
    assert!(world.feed(&mut alice, &frame));
    assert_eq!(world.turn.blocked.len(), 1, "the reader waits");
    let from = world.pair.our_path(Side::Callee).to_owned();
    let bind = format!(
        "MSRP bind1234 SEND\r\nTo-Path: {from}\r\nFrom-Path: {BOB}\r\nMessage-ID: bind1\r\nByte-Range: 1-0/0\r\n-------bind1234$\r\n"
    );
    assert!(world.feed(&mut bob, bind.as_bytes()));
    assert!(bob.outbox.flush().unwrap());
    let mut frames = heard(&bob.wire.take());
    frames.sort();
    assert_eq!(frames, ["200 ", "SEND$ early"]);
}

#[test]
fn who_connects_before_his_200_was_read_is_welcome() {
    let (mut world, mut bob) = (World::new(), End::new(2, 1 << 30));
    let place = Place { host: "127.0.0.1".into(), port: 2855 };
    world.switch = Switch::new(&IdMaker::new([6; 16]), Some(place));
    world.pair = world.switch.open(SessionKey { shard: 0, number: 2, secret: 3 }).unwrap();
    world.pair.set_their_path(Side::Caller, ALICE).unwrap();
    world.bind(&mut bob, Side::Callee);
    let frame = world.send(Side::Callee, "abcd1234", "Message-ID: mess1\r\n", "too early", '$');
    assert!(world.feed(&mut bob, &frame));
    assert_eq!(heard(&bob.wire.take()), ["481 "], "what carries something needs both paths");
    world.pair.set_their_path(Side::Callee, BOB).unwrap();
    let mut alice = End::new(1, 1 << 30);
    world.bind(&mut alice, Side::Caller);
    let frame = world.send(Side::Callee, "abcd1235", "Message-ID: mess2\r\n", "in time", '$');
    assert!(world.feed(&mut bob, &frame));
    assert_eq!(heard(&alice.wire.take()), ["SEND$ in time"]);
}

#[test]
fn who_moves_to_another_path_connects_anew_and_loses_nothing_meanwhile() {
    let (mut world, mut alice, mut bob) = World::both(1 << 30);
    let moved = "msrp://bob.invalid:9000/g7h8i9;tcp";
    world.pair.set_their_path(Side::Callee, moved).unwrap();
    assert!(!world.pair.is_bound(Side::Callee));
    assert!(bob.outbox.is_closed(), "the connection that he left carries nothing else");
    let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", "on the way", '$');
    assert!(world.feed(&mut alice, &frame));
    bob = End::new(3, 1 << 30);
    let to = world.pair.our_path(Side::Callee).to_owned();
    let bind = format!(
        "MSRP bind1234 SEND\r\nTo-Path: {to}\r\nFrom-Path: {moved}\r\nMessage-ID: bind1\r\nByte-Range: 1-0/0\r\n-------bind1234$\r\n"
    );
    assert!(world.feed(&mut bob, bind.as_bytes()));
    assert!(bob.outbox.flush().unwrap());
    let mut frames = heard(&bob.wire.take());
    frames.sort();
    assert_eq!(frames, ["200 ", "SEND$ on the way"]);
}

#[test]
fn strangers_thieves_and_other_methods_are_answered_and_nobody_else_notices() {
    let (mut world, mut alice, bob) = World::both(1 << 30);
    let mut thief = End::new(3, 1 << 30);
    let ours = world.pair.our_path(Side::Caller).to_owned();
    let ask = |method: &str, to: &str, more: &str| {
        format!("MSRP ask12345 {method}\r\nTo-Path: {to}\r\nFrom-Path: {ALICE}\r\n{more}-------ask12345$\r\n")
    };
    let unknown = ours.replace(&ours[ours.len() - 10..ours.len() - 4], "zzzzzz");
    for (frame, status) in [
        (ask("SEND", &unknown, "Message-ID: mess1\r\n"), vec!["481 "]),
        (ask("SEND", &ours, "Message-ID: mess1\r\n"), vec!["506 "]),
        (ask("AUTH", &ours, ""), vec!["501 "]),
        (ask("SEND", &unknown, "Message-ID: mess1\r\nFailure-Report: no\r\n"), vec![]),
        (ask("REPORT", &unknown, "Message-ID: mess1\r\nStatus: 000 200 OK\r\n"), vec![]),
    ] {
        assert!(world.feed(&mut thief, frame.as_bytes()));
        assert_eq!(heard(&thief.wire.take()), status, "{frame}");
    }
    let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", "mine", '$');
    assert!(world.feed(&mut alice, &frame));
    assert_eq!(heard(&bob.wire.take()), ["SEND$ mine"]);
    assert!(!world.feed(&mut thief, b"GET / HTTP/1.1\r\n\r\n"), "no MSRP: cut off");
}

#[test]
fn a_refusal_becomes_a_report_to_who_wants_one() {
    // RFC 4975 §7.1.2
    for (wish, reports) in [
        ("", vec!["200 ", "REPORT 413 "]),
        ("Failure-Report: partial\r\n", vec!["REPORT 413 "]),
        ("Failure-Report: no\r\n", vec![]),
    ] {
        let (mut world, mut alice, mut bob) = World::both(1 << 30);
        let frame = world.send(Side::Caller, "abcd1234", &format!("Message-ID: mess1\r\n{wish}"), "unwanted", '$');
        assert!(world.feed(&mut alice, &frame));
        let stream = bob.wire.take();
        let ours = String::from_utf8_lossy(&stream).split(' ').nth(1).unwrap().trim().to_owned();
        let refusal = format!(
            "MSRP {ours} 413 Stop\r\nTo-Path: {}\r\nFrom-Path: {BOB}\r\n-------{ours}$\r\n",
            world.pair.our_path(Side::Callee)
        );
        assert!(world.feed(&mut bob, refusal.as_bytes()));
        assert_eq!(heard(&alice.wire.take()), reports, "{wish}");
    }
}

#[test]
fn success_reports_pass_to_the_sender() {
    let (mut world, alice, mut bob) = World::both(1 << 30);
    let to = world.pair.our_path(Side::Callee).to_owned();
    let report = format!(
        "MSRP rep12345 REPORT\r\nTo-Path: {to}\r\nFrom-Path: {BOB}\r\nMessage-ID: mess1\r\nByte-Range: 1-5/5\r\nStatus: 000 200 OK\r\n-------rep12345$\r\n"
    );
    assert!(world.feed(&mut bob, report.as_bytes()));
    assert_eq!(heard(&alice.wire.take()), ["REPORT 200 "]);
    assert!(heard(&bob.wire.take()).is_empty(), "a REPORT is never answered");
}

#[test]
fn a_connection_that_ends_within_a_chunk_leaves_whole_frames_and_an_unbound_leg() {
    let (mut world, mut alice, bob) = World::both(1 << 30);
    let frame = world.send(Side::Caller, "abcd1234", "Message-ID: mess1\r\n", "never whole", '$');
    assert!(world.feed(&mut alice, &frame[..frame.len() - 12]));
    alice.ingress.end(&world.switch, &mut world.turn, &mut world.read);
    let frames = heard(&bob.wire.take());
    assert_eq!(frames.len(), 1);
    assert!(frames[0].starts_with("SEND# "), "{frames:?}");
    assert!(!world.pair.is_bound(Side::Caller) && world.pair.is_bound(Side::Callee));
    world.switch.close(&world.pair);
    assert!(world.switch.is_empty() && bob.outbox.is_closed());
}

#[test]
fn many_messages_of_one_read_leave_by_one_write() {
    let (mut world, mut alice, bob) = World::both(1 << 30);
    let frames: Vec<u8> = (0..20)
        .flat_map(|n| world.send(Side::Caller, &format!("abcd12{n:02}"), "Message-ID: mess1\r\n", &format!("{n}"), '$'))
        .collect();
    assert!(world.feed(&mut alice, &frames));
    assert_eq!(bodies(&heard(&bob.wire.take())), (0..20).map(|n| n.to_string()).collect::<String>());
    assert_eq!(heard(&alice.wire.take()).len(), 20);
}
