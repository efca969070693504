//! The switch: a script of reads at both legs of a session, over sockets that take what they are told to take.
//!
//! Whatever comes in, each leg hears frames of MSRP that are addressed as we address them, and the SENDs of the other
//! leg with their bodies octet for octet: no body makes a frame (decisions D11), not even one that knows our ids.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use actors::hop::ConnId;
use actors::message::{SessionKey, Side};
use actors::outbox::{Outbox, Writer};
use actors::switch::ingress::Ingress;
use actors::switch::turn::{Read, Turn};
use actors::switch::{Pair, Place, Switch};
use base::IdMaker;
use base::limits::MSRP_HELD_BACK_BYTES_MAX;
use msrp::{Kind, Method, Scanner, Step};
use parking_lot::Mutex;

/// Octets of one read, and what may be held back of the one before.
const READ: usize = 1 << 16;
/// Octets that one script may feed.
const FED_MAX: usize = 40_000;
const SIDES: [Side; 2] = [Side::Caller, Side::Callee];
const THEIR: [&str; 2] = ["msrp://alice.invalid:7000/a1b2c3;tcp", "msrp://bob.invalid:8000/d4e5f6;tcp"];
/// Our ids are of this length: no script's own are.
const OUR_TID: usize = 16;

/// The target. The first octet: whether the second leg is bound late, and how every read is cut.
///
/// # Panics
/// When a promise is broken.
pub fn run(input: &[u8]) {
    let Some((how, script)) = input.split_first() else { return };
    let mut world = World::new(usize::from(*how & 0x3F) * 7 + 1);
    world.bind(0);
    if *how < 0x80 {
        world.bind(1);
    }
    let mut script = Script(script);
    while let Some(order) = script.octet() {
        world.obey(order, &mut script);
    }
    if *how >= 0x80 {
        world.bind(1);
    }
    world.finish();
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn octets(&mut self, count: usize) -> &'a [u8] {
        let (now, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        now
    }
}

/// A socket that takes `room` octets, and then no more until it is given room.
#[derive(Clone)]
struct Wire(Arc<Mutex<(Vec<u8>, usize)>>);

impl Writer for Wire {
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

struct End {
    wire: Wire,
    outbox: Arc<Outbox>,
    /// Nothing: the connection is gone.
    ingress: Option<Ingress>,
    held: Vec<u8>,
    /// All that it has sent, the SEND that binds too.
    fed: Vec<u8>,
    /// The chunk that the script has begun here.
    open: Option<String>,
    count: u32,
    is_bound: bool,
}

struct World {
    switch: Switch,
    pair: Arc<Pair>,
    read: Read,
    turn: Turn,
    ends: [End; 2],
    cut: usize,
    fed: usize,
}

impl World {
    fn new(cut: usize) -> Self {
        let place = Place { host: "127.0.0.1".into(), port: 2_855 };
        let switch = Switch::new(&IdMaker::new([5; 16]), Some(place));
        let pair = switch.open(SessionKey { shard: 0, number: 1, secret: 2 }).expect("MSRP is spoken here");
        for (side, path) in SIDES.into_iter().zip(THEIR) {
            pair.set_their_path(side, path).expect("a path");
        }
        let end = |id| {
            let wire = Wire(Arc::new(Mutex::new((Vec::new(), usize::MAX))));
            let outbox = Outbox::new(ConnId(id), Some(Box::new(wire.clone())));
            let ingress = Some(Ingress::new(outbox.clone(), Instant::now()));
            let (held, fed) = (Vec::new(), Vec::new());
            End { wire, outbox, ingress, held, fed, open: None, count: 0, is_bound: false }
        };
        Self { switch, pair, read: Read::new(READ), turn: Turn::default(), ends: [end(1), end(2)], cut, fed: 0 }
    }

