//! The junction of the data plane without actors and sockets: texts in, texts and offers out.

use super::*;
use crate::testing::{Ask, aor, at, challenge_value, header, house, response_to, row, status};
use crate::turn::take_dropped;
use base::limits::PAGE_BODY_BYTES_MAX;

#[path = "router_passing_tests.rs"]
mod passing;

struct World {
    house: Arc<House>,
    turn: Turn,
    now: Now,
    branch: u32,
}

/// The port that clients of these tests send from.
const CLIENT: u16 = 5090;

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut crate::Config)) -> Self {
        let house = house(change);
        house.reach.publish(Arc::new(row("alice", None)));
        house.reach.publish(Arc::new(row("bob", Some(5080))));
        Self { house, turn: Turn::default(), now: Now::read(), branch: 0 }
    }

    fn hear(&mut self, text: &str) -> Vec<(u16, String)> {
        self.hear_from(text.as_bytes(), Hop::udp(0, at(CLIENT)))
    }

    fn hear_from(&mut self, bytes: &[u8], from: Hop) -> Vec<(u16, String)> {
        datagram(&self.house, &mut self.turn, &mut Layout::default(), bytes, from, self.now);
        self.left()
    }

    fn left(&mut self) -> Vec<(u16, String)> {
        let text =
            |range: &std::ops::Range<usize>| String::from_utf8_lossy(&self.turn.arena[range.clone()]).into_owned();
        let left = self.turn.datagrams().iter().map(|each| (each.peer.port(), text(&each.range))).collect();
        self.turn.clear();
        left
    }

    /// The only thing that comes back for a request, to the client.
    fn answer(&mut self, text: &str) -> String {
        let mut left = self.hear(text);
        assert_eq!(left.len(), 1, "{left:?}");
        let (port, text) = left.remove(0);
        assert_eq!(port, CLIENT);
        text
    }

    fn branch(&mut self) -> String {
        self.branch += 1;
        format!("-{}", self.branch)
    }

    /// What a request is answered with a fresh branch, unsigned.
    fn unsigned(&mut self, ask: &Ask) -> String {
        let branch = self.branch();
        self.answer(&ask.text(&branch))
    }

    /// What leaves for a request that is challenged and then signed.
    fn signed(&mut self, ask: &Ask, user: &str) -> Vec<(u16, String)> {
        let challenge = self.unsigned(ask);
        assert!([401, 407].contains(&status(&challenge)), "{challenge}");
        let branch = self.branch();
        self.hear(&ask.signed(&challenge, user, 1).text(&branch))
    }

    fn signed_answer(&mut self, ask: &Ask, user: &str) -> String {
        let mut left = self.signed(ask, user);
        assert_eq!(left.len(), 1, "{left:?}");
        left.remove(0).1
    }

    fn count(&mut self, what: Count) -> u64 {
        self.house.metrics.add(&mut self.turn.counts);
        self.house.metrics.get(what)
    }
}

fn ask(method: &'static str, uri: &str) -> Ask {
    Ask { method, uri: uri.into(), ..Ask::message("alice", "bob", "hello") }
}

