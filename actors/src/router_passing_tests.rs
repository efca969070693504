//! What the junction passes on by itself, without actors: one contact, no INVITE (RFC 3261 §16).

use super::*;
use crate::hop::ConnId;
use crate::message::SessionInput;

/// Everything that leaves when Alice asks, signed.
fn passed(world: &mut World, ask: &Ask) -> String {
    let left = world.signed(ask, "alice");
    assert_eq!((left.len(), left[0].0), (1, 5080), "{left:?}");
    assert!(world.turn.take_sessions().is_empty() && world.turn.take_offers().is_empty(), "no actor was asked");
    left[0].1.clone()
}

fn from_bob(world: &mut World, text: &str) -> Vec<(u16, String)> {
    world.hear_from(text.as_bytes(), Hop::udp(0, at(5080)))
}

/// The values of our Record-Route, in their order.
fn recorded(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).map(str::to_owned).collect()
}

#[test]
fn what_nobody_here_knows_goes_to_the_device_and_its_answer_back() {
    let mut world = World::new();
    let frobnicate = ask("FROBNICATE", "sip:bob@example.com").line("X-Strange: a;b=\"c, d\"");
    let text = passed(&mut world, &frobnicate);
    assert!(
        text.starts_with(
            "FROBNICATE sip:bob@127.0.0.1:5080 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKp"
        )
    );
    assert!(
        text.contains("Max-Forwards: 69\r\n")
            && text.contains("X-Strange: a;b=\"c, d\"\r\n")
            && text.ends_with("hello")
    );
    assert!(!text.contains("Proxy-Authorization"), "what was for us stays here: {text}");
    // RFC 4320 §4.1: nothing provisional.
    assert!(from_bob(&mut world, &response_to(&text, 180)).is_empty());
    let answer = from_bob(&mut world, &response_to(&text, 299).replace("\r\nTo", "\r\nX-Back: yes\r\nTo"));
    assert_eq!((answer[0].0, status(&answer[0].1)), (CLIENT, 299));
    assert!(answer[0].1.contains("X-Back: yes") && answer[0].1.matches("Via:").count() == 1);
    assert!(from_bob(&mut world, &response_to(&text, 200)).is_empty(), "one final answer");
    assert_eq!((world.count(Count::Passed), world.count(Count::Relayed)), (1, 0));
}

