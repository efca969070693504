//! The doors over real sockets of this host: phones by UDP and TCP, and whoever does not behave.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Actor, Arbiter};
use actors::config::ListenerName;
use actors::house::House;
use actors::metrics::Count;
use actors::supervise::Fall;
use actors::tree::{self, Tree};
use base::limits::{OUTBOX_BYTES_MAX, SIP_HEAD_BYTES_MAX};
use base::{Aor, IdMaker, Now};
use net::{Dialer, Doors, Gate};
use sip::digest::Ha1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

struct Server {
    house: Arc<House>,
    gate: Arc<Gate>,
    tree: Tree,
    udp: SocketAddr,
    tcp: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    async fn with(doors: impl FnOnce(&mut net::Config), living: impl FnOnce(&mut actors::Config)) -> Self {
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut config = net::Config { udp: vec![local], tcp: vec![local], ..net::Config::default() };
        doors(&mut config);
        let config = Arc::new(config);
        let doors = Doors::bind(&config, 1).unwrap();
        let (udp, tcp) = (doors.udp_addresses()[0], doors.tcp_addresses()[0]);
        let name = |address: SocketAddr| ListenerName { sent_by: address.to_string(), is_v6: address.is_ipv6() };
        let mut settings = actors::Config { udp: vec![name(udp)], tcp: name(tcp), ..actors::Config::default() };
        living(&mut settings);
        let store = storage::Store::in_memory();
        for user in ["alice", "bob"] {
            let ha1 = Ha1::of(user, "example.com", "secret");
            let account = storage::Account {
                aor: Aor::new(user, "example.com").unwrap(),
                ha1_sha256: ha1.sha256,
                ha1_md5: ha1.md5,
                realm: "example.com".into(),
                aliases: Vec::new(),
                login: None,
                services: "all".into(),
                history_limit: None,
            };
            store.put_account(account, true).await.unwrap();
        }
        let house = House::new(settings, store, IdMaker::from_os().unwrap(), Now::read);
        let gate = Gate::new(config.connections, config.connections_per_source);
        tree::attach_shard(&house, Box::new(doors.sink(0).unwrap()));
        let dialer = Dialer::new(house.clone(), gate.clone(), config.clone());
        let node = dialer.node();
        house.introduce(dialer.start().recipient(), node);
        let arbiters = [Arbiter::current()];
        let children = doors.children(&arbiters, &house, &gate, &config);
        let tree = tree::plant(&house, &arbiters, children, || {});
        Self { house, gate, tree, udp, tcp }
    }

    fn count(&self, what: Count) -> u64 {
        self.house.metrics.get(what)
    }

    async fn udp(&self) -> Phone {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.udp).await.unwrap();
        Phone { local: socket.local_addr().unwrap(), way: Way::Udp(socket), unread: Vec::new(), number: 0 }
    }

    async fn tcp(&self) -> Phone {
        Phone::over(TcpStream::connect(self.tcp).await.unwrap())
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..5_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("never: {what}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tree.leave();
    }
}

enum Way {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A client at one socket.
struct Phone {
    way: Way,
    local: SocketAddr,
    unread: Vec<u8>,
    number: u32,
}

impl Phone {
    fn over(stream: TcpStream) -> Self {
        Self { local: stream.local_addr().unwrap(), way: Way::Tcp(stream), unread: Vec::new(), number: 0 }
    }

    async fn send(&mut self, text: &[u8]) {
        match &mut self.way {
            Way::Udp(socket) => drop(socket.send(text).await.unwrap()),
            Way::Tcp(stream) => stream.write_all(text).await.unwrap(),
        }
    }

