//! `config/parlour.toml` and the environment become one [`Settings`], or a list of every fault at once.
//!
//! ```text
//! file ──┐
//!        ├─> source: sets, each with its place ──> read + kinds: values ──> checks: do they fit together? ──> Settings
//! env  ──┘         keys: names, defaults, docs ──┘
//! ```
//!
//! All keys are read and checked, those of doors that are not built yet too: a file that is good today is not found
//! faulty later for what stood in it all the time.

mod checks;
pub mod fault;
pub mod keys;
mod kinds;
pub mod network;
mod read;
pub mod render;
mod sections;
mod source;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use fault::{Fault, Faults};
pub use network::{Network, TrustedPeer};
pub use render::render_default_config;
pub use sections::*;

use read::Reader;
use source::Sets;

/// Where the configuration is looked for when nobody names a file.
pub const DEFAULT_FILE: &str = "config/parlour.toml";

/// A configuration without a fault.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What an operator should know about it: doors that stay closed, keys that nothing uses yet.
    pub notices: Vec<String>,
}

/// Reads the file and the environment of this process.
///
/// # Errors
/// Every fault there is, or that the file cannot be read.
pub fn load(file: &Path) -> Result<Loaded, Faults> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        let hint = "name another with --config FILE; every key has a default, so an empty file will do";
        Faults(vec![Fault {
            place: name.clone(),
            key: String::new(),
            reason: format!("cannot be read: {error} ({hint})"),
        }])
    })?;
    from_text(&name, &text, std::env::vars_os())
}

/// As [`load`], from a text that goes by this name, and such an environment.
///
/// # Errors
/// Every fault there is.
pub fn from_text(name: &str, text: &str, env: impl Iterator<Item = (OsString, OsString)>) -> Result<Loaded, Faults> {
    let (mut sets, mut faults) = (Sets::new(), Vec::new());
    source::read_file(name, text, &mut sets, &mut faults);
    source::read_env(env, &mut sets, &mut faults);
    let mut reader = Reader::new(name, sets, faults);
    let settings = Settings::read(&mut reader);
    let mut notices = checks::fit_together(&settings, &mut reader);
    notices.extend(reader.absent_things());
    let faults = reader.into_faults();
    if faults.is_empty() { Ok(Loaded { settings, notices }) } else { Err(Faults(faults)) }
}

impl Settings {
    /// Where the admin port's token lies.
    pub fn token_file(&self) -> PathBuf {
        self.admin.token_file.clone().unwrap_or_else(|| self.data_dir.join("admin.token"))
    }

    /// The realm in which a user of this domain has a password.
    pub fn realm_of<'a>(&'a self, domain: &'a str) -> &'a str {
        self.auth.realm.as_deref().unwrap_or(domain)
    }

    /// For the store.
    pub fn storage_config(&self) -> storage::Config {
        storage::Config {
            data_dir: self.data_dir.clone(),
            engine: storage::EngineKind::Rocksdb,
            durability: self.storage.durability,
            partitions: self.storage.partitions,
            cache_bytes: self.storage.cache_bytes,
            write_buffer_bytes: self.storage.write_buffer_bytes,
            ..storage::Config::default()
        }
    }

    /// Whether this domain is served here.
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|each| each == domain)
    }
}

#[cfg(test)]
mod tests;