#[test]
fn a_dialog_finds_its_way_both_ways_by_what_we_recorded() {
    // RFC 3261 §16.6 step 4, RFC 5626 §5.3, RFC 5658 §6.
    let mut world = World::new();
    world.house.reach.publish(Arc::new(row("bob", Some(5080))));
    let text = passed(&mut world, &ask("SUBSCRIBE", "sip:bob@example.com").line("Event: presence"));
    let routes = recorded(&text);
    assert_eq!(routes.len(), 2, "{text}");
    assert!(routes.iter().all(|route| route.ends_with("@127.0.0.1:5060;lr>") && !route.contains("5080")), "{routes:?}");
    assert!(text.find("Record-Route").unwrap() < text.find("rport=").unwrap(), "on top");

    // Bob's route set is in order: his NOTIFY goes to where Alice was heard from, whatever her Contact says.
    let mut notify = ask("NOTIFY", "sip:alice@10.9.8.7:5060");
    notify.from = "<sip:bob@example.com>;tag=b1".into();
    notify.to = "<sip:alice@example.com>;tag=f1".into();
    notify = notify.line(&format!("Route: {}, {}", routes[0], routes[1]));
    let left = world.signed(&notify, "bob");
    assert_eq!((left.len(), left[0].0), (1, CLIENT), "{left:?}");
    let heard = &left[0].1;
    assert!(
        heard.starts_with("NOTIFY sip:alice@10.9.8.7:5060 SIP/2.0\r\n") && !heard.contains("\r\nRoute:"),
        "{heard}"
    );
    assert_eq!(recorded(heard).len(), 2, "RFC 6665 §4.3: the NOTIFY tells the route too");

    // Alice's is reversed.
    let mut refresh =
        ask("SUBSCRIBE", "sip:bob@192.168.3.3").line(&format!("Route: {}\r\nRoute: {}", routes[1], routes[0]));
    refresh.to = "<sip:bob@example.com>;tag=b1".into();
    assert!(passed(&mut world, &refresh).starts_with("SUBSCRIBE sip:bob@192.168.3.3 SIP/2.0\r\n"));
    // Nor on this way does anybody speak in somebody else's name, or write who may not.
    let mut page = Ask { method: "MESSAGE", ..refresh.clone() };
    assert!(passed(&mut world, &page).starts_with("MESSAGE sip:bob@192.168.3.3 SIP/2.0\r\n"));
    page.from = "<sip:carol@example.com>;tag=f1".into();
    assert_eq!(status(&world.signed_answer(&page, "alice")), 403);
    let mut mute = row("alice", None);
    mute.may_page = false;
    world.house.reach.publish(Arc::new(mute));
    page.from = refresh.from.clone();
    assert_eq!(status(&world.signed_answer(&page, "alice")), 403);
    world.house.reach.publish(Arc::new(row("alice", None)));
    // A strict router of old has our URI in the request line (RFC 3261 §16.4).
    let first = routes[1].trim_matches(['<', '>']);
    let mut strict = ask("SUBSCRIBE", first).line(&format!("Route: {}, <sip:bob@192.168.3.3>", routes[0]));
    strict.to = refresh.to.clone();
    assert!(passed(&mut world, &strict).starts_with("SUBSCRIBE sip:bob@192.168.3.3 SIP/2.0\r\n"));
    // What stands behind ours is somebody else's and stays; a strict router gets its own URI (§16.6 step 6).
    let behind = refresh.clone().line("Route: <sip:edge.example;lr>");
    assert!(passed(&mut world, &behind).contains("\r\nRoute: <sip:edge.example;lr>\r\n"));
    let old = passed(&mut world, &refresh.line("Route: <sip:old.example>"));
    assert!(
        old.starts_with("SUBSCRIBE sip:old.example SIP/2.0\r\n")
            && old.contains("\r\nRoute: <sip:bob@192.168.3.3>\r\n")
    );
}

#[test]
fn within_a_dialog_too_nothing_that_asks_for_sips_goes_on_in_clear() {
    // RFC 5630 §5.3, RFC 3261 §26.2.2
    let mut world = World::new();
    let text = passed(&mut world, &ask("SUBSCRIBE", "sip:bob@example.com"));
    let routes = recorded(&text);
    let within = |method: &'static str, uri: &str| {
        let mut within = ask(method, uri).line(&format!("Route: {}", routes[1])).line(&format!("Route: {}", routes[0]));
        within.to = "<sip:bob@example.com>;tag=b1".into();
        within
    };
    let plain = within("NOTIFY", "sip:bob@192.168.3.3");
    assert!(passed(&mut world, &plain).starts_with("NOTIFY sip:bob@192.168.3.3 SIP/2.0\r\n"));
    let told = world.signed_answer(&within("NOTIFY", "sips:bob@192.168.3.3"), "alice");
    assert_eq!(status(&told), 480, "{told}");
    assert!(header(&told, Name::Warning).unwrap().starts_with("380 "));
    assert!(world.hear(&within("ACK", "sips:bob@192.168.3.3").text("ack")).is_empty());
    assert_eq!(world.hear(&within("ACK", "sip:bob@192.168.3.3").text("ack2"))[0].0, 5080);
}

