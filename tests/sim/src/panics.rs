//! Promise (decisions D20, architecture §5): a panic ends one living thing and nothing else; who waited for it hears 503;
//! nothing acknowledged is lost; the tree shows the fall and the new start.

use actors::message::Offer;
use actors::node::State;

use crate::net::Weather;
use crate::phone::Manner;
use crate::reference::Kind;
use crate::script::{Trouble, plan, play, seeds};
use crate::world::World;

/// A house with two people who are there.
fn both(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed, 3);
    let (writer, reader) = (world.phone(0, false), world.phone(1, false));
    world.start();
    for phone in [writer, reader] {
        world.register(phone, 3_600);
    }
    world.run(1_000);
    (world, writer, reader)
}

fn restarts(world: &World, name: &str, kind: &str) -> u32 {
    world.life.as_ref().and_then(|life| life.node(name, kind)).map_or(0, |node| node.restarts())
}

#[test]
fn people_whose_actors_fall_now_and_then_lose_nothing() {
    for seed in seeds(60) {
        let trouble = if seed % 2 == 0 { Trouble::People } else { Trouble::Network };
        let mut world = plan(seed, trouble);
        // Who waited hears 503, and what he asked for may be done all the same.
        world.note_unsure();
        let mut dice = world.dice.fork();
        for _ in 0..1 + dice.below(8) {
            let (at_ms, user) = (dice.within(1_000..90_000), dice.below(world.users()));
            world.at_do(at_ms, move |world| world.offer(user, Offer::Panic));
        }
        play(world);
    }
}

#[test]
fn the_fall_of_one_users_actor_is_felt_by_nobody_else() {
    let (mut world, writer, reader) = both(1);
    let bystander = world.phone(2, false);
    world.register(bystander, 3_600);
    world.run(1_000);
    let other = world.life.as_ref().and_then(|life| life.node("sip:u2@example.com", "user")).expect("it is active");
    world.offer(1, Offer::Panic);
    world.run(50);
    assert_eq!(restarts(&world, "users", "nursery"), 1);
    assert!(
        world.life.as_ref().and_then(|life| life.node("sip:u1@example.com", "user")).is_none(),
        "it has left the tree"
    );
    let said = [world.say(writer, 1, Kind::Page, None), world.say(writer, 2, Kind::Page, None)];
    world.run(1_000);
    assert_eq!(said.map(|said| world.heard(said)), [Some(200), Some(200)], "his binding is there as before");
    assert_eq!(world.taken_by(said[0]), [reader]);
    let same = world.life.as_ref().and_then(|life| life.node("sip:u2@example.com", "user")).expect("it is active");
    assert!(std::sync::Arc::ptr_eq(&other, &same) && same.state() == State::Running);
    world.judge();
}

#[test]
fn who_waits_for_an_actor_that_falls_hears_503_and_what_is_kept_is_delivered() {
    let (mut world, writer, reader) = both(2);
    let other = world.phone(1, false);
    for phone in [reader, other] {
        world.phones[phone].manner = Manner { silent: 1_000, ..Manner::default() };
        world.register(phone, 3_600);
    }
    world.phones[writer].persists = false;
    world.run(1_000);
    let kept = world.say(writer, 1, Kind::Page, None);
    world.run(12_000);
    assert_eq!(world.heard(kept), Some(202));
    // This one queues behind it, that one waits for the phones: no, both queue; so the letter is under way when he falls.
    world.note_unsure();
    let waits = world.say(writer, 1, Kind::Typing, None);
    world.run(100);
    world.offer(1, Offer::Panic);
    world.run(200);
    assert_eq!(world.heard(waits), Some(503));
    let answer = String::from_utf8_lossy(&world.phones[writer].last_answer).into_owned();
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    assert_eq!(world.waiting(1), [kept]);
    world.come_to_rest();
    assert!(!world.taken_by(kept).is_empty());
    world.judge();
}

