//! Which build this is.

/// Version of the programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of the source, or `unknown` where it was built outside of a repository.
pub const COMMIT: &str = env!("PARLOUR_COMMIT");

/// Version of RocksDB that the binding was made for, or `unknown`.
pub const ROCKSDB: &str = env!("PARLOUR_ROCKSDB");

/// What `parlour version` prints.
pub fn text() -> String {
    format!("parlour {VERSION}\ncommit {COMMIT}\nrocksdb {ROCKSDB}")
}
