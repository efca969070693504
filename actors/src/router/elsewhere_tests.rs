//! Other domains over a table of records: who is written to, who is heard, and who is not.

use std::sync::Arc;
use std::time::Duration;

use locate::Zone;

use crate::metrics::Count;
use crate::testing::{Ask, Living, header, response_to, status};
use crate::{Config, config::Federation};

const ALICE: u16 = 5090;
const BOB: u16 = 5091;
const NINA: u16 = 5095;

fn zone() -> Zone {
    Zone::new(Duration::from_secs(60))
        .address("host.test", "127.0.0.1")
        .srv("_sip._udp.far.test", 10, 0, NINA, "host.test")
        .srv("_sip._udp.far.test", 20, 0, 5096, "host.test")
        .srv("_sip._udp.denied.test", 0, 0, 5097, "host.test")
        .srv("_sip._udp.loop.test", 0, 0, 5060, "host.test")
        .srv("_im._sip.chat.test", 0, 0, 5098, "host.test")
        .rule("1.0.0.0.4.9.4.e164.arpa", (1, 1), "E2U+sip", "!^.*$!sip:nina@far.test!")
        .rule("2.0.0.0.4.9.4.e164.arpa", (1, 1), "E2U+sip", "!^.*$!sip:bob@example.com!")
}

async fn house(change: impl FnOnce(&mut Federation)) -> Living {
    let open = |config: &mut Config| {
        config.federation.require_tls = false;
        config.federation.deny = vec!["denied.test".into()];
        change(&mut config.federation);
    };
    let living = Living::with(&["alice", "bob"], open).await;
    living.house.locator.introduce(Arc::new(zone()));
    living
}

fn to(uri: &str) -> Ask {
    Ask {
        uri: uri.into(),
        to: format!("<{uri}>"),
        call_id: format!("c-{}", uri.replace([':', ';'], "-")),
        ..Ask::message("alice", "x", "hello")
    }
}

/// From a domain to Bob, from the port of that domain's server.
fn from(domain: &str) -> Ask {
    let via = format!("SIP/2.0/UDP 127.0.0.1:{NINA};rport;branch=z9hG4bK");
    Ask { from: format!("<sip:nina@{domain}>;tag=f1"), via, ..Ask::message("nina", "bob", domain) }
}

/// What a stranger's request is answered.
async fn heard(living: &Living, ask: &Ask) -> String {
    living.hear(NINA, &ask.text(&living.branch()));
    living.wire.next(NINA).await
}

#[actix::test]
async fn a_message_goes_to_the_servers_of_its_domain_one_after_the_other() {
    let living = house(|_| {}).await;
    living.send(ALICE, &to("sip:nina@far.test"), "alice").await;
    let first = living.take(NINA, 503).await;
    assert!(first.starts_with("MESSAGE sip:nina@far.test SIP/2.0\r\n") && first.ends_with("hello"), "{first}");
    assert!(!first.contains("Authorization") && !first.contains("P-Asserted-Identity"), "{first}");
    let second = living.take(5096, 200).await;
    let branch = |text: &str| header(text, sip::Name::Via);
    assert_ne!(branch(&first), branch(&second), "a new branch (RFC 3263 §4.3)");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    // It is known by now that the first one is broken; what its owner says is the answer.
    living.send(ALICE, &Ask { body: "again".into(), ..to("sip:nina@far.test") }, "alice").await;
    living.take(5096, 486).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 486);
}

#[actix::test]
async fn what_leads_nowhere_is_refused_with_the_reason() {
    let living = house(|_| {}).await;
    for (uri, expected) in [
        ("sip:nina@denied.test", 403),
        ("sip:nina@gone.test", 404),
        ("sip:nina@loop.test", 482),
        ("sip:nina@127.0.0.1:5060", 482),
        ("sip:nina@far.test;transport=sctp", 404),
        ("tel:+494003", 404),
    ] {
        let answer = living.ask(ALICE, &to(uri), "alice").await;
        assert_eq!(status(&answer), expected, "{uri}: {answer}");
    }
    let forged = Ask { from: "<sip:bob@example.com>;tag=1".into(), ..to("sip:nina@far.test") };
    assert_eq!(status(&living.ask(ALICE, &forged, "alice").await), 403);
    assert!(living.wire.take(NINA).is_empty());
    let closed = house(|federation| federation.require_tls = true).await;
    let answer = closed.ask(ALICE, &to("sip:nina@far.test"), "alice").await;
    assert!(answer.starts_with("SIP/2.0 404 No TLS"), "{answer}");
}