#[test]
fn what_is_faulty_is_named_before_anybody_is_challenged() {
    let mut world = World::new();
    let hops = |ask: Ask, left: &str| Ask {
        lines: ask.lines.replace("Max-Forwards: 70", &format!("Max-Forwards: {left}")),
        ..ask
    };
    let message = Ask::message("alice", "bob", "hello");
    for (request, expected) in [
        (hops(message.clone(), "0"), 483),
        (ask("MESSAGE", "mailto:bob@example.com"), 416),
        (message.clone().line("Proxy-Require: lasers"), 420),
        (ask("OPTIONS", "sip:example.com").line("Require: lasers"), 420),
        (Ask::register("alice", "").line("Require: path, lasers"), 420),
        (ask("FROBNICATE", "sip:example.com"), 501),
        (ask("CANCEL", "sip:bob@example.com"), 481),
        (message.clone().line("Max-Forwards: x"), 400),
        (ask("MESSAGE", "<sip:bob@example.com>"), 400),
        (ask("MESSAGE", "sip:bob@example.com?Subject=x"), 400),
        (ask("MESSAGE", "sip:%00@example.com"), 400),
        (ask("INVITE", "sips:bob%0d%0a@example.com"), 400),
        (Ask { cseq: 1 << 31, ..message.clone() }, 400),
        (Ask { from: "alice".into(), ..message.clone() }, 400),
    ] {
        let answer = world.unsigned(&request);
        assert_eq!(status(&answer), expected, "{answer}\nfor\n{}", request.text("x"));
        assert!(header(&answer, Name::To).unwrap().contains(";tag="), "{answer}");
    }
    // A phrase names the fault; what is not supported or allowed is said.
    assert!(
        world
            .unsigned(&ask("MESSAGE", "<sip:bob@example.com>"))
            .starts_with("SIP/2.0 400 Request-URI In Angle Brackets\r\n")
    );
    let lasers = world.unsigned(&Ask::register("alice", "").line("Require: path, lasers"));
    assert_eq!(header(&lasers, Name::Unsupported).as_deref(), Some("lasers"));
    let unknown = world.unsigned(&ask("FROBNICATE", "sip:example.com"));
    assert!(header(&unknown, Name::Allow).unwrap().contains("MESSAGE"));
    let version = world.answer(&message.text("v").replacen("SIP/2.0\r\n", "SIP/7.0\r\n", 1));
    assert_eq!(status(&version), 505);
    assert!(world.house.transactions.is_empty(), "nothing is kept of any of it");
    assert!(world.count(Count::Malformed) > 10);
}

#[test]
fn what_needs_no_hops_is_answered_at_the_last_one() {
    // RFC 3261 §16.3 step 3, §11: OPTIONS to ourselves ends here.
    let mut world = World::new();
    let mut options = ask("OPTIONS", "sip:example.com");
    options.lines = options.lines.replace("70", "0");
    let answer = world.signed_answer(&options, "alice");
    assert_eq!(status(&answer), 200);
    assert!(header(&answer, Name::Allow).unwrap().contains("REGISTER") && header(&answer, Name::Accept).is_some());
}

#[test]
fn an_ack_is_never_answered_and_a_stray_response_goes_nowhere() {
    let mut world = World::new();
    assert!(world.hear(&ask("ACK", "sip:bob@example.com").text("a")).is_empty());
    assert!(world.hear(&ask("ACK", "sip:bob@example.com").text("a").replace("From: <", "From: <<")).is_empty());
    assert!(world.hear(&response_to(&Ask::message("bob", "alice", "x").text("b"), 200)).is_empty());
    assert_eq!(world.count(Count::Strays), 1);
    for keepalive in ["\r\n\r\n", "\0", "\r\n"] {
        assert!(world.hear(keepalive).is_empty());
    }
    assert_eq!(world.count(Count::Garbage), 0);
    assert!(world.hear("hello, is this the web?\r\n\r\n").is_empty());
    assert!(world.hear_from(&[0xff; 700], Hop::udp(0, at(CLIENT))).is_empty());
    assert_eq!(world.count(Count::Garbage), 2);
}

#[test]
fn a_challenge_offers_the_algorithms_in_order_and_is_the_same_answer_for_a_repeat() {
    let mut world = World::new();
    let text = Ask::message("alice", "bob", "hello").text("same");
    let (first, again) = (world.answer(&text), world.answer(&text));
    assert_eq!(status(&first), 407);
    assert!(
        challenge_value(&first, 0).contains("algorithm=SHA-256")
            && challenge_value(&first, 1).contains("algorithm=MD5")
    );
    assert!(
        challenge_value(&first, 0).contains("realm=\"example.com\"")
            && challenge_value(&first, 0).contains("qop=\"auth\"")
    );
    assert_eq!(header(&first, Name::To), header(&again, Name::To), "the same To tag without any state");
    assert!(world.house.transactions.is_empty());
    // 401 from the registrar and from ourselves, 407 from the proxy (RFC 3261 §22.1, §22.3).
    assert_eq!(status(&world.unsigned(&Ask::register("alice", ""))), 401);
    assert_eq!(status(&world.unsigned(&ask("OPTIONS", "sip:example.com"))), 401);
    assert_eq!(status(&world.unsigned(&ask("MESSAGE", "sip:bob@elsewhere.example"))), 407);

    let mut old = World::with(|config| config.algorithms = vec![sip::digest::Algorithm::Md5]);
    let challenge = old.unsigned(&Ask::message("alice", "bob", "hello"));
    assert!(challenge_value(&challenge, 0).contains("algorithm=MD5") && challenge.matches("Digest").count() == 1);
    let relayed = old.signed(&Ask::message("alice", "bob", "hello"), "alice");
    assert_eq!(relayed[0].0, 5080, "MD5 alone serves");
    // What was not offered is not taken.
    let sha = challenge_value(&world.unsigned(&Ask::message("alice", "bob", "x")), 0);
    let nonce = sha.split('"').nth(3).unwrap().to_owned();
    let forged = format!(
        "SIP/2.0 407 x\r\nProxy-Authenticate: Digest realm=\"example.com\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"\r\n"
    );
    let branch = old.branch();
    let refused = old.answer(&Ask::message("alice", "bob", "x").signed(&forged, "alice", 1).text(&branch));
    assert_eq!(status(&refused), 407);
}

