//! Offers and answers through the server (RFC 3264, RFC 4975 §8, RFC 6135 §4.2).

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use proptest::prelude::*;
use sdp::{
    Answer, Content, Description, Offer, Origin, Ours, Role, SdpError, Setup, Spoken, own_offer, role_from_answer,
    role_to_answer,
};

const OFFER: &str = "v=0\r\no=alice 2890844526 7 IN IP4 alice.example.com\r\ns=Lunch\r\ni=about food\r\nu=http://alice.example.com\r\n\
    e=alice@example.com\r\nc=IN IP4 alice.example.com\r\nb=AS:1\r\nt=0 0\r\na=group:BUNDLE 1 2\r\na=sendonly\r\na=setup:active\r\n\
    m=audio 49170 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\n\
    m=message 7394 TCP/MSRP *\r\ni=text\r\nc=IN IP4 192.0.2.7\r\nb=AS:9\r\na=accept-types:message/cpim text/plain  *\r\n\
    a=path:msrp://relay.example.com:2855/r;tcp msrp://alice.example.com:7394/2s93i9ek2a;tcp\r\na=Accept-Wrapped-Types:*\r\n\
    a=max-size:5242880\r\na=setup:actpass\r\na=connection:new\r\na=msrp-cema\r\na=fingerprint:sha-256 AA:BB\r\n\
    a=file-selector:name:\"a b.jpg\" size:3\r\na=x-own\r\n\
    m=message 7394 TCP/MSRP *\r\na=accept-types:*\r\na=path:msrp://alice.example.com:7394/other;tcp\r\n\
    m=video 49180/2 RTP/AVP 31\r\n";

const ANSWER: &str = "v=0\r\no=bob 1 1 IN IP4 bob.example.com\r\ns=-\r\nc=IN IP4 bob.example.com\r\nt=0 0\r\n\
    m=message 8493 TCP/MSRP *\r\na=accept-types:text/plain\r\na=setup:active\r\na=recvonly\r\n\
    a=path:msrp://bob.example.com:8493/si438dsaodes;tcp\r\n";

const TO_BOB: Ours<'static> = Ours {
    origin: Origin { id: 11, version: 1 },
    host: "192.0.2.1",
    port: 2855,
    path: "msrp://192.0.2.1:2855/towards-bob;tcp",
    is_tls: false,
    setup: Setup::ActPass,
};

const TO_ALICE: Ours<'static> = Ours {
    origin: Origin { id: 22, version: 3 },
    host: "2001:db8::1",
    port: 2855,
    path: "msrp://[2001:db8::1]:2855/towards-alice;tcp",
    is_tls: false,
    setup: Setup::Passive,
};

#[test]
fn the_peer_is_offered_the_msrp_line_with_our_path_and_the_rest_octet_for_octet() {
    let offer = Offer::read(OFFER.as_bytes()).unwrap();
    assert_eq!(offer.remote_path(), "msrp://relay.example.com:2855/r;tcp msrp://alice.example.com:7394/2s93i9ek2a;tcp");
    assert_eq!((offer.message().index(), offer.setup()), (1, Some(Setup::ActPass)));
    let wanted = "v=0\r\no=- 11 1 IN IP4 192.0.2.1\r\ns=Lunch\r\ni=about food\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=sendonly\r\n\
        m=message 2855 TCP/MSRP *\r\ni=text\r\nb=AS:9\r\na=accept-types:message/cpim text/plain  *\r\n\
        a=path:msrp://192.0.2.1:2855/towards-bob;tcp\r\na=Accept-Wrapped-Types:*\r\na=max-size:5242880\r\na=setup:actpass\r\n\
        a=file-selector:name:\"a b.jpg\" size:3\r\na=x-own\r\n";
    assert_eq!(String::from_utf8(offer.for_peer(&TO_BOB)).unwrap(), wanted);
}

#[test]
fn the_answer_has_the_lines_of_the_offer_in_their_order_and_refuses_all_but_one() {
    // RFC 3264 §6: same number, same order, port 0 refuses; RFC 4975 §8.1.
    let offer = Offer::read(OFFER.as_bytes()).unwrap();
    let answer = Answer::read(ANSWER.as_bytes()).unwrap();
    assert_eq!(
        (answer.remote_path(), answer.setup()),
        ("msrp://bob.example.com:8493/si438dsaodes;tcp", Some(Setup::Active))
    );
    let wanted = "v=0\r\no=- 22 3 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\n\
        m=audio 0 RTP/AVP 0 8\r\n\
        m=message 2855 TCP/MSRP *\r\na=accept-types:text/plain\r\na=setup:passive\r\na=recvonly\r\n\
        a=path:msrp://[2001:db8::1]:2855/towards-alice;tcp\r\n\
        m=message 0 TCP/MSRP *\r\nm=video 0 RTP/AVP 31\r\n";
    let text = offer.answer(&answer, &TO_ALICE);
    assert_eq!(String::from_utf8(text.clone()).unwrap(), wanted);
    assert_eq!(Description::parse(&text).unwrap().messages().count(), 1);
}

