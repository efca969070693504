//! Users, alive, on the test's own thread: what their phones and their friends see.

use std::sync::Arc;
use std::time::Duration;

use base::{Aor, Partitions};
use sip::Name;
use storage::engine::faulty::Faulty;
use storage::engine::memory::Memory;
use storage::{Store, WallClock};

use crate::message::{Heard, Offer};
use crate::metrics::Count;
use crate::node::State;
use crate::supervise::Fall;
use crate::testing::{Ask, Living, account, aor, header, response_to, status};

const ALICE: u16 = 5081;
const BOB: u16 = 5082;

fn message(text: &str) -> Ask {
    Ask::message("alice", "bob", text)
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn faulty() -> (Store, Faulty) {
    let faulty = Faulty::new(1, Partitions::new(4), Arc::new(WallClock)).at_once();
    (Store::over(Arc::new(faulty.clone()), Arc::new(WallClock)), faulty)
}

async fn people(store: &Store, names: &[&str]) {
    for name in names {
        store.put_account(account(name), true).await.unwrap();
    }
}

#[actix::test]
async fn a_registration_is_durable_before_it_is_answered_and_seen() {
    let (store, disk) = faulty();
    people(&store, &["alice", "bob"]).await;
    let living = Living::over(store.clone(), |_| {}).await;
    disk.full(true);
    let refused = living.ask(BOB, &Ask::register("bob", "<sip:bob@127.0.0.1:5082>"), "bob").await;
    assert_eq!(status(&refused), 503);
    assert!(header(&refused, Name::RetryAfter).is_some());
    assert!(living.house.reach.get(&aor("bob")).unwrap().ways.is_empty());
    assert!(store.bindings(&aor("bob")).await.unwrap().is_empty());

    disk.full(false);
    let good =
        living.ask(BOB, &Ask { call_id: "r2".into(), ..Ask::register("bob", "<sip:bob@127.0.0.1:5082>") }, "bob").await;
    assert_eq!(status(&good), 200);
    assert_eq!(store.bindings(&aor("bob")).await.unwrap().len(), 1, "with the answer it is on the disk");
    assert_eq!(living.house.reach.get(&aor("bob")).unwrap().ways.len(), 1);
    let contact = header(&good, Name::Contact).unwrap();
    assert!(contact.starts_with("<sip:bob@127.0.0.1:5082>;expires=36"), "{contact}");
    assert!(header(&good, Name::Date).is_some());

    // A question changes nothing, an older request of the call is refused, and `*` takes all away.
    let asked = living.ask(BOB, &Ask { cseq: 2, ..Ask::register("bob", "") }, "bob").await;
    assert_eq!((status(&asked), header(&asked, Name::Contact).is_some()), (200, true));
    let old = Ask { call_id: "r2".into(), cseq: 1, ..Ask::register("bob", "<sip:bob@127.0.0.1:5082>") };
    assert_eq!(status(&living.ask(BOB, &old, "bob").await), 400);
    let gone = Ask { cseq: 9, ..Ask::register("bob", "*").line("Expires: 0") };
    assert_eq!(status(&living.ask(BOB, &gone, "bob").await), 200);
    assert!(store.bindings(&aor("bob")).await.unwrap().is_empty());
    assert!(living.house.reach.get(&aor("bob")).is_none_or(|row| row.ways.is_empty()));
}

#[actix::test]
async fn a_message_to_one_phone_is_relayed_and_to_several_forked() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    assert_eq!(living.register("bob", BOB).await, 200);
    living.send(ALICE, &message("one"), "alice").await;
    let relayed = living.take(BOB, 200).await;
    assert!(relayed.starts_with("MESSAGE sip:bob@127.0.0.1:5082 SIP/2.0\r\n") && body(&relayed) == "one");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);

    // To both; the first 2xx is the answer, and the only one.
    assert_eq!(living.register("bob", 5083).await, 200);
    living.send(ALICE, &message("two"), "alice").await;
    let first = living.wire.next(BOB).await;
    assert_eq!(body(&living.take(5083, 200).await), "two");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    living.hear(BOB, &response_to(&first, 486));
    // One refuses, the other is away: his refusal is the answer.
    living.send(ALICE, &message("three"), "alice").await;
    living.take(BOB, 480).await;
    living.take(5083, 603).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 603);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(living.wire.take(ALICE).is_empty());
}

