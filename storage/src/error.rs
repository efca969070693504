//! Everything that can go wrong with the store, by cause. It is cheap to clone: one disk fault answers a whole group.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::Rev;

/// Why the store did not do what it was asked. What a peer hears of it is decided above (most of it is a 503).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An expectation of the batch did not hold; nothing of the batch was done. `found` is the revision that stands.
    #[error("another change came first (found {found:?})")]
    Conflict {
        /// The revision that stands there now; `None`: no record.
        found: Option<Rev>,
    },
    /// The queue to the writer or to the readers is full: try later.
    #[error("{queue} commits or reads wait for the disk already")]
    Busy {
        /// The bound that was met.
        queue: usize,
    },
    /// The disk has no space. New promises are refused until it has, old ones are kept.
    #[error("no space left on the disk of the store")]
    Full,
    /// The disk or the engine failed. Whether this commit lasts is unknown; no later one is taken until a test passes.
    #[error("the disk of the store failed: {cause}")]
    Disk {
        /// What the engine said.
        cause: Arc<str>,
    },
    /// The store was closed (or its writer ended) before the answer; whether a commit lasts is unknown.
    #[error("the store is closed")]
    Closed,
    /// Somebody else owns the partition by now.
    #[error("the partition is owned in epoch {held}, this commit was made in epoch {given}")]
    Fenced {
        /// The epoch that holds.
        held: u64,
        /// The epoch of the caller.
        given: u64,
    },
    /// A value above `RECORD_BYTES_MAX`, or a key above 64 KiB.
    #[error("a record of {bytes} bytes is above the limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There is such an account already.
    #[error("{aor} exists already")]
    Exists {
        /// The address of record.
        aor: Arc<str>,
    },
    /// An alias or login name belongs to another account.
    #[error("{name} belongs to {owner} already")]
    Taken {
        /// The alias or login name.
        name: Arc<str>,
        /// The address of record of its owner.
        owner: Arc<str>,
    },
    /// A record was written by a newer version of this program: it is not touched.
    #[error("a {kind} record has version {found}, this program reads up to {known}: use the newer program")]
    Newer {
        /// Which kind of record.
        kind: &'static str,
        /// Its version.
        found: u8,
        /// The newest version that is known here.
        known: u8,
    },
    /// A record cannot be read: it is cut short or says what it cannot.
    #[error("a {kind} record is damaged: {what}")]
    Damaged {
        /// Which kind of record.
        kind: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Another process holds the data directory.
    #[error("data directory {dir} is in use by {holder}", dir = dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who holds it: `process 4711`.
        holder: Arc<str>,
    },
    /// The store was made with another number of partitions.
    #[error("the store in {dir} has {found} partitions, {wanted} are asked for: their number is fixed when a store is made", dir = dir.display())]
    WrongPartitions {
        /// The directory.
        dir: PathBuf,
        /// What the store has.
        found: u16,
        /// What the configuration says.
        wanted: u16,
    },
    /// The store was made with another hash.
    #[error("the store in {dir} spreads its records by {found}, this program by {known}", dir = dir.display())]
    WrongHash {
        /// The directory.
        dir: PathBuf,
        /// The name that stands in the store.
        found: Arc<str>,
        /// The name of ours.
        known: &'static str,
    },
    /// A directory cannot serve as what it was named for.
    #[error("{dir} {what}", dir = dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        what: Arc<str>,
    },
    /// This engine cannot do that (the one in memory has no backup).
    #[error("the {engine} engine has no {what}")]
    Unsupported {
        /// Name of the engine.
        engine: &'static str,
        /// What it was asked for.
        what: &'static str,
    },
}

impl StoreError {
    /// A fault of the disk from a text.
    pub fn disk(cause: impl Into<Arc<str>>) -> Self {
        Self::Disk { cause: cause.into() }
    }

    /// Whether the same request may succeed later without anybody changing it (a peer gets 503 with Retry-After).
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Full | Self::Disk { .. } | Self::Closed | Self::Fenced { .. })
    }
}
