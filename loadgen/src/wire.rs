//! The generator's ways out and in, datagrams or streams, under one face.
//!
//! One thread turns it: send what was written, take what came, hand each message to a listener that may write more,
//! send that, and sleep (to the microsecond) only when nothing came. A link is a socket: its number is what the crowd
//! knows of it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::Timespec;
use sip::View;

use crate::datagrams::Datagrams;
use crate::mmsg::{Parcel, Peer};
use crate::stream::Streams;

/// The number of a socket.
pub type Link = u32;

/// The two transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams, repeated by timer E of RFC 3261 §17.1.2.
    Udp,
    /// Connections, not repeated.
    Tcp,
}

impl Transport {
    /// As in Via.
    pub fn in_via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// What one link is about to send.
#[derive(Default)]
pub struct Outgoing {
    /// All of it, one message behind the other.
    pub bytes: Vec<u8>,
    /// Where each datagram ends and goes; of a stream unused.
    pub parcels: Vec<Parcel>,
    queued: bool,
}

/// What leaves at the next flush, by link.
#[derive(Default)]
pub struct Post {
    links: Vec<Outgoing>,
    waiting: Vec<Link>,
}

impl Post {
    /// Makes room for one more link and gives its number.
    pub fn add_link(&mut self) -> Link {
        self.links.push(Outgoing::default());
        Link::try_from(self.links.len() - 1).unwrap_or(Link::MAX)
    }

    /// Lets `write` append one message to what leaves by a link; `to` matters to datagrams only.
    pub fn write<T>(&mut self, link: Link, to: Peer, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let out = &mut self.links[link as usize];
        let result = write(&mut out.bytes);
        out.parcels.push(Parcel { end: out.bytes.len(), to });
        if !out.queued {
            out.queued = true;
            self.waiting.push(link);
        }
        result
    }

    /// A link with something to send, once for all that it has.
    pub(crate) fn next_waiting(&mut self) -> Option<Link> {
        let link = self.waiting.pop()?;
        self.links[link as usize].queued = false;
        Some(link)
    }

    /// What one link has to send.
    pub(crate) fn of(&mut self, link: Link) -> &mut Outgoing {
        &mut self.links[link as usize]
    }
}

/// What the sockets met that no message tells.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Faults {
    /// Messages that could not be parsed.
    pub garbled: u64,
    /// Datagrams that the kernel would not take.
    pub unsent: u64,
    /// Connections that the other side ended.
    pub closed: u64,
}

/// Who is told what came: the link, its sender, the message; it may answer at once.
pub trait Listener {
    /// One whole message.
    fn hear(&mut self, link: Link, from: Peer, message: View<'_>, post: &mut Post);
}

impl<F: FnMut(Link, Peer, View<'_>, &mut Post)> Listener for F {
    fn hear(&mut self, link: Link, from: Peer, message: View<'_>, post: &mut Post) {
        self(link, from, message, post);
    }
}

/// Sockets of one transport.
pub enum Wire {
    /// UDP.
    Udp(Box<Datagrams>),
    /// TCP.
    Tcp(Box<Streams>),
}

impl Wire {
    /// With no socket yet.
    ///
    /// # Errors
    /// The kernel gave no epoll.
    pub fn new(transport: Transport) -> io::Result<Self> {
        Ok(match transport {
            Transport::Udp => Self::Udp(Box::new(Datagrams::new()?)),
            Transport::Tcp => Self::Tcp(Box::new(Streams::new()?)),
        })
    }

    /// Opens a link to `server`: a socket on `local` (an ephemeral port when it says 0), or a connection.
    ///
    /// # Errors
    /// Those of `bind` and `connect`.
    pub fn open(&mut self, server: SocketAddr, local: SocketAddr) -> io::Result<Link> {
        match self {
            Self::Udp(datagrams) => datagrams.open(local),
            Self::Tcp(streams) => streams.connect(server),
        }
    }

    /// Accepts connections at `local`, each a link of its own; over UDP the same as [`Wire::open`].
    ///
    /// # Errors
    /// Those of `bind`.
    pub fn listen(&mut self, local: SocketAddr) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(datagrams) => datagrams.open(local).and_then(|link| datagrams.local(link)),
            Self::Tcp(streams) => streams.listen(local),
        }
    }

    /// The address of a link on our side.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local(&self, link: Link) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(datagrams) => datagrams.local(link),
            Self::Tcp(streams) => streams.local(link),
        }
    }

    /// What is to be sent.
    pub fn post(&mut self) -> &mut Post {
        match self {
            Self::Udp(datagrams) => &mut datagrams.post,
            Self::Tcp(streams) => &mut streams.post,
        }
    }

    /// One turn: flush, take, hear, flush. Sleeps at most `wait`, and only when nothing came at once. How many
    /// messages were heard.
    ///
    /// # Errors
    /// Those of the sockets that are not a peer's doing.
    pub fn turn(&mut self, wait: Duration, listener: &mut impl Listener) -> io::Result<usize> {
        match self {
            Self::Udp(datagrams) => datagrams.turn(wait, listener),
            Self::Tcp(streams) => streams.turn(wait, listener),
        }
    }

    /// What went wrong so far.
    pub fn faults(&self) -> Faults {
        match self {
            Self::Udp(datagrams) => datagrams.faults,
            Self::Tcp(streams) => streams.faults,
        }
    }
}

/// A duration as epoll takes it.
pub(crate) fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(wait.subsec_nanos()) }
}
