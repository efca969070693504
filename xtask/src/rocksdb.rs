//! RocksDB, compiled once: ten minutes of C++ that no second clone and no second profile pays again.
//!
//! `librocksdb-sys` links a ready archive when `ROCKSDB_LIB_DIR` names its folder. So the crate is built once in
//! release, the archive is kept beside a stamp that says what it was made from, and every later cargo call gets the
//! variable. lz4 is a crate of its own and is linked from there.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cache::Cache;
use crate::shell::{self, Done, say};

const PACKAGE: &str = "librocksdb-sys";
const ARCHIVE: &str = "librocksdb.a";

/// Makes sure that the archive stands in the cache and fits `Cargo.lock`.
pub fn ready(cache: &Cache) -> Done {
    if let Some(foreign) = cache.foreign_rocksdb() {
        say(&format!("RocksDB: taken from ROCKSDB_LIB_DIR={}", foreign.display()));
        return Ok(());
    }
    let lock = cache.root.join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).map_err(|fault| format!("{}: {fault}", lock.display()))?;
    let version = locked_version(&lock, PACKAGE).ok_or_else(|| format!("Cargo.lock names no {PACKAGE}"))?;
    let stamp = format!("{PACKAGE} {version} lz4 {}\n", host(cache)?);
    let folder = cache.rocksdb();
    let kept = std::fs::read_to_string(folder.join("stamp")).unwrap_or_default();
    if kept == stamp && folder.join(ARCHIVE).is_file() {
        return Ok(());
    }
    compile(cache, &version)?;
    let build = cache.folder.join("rocksdb-build");
    let archive = find(&build.join("release/build"))?;
    put(&archive, &folder, &stamp).map_err(|fault| format!("{}: {fault}", folder.display()))?;
    let _ = std::fs::remove_dir_all(build); // 250 MB of objects that nobody needs any more
    Ok(())
}

fn compile(cache: &Cache, version: &str) -> Done {
    say(&format!("RocksDB: compiling {PACKAGE} {version} once, about 20 minutes of one core; later builds link it"));
    let started = Instant::now();
    let build = cache.folder.join("rocksdb-build");
    let build = build.to_str().ok_or("the cache's path is not UTF-8")?;
    let mut cargo = cache.bare_cargo("build --locked --release");
    cargo.args(["--package", PACKAGE, "--target-dir", build]);
    for hindrance in ["ROCKSDB_LIB_DIR", "ROCKSDB_STATIC", "CARGO_TARGET_DIR"] {
        cargo.env_remove(hindrance);
    }
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "false"); // with it the archive has 1 GB
    if shell::which("ccache").is_some() && shell::which("g++").is_some() {
        cargo.env("CC", "ccache gcc").env("CXX", "ccache g++");
    }
    shell::run(&mut cargo)?;
    say(&format!("RocksDB: compiled in {} s", started.elapsed().as_secs()));
    Ok(())
}

/// Archive first, stamp last: a stamp without its archive would be believed.
fn put(archive: &Path, folder: &Path, stamp: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let fresh = folder.join(format!("{ARCHIVE}.{}", std::process::id()));
    std::fs::copy(archive, &fresh)?;
    std::fs::rename(fresh, folder.join(ARCHIVE))?;
    std::fs::write(folder.join("stamp"), stamp)
}

/// The newest archive that a build script left: older ones are of other versions.
fn find(builds: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(builds).map_err(|fault| format!("{}: {fault}", builds.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path().join("out").join(ARCHIVE))
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)))
        .max()
        .map(|(_, file)| file)
        .ok_or_else(|| format!("no {ARCHIVE} under {}", builds.display()))
}

/// The machine that the archive is for, as rustc calls it.
fn host(cache: &Cache) -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let about = shell::output(std::process::Command::new(rustc).current_dir(&cache.root).arg("-vV"))?;
    about.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).ok_or("rustc names no host".into())
}

fn locked_version(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    Some(lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_lock_files() {
        let lock = "[[package]]\nname = \"libc\"\nversion = \"1\"\n\n[[package]]\nname = \"librocksdb-sys\"\nversion = \"0.19.0+11.8.1\"\n";
        assert_eq!(locked_version(lock, PACKAGE).as_deref(), Some("0.19.0+11.8.1"));
        assert_eq!(locked_version(lock, "rocksdb"), None);
    }
}
