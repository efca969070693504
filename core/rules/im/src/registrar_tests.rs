//! What the registrar promises, clause by clause (RFC 3261 §10.3).

use std::time::{Duration, Instant};

use super::*;
use proptest::prelude::*;
use sip::{Layout, parse_datagram};

fn now() -> Now {
    Now { at: Instant::now(), unix_ms: 1_000_000 }
}

fn way() -> Way {
    Way { transport: Transport::Udp, listener: 0, source: ([127, 0, 0, 1], 5070).into(), connection: None }
}

/// A REGISTER with these header lines.
fn request(call_id: &str, cseq: u32, lines: &str) -> RegisterRequest {
    let wire = format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
         {lines}Content-Length: 0\r\n\r\n"
    );
    let mut layout = Layout::default();
    parse_datagram(wire.as_bytes(), &mut layout).unwrap();
    RegisterRequest::of(layout.view(wire.as_bytes()), way()).unwrap()
}

/// What is said of a REGISTER with these header lines: sent to `uri`, by `transport`.
fn checked(uri: &str, transport: Transport, lines: &str) -> u16 {
    let house = House::new(["example.com"], ["192.0.2.1:5060"]);
    let asked = request("c", 1, lines);
    let asked = RegisterRequest { is_sips: uri.starts_with("sips:"), way: Way { transport, ..way() }, ..asked };
    asked.check(&house).map_or_else(|refusal| refusal.status, |()| 200)
}

/// What stands after each of these in turn, or the first refusal.
fn after(requests: &[(&str, u32, &str)]) -> Result<Vec<Binding>, Refusal> {
    requests.iter().try_fold(Vec::new(), |standing, (call_id, cseq, lines)| {
        Ok(register(&standing, &request(call_id, *cseq, lines), &Rules::default(), now())?.bindings)
    })
}

fn shown(bindings: &[Binding]) -> Vec<String> {
    bindings.iter().map(|binding| binding.contact_value(now())).collect()
}

const BOTH: &str = "Contact: <sip:a@h1>;expires=300;q=0.5, <sip:a@h2>;+g.oma.sip-im\r\nExpires: 200\r\n";

#[test]
fn each_contact_has_its_own_time_else_the_requests_else_the_default() {
    let bindings = after(&[("c", 1, BOTH), ("c", 2, "m: <sip:a@h3>\r\n")]).unwrap();
    assert_eq!(
        shown(&bindings),
        ["<sip:a@h1>;q=0.500;expires=300", "<sip:a@h2>;+g.oma.sip-im;expires=200", "<sip:a@h3>;expires=3600"]
    );
}

#[test]
fn zero_takes_one_away_and_leaves_the_others() {
    let bindings = after(&[("c", 1, BOTH), ("c", 2, "Contact: <sip:a@H1>;expires=0\r\n")]).unwrap();
    assert_eq!(shown(&bindings), ["<sip:a@h2>;+g.oma.sip-im;expires=200"]);
}

#[test]
fn a_request_that_only_asks_changes_nothing() {
    let standing = after(&[("c", 1, BOTH)]).unwrap();
    let told = register(&standing, &request("c", 1, "Expires: 0\r\n"), &Rules::default(), now()).unwrap();
    assert_eq!(told, Registered { bindings: standing, changed: false, bound: false });
}

#[test]
fn a_star_takes_all_away_with_expires_0_and_only_so() {
    let star = |lines| after(&[("c", 1, BOTH), ("c", 2, lines)]);
    assert_eq!(star("Contact: *\r\nExpires: 0\r\n"), Ok(vec![]));
    for lines in ["Contact: *\r\n", "Contact: *\r\nExpires: 60\r\n", "Contact: *\r\nExpires: x\r\n"] {
        assert_eq!(star(lines).unwrap_err().status, 400, "{lines}");
    }
}