#[actix::test]
async fn what_comes_for_somebody_absent_waits_and_is_delivered_in_order_when_he_comes() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    for text in ["one", "two", "three"] {
        let answer = living.ask(ALICE, &message(text), "alice").await;
        assert_eq!(status(&answer), 202, "{answer}");
    }
    // A typing notice is never stored; nobody is told of a message to nobody.
    let typing =
        message("<isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state></isComposing>");
    let typing = Ask {
        lines: "Max-Forwards: 70\r\nContent-Type: application/im-iscomposing+xml\r\n".into(),
        call_id: "typing".into(),
        ..typing
    };
    assert_eq!(status(&living.ask(ALICE, &typing, "alice").await), 480);
    assert_eq!(status(&living.ask(ALICE, &Ask::message("alice", "nobody", "x"), "alice").await), 404);

    assert_eq!(living.register("bob", BOB).await, 200);
    for text in ["one", "two", "three"] {
        let letter = living.take(BOB, 200).await;
        assert_eq!(body(&letter), text);
        assert_eq!(header(&letter, Name::CallId).unwrap(), format!("c-alice-bob-{text}"));
        assert_eq!(header(&letter, Name::CSeq).unwrap(), "1 MESSAGE");
        assert!(
            header(&letter, Name::From).unwrap().contains("alice@example.com>;tag=f1")
                && header(&letter, Name::Date).is_some()
        );
    }
    living.until("the mailbox is empty", || living.house.metrics.get(Count::Delivered) == 3).await;
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 0);
    // Then messages are relayed again, and pass nobody.
    living.send(ALICE, &message("four"), "alice").await;
    assert_eq!(body(&living.take(BOB, 200).await), "four");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
}

#[actix::test]
async fn what_expires_at_once_is_for_now_or_never() {
    // RFC 3428 §7
    let living = Living::with(&["alice", "bob"], |config| config.silence = Duration::from_millis(200)).await;
    let fleeting = |text: &str| message(text).line("Expires: 0");
    let stored = || living.house.metrics.get(Count::Stored);
    assert_eq!(status(&living.ask(ALICE, &fleeting("away"), "alice").await), 480);
    assert_eq!(status(&living.ask(ALICE, &message("waits"), "alice").await), 202);
    assert_eq!(living.register("bob", BOB).await, 200);
    // It cannot queue behind the letter, which Bob has not answered yet; so it is tried.
    let letter = living.wire.next(BOB).await;
    living.send(ALICE, &fleeting("now"), "alice").await;
    assert_eq!(body(&living.take(BOB, 200).await), "now");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    living.hear(BOB, &response_to(&letter, 200));
    living.until("nothing is queued", || living.house.reach.get(&aor("bob")).unwrap().climb.is_empty()).await;
    // Relayed where it was read, and then: busy with something else, or silent.
    for status in [480, 503] {
        living.send(ALICE, &fleeting(&status.to_string()), "alice").await;
        living.take(BOB, status).await;
        assert_eq!(self::status(&living.wire.next(ALICE).await), 480);
    }
    assert_eq!(status(&living.ask(ALICE, &fleeting("silence"), "alice").await), 480);
    assert_eq!(stored(), 1);
}

