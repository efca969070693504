//! Promise: a disk that is full or fails refuses new promises (503, Retry-After) and keeps the old ones; what needs no disk
//! goes on; when it can write again, so does the house.

use base::limits::COMMIT_TIME_MAX;

use crate::disk::Temper;
use crate::phone::Manner;
use crate::reference::Kind;
use crate::script::{Trouble, plan, play, seeds};
use crate::world::World;

const COMMIT_MS: u64 = COMMIT_TIME_MAX.as_millis() as u64;

/// A writer and a reader who are there, and a third who is not.
fn three(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed, 3);
    let (writer, reader) = (world.phone(0, false), world.phone(1, false));
    world.start();
    for phone in [writer, reader] {
        world.register(phone, 3_600);
    }
    world.run(1_000);
    (world, writer, reader)
}

fn refusal(world: &World, phone: usize) -> String {
    String::from_utf8_lossy(&world.phones[phone].last_answer).into_owned()
}

#[test]
fn a_full_disk_refuses_new_promises_keeps_old_ones_and_lets_pass_what_needs_none() {
    let (mut world, writer, reader) = three(1);
    let old = world.say(writer, 2, Kind::Page, None);
    world.run(500);
    assert_eq!(world.heard(old), Some(202));
    world.set_disk(Temper { full: true, ..Temper::calm() });
    for phone in [writer, reader] {
        world.phones[phone].persists = false;
    }
    let new = world.say(writer, 2, Kind::Page, None);
    world.run(500);
    assert_eq!(world.heard(new), Some(503));
    assert!(refusal(&world, writer).contains("\r\nRetry-After: "), "{}", refusal(&world, writer));
    let online = world.say(writer, 1, Kind::Page, None);
    world.run(500);
    assert_eq!((world.heard(online), world.taken_by(online)), (Some(200), vec![reader]), "it needs no disk");
    world.register(reader, 0);
    world.run(500);
    assert!(refusal(&world, reader).starts_with("SIP/2.0 503 "), "{}", refusal(&world, reader));
    let still = world.say(writer, 1, Kind::Page, None);
    world.run(500);
    assert_eq!(world.heard(still), Some(200), "what was refused has not happened: he is registered as before");

    world.set_disk(Temper::calm());
    let after = world.say(writer, 2, Kind::Page, None);
    world.run(500);
    assert_eq!(world.heard(after), Some(202));
    let third = world.phone(2, false);
    world.register(third, 3_600);
    world.run(2_000);
    assert_eq!((world.taken_by(old), world.taken_by(after)), (vec![third], vec![third]));
    assert!(world.taken_by(new).is_empty(), "what was refused is not delivered");
    world.judge();
}

#[test]
fn letters_that_cannot_be_taken_out_of_a_full_store_are_not_forgotten_and_not_told_twice() {
    let (mut world, writer, _) = three(2);
    let said: Vec<usize> = (0..5).map(|_| world.say(writer, 2, Kind::Page, None)).collect();
    world.run(1_000);
    let third = world.phone(2, false);
    world.phones[third].manner = Manner { merges: 1_000, ..Manner::default() };
    world.register(third, 3_600);
    world.run_until("the first letter has left", 1_000, |world| !world.reference.said(0).offers.is_empty());
    world.set_disk(Temper { full: true, ..Temper::calm() });
    world.run(40_000);
    world.set_disk(Temper::calm());
    world.come_to_rest();
    world.judge();
    for said in said {
        assert_eq!(world.reference.said(said).offers.len(), 1, "{}", world.reference.story(said));
    }
    assert!(world.waiting(2).is_empty());
}

#[test]
fn a_commit_that_takes_too_long_is_answered_503_and_its_outcome_is_what_the_disk_says() {
    // decisions D22
    let (mut world, writer, _) = three(3);
    let before = world.say(writer, 2, Kind::Page, None);
    world.run(500);
    assert_eq!(world.heard(before), Some(202));
    world.phones[writer].persists = false;
    let stalled_until_ms = world.now() + 25_000;
    world.set_disk(Temper { stalled_until_ms, ..Temper::calm() });
    let said = world.say(writer, 1, Kind::Page, None);
    let kept = world.say(writer, 2, Kind::Page, None);
    world.run(COMMIT_MS + 1_000);
    assert_eq!(world.heard(said), Some(200), "it needs no disk");
    assert_eq!(world.heard(kept), Some(503), "{}", world.reference.story(kept));
    assert!(refusal(&world, writer).contains("\r\nRetry-After: "));
    world.run(30_000);
    world.judge();
}

#[test]
fn who_waits_for_a_disk_that_does_not_answer_is_told_so_in_time() {
    // RFC 4320 §2.2
    let (mut world, writer, _) = three(4);
    let third = world.phone(2, false);
    for phone in [writer, third] {
        world.phones[phone].persists = false;
    }
    let stalled_until_ms = world.now() + 60_000;
    world.set_disk(Temper { stalled_until_ms, ..Temper::calm() });
    let said = world.say(writer, 2, Kind::Page, None);
    world.register(third, 3_600);
    world.run(2 * COMMIT_MS + 1_000);
    assert_eq!(world.heard(said), Some(503), "{}", world.reference.story(said));
    assert!(refusal(&world, third).starts_with("SIP/2.0 503 "), "{}", refusal(&world, third));
    world.run(60_000);
    let said = world.say(writer, 2, Kind::Page, None);
    world.run(500);
    assert_eq!(world.heard(said), Some(202), "it serves again");
    world.judge();
}

#[test]
fn worlds_whose_disk_fails_now_and_then_lose_nothing() {
    for seed in seeds(60) {
        let mut world = plan(seed, if seed % 2 == 0 { Trouble::People } else { Trouble::Network });
        let mut dice = world.dice.fork();
        let temper = Temper { failing: dice.pick(&[30, 100, 300]), blind: dice.pick(&[0, 20, 100]), ..Temper::slow() };
        world.set_disk(temper.clone());
        for _ in 0..3 {
            let (at_ms, for_ms) = (dice.within(2_000..85_000), dice.within(500..20_000));
            let full = Temper { full: true, ..temper.clone() };
            let bad =
                if dice.chance(500) { full } else { Temper { stalled_until_ms: at_ms + for_ms, ..temper.clone() } };
            world.at_do(at_ms, move |world| world.set_disk(bad));
            let temper = temper.clone();
            world.at_do(at_ms + for_ms, move |world| world.set_disk(temper));
        }
        play(world);
    }
}
