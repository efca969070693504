//! Passages in a living house: whole calls that the house knows nothing of, forks, and what happens when an actor falls.

use std::time::Duration;

use sip::Name;

use crate::message::{SessionInput, SessionKey};
use crate::metrics::Count;
use crate::testing::{Ask, Living, header, response_to, status};

const ALICE: u16 = 5091;
const DESK: u16 = 5092;
const MOBILE: u16 = 5093;

async fn house() -> Living {
    let living = Living::with(&["alice", "bob"], |_| {}).await;
    assert_eq!(living.register("bob", DESK).await, 200);
    living
}

async fn with_two() -> Living {
    let living = house().await;
    assert_eq!(living.register("bob", MOBILE).await, 200);
    living
}

fn ask(method: &'static str, to: &str) -> Ask {
    let via = format!("SIP/2.0/UDP 127.0.0.1:{ALICE};rport;branch=z9hG4bK");
    Ask { method, via, ..Ask::message("alice", to, "x") }
}

/// An INVITE for a talk by voice.
fn invite(to: &str) -> Ask {
    let lines =
        format!("Max-Forwards: 70\r\nContact: <sip:alice@10.1.1.1:{ALICE}>\r\nContent-Type: application/sdp\r\n");
    Ask { lines, body: "v=0\r\nm=audio 4000 RTP/AVP 0\r\n".into(), ..ask("INVITE", to) }
}

/// A device's answer, with its tag and its Contact.
fn answer(request: &str, status: u16, device: u16) -> String {
    let to = request.lines().find(|line| line.starts_with("To: ")).unwrap();
    let mut text = response_to(request, status);
    if !to.contains("tag=") {
        text = text.replacen(to, &format!("{to};tag=t{device}"), 1);
    }
    let routes: String =
        request.lines().filter(|line| line.starts_with("Record-Route")).map(|line| format!("{line}\r\n")).collect();
    text.replacen("Content-Length", &format!("Contact: <sip:bob@10.2.2.2:{device}>\r\n{routes}Content-Length"), 1)
}

/// The next thing that comes to a port; 100s are passed over.
async fn hear(living: &Living, port: u16) -> String {
    loop {
        let text = living.wire.next(port).await;
        if status(&text) != 100 {
            return text;
        }
    }
}

async fn hears(living: &Living, port: u16, what: &str) -> String {
    let text = hear(living, port).await;
    assert!(text.starts_with(what) || text.starts_with(&format!("SIP/2.0 {what}")), "{what}, not {text}");
    text
}

async fn quiet(living: &Living, port: u16) {
    tokio::time::sleep(Duration::from_millis(60)).await;
    let heard = living.wire.take(port);
    assert!(heard.iter().all(|text| status(text) == 100), "{heard:?}");
}

fn routes(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).map(str::to_owned).collect()
}

fn passages(living: &Living) -> usize {
    living.node(&["shard 0", "sessions"]).unwrap().children().0.len()
}

