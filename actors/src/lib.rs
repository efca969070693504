//! What lives: the supervision tree, one living thing a file, and the tables that actors write and every shard reads.
//!
//! The data plane ([`router`], [`transactions`], [`reach`], [`outbox`]) knows no socket; the control plane ([`user`],
//! [`nursery`], [`supervise`]) takes no message that the tables can decide alone. Both meet in [`message`] and [`turn`].

pub mod alarm;
pub mod asker;
pub mod brood;
pub mod config;
pub mod contact;
pub mod hop;
pub mod house;
pub mod keeper;
pub mod locator;
pub mod message;
pub mod metrics;
pub mod node;
pub mod nursery;
pub mod outbox;
pub mod pace;
mod passage;
pub mod ping;
pub mod reach;
pub mod reach_sweeper;
pub mod registry;
pub mod router;
pub mod session;
pub mod session_nursery;
pub mod sources;
pub mod supervise;
pub mod sweeper;
pub mod switch;
pub mod transactions;
pub mod tree;
pub mod turn;
pub mod user;
pub mod ways;

#[cfg(test)]
mod testing;

pub use config::Config;
pub use house::House;
