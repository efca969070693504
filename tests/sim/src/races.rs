//! Promise: decisions D1 to D5, each where two things come close to each other in time.

use base::limits::{LETTER_RETRY_MIN, PAGE_BODY_BYTES_MAX, SILENCE};

use crate::clock;
use crate::disk::Temper;
use crate::net::Weather;
use crate::phone::Manner;
use crate::reference::Kind;
use crate::script::seeds;
use crate::world::World;

const SILENCE_MS: u64 = SILENCE.as_millis() as u64;
const RETRY_MS: u64 = LETTER_RETRY_MIN.as_millis() as u64;

/// A writer who has shown his password, and a reader who has not come yet.
fn two(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed, 2);
    let (writer, reader) = (world.phone(0, false), world.phone(1, false));
    world.start();
    world.register(writer, 3_600);
    world.run(1_000);
    (world, writer, reader)
}

/// The same, and both have come.
fn both(seed: u64) -> (World, usize, usize) {
    let (mut world, writer, reader) = two(seed);
    world.register(reader, 3_600);
    world.run(1_000);
    (world, writer, reader)
}

fn silent() -> Manner {
    Manner { silent: 1_000, ..Manner::default() }
}

/// When a message left for the reader, by each transaction, in milliseconds after it was said.
fn left(world: &World, said: usize) -> Vec<u64> {
    let said = world.reference.said(said);
    said.offers.iter().map(|offer| offer.first_ms - said.said_ms).collect()
}

// ---- D2: store against register

#[test]
fn a_message_that_is_kept_while_its_receiver_registers_is_delivered_at_once_in_either_order() {
    for seed in seeds(3) {
        for offset in -60i64..60 {
            let (mut world, writer, reader) = two(seed);
            world.set_disk(Temper { write_ms: 1..40, read_ms: 0..40, ..Temper::calm() });
            world.run(100);
            let at_ms = world.now() + 100;
            world.at_do(at_ms.saturating_add_signed(offset), move |world| world.register(reader, 3_600));
            world.at_do(at_ms, move |world| {
                world.say(writer, 1, Kind::Page, None);
            });
            world.run(1_500);
            let taken = world.taken_by(0);
            assert_eq!(taken, [reader], "seed {seed}, {offset} ms apart: {}", world.reference.story(0));
            assert!(matches!(world.heard(0), Some(200 | 202)));
            world.judge();
        }
    }
}

