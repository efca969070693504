//! The connection of a session: ours to make, or the peer's (RFC 4975 §5.4, RFC 6135).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use msrp::Path;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Which way the connection is made.
#[derive(Clone)]
pub(crate) enum Way {
    /// Ours to make: to the first URI of this path, from this address where one is set.
    Ours(String, Option<IpAddr>),
    /// The peer's: waited for.
    Theirs(Arc<TcpListener>),
}

/// Why nobody can connect to a path; nothing where it can be tried.
pub(crate) fn fault_of(path: &str) -> Option<String> {
    let path = match Path::parse(path.as_bytes()) {
        Ok(path) => path,
        Err(error) => return Some(format!("the path {path:?}: {error}")),
    };
    let first = path.first();
    if first.is_secure() {
        return Some("the other side wants TLS, which this client has not".to_owned());
    }
    first.port.is_none().then(|| format!("the path names no port at {}", String::from_utf8_lossy(first.host)))
}

/// Connects to the first URI of a path (RFC 4975 §5.4).
pub(super) async fn connect(path: &str, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, connect_to_path(path, local)).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect_to_path(text: &str, local: Option<IpAddr>) -> io::Result<TcpStream> {
    if let Some(fault) = fault_of(text) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, fault));
    }
    let path = Path::parse(text.as_bytes()).map_err(io::Error::other)?;
    let host = String::from_utf8_lossy(path.first().host).into_owned();
    let port = path.first().port.unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_nobody_can_connect_to_is_told_why() {
        for (path, words) in [
            ("msrps://bob.example.com:2855/x;tcp", "TLS"),
            ("msrp://bob.example.com/x;tcp", "no port"),
            ("nonsense", "the path"),
        ] {
            assert!(fault_of(path).is_some_and(|fault| fault.contains(words)), "{path}: {:?}", fault_of(path));
        }
        assert_eq!(fault_of("msrp://127.0.0.1:2855/x;tcp msrps://b:1/y;tcp"), None);
    }
}
