//! SIP over UDP: datagrams read and written 64 at a time by one system call each (`fast-path.md` §1).
//!
//! A turn: `recvmmsg`, decide all, `sendmmsg` all; again while the batch was full, four times at most, then yield.
//!
//! A host that refuses what we send says so by ICMP, which the kernel keeps in a queue of the socket's own
//! (`IP_RECVERR`): it gives back the beginning of our request, which names its transaction (RFC 3261 §18.4).

#![allow(unsafe_code)] // decisions D25: these calls have no safe face; each block says why it is sound

use std::cell::RefCell;
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actors::asker::Asker;
use actors::hop::Hop;
use actors::house::House;
use actors::metrics::Count;
use actors::node::Node;
use actors::turn::{self, Datagram, DatagramSink};
use actors::{ping, router};
use base::limits::{BATCHES_PER_TURN, DATAGRAM_BATCH, DATAGRAM_BYTES_MAX};
use sip::Layout;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Of a request that was refused: enough for its request line and our Via, if its URI is of a sane length.
const REFUSED_ROOM: usize = 2_048;

/// Reads one listener's socket of one shard until it is dropped. Runs on the shard's thread. A batch is a turn of `node`'s.
pub async fn serve(socket: StdSocket, listener: u8, house: Arc<House>, node: Arc<Node>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    ask_for_errors(&socket)?;
    let socket = UdpSocket::from_std(socket)?;
    let mut batch = Batch::new();
    let mut layout = Box::<Layout>::default();
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            take_errors(&socket, &house);
        }
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
                        // RFC 5626 §8: the first two bits tell them apart.
                        if sip::stun::is_stun(bytes) {
                            ping::answer(&house, turn, bytes, from);
                            continue;
                        }
                        let decide = || router::datagram(&house, turn, &mut layout, bytes, from, now);
                        if catch_unwind(AssertUnwindSafe(decide)).is_err() {
                            turn.counts.add(Count::Panics);
                        }
                    }
                });
                turn::flush();
                node.turn_took(now.at.elapsed());
            }
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What an earlier datagram has met is told to whoever calls next; the socket is good.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Tells who asks what was refused, at most a batch of it: the rest follows.
fn take_errors(socket: &UdpSocket, house: &Arc<House>) {
    let mut room = [0; REFUSED_ROOM];
    turn::fill(|turn| {
        for _ in 0..DATAGRAM_BATCH {
            match socket.try_io(Interest::ERROR, || receive_error(socket.as_raw_fd(), &mut room)) {
                Ok((count, true)) => {
                    if let Some(asker) = Asker::of_request(&room[..count]) {
                        house.transactions.unreachable(turn, asker);
                    }
                }
                // What may pass: a packet too large for its way, or its hops were used up.
                Ok((_, false)) => {}
                Err(_) => break,
            }
        }
    });
    turn::flush();
}

fn ask_for_errors(socket: &StdSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let yes: libc::c_int = 1;
    // SAFETY: the option takes an int, which is given with its size and outlives the call.
    let outcome = unsafe {
        let size = size_of_val(&yes) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const yes).cast(), size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The next error that the socket was told: how many octets of the datagram that met it stand in `room`, and whether it
/// says that the datagram cannot get there.
fn receive_error(fd: RawFd, room: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut control = [0u64; 32]; // aligned as control messages are
    let mut slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: msghdr is plain old data, for which all zeros is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut slice, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    // SAFETY: the header points at one slice, that at the octets of `room`, and at `control`; all outlive the call, and
    // nothing else refers to them while it runs.
    let count = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut is_refused = false;
    // SAFETY: the kernel has written whole control messages into `control`, msg_controllen octets of them; the macros walk
    // within those, and an extended error is as long as its control message says, which the kernel made for it.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while !at.is_null() {
            let kind = ((*at).cmsg_level, (*at).cmsg_type);
            if kind == (libc::IPPROTO_IP, libc::IP_RECVERR) || kind == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) {
                let error = libc::CMSG_DATA(at).cast::<libc::sock_extended_err>().read_unaligned();
                is_refused = is_refusal(error.ee_origin, error.ee_type, error.ee_code);
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
    }
    Ok((count, is_refused))
}

/// RFC 3261 §18.4: host, network, port or protocol unreachable, and parameter problems. A packet that was too large is
/// sent again in pieces, and hops may do the next time.
fn is_refusal(origin: u8, kind: u8, code: u8) -> bool {
    match (origin, kind) {
        (libc::SO_EE_ORIGIN_ICMP, 3) => code != 4, // RFC 792: destination unreachable, but for "fragmentation needed"
        (libc::SO_EE_ORIGIN_ICMP, 12) => true,     // parameter problem
        (libc::SO_EE_ORIGIN_ICMP6, 1 | 4) => true, // RFC 4443: the same two
        _ => false,
    }
}

