//! Tells the program its commit and the version of its engine, without asking a git program.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let commit = commit(&root).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=PARLOUR_COMMIT={commit}");
    let rocksdb = rocksdb(&root.join("Cargo.lock")).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=PARLOUR_ROCKSDB={rocksdb}");
    println!("cargo::rerun-if-changed=build.rs");
}

/// The first twelve digits of the commit that is checked out.
fn commit(root: &Path) -> Option<String> {
    let git = git_dir(&root.join(".git"))?;
    let head = watched(&git.join("HEAD"))?;
    let whole = match head.trim().strip_prefix("ref: ") {
        None => head.trim().to_owned(),
        Some(name) => {
            // A work tree of its own keeps HEAD for itself and the branches elsewhere.
            let shared = fs::read_to_string(git.join("commondir")).map_or(git.clone(), |text| git.join(text.trim()));
            watched(&shared.join(name)).or_else(|| packed(&shared, name))?
        }
    };
    let digits = whole.trim().get(..12)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| digits.to_owned())
}

/// `.git` is a directory, or a file that names one.
fn git_dir(dot_git: &Path) -> Option<PathBuf> {
    if dot_git.is_dir() {
        return Some(dot_git.to_owned());
    }
    let text = fs::read_to_string(dot_git).ok()?;
    Some(dot_git.parent()?.join(text.trim().strip_prefix("gitdir: ")?))
}

fn packed(shared: &Path, name: &str) -> Option<String> {
    let text = watched(&shared.join("packed-refs"))?;
    text.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ').map(str::to_owned))
}

/// Reads a file, and has this program run again when it changes. Cargo takes a watched file that is missing for a
/// change at every build, so only what is there is watched.
fn watched(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    println!("cargo::rerun-if-changed={}", file.display());
    Some(text)
}

/// `librocksdb-sys` names the engine's version behind the plus of its own.
fn rocksdb(lock: &Path) -> Option<String> {
    let text = watched(lock)?;
    let behind = text.split_once("name = \"librocksdb-sys\"\nversion = \"")?.1;
    let version = behind.split_once('"')?.0;
    Some(version.split_once('+')?.1.to_owned())
}
