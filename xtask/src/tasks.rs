//! The tasks themselves, in the order of the usage text.

use std::process::Command;

use crate::cache::Cache;
use crate::shell::{self, Done, say};
use crate::{machine, rocksdb};

/// The newcomer's command: from a clone to two people who write to each other.
pub fn try_out(arguments: &[String]) -> Done {
    let cache = ready()?;
    shell::run(&mut cache.cargo("build --locked --release --package server --package client"))?;
    let programs = cache.target.join("release");
    say(&format!("parlour and parlour-client stand in {}", programs.display()));
    shell::run(Command::new(programs.join("parlour")).arg("try").args(arguments))
}

/// What CI runs. The test runner comes last, so that the closing lines are its own.
pub fn test(arguments: &[String]) -> Done {
    let (fast, arguments) = split_flag(arguments, "--fast");
    let cache = ready()?;
    machine::ready_to_check(&cache)?;
    if !fast {
        machine::ready_for_peers();
    }
    shell::run(&mut cache.bare_cargo("fmt --all --check"))?;
    shell::run(&mut cache.cargo("clippy --locked --workspace --all-targets --keep-going --quiet -- --deny warnings"))?;
    dependency_rules(&cache)?;
    // tests/e2e runs the real binaries. With --tests they are built from the same features as the tests are.
    shell::run(&mut cache.cargo("build --locked --workspace --bins --tests"))?;
    let mut runner = if cache.bare_cargo("nextest --version").output().is_ok_and(|out| out.status.success()) {
        shell::run(&mut cache.cargo("test --locked --workspace --doc --quiet"))?;
        cache.cargo("nextest run --locked --workspace --no-fail-fast")
    } else {
        cache.cargo("test --locked --workspace --no-fail-fast")
    };
    if fast {
        runner.env("PARLOUR_FAST", "1");
    }
    shell::run(runner.args(arguments))
}

/// Builds everything; for the binaries alone plain cargo does after `cargo xtask env`.
pub fn build(arguments: &[String]) -> Done {
    shell::run(ready()?.cargo("build --locked --workspace").args(arguments))
}

/// One bench by name, or all of them.
pub fn bench(arguments: &[String]) -> Done {
    let cache = ready()?;
    let mut cargo = cache.cargo("bench --locked --package benches");
    let rest = match arguments.split_first() {
        Some((name, rest)) if !name.starts_with('-') => {
            cargo.args(["--bench", name]);
            rest
        }
        _ => arguments,
    };
    shell::run(cargo.arg("--").args(rest))
}

/// The simulated world. A failure there prints the seed that this takes.
pub fn sim(arguments: &[String]) -> Done {
    let cache = ready()?;
    let mut cargo = cache.cargo("test --locked --package sim");
    let rest = match arguments {
        [flag, seed, rest @ ..] if flag == "--seed" => {
            seed.parse::<u64>().map_err(|_| format!("--seed takes a number, not `{seed}`"))?;
            cargo.env("PARLOUR_SIM_SEED", seed);
            rest
        }
        [flag] if flag == "--seed" => return Err("--seed takes a number".to_owned()),
        all => all,
    };
    shell::run(cargo.args(["--", "--nocapture"]).args(rest))
}

/// One fuzz target. What it finds goes to the cache; what is worth keeping is copied to `fuzz/corpus` by hand.
pub fn fuzz(arguments: &[String]) -> Done {
    let cache = ready()?;
    let (target, rest) = arguments.split_first().ok_or("which target? they are the files of fuzz/fuzz_targets")?;
    if !shell::works("cargo", &["+nightly", "fuzz", "--version"]) {
        return Err(
            "needs nightly Rust and cargo-fuzz: rustup toolchain add nightly && cargo install cargo-fuzz".into()
        );
    }
    let found = cache.folder.join("fuzz").join(target);
    let known = cache.root.join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&found).map_err(|fault| format!("{}: {fault}", found.display()))?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&cache.root).args(["+nightly", "fuzz", "run", target]).args([found, known]);
    cargo.arg("core/proto/sip/tests/rfc4475");
    // The switch's target links RocksDB with everything else in `actors`.
    cargo.envs(cache.exports()).env("CARGO_TARGET_DIR", cache.folder.join("fuzz-target")).arg("--").args(rest);
    shell::run(&mut cargo)
}

/// Writes the example configuration from the defaults as the code documents them.
pub fn config() -> Done {
    let cache = ready()?;
    let text =
        shell::output(&mut cache.cargo("run --locked --quiet --package server --bin parlour -- check --defaults"))?;
    let file = cache.root.join("config/parlour.toml");
    std::fs::write(&file, text).map_err(|fault| format!("{}: {fault}", file.display()))?;
    say(&format!("written: {}", file.display()));
    Ok(())
}

/// For `eval`: with these, plain cargo shares what the tasks share.
pub fn env() -> Done {
    for (name, value) in ready()?.exports() {
        println!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
    Ok(())
}

/// Everything a build needs: packages, then RocksDB.
fn ready() -> Result<Cache, String> {
    let cache = Cache::find()?;
    machine::ready_to_build()?;
    rocksdb::ready(&cache)?;
    cache.claim()?;
    Ok(cache)
}

/// Licences, bans and sources by cargo-deny where there is one. `tests/tidy` reads the same `deny.toml` and checks
/// most of it without.
fn dependency_rules(cache: &Cache) -> Done {
    if !cache.bare_cargo("deny --version").output().is_ok_and(|out| out.status.success()) {
        say(
            "cargo-deny is not installed: its check is skipped; tests/tidy checks licences, bans and duplicates itself",
        );
        return Ok(());
    }
    shell::run(&mut cache.bare_cargo("deny --workspace check bans licenses sources"))
}

fn split_flag(arguments: &[String], flag: &str) -> (bool, Vec<String>) {
    let rest: Vec<String> = arguments.iter().filter(|argument| *argument != flag).cloned().collect();
    (rest.len() < arguments.len(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_taken_out_wherever_it_stands() {
        let all = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(split_flag(&all(&["a", "--fast", "b"]), "--fast"), (true, all(&["a", "b"])));
        assert_eq!(split_flag(&all(&["a"]), "--fast"), (false, all(&["a"])));
    }
}