    /// One step of the script: who (1 bit), what (3 bits), how much (4 bits).
    fn obey(&mut self, order: u8, script: &mut Script<'_>) {
        let (leg, much) = (usize::from(order & 1), usize::from(order >> 4));
        let body = |script: &mut Script<'_>| {
            let times = if much >= 12 { 1 << (much - 6) } else { 1 };
            script.octets(much * 5).repeat(times)
        };
        match order >> 1 & 7 {
            0 => self.feed(leg, script.octets(much * 16 + 1)),
            1 => {
                let head = self.head(leg, much);
                let tid = self.ends[leg].open.take().unwrap_or_default();
                let frame = [&head[..], &body(script), format!("\r\n-------{tid}$\r\n").as_bytes()].concat();
                self.feed(leg, &frame);
            }
            2 => {
                let head = self.head(leg, much);
                self.feed(leg, &[head, body(script)].concat());
            }
            3 => self.feed(leg, &body(script)),
            4 => {
                if let Some(tid) = self.ends[leg].open.take() {
                    let flag = ['$', '+', '#'][much % 3];
                    self.feed(leg, format!("\r\n-------{tid}{flag}\r\n").as_bytes());
                }
            }
            5 => self.forge(leg, much),
            6 => self.answer(leg, much),
            _ => {
                let end = &self.ends[leg];
                end.wire.0.lock().1 = if much == 15 { usize::MAX } else { much * 40 };
                let _ = end.outbox.flush();
            }
        }
    }

    /// The head of a SEND of this leg, which stays open.
    fn head(&mut self, leg: usize, much: usize) -> Vec<u8> {
        let (to, end) = (self.pair.our_path(SIDES[leg]), &mut self.ends[leg]);
        end.count += 1;
        let (tid, from) = (format!("send{}", end.count), THEIR[leg]);
        let wish = ["", "Failure-Report: no\r\n", "Failure-Report: partial\r\n"][much % 3];
        let head = format!(
            "MSRP {tid} SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: mess{}\r\nByte-Range: 1-*/*\r\n{wish}Content-Type: text/plain\r\n\r\n",
            end.count
        );
        end.open = Some(tid);
        head.into_bytes()
    }

    /// The sender knows the id under which its chunk goes out, and writes its end-line and a frame behind it.
    fn forge(&mut self, leg: usize, much: usize) {
        if self.ends[leg].open.is_none() {
            return;
        }
        let (to, from) = (THEIR[1 - leg], self.pair.our_path(SIDES[1 - leg]));
        let Some(ours) = last_tid(&self.ends[1 - leg].wire.0.lock().0) else { return };
        let flag = ['$', '+', '#'][much % 3];
        let head = if much & 8 == 0 { "\r\n" } else { "" };
        let forged = format!(
            "{head}-------{ours}{flag}\r\nMSRP 0123456789abcdef SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: evil\r\n-------0123456789abcdef$\r\n"
        );
        self.feed(leg, forged.as_bytes());
    }

    /// What was last heard is answered, or a report comes of it.
    fn answer(&mut self, leg: usize, much: usize) {
        let (to, from) = (self.pair.our_path(SIDES[leg]).to_owned(), THEIR[leg]);
        let frame = if much >= 12 {
            format!(
                "MSRP rep12345 REPORT\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: mess1\r\nByte-Range: 1-5/5\r\nStatus: 000 200 OK\r\n-------rep12345$\r\n"
            )
        } else {
            let Some(ours) = last_tid(&self.ends[leg].wire.0.lock().0) else { return };
            let status = [200, 413, 481, 415][much % 4];
            format!("MSRP {ours} {status} Said\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n-------{ours}$\r\n")
        };
        self.feed(leg, frame.as_bytes());
    }

    /// The SEND that binds a leg.
    fn bind(&mut self, leg: usize) {
        let (to, from) = (self.pair.our_path(SIDES[leg]), THEIR[leg]);
        let frame = format!(
            "MSRP bind1234 SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: bind1\r\nByte-Range: 1-0/0\r\n-------bind1234$\r\n"
        );
        if self.ends[leg].fed.is_empty() {
            self.feed(leg, frame.as_bytes());
        }
    }

