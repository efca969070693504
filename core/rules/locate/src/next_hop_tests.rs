//! RFC 3263 as tables: a zone, a URI, what we speak, and where that leads.

use std::time::Duration;

use proptest::prelude::*;
use sip::{Uri, Via};

use super::*;
use crate::located::Dice;
use crate::place::Families;
use crate::zone::Zone;

const ALL: Speaks = Speaks { udp: Families::BOTH, tcp: Families::BOTH, tls: Families::BOTH };
const V4: Families = Families { v4: true, v6: false };
const CLEAR: Speaks = Speaks { udp: V4, tcp: V4, tls: Families::NONE };
const TTL: Duration = Duration::from_secs(60);

/// Runs a search to its end: the outcome, and the questions in the order in which they were asked.
fn search(zone: &Zone, place: Place, speaks: Speaks) -> (Outcome<Located>, Vec<Question>) {
    let (mut machine, mut asked) = (NextHop::start(place, speaks), Vec::new());
    loop {
        match machine.poll_output() {
            Some(Output::Done(outcome)) => return (outcome, asked),
            Some(Output::Ask(question)) => {
                machine.handle(&question, zone.answer(&question));
                asked.push(question);
            }
            None => panic!("it neither asks nor ends: {machine:?}"),
        }
    }
}

fn place(uri: &str) -> Place {
    Place::of_uri(&Uri::parse(uri.as_bytes()).unwrap()).unwrap()
}

/// Where it leads: `udp 192.0.2.1:5060`, best first, or the failure.
fn leads(zone: &Zone, uri: &str, speaks: Speaks) -> Vec<String> {
    leads_from(zone, place(uri), speaks)
}

fn leads_from(zone: &Zone, place: Place, speaks: Speaks) -> Vec<String> {
    match search(zone, place, speaks).0.found {
        Err(failure) => vec![format!("{failure:?}")],
        Ok(located) => {
            let shown = |target: crate::Target| format!("{:?} {}", target.transport, target.address).to_lowercase();
            located.order(Dice::new(1)).into_iter().map(shown).collect()
        }
    }
}

/// The zone of RFC 3263 §4.1's example, with addresses.
fn example() -> Zone {
    Zone::new(TTL)
        .naptr("example.com", (50, 50), "s", "SIPS+D2T", "_sips._tcp.example.com")
        .naptr("example.com", (90, 50), "s", "SIP+D2T", "_sip._tcp.example.com")
        .naptr("example.com", (100, 50), "s", "SIP+D2U", "_sip._udp.example.com")
        .naptr("example.com", (1, 1), "s", "http+N2L", "www.example.com")
        .srv("_sips._tcp.example.com", 0, 1, 5061, "server1.example.com")
        .srv("_sip._tcp.example.com", 0, 1, 5060, "server1.example.com")
        .srv("_sip._tcp.example.com", 1, 2, 5070, "server2.example.com")
        .srv("_sip._udp.example.com", 0, 1, 5060, "server1.example.com")
        .address("server1.example.com", "192.0.2.1")
        .address("server2.example.com", "192.0.2.2")
        .address("server2.example.com", "2001:db8::2")
        .address("example.com", "192.0.2.9")
}

/// A domain without NAPTR.
fn plain() -> Zone {
    Zone::new(TTL)
        .srv("_sip._udp.plain.test", 10, 1, 5080, "one.plain.test")
        .srv("_sip._tcp.plain.test", 10, 1, 5080, "one.plain.test")
        .srv("_sips._tcp.plain.test", 10, 1, 5081, "one.plain.test")
        .address("one.plain.test", "192.0.2.1")
        .address("plain.test", "192.0.2.9")
}

