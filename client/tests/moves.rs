//! Who is invited without an offer makes one (RFC 3261 §13.2.1), and who is offered another path goes there, or says no
//! and stays (RFC 3264 §8, RFC 4975 §5.4, §8.4).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod support;

use std::time::Duration;

use client::{Client, Delivery, Ended, Inbox, Session, SessionOptions, Setup};
use sip::{Message, Method, Name};
use support::talkers::{CONTACT, Msrp, SDP, called, invitation, talking, value};
use support::{Peer, SOON, header};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn an_invite_without_an_offer_is_answered_with_one_and_its_ack_has_the_answer() {
    for setup in ["passive", "active"] {
        let (mut peer, _alice, mut inbox) = called().await;
        peer.ask("INVITE", "1", CONTACT, "").await;
        assert_eq!(peer.hear().await.view().status(), 100);
        let call = invitation(&mut inbox).await;
        assert_eq!(call.accept_types().count(), 0);
        let accepted = tokio::spawn(call.accept());
        let taken = peer.hear().await;
        assert_eq!((taken.view().status(), header(&taken, Name::ContentType).as_str()), (200, "application/sdp"));
        let offer = sdp::Offer::read(taken.view().body()).unwrap();
        // RFC 6135 §4.2.2: who can be reached offers both.
        assert_eq!(offer.setup(), Some(Setup::ActPass));
        let mut msrp = Msrp::listen(offer.remote_path()).await;
        peer.within(&taken, false, "ACK", 1, SDP, &msrp.sdp(setup)).await;
        begin(&mut msrp, setup == "active").await;
        let session = accepted.await.unwrap().unwrap();
        says(&session, &mut msrp, "Hello").await;
        assert_eq!(session.send("video/mp4", "x").await, Delivery::Refused(415), "the types in the answer hold");
    }
}

#[tokio::test]
async fn an_ack_that_has_no_answer_ends_the_call() {
    for (lines, body) in [("", ""), (SDP, "v=0"), ("Content-Type: text/plain\r\n", "x")] {
        let (mut peer, _alice, mut inbox) = called().await;
        peer.ask("INVITE", "1", CONTACT, "").await;
        peer.hear().await;
        let accepted = tokio::spawn(invitation(&mut inbox).await.accept());
        let taken = peer.hear().await;
        peer.within(&taken, false, "ACK", 1, lines, body).await;
        let bye = peer.hear().await;
        assert_eq!(bye.view().method(), Method::Bye);
        peer.answer(&bye, 200, "").await;
        let error = accepted.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("answer to our offer"), "{error}");
    }
}

#[tokio::test]
async fn a_session_moves_to_the_path_of_a_new_offer_and_loses_nothing() {
    let (mut peer, _alice, taken, session, mut old) = invited().await;
    // Half of a message has come, and one of ours is not answered yet.
    old.send("half0001", "1-4/8", "Success-Report: yes\r\n", "four", '+').await;
    assert!(old.frame().await.starts_with("MSRP half0001 200"));
    let mut new = Msrp::listen(&old.theirs).await;
    let (delivery, ()) = tokio::join!(session.send_text("Are you there?"), async {
        let unheard = old.frame().await;
        peer.within(&taken, false, "INVITE", 2, &format!("{CONTACT}{SDP}"), &new.sdp("actpass")).await;
        let again = peer.hear().await;
        assert_eq!(again.view().status(), 200);
        let answer = sdp::Answer::read(again.view().body()).unwrap();
        assert_eq!(answer.setup(), Some(Setup::Active));
        // RFC 3264 §8: what changes has the next version, what does not has none.
        assert_eq!(again.view().body(), taken.view().body());
        peer.within(&taken, false, "ACK", 2, "", "").await;
        begin(&mut new, false).await;
        // RFC 4975 §5.4: under the id that it had.
        let heard = new.frame().await;
        assert_eq!(value(&heard, "Message-ID"), value(&unheard, "Message-ID"));
        assert!(heard.contains("Are you there?") && value(&heard, "To-Path") == new.ours, "{heard}");
        new.respond(&heard, "200 OK").await;
        new.report(&heard, "1-14/14", "000 200 OK").await;
    });
    assert_eq!(delivery, Delivery::Delivered);
    // The old connection is closed.
    assert!(old.is_closed().await);
    new.send("half0002", "5-8/8", "Success-Report: yes\r\n", "more", '$').await;
    assert_eq!(session.recv().await.unwrap().text(), Some("fourmore"));
    for wanted in ["MSRP half0002 200", "Byte-Range: 1-8/8\r\nStatus: 000 200"] {
        let frame = new.frame().await;
        assert!(frame.contains(wanted), "{frame}");
    }
    // A message that came whole before is not shown twice after a move, and is acknowledged.
    let mut third = Msrp::listen(&old.theirs).await;
    peer.within(&taken, false, "INVITE", 3, &format!("{CONTACT}{SDP}"), &third.sdp("actpass")).await;
    assert_eq!(peer.hear().await.view().status(), 200);
    peer.within(&taken, false, "ACK", 3, "", "").await;
    begin(&mut third, false).await;
    third.send("twice001", "1-8/8", "", "fourmore", '$').await;
    assert!(third.frame().await.starts_with("MSRP twice001 200"));
    says(&session, &mut third, "Here").await;
    third.respond_to_bye(&mut peer, session).await;
}

