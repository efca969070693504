//! The simulated world: the whole IM service on one thread, with a network, a disk and a clock that a seed drives, phones
//! that act by a script, and a reference model beside them that knows what was promised.
//!
//! ```text
//!  phones ──> net (late, lost, doubled, cut) ──> house: router, transactions, tree of actors ──> disk (slow, full, dying)
//!    ▲                                             │ its outputs                                   │ what survives a kill
//!    └───────────── net <──────────────────────────┘                                               v
//!  reference: what was sent, what was answered, what arrived  ──────────────────────────────>  judged at the end
//! ```
//!
//! One file a promise: [`no_loss`], [`order`], [`races`], [`kills`], [`panics`], [`disk_full`], [`garbage`], [`forks`],
//! [`names`]. A failure prints the seed; `PARLOUR_SIM_SEED=N` (or `cargo xtask sim --seed N`) plays that world again,
//! `PARLOUR_SIM_WORLDS=N` plays more of them. No socket, no file and no real clock is touched.

#![cfg(test)]

mod bus;
mod clock;
mod conn;
mod dice;
mod disk;
mod house;
mod judge;
mod net;
mod phone;
mod phone_words;
mod reference;
mod script;
mod world;

mod disk_full;
mod forks;
mod garbage;
mod kills;
mod names;
mod no_loss;
mod order;
mod panics;
mod races;
mod replay;