#[actix::test]
async fn what_asks_for_sips_reaches_nobody_in_clear_and_is_not_kept() {
    // RFC 5630 §5.3: 480, and why. §4.1: whoever comes back may come back in clear.
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    let secret = |text: &str| Ask { uri: "sips:bob@example.com".into(), ..message(text) };
    let why = Some("380 example.com \"SIPS Not Allowed\"".to_owned());
    let away = living.ask(ALICE, &secret("away"), "alice").await;
    assert_eq!((status(&away), header(&away, Name::Warning)), (480, why.clone()), "{away}");
    assert_eq!(living.register("bob", BOB).await, 200);
    let there = living.ask(ALICE, &secret("there"), "alice").await;
    assert_eq!((status(&there), header(&there, Name::Warning)), (480, why), "{there}");
    // §5.2: his SIPS contact would be a promise that we cannot keep.
    for uri in ["sip:example.com", "sips:example.com"] {
        let contact = Ask::register("bob", "<sips:bob@127.0.0.1:5082>");
        let refused = living.ask(BOB, &Ask { uri: uri.into(), call_id: uri.into(), ..contact }, "bob").await;
        assert!(refused.starts_with("SIP/2.0 400 A SIPS Contact Needs TLS All The Way\r\n"), "{refused}");
    }
    let nobody = Ask { uri: "sips:nobody@example.com".into(), ..message("x") };
    assert_eq!(status(&living.ask(ALICE, &nobody, "alice").await), 404);
    assert_eq!(living.house.metrics.get(Count::Stored), 0);
    assert!(living.wire.take(BOB).is_empty());
    // One that was bound by a connection of before the last start is left alone as well.
    let store = living.house.store.clone();
    drop(living);
    let mut bindings = store.bindings(&aor("bob")).await.unwrap();
    (bindings[0].contact, bindings[0].transport) = ("sips:bob@127.0.0.1:5082".into(), 2);
    store.put_bindings(&aor("bob"), &bindings).await.unwrap();
    let living = Living::over(store, |config| config.shards = 2).await;
    assert_eq!(status(&living.ask(ALICE, &message("plain"), "alice").await), 202);
    assert!(living.wire.take(BOB).is_empty());
}

#[actix::test]
async fn a_contact_that_is_this_server_is_refused_and_one_that_turns_out_to_be_costs_no_time() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    for (n, contact) in ["sip:bob@127.0.0.1", "sip:bob@127.0.0.1:5062", "sip:carol@example.com"].iter().enumerate() {
        let ask = Ask { call_id: format!("here{n}"), ..Ask::register("bob", &format!("<{contact}>")) };
        let refused = living.ask(BOB, &ask, "bob").await;
        assert!(refused.starts_with("SIP/2.0 403 Contact Is This Server\r\n"), "{refused}");
    }
    // By a name or an address that nobody here knows to be ours.
    assert_eq!(living.register("bob", 5099).await, 200);
    living.send(ALICE, &message("once"), "alice").await;
    let relayed = living.wire.next(5099).await;
    living.hear(5060, &relayed);
    assert_eq!(status(&living.wire.next(ALICE).await), 202);
    assert_eq!(status(&living.ask(ALICE, &message("twice"), "alice").await), 202, "it queues behind");
    assert_eq!(living.house.metrics.get(Count::Looped), 1);
    assert!(living.wire.take(5060).is_empty());
}

#[actix::test]
async fn while_letters_wait_a_new_message_queues_behind_them() {
    // Decisions D1.
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    assert_eq!(status(&living.ask(ALICE, &message("one"), "alice").await), 202);
    assert_eq!(living.register("bob", BOB).await, 200);
    let first = living.wire.next(BOB).await;
    assert_eq!(status(&living.ask(ALICE, &message("two"), "alice").await), 202, "the first is under way");
    assert!(living.wire.take(BOB).is_empty());
    living.hear(BOB, &response_to(&first, 200));
    assert_eq!(body(&living.take(BOB, 200).await), "two");
    living.until("nothing is queued", || living.house.reach.get(&aor("bob")).unwrap().climb.is_empty()).await;
}

#[actix::test]
async fn a_silent_phone_counts_as_away_and_its_late_answer_takes_the_letter_back() {
    let living = Living::with(&["alice", "bob"], |config| config.silence = Duration::from_millis(300)).await;
    living.register("bob", BOB).await;
    let signed = living.send(ALICE, &message("one"), "alice").await;
    let sent = living.wire.next(BOB).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 202);
    living.hear(ALICE, &signed);
    assert_eq!(status(&living.wire.next(ALICE).await), 202, "the same for a repeat");
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 1);
    living.hear(BOB, &response_to(&sent, 200));
    let store = living.house.store.clone();
    living.until("taken back", || store.mailbox(&aor("bob")).wait().unwrap().count == 0).await;
    assert!(living.house.reach.get(&aor("bob")).unwrap().climb.is_empty());
}

