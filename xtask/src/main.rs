//! `cargo xtask`: the only tool to know. What CI runs is what it runs.
//!
//! No dependencies on purpose: on a fresh machine this program is built before anything else can be.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod cache;
mod machine;
mod rocksdb;
mod shell;
mod tasks;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK

  try [ARGS]            install what is missing, build, and run `parlour try ARGS`
  test [--fast] [ARGS]  what CI runs: format, lints, dependency rules, all tests;
                        --fast leaves out the programs of others (sipp, linphone, baresip, tshark);
                        ARGS go to the test runner
  build [ARGS]          `cargo build --workspace ARGS` with the shared target directory and RocksDB
  bench [NAME] [ARGS]   one criterion bench, or all; ARGS go to criterion
  sim [--seed N] [NAME] the simulated world: one seed again, or the usual ones
  fuzz TARGET [ARGS]    one fuzz target (needs nightly Rust and cargo-fuzz); ARGS go to libFuzzer
  config                write config/parlour.toml from the documented defaults
  env                   print the exports with which plain cargo does the same: eval \"$(cargo xtask env)\"

What it keeps stands in $PARLOUR_CACHE, by default ~/.cache/parlour: the target directory and RocksDB, compiled once.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = arguments.split_first().map_or(("help", &[][..]), |(task, rest)| (task.as_str(), rest));
    let outcome = match task {
        "try" => tasks::try_out(rest),
        "test" => tasks::test(rest),
        "build" => tasks::build(rest),
        "bench" => tasks::bench(rest),
        "sim" => tasks::sim(rest),
        "fuzz" => tasks::fuzz(rest),
        "config" => tasks::config(),
        "env" => tasks::env(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => {
            eprintln!("cargo xtask: no task is called `{unknown}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("\ncargo xtask {task}: {fault}");
            ExitCode::FAILURE
        }
    }
}