    /// The next message; nothing when the connection was closed.
    async fn next(&mut self) -> Option<String> {
        let mut buffer = vec![0; 65_536];
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.unread[..end + 4]).into_owned();
                let length: usize = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
                    .unwrap_or(0);
                if self.unread.len() >= end + 4 + length {
                    let whole = self.unread.drain(..end + 4 + length).collect::<Vec<_>>();
                    return Some(String::from_utf8(whole).unwrap());
                }
            }
            let count = timeout(PATIENCE, async {
                match &mut self.way {
                    Way::Udp(socket) => socket.recv(&mut buffer).await,
                    Way::Tcp(stream) => stream.read(&mut buffer).await,
                }
            });
            match count.await.expect("something comes") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            }
        }
    }

    async fn heard(&mut self) -> String {
        self.next().await.expect("the connection stands")
    }

    fn request(&mut self, method: &str, uri: &str, user: &str, to: &str, lines: &str, body: &str) -> String {
        self.number += 1;
        let (n, local) = (self.number, self.local);
        let (via, port) = match self.way {
            Way::Udp(_) => ("UDP", ";rport"),
            Way::Tcp(_) => ("TCP", ""),
        };
        let unique = format!("{user}{n}p{}", local.port());
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} {local}{port};branch=z9hG4bK{unique}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@example.com>;tag=t\r\nTo: <sip:{to}@example.com>\r\nCall-ID: {unique}\r\nCSeq: {n} {method}\r\n\
             {lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Challenged and signed; the signed request is on its way.
    async fn ask(&mut self, method: &str, uri: &str, user: &str, to: &str, lines: &str, body: &str) {
        let first = self.request(method, uri, user, to, lines, body);
        self.send(first.as_bytes()).await;
        let challenge = self.heard().await;
        let (header, value) = challenge
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.ends_with("-Authenticate"))
            .unwrap_or_else(|| panic!("no challenge: {challenge}"));
        let answer = sip::digest::answer(value.as_bytes(), method.as_bytes(), uri, user, "secret", 1, "cn").unwrap();
        let header = if header.starts_with("WWW") { "Authorization" } else { "Proxy-Authorization" };
        let signed = self.request(method, uri, user, to, &format!("{lines}{header}: {answer}\r\n"), body);
        self.send(signed.as_bytes()).await;
    }

    async fn register(&mut self, user: &str) {
        let transport = if let Way::Tcp(_) = self.way { ";transport=tcp" } else { "" };
        let contact = format!("Contact: <sip:{user}@{}{transport}>\r\n", self.local);
        self.ask("REGISTER", "sip:example.com", user, user, &contact, "").await;
        assert!(self.heard().await.starts_with("SIP/2.0 200 "));
    }

    async fn message(&mut self, user: &str, to: &str, text: &str) {
        let uri = format!("sip:{to}@example.com");
        self.ask("MESSAGE", &uri, user, to, "Content-Type: text/plain\r\n", text).await;
    }

    /// The next request, answered with 200.
    async fn take(&mut self) -> String {
        let request = self.heard().await;
        assert!(request.starts_with("MESSAGE "), "{request}");
        let answer = response(&request);
        self.send(answer.as_bytes()).await;
        request
    }

    async fn is_closed_within(&mut self, most: Duration) -> bool {
        let began = Instant::now();
        let closed = timeout(most, async { while self.next().await.is_some() {} }).await.is_ok();
        closed && began.elapsed() < most
    }
}

fn response(request: &str) -> String {
    let names = ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "];
    let lines = request.split("\r\n").filter(|line| names.iter().any(|name| line.starts_with(name)));
    format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.collect::<Vec<_>>().join("\r\n"))
}

#[actix::test]
async fn phones_reach_each_other_by_datagrams_and_connections_in_every_pairing() {
    for (alice_is_tcp, bob_is_tcp) in [(false, false), (true, false), (false, true), (true, true)] {
        let server = Server::start().await;
        let mut bob = if bob_is_tcp { server.tcp().await } else { server.udp().await };
        let mut alice = if alice_is_tcp { server.tcp().await } else { server.udp().await };
        bob.register("bob").await;
        for text in ["one", "two", "three"] {
            alice.message("alice", "bob", text).await;
            let relayed = bob.take().await;
            let transport = if bob_is_tcp { "TCP" } else { "UDP" };
            let via = format!("Via: SIP/2.0/{transport} {}", if bob_is_tcp { server.tcp } else { server.udp });
            assert!(relayed.ends_with(text) && relayed.contains(&via), "{relayed}");
            assert!(alice.heard().await.starts_with("SIP/2.0 200 OK\r\n"));
        }
        assert_eq!(server.count(Count::Relayed), 3);
        // Only who came by a datagram may repeat: bob's REGISTER, alice's messages.
        let may_repeat = usize::from(!bob_is_tcp) + if alice_is_tcp { 0 } else { 3 };
        assert_eq!(server.house.transactions.len(), may_repeat);
    }
}

