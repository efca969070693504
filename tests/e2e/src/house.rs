//! A server with its users, and how tests wait.

use std::time::{Duration, Instant};

use support::Node;

/// How long a test waits for what must come: wide, for debug builds on busy machines.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server with these settings and these users, each with [`password`].
pub fn house(sets: &[(&str, &str)], users: &[&str]) -> Node {
    let node = Node::start(sets);
    add_users(&node, users);
    node
}

/// Makes users, all at once, by the admin port.
pub fn add_users(node: &Node, users: &[&str]) {
    let users: Vec<_> =
        users.iter().map(|user| serde_json::json!({ "aor": aor(user), "password": password(user) })).collect();
    let answer = node.send("POST", "/users", &serde_json::Value::from(users).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// `alice` is `sip:alice@example.com`.
pub fn aor(user: &str) -> String {
    format!("sip:{user}@example.com")
}

/// Everybody's password is his own.
pub fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// Looks until a thing is so.
///
/// # Panics
/// When it is not so in time.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A counter of the server; 0 when it is not shown.
pub fn count(node: &Node, metric: &str) -> f64 {
    node.metric(metric).unwrap_or_default()
}
