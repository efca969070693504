//! Devices of a user, alive: flows, GRUUs, preferences, and who watches them come and go.

use std::time::Duration;

use sip::Name;

use crate::config::{Config, Network};
use crate::message::Offer;
use crate::metrics::Count;
use crate::testing::{Ask, Living, account, aor, header, status};

const ALICE: u16 = 5081;
const BOB: u16 = 5082;
const SECOND: u16 = 5083;

fn message(text: &str) -> Ask {
    Ask::message("alice", "bob", text)
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn device(number: u8) -> String {
    format!(";+sip.instance=\"<urn:uuid:0000000{number}>\"")
}

/// Bob's phone at this port registers with these parameters of its Contact.
async fn register(living: &Living, port: u16, params: &str, lines: &[&str]) -> String {
    let contact = format!("<sip:bob@127.0.0.1:{port}>;expires=600{params}");
    let ask = Ask { call_id: format!("r-{port}-{}", params.len()), ..Ask::register("bob", &contact) };
    let cseq = living.house.metrics.get(Count::Registered) as u32 + 1;
    let ask = lines.iter().fold(Ask { cseq, ..ask }, |ask, line| ask.line(line));
    living.ask(port, &ask, "bob").await
}

/// A parameter of the Contact of this port in a 200.
fn param(answer: &str, port: u16, name: &str) -> Option<String> {
    let contact = answer.lines().find(|line| line.contains(&format!("127.0.0.1:{port}>")))?;
    let value = contact.split(&format!(";{name}=\"")).nth(1)?;
    value.split('"').next().map(str::to_owned)
}

#[actix::test]
async fn each_device_is_given_uris_of_its_own_that_lead_to_it_alone() {
    // RFC 5627 §5.2, §6.1
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    let mut given = Vec::new();
    for (number, port) in [(1, BOB), (2, SECOND)] {
        let answer = register(&living, port, &device(number), &["Supported: path, gruu"]).await;
        let uris =
            ["pub-gruu", "temp-gruu"].map(|name| param(&answer, port, name).unwrap_or_else(|| panic!("{answer}")));
        given.push((port, uris));
    }
    assert!(
        param(&register(&living, BOB, &device(1), &[]).await, BOB, "pub-gruu").is_none(),
        "who does not know is not told"
    );
    for (port, uris) in &given {
        for uri in uris {
            let ask = Ask { uri: uri.clone(), call_id: format!("g{}", uri.len()), ..message("to-one") };
            living.send(ALICE, &ask, "alice").await;
            let heard = living.take(*port, 200).await;
            assert!(heard.starts_with(&format!("MESSAGE sip:bob@127.0.0.1:{port} ")), "{heard}");
            assert_eq!(status(&living.wire.next(ALICE).await), 200);
        }
    }
    assert!(living.wire.take(BOB).is_empty() && living.wire.take(SECOND).is_empty());
    // The device is away: a public one says so, a temporary one is over (§5.3); neither is kept for another device.
    let gone = Ask { call_id: "bye".into(), ..Ask::register("bob", "*").line("Expires: 0") };
    assert_eq!(status(&living.ask(BOB, &gone, "bob").await), 200);
    let [public, temporary] = &given[0].1;
    for (uri, expected) in
        [(public.clone(), 480), (temporary.clone(), 404), ("sip:tgruu.forged@example.com;gr".into(), 404)]
    {
        let ask = Ask { call_id: format!("late{expected}{}", uri.len()), uri, ..message("too-late") };
        living.hear(ALICE, &ask.text(&living.branch()));
        let mut answer = living.wire.next(ALICE).await;
        if status(&answer) == 407 {
            living.hear(ALICE, &ask.signed(&answer, "alice", 1).text(&living.branch()));
            answer = living.wire.next(ALICE).await;
        }
        assert_eq!(status(&answer), expected, "{}", ask.uri);
    }
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, 0);
}

