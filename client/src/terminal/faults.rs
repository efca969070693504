//! Why `parlour-client` ends with something else than 0, and with what.

use std::io;
use std::process::ExitCode;

use client::ClientError;

/// What went wrong, for standard error.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The library's.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line cannot be followed.
    #[error("{0}")]
    Usage(String),
    /// A name without an address.
    #[error("--server {server}: {reason}; write HOST or HOST:PORT")]
    Server {
        /// As given.
        server: String,
        /// What the system said.
        reason: io::Error,
    },
    /// A file or standard input.
    #[error("{what}: {reason}")]
    File {
        /// Which, and what was tried.
        what: String,
        /// What the system said.
        reason: io::Error,
    },
    /// A file that somebody named.
    #[error("{what}: {reason}; {remedy}")]
    Unusable {
        /// What was asked for.
        what: String,
        /// What the system said.
        reason: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A final answer that is no 2xx.
    #[error("{to} did not get the message: {status} {reason}{hint}")]
    NotDelivered {
        /// Who.
        to: String,
        /// The final status.
        status: u16,
        /// Its reason phrase.
        reason: String,
        /// What can be done, with the punctuation in front; may be empty.
        hint: &'static str,
    },
    /// `listen --count N --for S` that saw fewer.
    #[error("only {seen} of {wanted} messages came within {seconds} s")]
    TooFew {
        /// How many came.
        seen: u64,
        /// How many were asked for.
        wanted: u64,
        /// How long.
        seconds: u64,
    },
    /// Some message of a talk was not accepted; each has been told of.
    #[error("{failed} of {all} messages were not accepted")]
    SomeFailed {
        /// How many.
        failed: u64,
        /// Of how many.
        all: u64,
    },
    /// Standard output was closed.
    #[error("nobody reads the output any more")]
    Unread,
}

impl ProgramError {
    /// 2 for what the command line got wrong, 1 for all else.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Client(_)
            | Self::Server { .. }
            | Self::File { .. }
            | Self::Unusable { .. }
            | Self::NotDelivered { .. }
            | Self::TooFew { .. }
            | Self::SomeFailed { .. }
            | Self::Unread => ExitCode::from(1),
        }
    }
}

/// What a person can do about a final answer, as the end of a sentence.
pub fn hint(status: u16) -> &'static str {
    match status {
        403 => "; you may not write to this address, or the server does not offer you this service",
        404 => "; the server knows no such user, or no such domain: check the address",
        413 => "; send a shorter text",
        480 => "; the receiver's mailbox is full or closed: try again later",
        500..600 => "; the server has trouble: try again later",
        _ => "",
    }
}
