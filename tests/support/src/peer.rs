//! A scripted SIP peer: it sends the octets that it is told to and says what came. It repeats nothing and corrects
//! nothing, so that faults can be sent too.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::wire::{self, Heard};

/// How long a peer waits for what must come: wide, for debug builds on busy machines.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// One socket and what came out of it.
#[derive(Debug)]
pub struct Peer {
    line: Line,
    server: SocketAddr,
    /// Heard and not yet asked for.
    heard: VecDeque<Heard>,
}

#[derive(Debug)]
enum Line {
    Udp(UdpSocket),
    Tcp(TcpStream, Vec<u8>),
}

impl Peer {
    /// From 127.0.0.1 by UDP.
    pub fn udp(server: SocketAddr) -> Self {
        Self::udp_from(IpAddr::V4(Ipv4Addr::LOCALHOST), server)
    }

    /// From another address of this machine: trouble comes from 127.0.0.9, so that a limit per source hits nobody else.
    ///
    /// # Panics
    /// When the address is not ours.
    pub fn udp_from(local: IpAddr, server: SocketAddr) -> Self {
        Self::udp_at(SocketAddr::new(local, 0), server)
    }

    /// From a port that others know.
    ///
    /// # Panics
    /// When the address is not ours, or somebody has the port.
    pub fn udp_at(local: SocketAddr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(local).unwrap_or_else(|fault| panic!("{local}: {fault}"));
        Self { line: Line::Udp(socket), server, heard: VecDeque::new() }
    }

    /// By TCP.
    ///
    /// # Panics
    /// When the server takes no connection.
    pub fn tcp(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap_or_else(|fault| panic!("no connection to {server}: {fault}"));
        stream.set_nodelay(true).expect("a TCP socket has this option");
        Self { line: Line::Tcp(stream, Vec::new()), server, heard: VecDeque::new() }
    }

    /// Where this peer is.
    ///
    /// # Panics
    /// Never while the socket lives.
    pub fn local(&self) -> SocketAddr {
        let local = match &self.line {
            Line::Udp(socket) => socket.local_addr(),
            Line::Tcp(stream, _) => stream.local_addr(),
        };
        local.expect("an open socket has an address")
    }

