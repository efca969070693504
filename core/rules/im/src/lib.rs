//! What is to be done with an instant message: who it is for, who is where, whether it is passed on, kept or refused,
//! and what its sender is told. Decisions only, one machine a file: no IO, no clock, no dice.
//!
//! ```text
//! REGISTER ──> routing ──> registrar ─────────────────────────> who is where
//! MESSAGE ───> routing ──> pager (a Delivery) ──┬─ relayed ───> the receiver's answer goes to the sender
//!                              ▲                └─ stored ────> deferred (a Mailbox) ──> 202
//!                              └──── one letter at a time ──────────┘     └─ delivery: which notice is owed
//! INVITE ────> routing ──> session ───────────────────────────> two dialogs, from the first ring to the last BYE
//! all else ──> itinerary, routing ──> forking (a Forking) ────> the devices' best answer, or all of their 2xx
//! ```

pub mod deferred;
pub mod delivery;
pub mod entry;
pub mod forking;
pub mod gruu;
pub mod itinerary;
pub mod outbound;
pub mod pager;
pub mod preferences;
pub mod refusal;
pub mod registrar;
pub mod routing;
pub mod session;
pub mod session_timer;
pub mod watching;

pub use deferred::Mailbox;
pub use entry::{Entry, EntryId, Kind};
pub use forking::Forking;
pub use gruu::{Device, Gruus};
pub use pager::Delivery;
pub use preferences::Preferences;
pub use refusal::Refusal;
pub use session::Side;
