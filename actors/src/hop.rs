//! Where a message came from and where it goes to: a listener and a peer, or a connection. 24 octets, no pointer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A connection of this process; never used twice while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// One hop towards a peer. A datagram's hop names the listener too: the answer leaves by the address that the request
/// came to (RFC 3581 §4), which matters on hosts with several.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop {
    ip: [u8; 16],
    conn: ConnId,
    port: u16,
    listener: u8,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    UdpV4,
    UdpV6,
    StreamV4,
    StreamV6,
}

impl Hop {
    /// A peer behind one of our UDP listeners.
    pub fn udp(listener: u8, peer: SocketAddr) -> Self {
        Self::new(peer, ConnId(0), listener, false)
    }

    /// A peer at the other end of a connection.
    pub fn stream(conn: ConnId, peer: SocketAddr) -> Self {
        Self::new(peer, conn, 0, true)
    }

    fn new(peer: SocketAddr, conn: ConnId, listener: u8, stream: bool) -> Self {
        let (ip, kind) = match (peer.ip().to_canonical(), stream) {
            (IpAddr::V4(ip), false) => (ip.to_ipv6_mapped().octets(), Kind::UdpV4),
            (IpAddr::V4(ip), true) => (ip.to_ipv6_mapped().octets(), Kind::StreamV4),
            (IpAddr::V6(ip), false) => (ip.octets(), Kind::UdpV6),
            (IpAddr::V6(ip), true) => (ip.octets(), Kind::StreamV6),
        };
        Self { ip, conn, port: peer.port(), listener, kind }
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        let ip = Ipv6Addr::from(self.ip);
        let ip = match self.kind {
            Kind::UdpV4 | Kind::StreamV4 => IpAddr::V4(ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED)),
            Kind::UdpV6 | Kind::StreamV6 => IpAddr::V6(ip),
        };
        SocketAddr::new(ip, self.port)
    }

    /// The connection, where there is one.
    pub fn conn(&self) -> Option<ConnId> {
        self.is_reliable().then_some(self.conn)
    }

    /// The UDP listener; 0 for connections.
    pub fn listener(&self) -> u8 {
        self.listener
    }

    /// Whether the transport repeats what was lost (RFC 3261 §17: timers A, E, G, and the waits D, I, J, K differ).
    pub fn is_reliable(&self) -> bool {
        matches!(self.kind, Kind::StreamV4 | Kind::StreamV6)
    }

    /// As a Via header names it.
    pub fn transport(&self) -> &'static str {
        if self.is_reliable() { "TCP" } else { "UDP" }
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport(), self.peer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_gives_back_what_it_was_made_of_and_stays_small() {
        for peer in ["127.0.0.1:5060", "[2001:db8::1]:5061"] {
            let peer: SocketAddr = peer.parse().unwrap();
            let (udp, tcp) = (Hop::udp(3, peer), Hop::stream(ConnId(9), peer));
            assert_eq!((udp.peer(), udp.listener(), udp.conn(), udp.is_reliable()), (peer, 3, None, false));
            assert_eq!((tcp.peer(), tcp.conn(), tcp.is_reliable()), (peer, Some(ConnId(9)), true));
        }
        assert_eq!(size_of::<Hop>(), 24);
    }
}
