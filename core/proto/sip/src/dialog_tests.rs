//! What RFC 3261 §12 says of dialogs, clause by clause.

use proptest::prelude::*;

use super::*;
use crate::message::Message;

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa\r\n\
    Record-Route: <sip:p1.example.com;lr>, <sip:p2.example.com;lr>\r\n\
    From: \"Al\" <sip:alice@example.com>;tag=al\r\n\
    To: <sip:bob@example.com>\r\n\
    Call-ID: 1@x\r\n\
    CSeq: 7 INVITE\r\n\
    Contact: <sip:alice@10.0.0.1:5070>;+g.oma.sip-im\r\n\
    Content-Length: 0\r\n\r\n";
const ANSWER: &str = "SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa\r\n\
    Record-Route: <sip:p1.example.com;lr>\r\n\
    Record-Route: <sip:p2.example.com;lr>\r\n\
    From: \"Al\" <sip:alice@example.com>;tag=al\r\n\
    To: <sip:bob@example.com>;tag=bo\r\n\
    Call-ID: 1@x\r\n\
    CSeq: 7 INVITE\r\n\
    Contact: <sip:bob@10.0.0.2:5080>\r\n\
    Content-Length: 0\r\n\r\n";

fn message(text: &str) -> Message {
    Message::parse(text.to_owned().into()).unwrap()
}

fn answering() -> Dialog {
    Dialog::of_request(message(INVITE).view(), "bo").unwrap()
}

fn asking(answer: &str) -> Dialog {
    Dialog::of_response(message(INVITE).view(), message(answer).view()).unwrap()
}