#[actix::test]
async fn a_datagram_flow_leads_back_to_where_it_came_from_and_one_flow_of_a_device_is_tried_at_a_time() {
    // RFC 5626 §6, §7
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    let flow = |number| format!("{};reg-id={number}", device(1));
    let contact = |number: u8| format!("<sip:bob@10.9.9.9:1>;expires=60{number}{}", flow(number));
    for (number, port) in [(1, BOB), (2, SECOND)] {
        let ask =
            Ask { call_id: format!("r{number}"), ..Ask::register("bob", &contact(number)).line("Supported: outbound") };
        let answer = living.ask(port, &ask, "bob").await;
        assert_eq!(header(&answer, Name::Require).as_deref(), Some("outbound"));
        assert_eq!(header(&answer, Name::FlowTimer), None, "a datagram's NAT has a time of its own");
    }
    living.send(ALICE, &message("one"), "alice").await;
    assert_eq!(body(&living.take(SECOND, 200).await), "one", "the one that was renewed last");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    assert!(living.wire.take(BOB).is_empty());
    // That flow is gone: the other one of the device is next.
    living.send(ALICE, &message("two"), "alice").await;
    living.take(SECOND, 430).await;
    assert_eq!(body(&living.take(BOB, 200).await), "two");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    // What the device itself has answered is its answer.
    living.send(ALICE, &message("three"), "alice").await;
    living.take(SECOND, 486).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 486);
    assert!(living.wire.take(BOB).is_empty());
}

#[actix::test]
async fn a_callers_preferences_choose_among_devices_and_one_that_is_excluded_is_not_called() {
    // RFC 3841
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    register(&living, BOB, ";+g.oma.sip-im;audio", &[]).await;
    let rejecting = message("no-audio").line("Reject-Contact: *;audio");
    assert_eq!(status(&living.ask(ALICE, &rejecting, "alice").await), 480, "the only one is excluded");
    register(&living, SECOND, ";+g.oma.sip-im;video", &[]).await;
    living.send(ALICE, &rejecting, "alice").await;
    assert_eq!(body(&living.take(SECOND, 200).await), "no-audio");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    living.send(ALICE, &message("audio").line("Accept-Contact: *;audio;require;explicit"), "alice").await;
    assert_eq!(body(&living.take(BOB, 200).await), "audio");
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    assert!(living.wire.take(SECOND).is_empty());
    living.send(ALICE, &message("one-after-the-other").line("Request-Disposition: sequential"), "alice").await;
    living.take(BOB, 480).await;
    living.take(SECOND, 200).await;
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
}

#[actix::test]
async fn the_answer_to_a_registration_says_who_else_one_is_and_which_way_to_go() {
    // RFC 7315 §4.1, RFC 3608 §6.3
    let store = storage::Store::in_memory();
    let number = base::Aor::parse("tel:+4912345").unwrap();
    store.put_account(storage::Account { aliases: vec![number], ..account("bob") }, true).await.unwrap();
    store.put_account(account("alice"), true).await.unwrap();
    let living = Living::over(store, |config| config.service_route = vec!["<sip:127.0.0.1:5060;lr>".into()]).await;
    // By the number, and bound for both.
    let ask = Ask { to: "<tel:+4912345>".into(), ..Ask::register("bob", "<sip:bob@127.0.0.1:5082>") };
    let answer = living.ask(BOB, &ask, "bob").await;
    let both = header(&answer, Name::PAssociatedUri).unwrap();
    assert_eq!((status(&answer), both.as_str()), (200, "<sip:bob@example.com>, <tel:+4912345>"));
    assert_eq!(header(&answer, Name::ServiceRoute).as_deref(), Some("<sip:127.0.0.1:5060;lr>"));
    for uri in ["sip:bob@example.com", "tel:+49-123-45"] {
        living.send(ALICE, &Ask { uri: uri.into(), ..message(uri) }, "alice").await;
        assert_eq!(body(&living.take(BOB, 200).await), uri);
        assert_eq!(status(&living.wire.next(ALICE).await), 200);
    }
}

