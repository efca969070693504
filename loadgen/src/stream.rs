//! TCP links: non-blocking connections under one epoll, whole messages cut out of what each read gave, one write a
//! link and turn.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use sip::{Layout, Progress, Step};
use socket2::{Domain, Protocol, Socket, Type};

use crate::mmsg::Peer;
use crate::wire::{Faults, Link, Listener, Post, timespec};

/// Octets of one read.
const READ_BYTES: usize = 64 * 1024;
/// Events of one wait.
const EVENTS: usize = 256;
/// A server that does not take a connection within this time does not take it.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The mark of the listening socket among the links.
const DOOR: u64 = u64::MAX;

struct Conn {
    socket: Option<TcpStream>,
    local: SocketAddr,
    /// The beginning of a message whose end has not come.
    rest: Vec<u8>,
    progress: Progress,
    /// The socket took less than we had.
    blocked: bool,
}

/// TCP connections that are turned together.
pub struct Streams {
    conns: Vec<Conn>,
    door: Option<TcpListener>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    layout: Layout,
    pub(crate) post: Post,
    pub(crate) faults: Faults,
}

impl Streams {
    /// Without a connection.
    ///
    /// # Errors
    /// The kernel gave no epoll.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            conns: Vec::new(),
            door: None,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES],
            layout: Layout::default(),
            post: Post::default(),
            faults: Faults::default(),
        })
    }

    /// One more connection to a server.
    ///
    /// # Errors
    /// Those of `connect`.
    pub fn connect(&mut self, server: SocketAddr) -> io::Result<Link> {
        self.adopt(TcpStream::connect_timeout(&server, CONNECT_TIME)?)
    }

    /// Accepts connections from now on; where it listens.
    ///
    /// # Errors
    /// Those of `bind` and `listen`.
    pub fn listen(&mut self, local: SocketAddr) -> io::Result<SocketAddr> {
        let door = listener(local)?;
        door.set_nonblocking(true)?;
        epoll::add(&self.epoll, &door, EventData::new_u64(DOOR), EventFlags::IN)?;
        let local = door.local_addr()?;
        self.door = Some(door);
        Ok(local)
    }

    /// A link's address on our side.
    ///
    /// # Errors
    /// None: it is remembered.
    pub fn local(&self, link: Link) -> io::Result<SocketAddr> {
        Ok(self.conns[link as usize].local)
    }

    fn adopt(&mut self, socket: TcpStream) -> io::Result<Link> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        let link = self.post.add_link();
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(u64::from(link)), interest)?;
        self.conns.push(Conn {
            socket: Some(socket),
            local,
            rest: Vec::new(),
            progress: Progress::default(),
            blocked: false,
        });
        Ok(link)
    }

    /// See [`crate::wire::Wire::turn`].
    pub(crate) fn turn(&mut self, wait: Duration, listener: &mut impl Listener) -> io::Result<usize> {
        self.flush();
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timespec(wait))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = std::mem::take(&mut self.events);
        let mut heard = 0;
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            let Ok(link) = Link::try_from(data) else {
                self.accept()?;
                continue;
            };
            if flags.contains(EventFlags::OUT) && self.conns[link as usize].blocked {
                self.write(link);
            }
            if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                heard += self.read(link, listener);
            }
        }
        self.events = events;
        self.flush();
        Ok(heard)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let Some(Ok((socket, _))) = self.door.as_ref().map(TcpListener::accept) else { return Ok(()) };
            self.adopt(socket)?;
        }
    }

    fn read(&mut self, link: Link, listener: &mut impl Listener) -> usize {
        let mut heard = 0;
        loop {
            let conn = &mut self.conns[link as usize];
            let Some(socket) = conn.socket.as_mut() else { return heard };
            let taken = match socket.read(&mut self.buffer) {
                Ok(0) => {
                    self.close(link);
                    return heard;
                }
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return heard,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.close(link);
                    return heard;
                }
            };
            heard += self.cut(link, taken, listener);
            // epoll(7): a short read of a stream means that there is no more; the next octet makes a new edge.
            if taken < READ_BYTES {
                return heard;
            }
        }
    }

    /// Whole messages out of what was read, with what was left of the last read before it.
    fn cut(&mut self, link: Link, taken: usize, listener: &mut impl Listener) -> usize {
        let conn = &mut self.conns[link as usize];
        let mut rest = std::mem::take(&mut conn.rest);
        let mut progress = std::mem::take(&mut conn.progress);
        let joined = !rest.is_empty();
        if joined {
            rest.extend_from_slice(&self.buffer[..taken]);
        }
        let bytes: &[u8] = if joined { &rest } else { &self.buffer[..taken] };
        let (mut at, mut heard, mut broken) = (0, 0, false);
        while at < bytes.len() {
            match sip::parse_stream(&bytes[at..], &mut progress, &mut self.layout) {
                Ok(Step::More) => break,
                Ok(Step::Ping { used }) => {
                    // RFC 5626 §4.4.1: a double CRLF is answered with a single one.
                    self.post.write(link, Peer::default(), |out| out.extend_from_slice(b"\r\n"));
                    at += used;
                }
                Ok(Step::Skip { used }) => at += used,
                Ok(Step::Message { used }) => {
                    let message = &bytes[at..at + used];
                    listener.hear(link, Peer::default(), self.layout.view(message), &mut self.post);
                    heard += 1;
                    at += used;
                }
                Err(_) => {
                    self.faults.garbled += 1;
                    broken = true;
                    break;
                }
            }
        }
        if joined {
            rest.drain(..at);
        } else {
            rest.extend_from_slice(&self.buffer[at..taken]);
        }
        let conn = &mut self.conns[link as usize];
        (conn.rest, conn.progress) = (rest, progress);
        if broken {
            self.close(link);
        }
        heard
    }

    fn close(&mut self, link: Link) {
        let conn = &mut self.conns[link as usize];
        if conn.socket.take().is_some() {
            self.faults.closed += 1;
        }
        conn.rest = Vec::new();
    }

    fn write(&mut self, link: Link) {
        let conn = &mut self.conns[link as usize];
        let out = self.post.of(link);
        out.parcels.clear();
        conn.blocked = false;
        let Some(socket) = conn.socket.as_mut() else {
            out.bytes.clear();
            return;
        };
        let mut sent = 0;
        while sent < out.bytes.len() {
            match socket.write(&out.bytes[sent..]) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    conn.blocked = true;
                    break;
                }
                Err(_) => {
                    out.bytes.clear();
                    self.close(link);
                    return;
                }
            }
        }
        out.bytes.drain(..sent);
    }

    fn flush(&mut self) {
        while let Some(link) = self.post.next_waiting() {
            if !self.conns[link as usize].blocked {
                self.write(link);
            }
        }
    }
}

/// A listening socket whose port may be taken again at once.
///
/// # Errors
/// Those of `socket`, `bind` and `listen`.
pub fn listener(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}
