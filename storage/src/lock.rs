//! One process a data directory: a lock file with the number of the process that holds it.
//!
//! The kernel drops the lock with the process, however it ends; the text in the file only tells a person who it was.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::error::StoreError;

const FILE: &str = "store.lock";

/// A data directory that nobody else may open. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks a directory; makes it, readable by its owner alone, where there is none.
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: std::io::Error| StoreError::Directory {
            dir: dir.to_owned(),
            what: format!("{what}: {error}").into(),
        };
        if !dir.exists() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| failed("cannot be made", error))?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(dir.join(FILE));
        let mut file = file.map_err(|error| failed("cannot be locked", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
                return Err(StoreError::Locked { dir: dir.to_owned(), holder: holder.into() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("cannot be locked", error)),
        }
        // The text is for people: a disk that takes it not (it may be full) does not keep a server from starting.
        let written = file.set_len(0).and_then(|()| file.rewind());
        if let Err(error) = written.and_then(|()| writeln!(file, "process {}", std::process::id())) {
            tracing::warn!(dir = %dir.display(), %error, "The lock file does not name its holder");
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_and_the_refusal_names_both() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let held = DirLock::take(&data).unwrap();
        let refused = DirLock::take(&data).unwrap_err();
        let expected = format!("data directory {} is in use by process {}", data.display(), std::process::id());
        assert_eq!(refused.to_string(), expected);
        drop(held);
        assert!(DirLock::take(&data).is_ok());
    }
}
