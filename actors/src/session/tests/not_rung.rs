//! Phones that are not rung, or not for long: because they cannot be reached, because somebody has too many sessions or
//! phones, or because the way to them is not what the caller asks for.

use base::limits::SESSIONS_PER_USER_MAX;

use super::*;

/// Where what we send to a port cannot get.
fn unreachable(world: &World, request: &Message) {
    let asker = crate::asker::Asker::of_request(request.bytes()).unwrap();
    turn::fill(|turn| world.house.transactions.unreachable(turn, asker));
    turn::flush();
}

#[actix::test]
async fn a_phone_that_cannot_be_reached_is_passed_over_at_once() {
    // RFC 3261 §16.9, §18.4
    let mut world = World::with_bob().await;
    world.register("bob", BOBS_OTHER, ";q=0.5").await;
    world.call("bob", &offer("alice"));
    unreachable(&world, &world.hears(BOB, "INVITE").await);
    let other = world.hears(BOBS_OTHER, "INVITE").await;
    // One that has rung may still answer by another way (§18.2.2).
    world.tell(BOBS_OTHER, &response(&other, 180, BOBS_OTHER, ""));
    world.hears(ALICE, "180").await;
    unreachable(&world, &other);
    world.tell(BOBS_OTHER, &response(&other, 200, BOBS_OTHER, &offer("bob")));
    world.hears(BOBS_OTHER, "ACK").await;
    world.hears(ALICE, "200").await;

    // Nobody is left; and one that leads back to this server is nobody.
    let mut world = World::with_bob().await;
    world.call("bob", &offer("alice"));
    unreachable(&world, &world.hears(BOB, "INVITE").await);
    world.hears(ALICE, "480").await;
    world.call("bob", &offer("alice"));
    let invite = world.hears(BOB, "INVITE").await;
    world.tell("127.0.0.1:5060", &text(&invite));
    world.hears(ALICE, "480").await;
    world.quiet("127.0.0.1:5060").await;
    assert_eq!(world.house.metrics.get(Count::Looped), 1);
    world.is_empty().await;
}

#[actix::test]
async fn a_connection_that_cannot_be_opened_is_no_way_to_a_phone() {
    let mut world = World::new().await;
    world.house.flows.introduce(Box::new(|_, _| true));
    let (who, lines) = ("<sip:bob@example.com>", "Contact: <sip:bob@127.0.0.1:5074;transport=tcp>\r\n");
    world.tell(BOB, &request("REGISTER", "sip:example.com", (&format!("{who};tag=r"), who, "tcp", 1), lines, ""));
    world.hears(BOB, "200").await;
    world.register("bob", BOBS_OTHER, ";q=0.5").await;
    world.call("bob", &offer("alice"));
    let mut dialled = None;
    while dialled.is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
        dialled = (1..9).find_map(|id| world.house.flows.get(crate::hop::ConnId(id)).filter(|each| each.waiting() > 0));
    }
    // As `net` does it.
    let outbox = dialled.unwrap();
    world.house.flows.remove(outbox.id());
    let askers = outbox.abandon();
    turn::fill(|turn| askers.into_iter().for_each(|asker| world.house.transactions.unreachable(turn, asker)));
    turn::flush();
    world.hears(BOBS_OTHER, "INVITE").await;
}

#[actix::test]
async fn nobody_holds_more_sessions_than_a_user_may() {
    let mut world = World::with_bob().await;
    // Who only rings has them, whom he rings has none.
    (0..SESSIONS_PER_USER_MAX).for_each(|_| drop(world.call("bob", &offer("alice"))));
    let mut rung = Vec::new();
    for _ in 0..SESSIONS_PER_USER_MAX {
        rung.push(world.hears(BOB, "INVITE").await);
    }
    let refused = {
        world.call("bob", &offer("alice"));
        world.hears(ALICE, "503").await
    };
    assert!(refused.view().first(Name::RetryAfter).is_some());
    assert!(world.house.sessions.has_room(&aor("bob")));
    // As soon as one has ended there is room.
    world.tell(BOB, &response(&rung[0], 603, BOB, ""));
    world.hears(BOB, "ACK").await;
    world.hears(ALICE, "603").await;
    world.call("bob", &offer("alice"));
    world.hears(BOB, "INVITE").await;
    assert_eq!(world.house.metrics.get(Count::SessionsRefused), 1);
}

#[actix::test]
async fn a_callee_who_holds_so_many_is_busy_and_free_again_when_one_has_ended() {
    let mut world = World::with_bob().await;
    let (answer, _) = world.talk().await;
    let seats: Vec<_> = (1..SESSIONS_PER_USER_MAX).map(|_| world.house.sessions.seat(&aor("bob")).unwrap()).collect();
    world.call("bob", &offer("alice"));
    world.hears(ALICE, "486").await;
    world.tell(ALICE, &in_dialog("BYE", &answer, 2, "", ""));
    world.hears(ALICE, "200").await;
    let bye = world.hears(BOB, "BYE").await;
    world.tell(BOB, &response(&bye, 200, BOB, ""));
    world.talk().await;
    drop(seats);
    assert_eq!(world.house.metrics.get(Count::SessionsRefused), 1);
}

#[actix::test]
async fn an_invite_rings_so_many_phones_the_preferred_ones() {
    let mut world = World::with(|config| config.bindings_per_user = 2 * SESSION_FORKS_MAX).await;
    for n in 0..SESSION_FORKS_MAX + 2 {
        let q = if n < 2 { ";q=0.1" } else { "" };
        world.register("bob", &format!("127.0.0.1:{}", 5100 + n), q).await;
    }
    world.call("bob", &offer("alice"));
    for n in 2..SESSION_FORKS_MAX + 2 {
        let at = format!("127.0.0.1:{}", 5100 + n);
        let invite = world.hears(&at, "INVITE").await;
        world.tell(&at, &response(&invite, 486, &at, ""));
    }
    while world.house.metrics.get(Count::SessionsEnded) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(world.house.metrics.get(Count::ForksCut), 2);
    world.quiet("127.0.0.1:5100").await;
}

#[actix::test]
async fn a_call_that_asks_for_sips_rings_nobody_in_clear() {
    // RFC 5630 §5.3
    let mut world = World::with_bob().await;
    let call = |world: &mut World, uri: &str, contact: &str| {
        world.serial += 1;
        let lines = format!("Contact: <{contact}>\r\nContent-Type: application/sdp\r\n");
        let who = ("<sip:alice@example.com>;tag=al", "<sip:bob@example.com>", format!("s{}", world.serial));
        world.tell(ALICE, &request("INVITE", uri, (who.0, who.1, &who.2, 1), &lines, &offer("alice")));
    };
    call(&mut world, "sips:bob@example.com", &format!("sips:alice@{ALICE}"));
    let refused = world.hears(ALICE, "480").await;
    assert_eq!(refused.view().first(Name::Warning), Some(&b"380 example.com \"SIPS Not Allowed\""[..]));
    // What we would ask him in the dialog had to go there by TLS.
    call(&mut world, "sip:bob@example.com", &format!("sips:alice@{ALICE}"));
    world.hears(ALICE, "400").await;
    world.quiet(BOB).await;
    world.is_empty().await;
}