#[test]
fn a_star_with_company_is_a_fault_of_the_whole_request() {
    let wire = "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        From: <sip:a@e>;tag=1\r\nTo: <sip:a@e>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\nContact: *, <sip:a@h>\r\nExpires: 0\r\nContent-Length: 0\r\n\r\n";
    let mut layout = Layout::default();
    parse_datagram(wire.as_bytes(), &mut layout).unwrap();
    assert_eq!(RegisterRequest::of(layout.view(wire.as_bytes()), way()).unwrap_err().status, 400);
}

#[test]
fn an_older_or_equal_request_of_the_same_call_changes_nothing_and_another_call_may() {
    for (call_id, cseq, good) in [("c", 4, false), ("c", 5, false), ("c", 6, true), ("d", 1, true)] {
        let second = after(&[("c", 5, BOTH), (call_id, cseq, "Contact: <sip:a@h2>;expires=0, <sip:a@h9>\r\n")]);
        assert_eq!(second.is_ok(), good, "{call_id} {cseq}");
        let star = after(&[("c", 5, BOTH), (call_id, cseq, "Contact: *\r\nExpires: 0\r\n")]);
        assert_eq!(star.is_ok(), good, "* {call_id} {cseq}");
    }
}

#[test]
fn one_contact_named_twice_in_a_request_is_bound_once_as_it_was_named_last() {
    let bindings = after(&[("c", 1, "Contact: <sip:a@h>;expires=60\r\nContact: <sip:a@H>;expires=90\r\n")]).unwrap();
    assert_eq!(shown(&bindings), ["<sip:a@H>;expires=90"]);
}

#[test]
fn too_brief_is_refused_with_the_shortest_and_too_long_is_shortened() {
    let rules = Rules { expiry_s_min: 60, expiry_s_max: 600, ..Rules::default() };
    let bind = |expires: u32| {
        register(&[], &request("c", 1, &format!("Contact: <sip:a@h>;expires={expires}\r\n")), &rules, now())
    };
    let brief = bind(59).unwrap_err();
    assert_eq!((brief.status, brief.min_expires), (423, Some(60)));
    assert_eq!(bind(60).unwrap().bindings[0].left_s(now()), 60);
    assert_eq!(bind(u32::MAX).unwrap().bindings[0].left_s(now()), 600);
    let hours = Rules { expiry_s_min: 7_200, ..Rules::default() };
    let hour = register(&[], &request("c", 1, "Contact: <sip:a@h>\r\nExpires: 3600\r\n"), &hours, now());
    assert_eq!(hour.unwrap().bindings.len(), 1, "an hour is never too brief");
}

#[test]
fn an_expires_that_cannot_be_read_means_an_hour_and_one_that_does_not_fit_the_longest() {
    for (value, left) in [("x", 3_600), ("-1", 3_600), ("99999999999", u64::from(BINDING_EXPIRY_S_MAX)), ("007", 7)] {
        let bindings = after(&[("c", 1, &format!("Contact: <sip:a@h>;expires={value}\r\n"))]).unwrap();
        assert_eq!(bindings[0].left_s(now()), left, "{value}");
    }
}

#[test]
fn a_user_has_so_many_contacts_and_no_more() {
    let contacts = |count: usize| (0..count).map(|n| format!("Contact: <sip:a@h{n}>\r\n")).collect::<String>();
    assert_eq!(after(&[("c", 1, &contacts(BINDINGS_PER_USER_MAX))]).unwrap().len(), BINDINGS_PER_USER_MAX);
    assert_eq!(after(&[("c", 1, &contacts(BINDINGS_PER_USER_MAX + 1))]).unwrap_err().status, 403);
    let long = format!("Contact: <sip:a@{}>\r\n", "h".repeat(CONTACT_BYTES_MAX));
    assert_eq!(after(&[("c", 1, &long)]).unwrap_err().status, 400);
}

