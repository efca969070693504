//! Our side of a session's description, and the connection that follows from it (RFC 4975 §8, RFC 6135).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use base::IdMaker;
use bytes::Bytes;
use msrp::{Scheme, session_uri};
use sdp::{Content, Offer, Origin, Ours, Role, Setup, Spoken, own_offer};
use tokio::net::TcpListener;

use crate::session::SessionOptions;
use crate::talk::Way;

/// The discard port: stands in the path of who cannot be connected to (RFC 6135 §4.2.2).
const DISCARD: u16 = 9;

/// Our side. It stays as long as the session, unless that moves to where we must be connected to and cannot be.
pub(crate) struct Side {
    /// Our MSRP URI.
    pub ours: String,
    host: String,
    port: u16,
    setup: Setup,
    listener: Option<Arc<TcpListener>>,
    spoken: Spoken,
    local: Option<IpAddr>,
}

impl Side {
    /// Opens a port where `setup` says that we can be connected to. `host` is our address.
    pub(crate) async fn new(host: IpAddr, local: Option<IpAddr>, setup: Setup, ids: &IdMaker) -> io::Result<Self> {
        let listener = match setup {
            Setup::Active => None,
            Setup::ActPass | Setup::Passive => Some(Arc::new(TcpListener::bind((host, 0)).await?)),
        };
        let port = listener.as_ref().map_or(Ok(DISCARD), |one| one.local_addr().map(|at| at.port()))?;
        let mut ours = Vec::new();
        // RFC 4975 §14.1: nobody guesses it.
        session_uri(&mut ours, Scheme::Msrp, &host.to_string(), port, ids.token().as_bytes());
        // RFC 8866 §5.2: numbers that fit into 63 bits.
        let spoken = Spoken::new(ids.next_u64() >> 1);
        let ours = String::from_utf8_lossy(&ours).into_owned();
        Ok(Self { ours, host: host.to_string(), port, setup, listener, spoken, local })
    }

    /// Whether we can be connected to.
    pub(crate) fn can_wait(&self) -> bool {
        self.listener.is_some()
    }

    /// Takes the place of `before` in the same session: what is said goes on from there (RFC 3264 §8).
    pub(crate) fn instead_of(self, before: &Self) -> Self {
        Self { spoken: before.spoken.clone(), ..self }
    }

    /// Our offer.
    pub(crate) fn offer(&mut self, options: &SessionOptions) -> Bytes {
        // RFC 6135 §4.2.2: passive is never offered.
        let setup = if self.setup == Setup::Active { Setup::Active } else { Setup::ActPass };
        self.say(setup, |ours| own_offer(ours, &content(options)))
    }

    /// Our answer.
    pub(crate) fn answer(&mut self, offer: &Offer, role: Role, options: &SessionOptions) -> Bytes {
        self.say(role.setup(), |ours| offer.own_answer(ours, &content(options)))
    }

    fn say(&mut self, setup: Setup, write: impl Fn(&Ours<'_>) -> Vec<u8>) -> Bytes {
        let (host, port, path) = (&*self.host, self.port, &*self.ours);
        let ours = |origin: Origin| Ours { origin, host, port, path, is_tls: false, setup };
        Bytes::copy_from_slice(self.spoken.say(|origin| write(&ours(origin))))
    }

    /// Who connects to whom. An offer of `active` that is answered otherwise leaves no port to wait at.
    pub(crate) fn way(&self, role: Role, theirs: &str) -> Way {
        match (role, &self.listener) {
            (Role::Passive, Some(listener)) => Way::Theirs(listener.clone()),
            (Role::Active, _) | (Role::Passive, None) => Way::Ours(theirs.to_owned(), self.local),
        }
    }
}

fn content(options: &SessionOptions) -> Content<'_> {
    Content {
        accept_types: &options.accept_types,
        accept_wrapped_types: "",
        max_size: Some(options.max_size()),
        attributes: &[],
    }
}