#[test]
fn both_sides_are_told_how_to_reach_us_by_their_own_transport() {
    // RFC 5658 §6.
    let mut world = World::new();
    let outbox = world.house.flows.open(Some(Box::new(Gone)));
    let mut reach = row("bob", Some(5080));
    reach.ways[0].hop = Hop::stream(outbox.id(), "[2001:db8::5]:5080".parse().unwrap());
    world.house.reach.publish(Arc::new(reach));
    let subscribe = ask("SUBSCRIBE", "sip:bob@example.com");
    let challenge = world.unsigned(&subscribe);
    let text = subscribe.signed(&challenge, "alice", 1).text("t");
    datagram(
        &world.house,
        &mut world.turn,
        &mut Layout::default(),
        text.as_bytes(),
        Hop::udp(0, at(CLIENT)),
        world.now,
    );
    let sent = String::from_utf8_lossy(&world.turn.arena).into_owned();
    let routes = recorded(&sent);
    assert!(
        routes[0].ends_with("@127.0.0.1:5061;transport=tcp;lr>") && routes[1].ends_with("@127.0.0.1:5060;lr>"),
        "{sent}"
    );
    let user = |route: &str| route[5..route.find('@').unwrap()].to_owned();
    assert_eq!(
        world.house.ways.hop(user(&routes[0]).as_bytes()),
        Some(Hop::stream(outbox.id(), "[2001:db8::5]:5080".parse().unwrap()))
    );
    assert_eq!(world.house.ways.hop(user(&routes[1]).as_bytes()), Some(Hop::udp(0, at(CLIENT))));
    world.turn.clear();

    // When the flow is gone, the peer is not called elsewhere (RFC 5626 §5.3.1).
    world.house.flows.remove(outbox.id());
    for uri in ["sip:bob@192.0.2.66:9", "sip:bob@host.example"] {
        let mut refresh = ask("SUBSCRIBE", uri).line(&format!("Route: {}", routes[0]));
        refresh.to = "<sip:bob@example.com>;tag=b1".into();
        assert_eq!(status(&world.signed_answer(&refresh, "alice")), 430, "{uri}");
    }
}

struct Gone;

