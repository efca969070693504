//! Every limit is named in one place, `core/base/src/limits.rs`, and every name there is used.

use crate::source;
use crate::tree::File;

/// Where limits stand.
const HOME: &str = "core/base/src/limits.rs";
/// Rooms that a peer can reach.
const ROOMS: [&str; 6] = ["core/", "storage/", "actors/", "net/", "server/", "client/"];
/// Parts of a name that make it a limit.
const MARKS: [&str; 4] = ["_MAX", "_LIMIT", "_BYTES", "_TIMEOUT"];

/// Numbers that look like limits and are none: file, name, reason.
const ALLOWED: [(&str, &str, &str); 2] = [
    ("core/proto/sip/src/check.rs", "CSEQ_MAX", "the grammar's, RFC 3261 §8.1.1.5"),
    ("net/src/doors.rs", "SOCKET_BUFFER_BYTES", "asked of the kernel, no ceiling"),
];

/// Limits with a number of their own outside of their home.
pub fn strangers(files: &[File]) -> Vec<String> {
    let elsewhere = files.iter().filter(|file| {
        file.path != HOME && !file.path.contains("/tests/") && ROOMS.iter().any(|room| file.path.starts_with(room))
    });
    let mut faults = Vec::new();
    for file in elsewhere {
        let code = source::code(&file.text);
        for (at, line) in source::shipped(&code).lines().enumerate() {
            let Some((name, value)) = constant(line) else { continue };
            let is_limit = MARKS.iter().any(|mark| name.contains(mark));
            let allowed = ALLOWED.iter().any(|(path, known, _)| *path == file.path && *known == name);
            if is_limit && has_number(value) && !is_derived(value) && !allowed {
                faults.push(format!("{}:{}: {name} is a limit; they stand in {HOME}", file.path, at + 1));
            }
        }
    }
    faults
}

/// Limits that nobody keeps.
pub fn unused(files: &[File]) -> Vec<String> {
    let home = files.iter().find(|file| file.path == HOME).map_or("", |file| &file.text);
    let code: Vec<(&str, String)> = files.iter().map(|file| (file.path.as_str(), source::code(&file.text))).collect();
    let names = home.lines().filter_map(constant).map(|(name, _)| name);
    let is_kept = |name: &str| {
        code.iter().any(|(path, code)| *path != HOME && !source::lines_with(source::shipped(code), name).is_empty())
    };
    names.filter(|name| !is_kept(name)).map(|name| format!("{HOME}: nobody keeps {name}")).collect()
}

/// Name and rest of a line that defines a constant.
fn constant(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub(super) ")).unwrap_or(line);
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let (name, rest) = line.strip_prefix("const ")?.split_once(':')?;
    Some((name, rest.split_once('=')?.1))
}

/// Whether the value follows from a limit that has its name: `OUTBOX_BYTES_MAX / 4`.
fn is_derived(value: &str) -> bool {
    let words = value.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| word.ends_with("_MAX") && word.len() > 4 && word.to_ascii_uppercase() == *word)
}

/// Whether a digit begins a number: `64 * KIB` does, `u64::MAX` and `Self::OF_2` do not.
fn has_number(value: &str) -> bool {
    let mut before = ' ';
    value.chars().any(|c| {
        let begins = c.is_ascii_digit() && !before.is_alphanumeric() && before != '_';
        before = c;
        begins
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn no_limit_is_named_outside_of_its_home() {
        tree::none(&strangers(&tree::files("rs")));
    }

    #[test]
    fn every_limit_is_kept_by_somebody() {
        tree::none(&unused(&tree::files("rs")));
    }

    #[test]
    fn what_is_allowed_still_exists() {
        let files = tree::files("rs");
        for (path, name, reason) in ALLOWED {
            let text = files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
            assert!(text.contains(name) && !reason.is_empty(), "{path}: {name} is gone: take it off the list");
        }
    }

    #[test]
    fn a_limit_elsewhere_and_a_limit_nobody_keeps_are_seen() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let home = file(HOME, "pub const ROOM_MAX: usize = 7;\npub const DOOR_MAX: usize = 2;\n");
        let net = file(
            "net/src/a.rs",
            "const A: usize = ROOM_MAX;\nconst HEAD_BYTES: usize = 4 << 10;\nconst B_MAX: u64 = u64::MAX;\nconst C_BYTES: usize = ROOM_MAX / 4;\n",
        );
        let files = [home, net];
        assert_eq!(strangers(&files), [format!("net/src/a.rs:2: HEAD_BYTES is a limit; they stand in {HOME}")]);
        assert_eq!(unused(&files), [format!("{HOME}: nobody keeps DOOR_MAX")]);
    }
}
