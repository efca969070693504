//! Many datagrams by one system call: `recvmmsg` and `sendmmsg`, and nothing else.
//!
//! The generator and the blind relay set the limit that the server is compared with, so they may pay no more for a
//! datagram than it does. This is the one file of the crate with `unsafe`: each block builds the kernel's view of
//! buffers that outlive the call, and reads back only what the kernel says that it wrote.
#![allow(unsafe_code)] // recvmmsg and sendmmsg have no safe form in std, socket2 or rustix (decisions D25)

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use base::limits::DATAGRAM_BATCH;

/// Octets of one receive slot: more than any message that we send or await.
const SLOT_BYTES: usize = 16 * 1024;
/// `sizeof(struct sockaddr_in6)`; an IPv4 address is shorter.
const ADDRESS_BYTES: usize = 28;

/// A socket address as the kernel writes it: compared and handed back without being understood.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Peer {
    octets: [u8; ADDRESS_BYTES],
    length: u8,
}

impl Peer {
    /// From an address.
    pub fn of(address: SocketAddr) -> Self {
        let mut peer = Self::default();
        peer.octets[2..4].copy_from_slice(&address.port().to_be_bytes());
        let family = match address.ip() {
            IpAddr::V4(ip) => {
                peer.octets[4..8].copy_from_slice(&ip.octets());
                peer.length = 16;
                libc::AF_INET
            }
            IpAddr::V6(ip) => {
                peer.octets[8..24].copy_from_slice(&ip.octets());
                peer.length = 28;
                libc::AF_INET6
            }
        };
        peer.octets[..2].copy_from_slice(&u16::try_from(family).unwrap_or_default().to_ne_bytes());
        peer
    }

    /// As an address; nothing before the kernel wrote one.
    pub fn address(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes([self.octets[2], self.octets[3]]);
        match self.length {
            16 => {
                let ip: [u8; 4] = self.octets[4..8].try_into().ok()?;
                Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
            }
            28 => {
                let ip: [u8; 16] = self.octets[8..24].try_into().ok()?;
                Some(SocketAddr::new(Ipv6Addr::from(ip).into(), port))
            }
            _ => None,
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({:?})", self.address())
    }
}

/// Whether a receive may sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// For the first datagram, and for no other.
    First,
    /// Not at all.
    Never,
}

/// What the last receive took: at most [`DATAGRAM_BATCH`] datagrams.
pub struct Inbox {
    slots: Vec<u8>,
    lengths: [usize; DATAGRAM_BATCH],
    peers: [Peer; DATAGRAM_BATCH],
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            slots: vec![0; SLOT_BYTES * DATAGRAM_BATCH],
            lengths: [0; DATAGRAM_BATCH],
            peers: [Peer::default(); DATAGRAM_BATCH],
        }
    }
}

impl Inbox {
    /// Takes what the socket has and says how many datagrams that was; 0 when there is none (or a signal came).
    ///
    /// # Errors
    /// Those of `recvmmsg`; a refused port (ICMP) is not one of them.
    pub fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        let mut vectors = [const { libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 } }; DATAGRAM_BATCH];
        // SAFETY: an all-zero `mmsghdr` is a valid one: null pointers, zero lengths.
        let mut headers: [libc::mmsghdr; DATAGRAM_BATCH] = unsafe { std::mem::zeroed() };
        let slots = self.slots.chunks_exact_mut(SLOT_BYTES);
        for (((header, vector), slot), peer) in headers.iter_mut().zip(&mut vectors).zip(slots).zip(&mut self.peers) {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT_BYTES };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = peer.octets.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = ADDRESS_BYTES as libc::socklen_t;
        }
        let flags = match wait {
            Wait::First => libc::MSG_WAITFORONE,
            Wait::Never => libc::MSG_DONTWAIT,
        };
        // SAFETY: every header points at a slot, an iovec and an address of its own, each as long as it says, and all
        // of them live until after the call; the kernel keeps none of the pointers. The time-out may be null.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                DATAGRAM_BATCH as libc::c_uint,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(taken) = usize::try_from(taken) else {
            return harmless(io::Error::last_os_error()).map(|()| 0);
        };
        for (at, header) in headers.iter().take(taken).enumerate() {
            self.lengths[at] = header.msg_len as usize;
            self.peers[at].length = u8::try_from(header.msg_hdr.msg_namelen).unwrap_or_default();
        }
        Ok(taken)
    }

    /// One of the datagrams of the last receive, and where it came from.
    pub fn datagram(&self, at: usize) -> (&[u8], Peer) {
        let start = at * SLOT_BYTES;
        (&self.slots[start..start + self.lengths[at]], self.peers[at])
    }
}