#[test]
fn a_message_to_one_contact_is_relayed_without_what_is_not_for_its_receiver() {
    let mut world = World::new();
    let message = Ask::message("alice", "bob", "hello")
        .line("P-Asserted-Identity: <sip:president@example.com>")
        .line("Route: <sip:127.0.0.1;lr>")
        .line("X-Own: stays");
    let left = world.signed(&message, "alice");
    assert_eq!(left.len(), 1);
    let (port, relayed) = &left[0];
    assert_eq!(*port, 5080);
    assert!(
        relayed
            .starts_with("MESSAGE sip:bob@127.0.0.1:5080 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKp"),
        "{relayed}"
    );
    for gone in ["Proxy-Authorization", "P-Asserted-Identity", "Route:", "president", "response="] {
        assert!(!relayed.contains(gone), "{gone} in {relayed}");
    }
    assert!(
        relayed.contains("X-Own: stays\r\n")
            && relayed.contains("Max-Forwards: 69\r\n")
            && relayed.ends_with("\r\n\r\nhello")
    );
    assert!(relayed.contains(&format!(";rport={CLIENT}")) && relayed.contains(";received=127.0.0.1"), "{relayed}");

    let answer = world.hear_from(response_to(relayed, 200).as_bytes(), Hop::udp(0, at(5080)));
    assert_eq!((answer.len(), answer[0].0, status(&answer[0].1)), (1, CLIENT, 200));
    assert_eq!(answer[0].1.matches("Via:").count(), 1);
    assert_eq!((world.count(Count::Relayed), world.count(Count::Answered), world.count(Count::Challenged)), (1, 1, 1));
}

#[test]
fn answers_go_to_the_port_that_the_via_names_unless_it_asks_for_the_one_it_came_from() {
    // RFC 3261 §18.2.2, RFC 3581 §4.
    let mut world = World::new();
    let mut message = Ask::message("alice", "bob", "hello");
    message.via = "SIP/2.0/UDP phone.example.net:5095;branch=z9hG4bK".into();
    let answer = world.hear(&message.text("1"));
    assert_eq!(answer[0].0, 5095);
    assert!(answer[0].1.contains(";received=127.0.0.1"), "{}", answer[0].1);
    message.via = "SIP/2.0/UDP phone.example.net;branch=z9hG4bK".into();
    assert_eq!(world.hear(&message.text("2"))[0].0, 5060);
    message.via = "SIP/2.0/UDP phone.example.net;rport;branch=z9hG4bK".into();
    let answer = world.hear(&message.text("3"));
    assert_eq!(answer[0].0, CLIENT);
    assert!(answer[0].1.contains(&format!("rport={CLIENT}")));
}

#[test]
fn an_old_nonce_is_stale_a_used_count_is_refused_and_a_wrong_password_is_counted() {
    let mut world = World::new();
    let message = Ask::message("alice", "bob", "hello");
    let challenge = world.unsigned(&message);
    let signed = |nc| message.signed(&challenge, "alice", nc);
    assert_eq!(world.hear(&signed(1).text("a"))[0].0, 5080);
    // The same count in another request is a replay; in a repeat of the same it is a repeat.
    let replay = world.answer(&signed(1).text("b"));
    assert_eq!(status(&replay), 407);
    assert!(!replay.contains("stale"), "{replay}");
    assert!(world.hear(&signed(1).text("a")).is_empty(), "absorbed");
    assert_eq!(world.hear(&signed(2).text("c"))[0].0, 5080, "a nonce serves again");

    let wrong = world.answer(&message.signed_for(&challenge, "alice", "guess", &message.uri, 3).text("d"));
    assert!(status(&wrong) == 407 && !wrong.contains("stale"));
    assert_eq!(world.count(Count::AuthFailed), 2);

    world.now = world.now.later(base::limits::NONCE_LIFE + Duration::from_secs(1));
    let stale = world.answer(&signed(3).text("e"));
    assert!(status(&stale) == 407 && stale.contains("stale=true"));
    assert_eq!(world.hear(&message.signed(&stale, "alice", 1).text("f"))[0].0, 5080);
    assert_eq!(world.count(Count::AuthFailed), 2, "an old nonce is no guess");
}

