//! What is told of a request's sender, and of who pays: everything among the trusted, to others only what is meant for them
//! (RFC 3325 §5..§9, RFC 7315 §5).
//!
//! ```text
//!               to a trusted peer                             to anybody else
//! from trusted  as it was said; what is missing is made       its identity, unless that is to be private; no charging
//! from others   its identity as we know it; a vector of ours  neither identity nor charging
//! ```

use base::Aor;
use sip::{Message, Name, NameAddr, Via, View};

use super::aor_of;
use crate::hop::Hop;
use crate::house::House;

/// Credentials for us, and what only trusted nodes may say.
const OF_OTHERS: &[Name] = &[
    Name::Authorization,
    Name::ProxyAuthorization,
    Name::Route,
    Name::PAssertedIdentity,
    Name::PPreferredIdentity,
    Name::PChargingVector,
    Name::PChargingFunctionAddresses,
];
/// Of a trusted peer, on the way to somebody who is not.
const OF_TRUSTED: &[Name] =
    &[Name::Route, Name::PPreferredIdentity, Name::PChargingVector, Name::PChargingFunctionAddresses];
/// The same, where the sender wants to stay unknown to the receiver.
const PRIVATE: &[Name] = &[
    Name::Route,
    Name::PPreferredIdentity,
    Name::PChargingVector,
    Name::PChargingFunctionAddresses,
    Name::PAssertedIdentity,
];
/// Among the trusted; the vector is written anew.
const WITHIN: &[Name] = &[Name::Route, Name::PPreferredIdentity, Name::PChargingVector];

/// What changes in a request on its way.
pub(crate) struct Told {
    /// Fields that it loses.
    pub(crate) strip: &'static [Name],
    /// Lines that it gets.
    pub(crate) add: Vec<u8>,
}

/// What changes in a request that came from there and goes there.
pub(crate) fn told(house: &House, view: View<'_>, from: Hop, to: Hop) -> Told {
    let keep = |strip| Told { strip, add: Vec::new() };
    match (is_trusted(house, from), is_trusted(house, to)) {
        (false, false) => keep(OF_OTHERS),
        (true, false) if wants_privacy(view) => keep(PRIVATE),
        (true, false) => keep(OF_TRUSTED),
        (false, true) => Told { strip: OF_OTHERS, add: made(house, view) },
        (true, true) => Told { strip: WITHIN, add: completed(house, view) },
    }
}

/// A response as it may go back: what an untrusted callee says of identity and charging goes nowhere, and what a trusted one
/// says to a trusted caller alone. The caller is who stands below us in Via; a session of ours is none, it tells nothing of
/// charging on. Nothing where nothing is to be taken out, as in all responses between clients.
pub(super) fn cleaned(house: &House, response: View<'_>, from: Hop) -> Option<Message> {
    let told = [Name::PAssertedIdentity, Name::PChargingVector, Name::PChargingFunctionAddresses];
    if !response.fields().iter().any(|field| told.contains(&field.name)) {
        return None;
    }
    let caller = response.values(Name::Via).nth(1).and_then(Via::parse);
    let address =
        caller.and_then(|via| via.received_addr().or_else(|| std::str::from_utf8(via.host).ok()?.parse().ok()));
    let strip = match (is_trusted(house, from), address.is_some_and(|address| house.config.trusts(address))) {
        (true, true) => return None,
        (true, false) if !wants_privacy(response) => &told[1..],
        (true | false, _) => &told[..],
    };
    let mut text = Vec::with_capacity(response.bytes().len());
    let start = response.bytes().split_inclusive(|octet| *octet == b'\n').next().unwrap_or_default();
    text.extend_from_slice(start);
    for field in response.fields().iter().filter(|field| !strip.contains(&field.name)) {
        text.extend_from_slice(response.at(field.line));
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(response.body());
    Message::parse(text.into()).ok()
}

fn is_trusted(house: &House, hop: Hop) -> bool {
    house.config.trusts(hop.peer().ip())
}

/// RFC 3325 §7: an identity that is to be private goes to nobody who is not trusted.
fn wants_privacy(view: View<'_>) -> bool {
    let is_id =
        |value: &[u8]| value.split(|octet| *octet == b';').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"id"));
    view.values(Name::Privacy).any(is_id)
}

