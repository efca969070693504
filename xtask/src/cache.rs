//! What outlives a clone: one folder with the target directory and with RocksDB, shared by all clones.
//!
//! Sharing a target directory has a trap. Cargo names what it built by the path inside the workspace, so the `sip` of
//! one clone is the `sip` of the next, and "fresh" if its files are older than the last build, whoever's that was.
//! So the directory remembers its last clone; when another one comes, what was built from our own crates is forgotten
//! ([`Cache::claim`]). Everything that comes from the registry stays.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::Done;

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

    /// Makes the target directory this clone's: see the head of this file.
    pub fn claim(&self) -> Done {
        let claim = || -> std::io::Result<()> {
            let mark = self.target.join("clone");
            let (owner, us) = (std::fs::read(&mark).unwrap_or_default(), self.root.as_os_str().as_encoded_bytes());
            if owner == us {
                return Ok(());
            }
            std::fs::create_dir_all(&self.target)?;
            let manifest = std::fs::read_to_string(self.root.join("Cargo.toml"))?;
            forget(&self.target, &members(&manifest))?;
            std::fs::write(mark, us)
        };
        claim().map_err(|fault| format!("{}: {fault}", self.target.display()))
    }

    /// A cargo call in the clone, with [`Cache::exports`]; `words` as in a shell, none of them with blanks.
    pub fn cargo(&self, words: &str) -> Command {
        let mut command = self.bare_cargo(words);
        command.envs(self.exports());
        command
    }

    /// A cargo call in the clone that builds nothing of ours.
    pub fn bare_cargo(&self, words: &str) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(words.split_whitespace());
        command
    }
}

/// The members of the workspace; a package is called as its folder is.
fn members(manifest: &str) -> Vec<String> {
    let list =
        manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    let paths = list.split('"').skip(1).step_by(2);
    paths.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect()
}

/// Without its fingerprint, cargo builds a package anew.
fn forget(target: &Path, packages: &[String]) -> std::io::Result<()> {
    for profile in std::fs::read_dir(target)?.flatten() {
        let prints = std::fs::read_dir(profile.path().join(".fingerprint")).into_iter().flatten().flatten();
        for print in prints {
            let name = print.file_name().to_string_lossy().into_owned();
            let is_ours = name.rsplit_once('-').is_some_and(|(package, _)| packages.iter().any(|ours| ours == package));
            if is_ours {
                std::fs::remove_dir_all(print.path())?;
            }
        }
    }
    Ok(())
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

    #[test]
    fn another_clone_s_crates_are_forgotten_and_the_registry_s_are_kept() {
        let target = std::env::temp_dir().join(format!("xtask-forget-{}", std::process::id()));
        let prints = target.join("debug/.fingerprint");
        for print in ["sip-0011223344556677", "sip-codec-0011223344556677", "libc-0011223344556677"] {
            std::fs::create_dir_all(prints.join(print)).unwrap();
        }
        forget(&target, &members("[workspace]\nmembers = [\n  \"core/proto/sip\",\n  \"net\",\n]\n")).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(&prints).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        std::fs::remove_dir_all(&target).unwrap();
        assert_eq!(left, ["libc-0011223344556677", "sip-codec-0011223344556677"]);
    }
}
