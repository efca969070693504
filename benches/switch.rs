//! What does the switch cost but for sockets: a SEND of 300 octets, its 200, and an octet of a long message?
//!
//! `Ingress::read` over reads as the kernel gives them, into a writer that takes everything and keeps nothing. CPU time.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::hop::ConnId;
use actors::message::{SessionKey, Side};
use actors::outbox::{Outbox, Writer};
use actors::switch::ingress::Ingress;
use actors::switch::turn::{Read, Turn};
use actors::switch::{Pair, Place, Switch};
use base::IdMaker;
use base::limits::{MSRP_HEAD_BYTES_MAX, MSRP_READ_BYTES};
use benches::cpu;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parking_lot::Mutex;

criterion_group!(switch, short, long);
criterion_main!(switch);

const ALICE: &str = "msrp://192.0.2.7:7000/a1b2c3;tcp";
const BOB: &str = "msrp://192.0.2.8:8000/d4e5f6;tcp";
/// SENDs of one read.
const IN_FLIGHT: u32 = 16;

fn short(c: &mut Criterion) {
    let mut group = c.benchmark_group("300 octets, 16 in a read");
    group.throughput(Throughput::Elements(1));
    group.bench_function("SEND", |b| b.iter_custom(|count| World::new().short(count).0));
    group.bench_function("its 200", |b| b.iter_custom(|count| World::new().short(count).1));
    group.finish();
}

fn long(c: &mut Criterion) {
    let mut group = c.benchmark_group("a long message, reads of 64 KiB");
    for (name, chunk) in [("chunks of 2 KiB", 2_048), ("chunks of 64 KiB", 65_536), ("one chunk", 1 << 20)] {
        let mut world = World::new();
        let stream = world.stream(1 << 20, chunk);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                (0..count)
                    .map(|_| {
                        let spent: Duration =
                            stream.chunks(MSRP_READ_BYTES).map(|part| world.feed(Side::Caller, part)).sum();
                        world.settle();
                        spent
                    })
                    .sum::<Duration>()
            });
        });
    }
    group.finish();
}

/// What has left, where it is kept.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Option<Vec<u8>>>>);

impl Writer for Wire {
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(kept) = &mut *self.0.lock() {
            slices.iter().for_each(|slice| kept.extend_from_slice(slice));
        }
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }
}

struct End {
    wire: Wire,
    outbox: Arc<Outbox>,
    ingress: Ingress,
    held: Vec<u8>,
}

struct World {
    switch: Switch,
    pair: Arc<Pair>,
    read: Read,
    turn: Turn,
    ends: [End; 2],
}

impl World {
    fn new() -> Self {
        let place = Place { host: "192.0.2.1".into(), port: 2_855 };
        let switch = Switch::new(&IdMaker::new([5; 16]), Some(place));
        let Some(pair) = switch.open(SessionKey { shard: 0, number: 1, secret: 2 }) else { panic!("a place is given") };
        for (side, path) in [(Side::Caller, ALICE), (Side::Callee, BOB)] {
            assert!(pair.set_their_path(side, path).is_ok());
        }
        let end = |id| {
            let wire = Wire::default();
            let outbox = Outbox::new(ConnId(id), Some(Box::new(wire.clone())));
            End { ingress: Ingress::new(outbox.clone(), Instant::now()), outbox, wire, held: Vec::new() }
        };
        let (read, turn) = (Read::new(MSRP_READ_BYTES + MSRP_HEAD_BYTES_MAX), Turn::default());
        let mut world = Self { switch, pair, read, turn, ends: [end(1), end(2)] };
        for (side, path) in [(Side::Caller, ALICE), (Side::Callee, BOB)] {
            let to = world.pair.our_path(side);
            let frame = format!(
                "MSRP bind1234 SEND\r\nTo-Path: {to}\r\nFrom-Path: {path}\r\nMessage-ID: bind1\r\nByte-Range: 1-0/0\r\n-------bind1234$\r\n"
            );
            world.feed(side, frame.as_bytes());
        }
        world
    }

