//! What can go wrong for a user agent, named by cause, with what the reader needs to mend it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::account::Transport;

/// Why something asked of the client did not happen. A final answer to a message is no error: see [`crate::Sent`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The system gave no socket or no random numbers.
    #[error("the system refused what a client needs: {0}; check limits and permissions")]
    System(Arc<io::Error>),
    /// No connection, or the host says that nobody listens.
    #[error("cannot reach {server} by {transport}: {reason}; is a server running there, and is the port right?")]
    Unreachable {
        /// Where to.
        server: SocketAddr,
        /// By what.
        transport: Transport,
        /// What the system said.
        reason: Arc<io::Error>,
    },
    /// The connection ended before the answer came.
    #[error("the connection to {server} by {transport} ended before the answer came: {reason}; try again")]
    Lost {
        /// Where to.
        server: SocketAddr,
        /// By what.
        transport: Transport,
        /// Who ended it and why.
        reason: Arc<io::Error>,
    },
    /// Timer F (RFC 3261 §17.1.2.2), or the caller's own patience.
    #[error("{server} did not answer by {transport} within {} s; is it a SIP server, and does a firewall drop its answers?", .waited.as_secs_f32())]
    Silent {
        /// Where to.
        server: SocketAddr,
        /// By what.
        transport: Transport,
        /// How long.
        waited: Duration,
    },
    /// The password was not believed.
    #[error("{server} refused the password of {user} for realm {realm:?} ({status}); check user name and password")]
    Password {
        /// Who asked for it.
        server: SocketAddr,
        /// The digest user name.
        user: String,
        /// The realm of the challenge.
        realm: String,
        /// 401 or 407, as last heard.
        status: u16,
    },
    /// A challenge without any algorithm that we know.
    #[error(
        "{server} asks ({status}) for credentials of a kind this client does not know: it knows Digest with SHA-256 and MD5"
    )]
    Challenge {
        /// Who asked.
        server: SocketAddr,
        /// 401 or 407.
        status: u16,
    },
    /// The registrar's final answer was no.
    #[error("{server} refused to register {aor}: {status} {reason}")]
    Refused {
        /// The registrar.
        server: SocketAddr,
        /// Who wanted to be registered.
        aor: String,
        /// Its status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// An answer that is not one: no way to go on from it.
    #[error("{server} answered in a way that is no SIP: {fault}")]
    Nonsense {
        /// Who.
        server: SocketAddr,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// RFC 3261 §21.5.4: the server said 503 and how long to leave it alone.
    #[error("{server} is overloaded and asked to be left alone for {wait_s} s more; try again then")]
    Overloaded {
        /// Who.
        server: SocketAddr,
        /// Seconds that are left.
        wait_s: u64,
    },
    /// An address that cannot be written to.
    #[error("{text:?} is no address: {reason}; write sip:name@domain or tel:+number")]
    Address {
        /// As it was given.
        text: String,
        /// What is wrong.
        reason: base::aor::AorError,
    },
    /// A header value or media type with octets that cannot stand there.
    #[error("{what} holds a line break or another control character; take it out")]
    Text {
        /// Which text.
        what: &'static str,
    },
    /// Larger than any SIP message may be.
    #[error("the message is {bytes} bytes long with its head, the limit is {max}; send less, or send it as a file")]
    TooLarge {
        /// How large it would be.
        bytes: usize,
        /// The ceiling.
        max: usize,
    },
    /// Too much waits already.
    #[error("{waiting} requests wait for {server} already; wait for their answers")]
    Full {
        /// Where to.
        server: SocketAddr,
        /// How many.
        waiting: usize,
    },
    /// The final answer to an invitation was no.
    #[error("{to} did not take the session: {status} {reason}")]
    Declined {
        /// Who was invited.
        to: String,
        /// The final status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// An invitation that rang for too long, and was taken back.
    #[error("{to} did not answer within {} s; the invitation was taken back", .waited.as_secs())]
    Unanswered {
        /// Who was invited.
        to: String,
        /// How long.
        waited: Duration,
    },
    /// An invitation that was taken back before we answered.
    #[error("{from} took the invitation back")]
    TakenBack {
        /// Who had invited us.
        from: String,
    },
    /// A session was agreed, but no messages can pass.
    #[error("no messages can pass between {peer} and us: {reason}")]
    NoTalk {
        /// The other one.
        peer: String,
        /// What failed.
        reason: String,
    },
    /// Asked after [`crate::Client::close`].
    #[error("the client is closed")]
    Closed,
}

impl ClientError {
    /// The status that the server gave, where it gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Password { status, .. }
            | Self::Challenge { status, .. }
            | Self::Refused { status, .. }
            | Self::Declined { status, .. } => Some(*status),
            Self::Overloaded { .. } => Some(503),
            Self::System(_)
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Silent { .. }
            | Self::Nonsense { .. }
            | Self::Address { .. }
            | Self::Text { .. }
            | Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::Unanswered { .. }
            | Self::TakenBack { .. }
            | Self::NoTalk { .. }
            | Self::Closed => None,
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::System(Arc::new(error))
    }
}
