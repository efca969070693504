//! The data of a stopped server, or the way to the running one; backup and restore.

use std::path::{Path, PathBuf};

use storage::{Store, StoreError};

use super::failure::Failure;
use super::remote::Remote;
use crate::settings::Settings;

/// Where the data can be got at.
pub enum Access {
    /// Nobody holds it: the store itself.
    Here(Store),
    /// A server holds it: its admin port.
    There(Remote),
}

impl Access {
    /// Opens the store, or reaches the server that holds it.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        match Store::open(&settings.storage_config()) {
            Ok(store) => Ok(Self::Here(store)),
            Err(StoreError::Locked { .. }) => Remote::reach(settings).map(Self::There),
            Err(why) => Err(why.into()),
        }
    }
}

/// `parlour backup DIR`
pub fn backup(dir: &Path, settings: &Settings) -> Result<(), Failure> {
    let dir = absolute(dir)?;
    match Access::open(settings)? {
        Access::Here(store) => {
            store.backup(dir).wait()?;
            Ok(store.close().wait()?)
        }
        Access::There(remote) => remote.backup(&dir),
    }
}

/// `parlour restore DIR`
pub fn restore(dir: &Path, settings: &Settings) -> Result<(), Failure> {
    Ok(storage::restore(&absolute(dir)?, &settings.data_dir)?)
}

/// The server has another working directory than who calls it.
fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(dir).map_err(|why| Failure::new(format!("{}: {why}", dir.display())))
}
