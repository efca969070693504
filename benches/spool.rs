//! What does a durable letter cost, when 1, 64 or 512 senders wait at once?
//!
//! `Store::keep_letter` through the one writer with RocksDB in a folder of its own: letter and `seen` id in one commit,
//! synced before it is answered. The time of one letter is that of the whole batch, shared by its letters; the disk decides.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::time::{Duration, Instant};

use base::Aor;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::{Config, Letter, MessageId, Store};

criterion_group!(spool, commit);
criterion_main!(spool);

/// Mailboxes that the letters go to in turn.
const OWNERS: u64 = 1_000;

fn commit(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap_or_else(|fault| panic!("no folder: {fault}"));
    let store = Store::open(&Config::in_dir(folder.path())).unwrap_or_else(|fault| panic!("no store: {fault}"));
    let owners: Vec<Aor> = (0..OWNERS).map(owner).collect();
    let mut number = 0;
    let mut group = c.benchmark_group("commit letters");
    for at_once in [1_u64, 64, 512] {
        group.throughput(Throughput::Elements(at_once));
        group.bench_function(format!("{at_once} at once"), |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    let letters: Vec<Letter> = (number..number + at_once).map(letter).collect();
                    let began = Instant::now();
                    let asked: Vec<_> = letters
                        .iter()
                        .zip(number..)
                        .map(|(letter, number)| store.keep_letter(&owners[(number % OWNERS) as usize], letter))
                        .collect();
                    for ask in asked {
                        assert!(ask.wait().is_ok());
                    }
                    spent += began.elapsed();
                    number += at_once;
                }
                spent
            });
        });
    }
    group.finish();
    assert!(store.close().wait().is_ok());
}

fn owner(number: u64) -> Aor {
    Aor::new(&format!("user{number}"), "example.com").unwrap_or_else(|fault| panic!("{number}: {fault}"))
}

/// 270 octets of text, as a client sent them.
fn letter(number: u64) -> Letter {
    Letter {
        id: MessageId::of(format!("asd88asd77a{number:08x}@192.0.2.7;1;49583").as_bytes()),
        arrival: 0,
        sender: "sip:alice@example.com".into(),
        request_uri: format!("sip:user{}@example.com", number % OWNERS),
        from: "<sip:alice@example.com>;tag=49583".into(),
        to: format!("<sip:user{}@example.com>", number % OWNERS),
        call_id: format!("asd88asd77a{number:08x}@192.0.2.7"),
        cseq: 1,
        date: "Sat, 13 Nov 2010 23:29:00 GMT".into(),
        expires_unix_s: u64::from(u32::MAX),
        content_type: "text/plain".into(),
        extra_lines: String::new(),
        body: bytes::Bytes::from(vec![b'x'; 270]),
        wants: 0,
        imdn_id: String::new(),
    }
}