#[actix::test]
async fn a_number_and_an_im_address_lead_to_their_owners() {
    let living = house(|_| {}).await;
    assert_eq!(living.register("bob", BOB).await, 200);
    for (uri, port, there) in [
        ("tel:+49-4000-1", NINA, "sip:nina@far.test"),
        ("tel:+49-4000-2", BOB, "sip:bob@127.0.0.1:5091"),
        ("im:bob@example.com", BOB, "sip:bob@127.0.0.1:5091"),
        ("im:nina@chat.test", 5098, "sip:nina@chat.test"),
    ] {
        living.send(ALICE, &to(uri), "alice").await;
        let heard = living.take(port, 200).await;
        assert!(heard.starts_with(&format!("MESSAGE {there} SIP/2.0\r\n")), "{uri}: {heard}");
        assert_eq!(status(&living.wire.next(ALICE).await), 200, "{uri}");
    }
}

#[actix::test]
async fn another_domain_is_heard_without_credentials_and_nothing_passes_through() {
    let living = house(|_| {}).await;
    assert_eq!(status(&heard(&living, &from("far.test")).await), 202, "he is away: it waits");
    let nobody = Ask { uri: "sip:nobody@example.com".into(), ..from("far.test") };
    assert_eq!(status(&heard(&living, &nobody).await), 404);
    for uri in ["sip:tom@chat.test", "sip:nina@far.test"] {
        let through = Ask { uri: uri.into(), ..from("far.test") };
        assert_eq!(status(&heard(&living, &through).await), 403, "{uri}");
    }
    assert_eq!(status(&heard(&living, &from("denied.test")).await), 403);
    // Who says that he is one of ours, is nobody, or registers, has to show a password.
    for (ask, expected) in [
        (from("example.com"), 407),
        (from("anonymous.invalid"), 407),
        (from("127.0.0.1"), 407),
        (Ask { method: "REGISTER", uri: "sip:example.com".into(), ..from("far.test") }, 401),
    ] {
        let answer = heard(&living, &ask).await;
        assert_eq!(status(&answer), expected, "{answer}");
    }
    let watch = from("far.test").with("SUBSCRIBE").line("Event: reg").line("Contact: <sip:nina@127.0.0.1:5095>");
    assert_eq!(status(&heard(&living, &watch).await), 403, "nobody else's contacts");
    let closed = house(|federation| federation.require_tls = true).await;
    let challenge = heard(&closed, &from("far.test")).await;
    assert_eq!(status(&challenge), 407, "no certificate names the domain");
}

#[actix::test]
async fn what_one_domain_sends_too_fast_is_503_and_others_are_heard() {
    let living = house(|federation| federation.rate = 3).await;
    let mut refused = 0;
    for n in 0..12 {
        let answer = heard(&living, &Ask { call_id: format!("c-{n}"), ..from("far.test") }).await;
        refused += usize::from(status(&answer) == 503 && answer.contains("Retry-After: 1\r\n"));
    }
    // Twelve within two seconds at the most.
    assert!((6..=9).contains(&refused), "{refused}");
    assert_eq!(status(&heard(&living, &from("chat.test")).await), 202);
    assert!(living.house.metrics.get(Count::RateLimited) >= 6);
}

#[actix::test]
async fn other_methods_leave_and_arrive_as_well() {
    let living = house(|_| {}).await;
    assert_eq!(living.register("bob", BOB).await, 200);
    living.send(ALICE, &to("sip:nina@far.test").with("INFO"), "alice").await;
    living.take(NINA, 200).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    living.hear(NINA, &from("far.test").with("INFO").text(&living.branch()));
    let there = living.wire.next(BOB).await;
    living.hear(BOB, &response_to(&there, 200));
    assert_eq!(status(&living.wire.next(NINA).await), 200);
}
