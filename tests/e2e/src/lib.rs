//! The real binary over real sockets, one file a noun: what a person, a script or a peer meets from outside.
//!
//! Every test has a server of its own ([`support::Node`]) on free ports of 127.0.0.1 and waits for things, each with a
//! limit, never for time to pass. `peers_*` and `dissector` meet programs of others, which `cargo xtask test` installs;
//! without them those tests say loudly that they are skipped, and fail where `CI=true`.

#![cfg(test)]

mod house;
mod person;
mod talkers;

mod admin;
mod backup;
mod commands;
mod disk;
mod dissector;
mod dns;
mod documents;
mod garbage;
mod kill;
mod limits;
mod msrp;
mod notices;
mod nowhere;
mod pager;
mod pager_away;
mod passing;
mod peers_baresip;
mod peers_linphone;
mod peers_sipp;
mod register;
mod torture;