#[actix::test]
async fn the_same_message_again_is_stored_once_and_not_refused_when_the_mailbox_is_full() {
    // Decisions D3.
    let living = Living::with(&["alice", "bob"], |config| config.letters_per_user = 1).await;
    for _ in 0..2 {
        assert_eq!(status(&living.ask(ALICE, &message("one"), "alice").await), 202);
    }
    let full = living.ask(ALICE, &message("two"), "alice").await;
    assert!(full.starts_with("SIP/2.0 480 Mailbox Full\r\n"), "{full}");
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 1);
}

#[actix::test]
async fn a_repeat_after_a_start_of_what_was_stored_before_it_hears_202() {
    let memory = Memory::new(Partitions::new(4), Arc::new(WallClock));
    let store = Store::over(Arc::new(memory), Arc::new(WallClock));
    people(&store, &["alice", "bob"]).await;
    let signed = {
        let living = Living::over(store.clone(), |_| {}).await;
        let signed = living.send(ALICE, &message("one"), "alice").await;
        assert_eq!(status(&living.wire.next(ALICE).await), 202);
        signed
    };
    // Its nonces are gone with it.
    let living = Living::over(store.clone(), |config| config.shards = 2).await;
    living.hear(ALICE, &signed);
    assert_eq!(status(&living.wire.next(ALICE).await), 202);
    assert_eq!(store.mailbox(&aor("bob")).await.unwrap().count, 1);
    assert_eq!(living.house.metrics.get(Count::StoredRepeats), 1);
    // What was not taken then is challenged, and its count is that of the new challenge.
    living.hear(ALICE, &signed.replace("CSeq: 1 ", "CSeq: 2 ").replace("branch=z9hG4bK", "branch=z9hG4bKy"));
    let challenge = living.wire.next(ALICE).await;
    assert!(status(&challenge) == 407 && challenge.contains("stale=true"), "{challenge}");
}

const CPIM: &str = "From: <sip:alice@example.com>\r\nTo: <sip:bob@example.com>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
    imdn.Message-ID: m1\r\nDateTime: 2026-01-01T00:00:00Z\r\n\
    imdn.Disposition-Notification: positive-delivery, negative-delivery, processing\r\n\r\n\
    Content-Type: text/plain\r\n\r\nhello";

fn with_notices() -> Ask {
    let lines = "Max-Forwards: 70\r\nContent-Type: message/cpim\r\n".into();
    Ask { lines, body: CPIM.into(), ..message("notices") }
}

#[actix::test]
async fn the_sender_is_told_that_it_is_stored_and_that_it_failed() {
    // RFC 5438 §6.2, O4.7.
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    living.register("alice", ALICE).await;
    assert_eq!(status(&living.ask(5099, &with_notices(), "alice").await), 202);
    let notice = living.take(ALICE, 200).await;
    assert!(notice.contains("message/imdn+xml") && notice.contains("<stored/>") && notice.contains("m1"), "{notice}");

    living.register("bob", BOB).await;
    living.take(BOB, 603).await;
    let notice = living.take(ALICE, 200).await;
    assert!(notice.contains("<failed/>") && notice.contains("m1"), "{notice}");
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 0);
    assert_eq!(living.house.metrics.get(Count::Failed), 1);

    // Nothing is told of what was not asked for.
    assert_eq!(living.house.metrics.get(Count::Notices), 2);
}

#[actix::test]
async fn an_expired_letter_is_given_up_and_told() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    living.register("alice", ALICE).await;
    assert_eq!(status(&living.ask(5099, &with_notices().line("Expires: 1"), "alice").await), 202);
    assert!(living.take(ALICE, 200).await.contains("<stored/>"));
    let failed = living.wire.next(ALICE).await;
    assert!(failed.contains("<failed/>"), "{failed}");
    living.register("bob", BOB).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(living.wire.take(BOB).is_empty());
}

