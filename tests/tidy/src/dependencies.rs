//! The dependency rules of `deny.toml`, checked from what cargo already knows: licences, bans, two versions of one
//! crate, and sources. cargo-deny does the same where it is installed, and looks at advisories too.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value as Json;
use toml::{Table, Value};

use crate::tree;

/// One package of the lock file that is built on this machine.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its SPDX expression, or the older form with `/`.
    pub license: String,
    /// Where it comes from; empty for our own.
    pub source: String,
}

/// What is built here, by `cargo metadata`; nothing is fetched.
///
/// # Panics
/// When cargo cannot tell, for what it could not read cannot be checked.
pub fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(tree::root()).args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    let host = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
    let output = command.args(["--filter-platform", host]).output().unwrap_or_else(|fault| panic!("cargo: {fault}"));
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("cargo metadata: {fault}"));
    let text = |package: &Json, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let package = |one: &Json| Package {
        name: text(one, "name"),
        version: text(one, "version"),
        license: text(one, "license"),
        source: text(one, "source"),
    };
    metadata["packages"].as_array().into_iter().flatten().map(package).collect()
}

/// Packages that break a rule, and rules that no package needs any more.
pub fn faults(rules: &Table, packages: &[Package]) -> Vec<String> {
    [licences(rules, packages), bans(rules, packages), duplicates(rules, packages), sources(packages)].concat()
}

fn licences(rules: &Table, packages: &[Package]) -> Vec<String> {
    let allowed: Vec<&str> = list(rules, "licenses", "allow").iter().filter_map(Value::as_str).collect();
    let foreign = packages.iter().filter(|one| !one.source.is_empty() && !permits(&one.license, &allowed));
    foreign.map(|one| format!("{} {}: licence `{}` is not allowed", one.name, one.version, one.license)).collect()
}

fn bans(rules: &Table, packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, _, reason) in entries(rules, "deny") {
        let banned = packages.iter().filter(|one| one.name == name);
        faults.extend(banned.map(|one| format!("{} {} is banned: {reason}", one.name, one.version)));
    }
    faults
}

fn duplicates(rules: &Table, packages: &[Package]) -> Vec<String> {
    let skipped = entries(rules, "skip");
    let is_skipped =
        |one: &Package| skipped.iter().any(|(name, version, _)| *name == one.name && *version == one.version);
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in packages.iter().filter(|one| !is_skipped(one)) {
        versions.entry(&one.name).or_default().push(&one.version);
    }
    let twice = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    let mut faults: Vec<String> =
        twice.map(|(name, versions)| format!("{name} comes in versions {}", versions.join(" and "))).collect();
    let is_there = |name: &str, version: &str| packages.iter().any(|one| one.name == name && one.version == version);
    let gone = skipped.iter().filter(|(name, version, _)| !is_there(name, version));
    faults.extend(gone.map(|(name, version, _)| format!("deny.toml skips {name} {version}, which is gone")));
    faults
}

fn sources(packages: &[Package]) -> Vec<String> {
    let foreign = packages.iter().filter(|one| {
        !one.source.is_empty() && !one.source.contains("crates.io") // registry or sparse index
    });
    foreign.map(|one| format!("{} {} comes from {}", one.name, one.version, one.source)).collect()
}

/// Entries `{ crate = "name@version", reason = "…" }` of a list in `[bans]`.
fn entries<'a>(rules: &'a Table, key: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let text = |entry: &'a Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let entries = list(rules, "bans", key).iter();
    entries
        .map(|entry| {
            let (name, version) = text(entry, "crate").split_once('@').unwrap_or((text(entry, "crate"), ""));
            (name, version, text(entry, "reason"))
        })
        .collect()
}

fn list<'a>(rules: &'a Table, table: &str, key: &str) -> &'a [Value] {
    rules.get(table).and_then(|table| table.get(key)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the older spelling of `OR`.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let spaced =
        expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "\u{1}WITH\u{1}");
    let words: Vec<String> = spaced.split_whitespace().map(|word| word.replace('\u{1}', " ")).collect();
    let mut rest = words.as_slice();
    let permitted = any(&mut rest, allowed);
    permitted && rest.is_empty()
}

fn any(rest: &mut &[String], allowed: &[&str]) -> bool {
    let mut permitted = every(rest, allowed);
    while take(rest, "OR") {
        permitted |= every(rest, allowed);
    }
    permitted
}

fn every(rest: &mut &[String], allowed: &[&str]) -> bool {
    let mut permitted = one(rest, allowed);
    while take(rest, "AND") {
        permitted &= one(rest, allowed);
    }
    permitted
}

fn one(rest: &mut &[String], allowed: &[&str]) -> bool {
    if take(rest, "(") {
        let inner = any(rest, allowed);
        return take(rest, ")") && inner;
    }
    let Some((name, after)) = rest.split_first() else { return false };
    *rest = after;
    allowed.contains(&name.as_str())
}

fn take(rest: &mut &[String], word: &str) -> bool {
    let found = rest.first().is_some_and(|first| first == word);
    if found {
        *rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_depend_on_keeps_to_deny_toml() {
        let (rules, packages) = (tree::read("deny.toml").parse().unwrap(), packages());
        assert!(packages.len() > 50, "cargo named {} packages", packages.len());
        tree::none(&faults(&rules, &packages));
    }

    #[test]
    fn licences_are_read_as_expressions() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
        for good in
            ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-2.0", "(MIT OR Apache-2.0) AND MIT", "Apache-2.0 WITH LLVM-exception"]
        {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND Zlib", "MIT MIT", "(MIT"] {
            assert!(!permits(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn every_broken_rule_is_named() {
        let rules = "[licenses]\nallow = [\"MIT\"]\n[bans]\ndeny = [{ crate = \"evil\", reason = \"r\" }]\n\
            skip = [{ crate = \"gone@1.0.0\", reason = \"r\" }]";
        let one = |name: &str, version: &str, license: &str, source: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.to_owned(),
            source: source.to_owned(),
        };
        let index = "registry+https://github.com/rust-lang/crates.io-index";
        let packages = [
            one("ours", "0.1.0", "", ""),
            one("evil", "1.0.0", "MIT", index),
            one("strict", "1.0.0", "GPL-3.0", index),
            one("twin", "1.0.0", "MIT", index),
            one("twin", "2.0.0", "MIT", "git+https://example.com/twin"),
        ];
        let faults = faults(&rules.parse().unwrap(), &packages);
        for wanted in ["evil 1.0.0 is banned", "GPL-3.0", "twin comes in", "gone 1.0.0, which is gone", "git+https"] {
            assert!(faults.iter().any(|fault| fault.contains(wanted)), "{wanted}: {faults:?}");
        }
        assert_eq!(faults.len(), 5, "{faults:?}");
    }
}
