//! The two requests that travel with an INVITE from hop to hop: the ACK for a refusal and the CANCEL.

use base::limits::MAX_FORWARDS;
use bytes::Bytes;

use crate::headers::Name;
use crate::message::Layout;
use crate::parser::parse_datagram;

/// The ACK for a response of 300 to 699 (RFC 3261 §17.1.1.3): an [`Acknowledge`](super::Acknowledge). Nothing when
/// one of the two cannot be read.
pub fn acknowledge(invite: &[u8], response: &[u8]) -> Option<Bytes> {
    let mut layout = Layout::default();
    parse_datagram(response, &mut layout).ok()?;
    // Its To "will usually differ … by the addition of the tag parameter".
    hop_request(invite, "ACK", Some(layout.view(response).first(Name::To)?), b"")
}

/// The CANCEL of an INVITE (RFC 3261 §9.1), for a [`ClientNonInvite`](super::ClientNonInvite) of its own, with further
/// header lines such as Reason (RFC 3326). Nothing when the INVITE cannot be read.
pub fn cancel(invite: &[u8], lines: &[u8]) -> Option<Bytes> {
    hop_request(invite, "CANCEL", None, lines)
}

/// A request without body with the INVITE's Request-URI, top Via, Route, From, Call-ID and CSeq number.
fn hop_request(invite: &[u8], method: &str, to: Option<&[u8]>, lines: &[u8]) -> Option<Bytes> {
    let mut layout = Layout::default();
    parse_datagram(invite, &mut layout).ok()?;
    let invite = layout.view(invite);
    let cseq = invite.cseq().ok()?.number;
    let mut out = Vec::with_capacity(512);
    let mut push = |pieces: &[&[u8]]| pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    push(&[method.as_bytes(), b" ", invite.request_uri(), b" SIP/2.0\r\n"]);
    // "a single Via header field … equal to the top Via": another branch would be another transaction.
    push(&[b"Via: ", invite.top_via().ok()?.text, b"\r\n"]);
    push(&[format!("Max-Forwards: {MAX_FORWARDS}\r\n").as_bytes()]);
    for route in invite.fields().iter().filter(|field| field.name == Name::Route) {
        push(&[invite.at(route.line)]);
    }
    push(&[b"From: ", invite.first(Name::From)?, b"\r\nTo: ", to.or_else(|| invite.first(Name::To))?]);
    push(&[b"\r\nCall-ID: ", invite.first(Name::CallId)?]);
    push(&[format!("\r\nCSeq: {cseq} {method}\r\n").as_bytes(), lines, b"Content-Length: 0\r\n\r\n"]);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INVITE: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff, SIP/2.0/UDP inner;branch=z9hG4bKinner\r\n\
        v: SIP/2.0/UDP innermost;branch=z9hG4bKinnermost\r\n\
        To: Bob <sip:bob@biloxi.com>\r\n\
        From: Alice <sip:alice@atlanta.com>;tag=88sja8x\r\n\
        Route: <sip:one;lr>,\r\n <sip:two;lr>\r\n\
        Route: <sip:three;lr>\r\n\
        Max-Forwards: 3\r\n\
        Require: 100rel\r\n\
        Call-ID: 987asjd97y7atg\r\n\
        CSeq: 986759 INVITE\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 3\r\n\r\nv=0";
    const BUSY: &str = "SIP/2.0 486 Busy Here\r\n\
        Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff\r\n\
        t: Bob <sip:bob@biloxi.com>;tag=99sa0xk\r\n\
        From: Alice <sip:alice@atlanta.com>;tag=88sja8x\r\n\
        Call-ID: 987asjd97y7atg\r\n\
        CSeq: 986759 INVITE\r\n\
        Content-Length: 0\r\n\r\n";

    fn expected(method: &str, to: &str) -> String {
        format!(
            "{method} sip:bob@biloxi.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff\r\n\
             Max-Forwards: 70\r\n\
             Route: <sip:one;lr>,\r\n <sip:two;lr>\r\n\
             Route: <sip:three;lr>\r\n\
             From: Alice <sip:alice@atlanta.com>;tag=88sja8x\r\n\
             To: {to}\r\n\
             Call-ID: 987asjd97y7atg\r\n\
             CSeq: 986759 {method}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }

    #[test]
    fn an_ack_has_the_to_of_the_response_and_the_top_via_alone() {
        // RFC 3261 §17.1.1.3 and its example.
        let ack = acknowledge(INVITE.as_bytes(), BUSY.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&ack), Ok(&*expected("ACK", "Bob <sip:bob@biloxi.com>;tag=99sa0xk")));
    }

    #[test]
    fn a_cancel_has_the_to_of_the_invite_and_asks_for_no_extension() {
        // RFC 3261 §9.1: no Require; one Via; the INVITE's Route.
        let cancel = cancel(INVITE.as_bytes(), b"").unwrap();
        assert_eq!(std::str::from_utf8(&cancel), Ok(&*expected("CANCEL", "Bob <sip:bob@biloxi.com>")));
        let told = cancel_text(b"Reason: SIP;cause=200\r\n");
        assert!(told.ends_with("CSeq: 986759 CANCEL\r\nReason: SIP;cause=200\r\nContent-Length: 0\r\n\r\n"), "{told}");
    }

    fn cancel_text(lines: &[u8]) -> String {
        String::from_utf8(cancel(INVITE.as_bytes(), lines).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_cannot_be_read_gets_no_ack() {
        assert_eq!(acknowledge(INVITE.as_bytes(), b"SIP/2.0 486 Busy Here\r\n\r\n"), None);
        assert_eq!(acknowledge(b"INVITE", BUSY.as_bytes()), None);
        assert_eq!(cancel(INVITE.replace("CSeq: 986759", "CSeq: x").as_bytes(), b""), None);
    }

    proptest! {
        /// A response comes from a stranger: whatever it is, there is an ACK that can be read, or none.
        #[test]
        fn any_response_is_borne(at in 0..BUSY.len(), byte: u8, cut in 0..=BUSY.len()) {
            let mut response = BUSY.as_bytes()[..cut].to_vec();
            if let Some(octet) = response.get_mut(at) {
                *octet = byte;
            }
            if let Some(ack) = acknowledge(INVITE.as_bytes(), &response) {
                prop_assert_eq!(parse_datagram(&ack, &mut Layout::default()).err(), None);
            }
        }
    }
}
