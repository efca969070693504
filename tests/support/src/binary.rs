//! Where the binaries under test are.

use std::path::PathBuf;

/// The path of `parlour`, `parlour-client` or `parlour-load`.
///
/// `PARLOUR_BIN` names `parlour`, and the others stand beside it. Without it: the target directory of this test, which
/// stands in its `deps` folder. `cargo xtask test` builds the binaries before the tests.
///
/// # Panics
/// When it is not there.
pub fn binary(name: &str) -> PathBuf {
    let named = std::env::var_os("PARLOUR_BIN").map(PathBuf::from);
    let folder = named.as_deref().map_or_else(built, |parlour| parlour.parent().map(PathBuf::from).unwrap_or_default());
    let path = if name == "parlour" { named.unwrap_or_else(|| folder.join(name)) } else { folder.join(name) };
    assert!(path.is_file(), "{} is not built: cargo xtask build, or set PARLOUR_BIN", path.display());
    path
}

fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().expect("a file stands in a folder");
    if folder.ends_with("deps") { folder.parent().map(PathBuf::from).unwrap_or_default() } else { folder.to_owned() }
}
