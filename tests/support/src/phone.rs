//! A user at a scripted peer: registers, writes, receives, with Digest. Every step is a call; nothing runs beside.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::node::Node;
use crate::peer::{PATIENCE, Peer};
use crate::wire::Heard;

/// Seconds that a registration lasts when a test names none.
const EXPIRES_S: u32 = 600;

/// One user agent of one user.
#[derive(Debug)]
pub struct Phone {
    /// Its socket: for what a phone would not do.
    pub peer: Peer,
    user: String,
    domain: String,
    password: String,
    /// The last challenge, of which the nonce is used again, and how often it was.
    challenge: Option<(String, u32)>,
    cseq: u32,
    call_id: String,
    tag: String,
    /// How long it waits for a final answer.
    pub patience: Duration,
}

/// A request as a test words it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// `MESSAGE`
    pub method: &'a str,
    /// The Request-URI.
    pub uri: &'a str,
    /// The URI in To; the Request-URI when empty.
    pub to: &'a str,
    /// Further header lines, each with its CRLF.
    pub lines: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl Phone {
    /// By UDP. The user must be known to the server.
    pub fn udp(node: &Node, user: &str, password: &str) -> Self {
        Self::new(Peer::udp(node.sip()), node.domain(), user, password)
    }

    /// By TCP.
    pub fn tcp(node: &Node, user: &str, password: &str) -> Self {
        Self::new(Peer::tcp(node.sip()), node.domain(), user, password)
    }

    /// Over a peer of the test's own.
    pub fn new(peer: Peer, domain: &str, user: &str, password: &str) -> Self {
        let text = |text: &str| text.to_owned();
        let (user, domain, password) = (text(user), text(domain), text(password));
        let (call_id, tag) = (unique("call"), unique("tag"));
        Self { peer, user, domain, password, challenge: None, cseq: 0, call_id, tag, patience: PATIENCE }
    }

    /// `sip:user@domain`
    pub fn aor(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    /// Where this phone takes requests.
    pub fn contact(&self) -> String {
        let SocketAddr::V4(at) = self.peer.local() else { panic!("phones have IPv4 addresses") };
        let transport = if self.peer.transport() == "TCP" { ";transport=tcp" } else { "" };
        format!("sip:{}@{at}{transport}", self.user)
    }

    /// Registers for ten minutes, which must succeed; gives the 200.
    ///
    /// # Panics
    /// When the answer is another.
    pub fn register(&mut self) -> Heard {
        let answer = self.register_for(EXPIRES_S);
        assert_eq!(answer.status(), Some(200), "REGISTER of {}: {answer}", self.aor());
        answer
    }

    /// Registers for so many seconds, 0 to leave; gives the final answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn register_for(&mut self, expires_s: u32) -> Heard {
        let (uri, aor) = (format!("sip:{}", self.domain), self.aor());
        let lines = format!("Contact: <{}>;expires={expires_s}\r\nAllow: MESSAGE\r\n", self.contact());
        let request = Wanted { method: "REGISTER", uri: &uri, to: &aor, lines: &lines, body: b"" };
        self.request(&request).unwrap_or_else(|| panic!("no answer to REGISTER of {aor}"))
    }

    /// Writes text to an address; gives the final answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn message(&mut self, to: &str, text: &str) -> Heard {
        self.message_with(to, "Content-Type: text/plain\r\n", text.as_bytes())
    }

    /// Writes a body with its header lines; gives the final answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn message_with(&mut self, to: &str, lines: &str, body: &[u8]) -> Heard {
        let request = Wanted { method: "MESSAGE", uri: to, to, lines, body };
        self.request(&request).unwrap_or_else(|| panic!("no answer to MESSAGE of {} to {to}", self.aor()))
    }

    /// Sends a request of any kind, answers a challenge once, and gives the final answer; nothing when none comes, as
    /// when the server is killed.
    pub fn request(&mut self, wanted: &Wanted<'_>) -> Option<Heard> {
        let first = self.exchange(wanted)?;
        let Some(challenge) = challenge(&first).filter(|_| matches!(first.status(), Some(401 | 407))) else {
            return Some(first);
        };
        self.challenge = Some((challenge, 0));
        self.exchange(wanted)
    }

    /// The next MESSAGE, answered with 200.
    ///
    /// # Panics
    /// When none comes.
    pub fn expect_message(&mut self) -> Heard {
        let message = self.peer.expect_request("MESSAGE");
        self.peer.answer(&message, 200, "OK");
        message
    }

    /// Sees that no MESSAGE comes for so long.
    ///
    /// # Panics
    /// When one does.
    pub fn expect_no_message(&mut self, for_so_long: Duration) {
        if let Some(message) = self.peer.hear_where(for_so_long, |heard| heard.method() == Some("MESSAGE")) {
            panic!("no message was due, and this came:\n{message}");
        }
    }

    /// The octets of a request with fresh ids and no credentials, for a test to spoil or to send twice.
    pub fn written(&mut self, wanted: &Wanted<'_>) -> Vec<u8> {
        self.write(wanted, "")
    }

    /// The same with credentials for the last challenge, which must have come.
    ///
    /// # Panics
    /// When none has.
    pub fn signed(&mut self, wanted: &Wanted<'_>) -> Vec<u8> {
        let credentials = self.credentials(wanted);
        assert!(!credentials.is_empty(), "{} has not been challenged yet", self.aor());
        self.write(wanted, &credentials)
    }

    /// The header line that meets the challenge of an answer, for requests in a test's own words.
    ///
    /// # Panics
    /// When it has none that can be met.
    pub fn credentials_for(&self, asked: &Heard, method: &str, uri: &str) -> String {
        let Some(challenge) = challenge(asked) else { panic!("no challenge that can be met in {asked}") };
        let (method, user) = (method.as_bytes(), self.user.as_str());
        let answer = sip::digest::answer(challenge.as_bytes(), method, uri, user, &self.password, 1, &unique("c"));
        let header = if asked.status() == Some(407) { "Proxy-Authorization" } else { "Authorization" };
        answer.map_or_else(|fault| panic!("{challenge}: {fault}"), |answer| format!("{header}: {answer}\r\n"))
    }

    fn exchange(&mut self, wanted: &Wanted<'_>) -> Option<Heard> {
        let credentials = self.credentials(wanted);
        let request = self.write(wanted, &credentials);
        self.peer.send(&request);
        let cseq = format!("{} {}", self.cseq, wanted.method);
        let call_id = Heard { raw: request }.header("call-id");
        self.peer.hear_where(self.patience, |heard| {
            let is_final = heard.status().is_some_and(|status| status >= 200);
            is_final && heard.header("cseq") == cseq && heard.header("call-id") == call_id
        })
    }

    fn credentials(&mut self, wanted: &Wanted<'_>) -> String {
        let Some((challenge, count)) = &mut self.challenge else { return String::new() };
        *count += 1;
        let (method, user) = (wanted.method.as_bytes(), self.user.as_str());
        let answer =
            sip::digest::answer(challenge.as_bytes(), method, wanted.uri, user, &self.password, *count, &unique("c"));
        let header = if wanted.method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
        answer.map_or_else(|fault| panic!("{challenge}: {fault}"), |answer| format!("{header}: {answer}\r\n"))
    }

    fn write(&mut self, wanted: &Wanted<'_>, credentials: &str) -> Vec<u8> {
        self.cseq += 1;
        let Wanted { method, uri, to, lines, body } = *wanted;
        let (to, aor) = (if to.is_empty() { uri } else { to }, self.aor());
        let (via, at, branch) = (self.peer.transport(), self.peer.local(), unique("z9hG4bK"));
        // A registration has one Call-ID for ever (RFC 3261 §10.2.4); every message has its own.
        let call_id = if method == "REGISTER" { self.call_id.clone() } else { unique("call") };
        let (cseq, tag, length) = (self.cseq, &self.tag, body.len());
        let head = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} {at};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <{aor}>;tag={tag}\r\nTo: <{to}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             {credentials}{lines}Content-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }
}

