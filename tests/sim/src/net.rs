//! The network of the simulated world: what becomes of a datagram on its way, and of the octets of a connection.

use std::ops::Range;

use crate::dice::Dice;

/// How the network behaves.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How long a datagram takes, milliseconds.
    pub way_ms: Range<u64>,
    /// Lost, in a thousand.
    pub lost: u64,
    /// Doubled, in a thousand.
    pub doubled: u64,
    /// Late, in a thousand, by [`Weather::late_ms`].
    pub late: u64,
    /// How late, milliseconds.
    pub late_ms: Range<u64>,
    /// Writes to a connection that are cut somewhere, in a thousand.
    pub cut: u64,
    /// Writes that find a connection's socket full, in a thousand.
    pub slow: u64,
    /// Pieces of a stream whose connection breaks in its place, in a thousand.
    pub broken: u64,
}

impl Weather {
    /// Nothing goes wrong, and nothing overtakes.
    pub fn calm() -> Self {
        Self { way_ms: 5..6, lost: 0, doubled: 0, late: 0, late_ms: 0..1, cut: 0, slow: 0, broken: 0 }
    }

    /// As bad as a bad mobile network.
    pub fn rough() -> Self {
        Self { way_ms: 5..120, lost: 100, doubled: 60, late: 60, late_ms: 300..5_000, cut: 300, slow: 100, broken: 5 }
    }

    /// Worse: answers come when nobody waits for them any more.
    pub fn foul() -> Self {
        Self {
            way_ms: 5..800,
            lost: 300,
            doubled: 150,
            late: 150,
            late_ms: 2_000..30_000,
            cut: 700,
            slow: 400,
            broken: 20,
        }
    }

    /// When the copies of a datagram arrive that arrive, in milliseconds from now.
    pub fn arrivals(&self, dice: &mut Dice) -> Vec<u64> {
        let copies = 1 + usize::from(dice.chance(self.doubled));
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            if dice.chance(self.lost) {
                continue;
            }
            let late = if dice.chance(self.late) { dice.within(self.late_ms.clone()) } else { 0 };
            arrivals.push(dice.within(self.way_ms.clone()) + late);
        }
        arrivals
    }

    /// The pieces that some octets of a stream arrive in.
    pub fn pieces<'a>(&self, dice: &mut Dice, mut octets: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while octets.len() > 1 && dice.chance(self.cut) {
            let (piece, rest) = octets.split_at(1 + dice.below(octets.len() - 1));
            pieces.push(piece);
            octets = rest;
        }
        pieces.push(octets);
        pieces
    }
}
