//! Our side of a session's description, and the connection that follows from it (RFC 4975 §8, RFC 6135).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base::IdMaker;
use bytes::Bytes;
use msrp::{Path, Scheme, session_uri};
use sdp::{Content, Offer, Origin, Ours, Role, Setup, own_offer};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::session::SessionOptions;
use crate::talk::Way;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// The discard port: stands in the path of who cannot be connected to (RFC 6135 §4.2.2).
const DISCARD: u16 = 9;

/// Our side.
pub(crate) struct Side {
    /// Our MSRP URI.
    pub ours: String,
    host: String,
    port: u16,
    setup: Setup,
    listener: Option<TcpListener>,
    origin: Origin,
    local: Option<IpAddr>,
}

impl Side {
    /// Opens a port where `setup` says that we can be connected to. `host` is our address.
    pub(crate) async fn new(host: IpAddr, local: Option<IpAddr>, setup: Setup, ids: &IdMaker) -> io::Result<Self> {
        let listener = match setup {
            Setup::Active => None,
            Setup::ActPass | Setup::Passive => Some(TcpListener::bind((host, 0)).await?),
        };
        let port = listener.as_ref().map_or(Ok(DISCARD), |one| one.local_addr().map(|at| at.port()))?;
        let mut ours = Vec::new();
        // RFC 4975 §14.1: nobody guesses it.
        session_uri(&mut ours, Scheme::Msrp, &host.to_string(), port, ids.token().as_bytes());
        // RFC 8866 §5.2: numbers that fit into 63 bits.
        let origin = Origin { id: ids.next_u64() >> 1, version: 1 };
        let ours = String::from_utf8_lossy(&ours).into_owned();
        Ok(Self { ours, host: host.to_string(), port, setup, listener, origin, local })
    }

    /// Our offer.
    pub(crate) fn offer(&self, options: &SessionOptions) -> Bytes {
        // RFC 6135 §4.2.2: passive is never offered.
        let setup = if self.setup == Setup::Active { Setup::Active } else { Setup::ActPass };
        own_offer(&self.said(setup), &content(options)).into()
    }

    /// Our answer.
    pub(crate) fn answer(&self, offer: &Offer, role: Role, options: &SessionOptions) -> Bytes {
        offer.own_answer(&self.said(role.setup()), &content(options)).into()
    }

    fn said(&self, setup: Setup) -> Ours<'_> {
        Ours { origin: self.origin, host: &self.host, port: self.port, path: &self.ours, is_tls: false, setup }
    }

    /// Connects, or gives the port to be connected to. An offer of `active` that is answered otherwise leaves no port.
    pub(crate) async fn way(self, role: Role, theirs: &str) -> io::Result<Way> {
        match (role, self.listener) {
            (Role::Passive, Some(listener)) => Ok(Way::Awaited(listener)),
            (Role::Active, _) | (Role::Passive, None) => {
                let stream = timeout(CONNECT, connect(theirs, self.local));
                let stream = stream.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                stream.set_nodelay(true)?;
                Ok(Way::Connected(stream))
            }
        }
    }
}

fn content(options: &SessionOptions) -> Content<'_> {
    Content {
        accept_types: &options.accept_types,
        accept_wrapped_types: "",
        max_size: Some(options.message_bytes),
        attributes: &[],
    }
}

/// Connects to the first URI of a path (RFC 4975 §5.4).
async fn connect(path: &str, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let path = Path::parse(path.as_bytes()).map_err(|error| invalid(format!("the path {path:?}: {error}")))?;
    let first = path.first();
    if first.is_secure() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the other side wants TLS, which this client has not"));
    }
    let host = String::from_utf8_lossy(first.host).into_owned();
    let Some(port) = first.port else { return Err(invalid(format!("the path names no port at {host}"))) };
    let addresses = lookup_host((host.trim_matches(['[', ']']), port)).await?;
    let mut fault = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in addresses {
        match connect_to(address, local).await {
            Ok(stream) => return Ok(stream),
            Err(error) => fault = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(fault)
}

async fn connect_to(address: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        socket.bind((local, 0).into())?;
    }
    socket.connect(address).await
}