/// Of somebody who is not trusted: he is who From says, or who he prefers to be of those that he is (RFC 3325 §6). From is
/// the sender's own when he has shown a password, or when the certificate of his domain has spoken for him.
fn made(house: &House, view: View<'_>) -> Vec<u8> {
    let Some(sender) = view.from().ok().and_then(|from| aor_of(from.uri)) else { return Vec::new() };
    let is_ours = is_ours(house, &sender);
    let mut lines = Vec::with_capacity(256);
    if is_ours || house.config.federation.require_tls {
        let preferred = view.values(Name::PPreferredIdentity).find_map(|value| aor_of(NameAddr::parse(value)?.uri));
        let preferred = preferred.filter(|preferred| house.reach.get(&sender).is_some_and(|row| row.is(preferred)));
        assert_identity(&mut lines, preferred.as_ref().unwrap_or(&sender));
    }
    charge(&mut lines, house, None, is_ours.then_some(&sender));
    lines
}

/// Of the trusted: what they have not said. Whom From names is believed (decisions D7).
fn completed(house: &House, view: View<'_>) -> Vec<u8> {
    let mut lines = Vec::with_capacity(256);
    let asserted = view.values(Name::PAssertedIdentity).find_map(|value| aor_of(NameAddr::parse(value)?.uri));
    let sender = asserted.clone().or_else(|| aor_of(view.from().ok()?.uri));
    if let (None, Some(sender)) = (&asserted, &sender) {
        assert_identity(&mut lines, sender);
    }
    let sender = sender.filter(|sender| is_ours(house, sender));
    charge(&mut lines, house, view.first(Name::PChargingVector), sender.as_ref());
    lines
}

fn is_ours(house: &House, sender: &Aor) -> bool {
    sender.is_tel() || house.config.is_ours(sender.domain())
}

fn assert_identity(lines: &mut Vec<u8>, who: &Aor) {
    lines.extend_from_slice(format!("P-Asserted-Identity: <{}>\r\n", who.as_str()).as_bytes());
}

/// RFC 7315 §4.6: the vector that is there, or a new one; with the network where it began, where that is ours.
fn charge(lines: &mut Vec<u8>, house: &House, vector: Option<&[u8]>, sender: Option<&Aor>) {
    lines.extend_from_slice(b"P-Charging-Vector: ");
    match vector {
        Some(vector) => lines.extend_from_slice(vector),
        None => {
            let own = &house.config.tcp.sent_by;
            let host = own.rsplit_once(':').map_or(own.as_str(), |(host, _)| host);
            let made = format!("icid-value={};icid-generated-at={host}", house.ids.token());
            lines.extend_from_slice(made.as_bytes());
        }
    }
    let is_told = vector.is_some_and(has_origin);
    if let (false, Some(sender)) = (is_told, sender) {
        let domain =
            if sender.is_tel() { house.config.domains.first().map(String::as_str) } else { Some(sender.domain()) };
        lines.extend_from_slice(format!(";orig-ioi={}", domain.unwrap_or_default()).as_bytes());
    }
    lines.extend_from_slice(b"\r\n");
}

