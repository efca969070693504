//! Contacts that lead nowhere: a sender waits for none of them (RFC 3261 §16.9, §18.4), and none leads back to the server
//! or out of what was asked for.

use std::time::{Duration, Instant};

use support::phone::Wanted;
use support::ports::free_port;
use support::{Heard, Node, Peer, Phone};

use crate::house::{add_users, aor, count, house, password};

/// Far below the ten seconds after which a silent phone counts as away, and far above what a busy machine needs.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn a_message_to_a_phone_that_cannot_be_reached_is_kept_at_once() {
    let node = house(&[], &["alice"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let closed = free_port();
    let contacts = [
        ("closed-udp", format!("sip:x@127.0.0.1:{closed}")),
        ("closed-tcp", format!("sip:x@127.0.0.1:{closed};transport=tcp")),
        ("no-name", "sip:x@nowhere.invalid".to_owned()),
        ("no-name-tcp", "sip:x@nowhere.invalid;transport=tcp".to_owned()),
        ("no-address", "sip:x@[2001:db8::1]:5060".to_owned()),
        ("no-port", "sip:x@127.0.0.1:0".to_owned()),
    ];
    add_users(&node, &contacts.each_ref().map(|(user, _)| *user));
    for (user, contact) in &contacts {
        {
            // Its own socket is gone when it has registered: where it was heard from nobody is either.
            let mut gone = Phone::udp(&node, user, &password(user));
            assert_eq!(bind(&mut gone, user, contact).status(), Some(200), "{user}");
        }
        let began = Instant::now();
        assert_eq!(alice.message(&aor(user), user).status(), Some(202), "{user}");
        assert!(began.elapsed() < AT_ONCE, "{user} cost {:?}", began.elapsed());
    }
    assert!(count(&node, "parlour_sip_unreachable_total") >= 4.0);
    for (user, _) in &contacts {
        let mut back = Phone::udp(&node, user, &password(user));
        back.register();
        assert_eq!(back.expect_message().text(), **user, "what was kept is there");
    }
}

#[test]
fn a_call_goes_on_to_the_next_phone_at_once_and_ends_when_there_is_none() {
    let node = house(&[], &["alice", "bob", "carol"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let closed = free_port();
    for (user, lines) in [("bob", 1), ("carol", 2)] {
        for (n, transport) in ["", ";transport=tcp"].iter().enumerate().take(lines) {
            let mut gone = Phone::udp(&node, user, &password(user));
            assert_eq!(bind(&mut gone, user, &format!("sip:{n}@127.0.0.1:{closed}{transport}")).status(), Some(200));
        }
    }
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    let contact = format!("{}>;q=0.2", bob.contact());
    assert_eq!(bind(&mut bob, "bob", &contact).status(), Some(200));
    alice.message(&aor("alice"), "to be challenged once");
    let began = Instant::now();
    let invite = invite(&mut alice, &aor("bob"));
    alice.peer.send(&invite);
    let rings = bob.peer.expect_request("INVITE");
    assert!(began.elapsed() < AT_ONCE, "the other phone cost {:?}", began.elapsed());
    bob.peer.answer(&rings, 486, "Busy Here");
    alice.peer.expect_status(486);
    let began = Instant::now();
    let invite = self::invite(&mut alice, &aor("carol"));
    alice.peer.send(&invite);
    alice.peer.expect_status(480);
    assert!(began.elapsed() < AT_ONCE, "nobody cost {:?}", began.elapsed());
}

#[test]
fn a_contact_that_is_the_server_is_refused_or_found_out_and_nobody_hears_a_challenge_for_it() {
    let port = free_port();
    // At every address of the host: which those are the server does not know.
    let node = house(&[("sip.udp", &format!(r#"["0.0.0.0:{port}"]"#))], &["alice", "bob"]);
    let phone = |user: &str| Phone::new(Peer::udp(([127, 0, 0, 1], port).into()), node.domain(), user, &password(user));
    let (mut alice, mut bob) = (phone("alice"), phone("bob"));
    for contact in
        [format!("sip:bob@{}", node.sip()), "sip:bob@example.com".to_owned(), "sip:alice@example.com".to_owned()]
    {
        let refused = bind(&mut bob, "bob", &contact);
        assert_eq!(refused.status(), Some(403), "{contact}: {refused}");
    }
    assert_eq!(bind(&mut bob, "bob", &format!("sip:bob@127.0.0.1:{port}")).status(), Some(200));
    let began = Instant::now();
    let told = alice.message(&aor("bob"), "round and round");
    assert_eq!(told.status(), Some(202), "{told}");
    assert!(began.elapsed() < AT_ONCE, "it cost {:?}", began.elapsed());
    assert!(count(&node, "parlour_sip_loops_total") >= 1.0);
}

#[test]
fn what_asks_for_sips_goes_nowhere_in_clear() {
    let node = house(&[], &["alice", "bob"]);
    let (mut alice, mut bob) = (phone(&node, "alice"), phone(&node, "bob"));
    let refused = bind(&mut bob, "bob", "sips:bob@127.0.0.1:5999");
    assert_eq!(refused.status(), Some(400), "{refused}");
    bob.register();
    alice.message(&aor("nobody"), "to be challenged once");
    let uri = "sips:bob@example.com";
    let page = Wanted { method: "MESSAGE", uri, to: uri, lines: "Content-Type: text/plain\r\n", body: b"secret" };
    let call = invite(&mut alice, uri);
    for request in [alice.signed(&page), call] {
        alice.peer.send(&request);
        let refused = alice.peer.expect_status(480);
        assert_eq!(refused.header("warning"), "380 example.com \"SIPS Not Allowed\"", "{refused}");
    }
    assert!(bob.peer.hear(Duration::from_millis(500)).is_none());
    assert_eq!(count(&node, "parlour_letters_stored_total"), 0.0);
}

fn phone(node: &Node, user: &str) -> Phone {
    Phone::udp(node, user, &password(user))
}

/// Registers that contact; with its closing bracket it has parameters behind it.
fn bind(phone: &mut Phone, user: &str, contact: &str) -> Heard {
    let close = if contact.contains('>') { "" } else { ">" };
    let (to, lines) = (aor(user), format!("Contact: <{contact}{close}\r\n"));
    let register = Wanted { method: "REGISTER", uri: "sip:example.com", to: &to, lines: &lines, body: b"" };
    phone.request(&register).expect("an answer to REGISTER")
}

/// An INVITE, signed.
fn invite(caller: &mut Phone, uri: &str) -> Vec<u8> {
    let scheme = uri.split(':').next().unwrap_or_default();
    let contact = caller.contact().replacen("sip", scheme, 1);
    let lines = format!("Contact: <{contact}>\r\nContent-Type: application/sdp\r\n");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
         a=accept-types:*\r\na=setup:active\r\na=path:msrp://127.0.0.1:9/a1;tcp\r\n";
    caller.signed(&Wanted { method: "INVITE", uri, to: uri, lines: &lines, body: sdp.as_bytes() })
}