#[actix::test]
async fn an_alias_and_a_login_are_handed_on_as_often_as_they_are_used() {
    let store = Store::in_memory();
    let alias = Aor::parse("tel:+4912345").unwrap();
    let bob = storage::Account { aliases: vec![alias.clone()], ..account("bob") };
    let login = sip::digest::Ha1::of("al", "example.com", crate::testing::PASSWORD);
    let alice =
        storage::Account { login: Some("al".into()), ha1_sha256: login.sha256, ha1_md5: login.md5, ..account("alice") };
    for each in [alice, bob] {
        store.put_account(each, true).await.unwrap();
    }
    let living = Living::over(store, |_| {}).await;
    // By her login, to his number, while nobody of them is active; and again while the actor of the alias still stands.
    for text in ["one", "two", "three"] {
        let to_number = Ask { uri: "tel:+49-123-45".into(), ..message(text) };
        assert_eq!(status(&living.ask(ALICE, &to_number, "al").await), 202);
    }
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 3);
    assert_eq!(living.house.store.mailbox(&alias).await.unwrap().count, 0);
    // By the user part nobody logs in who has another name.
    assert_eq!(status(&living.ask(ALICE, &message("x"), "alice").await), 407);
    let living_aliases = || living.node(&["shard 0", "users"]).unwrap().children().1;
    living.until("only the two themselves stay", || living_aliases() <= 2).await;
}

#[actix::test]
async fn whoever_guesses_at_names_leaves_no_actor_behind_and_a_trace_in_the_counter() {
    let living = Living::with(&["alice"], |_| {}).await;
    for n in 0..20 {
        let name = format!("guess{n}");
        assert_eq!(status(&living.ask(ALICE, &Ask::message(&name, "alice", "x"), &name).await), 407);
    }
    assert_eq!(living.house.metrics.get(Count::AuthFailed), 20);
    living.until("nobody is left", || living.node(&["shard 0", "users"]).unwrap().children().1 == 0).await;
    assert!(living.house.transactions.is_empty() && living.house.reach.is_empty());
}

#[actix::test]
async fn a_changed_password_holds_when_the_operator_hears_of_it_and_what_comes_meanwhile_waits() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    assert_eq!(status(&living.ask(ALICE, &message("one"), "alice").await), 202);
    let ha1 = sip::digest::Ha1::of("alice", "example.com", "changed");
    let changed = storage::Account { ha1_sha256: ha1.sha256, ha1_md5: ha1.md5, ..account("alice") };
    living.house.store.put_account(changed, false).await.unwrap();
    let (heard, over) = Heard::new();
    living.house.reach.remove(&aor("alice"));
    living.house.registry.offer(aor("alice"), Offer::AccountChanged(heard));
    living.send(ALICE, &message("old"), "alice").await;
    over.await;
    assert_eq!(status(&living.wire.next(ALICE).await), 407, "the old password");
    living.hear(ALICE, &message("new").text(&living.branch()));
    let challenge = living.wire.next(ALICE).await;
    let good = message("new").signed_for(&challenge, "alice", "changed", "sip:bob@example.com", 1);
    living.hear(ALICE, &good.text(&living.branch()));
    assert_eq!(status(&living.wire.next(ALICE).await), 202);

    // For somebody who is not active nothing is woken, and the operator hears at once.
    let (heard, over) = Heard::new();
    living.house.registry.offer(aor("sleeper"), Offer::AccountChanged(heard));
    over.await;
    assert!(living.node(&["shard 0", "users", "sip:sleeper@example.com"]).is_none());
}

#[actix::test]
async fn a_removed_user_takes_his_letters_and_bindings_with_him() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    assert_eq!(status(&living.ask(ALICE, &message("old"), "alice").await), 202);
    assert!(living.house.store.remove_account(&aor("bob")).await.unwrap());
    let (heard, over) = Heard::new();
    living.house.registry.offer(aor("bob"), Offer::AccountChanged(heard));
    let early = living.send(ALICE, &message("early"), "alice").await;
    over.await;
    assert_eq!(status(&living.wire.next(ALICE).await), 404, "{early}");
    living.house.store.put_account(account("bob"), true).await.unwrap();
    living.house.registry.offer(aor("bob"), Offer::AccountChanged(Heard::new().0));
    assert_eq!(living.register("bob", BOB).await, 200);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(living.wire.take(BOB).is_empty(), "the old letter is not the new one's");
    living.send(ALICE, &message("new"), "alice").await;
    assert_eq!(body(&living.take(BOB, 200).await), "new");
}

