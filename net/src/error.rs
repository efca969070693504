//! Why a door could not be opened.

use std::io;
use std::net::SocketAddr;

/// Opening a socket failed.
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
}
