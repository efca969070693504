//! What goes over the wire and when: repeats, silence, garbage, ends of connections, large requests.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod support;

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{Client, ClientError, Direction, Event, Options, Outgoing, Transport};
use sip::Name;
use support::{Peer, alice, client, fast, header, user};

#[tokio::test]
async fn a_request_without_answer_is_sent_again_until_it_is_answered() {
    // RFC 3261 §17.1.2.2: timer E
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    let first = peer.hear().await;
    for _ in 0..3 {
        assert_eq!(peer.hear().await.bytes(), first.bytes(), "a repeat is the same, octet for octet");
    }
    peer.answer(&first, 200, "").await;
    let sent = sending.await.unwrap().unwrap();
    assert_eq!((sent.status, sent.reason.as_str(), sent.call_id), (200, "OK", header(&first, Name::CallId)));
    assert!(peer.hears_nothing_for(Duration::from_millis(200)).await);
}

#[tokio::test]
async fn a_provisional_answer_does_not_end_the_waiting() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    let request = peer.hear().await;
    peer.answer(&request, 100, "").await;
    peer.answer(&request, 202, "").await;
    assert_eq!(sending.await.unwrap().unwrap().status, 202);
}

#[tokio::test]
async fn a_server_that_never_answers_is_named_when_timer_f_fires() {
    let peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let began = Instant::now();
    let error = client.message(&user("bob"), Outgoing::text("Hello")).await.unwrap_err();
    assert!(matches!(error, ClientError::Silent { server, .. } if server == peer.addr()), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(1_280), "{:?}", began.elapsed());
    let text = error.to_string();
    assert!(text.contains(&peer.addr().to_string()) && text.contains("UDP") && text.contains("1.28 s"), "{text}");
}

#[tokio::test]
async fn patience_ends_the_waiting_before_timer_f_does() {
    let peer = Peer::tcp().await;
    let options = Options { patience: Duration::from_millis(50), ..Options::default() };
    let (client, _inbox) = client(&peer, options).await;
    let error = client.register().await.unwrap_err();
    assert!(matches!(error, ClientError::Silent { waited, .. } if waited == Duration::from_millis(50)), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_that_is_said_at_once() {
    let peer = Peer::udp().await;
    let addr = peer.addr();
    drop(peer);
    let (client, _inbox) = Client::connect(alice(addr, Transport::Udp), Options::default()).await.unwrap();
    let began = Instant::now();
    let error = client.message(&user("bob"), Outgoing::text("Hello")).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { reason, .. } if reason.kind() == ErrorKind::ConnectionRefused),
        "{error}"
    );
    let error = Client::connect(alice(addr, Transport::Tcp), Options::default()).await.map(drop).unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { reason, .. } if reason.kind() == ErrorKind::ConnectionRefused),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn who_is_patient_with_refusals_reaches_a_server_that_comes_back() {
    let peer = Peer::udp().await;
    let addr = peer.addr();
    drop(peer);
    let options = Options { refusal_is_final: false, ..fast() };
    let (client, _inbox) = Client::connect(alice(addr, Transport::Udp), options).await.unwrap();
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    tokio::time::sleep(Duration::from_millis(60)).await;
    let mut peer = Peer::udp_at(addr).await;
    let request = peer.hear().await;
    peer.answer(&request, 200, "").await;
    assert_eq!(sending.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn garbage_and_foreign_answers_disturb_nothing() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    let request = peer.hear().await;
    let good = String::from_utf8({
        let mut out = Vec::new();
        sip::reply(&mut out, request.view(), &sip::Reply { status: 200, to_tag: "x", ..Default::default() });
        out
    })
    .unwrap();
    let other_branch = good.replace("z9hG4bK", "z9hG4bKother");
    let other_method = good.replace(" MESSAGE\r\n", " OPTIONS\r\n");
    let two_vias = good.replacen("Via: ", "Via: SIP/2.0/UDP elsewhere;branch=z9hG4bK7\r\nVia: ", 1);
    let via_below = good.replacen("\r\nFrom", "\r\nVia: SIP/2.0/UDP elsewhere;branch=z9hG4bK7\r\nFrom", 1);
    let bad_status = good.replace("SIP/2.0 200", "SIP/2.0 9999");
    let short = good.replace("Content-Length: 0", "Content-Length: 999");
    for garbage in [
        "",
        "\r\n\r\n",
        "\0\u{1}\u{2}",
        "SIP/2.0",
        "SIP/2.0 200 OK\r\n",
        &other_branch,
        &other_method,
        &two_vias,
        &via_below,
        &bad_status,
        &short,
    ] {
        peer.say(garbage.as_bytes()).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!sending.is_finished());
    peer.say(good.as_bytes()).await;
    assert_eq!(sending.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_stream_is_framed_however_it_is_cut_and_pinged_while_it_is_quiet() {
    // RFC 3261 §18.3, RFC 5626 §3.5.1
    let mut peer = Peer::tcp().await;
    let options = Options { ping: Duration::from_millis(50), ..fast() };
    let (client, mut inbox) = client(&peer, options).await;
    assert_eq!(peer.octets().await, b"\r\n\r\n");
    let both: String =
        ["1", "2"].map(|branch| support::request("MESSAGE", branch, "Content-Type: text/plain\r\n", branch)).concat();
    peer.say(b"\r\n").await;
    for piece in both.as_bytes().chunks(7) {
        peer.say(piece).await;
        tokio::task::yield_now().await;
    }
    for branch in ["1", "2"] {
        assert_eq!(inbox.message().await.unwrap().text.as_deref(), Some(branch));
        assert!(header(&peer.hear().await, Name::Via).contains(&format!("z9hG4bK{branch}")));
    }
    drop(client);
}

#[tokio::test]
async fn a_connection_that_ends_is_named_and_opened_again_for_the_next_request() {
    let mut peer = Peer::tcp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    peer.hear().await;
    peer.hang_up();
    let error = sending.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error}");
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello again")));
    let request = peer.hear().await;
    peer.answer(&request, 200, "").await;
    assert!(sending.await.unwrap().unwrap().accepted());
}

#[tokio::test]
async fn a_stream_of_garbage_is_closed_and_said_to_be_no_sip() {
    let mut peer = Peer::tcp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    peer.hear().await;
    peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = sending.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("no SIP"), "{error}");
}

#[tokio::test]
async fn a_request_too_large_for_a_datagram_goes_by_tcp() {
    // RFC 3261 §18.1.1
    let mut udp = Peer::udp().await;
    let mut tcp = Peer::tcp_beside(&udp).await;
    let (client, mut inbox) = client(&udp, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text(&"x".repeat(1_300))));
    let request = tcp.hear().await;
    assert!(header(&request, Name::Via).starts_with("SIP/2.0/TCP "));
    tcp.answer(&request, 200, "").await;
    assert!(sending.await.unwrap().unwrap().accepted());
    // What comes by that connection is answered there.
    tcp.ask("MESSAGE", "1", "Content-Type: text/plain\r\n", "Back").await;
    assert_eq!(tcp.hear().await.view().status(), 200);
    assert_eq!(inbox.message().await.unwrap().text.as_deref(), Some("Back"));
    assert!(udp.hears_nothing_for(Duration::from_millis(30)).await);
}