fn within(method: &'static str) -> Within<'static> {
    Within { method, via: "SIP/2.0/UDP us;branch=z9hG4bKu", max_forwards: 70, lines: b"", body: b"" }
}

/// Start line, then the named fields.
fn said(dialog: &mut Dialog, method: &'static str) -> String {
    let mut out = Vec::new();
    dialog.request(&mut out, &within(method));
    String::from_utf8(out).unwrap()
}

/// A request of Alice's to Bob in this dialog.
fn from_alice(number: u32, from_tag: &str, to_tag: &str, contact: &str) -> Message {
    message(&format!(
        "INVITE sip:us SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKr\r\nFrom: <sip:alice@example.com>{from_tag}\r\n\
         To: <sip:bob@example.com>{to_tag}\r\nCall-ID: 1@x\r\nCSeq: {number} INVITE\r\n{contact}Content-Length: 0\r\n\r\n"
    ))
}

#[test]
fn who_answers_takes_the_route_as_it_stands_and_who_asks_reverses_it() {
    // RFC 3261 §12.1.1, §12.1.2.
    let routes = |text: &str| text.lines().filter(|line| line.starts_with("Route")).collect::<Vec<_>>().join("|");
    let bye = said(&mut answering(), "BYE");
    assert!(bye.starts_with("BYE sip:alice@10.0.0.1:5070 SIP/2.0\r\n"), "{bye}");
    assert_eq!(routes(&bye), "Route: <sip:p1.example.com;lr>|Route: <sip:p2.example.com;lr>");
    let bye = said(&mut asking(ANSWER), "BYE");
    assert!(bye.starts_with("BYE sip:bob@10.0.0.2:5080 SIP/2.0\r\n"), "{bye}");
    assert_eq!(routes(&bye), "Route: <sip:p2.example.com;lr>|Route: <sip:p1.example.com;lr>");
}

#[test]
fn from_is_ours_and_to_is_theirs_whoever_called() {
    // RFC 3261 §12.2.1.1.
    let bye = said(&mut answering(), "BYE");
    assert!(
        bye.contains("\r\nFrom: <sip:bob@example.com>;tag=bo\r\nTo: \"Al\" <sip:alice@example.com>;tag=al\r\n"),
        "{bye}"
    );
    let bye = said(&mut asking(ANSWER), "BYE");
    assert!(
        bye.contains("\r\nFrom: \"Al\" <sip:alice@example.com>;tag=al\r\nTo: <sip:bob@example.com>;tag=bo\r\n"),
        "{bye}"
    );
}

#[test]
fn our_numbers_rise_by_one_and_an_ack_has_the_number_of_its_invite() {
    // RFC 3261 §12.2.1.1, §13.2.2.4: here the INVITE was number 7.
    let mut dialog = asking(ANSWER);
    let mut ack = Vec::new();
    dialog.acknowledge(&mut ack, 7, "SIP/2.0/UDP us;branch=z9hG4bKown");
    let ack = String::from_utf8(ack).unwrap();
    assert!(ack.starts_with("ACK sip:bob@10.0.0.2:5080 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKown\r\n"), "{ack}");
    assert!(ack.contains("\r\nCSeq: 7 ACK\r\n"), "{ack}");
    assert!(said(&mut dialog, "INFO").contains("\r\nCSeq: 8 INFO\r\n"));
    assert!(said(&mut dialog, "BYE").contains("\r\nCSeq: 9 BYE\r\n"));
    assert!(said(&mut answering(), "BYE").contains("\r\nCSeq: 1 BYE\r\n"));
}

#[test]
fn a_strict_router_stands_in_the_request_uri_and_the_target_at_the_end() {
    // RFC 3261 §12.2.1.1.
    let answer = ANSWER.replace("p2.example.com;lr", "p2.example.com");
    let mut dialog = asking(&answer);
    assert_eq!(dialog.next_hop(), "sip:p2.example.com");
    let bye = said(&mut dialog, "BYE");
    assert!(bye.starts_with("BYE sip:p2.example.com SIP/2.0\r\n"), "{bye}");
    assert!(bye.contains("\r\nRoute: <sip:p1.example.com;lr>\r\nRoute: <sip:bob@10.0.0.2:5080>\r\n"), "{bye}");
}

#[test]
fn a_request_belongs_to_the_dialog_whose_tags_and_call_id_it_has() {
    // RFC 3261 §12.2.2.
    let dialog = answering();
    assert!(dialog.matches(from_alice(8, ";tag=al", ";tag=bo", "").view()));
    for (from, to) in [(";tag=AL", ";tag=bo"), (";tag=al", ";tag=b"), (";tag=al", ""), ("", ";tag=bo")] {
        assert!(!dialog.matches(from_alice(8, from, to, "").view()), "{from} {to}");
    }
    let asking = asking(ANSWER);
    assert!(asking.answers(message(ANSWER).view()));
    assert!(!asking.answers(message(&ANSWER.replace("tag=bo", "tag=fork")).view()));
}

#[test]
fn a_lower_number_is_out_of_order_and_a_gap_is_fine() {
    // RFC 3261 §12.2.2.
    let mut dialog = answering();
    let number = |dialog: &mut Dialog, number| {
        dialog.receive(from_alice(number, ";tag=al", ";tag=bo", "").view()).map_err(|fault| fault.status)
    };
    assert_eq!(number(&mut dialog, 6), Err(500));
    assert_eq!(number(&mut dialog, 8), Ok(()));
    assert_eq!(number(&mut dialog, 800), Ok(()));
    assert_eq!(number(&mut dialog, 799), Err(500));
    // The asking side has heard nothing yet: any number is the first.
    assert_eq!(number(&mut asking(ANSWER), 1), Ok(()));
}

#[test]
fn a_new_target_is_taken_and_the_route_stays() {
    // RFC 3261 §12.2.
    let mut dialog = answering();
    dialog.refresh(from_alice(8, ";tag=al", ";tag=bo", "Contact: <sip:alice@10.9.9.9>\r\n").view());
    assert_eq!((dialog.target(), dialog.next_hop()), ("sip:alice@10.9.9.9", "sip:p1.example.com;lr"));
    dialog.refresh(from_alice(9, ";tag=al", ";tag=bo", "").view());
    assert_eq!(dialog.target(), "sip:alice@10.9.9.9");
}

#[test]
fn an_invite_needs_one_contact_and_an_answer_may_have_none() {
    // RFC 3261 §8.1.1.8, §12.1.2.
    let with = |contact: &str| {
        let text = INVITE.replace("Contact: <sip:alice@10.0.0.1:5070>;+g.oma.sip-im\r\n", contact);
        Dialog::of_request(message(&text).view(), "bo").map(|dialog| dialog.target().to_owned())
    };
    assert_eq!(with(""), Err(HeaderError::Missing(Name::Contact)));
    assert_eq!(with("Contact: *\r\n"), Err(HeaderError::Malformed(Name::Contact)));
    assert_eq!(with("Contact: <sip:a@b>, <sip:c@d>\r\n"), Err(HeaderError::Repeated(Name::Contact)));
    assert_eq!(with("m: <sip:a@b>\r\n"), Ok("sip:a@b".to_owned()));
    // RFC 3261 §12.2.1.1: what a Request-URI must not have is left out.
    assert_eq!(with("m: <sip:a@b;x=y?Subject=z>\r\n"), Ok("sip:a@b;x=y".to_owned()));
    assert_eq!(with("m: <sip:a?x@b?Subject=z>\r\n"), Ok("sip:a?x@b".to_owned()));
    let bare = ANSWER.replace("Contact: <sip:bob@10.0.0.2:5080>\r\n", "");
    assert_eq!(asking(&bare).target(), "sip:bob@example.com");
}

#[test]
fn a_folded_name_is_written_on_one_line() {
    let folded = INVITE.replace("\"Al\" <sip", "\"Al\"\r\n <sip");
    let mut dialog = Dialog::of_request(message(&folded).view(), "bo").unwrap();
    let bye = said(&mut dialog, "BYE");
    assert!(bye.contains("\r\nTo: \"Al\"   <sip:alice@example.com>;tag=al\r\n"), "{bye}");
}

#[test]
fn only_invite_and_update_bring_a_new_target() {
    assert!(refreshes_target(Method::Invite) && refreshes_target(Method::Update));
    assert!(!refreshes_target(Method::Bye) && !refreshes_target(Method::Ack));
}

proptest! {
    /// Whatever a peer's 2xx says, what we send in its dialog can be read again and is a request of that dialog.
    #[test]
    fn any_answer_makes_readable_requests_or_no_dialog(at in 0..ANSWER.len(), byte: u8) {
        let mut answer = ANSWER.as_bytes().to_vec();
        answer[at] = byte;
        let Ok(answer) = Message::parse(answer.into()) else { return Ok(()) };
        let Ok(mut dialog) = Dialog::of_response(message(INVITE).view(), answer.view()) else { return Ok(()) };
        let mut out = Vec::new();
        dialog.request(&mut out, &within("BYE"));
        let bye = Message::parse(out.into());
        prop_assert!(bye.is_ok(), "{:?}", bye);
        let bye = bye.unwrap();
        prop_assert_eq!(bye.view().check_request(), Ok(()), "{:?}", bye);
    }
}
