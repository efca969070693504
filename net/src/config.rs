//! Which doors are opened, and how wide.

use std::net::SocketAddr;
use std::time::Duration;

use base::limits;

/// Settings of the sockets.
#[derive(Clone, Debug)]
pub struct Config {
    /// SIP over UDP listens here.
    pub udp: Vec<SocketAddr>,
    /// SIP over TCP listens here.
    pub tcp: Vec<SocketAddr>,
    /// MSRP over TCP listens here.
    pub msrp: Vec<SocketAddr>,
    /// Connections of all listeners together.
    pub connections: usize,
    /// Connections of one source address.
    pub connections_per_source: usize,
    /// A connection that began a message has this long to send the rest.
    pub head_time: Duration,
    /// A connection over which nothing whole has come is closed after this.
    pub silent_time: Duration,
    /// A connection that carried something is kept this long without any octet.
    pub idle_time: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            msrp: Vec::new(),
            connections: limits::CONNECTIONS_MAX,
            connections_per_source: limits::CONNECTIONS_PER_SOURCE_MAX,
            head_time: limits::HEAD_TIME_MAX,
            silent_time: limits::SILENT_CONNECTION_MAX,
            idle_time: limits::IDLE_CONNECTION_MAX,
        }
    }
}
