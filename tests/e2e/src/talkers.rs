//! Two scripted people in a session: SIP by [`Phone`], MSRP octet by octet, read with nothing of the server's own parser.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::phone::Wanted;
use support::{Heard, Node, Phone};

use crate::house::{PATIENCE, aor, password};

/// A session of two, both connected and bound.
pub struct Talk {
    pub caller: Talker,
    pub callee: Talker,
}

/// One of them.
pub struct Talker {
    pub phone: Phone,
    pub line: Line,
    /// The server's path on this side, and our own.
    pub to: String,
    pub from: String,
}

/// Where MSRP is spoken.
pub fn msrp_door(node: &Node) -> SocketAddr {
    let text = std::fs::read_to_string(node.config()).expect("the configuration can be read");
    let config: toml::Table = text.parse().expect("it is TOML");
    config["msrp"]["tcp"][0].as_str().expect("an address").parse().expect("an address")
}

impl Talk {
    /// Both register, one calls, the other takes it, and both connect.
    pub fn between(node: &Node, caller: &str, callee: &str) -> Self {
        let phone = |user: &str| {
            let mut phone = Phone::tcp(node, user, &password(user));
            phone.register();
            phone
        };
        let (mut ours, mut theirs) = (phone(caller), phone(callee));
        let (to, own) = (aor(callee), [path_of(&ours, "c1"), path_of(&theirs, "c2")]);
        let (answered, offer) = std::thread::scope(|scope| {
            let taking = scope.spawn(|| take(&mut theirs, &own[1]));
            let lines = format!("Contact: <{}>\r\nContent-Type: application/sdp\r\n", ours.contact());
            let sdp = description(&own[0], "active");
            let wanted = Wanted { method: "INVITE", uri: &to, to: &to, lines: &lines, body: sdp.as_bytes() };
            let answered = ours.request(&wanted).expect("a final answer to INVITE");
            assert_eq!(answered.status(), Some(200), "{answered}");
            acknowledge(&mut ours, &answered);
            (answered, taking.join().expect("the callee takes the call"))
        });
        let side = |phone: Phone, description: &Heard, own: &str| {
            let mut talker =
                Talker { line: Line::to(msrp_door(node)), to: server_path(description), from: own.to_owned(), phone };
            let hello = talker.send("hello1", "", None, '$');
            talker.line.write(hello.as_bytes());
            assert!(talker.line.frame(PATIENCE).starts_with("MSRP hello1 200"), "the SEND that binds is answered");
            talker
        };
        let [caller_path, callee_path] = own;
        Self { caller: side(ours, &answered, &caller_path), callee: side(theirs, &offer, &callee_path) }
    }

    /// The caller says something, and the callee hears it and answers.
    pub fn says(&mut self, text: &str) {
        pass(&mut self.caller, &mut self.callee, text);
    }

    /// The same the other way.
    pub fn replies(&mut self, text: &str) {
        pass(&mut self.callee, &mut self.caller, text);
    }
}

fn pass(one: &mut Talker, other: &mut Talker, text: &str) {
    let frame = one.send("text1234", "", Some(text), '$');
    one.line.write(frame.as_bytes());
    let heard = other.line.frame(PATIENCE);
    assert!(heard.contains(&format!("\r\n\r\n{text}\r\n-------")), "{heard}");
    other.answer(&heard, 200);
    let response = one.line.frame(PATIENCE);
    assert!(response.starts_with("MSRP text1234 200"), "{response}");
}

impl Talker {
    /// A SEND with these further lines; without a body it only binds.
    pub fn send(&self, tid: &str, lines: &str, body: Option<&str>, flag: char) -> String {
        let (Self { to, from, .. }, id) = (self, tid);
        let head = format!("MSRP {tid} SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: {id}-m\r\n{lines}");
        match body {
            Some(body) => format!("{head}Content-Type: text/plain\r\n\r\n{body}\r\n-------{tid}{flag}\r\n"),
            None => format!("{head}-------{tid}{flag}\r\n"),
        }
    }

    /// Answers a SEND that was heard.
    pub fn answer(&mut self, heard: &str, status: u16) {
        let tid = heard.split(' ').nth(1).expect("a transaction id");
        let (to, from) = (&self.to, &self.from);
        let response = format!("MSRP {tid} {status} OK\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n-------{tid}$\r\n");
        self.line.write(response.as_bytes());
    }

    /// The server ends the session: BYE comes and is answered.
    pub fn expect_bye(&mut self) -> Heard {
        let bye = self.phone.peer.expect_request("BYE");
        self.phone.peer.answer(&bye, 200, "OK");
        bye
    }
}

