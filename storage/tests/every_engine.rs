//! One suite for every engine: what the store promises must not depend on what keeps the records.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::net::SocketAddr;

use base::Partition;
use storage::keys::{self, Key};
use storage::{
    Account, Batch, Epoch, Expect, Family, Health, Kept, Mailbox, MessageId, Receipt, Rev, StoreError, StoredBinding,
};
use support::{Place, START_MS, account, aor, ids, letter};

macro_rules! for_every_engine {
    ($($name:ident),* $(,)?) => {
        mod memory { $(#[test] fn $name() { super::$name(&super::Place::memory()); })* }
        mod faulty { $(#[test] fn $name() { super::$name(&super::Place::faulty()); })* }
        mod rocks { $(#[test] fn $name() { super::$name(&super::Place::rocks()); })* }
    };
}

for_every_engine!(
    an_expectation_that_fails_undoes_the_whole_batch,
    an_expected_revision_lets_one_of_two_writers_win,
    revisions_grow_with_every_commit,
    a_commit_under_another_epoch_is_refused,
    rows_come_in_the_order_of_their_keys_and_only_those_under_the_prefix,
    partitions_do_not_see_each_other,
    a_whole_partition_is_loaded_page_by_page,
    a_record_whose_time_is_over_is_gone_and_its_place_is_free,
    what_is_too_large_is_refused_before_anything_is_done,
    letters_come_back_whole_and_in_order,
    arrivals_grow_though_the_clock_steps_back,
    a_repeat_is_not_stored_for_ten_minutes_even_when_the_letter_is_gone,
    one_id_is_one_letter_for_each_recipient,
    a_letter_is_removed_once,
    the_mailbox_is_counted_exactly,
    an_expired_letter_is_hidden_told_once_and_stays_until_it_is_removed,
    the_owners_of_mailboxes_are_found,
    bindings_last_as_long_as_the_longest_and_single_ones_end_before,
    a_secret_stays_what_it_was_first,
    an_account_comes_back_whole_under_each_of_its_names,
    a_name_of_somebody_else_is_refused,
    a_name_that_was_given_up_is_free,
    an_alias_whose_user_is_gone_counts_as_none,
    a_removed_account_leaves_nothing,
    many_accounts_get_a_verdict_each,
    an_id_alone_can_be_noted,
    what_is_held_in_memory_is_told,
    a_closed_store_says_so,
);

const P: Partition = Partition(3);

fn put(place: &Place, key: &[u8], value: &'static [u8], expect: Expect) -> Result<Receipt, StoreError> {
    let mut batch = Batch::new();
    batch.put(Family::Binding, Key::of(key), value, expect, None);
    place.store.commit(P, batch).wait()
}

fn get(place: &Place, key: &[u8]) -> Option<(Rev, Vec<u8>)> {
    let row = place.store.engine().get(P, Family::Binding, Key::of(key)).wait().unwrap();
    row.map(|(rev, value)| (rev, value.to_vec()))
}

fn an_expectation_that_fails_undoes_the_whole_batch(place: &Place) {
    put(place, b"there", b"old", Expect::Absent).unwrap();
    let mut batch = Batch::new();
    batch.put(Family::Binding, Key::of(b"new"), &b"1"[..], Expect::Absent, None);
    batch.delete(Family::Binding, Key::of(b"there"), Expect::Any);
    batch.put(Family::Alias, Key::of(b"other family"), &b"2"[..], Expect::Present, None);
    assert_eq!(place.store.commit(P, batch).wait(), Err(StoreError::Conflict { found: None }));
    assert_eq!(get(place, b"new"), None);
    assert_eq!(get(place, b"there").unwrap().1, b"old");
}

fn an_expected_revision_lets_one_of_two_writers_win(place: &Place) {
    let first = put(place, b"k", b"1", Expect::Absent).unwrap();
    let second = put(place, b"k", b"2", Expect::Rev(first.rev)).unwrap();
    assert_eq!(put(place, b"k", b"3", Expect::Rev(first.rev)), Err(StoreError::Conflict { found: Some(second.rev) }));
    assert_eq!(put(place, b"k", b"4", Expect::Absent), Err(StoreError::Conflict { found: Some(second.rev) }));
    assert_eq!(get(place, b"k"), Some((second.rev, b"2".to_vec())));
    let mut batch = Batch::new();
    batch.delete(Family::Binding, Key::of(b"k"), Expect::Rev(second.rev));
    place.store.commit(P, batch).wait().unwrap();
    assert_eq!(get(place, b"k"), None);
}

fn revisions_grow_with_every_commit(place: &Place) {
    let revs: Vec<_> = (0..10).map(|_| put(place, b"k", b"v", Expect::Any).unwrap().rev).collect();
    assert!(revs.is_sorted_by(|a, b| a < b), "{revs:?}");
}

fn a_commit_under_another_epoch_is_refused(place: &Place) {
    let mut batch = Batch::new();
    batch.put(Family::Binding, Key::of(b"k"), &b"v"[..], Expect::Any, None);
    let refused = place.store.engine().commit(P, Epoch(8), batch).wait();
    assert_eq!(refused, Err(StoreError::Fenced { held: 0, given: 8 }));
    assert_eq!(get(place, b"k"), None);
}

fn rows_come_in_the_order_of_their_keys_and_only_those_under_the_prefix(place: &Place) {
    for key in [&b"b\x00"[..], b"b", b"a\xff", b"b\xff\xff", b"c", b"b5"] {
        put(place, key, b"v", Expect::Any).unwrap();
    }
    let scan = |prefix: &[u8], from: &[u8], limit| {
        let rows = place.store.engine().scan(P, Family::Binding, Key::of(prefix), Key::of(from), limit).wait().unwrap();
        rows.into_iter().map(|row| row.key.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(scan(b"b", b"", 9), [&b"b"[..], b"b\x00", b"b5", b"b\xff\xff"]);
    assert_eq!(scan(b"b", b"b1", 9), [&b"b5"[..], b"b\xff\xff"]);
    assert_eq!(scan(b"b", b"b1", 1), [b"b5"]);
    assert_eq!(scan(b"b", b"c", 9), Vec::<Vec<u8>>::new());
    assert_eq!(scan(b"b", b"", 0), Vec::<Vec<u8>>::new());
    assert_eq!(scan(b"", b"", 9).len(), 6);
}

fn partitions_do_not_see_each_other(place: &Place) {
    put(place, b"k", b"here", Expect::Absent).unwrap();
    let engine = place.store.engine();
    for other in [Partition(2), Partition(4)] {
        assert_eq!(engine.get(other, Family::Binding, Key::of(b"k")).wait(), Ok(None));
        assert_eq!(engine.scan(other, Family::Binding, Key::of(b""), Key::of(b""), 9).wait(), Ok(vec![]));
    }
    assert_eq!(engine.scan(P, Family::Binding, Key::of(b""), Key::of(b""), 9).wait().unwrap().len(), 1);
}

fn a_whole_partition_is_loaded_page_by_page(place: &Place) {
    let asks: Vec<_> = (0..600u32)
        .map(|n| {
            let mut batch = Batch::new();
            batch.put(Family::Binding, Key::of(&n.to_be_bytes()), n.to_be_bytes().to_vec(), Expect::Absent, None);
            place.store.commit(P, batch)
        })
        .collect();
    for ask in asks {
        ask.wait().unwrap();
    }
    let mut batch = Batch::new();
    batch.put(Family::Alias, Key::of(b"a"), &b"b"[..], Expect::Any, None);
    place.store.commit(P, batch).wait().unwrap();

    let rows = place.store.engine().load(P, &[Family::Alias, Family::Binding]).wait_all().unwrap();
    assert_eq!(rows.len(), 601);
    assert_eq!((rows[0].0, rows[600].0), (Family::Alias, Family::Binding));
    assert!(rows[1..].iter().enumerate().all(|(n, (_, row))| row.value.as_ref() == (n as u32).to_be_bytes()));
}

fn a_record_whose_time_is_over_is_gone_and_its_place_is_free(place: &Place) {
    let put = |value: &'static [u8]| {
        let mut batch = Batch::new();
        let until = START_MS / 1_000 + 60;
        batch.put(Family::Binding, Key::of(b"k"), value, Expect::Absent, Some(until));
        place.store.commit(P, batch).wait()
    };
    put(b"1").unwrap();
    place.at(59_999);
    assert!(get(place, b"k").is_some());
    assert!(put(b"2").is_err());
    place.at(60_000);
    assert_eq!(get(place, b"k"), None);
    assert_eq!(place.store.engine().scan(P, Family::Binding, Key::of(b""), Key::of(b""), 9).wait(), Ok(vec![]));
    place.at(60_001);
    let mut batch = Batch::new();
    batch.put(Family::Binding, Key::of(b"k"), &b"3"[..], Expect::Absent, None);
    assert!(place.store.commit(P, batch).wait().is_ok());
    assert_eq!(get(place, b"k").unwrap().1, b"3");
}

fn what_is_too_large_is_refused_before_anything_is_done(place: &Place) {
    let max = base::limits::RECORD_BYTES_MAX;
    let mut batch = Batch::new();
    batch.put(Family::Binding, Key::of(b"small"), &b"v"[..], Expect::Any, None);
    batch.put(Family::Binding, Key::of(b"large"), vec![0; max + 1], Expect::Any, None);
    assert_eq!(place.store.commit(P, batch).wait(), Err(StoreError::TooLarge { bytes: max + 1, max }));
    assert_eq!(get(place, b"small"), None);
}

fn letters_come_back_whole_and_in_order(place: &Place) {
    let alice = aor("alice");
    let arrivals: Vec<_> = (0..5).map(|n| keep(place, "alice", &format!("m{n}"))).collect();
    let letters = place.store.letters(&alice, 0, 100).wait().unwrap();
    assert_eq!(ids(&letters), ["m0", "m1", "m2", "m3", "m4"]);
    let mut sent = letter("m0");
    sent.arrival = arrivals[0];
    assert_eq!(letters[0], sent);
    assert_eq!(ids(&place.store.letters(&alice, arrivals[1], 2).wait().unwrap()), ["m2", "m3"]);
    assert_eq!(place.store.letters(&aor("alic"), 0, 9).wait(), Ok(vec![]));
}

fn arrivals_grow_though_the_clock_steps_back(place: &Place) {
    let first = keep(place, "alice", "a");
    assert_eq!(first, START_MS * 1_000, "the clock, in microseconds");
    place.at(-3_600_000);
    let second = keep(place, "alice", "b");
    place.at(5_000);
    let third = keep(place, "alice", "c");
    assert_eq!((second, third), (first + 1, (START_MS + 5_000) * 1_000));
    assert_eq!(ids(&place.store.letters(&aor("alice"), 0, 9).wait().unwrap()), ["a", "b", "c"]);
}

fn a_repeat_is_not_stored_for_ten_minutes_even_when_the_letter_is_gone(place: &Place) {
    // D3
    let (alice, id) = (aor("alice"), MessageId::of(b"m"));
    let arrival = keep(place, "alice", "m");
    assert_eq!(place.store.keep_letter(&alice, &letter("m")).wait(), Ok(Kept::Repeat));
    assert_eq!(place.store.remove_letter(&alice, arrival, &id).wait(), Ok(true));
    assert_eq!(place.store.keep_letter(&alice, &letter("m")).wait(), Ok(Kept::Repeat));
    assert_eq!(place.store.was_seen(&alice, &id).wait(), Ok(true));
    assert_eq!(place.store.letters(&alice, 0, 9).wait(), Ok(vec![]));
    place.at(600_000);
    assert_eq!(place.store.was_seen(&alice, &id).wait(), Ok(false));
    assert!(matches!(place.store.keep_letter(&alice, &letter("m")).wait(), Ok(Kept::New { .. })));
}

fn one_id_is_one_letter_for_each_recipient(place: &Place) {
    keep(place, "alice", "m");
    keep(place, "carol", "m");
    assert_eq!(place.store.letters(&aor("carol"), 0, 9).wait().unwrap().len(), 1);
}

fn a_letter_is_removed_once(place: &Place) {
    let alice = aor("alice");
    let (first, second) = (keep(place, "alice", "a"), keep(place, "alice", "b"));
    let (id, until) = (MessageId::of(b"a"), letter("a").expires_unix_s);
    assert_eq!(place.store.remove_letter(&alice, first, &id).wait(), Ok(true));
    assert_eq!(place.store.remove_letter(&alice, first, &id).wait(), Ok(false));
    assert_eq!(ids(&place.store.letters(&alice, 0, 9).wait().unwrap()), ["b"]);
    place.store.remove_letters(&alice, [(first, id, until), (second, MessageId::of(b"b"), until)]).wait().unwrap();
    assert_eq!(place.store.mailbox(&alice).wait(), Ok(Mailbox::default()));
    // Nothing of the two is left in the due index either.
    place.at(10_000_000_000);
    assert_eq!(place.store.expired_letters(9).wait(), Ok(vec![]));
}

fn the_mailbox_is_counted_exactly(place: &Place) {
    let alice = aor("alice");
    keep(place, "alice", "a");
    let one = place.store.mailbox(&alice).wait().unwrap();
    let arrival = keep(place, "alice", "b");
    keep(place, "alicf", "c");
    let two = place.store.mailbox(&alice).wait().unwrap();
    assert_eq!((one.count, two.count, two.bytes), (1, 2, 2 * one.bytes));
    assert!(one.bytes > letter("a").body.len() as u64);
    place.store.remove_letter(&alice, arrival, &MessageId::of(b"b")).wait().unwrap();
    assert_eq!(place.store.mailbox(&alice).wait(), Ok(one));
}

fn an_expired_letter_is_hidden_told_once_and_stays_until_it_is_removed(place: &Place) {
    let alice = aor("alice");
    let mut late = letter("late");
    late.expires_unix_s += 3_600;
    place.store.keep_letter(&alice, &late).wait().unwrap();
    let arrivals = [keep(place, "alice", "a"), keep(place, "bob", "b")];
    assert_eq!(place.store.expired_letters(9).wait(), Ok(vec![]));

    place.at(3_600_000);
    assert_eq!(ids(&place.store.letters(&alice, 0, 9).wait().unwrap()), ["late"]);
    assert_eq!(place.store.mailbox(&alice).wait().unwrap().count, 1);
    let expired = place.store.expired_letters(9).wait().unwrap();
    let mut owners: Vec<_> = expired.iter().map(|expired| expired.owner.clone()).collect();
    owners.sort();
    assert_eq!(owners, [aor("alice"), aor("bob")]);
    assert_eq!(place.store.expired_letters(1).wait().unwrap().len(), 1, "bounded");
    assert_eq!(expired.iter().map(|expired| expired.letter.body.len()).sum::<usize>(), 2 * letter("a").body.len());

    assert_eq!(place.store.remove_letter(&alice, arrivals[0], &MessageId::of(b"a")).wait(), Ok(true));
    assert_eq!(place.store.remove_letter(&alice, arrivals[0], &MessageId::of(b"a")).wait(), Ok(false), "told once");
    let left = place.store.expired_letters(9).wait().unwrap();
    assert_eq!(left.iter().map(|expired| &expired.owner).collect::<Vec<_>>(), [&aor("bob")]);
}

fn the_owners_of_mailboxes_are_found(place: &Place) {
    for (user, id) in [("alice", "1"), ("alice", "2"), ("bob", "3"), ("carol", "4")] {
        keep(place, user, id);
    }
    let mut owners = place.store.mailbox_owners().wait_all().unwrap();
    owners.sort();
    assert_eq!(owners, [aor("alice"), aor("bob"), aor("carol")]);
}

fn bindings_last_as_long_as_the_longest_and_single_ones_end_before(place: &Place) {
    let alice = aor("alice");
    let binding = |contact: &str, source: &str, for_s: u64| StoredBinding {
        contact: contact.into(),
        params: ";+g.oma.sip-im".into(),
        q: 700,
        call_id: "c@d".into(),
        cseq: 2,
        expires_unix_s: START_MS / 1_000 + for_s,
        transport: 1,
        source: source.parse::<SocketAddr>().unwrap(),
        listener: 2,
        path: vec!["<sip:edge;lr>".into()],
        instance: Some("<urn:uuid:0>".into()),
        connection: (for_s > 60).then_some((1 << 63, 7)),
    };
    let both =
        [binding("sip:a@192.0.2.1", "192.0.2.1:5060", 60), binding("sip:a@[2001:db8::1]", "[2001:db8::1]:9", 600)];
    place.store.put_bindings(&alice, &both).wait().unwrap();
    assert_eq!(place.store.bindings(&alice).wait().unwrap(), both);
    assert_eq!(place.store.list_bindings().wait_all().unwrap(), [(alice.clone(), both.to_vec())]);
    place.at(60_000);
    assert_eq!(place.store.bindings(&alice).wait().unwrap(), both[1..]);
    place.at(600_000);
    assert_eq!(place.store.bindings(&alice).wait(), Ok(vec![]));
    assert_eq!(place.store.list_bindings().wait_all(), Ok(vec![]));
    place.at(0);
    place.store.put_bindings(&alice, &[]).wait().unwrap();
    assert_eq!(place.store.bindings(&alice).wait(), Ok(vec![]));
}

fn a_secret_stays_what_it_was_first(place: &Place) {
    assert_eq!(place.store.secret("gruu", [1; 32]), Ok([1; 32]));
    assert_eq!(place.store.secret("gruu", [2; 32]), Ok([1; 32]));
    assert_eq!(place.store.secret("other", [2; 32]), Ok([2; 32]));
}

fn an_account_comes_back_whole_under_each_of_its_names(place: &Place) {
    let alice = Account {
        aliases: vec![base::Aor::parse("tel:+442079460148").unwrap(), aor("al")],
        login: Some("alice smith@home".into()),
        history_limit: Some(1 << 40),
        services: "message+history".into(),
        ..account("alice")
    };
    place.store.put_account(alice.clone(), true).wait().unwrap();
    place.store.put_account(account("bob"), true).wait().unwrap();
    for name in [&alice.aor, &alice.aliases[0], &alice.aliases[1]] {
        assert_eq!(place.store.account(name).wait(), Ok(Some(alice.clone())), "{name}");
    }
    let by_login = |name| place.store.by_login("example.com", name).wait().unwrap().map(|account| account.aor);
    assert_eq!(by_login("alice smith@home"), Some(aor("alice")));
    assert_eq!(by_login("alice"), None, "who has a login name goes by no other");
    assert_eq!(by_login("bob"), Some(aor("bob")));
    assert_eq!(place.store.by_login("example.net", "bob").wait(), Ok(None));
    assert_eq!(place.store.account(&aor("nobody")).wait(), Ok(None));
    assert_eq!(place.store.list_accounts().wait_all().unwrap().len(), 2);
}

fn a_name_of_somebody_else_is_refused(place: &Place) {
    let alice = Account { aliases: vec![aor("al")], login: Some("smith".into()), ..account("alice") };
    place.store.put_account(alice.clone(), true).wait().unwrap();
    let exists = place.store.put_account(account("alice"), true).wait();
    assert_eq!(exists, Err(StoreError::Exists { aor: "sip:alice@example.com".into() }));
    let taken = |account: Account| match place.store.put_account(account, true).wait() {
        Err(StoreError::Taken { name, owner }) => (name.to_string(), owner.to_string()),
        other => panic!("{other:?}"),
    };
    let owner = || "sip:alice@example.com".to_owned();
    let bob = account("bob");
    assert_eq!(taken(Account { aliases: vec![aor("al")], ..bob.clone() }), ("sip:al@example.com".into(), owner()));
    assert_eq!(
        taken(Account { aliases: vec![aor("alice")], ..bob.clone() }),
        ("sip:alice@example.com".into(), owner())
    );
    assert_eq!(taken(Account { login: Some("smith".into()), ..bob.clone() }), ("smith".into(), owner()));
    assert_eq!(taken(account("al")), ("sip:al@example.com".into(), owner()));
    assert_eq!(taken(account("smith")), ("smith".into(), owner()));
    assert_eq!(place.store.account(&aor("bob")).wait(), Ok(None), "nothing of a refused account is written");
    place.store.put_account(bob.clone(), true).wait().unwrap();
    let taken = place.store.put_account(Account { login: Some("bob".into()), ..alice }, false).wait();
    assert!(matches!(taken, Err(StoreError::Taken { .. })), "{taken:?}");
}

fn a_name_that_was_given_up_is_free(place: &Place) {
    let alice = Account { aliases: vec![aor("al")], login: Some("smith".into()), ..account("alice") };
    place.store.put_account(alice, true).wait().unwrap();
    place.store.put_account(account("alice"), false).wait().unwrap();
    assert_eq!(place.store.account(&aor("al")).wait(), Ok(None));
    let bob = Account { aliases: vec![aor("al")], login: Some("smith".into()), ..account("bob") };
    place.store.put_account(bob.clone(), true).wait().unwrap();
    assert_eq!(place.store.account(&aor("al")).wait(), Ok(Some(bob.clone())));
    assert_eq!(place.store.by_login("example.com", "smith").wait(), Ok(Some(bob)));
}

fn an_alias_whose_user_is_gone_counts_as_none(place: &Place) {
    // D21: what a crash between the two commits of an account leaves behind.
    let alice = Account { aliases: vec![aor("al")], ..account("alice") };
    place.store.put_account(alice.clone(), true).wait().unwrap();
    let mut batch = Batch::new();
    batch.delete(Family::Account, keys::account(&aor("alice")), Expect::Any);
    place.store.commit(place.store.partition(&aor("alice")), batch).wait().unwrap();
    assert_eq!(place.store.account(&aor("al")).wait(), Ok(None));
    let bob = Account { aliases: vec![aor("al")], ..account("bob") };
    place.store.put_account(bob.clone(), true).wait().unwrap();
    place.store.put_account(account("alice"), true).wait().unwrap();
    assert_eq!(place.store.account(&aor("al")).wait(), Ok(Some(bob)));
}

fn a_removed_account_leaves_nothing(place: &Place) {
    let alice = Account { aliases: vec![aor("al")], login: Some("smith".into()), ..account("alice") };
    place.store.put_account(alice, true).wait().unwrap();
    for n in 0..300 {
        keep(place, "alice", &n.to_string());
    }
    assert_eq!(place.store.remove_account(&aor("alice")).wait(), Ok(true));
    assert_eq!(place.store.remove_account(&aor("alice")).wait(), Ok(false));
    for name in ["alice", "al"] {
        assert_eq!(place.store.account(&aor(name)).wait(), Ok(None), "{name}");
    }
    assert_eq!(place.store.mailbox(&aor("alice")).wait(), Ok(Mailbox::default()));
    assert_eq!(
        place
            .store
            .engine()
            .scan(place.store.partition(&aor("al")), Family::Alias, Key::of(b""), Key::of(b""), 9)
            .wait(),
        Ok(vec![])
    );
}

fn many_accounts_get_a_verdict_each(place: &Place) {
    place.store.put_account(account("u7"), true).wait().unwrap();
    let mut all: Vec<_> = (0..600).map(|n| account(&format!("u{n}"))).collect();
    all[9].aliases = vec![aor("u7")];
    let verdicts = place.store.put_accounts(all, true).wait().unwrap();
    let failed: Vec<_> = verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_err()).map(|(n, _)| n).collect();
    assert_eq!((verdicts.len(), failed), (600, vec![7, 9]));
    assert_eq!(place.store.list_accounts().wait_all().unwrap().len(), 599);
}

fn an_id_alone_can_be_noted(place: &Place) {
    let (alice, id) = (aor("alice"), MessageId::of(b"x"));
    assert_eq!(place.store.note_seen(&alice, &id).wait(), Ok(true));
    assert_eq!(place.store.note_seen(&alice, &id).wait(), Ok(false));
    assert_eq!(place.store.keep_letter(&alice, &letter("x")).wait(), Ok(Kept::Repeat));
}

fn what_is_held_in_memory_is_told(place: &Place) {
    let before = place.store.footprint().unwrap();
    let value: &'static [u8] = vec![b'x'; 400 * 1_024].leak();
    for key in 0..10 {
        put(place, &[key], value, Expect::Absent).unwrap();
    }
    let after = place.store.footprint().unwrap();
    assert!(after.memtables >= before.memtables + 10 * value.len() as u64, "{before:?} {after:?}");
    assert!(after.block_cache_pinned <= after.block_cache, "{after:?}");
    assert_eq!(place.store.queues(), storage::Queues::default(), "all is answered");
}

fn a_closed_store_says_so(place: &Place) {
    assert_eq!(place.store.health(), Health::Serving);
    keep(place, "alice", "m");
    place.store.close().wait().unwrap();
    assert_eq!(place.store.keep_letter(&aor("alice"), &letter("n")).wait(), Err(StoreError::Closed));
    assert_eq!(place.store.letters(&aor("alice"), 0, 9).wait(), Err(StoreError::Closed));
    assert_eq!(place.store.health(), Health::Refusing(StoreError::Closed));
}

/// Keeps a letter and says when it came.
fn keep(place: &Place, user: &str, id: &str) -> u64 {
    match place.store.keep_letter(&aor(user), &letter(id)).wait().unwrap() {
        Kept::New { arrival } => arrival,
        Kept::Repeat => panic!("{id} is a repeat"),
    }
}
