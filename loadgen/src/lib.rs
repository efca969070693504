//! The crowd outside: load scenarios, measurement, comparison.
//!
//! ```text
//! plan ──> scenario ──errands──> crowd ──texts──> wire ══ sockets ══> the server under test
//!              │ <────events──────┘ <──messages──┘
//!              ├──> talk     sessions: both ends of each, over MSRP
//!              ├──> ledger   who was promised what, and what came
//!              └──> watch    what it cost (/proc), how long it took ──> report
//!                    └──> gauges   what waited inside (/metrics), read by a thread of its own
//! ```
//!
//! One thread does all else, so that the driver costs no more than the blind [`relay`] that sets the limit. A
//! scenario knows no SIP, the wire knows no scenario.

pub mod call;
pub mod compare;
pub mod crowd;
pub mod datagrams;
pub mod flight;
pub mod gauges;
pub mod interrupt;
pub mod ledger;
pub mod measure;
pub mod mmsg;
pub mod pace;
pub mod plan;
pub mod ports;
pub mod relay;
pub mod report;
pub mod scenario;
pub mod sizes;
pub mod stream;
pub mod talk;
pub mod users;
pub mod watch;
pub mod wire;
pub mod wording;
