//! Page messages to people who are away: kept, in order, until they return, and delivered once (decisions 1–4).

use std::time::{Duration, SystemTime};

use client::{Answer, Options, Outgoing, Transport};
use support::Phone;
use support::phone::Wanted;

use crate::house::{aor, count, house, password, wait_until};
use crate::person::Person;

const QUIET: Duration = Duration::from_millis(800);

#[test]
fn letters_wait_in_order_with_their_senders_and_their_times() {
    let node = house(&[], &["alice", "bob", "carol"]);
    let (alice, carol) = (Person::new(&node, "alice", Transport::Udp), Person::new(&node, "carol", Transport::Tcp));
    let began = SystemTime::now() - Duration::from_secs(2); // a Date has whole seconds
    for number in 0..20 {
        let sender = if number % 3 == 0 { &carol } else { &alice };
        assert_eq!(sender.writes("bob", &format!("letter {number}")).status, 202);
    }
    let ended = SystemTime::now() + Duration::from_secs(1);
    let mut bob = Person::online(&node, "bob", Transport::Tcp);
    for number in 0..20 {
        let letter = bob.hears();
        assert_eq!(letter.text, Some(format!("letter {number}")));
        assert_eq!(letter.from, aor(if number % 3 == 0 { "carol" } else { "alice" }), "letter {number}");
        let date = letter.date.expect("a letter says when it was written");
        assert!(date >= began && date <= ended, "letter {number} of {date:?}");
    }
    bob.unregister();
    bob.register();
    bob.hears_nothing(QUIET);
}

#[test]
fn what_is_written_while_letters_wait_comes_behind_them() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    for text in ["one", "two"] {
        assert_eq!(alice.message(&aor("bob"), text).status(), Some(202));
    }
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    let first = bob.peer.expect_request("MESSAGE");
    // Bob is here, but has not taken the first letter yet: the third waits its turn.
    assert_eq!(alice.message(&aor("bob"), "three").status(), Some(202));
    bob.peer.answer(&first, 200, "OK");
    let rest = [bob.expect_message().text(), bob.expect_message().text()];
    assert_eq!((first.text().as_str(), rest), ("one", ["two".to_owned(), "three".to_owned()]));
    wait_until("the mailbox is empty", || count(&node, "parlour_letters_delivered_total") >= 3.0);
    let fourth = alice_signed(&mut alice, b"four");
    alice.peer.send(&fourth);
    assert_eq!(bob.expect_message().text(), "four");
    alice.peer.expect_status(200);
}

#[test]
fn a_client_that_says_it_cannot_now_or_says_nothing_counts_as_away() {
    let node = house(&[("deferred.silence_seconds", "1")], &["alice", "bob"]);
    let alice = Person::new(&node, "alice", Transport::Udp);
    for (round, answer) in
        [Answer::Status(480), Answer::Status(408), Answer::Status(503), Answer::Silence].into_iter().enumerate()
    {
        let mut bob = Person::with(&node, "bob", Transport::Udp, Options { answer, ..Options::default() });
        bob.register();
        let text = format!("round {round}");
        assert_eq!(alice.writes("bob", &text).status, 202, "{answer:?}");
        bob.unregister();
        let mut back = Person::online(&node, "bob", Transport::Udp);
        assert_eq!(back.hears().text, Some(text), "{answer:?}");
        bob.hears_nothing(Duration::from_millis(50));
        back.unregister();
    }
}

