//! The server, every role in one process: reads the configuration, plants the tree, opens the doors, and takes all down
//! again in reverse.
//!
//! ```text
//! commands ──> settings ──> serve ──> living: store, tree, doors
//!     │                       └─────> admin: health, metrics, tree, users
//!     └──> a stopped server's store, a running one's admin port, a trial of its own
//! ```

pub mod accounts;
pub mod admin;
pub mod commands;
pub mod files;
pub mod import;
pub mod living;
pub mod memory;
pub mod say;
pub mod serve;
pub mod services;
pub mod settings;
pub mod store_metrics;
pub mod telemetry;
pub mod trial;
pub mod version;
