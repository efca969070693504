//! What lasts: accounts, bindings, letters and the ids of messages that were taken.
//!
//! ```text
//! Store        what the house asks: accounts.rs bindings.rs spool.rs seen.rs, records in record.rs, keys in keys.rs
//!   │
//! Engine       get, scan, tally, due, commit, load: a partition each, an Ask back
//!   │
//! rocks ── writer.rs: one thread, many commits, one fsync      memory, faulty: for tests
//!       └─ readers.rs: threads that read
//! ```
//! Nobody waits on the disk inside an actor: each question is an [`Ask`], and its answer comes over the [`Desk`] of the
//! thread that asked. A commit is answered when it is durable, and never before.

pub mod accounts;
pub mod ask;
mod backup;
pub mod bindings;
pub mod clock;
pub mod config;
pub mod desk;
pub mod engine;
pub mod error;
pub mod families;
pub mod flow;
mod group;
pub mod keys;
mod lock;
pub mod metrics;
mod read;
mod readers;
mod record;
mod secrets;
mod seen;
pub mod spool;
mod store;
mod writer;

pub use accounts::Account;
pub use ask::Ask;
pub use backup::restore;
pub use bindings::StoredBinding;
pub use clock::{Clock, SetClock, WallClock};
pub use config::{Config, Durability, EngineKind};
pub use desk::Desk;
pub use engine::{Batch, Engine, Epoch, Expect, Health, Receipt, Rev, Row, Tally};
pub use error::StoreError;
pub use families::Family;
pub use flow::Flow;
pub use keys::Key;
pub use metrics::{Footprint, Metrics, Queues};
pub use spool::{Draft, Expired, Kept, Letter, Mailbox, MessageId};
pub use store::Store;
