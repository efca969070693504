//! What a session writes: which fields of one leg's messages go on to the other, and what we say of ourselves.

use sip::{Name, View};
use smallvec::SmallVec;

use crate::hop::Hop;
use crate::house::House;
use crate::message::SessionKey;
use crate::router;

/// What we can do in a session (RFC 3261 §20.5).
pub(super) const ALLOW: &str = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK\r\n";
/// Extensions of ours; reliable provisional responses are made where they are required, and asked of nobody.
pub(super) const SUPPORTED: &str = "Supported: timer\r\n";
/// The type of our bodies.
pub(super) const SDP: &str = "Content-Type: application/sdp\r\n";

/// Fields that belong to one leg: its route, its dialog, its transaction, its credentials, its body, and what was agreed
/// there with us. All others are the two people's business and go on octet for octet (RFC 3261 §16.6, RFC 5853 §3.1).
const OF_ONE_LEG: &[Name] = &[
    Name::Via,
    Name::Route,
    Name::RecordRoute,
    Name::Path,
    Name::ServiceRoute,
    Name::MaxForwards,
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::Contact,
    Name::Timestamp,
    Name::Authorization,
    Name::ProxyAuthorization,
    Name::WwwAuthenticate,
    Name::ProxyAuthenticate,
    Name::AuthenticationInfo,
    Name::PPreferredIdentity,
    Name::Identity,
    Name::Require,
    Name::ProxyRequire,
    Name::Supported,
    Name::Unsupported,
    Name::Allow,
    Name::RAck,
    Name::RSeq,
    Name::SessionExpires,
    Name::MinSe,
    Name::Replaces,
    Name::Join,
    Name::SecurityClient,
    Name::SecurityServer,
    Name::SecurityVerify,
    Name::ContentLength,
    Name::ContentType,
    Name::ContentEncoding,
    Name::ContentLanguage,
    Name::ContentDisposition,
    Name::ContentTransferEncoding,
    Name::MimeVersion,
];

/// Appends the fields that go on to the other leg, but for these.
pub(super) fn pass_on(out: &mut Vec<u8>, message: View<'_>, strip: &[Name]) {
    let stays = |name: Name| name != Name::Other && (OF_ONE_LEG.contains(&name) || strip.contains(&name));
    for field in message.fields().iter().filter(|field| !stays(field.name)) {
        out.extend_from_slice(message.at(field.line));
    }
}

/// Appends whole fields of these names.
pub(super) fn keep(out: &mut Vec<u8>, message: View<'_>, names: &[Name]) {
    for field in message.fields().iter().filter(|field| names.contains(&field.name)) {
        out.extend_from_slice(message.at(field.line));
    }
}

/// Our Contact on a leg: what in-dialog requests are sent to.
pub(super) fn contact(house: &House, key: SessionKey, hop: Hop) -> String {
    let name = if hop.is_reliable() {
        &house.config.tcp
    } else {
        house.config.udp.get(usize::from(hop.listener())).unwrap_or(&house.config.tcp)
    };
    let transport = if hop.is_reliable() { ";transport=tcp" } else { "" };
    format!("Contact: <sip:{}@{}{transport}>;+g.oma.sip-im\r\n", key.text(), name.sent_by)
}

/// The whole value of our Via towards a peer.
pub(super) fn via(house: &House, key: SessionKey, transaction: u32, hop: Hop) -> String {
    let mut via = SmallVec::new();
    router::write_via(house, &mut via, hop, key.branch(transaction).as_bytes());
    String::from_utf8_lossy(&via).into_owned()
}

/// Octets of the wire as a value on one line.
pub(super) fn one_line(value: &[u8]) -> String {
    String::from_utf8_lossy(value).replace(['\r', '\n'], " ")
}

/// The same people with a tag of ours: From or To without the tag that it had.
pub(super) fn with_tag(value: Option<sip::NameAddr<'_>>, tag: &str) -> String {
    let Some(who) = value else { return format!("<sip:anonymous@anonymous.invalid>;tag={tag}") };
    let (name, uri) = (one_line(who.display), one_line(who.uri));
    if name.is_empty() { format!("<{uri}>;tag={tag}") } else { format!("{name} <{uri}>;tag={tag}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_say_goes_on_and_what_belongs_to_a_leg_stays() {
        let text = "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: \"A\" <sip:a@x>;tag=1\r\n\
             To: <sip:b@x>\r\ni: 1\r\nCSeq: 1 INVITE\r\nm: <sip:a@h>\r\nSubject: lunch\r\nk: timer\r\nx: 90\r\n\
             Accept-Contact: *;+g.oma.sip-im\r\nConversation-ID: c1\r\nAuthorization: Digest a=b\r\n\
             P-Asserted-Identity: <sip:a@x>\r\nContent-Type: application/sdp\r\nContent-Length: 0\r\n\r\n";
        let message = sip::Message::parse(text.into()).unwrap();
        let mut out = Vec::new();
        pass_on(&mut out, message.view(), &[Name::PAssertedIdentity]);
        let said = String::from_utf8(out).unwrap();
        assert_eq!(said, "Subject: lunch\r\nAccept-Contact: *;+g.oma.sip-im\r\nConversation-ID: c1\r\n");
        assert_eq!(with_tag(message.view().from().ok(), "t"), "\"A\" <sip:a@x>;tag=t");
        assert_eq!(with_tag(message.view().to().ok(), "t"), "<sip:b@x>;tag=t");
    }
}
