//! The words that `parlour` knows. Exit status: 0 done, 1 not done, 2 wrong usage.

mod failure;
mod remote;
mod store;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use base::Aor;
use clap::{Args, Parser, Subcommand};

pub use failure::Failure;

use crate::settings::{self, Loaded, Settings};
use crate::{say, serve, version};

/// Parlour, an instant messaging server: SIP/SIMPLE, MSRP and XCAP in one program.
#[derive(Debug, Parser)]
#[command(name = "parlour", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the main job on loopback, with three users in a temporary directory, and stay for yours
    Try {
        /// End after the steps; exit status 0 only if every step was seen to work
        #[arg(long)]
        exit: bool,
    },
    /// Serve
    Serve(Where),
    /// Name every fault of the configuration
    Check {
        #[command(flatten)]
        at: Where,
        /// Print the default configuration, with every key and what it is for
        #[arg(long)]
        defaults: bool,
    },
    /// Subscribers: of a running server through its admin port, of a stopped one in its store
    #[command(subcommand, arg_required_else_help = true)]
    User(UserCommand),
    /// Rooms and groups
    #[command(subcommand, arg_required_else_help = true)]
    Room(RoomCommand),
    /// Where is my message: what happened to one, hop by hop
    Trace {
        /// IMDN or MSRP Message-ID, or Call-ID
        #[arg(value_name = "MESSAGE-ID")]
        id: String,
        #[command(flatten)]
        at: Where,
    },
    /// A consistent copy of the store, taken while it runs
    Backup {
        /// A new or empty directory
        dir: PathBuf,
        #[command(flatten)]
        at: Where,
    },
    /// A store from a backup, into an empty data directory
    Restore {
        /// The backup
        dir: PathBuf,
        #[command(flatten)]
        at: Where,
    },
    /// Version, commit, engine version
    Version,
}

/// Where the configuration lies.
#[derive(Debug, Args)]
struct Where {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = settings::DEFAULT_FILE)]
    config: PathBuf,
}

impl Where {
    fn load(&self) -> Result<Loaded, Failure> {
        Ok(settings::load(&self.config)?)
    }

    fn settings(&self) -> Result<Settings, Failure> {
        Ok(self.load()?.settings)
    }
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make a subscriber
    Add {
        /// sip:alice@example.com
        #[arg(value_parser = aor)]
        aor: Aor,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        /// A telephone number (tel:+44…) or another address; may be repeated
        #[arg(long, value_name = "URI")]
        alias: Vec<String>,
        /// User name in Digest, in place of the user part of the address
        #[arg(long, value_name = "NAME")]
        login: Option<String>,
        #[command(flatten)]
        profile: Profile,
        #[command(flatten)]
        at: Where,
    },
    /// Change a subscriber's services or limit
    Set {
        /// sip:alice@example.com
        #[arg(value_parser = aor)]
        aor: Aor,
        #[command(flatten)]
        profile: Profile,
        #[command(flatten)]
        at: Where,
    },
    /// Make subscribers from lines aor,password[,alias…][,services=LIST][,history-limit=N]
    Import {
        /// The file, or - for standard input
        file: PathBuf,
        #[command(flatten)]
        at: Where,
    },
    /// Name all subscribers
    List(Where),
    /// Remove a subscriber, and what waits for him
    Remove {
        /// sip:alice@example.com
        #[arg(value_parser = aor)]
        aor: Aor,
        #[command(flatten)]
        at: Where,
    },
    /// Give a subscriber a new password
    Passwd {
        /// sip:alice@example.com
        #[arg(value_parser = aor)]
        aor: Aor,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        at: Where,
    },
}

/// What a subscriber may do, and how much of it.
#[derive(Debug, Args)]
struct Profile {
    /// all, none, or names joined by +: message, large, session, file, group, history, xdm, presence
    #[arg(long, value_name = "LIST", value_parser = services)]
    services: Option<Services>,
    /// Octets of stored conversations
    #[arg(long, value_name = "OCTETS")]
    history_limit: Option<u64>,
}