#[test]
fn a_binding_ends_with_its_time() {
    let standing = after(&[("c", 9, "Contact: <sip:a@h>;expires=3\r\n")]).unwrap();
    let at = |ms| now().later(Duration::from_millis(ms));
    assert!(!standing[0].is_over(at(2_999)) && standing[0].is_over(at(3_000)));
    assert_eq!((standing[0].left_s(at(2_999)), standing[0].left_s(at(9_999))), (1, 0));
    let asked = register(&standing, &request("c", 1, ""), &Rules::default(), at(3_000)).unwrap();
    assert_eq!(asked.bindings, []);
    let older = register(&standing, &request("c", 1, "Contact: <sip:a@h>\r\n"), &Rules::default(), at(3_000));
    assert!(older.unwrap().bound, "what is over counts for no order");
}

#[test]
fn way_and_path_are_kept_with_the_binding() {
    let bindings =
        after(&[("c", 1, "Contact: <sip:a@h>;+sip.instance=\"<urn:uuid:1>\"\r\nPath: <sip:p1;lr>,<sip:p2;lr>\r\n")])
            .unwrap();
    assert_eq!(bindings[0].path, ["<sip:p1;lr>", "<sip:p2;lr>"]);
    assert_eq!((bindings[0].way, bindings[0].instance()), (way(), Some("urn:uuid:1")));
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss] {
        assert_eq!(Transport::from_code(transport as u8), Some(transport));
    }
    assert_eq!(Transport::from_code(5), None);
}

#[test]
fn a_sips_contact_needs_sips_and_tls_all_the_way() {
    // RFC 5630 §5.2, RFC 3261 §26.2.2
    const HERE: &str = "Contact: <sips:a@h>\r\n";
    const PATH: &str = "Contact: <sips:a@h>\r\nPath: <sips:p1;lr>,<sip:p2;lr>\r\n";
    const SIPS_PATH: &str = "Contact: <sips:a@h>\r\nPath: <sips:p1;lr>, <sips:p2;lr>\r\n";
    for (uri, transport, lines, status) in [
        ("sip:example.com", Transport::Udp, HERE, 400),
        ("sips:example.com", Transport::Udp, HERE, 400),
        ("sips:example.com", Transport::Tcp, HERE, 400),
        ("sips:example.com", Transport::Ws, HERE, 400),
        ("sip:example.com", Transport::Tls, HERE, 400),
        ("sips:example.com", Transport::Tls, PATH, 400),
        ("sips:example.com", Transport::Tls, SIPS_PATH, 200),
        ("sips:example.com", Transport::Tls, HERE, 200),
        ("sips:example.com", Transport::Wss, HERE, 200),
        ("sips:example.com", Transport::Udp, "Contact: <sip:a@h>\r\n", 200),
        ("sip:example.com", Transport::Udp, "Contact: <sips:a@h>;expires=0\r\n", 200),
        ("sip:example.com", Transport::Udp, "Contact: <sips:a@h>\r\nExpires: 0\r\n", 200),
        ("sip:example.com", Transport::Udp, "Contact: <sip:a@h>, <SIPS:a@h2>\r\n", 400),
    ] {
        assert_eq!(checked(uri, transport, lines), status, "{uri} {transport:?} {lines}");
    }
    // §5.1.1.1: the last of the two spellings is the one that stands.
    let bindings = after(&[("c", 1, HERE), ("c", 2, "Contact: <sip:a@h>\r\n")]).unwrap();
    assert_eq!(shown(&bindings), ["<sip:a@h>;expires=3600"]);
}

