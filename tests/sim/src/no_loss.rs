//! Promise: what was acknowledged is not lost, what was refused is not delivered, and nothing is delivered twice in effect,
//! whatever people, the network and the disk do.

use crate::script::{Trouble, plan, play, seeds};

#[test]
fn nothing_acknowledged_is_lost_when_people_come_and_go() {
    for seed in seeds(80) {
        play(plan(seed, Trouble::People));
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_datagrams_are_late_lost_and_doubled() {
    for seed in seeds(80) {
        play(plan(seed, Trouble::Network));
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_network_and_disk_are_at_their_worst() {
    for seed in seeds(80) {
        play(plan(seed, Trouble::Everything));
    }
}
