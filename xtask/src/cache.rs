//! What outlives a clone: one folder with the target directory and with RocksDB, shared by all clones.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders that every task works with.
pub struct Cache {
    /// The clone.
    pub root: PathBuf,
    /// `$PARLOUR_CACHE`, else `$XDG_CACHE_HOME/parlour`, else `~/.cache/parlour`.
    pub folder: PathBuf,
    /// `$CARGO_TARGET_DIR`, else `target` in the cache.
    pub target: PathBuf,
}

impl Cache {
    /// As the environment says.
    pub fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask stands in no clone")?.to_path_buf();
        let folder = folder(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
            .ok_or("neither PARLOUR_CACHE nor HOME is set: where should the build be kept?")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
        std::fs::create_dir_all(&folder).map_err(|fault| format!("{}: {fault}", folder.display()))?;
        Ok(Self { target: root.join(target), root, folder })
    }

    /// The archive of RocksDB and its stamp.
    pub fn rocksdb(&self) -> PathBuf {
        self.folder.join("rocksdb")
    }

    /// The folder of an archive that the user brought himself.
    pub fn foreign_rocksdb(&self) -> Option<PathBuf> {
        std::env::var_os("ROCKSDB_LIB_DIR").map(PathBuf::from).filter(|folder| *folder != self.rocksdb())
    }

    /// What a cargo call needs in its environment, as names and values.
    pub fn exports(&self) -> Vec<(&'static str, String)> {
        let mut exports = vec![("CARGO_TARGET_DIR", self.target.display().to_string())];
        if self.foreign_rocksdb().is_none() {
            exports.push(("ROCKSDB_LIB_DIR", self.rocksdb().display().to_string()));
            exports.push(("ROCKSDB_STATIC", "1".to_owned()));
        }
        exports
    }

    /// A cargo call in the clone, with [`Cache::exports`].
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_cargo(arguments);
        command.envs(self.exports());
        command
    }

    /// A cargo call in the clone that builds nothing of ours.
    pub fn bare_cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(arguments);
        command
    }
}

fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let own = variable("PARLOUR_CACHE");
    let shared = || variable("XDG_CACHE_HOME").map(|caches| caches.join("parlour"));
    let home = || variable("HOME").map(|home| home.join(".cache/parlour"));
    own.or_else(shared).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_nearest_variable_says() {
        let with = |set: &[(&str, &str)]| {
            folder(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        let (own, xdg, home) = (("PARLOUR_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c"));
        assert_eq!(with(&[own, xdg, home]), Some("/a".into()));
        assert_eq!(with(&[xdg, home]), Some("/b/parlour".into()));
        assert_eq!(with(&[home]), Some("/c/.cache/parlour".into()));
        assert_eq!(with(&[]), None);
    }
}