    /// Bytes come in at a leg, in reads as large as the script said.
    fn feed(&mut self, leg: usize, bytes: &[u8]) {
        self.fed += bytes.len();
        if self.fed > FED_MAX {
            return;
        }
        for piece in bytes.chunks(self.cut) {
            let end = &mut self.ends[leg];
            let Some(ingress) = &mut end.ingress else { return };
            end.fed.extend_from_slice(piece);
            let (held, room) = (end.held.len(), self.read.room());
            room[..held].copy_from_slice(&end.held);
            room[held..held + piece.len()].copy_from_slice(piece);
            self.read.fill(held + piece.len());
            let outcome = ingress.read(&self.switch, &mut self.turn, &mut self.read, Instant::now());
            self.turn.blocked.clear();
            end.is_bound |= ingress.is_used();
            match outcome {
                Ok(left) => {
                    let all = self.read.bytes();
                    end.held = all[all.len() - left..].to_vec();
                    let most = if ingress.is_within_chunk() { MSRP_HELD_BACK_BYTES_MAX } else { 1 << 14 };
                    assert!(left <= most, "{left} octets are held back");
                }
                Err(_) => self.close(leg),
            }
        }
    }

    /// The connection of a leg is gone: what it has begun is ended.
    fn close(&mut self, leg: usize) {
        if let Some(ingress) = self.ends[leg].ingress.take() {
            ingress.end(&self.switch, &mut self.turn, &mut self.read);
        }
    }

    fn finish(&mut self) {
        let is_gone = [0, 1].map(|leg| self.ends[leg].ingress.is_none());
        for leg in [0, 1] {
            self.close(leg);
        }
        for end in &self.ends {
            end.wire.0.lock().1 = usize::MAX;
            let is_empty = end.outbox.flush().expect("this socket has no faults");
            assert!(is_empty || end.outbox.is_closed());
        }
        let sent = [0, 1].map(|leg| sends(&self.ends[leg].fed, self.pair.our_path(SIDES[leg])));
        for (leg, is_peer_gone) in is_gone.into_iter().enumerate() {
            let (ours, heard) = (self.pair.our_path(SIDES[leg]), self.ends[leg].wire.0.lock().0.clone());
            let tids = tids_of(&self.ends[leg].fed);
            let heard = judged(&heard, ours, THEIR[leg], &tids);
            if self.ends[leg].is_bound {
                same(&sent[1 - leg], &heard, is_peer_gone);
            }
        }
        self.switch.close(&self.pair);
        assert!(self.switch.is_empty());
        actors::turn::fill(|turn| drop(turn.take_sessions()));
    }
}

/// One message as its chunks give it: octets, and how it ends; nothing: it has not ended.
type Sent = (Vec<u8>, Option<u8>);

/// What a leg's SENDs should bring to the other leg: all of them that are addressed to us as they should be.
fn sends(fed: &[u8], ours: &str) -> Vec<Sent> {
    let (mut all, mut is_ours) = (Vec::new(), false);
    scan(fed, |event| match event {
        Event::Head(head) => {
            let id =
                head.to_uri().is_ok_and(|uri| ours.as_bytes().ends_with(&[b"/", uri.session_id, b";tcp"].concat()));
            let is_send = head.kind() == Kind::Request(Method::Send) && head.has_body() && head.fault().is_none();
            is_ours = is_send && id && head.to_path().len() == head.to_first().len();
            if is_ours {
                add(&mut all, b"", None);
            }
        }
        Event::Body(body) if is_ours => add(&mut all, body, None),
        Event::End(flag) if is_ours => add(&mut all, b"", Some(flag)),
        Event::Body(_) | Event::End(_) => {}
    });
    all
}

/// Chunks that follow each other are one message: ours are cut otherwise than those that came.
fn add(all: &mut Vec<Sent>, body: &[u8], flag: Option<u8>) {
    match all.last_mut() {
        Some((last, None)) => last.extend_from_slice(body),
        _ => all.push((body.to_vec(), None)),
    }
    if let (Some((_, end)), Some(b'$' | b'#')) = (all.last_mut(), flag) {
        *end = flag;
    }
}

