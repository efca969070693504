//! What may stand on the command line of `parlour-client`.

use std::net::IpAddr;
use std::path::PathBuf;

use base::Aor;
use clap::{Args, Parser, Subcommand, ValueEnum};
use client::Transport;

/// An IM client for a terminal, and with --json for scripts.
///
/// Without a command it talks: type a line, it is sent; what comes in is shown. /help says more.
#[derive(Debug, Parser)]
#[command(name = "parlour-client", version)]
pub struct Arguments {
    /// Who you are, such as sip:alice@example.com (sip: may be left out).
    #[arg(long, value_parser = read_aor)]
    pub aor: Aor,
    /// How to reach the server.
    #[command(flatten)]
    pub way: Way,
    /// How the password comes in, and as whom.
    #[command(flatten)]
    pub login: Login,
    /// One JSON object a line on standard output for every event; commands may be JSON lines too.
    #[arg(long, global = true)]
    pub json: bool,
    /// Put files that come in over sessions into this directory; it is made when the first one comes.
    ///
    /// Without it: parlour-client/received in $XDG_DATA_HOME, else in ~/.local/share.
    #[arg(long, alias = "save", value_name = "DIR", global = true)]
    pub download_dir: Option<PathBuf>,
    /// Ask for delivery and display notifications with every message (IMDN, RFC 5438).
    #[arg(long, global = true)]
    pub receipts: bool,
    /// What to do; talk, if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How to reach the server.
#[derive(Debug, Args)]
pub struct Way {
    /// The server, HOST or HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:5060", global = true)]
    pub server: String,
    /// By what.
    #[arg(long, value_enum, default_value_t = Carrier::Udp, global = true)]
    pub transport: Carrier,
    /// Send from this local address.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub local: Option<IpAddr>,
    /// Give a request up after so many seconds without an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=600), global = true)]
    pub timeout: u64,
    /// Ask for bindings of so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(10..=86_400), global = true)]
    pub expires: u32,
    /// Write everything that goes over the wire to this file.
    #[arg(long, value_name = "FILE", global = true)]
    pub wire: Option<PathBuf>,
}

/// How the password comes in, and as whom. Without any of it: the environment's `PARLOUR_PASSWORD`, else a prompt.
#[derive(Debug, Args)]
pub struct Login {
    /// Read the password from the first line of standard input.
    #[arg(long, global = true)]
    pub password_stdin: bool,
    /// The user name of the password, if it is not the user part of the address.
    #[arg(long, value_name = "NAME", global = true)]
    pub login: Option<String>,
}

/// What carries the SIP messages.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Carrier {
    /// Datagrams.
    Udp,
    /// One connection.
    Tcp,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register, say what the server answered, and take the binding back.
    Register {
        /// Leave the binding with the server until it expires.
        #[arg(long)]
        keep: bool,
    },
    /// Send one message and say what became of it; with --receipts wait for the notification too.
    Message {
        /// To whom: sip:bob@example.com, tel:+44…, or just bob of your own domain.
        to: String,
        /// The text; standard input, if none is given.
        text: Vec<String>,
        /// With --receipts: how many seconds to wait for the notification.
        #[arg(long, value_name = "SECONDS", default_value_t = 10)]
        wait: u64,
    },
    /// Hold a session: invite somebody, or wait to be invited. What is typed is sent, /send FILE sends a file, /bye ends it.
    Chat {
        /// Whom to invite: sip:bob@example.com, or just bob of your own domain. Without it: wait to be invited.
        to: Option<String>,
        /// Wait to be invited, by TO and nobody else if TO is given.
        #[arg(long)]
        wait: bool,
    },
    /// Register and show what comes in.
    Listen {
        /// End after so many messages.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// End after so many seconds; with --count it is an error if fewer have come by then.
        #[arg(long = "for", value_name = "SECONDS")]
        seconds: Option<u64>,
    },
}

impl From<Carrier> for Transport {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Udp => Self::Udp,
            Carrier::Tcp => Self::Tcp,
        }
    }
}

fn read_aor(text: &str) -> Result<Aor, String> {
    match super::words::address(text, "") {
        Ok(aor) if aor.is_tel() => {
            Err("a telephone number has no server to register with; write sip:name@domain".to_owned())
        }
        Ok(aor) => Ok(aor),
        Err(error) => Err(format!("{error}; write sip:name@domain")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn text_may_be_many_words_and_options_may_stand_behind_the_command() {
        let read = Arguments::try_parse_from([
            "parlour-client",
            "--aor",
            "alice@example.com",
            "message",
            "bob",
            "Hello,",
            "Bob",
            "--json",
            "--transport",
            "tcp",
        ])
        .unwrap();
        assert!(read.json);
        assert_eq!(read.aor.as_str(), "sip:alice@example.com");
        assert!(
            matches!(read.command, Some(Command::Message { ref to, ref text, .. }) if to == "bob" && text.len() == 2)
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let error = Arguments::try_parse_from(["parlour-client", "--aor", "sip:example.com"]).unwrap_err().to_string();
        assert!(error.contains("user part"), "{error}");
    }
}
