//! Session timers, UPDATE and reliable provisional responses in whole calls (RFC 4028, RFC 3311, RFC 3262). What only time
//! shows is proven by their machines.

use super::*;

/// The caller's INVITE with these lines besides.
fn invite(world: &mut World, lines: &str) -> String {
    world.serial += 1;
    let all = format!("Contact: <sip:alice@{ALICE}>\r\nContent-Type: application/sdp\r\n{lines}");
    let (to, call) = ("<sip:bob@example.com>", format!("c{}", world.serial));
    let who = ("<sip:alice@example.com>;tag=al", to, &*call, 1);
    let invite = request("INVITE", "sip:bob@example.com", who, &all, &offer("alice"));
    world.tell(ALICE, &invite);
    invite
}

/// Bob's response with these lines besides.
fn bobs(request: &Message, status: u16, lines: &str, body: &str) -> String {
    response(request, status, BOB, body).replacen("Content-Length", &format!("{lines}Content-Length"), 1)
}

/// Both talk; the caller's INVITE and the callee's 200 have these lines.
async fn talk(world: &mut World, callers: &str, callees: &str) -> (Message, Message) {
    invite(world, callers);
    let asked = world.hears(BOB, "INVITE").await;
    world.tell(BOB, &bobs(&asked, 200, callees, &offer("bob")));
    world.hears(BOB, "ACK").await;
    let answer = world.hears(ALICE, "200").await;
    world.tell(ALICE, &in_dialog("ACK", &answer, 1, "", ""));
    (answer, asked)
}

