//! Sessions against a peer made of plain sockets: INVITE and MSRP octet by octet (RFC 3261 §13, RFC 4975).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use client::{ClientError, Delivery, Ended, Options, SessionOptions, Setup};
use sip::digest::Algorithm::Sha256;
use sip::{Method, Name};
use support::talkers::{CONTACT, Msrp, SDP, called, invitation, invite, talking};
use support::{Peer, challenge, client, fast, header, proven};

#[tokio::test]
async fn who_is_invited_is_talked_to_until_somebody_hangs_up() {
    let mut peer = Peer::tcp().await;
    let (alice, _inbox) = client(&peer, fast()).await;
    let invited = invite(&alice, SessionOptions::default());
    // RFC 3261 §22.2: a challenge is answered by another INVITE of the same call.
    let first = peer.hear().await;
    peer.answer(&first, 407, &challenge("Proxy-Authenticate", "n", false, &[Sha256])).await;
    assert_eq!(peer.hear().await.view().method(), Method::Ack);
    let invite = peer.hear().await;
    proven(&invite, Name::ProxyAuthorization);
    assert_eq!(header(&first, Name::CallId), header(&invite, Name::CallId));
    let offer = sdp::Offer::read(invite.view().body()).unwrap();
    assert_eq!(offer.setup(), Some(Setup::ActPass));
    let mut msrp = Msrp::listen(offer.remote_path()).await;
    peer.answer(&invite, 180, CONTACT).await;
    peer.answer_with(&invite, &msrp.sdp("passive")).await;
    let ack = peer.hear().await;
    assert_eq!((ack.view().method(), ack.view().cseq().unwrap().number), (Method::Ack, 2));
    // RFC 3261 §13.2.2.4: a 2xx that comes again is acknowledged again.
    peer.answer_with(&invite, &msrp.sdp("passive")).await;
    msrp.accept().await;
    let hello = msrp.frame().await;
    assert!(hello.contains(" SEND\r\n") && hello.contains("Byte-Range: 1-0/0\r\n-------"), "{hello}");
    msrp.respond(&hello, "200 OK").await;
    let session = invited.await.unwrap().unwrap();
    assert_eq!(peer.hear().await.view().method(), Method::Ack);

    let (delivery, ()) = tokio::join!(session.send_text("Hello"), async {
        let send = msrp.frame().await;
        assert!(send.contains("Success-Report: yes\r\n") && send.contains("\r\n\r\nHello\r\n-------"), "{send}");
        msrp.respond(&send, "200 OK").await;
        msrp.report(&send, "1-5/5", "000 200 OK").await;
    });
    assert_eq!(delivery, Delivery::Delivered);

    msrp.send("abcd1234", "1-4/8", "Success-Report: yes\r\n", "four", '+').await;
    msrp.send("abcd1235", "5-8/8", "Success-Report: yes\r\n", "more", '$').await;
    let heard = session.recv().await.unwrap();
    assert_eq!(heard.text(), Some("fourmore"));
    for wanted in ["MSRP abcd1234 200 OK", "MSRP abcd1235 200 OK", "Byte-Range: 1-8/8\r\nStatus: 000 200 OK"] {
        let frame = msrp.frame().await;
        assert!(frame.contains(wanted), "{frame}");
    }

    peer.within(&invite, true, "BYE", 7, "Reason: SIP;cause=480\r\n", "").await;
    assert_eq!(peer.hear().await.view().status(), 200);
    assert_eq!(session.ended().await, Ended::ByPeer(Some("SIP;cause=480".to_owned())));
    assert_eq!(session.recv().await, None);
    assert_eq!(session.send_text("too late").await, Delivery::Lost);
    peer.within(&invite, true, "BYE", 8, "", "").await;
    assert_eq!(peer.hear().await.view().status(), 481);
}

#[tokio::test]
async fn a_refusal_is_acknowledged_and_told() {
    let mut peer = Peer::udp().await;
    let (alice, _inbox) = client(&peer, fast()).await;
    let invited = invite(&alice, SessionOptions { setup: Setup::Active, ..SessionOptions::default() });
    let invite = peer.hear().await;
    assert_eq!(sdp::Offer::read(invite.view().body()).unwrap().setup(), Some(Setup::Active));
    peer.answer(&invite, 486, "").await;
    assert_eq!(peer.hear().await.view().method(), Method::Ack);
    let error = invited.await.unwrap().unwrap_err();
    assert_eq!(error.status(), Some(486), "{error}");
}