#[tokio::test]
async fn a_large_request_goes_by_udp_where_the_server_has_no_tcp() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text(&"x".repeat(1_300))));
    let request = peer.hear().await;
    peer.answer(&request, 413, "").await;
    assert_eq!(sending.await.unwrap().unwrap().status, 413);
    let error = client.message(&user("bob"), Outgoing::text(&"x".repeat(70_000))).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { bytes, .. } if bytes > 70_000), "{error}");
}

type Seen = (Direction, Vec<u8>);

#[tokio::test]
async fn the_tap_sees_both_directions() {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let tap = {
        let seen = seen.clone();
        Arc::new(move |direction, bytes: &[u8]| seen.lock().unwrap().push((direction, bytes.to_vec())))
    };
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, Options { tap: Some(tap), ..fast() }).await;
    let sending = tokio::spawn(async move { client.options("sip:example.com").await });
    let request = peer.hear().await;
    peer.answer(&request, 200, "").await;
    assert_eq!(sending.await.unwrap().unwrap(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], (Direction::Out, request.bytes().to_vec()));
    assert!(seen.iter().any(|(direction, bytes)| *direction == Direction::In && bytes.starts_with(b"SIP/2.0 200")));
}

#[tokio::test]
async fn a_lost_connection_is_told_and_registered_again_by_a_new_one() {
    let mut peer = Peer::tcp().await;
    let (client, mut inbox) = client(&peer, fast()).await;
    let registering = {
        let client = client.clone();
        tokio::spawn(async move { client.register().await })
    };
    let first = peer.hear().await;
    peer.answer(&first, 200, "").await;
    let before = registering.await.unwrap().unwrap();
    peer.hang_up();
    let again = peer.hear().await;
    assert_eq!(header(&again, Name::CallId), header(&first, Name::CallId));
    // The old address is taken back with the same request.
    let contacts: Vec<_> =
        again.view().values(Name::Contact).map(|one| String::from_utf8(one.to_vec()).unwrap()).collect();
    assert!(contacts.len() == 2 && contacts[1] == format!("<{}>;expires=0", before.contact), "{contacts:?}");
    peer.answer(&again, 503, "").await;
    let event = tokio::time::timeout(support::SOON, inbox.recv()).await.unwrap();
    assert!(matches!(event, Some(Event::Lost(ClientError::Refused { status: 503, .. }))), "{event:?}");
    let third = peer.hear().await;
    peer.answer(&third, 200, "").await;
    let event = tokio::time::timeout(support::SOON, inbox.recv()).await.unwrap();
    assert!(matches!(event, Some(Event::Registered(binding)) if binding.contact != before.contact));
}