#[test]
fn a_nonce_from_before_the_start_is_stale_and_its_message_may_have_been_taken_then() {
    let before = World::new().unsigned(&Ask::message("alice", "bob", "hello"));
    let mut world = World::new();
    world.house = crate::testing::house_over(storage::Store::in_memory(), |config| config.shards = 2);
    world.house.reach.publish(Arc::new(row("alice", None)));
    let old = challenge_value(&before, 0).replace("nonce=\"", "nonce=\"0");
    let forged = format!("SIP/2.0 407 x\r\nProxy-Authenticate: {old}\r\n");
    let message = Ask::message("alice", "bob", "hello");
    assert!(world.hear(&message.signed(&forged, "alice", 1).text("a")).is_empty());
    let mut offers = world.turn.take_offers();
    let (whose, Offer::Perhaps { receiver, answer }) = offers.remove(0) else { panic!("asks the store") };
    assert_eq!((whose, receiver), (aor("alice"), aor("bob")));
    challenge(&world.house.clone(), &mut world.turn, answer, world.now);
    let left = world.left();
    assert!(status(&left[0].1) == 407 && left[0].1.contains("stale=true"), "it was not taken: {left:?}");
    assert!(world.house.transactions.is_empty());

    // Anything else is challenged at once.
    let register = Ask::register("alice", "");
    let forged = forged.replace("407", "401").replace("Proxy-", "WWW-");
    let stale = world.answer(&register.signed(&forged, "alice", 1).text("b"));
    assert!(status(&stale) == 401 && stale.contains("stale=true"));

    // Who is not known makes the store work only in the first minute, or with a nonce of ours.
    let unknown = Ask::message("carol", "bob", "hello");
    assert!(world.hear(&unknown.signed(&forged, "carol", 1).text("c")).is_empty());
    assert!(matches!(world.turn.take_offers().remove(0), (whose, Offer::Missing { .. }) if whose == aor("carol")));
    world.now = world.now.later(Duration::from_secs(65));
    let told = world.answer(&unknown.signed(&forged, "carol", 1).text("d"));
    assert!(status(&told) == 407 && world.turn.take_offers().is_empty());
    assert!(world.hear(&unknown.signed(&told, "carol", 1).text("e")).is_empty());
    assert_eq!(world.turn.take_offers().len(), 1);
    drop(take_dropped());
}

#[test]
fn what_was_signed_must_be_what_was_sent() {
    // RFC 7616 §3.4.6; one name of ours is as good as another.
    let mut world = World::new();
    let message = Ask::message("alice", "bob", "hello");
    let challenge = world.unsigned(&message);
    let other = world.answer(&message.signed_for(&challenge, "alice", "secret", "sip:carol@example.com", 1).text("a"));
    assert!(other.starts_with("SIP/2.0 400 Digest uri is not the Request-URI\r\n"), "{other}");
    let equal = world.hear(&message.signed_for(&challenge, "alice", "secret", "sip:bob@EXAMPLE.com", 2).text("b"));
    assert_eq!(equal[0].0, 5080);
    let register = Ask::register("alice", "");
    let challenge = world.unsigned(&register);
    assert!(
        world.hear(&register.signed_for(&challenge, "alice", "secret", "sip:127.0.0.1:5060", 1).text("c")).is_empty()
    );
    assert!(matches!(world.turn.take_offers().remove(0).1, Offer::Register(_)));
    drop(take_dropped());

    let broken = message.clone().line("Proxy-Authorization: Digest username=\"alice\", realm=\"example.com\"");
    assert!(world.unsigned(&broken).starts_with("SIP/2.0 400 Malformed Credentials\r\n"));
    let foreign = message.line("Proxy-Authorization: Digest username=\"alice\", realm=\"elsewhere.example\"");
    assert_eq!(status(&world.unsigned(&foreign)), 400, "it is malformed wherever it is for");
}

