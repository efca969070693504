//! Page messages to people who are there (RFC 3428): relayed, once, to every client of theirs, with one answer back.

use std::time::Duration;

use client::{Answer, Options, Outgoing, Transport};
use support::phone::Wanted;
use support::{Node, Phone};

use crate::house::{aor, count, house, password, wait_until};
use crate::person::Person;

const QUIET: Duration = Duration::from_millis(800);

#[test]
fn two_people_write_to_each_other_by_every_pair_of_transports() {
    let node = house(&[], &["alice", "bob"]);
    let ways = [Transport::Udp, Transport::Tcp];
    for (ours, theirs) in ways.into_iter().flat_map(|ours| ways.map(|theirs| (ours, theirs))) {
        let (mut alice, mut bob) = (Person::online(&node, "alice", ours), Person::online(&node, "bob", theirs));
        let text = format!("Grüße by {ours} to {theirs}: 你好 😀");
        assert_eq!(alice.writes("bob", &text).status, 200, "{ours} to {theirs}");
        let heard = bob.hears();
        assert_eq!((heard.text.as_deref(), heard.from), (Some(text.as_str()), aor("alice")));
        assert_eq!(bob.writes("alice", "and back").status, 200, "{theirs} to {ours}");
        assert_eq!(alice.hears().text.as_deref(), Some("and back"));
        alice.unregister();
        bob.unregister();
    }
}

#[test]
fn a_hundred_messages_come_in_order_and_each_once() {
    let node = house(&[], &["alice", "bob"]);
    let (alice, mut bob) =
        (Person::online(&node, "alice", Transport::Tcp), Person::online(&node, "bob", Transport::Udp));
    let texts: Vec<String> = (0..100).map(|number| format!("number {number}")).collect();
    for text in &texts {
        assert_eq!(alice.writes("bob", text).status, 200, "{text}");
    }
    assert_eq!(bob.hears_texts(100), texts);
    bob.hears_nothing(QUIET);
}

#[test]
fn every_client_of_a_user_gets_it_and_the_sender_gets_one_answer() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let mut clients = [Transport::Udp, Transport::Tcp, Transport::Udp].map(|way| Person::online(&node, "bob", way));
    // One that refuses does not spoil it (RFC 3261 §16.7): the best answer wins.
    let busy = Options { answer: Answer::Status(486), ..Options::default() };
    let busy = Person::with(&node, "bob", Transport::Udp, busy);
    busy.register();
    assert_eq!(alice.message(&aor("bob"), "to all of you").status(), Some(200));
    for client in &mut clients {
        assert_eq!(client.hears().text.as_deref(), Some("to all of you"));
    }
    alice.peer.expect_silence(QUIET);
}

#[test]
fn what_the_receiver_answers_is_what_the_sender_hears() {
    let node = house(&[], &["alice", "bob"]);
    let alice = Person::new(&node, "alice", Transport::Udp);
    for status in [403, 415, 486, 603] {
        let options = Options { answer: Answer::Status(status), ..Options::default() };
        let bob = Person::with(&node, "bob", Transport::Tcp, options);
        bob.register();
        assert_eq!(alice.writes("bob", "hi").status, status);
        bob.unregister();
    }
}

#[test]
fn contacts_of_a_lower_q_are_asked_when_the_higher_ones_are_away() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let mut preferred = bob_with_q(&node, "1.0");
    let mut other = bob_with_q(&node, "0.3");
    let to = aor("bob");
    alice.message(&aor("alice"), "to be challenged once");
    let request = alice.signed(&text_to(&to, b"who takes it?"));
    alice.peer.send(&request);
    let offered = preferred.peer.expect_request("MESSAGE");
    other.expect_no_message(QUIET);
    preferred.peer.answer(&offered, 480, "Temporarily Unavailable");
    assert_eq!(other.expect_message().text(), "who takes it?");
    alice.peer.expect_status(200);
}

#[test]
fn a_request_sent_again_is_relayed_once_and_answered_again() {
    let node = house(&[], &["alice", "bob"]);
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    alice.message(&aor("alice"), "to be challenged once");
    let to = aor("bob");
    let request = alice.signed(&text_to(&to, b"once"));
    alice.peer.send(&request);
    let first = bob.peer.expect_request("MESSAGE");
    alice.peer.send(&request); // while the first is under way
    bob.peer.answer(&first, 200, "OK");
    alice.peer.expect_status(200);
    alice.peer.send(&request); // after the answer
    alice.peer.expect_status(200);
    wait_until("repeats are counted", || count(&node, "parlour_sip_repeats_total") >= 2.0);
    // RFC 3261 §17.1.2.2: until it is answered a receiver may see it again; never as another request.
    while let Some(again) = bob.peer.hear(QUIET) {
        assert_eq!((again.method(), again.header("via")), (Some("MESSAGE"), first.header("via")), "{again}");
    }
}

#[test]
fn a_receiver_whose_answer_is_lost_is_asked_again_with_the_same_request() {
    let node = house(&[], &["alice", "bob"]);
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    alice.message(&aor("alice"), "to be challenged once");
    let to = aor("bob");
    let request = alice.signed(&text_to(&to, b"can you hear me?"));
    alice.peer.send(&request);
    let first = bob.peer.expect_request("MESSAGE");
    let again = bob.peer.expect_request("MESSAGE"); // timer E, RFC 3261 §17.1.2.2
    assert_eq!(again.raw, first.raw);
    bob.peer.answer(&again, 200, "OK");
    alice.peer.expect_status(200);
}

