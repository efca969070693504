//! What is written for newcomers is true: the commands of the README work, the configurations shown are accepted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::binary::binary;
use support::programs::{self, Finished};

#[test]
fn parlour_try_plays_the_main_job_and_sees_every_step_work() {
    let tried = programs::run(parlour().args(["try", "--exit"]), Duration::from_secs(90));
    assert!(is_done(&tried), "{}\n{}", tried.stdout, tried.stderr);
    let steps: Vec<&str> =
        tried.stdout.lines().filter(|line| line.starts_with(|one: char| one.is_ascii_digit())).collect();
    // The README shows the same steps in the same words; numbers differ.
    let readme = read("README.md");
    let shown: Vec<&str> = readme.lines().filter(|line| line.starts_with(|one: char| one.is_ascii_digit())).collect();
    assert_eq!(
        steps.iter().map(|step| words(step)).collect::<Vec<_>>(),
        shown.iter().map(|step| words(step)).collect::<Vec<_>>()
    );
    assert!(tried.stdout.contains("SIP/2.0 202 Accepted") && tried.stdout.contains("kill -9"), "{}", tried.stdout);
}

#[test]
fn the_configuration_of_the_readme_and_the_example_are_accepted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let readme = read("README.md");
    let shown = readme.split_once("<<END\n").and_then(|(_, rest)| rest.split_once("\nEND\n"));
    let (shown, _) = shown.expect("the README writes a configuration");
    let mut texts = vec![shown.to_owned(), read("config/parlour.toml"), String::new()];
    texts.extend(documents().iter().flat_map(|file| toml_blocks(&std::fs::read_to_string(file).unwrap_or_default())));
    for text in texts {
        let file = folder.path().join("parlour.toml");
        std::fs::write(&file, &text).expect("the folder takes a file");
        let checked = programs::run(
            parlour().arg("check").arg("--config").arg(&file).current_dir(&folder),
            Duration::from_secs(20),
        );
        assert!(is_done(&checked), "{text}\n{}{}", checked.stdout, checked.stderr);
    }
}

#[test]
fn every_command_that_the_documents_name_is_there() {
    let mut named = 0;
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for words in text.split('`').flat_map(str::lines).filter_map(command) {
            let mut asked = Command::new(binary(words[0]));
            let helped = programs::run(asked.args(&words[1..]).arg("--help"), Duration::from_secs(20));
            assert!(is_done(&helped), "{}: {words:?}: {}", file.display(), helped.stderr);
            named += 1;
        }
    }
    assert!(named >= 5, "only {named} commands were found: has the form of the documents changed?");
}

/// A program of ours and its subcommands at the beginning of a line of shell.
fn command(line: &str) -> Option<Vec<&str>> {
    let mut words = line.trim().split(' ').skip_while(|word| word.contains('=') || *word == "$");
    let program = words.next().filter(|word| ["parlour", "parlour-client", "parlour-load"].contains(word))?;
    let is_name = |word: &&str| !word.is_empty() && word.chars().all(|one| one.is_ascii_lowercase());
    let deeper = if program == "parlour-client" { 0 } else { 2 };
    let mut all = vec![program];
    let known = ["try", "serve", "check", "user", "backup", "restore", "version", "run", "users", "relay", "compare"];
    let below = ["add", "import", "list", "remove", "passwd", "set"];
    for (depth, word) in words.take(deeper).take_while(is_name).enumerate() {
        let is_there = if depth == 0 { known.contains(&word) } else { all[1] == "user" && below.contains(&word) };
        if !is_there {
            break;
        }
        all.push(word);
    }
    Some(all)
}

fn toml_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("```toml\n").skip(1);
    blocks.filter_map(|block| Some(block.split_once("```")?.0.to_owned())).collect()
}

/// Every document for people.
fn documents() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "benches/README.md"].map(|name| root().join(name)).into();
    let docs = std::fs::read_dir(root().join("docs")).expect("there are documents");
    files.extend(
        docs.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "md")),
    );
    files
}

/// A line without its numbers.
fn words(line: &str) -> String {
    line.split(' ').filter(|word| !word.chars().any(|one| one.is_ascii_digit())).collect::<Vec<_>>().join(" ")
}

fn parlour() -> Command {
    Command::new(binary("parlour"))
}

fn is_done(finished: &Finished) -> bool {
    finished.status.is_some_and(|status| status.success())
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
