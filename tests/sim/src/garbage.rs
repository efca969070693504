//! Promise: whatever comes to its door, the house does not panic, does not grow, counts what it drops, and goes on serving.

use std::net::SocketAddr;

use actors::metrics::Count;

use crate::dice::Dice;
use crate::reference::Kind;
use crate::script::seeds;
use crate::world::World;

fn stranger(dice: &mut Dice) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, u8::try_from(dice.within(1..250)).unwrap_or(1)], 5060))
}

/// Two people who have talked, and what was on the wire meanwhile.
fn overheard(seed: u64) -> (World, usize, usize, Vec<Vec<u8>>) {
    let mut world = World::new(seed, 2);
    world.tap = Some(Vec::new());
    let (writer, reader) = (world.phone(0, false), world.phone(1, false));
    world.start();
    for phone in [writer, reader] {
        world.register(phone, 3_600);
    }
    world.run(1_000);
    for kind in [Kind::Page, Kind::Asking, Kind::Typing] {
        world.say(writer, 1, kind, Some(60));
        world.run(500);
    }
    let wire = world.tap.take().unwrap_or_default();
    (world, writer, reader, wire)
}

/// Bits flipped, pieces cut out, doubled or swapped, lines repeated.
fn spoilt(dice: &mut Dice, wire: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = wire[dice.below(wire.len())].clone();
    for _ in 0..1 + dice.below(6) {
        let length = bytes.len().max(1);
        let (at, other) = (dice.below(length), dice.below(length));
        let (from, to) = (at.min(other), at.max(other));
        match dice.below(7) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = u8::try_from(dice.below(256)).unwrap_or(0),
            2 => drop(bytes.drain(from..to)),
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let piece = wire[dice.below(wire.len())].clone();
                let start = dice.below(piece.len());
                bytes.splice(from..to, piece[start..].iter().copied());
            }
            _ => bytes
                .splice(at..at, dice.pick(&[&b"\r\n"[..], b",", b";", b"\"", b"<", b"\0", b"%", b": "]).to_vec())
                .for_each(drop),
        }
        bytes.truncate(20_000);
        if bytes.is_empty() {
            bytes.push(b'x');
        }
    }
    bytes
}

/// After the storm: it stands, and people can talk.
fn is_well(world: &mut World, writer: usize, reader: usize) {
    assert_eq!(world.count(Count::Panics), 0);
    assert!(!world.has_fallen());
    let said = world.say(writer, 1, Kind::Page, None);
    world.run(2_000);
    assert_eq!(world.heard(said), Some(200), "people can talk");
    assert_eq!(world.taken_by(said), [reader]);
    // 64·T1 and the idle time of actors later nothing is left of it all.
    world.run(120_000);
    let left = world.life.as_ref().map_or(0, |life| life.house.transactions.len());
    assert_eq!(left, 0, "transactions that nobody ends");
    assert_eq!(world.count(Count::Activated), world.count(Count::Passivated), "actors that never leave");
}

#[test]
fn random_octets_are_dropped_and_counted() {
    for seed in seeds(5) {
        let (mut world, writer, reader, _) = overheard(seed);
        let mut dice = world.dice.fork();
        for _ in 0..2_000 {
            let length = dice.below(300);
            let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
            world.at_do(world.now(), move |world| {
                let from = SocketAddr::from(([203, 0, 113, 7], 5060));
                world.throw(from, &bytes);
            });
            if dice.chance(50) {
                world.run(1);
            }
        }
        world.run(1_000);
        assert!(world.count(Count::Garbage) > 1_500, "{} counted", world.count(Count::Garbage));
        assert!(world.strangers.len() < 10, "who sends garbage is not answered");
        is_well(&mut world, writer, reader);
    }
}

#[test]
fn spoilt_messages_of_real_phones_break_nothing() {
    for seed in seeds(5) {
        let (mut world, writer, reader, wire) = overheard(seed);
        let mut dice = world.dice.fork();
        for _ in 0..3_000 {
            let (bytes, from) = (spoilt(&mut dice, &wire), stranger(&mut dice));
            world.at_do(world.now(), move |world| world.throw(from, &bytes));
            if dice.chance(50) {
                world.run(3);
            }
        }
        world.run(1_000);
        let refused = world.count(Count::Malformed) + world.count(Count::Garbage) + world.count(Count::Challenged);
        assert!(refused > 2_000, "{refused} were refused, dropped or challenged");
        // What a spoilt message was taken for, nobody can know; only that the house stands.
        is_well(&mut world, writer, reader);
    }
}

#[test]
fn the_messages_of_rfc_4475_break_nothing() {
    let (mut world, writer, reader, _) = overheard(1);
    for (name, bytes) in support::torture::all() {
        let from = SocketAddr::from(([203, 0, 113, 9], 5060));
        world.at_do(world.now(), move |world| world.throw(from, &bytes));
        world.run(5);
        assert_eq!(world.count(Count::Panics), 0, "{name}");
    }
    is_well(&mut world, writer, reader);
}

#[test]
fn what_was_overheard_and_is_sent_again_by_a_thief_is_never_accepted() {
    // RFC 7616 §3.4: a count is good once.
    for seed in seeds(20) {
        let (mut world, writer, reader, wire) = overheard(seed);
        let (relayed, registered) = (world.count(Count::Relayed), world.count(Count::Registered));
        let mut thefts = 0;
        for bytes in &wire {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if !text.contains("uthorization: Digest") {
                continue;
            }
            // A transaction of the thief's own, with words or a contact of his own.
            let stolen = text.replace("branch=z9hG4bK", "branch=z9hG4bKt").replace("Call-ID: ", "Call-ID: t");
            let from = SocketAddr::from(([203, 0, 113, 66], 5060));
            world.at_do(world.now(), move |world| world.throw(from, stolen.as_bytes()));
            world.run(20);
            thefts += 1;
        }
        world.run(2_000);
        assert!(thefts >= 5, "{thefts} requests with credentials were overheard");
        assert_eq!(world.strangers.len(), thefts, "each is answered");
        for answer in &world.strangers {
            let text = String::from_utf8_lossy(answer);
            assert!(text.starts_with("SIP/2.0 401 ") || text.starts_with("SIP/2.0 407 "), "{text}");
        }
        assert_eq!((world.count(Count::Relayed), world.count(Count::Registered)), (relayed, registered));
        is_well(&mut world, writer, reader);
        world.judge();
    }
}

#[test]
fn a_stream_is_read_the_same_wherever_it_is_cut() {
    for cut in (1..900).step_by(7) {
        let mut world = World::new(9, 2);
        let (writer, reader) = (world.phone(0, true), world.phone(1, true));
        world.start();
        for phone in [writer, reader] {
            world.cut_at(phone, cut);
            world.register(phone, 3_600);
        }
        world.run(500);
        let said = world.say(writer, 1, Kind::Page, None);
        world.run(500);
        assert_eq!((world.heard(said), world.taken_by(said)), (Some(200), vec![reader]), "cut after {cut} octets");
        world.judge();
    }
}
