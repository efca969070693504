//! The ceilings that a peer can hit, by the names that the configuration gives them (`[limits]`).

use std::time::{Duration, Instant};

use support::{Peer, Phone};

use crate::house::{PATIENCE, count, house, password, wait_until};

#[test]
fn who_begins_a_head_and_does_not_end_it_is_cut_off_in_time() {
    let node = house(&[("limits.head_seconds", "1")], &["alice"]);
    let mut slow = Peer::tcp(node.sip());
    let began = Instant::now();
    // A drop now and then buys no more time.
    for _ in 0..6 {
        slow.send(b"X");
        if slow.is_closed(Duration::from_millis(400)) {
            break;
        }
    }
    assert!(slow.is_closed(PATIENCE) && began.elapsed() < Duration::from_secs(5), "after {:?}", began.elapsed());
    wait_until("it is counted", || count(&node, "parlour_connections_cut_off_total") >= 1.0);
    Phone::tcp(&node, "alice", &password("alice")).register();
}

#[test]
fn who_says_nothing_is_cut_off_and_who_has_said_something_stays() {
    let node = house(&[("limits.silent_connection_seconds", "1")], &["alice"]);
    let mut silent = Peer::tcp(node.sip());
    let mut alice = Phone::tcp(&node, "alice", &password("alice"));
    alice.register();
    let began = Instant::now();
    assert!(silent.is_closed(PATIENCE) && began.elapsed() < Duration::from_secs(5), "after {:?}", began.elapsed());
    assert!(!alice.peer.is_closed(Duration::from_secs(1)), "she has registered over it");
    alice.register();
}

#[test]
fn a_connection_without_an_octet_is_closed_when_it_has_been_idle_for_long() {
    let node = house(&[("limits.idle_connection_seconds", "1")], &["alice"]);
    let mut alice = Phone::tcp(&node, "alice", &password("alice"));
    alice.register();
    assert!(alice.peer.is_closed(PATIENCE));
}

#[test]
fn connections_are_limited_in_all_and_by_their_source() {
    let node = house(&[("limits.connections", "20"), ("limits.connections_per_source", "10")], &["alice"]);
    let mut taken: Vec<Peer> = (0..10).map(|_| Peer::tcp(node.sip())).collect();
    wait_until("ten are there", || count(&node, "parlour_connections") >= 10.0);
    let mut one_more = Peer::tcp(node.sip());
    assert!(one_more.is_closed(PATIENCE), "the eleventh of one source");
    wait_until("it is counted", || count(&node, "parlour_connections_refused_total") >= 1.0);
    assert!(taken.iter_mut().all(|peer| !peer.is_closed(Duration::from_millis(10))), "the first ten stay");
    Phone::udp(&node, "alice", &password("alice")).register();
    taken.truncate(5);
    wait_until("a place is free again", || {
        let mut alice = Phone::tcp(&node, "alice", &password("alice"));
        !alice.peer.is_closed(Duration::from_millis(100)) && alice.register_for(60).status() == Some(200)
    });
}

#[test]
fn a_source_that_asks_without_credentials_too_often_is_dropped_and_others_are_not() {
    let node = house(&[("limits.challenges_per_source", "20")], &["alice"]);
    let flood = std::net::IpAddr::from([127, 0, 0, 9]);
    let mut peer = Peer::udp_from(flood, node.sip());
    for number in 0..300 {
        let at = peer.local();
        let request = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{number};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:eve@example.com>;tag=1\r\nTo: <sip:eve@example.com>\r\nCall-ID: flood{number}\r\n\
             CSeq: 1 REGISTER\r\nContact: <sip:eve@{at}>\r\nContent-Length: 0\r\n\r\n"
        );
        peer.send(request.as_bytes());
    }
    wait_until("what is above the limit is counted", || count(&node, "parlour_rate_limited_total") >= 100.0);
    let mut answered = 0;
    while peer.hear(Duration::from_millis(200)).is_some() {
        answered += 1;
    }
    assert!((1..150).contains(&answered), "{answered} of 300 were answered");
    Phone::udp(&node, "alice", &password("alice")).register();
}
