//! Who may import whom: every `Cargo.toml` against the table of `ARCHITECTURE.md`.
//!
//! A row names a room (a folder) and the rooms that it may import. `core/proto/*` is every crate below that folder, and
//! `proto`, `rules` and `tests` in the right column mean those groups. What a crate's own tests import besides
//! (dev-dependencies) stands in the third column.

use crate::manifests::Crate;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The folder, or a group of folders with `*` at its end.
    pub room: String,
    /// What it may import.
    pub imports: Vec<String>,
    /// What its tests may import besides.
    pub test_imports: Vec<String>,
}

/// The table under the heading `## Arrows` of this text: rows of `| room | may import | its tests besides |`.
pub fn table(document: &str) -> Vec<Row> {
    let section = document.split_once("\n## Arrows").map_or("", |(_, rest)| rest);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(words);
        let room = cells.next().unwrap_or_default().concat();
        Row { room, imports: cells.next().unwrap_or_default(), test_imports: cells.next().unwrap_or_default() }
    })
    .collect()
}

/// Arrows that the table does not have, and rows that no crate stands in.
pub fn faults(crates: &[Crate], table: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    for one in crates {
        let Some(row) = table.iter().find(|row| covers(&row.room, &one.folder)) else {
            faults.push(format!("{}: ARCHITECTURE.md has no row for it", one.folder));
            continue;
        };
        let may = |allowed: &[String], other: &Crate| allowed.iter().any(|word| word == "all" || means(word, other));
        let ours = |name: &&String| crates.iter().find(|other| other.name == **name);
        for other in one.imports.iter().filter_map(|name| ours(&name)) {
            if !may(&row.imports, other) {
                faults.push(format!("{} -> {}: no such arrow in ARCHITECTURE.md", one.folder, other.folder));
            }
        }
        for other in one.test_imports.iter().filter_map(|name| ours(&name)) {
            if !may(&row.imports, other) && !may(&row.test_imports, other) {
                faults
                    .push(format!("{} -> {} (its tests): no such arrow in ARCHITECTURE.md", one.folder, other.folder));
            }
        }
    }
    let is_empty = |row: &&Row| !crates.iter().any(|one| covers(&row.room, &one.folder));
    faults.extend(table.iter().filter(is_empty).map(|row| format!("{}: a row without a crate", row.room)));
    faults
}

fn words(cell: &str) -> Vec<String> {
    let words = cell.split([',', ' ', '`']).filter(|word| !word.is_empty() && *word != "–" && *word != "nothing");
    words.map(str::to_owned).collect()
}

fn covers(room: &str, folder: &str) -> bool {
    room.strip_suffix('*').map_or(room == folder, |group| folder.starts_with(group))
}

fn means(word: &str, other: &Crate) -> bool {
    let group = match word {
        "proto" | "rules" => format!("core/{word}/"),
        _ => return other.name == word || other.folder == word || other.folder == format!("core/{word}"),
    };
    other.folder.starts_with(&group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests, tree};

    #[test]
    fn no_crate_imports_what_its_room_may_not() {
        let table = table(&tree::read("ARCHITECTURE.md"));
        assert!(table.len() > 5, "ARCHITECTURE.md lost its table: {table:?}");
        tree::none(&faults(&manifests::crates(), &table));
    }

    #[test]
    fn an_arrow_that_turns_back_is_seen() {
        let table = table(TABLE);
        let crates = [
            krate("core/base", &[], &[]),
            krate("core/proto/sip", &["base", "libc"], &[]),
            krate("net", &["sip"], &[]),
        ];
        assert_eq!(faults(&crates, &table), Vec::<String>::new());
        let back = [krate("core/base", &["sip"], &[]), crates[1].clone(), crates[2].clone()];
        assert_eq!(faults(&back, &table), ["core/base -> core/proto/sip: no such arrow in ARCHITECTURE.md"]);
        let by_test = [crates[0].clone(), krate("core/proto/sip", &[], &["net"]), krate("net", &[], &["sip"])];
        assert_eq!(faults(&by_test, &table), ["core/proto/sip -> net (its tests): no such arrow in ARCHITECTURE.md"]);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_seen() {
        let faults = faults(&[krate("core/base", &[], &[]), krate("cellar", &[], &[])], &table(TABLE));
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("cellar") && faults[1].contains("core/proto/*") && faults[2].contains("net"));
    }

    const TABLE: &str = "x\n## Arrows\n\n| room | may import | its tests besides |\n|---|---|---|\n\
        | `core/base` | nothing | – |\n| `core/proto/*` | base | base |\n| `net` | base, `proto` | – |\n\n## Next\n| a | b |\n";

    fn krate(folder: &str, imports: &[&str], test_imports: &[&str]) -> Crate {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let name = folder.rsplit('/').next().unwrap().to_owned();
        Crate { name, folder: folder.to_owned(), imports: owned(imports), test_imports: owned(test_imports) }
    }
}