#[test]
fn every_branch_of_rfc_3263_leads_where_it_says() {
    let bare = Zone::new(TTL).address("bare.test", "192.0.2.7").address("bare.test", "2001:db8::7");
    let (example, plain) = (example(), plain());
    for (clause, zone, uri, speaks, wanted) in [
        // §4.2: numbers.
        ("§4.2 number", &bare, "sip:b@192.0.2.3", ALL, &["udp 192.0.2.3:5060"][..]),
        ("§4.2 number and port", &bare, "sip:b@192.0.2.3:5070;transport=tcp", ALL, &["tcp 192.0.2.3:5070"]),
        ("§4.2 IPv6", &bare, "sip:b@[2001:db8::3]", ALL, &["udp [2001:db8::3]:5060"]),
        ("§4.2 sips", &bare, "sips:b@192.0.2.3", ALL, &["tls 192.0.2.3:5061"]),
        ("§4.2 transport=tls", &bare, "sip:b@192.0.2.3;transport=tls", ALL, &["tls 192.0.2.3:5061"]),
        ("no IPv6 here", &bare, "sip:b@[2001:db8::3]", CLEAR, &["Unspoken"]),
        // §4.1: NAPTR; the order is the domain's, TLS is kept to once it is offered first (§7).
        ("§4.1 NAPTR", &example, "sip:b@example.com", ALL, &["tls 192.0.2.1:5061"]),
        (
            "§4.1 NAPTR, TLS not spoken here",
            &example,
            "sip:b@example.com",
            CLEAR,
            &["tcp 192.0.2.1:5060", "tcp 192.0.2.2:5070", "udp 192.0.2.1:5060"],
        ),
        ("§4.1 sips drops SIP+D2X", &example, "sips:b@example.com", ALL, &["tls 192.0.2.1:5061"]),
        ("§4.1 sips without TLS here", &example, "sips:b@example.com", CLEAR, &["Unspoken"]),
        // §4.2: a port makes it A and AAAA.
        ("§4.2 port", &example, "sip:b@example.com:5060", ALL, &["udp 192.0.2.9:5060"]),
        ("§4.2 port, sips", &example, "sips:b@example.com:5090", ALL, &["tls 192.0.2.9:5090"]),
        // §4.2: a transport makes it SRV.
        (
            "§4.2 transport",
            &example,
            "sip:b@example.com;transport=tcp",
            ALL,
            &["tcp 192.0.2.1:5060", "tcp [2001:db8::2]:5070", "tcp 192.0.2.2:5070"],
        ),
        ("§4.2 transport, sips", &example, "sips:b@example.com;transport=tcp", ALL, &["tls 192.0.2.1:5061"]),
        // §4.1: no NAPTR, so SRV of each transport.
        ("§4.1 no NAPTR", &plain, "sip:b@plain.test", ALL, &["tls 192.0.2.1:5081"]),
        ("§4.1 no NAPTR", &plain, "sip:b@plain.test", CLEAR, &["tcp 192.0.2.1:5080", "udp 192.0.2.1:5080"]),
        ("§4.1 no NAPTR, sips", &plain, "sips:b@plain.test", ALL, &["tls 192.0.2.1:5081"]),
        // §4.1, §4.2: no SRV, so the host itself.
        ("§4.2 no SRV", &bare, "sip:b@bare.test", ALL, &["udp [2001:db8::7]:5060", "udp 192.0.2.7:5060"]),
        ("§4.2 no SRV, sips", &bare, "sips:b@bare.test", ALL, &["tls [2001:db8::7]:5061", "tls 192.0.2.7:5061"]),
        ("§4.2 no SRV, transport", &bare, "sip:b@bare.test;transport=tcp", CLEAR, &["tcp 192.0.2.7:5060"]),
        ("no such name", &bare, "sip:b@gone.test", ALL, &["Nothing"]),
    ] {
        assert_eq!(leads(zone, uri, speaks), wanted, "{clause}: {uri}");
    }
}

#[test]
fn where_only_tls_will_do_nothing_else_is_found() {
    let (example, plain) = (example(), plain());
    let naptr_in_clear = Zone::new(TTL)
        .naptr("clear.test", (1, 1), "s", "SIP+D2T", "_sip._tcp.clear.test")
        .srv("_sip._tcp.clear.test", 0, 0, 5060, "clear.test")
        .address("clear.test", "192.0.2.7");
    for (zone, uri, wanted) in [
        (&example, "sip:b@example.com", "tls 192.0.2.1:5061"),
        (&plain, "sip:b@plain.test", "tls 192.0.2.1:5081"),
        (&plain, "sip:b@plain.test;transport=tcp", "tls 192.0.2.1:5081"),
        (&plain, "sip:b@plain.test;transport=udp", "Unspoken"),
        (&plain, "sip:b@192.0.2.4", "tls 192.0.2.4:5061"),
        // The domain says that it speaks no TLS: nobody knocks at 5061 to see.
        (&naptr_in_clear, "sip:b@clear.test", "Unspoken"),
    ] {
        assert_eq!(leads_from(zone, place(uri).secured(), ALL), [wanted], "{uri}");
        assert_eq!(leads_from(zone, place(uri).secured(), CLEAR), ["Unspoken"], "{uri} without TLS here");
    }
}

#[test]
fn an_answer_finds_its_way_by_the_topmost_via() {
    // RFC 3263 §5.
    let (example, plain) = (example(), plain());
    for (zone, via, wanted) in [
        (&example, "SIP/2.0/UDP example.com:5099;branch=z9hG4bK1", "udp 192.0.2.9:5099"),
        (&plain, "SIP/2.0/TLS plain.test;branch=z9hG4bK1", "tls 192.0.2.1:5081"),
        (&plain, "SIP/2.0/TCP plain.test;branch=z9hG4bK1", "tcp 192.0.2.1:5080"),
        (&plain, "SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK1", "udp 192.0.2.8:5060"),
    ] {
        let place = Place::of_via(&Via::parse(via.as_bytes()).unwrap()).unwrap();
        assert_eq!(leads_from(zone, place, ALL), [wanted], "{via}");
    }
}

