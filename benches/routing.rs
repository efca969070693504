//! What does one relayed page message cost, but for sockets: the request in and on, its 200 in and back?
//!
//! The whole turn of the data plane over a house with 1,000 online users. signed: as clients send, with Digest. trusted: as
//! a trusted peer sends, without. CPU time; what the network and the kernel would do is not in it.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actors::config::Network;
use actors::hop::Hop;
use actors::reach::{Climb, Reach, Way};
use actors::turn::Turn;
use actors::{Config, House};
use base::{Aor, IdMaker, Now};
use benches::cpu;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sip::digest::Ha1;
use sip::{Layout, Name};
use storage::Store;

criterion_group!(routing, relay);
criterion_main!(routing);

const USERS: u16 = 1_000;
/// Messages that come in one batch of datagrams.
const BATCH: u32 = 32;
/// Messages of one house: it keeps their transactions, as a server does for half a minute.
const MESSAGES: u32 = 8_192;
const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const PHONES: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn relay(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay a MESSAGE of 270 octets of text and its 200");
    group.throughput(Throughput::Elements(1));
    for is_signed in [true, false] {
        let name = if is_signed { "signed" } else { "trusted" };
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let (mut spent, mut left) = (Duration::ZERO, count);
                while left > 0 {
                    let now = left.min(u64::from(MESSAGES));
                    spent += World::new().relay(now as u32, is_signed);
                    left -= now;
                }
                spent
            });
        });
    }
    group.finish();
}

struct World {
    house: Arc<House>,
    turn: Turn,
    layout: Layout,
}

impl World {
    fn new() -> Self {
        let trusted = vec![Network { address: TRUSTED, bits: 32 }];
        let config = Config { trusted, ..Config::default() };
        let house = House::new(config, Store::in_memory(), IdMaker::new([5; 16]), Now::read);
        for number in 0..USERS {
            house.reach.publish(Arc::new(row(number)));
        }
        Self { house, turn: Turn::default(), layout: Layout::default() }
    }

    fn hear(&mut self, bytes: &[u8], from: SocketAddr, now: Now) {
        let from = Hop::udp(0, from);
        actors::router::datagram(&self.house, &mut self.turn, &mut self.layout, bytes, from, now);
    }

    /// What has left since the last look.
    fn left(&mut self) -> Vec<(SocketAddr, String)> {
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&self.turn.arena[range]).into_owned();
        let all = self.turn.datagrams().iter().map(|each| (each.peer, text(each.range.clone()))).collect();
        self.turn.clear();
        all
    }

    /// The time that the turns took.
    fn relay(&mut self, count: u32, is_signed: bool) -> Duration {
        let from = SocketAddr::new(if is_signed { PHONES } else { TRUSTED }, 5_062);
        let challenge = is_signed.then(|| {
            self.hear(&message(0, ""), from, Now::read());
            challenge_of(&self.left()[0].1)
        });
        let (mut spent, mut number) = (Duration::ZERO, 1);
        while number <= count {
            let batch = number..=count.min(number + BATCH - 1);
            number += BATCH;
            let requests: Vec<Vec<u8>> = batch.map(|number| signed(number, challenge.as_deref())).collect();
            let began = cpu::spent();
            let now = Now::read();
            for request in &requests {
                self.hear(request, from, now);
            }
            spent += cpu::spent() - began;
            let answers: Vec<_> = self.left().into_iter().map(|(to, request)| (to, answer_to(&request))).collect();
            assert_eq!(answers.len(), requests.len(), "all were relayed");
            let began = cpu::spent();
            let now = Now::read();
            for (at, answer) in &answers {
                self.hear(answer, *at, now);
            }
            spent += cpu::spent() - began;
            let back = self.left();
            assert!(back.len() == requests.len() && back.iter().all(|(_, text)| text.starts_with("SIP/2.0 200 ")));
        }
        spent
    }
}

fn row(number: u16) -> Reach {
    let name = format!("user{number}");
    let way = Way {
        contact: format!("sip:{name}@192.0.2.7:{}", 10_000 + number).into_bytes().into(),
        sips: None,
        hop: Hop::udp(0, SocketAddr::new(PHONES, 10_000 + number)),
        expires_unix_s: u64::MAX,
    };
    Reach {
        aor: aor(&name),
        ha1: Ha1::of(&name, "example.com", "secret"),
        login: name.into(),
        aliases: Box::default(),
        climb: Climb::empty(),
        ways: vec![way].into(),
        may_page: true,
        may_call: true,
        may_register: true,
    }
}

fn aor(name: &str) -> Aor {
    Aor::new(name, "example.com").unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// Everybody in turn to everybody in turn: 270 octets of text.
fn message(number: u32, credentials: &str) -> Vec<u8> {
    let (from, to) = (number % u32::from(USERS), (number * 7 + 1) % u32::from(USERS));
    let body = "a text of which only the length matters ".repeat(7)[..270].to_owned();
    format!(
        "MESSAGE sip:user{to}@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK{number:08x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:user{from}@example.com>;tag=49583\r\nTo: <sip:user{to}@example.com>\r\n\
         Call-ID: asd88asd77a{number:08x}@192.0.2.7\r\nCSeq: 1 MESSAGE\r\n{credentials}User-Agent: Phone 1.0\r\n\
         Content-Type: text/plain\r\nContent-Length: 270\r\n\r\n{body}"
    )
    .into_bytes()
}

fn signed(number: u32, challenge: Option<&str>) -> Vec<u8> {
    let Some(challenge) = challenge else { return message(number, "") };
    let (from, to) = (number % u32::from(USERS), (number * 7 + 1) % u32::from(USERS));
    let (uri, user) = (format!("sip:user{to}@example.com"), format!("user{from}"));
    let answer = sip::digest::answer(challenge.as_bytes(), b"MESSAGE", &uri, &user, "secret", number, "0a4f113b");
    let answer = answer.unwrap_or_else(|fault| panic!("{challenge}: {fault}"));
    message(number, &format!("Proxy-Authorization: {answer}\r\n"))
}

fn challenge_of(response: &str) -> String {
    let mut layout = Layout::default();
    assert!(sip::parse_datagram(response.as_bytes(), &mut layout).is_ok(), "{response}");
    let value = layout.view(response.as_bytes()).first(Name::ProxyAuthenticate);
    String::from_utf8_lossy(value.unwrap_or_else(|| panic!("no challenge: {response}"))).into_owned()
}

fn answer_to(request: &str) -> Vec<u8> {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let is_kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
    let kept: Vec<&str> = head.split("\r\n").filter(is_kept).collect();
    format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", kept.join("\r\n")).into_bytes()
}
