//! `parlour-load`: drives this server or any other SIP server, and says what it cost.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgGroup, Parser, Subcommand};
use loadgen::{compare, datagrams, interrupt, plan, relay, scenario, stream, users};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator and benchmark driver for SIP instant messaging.
#[derive(Parser)]
#[command(name = "parlour-load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play one scenario; exit status 0 only when every mark holds
    Run {
        #[command(flatten)]
        options: Box<plan::Options>,
        /// No progress bar
        #[arg(long)]
        quiet: bool,
    },
    /// Print users as CSV lines for `parlour user import`
    Users {
        /// How many
        #[arg(long, default_value_t = 1_000)]
        count: usize,
        /// What stands before the number
        #[arg(long, default_value = "u")]
        user_prefix: String,
        /// Their domain
        #[arg(long, default_value = "example.com")]
        domain: String,
        /// Everybody's password
        #[arg(long, default_value = "secret")]
        password: String,
    },
    /// Copy datagrams or connections and look at nothing, until killed: the limit
    #[command(group(ArgGroup::new("transport").required(true)))]
    Relay {
        /// Datagrams
        #[arg(long, group = "transport")]
        udp: bool,
        /// Connections
        #[arg(long, group = "transport")]
        tcp: bool,
        /// Where callers speak to it
        #[arg(long, value_name = "HOST:PORT")]
        listen: SocketAddr,
        /// Where the receivers are
        #[arg(long, value_name = "HOST:PORT")]
        to: SocketAddr,
    },
    /// Blind relay, Kamailio and Parlour in turn, in rounds: processor time a unit, and its ratio to the relay's
    Compare(compare::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err((status, text)) => {
            eprintln!("parlour-load: {text}");
            ExitCode::from(status)
        }
    }
}

/// Whether the thing asked for succeeded; or the exit status and why.
fn run(command: Command) -> Result<bool, (u8, String)> {
    fn failed(error: impl ToString) -> (u8, String) {
        (1, error.to_string())
    }
    match command {
        Command::Run { options, quiet } => {
            let json = options.json.clone();
            let plan = options.resolve().map_err(|faults| (2, faults.to_string()))?;
            json.as_deref().map_or(Ok(()), writable)?;
            interrupt::listen().map_err(failed)?;
            let report = scenario::run(&plan, quiet).map_err(failed)?;
            print!("{}", report.text());
            if let Some(path) = json {
                let text = serde_json::to_string_pretty(&report).map_err(failed)?;
                std::fs::write(&path, text + "\n").map_err(|error| failed(format!("{}: {error}", path.display())))?;
            }
            Ok(report.passed)
        }
        Command::Users { count, user_prefix, domain, password } => {
            print!("{}", users::csv(count, &user_prefix, &domain, &password));
            Ok(true)
        }
        Command::Relay { udp, listen, to, .. } => {
            let bound = |error| failed(format!("{listen}: {error}"));
            if udp {
                relay::udp(&datagrams::bind(listen).map_err(bound)?, to).map_err(failed)?;
            } else {
                relay::tcp(&stream::listener(listen).map_err(bound)?, to).map_err(failed)?;
            }
            Ok(true)
        }
        Command::Compare(options) => {
            options.json.as_deref().map_or(Ok(()), writable)?;
            interrupt::listen().map_err(failed)?;
            let comparison = compare::run(&options, |line| eprintln!("{line}")).map_err(failed)?;
            print!("{}", comparison.text());
            if let Some(path) = &options.json {
                let text = serde_json::to_string_pretty(&comparison).map_err(failed)?;
                std::fs::write(path, text + "\n").map_err(|error| failed(format!("{}: {error}", path.display())))?;
            }
            Ok(true)
        }
    }
}

/// Where the result is to stand can be written to: known before an hour has gone by.
fn writable(path: &Path) -> Result<(), (u8, String)> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened
        .map(drop)
        .map_err(|error| (2, format!("--json {}: {error} (name a file that can be written)", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_one_that_clap_finds_no_fault_in() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_result_that_cannot_be_written_is_known_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (status, text) = writable(folder.path()).unwrap_err();
        assert!(status == 2 && text.contains(&folder.path().display().to_string()), "{text}");
        writable(&folder.path().join("report.json")).unwrap();
    }

    #[test]
    fn what_the_documents_say_can_be_typed() {
        for line in [
            "run --plan config/load/page.toml --trusted --connections 4 --rate 100 --pass p99_ms_max=5 --quiet",
            "run --scenario register --server 127.0.0.1:5060 --auth=false --reuse --in-flight 8 --core 1",
            "users --count 10",
            "relay --udp --listen 127.0.0.1:5070 --to 127.0.0.1:5080",
            "run --scenario session --pairs 64 --in-flight 1 --body-bytes 1..1048576 --chunk-bytes 65536 --failure-report no",
            "run --scenario session --route direct --receivers-at 127.0.0.1:5080 --one-way",
            "run --plan config/load/session-idle.toml --pairs 100 --pass idle_busy_percent_max=1",
            "compare --jobs msrp-300-4x16,msrp-300-64x1,msrp-64k-2k,msrp-1m-64k --targets relay,kamailio,parlour",
            "compare --jobs pager-udp,register --targets relay,parlour --rounds 2",
        ] {
            let words = std::iter::once("parlour-load").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in ["relay --listen 127.0.0.1:5070 --to 127.0.0.1:5080", "run --rate 1 --in-flight 2", "run --pass x"]
        {
            let words = std::iter::once("parlour-load").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