    /// One read; the time that it took, but for the copy that the kernel makes.
    fn feed(&mut self, side: Side, bytes: &[u8]) -> Duration {
        let end = &mut self.ends[side as usize];
        let (held, room) = (end.held.len(), self.read.room());
        room[..held].copy_from_slice(&end.held);
        room[held..held + bytes.len()].copy_from_slice(bytes);
        self.read.fill(held + bytes.len());
        let now = Instant::now();
        let began = cpu::spent();
        let left = end.ingress.read(&self.switch, &mut self.turn, &mut self.read, now);
        let spent = cpu::spent() - began;
        let Ok(left) = left else { panic!("this is MSRP") };
        let all = self.read.bytes();
        end.held.clear();
        end.held.extend_from_slice(&all[all.len() - left..]);
        assert!(self.turn.blocked.is_empty(), "the writer takes everything");
        spent
    }

    /// All responses that are due have come.
    fn settle(&self) {
        for end in &self.ends {
            end.outbox.hold().msrp().due.drain().for_each(drop);
        }
    }

    fn send(&self, tid: u32, range: (usize, usize, usize), body: &[u8], flag: char) -> Vec<u8> {
        let (to, (start, end, total)) = (self.pair.our_path(Side::Caller), range);
        let head = format!(
            "MSRP a786hjs2{tid:04x} SEND\r\nTo-Path: {to}\r\nFrom-Path: {ALICE}\r\nMessage-ID: 87652491\r\n\
             Byte-Range: {start}-{end}/{total}\r\nContent-Type: text/plain\r\n\r\n"
        );
        [head.as_bytes(), body, format!("\r\n-------a786hjs2{tid:04x}{flag}\r\n").as_bytes()].concat()
    }

    /// So many SENDs, 16 in a read, and the 200s of the receiver in a read for every 16: the time of each kind.
    fn short(&mut self, count: u64) -> (Duration, Duration) {
        let body = [b'x'; 300];
        let frames: Vec<u8> = (0..IN_FLIGHT).flat_map(|tid| self.send(tid, (1, 300, 300), &body, '$')).collect();
        *self.ends[1].wire.0.lock() = Some(Vec::new());
        let (mut sends, mut answers, mut done) = (Duration::ZERO, Duration::ZERO, 0);
        while done < count {
            sends += self.feed(Side::Caller, &frames);
            let heard = self.ends[1].wire.0.lock().replace(Vec::new()).unwrap_or_default();
            let responses = responses(&heard, self.pair.our_path(Side::Callee));
            answers += self.feed(Side::Callee, &responses);
            assert_eq!(self.ends[1].outbox.hold().msrp().due.len(), 0, "all are answered");
            done += u64::from(IN_FLIGHT);
        }
        // The last read may hold more than were asked for.
        let share = count as f64 / done as f64;
        (sends.mul_f64(share), answers.mul_f64(share))
    }

    /// One message in chunks, as it stands on the wire.
    fn stream(&self, total: usize, chunk: usize) -> Vec<u8> {
        let body = vec![b'x'; chunk];
        let piece = |at: usize| {
            let flag = if at + chunk == total { '$' } else { '+' };
            self.send((at / chunk) as u32, (at + 1, at + chunk, total), &body, flag)
        };
        (0..total).step_by(chunk).flat_map(piece).collect()
    }
}

/// A 200 for every frame.
fn responses(heard: &[u8], to: &str) -> Vec<u8> {
    let (mut scanner, mut at, mut out) = (msrp::Scanner::default(), 0, Vec::new());
    while at < heard.len() {
        match scanner.scan(&heard[at..]) {
            Ok(msrp::Step::Head(spans)) => {
                let head = spans.view(&heard[at..]);
                msrp::response(&mut out, head.tid(), 200, to.as_bytes(), BOB.as_bytes());
                at += spans.used();
            }
            Ok(msrp::Step::Body { used } | msrp::Step::End { used, .. }) => at += used,
            Ok(msrp::Step::More | msrp::Step::Clash) | Err(_) => panic!("the switch wrote half a frame"),
        }
    }
    out
}
