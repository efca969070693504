//! Page messages, both ways (RFC 3428), with their notifications (RFC 5438).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod support;

use std::time::Duration;

use body::Cpim;
use body::imdn::{Kind, Status, Told};
use client::{Answer, Event, Options, Outgoing};
use sip::{Message, Method, Name};
use support::{Peer, client, fast, header, user};

const TEXT: &str = "Content-Type: text/plain\r\n";

fn cpim(wants: &str) -> String {
    format!(
        "From: <im:bob@example.com>\r\nTo: <sip:alice@example.com>\r\nNS: x <urn:ietf:params:imdn>\r\nx.Message-ID: id-1\r\n\
         DateTime: 2026-01-02T03:04:05Z\r\nx.Disposition-Notification: {wants}\r\n\r\nContent-Type: text/plain\r\n\r\nHello"
    )
}

fn told(message: &Message) -> Told {
    let cpim = Cpim::parse(message.view().body()).unwrap();
    assert!(body::imdn::is_notice(&cpim));
    Told::parse(cpim.content()).unwrap()
}

#[tokio::test]
async fn a_text_goes_out_as_a_plain_message_without_contact() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let outgoing = Outgoing::text("Grüß Gott").expiring_in(Duration::from_secs(60));
    let sending = tokio::spawn(client.message(&user("bob"), outgoing));
    let request = peer.hear().await;
    let view = request.view();
    view.check_request().unwrap();
    assert_eq!((view.method(), view.request_uri()), (Method::Message, b"sip:bob@example.com".as_slice()));
    assert_eq!(
        (header(&request, Name::ContentType).as_str(), view.body()),
        ("text/plain;charset=UTF-8", "Grüß Gott".as_bytes())
    );
    // RFC 3428 §4: no Contact; Expires comes with a Date.
    assert!(view.first(Name::Contact).is_none());
    assert_eq!(view.expires(), Some(60));
    httpdate::parse_http_date(&header(&request, Name::Date)).unwrap();
    peer.answer(&request, 404, "").await;
    let sent = sending.await.unwrap().unwrap();
    assert!(!sent.accepted());
    assert_eq!((sent.status, sent.reason.as_str(), sent.message_id), (404, "Not Found", None));
}

#[tokio::test]
async fn the_next_message_to_somebody_waits_for_the_answer_to_the_last() {
    // RFC 3428 §8
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let texts = ["one", "two", "three"];
    let futures = texts.map(|text| client.message(&user("bob"), Outgoing::text(text)));
    // The order of the calls counts, not that of the polling.
    let sending: Vec<_> = futures.into_iter().rev().map(tokio::spawn).collect();
    let mut other = tokio::spawn(client.message(&user("carol"), Outgoing::text("other")));
    let mut heard = Vec::new();
    for _ in 0..4 {
        let request = peer.hear().await;
        heard.push((header(&request, Name::To), String::from_utf8(request.view().body().to_vec()).unwrap()));
        peer.answer(&request, 200, "").await;
    }
    let to_bob: Vec<_> = heard.iter().filter(|(to, _)| to.contains("bob")).map(|(_, text)| text.as_str()).collect();
    assert_eq!(to_bob, texts);
    assert!((&mut other).await.unwrap().unwrap().accepted());
    for one in sending {
        assert!(one.await.unwrap().unwrap().accepted());
    }
}