fn subscribe(lines: &[&str]) -> Ask {
    let ask = Ask {
        method: "SUBSCRIBE",
        uri: "sip:bob@example.com".into(),
        from: "<sip:bob@example.com>;tag=watcher".into(),
        to: "<sip:bob@example.com>".into(),
        call_id: "watch".into(),
        lines: "Max-Forwards: 70\r\nContact: <sip:bob@127.0.0.1:5082>\r\nEvent: reg;id=7\r\n".into(),
        body: String::new(),
        ..message("")
    };
    lines.iter().fold(ask, |ask, line| ask.line(line))
}

/// The next NOTIFY, answered: Subscription-State and the document.
async fn note(living: &Living, answer: u16) -> (String, String) {
    let text = living.take(BOB, answer).await;
    assert!(text.starts_with("NOTIFY sip:bob@127.0.0.1:5082 "), "{text}");
    assert_eq!(header(&text, Name::Event).as_deref(), Some("reg;id=7"));
    (header(&text, Name::SubscriptionState).unwrap(), body(&text).to_owned())
}

#[actix::test]
async fn who_watches_is_told_of_all_at_once_and_then_of_each_change() {
    // RFC 3680 §4.7, §5; RFC 6665 §4.2
    let living = Living::with(&["alice", "bob"], |config| config.user_idle = Duration::from_millis(30)).await;
    register(&living, BOB, "", &[]).await;
    let asked = subscribe(&["Accept: application/reginfo+xml", "Record-Route: <sip:edge;lr>"]);
    let taken = living.ask(BOB, &asked.clone(), "bob").await;
    assert_eq!((status(&taken), header(&taken, Name::Expires).as_deref()), (200, Some("3761")), "{taken}");
    assert_eq!(header(&taken, Name::RecordRoute).as_deref(), Some("<sip:edge;lr>"));
    let tag = header(&taken, Name::To).unwrap().split("tag=").nth(1).unwrap().to_owned();
    // By way of the edge, which is a name: back to where it came from.
    let (state, all) = {
        let text = living.take(BOB, 200).await;
        assert_eq!(header(&text, Name::Route).as_deref(), Some("<sip:edge;lr>"));
        assert!(header(&text, Name::From).unwrap().ends_with(&tag));
        (header(&text, Name::SubscriptionState).unwrap(), body(&text).to_owned())
    };
    assert!(state.starts_with("active;expires=3761") || state.starts_with("active;expires=3760"), "{state}");
    assert!(all.contains("version=\"0\" state=\"full\"") && all.contains("<uri>sip:bob@127.0.0.1:5082</uri>"), "{all}");
    // Idle for longer than an actor stays that nobody watches.
    tokio::time::sleep(Duration::from_millis(120)).await;
    register(&living, SECOND, &device(2), &[]).await;
    let (_, change) = note(&living, 200).await;
    assert!(change.contains("version=\"1\" state=\"partial\"") && change.contains("event=\"registered\""), "{change}");
    assert!(
        change.contains(":5083</uri>") && !change.contains(":5082</uri>") && change.contains("gr:pub-gruu"),
        "{change}"
    );
    let gone = format!("<sip:bob@127.0.0.1:{SECOND}>;expires=0");
    living.ask(SECOND, &Ask { call_id: "gone".into(), ..Ask::register("bob", &gone) }, "bob").await;
    let (_, change) = note(&living, 200).await;
    assert!(
        change.contains("state=\"terminated\" event=\"unregistered\"") && change.contains("state=\"active\""),
        "{change}"
    );

    // Within the dialog: to our Contact, with more time, and then with none.
    let within = |cseq, expires: &str| {
        let to = format!("<sip:bob@example.com>;tag={tag}");
        Ask { uri: "sip:bob@127.0.0.1:5060".into(), to, cseq, ..subscribe(&[expires]) }
    };
    assert_eq!(status(&living.ask(BOB, &within(2, "Expires: 90"), "bob").await), 200);
    let (state, all) = note(&living, 200).await;
    assert!(state == "active;expires=90" && all.contains("version=\"3\" state=\"full\""), "{state} {all}");
    assert_eq!(status(&living.ask(BOB, &within(3, "Expires: 0"), "bob").await), 200);
    assert_eq!(note(&living, 200).await.0, "terminated;reason=timeout");
    assert_eq!(status(&living.ask(BOB, &within(4, "Expires: 90"), "bob").await), 481, "it is over");
    assert_eq!(living.house.metrics.get(Count::RegNotified), 5);
    living
        .until("nobody holds him any more", || living.node(&["shard 0", "users", "sip:bob@example.com"]).is_none())
        .await;
}

