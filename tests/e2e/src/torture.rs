//! The torture messages of RFC 4475 on the wire: each gets the right answer or silence, none goes anywhere, and others
//! are served. What the parser makes of them in detail is tested beside it (`core/proto/sip/tests/torture.rs`).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use client::Transport;
use support::{Peer, Phone, torture};

use crate::house::{PATIENCE, aor, count, house, password, wait_until};
use crate::person::Person;

/// Where trouble comes from.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// Requests that are wrong (RFC 4475 §3.1.2, §3.3) or need what nobody here has, and the answer that names it.
const REFUSED: [(&str, u16); 23] = [
    ("badaspec", 400),
    ("badbranch", 400),
    ("badinv01", 400),
    ("badvers", 505),
    ("bext01", 420),
    ("escruri", 400),
    ("insuf", 400),
    ("inv2543", 400), // has no Content-Length, which a stream needs (RFC 3261 §20.14)
    ("ltgtruri", 400),
    ("lwsruri", 400),
    ("lwsstart", 400),
    ("mcl01", 400),
    ("mismatch01", 400),
    ("mismatch02", 400),
    ("multi01", 400),
    ("ncl", 400),
    ("novelsc", 416),
    ("quotbal", 400),
    ("regbadct", 400),
    ("scalar02", 400),
    ("trws", 400),
    ("unkscm", 416),
    ("baddate", CHALLENGED),
];
/// Good requests, and those whose faults are for others to judge: their sender is asked who he is.
const CHALLENGED: u16 = 401;
/// Responses that nobody asked for, and two requests that are not whole: a stream waits for the rest.
const SILENT: [&str; 7] = ["bcast", "bigcode", "noreason", "scalarlg", "unreason", "baddn", "clerr"];

#[test]
fn every_torture_message_gets_its_answer_by_tcp() {
    let node = house(&[], &["alice", "user"]);
    let mut user = Person::online(&node, "user", Transport::Udp);
    let mut wrong = Vec::new();
    for (name, bytes) in torture::all() {
        let mut peer = Peer::tcp(node.sip());
        peer.send(&bytes);
        let expected = REFUSED.iter().find(|(known, _)| *known == name).map_or(CHALLENGED, |(_, status)| *status);
        let is_silent = SILENT.contains(&name.as_str());
        let heard = peer.hear(if is_silent { Duration::from_millis(100) } else { PATIENCE });
        let status = heard.as_ref().and_then(|heard| heard.status());
        let fits = match (is_silent, status) {
            (true, status) => status.is_none(),
            (false, Some(401 | 407)) => expected == CHALLENGED,
            (false, status) => status == Some(expected),
        };
        if !fits {
            wrong.push(format!(
                "{name}: {expected} was due, and this came: {}",
                heard.map_or_else(String::new, |h| h.to_string())
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    user.hears_nothing(Duration::from_millis(300)); // many of them are to him, and their sender showed no password
    wait_until("they are counted", || count(&node, "parlour_sip_malformed_total") >= 15.0);
    Phone::udp(&node, "alice", &password("alice")).register();
}

#[test]
fn the_torture_messages_harm_nobody_by_udp() {
    let node = house(&[], &["alice", "user"]);
    let mut user = Person::online(&node, "user", Transport::Tcp);
    let mut peer = Peer::udp_from(ELSEWHERE, node.sip());
    for (_, bytes) in torture::all() {
        peer.send(&bytes);
        // And cut where the wire may cut it.
        peer.send(&bytes[..bytes.len() / 2]);
    }
    wait_until("they are counted", || count(&node, "parlour_sip_malformed_total") >= 15.0);
    let alice = Person::online(&node, "alice", Transport::Udp);
    assert_eq!(alice.writes(&aor("user"), "still here").status, 200);
    assert_eq!(user.hears().text.as_deref(), Some("still here"));
    user.hears_nothing(Duration::from_millis(300));
    assert_eq!(count(&node, "parlour_panics_total"), 0.0);
}

#[test]
fn two_torture_messages_in_one_stream_are_two() {
    let node = house(&[], &[]);
    let messages = torture::all();
    let named = |wanted: &str| messages.iter().find(|(name, _)| name == wanted).expect("it is in the RFC").1.clone();
    let mut peer = Peer::tcp(node.sip());
    peer.send(&[named("badvers"), named("unkscm"), named("wsinv")].concat());
    let heard: Vec<_> = (0..3).filter_map(|_| peer.hear(PATIENCE).and_then(|answer| answer.status())).collect();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard.starts_with(&[505, 416]), "{heard:?}");
}