/// Room for one batch of datagrams, and the lists that the kernel wants: made once, because writing them costs more than
/// the call for a single datagram saves.
struct Batch {
    buffers: Vec<u8>,
    names: Box<[libc::sockaddr_storage]>,
    _slices: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl Batch {
    fn new() -> Self {
        // Pages that no datagram touches take no memory.
        let mut buffers = vec![0u8; DATAGRAM_BATCH * DATAGRAM_BYTES_MAX];
        // SAFETY: sockaddr_storage and mmsghdr are plain old data, for which all zeros is a value (no names, no slices).
        let (name, header): (libc::sockaddr_storage, libc::mmsghdr) = unsafe { (zeroed(), zeroed()) };
        let mut names = vec![name; DATAGRAM_BATCH].into_boxed_slice();
        let slices = buffers.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: Box<[libc::iovec]> = slices
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES_MAX })
            .collect();
        let mut headers = vec![header; DATAGRAM_BATCH].into_boxed_slice();
        for ((header, slice), name) in headers.iter_mut().zip(&mut slices).zip(&mut names) {
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = NAME_BYTES;
        }
        Self { buffers, names, _slices: slices, headers }
    }

    /// How many datagrams came; at most [`DATAGRAM_BATCH`].
    fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        // SAFETY: every header points at one slice of its own, every slice at DATAGRAM_BYTES_MAX octets of `buffers`, every
        // name at room for any address. All live on the heap in boxes of this struct, which are never grown or replaced,
        // and nothing refers to what they point at while the call runs: `datagram` borrows the struct shared.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                DATAGRAM_BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        // The kernel has written how long the names are.
        self.headers[..count].iter_mut().for_each(|header| header.msg_hdr.msg_namelen = NAME_BYTES);
        Ok(count)
    }

    fn datagram(&self, n: usize) -> Option<(&[u8], SocketAddr)> {
        let (start, length) = (n * DATAGRAM_BYTES_MAX, self.headers[n].msg_len as usize);
        Some((&self.buffers[start..start + length.min(DATAGRAM_BYTES_MAX)], address(&self.names[n])?))
    }
}

const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

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
    /// Each with whether it speaks IPv6.
    sockets: Vec<(StdSocket, bool)>,
    lists: RefCell<Lists>,
}

/// A datagram that has failed so often is the fault itself: each time before that it may have been told another's error.
const ANOTHERS_ERRORS: usize = 2;

/// What the kernel wants for one batch that leaves; filled as far as the batch goes.
struct Lists {
    names: Box<[libc::sockaddr_storage]>,
    slices: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the pointers in the lists are written before each call and not read after it, so that nothing of another thread
// is ever looked at; the lists themselves are owned boxes.
unsafe impl Send for Sink {}

impl Sink {
    /// By listener number.
    pub fn new(sockets: Vec<StdSocket>) -> Self {
        let is_v6 = |socket: &StdSocket| socket.local_addr().is_ok_and(|local| local.is_ipv6());
        // SAFETY: both are plain old data, for which all zeros is a value.
        let (name, header): (libc::sockaddr_storage, libc::mmsghdr) = unsafe { (zeroed(), zeroed()) };
        let slice = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let lists = Lists {
            names: vec![name; DATAGRAM_BATCH].into(),
            slices: vec![slice; DATAGRAM_BATCH].into(),
            headers: vec![header; DATAGRAM_BATCH].into(),
        };
        let sockets = sockets.into_iter().map(|socket| (is_v6(&socket), socket)).map(|(v6, socket)| (socket, v6));
        Self { sockets: sockets.collect(), lists: RefCell::new(lists) }
    }

