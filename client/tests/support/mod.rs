//! A peer made of plain sockets: hears what the client says, says what the test wants.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

pub mod talkers;

use std::net::SocketAddr;
use std::time::Duration;

use base::Aor;
use bytes::Bytes;
use client::{Account, Client, Inbox, Options, Transport};
use sip::digest::{Algorithm, Credentials, Ha1};
use sip::transaction::Timers;
use sip::{Message, Name, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Longer than anything here takes.
pub const SOON: Duration = Duration::from_secs(5);

pub struct Peer {
    wire: Wire,
    addr: SocketAddr,
}

enum Wire {
    Udp { socket: UdpSocket, client: Option<SocketAddr> },
    Tcp { listener: TcpListener, stream: Option<TcpStream>, read: Vec<u8> },
}

impl Peer {
    pub async fn udp() -> Self {
        Self::udp_at(([127, 0, 0, 1], 0).into()).await
    }

    pub async fn udp_at(addr: SocketAddr) -> Self {
        let socket = UdpSocket::bind(addr).await.unwrap();
        let addr = socket.local_addr().unwrap();
        Self { wire: Wire::Udp { socket, client: None }, addr }
    }

    pub async fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener)
    }

    /// The TCP side of the address where `udp` listens.
    pub async fn tcp_beside(udp: &Peer) -> Self {
        Self::on(TcpListener::bind(udp.addr).await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        Self { wire: Wire::Tcp { listener, stream: None, read: Vec::new() }, addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next message.
    pub async fn hear(&mut self) -> Message {
        tokio::time::timeout(SOON, self.next()).await.expect("the client says nothing")
    }

    /// Whether nothing comes for a while.
    pub async fn hears_nothing_for(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.next()).await.is_err()
    }

    async fn next(&mut self) -> Message {
        loop {
            let bytes = self.octets().await;
            if bytes != b"\r\n\r\n" {
                return Message::parse(Bytes::from(bytes)).expect("the client speaks SIP");
            }
        }
    }

    /// The next octets: a datagram, or a message or ping of the stream.
    pub async fn octets(&mut self) -> Vec<u8> {
        match &mut self.wire {
            Wire::Udp { socket, client } => {
                let mut buffer = vec![0; 65_535];
                let (count, from) = socket.recv_from(&mut buffer).await.unwrap();
                *client = Some(from);
                buffer.truncate(count);
                buffer
            }
            Wire::Tcp { listener, stream, read } => loop {
                if let Some(end) = end_of_message(read) {
                    return read.drain(..end).collect();
                }
                if stream.is_none() {
                    *stream = Some(listener.accept().await.unwrap().0);
                    read.clear();
                }
                if stream.as_mut().unwrap().read_buf(read).await.unwrap_or(0) == 0 {
                    *stream = None;
                }
            },
        }
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Udp { socket, client } => {
                socket.send_to(bytes, client.expect("the client has spoken")).await.unwrap();
            }
            Wire::Tcp { stream, .. } => stream.as_mut().expect("connected").write_all(bytes).await.unwrap(),
        }
    }

    pub async fn answer(&mut self, request: &Message, status: u16, lines: &str) {
        let mut out = Vec::new();
        let reply = Reply { status, to_tag: "peer", lines: lines.as_bytes(), ..Reply::default() };
        sip::reply(&mut out, request.view(), &reply);
        self.say(&out).await;
    }

    /// Waits for the connection, where the peer is to speak first.
    pub async fn accept(&mut self) {
        if let Wire::Tcp { listener, stream, .. } = &mut self.wire {
            *stream = Some(listener.accept().await.unwrap().0);
        }
    }

    /// Ends the connection.
    pub fn hang_up(&mut self) {
        if let Wire::Tcp { stream, .. } = &mut self.wire {
            *stream = None;
        }
    }

    /// A request of the peer's own, to the contact `sip:alice@client`.
    pub async fn ask(&mut self, method: &str, branch: &str, lines: &str, body: &str) {
        self.say(request(method, branch, lines, body).as_bytes()).await;
    }
}

pub fn request(method: &str, branch: &str, lines: &str, body: &str) -> String {
    format!(
        "{method} sip:alice@client SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: Bob <sip:bob@example.com>;tag=b\r\nTo: <sip:alice@example.com>\r\nCall-ID: call-{branch}\r\nCSeq: 1 {method}\r\n{lines}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn end_of_message(read: &[u8]) -> Option<usize> {
    if read.starts_with(b"\r\n\r\n") {
        return Some(4);
    }
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head]).unwrap();
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let end = head + length.parse::<usize>().unwrap();
    (read.len() >= end).then_some(end)
}

/// A timer F of 1.28 s.
pub fn fast() -> Options {
    let [t1, t2, t4] = [20, 80, 50].map(Duration::from_millis);
    Options { timers: Timers { t1, t2, t4, ..Timers::default() }, ..Options::default() }
}

pub fn alice(server: SocketAddr, transport: Transport) -> Account {
    Account::new(user("alice"), "secret", server, transport)
}

pub fn user(name: &str) -> Aor {
    Aor::new(name, "example.com").unwrap()
}

pub async fn client(peer: &Peer, options: Options) -> (Client, Inbox) {
    let transport = if matches!(peer.wire, Wire::Udp { .. }) { Transport::Udp } else { Transport::Tcp };
    Client::connect(alice(peer.addr, transport), options).await.unwrap()
}

pub fn header(message: &Message, name: Name) -> String {
    String::from_utf8(message.view().first(name).unwrap_or_default().to_vec()).unwrap()
}

/// The challenge lines for a nonce.
pub fn challenge(header: &str, nonce: &str, stale: bool, algorithms: &[Algorithm]) -> String {
    let mut out = Vec::new();
    sip::digest::challenge(&mut out, header, "example.com", nonce, stale, algorithms);
    String::from_utf8(out).unwrap()
}

/// Checks the credentials of a request with the right password; gives algorithm, nonce and count.
pub fn proven(request: &Message, name: Name) -> (Algorithm, String, u32) {
    let view = request.view();
    let credentials = Credentials::parse(view.first(name).expect("credentials")).unwrap();
    let ha1 = Ha1::of("alice", "example.com", "secret");
    assert!(credentials.verify(&ha1, view.method_text()), "{}", header(request, name));
    assert_eq!(credentials.uri.as_bytes(), view.request_uri());
    (credentials.algorithm, credentials.nonce.to_string(), credentials.nc)
}