/// What a leg heard, which must be frames, addressed as we address them; the SENDs among them.
fn judged(heard: &[u8], ours: &str, theirs: &str, tids: &[Vec<u8>]) -> Vec<Sent> {
    let (mut all, mut is_send) = (Vec::new(), false);
    let end = scan(heard, |event| match event {
        Event::Head(head) => {
            assert_eq!(head.fault(), None, "{}", shown(head.bytes()));
            is_send = head.method() == Some(Method::Send);
            match head.kind() {
                Kind::Response(_) => assert!(tids.iter().any(|tid| tid == head.tid()), "{}", shown(head.bytes())),
                Kind::Request(Method::Send | Method::Report) => {
                    let paths = (head.to_path(), head.from_path());
                    assert_eq!(paths, (theirs.as_bytes(), ours.as_bytes()), "{}", shown(head.bytes()));
                    assert!(head.tid().len() == OUR_TID && head.tid() != b"0123456789abcdef", "an id of ours");
                    assert_ne!(head.message_id(), Some(b"evil".as_slice()), "a frame that we did not cut");
                }
                Kind::Request(_) => panic!("a method that we do not forward: {}", shown(head.bytes())),
            }
            if is_send {
                add(&mut all, b"", None);
            }
        }
        Event::Body(body) if is_send => add(&mut all, body, None),
        Event::End(flag) if is_send => add(&mut all, b"", Some(flag)),
        Event::Body(_) | Event::End(_) => {}
    });
    assert_eq!(end, Ending::Whole, "what comes out are whole frames: {}", shown(heard));
    all
}

/// Every message came out as it went in; the last may lack what was held back when its sender was gone, and is given up
/// then. Once the connection that hears was gone itself, there may be fewer.
fn same(sent: &[Sent], heard: &[Sent], is_gone: bool) {
    assert!(heard.len() == sent.len() || is_gone && heard.len() < sent.len(), "{} of {}", heard.len(), sent.len());
    for (number, (sent, heard)) in sent.iter().zip(heard).enumerate() {
        match sent.1 {
            Some(end) if heard.1 == Some(end) => assert!(sent.0 == heard.0, "message {number}"),
            Some(_) => assert!(is_gone && sent.0.starts_with(&heard.0), "message {number} ends otherwise"),
            None => assert!(sent.0.starts_with(&heard.0), "message {number}, which has no end"),
        }
    }
}

enum Event<'a> {
    Head(msrp::Head<'a>),
    Body(&'a [u8]),
    End(u8),
}

/// How a stream ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Whole,
    Within,
    Lost,
}

fn scan(stream: &[u8], mut tell: impl FnMut(Event<'_>)) -> Ending {
    let (mut scanner, mut at) = (Scanner::default(), 0);
    while at < stream.len() {
        let rest = &stream[at..];
        match scanner.scan(rest) {
            Ok(Step::Head(spans)) => {
                tell(Event::Head(spans.view(rest)));
                at += spans.used();
            }
            Ok(Step::Body { used }) => {
                tell(Event::Body(&rest[..used]));
                at += used;
            }
            Ok(Step::End { used, flag }) => {
                tell(Event::End(flag.octet()));
                at += used;
            }
            Ok(Step::More | Step::Clash) => return Ending::Within,
            Err(_) => return Ending::Lost,
        }
    }
    if scanner.is_within_chunk() { Ending::Within } else { Ending::Whole }
}

/// The ids of all that a leg has sent, whole or not.
fn tids_of(fed: &[u8]) -> Vec<Vec<u8>> {
    let mut tids = Vec::new();
    scan(fed, |event| {
        if let Event::Head(head) = event {
            tids.push(head.tid().to_vec());
        }
    });
    tids
}

/// The id of the last request that stands in what was heard.
fn last_tid(heard: &[u8]) -> Option<String> {
    let mut last = None;
    scan(heard, |event| {
        if let Event::Head(head) = event
            && head.method().is_some()
        {
            last = Some(String::from_utf8_lossy(head.tid()).into_owned());
        }
    });
    last
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("msrp_switch"), super::run);
    }

    #[test]
    fn every_script_of_three_steps_breaks_no_promise() {
        // A chunk that stays open, and three steps behind it, small and large, whoever takes them.
        let steps: Vec<u8> = (2..16).map(|order| 0x30 | order).chain([0x8A]).collect();
        for how in [3, 0xBF] {
            for script in 0..steps.len().pow(3) {
                let step = |at: u32| steps[script / steps.len().pow(at) % steps.len()];
                let mut input = vec![how, 0x34];
                input.extend(b"fifteen octets!");
                for at in 0..3 {
                    input.push(step(at));
                    input.extend(b"\r\n-------send1$\r\nMSRP ".iter().cycle().take(15));
                }
                super::run(&input);
            }
        }
    }
}
