//! What the tests of this crate share: a house over a store in memory, people with passwords, and what they send.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base::{Aor, IdMaker, Now};
use parking_lot::Mutex;
use sip::digest::Ha1;
use sip::{Layout, Name};
use storage::Store;
use storage::accounts::Account;

use crate::config::{Config, ListenerName};
use crate::hop::Hop;
use crate::house::House;
use crate::outbox::Writer;
use crate::reach::{Climb, Reach, Way};
use crate::turn::{Datagram, DatagramSink};

/// The password of everybody.
pub const PASSWORD: &str = "secret";

/// A house of one shard and one domain, `example.com`.
pub fn house(change: impl FnOnce(&mut Config)) -> Arc<House> {
    house_over(Store::in_memory(), change)
}

/// The same over a store of the test's.
pub fn house_over(store: Store, change: impl FnOnce(&mut Config)) -> Arc<House> {
    let name = |port| ListenerName { sent_by: format!("127.0.0.1:{port}"), is_v6: false };
    let mut config = Config { udp: vec![name(5060), name(5062)], tcp: name(5061), ..Config::default() };
    change(&mut config);
    // Every house has keys of its own.
    static SEED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
    let seed = SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    House::new(config, store, IdMaker::new([seed; 16]), Now::read)
}

/// `sip:NAME@example.com`.
pub fn aor(name: &str) -> Aor {
    Aor::new(name, "example.com").unwrap()
}

/// A subscriber with every service.
pub fn account(name: &str) -> Account {
    let ha1 = Ha1::of(name, "example.com", PASSWORD);
    Account {
        aor: aor(name),
        ha1_sha256: ha1.sha256,
        ha1_md5: ha1.md5,
        realm: "example.com".into(),
        aliases: Vec::new(),
        login: None,
        services: "all".into(),
        history_limit: None,
    }
}

/// The row of somebody who is registered at that port of this host, or of nobody's device.
pub fn row(name: &str, port: Option<u16>) -> Reach {
    let way = |port| Way {
        contact: format!("sip:{name}@127.0.0.1:{port}").into_bytes().into(),
        sips: None,
        hop: Hop::udp(0, at(port)),
        expires_unix_s: u64::MAX,
    };
    Reach {
        aor: aor(name),
        ha1: Ha1::of(name, "example.com", PASSWORD),
        login: name.into(),
        aliases: Box::default(),
        climb: if port.is_some() { Climb::empty() } else { Climb::SEVERAL },
        ways: port.map(way).into_iter().collect(),
        may_page: true,
        may_call: true,
        may_register: true,
    }
}

/// That port of this host.
pub fn at(port: u16) -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), port)
}

/// A request to be: whatever the test does not say is as a sane client would say it.
#[derive(Clone)]
pub struct Ask {
    pub method: &'static str,
    pub uri: String,
    pub from: String,
    pub to: String,
    pub via: String,
    pub call_id: String,
    pub cseq: u32,
    pub lines: String,
    pub body: String,
}

impl Ask {
    /// A MESSAGE.
    pub fn message(from: &str, to: &str, text: &str) -> Self {
        Self {
            method: "MESSAGE",
            uri: format!("sip:{to}@example.com"),
            from: format!("<sip:{from}@example.com>;tag=f1"),
            to: format!("<sip:{to}@example.com>"),
            via: "SIP/2.0/UDP 127.0.0.1:5090;rport;branch=z9hG4bK".into(),
            call_id: format!("c-{from}-{to}-{text}"),
            cseq: 1,
            lines: "Max-Forwards: 70\r\nContent-Type: text/plain\r\n".into(),
            body: text.into(),
        }
    }

    /// A REGISTER.
    pub fn register(name: &str, contact: &str) -> Self {
        let lines = if contact.is_empty() { String::new() } else { format!("Contact: {contact}\r\n") };
        Self {
            method: "REGISTER",
            uri: "sip:example.com".into(),
            to: format!("<sip:{name}@example.com>"),
            call_id: format!("r-{name}"),
            lines: format!("Max-Forwards: 70\r\n{lines}"),
            body: String::new(),
            ..Self::message(name, name, "")
        }
    }