#[actix::test]
async fn two_devices_ring_one_answers_and_the_talk_passes_through_us_to_its_end() {
    let living = with_two().await;
    living.send(ALICE, &invite("bob"), "alice").await;
    let (desk, mobile) =
        (hears(&living, DESK, "INVITE sip:bob@").await, hears(&living, MOBILE, "INVITE sip:bob@").await);
    assert!(!desk.contains("Proxy-Authorization") && desk.contains("m=audio 4000"), "{desk}");
    assert_eq!(header(&desk, Name::CallId), header(&mobile, Name::CallId), "one call, passed on");
    assert_ne!(header(&desk, Name::Via), header(&mobile, Name::Via));
    assert!(desk.contains("Max-Breadth: 30\r\n"), "RFC 5393 §5.3.3: {desk}");
    for (text, device) in [(&desk, DESK), (&mobile, MOBILE)] {
        living.hear(device, &answer(text, 180, device));
        hears(&living, ALICE, "180").await;
    }
    living.hear(MOBILE, &answer(&mobile, 200, MOBILE));
    let accepted = hears(&living, ALICE, "200").await;
    assert_eq!(accepted.matches("Via: ").count(), 1);
    let cancel = hears(&living, DESK, "CANCEL sip:bob@").await;
    assert!(cancel.contains("Reason: SIP;cause=200") && header(&cancel, Name::Via).unwrap().contains("z9hG4bKs"));
    living.hear(DESK, &answer(&cancel, 200, DESK));
    living.hear(DESK, &answer(&desk, 487, DESK));
    hears(&living, DESK, "ACK sip:bob@").await;

    // What follows goes by our Record-Route, past any actor (RFC 3261 §16.11; RFC 5626 §5.3).
    let set = routes(&accepted);
    assert_eq!(set.len(), 2);
    let within = |method: &'static str, cseq: u32| {
        let lines = format!("Max-Forwards: 70\r\nRoute: {}\r\nRoute: {}\r\n", set[1], set[0]);
        let (uri, to) = (format!("sip:bob@10.2.2.2:{MOBILE}"), header(&accepted, Name::To).unwrap());
        Ask { uri, to, lines, cseq, body: String::new(), ..invite("bob") }.with(method)
    };
    living.hear(ALICE, &within("ACK", 1).text(&living.branch()));
    let ack = hears(&living, MOBILE, &format!("ACK sip:bob@10.2.2.2:{MOBILE} SIP/2.0")).await;
    assert!(!ack.contains("\r\nRoute:"), "{ack}");
    // A repeat of the 2xx goes on for as long as the caller may need it (RFC 6026).
    living.hear(MOBILE, &answer(&mobile, 200, MOBILE));
    hears(&living, ALICE, "200").await;

    // A new offer of the caller's is an INVITE of its own.
    let again = Ask { body: invite("bob").body, ..within("INVITE", 2) }.line("Content-Type: application/sdp");
    living.send(ALICE, &again, "alice").await;
    let again = hears(&living, MOBILE, "INVITE sip:bob@10.2.2.2").await;
    living.hear(MOBILE, &answer(&again, 200, MOBILE));
    hears(&living, ALICE, "200").await;

    // The callee hangs up; Alice is found where she was heard from, behind her NAT.
    let bye = Ask {
        uri: format!("sip:alice@10.1.1.1:{ALICE}"),
        from: header(&accepted, Name::To).unwrap(),
        to: header(&accepted, Name::From).unwrap(),
        via: format!("SIP/2.0/UDP 127.0.0.1:{MOBILE};rport;branch=z9hG4bK"),
        lines: format!("Max-Forwards: 70\r\nRoute: {},{}\r\n", set[0], set[1]),
        ..within("BYE", 1)
    };
    living.send(MOBILE, &bye, "bob").await;
    let heard = hears(&living, ALICE, &format!("BYE sip:alice@10.1.1.1:{ALICE} SIP/2.0")).await;
    living.hear(ALICE, &answer(&heard, 200, ALICE));
    hears(&living, MOBILE, "200").await;
    quiet(&living, DESK).await;
}

#[actix::test]
async fn a_caller_who_gives_up_takes_it_back_from_all() {
    // RFC 3261 §16.10.
    let living = with_two().await;
    let sent = living.send(ALICE, &invite("bob"), "alice").await;
    let (desk, mobile) = (hears(&living, DESK, "INVITE").await, hears(&living, MOBILE, "INVITE").await);
    living.hear(DESK, &answer(&desk, 180, DESK));
    hears(&living, ALICE, "180").await;
    let branch = sent.split("branch=z9hG4bK").nth(1).unwrap().lines().next().unwrap();
    let mut cancel = ask("CANCEL", "bob").line("Reason: SIP;cause=480");
    cancel.body = String::new();
    cancel.call_id = invite("bob").call_id;
    living.hear(ALICE, &cancel.text(branch));
    hears(&living, ALICE, "200").await;
    let heard = hears(&living, DESK, "CANCEL").await;
    assert!(heard.contains("Reason: SIP;cause=480"));
    // RFC 3261 §9.1: who has said nothing yet gets it with his first word.
    quiet(&living, MOBILE).await;
    living.hear(MOBILE, &answer(&mobile, 100, MOBILE));
    hears(&living, MOBILE, "CANCEL").await;
    for (text, device) in [(&desk, DESK), (&mobile, MOBILE)] {
        living.hear(device, &answer(text, 487, device));
        hears(&living, device, "ACK").await;
    }
    let refused = hears(&living, ALICE, "487").await;
    // Its ACK ends here.
    let ack = Ask { method: "ACK", to: header(&refused, Name::To).unwrap(), body: String::new(), ..invite("bob") };
    living.hear(ALICE, &ack.text(branch));
    quiet(&living, DESK).await;
}

