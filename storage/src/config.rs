//! What can be set about the store.

use std::path::PathBuf;

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It is on the disk (fsync before the answer).
    #[default]
    Fsync,
    /// It is with the kernel: it survives the death of the process, not of the machine.
    Os,
}

/// Which engine keeps the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// RocksDB in `data_dir`.
    #[default]
    Rocksdb,
    /// Nothing outlives the process: for tests.
    Memory,
}

/// Settings of the store, each with its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where everything lasting lies; made when absent. Default: `data`.
    pub data_dir: PathBuf,
    /// Which engine. Default: RocksDB.
    pub engine: EngineKind,
    /// When a commit is answered. Default: after the fsync.
    pub durability: Durability,
    /// Partitions that a store must have; `None` (default): what it was made with, a new one gets 64.
    pub partitions: Option<u16>,
    /// Threads that read. Default: 2.
    pub readers: usize,
    /// Cache of blocks read, octets. Default: 16 MiB.
    pub cache_bytes: usize,
    /// Records that wait in memory for being written in order (beside the log), all families together, octets.
    /// Default: 32 MiB.
    pub write_buffer_bytes: usize,
    /// Logs that are kept for reuse, so that an fsync writes no metadata. Default: 2; 0: every log is a new file.
    pub recycled_logs: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            engine: EngineKind::default(),
            durability: Durability::default(),
            partitions: None,
            readers: 2,
            cache_bytes: 16 << 20,
            write_buffer_bytes: 32 << 20,
            recycled_logs: 2,
        }
    }
}

impl Config {
    /// The defaults, with the data in `data_dir`.
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }
}
