//! Every `Cargo.toml`: one dependency table, one lint table, and a package that is called as its folder is.

use toml::{Table, Value};

use crate::tree::{self, File};

/// One crate of the workspace, as its manifest tells it.
#[derive(Debug, Clone)]
pub struct Crate {
    /// The name of the package.
    pub name: String,
    /// Its folder from the root of the clone.
    pub folder: String,
    /// Names under `[dependencies]` and `[build-dependencies]`.
    pub imports: Vec<String>,
    /// Names under `[dev-dependencies]`.
    pub test_imports: Vec<String>,
}

/// All crates of the workspace; the fuzz targets have a workspace of their own and are left out.
pub fn crates() -> Vec<Crate> {
    members().into_iter().map(|(file, manifest)| read(&file, &manifest)).collect()
}

/// What is wrong with the manifests.
pub fn faults() -> Vec<String> {
    members().iter().flat_map(|(file, manifest)| faults_of(&file.path, manifest)).collect()
}

fn members() -> Vec<(File, Table)> {
    let manifests = tree::files("toml")
        .into_iter()
        .filter(|file| file.path.ends_with("/Cargo.toml") && !file.path.starts_with("fuzz/"));
    manifests
        .map(|file| {
            let manifest = file.text.parse().unwrap_or_else(|fault| panic!("{}: {fault}", file.path));
            (file, manifest)
        })
        .collect()
}

fn read(file: &File, manifest: &Table) -> Crate {
    let names = |table: &str| {
        let table = manifest.get(table).and_then(Value::as_table);
        table.into_iter().flat_map(|table| table.keys().cloned()).collect::<Vec<_>>()
    };
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    Crate {
        name: name.unwrap_or_default().to_owned(),
        folder: file.path.trim_end_matches("/Cargo.toml").to_owned(),
        imports: [names("dependencies"), names("build-dependencies")].concat(),
        test_imports: names("dev-dependencies"),
    }
}

fn faults_of(path: &str, manifest: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    let folder = path.trim_end_matches("/Cargo.toml").rsplit('/').next().unwrap_or_default();
    let package = manifest.get("package").and_then(Value::as_table).cloned().unwrap_or_default();
    if package.get("name").and_then(Value::as_str) != Some(folder) {
        faults.push(format!("{path}: the package is not called `{folder}` as its folder is"));
    }
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        if !is_workspace(package.get(key)) {
            faults.push(format!("{path}: `{key}` is not the workspace's"));
        }
    }
    if !is_workspace(manifest.get("lints")) {
        faults.push(format!("{path}: `[lints] workspace = true` is missing"));
    }
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let entries = manifest.get(table).and_then(Value::as_table).into_iter().flatten();
        for (name, _) in entries.filter(|(_, entry)| !is_workspace(Some(entry))) {
            faults.push(format!("{path}: `{name}` is not taken from the one dependency table"));
        }
    }
    faults
}

fn is_workspace(entry: Option<&Value>) -> bool {
    entry.and_then(|entry| entry.get("workspace")).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_takes_the_workspace_s_tables() {
        tree::none(&faults());
    }

    #[test]
    fn the_workspace_lists_every_crate_that_has_a_folder() {
        let manifest: Table = tree::read("Cargo.toml").parse().unwrap();
        let listed =
            manifest["workspace"]["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap().to_owned());
        let mut listed: Vec<_> = listed.collect();
        listed.sort();
        let mut found: Vec<_> = crates().into_iter().map(|one| one.folder).collect();
        found.sort();
        assert_eq!(listed, found);
    }

    #[test]
    fn a_manifest_of_its_own_mind_is_seen() {
        let manifest =
            "[package]\nname = \"b\"\nversion = \"1\"\n[dependencies]\nlibc = \"0.2\"\nbytes.workspace = true";
        let faults = faults_of("core/a/Cargo.toml", &manifest.parse().unwrap());
        for wanted in ["not called `a`", "`version`", "`[lints]", "`libc`"] {
            assert!(faults.iter().any(|fault| fault.contains(wanted)), "{wanted}: {faults:?}");
        }
        assert!(!faults.iter().any(|fault| fault.contains("bytes")));
    }
}
