//! Registration and digest, as a server sees them.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod support;

use std::time::Duration;

use client::{Client, ClientError, Options, Outgoing};
use sip::digest::Algorithm::{Md5, Sha256};
use sip::{Method, Name};
use support::{Peer, challenge, client, fast, header, proven, user};
use tokio::task::JoinHandle;

fn register(client: &Client) -> JoinHandle<Result<client::Binding, ClientError>> {
    let client = client.clone();
    tokio::spawn(async move { client.register().await })
}

#[tokio::test]
async fn a_challenge_is_answered_with_either_algorithm_and_sha_256_is_preferred() {
    // RFC 7616, RFC 8760
    for (offered, used) in [(vec![Sha256, Md5], Sha256), (vec![Md5, Sha256], Sha256), (vec![Md5], Md5)] {
        let mut peer = Peer::udp().await;
        let (client, _inbox) = client(&peer, fast()).await;
        let registering = register(&client);
        let first = peer.hear().await;
        assert!(first.view().first(Name::Authorization).is_none());
        peer.answer(&first, 401, &challenge("WWW-Authenticate", "n1", false, &offered)).await;
        let second = peer.hear().await;
        assert_eq!(proven(&second, Name::Authorization), (used, "n1".to_owned(), 1));
        // RFC 3261 §22.2: the same request with the next CSeq.
        assert_eq!(header(&second, Name::CallId), header(&first, Name::CallId));
        assert_eq!([first, second.clone()].map(|one| one.view().cseq().unwrap().number), [1, 2]);
        peer.answer(&second, 200, "Expires: 60\r\n").await;
        assert_eq!(registering.await.unwrap().unwrap().expires, Duration::from_secs(60));
    }
}

#[tokio::test]
async fn a_register_names_domain_address_and_contact() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let registering = register(&client);
    let request = peer.hear().await;
    let view = request.view();
    assert_eq!(view.request_uri(), b"sip:example.com");
    assert_eq!(header(&request, Name::To), "<sip:alice@example.com>");
    let contact = header(&request, Name::Contact);
    assert!(contact.starts_with("<sip:alice@127.0.0.1:") && contact.contains(";+g.oma.sip-im"), "{contact}");
    assert!(header(&request, Name::Via).contains(";rport;branch=z9hG4bK"));
    assert_eq!(view.max_forwards(), Ok(Some(70)));
    view.check_request().unwrap();
    let ours = contact.split(['<', '>']).nth(1).unwrap().to_owned();
    peer.answer(&request, 200, &format!("Contact: <sip:alice@10.0.0.1>;expires=9, <{ours}>;expires=77\r\n")).await;
    let binding = registering.await.unwrap().unwrap();
    assert_eq!((binding.contact, binding.expires.as_secs()), (ours, 77));
}

#[tokio::test]
async fn one_nonce_serves_for_many_requests_with_its_count_going_up() {
    // RFC 7616 §3.4: nc; decisions D6: no second round trip.
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    for count in 1..=3 {
        let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
        let mut request = peer.hear().await;
        if count == 1 {
            peer.answer(&request, 407, &challenge("Proxy-Authenticate", "n1", false, &[Sha256])).await;
            request = peer.hear().await;
        }
        assert_eq!(proven(&request, Name::ProxyAuthorization), (Sha256, "n1".to_owned(), count));
        peer.answer(&request, 200, "").await;
        assert!(sending.await.unwrap().unwrap().accepted());
    }
}

