//! The admin port: who may, what it shows, what it changes.

use client::Transport;
use serde_json::{Value, json};

use crate::house::{add_users, aor, count, house, password, wait_until};
use crate::person::Person;
use support::Phone;

#[test]
fn health_and_metrics_are_open_and_all_else_needs_the_token() {
    let node = house(&[], &[]);
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(node.get_as_stranger(open).status, 200, "{open}");
    }
    for closed in ["/tree", "/log", "/users", "/users/sip:alice@example.com", "/trace/x", "/", "/nowhere"] {
        assert_eq!(node.get_as_stranger(closed).status, 401, "{closed}");
    }
    assert_eq!(node.get("/nowhere").status, 404);
    assert_eq!(node.send("DELETE", "/tree", "").status, 405);
    let token = std::fs::metadata(node.data().join("admin.token")).expect("made at the first start");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(token.permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_tree_shows_every_part_with_its_state_its_restarts_and_its_mailbox() {
    let node = house(&[("shards", "2")], &["alice"]);
    let alice = Person::online(&node, "alice", Transport::Udp);
    let tree = node.json("/tree");
    let mut parts = Vec::new();
    walk(&tree, &mut parts);
    let kinds: Vec<&str> = parts.iter().filter_map(|part| part["kind"].as_str()).collect();
    // Two shards, and in each one nursery of users and one of sessions.
    assert_eq!(kinds.iter().filter(|kind| **kind == "nursery").count(), 4, "{kinds:?}");
    assert!(kinds.contains(&"user"), "alice is alive: {kinds:?}");
    for part in parts {
        assert_eq!((part["state"].as_str(), part["restarts"].as_u64()), (Some("running"), Some(0)), "{part}");
        let (depth, bound) = (part["mailbox"]["depth"].as_u64(), part["mailbox"]["bound"].as_u64());
        assert!(depth.is_some() && bound.is_some() && part["name"].is_string(), "{part}");
    }
    alice.unregister();
}

#[test]
fn metrics_are_prometheus_text_and_name_no_user() {
    let node = house(&[], &["alice", "bob"]);
    let (alice, mut bob) =
        (Person::online(&node, "alice", Transport::Udp), Person::online(&node, "bob", Transport::Udp));
    alice.writes("bob", "hi");
    bob.hears();
    let text = node.get_as_stranger("/metrics").body;
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for sample in samples {
        let name = sample.split(['{', ' ']).next().unwrap_or_default();
        assert!(name.starts_with("parlour_") || name.starts_with("process_"), "{sample}");
        let value = sample.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "{sample}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let is_typed = [name, family].iter().any(|name| text.contains(&format!("# TYPE {name} ")));
        assert!(is_typed && !sample.contains("alice"), "{sample}");
    }
    for part in ["memtables", "block_cache", "block_cache_pinned", "table_readers"] {
        assert!(text.contains(&format!("parlour_store_memory_bytes{{part=\"{part}\"}} ")), "{part} in {text}");
    }
    for queue in [
        "parlour_store_commit_queue",
        "parlour_store_read_queue",
        "parlour_mailbox_depth",
        "parlour_mailbox_fullest_below",
        "parlour_outbox_bytes",
        "parlour_outbox_fullest_bytes",
    ] {
        assert!(text.contains(&format!("# TYPE {queue} gauge\n{queue}")), "{queue} in {text}");
    }
    assert!(count(&node, "process_resident_memory_bytes") > 1e6);
    assert_eq!(count(&node, "parlour_page_relayed_total"), 1.0);
    assert!(count(&node, "parlour_registrations_total") >= 2.0);
}

#[test]
fn the_log_filter_is_read_and_set_and_nonsense_is_refused() {
    let node = house(&[], &["alice"]);
    assert_eq!(node.get("/log").body.trim(), "info");
    let set = node.send("PUT", "/log", "info,server=debug");
    assert_eq!((set.status, node.get("/log").body.trim()), (200, "info,server=debug"));
    let wrong = node.send("PUT", "/log", "info,=loud");
    assert_eq!((wrong.status, node.get("/log").body.trim()), (400, "info,server=debug"), "{}", wrong.body);
}

#[test]
fn users_are_made_shown_changed_and_removed_and_it_holds_at_once() {
    let node = house(&[], &["alice"]);
    let taken = node.send("POST", "/users", &json!({ "aor": aor("alice"), "password": "x" }).to_string());
    assert_eq!(taken.status, 409, "{}", taken.body);
    for wrong in [
        "{",
        "{}",
        r#"{"aor":"sip:x@elsewhere.example","password":"x"}"#,
        r#"{"aor":"sip:y@example.com","password":"x","what":1}"#,
    ] {
        assert_eq!(node.send("POST", "/users", wrong).status, 400, "{wrong}");
    }
    let shown = node.json("/users/sip:alice@example.com");
    assert_eq!(shown["aor"], aor("alice"));
    assert!(!shown.to_string().contains(&password("alice")), "{shown}");
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    alice.register();

    assert_eq!(node.send("PUT", "/users/sip:alice@example.com", r#"{"password":"new"}"#).status, 200);
    let with_the_old = Phone::udp(&node, "alice", &password("alice")).register_for(60);
    assert_eq!(with_the_old.status(), Some(401), "the old password is dead: {with_the_old}");
    Phone::udp(&node, "alice", "new").register();

    assert_eq!(node.send("DELETE", "/users/sip:alice@example.com", "").status, 204);
    assert_eq!(node.get("/users/sip:alice@example.com").status, 404);
    assert_eq!(Phone::udp(&node, "alice", "new").register_for(60).status(), Some(401));
    assert_eq!(node.json("/users"), json!([]));
}

#[test]
fn an_array_of_users_is_taken_and_each_fault_is_named_by_its_place() {
    let node = house(&[], &[]);
    let users: Vec<Value> = (0..500).map(|n| json!({ "aor": aor(&format!("u{n}")), "password": "x" })).collect();
    let answer = node.send("POST", "/users", &Value::from(users).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mixed = json!([{ "aor": aor("u7"), "password": "x" }, { "aor": aor("new"), "password": "x" }]);
    let answer = node.send("POST", "/users", &mixed.to_string());
    let told: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &told["added"], &told["faults"][0]["index"]), (207, &json!(1), &json!(0)), "{told}");
    assert_eq!(node.json("/users").as_array().map(Vec::len), Some(501));
}

#[test]
fn a_name_with_a_control_character_is_nobodys() {
    let node = house(&[], &["alice"]);
    let answer = node.send("POST", "/users", r#"{"aor": "sip:a%1b%5b2J@example.com", "password": "x"}"#);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("control character"), "{}", answer.body);
    let mut alice = support::Phone::udp(&node, "alice", &crate::house::password("alice"));
    assert_eq!(alice.message("sip:%00@example.com", "hello?").status(), Some(400));
}

#[test]
fn a_service_profile_without_messages_is_obeyed() {
    let node = house(&[], &["bob"]);
    let user = json!({ "aor": aor("alice"), "password": password("alice"), "services": ["presence"] });
    assert_eq!(node.send("POST", "/users", &user.to_string()).status, 201);
    let alice = Person::online(&node, "alice", Transport::Udp);
    assert_eq!(alice.writes("bob", "may I?").status, 403);
    let bob = Person::online(&node, "bob", Transport::Udp);
    assert_eq!(bob.writes("alice", "are you there?").status, 480);
    assert_eq!(node.send("PUT", "/users/sip:alice@example.com", r#"{"services":["message"]}"#).status, 200);
    assert_eq!(alice.writes("bob", "now I may").status, 200);
}

#[test]
fn an_alias_and_a_login_lead_to_the_same_user() {
    let node = house(&[], &["bob"]);
    let user = json!({ "aor": aor("alice"), "password": "x", "aliases": ["tel:+4930123456"], "login": "a.liddell" });
    assert_eq!(node.send("POST", "/users", &user.to_string()).status, 201);
    add_users(&node, &["carol"]);
    let bob = Person::online(&node, "bob", Transport::Udp);
    assert_eq!(bob.writes("tel:+4930123456", "by number").status, 202);
    assert_eq!(bob.writes("alice", "by name").status, 202);
    wait_until("both wait", || count(&node, "parlour_letters_stored_total") >= 2.0);
    assert_eq!(node.send("DELETE", "/users/sip:alice@example.com", "").status, 204);
    assert_eq!(bob.writes("tel:+4930123456", "gone with its user").status, 404);
}

fn walk<'a>(part: &'a Value, all: &mut Vec<&'a Value>) {
    all.push(part);
    for child in part["children"].as_array().into_iter().flatten() {
        walk(child, all);
    }
}