#[tokio::test]
async fn a_new_offer_that_nobody_can_follow_is_refused_and_the_session_stays() {
    let (mut peer, _alice, taken, session, mut msrp) = invited().await;
    let elsewhere = Msrp::listen("").await.sdp("actpass");
    let (secure, refused) = (elsewhere.replace("msrp://", "msrps://"), elsewhere.replace("m=message", "m=audio"));
    for (cseq, offer) in [(2, secure), (3, refused), (4, "v=0\r\n".to_owned())] {
        peer.within(&taken, false, "INVITE", cseq, &format!("{CONTACT}{SDP}"), &offer).await;
        let status = peer.hear().await.view().status();
        assert!([488, 400].contains(&status), "{status} to {offer}");
        peer.within(&taken, false, "ACK", cseq, "", "").await;
        says(&session, &mut msrp, "Still here").await;
    }
}

#[tokio::test]
async fn who_said_that_it_cannot_be_connected_to_opens_a_port_when_it_must() {
    let (mut peer, _alice, taken, session, old) = invited().await;
    assert!(old.theirs.contains(":9/"), "{}", old.theirs);
    let mut new = Msrp::listen("").await;
    peer.within(&taken, false, "INVITE", 2, &format!("{CONTACT}{SDP}"), &new.sdp("active")).await;
    let again = peer.hear().await;
    let answer = sdp::Answer::read(again.view().body()).unwrap();
    assert_eq!(answer.setup(), Some(Setup::Passive));
    assert_eq!(version(&again), version(&taken) + 1);
    new.theirs = answer.remote_path().to_owned();
    peer.within(&taken, false, "ACK", 2, "", "").await;
    begin(&mut new, true).await;
    says(&session, &mut new, "Found").await;
}

#[tokio::test]
async fn who_invited_follows_too_and_stays_where_it_can_be_connected_to() {
    let (mut peer, session, old) = talking(SessionOptions::default()).await;
    let mut new = Msrp::listen(&old.theirs).await;
    // The dialog is ours: its 2xx came from the peer.
    let invite = old.invite.clone().unwrap();
    peer.within(&invite, true, "INVITE", 5, &format!("{CONTACT}{SDP}"), &new.sdp("active")).await;
    let again = peer.hear().await;
    let answer = sdp::Answer::read(again.view().body()).unwrap();
    // RFC 3264 §6: an answer never says actpass.
    assert_eq!((answer.setup(), answer.remote_path()), (Some(Setup::Passive), old.theirs.as_str()));
    peer.within(&invite, true, "ACK", 5, "", "").await;
    begin(&mut new, true).await;
    says(&session, &mut new, "Found").await;
}

#[tokio::test]
async fn a_new_invite_without_an_offer_gets_ours_and_moves_where_its_ack_says() {
    let (mut peer, _alice, taken, session, mut old) = invited().await;
    // As a session timer does: nothing has changed.
    peer.within(&taken, false, "INVITE", 2, CONTACT, "").await;
    let offered = peer.hear().await;
    assert_eq!(sdp::Offer::read(offered.view().body()).unwrap().setup(), Some(Setup::Active));
    // RFC 3261 §14.2: no offer while ours is not answered.
    peer.within(&taken, false, "INVITE", 3, &format!("{CONTACT}{SDP}"), &old.sdp("actpass")).await;
    let refused = heard(&mut peer, 491).await;
    assert_eq!(refused.view().cseq().unwrap().number, 3);
    peer.within(&taken, false, "ACK", 3, "", "").await;
    peer.within(&taken, false, "ACK", 2, SDP, &old.sdp("passive")).await;
    says(&session, &mut old, "Still here").await;

    let mut new = Msrp::listen(&old.theirs).await;
    peer.within(&taken, false, "INVITE", 4, CONTACT, "").await;
    heard(&mut peer, 200).await;
    // The connection goes first: that alone ends nothing while somebody moves.
    drop(old);
    tokio::time::sleep(Duration::from_millis(300)).await;
    peer.within(&taken, false, "ACK", 4, SDP, &new.sdp("passive")).await;
    begin(&mut new, false).await;
    says(&session, &mut new, "Moved").await;
}

