//! Promise (architecture §4): killed at any step and started again over what the disk has, nothing that was acknowledged is
//! missing, and nothing is delivered that was refused.

use crate::disk::Temper;
use crate::net::Weather;
use crate::phone::Manner;
use crate::reference::Kind;
use crate::script::{Trouble, plan, play, seeds};
use crate::world::World;

#[test]
fn the_same_world_is_killed_at_each_of_many_steps() {
    for seed in seeds(3) {
        let mut whole = plan(seed, Trouble::Network);
        whole.run(90_000);
        let steps = whole.life.as_ref().map_or(0, |life| life.bus.steps());
        drop(whole);
        assert!(steps > 100, "seed {seed}: {steps} steps");
        let stride = usize::try_from(steps / 60).unwrap_or(1).max(1);
        for step in (1..steps).step_by(stride) {
            let mut world = plan(seed, Trouble::Network);
            if let Some(life) = &world.life {
                life.bus.kill_at(step);
            }
            world.run(91_000);
            assert!(
                world.lives() > 1 || world.life.is_none(),
                "seed {seed}: it was not killed at step {step} of {steps}"
            );
            world.story = format!("killed at step {step}");
            play(world);
        }
    }
}

#[test]
fn worlds_are_killed_again_and_again() {
    for seed in seeds(60) {
        let trouble = if seed % 2 == 0 { Trouble::Network } else { Trouble::Everything };
        let mut world = plan(seed, trouble);
        let mut dice = world.dice.fork();
        for _ in 0..1 + dice.below(5) {
            let at_ms = dice.within(2_000..95_000);
            world.at_do(at_ms, move |world| {
                if let Some(life) = &world.life {
                    life.bus.kill();
                }
            });
        }
        play(world);
    }
}

#[test]
fn a_binding_that_was_answered_200_takes_messages_after_a_kill_without_another_register() {
    // decisions D8
    for seed in seeds(20) {
        let mut world = World::new(seed, 2);
        let (writer, reader) = (world.phone(0, false), world.phone(1, false));
        world.set_disk(Temper { write_ms: 1..200, ..Temper::calm() });
        world.start();
        world.register(writer, 3_600);
        world.register(reader, 3_600);
        let at_ms = 1 + seed * 37 % 700;
        world.at_do(at_ms, |world| {
            if let Some(life) = &world.life {
                life.bus.kill();
            }
        });
        world.run(20_000);
        assert_eq!(world.lives(), 2, "seed {seed}");
        let said = world.say(writer, 1, Kind::Page, None);
        world.run(5_000);
        assert_eq!((world.heard(said), world.taken_by(said)), (Some(200), vec![reader]), "seed {seed}");
        world.judge();
    }
}

#[test]
fn five_hundred_messages_are_kept_over_five_kills_and_each_is_delivered_once_in_order() {
    let mut world = World::new(77, 2);
    let (writer, reader) = (world.phone(0, false), world.phone(1, false));
    world.set_disk(Temper { write_ms: 1..15, ..Temper::calm() });
    world.start();
    world.register(writer, 3_600);
    world.run(1_000);
    let mut dice = world.dice.fork();
    for number in 0..500 {
        world.say(writer, 1, Kind::Page, None);
        world.run(dice.within(5..40));
        if number % 100 == 50 {
            world.run_until("it lives", 10_000, |world| world.life.is_some());
            if let Some(life) = &world.life {
                life.bus.kill();
            }
            world.run(1);
        }
    }
    // Long enough for what was not answered to be tried again.
    world.run(60_000);
    let kept = world.reference.said.iter().filter(|said| said.promised_ms(202).is_some()).count();
    assert_eq!(kept, 500);
    world.register(reader, 3_600);
    world.come_to_rest();
    world.judge();
    assert_eq!(world.lives(), 6);
    // Also where a life was killed between its commit and its 202, and the next one challenged the repeat anew.
    let twice: Vec<usize> = (0..500).filter(|number| world.reference.taken_as(*number) != 1).collect();
    assert!(twice.is_empty(), "taken as several messages, or as none: {twice:?}");
}

#[test]
fn a_phone_that_repeats_over_a_kill_what_was_not_answered_is_served_by_the_next_life() {
    for seed in seeds(20) {
        let mut world = World::new(seed, 2);
        let (writer, reader) = (world.phone(0, false), world.phone(1, false));
        world.weather = Weather { lost: 100, ..Weather::calm() };
        world.start();
        world.register(writer, 3_600);
        world.run(5_000);
        world.phones[reader].manner = Manner { merges: 500, ..Manner::default() };
        let said = world.say(writer, 1, Kind::Page, None);
        world.at_do(world.now() + 5 + seed % 6, |world| {
            if let Some(life) = &world.life {
                life.bus.kill();
            }
        });
        world.run(40_000);
        assert_eq!(world.heard(said), Some(202), "seed {seed}: {}", world.reference.story(said));
        world.come_to_rest();
        assert_eq!(world.taken_by(said).first(), Some(&reader), "seed {seed}");
        assert_eq!(world.reference.taken_as(said), 1, "seed {seed}: {}", world.reference.story(said));
        world.judge();
    }
}