#[test]
fn im_and_pres_have_servers_of_their_own_and_else_those_of_sip() {
    // RFC 3861 §4, RFC 5509.
    let zone = example()
        .srv("_im._sip.example.com", 0, 0, 5072, "server2.example.com")
        .srv("_pres._sip.none.test", 0, 0, 0, "")
        .address("none.test", "192.0.2.5");
    assert_eq!(leads(&zone, "im:b@example.com", CLEAR), ["udp 192.0.2.2:5072"]);
    assert_eq!(leads(&zone, "pres:b@example.com", ALL), ["tls 192.0.2.1:5061"]);
    assert_eq!(leads(&zone, "pres:b@none.test", ALL), ["Refused"]);
    assert_eq!(leads(&zone, "im:b@none.test", CLEAR), ["udp 192.0.2.5:5060"]);
}

#[test]
fn a_root_target_says_that_there_is_no_service_and_no_host_is_asked() {
    // RFC 2782: "A Target of '.'".
    let zone = Zone::new(TTL)
        .srv("_sip._udp.no.test", 0, 0, 0, "")
        .srv("_sip._tcp.half.test", 0, 0, 0, "")
        .srv("_sip._udp.half.test", 0, 0, 5060, "half.test")
        .address("no.test", "192.0.2.1")
        .address("half.test", "192.0.2.2");
    assert_eq!(leads(&zone, "sip:b@no.test", CLEAR), ["Refused"]);
    assert_eq!(leads(&zone, "sip:b@half.test", CLEAR), ["udp 192.0.2.2:5060"]);
    let asked = search(&zone, place("sip:b@no.test"), CLEAR).1;
    assert!(asked.iter().all(|question| question.kind != Kind::A), "{asked:?}");
}

#[test]
fn faulty_rules_are_passed_over() {
    let base = || Zone::new(TTL).srv("_sip._udp.x.test", 0, 0, 5060, "x.test").address("x.test", "192.0.2.1");
    let good = |zone: Zone| zone.naptr("x.test", (9, 9), "S", "sip+d2u", "_SIP._udp.x.test");
    for (why, zone) in [
        ("another flag", good(base().naptr("x.test", (1, 1), "a", "SIP+D2U", "a.test"))),
        ("no replacement", good(base().naptr("x.test", (1, 1), "s", "SIP+D2U", ""))),
        ("UDP cannot be secure", good(base().naptr("x.test", (1, 1), "s", "SIPS+D2U", "_sips._udp.x.test"))),
        ("a transport of others", good(base().naptr("x.test", (1, 1), "s", "SIP+D2W", "_sip._ws.x.test"))),
        ("a regular expression", good(base().rule("x.test", (1, 1), "SIP+D2U", "!.*!x!"))),
        ("of another service alone", base().naptr("x.test", (1, 1), "s", "aaa+D2T", "_diameter._tcp.x.test")),
        ("a rule that leads to nothing", base().naptr("x.test", (1, 1), "s", "SIP+D2U", "_sip._udp.gone.test")),
    ] {
        assert_eq!(leads(&zone, "sip:b@x.test", CLEAR), ["udp 192.0.2.1:5060"], "{why}");
    }
    let only_ws = base().naptr("x.test", (1, 1), "s", "SIPS+D2W", "_sips._ws.x.test");
    assert_eq!(leads(&only_ws, "sip:b@x.test", CLEAR), ["Unspoken"]);
}

#[test]
fn a_name_server_that_fails_is_gone_round_where_that_is_possible() {
    let no_naptr = plain().unknown("plain.test", Kind::Naptr);
    assert_eq!(leads(&no_naptr, "sip:b@plain.test", CLEAR)[0], "tcp 192.0.2.1:5080");
    let no_address = plain().unknown("one.plain.test", Kind::A);
    assert_eq!(leads(&no_address, "sip:b@plain.test", CLEAR), ["Unknown"]);
    let (outcome, _) = search(&no_address, place("sip:b@plain.test"), CLEAR);
    assert_eq!(outcome.ttl, DNS_FAILURE_TTL);
}

