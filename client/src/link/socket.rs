//! The socket of a link: datagrams or one stream, read message by message, written without ever waiting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use base::limits::{DATAGRAM_BYTES_MAX, DIAL_TIME_MAX, OUTBOX_BYTES_MAX};
use sip::{Layout, ParseError, Progress, Step, parse_datagram, parse_stream};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::account::Transport;

/// An open socket and what has been read from it.
pub(super) enum Socket {
    /// Connected: the system lets in nothing but the server's datagrams, and says when nobody listens there.
    Udp {
        socket: UdpSocket,
        read: Vec<u8>,
    },
    Tcp(Stream),
}

/// A connection with its two buffers.
pub(super) struct Stream {
    socket: TcpStream,
    read: Vec<u8>,
    /// Octets of `read` that have been taken.
    taken: usize,
    progress: Progress,
    unsent: Vec<u8>,
}

/// What stands next in what was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A whole message, at this place of [`Socket::read`].
    Message(Range<usize>),
    /// Something that cannot be read; on a stream nothing can be read behind it.
    Fault(Range<usize>, ParseError),
    /// Line ends between messages: the answer to a ping.
    Blank(Range<usize>),
}

impl Socket {
    /// Opens it; gives the local address that the server sees, if nothing stands between.
    pub(super) async fn open(
        server: SocketAddr,
        transport: Transport,
        local: Option<IpAddr>,
    ) -> io::Result<(Self, SocketAddr)> {
        let any = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind((local.unwrap_or(any), 0)).await?;
                socket.connect(server).await?;
                let local = socket.local_addr()?;
                Ok((Self::Udp { socket, read: vec![0; DATAGRAM_BYTES_MAX] }, local))
            }
            Transport::Tcp => {
                let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                if let Some(local) = local {
                    socket.bind((local, 0).into())?;
                }
                let connecting = tokio::time::timeout(DIAL_TIME_MAX, socket.connect(server));
                let socket = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                socket.set_nodelay(true)?;
                let local = socket.local_addr()?;
                let stream =
                    Stream { socket, read: Vec::new(), taken: 0, progress: Progress::default(), unsent: Vec::new() };
                Ok((Self::Tcp(stream), local))
            }
        }
    }

    /// Waits until there is something to read, or room for what waits to be written.
    pub(super) async fn ready(&self) -> io::Result<()> {
        match self {
            // That nobody listens is no datagram: the system says it by an error alone.
            Self::Udp { socket, .. } => socket.ready(Interest::READABLE | Interest::ERROR).await.map(drop),
            Self::Tcp(stream) if stream.unsent.is_empty() => stream.socket.readable().await,
            Self::Tcp(stream) => stream.socket.ready(Interest::READABLE | Interest::WRITABLE).await.map(drop),
        }
    }

    /// Sends now what the socket takes; the rest of a stream waits for [`Socket::flush`].
    ///
    /// Refused when too much waits already. A datagram that finds no room is lost, as the network loses others.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp { socket, .. } => {
                // What is refused here is an earlier datagram, of which the host has told since: this one comes next.
                let sent = match socket.try_send(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.try_send(bytes),
                    other => other,
                };
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    other => other.map(drop),
                }
            }
            Self::Tcp(stream) => {
                if stream.unsent.len() + bytes.len() > OUTBOX_BYTES_MAX {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not read what it is sent"));
                }
                stream.unsent.extend_from_slice(bytes);
                self.flush()
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        while !stream.unsent.is_empty() {
            match stream.socket.try_write(&stream.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(stream.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next thing that has come, if there is one. An end of the stream is [`io::ErrorKind::UnexpectedEof`].
    pub(super) fn next(&mut self, layout: &mut Layout) -> io::Result<Option<Frame>> {
        let read = match self {
            Self::Udp { socket, read } => refusal(socket).and_then(|()| {
                let count = socket.try_recv(read)?;
                Ok(match parse_datagram(&read[..count], layout) {
                    Ok(()) => Frame::Message(0..count),
                    Err(error) => Frame::Fault(0..count, error),
                })
            }),
            Self::Tcp(stream) => stream.next(layout),
        };
        match read {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The octets that a frame names, until the next is asked for.
    pub(super) fn read(&self, place: &Range<usize>) -> &[u8] {
        match self {
            Self::Udp { read, .. } => &read[place.clone()],
            Self::Tcp(stream) => &stream.read[place.clone()],
        }
    }
}

/// What the host has said of an earlier datagram, once.
fn refusal(socket: &UdpSocket) -> io::Result<()> {
    let taken = socket.try_io(Interest::ERROR, || match socket.take_error()? {
        Some(error) => Err(error),
        None => Err(io::ErrorKind::WouldBlock.into()),
    });
    match taken {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

impl Stream {
    fn next(&mut self, layout: &mut Layout) -> io::Result<Frame> {
        loop {
            let waiting = &self.read[self.taken..];
            let start = self.taken;
            match parse_stream(waiting, &mut self.progress, layout) {
                Ok(Step::More) => self.fill()?,
                Ok(Step::Ping { used } | Step::Skip { used }) => {
                    self.taken += used;
                    return Ok(Frame::Blank(start..self.taken));
                }
                Ok(Step::Message { used }) => {
                    self.taken += used;
                    return Ok(Frame::Message(start..self.taken));
                }
                Err(error) => {
                    self.taken = self.read.len();
                    return Ok(Frame::Fault(start..self.taken, error));
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.read.drain(..self.taken);
        self.taken = 0;
        self.read.reserve(4_096);
        match self.socket.try_read_buf(&mut self.read)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")),
            _ => Ok(()),
        }
    }
}
