//! Who the client is and where it registers: everything a user agent must be told before it can speak.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::Aor;
use sip::transaction::Timers;

/// What carries the SIP messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams; larger requests go by TCP (RFC 3261 §18.1.1).
    Udp,
    /// One connection, kept open.
    Tcp,
}

impl Transport {
    /// As a Via spells it (RFC 3261 §20.42).
    pub fn via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// As a URI parameter spells it (RFC 3261 §19.1.1).
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.via())
    }
}

/// A user, a server, and the way between them.
#[derive(Clone)]
pub struct Account {
    /// The address of record.
    pub aor: Aor,
    /// What stands beside the address in From; may be empty.
    pub display: String,
    /// The digest user name: the user part of the address, or a login of its own.
    pub user: String,
    /// The digest password.
    pub password: String,
    /// Where every request goes.
    pub server: SocketAddr,
    /// By what.
    pub transport: Transport,
    /// The address to send from; by default what the system picks.
    pub local: Option<IpAddr>,
    /// RFC 3840 feature tags as they stand in Contact, such as `+g.oma.sip-im`.
    pub features: Vec<String>,
    /// How long a binding is asked for.
    pub expires: Duration,
}

impl Account {
    /// An IM client's account with the usual settings: the user part as user name, bindings of an hour.
    pub fn new(aor: Aor, password: &str, server: SocketAddr, transport: Transport) -> Self {
        Self {
            user: aor.user().to_owned(),
            display: String::new(),
            password: password.to_owned(),
            server,
            transport,
            local: None,
            features: vec!["+g.oma.sip-im".to_owned()],
            expires: Duration::from_secs(u64::from(base::limits::BINDING_EXPIRY_S_DEFAULT)),
            aor,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("aor", &self.aor)
            .field("user", &self.user)
            .field("password", &"(secret)")
            .field("server", &self.server)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// Which way something went over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Out,
    /// From the server.
    In,
}

/// Called with everything that goes over the wire: a datagram, or one whole message or ping of a stream.
pub type Tap = Arc<dyn Fn(Direction, &[u8]) + Send + Sync>;

/// What an incoming message is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With this status; 2xx only hands the message on.
    Status(u16),
    /// Not at all: as a client that went away without a word.
    Silence,
}

/// How the client behaves.
#[derive(Clone)]
pub struct Options {
    /// What incoming messages are answered; [`crate::Client::answer_with`] changes it later.
    pub answer: Answer,
    /// Media types taken, `*/*` for all; others get 415.
    pub accept: Vec<String>,
    /// Whether delivery and display notifications are sent to who asks for them (RFC 5438 §7.2.1: may be refused).
    pub receipts: bool,
    /// A stream is pinged this often (RFC 5626 §3.5.1); zero: never.
    pub ping: Duration,
    /// The timers of transactions; timer F is 64 × `t1`.
    pub timers: Timers,
    /// How long a request may take in all, with its repeats; timer F counts besides.
    pub patience: Duration,
    /// Whether a host that says "nobody listens" (ICMP) ends the requests that wait for it (RFC 3261 §17.1.4). If not,
    /// they are repeated until timer F: the server may come back.
    pub refusal_is_final: bool,
    /// Whether 503 with Retry-After stops further requests for that time (RFC 3261 §21.5.4).
    pub obey_retry_after: bool,
    /// Whether invitations to sessions are taken in; if not, INVITE gets 405. Inviting is possible either way.
    pub sessions: bool,
    /// Sees the wire.
    pub tap: Option<Tap>,
    /// Sees the MSRP connections: every chunk that goes out whole; what comes in as head, pieces of body and end-line.
    pub msrp_tap: Option<Tap>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            answer: Answer::Status(200),
            accept: ["text/plain", "message/cpim", "message/imdn+xml", "application/im-iscomposing+xml"]
                .map(str::to_owned)
                .to_vec(),
            receipts: true,
            ping: Duration::from_secs(120),
            timers: Timers::default(),
            patience: Duration::from_secs(64),
            refusal_is_final: true,
            obey_retry_after: true,
            sessions: true,
            tap: None,
            msrp_tap: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("answer", &self.answer)
            .field("accept", &self.accept)
            .field("receipts", &self.receipts)
            .field("ping", &self.ping)
            .field("patience", &self.patience)
            .field("tap", &self.tap.is_some())
            .finish_non_exhaustive()
    }
}
