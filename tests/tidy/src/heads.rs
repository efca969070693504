//! Every file says at its head what it is for, and stays short enough to be read; `lib.rs` explains and declares.

use crate::source;
use crate::tree::File;

/// Lines of a file without a reason given in it.
const LINES: usize = 700;
/// How such a reason begins.
const REASON: &str = "//! Long because ";

/// Files without a head, too long, or a `lib.rs` that defines things.
pub fn faults(files: &[File]) -> Vec<String> {
    files.iter().flat_map(|file| [head(file), length(file), library(file)]).flatten().collect()
}

fn head(file: &File) -> Option<String> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//! ").is_some_and(|says| says.len() > 10);
    (!says).then(|| format!("{}: does not begin with `//!` and what it is for", file.path))
}

fn length(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    let excused = file.text.lines().any(|line| line.starts_with(REASON));
    (lines > LINES && !excused).then(|| format!("{}: {lines} lines, above {LINES} without `{REASON}…`", file.path))
}

/// Circles begin with a type kept in `lib.rs`, so it keeps none.
fn library(file: &File) -> Option<String> {
    if !file.path.ends_with("src/lib.rs") {
        return None;
    }
    let code = source::code(&file.text);
    let defines = ["struct", "enum", "trait", "fn", "impl", "static"];
    let word = defines.into_iter().find(|word| !source::lines_with(source::shipped(&code), word).is_empty())?;
    Some(format!("{}: has a `{word}`; lib.rs explains, declares and re-exports", file.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn every_file_has_a_head_and_an_end() {
        tree::none(&faults(&tree::files("rs")));
    }

    #[test]
    fn a_file_without_head_or_end_is_seen() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let long = format!("//! A long file of lines.\n{}", "\n".repeat(800));
        let bad =
            [file("a.rs", "use x;"), file("b.rs", &long), file("c/src/lib.rs", "//! Defines things.\npub fn f() {}")];
        assert_eq!(faults(&bad).len(), 3, "{:?}", faults(&bad));
        let reason = long.replacen('\n', "\n//! Long because it is a table.\n", 1);
        let good =
            [file("b.rs", &reason), file("c/src/lib.rs", "//! Declares only.\npub mod function;\npub use a::b;")];
        assert_eq!(faults(&good), Vec::<String>::new());
    }
}
