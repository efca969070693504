//! What does it cost to read a page message, and to write what is relayed?
//!
//! head: where lines and names stand. typed: the values that a relay asks for, read. check: all that RFC 3261 §16.3
//! wants of a request. forward, answer, repeat: the octets that leave.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::net::SocketAddr;

use benches::fixtures;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sip::digest::{Credentials, Ha1};
use sip::{Delta, Forward, Layout, Name, Reply, View};

criterion_group!(codec, read, write, digest);
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