#[actix::test]
async fn a_panic_ends_one_users_actor_who_waits_for_it_hears_503_and_the_next_offer_starts_it_anew() {
    let living = Living::with(&["alice", "bob", "carol"], |config| config.silence = Duration::from_secs(5)).await;
    living.register("bob", BOB).await;
    living.register("bob", 5083).await;
    living.register("carol", 5084).await;
    // Forked, so that his actor owes the answer.
    living.send(ALICE, &message("one"), "alice").await;
    let owed = living.wire.next(BOB).await;
    let node = living.node(&["shard 0", "users", "sip:bob@example.com"]).unwrap();
    living.tree.root.do_send(Fall::at(&["shard 0", "users", "sip:bob@example.com"]));
    let answer = living.wire.next(ALICE).await;
    assert_eq!(status(&answer), 503, "{answer}");
    let nursery = living.node(&["shard 0", "users"]).unwrap();
    living.until("the tree shows it", || nursery.restarts() == 1).await;
    assert!(living.node(&["shard 0", "users", "sip:carol@example.com"]).is_some(), "nobody else fell");
    assert_eq!(node.state(), State::Running, "the old node is only a memory");

    living.hear(BOB, &response_to(&owed, 200));
    living.wire.take(5083);
    living.send(ALICE, &message("two"), "alice").await;
    assert_eq!(body(&living.take(BOB, 200).await), "two");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    assert_eq!(living.house.metrics.get(Count::Overloaded), 1);
}

#[actix::test]
async fn a_user_who_falls_again_and_again_rests_and_the_others_do_not_notice() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    living.send(ALICE, &message("zero"), "alice").await;
    assert_eq!(status(&living.wire.next(ALICE).await), 202);
    let nursery = living.node(&["shard 0", "users"]).unwrap();
    for death in 1..=6 {
        living.house.registry.offer(aor("bob"), Offer::Panic);
        living.until("it fell", || nursery.restarts() == death).await;
    }
    assert_eq!(status(&living.ask(ALICE, &message("resting"), "alice").await), 503);
    assert_eq!(nursery.restarts(), 6, "nobody was started");
    assert_eq!(status(&living.ask(BOB, &Ask::message("alice", "alice", "me"), "alice").await), 202);
}

#[actix::test]
async fn a_burst_for_somebody_who_sleeps_is_taken_and_none_is_lost_when_he_leaves() {
    let living = Living::with(&["alice", "bob"], |config| config.user_idle = Duration::from_millis(5)).await;
    living.hear(ALICE, &message("x").text(&living.branch()));
    let challenge = living.wire.next(ALICE).await;
    let mut nc = 0;
    let mut burst = |living: &Living, count: u32| {
        for _ in 0..count {
            nc += 1;
            living.hear(ALICE, &message(&format!("m{nc}")).signed(&challenge, "alice", nc).text(&living.branch()));
        }
    };
    // More than an actor's mailbox holds before it has said how much it takes.
    burst(&living, 60);
    for _ in 0..60 {
        assert_eq!(status(&living.wire.next(ALICE).await), 202);
    }
    // Again and again while it comes and goes.
    for round in 0..60 {
        tokio::time::sleep(Duration::from_millis(round % 9)).await;
        burst(&living, 2);
        for _ in 0..2 {
            assert_eq!(status(&living.wire.next(ALICE).await), 202);
        }
    }
    assert!(living.house.metrics.get(Count::Passivated) > 2, "{}", living.house.metrics.get(Count::Passivated));
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 180);
    living.until("everybody leaves", || living.node(&["shard 0", "users"]).unwrap().children().1 == 0).await;
    assert!(living.house.reach.is_empty(), "nobody is registered");
}