#[test]
fn nobody_speaks_or_registers_for_somebody_else() {
    let mut world = World::new();
    let mut message = Ask::message("alice", "bob", "hello");
    message.from = "<sip:carol@example.com>;tag=x".into();
    let refused = world.signed_answer(&message, "alice");
    assert!(refused.starts_with("SIP/2.0 403 From is somebody else\r\n"));
    let mut register = Ask::register("alice", "");
    register.to = "<sip:bob@example.com>".into();
    assert_eq!(status(&world.signed_answer(&register, "alice")), 403);

    let mut reach = row("alice", None);
    reach.aliases = Box::new([Aor::parse("tel:+4912345").unwrap()]);
    world.house.reach.publish(Arc::new(reach));
    message.from = "<tel:+49-12345>;tag=x".into();
    assert_eq!(world.signed(&message, "alice")[0].0, 5080, "an alias of hers is she");

    let mut reach = row("alice", None);
    reach.may_page = false;
    world.house.reach.publish(Arc::new(reach));
    assert!(
        world
            .signed_answer(&Ask::message("alice", "bob", "hello"), "alice")
            .starts_with("SIP/2.0 403 Not in the service profile")
    );
}

#[test]
fn a_refusal_of_somebody_known_is_given_again_to_a_repeat_of_the_request() {
    // The count of its nonce is used up: without the record the repeat would be challenged (RFC 3261 §17.2.2).
    let mut world = World::new();
    let mut large = Ask::message("alice", "bob", "hello");
    large.body = "x".repeat(PAGE_BODY_BYTES_MAX + 1);
    let challenge = world.unsigned(&large);
    let text = large.signed(&challenge, "alice", 1).text("large");
    let (first, again) = (world.answer(&text), world.answer(&text));
    assert_eq!((status(&first), &first), (413, &again));
    assert_eq!(world.count(Count::Repeats), 1);

    for (request, expected) in [
        (ask("MESSAGE", "sip:bob@elsewhere.example"), 404),
        (ask("MESSAGE", "sip:example.com"), 405),
        (ask("PUBLISH", "sip:example.com"), 405),
        (ask("BYE", "sip:bob@example.com"), 481),
        (ask("MESSAGE", "sip:im-exploder@example.com"), 404),
        (Ask { uri: "sip:elsewhere.example".into(), ..Ask::register("alice", "") }, 404),
    ] {
        let answer = world.signed_answer(&request, "alice");
        assert_eq!(status(&answer), expected, "{answer}");
        assert_eq!(header(&answer, Name::Allow).is_some(), expected == 405);
    }
}

#[test]
fn a_trusted_peer_is_not_challenged_and_says_who_its_users_are() {
    let network = |text: &str| crate::config::Network { address: text.parse().unwrap(), bits: 32 };
    let mut world = World::with(|config| config.trusted = vec![network("127.0.0.7")]);
    world.house.reach.publish(Arc::new(row("carol", None)));
    let peer = Hop::udp(1, "127.0.0.7:5060".parse().unwrap());
    let trusted = |world: &mut World, ask: &Ask| {
        let branch = world.branch();
        world.hear_from(ask.text(&branch).as_bytes(), peer)
    };
    // By From, and by what the peer asserts.
    let message = Ask::message("zoe", "carol", "hello");
    assert!(trusted(&mut world, &message).is_empty());
    let (to, Offer::Page { sender, answer, .. }) = world.turn.take_offers().remove(0) else { panic!("page") };
    assert_eq!((to, sender), (aor("carol"), aor("zoe")));
    drop(answer);
    let asserted = message.clone().line("P-Asserted-Identity: \"Y\" <sip:yves@elsewhere.example>");
    assert!(trusted(&mut world, &asserted).is_empty());
    let (_, Offer::Page { sender, answer, .. }) = world.turn.take_offers().remove(0) else { panic!("page") };
    assert_eq!(sender.as_str(), "sip:yves@elsewhere.example");
    drop(answer);

    // What the peer says of its user goes on, but for privacy (RFC 3325 §7); Route never does.
    let asserted = Ask::message("zoe", "bob", "hello")
        .line("P-Asserted-Identity: <sip:zoe@example.com>")
        .line("Route: <sip:x;lr>");
    let relayed = trusted(&mut world, &asserted)[0].1.clone();
    assert!(relayed.contains("P-Asserted-Identity: <sip:zoe@example.com>") && !relayed.contains("Route:"));
    let private = trusted(&mut world, &asserted.clone().line("Privacy: header; id"))[0].1.clone();
    assert!(!private.contains("P-Asserted-Identity"), "{private}");
    // Who registers there is who stands in To.
    assert!(trusted(&mut world, &Ask::register("zoe", "<sip:zoe@127.0.0.7>")).is_empty());
    assert!(matches!(world.turn.take_offers().remove(0), (to, Offer::Register(_)) if to == aor("zoe")));
    let nobody = Ask { from: "<sip:127.0.0.7>;tag=1".into(), ..message };
    assert_eq!(status(&trusted(&mut world, &nobody)[0].1), 400);
    // Anybody else is challenged, whatever he asserts.
    assert_eq!(status(&world.unsigned(&asserted)), 407);
    drop(take_dropped());
}