#[tokio::test]
async fn a_move_to_where_nobody_is_ends_the_session() {
    let (mut peer, _alice, taken, session, _old) = invited().await;
    let nowhere = Msrp::listen("").await;
    let sdp = nowhere.sdp("passive");
    drop(nowhere);
    peer.within(&taken, false, "INVITE", 2, &format!("{CONTACT}{SDP}"), &sdp).await;
    assert_eq!(peer.hear().await.view().status(), 200);
    peer.within(&taken, false, "ACK", 2, "", "").await;
    let bye = peer.hear().await;
    assert_eq!(bye.view().method(), Method::Bye);
    peer.answer(&bye, 200, "").await;
    assert!(matches!(session.ended().await, Ended::Lost(_)));
}

/// A session to which alice was invited, and over which she connected; the 200 is hers.
async fn invited() -> (Peer, (Client, Inbox), Message, Session, Msrp) {
    let (mut peer, alice, mut inbox) = called().await;
    let mut msrp = Msrp::listen("").await;
    peer.ask("INVITE", "1", &format!("{CONTACT}{SDP}"), &msrp.sdp("actpass")).await;
    peer.hear().await;
    let accepted = tokio::spawn(invitation(&mut inbox).await.accept());
    let taken = peer.hear().await;
    peer.within(&taken, false, "ACK", 1, "", "").await;
    msrp.theirs = sdp::Answer::read(taken.view().body()).unwrap().remote_path().to_owned();
    begin(&mut msrp, false).await;
    (peer, (alice, inbox), taken, accepted.await.unwrap().unwrap(), msrp)
}

/// The connection is made, by the peer or to it, and whoever made it says so.
async fn begin(msrp: &mut Msrp, is_ours: bool) {
    if is_ours {
        let place = msrp.theirs.split(['/', '/']).nth(2).unwrap();
        msrp.stream = Some(timeout(SOON, TcpStream::connect(place)).await.unwrap().unwrap());
        let (ours, theirs) = (msrp.ours.clone(), msrp.theirs.clone());
        msrp.say(&format!(
            "MSRP hello001 SEND\r\nTo-Path: {theirs}\r\nFrom-Path: {ours}\r\nMessage-ID: hello001\r\n\
             Byte-Range: 1-0/0\r\n-------hello001$\r\n"
        ))
        .await;
        assert!(msrp.frame().await.starts_with("MSRP hello001 200"));
    } else {
        msrp.accept().await;
        let hello = msrp.frame().await;
        assert!(hello.contains("Byte-Range: 1-0/0") && value(&hello, "To-Path") == msrp.ours, "{hello}");
        msrp.respond(&hello, "200 OK").await;
    }
}

/// A text goes out, and is heard here.
async fn says(session: &Session, msrp: &mut Msrp, text: &str) {
    let (delivery, ()) = tokio::join!(session.send_text(text), async {
        let send = msrp.frame().await;
        assert!(send.contains(text), "{send}");
        msrp.respond(&send, "200 OK").await;
        msrp.report(&send, &format!("1-{0}/{0}", text.len()), "000 200 OK").await;
    });
    assert_eq!(delivery, Delivery::Delivered);
}

/// The first response of this status: 2xx are repeated until their ACK.
async fn heard(peer: &mut Peer, status: u16) -> Message {
    loop {
        let message = peer.hear().await;
        if message.view().status() == status {
            return message;
        }
    }
}

/// The version in `o=`.
fn version(message: &Message) -> u64 {
    let body = std::str::from_utf8(message.view().body()).unwrap();
    let origin = body.lines().find(|line| line.starts_with("o=")).unwrap();
    origin.split(' ').nth(2).unwrap().parse().unwrap()
}

impl Msrp {
    async fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 1];
        let read = tokio::io::AsyncReadExt::read(self.stream.as_mut().unwrap(), &mut buffer);
        matches!(timeout(SOON, read).await, Ok(Ok(0) | Err(_)))
    }

    async fn respond_to_bye(&mut self, peer: &mut Peer, session: Session) {
        let (ended, ()) = tokio::join!(session.close(), async {
            let bye = peer.hear().await;
            assert_eq!(bye.view().method(), Method::Bye);
            peer.answer(&bye, 200, "").await;
        });
        assert_eq!((ended, session.recv().await), (Ended::ByUs, None));
    }
}