impl crate::outbox::Writer for Gone {
    fn try_write_vectored(&mut self, _: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn nobody_sends_anywhere_by_way_of_us() {
    let mut world = World::new();
    let house = World::new().house;
    let stranger = format!("<sip:{}@127.0.0.1:5060;lr>", house.ways.token(Hop::stream(ConnId(1), at(80))));
    let near = "<sip:127.0.0.1:7000;lr>";
    for (request, expected) in [
        (ask("FROBNICATE", "sip:bob@192.0.2.3"), 404),
        (ask("FROBNICATE", "sip:bob@192.0.2.3").line("Route: <sip:127.0.0.1:5060;lr>"), 404),
        (ask("FROBNICATE", "sip:bob@example.com").line("Route: <sip:127.0.0.1:5060;lr>, <sip:192.0.2.3;lr>"), 403),
        (ask("FROBNICATE", "sip:bob@example.com").line(&format!("Route: {near}")), 403),
    ] {
        assert_eq!(status(&world.signed_answer(&request, "alice")), expected, "{}", request.text(""));
    }
    let forged = ask("FROBNICATE", "sip:bob@192.0.2.3").line(&format!("Route: {stranger}"));
    assert_eq!(status(&world.unsigned(&forged)), 403, "not a way that we have recorded");
    // Ours alone, by any of our names, is as good as none.
    for own in
        ["<sip:127.0.0.1:5060;lr>", "<sip:127.0.0.1:5061;transport=tcp;lr>", "<sip:example.com;lr>", "sip:127.0.0.1"]
    {
        passed(&mut world, &ask("FROBNICATE", "sip:bob@example.com").line(&format!("Route: {own}")));
    }
    // And nobody speaks in somebody else's name.
    let mut other = ask("FROBNICATE", "sip:bob@example.com");
    other.from = "<sip:carol@example.com>;tag=x".into();
    assert_eq!(status(&world.signed_answer(&other, "alice")), 403);
}

#[test]
fn a_trusted_peer_says_which_way_it_goes() {
    let trusted = crate::config::Network { address: [127, 0, 0, 7].into(), bits: 32 };
    let mut world = World::with(|config| config.trusted = vec![trusted]);
    let peer = Hop::udp(1, "127.0.0.7:5060".parse().unwrap());
    let route = |next: &str| format!("Route: <sip:127.0.0.1:5060;lr>, <sip:{next};lr>");
    let mut heard = |next: &str| {
        let branch = world.branch();
        let text = ask("SUBSCRIBE", "sip:bob@example.com").line(&route(next)).text(&branch);
        world.hear_from(text.as_bytes(), peer)
    };
    let left = heard("127.0.0.8:5070");
    assert_eq!((left.len(), left[0].0), (1, 5070), "{left:?}");
    assert!(left[0].1.starts_with("SUBSCRIBE sip:bob@example.com SIP/2.0\r\n"), "{left:?}");
    assert!(left[0].1.contains("\r\nRoute: <sip:127.0.0.8:5070;lr>\r\n"), "{left:?}");
    assert_eq!(status(&heard("proxy.invalid")[0].1), 502);
}

#[test]
fn an_ack_for_a_success_goes_along_the_way_of_its_dialog_and_no_other() {
    // RFC 3261 §16.11.
    let mut world = World::new();
    let token = world.house.ways.token(Hop::udp(0, at(5080)));
    let mut ack = ask("ACK", "sip:bob@10.0.0.3").line(&format!("Route: <sip:{token}@127.0.0.1:5060;lr>"));
    ack.to = "<sip:bob@example.com>;tag=b1".into();
    let (once, again) = (world.hear(&ack.text("a")), world.hear(&ack.text("a")));
    assert_eq!((once.len(), once[0].0, &once), (1, 5080, &again), "a repeat is the same");
    assert!(
        once[0].1.starts_with("ACK sip:bob@10.0.0.3 SIP/2.0\r\nVia: ") && !once[0].1.contains("Route:"),
        "{once:?}"
    );
    let mut last = ack.clone();
    last.lines = last.lines.replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert!(world.hear(&last.text("b")).is_empty());
    assert!(world.hear(&ask("ACK", "sip:bob@10.0.0.3").text("c")).is_empty());
    assert!(world.hear(&ask("ACK", "sip:bob@10.0.0.3").line("Route: <sip:10.0.0.3;lr>").text("d")).is_empty());
    assert!(world.house.transactions.is_empty());
}

#[test]
fn credentials_for_somebody_elses_realm_go_on() {
    // RFC 3261 §22.3.
    let mut world = World::new();
    let foreign = "Digest username=\"a\", realm=\"bobs phone\", nonce=\"n\", uri=\"sip:b\", response=\"0123456789abcdef0123456789abcdef\"";
    let text = passed(&mut world, &ask("FROBNICATE", "sip:bob@example.com").line(&format!("Authorization: {foreign}")));
    assert!(
        text.contains(&format!("\r\nAuthorization: {foreign}\r\n")) && text.matches("uthorization").count() == 1,
        "{text}"
    );
}

#[test]
fn a_request_that_comes_back_unchanged_is_cut_off_and_a_spiral_is_not() {
    // RFC 3261 §16.3 step 4, RFC 5393 §4.2.
    let mut world = World::new();
    let mut reach = row("bob", Some(5080));
    reach.ways[0].contact = (*b"sip:bob@example.com").into();
    world.house.reach.publish(Arc::new(reach));
    for (method, counted) in [("FROBNICATE", 1), ("MESSAGE", 2)] {
        // By a proxy that knows no better; one that came straight back is told by its top Via.
        let text = passed(&mut world, &ask(method, "sip:bob@example.com"));
        let text =
            text.replacen("\r\nVia: ", "\r\nVia: SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bKproxy;rport\r\nVia: ", 1);
        let looped = world.hear_from(text.as_bytes(), Hop::udp(0, at(5080)));
        assert_eq!(status(&looped[0].1), 482, "{looped:?}");
        assert_eq!(world.count(Count::Looped), counted);
        // To somebody else it may go on.
        let spiral = text.replacen("sip:bob@example.com", "sip:alice@example.com", 1);
        assert_eq!(status(&world.hear_from(spiral.as_bytes(), Hop::udp(0, at(5080)))[0].1), 407);
    }
}

#[test]
fn options_at_its_last_hop_are_answered_by_us() {
    // RFC 3261 §11.2, §16.3 step 3.
    let mut world = World::new();
    let mut options = ask("OPTIONS", "sip:bob@example.com");
    let other = passed(&mut world, &options);
    assert!(other.starts_with("OPTIONS sip:bob@127.0.0.1:5080"));
    options.lines = options.lines.replace("Max-Forwards: 70", "Max-Forwards: 0");
    let answer = world.signed_answer(&options, "alice");
    assert!(status(&answer) == 200 && header(&answer, Name::Allow).is_some());
    let mut frobnicate = ask("FROBNICATE", "sip:bob@example.com");
    frobnicate.lines = options.lines.clone();
    assert_eq!(status(&world.unsigned(&frobnicate)), 483);
    assert_eq!(status(&world.unsigned(&ask("FROBNICATE", "sip:bob@example.com").line("Proxy-Require: lasers"))), 420);
    // What is asked of the device is its business.
    passed(&mut world, &ask("FROBNICATE", "sip:bob@example.com").line("Require: lasers"));
}

#[test]
fn a_device_that_fails_is_no_failure_of_the_house_and_a_silent_one_is_no_answer() {
    // RFC 3261 §16.7 step 6, RFC 4320 §4.2.
    let mut world = World::new();
    let frobnicate = ask("FROBNICATE", "sip:bob@example.com");
    let text = passed(&mut world, &frobnicate);
    let answer = from_bob(&mut world, &response_to(&text, 503));
    assert_eq!((answer.len(), status(&answer[0].1)), (1, 500));
    assert!(header(&answer[0].1, Name::To).unwrap().contains(";tag="));

    let challenge = world.unsigned(&frobnicate);
    let asked = frobnicate.signed(&challenge, "alice", 1).text("late");
    let text = world.hear(&asked)[0].1.clone();
    assert!(from_bob(&mut world, &response_to(&text, 408)).is_empty());
    assert!(world.hear(&asked).is_empty(), "its repeats are absorbed");

    let asked = frobnicate.signed(&challenge, "alice", 2).text("silent");
    assert_eq!(world.hear(&asked)[0].0, 5080);
    let (mut repeats, mut told) = (0, Vec::new());
    for n in 1..=140 {
        world.now = world.now.later(Duration::from_millis(500));
        world.house.transactions.sweep(&mut world.turn, world.now, 0, 1);
        let left = world.left();
        let (there, back): (Vec<_>, Vec<_>) = left.into_iter().partition(|(port, _)| *port == 5080);
        repeats += there.len();
        told.extend(back.into_iter().map(|(_, text)| (n, status(&text))));
    }
    assert_eq!(repeats, 10, "timer E");
    assert_eq!(told, [(7, 100)], "RFC 4320 §4.1: after 3.5 s, and nothing else");
    assert!(world.house.transactions.is_empty(), "timer J has passed for all");
}

#[test]
fn what_has_not_one_plain_contact_or_is_an_invite_has_an_actor() {
    let mut world = World::new();
    let mut others = row("bob", Some(5080));
    others.climb = Climb::OTHERS;
    let mut queued = row("dora", Some(5081));
    queued.climb = Climb::QUEUED;
    for reach in [others, queued, row("carol", None)] {
        world.house.reach.publish(Arc::new(reach));
    }
    let audio = |to: &str| {
        let mut invite = ask("INVITE", &format!("sip:{to}@example.com"));
        invite.lines = "Max-Forwards: 70\r\nContact: <sip:a@h>\r\nContent-Type: application/sdp\r\n".into();
        invite.body = "v=0\r\nm=audio 4000 RTP/AVP 0\r\n".into();
        invite
    };
    for request in [
        ask("FROBNICATE", "sip:bob@example.com"),
        ask("SUBSCRIBE", "sip:carol@example.com"),
        audio("dora"),
        audio("bob"),
    ] {
        assert!(world.signed(&request, "alice").is_empty());
        let (_, SessionInput::Passage(passage)) = world.turn.take_sessions().remove(0) else { panic!("a passage") };
        assert_eq!(passage.entry.is_some(), request.method == "INVITE");
        drop(passage);
    }
    assert_eq!(
        world.signed(&ask("FROBNICATE", "sip:dora@example.com"), "alice")[0].0,
        5081,
        "letters do not matter to it"
    );
    drop(take_dropped());
}