#[test]
fn a_user_whose_actor_falls_at_every_start_rests_and_others_are_served() {
    let (mut world, writer, _) = both(3);
    world.note_unsure();
    for _ in 0..12 {
        world.offer(1, Offer::Panic);
        world.run(100);
    }
    let node = world.life.as_ref().and_then(|life| life.node("users", "nursery")).expect("a nursery");
    assert!((6..=7).contains(&node.restarts()), "it was started anew {} times", node.restarts());
    world.phones[writer].persists = false;
    let said = world.say(writer, 2, Kind::Page, None);
    world.run(1_000);
    assert_eq!(world.heard(said), Some(202), "another user is served");
    world.run(20_000);
    let said = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    assert_eq!(world.heard(said), Some(200), "after its rest he is served too");
    world.judge();
}

#[test]
fn a_nursery_that_bears_no_more_deaths_falls_and_is_started_anew() {
    let mut world = World::new(4, 60);
    let phones: Vec<usize> = (0..60).map(|user| world.phone(user, false)).collect();
    world.start();
    for phone in &phones {
        world.register(*phone, 3_600);
    }
    world.run(5_000);
    world.note_unsure();
    for _ in 0..4 {
        for user in 1..60 {
            world.offer(user, Offer::Panic);
        }
        world.run(200);
    }
    assert_eq!(restarts(&world, "users", "nursery"), 201 + 1, "the last one is the nursery's own");
    assert!(!world.has_fallen());
    world.run(15_000);
    let said = world.say(phones[0], 1, Kind::Page, None);
    world.run(2_000);
    assert_eq!((world.heard(said), world.taken_by(said)), (Some(200), vec![phones[1]]));
    world.judge();
}

#[test]
fn the_keeper_of_timers_falls_and_what_it_kept_time_for_goes_on() {
    let (mut world, writer, reader) = both(5);
    world.phones[reader].manner = Manner { silent: 1_000, ..Manner::default() };
    let said = world.say(writer, 1, Kind::Page, None);
    world.run(100);
    // The next thing to leave is a repeat of timer E: the sweeper's own turn.
    world.panic_at_flush();
    world.run(600);
    assert_eq!(restarts(&world, "transactions", "sweeper"), 1);
    world.run(15_000);
    assert_eq!(world.heard(said), Some(202), "its silence was seen all the same");
    world.come_to_rest();
    assert_eq!(world.taken_by(said), [reader]);
    world.judge();
}

#[test]
fn each_kind_of_child_falls_in_the_middle_of_everything_and_nothing_acknowledged_is_lost() {
    let paths: [&[&str]; 7] = [
        &["store"],
        &["shard 0"],
        &["shard 0", "transactions"],
        &["shard 0", "users"],
        &["shard 0", "sessions"],
        &["shard 0", "users", "sip:u1@example.com"],
        &["doors"],
    ];
    for path in paths {
        for seed in seeds(6) {
            let mut world = plan(seed, if seed % 2 == 0 { Trouble::People } else { Trouble::Network });
            world.story = format!("{path:?} fell");
            world.note_unsure();
            for at_ms in [15_000, 40_000, 40_050, 70_000] {
                world.at_do(at_ms, move |world| world.fall(path));
            }
            world.run(75_000);
            if let [.., name] = path
                && path.len() < 3
            {
                let node = world.life.as_ref().and_then(|life| life.node_of(name)).expect("it is in the tree");
                assert_eq!(node.state(), State::Running, "{name} was started anew");
                assert!((3..=4).contains(&node.restarts()), "{name}: {} restarts are shown", node.restarts());
            }
            assert!(!world.has_fallen());
            play(world);
        }
    }
}

#[test]
fn without_its_store_the_whole_house_falls_and_says_so() {
    let (mut world, ..) = both(6);
    world.close_store();
    world.run(60_000);
    assert!(world.has_fallen(), "the root gives up after the last of its restarts");
}

#[test]
fn falls_and_a_foul_network_and_kills_together_lose_nothing() {
    for seed in seeds(30) {
        let mut world = plan(seed, Trouble::Everything);
        world.weather = Weather::foul();
        world.note_unsure();
        let mut dice = world.dice.fork();
        for _ in 0..6 {
            let (at_ms, user) = (dice.within(1_000..90_000), dice.below(world.users()));
            world.at_do(at_ms, move |world| world.offer(user, Offer::Panic));
        }
        let at_ms = dice.within(5_000..90_000);
        world.at_do(at_ms, |world| {
            if let Some(life) = &world.life {
                life.bus.kill();
            }
        });
        play(world);
    }
}