/// A datagram that waits in an arena: where it ends there (it begins where the one before ends), and where it goes.
#[derive(Clone, Copy)]
pub struct Parcel {
    /// Its end in the arena.
    pub end: usize,
    /// Its destination.
    pub to: Peer,
}

/// Sends datagrams of any provenance, [`DATAGRAM_BATCH`] by a system call; says how many the kernel would not take.
///
/// # Errors
/// Those of `sendmmsg`; a full buffer and a refused port are not among them: UDP loses, and the sender repeats.
pub fn send<'a>(socket: &UdpSocket, mut parcels: impl Iterator<Item = (&'a [u8], Peer)>) -> io::Result<usize> {
    let mut dropped = 0;
    loop {
        let mut peers = [Peer::default(); DATAGRAM_BATCH];
        let mut vectors = [const { libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 } }; DATAGRAM_BATCH];
        // SAFETY: an all-zero `mmsghdr` is a valid one: null pointers, zero lengths.
        let mut headers: [libc::mmsghdr; DATAGRAM_BATCH] = unsafe { std::mem::zeroed() };
        let mut filled = 0;
        for (((header, vector), peer), (bytes, to)) in
            headers.iter_mut().zip(&mut vectors).zip(&mut peers).zip(&mut parcels)
        {
            *peer = to;
            // `sendmmsg` only reads: the cast away from const stays unused.
            *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = peer.octets.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = libc::socklen_t::from(to.length);
            filled += 1;
        }
        if filled == 0 {
            return Ok(dropped);
        }
        let mut sent = 0;
        while sent < filled {
            // SAFETY: `headers[sent..filled]` were filled above; what they point at (the iovecs, the addresses, the
            // borrowed bytes) lives until after the call, and the kernel keeps none of the pointers.
            let taken = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers[sent..].as_mut_ptr(),
                    (filled - sent) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(taken) {
                Ok(taken) if taken > 0 => sent += taken,
                _ => {
                    harmless(io::Error::last_os_error())?;
                    // The one at `sent` is lost; those behind it are tried.
                    dropped += 1;
                    sent += 1;
                }
            }
        }
        if filled < DATAGRAM_BATCH {
            return Ok(dropped);
        }
    }
}

/// Lets through what is no fault of the socket: nothing there, no room, a signal, a peer whose port is closed.
fn harmless(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => Ok(()),
        _ if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let (left, right) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        right.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        (left, right)
    }

    #[test]
    fn an_address_survives_the_way_through_the_kernels_spelling() {
        for text in ["127.0.0.1:5060", "255.1.2.3:65535", "[::1]:1", "[2001:db8::7]:5061"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::of(address).address(), Some(address));
        }
        assert_eq!(Peer::default().address(), None);
    }

    #[test]
    fn more_than_a_batch_goes_out_and_comes_in_whole_and_in_order() {
        let (left, right) = pair();
        let texts: Vec<String> = (0..150).map(|n| format!("datagram {n} {}", "x".repeat(n))).collect();
        let to = Peer::of(right.local_addr().unwrap());
        assert_eq!(send(&left, texts.iter().map(|text| (text.as_bytes(), to))).unwrap(), 0);
        let (mut inbox, mut heard) = (Inbox::default(), Vec::new());
        while heard.len() < texts.len() {
            let taken = inbox.receive(&right, Wait::First).unwrap();
            assert!(taken > 0, "nothing more after {} datagrams", heard.len());
            for at in 0..taken {
                let (bytes, from) = inbox.datagram(at);
                assert_eq!(from.address(), Some(left.local_addr().unwrap()));
                heard.push(String::from_utf8(bytes.to_vec()).unwrap());
            }
        }
        assert_eq!(heard, texts);
        assert_eq!(inbox.receive(&right, Wait::Never).unwrap(), 0);
    }

    #[test]
    fn a_closed_port_is_no_error_of_ours() {
        let (left, right) = pair();
        let to = Peer::of(right.local_addr().unwrap());
        drop(right);
        for _ in 0..3 {
            send(&left, [(b"anyone?".as_slice(), to)].into_iter()).unwrap();
        }
        assert_eq!(Inbox::default().receive(&left, Wait::Never).unwrap(), 0);
    }
}