#[actix::test]
async fn a_ping_is_answered_and_messages_are_found_however_they_are_cut() {
    let server = Server::start().await;
    let mut phone = server.tcp().await;
    phone.send(b"\r\n\r\n").await;
    let Way::Tcp(stream) = &mut phone.way else { unreachable!() };
    let mut pong = [0; 2];
    timeout(PATIENCE, stream.read_exact(&mut pong)).await.unwrap().unwrap();
    assert_eq!(&pong, b"\r\n");

    let options = phone.request("OPTIONS", "sip:example.com", "alice", "alice", "", "");
    for octet in options.as_bytes() {
        phone.send(&[*octet]).await;
        tokio::task::yield_now().await;
    }
    assert!(phone.heard().await.starts_with("SIP/2.0 401 "));
    // Many in one piece.
    let many: String =
        (0..200).map(|_| phone.request("OPTIONS", "sip:example.com", "alice", "alice", "", "")).collect();
    phone.send(many.as_bytes()).await;
    for _ in 0..200 {
        assert!(phone.heard().await.starts_with("SIP/2.0 401 "));
    }
}

#[actix::test]
async fn garbage_closes_a_connection_and_is_counted_and_datagrams_of_it_are_dropped() {
    let server = Server::start().await;
    let mut web = server.tcp().await;
    web.send(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    assert!(web.is_closed_within(PATIENCE).await);
    server.until("counted", |server| server.gate.cut_off.load(Ordering::Relaxed) == 1).await;
    assert_eq!(server.count(Count::Garbage), 1);
    let mut noise = server.udp().await;
    for n in 0..200u32 {
        noise.send(&n.to_be_bytes().repeat(n as usize % 300 + 1)).await;
    }
    server.until("counted", |server| server.count(Count::Garbage) > 190).await;
    let mut phone = server.tcp().await;
    phone.register("bob").await;
}

#[actix::test]
async fn a_head_without_end_is_cut_off_at_the_limit() {
    let server = Server::start().await;
    let mut phone = server.tcp().await;
    let head = phone.request("OPTIONS", "sip:example.com", "alice", "alice", "", "");
    phone.send(head.split("\r\n\r\n").next().unwrap().as_bytes()).await;
    let mut sent = 0;
    let Way::Tcp(stream) = &mut phone.way else { unreachable!() };
    while stream.write_all(b"\r\nX-Long: and longer and longer and longer and longer and longer").await.is_ok() {
        sent += 65;
        tokio::time::sleep(Duration::from_micros(100)).await;
        assert!(sent < 4 * SIP_HEAD_BYTES_MAX, "it is still read");
    }
    server
        .until("cut off", |server| server.gate.cut_off.load(Ordering::Relaxed) == 1 && server.gate.count() == 0)
        .await;
    assert!(server.house.flows.is_empty());
}

#[actix::test]
async fn who_is_slow_or_silent_is_cut_off_in_time_and_who_speaks_is_not() {
    let short = |config: &mut net::Config| {
        config.head_time = Duration::from_millis(300);
        config.silent_time = Duration::from_millis(600);
        config.idle_time = Duration::from_millis(900);
    };
    let server = Server::with(short, |_| {}).await;
    let began = Instant::now();
    let (mut silent, mut slow, mut good) = (server.tcp().await, server.tcp().await, server.tcp().await);
    // A head that comes an octet at a time has no more time than any other.
    let dripping = async {
        let text = slow.request("OPTIONS", "sip:example.com", "alice", "alice", "", "");
        let Way::Tcp(stream) = &mut slow.way else { unreachable!() };
        for octet in text.as_bytes() {
            if stream.write_all(&[*octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    };
    let speaking = async {
        for _ in 0..6 {
            good.send(b"\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let last = Instant::now();
        while good.next().await.is_some() {}
        last.elapsed()
    };
    let (dripped, silence, idle) = tokio::join!(dripping, silent.is_closed_within(PATIENCE), speaking);
    assert!(dripped > Duration::from_millis(290) && dripped < Duration::from_millis(1_500), "{dripped:?}");
    assert!(silence && idle > Duration::from_millis(500) && idle < Duration::from_millis(2_000), "{idle:?}");
    server.until("all three", |server| server.gate.cut_off.load(Ordering::Relaxed) == 3).await;
    assert!(server.house.flows.is_empty());
}

#[actix::test]
async fn connections_are_limited_and_their_places_come_back() {
    let server = Server::with(|config| config.connections_per_source = 2, |_| {}).await;
    let (mut one, two) = (server.tcp().await, server.tcp().await);
    one.register("bob").await;
    server.until("both are in", |server| server.gate.count() == 2).await;
    let mut three = server.tcp().await;
    assert!(three.is_closed_within(PATIENCE).await);
    drop(two);
    server.until("a place is free", |server| server.gate.count() == 1).await;
    server.tcp().await.register("alice").await;
    assert_eq!(server.gate.refused.load(Ordering::Relaxed), 1);
}

#[actix::test]
async fn a_peer_that_never_reads_its_answers_is_stopped_within_bounded_memory_and_cut_off() {
    let server = Server::with(|config| config.silent_time = Duration::from_millis(800), |_| {}).await;
    let mut deaf = server.tcp().await;
    let mut most = 0;
    let text: String = (0..64).map(|_| deaf.request("OPTIONS", "sip:example.com", "alice", "alice", "", "")).collect();
    let Way::Tcp(stream) = &mut deaf.way else { unreachable!() };
    let outbox = {
        server.until("it stands", |server| server.house.flows.len() == 1).await;
        (1..100).find_map(|id| server.house.flows.get(actors::hop::ConnId(id))).unwrap()
    };
    let mut stopped = false;
    for _ in 0..20_000 {
        match timeout(Duration::from_millis(100), stream.write_all(text.as_bytes())).await {
            Ok(Ok(())) => most = most.max(outbox.waiting()),
            _ => {
                stopped = true;
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(stopped, "it is not read for ever");
    assert!((1..OUTBOX_BYTES_MAX).contains(&most), "{most} octets wait");
    server.until("cut off", |server| server.gate.count() == 0).await;
    assert_eq!(server.gate.cut_off.load(Ordering::Relaxed), 1);
    assert_eq!(outbox.waiting(), 0, "and nothing is kept of it");
}

#[actix::test]
async fn a_turn_of_a_door_is_timed_however_long_it_takes_and_on_the_door_s_own_node() {
    let server = Server::start().await;
    let (mut alice, mut bob) = (server.udp().await, server.tcp().await);
    alice.register("alice").await;
    bob.register("bob").await;
    let doors = server.tree.node.children().0.into_iter().find(|each| each.name == "doors").unwrap().children().0;
    let longest = |word: &str| doors.iter().find(|door| door.name.starts_with(word)).unwrap().turns().longest_us();
    assert!(longest("udp") > 0 && longest("tcp") > 0, "both have read something");
    assert!(longest("udp") < 40_000, "and not for long: {}", longest("udp"));

    // Somebody holds bob's connection: the turn that writes to it cannot end.
    let outbox = (1..100).find_map(|id| server.house.flows.get(actors::hop::ConnId(id))).unwrap();
    let (holds, held) = std::sync::mpsc::channel();
    let holding = std::thread::spawn(move || {
        let lane = outbox.hold();
        holds.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        drop(lane);
    });
    let first = alice.request("MESSAGE", "sip:bob@example.com", "alice", "bob", "Content-Type: text/plain\r\n", "x");
    alice.send(first.as_bytes()).await;
    let challenge = alice.heard().await;
    held.recv().unwrap();
    let value = challenge.lines().find_map(|line| line.split_once("-Authenticate: ")).unwrap().1;
    let uri = "sip:bob@example.com";
    let answer = sip::digest::answer(value.as_bytes(), b"MESSAGE", uri, "alice", "secret", 1, "cn").unwrap();
    let lines = format!("Content-Type: text/plain\r\nProxy-Authorization: {answer}\r\n");
    let signed = alice.request("MESSAGE", uri, "alice", "bob", &lines, "x");
    alice.send(signed.as_bytes()).await;
    bob.take().await;
    holding.join().unwrap();
    assert!(longest("udp") >= 100_000, "{}", longest("udp"));
}

#[actix::test]
async fn a_peer_that_reads_late_gets_everything_in_order() {
    let server = Server::start().await;
    let mut late = server.tcp().await;
    let requests: Vec<String> =
        (0..8_000).map(|_| late.request("OPTIONS", "sip:example.com", "alice", "alice", "", "")).collect();
    let Way::Tcp(stream) = late.way else { unreachable!() };
    let (read, mut write) = stream.into_split();
    let writing = async {
        for text in &requests {
            write.write_all(text.as_bytes()).await.unwrap();
        }
    };
    let reading = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (mut read, mut heard, mut buffer) = (read, Vec::new(), vec![0; 1 << 16]);
        while heard.windows(5).filter(|five| five == b"CSeq:").count() < 8_000 {
            let count = timeout(PATIENCE, read.read(&mut buffer)).await.unwrap().unwrap();
            assert!(count > 0);
            heard.extend_from_slice(&buffer[..count]);
            if heard.len() % 7 == 0 {
                tokio::time::sleep(Duration::from_micros(50)).await;
            }
        }
        heard
    };
    let (heard, ()) = tokio::join!(reading, writing);
    let heard = String::from_utf8(heard).unwrap();
    let numbers: Vec<u32> =
        heard.lines().filter_map(|line| line.strip_prefix("CSeq: ")?.split(' ').next()?.parse().ok()).collect();
    assert_eq!(numbers, (1..=8_000).collect::<Vec<_>>());
}

#[actix::test]
async fn a_contact_whose_connection_is_gone_is_called_back_and_by_one_connection() {
    let server = Server::start().await;
    let mut alice = server.udp().await;
    let home = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut away = server.tcp().await;
    away.local = home.local_addr().unwrap();
    away.register("bob").await;
    drop(away);
    server.until("it is gone", |server| server.house.flows.is_empty()).await;
    alice.message("alice", "bob", "one").await;
    let mut bob = Phone::over(timeout(PATIENCE, home.accept()).await.unwrap().unwrap().0);
    assert!(bob.take().await.ends_with("one"));
    assert!(alice.heard().await.starts_with("SIP/2.0 200 "));
    alice.message("alice", "bob", "two").await;
    assert!(bob.take().await.ends_with("two"));
    assert!(alice.heard().await.starts_with("SIP/2.0 200 "));
    assert_eq!(server.house.flows.len(), 1, "the one that stands is used again");

    // Where nobody listens the message waits.
    drop((bob, home));
    server.until("it is gone", |server| server.house.flows.is_empty()).await;
    alice.message("alice", "bob", "three").await;
    assert!(alice.heard().await.starts_with("SIP/2.0 202 "));
    let mut back = server.tcp().await;
    back.register("bob").await;
    assert!(back.take().await.ends_with("three"));
}

#[actix::test]
async fn a_connection_lost_before_its_answer_lets_the_message_wait_at_once() {
    let server = Server::start().await;
    let (mut alice, mut bob) = (server.udp().await, server.tcp().await);
    bob.register("bob").await;
    alice.message("alice", "bob", "one").await;
    assert!(bob.heard().await.ends_with("one"));
    let began = Instant::now();
    drop(bob);
    assert!(alice.heard().await.starts_with("SIP/2.0 202 "));
    assert!(began.elapsed() < Duration::from_secs(3), "nobody waits ten seconds for a connection that is gone");
}

#[actix::test]
async fn an_answer_finds_its_caller_whose_connection_is_gone() {
    // RFC 3261 §18.2.2.
    let server = Server::start().await;
    let (mut alice, mut bob) = (server.tcp().await, server.udp().await);
    let home = TcpListener::bind("127.0.0.1:0").await.unwrap();
    alice.local = home.local_addr().unwrap();
    bob.register("bob").await;
    alice.message("alice", "bob", "one").await;
    let request = bob.heard().await;
    drop(alice);
    server.until("it is gone", |server| server.house.flows.is_empty()).await;
    bob.send(response(&request).as_bytes()).await;
    let mut again = Phone::over(timeout(PATIENCE, home.accept()).await.unwrap().unwrap().0);
    assert!(again.heard().await.starts_with("SIP/2.0 200 OK\r\n"));
}

#[actix::test]
async fn a_listener_that_falls_opens_again_over_the_same_socket_and_connections_live_on() {
    let server = Server::start().await;
    let mut bob = server.tcp().await;
    bob.register("bob").await;
    let doors = server.tree.node.children().0.into_iter().find(|child| child.name == "doors").unwrap();
    let listeners = doors.children().0;
    assert_eq!(listeners.len(), 2);
    for listener in listeners {
        server.tree.root.do_send(Fall::at(&["doors", &listener.name]));
        server.until("it fell", |_| listener.restarts() == 1).await;
        let mut alice = if listener.name.starts_with("udp") { server.udp().await } else { server.tcp().await };
        alice.message("alice", "bob", "one").await;
        bob.take().await;
        assert!(alice.heard().await.starts_with("SIP/2.0 200 "), "{}", listener.name);
    }
    // Closed, nothing comes in any more; whoever is inside is served to the end.
    server.tree.close_doors();
    tokio::time::sleep(Duration::from_millis(50)).await;
    bob.message("bob", "alice", "late").await;
    assert!(bob.heard().await.starts_with("SIP/2.0 202 "));
    let refused = match timeout(Duration::from_millis(500), TcpStream::connect(server.tcp)).await {
        Ok(Ok(stream)) => {
            !timeout(Duration::from_millis(300), Phone::over(stream).next()).await.is_ok_and(|said| said.is_some())
        }
        _ => true,
    };
    assert!(refused);
}

#[actix::test]
async fn an_address_that_another_server_holds_is_said_and_shards_share_a_free_port() {
    let config = |address: &str| {
        let address = vec![address.parse().unwrap()];
        net::Config { udp: address.clone(), tcp: address, ..net::Config::default() }
    };
    let first = Doors::bind(&config("127.0.0.1:0"), 3).unwrap();
    assert!(first.sink(2).is_ok());
    let (udp, tcp) = (first.udp_addresses()[0], first.tcp_addresses()[0]);
    let taken = Doors::bind(&net::Config { udp: vec![udp], ..net::Config::default() }, 1).unwrap_err().to_string();
    assert!(taken.contains(&format!("cannot listen on UDP {udp}")), "{taken}");
    assert!(Doors::bind(&net::Config { tcp: vec![tcp], ..net::Config::default() }, 2).is_err());
    drop(first);
    assert!(Doors::bind(&net::Config { udp: vec![udp], tcp: vec![tcp], ..net::Config::default() }, 2).is_ok());
}

#[actix::test]
async fn a_burst_above_what_one_turn_reads_is_read_to_its_end() {
    let server = Server::start().await;
    let mut phone = server.udp().await;
    // All of it lies in the socket before the listener, on this very thread, looks: more than four full batches.
    for count in [1u64, 64, 256, 300] {
        let before = server.count(Count::Requests);
        let burst: Vec<String> =
            (0..count).map(|_| phone.request("OPTIONS", "sip:example.com", "alice", "alice", "", "")).collect();
        let Way::Udp(socket) = &phone.way else { unreachable!() };
        socket.writable().await.unwrap();
        for text in &burst {
            assert!(socket.try_send(text.as_bytes()).is_ok());
        }
        server.until("all are read", |server| server.count(Count::Requests) - before == count).await;
    }
    assert_eq!((server.count(Count::Challenged), server.count(Count::Panics)), (621, 0));
}

#[actix::test]
async fn a_stun_ping_is_answered_from_the_sip_socket_and_a_broken_one_is_dropped_and_counted() {
    // RFC 5626 §8, RFC 5389 §15.2
    let server = Server::start().await;
    let phone = server.udp().await;
    let Way::Udp(socket) = &phone.way else { unreachable!() };
    let mut ping = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], b"transaction!"].concat();
    socket.send(&ping).await.unwrap();
    let mut pong = [0; 100];
    let count = timeout(PATIENCE, socket.recv(&mut pong)).await.unwrap().unwrap();
    assert_eq!((count, &pong[..2], &pong[8..20]), (32, &[1, 1][..], &b"transaction!"[..]));
    assert_eq!(pong[20..26], [0, 0x20, 0, 8, 0, 1]);
    assert_eq!(u16::from_be_bytes([pong[26], pong[27]]) ^ 0x2112, phone.local.port());
    let ip: Vec<u8> = pong[28..32].iter().zip([0x21, 0x12, 0xA4, 0x42]).map(|(octet, mask)| octet ^ mask).collect();
    assert_eq!(ip, [127, 0, 0, 1]);
    assert_eq!(server.count(Count::Pings), 1);
    ping[3] = 3;
    socket.send(&ping).await.unwrap();
    server.until("counted", |server| server.count(Count::Garbage) == 1).await;
    assert_eq!(server.count(Count::Malformed), 0, "nobody took it for SIP");
}

#[actix::test]
async fn a_binding_dies_with_its_flow_and_lives_as_long_as_it_stands() {
    // RFC 5626 §6, §7
    let server = Server::with(|_| {}, |settings| settings.user_idle = Duration::from_millis(50)).await;
    let bob = Aor::new("bob", "example.com").unwrap();
    let mut phone = server.tcp().await;
    // Nobody would reach the phone by its Contact.
    let contact = "Supported: path, outbound\r\nContact: <sip:bob@127.0.0.1:9;transport=tcp;ob>;reg-id=1;\
        +sip.instance=\"<urn:uuid:1>\"\r\n";
    phone.ask("REGISTER", "sip:example.com", "bob", "bob", contact, "").await;
    let answer = phone.heard().await;
    assert!(answer.contains("\r\nRequire: outbound\r\n") && answer.contains("\r\nFlow-Timer: 120\r\n"), "{answer}");
    let mut alice = server.udp().await;
    for text in ["at once", "after his actor was gone"] {
        alice.message("alice", "bob", text).await;
        assert!(phone.take().await.ends_with(text));
        assert!(alice.heard().await.starts_with("SIP/2.0 200 "));
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.house.reach.remove(&bob);
    }
    drop(phone);
    server.until("the flow is lost", |server| server.gate.count() == 0).await;
    alice.message("alice", "bob", "for later").await;
    assert!(alice.heard().await.starts_with("SIP/2.0 202 "));
    let ways = |server: &Server| server.house.reach.get(&bob).map_or(0, |row| row.ways.len());
    server.until("nobody sees the binding", |server| ways(server) == 0).await;

    // The same while he is active: told at once, and written.
    let mut phone = server.tcp().await;
    phone.ask("REGISTER", "sip:example.com", "bob", "bob", contact, "").await;
    assert!(phone.heard().await.starts_with("SIP/2.0 200 "));
    assert!(phone.take().await.ends_with("for later"));
    assert_eq!(ways(&server), 1);
    drop(phone);
    server.until("nobody sees the binding", |server| ways(server) == 0).await;
    assert_eq!(server.count(Count::FlowsLost), 1);
    for _ in 0..200 {
        if server.house.store.bindings(&bob).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the store still has it");
}
