//! What is asked of the DNS, and what it says: as much of it as locating needs.

use std::net::IpAddr;
use std::time::Duration;

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Rules that lead on (RFC 3403).
    Naptr,
    /// Servers of a service (RFC 2782).
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// One question. The name is whole, in lower case, without its final dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// Of what.
    pub name: String,
    /// What.
    pub kind: Kind,
}

impl Question {
    /// For this name.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A rule.
    Naptr(Naptr),
    /// A server.
    Srv(Srv),
    /// An address.
    Address(IpAddr),
}

/// A rule (RFC 3403 §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Naptr {
    /// Lower ones first.
    pub order: u16,
    /// Among those of one order, lower ones first.
    pub preference: u16,
    /// `s`, `u`, or nothing for a rule that leads to others.
    pub flags: String,
    /// `SIP+D2U`, `E2U+sip` …
    pub services: String,
    /// A substitution: empty where there is a replacement.
    pub regexp: String,
    /// The next name; empty where there is a substitution.
    pub replacement: String,
}

/// A server (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// The share of it among those of one priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// Its host's name; empty: the service is decidedly not available.
    pub target: String,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Records of the type that was asked for, aliases followed; one at least.
    Records {
        /// In no order.
        records: Vec<Record>,
        /// How long they may be believed.
        ttl: Duration,
    },
    /// There is no such name, or none with such a record.
    Nothing {
        /// How long that may be believed (RFC 2308 §5).
        ttl: Duration,
    },
    /// Nobody could say: a time-out, a server's failure.
    Unknown,
}