#[test]
fn a_receiver_who_answers_late_has_it_and_gets_it_no_second_time() {
    let node = house(&[("deferred.silence_seconds", "1")], &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    assert_eq!(alice.message(&aor("bob"), "take your time").status(), Some(202));
    let offered = bob.peer.expect_request("MESSAGE");
    bob.peer.answer(&offered, 200, "OK"); // behind the 202: the letter is taken back
    while bob.peer.hear(QUIET).is_some() {} // what was sent again before that
    bob.register();
    if let Some(again) = bob.peer.hear_where(QUIET, |heard| heard.method() == Some("MESSAGE")) {
        assert_eq!(again.header("via"), offered.header("via"), "only the same transaction may come again: {again}");
    }
}

#[test]
fn a_letter_whose_time_is_over_is_not_delivered() {
    let node = house(&[], &["alice", "bob"]);
    let alice = Person::new(&node, "alice", Transport::Udp);
    // Date has whole seconds: what expires in one may be over when it comes.
    assert_eq!(alice.says("bob", Outgoing::text("soon stale").expiring_in(Duration::from_secs(3))).status, 202);
    assert_eq!(alice.says("bob", Outgoing::text("good for long").expiring_in(Duration::from_secs(600))).status, 202);
    wait_until("a letter has expired", || count(&node, "parlour_letters_failed_total") >= 1.0);
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    assert_eq!(bob.hears().text.as_deref(), Some("good for long"));
    bob.hears_nothing(QUIET);
}

#[test]
fn what_expires_at_once_is_told_or_lost_but_never_kept() {
    // RFC 3428 §7
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let to = aor("bob");
    let lines = "Content-Type: text/plain\r\nExpires: 0\r\n"; // and no Date: from its receipt on
    let mut says = |text: &str| {
        let now = Wanted { method: "MESSAGE", uri: &to, to: &to, lines, body: text.as_bytes() };
        alice.request(&now).and_then(|answer| answer.status())
    };
    assert_eq!(says("now or never"), Some(480));
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    bob.hears_nothing(QUIET);
    assert_eq!(says("now"), Some(200));
    assert_eq!(bob.hears().text.as_deref(), Some("now"));
    assert_eq!(count(&node, "parlour_letters_stored_total"), 0.0);
}

#[test]
fn a_full_mailbox_is_480_and_what_is_in_it_stays() {
    let node = house(&[("deferred.messages_per_user", "3")], &["alice", "bob", "carol"]);
    let alice = Person::new(&node, "alice", Transport::Udp);
    let statuses: Vec<u16> = (0..5).map(|number| alice.writes("bob", &format!("letter {number}")).status).collect();
    assert_eq!(statuses, [202, 202, 202, 480, 480]);
    assert_eq!(alice.writes("carol", "another mailbox").status, 202);
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    assert_eq!(bob.hears_texts(3), ["letter 0", "letter 1", "letter 2"]);
    bob.hears_nothing(QUIET);
    bob.unregister();
    assert_eq!(alice.writes("bob", "there is room again").status, 202);
}

#[test]
fn a_mailbox_has_a_limit_in_octets_too() {
    let node = house(&[("deferred.bytes_per_user", "6000")], &["alice", "bob"]);
    let alice = Person::new(&node, "alice", Transport::Tcp);
    let statuses: Vec<u16> = (0..3).map(|_| alice.writes("bob", &"x".repeat(2_000)).status).collect();
    assert_eq!(statuses, [202, 202, 480]);
}

#[test]
fn a_repeat_of_a_kept_message_is_answered_202_and_kept_once() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    alice.message(&aor("alice"), "to be challenged once");
    let mut sent = Vec::new();
    for _ in 0..2 {
        let letter = alice_signed(&mut alice, b"say it once");
        sent.push(String::from_utf8(letter).expect("text"));
    }
    // The same Call-ID, CSeq and From tag as before, in a new transaction with fresh credentials (decision 3).
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let again = ["Call-ID:", "CSeq:"].iter().fold(sent[1].clone(), |text, name| {
        let ours = line(&text, name);
        text.replace(&ours, &line(&sent[0], name))
    });
    for request in [sent[0].clone(), again] {
        alice.peer.send(request.as_bytes());
        alice.peer.expect_status(202);
    }
    assert_eq!(
        (count(&node, "parlour_letters_stored_total"), count(&node, "parlour_letters_repeated_total")),
        (2.0, 1.0),
        "one to alice, one to bob"
    );
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    assert_eq!(bob.hears().text.as_deref(), Some("say it once"));
    bob.hears_nothing(QUIET);
}

#[test]
fn a_typing_notice_is_never_kept() {
    let node = house(&[], &["alice", "bob"]);
    let alice = Person::new(&node, "alice", Transport::Udp);
    let typing = "<?xml version=\"1.0\"?><isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state></isComposing>";
    let answer = alice.says("bob", Outgoing::of_type("application/im-iscomposing+xml", typing.as_bytes().to_vec()));
    assert_ne!(answer.status, 202, "a promise that nobody keeps");
    assert_eq!(count(&node, "parlour_letters_stored_total"), 0.0);
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    bob.hears_nothing(QUIET);
    let again = alice.says("bob", Outgoing::of_type("application/im-iscomposing+xml", typing.as_bytes().to_vec()));
    assert_eq!(again.status, 200, "to somebody who is here it is relayed");
}

#[test]
fn a_mailbox_of_a_removed_user_is_gone() {
    let node = house(&[], &["alice", "bob"]);
    let alice = Person::new(&node, "alice", Transport::Udp);
    assert_eq!(alice.writes("bob", "for the old bob").status, 202);
    assert_eq!(node.send("DELETE", "/users/sip:bob@example.com", "").status, 204);
    assert_eq!(alice.writes("bob", "still there?").status, 404);
    crate::house::add_users(&node, &["bob"]);
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    bob.hears_nothing(QUIET);
}

fn alice_signed(alice: &mut Phone, body: &[u8]) -> Vec<u8> {
    let to = aor("bob");
    let wanted = Wanted { method: "MESSAGE", uri: &to, to: &to, lines: "Content-Type: text/plain\r\n", body };
    alice.signed(&wanted)
}