    /// Of another method.
    pub fn with(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// With another line.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push_str(line);
        self.lines.push_str("\r\n");
        self
    }

    /// Its text, with this branch.
    pub fn text(&self, branch: &str) -> String {
        let Self { method, uri, from, to, via, call_id, cseq, lines, body } = self;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: {via}{branch}\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// With the answer to a challenge that was got before.
    pub fn signed(&self, challenge: &str, user: &str, nc: u32) -> Self {
        self.signed_for(challenge, user, PASSWORD, &self.uri, nc)
    }

    /// The same with every part chosen.
    pub fn signed_for(&self, challenge: &str, user: &str, password: &str, uri: &str, nc: u32) -> Self {
        let value = challenge_value(challenge, 0);
        let answer =
            sip::digest::answer(value.as_bytes(), self.method.as_bytes(), uri, user, password, nc, "cn").unwrap();
        let header = if challenge.starts_with("SIP/2.0 407") { "Proxy-Authorization" } else { "Authorization" };
        self.clone().line(&format!("{header}: {answer}"))
    }
}

/// The n-th challenge of a response.
pub fn challenge_value(response: &str, n: usize) -> String {
    let values: Vec<&str> = response
        .lines()
        .filter_map(|line| line.strip_prefix("WWW-Authenticate: ").or(line.strip_prefix("Proxy-Authenticate: ")))
        .collect();
    (*values.get(n).unwrap_or_else(|| panic!("no challenge in {response}"))).to_owned()
}

/// The status of a response, 0 of a request.
pub fn status(text: &str) -> u16 {
    text.strip_prefix("SIP/2.0 ").and_then(|rest| rest[..3].parse().ok()).unwrap_or(0)
}

/// The value of the first header of this name.
pub fn header(text: &str, name: Name) -> Option<String> {
    let mut layout = Layout::default();
    sip::parse_datagram(text.as_bytes(), &mut layout).unwrap();
    let value = layout.view(text.as_bytes()).first(name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A phone's answer to what was sent to it.
pub fn response_to(request: &str, status: u16) -> String {
    let lines: Vec<&str> = request.split("\r\n\r\n").next().unwrap().split("\r\n").collect();
    let kept =
        |line: &&&str| ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "].iter().any(|name| line.starts_with(name));
    let kept: Vec<&str> = lines.iter().filter(kept).copied().collect();
    format!("SIP/2.0 {status} Phone\r\n{}\r\nContent-Length: 0\r\n\r\n", kept.join("\r\n"))
}

/// The socket of a connection, that takes so many octets, and then no more until it is given room.
#[derive(Clone)]
pub struct Socket(Arc<Mutex<(Vec<u8>, usize)>>);

impl Socket {
    /// With room for so many.
    pub fn new(room: usize) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), room))))
    }

    /// Gives it room for so many more; what it had counts no longer.
    pub fn give_room(&self, room: usize) {
        self.0.lock().1 = room;
    }

    /// What it has taken since it was last asked.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().0)
    }
}

impl Writer for Socket {
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut inner = self.0.lock();
        let mut taken = 0;
        for slice in slices {
            let count = slice.len().min(inner.1);
            inner.0.extend_from_slice(&slice[..count]);
            inner.1 -= count;
            taken += count;
        }
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

/// What a shard's sockets have sent: ports and texts.
#[derive(Clone, Default)]
pub struct Wire(pub Rc<RefCell<Vec<(u16, String)>>>);

impl DatagramSink for Wire {
    fn send(&self, arena: &[u8], datagrams: &[Datagram], _: &mut Vec<usize>) -> u64 {
        let texts = datagrams
            .iter()
            .map(|each| (each.peer.port(), String::from_utf8_lossy(&arena[each.range.clone()]).into_owned()));
        self.0.borrow_mut().extend(texts);
        0
    }
}

impl Wire {
    /// What has come to a port by now.
    pub fn take(&self, port: u16) -> Vec<String> {
        let mut all = self.0.borrow_mut();
        let (here, there): (Vec<_>, Vec<_>) = all.drain(..).partition(|(to, _)| *to == port);
        *all = there;
        here.into_iter().map(|(_, text)| text).collect()
    }

