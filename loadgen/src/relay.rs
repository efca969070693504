//! The blind relay: the least that anything between two sockets must do. It looks at nothing, and what it costs is the
//! limit that servers are compared with.
//!
//! UDP: one socket; what comes from `to` goes to whoever else spoke last, all else goes to `to`. TCP: each connection
//! accepted gets one of its own to `to`, and octets are copied both ways.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::mmsg::{self, Inbox, Peer, Wait};

/// Octets of one read.
const READ_BYTES: usize = 64 * 1024;
const EVENTS: usize = 256;
const DOOR: u64 = u64::MAX;

/// Relays datagrams for ever.
///
/// # Errors
/// Those of the socket.
pub fn udp(socket: &UdpSocket, to: SocketAddr) -> io::Result<()> {
    let (to, mut client, mut inbox) = (Peer::of(to), None, Inbox::default());
    loop {
        let taken = inbox.receive(socket, Wait::First)?;
        let parcels = (0..taken).filter_map(|at| {
            let (bytes, from) = inbox.datagram(at);
            if from == to {
                Some((bytes, client?))
            } else {
                client = Some(from);
                Some((bytes, to))
            }
        });
        mmsg::send(socket, parcels)?;
    }
}

/// One direction's end: where it reads, and what its partner could not take.
struct End {
    socket: TcpStream,
    partner: usize,
    /// What is still to be written into this socket.
    rest: Vec<u8>,
}

/// The connections of a TCP relay, the two of a pair side by side.
struct Ends {
    ends: Vec<Option<End>>,
    epoll: OwnedFd,
    buffer: Vec<u8>,
}

/// Relays connections for ever.
///
/// # Errors
/// Those of the listening socket and of epoll.
pub fn tcp(door: &TcpListener, to: SocketAddr) -> io::Result<()> {
    door.set_nonblocking(true)?;
    let mut ends = Ends { ends: Vec::new(), epoll: epoll::create(CreateFlags::CLOEXEC)?, buffer: vec![0; READ_BYTES] };
    epoll::add(&ends.epoll, door, EventData::new_u64(DOOR), EventFlags::IN)?;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&ends.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            let Some(at) = usize::try_from(data).ok().filter(|_| data != DOOR) else {
                while let Ok((client, _)) = door.accept() {
                    ends.pair(client, to)?;
                }
                continue;
            };
            if flags.contains(EventFlags::OUT) && !ends.drain(at) {
                ends.close(at);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) && !ends.copy(at) {
                ends.close(at);
            }
        }
    }
}

impl Ends {
    fn pair(&mut self, client: TcpStream, to: SocketAddr) -> io::Result<()> {
        // A callee who is not there costs the caller his connection.
        let Ok(server) = TcpStream::connect(to) else { return Ok(()) };
        for socket in [client, server] {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let at = self.ends.len();
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(at as u64), interest)?;
            self.ends.push(Some(End { socket, partner: at ^ 1, rest: Vec::new() }));
        }
        Ok(())
    }

    /// Copies what an end has to its partner; whether both live.
    fn copy(&mut self, at: usize) -> bool {
        loop {
            let Some(end) = &mut self.ends[at] else { return true };
            let partner = end.partner;
            // A partner who takes nothing stops this end: TCP does the rest.
            if self.ends[partner].as_ref().is_some_and(|partner| !partner.rest.is_empty()) {
                return true;
            }
            let Some(end) = &mut self.ends[at] else { return true };
            let taken = match end.socket.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            let Some(to) = &mut self.ends[partner] else { return false };
            match to.socket.write(&self.buffer[..taken]) {
                Ok(sent) => to.rest.extend_from_slice(&self.buffer[sent..taken]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    to.rest.extend_from_slice(&self.buffer[..taken]);
                }
                Err(_) => return false,
            }
            if taken < READ_BYTES {
                return true;
            }
        }
    }

    /// Writes what an end still owes, then lets its partner read again; whether both live.
    fn drain(&mut self, at: usize) -> bool {
        let Some(end) = &mut self.ends[at] else { return true };
        if end.rest.is_empty() {
            return true;
        }
        match end.socket.write(&end.rest) {
            Ok(sent) => {
                end.rest.drain(..sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        let (partner, empty) = (end.partner, end.rest.is_empty());
        !empty || self.copy(partner)
    }

    fn close(&mut self, at: usize) {
        self.ends[at] = None;
        self.ends[at ^ 1] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(PATIENCE).unwrap();
        socket
    }

    #[test]
    fn datagrams_go_to_the_callee_and_his_go_to_the_caller() {
        let (relay, caller, callee) = (socket(), socket(), socket());
        relay.set_read_timeout(None).unwrap();
        let (at, to) = (relay.local_addr().unwrap(), callee.local_addr().unwrap());
        std::thread::spawn(move || udp(&relay, to));
        let mut buffer = [0; 100];
        callee.send_to(b"to nobody yet: dropped", at).unwrap();
        for n in 0..200_u32 {
            caller.send_to(&n.to_be_bytes(), at).unwrap();
            let (length, from) = callee.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&n.to_be_bytes()[..], at));
            callee.send_to(b"answer", at).unwrap();
            assert_eq!(caller.recv_from(&mut buffer).unwrap(), (6, at));
        }
    }

    #[test]
    fn connections_are_copied_both_ways_even_when_one_side_is_slow() {
        let (door, callee) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (at, to) = (door.local_addr().unwrap(), callee.local_addr().unwrap());
        std::thread::spawn(move || tcp(&door, to));
        let mut caller = TcpStream::connect(at).unwrap();
        let (mut far, _) = callee.accept().unwrap();
        caller.set_read_timeout(PATIENCE).unwrap();
        far.set_read_timeout(PATIENCE).unwrap();
        // More than the buffers of both sockets hold: the relay must stop reading, and go on later.
        let text: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
        let sent = text.clone();
        let mut writer = caller.try_clone().unwrap();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        let mut heard = vec![0; text.len()];
        far.read_exact(&mut heard).unwrap();
        writing.join().unwrap();
        assert!(heard == text);
        far.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        caller.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        drop(far);
        assert_eq!(caller.read(&mut answer).unwrap(), 0, "the end of one side is the end of the other");
    }
}
