//! A session with a peer made of plain sockets: INVITE and MSRP octet by octet (RFC 3261 §13, RFC 4975).

#![allow(dead_code)]

use client::{Client, ClientError, Event, Inbox, IncomingCall, Session, SessionOptions};
use sip::{Message, Method, Name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Peer, SOON, client, fast, header, user};

pub const SDP: &str = "Content-Type: application/sdp\r\n";
pub const CONTACT: &str = "Contact: <sip:server@127.0.0.1>\r\n";

pub fn invite(from: &Client, options: SessionOptions) -> JoinHandle<Result<Session, ClientError>> {
    tokio::spawn(from.invite(&user("bob"), options))
}

/// A client that is there, and its peer.
pub async fn called() -> (Peer, Client, Inbox) {
    let mut peer = Peer::tcp().await;
    let (alice, inbox) = client(&peer, fast()).await;
    peer.accept().await;
    (peer, alice, inbox)
}

pub async fn invitation(inbox: &mut Inbox) -> IncomingCall {
    match timeout(SOON, inbox.recv()).await.unwrap() {
        Some(Event::Invited(call)) => *call,
        other => panic!("{other:?}"),
    }
}

/// A session that alice has begun.
pub async fn talking(options: SessionOptions) -> (Peer, Session, Msrp) {
    let mut peer = Peer::tcp().await;
    let (alice, _inbox) = client(&peer, fast()).await;
    let invited = invite(&alice, options);
    let invite = peer.hear().await;
    let mut msrp = Msrp::listen(sdp::Offer::read(invite.view().body()).unwrap().remote_path()).await;
    peer.answer_with(&invite, &msrp.sdp("passive")).await;
    assert_eq!(peer.hear().await.view().method(), Method::Ack);
    msrp.accept().await;
    let hello = msrp.frame().await;
    msrp.respond(&hello, "200 OK").await;
    msrp.invite = Some(invite);
    (peer, invited.await.unwrap().unwrap(), msrp)
}

impl Peer {
    /// 200 with a description.
    pub async fn answer_with(&mut self, invite: &Message, sdp: &str) {
        let mut out = Vec::new();
        let lines = format!("{CONTACT}{SDP}");
        let body = sdp.as_bytes();
        let reply = sip::Reply { status: 200, to_tag: "peer", lines: lines.as_bytes(), body, ..sip::Reply::default() };
        sip::reply(&mut out, invite.view(), &reply);
        self.say(&out).await;
    }

    /// A request within a dialog: of an INVITE of the client's, or of a 200 of the client's.
    pub async fn within(&mut self, of: &Message, is_theirs: bool, method: &str, cseq: u32, lines: &str, body: &str) {
        let (from, to) = (header(of, Name::From), header(of, Name::To));
        let (from, to) = if is_theirs { (format!("{to};tag=peer"), from) } else { (from, to) };
        let call_id = header(of, Name::CallId);
        let text = format!(
            "{method} sip:alice@client SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{lines}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.say(text.as_bytes()).await;
    }
}

/// The other end of the MSRP connection.
pub struct Msrp {
    listener: TcpListener,
    pub stream: Option<TcpStream>,
    read: Vec<u8>,
    pub ours: String,
    pub theirs: String,
    /// The INVITE that it came by.
    pub invite: Option<Message>,
}

impl Msrp {
    pub async fn listen(theirs: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = format!("msrp://{}/peer;tcp", listener.local_addr().unwrap());
        Self { listener, stream: None, read: Vec::new(), ours, theirs: theirs.to_owned(), invite: None }
    }

    pub fn sdp(&self, setup: &str) -> String {
        let port = self.listener.local_addr().unwrap().port();
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message {port} TCP/MSRP *\r\n\
             a=accept-types:text/plain image/png\r\na=path:{}\r\na=setup:{setup}\r\n",
            self.ours
        )
    }

    pub async fn accept(&mut self) {
        self.stream = Some(timeout(SOON, self.listener.accept()).await.unwrap().unwrap().0);
    }

    pub async fn say(&mut self, text: &str) {
        self.say_octets(text.as_bytes()).await;
    }

    pub async fn say_octets(&mut self, octets: &[u8]) {
        self.stream.as_mut().unwrap().write_all(octets).await.unwrap();
    }

    /// The next whole frame.
    pub async fn frame(&mut self) -> String {
        loop {
            let tid = self.read.split(|byte| *byte == b' ').nth(1).map(<[u8]>::to_vec).unwrap_or_default();
            let end = [b"-------", tid.as_slice()].concat();
            let found = self.read.windows(end.len()).position(|window| window == end.as_slice());
            if let Some(at) = found.filter(|at| !tid.is_empty() && self.read.len() >= at + end.len() + 3) {
                let frame = self.read.drain(..at + end.len() + 3).collect();
                return String::from_utf8(frame).unwrap();
            }
            let read = self.stream.as_mut().unwrap().read_buf(&mut self.read);
            assert_ne!(timeout(SOON, read).await.expect("the client says nothing").unwrap(), 0);
        }
    }

    pub async fn respond(&mut self, frame: &str, status: &str) {
        let tid = frame.split(' ').nth(1).unwrap();
        let text = format!(
            "MSRP {tid} {status}\r\nTo-Path: {}\r\nFrom-Path: {}\r\n-------{tid}$\r\n",
            value(frame, "From-Path"),
            value(frame, "To-Path")
        );
        self.say(&text).await;
    }

    pub async fn report(&mut self, frame: &str, range: &str, status: &str) {
        let text = format!(
            "MSRP rept1234 REPORT\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: {}\r\nByte-Range: {range}\r\n\
             Status: {status}\r\n-------rept1234$\r\n",
            value(frame, "From-Path"),
            value(frame, "To-Path"),
            value(frame, "Message-ID")
        );
        self.say(&text).await;
    }

    pub async fn send(&mut self, tid: &str, range: &str, lines: &str, body: &str, flag: char) {
        let text = format!(
            "MSRP {tid} SEND\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: message1\r\nByte-Range: {range}\r\n{lines}\
             Content-Type: text/plain\r\n\r\n{body}\r\n-------{tid}{flag}\r\n",
            self.theirs, self.ours
        );
        self.say(&text).await;
    }
}

pub fn value<'a>(frame: &'a str, name: &str) -> &'a str {
    frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}