fn field(message: &Message, name: Name) -> String {
    message.view().values(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>().join(",")
}

const SDP: &str = "Content-Type: application/sdp\r\n";

#[actix::test]
async fn each_leg_has_a_session_timer_of_its_own() {
    // RFC 4028 §7.1, §9.
    let mut world = World::with_bob().await;
    let callees = "Require: timer\r\nSession-Expires: 300;refresher=uas\r\n";
    let (answer, asked) = talk(&mut world, "Supported: timer\r\nSession-Expires: 600\r\n", callees).await;
    assert_eq!(field(&asked, Name::SessionExpires), "1800");
    assert_eq!(field(&asked, Name::Supported), "timer");
    assert_eq!(field(&answer, Name::SessionExpires), "600;refresher=uac");
    assert_eq!((field(&answer, Name::Require), field(&answer, Name::Supported)), ("timer".into(), "timer".into()));
    // The callee refreshes its own.
    let again = "Supported: timer\r\nSession-Expires: 300;refresher=uac\r\n";
    world.tell(BOB, &from_bob("UPDATE", &asked, 1, again, ""));
    let refreshed = world.hears(BOB, "200").await;
    assert_eq!(field(&refreshed, Name::SessionExpires), "300;refresher=uac");
    assert!(refreshed.view().body().is_empty());
}

#[actix::test]
async fn who_knows_no_timers_is_given_none_and_for_whom_a_proxy_asks_we_refresh() {
    let mut world = World::with_bob().await;
    let (answer, _) = talk(&mut world, "", "").await;
    assert_eq!((field(&answer, Name::SessionExpires), field(&answer, Name::Require)), (String::new(), String::new()));
    // RFC 4028 §9, Table 2.
    let (answer, _) = talk(&mut world, "Session-Expires: 600\r\n", "").await;
    assert_eq!(field(&answer, Name::SessionExpires), "600;refresher=uas");
    assert_eq!(field(&answer, Name::Require), "");
}

#[actix::test]
async fn an_interval_below_the_shortest_is_refused_and_changes_nothing() {
    // RFC 4028 §9; RFC 6141 §3.1: a re-INVITE that fails leaves the session as it was.
    let mut world = World::with_bob().await;
    let short = "Supported: timer\r\nSession-Expires: 40\r\n";
    invite(&mut world, short);
    let refused = world.hears(ALICE, "422").await;
    assert_eq!(field(&refused, Name::MinSe), "90");
    world.quiet(BOB).await;
    let (answer, _) = talk(&mut world, "Supported: timer\r\nSession-Expires: 600\r\n", "").await;
    let lines = format!("Contact: <sip:alice@{ALICE}>\r\n{SDP}{short}");
    let moved = offer("elsewhere");
    for (number, method) in [(2, "INVITE"), (3, "UPDATE")] {
        world.tell(ALICE, &in_dialog(method, &answer, number, &lines, &moved));
        let refused = world.hears(ALICE, "422").await;
        assert_eq!(field(&refused, Name::MinSe), "90", "{method}");
        if method == "INVITE" {
            world.tell(ALICE, &in_dialog("ACK", &answer, number, "", "").replace("2ACK", "2INVITE"));
        }
    }
    let lines = format!("Contact: <sip:alice@{ALICE}>\r\n{SDP}");
    world.tell(ALICE, &in_dialog("INVITE", &answer, 4, &lines, "v=0\r\n"));
    world.hears(ALICE, "400").await;
    world.tell(ALICE, &in_dialog("INVITE", &answer, 5, &lines, &offer("alice")));
    let again = world.hears(ALICE, "200").await;
    assert_eq!(again.view().body(), answer.view().body(), "as it was");
    assert_eq!(world.house.switch.len(), 1);
}

#[actix::test]
async fn an_update_is_answered_as_a_new_offer_is_and_without_one_it_only_refreshes() {
    // RFC 3311 §5.2.
    let mut world = World::with_bob().await;
    let timer = "Supported: timer\r\nSession-Expires: 600;refresher=uas\r\n";
    let (answer, asked) = talk(&mut world, timer, "").await;
    assert!(field(&answer, Name::Allow).contains("UPDATE"));
    // The target moves with it.
    let lines = format!("Contact: <sip:alice@{BOBS_OTHER}>\r\n{SDP}{timer}");
    world.tell(ALICE, &in_dialog("UPDATE", &answer, 2, &lines, &offer("alice")));
    let agreed = world.hears(ALICE, "200").await;
    assert_eq!(agreed.view().body(), answer.view().body(), "nothing has changed");
    assert_eq!(field(&agreed, Name::SessionExpires), "600;refresher=uas");
    world.tell(ALICE, &in_dialog("UPDATE", &answer, 3, SDP, "v=0\r\n"));
    world.hears(ALICE, "400").await;
    world.tell(BOB, &from_bob("BYE", &asked, 1, "", ""));
    world.hears(BOB, "200").await;
    world.hears(BOBS_OTHER, "BYE").await;
    world.tell(ALICE, &in_dialog("UPDATE", &answer, 4, "", ""));
    world.hears(ALICE, "481").await;
}

#[actix::test]
async fn before_the_answer_an_offer_in_an_update_must_wait() {
    // RFC 3311 §5.2.
    let mut world = World::with_bob().await;
    invite(&mut world, "");
    let asked = world.hears(BOB, "INVITE").await;
    world.tell(BOB, &response(&asked, 180, BOB, ""));
    let ringing = world.hears(ALICE, "180").await;
    let lines = format!("Contact: <sip:alice@{BOBS_OTHER}>\r\n{SDP}");
    world.tell(ALICE, &in_dialog("UPDATE", &ringing, 2, &lines, &offer("alice")));
    let refused = world.hears(ALICE, "500").await;
    assert!(!field(&refused, Name::RetryAfter).is_empty());
    world.tell(BOB, &from_bob("UPDATE", &asked, 1, SDP, &offer("bob")));
    world.hears(BOB, "491").await;
    world.tell(BOB, &from_bob("UPDATE", &asked, 2, "", ""));
    world.hears(BOB, "200").await;
    // Without an offer it moves the target.
    let lines = format!("Contact: <sip:alice@{BOBS_OTHER}>\r\n");
    world.tell(ALICE, &in_dialog("UPDATE", &ringing, 3, &lines, ""));
    world.hears(ALICE, "200").await;
    world.tell(BOB, &response(&asked, 200, BOB, &offer("bob")));
    world.hears(BOB, "ACK").await;
    world.hears(ALICE, "200").await;
    world.tell(BOB, &from_bob("BYE", &asked, 3, "", ""));
    world.hears(BOB, "200").await;
    // RFC 3261 §15: its BYE waits for the ACK.
    world.tell(ALICE, &in_dialog("ACK", &ringing, 1, "", ""));
    world.hears(BOBS_OTHER, "BYE").await;
}

#[actix::test]
async fn a_caller_who_must_hear_that_it_rings_is_told_until_it_says_so() {
    // RFC 3262 §3.
    let mut world = World::with_bob().await;
    invite(&mut world, "Require: 100rel\r\n");
    let asked = world.hears(BOB, "INVITE").await;
    assert_eq!(field(&asked, Name::Require), "", "it is between the caller and us");
    world.tell(BOB, &response(&asked, 180, BOB, ""));
    let ringing = world.hears(ALICE, "180").await;
    assert_eq!(field(&ringing, Name::Require), "100rel");
    let again = world.hears(ALICE, "180").await;
    assert_eq!(again.bytes(), ringing.bytes());
    let rseq: u32 = field(&ringing, Name::RSeq).parse().unwrap();
    assert!(rseq > 0 && rseq < 1 << 31);
    world.tell(ALICE, &in_dialog("PRACK", &ringing, 2, &format!("RAck: {} 1 INVITE\r\n", rseq ^ 1), ""));
    world.hears(ALICE, "481").await;
    world.tell(ALICE, &in_dialog("PRACK", &ringing, 3, "", ""));
    world.hears(ALICE, "400").await;
    world.tell(ALICE, &in_dialog("PRACK", &ringing, 4, &format!("RAck: {rseq} 1 INVITE\r\n"), ""));
    world.hears(ALICE, "200").await;
    world.tell(BOB, &response(&asked, 200, BOB, &offer("bob")));
    let answer = world.hears(ALICE, "200").await;
    assert_eq!(answer.view().cseq().unwrap().method, Method::Invite);
    world.tell(ALICE, &in_dialog("PRACK", &ringing, 5, &format!("RAck: {rseq} 1 INVITE\r\n"), ""));
    world.hears(ALICE, "481").await;
    // What nobody here has is still refused.
    invite(&mut world, "Require: 100rel, replaces\r\n");
    let refused = world.hears(ALICE, "420").await;
    assert_eq!(field(&refused, Name::Unsupported), "replaces");
}

#[actix::test]
async fn a_callees_reliable_response_gets_its_prack_once_and_in_order() {
    // RFC 3262 §4.
    let mut world = World::with_bob().await;
    invite(&mut world, "");
    let asked = world.hears(BOB, "INVITE").await;
    let ring = |rseq: u32, body: &str| {
        bobs(&asked, 180, &format!("Require: 100rel\r\nRSeq: {rseq}\r\nContact: <sip:bob@{BOB}>\r\n"), body)
    };
    world.tell(BOB, &ring(7, ""));
    let prack = world.hears(BOB, "PRACK").await;
    assert_eq!(field(&prack, Name::RAck), "7 1 INVITE");
    world.tell(BOB, &response(&prack, 200, BOB, ""));
    world.hears(ALICE, "180").await;
    for skipped in [7, 9] {
        world.tell(BOB, &ring(skipped, ""));
    }
    world.quiet(BOB).await;
    let answering = format!("{SDP}Require: 100rel\r\nRSeq: 8\r\n");
    world.tell(
        BOB,
        &bobs(&asked, 183, &answering, "").replace("Content-Length: 0\r\n\r\n", &{
            let body = offer("bob");
            format!("Content-Length: {}\r\n\r\n{body}", body.len())
        }),
    );
    let prack = world.hears(BOB, "PRACK").await;
    assert_eq!((field(&prack, Name::RAck), prack.view().cseq().unwrap().number), ("8 1 INVITE".into(), 3));
    world.tell(BOB, &response(&prack, 200, BOB, ""));
    // RFC 3262 §5: the answer is there already.
    world.tell(BOB, &bobs(&asked, 200, &format!("Contact: <sip:bob@{BOB}>\r\n"), ""));
    world.hears(BOB, "ACK").await;
    let answer = world.hears(ALICE, "200").await;
    world.tell(ALICE, &in_dialog("ACK", &answer, 1, "", ""));
    world.tell(ALICE, &in_dialog("BYE", &answer, 2, "", ""));
    world.hears(ALICE, "200").await;
    let bye = world.hears(BOB, "BYE").await;
    assert_eq!(bye.view().cseq().unwrap().number, 4, "numbers rise (RFC 3261 §12.2.1.1)");
    world.tell(BOB, &response(&bye, 200, BOB, ""));
    world.is_empty().await;
}