#[test]
fn who_is_absent_unknown_or_more_than_one_is_the_actors_business() {
    let mut world = World::new();
    let paged = |world: &mut World, to: &str| {
        assert!(world.signed(&Ask::message("alice", to, "hello"), "alice").is_empty());
        let mut offers = world.turn.take_offers();
        let Some((whose, Offer::Page { sender, answer, .. })) = offers.pop() else { panic!("page") };
        assert_eq!(sender, aor("alice"));
        drop(answer);
        whose
    };
    assert_eq!(paged(&mut world, "nobody"), aor("nobody"));
    let mut reach = row("bob", Some(5080));
    reach.climb = Climb::QUEUED;
    reach.aliases = Box::new([aor("robert")]);
    world.house.reach.publish(Arc::new(reach));
    assert_eq!(paged(&mut world, "bob"), aor("bob"), "letters wait");
    assert_eq!(paged(&mut world, "robert"), aor("bob"), "an alias is its owner");

    // His own requests say that he is there (decisions D4).
    world.signed(&Ask::message("bob", "alice", "hello"), "bob");
    let offers = world.turn.take_offers();
    assert!(offers.iter().any(|(whose, offer)| *whose == aor("bob") && matches!(offer, Offer::Active)));
    drop(offers);
    drop(take_dropped());
}

#[test]
fn what_asks_for_sips_is_relayed_by_a_secure_way_alone() {
    // RFC 3261 §26.2.2, RFC 5630 §5.3
    let mut world = World::new();
    let message = Ask { uri: "SIPS:bob@example.com".into(), ..Ask::message("alice", "bob", "secret") };
    assert!(world.signed(&message, "alice").is_empty(), "nothing leaves in clear");
    let (whose, Offer::Page { answer, .. }) = world.turn.take_offers().remove(0) else {
        panic!("his actor's to refuse")
    };
    assert_eq!(whose, aor("bob"));
    drop(answer);
    let mut reach = row("bob", Some(5080));
    reach.ways[0].sips = Some((*b"sips:bob@127.0.0.1:5080").into());
    world.house.reach.publish(Arc::new(reach));
    assert!(world.signed(&message, "alice")[0].1.starts_with("MESSAGE sips:bob@127.0.0.1:5080 SIP/2.0\r\n"));
    let plain = Ask::message("alice", "bob", "open");
    assert!(world.signed(&plain, "alice")[0].1.starts_with("MESSAGE sip:bob@127.0.0.1:5080 SIP/2.0\r\n"));
    drop(take_dropped());
}

#[test]
fn a_request_of_ours_that_comes_back_went_nowhere_and_the_receivers_actor_hears_it_at_once() {
    // RFC 3261 §16.3 step 4, §16.9
    let mut world = World::new();
    let relayed = world.signed(&Ask::message("alice", "bob", "hello"), "alice").remove(0).1;
    let ourselves = Hop::udp(0, at(5060));
    assert!(world.hear_from(relayed.as_bytes(), ourselves).is_empty(), "not even a challenge");
    let mut offers = world.turn.take_offers();
    let (whose, Offer::Undelivered { status: 503, answer, .. }) = offers.remove(0) else { panic!("undelivered") };
    assert_eq!((whose, offers.len()), (aor("bob"), 0));
    assert_eq!((world.count(Count::Looped), world.count(Count::Unreachable)), (1, 1));
    // Once more it is of no transaction of ours, and so a stranger's.
    assert_eq!(status(&world.hear_from(relayed.as_bytes(), ourselves)[0].1), 407);
    // Branches of another house of this kind look like ours.
    let other = relayed.replace(&relayed[relayed.find("branch=z9hG4bKp").unwrap() + 25..][..8], "01234567");
    assert_eq!(status(&world.hear_from(other.as_bytes(), ourselves)[0].1), 407);
    assert_eq!(world.count(Count::Looped), 1);
    drop(answer);
    drop(take_dropped());
}

