//! STUN pings of clients behind a NAT, answered from the SIP socket that they came to (RFC 5626 §8).

use sip::stun::{self, Stun};

use crate::hop::Hop;
use crate::house::House;
use crate::metrics::Count;
use crate::turn::Turn;

/// One datagram that [`stun::is_stun`]: answered where an answer is owed, dropped and counted where it is malformed.
pub fn answer(house: &House, turn: &mut Turn, datagram: &[u8], from: Hop) {
    match stun::read(datagram) {
        Some(Stun::Request(request)) => {
            turn.counts.add(Count::Pings);
            let start = turn.arena.len();
            stun::answer(&mut turn.arena, &request, from.peer());
            turn.send(&house.flows, from, start);
        }
        Some(Stun::Other) => {}
        None => turn.counts.add(Count::Garbage),
    }
}