/// Names of services.
#[derive(Debug, Clone)]
struct Services(Vec<String>);

#[derive(Debug, Subcommand)]
enum RoomCommand {
    /// Name all rooms
    List(Where),
    /// Make a room
    Add {
        /// sip:tea@conference.example.com
        uri: String,
        /// Whose it is
        #[arg(long, value_name = "AOR")]
        owner: Option<String>,
        /// Who is in it; may be repeated
        #[arg(long, value_name = "AOR")]
        member: Vec<String>,
        /// Whether anybody may come in
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        at: Where,
    },
    /// Send everybody away and keep the room
    Close {
        /// sip:tea@conference.example.com
        uri: String,
        #[command(flatten)]
        at: Where,
    },
    /// Remove a room with its document
    Remove {
        /// sip:tea@conference.example.com
        uri: String,
        #[command(flatten)]
        at: Where,
    },
}

fn aor(text: &str) -> Result<Aor, String> {
    Aor::parse(text).map_err(|why| format!("{why} (write sip:alice@example.com)"))
}

fn services(list: &str) -> Result<Services, crate::services::NoService> {
    let list = crate::services::parse(list)?;
    Ok(Services(if list == "none" { Vec::new() } else { list.split('+').map(str::to_owned).collect() }))
}

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version are no faults: 0, on standard output. All else: 2, on standard error.
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { 2 } else { 0 });
        }
    };
    match act(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::err(failure);
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<(), Failure> {
    match command {
        Command::Try { exit } => crate::trial::run(exit),
        Command::Serve(at) => serve::run(&at.config, at.load()?),
        Command::Check { defaults: true, .. } => {
            say::out(settings::render_default_config().trim_end());
            Ok(())
        }
        Command::Check { at, .. } => check(&at),
        Command::User(command) => user::run(command),
        Command::Room(_) => Err(Failure::not_built("rooms")),
        Command::Trace { .. } => Err(Failure::not_built("the trace of a message")),
        Command::Backup { dir, at } => store::backup(&dir, &at.settings()?),
        Command::Restore { dir, at } => store::restore(&dir, &at.settings()?),
        Command::Version => {
            say::out(version::text());
            Ok(())
        }
    }
}

fn check(at: &Where) -> Result<(), Failure> {
    let loaded = at.load()?;
    say::out(format_args!("{}: no faults", at.config.display()));
    for notice in loaded.notices {
        say::out(format_args!("notice: {notice}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn status(words: &[&str]) -> i32 {
        match Cli::try_parse_from([&["parlour"], words].concat()) {
            Ok(_) => 0,
            Err(usage) => usage.exit_code(),
        }
    }

    #[test]
    fn the_words_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_contract_are_understood() {
        for line in [
            "try",
            "try --exit",
            "serve",
            "serve --config x.toml",
            "check --config x.toml",
            "check --defaults",
            "user add sip:a@b --password-stdin --alias tel:+44 --alias tel:+45 --login al --services message+xdm --history-limit 5 --config x",
            "user set sip:a@b --services none --history-limit 0",
            "user import users.csv",
            "user list",
            "user remove sip:a@b --config x",
            "user passwd sip:a@b --password-stdin",
            "backup dir --config x",
            "restore dir",
            "room list",
            "room add sip:r@b --owner sip:a@b --member sip:c@b --member sip:d@b --open",
            "room close sip:r@b",
            "room remove sip:r@b",
            "trace abc --config x",
            "version",
        ] {
            assert_eq!(status(&line.split(' ').collect::<Vec<_>>()), 0, "{line}");
        }
    }

    #[test]
    fn wrong_usage_ends_with_2() {
        for line in [
            "no-such-command",
            "serve --no-such-option",
            "user",
            "user add",
            "user add alice",
            "user add sip:a@b --services fly",
            "user add sip:a@b --history-limit much",
            "room",
            "backup",
        ] {
            assert_eq!(status(&line.split(' ').collect::<Vec<_>>()), 2, "{line}");
        }
        assert_eq!(status(&[]), 2);
        assert_eq!(status(&["--help"]), 0);
    }
}