#[test]
fn a_source_without_credentials_is_heard_so_often_a_second_and_others_are_not_kept_from_it() {
    let mut world = World::with(|config| config.challenges_per_source = 10);
    let message = Ask::message("alice", "bob", "hello");
    let good = world.unsigned(&message);
    let mut answered = 0;
    for _ in 0..50 {
        let branch = world.branch();
        answered += world.hear(&message.text(&branch)).len();
        answered += world.hear(&message.clone().line("Max-Forwards: x").text(&branch)).len();
        let unknown = Ask::message("carol", "bob", "x").signed(&good, "carol", 9).text(&branch);
        answered += world.hear(&unknown).len() + world.turn.take_offers().len();
    }
    assert_eq!(answered, 9);
    assert_eq!(world.count(Count::RateLimited), 141);
    // Who shows a password is heard; so is another source, and the same one a second later.
    assert_eq!(world.hear(&message.signed(&good, "alice", 1).text("ok"))[0].0, 5080);
    let other = Hop::udp(0, "127.0.0.2:5090".parse().unwrap());
    assert_eq!(world.hear_from(message.text("other").as_bytes(), other).len(), 1);
    world.now = world.now.later(Duration::from_secs(1));
    assert_eq!(world.hear(&message.text("later")).len(), 1);
    drop(take_dropped());
}

#[test]
fn a_turn_that_panics_leaves_no_record_behind() {
    let mut world = World::new();
    let message = Ask::message("alice", "bob", "hello");
    let challenge = world.unsigned(&message);
    let case_text = message.signed(&challenge, "alice", 1).text("p");
    let mut layout = Layout::default();
    sip::parse_datagram(case_text.as_bytes(), &mut layout).unwrap();
    let fell = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let house = world.house.clone();
        let case = Case::of(&house, layout.view(case_text.as_bytes()), Hop::udp(0, at(CLIENT)), world.now);
        let _record = case.begin(&mut world.turn).unwrap();
        assert_eq!(house.transactions.len(), 1);
        panic!("a fault of ours");
    }));
    assert!(fell.is_err() && world.house.transactions.is_empty());
}

#[test]
fn every_message_of_rfc_4475_gets_an_answer_or_silence() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/proto/sip/tests/rfc4475");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 49);
    let mut world = World::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&file).unwrap();
        let left = world.hear_from(&bytes, Hop::udp(0, at(CLIENT)));
        assert!(left.len() <= 1, "{name}: {left:?}");
        assert!(world.turn.take_offers().is_empty(), "{name}: nobody was asked");
        let heard = left.first().map(|(_, text)| status(text));
        let expected: &[u16] = match &*name {
            "badvers" => &[505],
            "unkscm" => &[416],
            "bext01" => &[420],
            "zeromf" => &[407], // who asks at the last hop is told by us, when he shows who he is
            "longreq" | "intmeth" | "esc02" => &[501, 401, 407, 404],
            "badinv01" | "clerr" | "ncl" | "scalar02" | "quotbal" | "ltgtruri" | "lwsruri" | "lwsstart" | "trws"
            | "escruri" | "regbadct" | "mcl01" | "mismatch01" | "insuf" | "badbranch" | "multi01" | "baddn"
            | "badaspec" => &[400],
            "mismatch02" => &[501, 400],
            "bigcode" | "scalarlg" | "bcast" | "noreason" | "unreason" => &[],
            _ => &[200, 400, 401, 404, 405, 407, 416, 420, 481, 501],
        };
        match heard {
            None => assert!(expected.is_empty() || name == "dblreq", "{name}: silence"),
            Some(status) => assert!(expected.contains(&status), "{name}: {status}"),
        }
    }
}
