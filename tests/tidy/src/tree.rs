//! The files of the clone, as the rules see them: path from the root, and text.

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug, Clone)]
pub struct File {
    /// From the root of the clone, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 5] = [".git", "target", "data", "artifacts", "corpus"];

/// The root of the clone.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file with this extension, by path.
pub fn files(extension: &str) -> Vec<File> {
    let mut found = Vec::new();
    walk(&root(), "", extension, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// One file of the root folder or below it; empty when it is not there.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Fails a test with one fault a line.
///
/// # Panics
/// When there are faults.
pub fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn walk(folder: &Path, prefix: &str, extension: &str, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (inner, path) = (entry.path(), if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") });
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !SKIPPED.contains(&name.as_str()) {
            walk(&inner, &path, extension, found);
        } else if !is_folder
            && inner.extension().is_some_and(|found| found == extension)
            && let Ok(text) = fs::read_to_string(&inner)
        {
            found.push(File { path, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_finds_this_file_and_nothing_that_was_built() {
        let files = files("rs");
        assert!(files.iter().any(|file| file.path == "tests/tidy/src/tree.rs"));
        assert!(files.iter().all(|file| !file.path.contains("target/")));
    }
}