#[test]
fn the_protocol_of_an_answer_is_that_of_its_offer() {
    // RFC 3264 §6; the legs may differ.
    let secure = OFFER.replacen("m=message 7394 TCP/MSRP", "m=message 7394 TCP/TLS/MSRP", 1);
    let offer = Offer::read(secure.as_bytes()).unwrap();
    assert!(offer.message().is_tls());
    assert!(String::from_utf8(offer.for_peer(&TO_BOB)).unwrap().contains("m=message 2855 TCP/MSRP *\r\n"));
    let answer = Answer::read(ANSWER.as_bytes()).unwrap();
    assert!(String::from_utf8(offer.answer(&answer, &TO_ALICE)).unwrap().contains("m=message 2855 TCP/TLS/MSRP *\r\n"));
    let plain = Offer::read(OFFER.as_bytes()).unwrap();
    let secured = plain.for_peer(&Ours { is_tls: true, path: "msrps://192.0.2.1:2855/s;tcp", ..TO_BOB });
    assert!(Answer::read(&secured).unwrap().message().is_tls());
}

#[test]
fn an_offer_without_a_usable_msrp_line_is_not_acceptable() {
    // RFC 4975 §8.6, RFC 3261 §21.4.26.
    let audio = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9000 RTP/AVP 0\r\n";
    let bare = ANSWER.replace("a=path:msrp://bob.example.com:8493/si438dsaodes;tcp\r\n", "");
    let typeless = ANSWER.replace("a=accept-types:text/plain\r\n", "a=accept-types:\r\n");
    let refused = ANSWER.replace("8493 TCP", "0 TCP");
    for (text, fault) in [
        (audio, SdpError::NoMessage),
        (&bare, SdpError::NoPath),
        (&typeless, SdpError::NoAcceptTypes),
        (&refused, SdpError::NoMessage),
    ] {
        assert_eq!(fault.status(), (488, "Not Acceptable Here"));
        assert_eq!(Offer::read(text.as_bytes()), Err(fault), "{text}");
    }
    assert_eq!(Offer::read(b"hello").unwrap_err().status().0, 400);
    // The first that can be taken is taken.
    let second = Offer::read(OFFER.replacen("7394 TCP/MSRP", "0 TCP/MSRP", 1).as_bytes()).unwrap();
    assert_eq!(second.message().index(), 2);
}

#[test]
fn an_answer_that_refuses_or_has_other_lines_is_not_acceptable() {
    let refused = ANSWER.replace("8493 TCP", "0 TCP");
    assert_eq!(Answer::read(refused.as_bytes()), Err(SdpError::NoMessage));
    let two = format!("{ANSWER}m=audio 0 RTP/AVP 0\r\n");
    assert_eq!(Answer::read(two.as_bytes()), Err(SdpError::MediaCount { offered: 1, answered: 2 }));
}

#[test]
fn who_connects_follows_rfc_6135() {
    // §4.2.2; RFC 4975 §8.5 without the attribute. A row: what was offered, our role when reachable, when not.
    for (offered, reachable, unreachable) in [
        (Some(Setup::ActPass), Role::Passive, Role::Active),
        (Some(Setup::Active), Role::Passive, Role::Passive),
        (Some(Setup::Passive), Role::Active, Role::Active),
        (None, Role::Passive, Role::Passive),
    ] {
        assert_eq!(
            (role_to_answer(offered, true), role_to_answer(offered, false)),
            (reachable, unreachable),
            "{offered:?}"
        );
    }
    for (answered, ours) in [
        (Some(Setup::Active), Role::Passive),
        (Some(Setup::Passive), Role::Active),
        (None, Role::Active),
        (Some(Setup::ActPass), Role::Active),
    ] {
        assert_eq!(role_from_answer(answered), ours, "{answered:?}");
    }
    assert_eq!((Role::Active.setup(), Role::Passive.setup()), (Setup::Active, Setup::Passive));
    // §4.2.1: holdconn is as if it were not there.
    let held = Offer::read(ANSWER.replace("setup:active", "setup:holdconn").as_bytes()).unwrap();
    assert_eq!(role_to_answer(held.setup(), true), Role::Passive);
}

#[test]
fn setup_is_written_even_when_the_peer_left_it_out() {
    // RFC 6135 §4.2.1: always explicit.
    let without = ANSWER.replace("a=setup:active\r\n", "");
    let offer = Offer::read(without.as_bytes()).unwrap();
    assert_eq!(offer.setup(), None);
    assert!(String::from_utf8(offer.for_peer(&TO_BOB)).unwrap().ends_with("a=setup:actpass\r\n"));
}

#[test]
fn an_offer_with_the_same_o_line_changes_nothing() {
    // RFC 4975 §8.4.
    let before = Offer::read(OFFER.as_bytes()).unwrap();
    let same = Offer::read(OFFER.as_bytes()).unwrap();
    let newer = Offer::read(OFFER.replace("2890844526 7", "2890844526 8").as_bytes()).unwrap();
    let moved =
        Offer::read(OFFER.replace("2890844526 7", "2890844526 8").replace("2s93i9ek2a", "new").as_bytes()).unwrap();
    assert!(same.is_unchanged_from(&before) && same.keeps_path_of(&before));
    assert!(!newer.is_unchanged_from(&before) && newer.keeps_path_of(&before));
    assert!(!moved.is_unchanged_from(&before) && !moved.keeps_path_of(&before));
}

