//! A store of each engine, on a clock that the test sets, and records to put into it.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::sync::Arc;

use base::{Aor, Partitions};
use storage::engine::{faulty::Faulty, memory::Memory, rocks::Rocks};
use storage::{Account, Config, Engine, Letter, MessageId, SetClock, Store};
use tempfile::TempDir;

/// A Tuesday.
pub const START_MS: u64 = 1_700_000_000_000;

/// A store, its clock, and where it lies.
pub struct Place {
    pub clock: SetClock,
    pub store: Store,
    pub dir: Option<TempDir>,
}

impl Place {
    pub fn memory() -> Self {
        let clock = SetClock::at(START_MS);
        let engine = Memory::new(Partitions::default(), Arc::new(clock.clone()));
        Self::over(Arc::new(engine), clock, None)
    }

    pub fn faulty() -> Self {
        let clock = SetClock::at(START_MS);
        let engine = Faulty::new(7, Partitions::default(), Arc::new(clock.clone())).at_once();
        Self::over(Arc::new(engine), clock, None)
    }

    pub fn rocks() -> Self {
        let (clock, dir) = (SetClock::at(START_MS), tempfile::tempdir().unwrap());
        let engine = Rocks::open(&Config::in_dir(dir.path()), Arc::new(clock.clone())).unwrap();
        Self::over(Arc::new(engine), clock, Some(dir))
    }

    fn over(engine: Arc<dyn Engine>, clock: SetClock, dir: Option<TempDir>) -> Self {
        Self { store: Store::over(engine, Arc::new(clock.clone())), clock, dir }
    }

    /// The clock this much after the start, milliseconds.
    pub fn at(&self, after_ms: i64) {
        self.clock.set(START_MS.saturating_add_signed(after_ms));
    }
}

pub fn aor(user: &str) -> Aor {
    Aor::new(user, "example.com").unwrap()
}

pub fn account(user: &str) -> Account {
    Account {
        aor: aor(user),
        ha1_sha256: [1; 32],
        ha1_md5: [2; 16],
        realm: "example.com".into(),
        aliases: Vec::new(),
        login: None,
        services: "all".into(),
        history_limit: None,
    }
}

/// A letter that is given up an hour after the start.
pub fn letter(id: &str) -> Letter {
    Letter {
        id: MessageId::of(id.as_bytes()),
        arrival: 0,
        sender: "sip:bob@example.com".into(),
        request_uri: "sip:alice@example.com".into(),
        from: "\"Bob\" <sip:bob@example.com>;tag=9".into(),
        to: "<sip:alice@example.com>".into(),
        call_id: format!("{id}@host"),
        cseq: 4_000_000_000,
        date: "Tue, 14 Nov 2023 22:13:20 GMT".into(),
        expires_unix_s: START_MS / 1_000 + 3_600,
        content_type: "text/plain;charset=UTF-8".into(),
        extra_lines: "Subject: hi\r\n".into(),
        body: format!("Grüße, {id}").into_bytes().into(),
        wants: 5,
        imdn_id: "34jk324j".into(),
    }
}

/// Ids of letters, in their order.
pub fn ids(letters: &[Letter]) -> Vec<String> {
    letters.iter().map(|letter| String::from_utf8(letter.id.bytes().to_vec()).unwrap()).collect()
}