#[tokio::test]
async fn a_message_that_comes_is_answered_once_and_its_repeats_are_absorbed() {
    let mut peer = Peer::udp().await;
    let (client, mut inbox) = client(&peer, fast()).await;
    let asking = {
        let client = client.clone();
        tokio::spawn(async move { client.options("sip:example.com").await })
    };
    let request = peer.hear().await;
    peer.answer(&request, 200, "").await;
    asking.await.unwrap().unwrap();

    let mut answers = Vec::new();
    for _ in 0..3 {
        peer.ask("MESSAGE", "1", &format!("{TEXT}Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "Hello").await;
        answers.push(peer.hear().await);
    }
    assert_eq!(answers[0].view().status(), 200);
    assert!(answers[0].view().first(Name::Contact).is_none() && answers[0].view().body().is_empty());
    assert!(answers.iter().all(|answer| answer.bytes() == answers[0].bytes()));
    let message = inbox.message().await.unwrap();
    assert_eq!((message.from.as_str(), message.display.as_str()), ("sip:bob@example.com", "Bob"));
    assert_eq!((message.to.as_str(), message.text.as_deref()), ("sip:alice@example.com", Some("Hello")));
    assert_eq!(message.call_id, "call-1");
    assert!(message.date.is_some());
    assert!(inbox.try_recv().is_none());
}

#[tokio::test]
async fn the_answer_to_messages_can_be_chosen_and_can_be_silence() {
    let mut peer = Peer::tcp().await;
    let (client, mut inbox) = client(&peer, fast()).await;
    peer.accept().await;
    for (branch, answer, expected) in
        [("1", Answer::Status(486), Some(486)), ("2", Answer::Silence, None), ("3", Answer::Status(200), Some(200))]
    {
        client.answer_with(answer);
        peer.ask("MESSAGE", branch, TEXT, "Hello").await;
        match expected {
            Some(status) => assert_eq!(peer.hear().await.view().status(), status),
            None => assert!(peer.hears_nothing_for(Duration::from_millis(100)).await),
        }
    }
    assert_eq!(inbox.message().await.unwrap().call_id, "call-3");
    assert!(inbox.try_recv().is_none());
}

#[tokio::test]
async fn requests_with_faults_and_strange_methods_are_answered_by_the_book() {
    let mut peer = Peer::tcp().await;
    let (_client, _inbox) = client(&peer, fast()).await;
    peer.accept().await;
    for (method, lines, status, name, value) in [
        ("OPTIONS", "", 200, Name::Allow, "INVITE, ACK, BYE, CANCEL, MESSAGE, OPTIONS"),
        ("DANCE", "", 501, Name::Allow, "INVITE, ACK, BYE, CANCEL, MESSAGE, OPTIONS"),
        ("MESSAGE", "Require: 100rel\r\n", 420, Name::Unsupported, "100rel"),
        (
            "MESSAGE",
            "Content-Type: video/mp4\r\n",
            415,
            Name::Accept,
            "text/plain, message/cpim, message/imdn+xml, application/im-iscomposing+xml",
        ),
    ] {
        peer.ask(method, method, lines, if lines.contains("Content") { "x" } else { "" }).await;
        let answer = peer.hear().await;
        assert_eq!((answer.view().status(), header(&answer, name).as_str()), (status, value), "{method} {lines}");
    }
    let broken = support::request("MESSAGE", "9", TEXT, "Hello").replace("CSeq: 1 MESSAGE", "CSeq: one");
    peer.say(broken.as_bytes()).await;
    let answer = peer.hear().await;
    assert_eq!((answer.view().status(), answer.view().reason()), (400, b"Malformed CSeq".as_slice()));
}

#[tokio::test]
async fn an_unreadable_request_is_answered_before_its_connection_is_closed() {
    let mut peer = Peer::tcp().await;
    let (_client, _inbox) = client(&peer, fast()).await;
    peer.accept().await;
    let broken = support::request("MESSAGE", "1", TEXT, "Hello").replace("Content-Length: 5", "Content-Length: five");
    peer.say(broken.as_bytes()).await;
    let answer = peer.hear().await;
    assert_eq!((answer.view().status(), answer.view().reason()), (400, b"Malformed Content-Length".as_slice()));
}

#[tokio::test]
async fn who_asks_is_told_of_delivery_at_once_and_of_display_when_it_was_shown() {
    let mut peer = Peer::tcp().await;
    let (client, mut inbox) = client(&peer, fast()).await;
    peer.accept().await;
    peer.ask("MESSAGE", "1", "Content-Type: message/cpim\r\n", &cpim("positive-delivery, display")).await;
    assert_eq!(peer.hear().await.view().status(), 200);
    let delivered = peer.hear().await;
    assert_eq!(delivered.view().request_uri(), b"sip:bob@example.com");
    let notice = told(&delivered);
    assert_eq!(
        (notice.kind, notice.status, notice.message_id.as_str()),
        (Kind::Delivery, Some(Status::Delivered), "id-1")
    );
    assert_eq!(notice.date_time, "2026-01-02T03:04:05Z");
    peer.answer(&delivered, 200, "").await;

    let message = inbox.message().await.unwrap();
    assert_eq!((message.text.as_deref(), message.content_type.as_str()), (Some("Hello"), "text/plain"));
    assert!(peer.hears_nothing_for(Duration::from_millis(30)).await);
    client.displayed(&message);
    let displayed = peer.hear().await;
    assert_eq!((told(&displayed).kind, told(&displayed).status), (Kind::Display, Some(Status::Displayed)));
    peer.answer(&displayed, 200, "").await;
}

#[tokio::test]
async fn nobody_is_told_anything_by_who_does_not_want_to_tell() {
    // RFC 5438 §7.2.1: a recipient may ignore the request.
    let mut peer = Peer::tcp().await;
    let (client, mut inbox) = client(&peer, Options { receipts: false, ..fast() }).await;
    peer.accept().await;
    peer.ask("MESSAGE", "1", "Content-Type: message/cpim\r\n", &cpim("positive-delivery, display")).await;
    assert_eq!(peer.hear().await.view().status(), 200);
    client.displayed(&inbox.message().await.unwrap());
    assert!(peer.hears_nothing_for(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_message_that_asks_for_notifications_is_matched_with_them() {
    // RFC 5438 §7.1.2
    let mut peer = Peer::tcp().await;
    let (client, mut inbox) = client(&peer, fast()).await;
    peer.accept().await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello").with_receipts()));
    let request = peer.hear().await;
    let envelope = Cpim::parse(request.view().body()).unwrap();
    assert_eq!(envelope.content(), b"Hello");
    assert!(envelope.date_unix_ms().is_some());
    assert_eq!(envelope.imdn("Disposition-Notification"), Some("positive-delivery, negative-delivery, display"));
    let id = envelope.imdn("Message-ID").unwrap().to_owned();
    peer.answer(&request, 202, "").await;
    assert_eq!(sending.await.unwrap().unwrap().message_id, Some(id.clone()));

    let notice = format!(
        "<?xml version=\"1.0\"?><imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>{id}</message-id><datetime>x</datetime>\
         <delivery-notification><status><failed/></status></delivery-notification></imdn>"
    );
    let cpim = format!(
        "From: <sip:bob@example.com>\r\nTo: <sip:alice@example.com>\r\n\r\nContent-Type: message/imdn+xml\r\nContent-Disposition: notification\r\n\r\n{notice}"
    );
    peer.ask("MESSAGE", "1", "Content-Type: message/cpim\r\n", &cpim).await;
    assert_eq!(peer.hear().await.view().status(), 200);
    match inbox.recv().await {
        Some(Event::Receipt(receipt)) => assert_eq!((receipt.message_id, receipt.status.as_str()), (id, "failed")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn typing_is_shown_and_is_no_message() {
    // RFC 3994
    let mut peer = Peer::tcp().await;
    let (_client, mut inbox) = client(&peer, fast()).await;
    peer.accept().await;
    let body = "<isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state></isComposing>";
    peer.ask("MESSAGE", "1", "Content-Type: application/im-iscomposing+xml\r\n", body).await;
    assert_eq!(peer.hear().await.view().status(), 200);
    assert!(
        matches!(inbox.recv().await, Some(Event::Composing { from, active: true }) if from == "sip:bob@example.com")
    );
}

#[tokio::test]
async fn when_nobody_reads_the_server_is_told_to_keep_the_message() {
    let mut peer = Peer::tcp().await;
    let (_client, inbox) = client(&peer, fast()).await;
    peer.accept().await;
    drop(inbox);
    peer.ask("MESSAGE", "1", TEXT, "Hello").await;
    assert_eq!(peer.hear().await.view().status(), 480);
}

#[tokio::test]
async fn who_leaves_first_tells_what_is_owed() {
    let mut peer = Peer::tcp().await;
    let (client, mut inbox) = client(&peer, fast()).await;
    peer.accept().await;
    peer.ask("MESSAGE", "1", "Content-Type: message/cpim\r\n", &cpim("positive-delivery, display")).await;
    let message = inbox.message().await.unwrap();
    client.displayed(&message);
    let closing = tokio::spawn(async move { client.close().await });
    assert_eq!(peer.hear().await.view().status(), 200);
    for kind in [Kind::Delivery, Kind::Display] {
        let notice = peer.hear().await;
        assert_eq!(told(&notice).kind, kind);
        peer.answer(&notice, 200, "").await;
    }
    assert!(!closing.await.unwrap().unwrap());
}
