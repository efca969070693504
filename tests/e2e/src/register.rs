//! REGISTER (RFC 3261 §10): who may, how long it holds, and what a registrar answers.

use client::Transport;
use support::phone::Wanted;
use support::{Heard, Peer, Phone};

use crate::house::{aor, count, house, password, wait_until};
use crate::person::Person;

const REGISTRAR: &str = "sip:example.com";

#[test]
fn a_binding_is_granted_listed_and_taken_back_by_udp_and_by_tcp() {
    let node = house(&[], &["alice", "bob"]);
    for (user, mut phone) in [("alice", phone(&node, "alice")), ("bob", Phone::tcp(&node, "bob", &password("bob")))] {
        let granted = phone.register();
        assert!(granted.header("contact").contains(&phone.contact()), "{granted}");
        assert_eq!(expires(&granted), 600, "{granted}");
        let (asked, to) = (aor(user), aor(user));
        let query = Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, ..Wanted::default() };
        assert_eq!(phone.request(&query).map(|answer| contacts(&answer)), Some(1), "{asked} asks without Contact");
        let gone = phone.register_for(0);
        assert_eq!((gone.status(), contacts(&gone)), (Some(200), 0), "{gone}");
    }
}

#[test]
fn both_algorithms_are_offered_the_strong_one_first_and_both_are_taken() {
    let node = house(&[], &["alice"]);
    let mut phone = phone(&node, "alice");
    let lines = format!("Contact: <{}>\r\n", phone.contact());
    let to = aor("alice");
    let request = phone.written(&Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, lines: &lines, body: b"" });
    phone.peer.send(&request);
    let offers = phone.peer.expect_status(401).headers("WWW-Authenticate");
    let names =
        |offer: &String| ["SHA-256", "MD5"].into_iter().find(|name| offer.contains(&format!("algorithm={name}")));
    assert_eq!(offers.iter().map(names).collect::<Vec<_>>(), [Some("SHA-256"), Some("MD5")], "{offers:?}");
    phone.register();

    let old = house(&[("auth.algorithms", r#"["MD5"]"#)], &["alice"]);
    let mut phone = self::phone(&old, "alice");
    phone.register();
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_the_same_and_get_nothing() {
    let node = house(&[], &["alice"]);
    let mut thief = Phone::udp(&node, "alice", "guessed");
    let mut nobody = Phone::udp(&node, "nobody", "guessed");
    let statuses = [thief.register_for(60).status(), nobody.register_for(60).status()];
    assert_eq!(statuses, [Some(401), Some(401)]);
    let mut friend = phone(&node, "alice");
    let to = aor("alice");
    let query = Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, ..Wanted::default() };
    assert_eq!(friend.request(&query).map(|answer| contacts(&answer)), Some(0), "the thief's contact is not bound");
    wait_until("wrong credentials are counted", || count(&node, "parlour_sip_auth_failures_total") >= 2.0);
}

#[test]
fn nobody_registers_for_somebody_else() {
    let node = house(&[], &["alice", "bob"]);
    let mut alice = phone(&node, "alice");
    let (to, lines) = (aor("bob"), format!("Contact: <{}>\r\n", alice.contact()));
    let theft = Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, lines: &lines, body: b"" };
    assert_eq!(alice.request(&theft).and_then(|answer| answer.status()), Some(403));
    assert_eq!(alice.message(&aor("bob"), "hi").status(), Some(202), "bob is still away");
}

#[test]
fn a_user_has_several_contacts_and_a_star_takes_all_back() {
    let node = house(&[], &["alice"]);
    let (mut desk, mut pocket) = (phone(&node, "alice"), Phone::tcp(&node, "alice", &password("alice")));
    desk.register();
    let both = pocket.register();
    assert_eq!(contacts(&both), 2, "{both}");
    let to = aor("alice");
    let star = Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, lines: "Contact: *\r\nExpires: 0\r\n", body: b"" };
    let gone = desk.request(&star).expect("an answer");
    assert_eq!((gone.status(), contacts(&gone)), (Some(200), 0), "{gone}");
    // RFC 3261 §10.3 step 6: a star that does not end them is malformed.
    let wrong = Wanted { lines: "Contact: *\r\nExpires: 60\r\n", ..star };
    assert_eq!(desk.request(&wrong).and_then(|answer| answer.status()), Some(400));
}

