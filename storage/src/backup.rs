//! Copies of a store: one taken while it runs, and a store made from such a copy.

use std::fs::File;
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, IteratorMode, Options, ReadOptions};

use crate::engine::rocks::{FOLDER, View, disk_fault, read_description};
use crate::error::StoreError;
use crate::families::Family;
use crate::keys;
use crate::lock::DirLock;
use crate::read::Table;

/// A consistent copy of a running database in `dir`, which must be absolute and absent or empty. Files that do not change
/// any more are linked where the directory is on the same file system.
pub(crate) fn take(db: &DB, dir: &Path) -> Result<(), StoreError> {
    if !dir.is_absolute() {
        return Err(unfit(dir, "is not an absolute path: a backup needs one"));
    }
    if dir.exists() {
        // RocksDB makes the directory itself; this fails where it is not empty, or no directory.
        std::fs::remove_dir(dir).map_err(|error| unfit(dir, format!("cannot take a backup: {error}")))?;
    } else if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(|error| unfit(parent, format!("cannot be made: {error}")))?;
    }
    Checkpoint::new(db).and_then(|checkpoint| checkpoint.create_checkpoint(dir)).map_err(disk_fault)?;
    keep_private(dir)?;
    // The copy may hold what was not synced yet (durability "os"): it is a backup only when it is on the disk.
    for entry in entries(dir)? {
        sync(&entry)?;
    }
    sync(dir)?;
    dir.parent().map_or(Ok(()), sync)
}

/// Makes a store in `data_dir` from the backup in `from`. The directory is made where there is none; one that has a store
/// is not touched. A copy that breaks off leaves no store behind.
pub fn restore(from: &Path, data_dir: &Path) -> Result<(), StoreError> {
    if !from.join("CURRENT").is_file() {
        return Err(unfit(from, "holds no backup of a store"));
    }
    let _lock = DirLock::take(data_dir)?;
    let (store, partial) = (data_dir.join(FOLDER), data_dir.join("store.partial"));
    if store.exists() {
        std::fs::remove_dir(&store)
            .map_err(|_| unfit(data_dir, "has a store already: restore into an empty directory"))?;
    }
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(|error| unfit(&partial, format!("cannot be removed: {error}")))?;
    }
    let copied = copy(from, &partial).and_then(|()| check(&partial));
    if copied.is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    copied?;
    std::fs::rename(&partial, &store).map_err(|error| unfit(&partial, format!("cannot be moved: {error}")))?;
    sync(data_dir)
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::create_dir(to).map_err(|error| unfit(to, format!("cannot be made: {error}")))?;
    keep_private(to)?;
    for entry in entries(from)? {
        let Some(name) = entry.file_name() else { continue };
        let target = to.join(name);
        std::fs::copy(&entry, &target).map_err(|error| unfit(&entry, format!("cannot be copied: {error}")))?;
        sync(&target)?;
    }
    sync(to)
}

/// Nobody but its owner reads a store: it holds what passwords can be guessed from, and letters.
pub(crate) fn keep_private(dir: &Path) -> Result<(), StoreError> {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(dir, private).map_err(|error| unfit(dir, format!("cannot be kept private: {error}")))
}

/// Whether this is a store that this program can read, every block of it.
fn check(store: &Path) -> Result<(), StoreError> {
    let families = Family::ALL.map(Family::name);
    let db = DB::open_cf_for_read_only(&Options::default(), store, families, false).map_err(disk_fault)?;
    for family in families {
        let Some(rows) = db.cf_handle(family) else { return Err(unfit(store, format!("has no {family}"))) };
        let mut reading = ReadOptions::default();
        reading.set_verify_checksums(true);
        reading.fill_cache(false);
        for row in db.iterator_cf_opt(rows, reading, IteratorMode::Start) {
            row.map_err(|error| unfit(store, format!("is damaged: {error}")))?;
        }
    }
    match View(&db).value(Family::Meta, &keys::meta_store())? {
        Some(description) => read_description(store, &description).map(drop),
        None => Err(unfit(store, "does not say what it is: no backup of a store")),
    }
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let entries = std::fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(|error: std::io::Error| unfit(dir, format!("cannot be read: {error}")))
}

fn sync(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| unfit(path, format!("cannot be synced: {error}")))
}

fn unfit(dir: &Path, what: impl Into<std::sync::Arc<str>>) -> StoreError {
    StoreError::Directory { dir: dir.to_owned(), what: what.into() }
}