#[tokio::test]
async fn an_invitation_that_nobody_answers_is_taken_back() {
    let mut peer = Peer::tcp().await;
    let (alice, _inbox) = client(&peer, fast()).await;
    let ring = Duration::from_millis(150);
    let invited = invite(&alice, SessionOptions { ring, ..SessionOptions::default() });
    let invite = peer.hear().await;
    peer.answer(&invite, 180, "").await;
    let cancel = peer.hear().await;
    assert_eq!(cancel.view().method(), Method::Cancel);
    assert_eq!(header(&cancel, Name::Via), header(&invite, Name::Via));
    peer.answer(&cancel, 200, "").await;
    peer.answer(&invite, 487, "").await;
    assert_eq!(peer.hear().await.view().method(), Method::Ack);
    assert!(matches!(invited.await.unwrap(), Err(ClientError::Unanswered { .. })));
}

#[tokio::test]
async fn who_stops_waiting_takes_the_invitation_back_and_ends_what_was_taken_meanwhile() {
    let mut peer = Peer::tcp().await;
    let (alice, _inbox) = client(&peer, fast()).await;
    let invited = invite(&alice, SessionOptions::default());
    let invite = peer.hear().await;
    peer.answer(&invite, 180, "").await;
    invited.abort();
    let cancel = peer.hear().await;
    assert_eq!(cancel.view().method(), Method::Cancel);
    peer.answer(&cancel, 200, "").await;
    // RFC 3261 §15: the 2xx was faster.
    let msrp = Msrp::listen("msrp://127.0.0.1:9/none;tcp").await;
    peer.answer_with(&invite, &msrp.sdp("passive")).await;
    assert_eq!(peer.hear().await.view().method(), Method::Ack);
    let bye = peer.hear().await;
    assert_eq!(bye.view().method(), Method::Bye);
    peer.answer(&bye, 200, "").await;
}

#[tokio::test]
async fn an_invitation_is_taken_and_held_through_a_new_offer() {
    let (mut peer, _alice, mut inbox) = called().await;
    let mut msrp = Msrp::listen("").await;
    peer.ask("INVITE", "1", &format!("{CONTACT}{SDP}"), &msrp.sdp("actpass")).await;
    assert_eq!(peer.hear().await.view().status(), 100);
    let call = invitation(&mut inbox).await;
    assert_eq!((call.from(), call.display()), ("sip:bob@example.com", Some("Bob")));
    call.ring().await;
    assert_eq!(peer.hear().await.view().status(), 180);
    let accepted = tokio::spawn(call.accept());
    let taken = peer.hear().await;
    // RFC 3261 §13.3.1.4: repeated until the ACK comes.
    assert_eq!(peer.hear().await.bytes(), taken.bytes());
    let answer = sdp::Answer::read(taken.view().body()).unwrap();
    assert_eq!(answer.setup(), Some(Setup::Active));
    peer.within(&taken, false, "ACK", 1, "", "").await;
    msrp.theirs = answer.remote_path().to_owned();
    msrp.accept().await;
    let hello = msrp.frame().await;
    msrp.respond(&hello, "200 OK").await;
    let session = accepted.await.unwrap().unwrap();

    // RFC 4975 §8.4: nothing has changed.
    peer.within(&taken, false, "INVITE", 2, &format!("{CONTACT}{SDP}"), &msrp.sdp("actpass")).await;
    let again = peer.hear().await;
    assert_eq!((again.view().status(), again.view().body()), (200, taken.view().body()));
    peer.within(&taken, false, "ACK", 2, "", "").await;

    let hung_up = tokio::spawn(async move { session.close().await });
    let bye = peer.hear().await;
    assert_eq!(bye.view().method(), Method::Bye);
    peer.answer(&bye, 200, "").await;
    assert_eq!(hung_up.await.unwrap(), Ended::ByUs);
}

#[tokio::test]
async fn an_invitation_can_be_refused_taken_back_or_let_go() {
    let (mut peer, _alice, mut inbox) = called().await;
    let offer = Msrp::listen("").await.sdp("actpass");
    let lines = format!("{CONTACT}{SDP}");
    peer.ask("INVITE", "1", &lines, &offer).await;
    peer.hear().await;
    invitation(&mut inbox).await.refuse(603).await;
    assert_eq!(peer.hear().await.view().status(), 603);

    peer.ask("INVITE", "2", &lines, &offer).await;
    peer.hear().await;
    let mut call = invitation(&mut inbox).await;
    peer.ask("CANCEL", "2", "", "").await;
    let mut statuses = [peer.hear().await.view().status(), peer.hear().await.view().status()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 487]);
    call.taken_back().await;
    drop(call);

    peer.ask("INVITE", "3", &lines, &offer).await;
    peer.hear().await;
    drop(invitation(&mut inbox).await);
    assert_eq!(peer.hear().await.view().status(), 480);

    for (branch, lines, body, status) in [("4", SDP, "v=0", 400), ("6", "Content-Type: text/plain\r\n", "x", 415)] {
        peer.ask("INVITE", branch, lines, body).await;
        assert_eq!(peer.hear().await.view().status(), status, "{lines}{body}");
    }
}