    /// The next that comes to a port, within two seconds.
    pub async fn next(&self, port: u16) -> String {
        for _ in 0..2_000 {
            let at = self.0.borrow().iter().position(|(to, _)| *to == port);
            if let Some(at) = at {
                return self.0.borrow_mut().remove(at).1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("nothing came to {port}; there is {:?}", self.0.borrow());
    }
}

/// A house that lives on the test's own thread, with phones at ports of this host.
pub struct Living {
    pub house: Arc<House>,
    pub wire: Wire,
    pub tree: crate::tree::Tree,
    branch: std::cell::Cell<u32>,
}

impl Living {
    /// Over an empty store, with these subscribers.
    pub async fn with(people: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let store = Store::in_memory();
        for name in people {
            store.put_account(account(name), true).await.unwrap();
        }
        Self::over(store, change).await
    }

    /// Over a store that is there already.
    pub async fn over(store: Store, change: impl FnOnce(&mut Config)) -> Self {
        let house = house_over(store, change);
        let wire = Wire::default();
        crate::tree::attach_shard(&house, Box::new(wire.clone()));
        let arbiters = vec![actix_rt::Arbiter::current(); house.config.shards];
        let tree = crate::tree::plant(&house, &arbiters, Vec::new(), || {});
        // Every life has branches of its own.
        let branch = std::cell::Cell::new(house.now().unix_ms as u32);
        let living = Self { house, wire, tree, branch };
        let lives =
            |part| living.node(&["shard 0", part]).is_some_and(|node| node.state() == crate::node::State::Running);
        living.until("it lives", || lives("users") && lives("transactions")).await;
        living
    }

    /// A datagram from a port.
    pub fn hear(&self, port: u16, text: &str) {
        let from = Hop::udp(0, at(port));
        crate::turn::fill(|turn| {
            let now = self.house.now();
            crate::router::datagram(&self.house, turn, &mut Layout::default(), text.as_bytes(), from, now);
        });
        crate::turn::flush();
    }

    pub fn branch(&self) -> String {
        self.branch.set(self.branch.get().wrapping_add(1));
        format!("-{}", self.branch.get())
    }

    /// What a client at a port hears, who asks, is challenged and signs.
    pub async fn ask(&self, port: u16, ask: &Ask, user: &str) -> String {
        self.send(port, ask, user).await;
        self.wire.next(port).await
    }

    /// The same without waiting for the answer; the text that was signed.
    pub async fn send(&self, port: u16, ask: &Ask, user: &str) -> String {
        self.hear(port, &ask.text(&self.branch()));
        let challenge = self.wire.next(port).await;
        assert!([401, 407].contains(&status(&challenge)), "{challenge}");
        let text = ask.signed(&challenge, user, 1).text(&self.branch());
        self.hear(port, &text);
        text
    }

    /// A phone registers at its port; its status.
    pub async fn register(&self, name: &str, port: u16) -> u16 {
        self.register_for(name, port, 3_600).await
    }

    pub async fn register_for(&self, name: &str, port: u16, seconds: u32) -> u16 {
        let contact = format!("<sip:{name}@127.0.0.1:{port}>;expires={seconds}");
        let ask = Ask { call_id: format!("r-{name}-{}", self.branch()), ..Ask::register(name, &contact) };
        status(&self.ask(port, &ask, name).await)
    }

    /// The next request at a port, answered with a status.
    pub async fn take(&self, port: u16, status: u16) -> String {
        let text = self.wire.next(port).await;
        assert_eq!(self::status(&text), 0, "a request comes to {port}, not {text}");
        self.hear(port, &response_to(&text, status));
        text
    }

    /// The node of the tree at this path.
    pub fn node(&self, path: &[&str]) -> Option<Arc<crate::node::Node>> {
        path.iter().try_fold(self.tree.node.clone(), |node, name| {
            node.children().0.into_iter().find(|child| child.name == *name)
        })
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..3_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("never: {what}");
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.tree.leave();
    }
}
