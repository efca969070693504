//! Why a door could not be opened, or nobody is there to be asked.

use std::io;
use std::net::SocketAddr;

/// What could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Another process holds the port, or the address is not this machine's.
    #[error("cannot listen on {transport} {address}: {source}")]
    Listen {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It is not known who answers questions of the DNS.
    #[error("the system's name servers cannot be read: {source}")]
    Dns {
        /// What was wrong with them.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
