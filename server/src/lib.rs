//! The server, every role in one process: reads the configuration, plants the tree, opens the doors, and takes all down
//! again in reverse.

pub mod accounts;
pub mod import;
pub mod services;
pub mod settings;
pub mod telemetry;
pub mod version;
