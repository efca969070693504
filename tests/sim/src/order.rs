//! Promise (decisions D1): while letters wait for somebody, what comes later queues behind them; letters are handed out one
//! at a time, in the order in which they were kept.

use crate::disk::Temper;
use crate::net::Weather;
use crate::phone::Manner;
use crate::reference::Kind;
use crate::script::seeds;
use crate::world::World;

/// Numbers of what a phone has got, in the order in which it first got each.
pub(crate) fn screen(world: &World, to: usize) -> Vec<usize> {
    let said = world.reference.said.iter().filter(|said| said.to == to);
    let mut shown: Vec<(u64, usize)> = said
        .filter_map(|said| Some((said.offers.iter().filter_map(|offer| offer.arrived_ms).min()?, said.number)))
        .collect();
    shown.sort_unstable();
    shown.into_iter().map(|(_, number)| number).collect()
}

/// One who writes, one who is away; the writer has shown his password.
fn two(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed, 2);
    let (writer, reader) = (world.phone(0, false), world.phone(1, false));
    world.start();
    world.register(writer, 3_600);
    world.run(1_000);
    (world, writer, reader)
}

#[test]
fn forty_letters_and_what_is_written_meanwhile_come_in_order() {
    for seed in seeds(20) {
        let (mut world, writer, reader) = two(seed);
        world.set_disk(Temper { write_ms: 1..30, read_ms: 0..60, ..Temper::calm() });
        for _ in 0..40 {
            world.say(writer, 1, Kind::Page, None);
            world.run(60);
        }
        assert_eq!(world.waiting(1).len(), 40, "seed {seed}");
        world.phones[reader].manner = Manner { busy: 150, trying: 200, ..Manner::default() };
        world.register(reader, 3_600);
        for _ in 0..30 {
            world.run(75);
            world.say(writer, 1, Kind::Page, None);
        }
        world.come_to_rest();
        world.judge();
        let taken: Vec<usize> = screen(&world, 1);
        assert_eq!(taken, (0..70).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_new_message_waits_until_the_last_letter_is_answered() {
    let (mut world, writer, reader) = two(1);
    let letter = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    assert_eq!(world.heard(letter), Some(202));
    // The reader is there but will not answer for a while: the letter stays under way.
    world.phones[reader].manner = Manner { silent: 1_000, ..Manner::default() };
    world.register(reader, 3_600);
    world.run(2_000);
    let new = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    assert_eq!(world.heard(new), Some(202), "it is kept at once, behind the letter");
    assert!(world.reference.said(new).offers.is_empty(), "it has not left");
    world.phones[reader].manner = Manner::default();
    world.run(60_000);
    assert_eq!((world.taken_by(letter), world.taken_by(new)), (vec![reader], vec![reader]));
    let third = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    assert_eq!(world.heard(third), Some(200), "nothing waits any more: it is relayed");
    world.judge();
}

#[test]
fn what_is_said_in_one_breath_to_a_silent_user_with_two_phones_is_kept_as_it_was_said() {
    for seed in seeds(10) {
        let (mut world, writer, reader) = two(seed);
        let other = world.phone(1, false);
        for phone in [reader, other] {
            world.phones[phone].manner = Manner { silent: 1_000, ..Manner::default() };
            world.register(phone, 3_600);
        }
        world.run(1_000);
        for _ in 0..12 {
            world.say(writer, 1, Kind::Page, None);
        }
        world.run(13_000);
        assert_eq!(world.waiting(1), (0..12).collect::<Vec<_>>(), "seed {seed}");
        world.come_to_rest();
        world.judge();
    }
}

#[test]
fn order_holds_whatever_the_network_does_to_letters_and_answers() {
    for seed in seeds(40) {
        let (mut world, writer, reader) = two(seed);
        world.weather = if seed % 2 == 0 { Weather::rough() } else { Weather::foul() };
        world.phones[reader].manner = Manner { silent: 200, late: 150, away: 200, busy: 100, ..Manner::default() };
        let mut dice = world.dice.fork();
        for _ in 0..25 {
            world.say(writer, 1, Kind::Page, None);
            world.run(dice.within(100..4_000));
            if dice.chance(200) {
                world.register(reader, dice.pick(&[0, 20, 3_600]));
            }
        }
        world.come_to_rest();
        world.judge();
    }
}