#[test]
fn a_clock_that_steps_back_changes_no_order_not_even_over_a_restart() {
    let (mut world, writer, reader) = two(2);
    for step in 0..8 {
        world.say(writer, 1, Kind::Page, None);
        world.run(500);
        clock::step(if step % 2 == 0 { -3_600_000 } else { 1_000 });
    }
    assert_eq!(world.waiting(1), (0..8).collect::<Vec<_>>());
    world.kill();
    clock::step(-7_200_000);
    world.start();
    world.register(writer, 3_600);
    world.run(2_000);
    world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    assert_eq!(world.waiting(1), (0..9).collect::<Vec<_>>());
    world.register(reader, 3_600);
    world.run(3_000);
    let mut taken: Vec<(u64, usize)> =
        world.reference.said.iter().map(|said| (said.offers[0].first_ms, said.number)).collect();
    taken.sort_unstable();
    assert_eq!(taken.into_iter().map(|(_, number)| number).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    world.judge();
}

#[test]
fn a_binding_that_was_over_stays_over_when_the_clock_steps_back() {
    let (mut world, writer, reader) = two(3);
    world.register(reader, 5);
    world.run(20_000);
    let first = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    clock::step(-600_000);
    let second = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    assert_eq!((world.heard(first), world.heard(second)), (Some(202), Some(202)));
    world.come_to_rest();
    world.judge();
}

#[test]
fn who_comes_back_after_his_binding_has_ended_is_let_in_and_gets_his_letters() {
    let (mut world, writer, reader) = two(4);
    world.phones[reader].manner = silent();
    world.register(reader, 15);
    world.run(1_000);
    let letter = world.say(writer, 1, Kind::Page, None);
    // Long enough for the row of who has no binding to be swept from the tables, while a letter keeps the actor busy.
    world.run(200_000);
    assert_eq!(world.heard(letter), Some(202));
    world.phones[reader].manner = Manner::default();
    world.register(reader, 3_600);
    world.run(2_000);
    assert_eq!(world.taken_by(letter), [reader]);
    world.judge();
}

// ---- D3: identity

#[test]
fn a_repeat_of_a_kept_message_is_answered_202_and_kept_once() {
    let (mut world, writer, reader) = two(5);
    // The 202 is lost, so its sender tries again, as the same message.
    let said = world.say(writer, 1, Kind::Page, None);
    world.at_do(world.now() + 6, |world| world.weather.lost = 1_000);
    world.run(33_000);
    world.weather = Weather::calm();
    world.run(10_000);
    assert_eq!(world.heard(said), Some(202));
    assert_eq!(world.waiting(1), [said]);
    assert!(world.reference.said(said).entered.len() > 1, "it came by two transactions");
    world.register(reader, 3_600);
    world.run(5_000);
    assert_eq!(world.reference.said(said).offers.len(), 1);
    world.judge();
}

#[test]
fn a_repeat_is_answered_202_though_the_mailbox_is_full_meanwhile() {
    let (mut world, writer, reader) = (World::new(6, 2), 0, 1);
    world.config.letters_per_user = 1;
    world.phone(0, false);
    world.phone(1, false);
    world.start();
    world.register(writer, 3_600);
    world.run(1_000);
    let said = world.say(writer, 1, Kind::Page, None);
    world.at_do(world.now() + 6, |world| world.weather.lost = 1_000);
    world.run(33_000);
    world.weather = Weather::calm();
    world.run(10_000);
    assert_eq!(world.heard(said), Some(202));
    let refused = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    assert_eq!(world.heard(refused), Some(480), "its place is taken");
    world.register(reader, 3_600);
    world.run(5_000);
    assert_eq!((world.taken_by(said), world.taken_by(refused)), (vec![reader], vec![]));
    world.judge();
}

#[test]
fn a_482_to_a_letter_that_comes_again_counts_as_delivered() {
    // RFC 3261 §8.2.2.2
    let (mut world, writer, reader) = two(7);
    let letter = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    world.phones[reader].manner = Manner { merges: 1_000, ..Manner::default() };
    world.register(reader, 3_600);
    // The letter arrives, its 200 does not, as long as its transaction lasts.
    world.run_until("the letter has left", 1_000, move |world| !world.reference.said(letter).offers.is_empty());
    world.weather.lost = 1_000;
    world.run(33_000);
    world.weather = Weather::calm();
    world.run(RETRY_MS + 5_000);
    let said = world.reference.said(letter);
    assert_eq!(said.offers.len(), 2, "{}", world.reference.story(letter));
    assert_eq!(said.offers[1].answered.map(|(_, _, status)| status), Some(482));
    assert!(world.waiting(1).is_empty());
    world.run(900_000);
    assert_eq!(world.reference.said(letter).offers.len(), 2, "it has left");
    world.judge();
}

// ---- D4: silence and late answers

#[test]
fn who_is_silent_for_ten_seconds_counts_as_away_and_the_sender_hears_it_before_his_timer_ends() {
    // RFC 4320 §2.2
    for seed in seeds(5) {
        let (mut world, writer, reader) = both(seed);
        world.phones[reader].manner = silent();
        let said = world.say(writer, 1, Kind::Page, None);
        world.run(SILENCE_MS + 1_000);
        let (at_ms, _, status) = world.reference.said(said).heard.last().cloned().expect("an answer");
        assert_eq!(status, Some(202));
        let after = at_ms - world.reference.said(said).said_ms;
        assert!((SILENCE_MS..SILENCE_MS + 300).contains(&after), "after {after} ms");
        world.judge();
    }
}

#[test]
fn a_late_2xx_takes_the_letter_back_whenever_it_comes() {
    // After the silence: before the letter is durable, when it is, and when it waits for its next try.
    for late_ms in [91, 95, 100, 110, 130, 150, 170, 200, 900, 5_000, 15_000] {
        let late_ms = SILENCE_MS + late_ms;
        for forked in [false, true] {
            let (mut world, writer, reader) = both(8);
            if forked {
                let other = world.phone(1, false);
                world.phones[other].manner = silent();
                world.register(other, 3_600);
                world.run(500);
            }
            world.set_disk(Temper { write_ms: 40..60, ..Temper::calm() });
            world.phones[reader].late_by = Some(late_ms);
            let said = world.say(writer, 1, Kind::Page, None);
            world.run(60_000);
            let story = world.reference.story(said);
            assert_eq!(world.heard(said), Some(202), "{late_ms} ms: {story}");
            assert_eq!(world.taken_by(said), [reader], "{late_ms} ms: {story}");
            assert!(world.waiting(1).is_empty(), "{late_ms} ms: {story}");
            assert_eq!(world.reference.said(said).offers.len(), 1 + usize::from(forked), "{late_ms} ms: {story}");
            world.judge();
        }
    }
}

#[test]
fn a_late_2xx_to_a_letter_takes_it_back_too() {
    let (mut world, writer, reader) = two(9);
    let letter = world.say(writer, 1, Kind::Page, None);
    world.run(1_000);
    world.phones[reader].late_by = Some(20_000);
    world.register(reader, 3_600);
    world.run(300_000);
    assert_eq!(world.reference.said(letter).offers.len(), 1, "{}", world.reference.story(letter));
    assert!(world.waiting(1).is_empty());
    world.judge();
}

#[test]
fn a_letter_is_tried_again_after_30_s_doubling_and_at_any_request_of_its_receivers() {
    let (mut world, writer, reader) = both(10);
    world.phones[reader].manner = Manner { away: 1_000, ..Manner::default() };
    let letter = world.say(writer, 1, Kind::Page, None);
    world.run(RETRY_MS * 16);
    let offers = left(&world, letter);
    let pauses: Vec<u64> = offers.windows(2).map(|two| (two[1] - two[0]) / 1_000).collect();
    assert_eq!(pauses, [30, 60, 120, 240], "{offers:?}");
    let before = offers.len();
    world.say(reader, 0, Kind::Page, None);
    world.run(500);
    assert_eq!(left(&world, letter).len(), before + 1, "he is there: it is tried at once");
    world.phones[reader].manner = Manner::default();
    world.say(reader, 0, Kind::Page, None);
    world.run(500);
    assert_eq!(world.taken_by(letter), [reader]);
    world.judge();
}

#[test]
fn times_are_reckoned_from_when_a_message_came_not_from_when_its_receiver_was_found_silent() {
    // RFC 3428 §7
    let (mut world, writer, reader) = both(11);
    world.phones[reader].manner = silent();
    let said = world.say(writer, 1, Kind::Page, Some(20));
    let came_s = clock::unix_ms().div_ceil(1_000);
    world.run(SILENCE_MS + 1_000);
    let letter = &world.store().letters(&crate::world::aor(1), 0, 9).wait().unwrap()[0];
    assert_eq!(letter.expires_unix_s, came_s + 20);
    assert_eq!(letter.date, im::entry::sip_date(came_s));
    world.run(30_000);
    world.phones[reader].manner = Manner::default();
    world.register(reader, 3_600);
    world.run(60_000);
    assert!(world.taken_by(said).is_empty() && world.waiting(1).is_empty());
    world.judge();
}

// ---- D5: size and transport

#[test]
fn a_large_message_goes_by_the_transport_that_its_contact_registered_by() {
    for is_tcp in [false, true] {
        let (mut world, writer, _) = two(12);
        let reader = world.phone(1, is_tcp);
        world.register(reader, 3_600);
        world.run(1_000);
        for padding in [0, 1_100, 1_300, 5_000, PAGE_BODY_BYTES_MAX - 100] {
            let said = world.say_more(writer, 1, Kind::Page, None, padding);
            world.run(1_000);
            assert_eq!(world.heard(said), Some(200), "{padding} octets, by TCP: {is_tcp}");
            let offers = &world.reference.said(said).offers;
            assert_eq!(offers.iter().map(|offer| offer.by_stream).collect::<Vec<_>>(), [is_tcp]);
        }
        let said = world.say_more(writer, 1, Kind::Page, None, PAGE_BODY_BYTES_MAX);
        world.run(1_000);
        assert_eq!(world.heard(said), Some(413));
        world.judge();
    }
}