/// The first challenge of an answer that we can meet.
fn challenge(answer: &Heard) -> Option<String> {
    let all = [answer.headers("WWW-Authenticate"), answer.headers("Proxy-Authenticate")].concat();
    all.into_iter().find(|challenge| sip::digest::Challenge::parse(challenge.as_bytes()).is_ok())
}

/// A word that this machine has not said before.
fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{what}{:x}-{:x}-{:x}", std::process::id(), since.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_challenge_is_answered_and_its_nonce_used_again() {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = std::thread::spawn({
            let far = far.try_clone().unwrap();
            move || (0..3).map(|round| answered(&far, round)).collect::<Vec<_>>()
        });
        let mut phone = Phone::new(Peer::udp(far.local_addr().unwrap()), "example.com", "alice", "secret");
        assert_eq!(phone.message("sip:bob@example.com", "hi").status(), Some(200));
        assert_eq!(phone.message("sip:bob@example.com", "hi").status(), Some(200));
        let heard = server.join().unwrap();
        assert_eq!(heard[0].headers("Proxy-Authorization").len(), 0);
        assert!(heard[1].header("Proxy-Authorization").contains("nc=00000001"), "{}", heard[1]);
        assert!(heard[2].header("Proxy-Authorization").contains("nc=00000002"), "{}", heard[2]);
        assert_eq!(heard[2].text(), "hi");
    }

    fn answered(socket: &UdpSocket, round: usize) -> Heard {
        let mut room = [0; 2_000];
        let (length, from) = socket.recv_from(&mut room).unwrap();
        let heard = Heard { raw: room[..length].to_vec() };
        let (status, more) = match round {
            0 => (
                "407 Proxy Authentication Required",
                "Proxy-Authenticate: Digest realm=\"example.com\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256\r\n",
            ),
            _ => ("200 OK", ""),
        };
        let (call_id, cseq) = (heard.header("call-id"), heard.header("cseq"));
        let answer =
            format!("SIP/2.0 {status}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n{more}Content-Length: 0\r\n\r\n");
        socket.send_to(answer.as_bytes(), from).unwrap();
        heard
    }
}