#[test]
fn a_binding_ends_when_its_time_is_over() {
    let node = house(&[], &["alice", "bob"]);
    let mut bob = phone(&node, "bob");
    assert_eq!(bob.register_for(2).status(), Some(200));
    let mut alice = phone(&node, "alice");
    let ended = std::time::Instant::now() + std::time::Duration::from_millis(3_100);
    while std::time::Instant::now() < ended {
        // Until then he is reached, and answers.
        bob.peer.hear(ended.saturating_duration_since(std::time::Instant::now()));
    }
    assert_eq!(alice.message(&aor("bob"), "are you there?").status(), Some(202), "he counts as away");
    bob.register();
    assert_eq!(bob.expect_message().text(), "are you there?");
}

#[test]
fn limits_of_a_registration_are_named_in_the_refusal() {
    let node = house(&[("limits.binding_seconds_min", "60"), ("limits.bindings_per_user", "2")], &["alice"]);
    let mut alice = phone(&node, "alice");
    let brief = alice.register_for(5);
    assert_eq!((brief.status(), brief.header("min-expires").as_str()), (Some(423), "60"), "{brief}");
    let (to, at) = (aor("alice"), alice.peer.local());
    let lines: String = (0..3).map(|number| format!("Contact: <sip:alice{number}@{at}>\r\n")).collect();
    let many = Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, lines: &lines, body: b"" };
    assert_eq!(alice.request(&many).and_then(|answer| answer.status()), Some(403));
    let query = Wanted { lines: "", ..many };
    assert_eq!(alice.request(&query).map(|answer| contacts(&answer)), Some(0), "all or nothing");
}

#[test]
fn an_older_cseq_of_the_same_call_changes_nothing() {
    let node = house(&[], &["alice"]);
    let mut alice = phone(&node, "alice");
    let (to, here) = (aor("alice"), format!("Contact: <{}>;expires=600\r\n", alice.contact()));
    let gone = here.replace("expires=600", "expires=0");
    alice.register();
    // Written first, sent last: its CSeq is lower than the one that stands. RFC 3261 §10.3 step 7.
    let late = alice.signed(&Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, lines: &gone, body: b"" });
    let refresh = alice.register();
    assert_eq!(contacts(&refresh), 1);
    alice.peer.send(&late);
    let answer = alice.peer.hear(crate::house::PATIENCE).expect("an answer");
    assert!(answer.status().is_some_and(|status| status >= 400), "an old REGISTER is refused: {answer}");
    let query = Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, ..Wanted::default() };
    assert_eq!(alice.request(&query).map(|answer| contacts(&answer)), Some(1), "the binding stands");
}

#[test]
fn a_repeated_request_with_the_same_credentials_is_no_second_login() {
    let node = house(&[], &["alice"]);
    let mut alice = phone(&node, "alice");
    alice.register();
    let (to, lines) = (aor("alice"), format!("Contact: <{}>;expires=600\r\n", alice.contact()));
    let signed = alice.signed(&Wanted { method: "REGISTER", uri: REGISTRAR, to: &to, lines: &lines, body: b"" });
    alice.peer.send(&signed);
    alice.peer.expect_status(200);
    // Somebody who has read it sends it again as a request of his own: the nonce count is used up (RFC 7616 §3.4).
    let mut thief = Peer::udp(node.sip());
    let stolen = String::from_utf8(signed).expect("a REGISTER is text");
    let stolen = stolen
        .replace("branch=z9hG4bK", "branch=z9hG4bKstolen")
        .replace("Contact: <sip:alice@", "Contact: <sip:thief@");
    thief.send(stolen.as_bytes());
    thief.expect_status(401);
}

#[test]
fn the_library_keeps_its_binding_alive() {
    let node = house(&[], &["alice", "bob"]);
    let (alice, mut bob) = (Person::new(&node, "alice", Transport::Udp), phone(&node, "bob"));
    let granted = alice.register();
    assert_eq!(granted.expires.as_secs(), 3_600);
    assert_eq!(bob.message(&aor("alice"), "hi").status(), Some(200), "the library answers");
    alice.unregister();
    assert_eq!(bob.message(&aor("alice"), "hi").status(), Some(202));
}

fn phone(node: &support::Node, user: &str) -> Phone {
    Phone::udp(node, user, &password(user))
}

/// How many bindings a 200 lists, a line each or many in a line.
fn contacts(answer: &Heard) -> usize {
    assert_eq!(answer.status(), Some(200), "{answer}");
    answer.headers("contact").iter().map(|line| line.matches("<sip:").count()).sum()
}

fn expires(answer: &Heard) -> u32 {
    let contact = answer.header("contact");
    let digits = contact.split("expires=").nth(1).unwrap_or_default();
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no expires in {contact}"))
}