    /// As Via says it.
    pub fn transport(&self) -> &'static str {
        match self.line {
            Line::Udp(_) => "UDP",
            Line::Tcp(..) => "TCP",
        }
    }

    /// Sends these octets: one datagram, or a piece of the stream. A connection that the server has closed takes
    /// nothing and says nothing: ask [`Peer::is_closed`].
    pub fn send(&mut self, bytes: &[u8]) {
        let sent = match &mut self.line {
            Line::Udp(socket) => socket.send_to(bytes, self.server).map(|_| ()),
            Line::Tcp(stream, _) => stream.write_all(bytes),
        };
        if let Err(fault) = sent {
            let closed = matches!(fault.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            assert!(closed || fault.kind() == ErrorKind::ConnectionRefused, "sending to {}: {fault}", self.server);
        }
    }

    /// The next message, if one comes in time.
    pub fn hear(&mut self, within: Duration) -> Option<Heard> {
        self.hear_where(within, |_| true)
    }

    /// The next message of a kind, if one comes in time; others wait until they are asked for.
    pub fn hear_where(&mut self, within: Duration, wanted: impl Fn(&Heard) -> bool) -> Option<Heard> {
        let end = Instant::now() + within;
        loop {
            if let Some(at) = self.heard.iter().position(&wanted) {
                return self.heard.remove(at);
            }
            let left = end.checked_duration_since(Instant::now())?;
            self.read(left.max(Duration::from_millis(1)));
        }
    }

    /// The next final response, which must be this.
    ///
    /// # Panics
    /// When another comes, or none.
    pub fn expect_status(&mut self, status: u16) -> Heard {
        let is_final = |heard: &Heard| heard.status().is_some_and(|status| status >= 200);
        let heard = self.hear_where(PATIENCE, is_final).unwrap_or_else(|| panic!("no response; {status} was due"));
        assert_eq!(heard.status(), Some(status), "{heard}");
        heard
    }

    /// The next request of this method.
    ///
    /// # Panics
    /// When none comes.
    pub fn expect_request(&mut self, method: &str) -> Heard {
        let heard = self.hear_where(PATIENCE, |heard| heard.method() == Some(method));
        heard.unwrap_or_else(|| panic!("no {method} came; waiting: {:?}", self.heard))
    }

    /// Sees that nothing comes for so long.
    ///
    /// # Panics
    /// When something does.
    pub fn expect_silence(&mut self, for_so_long: Duration) {
        if let Some(heard) = self.hear(for_so_long) {
            panic!("nothing was due, and this came:\n{heard}");
        }
    }

    /// Whether the server closes the connection within this time.
    ///
    /// # Panics
    /// For UDP, which has no connection.
    pub fn is_closed(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let Line::Tcp(stream, _) = &mut self.line else { panic!("UDP is not closed by anybody") };
        let mut room = [0; 4_096];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("a time to wait");
            match stream.read(&mut room) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(fault) if is_late(fault.kind()) => return false,
                Err(_) => return true,
            }
        }
        false
    }

    /// Answers a request: Via, From, To, Call-ID and CSeq as it came, a tag in To (RFC 3261 §8.2.6.2).
    pub fn answer(&mut self, request: &Heard, status: u16, reason: &str) {
        let mut answer = format!("SIP/2.0 {status} {reason}\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in request.headers(name) {
                let tag = if name == "To" && request.parameter("to", "tag").is_none() { ";tag=peer" } else { "" };
                answer += &format!("{name}: {value}{tag}\r\n");
            }
        }
        answer += "Content-Length: 0\r\n\r\n";
        self.send(answer.as_bytes());
    }

    fn read(&mut self, within: Duration) {
        let mut room = vec![0; 65_536];
        let read = match &mut self.line {
            Line::Udp(socket) => {
                socket.set_read_timeout(Some(within)).expect("a time to wait");
                socket.recv(&mut room)
            }
            Line::Tcp(stream, _) => {
                stream.set_read_timeout(Some(within)).expect("a time to wait");
                stream.read(&mut room)
            }
        };
        match (read, &mut self.line) {
            (Ok(0), Line::Tcp(..)) => std::thread::sleep(within.min(Duration::from_millis(20))), // closed
            (Ok(length), Line::Udp(_)) => self.heard.push_back(Heard { raw: room[..length].to_vec() }),
            (Ok(length), Line::Tcp(_, stream)) => {
                stream.extend_from_slice(&room[..length]);
                while let Some((used, message)) = wire::framed(stream) {
                    stream.drain(..used);
                    self.heard.extend(message);
                }
            }
            (Err(fault), _) if is_late(fault.kind()) => {}
            // The server was killed: what was sent came back as an error, or the connection broke.
            (Err(_), _) => std::thread::sleep(within.min(Duration::from_millis(20))),
        }
    }
}

fn is_late(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_waits_in_order() {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut peer = Peer::udp(far.local_addr().unwrap());
        for line in ["SIP/2.0 100 Trying", "MESSAGE sip:a SIP/2.0", "SIP/2.0 200 OK"] {
            far.send_to(format!("{line}\r\n\r\n").as_bytes(), peer.local()).unwrap();
        }
        peer.expect_status(200);
        peer.expect_request("MESSAGE");
        assert_eq!(peer.hear(PATIENCE).unwrap().status(), Some(100));
        peer.expect_silence(Duration::from_millis(20));
    }

    #[test]
    fn an_answer_has_what_the_request_gave() {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut peer = Peer::udp(far.local_addr().unwrap());
        let raw = b"MESSAGE sip:a SIP/2.0\r\nVia: one\r\nVia: two\r\nFrom: <f>;tag=1\r\nTo: <t>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n";
        peer.answer(&Heard { raw: raw.to_vec() }, 200, "OK");
        let mut room = [0; 1_000];
        let length = far.recv(&mut room).unwrap();
        let wanted = "SIP/2.0 200 OK\r\nVia: one\r\nVia: two\r\nFrom: <f>;tag=1\r\nTo: <t>;tag=peer\r\nCall-ID: c\r\n\
            CSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(std::str::from_utf8(&room[..length]).unwrap(), wanted);
    }
}