#[test]
fn a_contact_that_is_the_house_itself_is_not_bound_but_taken_away() {
    for (lines, status) in [
        ("Contact: <sip:a@192.0.2.1>\r\n", 403),
        ("Contact: <sip:a@h>, <sip:a@192.0.2.1:5060;transport=tcp>\r\n", 403),
        ("Contact: <sip:bob@example.com>\r\n", 403),
        ("Contact: <sip:a@h>\r\nPath: <sip:192.0.2.1;lr>\r\n", 403),
        ("Contact: <sip:a@h>\r\nPath: <sip:p1;lr>,<sip:192.0.2.1;lr>\r\n", 200),
        ("Contact: <sip:a@192.0.2.1:5061>\r\n", 200),
        ("Contact: <sip:a@192.0.2.1>;expires=0\r\n", 200),
        ("Contact: *\r\nExpires: 0\r\n", 200),
        ("", 200),
    ] {
        assert_eq!(checked("sip:example.com", Transport::Udp, lines), status, "{lines}");
    }
}

#[test]
fn messages_go_to_contacts_that_show_the_tag_and_else_to_all_that_may_take_them() {
    let icsi = ";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel,urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"";
    for (contacts, chosen) in [
        (vec!["", ";+g.oma.sip-im", icsi, ";methods=\"INVITE\";+G.OMA.SIP-IM=\"TRUE\""], vec![1, 2, 3]),
        (
            vec!["", ";methods=\"INVITE,ACK\"", ";methods=\"INVITE, message\"", ";+g.oma.sip-im=\"FALSE\""],
            vec![0, 2, 3],
        ),
        (vec![";methods=\"INVITE,!MESSAGE\"", ";+g.oma.sip-im.large-message;methods=\"ACK\""], vec![]),
        (vec![";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel\""], vec![0]),
        (vec![], vec![]),
    ] {
        assert_eq!(im_contacts(contacts.clone()), chosen, "{contacts:?}");
    }
}