#[test]
fn our_version_rises_with_what_we_say_and_only_then() {
    // RFC 3264 §8.
    let offer = Offer::read(OFFER.as_bytes()).unwrap();
    let held = Offer::read(OFFER.replace("a=sendonly", "a=inactive").as_bytes()).unwrap();
    let mut spoken = Spoken::new(77);
    let mut say = |offer: &Offer| {
        String::from_utf8(spoken.say(|origin| offer.for_peer(&Ours { origin, ..TO_BOB })).to_vec()).unwrap()
    };
    let first = say(&offer);
    assert!(first.contains("o=- 77 1 IN"));
    assert_eq!(say(&offer), first);
    assert!(say(&held).contains("o=- 77 2 IN"));
    assert!(say(&offer).contains("o=- 77 3 IN"));
    assert!(String::from_utf8_lossy(spoken.last()).contains("o=- 77 3 IN"));
}

#[test]
fn an_offer_of_our_own_is_an_offer_and_our_answer_an_answer() {
    let content = Content {
        accept_types: "message/cpim text/plain",
        accept_wrapped_types: "*",
        max_size: Some(9),
        attributes: &["sendrecv", "chatroom:nickname"],
    };
    let text = own_offer(&TO_BOB, &content);
    let offer = Offer::read(&text).unwrap();
    assert_eq!((offer.remote_path(), offer.setup()), (TO_BOB.path, Some(Setup::ActPass)));
    assert_eq!((offer.message().max_size(), offer.message().chatroom()), (Some(9), Some("nickname")));
    assert!(
        offer.message().accept_types().accepts("text/plain")
            && offer.message().accept_wrapped_types().accepts("image/png")
    );
    let answer = Answer::read(&offer.own_answer(&TO_ALICE, &content)).unwrap();
    assert_eq!((answer.remote_path(), answer.setup()), (TO_ALICE.path, Some(Setup::Passive)));
    assert_eq!(answer.message().address(), Some("2001:db8::1"));
}

#[test]
fn a_value_from_a_peer_cannot_add_a_line() {
    let sly = Ours { path: "msrp://h:1/s;tcp\r\na=evil", ..TO_BOB };
    let offer = Offer::read(OFFER.as_bytes()).unwrap();
    assert!(!String::from_utf8(offer.for_peer(&sly)).unwrap().contains("\na=evil"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_what_is_read_can_be_read_again(
        lines in prop_oneof![prop::collection::vec(line(), 0..24), worn_offer()],
    ) {
        let text = lines.concat();
        if let Ok(description) = Description::parse(text.as_bytes()) {
            let again = Description::parse(&description.to_bytes());
            prop_assert!(again.is_ok(), "{:?} of {:?}", again, description);
        }
        if let Ok(offer) = Offer::read(text.as_bytes()) {
            let peers = offer.for_peer(&TO_BOB);
            let passed = Offer::read(&peers);
            prop_assert!(passed.is_ok(), "{:?}", String::from_utf8_lossy(&peers));
            let answer = Answer::read(&peers).unwrap();
            let back = Description::parse(&offer.answer(&answer, &TO_ALICE)).unwrap();
            prop_assert_eq!(back.media_count(), offer.description().media_count());
            prop_assert_eq!(back.messages().map(|message| message.index()).collect::<Vec<_>>(), [offer.message().index()]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Offer::read(&bytes).is_err());
    }
}

/// A good offer of which a few lines are lost, doubled or torn.
fn worn_offer() -> impl Strategy<Value = Vec<String>> {
    let whole: Vec<&str> = OFFER.split_inclusive("\r\n").collect();
    let fates = prop::collection::vec((0u8..60, line()), whole.len());
    fates.prop_map(move |fates| {
        let worn = whole.iter().zip(fates).flat_map(|(whole, (fate, torn))| match fate {
            0 | 1 => vec![],
            2 => vec![(*whole).to_owned(); 2],
            3 => vec![torn],
            _ => vec![(*whole).to_owned()],
        });
        worn.collect()
    })
}

/// Lines of descriptions, whole ones more often than torn ones.
fn line() -> impl Strategy<Value = String> {
    let whole: Vec<String> =
        OFFER.split_inclusive("\r\n").chain(ANSWER.split_inclusive("\r\n")).map(str::to_owned).collect();
    let head = OFFER.split_inclusive("\r\n").take(3).chain(["c=IN IP4 h\r\n", "t=0 0\r\n"]).collect::<String>();
    prop_oneof![
        6 => prop::sample::select(whole),
        2 => Just(head),
        1 => Just(ANSWER.to_owned()),
        1 => "[a-z]=[ -~]{0,20}\r?\n?",
        1 => "a=[a-z:;*/ ]{0,16}\r\n",
    ]
}
