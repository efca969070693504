//! The documents: links lead somewhere, named files exist, the changelog is kept, the example configuration is the
//! documented one.

use std::path::Path;

use crate::tree::File;

/// Relative links of Markdown files that lead nowhere.
pub fn dead_links(files: &[File], exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (line, target) in links(&file.text) {
            let path = target.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !is_elsewhere && !exists(&folder.join(path)) {
                faults.push(format!("{}:{line}: the link to {target} leads nowhere", file.path));
            }
        }
    }
    faults
}

/// Paths of Rust files in backticks that do not exist: a code map is worse than none when it lies.
pub fn dead_paths(files: &[File], exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for (line, word) in quoted(&file.text) {
            let is_path = word.contains('/') && word.ends_with(".rs") && !word.contains(['*', '{', '<', ' ', '…']);
            if is_path && !exists(Path::new(word)) {
                faults.push(format!("{}:{line}: there is no {word}", file.path));
            }
        }
    }
    faults
}

/// What comments cite and nobody can look up: decisions without a line in `docs/decisions`, documents and notes that
/// are not here.
pub fn dead_citations(files: &[File], decisions: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            let is_word = |c: char| c.is_alphanumeric() || "._/-".contains(c);
            for word in comment.split(|c: char| !is_word(c)).map(|word| word.trim_end_matches('.')) {
                let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let is_decision = word.strip_prefix('D').is_some_and(is_number);
                let is_note = word
                    .strip_prefix('P')
                    .and_then(|rest| rest.split_once('.'))
                    .is_some_and(|(chapter, rest)| is_number(chapter) && rest.split(['.', '–', '-']).all(is_number));
                let is_document =
                    word.ends_with(".md") && !exists(Path::new(word)) && !exists(&Path::new("docs").join(word));
                if is_decision && !decisions.contains(&format!("**{word} ")) || is_note || is_document {
                    faults.push(format!("{}:{}: nobody can look up {word}", file.path, at + 1));
                }
            }
        }
    }
    faults
}

/// Targets of `[text](target)`, with their lines; code blocks are left out.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (line, text) in prose(text) {
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            found.extend(rest.find(')').map(|end| (line, rest[..end].trim())));
        }
    }
    found
}

/// What stands in single backticks, with its line; code blocks are left out.
fn quoted(text: &str) -> Vec<(usize, &str)> {
    prose(text).flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |word| (line, word))).collect()
}

fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        (!in_block && !is_fence).then_some((at + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn exists(path: &Path) -> bool {
        tree::root().join(path).exists()
    }

    #[test]
    fn every_link_leads_somewhere() {
        tree::none(&dead_links(&tree::files("md"), exists));
    }

    #[test]
    fn every_file_that_a_document_names_exists() {
        // Decisions and the changelog tell of the past, where files had other names.
        let is_past = |file: &File| file.path.starts_with("docs/decisions/") || file.path == "CHANGELOG.md";
        let files: Vec<File> = tree::files("md").into_iter().filter(|file| !is_past(file)).collect();
        tree::none(&dead_paths(&files, exists));
    }

    #[test]
    fn what_comments_cite_can_be_looked_up() {
        let pages = tree::files("md").into_iter().filter(|file| file.path.starts_with("docs/decisions/"));
        let decisions: String = pages.map(|file| file.text).collect();
        let files: Vec<File> =
            tree::files("rs").into_iter().filter(|file| !file.path.starts_with("tests/tidy/")).collect();
        tree::none(&dead_citations(&files, &decisions, exists));
    }

    #[test]
    fn the_changelog_has_a_place_for_what_comes_next() {
        assert!(tree::read("CHANGELOG.md").lines().any(|line| line.starts_with("## Unreleased")));
    }

    #[test]
    fn the_example_configuration_is_held_to_its_documentation() {
        let tests = tree::files("rs").into_iter().filter(|file| file.path.starts_with("server/"));
        let holds =
            tests.into_iter().any(|file| file.text.contains("fn ") && file.text.contains("config/parlour.toml"));
        assert!(holds, "no test of server/ compares config/parlour.toml with the documented defaults");
        assert!(!tree::read("config/parlour.toml").is_empty(), "config/parlour.toml: cargo xtask config writes it");
    }

    #[test]
    fn a_citation_of_what_is_not_here_is_seen() {
        let text = "// decisions D4, D9; P4.1.5 and `gone.md`, life.md (RFC 3261 §8.1).\nlet D7 = 1;\n";
        let files = [File { path: "a.rs".to_owned(), text: text.to_owned() }];
        let faults = dead_citations(&files, "- **D4 Silence.**", |path| path == Path::new("docs/life.md"));
        let wanted = ["D9", "P4.1.5", "gone.md"].map(|word| format!("a.rs:1: nobody can look up {word}"));
        assert_eq!(faults, wanted);
    }

    #[test]
    fn dead_links_and_paths_are_seen_and_code_blocks_are_not() {
        let text = "[a](b.md) [c](gone.md#x) [d](https://e) [f](#g)\n```\n[x](nowhere) `a/no.rs`\n```\n`a/b.rs` `a/c.rs` `c.rs`\n";
        let files = [File { path: "docs/one.md".to_owned(), text: text.to_owned() }];
        let exists = |path: &Path| path == Path::new("docs/b.md") || path == Path::new("a/b.rs");
        assert_eq!(dead_links(&files, exists), ["docs/one.md:1: the link to gone.md#x leads nowhere"]);
        assert_eq!(dead_paths(&files, exists), ["docs/one.md:5: there is no a/c.rs"]);
    }
}
