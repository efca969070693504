//! Delivery notifications (IMDN, RFC 5438): who asks is told, by the receiver's client or by the server.

use std::time::Duration;

use body::imdn::Wants;
use client::{Answer, Options, Outgoing, Transport};

use crate::house::house;
use crate::person::Person;

const QUIET: Duration = Duration::from_millis(800);

#[test]
fn the_receiver_s_client_tells_that_it_was_delivered() {
    let node = house(&[], &["alice", "bob"]);
    let (mut alice, mut bob) =
        (Person::online(&node, "alice", Transport::Udp), Person::online(&node, "bob", Transport::Tcp));
    let sent = alice.says("bob", asking(Wants::POSITIVE_DELIVERY));
    assert_eq!((sent.status, bob.hears().text.as_deref()), (200, Some("tell me")));
    let receipt = alice.hears_receipt();
    assert_eq!((receipt.status.as_str(), Some(receipt.message_id)), ("delivered", sent.message_id));
    alice.hears_nothing(QUIET);
}

#[test]
fn the_server_tells_that_it_keeps_a_letter_and_the_client_that_it_was_delivered() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Person::online(&node, "alice", Transport::Udp);
    let sent = alice.says("bob", asking(Wants::PROCESSING | Wants::POSITIVE_DELIVERY));
    assert_eq!(sent.status, 202);
    let stored = alice.hears_receipt();
    assert_eq!(
        (stored.status.as_str(), &stored.message_id),
        ("stored", sent.message_id.as_ref().expect("it was asked for"))
    );
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    assert_eq!(bob.hears().text.as_deref(), Some("tell me"));
    let delivered = alice.hears_receipt();
    assert_eq!((delivered.status.as_str(), Some(delivered.message_id)), ("delivered", sent.message_id));
    alice.hears_nothing(QUIET);
}

#[test]
fn the_server_tells_that_a_letter_expired() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Person::online(&node, "alice", Transport::Tcp);
    let sent = alice.says("bob", asking(Wants::NEGATIVE_DELIVERY).expiring_in(Duration::from_secs(1)));
    assert_eq!(sent.status, 202);
    let failed = alice.hears_receipt();
    assert_eq!((failed.status.as_str(), Some(failed.message_id)), ("failed", sent.message_id));
}

#[test]
fn the_server_tells_that_a_letter_was_refused_after_it_had_been_accepted() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Person::online(&node, "alice", Transport::Udp);
    let sent = alice.says("bob", asking(Wants::NEGATIVE_DELIVERY | Wants::POSITIVE_DELIVERY));
    assert_eq!(sent.status, 202);
    let bob = Person::with(&node, "bob", Transport::Udp, Options { answer: Answer::Status(603), ..Options::default() });
    bob.register();
    let failed = alice.hears_receipt();
    assert_eq!((failed.status.as_str(), Some(failed.message_id)), ("failed", sent.message_id));
    alice.hears_nothing(QUIET);
}

#[test]
fn a_refusal_that_the_sender_hears_himself_is_not_told_twice() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Person::online(&node, "alice", Transport::Udp);
    let bob = Person::with(&node, "bob", Transport::Udp, Options { answer: Answer::Status(603), ..Options::default() });
    bob.register();
    assert_eq!(alice.says("bob", asking(Wants::all())).status, 603);
    alice.hears_nothing(QUIET);
}

#[test]
fn a_notice_waits_for_a_sender_who_is_away() {
    let node = house(&[], &["alice", "bob"]);
    let sender = Person::new(&node, "alice", Transport::Udp);
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    let sent = sender.says("bob", asking(Wants::POSITIVE_DELIVERY));
    assert_eq!((sent.status, bob.hears().text.as_deref()), (200, Some("tell me")));
    let mut alice = Person::online(&node, "alice", Transport::Tcp);
    let receipt = alice.hears_receipt();
    assert_eq!((receipt.status.as_str(), Some(receipt.message_id)), ("delivered", sent.message_id));
}

fn asking(wants: Wants) -> Outgoing {
    Outgoing::text("tell me").asking_for(wants)
}
