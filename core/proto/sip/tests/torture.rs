//! The 49 messages of RFC 4475, octet for octet as in its appendix, each with what that RFC expects; and those of
//! RFC 5118 (its lengths of the SDP bodies mended, which do not fit its own text).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use sip::{
    Contacts, Flaw, HeaderError, Layout, Method, Name, ParseError, Scheme, Uri, View, parse_datagram, parse_stream,
};

macro_rules! torture {
    ($name:literal) => {
        include_bytes!(concat!("rfc4475/", $name, ".dat"))
    };
}

macro_rules! ipv6 {
    ($name:literal) => {
        include_bytes!(concat!("rfc5118/", $name, ".dat"))
    };
}

/// What the sender hears: `None` when the request is good, else the status; 0 when there is no answer.
fn heard(bytes: &[u8]) -> Option<(u16, &'static str)> {
    let mut layout = Layout::default();
    match parse_datagram(bytes, &mut layout) {
        Ok(()) => layout.view(bytes).check_request().err().map(|fault| (fault.status, fault.reason)),
        Err(error) => Some(error.status().unwrap_or((0, ""))),
    }
}

fn good(bytes: &[u8], look: impl FnOnce(View<'_>)) {
    let mut layout = Layout::default();
    parse_datagram(bytes, &mut layout).expect("parses");
    let view = layout.view(bytes);
    if view.is_request() {
        assert_eq!(view.check_request(), Ok(()));
    }
    look(view);
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn contacts<'a>(view: View<'a>) -> Vec<(&'a [u8], &'a [u8])> {
    match view.contacts().expect("readable contacts") {
        Contacts::Star => panic!("no star here"),
        Contacts::List(list) => list.iter().map(|one| (one.uri, one.params.as_bytes())).collect(),
    }
}

#[test]
fn wsinv_is_read_through_all_its_folds() {
    // RFC 4475 §3.1.1.1
    good(torture!("wsinv"), |view| {
        assert_eq!(
            (view.method(), text(view.request_uri())),
            (Method::Invite, "sip:vivekg@chair-dnrc.example.com;unknownparam".into())
        );
        assert_eq!(
            (view.to().unwrap().uri, view.to().unwrap().tag()),
            (&b"sip:vivekg@chair-dnrc.example.com"[..], Some(&b"1918181833n"[..]))
        );
        let from = view.from().unwrap();
        assert_eq!(
            (text(from.display), text(from.uri)),
            (r#""J Rosenberg \\\"""#.into(), "sip:jdrosen@example.com".into())
        );
        assert_eq!(from.tag(), Some(&b"98asjd8"[..]));
        assert_eq!((view.max_forwards(), view.call_id()), (Ok(Some(68)), Ok(&b"wsinv.ndaksdj@192.0.2.1"[..])));
        assert_eq!((view.cseq().unwrap().number, view.cseq().unwrap().method), (9, Method::Invite));
        let vias: Vec<_> = view.values(Name::Via).map(|value| sip::Via::parse(value).expect("a Via")).collect();
        assert_eq!(
            vias.iter().map(|via| text(via.host)).collect::<Vec<_>>(),
            ["192.0.2.2", "spindle.example.com", "192.168.255.111"]
        );
        assert_eq!(
            vias.iter().map(|via| text(via.branch().unwrap())).collect::<Vec<_>>(),
            ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
        );
        assert_eq!(view.first(Name::Subject), Some(&b""[..]));
        assert_eq!(view.other("unknownheaderwithunusualvalue"), Some(&b";;,,;;,;"[..]));
        assert_eq!(view.other("NEWFANGLEDHEADER"), Some(&b"newfangled value\r\n continued newfangled value"[..]));
        let Contacts::List(list) = view.contacts().unwrap() else { panic!("a list") };
        let contact = list.iter().next().unwrap();
        assert_eq!(
            (text(contact.display), text(contact.uri)),
            (r#""Quoted string \"\"""#.into(), "sip:jdrosen@example.com".into())
        );
        assert_eq!(
            (contact.q(), contact.param("newparam"), contact.param("secondparam")),
            (Some(330), Some(&b"newvalue"[..]), Some(&b""[..]))
        );
        assert_eq!(view.body().len(), 150);
        assert!(view.body().starts_with(b"v=0\r\n"));
    });
}

#[test]
fn intmeth_has_odd_characters_in_every_place() {
    // RFC 4475 §3.1.1.2
    good(torture!("intmeth"), |view| {
        assert_eq!(
            (view.method(), text(view.method_text())),
            (Method::Other, "!interesting-Method0123456789_*+`.%indeed'~".into())
        );
        let uri = Uri::parse(view.request_uri()).unwrap();
        assert_eq!(text(uri.user), "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*");
        assert_eq!(text(uri.password.unwrap()), "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)");
        assert_eq!(view.top_via().unwrap().branch(), Some(&b"z9hG4bK-.!%66*_+`'~"[..]));
        assert_eq!(view.to().unwrap().display, b"\"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f\"");
        let from = view.from().unwrap();
        assert_eq!(
            (text(from.display), text(from.tag().unwrap())),
            ("token1~` token2'+_ token3*%!.-".into(), "_token~1'+`*%!-.".into())
        );
        assert_eq!(text(from.param("fromParam''~+*_!.-%").unwrap()), "работающий");
        assert_eq!(text(view.call_id().unwrap()), "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
        assert_eq!((view.cseq().unwrap().number, view.max_forwards()), (139122385, Ok(Some(255))));
        assert_eq!(text(view.other("extensionHeader-!.%*+_`'~").unwrap()), "\u{feff}大停電");
    });
}

#[test]
fn escapes_are_undone_once_and_only_where_they_are_escapes() {
    // RFC 4475 §3.1.1.3
    good(torture!("esc01"), |view| {
        let uri = Uri::parse(view.request_uri()).unwrap();
        assert_eq!((text(uri.user), text(uri.host)), ("sips%3Auser%40example.com".into(), "example.net".into()));
        assert_eq!(view.to().unwrap().parsed_uri().unwrap().aor().unwrap().as_str(), "sip:user@example.com");
        let contact = contacts(view)[0].0;
        let same = Uri::parse(b"sip:caller@host5.example.net;lr;name=value%2541").unwrap();
        assert!(Uri::parse(contact).unwrap().same_as(&same));
        assert!(
            !Uri::parse(contact).unwrap().same_as(&Uri::parse(b"sip:caller@host5.example.net;lr;name=valueA").unwrap())
        );
    });
    // §3.1.1.4: two contacts, told apart; the address is read whole, and nobody here has one like it.
    good(torture!("escnull"), |view| {
        let both: Vec<_> = contacts(view).iter().map(|contact| Uri::parse(contact.0).unwrap()).collect();
        assert!(both.len() == 2 && !both[0].same_as(&both[1]));
        let to = view.to().unwrap().parsed_uri().unwrap();
        assert_eq!((text(to.user), to.aor()), ("null-%00-null".into(), Err(base::aor::AorError::Control)));
    });
    // §3.1.1.5: no REGISTER, and two contacts, not three.
    good(torture!("esc02"), |view| {
        assert_eq!((view.method(), view.method_text()), (Method::Other, &b"RE%47IST%45R"[..]));
        assert_eq!(contacts(view).len(), 2);
        assert_eq!(view.other("C%6Fntact"), Some(&b"<sip:alias2@host2.example.com>"[..]));
        assert_eq!(view.to().unwrap().display, b"\"%Z%45\"");
    });
}

#[test]
fn a_display_name_may_touch_its_bracket() {
    // RFC 4475 §3.1.1.6
    good(torture!("lwsdisp"), |view| {
        assert_eq!((view.from().unwrap().display, view.from().unwrap().tag()), (&b"caller"[..], Some(&b"323"[..])))
    });
}

#[test]
fn long_values_are_read_whole() {
    // RFC 4475 §3.1.1.7
    good(torture!("longreq"), |view| {
        assert_eq!(view.values(Name::Via).count(), 34);
        assert!(view.values(Name::Via).all(|value| sip::Via::parse(value).is_some()));
        let uri = view.to().unwrap().parsed_uri().unwrap();
        assert_eq!((uri.port, uri.params().count()), (Some(6000), 3));
        assert_eq!(view.from().unwrap().tag().unwrap().len(), 2 + 150 + 3);
        assert!(view.call_id().unwrap().starts_with(b"longreq.onereallyreally"));
        assert_eq!(view.body().len(), 150);
    });
}

#[test]
fn octets_behind_the_body_are_no_part_of_the_message() {
    // RFC 4475 §3.1.1.8
    good(torture!("dblreq"), |view| {
        assert_eq!((view.method(), view.body().len()), (Method::Register, 0));
        assert!(view.bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
        let mut out = Vec::new();
        let how = sip::Forward {
            uri: b"sip:a",
            via: b"SIP/2.0/UDP b",
            max_forwards: 7,
            strip: &[],
            received: None,
            add: b"",
            record: b"",
        };
        sip::forward_request(&mut out, view, &how);
        assert!(!text(&out).contains("INVITE"));
    });
}

#[test]
fn user_parts_transports_and_bodies_of_the_other_valid_requests() {
    // RFC 4475 §3.1.1.9
    good(torture!("semiuri"), |view| {
        assert_eq!(Uri::parse(view.request_uri()).unwrap().user, b"user;par=u%40example.net");
        assert_eq!(view.values(Name::Accept).count(), 6);
    });
    // §3.1.1.10
    good(torture!("transports"), |view| {
        let transports: Vec<_> =
            view.values(Name::Via).map(|value| text(sip::Via::parse(value).unwrap().transport)).collect();
        assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
    });
    // §3.1.1.11: nulls within the body.
    good(torture!("mpart01"), |view| {
        assert_eq!(
            (view.method(), view.body().len(), view.top_via().unwrap().rport()),
            (Method::Message, 553, Some(None))
        );
        let kind = view.content_type().unwrap();
        assert!(kind.is("multipart/mixed") && kind.parameter("boundary") == Some("7a9cbec02ceef655"));
    });
}

#[test]
fn reason_phrases_may_be_unusual_or_empty() {
    // RFC 4475 §3.1.1.12
    good(torture!("unreason"), |view| {
        assert_eq!((view.is_request(), view.status(), view.body().len()), (false, 200, 154));
        assert_eq!(text(view.reason()), "= 2**3 * 5**2 но сто девяносто девять - простое");
    });
    // §3.1.1.13
    good(torture!("noreason"), |view| assert_eq!((view.status(), view.reason()), (100, &b""[..])));
}

#[test]
fn invalid_requests_are_answered_with_their_fault() {
    let faults: [(&[u8], u16, &str); 21] = [
        (torture!("badinv01"), 400, "Malformed Via"),                 // §3.1.2.1
        (torture!("clerr"), 400, "Body Shorter Than Content-Length"), // §3.1.2.2
        (torture!("ncl"), 400, "Malformed Content-Length"),           // §3.1.2.3
        (torture!("scalar02"), 400, "Malformed CSeq"),                // §3.1.2.4
        (torture!("quotbal"), 400, "Malformed To"),                   // §3.1.2.6
        (torture!("ltgtruri"), 400, "Request-URI In Angle Brackets"), // §3.1.2.7
        (torture!("lwsruri"), 400, "Malformed Request-Line"),         // §3.1.2.8
        (torture!("lwsstart"), 400, "Malformed Request-Line"),        // §3.1.2.9
        (torture!("trws"), 400, "Malformed Request-Line"),            // §3.1.2.10
        (torture!("escruri"), 400, "Headers In Request-URI"),         // §3.1.2.11
        (torture!("regbadct"), 400, "Malformed Contact"),             // §3.1.2.13
        (torture!("badaspec"), 400, "Malformed To"),                  // §3.1.2.14
        (torture!("baddn"), 400, "Head Without End"),                 // §3.1.2.15; the archive has no empty line
        (torture!("badvers"), 505, "Version Not Supported"),          // §3.1.2.16
        (torture!("mismatch01"), 400, "CSeq Method Mismatch"),        // §3.1.2.17
        (torture!("mismatch02"), 400, "CSeq Method Mismatch"),        // §3.1.2.18
        (torture!("badbranch"), 400, "Branch Without Identifier"),    // §3.2.1
        (torture!("insuf"), 400, "Missing From"),                     // §3.3.1
        (torture!("multi01"), 400, "More Than One From"),             // §3.3.8
        (torture!("mcl01"), 400, "Conflicting Content-Length"),       // §3.3.9
        (ipv6!("ipv6-bad"), 400, "Malformed Request-URI"),            // RFC 5118 §4.2
    ];
    for (bytes, status, reason) in faults {
        assert_eq!(heard(bytes), Some((status, reason)), "{}", text(bytes));
        answered(bytes, status);
    }
    // §3.1.2.15 with its end: names that need quotes.
    let mended = [torture!("baddn"), &b"\r\n"[..]].concat();
    assert_eq!(heard(&mended), Some((400, "Malformed From")));
}

/// The answer to a faulty request can be written from what was read, and is itself a good message.
fn answered(bytes: &[u8], status: u16) {
    let (mut layout, mut out) = (Layout::default(), Vec::new());
    let _ = parse_datagram(bytes, &mut layout);
    let reply =
        sip::Reply { status, to_tag: "ours", source: Some("192.0.2.9:5062".parse().unwrap()), ..Default::default() };
    sip::reply(&mut out, layout.view(bytes), &reply);
    let mut read = Layout::default();
    parse_datagram(&out, &mut read).expect("our own answer");
    assert_eq!(read.view(&out).status(), status);
    assert!(read.view(&out).first(Name::Via).is_some(), "no way back in {}", text(&out));
}

#[test]
fn impossible_responses_are_dropped() {
    // RFC 4475 §3.1.2.5: the CSeq cannot be read, so no transaction is found for it.
    good(torture!("scalarlg"), |view| assert_eq!(view.cseq(), Err(HeaderError::Malformed(Name::CSeq))));
    // §3.1.2.19
    let error = parse_datagram(torture!("bigcode"), &mut Layout::default()).unwrap_err();
    assert_eq!((error.flaw, error.status()), (Flaw::StatusLine, None));
    // §3.3.10: well formed; a relay never sends to a Via's address but to where the request came from.
    good(torture!("bcast"), |view| {
        let second = view.values(Name::Via).nth(1).and_then(sip::Via::parse).unwrap();
        assert_eq!((view.status(), text(second.host)), (200, "255.255.255.255".into()));
    });
}

#[test]
fn what_is_wrong_but_not_ours_to_judge_passes() {
    // RFC 4475 §3.1.2.12: a Date that nobody needs.
    good(torture!("baddate"), |view| assert_eq!(view.first(Name::Date), Some(&b"Fri, 01 Jan 2010 16:00:00 EST"[..])));
    // §3.3.2, §3.3.3: 416 is said by who routes.
    for bytes in [&torture!("unkscm")[..], torture!("novelsc")] {
        good(bytes, |view| assert_eq!(Uri::parse(view.request_uri()).unwrap().scheme, Scheme::Other));
    }
    // §3.3.4: 400 is said by the registrar.
    good(torture!("unksm2"), |view| {
        assert_eq!(
            (text(view.to().unwrap().uri), text(view.from().unwrap().uri)),
            ("isbn:2983792873".into(), "http://www.example.com".into())
        );
        assert!(view.to().unwrap().parsed_uri().unwrap().aor().is_err());
    });
    // §3.3.5: 420 is said by who knows what is supported.
    good(torture!("bext01"), |view| {
        assert_eq!(
            view.values(Name::Require).map(text).collect::<Vec<_>>(),
            ["nothingSupportsThis", "nothingSupportsThisEither"]
        );
        assert_eq!(view.values(Name::ProxyRequire).count(), 2);
    });
    // §3.3.6: 415 likewise.
    good(torture!("invut"), |view| {
        assert!(view.content_type().unwrap().is("application/unknownformat") && view.body().len() == 40)
    });
    // §3.3.7: one value, commas or not.
    good(torture!("regaut01"), |view| {
        assert_eq!(
            view.values(Name::Authorization).map(text).collect::<Vec<_>>(),
            ["NoOneKnowsThisScheme opaque-data=here"]
        )
    });
    // §3.3.15
    good(torture!("sdp01"), |view| {
        assert_eq!(view.values(Name::Accept).map(text).collect::<Vec<_>>(), ["text/nobodyKnowsThis"])
    });
}

#[test]
fn no_hops_left_is_for_the_proxy_to_say() {
    // RFC 4475 §3.3.11
    good(torture!("zeromf"), |view| assert_eq!(view.max_forwards(), Ok(Some(0))));
}

#[test]
fn parameters_belong_to_the_contact_without_brackets_and_to_the_uri_within() {
    // RFC 4475 §3.3.12, §3.3.13, §3.3.14
    good(torture!("cparam01"), |view| {
        assert_eq!(contacts(view), [(&b"sip:+19725552222@gw1.example.net"[..], &b";unknownparam"[..])])
    });
    good(torture!("cparam02"), |view| {
        assert_eq!(contacts(view), [(&b"sip:+19725552222@gw1.example.net;unknownparam"[..], &b""[..])])
    });
    good(torture!("regescrt"), |view| {
        assert_eq!(contacts(view), [(&b"sip:user@example.com?Route=%3Csip:sip.example.com%3E"[..], &b""[..])])
    });
}

#[test]
fn a_request_of_the_old_rfc_2543_is_good() {
    // RFC 4475 §3.4.1: no branch, no From tag, no Content-Length, no Max-Forwards.
    good(torture!("inv2543"), |view| {
        assert_eq!(
            (view.top_via().unwrap().branch(), view.from().unwrap().tag(), view.max_forwards()),
            (None, None, Ok(None))
        );
        assert!(view.body().ends_with(b"m=audio 49217 RTP/AVP 0\r\n"));
    });
}

#[test]
fn on_a_stream_what_cannot_be_framed_ends_it() {
    // RFC 4475 §3.1.2.3, §3.3.9; RFC 3261 §18.3.
    let read = |bytes: &[u8]| parse_stream(bytes, &mut sip::Progress::default(), &mut Layout::default());
    for (bytes, flaw) in [
        (&torture!("ncl")[..], Flaw::ContentLength),
        (torture!("mcl01"), Flaw::ContentLengthTwice),
        (torture!("inv2543"), Flaw::ContentLengthMissing),
    ] {
        assert_eq!(read(bytes), Err(ParseError { flaw, answerable: true }));
    }
    // §3.1.2.2: on a stream there is nothing but to wait.
    assert_eq!(read(torture!("clerr")), Ok(sip::Step::More));
}

#[test]
fn ipv6_addresses_stand_wherever_hosts_stand() {
    let good: [(&[u8], &str, &str); 8] = [
        (ipv6!("ipv6-good"), "[2001:db8::10]:5060", "[2001:db8::9:1]"), // RFC 5118 §4.1
        (ipv6!("port-ambiguous"), "[2001:db8::10:5070]:5060", "[2001:db8::9:1]"), // §4.3
        (ipv6!("port-unambiguous"), "[2001:db8::10]:5070", "[2001:db8::9:1]"), // §4.4
        (ipv6!("ipv6-in-sdp"), "[2001:db8::10]:5060", "[2001:db8::20]"), // §4.6
        (ipv6!("mult-ip-in-sdp"), "[2001:db8::10]:5060", "[2001:db8::9:1]"), // §4.8
        (ipv6!("ipv6-bug-abnf-3-colons"), "[2001:db8::192.0.2.1]:5060", "lab1.east.example.com"), // §4.10
        (ipv6!("ipv6-correct-abnf-2-colons"), "[2001:db8::192.0.2.1]:5060", "lab1.east.example.com"), // §4.10
        (ipv6!("via-received-param-no-delim"), "[2001:db8::10]:5060", "[2001:db8::9:1]"), // §4.5
    ];
    for (bytes, target, host) in good {
        self::good(bytes, |view| {
            assert_eq!(Uri::parse(view.request_uri()).unwrap().addr(), Some(target.parse().unwrap()));
            assert_eq!(text(view.top_via().unwrap().host), host);
        });
    }
}

#[test]
fn ipv6_in_via_is_read_with_brackets_ports_and_mapped_addresses() {
    // RFC 5118 §4.5: both spellings of `received` are one address.
    for bytes in [&ipv6!("via-received-param-with-delim")[..], ipv6!("via-received-param-no-delim")] {
        good(bytes, |view| {
            assert_eq!(view.top_via().unwrap().received_addr(), Some("2001:db8::9:255".parse().unwrap()))
        });
    }
    // §4.7
    good(ipv6!("mult-ip-in-header"), |view| {
        let vias: Vec<_> = view.values(Name::Via).map(|value| sip::Via::parse(value).unwrap()).collect();
        assert_eq!(
            vias.iter().map(|via| text(via.sent_by())).collect::<Vec<_>>(),
            ["[2001:db8::9:1]:6050", "192.0.2.1", "[2001:db8::9:255]"]
        );
        assert_eq!(vias[2].received_addr(), Some("192.0.2.200".parse().unwrap()));
    });
    // §4.9
    good(ipv6!("ipv4-mapped-ipv6"), |view| {
        let via = view.top_via().unwrap();
        assert_eq!((text(via.host), via.port), ("[::ffff:192.0.2.10]".into(), Some(19823)));
        assert_eq!(Uri::parse(contacts(view)[0].0).unwrap().addr(), Some("[::ffff:192.0.2.2]:5060".parse().unwrap()));
    });
}
