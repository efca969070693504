//! What does it cost to read a page message, a SEND or an offer, and to write what is relayed?
//!
//! head: where lines and names stand. typed: the values that a relay asks for, read. check: all that RFC 3261 §16.3
//! wants of a request. forward, answer, repeat: the octets that leave. cut: where a SEND's head, body and end-line stand.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::net::SocketAddr;

use base::KeyedHash;
use benches::fixtures;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sip::digest::{Credentials, Ha1};
use sip::{Delta, Forward, Layout, Name, Reply, View};

criterion_group!(codec, read, write, digest, send, offer);
criterion_main!(codec);

fn read(c: &mut Criterion) {
    let (bytes, mut layout) = (fixtures::message(), Layout::default());
    let mut group = c.benchmark_group("read a MESSAGE of 600 bytes");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("head", |b| b.iter(|| parse(black_box(&bytes), &mut layout)));
    group.bench_function("head and typed", |b| {
        b.iter(|| {
            parse(black_box(&bytes), &mut layout);
            typed(layout.view(&bytes))
        });
    });
    group.bench_function("head and check", |b| {
        b.iter(|| {
            parse(black_box(&bytes), &mut layout);
            layout.view(&bytes).check_request().is_ok()
        });
    });
    group.finish();
}

fn write(c: &mut Criterion) {
    let (request, answer) = (fixtures::message(), fixtures::answer());
    let (mut layout, mut answer_layout, mut out) = (Layout::default(), Layout::default(), Vec::with_capacity(2_048));
    parse(&request, &mut layout);
    parse(&answer, &mut answer_layout);
    let (request, answer) = (layout.view(&request), answer_layout.view(&answer));
    let source: Option<SocketAddr> = "192.0.2.7:5062".parse().ok();
    let strip = [Name::ProxyAuthorization];
    let how = Forward {
        uri: fixtures::CONTACT,
        via: fixtures::OUR_VIA,
        max_forwards: 69,
        strip: &strip,
        received: source,
        add: b"",
        record: b"",
    };
    let mut group = c.benchmark_group("write");
    group.bench_function("forward the request", |b| {
        b.iter(|| fresh(&mut out, |out| sip::forward_request(out, request, &how)))
    });
    group
        .bench_function("forward its answer", |b| b.iter(|| fresh(&mut out, |out| sip::forward_response(out, answer))));
    group.bench_function("keep the answer for repeats", |b| b.iter(|| Delta::of(black_box(answer))));
    let kept = Delta::of(answer);
    group.bench_function("answer a repeat", |b| b.iter(|| fresh(&mut out, |out| kept.write(out, request, source))));
    let reply = Reply { status: 202, to_tag: "0123456789abcdef", source, ..Reply::default() };
    group.bench_function("answer by ourselves", |b| b.iter(|| fresh(&mut out, |out| sip::reply(out, request, &reply))));
    group.finish();
}

fn digest(c: &mut Criterion) {
    let (bytes, mut layout) = (fixtures::message_with_credentials(), Layout::default());
    parse(&bytes, &mut layout);
    let value = layout.view(&bytes).first(Name::ProxyAuthorization).unwrap_or_default();
    let ha1 = Ha1::of("alice", "example.com", "secret");
    let mut group = c.benchmark_group("digest");
    group.bench_function("read credentials", |b| b.iter(|| Credentials::parse(black_box(value)).is_ok()));
    if let Ok(credentials) = Credentials::parse(value) {
        group.bench_function("verify SHA-256", |b| b.iter(|| credentials.verify(black_box(&ha1), b"MESSAGE")));
    }
    group.finish();
}

fn send(c: &mut Criterion) {
    let (bytes, mut out, tids) =
        (fixtures::send(), Vec::with_capacity(2_048), msrp::TidMaker::new(KeyedHash::new([5; 16])));
    let mut group = c.benchmark_group("a SEND of 300 octets of text");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("cut", |b| b.iter(|| cut(black_box(&bytes), |_| {})));
    let (to, from) = (&b"msrp://192.0.2.8:8000/d4e5f6;tcp"[..], &b"msrp://192.0.2.1:2855/s1;tcp"[..]);
    group.bench_function("cut and new head", |b| {
        b.iter(|| {
            out.clear();
            cut(black_box(&bytes), |head| {
                msrp::forward_head(&mut out, head, &tids.next(), to, from, msrp::Range::Kept);
            });
            out.len()
        });
    });
    group.finish();
}

fn cut(bytes: &[u8], with: impl FnOnce(msrp::Head<'_>)) -> usize {
    let (mut scanner, mut at, mut with) = (msrp::Scanner::default(), 0, Some(with));
    while at < bytes.len() {
        match scanner.scan(&bytes[at..]) {
            Ok(msrp::Step::Head(spans)) => {
                if let Some(with) = with.take() {
                    with(spans.view(&bytes[at..]));
                }
                at += spans.used();
            }
            Ok(msrp::Step::Body { used } | msrp::Step::End { used, .. }) => at += used,
            Ok(msrp::Step::More | msrp::Step::Clash) | Err(_) => panic!("a whole SEND"),
        }
    }
    at
}

fn offer(c: &mut Criterion) {
    let bytes = fixtures::offer();
    let ours = sdp::Ours {
        origin: sdp::Origin { id: 7, version: 3 },
        host: "192.0.2.1",
        port: 2_855,
        path: "msrp://192.0.2.1:2855/s1;tcp",
        is_tls: false,
        setup: sdp::Setup::ActPass,
    };
    let mut group = c.benchmark_group("an offer with one MSRP line");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("read", |b| b.iter(|| sdp::Offer::read(black_box(&bytes)).is_ok()));
    if let Ok(offer) = sdp::Offer::read(&bytes) {
        group.bench_function("write for the peer", |b| b.iter(|| offer.for_peer(black_box(&ours)).len()));
    }
    group.finish();
}

fn parse(bytes: &[u8], layout: &mut Layout) {
    assert!(sip::parse_datagram(bytes, layout).is_ok());
}

/// What the relay asks of a request.
fn typed(view: View<'_>) -> bool {
    let branch = view.top_via().is_ok_and(|via| via.branch().is_some());
    let from = view.from().is_ok_and(|from| from.tag().is_some() && from.parsed_uri().is_ok());
    let to = view.to().is_ok_and(|to| to.parsed_uri().is_ok());
    branch && from && to && view.call_id().is_ok() && view.cseq().is_ok() && view.max_forwards().is_ok()
}

fn fresh(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    out.clear();
    write(out);
    out.len()
}
