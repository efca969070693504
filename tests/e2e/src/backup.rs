//! Backup while the server runs, restore into an empty data directory: users, letters and bindings are there again.

use client::Transport;
use support::{Node, Phone};

use crate::house::{aor, house, password};
use crate::person::Person;

#[test]
fn a_backup_taken_while_it_runs_is_restored_elsewhere() {
    let node = house(&[], &["alice", "bob", "carol"]);
    let mut carol = Phone::udp(&node, "carol", &password("carol"));
    carol.register();
    let alice = Person::new(&node, "alice", Transport::Udp);
    for number in 0..10 {
        assert_eq!(alice.writes("bob", &format!("letter {number}")).status, 202);
    }
    let copy = node.folder().join("copy");
    let taken = node.run(&["backup", &copy.display().to_string()]);
    assert!(taken.status.is_some_and(|status| status.success()), "{}", taken.stderr);
    assert_eq!(alice.writes("bob", "after the backup").status, 202, "it went on serving");

    let mut other = Node::prepared(&[]);
    let restored = other.run(&["restore", &copy.display().to_string()]);
    assert!(restored.status.is_some_and(|status| status.success()), "{}", restored.stderr);
    other.start_again();
    let mut bob = Person::online(&other, "bob", Transport::Udp);
    let expected: Vec<String> = (0..10).map(|number| format!("letter {number}")).collect();
    assert_eq!(bob.hears_texts(10), expected);
    let users = other.json("/users");
    let named: Vec<_> = users.as_array().into_iter().flatten().filter_map(|user| user["aor"].as_str()).collect();
    assert_eq!(named.len(), 3, "{users}");
    // Carol's contact came with it, though she has not heard of this server.
    bob.writes("carol", "are you bound?");
    let other_sip = other.sip().to_string();
    let heard = carol.peer.expect_request("MESSAGE");
    assert!(heard.header("via").contains(&other_sip), "{heard}");
    assert!(heard.header("from").contains(&aor("bob")), "{heard}");
}

#[test]
fn a_backup_of_a_stopped_server_works_and_nothing_is_overwritten() {
    let mut node = house(&[], &["alice"]);
    node.stop();
    let copy = node.folder().join("copy").display().to_string();
    let taken = node.run(&["backup", &copy]);
    assert!(taken.status.is_some_and(|status| status.success()), "{}", taken.stderr);
    let again = node.run(&["backup", &copy]);
    assert_eq!(again.status.and_then(|status| status.code()), Some(1), "a backup is not overwritten");
    assert!(again.stderr.contains("copy"), "{}", again.stderr);
    let over = node.run(&["restore", &copy]);
    assert_eq!(over.status.and_then(|status| status.code()), Some(1), "the data directory is not empty");
    assert!(over.stderr.contains("data"), "{}", over.stderr);
    let nowhere = node.run(&["restore", "/nowhere/at/all"]);
    assert_eq!(nowhere.status.and_then(|status| status.code()), Some(1));
    assert!(nowhere.stderr.contains("/nowhere/at/all"), "{}", nowhere.stderr);
    node.start_again();
    assert_eq!(node.json("/users").as_array().map(Vec::len), Some(1));
}