#[actix::test]
async fn a_contact_that_ends_by_itself_is_told_and_who_refuses_to_hear_is_told_no_more() {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    assert_eq!(living.register_for("bob", BOB, 1).await, 200);
    assert_eq!(status(&living.ask(BOB, &subscribe(&[]), "bob").await), 200);
    note(&living, 200).await;
    let (_, change) = note(&living, 481).await;
    assert!(change.contains("event=\"expired\"") && change.contains("id=\"r\" state=\"terminated\""), "{change}");
    tokio::time::sleep(Duration::from_millis(30)).await;
    register(&living, SECOND, "", &[]).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(living.wire.take(BOB).is_empty(), "481: the subscription is gone");
}

#[actix::test]
async fn a_registration_is_shown_to_its_user_only_and_what_cannot_be_is_refused_by_its_name() {
    let living = Living::with(&["alice", "bob"], |config| config.user_idle = Duration::from_secs(9)).await;
    let by_alice = Ask { from: "<sip:alice@example.com>;tag=1".into(), ..subscribe(&[]) };
    assert_eq!(status(&living.ask(ALICE, &by_alice, "alice").await), 403);
    let brief = living.ask(BOB, &subscribe(&["Expires: 5"]), "bob").await;
    assert_eq!((status(&brief), header(&brief, Name::MinExpires).as_deref()), (423, Some("60")));
    assert_eq!(status(&living.ask(BOB, &subscribe(&["Accept: text/plain"]), "bob").await), 406);
    assert_eq!(status(&living.ask(BOB, &subscribe(&["Require: eventlist"]), "bob").await), 420);
    // More than there is room for.
    for n in 0..base::limits::WATCHERS_PER_USER_MAX {
        let ask = Ask { call_id: format!("w{n}"), ..subscribe(&[]) };
        assert_eq!(status(&living.ask(BOB, &ask, "bob").await), 200, "{n}");
        note(&living, 200).await;
    }
    assert_eq!(status(&living.ask(BOB, &Ask { call_id: "one-more".into(), ..subscribe(&[]) }, "bob").await), 503);
    // The account goes, and with it all of them.
    living.house.store.remove_account(&aor("bob")).await.unwrap();
    living.house.registry.offer(aor("bob"), Offer::AccountChanged(crate::message::Heard::new().0));
    assert_eq!(note(&living, 200).await.0, "terminated;reason=noresource");
}

fn trusting(config: &mut Config) {
    config.trusted = vec![Network { address: [127, 0, 0, 1].into(), bits: 32 }];
}

