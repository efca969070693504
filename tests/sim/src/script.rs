//! Worlds by chance: a seed decides who is there, what they do and when, and what goes wrong meanwhile.

use crate::clock;
use crate::disk::Temper;
use crate::net::Weather;
use crate::phone::Manner;
use crate::reference::Kind;
use crate::world::World;

/// How long people act, milliseconds.
const ACTS_MS: u64 = 90_000;

/// How bad a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Only people are moody.
    People,
    /// The network is bad too.
    Network,
    /// The network is very bad, and the disk slow.
    Everything,
}

/// Seeds of worlds to be played: the one that the environment names, or so many.
pub fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match number("PARLOUR_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("PARLOUR_SIM_WORLDS").unwrap_or(count)).collect(),
    }
}

/// A world whose people are set up and whose acts are planned.
pub fn plan(seed: u64, trouble: Trouble) -> World {
    let mut dice = crate::dice::Dice::new(seed ^ 0xA5A5);
    let users = 2 + dice.below(3);
    let mut world = World::new(seed, users);
    world.config.shards = 1 + dice.below(2);
    if dice.chance(300) {
        world.config.letters_per_user = 6;
    }
    world.weather = match trouble {
        Trouble::People => Weather::calm(),
        Trouble::Network => Weather::rough(),
        Trouble::Everything => Weather::foul(),
    };
    if trouble == Trouble::Everything {
        world.set_disk(Temper::slow());
    }
    for user in 0..users {
        let many = if dice.chance(250) { 2 } else { 1 };
        for _ in 0..many {
            let is_tcp = dice.chance(300);
            let number = world.phone(user, is_tcp);
            let phone = &mut world.phones[number];
            phone.uses_alias = dice.chance(300);
            phone.q = dice.pick(&[1_000, 1_000, 500]);
            phone.manner = manner(&mut dice);
        }
    }
    world.start();
    let phones = world.phones.len();
    for number in 0..phones {
        if dice.chance(800) {
            let at_ms = dice.within(0..3_000);
            world.at_do(at_ms, move |world| world.register(number, 3_600));
        }
    }
    for _ in 0..20 + dice.below(40) {
        let (at_ms, number, to) = (dice.within(1_000..ACTS_MS), dice.below(phones), dice.below(users));
        let kind = dice.pick(&[Kind::Page, Kind::Page, Kind::Page, Kind::Asking, Kind::Asking, Kind::Typing]);
        let expires_s = if dice.chance(200) { Some(dice.pick(&[0, 3, 20, 60, 100_000])) } else { None };
        let burst = if dice.chance(150) { 1 + dice.below(8) } else { 1 };
        for turn in 0..burst {
            let at_ms = at_ms + turn as u64 * dice.pick(&[0, 1, 700]);
            world.at_do(at_ms, move |world| {
                world.say(number, to, kind, expires_s);
            });
        }
    }
    for _ in 0..dice.below(14) {
        let (at_ms, number) = (dice.within(1_000..ACTS_MS), dice.below(phones));
        let new_manner = manner(&mut dice);
        match dice.below(5) {
            0 => world.at_do(at_ms, move |world| world.register(number, 0)),
            1 => {
                let expires_s = dice.pick(&[5, 30, 3_600]);
                world.at_do(at_ms, move |world| world.register(number, expires_s));
            }
            2 => {
                let away_ms = dice.within(2_000..40_000);
                world.at_do(at_ms, move |world| world.phones[number].online = false);
                world.at_do(at_ms + away_ms, move |world| {
                    world.phones[number].online = true;
                    world.register(number, 3_600);
                });
            }
            3 => world.at_do(at_ms, move |world| world.phones[number].manner = new_manner),
            _ => {
                let step_ms = dice.pick(&[-600_000i64, -5_000, -1_000, 1_000, 3_000]);
                world.at_do(at_ms, move |_| clock::step(step_ms));
            }
        }
    }
    world
}

/// Plays it to its end, and judges.
pub fn play(mut world: World) -> World {
    world.run(ACTS_MS);
    world.come_to_rest();
    world.judge();
    world
}

fn manner(dice: &mut crate::dice::Dice) -> Manner {
    if dice.chance(400) {
        return Manner { merges: 500, ..Manner::default() };
    }
    let mut share = |most: u64| if dice.chance(400) { dice.within(0..most) } else { 0 };
    Manner {
        silent: share(300),
        late: share(300),
        away: share(300),
        busy: share(200),
        refuses: share(200),
        trying: share(400),
        merges: share(1_000),
    }
}