#[test]
fn sessions_go_to_contacts_that_show_the_tag_and_else_to_all_that_may_take_them() {
    for (contacts, chosen) in [
        (vec!["", ";+g.oma.sip-im;methods=\"MESSAGE\""], vec![1]),
        (vec!["", ";methods=\"INVITE,ACK\"", ";methods=\"MESSAGE\""], vec![0, 1]),
    ] {
        assert_eq!(session_contacts(contacts.clone()), chosen, "{contacts:?}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_bindings_are_few_and_different_and_a_refusal_changes_nothing(
        steps in proptest::collection::vec(("[cd]", 0u32..6, proptest::collection::vec((0u8..14, 0u32..3), 0..5), any::<bool>()), 1..20)
    ) {
        let rules = Rules { bindings_max: 4, expiry_s_min: 2, ..Rules::default() };
        let mut standing = Vec::new();
        for (call_id, cseq, contacts, star) in steps {
            let list = contacts.iter().map(|(n, expires)| Contact { uri: format!("sip:a@h{n}"), params: String::new(), q: 1_000, expires: Some(*expires) });
            let contacts = if star { Contacts::Star } else { Contacts::List(list.collect()) };
            let asked = RegisterRequest { call_id, cseq, expires: star.then_some(0), contacts, path: vec![], is_sips: false, way: way(), flows: Flows::Ignored };
            if let Ok(told) = register(&standing, &asked, &rules, now()) {
                prop_assert!(told.bindings.len() <= 4);
                prop_assert_eq!(told.changed, told.bindings != standing);
                for (at, one) in told.bindings.iter().enumerate() {
                    prop_assert!(told.bindings[..at].iter().all(|other| !same_uri(&other.contact, &one.contact)));
                }
                // RFC 3261 §10.3: an order of one call is never turned round.
                for before in standing.iter().filter(|before: &&Binding| before.call_id == asked.call_id) {
                    let kept = told.bindings.iter().any(|one| one == before);
                    prop_assert!(kept || before.cseq < asked.cseq);
                }
                standing = told.bindings;
            }
        }
    }
}

const FLOW: &str = ";+sip.instance=\"<urn:uuid:1>\";reg-id=";

#[test]
fn a_flow_takes_the_place_of_its_own_device_and_number_wherever_it_comes_from() {
    // RFC 5626 §6
    let bindings = after(&[
        ("c1", 1, &format!("Contact: <sip:a@h1>{FLOW}1\r\n")),
        ("c2", 1, &format!("Contact: <sip:a@h1>{FLOW}2\r\n")),
        ("c3", 1, &format!("Contact: <sip:a@h3>{FLOW}1\r\n")),
        ("c4", 1, "Contact: <sip:a@h1>;+sip.instance=\"<urn:uuid:2>\";reg-id=1\r\n"),
    ]);
    let contacts: Vec<_> = bindings.unwrap().into_iter().map(|binding| (binding.contact, binding.call_id)).collect();
    let expected = [("sip:a@h3", "c3"), ("sip:a@h1", "c2"), ("sip:a@h1", "c4")];
    assert_eq!(contacts, expected.map(|(contact, call)| (contact.to_owned(), call.to_owned())));
}

#[test]
fn a_flow_is_registered_alone_and_ends_by_its_key() {
    let two = format!("Contact: <sip:a@h1>{FLOW}1, <sip:a@h2>\r\n");
    assert_eq!(after(&[("c", 1, &two)]).unwrap_err().status, 400);
    let moved = format!("Contact: <sip:a@h1>;expires=0, <sip:a@h2>{FLOW}1\r\n");
    assert_eq!(after(&[("c", 1, "Contact: <sip:a@h1>\r\n"), ("c", 2, &moved)]).unwrap().len(), 1);
    let gone = format!("Contact: <sip:a@elsewhere>{FLOW}1;expires=0\r\n");
    assert_eq!(after(&[("c", 1, &format!("Contact: <sip:a@h1>{FLOW}1\r\n")), ("c", 2, &gone)]), Ok(vec![]));
}

#[test]
fn a_reg_id_that_does_not_count_is_not_kept_and_a_client_that_learns_it_takes_its_own_place() {
    let alone = after(&[("c", 1, "Contact: <sip:a@h1>;reg-id=1;audio\r\n")]).unwrap();
    assert_eq!((alone[0].params.as_str(), alone[0].flow_key()), (";audio", None));
    let far = format!("Via: SIP/2.0/UDP edge;branch=z9hG4bK2\r\nContact: <sip:a@h1>{FLOW}1\r\n");
    let far = after(&[("c", 1, &far)]).unwrap();
    assert_eq!(far[0].params, ";+sip.instance=\"<urn:uuid:1>\"");
    let learned = format!("Contact: <sip:a@h1>{FLOW}1\r\n");
    assert_eq!(after(&[("c", 1, "Contact: <sip:a@h1>\r\n"), ("c", 2, &learned)]).unwrap().len(), 1);
}

#[test]
fn a_devices_contact_never_leads_back_to_its_user() {
    // RFC 5627 §5.1
    const DEVICE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
    for contact in
        ["sip:a@example.com", "sip:a@example.com;gr=urn:uuid:1", "sip:tgruu.x@example.com;gr", "tel:+4912345"]
    {
        let wire = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@example.com>;tag=1\r\n\
             To: <sip:a@example.com>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\nContact: <{contact}>{DEVICE}\r\nContent-Length: 0\r\n\r\n"
        );
        let message = sip::Message::parse(wire.into()).unwrap();
        assert_eq!(RegisterRequest::of(message.view(), way()).unwrap_err().status, 403, "{contact}");
    }
}

#[test]
fn push_parameters_are_kept_octet_for_octet() {
    // RFC 8599 §4.1: they stand in the URI.
    const PUSH: &str = "sip:a@h;pn-provider=acme;pn-param=acme-param;pn-prid=ZTY4ZDJlMzODE1NmUgKi0K";
    let bindings = after(&[("c", 1, &format!("Contact: <{PUSH}>;+sip.pns=\"acme\"\r\n"))]).unwrap();
    assert_eq!((bindings[0].contact.as_str(), bindings[0].params.as_str()), (PUSH, ";+sip.pns=\"acme\""));
}