fn take(phone: &mut Phone, path: &str) -> Heard {
    let invite = phone.peer.expect_request("INVITE");
    let mut answer = String::from("SIP/2.0 200 OK\r\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in invite.headers(name) {
            answer += &format!("{name}: {value}{}\r\n", if name == "To" { ";tag=callee" } else { "" });
        }
    }
    let sdp = description(path, "active");
    answer += &format!(
        "Contact: <{}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        phone.contact(),
        sdp.len()
    );
    phone.peer.send(answer.as_bytes());
    phone.peer.expect_request("ACK");
    invite
}

fn acknowledge(phone: &mut Phone, answered: &Heard) {
    let contact = answered.header("contact");
    let uri = contact.split(['<', '>']).nth(1).unwrap_or(&contact).to_owned();
    let (from, to, call_id) = (answered.header("from"), answered.header("to"), answered.header("call-id"));
    let number = answered.header("cseq").split(' ').next().unwrap_or_default().to_owned();
    let (via, at) = (phone.peer.transport(), phone.peer.local());
    let ack = format!(
        "ACK {uri} SIP/2.0\r\nVia: SIP/2.0/{via} {at};branch=z9hG4bKack{number}{}\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
         To: {to}\r\nCall-ID: {call_id}\r\nCSeq: {number} ACK\r\nContent-Length: 0\r\n\r\n",
        at.port()
    );
    phone.peer.send(ack.as_bytes());
}

fn path_of(phone: &Phone, id: &str) -> String {
    format!("msrp://127.0.0.1:{}/{id}{};tcp", 9, phone.peer.local().port())
}

fn description(path: &str, setup: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
         a=accept-types:*\r\na=setup:{setup}\r\na=path:{path}\r\n"
    )
}

fn server_path(description: &Heard) -> String {
    let text = description.text();
    let line = text.lines().find_map(|line| line.strip_prefix("a=path:"));
    line.unwrap_or_else(|| panic!("no path in {text}")).trim().to_owned()
}

/// One MSRP connection.
pub struct Line {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Line {
    /// Connects.
    pub fn to(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap_or_else(|fault| panic!("no connection to {server}: {fault}"));
        stream.set_nodelay(true).expect("a TCP socket has this option");
        Self { stream, heard: Vec::new() }
    }

    /// Where it is.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("an open socket has an address")
    }

    /// Sends; what a closed connection does not take is lost.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends what is taken within this time, and says how much that was.
    pub fn write_within(&mut self, bytes: &[u8], time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut at = 0;
        while at < bytes.len() && Instant::now() < end {
            self.stream.set_write_timeout(Some(Duration::from_millis(100))).expect("a time to wait");
            match self.stream.write(&bytes[at..]) {
                Ok(count) => at += count,
                Err(fault) if matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        at
    }

    /// The next frame, whole.
    pub fn frame(&mut self, within: Duration) -> String {
        let end = Instant::now() + within;
        loop {
            if let Some(length) = framed(&self.heard) {
                let frame: Vec<u8> = self.heard.drain(..length).collect();
                return String::from_utf8_lossy(&frame).into_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no frame in {within:?}; {:?}", String::from_utf8_lossy(&self.heard));
            self.read(left);
        }
    }

    /// Waits until this has come, whole frame or not.
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.heard.windows(text.len()).any(|window| window == text.as_bytes()) {
            assert!(Instant::now() < end, "{text:?} does not come: {:?}", String::from_utf8_lossy(&self.heard));
            self.read(Duration::from_millis(100));
        }
    }

    /// Whether the server closes it in time; what comes meanwhile is kept.
    pub fn is_closed(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if self.read(end.saturating_duration_since(Instant::now())) {
                return true;
            }
        }
        false
    }

    fn read(&mut self, within: Duration) -> bool {
        let mut room = [0; 65_536];
        self.stream.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("a time to wait");
        match self.stream.read(&mut room) {
            Ok(0) => true,
            Ok(count) => {
                self.heard.extend_from_slice(&room[..count]);
                false
            }
            Err(fault) => !matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// Octets of the first frame, once its end-line is there.
fn framed(stream: &[u8]) -> Option<usize> {
    let start = stream.strip_prefix(b"MSRP ")?;
    let tid = &start[..start.iter().position(|byte| *byte == b' ')?];
    let mark = [b"-------", tid].concat();
    let found = |from: usize| stream[from..].windows(mark.len()).position(|window| window == mark).map(|at| from + at);
    let mut from = 0;
    while let Some(at) = found(from) {
        let behind = at + mark.len();
        if let [b'$' | b'+' | b'#', b'\r', b'\n', ..] = stream.get(behind..)? {
            return Some(behind + 3);
        }
        from = at + 1;
    }
    None
}