#[actix::test]
async fn a_binding_that_ends_lets_messages_wait_and_its_actor_leave() {
    let living = Living::with(&["alice", "bob"], |config| config.user_idle = Duration::from_millis(50)).await;
    assert_eq!(living.register_for("bob", BOB, 1).await, 200);
    let row = living.house.reach.get(&aor("bob")).unwrap();
    let ends = row.ways[0].expires_unix_s;
    living.until("it is over", || living.house.now().unix_s() >= ends).await;
    assert_eq!(status(&living.ask(ALICE, &message("one"), "alice").await), 202);
    living.until("he leaves", || living.node(&["shard 0", "users", "sip:bob@example.com"]).is_none()).await;
    // Swept, and there again when he comes back.
    for stripe in 0..crate::reach::ReachTable::stripes() {
        living.house.reach.sweep(stripe, ends, usize::MAX);
    }
    assert!(living.house.reach.get(&aor("bob")).is_none());
    assert_eq!(living.register("bob", BOB).await, 200);
    assert_eq!(body(&living.take(BOB, 200).await), "one");
}

#[actix::test]
async fn a_row_that_was_swept_is_put_back_when_its_user_asks() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    assert_eq!(status(&living.ask(ALICE, &message("one"), "alice").await), 202);
    living.house.reach.remove(&aor("alice"));
    assert_eq!(status(&living.ask(ALICE, &message("two"), "alice").await), 202, "not challenged for ever");
}

#[actix::test]
async fn a_store_that_cannot_be_read_is_said_and_asked_again() {
    let (store, disk) = faulty();
    people(&store, &["alice", "bob"]).await;
    let living = Living::over(store, |_| {}).await;
    assert_eq!(status(&living.ask(ALICE, &message("one"), "alice").await), 202);
    disk.full(true);
    let refused = living.ask(ALICE, &message("two"), "alice").await;
    assert!(status(&refused) == 503 && header(&refused, Name::RetryAfter).is_some());
    disk.full(false);
    assert_eq!(status(&living.ask(ALICE, &message("two"), "alice").await), 202);
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 2);
}

#[actix::test]
async fn what_a_dead_actor_asked_answers_nothing_that_the_next_one_asks() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    living.register("bob", BOB).await;
    living.register("bob", 5083).await;
    living.send(ALICE, &message("one"), "alice").await;
    let old = living.wire.next(BOB).await;
    living.wire.next(5083).await;
    living.house.registry.offer(aor("bob"), Offer::Panic);
    assert_eq!(status(&living.wire.next(ALICE).await), 503);
    living.send(ALICE, &message("two"), "alice").await;
    let new = living.wire.next(BOB).await;
    living.wire.next(5083).await;
    living.hear(BOB, &response_to(&old, 200));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(living.wire.take(ALICE).is_empty(), "it is not the answer to the second");
    assert_eq!(body(&new), "two");
    living.hear(BOB, &response_to(&new, 200));
    let answer = living.wire.next(ALICE).await;
    assert!(status(&answer) == 200 && header(&answer, Name::CallId).unwrap().ends_with("two"));
}

#[actix::test]
async fn a_letter_whose_commit_failed_but_lasts_is_handed_out_when_its_repeat_is_known() {
    // Decisions D22: the outcome is not known, the id decides.
    let (store, _) = faulty();
    people(&store, &["alice", "bob"]).await;
    let living = Living::over(store.clone(), |_| {}).await;
    assert_eq!(status(&living.ask(ALICE, &message("first"), "alice").await), 202);
    // As if by a commit of which the actor has heard no more than that it failed.
    let text = message("lost").text("-l");
    let request = sip::Message::parse(text.into_bytes().into()).unwrap();
    let entry = im::Entry::of(request.view(), &aor("alice"), 1_000, living.house.now()).unwrap();
    let (bob, id) = (aor("bob"), super::inbox::message_id(entry.id));
    store.keep_draft(&bob, &super::inbox::draft(&entry, &id, &bob)).await.unwrap();
    assert_eq!(status(&living.ask(ALICE, &message("lost"), "alice").await), 202);
    assert_eq!(store.mailbox(&aor("bob")).await.unwrap().count, 2);
    living.register("bob", BOB).await;
    assert_eq!(body(&living.take(BOB, 200).await), "first");
    assert_eq!(body(&living.take(BOB, 200).await), "lost");
}