#[tokio::test]
async fn who_takes_no_sessions_says_so() {
    let mut peer = Peer::tcp().await;
    let (_alice, _inbox) = client(&peer, Options { sessions: false, ..fast() }).await;
    peer.accept().await;
    peer.ask("INVITE", "1", &format!("{CONTACT}{SDP}"), "v=0").await;
    let answer = peer.hear().await;
    assert_eq!((answer.view().status(), header(&answer, Name::Allow).as_str()), (405, "MESSAGE, OPTIONS"));
}

#[tokio::test]
async fn what_does_not_belong_here_is_refused_and_what_is_refused_is_told() {
    let options = SessionOptions {
        accept_types: "text/plain image/*".to_owned(),
        message_bytes: 100,
        ..SessionOptions::default()
    };
    let (_peer, session, mut msrp) = talking(options).await;
    for (tid, range, to, kind, wanted) in [
        ("aaaa0001", "1-2/2", "msrp://127.0.0.1:1/other;tcp", "text/plain", "481"),
        ("aaaa0002", "1-2/2", "", "video/mp4", "415"),
        ("aaaa0003", "1-*/101", "", "text/plain", "413"),
        ("aaaa0004", "1-2/2", "", "image/png", "200"),
    ] {
        let to = if to.is_empty() { msrp.theirs.clone() } else { to.to_owned() };
        let from = msrp.ours.clone();
        msrp.say(&format!(
            "MSRP {tid} SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: id{tid}\r\nByte-Range: {range}\r\n\
             Content-Type: {kind}\r\n\r\nxx\r\n-------{tid}$\r\n"
        ))
        .await;
        let frame = msrp.frame().await;
        assert!(frame.starts_with(&format!("MSRP {tid} {wanted}")), "{frame}");
    }
    assert_eq!(session.recv().await.unwrap().content_type, "image/png");
    // What the other side does not take is not sent at all (RFC 4975 §8.6).
    assert_eq!(session.send("video/mp4", Bytes::from_static(b"x")).await, Delivery::Refused(415));
    for (response, report, wanted) in
        [("413 Stop", "", Delivery::Refused(413)), ("200 OK", "000 403 No", Delivery::Refused(403))]
    {
        let (delivery, ()) = tokio::join!(session.send_text("Hello"), async {
            let send = msrp.frame().await;
            msrp.respond(&send, response).await;
            if !report.is_empty() {
                msrp.report(&send, "1-5/5", report).await;
            }
        });
        assert_eq!(delivery, wanted);
    }
}

#[tokio::test]
async fn a_large_message_goes_in_chunks_and_a_small_one_does_not_wait_for_it() {
    let (_peer, session, mut msrp) = talking(SessionOptions { reports: false, ..SessionOptions::default() }).await;
    let body = Bytes::from(vec![b'x'; 6_000_000]);
    let large = session.send("text/plain", body);
    let small = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        session.send_text("small").await
    };
    let hear = async {
        // Longer than the small one takes to be asked for; without answers no more than 64 chunks come until then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (mut octets, mut small_at, mut frames) = (0, None, 0);
        while octets < 6_000_000 || small_at.is_none() {
            let frame = msrp.frame().await;
            let body = frame.split_once("\r\n\r\n").unwrap().1.rsplit_once("\r\n-------").unwrap().0;
            if body == "small" {
                small_at = Some(frames);
            } else {
                octets += body.len();
            }
            frames += 1;
            msrp.respond(&frame, "200 OK").await;
        }
        (octets, small_at.unwrap(), frames)
    };
    let (large, small, (octets, small_at, frames)) = tokio::join!(large, small, hear);
    assert_eq!((large, small, octets), (Delivery::Taken, Delivery::Taken, 6_000_000));
    assert!(small_at + 1 < frames, "the small one came {small_at}th of {frames}");
}

#[tokio::test]
async fn a_lost_connection_ends_the_session_with_bye() {
    let (mut peer, session, msrp) = talking(SessionOptions::default()).await;
    drop(msrp);
    let bye = peer.hear().await;
    assert_eq!(bye.view().method(), Method::Bye);
    peer.answer(&bye, 200, "").await;
    assert!(matches!(session.ended().await, Ended::Lost(_)));
}