#[test]
fn what_can_be_asked_at_once_is_and_nothing_twice() {
    let (outcome, asked) = search(&plain(), place("sip:b@plain.test"), ALL);
    let shown: Vec<String> = asked.iter().map(|question| format!("{:?} {}", question.kind, question.name)).collect();
    let mut distinct = shown.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((distinct.len(), shown.len(), outcome.ttl), (6, 6, TTL), "{shown:?}");
    let mut machine = NextHop::start(place("sip:b@plain.test"), ALL);
    let Some(Output::Ask(first)) = machine.poll_output() else { panic!("a question") };
    assert_eq!(machine.poll_output(), None);
    machine.handle(&first, plain().answer(&first));
    let second: Vec<Output<Located>> = std::iter::from_fn(|| machine.poll_output()).collect();
    assert_eq!(second.len(), 3, "all three SRV questions together: {second:?}");
    machine.handle(&first, Answer::Unknown);
    assert_eq!(machine.poll_output(), None, "what nobody waits for changes nothing");
}

#[test]
fn how_long_it_holds_is_what_ends_first_and_never_too_long() {
    let week = Zone::new(Duration::from_secs(7 * 86_400)).address("h.test", "192.0.2.1");
    assert_eq!(search(&week, place("sip:h.test:5060"), CLEAR).0.ttl, DNS_TTL_MAX);
    assert_eq!(search(&week, place("sip:h.test"), CLEAR).0.ttl, DNS_NEGATIVE_TTL_MAX, "that there is no NAPTR");
    assert_eq!(search(&week, place("sip:gone.test"), CLEAR).0.ttl, DNS_NEGATIVE_TTL_MAX);
    assert_eq!(search(&plain(), place("sip:b@plain.test"), CLEAR).0.ttl, TTL);
}

#[test]
fn a_domain_with_more_servers_than_anybody_needs_costs_a_bounded_number_of_questions() {
    let mut zone = Zone::new(TTL);
    for n in 0..200u16 {
        let (door, host) = (format!("_sip._tcp.d{n}.test"), format!("h{n}.test"));
        zone = zone.naptr("many.test", (n, 0), "s", "SIP+D2T", &door);
        for port in 1..40 {
            zone = zone.srv(&door, port, 0, port, &format!("p{port}.{host}"));
        }
        zone = zone.address(&format!("p1.{host}"), "192.0.2.1");
    }
    let (outcome, asked) = search(&zone, place("sip:b@many.test"), ALL);
    assert!(outcome.found.is_ok() && asked.len() <= DNS_QUESTIONS_MAX, "{}", asked.len());
}

#[test]
fn the_certificate_must_name_the_domain_that_was_asked_for() {
    let (outcome, _) = search(&example(), place("sip:b@Example.com"), ALL);
    let targets = outcome.found.unwrap().order(Dice::new(1));
    assert!(!targets.is_empty() && targets.iter().all(|target| &*target.domain == "example.com"));
}

proptest! {
    /// Answers come from strangers: whatever they are, the search ends, after no more questions than it may ask.
    #[test]
    fn any_answers_are_borne(
        seed: u64,
        uri in prop::sample::select(vec!["sip:x.test", "sips:x.test", "im:b@x.test", "sip:x.test;transport=tcp", "sip:x.test:99"]),
    ) {
        let mut seed = seed;
        let mut throw = move |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        let (mut machine, mut asked) = (NextHop::start(place(uri), ALL), 0);
        let outcome = loop {
            match machine.poll_output().expect("it goes on") {
                Output::Done(outcome) => break outcome,
                Output::Ask(question) => {
                    asked += 1;
                    let name = |n: u64| if n == 0 { String::new() } else { format!("n{n}.test") };
                    let record = |throw: &mut dyn FnMut(u64) -> u64| match throw(4) {
                        0 => Record::Naptr(Naptr {
                            order: throw(3) as u16,
                            preference: throw(3) as u16,
                            flags: ["s", "", "u"][throw(3) as usize].into(),
                            services: ["SIP+D2U", "SIPS+D2T", "SIP+D2T", "x", "SIP+"][throw(5) as usize].into(),
                            regexp: String::new(),
                            replacement: name(throw(5)),
                        }),
                        1 => Record::Srv(Srv { priority: throw(3) as u16, weight: throw(9) as u16, port: 1, target: name(throw(9)) }),
                        2 => Record::Address(std::net::Ipv6Addr::from(u128::from(throw(99))).into()),
                        _ => Record::Address(std::net::Ipv4Addr::from(throw(99) as u32).into()),
                    };
                    let answer = match throw(5) {
                        0 => Answer::Unknown,
                        1 => Answer::Nothing { ttl: TTL },
                        _ => Answer::Records { records: (0..throw(40)).map(|_| record(&mut throw)).collect(), ttl: TTL },
                    };
                    machine.handle(&question, answer);
                }
            }
        };
        prop_assert!(asked <= DNS_QUESTIONS_MAX && outcome.ttl <= DNS_TTL_MAX);
        prop_assert_eq!(machine.poll_output(), None);
    }
}
