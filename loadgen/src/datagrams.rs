//! UDP links: one system call reads a batch, one sends a batch, and epoll is asked only when the sockets were empty.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use base::limits::{BATCHES_PER_TURN, DATAGRAM_BATCH};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use sip::Layout;
use socket2::{Domain, Protocol, Socket, Type};

use crate::mmsg::{self, Inbox, Wait};
use crate::wire::{Faults, Link, Listener, Post, timespec};

/// Octets that the kernel may hold for a socket each way: a burst of retransmissions from a server that comes back.
const BUFFER_BYTES: usize = 4 << 20;
/// Up to this many sockets are read without asking epoll first while they are busy.
const FEW: usize = 4;

/// UDP sockets that are turned together.
pub struct Datagrams {
    sockets: Vec<UdpSocket>,
    ready: Vec<Link>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    inbox: Inbox,
    layout: Layout,
    busy: bool,
    pub(crate) post: Post,
    pub(crate) faults: Faults,
}

impl Datagrams {
    /// Without a socket.
    ///
    /// # Errors
    /// The kernel gave no epoll.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            sockets: Vec::new(),
            ready: Vec::new(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(DATAGRAM_BATCH),
            inbox: Inbox::default(),
            layout: Layout::default(),
            busy: false,
            post: Post::default(),
            faults: Faults::default(),
        })
    }

    /// One more socket.
    ///
    /// # Errors
    /// Those of `bind`.
    pub fn open(&mut self, local: SocketAddr) -> io::Result<Link> {
        let socket = bind(local)?;
        let link = self.post.add_link();
        epoll::add(&self.epoll, &socket, EventData::new_u64(u64::from(link)), EventFlags::IN)?;
        self.sockets.push(socket);
        Ok(link)
    }

    /// Where a link is bound.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local(&self, link: Link) -> io::Result<SocketAddr> {
        self.sockets[link as usize].local_addr()
    }

    /// See [`crate::wire::Wire::turn`].
    pub(crate) fn turn(&mut self, wait: Duration, listener: &mut impl Listener) -> io::Result<usize> {
        self.flush()?;
        self.ready.clear();
        if self.busy && self.sockets.len() <= FEW {
            self.ready.extend((0..).take(self.sockets.len()));
        } else {
            self.await_any(wait)?;
        }
        let mut heard = self.take(listener)?;
        if heard == 0 && self.busy {
            self.busy = false;
            self.ready.clear();
            self.await_any(wait)?;
            heard = self.take(listener)?;
        }
        self.busy = heard > 0;
        self.flush()?;
        Ok(heard)
    }

    fn await_any(&mut self, wait: Duration) -> io::Result<()> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timespec(wait))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.ready.extend(self.events.iter().filter_map(|event| Link::try_from(event.data.u64()).ok()));
        Ok(())
    }

    fn take(&mut self, listener: &mut impl Listener) -> io::Result<usize> {
        let mut heard = 0;
        for &link in &self.ready {
            for _ in 0..BATCHES_PER_TURN {
                let taken = self.inbox.receive(&self.sockets[link as usize], Wait::Never)?;
                for at in 0..taken {
                    let (bytes, from) = self.inbox.datagram(at);
                    if sip::parse_datagram(bytes, &mut self.layout).is_ok() {
                        listener.hear(link, from, self.layout.view(bytes), &mut self.post);
                    } else {
                        self.faults.garbled += 1;
                    }
                }
                heard += taken;
                // A short batch means that the socket is empty.
                if taken < DATAGRAM_BATCH {
                    break;
                }
            }
        }
        Ok(heard)
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(link) = self.post.next_waiting() {
            let out = self.post.of(link);
            let mut start = 0;
            let parcels = out.parcels.iter().map(|parcel| {
                let bytes = &out.bytes[start..parcel.end];
                start = parcel.end;
                (bytes, parcel.to)
            });
            self.faults.unsent += mmsg::send(&self.sockets[link as usize], parcels)? as u64;
            out.bytes.clear();
            out.parcels.clear();
        }
        Ok(())
    }
}

/// A bound UDP socket with large buffers. It blocks: who must not wait says so with each call.
///
/// # Errors
/// Those of `socket` and `bind`.
pub fn bind(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel gives what it allows; less is no fault.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.bind(&local.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmsg::Peer;
    use sip::View;

    const OPTIONS: &[u8] =
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\n\
        To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn what_is_written_on_one_link_is_heard_on_the_other_and_may_be_answered_at_once() {
        let mut wire = Datagrams::new().unwrap();
        let (left, right) = (wire.open(loopback()).unwrap(), wire.open(loopback()).unwrap());
        let to = Peer::of(wire.local(right).unwrap());
        for _ in 0..100 {
            wire.post.write(left, to, |out| out.extend_from_slice(OPTIONS));
        }
        wire.post.write(left, to, |out| out.extend_from_slice(b"garbage"));
        let (mut asked, mut echoed) = (0, 0);
        let mut listener = |link: Link, from: Peer, message: View<'_>, post: &mut Post| {
            assert_eq!(message.bytes(), OPTIONS);
            if link == right {
                asked += 1;
                post.write(right, from, |out| out.extend_from_slice(OPTIONS));
            } else {
                echoed += 1;
            }
        };
        for _ in 0..200 {
            wire.turn(Duration::from_millis(10), &mut listener).unwrap();
        }
        assert_eq!((asked, echoed), (100, 100));
        assert_eq!(wire.faults, Faults { garbled: 1, unsent: 0, closed: 0 });
    }

    #[test]
    fn a_turn_without_traffic_ends_with_its_time() {
        let mut wire = Datagrams::new().unwrap();
        wire.open(loopback()).unwrap();
        let begun = std::time::Instant::now();
        let heard =
            wire.turn(Duration::from_micros(300), &mut |_: Link, _: Peer, _: View<'_>, _: &mut Post| {}).unwrap();
        assert_eq!(heard, 0);
        assert!(begun.elapsed() >= Duration::from_micros(300));
    }
}
