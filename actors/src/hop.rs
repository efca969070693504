//! Where a message came from and where it goes to: a listener and a peer, or a connection. 24 octets, no pointer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use im::registrar::Transport;
use smallvec::SmallVec;

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

impl Kind {
    /// By their numbers.
    const ALL: [Self; 4] = [Self::UdpV4, Self::UdpV6, Self::StreamV4, Self::StreamV6];
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

    /// By what it is reached.
    pub fn carrier(&self) -> Transport {
        if self.is_reliable() { Transport::Tcp } else { Transport::Udp }
    }

    /// As octets, as few as there are: for tokens that others keep for us.
    pub fn octets(&self) -> SmallVec<[u8; 24]> {
        let mut octets = SmallVec::new();
        octets.push(self.kind as u8);
        octets.push(self.listener);
        octets.extend_from_slice(&self.port.to_be_bytes());
        if self.is_reliable() {
            octets.extend_from_slice(&self.conn.0.to_be_bytes());
        }
        match self.peer().ip() {
            IpAddr::V4(ip) => octets.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => octets.extend_from_slice(&ip.octets()),
        }
        octets
    }

    /// From such octets.
    pub fn of_octets(octets: &[u8]) -> Option<Self> {
        let (&[kind, listener, high, low], rest) = octets.split_first_chunk()?;
        let kind = *Kind::ALL.get(usize::from(kind))?;
        let is_stream = matches!(kind, Kind::StreamV4 | Kind::StreamV6);
        let (conn, rest) = if is_stream { rest.split_first_chunk()? } else { (&[0; 4], rest) };
        let ip = match <[u8; 4]>::try_from(rest) {
            Ok(ip) => IpAddr::from(ip),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(rest).ok()?),
        };
        let peer = SocketAddr::new(ip, u16::from_be_bytes([high, low]));
        let conn = ConnId(u32::from_be_bytes(*conn));
        Some(Self { kind, ..Self::new(peer, conn, listener, is_stream) })
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
            for hop in [udp, tcp] {
                let octets = hop.octets();
                assert_eq!(Hop::of_octets(&octets), Some(hop));
                assert_eq!(Hop::of_octets(&octets[..octets.len() - 1]), None);
            }
        }
        assert_eq!(size_of::<Hop>(), 24);
    }
}