    /// At most [`DATAGRAM_BATCH`] of them; how many were lost, and which of them for good.
    fn send_by(
        &self,
        (socket, is_v6): (&StdSocket, bool),
        arena: &[u8],
        datagrams: &[Datagram],
        mut unsent: impl FnMut(usize),
    ) -> u64 {
        let mut lists = self.lists.borrow_mut();
        let Lists { names, slices, headers } = &mut *lists;
        let all = datagrams.len().min(DATAGRAM_BATCH);
        for (n, datagram) in datagrams[..all].iter().enumerate() {
            let octets = &arena[datagram.range.clone()];
            slices[n] = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            headers[n].msg_hdr.msg_iov = &raw mut slices[n];
            headers[n].msg_hdr.msg_iovlen = 1;
            headers[n].msg_hdr.msg_namelen = name_of(&mut names[n], datagram.peer, is_v6);
            headers[n].msg_hdr.msg_name = (&raw mut names[n]).cast();
        }
        let (mut sent, mut lost, mut failed) = (0, (datagrams.len() - all) as u64, 0);
        while sent < all {
            // SAFETY: headers[sent..all] were filled above: each points at one slice of its own and that at octets of the
            // arena, which sendmmsg only reads, and at a name of its own; all outlive the call.
            let count = unsafe {
                let rest = headers.as_mut_ptr().add(sent);
                libc::sendmmsg(socket.as_raw_fd(), rest, (all - sent) as u32, libc::MSG_DONTWAIT)
            };
            let error = match usize::try_from(count) {
                Ok(count) => {
                    (sent, failed) = (sent + count.max(1), 0);
                    continue;
                }
                Err(_) => io::Error::last_os_error(),
            };
            failed += 1;
            if error.kind() == io::ErrorKind::WouldBlock {
                // The socket is full: drop and count, UDP repeats.
                return lost + (all - sent) as u64;
            }
            // What an earlier one has met is told to whoever calls next: this one has not been tried then.
            if failed > ANOTHERS_ERRORS {
                // It cannot go (no route, too long), the others can.
                if is_for_good(&error) {
                    unsent(sent);
                }
                (sent, failed, lost) = (sent + 1, 0, lost + 1);
            }
        }
        lost
    }
}

impl DatagramSink for Sink {
    fn send(&self, arena: &[u8], datagrams: &[Datagram], unsent: &mut Vec<usize>) -> u64 {
        let (mut lost, mut rest) = (0, datagrams);
        while let Some(first) = rest.first() {
            let same = rest.iter().take(DATAGRAM_BATCH).take_while(|each| each.listener == first.listener).count();
            let (now, later) = rest.split_at(same);
            let at = datagrams.len() - rest.len();
            lost += match self.sockets.get(usize::from(first.listener)) {
                Some((socket, is_v6)) => self.send_by((socket, *is_v6), arena, now, |n| unsent.push(at + n)),
                None => {
                    unsent.extend(at..at + same);
                    same as u64
                }
            };
            rest = later;
        }
        lost
    }
}

/// Whether no repeat of it can do better: an address that there is no way to, or none that can be sent to.
fn is_for_good(error: &io::Error) -> bool {
    use libc::{EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETUNREACH};
    let for_good = [EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETUNREACH];
    error.raw_os_error().is_some_and(|error| for_good.contains(&error))
}

fn name_of(name: &mut libc::sockaddr_storage, peer: SocketAddr, is_v6: bool) -> libc::socklen_t {
    let mapped = match peer.ip() {
        IpAddr::V4(ip) if is_v6 => IpAddr::V6(ip.to_ipv6_mapped()),
        ip => ip,
    };
    match mapped {
        IpAddr::V4(ip) => {
            // SAFETY: sockaddr_storage has room and alignment for any address; it was zeroed or held another address, and nothing else refers to it.
            let name = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in>() };
            name.sin_zero = [0; 8];
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
            (name.sin6_flowinfo, name.sin6_scope_id) = (0, 0);
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
            assert_eq!(Sink::new(vec![here]).send(&arena, &datagrams, &mut Vec::new()), 0);
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
        let mut unsent = Vec::new();
        assert_eq!(Sink::new(vec![here]).send(&arena, &list, &mut unsent), 2);
        assert_eq!(unsent, [0, 1]);
        let mut buffer = [0; 10];
        there.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(there.recv(&mut buffer).unwrap(), 5);
    }

    #[test]
    fn a_listener_that_is_not_there_loses_its_datagrams_and_says_so() {
        let list = [Datagram { listener: 3, peer: "127.0.0.1:9".parse().unwrap(), range: 0..1 }];
        let mut unsent = Vec::new();
        assert_eq!(Sink::new(Vec::new()).send(b"x", &list, &mut unsent), 1);
        assert_eq!(unsent, [0]);
    }

    #[test]
    fn a_closed_port_gives_back_what_was_sent_to_it_and_holds_up_nothing_else() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (here, there) = pair(address);
            let closed = pair(address).0.local_addr().unwrap();
            ask_for_errors(&here).unwrap();
            let (reader, peer) = (here.try_clone().unwrap(), there.local_addr().unwrap());
            let arena = b"to nobody|to somebody";
            let (lost, heard) = (Datagram { listener: 0, peer: closed, range: 0..9 }, 10..arena.len());
            let sink = Sink::new(vec![here]);
            let mut room = [0; REFUSED_ROOM];
            // The error of the one is told to the sender of the other, who does not lose it by that.
            for _ in 0..3 {
                let datagram = Datagram { listener: 0, peer, range: heard.clone() };
                assert_eq!(sink.send(arena, &[lost.clone(), datagram], &mut Vec::new()), 0);
                let mut buffer = [0; 20];
                there.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let count = there.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..count], &arena[heard.clone()]);
                let (count, is_refused) = receive_error(reader.as_raw_fd(), &mut room).unwrap();
                assert_eq!((&room[..count], is_refused), (&arena[..9], true), "{address}");
            }
            assert!(receive_error(reader.as_raw_fd(), &mut room).is_err(), "each is told once");
        }
    }

    #[test]
    fn only_what_says_that_nobody_is_there_is_a_refusal() {
        // RFC 3261 §18.4
        let (v4, v6) = (libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6);
        let refusals = [(v4, 3, 0), (v4, 3, 1), (v4, 3, 2), (v4, 3, 3), (v4, 12, 0), (v6, 1, 4), (v6, 4, 0)];
        let others = [(v4, 3, 4), (v4, 4, 0), (v4, 11, 0), (v6, 2, 0), (v6, 3, 0), (1, 3, 3)];
        for (expected, list) in [(true, &refusals[..]), (false, &others[..])] {
            for (origin, kind, code) in list {
                assert_eq!(is_refusal(*origin, *kind, *code), expected, "{origin} {kind} {code}");
            }
        }
    }
}
