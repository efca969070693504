//! The ground: names, ids, limits, byte scanning, media types. It knows no protocol and nothing of ours.
//!
//! A noun comes down here only when two rooms above need it.

pub mod aor;
pub mod id;
pub mod limits;
pub mod mime;
pub mod partition;
pub mod scan;
pub mod time;

pub use aor::Aor;
pub use id::{IdMaker, KeyedHash};
pub use partition::{Partition, Partitions};
pub use time::Now;