fn has_origin(vector: &[u8]) -> bool {
    let name = |part: &[u8]| {
        let name = part.split(|octet| *octet == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"orig-ioi")
    };
    vector.split(|octet| *octet == b';').any(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Network;
    use crate::testing::{Ask, house, row};

    fn at(host: &str) -> Hop {
        Hop::udp(0, format!("{host}:5060").parse().unwrap())
    }

    /// What a request with these lines becomes on its way: from and to a client (`c`) or a trusted peer (`t`).
    fn passed(from: char, to: char, sender: &str, lines: &str) -> String {
        let network = Network { address: "127.0.0.7".parse().unwrap(), bits: 32 };
        let house = house(|config| {
            config.trusted = vec![network];
            config.federation.require_tls = false;
        });
        let mut alice = row("alice", None);
        alice.aliases = Box::new([Aor::tel(b"+4940").unwrap()]);
        house.reach.publish(Arc::new(alice));
        let ask = Ask { from: format!("<{sender}>;tag=1"), lines: lines.into(), ..Ask::message("alice", "bob", "x") };
        let message = sip::Message::parse(ask.text("1").into()).unwrap();
        let hop = |side| at(if side == 't' { "127.0.0.7" } else { "127.0.0.1" });
        let mut out = Vec::new();
        let onward = crate::router::Onward { to: hop(to), contact: b"sip:bob@x", branch: b"z9hG4bK1", add: b"" };
        crate::router::forward(&house, &mut out, message.view(), hop(from), &onward);
        String::from_utf8(out).unwrap()
    }

    const ALICE: &str = "sip:alice@example.com";
    const SAID: &str = "P-Asserted-Identity: <sip:zoe@example.com>\r\nP-Charging-Vector: icid-value=theirs\r\n\
                        P-Charging-Function-Addresses: ccf=10.1.1.1\r\nP-Preferred-Identity: <tel:+4940>\r\n\
                        P-Visited-Network-ID: v\r\nPrivacy: none\r\n";

    #[test]
    fn between_clients_nothing_is_asserted_and_nothing_charged() {
        let text = passed('c', 'c', ALICE, SAID);
        for gone in ["P-Asserted", "P-Preferred", "P-Charging"] {
            assert!(!text.contains(gone), "{text}");
        }
        assert!(text.contains("P-Visited-Network-ID: v\r\nPrivacy: none\r\n"), "{text}");
    }

    #[test]
    fn a_client_is_asserted_to_be_who_he_is_or_prefers_to_be_and_never_who_he_says() {
        let text = passed('c', 't', ALICE, SAID);
        assert!(text.contains("\r\nP-Asserted-Identity: <tel:+4940>\r\n") && !text.contains("zoe"), "{text}");
        assert!(text.contains(";orig-ioi=example.com\r\n") && text.contains("icid-generated-at=127.0.0.1;"), "{text}");
        assert!(!text.contains("theirs") && !text.contains("ccf"), "{text}");
        let other = passed('c', 't', ALICE, "P-Preferred-Identity: <sip:bob@example.com>\r\nPrivacy: id\r\n");
        assert!(other.contains("P-Asserted-Identity: <sip:alice@example.com>\r\n") && other.contains("Privacy: id"));
        let far = passed('c', 't', "sip:nina@far.test", SAID);
        assert!(!far.contains("P-Asserted") && far.contains("icid-value=") && !far.contains("ioi"), "{far}");
    }

    #[test]
    fn among_the_trusted_what_was_said_stays_and_what_is_missing_is_made() {
        let text = passed('t', 't', ALICE, SAID);
        assert_eq!(text.matches("P-Asserted-Identity").count(), 1, "{text}");
        assert!(text.contains("<sip:zoe@example.com>") && text.contains("ccf=10.1.1.1"), "{text}");
        assert!(text.contains("P-Charging-Vector: icid-value=theirs;orig-ioi=example.com\r\n"), "{text}");
        let told = passed('t', 't', ALICE, "P-Charging-Vector: icid-value=a; Orig-IOI=b\r\n");
        assert!(told.contains("P-Charging-Vector: icid-value=a; Orig-IOI=b\r\n"), "{told}");
        assert!(told.contains("P-Asserted-Identity: <sip:alice@example.com>\r\n"), "{told}");
        assert!(passed('t', 't', ALICE, "").contains("\r\nP-Charging-Vector: icid-value="));
    }

    #[test]
    fn a_response_tells_of_charging_among_the_trusted_alone() {
        let network = Network { address: "127.0.0.7".parse().unwrap(), bits: 32 };
        let house = house(|config| config.trusted = vec![network]);
        let cleaned = |from: &str, caller: &str, lines: &str| {
            let text = format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP x;received={caller}\r\n\
                 From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n{lines}\
                 Content-Length: 1\r\n\r\nx"
            );
            let response = Message::parse(text.into()).unwrap();
            let cleaned = super::cleaned(&house, response.view(), at(from))?;
            Some(String::from_utf8(cleaned.bytes().to_vec()).unwrap())
        };
        let (all, private) =
            ("P-Asserted-Identity: <sip:b@x>\r\nP-Charging-Vector: icid-value=1\r\n", "Privacy: id\r\n");
        let (client, trusted) = ("127.0.0.1", "127.0.0.7");
        assert_eq!(cleaned(client, client, ""), None, "nothing is written anew where there is nothing to take out");
        assert_eq!(cleaned(trusted, trusted, all), None);
        let told = cleaned(trusted, client, all).unwrap();
        assert!(
            told.contains("P-Asserted-Identity") && !told.contains("icid") && told.ends_with("\r\n\r\nx"),
            "{told}"
        );
        for (from, caller, lines) in [(trusted, client, &*format!("{all}{private}")), (client, trusted, all)] {
            let told = cleaned(from, caller, lines).unwrap();
            assert!(!told.contains("P-Asserted-Identity") && !told.contains("icid"), "{told}");
        }
    }

    #[test]
    fn what_the_trusted_say_goes_to_others_without_charging_and_not_against_its_privacy() {
        let text = passed('t', 'c', ALICE, SAID);
        assert!(text.contains("<sip:zoe@example.com>") && !text.contains("P-Charging"), "{text}");
        let private = passed('t', 'c', ALICE, &SAID.replace("none", "header; id"));
        assert!(!private.contains("zoe") && !private.contains("P-Charging"), "{private}");
    }
}