#[actix::test]
async fn a_trusted_peer_makes_a_user_reachable_by_itself_for_as_long_as_it_says() {
    let living = Living::with(&["alice", "bob"], trusting).await;
    let tell = |ask: &Ask| living.hear(ALICE, &ask.text(&living.branch()));
    let third_party = |user: &str, expires: u32| {
        let by_peer = Ask {
            from: "<sip:scscf.ims.example>;tag=1".into(),
            call_id: format!("3-{user}-{expires}"),
            body: "--b\r\nContent-Type: application/3gpp-ims+xml\r\n\r\n<x/>\r\n--b--".into(),
            ..Ask::register(user, "<sip:127.0.0.1:5090>")
        };
        by_peer.line(&format!("Expires: {expires}")).line("Content-Type: multipart/mixed;boundary=b")
    };
    tell(&Ask::message("alice", "zoe", "nobody"));
    assert_eq!(status(&living.wire.next(ALICE).await), 404);
    // With a password here, and without.
    for user in ["bob", "zoe"] {
        tell(&third_party(user, 600));
        let answer = living.wire.next(ALICE).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(header(&answer, Name::Contact).unwrap().starts_with("<sip:127.0.0.1:5090>;expires="), "{answer}");
        tell(&Ask::message("alice", user, "hello"));
        let heard = living.take(5090, 200).await;
        assert!(heard.starts_with(&format!("MESSAGE sip:{user}@example.com ")), "{heard}");
        assert_eq!(header(&heard, Name::Route).as_deref(), Some("<sip:127.0.0.1:5090;lr>"));
        assert_eq!(status(&living.wire.next(ALICE).await), 200);
    }
    tell(&third_party("zoe", 0));
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    tell(&Ask::message("alice", "zoe", "gone"));
    assert_eq!(status(&living.wire.next(ALICE).await), 404);
    // What a front proxy passes on of a user is his own business only.
    let mallory = Ask { from: "<sip:mallory@example.com>;tag=1".into(), ..Ask::register("bob", "<sip:m@127.0.0.1>") };
    tell(&mallory);
    assert_eq!(status(&living.wire.next(ALICE).await), 403);
}

#[actix::test]
async fn what_is_not_in_the_profile_is_403_to_its_user_and_480_to_others() {
    // The contract: services `message`, `none`; by a login that is another name.
    let store = storage::Store::in_memory();
    for (name, services) in [("alice", "all"), ("bob", "session"), ("carol", "message"), ("dave", "none")] {
        store.put_account(storage::Account { services: services.into(), ..account(name) }, true).await.unwrap();
    }
    let living = Living::over(store, |_| {}).await;
    let say = |from: &str, to: &str| Ask::message(from, to, "x");
    assert_eq!(living.register("bob", BOB).await, 200);
    assert_eq!(status(&living.ask(BOB, &say("bob", "alice"), "bob").await), 403);
    let to_bob = living.ask(ALICE, &say("alice", "bob"), "alice").await;
    assert!(to_bob.starts_with("SIP/2.0 480"), "{to_bob}");
    let call =
        Ask { method: "INVITE", lines: "Max-Forwards: 70\r\nContact: <sip:c@h>\r\n".into(), ..say("carol", "alice") };
    assert_eq!(status(&living.ask(SECOND, &call, "carol").await), 403);
    assert_eq!(status(&living.ask(SECOND, &say("carol", "alice"), "carol").await), 202);
    assert_eq!(living.register("dave", 5084).await, 403);
    assert_eq!(status(&living.ask(5084, &say("dave", "alice"), "dave").await), 403);
    assert_eq!(status(&living.ask(ALICE, &say("alice", "dave"), "alice").await), 480);
}

#[actix::test]
async fn a_flow_of_another_life_is_not_brought_back_by_a_start() {
    // RFC 5626 §7
    let store = storage::Store::in_memory();
    for name in ["alice", "bob"] {
        store.put_account(account(name), true).await.unwrap();
    }
    let binding = |params: &str, transport: u8| storage::StoredBinding {
        contact: format!("sip:bob@127.0.0.1:{BOB}"),
        params: params.into(),
        q: 1_000,
        call_id: format!("old{params}"),
        cseq: 1,
        expires_unix_s: u64::from(u32::MAX),
        transport,
        source: crate::testing::at(BOB),
        listener: 0,
        path: Vec::new(),
        instance: None,
        connection: (transport == 1).then_some((1, 1)),
    };
    let flow = format!("{};reg-id=1", device(1));
    store.put_bindings(&aor("bob"), &[binding(&flow, 1), binding("", 0)]).await.unwrap();
    let living = Living::over(store, |_| {}).await;
    let answer = living.ask(BOB, &Ask::register("bob", ""), "bob").await;
    let contacts: Vec<&str> = answer.lines().filter(|line| line.starts_with("Contact: ")).collect();
    assert_eq!(contacts.len(), 1, "{answer}");
    assert!(!contacts[0].contains("reg-id"), "a datagram's way is as good as it was");
}