#[test]
fn unknown_users_and_other_domains_are_404() {
    let node = house(&[], &["alice"]);
    let alice = Person::new(&node, "alice", Transport::Udp);
    for nobody in ["nobody", "sip:bob@elsewhere.example", "tel:+4930123456"] {
        assert_eq!(alice.writes(nobody, "hello?").status, 404, "{nobody}");
    }
}

#[test]
fn a_forged_from_is_403_and_nothing_from_a_stranger_goes_anywhere() {
    let node = house(&[], &["alice", "bob", "carol"]);
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    let mut carol = Phone::tcp(&node, "carol", &password("carol"));
    carol.message(&aor("carol"), "to be challenged once");
    let to = aor("bob");
    let forged = carol.signed(&text_to(&to, b"from alice, really"));
    let forged = String::from_utf8(forged).expect("text").replace("From: <sip:carol@", "From: <sip:alice@");
    carol.peer.send(forged.as_bytes());
    carol.peer.expect_status(403);

    let mut stranger = Phone::udp(&node, "alice", "no password");
    let refused = stranger.message(&aor("bob"), "let me in");
    assert_eq!(refused.status(), Some(407), "{refused}");
    let mut foreigner = Phone::new(support::Peer::udp(node.sip()), "elsewhere.example", "eve", "x");
    let refused = foreigner.message(&aor("bob"), "from afar");
    assert!(matches!(refused.status(), Some(403 | 404 | 407)), "{refused}");
    bob.expect_no_message(QUIET);
}

#[test]
fn a_body_above_the_limit_is_413_and_one_at_the_limit_is_carried() {
    let node = house(&[("limits.message_bytes", "4000")], &["alice", "bob"]);
    let mut bob = Person::online(&node, "bob", Transport::Tcp);
    for way in [Transport::Udp, Transport::Tcp] {
        let alice = Person::new(&node, "alice", way);
        assert_eq!(alice.says("bob", Outgoing::of_type("text/plain", vec![b'x'; 4_001])).status, 413, "{way}");
        assert_eq!(alice.says("bob", Outgoing::of_type("text/plain", vec![b'y'; 4_000])).status, 200, "{way}");
        assert_eq!(bob.hears().content, vec![b'y'; 4_000], "{way}");
    }
    bob.hears_nothing(QUIET);
}

#[test]
fn a_large_message_reaches_a_contact_that_registered_by_udp() {
    let node = house(&[], &["alice", "bob"]);
    let (alice, mut bob) = (Person::new(&node, "alice", Transport::Udp), Person::online(&node, "bob", Transport::Udp));
    let text = "0123456789".repeat(600);
    assert_eq!(alice.writes("bob", &text).status, 200);
    assert_eq!(bob.hears().text, Some(text));
}

#[test]
fn any_body_is_carried_octet_for_octet() {
    let node = house(&[], &["alice", "bob"]);
    let everything = Options { accept: vec!["*/*".to_owned()], ..Options::default() };
    let mut bob = Person::with(&node, "bob", Transport::Udp, everything);
    bob.register();
    let alice = Person::new(&node, "alice", Transport::Udp);
    let octets: Vec<u8> = (0..=255).chain(*b"\r\n\r\n\0").collect();
    assert_eq!(alice.says("bob", Outgoing::of_type("application/octet-stream", octets.clone())).status, 200);
    assert_eq!(bob.hears().body, octets);
}

#[test]
fn requests_to_the_server_itself_are_answered_by_it() {
    let node = house(&[], &["alice"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let status = |alice: &mut Phone, method: &str, lines: &str| {
        let wanted = Wanted { method, uri: "sip:example.com", to: "", lines, body: b"" };
        let answer = alice.request(&wanted).expect("an answer");
        (answer.status(), !answer.header("allow").is_empty(), answer.header("unsupported"))
    };
    assert_eq!(status(&mut alice, "OPTIONS", ""), (Some(200), true, String::new()));
    assert_eq!(status(&mut alice, "PUBLISH", "Event: x\r\n").0, Some(405));
    assert_eq!(status(&mut alice, "DANCE", "").0, Some(501));
    assert_eq!(status(&mut alice, "OPTIONS", "Require: no-such\r\n"), (Some(420), false, "no-such".to_owned()));
}

#[test]
fn a_message_whose_hops_are_over_is_483() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    alice.message(&aor("alice"), "to be challenged once");
    let to = aor("bob");
    let spent = alice.signed(&text_to(&to, b"too far"));
    let spent = String::from_utf8(spent).expect("text").replace("Max-Forwards: 70", "Max-Forwards: 0");
    alice.peer.send(spent.as_bytes());
    alice.peer.expect_status(483);
}

fn bob_with_q(node: &Node, q: &str) -> Phone {
    let mut bob = Phone::udp(node, "bob", &password("bob"));
    let (to, lines) = (aor("bob"), format!("Contact: <{}>;q={q}\r\nExpires: 600\r\n", bob.contact()));
    let register = Wanted { method: "REGISTER", uri: "sip:example.com", to: &to, lines: &lines, body: b"" };
    assert_eq!(bob.request(&register).and_then(|answer| answer.status()), Some(200));
    bob
}

fn text_to<'a>(to: &'a str, body: &'a [u8]) -> Wanted<'a> {
    Wanted { method: "MESSAGE", uri: to, to, lines: "Content-Type: text/plain\r\n", body }
}