#[tokio::test]
async fn a_stale_nonce_is_replaced_without_asking_anybody() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    for (nonce, stale) in [("n1", false), ("n2", true)] {
        let request = peer.hear().await;
        peer.answer(&request, 401, &challenge("WWW-Authenticate", nonce, stale, &[Sha256])).await;
    }
    let request = peer.hear().await;
    assert_eq!(proven(&request, Name::Authorization), (Sha256, "n2".to_owned(), 1));
    peer.answer(&request, 202, "").await;
    assert_eq!(sending.await.unwrap().unwrap().status, 202);

    // A kept nonce that a restarted server does not know any more, and does not call stale.
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    let request = peer.hear().await;
    assert_eq!(proven(&request, Name::Authorization).2, 2);
    peer.answer(&request, 401, &challenge("WWW-Authenticate", "n3", false, &[Sha256])).await;
    let request = peer.hear().await;
    assert_eq!(proven(&request, Name::Authorization), (Sha256, "n3".to_owned(), 1));
    peer.answer(&request, 200, "").await;
    assert_eq!(sending.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_wrong_password_is_told_after_one_try_and_endless_staleness_after_a_few() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let registering = register(&client);
    for nonce in ["n1", "n2"] {
        let request = peer.hear().await;
        peer.answer(&request, 401, &challenge("WWW-Authenticate", nonce, false, &[Sha256])).await;
    }
    let error = registering.await.unwrap().unwrap_err();
    assert!(matches!(&error, ClientError::Password { status: 401, realm, .. } if realm == "example.com"), "{error}");
    assert!(error.to_string().contains("password of alice"), "{error}");

    let registering = register(&client);
    for nonce in ["m1", "m2", "m3", "m4"] {
        let request = peer.hear().await;
        peer.answer(&request, 401, &challenge("WWW-Authenticate", nonce, true, &[Sha256])).await;
    }
    assert_eq!(registering.await.unwrap().unwrap_err().status(), Some(401));
    assert!(peer.hears_nothing_for(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn challenges_that_nobody_can_answer_are_errors_that_say_so() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    for lines in
        ["", "WWW-Authenticate: Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256\r\n", "WWW-Authenticate: \"\r\n"]
    {
        let registering = register(&client);
        let request = peer.hear().await;
        peer.answer(&request, 401, lines).await;
        let error = registering.await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Challenge { status: 401, .. }), "{lines}: {error}");
    }
}

#[tokio::test]
async fn too_brief_a_binding_is_asked_for_again_as_long_as_the_registrar_wants_it() {
    // RFC 3261 §10.2.8
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let registering = register(&client);
    let request = peer.hear().await;
    peer.answer(&request, 423, "Min-Expires: 7200\r\n").await;
    let request = peer.hear().await;
    assert_eq!(request.view().expires(), Some(7_200));
    peer.answer(&request, 200, "").await;
    assert_eq!(registering.await.unwrap().unwrap().expires.as_secs(), 7_200);
}

#[tokio::test]
async fn a_binding_is_refreshed_before_it_ends_and_taken_back_at_the_close() {
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let registering = register(&client);
    let first = peer.hear().await;
    peer.answer(&first, 200, "Expires: 1\r\n").await;
    registering.await.unwrap().unwrap();
    let refresh = peer.hear().await;
    assert_eq!(header(&refresh, Name::Contact), header(&first, Name::Contact));
    assert_eq!(refresh.view().cseq().unwrap().number, 2);
    peer.answer(&refresh, 200, "Expires: 3600\r\n").await;

    let closing = {
        let client = client.clone();
        tokio::spawn(async move { client.close().await })
    };
    let last = peer.hear().await;
    assert_eq!((last.view().method(), last.view().expires()), (Method::Register, Some(0)));
    assert!(header(&last, Name::Contact).ends_with(";expires=0"));
    peer.answer(&last, 200, "").await;
    assert!(closing.await.unwrap().unwrap());
    let error = client.message(&user("bob"), Outgoing::text("Hello")).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed), "{error}");
}

#[tokio::test]
async fn the_registrars_route_stands_in_later_requests() {
    // RFC 3608 §5
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let registering = register(&client);
    let request = peer.hear().await;
    peer.answer(&request, 200, "Service-Route: <sip:orig@home.example.com;lr>\r\n").await;
    registering.await.unwrap().unwrap();
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    let request = peer.hear().await;
    assert_eq!(header(&request, Name::Route), "<sip:orig@home.example.com;lr>");
    peer.answer(&request, 200, "").await;
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_asks_to_be_left_alone_is_left_alone() {
    // RFC 3261 §21.5.4
    let mut peer = Peer::udp().await;
    let (client, _inbox) = client(&peer, fast()).await;
    let sending = tokio::spawn(client.message(&user("bob"), Outgoing::text("Hello")));
    let request = peer.hear().await;
    peer.answer(&request, 503, "Retry-After: 18 (soon);duration=3600\r\n").await;
    let sent = sending.await.unwrap().unwrap();
    assert_eq!((sent.status, sent.retry_after_s), (503, Some(18)));
    let error = client.message(&user("bob"), Outgoing::text("Hello")).await.unwrap_err();
    assert!(matches!(error, ClientError::Overloaded { wait_s: 17..=18, .. }), "{error}");
    assert!(peer.hears_nothing_for(Duration::from_millis(30)).await);

    let (deaf, _inbox) = support::client(&peer, Options { obey_retry_after: false, ..fast() }).await;
    for _ in 0..2 {
        let sending = tokio::spawn(deaf.message(&user("bob"), Outgoing::text("Hello")));
        let request = peer.hear().await;
        peer.answer(&request, 503, "Retry-After: 18\r\n").await;
        assert_eq!(sending.await.unwrap().unwrap().status, 503);
    }
}
