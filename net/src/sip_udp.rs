//! SIP over UDP: datagrams read and written 64 at a time by one system call each (`fast-path.md` §1).
//!
//! A turn: `recvmmsg`, decide all, `sendmmsg` all; again while the batch was full, four times at most, then yield.

#![allow(unsafe_code)] // decisions D25: recvmmsg and sendmmsg have no safe face; each block says why it is sound

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actors::hop::Hop;
use actors::house::House;
use actors::metrics::Count;
use actors::router;
use actors::turn::{self, Datagram, DatagramSink};
use base::limits::{BATCHES_PER_TURN, DATAGRAM_BATCH, DATAGRAM_BYTES_MAX};
use sip::Layout;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Reads one listener's socket of one shard until it is dropped. Runs on the shard's thread.
pub async fn serve(socket: StdSocket, listener: u8, house: Arc<House>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let mut batch = Batch::new();
    let mut layout = Box::<Layout>::default();
    loop {
        socket.readable().await?;
        for _ in 0..BATCHES_PER_TURN {
            let mut count = 0;
            let outcome = socket.try_io(Interest::READABLE, || {
                count = batch.receive(socket.as_raw_fd())?;
                // A short batch means an empty socket: saying so clears the readiness without another call.
                if count < DATAGRAM_BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            if count > 0 {
                let now = house.now();
                turn::fill(|turn| {
                    for n in 0..count {
                        let Some((bytes, peer)) = batch.datagram(n) else { continue };
                        let from = Hop::udp(listener, peer);
                        let decide = || router::datagram(&house, turn, &mut layout, bytes, from, now);
                        if catch_unwind(AssertUnwindSafe(decide)).is_err() {
                            turn.counts.add(Count::Panics);
                        }
                    }
                });
                turn::flush();
            }
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // ICMP errors of earlier datagrams come back here; the socket is good.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Room for one batch of datagrams, and the lists that the kernel wants.
struct Batch {
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    lengths: [usize; DATAGRAM_BATCH],
}

impl Batch {
    fn new() -> Self {
        Self {
            // Pages that no datagram touches take no memory.
            buffers: vec![0; DATAGRAM_BATCH * DATAGRAM_BYTES_MAX],
            // SAFETY: sockaddr_storage is plain old data, for which all zeros is a value.
            names: vec![unsafe { zeroed() }; DATAGRAM_BATCH],
            lengths: [0; DATAGRAM_BATCH],
        }
    }

    /// How many datagrams came; at most [`DATAGRAM_BATCH`].
    fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        let mut slices: [MaybeUninit<libc::iovec>; DATAGRAM_BATCH] = [const { MaybeUninit::uninit() }; DATAGRAM_BATCH];
        // SAFETY: mmsghdr is plain old data, for which all zeros is a value (no names, no slices).
        let mut headers: [libc::mmsghdr; DATAGRAM_BATCH] = unsafe { zeroed() };
        for (n, (header, slice)) in headers.iter_mut().zip(&mut slices).enumerate() {
            let base = self.buffers[n * DATAGRAM_BYTES_MAX..].as_mut_ptr().cast();
            let slice = slice.write(libc::iovec { iov_base: base, iov_len: DATAGRAM_BYTES_MAX });
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut self.names[n]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        // SAFETY: every header points at one slice of its own, every slice at DATAGRAM_BYTES_MAX octets of `buffers`, every
        // name at room for any address; all outlive the call, and nothing else refers to them while it runs.
        let count = unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), DATAGRAM_BATCH as u32, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..count]) {
            *length = header.msg_len as usize;
        }
        Ok(count)
    }

    fn datagram(&self, n: usize) -> Option<(&[u8], SocketAddr)> {
        let start = n * DATAGRAM_BYTES_MAX;
        Some((&self.buffers[start..start + self.lengths[n]], address(&self.names[n])?))
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel says that this name is a sockaddr_in, which fits into sockaddr_storage and is aligned in it.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(name.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddr::new(IpAddr::V6(ip).to_canonical(), u16::from_be(name.sin6_port)))
        }
        _ => None,
    }
}

/// A shard's sockets for sending, one a listener: duplicates of those that it reads.
pub struct Sink {
    sockets: Vec<StdSocket>,
}

impl Sink {
    /// By listener number.
    pub fn new(sockets: Vec<StdSocket>) -> Self {
        Self { sockets }
    }

    fn send_by(&self, socket: &StdSocket, arena: &[u8], datagrams: &[Datagram]) -> u64 {
        let is_v6 = socket.local_addr().is_ok_and(|local| local.is_ipv6());
        // SAFETY: both are plain old data, for which all zeros is a value.
        let (mut names, mut headers): ([libc::sockaddr_storage; DATAGRAM_BATCH], [libc::mmsghdr; DATAGRAM_BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        let mut slices: [MaybeUninit<libc::iovec>; DATAGRAM_BATCH] = [const { MaybeUninit::uninit() }; DATAGRAM_BATCH];
        for (n, datagram) in datagrams.iter().enumerate() {
            let octets = &arena[datagram.range.clone()];
            let slice =
                slices[n].write(libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() });
            headers[n].msg_hdr.msg_iov = slice;
            headers[n].msg_hdr.msg_iovlen = 1;
            headers[n].msg_hdr.msg_namelen = name_of(&mut names[n], datagram.peer, is_v6);
            headers[n].msg_hdr.msg_name = (&raw mut names[n]).cast();
        }
        let (mut sent, all) = (0, datagrams.len());
        let mut lost = 0;
        while sent < all {
            // SAFETY: headers[sent..all] were filled above: each points at one slice of its own and that at octets of the
            // arena, which sendmmsg only reads, and at a name of its own; all outlive the call.
            let count = unsafe {
                let rest = headers.as_mut_ptr().add(sent);
                libc::sendmmsg(socket.as_raw_fd(), rest, (all - sent) as u32, libc::MSG_DONTWAIT)
            };
            match usize::try_from(count) {
                Ok(count) => sent += count.max(1),
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => {
                    // The socket is full: drop and count, UDP repeats.
                    return lost + (all - sent) as u64;
                }
                // This one cannot go (no route, refused before, too long): the others can.
                Err(_) => {
                    lost += 1;
                    sent += 1;
                }
            }
        }
        lost
    }
}

impl DatagramSink for Sink {
    fn send(&self, arena: &[u8], datagrams: &[Datagram]) -> u64 {
        let mut lost = 0;
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let same = rest.iter().take(DATAGRAM_BATCH).take_while(|each| each.listener == first.listener).count();
            let (now, later) = rest.split_at(same);
            lost += match self.sockets.get(usize::from(first.listener)) {
                Some(socket) => self.send_by(socket, arena, now),
                None => same as u64,
            };
            rest = later;
        }
        lost
    }
}

fn name_of(name: &mut libc::sockaddr_storage, peer: SocketAddr, is_v6: bool) -> libc::socklen_t {
    let mapped = match peer.ip() {
        IpAddr::V4(ip) if is_v6 => IpAddr::V6(ip.to_ipv6_mapped()),
        ip => ip,
    };
    match mapped {
        IpAddr::V4(ip) => {
            // SAFETY: sockaddr_storage has room and alignment for any address; it was zeroed, and nothing else refers to it.
            let name = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = peer.port().to_be();
            name.sin_addr.s_addr = u32::from(ip).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        IpAddr::V6(ip) => {
            // SAFETY: as above, for sockaddr_in6.
            let name = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = peer.port().to_be();
            name.sin6_addr.s6_addr = ip.octets();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair(address: &str) -> (StdSocket, StdSocket) {
        let bind = || StdSocket::bind(address).unwrap();
        (bind(), bind())
    }

    #[test]
    fn many_datagrams_go_out_and_come_in_by_few_calls_whole_and_in_order() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (here, there) = pair(address);
            let peer = there.local_addr().unwrap();
            let mut arena = Vec::new();
            let datagrams: Vec<Datagram> = (0..100u8)
                .map(|n| {
                    let start = arena.len();
                    arena.extend(std::iter::repeat_n(n, usize::from(n) + 1));
                    Datagram { listener: 0, peer, range: start..arena.len() }
                })
                .collect();
            let local = here.local_addr().unwrap();
            assert_eq!(Sink::new(vec![here]).send(&arena, &datagrams), 0);
            std::thread::sleep(Duration::from_millis(20));
            let mut batch = Batch::new();
            let mut heard = Vec::new();
            while let Ok(count) = batch.receive(there.as_raw_fd()) {
                for n in 0..count {
                    let (bytes, from) = batch.datagram(n).unwrap();
                    assert_eq!(from, local);
                    heard.push((bytes.len(), bytes[0]));
                }
            }
            assert_eq!(heard, (0..100u8).map(|n| (usize::from(n) + 1, n)).collect::<Vec<_>>(), "{address}");
        }
    }

    #[test]
    fn a_datagram_that_cannot_go_does_not_hold_up_the_others() {
        let (here, there) = pair("127.0.0.1:0");
        let peer = there.local_addr().unwrap();
        let datagram = |peer, range| Datagram { listener: 0, peer, range };
        let arena = vec![b'x'; 70_000];
        let list = [datagram(peer, 0..70_000), datagram("[::1]:9".parse().unwrap(), 0..5), datagram(peer, 0..5)];
        assert_eq!(Sink::new(vec![here]).send(&arena, &list), 2);
        let mut buffer = [0; 10];
        there.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(there.recv(&mut buffer).unwrap(), 5);
    }

    #[test]
    fn a_listener_that_is_not_there_loses_its_datagrams_and_says_so() {
        let list = [Datagram { listener: 3, peer: "127.0.0.1:9".parse().unwrap(), range: 0..1 }];
        assert_eq!(Sink::new(Vec::new()).send(b"x", &list), 1);
    }
}