#[actix::test]
async fn refusals_of_all_devices_become_one_with_all_their_challenges() {
    // RFC 3261 §16.7 steps 6 and 7.
    let living = with_two().await;
    living.send(ALICE, &invite("bob"), "alice").await;
    let (desk, mobile) = (hears(&living, DESK, "INVITE").await, hears(&living, MOBILE, "INVITE").await);
    let challenge = |text: &str, device: u16| {
        let line = format!("WWW-Authenticate: Digest realm=\"phone {device}\", nonce=\"n\"\r\nContent-Length");
        answer(text, 401, device).replacen("Content-Length", &line, 1)
    };
    living.hear(DESK, &challenge(&desk, DESK));
    living.hear(MOBILE, &challenge(&mobile, MOBILE));
    let refused = hears(&living, ALICE, "401").await;
    assert!(refused.contains("phone 5092") && refused.contains("phone 5093"), "{refused}");
    assert_eq!(refused.matches("Via: ").count(), 1);
}

#[actix::test]
async fn what_forks_and_is_no_invite_has_one_answer() {
    let living = with_two().await;
    living.send(ALICE, &ask("FROBNICATE", "bob"), "alice").await;
    let (desk, mobile) = (hears(&living, DESK, "FROBNICATE").await, hears(&living, MOBILE, "FROBNICATE").await);
    living.hear(DESK, &answer(&desk, 486, DESK));
    // RFC 4320 §4.1: who waits is told so when the time has come for that.
    let asked = std::time::Instant::now();
    let told = loop {
        if let Some(text) = living.wire.take(ALICE).pop() {
            break text;
        }
        assert!(asked.elapsed() < Duration::from_secs(6), "100 is due after 3.5 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status(&told) == 100 && asked.elapsed() > Duration::from_millis(3_300), "{told}");
    living.hear(MOBILE, &answer(&mobile, 202, MOBILE));
    hears(&living, ALICE, "202").await;
    living.send(ALICE, &ask("FROBNICATE", "bob").line("Max-Breadth: 0"), "alice").await;
    hears(&living, ALICE, "440").await;
    assert_eq!(living.house.metrics.get(Count::Passed), 2);
}

#[actix::test]
async fn who_is_away_is_480_and_whom_nobody_knows_404() {
    let living = house().await;
    for request in [invite("alice"), ask("SUBSCRIBE", "alice")] {
        assert_eq!(status(&living.ask(ALICE, &request, "bob").await), 403, "nobody speaks in her name");
        assert_eq!(status(&living.ask(ALICE, &request, "alice").await), 480);
    }
    for request in [invite("nobody"), ask("SUBSCRIBE", "nobody")] {
        assert_eq!(status(&living.ask(ALICE, &request, "alice").await), 404);
    }
    living.until("it is over", || living.house.sessions.invites() <= 2).await;
}

#[actix::test]
async fn one_device_needs_no_actor_and_its_silence_is_timed_out_for_an_invite() {
    let living = house().await;
    living.send(ALICE, &ask("SUBSCRIBE", "bob"), "alice").await;
    let text = hears(&living, DESK, "SUBSCRIBE").await;
    assert_eq!(passages(&living), 0);
    living.hear(DESK, &answer(&text, 200, DESK));
    hears(&living, ALICE, "200").await;
    living.send(ALICE, &invite("bob"), "alice").await;
    let text = hears(&living, DESK, "INVITE").await;
    assert_eq!(passages(&living), 1);
    // 100 leaves by itself when nobody has said anything for a while (RFC 3261 §16.2).
    assert_eq!(status(&living.wire.next(ALICE).await), 100);
    living.hear(DESK, &answer(&text, 603, DESK));
    hears(&living, DESK, "ACK").await;
    hears(&living, ALICE, "603").await;
}

#[actix::test]
async fn a_passage_that_falls_is_answered_for_and_takes_back_what_rings() {
    let living = with_two().await;
    living.send(ALICE, &invite("bob"), "alice").await;
    let (desk, mobile) = (hears(&living, DESK, "INVITE").await, hears(&living, MOBILE, "INVITE").await);
    let via = header(&desk, Name::Via).unwrap();
    let (key, _) = SessionKey::of_branch(via.split("branch=").nth(1).unwrap().as_bytes()).unwrap();
    for (text, device) in [(&desk, DESK), (&mobile, MOBILE)] {
        living.hear(device, &answer(text, 180, device));
        hears(&living, ALICE, "180").await;
    }
    living.house.registry.hand_over_sessions(vec![(key, SessionInput::Panic)]);
    hears(&living, ALICE, "500").await;
    for (text, device) in [(&desk, DESK), (&mobile, MOBILE)] {
        // It was sent once more, as a repeat, so that what comes of it is heard.
        hears(&living, device, "INVITE").await;
        living.hear(device, &answer(text, 180, device));
        hears(&living, device, "CANCEL").await;
    }
    // The next one is served as ever.
    living.send(ALICE, &Ask { call_id: "next".into(), ..invite("bob") }, "alice").await;
    hears(&living, DESK, "INVITE").await;
}

/// Where what we send to a port cannot get.
fn unreachable(living: &Living, request: &str) {
    let asker = crate::asker::Asker::of_request(request.as_bytes()).unwrap();
    crate::turn::fill(|turn| living.house.transactions.unreachable(turn, asker));
    crate::turn::flush();
}

#[actix::test]
async fn a_device_that_cannot_be_reached_is_passed_over_at_once() {
    // RFC 3261 §16.9, §18.4
    let living = with_two().await;
    let ask_low = Ask::register("bob", "<sip:bob@127.0.0.1:5094>;q=0.5");
    assert_eq!(status(&living.ask(5094, &Ask { call_id: "low".into(), ..ask_low }, "bob").await), 200);
    living.send(ALICE, &invite("bob"), "alice").await;
    for device in [DESK, MOBILE] {
        unreachable(&living, &hears(&living, device, "INVITE").await);
    }
    let low = hears(&living, 5094, "INVITE").await;
    // One that has rung may still answer by another way (§18.2.2).
    living.hear(5094, &answer(&low, 180, 5094));
    hears(&living, ALICE, "180").await;
    unreachable(&living, &low);
    living.hear(5094, &answer(&low, 486, 5094));
    hears(&living, ALICE, "486").await;
    assert_eq!(living.house.metrics.get(Count::Unreachable), 3);

    // Another method, by a record and by a passage: a device's failure is not the house's (§16.7 step 6).
    let living = house().await;
    living.send(ALICE, &ask("FROBNICATE", "bob"), "alice").await;
    unreachable(&living, &hears(&living, DESK, "FROBNICATE").await);
    hears(&living, ALICE, "500 Not Reached").await;
    // One that comes straight back to us went nowhere either.
    living.send(ALICE, &Ask { call_id: "back".into(), ..ask("FROBNICATE", "bob") }, "alice").await;
    let back = hears(&living, DESK, "FROBNICATE").await;
    living.hear(5060, &back);
    hears(&living, ALICE, "500 Not Reached").await;
    living.send(ALICE, &invite("bob"), "alice").await;
    let back = hears(&living, DESK, "INVITE").await;
    living.hear(5060, &back);
    hears(&living, ALICE, "500").await;
    assert_eq!(living.house.metrics.get(Count::Looped), 2);
    quiet(&living, 5060).await;
}

#[actix::test]
async fn what_asks_for_sips_is_passed_on_to_nobody_in_clear() {
    // RFC 5630 §5.3
    for forks in [false, true] {
        let living = if forks { with_two().await } else { house().await };
        for (n, asked) in [invite("bob"), ask("FROBNICATE", "bob")].into_iter().enumerate() {
            let asked = Ask { uri: "sips:bob@example.com".into(), call_id: format!("s{n}"), ..asked };
            living.send(ALICE, &asked, "alice").await;
            let told = hears(&living, ALICE, "480").await;
            assert_eq!(header(&told, Name::Warning).unwrap(), "380 example.com \"SIPS Not Allowed\"", "{told}");
        }
        quiet(&living, DESK).await;
    }
}
